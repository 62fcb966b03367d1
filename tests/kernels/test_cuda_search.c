/* The search on the device gives ref's bits: over random shapes, on data made to break the bounds, with too little
 * room, with every way to scan; on the emulator, and on a real GPU where there is one. */
#include <string.h>

#include "host/base/alloc.h"
#include "tests/kernels/cuda_fixture.h"

static uint64_t seed;

static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE};

/* Runs `check` on each kind of device. */
static void each_device(void (*check)(bool emulated)) {
    uint32_t kinds = cuda_fixture_kinds();
    if (kinds & 1) check(true);
    if (kinds & 2) check(false);
}

static case_shape shape_random(kith_rng *rng) {
    case_shape shape = {
        .metric = metrics[kith_rng_below(rng, 3)],
        .type = (kith_vector_type)(1 + kith_rng_below(rng, 4)),
        .data = (case_data)kith_rng_below(rng, DATA_COUNT),
        .codes = kith_rng_below(rng, 2) ? CODES_AXES : CODES_BASIS,
        .dim = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 8) ? 70 : 300),
        .row_count = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 2) ? 300 : 2500),
        .query_count = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 2) ? 20 : 3),
        .k = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 4) ? 20 : 300),
        .dead = kith_rng_below(rng, 2),
        .allow = kith_rng_below(rng, 2),
        .floors = kith_rng_below(rng, 2),
        .part = kith_rng_below(rng, 2),
        .seed = kith_rng_next(rng),
    };
    uint64_t most = 80000 / ((uint64_t)shape.dim * shape.row_count) + 1;
    if (shape.query_count > most) shape.query_count = (uint32_t)most;
    return shape;
}

static void random_check(bool emulated) {
    enum { CASES_A_DEVICE = 25 };
    kith_rng rng;
    kith_rng_init(&rng, seed);
    kith_top_k_stats stats = {0};
    cuda_fixture f;
    uint64_t cases = test_scaled(2000);
    for (uint64_t i = 0; i < cases; i++) {
        if (i % CASES_A_DEVICE == 0) {
            if (i > 0) cuda_fixture_close(&f);
            /* From plenty to so little that survivors run over and groups are cut up. */
            cuda_fixture_open(&f, emulated, kith_rng_next(&rng),
                &(kith_cuda_backend_options){.worker_count = 1,
                    .worker_queries_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 5),
                    .worker_results_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 5),
                    .worker_scratch_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 7),
                    .scan = i / CASES_A_DEVICE % 2 ? KITH_CUDA_SCAN_DP4A : KITH_CUDA_SCAN_AUTO});
        }
        case_shape shape = shape_random(&rng);
        cuda_fixture_check(&f, &shape, &stats);
    }
    cuda_fixture_close(&f);
    print_message("%llu row scans, %llu survivors, %llu rescored, %llu wide\n",
        (unsigned long long)stats.rows_scanned, (unsigned long long)stats.code_survivors,
        (unsigned long long)stats.rows_rescored, (unsigned long long)stats.wide_scans);
}

static void test_cuda_search__random_shapes(void **state) {
    (void)state;
    each_device(random_check);
}

int main(void) {
    seed = test_seed(20261121);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_search__random_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
