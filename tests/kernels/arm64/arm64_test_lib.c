/* What the tests of kernels/ use of tests/lib, for an emulated processor: their random parts are a share as long. */
#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHARE = 80 };

uint64_t test_seed(uint64_t otherwise) {
    const char *text = getenv("KITH_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : otherwise;
    fprintf(stderr, "KITH_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

uint64_t test_scaled(uint64_t count) {
    const char *text = getenv("KITH_TEST_SCALE");
    return (count + SHARE - 1) / SHARE * (text ? strtoull(text, NULL, 10) : 1);
}
