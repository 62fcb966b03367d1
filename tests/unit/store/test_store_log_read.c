/* Reading entries of the log back while it lives, and superseded ones. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "host/store/store_log.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

#define DIR      "/data/log"
#define SEEN_MAX 512

typedef struct one_append {
    kith_log_append append; /* first: `done` casts back */
    uint64_t data[32];      /* epoch, sequence, filler */
} one_append;

typedef struct seen {
    uint64_t epochs[SEEN_MAX], sequences[SEEN_MAX];
    uint32_t count;
    uint32_t end_after; /* 0: never */
    void (*first)(void *ctx);
    void *ctx;
} seen;

typedef struct fixture {
    sim_env *sim;
    kith_executor *executor;
    kith_store_log *log;
    kith_store_log_options options;
    uint32_t failed;
} fixture;

static kith_status replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    (void)ctx;
    (void)entry;
    (void)err;
    return KITH_OK;
}

static void log_open(fixture *f) {
    kith_err err;
    assert_ok(kith_executor_create(f->options.env, "log", 1, &f->executor, &err), &err);
    f->options.executor = f->executor;
    assert_ok(kith_store_log_open(&f->options, &f->log, &err), &err);
}

static void log_close(fixture *f) {
    kith_store_log_close(f->log);
    kith_executor_destroy(f->executor);
}

static void fixture_begin(fixture *f, uint64_t file_bytes) {
    *f = (fixture){.sim = sim_env_create(test_seed(1))};
    f->options = (kith_store_log_options){.env = sim_env_kith(f->sim),
        .dir = DIR,
        .file_bytes = file_bytes,
        .pending_bytes_max = 1 << 20,
        .replay = replay};
    log_open(f);
}

static void fixture_end(fixture *f) {
    log_close(f);
    sim_env_destroy(f->sim);
}

static void done(kith_log_append *append, kith_status status, const kith_err *err) {
    (void)err;
    assert_int_equal(status, KITH_OK);
    kith_free(append);
}

static void append(fixture *f, uint64_t stream, uint64_t epoch, uint64_t sequence) {
    one_append *made = kith_alloc_zero(sizeof *made);
    made->data[0] = epoch;
    made->data[1] = sequence;
    made->append = (kith_log_append){.entry = {.stream = stream,
                                         .epoch = epoch,
                                         .sequence = sequence,
                                         .data = made->data,
                                         .bytes = sizeof made->data},
        .done = done};
    kith_store_log_append(f->log, &made->append);
}

static void append_synced(fixture *f, uint64_t stream, uint64_t epoch, uint64_t sequence) {
    append(f, stream, epoch, sequence);
    (void)sim_env_run(f->sim);
}

static kith_status see(void *ctx, const kith_log_entry *entry, kith_err *err) {
    seen *into = ctx;
    uint64_t data[2];
    assert_int_equal(entry->bytes, 256);
    memcpy(data, entry->data, sizeof data);
    assert_int_equal(data[0], entry->epoch);
    assert_int_equal(data[1], entry->sequence);
    assert_true(into->count < SEEN_MAX);
    into->epochs[into->count] = entry->epoch;
    into->sequences[into->count++] = entry->sequence;
    if (into->count == 1 && into->first) into->first(into->ctx);
    if (into->count == into->end_after) return kith_err_set(err, KITH_CANCELLED, "enough");
    return KITH_OK;
}

static kith_status read_all(fixture *f, uint64_t stream, uint64_t from, uint64_t to, seen *into) {
    kith_err err;
    return kith_store_log_read(f->log, stream, from, to, NULL, see, into, &err);
}

static void test_store_log_read__gives_the_range_over_files_also_after_a_restart(void **state) {
    (void)state;
    fixture f;
    fixture_begin(&f, 1000);
    for (uint64_t i = 1; i <= 20; i++) {
        append(&f, 7, 1, i);
        append_synced(&f, 8, 1, 100 + i);
    }
    for (int turn = 0; turn < 2; turn++) {
        seen got = {0}, none = {0};
        assert_int_equal(kith_store_log_first(f.log, 7), 1);
        assert_int_equal(kith_store_log_first(f.log, 8), 101);
        assert_true(kith_store_log_first(f.log, 9) == UINT64_MAX);
        assert_int_equal(read_all(&f, 7, 5, 12, &got), KITH_OK);
        assert_int_equal(got.count, 8);
        for (uint32_t i = 0; i < 8; i++)
            assert_int_equal(got.sequences[i], 5 + i);
        assert_int_equal(read_all(&f, 7, 21, 30, &none), KITH_OK);
        assert_int_equal(none.count, 0);
        assert_int_equal(read_all(&f, 8, 100, 110, &none), KITH_NOT_FOUND);
        log_close(&f);
        log_open(&f);
    }
    fixture_end(&f);
}

static void test_store_log_read__ends_with_the_status_of_each(void **state) {
    (void)state;
    fixture f;
    seen got = {.end_after = 2};
    fixture_begin(&f, 1 << 20);
    for (uint64_t i = 1; i <= 5; i++)
        append_synced(&f, 7, 1, i);
    assert_int_equal(read_all(&f, 7, 1, 5, &got), KITH_CANCELLED);
    assert_int_equal(got.count, 2);
    fixture_end(&f);
}

/* The newest of each sequence comes last; superseded ones keep no file. */
static void test_store_log_read__superseded_entries_come_before_what_superseded_them(void **state) {
    (void)state;
    fixture f;
    seen got = {0};
    fixture_begin(&f, 300);
    for (uint64_t i = 1; i <= 6; i++)
        append_synced(&f, 7, 1, i);
    append_synced(&f, 7, 2, 4);
    append_synced(&f, 7, 2, 5);
    assert_int_equal(read_all(&f, 7, 4, 5, &got), KITH_OK);
    assert_int_equal(got.count, 4);
    assert_int_equal(got.epochs[2], 2);
    assert_int_equal(got.sequences[2], 4);
    kith_store_log_trim(f.log, 7, 3);
    (void)sim_env_run(f.sim);
    assert_int_equal(kith_store_log_first(f.log, 7), 4);
    seen rest = {0};
    assert_int_equal(read_all(&f, 7, 4, 6, &rest), KITH_OK);
    assert_int_equal(rest.count, 2); /* the files of the old 4, 5 and 6 went */
    assert_int_equal(rest.epochs[0], 2);
    kith_store_log_trim(f.log, 7, 4);
    (void)sim_env_run(f.sim);
    assert_int_equal(kith_store_log_first(f.log, 7), 5);
    fixture_end(&f);
}

static void trim_most(void *ctx) {
    fixture *f = ctx;
    kith_store_log_trim(f->log, 7, 19);
    (void)sim_env_run(f->sim);
}

static void test_store_log_read__files_trimmed_meanwhile_are_read_to_their_end(void **state) {
    (void)state;
    fixture f;
    seen got = {.first = trim_most, .ctx = &f}, late = {0};
    fixture_begin(&f, 300);
    for (uint64_t i = 1; i <= 20; i++)
        append_synced(&f, 7, 1, i);
    assert_int_equal(read_all(&f, 7, 1, 20, &got), KITH_OK);
    assert_int_equal(got.count, 20);
    assert_int_equal(kith_store_log_first(f.log, 7), 20);
    assert_int_equal(read_all(&f, 7, 19, 20, &late), KITH_NOT_FOUND);
    assert_int_equal(late.count, 0);
    fixture_end(&f);
}

static void append_more(void *ctx) {
    fixture *f = ctx;
    for (uint64_t i = 6; i <= 20; i++)
        append_synced(f, 7, 1, i);
}

static void test_store_log_read__what_is_written_meanwhile_waits_for_the_next_reading(void **state) {
    (void)state;
    fixture f;
    seen got = {.first = append_more, .ctx = &f}, again = {0};
    fixture_begin(&f, 2000);
    for (uint64_t i = 1; i <= 5; i++)
        append_synced(&f, 7, 1, i);
    assert_int_equal(read_all(&f, 7, 1, UINT64_MAX, &got), KITH_OK);
    assert_int_equal(got.count, 5);
    assert_int_equal(read_all(&f, 7, 1, UINT64_MAX, &again), KITH_OK);
    assert_int_equal(again.count, 20);
    fixture_end(&f);
}

static void test_store_log_read__a_flipped_byte_is_corrupt(void **state) {
    (void)state;
    fixture f;
    size_t bytes;
    fixture_begin(&f, 1 << 20);
    append_synced(&f, 7, 1, 1);
    const uint8_t *disk = sim_env_file_get(f.sim, DIR "/log-00000000000000000001.kith", &bytes);
    uint8_t *copy = kith_alloc(bytes);
    for (size_t at = 64; at < bytes; at += 7) {
        seen got = {0};
        memcpy(copy, disk, bytes);
        copy[at] ^= 1;
        sim_env_file_put(f.sim, DIR "/log-00000000000000000001.kith", copy, bytes);
        assert_int_equal(read_all(&f, 7, 1, 1, &got), KITH_CORRUPT);
        copy[at] ^= 1;
        sim_env_file_put(f.sim, DIR "/log-00000000000000000001.kith", copy, bytes);
        disk = sim_env_file_get(f.sim, DIR "/log-00000000000000000001.kith", &bytes);
    }
    kith_free(copy);
    fixture_end(&f);
}

/* A reading that goes on from a place does not look at what lies before it: damage there is not seen. */
static void test_store_log_read__goes_on_from_a_place(void **state) {
    (void)state;
    fixture f;
    size_t bytes;
    kith_err err;
    fixture_begin(&f, 1500);
    for (uint64_t i = 1; i <= 20; i++)
        append_synced(&f, 7, 1, i);
    kith_log_place place = {0};
    seen got = {.end_after = 3};
    assert_int_equal(kith_store_log_read(f.log, 7, 1, 20, &place, see, &got, &err), KITH_CANCELLED);
    assert_true(place.file == 1 && place.offset > 64);
    const uint8_t *disk = sim_env_file_get(f.sim, DIR "/log-00000000000000000001.kith", &bytes);
    uint8_t *copy = kith_alloc(bytes);
    memcpy(copy, disk, bytes);
    copy[place.offset - 1] ^= 1;
    sim_env_file_put(f.sim, DIR "/log-00000000000000000001.kith", copy, bytes);
    kith_free(copy);
    seen rest = {0}, all = {0};
    assert_ok(kith_store_log_read(f.log, 7, 3, 20, &place, see, &rest, &err), &err);
    assert_int_equal(rest.count, 18);
    for (uint32_t i = 0; i < rest.count; i++)
        assert_int_equal(rest.sequences[i], 3 + i);
    assert_true(place.file > 1);
    assert_int_equal(read_all(&f, 7, 3, 20, &all), KITH_CORRUPT);
    fixture_end(&f);
}

/* Random streams, files, restarts and crashes: what is acknowledged is read, in the order written. */
static void test_store_log_read__agrees_with_what_was_appended_after_any_crash(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        fixture f;
        kith_rng rng;
        uint64_t last[2] = {0, 0};
        kith_rng_init(&rng, test_seed(1) + seed);
        fixture_begin(&f, 500 + kith_rng_below(&rng, 3000));
        for (uint32_t i = 0; i < 60; i++) {
            uint64_t stream = kith_rng_below(&rng, 2);
            append(&f, stream, 1, ++last[stream]);
            if (kith_rng_below(&rng, 3) == 0) (void)sim_env_run(f.sim);
        }
        (void)sim_env_run(f.sim);
        sim_env_crash(f.sim, SIM_CRASH_LOSE_ALL);
        log_close(&f);
        sim_env_restart(f.sim);
        log_open(&f);
        for (uint64_t stream = 0; stream < 2; stream++) {
            seen got = {0};
            assert_int_equal(read_all(&f, stream, 1, last[stream], &got), KITH_OK);
            assert_int_equal(got.count, last[stream]);
        }
        fixture_end(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_log_read__gives_the_range_over_files_also_after_a_restart),
        cmocka_unit_test(test_store_log_read__ends_with_the_status_of_each),
        cmocka_unit_test(test_store_log_read__superseded_entries_come_before_what_superseded_them),
        cmocka_unit_test(test_store_log_read__files_trimmed_meanwhile_are_read_to_their_end),
        cmocka_unit_test(test_store_log_read__what_is_written_meanwhile_waits_for_the_next_reading),
        cmocka_unit_test(test_store_log_read__a_flipped_byte_is_corrupt),
        cmocka_unit_test(test_store_log_read__goes_on_from_a_place),
        cmocka_unit_test(test_store_log_read__agrees_with_what_was_appended_after_any_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
