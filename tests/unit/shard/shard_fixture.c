/* The fixture of shard_fixture.h. */
#include "tests/unit/shard/shard_fixture.h"

#include <string.h>

#include "tests/lib/test_lib.h"

shard_node_options fixture_options(shard_node_world world) {
    return (shard_node_options){.world = world,
        .seed = test_seed(1),
        .search_threads = 3,
        .seal_bytes = 1 << 20,
        .seal_rows = 60,
        .seal_idle_ns = 30000 * 1000000ULL,
        .merge_bytes_max = 8 << 20,
        .request_window = 16,
        .read_slice_points = 5,
        .write_queue_bytes_max = 64 << 20,
        .log_file_bytes = 64 << 10,
        .flush_chance = 0.05};
}

void fixture_open(fixture *run) {
    kith_err err;
    assert_ok(shard_node_open(&run->node, &run->shard, 1, &err), &err);
    run->held = kith_shard_set_find(run->node.set, run->shard.id);
    assert_non_null(run->held);
}

void fixture_close(fixture *run) {
    if (!run->held) return;
    kith_shard_set_release(run->node.set, run->held);
    run->held = NULL;
    shard_node_close(&run->node);
}

void fixture_begin(fixture *run, shard_node_options options, const kith_schema *schema) {
    fixture_begin_gated(run, options, schema, NULL);
}

void fixture_begin_gated(
    fixture *run, shard_node_options options, const kith_schema *schema, const kith_shard_gate *gate) {
    memset(run, 0, sizeof *run);
    run->shard = (shard_node_shard){.id = 7, .schema = schema, .gate = gate};
    run->workload =
        (shard_workload){.schema = schema, .id_count = 150, .points_max = 12, .missing_chance = 0.1};
    kith_rng_init(&run->workload.rng, options.seed);
    run->oracle = oracle_create(schema);
    shard_node_init(&run->node, &options);
    fixture_open(run);
}

void fixture_end(fixture *run) {
    fixture_close(run);
    shard_node_fini(&run->node);
    oracle_destroy(run->oracle);
}

void fixture_write(fixture *run) {
    shard_workload_op made;
    kith_write_result result;
    kith_err err;
    shard_workload_make(&run->workload, &made);
    kith_status status;
    do { /* on a loaded machine seals may lag behind; a client would wait a little */
        status = shard_node_write_op(&run->node, run->held, run->shard.schema, &made.op, &result, &err);
    } while (status == KITH_BUSY && !run->node.sim);
    assert_ok(status, &err);
    assert_int_equal(oracle_apply(run->oracle, &made.op, result.sequence), result.points_changed);
    kith_arena_fini(&made.arena);
}

void fixture_compare(fixture *run, uint32_t search_count) {
    kith_err difference;
    if (!shard_workload_compare(
            &run->workload, &run->node, run->held, run->oracle, search_count, &difference)) {
        fail_msg("%s", difference.text);
    }
}
