/* The disk of a Raft member: after a crash at any file operation there is what was acknowledged and a prefix of the rest, in
 * order; term and vote never go back; damage and missing files are named. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/meta/raft_storage.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

#define DIR        "data/meta"
#define INDEX_MAX  512u
#define DEEDS_MAX  64u
#define NS_PER_SEC 1000000000ULL

/* What was asked of the storage, in order. */
typedef struct deed {
    enum { DEED_APPEND, DEED_TRUNCATE, DEED_INSTALL } kind;
    uint64_t index; /* first, or of the snapshot */
    uint64_t term;
    uint32_t count;
} deed;

typedef struct disk {
    sim_env *sim;
    kith_env *env;
    kith_executor *executor, *log_executor, *files_executor;
    kith_raft_storage *storage;
    /* The model. */
    deed deeds[DEEDS_MAX];
    uint32_t deed_count, done_count;
    uint64_t term_done, vote_done; /* on disk for certain */
    uint64_t term_last, vote_last; /* or these */
    uint64_t snapshot_done, snapshot_last;
    uint64_t term_at[INDEX_MAX]; /* of entries ever given: of a snapshot there */
} disk;

typedef struct own_write {
    kith_raft_write write;
    disk *disk;
    kith_raft_snapshot snapshot;
    uint32_t deed_count; /* with this one */
} own_write;

typedef struct own_file {
    kith_raft_file file;
    disk *disk;
} own_file;

/* --- content that tells its place --- */

static void entry_fill(uint64_t index, uint64_t term, kith_raft_entry *entry, uint8_t data[64]) {
    entry->index = index;
    entry->term = term;
    entry->type = index % 5 == 0 ? 2 : 1;
    entry->bytes = (size_t)((index * 7 + term) % 60);
    entry->data = data;
    memset(data, (int)(index * 31 + term), 64);
}

static void assert_entry(const kith_raft_entry *entry, uint64_t index, uint64_t term) {
    kith_raft_entry wanted;
    uint8_t data[64];
    entry_fill(index, term, &wanted, data);
    assert_int_equal(entry->index, index);
    assert_int_equal(entry->term, term);
    assert_int_equal(entry->type, wanted.type);
    assert_int_equal(entry->bytes, wanted.bytes);
    if (wanted.bytes) assert_memory_equal(entry->data, data, wanted.bytes);
}

static void snapshot_fill(uint64_t index, uint64_t term, kith_raft_snapshot *snapshot) {
    *snapshot = (kith_raft_snapshot){
        .index = index,
        .term = term,
        .configuration_index = 1,
        .configuration = "members",
        .configuration_bytes = 7,
        .data = "the metadata of a cluster",
        .data_bytes = index % 26,
    };
}

/* --- life --- */

static kith_status disk_try_open(disk *d, bool must_exist, kith_err *err) {
    kith_err here;
    assert_ok(kith_executor_create(d->env, "meta", 1, &d->executor, &here), &here);
    assert_ok(kith_executor_create(d->env, "log", 1, &d->log_executor, &here), &here);
    assert_ok(kith_executor_create(d->env, "files", 1, &d->files_executor, &here), &here);
    kith_raft_storage_options options = {.env = d->env,
        .dir = DIR,
        .executor = d->executor,
        .disk_executor = d->log_executor,
        .snapshot_executor = d->files_executor,
        .must_exist = must_exist};
    d->storage = NULL;
    return kith_raft_storage_open(&options, &d->storage, err);
}

static void idle_note(void *ctx) {
    *(bool *)ctx = true;
}

static void disk_close(disk *d) {
    if (d->storage) {
        bool idle = false;
        kith_raft_storage_stop(d->storage, idle_note, &idle);
        for (uint32_t i = 0; i < 100 && !idle; i++)
            sim_env_run_for(d->sim, NS_PER_SEC / 10);
        assert_true(idle);
        kith_raft_storage_close(d->storage);
    }
    kith_executor_destroy(d->executor);
    kith_executor_destroy(d->log_executor);
    kith_executor_destroy(d->files_executor);
    d->storage = NULL;
}

static disk *disk_create(uint64_t seed) {
    disk *d = kith_alloc_zero(sizeof *d);
    d->sim = sim_env_create(seed);
    d->env = sim_env_kith(d->sim);
    return d;
}

static void disk_destroy(disk *d) {
    sim_env_destroy(d->sim);
    kith_free(d);
}

static void disk_open(disk *d) {
    kith_err err;
    assert_ok(disk_try_open(d, false, &err), &err);
}

/* --- deeds --- */

static void write_done(kith_raft_write *base, kith_status status, const kith_err *err) {
    (void)err;
    own_write *write = (own_write *)(void *)base;
    disk *d = write->disk;
    if (status == KITH_OK) {
        assert_true(d->done_count < write->deed_count); /* they end in order */
        d->done_count = write->deed_count;
        if (write->snapshot.index > d->snapshot_done) d->snapshot_done = write->snapshot.index;
    }
    kith_free(write);
}

static own_write *write_create(disk *d) {
    own_write *write = kith_alloc_zero(sizeof *write);
    write->disk = d;
    write->deed_count = d->deed_count;
    write->write.done = write_done;
    return write;
}

static void append(disk *d, uint64_t index, uint64_t term, uint32_t count) {
    kith_raft_entry entries[8];
    uint8_t data[8][64];
    for (uint32_t i = 0; i < count; i++) {
        entry_fill(index + i, term, &entries[i], data[i]);
        d->term_at[index + i] = term;
    }
    d->deeds[d->deed_count++] = (deed){.kind = DEED_APPEND, .index = index, .term = term, .count = count};
    kith_raft_storage_append(d->storage, &write_create(d)->write, entries, count);
}

static void install(disk *d, uint64_t index, uint64_t term) {
    d->deeds[d->deed_count++] = (deed){.kind = DEED_INSTALL, .index = index, .term = term};
    own_write *write = write_create(d);
    snapshot_fill(index, term, &write->snapshot);
    d->snapshot_last = index;
    d->term_at[index] = term;
    kith_raft_storage_install(d->storage, &write->write, &write->snapshot);
}

static void file_done(kith_raft_file *base, kith_status status, const kith_err *err) {
    (void)err;
    own_file *file = (own_file *)(void *)base;
    if (status == KITH_OK && file->file.snapshot.index > file->disk->snapshot_done)
        file->disk->snapshot_done = file->file.snapshot.index;
    kith_free(file);
}

static void snapshot_write(disk *d, uint64_t index, uint64_t term, uint32_t trailing) {
    own_file *file = kith_alloc_zero(sizeof *file);
    file->disk = d;
    file->file.done = file_done;
    file->file.trailing = trailing;
    snapshot_fill(index, term, &file->file.snapshot);
    d->snapshot_last = index;
    kith_raft_storage_snapshot_write(d->storage, &file->file);
}

static bool term_set(disk *d, uint64_t term, uint64_t vote) {
    kith_err err;
    d->term_last = term;
    d->vote_last = vote;
    if (kith_raft_storage_term_set(d->storage, term, vote, &err) != KITH_OK) return false;
    d->term_done = term;
    d->vote_done = vote;
    return true;
}

/* Bootstraps, then a life: terms, appends, entries replaced, snapshots, an install. Ends early on a dead disk. */
static void live(disk *d, uint64_t seed) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    d->term_last = 1;
    d->snapshot_last = 1;
    d->term_at[1] = 1;
    if (kith_raft_storage_bootstrap(d->storage, &first, &err) != KITH_OK) return;
    d->term_done = 1;
    d->snapshot_done = 1;
    uint64_t next = 2, term = 1, snapshot = 1;
    kith_raft_storage_found_free(d->storage);
    for (uint32_t i = 0; i < 24; i++) {
        uint32_t count = 1 + (uint32_t)kith_rng_below(&rng, 4);
        switch (kith_rng_below(&rng, 8)) {
        case 0:
            if (!term_set(d, ++term, 0) || !term_set(d, term, 77)) return;
            break;
        case 1: /* entries that were not committed go */
            if (next > snapshot + 2) {
                if (!term_set(d, ++term, 0)) return;
                next -= 1 + kith_rng_below(&rng, next - snapshot - 2);
                d->deeds[d->deed_count++] = (deed){.kind = DEED_TRUNCATE, .index = next};
                kith_raft_storage_truncate(d->storage, next);
                append(d, next, term, count);
                next += count;
            }
            break;
        case 2:
            sim_env_run(d->sim); /* a snapshot is of what is stored */
            if (next - 1 > snapshot && d->done_count == d->deed_count) {
                snapshot = next - 1;
                snapshot_write(d, snapshot, d->term_at[snapshot], 1 + (uint32_t)kith_rng_below(&rng, 6));
            }
            break;
        case 3:
            if (i % 3 == 0) {
                if (!term_set(d, ++term, 0)) return;
                snapshot +=
                    1 + kith_rng_below(&rng, next + 2 - snapshot); /* before the log's end, or behind it */
                install(d, snapshot, term);
                next = snapshot + 1;
            }
            break;
        default:
            append(d, next, term, count);
            next += count;
        }
        if (kith_rng_below(&rng, 2)) sim_env_run(d->sim);
    }
    sim_env_run(d->sim);
}

/* --- what must be there --- */

typedef struct model_log {
    uint64_t first, last;
    uint64_t terms[INDEX_MAX];
} model_log;

static void model_after(const disk *d, uint32_t deed_count, model_log *log) {
    *log = (model_log){.first = 2, .last = 1};
    for (uint32_t i = 0; i < deed_count; i++) {
        const deed *done = &d->deeds[i];
        switch (done->kind) {
        case DEED_APPEND:
            for (uint32_t j = 0; j < done->count; j++)
                log->terms[done->index + j] = done->term;
            log->last = done->index + done->count - 1;
            break;
        case DEED_TRUNCATE:
            log->last = done->index - 1;
            break;
        case DEED_INSTALL:
            log->first = done->index + 1;
            log->last = done->index;
        }
    }
}

static bool found_is(const kith_raft_found *found, const model_log *log) {
    uint64_t last = found->start_index + found->entry_count - 1;
    if (last != log->last) return false;
    for (size_t i = 0; i < found->entry_count; i++) {
        uint64_t index = found->entries[i].index;
        if (index >= log->first && log->terms[index] != found->entries[i].term) return false;
    }
    return true;
}

static void check_found(const disk *d) {
    const kith_raft_found *found = kith_raft_storage_found(d->storage);
    uint64_t term = kith_raft_storage_term(d->storage), vote = kith_raft_storage_vote(d->storage);
    assert_true(
        (term == d->term_done && vote == d->vote_done) || (term == d->term_last && vote == d->vote_last));
    if (!found->has_snapshot) {
        assert_int_equal(d->snapshot_done, 0);
        assert_int_equal(found->entry_count, 0);
        return;
    }
    assert_true(found->snapshot.index >= d->snapshot_done && found->snapshot.index <= d->snapshot_last);
    assert_int_equal(found->snapshot.data_bytes, found->snapshot.index % 26);
    assert_true(found->start_index <= found->snapshot.index + 1);
    for (size_t i = 0; i < found->entry_count; i++)
        assert_entry(&found->entries[i], found->start_index + i, found->entries[i].term);
    model_log log;
    for (uint32_t count = d->done_count; count <= d->deed_count; count++) {
        model_after(d, count, &log);
        /* A snapshot covers what is not in the log. */
        if (log.last < found->snapshot.index) log.last = found->snapshot.index;
        if (found_is(found, &log)) return;
    }
    fail_msg(
        "the log that was found, %llu..%llu, is not a prefix of what was given that has all that was done",
        (unsigned long long)found->start_index,
        (unsigned long long)(found->start_index + found->entry_count - 1));
}

/* --- crashes --- */

static uint64_t ops_of(uint64_t seed) {
    disk *d = disk_create(seed);
    disk_open(d);
    live(d, seed);
    uint64_t ops = sim_env_op_count(d->sim);
    disk_close(d);
    assert_int_equal(d->done_count, d->deed_count);
    disk_open(d);
    check_found(d);
    disk_close(d);
    disk_destroy(d);
    return ops;
}

/* What comes after a crash is there together with what the crash left. */
static void live_on(disk *d) {
    const kith_raft_found *found = kith_raft_storage_found(d->storage);
    if (!found->has_snapshot) return;
    uint64_t first = found->start_index, next = found->start_index + found->entry_count;
    uint64_t terms[INDEX_MAX] = {0};
    for (size_t i = 0; i < found->entry_count; i++)
        terms[first + i] = found->entries[i].term;
    kith_raft_storage_found_free(d->storage);
    uint64_t term = kith_raft_storage_term(d->storage) + 1;
    assert_true(term_set(d, term, 0));
    append(d, next, term, 3);
    sim_env_run(d->sim);
    disk_close(d);
    disk_open(d);
    found = kith_raft_storage_found(d->storage);
    assert_int_equal(found->start_index + found->entry_count, next + 3);
    for (size_t i = 0; i < found->entry_count; i++) {
        const kith_raft_entry *entry = &found->entries[i];
        assert_entry(entry, found->start_index + i, entry->term);
        assert_int_equal(entry->term, entry->index < next ? terms[entry->index] : term);
    }
}

static void crash_once(uint64_t seed, uint64_t op, sim_crash_mode mode) {
    disk *d = disk_create(seed);
    kith_err err;
    sim_env_crash_at(d->sim, op, mode);
    if (disk_try_open(d, false, &err) == KITH_OK) live(d, seed);
    if (!sim_env_crashed(d->sim)) sim_env_crash(d->sim, mode);
    disk_close(d);
    sim_env_restart(d->sim);
    /* Dies once more while it looks at what there is. */
    sim_env_crash_at(d->sim, sim_env_op_count(d->sim) + seed % 5, mode);
    kith_status status = disk_try_open(d, false, &err);
    if (status == KITH_OK) check_found(d);
    if (status != KITH_OK && status != KITH_IO)
        fail_msg("seed %llu op %llu mode %d: %s", (unsigned long long)seed, (unsigned long long)op, (int)mode,
            err.text);
    if (!sim_env_crashed(d->sim)) sim_env_crash(d->sim, mode);
    disk_close(d);
    sim_env_restart(d->sim);
    status = disk_try_open(d, false, &err);
    if (status != KITH_OK)
        fail_msg("seed %llu op %llu mode %d: %s", (unsigned long long)seed, (unsigned long long)op, (int)mode,
            err.text);
    check_found(d);
    live_on(d);
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__crash_at_every_operation(void **unused) {
    (void)unused;
    uint64_t seed = test_seed(1), runs = 0;
    for (uint64_t i = 0; i < test_scaled(8); i++) {
        uint64_t ops = ops_of(seed + i);
        for (uint64_t op = 0; op < ops; op++, runs += 4) {
            crash_once(seed + i, op, SIM_CRASH_KEEP_ALL);
            crash_once(seed + i, op, SIM_CRASH_LOSE_ALL);
            crash_once(seed + i, op, SIM_CRASH_TORN);
            crash_once(seed + i, op, SIM_CRASH_TORN_UNORDERED);
        }
    }
    print_message("%llu crashes\n", (unsigned long long)runs);
}

/* --- after a life that went well --- */

static disk *lived(uint64_t seed) {
    disk *d = disk_create(seed);
    disk_open(d);
    live(d, seed);
    disk_close(d);
    return d;
}

static void test_raft_storage__flipped_bytes_are_named(void **unused) {
    (void)unused;
    static const char *const files[] = {
        DIR "/term.kith", DIR "/raft-snapshot.kith", DIR "/raft-log/log-00000000000000000001.kith"};
    static const char *const names[] = {"term.kith", "raft-snapshot.kith", "raft-log"};
    uint64_t seed = test_seed(1);
    disk *d = lived(seed);
    kith_err err;
    for (uint32_t file = 0; file < 3; file++) {
        size_t bytes;
        assert_non_null(sim_env_file_get(d->sim, files[file], &bytes));
        for (size_t at = 0; at < bytes; at++) {
            assert_true(sim_env_flip(d->sim, files[file], at, 0x10));
            kith_status status = disk_try_open(d, false, &err);
            if (status == KITH_OK) {
                assert_int_not_equal(
                    file, 1); /* a log's padding says nothing; of term and vote there are two copies */
                check_found(d);
            } else {
                assert_true(status == KITH_CORRUPT || status == KITH_UNIMPLEMENTED);
                assert_non_null(strstr(err.text, names[file]));
            }
            disk_close(d);
            assert_true(sim_env_flip(d->sim, files[file], at, 0x10));
        }
    }
    disk_open(d);
    check_found(d);
    disk_close(d);
    disk_destroy(d);
}

/* Both copies of a slot: the older slot must not be taken for the newer. */
static void test_raft_storage__lost_vote_is_corrupt(void **unused) {
    (void)unused;
    for (uint32_t slot = 0; slot < 2; slot++) {
        disk *d = lived(test_seed(1));
        kith_err err;
        assert_true(sim_env_flip(d->sim, DIR "/term.kith", slot * 512 + 30, 1));
        assert_true(sim_env_flip(d->sim, DIR "/term.kith", slot * 512 + 256 + 30, 1));
        assert_int_equal(disk_try_open(d, false, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, "term.kith"));
        disk_close(d);
        disk_destroy(d);
    }
}

/* Cut short after any number of bytes, by a process that goes on and restarts. */
static void test_raft_storage__term_write_that_is_cut_short_is_no_damage(void **unused) {
    (void)unused;
    kith_err err;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        disk *d = disk_create(test_seed(1) + seed);
        disk_open(d);
        for (uint64_t term = 1; term <= seed % 7; term++)
            assert_true(term_set(d, term, 3));
        sim_env_fail_next(d->sim, SIM_FAIL_WRITE, KITH_IO);
        assert_false(term_set(d, 50, 4));
        disk_close(d);
        assert_ok(disk_try_open(d, false, &err), &err);
        check_found(d);
        assert_true(term_set(d, 60, 5));
        disk_close(d);
        sim_env_crash(d->sim, SIM_CRASH_TORN);
        sim_env_restart(d->sim);
        disk_open(d);
        check_found(d);
        disk_close(d);
        disk_destroy(d);
    }
}

static void assert_missing(const char *path, const char *name) {
    disk *d = lived(test_seed(1));
    kith_err err;
    assert_ok(kith_path_remove(d->env, path, &err), &err);
    assert_int_equal(disk_try_open(d, false, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, name));
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__missing_files_are_named_and_nothing_begins_anew(void **unused) {
    (void)unused;
    assert_missing(DIR "/term.kith", "term.kith");
    assert_missing(DIR "/raft-snapshot.kith", "raft-snapshot.kith");
    assert_missing(DIR "/raft-log/log-00000000000000000001.kith", "raft-log");
    disk *d = disk_create(1);
    kith_err err;
    assert_int_equal(disk_try_open(d, true, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "term.kith is missing"));
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__older_term_file_is_corrupt(void **unused) {
    (void)unused;
    disk *d = disk_create(test_seed(1));
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    disk_open(d);
    assert_ok(kith_raft_storage_bootstrap(d->storage, &first, &err), &err);
    size_t bytes;
    uint8_t old[1024];
    memcpy(old, sim_env_file_get(d->sim, DIR "/term.kith", &bytes), sizeof old);
    assert_int_equal(bytes, sizeof old);
    assert_true(term_set(d, 2, 0) && term_set(d, 3, 5));
    append(d, 2, 3, 4);
    sim_env_run(d->sim);
    disk_close(d);
    sim_env_file_put(d->sim, DIR "/term.kith", old, sizeof old);
    assert_int_equal(disk_try_open(d, false, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "term.kith is older"));
    disk_close(d);
    disk_destroy(d);
}

/* The log's files do not grow for ever: what a snapshot covers goes. */
static void test_raft_storage__snapshots_let_the_logs_files_go(void **unused) {
    (void)unused;
    disk *d = disk_create(test_seed(1));
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    disk_open(d);
    assert_ok(kith_raft_storage_bootstrap(d->storage, &first, &err), &err);
    size_t bytes = 1u << 20;
    uint8_t *data = kith_alloc_zero(bytes);
    uint64_t index = 2;
    for (uint32_t round = 0; round < 12; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            kith_raft_entry entry = {.index = index++, .term = 1, .type = 1, .data = data, .bytes = bytes};
            d->deed_count++;
            kith_raft_storage_append(d->storage, &write_create(d)->write, &entry, 1);
            sim_env_run(d->sim);
        }
        snapshot_write(d, index - 1, 1, 10);
        sim_env_run(d->sim);
    }
    kith_free(data);
    assert_null(sim_env_file_get(d->sim, DIR "/raft-log/log-00000000000000000001.kith", &bytes));
    disk_close(d);
    disk_open(d);
    const kith_raft_found *found = kith_raft_storage_found(d->storage);
    assert_int_equal(found->snapshot.index, index - 1);
    assert_int_equal(found->start_index + found->entry_count, index);
    assert_true(found->entry_count >= 10 && found->entry_count < 20);
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__truncated_entries_do_not_come_back(void **unused) {
    (void)unused;
    disk *d = disk_create(test_seed(1));
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    disk_open(d);
    assert_ok(kith_raft_storage_bootstrap(d->storage, &first, &err), &err);
    append(d, 2, 1, 4);
    kith_raft_storage_truncate(d->storage, 4);
    sim_env_run(d->sim);
    disk_close(d);
    disk_open(d);
    assert_int_equal(kith_raft_storage_found(d->storage)->entry_count, 2);
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__full_disk_keeps_the_order(void **unused) {
    (void)unused;
    disk *d = disk_create(test_seed(1));
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    disk_open(d);
    assert_ok(kith_raft_storage_bootstrap(d->storage, &first, &err), &err);
    d->term_done = d->term_last = d->snapshot_done = d->snapshot_last = 1;
    append(d, 2, 1, 3);
    sim_env_run(d->sim);
    sim_env_space_set(d->sim, 1);
    append(d, 5, 1, 8);
    sim_env_run(d->sim);
    append(d, 13, 1, 1);
    sim_env_run_for(d->sim, NS_PER_SEC);
    assert_int_equal(d->done_count, 1);
    assert_int_equal(kith_raft_storage_health(d->storage, &err), KITH_NO_SPACE);
    sim_env_space_set(d->sim, UINT64_MAX);
    sim_env_run_for(d->sim, NS_PER_SEC);
    assert_int_equal(d->done_count, 3);
    assert_int_equal(kith_raft_storage_health(d->storage, &err), KITH_OK);
    disk_close(d);
    disk_open(d);
    check_found(d);
    assert_int_equal(kith_raft_storage_found(d->storage)->entry_count, 12);
    disk_close(d);
    /* A stop does not wait for room. */
    disk_open(d);
    sim_env_space_set(d->sim, 1);
    append(d, 14, 1, 8);
    sim_env_run(d->sim);
    disk_close(d);
    disk_destroy(d);
}

static void test_raft_storage__failed_write_stops_all_later_ones(void **unused) {
    (void)unused;
    disk *d = disk_create(test_seed(1));
    kith_err err;
    kith_raft_snapshot first;
    snapshot_fill(1, 1, &first);
    disk_open(d);
    assert_ok(kith_raft_storage_bootstrap(d->storage, &first, &err), &err);
    sim_env_fail_next(d->sim, SIM_FAIL_SYNC, KITH_IO);
    append(d, 2, 1, 1);
    kith_raft_storage_truncate(d->storage, 2);
    append(d, 2, 1, 1);
    sim_env_run(d->sim);
    append(d, 3, 1, 1);
    sim_env_run(d->sim);
    assert_int_equal(d->done_count, 0);
    assert_int_equal(kith_raft_storage_health(d->storage, &err), KITH_IO);
    assert_true(kith_raft_storage_idle(d->storage));
    disk_close(d);
    disk_destroy(d);
}

int main(void) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_storage__crash_at_every_operation),
        cmocka_unit_test(test_raft_storage__flipped_bytes_are_named),
        cmocka_unit_test(test_raft_storage__lost_vote_is_corrupt),
        cmocka_unit_test(test_raft_storage__term_write_that_is_cut_short_is_no_damage),
        cmocka_unit_test(test_raft_storage__missing_files_are_named_and_nothing_begins_anew),
        cmocka_unit_test(test_raft_storage__older_term_file_is_corrupt),
        cmocka_unit_test(test_raft_storage__snapshots_let_the_logs_files_go),
        cmocka_unit_test(test_raft_storage__truncated_entries_do_not_come_back),
        cmocka_unit_test(test_raft_storage__full_disk_keeps_the_order),
        cmocka_unit_test(test_raft_storage__failed_write_stops_all_later_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
