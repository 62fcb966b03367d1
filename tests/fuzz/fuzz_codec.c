/* Bytes as every message that a client, a peer or a file may hold: decoding never crashes, and what a peer or a file may
 * hold and decodes is the same after it was encoded and decoded again. The first byte says which message the rest is. */
#include <string.h>

#include "host/base/assert.h"
#include "host/base/text.h"
#include "host/codec/codec_client.h"
#include "host/codec/codec_cluster.h"
#include "host/codec/codec_cluster_api.h"
#include "host/codec/codec_collections.h"
#include "host/codec/codec_health.h"
#include "host/codec/codec_internal.h"
#include "host/codec/codec_meta.h"
#include "host/codec/codec_points.h"
#include "host/codec/codec_reflection.h"
#include "host/codec/codec_replica.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct input {
    const uint8_t *data;
    size_t bytes;
    kith_arena *arena;
    kith_buf *again; /* what decoded, encoded */
    kith_err *err;
} input;

/* --- clients: ids and columns are walked, so that a wrong length is found --- */

static volatile uint64_t walked;

static void walk_bytes(const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        walked += ((const uint8_t *)data)[i];
}

static void walk_ids(const kith_id *ids, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        walked += kith_id_hash(&ids[i]);
}

static void fuzz_upsert(input *in) {
    kith_codec_upsert_request request;
    if (kith_codec_upsert_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    walk_bytes(request.collection, strlen(request.collection));
    walk_ids(request.ids, request.point_count);
    for (uint32_t c = 0; c < request.column_count; c++) {
        walk_bytes(request.columns[c].values, request.columns[c].values_bytes);
        walk_bytes(request.columns[c].present, request.columns[c].present_bytes);
    }
    for (uint32_t i = 0; request.payloads && i < request.point_count; i++) {
        walk_bytes(request.payloads[i], request.payload_bytes[i]);
    }
}

static void fuzz_delete(input *in) {
    kith_codec_delete_request request;
    if (kith_codec_delete_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    walk_ids(request.ids, request.id_count);
}

static void fuzz_get(input *in) {
    kith_codec_get_request request;
    if (kith_codec_get_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK) return;
    walk_ids(request.ids, request.id_count);
}

static void fuzz_scroll(input *in) {
    kith_codec_scroll_request request;
    if (kith_codec_scroll_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    if (request.has_from) walk_ids(&request.from, 1);
}

static void fuzz_search(input *in) {
    kith_codec_search_request request;
    if (kith_codec_search_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    walk_bytes(request.queries, request.queries_bytes);
}

static void fuzz_count(input *in) {
    kith_codec_count_request request;
    (void)!kith_codec_count_request_decode(in->data, in->bytes, in->arena, &request, in->err);
}

static void fuzz_create(input *in) {
    kith_codec_create_request request;
    if (kith_codec_create_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    (void)!kith_schema_check(&request.schema, in->err);
}

static void fuzz_named(input *in) {
    kith_codec_name_request request;
    (void)!kith_codec_get_collection_request_decode(in->data, in->bytes, in->arena, &request, in->err);
    (void)!kith_codec_delete_collection_request_decode(in->data, in->bytes, in->arena, &request, in->err);
    kith_codec_update_request update;
    (void)!kith_codec_update_request_decode(in->data, in->bytes, in->arena, &update, in->err);
    (void)!kith_codec_list_request_decode(in->data, in->bytes, in->arena, in->err);
}

static void fuzz_health(input *in) {
    const char *service;
    (void)!kith_codec_health_request_decode(in->data, in->bytes, in->arena, &service, in->err);
}

static void fuzz_reflection(input *in) {
    (void)!kith_codec_reflection_answer(in->data, in->bytes, in->arena, in->again, in->err);
}

/* --- answers, as a client reads them --- */

static void fuzz_client_hits(input *in) {
    kith_codec_client_hits hits;
    if (kith_codec_client_search_decode(in->data, in->bytes, in->arena, &hits, in->err) != KITH_OK) return;
    walk_ids(hits.ids, hits.hit_count);
    walk_bytes(hits.scores, hits.hit_count * sizeof *hits.scores);
}

static void fuzz_client_points(input *in) {
    kith_codec_client_points points;
    if (kith_codec_client_scroll_decode(in->data, in->bytes, in->arena, &points, in->err) != KITH_OK) return;
    for (uint32_t i = 0; i < points.count; i++) {
        walk_ids(&points.points[i].id, 1);
        walk_bytes(points.points[i].payload, points.points[i].payload_bytes);
    }
}

static void fuzz_client_collections(input *in) {
    kith_codec_client_collection *collections;
    uint32_t count;
    (void)!kith_codec_client_list_decode(in->data, in->bytes, in->arena, &collections, &count, in->err);
}

/* --- peers --- */

/* Encoding what was decoded, and that again, gives the same bytes. `...`: the arena, where decoding takes one. */
#define FUZZ_AGAIN(name, ...)                                                                                \
    static void fuzz_##name(input *in) {                                                                     \
        kith_codec_##name first, second;                                                                     \
        if (kith_codec_##name##_decode(in->data, in->bytes, ##__VA_ARGS__, &first, in->err) != KITH_OK)      \
            return;                                                                                          \
        kith_codec_##name##_encode(&first, in->again);                                                       \
        size_t once_bytes = in->again->bytes;                                                                \
        kith_status status =                                                                                 \
            kith_codec_##name##_decode(in->again->data, once_bytes, ##__VA_ARGS__, &second, in->err);        \
        kith_assert(status == KITH_OK);                                                                      \
        kith_codec_##name##_encode(&second, in->again);                                                      \
        kith_assert(in->again->bytes == 2 * once_bytes);                                                     \
        if (once_bytes > 0)                                                                                  \
            kith_assert(memcmp(in->again->data, in->again->data + once_bytes, once_bytes) == 0);             \
    }
#define FUZZ_PEER(name) FUZZ_AGAIN(name, in->arena)
FUZZ_PEER(shard_search_request)
FUZZ_PEER(shard_search_response)
FUZZ_PEER(shard_write_request)
FUZZ_PEER(shard_write_response)
FUZZ_PEER(shard_read_request)
FUZZ_PEER(shard_count_request)
FUZZ_PEER(shard_count_response)
FUZZ_PEER(meta_command)
FUZZ_PEER(meta_snapshot)
FUZZ_PEER(heartbeat)
FUZZ_PEER(heartbeat_reply)
FUZZ_PEER(propose_reply)
FUZZ_PEER(coordinator_request)
FUZZ_PEER(coordinator_reply)
FUZZ_PEER(append_request)
FUZZ_AGAIN(append_reply)
FUZZ_AGAIN(fetch_request)
FUZZ_AGAIN(digest_request)
FUZZ_PEER(digest_reply)

/* It borrows the message, which so must not grow. */
static void fuzz_fetch_reply(input *in) {
    kith_codec_fetch_reply first, second;
    if (kith_codec_fetch_reply_decode(in->data, in->bytes, &first, in->err) != KITH_OK) return;
    walk_bytes(first.data, first.bytes);
    kith_codec_fetch_reply_encode(&first, in->again);
    kith_status status = kith_codec_fetch_reply_decode(in->again->data, in->again->bytes, &second, in->err);
    kith_assert(status == KITH_OK);
    kith_assert(second.snapshot_id == first.snapshot_id && second.total_bytes == first.total_bytes);
    kith_assert(second.offset == first.offset && second.bytes == first.bytes);
    kith_assert(memcmp(second.data, first.data, first.bytes) == 0);
}

static void fuzz_shard_read_response(input *in) {
    static const kith_schema schema = {
        .field_count = 2, .fields = {{.dim = 3, .type = KITH_TYPE_F32}, {.dim = 5, .type = KITH_TYPE_I8}}};
    kith_codec_shard_read_response response;
    if (kith_codec_shard_read_response_decode(in->data, in->bytes, &schema, in->arena, &response, in->err) !=
        KITH_OK) {
        return;
    }
    for (uint32_t i = 0; i < response.count; i++) {
        const kith_codec_shard_point *point = &response.points[i];
        walk_ids(&point->id, 1);
        for (uint32_t f = 0; f < 2; f++) {
            if (point->vectors[f]) walk_bytes(point->vectors[f], kith_field_vector_bytes(&schema.fields[f]));
        }
    }
    if (response.has_next) walk_ids(&response.next, 1);
    kith_codec_shard_read_response_encode(&response, &schema, in->again);
}

static void fuzz_map_version(input *in) {
    uint64_t first, second;
    if (kith_codec_map_version_decode(in->data, in->bytes, &first, in->err) != KITH_OK) return;
    kith_codec_map_version_encode(first, in->again);
    kith_status status = kith_codec_map_version_decode(in->again->data, in->again->bytes, &second, in->err);
    kith_assert(status == KITH_OK);
    kith_assert(first == second);
}

/* --- the cluster, asked for by clients and answered to them --- */

static void fuzz_cluster_request(input *in) {
    kith_codec_cluster_request request;
    kith_status status =
        kith_codec_cluster_request_decode(in->data, in->bytes, "node", in->arena, &request, in->err);
    if (status == KITH_OK) walk_bytes(request.text, strlen(request.text));
}

static void fuzz_cluster_loss_request(input *in) {
    kith_codec_cluster_request request;
    if (kith_codec_cluster_loss_request_decode(in->data, in->bytes, in->arena, &request, in->err) != KITH_OK)
        return;
    walk_bytes(request.text, strlen(request.text));
    walk_bytes(request.node, strlen(request.node));
}

typedef kith_codec_coordinator_node kith_codec_cluster_node;
FUZZ_PEER(cluster_status)
FUZZ_PEER(cluster_shards)
FUZZ_PEER(cluster_join)
FUZZ_PEER(cluster_node)
FUZZ_PEER(cluster_shard)

/* What a client prints of it is JSON. */
#define FUZZ_JSON(name)                                                                                      \
    static void fuzz_##name##_json(input *in) {                                                              \
        kith_codec_##name read;                                                                              \
        if (kith_codec_##name##_decode(in->data, in->bytes, in->arena, &read, in->err) != KITH_OK) return;   \
        kith_codec_##name##_json(&read, in->again);                                                          \
        kith_status status =                                                                                 \
            kith_text_json_check((const char *)in->again->data, in->again->bytes, 16, true, in->err);        \
        kith_assert(status == KITH_OK);                                                                      \
    }
FUZZ_JSON(cluster_status)
FUZZ_JSON(cluster_shards)
FUZZ_JSON(cluster_join)
FUZZ_JSON(cluster_shard)

/* In the order of tests/fuzz/make_codec_corpus.py; append only. */
static void (*const targets[])(input *in) = {fuzz_upsert, fuzz_delete, fuzz_get, fuzz_scroll, fuzz_search,
    fuzz_count, fuzz_create, fuzz_named, fuzz_health, fuzz_reflection, fuzz_client_hits, fuzz_client_points,
    fuzz_client_collections, fuzz_shard_search_request, fuzz_shard_search_response, fuzz_shard_write_request,
    fuzz_shard_write_response, fuzz_shard_read_request, fuzz_shard_read_response, fuzz_shard_count_request,
    fuzz_shard_count_response, fuzz_meta_command, fuzz_meta_snapshot, fuzz_heartbeat, fuzz_heartbeat_reply,
    fuzz_propose_reply, fuzz_coordinator_request, fuzz_coordinator_reply, fuzz_map_version,
    fuzz_cluster_request, fuzz_cluster_status, fuzz_cluster_shards, fuzz_cluster_join, fuzz_cluster_node,
    fuzz_cluster_status_json, fuzz_cluster_shards_json, fuzz_cluster_join_json, fuzz_append_request,
    fuzz_append_reply, fuzz_fetch_request, fuzz_fetch_reply, fuzz_digest_request, fuzz_digest_reply,
    fuzz_cluster_loss_request, fuzz_cluster_shard, fuzz_cluster_shard_json};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    kith_arena arena;
    kith_buf again;
    kith_err err;
    kith_arena_init(&arena);
    kith_buf_init(&again);
    input in = {.data = data + 1, .bytes = bytes - 1, .arena = &arena, .again = &again, .err = &err};
    targets[data[0] % (sizeof targets / sizeof targets[0])](&in);
    kith_buf_fini(&again);
    kith_arena_fini(&arena);
    return 0;
}
