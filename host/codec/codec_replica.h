/* Messages between replicas (proto/kith/internal/v1/replica.proto) as structs. Encoders append and cannot fail; decoders trust no length,
 * count or order, and return CORRUPT with the field's name.
 *
 * Threads: pure functions. Decoded structs borrow `data`, and the arena where it says so. */
#ifndef KITH_CODEC_CODEC_REPLICA_H
#define KITH_CODEC_CODEC_REPLICA_H

#include <stdbool.h>

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"

#define KITH_CODEC_APPEND_ENTRIES_MAX 4096u
#define KITH_CODEC_FETCH_BYTES_MAX    (4u << 20)

typedef struct kith_codec_append_entry {
    uint64_t epoch, sequence;
    const void *data;
    size_t bytes;
} kith_codec_append_entry;

typedef struct kith_codec_append_request {
    uint64_t shard_id, epoch;
    uint64_t previous_epoch, previous_sequence;
    uint64_t committed, echo_ns, loss_epoch;
    bool snapshot_needed, asks_room;
    uint32_t entry_count;
    const kith_codec_append_entry *entries; /* [entry_count], in the arena; their data borrows the message */
} kith_codec_append_request;

typedef struct kith_codec_append_reply {
    uint32_t outcome; /* kith_replica_outcome */
    uint64_t epoch, matched, hint, stamp_ns, applied;
    bool full;
} kith_codec_append_reply;

typedef struct kith_codec_fetch_request {
    uint64_t shard_id, epoch, snapshot_id, offset;
    uint32_t bytes_max; /* 1..KITH_CODEC_FETCH_BYTES_MAX */
} kith_codec_fetch_request;

typedef struct kith_codec_fetch_reply {
    uint64_t snapshot_id, total_bytes, epoch, sequence, offset;
    const void *data;
    size_t bytes;
} kith_codec_fetch_reply; /* its CRC is made and checked by the codec; decoded, it borrows the message */

typedef struct kith_codec_digest_request {
    uint64_t shard_id, epoch, sequence;
    uint32_t slot_first, slot_count;
    bool differs;
} kith_codec_digest_request;

typedef struct kith_codec_digest_reply {
    uint64_t sequence;
    uint32_t slot_count;
    const uint64_t *digests; /* [slot_count], in the arena */
} kith_codec_digest_reply;

void kith_codec_append_request_encode(const kith_codec_append_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_append_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_append_request *request_out, kith_err *err);
void kith_codec_append_reply_encode(const kith_codec_append_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_append_reply_decode(
    const void *data, size_t bytes, kith_codec_append_reply *reply_out, kith_err *err);
void kith_codec_fetch_request_encode(const kith_codec_fetch_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_fetch_request_decode(
    const void *data, size_t bytes, kith_codec_fetch_request *request_out, kith_err *err);
void kith_codec_fetch_reply_encode(const kith_codec_fetch_reply *reply, kith_buf *buf);
/* The same in two halves, for data that are read into their place: the first returns where reply->bytes bytes go (reply->data is not looked
 * at), the second follows once they are there. */
uint8_t *kith_codec_fetch_reply_begin(const kith_codec_fetch_reply *reply, kith_buf *buf);
void kith_codec_fetch_reply_end(const kith_codec_fetch_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_fetch_reply_decode(
    const void *data, size_t bytes, kith_codec_fetch_reply *reply_out, kith_err *err);
void kith_codec_digest_request_encode(const kith_codec_digest_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_digest_request_decode(
    const void *data, size_t bytes, kith_codec_digest_request *request_out, kith_err *err);
void kith_codec_digest_reply_encode(const kith_codec_digest_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_digest_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_digest_reply *reply_out, kith_err *err);

#endif
