/* Who this node is: a UUID in its data directory. An empty directory is a new node.
 *
 * Threads: at start. */
#ifndef KITH_ROLE_ROLE_NODE_ID_H
#define KITH_ROLE_ROLE_NODE_ID_H

#include "host/env/env.h"
#include "host/model/node.h"

/* Reads <dir>/node_id, or draws one and writes it. The name is the UUID's text. CORRUPT when the file is no UUID. */
KITH_CHECK kith_status kith_role_node_id_load(
    kith_env *env, const char *dir, kith_node *node_out, kith_err *err);

#endif
