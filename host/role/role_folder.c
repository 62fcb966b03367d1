#include "host/role/role_folder.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES_MAX 4096u
#define NAME_BYTES_MAX 16u

/* By kith_config_role. */
static const char *const role_names[] = {"standalone", "coordinator", "data", "query"};
#define ROLE_COUNT (sizeof role_names / sizeof *role_names)

static kith_status path_make(char path[PATH_BYTES_MAX], const char *dir, const char *name, kith_err *err) {
    int bytes = snprintf(path, PATH_BYTES_MAX, "%s/%s", dir, name);
    if (bytes > 0 && (size_t)bytes < PATH_BYTES_MAX) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "data_dir is too long");
}

/* --- reading --- */

static kith_status mark_read(kith_file *file, const char *path, kith_config_role *role_out, kith_err *err) {
    char text[NAME_BYTES_MAX + 1];
    size_t read = 0;
    kith_status status = kith_file_read_at(file, 0, text, NAME_BYTES_MAX, &read, err);
    if (status != KITH_OK) return status;
    text[read] = 0;
    for (uint32_t i = 0; i < ROLE_COUNT; i++) {
        size_t bytes = strlen(role_names[i]);
        if (read != bytes + 1 || text[bytes] != '\n' || memcmp(text, role_names[i], bytes) != 0) continue;
        *role_out = (kith_config_role)i;
        return KITH_OK;
    }
    return kith_err_set(err, KITH_CORRUPT, "%s does not name a role", path);
}

static kith_status is_there(
    kith_env *env, const char *dir, const char *name, bool *there_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    kith_file *file = NULL;
    kith_status status = path_make(path, dir, name, err);
    if (status == KITH_OK) status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK && status != KITH_NOT_FOUND) return status;
    *there_out = status == KITH_OK;
    kith_file_close(file);
    return KITH_OK;
}

/* By what was there before folders were marked. NOT_FOUND: nothing was. */
static kith_status contents_judge(kith_env *env, const char *dir, kith_config_role *role_out, kith_err *err) {
    bool coordinator = false, standalone = false;
    kith_status status = is_there(env, dir, "coordinator", &coordinator, err);
    if (status == KITH_OK) status = is_there(env, dir, "meta/snapshot.kith", &standalone, err);
    if (status != KITH_OK) return status;
    *role_out = coordinator ? KITH_CONFIG_ROLE_COORDINATOR : KITH_CONFIG_ROLE_STANDALONE;
    return coordinator || standalone ? KITH_OK : KITH_NOT_FOUND;
}

static kith_status role_find(kith_env *env, const char *dir, kith_config_role *role_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    kith_file *file;
    kith_status status = path_make(path, dir, "role", err);
    if (status == KITH_OK) status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status == KITH_NOT_FOUND) return contents_judge(env, dir, role_out, err);
    if (status != KITH_OK) return status;
    status = mark_read(file, path, role_out, err);
    kith_file_close(file);
    return status;
}

/* --- writing --- */

static kith_status mark_write(kith_env *env, const char *dir, kith_config_role role, kith_err *err) {
    char line[NAME_BYTES_MAX + 1];
    int line_bytes = snprintf(line, sizeof line, "%s\n", role_names[role]);
    return kith_file_replace(env, dir, "role", &(kith_file_part){line, (size_t)line_bytes}, 1, err);
}

kith_status kith_role_folder_claim(kith_env *env, const char *dir, kith_config_role role, kith_err *err) {
    kith_config_role found;
    kith_status status = role_find(env, dir, &found, err);
    if (status == KITH_NOT_FOUND) return mark_write(env, dir, role, err);
    if (status != KITH_OK || found == role) return status;
    return kith_err_set(err, KITH_PRECONDITION,
        "it is the folder of a server with role %s: role %s needs another data_dir", role_names[found],
        role_names[role]);
}
