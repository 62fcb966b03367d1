/* Messages of the cluster: round trips, and what is refused. */
#include <stdio.h>
#include <string.h>

#include "host/codec/codec_cluster.h"
#include "host/codec/codec_wire.h"
#include "tests/unit/codec/codec_fixture.h" /* last: its names are short */

static const kith_codec_stalled stalled_full[] = {
    {.shard_id = 1ULL << 40, .for_ms = 600000}, {.shard_id = 7, .for_ms = 10000}};

static kith_codec_heartbeat heartbeat_full(void) {
    return (kith_codec_heartbeat){.node = {.role = KITH_NODE_DATA,
                                      .id = {{9, 8, 7}},
                                      .name = "data-1",
                                      .address = "10.0.0.1:7442",
                                      .grpc_address = "10.0.0.1:7441",
                                      .http_address = "10.0.0.1:7440",
                                      .zone = "north",
                                      .weight = 50},
        .started_wall_ms = 1700000000000,
        .map_version = 41,
        .points = 1ULL << 40,
        .shards = 8,
        .vector_bytes = 1ULL << 50,
        .disk_free_bytes = 12345,
        .health = "disk nearly full",
        .stalled_count = 2,
        .stalled = stalled_full};
}

static void heartbeats_equal(const kith_codec_heartbeat *a, const kith_codec_heartbeat *b) {
    assert_memory_equal(a->node.id.bytes, b->node.id.bytes, sizeof a->node.id.bytes);
    assert_int_equal(a->node.role, b->node.role);
    assert_string_equal(a->node.name, b->node.name);
    assert_string_equal(a->node.address, b->node.address);
    assert_string_equal(a->node.grpc_address, b->node.grpc_address);
    assert_string_equal(a->node.http_address, b->node.http_address);
    assert_string_equal(a->node.zone, b->node.zone);
    assert_int_equal(a->node.weight, b->node.weight);
    assert_int_equal(a->started_wall_ms, b->started_wall_ms);
    assert_int_equal(a->map_version, b->map_version);
    assert_int_equal(a->points, b->points);
    assert_int_equal(a->shards, b->shards);
    assert_int_equal(a->vector_bytes, b->vector_bytes);
    assert_int_equal(a->disk_free_bytes, b->disk_free_bytes);
    assert_string_equal(a->health, b->health);
    assert_int_equal(a->stalled_count, b->stalled_count);
    for (uint32_t i = 0; i < a->stalled_count; i++) {
        assert_int_equal(a->stalled[i].shard_id, b->stalled[i].shard_id);
        assert_int_equal(a->stalled[i].for_ms, b->stalled[i].for_ms);
    }
}

static void test_codec_cluster__heartbeats(void **state) {
    (void)state;
    kith_codec_heartbeat heartbeat = heartbeat_full(), decoded;
    heartbeat.node.number = 3; /* these do not travel */
    heartbeat.node.draining = heartbeat.node.down = true;
    kith_codec_heartbeat_encode(&heartbeat, &buf);
    assert_ok(kith_codec_heartbeat_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    memset(buf.data, 0xee, buf.bytes); /* nothing is borrowed */
    heartbeats_equal(&decoded, &heartbeat);
    assert_int_equal(decoded.node.number, 0);
    assert_false(decoded.node.draining);
    assert_false(decoded.node.down);
}

static void heartbeat_refused(kith_codec_heartbeat heartbeat, const char *message) {
    kith_codec_heartbeat decoded;
    kith_buf_clear(&buf);
    kith_codec_heartbeat_encode(&heartbeat, &buf);
    assert_int_equal(kith_codec_heartbeat_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_INTERNAL);
    assert_string_equal(err.text, message);
}

static void test_codec_cluster__heartbeats_are_checked(void **state) {
    (void)state;
    kith_codec_heartbeat heartbeat = heartbeat_full();
    char health[KITH_ERR_BYTES_MAX + 1];
    heartbeat.node.role = (kith_node_role)7;
    heartbeat_refused(heartbeat,
        "heartbeat: node \"data-1\": role 7 is unknown; 1 (coordinator), 2 (data), 3 "
        "(query) and 4 (standalone) are allowed");
    heartbeat = heartbeat_full();
    heartbeat.node.id = (kith_node_id){{0}};
    heartbeat_refused(heartbeat, "node_id: 0 bytes are not a node id of 16");
    heartbeat = heartbeat_full();
    snprintf(heartbeat.node.address, sizeof heartbeat.node.address, "nowhere");
    heartbeat_refused(heartbeat,
        "heartbeat: node \"data-1\": address \"nowhere\" is not HOST:PORT with a port in 1..65535");
    heartbeat = heartbeat_full();
    memset(health, 'x', sizeof health - 1);
    health[sizeof health - 1] = 0;
    heartbeat.health = health;
    heartbeat_refused(heartbeat, "load.health: 512 bytes; at most 511 are allowed");
    kith_buf_clear(&buf);
    kith_wire_bytes(&buf, 1, "0123456789abcdef", 16);
    char name[KITH_NODE_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name);
    kith_wire_bytes(&buf, 2, name, sizeof name);
    kith_codec_heartbeat decoded;
    assert_int_equal(kith_codec_heartbeat_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_INTERNAL);
    assert_string_equal(err.text, "name: 64 bytes; at most 63 are allowed");
}

static void test_codec_cluster__heartbeat_replies(void **state) {
    (void)state;
    static const char *const addresses[] = {"a:1", "b:2", "c:3"};
    kith_codec_heartbeat_reply reply = {.leader = true,
        .term = 12,
        .leader_id = {{4}},
        .leader_address = "b:2",
        .map_version = 77,
        .coordinator_addresses = addresses,
        .coordinator_count = 3};
    kith_codec_heartbeat_reply decoded;
    kith_codec_heartbeat_reply_encode(&reply, &buf);
    assert_ok(kith_codec_heartbeat_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_true(decoded.leader);
    assert_int_equal(decoded.term, 12);
    assert_int_equal(decoded.map_version, 77);
    assert_true(kith_node_id_equal(&decoded.leader_id, &reply.leader_id));
    assert_string_equal(decoded.leader_address, "b:2");
    assert_int_equal(decoded.coordinator_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_string_equal(decoded.coordinator_addresses[i], addresses[i]);

    kith_buf_clear(&buf); /* nobody is known to lead */
    assert_ok(kith_codec_heartbeat_reply_decode(buf.data, 0, &arena, &decoded, &err), &err);
    assert_true(kith_node_id_is_none(&decoded.leader_id));
    assert_string_equal(decoded.leader_address, "");

    for (uint32_t i = 0; i <= KITH_COORDINATORS_MAX; i++)
        kith_wire_text(&buf, 6, "a:1");
    assert_int_equal(
        kith_codec_heartbeat_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_INTERNAL);
    assert_string_equal(err.text, "coordinator_addresses: 10; at most 9 are allowed");
}

static void test_codec_cluster__map_versions(void **state) {
    (void)state;
    uint64_t version = 0;
    kith_codec_map_version_encode(UINT64_MAX, &buf);
    assert_ok(kith_codec_map_version_decode(buf.data, buf.bytes, &version, &err), &err);
    assert_true(version == UINT64_MAX);
    assert_int_equal(kith_codec_map_version_decode("\xff", 1, &version, &err), KITH_INTERNAL);
    assert_true(version == UINT64_MAX);
}

static void test_codec_cluster__propose_replies(void **state) {
    (void)state;
    kith_collection collection = {
        .id = 4, .name = "c", .shard_count = 8, .shard_id_first = 9, .replication_factor = 3};
    collection.schema.field_count = 1;
    collection.schema.fields[0] = (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    kith_codec_propose_reply reply = {
        .status = KITH_OK, .message = "", .changed = true, .map_version = 5, .collection = &collection};
    kith_codec_propose_reply decoded;
    kith_codec_propose_reply_encode(&reply, &buf);
    assert_ok(kith_codec_propose_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.status, KITH_OK);
    assert_true(decoded.changed);
    assert_int_equal(decoded.map_version, 5);
    assert_string_equal(decoded.collection->name, "c");
    assert_int_equal(decoded.collection->id, 4);
    assert_int_equal(decoded.collection->shard_count, 8);
    assert_int_equal(decoded.collection->shard_id_first, 9);
    assert_int_equal(decoded.collection->replication_factor, 3);

    reply = (kith_codec_propose_reply){.status = KITH_EXISTS, .message = "no"};
    kith_buf_clear(&buf);
    kith_codec_propose_reply_encode(&reply, &buf);
    assert_ok(kith_codec_propose_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.status, KITH_EXISTS);
    assert_string_equal(decoded.message, "no");
    assert_null(decoded.collection);

    kith_wire_bytes(&buf, 5, "\x20\x01", 2); /* a collection without a name */
    assert_int_equal(
        kith_codec_propose_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_INTERNAL);
    assert_string_equal(err.text, "collection: metadata: collection name is empty; 1..255 bytes are allowed");
}

static kith_status request_round(kith_codec_coordinator_request request) {
    kith_codec_coordinator_request decoded;
    kith_buf_clear(&buf);
    kith_codec_coordinator_request_encode(&request, &buf);
    kith_status status = kith_codec_coordinator_request_decode(buf.data, buf.bytes, &arena, &decoded, &err);
    if (status != KITH_OK) return status;
    assert_int_equal(decoded.kind, request.kind);
    assert_true(kith_node_id_equal(&decoded.node_id, &request.node_id));
    assert_string_equal(decoded.address, request.address);
    return KITH_OK;
}

static void test_codec_cluster__coordinator_requests(void **state) {
    (void)state;
    kith_codec_coordinator_request request = {.kind = KITH_CODEC_COORDINATOR_STATUS, .address = ""};
    assert_ok(request_round(request), &err);
    request.kind = KITH_CODEC_COORDINATOR_TRANSFER;
    assert_ok(request_round(request), &err);
    request.node_id.bytes[0] = 1;
    assert_ok(request_round(request), &err);
    request.kind = KITH_CODEC_COORDINATOR_LEAVE;
    assert_ok(request_round(request), &err);
    request.kind = KITH_CODEC_COORDINATOR_JOIN;
    assert_int_equal(request_round(request), KITH_INTERNAL);
    assert_string_equal(err.text, "address \"\": join has one, nothing else");
    request.address = "new:7442";
    assert_ok(request_round(request), &err);
    request.node_id.bytes[0] = 0;
    assert_int_equal(request_round(request), KITH_INTERNAL);
    assert_string_equal(err.text, "node_id is missing");
    request.kind = (kith_codec_coordinator_kind)5;
    assert_int_equal(request_round(request), KITH_INTERNAL);
    request.kind = (kith_codec_coordinator_kind)0;
    assert_int_equal(request_round(request), KITH_INTERNAL);
}

static void test_codec_cluster__coordinator_replies(void **state) {
    (void)state;
    kith_codec_coordinator_member members[] = {
        {.id = {{1}}, .address = "a:1", .voter = true, .leader = true}, {.id = {{2}}, .address = "b:2"}};
    kith_codec_coordinator_node nodes[] = {
        {.heartbeat = heartbeat_full(), .silent_ms = 2500}, {.heartbeat = heartbeat_full()}};
    nodes[0].heartbeat.node.down = true;
    nodes[1].heartbeat.node.draining = true;
    nodes[1].heartbeat.health = "";
    kith_codec_coordinator_reply reply = {.self_id = {{7}},
        .fresh = true,
        .term = 3,
        .map_version = 4,
        .applied_index = 5,
        .leader_id = {{1}},
        .leader_address = "a:1",
        .members = members,
        .member_count = 2,
        .nodes = nodes,
        .node_count = 2,
        .copying = {.behind = 6, .moving = 7, .waiting = 8, .short_count = 9}};
    kith_codec_coordinator_reply decoded;
    kith_codec_coordinator_reply_encode(&reply, &buf);
    assert_ok(kith_codec_coordinator_reply_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.term, 3);
    assert_int_equal(decoded.map_version, 4);
    assert_int_equal(decoded.applied_index, 5);
    assert_true(kith_node_id_equal(&decoded.self_id, &reply.self_id));
    assert_true(decoded.fresh);
    assert_memory_equal(&decoded.copying, &reply.copying, sizeof reply.copying);
    assert_true(kith_node_id_equal(&decoded.leader_id, &reply.leader_id));
    assert_string_equal(decoded.leader_address, "a:1");
    assert_int_equal(decoded.member_count, 2);
    for (int i = 0; i < 2; i++) {
        assert_true(kith_node_id_equal(&decoded.members[i].id, &members[i].id));
        assert_string_equal(decoded.members[i].address, members[i].address);
        assert_int_equal(decoded.members[i].voter, members[i].voter);
        assert_int_equal(decoded.members[i].leader, members[i].leader);
    }
    assert_int_equal(decoded.node_count, 2);
    for (int i = 0; i < 2; i++) {
        heartbeats_equal(&decoded.nodes[i].heartbeat, &nodes[i].heartbeat);
        assert_int_equal(decoded.nodes[i].silent_ms, nodes[i].silent_ms);
        assert_int_equal(decoded.nodes[i].heartbeat.node.down, nodes[i].heartbeat.node.down);
        assert_int_equal(decoded.nodes[i].heartbeat.node.draining, nodes[i].heartbeat.node.draining);
    }
    /* No cut is taken for the whole, unless it ends between fields. */
    for (size_t bytes = 0; bytes < buf.bytes; bytes++) {
        kith_status status = kith_codec_coordinator_reply_decode(buf.data, bytes, &arena, &decoded, &err);
        if (status == KITH_OK) assert_int_equal(decoded.copying.short_count, 0); /* the last field */
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_cluster__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(heartbeats),
        TEST(heartbeats_are_checked),
        TEST(heartbeat_replies),
        TEST(map_versions),
        TEST(propose_replies),
        TEST(coordinator_requests),
        TEST(coordinator_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
