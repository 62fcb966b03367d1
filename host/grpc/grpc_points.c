/* kith.v1.Points, but for the stream: message -> api call -> message. */
#include <string.h>

#include "host/codec/codec_points.h"
#include "host/grpc/grpc_internal.h"

/* --- writes --- */

static const kith_api_column *columns_of(const kith_codec_upsert_request *request, kith_arena *arena) {
    kith_api_column *columns = kith_arena_array(arena, request->column_count, sizeof *columns);
    for (uint32_t i = 0; i < request->column_count; i++) {
        const kith_codec_column *from = &request->columns[i];
        columns[i] = (kith_api_column){.field = from->field,
            .values = from->values,
            .values_bytes = from->values_bytes,
            .present = from->present,
            .present_bytes = from->present_bytes};
    }
    return columns;
}

kith_status kith_grpc_upsert_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_api_write_call *write, kith_err *err) {
    kith_codec_upsert_request request;
    kith_status status = kith_codec_upsert_request_decode(data, bytes, arena, &request, err);
    if (status != KITH_OK) return status;
    write->collection = request.collection;
    write->collection_bytes = strlen(request.collection);
    write->request_id = request.request_id;
    write->ids = request.ids;
    write->point_count = request.point_count;
    write->columns = columns_of(&request, arena);
    write->column_count = request.column_count;
    write->payloads = request.payloads;
    write->payload_bytes = request.payload_bytes;
    return KITH_OK;
}

void kith_grpc_tokens_copy(const kith_api_token *tokens, uint32_t count, uint32_t points, kith_arena *arena,
    kith_codec_write_response *response_out) {
    kith_codec_token *copies = kith_arena_array(arena, count, sizeof *copies);
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = (kith_codec_token){
            .shard_id = tokens[i].shard_id, .epoch = tokens[i].epoch, .sequence = tokens[i].sequence};
    }
    *response_out = (kith_codec_write_response){.points = points, .tokens = copies, .token_count = count};
}

static void upsert_done(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) {
        kith_codec_write_response response;
        kith_grpc_tokens_copy(tokens, token_count, changed, &unary->arena, &response);
        kith_codec_upsert_response_encode(&response, &unary->reply);
    }
    kith_grpc_unary_answer(unary, status, err);
}

static void delete_done(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) {
        kith_codec_write_response response;
        kith_grpc_tokens_copy(tokens, token_count, changed, &unary->arena, &response);
        kith_codec_delete_response_encode(&response, &unary->reply);
    }
    kith_grpc_unary_answer(unary, status, err);
}

KITH_GRPC_START(upsert) {
    unary->api.write = (kith_api_write_call){.call = kith_grpc_unary_api_call(unary), .done = upsert_done};
    kith_status status = kith_grpc_upsert_decode(data, bytes, &unary->arena, &unary->api.write, err);
    if (status != KITH_OK) return status;
    return kith_api_upsert(unary->base.thread->server->options.api, &unary->api.write, err);
}

KITH_GRPC_START(delete_points) {
    kith_codec_delete_request request;
    kith_status status = kith_codec_delete_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.write = (kith_api_write_call){.call = kith_grpc_unary_api_call(unary),
        .collection = request.collection,
        .collection_bytes = strlen(request.collection),
        .request_id = request.request_id,
        .ids = request.ids,
        .point_count = request.id_count,
        .done = delete_done};
    return kith_api_delete(unary->base.thread->server->options.api, &unary->api.write, err);
}

/* --- points --- */

static kith_status points_encode(kith_grpc_unary *unary, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, kith_err *err) {
    size_t bytes_max = unary->base.thread->server->options.message_bytes_max;
    for (uint32_t i = 0; i < count; i++) {
        kith_codec_point_append(schema,
            &(kith_codec_point){.id = points[i].id,
                .payload = points[i].payload,
                .payload_bytes = points[i].payload_bytes,
                .vectors = points[i].vectors},
            &unary->reply);
        if (unary->reply.bytes <= bytes_max) continue;
        return kith_err_set(err, KITH_INVALID,
            "the answer would have more than %zu bytes: ask for fewer points, or without vectors or payloads",
            bytes_max);
    }
    return KITH_OK;
}

static void points_done(kith_api_points_call *call, kith_status status, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    kith_err too_long;
    if (status == KITH_OK) {
        status = points_encode(unary, schema, points, count, &too_long);
        err = &too_long;
    }
    if (status == KITH_OK && next) kith_codec_scroll_next_append(next, &unary->reply);
    kith_grpc_unary_answer(unary, status, err);
}

KITH_GRPC_START(get_points) {
    kith_codec_get_request request;
    kith_status status = kith_codec_get_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.points = (kith_api_points_call){.call = kith_grpc_unary_api_call(unary),
        .collection = request.collection,
        .collection_bytes = strlen(request.collection),
        .ids = request.ids,
        .id_count = request.id_count,
        .with_payload = request.with_payload,
        .with_vectors = request.with_vectors,
        .promise = request.promise,
        .done = points_done};
    return kith_api_get(unary->base.thread->server->options.api, &unary->api.points, err);
}

KITH_GRPC_START(scroll) {
    kith_codec_scroll_request request;
    kith_status status = kith_codec_scroll_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.points = (kith_api_points_call){.call = kith_grpc_unary_api_call(unary),
        .collection = request.collection,
        .collection_bytes = strlen(request.collection),
        .has_from = request.has_from,
        .from = request.from,
        .limit = request.limit,
        .with_payload = request.with_payload,
        .with_vectors = request.with_vectors,
        .promise = request.promise,
        .done = points_done};
    return kith_api_scroll(unary->base.thread->server->options.api, &unary->api.points, err);
}

/* --- search and count --- */

static kith_codec_coverage coverage_of(const kith_api_coverage *coverage, kith_arena *arena) {
    uint32_t count = coverage->shards_total - coverage->shards_answered;
    kith_codec_missing *missing = kith_arena_array(arena, count, sizeof *missing);
    for (uint32_t i = 0; i < count; i++) {
        missing[i] = (kith_codec_missing){.shard_id = coverage->missing[i].shard_id,
            .node = coverage->missing[i].node,
            .reason = coverage->missing[i].reason};
    }
    return (kith_codec_coverage){.shards_total = coverage->shards_total,
        .shards_answered = coverage->shards_answered,
        .missing = missing,
        .missing_count = count};
}

static void search_done(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
    const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    kith_err too_long;
    if (status == KITH_OK) {
        kith_codec_search_response response = {.query_count = result->query_count,
            .hit_counts = result->hit_counts,
            .hit_count = result->hit_count,
            .ids = result->ids,
            .scores = result->scores,
            .payloads = result->payloads,
            .payload_bytes = result->payload_bytes,
            .coverage = coverage_of(&result->coverage, &unary->arena)};
        status = kith_codec_search_response_encode(
            &response, unary->base.thread->server->options.message_bytes_max, &unary->reply, &too_long);
        err = &too_long;
    }
    kith_grpc_unary_answer(unary, status, err);
}

KITH_GRPC_START(search) {
    kith_codec_search_request request;
    kith_status status = kith_codec_search_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.search = (kith_api_search_call){.call = kith_grpc_unary_api_call(unary),
        .collection = request.collection,
        .collection_bytes = strlen(request.collection),
        .field = request.field,
        .queries = request.queries,
        .queries_bytes = request.queries_bytes,
        .k = request.k,
        .exact = request.exact,
        .with_payload = request.with_payload,
        .strict = request.strict,
        .promise = request.promise,
        .done = search_done};
    return kith_api_search(unary->base.thread->server->options.api, &unary->api.search, err);
}

static void count_done(kith_api_count_call *call, kith_status status, uint64_t count,
    const kith_api_coverage *coverage, const kith_err *err) {
    kith_grpc_unary *unary = kith_grpc_unary_of(call);
    if (status == KITH_OK) {
        kith_codec_coverage copy = coverage_of(coverage, &unary->arena);
        kith_codec_count_response_encode(count, &copy, &unary->reply);
    }
    kith_grpc_unary_answer(unary, status, err);
}

KITH_GRPC_START(count) {
    kith_codec_count_request request;
    kith_status status = kith_codec_count_request_decode(data, bytes, &unary->arena, &request, err);
    if (status != KITH_OK) return status;
    unary->api.count = (kith_api_count_call){.call = kith_grpc_unary_api_call(unary),
        .collection = request.collection,
        .collection_bytes = strlen(request.collection),
        .promise = request.promise,
        .done = count_done};
    return kith_api_count(unary->base.thread->server->options.api, &unary->api.count, err);
}
