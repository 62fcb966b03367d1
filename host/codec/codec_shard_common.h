/* Private to host/codec: what the messages between nodes share. */
#ifndef KITH_CODEC_CODEC_SHARD_COMMON_H
#define KITH_CODEC_CODEC_SHARD_COMMON_H

#include "host/codec/codec_internal.h"
#include "host/codec/codec_wire.h"

#include "kith/internal/v1/shard.pb-c.h"

/* Packed u64 numbers of shards, 1..KITH_SHARDS_MAX, read in place. */
KITH_CHECK kith_status kith_codec_shard_numbers_decode(
    ProtobufCBinaryData packed, const uint64_t **numbers_out, uint32_t *count_out, kith_err *err);

/* What a read promises: one token for each of `shard_count` shards where it goes by tokens, else none; read in place. */
KITH_CHECK kith_status kith_codec_shard_tokens_decode(uint32_t read, ProtobufCBinaryData tokens,
    uint32_t shard_count, const uint64_t **tokens_out, kith_err *err);
void kith_codec_shard_tokens_encode(
    const uint64_t *tokens, uint32_t shard_count, uint32_t field, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_read_check(uint32_t read, kith_err *err);

KITH_CHECK kith_status kith_codec_shard_status_decode(const Kith__Internal__V1__ShardStatus *message,
    kith_arena *arena, kith_codec_shard_status *status_out, kith_err *err);
void kith_codec_shard_status_encode(const kith_codec_shard_status *status, uint32_t field, kith_buf *buf);

/* ShardIds, read one after the other into whatever holds the ids; an id borrows the message. */
typedef struct kith_codec_ids_reader {
    kith_reader reader;
    bool are_numbers;
} kith_codec_ids_reader;

/* `message` may be NULL: no ids. False when both ways of writing ids are used. */
bool kith_codec_ids_reader_init(kith_codec_ids_reader *reader, const Kith__Internal__V1__ShardIds *message);
/* False when there is none left or the bytes are no id. */
bool kith_codec_ids_reader_next(kith_codec_ids_reader *reader, kith_id *id_out);
/* Every byte was read. */
bool kith_codec_ids_reader_ended(const kith_codec_ids_reader *reader);

/* One element of ShardIds.canonical. */
void kith_codec_canonical_append(const kith_id *id, kith_buf *buf);

#endif
