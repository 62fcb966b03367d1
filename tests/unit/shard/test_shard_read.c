/* Reads that take many slices: what comes between, what they see, and how they end. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define SECOND 1000000000ULL
#define SLICE  5u /* points; as the fixture has it */
#define POINTS 300u

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

/* Points [first, first + count) say `version` in vector and payload. One op: all of them at once. */
static void write_begin(
    fixture *run, uint64_t first, uint32_t count, uint32_t version, shard_node_write *write) {
    kith_op_point *points = kith_alloc_zero(count * sizeof *points);
    float vector[2] = {(float)version, 1};
    char payload[32];
    int bytes = snprintf(payload, sizeof payload, "{\"v\":%u}", version);
    for (uint32_t i = 0; i < count; i++) {
        points[i] = (kith_op_point){.id = kith_id_of_number(first + i),
            .field_mask = 1,
            .vectors = {(const uint8_t *)(const void *)vector},
            .payload = payload,
            .payload_bytes = (uint32_t)bytes};
    }
    kith_op op = {.kind = KITH_OP_UPSERT, .points = points, .point_count = count, .wall_ms = 1};
    shard_node_write_begin(&run->node, run->held, &schema, &op, UINT64_MAX, write);
    kith_free(points);
}

static void write_all(fixture *run, uint64_t first, uint32_t count, uint32_t version) {
    shard_node_write write;
    write_begin(run, first, count, version, &write);
    assert_true(shard_node_wait(&run->node, &write.done));
    assert_ok(write.status, &write.err);
    shard_node_write_fini(&write);
}

/* --- a read that is under way --- */

typedef struct reading {
    kith_shard_read read;
    shard_node *node;
    kith_id ids[POINTS];
    uint32_t versions[POINTS + 1];
    uint64_t numbers[POINTS + 1];
    uint32_t count;
    bool whole; /* vector and payload of every point say the same */
    bool has_next;
    uint64_t next;
    kith_status status;
    atomic_bool done;
} reading;

static void reading_done(kith_shard_read *read, kith_status status, const kith_shard_point *points,
    uint32_t count, const kith_id *next, const kith_err *err) {
    reading *own = (reading *)read;
    (void)err;
    own->status = status;
    own->count = count;
    own->whole = true;
    for (uint32_t i = 0; i < count; i++) {
        unsigned version = 0;
        float vector[2];
        memcpy(vector, points[i].vectors[0], sizeof vector);
        own->numbers[i] = points[i].id.number;
        own->versions[i] = (uint32_t)vector[0];
        own->whole &= sscanf(points[i].payload, "{\"v\":%u}", &version) == 1 && version == own->versions[i];
    }
    own->has_next = next != NULL;
    own->next = next ? next->number : 0;
    shard_node_signal(own->node, &own->done);
}

static void reading_begin(fixture *run, reading *own, int kind, uint32_t count) {
    memset(own, 0, sizeof *own);
    own->node = &run->node;
    own->read = (kith_shard_read){.limit = count,
        .with_payload = true,
        .with_vectors = true,
        .bytes_max = 1 << 20,
        .deadline_ns = UINT64_MAX,
        .done = reading_done};
    if (kind) own->read.kind = KITH_READ_SCROLL;
    for (uint32_t i = 0; i < count && !kind; i++)
        own->ids[i] = kith_id_of_number(i);
    if (!kind) own->read.ids = own->ids;
    if (!kind) own->read.id_count = count;
}

static void reading_wait(fixture *run, reading *own) {
    kith_shard_read_start(run->held, &own->read);
    assert_true(shard_node_wait(&run->node, &own->done));
}

static void steps_until_slices(fixture *run, uint64_t slices) {
    while (run->node.counters.read_slices < slices)
        assert_true(sim_env_step(run->node.sim));
}

/* Unlike shard_node_wait, leaves alone what else waits to run. */
static void steps_until(fixture *run, const atomic_bool *done) {
    while (!atomic_load(done))
        assert_true(sim_env_step(run->node.sim));
}

/* --- slices --- */

static void test_read__takes_as_many_slices_as_its_points_need(void **state) {
    (void)state;
    fixture run;
    reading own;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    write_all(&run, 0, 50, 1);
    for (int kind = 0; kind < 2; kind++) {
        for (uint32_t count = 1; count <= 40; count += 13) {
            uint64_t before = run.node.counters.read_slices;
            reading_begin(&run, &own, kind, count);
            reading_wait(&run, &own);
            assert_int_equal(own.status, KITH_OK);
            assert_int_equal(own.count, count);
            assert_int_equal(own.has_next, kind == 1);
            if (kind) assert_int_equal(own.next, count);
            /* One more look tells that nothing is left, or what. */
            assert_int_equal(run.node.counters.read_slices - before, (count + 1 + SLICE - 1) / SLICE);
        }
    }
    fixture_end(&run);
}

/* Writes that come after the read has begun are answered long before it ends, and it sees none of them. */
static void test_read__writes_come_between_slices_and_are_not_seen(void **state) {
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        fixture run;
        reading own;
        shard_node_options options = fixture_options(SHARD_NODE_SIM);
        options.flush_chance = 1;
        fixture_begin(&run, options, &schema);
        write_all(&run, 0, POINTS, 1);
        reading_begin(&run, &own, kind, POINTS);
        kith_shard_read_start(run.held, &own.read);
        steps_until_slices(&run, 2);
        uint32_t writes = 0;
        for (; !atomic_load(&own.done); writes++) {
            shard_node_write write;
            write_begin(&run, writes * 37 % POINTS, 3, 2 + writes, &write);
            steps_until(&run, &write.done);
            assert_ok(write.status, &write.err);
            shard_node_write_fini(&write);
        }
        print_message(
            "%u writes while a read took %u slices\n", writes, (unsigned)run.node.counters.read_slices);
        assert_true(writes >= 5);
        assert_int_equal(own.status, KITH_OK);
        assert_int_equal(own.count, POINTS);
        assert_true(own.whole);
        for (uint32_t i = 0; i < POINTS; i++) {
            assert_int_equal(own.numbers[i], i);
            assert_int_equal(own.versions[i], 1);
        }
        fixture_end(&run);
    }
}

typedef struct sealing {
    kith_shard_job job;
    atomic_bool done;
} sealing;

static void seal_done(kith_shard_job *job, kith_status status, const kith_err *err) {
    assert_ok(status, err);
    atomic_store(&((sealing *)job)->done, true);
}

/* A seal and a merge replace the segments that a read is in. */
static void test_read__outlives_the_segments_it_began_with(void **state) {
    (void)state;
    fixture run;
    reading own;
    shard_node_write write;
    sealing seal = {.job.done = seal_done};
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.read_slice_points = 1;
    fixture_begin(&run, options, &schema);
    for (uint32_t i = 0; i < POINTS; i += 50)
        write_all(&run, i, 50, 1);
    reading_begin(&run, &own, 1, POINTS);
    kith_shard_read_start(run.held, &own.read);
    steps_until_slices(&run, 1);
    write_begin(&run, 0, POINTS, 2, &write);
    steps_until(&run, &write.done);
    assert_ok(write.status, &write.err);
    shard_node_write_fini(&write);
    kith_shard_seal_start(run.held, &seal.job);
    steps_until(&run, &seal.done);
    assert_false(atomic_load(&own.done));
    assert_true(shard_node_wait(&run.node, &own.done));
    assert_int_equal(own.count, POINTS);
    assert_true(own.whole);
    for (uint32_t i = 0; i < POINTS; i++)
        assert_int_equal(own.versions[i], 1);
    fixture_end(&run);
}

/* --- ends --- */

static void test_read__ends_at_its_deadline_between_slices(void **state) {
    (void)state;
    fixture run;
    reading own;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    write_all(&run, 0, POINTS, 1);
    reading_begin(&run, &own, 1, POINTS);
    own.read.deadline_ns = kith_env_now_ns(run.node.env) + SECOND;
    kith_shard_read_start(run.held, &own.read);
    steps_until_slices(&run, 2);
    sim_env_pause(run.node.sim, true);
    sim_env_run_for(run.node.sim, 2 * SECOND);
    sim_env_pause(run.node.sim, false);
    assert_true(shard_node_wait(&run.node, &own.done));
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_int_equal(run.node.counters.read_slices, 3);
    fixture_end(&run);
}

static void test_read__ends_between_slices_when_it_is_cancelled(void **state) {
    (void)state;
    fixture run;
    reading own;
    atomic_bool cancelled = false;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    write_all(&run, 0, POINTS, 1);
    for (int kind = 0; kind < 2; kind++) {
        uint64_t before = run.node.counters.read_slices;
        atomic_store(&cancelled, false);
        reading_begin(&run, &own, kind, POINTS);
        own.read.cancelled = &cancelled;
        kith_shard_read_start(run.held, &own.read);
        steps_until_slices(&run, before + 2);
        atomic_store(&cancelled, true);
        assert_true(shard_node_wait(&run.node, &own.done));
        assert_int_equal(own.status, KITH_CANCELLED);
        assert_int_equal(run.node.counters.read_slices, before + 3);
    }
    fixture_end(&run);
}

/* Pages by bytes: none passes the bound unless it is one point, and together they are every point once. */
static void test_read__bounded_pages_are_every_point_once(void **state) {
    (void)state;
    fixture run;
    reading own;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    write_all(&run, 0, POINTS, 1);
    for (size_t bytes_max = 1; bytes_max < 100000; bytes_max *= 10) {
        uint64_t at = 0;
        for (bool more = true; more; at = own.next) {
            reading_begin(&run, &own, 1, POINTS);
            own.read.has_from = true;
            own.read.from = kith_id_of_number(at);
            own.read.bytes_max = bytes_max;
            reading_wait(&run, &own);
            assert_int_equal(own.status, KITH_OK);
            assert_true(own.count == 1 || own.count * sizeof(kith_shard_point) <= bytes_max);
            for (uint32_t i = 0; i < own.count; i++)
                assert_int_equal(own.numbers[i], at + i);
            more = own.has_next;
            if (!more) assert_int_equal(at + own.count, POINTS);
            if (more) assert_int_equal(own.next, at + own.count);
        }
    }
    fixture_end(&run);
}

/* --- on threads --- */

/* Each op writes all points with one version: a read that shows two has not seen one moment; one that shows less than
 * was acknowledged before it began has missed a write. */
static void one_moment_on_threads(shard_node_world world) {
    fixture run;
    reading own[4];
    uint64_t acknowledged = 0;
    fixture_begin(&run, fixture_options(world), &schema);
    for (uint32_t version = 1; version <= test_scaled(60); version++) {
        shard_node_write write;
        write_begin(&run, 0, 50, version, &write);
        for (uint32_t i = 0; i < 4; i++) {
            reading_begin(&run, &own[i], i % 2, 50);
            kith_shard_read_start(run.held, &own[i].read);
        }
        assert_true(shard_node_wait(&run.node, &write.done));
        const bool written = write.status == KITH_OK;
        if (!written) assert_int_equal(write.status, KITH_BUSY); /* on a busy machine sealing is late */
        shard_node_write_fini(&write);
        for (uint32_t i = 0; i < 4; i++) {
            assert_true(shard_node_wait(&run.node, &own[i].done));
            assert_int_equal(own[i].status, KITH_OK);
            if (own[i].count == 0 && acknowledged == 0) continue;
            assert_int_equal(own[i].count, 50);
            assert_true(own[i].whole);
            for (uint32_t j = 0; j < 50; j++)
                assert_int_equal(own[i].versions[j], own[i].versions[0]);
            assert_true(own[i].versions[0] >= acknowledged);
        }
        if (written) acknowledged = version;
    }
    assert_true(acknowledged > 0);
    fixture_end(&run);
}

static void test_read__is_of_one_moment_on_threads(void **state) {
    (void)state;
    one_moment_on_threads(SHARD_NODE_SIM_STORE);
    one_moment_on_threads(SHARD_NODE_REAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read__takes_as_many_slices_as_its_points_need),
        cmocka_unit_test(test_read__writes_come_between_slices_and_are_not_seen),
        cmocka_unit_test(test_read__outlives_the_segments_it_began_with),
        cmocka_unit_test(test_read__ends_at_its_deadline_between_slices),
        cmocka_unit_test(test_read__ends_between_slices_when_it_is_cancelled),
        cmocka_unit_test(test_read__bounded_pages_are_every_point_once),
        cmocka_unit_test(test_read__is_of_one_moment_on_threads),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_read", tests, NULL, NULL);
}
