/* Stored metadata: round trips, the golden files, and what is refused. */
#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <string.h>

#include "host/codec/codec_meta.h"
#include "host/codec/codec_wire.h"

static kith_arena arena;
static kith_buf buf;
static kith_err err;

static int setup(void **state) {
    (void)state;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kith_arena_fini(&arena);
    kith_buf_fini(&buf);
    return 0;
}

/* Those of tests/golden: never change them. */
static kith_collection golden_collection(void) {
    kith_collection collection = {
        .id = 12, .name = "books", .shard_count = 3, .shard_id_first = 77, .created_wall_ms = 1700000000000};
    collection.schema.field_count = 2;
    collection.schema.fields[0] =
        (kith_field){.dim = 768, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_F16};
    collection.schema.fields[1] =
        (kith_field){.name = "title", .dim = 32, .metric = KITH_METRIC_L1, .type = KITH_TYPE_I8};
    return collection;
}

static kith_codec_meta_command golden_command(void) {
    return (kith_codec_meta_command){.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .request_id = {.client = "golden client 16", .number = 7},
        .collection = golden_collection()};
}

static kith_node golden_node(uint8_t i) {
    kith_node node = {.role = KITH_NODE_DATA, .zone = "north", .weight = 100};
    memset(node.id.bytes, i, sizeof node.id.bytes);
    snprintf(node.name, sizeof node.name, "data-%u", i);
    snprintf(node.address, sizeof node.address, "10.0.0.%u:7442", i);
    snprintf(node.grpc_address, sizeof node.grpc_address, "10.0.0.%u:7441", i);
    snprintf(node.http_address, sizeof node.http_address, "10.0.0.%u:7440", i);
    return node;
}

static kith_meta_shard golden_shards[3] = {{.epoch = 1, .replica_count = 2, .replicas = {1, 3}},
    {.epoch = 9, .replica_count = 1, .replicas = {3}},
    {.epoch = 1ULL << 40, .replica_count = 2, .replicas = {1, 3}}};

/* Field by field: padding is nobody's. */
static void collections_equal(const kith_collection *a, const kith_collection *b) {
    assert_int_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->shard_count, b->shard_count);
    assert_int_equal(a->shard_id_first, b->shard_id_first);
    assert_int_equal(a->created_wall_ms, b->created_wall_ms);
    assert_int_equal(a->replication_factor, b->replication_factor);
    assert_int_equal(a->schema.field_count, b->schema.field_count);
    for (uint32_t i = 0; i < a->schema.field_count; i++) {
        assert_string_equal(a->schema.fields[i].name, b->schema.fields[i].name);
        assert_int_equal(a->schema.fields[i].dim, b->schema.fields[i].dim);
        assert_int_equal(a->schema.fields[i].metric, b->schema.fields[i].metric);
        assert_int_equal(a->schema.fields[i].type, b->schema.fields[i].type);
    }
}

static void commands_equal(const kith_codec_meta_command *a, const kith_codec_meta_command *b) {
    assert_int_equal(a->kind, b->kind);
    assert_memory_equal(a->request_id.client, b->request_id.client, 16);
    assert_int_equal(a->request_id.number, b->request_id.number);
    collections_equal(&a->collection, &b->collection);
}

static void golden_equals(const char *name) {
    char path[512];
    uint8_t bytes[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", KITH_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is missing", path);
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(count, buf.bytes);
    assert_memory_equal(bytes, buf.data, count);
}

static void test_codec_meta__commands(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command(), decoded;
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-command-v1.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);

    command = (kith_codec_meta_command){
        .kind = KITH_CODEC_META_DROP_COLLECTION, .collection = {.id = 5, .name = "old"}};
    kith_buf_clear(&buf);
    kith_codec_meta_command_encode(&command, &buf);
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
}

static void test_codec_meta__snapshots(void **state) {
    (void)state;
    kith_meta_collection books = {.collection = golden_collection()};
    kith_meta_collection films = {.collection = golden_collection()};
    const kith_meta_collection *collections[] = {&books, &films};
    snprintf(films.collection.name, sizeof films.collection.name, "films");
    kith_codec_meta_snapshot snapshot = {.map_version = 9,
        .applied_index = 11,
        .collection_id_next = 13,
        .shard_id_next = 80,
        .collections = collections,
        .collection_count = 2};
    kith_codec_meta_snapshot decoded;
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    golden_equals("meta-snapshot-v1.bin");
    assert_ok(kith_codec_meta_snapshot_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.map_version, 9);
    assert_int_equal(decoded.applied_index, 11);
    assert_int_equal(decoded.collection_id_next, 13);
    assert_int_equal(decoded.shard_id_next, 80);
    assert_int_equal(decoded.collection_count, 2);
    assert_int_equal(decoded.node_number_next, 1);
    books.collection.replication_factor = films.collection.replication_factor = 1;
    for (int i = 0; i < 2; i++) {
        collections_equal(&decoded.collections[i]->collection, &collections[i]->collection);
        assert_int_equal(decoded.collections[i]->shards[2].epoch, 1);
        assert_int_equal(decoded.collections[i]->shards[2].replica_count, 0);
    }
}

static void shards_equal(const kith_meta_shard *a, const kith_meta_shard *b, bool with_epochs) {
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(a[i].epoch, with_epochs ? b[i].epoch : 1);
        assert_int_equal(a[i].replica_count, b[i].replica_count);
        assert_memory_equal(a[i].replicas, b[i].replicas, sizeof a[i].replicas);
    }
}

static void nodes_equal(const kith_node *a, const kith_node *b) {
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->role, b->role);
    assert_memory_equal(a->id.bytes, b->id.bytes, sizeof a->id.bytes);
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->address, b->address);
    assert_string_equal(a->grpc_address, b->grpc_address);
    assert_string_equal(a->http_address, b->http_address);
    assert_string_equal(a->zone, b->zone);
    assert_int_equal(a->weight, b->weight);
    assert_int_equal(a->draining, b->draining);
    assert_int_equal(a->down, b->down);
    assert_int_equal(a->up_map_version, b->up_map_version);
}

static void test_codec_meta__commands_of_a_cluster(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command(), decoded;
    command.collection.replication_factor = 2;
    command.shards = golden_shards;
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-command-v2.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    shards_equal(decoded.shards, golden_shards, false);

    command = (kith_codec_meta_command){.kind = KITH_CODEC_META_REGISTER_NODE,
        .request_id = golden_command().request_id,
        .node = golden_node(4)};
    kith_buf_clear(&buf);
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-register-v2.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    nodes_equal(&decoded.node, &command.node);

    for (int kind = KITH_CODEC_META_NODE_DOWN; kind <= KITH_CODEC_META_REMOVE_NODE; kind++) {
        command = (kith_codec_meta_command){.kind = (kith_codec_meta_kind)kind, .node = {.id = {{1, 2, 3}}}};
        command.node.draining = kind == KITH_CODEC_META_DRAIN_NODE;
        command.judged_map_version = kind == KITH_CODEC_META_NODE_DOWN ? 1ULL << 50 : 0;
        kith_buf_clear(&buf);
        kith_codec_meta_command_encode(&command, &buf);
        assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
        commands_equal(&decoded, &command);
        nodes_equal(&decoded.node, &command.node);
        assert_int_equal(decoded.judged_map_version, command.judged_map_version);
    }
}

static void test_codec_meta__snapshots_of_a_cluster(void **state) {
    (void)state;
    kith_meta_collection books = {.collection = golden_collection(), .shards = golden_shards};
    const kith_meta_collection *collections[] = {&books};
    books.collection.replication_factor = 2;
    kith_node nodes[] = {golden_node(4), golden_node(5)};
    nodes[0].number = 1;
    nodes[0].draining = true;
    nodes[0].up_map_version = 6;
    nodes[1].number = 3;
    nodes[1].down = true;
    nodes[1].up_map_version = 8;
    kith_codec_meta_answer answers[] = {
        {.request_id = {.client = "golden client 16", .number = 7},
            .changed = true,
            .message = "",
            .collection = &books.collection},
        {.request_id = {.client = "golden client 16", .number = 8},
            .status = KITH_NOT_FOUND,
            .message = "collection \"old\" does not exist"},
    };
    kith_codec_meta_snapshot snapshot = {.map_version = 9,
        .applied_index = 11,
        .collection_id_next = 13,
        .shard_id_next = 80,
        .node_number_next = 4,
        .node_count = 2,
        .nodes = nodes,
        .collections = collections,
        .collection_count = 1,
        .answer_count = 2,
        .answers = answers};
    kith_codec_meta_snapshot decoded;
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    golden_equals("meta-snapshot-v2.bin");
    assert_ok(kith_codec_meta_snapshot_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.node_number_next, 4);
    assert_int_equal(decoded.node_count, 2);
    nodes_equal(&decoded.nodes[0], &nodes[0]);
    nodes_equal(&decoded.nodes[1], &nodes[1]);
    collections_equal(&decoded.collections[0]->collection, &books.collection);
    shards_equal(decoded.collections[0]->shards, golden_shards, true);
    assert_int_equal(decoded.answer_count, 2);
    assert_int_equal(decoded.answers[0].status, KITH_OK);
    assert_true(decoded.answers[0].changed);
    collections_equal(decoded.answers[0].collection, &books.collection);
    assert_int_equal(decoded.answers[1].status, KITH_NOT_FOUND);
    assert_string_equal(decoded.answers[1].message, answers[1].message);
    assert_null(decoded.answers[1].collection);
}

static void command_refused(kith_status status, const char *message) {
    kith_codec_meta_command decoded;
    assert_int_equal(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), status);
    assert_string_equal(err.text, message);
    kith_buf_clear(&buf);
}

static void test_codec_meta__damage_is_corrupt(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command();
    kith_codec_meta_command_encode(&command, &buf);
    for (size_t bytes = 0; bytes < buf.bytes; bytes++) {
        kith_codec_meta_command decoded;
        assert_int_not_equal(
            kith_codec_meta_command_decode(buf.data, bytes, &arena, &decoded, &err), KITH_OK);
    }
    kith_buf_clear(&buf);
    command_refused(KITH_CORRUPT, "metadata: a command of version 0; this program reads versions 1..2");
    kith_wire_u64(&buf, 1, 3);
    command_refused(KITH_UNIMPLEMENTED, "metadata: a command of version 3; this program reads versions 1..2");
    kith_wire_u64(&buf, 1, 1);
    command_refused(KITH_CORRUPT, "metadata: a command of no kind that this program knows");
    command.collection.schema.fields[1].dim = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: field \"title\": dim 0 is not in 1..16384");
    command = golden_command();
    command.collection.shard_count = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": shard_count 0 is not in 1..4096");
    command.collection.name[0] = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection name is empty; 1..255 bytes are allowed");
}

/* Places of shards are numbers that a shard_count and a replication_factor elsewhere say the shape of. */
static void test_codec_meta__shards_must_fit_their_collection(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command();
    kith_meta_shard shards[3];
    memcpy(shards, golden_shards, sizeof shards);
    command.collection.replication_factor = 2;
    command.shards = shards;
    shards[1] = (kith_meta_shard){.replica_count = 2, .replicas = {0, 3}};
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": shard 1 has a gap");
    command.collection.replication_factor = 8;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": replication_factor 8 is not in 0..7");
    kith_wire_u64(&buf, 1, 2);
    command.collection.replication_factor = 0;
    size_t mark = kith_wire_open(&buf, 4);
    kith_codec_meta_collection_encode(&command.collection, &buf);
    kith_wire_bytes(&buf, 9, "1234567", 7);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT,
        "metadata: collection \"books\": 0 bytes of epochs and 7 of replicas are not 3 shards of 1");
    kith_wire_u64(&buf, 1, 2);
    mark = kith_wire_open(&buf, 9);
    kith_wire_bytes(&buf, 1, "short", 5);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: node id: 5 bytes; 16 are allowed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_meta__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(commands), TEST(snapshots), TEST(commands_of_a_cluster),
        TEST(snapshots_of_a_cluster), TEST(damage_is_corrupt), TEST(shards_must_fit_their_collection)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
