/* Ids: texts, canonical bytes, order. */
#include <string.h>

#include "host/base/hash.h"
#include "host/model/id.h"
#include "tests/lib/test_lib.h"

static const char uuid_text[] = "936da01f-9abd-4d9d-80c7-02af85c822a8";

static void text_is_uuid(const char *text) {
    kith_err err;
    uint8_t uuid[16];
    kith_id id;
    kith_buf buf;
    kith_buf_init(&buf);
    assert_ok(kith_id_from_text(text, strlen(text), uuid, &id, &err), &err);
    assert_int_equal(id.type, KITH_ID_UUID);
    kith_id_append_text(&buf, &id);
    assert_int_equal(buf.bytes, 36);
    assert_memory_equal(buf.data, uuid_text, 36);
    kith_buf_fini(&buf);
}

static void text_is_string(const char *text) {
    kith_err err;
    uint8_t uuid[16];
    kith_id id;
    assert_ok(kith_id_from_text(text, strlen(text), uuid, &id, &err), &err);
    assert_int_equal(id.type, KITH_ID_STRING);
    assert_int_equal(id.text_bytes, strlen(text));
}

static void test_id__all_texts_of_a_uuid_are_one_id(void **state) {
    (void)state;
    text_is_uuid(uuid_text);
    text_is_uuid("936DA01F-9ABD-4D9D-80C7-02AF85C822A8");
    text_is_uuid("936da01f9abd4d9d80c702af85c822a8");
    text_is_uuid("urn:uuid:936da01f-9abd-4d9d-80c7-02af85c822a8");
    text_is_uuid("{936da01f-9abd-4d9d-80c7-02af85c822a8}");
}

static void test_id__near_uuids_are_strings(void **state) {
    (void)state;
    text_is_string("42");
    text_is_string("936da01f-9abd-4d9d-80c7-02af85c822ag");
    text_is_string("936da01f-9abd-4d9d-80c702af-85c822a8");
    text_is_string("936da01f9abd4d9d80c702af85c822a");
    text_is_string("{936da01f9abd4d9d80c702af85c822a8000000");
}

static void test_id__bad_texts_are_refused_with_the_reason(void **state) {
    (void)state;
    char text[300];
    uint8_t uuid[16];
    kith_id id;
    kith_err err;
    memset(text, 'a', sizeof text);
    assert_int_equal(kith_id_from_text("", 0, uuid, &id, &err), KITH_INVALID);
    assert_int_equal(kith_id_from_text(text, 256, uuid, &id, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "256"));
    assert_int_equal(kith_id_from_text("ab\xff", 3, uuid, &id, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "byte 2"));
    assert_ok(kith_id_from_text(text, 255, uuid, &id, &err), &err);
}

/* A random id whose bytes are in `bytes`; few distinct values so that equal ones come up. */
static kith_id id_random(kith_rng *rng, uint8_t bytes[255]) {
    uint32_t type = 1 + (uint32_t)kith_rng_below(rng, 3);
    for (int i = 0; i < 255; i++)
        bytes[i] = (uint8_t)('a' + kith_rng_below(rng, 2));
    if (type == KITH_ID_NUMBER) return kith_id_of_number(kith_rng_next(rng) >> kith_rng_below(rng, 64));
    if (type == KITH_ID_UUID) return (kith_id){.type = KITH_ID_UUID, .bytes = bytes};
    return (kith_id){
        .type = KITH_ID_STRING, .text_bytes = (uint8_t)(1 + kith_rng_below(rng, 4)), .bytes = bytes};
}

static int sign(int value) {
    return (value > 0) - (value < 0);
}

static void test_id__order_keys_order_as_ids_do(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t i = 0; i < test_scaled(20000); i++) {
        uint8_t a_bytes[255], b_bytes[255], a_key[256], b_key[256];
        kith_id a = id_random(&rng, a_bytes), b = id_random(&rng, b_bytes);
        size_t a_size = kith_id_order_key(&a, a_key), b_size = kith_id_order_key(&b, b_key);
        int order = memcmp(a_key, b_key, a_size < b_size ? a_size : b_size);
        if (order == 0) order = (a_size > b_size) - (a_size < b_size);
        assert_int_equal(sign(order), sign(kith_id_compare(&a, &b)));
        assert_int_equal(sign(order), -sign(kith_id_compare(&b, &a)));
    }
}

static void test_id__bytes_read_back_as_the_same_id(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(2));
    for (uint64_t i = 0; i < test_scaled(5000); i++) {
        uint8_t bytes[255], canonical[256], key[256];
        kith_id id = id_random(&rng, bytes), back;
        size_t size = kith_id_encode(&id, canonical);
        assert_true(kith_id_decode(canonical, size, &back));
        assert_int_equal(kith_id_compare(&id, &back), 0);
        assert_int_equal(kith_id_hash(&back), kith_hash64(canonical, size));
        size = kith_id_order_key(&id, key);
        assert_true(kith_id_from_order_key(key, size, &back));
        assert_int_equal(kith_id_compare(&id, &back), 0);
    }
}

/* What a table of 4096 places together under seed 0, which is all that a client can find out by itself, another seed
 * scatters. */
static void test_id__ids_chosen_to_share_a_place_are_scattered_by_the_seed(void **state) {
    (void)state;
    enum { PLACES = 4096, CHOSEN = 200 };
    static uint32_t taken[PLACES];
    uint32_t chosen = 0, most = 0;
    uint64_t seed = test_seed(2);
    for (uint64_t number = 0; chosen < CHOSEN; number++) {
        kith_id id = kith_id_of_number(number);
        if (kith_id_hash_for_table(&id) % PLACES != 0) continue;
        chosen++;
        kith_hash_table_seed_set(seed ? seed : 1);
        uint32_t *count = &taken[kith_id_hash_for_table(&id) % PLACES];
        kith_hash_table_seed_set(0);
        if (++*count > most) most = *count;
    }
    assert_in_range(most, 1, 5);
}

static void test_id__malformed_bytes_are_no_id(void **state) {
    (void)state;
    kith_id id;
    uint8_t bytes[300] = {KITH_ID_NUMBER};
    assert_false(kith_id_decode(bytes, 0, &id));
    assert_false(kith_id_decode(bytes, 1, &id));
    assert_false(kith_id_decode(bytes, 8, &id));
    assert_false(kith_id_decode(bytes, 10, &id));
    bytes[0] = KITH_ID_UUID;
    assert_false(kith_id_decode(bytes, 16, &id));
    bytes[0] = KITH_ID_STRING;
    assert_false(kith_id_decode(bytes, 257, &id));
    assert_true(kith_id_decode(bytes, 256, &id));
    bytes[0] = 0;
    assert_false(kith_id_decode(bytes, 9, &id));
    bytes[0] = 4;
    assert_false(kith_id_decode(bytes, 9, &id));
}

static void test_id__json_quotes_what_is_no_number(void **state) {
    (void)state;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_id number = kith_id_of_number(UINT64_MAX);
    kith_id text = {.type = KITH_ID_STRING, .text_bytes = 3, .bytes = (const uint8_t *)"a\"b"};
    kith_id_append_json(&buf, &number);
    kith_buf_u8(&buf, ' ');
    kith_id_append_json(&buf, &text);
    kith_buf_u8(&buf, 0);
    assert_string_equal((char *)buf.data, "18446744073709551615 \"a\\\"b\"");
    kith_buf_fini(&buf);
}

/* Slots place points in shards: these values are part of the format. */
static void test_id__slots_never_change(void **state) {
    (void)state;
    kith_id number = kith_id_of_number(42);
    kith_id text = {.type = KITH_ID_STRING, .text_bytes = 2, .bytes = (const uint8_t *)"42"};
    assert_int_equal(kith_id_slot(&number), 8300);
    assert_int_equal(kith_id_slot(&text), 13652);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_id__all_texts_of_a_uuid_are_one_id),
        cmocka_unit_test(test_id__near_uuids_are_strings),
        cmocka_unit_test(test_id__bad_texts_are_refused_with_the_reason),
        cmocka_unit_test(test_id__order_keys_order_as_ids_do),
        cmocka_unit_test(test_id__bytes_read_back_as_the_same_id),
        cmocka_unit_test(test_id__ids_chosen_to_share_a_place_are_scattered_by_the_seed),
        cmocka_unit_test(test_id__malformed_bytes_are_no_id),
        cmocka_unit_test(test_id__json_quotes_what_is_no_number),
        cmocka_unit_test(test_id__slots_never_change),
    };
    return cmocka_run_group_tests_name("id", tests, NULL, NULL);
}
