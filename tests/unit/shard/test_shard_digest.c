/* Digests of slots: equal on equal replicas, and different exactly where something is lost. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/log.h"
#include "host/shard/shard_digest.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS 1000000ULL

static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 5, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8}}};

/* --- asking --- */

typedef struct asking {
    kith_shard_digests digests;
    shard_node *node;
    uint64_t *sums;
    uint32_t point_count;
    uint64_t point_number; /* id of the last one */
    uint64_t point_sum;
    kith_status status;
    uint64_t sequence;
    kith_err err;
    atomic_bool done;
} asking;

static void point_seen(kith_shard_digests *digests, const kith_id *id, uint64_t sequence, uint64_t digest) {
    asking *ask = (asking *)digests;
    (void)sequence;
    ask->point_count++;
    ask->point_sum += digest;
    ask->point_number = id->number;
}

static void asked(kith_shard_digests *digests, kith_status status, uint64_t sequence, const kith_err *err) {
    asking *ask = (asking *)digests;
    ask->status = status;
    ask->sequence = sequence;
    if (err) ask->err = *err;
    shard_node_signal(ask->node, &ask->done);
}

static void ask_begin(fixture *run, asking *ask, uint32_t slot_first, uint32_t slot_count, uint64_t at) {
    *ask = (asking){.digests = {.slot_first = slot_first,
                        .slot_count = slot_count,
                        .at_sequence = at,
                        .deadline_ns = kith_env_now_ns(run->node.env) + 20000 * MS,
                        .point = point_seen,
                        .done = asked},
        .node = &run->node,
        .sums = kith_alloc_array(slot_count, sizeof(uint64_t))};
    ask->digests.digests_out = ask->sums;
    kith_shard_digests_start(run->held, &ask->digests);
}

static void ask_wait(asking *ask, kith_status status) {
    assert_true(shard_node_wait(ask->node, &ask->done));
    if (ask->status != status) fail_msg("%s: %s", kith_status_name(ask->status), ask->err.text);
}

static void ask_all(fixture *run, asking *ask) {
    ask_begin(run, ask, 0, KITH_SLOTS, 0);
    ask_wait(ask, KITH_OK);
}

static void ask_fini(asking *ask) {
    kith_free(ask->sums);
}

static uint64_t digest_of(fixture *run) {
    uint64_t digest = 0;
    kith_err err;
    assert_ok(shard_node_digest(&run->node, run->held, &digest, &err), &err);
    return digest;
}

/* --- equal --- */

static void write_both(fixture *runs) {
    shard_workload_op made;
    kith_write_result result;
    kith_err err;
    shard_workload_make(&runs[0].workload, &made);
    for (int i = 0; i < 2; i++) {
        kith_status status;
        do {
            status = shard_node_write_op(&runs[i].node, runs[i].held, &schema, &made.op, &result, &err);
        } while (status == KITH_BUSY && !runs[i].node.sim);
        assert_ok(status, &err);
    }
    kith_arena_fini(&made.arena);
}

/* The same content, cut into segments in another way. */
static void begin_both(fixture *runs, shard_node_world world, uint32_t write_count) {
    shard_node_options options = fixture_options(world);
    fixture_begin(&runs[0], options, &schema);
    options.seed++;
    options.seal_rows = 1000;
    fixture_begin(&runs[1], options, &schema);
    for (uint32_t i = 0; i < write_count; i++)
        write_both(runs);
}

static void check_equal(shard_node_world world) {
    fixture runs[2];
    asking asks[2];
    begin_both(runs, world, 150);
    for (int i = 0; i < 2; i++) {
        uint64_t sum = 0;
        ask_all(&runs[i], &asks[i]);
        for (uint32_t slot = 0; slot < KITH_SLOTS; slot++)
            sum += asks[i].sums[slot];
        assert_true(sum == digest_of(&runs[i]));
        assert_int_equal(asks[i].sequence, 150);
        assert_int_equal(asks[i].point_count, kith_shard_count(runs[i].held));
    }
    assert_memory_equal(asks[0].sums, asks[1].sums, KITH_SLOTS * sizeof(uint64_t));
    for (int i = 0; i < 2; i++) {
        ask_fini(&asks[i]);
        fixture_end(&runs[i]);
    }
}

static void test_digest__of_slots_is_equal_however_the_rows_are_cut(void **state) {
    (void)state;
    check_equal(SHARD_NODE_SIM);
    check_equal(SHARD_NODE_REAL);
}

static void test_digest__takes_more_points_than_a_slice(void **state) {
    (void)state;
    fixture run;
    asking all, part;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    run.workload.id_count = 5000;
    run.workload.points_max = 50;
    for (int i = 0; i < 200; i++)
        fixture_write(&run);
    assert_true(kith_shard_count(run.held) > 2100);
    ask_all(&run, &all);
    for (uint32_t first = 0; first < KITH_SLOTS; first += 5000) {
        uint32_t count = KITH_SLOTS - first < 5000 ? KITH_SLOTS - first : 5000;
        ask_begin(&run, &part, first, count, 0);
        ask_wait(&part, KITH_OK);
        assert_memory_equal(part.sums, all.sums + first, count * sizeof(uint64_t));
        ask_fini(&part);
    }
    ask_fini(&all);
    fixture_end(&run);
}

/* --- differences --- */

static void upsert(fixture *run, uint64_t number, const char *payload) {
    float vector[3] = {1, 2, 3};
    kith_write_result result;
    kith_err err;
    kith_op_point point = {.id = kith_id_of_number(number),
        .field_mask = 1,
        .vectors = {(const uint8_t *)vector},
        .payload = payload,
        .payload_bytes = (uint32_t)strlen(payload)};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    assert_ok(shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err), &err);
}

typedef enum damage { DAMAGE_PAYLOAD, DAMAGE_SEQUENCE, DAMAGE_MISSING, DAMAGE_KINDS } damage;

/* Behind the shard's back. */
static void store_damage(fixture *run, uint64_t number, damage kind) {
    uint8_t key[8 + KITH_ID_CANONICAL_BYTES_MAX];
    kith_id id = kith_id_of_number(number);
    kith_buf value;
    kith_err err;
    kith_store_u64_be(key, run->shard.id);
    size_t key_bytes = 8 + kith_id_order_key(&id, key + 8);
    kith_buf_init(&value);
    assert_ok(kith_store_get(run->node.store, KITH_STORE_POINTS, key, key_bytes, &value, &err), &err);
    kith_store_batch *batch = kith_store_batch_create(run->node.store);
    value.data[kind == DAMAGE_PAYLOAD ? value.bytes - 1 : 0] ^= 1;
    if (kind == DAMAGE_MISSING)
        kith_store_batch_remove(batch, KITH_STORE_POINTS, key, key_bytes);
    else
        kith_store_batch_put(batch, KITH_STORE_POINTS, key, key_bytes, value.data, value.bytes);
    assert_ok(kith_store_write(run->node.store, batch, &err), &err);
    kith_store_batch_destroy(batch);
    kith_buf_fini(&value);
}

static void check_damage(damage kind) {
    fixture run;
    asking before, after, slot_ask;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    for (uint64_t i = 0; i < 100; i++)
        upsert(&run, i, "{\"a\":1}");
    ask_all(&run, &before);
    store_damage(&run, 42, kind);
    ask_all(&run, &after);
    kith_id id = kith_id_of_number(42);
    for (uint32_t slot = 0; slot < KITH_SLOTS; slot++)
        assert_int_equal(before.sums[slot] != after.sums[slot], slot == kith_id_slot(&id));
    ask_begin(&run, &slot_ask, kith_id_slot(&id), 1, 0);
    ask_wait(&slot_ask, KITH_OK);
    assert_true(slot_ask.sums[0] == after.sums[kith_id_slot(&id)]);
    assert_true(slot_ask.sums[0] == slot_ask.point_sum);
    assert_int_equal(slot_ask.point_count, kind == DAMAGE_MISSING ? 0 : 1);
    if (kind != DAMAGE_MISSING) assert_int_equal(slot_ask.point_number, 42);
    ask_fini(&before);
    ask_fini(&after);
    ask_fini(&slot_ask);
    fixture_end(&run);
}

static void test_digest__of_a_damaged_point_differs_in_its_slot_alone(void **state) {
    (void)state;
    for (damage kind = DAMAGE_PAYLOAD; kind < DAMAGE_KINDS; kind++)
        check_damage(kind);
}

/* --- moments --- */

#define BURST 6u

/* Many writes that would be one round. */
static void burst_begin(fixture *run, shard_node_write *writes) {
    static const float vector[3] = {1, 2, 3};
    for (uint32_t i = 0; i < BURST; i++) {
        kith_op_point point = {
            .id = kith_id_of_number(i), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
        kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
        shard_node_write_begin(&run->node, run->held, &schema, &op, UINT64_MAX, &writes[i]);
    }
}

static void burst_end(fixture *run, shard_node_write *writes) {
    for (uint32_t i = 0; i < BURST; i++) {
        assert_true(shard_node_wait(&run->node, &writes[i].done));
        assert_ok(writes[i].status, &writes[i].err);
        shard_node_write_fini(&writes[i]);
    }
}

static void check_moment(shard_node_world world) {
    fixture run;
    asking asks[BURST];
    shard_node_write writes[BURST];
    fixture_begin(&run, fixture_options(world), &schema);
    for (uint32_t i = 0; i < BURST; i++)
        ask_begin(&run, &asks[i], 0, KITH_SLOTS, i + 1);
    burst_begin(&run, writes);
    for (uint32_t i = 0; i < BURST; i++) {
        ask_wait(&asks[i], KITH_OK);
        assert_int_equal(asks[i].sequence, i + 1);
        assert_int_equal(asks[i].point_count, i + 1);
        ask_fini(&asks[i]);
    }
    burst_end(&run, writes);
    fixture_end(&run);
}

static void test_digest__is_as_of_the_entry_asked_for(void **state) {
    (void)state;
    check_moment(SHARD_NODE_SIM);
    check_moment(SHARD_NODE_REAL);
}

static void test_digest__of_an_entry_that_passed_is_not_found(void **state) {
    (void)state;
    fixture run;
    asking ask;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, "{}");
    upsert(&run, 2, "{}");
    ask_begin(&run, &ask, 0, 1, 1);
    ask_wait(&ask, KITH_NOT_FOUND);
    assert_int_equal(ask.sequence, 2);
    ask_fini(&ask);
    fixture_end(&run);
}

static void test_digest__of_an_entry_that_does_not_come_ends_at_its_deadline(void **state) {
    (void)state;
    fixture run;
    asking ask;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, "{}");
    ask_begin(&run, &ask, 0, 1, 5);
    sim_env_run_for(run.node.sim, 19000 * MS);
    assert_false(atomic_load(&ask.done));
    ask_wait(&ask, KITH_DEADLINE);
    assert_int_equal(ask.sequence, 1);
    ask_fini(&ask);
    fixture_end(&run);
}

static void test_digest__of_a_shard_that_closes_is_closed(void **state) {
    (void)state;
    fixture run;
    asking waiting, early;
    fixture_begin(&run, fixture_options(SHARD_NODE_SIM), &schema);
    upsert(&run, 1, "{}");
    ask_begin(&run, &waiting, 0, 1, 5);
    sim_env_run(run.node.sim);
    ask_begin(&run, &early, 0, 1, 0);
    uint64_t now_ns = kith_env_now_ns(run.node.env);
    fixture_close(&run);
    assert_in_range(kith_env_now_ns(run.node.env) - now_ns, 0, 1000 * MS);
    assert_true(atomic_load(&waiting.done) && atomic_load(&early.done));
    assert_int_equal(waiting.status, KITH_CLOSED);
    ask_fini(&waiting);
    ask_fini(&early);
    fixture_end(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest__of_slots_is_equal_however_the_rows_are_cut),
        cmocka_unit_test(test_digest__takes_more_points_than_a_slice),
        cmocka_unit_test(test_digest__of_a_damaged_point_differs_in_its_slot_alone),
        cmocka_unit_test(test_digest__is_as_of_the_entry_asked_for),
        cmocka_unit_test(test_digest__of_an_entry_that_passed_is_not_found),
        cmocka_unit_test(test_digest__of_an_entry_that_does_not_come_ends_at_its_deadline),
        cmocka_unit_test(test_digest__of_a_shard_that_closes_is_closed),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
