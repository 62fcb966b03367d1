#include "host/meta/raft_snapshot.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/meta/meta_log_raft.h"

#define SNAPSHOT_VERSION        1u
#define HEADER_BYTES            56u
#define CONFIGURATION_BYTES_MAX 65536u
#define PATH_BYTES_MAX          4096u

static const char snapshot_magic[8] = {'K', 'I', 'T', 'H', 'R', 'A', 'F', 'T'};

static void header_encode(const kith_raft_snapshot *snapshot, uint8_t header[HEADER_BYTES]) {
    memcpy(header, snapshot_magic, sizeof snapshot_magic);
    kith_store_u32(header + 8, SNAPSHOT_VERSION);
    kith_store_u64(header + 16, snapshot->index);
    kith_store_u64(header + 24, snapshot->term);
    kith_store_u64(header + 32, snapshot->configuration_index);
    kith_store_u64(header + 40, snapshot->configuration_bytes);
    kith_store_u64(header + 48, snapshot->data_bytes);
    uint32_t crc = kith_crc32c(0, header + 16, HEADER_BYTES - 16);
    crc = kith_crc32c(crc, snapshot->configuration, snapshot->configuration_bytes);
    kith_store_u32(header + 12, kith_crc32c(crc, snapshot->data, snapshot->data_bytes));
}

kith_status kith_raft_snapshot_write(
    kith_env *env, const char *dir, const kith_raft_snapshot *snapshot, kith_err *err) {
    uint8_t header[HEADER_BYTES];
    header_encode(snapshot, header);
    kith_file_part parts[] = {{header, sizeof header},
        {snapshot->configuration, snapshot->configuration_bytes}, {snapshot->data, snapshot->data_bytes}};
    return kith_file_replace(env, dir, "raft-snapshot.kith", parts, 3, err);
}

/* Points `snapshot` into its buf, which holds the whole file. */
static kith_status file_decode(kith_raft_snapshot *snapshot, kith_err *err) {
    const uint8_t *header = snapshot->buf.data;
    if (memcmp(header, snapshot_magic, sizeof snapshot_magic) != 0)
        return kith_err_set(err, KITH_CORRUPT, "it does not begin with KITHRAFT");
    uint32_t version = kith_load_u32(header + 8);
    if (version != SNAPSHOT_VERSION) {
        return kith_err_set(err, KITH_UNIMPLEMENTED,
            "its format is version %u, this program reads version %u", version, SNAPSHOT_VERSION);
    }
    if (kith_load_u32(header + 12) != kith_crc32c(0, header + 16, snapshot->buf.bytes - 16))
        return kith_err_set(err, KITH_CORRUPT, "its checksum is wrong");
    uint64_t left = snapshot->buf.bytes - HEADER_BYTES;
    uint64_t configuration_bytes = kith_load_u64(header + 40);
    uint64_t data_bytes = kith_load_u64(header + 48);
    if (configuration_bytes > left || data_bytes != left - configuration_bytes)
        return kith_err_set(err, KITH_CORRUPT, "its lengths do not add up");
    snapshot->index = kith_load_u64(header + 16);
    snapshot->term = kith_load_u64(header + 24);
    snapshot->configuration_index = kith_load_u64(header + 32);
    snapshot->configuration = header + HEADER_BYTES;
    snapshot->configuration_bytes = (size_t)configuration_bytes;
    snapshot->data = header + HEADER_BYTES + configuration_bytes;
    snapshot->data_bytes = (size_t)data_bytes;
    if (snapshot->index == 0 || snapshot->term == 0)
        return kith_err_set(err, KITH_CORRUPT, "its index or term is 0");
    return KITH_OK;
}

static kith_status file_drain(kith_file *file, kith_buf *buf, kith_err *err) {
    uint64_t bytes;
    kith_status status = kith_file_bytes(file, &bytes, err);
    if (status != KITH_OK) return status;
    uint64_t bytes_max = HEADER_BYTES + CONFIGURATION_BYTES_MAX + KITH_META_SNAPSHOT_BYTES_MAX;
    if (bytes < HEADER_BYTES || bytes > bytes_max) {
        return kith_err_set(err, KITH_CORRUPT, "it has %llu bytes, not %u..%llu", (unsigned long long)bytes,
            HEADER_BYTES, (unsigned long long)bytes_max);
    }
    size_t read = 0;
    status = kith_file_read_at(file, 0, kith_buf_grow(buf, (size_t)bytes), (size_t)bytes, &read, err);
    if (status == KITH_OK && read != bytes)
        return kith_err_set(err, KITH_CORRUPT, "it became shorter while it was read");
    return status;
}

kith_status kith_raft_snapshot_read(
    kith_env *env, const char *dir, kith_raft_snapshot *snapshot_out, kith_err *err) {
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/raft-snapshot.kith", dir);
    kith_file *file = NULL;
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    kith_raft_snapshot snapshot = {0};
    kith_buf_init(&snapshot.buf);
    status = file_drain(file, &snapshot.buf, err);
    kith_file_close(file);
    if (status == KITH_OK) status = file_decode(&snapshot, err);
    if (status != KITH_OK) {
        kith_buf_fini(&snapshot.buf);
        return kith_err_wrap(err, status, "Raft snapshot %s", path);
    }
    *snapshot_out = snapshot;
    return KITH_OK;
}

void kith_raft_snapshot_fini(kith_raft_snapshot *snapshot) {
    kith_buf_fini(&snapshot->buf);
    *snapshot = (kith_raft_snapshot){0};
}
