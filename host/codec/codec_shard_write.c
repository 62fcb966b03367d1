/* Writes and counts between nodes. */
#include "host/codec/codec_shard_common.h"

/* --- write --- */

void kith_codec_shard_write_request_encode(const kith_codec_shard_write_request *request, kith_buf *buf) {
    kith_buf_reserve(buf, request->op_bytes + 64);
    kith_wire_u64(buf, 1, request->collection_id);
    kith_wire_u64(buf, 6, request->map_version);
    kith_wire_u64(buf, 2, request->shard_id);
    kith_wire_bytes(buf, 3, request->request_id.client, sizeof request->request_id.client);
    kith_wire_u64(buf, 4, request->request_id.number);
    kith_wire_bytes(buf, 5, request->op, request->op_bytes);
}

kith_status kith_codec_shard_write_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_write_request *request_out, kith_err *err) {
    const Kith__Internal__V1__ShardWriteRequest *message = kith_codec_unpack(
        &kith__internal__v1__shard_write_request__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_shard_write_request request = {.collection_id = message->collection_id,
        .map_version = message->map_version,
        .shard_id = message->shard_id,
        .request_id = {.number = message->number},
        .op = message->op.data,
        .op_bytes = message->op.len};
    if (message->client.len != 0 && message->client.len != sizeof request.request_id.client) {
        return kith_err_set(
            err, KITH_INTERNAL, "client: %zu bytes; 0 or 16 are allowed", message->client.len);
    }
    if (message->op.len == 0) return kith_err_set(err, KITH_INTERNAL, "op: 0 bytes; at least 1 is needed");
    if (message->client.len > 0) memcpy(request.request_id.client, message->client.data, message->client.len);
    *request_out = request;
    return KITH_OK;
}

void kith_codec_shard_write_response_encode(const kith_codec_shard_write_response *response, kith_buf *buf) {
    kith_wire_u64(buf, 1, response->shard_id);
    kith_wire_u64(buf, 2, response->epoch);
    kith_wire_u64(buf, 3, response->sequence);
    kith_wire_u64(buf, 4, response->points_changed);
    kith_wire_u64(buf, 5, response->repeated);
}

kith_status kith_codec_shard_write_response_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_write_response *response_out, kith_err *err) {
    const Kith__Internal__V1__ShardWriteResponse *message = kith_codec_unpack(
        &kith__internal__v1__shard_write_response__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    *response_out = (kith_codec_shard_write_response){.shard_id = message->shard_id,
        .epoch = message->epoch,
        .sequence = message->sequence,
        .points_changed = message->points_changed,
        .repeated = message->repeated_write};
    return KITH_OK;
}

/* --- count --- */

void kith_codec_shard_count_request_encode(const kith_codec_shard_count_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->collection_id);
    kith_wire_u64(buf, 3, request->map_version);
    kith_wire_u64_array(buf, 2, request->shard_ids, request->shard_count);
    kith_wire_u64(buf, 4, request->read);
    kith_codec_shard_tokens_encode(request->tokens, request->shard_count, 5, buf);
}

kith_status kith_codec_shard_count_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_count_request *request_out, kith_err *err) {
    const Kith__Internal__V1__ShardCountRequest *message = kith_codec_unpack(
        &kith__internal__v1__shard_count_request__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_shard_count_request request = {
        .collection_id = message->collection_id, .map_version = message->map_version, .read = message->read};
    kith_status status =
        kith_codec_shard_numbers_decode(message->shard_ids, &request.shard_ids, &request.shard_count, err);
    if (status == KITH_OK) {
        status = kith_codec_shard_tokens_decode(
            message->read, message->tokens, request.shard_count, &request.tokens, err);
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}

static void stats_encode(const kith_codec_shard_stats *stats, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 1);
    kith_codec_shard_status_encode(&stats->health, 1, buf);
    kith_wire_u64(buf, 2, stats->points);
    kith_wire_u64(buf, 3, stats->dead_rows);
    kith_wire_u64(buf, 4, stats->segments);
    kith_wire_u64(buf, 5, stats->segments_sealed);
    kith_wire_u64(buf, 6, stats->vector_bytes);
    kith_wire_u64(buf, 7, stats->applied_sequence);
    kith_wire_u64(buf, 8, stats->sealed_sequence);
    kith_wire_close(buf, mark);
}

void kith_codec_shard_count_response_encode(const kith_codec_shard_count_response *response, kith_buf *buf) {
    for (uint32_t i = 0; i < response->shard_count; i++)
        stats_encode(&response->shards[i], buf);
}

static kith_status stats_decode(const Kith__Internal__V1__ShardStats *message, kith_arena *arena,
    kith_codec_shard_stats *stats_out, kith_err *err) {
    if (!message->health) return kith_err_set(err, KITH_INTERNAL, "health: missing");
    *stats_out = (kith_codec_shard_stats){.points = message->points,
        .dead_rows = message->dead_rows,
        .segments = message->segments,
        .segments_sealed = message->segments_sealed,
        .vector_bytes = message->vector_bytes,
        .applied_sequence = message->applied_sequence,
        .sealed_sequence = message->sealed_sequence};
    return kith_codec_shard_status_decode(message->health, arena, &stats_out->health, err);
}

kith_status kith_codec_shard_count_response_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_count_response *response_out, kith_err *err) {
    const Kith__Internal__V1__ShardCountResponse *message = kith_codec_unpack(
        &kith__internal__v1__shard_count_response__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    if (message->n_shards > KITH_SHARDS_MAX) {
        return kith_err_set(
            err, KITH_INTERNAL, "shards: %zu; at most %u are allowed", message->n_shards, KITH_SHARDS_MAX);
    }
    kith_codec_shard_stats *shards = kith_arena_array(arena, message->n_shards, sizeof *shards);
    for (size_t i = 0; i < message->n_shards; i++) {
        kith_status status = stats_decode(message->shards[i], arena, &shards[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "shards[%zu]", i);
    }
    response_out->shards = shards;
    response_out->shard_count = (uint32_t)message->n_shards;
    return KITH_OK;
}
