#include "tests/lib/test_lib.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/bytes.h"

static void test_base__alloc_of_nothing_is_not_null(void **state) {
    (void)state;
    void *pointers[] = {kith_alloc(0), kith_alloc_zero(0), kith_try_alloc(0), kith_try_alloc_aligned(0)};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(pointers[i]);
        kith_free(pointers[i]);
    }
}

static void test_base__alloc_aligned_is_aligned(void **state) {
    (void)state;
    for (size_t bytes = 1; bytes < 300; bytes += 7) {
        void *pointer = kith_try_alloc_aligned(bytes);
        assert_int_equal((uintptr_t)pointer % 64, 0);
        memset(pointer, 1, bytes);
        kith_free(pointer);
    }
    assert_null(kith_try_alloc_aligned(SIZE_MAX));
}

static void test_base__strndup_stops_at_the_end_of_the_text(void **state) {
    (void)state;
    char *cut = kith_strndup("hello", 3);
    char *whole = kith_strndup("hello", 30);
    assert_string_equal(cut, "hel");
    assert_string_equal(whole, "hello");
    kith_free(cut);
    kith_free(whole);
}

static void alloc_overflow(void *ctx) {
    (void)ctx;
    kith_free(kith_alloc_array(SIZE_MAX / 2, 3));
}

static void test_base__alloc_array_overflow_ends_the_process(void **state) {
    (void)state;
    assert_true(test_dies(alloc_overflow, NULL));
}

static void test_base__pages_are_zero_and_taken_when_touched(void **state) {
    (void)state;
    size_t bytes = 1ULL << 36; /* more than the machine has */
    uint8_t *pages = kith_pages_reserve(bytes);
    assert_non_null(pages);
    assert_int_equal(pages[0], 0);
    assert_int_equal(pages[bytes - 1], 0);
    pages[bytes / 2] = 7;
    assert_int_equal(pages[bytes / 2], 7);
    kith_pages_release(pages, bytes);
}

static void test_base__small_reservations_are_aligned_and_zero_too(void **state) {
    (void)state;
    const size_t sizes[] = {0, 1, 63, 4096, (16 << 10) - 1, 16 << 10};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t round = 0; round < 2; round++) { /* the second gets what the first gave back */
            uint8_t *bytes = kith_pages_reserve(sizes[i]);
            assert_non_null(bytes);
            assert_int_equal((uintptr_t)bytes % 64, 0);
            for (size_t at = 0; at < sizes[i]; at++)
                assert_int_equal(bytes[at], 0);
            if (sizes[i]) memset(bytes, 7, sizes[i]);
            kith_pages_release(bytes, sizes[i]);
        }
    }
    kith_pages_release(NULL, 1);
    kith_pages_release(NULL, 1 << 20);
}

static void test_base__arena_gives_aligned_memory_apart(void **state) {
    (void)state;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    uint8_t *parts[2000];
    size_t bytes[2000];
    for (size_t i = 0; i < 2000; i++) {
        bytes[i] = kith_rng_below(&rng, i % 100 == 0 ? 300000 : 300);
        parts[i] = kith_arena_alloc(&arena, bytes[i]);
        assert_int_equal((uintptr_t)parts[i] % 16, 0);
        memset(parts[i], (int)(i & 0xFF), bytes[i]);
    }
    for (size_t i = 0; i < 2000; i++)
        for (size_t j = 0; j < bytes[i]; j++)
            assert_int_equal(parts[i][j], i & 0xFF);
    kith_arena_fini(&arena);
}

static bool first_block_is_reused(kith_arena *arena) {
    kith_arena_reset(arena);
    void *first = kith_arena_alloc(arena, 64);
    for (size_t bytes = 0; bytes < 1000000; bytes += 64)
        kith_arena_alloc(arena, 64);
    kith_arena_reset(arena);
    return first == kith_arena_alloc(arena, 64);
}

static void test_base__arena_reuses_blocks_after_reset(void **state) {
    (void)state;
    kith_arena arena;
    kith_arena_init(&arena);
    for (int round = 0; round < 5; round++)
        assert_true(first_block_is_reused(&arena));
    kith_arena_alloc(&arena, 10u << 20);
    kith_arena_reset(&arena);
    assert_string_equal(kith_arena_text(&arena, "abcdef", 3), "abc");
    assert_memory_equal(kith_arena_copy(&arena, "xyz", 3), "xyz", 3);
    static const uint8_t zeros[100];
    memset(kith_arena_alloc(&arena, 100), 1, 100);
    kith_arena_reset(&arena);
    assert_memory_equal(kith_arena_alloc_zero(&arena, 100), zeros, 100);
    kith_arena_fini(&arena);
}

static void arena_overflow(void *ctx) {
    kith_arena_array(ctx, SIZE_MAX / 8, 16);
}

static void test_base__arena_array_overflow_ends_the_process(void **state) {
    (void)state;
    kith_arena arena;
    kith_arena_init(&arena);
    assert_true(test_dies(arena_overflow, &arena));
    kith_arena_fini(&arena);
}

static void test_base__buf_round_trips_through_a_reader(void **state) {
    (void)state;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_buf_u8(&buf, 0xAB);
    kith_buf_align(&buf, 8);
    kith_buf_u16(&buf, 0x1234);
    kith_buf_u32(&buf, 0xDEADBEEF);
    kith_buf_u64(&buf, 0x0123456789ABCDEFULL);
    kith_buf_f64(&buf, -2.5);
    assert_int_equal(buf.bytes, 30);
    assert_memory_equal(buf.data + 8, "\x34\x12\xEF\xBE\xAD\xDE", 6);

    kith_reader reader = kith_reader_of(buf.data, buf.bytes);
    assert_int_equal(kith_reader_u8(&reader), 0xAB);
    kith_reader_align(&reader, 8);
    assert_int_equal(kith_reader_u16(&reader), 0x1234);
    assert_int_equal(kith_reader_u32(&reader), 0xDEADBEEF);
    assert_true(kith_reader_u64(&reader) == 0x0123456789ABCDEFULL);
    assert_true(kith_reader_f64(&reader) == -2.5);
    assert_int_equal(kith_reader_left(&reader), 0);
    assert_false(reader.failed);
    kith_buf_fini(&buf);
}

static void test_base__reader_past_the_end_gives_zeros_from_then_on(void **state) {
    (void)state;
    kith_reader reader = kith_reader_of("\1\2\3\4\5", 5);
    assert_int_equal(kith_reader_u32(&reader), 0x04030201);
    assert_int_equal(kith_reader_u16(&reader), 0);
    assert_true(reader.failed);
    assert_int_equal(kith_reader_u8(&reader), 0);
    assert_int_equal(kith_reader_left(&reader), 0);
    kith_reader again = kith_reader_of("ab", 2);
    assert_null(kith_reader_bytes(&again, SIZE_MAX));
}

static void test_base__bytes_big_endian_orders_as_numbers(void **state) {
    (void)state;
    uint8_t text[8];
    kith_store_u64_be(text, 0x0102030405060708ULL);
    assert_memory_equal(text, "\1\2\3\4\5\6\7\10", 8);
    assert_true(kith_load_u64_be(text) == 0x0102030405060708ULL);
}

static void test_base__buf_formats_text_of_any_length(void **state) {
    (void)state;
    kith_buf buf;
    kith_buf_init(&buf);
    for (int length = 0; length < 300; length += 13) {
        kith_buf_clear(&buf);
        kith_buf_append_text(&buf, "<");
        kith_buf_append_format(&buf, "%0*d", length + 1, 5);
        kith_buf_append_text(&buf, ">");
        assert_int_equal(buf.bytes, (size_t)length + 3);
        assert_memory_equal(buf.data + buf.bytes - 2, "5>", 2);
    }
    kith_buf_fini(&buf);
}

static void test_base__buf_take_hands_the_bytes_over(void **state) {
    (void)state;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_buf_append(&buf, "hello", 5);
    size_t bytes;
    uint8_t *data = kith_buf_take(&buf, &bytes);
    assert_int_equal(bytes, 5);
    assert_memory_equal(data, "hello", 5);
    assert_null(buf.data);
    kith_free(data);
    data = kith_buf_take(&buf, &bytes);
    assert_non_null(data);
    assert_int_equal(bytes, 0);
    kith_free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__alloc_of_nothing_is_not_null),
        cmocka_unit_test(test_base__alloc_aligned_is_aligned),
        cmocka_unit_test(test_base__strndup_stops_at_the_end_of_the_text),
        cmocka_unit_test(test_base__alloc_array_overflow_ends_the_process),
        cmocka_unit_test(test_base__pages_are_zero_and_taken_when_touched),
        cmocka_unit_test(test_base__small_reservations_are_aligned_and_zero_too),
        cmocka_unit_test(test_base__arena_gives_aligned_memory_apart),
        cmocka_unit_test(test_base__arena_reuses_blocks_after_reset),
        cmocka_unit_test(test_base__arena_array_overflow_ends_the_process),
        cmocka_unit_test(test_base__buf_round_trips_through_a_reader),
        cmocka_unit_test(test_base__reader_past_the_end_gives_zeros_from_then_on),
        cmocka_unit_test(test_base__bytes_big_endian_orders_as_numbers),
        cmocka_unit_test(test_base__buf_formats_text_of_any_length),
        cmocka_unit_test(test_base__buf_take_hands_the_bytes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
