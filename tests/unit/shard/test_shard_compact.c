/* Which segments are merged. */
#include "host/shard/shard_compact.h"
#include "tests/lib/test_lib.h"

static const shard_merge_limits limits = {.seal_bytes = 1000, .seal_rows = 100, .merge_bytes_max = 10000};

static shard_merge_candidate of_rows(uint32_t rows, uint32_t live) {
    return (shard_merge_candidate){.bytes = (uint64_t)rows * 10, .row_count = rows, .live_count = live};
}

static uint32_t choose(const shard_merge_candidate *candidates, uint32_t count, uint32_t *chosen) {
    return shard_merge_choose(candidates, count, &limits, chosen);
}

static void test_merge__three_small_segments_wait_for_a_fourth(void **state) {
    (void)state;
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    shard_merge_candidate candidates[4] = {of_rows(10, 10), of_rows(20, 20), of_rows(5, 5), of_rows(49, 49)};
    assert_int_equal(choose(candidates, 3, chosen), 0);
    assert_int_equal(choose(candidates, 4, chosen), 4);
}

static void test_merge__sizes_that_differ_are_not_merged(void **state) {
    (void)state;
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    shard_merge_candidate candidates[5] = {
        of_rows(10, 10), of_rows(20, 20), of_rows(5, 5), of_rows(100, 100), of_rows(400, 400)};
    assert_int_equal(choose(candidates, 5, chosen), 0);
}

static void test_merge__full_segments_merge_into_the_next_tier(void **state) {
    (void)state;
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    shard_merge_candidate candidates[5] = {
        of_rows(100, 100), of_rows(10, 10), of_rows(100, 100), of_rows(100, 100), of_rows(100, 100)};
    assert_int_equal(choose(candidates, 5, chosen), 4);
    assert_int_equal(chosen[0], 0);
    assert_int_equal(chosen[1], 2);
    assert_int_equal(chosen[3], 4);
}

static void test_merge__half_dead_goes_first_and_alone(void **state) {
    (void)state;
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    shard_merge_candidate candidates[6] = {of_rows(10, 10), of_rows(10, 10), of_rows(10, 10), of_rows(10, 10),
        of_rows(100, 50), of_rows(100, 51)};
    assert_int_equal(choose(candidates, 6, chosen), 1);
    assert_int_equal(chosen[0], 4);
    candidates[5].live_count = 0;
    assert_int_equal(choose(candidates, 6, chosen), 2);
}

static void test_merge__output_stays_below_its_limit(void **state) {
    (void)state;
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    shard_merge_candidate candidates[8];
    for (uint32_t i = 0; i < 8; i++)
        candidates[i] = of_rows(190, 190);
    assert_int_equal(choose(candidates, 8, chosen), 5);
    for (uint32_t i = 0; i < 8; i++)
        candidates[i] = of_rows(600, 600);
    assert_int_equal(choose(candidates, 8, chosen), 0);
    candidates[2] = of_rows(5000, 2000); /* beyond the limit, but half dead */
    assert_int_equal(choose(candidates, 8, chosen), 1);
    assert_int_equal(chosen[0], 2);
}

/* Seals for ever: the number of segments stays logarithmic, and the policy always comes to rest. */
static void test_merge__policy_comes_to_rest_and_keeps_few_segments(void **state) {
    (void)state;
    shard_merge_candidate candidates[200];
    const shard_merge_limits wide = {.seal_bytes = 1000, .seal_rows = 100, .merge_bytes_max = 1 << 30};
    uint32_t count = 0, most = 0, merges = 0;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t seal = 0; seal < 2000; seal++) {
        uint32_t chosen[SHARD_MERGE_SOURCES_MAX], chosen_count;
        candidates[count] = of_rows(100, 100 - (uint32_t)kith_rng_below(&rng, 40));
        count++;
        while ((chosen_count = shard_merge_choose(candidates, count, &wide, chosen)) > 0) {
            uint32_t live = 0;
            for (uint32_t i = chosen_count; i > 0; i--) {
                live += candidates[chosen[i - 1]].live_count;
                candidates[chosen[i - 1]] = candidates[--count];
            }
            candidates[count++] = of_rows(live, live);
            assert_true(++merges < 2000);
        }
        if (count > most) most = count;
    }
    assert_true(most < 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge__three_small_segments_wait_for_a_fourth),
        cmocka_unit_test(test_merge__sizes_that_differ_are_not_merged),
        cmocka_unit_test(test_merge__full_segments_merge_into_the_next_tier),
        cmocka_unit_test(test_merge__half_dead_goes_first_and_alone),
        cmocka_unit_test(test_merge__output_stays_below_its_limit),
        cmocka_unit_test(test_merge__policy_comes_to_rest_and_keeps_few_segments),
    };
    return cmocka_run_group_tests_name("shard_compact", tests, NULL, NULL);
}
