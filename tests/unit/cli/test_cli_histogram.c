#include "tests/lib/test_lib.h"

#include <stdlib.h>

#include "host/cli/cli_histogram.h"

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_cli_histogram__quantiles_are_within_a_fifth_of_a_percent(void **state) {
    enum { COUNT = 100000 };
    static uint64_t values[COUNT];
    (void)state;
    kith_rng rng;
    kith_cli_histogram histogram;
    kith_rng_init(&rng, test_seed(3));
    kith_cli_histogram_init(&histogram);
    for (uint32_t i = 0; i < COUNT; i++) {
        values[i] = kith_rng_next(&rng) >> kith_rng_below(&rng, 63);
        kith_cli_histogram_add(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof values[0], compare);
    const double fractions[] = {0.001, 0.5, 0.95, 0.99, 0.999, 1};
    for (uint32_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        uint64_t exact = values[(uint32_t)(fractions[i] * COUNT) - 1];
        uint64_t got = kith_cli_histogram_quantile(&histogram, fractions[i]);
        assert_true(got >= exact);
        assert_true((double)got <= (double)exact * 1.002);
    }
    assert_int_equal(kith_cli_histogram_quantile(&histogram, 1), values[COUNT - 1]);
    kith_cli_histogram_fini(&histogram);
}

static void test_cli_histogram__is_zero_when_empty(void **state) {
    (void)state;
    kith_cli_histogram histogram;
    kith_cli_histogram_init(&histogram);
    assert_int_equal(kith_cli_histogram_quantile(&histogram, 0.5), 0);
    kith_cli_histogram_add(&histogram, UINT64_MAX);
    assert_true(kith_cli_histogram_quantile(&histogram, 0.5) == UINT64_MAX);
    kith_cli_histogram_fini(&histogram);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_histogram__quantiles_are_within_a_fifth_of_a_percent),
        cmocka_unit_test(test_cli_histogram__is_zero_when_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
