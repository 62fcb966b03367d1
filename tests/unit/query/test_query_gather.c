/* Gathering equals merging all lists at once, whatever is kept and however often running lists are merged; and what a search
 * may take is bounded. */
#include <stdlib.h>

#include "host/base/alloc.h"
#include "host/query/query_gather.h"
#include "tests/lib/test_lib.h"

typedef struct gather_shape {
    uint32_t list_count, query_count, k, list_hits_max;
} gather_shape;

static int hit_order(const void *a, const void *b) {
    return kith_hit_compare(a, b);
}

/* A shard's list: sorted, no id twice. Ids come from few numbers, so that shards share them, and closeness from fewer, so
 * that ties abound. */
static kith_hits list_make(kith_rng *rng, uint32_t hits_max, kith_arena *arena) {
    uint32_t count = (uint32_t)kith_rng_below(rng, hits_max + 1);
    kith_hit *hits = kith_arena_array(arena, count, sizeof *hits);
    uint64_t number = kith_rng_below(rng, 50);
    for (uint32_t i = 0; i < count; i++, number += 1 + kith_rng_below(rng, 3)) {
        hits[i] = (kith_hit){
            .closeness = -(double)kith_rng_below(rng, 40 + hits_max / 4), .id = kith_id_of_number(number)};
    }
    qsort(hits, count, sizeof *hits, hit_order);
    return (kith_hits){.hits = hits, .count = count};
}

static void query_compare(
    const gather_shape *shape, kith_hits *const *lists, uint32_t query, const kith_hits *gathered) {
    kith_hits *sources = kith_alloc_array(shape->list_count, sizeof *sources);
    kith_hit *expected = kith_alloc_array(shape->k, sizeof *expected);
    for (uint32_t i = 0; i < shape->list_count; i++)
        sources[i] = lists[i][query];
    uint32_t count = kith_hits_merge(sources, shape->list_count, shape->k, expected);
    assert_int_equal(gathered->count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(gathered->hits[i].closeness == expected[i].closeness);
        assert_int_equal(gathered->hits[i].id.number, expected[i].id.number);
    }
    kith_free(expected);
    kith_free(sources);
}

static void shape_run(kith_rng *rng, const gather_shape *shape) {
    kith_arena arena;
    kith_query_gather gather;
    kith_err err;
    const kith_hits *gathered;
    kith_arena_init(&arena);
    kith_query_gather_init(&gather, shape->query_count, shape->k);
    kith_hits **lists = kith_arena_array(&arena, shape->list_count, sizeof *lists);
    for (uint32_t i = 0; i < shape->list_count; i++) {
        lists[i] = kith_arena_array(&arena, shape->query_count, sizeof *lists[i]);
        for (uint32_t query = 0; query < shape->query_count; query++)
            lists[i][query] = list_make(rng, shape->list_hits_max, &arena);
        assert_ok(kith_query_gather_add(&gather, lists[i], &err), &err);
        assert_true(gather.kept_hit_count <= KITH_QUERY_KEPT_HITS_MAX);
        assert_true(gather.running_capacity <= shape->k);
    }
    assert_ok(kith_query_gather_finish(&gather, &gathered, &err), &err);
    for (uint32_t query = 0; query < shape->query_count; query++)
        query_compare(shape, lists, query, &gathered[query]);
    kith_query_gather_fini(&gather);
    kith_arena_fini(&arena);
}

static void test_query_gather__equals_one_merge_of_all_lists(void **unused) {
    (void)unused;
    static const gather_shape shapes[] = {
        {0, 3, 5, 0},          /* no shard answered */
        {5, 3, 10, 0},         /* nothing found */
        {16, 1, 10, 10},       /* all kept */
        {16, 300, 500, 500},   /* merged with each list or two */
        {40, 20, 700, 700},    /* kept until there are too many */
        {12, 30, 16000, 5000}, /* running lists that grow */
        {300, 1000, 1, 1},     /* many lists of nothing useful */
    };
    kith_rng rng;
    kith_rng_init(&rng, test_seed(11));
    for (uint64_t round = 0; round < test_scaled(3); round++) {
        for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            shape_run(&rng, &shapes[i]);
    }
}

static void test_query_gather__only_so_many_shards_at_once(void **unused) {
    (void)unused;
    assert_int_equal(kith_query_lane_count(10, 16), 16);
    assert_int_equal(kith_query_lane_count(0, 16), 16);
    assert_int_equal(kith_query_lane_count(KITH_QUERY_LANE_HITS_MAX / 3, 16), 3);
    assert_int_equal(kith_query_lane_count(KITH_REPLY_HITS_MAX, 16), 1);
}

/* Independent of the number of shards where it would matter, and small where the answer is. */
static void test_query_gather__memory_of_a_search_is_bounded(void **unused) {
    (void)unused;
    uint64_t most = kith_query_result_bytes(KITH_REPLY_HITS_MAX, 1);
    assert_in_range(most, KITH_REPLY_HITS_MAX * 2 * sizeof(kith_hit), 400u << 20);
    assert_in_range(kith_query_result_bytes(KITH_REPLY_HITS_MAX, KITH_SHARDS_MAX), most, 400u << 20);
    assert_in_range(kith_query_result_bytes(10, 16), 10 * 16 * sizeof(kith_hit), 16384);
    for (uint64_t hits = 1; hits <= KITH_REPLY_HITS_MAX; hits *= 2)
        assert_true(kith_query_result_bytes(hits, 16) <= kith_query_result_bytes(2 * hits, 16));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_gather__equals_one_merge_of_all_lists),
        cmocka_unit_test(test_query_gather__only_so_many_shards_at_once),
        cmocka_unit_test(test_query_gather__memory_of_a_search_is_bounded),
    };
    return cmocka_run_group_tests_name("query_gather", tests, NULL, NULL);
}
