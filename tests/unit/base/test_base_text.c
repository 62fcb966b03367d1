#include "tests/lib/test_lib.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/text.h"

typedef struct utf8_case {
    const char *text;
    size_t bytes;
    int bad_offset; /* -1: good */
} utf8_case;

static void test_base__utf8_accepts_exactly_what_is_well_formed(void **state) {
    (void)state;
    static const utf8_case cases[] = {
        {"", 0, -1},
        {"plain ascii that is longer than a word", 38, -1},
        {"\xC3\xA9", 2, -1},
        {"\xE2\x82\xAC", 3, -1},
        {"\xF0\x9F\x98\x80", 4, -1},
        {"\xF4\x8F\xBF\xBF", 4, -1},
        {"\xEE\x80\x80", 3, -1},
        {"ab\x80", 3, 2},           /* stray continuation */
        {"\xC0\xAF", 2, 0},         /* overlong */
        {"\xE0\x9F\xBF", 3, 0},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 4, 0}, /* overlong */
        {"x\xED\xA0\x80", 4, 1},    /* surrogate */
        {"\xF4\x90\x80\x80", 4, 0}, /* past U+10FFFF */
        {"\xF5\x80\x80\x80", 4, 0},
        {"abcdefghi\xE2\x82", 11, 9}, /* cut */
        {"\xE2(\xA1", 3, 0},
        {"\xFF", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bad = 999;
        bool good = kith_text_utf8_check(cases[i].text, cases[i].bytes, &bad);
        assert_int_equal(good, cases[i].bad_offset < 0);
        if (!good) assert_int_equal(bad, cases[i].bad_offset);
    }
}

static bool parses_u64(const char *text, uint64_t wanted) {
    uint64_t value;
    return kith_text_parse_u64(text, strlen(text), &value) && value == wanted;
}

static bool refuses_u64(const char *text) {
    uint64_t value = 77;
    return !kith_text_parse_u64(text, strlen(text), &value) && value == 77;
}

static void test_base__text_parses_whole_integers_only(void **state) {
    (void)state;
    assert_true(parses_u64("0", 0));
    assert_true(parses_u64("18446744073709551615", UINT64_MAX));
    assert_true(refuses_u64("18446744073709551616"));
    assert_true(refuses_u64("99999999999999999999999"));
    assert_true(refuses_u64(""));
    assert_true(refuses_u64("+1"));
    assert_true(refuses_u64("-1"));
    assert_true(refuses_u64(" 1"));
    assert_true(refuses_u64("1 "));
    assert_true(refuses_u64("0x10"));
    int64_t value;
    assert_true(kith_text_parse_i64("-9223372036854775808", 20, &value) && value == INT64_MIN);
    assert_true(kith_text_parse_i64("9223372036854775807", 19, &value) && value == INT64_MAX);
    assert_false(kith_text_parse_i64("9223372036854775808", 19, &value));
    assert_false(kith_text_parse_i64("-9223372036854775809", 20, &value));
    assert_false(kith_text_parse_i64("-", 1, &value));
    assert_false(kith_text_parse_i64("--1", 3, &value));
}

static void test_base__text_parses_decimal_numbers_as_the_c_library_does(void **state) {
    (void)state;
    static const char *const good[] = {"0", "-0", "1", "-2.5e3", "1E+2", "0.1",
        "123456789012345678901234567890", "4.9406564584124654e-324", "1.7976931348623157e308",
        "2.2250738585072011e-308", "9007199254740993", "1e-400", "1e-99999999999", "0e99999999999",
        "3.4028235677973366e+38", "0.000000000000000000000000000001e30",
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012.5"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double value;
        assert_true(kith_text_parse_f64(good[i], strlen(good[i]), &value));
        double wanted = strtod(good[i], NULL);
        assert_memory_equal(&value, &wanted, sizeof value);
    }
    static const char *const wrong[] = {"", "-", "+1", ".5", "1.", "1e", "1e+", "inf", "nan", "0x10", "1 ",
        " 1", "1e400", "-1e309", "1.5.2", "1e5x", "1,5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        double value = 77;
        assert_false(kith_text_parse_f64(wrong[i], strlen(wrong[i]), &value));
        assert_true(value == 77);
    }
    double value;
    assert_true(kith_text_parse_f64("1e5", 2 + 1, &value) && value == 1e5);
}

static void f32_text(float value, char *text) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_text_append_f32(&buf, value);
    memcpy(text, buf.data, buf.bytes);
    text[buf.bytes] = 0;
    kith_buf_fini(&buf);
}

static void test_base__text_f32_is_as_people_write_it(void **state) {
    (void)state;
    static const struct {
        float value;
        const char *text;
    } cases[] = {{0, "0"}, {-0.0f, "-0"}, {1, "1"}, {-1.5f, "-1.5"}, {0.1f, "0.1"}, {16777216, "16777216"},
        {1e-7f, "1e-7"}, {FLT_MAX, "3.4028235e38"}, {FLT_TRUE_MIN, "1e-45"}, {FLT_MIN, "1.1754944e-38"},
        {0.3f, "0.3"}, {1e6f, "1000000"}, {123456.7f, "123456.7"}, {0.00001f, "0.00001"},
        {9.999999e20f, "999999900000000000000"}, {1e21f, "1e21"}, {8388608.5f, "8388608"},
        {33554432, "33554432"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[80];
        f32_text(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
    }
    char text[80];
    f32_text(NAN, text);
    assert_string_equal(text, "null");
    f32_text(-INFINITY, text);
    assert_string_equal(text, "null");
}

static int digit_count(const char *text) {
    char digits[80];
    int count = 0;
    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9' && (count || *text != '0')) digits[count++] = *text;
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

/* The fewest digits of %e that read back. */
static int fewest_digits(float value) {
    for (int digits = 1; digits < 9; digits++) {
        char text[80];
        snprintf(text, sizeof text, "%.*e", digits - 1, (double)value);
        if (strtof(text, NULL) == value) return digits;
    }
    return 9;
}

static void check_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value)) return;
    char text[80];
    f32_text(value, text);
    float back = strtof(text, NULL);
    assert_memory_equal(&back, &value, sizeof value);
    /* Rounding %e to n digits may miss an n-digit decimal that reads back, so the shortest may be shorter
     * still. */
    assert_true(digit_count(text) <= fewest_digits(value));
}

static void test_base__text_f32_is_shortest_and_reads_back(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(6));
    for (uint64_t i = 0; i < test_scaled(100000); i++)
        check_f32((uint32_t)kith_rng_next(&rng));
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (int near = -2; near <= 2; near++)
            check_f32((exponent << 23) + (uint32_t)near);
}

static void test_base__text_f64_reads_back(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(7));
    kith_buf buf;
    kith_buf_init(&buf);
    for (uint64_t i = 0; i < test_scaled(5000); i++) {
        uint64_t bits = kith_rng_next(&rng);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        kith_buf_clear(&buf);
        kith_text_append_f64(&buf, value);
        double back;
        assert_true(kith_text_parse_f64((const char *)buf.data, buf.bytes, &back));
        assert_memory_equal(&back, &value, sizeof value);
    }
    kith_buf_clear(&buf);
    kith_text_append_f64(&buf, 0.1);
    assert_int_equal(buf.bytes, 3);
    kith_buf_fini(&buf);
}

static void test_base__text_distance_counts_edits(void **state) {
    (void)state;
    assert_int_equal(kith_text_distance("kitten", "sitting"), 3);
    assert_int_equal(kith_text_distance("", "abc"), 3);
    assert_int_equal(kith_text_distance("abc", ""), 3);
    assert_int_equal(kith_text_distance("http_port", "http_port"), 0);
    assert_int_equal(kith_text_distance("http_prot", "http_port"), 2);
}

static void test_base__text_json_string_escapes_and_mends(void **state) {
    (void)state;
    static const char text[] = "a\"b\\c\n\t\r\x01\x7F/\xE2\x82\xAC\xFF.";
    kith_buf buf;
    kith_buf_init(&buf);
    kith_text_append_json_string(&buf, text, sizeof text - 1);
    static const char wanted[] = "\"a\\\"b\\\\c\\n\\t\\r\\u0001\\u007f/\xE2\x82\xAC\xEF\xBF\xBD.\"";
    assert_int_equal(buf.bytes, sizeof wanted - 1);
    assert_memory_equal(buf.data, wanted, buf.bytes);
    kith_err err;
    assert_ok(kith_text_json_check((const char *)buf.data, buf.bytes, 1, false, &err), &err);
    kith_buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__utf8_accepts_exactly_what_is_well_formed),
        cmocka_unit_test(test_base__text_parses_whole_integers_only),
        cmocka_unit_test(test_base__text_parses_decimal_numbers_as_the_c_library_does),
        cmocka_unit_test(test_base__text_f32_is_as_people_write_it),
        cmocka_unit_test(test_base__text_f32_is_shortest_and_reads_back),
        cmocka_unit_test(test_base__text_f64_reads_back),
        cmocka_unit_test(test_base__text_distance_counts_edits),
        cmocka_unit_test(test_base__text_json_string_escapes_and_mends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
