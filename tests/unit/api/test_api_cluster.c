/* Questions about a cluster, put to coordinators that a script plays. */
#include <stdio.h>

#include "host/api/api_cluster_internal.h"
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"

#define ASKED_BYTES 4096u

/* What the coordinator at an address says; in this order when asked again and again. */
typedef struct scripted {
    const char *address;
    kith_codec_coordinator_kind kind; /* of the question that this answers; 0: any */
    uint32_t times;                   /* 0: always */
    kith_status status;
    const char *message; /* NOT_LEADER: who leads */
    kith_codec_coordinator_reply reply;
} scripted;

typedef struct fixture {
    kith_transport transport; /* first */
    kith_meta meta;
    kith_env *env;
    kith_executor *executor;
    kith_api *api;
    kith_arena arena;
    const char *leader; /* as the node knows it */
    scripted script[16];
    uint32_t script_count;
    char asked[ASKED_BYTES]; /* "kind address node," a question */
    kith_codec_meta_command proposed;
    uint32_t proposed_count;
    kith_status proposed_status;
    kith_api_cluster_call call;
    /* Guarded: the executor answers, the test waits. */
    kith_mutex mutex;
    kith_cond answered;
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
    kith_codec_cluster_status cluster;
    kith_codec_cluster_join join;
    kith_codec_coordinator_node node;
    kith_codec_cluster_shard shard;
} fixture;

static fixture *of_meta(kith_meta *meta) {
    return (fixture *)(void *)((char *)meta - offsetof(fixture, meta));
}

/* --- the transport and the metadata that are played --- */

static scripted *script_find(fixture *own, const char *address, kith_codec_coordinator_kind kind) {
    for (uint32_t i = 0; i < own->script_count; i++) {
        scripted *one = &own->script[i];
        if (strcmp(one->address, address) != 0 || (one->kind && one->kind != kind)) continue;
        if (one->times == 1) one->address = "used up";
        if (one->times > 1) one->times--;
        return one;
    }
    return NULL;
}

static void played_call(kith_transport *transport, kith_transport_call *call) {
    fixture *own = (fixture *)transport;
    kith_codec_coordinator_request request;
    kith_arena arena;
    kith_err err;
    kith_buf bytes;
    kith_arena_init(&arena);
    kith_buf_init(&bytes);
    assert_ok(
        kith_codec_coordinator_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    size_t used = strlen(own->asked);
    snprintf(own->asked + used, sizeof own->asked - used, "%d %s%s%s,", request.kind, call->address,
        request.address[0] ? " for " : "", request.address);
    kith_codec_coordinator_kind kind = request.kind;
    kith_arena_fini(&arena);
    scripted *one = script_find(own, call->address, kind);
    kith_status status = one ? one->status : KITH_UNAVAILABLE;
    if (status == KITH_OK) {
        kith_codec_coordinator_reply_encode(&one->reply, &bytes);
        call->done(call, KITH_OK, bytes.data, bytes.bytes, NULL);
    } else {
        (void)kith_err_set(&err, status, "%s", one && one->message ? one->message : "nobody is there");
        call->done(call, status, NULL, 0, &err);
    }
    kith_buf_fini(&bytes);
}

static const kith_transport_ops played_transport = {.call = played_call};

static void coordinators_run(kith_task *task) {
    kith_meta_coordinators *asked =
        (kith_meta_coordinators *)(void *)((char *)task - offsetof(kith_meta_coordinators, task));
    snprintf(asked->leader, sizeof asked->leader, "%s", of_meta(asked->meta)->leader);
    asked->count = 2;
    strcpy(asked->addresses[0], "a:1");
    strcpy(asked->addresses[1], "b:1");
    asked->done(asked);
}

static void played_coordinators(kith_meta *meta, kith_meta_coordinators *coordinators) {
    coordinators->meta = meta;
    coordinators->task.run = coordinators_run;
    kith_executor_post(of_meta(meta)->executor, &coordinators->task);
}

static void propose_run(kith_task *task) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)task - offsetof(kith_meta_proposal, task));
    fixture *own = of_meta(proposal->meta);
    kith_err err;
    own->proposed = proposal->command;
    own->proposed_count++;
    (void)kith_err_set(&err, own->proposed_status, "the state refuses");
    proposal->done(proposal, own->proposed_status, NULL, true, &err);
}

static void played_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    proposal->meta = meta;
    proposal->task.run = propose_run;
    kith_executor_post(of_meta(meta)->executor, &proposal->task);
}

static const kith_meta_ops played_meta = {.propose = played_propose, .coordinators = played_coordinators};

/* --- the map: two data nodes, four shards; a coordinator that the configuration does not know --- */

static kith_node node_make(
    uint32_t number, kith_node_role role, uint8_t id, const char *name, const char *address) {
    kith_node node = {.number = number, .role = role, .id = {{id, id, id}}};
    strcpy(node.name, name);
    strcpy(node.address, address);
    return node;
}

static void map_destroy(void *map) {
    kith_meta_map_release(map);
}

static void map_make(fixture *own) {
    kith_node nodes[] = {
        node_make(1, KITH_NODE_DATA, 0x11, "data-1", "d1:1"),
        node_make(2, KITH_NODE_DATA, 0x12, "data-2", "d2:1"),
        node_make(3, KITH_NODE_COORDINATOR, 0x0c, "late", "c:1"),
    };
    nodes[1].down = true;
    kith_meta_shard shards[] = {{.epoch = 1, .replica_count = 1, .replicas = {1}},
        {.epoch = 1, .replica_count = 1, .replicas = {2}}, {.epoch = 1, .replica_count = 1, .replicas = {2}},
        {.epoch = 4, .replica_count = 1, .replicas = {2}}};
    kith_meta_collection collection = {
        .collection = {.id = 1, .name = "photos", .shard_id_first = 10, .shard_count = 4}, .shards = shards};
    const kith_meta_collection *collections[] = {&collection};
    own->meta.maps = kith_hazard_create(kith_meta_map_create(7, nodes, 3, collections, 1, NULL), map_destroy);
}

/* --- the fixture --- */

static int setup(void **state) {
    kith_err err;
    fixture *own = kith_alloc_zero(sizeof *own);
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    own->transport.ops = &played_transport;
    own->meta = (kith_meta){.ops = &played_meta, .is_remote = true};
    own->leader = "";
    kith_mutex_init(&own->mutex, KITH_RANK_LOG);
    kith_cond_init(&own->answered);
    kith_arena_init(&own->arena);
    assert_ok(kith_env_posix_create(&own->env, &err), &err);
    assert_ok(kith_executor_create(own->env, "test", 1, &own->executor, &err), &err);
    map_make(own);
    own->api = kith_api_create(&(kith_api_options){
        .env = own->env,
        .meta = &own->meta,
        .transport = &own->transport,
        .executor = own->executor,
        .limits = {.search_timeout_ns = 1000000000,
            .write_timeout_ns = 10000000000,
            .write_bytes_max = 1 << 20},
    });
    *state = own;
    return 0;
}

static int teardown(void **state) {
    fixture *own = *state;
    kith_executor_destroy(own->executor);
    kith_api_destroy(own->api); /* asserts that nothing is in flight */
    kith_hazard_destroy(own->meta.maps);
    kith_env_posix_destroy(own->env);
    kith_arena_fini(&own->arena);
    kith_cond_fini(&own->answered);
    kith_mutex_fini(&own->mutex);
    kith_free(own);
    return 0;
}

static void done(kith_api_cluster_call *call, kith_status status, const kith_api_cluster_answer *answer,
    const kith_err *err) {
    fixture *own = (fixture *)(void *)((char *)call - offsetof(fixture, call));
    kith_mutex_lock(&own->mutex);
    own->status = status;
    snprintf(own->text, sizeof own->text, "%s", status == KITH_OK ? "" : err->text);
    if (answer && answer->status) own->cluster = *answer->status;
    if (answer && answer->status) /* borrowed until this returns */
        own->cluster.problem =
            kith_arena_text(&own->arena, answer->status->problem, strlen(answer->status->problem));
    if (answer && answer->join) own->join = *answer->join;
    if (answer && answer->node) own->node = *answer->node;
    if (answer && answer->shard) own->shard = *answer->shard;
    own->done = true;
    kith_cond_signal(&own->answered);
    kith_mutex_unlock(&own->mutex);
}

typedef kith_status (*deed)(kith_api *api, kith_api_cluster_call *call, kith_err *err);

static kith_status run(fixture *own, deed start, const char *text) {
    kith_err err;
    own->done = false;
    own->asked[0] = 0;
    own->call.call = (kith_api_call){.arena = &own->arena};
    own->call.text = text;
    own->call.done = done;
    kith_status status = start(own->api, &own->call, &err);
    if (status != KITH_OK) {
        snprintf(own->text, sizeof own->text, "%s", err.text);
        return status;
    }
    kith_mutex_lock(&own->mutex);
    while (!own->done)
        kith_cond_wait(&own->answered, &own->mutex);
    kith_mutex_unlock(&own->mutex);
    return own->status;
}

static scripted *say(fixture *own, const char *address, kith_status status, const char *message) {
    scripted *one = &own->script[own->script_count++];
    *one = (scripted){.address = address, .status = status, .message = message};
    return one;
}

#define MEMBERS 2u
static const kith_codec_coordinator_member members[MEMBERS] = {
    {.id = {{0xa}}, .address = "a:1", .voter = true},
    {.id = {{0xb}}, .address = "b:1", .voter = true, .leader = true}};

/* The coordinator whose id is `self` says that `leader` leads. */
static scripted *say_state(
    fixture *own, const char *address, uint8_t self, uint8_t leader, const char *leader_address) {
    scripted *one = say(own, address, KITH_OK, NULL);
    one->reply = (kith_codec_coordinator_reply){.self_id = {{self}},
        .leader_id = {{leader}},
        .leader_address = leader_address,
        .term = 3,
        .map_version = 9,
        .members = members,
        .member_count = MEMBERS};
    return one;
}

/* As registered with the leader. */
static void say_nodes(scripted *one, fixture *own) {
    kith_codec_coordinator_node *nodes = kith_arena_alloc_zero(&own->arena, 3 * sizeof *nodes);
    nodes[0].heartbeat.node = node_make(0, KITH_NODE_DATA, 0x11, "data-1", "d1:1");
    nodes[1].heartbeat.node = node_make(0, KITH_NODE_DATA, 0x12, "data-2", "d2:1");
    nodes[2].heartbeat.node = node_make(0, KITH_NODE_COORDINATOR, 0x0c, "late", "c:1");
    for (int i = 0; i < 3; i++)
        nodes[i].heartbeat.health = "ok";
    nodes[1].heartbeat.node.down = true;
    one->reply.nodes = nodes;
    one->reply.node_count = 3;
}

/* --- who is asked --- */

static void test_api_cluster__the_known_leader_is_asked_alone(void **state) {
    fixture *own = *state;
    own->leader = "b:1";
    say_nodes(say_state(own, "b:1", 0xb, 0xb, "b:1"), own);
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_string_equal(own->asked, "1 b:1,");
    assert_string_equal(own->cluster.problem, "");
    assert_int_equal(own->cluster.term, 3);
    assert_int_equal(own->cluster.map_version, 9);
    assert_int_equal(own->cluster.node_count, 3);
    assert_int_equal(own->cluster.nodes[0].heartbeat.shards, 1); /* the map's word, not the node's */
    assert_int_equal(own->cluster.nodes[1].heartbeat.shards, 3);
    assert_string_equal(own->cluster.nodes[0].heartbeat.health, "ok");
    assert_string_equal(own->cluster.nodes[1].heartbeat.health, "silent");
}

static void test_api_cluster__a_follower_names_the_leader(void **state) {
    fixture *own = *state;
    say_state(own, "a:1", 0xa, 0xd, "elsewhere:1");
    say_state(own, "elsewhere:1", 0xd, 0xd, "elsewhere:1");
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_string_equal(own->asked, "1 a:1,1 elsewhere:1,");
    assert_string_equal(own->cluster.problem, "");
}

static void test_api_cluster__coordinators_that_came_later_are_asked_too(void **state) {
    fixture *own = *state;
    say_state(own, "c:1", 0xc, 0xc, "c:1");
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_string_equal(own->asked, "1 a:1,1 b:1,1 c:1,");
    assert_string_equal(own->cluster.problem, "");
}

static void test_api_cluster__without_a_leader_the_map_is_shown_with_the_problem(void **state) {
    fixture *own = *state;
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_string_equal(own->cluster.problem, "no coordinator answers (last: nobody is there)");
    assert_int_equal(own->cluster.map_version, 7);
    assert_int_equal(own->cluster.node_count, 3);
    assert_int_equal(own->cluster.nodes[1].heartbeat.shards, 3);
    say_state(own, "a:1", 0xa, 0, "");
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_non_null(
        strstr(own->cluster.problem, "the coordinators have no leader: a majority of them is needed"));
    assert_int_equal(own->cluster.member_count, MEMBERS);
}

static void test_api_cluster__two_that_name_each_other_are_not_followed_for_ever(void **state) {
    fixture *own = *state;
    say_state(own, "a:1", 0xa, 0xb, "b:1");
    say_state(own, "b:1", 0xb, 0xa, "a:1");
    assert_int_equal(run(own, kith_api_cluster_status, ""), KITH_OK);
    assert_string_not_equal(own->cluster.problem, "");
    assert_true(strlen(own->asked) < 100);
}

/* --- changes --- */

static void test_api_cluster__a_change_waits_for_a_leader(void **state) {
    fixture *own = *state;
    scripted *nobody = say(own, "a:1", KITH_NOT_LEADER, "");
    nobody->times = 2; /* in two rounds */
    say_nodes(say_state(own, "a:1", 0xa, 0xa, "a:1"), own);
    assert_int_equal(run(own, kith_api_cluster_leave, "data-2"), KITH_OK);
    assert_string_equal(own->asked, "1 a:1,1 b:1,1 c:1,1 a:1,1 b:1,1 c:1,1 a:1,");
    assert_int_equal(own->proposed.kind, KITH_CODEC_META_REMOVE_NODE);
    assert_int_equal(own->proposed.node.id.bytes[0], 0x12);
    assert_string_equal(own->node.heartbeat.node.name, "data-2");
}

static void test_api_cluster__a_coordinator_leaves_raft_and_then_the_metadata(void **state) {
    fixture *own = *state;
    scripted *leader = say_state(own, "a:1", 0xa, 0xa, "a:1");
    leader->kind = KITH_CODEC_COORDINATOR_STATUS;
    say_nodes(leader, own);
    static kith_codec_coordinator_member with_late[1];
    with_late[0] =
        (kith_codec_coordinator_member){.id = {{0x0c, 0x0c, 0x0c}}, .address = "c:1", .voter = true};
    leader->reply.members = with_late;
    leader->reply.member_count = 1;
    scripted *moved = say(own, "a:1", KITH_NOT_LEADER, "b:1");
    moved->kind = KITH_CODEC_COORDINATOR_LEAVE;
    moved->times = 1;
    say_state(own, "b:1", 0xb, 0xb, "b:1")->kind = KITH_CODEC_COORDINATOR_LEAVE;
    assert_int_equal(run(own, kith_api_cluster_leave, "0c0c"), KITH_OK);
    assert_string_equal(own->asked, "1 a:1,3 a:1,3 b:1,");
    assert_int_equal(own->proposed.kind, KITH_CODEC_META_REMOVE_NODE);
    assert_int_equal(own->proposed_count, 1);
}

static void test_api_cluster__what_the_state_refuses_is_said(void **state) {
    fixture *own = *state;
    say_nodes(say_state(own, "a:1", 0xa, 0xa, "a:1"), own);
    own->proposed_status = KITH_PRECONDITION;
    assert_int_equal(run(own, kith_api_cluster_leave, "data-1"), KITH_PRECONDITION);
    assert_string_equal(own->text, "the state refuses");
}

static void test_api_cluster__a_node_is_named_by_name_or_by_the_beginning_of_its_id(void **state) {
    fixture *own = *state;
    own->call.draining = true;
    assert_int_equal(run(own, kith_api_cluster_drain, "12"), KITH_OK);
    assert_int_equal(own->proposed.kind, KITH_CODEC_META_DRAIN_NODE);
    assert_int_equal(own->proposed.node.id.bytes[0], 0x12);
    assert_true(own->proposed.node.draining);
    assert_int_equal(own->node.heartbeat.shards, 3);
    assert_int_equal(run(own, kith_api_cluster_drain, "data-1"), KITH_OK);
    assert_int_equal(own->proposed.node.id.bytes[0], 0x11);
    assert_int_equal(run(own, kith_api_cluster_drain, "1"), KITH_INVALID);
    assert_string_equal(own->text, "node: \"1\" may be any of 2 nodes; write more of its id");
    assert_int_equal(run(own, kith_api_cluster_drain, "data"), KITH_NOT_FOUND);
    assert_int_equal(run(own, kith_api_cluster_drain, ""), KITH_INVALID);
}

static void test_api_cluster__loss_is_accepted_for_one_shard_by_one_node(void **state) {
    fixture *own = *state;
    own->call.shard = 2;
    own->call.node = "data-2";
    assert_int_equal(run(own, kith_api_cluster_accept_loss, "photos"), KITH_OK);
    assert_int_equal(own->proposed.kind, KITH_CODEC_META_ACCEPT_LOSS);
    assert_int_equal(
        own->proposed.collection.id, 1); /* the one that was looked at, not whichever has the name */
    assert_string_equal(own->proposed.collection.name, "photos");
    assert_int_equal(own->proposed.shard_index, 2);
    assert_int_equal(own->proposed.node.id.bytes[0], 0x12);
    assert_int_equal(own->shard.id, 12);
    assert_int_equal(own->shard.index, 2);
    own->call.node = "1";
    assert_int_equal(run(own, kith_api_cluster_accept_loss, "photos"), KITH_INVALID);
    own->call.node = "";
    assert_int_equal(run(own, kith_api_cluster_accept_loss, "photos"), KITH_INVALID);
    own->call.node = "data-2";
    assert_int_equal(run(own, kith_api_cluster_accept_loss, "nothing"), KITH_NOT_FOUND);
    assert_int_equal(own->proposed_count, 1);
    own->proposed_status = KITH_PRECONDITION;
    assert_int_equal(run(own, kith_api_cluster_accept_loss, "photos"), KITH_PRECONDITION);
    assert_string_equal(own->text, "the state refuses");
}

/* --- join --- */

static void test_api_cluster__who_joins_is_looked_at_first(void **state) {
    fixture *own = *state;
    say_nodes(say_state(own, "a:1", 0xa, 0xa, "a:1"), own);
    assert_int_equal(run(own, kith_api_cluster_join, "nowhere:1"), KITH_UNAVAILABLE);
    assert_string_equal(own->text, "no coordinator answers at nowhere:1: nobody is there");
    say(own, "data:1", KITH_UNIMPLEMENTED, "no handler");
    assert_int_equal(run(own, kith_api_cluster_join, "data:1"), KITH_PRECONDITION);
    assert_string_equal(own->text, "the node at data:1 is no coordinator");
    say_state(own, "other:1", 0x0e, 0x0e, "other:1");
    assert_int_equal(run(own, kith_api_cluster_join, "other:1"), KITH_PRECONDITION);
    assert_non_null(strstr(own->text, "is of another cluster"));
    say_state(own, "again:1", 0xb, 0xa, "a:1"); /* b, by another name */
    assert_int_equal(run(own, kith_api_cluster_join, "again:1"), KITH_OK);
    assert_false(own->join.joined);
    assert_string_equal(own->asked, "1 again:1,1 a:1,");
    assert_int_equal(run(own, kith_api_cluster_join, "a"), KITH_INVALID);
}

static void test_api_cluster__who_joins_does_so_by_its_own_address(void **state) {
    fixture *own = *state;
    say_nodes(say_state(own, "a:1", 0xa, 0xa, "a:1"), own);
    scripted *fresh = say_state(own, "localhost:1", 0x0c, 0, "");
    fresh->reply.self_id = (kith_node_id){{0x0c, 0x0c, 0x0c}};
    fresh->reply.fresh = true;
    assert_int_equal(run(own, kith_api_cluster_join, "localhost:1"), KITH_OK);
    assert_true(own->join.joined);
    assert_string_equal(own->asked, "1 localhost:1,1 a:1,2 a:1 for c:1,");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_api_cluster__the_known_leader_is_asked_alone),
        TEST(test_api_cluster__a_follower_names_the_leader),
        TEST(test_api_cluster__coordinators_that_came_later_are_asked_too),
        TEST(test_api_cluster__without_a_leader_the_map_is_shown_with_the_problem),
        TEST(test_api_cluster__two_that_name_each_other_are_not_followed_for_ever),
        TEST(test_api_cluster__a_change_waits_for_a_leader),
        TEST(test_api_cluster__a_coordinator_leaves_raft_and_then_the_metadata),
        TEST(test_api_cluster__what_the_state_refuses_is_said),
        TEST(test_api_cluster__a_node_is_named_by_name_or_by_the_beginning_of_its_id),
        TEST(test_api_cluster__loss_is_accepted_for_one_shard_by_one_node),
        TEST(test_api_cluster__who_joins_is_looked_at_first),
        TEST(test_api_cluster__who_joins_does_so_by_its_own_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
