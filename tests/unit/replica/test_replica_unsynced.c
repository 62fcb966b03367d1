/* Replicas of a collection whose writes need not wait for disks. */
#include "tests/unit/replica/replica_bed.h"

#define LIST "/data/unsynced"

static const bed_options early = {.min_in_sync = 2,
    .log_file_bytes = 1 << 20,
    .log_retain_bytes = 64 << 20,
    .durability = KITH_DURABILITY_ASYNC};

static void logs_hold(bed *all, bool held) {
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        bed_log_hold(all, i, held);
}

static void write_all(bed *all, uint32_t index, uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(bed_write(all, index, first + i, 10, 1000), KITH_OK);
}

static bool list_is_there(bed *all, uint32_t index) {
    kith_err err;
    kith_file *file;
    kith_status status = kith_file_open(all->machines[index].env, LIST, KITH_FILE_READ, &file, &err);
    if (status == KITH_OK) kith_file_close(file);
    return status == KITH_OK;
}

static void test_unsynced__a_write_is_acknowledged_before_any_disk_has_it(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    logs_hold(&all, true);
    write_all(&all, 0, 0, 20);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        assert_int_equal(bed_count(&all, i), 0);
    assert_int_equal(
        bed_read(&all, 0, KITH_REPLICA_READ_IN_SYNC, 0, 50), KITH_DEADLINE); /* it would not see them */
    logs_hold(&all, false);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_IN_SYNC, 0, 1000), KITH_OK);
    assert_int_equal(bed_count(&all, 1), 20);
    bed_await_equal(&all, 1000);
    bed_end(&all);
}

/* With `durability` sync the same waits. */
static void test_unsynced__only_where_the_collection_says_so(void **state) {
    (void)state;
    bed all;
    bed_options sync = early;
    sync.durability = KITH_DURABILITY_SYNC;
    bed_begin(&all, &sync);
    bed_log_hold(&all, 2, true);
    assert_int_equal(bed_write(&all, 0, 1, 10, 50), KITH_UNKNOWN_OUTCOME);
    bed_log_hold(&all, 2, false);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        assert_false(list_is_there(&all, i));
    bed_end(&all);
}

static void test_unsynced__who_lost_what_it_acknowledged_leaves_and_follows_again(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    write_all(&all, 0, 0, 10);
    bed_log_hold(&all, 2, true);
    write_all(&all, 0, 10, 10);
    bed_crash(&all, 2);
    bed_start(&all, 2);
    assert_int_equal(bed_in_sync_count(&all), 3);
    bed_run_ms(&all, BED_LEASE_MS / 4);
    assert_int_equal(bed_events("replica_in_doubt"), 1);
    assert_int_equal(bed_events("replica_leaves"), 1);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 2), 20);
    assert_int_equal(bed_events("replica_doubt_ends"), 1);
    assert_int_equal(bed_events("replica_installed"), 0);
    bed_end(&all);
}

static void test_unsynced__a_primary_in_doubt_makes_way(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    bed_log_hold(&all, 0, true);
    write_all(&all, 0, 0, 10);
    bed_crash(&all, 0);
    bed_start(&all, 0);
    bed_run_ms(&all, 10 * BED_LEASE_MS);
    assert_int_not_equal(all.shards[0].replicas[0], 1);
    bed_await_primary(&all, all.shards[0].replicas[0] - 1, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 0), 10);
    bed_end(&all);
}

/* Everywhere at once; then nobody leads. */
static void lose_power(bed *all) {
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        bed_crash(all, i);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        bed_start(all, i);
    bed_run_ms(all, 50 * BED_LEASE_MS);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        assert_int_not_equal(bed_status(all, i).role, KITH_REPLICA_PRIMARY);
}

static void test_unsynced__where_all_are_in_doubt_an_operator_decides(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    write_all(&all, 0, 0, 10);
    bed_await_equal(&all, 1000);
    logs_hold(&all, true);
    write_all(&all, 0, 10, 10);
    lose_power(&all);
    assert_int_equal(bed_write(&all, all.shards[0].replicas[0] - 1, 30, 10, 200), KITH_UNAVAILABLE);
    bed_accept_loss(&all, 1);
    bed_await_primary(&all, 1, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 1), 10);
    write_all(&all, 1, 40, 5);
    /* What was accepted once is not accepted for ever. */
    logs_hold(&all, true);
    write_all(&all, 1, 50, 5);
    lose_power(&all);
    bed_end(&all);
}

static void test_unsynced__a_stop_in_good_order_leaves_no_doubt(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    write_all(&all, 0, 0, 10);
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        assert_true(list_is_there(&all, i));
        bed_stop(&all, i);
    }
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        bed_start(&all, i);
    bed_await_primary(&all, 0, 3);
    assert_int_equal(bed_events("replica_in_doubt"), 0);
    assert_int_equal(bed_count(&all, 0), 10);
    bed_end(&all);
}

static void test_unsynced__a_list_that_cannot_be_read_says_so_of_every_replica(void **state) {
    (void)state;
    bed all;
    char path[256];
    uint64_t offset;
    bed_begin(&all, &early);
    write_all(&all, 0, 0, 10);
    bed_stop(&all, 2);
    assert_true(sim_env_flip_any(all.machines[2].sim, "unsynced", path, sizeof path, &offset));
    bed_start(&all, 2);
    bed_run_ms(&all, BED_LEASE_MS / 4);
    assert_int_equal(bed_events("unsynced_list_unreadable"), 1);
    assert_int_equal(bed_events("replica_in_doubt"), 1);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 2000);
    bed_stop(&all, 2);
    bed_start(&all, 2);
    assert_int_equal(bed_events("unsynced_list_unreadable"), 1); /* it was written anew */
    bed_await_primary(&all, 0, 3);
    bed_end(&all);
}

static void test_unsynced__one_that_is_in_doubt_stays_so_until_it_has_left(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &early);
    bed_log_hold(&all, 2, true);
    write_all(&all, 0, 0, 10);
    bed_crash(&all, 2);
    all.is_silent = true; /* it cannot leave */
    bed_start(&all, 2);
    bed_run_ms(&all, BED_LEASE_MS);
    assert_true(bed_status(&all, 2).may_lack_tail);
    bed_stop(&all, 2);
    bed_start(&all, 2);
    bed_run_ms(&all, BED_LEASE_MS);
    assert_true(bed_status(&all, 2).may_lack_tail);
    all.is_silent = false;
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_false(bed_status(&all, 2).may_lack_tail);
    bed_end(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unsynced__a_write_is_acknowledged_before_any_disk_has_it),
        cmocka_unit_test(test_unsynced__only_where_the_collection_says_so),
        cmocka_unit_test(test_unsynced__who_lost_what_it_acknowledged_leaves_and_follows_again),
        cmocka_unit_test(test_unsynced__a_primary_in_doubt_makes_way),
        cmocka_unit_test(test_unsynced__where_all_are_in_doubt_an_operator_decides),
        cmocka_unit_test(test_unsynced__a_stop_in_good_order_leaves_no_doubt),
        cmocka_unit_test(test_unsynced__a_list_that_cannot_be_read_says_so_of_every_replica),
        cmocka_unit_test(test_unsynced__one_that_is_in_doubt_stays_so_until_it_has_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
