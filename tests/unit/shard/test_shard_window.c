/* What is remembered of requests. */
#include <string.h>

#include "host/shard/shard_request_window.h"
#include "tests/lib/test_lib.h"

static kith_request_id named(uint64_t number) {
    return (kith_request_id){.client = "a client", .number = number};
}

static kith_write_result result_of(uint64_t sequence) {
    return (kith_write_result){.epoch = 1, .sequence = sequence, .points_changed = (uint32_t)sequence * 2};
}

static void put(shard_window *window, uint64_t number, uint64_t sequence) {
    kith_request_id request_id = named(number);
    kith_write_result result = result_of(sequence);
    shard_window_put(window, &request_id, &result);
}

static bool remembers(const shard_window *window, uint64_t number, uint64_t sequence) {
    kith_request_id request_id = named(number);
    kith_write_result result;
    if (!shard_window_find(window, &request_id, &result)) return false;
    assert_int_equal(result.sequence, sequence);
    assert_int_equal(result.points_changed, sequence * 2);
    return true;
}

static void test_window__remembers_the_last_and_forgets_what_a_slot_is_taken_from(void **state) {
    (void)state;
    shard_window *window = shard_window_create(4);
    for (uint64_t i = 1; i <= 10; i++)
        put(window, 100 + i, i);
    for (uint64_t i = 1; i <= 6; i++)
        assert_false(remembers(window, 100 + i, i));
    for (uint64_t i = 7; i <= 10; i++)
        assert_true(remembers(window, 100 + i, i));
    assert_int_equal(shard_window_count(window), 4);
    shard_window_destroy(window);
}

static void test_window__does_not_remember_the_unnamed(void **state) {
    (void)state;
    shard_window *window = shard_window_create(4);
    kith_request_id nobody = {.number = 5};
    kith_write_result result = result_of(1);
    shard_window_put(window, &nobody, &result);
    assert_false(shard_window_find(window, &nobody, &result));
    assert_int_equal(shard_window_slot(window, &nobody, 1), UINT32_MAX);
    shard_window_destroy(window);
}

static void test_window__of_no_slots_remembers_nothing(void **state) {
    (void)state;
    shard_window *window = shard_window_create(0);
    put(window, 1, 1);
    assert_false(remembers(window, 1, 1));
    shard_window_destroy(window);
}

static void test_window__rebuilt_in_any_order_is_the_same(void **state) {
    (void)state;
    shard_window *window = shard_window_create(8);
    uint8_t value[SHARD_WINDOW_VALUE_BYTES];
    for (uint64_t i = 8; i > 0; i--) {
        kith_request_id request_id = named(i), back;
        kith_write_result result = result_of(i), back_result;
        shard_window_value_encode(&request_id, &result, value);
        assert_true(shard_window_value_decode(value, sizeof value, &back, &back_result));
        shard_window_put(window, &back, &back_result);
    }
    for (uint64_t i = 1; i <= 8; i++)
        assert_true(remembers(window, i, i));
    assert_false(shard_window_value_decode(
        value, sizeof value - 1, &(kith_request_id){{0}, 0}, &(kith_write_result){0}));
    shard_window_destroy(window);
}

/* The store holds what a window of 8 remembered, in the order of its slots: sequences 8, 9, ..., 12, 5, 6, 7. */
static void test_window__that_was_made_smaller_keeps_the_newest(void **state) {
    (void)state;
    shard_window *window = shard_window_create(4);
    for (uint64_t slot = 0; slot < 8; slot++) {
        uint64_t sequence = slot <= 4 ? 8 + slot : slot;
        put(window, 100 + sequence, sequence);
    }
    for (uint64_t sequence = 5; sequence <= 8; sequence++)
        assert_false(remembers(window, 100 + sequence, sequence));
    for (uint64_t sequence = 9; sequence <= 12; sequence++)
        assert_true(remembers(window, 100 + sequence, sequence));
    shard_window_destroy(window);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window__remembers_the_last_and_forgets_what_a_slot_is_taken_from),
        cmocka_unit_test(test_window__does_not_remember_the_unnamed),
        cmocka_unit_test(test_window__of_no_slots_remembers_nothing),
        cmocka_unit_test(test_window__that_was_made_smaller_keeps_the_newest),
        cmocka_unit_test(test_window__rebuilt_in_any_order_is_the_same),
    };
    return cmocka_run_group_tests_name("shard_window", tests, NULL, NULL);
}
