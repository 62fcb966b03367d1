/* Bytes as a log file: opening never crashes, and what opens is still there when it is opened again.
 *
 * The first byte chooses. Even: the rest is the file. Odd: the rest is the body of one frame, which is put
 * into a file with right checksums, so that entries are reached. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/buf.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/store/store_log.h"
#include "tests/sim/sim_env.h"

#define PATH               "/log/log-00000000000000000001.kith"
#define HEADER_BYTES       64u
#define FRAME_HEADER_BYTES 40u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static kith_status replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    (void)err;
    uint64_t *sum = ctx;
    *sum = *sum * 31 + entry->stream + entry->epoch + entry->sequence +
           kith_crc32c(0, entry->data, entry->bytes);
    return KITH_OK;
}

static void discard(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx;
    (void)level;
    (void)line;
    (void)bytes;
}

static void file_of_body(const uint8_t *body, size_t bytes, kith_buf *file) {
    uint8_t *header = kith_buf_grow(file, HEADER_BYTES);
    memset(header, 0, HEADER_BYTES);
    memcpy(header, "KITHLOG1", 8);
    kith_store_u32(header + 8, 1);
    kith_store_u64(header + 16, 1);
    kith_store_u64(header + 24, 1);
    kith_store_u32(header + 60, kith_crc32c(0, header, 60));
    bytes &= ~(size_t)7;
    uint8_t *frame = kith_buf_grow(file, FRAME_HEADER_BYTES);
    kith_store_u32(frame, 0x4d52464bu);
    kith_store_u64(frame + 8, FRAME_HEADER_BYTES + bytes);
    kith_store_u64(frame + 16, 1);
    kith_store_u64(frame + 24, 0xA5A5A5A5A5A5A5A5ULL);
    kith_store_u32(frame + 32, bytes > 0 ? body[0] : 0);
    kith_store_u32(frame + 36, kith_crc32c(0, body, bytes));
    kith_store_u32(frame + 4, kith_crc32c(0, frame + 8, FRAME_HEADER_BYTES - 8));
    if (bytes > 0) kith_buf_append(file, body, bytes);
    for (size_t i = 0; i < file->bytes; i++)
        file->data[i] ^= 0xA5;
}

static kith_status open_once(sim_env *sim, uint64_t *sum_out) {
    kith_executor *executor;
    kith_err err;
    kith_assert(kith_executor_create(sim_env_kith(sim), "log", 1, &executor, &err) == KITH_OK);
    kith_store_log_options options = {.env = sim_env_kith(sim),
        .dir = "/log",
        .executor = executor,
        .file_bytes = 1 << 20,
        .pending_bytes_max = 1 << 20,
        .replay = replay,
        .replay_ctx = sum_out};
    kith_store_log *log = NULL;
    *sum_out = 0;
    kith_status status = kith_store_log_open(&options, &log, &err);
    kith_store_log_close(log);
    kith_executor_destroy(executor);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, discard, NULL);
    sim_env *sim = sim_env_create(1);
    kith_buf file;
    kith_buf_init(&file);
    if (data[0] % 2) {
        file_of_body(data + 1, bytes - 1, &file);
    } else {
        kith_buf_append(&file, data + 1, bytes - 1);
    }
    sim_env_file_put(sim, PATH, file.data, file.bytes);
    uint64_t first;
    uint64_t second;
    kith_status status = open_once(sim, &first);
    if (status == KITH_OK) {
        kith_assert(open_once(sim, &second) == KITH_OK);
        kith_assert(first == second);
    } else {
        kith_assert(status == KITH_CORRUPT);
    }
    kith_buf_fini(&file);
    sim_env_destroy(sim);
    return 0;
}
