/* A plan asks every shard once, through the node that has it, one message a node. */
#include "host/base/alloc.h"
#include "host/query/query_plan.h"
#include "tests/lib/test_lib.h"

static void test_query_plan__every_shard_once_through_its_node(void **unused) {
    (void)unused;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(5));
    kith_arena arena;
    kith_arena_init(&arena);
    for (uint64_t round = 0; round < test_scaled(200); round++) {
        uint32_t node_count = 1 + (uint32_t)kith_rng_below(&rng, 9);
        uint32_t shard_count = 1 + (uint32_t)kith_rng_below(&rng, 300);
        kith_node nodes[10] = {0};
        kith_meta_collection collection = {
            .collection = {.id = 1, .name = "c", .shard_count = shard_count, .shard_id_first = 77}};
        const kith_meta_collection *collections[] = {&collection};
        kith_meta_map *map = kith_meta_map_create(1, nodes, node_count, collections, 1, NULL);
        kith_meta_entry *entry = map->entries[0];
        for (uint32_t i = 0; i < shard_count; i++) {
            entry->shard_nodes[i] = (uint16_t)kith_rng_below(&rng, node_count);
        }
        kith_query_plan plan;
        kith_query_plan_make(map, entry, &arena, &plan);
        uint32_t seen = 0;
        for (uint32_t n = 0; n < plan.node_count; n++) {
            const kith_query_plan_node *node = &plan.nodes[n];
            assert_true(node->shard_count > 0);
            assert_true(n == 0 || plan.nodes[n - 1].node_index < node->node_index);
            for (uint32_t i = 0; i < node->shard_count; i++) {
                assert_true(i == 0 || node->shard_ids[i - 1] < node->shard_ids[i]);
                assert_in_range(node->shard_ids[i], 77, 77 + shard_count - 1);
                assert_int_equal(entry->shard_nodes[node->shard_ids[i] - 77], node->node_index);
            }
            seen += node->shard_count;
        }
        assert_int_equal(seen, shard_count);
        kith_meta_map_release(map);
        kith_arena_reset(&arena);
    }
    kith_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_query_plan__every_shard_once_through_its_node)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
