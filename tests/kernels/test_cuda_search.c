/* The search on the device gives ref's bits: over random shapes, on data made to break the bounds, with too little
 * room, with every way to scan; on the emulator, and on a real GPU where there is one. */
#include <string.h>

#include "host/base/alloc.h"
#include "tests/kernels/cuda_fixture.h"

static uint64_t seed;

/* Auto is mma or dp4a on the emulator's device, by shape; the last makes it one of compute capability 9.0. */
static const kith_cuda_scan scans[] = {KITH_CUDA_SCAN_AUTO, KITH_CUDA_SCAN_DP4A, KITH_CUDA_SCAN_WGMMA};
#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

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
                    .upload_bytes = 10000,
                    .worker_queries_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 5),
                    .worker_results_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 5),
                    .worker_scratch_bytes = (size_t)(8 << 10) << kith_rng_below(&rng, 7),
                    .scan = scans[i / CASES_A_DEVICE % COUNT_OF(scans)]});
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

static void shapes_check(bool emulated, kith_cuda_scan scan, const case_shape *shapes, uint32_t count,
    const kith_cuda_backend_options *options, kith_top_k_stats *stats) {
    kith_cuda_backend_options own = *options;
    own.scan = scan;
    cuda_fixture f;
    cuda_fixture_open(&f, emulated, seed, &own);
    for (uint32_t i = 0; i < count; i++)
        cuda_fixture_check(&f, &shapes[i], stats);
    cuda_fixture_close(&f);
}

static const kith_cuda_backend_options small_device = {.worker_count = 1,
    .upload_bytes = 10000,
    .worker_queries_bytes = 1 << 20,
    .worker_results_bytes = 1 << 20,
    .worker_scratch_bytes = 8 << 20};

/* Ordinary rows, enough of them for every stage: hardly any of them are kept. */
static void filter_check(bool emulated) {
    for (uint32_t m = 0; m < 3; m++) {
        case_shape shape = {.metric = metrics[m],
            .type = KITH_TYPE_F32,
            .codes = m == 1 ? CODES_BASIS : CODES_AXES,
            .dim = 32,
            .row_count = 17000,
            .query_count = 2,
            .k = 5,
            .seed = seed + m};
        if (m == 1) shape.dim = 16; /* half of it is coded; of more, the bound would tell too little */
        kith_top_k_stats stats = {0};
        shapes_check(emulated, KITH_CUDA_SCAN_AUTO, &shape, 1, &small_device, &stats);
        print_message("metric %d: %llu survivors, %llu rescored\n", shape.metric,
            (unsigned long long)stats.code_survivors, (unsigned long long)stats.rows_rescored);
        assert_int_equal(stats.rows_scanned, 2 * 17000);
        assert_int_equal(stats.rows_coded, 2 * 17000);
        assert_int_equal(stats.wide_scans, 0);
        if (m != 1) assert_in_range(stats.code_survivors, 2 * 5, 2 * 600);
    }
}

static void test_cuda_search__ordinary_rows_are_hardly_rescored(void **state) {
    (void)state;
    each_device(filter_check);
}

/* --- what is read --- */

enum { LEAD_DIM = 16, LED_DIM = 64 };

/* Rows whose first LEAD_DIM components tell almost everything; codes whose first look is at `lead_dim` of them. */
static void led_case_create(uint32_t query_count, uint32_t lead_dim, kernels_case *c) {
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_F32,
                    .dim = LED_DIM,
                    .row_count = 19200,
                    .query_count = query_count,
                    .k = 3,
                    .seed = seed},
        c);
    float *vectors = c->vectors;
    for (uint32_t i = 0; i < c->shape.row_count * LED_DIM; i++)
        vectors[i] *= i % LED_DIM < LEAD_DIM ? 1 : 0.01f;
    for (uint32_t i = 0; i < query_count * LED_DIM; i++)
        c->queries[i] *= i % LED_DIM < LEAD_DIM ? 1 : 0.01f;
    kith_compute_ref()->norms(vectors, KITH_TYPE_F32, LED_DIM, c->shape.row_count, c->norms);
    c->shape.codes = CODES_AXES;
    for (uint64_t turn = 0; c->codes.basis.lead_dim != lead_dim; turn++) {
        kith_rng rng;
        kith_rng_init(&rng, seed + turn); /* which draws the first look */
        case_codes_free(c);
        case_codes_make(c, &rng);
    }
}

/* What the device reads for a search, as a multiple of the bytes of codes. */
static double reads_of(uint32_t query_count, uint32_t lead_dim) {
    kernels_case c;
    led_case_create(query_count, lead_dim, &c);
    cuda_fixture f;
    kith_err err;
    cuda_fixture_open(&f, true, seed, &small_device);
    assert_ok(kith_cuda_backend_upload(f.backend, &c.rows, &err), &err);
    cuda_answer want, got;
    cuda_answer_make(&c, kith_compute_ref(), &want);
    uint64_t before = cuda_emu_read_bytes();
    cuda_answer_make(&c, kith_compute_cuda(), &got);
    double reads = (double)(cuda_emu_read_bytes() - before);
    assert_true(cuda_answers_equal(&c, &want, &got));
    reads /= (double)kith_code_block_count(c.shape.row_count) * (double)kith_code_block_bytes(&c.codes.basis);
    print_message("%u queries, first look at %u of %d: %.2f\n", query_count, lead_dim, LED_DIM, reads);
    cuda_answer_free(&want);
    cuda_answer_free(&got);
    cuda_fixture_close(&f);
    case_destroy(&c);
    return reads;
}

static void test_cuda_search__small_batches_read_each_code_once_or_only_its_beginning(void **state) {
    (void)state;
    if (!(cuda_fixture_kinds() & 1)) skip();
    double whole = reads_of(1, LED_DIM);
    assert_true(whole >= 1 && whole < 1.3);
    assert_true(reads_of(1, LEAD_DIM) < whole - 0.4);
    assert_true(reads_of(8, LED_DIM) < 2.5); /* most of it vectors: each query scores rows of its own */
}

/* Rows that must not be returned are the nearest: one that any stage looks at raises the threshold above all others. */
static void nearest_hidden_check(bool emulated) {
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_F32,
                    .dim = 16,
                    .row_count = 26000,
                    .query_count = 1,
                    .k = 5,
                    .dead = true,
                    .allow = true,
                    .part = true,
                    .seed = seed},
        &c);
    for (uint32_t row = 0; row < c.shape.row_count; row++) {
        bool hidden = c.dead[row / 64] >> row % 64 & 1 || !(c.allow[row / 64] >> row % 64 & 1);
        if (hidden || row < c.job.row_begin || row >= c.job.row_end)
            memcpy((float *)c.vectors + (size_t)row * 16, c.queries, 16 * sizeof(float));
    }
    kith_compute_ref()->norms(c.vectors, KITH_TYPE_F32, 16, c.shape.row_count, c.norms);
    c.shape.codes = CODES_AXES;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    case_codes_make(&c, &rng);
    cuda_fixture f;
    kith_err err;
    cuda_fixture_open(&f, emulated, seed, &small_device);
    assert_ok(kith_cuda_backend_upload(f.backend, &c.rows, &err), &err);
    cuda_answer want, got;
    cuda_answer_make(&c, kith_compute_ref(), &want);
    cuda_answer_make(&c, kith_compute_cuda(), &got);
    assert_true(cuda_answers_equal(&c, &want, &got));
    assert_int_equal(got.counts[0], 5);
    cuda_answer_free(&want);
    cuda_answer_free(&got);
    cuda_fixture_close(&f);
    case_destroy(&c);
}

static void test_cuda_search__rows_that_are_hidden_do_not_raise_the_threshold(void **state) {
    (void)state;
    each_device(nearest_hidden_check);
}

/* All rows equal, in too little room: nothing tells them apart, and the CPU answers. */
static void equal_rows_check(bool emulated) {
    case_shape shape = {.metric = KITH_METRIC_L2,
        .type = KITH_TYPE_F32,
        .data = DATA_EQUAL,
        .codes = CODES_AXES,
        .dim = 20,
        .row_count = 3000,
        .query_count = 3,
        .k = 10,
        .seed = seed};
    kith_cuda_backend_options options = small_device;
    options.worker_scratch_bytes = 16 << 10;
    kith_top_k_stats stats = {0};
    shapes_check(emulated, KITH_CUDA_SCAN_AUTO, &shape, 1, &options, &stats);
    assert_int_equal(stats.wide_scans, 3);
}

static void test_cuda_search__queries_without_room_are_answered_by_the_cpu(void **state) {
    (void)state;
    each_device(equal_rows_check);
}

/* Tiles of queries that are not full, more queries than a tile, than a group, than a worker has room for. */
static void batches_check(bool emulated) {
    static const uint32_t query_counts[] = {1, 2, 8, 9, 31, 33, 64, 65, 130, 1030};
    case_shape shapes[10];
    for (uint32_t i = 0; i < 10; i++)
        shapes[i] = (case_shape){.metric = metrics[i % 3],
            .type = KITH_TYPE_F32,
            .data = i % 2 ? DATA_INTEGERS : DATA_NORMAL,
            .codes = CODES_AXES,
            .dim = i % 2 ? 40 : 16,
            .row_count = query_counts[i] > 200 ? 70 : 650,
            .query_count = query_counts[i],
            .k = 7,
            .dead = i % 2,
            .seed = seed + i};
    kith_top_k_stats stats = {0};
    for (uint32_t i = 0; i < COUNT_OF(scans); i++)
        shapes_check(emulated, scans[i], shapes, 10, &small_device, &stats);
}

static void test_cuda_search__batches_of_any_size(void **state) {
    (void)state;
    each_device(batches_check);
}

/* k beyond the rows, k of more than shared memory sorts, the widest vectors. */
static void extremes_check(bool emulated) {
    const case_shape shapes[] = {
        {.metric = KITH_METRIC_L2, .dim = 4, .row_count = 3000, .k = 2500, .data = DATA_INTEGERS},
        {.metric = KITH_METRIC_IP, .dim = 4, .row_count = 2100, .k = 16384, .data = DATA_NORMAL},
        {.metric = KITH_METRIC_COSINE, .dim = 16384, .row_count = 33, .k = 3, .data = DATA_NORMAL},
        {.metric = KITH_METRIC_L2, .dim = 700, .row_count = 90, .k = 90, .data = DATA_OFFSET},
    };
    for (uint32_t i = 0; i < 4; i++) {
        case_shape shape = shapes[i];
        shape.type = KITH_TYPE_F32;
        shape.codes = CODES_AXES;
        shape.query_count = i == 3 ? 12 : 2;
        shape.seed = seed + i;
        kith_top_k_stats stats = {0};
        shapes_check(emulated, KITH_CUDA_SCAN_AUTO, &shape, 1, &small_device, &stats);
    }
}

static void test_cuda_search__extremes(void **state) {
    (void)state;
    each_device(extremes_check);
}

/* --- what is declined --- */

static void declined(const kernels_case *c, const kith_rows *rows,
    int (*tie_compare)(const void *, uint32_t, uint32_t), const char *why) {
    kith_row_hit hits[8];
    uint32_t counts[1];
    kith_top_k_stats stats = {0};
    kith_err err;
    kith_top_k_job job = c->job;
    job.rows = rows;
    job.tie_compare = tie_compare;
    job.scratch_bytes = kith_compute_cuda()->scratch_bytes(rows->dim, 1, job.k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes);
    assert_int_equal(kith_compute_cuda()->top_k(&job, hits, counts, &stats, &err), KITH_UNIMPLEMENTED);
    assert_string_equal(err.text, why);
    assert_int_equal(stats.rows_scanned, 0);
    kith_free(job.scratch);
}

static int by_nothing(const void *ctx, uint32_t row_a, uint32_t row_b) {
    (void)ctx;
    (void)row_a;
    (void)row_b;
    return 0;
}

static void test_cuda_search__what_is_not_for_the_device_is_declined(void **state) {
    (void)state;
    if (!(cuda_fixture_kinds() & 1)) skip();
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_F32,
                    .codes = CODES_AXES,
                    .dim = 8,
                    .row_count = 100,
                    .query_count = 1,
                    .k = 8,
                    .seed = seed},
        &c);
    declined(&c, &c.rows, NULL, "no device is in use");
    cuda_fixture f;
    cuda_fixture_open(&f, true, seed, &small_device);
    declined(&c, &c.rows, NULL, "the rows are not on the device");
    kith_err err;
    assert_ok(kith_cuda_backend_upload(f.backend, &c.rows, &err), &err);
    declined(&c, &c.rows, by_nothing, "ties by anything but row number are not for the device");
    kith_rows other = c.rows;
    other.codes = NULL;
    declined(&c, &other, NULL, "rows without codes are not for the device");
    assert_int_equal(kith_cuda_backend_upload(f.backend, &other, &err), KITH_UNIMPLEMENTED);
    other = c.rows;
    other.metric = KITH_METRIC_L1;
    declined(&c, &other, NULL, "l1 has no codes");
    other = c.rows;
    other.metric = KITH_METRIC_IP; /* other rows at the same address */
    declined(&c, &other, NULL, "the rows are not on the device");
    kith_cuda_backend_drop(f.backend, c.rows.vectors);
    declined(&c, &c.rows, NULL, "the rows are not on the device");
    kith_cuda_backend_counts counts;
    kith_cuda_backend_count(f.backend, &counts);
    assert_int_equal(counts.declined, 6);
    assert_int_equal(counts.declined_away, 3);
    assert_int_equal(counts.searches, 0);
    cuda_fixture_close(&f);
    case_destroy(&c);
}

int main(void) {
    seed = test_seed(20261121);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_search__ordinary_rows_are_hardly_rescored),
        cmocka_unit_test(test_cuda_search__small_batches_read_each_code_once_or_only_its_beginning),
        cmocka_unit_test(test_cuda_search__rows_that_are_hidden_do_not_raise_the_threshold),
        cmocka_unit_test(test_cuda_search__queries_without_room_are_answered_by_the_cpu),
        cmocka_unit_test(test_cuda_search__batches_of_any_size),
        cmocka_unit_test(test_cuda_search__extremes),
        cmocka_unit_test(test_cuda_search__what_is_not_for_the_device_is_declined),
        cmocka_unit_test(test_cuda_search__random_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
