/* kith.v1.Cluster on the wire and as JSON. */
#include "host/base/alloc.h"
#include "host/codec/codec_cluster_api.h"
#include "tests/lib/test_lib.h"

static const kith_node_id id_one = {
    {0x91, 0xcf, 0xbb, 0xc9, 0x0e, 0x6f, 0x47, 0xed, 0x9a, 0xb9, 0x61, 0x24, 0x30, 0xb8, 0x49, 0xf0}};
#define ID_ONE "91cfbbc9-0e6f-47ed-9ab9-612430b849f0"

static kith_codec_coordinator_node node_full(void) {
    kith_codec_coordinator_node of = {.silent_ms = 217};
    kith_codec_heartbeat *said = &of.heartbeat;
    said->node = (kith_node){.role = KITH_NODE_DATA, .id = id_one, .weight = 50, .draining = true};
    strcpy(said->node.name, "data \"1\"");
    strcpy(said->node.address, "10.0.0.1:7442");
    strcpy(said->node.grpc_address, "10.0.0.1:7441");
    strcpy(said->node.http_address, "10.0.0.1:7440");
    strcpy(said->node.zone, "a");
    said->started_wall_ms = 1795260980136;
    said->map_version = 9;
    said->points = 1000;
    said->shards = 4;
    said->vector_bytes = 512000;
    said->disk_free_bytes = 1ull << 40;
    said->health = "ok";
    return of;
}

static void assert_node_equal(const kith_codec_coordinator_node *a, const kith_codec_coordinator_node *b) {
    assert_memory_equal(&a->heartbeat.node, &b->heartbeat.node, sizeof a->heartbeat.node);
    assert_int_equal(a->silent_ms, b->silent_ms);
    assert_int_equal(a->heartbeat.started_wall_ms, b->heartbeat.started_wall_ms);
    assert_int_equal(a->heartbeat.map_version, b->heartbeat.map_version);
    assert_int_equal(a->heartbeat.points, b->heartbeat.points);
    assert_int_equal(a->heartbeat.shards, b->heartbeat.shards);
    assert_int_equal(a->heartbeat.vector_bytes, b->heartbeat.vector_bytes);
    assert_int_equal(a->heartbeat.disk_free_bytes, b->heartbeat.disk_free_bytes);
    assert_string_equal(a->heartbeat.health, b->heartbeat.health);
}

typedef struct fixture {
    kith_arena arena;
    kith_buf buf;
    kith_err err;
} fixture;

static int setup(void **state) {
    fixture *own = kith_alloc_zero(sizeof *own);
    kith_arena_init(&own->arena);
    kith_buf_init(&own->buf);
    *state = own;
    return 0;
}

static int teardown(void **state) {
    fixture *own = *state;
    kith_buf_fini(&own->buf);
    kith_arena_fini(&own->arena);
    kith_free(own);
    return 0;
}

static const kith_codec_coordinator_member member = {
    .id = {{1}}, .address = "10.0.0.2:7442", .voter = true, .leader = true};

static void test_codec_cluster_api__status_survives_the_wire(void **state) {
    fixture *own = *state;
    kith_codec_coordinator_node node = node_full();
    kith_codec_cluster_status read, status = {
                                        .map_version = 12,
                                        .term = 3,
                                        .leader_id = member.id,
                                        .leader_address = "10.0.0.2:7442",
                                        .problem = "one",
                                        .members = &member,
                                        .member_count = 1,
                                        .nodes = &node,
                                        .node_count = 1,
                                    };
    kith_codec_cluster_status_encode(&status, &own->buf);
    assert_ok(kith_codec_cluster_status_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        &own->err);
    assert_false(read.standalone);
    assert_int_equal(read.map_version, 12);
    assert_int_equal(read.term, 3);
    assert_true(kith_node_id_equal(&read.leader_id, &member.id));
    assert_string_equal(read.leader_address, "10.0.0.2:7442");
    assert_string_equal(read.problem, "one");
    assert_int_equal(read.member_count, 1);
    assert_true(kith_node_id_equal(&read.members[0].id, &member.id));
    assert_string_equal(read.members[0].address, member.address);
    assert_true(read.members[0].voter && read.members[0].leader);
    assert_int_equal(read.node_count, 1);
    assert_node_equal(&read.nodes[0], &node);
}

static void test_codec_cluster_api__nobody_leads_an_empty_status(void **state) {
    fixture *own = *state;
    kith_codec_cluster_status read;
    assert_ok(kith_codec_cluster_status_decode(NULL, 0, &own->arena, &read, &own->err), &own->err);
    assert_true(kith_node_id_is_none(&read.leader_id));
    assert_string_equal(read.leader_address, "");
    assert_int_equal(read.node_count, 0);
}

static const kith_codec_cluster_replica replicas[] = {
    {.id = {{7}}, .name = "data-1", .up = true, .in_sync = true}, {.id = {{0}}, .name = "nobody"}};
static const kith_codec_cluster_shard shard = {
    .id = 70, .epoch = 5, .index = 1, .replica_count = 2, .replicas = replicas};
static const kith_codec_cluster_collection collection = {
    .name = "photos", .shard_count = 1, .shards = &shard};
static const kith_codec_cluster_shards places = {
    .map_version = 4, .collection_count = 1, .collections = &collection};

static void test_codec_cluster_api__shards_survive_the_wire(void **state) {
    fixture *own = *state;
    kith_codec_cluster_shards read;
    kith_codec_cluster_shards_encode(&places, &own->buf);
    assert_ok(kith_codec_cluster_shards_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        &own->err);
    assert_int_equal(read.map_version, 4);
    assert_int_equal(read.collection_count, 1);
    assert_string_equal(read.collections[0].name, "photos");
    const kith_codec_cluster_shard *of = &read.collections[0].shards[0];
    assert_int_equal(of->id, 70);
    assert_int_equal(of->index, 1);
    assert_int_equal(of->epoch, 5);
    assert_int_equal(of->replica_count, 2);
    assert_string_equal(of->replicas[0].name, "data-1");
    assert_true(of->replicas[0].up && !of->replicas[1].up);
    assert_true(of->replicas[0].in_sync && !of->replicas[1].in_sync);
    assert_true(kith_node_id_equal(&of->replicas[0].id, &replicas[0].id));
    assert_true(kith_node_id_is_none(&of->replicas[1].id));
}

static void test_codec_cluster_api__changes_survive_the_wire(void **state) {
    fixture *own = *state;
    kith_codec_cluster_join read_join,
        join = {.id = id_one, .joined = true, .members = &member, .member_count = 1};
    kith_codec_coordinator_node read, node = node_full();
    kith_codec_cluster_join_encode(&join, &own->buf);
    assert_ok(
        kith_codec_cluster_join_decode(own->buf.data, own->buf.bytes, &own->arena, &read_join, &own->err),
        &own->err);
    assert_true(read_join.joined && kith_node_id_equal(&read_join.id, &id_one));
    assert_int_equal(read_join.member_count, 1);
    kith_buf_clear(&own->buf);
    kith_codec_cluster_node_encode(&node, &own->buf);
    assert_ok(kith_codec_cluster_node_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        &own->err);
    assert_node_equal(&read, &node);
}

static void test_codec_cluster_api__requests_are_checked(void **state) {
    fixture *own = *state;
    char text[KITH_CODEC_CLUSTER_TEXT_BYTES_MAX + 2];
    kith_codec_cluster_request read = {.text = "data-1", .draining = true};
    kith_codec_cluster_request_encode(&read, &own->buf);
    assert_ok(kith_codec_cluster_request_decode(
                  own->buf.data, own->buf.bytes, "node", &own->arena, &read, &own->err),
        &own->err);
    assert_string_equal(read.text, "data-1");
    assert_true(read.draining);
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    kith_buf_clear(&own->buf);
    kith_codec_cluster_request_encode(&(kith_codec_cluster_request){.text = text}, &own->buf);
    assert_int_equal(kith_codec_cluster_request_decode(
                         own->buf.data, own->buf.bytes, "node", &own->arena, &read, &own->err),
        KITH_INVALID);
    assert_string_equal(own->err.text, "node: 513 bytes; at most 512 are allowed");
}

static void test_codec_cluster_api__accept_loss(void **state) {
    fixture *own = *state;
    char text[KITH_CODEC_CLUSTER_TEXT_BYTES_MAX + 2];
    kith_codec_cluster_request read, asked = {.text = "photos", .shard = 3, .node = "data-1"};
    kith_codec_cluster_loss_request_encode(&asked, &own->buf);
    assert_ok(
        kith_codec_cluster_loss_request_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        &own->err);
    assert_string_equal(read.text, "photos");
    assert_int_equal(read.shard, 3);
    assert_string_equal(read.node, "data-1");
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    kith_buf_clear(&own->buf);
    asked.node = text;
    kith_codec_cluster_loss_request_encode(&asked, &own->buf);
    assert_int_equal(
        kith_codec_cluster_loss_request_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        KITH_INVALID);
    assert_string_equal(own->err.text, "node: 513 bytes; at most 512 are allowed");

    kith_codec_cluster_shard back;
    kith_buf_clear(&own->buf);
    kith_codec_cluster_shard_encode(&shard, &own->buf);
    assert_ok(kith_codec_cluster_shard_decode(own->buf.data, own->buf.bytes, &own->arena, &back, &own->err),
        &own->err);
    assert_int_equal(back.id, shard.id);
    assert_int_equal(back.index, shard.index);
    assert_int_equal(back.epoch, shard.epoch);
    assert_int_equal(back.replica_count, shard.replica_count);
    for (uint32_t i = 0; i < shard.replica_count; i++) {
        assert_string_equal(back.replicas[i].name, replicas[i].name);
        assert_int_equal(back.replicas[i].up, replicas[i].up);
        assert_int_equal(back.replicas[i].in_sync, replicas[i].in_sync);
    }
    assert_int_equal(kith_codec_cluster_shard_decode("", 0, &own->arena, &back, &own->err), KITH_INTERNAL);
    assert_string_equal(own->err.text, "the server's answer is broken: no shard in it");
}

/* Any beginning of an answer, and any with a byte changed, is read or refused; nothing else (the sanitizers watch). */
static void test_codec_cluster_api__broken_answers_are_refused(void **state) {
    fixture *own = *state;
    kith_codec_coordinator_node read, node = node_full();
    kith_codec_cluster_node_encode(&node, &own->buf);
    uint32_t refused = 0;
    for (size_t i = 0; i < own->buf.bytes; i++) {
        uint8_t *cut = kith_alloc(own->buf.bytes);
        memcpy(cut, own->buf.data, own->buf.bytes);
        refused += kith_codec_cluster_node_decode(cut, i, &own->arena, &read, &own->err) != KITH_OK;
        cut[i] ^= 0xff;
        refused +=
            kith_codec_cluster_node_decode(cut, own->buf.bytes, &own->arena, &read, &own->err) != KITH_OK;
        kith_free(cut);
    }
    assert_in_range(refused, own->buf.bytes, 2 * own->buf.bytes);
    kith_buf_clear(&own->buf);
    /* A node whose name is longer than any may be. */
    static const uint8_t long_name[] = {0x0a, 0x42, 0x12, 0x40};
    kith_buf_append(&own->buf, long_name, sizeof long_name);
    memset(kith_buf_grow(&own->buf, 0x40), 'n', 0x40);
    assert_int_equal(
        kith_codec_cluster_node_decode(own->buf.data, own->buf.bytes, &own->arena, &read, &own->err),
        KITH_INTERNAL);
    assert_non_null(strstr(own->err.text, "name has 64 bytes, at most 63 are allowed"));
    assert_non_null(strstr(own->err.text, "the server's answer is broken"));
}

static const char *text_of(kith_buf *buf) {
    kith_buf_u8(buf, 0);
    return (const char *)buf->data;
}

static void test_codec_cluster_api__json_is_what_scripts_rely_on(void **state) {
    fixture *own = *state;
    kith_codec_coordinator_node node = node_full();
    kith_codec_cluster_node_json(&node, &own->buf);
    assert_string_equal(text_of(&own->buf),
        "{\"id\": \"" ID_ONE "\", \"name\": \"data \\\"1\\\"\", \"role\": \"data\", "
        "\"address\": \"10.0.0.1:7442\", \"grpc_address\": \"10.0.0.1:7441\", "
        "\"http_address\": \"10.0.0.1:7440\", \"zone\": \"a\", \"weight\": 50, \"up\": true, "
        "\"draining\": true, \"shards\": 4, \"silent_ms\": 217, \"points\": 1000, \"vector_bytes\": 512000, "
        "\"disk_free_bytes\": 1099511627776, \"map_version\": 9, \"health\": \"ok\", "
        "\"started_unix_ms\": 1795260980136}");
    kith_buf_clear(&own->buf);
    kith_codec_cluster_shards_json(&places, &own->buf);
    assert_string_equal(text_of(&own->buf),
        "{\"map_version\": 4, \"collections\": [{\"collection\": \"photos\", \"shards\": [{\"id\": 70, "
        "\"index\": 1, \"epoch\": 5, \"primary\": \"data-1\", \"up\": true, \"replicas\": [{\"node_id\": "
        "\"07000000-0000-0000-0000-000000000000\", \"node\": \"data-1\", \"up\": true, \"in_sync\": true}, "
        "{\"node_id\": \"\", \"node\": \"nobody\", \"up\": false, \"in_sync\": false}]}]}]}");
    kith_buf_clear(&own->buf);
    kith_codec_cluster_status status = {.standalone = true, .leader_address = "", .problem = ""};
    kith_codec_cluster_status_json(&status, &own->buf);
    assert_string_equal(text_of(&own->buf), "{\"standalone\": true, \"map_version\": 0, \"term\": 0, "
                                            "\"leader_id\": \"\", \"leader_address\": \"\", "
                                            "\"problem\": \"\", \"copies_behind\": 0, \"copies_moving\": 0, "
                                            "\"copies_waiting\": 0, \"shards_short\": 0, "
                                            "\"coordinators\": [], \"nodes\": []}");
    kith_buf_clear(&own->buf);
    kith_codec_cluster_nodes_json(&status, &own->buf);
    assert_string_equal(text_of(&own->buf), "{\"map_version\": 0, \"problem\": \"\", \"nodes\": []}");
    kith_buf_clear(&own->buf);
    kith_codec_cluster_join_json(&(kith_codec_cluster_join){.id = id_one, .joined = true}, &own->buf);
    assert_string_equal(
        text_of(&own->buf), "{\"id\": \"" ID_ONE "\", \"joined\": true, \"coordinators\": []}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_codec_cluster_api__status_survives_the_wire),
        TEST(test_codec_cluster_api__nobody_leads_an_empty_status),
        TEST(test_codec_cluster_api__shards_survive_the_wire),
        TEST(test_codec_cluster_api__changes_survive_the_wire),
        TEST(test_codec_cluster_api__requests_are_checked),
        TEST(test_codec_cluster_api__accept_loss),
        TEST(test_codec_cluster_api__broken_answers_are_refused),
        TEST(test_codec_cluster_api__json_is_what_scripts_rely_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
