/* The api's test double. A held call is a task that posts itself again until it is released or cancelled. */
#include "tests/unit/grpc/grpc_fake_api.h"

#include <stdio.h>
#include <string.h>

#include "host/api/api_cluster.h"
#include "host/base/alloc.h"

struct fake_held {
    kith_task task;
    kith_api *api;
    kith_api_call *call;
    void (*answer)(kith_api *api, void *call, kith_status status, const kith_err *err);
};

kith_api *fake_api_create(kith_env *env) {
    kith_api *api = kith_alloc_zero(sizeof *api);
    kith_err err;
    api->env = env;
    api->hits = 3;
    if (kith_executor_create(env, "fake-api", 1, &api->executor, &err) != KITH_OK) return NULL;
    return api;
}

void fake_api_destroy(kith_api *api) {
    kith_executor_destroy(api->executor);
    kith_free(api);
}

static void fake_run(kith_task *task) {
    fake_held *held = (fake_held *)task;
    kith_api *api = held->api;
    kith_err err = {0};
    kith_status status = (kith_status)atomic_load(&api->status);
    if (api->mode == FAKE_HOLD && !atomic_load(&api->released)) {
        if (!atomic_load(&held->call->cancelled)) {
            kith_executor_post(api->executor, task);
            return;
        }
        atomic_fetch_add(&api->cancelled, 1);
        atomic_fetch_sub(&api->held_count, 1);
        held->answer(api, held->call, kith_err_set(&err, KITH_CANCELLED, "cancelled"), &err);
        return;
    }
    if (api->mode == FAKE_HOLD) atomic_fetch_sub(&api->held_count, 1);
    if (api->mode == FAKE_FAIL) (void)kith_err_set(&err, status, "%s", api->message);
    held->answer(api, held->call, api->mode == FAKE_FAIL ? status : KITH_OK, &err);
}

static kith_status fake_start(kith_api *api, kith_api_call *call, kith_err *err,
    void (*answer)(kith_api *api, void *call, kith_status status, const kith_err *err)) {
    void (*hook)(void *ctx) = api->hook;
    if (hook) hook(api->hook_ctx);
    atomic_fetch_add(&api->calls, 1);
    if (api->mode == FAKE_REFUSE) return kith_err_set(err, (kith_status)api->status, "%s", api->message);
    if (api->mode == FAKE_INLINE) {
        answer(api, call, KITH_OK, NULL);
        return KITH_OK;
    }
    if (api->mode == FAKE_HOLD) atomic_fetch_add(&api->held_count, 1);
    fake_held *held = kith_arena_alloc(call->arena, sizeof *held);
    *held = (fake_held){.task.run = fake_run, .api = api, .call = call, .answer = answer};
    kith_executor_post(api->executor, &held->task);
    return KITH_OK;
}

/* --- collections --- */

static kith_collection fake_collection(void) {
    kith_collection collection = {.id = 7,
        .name = "c",
        .shard_count = 2,
        .created_wall_ms = 99,
        .replication_factor = 3,
        .min_in_sync = 2,
        .durability = KITH_DURABILITY_ASYNC};
    collection.schema.field_count = 1;
    collection.schema.fields[0] = (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F16};
    return collection;
}

static void collection_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    (void)api;
    kith_api_collection_call *call = pointer;
    kith_api_collection_info info = {.collection = fake_collection(), .points = 5, .health = "ok"};
    call->done(call, status, &info, status == KITH_OK ? 1 : 0, err);
}

static kith_status collection_start(
    kith_api *api, const char *what, kith_api_collection_call *call, kith_err *err) {
    snprintf(api->asked, sizeof api->asked,
        "%s %s fields=%u shards=%u replicas=%u/%u durability=%d missing_ok=%d", what,
        call->name ? call->name : "-", call->schema.field_count, call->shard_count, call->min_in_sync,
        call->replication_factor, (int)call->durability, call->missing_ok);
    call->changed = true;
    return fake_start(api, &call->call, err, collection_answer);
}

kith_status kith_api_collection_create(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    return collection_start(api, "create", call, err);
}

kith_status kith_api_collection_get(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    return collection_start(api, "get", call, err);
}

kith_status kith_api_collection_list(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    return collection_start(api, "list", call, err);
}

kith_status kith_api_collection_update(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    return collection_start(api, "update", call, err);
}

kith_status kith_api_collection_delete(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    return collection_start(api, "delete", call, err);
}

/* --- the cluster --- */

static void cluster_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    static const kith_codec_coordinator_node node = {
        .heartbeat = {.node = {.name = "n1", .draining = true}, .health = "ok"}};
    static const kith_codec_cluster_status cluster = {
        .standalone = true, .leader_address = "", .problem = "", .nodes = &node, .node_count = 1};
    static const kith_codec_cluster_shards shards = {.map_version = 9};
    static const kith_codec_cluster_join join = {.joined = true};
    static const kith_codec_cluster_shard shard = {.id = 7, .index = 2, .epoch = 5};
    kith_api_cluster_call *call = pointer;
    kith_api_cluster_answer answer = {0};
    switch (api->asked[strlen("cluster ")]) {
    case 's':
        answer.status = &cluster;
        break;
    case 'p':
        answer.shards = &shards;
        break;
    case 'j':
        answer.join = &join;
        break;
    case 'a':
        answer.shard = &shard;
        break;
    default:
        answer.node = &node;
    }
    call->done(call, status, status == KITH_OK ? &answer : NULL, err);
}

static kith_status cluster_start(
    kith_api *api, const char *what, kith_api_cluster_call *call, kith_err *err) {
    snprintf(api->asked, sizeof api->asked, "cluster %s %s draining=%d", what, call->text, call->draining);
    return fake_start(api, &call->call, err, cluster_answer);
}

kith_status kith_api_cluster_status(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    return cluster_start(api, "status", call, err);
}

kith_status kith_api_cluster_shards(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    return cluster_start(api, "places", call, err);
}

kith_status kith_api_cluster_join(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    return cluster_start(api, "join", call, err);
}

kith_status kith_api_cluster_leave(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    return cluster_start(api, "leave", call, err);
}

kith_status kith_api_cluster_drain(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    return cluster_start(api, "drain", call, err);
}

kith_status kith_api_cluster_accept_loss(kith_api *api, kith_api_cluster_call *call, kith_err *err) {
    snprintf(api->asked, sizeof api->asked, "cluster accept-loss %s shard=%u node=%s", call->text,
        call->shard, call->node);
    return fake_start(api, &call->call, err, cluster_answer);
}

/* --- writes --- */

static void write_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    (void)api;
    kith_api_write_call *call = pointer;
    kith_api_token token = {.shard_id = 1, .epoch = 2, .sequence = call->request_id.number};
    call->done(
        call, status, status == KITH_OK ? call->point_count : 0, &token, status == KITH_OK ? 1 : 0, err);
}

static void write_note(kith_api *api, const char *what, const kith_api_write_call *call) {
    int used = snprintf(api->asked, sizeof api->asked, "%s %s points=%u number=%llu first=%llu", what,
        call->collection, call->point_count, (unsigned long long)call->request_id.number,
        (unsigned long long)call->ids[0].number);
    for (uint32_t i = 0; i < call->column_count; i++) {
        used += snprintf(api->asked + used, sizeof api->asked - (size_t)used, " %s:%zu/%zu",
            call->columns[i].field, call->columns[i].values_bytes, call->columns[i].present_bytes);
    }
    if (call->payloads) snprintf(api->asked + used, sizeof api->asked - (size_t)used, " payloads");
}

kith_status kith_api_upsert(kith_api *api, kith_api_write_call *call, kith_err *err) {
    write_note(api, "upsert", call);
    return fake_start(api, &call->call, err, write_answer);
}

kith_status kith_api_delete(kith_api *api, kith_api_write_call *call, kith_err *err) {
    write_note(api, "delete", call);
    return fake_start(api, &call->call, err, write_answer);
}

/* --- reads --- */

static void points_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    static const float vector[4] = {1, 2, 3, 4};
    kith_api_points_call *call = pointer;
    kith_collection collection = fake_collection();
    uint32_t count = call->id_count > 0 ? call->id_count : call->limit;
    kith_api_point *points = kith_arena_array(call->call.arena, count, sizeof *points);
    char *payload = kith_arena_alloc_zero(call->call.arena, api->payload_bytes + 1);
    memset(payload, ' ', api->payload_bytes);
    for (uint32_t i = 0; i < count; i++) {
        points[i] = (kith_api_point){.id = call->id_count > 0 ? call->ids[i] : kith_id_of_number(i)};
        if (call->with_vectors) points[i].vectors[0] = vector;
        if (call->with_payload) points[i].payload = payload;
        if (call->with_payload) points[i].payload_bytes = api->payload_bytes;
    }
    kith_id next = kith_id_of_number(count);
    call->done(call, status, &collection.schema, points, status == KITH_OK ? count : 0,
        call->id_count == 0 ? &next : NULL, err);
}

static kith_status points_start(kith_api *api, const char *what, kith_api_points_call *call, kith_err *err) {
    snprintf(api->asked, sizeof api->asked, "%s %s ids=%u from=%d limit=%u payload=%d vectors=%d", what,
        call->collection, call->id_count, call->has_from ? (int)call->from.number : -1, call->limit,
        call->with_payload, call->with_vectors);
    return fake_start(api, &call->call, err, points_answer);
}

kith_status kith_api_get(kith_api *api, kith_api_points_call *call, kith_err *err) {
    return points_start(api, "get", call, err);
}

kith_status kith_api_scroll(kith_api *api, kith_api_points_call *call, kith_err *err) {
    return points_start(api, "scroll", call, err);
}

static kith_api_coverage fake_coverage(const kith_api *api) {
    static const kith_api_missing missing = {.shard_id = 3, .node = "n1", .reason = "corrupt"};
    if (!api->with_missing) return (kith_api_coverage){.shards_total = 2, .shards_answered = 2};
    return (kith_api_coverage){.shards_total = 2, .shards_answered = 1, .missing = &missing};
}

static void count_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    kith_api_count_call *call = pointer;
    kith_api_coverage coverage = fake_coverage(api);
    call->done(call, status, 12345, &coverage, err);
}

kith_status kith_api_count(kith_api *api, kith_api_count_call *call, kith_err *err) {
    snprintf(
        api->asked, sizeof api->asked, "count %s deadline=%d", call->collection, call->call.deadline_ns != 0);
    return fake_start(api, &call->call, err, count_answer);
}

static kith_id fake_hit_id(const kith_api *api, uint32_t hit) {
    if (!api->with_strings) return kith_id_of_number(hit);
    return (kith_id){.type = KITH_ID_STRING, .text_bytes = 3, .bytes = (const uint8_t *)"abc"};
}

static void search_answer(kith_api *api, void *pointer, kith_status status, const kith_err *err) {
    kith_api_search_call *call = pointer;
    kith_arena *arena = call->call.arena;
    uint32_t query_count = (uint32_t)(call->queries_bytes / 512), hit_count = query_count * api->hits;
    uint32_t *counts = kith_arena_array(arena, query_count, sizeof *counts);
    kith_id *ids = kith_arena_array(arena, hit_count, sizeof *ids);
    float *scores = kith_arena_array(arena, hit_count, sizeof *scores);
    const char **payloads = kith_arena_array(arena, hit_count, sizeof *payloads);
    uint32_t *payload_bytes = kith_arena_array(arena, hit_count, sizeof *payload_bytes);
    char *payload = kith_arena_alloc_zero(arena, api->payload_bytes + 1);
    memset(payload, ' ', api->payload_bytes);
    for (uint32_t i = 0; i < query_count; i++)
        counts[i] = api->hits;
    for (uint32_t i = 0; i < hit_count; i++) {
        ids[i] = fake_hit_id(api, i);
        scores[i] = (float)i / 2;
        payloads[i] = payload;
        payload_bytes[i] = api->payload_bytes;
    }
    kith_api_search_result result = {.query_count = query_count,
        .hit_counts = counts,
        .hit_count = hit_count,
        .ids = ids,
        .scores = scores,
        .payloads = call->with_payload ? payloads : NULL,
        .payload_bytes = payload_bytes,
        .coverage = fake_coverage(api)};
    call->done(call, status, &result, err);
}

kith_status kith_api_search(kith_api *api, kith_api_search_call *call, kith_err *err) {
    snprintf(api->asked, sizeof api->asked, "search %s/%s bytes=%zu k=%u exact=%d payload=%d",
        call->collection, call->field, call->queries_bytes, call->k, call->exact, call->with_payload);
    return fake_start(api, &call->call, err, search_answer);
}

kith_status kith_api_ready(kith_api *api, kith_err *err) {
    kith_status ready = (kith_status)atomic_load(&api->ready);
    return ready == KITH_OK ? KITH_OK : kith_err_set(err, ready, "not ready: %s", api->message);
}

static void refresh_run(kith_task *task) {
    kith_api *api = (kith_api *)((char *)task - offsetof(kith_api, refresh_task));
    atomic_store(&api->mode, FAKE_ANSWER);
    api->refresh->done(api->refresh);
}

bool kith_api_refresh_start(kith_api *api, kith_api_refresh *refresh) {
    if (!atomic_load(&api->refreshes)) return false;
    api->refresh = refresh;
    api->refresh_task.run = refresh_run;
    kith_executor_post(api->executor, &api->refresh_task);
    return true;
}
