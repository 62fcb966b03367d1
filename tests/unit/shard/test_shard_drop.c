/* What a drop leaves behind: nothing, in the end, whatever fails meanwhile. */
#include <stdio.h>
#include <string.h>

#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS            1000000ULL
#define PAYLOAD_BYTES 40000u
#define SHARDS        200u

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
static const float vector[3] = {1, 2, 3};

/* A store whose disk is full or not. */
typedef struct full_store {
    bool full;
    uint32_t refused;
} full_store;

static kith_status full_store_flush(void *ctx, kith_err *err) {
    full_store *store = ctx;
    if (!store->full) return KITH_OK;
    store->refused++;
    return kith_err_set(err, KITH_NO_SPACE, "the store's disk is full");
}

typedef struct dropping {
    uint32_t done_count;
    kith_status status; /* of the last */
} dropping;

static void dropped(void *ctx, kith_status status, const kith_err *err) {
    dropping *drop = ctx;
    assert_int_equal(err != NULL, status != KITH_OK);
    drop->done_count++;
    drop->status = status;
}

static void begin(fixture *run, full_store *store) {
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.flush_chance = 0;
    options.before_flush = full_store_flush;
    options.before_flush_ctx = store;
    *store = (full_store){0};
    fixture_begin(run, options, &schema);
}

/* Points whose payloads fill several files of the log. */
static void points_write(fixture *run, uint32_t count) {
    static char payload[PAYLOAD_BYTES];
    memset(payload, ' ', sizeof payload);
    for (uint32_t i = 0; i < count; i++) {
        kith_op_point point = {.id = kith_id_of_number(i),
            .field_mask = 1,
            .vectors = {(const uint8_t *)vector},
            .payload = payload,
            .payload_bytes = sizeof payload};
        kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
        kith_write_result result;
        kith_err err;
        assert_ok(shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err), &err);
    }
}

static void file_count(void *ctx, const kith_dir_entry *entry) {
    (void)entry;
    (*(uint32_t *)ctx)++;
}

static uint32_t files_in(fixture *run, const char *dir) {
    kith_err err;
    uint32_t count = 0;
    assert_ok(kith_dir_list(run->node.env, dir, file_count, &count, &err), &err);
    return count;
}

/* Keys of the shard that the store has. */
static uint32_t keys_left(fixture *run, uint8_t shard_id) {
    uint8_t from[8] = {0, 0, 0, 0, 0, 0, 0, shard_id}, to[8] = {0, 0, 0, 0, 0, 0, 0, shard_id + 1};
    uint32_t count = 0;
    for (kith_store_family family = KITH_STORE_POINTS; family < KITH_STORE_FAMILIES; family++) {
        kith_store_iterator *iterator;
        const void *key, *value;
        size_t key_bytes, value_bytes;
        kith_err err;
        assert_ok(kith_store_iterator_open(run->node.store, family, from, 8, to, 8, &iterator, &err), &err);
        while (kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes))
            count++;
        kith_store_iterator_close(iterator);
    }
    return count;
}

/* Drops shard 7, which nobody holds any more. */
static void drop_begin(fixture *run, dropping *drop) {
    *drop = (dropping){0};
    kith_shard_set_release(run->node.set, run->held);
    run->held = NULL;
    kith_shard_set_drop(run->node.set, 7, dropped, drop);
}

static void test_drop__that_fails_is_tried_again_and_frees_the_log_at_once(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop;
    kith_err err;
    begin(&run, &store);
    points_write(&run, 20);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    points_write(&run, 20);
    assert_in_range(files_in(&run, "/node/log"), 8, 100);
    store.full = true;
    drop_begin(&run, &drop);
    sim_env_run_for(run.node.sim, 60000 * MS);
    assert_in_range(files_in(&run, "/node/log"), 0, 2);
    assert_int_equal(drop.done_count, 0);
    assert_in_range(store.refused, 5, 20); /* backing off */
    store.full = false;
    sim_env_run_for(run.node.sim, 10000 * MS);
    assert_int_equal(drop.done_count, 1);
    assert_int_equal(drop.status, KITH_OK);
    assert_int_equal(files_in(&run, "/node/segments"), 0);
    assert_int_equal(keys_left(&run, 7), 0);
    shard_node_close(&run.node);
    fixture_end(&run);
}

static void test_drop__whose_files_stay_does_not_erase_the_keys_again(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop;
    kith_err err;
    begin(&run, &store);
    points_write(&run, 1);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    sim_env_fail_next(run.node.sim, SIM_FAIL_REMOVE, KITH_IO);
    drop_begin(&run, &drop);
    sim_env_run(run.node.sim);
    assert_int_equal(drop.done_count, 0);
    assert_int_equal(keys_left(&run, 7), 0);
    uint64_t flush_count = run.node.flush_count;
    sim_env_run_for(run.node.sim, 1000 * MS);
    assert_int_equal(drop.done_count, 1);
    assert_int_equal(drop.status, KITH_OK);
    assert_int_equal(files_in(&run, "/node/segments"), 0);
    assert_int_equal(run.node.flush_count, flush_count);
    shard_node_close(&run.node);
    fixture_end(&run);
}

static void test_drop__that_fails_does_not_keep_the_node_from_closing(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop;
    kith_err err;
    begin(&run, &store);
    points_write(&run, 3);
    store.full = true;
    drop_begin(&run, &drop);
    sim_env_run_for(run.node.sim, 5000 * MS);
    uint64_t before_ns = kith_env_now_ns(run.node.env);
    shard_node_close(&run.node);
    assert_in_range(kith_env_now_ns(run.node.env) - before_ns, 0, 10 * MS); /* no wait for the timer */
    assert_int_equal(drop.done_count, 1);
    assert_int_equal(drop.status, KITH_NO_SPACE);
    store.full = false;
    assert_ok(shard_node_open(&run.node, NULL, 0, &err), &err);
    assert_ok(shard_node_drop(&run.node, 7, &err), &err); /* as the next start does with leftovers */
    assert_int_equal(keys_left(&run, 7), 0);
    shard_node_close(&run.node);
    fixture_end(&run);
}

/* A shard that is taken away and given again at once, as by a change of the replication factor back and forth: its erasure would take the
 * new one's rows. */
static void test_drop__that_has_not_ended_keeps_its_shard_from_being_opened(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop;
    kith_err err;
    begin(&run, &store);
    points_write(&run, 20);
    store.full = true;
    drop_begin(&run, &drop);
    assert_int_equal(kith_shard_set_open(run.node.set, 7, &schema, false, &err), KITH_UNAVAILABLE);
    sim_env_run_for(run.node.sim, 5000 * MS);
    assert_int_equal(kith_shard_set_open(run.node.set, 7, &schema, false, &err), KITH_UNAVAILABLE);
    store.full = false;
    sim_env_run_for(run.node.sim, 10000 * MS);
    assert_int_equal(drop.done_count, 1);
    assert_ok(kith_shard_set_open(run.node.set, 7, &schema, false, &err), &err);
    assert_ok(kith_shard_set_start(run.node.set, &err), &err);
    run.held = kith_shard_set_find(run.node.set, 7);
    assert_non_null(run.held);
    points_write(&run, 3);
    kith_shard_stats stats;
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.points, 3);
    fixture_end(&run);
}

static void test_drop__of_a_reserved_shard_keeps_out_also_who_reserved_it(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop;
    kith_err err;
    begin(&run, &store);
    kith_shard_set_reserve(run.node.set, 7);
    drop_begin(&run, &drop);
    assert_int_equal(kith_shard_set_open_reserved(run.node.set, 7, &schema, false, &err), KITH_UNAVAILABLE);
    sim_env_run_for(run.node.sim, 1000 * MS);
    assert_int_equal(drop.done_count, 1);
    assert_int_equal(kith_shard_set_open(run.node.set, 7, &schema, false, &err), KITH_UNAVAILABLE);
    assert_ok(kith_shard_set_open_reserved(run.node.set, 7, &schema, false, &err), &err);
    kith_shard_set_unreserve(run.node.set, 7);
    assert_int_equal(kith_shard_set_open(run.node.set, 7, &schema, false, &err), KITH_EXISTS);
    assert_ok(kith_shard_set_start(run.node.set, &err), &err);
    run.held = kith_shard_set_find(run.node.set, 7);
    fixture_end(&run);
}

static void test_drop__of_many_shards_shares_flushes(void **state) {
    (void)state;
    fixture run;
    full_store store;
    dropping drop = {0};
    kith_err err;
    begin(&run, &store);
    points_write(&run, 1);
    for (uint64_t id = 100; id < 100 + SHARDS; id++)
        assert_ok(kith_shard_set_open(run.node.set, id, &schema, false, &err), &err);
    assert_ok(kith_shard_set_start(run.node.set, &err), &err);
    sim_env_run_for(run.node.sim, 1000 * MS);
    uint64_t flush_count = run.node.flush_count;
    for (uint64_t id = 100; id < 100 + SHARDS; id++)
        kith_shard_set_drop(run.node.set, id, dropped, &drop);
    sim_env_run_for(run.node.sim, 1000 * MS);
    assert_int_equal(drop.done_count, SHARDS);
    /* How many are closed while the ones before are erased is the seed's choice. */
    assert_in_range(run.node.flush_count - flush_count, 1, SHARDS - 1);
    flush_count = run.node.flush_count;
    for (uint64_t id = 100; id < 100 + SHARDS; id++)
        kith_shard_set_drop(run.node.set, id, dropped, &drop);
    sim_env_run_for(run.node.sim, 1000 * MS);
    assert_int_equal(drop.done_count, 2 * SHARDS);
    assert_int_equal(run.node.flush_count - flush_count, 1); /* not open, so they wait together */
    assert_int_not_equal(keys_left(&run, 7), 0);             /* the neighbour is untouched */
    fixture_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop__that_fails_is_tried_again_and_frees_the_log_at_once),
        cmocka_unit_test(test_drop__whose_files_stay_does_not_erase_the_keys_again),
        cmocka_unit_test(test_drop__that_fails_does_not_keep_the_node_from_closing),
        cmocka_unit_test(test_drop__that_has_not_ended_keeps_its_shard_from_being_opened),
        cmocka_unit_test(test_drop__of_a_reserved_shard_keeps_out_also_who_reserved_it),
        cmocka_unit_test(test_drop__of_many_shards_shares_flushes),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_drop", tests, NULL, NULL);
}
