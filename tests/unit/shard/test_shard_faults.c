/* What a shard answers when something is wrong, and what it does about it. */
#include <stdio.h>
#include <string.h>

#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS 1000000ULL

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
static const float vector[3] = {1, 2, 3};

static kith_op upsert_of(kith_op_point *point, uint64_t id, uint64_t request_number) {
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = point};
    *point =
        (kith_op_point){.id = kith_id_of_number(id), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    if (request_number) memcpy(op.request_id.client, "0123456789abcdef", 16);
    op.request_id.number = request_number;
    return op;
}

static void begin(
    fixture *run, uint64_t id, uint64_t request_number, uint64_t deadline_ns, shard_node_write *write) {
    kith_op_point point;
    kith_op op = upsert_of(&point, id, request_number);
    shard_node_write_begin(&run->node, run->held, &schema, &op, deadline_ns, write);
}

static void expect(fixture *run, shard_node_write *write, kith_status status) {
    assert_true(shard_node_wait(&run->node, &write->done));
    if (write->status != status)
        fail_msg(
            "%s, not %s: %s", kith_status_name(write->status), kith_status_name(status), write->err.text);
    shard_node_write_fini(write);
}

static void upsert(fixture *run, uint64_t id, kith_status status) {
    shard_node_write write;
    begin(run, id, 0, UINT64_MAX, &write);
    expect(run, &write, status);
}

/* --- repeats --- */

static void test_write__repeat_gets_the_first_answer_also_after_restart(void **state) {
    (void)state;
    fixture run;
    shard_node_write first, again;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    begin(&run, 1, 5, UINT64_MAX, &first);
    expect(&run, &first, KITH_OK);
    for (int i = 0; i < 2; i++) {
        begin(&run, 1, 5, UINT64_MAX, &again);
        expect(&run, &again, KITH_OK);
        assert_true(again.result.repeated);
        assert_int_equal(again.result.sequence, first.result.sequence);
        fixture_close(&run);
        fixture_open(&run);
    }
    upsert(&run, 2, KITH_OK);
    assert_int_equal(kith_shard_count(run.held), 2);
    fixture_end(&run);
}

static void test_write__repeat_in_flight_waits_for_the_first(void **state) {
    (void)state;
    fixture run;
    shard_node_write writes[3];
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    for (int i = 0; i < 3; i++)
        begin(&run, 1, 5, UINT64_MAX, &writes[i]);
    for (int i = 0; i < 3; i++)
        expect(&run, &writes[i], KITH_OK);
    assert_false(writes[0].result.repeated);
    assert_true(writes[1].result.repeated);
    assert_true(writes[2].result.repeated);
    assert_int_equal(writes[0].result.sequence, writes[2].result.sequence);
    begin(&run, 1, 0, UINT64_MAX, &writes[0]);
    begin(&run, 1, 0, UINT64_MAX, &writes[1]);
    expect(&run, &writes[0], KITH_OK);
    expect(&run, &writes[1], KITH_OK);
    assert_false(writes[1].result.repeated);
    assert_int_equal(writes[1].result.sequence, 3);
    fixture_end(&run);
}

/* --- admission --- */

static void test_write__past_deadline_is_refused_and_undone(void **state) {
    (void)state;
    fixture run;
    shard_node_write write;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    begin(&run, 1, 0, 1, &write);
    expect(&run, &write, KITH_DEADLINE);
    assert_int_equal(kith_shard_count(run.held), 0);
    fixture_end(&run);
}

static void test_write__more_than_the_queue_is_busy(void **state) {
    (void)state;
    fixture run;
    shard_node_write writes[4];
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.write_queue_bytes_max = 400; /* an op has 192 bytes */
    fixture_begin(&run, options, &schema);
    for (int i = 0; i < 4; i++)
        begin(&run, (uint64_t)i, 0, UINT64_MAX, &writes[i]);
    expect(&run, &writes[0], KITH_OK);
    expect(&run, &writes[1], KITH_OK);
    expect(&run, &writes[2], KITH_BUSY);
    expect(&run, &writes[3], KITH_BUSY);
    upsert(&run, 9, KITH_OK);
    fixture_end(&run);
}

static void test_write__full_log_disk_is_no_space_and_nothing_done(void **state) {
    (void)state;
    fixture run;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    sim_env_space_set(run.node.sim, 1);
    upsert(&run, 2, KITH_NO_SPACE);
    assert_int_equal(kith_shard_count(run.held), 1);
    sim_env_space_set(run.node.sim, UINT64_MAX);
    upsert(&run, 3, KITH_OK);
    fixture_close(&run);
    fixture_open(&run);
    assert_int_equal(kith_shard_count(run.held), 2);
    fixture_end(&run);
}

static kith_status delete_one(fixture *run, uint64_t id) {
    kith_op_point point = {.id = kith_id_of_number(id)};
    kith_op op = {.kind = KITH_OP_DELETE, .point_count = 1, .points = &point};
    kith_write_result result;
    kith_err err;
    return shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err);
}

static void test_write__below_the_disk_reserve_is_no_space(void **state) {
    (void)state;
    fixture run;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.disk_reserve_bytes = 1 << 20;
    fixture_begin(&run, options, &schema);
    upsert(&run, 1, KITH_OK);
    sim_env_space_set(run.node.sim, 3 << 18);
    sim_env_run_for(run.node.sim, 200 * MS);
    upsert(&run, 2, KITH_NO_SPACE);
    assert_int_equal(delete_one(&run, 1), KITH_OK);
    assert_int_equal(kith_shard_count(run.held), 0);
    sim_env_space_set(run.node.sim, 1 << 19);
    sim_env_run_for(run.node.sim, 200 * MS);
    assert_int_equal(delete_one(&run, 1), KITH_NO_SPACE);
    sim_env_space_set(run.node.sim, UINT64_MAX);
    sim_env_run_for(run.node.sim, 200 * MS);
    upsert(&run, 2, KITH_OK);
    fixture_end(&run);
}

static void test_write__failed_sync_is_unknown_then_stops_the_log(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    sim_env_fail_next(run.node.sim, SIM_FAIL_SYNC, KITH_IO);
    upsert(&run, 2, KITH_UNKNOWN_OUTCOME);
    upsert(&run, 3, KITH_IO);
    assert_int_equal(kith_shard_count(run.held), 1);
    assert_int_equal(kith_shard_health(run.held, &err), KITH_IO);
    fixture_end(&run);
}

/* --- stalls --- */

typedef struct full_store {
    bool full;
    kith_status status;
} full_store;

static kith_status full_store_flush(void *ctx, kith_err *err) {
    full_store *store = ctx;
    return store->full ? kith_err_set(err, store->status, "the store's disk is full") : KITH_OK;
}

static void stall_begin(fixture *run, full_store *store) {
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.flush_chance = 1;
    options.before_flush = full_store_flush;
    options.before_flush_ctx = store;
    *store = (full_store){.status = KITH_NO_SPACE};
    fixture_begin(run, options, &schema);
    upsert(run, 1, KITH_OK);
    store->full = true;
}

static void test_stall__committed_write_is_answered_when_space_returns(void **state) {
    (void)state;
    fixture run;
    full_store store;
    shard_node_write write;
    kith_shard_stats stats;
    stall_begin(&run, &store);
    begin(&run, 2, 0, UINT64_MAX, &write);
    sim_env_run_for(run.node.sim, 1000 * MS);
    assert_false(atomic_load(&write.done));
    kith_shard_stats_read(run.held, &stats);
    assert_true(stats.stalled);
    assert_int_equal(stats.points, 1);
    upsert(&run, 3, KITH_NO_SPACE);
    shard_node_hits hits;
    assert_int_equal(shard_node_search(&run.node, run.held, 0, vector, 1, 5, &hits), KITH_OK);
    assert_int_equal(hits.counts[0], 1);
    shard_node_hits_fini(&hits);
    store.full = false;
    expect(&run, &write, KITH_OK);
    kith_shard_stats_read(run.held, &stats);
    assert_false(stats.stalled);
    assert_int_equal(stats.points, 2);
    upsert(&run, 3, KITH_OK);
    fixture_end(&run);
}

static void test_stall__past_deadline_is_unknown_and_applied_in_the_end(void **state) {
    (void)state;
    fixture run;
    full_store store;
    shard_node_write writes[2];
    kith_err err;
    stall_begin(&run, &store);
    uint64_t deadline_ns = kith_env_now_ns(run.node.env) + 500 * MS;
    begin(&run, 2, 7, deadline_ns, &writes[0]);
    begin(&run, 2, 7, deadline_ns, &writes[1]);
    expect(&run, &writes[0], KITH_UNKNOWN_OUTCOME);
    expect(&run, &writes[1], KITH_UNKNOWN_OUTCOME);
    store.full = false;
    begin(&run, 2, 7, UINT64_MAX, &writes[0]);
    expect(&run, &writes[0], KITH_OK);
    assert_true(writes[0].result.repeated);
    assert_int_equal(kith_shard_count(run.held), 2);
    assert_ok(shard_node_validate(&run.node, run.held, &err), &err);
    fixture_end(&run);
}

/* A store that fails for another reason than space stops the writes of the shard until a restart; reads go on. */
static void test_stop__failed_store_ends_writes_and_searches_go_on(void **state) {
    (void)state;
    fixture run;
    full_store store;
    kith_err err;
    shard_node_hits hits;
    stall_begin(&run, &store);
    store.status = KITH_IO;
    upsert(&run, 2, KITH_UNKNOWN_OUTCOME);
    upsert(&run, 3, KITH_IO);
    assert_int_equal(kith_shard_health(run.held, &err), KITH_IO);
    assert_int_equal(shard_node_search(&run.node, run.held, 0, vector, 1, 5, &hits), KITH_OK);
    assert_int_equal(hits.counts[0], 1);
    shard_node_hits_fini(&hits);
    fixture_close(&run);
    store.full = false;
    fixture_open(&run);
    assert_int_equal(kith_shard_count(run.held), 2);
    assert_ok(kith_shard_health(run.held, &err), &err);
    fixture_end(&run);
}

static void test_stall__close_leaves_the_write_to_the_log(void **state) {
    (void)state;
    fixture run;
    full_store store;
    shard_node_write write;
    stall_begin(&run, &store);
    begin(&run, 2, 0, UINT64_MAX, &write);
    sim_env_run_for(run.node.sim, 300 * MS);
    fixture_close(&run);
    assert_true(atomic_load(&write.done));
    assert_int_equal(write.status, KITH_UNKNOWN_OUTCOME);
    shard_node_write_fini(&write);
    store.full = false;
    fixture_open(&run);
    assert_int_equal(kith_shard_count(run.held), 2);
    fixture_end(&run);
}

/* --- background work --- */

static void test_seal__no_space_is_told_and_tried_again(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    kith_shard_stats stats;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    for (uint64_t i = 0; i < 5; i++)
        upsert(&run, i, KITH_OK);
    sim_env_space_set(run.node.sim, 1);
    assert_int_equal(shard_node_seal(&run.node, run.held, &err), KITH_NO_SPACE);
    assert_int_equal(kith_shard_count(run.held), 5);
    sim_env_space_set(run.node.sim, UINT64_MAX);
    sim_env_run_for(run.node.sim, 20000 * MS);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.segments_sealed, 1);
    assert_int_equal(stats.sealed_sequence, 5);
    fixture_end(&run);
}

typedef struct seal_times {
    uint32_t count;
    uint64_t took_ns[4];
} seal_times;

static void seal_told(void *ctx, uint64_t took_ns) {
    seal_times *times = ctx;
    assert_in_range(times->count, 0, 3);
    times->took_ns[times->count++] = took_ns;
}

/* One that waits for room in the store, and one that does not: each is told with its own time, once. */
static void test_seal__each_is_told_with_its_time(void **state) {
    (void)state;
    fixture run;
    full_store store = {.status = KITH_NO_SPACE};
    seal_times times = {0};
    kith_err err;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.flush_chance = 1;
    options.before_flush = full_store_flush;
    options.before_flush_ctx = &store;
    fixture_begin(&run, options, &schema);
    run.node.node.sealed = seal_told;
    run.node.node.sealed_ctx = &times;
    upsert(&run, 1, KITH_OK);
    store.full = true;
    assert_int_equal(shard_node_seal(&run.node, run.held, &err), KITH_NO_SPACE);
    assert_int_equal(times.count, 0);
    store.full = false;
    sim_env_run_for(run.node.sim, 1000 * MS);
    upsert(&run, 2, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    assert_int_equal(times.count, 2);
    assert_int_equal(run.node.counters.seals, 2);
    assert_in_range(times.took_ns[0], 100 * MS, 1000 * MS);
    assert_in_range(times.took_ns[1], 0, 50 * MS);
    fixture_end(&run);
}

/* Segments that wait to be sealed are bounded: the write behind them is refused, with what to do about it. */
static void test_seal__that_lags_behind_refuses_writes_and_says_retry(void **state) {
    (void)state;
    enum { WRITES = 30 };
    fixture run;
    shard_node_write writes[WRITES], late;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.seal_rows = 1;
    fixture_begin(&run, options, &schema);
    for (uint64_t i = 0; i < WRITES; i++)
        begin(&run, i, 0, UINT64_MAX, &writes[i]);
    while (!atomic_load(&writes[WRITES - 1].done))
        assert_true(sim_env_step(run.node.sim));
    begin(&run, WRITES, 0, UINT64_MAX, &late);
    assert_true(shard_node_wait(&run.node, &late.done));
    assert_non_null(strstr(late.err.text, "4 segments of shard 7 wait to be sealed: retry in a moment"));
    expect(&run, &late, KITH_BUSY);
    for (uint64_t i = 0; i < WRITES; i++)
        expect(&run, &writes[i], KITH_OK);
    upsert(&run, WRITES, KITH_OK);
    fixture_end(&run);
}

static void test_seal__deletes_alone_let_the_log_go(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    kith_shard_stats stats;
    kith_write_result result;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    kith_op_point point = {.id = kith_id_of_number(1)};
    kith_op op = {.kind = KITH_OP_DELETE, .point_count = 1, .points = &point};
    assert_ok(shard_node_write_op(&run.node, run.held, &schema, &op, &result, &err), &err);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.sealed_sequence, 2);
    assert_int_equal(stats.segments, 0); /* a merge dropped what was wholly dead */
    assert_int_equal(stats.points, 0);
    fixture_end(&run);
}

static uint32_t segment_files(fixture *run) {
    uint32_t count = 0;
    char path[64];
    for (int i = 1; i < 200; i++) {
        size_t bytes;
        snprintf(path, sizeof path, "/node/segments/7-%d.seg", i);
        count += sim_env_file_get(run->node.sim, path, &bytes) != NULL;
    }
    return count;
}

static void test_merge__replaced_files_go_and_unnamed_ones_at_start(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    kith_shard_stats stats;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    fixture_begin(&run, options, &schema);
    for (uint64_t i = 0; i < 12; i++) {
        upsert(&run, i, KITH_OK);
        assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    }
    kith_shard_stats_read(run.held, &stats);
    assert_in_range(stats.segments_sealed, 1, 4);
    assert_int_equal(segment_files(&run), stats.segments_sealed);
    fixture_close(&run);
    sim_env_file_put(run.node.sim, "/node/segments/7-99.seg", "x", 1);
    sim_env_file_put(run.node.sim, "/node/segments/7-98.seg.tmp", "x", 1);
    sim_env_file_put(run.node.sim, "/node/segments/70-99.seg", "x", 1);
    fixture_open(&run);
    size_t bytes;
    assert_int_equal(segment_files(&run), stats.segments_sealed);
    assert_null(sim_env_file_get(run.node.sim, "/node/segments/7-98.seg.tmp", &bytes));
    assert_non_null(sim_env_file_get(run.node.sim, "/node/segments/70-99.seg", &bytes));
    assert_int_equal(kith_shard_count(run.held), 12);
    fixture_end(&run);
}

/* --- corruption --- */

static void never_called(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next) {
    (void)ctx, (void)points, (void)count, (void)next;
    fail();
}

static void test_corrupt__broken_segment_quarantines_the_shard_and_names_the_file(void **state) {
    (void)state;
    fixture run;
    kith_err err = {0};
    char path[128];
    uint64_t offset;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    for (uint64_t i = 0; i < 5; i++)
        upsert(&run, i, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    fixture_close(&run);
    assert_true(sim_env_flip_any(run.node.sim, ".seg", path, sizeof path, &offset));
    fixture_open(&run);
    assert_int_equal(kith_shard_health(run.held, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, path));
    upsert(&run, 9, KITH_CORRUPT);
    shard_node_hits hits;
    assert_int_equal(shard_node_search(&run.node, run.held, 0, vector, 1, 5, &hits), KITH_CORRUPT);
    assert_non_null(strstr(hits.err.text, path));
    shard_node_hits_fini(&hits);
    kith_shard_read read = {
        .kind = KITH_READ_SCROLL, .limit = 5, .bytes_max = 1000, .deadline_ns = UINT64_MAX};
    assert_int_equal(shard_node_read(&run.node, run.held, &read, never_called, NULL, &err), KITH_CORRUPT);
    assert_int_equal(shard_node_seal(&run.node, run.held, &err), KITH_CORRUPT);
    fixture_close(&run);
    /* Nothing of the log was let go meanwhile: the bit flipped back, all is there. */
    assert_true(run.node.counters.segments_corrupt > 0);
    fixture_open(&run);
    fixture_end(&run);
}

/* The node starts, and where the disk was only away for a moment the next start has all of it. */
static void test_corrupt__segment_that_the_disk_cannot_read_quarantines_the_shard(void **state) {
    (void)state;
    fixture run;
    kith_err err = {0};
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    fixture_close(&run);
    sim_env_fail_next(run.node.sim, SIM_FAIL_READ, KITH_IO);
    fixture_open(&run);
    assert_int_equal(kith_shard_health(run.held, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "7-2.seg"));
    fixture_close(&run);
    fixture_open(&run);
    assert_ok(kith_shard_health(run.held, &err), &err);
    assert_int_equal(kith_shard_count(run.held), 1);
    fixture_end(&run);
}

static void test_corrupt__missing_segment_is_corrupt_too(void **state) {
    (void)state;
    fixture run;
    kith_err err = {0};
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    fixture_close(&run);
    assert_ok(kith_path_remove(run.node.env, "/node/segments/7-2.seg", &err), &err);
    fixture_open(&run);
    assert_int_equal(kith_shard_health(run.held, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "7-2.seg"));
    fixture_end(&run);
}

/* --- drop and close --- */

static void test_drop__erases_keys_files_and_log_and_the_id_can_be_opened_empty(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    for (uint64_t i = 0; i < 5; i++)
        upsert(&run, i, KITH_OK);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    upsert(&run, 7, KITH_OK);
    kith_shard_set_release(run.node.set, run.held);
    assert_ok(shard_node_drop(&run.node, 7, &err), &err);
    assert_null(kith_shard_set_find(run.node.set, 7));
    assert_int_equal(segment_files(&run), 0);
    assert_ok(shard_node_drop(&run.node, 7, &err), &err); /* a repeat after a crash */
    assert_ok(kith_shard_set_open(run.node.set, 7, &schema, false, &err), &err);
    assert_null(kith_shard_set_find(run.node.set, 7)); /* not started */
    assert_ok(kith_shard_set_start(run.node.set, &err), &err);
    run.held = kith_shard_set_find(run.node.set, 7);
    assert_non_null(run.held);
    assert_int_equal(kith_shard_count(run.held), 0);
    assert_int_equal(kith_shard_set_open(run.node.set, 7, &schema, false, &err), KITH_EXISTS);
    fixture_end(&run);
}

static void dropped(void *ctx, kith_status status, const kith_err *err) {
    (void)err;
    if (status == KITH_OK) *(bool *)ctx = true;
}

static void test_drop__waits_for_who_holds_the_shard(void **state) {
    (void)state;
    fixture run;
    bool done = false;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, KITH_OK);
    kith_shard_set_drop(run.node.set, 7, dropped, &done);
    sim_env_run(run.node.sim);
    assert_null(kith_shard_set_find(run.node.set, 7));
    assert_false(done);
    upsert(&run, 2, KITH_OK);
    assert_int_equal(kith_shard_count(run.held), 2);
    kith_shard_set_release(run.node.set, run.held);
    run.held = NULL;
    sim_env_run(run.node.sim);
    assert_true(done);
    shard_node_close(&run.node);
    fixture_end(&run);
}

static void nothing(void *ctx) {
    *(bool *)ctx = true;
}

static void test_close__later_requests_are_closed(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    bool closed = false;
    shard_node_write write;
    kith_shard *shard;
    shard_node_hits hits;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    kith_shard_options options = {.node = &run.node.node, .shard_id = 8, .schema = &schema};
    assert_ok(kith_shard_open(&options, &shard, &err), &err);
    assert_ok(kith_shard_start(shard, &err), &err);
    kith_op_point point;
    kith_op op = upsert_of(&point, 1, 0);
    shard_node_write_begin(&run.node, shard, &schema, &op, UINT64_MAX, &write);
    kith_shard_close(shard, nothing, &closed);
    expect(&run, &write, KITH_CLOSED); /* it was not admitted yet */
    shard_node_write_begin(&run.node, shard, &schema, &op, UINT64_MAX, &write);
    expect(&run, &write, KITH_CLOSED);
    assert_int_equal(shard_node_search(&run.node, shard, 0, vector, 1, 5, &hits), KITH_CLOSED);
    shard_node_hits_fini(&hits);
    assert_int_equal(shard_node_seal(&run.node, shard, &err), KITH_CLOSED);
    sim_env_run(run.node.sim);
    assert_true(closed);
    kith_shard_destroy(shard);
    fixture_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write__repeat_gets_the_first_answer_also_after_restart),
        cmocka_unit_test(test_write__repeat_in_flight_waits_for_the_first),
        cmocka_unit_test(test_write__past_deadline_is_refused_and_undone),
        cmocka_unit_test(test_write__more_than_the_queue_is_busy),
        cmocka_unit_test(test_write__full_log_disk_is_no_space_and_nothing_done),
        cmocka_unit_test(test_write__below_the_disk_reserve_is_no_space),
        cmocka_unit_test(test_write__failed_sync_is_unknown_then_stops_the_log),
        cmocka_unit_test(test_stall__committed_write_is_answered_when_space_returns),
        cmocka_unit_test(test_stall__past_deadline_is_unknown_and_applied_in_the_end),
        cmocka_unit_test(test_stop__failed_store_ends_writes_and_searches_go_on),
        cmocka_unit_test(test_stall__close_leaves_the_write_to_the_log),
        cmocka_unit_test(test_seal__no_space_is_told_and_tried_again),
        cmocka_unit_test(test_seal__each_is_told_with_its_time),
        cmocka_unit_test(test_seal__that_lags_behind_refuses_writes_and_says_retry),
        cmocka_unit_test(test_seal__deletes_alone_let_the_log_go),
        cmocka_unit_test(test_merge__replaced_files_go_and_unnamed_ones_at_start),
        cmocka_unit_test(test_corrupt__broken_segment_quarantines_the_shard_and_names_the_file),
        cmocka_unit_test(test_corrupt__segment_that_the_disk_cannot_read_quarantines_the_shard),
        cmocka_unit_test(test_corrupt__missing_segment_is_corrupt_too),
        cmocka_unit_test(test_drop__erases_keys_files_and_log_and_the_id_can_be_opened_empty),
        cmocka_unit_test(test_drop__waits_for_who_holds_the_shard),
        cmocka_unit_test(test_close__later_requests_are_closed),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_faults", tests, NULL, NULL);
}
