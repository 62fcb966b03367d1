/* The command line of kithd. */
#include <string.h>

#include "host/role/kithd_options.h"
#include "tests/lib/test_lib.h"

static kith_status parse(const char *const *arguments, kithd_options *options, kith_err *err) {
    int count = 0;
    while (arguments[count])
        count++;
    return kithd_options_parse(count, (char **)arguments, options, err);
}

static void test_kithd_options__flags_become_overrides_in_order(void **unused) {
    (void)unused;
    kithd_options options;
    kith_err err;
    const char *arguments[] = {"kithd", "--http-port", "0", "--data-dir=/x", "--set", "log_level=debug",
        "--config", "f", "--role", "standalone", NULL};
    assert_ok(parse(arguments, &options, &err), &err);
    assert_string_equal(options.overrides[0], "http_port=0");
    assert_string_equal(options.overrides[1], "data_dir=/x");
    assert_string_equal(options.overrides[2], "log_level=debug");
    assert_string_equal(options.overrides[3], "role=standalone");
    assert_null(options.overrides[4]);
    assert_string_equal(options.config_path, "f");
    kithd_options_fini(&options);
}

static void test_kithd_options__mistakes_are_named(void **unused) {
    (void)unused;
    static const struct {
        const char *arguments[4];
        kith_status status;
        const char *word;
    } cases[] = {
        {{"kithd", "--htp-port", "1", NULL}, KITH_INVALID, "--http-port"},
        {{"kithd", "elephant", NULL}, KITH_INVALID, "elephant"},
        {{"kithd", "--config", NULL}, KITH_INVALID, "FILE"},
        {{"kithd", "--help=yes", NULL}, KITH_INVALID, "takes no value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kithd_options options;
        kith_err err;
        assert_int_equal(parse(cases[i].arguments, &options, &err), cases[i].status);
        assert_non_null(strstr(err.text, cases[i].word));
    }
}

static void test_kithd_options__help_lists_every_flag(void **unused) {
    (void)unused;
    const char *const wanted[] = {"--config", "--role", "--data-dir", "--http-port", "--grpc-port",
        "--node-port", "--set", "--print-config", "--version", "--help"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_non_null(strstr(kithd_options_help(), wanted[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kithd_options__flags_become_overrides_in_order),
        cmocka_unit_test(test_kithd_options__mistakes_are_named),
        cmocka_unit_test(test_kithd_options__help_lists_every_flag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
