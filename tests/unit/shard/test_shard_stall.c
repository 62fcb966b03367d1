/* A round that waits for memory, while what would free it goes on.
 *
 * A growing segment takes the address space of all its rows at once: the process is given room for one and a half. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host/base/log.h"
#include "host/shard/shard_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS            1000000ULL
#define DIM           4096u
#define SEGMENT_ROWS  (1u << 24)
#define SEGMENT_BYTES ((uint64_t)SEGMENT_ROWS * DIM * 4)

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = DIM, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
static float vector[DIM];

static uint64_t address_space_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%llu", &pages), 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Room for as much more, but not for another segment. Returns the limit that was. */
static struct rlimit memory_limit(uint64_t more_bytes) {
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit limit = {.rlim_cur = address_space_bytes() + more_bytes, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    return before;
}

static void begin(fixture *run, uint64_t id, kith_op_kind kind, shard_node_write *write) {
    kith_op_point point = {.id = kith_id_of_number(id)};
    kith_op op = {.kind = kind, .point_count = 1, .points = &point};
    if (kind == KITH_OP_UPSERT) {
        point.field_mask = 1;
        point.vectors[0] = (const uint8_t *)vector;
    }
    shard_node_write_begin(&run->node, run->held, &schema, &op, UINT64_MAX, write);
}

static void finish(fixture *run, shard_node_write *write) {
    assert_true(shard_node_wait(&run->node, &write->done));
    if (write->status != KITH_OK) fail_msg("%s: %s", kith_status_name(write->status), write->err.text);
    shard_node_write_fini(write);
}

static void job_done(kith_shard_job *job, kith_status status, const kith_err *err) {
    (void)status, (void)err;
    *(bool *)job->impl[7] = true;
}

/* Shard 7 with points 1, 2, 3 in a segment that is being sealed, and a round behind it that deletes 2, writes 1 again
 * and 4 anew, for which there is no memory. */
typedef struct stall {
    fixture run;
    shard_node_write writes[3];
    kith_shard_job job;
    bool job_done;
    shard_view *view; /* an old one, as a long search holds it: the frozen segment stays in memory with it */
    struct rlimit limit;
} stall;

static void points_begin(fixture *run, uint64_t seed, double flush_chance) {
    shard_node_write write;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.seed = seed;
    options.flush_chance = flush_chance;
    options.log_file_bytes = 1 << 30; /* no new file beside that of the seal */
    options.seal_rows = SEGMENT_ROWS;
    options.seal_bytes = SEGMENT_BYTES;
    vector[0] = 1;
    fixture_begin(run, options, &schema);
    for (uint64_t id = 1; id <= 3; id++) {
        begin(run, id, KITH_OP_UPSERT, &write);
        finish(run, &write);
    }
}

/* `later`: the seal fails once, so that it begins again in the middle of the stall. */
static void stall_begin(stall *own, uint64_t seed, bool later) {
    memset(own, 0, sizeof *own);
    fixture *run = &own->run;
    points_begin(run, seed, 0);
    own->view = shard_view_acquire(run->held->view_cell);
    own->limit = memory_limit(SEGMENT_BYTES / 2);
    if (later) sim_env_fail_next(run->node.sim, SIM_FAIL_CREATE, KITH_NO_SPACE);
    own->job.done = job_done;
    own->job.impl[7] = &own->job_done;
    kith_shard_seal_start(run->held, &own->job);
    begin(run, 2, KITH_OP_DELETE, &own->writes[0]);
    begin(run, 1, KITH_OP_UPSERT, &own->writes[1]);
    begin(run, 4, KITH_OP_UPSERT, &own->writes[2]);
    sim_env_run_for(run->node.sim, 1000 * MS);
}

/* The view shows the sealed file and nothing of the round. */
static void expect_sealed(stall *own) {
    kith_shard_stats stats;
    shard_node_hits hits;
    kith_shard_stats_read(own->run.held, &stats);
    assert_true(stats.stalled);
    assert_int_equal(stats.segments, 1);
    assert_int_equal(stats.segments_sealed, 1);
    assert_int_equal(stats.sealed_sequence, 3);
    /* The delete may have made a round of its own. */
    assert_int_equal(stats.points, atomic_load(&own->writes[0].done) ? 2 : 3);
    assert_false(atomic_load(&own->writes[2].done));
    assert_int_equal(shard_node_search(&own->run.node, own->run.held, 0, vector, 1, 10, &hits), KITH_OK);
    assert_int_equal(hits.counts[0], stats.points);
    shard_node_hits_fini(&hits);
}

static void expect_applied(fixture *run) {
    kith_err err;
    kith_shard_stats stats;
    kith_shard_stats_read(run->held, &stats);
    assert_false(stats.stalled);
    assert_int_equal(stats.points, 3);
    assert_ok(shard_node_validate(&run->node, run->held, &err), &err);
}

static void test_stall__for_memory_ends_when_the_segment_before_is_sealed(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    for (uint64_t i = 0; i < test_scaled(20); i++) {
        stall own;
        stall_begin(&own, seed + i, i % 4 < 2);
        expect_sealed(&own);
        shard_view_release(own.view);
        for (int w = 0; w < 3; w++)
            finish(&own.run, &own.writes[w]);
        assert_int_equal(setrlimit(RLIMIT_AS, &own.limit), 0);
        sim_env_run_for(own.run.node.sim, 1000 * MS);
        assert_true(own.job_done);
        expect_applied(&own.run);
        fixture_close(&own.run);
        fixture_open(&own.run);
        expect_applied(&own.run);
        fixture_end(&own.run);
    }
}

/* The sealed file, its tombstones and the log, from before the round, are what comes back. */
static void test_stall__a_crash_after_the_seal_loses_and_repeats_nothing(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    for (uint64_t i = 0; i < test_scaled(20); i++) {
        stall own;
        stall_begin(&own, seed + i, i % 4 < 2);
        expect_sealed(&own);
        assert_int_equal(setrlimit(RLIMIT_AS, &own.limit), 0);
        sim_env_crash(own.run.node.sim, i % 2 ? SIM_CRASH_KEEP_ALL : SIM_CRASH_LOSE_ALL);
        shard_view_release(own.view);
        fixture_close(&own.run);
        for (int w = 0; w < 3; w++)
            shard_node_write_fini(&own.writes[w]);
        shard_node_restart_machine(&own.run.node);
        fixture_open(&own.run);
        expect_applied(&own.run);
        fixture_end(&own.run);
    }
}

static uint64_t frames_written(const fixture *run) {
    kith_log_stats stats;
    kith_store_log_stats_read(run->node.log, &stats);
    return stats.syncs;
}

static struct rlimit limit_before;
static void (*write_told)(
    kith_shard_write *write, kith_status status, const kith_write_result *result, const kith_err *err);

static void told_and_room_again(
    kith_shard_write *write, kith_status status, const kith_write_result *result, const kith_err *err) {
    assert_int_equal(setrlimit(RLIMIT_AS, &limit_before), 0);
    write_told(write, status, result, err);
}

/* A round for which there is no memory as the shard closes is left to the log, and so is what the log answers after it: in the
 * store it would say that everything before it is there too. */
static void test_stall__what_comes_behind_it_at_a_close_is_left_to_the_log_too(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    for (uint64_t i = 0; i < test_scaled(20); i++) {
        fixture run;
        shard_node_write writes[2];
        kith_err err;
        points_begin(&run, seed + i, 1);
        assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
        limit_before = memory_limit(SEGMENT_BYTES / 2);
        uint64_t frames = frames_written(&run), sequence = run.held->last_sequence;
        begin(&run, 1, KITH_OP_UPSERT, &writes[0]);
        write_told = writes[0].write.done;
        writes[0].write.done = told_and_room_again;
        while (frames_written(&run) == frames)
            assert_true(sim_env_step(run.node.sim));
        begin(&run, 2, KITH_OP_DELETE, &writes[1]);
        while (run.held->last_sequence < sequence + 2)
            assert_true(sim_env_step(run.node.sim));
        fixture_close(&run);
        assert_int_equal(writes[0].status, KITH_UNKNOWN_OUTCOME);
        assert_int_equal(writes[1].status, KITH_UNKNOWN_OUTCOME);
        fixture_open(&run);
        assert_ok(kith_shard_health(run.held, &err), &err);
        assert_int_equal(kith_shard_count(run.held), 2);
        assert_ok(shard_node_validate(&run.node, run.held, &err), &err);
        for (int w = 0; w < 2; w++)
            shard_node_write_fini(&writes[w]);
        fixture_end(&run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stall__for_memory_ends_when_the_segment_before_is_sealed),
        cmocka_unit_test(test_stall__a_crash_after_the_seal_loses_and_repeats_nothing),
        cmocka_unit_test(test_stall__what_comes_behind_it_at_a_close_is_left_to_the_log_too),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_stall", tests, NULL, NULL);
}
