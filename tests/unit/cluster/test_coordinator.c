/* A coordinator on simulated machines, with nodes that send real heartbeats, over a log that commits when the test wants. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/cluster/coordinator.h"
#include "host/cluster/heartbeat.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define MS_NS     1000000ULL
#define NODES_MAX 6u

/* --- a log that commits at once, or when it is let --- */

typedef struct fake_log {
    kith_meta_log base;
    struct fixture *all;
    bool hold;
    kith_meta_log_proposal *open[16];
    uint32_t open_count;
    uint32_t proposed; /* so far */
    kith_task task;
    bool queued;
    char asked[300]; /* the last change of coordinators */
    bool has_ended;  /* it has no members any more */
} fake_log;

typedef struct machine {
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    uint32_t host;
} machine;

typedef struct node {
    machine on;
    struct fixture *all;
    uint32_t number;
    kith_node said;
    uint64_t started_wall_ms;
    kith_heartbeat *heartbeat;
    kith_codec_stalled stalled[KITH_CODEC_STALLED_MAX]; /* what it says of its replicas */
    uint32_t stalled_count;
    kith_meta_fsm map;
    bool refuses;                 /* pushes */
    bool holds;                   /* its receipt of the next push */
    kith_transport_request *held; /* it */
    uint32_t pushes;
    uint32_t maps_seen;
    bool stopped;
} node;

typedef struct fixture {
    kith_transport_sim_network *network;
    machine on; /* the coordinator's */
    kith_meta_fsm fsm;
    fake_log log;
    kith_coordinator *coordinator;
    bool stopped;
    uint32_t node_count;
    node nodes[NODES_MAX];
} fixture;

#define COORDINATOR_ADDRESS "c0:1"
static const char *const coordinator_addresses[] = {COORDINATOR_ADDRESS};

static void log_commit(kith_task *task) {
    fake_log *log = (fake_log *)(void *)((char *)task - offsetof(fake_log, task));
    kith_meta_fsm *fsm = &log->all->fsm;
    log->queued = false;
    while (log->open_count > 0 && !log->hold) {
        kith_meta_log_proposal *proposal = log->open[0];
        memmove(log->open, log->open + 1, --log->open_count * sizeof *log->open);
        kith_err err;
        assert_ok(kith_meta_fsm_apply(
                      fsm, fsm->state.applied_index + 1, proposal->bytes, proposal->byte_count, &err),
            &err);
        kith_meta_result result = fsm->result;
        kith_coordinator_applied(log->all->coordinator, &result);
        proposal->done(proposal, KITH_OK, &result, NULL);
    }
}

static void log_wake(fake_log *log) {
    if (log->queued) return;
    log->queued = true;
    log->task = (kith_task){.run = log_commit};
    kith_executor_post(log->all->on.executor, &log->task);
}

static void log_propose(kith_meta_log *base, kith_meta_log_proposal *proposal) {
    fake_log *log = (fake_log *)base;
    assert_true(log->open_count < 16);
    log->open[log->open_count++] = proposal;
    log->proposed++;
    log_wake(log);
}

/* The `count` oldest. */
static void log_fail(fake_log *log, uint32_t count, kith_status status) {
    kith_err err;
    (void)kith_err_set(&err, status, "because the test says so");
    for (uint32_t i = 0; i < count && log->open_count > 0; i++) {
        kith_meta_log_proposal *proposal = log->open[0];
        memmove(log->open, log->open + 1, --log->open_count * sizeof *log->open);
        proposal->done(proposal, status, NULL, &err);
    }
}

static const kith_meta_log_ops log_ops = {.propose = log_propose};

static bool raft_is_new(const kith_meta_log *log) {
    return ((const fake_log *)log)->all->fsm.state.applied_index == 0;
}

static void raft_status(const kith_meta_log *log, kith_meta_log_raft_status_report *report_out) {
    *report_out = (kith_meta_log_raft_status_report){.term = 4,
        .applied_index = ((const fake_log *)log)->all->fsm.state.applied_index,
        .leader_known = true};
    report_out->leader = (kith_meta_member){.id = {{1}}, .address = COORDINATOR_ADDRESS};
    report_out->member_count = ((const fake_log *)log)->has_ended ? 0 : 2;
    report_out->members[0] = (kith_meta_log_raft_member){.voter = true, .member = report_out->leader};
    report_out->members[1].member = (kith_meta_member){.id = {{2}}, .address = "a9:1"};
}

static void raft_join(
    kith_meta_log *log, const kith_meta_member *member, kith_meta_log_raft_done done, void *ctx) {
    snprintf(((fake_log *)log)->asked, 300, "join %u at %s", member->id.bytes[0], member->address);
    done(ctx, KITH_OK, NULL);
}

static void raft_leave(kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx) {
    snprintf(((fake_log *)log)->asked, 300, "leave %u", id->bytes[0]);
    kith_err err;
    done(ctx, kith_err_set(&err, KITH_BUSY, "another change is under way"), &err);
}

static void raft_transfer(
    kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx) {
    snprintf(((fake_log *)log)->asked, 300, "transfer to %s", id ? "one" : "anyone");
    done(ctx, KITH_OK, NULL);
}

/* --- machines --- */

static void machine_make(fixture *all, machine *made, const char *address, uint8_t id, uint64_t seed) {
    kith_err err;
    made->sim =
        all->on.sim && made != &all->on ? sim_env_create_beside(all->on.sim, seed) : sim_env_create(seed);
    assert_ok(kith_executor_create(sim_env_kith(made->sim), "test", 1, &made->executor, &err), &err);
    assert_ok(kith_transport_sim_create(&(kith_transport_sim_options){.env = sim_env_kith(made->sim),
                                            .network = all->network,
                                            .node = {{id}},
                                            .address = address,
                                            .in_flight_max = 64},
                  &made->transport, &err),
        &err);
    made->host = kith_transport_sim_host(all->network, address);
}

static void machine_destroy(machine *of) {
    kith_transport_destroy(of->transport);
    kith_executor_destroy(of->executor);
}

static void node_fill(void *ctx, kith_codec_heartbeat *heartbeat_out) {
    const node *own = ctx;
    heartbeat_out->node = own->said;
    heartbeat_out->started_wall_ms = own->started_wall_ms;
    heartbeat_out->map_version = own->map.state.map_version;
    heartbeat_out->points = 1000 + own->number;
    heartbeat_out->stalled = own->stalled;
    heartbeat_out->stalled_count = own->stalled_count;
}

static void node_map_seen(void *ctx, const char *address, uint64_t map_version) {
    (void)address;
    (void)map_version;
    ((node *)ctx)->maps_seen++;
}

static void receipt_send(node *own, kith_transport_request *request, uint64_t map_version) {
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_map_version_encode(map_version, &bytes);
    kith_transport_reply(request, own->on.transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

static void map_take(node *own, const kith_transport_request *request) {
    kith_err err;
    kith_meta_fsm newer;
    kith_meta_fsm_init(&newer);
    assert_ok(kith_meta_fsm_restore(&newer, request->bytes, request->byte_count, &err), &err);
    assert_true(newer.state.map_version > own->map.state.map_version); /* never one that it has */
    kith_meta_fsm_fini(&own->map);
    own->map = newer;
}

static void node_pushed(void *ctx, kith_transport_request *request) {
    node *own = ctx;
    kith_err err;
    own->pushes++;
    if (own->holds) {
        own->holds = false;
        own->held = request;
    } else if (own->refuses) {
        kith_status status = kith_err_set(&err, KITH_IO, "no room for a map");
        kith_transport_reply(request, own->on.transport, status, NULL, 0, &err);
    } else {
        map_take(own, request);
        receipt_send(own, request, own->map.state.map_version);
    }
}

static void node_heart(node *own) {
    own->heartbeat = kith_heartbeat_create(&(kith_heartbeat_options){.env = sim_env_kith(own->on.sim),
        .executor = own->on.executor,
        .transport = own->on.transport,
        .coordinators = coordinator_addresses,
        .coordinator_count = 1,
        .interval_ms = 500,
        .timeout_ms = 2000,
        .fill = node_fill,
        .map_seen = node_map_seen,
        .ctx = own});
    kith_heartbeat_start(own->heartbeat);
}

static node *node_add(fixture *all, kith_node_role role, const char *zone) {
    uint32_t number = all->node_count++;
    node *own = &all->nodes[number];
    own->all = all;
    own->number = number;
    own->said = (kith_node){.role = role, .id = {{(uint8_t)(10 + number)}}, .weight = 100};
    snprintf(own->said.name, sizeof own->said.name, "n%u", number);
    snprintf(own->said.address, sizeof own->said.address, "n%u:1", number);
    snprintf(own->said.zone, sizeof own->said.zone, "%s", zone);
    machine_make(all, &own->on, own->said.address, (uint8_t)(10 + number), 50 + number);
    kith_meta_fsm_init(&own->map);
    kith_transport_handle(own->on.transport, KITH_AM_MAP_PUSH, own->on.executor, node_pushed, own);
    node_heart(own);
    return own;
}

static void run_ms(fixture *all, uint64_t ms) {
    sim_env_run_for(all->on.sim, ms * MS_NS);
}

static void set_true(void *ctx) {
    *(bool *)ctx = true;
}

static void node_silence(fixture *all, node *own, bool silent) {
    kith_transport_sim_power_set(
        all->network, own->on.host, silent ? KITH_TRANSPORT_SIM_SILENT : KITH_TRANSPORT_SIM_UP);
}

static void lead(fixture *all, bool leads) {
    kith_meta_member other = {.id = {{2}}, .address = "c1:1"};
    kith_coordinator_leadership(all->coordinator, leads, 4, leads ? NULL : &other);
}

static void fixture_open(fixture *all) {
    *all = (fixture){.network = kith_transport_sim_network_create(test_seed(1))};
    machine_make(all, &all->on, COORDINATOR_ADDRESS, 1, test_seed(1));
    kith_meta_fsm_init(&all->fsm);
    all->log = (fake_log){.base = {.ops = &log_ops}, .all = all};
    all->coordinator = kith_coordinator_create(&(kith_coordinator_options){.env = sim_env_kith(all->on.sim),
        .executor = all->on.executor,
        .transport = all->on.transport,
        .self = {.id = {{1}}, .address = COORDINATOR_ADDRESS},
        .heartbeat_timeout_ms = 2000,
        .replica_replace_after_ms = 600000,
        .rebalance_moves_max = 2,
        .fsm = &all->fsm,
        .log = &all->log.base,
        .raft = {raft_is_new, raft_status, raft_join, raft_leave, raft_transfer}});
}

static void fixture_setup(fixture *all, bool leads) {
    fixture_open(all);
    kith_coordinator_start(all->coordinator);
    run_ms(all, 1);
    lead(all, leads);
}

static void fixture_teardown(fixture *all) {
    if (!all->stopped) kith_coordinator_stop(all->coordinator, set_true, &all->stopped);
    for (uint32_t i = 0; i < all->node_count; i++)
        kith_heartbeat_stop(all->nodes[i].heartbeat, set_true, &all->nodes[i].stopped);
    run_ms(all, 5000);
    assert_true(all->stopped);
    kith_coordinator_destroy(all->coordinator);
    for (uint32_t i = 0; i < all->node_count; i++) {
        assert_true(all->nodes[i].stopped);
        kith_heartbeat_destroy(all->nodes[i].heartbeat);
        kith_meta_fsm_fini(&all->nodes[i].map);
        machine_destroy(&all->nodes[i].on);
        sim_env_destroy(all->nodes[i].on.sim);
    }
    machine_destroy(&all->on);
    kith_transport_sim_network_destroy(all->network);
    kith_meta_fsm_fini(&all->fsm);
    sim_env_destroy(all->on.sim);
}

static uint32_t down_count(const fixture *all) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < all->fsm.state.node_count; i++)
        count += all->fsm.state.nodes[i].down;
    return count;
}

static bool all_have_the_map(const fixture *all) {
    for (uint32_t i = 0; i < all->node_count; i++) {
        if (all->nodes[i].map.state.map_version != all->fsm.state.map_version) return false;
    }
    return true;
}

/* --- a client on one of the nodes --- */

typedef struct asked {
    kith_transport_call call;
    uint32_t done;
    kith_status status;
    kith_err err;
    kith_buf reply, request;
} asked;

static void ask_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    asked *own = (asked *)call;
    own->done++;
    own->status = status;
    if (status == KITH_OK) {
        kith_buf_append(&own->reply, reply, reply_bytes);
    } else {
        own->err = *err;
    }
}

static void ask_start(fixture *all, node *from, kith_am_kind kind, asked *own) {
    kith_buf_init(&own->reply);
    own->done = 0;
    own->call = (kith_transport_call){.address = COORDINATOR_ADDRESS,
        .kind = kind,
        .bytes = own->request.data,
        .byte_count = own->request.bytes,
        .deadline_ns = kith_env_now_ns(sim_env_kith(all->on.sim)) + 1000 * MS_NS,
        .done = ask_done};
    kith_transport_start(from->on.transport, &own->call);
}

static void ask(fixture *all, node *from, kith_am_kind kind, asked *own) {
    ask_start(all, from, kind, own);
    run_ms(all, 20);
    assert_int_equal(own->done, 1);
}

static void asked_free(asked *own) {
    kith_buf_fini(&own->request);
    kith_buf_fini(&own->reply);
}

static kith_codec_meta_command create_command(const char *name, uint32_t shard_count, uint32_t replicas) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.shard_count = shard_count;
    command.collection.replication_factor = replicas;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    return command;
}

/* What the coordinator answers to the command; its message in `message`. */
static kith_status propose(
    fixture *all, node *from, const kith_codec_meta_command *command, bool *changed_out, char *message) {
    asked own = {.done = 0};
    kith_buf_init(&own.request);
    kith_codec_meta_command_encode(command, &own.request);
    ask(all, from, KITH_AM_META_PROPOSE, &own);
    kith_status status = own.status;
    snprintf(message, KITH_ERR_BYTES_MAX, "%s", status == KITH_OK ? "" : own.err.text);
    if (status == KITH_OK) {
        kith_arena arena;
        kith_err err;
        kith_codec_propose_reply reply;
        kith_arena_init(&arena);
        assert_ok(
            kith_codec_propose_reply_decode(own.reply.data, own.reply.bytes, &arena, &reply, &err), &err);
        status = reply.status;
        *changed_out = reply.changed;
        snprintf(message, KITH_ERR_BYTES_MAX, "%s", reply.message);
        assert_int_equal(reply.map_version, all->fsm.state.map_version);
        bool of_collection = command->kind != KITH_CODEC_META_CHANGE_SHARDS;
        assert_int_equal(reply.collection != NULL, status == KITH_OK && of_collection);
        kith_arena_fini(&arena);
    }
    asked_free(&own);
    return status;
}

/* --- tests --- */

static void test_coordinator__nodes_are_registered_and_get_the_map(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 4; i++)
        node_add(&all, i < 3 ? KITH_NODE_DATA : KITH_NODE_QUERY, "");
    run_ms(&all, 100);
    assert_int_equal(all.fsm.state.node_count, 4);
    assert_int_equal(all.log.proposed, 4); /* once each */
    assert_true(all_have_the_map(&all));
    uint32_t pushes = all.nodes[0].pushes;
    run_ms(&all, 10000);
    assert_int_equal(all.nodes[0].pushes, pushes); /* nothing new: nothing is pushed */
    assert_int_equal(all.log.proposed, 4);
    fixture_teardown(&all);
}

static void test_coordinator__change_of_the_map_is_at_every_node_in_milliseconds(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 4; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1230); /* between two heartbeats and between two ticks */
    kith_codec_meta_command command = create_command("c", 8, 2);
    bool changed = false;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_OK);
    assert_true(changed);
    assert_true(all_have_the_map(&all)); /* within the 20 ms of the proposal */
    fixture_teardown(&all);
}

static void test_coordinator__shards_of_a_new_collection_are_placed(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 5; i++)
        node_add(&all, i < 4 ? KITH_NODE_DATA : KITH_NODE_QUERY, i % 2 ? "b" : "a");
    run_ms(&all, 1000);
    kith_codec_meta_command command = create_command("c", 8, 2);
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_OK);
    uint32_t replicas[8] = {0}, primaries[8] = {0};
    const kith_meta_collection *made = kith_meta_state_find(&all.fsm.state, "c");
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(made->shards[i].replica_count, 2);
        const kith_node *one = kith_meta_state_node(&all.fsm.state, made->shards[i].replicas[0]);
        const kith_node *two = kith_meta_state_node(&all.fsm.state, made->shards[i].replicas[1]);
        assert_string_not_equal(one->zone, two->zone);
        primaries[one->id.bytes[0] - 10]++;
        replicas[one->id.bytes[0] - 10]++;
        replicas[two->id.bytes[0] - 10]++;
    }
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(primaries[i], 2);
        assert_int_equal(replicas[i], 4);
    }
    /* The same again is found, not placed and not changed. */
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_OK);
    assert_false(changed);
    fixture_teardown(&all);
}

static void test_coordinator__new_collections_look_at_what_nodes_hold(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "");
    node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    uint32_t primaries[3] = {0};
    for (uint32_t i = 0; i < 6; i++) {
        char name[8], message[KITH_ERR_BYTES_MAX];
        bool changed;
        snprintf(name, sizeof name, "c%u", i);
        kith_codec_meta_command command = create_command(name, 1, 2);
        assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_OK);
        primaries[kith_meta_state_find(&all.fsm.state, name)->shards[0].replicas[0]]++;
    }
    assert_int_equal(primaries[1], 3);
    assert_int_equal(primaries[2], 3);
    fixture_teardown(&all);
}

/* --- shards change hands --- */

/* Collection "c" of two replicas a shard on n0 and n1, once they are registered. */
static void collection_make(fixture *all, uint32_t shard_count) {
    node_add(all, KITH_NODE_DATA, "");
    node_add(all, KITH_NODE_DATA, "");
    run_ms(all, 1000);
    kith_codec_meta_command command = create_command("c", shard_count, 2);
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(all, &all->nodes[0], &command, &changed, message), KITH_OK);
}

static const kith_meta_shard *shard_of(const fixture *all, uint32_t index) {
    return &kith_meta_state_find(&all->fsm.state, "c")->shards[index];
}

/* The primary of the shard, and the other one, of two. */
static node *primary_of(fixture *all, uint32_t index, node **other_out) {
    const kith_node *primary = kith_meta_state_node(&all->fsm.state, shard_of(all, index)->replicas[0]);
    uint32_t at = primary->id.bytes[0] - 10u;
    if (other_out) *other_out = &all->nodes[1 - at];
    return &all->nodes[at];
}

/* The other replica of shard `index` has fallen behind. */
static kith_codec_meta_shard_change falls_behind(const fixture *all, uint32_t index) {
    kith_codec_meta_shard_change change = {.shard = *shard_of(all, index)};
    change.shard_id = kith_meta_state_find(&all->fsm.state, "c")->collection.shard_id_first + index;
    change.shard.in_sync = 1;
    return change;
}

static void replicas_swap(kith_meta_shard *shard) {
    uint32_t first = shard->replicas[0];
    shard->replicas[0] = shard->replicas[1];
    shard->replicas[1] = first;
}

/* One that lacks what it has acknowledged need not wait for its primary to notice, which may be gone before. */
static void test_coordinator__a_member_takes_itself_out_of_those_in_sync(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 1);
    kith_codec_meta_shard_change change = falls_behind(&all, 0);
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = &change, .change_count = 1};
    node *other;
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    (void)primary_of(&all, 0, &other);
    change.shard.replica_count = 1; /* not a replica any more: that is not for it to say */
    assert_int_equal(propose(&all, other, &command, &changed, message), KITH_PRECONDITION);
    change.shard.replica_count = 2;
    assert_int_equal(propose(&all, other, &command, &changed, message), KITH_OK);
    assert_true(changed);
    assert_int_equal(shard_of(&all, 0)->in_sync, 1);
    assert_int_equal(shard_of(&all, 0)->replica_count, 2);
    /* Nor does it come back so. */
    change.shard.epoch = shard_of(&all, 0)->epoch;
    change.shard.in_sync = 3;
    assert_int_equal(propose(&all, other, &command, &changed, message), KITH_PRECONDITION);
    fixture_teardown(&all);
}

static void test_coordinator__only_its_primary_changes_a_shard(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 2);
    kith_codec_meta_shard_change changes[] = {falls_behind(&all, 0), falls_behind(&all, 1)};
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = changes, .change_count = 1};
    node *other, *primary = primary_of(&all, 0, &other);
    assert_ptr_equal(primary_of(&all, 1, NULL), other);
    replicas_swap(&changes[0].shard); /* whoever is not the primary would lead */
    replicas_swap(&changes[1].shard);
    bool changed;
    char message[KITH_ERR_BYTES_MAX], wanted[KITH_ERR_BYTES_MAX];
    uint32_t proposed = all.log.proposed;
    assert_int_equal(propose(&all, other, &command, &changed, message), KITH_PRECONDITION);
    snprintf(wanted, sizeof wanted, "shard 1: node \"%s\" is its primary since epoch 1, not \"%s\"",
        primary->said.name, other->said.name);
    assert_string_equal(message, wanted);
    assert_int_equal(all.log.proposed, proposed);
    /* An epoch that is not known here yet: only the log can tell. */
    changes[0].shard.epoch = 2;
    assert_int_equal(propose(&all, other, &command, &changed, message), KITH_PRECONDITION);
    assert_string_equal(message, "shard 1 has epoch 1, not 2");
    assert_int_equal(all.log.proposed, proposed + 1);
    changes[0] = falls_behind(&all, 0);
    /* What is for it to say is done, the rest is not. */
    command.change_count = 2;
    command.request_id = (kith_request_id){.client = {7}, .number = 1};
    assert_int_equal(propose(&all, primary, &command, &changed, message), KITH_OK);
    assert_true(changed);
    assert_int_equal(shard_of(&all, 0)->epoch, 2);
    assert_int_equal(shard_of(&all, 0)->in_sync, 1);
    assert_int_equal(shard_of(&all, 1)->epoch, 1);
    fixture_teardown(&all);
}

/* The answer was lost, and meanwhile, by that very change, it leads no more: that is not a refusal. */
static void test_coordinator__repeated_hand_over_gets_its_first_answer(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 1);
    kith_codec_meta_shard_change change = {.shard_id = 1, .shard = *shard_of(&all, 0)};
    change.shard.replicas[0] = shard_of(&all, 0)->replicas[1];
    change.shard.replicas[1] = shard_of(&all, 0)->replicas[0];
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CHANGE_SHARDS,
        .request_id = {.client = {7}, .number = 1},
        .changes = &change,
        .change_count = 1};
    node *other, *primary = primary_of(&all, 0, &other);
    bool changed = false;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, primary, &command, &changed, message), KITH_OK);
    assert_ptr_equal(primary_of(&all, 0, NULL), other);
    changed = false;
    assert_int_equal(propose(&all, primary, &command, &changed, message), KITH_OK);
    assert_true(changed);
    assert_int_equal(shard_of(&all, 0)->epoch, 2);
    fixture_teardown(&all);
}

static void test_coordinator__node_that_is_down_leads_nothing(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 40);
    node_silence(&all, &all.nodes[0], true);
    uint32_t proposed = all.log.proposed, promoted = 0;
    run_ms(&all, 3000);
    assert_int_equal(all.log.proposed, proposed + 1); /* one command, however many shards */
    for (uint32_t i = 0; i < 40; i++) {
        assert_ptr_equal(primary_of(&all, i, NULL), &all.nodes[1]);
        /* Of those that it leads already, only the primary says who is behind. */
        assert_int_equal(shard_of(&all, i)->in_sync, shard_of(&all, i)->epoch == 1 ? 3 : 1);
        promoted += shard_of(&all, i)->epoch == 2;
    }
    assert_int_equal(promoted, 20);
    assert_int_equal(all.nodes[1].map.state.map_version, all.fsm.state.map_version);
    fixture_teardown(&all);
}

/* First the one that is behind goes, then the primary; the one that is behind comes back first and may not lead. */
static void test_coordinator__shard_waits_for_one_in_sync_to_register(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 1);
    node *other, *primary = primary_of(&all, 0, &other);
    kith_codec_meta_shard_change change = falls_behind(&all, 0);
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = &change, .change_count = 1};
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, primary, &command, &changed, message), KITH_OK);
    node_silence(&all, primary, true);
    node_silence(&all, other, true);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 2);
    other->started_wall_ms++; /* a new process */
    node_silence(&all, other, false);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 1);
    assert_ptr_equal(primary_of(&all, 0, NULL), primary);
    primary->started_wall_ms++;
    node_silence(&all, primary, false);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 0);
    assert_ptr_equal(primary_of(&all, 0, NULL), primary);
    assert_int_equal(shard_of(&all, 0)->epoch, 2);
    fixture_teardown(&all);
}

/* All in sync are down, the primary last: whichever registers first leads. */
static void test_coordinator__shard_gets_the_first_in_sync_that_registers(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    collection_make(&all, 1);
    node *other, *primary = primary_of(&all, 0, &other);
    node_silence(&all, other, true);
    run_ms(&all, 3000);
    node_silence(&all, primary, true);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 2);
    assert_ptr_equal(primary_of(&all, 0, NULL), primary);
    other->started_wall_ms++;
    node_silence(&all, other, false);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 1);
    assert_ptr_equal(primary_of(&all, 0, NULL), other);
    assert_int_equal(shard_of(&all, 0)->epoch, 2);
    assert_int_equal(shard_of(&all, 0)->in_sync, 1);
    fixture_teardown(&all);
}

static void test_coordinator__collection_that_cannot_be_placed_is_refused(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_QUERY, "");
    run_ms(&all, 1000);
    kith_codec_meta_command command = create_command("c", 8, 0);
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_PRECONDITION);
    assert_string_equal(message, "there is no data node to hold collection \"c\"");
    node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    uint32_t proposed = all.log.proposed;
    command = create_command("c", 8, 2);
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_PRECONDITION);
    assert_non_null(strstr(message, "place collection \"c\": shard 1 wants 2 replicas"));
    assert_int_equal(all.log.proposed, proposed);
    fixture_teardown(&all);
}

static void test_coordinator__repeated_request_gets_its_first_answer_also_when_nothing_could_be_placed_now(
    void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "");
    node_add(&all, KITH_NODE_QUERY, "");
    run_ms(&all, 1000);
    kith_codec_meta_command command = create_command("c", 2, 1), drop = command;
    command.request_id = (kith_request_id){.client = {7}, .number = 1};
    drop.kind = KITH_CODEC_META_DROP_COLLECTION;
    bool changed = false;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, &all.nodes[0], &command, &changed, message), KITH_OK);
    assert_int_equal(propose(&all, &all.nodes[1], &drop, &changed, message), KITH_OK);
    node_silence(&all, &all.nodes[0], true);
    run_ms(&all, 3000);
    assert_int_equal(down_count(&all), 1);
    changed = false;
    assert_int_equal(propose(&all, &all.nodes[1], &command, &changed, message), KITH_OK);
    assert_true(changed);
    assert_null(kith_meta_state_find(&all.fsm.state, "c"));
    fixture_teardown(&all);
}

static void test_coordinator__silent_node_is_down_and_back_with_the_map(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 5000);
    node_silence(&all, &all.nodes[1], true);
    run_ms(&all, 1400); /* it may have spoken just before */
    assert_int_equal(down_count(&all), 0);
    run_ms(&all, 800);
    assert_int_equal(down_count(&all), 1);
    assert_true(kith_meta_state_node_of_id(&all.fsm.state, &all.nodes[1].said.id)->down);
    run_ms(&all, 100);
    assert_int_equal(all.nodes[0].map.state.map_version, all.fsm.state.map_version);
    uint32_t proposed = all.log.proposed;
    run_ms(&all, 20000);
    assert_int_equal(all.log.proposed, proposed);
    node_silence(&all, &all.nodes[1], false);
    run_ms(&all, 1200);
    assert_int_equal(down_count(&all), 0);
    assert_true(all_have_the_map(&all));
    fixture_teardown(&all);
}

static void test_coordinator__node_that_says_something_new_is_registered_again(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "a");
    run_ms(&all, 1000);
    snprintf(own->said.zone, sizeof own->said.zone, "b");
    run_ms(&all, 1000);
    assert_string_equal(all.fsm.state.nodes[0].zone, "b");
    assert_int_equal(all.log.proposed, 2);
    own->said.role = KITH_NODE_QUERY; /* refused: tried again now and then */
    run_ms(&all, 40000);
    assert_int_equal(all.fsm.state.nodes[0].role, KITH_NODE_DATA);
    assert_in_range(all.log.proposed, 3, 6);
    fixture_teardown(&all);
}

static void test_coordinator__follower_proposes_and_pushes_nothing_and_says_who_leads(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, false);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 10000);
    assert_int_equal(all.log.proposed, 0);
    assert_int_equal(own->pushes, 0);
    kith_node_id id;
    const char *address;
    assert_true(kith_heartbeat_leader(own->heartbeat, &id, &address));
    assert_string_equal(address, "c1:1");
    kith_codec_meta_command command = create_command("c", 1, 1);
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, own, &command, &changed, message), KITH_NOT_LEADER);
    assert_string_equal(message, "c1:1");
    fixture_teardown(&all);
}

/* The old leader's proposals may or may not be committed: the new term begins with what the metadata say then. */
static void test_coordinator__leader_again_proposes_again(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "");
    all.log.hold = true;
    run_ms(&all, 1000);
    assert_int_equal(all.log.proposed, 1);
    lead(&all, false);
    lead(&all, true);
    run_ms(&all, 1000);
    assert_int_equal(all.log.proposed, 2);
    run_ms(&all, 3000);
    assert_int_equal(all.log.proposed, 2);
    log_fail(&all.log, 1, KITH_UNKNOWN_OUTCOME); /* the end of the first says nothing about the second */
    run_ms(&all, 3000);
    assert_int_equal(all.log.proposed, 2);
    all.log.hold = false;
    log_wake(&all.log);
    run_ms(&all, 1000);
    assert_int_equal(all.fsm.state.node_count, 1);
    assert_int_equal(all.log.proposed, 2);
    fixture_teardown(&all);
}

static void test_coordinator__proposal_whose_outcome_is_unknown_is_answered_so(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    all.log.hold = true;
    kith_codec_meta_command command = create_command("c", 1, 1);
    asked proposal = {.done = 0};
    kith_buf_init(&proposal.request);
    kith_codec_meta_command_encode(&command, &proposal.request);
    ask_start(&all, own, KITH_AM_META_PROPOSE, &proposal);
    run_ms(&all, 100);
    assert_int_equal(proposal.done, 0);
    log_fail(&all.log, 16, KITH_UNKNOWN_OUTCOME);
    run_ms(&all, 100);
    assert_int_equal(proposal.status, KITH_UNKNOWN_OUTCOME);
    asked_free(&proposal);
    fixture_teardown(&all);
}

static void test_coordinator__push_that_fails_is_repeated_at_a_falling_rate_and_delays_nobody(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *bad = node_add(&all, KITH_NODE_DATA, ""), *good = node_add(&all, KITH_NODE_DATA, "");
    bad->refuses = true;
    run_ms(&all, 10000);
    assert_int_equal(good->map.state.map_version, all.fsm.state.map_version);
    assert_in_range(bad->pushes, 10, 40); /* with its heartbeats, and a few between them */
    bad->refuses = false;
    run_ms(&all, 1000);
    assert_true(all_have_the_map(&all));
    fixture_teardown(&all);
}

static void test_coordinator__newest_map_follows_a_slow_push(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *slow = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    uint32_t pushes = slow->pushes;
    kith_transport_sim_link link = {.delay_ns_min = 300 * MS_NS, .delay_ns_max = 300 * MS_NS};
    kith_transport_sim_link_set(all.network, all.on.host, slow->on.host, &link);
    for (uint32_t i = 0; i < 4; i++)
        node_add(&all, KITH_NODE_QUERY, "");
    run_ms(&all, 2500);
    assert_true(all_have_the_map(&all));
    assert_in_range(slow->pushes - pushes, 2, 3); /* four versions */
    fixture_teardown(&all);
}

/* With an empty disk, at that: what its predecessor was given does not count for it. */
static void test_coordinator__node_that_starts_again_gets_the_map_again(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    own->started_wall_ms++;
    kith_meta_fsm_fini(&own->map);
    kith_meta_fsm_init(&own->map);
    run_ms(&all, 600);
    assert_true(all_have_the_map(&all));
    fixture_teardown(&all);
}

static void test_coordinator__receipt_of_a_process_that_is_gone_does_not_count(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    own->holds = true;
    run_ms(&all, 400);
    assert_non_null(own->held);
    own->started_wall_ms++;
    run_ms(&all, 600);
    receipt_send(own, own->held, all.fsm.state.map_version);
    run_ms(&all, 600);
    assert_true(all_have_the_map(&all));
    fixture_teardown(&all);
}

static void test_coordinator__pull_gives_a_newer_map_or_nothing(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    for (uint64_t version = 0; version < 3; version++) {
        asked pull = {.done = 0};
        kith_buf_init(&pull.request);
        kith_codec_map_version_encode(version, &pull.request);
        ask(&all, own, KITH_AM_MAP_PULL, &pull);
        assert_int_equal(pull.status, KITH_OK);
        assert_int_equal(pull.reply.bytes > 0, version < all.fsm.state.map_version);
        asked_free(&pull);
    }
    fixture_teardown(&all);
}

static void test_coordinator__one_that_left_does_not_say_that_there_is_nothing_newer(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    all.log.has_ended = true;
    for (uint32_t newer = 0; newer < 2; newer++) {
        asked pull = {.done = 0};
        kith_buf_init(&pull.request);
        kith_codec_map_version_encode(all.fsm.state.map_version - newer, &pull.request);
        ask(&all, own, KITH_AM_MAP_PULL, &pull);
        assert_int_equal(pull.status, newer ? KITH_OK : KITH_UNAVAILABLE);
        asked_free(&pull);
    }
    fixture_teardown(&all);
}

static void test_coordinator__node_speaks_for_itself_alone(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 1000);
    own->said.id = (kith_node_id){{99}};
    run_ms(&all, 2000);
    assert_int_equal(all.fsm.state.node_count, 1);
    assert_int_equal(all.log.proposed, 1);
    fixture_teardown(&all);
}

static void coordinator_ask(fixture *all, kith_codec_coordinator_kind kind, uint8_t id, asked *own) {
    *own = (asked){.done = 0};
    kith_buf_init(&own->request);
    kith_codec_coordinator_request_encode(
        &(kith_codec_coordinator_request){
            .kind = kind, .node_id = {{id}}, .address = kind == KITH_CODEC_COORDINATOR_JOIN ? "c7:1" : ""},
        &own->request);
    ask(all, &all->nodes[0], KITH_AM_COORDINATOR, own);
}

static void status_decode(const asked *own, kith_arena *arena, kith_codec_coordinator_reply *reply_out) {
    kith_err err;
    assert_int_equal(own->status, KITH_OK);
    assert_ok(
        kith_codec_coordinator_reply_decode(own->reply.data, own->reply.bytes, arena, reply_out, &err), &err);
}

static void test_coordinator__status_says_what_the_leader_knows(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "a");
    node_add(&all, KITH_NODE_DATA, "b");
    run_ms(&all, 1000);
    node_silence(&all, &all.nodes[1], true);
    run_ms(&all, 10000);
    kith_arena arena;
    asked own;
    kith_codec_coordinator_reply reply;
    kith_arena_init(&arena);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_STATUS, 0, &own);
    status_decode(&own, &arena, &reply);
    assert_int_equal(reply.term, 4);
    assert_int_equal(reply.map_version, all.fsm.state.map_version);
    assert_string_equal(reply.leader_address, COORDINATOR_ADDRESS);
    assert_int_equal(reply.member_count, 2);
    assert_true(reply.members[0].leader && reply.members[0].voter);
    assert_false(reply.members[1].leader || reply.members[1].voter);
    assert_int_equal(reply.node_count, 2);
    uint32_t first = strcmp(reply.nodes[0].heartbeat.node.name, "n0") != 0; /* by registration */
    const kith_codec_coordinator_node *up = &reply.nodes[first], *down = &reply.nodes[!first];
    assert_false(up->heartbeat.node.down);
    assert_true(up->silent_ms < 600);
    assert_int_equal(up->heartbeat.points, 1000);
    assert_string_equal(up->heartbeat.health, "ok");
    assert_true(down->heartbeat.node.down);
    assert_in_range(down->silent_ms, 9000, 11000);
    asked_free(&own);
    lead(&all, false);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_STATUS, 0, &own);
    status_decode(&own, &arena, &reply);
    assert_int_equal(reply.node_count, 0);
    assert_string_equal(reply.leader_address, "c1:1");
    asked_free(&own);
    kith_arena_fini(&arena);
    fixture_teardown(&all);
}

/* The first coordinators of a cluster find each other by it. */
static void test_coordinator__status_is_answered_before_it_starts(void **unused) {
    (void)unused;
    fixture all;
    fixture_open(&all);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    kith_arena arena;
    asked status, proposal = {.done = 0};
    kith_codec_coordinator_reply reply;
    kith_arena_init(&arena);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_STATUS, 0, &status);
    status_decode(&status, &arena, &reply);
    assert_true(reply.fresh);
    assert_int_equal(reply.self_id.bytes[0], 1);
    assert_string_equal(reply.leader_address, "");
    asked_free(&status);
    kith_arena_fini(&arena);
    kith_buf_init(&proposal.request);
    ask(&all, own, KITH_AM_META_PROPOSE, &proposal);
    assert_int_equal(proposal.status, KITH_UNAVAILABLE);
    asked_free(&proposal);
    kith_coordinator_start(all.coordinator);
    fixture_teardown(&all);
}

static void test_coordinator__changes_of_coordinators_go_to_the_log(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "");
    asked own;
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_JOIN, 7, &own);
    assert_int_equal(own.status, KITH_OK);
    assert_string_equal(all.log.asked, "join 7 at c7:1");
    asked_free(&own);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_LEAVE, 8, &own);
    assert_int_equal(own.status, KITH_BUSY);
    assert_string_equal(own.err.text, "another change is under way");
    assert_string_equal(all.log.asked, "leave 8");
    asked_free(&own);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_TRANSFER, 0, &own);
    assert_string_equal(all.log.asked, "transfer to anyone");
    asked_free(&own);
    lead(&all, false);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_TRANSFER, 3, &own);
    assert_int_equal(own.status, KITH_NOT_LEADER);
    assert_string_equal(own.err.text, "c1:1");
    asked_free(&own);
    fixture_teardown(&all);
}

static void test_coordinator__restored_snapshot_is_what_it_goes_by(void **unused) {
    (void)unused;
    fixture all, other;
    fixture_setup(&other, true);
    node_add(&other, KITH_NODE_DATA, "");
    node_add(&other, KITH_NODE_QUERY, "");
    run_ms(&other, 1000);
    kith_buf bytes;
    kith_err err;
    kith_buf_init(&bytes);
    kith_meta_fsm_snapshot(&other.fsm, &bytes);
    fixture_teardown(&other);
    fixture_setup(&all, true);
    node_add(&all, KITH_NODE_DATA, "");
    all.log.hold = true;
    assert_ok(kith_meta_fsm_restore(&all.fsm, bytes.data, bytes.bytes, &err), &err);
    kith_coordinator_restored(all.coordinator);
    run_ms(&all, 1900);
    assert_int_equal(all.log.proposed, 0); /* it is registered */
    assert_true(all_have_the_map(&all));
    run_ms(&all, 300);
    assert_int_equal(all.log.proposed, 1); /* the other one is silent */
    log_fail(&all.log, 16, KITH_UNKNOWN_OUTCOME);
    kith_buf_fini(&bytes);
    fixture_teardown(&all);
}

static void test_coordinator__stop_waits_for_what_is_open_and_answers_closed(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    node *own = node_add(&all, KITH_NODE_DATA, "");
    all.log.hold = true;
    run_ms(&all, 1000);
    kith_coordinator_stop(all.coordinator, set_true, &all.stopped);
    run_ms(&all, 1000);
    assert_false(all.stopped); /* the registration is still open */
    kith_codec_meta_command command = create_command("c", 1, 1);
    bool changed;
    char message[KITH_ERR_BYTES_MAX];
    assert_int_equal(propose(&all, own, &command, &changed, message), KITH_CLOSED);
    log_fail(&all.log, 16, KITH_UNKNOWN_OUTCOME);
    assert_true(all.stopped);
    fixture_teardown(&all);
}

/* --- moves --- */

/* What primaries do: whoever is behind comes in sync. */
static void primaries_act(fixture *all) {
    kith_meta_state *state = &all->fsm.state;
    kith_codec_meta_shard_change changes[64];
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = changes};
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; s < of->collection.shard_count; s++) {
            kith_codec_meta_shard_change *change = &changes[command.change_count];
            *change = (kith_codec_meta_shard_change){
                .shard_id = of->collection.shard_id_first + s, .shard = of->shards[s]};
            change->shard.in_sync = kith_replicas_all(of->shards[s].replica_count);
            command.change_count += change->shard.in_sync != of->shards[s].in_sync;
        }
    }
    kith_meta_result result;
    if (command.change_count == 0) return;
    kith_meta_state_apply(state, state->applied_index + 1, &command, &result);
    assert_ok(result.status, &result.err);
    kith_coordinator_applied(all->coordinator, &result);
}

static uint32_t replicas_on(const fixture *all, const node *of) {
    const kith_meta_state *state = &all->fsm.state;
    uint32_t number = kith_meta_state_node_of_id(state, &of->said.id)->number, count = 0;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *in = state->collections[i];
        for (uint32_t s = 0; s < in->collection.shard_count; s++) {
            for (uint32_t r = 0; r < in->shards[s].replica_count; r++)
                count += in->shards[s].replicas[r] == number;
        }
    }
    return count;
}

static void drain(fixture *all, node *of, bool draining) {
    kith_meta_result result;
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_DRAIN_NODE, .node = {.id = of->said.id, .draining = draining}};
    kith_meta_state_apply(&all->fsm.state, all->fsm.state.applied_index + 1, &command, &result);
    assert_ok(result.status, &result.err);
    kith_coordinator_applied(all->coordinator, &result);
}

static void collection_of_six_shards(fixture *all, node *from) {
    char message[KITH_ERR_BYTES_MAX];
    bool changed;
    kith_codec_meta_command command = create_command("moves", 6, 1);
    assert_int_equal(propose(all, from, &command, &changed, message), KITH_OK);
}

static void test_coordinator__drained_node_is_emptied(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 100);
    collection_of_six_shards(&all, &all.nodes[0]);
    drain(&all, &all.nodes[0], true);
    assert_int_equal(replicas_on(&all, &all.nodes[0]), 2);
    for (uint32_t i = 0; i < 20 && replicas_on(&all, &all.nodes[0]) > 0; i++) {
        run_ms(&all, 500);
        primaries_act(&all);
    }
    assert_int_equal(replicas_on(&all, &all.nodes[0]), 0);
    assert_int_equal(replicas_on(&all, &all.nodes[1]), 3);
    assert_int_equal(replicas_on(&all, &all.nodes[2]), 3);
    uint64_t version = all.fsm.state.map_version;
    run_ms(&all, 10000);
    assert_int_equal(all.fsm.state.map_version, version);
    fixture_teardown(&all);
}

static void test_coordinator__status_says_what_is_left_to_copy(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 100);
    collection_of_six_shards(&all, &all.nodes[0]);
    drain(&all, &all.nodes[0], true);
    drain(&all, &all.nodes[1], true);
    run_ms(&all, 500);
    kith_arena arena;
    asked own;
    kith_codec_coordinator_reply reply;
    kith_arena_init(&arena);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_STATUS, 0, &own);
    status_decode(&own, &arena, &reply);
    assert_int_equal(reply.copying.behind, 2); /* as many as may be at once */
    assert_int_equal(reply.copying.moving, 2);
    assert_int_equal(reply.copying.waiting, 2);
    assert_int_equal(reply.copying.short_count, 0);
    asked_free(&own);
    drain(&all, &all.nodes[2], true);
    run_ms(&all, 500);
    coordinator_ask(&all, KITH_CODEC_COORDINATOR_STATUS, 0, &own);
    status_decode(&own, &arena, &reply);
    assert_int_equal(reply.copying.short_count, 6); /* nowhere to go */
    asked_free(&own);
    kith_arena_fini(&arena);
    fixture_teardown(&all);
}

/* What one leader began the next one ends, and one that does not lead decides nothing. */
static void test_coordinator__moves_go_on_under_the_next_leader(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 100);
    collection_of_six_shards(&all, &all.nodes[0]);
    drain(&all, &all.nodes[0], true);
    run_ms(&all, 500); /* two are under way */
    assert_int_equal(replicas_on(&all, &all.nodes[1]) + replicas_on(&all, &all.nodes[2]), 6);
    lead(&all, false);
    primaries_act(&all);
    uint64_t version = all.fsm.state.map_version;
    run_ms(&all, 1500);
    assert_int_equal(all.fsm.state.map_version, version);
    lead(&all, true);
    run_ms(&all, 6000);
    assert_int_equal(replicas_on(&all, &all.nodes[0]), 0);
    fixture_teardown(&all);
}

/* A proposal whose end is not known may have happened: what is decided next is decided by what the metadata say. */
static void test_coordinator__move_that_was_not_committed_is_decided_again(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 100);
    collection_of_six_shards(&all, &all.nodes[0]);
    all.log.hold = true;
    drain(&all, &all.nodes[0], true);
    uint32_t proposed = all.log.proposed;
    run_ms(&all, 5000);
    assert_int_equal(all.log.proposed, proposed + 1); /* one at a time */
    log_fail(&all.log, 1, KITH_UNKNOWN_OUTCOME);
    all.log.hold = false;
    run_ms(&all, 2000);
    assert_int_equal(replicas_on(&all, &all.nodes[1]) + replicas_on(&all, &all.nodes[2]), 6);
    fixture_teardown(&all);
}

/* All shards, whether it has them or not. */
static void stalled_say(fixture *all, node *of, uint64_t for_ms) {
    const kith_collection *collection = &all->fsm.state.collections[0]->collection;
    of->stalled_count = collection->shard_count;
    for (uint32_t i = 0; i < of->stalled_count; i++)
        of->stalled[i] = (kith_codec_stalled){.shard_id = collection->shard_id_first + i, .for_ms = for_ms};
}

static void test_coordinator__replica_that_comes_no_nearer_goes_to_another_node(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, true);
    for (uint32_t i = 0; i < 3; i++)
        node_add(&all, KITH_NODE_DATA, "");
    run_ms(&all, 100);
    collection_of_six_shards(&all, &all.nodes[0]);
    drain(&all, &all.nodes[0], true);
    run_ms(&all, 500);
    assert_int_equal(replicas_on(&all, &all.nodes[1]), 3);
    stalled_say(&all, &all.nodes[1], 599999);
    run_ms(&all, 5000);
    assert_int_equal(replicas_on(&all, &all.nodes[1]), 3);
    stalled_say(&all, &all.nodes[1], 600000);
    run_ms(&all, 5000);
    assert_int_equal(replicas_on(&all, &all.nodes[1]), 2);
    assert_int_equal(replicas_on(&all, &all.nodes[2]), 4);
    fixture_teardown(&all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinator__nodes_are_registered_and_get_the_map),
        cmocka_unit_test(test_coordinator__change_of_the_map_is_at_every_node_in_milliseconds),
        cmocka_unit_test(test_coordinator__shards_of_a_new_collection_are_placed),
        cmocka_unit_test(test_coordinator__new_collections_look_at_what_nodes_hold),
        cmocka_unit_test(test_coordinator__a_member_takes_itself_out_of_those_in_sync),
        cmocka_unit_test(test_coordinator__only_its_primary_changes_a_shard),
        cmocka_unit_test(test_coordinator__repeated_hand_over_gets_its_first_answer),
        cmocka_unit_test(test_coordinator__node_that_is_down_leads_nothing),
        cmocka_unit_test(test_coordinator__shard_waits_for_one_in_sync_to_register),
        cmocka_unit_test(test_coordinator__shard_gets_the_first_in_sync_that_registers),
        cmocka_unit_test(test_coordinator__collection_that_cannot_be_placed_is_refused),
        cmocka_unit_test(
            test_coordinator__repeated_request_gets_its_first_answer_also_when_nothing_could_be_placed_now),
        cmocka_unit_test(test_coordinator__silent_node_is_down_and_back_with_the_map),
        cmocka_unit_test(test_coordinator__node_that_says_something_new_is_registered_again),
        cmocka_unit_test(test_coordinator__follower_proposes_and_pushes_nothing_and_says_who_leads),
        cmocka_unit_test(test_coordinator__leader_again_proposes_again),
        cmocka_unit_test(test_coordinator__proposal_whose_outcome_is_unknown_is_answered_so),
        cmocka_unit_test(test_coordinator__push_that_fails_is_repeated_at_a_falling_rate_and_delays_nobody),
        cmocka_unit_test(test_coordinator__newest_map_follows_a_slow_push),
        cmocka_unit_test(test_coordinator__node_that_starts_again_gets_the_map_again),
        cmocka_unit_test(test_coordinator__receipt_of_a_process_that_is_gone_does_not_count),
        cmocka_unit_test(test_coordinator__pull_gives_a_newer_map_or_nothing),
        cmocka_unit_test(test_coordinator__one_that_left_does_not_say_that_there_is_nothing_newer),
        cmocka_unit_test(test_coordinator__node_speaks_for_itself_alone),
        cmocka_unit_test(test_coordinator__status_says_what_the_leader_knows),
        cmocka_unit_test(test_coordinator__status_is_answered_before_it_starts),
        cmocka_unit_test(test_coordinator__changes_of_coordinators_go_to_the_log),
        cmocka_unit_test(test_coordinator__restored_snapshot_is_what_it_goes_by),
        cmocka_unit_test(test_coordinator__stop_waits_for_what_is_open_and_answers_closed),
        cmocka_unit_test(test_coordinator__drained_node_is_emptied),
        cmocka_unit_test(test_coordinator__status_says_what_is_left_to_copy),
        cmocka_unit_test(test_coordinator__moves_go_on_under_the_next_leader),
        cmocka_unit_test(test_coordinator__move_that_was_not_committed_is_decided_again),
        cmocka_unit_test(test_coordinator__replica_that_comes_no_nearer_goes_to_another_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
