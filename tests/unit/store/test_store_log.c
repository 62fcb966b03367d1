/* The log on the simulated disk: what was acknowledged comes back, whatever the crash; what was damaged is
 * named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/store/store_log.h"
#include "host/store/store_log_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

#define DIR          "/data/log"
#define FIRST_FILE   "/data/log/log-00000000000000000001.kith"
#define GOLDEN_PATH  KITH_SOURCE_DIR "/tests/golden/log-v1.kith"
#define STREAMS      3
#define ENTRIES_MAX  4096
#define HEADER_BYTES 64

/* An entry the test wrote, or read back. */
typedef struct test_entry {
    uint64_t stream, epoch, sequence, bytes;
    uint64_t seed; /* of its bytes */
} test_entry;

typedef struct test_append {
    kith_log_append append; /* first: `done` casts back */
    struct fixture *fixture;
    uint32_t index;
    uint8_t *data;
} test_append;

typedef struct fixture {
    sim_env *sim;
    kith_executor *executor;
    kith_store_log *log;
    kith_store_log_options options;
    /* In the order of the calls. */
    test_entry appended[ENTRIES_MAX];
    kith_status status[ENTRIES_MAX]; /* of done; -1 while waiting */
    uint32_t appended_count;
    uint64_t trimmed[STREAMS]; /* sequences below it need not come back */
    /* In the order of the replay. */
    test_entry replayed[ENTRIES_MAX];
    uint32_t replayed_count;
} fixture;

static void data_fill(uint8_t *data, uint64_t bytes, uint64_t seed) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    /* One in four is constant: 0xA5 is the byte that becomes zero on the disk. */
    bool constant = seed % 4 == 0;
    for (uint64_t i = 0; i < bytes; i++)
        data[i] = constant ? 0xA5 : (uint8_t)kith_rng_next(&rng);
}

static kith_status replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    (void)err;
    fixture *f = ctx;
    assert_true(f->replayed_count < ENTRIES_MAX);
    assert_true(entry->bytes >= 8);
    uint64_t seed;
    memcpy(&seed, entry->data, 8);
    uint8_t *expected = kith_alloc(entry->bytes);
    memcpy(expected, &seed, 8);
    data_fill(expected + 8, entry->bytes - 8, seed);
    assert_memory_equal(entry->data, expected, entry->bytes);
    kith_free(expected);
    f->replayed[f->replayed_count++] = (test_entry){.stream = entry->stream,
        .epoch = entry->epoch,
        .sequence = entry->sequence,
        .bytes = entry->bytes,
        .seed = seed};
    return KITH_OK;
}

static void done(kith_log_append *append, kith_status status, const kith_err *err) {
    test_append *mine = (test_append *)append;
    if (status != KITH_OK) assert_int_not_equal(err->status, KITH_OK);
    assert_int_equal((int)mine->fixture->status[mine->index], -1);
    mine->fixture->status[mine->index] = status;
    kith_free(mine->data);
    kith_free(mine);
}

static fixture *fixture_create(uint64_t seed) {
    fixture *f = kith_alloc_zero(sizeof *f);
    f->sim = sim_env_create(seed);
    f->options = (kith_store_log_options){.env = sim_env_kith(f->sim),
        .dir = DIR,
        .file_bytes = 1 << 20,
        .pending_bytes_max = 1 << 20,
        .replay = replay,
        .replay_ctx = f};
    return f;
}

static kith_status log_open(fixture *f, kith_err *err) {
    f->replayed_count = 0;
    assert_ok(kith_executor_create(f->options.env, "log", 1, &f->executor, err), err);
    f->options.executor = f->executor;
    kith_status status = kith_store_log_open(&f->options, &f->log, err);
    if (status == KITH_OK) return status;
    kith_executor_destroy(f->executor);
    f->executor = NULL;
    return status;
}

static void log_close(fixture *f) {
    kith_store_log_close(f->log);
    kith_executor_destroy(f->executor);
    f->log = NULL;
    f->executor = NULL;
}

static void fixture_destroy(fixture *f) {
    log_close(f);
    sim_env_destroy(f->sim);
    kith_free(f);
}

static test_append *append_make(
    fixture *f, uint64_t stream, uint64_t sequence, uint64_t bytes, uint64_t seed) {
    assert_true(f->appended_count < ENTRIES_MAX);
    test_append *mine = kith_alloc_zero(sizeof *mine);
    mine->fixture = f;
    mine->index = f->appended_count++;
    mine->data = kith_alloc(bytes);
    memcpy(mine->data, &seed, 8);
    data_fill(mine->data + 8, bytes - 8, seed);
    mine->append.entry = (kith_log_entry){
        .stream = stream, .epoch = 1, .sequence = sequence, .data = mine->data, .bytes = bytes};
    mine->append.done = done;
    f->appended[mine->index] =
        (test_entry){.stream = stream, .epoch = 1, .sequence = sequence, .bytes = bytes, .seed = seed};
    f->status[mine->index] = (kith_status)-1;
    return mine;
}

static void append(fixture *f, uint64_t stream, uint64_t sequence, uint64_t bytes, uint64_t seed) {
    kith_store_log_append(f->log, &append_make(f, stream, sequence, bytes, seed)->append);
}

static bool entry_equal(const test_entry *a, const test_entry *b) {
    return a->stream == b->stream && a->epoch == b->epoch && a->sequence == b->sequence &&
           a->bytes == b->bytes && a->seed == b->seed;
}

static bool is_replayed(const fixture *f, const test_entry *entry) {
    for (uint32_t i = 0; i < f->replayed_count; i++)
        if (entry_equal(&f->replayed[i], entry)) return true;
    return false;
}

/* By an entry that is durable. */
static bool is_superseded(const fixture *f, uint32_t index) {
    const test_entry *entry = &f->appended[index];
    for (uint32_t i = index + 1; i < f->appended_count; i++) {
        const test_entry *later = &f->appended[i];
        bool supersedes = later->stream == entry->stream && later->sequence <= entry->sequence;
        if (supersedes && (f->status[i] == KITH_OK || is_replayed(f, later))) return true;
    }
    return false;
}

/* Every acknowledged entry that was not superseded is among the replayed ones, in order, and none that was never appended or
 * was refused. */
static void replay_check(const fixture *f) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < f->appended_count; i++) {
        bool there = at < f->replayed_count && entry_equal(&f->appended[i], &f->replayed[at]);
        if (there) {
            assert_true(f->status[i] != KITH_NO_SPACE && f->status[i] != KITH_BUSY);
            at++;
        } else if (f->appended[i].stream >= STREAMS ||
                   f->appended[i].sequence >= f->trimmed[f->appended[i].stream]) {
            assert_true(f->status[i] != KITH_OK || is_superseded(f, i));
        }
    }
    assert_int_equal(at, f->replayed_count);
}

static void reopen(fixture *f) {
    kith_err err;
    assert_ok(log_open(f, &err), &err);
}

static void test_store_log__entries_come_back_in_order(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    for (uint32_t i = 0; i < 100; i++) {
        append(f, i % STREAMS, i, 8 + i * 37, i);
        if (i % 7 == 0) (void)sim_env_run(f->sim);
    }
    (void)sim_env_run(f->sim);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(f->status[i], KITH_OK);
    kith_log_stats stats;
    kith_store_log_stats_read(f->log, &stats);
    assert_int_equal(stats.entries, 100);
    assert_true(stats.syncs < 20); /* many share a sync */
    log_close(f);
    reopen(f);
    assert_int_equal(f->replayed_count, 100);
    replay_check(f);
    fixture_destroy(f);
}

static void test_store_log__close_completes_what_waits(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    append(f, 1, 1, 100, 1);
    append(f, 1, 2, 100, 2);
    log_close(f);
    assert_int_equal(f->status[0], KITH_OK);
    assert_int_equal(f->status[1], KITH_OK);
    reopen(f);
    assert_int_equal(f->replayed_count, 2);
    fixture_destroy(f);
}

static void test_store_log__too_much_pending_is_busy(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    f->options.pending_bytes_max = 1000;
    reopen(f);
    append(f, 1, 1, 2000, 1); /* longer than the limit, but alone */
    append(f, 1, 2, 100, 2);
    (void)sim_env_run(f->sim);
    append(f, 1, 3, 100, 3);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[0], KITH_OK);
    assert_int_equal(f->status[1], KITH_BUSY);
    assert_int_equal(f->status[2], KITH_OK);
    log_close(f);
    reopen(f);
    replay_check(f);
    fixture_destroy(f);
}

static void test_store_log__full_disk_refuses_and_recovers(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    append(f, 1, 1, 1000, 1);
    (void)sim_env_run(f->sim);
    sim_env_space_set(f->sim, 2500);
    append(f, 1, 2, 4000, 2);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[1], KITH_NO_SPACE);
    kith_err err;
    assert_ok(kith_store_log_health(f->log, &err), &err);
    append(f, 1, 3, 100, 3);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[2], KITH_OK);
    sim_env_space_set(f->sim, 1 << 20);
    append(f, 1, 4, 4000, 4);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[3], KITH_OK);
    log_close(f);
    reopen(f);
    assert_int_equal(f->replayed_count, 3);
    replay_check(f);
    fixture_destroy(f);
}

static void test_store_log__full_disk_at_a_new_file(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = 500;
    reopen(f);
    append(f, 1, 1, 1000, 1);
    (void)sim_env_run(f->sim);
    sim_env_space_set(f->sim, 0);
    append(f, 1, 2, 100, 2);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[1], KITH_NO_SPACE);
    sim_env_space_set(f->sim, 1100 + 30); /* room for the name but not for the header */
    append(f, 1, 3, 100, 3);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[2], KITH_NO_SPACE);
    sim_env_space_set(f->sim, 1 << 20);
    append(f, 1, 4, 100, 4);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[3], KITH_OK);
    log_close(f);
    reopen(f);
    assert_int_equal(f->replayed_count, 2);
    replay_check(f);
    fixture_destroy(f);
}

/* The process comes back on the same kernel, writes, and then power goes: what the first one could not sync
 * must not be a hole below what the second one acknowledged. */
static void next_process_is_durable(fixture *f) {
    reopen(f);
    replay_check(f);
    append(f, 1, 100, 1000, 100);
    append(f, 1, 101, 6000, 101);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[f->appended_count - 1], KITH_OK);
    log_close(f);
    sim_env_crash(f->sim, SIM_CRASH_LOSE_ALL);
    sim_env_restart(f->sim);
    reopen(f);
    replay_check(f);
}

static void failure_stops(sim_fail_kind first, sim_fail_kind second, kith_status status) {
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    append(f, 1, 1, 1000, 1);
    (void)sim_env_run(f->sim);
    sim_env_fail_next(f->sim, first, status);
    if (second != SIM_FAIL_KINDS) sim_env_fail_next(f->sim, second, KITH_IO);
    append(f, 1, 2, 1000, 2);
    (void)sim_env_run(f->sim);
    append(f, 1, 3, 1000, 3);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[1], KITH_IO);
    assert_int_equal(f->status[2], KITH_IO);
    kith_err err;
    assert_int_equal(kith_store_log_health(f->log, &err), KITH_IO);
    assert_non_null(strstr(err.text, "injected failure"));
    log_close(f);
    next_process_is_durable(f);
    fixture_destroy(f);
}

static void test_store_log__a_failed_sync_stops_it(void **state) {
    (void)state;
    failure_stops(SIM_FAIL_SYNC, SIM_FAIL_KINDS, KITH_IO);
    failure_stops(SIM_FAIL_SYNC, SIM_FAIL_KINDS, KITH_NO_SPACE);
    failure_stops(SIM_FAIL_SYNC, SIM_FAIL_KINDS, KITH_NO_MEMORY);
}

/* As failure_stops, when the failing call is one that makes the second file. */
static void failure_at_a_new_file_stops(sim_fail_kind first, sim_fail_kind second, kith_status status) {
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = 500;
    reopen(f);
    append(f, 1, 1, 1000, 1);
    (void)sim_env_run(f->sim);
    sim_env_fail_next(f->sim, first, status);
    if (second != SIM_FAIL_KINDS) sim_env_fail_next(f->sim, second, KITH_NO_MEMORY);
    append(f, 1, 2, 1000, 2);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[1], KITH_IO);
    log_close(f);
    next_process_is_durable(f);
    fixture_destroy(f);
}

static void test_store_log__a_failed_sync_of_a_new_file_stops_it(void **state) {
    (void)state;
    static const kith_status statuses[] = {KITH_IO, KITH_NO_SPACE, KITH_NO_MEMORY};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        failure_at_a_new_file_stops(SIM_FAIL_SYNC, SIM_FAIL_KINDS, statuses[i]);
        failure_at_a_new_file_stops(SIM_FAIL_DIR_SYNC, SIM_FAIL_KINDS, statuses[i]);
        failure_at_a_new_file_stops(SIM_FAIL_WRITE, SIM_FAIL_REMOVE, statuses[i]);
    }
}

static void test_store_log__a_failed_write_stops_it(void **state) {
    (void)state;
    failure_stops(SIM_FAIL_WRITE, SIM_FAIL_KINDS, KITH_IO);
    failure_stops(SIM_FAIL_WRITE, SIM_FAIL_KINDS, KITH_NO_MEMORY);
}

static void test_store_log__a_failed_cut_after_a_full_disk_stops_it(void **state) {
    (void)state;
    failure_stops(SIM_FAIL_WRITE, SIM_FAIL_TRUNCATE, KITH_NO_SPACE);
    failure_stops(SIM_FAIL_WRITE, SIM_FAIL_SYNC, KITH_NO_SPACE);
}

static uint64_t file_count(fixture *f) {
    kith_log_stats stats;
    kith_store_log_stats_read(f->log, &stats);
    return stats.files;
}

/* Eight files of one entry each, streams 0 and 1 in turn. */
static fixture *eight_files(uint64_t retain_bytes) {
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = 200;
    f->options.retain_bytes = retain_bytes;
    reopen(f);
    for (uint32_t i = 0; i < 8; i++) {
        append(f, i % 2, i, 1000, i);
        (void)sim_env_run(f->sim);
    }
    assert_int_equal(file_count(f), 8);
    return f;
}

static void test_store_log__trim_removes_whole_files_from_the_front(void **state) {
    (void)state;
    fixture *f = eight_files(0);
    kith_store_log_trim(f->log, 1, 7);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 8); /* the oldest holds stream 0 */
    kith_store_log_trim(f->log, 0, 2);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 4); /* 0, 1, 2, 3 went; 4 is of stream 0 */
    kith_store_log_drop(f->log, 0);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 1); /* never the current one */
    append(f, 1, 8, 100, 8);
    (void)sim_env_run(f->sim);
    log_close(f);
    reopen(f);
    assert_int_equal(f->replayed_count, 1); /* the file of 7 went once it was no longer the current one */
    assert_int_equal(f->replayed[0].sequence, 8);
    fixture_destroy(f);
}

static void test_store_log__trim_keeps_what_is_retained(void **state) {
    (void)state;
    fixture *f = eight_files(3000);
    kith_store_log_drop(f->log, 0);
    kith_store_log_drop(f->log, 1);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 3); /* two of 1136 bytes, and the current one */
    fixture_destroy(f);
}

static void append_synced(fixture *f, uint64_t stream, uint64_t sequence) {
    append(f, stream, sequence, 1000, f->appended_count);
    (void)sim_env_run(f->sim);
}

/* Entries 1 to 6 of stream 1 are cut at 4, and what comes instead is sealed at once: nothing of it may keep the files that
 * stream 0 goes on to fill. */
static void superseded_keep_no_file(uint64_t file_bytes, bool restarted) {
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = file_bytes;
    reopen(f);
    for (uint32_t i = 1; i <= 6; i++)
        append_synced(f, 1, i);
    append_synced(f, 1, 4);
    for (uint32_t i = 1; i <= 12; i++)
        append_synced(f, 0, i);
    if (restarted) {
        log_close(f);
        reopen(f);
        replay_check(f);
    }
    kith_store_log_trim(f->log, 1, 3);
    kith_store_log_trim(f->log, 0, 12);
    (void)sim_env_run(f->sim);
    assert_true(kith_store_log_first(f->log, 1) <= 4); /* what came instead is needed */
    kith_store_log_trim(f->log, 1, 4);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 1);
    assert_true(kith_store_log_first(f->log, 1) == UINT64_MAX);
    fixture_destroy(f);
}

static void test_store_log__superseded_entries_keep_no_file(void **state) {
    (void)state;
    /* Each in a file of its own, some of both in the same one, all in the first one. */
    static const uint64_t file_bytes[] = {200, 4500, 7000};
    for (size_t i = 0; i < sizeof file_bytes / sizeof file_bytes[0]; i++) {
        superseded_keep_no_file(file_bytes[i], false);
        superseded_keep_no_file(file_bytes[i], true);
    }
}

static void test_store_log__superseded_entries_stay_while_what_supersedes_them_is_refused(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = 200;
    reopen(f);
    for (uint32_t i = 1; i <= 4; i++)
        append_synced(f, 1, i);
    sim_env_space_set(f->sim, 0);
    append_synced(f, 1, 2);
    assert_int_equal(f->status[4], KITH_NO_SPACE);
    kith_store_log_trim(f->log, 1, 1);
    (void)sim_env_run(f->sim);
    assert_int_equal(file_count(f), 3);
    log_close(f);
    sim_env_space_set(f->sim, 1 << 20);
    reopen(f);
    assert_int_equal(f->replayed_count, 3);
    append_synced(f, 1, 2);
    assert_int_equal(file_count(f), 1);
    fixture_destroy(f);
}

/* As after a crash in the last write. */
static void file_shorten(fixture *f, const char *path) {
    size_t bytes;
    kith_file *file;
    kith_err err;
    (void)sim_env_file_get(f->sim, path, &bytes);
    assert_ok(kith_file_open(f->options.env, path, KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_truncate(file, bytes - 100, &err), &err);
    kith_file_close(file);
}

/* Entries 2 and 3 are in the second file, 4 and the new 2 in the third one. */
static void test_store_log__superseded_entries_stay_when_what_supersedes_them_is_torn(void **state) {
    (void)state;
    for (int torn = 0; torn < 2; torn++) {
        fixture *f = fixture_create(test_seed(1));
        f->options.file_bytes = 1500;
        reopen(f);
        append_synced(f, 0, 1); /* keeps all files until it is dropped */
        for (uint32_t i = 1; i <= 4; i++)
            append_synced(f, 1, i);
        append_synced(f, 1, 2);
        log_close(f);
        if (torn) file_shorten(f, DIR "/log-00000000000000000003.kith");
        reopen(f);
        assert_int_equal(f->replayed_count, torn ? 5 : 6);
        kith_store_log_drop(f->log, 0);
        kith_store_log_trim(f->log, 1, 1);
        (void)sim_env_run(f->sim);
        assert_int_equal(file_count(f), torn ? 2 : 1);
        fixture_destroy(f);
    }
}

static void test_store_log__a_missing_file_is_corrupt(void **state) {
    (void)state;
    fixture *f = eight_files(0);
    log_close(f);
    kith_err err;
    assert_ok(kith_path_remove(f->options.env, DIR "/log-00000000000000000003.kith", &err), &err);
    assert_int_equal(log_open(f, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "log file 3 is missing"));
    fixture_destroy(f);
}

static void test_store_log__a_replay_that_fails_ends_the_open(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    append(f, 1, 1, 100, 1);
    (void)sim_env_run(f->sim);
    log_close(f);
    sim_env_fail_next(f->sim, SIM_FAIL_READ, KITH_IO);
    kith_err err;
    assert_int_equal(log_open(f, &err), KITH_IO);
    reopen(f);
    replay_check(f);
    fixture_destroy(f);
}

/* --- crashes --- */

/* Mostly above all before it; now and then one that supersedes some of what was not trimmed. */
static uint64_t sequence_next(const fixture *f, uint64_t stream, kith_rng *rng) {
    uint64_t sequence = f->appended_count;
    uint64_t back = kith_rng_below(rng, 5) == 0 ? kith_rng_below(rng, 20) : 0;
    sequence = sequence > back ? sequence - back : 0;
    return sequence > f->trimmed[stream] ? sequence : f->trimmed[stream];
}

/* Appends in bursts, with trims, until the end or a crash. */
static void work(fixture *f, uint64_t seed) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint32_t round = 0; round < 12 && !sim_env_crashed(f->sim); round++) {
        uint64_t burst = 1 + kith_rng_below(&rng, 4);
        for (uint64_t i = 0; i < burst; i++) {
            uint64_t bytes = 8 + kith_rng_below(&rng, kith_rng_below(&rng, 4) == 0 ? 6000 : 300);
            uint64_t stream = kith_rng_below(&rng, STREAMS);
            append(f, stream, sequence_next(f, stream, &rng), bytes, kith_rng_next(&rng));
        }
        if (kith_rng_below(&rng, 6) == 0) sim_env_space_set(f->sim, kith_rng_below(&rng, 30000));
        (void)sim_env_run(f->sim);
        sim_env_space_set(f->sim, 1 << 30);
        if (kith_rng_below(&rng, 3) == 0) {
            uint64_t stream = kith_rng_below(&rng, STREAMS);
            f->trimmed[stream] = f->appended_count;
            kith_store_log_trim(f->log, stream, f->appended_count - 1);
        }
    }
}

static fixture *crash_fixture(uint64_t seed) {
    fixture *f = fixture_create(seed);
    f->options.file_bytes = 8000;
    return f;
}

static void crash_once(uint64_t seed, uint64_t op, sim_crash_mode mode) {
    fixture *f = crash_fixture(seed);
    sim_env_crash_at(f->sim, op, mode);
    kith_err err;
    if (log_open(f, &err) == KITH_OK) {
        work(f, seed);
        log_close(f);
    }
    if (!sim_env_crashed(f->sim)) sim_env_crash(f->sim, mode);
    sim_env_restart(f->sim);
    /* The second life crashes too, sometimes inside the recovery. */
    sim_env_crash_at(f->sim, sim_env_op_count(f->sim) + seed % 9, mode);
    kith_status status = log_open(f, &err);
    if (status == KITH_OK) {
        replay_check(f);
        work(f, seed + 1);
        log_close(f);
    } else if (status != KITH_IO) {
        fail_msg("seed %llu op %llu mode %d: %s", (unsigned long long)seed, (unsigned long long)op, (int)mode,
            err.text);
    }
    if (!sim_env_crashed(f->sim)) sim_env_crash(f->sim, mode);
    sim_env_restart(f->sim);
    status = log_open(f, &err);
    if (status != KITH_OK) {
        fail_msg("seed %llu op %llu mode %d: %s", (unsigned long long)seed, (unsigned long long)op, (int)mode,
            err.text);
    }
    replay_check(f);
    fixture_destroy(f);
}

static uint64_t ops_of(uint64_t seed) {
    fixture *f = crash_fixture(seed);
    reopen(f);
    work(f, seed);
    uint64_t ops = sim_env_op_count(f->sim);
    log_close(f);
    reopen(f);
    replay_check(f);
    fixture_destroy(f);
    return ops;
}

static void test_store_log__acknowledged_entries_survive_every_crash(void **state) {
    (void)state;
    uint64_t first = test_seed(1);
    for (uint64_t seed = first; seed < first + test_scaled(40); seed++) {
        uint64_t ops = ops_of(seed);
        for (uint64_t op = 0; op < ops; op++) {
            for (int mode = SIM_CRASH_KEEP_ALL; mode <= SIM_CRASH_TORN_UNORDERED; mode++) {
                crash_once(seed, op, (sim_crash_mode)mode);
            }
        }
    }
}

/* --- damage --- */

static void test_store_log__any_flipped_byte_is_corrupt(void **state) {
    (void)state;
    fixture *f = fixture_create(test_seed(1));
    f->options.file_bytes = 2000;
    reopen(f);
    for (uint32_t i = 0; i < 6; i++) {
        append(f, 1, i, 8 + i * 200, i);
        (void)sim_env_run(f->sim);
    }
    log_close(f);
    for (uint32_t file = 1; file <= 2; file++) {
        char path[64];
        snprintf(path, sizeof path, DIR "/log-%020u.kith", file);
        size_t bytes;
        assert_non_null(sim_env_file_get(f->sim, path, &bytes));
        for (uint64_t at = 0; at < bytes; at++) {
            uint8_t mask = (uint8_t)(1u << at % 8);
            assert_true(sim_env_flip(f->sim, path, at, mask));
            kith_err err;
            assert_int_equal(log_open(f, &err), KITH_CORRUPT);
            assert_non_null(strstr(err.text, path));
            assert_true(sim_env_flip(f->sim, path, at, mask));
        }
    }
    reopen(f);
    assert_int_equal(f->replayed_count, 6);
    fixture_destroy(f);
}

/* Sets [from, to) of the file to zeros, as sectors that were never written. */
static void zero(fixture *f, const char *path, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at++) {
        size_t bytes;
        uint8_t byte = sim_env_file_get(f->sim, path, &bytes)[at];
        assert_true(at < bytes);
        assert_true(sim_env_flip(f->sim, path, at, byte));
    }
}

/* Three frames of 4 KiB of 0xA5, which would be zeros on the disk under the mask of headers. */
static fixture *three_frames(uint64_t ends_out[3]) {
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    for (uint32_t i = 0; i < 3; i++) {
        append(f, 1, i, 4096, 4 * i);
        (void)sim_env_run(f->sim);
        size_t bytes;
        assert_non_null(sim_env_file_get(f->sim, FIRST_FILE, &bytes));
        ends_out[i] = bytes;
    }
    log_close(f);
    return f;
}

static void test_store_log__a_missing_sector_is_torn_in_the_last_frame_only(void **state) {
    (void)state;
    uint64_t ends[3];
    for (uint64_t sector = 0; sector * 512 < HEADER_BYTES + 3 * 4200; sector++) {
        fixture *f = three_frames(ends);
        uint64_t from = sector * 512 < HEADER_BYTES ? HEADER_BYTES : sector * 512;
        uint64_t to = (sector + 1) * 512 < ends[2] ? (sector + 1) * 512 : ends[2];
        if (from >= to) {
            kith_store_log_close(f->log);
            sim_env_destroy(f->sim);
            kith_free(f);
            break;
        }
        /* The part of the sector that a frame before the last wrote is not lost by the last write. */
        bool last_only = to > ends[1] && (from >= ends[1] || sector == ends[1] / 512);
        if (last_only && from < ends[1]) from = ends[1];
        zero(f, FIRST_FILE, from, to);
        kith_err err;
        kith_status status = log_open(f, &err);
        assert_int_equal(status, last_only ? KITH_OK : KITH_CORRUPT);
        if (last_only) {
            assert_int_equal(f->replayed_count, 2);
            append(f, 1, 9, 100, 9);
            (void)sim_env_run(f->sim);
            log_close(f);
            reopen(f);
            assert_int_equal(f->replayed_count, 3);
            assert_int_equal(f->replayed[2].sequence, 9);
        }
        fixture_destroy(f);
    }
}

static void test_store_log__a_shorter_last_file_is_torn(void **state) {
    (void)state;
    uint64_t ends[3];
    for (uint64_t cut = 1; cut < 4000; cut += 61) {
        fixture *f = three_frames(ends);
        kith_file *file;
        kith_err err;
        assert_ok(kith_file_open(f->options.env, FIRST_FILE, KITH_FILE_WRITE, &file, &err), &err);
        assert_ok(kith_file_truncate(file, ends[2] - cut, &err), &err);
        kith_file_close(file);
        reopen(f);
        assert_int_equal(f->replayed_count, 2);
        fixture_destroy(f);
    }
}

/* The entry's data holds what would be, under the mask of headers, the header of a later frame. */
static void test_store_log__data_like_a_frame_header_is_not_taken_for_one(void **state) {
    (void)state;
    kith_buf forged;
    kith_buf_init(&forged);
    kith_log_entry inner = {.stream = 1, .sequence = 1, .data = "x", .bytes = 1};
    log_frame_begin(&forged);
    log_frame_add(&forged, &inner);
    log_frame_finish(&forged, &(log_frame_place){.offset = LOG_HEADER_BYTES, .number = 1000000}, 1);
    fixture *f = fixture_create(test_seed(1));
    reopen(f);
    test_append *mine = append_make(f, 1, 1, 4096, 1);
    for (uint32_t i = 0; i < LOG_FRAME_HEADER_BYTES; i++)
        mine->data[2048 + i] = forged.data[i] ^ 0xA5;
    kith_buf_fini(&forged);
    kith_store_log_append(f->log, &mine->append);
    (void)sim_env_run(f->sim);
    assert_int_equal(f->status[0], KITH_OK);
    log_close(f);
    zero(f, FIRST_FILE, HEADER_BYTES, 512); /* the frame's first sector never reached the disk */
    reopen(f);
    assert_int_equal(f->replayed_count, 0);
    fixture_destroy(f);
}

static void test_store_log__masks_cannot_be_foreseen(void **state) {
    (void)state;
    uint64_t ends[3];
    fixture *f = three_frames(ends);
    size_t bytes;
    const uint8_t *file = sim_env_file_get(f->sim, FIRST_FILE, &bytes);
    log_frame_header first, second;
    assert_true(log_frame_header_decode(file + HEADER_BYTES, &first));
    assert_true(log_frame_header_decode(file + ends[0], &second));
    assert_true(first.mask != second.mask);
    reopen(f);
    fixture_destroy(f);
}

/* --- the golden file --- */

/* The entries of tests/golden/log-v1.kith: never change them. Two frames. */
static void golden_append(fixture *f) {
    append(f, 0, 1, 8, 7);
    append(f, 5, 1, 29, 9);
    append(f, 0, 2, 100, 11);
    (void)sim_env_run(f->sim);
    append(f, 5, 2, 1200, 4);
    (void)sim_env_run(f->sim);
}

/* The same file but for the masks, which are drawn anew for each frame. Takes the masks off both. */
static void files_equal(uint8_t *a, uint8_t *b, size_t bytes) {
    assert_memory_equal(a, b, LOG_HEADER_BYTES);
    for (size_t at = LOG_HEADER_BYTES; at < bytes;) {
        log_frame_header a_header, b_header;
        assert_true(log_frame_header_decode(a + at, &a_header));
        assert_true(log_frame_header_decode(b + at, &b_header));
        assert_int_equal(a_header.frame_bytes, b_header.frame_bytes);
        assert_int_equal(a_header.frame_number, b_header.frame_number);
        assert_int_equal(a_header.entry_count, b_header.entry_count);
        assert_int_equal(a_header.body_crc, b_header.body_crc);
        assert_true(a_header.frame_bytes <= bytes - at);
        assert_true(log_frame_body_unmask(&a_header, a + at + LOG_FRAME_HEADER_BYTES));
        assert_true(log_frame_body_unmask(&b_header, b + at + LOG_FRAME_HEADER_BYTES));
        at += LOG_FRAME_HEADER_BYTES;
        assert_memory_equal(a + at, b + at, a_header.frame_bytes - LOG_FRAME_HEADER_BYTES);
        at += a_header.frame_bytes - LOG_FRAME_HEADER_BYTES;
    }
}

static void golden_write_if_asked(fixture *f) {
    if (!getenv("KITH_GOLDEN_WRITE")) return;
    size_t bytes;
    const uint8_t *data = sim_env_file_get(f->sim, FIRST_FILE, &bytes);
    FILE *file = fopen(GOLDEN_PATH, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void test_store_log__golden_file_still_reads_and_is_still_written(void **state) {
    (void)state;
    fixture *f = fixture_create(1);
    reopen(f);
    golden_append(f);
    log_close(f);
    golden_write_if_asked(f);
    static uint8_t golden[4096], golden_copy[4096], written_copy[4096];
    FILE *file = fopen(GOLDEN_PATH, "rb");
    if (!file) fail_msg("%s is not there", GOLDEN_PATH);
    size_t golden_bytes = fread(golden, 1, sizeof golden, file);
    fclose(file);
    size_t bytes;
    const uint8_t *written = sim_env_file_get(f->sim, FIRST_FILE, &bytes);
    assert_int_equal(bytes, golden_bytes);
    memcpy(golden_copy, golden, bytes);
    memcpy(written_copy, written, bytes);
    files_equal(written_copy, golden_copy, bytes);
    sim_env_file_put(f->sim, FIRST_FILE, golden, golden_bytes);
    reopen(f);
    assert_int_equal(f->replayed_count, 4);
    replay_check(f);
    fixture_destroy(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_log__entries_come_back_in_order),
        cmocka_unit_test(test_store_log__close_completes_what_waits),
        cmocka_unit_test(test_store_log__too_much_pending_is_busy),
        cmocka_unit_test(test_store_log__full_disk_refuses_and_recovers),
        cmocka_unit_test(test_store_log__full_disk_at_a_new_file),
        cmocka_unit_test(test_store_log__a_failed_sync_stops_it),
        cmocka_unit_test(test_store_log__a_failed_sync_of_a_new_file_stops_it),
        cmocka_unit_test(test_store_log__a_failed_write_stops_it),
        cmocka_unit_test(test_store_log__a_failed_cut_after_a_full_disk_stops_it),
        cmocka_unit_test(test_store_log__trim_removes_whole_files_from_the_front),
        cmocka_unit_test(test_store_log__trim_keeps_what_is_retained),
        cmocka_unit_test(test_store_log__superseded_entries_keep_no_file),
        cmocka_unit_test(test_store_log__superseded_entries_stay_while_what_supersedes_them_is_refused),
        cmocka_unit_test(test_store_log__superseded_entries_stay_when_what_supersedes_them_is_torn),
        cmocka_unit_test(test_store_log__a_missing_file_is_corrupt),
        cmocka_unit_test(test_store_log__a_replay_that_fails_ends_the_open),
        cmocka_unit_test(test_store_log__acknowledged_entries_survive_every_crash),
        cmocka_unit_test(test_store_log__any_flipped_byte_is_corrupt),
        cmocka_unit_test(test_store_log__a_missing_sector_is_torn_in_the_last_frame_only),
        cmocka_unit_test(test_store_log__a_shorter_last_file_is_torn),
        cmocka_unit_test(test_store_log__data_like_a_frame_header_is_not_taken_for_one),
        cmocka_unit_test(test_store_log__masks_cannot_be_foreseen),
        cmocka_unit_test(test_store_log__golden_file_still_reads_and_is_still_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
