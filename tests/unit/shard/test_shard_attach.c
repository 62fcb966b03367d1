/* Segments for a backend that has copies of them: each is given once, after searches can see it, and taken back before its
 * memory goes; what the backend does not have is searched on the CPU, with the same answers. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

enum { DIM = 32, SEAL_ROWS = 4200, SEGMENTS_MAX = 64 };

/* Segments have codes of `a` and none of `b`, which is too short. */
static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "a", .dim = DIM, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

/* --- a backend with a device --- */

typedef struct device_segment {
    const void *vectors;
    uint32_t row_count;
    uint32_t searches;
} device_segment;

typedef struct fake_device {
    kith_mutex mutex;
    device_segment segments[SEGMENTS_MAX];
    uint32_t segment_count;
    uint32_t attaches, detaches, searches, declined;
    uint32_t strangers; /* detached without having been attached, or attached twice */
    uint32_t unseen;    /* attached while no search could see a sealed segment */
    bool refuses;       /* has no memory */
    kith_shard *shard;  /* whose view is looked at, or NULL */
} fake_device;

static fake_device device;

static device_segment *segment_find_locked(const void *vectors) {
    for (uint32_t i = 0; i < device.segment_count; i++) {
        if (device.segments[i].vectors == vectors) return &device.segments[i];
    }
    return NULL;
}

static void device_attach(const kith_rows *rows) {
    kith_shard_stats stats = {.segments_sealed = 1};
    kith_mutex_lock(&device.mutex);
    if (device.shard) kith_shard_stats_read(device.shard, &stats);
    device.attaches++;
    device.strangers += segment_find_locked(rows->vectors) != NULL || !rows->codes || rows->dead;
    device.unseen += stats.segments_sealed == 0;
    if (!device.refuses && device.segment_count < SEGMENTS_MAX)
        device.segments[device.segment_count++] =
            (device_segment){.vectors = rows->vectors, .row_count = rows->row_count};
    kith_mutex_unlock(&device.mutex);
}

static void device_detach(const void *vectors) {
    kith_mutex_lock(&device.mutex);
    device.detaches++;
    device_segment *segment = segment_find_locked(vectors);
    if (segment)
        *segment = device.segments[--device.segment_count];
    else
        device.strangers += !device.refuses;
    kith_mutex_unlock(&device.mutex);
}

static kith_status device_top_k(const kith_top_k_job *job, kith_row_hit *hits_out, uint32_t *counts_out,
    kith_top_k_stats *stats, kith_err *err) {
    kith_mutex_lock(&device.mutex);
    device_segment *segment = segment_find_locked(job->rows->vectors);
    if (segment) segment->searches++;
    device.searches += segment != NULL;
    device.declined += segment == NULL;
    kith_mutex_unlock(&device.mutex);
    if (!segment) return kith_err_set(err, KITH_UNIMPLEMENTED, "the rows are not on the device");
    return kith_compute_cpu()->top_k(job, hits_out, counts_out, stats, err);
}

static kith_compute_ops device_ops(void) {
    kith_compute_ops ops = *kith_compute_cpu();
    ops.name = "fake";
    ops.top_k = device_top_k;
    ops.attach = device_attach;
    ops.detach = device_detach;
    return ops;
}

static void device_reset(void) {
    kith_mutex mutex = device.mutex;
    device = (fake_device){.mutex = mutex};
}

static uint32_t segments_searched(void) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < device.segment_count; i++)
        count += device.segments[i].searches > 0;
    return count;
}

/* --- a shard on it --- */

static void begin(fixture *run, shard_node_world world, const kith_compute_ops *ops) {
    device_reset();
    shard_node_options options = fixture_options(world);
    options.seal_rows = SEAL_ROWS;
    options.seal_bytes = 64 << 20;
    options.merge_bytes_max = 256 << 20;
    options.compute = ops;
    fixture_begin(run, options, &schema);
    device.shard = run->held;
}

static void close_all(fixture *run) {
    kith_mutex_lock(&device.mutex);
    device.shard = NULL; /* what is sealed last may be given while it closes */
    kith_mutex_unlock(&device.mutex);
    fixture_close(run);
}

static void rows_write(fixture *run, uint64_t first, uint32_t count) {
    kith_arena arena;
    kith_write_result result;
    kith_err err;
    kith_arena_init(&arena);
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = count};
    op.points = kith_arena_alloc_zero(&arena, count * sizeof *op.points);
    for (uint32_t i = 0; i < count; i++) {
        float *vectors = kith_arena_array(&arena, DIM + 3, sizeof *vectors);
        for (uint32_t d = 0; d < DIM + 3; d++)
            vectors[d] = (float)((int)kith_rng_below(&run->workload.rng, 9) - 4);
        op.points[i] = (kith_op_point){.id = kith_id_of_number(first + i),
            .field_mask = 3,
            .vectors = {(const uint8_t *)vectors, (const uint8_t *)(vectors + DIM)}};
    }
    assert_ok(shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err), &err);
    oracle_apply(run->oracle, &op, result.sequence);
    kith_arena_fini(&arena);
}

static void segment_write(fixture *run, uint64_t first) {
    kith_err err;
    rows_write(run, first, SEAL_ROWS);
    assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
}

static void searches_compare(fixture *run, uint32_t field_index, uint32_t count) {
    enum { K = 10 };
    float query[DIM];
    kith_hit expected[K];
    for (uint32_t i = 0; i < count; i++) {
        shard_node_hits hits;
        shard_workload_query(&run->workload, field_index, query);
        assert_int_equal(shard_node_search(&run->node, run->held, field_index, query, 1, K, &hits), KITH_OK);
        assert_int_equal(hits.counts[0], oracle_search(run->oracle, field_index, query, K, expected));
        for (uint32_t at = 0; at < hits.counts[0]; at++) {
            assert_true(hits.hits[at].closeness == expected[at].closeness);
            assert_int_equal(kith_id_compare(&hits.hits[at].id, &expected[at].id), 0);
        }
        shard_node_hits_fini(&hits);
    }
}

static void assert_device(uint32_t attaches, uint32_t detaches) {
    assert_int_equal(device.attaches, attaches);
    assert_int_equal(device.detaches, detaches);
    assert_int_equal(device.strangers, 0);
    assert_int_equal(device.unseen, 0);
}

static void test_attach__a_sealed_segment_is_given_once_and_searched_there(void **state) {
    (void)state;
    fixture run;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM, &ops);
    rows_write(&run, 0, 100);
    searches_compare(&run, 0, 3); /* of a growing segment: declined */
    assert_device(0, 0);
    assert_int_equal(device.searches, 0);
    assert_true(device.declined > 0);
    segment_write(&run, 0);
    sim_env_run(run.node.sim);
    assert_device(1, 0);
    assert_int_equal(device.segments[0].row_count, SEAL_ROWS);
    uint32_t declined = device.declined;
    searches_compare(&run, 0, 3);
    assert_int_equal(segments_searched(), 1);
    assert_int_equal(device.declined, declined);
    searches_compare(&run, 1, 3); /* without codes: the CPU's */
    assert_true(device.declined > declined);
    rows_write(&run, 50, 200); /* some rows of the segment die */
    searches_compare(&run, 0, 3);
    close_all(&run);
    assert_device(1, 1);
    fixture_end(&run);
}

static void test_attach__a_merge_gives_its_output_and_takes_its_sources_back(void **state) {
    (void)state;
    fixture run;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM, &ops);
    for (uint64_t i = 0; i < 3; i++)
        segment_write(&run, i * SEAL_ROWS);
    sim_env_run(run.node.sim);
    assert_device(3, 0);
    segment_write(&run, 3 * SEAL_ROWS); /* the fourth: they are merged */
    sim_env_run_for(run.node.sim, 1000000000);
    assert_int_equal(run.node.counters.merges, 1);
    assert_device(5, 4);
    assert_int_equal(device.segment_count, 1);
    assert_int_equal(device.segments[0].row_count, 4 * SEAL_ROWS);
    searches_compare(&run, 0, 5);
    assert_int_equal(segments_searched(), 1);
    close_all(&run);
    assert_device(5, 5);
    fixture_end(&run);
}

static void test_attach__a_restart_gives_what_is_sealed_again(void **state) {
    (void)state;
    fixture run;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM, &ops);
    segment_write(&run, 0);
    segment_write(&run, SEAL_ROWS);
    rows_write(&run, 2 * SEAL_ROWS, 100);
    close_all(&run);
    device_reset();
    fixture_open(&run);
    sim_env_run(run.node.sim);
    assert_device(2, 0);
    searches_compare(&run, 0, 5);
    assert_int_equal(segments_searched(), 2);
    close_all(&run);
    assert_device(2, 2);
    fixture_end(&run);
}

static void test_attach__a_dropped_shard_takes_its_segments_back(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM, &ops);
    segment_write(&run, 0);
    sim_env_run(run.node.sim);
    assert_device(1, 0);
    device.shard = NULL;
    kith_shard_set_release(run.node.set, run.held);
    run.held = NULL;
    assert_ok(shard_node_drop(&run.node, 7, &err), &err);
    assert_device(1, 1);
    shard_node_close(&run.node);
    fixture_end(&run);
}

static void test_attach__a_device_without_memory_changes_no_answer(void **state) {
    (void)state;
    fixture run;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM, &ops);
    device.refuses = true;
    segment_write(&run, 0);
    sim_env_run(run.node.sim);
    assert_device(1, 0);
    searches_compare(&run, 0, 5);
    assert_int_equal(device.searches, 0);
    close_all(&run);
    assert_device(1, 1);
    fixture_end(&run);
}

/* On real threads, for the sanitizers: searches go on while segments are given, merged and taken back. */
static void test_attach__searches_beside_seals_and_merges_are_right(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    kith_compute_ops ops = device_ops();
    begin(&run, SHARD_NODE_SIM_STORE, &ops);
    for (uint64_t i = 0; i < 6; i++) {
        rows_write(&run, i * SEAL_ROWS / 2, SEAL_ROWS);
        searches_compare(&run, 0, 8);
    }
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    close_all(&run);
    assert_true(device.attaches > 0);
    assert_int_equal(device.strangers + device.unseen + device.segment_count, 0);
    assert_int_equal(device.attaches, device.detaches);
    fixture_end(&run);
}

int main(void) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    kith_mutex_init(&device.mutex, KITH_RANK_CUDA);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attach__a_sealed_segment_is_given_once_and_searched_there),
        cmocka_unit_test(test_attach__a_merge_gives_its_output_and_takes_its_sources_back),
        cmocka_unit_test(test_attach__a_restart_gives_what_is_sealed_again),
        cmocka_unit_test(test_attach__a_dropped_shard_takes_its_segments_back),
        cmocka_unit_test(test_attach__a_device_without_memory_changes_no_answer),
        cmocka_unit_test(test_attach__searches_beside_seals_and_merges_are_right),
    };
    return cmocka_run_group_tests_name("shard_attach", tests, NULL, NULL);
}
