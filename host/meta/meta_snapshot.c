/* The metadata's snapshot file (format in meta_log.h). */
#include <stdio.h>
#include <string.h>

#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/meta/meta_log.h"

#define SNAPSHOT_VERSION      1u
#define SNAPSHOT_HEADER_BYTES 24u
/* 4096 collections of 16 fields with the longest names are below 20 MiB. */
#define SNAPSHOT_BYTES_MAX (64u << 20)
#define PATH_BYTES_MAX     4096u

static const char snapshot_magic[8] = {'K', 'I', 'T', 'H', 'M', 'E', 'T', 'A'};

static kith_status path_make(
    char path_out[PATH_BYTES_MAX], const char *dir, const char *name, kith_err *err) {
    int bytes = snprintf(path_out, PATH_BYTES_MAX, "%s/%s", dir, name);
    if (bytes > 0 && (size_t)bytes < PATH_BYTES_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "path of the metadata folder is longer than %u bytes", PATH_BYTES_MAX);
}

static kith_status file_fill(kith_file *file, const void *bytes, size_t byte_count, kith_err *err) {
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    memcpy(header, snapshot_magic, sizeof snapshot_magic);
    kith_store_u32(header + 8, SNAPSHOT_VERSION);
    kith_store_u64(header + 16, byte_count);
    kith_store_u32(header + 12, kith_crc32c(kith_crc32c(0, header + 16, 8), bytes, byte_count));
    kith_status status = kith_file_truncate(file, 0, err); /* a leftover of a crash may be longer */
    if (status == KITH_OK) status = kith_file_write_at(file, 0, header, sizeof header, err);
    if (status == KITH_OK) status = kith_file_write_at(file, sizeof header, bytes, byte_count, err);
    if (status == KITH_OK) status = kith_file_sync(file, err);
    return status;
}

kith_status kith_meta_snapshot_write(
    kith_env *env, const char *dir, const void *bytes, size_t byte_count, kith_err *err) {
    char path[PATH_BYTES_MAX], path_new[PATH_BYTES_MAX];
    kith_status status = path_make(path, dir, "snapshot.kith", err);
    if (status == KITH_OK) status = path_make(path_new, dir, "snapshot.kith.new", err);
    kith_file *file = NULL;
    if (status == KITH_OK) status = kith_file_open(env, path_new, KITH_FILE_WRITE, &file, err);
    if (status != KITH_OK) return status;
    status = file_fill(file, bytes, byte_count, err);
    kith_file_close(file);
    if (status == KITH_OK) status = kith_path_rename(env, path_new, path, err);
    if (status == KITH_OK) status = kith_dir_sync(env, dir, err);
    return status;
}

static kith_status header_check(
    const uint8_t *header, uint64_t file_bytes, uint64_t *length_out, kith_err *err) {
    if (memcmp(header, snapshot_magic, sizeof snapshot_magic) != 0) {
        return kith_err_set(err, KITH_CORRUPT, "it does not begin with KITHMETA");
    }
    uint32_t version = kith_load_u32(header + 8);
    if (version != SNAPSHOT_VERSION) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "its format is version %u, this program reads version %u", version, SNAPSHOT_VERSION);
    }
    *length_out = kith_load_u64(header + 16);
    if (*length_out == file_bytes - SNAPSHOT_HEADER_BYTES) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "it should hold %llu bytes after its header and holds %llu",
        (unsigned long long)*length_out, (unsigned long long)(file_bytes - SNAPSHOT_HEADER_BYTES));
}

static kith_status file_drain(kith_file *file, kith_buf *bytes_out, kith_err *err) {
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    uint64_t file_bytes, length = 0;
    size_t read = 0;
    kith_status status = kith_file_bytes(file, &file_bytes, err);
    if (status != KITH_OK) return status;
    if (file_bytes < sizeof header || file_bytes > SNAPSHOT_BYTES_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "it has %llu bytes, not %u..%u",
            (unsigned long long)file_bytes, SNAPSHOT_HEADER_BYTES, SNAPSHOT_BYTES_MAX);
    }
    status = kith_file_read_at(file, 0, header, sizeof header, &read, err);
    if (status == KITH_OK) status = header_check(header, file_bytes, &length, err);
    if (status != KITH_OK) return status;
    kith_buf_clear(bytes_out);
    uint8_t *at = kith_buf_grow(bytes_out, (size_t)length);
    status = kith_file_read_at(file, sizeof header, at, (size_t)length, &read, err);
    if (status != KITH_OK) return status;
    bool good =
        read == length && kith_load_u32(header + 12) == kith_crc32c(kith_crc32c(0, header + 16, 8), at, read);
    return good ? KITH_OK : kith_err_set(err, KITH_CORRUPT, "its checksum is wrong");
}

kith_status kith_meta_snapshot_read(kith_env *env, const char *dir, kith_buf *bytes_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    kith_file *file = NULL;
    kith_status status = path_make(path, dir, "snapshot.kith", err);
    if (status == KITH_OK) status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    status = file_drain(file, bytes_out, err);
    kith_file_close(file);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "metadata snapshot %s", path);
}
