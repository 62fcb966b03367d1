/* A plan asks each shard once, through a replica that may answer and was not tried, one message a node. */
#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "host/query/query_plan.h"
#include "tests/lib/test_lib.h"

enum { NODES_MAX = 9, SHARDS_MAX = 300 };

typedef struct world {
    kith_rng rng;
    kith_arena arena;
    kith_node nodes[NODES_MAX];
    kith_query_node_load loads[NODES_MAX];
    kith_meta_shard shards[SHARDS_MAX];
    kith_query_plan_want wants[SHARDS_MAX];
    kith_meta_map *map;
    kith_query_plan_options options;
} world;

static void shard_draw(world *w, kith_meta_shard *shard, uint32_t node_count) {
    uint32_t width = 1 + (uint32_t)kith_rng_below(&w->rng, node_count < 4 ? node_count : 4);
    uint32_t first = (uint32_t)kith_rng_below(&w->rng, node_count);
    *shard = (kith_meta_shard){.epoch = 1, .replica_count = (uint8_t)width};
    shard->in_sync = (uint8_t)((kith_rng_next(&w->rng) & ((1u << width) - 1)) | 1);
    for (uint32_t r = 0; r < width; r++)
        shard->replicas[r] = 1 + (first + r) % node_count;
}

static void world_draw(world *w) {
    uint32_t node_count = 1 + (uint32_t)kith_rng_below(&w->rng, NODES_MAX);
    uint32_t shard_count = 1 + (uint32_t)kith_rng_below(&w->rng, SHARDS_MAX);
    for (uint32_t n = 0; n < node_count; n++) {
        w->nodes[n] = (kith_node){.number = n + 1, .down = kith_rng_below(&w->rng, 4) == 0};
        w->loads[n].in_flight = (uint32_t)kith_rng_below(&w->rng, 9);
        w->loads[n].shard_ns = kith_rng_below(&w->rng, 1000000);
    }
    for (uint32_t s = 0; s < shard_count; s++) {
        shard_draw(w, &w->shards[s], node_count);
        w->wants[s] = (kith_query_plan_want){.shard_index = s};
        if (kith_rng_below(&w->rng, 2) == 0) w->wants[s].tried = (uint8_t)kith_rng_below(&w->rng, 16);
    }
    kith_meta_collection collection = {
        .collection = {.id = 1, .name = "c", .shard_count = shard_count, .shard_id_first = 77},
        .shards = w->shards};
    const kith_meta_collection *collections[] = {&collection};
    kith_meta_map_release(w->map);
    w->map = kith_meta_map_create(1, w->nodes, node_count, collections, 1, NULL);
    w->options = (kith_query_plan_options){
        .map = w->map,
        .entry = w->map->entries[0],
        .read = (kith_read_consistency)kith_rng_below(&w->rng, KITH_READ_TOKEN + 1),
        .loads = kith_rng_below(&w->rng, 2) ? w->loads : NULL,
        .seed = kith_rng_next(&w->rng),
        .is_apart = kith_rng_below(&w->rng, 2),
        .wants = w->wants,
        .want_count = shard_count,
    };
}

static bool may_answer(const world *w, uint32_t shard, uint32_t replica) {
    const kith_meta_shard *of = &w->shards[shard];
    if (replica >= of->replica_count || w->wants[shard].tried >> replica & 1) return false;
    if (w->options.read == KITH_READ_PRIMARY) return replica == 0;
    return w->options.read != KITH_READ_IN_SYNC || of->in_sync >> replica & 1;
}

static bool is_up(const world *w, uint32_t shard, uint32_t replica) {
    return !w->nodes[w->shards[shard].replicas[replica] - 1].down;
}

static bool is_in_sync(const world *w, uint32_t shard, uint32_t replica) {
    return w->shards[shard].in_sync >> replica & 1;
}

/* NONE only where nobody may; never one that is down beside one that is up, and of those none that is not in sync beside one that is. */
static void choice_check(const world *w, uint32_t shard, uint32_t chosen) {
    bool some = false, some_up = false, some_in_sync = false;
    for (uint32_t r = 0; r < w->shards[shard].replica_count; r++) {
        some |= may_answer(w, shard, r);
        some_up |= may_answer(w, shard, r) && is_up(w, shard, r);
        some_in_sync |= may_answer(w, shard, r) && is_up(w, shard, r) && is_in_sync(w, shard, r);
    }
    assert_int_equal(some, chosen != KITH_QUERY_REPLICA_NONE);
    assert_int_equal(some, kith_query_plan_has_other(&w->options, &w->wants[shard]));
    if (!some) return;
    assert_true(may_answer(w, shard, chosen));
    if (some_up) assert_true(is_up(w, shard, chosen));
    if (some_in_sync) assert_true(is_in_sync(w, shard, chosen));
}

static void plan_check(const world *w, const kith_query_plan *plan) {
    uint32_t seen = 0, chosen = 0;
    for (uint32_t i = 0; i < w->options.want_count; i++) {
        choice_check(w, i, plan->replicas[i]);
        chosen += plan->replicas[i] != KITH_QUERY_REPLICA_NONE;
    }
    for (uint32_t m = 0; m < plan->message_count; m++) {
        const kith_query_plan_message *message = &plan->messages[m];
        assert_true(w->options.is_apart ? message->want_count == 1 : message->want_count > 0);
        if (!w->options.is_apart && m > 0)
            assert_true(plan->messages[m - 1].node_index < message->node_index);
        for (uint32_t i = 0; i < message->want_count; i++) {
            uint32_t want = message->wants[i];
            assert_true(i == 0 || message->wants[i - 1] < want);
            assert_int_equal(w->shards[want].replicas[plan->replicas[want]], message->node_index + 1);
        }
        seen += message->want_count;
    }
    assert_int_equal(seen, chosen);
}

static world *world_begin(void) {
    world *w = kith_alloc_zero(sizeof *w);
    kith_rng_init(&w->rng, test_seed(5));
    kith_arena_init(&w->arena);
    return w;
}

static void world_end(world *w) {
    kith_meta_map_release(w->map);
    kith_arena_fini(&w->arena);
    kith_free(w);
}

static void test_query_plan__every_shard_once_through_a_replica_that_may_answer(void **unused) {
    (void)unused;
    world *w = world_begin();
    for (uint64_t round = 0; round < test_scaled(500); round++) {
        kith_query_plan plan;
        world_draw(w);
        kith_query_plan_make(&w->options, &w->arena, &plan);
        plan_check(w, &plan);
        kith_arena_reset(&w->arena);
    }
    world_end(w);
}

/* Twelve shards with copies on all of three idle nodes. */
static uint32_t messages_of(world *w, uint64_t shard_ns) {
    kith_query_plan plan;
    kith_meta_collection collection = {
        .collection = {.id = 1, .name = "c", .shard_count = 12, .shard_id_first = 77}, .shards = w->shards};
    const kith_meta_collection *collections[] = {&collection};
    for (uint32_t s = 0; s < 12; s++) {
        w->shards[s] = (kith_meta_shard){.epoch = 1, .replica_count = 3, .in_sync = 7, .replicas = {1, 2, 3}};
        w->wants[s] = (kith_query_plan_want){.shard_index = s};
    }
    for (uint32_t n = 0; n < 3; n++) {
        w->nodes[n] = (kith_node){.number = n + 1};
        w->loads[n] = (kith_query_node_load){.shard_ns = shard_ns};
    }
    kith_meta_map_release(w->map);
    w->map = kith_meta_map_create(1, w->nodes, 3, collections, 1, NULL);
    w->options = (kith_query_plan_options){.map = w->map,
        .entry = w->map->entries[0],
        .loads = w->loads,
        .seed = kith_rng_next(&w->rng),
        .wants = w->wants,
        .want_count = 12};
    kith_query_plan_make(&w->options, &w->arena, &plan);
    return plan.message_count;
}

static void test_query_plan__cheap_shards_take_one_message_dear_ones_are_shared(void **unused) {
    (void)unused;
    world *w = world_begin();
    for (uint32_t round = 0; round < 100; round++) {
        assert_int_equal(messages_of(w, 2000), 1);
        assert_int_equal(messages_of(w, 2000000), 2); /* of the two that were drawn */
    }
    world_end(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_plan__every_shard_once_through_a_replica_that_may_answer),
        cmocka_unit_test(test_query_plan__cheap_shards_take_one_message_dear_ones_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
