/* Requests and responses of kith.v1.Points other than upserts and searches. */
#include "host/codec/codec_points.h"

#include "host/codec/codec_coverage.h"
#include "host/codec/codec_ids.h"

#include "kith/v1/points.pb-c.h"

/* --- requests --- */

kith_status kith_codec_delete_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_delete_request *request_out, kith_err *err) {
    const Kith__V1__DeletePointsRequest *message = kith_codec_unpack(
        &kith__v1__delete_points_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_delete_request request = {0};
    kith_status status = kith_codec_text(message->collection, "collection", arena, &request.collection, err);
    if (status == KITH_OK)
        status = kith_codec_request_id_decode(message->request_id, &request.request_id, err);
    if (status == KITH_OK) {
        status = kith_codec_ids_decode(message->ids, "ids", arena, &request.ids, &request.id_count, err);
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}

kith_status kith_codec_get_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_get_request *request_out, kith_err *err) {
    const Kith__V1__GetPointsRequest *message =
        kith_codec_unpack(&kith__v1__get_points_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_get_request request = {
        .with_payload = message->with_payload, .with_vectors = message->with_vectors};
    kith_status status = kith_codec_text(message->collection, "collection", arena, &request.collection, err);
    if (status == KITH_OK) {
        status = kith_codec_ids_decode(message->ids, "ids", arena, &request.ids, &request.id_count, err);
    }
    if (status == KITH_OK) {
        status = kith_codec_promise_decode(
            message->read, message->tokens, message->n_tokens, arena, &request.promise, err);
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}

kith_status kith_codec_scroll_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_scroll_request *request_out, kith_err *err) {
    const Kith__V1__ScrollRequest *message =
        kith_codec_unpack(&kith__v1__scroll_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_scroll_request request = {.has_from = message->from != NULL,
        .limit = message->limit,
        .with_payload = message->with_payload,
        .with_vectors = message->with_vectors};
    kith_status status = kith_codec_text(message->collection, "collection", arena, &request.collection, err);
    if (status != KITH_OK) return status;
    if (request.has_from) status = kith_codec_id_decode(message->from, arena, &request.from, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "from");
    status = kith_codec_promise_decode(
        message->read, message->tokens, message->n_tokens, arena, &request.promise, err);
    if (status != KITH_OK) return status;
    *request_out = request;
    return KITH_OK;
}

kith_status kith_codec_count_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_count_request *request_out, kith_err *err) {
    const Kith__V1__CountRequest *message =
        kith_codec_unpack(&kith__v1__count_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_status status =
        kith_codec_text(message->collection, "collection", arena, &request_out->collection, err);
    if (status != KITH_OK) return status;
    return kith_codec_promise_decode(
        message->read, message->tokens, message->n_tokens, arena, &request_out->promise, err);
}

/* --- responses --- */

/* Upsert's and delete's have the same fields. */
static void write_response_encode(const kith_codec_write_response *response, kith_buf *buf) {
    kith_wire_u64(buf, 1, response->points);
    for (uint32_t i = 0; i < response->token_count; i++) {
        const kith_codec_token *token = &response->tokens[i];
        size_t mark = kith_wire_open(buf, 2);
        kith_wire_u64(buf, 1, token->shard_id);
        kith_wire_u64(buf, 2, token->epoch);
        kith_wire_u64(buf, 3, token->sequence);
        kith_wire_close(buf, mark);
    }
}

void kith_codec_upsert_response_encode(const kith_codec_write_response *response, kith_buf *buf) {
    write_response_encode(response, buf);
}

void kith_codec_delete_response_encode(const kith_codec_write_response *response, kith_buf *buf) {
    write_response_encode(response, buf);
}

void kith_codec_upsert_stream_response_encode(
    uint32_t code, const char *message, const kith_codec_write_response *response, kith_buf *buf) {
    kith_wire_u64(buf, 1, code);
    if (code != 0) {
        kith_wire_text(buf, 2, message);
        return;
    }
    size_t mark = kith_wire_open(buf, 3);
    write_response_encode(response, buf);
    kith_wire_close(buf, mark);
}

void kith_codec_count_response_encode(uint64_t count, const kith_codec_coverage *coverage, kith_buf *buf) {
    kith_wire_u64(buf, 1, count);
    kith_codec_coverage_encode(coverage, 2, buf);
}

static void named_vector_encode(const kith_field *field, const float *values, kith_buf *buf) {
    size_t name_bytes = strlen(field->name);
    size_t values_bytes = (size_t)field->dim * 4;
    size_t name_all = name_bytes == 0 ? 0 : 1 + kith_wire_varint_bytes(name_bytes) + name_bytes;
    kith_wire_head(buf, 2, name_all + 1 + kith_wire_varint_bytes(values_bytes) + values_bytes);
    kith_wire_bytes(buf, 1, field->name, name_bytes);
    kith_wire_u32_array(buf, 2, values, field->dim);
}

void kith_codec_point_append(const kith_schema *schema, const kith_codec_point *point, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 1);
    kith_codec_id_encode(&point->id, 1, buf);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        if (point->vectors && point->vectors[f])
            named_vector_encode(&schema->fields[f], point->vectors[f], buf);
    }
    kith_wire_bytes(buf, 3, point->payload, point->payload_bytes);
    kith_wire_close(buf, mark);
}

void kith_codec_scroll_next_append(const kith_id *next, kith_buf *buf) {
    kith_codec_id_encode(next, 2, buf);
}
