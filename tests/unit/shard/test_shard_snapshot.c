/* Copies of a shard: equal to it, of one moment, and on the other side either whole or not there. */
#include <stdio.h>
#include <string.h>

#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"
#include "host/shard/shard_snapshot_head.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_copy.h"
#include "tests/unit/shard/shard_fixture.h"

#define MS 1000000ULL

static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 5, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8}}};

/* An install was begun and has not ended well. */
static bool install_is_marked(kith_shard_node *node, uint64_t shard_id) {
    kith_err err;
    return shard_install_mark_check(node, shard_id, &err) == KITH_CORRUPT;
}

/* Two nodes: on the first the shard, on the second its copy. */
typedef struct pair {
    fixture from;
    fixture to;
    kith_rng rng;
    kith_buf bytes;
} pair;

static void pair_begin_of(
    pair *nodes, const kith_schema *of, shard_node_options options, uint32_t write_count) {
    fixture_begin(&nodes->from, options, of);
    options.seed++;
    fixture_begin(&nodes->to, options, of);
    kith_rng_init(&nodes->rng, options.seed);
    kith_buf_init(&nodes->bytes);
    for (uint32_t i = 0; i < write_count; i++)
        fixture_write(&nodes->from);
}

static void pair_begin_with(pair *nodes, shard_node_options options, uint32_t write_count) {
    pair_begin_of(nodes, &schema, options, write_count);
}

static void pair_begin(pair *nodes, shard_node_world world, uint32_t write_count) {
    pair_begin_with(nodes, fixture_options(world), write_count);
}

/* Also of a node that runs without the shard. */
static void node_end(fixture *run) {
    if (!run->held && run->node.set) shard_node_close(&run->node);
    fixture_end(run);
}

static void pair_end(pair *nodes) {
    kith_buf_fini(&nodes->bytes);
    node_end(&nodes->from);
    node_end(&nodes->to);
}

static kith_shard_snapshot *take(fixture *run) {
    kith_shard_snapshot *snapshot;
    kith_err err;
    assert_ok(shard_copy_take(&run->node, run->held, &snapshot, &err), &err);
    return snapshot;
}

/* The bytes of a copy of now. */
static void bytes_take(pair *nodes) {
    kith_shard_snapshot *snapshot = take(&nodes->from);
    shard_copy_read(snapshot, &nodes->rng, &nodes->bytes);
    kith_shard_snapshot_end(snapshot);
}

/* The shard is closed, its node runs. */
static void shard_close(fixture *run) {
    kith_err err;
    kith_shard_set_release(run->node.set, run->held);
    run->held = NULL;
    assert_ok(shard_node_drop(&run->node, run->shard.id, &err), &err);
}

static void copy_install(pair *nodes) {
    kith_err err;
    fixture *to = &nodes->to;
    assert_ok(shard_copy_install(&to->node, &to->shard, &nodes->bytes, &nodes->rng, &err), &err);
    assert_false(install_is_marked(&to->node.node, to->shard.id));
    to->held = shard_copy_open(&to->node, &to->shard);
    oracle_destroy(to->oracle);
    to->oracle = oracle_copy(nodes->from.oracle);
}

static uint64_t digest_of(fixture *run) {
    uint64_t digest = 0;
    kith_err err;
    assert_ok(shard_node_digest(&run->node, run->held, &digest, &err), &err);
    return digest;
}

static void file_count(void *ctx, const kith_dir_entry *entry) {
    (void)entry;
    (*(uint32_t *)ctx)++;
}

static uint32_t segment_files(fixture *run) {
    kith_err err;
    uint32_t count = 0;
    assert_ok(kith_dir_list(run->node.env, run->node.node.segment_dir, file_count, &count, &err), &err);
    return count;
}

/* The node runs, without the shard open. */
static void reopen_without_shard(fixture *run) {
    kith_err err;
    fixture_close(run);
    assert_ok(shard_node_open(&run->node, NULL, 0, &err), &err);
}

/* --- equal --- */

/* The same op to both. */
static void write_both(pair *nodes) {
    shard_workload_op made;
    kith_write_result results[2];
    fixture *runs[2] = {&nodes->from, &nodes->to};
    kith_err err;
    shard_workload_make(&nodes->from.workload, &made);
    for (int i = 0; i < 2; i++) {
        kith_status status;
        do {
            status = shard_node_write_op(&runs[i]->node, runs[i]->held, &schema, &made.op, &results[i], &err);
        } while (status == KITH_BUSY && !runs[i]->node.sim);
        assert_ok(status, &err);
        oracle_apply(runs[i]->oracle, &made.op, results[i].sequence);
    }
    assert_int_equal(results[0].sequence, results[1].sequence);
    assert_int_equal(results[0].points_changed, results[1].points_changed);
    kith_arena_fini(&made.arena);
}

static void check_copy(shard_node_world world, uint32_t write_count) {
    pair nodes;
    pair_begin(&nodes, world, write_count);
    shard_close(&nodes.to);
    uint32_t files = segment_files(&nodes.from);
    bytes_take(&nodes);
    if (nodes.from.node.sim) assert_int_equal(segment_files(&nodes.from), files);
    copy_install(&nodes);
    assert_true(digest_of(&nodes.from) == digest_of(&nodes.to));
    fixture_compare(&nodes.to, 20);
    for (uint32_t i = 0; i < 40; i++)
        write_both(&nodes);
    assert_true(digest_of(&nodes.from) == digest_of(&nodes.to));
    fixture_close(&nodes.to);
    fixture_open(&nodes.to);
    assert_true(digest_of(&nodes.from) == digest_of(&nodes.to));
    fixture_compare(&nodes.to, 20);
    pair_end(&nodes);
}

static void test_snapshot__installed_is_the_shard(void **state) {
    (void)state;
    check_copy(SHARD_NODE_SIM, 0);
    check_copy(SHARD_NODE_SIM, 3);
    check_copy(SHARD_NODE_SIM, 150);
    check_copy(SHARD_NODE_REAL, 100);
}

static void bytes_most(void *ctx, const kith_dir_entry *entry) {
    uint64_t *most = ctx;
    if (entry->bytes > *most) *most = entry->bytes;
}

/* Files are written in pieces of KITH_FILE_HUGE_BYTES on either side. */
static void test_snapshot__files_of_several_pieces(void **state) {
    (void)state;
    static const kith_schema long_vectors = {.field_count = 1,
        .fields = {{.name = "", .dim = KITH_DIM_MAX, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
    pair nodes;
    kith_err err;
    uint64_t largest = 0;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.seal_bytes = 16 << 20;
    options.seal_rows = 1000;
    options.merge_bytes_max = 32 << 20;
    pair_begin_of(&nodes, &long_vectors, options, 40);
    shard_close(&nodes.to);
    assert_ok(shard_node_seal(&nodes.from.node, nodes.from.held, &err), &err);
    bytes_take(&nodes);
    copy_install(&nodes);
    assert_ok(
        kith_dir_list(nodes.to.node.env, nodes.to.node.node.segment_dir, bytes_most, &largest, &err), &err);
    assert_true(largest > 2 * KITH_FILE_HUGE_BYTES);
    assert_true(digest_of(&nodes.from) == digest_of(&nodes.to));
    fixture_compare(&nodes.to, 4);
    pair_end(&nodes);
}

static void test_snapshot__says_its_entry(void **state) {
    (void)state;
    pair nodes;
    uint64_t epoch, sequence, bytes;
    pair_begin(&nodes, SHARD_NODE_SIM, 12);
    kith_shard_snapshot *snapshot = take(&nodes.from);
    kith_shard_snapshot_describe(snapshot, &epoch, &sequence, &bytes);
    assert_int_equal(epoch, 1);
    assert_int_equal(sequence, 12);
    kith_shard_snapshot_end(snapshot);
    pair_end(&nodes);
}

static void test_snapshot__repeat_gets_the_first_answer_from_the_copy(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_write_result first, again;
    float vector[3] = {1, 2, 3};
    kith_op_point point = {.id = kith_id_of_number(1), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    memcpy(op.request_id.client, "0123456789abcdef", 16);
    op.request_id.number = 5;
    pair_begin(&nodes, SHARD_NODE_SIM, 3);
    assert_ok(shard_node_write_op(&nodes.from.node, nodes.from.held, &schema, &op, &first, &err), &err);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    copy_install(&nodes);
    assert_ok(shard_node_write_op(&nodes.to.node, nodes.to.held, &schema, &op, &again, &err), &err);
    assert_true(again.repeated);
    assert_int_equal(again.sequence, first.sequence);
    pair_end(&nodes);
}

/* --- while it is held --- */

static void check_same_bytes(pair *nodes, kith_shard_snapshot *snapshot) {
    kith_buf again;
    kith_buf_init(&again);
    shard_copy_read(snapshot, &nodes->rng, &again);
    assert_int_equal(again.bytes, nodes->bytes.bytes);
    assert_memory_equal(again.data, nodes->bytes.data, again.bytes);
    kith_buf_fini(&again);
}

/* So that a transfer that was interrupted goes on anywhere. */
static void test_snapshot__stays_the_same_through_writes_merges_and_the_drop(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    pair_begin(&nodes, SHARD_NODE_SIM, 100);
    kith_shard_snapshot *snapshot = take(&nodes.from);
    uint64_t digest = digest_of(&nodes.from);
    shard_copy_read(snapshot, &nodes.rng, &nodes.bytes);
    uint64_t merges = nodes.from.node.counters.merges;
    for (uint32_t i = 0; i < 200; i++)
        fixture_write(&nodes.from);
    assert_ok(shard_node_seal(&nodes.from.node, nodes.from.held, &err), &err);
    assert_true(nodes.from.node.counters.merges > merges);
    check_same_bytes(&nodes, snapshot);
    shard_close(&nodes.from);
    assert_int_equal(segment_files(&nodes.from), 0);
    check_same_bytes(&nodes, snapshot);
    kith_shard_snapshot_end(snapshot);
    shard_close(&nodes.to);
    copy_install(&nodes);
    assert_true(digest_of(&nodes.to) == digest);
    pair_end(&nodes);
}

static void test_snapshot__read_at_its_end_gives_nothing(void **state) {
    (void)state;
    pair nodes;
    uint64_t epoch, sequence, bytes;
    uint8_t data[8];
    size_t read = 9;
    kith_err err;
    pair_begin(&nodes, SHARD_NODE_SIM, 5);
    kith_shard_snapshot *snapshot = take(&nodes.from);
    kith_shard_snapshot_describe(snapshot, &epoch, &sequence, &bytes);
    assert_ok(kith_shard_snapshot_read(snapshot, bytes, data, sizeof data, &read, &err), &err);
    assert_int_equal(read, 0);
    assert_ok(kith_shard_snapshot_read(snapshot, bytes - 3, data, sizeof data, &read, &err), &err);
    assert_int_equal(read, 3);
    kith_shard_snapshot_end(snapshot);
    pair_end(&nodes);
}

/* --- refusals --- */

typedef struct late_take {
    kith_shard_snapshot_begin begin;
    kith_status status;
    uint32_t done_count;
} late_take;

static void late_done(kith_shard_snapshot_begin *begin, kith_status status, kith_shard_snapshot *snapshot,
    const kith_err *err) {
    late_take *late = (late_take *)begin;
    (void)err;
    late->status = status;
    late->done_count++;
    kith_shard_snapshot_end(snapshot);
}

static void test_snapshot__shard_that_closes_meanwhile_is_closed(void **state) {
    (void)state;
    pair nodes;
    late_take late = {.begin = {.done = late_done}};
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    kith_shard_snapshot_begin_start(nodes.from.held, &late.begin);
    fixture_close(&nodes.from);
    assert_int_equal(late.done_count, 1);
    assert_int_equal(late.status, KITH_CLOSED);
    fixture_open(&nodes.from);
    fixture_compare(&nodes.from, 5);
    pair_end(&nodes);
}

static void test_snapshot__failed_file_is_told_and_leaves_none(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_shard_snapshot *snapshot;
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    sim_env_run(nodes.from.node.sim);
    uint32_t files = segment_files(&nodes.from);
    for (int i = 0; i < 2; i++) {
        sim_env_fail_next(nodes.from.node.sim, i == 0 ? SIM_FAIL_CREATE : SIM_FAIL_WRITE, KITH_NO_SPACE);
        kith_status status = shard_copy_take(&nodes.from.node, nodes.from.held, &snapshot, &err);
        assert_int_equal(status, KITH_NO_SPACE);
        assert_int_equal(segment_files(&nodes.from), files);
    }
    kith_shard_snapshot_end(take(&nodes.from));
    pair_end(&nodes);
}

#define RESERVE (2u << 20)

static uint64_t free_bytes(fixture *run) {
    uint64_t bytes = 0;
    kith_err err;
    assert_ok(kith_env_free_bytes(run->node.env, run->node.node.segment_dir, &bytes, &err), &err);
    return bytes;
}

/* So many bytes are free from now on. */
static void free_bytes_set(fixture *run, uint64_t bytes) {
    sim_env_space_set(run->node.sim, UINT64_MAX);
    sim_env_space_set(run->node.sim, UINT64_MAX - free_bytes(run) + bytes);
}

/* The upsert of one point with the longest payload. */
static kith_status payload_write(fixture *run, uint64_t id) {
    static char payload[KITH_PAYLOAD_BYTES_MAX];
    float vector[3] = {1, 2, 3};
    kith_write_result result;
    kith_err err;
    memset(payload, ' ', sizeof payload);
    kith_op_point point = {.id = kith_id_of_number(id),
        .field_mask = 1,
        .vectors = {(const uint8_t *)vector},
        .payload = payload,
        .payload_bytes = sizeof payload};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    return shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err);
}

static void payloads_begin(fixture *run) {
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.disk_reserve_bytes = RESERVE;
    fixture_begin(run, options, &schema);
    for (uint64_t id = 0; id < 6; id++)
        assert_int_equal(payload_write(run, id), KITH_OK);
}

static void expect_no_room(fixture *run) {
    kith_shard_snapshot *snapshot;
    kith_err err;
    kith_status status = shard_copy_take(&run->node, run->held, &snapshot, &err);
    assert_int_equal(status, KITH_NO_SPACE);
    assert_non_null(strstr(err.text, "shard 7"));
    assert_non_null(strstr(err.text, "2097152 stay in reserve"));
}

/* Below it writes are refused: a copy for another must not be what brings a node there. */
static void test_snapshot__leaves_the_disk_its_reserve(void **state) {
    (void)state;
    fixture run;
    kith_err err;
    payloads_begin(&run);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    uint32_t files = segment_files(&run);
    free_bytes_set(&run, RESERVE + 5 * KITH_PAYLOAD_BYTES_MAX); /* one point less than the store's part has */
    expect_no_room(&run);
    assert_true(free_bytes(&run) >= RESERVE);
    assert_int_equal(segment_files(&run), files);
    sim_env_run_for(run.node.sim, 200 * MS);
    assert_int_equal(payload_write(&run, 6), KITH_OK);
    sim_env_space_set(run.node.sim, UINT64_MAX);
    kith_shard_snapshot_end(take(&run));
    fixture_end(&run);
}

/* Where writes are refused already, shards that are moved away make room. */
static void test_snapshot__takes_half_of_a_reserve_that_is_used(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_shard_snapshot *snapshot;
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    fixture *run = &nodes.from;
    run->node.node.disk_reserve_bytes = RESERVE;
    free_bytes_set(run, RESERVE - 1);
    kith_shard_snapshot_end(take(run));
    free_bytes_set(run, RESERVE / 2 + 100);
    assert_int_equal(shard_copy_take(&run->node, run->held, &snapshot, &err), KITH_NO_SPACE);
    sim_env_space_set(run->node.sim, UINT64_MAX);
    pair_end(&nodes);
}

static void test_snapshot__writes_no_segment_where_there_is_no_room_for_it(void **state) {
    (void)state;
    fixture run;
    payloads_begin(&run);
    sim_env_run(run.node.sim);
    free_bytes_set(&run, RESERVE + 100);
    uint64_t ops = sim_env_op_count(run.node.sim);
    expect_no_room(&run);
    assert_int_equal(sim_env_op_count(run.node.sim), ops);
    sim_env_space_set(run.node.sim, UINT64_MAX);
    kith_shard_snapshot_end(take(&run));
    fixture_end(&run);
}

/* As two installs do, each of which found room for all of its copy. */
static void test_install__looks_for_room_again_at_each_file(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_shard_install *install;
    size_t head_bytes = 0;
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    nodes.to.node.node.disk_reserve_bytes = RESERVE;
    const uint8_t *data = nodes.bytes.data;
    assert_ok(shard_snapshot_head_bytes(data, &head_bytes, &err), &err);
    assert_ok(kith_shard_install_begin(&nodes.to.node.node, 7, &schema, &install, &err), &err);
    assert_ok(kith_shard_install_write(install, data, head_bytes, &err), &err);
    free_bytes_set(&nodes.to, RESERVE + 100);
    assert_int_equal(
        kith_shard_install_write(install, data + head_bytes, nodes.bytes.bytes - head_bytes, &err),
        KITH_NO_SPACE);
    assert_true(free_bytes(&nodes.to) >= RESERVE);
    kith_shard_install_destroy(install);
    sim_env_space_set(nodes.to.node.sim, UINT64_MAX);
    copy_install(&nodes);
    pair_end(&nodes);
}

static void test_install__without_space_is_refused_at_its_head(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    nodes.to.node.node.disk_reserve_bytes = UINT64_MAX;
    kith_status status = shard_copy_install(&nodes.to.node, &nodes.to.shard, &nodes.bytes, &nodes.rng, &err);
    assert_int_equal(status, KITH_NO_SPACE);
    assert_int_equal(segment_files(&nodes.to), 0);
    nodes.to.node.node.disk_reserve_bytes = 0;
    copy_install(&nodes);
    pair_end(&nodes);
}

static void expect_corrupt(pair *nodes, const char *what, size_t at) {
    kith_err err = {0};
    fixture *to = &nodes->to;
    kith_status status = shard_copy_install(&to->node, &to->shard, &nodes->bytes, &nodes->rng, &err);
    if (status != KITH_CORRUPT) fail_msg("%s %zu: %s, %s", what, at, kith_status_name(status), err.text);
    assert_int_equal(segment_files(to), 0);
    assert_true(install_is_marked(&to->node.node, to->shard.id));
}

static void test_install__flipped_byte_is_corrupt(void **state) {
    (void)state;
    pair nodes;
    pair_begin(&nodes, SHARD_NODE_SIM, 60);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    uint64_t count = test_scaled(300);
    for (uint64_t i = 0; i < count; i++) {
        size_t at = i < 200 ? (size_t)i : (size_t)kith_rng_below(&nodes.rng, nodes.bytes.bytes);
        uint8_t mask = (uint8_t)(1u << kith_rng_below(&nodes.rng, 8));
        nodes.bytes.data[at] ^= mask;
        expect_corrupt(&nodes, "flipped", at);
        nodes.bytes.data[at] ^= mask;
    }
    copy_install(&nodes);
    fixture_compare(&nodes.to, 5);
    pair_end(&nodes);
}

static void test_install__too_short_or_too_long_is_corrupt(void **state) {
    (void)state;
    pair nodes;
    pair_begin(&nodes, SHARD_NODE_SIM, 30);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    size_t whole = nodes.bytes.bytes;
    for (int i = 0; i < 30; i++) {
        nodes.bytes.bytes = i == 0 ? whole - 1 : (size_t)kith_rng_below(&nodes.rng, whole);
        expect_corrupt(&nodes, "cut at", nodes.bytes.bytes);
    }
    nodes.bytes.bytes = whole;
    kith_buf_u8(&nodes.bytes, 0);
    expect_corrupt(&nodes, "with a byte behind", whole);
    pair_end(&nodes);
}

static void test_install__of_another_shard_or_schema_is_corrupt(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_schema other = schema;
    other.fields[0].dim = 4;
    pair_begin(&nodes, SHARD_NODE_SIM, 60);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    shard_node_shard wrong[2] = {{.id = 8, .schema = &schema}, {.id = 7, .schema = &other}};
    for (int i = 0; i < 2; i++) {
        kith_status status = shard_copy_install(&nodes.to.node, &wrong[i], &nodes.bytes, &nodes.rng, &err);
        assert_int_equal(status, KITH_CORRUPT);
    }
    pair_end(&nodes);
}

/* --- forged, with right checksums --- */

#define HEAD_STORE_BYTES_AT 40u

static uint8_t *store_part(const kith_buf *bytes) {
    return bytes->data + bytes->bytes - kith_load_u64(bytes->data + HEAD_STORE_BYTES_AT);
}

/* The last record, which is a point where there are any. */
static uint8_t *last_record(const kith_buf *bytes) {
    uint8_t *end = bytes->data + bytes->bytes - 4, *last = NULL;
    for (uint8_t *at = store_part(bytes); at < end; at += 13 + kith_load_u32(at + 1) + kith_load_u64(at + 5))
        last = at;
    return last;
}

static void checksums_mend(kith_buf *bytes) {
    const uint8_t *store = store_part(bytes);
    uint8_t *end = bytes->data + bytes->bytes - 4;
    kith_store_u32(end, kith_crc32c(0, store, (size_t)(end - store)));
    size_t head_bytes = 16 + kith_load_u32(bytes->data + 12);
    kith_store_u32(bytes->data + head_bytes, kith_crc32c(0, bytes->data, head_bytes));
}

static void test_install__points_that_are_not_the_rows_are_corrupt(void **state) {
    (void)state;
    pair nodes;
    pair_begin(&nodes, SHARD_NODE_SIM, 60);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    checksums_mend(&nodes.bytes);
    kith_buf *bytes = &nodes.bytes;
    uint8_t *record = last_record(bytes);
    assert_int_equal(record[0], KITH_STORE_POINTS);
    uint8_t *sequence = record + 13 + kith_load_u32(record + 1);
    *sequence ^= 1;
    checksums_mend(bytes);
    expect_corrupt(&nodes, "a point of another sequence, at", (size_t)(sequence - bytes->data));
    *sequence ^= 1;
    uint64_t record_bytes = (uint64_t)(bytes->data + bytes->bytes - 4 - record);
    bytes->bytes -= record_bytes;
    kith_store_u64(
        bytes->data + HEAD_STORE_BYTES_AT, kith_load_u64(bytes->data + HEAD_STORE_BYTES_AT) - record_bytes);
    checksums_mend(bytes);
    expect_corrupt(&nodes, "a row without its point, at", bytes->bytes);
    pair_end(&nodes);
}

static void test_install__dropped_after_a_cut_is_gone(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    kith_shard_install *install;
    pair_begin(&nodes, SHARD_NODE_SIM, 60);
    shard_close(&nodes.to);
    bytes_take(&nodes);
    assert_ok(kith_shard_install_begin(&nodes.to.node.node, 7, &schema, &install, &err), &err);
    assert_ok(kith_shard_install_write(install, nodes.bytes.data, nodes.bytes.bytes / 2, &err), &err);
    assert_true(install_is_marked(&nodes.to.node.node, 7));
    kith_shard_install_destroy(install);
    assert_true(install_is_marked(&nodes.to.node.node, 7));
    assert_ok(shard_node_drop(&nodes.to.node, 7, &err), &err);
    assert_false(install_is_marked(&nodes.to.node.node, 7));
    nodes.to.held = shard_copy_open(&nodes.to.node, &nodes.to.shard);
    fixture_compare(&nodes.to, 3);
    pair_end(&nodes);
}

/* --- replicas --- */

/* A replica alone: what is durable is committed. */
typedef struct lone_gate {
    kith_shard_gate gate;
    fixture *run;
    uint64_t epoch, sequence;
    kith_shard *shard;
} lone_gate;

static kith_status lone_admit(
    void *ctx, size_t bytes, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err) {
    lone_gate *lone = ctx;
    (void)bytes, (void)err;
    *epoch_out = lone->epoch;
    *sequence_out = ++lone->sequence;
    return KITH_OK;
}

static void lone_durable(void *ctx, uint64_t sequence) {
    lone_gate *lone = ctx;
    kith_shard_commit(lone->shard, sequence);
}

static void lone_ignore(void *ctx, uint64_t sequence) {
    (void)ctx, (void)sequence;
}

static void lone_failed(void *ctx) {
    (void)ctx;
}

/* Opened again, empty, and with a gate. */
static void lone_open(lone_gate *lone, fixture *run, uint64_t epoch) {
    *lone = (lone_gate){.gate = {.ctx = lone,
                            .admit = lone_admit,
                            .appended = lone_ignore,
                            .durable = lone_durable,
                            .applied = lone_ignore,
                            .failed = lone_failed},
        .run = run,
        .epoch = epoch};
    fixture_close(run);
    run->shard.gate = &lone->gate;
    fixture_open(run);
    lone->shard = run->held;
}

typedef struct log_look {
    kith_shard *shard;
    kith_shard_log_state state;
} log_look;

static void log_look_run(void *ctx) {
    log_look *look = ctx;
    kith_shard_log_state_read(look->shard, &look->state);
}

static void log_expect(fixture *run, uint64_t first, uint64_t end_epoch, uint64_t end_sequence) {
    log_look look = {.shard = run->held};
    shard_node_on_owner(&run->node, log_look_run, &look);
    assert_int_equal(look.state.first, first);
    assert_int_equal(look.state.end_epoch, end_epoch);
    assert_int_equal(look.state.end_sequence, end_sequence);
    assert_int_equal(look.state.applied, end_sequence);
}

/* The log of the node still has the entries of what the copy replaced: fewer than the copy has, or more. */
static void check_stale_log(uint64_t stale_epoch, uint32_t stale_count) {
    pair nodes;
    lone_gate from, to;
    pair_begin(&nodes, SHARD_NODE_SIM, 0);
    lone_open(&from, &nodes.from, 3);
    lone_open(&to, &nodes.to, stale_epoch);
    for (int i = 0; i < 25; i++)
        fixture_write(&nodes.from);
    for (uint32_t i = 0; i < stale_count; i++)
        fixture_write(&nodes.to);
    bytes_take(&nodes);
    uint64_t digest = digest_of(&nodes.from);
    reopen_without_shard(&nodes.to);
    copy_install(&nodes);
    for (int i = 0; i < 3; i++) {
        assert_true(digest_of(&nodes.to) == digest);
        fixture_close(&nodes.to);
        fixture_open(&nodes.to);
        log_expect(&nodes.to, 26, 3, 25);
    }
    pair_end(&nodes);
}

static void test_install__entries_of_what_was_replaced_do_not_come_back(void **state) {
    (void)state;
    check_stale_log(2, 20);
    check_stale_log(2, 25);
    check_stale_log(2, 40);
    check_stale_log(3, 25);
}

/* --- the format --- */

#define GOLDEN_PATH KITH_SOURCE_DIR "/tests/golden/shard-snapshot-v1.kith"

static void golden_upsert(fixture *run, uint64_t number, bool named) {
    float first[3] = {(float)number, 2, 3};
    int8_t second[5] = {1, 2, 3, 4, (int8_t)number};
    kith_write_result result;
    kith_err err;
    kith_op_point point = {.id = kith_id_of_number(number),
        .field_mask = number % 3 == 0 ? 1 : 3,
        .vectors = {(const uint8_t *)first, number % 3 == 0 ? NULL : (const uint8_t *)second},
        .payload = "{\"a\":1}",
        .payload_bytes = 7};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    if (named) memcpy(op.request_id.client, "0123456789abcdef", 16);
    op.request_id.number = number;
    assert_ok(shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err), &err);
}

/* A sealed segment with a dead row, rows in memory, remembered requests. */
static void golden_content(fixture *run) {
    kith_err err;
    for (uint64_t i = 0; i < 6; i++)
        golden_upsert(run, i, i % 2);
    assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
    for (uint64_t i = 4; i < 8; i++)
        golden_upsert(run, i, false);
}

static void file_read(const char *path, kith_buf *bytes) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    kith_buf_clear(bytes);
    size_t read;
    do {
        read = fread(kith_buf_reserve(bytes, 4096), 1, 4096, file);
        (void)kith_buf_grow(bytes, read);
    } while (read > 0);
    fclose(file);
}

static void test_install__golden_file_still_installs(void **state) {
    (void)state;
    pair nodes;
    kith_err err;
    pair_begin(&nodes, SHARD_NODE_SIM, 0);
    golden_content(&nodes.from);
    shard_close(&nodes.to);
    file_read(GOLDEN_PATH, &nodes.bytes);
    copy_install(&nodes);
    assert_true(digest_of(&nodes.to) == digest_of(&nodes.from));
    assert_ok(shard_node_validate(&nodes.to.node, nodes.to.held, &err), &err);
    pair_end(&nodes);
}

/* --- crashes --- */

/* After the crash: what was there before, a mark, or the whole copy. */
static void check_after_crash(pair *nodes, bool over, uint64_t before, uint64_t copy) {
    kith_err err;
    fixture *to = &nodes->to;
    fixture_open(to);
    if (!over && kith_shard_health(to->held, &err) == KITH_CORRUPT) {
        assert_non_null(strstr(err.text, "was cut off"));
        assert_true(install_is_marked(&to->node.node, 7));
        reopen_without_shard(to);
        copy_install(nodes);
        assert_true(digest_of(to) == copy);
        return;
    }
    uint64_t digest = digest_of(to);
    assert_true(digest == copy || (!over && digest == before));
    assert_ok(shard_node_validate(&to->node, to->held, &err), &err);
}

/* True when it was over before operation number `op` of it. */
static bool crash_once(uint64_t op, sim_crash_mode mode) {
    pair nodes;
    kith_err err;
    shard_node_options options = fixture_options(SHARD_NODE_SIM);
    options.seed += 31 * op;
    pair_begin_with(&nodes, options, 25);
    for (int i = 0; i < 20; i++)
        fixture_write(&nodes.to);
    uint64_t before = digest_of(&nodes.to), copy = digest_of(&nodes.from);
    bytes_take(&nodes);
    reopen_without_shard(&nodes.to);
    sim_env_crash_at(nodes.to.node.sim, sim_env_op_count(nodes.to.node.sim) + op, mode);
    kith_status status = shard_copy_install(&nodes.to.node, &nodes.to.shard, &nodes.bytes, &nodes.rng, &err);
    bool over = !sim_env_crashed(nodes.to.node.sim);
    assert_int_equal(status == KITH_OK, over);
    if (over) sim_env_crash(nodes.to.node.sim, mode);
    shard_node_close(&nodes.to.node);
    shard_node_restart_machine(&nodes.to.node);
    check_after_crash(&nodes, over, before, copy);
    pair_end(&nodes);
    return over;
}

static void test_install__crash_at_every_operation_leaves_a_mark_or_all(void **state) {
    (void)state;
    for (sim_crash_mode mode = SIM_CRASH_KEEP_ALL; mode <= SIM_CRASH_TORN_UNORDERED; mode++) {
        uint64_t op = 0;
        while (!crash_once(op, mode))
            op++;
        assert_true(op > 5);
    }
}

/* Every crash that leaves a mark is an error event. */
static void log_nowhere(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx, (void)level, (void)line, (void)bytes;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot__installed_is_the_shard),
        cmocka_unit_test(test_snapshot__files_of_several_pieces),
        cmocka_unit_test(test_snapshot__says_its_entry),
        cmocka_unit_test(test_snapshot__repeat_gets_the_first_answer_from_the_copy),
        cmocka_unit_test(test_snapshot__stays_the_same_through_writes_merges_and_the_drop),
        cmocka_unit_test(test_snapshot__read_at_its_end_gives_nothing),
        cmocka_unit_test(test_snapshot__shard_that_closes_meanwhile_is_closed),
        cmocka_unit_test(test_snapshot__failed_file_is_told_and_leaves_none),
        cmocka_unit_test(test_snapshot__leaves_the_disk_its_reserve),
        cmocka_unit_test(test_snapshot__takes_half_of_a_reserve_that_is_used),
        cmocka_unit_test(test_snapshot__writes_no_segment_where_there_is_no_room_for_it),
        cmocka_unit_test(test_install__without_space_is_refused_at_its_head),
        cmocka_unit_test(test_install__looks_for_room_again_at_each_file),
        cmocka_unit_test(test_install__flipped_byte_is_corrupt),
        cmocka_unit_test(test_install__too_short_or_too_long_is_corrupt),
        cmocka_unit_test(test_install__of_another_shard_or_schema_is_corrupt),
        cmocka_unit_test(test_install__points_that_are_not_the_rows_are_corrupt),
        cmocka_unit_test(test_install__dropped_after_a_cut_is_gone),
        cmocka_unit_test(test_install__entries_of_what_was_replaced_do_not_come_back),
        cmocka_unit_test(test_install__golden_file_still_installs),
        cmocka_unit_test(test_install__crash_at_every_operation_leaves_a_mark_or_all),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, log_nowhere, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
