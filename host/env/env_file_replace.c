#include <stdio.h>

#include "host/env/env.h"

#define PATH_BYTES_MAX 4096u

static kith_status path_make(
    char path_out[PATH_BYTES_MAX], const char *dir, const char *name, const char *suffix, kith_err *err) {
    int bytes = snprintf(path_out, PATH_BYTES_MAX, "%s/%s%s", dir, name, suffix);
    if (bytes > 0 && (size_t)bytes < PATH_BYTES_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "the path of %s in its folder is longer than %u bytes", name, PATH_BYTES_MAX - 1);
}

static kith_status file_fill(
    kith_file *file, const kith_file_part *parts, uint32_t part_count, kith_err *err) {
    uint64_t offset = 0;
    kith_status status = kith_file_truncate(file, 0, err); /* what a crash left may be longer */
    for (uint32_t i = 0; i < part_count && status == KITH_OK; i++) {
        status = kith_file_write_at(file, offset, parts[i].data, parts[i].bytes, err);
        offset += parts[i].bytes;
    }
    return status == KITH_OK ? kith_file_sync(file, err) : status;
}

kith_status kith_file_replace(kith_env *env, const char *dir, const char *name, const kith_file_part *parts,
    uint32_t part_count, kith_err *err) {
    char path[PATH_BYTES_MAX], path_new[PATH_BYTES_MAX];
    kith_file *file;
    kith_status status = path_make(path, dir, name, "", err);
    if (status == KITH_OK) status = path_make(path_new, dir, name, ".new", err);
    if (status == KITH_OK) status = kith_file_open(env, path_new, KITH_FILE_WRITE, &file, err);
    if (status != KITH_OK) return status;
    status = file_fill(file, parts, part_count, err);
    kith_file_close(file);
    if (status == KITH_OK) status = kith_path_rename(env, path_new, path, err);
    if (status == KITH_OK) status = kith_dir_sync(env, dir, err);
    return status;
}
