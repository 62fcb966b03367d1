/* Stored metadata: round trips, the golden files, and what is refused. */
#include <stdio.h>
#include <string.h>

#include "host/codec/codec_meta.h"
#include "host/codec/codec_wire.h"
#include "tests/unit/codec/codec_fixture.h" /* last: its names are short */

#define GOLDEN_BYTES_MAX 4096u

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

static kith_meta_shard golden_shards[3] = {{.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 3}},
    {.epoch = 9, .replica_count = 1, .in_sync = 1, .replicas = {3}},
    {.epoch = 1ULL << 40, .replica_count = 2, .in_sync = 3, .replicas = {1, 3}}};

/* One of them moves, and has a replica more than its collection asks for. */
static kith_meta_shard golden_shards_v3[3] = {
    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 3}},
    {.epoch = 9, .replica_count = 2, .in_sync = 1, .replicas = {3, 4}},
    {.epoch = 1ULL << 40, .replica_count = 3, .in_sync = 5, .replicas = {4, 3, 1}}};

/* Field by field: padding is nobody's. */
static void collections_equal(const kith_collection *a, const kith_collection *b) {
    assert_int_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->shard_count, b->shard_count);
    assert_int_equal(a->shard_id_first, b->shard_id_first);
    assert_int_equal(a->created_wall_ms, b->created_wall_ms);
    assert_int_equal(a->replication_factor, b->replication_factor);
    assert_int_equal(a->min_in_sync, b->min_in_sync);
    assert_int_equal(a->durability, b->durability);
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

static size_t golden_read(const char *name, uint8_t bytes_out[GOLDEN_BYTES_MAX]) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", KITH_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is missing", path);
    size_t count = fread(bytes_out, 1, GOLDEN_BYTES_MAX, file);
    fclose(file);
    return count;
}

static void golden_equals(const char *name) {
    uint8_t bytes[GOLDEN_BYTES_MAX];
    size_t count = golden_read(name, bytes);
    assert_int_equal(count, buf.bytes);
    assert_memory_equal(bytes, buf.data, count);
}

/* One that is not written so any more. */
static void golden_take(const char *name) {
    uint8_t bytes[GOLDEN_BYTES_MAX];
    size_t count = golden_read(name, bytes);
    kith_buf_clear(&buf);
    kith_buf_append(&buf, bytes, count);
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
    books.collection.min_in_sync = films.collection.min_in_sync = 1;
    books.collection.durability = films.collection.durability = KITH_DURABILITY_SYNC;
    for (int i = 0; i < 2; i++) {
        collections_equal(&decoded.collections[i]->collection, &collections[i]->collection);
        assert_int_equal(decoded.collections[i]->shards[2].epoch, 1);
        assert_int_equal(decoded.collections[i]->shards[2].replica_count, 0);
    }
}

static void shards_equal(const kith_meta_shard *a, const kith_meta_shard *b, bool with_epochs) {
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(a[i].epoch, with_epochs ? b[i].epoch : 1);
        assert_int_equal(a[i].loss_epoch, b[i].loss_epoch);
        assert_int_equal(a[i].replica_count, b[i].replica_count);
        assert_int_equal(a[i].in_sync, with_epochs ? b[i].in_sync : kith_replicas_all(b[i].replica_count));
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
    assert_int_equal(a->down_wall_ms, b->down_wall_ms);
}

static void test_codec_meta__commands_of_a_cluster(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command(), decoded;
    command.collection.replication_factor = 2;
    command.shards = golden_shards;
    golden_take("meta-command-v2.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    shards_equal(decoded.shards, golden_shards, false);

    command.collection.min_in_sync = 2;
    kith_buf_clear(&buf);
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-command-v3.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    shards_equal(decoded.shards, golden_shards, false);

    command.collection.durability = KITH_DURABILITY_ASYNC;
    kith_buf_clear(&buf);
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-command-v4.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);

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
        command.down_wall_ms = kind == KITH_CODEC_META_NODE_DOWN ? 1ULL << 41 : 0;
        kith_buf_clear(&buf);
        kith_codec_meta_command_encode(&command, &buf);
        assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
        commands_equal(&decoded, &command);
        nodes_equal(&decoded.node, &command.node);
        assert_int_equal(decoded.judged_map_version, command.judged_map_version);
        assert_int_equal(decoded.down_wall_ms, command.down_wall_ms);
    }
}

/* Whatever `version` could not say is as it was then. */
static void snapshot_round_trip(uint32_t version) {
    bool with_replicas = version >= 3;
    kith_meta_shard *shards = with_replicas ? golden_shards_v3 : golden_shards;
    kith_meta_collection books = {.collection = golden_collection(), .shards = shards};
    const kith_meta_collection *collections[] = {&books};
    books.collection.replication_factor = 2;
    books.collection.min_in_sync = with_replicas ? 2 : 1;
    if (version >= 4) books.collection.durability = KITH_DURABILITY_ASYNC;
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
    if (with_replicas) {
        kith_codec_meta_snapshot_encode(&snapshot, &buf);
        golden_equals(version == 3   ? "meta-snapshot-v3.bin"
                      : version == 4 ? "meta-snapshot-v4.bin"
                                     : "meta-snapshot-v5.bin");
    } else {
        golden_take("meta-snapshot-v2.bin");
    }
    assert_ok(kith_codec_meta_snapshot_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.node_number_next, 4);
    assert_int_equal(decoded.node_count, 2);
    nodes_equal(&decoded.nodes[0], &nodes[0]);
    nodes_equal(&decoded.nodes[1], &nodes[1]);
    if (with_replicas) collections_equal(decoded.answers[0].collection, &books.collection);
    kith_collection_replicas_default(&books.collection);
    collections_equal(&decoded.collections[0]->collection, &books.collection);
    shards_equal(decoded.collections[0]->shards, shards, true);
    assert_int_equal(decoded.answer_count, 2);
    assert_int_equal(decoded.answers[0].status, KITH_OK);
    assert_true(decoded.answers[0].changed);
    assert_int_equal(decoded.answers[1].status, KITH_NOT_FOUND);
    assert_string_equal(decoded.answers[1].message, answers[1].message);
    assert_null(decoded.answers[1].collection);
}

static void test_codec_meta__snapshots_of_a_cluster(void **state) {
    (void)state;
    snapshot_round_trip(2);
}

/* Later than the golden file; readers from before skip it. */
static void test_codec_meta__snapshots_say_since_when_a_node_is_down(void **state) {
    (void)state;
    kith_node node = golden_node(4);
    node.number = 1;
    node.down = true;
    node.down_wall_ms = 1ULL << 41;
    kith_codec_meta_snapshot decoded, snapshot = {.map_version = 9,
                                          .collection_id_next = 1,
                                          .shard_id_next = 1,
                                          .node_number_next = 2,
                                          .node_count = 1,
                                          .nodes = &node};
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    assert_ok(kith_codec_meta_snapshot_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.node_count, 1);
    nodes_equal(&decoded.nodes[0], &node);
}

static void test_codec_meta__snapshots_with_replicas(void **state) {
    (void)state;
    snapshot_round_trip(3);
}

static void test_codec_meta__snapshots_with_durability(void **state) {
    (void)state;
    snapshot_round_trip(4);
}

static void test_codec_meta__snapshots_with_accepted_loss(void **state) {
    (void)state;
    golden_shards_v3[1].loss_epoch = 8;
    golden_shards_v3[2].loss_epoch = 1ULL << 40;
    snapshot_round_trip(5);
    golden_shards_v3[1].loss_epoch = golden_shards_v3[2].loss_epoch = 0;
}

static void test_codec_meta__accept_loss(void **state) {
    (void)state;
    kith_codec_meta_command decoded, command = {.kind = KITH_CODEC_META_ACCEPT_LOSS,
                                         .request_id = golden_command().request_id,
                                         .collection = {.id = 12, .name = "books"},
                                         .shard_index = 2,
                                         .node = {.id = golden_node(5).id}};
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-accept-loss-v5.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    nodes_equal(&decoded.node, &command.node);
    assert_int_equal(decoded.shard_index, 2);
    /* A node id that is too short. */
    kith_buf_clear(&buf);
    kith_wire_u64(&buf, 1, 5);
    size_t mark = kith_wire_open(&buf, 12);
    kith_wire_text(&buf, 2, "books");
    kith_wire_bytes(&buf, 4, "short", 5);
    kith_wire_close(&buf, mark);
    assert_int_equal(
        kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_CORRUPT);
    assert_string_equal(err.text, "metadata: node id: 5 bytes; 16 are allowed");
}

static void test_codec_meta__changes_of_shards(void **state) {
    (void)state;
    kith_codec_meta_shard_change changes[] = {
        {.shard_id = 1ULL << 40, .shard = golden_shards_v3[2]}, {.shard_id = 77, .shard = golden_shards[1]}};
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CHANGE_SHARDS,
        .request_id = golden_command().request_id,
        .changes = changes,
        .change_count = 2};
    kith_codec_meta_command decoded;
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-change-v3.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
    assert_int_equal(decoded.change_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        const kith_codec_meta_shard_change *change = &decoded.changes[i];
        assert_int_equal(change->shard_id, changes[i].shard_id);
        assert_int_equal(change->shard.epoch, changes[i].shard.epoch);
        assert_int_equal(change->shard.in_sync, changes[i].shard.in_sync);
        assert_int_equal(change->shard.replica_count, changes[i].shard.replica_count);
        assert_memory_equal(change->shard.replicas, changes[i].shard.replicas, sizeof change->shard.replicas);
    }
}

static void test_codec_meta__updates_of_collections(void **state) {
    (void)state;
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_UPDATE_COLLECTION, .collection.id = 12},
                            decoded;
    snprintf(command.collection.name, sizeof command.collection.name, "books");
    for (uint32_t factor = 0; factor < 4; factor++) {
        for (uint32_t min = 0; min < 4; min++) {
            command.collection.replication_factor = factor;
            command.collection.min_in_sync = min;
            command.collection.durability = (kith_durability)((factor + min) % 3);
            kith_buf_clear(&buf);
            kith_codec_meta_command_encode(&command, &buf);
            assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
            commands_equal(&decoded, &command);
        }
    }
}

/* The lowest version that can say it: `version` is the first field of the message. */
static void version_is(uint8_t version) {
    assert_int_equal(buf.data[0], 8);
    assert_int_equal(buf.data[1], version);
    kith_buf_clear(&buf);
}

static void test_codec_meta__versions_are_as_old_as_they_can_be(void **state) {
    (void)state;
    kith_meta_shard shards[3];
    for (uint32_t i = 0; i < 3; i++)
        shards[i] = (kith_meta_shard){.epoch = 5, .replica_count = 1, .in_sync = 1, .replicas = {1}};
    kith_codec_meta_command command = golden_command();
    command.collection.replication_factor = command.collection.min_in_sync = 1;
    kith_codec_meta_command_encode(&command, &buf);
    version_is(1);
    command.shards = shards;
    kith_codec_meta_command_encode(&command, &buf);
    version_is(2);
    command.collection.replication_factor = 2;
    kith_codec_meta_command_encode(&command, &buf);
    version_is(3);
    command.collection.replication_factor = 1;
    kith_meta_collection stored = {.collection = command.collection, .shards = shards};
    const kith_meta_collection *collections[] = {&stored};
    kith_codec_meta_snapshot snapshot = {
        .node_number_next = 2, .collections = collections, .collection_count = 1};
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    version_is(2);
    shards[1] = (kith_meta_shard){.epoch = 6, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}};
    kith_codec_meta_snapshot_encode(&snapshot, &buf); /* it moves */
    version_is(3);
    shards[1] = (kith_meta_shard){.epoch = 7, .replica_count = 1, .in_sync = 1, .replicas = {2}};
    kith_codec_meta_snapshot_encode(&snapshot, &buf); /* it has moved */
    version_is(2);
    stored.collection.replication_factor = 2;
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    version_is(3);
}

/* Older programs do as sync says, so that only the other one is kept from them. */
static void test_codec_meta__only_async_is_of_version_4(void **state) {
    (void)state;
    for (kith_durability durability = 0; durability <= KITH_DURABILITY_ASYNC; durability++) {
        bool is_async = durability == KITH_DURABILITY_ASYNC;
        kith_meta_shard shards[3] = {{.epoch = 1}, {.epoch = 1}, {.epoch = 1}};
        kith_codec_meta_command command = golden_command();
        command.collection.durability = durability;
        kith_meta_collection stored = {.collection = command.collection, .shards = shards};
        const kith_meta_collection *collections[] = {&stored};
        kith_codec_meta_snapshot snapshot = {.collections = collections, .collection_count = 1};
        kith_codec_meta_command_encode(&command, &buf);
        version_is(is_async ? 4 : 1);
        kith_codec_meta_snapshot_encode(&snapshot, &buf);
        version_is(is_async ? 4 : 1);
        command.kind = KITH_CODEC_META_UPDATE_COLLECTION;
        kith_codec_meta_command_encode(&command, &buf);
        version_is(is_async ? 4 : 3);
    }
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
    command_refused(KITH_CORRUPT, "metadata: a command of version 0; this program reads versions 1..5");
    kith_wire_u64(&buf, 1, 6);
    command_refused(KITH_UNIMPLEMENTED, "metadata: a command of version 6; this program reads versions 1..5");
    kith_wire_u64(&buf, 1, 1);
    command_refused(KITH_CORRUPT, "metadata: a command of no kind that this program knows");
    command.collection.schema.fields[1].dim = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: field \"title\": dim 0 is not in 1..16384");
    command = golden_command();
    command.collection.durability = 3;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": durability 3 is not in 0..2");
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
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": 0 bytes of epochs, 7 of replicas, 0 of "
                                  "in_sync and 0 of loss epochs are not 3 shards of 1");
    kith_wire_u64(&buf, 1, 3);
    mark = kith_wire_open(&buf, 4);
    kith_codec_meta_collection_encode(&command.collection, &buf);
    kith_wire_bytes(&buf, 9, "123456781234", 12);
    kith_wire_bytes(&buf, 12, "12", 2);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": 0 bytes of epochs, 12 of replicas, 2 of "
                                  "in_sync and 0 of loss epochs are not 3 shards of 1");
    kith_wire_u64(&buf, 1, 5);
    mark = kith_wire_open(&buf, 4);
    kith_codec_meta_collection_encode(&command.collection, &buf);
    kith_wire_bytes(&buf, 9, "123456781234", 12);
    kith_wire_bytes(&buf, 14, "123456781234567812345", 21);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": 0 bytes of epochs, 12 of replicas, 0 of "
                                  "in_sync and 21 of loss epochs are not 3 shards of 1");
    kith_wire_u64(&buf, 1, 3);
    mark = kith_wire_open(&buf, 4);
    kith_codec_meta_collection_encode(&command.collection, &buf);
    kith_wire_bytes(&buf, 9, "123456781234", 12);
    kith_wire_u64(&buf, 11, 8);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": shard_replica_width 8 is not in 0..7");
    kith_wire_u64(&buf, 1, 2);
    mark = kith_wire_open(&buf, 9);
    kith_wire_bytes(&buf, 1, "short", 5);
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: node id: 5 bytes; 16 are allowed");
}

static void test_codec_meta__changes_have_limits(void **state) {
    (void)state;
    kith_wire_u64(&buf, 1, 3);
    kith_wire_close(&buf, kith_wire_open(&buf, 10));
    command_refused(KITH_CORRUPT, "metadata: 0 changes of shards; 1..1024 are allowed");
    kith_wire_u64(&buf, 1, 3);
    size_t mark = kith_wire_open(&buf, 10);
    for (uint32_t i = 0; i <= KITH_META_SHARD_CHANGES_MAX; i++)
        kith_wire_close(&buf, kith_wire_open(&buf, 1));
    kith_wire_close(&buf, mark);
    command_refused(KITH_CORRUPT, "metadata: 1025 changes of shards; 1..1024 are allowed");
    kith_wire_u64(&buf, 1, 3);
    mark = kith_wire_open(&buf, 10);
    size_t inner = kith_wire_open(&buf, 1);
    kith_wire_u64(&buf, 1, 9);
    for (uint32_t i = 0; i <= KITH_REPLICAS_MAX; i++)
        kith_wire_u64_always(&buf, 3, i);
    kith_wire_u64(&buf, 4, 256);
    kith_wire_close(&buf, inner);
    kith_wire_close(&buf, mark);
    command_refused(
        KITH_CORRUPT, "metadata: change of shard 9: 8 replicas of at most 7, in_sync 256 of at most 255");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_meta__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(commands), TEST(snapshots), TEST(commands_of_a_cluster),
        TEST(snapshots_of_a_cluster), TEST(snapshots_with_replicas), TEST(snapshots_with_durability),
        TEST(snapshots_with_accepted_loss), TEST(accept_loss), TEST(snapshots_say_since_when_a_node_is_down),
        TEST(changes_of_shards), TEST(updates_of_collections), TEST(versions_are_as_old_as_they_can_be),
        TEST(only_async_is_of_version_4), TEST(damage_is_corrupt), TEST(shards_must_fit_their_collection),
        TEST(changes_have_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
