#include "tests/lib/test_lib.h"

#include "host/base/bitset.h"
#include "host/base/crc32c.h"
#include "host/base/hash.h"

/* RFC 3720, appendix B.4. */
static void test_base__crc32c_gives_the_values_of_the_rfc(void **state) {
    (void)state;
    uint8_t data[32] = {0};
    assert_int_equal(kith_crc32c(0, data, 32), 0x8A9136AA);
    for (int i = 0; i < 32; i++)
        data[i] = 0xFF;
    assert_int_equal(kith_crc32c(0, data, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(kith_crc32c(0, data, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    assert_int_equal(kith_crc32c(0, data, 32), 0x113FDB5C);
    assert_int_equal(kith_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(kith_crc32c(0, "", 0), 0);
}

static void test_base__crc32c_instructions_and_table_agree(void **state) {
    (void)state;
    static uint8_t data[20000];
    kith_rng rng;
    kith_rng_init(&rng, test_seed(2));
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)kith_rng_next(&rng);
    for (uint64_t i = 0; i < test_scaled(2000); i++) {
        size_t offset = kith_rng_below(&rng, 64);
        size_t bytes = kith_rng_below(&rng, i % 4 ? 700 : sizeof data - offset);
        uint32_t start = (uint32_t)kith_rng_next(&rng);
        assert_int_equal(
            kith_crc32c(start, data + offset, bytes), kith_crc32c_portable(start, data + offset, bytes));
    }
}

static void test_base__crc32c_continues(void **state) {
    (void)state;
    uint32_t first = kith_crc32c(0, "1234", 4);
    assert_int_equal(kith_crc32c(first, "56789", 5), 0xE3069283);
}

/* The values are part of the placement format: XXH3_64bits of xxHash 0.8. */
static void test_base__hash_values_never_change(void **state) {
    (void)state;
    assert_true(kith_hash64("", 0) == 0x2D06800538D394C2ULL);
    assert_true(kith_hash64("a", 1) == 0xE6C632B61E964E1FULL);
    assert_true(kith_hash64("abc", 3) == 0x78AF5F94892F3950ULL);
}

static void test_base__bitset_counts_what_was_set(void **state) {
    (void)state;
    uint64_t words[4] = {0};
    assert_int_equal(kith_bitset_words(0), 0);
    assert_int_equal(kith_bitset_words(64), 1);
    assert_int_equal(kith_bitset_words(65), 2);
    for (size_t bit = 0; bit < 200; bit += 3)
        kith_bitset_set(words, bit);
    kith_bitset_clear(words, 63);
    assert_true(kith_bitset_get(words, 66));
    assert_false(kith_bitset_get(words, 63));
    assert_int_equal(kith_bitset_count(words, 200), 66);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__crc32c_gives_the_values_of_the_rfc),
        cmocka_unit_test(test_base__crc32c_instructions_and_table_agree),
        cmocka_unit_test(test_base__crc32c_continues),
        cmocka_unit_test(test_base__hash_values_never_change),
        cmocka_unit_test(test_base__bitset_counts_what_was_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
