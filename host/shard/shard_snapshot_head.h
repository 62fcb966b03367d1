/* The head of a snapshot's virtual file and of its records, as bytes (format: shard_snapshot.h).
 *
 * Threads: pure. */
#ifndef KITH_SHARD_SHARD_SNAPSHOT_HEAD_H
#define KITH_SHARD_SHARD_SNAPSHOT_HEAD_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"

#define SHARD_SNAPSHOT_FILES_MAX         65536u
#define SHARD_SNAPSHOT_START_BYTES       16u /* what says how long the head is */
#define SHARD_SNAPSHOT_RECORD_HEAD_BYTES 13u

typedef struct shard_snapshot_file {
    uint64_t segment_id, bytes;
} shard_snapshot_file;

typedef struct shard_snapshot_head {
    uint64_t shard_id, epoch, sequence;
    uint64_t store_bytes; /* with its CRC */
    uint32_t file_count;
    shard_snapshot_file *files; /* [file_count] */
} shard_snapshot_head;

void shard_snapshot_head_encode(const shard_snapshot_head *head, kith_buf *buf);
/* Bytes of the whole head, from its first SHARD_SNAPSHOT_START_BYTES. */
KITH_CHECK kith_status shard_snapshot_head_bytes(const uint8_t *start, size_t *bytes_out, kith_err *err);
/* `files` from the arena. */
KITH_CHECK kith_status shard_snapshot_head_decode(
    const uint8_t *data, size_t bytes, kith_arena *arena, shard_snapshot_head *head_out, kith_err *err);

#endif
