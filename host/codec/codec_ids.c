/* Ids in client messages. */
#include "host/codec/codec_ids.h"

kith_status kith_codec_id_decode(
    const Kith__V1__PointId *message, kith_arena *arena, kith_id *id_out, kith_err *err) {
    if (message && message->id_case == KITH__V1__POINT_ID__ID_NUMBER) {
        *id_out = kith_id_of_number(message->number);
        return KITH_OK;
    }
    if (!message || message->id_case != KITH__V1__POINT_ID__ID_TEXT) {
        return kith_err_set(
            err, KITH_INVALID, "a point id has neither number nor text; exactly one is needed");
    }
    uint8_t *uuid = kith_arena_alloc(arena, 16);
    return kith_id_from_text((const char *)message->text.data, message->text.len, uuid, id_out, err);
}

kith_status kith_codec_count_check(const char *what, size_t count, kith_err *err) {
    if (count >= 1 && count <= KITH_BATCH_POINTS_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "%s: %zu points; 1..%u are allowed", what, count, KITH_BATCH_POINTS_MAX);
}

static kith_status numbers_decode(ProtobufCBinaryData numbers, const char *what, kith_arena *arena,
    const kith_id **ids_out, uint32_t *count_out, kith_err *err) {
    if (numbers.len % 8 != 0) {
        return kith_err_set(
            err, KITH_INVALID, "%s.numbers: %zu bytes are not a multiple of 8", what, numbers.len);
    }
    size_t count = numbers.len / 8;
    kith_status status = kith_codec_count_check(what, count, err);
    if (status != KITH_OK) return status;
    kith_id *ids = kith_arena_array(arena, count, sizeof *ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = kith_id_of_number(kith_load_u64(numbers.data + 8 * i));
    *ids_out = ids;
    *count_out = (uint32_t)count;
    return KITH_OK;
}

static kith_status messages_decode(const Kith__V1__IdList *list, const char *what, kith_arena *arena,
    const kith_id **ids_out, uint32_t *count_out, kith_err *err) {
    kith_status status = kith_codec_count_check(what, list->n_ids, err);
    if (status != KITH_OK) return status;
    kith_id *ids = kith_arena_array(arena, list->n_ids, sizeof *ids);
    for (size_t i = 0; i < list->n_ids; i++) {
        status = kith_codec_id_decode(list->ids[i], arena, &ids[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "%s.ids[%zu]", what, i);
    }
    *ids_out = ids;
    *count_out = (uint32_t)list->n_ids;
    return KITH_OK;
}

kith_status kith_codec_ids_decode(const Kith__V1__IdList *list, const char *what, kith_arena *arena,
    const kith_id **ids_out, uint32_t *count_out, kith_err *err) {
    if (!list) return kith_codec_count_check(what, 0, err);
    if (list->numbers.len > 0 && list->n_ids > 0) {
        return kith_err_set(err, KITH_INVALID, "%s: exactly one of numbers and ids may be set", what);
    }
    if (list->n_ids > 0) return messages_decode(list, what, arena, ids_out, count_out, err);
    return numbers_decode(list->numbers, what, arena, ids_out, count_out, err);
}

_Static_assert((int)KITH_READ_TOKEN == KITH__V1__READ_CONSISTENCY__READ_CONSISTENCY_TOKEN,
    "reads have the same numbers everywhere");

kith_status kith_codec_promise_decode(Kith__V1__ReadConsistency read, Kith__V1__WriteToken *const *tokens,
    size_t token_count, kith_arena *arena, kith_read_promise *promise_out, kith_err *err) {
    int number = (int)read; /* protobuf-c keeps enum numbers that it does not know */
    if (number < 0 || number > KITH_READ_TOKEN) {
        return kith_err_set(err, KITH_INVALID,
            "read: %d is not READ_CONSISTENCY_IN_SYNC (0), _PRIMARY (1), _ANY (2) or _TOKEN (3)", number);
    }
    if (token_count > 0 && number != KITH_READ_TOKEN) {
        return kith_err_set(err, KITH_INVALID,
            "tokens: %zu with read %d; only READ_CONSISTENCY_TOKEN (3) takes any", token_count, number);
    }
    if (token_count > KITH_READ_TOKENS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "tokens: %zu; at most %u are allowed", token_count, KITH_READ_TOKENS_MAX);
    }
    kith_read_token *copies = kith_arena_array(arena, token_count, sizeof *copies);
    for (size_t i = 0; i < token_count; i++) {
        copies[i] = (kith_read_token){
            .shard_id = tokens[i]->shard_id, .epoch = tokens[i]->epoch, .sequence = tokens[i]->sequence};
    }
    *promise_out = (kith_read_promise){
        .read = (kith_read_consistency)number, .tokens = copies, .token_count = (uint32_t)token_count};
    return KITH_OK;
}

kith_status kith_codec_request_id_decode(
    const Kith__V1__RequestId *message, kith_request_id *id_out, kith_err *err) {
    static const uint8_t zeros[16];
    *id_out = (kith_request_id){0};
    if (!message) return KITH_OK;
    if (message->client.len != sizeof id_out->client) {
        return kith_err_set(
            err, KITH_INVALID, "request_id.client: %zu bytes; 16 are needed", message->client.len);
    }
    if (memcmp(message->client.data, zeros, sizeof zeros) == 0) {
        return kith_err_set(err, KITH_INVALID, "request_id.client: 16 zero bytes; draw it at random");
    }
    memcpy(id_out->client, message->client.data, sizeof id_out->client);
    id_out->number = message->number;
    return KITH_OK;
}

void kith_codec_id_encode(const kith_id *id, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    if (id->type == KITH_ID_NUMBER) {
        kith_wire_u64_always(buf, 1, id->number);
    } else if (id->type == KITH_ID_UUID) {
        kith_wire_head(buf, 2, 36);
        kith_id_append_text(buf, id);
    } else {
        kith_wire_bytes_always(buf, 2, id->bytes, id->text_bytes);
    }
    kith_wire_close(buf, mark);
}

static bool all_numbers(const kith_id *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ids[i].type != KITH_ID_NUMBER) return false;
    }
    return true;
}

void kith_codec_ids_encode(const kith_id *ids, size_t count, uint32_t field, kith_buf *buf) {
    if (!all_numbers(ids, count)) {
        size_t mark = kith_wire_open(buf, field);
        for (size_t i = 0; i < count; i++)
            kith_codec_id_encode(&ids[i], 2, buf);
        kith_wire_close(buf, mark);
    } else if (count > 0) {
        kith_wire_head(buf, field, 1 + kith_wire_varint_bytes(8 * count) + 8 * count);
        kith_wire_head(buf, 1, 8 * count);
        uint8_t *at = kith_buf_grow(buf, 8 * count);
        for (size_t i = 0; i < count; i++)
            kith_store_u64(at + 8 * i, ids[i].number);
    }
}

size_t kith_codec_ids_bytes_least(const kith_id *ids, size_t count) {
    if (all_numbers(ids, count)) return 8 * count;
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += 4 + (ids[i].type == KITH_ID_STRING    ? ids[i].text_bytes
                         : ids[i].type == KITH_ID_UUID ? 36
                                                       : 0);
    }
    return bytes;
}
