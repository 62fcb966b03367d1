/* The emulator finds what it is for, and right kernels pass it, whatever the order of threads. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/cuda_emu/cuda_emu.h"
#include "tests/cuda_emu/emu_faults.h"
#include "tests/lib/test_lib.h"

enum { COUNT = 64, SEEDS = 40 };

typedef struct fixture {
    void *stream;
    uint32_t *device;
    uint32_t numbers[COUNT];
} fixture;

static void begin(fixture *f, uint64_t seed) {
    cuda_emu_reset(seed);
    assert_int_equal(emu_stream_create(&f->stream), 0);
    assert_int_equal(emu_malloc((void **)&f->device, sizeof f->numbers), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        f->numbers[i] = 100 + i;
    assert_int_equal(emu_upload(f->device, f->numbers, sizeof f->numbers, f->stream), 0);
}

/* Runs the kernel and waits; the error of waiting. */
static int run(fixture *f, emu_faults_kernel which, uint32_t argument) {
    emu_faults_run(which, argument, f->device, f->numbers, f->stream);
    int error = emu_stream_wait(f->stream);
    if (error == 0) error = emu_download(f->numbers, f->device, sizeof f->numbers, f->stream);
    return error;
}

static void passes(emu_faults_kernel which, uint32_t argument, fixture *f, uint64_t seed) {
    begin(f, seed);
    int error = run(f, which, argument);
    if (error != 0) fail_msg("kernel %d, seed %llu: %s", which, (unsigned long long)seed, cuda_emu_report(0));
    assert_int_equal(cuda_emu_report_count(), 0);
}

/* Whatever the seed, the fault is found, and `text` is in what is said of it. */
static void is_found(emu_faults_kernel which, uint32_t argument, const char *text) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fixture f;
        begin(&f, seed);
        assert_int_equal(run(&f, which, argument), 719);
        assert_int_equal(cuda_emu_report_count(), 1);
        if (!strstr(cuda_emu_report(0), text))
            fail_msg("\"%s\" does not say \"%s\"", cuda_emu_report(0), text);
        assert_int_equal(emu_stream_wait(f.stream), 719); /* it sticks */
    }
}

static void test_cuda_emu__a_missing_barrier_is_a_race(void **state) {
    (void)state;
    fixture f;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        passes(EMU_REVERSE, 1, &f, seed);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_int_equal(f.numbers[i], 100 + COUNT - 1 - i);
    }
    is_found(EMU_REVERSE, 0, "reverse_kernel block (0,0,0) thread (");
}

static void test_cuda_emu__a_missing_warp_barrier_is_a_race(void **state) {
    (void)state;
    fixture f;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        passes(EMU_WARP_REVERSE, 1, &f, seed);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_int_equal(f.numbers[i], 100 + i / 32 * 32 + 31 - i % 32);
    }
    is_found(EMU_WARP_REVERSE, 0, "warp_reverse_kernel");
}

static void test_cuda_emu__blocks_that_count_without_atomics_race(void **state) {
    (void)state;
    fixture f;
    passes(EMU_COUNT_BLOCKS, 1, &f, 1);
    assert_int_equal(f.numbers[0], 108);
    is_found(EMU_COUNT_BLOCKS, 0, "race: block 0 thread 0 wrote it");
}

static void test_cuda_emu__a_write_out_of_bounds_is_found(void **state) {
    (void)state;
    fixture f;
    passes(EMU_OUT_OF_BOUNDS, COUNT - 1, &f, 1);
    is_found(EMU_OUT_OF_BOUNDS, COUNT, "write of 4 bytes at +256 of 256 device bytes: out of bounds");
    is_found(EMU_OUT_OF_BOUNDS, UINT32_MAX, "not memory of the device");
}

static void test_cuda_emu__host_memory_is_not_for_kernels(void **state) {
    (void)state;
    is_found(EMU_HOST_MEMORY, 0, "not memory of the device");
}

static void test_cuda_emu__shared_memory_is_not_read_before_it_is_written(void **state) {
    (void)state;
    fixture f;
    passes(EMU_UNWRITTEN, COUNT, &f, 1);
    is_found(EMU_UNWRITTEN, COUNT - 1, "shared bytes: never written");
}

/* What a launch asks for and the kernel's own objects, together. */
static void test_cuda_emu__too_much_shared_memory_is_found(void **state) {
    (void)state;
    fixture f;
    passes(EMU_SHARED, (48 << 10) - 256, &f, 1);
    is_found(EMU_SHARED, (48 << 10) - 240, "49168 bytes of shared memory, its launch may have 49152");
}

static void test_cuda_emu__threads_that_do_not_come_to_a_barrier_are_found(void **state) {
    (void)state;
    fixture f;
    passes(EMU_DIVERGENT, 0, &f, 1);
    is_found(EMU_DIVERGENT, 1, "where thread 5 does not come: it has ended");
    is_found(EMU_DIVERGENT, 2, "waits at another barrier");
    passes(EMU_DIVERGENT_WARP, 1, &f, 1);
    assert_int_equal(f.numbers[0], 0xaaaaaaaa);
    is_found(EMU_DIVERGENT_WARP, 0, "does not come: it has ended");
}

static void test_cuda_emu__shuffles(void **state) {
    (void)state;
    fixture f;
    passes(EMU_SHUFFLE, 0, &f, 3);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t sum = i < 32 ? 31 * 16 : 31 * 16 + 32 * 32, first = i / 32 * 32, down = i % 8 < 4 ? 4 : 0;
        assert_int_equal(f.numbers[i], sum + 10000 * first + 1000000 * down);
    }
}

static void mma_check(uint32_t k) {
    int8_t a[16][32], b[8][32];
    kith_rng rng;
    kith_rng_init(&rng, k);
    int8_t bytes[24 * 32];
    for (uint32_t i = 0; i < 24 * k; i++)
        bytes[i] = (int8_t)kith_rng_next(&rng);
    for (uint32_t i = 0; i < 16 * k; i++)
        a[i / k][i % k] = bytes[i];
    for (uint32_t i = 0; i < 8 * k; i++)
        b[i / k][i % k] = bytes[16 * k + i];
    fixture f;
    begin(&f, 1);
    assert_int_equal(emu_malloc((void **)&f.device, 24 * k + 16 * 8 * 4), 0);
    assert_int_equal(emu_upload(f.device, bytes, 24 * k, f.stream), 0);
    emu_faults_run(EMU_MMA, k, f.device, NULL, f.stream);
    int32_t c[16][8];
    assert_int_equal(emu_download(c, (char *)f.device + 24 * k, sizeof c, f.stream), 0);
    for (uint32_t row = 0; row < 16; row++) {
        for (uint32_t column = 0; column < 8; column++) {
            int32_t sum = 0;
            for (uint32_t i = 0; i < k; i++)
                sum += a[row][i] * b[column][i];
            assert_int_equal(c[row][column], sum);
        }
    }
}

static void test_cuda_emu__matrix_products(void **state) {
    (void)state;
    mma_check(16);
    mma_check(32);
}

enum { WGMMA_ROWS = 64, WGMMA_COLUMNS = 128, WGMMA_K = 32, WGMMA_SEEDS = 5 };

typedef struct wgmma_matrices {
    int8_t a[WGMMA_ROWS][WGMMA_K], b[WGMMA_COLUMNS][WGMMA_K];
    int32_t c[WGMMA_ROWS][WGMMA_COLUMNS];
} wgmma_matrices;

/* Runs the kernel; its error. `m` gets the sums if there is none. */
static int wgmma_run(emu_faults_wgmma how, uint64_t seed, wgmma_matrices *m) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint32_t i = 0; i < sizeof m->a; i++)
        ((int8_t *)m->a)[i] = (int8_t)kith_rng_next(&rng);
    for (uint32_t i = 0; i < sizeof m->b; i++)
        ((int8_t *)m->b)[i] = (int8_t)kith_rng_next(&rng);
    fixture f;
    begin(&f, seed);
    assert_int_equal(emu_malloc((void **)&f.device, sizeof *m), 0);
    assert_int_equal(emu_upload(f.device, m, sizeof m->a + sizeof m->b, f.stream), 0);
    emu_faults_run(EMU_WGMMA, how, f.device, NULL, f.stream);
    int error = emu_stream_wait(f.stream);
    if (error != 0) return error;
    assert_int_equal(cuda_emu_report_count(), 0);
    assert_int_equal(
        emu_download(m->c, (char *)f.device + sizeof m->a + sizeof m->b, sizeof m->c, f.stream), 0);
    return 0;
}

static bool wgmma_right(const wgmma_matrices *m) {
    for (uint32_t row = 0; row < WGMMA_ROWS; row++) {
        for (uint32_t column = 0; column < WGMMA_COLUMNS; column++) {
            int32_t sum = 0;
            for (uint32_t i = 0; i < WGMMA_K; i++)
                sum += m->a[row][i] * m->b[column][i];
            if (m->c[row][column] != 2 * sum) return false;
        }
    }
    return true;
}

static void wgmma_is_found(emu_faults_wgmma how, const char *text) {
    wgmma_matrices m;
    for (uint64_t seed = 1; seed <= WGMMA_SEEDS; seed++) {
        assert_int_equal(wgmma_run(how, seed, &m), 719);
        if (!strstr(cuda_emu_report(0), text))
            fail_msg("\"%s\" does not say \"%s\"", cuda_emu_report(0), text);
    }
}

static void test_cuda_emu__products_that_run_on_their_own(void **state) {
    (void)state;
    wgmma_matrices m;
    for (uint64_t seed = 1; seed <= WGMMA_SEEDS; seed++) {
        assert_int_equal(wgmma_run(EMU_WGMMA_RIGHT, seed, &m), 0);
        assert_true(wgmma_right(&m));
        assert_int_equal(wgmma_run(EMU_WGMMA_SUMS_READ_EARLY, seed, &m), 0);
        assert_false(wgmma_right(&m));
        assert_int_equal(wgmma_run(EMU_WGMMA_A_CHANGED_EARLY, seed, &m), 0);
        assert_false(wgmma_right(&m));
    }
    wgmma_is_found(EMU_WGMMA_NO_SHARED_FENCE, "shared memory that no fence made visible");
    wgmma_is_found(EMU_WGMMA_NO_BARRIER, "shared bytes: ");
    wgmma_is_found(EMU_WGMMA_NO_FENCE, "without a fence since the last group");
    wgmma_is_found(EMU_WGMMA_NO_WAIT, "ends while its products run");
    wgmma_is_found(EMU_WGMMA_ONE_WARP_LESS, "do not ask for the same products");
}

static void test_cuda_emu__the_host_cannot_touch_device_memory(void **state) {
    (void)state;
    fixture f;
    begin(&f, 1);
    assert_int_equal(emu_stream_wait(f.stream), 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], f.device, 4), -1);
    assert_int_equal(errno, EFAULT);
    close(ends[0]);
    close(ends[1]);
}

static void test_cuda_emu__bytes_never_written_are_not_copied_to_the_host(void **state) {
    (void)state;
    fixture f;
    uint32_t numbers[2], *fresh;
    begin(&f, 1);
    assert_int_equal(emu_malloc((void **)&fresh, sizeof numbers), 0);
    assert_int_equal(emu_upload(fresh, f.numbers, 4, f.stream), 0);
    assert_int_equal(emu_download(numbers, fresh, 4, f.stream), 0);
    assert_int_equal(cuda_emu_report_count(), 0);
    assert_int_equal(emu_download(numbers, fresh, 8, f.stream), 0);
    assert_int_equal(cuda_emu_report_count(), 1);
    assert_string_equal(cuda_emu_report(0), "copy of 8 bytes from the device: +4 was never written");
}

/* Who does not wait reads old bytes under some order. */
static void test_cuda_emu__work_that_nobody_waited_for_may_not_have_run(void **state) {
    (void)state;
    uint32_t late = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        fixture f;
        begin(&f, seed);
        uint32_t *pinned;
        assert_int_equal(emu_host_alloc((void **)&pinned, sizeof f.numbers), 0);
        assert_int_equal(emu_download(pinned, f.device, sizeof f.numbers, f.stream), 0);
        late += pinned[0] != 100;
        assert_int_equal(emu_stream_wait(f.stream), 0);
        assert_int_equal(pinned[0], 100);
    }
    assert_true(late > 0 && late < SEEDS);
}

static void test_cuda_emu__a_call_can_be_made_to_fail(void **state) {
    (void)state;
    fixture f;
    begin(&f, 1);
    cuda_emu_fail(2, CUDA_EMU_FAULT_ONCE);
    assert_int_equal(emu_stream_wait(f.stream), 0);
    void *more;
    assert_int_equal(emu_malloc(&more, 16), 2);
    assert_string_equal(cuda_emu_failed_call(), "cudaMalloc");
    assert_int_equal(emu_malloc(&more, 16), 0);
    cuda_emu_fail(1, CUDA_EMU_FAULT_STICKY);
    assert_int_equal(emu_stream_wait(f.stream), 719);
    assert_int_equal(emu_malloc(&more, 16), 719);
}

static void test_cuda_emu__memory_has_a_limit(void **state) {
    (void)state;
    cuda_emu_reset(1);
    cuda_emu_memory_limit(1000);
    void *first, *second;
    assert_int_equal(emu_malloc(&first, 600), 0);
    assert_int_equal(emu_malloc(&second, 600), 2);
    assert_int_equal(emu_free(first), 0);
    assert_int_equal(emu_malloc(&second, 600), 0);
    assert_int_equal(cuda_emu_object_count(), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_emu__a_missing_barrier_is_a_race),
        cmocka_unit_test(test_cuda_emu__a_missing_warp_barrier_is_a_race),
        cmocka_unit_test(test_cuda_emu__blocks_that_count_without_atomics_race),
        cmocka_unit_test(test_cuda_emu__a_write_out_of_bounds_is_found),
        cmocka_unit_test(test_cuda_emu__host_memory_is_not_for_kernels),
        cmocka_unit_test(test_cuda_emu__shared_memory_is_not_read_before_it_is_written),
        cmocka_unit_test(test_cuda_emu__too_much_shared_memory_is_found),
        cmocka_unit_test(test_cuda_emu__threads_that_do_not_come_to_a_barrier_are_found),
        cmocka_unit_test(test_cuda_emu__shuffles),
        cmocka_unit_test(test_cuda_emu__matrix_products),
        cmocka_unit_test(test_cuda_emu__products_that_run_on_their_own),
        cmocka_unit_test(test_cuda_emu__the_host_cannot_touch_device_memory),
        cmocka_unit_test(test_cuda_emu__bytes_never_written_are_not_copied_to_the_host),
        cmocka_unit_test(test_cuda_emu__work_that_nobody_waited_for_may_not_have_run),
        cmocka_unit_test(test_cuda_emu__a_call_can_be_made_to_fail),
        cmocka_unit_test(test_cuda_emu__memory_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
