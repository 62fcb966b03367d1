#include "tests/lib/test_lib.h"

#include <errno.h>
#include <string.h>

static void test_base__status_texts_and_codes_come_from_the_table(void **state) {
    (void)state;
    assert_string_equal(kith_status_name(KITH_NO_SPACE), "NO_SPACE");
    assert_string_equal(kith_status_text(KITH_NO_SPACE), "no space left on device");
    assert_int_equal(kith_status_grpc(KITH_NOT_FOUND), 5);
    assert_int_equal(kith_status_http(KITH_BUSY), 429);
    assert_string_equal(kith_status_text((kith_status)99), "unknown status");
}

static void test_base__status_number_of_a_peer_is_not_trusted(void **state) {
    (void)state;
    for (uint32_t number = 0; number < 100; number++) {
        kith_status status = kith_status_from_number(number);
        assert_true((uint32_t)status == number || status == KITH_INTERNAL);
    }
    assert_int_equal(kith_status_from_number(21), KITH_NO_MEMORY);
    assert_int_equal(kith_status_from_number(UINT32_MAX), KITH_INTERNAL);
}

static void test_base__err_prefixes_are_put_in_front(void **state) {
    (void)state;
    kith_err err;
    assert_int_equal(kith_err_set(&err, KITH_INVALID, "dim %u is not in 1..%u", 0u, 16384u), KITH_INVALID);
    assert_int_equal(kith_err_wrap(&err, KITH_INVALID, "open shard %s", "c3/07"), KITH_INVALID);
    assert_string_equal(err.text, "open shard c3/07: dim 0 is not in 1..16384");
    assert_int_equal(err.status, KITH_INVALID);
}

static void test_base__err_may_be_left_out(void **state) {
    (void)state;
    assert_int_equal(kith_err_set(NULL, KITH_BUSY, "x"), KITH_BUSY);
    assert_int_equal(kith_err_wrap(NULL, KITH_BUSY, "x"), KITH_BUSY);
    assert_int_equal(kith_err_set_errno(NULL, ENOSPC, "x"), KITH_NO_SPACE);
}

static void test_base__err_may_quote_its_own_old_text(void **state) {
    (void)state;
    kith_err err;
    kith_err_set(&err, KITH_IO, "disk on fire");
    kith_err_set(&err, KITH_UNAVAILABLE, "node 3: %s", err.text);
    assert_string_equal(err.text, "node 3: disk on fire");
}

static void test_base__err_names_the_cause_of_an_errno(void **state) {
    (void)state;
    kith_err err;
    assert_int_equal(kith_err_set_errno(&err, EDQUOT, "write %s", "a"), KITH_NO_SPACE);
    assert_int_equal(kith_err_set_errno(&err, ENOENT, "open %s", "a"), KITH_NOT_FOUND);
    assert_string_equal(err.text, "open a: No such file or directory");
    assert_int_equal(kith_err_set_errno(&err, ENOMEM, "a"), KITH_NO_MEMORY);
    assert_int_equal(kith_err_set_errno(&err, EEXIST, "a"), KITH_EXISTS);
    assert_int_equal(kith_err_set_errno(&err, EIO, "a"), KITH_IO);
}

static void test_base__err_is_cut_between_characters(void **state) {
    (void)state;
    char text[1024];
    for (size_t i = 0; i < sizeof text - 1; i += 3)
        memcpy(text + i, "\xE2\x82\xAC", 3);
    text[sizeof text - 1] = 0;
    kith_err err;
    for (int shift = 0; shift < 3; shift++) {
        kith_err_set(&err, KITH_INVALID, "%.*s%s", shift, "ab", text);
        size_t bytes = strlen(err.text);
        assert_in_range(bytes, KITH_ERR_BYTES_MAX - 3, KITH_ERR_BYTES_MAX - 1);
        assert_memory_equal(err.text + bytes - 3, "\xE2\x82\xAC", 3);
        kith_err_wrap(&err, KITH_INVALID, "p");
        bytes = strlen(err.text);
        assert_memory_equal(err.text + bytes - 3, "\xE2\x82\xAC", 3);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__status_texts_and_codes_come_from_the_table),
        cmocka_unit_test(test_base__status_number_of_a_peer_is_not_trusted),
        cmocka_unit_test(test_base__err_prefixes_are_put_in_front),
        cmocka_unit_test(test_base__err_may_be_left_out),
        cmocka_unit_test(test_base__err_may_quote_its_own_old_text),
        cmocka_unit_test(test_base__err_names_the_cause_of_an_errno),
        cmocka_unit_test(test_base__err_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
