#include "host/shard/shard_snapshot_head.h"

#include <string.h>

#include "host/base/bytes.h"
#include "host/base/crc32c.h"

#define SNAPSHOT_VERSION    1u
#define BODY_BYTES_LEAST    40u /* no files */
#define BODY_BYTES_MAX      (BODY_BYTES_LEAST + SHARD_SNAPSHOT_FILES_MAX * 16u)
#define HEAD_BYTES_OF(body) (SHARD_SNAPSHOT_START_BYTES + (size_t)(body) + 4u)

static const char snapshot_magic[8] = {'K', 'I', 'T', 'H', 'S', 'N', 'A', 'P'};

void shard_snapshot_head_encode(const shard_snapshot_head *head, kith_buf *buf) {
    size_t start = buf->bytes;
    kith_buf_append(buf, snapshot_magic, sizeof snapshot_magic);
    kith_buf_u32(buf, SNAPSHOT_VERSION);
    kith_buf_u32(buf, BODY_BYTES_LEAST + 16 * head->file_count);
    kith_buf_u64(buf, head->shard_id);
    kith_buf_u64(buf, head->epoch);
    kith_buf_u64(buf, head->sequence);
    kith_buf_u64(buf, head->store_bytes);
    kith_buf_u32(buf, head->file_count);
    kith_buf_u32(buf, 0);
    for (uint32_t i = 0; i < head->file_count; i++) {
        kith_buf_u64(buf, head->files[i].segment_id);
        kith_buf_u64(buf, head->files[i].bytes);
    }
    kith_buf_u32(buf, kith_crc32c(0, buf->data + start, buf->bytes - start));
}

kith_status shard_snapshot_head_bytes(const uint8_t *start, size_t *bytes_out, kith_err *err) {
    uint32_t version = kith_load_u32(start + 8), body_bytes = kith_load_u32(start + 12);
    if (memcmp(start, snapshot_magic, sizeof snapshot_magic) != 0)
        return kith_err_set(err, KITH_CORRUPT, "a shard's snapshot does not begin as one");
    if (version != SNAPSHOT_VERSION)
        return kith_err_set(
            err, KITH_CORRUPT, "a shard's snapshot has version %u; %u is known", version, SNAPSHOT_VERSION);
    if (body_bytes < BODY_BYTES_LEAST || body_bytes > BODY_BYTES_MAX)
        return kith_err_set(err, KITH_CORRUPT, "a shard's snapshot has a head of %u bytes, not %u..%u",
            body_bytes, BODY_BYTES_LEAST, BODY_BYTES_MAX);
    *bytes_out = HEAD_BYTES_OF(body_bytes);
    return KITH_OK;
}

kith_status shard_snapshot_head_decode(
    const uint8_t *data, size_t bytes, kith_arena *arena, shard_snapshot_head *head_out, kith_err *err) {
    kith_reader reader = kith_reader_of(data, bytes);
    if (kith_crc32c(0, data, bytes - 4) != kith_load_u32(data + bytes - 4))
        return kith_err_set(err, KITH_CORRUPT, "the head of a shard's snapshot has a bad checksum");
    (void)kith_reader_bytes(&reader, SHARD_SNAPSHOT_START_BYTES);
    shard_snapshot_head head = {.shard_id = kith_reader_u64(&reader),
        .epoch = kith_reader_u64(&reader),
        .sequence = kith_reader_u64(&reader),
        .store_bytes = kith_reader_u64(&reader),
        .file_count = kith_reader_u32(&reader)};
    (void)kith_reader_u32(&reader);
    if (kith_reader_left(&reader) != (size_t)head.file_count * 16 + 4)
        return kith_err_set(err, KITH_CORRUPT, "the head of a shard's snapshot has %zu bytes for %u files",
            bytes, head.file_count);
    head.files = kith_arena_array(arena, head.file_count, sizeof *head.files);
    for (uint32_t i = 0; i < head.file_count; i++) {
        head.files[i].segment_id = kith_reader_u64(&reader);
        head.files[i].bytes = kith_reader_u64(&reader);
    }
    *head_out = head;
    return KITH_OK;
}
