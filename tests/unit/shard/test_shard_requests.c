/* What a client that repeats a request, or is refused one, may rely on. */
#include <string.h>

#include "host/base/limits.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define WINDOW 16u
/* Three requests of so many points with a payload are more than the log of shard_node.h may hold, one is not. */
#define POINTS (40u * (1u << 20) / KITH_PAYLOAD_BYTES_MAX)

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
static const float vector[3] = {1, 2, 3};

/* Request `number` writes `count` points from number * POINTS on. */
static void begin(fixture *run, uint64_t number, uint32_t count, shard_node_write *write) {
    static kith_op_point points[POINTS];
    static char payload[KITH_PAYLOAD_BYTES_MAX];
    memset(payload, ' ', sizeof payload);
    for (uint32_t i = 0; i < count; i++) {
        points[i] = (kith_op_point){.id = kith_id_of_number(number * POINTS + i),
            .field_mask = 1,
            .vectors = {(const uint8_t *)vector}};
        if (count == 1) continue;
        points[i].payload = payload;
        points[i].payload_bytes = sizeof payload;
    }
    kith_op op = {.kind = KITH_OP_UPSERT,
        .request_id = {.client = "0123456789abcde", .number = number},
        .point_count = count,
        .points = points};
    shard_node_write_begin(&run->node, run->held, &schema, &op, UINT64_MAX, write);
}

static kith_status finish(fixture *run, shard_node_write *write) {
    assert_true(shard_node_wait(&run->node, &write->done));
    shard_node_write_fini(write);
    return write->status;
}

static void test_requests__a_smaller_window_remembers_the_newest(void **state) {
    (void)state;
    fixture run;
    shard_node_write write;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.request_window = WINDOW;
    fixture_begin(&run, options, &schema);
    for (uint64_t number = 1; number <= WINDOW + 4; number++) {
        begin(&run, number, 1, &write);
        assert_int_equal(finish(&run, &write), KITH_OK);
        assert_int_equal(write.result.sequence, number);
    }
    kith_err err;
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err); /* so that the window comes from the store */
    fixture_close(&run);
    run.node.options.request_window = WINDOW / 4;
    fixture_open(&run);
    for (uint64_t number = WINDOW + 1; number <= WINDOW + 4; number++) {
        begin(&run, number, 1, &write);
        assert_int_equal(finish(&run, &write), KITH_OK);
        assert_true(write.result.repeated);
        assert_int_equal(write.result.sequence, number);
    }
    fixture_end(&run);
}

/* The log refuses what is more than it may hold, and keeps nothing of it: that is BUSY and not an unknown outcome, and
 * the same request is done when it comes again. */
static void test_requests__refused_by_a_full_log_is_busy_and_can_be_repeated(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    uint32_t refused = 0;
    for (uint64_t i = 0; i < 4; i++) { /* whether the log writes in between is the seed's choice */
        fixture run;
        shard_node_write writes[3];
        shard_node_options options = fixture_options(SHARD_NODE_SIM);
        options.seed = seed + i;
        options.write_queue_bytes_max = 1 << 30;
        fixture_begin(&run, options, &schema);
        for (uint64_t w = 0; w < 3; w++)
            begin(&run, 1 + w, POINTS, &writes[w]);
        for (uint64_t w = 0; w < 3; w++) {
            if (finish(&run, &writes[w]) == KITH_OK) continue;
            assert_int_equal(writes[w].status, KITH_BUSY);
            refused++;
            begin(&run, 1 + w, POINTS, &writes[w]);
            assert_int_equal(finish(&run, &writes[w]), KITH_OK);
            assert_false(writes[w].result.repeated);
        }
        assert_int_equal(kith_shard_count(run.held), 3 * POINTS);
        fixture_end(&run);
    }
    assert_int_not_equal(refused, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests__a_smaller_window_remembers_the_newest),
        cmocka_unit_test(test_requests__refused_by_a_full_log_is_busy_and_can_be_repeated),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_requests", tests, NULL, NULL);
}
