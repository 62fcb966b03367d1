/* A machine without a usable GPU is told why, and nothing else happens. */
#include <stdio.h>
#include <string.h>

#include "kernels/cuda_loader.h"
#include "tests/lib/test_lib.h"

static void test_cuda_loader__a_missing_plugin_is_named(void **state) {
    (void)state;
    kith_cuda *cuda = NULL;
    kith_err err;
    assert_int_equal(kith_cuda_open("/nonexistent/libkith_cuda.so", &cuda, &err), KITH_UNAVAILABLE);
    assert_null(cuda);
    assert_non_null(strstr(err.text, "cuda plugin: /nonexistent/libkith_cuda.so"));
    kith_cuda_close(cuda);
}

static void test_cuda_loader__another_library_is_not_a_plugin(void **state) {
    (void)state;
    kith_cuda *cuda = NULL;
    kith_err err;
    assert_int_equal(kith_cuda_open("libm.so.6", &cuda, &err), KITH_UNAVAILABLE);
    assert_null(cuda);
    assert_string_equal(err.text, "libm.so.6 is not a cuda plugin: it has no kith_cuda_plugin_table");
}

static void test_cuda_loader__another_version_is_refused(void **state) {
    (void)state;
    kith_cuda *cuda = NULL;
    kith_err err;
    const kith_cuda_plugin older = {.version = 1, .table_bytes = sizeof(kith_cuda_plugin)};
    assert_int_equal(kith_cuda_open_table("older", &older, &cuda, &err), KITH_UNAVAILABLE);
    assert_null(cuda);
    assert_non_null(strstr(err.text, "cuda plugin older has version 1 of "));
    char needed[64];
    (void)snprintf(needed, sizeof needed, ", this kith needs %u of ", KITH_CUDA_PLUGIN_VERSION);
    assert_non_null(strstr(err.text, needed));
}

#ifdef KITH_TEST_CUDA_PLUGIN
static void test_cuda_loader__opens_where_there_is_a_device_and_else_says_why(void **state) {
    (void)state;
    kith_cuda *cuda = NULL;
    kith_err err;
    kith_status status = kith_cuda_open(KITH_TEST_CUDA_PLUGIN, &cuda, &err);
    if (status == KITH_OK) {
        print_message("%u cuda devices\n", kith_cuda_device_count(cuda));
        assert_true(kith_cuda_device_count(cuda) > 0);
        assert_non_null(kith_cuda_table(cuda)->rescore);
    } else {
        print_message("%s\n", err.text);
        assert_int_equal(status, KITH_UNAVAILABLE);
        assert_null(cuda);
        assert_non_null(strstr(err.text, "no cuda device: "));
    }
    kith_cuda_close(cuda);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_loader__a_missing_plugin_is_named),
        cmocka_unit_test(test_cuda_loader__another_library_is_not_a_plugin),
        cmocka_unit_test(test_cuda_loader__another_version_is_refused),
#ifdef KITH_TEST_CUDA_PLUGIN
        cmocka_unit_test(test_cuda_loader__opens_where_there_is_a_device_and_else_says_why),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
