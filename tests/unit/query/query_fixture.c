/* The fixture of query_fixture.h. */
#include "tests/unit/query/query_fixture.h"

#include <stdio.h>

#include "tests/lib/test_lib.h"

void query_fixture_init(query_fixture *f, const kith_node *nodes, uint32_t node_count, uint32_t shard_count,
    kith_am_kind kind, void (*handle)(void *ctx, kith_transport_request *message), void *ctx) {
    kith_err err;
    kith_collection collection = {
        .id = 5, .name = "c", .shard_count = shard_count, .shard_id_first = QUERY_FIXTURE_SHARD_FIRST};
    collection.schema.field_count = 1;
    collection.schema.fields[0] = (kith_field){.dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    const kith_meta_collection stored = {.collection = collection}, *collections[] = {&stored};
    f->map = kith_meta_map_create(1, nodes, node_count, collections, 1, NULL);
    assert_ok(kith_env_posix_create(&f->env, &err), &err);
    assert_ok(kith_executor_create(f->env, "nodes", 3, &f->executor, &err), &err);
    assert_ok(kith_transport_loop_create(f->env, 100, &f->transport, &err), &err);
    kith_transport_handle(f->transport, kind, f->executor, handle, ctx);
    kith_mutex_init(&f->mutex, KITH_RANK_LOG);
    kith_cond_init(&f->answered);
    kith_arena_init(&f->arena);
}

void query_fixture_fini(query_fixture *f) {
    kith_executor_destroy(f->executor);
    kith_transport_destroy(f->transport);
    kith_env_posix_destroy(f->env);
    kith_meta_map_release(f->map);
    kith_arena_fini(&f->arena);
    kith_cond_fini(&f->answered);
    kith_mutex_fini(&f->mutex);
}

kith_query_base query_fixture_begin(query_fixture *f) {
    kith_arena_reset(&f->arena);
    f->done = false;
    return (kith_query_base){
        .env = f->env,
        .transport = f->transport,
        .map = f->map,
        .entry = f->map->entries[0],
        .arena = &f->arena,
        .deadline_ns = kith_env_now_ns(f->env) + UINT64_C(30000000000),
    };
}

void query_fixture_answer(query_fixture *f, kith_status status, const kith_err *err) {
    kith_mutex_lock(&f->mutex);
    f->status = status;
    snprintf(f->text, sizeof f->text, "%s", status == KITH_OK ? "" : err->text);
    f->done = true;
    kith_cond_signal(&f->answered);
    kith_mutex_unlock(&f->mutex);
}

kith_status query_fixture_wait(query_fixture *f) {
    kith_mutex_lock(&f->mutex);
    while (!f->done)
        kith_cond_wait(&f->answered, &f->mutex);
    kith_mutex_unlock(&f->mutex);
    return f->status;
}
