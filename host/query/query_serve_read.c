/* Reads and counts on this node. What was read is encoded while it is lent, on the search thread that ended the read. */
#include <string.h>

#include "host/query/query_serve_internal.h"

static void read_encode(
    serve_request *own, const kith_shard_point *points, uint32_t count, const kith_id *next) {
    kith_codec_shard_point *copies = kith_arena_array(&own->arena, count, sizeof *copies);
    for (uint32_t i = 0; i < count; i++) {
        copies[i] = (kith_codec_shard_point){
            .id = points[i].id,
            .sequence = points[i].sequence,
            .payload = points[i].payload,
            .payload_bytes = points[i].payload_bytes,
            .field_mask = points[i].field_mask,
        };
        memcpy(copies[i].vectors, points[i].vectors, sizeof copies[i].vectors);
    }
    kith_codec_shard_read_response response = {.points = copies, .count = count, .has_next = next != NULL};
    if (next) response.next = *next;
    kith_codec_shard_read_response_encode(&response, kith_shard_schema(own->shard), &own->reply);
}

static void read_done(kith_shard_read *read, kith_status status, const kith_shard_point *points,
    uint32_t count, const kith_id *next, const kith_err *err) {
    serve_request *own = (serve_request *)(void *)((char *)read - offsetof(serve_request, read));
    if (status == KITH_OK) read_encode(own, points, count, next);
    serve_request_answer(own, status, err);
}

static void read_start(serve_request *own, const kith_codec_shard_read_request *decoded) {
    own->read = (kith_shard_read){
        .kind = decoded->kind == KITH_CODEC_READ_GET ? KITH_READ_GET : KITH_READ_SCROLL,
        .ids = decoded->ids,
        .id_count = decoded->id_count,
        .has_from = decoded->has_from,
        .from = decoded->from,
        .limit = decoded->limit,
        .with_payload = decoded->with_payload,
        .with_vectors = decoded->with_vectors,
        .bytes_max = decoded->bytes_max,
        .deadline_ns = own->request->deadline_ns,
        .cancelled = own->request->cancelled,
        .done = read_done,
    };
    kith_shard_read_start(own->shard, &own->read);
}

static void read_ready(serve_waits *waits) {
    serve_request *own = waits->own;
    const kith_codec_shard_read_request *decoded = waits->ctx;
    kith_err err;
    kith_status status = serve_wait_status(waits, 0, &err);
    serve_waits_free(waits);
    if (status == KITH_OK) status = serve_shard_find(own->serve, decoded->shard_id, &own->shard, &err);
    if (status == KITH_OK)
        read_start(own, decoded);
    else
        serve_request_answer(own, status, &err);
}

void serve_read(void *ctx, kith_transport_request *request) {
    serve_request *own = serve_request_begin(ctx, request);
    kith_codec_shard_read_request *decoded = kith_arena_alloc_zero(&own->arena, sizeof *decoded);
    kith_err err;
    kith_status status =
        kith_codec_shard_read_request_decode(request->bytes, request->byte_count, &own->arena, decoded, &err);
    if (status != KITH_OK) {
        serve_request_answer(own, status, &err);
        return;
    }
    if (serve_map_await(own, decoded->map_version, &decoded->shard_id, 1, serve_read)) return;
    serve_waits_start(own,
        &(serve_wait_request){.shard_ids = &decoded->shard_id,
            .shard_count = 1,
            .read = decoded->read,
            .tokens = decoded->read == KITH_CODEC_READ_OF_TOKEN ? &decoded->token : NULL,
            .ctx = decoded},
        read_ready);
}

static void shard_count(
    const serve_waits *waits, uint32_t index, uint64_t shard_id, kith_codec_shard_stats *stats) {
    serve_request *own = waits->own;
    kith_err err = {0};
    kith_shard *shard;
    kith_shard_stats read;
    *stats = (kith_codec_shard_stats){.health = {.shard_id = shard_id, .message = ""}};
    stats->health.status = serve_wait_status(waits, index, &err);
    if (stats->health.status == KITH_OK)
        stats->health.status = serve_shard_find(own->serve, shard_id, &shard, &err);
    if (stats->health.status == KITH_OK) {
        stats->health.status = kith_shard_health(shard, &err);
        kith_shard_stats_read(shard, &read);
        kith_shard_set_release(own->serve->options.shards, shard);
        stats->points = read.points;
        stats->dead_rows = read.dead_rows;
        stats->segments = read.segments;
        stats->segments_sealed = read.segments_sealed;
        stats->vector_bytes = read.vector_bytes;
        stats->applied_sequence = read.applied_sequence;
        stats->sealed_sequence = read.sealed_sequence;
    }
    if (stats->health.status != KITH_OK) {
        stats->health.message = kith_arena_text(&own->arena, err.text, strlen(err.text));
    }
}

static void count_ready(serve_waits *waits) {
    serve_request *own = waits->own;
    const kith_codec_shard_count_request *decoded = waits->ctx;
    kith_codec_shard_stats *stats = kith_arena_array(&own->arena, decoded->shard_count, sizeof *stats);
    for (uint32_t i = 0; i < decoded->shard_count; i++)
        shard_count(waits, i, decoded->shard_ids[i], &stats[i]);
    serve_waits_free(waits);
    kith_codec_shard_count_response response = {.shards = stats, .shard_count = decoded->shard_count};
    kith_codec_shard_count_response_encode(&response, &own->reply);
    serve_request_answer(own, KITH_OK, NULL);
}

void serve_count(void *ctx, kith_transport_request *request) {
    serve_request *own = serve_request_begin(ctx, request);
    kith_codec_shard_count_request *decoded = kith_arena_alloc_zero(&own->arena, sizeof *decoded);
    kith_err err;
    kith_status status = kith_codec_shard_count_request_decode(
        request->bytes, request->byte_count, &own->arena, decoded, &err);
    if (status != KITH_OK) {
        serve_request_answer(own, status, &err);
        return;
    }
    if (serve_map_await(own, decoded->map_version, decoded->shard_ids, decoded->shard_count, serve_count))
        return;
    serve_waits_start(own,
        &(serve_wait_request){.shard_ids = decoded->shard_ids,
            .shard_count = decoded->shard_count,
            .read = decoded->read,
            .tokens = decoded->tokens,
            .ctx = decoded},
        count_ready);
}
