/* Commit notes, and the structures that hold the end of a replica's log. */
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "host/shard/shard_note.h"
#include "host/shard/shard_tail.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

/* --- notes --- */

typedef struct told {
    shard_notes *notes;
    uint64_t entries;      /* of the notes' stream */
    uint64_t committed[4]; /* by shard */
    uint64_t after[4];     /* of the last note alone */
    uint8_t last[64];
    size_t last_bytes;
} told;

typedef struct world {
    sim_env *sim;
    kith_executor *executor;
    kith_store_log *log;
    told told;
} world;

static kith_status tell(void *ctx, uint64_t shard_id, uint64_t committed, kith_err *err) {
    told *into = ctx;
    (void)err;
    assert_true(shard_id < 4);
    into->committed[shard_id] = into->after[shard_id] = committed;
    return KITH_OK;
}

static kith_status replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    told *into = ctx;
    if (entry->stream != KITH_LOG_STREAM_NOTES) return KITH_OK;
    into->entries++;
    memset(into->after, 0, sizeof into->after);
    assert_true(entry->bytes <= sizeof into->last);
    memcpy(into->last, entry->data, entry->bytes);
    into->last_bytes = entry->bytes;
    return shard_notes_replay(into->notes, entry, tell, into, err);
}

static void world_open(world *own) {
    kith_err err;
    own->told = (told){.notes = shard_notes_create()};
    kith_store_log_options options = {.env = sim_env_kith(own->sim),
        .dir = "/log",
        .file_bytes = 1 << 20,
        .pending_bytes_max = 1 << 20,
        .replay = replay,
        .replay_ctx = &own->told};
    assert_ok(kith_executor_create(options.env, "log", 1, &own->executor, &err), &err);
    options.executor = own->executor;
    assert_ok(kith_store_log_open(&options, &own->log, &err), &err);
}

/* Notes on their way outlive who made them. */
static void world_close(world *own) {
    shard_notes_release(own->told.notes);
    kith_store_log_close(own->log);
    kith_executor_destroy(own->executor);
}

static void test_note__one_at_a_time_says_all_that_changed_meanwhile(void **state) {
    (void)state;
    world own = {.sim = sim_env_create(test_seed(1))};
    world_open(&own);
    shard_notes *notes = own.told.notes;
    shard_notes_write(notes, own.log); /* nothing to say */
    shard_notes_mark(notes, 1, 5);
    shard_notes_write(notes, own.log);
    shard_notes_mark(notes, 1, 6);
    shard_notes_mark(notes, 2, 9);
    shard_notes_write(notes, own.log); /* one is on its way */
    shard_notes_mark(notes, 1, 7);
    (void)sim_env_run(own.sim);
    shard_notes_write(notes, own.log);
    world_close(&own);
    world_open(&own);
    assert_int_equal(own.told.entries, 2);
    assert_int_equal(own.told.after[1], 7);
    assert_int_equal(own.told.after[2], 9);
    shard_notes_mark(own.told.notes, 3, 1);
    shard_notes_write(own.told.notes, own.log);
    world_close(&own);
    world_open(&own);
    assert_int_equal(own.told.entries, 3);
    assert_int_equal(own.told.after[3], 1);
    assert_int_equal(own.told.committed[1], 7);
    world_close(&own);
    sim_env_destroy(own.sim);
}

static const uint8_t note_v1[] = {
    1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x39, 0x30, 0, 0, 0, 0, 0, 0};

static kith_status replay_bytes(const uint8_t *data, size_t bytes, told *into) {
    kith_err err;
    kith_log_entry entry = {.stream = KITH_LOG_STREAM_NOTES, .sequence = 1, .data = data, .bytes = bytes};
    into->notes = shard_notes_create();
    kith_status status = shard_notes_replay(into->notes, &entry, tell, into, &err);
    shard_notes_release(into->notes);
    return status;
}

static void test_note__version_1_reads_and_is_written_for_ever(void **state) {
    (void)state;
    told into = {0};
    assert_int_equal(replay_bytes(note_v1, sizeof note_v1, &into), KITH_OK);
    assert_int_equal(into.committed[2], 12345);
    world own = {.sim = sim_env_create(test_seed(1))};
    world_open(&own);
    shard_notes_mark(own.told.notes, 2, 12345);
    shard_notes_write(own.told.notes, own.log);
    world_close(&own);
    world_open(&own);
    assert_int_equal(own.told.last_bytes, sizeof note_v1);
    assert_memory_equal(own.told.last, note_v1, sizeof note_v1);
    world_close(&own);
    sim_env_destroy(own.sim);
}

static void test_note__any_other_length_or_version_is_corrupt(void **state) {
    (void)state;
    uint8_t longer[sizeof note_v1 + 1] = {0};
    memcpy(longer, note_v1, sizeof note_v1);
    for (size_t bytes = 0; bytes <= sizeof longer; bytes++) {
        told into = {0};
        uint8_t *exact = kith_alloc(bytes + 1);
        memcpy(exact, longer, bytes);
        assert_int_equal(replay_bytes(exact, bytes, &into), bytes == sizeof note_v1 ? KITH_OK : KITH_CORRUPT);
        kith_free(exact);
    }
    told into = {0};
    longer[0] = 2;
    assert_int_equal(replay_bytes(longer, sizeof note_v1, &into), KITH_CORRUPT);
    longer[0] = 1;
    longer[7] = 0xff; /* a count that is far beyond */
    assert_int_equal(replay_bytes(longer, sizeof note_v1, &into), KITH_CORRUPT);
}

/* --- the tail --- */

static void test_tail__is_a_ring_of_consecutive_sequences(void **state) {
    (void)state;
    shard_tail tail = {0};
    uint64_t first = 100, end = 100;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t i = 0; i < 5000; i++) {
        uint64_t kind = kith_rng_below(&rng, 5);
        if (kind < 3 || first == end) {
            shard_tail_item item = {.epoch = end, .bytes = end};
            shard_tail_push_take(&tail, end++, &item);
        } else if (kind == 3) {
            assert_int_equal(shard_tail_pop_front(&tail).epoch, first++);
        } else {
            assert_int_equal(shard_tail_pop_back(&tail).epoch, --end);
        }
        assert_null(shard_tail_find(&tail, first - 1));
        assert_null(shard_tail_find(&tail, end));
        if (first == end) continue;
        uint64_t at = first + kith_rng_below(&rng, end - first);
        assert_int_equal(shard_tail_find(&tail, at)->bytes, at);
        assert_int_equal(shard_tail_end(&tail), end);
    }
    shard_tail_fini(&tail);
}

static void test_epochs__replace_cut_and_begin_anew(void **state) {
    (void)state;
    shard_epochs epochs = {0};
    for (uint64_t at = 5; at <= 9; at++)
        shard_epochs_note(&epochs, at, at < 8 ? 2 : 3);
    assert_int_equal(epochs.count, 2);
    assert_int_equal(shard_epochs_find(&epochs, 7), 2);
    assert_int_equal(shard_epochs_find(&epochs, 8), 3);
    assert_int_equal(shard_epochs_find(&epochs, 4), 0);
    assert_int_equal(shard_epochs_find(&epochs, 10), 0);
    shard_epochs_note(&epochs, 7, 4); /* supersedes 7, 8 and 9 */
    assert_int_equal(epochs.end, 8);
    assert_int_equal(shard_epochs_find(&epochs, 7), 4);
    assert_int_equal(shard_epochs_find(&epochs, 8), 0);
    shard_epochs_cut(&epochs, 7);
    assert_int_equal(epochs.count, 1);
    shard_epochs_note(&epochs, 20, 4); /* behind a gap */
    assert_int_equal(epochs.first, 20);
    assert_int_equal(epochs.count, 1);
    shard_epochs_note(&epochs, 21, 3); /* not of the log that 20 is of */
    assert_int_equal(epochs.first, 21);
    shard_epochs_cut(&epochs, 0);
    assert_int_equal(epochs.count, 0);
    shard_epochs_note(&epochs, 30, 7);
    assert_int_equal(epochs.first, 30);
    assert_int_equal(shard_epochs_find(&epochs, 30), 7);
    shard_epochs_fini(&epochs);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_note__one_at_a_time_says_all_that_changed_meanwhile),
        cmocka_unit_test(test_note__version_1_reads_and_is_written_for_ever),
        cmocka_unit_test(test_note__any_other_length_or_version_is_corrupt),
        cmocka_unit_test(test_tail__is_a_ring_of_consecutive_sequences),
        cmocka_unit_test(test_epochs__replace_cut_and_begin_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
