/* Messages between replicas. An append is the hot one: its entries are one run of bytes behind a table of their heads. */
#include "host/codec/codec_replica.h"

#include "host/base/crc32c.h"
#include "host/base/limits.h"
#include "host/codec/codec_wire.h"

#include "kith/internal/v1/replica.pb-c.h"

#define HEAD_BYTES 24u

/* --- append --- */

static void heads_encode(const kith_codec_append_request *request, kith_buf *buf) {
    kith_wire_head(buf, 7, (size_t)request->entry_count * HEAD_BYTES);
    for (uint32_t i = 0; i < request->entry_count; i++) {
        kith_buf_u64(buf, request->entries[i].epoch);
        kith_buf_u64(buf, request->entries[i].sequence);
        kith_buf_u64(buf, request->entries[i].bytes);
    }
}

static void entries_encode(const kith_codec_append_request *request, kith_buf *buf) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < request->entry_count; i++)
        bytes += request->entries[i].bytes;
    if (bytes == 0) return;
    kith_wire_head(buf, 8, bytes);
    kith_buf_reserve(buf, bytes);
    for (uint32_t i = 0; i < request->entry_count; i++)
        kith_buf_append(buf, request->entries[i].data, request->entries[i].bytes);
}

void kith_codec_append_request_encode(const kith_codec_append_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->shard_id);
    kith_wire_u64(buf, 2, request->epoch);
    kith_wire_u64(buf, 3, request->previous_epoch);
    kith_wire_u64(buf, 4, request->previous_sequence);
    kith_wire_u64(buf, 5, request->committed);
    kith_wire_u64(buf, 6, request->echo_ns);
    if (request->entry_count > 0) heads_encode(request, buf);
    entries_encode(request, buf);
    kith_wire_u64(buf, 9, request->snapshot_needed);
    kith_wire_u64(buf, 10, request->asks_room);
    kith_wire_u64(buf, 11, request->loss_epoch);
}

/* Sequences follow each other, epochs never fall and are never above the sender's: what a log looks like. */
static kith_status entry_check(
    const kith_codec_append_request *request, uint32_t index, uint64_t previous_epoch, kith_err *err) {
    const kith_codec_append_entry *entry = &request->entries[index];
    if (entry->sequence == 0 || entry->sequence - 1 - index != request->previous_sequence) {
        return kith_err_set(err, KITH_CORRUPT, "heads: sequence %llu of entry %u does not follow %llu",
            (unsigned long long)entry->sequence, index, (unsigned long long)request->previous_sequence);
    }
    if (entry->epoch == 0 || entry->epoch < previous_epoch || entry->epoch > request->epoch) {
        return kith_err_set(err, KITH_CORRUPT, "heads: epoch %llu of entry %u is not in %llu..%llu",
            (unsigned long long)entry->epoch, index, (unsigned long long)previous_epoch,
            (unsigned long long)request->epoch);
    }
    return KITH_OK;
}

static kith_status entries_decode(const Kith__Internal__V1__ShardAppendRequest *message,
    const kith_codec_append_request *request, kith_codec_append_entry *entries, kith_err *err) {
    kith_reader heads = kith_reader_of(message->heads.data, message->heads.len);
    kith_reader data = kith_reader_of(message->entries.data, message->entries.len);
    uint64_t previous_epoch = request->previous_epoch;
    for (uint32_t i = 0; i < request->entry_count; i++) {
        entries[i].epoch = kith_reader_u64(&heads);
        entries[i].sequence = kith_reader_u64(&heads);
        entries[i].bytes = (size_t)kith_reader_u64(&heads);
        kith_status status = entry_check(request, i, previous_epoch, err);
        if (status != KITH_OK) return status;
        previous_epoch = entries[i].epoch;
        entries[i].data = kith_reader_bytes(&data, entries[i].bytes);
        if (data.failed) break;
    }
    if (!data.failed && kith_reader_left(&data) == 0) return KITH_OK;
    return kith_err_set(
        err, KITH_CORRUPT, "entries: %zu bytes are not as many as heads say", message->entries.len);
}

kith_status kith_codec_append_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_append_request *request_out, kith_err *err) {
    const Kith__Internal__V1__ShardAppendRequest *message = kith_codec_unpack(
        &kith__internal__v1__shard_append_request__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    if (message->heads.len % HEAD_BYTES != 0 ||
        message->heads.len / HEAD_BYTES > KITH_CODEC_APPEND_ENTRIES_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "heads: %zu bytes are not at most %u heads of %u",
            message->heads.len, KITH_CODEC_APPEND_ENTRIES_MAX, HEAD_BYTES);
    }
    kith_codec_append_request request = {.shard_id = message->shard_id,
        .epoch = message->epoch,
        .previous_epoch = message->previous_epoch,
        .previous_sequence = message->previous_sequence,
        .committed = message->committed,
        .echo_ns = message->echo_ns,
        .snapshot_needed = message->snapshot_needed,
        .loss_epoch = message->loss_epoch,
        .asks_room = message->asks_room,
        .entry_count = (uint32_t)(message->heads.len / HEAD_BYTES)};
    kith_codec_append_entry *entries = kith_arena_array(arena, request.entry_count, sizeof *entries);
    request.entries = entries;
    kith_status status = entries_decode(message, &request, entries, err);
    if (status == KITH_OK) *request_out = request;
    return status;
}

void kith_codec_append_reply_encode(const kith_codec_append_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, reply->outcome);
    kith_wire_u64(buf, 2, reply->epoch);
    kith_wire_u64(buf, 3, reply->matched);
    kith_wire_u64(buf, 4, reply->hint);
    kith_wire_u64(buf, 5, reply->stamp_ns);
    kith_wire_u64(buf, 6, reply->applied);
    kith_wire_u64(buf, 7, reply->full);
}

/* Messages of a few numbers are unpacked into an arena of their own. */
static const void *unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_err *err) {
    kith_arena_init(arena);
    return kith_codec_unpack(descriptor, data, bytes, arena, KITH_CORRUPT, err);
}

kith_status kith_codec_append_reply_decode(
    const void *data, size_t bytes, kith_codec_append_reply *reply_out, kith_err *err) {
    kith_arena arena;
    const Kith__Internal__V1__ShardAppendReply *message =
        unpack(&kith__internal__v1__shard_append_reply__descriptor, data, bytes, &arena, err);
    if (message) {
        *reply_out = (kith_codec_append_reply){.outcome = message->outcome,
            .epoch = message->epoch,
            .matched = message->matched,
            .hint = message->hint,
            .stamp_ns = message->stamp_ns,
            .applied = message->applied,
            .full = message->full};
    }
    kith_arena_fini(&arena);
    return message ? KITH_OK : KITH_CORRUPT;
}

/* --- fetch --- */

void kith_codec_fetch_request_encode(const kith_codec_fetch_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->shard_id);
    kith_wire_u64(buf, 2, request->epoch);
    kith_wire_u64(buf, 3, request->snapshot_id);
    kith_wire_u64(buf, 4, request->offset);
    kith_wire_u64(buf, 5, request->bytes_max);
}

static kith_status fetch_request_check(const kith_codec_fetch_request *request, kith_err *err) {
    if (request->bytes_max >= 1 && request->bytes_max <= KITH_CODEC_FETCH_BYTES_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_CORRUPT, "bytes_max: %u is not in 1..%u", request->bytes_max, KITH_CODEC_FETCH_BYTES_MAX);
}

kith_status kith_codec_fetch_request_decode(
    const void *data, size_t bytes, kith_codec_fetch_request *request_out, kith_err *err) {
    kith_arena arena;
    const Kith__Internal__V1__ShardFetchRequest *message =
        unpack(&kith__internal__v1__shard_fetch_request__descriptor, data, bytes, &arena, err);
    kith_status status = KITH_CORRUPT;
    if (message) {
        kith_codec_fetch_request request = {.shard_id = message->shard_id,
            .epoch = message->epoch,
            .snapshot_id = message->snapshot_id,
            .offset = message->offset,
            .bytes_max = message->bytes_max};
        status = fetch_request_check(&request, err);
        if (status == KITH_OK) *request_out = request;
    }
    kith_arena_fini(&arena);
    return status;
}

uint8_t *kith_codec_fetch_reply_begin(const kith_codec_fetch_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, reply->snapshot_id);
    kith_wire_u64(buf, 2, reply->total_bytes);
    kith_wire_u64(buf, 3, reply->epoch);
    kith_wire_u64(buf, 4, reply->sequence);
    kith_wire_u64(buf, 5, reply->offset);
    kith_wire_head(buf, 6, reply->bytes);
    return kith_buf_grow(buf, reply->bytes);
}

void kith_codec_fetch_reply_end(const kith_codec_fetch_reply *reply, kith_buf *buf) {
    const uint8_t *data = buf->data + buf->bytes - reply->bytes;
    kith_wire_u64(buf, 7, kith_crc32c(0, data, reply->bytes));
}

void kith_codec_fetch_reply_encode(const kith_codec_fetch_reply *reply, kith_buf *buf) {
    uint8_t *data = kith_codec_fetch_reply_begin(reply, buf);
    if (reply->bytes > 0) memcpy(data, reply->data, reply->bytes);
    kith_codec_fetch_reply_end(reply, buf);
}

static uint64_t varint_read(kith_reader *reader) {
    uint64_t value = 0;
    for (uint32_t i = 0; i < KITH_WIRE_VARINT_BYTES_MAX; i++) {
        uint8_t byte = kith_reader_u8(reader);
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) return value;
    }
    reader->failed = true;
    return 0;
}

/* One field; of those with bytes, the bytes in their place. */
typedef struct wire_field {
    uint32_t number;
    uint64_t value;
    const uint8_t *data; /* NULL: it has none */
    size_t bytes;
} wire_field;

static wire_field field_read(kith_reader *reader) {
    uint64_t tag = varint_read(reader);
    wire_field field = {.number = tag >> 3 <= UINT32_MAX ? (uint32_t)(tag >> 3) : 0};
    switch ((kith_wire_type)(tag & 7)) {
    case KITH_WIRE_VARINT:
        field.value = varint_read(reader);
        break;
    case KITH_WIRE_BYTES:
        field.bytes = (size_t)varint_read(reader);
        field.data = kith_reader_bytes(reader, field.bytes);
        break;
    case KITH_WIRE_FIXED64:
        (void)kith_reader_u64(reader);
        field.number = 0;
        break;
    case KITH_WIRE_FIXED32:
        (void)kith_reader_u32(reader);
        field.number = 0;
        break;
    default:
        reader->failed = true;
    }
    return field;
}

/* A field of another type than ours is one that is not known. */
static void fetch_field_take(kith_codec_fetch_reply *reply, uint32_t *crc, const wire_field *field) {
    uint64_t *numbers[] = {
        NULL, &reply->snapshot_id, &reply->total_bytes, &reply->epoch, &reply->sequence, &reply->offset};
    if (field->data) {
        if (field->number != 6) return;
        reply->data = field->data;
        reply->bytes = field->bytes;
    } else if (field->number == 7) {
        *crc = (uint32_t)field->value;
    } else if (field->number >= 1 && field->number <= 5) {
        *numbers[field->number] = field->value;
    }
}

static kith_status fetch_reply_check(const kith_codec_fetch_reply *reply, uint32_t crc, kith_err *err) {
    if (reply->bytes > KITH_CODEC_FETCH_BYTES_MAX)
        return kith_err_set(err, KITH_CORRUPT, "data: %zu bytes; at most %u are allowed", reply->bytes,
            KITH_CODEC_FETCH_BYTES_MAX);
    if (reply->offset > reply->total_bytes || reply->bytes > reply->total_bytes - reply->offset)
        return kith_err_set(err, KITH_CORRUPT, "data: %zu bytes at %llu are past the end at %llu",
            reply->bytes, (unsigned long long)reply->offset, (unsigned long long)reply->total_bytes);
    if (kith_crc32c(0, reply->data, reply->bytes) != crc)
        return kith_err_set(err, KITH_CORRUPT, "data_crc: the %zu bytes at %llu do not have it", reply->bytes,
            (unsigned long long)reply->offset);
    return KITH_OK;
}

/* By hand, as protobuf-c would copy a megabyte out of the message to say where it is. */
kith_status kith_codec_fetch_reply_decode(
    const void *data, size_t bytes, kith_codec_fetch_reply *reply_out, kith_err *err) {
    kith_reader reader = kith_reader_of(data, bytes);
    kith_codec_fetch_reply reply = {.data = ""};
    uint32_t crc = 0;
    while (kith_reader_left(&reader) > 0) {
        wire_field field = field_read(&reader);
        if (!reader.failed) fetch_field_take(&reply, &crc, &field);
    }
    if (reader.failed) return kith_err_set(err, KITH_CORRUPT, "not a ShardFetchReply of %zu bytes", bytes);
    kith_status status = fetch_reply_check(&reply, crc, err);
    if (status == KITH_OK) *reply_out = reply;
    return status;
}

/* --- digest --- */

void kith_codec_digest_request_encode(const kith_codec_digest_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->shard_id);
    kith_wire_u64(buf, 2, request->epoch);
    kith_wire_u64(buf, 3, request->sequence);
    kith_wire_u64(buf, 4, request->slot_first);
    kith_wire_u64(buf, 5, request->slot_count);
    kith_wire_u64(buf, 6, request->differs);
}

static kith_status digest_request_check(const kith_codec_digest_request *request, kith_err *err) {
    if (request->slot_count >= 1 && request->slot_count <= KITH_SLOTS &&
        request->slot_first <= KITH_SLOTS - request->slot_count)
        return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "slot_first, slot_count: %u, %u are not slots below %u",
        request->slot_first, request->slot_count, KITH_SLOTS);
}

kith_status kith_codec_digest_request_decode(
    const void *data, size_t bytes, kith_codec_digest_request *request_out, kith_err *err) {
    kith_arena arena;
    const Kith__Internal__V1__ShardDigestRequest *message =
        unpack(&kith__internal__v1__shard_digest_request__descriptor, data, bytes, &arena, err);
    kith_status status = KITH_CORRUPT;
    if (message) {
        kith_codec_digest_request request = {.shard_id = message->shard_id,
            .epoch = message->epoch,
            .sequence = message->sequence,
            .slot_first = message->slot_first,
            .slot_count = message->slot_count,
            .differs = message->differs};
        status = digest_request_check(&request, err);
        if (status == KITH_OK) *request_out = request;
    }
    kith_arena_fini(&arena);
    return status;
}

void kith_codec_digest_reply_encode(const kith_codec_digest_reply *reply, kith_buf *buf) {
    kith_wire_u64(buf, 1, reply->sequence);
    kith_wire_u64_array(buf, 2, reply->digests, reply->slot_count);
}

kith_status kith_codec_digest_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_digest_reply *reply_out, kith_err *err) {
    const Kith__Internal__V1__ShardDigestReply *message = kith_codec_unpack(
        &kith__internal__v1__shard_digest_reply__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    if (message->digests.len % 8 != 0 || message->digests.len / 8 > KITH_SLOTS) {
        return kith_err_set(err, KITH_CORRUPT, "digests: %zu bytes are not at most %u numbers of 8",
            message->digests.len, KITH_SLOTS);
    }
    *reply_out = (kith_codec_digest_reply){.sequence = message->sequence,
        .slot_count = (uint32_t)(message->digests.len / 8),
        .digests = (const uint64_t *)(const void *)message->digests.data};
    return KITH_OK;
}
