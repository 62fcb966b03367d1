/* Search requests and responses: the hot path. A response of n queries is written array by array. */
#include "host/codec/codec_coverage.h"
#include "host/codec/codec_ids.h"
#include "host/codec/codec_points.h"

#include "kith/v1/points.pb-c.h"

kith_status kith_codec_search_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_search_request *request_out, kith_err *err) {
    const Kith__V1__SearchRequest *message =
        kith_codec_unpack(&kith__v1__search_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_search_request request = {.queries = message->queries.data,
        .queries_bytes = message->queries.len,
        .k = message->k,
        .exact = message->params && message->params->exact,
        .with_payload = message->with_payload,
        .strict = message->strict};
    kith_status status = kith_codec_text(message->collection, "collection", arena, &request.collection, err);
    if (status == KITH_OK) status = kith_codec_text(message->field, "field", arena, &request.field, err);
    if (status == KITH_OK) {
        status = kith_codec_promise_decode(
            message->read, message->tokens, message->n_tokens, arena, &request.promise, err);
    }
    if (status != KITH_OK) return status;
    if (request.queries_bytes % 4 != 0) {
        return kith_err_set(
            err, KITH_INVALID, "queries: %zu bytes are not a multiple of 4", request.queries_bytes);
    }
    *request_out = request;
    return KITH_OK;
}

void kith_codec_coverage_encode(const kith_codec_coverage *coverage, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    kith_wire_u64(buf, 1, coverage->shards_total);
    kith_wire_u64(buf, 2, coverage->shards_answered);
    for (uint32_t i = 0; i < coverage->missing_count; i++) {
        const kith_codec_missing *missing = &coverage->missing[i];
        size_t missing_mark = kith_wire_open(buf, 3);
        kith_wire_u64(buf, 1, missing->shard_id);
        kith_wire_text(buf, 2, missing->node);
        kith_wire_text(buf, 3, missing->reason);
        kith_wire_close(buf, missing_mark);
    }
    kith_wire_close(buf, mark);
}

/* Packed varints, as proto3 packs a repeated uint32. */
static void hit_counts_encode(const uint32_t *counts, uint32_t count, kith_buf *buf) {
    if (count == 0) return;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += kith_wire_varint_bytes(counts[i]);
    kith_wire_head(buf, 1, bytes);
    uint8_t *at = kith_buf_grow(buf, bytes);
    for (uint32_t i = 0; i < count; i++)
        at = kith_wire_varint_put(at, counts[i]);
}

/* Known before anything is allocated: what the arrays alone take. */
static size_t search_response_bytes_least(const kith_codec_search_response *response) {
    size_t bytes = response->query_count + kith_codec_ids_bytes_least(response->ids, response->hit_count) +
                   (size_t)response->hit_count * 4;
    for (uint32_t i = 0; response->payloads && i < response->hit_count; i++) {
        bytes += 2 + (size_t)response->payload_bytes[i];
    }
    return bytes;
}

static kith_status search_response_too_long(size_t bytes, size_t bytes_max, kith_err *err) {
    return kith_err_set(err, KITH_INVALID,
        "the answer would have %zu bytes; at most %zu are allowed: ask for fewer queries, a smaller k or no "
        "payloads",
        bytes, bytes_max);
}

kith_status kith_codec_search_response_encode(
    const kith_codec_search_response *response, size_t bytes_max, kith_buf *buf, kith_err *err) {
    size_t least = search_response_bytes_least(response);
    if (least > bytes_max) return search_response_too_long(least, bytes_max, err);
    size_t begin = buf->bytes;
    kith_buf_reserve(buf, least + 256);
    hit_counts_encode(response->hit_counts, response->query_count, buf);
    kith_codec_ids_encode(response->ids, response->hit_count, 2, buf);
    kith_wire_u32_array(buf, 3, response->scores, response->hit_count);
    for (uint32_t i = 0; response->payloads && i < response->hit_count; i++) {
        kith_wire_bytes_always(buf, 4, response->payloads[i], response->payload_bytes[i]);
    }
    kith_codec_coverage_encode(&response->coverage, 5, buf);
    size_t bytes = buf->bytes - begin;
    if (bytes <= bytes_max) return KITH_OK;
    buf->bytes = begin;
    return search_response_too_long(bytes, bytes_max, err);
}
