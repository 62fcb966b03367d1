/* A shard behind a gate: what the gate decides, what writers hear, what comes back after a restart. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/shard/shard_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS 1000000ULL

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
static const float vector[3] = {1, 2, 3};

/* A gate that says what the test has it say, and keeps what it is told. */
typedef struct test_gate {
    kith_shard_gate gate;
    fixture run;
    uint64_t epoch;
    kith_status refusal; /* OK: it admits */
    uint64_t appended, durable, applied;
    uint32_t failures;
} test_gate;

static kith_status admit(
    void *ctx, size_t bytes, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err) {
    test_gate *own = ctx;
    kith_shard_log_state state;
    (void)bytes;
    if (own->refusal != KITH_OK) return kith_err_set(err, own->refusal, "as the test wants it");
    kith_shard_log_state_read(own->run.held, &state);
    *epoch_out = own->epoch;
    *sequence_out = state.end_sequence + 1;
    return KITH_OK;
}

static void appended(void *ctx, uint64_t sequence) {
    ((test_gate *)ctx)->appended = sequence;
}

static void durable(void *ctx, uint64_t sequence) {
    ((test_gate *)ctx)->durable = sequence;
}

static void applied(void *ctx, uint64_t sequence) {
    ((test_gate *)ctx)->applied = sequence;
}

static void failed(void *ctx) {
    ((test_gate *)ctx)->failures++;
}

static void begin_in(
    test_gate *own, shard_node_world world, void (*durable_fn)(void *ctx, uint64_t sequence)) {
    memset(own, 0, sizeof *own);
    own->epoch = 2;
    own->gate = (kith_shard_gate){.ctx = own,
        .admit = admit,
        .appended = appended,
        .durable = durable_fn,
        .applied = applied,
        .failed = failed};
    fixture_begin_gated(&own->run, fixture_options(world), &schema, &own->gate);
}

static void begin(test_gate *own) {
    begin_in(own, SHARD_NODE_SIM, durable);
}

static void commit_all(void *ctx) {
    test_gate *own = ctx;
    kith_shard_log_state state;
    kith_shard_log_state_read(own->run.held, &state);
    kith_shard_commit(own->run.held, state.end_sequence);
}

static void run(test_gate *own) {
    (void)sim_env_run(own->run.node.sim);
}

static void commit(test_gate *own, uint64_t sequence) {
    kith_shard_commit(own->run.held, sequence);
    run(own);
}

static kith_op upsert_of(kith_op_point *point, uint64_t id, uint64_t request_number) {
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = point};
    *point =
        (kith_op_point){.id = kith_id_of_number(id), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    if (request_number) memcpy(op.request_id.client, "0123456789abcdef", 16);
    op.request_id.number = request_number;
    return op;
}

/* What runs meanwhile is the test's affair. */
static void write_start(
    test_gate *own, uint64_t id, uint64_t request_number, uint64_t deadline_ns, shard_node_write *write) {
    kith_op_point point;
    kith_op op = upsert_of(&point, id, request_number);
    shard_node_write_begin(&own->run.node, own->run.held, &schema, &op, deadline_ns, write);
}

static void write_begin(
    test_gate *own, uint64_t id, uint64_t request_number, uint64_t deadline_ns, shard_node_write *write) {
    write_start(own, id, request_number, deadline_ns, write);
    run(own);
}

static void expect(shard_node_write *write, kith_status status) {
    assert_true(write->done);
    if (write->status != status)
        fail_msg(
            "%s, not %s: %s", kith_status_name(write->status), kith_status_name(status), write->err.text);
    shard_node_write_fini(write);
}

/* As another primary's append. */
static void append(test_gate *own, uint64_t id, uint64_t request_number) {
    kith_op_point point;
    kith_op op = upsert_of(&point, id, request_number);
    kith_shard_log_state state;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    kith_shard_log_state_read(own->run.held, &state);
    kith_log_entry entry = {.stream = 7,
        .epoch = own->epoch,
        .sequence = state.end_sequence + 1,
        .data = buf.data,
        .bytes = buf.bytes};
    kith_shard_append(own->run.held, &entry, 1);
    kith_buf_fini(&buf);
    run(own);
}

static uint64_t count(test_gate *own) {
    return kith_shard_count(own->run.held);
}

static void restart(test_gate *own, bool power_lost) {
    if (power_lost) sim_env_crash(own->run.node.sim, SIM_CRASH_LOSE_ALL);
    fixture_close(&own->run);
    if (power_lost) sim_env_restart(own->run.node.sim);
    fixture_open(&own->run);
    run(own);
}

/* --- writers --- */

static void test_replica__a_write_is_answered_when_it_is_committed_and_applied(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write;
    begin(&own);
    write_begin(&own, 1, 5, UINT64_MAX, &write);
    assert_int_equal(own.appended, 1);
    assert_int_equal(own.durable, 1);
    assert_int_equal(own.applied, 0);
    assert_false(write.done);
    assert_int_equal(count(&own), 0);
    commit(&own, 1);
    assert_int_equal(own.applied, 1);
    assert_int_equal(count(&own), 1);
    assert_int_equal(write.result.epoch, 2);
    assert_int_equal(write.result.sequence, 1);
    expect(&write, KITH_OK);
    fixture_end(&own.run);
}

static void test_replica__what_the_gate_refuses_is_not_done_and_may_begin_anew(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write;
    begin(&own);
    own.refusal = KITH_STALE_MAP;
    write_begin(&own, 1, 5, UINT64_MAX, &write);
    expect(&write, KITH_STALE_MAP);
    assert_int_equal(own.appended, 0);
    own.refusal = KITH_OK;
    write_begin(&own, 1, 5, UINT64_MAX, &write);
    commit(&own, 1);
    assert_false(write.result.repeated);
    expect(&write, KITH_OK);
    fixture_end(&own.run);
}

static void test_replica__past_its_deadline_the_outcome_is_unknown_and_the_entry_lives_on(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write, again;
    begin(&own);
    write_begin(&own, 1, 5, kith_env_now_ns(own.run.node.env) + 10 * MS, &write);
    write_begin(&own, 1, 5, kith_env_now_ns(own.run.node.env) + 20 * MS, &again);
    sim_env_run_for(own.run.node.sim, 11 * MS);
    expect(&write, KITH_UNKNOWN_OUTCOME);
    assert_false(again.done);
    sim_env_run_for(own.run.node.sim, 11 * MS);
    expect(&again, KITH_UNKNOWN_OUTCOME);
    commit(&own, 1);
    assert_int_equal(count(&own), 1);
    write_begin(&own, 1, 5, UINT64_MAX, &again);
    assert_true(again.result.repeated);
    assert_int_equal(again.result.sequence, 1);
    expect(&again, KITH_OK);
    fixture_end(&own.run);
}

/* While commits stand still, a writer repeats its write again and again; the queue has room for two. */
static void test_replica__repeats_past_their_deadline_take_no_room(void **state) {
    (void)state;
    test_gate own;
    shard_node_write first, again, other;
    begin(&own);
    own.run.node.node.write_queue_bytes_max = 400; /* an op has 192 bytes */
    write_begin(&own, 1, 5, UINT64_MAX, &first);
    for (uint32_t i = 0; i < 2 * SHARD_WAITERS_MAX; i++) {
        write_begin(&own, 1, 5, kith_env_now_ns(own.run.node.env) + 10 * MS, &again);
        assert_false(again.done);
        sim_env_run_for(own.run.node.sim, 11 * MS);
        expect(&again, KITH_UNKNOWN_OUTCOME);
    }
    write_begin(&own, 2, 6, UINT64_MAX, &other);
    commit(&own, 2);
    expect(&first, KITH_OK);
    expect(&other, KITH_OK);
    assert_int_equal(count(&own), 2);
    fixture_end(&own.run);
}

static void test_replica__a_repeat_past_its_deadline_leaves_the_others_waiting(void **state) {
    (void)state;
    static const uint64_t deadlines_ms[] = {30, 10, 10, 30, 10};
    for (uint32_t left = 0; left < 2; left++) {
        test_gate own;
        shard_node_write first, repeats[5];
        begin(&own);
        uint64_t now_ns = kith_env_now_ns(own.run.node.env);
        write_begin(&own, 1, 5, UINT64_MAX, &first);
        for (uint32_t i = 0; i < 5; i++)
            write_begin(&own, 1, 5, now_ns + deadlines_ms[i] * MS, &repeats[i]);
        sim_env_run_for(own.run.node.sim, 11 * MS);
        for (uint32_t i = 0; i < 5; i++)
            assert_int_equal(repeats[i].done, deadlines_ms[i] == 10);
        if (left) kith_shard_truncate(own.run.held, 1);
        commit(&own, left ? 0 : 1);
        expect(&first, left ? KITH_UNKNOWN_OUTCOME : KITH_OK);
        for (uint32_t i = 0; i < 5; i++)
            expect(&repeats[i], left || deadlines_ms[i] == 10 ? KITH_UNKNOWN_OUTCOME : KITH_OK);
        fixture_end(&own.run);
    }
}

static void test_replica__more_repeats_than_may_wait_are_busy(void **state) {
    (void)state;
    test_gate own;
    shard_node_write first, repeats[SHARD_WAITERS_MAX], more;
    begin(&own);
    write_begin(&own, 1, 5, UINT64_MAX, &first);
    for (uint32_t i = 0; i < SHARD_WAITERS_MAX; i++)
        write_begin(&own, 1, 5, UINT64_MAX, &repeats[i]);
    write_begin(&own, 1, 5, UINT64_MAX, &more);
    expect(&more, KITH_BUSY);
    commit(&own, 1);
    expect(&first, KITH_OK);
    for (uint32_t i = 0; i < SHARD_WAITERS_MAX; i++) {
        assert_true(repeats[i].result.repeated);
        expect(&repeats[i], KITH_OK);
    }
    write_begin(&own, 1, 5, UINT64_MAX, &more);
    assert_true(more.result.repeated);
    expect(&more, KITH_OK);
    assert_int_equal(count(&own), 1);
    fixture_end(&own.run);
}

static void test_replica__a_write_that_was_cut_off_is_unknown_and_its_repeat_begins_anew(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write;
    begin(&own);
    write_begin(&own, 1, 5, UINT64_MAX, &write);
    kith_shard_truncate(own.run.held, 1);
    run(&own);
    expect(&write, KITH_UNKNOWN_OUTCOME);
    own.epoch = 3;
    write_begin(&own, 2, 5, UINT64_MAX, &write);
    commit(&own, 1);
    assert_false(write.result.repeated);
    assert_int_equal(write.result.epoch, 3);
    expect(&write, KITH_OK);
    restart(&own, true);
    commit(&own, 1);
    assert_int_equal(count(&own), 1);
    fixture_end(&own.run);
}

static void test_replica__a_repeat_waits_for_the_entry_of_the_primary_before(void **state) {
    (void)state;
    for (int restarted = 0; restarted < 2; restarted++) {
        test_gate own;
        shard_node_write write;
        begin(&own);
        append(&own, 1, 5);
        if (restarted) restart(&own, true);
        write_begin(&own, 1, 5, UINT64_MAX, &write);
        assert_false(write.done);
        assert_int_equal(own.appended, 0);
        commit(&own, 1);
        assert_true(write.result.repeated);
        expect(&write, KITH_OK);
        assert_int_equal(count(&own), 1);
        fixture_end(&own.run);
    }
}

static void test_replica__closing_leaves_what_is_not_committed_to_the_log(void **state) {
    (void)state;
    test_gate own;
    shard_node_write writes[2];
    kith_shard_log_state log;
    begin(&own);
    write_begin(&own, 1, 0, UINT64_MAX, &writes[0]);
    write_begin(&own, 2, 0, UINT64_MAX, &writes[1]);
    commit(&own, 1);
    restart(&own, false);
    expect(&writes[0], KITH_OK);
    expect(&writes[1], KITH_UNKNOWN_OUTCOME);
    kith_shard_log_state_read(own.run.held, &log);
    assert_int_equal(log.end_sequence, 2);
    commit(&own, 2);
    assert_int_equal(count(&own), 2);
    fixture_end(&own.run);
}

/* --- writes that need not wait for the disk --- */

typedef struct early_run {
    test_gate own; /* first: the gate's */
    shard_node_write writes[3];
    uint32_t done_count; /* of them, as the first entry got durable */
} early_run;

static void commit_at_once(void *ctx, uint64_t sequence) {
    test_gate *own = ctx;
    kith_shard_commit(own->run.held, sequence);
    kith_shard_answer_committed(own->run.held);
}

static void count_done(void *ctx, uint64_t sequence) {
    early_run *early = ctx;
    if (sequence == 0 || early->own.durable) return;
    early->own.durable = sequence;
    for (uint32_t i = 0; i < 3; i++)
        early->done_count += early->writes[i].done;
}

static void begin_one(early_run *early, kith_op_kind kind, uint64_t request_number, shard_node_write *write) {
    kith_op_point point;
    kith_op op = upsert_of(&point, 1, request_number);
    op.kind = kind;
    if (kind == KITH_OP_DELETE) point.field_mask = 0;
    shard_node_write_begin(&early->own.run.node, early->own.run.held, &schema, &op, UINT64_MAX, write);
}

/* A delete says how many points were there, which is known when it is applied. */
static void test_replica__upserts_may_be_answered_as_they_are_committed(void **state) {
    (void)state;
    early_run early = {0};
    begin_in(&early.own, SHARD_NODE_SIM, count_done);
    early.own.gate.appended = commit_at_once;
    begin_one(&early, KITH_OP_UPSERT, 5, &early.writes[0]);
    begin_one(&early, KITH_OP_DELETE, 6, &early.writes[1]);
    begin_one(
        &early, KITH_OP_UPSERT, 5, &early.writes[2]); /* a repeat of the first, which is not applied yet */
    run(&early.own);
    assert_int_equal(early.own.durable > 0, 1);
    assert_int_equal(early.done_count, 1);
    assert_int_equal(early.writes[0].result.points_changed, 1);
    assert_int_equal(early.writes[0].result.sequence, 1);
    assert_int_equal(early.writes[1].result.points_changed, 1);
    assert_true(early.writes[2].result.repeated);
    assert_int_equal(early.writes[2].result.sequence, 1);
    assert_int_equal(early.writes[2].result.points_changed, 1);
    for (uint32_t i = 0; i < 3; i++)
        expect(&early.writes[i], KITH_OK);
    assert_int_equal(count(&early.own), 0);
    fixture_end(&early.own.run);
}

/* The log refuses: what was acknowledged waits in memory, and the node says so if it is closed before there is room. */
static void test_replica__who_closes_without_having_everything_in_the_log_says_so(void **state) {
    (void)state;
    early_run early = {0};
    begin_in(&early.own, SHARD_NODE_SIM, count_done);
    early.own.gate.appended = commit_at_once;
    assert_true(kith_shard_log_takes(early.own.run.held));
    sim_env_space_set(early.own.run.node.sim, 1);
    begin_one(&early, KITH_OP_UPSERT, 5, &early.writes[0]);
    sim_env_run_for(early.own.run.node.sim, 10 * MS);
    assert_false(kith_shard_log_takes(early.own.run.held));
    expect(&early.writes[0], KITH_OK);
    fixture_close(&early.own.run);
    assert_true(early.own.run.node.closed_short);
    sim_env_space_set(early.own.run.node.sim, UINT64_MAX);
    fixture_open(&early.own.run);
    fixture_close(&early.own.run);
    assert_false(early.own.run.node.closed_short);
    fixture_open(&early.own.run);
    fixture_end(&early.own.run);
}

/* --- the log refuses, or stops --- */

static void test_replica__what_the_log_refuses_is_given_to_it_again(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write, late;
    begin(&own);
    sim_env_space_set(own.run.node.sim, 1);
    write_begin(&own, 1, 0, UINT64_MAX, &write);
    assert_int_equal(own.appended, 1);
    assert_int_equal(own.durable, 0);
    kith_shard_commit(own.run.held, 1); /* the others have it */
    write_begin(&own, 2, 0, UINT64_MAX, &late);
    expect(&late, KITH_NO_SPACE);
    sim_env_run_for(own.run.node.sim, 500 * MS);
    assert_false(write.done);
    sim_env_space_set(own.run.node.sim, UINT64_MAX);
    sim_env_run_for(own.run.node.sim, 200 * MS);
    expect(&write, KITH_OK);
    write_begin(&own, 2, 0, UINT64_MAX, &late);
    commit(&own, 2);
    expect(&late, KITH_OK);
    restart(&own, true);
    commit(&own, 2);
    assert_int_equal(count(&own), 2);
    fixture_end(&own.run);
}

static void test_replica__a_log_that_stops_fails_it_once(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write, again, late;
    kith_err err;
    begin(&own);
    sim_env_fail_next(own.run.node.sim, SIM_FAIL_SYNC, KITH_IO);
    write_start(&own, 1, 5, UINT64_MAX, &write);
    write_begin(&own, 1, 5, UINT64_MAX, &again);
    expect(&write, KITH_UNKNOWN_OUTCOME);
    expect(&again, KITH_UNKNOWN_OUTCOME);
    append(&own, 2, 0);
    write_begin(&own, 3, 0, UINT64_MAX, &late);
    expect(&late, KITH_IO);
    assert_int_equal(own.failures, 1);
    assert_int_equal(kith_shard_health(own.run.held, &err), KITH_IO);
    fixture_end(&own.run);
}

/* --- restarts --- */

/* The second entry's frame has the note of the first. */
static void test_replica__only_what_a_note_reaches_is_applied_by_a_restart(void **state) {
    (void)state;
    test_gate own;
    begin(&own);
    append(&own, 1, 0);
    commit(&own, 1);
    append(&own, 2, 0);
    append(&own, 3, 0);
    commit(&own, 3);
    restart(&own, true);
    assert_int_equal(count(&own), 1);
    commit(&own, 3);
    assert_int_equal(count(&own), 3);
    fixture_end(&own.run);
}

static void test_replica__closes_after_a_recovery_that_failed(void **state) {
    (void)state;
    test_gate own;
    kith_err err;
    size_t bytes;
    const char *path = "/node/log/log-00000000000000000001.kith";
    begin(&own);
    for (uint64_t i = 1; i <= 4; i++) {
        append(&own, i, 0);
        commit(&own, i);
    }
    fixture_close(&own.run);
    assert_non_null(sim_env_file_get(own.run.node.sim, path, &bytes));
    assert_true(
        sim_env_flip(own.run.node.sim, path, bytes - 1, 1)); /* of the last frame; the others are read */
    assert_int_equal(shard_node_open(&own.run.node, &own.run.shard, 1, &err), KITH_CORRUPT);
    shard_node_fini(&own.run.node);
    oracle_destroy(own.run.oracle);
}

static void test_replica__an_epoch_start_is_applied_and_changes_nothing(void **state) {
    (void)state;
    test_gate own;
    kith_shard_log_state log;
    kith_err err;
    begin(&own);
    append(&own, 1, 0);
    kith_shard_epoch_start(own.run.held, 4);
    own.epoch = 4;
    append(&own, 2, 0);
    commit(&own, 3);
    assert_int_equal(own.applied, 3);
    assert_int_equal(count(&own), 2);
    assert_ok(shard_node_seal(&own.run.node, own.run.held, &err), &err);
    restart(&own, true);
    kith_shard_log_state_read(own.run.held, &log);
    assert_int_equal(log.applied, 3);
    assert_int_equal(log.end_epoch, 4);
    assert_int_equal(log.first, 1);
    assert_int_equal(log.epoch_count, 2);
    assert_int_equal(log.epochs[0], 2);
    assert_int_equal(log.sequences[0], 1);
    assert_int_equal(log.epochs[1], 4);
    assert_int_equal(log.sequences[1], 2);
    fixture_end(&own.run);
}

/* Acknowledged when they were durable; and what the log refused left a gap. */
static void test_replica__entries_of_a_time_without_a_gate_are_committed(void **state) {
    (void)state;
    test_gate own;
    shard_node_write write;
    kith_shard_log_state log;
    begin(&own);
    fixture_close(&own.run);
    own.run.shard.gate = NULL;
    fixture_open(&own.run);
    write_begin(&own, 1, 0, UINT64_MAX, &write);
    expect(&write, KITH_OK);
    sim_env_space_set(own.run.node.sim, 1);
    write_begin(&own, 2, 0, UINT64_MAX, &write);
    expect(&write, KITH_NO_SPACE);
    sim_env_space_set(own.run.node.sim, UINT64_MAX);
    write_begin(&own, 3, 0, UINT64_MAX, &write);
    expect(&write, KITH_OK);
    own.run.shard.gate = &own.gate;
    restart(&own, true);
    assert_int_equal(count(&own), 2);
    kith_shard_log_state_read(own.run.held, &log);
    assert_int_equal(log.first, 3); /* with nothing missing from it on */
    assert_int_equal(log.end_sequence, 3);
    append(&own, 4, 0);
    commit(&own, 4);
    assert_int_equal(count(&own), 3);
    fixture_end(&own.run);
}

/* --- real threads --- */

/* As the only replica. */
static void durable_is_committed(void *ctx, uint64_t sequence) {
    test_gate *own = ctx;
    own->durable = sequence;
    kith_shard_commit(own->run.held, sequence);
}

static void test_replica__alone_it_is_as_a_shard_without_a_gate(void **state) {
    (void)state;
    for (shard_node_world world = SHARD_NODE_SIM; world <= SHARD_NODE_REAL; world++) {
        test_gate own;
        begin_in(&own, world, durable_is_committed);
        for (uint32_t turn = 0; turn < 3; turn++) {
            for (uint32_t i = 0; i < 150; i++)
                fixture_write(&own.run);
            fixture_compare(&own.run, 5);
            fixture_close(&own.run);
            own.epoch++;
            fixture_open(&own.run);
            shard_node_on_owner(&own.run.node, commit_all, &own);
            fixture_write(&own.run);
        }
        fixture_compare(&own.run, 5);
        fixture_end(&own.run);
    }
}

/* --- memory --- */

static void test_replica__applied_entries_stay_in_memory_within_a_bound(void **state) {
    (void)state;
    test_gate own;
    kith_log_entry entry;
    kith_shard_log_state log;
    begin(&own);
    for (uint64_t i = 1; i <= 30000; i++) {
        append(&own, i % 50, 0);
        if (i % 500 == 0) commit(&own, i);
    }
    assert_true(kith_shard_entry(own.run.held, 30000, &entry));
    assert_true(kith_shard_entry(own.run.held, 25000, &entry));
    assert_int_equal(entry.sequence, 25000);
    assert_false(kith_shard_entry(own.run.held, 1000, &entry));
    assert_false(kith_shard_entry(own.run.held, 30001, &entry));
    kith_shard_log_state_read(own.run.held, &log);
    assert_true(log.first <= 25000);
    fixture_end(&own.run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica__a_write_is_answered_when_it_is_committed_and_applied),
        cmocka_unit_test(test_replica__what_the_gate_refuses_is_not_done_and_may_begin_anew),
        cmocka_unit_test(test_replica__past_its_deadline_the_outcome_is_unknown_and_the_entry_lives_on),
        cmocka_unit_test(test_replica__repeats_past_their_deadline_take_no_room),
        cmocka_unit_test(test_replica__a_repeat_past_its_deadline_leaves_the_others_waiting),
        cmocka_unit_test(test_replica__more_repeats_than_may_wait_are_busy),
        cmocka_unit_test(test_replica__a_write_that_was_cut_off_is_unknown_and_its_repeat_begins_anew),
        cmocka_unit_test(test_replica__a_repeat_waits_for_the_entry_of_the_primary_before),
        cmocka_unit_test(test_replica__closing_leaves_what_is_not_committed_to_the_log),
        cmocka_unit_test(test_replica__upserts_may_be_answered_as_they_are_committed),
        cmocka_unit_test(test_replica__who_closes_without_having_everything_in_the_log_says_so),
        cmocka_unit_test(test_replica__what_the_log_refuses_is_given_to_it_again),
        cmocka_unit_test(test_replica__a_log_that_stops_fails_it_once),
        cmocka_unit_test(test_replica__only_what_a_note_reaches_is_applied_by_a_restart),
        cmocka_unit_test(test_replica__closes_after_a_recovery_that_failed),
        cmocka_unit_test(test_replica__an_epoch_start_is_applied_and_changes_nothing),
        cmocka_unit_test(test_replica__entries_of_a_time_without_a_gate_are_committed),
        cmocka_unit_test(test_replica__alone_it_is_as_a_shard_without_a_gate),
        cmocka_unit_test(test_replica__applied_entries_stay_in_memory_within_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
