/* compute_backend: what is taken, what is said, and when a node is ready. With plugins that have no device; one that works
 * is in tests/kernels/test_cuda_served.c. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "host/role/role_compute.h"
#include "tests/lib/test_lib.h"

static struct {
    uint32_t asked; /* times that a plugin was looked at */
    uint32_t lines; /* that name the choice */
    char line[1024];
} seen;

static kith_status no_driver(uint32_t *count_out, kith_err *err) {
    (void)count_out;
    seen.asked++;
    return kith_err_set(err, KITH_UNAVAILABLE, "no driver is loaded");
}

static kith_status no_device(uint32_t *count_out, kith_err *err) {
    (void)err;
    seen.asked++;
    *count_out = 0;
    return KITH_OK;
}

static void line_take(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx, (void)level;
    static const char event[] = "event=compute_backend ";
    if (!memmem(line, bytes, event, sizeof event - 1)) return; /* it ends without a zero */
    seen.lines++;
    snprintf(seen.line, sizeof seen.line, "%.*s", (int)bytes, line);
}

static kith_role_compute open_with(
    kith_config_compute_backend wanted, kith_status (*device_count)(uint32_t *count_out, kith_err *err)) {
    const kith_cuda_plugin plugin = {
        .version = KITH_CUDA_PLUGIN_VERSION, .table_bytes = sizeof plugin, .device_count = device_count};
    kith_role_gpu gpu = {.plugin = &plugin};
    kith_role_compute compute;
    memset(&seen, 0, sizeof seen);
    kith_role_compute_open(&compute, wanted, &gpu);
    assert_int_equal(seen.lines, 1);
    assert_ptr_equal(compute.ops, kith_compute_cpu());
    return compute;
}

static void test_compute__cpu_never_looks_at_the_plugin(void **state) {
    (void)state;
    kith_err err;
    kith_role_compute compute = open_with(KITH_CONFIG_COMPUTE_BACKEND_CPU, no_driver);
    assert_int_equal(seen.asked, 0);
    assert_non_null(strstr(seen.line, compute.ops->name));
    assert_ok(kith_role_compute_health(&compute, &err), &err);
    kith_role_compute_close(&compute);
}

static void test_compute__auto_takes_the_cpu_and_says_why(void **state) {
    (void)state;
    kith_err err;
    kith_role_compute compute = open_with(KITH_CONFIG_COMPUTE_BACKEND_AUTO, no_driver);
    assert_int_equal(seen.asked, 1);
    assert_non_null(strstr(seen.line, compute.ops->name));
    assert_non_null(strstr(seen.line, "no driver is loaded"));
    assert_ok(kith_role_compute_health(&compute, &err), &err);
    kith_role_compute_close(&compute);
    compute = open_with(KITH_CONFIG_COMPUTE_BACKEND_AUTO, no_device);
    assert_non_null(strstr(seen.line, "there is no device"));
    kith_role_compute_close(&compute);
}

static void test_compute__cuda_that_cannot_be_had_is_not_ready_with_the_reason(void **state) {
    (void)state;
    kith_err err;
    kith_role_compute compute = open_with(KITH_CONFIG_COMPUTE_BACKEND_CUDA, no_driver);
    assert_int_equal(kith_role_compute_health(&compute, &err), KITH_UNAVAILABLE);
    assert_non_null(strstr(err.text, "compute_backend = cuda: "));
    assert_non_null(strstr(err.text, "no driver is loaded"));
    kith_role_compute_close(&compute);
}

int main(void) {
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, line_take, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compute__cpu_never_looks_at_the_plugin),
        cmocka_unit_test(test_compute__auto_takes_the_cpu_and_says_why),
        cmocka_unit_test(test_compute__cuda_that_cannot_be_had_is_not_ready_with_the_reason),
    };
    return cmocka_run_group_tests_name("role_compute", tests, NULL, NULL);
}
