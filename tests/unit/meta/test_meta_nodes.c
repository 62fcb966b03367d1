/* The rules of the metadata about nodes, assignments and repeated commands: each by itself, then all of them against a
 * naive model under random commands, through bytes and snapshots. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "host/base/alloc.h"
#include "host/meta/meta_fsm.h"
#include "host/meta/meta_map.h"
#include "tests/lib/test_lib.h"

static kith_meta_state state;
static kith_meta_result result;

static int setup(void **unused) {
    (void)unused;
    kith_meta_state_init(&state);
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kith_meta_state_fini(&state);
    return 0;
}

/* --- commands --- */

static kith_node_id id_of(uint32_t who) {
    return (kith_node_id){{(uint8_t)(who + 1), (uint8_t)(who >> 8), 7}};
}

static kith_codec_meta_command register_command(uint32_t who, kith_node_role role) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_REGISTER_NODE,
        .node = {.role = role, .id = id_of(who), .weight = 100, .zone = "a"}};
    snprintf(command.node.name, sizeof command.node.name, "n%u", who);
    snprintf(command.node.address, sizeof command.node.address, "host-%u:7442", who);
    return command;
}

static kith_codec_meta_command node_command(kith_codec_meta_kind kind, uint32_t who) {
    return (kith_codec_meta_command){.kind = kind, .node = {.id = id_of(who)}};
}

static kith_codec_meta_command drain_command(uint32_t who, bool draining) {
    kith_codec_meta_command command = node_command(KITH_CODEC_META_DRAIN_NODE, who);
    command.node.draining = draining;
    return command;
}

static kith_codec_meta_command create_command(
    const char *name, uint32_t shard_count, uint32_t replication_factor, const kith_meta_shard *shards) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION, .shards = shards};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.shard_count = shard_count;
    command.collection.replication_factor = replication_factor;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    return command;
}

static kith_codec_meta_command update_command(const char *name, uint32_t factor, uint32_t min_in_sync) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_UPDATE_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.replication_factor = factor;
    command.collection.min_in_sync = min_in_sync;
    return command;
}

static kith_codec_meta_command durability_command(const char *name, kith_durability durability) {
    kith_codec_meta_command command = update_command(name, 0, 0);
    command.collection.durability = durability;
    return command;
}

static kith_codec_meta_command changes_command(const kith_codec_meta_shard_change *changes, uint32_t count) {
    return (kith_codec_meta_command){
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = changes, .change_count = count};
}

static kith_codec_meta_command drop_command(const char *name) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_DROP_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    return command;
}

/* As every command is: the map version rises exactly when something changed, and the state stays sound. */
static kith_status apply(kith_codec_meta_command command) {
    kith_err err;
    uint64_t version = state.map_version;
    kith_meta_state_apply(&state, state.applied_index + 1, &command, &result);
    assert_ok(kith_meta_state_validate(&state, &err), &err);
    assert_int_equal(state.map_version, version + result.changed);
    return result.status;
}

static void refused(kith_codec_meta_command command, kith_status status, const char *message) {
    assert_int_equal(apply(command), status);
    assert_string_equal(result.err.text, message);
    assert_false(result.changed);
}

static const kith_node *node_of(uint32_t who) {
    kith_node_id id = id_of(who);
    return kith_meta_state_node_of_id(&state, &id);
}

/* --- nodes --- */

static void test_meta_nodes__numbers_are_never_given_twice(void **unused) {
    (void)unused;
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(1, KITH_NODE_QUERY)), KITH_OK);
    assert_int_equal(node_of(1)->number, 2);
    assert_int_equal(apply(node_command(KITH_CODEC_META_REMOVE_NODE, 1)), KITH_OK);
    assert_null(node_of(1));
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(node_of(1)->number, 3);
    assert_ptr_equal(kith_meta_state_node(&state, 3), node_of(1));
    assert_null(kith_meta_state_node(&state, 2));
}

static void test_meta_nodes__registering_again_updates_and_marks_up(void **unused) {
    (void)unused;
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_false(result.changed);
    assert_int_equal(apply(drain_command(0, true)), KITH_OK);
    kith_codec_meta_command down = node_command(KITH_CODEC_META_NODE_DOWN, 0);
    down.down_wall_ms = 5000;
    assert_int_equal(apply(down), KITH_OK);
    assert_true(node_of(0)->down);
    down.down_wall_ms = 6000;
    assert_int_equal(apply(down), KITH_OK);
    assert_false(result.changed);
    assert_int_equal(node_of(0)->down_wall_ms, 5000);
    kith_codec_meta_command moved = register_command(0, KITH_NODE_DATA);
    snprintf(moved.node.address, sizeof moved.node.address, "elsewhere:1");
    assert_int_equal(apply(moved), KITH_OK);
    assert_false(node_of(0)->down);
    assert_int_equal(node_of(0)->down_wall_ms, 0);
    assert_true(node_of(0)->draining); /* what an operator said stays */
    assert_int_equal(node_of(0)->number, 1);
    assert_int_equal(node_of(0)->up_map_version, state.map_version);
    assert_string_equal(node_of(0)->address, "elsewhere:1");
    refused(register_command(0, KITH_NODE_QUERY), KITH_PRECONDITION,
        "node \"n0\" is registered with role data, not query; an empty data directory is a new node");
    moved.node.weight = KITH_NODE_WEIGHT_MAX + 1;
    refused(moved, KITH_INVALID, "node \"n0\": weight 10001 is not in 0..10000");
}

static void test_meta_nodes__a_judgement_from_before_a_registration_does_not_count(void **unused) {
    (void)unused;
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK); /* map version 2 */
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK); /* 3 */
    kith_codec_meta_command down = node_command(KITH_CODEC_META_NODE_DOWN, 1);
    down.judged_map_version = 2;
    refused(down, KITH_PRECONDITION, "node \"n1\" registered at map version 3, after it was judged at 2");
    down.judged_map_version = 3;
    assert_int_equal(apply(down), KITH_OK);
    assert_true(node_of(1)->down);
    refused(node_command(KITH_CODEC_META_NODE_DOWN, 5), KITH_NOT_FOUND,
        "there is no node 06000700-0000-0000-0000-000000000000");
}

static void test_meta_nodes__only_nodes_with_shards_are_drained(void **unused) {
    (void)unused;
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(1, KITH_NODE_QUERY)), KITH_OK);
    assert_int_equal(apply(drain_command(0, true)), KITH_OK);
    assert_int_equal(apply(drain_command(0, true)), KITH_OK);
    assert_false(result.changed);
    assert_int_equal(apply(drain_command(0, false)), KITH_OK);
    assert_false(node_of(0)->draining);
    refused(drain_command(1, true), KITH_INVALID,
        "node \"n1\" is a query node and holds no shards; data nodes can be drained");
}

static void test_meta_nodes__have_a_limit(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < KITH_NODES_MAX; i++) {
        kith_codec_meta_command command = register_command(i, KITH_NODE_DATA);
        command.node.id.bytes[2] = (uint8_t)(i / 250);
        command.node.id.bytes[0] = (uint8_t)(1 + i % 250);
        kith_meta_state_apply(&state, state.applied_index + 1, &command, &result);
        assert_int_equal(result.status, KITH_OK);
    }
    kith_codec_meta_command command = register_command(0, KITH_NODE_DATA);
    command.node.id.bytes[15] = 9;
    refused(command, KITH_PRECONDITION, "there are 1024 nodes, the most allowed");
}

/* --- assignments --- */

static void test_meta_assignment__must_name_distinct_data_nodes_that_are_there(void **unused) {
    (void)unused;
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(2, KITH_NODE_QUERY)), KITH_OK);
    kith_meta_shard shards[2] = {
        {.replica_count = 2, .replicas = {1, 2}}, {.replica_count = 2, .replicas = {2, 9}}};
    refused(
        create_command("c", 2, 2, shards), KITH_PRECONDITION, "shards[1].replicas[1]: there is no node 9");
    shards[1].replicas[1] = 3;
    refused(create_command("c", 2, 2, shards), KITH_INVALID,
        "shards[1].replicas[1]: node 3 (\"n2\") is a query node and holds no shards");
    shards[1].replicas[1] = 2;
    refused(create_command("c", 2, 2, shards), KITH_INVALID,
        "shards[1].replicas[1]: node 2 (\"n1\") is named twice");
    shards[1].replicas[1] = 1;
    refused(create_command("c", 2, 1, shards), KITH_INVALID, "shards[0] has 2 replicas, not 1..1");
    refused(create_command("c", 2, 8, shards), KITH_INVALID, "replication_factor 8 is not in 1..7");
    refused(create_command("c", 2, 2, NULL), KITH_PRECONDITION,
        "collection \"c\": its shards are assigned to none of the 3 nodes");
    shards[1].epoch = 77; /* not for the proposer to say */
    assert_int_equal(apply(create_command("c", 2, 2, shards)), KITH_OK);
    const kith_meta_collection *stored = kith_meta_state_find(&state, "c");
    assert_int_equal(stored->shards[1].epoch, 1);
    assert_int_equal(stored->shards[1].replicas[0], 2);
    assert_int_equal(apply(create_command("c", 2, 0, NULL)), KITH_OK); /* as it is, whatever that is */
    assert_false(result.changed);
    refused(create_command("c", 2, 1, shards), KITH_EXISTS,
        "collection \"c\" already exists with replication_factor 2, not 1");
    refused(node_command(KITH_CODEC_META_REMOVE_NODE, 1), KITH_PRECONDITION,
        "node \"n1\" still holds 2 shards, shard 0 of collection \"c\" among them: move them off first");
    assert_int_equal(apply(drop_command("c")), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_REMOVE_NODE, 1)), KITH_OK);
}

static void test_meta_assignment__none_means_the_one_node_there_is(void **unused) {
    (void)unused;
    refused(create_command("c", 2, 2, NULL), KITH_PRECONDITION,
        "replication_factor 2 needs as many nodes; there is one");
    assert_int_equal(apply(create_command("c", 2, 0, NULL)), KITH_OK);
    const kith_meta_collection *stored = kith_meta_state_find(&state, "c");
    assert_int_equal(stored->collection.replication_factor, 1);
    assert_int_equal(stored->shards[0].replica_count, 0);
    assert_int_equal(apply(create_command("c", 2, 1, NULL)), KITH_OK);
    assert_false(result.changed);
}

/* --- changes of shards --- */

/* Nodes 1..count, and collection "c" of one shard, on `replicas`. */
static void shard_make(uint32_t node_count, kith_meta_shard shard) {
    for (uint32_t i = 0; i < node_count; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(create_command("c", 1, shard.replica_count, &shard)), KITH_OK);
}

static const kith_meta_shard *shard_of(const char *name, uint32_t index) {
    return &kith_meta_state_find(&state, name)->shards[index];
}

static void shard_is(const kith_meta_shard *have, kith_meta_shard wanted) {
    assert_int_equal(have->epoch, wanted.epoch);
    assert_int_equal(have->in_sync, wanted.in_sync);
    assert_int_equal(have->replica_count, wanted.replica_count);
    assert_memory_equal(have->replicas, wanted.replicas, sizeof have->replicas);
}

static kith_status change(uint64_t shard_id, kith_meta_shard wanted) {
    kith_codec_meta_shard_change one = {.shard_id = shard_id, .shard = wanted};
    return apply(changes_command(&one, 1));
}

static void change_refused(
    uint64_t shard_id, kith_meta_shard wanted, kith_status status, const char *message) {
    kith_codec_meta_shard_change one = {.shard_id = shard_id, .shard = wanted};
    kith_meta_shard before = *shard_of("c", 0);
    refused(changes_command(&one, 1), status, message);
    shard_is(shard_of("c", 0), before);
}

static void test_meta_shards__change_by_compare_and_set_on_the_epoch(void **unused) {
    (void)unused;
    shard_make(4, (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}});
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}});
    kith_meta_shard wanted = {.epoch = 1, .replica_count = 2, .in_sync = 1, .replicas = {1, 2}};
    assert_int_equal(change(1, wanted), KITH_OK);
    assert_true(result.changed);
    wanted.epoch = 2;
    shard_is(shard_of("c", 0), wanted);
    wanted.epoch = 1;
    change_refused(1, wanted, KITH_PRECONDITION, "shard 1 has epoch 2, not 1");
    change_refused(9, wanted, KITH_NOT_FOUND, "there is no shard 9");
    assert_ptr_equal(kith_meta_state_shard(&state, 1), shard_of("c", 0));
    assert_null(kith_meta_state_shard(&state, 9));
    assert_null(kith_meta_state_shard(&state, 0));
    /* One more than the collection asks for, as when it moves; and nothing new but the epoch, as when its process starts. */
    wanted = (kith_meta_shard){.epoch = 2, .replica_count = 3, .in_sync = 5, .replicas = {1, 2, 4}};
    assert_int_equal(change(1, wanted), KITH_OK);
    wanted.epoch = 3;
    assert_int_equal(change(1, wanted), KITH_OK);
    wanted.epoch = 4;
    shard_is(shard_of("c", 0), wanted);
}

static void test_meta_shards__may_not_become_unsound(void **unused) {
    (void)unused;
    shard_make(4, (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}});
    assert_int_equal(apply(register_command(4, KITH_NODE_QUERY)), KITH_OK);
    kith_meta_shard wanted = {.epoch = 1, .in_sync = 1};
    change_refused(1, wanted, KITH_INVALID, "shard 1 has 0 replicas, not 1..7");
    wanted = (kith_meta_shard){.epoch = 1, .replica_count = 2, .in_sync = 1, .replicas = {1, 9}};
    change_refused(1, wanted, KITH_PRECONDITION, "shard 1.replicas[1]: there is no node 9");
    wanted.replicas[1] = 5;
    change_refused(
        1, wanted, KITH_INVALID, "shard 1.replicas[1]: node 5 (\"n4\") is a query node and holds no shards");
    wanted.replicas[1] = 1;
    change_refused(1, wanted, KITH_INVALID, "shard 1.replicas[1]: node 1 (\"n0\") is named twice");
    wanted.replicas[1] = 2;
    wanted.in_sync = 2;
    change_refused(
        1, wanted, KITH_INVALID, "shard 1: in_sync 0x2 is not of 2 replicas with the primary among them");
    wanted.in_sync = 5;
    change_refused(
        1, wanted, KITH_INVALID, "shard 1: in_sync 0x5 is not of 2 replicas with the primary among them");
}

static void test_meta_shards__primaries_were_in_sync_and_are_up(void **unused) {
    (void)unused;
    shard_make(4, (kith_meta_shard){.replica_count = 3, .replicas = {1, 2, 3}});
    kith_meta_shard wanted = {.epoch = 1, .replica_count = 3, .in_sync = 3, .replicas = {1, 2, 3}};
    assert_int_equal(change(1, wanted), KITH_OK); /* node 3 leaves */
    wanted = (kith_meta_shard){.epoch = 2, .replica_count = 3, .in_sync = 1, .replicas = {3, 1, 2}};
    change_refused(
        1, wanted, KITH_PRECONDITION, "shard 1: node \"n2\" cannot be its primary: it is not in sync");
    wanted.replicas[0] = 4;
    change_refused(
        1, wanted, KITH_PRECONDITION, "shard 1: node \"n3\" cannot be its primary: it is not in sync");
    wanted = (kith_meta_shard){.epoch = 2, .replica_count = 3, .in_sync = 7, .replicas = {2, 1, 3}};
    change_refused(1, wanted, KITH_PRECONDITION,
        "shard 1: node 3 comes in sync while the primary changes: only its primary knows");
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 1)), KITH_OK);
    wanted.in_sync = 3;
    change_refused(1, wanted, KITH_PRECONDITION, "shard 1: node \"n1\" cannot be its primary: it is down");
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(change(1, wanted), KITH_OK);
    wanted.epoch = 3;
    shard_is(shard_of("c", 0), wanted);
    wanted.in_sync = 7; /* as its primary it may say so */
    assert_int_equal(change(1, wanted), KITH_OK);
}

/* Otherwise one that registers again never could lead before it had: the shard would wait for a node event that never comes. */
static void test_meta_shards__nobody_comes_in_sync_under_a_primary_that_is_down(void **unused) {
    (void)unused;
    shard_make(2, (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}});
    kith_meta_shard wanted = {.epoch = 1, .replica_count = 2, .in_sync = 1, .replicas = {1, 2}};
    assert_int_equal(change(1, wanted), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    wanted = (kith_meta_shard){.epoch = 2, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}};
    change_refused(1, wanted, KITH_PRECONDITION, "shard 1: node \"n0\" cannot be its primary: it is down");
}

static void test_meta_shards__changes_of_one_command_stand_each_for_itself(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shards[3];
    for (uint32_t i = 0; i < 3; i++)
        shards[i] = (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}};
    assert_int_equal(apply(create_command("b", 3, 2, shards)), KITH_OK);
    assert_int_equal(apply(create_command("c", 3, 2, shards)), KITH_OK); /* shards 4..6 */
    kith_meta_shard alone = {.epoch = 1, .replica_count = 2, .in_sync = 1, .replicas = {1, 2}};
    kith_codec_meta_shard_change changes[] = {{.shard_id = 5, .shard = alone}, {.shard_id = 77},
        {.shard_id = 3, .shard = alone}, {.shard_id = 5, .shard = alone}};
    uint64_t version = state.map_version;
    assert_int_equal(apply(changes_command(changes, 4)), KITH_OK);
    assert_int_equal(state.map_version, version + 1);
    assert_int_equal(shard_of("b", 1)->epoch, 1);
    assert_int_equal(shard_of("b", 2)->epoch, 2);
    assert_int_equal(shard_of("c", 0)->epoch, 1);
    assert_int_equal(shard_of("c", 1)->epoch, 2); /* once: the second names the old epoch */
    refused(changes_command(changes, 4), KITH_PRECONDITION, "shard 5 has epoch 2, not 1");
}

/* --- failover --- */

static void test_meta_failover__old_primary_stays_a_replica_that_is_behind(void **unused) {
    (void)unused;
    shard_make(4, (kith_meta_shard){.replica_count = 4, .replicas = {1, 2, 3, 4}});
    kith_meta_shard wanted = {.epoch = 1, .replica_count = 4, .in_sync = 13, .replicas = {1, 2, 3, 4}};
    assert_int_equal(change(1, wanted), KITH_OK); /* node 2 is behind */
    uint64_t version = state.map_version;
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    assert_int_equal(state.map_version, version + 1);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 3, .replica_count = 4, .in_sync = 9, .replicas = {3, 1, 2, 4}});
    /* It comes back: the primary brings it up, and nothing else changes. */
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(shard_of("c", 0)->epoch, 3);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 2)), KITH_OK);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 4, .replica_count = 4, .in_sync = 1, .replicas = {4, 3, 1, 2}});
}

static void test_meta_failover__waits_for_one_in_sync(void **unused) {
    (void)unused;
    shard_make(3, (kith_meta_shard){.replica_count = 3, .replicas = {1, 2, 3}});
    kith_meta_shard wanted = {.epoch = 1, .replica_count = 3, .in_sync = 3, .replicas = {1, 2, 3}};
    assert_int_equal(change(1, wanted), KITH_OK); /* node 3 is behind, for good */
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 1)), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    wanted.epoch = 2;
    shard_is(shard_of("c", 0), wanted);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 2)), KITH_OK);
    assert_int_equal(apply(register_command(2, KITH_NODE_DATA)), KITH_OK);
    shard_is(shard_of("c", 0), wanted);
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 3, .replica_count = 3, .in_sync = 1, .replicas = {2, 1, 3}});
}

static void test_meta_failover__primary_that_comes_back_first_stays(void **unused) {
    (void)unused;
    shard_make(2, (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}});
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 1)), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(register_command(1, KITH_NODE_DATA)), KITH_OK);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}});
}

static void test_meta_failover__prefers_nodes_that_stay_and_lead_little(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shards[] = {{.replica_count = 3, .replicas = {1, 2, 3}},
        {.replica_count = 3, .replicas = {1, 2, 3}}, {.replica_count = 3, .replicas = {1, 3, 2}},
        {.replica_count = 3, .replicas = {1, 4, 2}}, {.replica_count = 2, .replicas = {1, 4}},
        {.replica_count = 1, .replicas = {2}}};
    assert_int_equal(apply(create_command("c", 6, 3, shards)), KITH_OK);
    assert_int_equal(apply(drain_command(3, true)), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 2, .replica_count = 3, .in_sync = 5, .replicas = {3, 1, 2}});
    assert_int_equal(result.promoted_count, 5);
    static const uint32_t primaries[] = {
        3, /* node 2 leads one, node 3 none */
        2, /* one each: the first */
        3, /* two and one */
        2, /* node 4 drains */
        4, /* better than nobody */
        2, /* as it was */
    };
    for (uint32_t i = 0; i < 6; i++) {
        assert_int_equal(shard_of("c", i)->replicas[0], primaries[i]);
        assert_int_equal(shard_of("c", i)->epoch, i < 5 ? 2 : 1);
    }
}

/* The leader placed it while its primary was up; that it is down was committed first. */
static void test_meta_failover__collection_created_on_a_node_that_went_down(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    kith_meta_shard shard = {.replica_count = 2, .replicas = {1, 2}};
    assert_int_equal(apply(create_command("c", 1, 2, &shard)), KITH_OK);
    shard_is(shard_of("c", 0),
        (kith_meta_shard){.epoch = 2, .replica_count = 2, .in_sync = 1, .replicas = {2, 1}});
}

enum { MANY_NODES = 100, MANY_COLLECTIONS = 10, MANY_SHARDS = 1000, MANY_DOWN = 10 };

/* No two of its replicas are in one rack of ten. */
static kith_meta_shard many_shard(uint32_t at) {
    uint32_t first = at % MANY_NODES, spread = at / MANY_NODES % 40;
    return (kith_meta_shard){.replica_count = 3,
        .replicas = {
            1 + first, 1 + (first + 10 + spread) % MANY_NODES, 1 + (first + 50 + spread) % MANY_NODES}};
}

/* A rack of ten nodes goes at once: 10,000 shards of three replicas. A command each, and its time is printed (0.2 ms each;
 * release, one core, 2026-11-21). */
static void test_meta_failover__many_shards_are_one_quick_command(void **unused) {
    (void)unused;
    static kith_meta_shard shards[MANY_SHARDS];
    for (uint32_t i = 0; i < MANY_NODES; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    for (uint32_t c = 0; c < MANY_COLLECTIONS; c++) {
        char name[8];
        snprintf(name, sizeof name, "c%u", c);
        for (uint32_t s = 0; s < MANY_SHARDS; s++)
            shards[s] = many_shard(c * MANY_SHARDS + s);
        assert_int_equal(apply(create_command(name, MANY_SHARDS, 3, shards)), KITH_OK);
    }
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < MANY_DOWN; i++) {
        kith_codec_meta_command down = node_command(KITH_CODEC_META_NODE_DOWN, i);
        kith_meta_state_apply(&state, state.applied_index + 1, &down, &result);
        assert_true(result.changed);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double took_ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    print_message("%u nodes down, %u shards: %.2f ms a command\n", MANY_DOWN, MANY_COLLECTIONS * MANY_SHARDS,
        took_ms / MANY_DOWN);
    uint32_t leads[MANY_NODES + 1] = {0};
    for (uint32_t c = 0; c < MANY_COLLECTIONS; c++) {
        for (uint32_t s = 0; s < MANY_SHARDS; s++)
            leads[state.collections[c]->shards[s].replicas[0]]++;
    }
    for (uint32_t number = 1; number <= MANY_NODES; number++) {
        const kith_node *node = kith_meta_state_node(&state, number);
        if (node->down)
            assert_int_equal(leads[number], 0);
        else
            assert_in_range(leads[number], 100, 130); /* 111 in the mean */
    }
}

/* --- updates --- */

static void test_meta_update__replication_of_a_collection(void **unused) {
    (void)unused;
    shard_make(3, (kith_meta_shard){.replica_count = 2, .replicas = {1, 2}});
    const kith_collection *have = &kith_meta_state_find(&state, "c")->collection;
    assert_int_equal(have->min_in_sync, 1);
    assert_int_equal(apply(update_command("c", 3, 2)), KITH_OK);
    assert_true(result.changed);
    assert_int_equal(result.collection.replication_factor, 3);
    assert_int_equal(have->replication_factor, 3);
    assert_int_equal(have->min_in_sync, 2);
    assert_int_equal(shard_of("c", 0)->epoch, 1); /* replicas come later */
    assert_int_equal(apply(update_command("c", 0, 0)), KITH_OK);
    assert_false(result.changed);
    refused(update_command("c", 2, 3), KITH_INVALID, "min_in_sync 3 is not in 1..2, the replication_factor");
    refused(update_command("c", 4, 0), KITH_PRECONDITION,
        "replication_factor 4 needs as many data nodes; there are 3");
    refused(update_command("d", 2, 0), KITH_NOT_FOUND, "collection \"d\" does not exist");
    kith_codec_meta_command other = update_command("c", 2, 0);
    other.collection.id = 9;
    refused(other, KITH_NOT_FOUND, "collection \"c\" does not exist");
    assert_int_equal(apply(update_command("c", 1, 0)), KITH_OK);
    assert_int_equal(have->min_in_sync, 1); /* more than there are is not what was meant */
    refused(create_command("c", 1, 2, NULL), KITH_EXISTS,
        "collection \"c\" already exists with replication_factor 1, not 2");
    kith_codec_meta_command again = create_command("c", 1, 0, NULL);
    again.collection.min_in_sync = 2;
    refused(again, KITH_EXISTS, "collection \"c\" already exists with min_in_sync 1, not 2");
}

static void test_meta_update__one_node_has_one_copy(void **unused) {
    (void)unused;
    assert_int_equal(apply(create_command("c", 1, 0, NULL)), KITH_OK);
    refused(update_command("c", 2, 0), KITH_PRECONDITION,
        "replication_factor 2 needs as many data nodes; there is 1");
    kith_codec_meta_command command = create_command("d", 1, 1, NULL);
    command.collection.min_in_sync = 2;
    refused(command, KITH_INVALID, "min_in_sync 2 is not in 1..1, the replication_factor");
}

static kith_codec_meta_command create_durable(
    const char *name, kith_durability durability, const kith_meta_shard *shards) {
    kith_codec_meta_command command = create_command(name, 1, shards ? shards->replica_count : 0, shards);
    command.collection.durability = durability;
    return command;
}

static void test_meta_update__durability_of_a_collection(void **unused) {
    (void)unused;
    const kith_meta_shard shard = {.replica_count = 2, .replicas = {1, 2}};
    shard_make(3, shard); /* says nothing */
    const kith_collection *have = &kith_meta_state_find(&state, "c")->collection;
    assert_int_equal(have->durability, KITH_DURABILITY_SYNC);
    assert_int_equal(apply(durability_command("c", KITH_DURABILITY_ASYNC)), KITH_OK);
    assert_true(result.changed);
    assert_int_equal(result.collection.durability, KITH_DURABILITY_ASYNC);
    assert_int_equal(have->durability, KITH_DURABILITY_ASYNC);
    assert_int_equal(apply(durability_command("c", KITH_DURABILITY_ASYNC)), KITH_OK);
    assert_false(result.changed);
    assert_int_equal(apply(update_command("c", 3, 2)), KITH_OK);
    assert_int_equal(have->durability, KITH_DURABILITY_ASYNC); /* as it is */
    assert_int_equal(apply(durability_command("c", KITH_DURABILITY_SYNC)), KITH_OK);
    assert_true(result.changed);
    assert_int_equal(have->durability, KITH_DURABILITY_SYNC);
    refused(durability_command("c", (kith_durability)3), KITH_INVALID,
        "durability 3 is unknown; sync (1) and async (2) are allowed");
    refused(create_durable("d", (kith_durability)3, &shard), KITH_INVALID,
        "durability 3 is unknown; sync (1) and async (2) are allowed");
    assert_int_equal(apply(create_durable("d", KITH_DURABILITY_ASYNC, &shard)), KITH_OK);
    assert_int_equal(kith_meta_state_find(&state, "d")->collection.durability, KITH_DURABILITY_ASYNC);
}

static void test_meta_create__exists_with_another_durability(void **unused) {
    (void)unused;
    const kith_meta_shard shard = {.replica_count = 2, .replicas = {1, 2}};
    shard_make(3, shard);
    assert_int_equal(apply(create_durable("d", KITH_DURABILITY_ASYNC, &shard)), KITH_OK);
    for (kith_durability said = KITH_DURABILITY_UNSAID; said <= KITH_DURABILITY_ASYNC; said++) {
        if (said == KITH_DURABILITY_ASYNC)
            refused(create_durable("c", said, &shard), KITH_EXISTS,
                "collection \"c\" already exists with durability sync, not async");
        else
            assert_int_equal(apply(create_durable("c", said, &shard)), KITH_OK);
        if (said == KITH_DURABILITY_SYNC)
            refused(create_durable("d", said, &shard), KITH_EXISTS,
                "collection \"d\" already exists with durability async, not sync");
        else
            assert_int_equal(apply(create_durable("d", said, &shard)), KITH_OK);
        assert_false(result.changed);
    }
}

static void test_meta_update__one_node_has_writes_on_its_disk(void **unused) {
    (void)unused;
    const char *message = "durability async needs data nodes; collection \"c\" is on none";
    refused(create_durable("c", KITH_DURABILITY_ASYNC, NULL), KITH_PRECONDITION, message);
    assert_int_equal(apply(create_durable("c", KITH_DURABILITY_SYNC, NULL)), KITH_OK);
    refused(durability_command("c", KITH_DURABILITY_ASYNC), KITH_PRECONDITION, message);
    assert_int_equal(apply(durability_command("c", KITH_DURABILITY_SYNC)), KITH_OK);
    assert_false(result.changed);
}

/* --- repeated commands --- */

static kith_codec_meta_command asked(kith_codec_meta_command command, uint8_t client, uint64_t number) {
    command.request_id = (kith_request_id){.client = {client}, .number = number};
    return command;
}

static void test_meta_answers__a_repeat_gets_the_first_answer(void **unused) {
    (void)unused;
    assert_int_equal(apply(asked(create_command("c", 1, 0, NULL), 1, 1)), KITH_OK);
    assert_true(result.answer_changed);
    assert_int_equal(apply(asked(drop_command("c"), 1, 2)), KITH_OK);
    assert_int_equal(apply(create_command("c", 1, 0, NULL)), KITH_OK);
    assert_int_equal(result.collection.id, 2);
    /* Repeats: what is there now was made by someone else, and stays. */
    assert_int_equal(apply(asked(drop_command("c"), 1, 2)), KITH_OK);
    assert_false(result.changed);
    assert_true(result.answer_changed);
    assert_int_equal(result.collection.id, 1);
    assert_int_equal(apply(asked(create_command("c", 1, 0, NULL), 1, 1)), KITH_OK);
    assert_false(result.changed);
    assert_true(result.answer_changed);
    assert_int_equal(result.collection.id, 1);
    assert_int_equal(kith_meta_state_find(&state, "c")->collection.id, 2);
    /* Refusals too. */
    refused(asked(drop_command("d"), 2, 2), KITH_NOT_FOUND, "collection \"d\" does not exist");
    assert_int_equal(apply(create_command("d", 1, 0, NULL)), KITH_OK);
    refused(asked(drop_command("d"), 2, 2), KITH_NOT_FOUND, "collection \"d\" does not exist");
    assert_int_equal(apply(asked(drop_command("d"), 2, 3)), KITH_OK);
}

static void test_meta_answers__the_oldest_is_forgotten(void **unused) {
    (void)unused;
    for (uint64_t i = 0; i <= KITH_META_ANSWERS_MAX; i++)
        assert_int_equal(apply(asked(drop_command("c"), 1, i)), KITH_NOT_FOUND);
    assert_int_equal(state.answer_count, KITH_META_ANSWERS_MAX);
    assert_int_equal(apply(create_command("c", 1, 0, NULL)), KITH_OK);
    assert_int_equal(apply(asked(drop_command("c"), 1, 1)), KITH_NOT_FOUND); /* remembered */
    assert_int_equal(apply(asked(drop_command("c"), 1, 0)), KITH_OK);        /* not any more */
}

/* --- snapshots --- */

static void state_refused(const kith_meta_state *bad, const char *message) {
    kith_err err;
    assert_int_equal(kith_meta_state_validate(bad, &err), KITH_CORRUPT);
    assert_string_equal(err.text, message);
}

static void test_meta_nodes__broken_invariants_are_named(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shards[2] = {
        {.replica_count = 1, .replicas = {1}}, {.replica_count = 1, .replicas = {2}}};
    assert_int_equal(apply(create_command("c", 2, 2, shards)), KITH_OK);
    kith_meta_collection *stored = state.collections[0];
    stored->shards[1].replica_count = 0;
    state_refused(&state, "metadata: collection \"c\": shards[1] has 0 replicas, not 1..7");
    stored->shards[1].replica_count = 1;
    stored->shards[1].epoch = 0;
    state_refused(&state, "metadata: collection \"c\": shards[1] has epoch 0");
    stored->shards[1].epoch = 1;
    stored->shards[0].in_sync = 0;
    state_refused(&state, "metadata: collection \"c\": shards[0]: in_sync 0x0 is not of 1 replicas with the "
                          "primary among them");
    stored->shards[0].in_sync = 3;
    state_refused(&state, "metadata: collection \"c\": shards[0]: in_sync 0x3 is not of 1 replicas with the "
                          "primary among them");
    stored->shards[0].in_sync = 1;
    stored->collection.min_in_sync = 3;
    state_refused(&state, "metadata: collection \"c\" has min_in_sync 3 of 2");
    stored->collection.min_in_sync = 1;
    stored->collection.durability = KITH_DURABILITY_UNSAID;
    state_refused(&state, "metadata: collection \"c\" has durability 0");
    stored->collection.durability = KITH_DURABILITY_SYNC;
    state.nodes[2].number = 2;
    state_refused(&state, "metadata: node \"n2\" has number 2, after 2 and before 4");
    state.nodes[2].number = 4;
    state_refused(&state, "metadata: node \"n2\" has number 4, after 2 and before 4");
    state.nodes[2].number = 3;
    state.nodes[2].id = state.nodes[0].id;
    state_refused(&state, "metadata: node \"n2\" has the id of another one");
    state.nodes[2].id = id_of(2);
    state.nodes[2].up_map_version = 99;
    state_refused(&state, "metadata: node \"n2\" came up at map version 99, after 5");
}

/* --- against a model --- */

enum { NODES = 7, NAMES = 5, CLIENTS = 3, REMEMBERED = 4096 };

typedef struct naive_node {
    bool there, down, draining;
    kith_node_role role;
    uint32_t number, weight;
    uint64_t up;
} naive_node;

typedef struct naive_collection {
    bool there;
    uint64_t id;
    uint64_t shard_id_first;
    uint32_t shard_count, replication_factor, min_in_sync;
    bool is_async;
    kith_meta_shard shards[3];
} naive_collection;

typedef struct naive {
    naive_node nodes[NODES];
    naive_collection collections[NAMES];
    uint64_t version, ids_given, shards_given;
    uint32_t numbers_given;
    struct {
        uint8_t client;
        uint64_t number;
        kith_status status;
        bool changed;
    } answers[REMEMBERED]; /* all of them: the window is never passed */
    uint32_t answer_count;
} naive;

static uint32_t who_is(const kith_node_id *id) {
    return (uint32_t)id->bytes[0] - 1;
}

static uint32_t name_index(const kith_collection *collection) {
    return (uint32_t)(collection->name[1] - '0');
}

static kith_status naive_register(naive *model, const kith_node *said, bool *changed_out) {
    naive_node *node = &model->nodes[who_is(&said->id)];
    if (node->there && node->role != said->role) return KITH_PRECONDITION;
    *changed_out = !node->there || node->down || node->weight != said->weight;
    if (!*changed_out) return KITH_OK;
    if (!node->there) *node = (naive_node){.number = ++model->numbers_given, .there = true};
    node->role = said->role;
    node->weight = said->weight;
    node->down = false;
    node->up = model->version + 1;
    return KITH_OK;
}

static bool naive_holds(const naive *model, uint32_t number) {
    for (uint32_t c = 0; c < NAMES; c++) {
        const naive_collection *collection = &model->collections[c];
        for (uint32_t s = 0; collection->there && s < collection->shard_count; s++) {
            for (uint32_t r = 0; r < collection->shards[s].replica_count; r++) {
                if (collection->shards[s].replicas[r] == number) return true;
            }
        }
    }
    return false;
}

static kith_status naive_node_change(
    naive *model, const kith_codec_meta_command *command, bool *changed_out) {
    naive_node *node = &model->nodes[who_is(&command->node.id)];
    if (!node->there) return KITH_NOT_FOUND;
    switch (command->kind) {
    case KITH_CODEC_META_NODE_DOWN:
        if (node->down) return KITH_OK;
        if (command->judged_map_version && command->judged_map_version < node->up) return KITH_PRECONDITION;
        node->down = *changed_out = true;
        return KITH_OK;
    case KITH_CODEC_META_DRAIN_NODE:
        if (node->role == KITH_NODE_QUERY) return KITH_INVALID;
        *changed_out = node->draining != command->node.draining;
        node->draining = command->node.draining;
        return KITH_OK;
    default:
        if (naive_holds(model, node->number)) return KITH_PRECONDITION;
        node->there = false;
        *changed_out = true;
        return KITH_OK;
    }
}

static const naive_node *naive_node_of(const naive *model, uint32_t number) {
    for (uint32_t n = 0; n < NODES; n++) {
        if (model->nodes[n].there && model->nodes[n].number == number) return &model->nodes[n];
    }
    return NULL;
}

/* The first fault in reading order decides. */
static kith_status naive_replicas(const naive *model, const kith_meta_shard *shard, uint32_t replicas_max) {
    if (shard->replica_count < 1 || shard->replica_count > replicas_max) return KITH_INVALID;
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        const naive_node *node = naive_node_of(model, shard->replicas[r]);
        if (!node) return KITH_PRECONDITION;
        if (node->role == KITH_NODE_QUERY) return KITH_INVALID;
        for (uint32_t other = 0; other < r; other++) {
            if (shard->replicas[other] == shard->replicas[r]) return KITH_INVALID;
        }
    }
    return KITH_OK;
}

static kith_status naive_assignment(const naive *model, const kith_codec_meta_command *command) {
    uint32_t factor = command->collection.replication_factor ? command->collection.replication_factor : 1;
    kith_status status = KITH_OK;
    for (uint32_t s = 0; s < command->collection.shard_count && status == KITH_OK; s++)
        status = naive_replicas(model, &command->shards[s], factor);
    return status;
}

static bool naive_in_sync(const kith_meta_shard *shard, uint32_t number) {
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        if (shard->replicas[r] == number && (shard->in_sync & (1u << r))) return true;
    }
    return false;
}

static uint32_t naive_primaries(const naive *model, uint32_t number) {
    uint32_t count = 0;
    for (uint32_t c = 0; c < NAMES; c++) {
        const naive_collection *collection = &model->collections[c];
        for (uint32_t s = 0; collection->there && s < collection->shard_count; s++)
            count += collection->shards[s].replica_count > 0 && collection->shards[s].replicas[0] == number;
    }
    return count;
}

/* Of those that may follow: what is worse about each as one number, the least wins, the first of equals. */
static uint32_t naive_successor(const naive *model, const kith_meta_shard *shard) {
    uint32_t best = 0, best_cost = UINT32_MAX;
    for (uint32_t r = 0; r < shard->replica_count; r++) {
        uint32_t number = shard->replicas[r];
        const naive_node *node = naive_node_of(model, number);
        if (node->down || !naive_in_sync(shard, number)) continue;
        uint32_t cost = naive_primaries(model, number) + (node->draining ? 1000 : 0);
        if (cost >= best_cost) continue;
        best = number;
        best_cost = cost;
    }
    return best;
}

static void naive_failover(naive *model) {
    for (uint32_t c = 0; c < NAMES; c++) {
        naive_collection *collection = &model->collections[c];
        for (uint32_t s = 0; collection->there && s < collection->shard_count; s++) {
            kith_meta_shard *shard = &collection->shards[s], before = *shard;
            if (shard->replica_count == 0 || !naive_node_of(model, shard->replicas[0])->down) continue;
            uint32_t next = naive_successor(model, shard);
            if (next == 0) continue;
            uint32_t at = 1;
            shard->epoch++;
            shard->replicas[0] = next;
            shard->in_sync = 1;
            for (uint32_t r = 0; r < before.replica_count; r++) {
                if (before.replicas[r] == next) continue;
                if (r > 0 && (before.in_sync & (1u << r))) shard->in_sync |= (uint8_t)(1u << at);
                shard->replicas[at++] = before.replicas[r];
            }
        }
    }
}

static kith_meta_shard *naive_shard(naive *model, uint64_t id) {
    for (uint32_t c = 0; c < NAMES; c++) {
        naive_collection *collection = &model->collections[c];
        for (uint32_t s = 0; collection->there && s < collection->shard_count; s++) {
            if (collection->shard_id_first + s == id) return &collection->shards[s];
        }
    }
    return NULL;
}

static kith_status naive_change(naive *model, const kith_codec_meta_shard_change *change) {
    kith_meta_shard *have = naive_shard(model, change->shard_id);
    const kith_meta_shard *wanted = &change->shard;
    if (!have) return KITH_NOT_FOUND;
    if (have->epoch != wanted->epoch) return KITH_PRECONDITION;
    kith_status status = naive_replicas(model, wanted, KITH_REPLICAS_MAX);
    if (status != KITH_OK) return status;
    if (!(wanted->in_sync & 1) || wanted->in_sync >= 1u << wanted->replica_count) return KITH_INVALID;
    if (!naive_in_sync(have, wanted->replicas[0])) return KITH_PRECONDITION;
    if (naive_node_of(model, wanted->replicas[0])->down) return KITH_PRECONDITION;
    for (uint32_t r = 0; r < wanted->replica_count; r++) {
        bool comes = (wanted->in_sync & (1u << r)) && !naive_in_sync(have, wanted->replicas[r]);
        if (comes && have->replicas[0] != wanted->replicas[0]) return KITH_PRECONDITION;
    }
    uint64_t loss_epoch = have->loss_epoch;
    *have = *wanted;
    have->epoch++;
    have->loss_epoch = loss_epoch;
    return KITH_OK;
}

static kith_status naive_accept_loss(
    naive *model, const kith_codec_meta_command *command, bool *changed_out) {
    naive_collection *collection = &model->collections[name_index(&command->collection)];
    if (!collection->there) return KITH_NOT_FOUND;
    if (command->shard_index >= collection->shard_count) return KITH_INVALID;
    kith_meta_shard *shard = &collection->shards[command->shard_index], before = *shard;
    const naive_node *node = &model->nodes[who_is(&command->node.id)];
    if (!node->there) return KITH_NOT_FOUND;
    if (!kith_meta_shard_is_on(shard, node->number)) return KITH_PRECONDITION;
    if (shard->replicas[0] == node->number && shard->loss_epoch == shard->epoch) return KITH_OK;
    if (node->down) return KITH_PRECONDITION;
    *changed_out = true;
    shard->loss_epoch = ++shard->epoch;
    shard->in_sync = 1;
    shard->replicas[0] = node->number;
    uint32_t at = 1;
    for (uint32_t r = 0; r < before.replica_count; r++) {
        if (before.replicas[r] != node->number) shard->replicas[at++] = before.replicas[r];
    }
    return KITH_OK;
}

static kith_status naive_changes(naive *model, const kith_codec_meta_command *command, bool *changed_out) {
    kith_status first = KITH_OK;
    for (uint32_t i = 0; i < command->change_count; i++) {
        kith_status status = naive_change(model, &command->changes[i]);
        if (status == KITH_OK)
            *changed_out = true;
        else if (first == KITH_OK)
            first = status;
    }
    return *changed_out ? KITH_OK : first;
}

static kith_status naive_update(naive *model, const kith_collection *wanted, bool *changed_out) {
    naive_collection *have = &model->collections[name_index(wanted)];
    if (!have->there || (wanted->id && wanted->id != have->id)) return KITH_NOT_FOUND;
    uint32_t factor = wanted->replication_factor ? wanted->replication_factor : have->replication_factor;
    uint32_t min = wanted->min_in_sync          ? wanted->min_in_sync
                   : have->min_in_sync > factor ? factor
                                                : have->min_in_sync;
    uint32_t nodes = 0;
    if (min > factor) return KITH_INVALID;
    for (uint32_t n = 0; n < NODES; n++)
        nodes += model->nodes[n].there && model->nodes[n].role == KITH_NODE_DATA;
    if (have->shards[0].replica_count == 0) nodes = 1;
    bool is_async = wanted->durability ? wanted->durability == KITH_DURABILITY_ASYNC : have->is_async;
    if (is_async && have->shards[0].replica_count == 0) return KITH_PRECONDITION;
    if (factor > have->replication_factor && factor > nodes) return KITH_PRECONDITION;
    *changed_out =
        factor != have->replication_factor || min != have->min_in_sync || is_async != have->is_async;
    have->is_async = is_async;
    have->replication_factor = factor;
    have->min_in_sync = min;
    return KITH_OK;
}

static kith_status naive_create(naive *model, const kith_codec_meta_command *command, bool *changed_out) {
    const kith_collection *wanted = &command->collection;
    naive_collection *collection = &model->collections[name_index(wanted)];
    bool nodes = false;
    if (collection->there) {
        bool same =
            collection->shard_count == wanted->shard_count &&
            (!wanted->min_in_sync || collection->min_in_sync == wanted->min_in_sync) &&
            (!wanted->durability || collection->is_async == (wanted->durability == KITH_DURABILITY_ASYNC)) &&
            (!wanted->replication_factor || collection->replication_factor == wanted->replication_factor);
        return same ? KITH_OK : KITH_EXISTS;
    }
    for (uint32_t n = 0; n < NODES; n++)
        nodes = nodes || model->nodes[n].there;
    uint32_t factor = wanted->replication_factor ? wanted->replication_factor : 1;
    kith_status status = KITH_OK;
    if (wanted->min_in_sync > factor)
        status = KITH_INVALID;
    else if (command->shards)
        status = naive_assignment(model, command);
    else if (nodes || wanted->replication_factor > 1 || wanted->durability == KITH_DURABILITY_ASYNC)
        status = KITH_PRECONDITION;
    if (status != KITH_OK) return status;
    *collection = (naive_collection){.there = true,
        .id = ++model->ids_given,
        .shard_id_first = model->shards_given + 1,
        .shard_count = wanted->shard_count,
        .replication_factor = factor,
        .min_in_sync = wanted->min_in_sync ? wanted->min_in_sync : (factor + 1) / 2,
        .is_async = wanted->durability == KITH_DURABILITY_ASYNC};
    model->shards_given += wanted->shard_count;
    for (uint32_t s = 0; s < wanted->shard_count; s++) {
        kith_meta_shard *shard = &collection->shards[s];
        if (command->shards) *shard = command->shards[s];
        shard->epoch = 1;
        for (uint32_t r = 0; r < shard->replica_count; r++)
            shard->in_sync |= (uint8_t)(1u << r);
    }
    *changed_out = true;
    return KITH_OK;
}

static kith_status naive_rule(naive *model, const kith_codec_meta_command *command, bool *changed_out) {
    if (command->kind == KITH_CODEC_META_CREATE_COLLECTION) return naive_create(model, command, changed_out);
    if (command->kind == KITH_CODEC_META_CHANGE_SHARDS) return naive_changes(model, command, changed_out);
    if (command->kind == KITH_CODEC_META_UPDATE_COLLECTION)
        return naive_update(model, &command->collection, changed_out);
    if (command->kind == KITH_CODEC_META_REGISTER_NODE)
        return naive_register(model, &command->node, changed_out);
    if (command->kind == KITH_CODEC_META_ACCEPT_LOSS) return naive_accept_loss(model, command, changed_out);
    if (command->kind != KITH_CODEC_META_DROP_COLLECTION)
        return naive_node_change(model, command, changed_out);
    naive_collection *collection = &model->collections[name_index(&command->collection)];
    *changed_out = collection->there;
    collection->there = false;
    return *changed_out ? KITH_OK : KITH_NOT_FOUND;
}

/* `answer_changed_out`: what the client is told. */
static kith_status naive_apply(
    naive *model, const kith_codec_meta_command *command, bool *answer_changed_out) {
    uint8_t client = command->request_id.client[0];
    for (uint32_t i = 0; client && i < model->answer_count; i++) {
        if (model->answers[i].client != client || model->answers[i].number != command->request_id.number)
            continue;
        *answer_changed_out = model->answers[i].changed;
        return model->answers[i].status;
    }
    *answer_changed_out = false;
    kith_status status = naive_rule(model, command, answer_changed_out);
    naive_failover(model); /* after every command: most make no difference */
    model->version += *answer_changed_out;
    if (!client) return status;
    assert_true(model->answer_count < KITH_META_ANSWERS_MAX);
    model->answers[model->answer_count].client = client;
    model->answers[model->answer_count].number = command->request_id.number;
    model->answers[model->answer_count].status = status;
    model->answers[model->answer_count++].changed = *answer_changed_out;
    return status;
}

/* Mostly of a node that is there. */
static uint32_t number_draw(kith_rng *rng, const naive *model) {
    const naive_node *node = &model->nodes[kith_rng_below(rng, NODES)];
    return node->there && kith_rng_below(rng, 10) ? node->number : 1 + (uint32_t)kith_rng_below(rng, 12);
}

static void shards_draw(
    kith_rng *rng, const naive *model, kith_codec_meta_command *command, kith_meta_shard *shards) {
    uint32_t factor = command->collection.replication_factor ? command->collection.replication_factor : 1;
    for (uint32_t s = 0; s < command->collection.shard_count; s++) {
        shards[s] = (kith_meta_shard){.replica_count = (uint8_t)(1 + kith_rng_below(rng, factor))};
        for (uint32_t r = 0; r < shards[s].replica_count; r++)
            shards[s].replicas[r] = number_draw(rng, model);
    }
    command->shards = shards;
}

/* What a primary, a mover or someone who is mistaken would ask for. */
static void change_draw(kith_rng *rng, naive *model, kith_codec_meta_shard_change *change_out) {
    *change_out = (kith_codec_meta_shard_change){
        .shard_id = model->shards_given - kith_rng_below(rng, model->shards_given < 12 ? 1 : 12)};
    const kith_meta_shard *have = naive_shard(model, change_out->shard_id);
    if (have) change_out->shard = *have;
    kith_meta_shard *wanted = &change_out->shard;
    for (uint32_t r = have ? have->replica_count : 0; r > 0 && r < 5 && kith_rng_below(rng, 3) == 0; r++) {
        wanted->replicas[r] = number_draw(rng, model);
        wanted->replica_count++;
    }
    if (wanted->replica_count > 0 && kith_rng_below(rng, 2))
        wanted->in_sync ^= (uint8_t)(1u << kith_rng_below(rng, wanted->replica_count));
    if (wanted->replica_count > 1 && kith_rng_below(rng, 4) == 0) { /* the first two change places */
        uint32_t number = wanted->replicas[0];
        wanted->replicas[0] = wanted->replicas[1];
        wanted->replicas[1] = number;
    }
    if (wanted->replica_count > 1 && kith_rng_below(rng, 4) == 0) {
        wanted->replicas[--wanted->replica_count] = 0;
        wanted->in_sync &= kith_replicas_all(wanted->replica_count);
    }
    if (kith_rng_below(rng, 10) == 0) wanted->epoch += kith_rng_below(rng, 2) ? 1 : UINT64_MAX;
}

/* Some of them nonsense, many of them repeats. `stable`: the same data nodes, that go and come, have many replicas. */
static kith_codec_meta_command command_draw(kith_rng *rng, naive *model, bool stable, kith_meta_shard *shards,
    kith_codec_meta_shard_change *changes) {
    kith_codec_meta_command command;
    uint32_t who = (uint32_t)kith_rng_below(rng, NODES);
    char name[3] = {'c', (char)('0' + kith_rng_below(rng, NAMES)), 0};
    uint32_t factor_max = stable ? 5 : 3;
    switch (kith_rng_below(rng, stable && kith_rng_below(rng, 5) ? 4 : 13)) {
    case 0:
    case 1:
        command = register_command(who, who < 2 && !stable ? KITH_NODE_QUERY : KITH_NODE_DATA);
        if (!stable && kith_rng_below(rng, 10) == 0) command.node.role = KITH_NODE_QUERY;
        command.node.weight = 100 + (uint32_t)kith_rng_below(rng, 2);
        break;
    case 2:
        command = node_command(KITH_CODEC_META_NODE_DOWN, who);
        command.judged_map_version = kith_rng_below(rng, 3) ? kith_rng_below(rng, model->version + 2) : 0;
        break;
    case 3:
        command = drain_command(who, kith_rng_below(rng, 2));
        break;
    case 4:
        command = node_command(KITH_CODEC_META_REMOVE_NODE, who);
        break;
    case 5:
        command = drop_command(name);
        break;
    case 6:
        command = update_command(name, (uint32_t)kith_rng_below(rng, 4), (uint32_t)kith_rng_below(rng, 3));
        command.collection.durability = (kith_durability)kith_rng_below(rng, 3);
        break;
    case 7:
    case 8:
        command = changes_command(changes, 1 + (uint32_t)kith_rng_below(rng, 4));
        for (uint32_t i = 0; i < command.change_count; i++)
            change_draw(rng, model, &changes[i]);
        break;
    case 9:
        command = node_command(KITH_CODEC_META_ACCEPT_LOSS, who);
        command.shard_index = (uint32_t)kith_rng_below(rng, 4);
        snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
        break;
    default:
        command = create_command(
            name, 1 + (uint32_t)kith_rng_below(rng, 3), (uint32_t)kith_rng_below(rng, factor_max + 1), NULL);
        if (kith_rng_below(rng, 3) == 0) command.collection.min_in_sync = (uint32_t)kith_rng_below(rng, 3);
        if (kith_rng_below(rng, 3) == 0)
            command.collection.durability = (kith_durability)kith_rng_below(rng, 3);
        if (kith_rng_below(rng, 6) > 0) shards_draw(rng, model, &command, shards);
    }
    if (model->answer_count > 0 && kith_rng_below(rng, 4) == 0) {
        uint32_t i = (uint32_t)kith_rng_below(rng, model->answer_count);
        command.request_id =
            (kith_request_id){.client = {model->answers[i].client}, .number = model->answers[i].number};
    } else if (model->answer_count < KITH_META_ANSWERS_MAX && kith_rng_below(rng, 2)) {
        command.request_id = (kith_request_id){
            .client = {(uint8_t)(1 + kith_rng_below(rng, CLIENTS))}, .number = model->answer_count};
    }
    return command;
}

static void nodes_compare(const kith_meta_state *have, const naive *model) {
    uint32_t count = 0;
    for (uint32_t n = 0; n < NODES; n++) {
        const naive_node *wanted = &model->nodes[n];
        kith_node_id id = id_of(n);
        const kith_node *node = kith_meta_state_node_of_id(have, &id);
        assert_int_equal(node != NULL, wanted->there);
        if (!node) continue;
        count++;
        assert_int_equal(node->number, wanted->number);
        assert_ptr_equal(kith_meta_state_node(have, node->number), node);
        assert_int_equal(node->role, wanted->role);
        assert_int_equal(node->weight, wanted->weight);
        assert_int_equal(node->down, wanted->down);
        assert_int_equal(node->draining, wanted->draining);
    }
    assert_int_equal(have->node_count, count);
}

static void shards_compare(const kith_meta_collection *stored, const naive_collection *wanted) {
    assert_int_equal(stored->collection.id, wanted->id);
    assert_int_equal(stored->collection.shard_count, wanted->shard_count);
    assert_int_equal(stored->collection.replication_factor, wanted->replication_factor);
    assert_int_equal(stored->collection.min_in_sync, wanted->min_in_sync);
    assert_int_equal(
        stored->collection.durability, wanted->is_async ? KITH_DURABILITY_ASYNC : KITH_DURABILITY_SYNC);
    for (uint32_t s = 0; s < wanted->shard_count; s++) {
        assert_int_equal(stored->shards[s].epoch, wanted->shards[s].epoch);
        assert_int_equal(stored->shards[s].loss_epoch, wanted->shards[s].loss_epoch);
        assert_int_equal(stored->shards[s].in_sync, wanted->shards[s].in_sync);
        assert_int_equal(stored->shards[s].replica_count, wanted->shards[s].replica_count);
        for (uint32_t r = 0; r < wanted->shards[s].replica_count; r++)
            assert_int_equal(stored->shards[s].replicas[r], wanted->shards[s].replicas[r]);
    }
}

static void states_compare(const kith_meta_state *have, const naive *model) {
    uint32_t count = 0;
    nodes_compare(have, model);
    for (uint32_t c = 0; c < NAMES; c++) {
        char name[3] = {'c', (char)('0' + c), 0};
        const kith_meta_collection *stored = kith_meta_state_find(have, name);
        assert_int_equal(stored != NULL, model->collections[c].there);
        if (!stored) continue;
        count++;
        shards_compare(stored, &model->collections[c]);
    }
    assert_int_equal(have->collection_count, count);
    assert_int_equal(have->map_version, model->version);
}

/* Whatever happened: epochs rise, by one for each change; who becomes primary was in sync, unless loss was accepted; and no shard has a primary that is down
 * while a replica in sync is up. */
static void promises_check(const naive *before, const naive *after, uint32_t changes_max) {
    for (uint64_t id = 1; id <= after->shards_given; id++) {
        const kith_meta_shard *shard = naive_shard((naive *)after, id);
        const kith_meta_shard *was = naive_shard((naive *)before, id);
        if (!shard || shard->replica_count == 0) continue;
        if (was) assert_in_range(shard->epoch - was->epoch, 0, changes_max);
        if (was && changes_max == 1)
            assert_true(naive_in_sync(was, shard->replicas[0]) || shard->loss_epoch == shard->epoch);
        if (was) assert_true(shard->loss_epoch >= was->loss_epoch && shard->loss_epoch <= shard->epoch);
        if (was && shard->epoch == was->epoch) assert_memory_equal(shard, was, sizeof *shard);
        if (!naive_node_of(after, shard->replicas[0])->down) continue;
        for (uint32_t r = 1; r < shard->replica_count; r++) {
            bool could = naive_in_sync(shard, shard->replicas[r]);
            assert_false(could && !naive_node_of(after, shard->replicas[r])->down);
        }
    }
}

/* The map says of each shard what the state says. */
static void map_compare(const kith_meta_map *map, const kith_meta_state *have) {
    assert_int_equal(map->version, have->map_version);
    assert_int_equal(map->entry_count, have->collection_count);
    for (uint32_t c = 0; c < map->entry_count; c++) {
        const kith_meta_entry *entry = map->entries[c];
        const kith_meta_collection *stored = have->collections[c];
        uint32_t width = entry->replica_width;
        assert_int_equal(entry->collection.replication_factor, stored->collection.replication_factor);
        assert_int_equal(entry->collection.min_in_sync, stored->collection.min_in_sync);
        assert_int_equal(entry->collection.durability, stored->collection.durability);
        for (uint32_t s = 0; s < stored->collection.shard_count; s++) {
            const kith_meta_shard *shard = &stored->shards[s];
            const uint16_t *replicas = entry->shard_replicas + s * width;
            assert_int_equal(entry->shard_nodes[s], replicas[0]);
            assert_int_equal(entry->shard_epochs[s], shard->epoch);
            assert_int_equal(entry->shard_in_sync[s], shard->replica_count > 0 ? shard->in_sync : 1);
            for (uint32_t r = 0; r < width; r++) {
                if (r < shard->replica_count)
                    assert_int_equal(map->nodes[replicas[r]].number, shard->replicas[r]);
                else if (r > 0)
                    assert_int_equal(replicas[r], KITH_META_NODE_NONE);
                else
                    assert_int_equal(
                        map->nodes[replicas[0]].number, have->node_count ? KITH_META_NUMBER_NOBODY : 0);
            }
        }
    }
}

/* The twin is restored from a snapshot before every command; the map is remade from the one before. */
static void random_history(kith_rng *rng, bool stable, uint64_t steps) {
    static naive model, before;
    kith_meta_fsm fsm, twin;
    kith_err err;
    kith_node self = {.name = "self"};
    memset(&model, 0, sizeof model);
    model.version = 1;
    kith_meta_fsm_init(&fsm);
    kith_meta_fsm_init(&twin);
    kith_meta_map *map = kith_meta_map_of(&fsm.state, &self, NULL);
    for (uint64_t index = 1; index <= steps; index++) {
        kith_meta_shard shards[3];
        kith_codec_meta_shard_change changes[4];
        bool changed;
        kith_codec_meta_command command = command_draw(rng, &model, stable, shards, changes);
        before = model;
        kith_status wanted = naive_apply(&model, &command, &changed);
        promises_check(&before, &model, command.change_count > 1 ? command.change_count : 1);
        kith_buf bytes, one, two;
        kith_buf_init(&bytes);
        kith_buf_init(&one);
        kith_buf_init(&two);
        kith_codec_meta_command_encode(&command, &bytes);
        assert_ok(kith_meta_fsm_apply(&fsm, index, bytes.data, bytes.bytes, &err), &err);
        assert_ok(kith_meta_fsm_apply(&twin, index, bytes.data, bytes.bytes, &err), &err);
        if (fsm.result.status != wanted) {
            fail_msg("command %llu of kind %d: %s, not %s: %s", (unsigned long long)index, command.kind,
                kith_status_name(fsm.result.status), kith_status_name(wanted), fsm.result.err.text);
        }
        assert_int_equal(fsm.result.answer_changed, changed);
        assert_int_equal(twin.result.status, wanted);
        assert_ok(kith_meta_state_validate(&fsm.state, &err), &err);
        states_compare(&fsm.state, &model);
        kith_meta_fsm_snapshot(&fsm, &one);
        assert_ok(kith_meta_fsm_restore(&twin, one.data, one.bytes, &err), &err);
        kith_meta_fsm_snapshot(&twin, &two);
        assert_int_equal(one.bytes, two.bytes);
        assert_memory_equal(one.data, two.data, one.bytes);
        states_compare(&twin.state, &model);
        kith_meta_map *next = kith_meta_map_of(&twin.state, &self, map);
        kith_meta_map_release(map);
        map = next;
        map_compare(map, &fsm.state);
        kith_buf_fini(&bytes);
        kith_buf_fini(&one);
        kith_buf_fini(&two);
    }
    kith_meta_map_release(map);
    kith_meta_fsm_fini(&fsm);
    kith_meta_fsm_fini(&twin);
}

static void test_meta_fsm__random_histories_agree_with_the_model(void **unused) {
    (void)unused;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(11));
    for (uint64_t round = 0; round < test_scaled(100); round++)
        random_history(&rng, round % 2, 200);
}

/* --- the map --- */

static void test_meta_map__shares_entries_until_their_replicas_change(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(apply(register_command(i, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shards[2] = {
        {.replica_count = 2, .replicas = {3, 2}}, {.replica_count = 1, .replicas = {2}}};
    assert_int_equal(apply(create_command("c", 2, 2, shards)), KITH_OK);
    kith_meta_map *first = kith_meta_map_of(&state, NULL, NULL);
    assert_int_equal(first->node_count, 3);
    assert_int_equal(first->entries[0]->shard_nodes[0], 2);
    assert_int_equal(first->entries[0]->shard_replicas[3], KITH_META_NODE_NONE);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    kith_meta_map *second = kith_meta_map_of(&state, NULL, first);
    assert_ptr_equal(first->entries[0], second->entries[0]);
    assert_true(second->nodes[0].down);
    assert_false(first->nodes[0].down);
    state.collections[0]->shards[1].epoch++;
    kith_meta_map *third = kith_meta_map_of(&state, NULL, second);
    assert_ptr_not_equal(second->entries[0], third->entries[0]);
    assert_int_equal(third->entries[0]->shard_epochs[1], 2);
    /* Node 1 goes: the same replicas are at other places of the map's nodes. */
    assert_int_equal(apply(node_command(KITH_CODEC_META_REMOVE_NODE, 0)), KITH_OK);
    kith_meta_map *fourth = kith_meta_map_of(&state, NULL, third);
    assert_int_equal(fourth->entries[0]->shard_nodes[0], 1);
    assert_int_equal(fourth->nodes[1].number, 3);
    assert_int_equal(apply(durability_command("c", KITH_DURABILITY_ASYNC)), KITH_OK);
    kith_meta_map *fifth = kith_meta_map_of(&state, NULL, fourth);
    assert_ptr_not_equal(fourth->entries[0], fifth->entries[0]);
    assert_int_equal(fifth->entries[0]->collection.durability, KITH_DURABILITY_ASYNC);
    kith_meta_map_release(fifth);
    kith_meta_map_release(first);
    kith_meta_map_release(second);
    kith_meta_map_release(third);
    kith_meta_map_release(fourth);
}

static void test_meta_map__a_shard_that_nobody_has_is_on_a_node_that_is_down(void **unused) {
    (void)unused;
    kith_node self = {.name = "self"};
    assert_int_equal(apply(create_command("c", 2, 0, NULL)), KITH_OK);
    kith_meta_map *alone = kith_meta_map_of(&state, &self, NULL);
    assert_int_equal(alone->node_count, 1);
    assert_string_equal(alone->nodes[alone->entries[0]->shard_nodes[1]].name, "self");
    assert_int_equal(apply(register_command(0, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shard = {.replica_count = 1, .replicas = {1}};
    assert_int_equal(apply(create_command("d", 1, 1, &shard)), KITH_OK);
    kith_meta_map *joined = kith_meta_map_of(&state, &self, alone);
    assert_int_equal(joined->node_count, 2);
    assert_int_equal(joined->entries[1]->shard_nodes[0], 0); /* found, although nobody is in the list */
    const kith_node *nobody = &joined->nodes[joined->entries[0]->shard_nodes[1]];
    assert_string_equal(nobody->name, "nobody");
    assert_true(nobody->down);
    kith_meta_map_release(alone);
    kith_meta_map_release(joined);
}

static void test_meta_failover__says_who_is_waited_for(void **unused) {
    (void)unused;
    for (uint32_t who = 0; who < 3; who++)
        assert_int_equal(apply(register_command(who, KITH_NODE_DATA)), KITH_OK);
    kith_meta_shard shard = {.replica_count = 1, .replicas = {1}};
    assert_int_equal(apply(create_command("c", 1, 1, &shard)), KITH_OK);
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 2)), KITH_OK);
    assert_false(kith_meta_state_waits_for(&state, 3)); /* it has no shard */
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 0)), KITH_OK);
    assert_true(kith_meta_state_waits_for(&state, 1));
    assert_false(kith_meta_state_waits_for(&state, 3));
    assert_int_equal(apply(node_command(KITH_CODEC_META_NODE_DOWN, 1)), KITH_OK);
    assert_true(kith_meta_state_waits_for(&state, 3)); /* no node is left for a new shard */
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_meta_##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nodes__numbers_are_never_given_twice),
        TEST(nodes__registering_again_updates_and_marks_up),
        TEST(nodes__a_judgement_from_before_a_registration_does_not_count),
        TEST(nodes__only_nodes_with_shards_are_drained),
        TEST(nodes__have_a_limit),
        TEST(assignment__must_name_distinct_data_nodes_that_are_there),
        TEST(assignment__none_means_the_one_node_there_is),
        TEST(shards__change_by_compare_and_set_on_the_epoch),
        TEST(shards__may_not_become_unsound),
        TEST(shards__primaries_were_in_sync_and_are_up),
        TEST(shards__nobody_comes_in_sync_under_a_primary_that_is_down),
        TEST(shards__changes_of_one_command_stand_each_for_itself),
        TEST(failover__old_primary_stays_a_replica_that_is_behind),
        TEST(failover__waits_for_one_in_sync),
        TEST(failover__primary_that_comes_back_first_stays),
        TEST(failover__prefers_nodes_that_stay_and_lead_little),
        TEST(failover__collection_created_on_a_node_that_went_down),
        TEST(failover__many_shards_are_one_quick_command),
        TEST(update__replication_of_a_collection),
        TEST(update__one_node_has_one_copy),
        TEST(update__durability_of_a_collection),
        TEST(update__one_node_has_writes_on_its_disk),
        TEST(create__exists_with_another_durability),
        TEST(answers__a_repeat_gets_the_first_answer),
        TEST(answers__the_oldest_is_forgotten),
        TEST(nodes__broken_invariants_are_named),
        TEST(fsm__random_histories_agree_with_the_model),
        TEST(map__shares_entries_until_their_replicas_change),
        TEST(map__a_shard_that_nobody_has_is_on_a_node_that_is_down),
        TEST(failover__says_who_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
