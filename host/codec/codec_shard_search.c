/* Searches between nodes. A response is three long arrays (counts, closeness, ids), written and read in one
 * pass each; nothing is allocated per hit. */
#include "host/codec/codec_shard_common.h"

/* --- request --- */

void kith_codec_shard_search_request_encode(const kith_codec_shard_search_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->collection_id);
    kith_wire_u64(buf, 8, request->map_version);
    kith_wire_u64_array(buf, 2, request->shard_ids, request->shard_count);
    kith_wire_u64(buf, 3, request->field_index);
    kith_wire_u64(buf, 4, request->k);
    kith_wire_u64(buf, 5, request->dim);
    kith_wire_u32_array(buf, 6, request->queries, (size_t)request->query_count * request->dim);
    kith_wire_u64(buf, 7, request->exact);
    kith_wire_u64(buf, 9, request->read);
    kith_codec_shard_tokens_encode(request->tokens, request->shard_count, 10, buf);
}

static kith_status search_limits_check(const Kith__Internal__V1__ShardSearchRequest *message, kith_err *err) {
    if (message->field_index >= KITH_FIELDS_MAX) {
        return kith_err_set(
            err, KITH_INTERNAL, "field_index: %u is not below %u", message->field_index, KITH_FIELDS_MAX);
    }
    if (message->k < 1 || message->k > KITH_K_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "k: %u is not in 1..%u", message->k, KITH_K_MAX);
    }
    if (message->dim < 1 || message->dim > KITH_DIM_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "dim: %u is not in 1..%u", message->dim, KITH_DIM_MAX);
    }
    size_t query_bytes = (size_t)message->dim * sizeof(float);
    size_t query_count = message->queries.len / query_bytes;
    if (message->queries.len % query_bytes != 0 || query_count < 1 || query_count > KITH_QUERIES_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "queries: %zu bytes are not 1..%u vectors of dim %u",
            message->queries.len, KITH_QUERIES_MAX, message->dim);
    }
    if (query_count * message->k > KITH_REPLY_HITS_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "%zu queries and k %u are more than %u hits", query_count,
            message->k, KITH_REPLY_HITS_MAX);
    }
    return KITH_OK;
}

kith_status kith_codec_shard_search_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_search_request *request_out, kith_err *err) {
    const Kith__Internal__V1__ShardSearchRequest *message = kith_codec_unpack(
        &kith__internal__v1__shard_search_request__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_status status = search_limits_check(message, err);
    if (status != KITH_OK) return status;
    kith_codec_shard_search_request request = {.collection_id = message->collection_id,
        .map_version = message->map_version,
        .field_index = message->field_index,
        .k = message->k,
        .dim = message->dim,
        .query_count = (uint32_t)(message->queries.len / sizeof(float) / message->dim),
        .queries = (const float *)(const void *)message->queries.data,
        .exact = message->exact,
        .read = message->read};
    status =
        kith_codec_shard_numbers_decode(message->shard_ids, &request.shard_ids, &request.shard_count, err);
    if (status == KITH_OK) {
        status = kith_codec_shard_tokens_decode(
            message->read, message->tokens, request.shard_count, &request.tokens, err);
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}

/* --- response --- */

typedef struct hits_shape {
    size_t hit_count, text_bytes;
    bool are_numbers; /* all ids */
} hits_shape;

static hits_shape hits_measure(const kith_hits *lists, uint32_t query_count) {
    hits_shape shape = {.are_numbers = true};
    for (uint32_t q = 0; q < query_count; q++) {
        shape.hit_count += lists[q].count;
        for (uint32_t i = 0; i < lists[q].count; i++) {
            shape.are_numbers = shape.are_numbers && lists[q].hits[i].id.type == KITH_ID_NUMBER;
            shape.text_bytes += lists[q].hits[i].id.text_bytes;
        }
    }
    return shape;
}

static void hit_counts_encode(const kith_hits *lists, uint32_t query_count, kith_buf *buf) {
    kith_wire_head(buf, 1, (size_t)query_count * 4);
    for (uint32_t q = 0; q < query_count; q++)
        kith_buf_u32(buf, lists[q].count);
}

static void closeness_encode(const kith_hits *lists, uint32_t query_count, size_t hit_count, kith_buf *buf) {
    kith_wire_head(buf, 2, hit_count * 8);
    uint8_t *at = kith_buf_grow(buf, hit_count * 8);
    for (uint32_t q = 0; q < query_count; q++) {
        for (uint32_t i = 0; i < lists[q].count; i++, at += 8)
            memcpy(at, &lists[q].hits[i].closeness, 8);
    }
}

static void numbers_encode(const kith_hits *lists, uint32_t query_count, size_t hit_count, kith_buf *buf) {
    kith_wire_head(buf, 3, 1 + kith_wire_varint_bytes(hit_count * 8) + hit_count * 8);
    kith_wire_head(buf, 1, hit_count * 8);
    uint8_t *at = kith_buf_grow(buf, hit_count * 8);
    for (uint32_t q = 0; q < query_count; q++) {
        for (uint32_t i = 0; i < lists[q].count; i++, at += 8)
            memcpy(at, &lists[q].hits[i].id.number, 8);
    }
}

static void canonical_encode(const kith_hits *lists, uint32_t query_count, kith_buf *buf) {
    size_t ids_mark = kith_wire_open(buf, 3);
    size_t mark = kith_wire_open(buf, 2);
    for (uint32_t q = 0; q < query_count; q++) {
        for (uint32_t i = 0; i < lists[q].count; i++)
            kith_codec_canonical_append(&lists[q].hits[i].id, buf);
    }
    kith_wire_close(buf, mark);
    kith_wire_close(buf, ids_mark);
}

void kith_codec_shard_search_response_encode(
    const kith_codec_shard_search_response *response, kith_buf *buf) {
    hits_shape shape = hits_measure(response->lists, response->query_count);
    size_t id_bytes = shape.are_numbers ? shape.hit_count * 8 : shape.hit_count * 18 + shape.text_bytes;
    kith_buf_reserve(buf, (size_t)response->query_count * 4 + shape.hit_count * 8 + id_bytes + 64);
    hit_counts_encode(response->lists, response->query_count, buf);
    if (shape.hit_count > 0) {
        closeness_encode(response->lists, response->query_count, shape.hit_count, buf);
        if (shape.are_numbers) {
            numbers_encode(response->lists, response->query_count, shape.hit_count, buf);
        } else {
            canonical_encode(response->lists, response->query_count, buf);
        }
    }
    for (uint32_t i = 0; i < response->shard_count; i++)
        kith_codec_shard_status_encode(&response->shards[i], 4, buf);
}

/* Lists over one array of hits; their counts are checked against the closeness array. */
static kith_status lists_decode(const Kith__Internal__V1__ShardSearchResponse *message, kith_arena *arena,
    kith_hits **lists_out, kith_hit **hits_out, kith_err *err) {
    size_t query_count = message->hit_counts.len / 4, hit_count = message->closeness.len / 8, sum = 0;
    if (message->hit_counts.len % 4 != 0 || query_count > KITH_QUERIES_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "hit_counts: %zu bytes are not at most %u numbers of 4",
            message->hit_counts.len, KITH_QUERIES_MAX);
    }
    if (message->closeness.len % 8 != 0 || hit_count > KITH_REPLY_HITS_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "closeness: %zu bytes are not at most %u numbers of 8",
            message->closeness.len, KITH_REPLY_HITS_MAX);
    }
    kith_hits *lists = kith_arena_array(arena, query_count, sizeof *lists);
    kith_hit *hits = kith_arena_array(arena, hit_count, sizeof *hits);
    for (size_t q = 0; q < query_count; q++) {
        uint32_t count = kith_load_u32(message->hit_counts.data + 4 * q);
        if (count > hit_count - sum) {
            return kith_err_set(
                err, KITH_INTERNAL, "hit_counts: more than the %zu hits of closeness", hit_count);
        }
        lists[q] = (kith_hits){.hits = hits + sum, .count = count};
        sum += count;
    }
    if (sum != hit_count) {
        return kith_err_set(
            err, KITH_INTERNAL, "hit_counts: %zu in all, but closeness has %zu", sum, hit_count);
    }
    *lists_out = lists;
    *hits_out = hits;
    return KITH_OK;
}

/* Ids that are no numbers borrow their bytes: those are put into `arena`. */
static kith_status hits_decode(const Kith__Internal__V1__ShardSearchResponse *message, kith_arena *arena,
    kith_hit *hits, kith_err *err) {
    kith_codec_ids_reader ids;
    if (message->ids && message->ids->canonical.len > 0) {
        ProtobufCBinaryData *canonical = &message->ids->canonical;
        canonical->data = kith_arena_copy(arena, canonical->data, canonical->len);
    }
    if (!kith_codec_ids_reader_init(&ids, message->ids)) {
        return kith_err_set(err, KITH_INTERNAL, "ids: numbers and canonical are both set");
    }
    size_t hit_count = message->closeness.len / 8;
    for (size_t i = 0; i < hit_count; i++) {
        memcpy(&hits[i].closeness, message->closeness.data + 8 * i, 8);
        if (!kith_codec_ids_reader_next(&ids, &hits[i].id)) {
            return kith_err_set(err, KITH_INTERNAL, "ids: no valid id for hit %zu of %zu", i, hit_count);
        }
    }
    if (!kith_codec_ids_reader_ended(&ids)) {
        return kith_err_set(err, KITH_INTERNAL, "ids: more than the %zu hits of closeness", hit_count);
    }
    return KITH_OK;
}

static kith_status response_decode(const Kith__Internal__V1__ShardSearchResponse *message, kith_arena *arena,
    kith_codec_shard_search_response *response_out, kith_err *err) {
    if (message->n_shards > KITH_SHARDS_MAX) {
        return kith_err_set(
            err, KITH_INTERNAL, "shards: %zu; at most %u are allowed", message->n_shards, KITH_SHARDS_MAX);
    }
    kith_hits *lists = NULL;
    kith_hit *hits = NULL;
    kith_status status = lists_decode(message, arena, &lists, &hits, err);
    if (status == KITH_OK) status = hits_decode(message, arena, hits, err);
    kith_codec_shard_status *shards = kith_arena_array(arena, message->n_shards, sizeof *shards);
    for (size_t i = 0; i < message->n_shards && status == KITH_OK; i++) {
        status = kith_codec_shard_status_decode(message->shards[i], arena, &shards[i], err);
    }
    if (status != KITH_OK) return status;
    *response_out = (kith_codec_shard_search_response){.query_count = (uint32_t)(message->hit_counts.len / 4),
        .lists = lists,
        .shard_count = (uint32_t)message->n_shards,
        .shards = shards};
    return KITH_OK;
}

/* Unpacked apart: the message is as large as its bytes, and of no use once it is decoded. */
kith_status kith_codec_shard_search_response_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_search_response *response_out, kith_err *err) {
    kith_arena unpacked;
    kith_arena_init(&unpacked);
    const Kith__Internal__V1__ShardSearchResponse *message = kith_codec_unpack(
        &kith__internal__v1__shard_search_response__descriptor, data, bytes, &unpacked, KITH_INTERNAL, err);
    kith_status status = message ? response_decode(message, arena, response_out, err) : KITH_INTERNAL;
    kith_arena_fini(&unpacked);
    return status;
}
