/* Parts of the messages between nodes. */
#include "host/codec/codec_shard_common.h"

kith_status kith_codec_shard_numbers_decode(
    ProtobufCBinaryData packed, const uint64_t **numbers_out, uint32_t *count_out, kith_err *err) {
    if (packed.len % 8 != 0 || packed.len == 0 || packed.len / 8 > KITH_SHARDS_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "shard_ids: %zu bytes are not 1..%u numbers of 8", packed.len,
            KITH_SHARDS_MAX);
    }
    *numbers_out = (const uint64_t *)(const void *)packed.data;
    *count_out = (uint32_t)(packed.len / 8);
    return KITH_OK;
}

kith_status kith_codec_shard_read_check(uint32_t read, kith_err *err) {
    if (read <= KITH_CODEC_READ_LAST) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "read: %u is not in 0..%u", read, KITH_CODEC_READ_LAST);
}

kith_status kith_codec_shard_tokens_decode(uint32_t read, ProtobufCBinaryData tokens, uint32_t shard_count,
    const uint64_t **tokens_out, kith_err *err) {
    kith_status status = kith_codec_shard_read_check(read, err);
    if (status != KITH_OK) return status;
    size_t bytes = read == KITH_CODEC_READ_OF_TOKEN ? (size_t)shard_count * 8 : 0;
    if (tokens.len != bytes) {
        return kith_err_set(err, KITH_INTERNAL, "tokens: %zu bytes; a read of kind %u of %u shards has %zu",
            tokens.len, read, shard_count, bytes);
    }
    *tokens_out = bytes > 0 ? (const uint64_t *)(const void *)tokens.data : NULL;
    return KITH_OK;
}

void kith_codec_shard_tokens_encode(
    const uint64_t *tokens, uint32_t shard_count, uint32_t field, kith_buf *buf) {
    if (tokens) kith_wire_u64_array(buf, field, tokens, shard_count);
}

kith_status kith_codec_shard_status_decode(const Kith__Internal__V1__ShardStatus *message, kith_arena *arena,
    kith_codec_shard_status *status_out, kith_err *err) {
    status_out->shard_id = message->shard_id;
    status_out->status = kith_status_from_number(message->status);
    if (kith_codec_text(message->message, "message", arena, &status_out->message, err) != KITH_OK) {
        return kith_err_wrap(err, KITH_INTERNAL, "shard %llu", (unsigned long long)message->shard_id);
    }
    return KITH_OK;
}

void kith_codec_shard_status_encode(const kith_codec_shard_status *status, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    kith_wire_u64(buf, 1, status->shard_id);
    kith_wire_u64(buf, 2, (uint64_t)status->status);
    if (status->message) kith_wire_text(buf, 3, status->message);
    kith_wire_close(buf, mark);
}

bool kith_codec_ids_reader_init(kith_codec_ids_reader *reader, const Kith__Internal__V1__ShardIds *message) {
    *reader = (kith_codec_ids_reader){0};
    if (!message) return true;
    if (message->numbers.len > 0 && message->canonical.len > 0) return false;
    reader->are_numbers = message->numbers.len > 0;
    ProtobufCBinaryData bytes = reader->are_numbers ? message->numbers : message->canonical;
    reader->reader = kith_reader_of(bytes.data, bytes.len);
    return true;
}

bool kith_codec_ids_reader_next(kith_codec_ids_reader *reader, kith_id *id_out) {
    if (kith_reader_left(&reader->reader) == 0) return false;
    if (reader->are_numbers) {
        *id_out = kith_id_of_number(kith_reader_u64(&reader->reader));
        return !reader->reader.failed;
    }
    size_t bytes = (size_t)kith_reader_u8(&reader->reader) + 1;
    const uint8_t *canonical = kith_reader_bytes(&reader->reader, bytes);
    return canonical && kith_id_decode(canonical, bytes, id_out);
}

bool kith_codec_ids_reader_ended(const kith_codec_ids_reader *reader) {
    return !reader->reader.failed && kith_reader_left(&reader->reader) == 0;
}

void kith_codec_canonical_append(const kith_id *id, kith_buf *buf) {
    uint8_t *at = kith_buf_reserve(buf, 1 + KITH_ID_CANONICAL_BYTES_MAX);
    size_t bytes = kith_id_encode(id, at + 1);
    at[0] = (uint8_t)(bytes - 1);
    buf->bytes += 1 + bytes;
}
