/* Shards against the oracle: random writes, seals, merges and restarts, in three worlds. */
#include <stdio.h>
#include <string.h>

#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_workload.h"

#define MS 1000000ULL

static shard_node_options options_of(shard_node_world world) {
    return (shard_node_options){.world = world,
        .seed = test_seed(1),
        .search_threads = 3,
        .seal_bytes = 1 << 20,
        .seal_rows = 60,
        .seal_idle_ns = 30000 * MS,
        .merge_bytes_max = 8 << 20,
        .request_window = 16,
        .write_queue_bytes_max = 64 << 20,
        .log_file_bytes = 64 << 10,
        .flush_chance = 0.05};
}

typedef struct history {
    shard_node node;
    shard_node_shard shard;
    shard_workload workload;
    oracle *oracle;
    kith_shard *held;
} history;

static void history_open(history *run) {
    kith_err err;
    assert_ok(shard_node_open(&run->node, &run->shard, 1, &err), &err);
    run->held = kith_shard_set_find(run->node.set, run->shard.id);
    assert_non_null(run->held);
}

static void history_close(history *run) {
    kith_shard_set_release(run->node.set, run->held);
    shard_node_close(&run->node);
}

static void history_begin(history *run, shard_node_options options, const kith_schema *schema) {
    memset(run, 0, sizeof *run);
    run->shard = (shard_node_shard){.id = 7, .schema = schema};
    run->workload =
        (shard_workload){.schema = schema, .id_count = 150, .points_max = 12, .missing_chance = 0.1};
    kith_rng_init(&run->workload.rng, options.seed);
    run->oracle = oracle_create(schema);
    shard_node_init(&run->node, &options);
    history_open(run);
}

static void history_end(history *run) {
    history_close(run);
    shard_node_fini(&run->node);
    oracle_destroy(run->oracle);
}

static void history_write(history *run) {
    shard_workload_op made;
    kith_write_result result;
    kith_err err;
    shard_workload_make(&run->workload, &made);
    assert_ok(shard_node_write_op(&run->node, run->held, run->shard.schema, &made.op, &result, &err), &err);
    assert_int_equal(oracle_apply(run->oracle, &made.op, result.sequence), result.points_changed);
    kith_arena_fini(&made.arena);
}

static void history_compare(history *run, uint32_t search_count) {
    kith_err difference;
    if (!shard_workload_compare(
            &run->workload, &run->node, run->held, run->oracle, search_count, &difference)) {
        fail_msg("%s", difference.text);
    }
}

static void history_step(history *run) {
    kith_err err;
    switch (kith_rng_below(&run->workload.rng, 40)) {
    case 0:
        assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
        break;
    case 1:
        history_close(run);
        history_open(run);
        break;
    case 2:
        history_compare(run, 2);
        break;
    default:
        history_write(run);
        break;
    }
}

static void history_run(shard_node_world world, const kith_schema *schema, uint64_t steps) {
    history run;
    history_begin(&run, options_of(world), schema);
    for (uint64_t i = 0; i < steps; i++)
        history_step(&run);
    history_compare(&run, 20);
    history_end(&run);
}

/* Each metric and type, and every dim that the kernels treat in a way of its own. */
static void run_matrix(shard_node_world world, uint64_t steps) {
    static const uint32_t dims[] = {1, 3, 17, 128, 768, 1536};
    for (int metric = KITH_METRIC_L2; metric <= KITH_METRIC_L1; metric++) {
        for (int type = KITH_TYPE_F32; type <= KITH_TYPE_I8; type++) {
            kith_schema schema = {.field_count = 1,
                .fields = {{.name = "",
                    .dim = dims[(metric * 4 + type) % 6],
                    .metric = (kith_metric)metric,
                    .type = (kith_vector_type)type}}};
            history_run(world, &schema, steps);
        }
    }
}

static const kith_schema three_fields = {.field_count = 3,
    .fields = {{.name = "", .dim = 17, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_I8},
        {.name = "c", .dim = 128, .metric = KITH_METRIC_IP, .type = KITH_TYPE_BF16}}};

static void test_shard__equals_the_oracle_in_the_simulated_world(void **state) {
    (void)state;
    run_matrix(SHARD_NODE_SIM, test_scaled(150));
}

static void test_shard__several_fields_equal_the_oracle(void **state) {
    (void)state;
    history_run(SHARD_NODE_SIM, &three_fields, test_scaled(600));
}

static void test_shard__equals_the_oracle_on_threads_and_files(void **state) {
    (void)state;
    history_run(SHARD_NODE_SIM_STORE, &three_fields, test_scaled(400));
}

static void test_shard__equals_the_oracle_on_rocksdb(void **state) {
    (void)state;
    run_matrix(SHARD_NODE_REAL, test_scaled(40));
    history_run(SHARD_NODE_REAL, &three_fields, test_scaled(300));
}

static void test_shard__digest_is_the_same_however_points_are_cut_into_segments(void **state) {
    (void)state;
    history one, other;
    shard_node_options options = options_of(SHARD_NODE_SIM);
    uint64_t one_digest, other_digest;
    kith_err err;
    history_begin(&one, options, &three_fields);
    options.seal_rows = 10000;
    history_begin(&other, options, &three_fields);
    for (uint32_t i = 0; i < 200; i++) {
        history_write(&one);
        history_write(&other);
    }
    assert_ok(shard_node_seal(&one.node, one.held, &err), &err);
    assert_ok(shard_node_digest(&one.node, one.held, &one_digest, &err), &err);
    assert_ok(shard_node_digest(&other.node, other.held, &other_digest, &err), &err);
    assert_true(one_digest == other_digest);
    history_write(&other);
    assert_ok(shard_node_digest(&other.node, other.held, &other_digest, &err), &err);
    assert_true(one_digest != other_digest);
    history_end(&one);
    history_end(&other);
}

static void test_shard__idle_growing_segment_is_sealed_and_the_log_trimmed(void **state) {
    (void)state;
    history run;
    shard_node_options options = options_of(SHARD_NODE_SIM);
    kith_shard_stats stats;
    options.seal_rows = 10000;
    history_begin(&run, options, &three_fields);
    for (uint32_t i = 0; i < 20; i++)
        history_write(&run);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.segments_sealed, 0);
    assert_int_equal(stats.sealed_sequence, 0);
    sim_env_run_for(run.node.sim, 61000 * MS);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.segments_sealed, 1);
    assert_int_equal(stats.segments, 1);
    assert_int_equal(stats.sealed_sequence, 20);
    history_compare(&run, 5);
    history_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard__equals_the_oracle_in_the_simulated_world),
        cmocka_unit_test(test_shard__several_fields_equal_the_oracle),
        cmocka_unit_test(test_shard__equals_the_oracle_on_threads_and_files),
        cmocka_unit_test(test_shard__equals_the_oracle_on_rocksdb),
        cmocka_unit_test(test_shard__digest_is_the_same_however_points_are_cut_into_segments),
        cmocka_unit_test(test_shard__idle_growing_segment_is_sealed_and_the_log_trimmed),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
