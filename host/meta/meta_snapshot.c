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

kith_status kith_meta_snapshot_write(
    kith_env *env, const char *dir, const void *bytes, size_t byte_count, kith_err *err) {
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    memcpy(header, snapshot_magic, sizeof snapshot_magic);
    kith_store_u32(header + 8, SNAPSHOT_VERSION);
    kith_store_u64(header + 16, byte_count);
    kith_store_u32(header + 12, kith_crc32c(kith_crc32c(0, header + 16, 8), bytes, byte_count));
    kith_file_part parts[] = {{header, sizeof header}, {bytes, byte_count}};
    return kith_file_replace(env, dir, "snapshot.kith", parts, 2, err);
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
    int path_bytes = snprintf(path, sizeof path, "%s/snapshot.kith", dir);
    if (path_bytes < 0 || (size_t)path_bytes >= sizeof path) {
        return kith_err_set(
            err, KITH_INVALID, "path of the metadata folder is longer than %u bytes", PATH_BYTES_MAX - 1);
    }
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    status = file_drain(file, bytes_out, err);
    kith_file_close(file);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "metadata snapshot %s", path);
}
