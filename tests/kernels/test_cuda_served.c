/* A whole service with a GPU, emulated: sealed segments come to lie on it, answers are those of the CPU, and when it fails
 * nobody notices but the operator. */
#include "tests/cuda_emu/cuda_emu.h"
#include "tests/unit/api/api_fixture.h"

/* Of the emulated plugin, linked into the test. */
const kith_cuda_plugin *kith_cuda_plugin_table(void);

enum { DIM = 32, ROWS = 4500, K = 5 };
#define WAIT_NS (120 * 1000000000ULL)

static kith_role_gpu emulated_gpu(void) {
    return (kith_role_gpu){.plugin = kith_cuda_plugin_table(),
        .options = {.worker_count = 2,
            .worker_queries_bytes = 1 << 18,
            .worker_results_bytes = 1 << 18,
            .worker_scratch_bytes = 1 << 20,
            .upload_bytes = 1 << 16}};
}

static void reopen(api_fixture *f, const kith_role_gpu *gpu, kith_config_compute_backend wanted) {
    kith_standalone_stop(f->standalone, 1000000000);
    f->config.compute_backend = wanted;
    f->gpu = gpu;
    fixture_open(f);
}

static void rows_write(api_fixture *f, kith_rng *rng) {
    float *values = kith_alloc_array((size_t)ROWS * DIM, sizeof *values);
    for (uint32_t i = 0; i < ROWS * DIM; i++)
        values[i] = (float)kith_rng_normal(rng);
    assert_int_equal(create(f, "c", DIM, KITH_METRIC_L2, KITH_TYPE_F32, 1), KITH_OK);
    assert_int_equal(upsert(f, "c", 0, ROWS, DIM, values), KITH_OK);
    kith_free(values);
}

static void search(api_fixture *f, const float *query) {
    kith_api_search_call call = {.queries = (const uint8_t *)query, .queries_bytes = DIM * 4, .k = K};
    assert_int_equal(search_ask(f, "c", &call), KITH_OK);
    assert_int_equal(f->count, K);
}

static uint64_t figure(api_fixture *f, kith_metric_id id, const char *label) {
    return kith_series_count(kith_metrics_series(kith_standalone_metrics(f->standalone), id, label));
}

/* Searches until the metrics, which are brought up to date once a second, count one more for `by`. */
static void search_until_counted(api_fixture *f, const float *query, const char *by, const uint64_t *ids) {
    uint64_t before = figure(f, KITH_METRIC_ID_GPU_SEARCHES, by);
    uint64_t give_up_ns = kith_env_now_ns(f->env) + WAIT_NS;
    while (figure(f, KITH_METRIC_ID_GPU_SEARCHES, by) == before) {
        search(f, query);
        assert_memory_equal(f->ids, ids, K * sizeof *ids);
        assert_true(kith_env_now_ns(f->env) < give_up_ns);
    }
}

/* A collection, and a query with the answer that the CPU gives. */
typedef struct question {
    float query[DIM];
    uint64_t ids[K];
} question;

static void question_make(api_fixture *f, question *out) {
    uint64_t seed = test_seed(1);
    kith_rng rng;
    kith_rng_init(&rng, seed);
    cuda_emu_reset(seed);
    for (uint32_t i = 0; i < DIM; i++)
        out->query[i] = (float)kith_rng_normal(&rng);
    f->config.segment_seal_idle_ms = 1;
    reopen(f, NULL, KITH_CONFIG_COMPUTE_BACKEND_CPU);
    rows_write(f, &rng);
    search(f, out->query);
    memcpy(out->ids, f->ids, sizeof out->ids);
}

static void test_served__segments_lie_on_the_gpu_and_answers_stay(void **state) {
    api_fixture *f = *state;
    kith_role_gpu gpu = emulated_gpu();
    kith_err err;
    question asked;
    question_make(f, &asked);
    for (int restart = 0; restart < 2; restart++) {
        reopen(f, &gpu, KITH_CONFIG_COMPUTE_BACKEND_AUTO);
        assert_ok(kith_api_ready(f->api, &err), &err);
        search_until_counted(f, asked.query, "gpu", asked.ids);
        assert_int_equal(figure(f, KITH_METRIC_ID_GPU_UPLOADS, ""), 1);
    }
    reopen(f, NULL, KITH_CONFIG_COMPUTE_BACKEND_CPU);
    assert_int_equal(cuda_emu_object_count(), 0);
    if (cuda_emu_report_count()) fail_msg("%s", cuda_emu_report(0));
}

/* Then it answers nothing more, not even that it has let its memory go. */
static void lost_gpu_check(api_fixture *f, kith_config_compute_backend wanted, kith_status ready) {
    kith_role_gpu gpu = emulated_gpu();
    kith_err err;
    question asked;
    question_make(f, &asked);
    reopen(f, &gpu, wanted);
    search_until_counted(f, asked.query, "gpu", asked.ids);
    assert_ok(kith_api_ready(f->api, &err), &err);
    cuda_emu_fail(1, CUDA_EMU_FAULT_STICKY);
    search_until_counted(f, asked.query, "cpu", asked.ids);
    assert_int_equal(kith_api_ready(f->api, &err), ready);
    if (ready != KITH_OK) assert_non_null(strstr(err.text, "compute_backend = cuda: "));
    reopen(f, NULL, KITH_CONFIG_COMPUTE_BACKEND_CPU);
    if (cuda_emu_report_count()) fail_msg("%s", cuda_emu_report(0));
}

static void test_served__a_lost_gpu_changes_no_answer_and_leaves_auto_ready(void **state) {
    lost_gpu_check(*state, KITH_CONFIG_COMPUTE_BACKEND_AUTO, KITH_OK);
}

static void test_served__a_lost_gpu_that_is_required_ends_readiness(void **state) {
    lost_gpu_check(*state, KITH_CONFIG_COMPUTE_BACKEND_CUDA, KITH_UNAVAILABLE);
}

static void test_served__a_gpu_without_room_is_counted_and_changes_no_answer(void **state) {
    api_fixture *f = *state;
    kith_role_gpu gpu = emulated_gpu();
    kith_err err;
    question asked;
    question_make(f, &asked);
    gpu.options.memory_bytes_max = (3 << 20) + (64 << 10); /* the workers', and not enough for a segment */
    reopen(f, &gpu, KITH_CONFIG_COMPUTE_BACKEND_CUDA);
    search_until_counted(f, asked.query, "cpu", asked.ids);
    uint64_t give_up_ns = kith_env_now_ns(f->env) + WAIT_NS;
    while (figure(f, KITH_METRIC_ID_GPU_UPLOADS_REFUSED, "") == 0) {
        search(f, asked.query);
        assert_true(kith_env_now_ns(f->env) < give_up_ns);
    }
    assert_int_equal(figure(f, KITH_METRIC_ID_GPU_UPLOADS, ""), 0);
    assert_int_equal(figure(f, KITH_METRIC_ID_GPU_SEARCHES, "gpu"), 0);
    assert_ok(kith_api_ready(f->api, &err), &err);
}

static void test_served__a_gpu_too_small_is_not_used(void **state) {
    api_fixture *f = *state;
    kith_role_gpu gpu = {.plugin = kith_cuda_plugin_table(), .options = {.memory_bytes_max = 1 << 20}};
    kith_err err;
    cuda_emu_reset(test_seed(1));
    reopen(f, &gpu, KITH_CONFIG_COMPUTE_BACKEND_AUTO);
    assert_ok(kith_api_ready(f->api, &err), &err);
    reopen(f, &gpu, KITH_CONFIG_COMPUTE_BACKEND_CUDA);
    assert_int_equal(kith_api_ready(f->api, &err), KITH_UNAVAILABLE);
    assert_int_equal(cuda_emu_object_count(), 0);
}

int main(void) {
    FIXTURE_UNUSED;
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_served__segments_lie_on_the_gpu_and_answers_stay),
        CASE(test_served__a_lost_gpu_changes_no_answer_and_leaves_auto_ready),
        CASE(test_served__a_lost_gpu_that_is_required_ends_readiness),
        CASE(test_served__a_gpu_without_room_is_counted_and_changes_no_answer),
        CASE(test_served__a_gpu_too_small_is_not_used),
    };
    return cmocka_run_group_tests_name("cuda_served", tests, NULL, NULL);
}
