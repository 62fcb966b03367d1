#include "tests/lib/test_lib.h"

#include <math.h>

/* First outputs for the state (1, 2, 3, 4), as the authors' code gives them. */
static void test_base__rng_is_xoshiro256_starstar(void **state) {
    (void)state;
    kith_rng rng = {.state = {1, 2, 3, 4}};
    assert_true(kith_rng_next(&rng) == 11520);
    assert_true(kith_rng_next(&rng) == 0);
    assert_true(kith_rng_next(&rng) == 1509978240);
    assert_true(kith_rng_next(&rng) == 1215971899390074240ULL);
}

static void test_base__rng_below_is_uniform_and_in_range(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(4));
    uint32_t counts[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t value = kith_rng_below(&rng, 7);
        assert_true(value < 7);
        counts[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9400, 10600);
    for (int i = 0; i < 100; i++) {
        assert_true(kith_rng_below(&rng, 1) == 0);
        assert_true(kith_rng_below(&rng, (1ULL << 63) + 1) <= 1ULL << 63);
    }
}

static void test_base__rng_normal_has_mean_0_and_variance_1(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(5));
    double sum = 0;
    double squares = 0;
    int count = 100000;
    for (int i = 0; i < count; i++) {
        double value = kith_rng_normal(&rng);
        sum += value;
        squares += value * value;
        double unit = kith_rng_unit(&rng);
        assert_true(unit >= 0 && unit < 1);
    }
    assert_true(fabs(sum / count) < 0.02);
    assert_true(fabs(squares / count - 1) < 0.03);
}

static void test_base__rng_same_seed_same_numbers(void **state) {
    (void)state;
    kith_rng a;
    kith_rng b;
    kith_rng_init(&a, 42);
    kith_rng_init(&b, 42);
    for (int i = 0; i < 100; i++)
        assert_true(kith_rng_next(&a) == kith_rng_next(&b));
    kith_rng_init(&b, 43);
    assert_true(kith_rng_next(&a) != kith_rng_next(&b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__rng_is_xoshiro256_starstar),
        cmocka_unit_test(test_base__rng_below_is_uniform_and_in_range),
        cmocka_unit_test(test_base__rng_normal_has_mean_0_and_variance_1),
        cmocka_unit_test(test_base__rng_same_seed_same_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
