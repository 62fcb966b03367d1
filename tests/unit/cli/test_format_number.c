/* The number parser against strtof: random floats in many notations, near ties, the edges of the range, and
 * what is no JSON number. */
#include "tests/lib/test_lib.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/format.h"

static void assert_as_strtof(const char *text) {
    const char *at = text;
    const char *end = text + strlen(text);
    float value = NAN;
    float expected = strtof(text, NULL);
    bool ok = kith_format_float(&at, end, &value);
    if (isinf(expected)) {
        assert_false(ok);
        return;
    }
    if (!ok || at != end || memcmp(&value, &expected, sizeof value) != 0)
        fail_msg("%s: %a, strtof says %a", text, (double)value, (double)expected);
}

static void test_format_float__agrees_with_strtof_on_random_floats(void **state) {
    static const char *const formats[] = {"%.3f", "%.6f", "%.9g", "%.17g", "%.25g", "%.9e", "%.0f"};
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(11));
    for (uint64_t i = 0; i < test_scaled(200000); i++) {
        uint32_t bits = (uint32_t)kith_rng_next(&rng);
        float value;
        char text[128];
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, formats[kith_rng_below(&rng, sizeof formats / sizeof formats[0])],
            (double)value);
#pragma GCC diagnostic pop
        assert_as_strtof(text);
    }
}

/* Half way between two floats, exactly and a hair beside it: where a detour over double rounds twice. */
static void test_format_float__rounds_ties_once(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(12));
    for (uint64_t i = 0; i < test_scaled(50000); i++) {
        uint32_t bits = (uint32_t)kith_rng_below(&rng, 0x7f000000);
        float low;
        char text[512];
        memcpy(&low, &bits, sizeof low);
        double middle = ((double)low + (double)nextafterf(low, INFINITY)) / 2;
        int bytes = snprintf(text, sizeof text, "%.160f", middle);
        assert_as_strtof(text);
        snprintf(text + bytes, sizeof text - (size_t)bytes, "1");
        assert_as_strtof(text);
        snprintf(text, sizeof text, "%.17e", nextafter(middle, 0));
        assert_as_strtof(text);
    }
}

static void test_format_float__knows_the_edges(void **state) {
    static const char *const texts[] = {"0", "-0", "0.0", "-0.0e5", "1e-45", "1.4e-45", "7e-46", "7.1e-46",
        "1e-400", "3.4028235e38", "3.4028235677973366e38", "3.4028235677973365e38", "3.5e38", "1e39",
        "1e99999999999", "16777217", "16777216.000000000000000000000001", "123456789012345678901234567890",
        "1.17549435e-38", "0.000000000000000000000000000000000000000000000000000000000001e60",
        "9007199254740993"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_as_strtof(texts[i]);
}

static void test_format_float__refuses_what_is_no_json_number(void **state) {
    static const char *const texts[] = {
        "", "-", "+1", ".5", "1.", "01", "-01", "1e", "1e+", "nan", "inf", "0x10", "--1", "e5", "Infinity"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *at = texts[i];
        const char *end = at + strlen(at);
        float value;
        bool all = kith_format_float(&at, end, &value) && at == end;
        if (all) fail_msg("'%s' was taken", texts[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format_float__agrees_with_strtof_on_random_floats),
        cmocka_unit_test(test_format_float__rounds_ties_once),
        cmocka_unit_test(test_format_float__knows_the_edges),
        cmocka_unit_test(test_format_float__refuses_what_is_no_json_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
