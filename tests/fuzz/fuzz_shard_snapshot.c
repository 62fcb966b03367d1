/* Bytes as the snapshot of a shard: an install never crashes, and what it takes for whole opens as a whole shard.
 *
 * The first byte chooses. Bit 0 set: the checksums of head and store part are made right first, so that the checks of what is in them
 * are reached. Bits 1 to 3: how long the pieces are. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"
#include "host/shard/shard_snapshot.h"
#include "tests/sim/sim_env.h"

#define SHARD_ID         7u
#define STORE_BYTES_AT   40u
#define HEAD_BYTES_LEAST 60u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* That of tests/unit/shard/test_shard_snapshot.c, so that its golden file is a seed. */
static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 5, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8}}};

/* Where the lengths in it allow that. */
static void checksums_mend(uint8_t *file, size_t bytes) {
    if (bytes < HEAD_BYTES_LEAST) return;
    uint64_t store_bytes = kith_load_u64(file + STORE_BYTES_AT),
             head_bytes = 16 + (uint64_t)kith_load_u32(file + 12);
    if (store_bytes >= 4 && store_bytes <= bytes)
        kith_store_u32(file + bytes - 4, kith_crc32c(0, file + bytes - store_bytes, (size_t)store_bytes - 4));
    if (head_bytes + 4 <= bytes) kith_store_u32(file + head_bytes, kith_crc32c(0, file, (size_t)head_bytes));
}

static kith_status pieces_write(
    kith_shard_install *install, const uint8_t *file, size_t bytes, size_t piece_bytes, kith_err *err) {
    kith_status status = KITH_OK;
    for (size_t at = 0; at < bytes && status == KITH_OK; at += piece_bytes)
        status = kith_shard_install_write(
            install, file + at, bytes - at < piece_bytes ? bytes - at : piece_bytes, err);
    return status;
}

static void whole_check(kith_shard_node *node) {
    kith_shard *shard;
    kith_err err;
    kith_status status = kith_shard_open(
        &(kith_shard_options){.node = node, .shard_id = SHARD_ID, .schema = &schema}, &shard, &err);
    kith_assert(status == KITH_OK);
    kith_assert(kith_shard_health(shard, &err) == KITH_OK);
    kith_shard_destroy(shard);
}

static void install(kith_shard_node *node, const uint8_t *file, size_t bytes, size_t piece_bytes) {
    kith_shard_install *install;
    uint64_t epoch, sequence;
    kith_err err;
    kith_status status = kith_shard_install_begin(node, SHARD_ID, &schema, &install, &err);
    kith_assert(status == KITH_OK);
    status = pieces_write(install, file, bytes, piece_bytes, &err);
    if (status == KITH_OK) status = kith_shard_install_finish(install, &epoch, &sequence, &err);
    kith_shard_install_destroy(install);
    kith_assert(status == KITH_OK || status == KITH_CORRUPT || status == KITH_NO_SPACE);
    kith_assert((shard_install_mark_check(node, SHARD_ID, &err) == KITH_CORRUPT) == (status != KITH_OK));
    if (status == KITH_OK) whole_check(node);
}

static void log_nowhere(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx, (void)level, (void)line, (void)bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    kith_err err;
    if (bytes == 0) return 0;
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, log_nowhere, NULL);
    sim_env *sim = sim_env_create(1);
    kith_store_sim_disk *disk = kith_store_sim_disk_create(1, 0, NULL, NULL);
    kith_shard_node node = {.env = sim_env_kith(sim),
        .segment_dir = "/segments",
        .compute = kith_compute_ref(),
        .request_window = 16};
    kith_assert(kith_dir_make(node.env, node.segment_dir, &err) == KITH_OK);
    kith_assert(kith_store_sim_open(disk, &node.store, &err) == KITH_OK);
    uint8_t *file = kith_alloc(bytes);
    memcpy(file, data + 1, bytes - 1);
    if (data[0] & 1) checksums_mend(file, bytes - 1);
    install(&node, file, bytes - 1, (size_t)1 << (2 * ((data[0] >> 1) & 7)));
    kith_free(file);
    kith_store_close(node.store);
    kith_store_sim_disk_destroy(disk);
    sim_env_destroy(sim);
    return 0;
}
