/* Every point has exactly one shard, and a batch is split into those. */
#include "host/base/alloc.h"
#include "host/cluster/route.h"
#include "tests/lib/test_lib.h"

typedef struct route_fixture {
    kith_meta_map *map;
    const kith_meta_entry *entry;
} route_fixture;

static route_fixture fixture_make(uint32_t shard_count) {
    static const kith_node node = {.name = "one"};
    kith_meta_collection collection = {
        .collection = {.id = 1, .name = "c", .shard_count = shard_count, .shard_id_first = 10}};
    const kith_meta_collection *collections[] = {&collection};
    kith_meta_map *map = kith_meta_map_create(1, &node, 1, collections, 1, NULL);
    return (route_fixture){.map = map, .entry = kith_meta_map_find(map, "c", 1)};
}

/* The values are part of the placement format: they never change. */
static void test_route__shard_of_an_id_is_fixed_for_ever(void **unused) {
    (void)unused;
    route_fixture fixture = fixture_make(8);
    kith_id number = kith_id_of_number(42);
    assert_int_equal(kith_route_shard(fixture.entry, &number), kith_id_slot(&number) * 8 / KITH_SLOTS);
    kith_meta_map_release(fixture.map);
}

static void test_route__split_puts_each_row_into_its_shard_once_and_in_order(void **unused) {
    (void)unused;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(3));
    const uint32_t shard_counts[] = {1, 2, 5, 64, 4096};
    kith_arena arena;
    kith_arena_init(&arena);
    for (uint64_t round = 0; round < test_scaled(50); round++) {
        route_fixture fixture = fixture_make(shard_counts[round % 5]);
        uint32_t count = 1 + (uint32_t)kith_rng_below(&rng, 3000), seen = 0;
        kith_id *ids = kith_arena_array(&arena, count, sizeof *ids);
        for (uint32_t i = 0; i < count; i++)
            ids[i] = kith_id_of_number(kith_rng_next(&rng));
        const kith_route_group *groups;
        uint32_t group_count = kith_route_split(fixture.entry, ids, count, &arena, &groups);
        for (uint32_t g = 0; g < group_count; g++) {
            assert_true(groups[g].count > 0);
            assert_true(g == 0 || groups[g - 1].shard_index < groups[g].shard_index);
            for (uint32_t i = 0; i < groups[g].count; i++) {
                assert_true(i == 0 || groups[g].rows[i - 1] < groups[g].rows[i]);
                assert_int_equal(
                    kith_route_shard(fixture.entry, &ids[groups[g].rows[i]]), groups[g].shard_index);
            }
            seen += groups[g].count;
        }
        assert_int_equal(seen, count); /* rows rise and shards differ, so none came twice */
        kith_meta_map_release(fixture.map);
        kith_arena_reset(&arena);
    }
    kith_arena_fini(&arena);
}

static void test_route__numbers_spread_over_shards(void **unused) {
    (void)unused;
    route_fixture fixture = fixture_make(16);
    uint32_t counts[16] = {0};
    for (uint64_t i = 0; i < 160000; i++) {
        kith_id id = kith_id_of_number(i);
        counts[kith_route_shard(fixture.entry, &id)]++;
    }
    for (uint32_t i = 0; i < 16; i++) {
        assert_true(counts[i] > 9500); /* five standard deviations */
        assert_true(counts[i] < 10500);
    }
    kith_meta_map_release(fixture.map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route__shard_of_an_id_is_fixed_for_ever),
        cmocka_unit_test(test_route__split_puts_each_row_into_its_shard_once_and_in_order),
        cmocka_unit_test(test_route__numbers_spread_over_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
