/* Whatever the device does, searches are answered, and rightly: each call of the CUDA runtime fails in turn, memory
 * runs out, threads meet. On the emulator. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "tests/kernels/cuda_fixture.h"

enum { CASES = 2 };

static uint64_t seed;
static kernels_case cases[CASES];
static cuda_answer wanted[CASES];

static void cases_make(void) {
    for (uint32_t i = 0; i < CASES; i++) {
        case_create(&(case_shape){.metric = i ? KITH_METRIC_COSINE : KITH_METRIC_L2,
                        .type = i ? KITH_TYPE_F16 : KITH_TYPE_F32,
                        .codes = CODES_AXES,
                        .dim = 16,
                        .row_count = 700,
                        .query_count = i ? 9 : 3,
                        .k = 4,
                        .dead = i,
                        .allow = !i,
                        .seed = seed + i},
            &cases[i]);
        cuda_answer_make(&cases[i], kith_compute_ref(), &wanted[i]);
    }
}

static void cases_end(void) {
    for (uint32_t i = 0; i < CASES; i++) {
        cuda_answer_free(&wanted[i]);
        case_destroy(&cases[i]);
    }
}

/* As host/index searches: the device if it takes the job, else the CPU. True: the device did. */
static bool search_check(uint32_t index) {
    const kernels_case *c = &cases[index];
    const kith_compute_ops *ops = kith_compute_cuda();
    size_t hit_count = (size_t)c->shape.query_count * c->shape.k;
    cuda_answer got = {.hits = kith_alloc_array(hit_count, sizeof *got.hits),
        .counts = kith_alloc_array(c->shape.query_count, sizeof *got.counts)};
    kith_top_k_job job = c->job;
    job.rows = &c->rows;
    job.scratch_bytes = ops->scratch_bytes(c->shape.dim, c->shape.query_count, c->shape.k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes);
    kith_top_k_stats stats = {0};
    kith_err err;
    kith_status status = ops->top_k(&job, got.hits, got.counts, &stats, &err);
    bool by_device = status == KITH_OK;
    if (!by_device) {
        assert_int_equal(status, KITH_UNIMPLEMENTED);
        assert_int_equal(stats.rows_scanned, 0);
        assert_ok(kith_compute_cpu()->top_k(&job, got.hits, got.counts, &stats, &err), &err);
    }
    assert_true(cuda_answers_equal(c, &wanted[index], &got));
    kith_free(job.scratch);
    cuda_answer_free(&got);
    return by_device;
}

/* --- each call fails in turn --- */

typedef struct outcome {
    bool opened;
    uint32_t searched; /* by the device, of the searches below */
    uint32_t told;     /* calls of the callback */
    bool usable;
} outcome;

static void on_retired(void *ctx, const char *reason) {
    outcome *o = ctx;
    o->told++;
    assert_true(strlen(reason) > 0);
}

/* Opens a device, makes two segments resident, searches each twice, drops one, ends. */
static outcome life(kith_cuda_scan scan) {
    outcome o = {0};
    kith_cuda *cuda;
    kith_err err;
    const kith_cuda_plugin *kith_cuda_plugin_table(void);
    if (kith_cuda_open_table("emulated", kith_cuda_plugin_table(), &cuda, &err) != KITH_OK) return o;
    kith_cuda_backend_options options = {.cuda = cuda,
        .worker_count = 2,
        .upload_bytes = 10000,
        .worker_queries_bytes = 64 << 10,
        .worker_results_bytes = 64 << 10,
        .worker_scratch_bytes = 256 << 10,
        .scan = scan,
        .retired = on_retired,
        .ctx = &o};
    kith_cuda_backend *backend;
    kith_status status = kith_cuda_backend_create(&options, &backend, &err);
    if (status != KITH_OK) {
        assert_true(status == KITH_UNAVAILABLE || status == KITH_NO_MEMORY);
        assert_non_null(strstr(err.text, "cuda device 0: "));
        kith_cuda_close(cuda);
        return o;
    }
    o.opened = true;
    kith_cuda_backend_install(backend);
    for (uint32_t i = 0; i < CASES; i++) {
        status = kith_cuda_backend_upload(backend, &cases[i].rows, &err);
        assert_true(status == KITH_OK || status == KITH_NO_MEMORY || status == KITH_UNIMPLEMENTED);
        o.searched += search_check(i);
    }
    for (uint32_t i = 0; i < CASES; i++)
        o.searched += search_check(i);
    o.usable = kith_cuda_backend_usable(backend, &err);
    kith_cuda_backend_drop(backend, cases[0].rows.vectors);
    kith_cuda_backend_destroy(backend);
    kith_cuda_close(cuda);
    return o;
}

static bool is_release(const char *call) {
    return strstr(call, "Free") || strstr(call, "Destroy");
}

/* Calls of a life without faults, on a device that has all that kith uses. */
static uint64_t life_calls(kith_cuda_scan scan) {
    cuda_emu_reset(seed);
    cuda_emu_arch(9, 0);
    cuda_emu_fail(0, CUDA_EMU_FAULT_ONCE);
    outcome whole = life(scan);
    assert_int_equal(whole.searched, 4);
    return cuda_emu_call_count();
}

static void each_call_fails(cuda_emu_fault fault) {
    uint64_t calls = life_calls(KITH_CUDA_SCAN_AUTO);
    assert_int_equal(life_calls(KITH_CUDA_SCAN_WGMMA), calls);
    print_message("%llu calls\n", (unsigned long long)calls);
    assert_true(calls > 60);
    for (uint64_t number = 1; number <= calls; number++) {
        cuda_emu_reset(seed + number);
        cuda_emu_arch(9, 0);
        cuda_emu_fail(number, fault);
        outcome o = life(number % 2 ? KITH_CUDA_SCAN_WGMMA : KITH_CUDA_SCAN_AUTO);
        const char *call = cuda_emu_failed_call();
        assert_non_null(call);
        if (cuda_emu_report_count())
            fail_msg("call %llu, %s: %s", (unsigned long long)number, call, cuda_emu_report(0));
        assert_true(o.told <= 1);
        if (o.opened) assert_int_equal(o.usable, o.told == 0);
        /* A call that fails alone loses nothing but what it should have released. */
        if (fault == CUDA_EMU_FAULT_ONCE && !is_release(call)) assert_int_equal(cuda_emu_object_count(), 0);
    }
}

static void test_cuda_faults__each_call_fails_once(void **state) {
    (void)state;
    each_call_fails(CUDA_EMU_FAULT_ONCE);
}

static void test_cuda_faults__the_device_is_lost_at_each_call(void **state) {
    (void)state;
    each_call_fails(CUDA_EMU_FAULT_STICKY);
}

static void test_cuda_faults__no_device_is_said(void **state) {
    (void)state;
    const kith_cuda_plugin *kith_cuda_plugin_table(void);
    cuda_emu_reset(seed);
    cuda_emu_no_device();
    kith_cuda *cuda;
    kith_err err;
    assert_int_equal(
        kith_cuda_open_table("emulated", kith_cuda_plugin_table(), &cuda, &err), KITH_UNAVAILABLE);
    assert_string_equal(err.text,
        "cuda plugin emulated: no cuda device: no CUDA-capable device is detected (cuda error 100)");
}

static void test_cuda_faults__an_old_device_is_refused(void **state) {
    (void)state;
    const kith_cuda_plugin *kith_cuda_plugin_table(void);
    cuda_emu_reset(seed);
    cuda_emu_arch(7, 5);
    kith_cuda *cuda;
    kith_cuda_backend *backend;
    kith_err err;
    assert_ok(kith_cuda_open_table("emulated", kith_cuda_plugin_table(), &cuda, &err), &err);
    assert_int_equal(kith_cuda_backend_create(&(kith_cuda_backend_options){.cuda = cuda}, &backend, &err),
        KITH_UNAVAILABLE);
    assert_string_equal(err.text, "cuda device 0: device 0 has compute capability 7.5, kith needs 8.0");
    kith_cuda_close(cuda);
    assert_int_equal(cuda_emu_object_count(), 0);
}

/* --- memory --- */

static const kith_cuda_backend_options small_device = {.worker_count = 1,
    .upload_bytes = 10000,
    .worker_queries_bytes = 64 << 10,
    .worker_results_bytes = 64 << 10,
    .worker_scratch_bytes = 256 << 10};

enum { WORKER_BYTES = 384 << 10, VECTOR_BYTES = 700 * 16 * 4, BLOCKS = 22 };

static size_t code_bytes(uint32_t index) {
    return BLOCKS * kith_code_block_bytes(&cases[index].codes.basis);
}

static void test_cuda_faults__the_oldest_segment_makes_room(void **state) {
    (void)state;
    cuda_fixture f;
    kith_err err;
    kith_cuda_backend_options options = small_device;
    /* The worker and the larger segment, not both segments. */
    options.memory_bytes_max = WORKER_BYTES + VECTOR_BYTES + code_bytes(0);
    cuda_fixture_open(&f, true, seed, &options);
    assert_ok(kith_cuda_backend_upload(f.backend, &cases[0].rows, &err), &err);
    assert_true(search_check(0));
    assert_ok(kith_cuda_backend_upload(f.backend, &cases[1].rows, &err), &err);
    assert_true(search_check(1));
    assert_false(search_check(0));
    kith_cuda_backend_counts counts;
    kith_cuda_backend_count(f.backend, &counts);
    assert_int_equal(counts.evictions, 1);
    assert_int_equal(counts.segments, 1);
    assert_int_equal(counts.refusals, 0);
    assert_int_equal(counts.used_bytes[KITH_CUDA_MEMORY_VECTORS], VECTOR_BYTES / 2);
    assert_int_equal(counts.used_bytes[KITH_CUDA_MEMORY_CODES], code_bytes(1));
    assert_int_equal(counts.used_bytes[KITH_CUDA_MEMORY_SCRATCH], 256 << 10);
    assert_int_equal(counts.memory_bytes_max, options.memory_bytes_max);
    cuda_fixture_close(&f);
}

static void test_cuda_faults__what_does_not_fit_is_refused(void **state) {
    (void)state;
    cuda_fixture f;
    kith_err err;
    kith_cuda_backend_options options = small_device;
    options.memory_bytes_max = WORKER_BYTES + VECTOR_BYTES + code_bytes(0) - 1;
    cuda_fixture_open(&f, true, seed, &options);
    assert_int_equal(kith_cuda_backend_upload(f.backend, &cases[0].rows, &err), KITH_NO_MEMORY);
    char text[KITH_ERR_BYTES_MAX];
    (void)snprintf(text, sizeof text,
        "device memory for codes: %zu bytes beside %d are above the limit of %zu", code_bytes(0),
        WORKER_BYTES + VECTOR_BYTES, options.memory_bytes_max);
    assert_string_equal(err.text, text);
    assert_false(search_check(0));
    assert_ok(kith_cuda_backend_upload(f.backend, &cases[1].rows, &err), &err);
    assert_true(search_check(1));
    /* What could not lie there alone drives nobody away. */
    assert_int_equal(kith_cuda_backend_upload(f.backend, &cases[0].rows, &err), KITH_NO_MEMORY);
    assert_true(search_check(1));
    kith_cuda_backend_counts counts;
    kith_cuda_backend_count(f.backend, &counts);
    assert_int_equal(counts.refusals, 2);
    assert_int_equal(counts.evictions, 0);
    assert_int_equal(counts.faults, 0);
    assert_int_equal(f.retired_count, 0);
    cuda_fixture_close(&f);
}

/* Another process took the memory: the driver refuses what the limit would allow. */
static void test_cuda_faults__memory_that_others_took_is_refused(void **state) {
    (void)state;
    cuda_fixture f;
    kith_err err;
    cuda_fixture_open(&f, true, seed, &small_device);
    cuda_emu_memory_limit(WORKER_BYTES + VECTOR_BYTES + code_bytes(0) - 1);
    assert_int_equal(kith_cuda_backend_upload(f.backend, &cases[0].rows, &err), KITH_NO_MEMORY);
    assert_false(search_check(0));
    assert_true(kith_cuda_backend_usable(f.backend, &err));
    cuda_fixture_close(&f);
}

/* --- threads --- */

static void *searches_run(void *ctx) {
    uint32_t *by_device = ctx;
    for (uint32_t i = 0; i < 12; i++)
        *by_device += search_check(i % CASES);
    return NULL;
}

static void *uploads_run(void *ctx) {
    kith_cuda_backend *backend = ctx;
    kith_err err;
    for (uint32_t i = 0; i < 12; i++) {
        assert_ok(kith_cuda_backend_upload(backend, &cases[0].rows, &err), &err);
        kith_cuda_backend_drop(backend, cases[0].rows.vectors);
    }
    return NULL;
}

static void test_cuda_faults__threads_share_workers_while_segments_come_and_go(void **state) {
    (void)state;
    enum { SEARCHERS = 4 };
    cuda_fixture f;
    kith_err err;
    kith_cuda_backend_options options = small_device;
    options.worker_count = 2;
    cuda_fixture_open(&f, true, seed, &options);
    assert_ok(kith_cuda_backend_upload(f.backend, &cases[1].rows, &err), &err);
    pthread_t threads[SEARCHERS + 1];
    uint32_t by_device[SEARCHERS] = {0};
    for (uint32_t i = 0; i < SEARCHERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, searches_run, &by_device[i]), 0);
    assert_int_equal(pthread_create(&threads[SEARCHERS], NULL, uploads_run, f.backend), 0);
    for (uint32_t i = 0; i <= SEARCHERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (uint32_t i = 0; i < SEARCHERS; i++)
        assert_true(by_device[i] >= 6); /* the other segment was always there */
    kith_cuda_backend_counts counts;
    kith_cuda_backend_count(f.backend, &counts);
    assert_int_equal(counts.uploads, 13);
    assert_int_equal(counts.searches + counts.declined, SEARCHERS * 12);
    cuda_fixture_close(&f);
}

/* --- a search that waits for a worker while another one loses the device --- */

static sem_t in_search, may_fail;
static atomic_uint device_searches;
static _Atomic(pid_t) waiter;

static kith_status search_fails(kith_cuda_device *device, kith_cuda_search_job *job, kith_err *err) {
    (void)device;
    (void)job;
    atomic_fetch_add(&device_searches, 1);
    sem_post(&in_search);
    while (sem_wait(&may_fail) != 0) {
    }
    sem_post(&may_fail);
    return kith_err_set(err, KITH_INTERNAL, "of a test");
}

static void *search_once(void *ctx) {
    (void)ctx;
    assert_false(search_check(0));
    return NULL;
}

static void *search_second(void *ctx) {
    atomic_store(&waiter, gettid());
    return search_once(ctx);
}

static void until_it_waits(void) {
    char path[64], text[512];
    const char *state = "";
    while (*state != 'S') {
        (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)atomic_load(&waiter));
        FILE *file = fopen(path, "r");
        state = file && fgets(text, sizeof text, file) ? strrchr(text, ')') + 2 : "";
        if (file) (void)fclose(file);
    }
}

static void test_cuda_faults__who_waited_for_a_worker_does_not_search_a_retired_device(void **state) {
    (void)state;
    const kith_cuda_plugin *kith_cuda_plugin_table(void);
    kith_cuda_plugin table = *kith_cuda_plugin_table();
    table.search = search_fails;
    cuda_emu_reset(seed);
    kith_cuda *cuda;
    kith_cuda_backend *backend;
    kith_err err;
    assert_ok(kith_cuda_open_table("of a test", &table, &cuda, &err), &err);
    kith_cuda_backend_options options = small_device;
    options.cuda = cuda;
    assert_ok(kith_cuda_backend_create(&options, &backend, &err), &err);
    kith_cuda_backend_install(backend);
    assert_ok(kith_cuda_backend_upload(backend, &cases[0].rows, &err), &err);
    assert_int_equal(sem_init(&in_search, 0, 0), 0);
    assert_int_equal(sem_init(&may_fail, 0, 0), 0);
    pthread_t first, second;
    assert_int_equal(pthread_create(&first, NULL, search_once, NULL), 0);
    assert_int_equal(sem_wait(&in_search), 0);
    assert_int_equal(pthread_create(&second, NULL, search_second, NULL), 0);
    until_it_waits();
    assert_int_equal(sem_post(&may_fail), 0);
    assert_int_equal(pthread_join(first, NULL), 0);
    assert_int_equal(pthread_join(second, NULL), 0);
    assert_int_equal(atomic_load(&device_searches), 1);
    kith_cuda_backend_drop(backend, cases[0].rows.vectors);
    kith_cuda_backend_destroy(backend);
    kith_cuda_close(cuda);
    assert_int_equal(cuda_emu_object_count(), 0);
}

int main(void) {
    seed = test_seed(20261122);
    cases_make();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_faults__each_call_fails_once),
        cmocka_unit_test(test_cuda_faults__the_device_is_lost_at_each_call),
        cmocka_unit_test(test_cuda_faults__no_device_is_said),
        cmocka_unit_test(test_cuda_faults__an_old_device_is_refused),
        cmocka_unit_test(test_cuda_faults__the_oldest_segment_makes_room),
        cmocka_unit_test(test_cuda_faults__what_does_not_fit_is_refused),
        cmocka_unit_test(test_cuda_faults__memory_that_others_took_is_refused),
        cmocka_unit_test(test_cuda_faults__threads_share_workers_while_segments_come_and_go),
        cmocka_unit_test(test_cuda_faults__who_waited_for_a_worker_does_not_search_a_retired_device),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cases_end();
    return failed;
}
