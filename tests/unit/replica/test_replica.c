/* Replicas on three simulated machines: what the step machine decides is carried out, on real logs, stores and shards. */
#include "host/shard/shard_internal.h"
#include "tests/unit/replica/replica_bed.h"

static const bed_options usual = {.min_in_sync = 2, .log_file_bytes = 1 << 20, .log_retain_bytes = 64 << 20};

static void write_all(bed *all, uint32_t index, uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(bed_write(all, index, first + i, 10, 5000), KITH_OK);
}

static void test_replica__what_is_acknowledged_is_everywhere(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 50);
    bed_await_equal(&all, 1000);
    for (uint32_t i = 0; i < BED_MACHINES; i++)
        assert_int_equal(bed_count(&all, i), 50);
    bed_end(&all);
}

static void test_replica__only_the_primary_takes_writes(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    assert_int_equal(bed_write(&all, 1, 1, 10, 1000), KITH_STALE_MAP);
    write_all(&all, 0, 0, 1);
    bed_end(&all);
}

static void test_replica__a_follower_that_crashed_comes_back(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 20);
    bed_crash(&all, 2);
    write_all(&all, 0, 20, 20);
    assert_int_equal(bed_in_sync_count(&all), 2);
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 2), 40);
    assert_int_equal(bed_events("replica_installed"), 0);
    bed_end(&all);
}

static void test_replica__too_few_in_sync_take_no_writes(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    bed_crash(&all, 1);
    bed_crash(&all, 2);
    bed_await_primary(&all, 0, 1);
    assert_int_equal(bed_write(&all, 0, 1, 10, 1000), KITH_UNAVAILABLE);
    bed_start(&all, 1);
    bed_await_primary(&all, 0, 2);
    write_all(&all, 0, 1, 1);
    bed_end(&all);
}

static void test_replica__a_dead_primary_is_replaced(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 30);
    bed_crash(&all, 0);
    bed_promote(&all, 1);
    bed_await_primary(&all, 1, 2);
    assert_int_equal(bed_count(&all, 1), 30);
    write_all(&all, 1, 30, 10);
    bed_start(&all, 0);
    bed_await_primary(&all, 1, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 0), 40);
    assert_int_equal(bed_status(&all, 0).role, KITH_REPLICA_FOLLOWER);
    bed_end(&all);
}

/* What it had committed, and applied, is not what counts any more. */
static void test_replica__who_has_what_was_given_up_is_replaced(void **state) {
    (void)state;
    bed all;
    bed_options one = usual;
    one.min_in_sync = 1;
    bed_begin(&all, &one);
    write_all(&all, 0, 0, 10);
    bed_await_equal(&all, 1000);
    bed_crash(&all, 1);
    bed_crash(&all, 2);
    bed_await_primary(&all, 0, 1);
    write_all(&all, 0, 10, 10);
    bed_crash(&all, 0);
    bed_start(&all, 1);
    bed_start(&all, 2);
    bed_run_ms(&all, 20 * BED_LEASE_MS);
    assert_int_not_equal(bed_status(&all, 1).role, KITH_REPLICA_PRIMARY);
    bed_accept_loss(&all, 1);
    bed_await_primary(&all, 1, 2);
    write_all(&all, 1, 20, 15);
    bed_start(&all, 0);
    bed_await_primary(&all, 1, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 0), 25);
    assert_false(bed_has(&all, 0, 10));
    bed_end(&all);
}

static void test_replica__a_primary_that_restarts_leads_in_an_epoch_of_its_own(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 5);
    uint64_t epoch = bed_status(&all, 0).epoch;
    bed_crash(&all, 0);
    bed_start(&all, 0);
    bed_await_primary(&all, 0, 3);
    assert_true(bed_status(&all, 0).epoch > epoch);
    write_all(&all, 0, 5, 5);
    bed_await_equal(&all, 1000);
    assert_int_equal(bed_count(&all, 2), 10);
    bed_end(&all);
}

/* A primary that is cut off appends what nobody else has; what the next one appends takes its place. */
static void test_replica__the_tail_of_a_deposed_primary_is_cut_off(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 10);
    bed_cut(&all, 0, 1, true);
    bed_cut(&all, 0, 2, true);
    assert_int_equal(bed_write(&all, 0, 100, 10, 40), KITH_UNKNOWN_OUTCOME);
    bed_promote(&all, 1);
    bed_await_primary(&all, 1, 2);
    write_all(&all, 1, 10, 10);
    bed_cut(&all, 0, 1, false);
    bed_cut(&all, 0, 2, false);
    bed_await_primary(&all, 1, 3);
    bed_await_equal(&all, 2000);
    assert_false(bed_has(&all, 0, 100));
    assert_int_equal(bed_count(&all, 0), 20);
    assert_true(bed_events("replica_truncates") > 0);
    bed_end(&all);
}

/* More was written than stays in memory, and the log's files still have all of it. */
static void test_replica__entries_are_read_back_from_the_log(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    bed_crash(&all, 2);
    for (uint64_t i = 0; i < 12; i++)
        assert_int_equal(bed_write(&all, 0, i, 700000, 5000), KITH_OK);
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 12);
    assert_int_equal(bed_events("replica_installed"), 0);
    bed_end(&all);
}

/* Reading takes longer than an answer, so that what is in memory could overtake what is read back, be refused, and be asked for again
 * without end. */
static void test_replica__entries_in_memory_do_not_overtake_those_read_back(void **state) {
    (void)state;
    enum { WRITES = 12, READS_MOST = 2 * WRITES };
    bed all;
    uint32_t reads = 0;
    bed_begin(&all, &usual);
    bed_crash(&all, 2);
    for (uint64_t i = 0; i < WRITES; i++)
        assert_int_equal(bed_write(&all, 0, i, 700000, 5000), KITH_OK);
    bed_background_hold(&all, 0, true);
    bed_start(&all, 2);
    while (bed_in_sync_count(&all) < 3 && reads < READS_MOST) {
        bed_run_ms(&all, 2 * BED_LEASE_MS);
        reads += bed_background_step(&all, 0);
    }
    assert_int_equal(bed_in_sync_count(&all), 3);
    assert_in_range(reads, 2, READS_MOST);
    bed_background_hold(&all, 0, false);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), WRITES);
    bed_end(&all);
}

/* They cannot be: who lacks them gets a copy, and does not wait for ever. */
static void test_replica__entries_in_damaged_files_of_the_log_come_as_a_copy(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    bed_crash(&all, 2);
    for (uint64_t i = 0; i < 12; i++)
        assert_int_equal(bed_write(&all, 0, i, 700000, 5000), KITH_OK);
    assert_true(sim_env_flip(all.machines[0].sim, "/data/log/log-00000000000000000003.kith", 100000, 1));
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 12);
    assert_true(bed_events("replica_log_unreadable") > 0);
    assert_int_equal(bed_events("replica_installed"), 1);
    write_all(&all, 0, 100, 3);
    bed_await_equal(&all, 1000);
    bed_end(&all);
}

/* Neither memory nor the log's files have what the follower lacks. */
static void away_too_long(bed *all) {
    bed_crash(all, 2);
    for (uint64_t i = 0; i < 12; i++)
        assert_int_equal(bed_write(all, 0, i, 700000, 5000), KITH_OK);
    bed_seal(all, 0);
    write_all(all, 0, 100, 3); /* begins another log file, so that the ones before go */
    bed_seal(all, 0);
}

static const bed_options forgetful = {.min_in_sync = 2, .log_file_bytes = 64 << 10};

static void test_replica__who_lacks_too_much_gets_a_copy(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    away_too_long(&all);
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    assert_int_equal(bed_events("replica_installed"), 1);
    write_all(&all, 0, 200, 5);
    bed_await_equal(&all, 1000);
    bed_end(&all);
}

/* Cut off by a crash at any moment, a copy begins anew, and what is left of it is never taken for a replica. */
static void test_replica__a_copy_that_was_cut_off_begins_anew(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    away_too_long(&all);
    for (uint64_t ms = 2; ms < 40; ms += 3) {
        bed_start(&all, 2);
        bed_run_ms(&all, ms);
        bed_crash(&all, 2);
    }
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    bed_end(&all);
}

/* Requests for pieces that wait at the source, once the copy is known there. */
static uint32_t pieces_waiting(bed *all) {
    uint32_t count = 0;
    for (const kith_task *task = all->machines[0].held_background.first; task; task = task->next)
        count++;
    return count;
}

/* Nothing but requests for pieces comes to the background executor of machine 0 from here on. */
static void pieces_begin(bed *all) {
    away_too_long(all);
    bed_run_ms(all, 100);
    bed_background_hold(all, 0, true);
    bed_start(all, 2);
    for (uint32_t i = 0; i < 100 && pieces_waiting(all) < 2; i++) {
        bed_run_ms(all, 10);
        if (pieces_waiting(all) == 1) (void)bed_background_step(all, 0);
    }
}

static void test_replica__pieces_are_asked_for_before_they_are_needed(void **state) {
    (void)state;
    enum { AHEAD = 4 };
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    assert_int_equal(pieces_waiting(&all), AHEAD);
    bed_run_ms(&all, 1000); /* bounded, however long the source takes */
    assert_int_equal(pieces_waiting(&all), AHEAD);
    for (uint32_t i = 0; i < AHEAD; i++) /* the first of them may have come last */
        assert_true(bed_background_step(&all, 0));
    bed_run_ms(&all, 100);
    assert_int_equal(pieces_waiting(&all), AHEAD); /* others were asked for in their places */
    bed_background_hold(&all, 0, false);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    assert_int_equal(bed_events("replica_install_waits"), 0);
    bed_end(&all);
}

/* Machine 2 wants a copy of the shard, and its primary, whose background executor is held, gives none. */
static void copy_await(bed *all, uint32_t primary) {
    for (uint32_t i = 0; i < 100 && !bed_status(all, 2).awaits_copy; i++) {
        (void)bed_background_step(all, primary); /* reads its log in vain */
        bed_run_ms(all, 10);
    }
    assert_true(bed_status(all, 2).awaits_copy);
    assert_int_equal(bed_events("replica_replaced"), 0);
}

/* Machine 0 with what is asked of it. */
static void sources_die(bed *all) {
    bed_cut(all, 0, 2, true);
    bed_background_hold(all, 0, false);
    bed_crash(all, 0);
    bed_cut(all, 0, 2, false);
}

/* Its disk does not fail, it hangs: nothing would be committed for as long. */
static void test_replica__a_primary_whose_disk_hangs_makes_way(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 5);
    bed_log_hold(&all, 0, true);
    assert_int_equal(bed_write(&all, 0, 5, 10, 100), KITH_UNKNOWN_OUTCOME);
    for (uint32_t i = 0; i < 20 && all.shards[0].replicas[0] == 1; i++)
        bed_run_ms(&all, BED_LEASE_MS);
    uint32_t heir = all.shards[0].replicas[0] - 1;
    assert_int_not_equal(heir, 0);
    bed_await_primary(&all, heir, 2);
    write_all(&all, heir, 6, 5);
    assert_true(bed_has(&all, heir, 5)); /* the others had it */
    bed_log_hold(&all, 0, false);
    bed_await_primary(&all, heir, 3);
    bed_await_equal(&all, 2000);
    assert_int_equal(bed_count(&all, 0), 11);
    bed_end(&all);
}

static const bed_options forgetful_alone = {.min_in_sync = 1, .log_file_bytes = 64 << 10};

/* Machine 2 lacks too much, and the others go before it has a piece: an operator chooses it. What it was to be replaced by is forgotten,
 * also when there is another primary to fetch from again. */
static void test_replica__one_that_is_chosen_while_it_waits_for_a_copy_keeps_what_it_has(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful_alone);
    write_all(&all, 0, 500, 5);
    bed_await_equal(&all, 1000);
    away_too_long(&all);
    bed_await_equal(&all, 1000);
    bed_background_hold(&all, 0, true);
    bed_start(&all, 2);
    copy_await(&all, 0);
    assert_int_equal(bed_read(&all, 2, KITH_REPLICA_READ_ANY, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 2, KITH_REPLICA_READ_TOKEN, 1, 100), KITH_UNAVAILABLE);
    assert_false(bed_reads_at_once(&all, 2, KITH_REPLICA_READ_TOKEN, 1));
    sources_die(&all);
    bed_crash(&all, 1);
    bed_accept_loss(&all, 2);
    bed_await_primary(&all, 2, 1);
    assert_int_equal(bed_read(&all, 2, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_OK);
    assert_int_equal(bed_count(&all, 2), 5);
    bed_start(&all, 1);
    bed_await_primary(&all, 2, 2);
    bed_await_equal(&all, 5000);
    bed_promote(&all, 1);
    bed_await_primary(&all, 1, 2);
    bed_run_ms(&all, 20000);                             /* another attempt would be made at last */
    assert_int_equal(bed_events("replica_replaced"), 1); /* machine 1's */
    assert_int_equal(bed_count(&all, 2), 5);
    bed_end(&all);
}

/* What it had is gone already: it leads nobody with what it fetched of the copy, and another may be chosen. */
static void test_replica__one_that_is_chosen_amid_its_copy_does_not_lead(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful_alone);
    pieces_begin(&all);
    assert_true(bed_background_step(&all, 0));
    bed_run_ms(&all, 20);
    assert_int_equal(bed_events("replica_replaced"), 1);
    sources_die(&all);
    bed_crash(&all, 1);
    bed_accept_loss(&all, 2);
    bed_run_ms(&all, 5000);
    assert_int_equal(bed_events("replica_chosen_amid_copy"), 1);
    assert_int_not_equal(bed_status(&all, 2).role, KITH_REPLICA_PRIMARY);
    bed_start(&all, 1);
    bed_accept_loss(&all, 1);
    bed_run_ms(&all, 40000); /* what the dead one was asked for is missed at its deadline */
    bed_await_primary(&all, 1, 2);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    bed_end(&all);
}

/* Machine 2 lacks too much of three shards; of the third, machine 1 is the primary. */
static void three_lag(bed *all) {
    bed_options three = forgetful;
    three.shard_count = 3;
    bed_begin(all, &three);
    all->at = 2;
    bed_promote(all, 1);
    bed_await_primary(all, 1, 3);
    bed_crash(all, 2);
    for (all->at = 0; all->at < 3; all->at++) {
        for (uint64_t i = 0; i < 12; i++)
            assert_int_equal(bed_write(all, all->at == 2, i, 700000, 5000), KITH_OK);
    }
    for (uint32_t i = 0; i < 6; i++) { /* as away_too_long, of all that share the log */
        all->at = i % 3;
        bed_seal(all, all->at == 2);
        bed_seal(all, all->at != 2);
        write_all(all, all->at == 2, 100 + 10 * i, 3);
    }
    bed_await_equal(all, 1000);
}

/* Two at a time are copied; two whose source is dead take nobody's place. */
static void test_replica__copies_without_a_source_hold_up_no_others(void **state) {
    (void)state;
    bed all;
    three_lag(&all);
    bed_background_hold(&all, 0, true);
    bed_background_hold(&all, 1, true);
    bed_start(&all, 2);
    for (all.at = 0; all.at < 3; all.at++)
        copy_await(&all, all.at == 2);
    sources_die(&all);
    bed_background_hold(&all, 1, false);
    all.at = 2;
    bed_run_ms(&all, 60000);
    assert_int_equal(bed_events("replica_installed"), 1);
    bed_await_primary(&all, 1, 2);
    bed_await_equal(&all, 5000);
    bed_end(&all);
}

/* What fails here would fail for the others too: they keep what they have meanwhile. */
static void test_replica__copies_without_room_give_up_no_other_shards(void **state) {
    (void)state;
    bed all;
    three_lag(&all);
    sim_env_space_set(all.machines[2].sim, 1 << 20);
    bed_start(&all, 2);
    bed_run_ms(&all, 30000);
    assert_int_equal(bed_events("replica_replaced"), 2);
    assert_true(bed_events("replica_install_waits") > 4);
    sim_env_space_set(all.machines[2].sim, UINT64_MAX);
    for (all.at = 0; all.at < 3; all.at++) {
        bed_await_primary(&all, all.at == 2, 3);
        bed_await_equal(&all, 10000);
    }
    assert_int_equal(bed_events("replica_replaced"), 3);
    bed_end(&all);
}

/* It goes on where it was, before others begin. */
static void test_replica__a_copy_that_is_interrupted_for_a_moment_keeps_its_place(void **state) {
    (void)state;
    bed all;
    three_lag(&all);
    bed_background_hold(&all, 0, true);
    bed_background_hold(&all, 1, true);
    bed_start(&all, 2);
    for (all.at = 0; all.at < 3; all.at++)
        copy_await(&all, all.at == 2);
    all.at = 0;
    while (bed_events("replica_replaced") < 2) { /* the first pieces of two */
        assert_true(bed_background_step(&all, 0));
        bed_run_ms(&all, 10);
    }
    bed_cut(&all, 0, 2, true);
    bed_background_hold(&all, 0, false);
    bed_background_hold(&all, 1, false);
    bed_run_ms(&all, 20);
    bed_cut(&all, 0, 2, false);
    for (uint32_t i = 0; i < 40000 && bed_events("replica_installed") == 0; i++)
        bed_run_ms(&all, 1); /* what was lost is missed at its deadline, 30 s */
    all.at = 2;
    assert_int_equal(bed_events("replica_installed"), 1);
    assert_true(bed_status(&all, 2).awaits_copy);
    bed_run_ms(&all, 1000);
    for (all.at = 0; all.at < 3; all.at++)
        bed_await_equal(&all, 10000);
    assert_int_equal(bed_events("shard_copied"), 3);
    bed_end(&all);
}

/* Those that came before the cut are written, and the rest is asked for again. */
static void test_replica__a_copy_that_was_cut_off_goes_on_where_it_was(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(bed_background_step(&all, 0));
    bed_run_ms(&all, 10);
    bed_cut(&all, 0, 2, true);
    bed_background_hold(&all, 0, false);
    bed_run_ms(&all, 1000);
    bed_cut(&all, 0, 2, false);
    bed_run_ms(&all, 30000); /* what was lost is missed at its deadline */
    assert_true(bed_events("replica_install_waits") > 0);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 10000);
    assert_int_equal(bed_count(&all, 2), 15);
    assert_int_equal(bed_events("shard_copied"), 1);
    assert_int_equal(bed_events("replica_installed"), 1);
    bed_end(&all);
}

static bool is_here(bed *all, uint32_t index) {
    kith_shard *shard = kith_shard_set_find(all->machines[index].shards, BED_SHARD);
    if (shard) kith_shard_set_release(all->machines[index].shards, shard);
    return shard != NULL;
}

/* The copy is whole on the disk. */
static bool copy_is_written(bed *all) {
    kith_err err;
    shard_manifest manifest = {0};
    kith_arena arena;
    bed_machine *machine = &all->machines[2];
    if (bed_events("replica_replaced") == 0) return false;
    if (shard_install_mark_check(&machine->node, BED_SHARD, &err) != KITH_OK) return false;
    kith_arena_init(&arena);
    assert_ok(shard_manifest_read(machine->store, BED_SHARD, &arena, &manifest, &err), &err);
    kith_arena_fini(&arena);
    return manifest.segment_count > 0 && kith_replica_set_installs(machine->replicas, BED_SHARD);
}

/* It is also open, but its replica has not taken it yet. */
static bool copy_is_open(bed *all) {
    bool is_replaced = bed_events("replica_replaced") > 0 && bed_events("replica_installed") == 0;
    return is_replaced && !kith_replica_set_installs(all->machines[2].replicas, BED_SHARD) && is_here(all, 2);
}

/* Machine 2 comes back and gets a copy, until that is so, between two tasks. */
static void copy_until(bed *all, bool (*is_so)(bed *all)) {
    away_too_long(all);
    bed_start(all, 2);
    bed_background_hold(all, 2, true);
    for (uint32_t i = 0; i < 10000; i++) {
        bed_run_ms(all, 1);
        (void)bed_background_step(all, 2);
        while (!is_so(all) && sim_env_step(all->machines[2].sim)) {
        }
        if (is_so(all)) break;
    }
    assert_true(is_so(all));
    bed_background_hold(all, 2, false);
}

/* What cannot be read is not in sync, though all of it was written. */
static void test_replica__a_copy_that_opens_corrupt_is_fetched_anew(void **state) {
    (void)state;
    bed all;
    char path[256];
    uint64_t offset;
    bed_begin(&all, &forgetful);
    copy_until(&all, copy_is_written);
    assert_true(sim_env_flip_any(all.machines[2].sim, ".seg", path, sizeof path, &offset));
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    assert_int_equal(bed_events("replica_replaced"), 2);
    assert_int_equal(bed_events("replica_installed"), 1);
    write_all(&all, 0, 200, 5);
    bed_await_equal(&all, 1000);
    bed_end(&all);
}

static void test_replica__a_copy_may_be_taken_away_as_it_opens(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    copy_until(&all, copy_is_open);
    bed_take_away(&all, 2);
    bed_run_ms(&all, 1000);
    assert_false(is_here(&all, 2));
    assert_int_equal(bed_events("replica_installed"), 0);
    write_all(&all, 0, 200, 5);
    bed_end(&all);
}

/* Before its replica here has heard that it was taken away. */
static void test_replica__one_that_is_taken_away_amid_its_copy_may_be_given_again_at_once(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    copy_until(&all, copy_is_written);
    bed_take_away(&all, 2);
    assert_int_equal(bed_give_again(&all, 2), KITH_UNAVAILABLE);
    bed_run_ms(&all, 1000);
    assert_int_equal(bed_give_again(&all, 2), KITH_OK);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    write_all(&all, 0, 200, 5);
    bed_await_equal(&all, 1000);
    bed_end(&all);
}

/* However long its source takes: another shard may want the place among the copies that are fetched at once. */
static void test_replica__one_that_is_taken_away_waits_for_no_piece(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    bed_take_away(&all, 2);
    bed_run_ms(&all, 1000);
    assert_int_equal(bed_give_again(&all, 2), KITH_OK);
    bed_background_hold(&all, 0, false);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 2), 15);
    bed_end(&all);
}

/* On a disk that fails what it left is erased only at the next start. */
static void test_replica__one_that_is_taken_away_on_a_dead_disk_lets_its_node_stop(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(bed_background_step(&all, 0));
    bed_run_ms(&all, 100);
    sim_env_crash(all.machines[2].sim, SIM_CRASH_LOSE_ALL);
    bed_take_away(&all, 2);
    bed_run_ms(&all, 1000);
    bed_stop(&all, 2);
    bed_background_hold(&all, 0, false);
    bed_end(&all);
}

/* A source that restarts has the copy no more: another is taken, from its beginning. */
static void test_replica__a_copy_whose_source_restarts_begins_anew(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    for (uint32_t i = 0; i < 2; i++)
        assert_true(bed_background_step(&all, 0));
    bed_run_ms(&all, 10);
    bed_background_hold(&all, 0, false);
    bed_crash(&all, 0);
    bed_run_ms(&all, 100);
    bed_start(&all, 0);
    bed_run_ms(&all, 30000);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 10000);
    assert_int_equal(bed_count(&all, 2), 15);
    assert_int_equal(bed_events("shard_copied"), 2);
    bed_end(&all);
}

/* A stop waits for all that are on their way, and a crash for none. */
static void test_replica__a_stop_amid_pieces_ends(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &forgetful);
    pieces_begin(&all);
    assert_true(bed_background_step(&all, 0));
    bed_stop(&all, 2);
    bed_background_hold(&all, 0, false);
    bed_start(&all, 2);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 10000);
    assert_int_equal(bed_count(&all, 2), 15);
    bed_end(&all);
}

static void test_replica__reads_promise_what_leases_allow(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 5);
    bed_run_ms(&all, BED_LEASE_MS);
    uint64_t end = bed_status(&all, 0).end.sequence;
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_PRIMARY, 0, 100), KITH_STALE_MAP);
    assert_int_equal(bed_read(&all, 0, KITH_REPLICA_READ_PRIMARY, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_TOKEN, end, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_TOKEN, end + 1, 100), KITH_DEADLINE);
    bed_cut(&all, 0, 1, true);
    bed_run_ms(&all, BED_LEASE_MS + 1);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_UNAVAILABLE);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_ANY, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 0, KITH_REPLICA_READ_PRIMARY, 0, 20), KITH_UNAVAILABLE);
    assert_int_equal(bed_read(&all, 0, KITH_REPLICA_READ_IN_SYNC, 0, 20), KITH_UNAVAILABLE);
    bed_await_primary(&all, 0, 2);
    bed_run_ms(&all, BED_LEASE_MS);
    assert_int_equal(bed_read(&all, 0, KITH_REPLICA_READ_PRIMARY, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 2, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_OK);
    bed_end(&all);
}

/* Most reads find all applied and a good lease: the owner, which writes too, is not asked. */
static void test_replica__reads_that_need_no_wait_do_not_ask_the_owner(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 5);
    bed_await_equal(&all, 1000);
    bed_run_ms(&all, BED_LEASE_MS);
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        assert_true(bed_reads_at_once(&all, i, KITH_REPLICA_READ_IN_SYNC, 0));
        assert_true(bed_reads_at_once(&all, i, KITH_REPLICA_READ_ANY, 0));
        assert_true(bed_reads_at_once(&all, i, KITH_REPLICA_READ_PRIMARY, 0) == (i == 0));
    }
    bed_cut(&all, 0, 1, true);
    bed_run_ms(&all, BED_LEASE_MS + 1);
    assert_false(bed_reads_at_once(&all, 0, KITH_REPLICA_READ_IN_SYNC, 0));
    assert_false(bed_reads_at_once(&all, 1, KITH_REPLICA_READ_IN_SYNC, 0));
    assert_true(bed_reads_at_once(&all, 1, KITH_REPLICA_READ_ANY, 0));
    bed_end(&all);
}

static void handed_over(void *ctx, uint32_t left) {
    *(uint32_t *)ctx = left;
}

static void test_replica__a_hand_over_costs_no_time_and_no_write(void **state) {
    (void)state;
    bed all;
    uint32_t left = UINT32_MAX;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 10);
    bed_run_ms(&all, 5 * BED_LEASE_MS); /* what was before the start is over */
    uint64_t began_ns = kith_env_now_ns(all.machines[0].env);
    kith_replica_set_hand_over(all.machines[0].replicas, began_ns + 5000 * BED_MS, handed_over, &left);
    while (left == UINT32_MAX)
        bed_run_ms(&all, 1);
    assert_int_equal(left, 0);
    uint32_t heir = all.shards[0].replicas[0] - 1;
    assert_int_not_equal(heir, 0);
    bed_await_primary(&all, heir, 3);
    assert_true(kith_env_now_ns(all.machines[0].env) - began_ns < BED_LEASE_MS * BED_MS);
    bed_stop(&all, 0);
    write_all(&all, heir, 10, 10);
    assert_int_equal(bed_count(&all, heir), 20);
    bed_end(&all);
}

static void test_replica__a_planted_difference_is_found_and_mended(void **state) {
    (void)state;
    bed all;
    bed_options options = usual;
    options.digest_interval_ms = 1000;
    bed_begin(&all, &options);
    write_all(&all, 0, 0, 20);
    bed_await_equal(&all, 1000);
    bed_run_ms(&all, 3000);
    assert_int_equal(bed_events("replica_differs"), 0);
    bed_plant_difference(&all, 1);
    assert_int_not_equal(bed_digest(&all, 0), bed_digest(&all, 1));
    bed_await_equal(&all, 10000);
    bed_await_primary(&all, 0, 3);
    assert_true(bed_events("replica_differs") > 0);
    assert_int_equal(bed_events("replica_installed"), 1);
    bed_end(&all);
}

/* Two others agree: it is the primary that makes way. */
static void test_replica__a_primary_that_differs_from_all_makes_way(void **state) {
    (void)state;
    bed all;
    bed_options options = usual;
    options.digest_interval_ms = 1000;
    bed_begin(&all, &options);
    write_all(&all, 0, 0, 20);
    bed_await_equal(&all, 1000);
    uint64_t digest = bed_digest(&all, 1);
    bed_plant_difference(&all, 0);
    bed_await_equal(&all, 20000);
    assert_int_equal(bed_digest(&all, 0), digest);
    assert_int_not_equal(all.shards[0].replicas[0], 1);
    bed_end(&all);
}

/* --- a follower that seals slower than it applies --- */

#define SLOW          2u
#define SLOW_ROWS     10u
#define UNSEALED_MOST ((SHARD_FROZEN_MAX + 1) * SLOW_ROWS + 40) /* and what was on its way */

static bed_options slow_options(void) {
    bed_options options = usual;
    options.seal_rows = SLOW_ROWS;
    options.append_inflight_bytes = 2048;
    return options;
}

static uint64_t unsealed_rows(bed *all, uint32_t index) {
    kith_shard_stats stats = bed_stats(all, index);
    return stats.applied_sequence - stats.sealed_sequence;
}

/* Replicas there that come no nearer to being in sync. */
static uint32_t stalled_count(bed *all, uint32_t index, uint64_t least_ms) {
    kith_replica_stalled stalled[2];
    return kith_replica_set_stalled(all->machines[index].replicas, least_ms * BED_MS, 2, stalled);
}

/* It takes no more than it has room for, the primary goes on without it, and it comes back. */
static void test_replica__a_follower_that_seals_nothing_stays_bounded_and_leaves(void **state) {
    (void)state;
    bed all;
    bed_options options = slow_options();
    bed_begin(&all, &options);
    bed_background_hold(&all, SLOW, true);
    write_all(&all, 0, 0, 300);
    assert_int_equal(bed_in_sync_count(&all), 2);
    bed_run_ms(&all, 5000);
    assert_true(unsealed_rows(&all, SLOW) <= UNSEALED_MOST);
    assert_true(bed_status(&all, SLOW).end.sequence < bed_status(&all, 0).end.sequence);
    assert_true(bed_events("replica_full") > 0);
    assert_int_equal(stalled_count(&all, SLOW, 4000), 1);
    assert_int_equal(stalled_count(&all, SLOW, 60000), 0);
    assert_int_equal(stalled_count(&all, 0, 0) + stalled_count(&all, 1, 0), 0);
    bed_background_hold(&all, SLOW, false);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, SLOW), 300);
    assert_int_equal(stalled_count(&all, SLOW, 0), 0);
    bed_end(&all);
}

/* The primary's writers wait for it; nobody leaves, and leases go on. */
static void test_replica__a_follower_that_seals_slowly_slows_the_primary(void **state) {
    (void)state;
    enum { ROUNDS = 50, EACH = 4 };
    bed all;
    bed_writes *writes[ROUNDS];
    bed_options options = slow_options();
    bed_begin(&all, &options);
    uint64_t epoch = all.shards[0].epoch;
    uint32_t reads = 0;
    bed_background_hold(&all, SLOW, true);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        writes[i] = bed_writes_begin(&all, 0, i * EACH, EACH, 20000);
        bed_run_ms(&all, BED_LEASE_MS / 8);
        if (i % 4 == 3) bed_background_step(&all, SLOW);
    }
    assert_int_equal(bed_in_sync_count(&all), 3);
    uint64_t taken = bed_status(&all, SLOW).end.sequence;
    assert_true(taken < ROUNDS * EACH);
    for (uint32_t i = 0; i < 200; i++) {
        bed_background_step(&all, SLOW);
        bed_run_ms(&all, BED_LEASE_MS / 2);
        assert_true(unsealed_rows(&all, SLOW) <= UNSEALED_MOST);
        reads += bed_read(&all, 0, KITH_REPLICA_READ_IN_SYNC, 0, BED_LEASE_MS / 2) == KITH_OK;
    }
    assert_true(reads >= 180); /* of 200: messages overtake each other */
    bed_background_hold(&all, SLOW, false);
    for (uint32_t i = 0; i < ROUNDS; i++)
        assert_true(bed_writes_end(writes[i]));
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, SLOW), ROUNDS * EACH);
    assert_true(all.shards[0].epoch == epoch);
    bed_end(&all);
}

/* Bytes of appends to the slow one. */
static void appends_count(void *ctx, const kith_transport_sim_event *event) {
    if (event->kind == KITH_AM_APPEND && !event->is_reply && event->to == SLOW &&
        event->fate == KITH_TRANSPORT_SIM_SENT)
        *(uint64_t *)ctx += event->byte_count;
}

/* What it has no room for is not sent to it again and again; it says when it has. */
static void test_replica__a_follower_without_room_is_asked_before_it_is_sent_more(void **state) {
    (void)state;
    bed all;
    uint64_t bytes = 0;
    bed_options options = slow_options();
    bed_begin(&all, &options);
    uint64_t epoch = all.shards[0].epoch;
    bed_background_hold(&all, SLOW, true);
    bed_writes *writes = bed_writes_begin(&all, 0, 0, 200, 20000);
    bed_run_ms(&all, BED_LEASE_MS);
    kith_transport_sim_trace(all.network, appends_count, &bytes);
    bed_run_ms(&all, 5 * BED_LEASE_MS);
    assert_true(bytes > 0);
    assert_true(bytes < options.append_inflight_bytes);
    uint64_t end = bed_status(&all, SLOW).end.sequence;
    assert_int_equal(bed_read(&all, SLOW, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_OK);
    bed_background_hold(&all, SLOW, false);
    bed_run_ms(&all, BED_LEASE_MS / 10);
    assert_true(bed_status(&all, SLOW).end.sequence > end);
    kith_transport_sim_trace(all.network, NULL, NULL);
    assert_true(bed_writes_end(writes));
    bed_await_equal(&all, 5000);
    assert_true(all.shards[0].epoch == epoch);
    bed_end(&all);
}

/* --- a follower whose files are corrupt --- */

/* It says so itself, sooner than its primary could know, and comes back as a copy. */
static void test_replica__one_that_is_corrupt_takes_itself_out_of_those_in_sync(void **state) {
    (void)state;
    bed all;
    char path[256];
    uint64_t offset;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 20);
    bed_await_equal(&all, 1000);
    bed_seal(&all, 1);
    bed_stop(&all, 1);
    assert_true(sim_env_flip_any(all.machines[1].sim, ".seg", path, sizeof path, &offset));
    bed_start(&all, 1);
    assert_int_equal(bed_in_sync_count(&all), 3);
    bed_run_ms(&all, BED_LEASE_MS / 4);
    assert_int_equal(all.shards[0].in_sync, 5);
    assert_int_equal(bed_events("replica_leaves"), 1);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_events("replica_installed"), 1);
    write_all(&all, 0, 20, 5);
    bed_end(&all);
}

/* Whatever it is given, it can take no entry behind that. */
static void test_replica__one_whose_log_has_stopped_fetches_no_copies(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 20);
    sim_env_fail_next(all.machines[1].sim, SIM_FAIL_SYNC, KITH_IO);
    for (uint64_t i = 20; i < 60; i++) {
        assert_int_equal(bed_write(&all, 0, i, 10, 5000), KITH_OK);
        bed_run_ms(&all, BED_LEASE_MS);
    }
    assert_int_equal(all.shards[0].in_sync, 5);
    assert_int_equal(bed_events("replica_replaced"), 0);
    bed_stop(&all, 1);
    bed_start(&all, 1);
    bed_await_primary(&all, 0, 3);
    bed_await_equal(&all, 5000);
    assert_int_equal(bed_count(&all, 1), 60);
    bed_end(&all);
}

/* What it asked for is lost: it asks again. */
static void test_replica__one_that_is_corrupt_asks_until_it_is_out(void **state) {
    (void)state;
    bed all;
    char path[256];
    uint64_t offset;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 20);
    bed_seal(&all, 1);
    bed_stop(&all, 1);
    assert_true(sim_env_flip_any(all.machines[1].sim, ".seg", path, sizeof path, &offset));
    bed_crash(&all, 0);
    all.is_silent = true;
    bed_start(&all, 1);
    bed_run_ms(&all, 1000);
    assert_int_equal(bed_in_sync_count(&all), 3);
    uint64_t end = bed_status(&all, 1).end.sequence;
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_ANY, 0, 100), KITH_UNAVAILABLE);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_TOKEN, 1, 100), KITH_UNAVAILABLE);
    assert_true(end > 1);
    all.is_silent = false;
    bed_run_ms(&all, 1000);
    assert_int_equal(all.shards[0].in_sync, 5);
    bed_promote(&all, 2);
    bed_await_primary(&all, 2, 2);
    bed_await_equal(&all, 5000);
    bed_start(&all, 0);
    bed_await_primary(&all, 2, 3);
    bed_end(&all);
}

/* --- nobody tells who has what --- */

/* By the map that they have kept: what promises nothing about others is answered; the rest only by followers whose primary lives. */
static void test_replica__restarted_ones_answer_what_is_safe_while_no_coordinator_does(void **state) {
    (void)state;
    bed all;
    bed_begin(&all, &usual);
    write_all(&all, 0, 0, 20);
    bed_await_equal(&all, 1000);
    all.is_silent = true;
    bed_stop(&all, 1);
    bed_start(&all, 1);
    bed_run_ms(&all, BED_LEASE_MS);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_ANY, 0, 100), KITH_OK);
    assert_int_equal(bed_read(&all, 1, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_OK);
    write_all(&all, 0, 20, 5);
    bed_stop(&all, 0);
    bed_start(&all, 0);
    bed_run_ms(&all, 10 * BED_LEASE_MS);
    for (uint32_t i = 0; i < BED_MACHINES; i++) {
        assert_int_equal(bed_read(&all, i, KITH_REPLICA_READ_ANY, 0, 100), KITH_OK);
        assert_int_equal(bed_read(&all, i, KITH_REPLICA_READ_IN_SYNC, 0, 100), KITH_UNAVAILABLE);
    }
    assert_int_equal(bed_write(&all, 0, 100, 10, 1000), KITH_UNAVAILABLE);
    all.is_silent = false;
    bed_await_primary(&all, 0, 3);
    write_all(&all, 0, 100, 5);
    bed_end(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica__what_is_acknowledged_is_everywhere),
        cmocka_unit_test(test_replica__only_the_primary_takes_writes),
        cmocka_unit_test(test_replica__a_follower_that_crashed_comes_back),
        cmocka_unit_test(test_replica__too_few_in_sync_take_no_writes),
        cmocka_unit_test(test_replica__a_dead_primary_is_replaced),
        cmocka_unit_test(test_replica__who_has_what_was_given_up_is_replaced),
        cmocka_unit_test(test_replica__a_primary_that_restarts_leads_in_an_epoch_of_its_own),
        cmocka_unit_test(test_replica__the_tail_of_a_deposed_primary_is_cut_off),
        cmocka_unit_test(test_replica__entries_are_read_back_from_the_log),
        cmocka_unit_test(test_replica__entries_in_memory_do_not_overtake_those_read_back),
        cmocka_unit_test(test_replica__entries_in_damaged_files_of_the_log_come_as_a_copy),
        cmocka_unit_test(test_replica__who_lacks_too_much_gets_a_copy),
        cmocka_unit_test(test_replica__a_copy_that_was_cut_off_begins_anew),
        cmocka_unit_test(test_replica__pieces_are_asked_for_before_they_are_needed),
        cmocka_unit_test(test_replica__a_primary_whose_disk_hangs_makes_way),
        cmocka_unit_test(test_replica__one_that_is_chosen_while_it_waits_for_a_copy_keeps_what_it_has),
        cmocka_unit_test(test_replica__one_that_is_chosen_amid_its_copy_does_not_lead),
        cmocka_unit_test(test_replica__copies_without_a_source_hold_up_no_others),
        cmocka_unit_test(test_replica__copies_without_room_give_up_no_other_shards),
        cmocka_unit_test(test_replica__a_copy_that_is_interrupted_for_a_moment_keeps_its_place),
        cmocka_unit_test(test_replica__a_copy_that_was_cut_off_goes_on_where_it_was),
        cmocka_unit_test(test_replica__a_copy_that_opens_corrupt_is_fetched_anew),
        cmocka_unit_test(test_replica__a_copy_may_be_taken_away_as_it_opens),
        cmocka_unit_test(test_replica__one_that_is_taken_away_amid_its_copy_may_be_given_again_at_once),
        cmocka_unit_test(test_replica__one_that_is_taken_away_waits_for_no_piece),
        cmocka_unit_test(test_replica__one_that_is_taken_away_on_a_dead_disk_lets_its_node_stop),
        cmocka_unit_test(test_replica__a_copy_whose_source_restarts_begins_anew),
        cmocka_unit_test(test_replica__a_stop_amid_pieces_ends),
        cmocka_unit_test(test_replica__reads_promise_what_leases_allow),
        cmocka_unit_test(test_replica__reads_that_need_no_wait_do_not_ask_the_owner),
        cmocka_unit_test(test_replica__a_hand_over_costs_no_time_and_no_write),
        cmocka_unit_test(test_replica__a_planted_difference_is_found_and_mended),
        cmocka_unit_test(test_replica__a_primary_that_differs_from_all_makes_way),
        cmocka_unit_test(test_replica__a_follower_that_seals_nothing_stays_bounded_and_leaves),
        cmocka_unit_test(test_replica__a_follower_that_seals_slowly_slows_the_primary),
        cmocka_unit_test(test_replica__a_follower_without_room_is_asked_before_it_is_sent_more),
        cmocka_unit_test(test_replica__one_that_is_corrupt_takes_itself_out_of_those_in_sync),
        cmocka_unit_test(test_replica__one_whose_log_has_stopped_fetches_no_copies),
        cmocka_unit_test(test_replica__one_that_is_corrupt_asks_until_it_is_out),
        cmocka_unit_test(test_replica__restarted_ones_answer_what_is_safe_while_no_coordinator_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
