/* Whose a data folder is. Each role keeps other things in it, some under the same names: a server that took the folder of
 * another role for its own would find nothing it knows, and in time erase what it does not know.
 *
 * The file `role` in the folder: the role's name and a line end. Folders that are older than this file are told by what is
 * in them.
 *
 * Threads: any; one at a time for a folder, which must be locked. */
#ifndef KITH_ROLE_ROLE_FOLDER_H
#define KITH_ROLE_ROLE_FOLDER_H

#include "host/config/config.h"
#include "host/env/env.h"

/* Takes a new folder for `role`. PRECONDITION: it is another role's, and nothing in it has been changed. */
KITH_CHECK kith_status kith_role_folder_claim(
    kith_env *env, const char *dir, kith_config_role role, kith_err *err);

#endif
