/* The judge of data histories sees each kind of wrong, and nothing wrong in what is right. */
#include <string.h>

#include "tests/lib/test_lib.h"
#include "tests/sim/sim_data_check.h"

#define POINTS 4u

static sim_data_check *check_new(void) {
    return sim_data_check_create(1, POINTS);
}

/* A write of point 0; `end` 0: it is never answered. Times are in milliseconds. */
static uint32_t write_of(sim_data_check *check, uint64_t value, uint64_t begin, uint64_t end) {
    uint32_t point = 0;
    uint32_t number = sim_data_check_write_begin(check, 0, &point, 1, value, begin);
    sim_data_check_write_end(check, number, end ? SIM_DATA_DONE : SIM_DATA_UNKNOWN, end);
    return number;
}

static void seen(sim_data_check *check, sim_data_read read, uint64_t value, uint64_t begin, uint64_t end) {
    sim_data_check_seen(
        check, &(sim_data_seen){.read = read, .value = value, .begin_ns = begin, .end_ns = end});
}

static void token_seen(sim_data_check *check, uint32_t write, uint64_t value, uint64_t begin, uint64_t end) {
    sim_data_check_seen(
        check, &(sim_data_seen){
                   .read = SIM_DATA_TOKEN, .write = write, .value = value, .begin_ns = begin, .end_ns = end});
}

static void right(sim_data_check *check) {
    sim_data_check_finish(check);
    if (sim_data_check_violation(check)) fail_msg("%s", sim_data_check_violation(check));
    assert_int_equal(sim_data_check_undecided_count(check), 0);
    sim_data_check_destroy(check);
}

static void wrong(sim_data_check *check, const char *part) {
    sim_data_check_finish(check);
    const char *text = sim_data_check_violation(check);
    assert_non_null(text);
    if (!strstr(text, part)) fail_msg("\"%s\" lacks \"%s\"", text, part);
    sim_data_check_destroy(check);
}

static void test_sim_data_check__writes_and_reads_one_after_the_other_are_right(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    seen(check, SIM_DATA_IN_SYNC, 0, 1, 2);
    write_of(check, 7, 3, 4);
    seen(check, SIM_DATA_PRIMARY, 7, 5, 6);
    write_of(check, 0, 7, 8);
    seen(check, SIM_DATA_IN_SYNC, 0, 9, 10);
    write_of(check, 8, 11, 12);
    seen(check, SIM_DATA_ANY, 8, 13, 14);
    right(check);
}

static void test_sim_data_check__a_lost_write_is_wrong(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    write_of(check, 7, 1, 2);
    seen(check, SIM_DATA_IN_SYNC, 0, 3, 4);
    wrong(check, "absence");
}

static void test_sim_data_check__a_deleted_point_that_comes_back_is_wrong(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    write_of(check, 7, 1, 2);
    write_of(check, 0, 3, 4);
    seen(check, SIM_DATA_IN_SYNC, 7, 5, 6);
    wrong(check, "point 0");
}

static void test_sim_data_check__what_nobody_wrote_is_wrong(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    seen(check, SIM_DATA_ANY, 9, 1, 2);
    wrong(check, "nobody wrote");
}

static void test_sim_data_check__a_value_from_the_future_is_wrong(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    uint32_t point = 0;
    uint32_t number = sim_data_check_write_begin(check, 0, &point, 1, 7, 5);
    seen(check, SIM_DATA_ANY, 7, 1, 2);
    sim_data_check_write_end(check, number, SIM_DATA_DONE, 6);
    wrong(check, "point 0");
}

static void test_sim_data_check__a_refused_write_may_not_be_seen(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    uint32_t point = 0;
    uint32_t number = sim_data_check_write_begin(check, 0, &point, 1, 7, 1);
    sim_data_check_write_end(check, number, SIM_DATA_REFUSED, 2);
    seen(check, SIM_DATA_ANY, 7, 3, 4);
    wrong(check, "value 7");
}

static void test_sim_data_check__an_unanswered_write_is_there_or_not_but_not_both(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 7, 3, 0);
    seen(check, SIM_DATA_PRIMARY, 6, 5, 6);
    seen(check, SIM_DATA_PRIMARY, 7, 7, 8); /* it came late */
    seen(check, SIM_DATA_PRIMARY, 7, 9, 10);
    right(check);
    check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 7, 3, 0);
    seen(check, SIM_DATA_ANY, 7, 5, 6);
    seen(check, SIM_DATA_PRIMARY, 6, 7, 8); /* what was seen has happened */
    wrong(check, "point 0");
}

static void test_sim_data_check__an_unanswered_deletion_explains_absence_once(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 0, 3, 0);
    seen(check, SIM_DATA_PRIMARY, 6, 4, 5);
    seen(check, SIM_DATA_PRIMARY, 0, 6, 7);
    right(check);
    check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 0, 3, 0);
    seen(check, SIM_DATA_PRIMARY, 0, 4, 5);
    seen(check, SIM_DATA_PRIMARY, 6, 6, 7);
    wrong(check, "point 0");
}

static void test_sim_data_check__writes_at_one_time_come_in_either_order_but_in_one(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    write_of(check, 7, 1, 10);
    write_of(check, 8, 2, 9);
    seen(check, SIM_DATA_PRIMARY, 8, 3, 4);
    seen(check, SIM_DATA_PRIMARY, 7, 11, 12);
    right(check);
    check = check_new();
    write_of(check, 7, 1, 10);
    write_of(check, 8, 2, 9);
    seen(check, SIM_DATA_PRIMARY, 8, 11, 12);
    seen(check, SIM_DATA_PRIMARY, 7, 13, 14);
    wrong(check, "point 0");
}

static void test_sim_data_check__reads_of_each_kind_promise_their_own(void **state) {
    (void)state;
    /* in_sync: a write that is not acknowledged yet is seen here, and not seen there afterwards. */
    sim_data_check *check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 7, 3, 20);
    seen(check, SIM_DATA_IN_SYNC, 7, 4, 5);
    seen(check, SIM_DATA_IN_SYNC, 6, 6, 7);
    right(check);
    check = check_new();
    write_of(check, 6, 1, 2);
    write_of(check, 7, 3, 20);
    seen(check, SIM_DATA_PRIMARY, 7, 4, 5);
    seen(check, SIM_DATA_PRIMARY, 6, 6, 7);
    wrong(check, "point 0");
    /* any: whatever a replica has. token: at least that write. */
    check = check_new();
    uint32_t first = write_of(check, 6, 1, 2);
    uint32_t second = write_of(check, 7, 3, 4);
    seen(check, SIM_DATA_ANY, 0, 5, 6);
    token_seen(check, first, 6, 7, 8);
    token_seen(check, second, 7, 9, 10);
    right(check);
    check = check_new();
    write_of(check, 6, 1, 2);
    second = write_of(check, 7, 3, 4);
    token_seen(check, second, 6, 7, 8);
    wrong(check, "token");
}

static void test_sim_data_check__sequences_rise_and_are_given_once(void **state) {
    (void)state;
    sim_data_check *check = check_new();
    uint32_t first = write_of(check, 6, 1, 2);
    sim_data_check_token(check, first, 9, 1, 1, 2);
    sim_data_check_token(check, first, 9, 1, 1, 3); /* a repeat */
    uint32_t second = write_of(check, 7, 4, 5);
    sim_data_check_token(check, second, 9, 2, 2, 5);
    right(check);
    check = check_new();
    first = write_of(check, 6, 1, 2);
    sim_data_check_token(check, first, 9, 1, 5, 2);
    second = write_of(check, 7, 4, 5);
    sim_data_check_token(check, second, 9, 2, 5, 5);
    wrong(check, "sequence 5");
    check = check_new();
    first = write_of(check, 6, 1, 2);
    sim_data_check_token(check, first, 9, 1, 5, 2);
    second = write_of(check, 7, 4, 5);
    sim_data_check_token(check, second, 9, 2, 4, 5);
    wrong(check, "sequence");
    check = check_new();
    first = write_of(check, 6, 1, 2);
    sim_data_check_token(check, first, 9, 1, 5, 2);
    sim_data_check_token(check, first, 9, 2, 6, 9);
    wrong(check, "then");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sim_data_check__writes_and_reads_one_after_the_other_are_right),
        cmocka_unit_test(test_sim_data_check__a_lost_write_is_wrong),
        cmocka_unit_test(test_sim_data_check__a_deleted_point_that_comes_back_is_wrong),
        cmocka_unit_test(test_sim_data_check__what_nobody_wrote_is_wrong),
        cmocka_unit_test(test_sim_data_check__a_value_from_the_future_is_wrong),
        cmocka_unit_test(test_sim_data_check__a_refused_write_may_not_be_seen),
        cmocka_unit_test(test_sim_data_check__an_unanswered_write_is_there_or_not_but_not_both),
        cmocka_unit_test(test_sim_data_check__an_unanswered_deletion_explains_absence_once),
        cmocka_unit_test(test_sim_data_check__writes_at_one_time_come_in_either_order_but_in_one),
        cmocka_unit_test(test_sim_data_check__reads_of_each_kind_promise_their_own),
        cmocka_unit_test(test_sim_data_check__sequences_rise_and_are_given_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
