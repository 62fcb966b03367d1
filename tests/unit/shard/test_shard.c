/* Shards against the oracle: random writes, seals, merges and restarts, in three worlds. */
#include <stdio.h>
#include <string.h>

#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS 1000000ULL

static void history_step(fixture *run) {
    kith_err err;
    switch (kith_rng_below(&run->workload.rng, 40)) {
    case 0:
        assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
        break;
    case 1:
        fixture_close(run);
        fixture_open(run);
        break;
    case 2:
        fixture_compare(run, 2);
        break;
    default:
        fixture_write(run);
        break;
    }
}

static void history_run(shard_node_world world, const kith_schema *schema, uint64_t steps) {
    fixture run;
    fixture_begin(&run, fixture_options(world), schema);
    for (uint64_t i = 0; i < steps; i++)
        history_step(&run);
    fixture_compare(&run, 20);
    fixture_end(&run);
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
    fixture one, other;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    uint64_t one_digest, other_digest;
    kith_err err;
    fixture_begin(&one, options, &three_fields);
    options.seal_rows = 10000;
    fixture_begin(&other, options, &three_fields);
    for (uint32_t i = 0; i < 200; i++) {
        fixture_write(&one);
        fixture_write(&other);
    }
    assert_ok(shard_node_seal(&one.node, one.held, &err), &err);
    assert_ok(shard_node_digest(&one.node, one.held, &one_digest, &err), &err);
    assert_ok(shard_node_digest(&other.node, other.held, &other_digest, &err), &err);
    assert_true(one_digest == other_digest);
    fixture_write(&other);
    assert_ok(shard_node_digest(&other.node, other.held, &other_digest, &err), &err);
    assert_true(one_digest != other_digest);
    fixture_end(&one);
    fixture_end(&other);
}

static void test_shard__idle_growing_segment_is_sealed_and_the_log_trimmed(void **state) {
    (void)state;
    fixture run;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    kith_shard_stats stats;
    options.seal_rows = 10000;
    fixture_begin(&run, options, &three_fields);
    for (uint32_t i = 0; i < 20; i++)
        fixture_write(&run);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.segments_sealed, 0);
    assert_int_equal(stats.sealed_sequence, 0);
    sim_env_run_for(run.node.sim, 61000 * MS);
    kith_shard_stats_read(run.held, &stats);
    assert_int_equal(stats.segments_sealed, 1);
    assert_int_equal(stats.segments, 1);
    assert_int_equal(stats.sealed_sequence, 20);
    fixture_compare(&run, 5);
    fixture_end(&run);
}

/* The most that the configuration allows, of the smallest vectors: more rows than a segment can have. */
static void test_shard__takes_writes_however_late_it_is_to_seal(void **state) {
    (void)state;
    static const kith_schema smallest = {
        .field_count = 1, .fields = {{.name = "", .dim = 1, .metric = KITH_METRIC_L2, .type = KITH_TYPE_I8}}};
    fixture run;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.seal_rows = 100000000;
    options.seal_bytes = 16ULL << 30;
    fixture_begin(&run, options, &smallest);
    for (int i = 0; i < 5; i++)
        fixture_write(&run);
    fixture_compare(&run, 2);
    fixture_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard__equals_the_oracle_in_the_simulated_world),
        cmocka_unit_test(test_shard__several_fields_equal_the_oracle),
        cmocka_unit_test(test_shard__equals_the_oracle_on_threads_and_files),
        cmocka_unit_test(test_shard__equals_the_oracle_on_rocksdb),
        cmocka_unit_test(test_shard__digest_is_the_same_however_points_are_cut_into_segments),
        cmocka_unit_test(test_shard__idle_growing_segment_is_sealed_and_the_log_trimmed),
        cmocka_unit_test(test_shard__takes_writes_however_late_it_is_to_seal),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard", tests, NULL, NULL);
}
