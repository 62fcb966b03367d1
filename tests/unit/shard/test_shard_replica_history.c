/* Random histories of a shard behind a gate against a model of its log: writes, a primary's entries, cuts, commits, refusals of the log, seals,
 * crashes. What the gate was told is durable and was not cut off comes back; the tail that comes back is a log that was; only what is
 * committed is applied; the content is that of the committed entries, one after the other. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define EVER_MAX   4000
#define WRITES_MAX 2000
#define HISTORIES  200
#define STEPS      120

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

/* An entry that was in some log of the shard. */
typedef struct ever {
    uint64_t sequence, epoch;
    void *data;
    size_t bytes;
    int32_t previous; /* the entry before it; -1: none */
} ever;

typedef struct history {
    fixture run;
    kith_shard_gate gate;
    kith_rng *rng;
    ever evers[EVER_MAX];
    int32_t ever_count;
    int32_t log[EVER_MAX]; /* by sequence */
    uint64_t end, committed, durable, applied;
    uint64_t epoch; /* of what is appended next */
    shard_node_write *writes[WRITES_MAX];
    uint32_t write_count;
    bool admits;
} history;

static int32_t log_at(const history *h, uint64_t sequence) {
    return sequence == 0 ? -1 : h->log[sequence];
}

static void ever_push(history *h, uint64_t epoch, const void *data, size_t bytes) {
    assert_true(h->ever_count < EVER_MAX);
    ever *made = &h->evers[h->ever_count];
    *made = (ever){.sequence = h->end + 1, .epoch = epoch, .bytes = bytes, .previous = log_at(h, h->end)};
    if (bytes > 0) {
        made->data = kith_alloc(bytes);
        memcpy(made->data, data, bytes);
    }
    h->log[++h->end] = h->ever_count++;
}

/* --- the gate --- */

static kith_status admit(
    void *ctx, size_t bytes, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err) {
    history *h = ctx;
    (void)bytes;
    if (!h->admits) return kith_err_set(err, KITH_STALE_MAP, "not the primary");
    *epoch_out = h->epoch;
    *sequence_out = h->end + 1;
    return KITH_OK;
}

static void appended(void *ctx, uint64_t sequence) {
    history *h = ctx;
    kith_log_entry entry;
    assert_int_equal(sequence, h->end + 1);
    assert_true(kith_shard_entry(h->run.held, sequence, &entry));
    ever_push(h, entry.epoch, entry.data, entry.bytes);
}

static void durable(void *ctx, uint64_t sequence) {
    history *h = ctx;
    assert_true(sequence > h->durable);
    assert_true(sequence <= h->end);
    h->durable = sequence;
}

static void applied(void *ctx, uint64_t sequence) {
    history *h = ctx;
    assert_true(sequence > h->applied);
    assert_true(sequence <= h->committed && sequence <= h->durable);
    h->applied = sequence;
}

static void failed(void *ctx) {
    history *h = ctx;
    assert_true(sim_env_crashed(h->run.node.sim));
}

/* --- steps --- */

static void op_bytes_make(history *h, kith_buf *buf) {
    shard_workload_op made;
    shard_workload_make(&h->run.workload, &made);
    kith_op_encode(&made.op, &schema, buf);
    kith_arena_fini(&made.arena);
}

static void write_begin(history *h) {
    shard_workload_op made;
    assert_true(h->write_count < WRITES_MAX);
    shard_node_write *write = kith_alloc_zero(sizeof *write);
    h->writes[h->write_count++] = write;
    shard_workload_make(&h->run.workload, &made);
    uint64_t now_ns = kith_env_now_ns(h->run.node.env);
    uint64_t deadline_ns = kith_rng_below(h->rng, 4) == 0 ? now_ns + 50000000 : UINT64_MAX;
    shard_node_write_begin(&h->run.node, h->run.held, &schema, &made.op, deadline_ns, write);
    kith_arena_fini(&made.arena);
}

static void primary_append(history *h) {
    kith_log_entry entries[4];
    uint32_t count = 1 + (uint32_t)kith_rng_below(h->rng, 4);
    for (uint32_t i = 0; i < count; i++) {
        kith_buf buf;
        kith_buf_init(&buf);
        if (kith_rng_below(h->rng, 8) == 0)
            h->epoch++; /* an entry of zero bytes begins it */
        else
            op_bytes_make(h, &buf);
        ever_push(h, h->epoch, buf.data, buf.bytes);
        kith_buf_fini(&buf);
        const ever *made = &h->evers[h->log[h->end]];
        entries[i] = (kith_log_entry){.stream = h->run.shard.id,
            .epoch = made->epoch,
            .sequence = made->sequence,
            .data = made->data,
            .bytes = made->bytes};
    }
    kith_shard_append(h->run.held, entries, count);
}

static void cut(history *h) {
    if (h->end == h->committed) return;
    uint64_t sequence = h->committed + 1 + kith_rng_below(h->rng, h->end - h->committed);
    h->end = sequence - 1;
    if (h->durable > h->end) h->durable = h->end;
    h->epoch++; /* what takes their place is of another primary */
    kith_shard_truncate(h->run.held, sequence);
}

static void epoch_start(history *h) {
    ever_push(h, ++h->epoch, NULL, 0);
    kith_shard_epoch_start(h->run.held, h->epoch);
}

static void commit(history *h) {
    h->committed += kith_rng_below(h->rng, h->end - h->committed + 1);
    kith_shard_commit(h->run.held, h->committed);
}

static void space_change(history *h) {
    bool full = kith_rng_below(h->rng, 2) == 0;
    sim_env_space_set(h->run.node.sim, full ? kith_rng_below(h->rng, 3000) : UINT64_MAX);
}

static void step(history *h) {
    uint64_t kind = kith_rng_below(h->rng, 20);
    if (kind < 6)
        write_begin(h);
    else if (kind < 9)
        primary_append(h);
    else if (kind == 9)
        cut(h);
    else if (kind == 10)
        epoch_start(h);
    else if (kind < 14)
        commit(h);
    else if (kind == 14)
        space_change(h);
    else if (kind == 15)
        sim_env_run_for(h->run.node.sim, 200000000);
    else if (kind == 16)
        h->admits = kith_rng_below(h->rng, 4) != 0;
    else
        (void)sim_env_run(h->run.node.sim);
}

/* --- checks --- */

static void oracle_fill(const history *h, oracle *model, uint64_t sequence_last) {
    for (uint64_t at = 1; at <= sequence_last; at++) {
        const ever *entry = &h->evers[h->log[at]];
        kith_arena arena;
        kith_op op;
        kith_err err;
        if (entry->bytes == 0) continue;
        kith_arena_init(&arena);
        assert_ok(kith_op_decode(entry->data, entry->bytes, &schema, &arena, &op, &err), &err);
        oracle_apply(model, &op, at);
        kith_arena_fini(&arena);
    }
}

static void content_check(history *h) {
    oracle_destroy(h->run.oracle);
    h->run.oracle = oracle_create(&schema);
    oracle_fill(h, h->run.oracle, h->applied);
    fixture_compare(&h->run, 2);
}

static kith_status entry_read(void *ctx, const kith_log_entry *entry, kith_err *err) {
    uint64_t *epochs = ctx;
    (void)err;
    epochs[entry->sequence] = entry->epoch;
    return KITH_OK;
}

/* The shard says of its log what it is, and its entries can be had. */
static void log_check(history *h) {
    kith_shard_log_state state;
    kith_err err;
    kith_shard_log_state_read(h->run.held, &state);
    assert_int_equal(state.end_sequence, h->end);
    assert_int_equal(state.applied, h->applied);
    if (h->end > 0) assert_int_equal(state.end_epoch, h->evers[h->log[h->end]].epoch);
    assert_true(state.first > 0 && state.first <= h->end + 1);
    uint64_t *read = kith_alloc_zero(EVER_MAX * sizeof *read);
    uint64_t from = kith_store_log_first(h->run.node.log, h->run.shard.id);
    if (from < state.first) from = state.first;
    if (from <= h->durable)
        assert_ok(kith_store_log_read(
                      h->run.node.log, h->run.shard.id, from, h->durable, NULL, entry_read, read, &err),
            &err);
    uint32_t run = 0;
    for (uint64_t at = state.first; at <= h->end; at++) {
        const ever *expected = &h->evers[h->log[at]];
        kith_log_entry entry;
        while (run + 1 < state.epoch_count && state.sequences[run + 1] <= at)
            run++;
        assert_int_equal(state.epochs[run], expected->epoch);
        bool there = kith_shard_entry(h->run.held, at, &entry);
        if (there) assert_int_equal(entry.epoch, expected->epoch);
        if (there) assert_int_equal(entry.bytes, expected->bytes);
        if (!there || (at >= from && at <= h->durable)) assert_int_equal(read[at], expected->epoch);
    }
    kith_free(read);
}

static int32_t ever_find(const history *h, const kith_log_entry *entry) {
    for (int32_t i = 0; i < h->ever_count; i++) {
        const ever *made = &h->evers[i];
        if (made->sequence != entry->sequence || made->epoch != entry->epoch) continue;
        assert_int_equal(made->bytes, entry->bytes);
        if (made->bytes > 0) assert_memory_equal(made->data, entry->data, made->bytes);
        return i;
    }
    fail_msg("entry %llu of epoch %llu never was", (unsigned long long)entry->sequence,
        (unsigned long long)entry->epoch);
    return -1;
}

/* The model takes over the tail that came back, if it is one that was. */
static void recovered_check(history *h) {
    kith_shard_log_state state;
    kith_err err;
    assert_ok(kith_shard_health(h->run.held, &err), &err);
    kith_shard_log_state_read(h->run.held, &state);
    assert_true(state.applied <= h->committed && state.applied <= h->end);
    assert_true(state.end_sequence >= h->durable);
    for (uint64_t at = state.applied + 1; at <= state.end_sequence; at++) {
        kith_log_entry entry;
        assert_true(kith_shard_entry(h->run.held, at, &entry));
        int32_t found = ever_find(h, &entry);
        if (at <= h->durable) assert_int_equal(found, h->log[at]);
        assert_int_equal(h->evers[found].previous, log_at(h, at - 1));
        h->log[at] = found;
    }
    h->end = h->durable = state.end_sequence;
    h->applied = state.applied;
    if (h->committed > h->end) h->committed = h->end; /* others have what was committed; not this one alone */
    h->epoch++;
}

static void crash(history *h) {
    if (!sim_env_crashed(h->run.node.sim))
        sim_env_crash(h->run.node.sim, (sim_crash_mode)(SIM_CRASH_KEEP_ALL + kith_rng_below(h->rng, 4)));
    fixture_close(&h->run);
    for (uint32_t i = 0; i < h->write_count; i++)
        assert_true(h->writes[i]->done);
    sim_env_restart(h->run.node.sim);
    sim_env_space_set(h->run.node.sim, UINT64_MAX);
    fixture_open(&h->run);
    recovered_check(h);
    content_check(h);
    log_check(h);
    kith_shard_commit(h->run.held, h->committed);
}

static void settle(history *h) {
    sim_env_space_set(h->run.node.sim, UINT64_MAX);
    (void)sim_env_run(h->run.node.sim); /* writes that have begun */
    for (uint32_t i = 0; i < 100 && h->durable < h->end; i++)
        sim_env_run_for(h->run.node.sim, 100000000);
    sim_env_run_for(h->run.node.sim, 100000000);
    assert_int_equal(h->durable, h->end);
    assert_int_equal(h->applied, h->committed);
    content_check(h);
    log_check(h);
}

/* Every write that was acknowledged is where it said. */
static void writes_check(const history *h) {
    for (uint32_t i = 0; i < h->write_count; i++) {
        const shard_node_write *write = h->writes[i];
        if (!write->done || write->status != KITH_OK) continue;
        assert_true(write->result.sequence <= h->committed);
        const ever *entry = &h->evers[h->log[write->result.sequence]];
        assert_int_equal(entry->epoch, write->result.epoch);
        assert_int_equal(entry->bytes, write->op.bytes);
        assert_memory_equal(entry->data, write->op.data, entry->bytes);
    }
}

static void history_end(history *h) {
    fixture_end(&h->run);
    for (uint32_t i = 0; i < h->write_count; i++) {
        assert_true(h->writes[i]->done);
        shard_node_write_fini(h->writes[i]);
        kith_free(h->writes[i]);
    }
    for (int32_t i = 0; i < h->ever_count; i++)
        kith_free(h->evers[i].data);
    kith_free(h);
}

static void history_run(uint64_t seed) {
    history *h = kith_alloc_zero(sizeof *h);
    kith_rng rng;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    kith_rng_init(&rng, seed);
    h->rng = &rng;
    h->epoch = 2;
    h->admits = true;
    h->gate = (kith_shard_gate){.ctx = h,
        .admit = admit,
        .appended = appended,
        .durable = durable,
        .applied = applied,
        .failed = failed};
    options.seed = seed;
    options.seal_rows = 40;
    options.log_file_bytes = 2000 + kith_rng_below(&rng, 20000);
    /* In half of them the log refuses entries among others that it takes. */
    if (kith_rng_below(&rng, 2) == 0) options.log_pending_bytes_max = 500 + kith_rng_below(&rng, 2000);
    fixture_begin_gated(&h->run, options, &schema, &h->gate);
    for (uint32_t i = 0; i < STEPS; i++) {
        if (kith_rng_below(&rng, 30) == 0)
            sim_env_crash_at(h->run.node.sim, sim_env_op_count(h->run.node.sim) + kith_rng_below(&rng, 12),
                (sim_crash_mode)(SIM_CRASH_KEEP_ALL + kith_rng_below(&rng, 4)));
        step(h);
        if (sim_env_crashed(h->run.node.sim) || kith_rng_below(&rng, 50) == 0) crash(h);
        if (kith_rng_below(&rng, 25) == 0 && !sim_env_crashed(h->run.node.sim)) {
            sim_env_crash_at(h->run.node.sim, UINT64_MAX, SIM_CRASH_KEEP_ALL);
            settle(h);
        }
    }
    sim_env_crash_at(h->run.node.sim, UINT64_MAX, SIM_CRASH_KEEP_ALL);
    settle(h);
    writes_check(h);
    history_end(h);
}

static void test_shard_replica__any_history_keeps_what_is_committed(void **state) {
    (void)state;
    for (uint64_t i = 0; i < HISTORIES; i++)
        history_run(test_seed(1) + i);
}

int main(void) {
    kith_log_level_set(KITH_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard_replica__any_history_keeps_what_is_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
