#include "tests/lib/test_lib.h"

#include <string.h>

#include "host/base/text.h"

static kith_status check(const char *text, uint32_t depth_max, kith_err *err) {
    return kith_text_json_check(text, strlen(text), depth_max, false, err);
}

static void test_base__json_accepts_what_rfc_8259_does(void **state) {
    (void)state;
    static const char *const good[] = {"0", "-0", "-1.5e+10", "1E5", "true", "false", "null", "\"\"", " [ ] ",
        "{ }", "[1,2,3]", "[[],[[]],{}]", "{\"a\":1,\"b\":{\"c\":[null,{\"d\":\"e\"}]}}", "\t\r\n[ 1 , 2 ]\n",
        "\"\\u00e9\\ud83d\\ude00\\n\\\"\\/\\\\\"", "{\"\":0}", "{\"a\":[],\"b\":[]}", "\"\\u0000\"",
        "\"\xF0\x9F\x98\x80\""};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        kith_err err;
        assert_ok(check(good[i], 8, &err), &err);
    }
}

static void test_base__json_refuses_all_else(void **state) {
    (void)state;
    static const char *const wrong[] = {"", " ", "01", "+1", "1.", ".5", "1e", "-", "tru", "True", "nul",
        "\"", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"",
        "\"\\ud800\\ud800\"", "[1,]", "[,1]", "[1 2]", "[1", "]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
        "{a:1}", "{'a':1}", "{\"a\":1", "{\"a\":1]", "[1}", "1 2", "[] []", "{} x", "nan", "Infinity",
        "\"\xFF\"", "[\"\\\"]", "/* */ 1", "\"\\", "{\"a\" 1}", "{1:2}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        kith_err err;
        if (check(wrong[i], 8, &err) != KITH_INVALID) fail_msg("accepted %s", wrong[i]);
        assert_non_null(strstr(err.text, "at byte"));
    }
    kith_err err;
    assert_int_equal(kith_text_json_check("1\0", 2, 8, false, &err), KITH_INVALID);
    assert_int_equal(kith_text_json_check(NULL, 0, 8, false, &err), KITH_INVALID);
}

static void test_base__json_message_says_what_and_where(void **state) {
    (void)state;
    kith_err err;
    assert_int_equal(check("{\"a\":1 \"b\":2}", 8, &err), KITH_INVALID);
    assert_string_equal(err.text, "not valid JSON: expected ',' or '}' at byte 7");
    assert_int_equal(check("[1,2,\"\xC3(\"]", 8, &err), KITH_INVALID);
    assert_string_equal(err.text, "not valid JSON: not UTF-8 at byte 6");
}

static void test_base__json_depth_is_bounded(void **state) {
    (void)state;
    kith_err err;
    assert_ok(check("[[[1]]]", 3, &err), &err);
    assert_int_equal(check("[[[[1]]]]", 3, &err), KITH_INVALID);
    assert_string_equal(err.text, "JSON is nested deeper than 3 at byte 3");
    assert_ok(check("1", 0, &err), &err);
    assert_int_equal(check("[]", 0, &err), KITH_INVALID);
    char deep[4096];
    for (size_t i = 0; i < 1024; i++) {
        deep[i] = '[';
        deep[1024 + i] = ']';
    }
    assert_ok(kith_text_json_check(deep, 2048, 1024, false, &err), &err);
    memset(deep, '[', sizeof deep);
    assert_int_equal(kith_text_json_check(deep, sizeof deep, 1024, false, &err), KITH_INVALID);
}

static void test_base__json_object_only_refuses_other_values(void **state) {
    (void)state;
    kith_err err;
    assert_ok(kith_text_json_check(" {}", 3, 1, true, &err), &err);
    assert_int_equal(kith_text_json_check("[]", 2, 1, true, &err), KITH_INVALID);
    assert_int_equal(kith_text_json_check("1", 1, 1, true, &err), KITH_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__json_accepts_what_rfc_8259_does),
        cmocka_unit_test(test_base__json_refuses_all_else),
        cmocka_unit_test(test_base__json_message_says_what_and_where),
        cmocka_unit_test(test_base__json_depth_is_bounded),
        cmocka_unit_test(test_base__json_object_only_refuses_other_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
