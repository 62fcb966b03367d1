/* What a node has of the metadata, on simulated machines with coordinators that do what the test says: maps that are pushed
 * and pulled, those who wait for one, proposals, and the end in every state. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/codec/codec_cluster.h"
#include "host/meta/meta_client.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define MS_NS        1000000ULL
#define COORDINATORS 3u
#define HELD_MAX     16u
#define IDS_MAX      16u
#define DIR          "/data/meta"

static const char *const addresses[COORDINATORS] = {"c0:1", "c1:1", "c2:1"};

/* A coordinator that answers what the test says. */
typedef struct coordinator {
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    uint32_t host;
    uint8_t cluster;
    uint64_t version;               /* of its map */
    bool silent;                    /* requests wait */
    const char *leader;             /* NULL: it leads */
    kith_status refusal, judgement; /* without it; of it */
    bool version_late;              /* what is proposed here shows in a later map: `version` stays */
    uint32_t pulls, proposals, applied;
    kith_request_id ids[IDS_MAX];
    kith_transport_request *held[HELD_MAX];
    uint32_t held_count;
} coordinator;

typedef struct fixture {
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    kith_transport_sim_network *network;
    coordinator coordinators[COORDINATORS];
    kith_meta_client *client;
    uint32_t host;
    const char *dir;
    bool dead; /* its disk died: a map that is shown is not looked for on it */
    uint32_t changes, changes_from_file;
    uint64_t shown; /* the highest version that `changed` was given */
    uint32_t stops;
} fixture;

/* --- maps --- */

/* Coordinators, all but the first. */
static void nodes_add(kith_meta_state *state) {
    for (uint32_t i = 1; i < COORDINATORS; i++) {
        kith_codec_meta_command command = {.kind = KITH_CODEC_META_REGISTER_NODE,
            .node = {.id = {{(uint8_t)(10 + i)}}, .role = KITH_NODE_COORDINATOR}};
        kith_meta_result result;
        snprintf(command.node.name, sizeof command.node.name, "c%u", i);
        snprintf(command.node.address, sizeof command.node.address, "%s", addresses[i]);
        kith_meta_state_apply(state, i, &command, &result);
        assert_int_equal(result.status, KITH_OK);
    }
}

/* Its content follows from its version, too. */
static void map_make(uint8_t cluster, uint64_t version, kith_buf *buf) {
    kith_meta_fsm fsm;
    kith_meta_fsm_init(&fsm);
    if (version >= COORDINATORS) nodes_add(&fsm.state);
    fsm.state.map_version = version;
    fsm.state.collection_id_next = version + 100;
    fsm.state.cluster_id = (kith_node_id){{cluster}};
    kith_meta_fsm_map(&fsm, buf);
    kith_meta_fsm_fini(&fsm);
}

static uint64_t map_version_of(const void *bytes, size_t byte_count) {
    kith_meta_fsm fsm;
    kith_err err;
    kith_meta_fsm_init(&fsm);
    assert_ok(kith_meta_fsm_restore(&fsm, bytes, byte_count, &err), &err);
    uint64_t version = fsm.state.map_version;
    kith_meta_fsm_fini(&fsm);
    return version;
}

/* --- coordinators --- */

static void map_answer(coordinator *own, kith_transport_request *request) {
    kith_buf buf;
    kith_err err;
    uint64_t has;
    kith_buf_init(&buf);
    assert_ok(kith_codec_map_version_decode(request->bytes, request->byte_count, &has, &err), &err);
    if (own->version > has) map_make(own->cluster, own->version, &buf);
    kith_transport_reply(request, own->transport, KITH_OK, buf.data, buf.bytes, NULL);
    kith_buf_fini(&buf);
}

static bool request_hold(coordinator *own, kith_transport_request *request) {
    if (!own->silent) return false;
    assert_true(own->held_count < HELD_MAX);
    own->held[own->held_count++] = request;
    return true;
}

static void pulled(void *ctx, kith_transport_request *request) {
    coordinator *own = ctx;
    own->pulls++;
    if (!request_hold(own, request)) map_answer(own, request);
}

static bool is_repeat(const coordinator *own, const kith_request_id *id) {
    for (uint32_t i = 0; i < own->applied; i++)
        if (memcmp(own->ids[i].client, id->client, sizeof id->client) == 0) return true;
    return false;
}

static void proposal_answer(coordinator *own, kith_transport_request *request) {
    kith_arena arena;
    kith_err err;
    kith_buf buf;
    kith_codec_meta_command command;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    assert_ok(
        kith_codec_meta_command_decode(request->bytes, request->byte_count, &arena, &command, &err), &err);
    if (!is_repeat(own, &command.request_id)) {
        assert_true(own->applied < IDS_MAX);
        own->ids[own->applied++] = command.request_id;
        if (!own->version_late) own->version++;
    }
    kith_codec_propose_reply reply = {.status = own->judgement,
        .message = "",
        .changed = true,
        .map_version = own->version + own->version_late};
    kith_codec_propose_reply_encode(&reply, &buf);
    kith_transport_reply(request, own->transport, KITH_OK, buf.data, buf.bytes, NULL);
    kith_buf_fini(&buf);
    kith_arena_fini(&arena);
}

static void proposed(void *ctx, kith_transport_request *request) {
    coordinator *own = ctx;
    kith_err err;
    own->proposals++;
    if (own->refusal != KITH_OK) {
        kith_err_set(&err, own->refusal, "refused");
        kith_transport_reply(request, own->transport, own->refusal, NULL, 0, &err);
    } else if (own->leader) {
        kith_err_set(&err, KITH_NOT_LEADER, "%s", own->leader);
        kith_transport_reply(request, own->transport, KITH_NOT_LEADER, NULL, 0, &err);
    } else if (!request_hold(own, request)) {
        proposal_answer(own, request);
    }
}

static kith_executor *executor_make(sim_env *sim) {
    kith_executor *executor;
    kith_err err;
    assert_ok(kith_executor_create(sim_env_kith(sim), "test", 1, &executor, &err), &err);
    return executor;
}

static void transport_make(
    fixture *all, sim_env *sim, const char *address, uint8_t id, kith_transport **transport_out) {
    kith_err err;
    assert_ok(kith_transport_sim_create(&(kith_transport_sim_options){.env = sim_env_kith(sim),
                                            .network = all->network,
                                            .node = {{id}},
                                            .address = address,
                                            .in_flight_max = 64},
                  transport_out, &err),
        &err);
}

static void coordinator_setup(fixture *all, uint32_t index) {
    coordinator *own = &all->coordinators[index];
    own->sim = sim_env_create_beside(all->sim, 10 + index);
    own->executor = executor_make(own->sim);
    own->cluster = 1;
    own->version = 1;
    own->host = kith_transport_sim_host(all->network, addresses[index]);
    transport_make(all, own->sim, addresses[index], (uint8_t)(1 + index), &own->transport);
    kith_transport_handle(own->transport, KITH_AM_MAP_PULL, own->executor, pulled, own);
    kith_transport_handle(own->transport, KITH_AM_META_PROPOSE, own->executor, proposed, own);
}

static void held_answer(coordinator *own) {
    kith_err err;
    kith_err_set(&err, KITH_UNAVAILABLE, "it was silent");
    for (uint32_t i = 0; i < own->held_count; i++)
        kith_transport_reply(own->held[i], own->transport, KITH_UNAVAILABLE, NULL, 0, &err);
    own->held_count = 0;
}

/* --- the node --- */

/* A map must be kept before anything goes by it, and shown only afterwards. */
static void changed(void *ctx, const kith_meta_state *state, bool from_file) {
    fixture *all = ctx;
    kith_buf kept;
    kith_err err;
    all->changes++;
    all->changes_from_file += from_file;
    assert_true(state->map_version > all->shown);
    assert_int_equal(state->collection_id_next, state->map_version + 100);
    assert_true(kith_meta_client_map_version(all->client) < state->map_version);
    all->shown = state->map_version;
    if (!all->dir || all->dead) return;
    kith_buf_init(&kept);
    assert_ok(kith_meta_snapshot_read(sim_env_kith(all->sim), DIR, &kept, &err), &err);
    assert_int_equal(map_version_of(kept.data, kept.bytes), state->map_version);
    kith_buf_fini(&kept);
}

static kith_status node_start(fixture *all, uint32_t coordinator_count, kith_err *err) {
    all->executor = executor_make(all->sim);
    transport_make(all, all->sim, "n0:1", 9, &all->transport);
    all->shown = 0;
    all->client = kith_meta_client_create(&(kith_meta_client_options){.env = sim_env_kith(all->sim),
        .executor = all->executor,
        .transport = all->transport,
        .dir = all->dir,
        .coordinators = addresses,
        .coordinator_count = coordinator_count,
        .changed = changed,
        .ctx = all});
    return kith_meta_client_load(all->client, err);
}

static void stopped(void *ctx) {
    ((fixture *)ctx)->stops++;
}

static void run_ms(fixture *all, uint64_t ms) {
    sim_env_run_for(all->sim, ms * MS_NS);
}

static void stop_begin(fixture *all) {
    all->stops = 0;
    kith_meta_client_stop(all->client, stopped, all);
}

/* Ends at the first moment at which `done` was called: from then on nothing may use the transport, which is destroyed before
 * anything else runs. */
static void stop_wait(fixture *all) {
    for (uint32_t i = 0; all->stops == 0 && i < 100000; i++)
        if (!sim_env_step(all->sim)) sim_env_run_for(all->sim, MS_NS);
    assert_int_equal(all->stops, 1);
    kith_transport_destroy(all->transport);
    all->transport = NULL;
    kith_executor_destroy(all->executor);
    run_ms(all, 3000);
    assert_int_equal(all->stops, 1);
    kith_meta_client_destroy(all->client);
    all->client = NULL;
}

static void node_stop(fixture *all) {
    stop_begin(all);
    stop_wait(all);
}

static void fixture_setup(fixture *all, const char *dir, uint32_t coordinator_count) {
    kith_err err;
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    *all = (fixture){.sim = sim_env_create(test_seed(1)), .dir = dir};
    all->network = kith_transport_sim_network_create(test_seed(1));
    for (uint32_t i = 0; i < COORDINATORS; i++)
        coordinator_setup(all, i);
    all->host = kith_transport_sim_host(all->network, "n0:1");
    assert_ok(node_start(all, coordinator_count, &err), &err);
}

static void fixture_teardown(fixture *all) {
    if (all->client) node_stop(all);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        held_answer(&all->coordinators[i]);
    run_ms(all, 3000);
    for (uint32_t i = 0; i < COORDINATORS; i++) {
        kith_transport_destroy(all->coordinators[i].transport);
        kith_executor_destroy(all->coordinators[i].executor);
        sim_env_destroy(all->coordinators[i].sim);
    }
    kith_transport_sim_network_destroy(all->network);
    sim_env_destroy(all->sim);
}

static uint64_t version_here(const fixture *all) {
    return kith_meta_client_map_version(all->client);
}

static void coordinator_power(fixture *all, uint32_t index, kith_transport_sim_power power) {
    kith_transport_sim_power_set(all->network, all->coordinators[index].host, power);
}

/* --- pushes --- */

typedef struct push {
    kith_transport_call call;
    kith_buf bytes;
    kith_status status;
    uint64_t receipt;
    uint32_t ended;
    char text[KITH_ERR_BYTES_MAX];
} push;

static void push_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    push *own = (push *)call;
    kith_err decode_err;
    own->status = status;
    own->ended++;
    snprintf(own->text, sizeof own->text, "%s", err ? err->text : "");
    if (status == KITH_OK)
        assert_ok(kith_codec_map_version_decode(reply, reply_bytes, &own->receipt, &decode_err), &decode_err);
}

static void push_start(fixture *all, push *own, uint8_t cluster, uint64_t version) {
    *own = (push){.status = KITH_OK};
    kith_buf_init(&own->bytes);
    map_make(cluster, version, &own->bytes);
    own->call = (kith_transport_call){.address = "n0:1",
        .kind = KITH_AM_MAP_PUSH,
        .bytes = own->bytes.data,
        .byte_count = own->bytes.bytes,
        .deadline_ns = kith_env_now_ns(sim_env_kith(all->sim)) + 2000 * MS_NS,
        .done = push_done};
    kith_transport_start(all->coordinators[0].transport, &own->call);
}

static push push_wait(fixture *all, uint8_t cluster, uint64_t version) {
    push own;
    push_start(all, &own, cluster, version);
    run_ms(all, 2100);
    assert_int_equal(own.ended, 1);
    kith_buf_fini(&own.bytes);
    return own;
}

static void assert_pushed(fixture *all, uint64_t version, uint64_t receipt) {
    push own = push_wait(all, 1, version);
    if (own.status != KITH_OK) fail_msg("%s: %s", kith_status_name(own.status), own.text);
    assert_int_equal(own.receipt, receipt);
    assert_int_equal(version_here(all), receipt);
}

static void test_meta_client__a_pushed_map_is_kept_then_shown(void **state) {
    (void)state;
    fixture all;
    kith_err err;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_int_equal(version_here(&all), 0);
    assert_int_equal(kith_meta_client_health(all.client, &err), KITH_UNAVAILABLE);
    assert_string_equal(err.text, "no coordinator has sent a cluster map yet");
    assert_pushed(&all, 5, 5);
    assert_ok(kith_meta_client_health(all.client, &err), &err);
    kith_meta_map *map = kith_meta_map_get(kith_meta_client_meta(all.client));
    assert_int_equal(map->version, 5);
    kith_meta_map_release(map);
    assert_int_equal(all.changes, 1);
    fixture_teardown(&all);
}

static void test_meta_client__a_map_never_goes_back(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    assert_pushed(&all, 5, 5);
    assert_pushed(&all, 3, 5);
    assert_int_equal(all.changes, 1);
    assert_pushed(&all, 6, 6);
    assert_int_equal(all.changes, 2);
    fixture_teardown(&all);
}

static void test_meta_client__another_clusters_map_is_refused(void **state) {
    (void)state;
    fixture all;
    kith_err err;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    push other = push_wait(&all, 2, 9);
    assert_int_equal(other.status, KITH_PRECONDITION);
    assert_non_null(strstr(other.text, "another cluster's"));
    assert_int_equal(version_here(&all), 5);
    assert_int_equal(kith_meta_client_health(all.client, &err), KITH_UNAVAILABLE);
    assert_non_null(strstr(err.text, "another cluster's"));
    assert_pushed(&all, 6, 6);
    assert_ok(kith_meta_client_health(all.client, &err), &err);
    /* The folder remembers. */
    node_stop(&all);
    assert_ok(node_start(&all, COORDINATORS, &err), &err);
    assert_int_equal(version_here(&all), 6);
    assert_int_equal(push_wait(&all, 2, 9).status, KITH_PRECONDITION);
    assert_int_equal(all.changes_from_file, 1);
    fixture_teardown(&all);
}

static void test_meta_client__what_is_no_map_is_refused(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, DIR, COORDINATORS);
    push own = {.call = {.address = "n0:1",
                    .kind = KITH_AM_MAP_PUSH,
                    .bytes = "nonsense",
                    .byte_count = 8,
                    .deadline_ns = kith_env_now_ns(sim_env_kith(all.sim)) + 2000 * MS_NS,
                    .done = push_done}};
    kith_transport_start(all.coordinators[0].transport, &own.call);
    run_ms(&all, 100);
    assert_int_equal(own.ended, 1);
    assert_int_not_equal(own.status, KITH_OK);
    assert_int_equal(version_here(&all), 0);
    fixture_teardown(&all);
}

/* --- the file --- */

static uint64_t version_kept(fixture *all) {
    kith_buf kept;
    kith_err err;
    kith_buf_init(&kept);
    kith_status status = kith_meta_snapshot_read(sim_env_kith(all->sim), DIR, &kept, &err);
    uint64_t version = status == KITH_OK ? map_version_of(kept.data, kept.bytes) : 0;
    kith_buf_fini(&kept);
    return version;
}

/* False: fewer file operations than `op` come of a push. */
static bool crash_at(uint64_t op, sim_crash_mode mode) {
    fixture all;
    kith_err err;
    push own;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    sim_env_crash_at(all.sim, sim_env_op_count(all.sim) + op, mode);
    push_start(&all, &own, 1, 6);
    run_ms(&all, 2100);
    bool crashed = sim_env_crashed(all.sim);
    uint64_t shown = all.shown;
    if (!crashed) sim_env_crash(all.sim, mode);
    all.dead = true;
    node_stop(&all);
    kith_buf_fini(&own.bytes);
    sim_env_restart(all.sim);
    all.dead = false;
    assert_ok(node_start(&all, COORDINATORS, &err), &err);
    assert_true(version_here(&all) >= shown);
    assert_in_range(version_here(&all), 5, 6);
    assert_pushed(&all, 7, 7);
    fixture_teardown(&all);
    return crashed;
}

static void test_meta_client__a_crash_leaves_a_map_as_new_as_was_shown(void **state) {
    (void)state;
    const sim_crash_mode modes[] = {
        SIM_CRASH_KEEP_ALL, SIM_CRASH_LOSE_ALL, SIM_CRASH_TORN, SIM_CRASH_TORN_UNORDERED};
    for (uint32_t m = 0; m < 4; m++) {
        uint64_t op = 0;
        while (crash_at(op, modes[m]))
            op++;
        assert_true(op >= 5); /* make, truncate, two writes, sync, rename, sync of the folder */
    }
}

static void test_meta_client__a_full_disk_keeps_the_map_of_before(void **state) {
    (void)state;
    fixture all;
    kith_err err;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    sim_env_space_set(all.sim, 0);
    push refused = push_wait(&all, 1, 6);
    assert_int_equal(refused.status, KITH_NO_SPACE);
    assert_non_null(strstr(refused.text, DIR "/snapshot.kith"));
    assert_int_equal(version_here(&all), 5);
    assert_int_equal(version_kept(&all), 5);
    assert_int_equal(kith_meta_client_health(all.client, &err), KITH_UNAVAILABLE);
    sim_env_space_set(all.sim, 1 << 20);
    assert_pushed(&all, 6, 6);
    assert_int_equal(version_kept(&all), 6);
    assert_ok(kith_meta_client_health(all.client, &err), &err);
    fixture_teardown(&all);
}

static void test_meta_client__a_damaged_file_is_named(void **state) {
    (void)state;
    fixture all;
    kith_err err;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    node_stop(&all);
    assert_true(sim_env_flip(all.sim, DIR "/snapshot.kith", 30, 1));
    assert_int_equal(node_start(&all, COORDINATORS, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "snapshot.kith"));
    assert_int_equal(version_here(&all), 0);
    fixture_teardown(&all);
}

/* --- pulls --- */

static void test_meta_client__a_newer_map_that_is_seen_is_pulled(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[1].version = 4;
    kith_meta_client_map_seen(all.client, addresses[1], 4);
    run_ms(&all, 100);
    assert_int_equal(version_here(&all), 4);
    assert_int_equal(all.coordinators[1].pulls, 1);
    kith_meta_client_map_seen(all.client, addresses[1], 4);
    kith_meta_client_map_seen(all.client, addresses[1], 3);
    run_ms(&all, 100);
    assert_int_equal(all.coordinators[1].pulls, 1);
    fixture_teardown(&all);
}

static void test_meta_client__one_pull_at_a_time_but_another_address_is_asked_next(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, NULL, COORDINATORS);
    all.coordinators[0].version = 4;
    all.coordinators[1].version = 5;
    for (int i = 0; i < 5; i++)
        kith_meta_client_map_seen(all.client, addresses[0], 4);
    kith_meta_client_map_seen(all.client, addresses[1], 5);
    run_ms(&all, 100);
    assert_int_equal(version_here(&all), 5);
    assert_int_equal(all.coordinators[0].pulls, 1);
    assert_int_equal(all.coordinators[1].pulls, 1);
    fixture_teardown(&all);
}

/* A push overtakes the reply of a pull, and the other way round. */
static void test_meta_client__a_push_and_a_pull_may_cross(void **state) {
    (void)state;
    for (uint64_t pushed = 3; pushed <= 7; pushed += 2) {
        fixture all;
        push own;
        fixture_setup(&all, DIR, COORDINATORS);
        kith_transport_sim_link slow = {.delay_ns_min = 200 * MS_NS, .delay_ns_max = 200 * MS_NS};
        kith_transport_sim_link_set(all.network, all.coordinators[1].host, all.host, &slow);
        all.coordinators[1].version = 5;
        kith_meta_client_map_seen(all.client, addresses[1], 5);
        run_ms(&all, 50);
        push_start(&all, &own, 1, pushed);
        run_ms(&all, 50);
        assert_int_equal(version_here(&all), pushed);
        run_ms(&all, 400);
        assert_int_equal(version_here(&all), pushed > 5 ? pushed : 5);
        assert_int_equal(own.receipt, pushed);
        kith_buf_fini(&own.bytes);
        fixture_teardown(&all);
    }
}

/* --- waits --- */

typedef struct waiter {
    kith_meta_wait wait;
    fixture *all;
    uint32_t ended;
    uint64_t ended_ns, version;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
} waiter;

static void waiter_done(kith_meta_wait *wait, kith_status status, const kith_err *err) {
    waiter *own = (waiter *)wait;
    own->ended++;
    own->ended_ns = kith_env_now_ns(sim_env_kith(own->all->sim));
    own->version = version_here(own->all);
    own->status = status;
    snprintf(own->text, sizeof own->text, "%s", status == KITH_OK ? "" : err->text);
}

/* Until `ms` from now; 0: without a deadline. */
static void waiter_start(fixture *all, waiter *own, uint64_t version, uint64_t ms) {
    uint64_t now_ns = kith_env_now_ns(sim_env_kith(all->sim));
    *own = (waiter){.all = all,
        .wait = {.map_version = version, .deadline_ns = ms ? now_ns + ms * MS_NS : 0, .done = waiter_done}};
    kith_meta_wait_start(kith_meta_client_meta(all->client), &own->wait);
    assert_int_equal(own->ended, 0);
}

static void test_meta_client__a_wait_ends_when_the_map_comes(void **state) {
    (void)state;
    fixture all;
    waiter old, first, second;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    waiter_start(&all, &old, 5, 1000);
    run_ms(&all, 1);
    assert_int_equal(old.ended, 1);
    assert_int_equal(old.status, KITH_OK);
    waiter_start(&all, &first, 6, 10000);
    waiter_start(&all, &second, 7, 10000);
    run_ms(&all, 1000);
    assert_int_equal(first.ended + second.ended, 0);
    assert_pushed(&all, 6, 6);
    assert_int_equal(first.ended, 1);
    assert_int_equal(first.status, KITH_OK);
    assert_int_equal(first.version, 6);
    assert_int_equal(second.ended, 0);
    all.coordinators[0].version = 7; /* nobody pushes it: it is asked for */
    run_ms(&all, 200);
    assert_int_equal(second.ended, 1);
    assert_int_equal(second.version, 7);
    fixture_teardown(&all);
}

static void test_meta_client__a_wait_has_a_deadline(void **state) {
    (void)state;
    fixture all;
    waiter timely, late, patient;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    uint64_t start_ns = kith_env_now_ns(sim_env_kith(all.sim));
    waiter_start(&all, &timely, 6, 300);
    waiter_start(&all, &patient, 6, 0);
    run_ms(&all, 1000);
    assert_int_equal(timely.ended, 1);
    assert_int_equal(timely.status, KITH_DEADLINE);
    assert_in_range(timely.ended_ns - start_ns, 300 * MS_NS, 301 * MS_NS);
    assert_non_null(strstr(timely.text, "map version 5"));
    assert_int_equal(patient.ended, 0);
    waiter_start(&all, &late, 6, 1);
    run_ms(&all, 30000);
    assert_int_equal(late.status, KITH_DEADLINE);
    assert_int_equal(patient.ended, 1); /* nobody waits for ever */
    fixture_teardown(&all);
}

static void test_meta_client__a_wait_asks_the_next_coordinator_where_one_is_dead(void **state) {
    (void)state;
    fixture all;
    waiter own;
    fixture_setup(&all, DIR, COORDINATORS);
    coordinator_power(&all, 0, KITH_TRANSPORT_SIM_REFUSING);
    kith_meta_client_leader_seen(all.client, addresses[0]);
    all.coordinators[1].version = all.coordinators[2].version = 6;
    waiter_start(&all, &own, 6, 5000);
    run_ms(&all, 300);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_OK);
    coordinator_power(&all, 0, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

static void test_meta_client__a_wait_asks_again_where_a_coordinator_lags(void **state) {
    (void)state;
    fixture all;
    waiter own;
    fixture_setup(&all, DIR, COORDINATORS);
    kith_meta_client_leader_seen(all.client, addresses[2]);
    waiter_start(&all, &own, 6, 5000);
    run_ms(&all, 300);
    assert_int_equal(own.ended, 0);
    assert_in_range(all.coordinators[2].pulls, 2, 10); /* neither once nor without a pause */
    all.coordinators[2].version = 6;
    run_ms(&all, 100);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_OK);
    uint32_t pulls = all.coordinators[2].pulls;
    run_ms(&all, 1000);
    assert_int_equal(all.coordinators[2].pulls, pulls); /* nobody waits: nobody asks */
    fixture_teardown(&all);
}

static void test_meta_client__the_newest_is_what_a_pull_begun_since_says(void **state) {
    (void)state;
    fixture all;
    waiter first, second;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].silent = true; /* a pull is under way that asked before */
    waiter_start(&all, &first, KITH_META_NEWEST, 5000);
    run_ms(&all, 10);
    waiter_start(&all, &second, KITH_META_NEWEST, 5000);
    run_ms(&all, 10);
    assert_int_equal(all.coordinators[0].pulls, 1);
    all.coordinators[0].silent = false;
    all.coordinators[0].version = 2;
    map_answer(&all.coordinators[0], all.coordinators[0].held[--all.coordinators[0].held_count]);
    all.coordinators[0].version = 3;
    run_ms(&all, 20);
    assert_int_equal(first.ended, 1);
    assert_int_equal(first.version, 2);
    assert_int_equal(second.ended, 1);
    assert_int_equal(second.version, 3);
    assert_int_equal(all.coordinators[0].pulls, 2);
    /* And when there is nothing newer. */
    waiter_start(&all, &first, KITH_META_NEWEST, 5000);
    run_ms(&all, 20);
    assert_int_equal(first.ended, 1);
    assert_int_equal(first.status, KITH_OK);
    fixture_teardown(&all);
}

static void test_meta_client__the_newest_is_asked_of_all_before_it_is_given_up(void **state) {
    (void)state;
    fixture all;
    waiter own;
    fixture_setup(&all, DIR, COORDINATORS);
    coordinator_power(&all, 0, KITH_TRANSPORT_SIM_REFUSING);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_REFUSING);
    all.coordinators[2].version = 4;
    waiter_start(&all, &own, KITH_META_NEWEST, 5000);
    run_ms(&all, 50);
    assert_int_equal(own.status, KITH_OK);
    assert_int_equal(own.version, 4);
    coordinator_power(&all, 2, KITH_TRANSPORT_SIM_REFUSING);
    waiter_start(&all, &own, KITH_META_NEWEST, 5000);
    run_ms(&all, 50);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        coordinator_power(&all, i, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

/* --- coordinators that left --- */

/* The only one of the configuration left while this node was away: those of the kept map are asked. */
static void test_meta_client__coordinators_of_the_kept_map_are_asked_too(void **state) {
    (void)state;
    fixture all;
    waiter own;
    kith_err err;
    fixture_setup(&all, DIR, 1);
    assert_pushed(&all, 5, 5);
    node_stop(&all);
    coordinator_power(&all, 0, KITH_TRANSPORT_SIM_REFUSING);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_REFUSING);
    all.coordinators[2].version = 6;
    assert_ok(node_start(&all, 1, &err), &err);
    waiter_start(&all, &own, KITH_META_NEWEST, 5000);
    run_ms(&all, 50);
    assert_int_equal(own.status, KITH_OK);
    assert_int_equal(own.version, 6);
    coordinator_power(&all, 0, KITH_TRANSPORT_SIM_UP);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

/* --- proposals --- */

typedef struct proposer {
    kith_meta_proposal proposal;
    fixture *all;
    uint32_t ended;
    uint64_t ended_ns, version;
    kith_status status;
    bool changed;
    char text[KITH_ERR_BYTES_MAX];
} proposer;

static void proposer_done(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool is_changed, const kith_err *err) {
    proposer *own = (proposer *)proposal;
    (void)collection;
    own->ended++;
    own->ended_ns = kith_env_now_ns(sim_env_kith(own->all->sim));
    own->version = version_here(own->all);
    own->status = status;
    own->changed = is_changed;
    snprintf(own->text, sizeof own->text, "%s", status == KITH_OK ? "" : err->text);
}

static void proposer_begin(fixture *all, proposer *own, kith_codec_meta_kind kind, uint64_t ms) {
    static const kith_codec_meta_shard_change change = {
        .shard_id = 1, .shard = {.epoch = 3, .replica_count = 1, .in_sync = 1, .replicas = {1}}};
    *own = (proposer){.all = all,
        .proposal = {.command = {.kind = kind,
                         .node = {.id = {{7}}},
                         .changes = &change,
                         .change_count = kind == KITH_CODEC_META_CHANGE_SHARDS},
            .deadline_ns = kith_env_now_ns(sim_env_kith(all->sim)) + ms * MS_NS,
            .done = proposer_done}};
    kith_meta_propose(kith_meta_client_meta(all->client), &own->proposal);
    assert_int_equal(own->ended, 0);
}

static void proposer_start(fixture *all, proposer *own, uint64_t ms) {
    proposer_begin(all, own, KITH_CODEC_META_REMOVE_NODE, ms);
}

static void assert_done(const proposer *own) {
    assert_int_equal(own->ended, 1);
    if (own->status != KITH_OK) fail_msg("%s: %s", kith_status_name(own->status), own->text);
    assert_true(own->changed);
}

static uint32_t applied_everywhere(const fixture *all) {
    uint32_t applied = 0;
    for (uint32_t i = 0; i < COORDINATORS; i++)
        applied += all->coordinators[i].applied;
    return applied;
}

static void test_meta_client__a_proposal_follows_to_the_leader(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].leader = ""; /* nobody is known to it */
    all.coordinators[1].leader = addresses[2];
    proposer_start(&all, &own, 5000);
    run_ms(&all, 500);
    assert_done(&own);
    assert_int_equal(own.version, 2); /* the map shows it */
    assert_int_equal(applied_everywhere(&all), 1);
    /* And goes there at once the next time. */
    proposer_start(&all, &own, 5000);
    run_ms(&all, 20);
    assert_done(&own);
    assert_int_equal(all.coordinators[0].proposals, 1);
    assert_int_equal(all.coordinators[1].proposals, 1);
    fixture_teardown(&all);
}

/* Two that each take the other for the leader, until one leads. */
static void test_meta_client__a_proposal_outlasts_an_election(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].leader = addresses[1];
    all.coordinators[1].leader = addresses[0];
    all.coordinators[2].leader = addresses[0];
    proposer_start(&all, &own, 5000);
    run_ms(&all, 1000);
    assert_int_equal(own.ended, 0);
    assert_in_range(all.coordinators[0].proposals + all.coordinators[1].proposals, 2, 25);
    all.coordinators[1].leader = NULL;
    run_ms(&all, 200);
    assert_done(&own);
    fixture_teardown(&all);
}

static void test_meta_client__a_proposal_passes_over_those_who_cannot_take_it(void **state) {
    (void)state;
    const kith_status refusals[] = {
        KITH_BUSY, KITH_UNAVAILABLE, KITH_CLOSED, KITH_IO, KITH_UNIMPLEMENTED, KITH_UNAUTHENTICATED};
    for (uint32_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        fixture all;
        proposer own;
        fixture_setup(&all, DIR, COORDINATORS);
        all.coordinators[0].refusal = refusals[i];
        kith_meta_client_leader_seen(all.client, addresses[0]);
        proposer_start(&all, &own, 5000);
        run_ms(&all, 500);
        assert_done(&own);
        fixture_teardown(&all);
    }
}

static void test_meta_client__a_proposal_that_is_wrong_is_not_repeated(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].refusal = KITH_INVALID;
    proposer_start(&all, &own, 5000);
    run_ms(&all, 500);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_INVALID);
    assert_int_equal(all.coordinators[0].proposals, 1);
    assert_int_equal(all.coordinators[1].proposals, 0);
    fixture_teardown(&all);
}

/* The first attempt may be carried out yet: that the second was refused says nothing of it. */
static void test_meta_client__a_refusal_after_silence_is_no_certainty(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    kith_meta_client_leader_seen(all.client, addresses[1]);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_SILENT);
    all.coordinators[0].refusal = KITH_INVALID;
    proposer_start(&all, &own, 5000);
    run_ms(&all, 2000);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_UNKNOWN_OUTCOME);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

/* Nor is what the rules say of the epoch that a change of shards is to replace: it may have been replaced by this change. */
static void test_meta_client__a_change_of_shards_that_is_late_may_have_been_made(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].judgement = KITH_PRECONDITION;
    proposer_start(&all, &own, 5000);
    run_ms(&all, 500);
    assert_int_equal(own.status, KITH_PRECONDITION);
    kith_meta_client_leader_seen(all.client, addresses[1]);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_SILENT);
    proposer_begin(&all, &own, KITH_CODEC_META_CHANGE_SHARDS, 5000);
    run_ms(&all, 2000);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_UNKNOWN_OUTCOME);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

static void test_meta_client__a_silent_coordinator_costs_a_proposal_a_second(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    kith_meta_client_leader_seen(all.client, addresses[1]);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_SILENT);
    proposer_start(&all, &own, 5000);
    run_ms(&all, 900);
    assert_int_equal(own.ended, 0);
    run_ms(&all, 600);
    assert_done(&own);
    coordinator_power(&all, 1, KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

/* The answer is lost, not the proposal: it is repeated under the same id, and done once. */
static void test_meta_client__a_lost_answer_is_asked_for_again(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, 1);
    kith_transport_sim_cut(all.network, all.coordinators[0].host, all.host, true);
    proposer_start(&all, &own, 10000);
    run_ms(&all, 1200);
    assert_int_equal(own.ended, 0);
    assert_int_equal(all.coordinators[0].applied, 1);
    kith_transport_sim_heal(all.network);
    run_ms(&all, 2000);
    assert_done(&own);
    assert_true(all.coordinators[0].proposals >= 2);
    assert_int_equal(all.coordinators[0].applied, 1);
    fixture_teardown(&all);
}

static void test_meta_client__a_proposal_is_done_when_the_map_shows_it(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    all.coordinators[0].version_late = true; /* it is at 1, and answers that the map of version 2 shows it */
    proposer_start(&all, &own, 5000);
    run_ms(&all, 1000);
    assert_int_equal(all.coordinators[0].applied, 1);
    assert_int_equal(own.ended, 0);
    assert_pushed(&all, 2, 2);
    assert_done(&own);
    assert_int_equal(own.version, 2);
    /* Without a push, too. */
    all.coordinators[0].version = 2;
    proposer_start(&all, &own, 5000);
    run_ms(&all, 300);
    assert_int_equal(own.ended, 0);
    all.coordinators[0].version = 3;
    run_ms(&all, 100);
    assert_done(&own);
    fixture_teardown(&all);
}

static void test_meta_client__a_proposal_has_a_deadline(void **state) {
    (void)state;
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    uint64_t start_ns = kith_env_now_ns(sim_env_kith(all.sim));
    for (uint32_t i = 0; i < COORDINATORS; i++)
        coordinator_power(&all, i, KITH_TRANSPORT_SIM_REFUSING);
    proposer_start(&all, &own, 700);
    run_ms(&all, 1000);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "no coordinator leader answered in time"));
    assert_non_null(strstr(own.text, "same request id"));
    assert_true(own.ended_ns - start_ns <= 700 * MS_NS);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        coordinator_power(&all, i, KITH_TRANSPORT_SIM_UP);
    /* Done, but not shown in time. */
    for (uint32_t i = 0; i < COORDINATORS; i++)
        all.coordinators[i].version_late = true;
    proposer_start(&all, &own, 700);
    run_ms(&all, 1000);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "it is done"));
    fixture_teardown(&all);
}

/* --- the end --- */

static void test_meta_client__stop_ends_what_waits(void **state) {
    (void)state;
    for (uint32_t ms = 0; ms < 400; ms += 7) {
        fixture all;
        waiter version, newest;
        fixture_setup(&all, DIR, COORDINATORS);
        all.coordinators[0].silent = ms % 2;
        waiter_start(&all, &version, 6, 5000);
        if (ms % 3) waiter_start(&all, &newest, KITH_META_NEWEST, 5000);
        run_ms(&all, ms);
        node_stop(&all);
        assert_int_equal(version.ended, 1);
        assert_int_equal(version.status, KITH_CLOSED);
        if (ms % 3) assert_int_equal(newest.ended, 1);
        fixture_teardown(&all);
    }
}

/* What the coordinators are like: their answers take the proposal through each of its states. */
static void stop_proposal_at(uint32_t kind, uint64_t ms) {
    fixture all;
    proposer own;
    fixture_setup(&all, DIR, COORDINATORS);
    for (uint32_t i = 0; i < COORDINATORS; i++) {
        all.coordinators[i].silent = kind == 0;
        all.coordinators[i].leader = kind == 1 ? "" : NULL;
        all.coordinators[i].version_late = kind == 2;
    }
    proposer_start(&all, &own, 5000);
    run_ms(&all, ms);
    node_stop(&all);
    assert_int_equal(own.ended, 1);
    assert_int_equal(own.status, KITH_CLOSED);
    assert_non_null(strstr(own.text, "shutting down"));
    fixture_teardown(&all);
}

static void test_meta_client__stop_ends_proposals_in_every_state(void **state) {
    (void)state;
    for (uint32_t kind = 0; kind < 3; kind++)
        for (uint64_t ms = 0; ms < 300; ms += 13)
            stop_proposal_at(kind, ms);
}

/* What others told, and pushes, may be queued before the stop and behind it. */
static void test_meta_client__stop_waits_for_what_was_queued_before_it(void **state) {
    (void)state;
    for (uint32_t order = 0; order < 4; order++) {
        fixture all;
        push own;
        waiter late;
        fixture_setup(&all, DIR, COORDINATORS);
        all.coordinators[0].version = 4;
        push_start(&all, &own, 1, 5);
        if (order & 1) kith_meta_client_map_seen(all.client, addresses[0], 4);
        if (order & 2) run_ms(&all, 1);
        stop_begin(&all);
        kith_meta_client_map_seen(all.client, addresses[0], 9);
        kith_meta_client_leader_seen(all.client, addresses[0]);
        waiter_start(&all, &late, 9, 5000);
        stop_wait(&all);
        assert_int_equal(late.ended, 1);
        assert_int_equal(late.status, KITH_CLOSED);
        assert_int_equal(own.ended, 1);
        kith_buf_fini(&own.bytes);
        fixture_teardown(&all);
    }
}

static void test_meta_client__nothing_begins_after_the_stop(void **state) {
    (void)state;
    fixture all;
    proposer proposal;
    waiter wait;
    fixture_setup(&all, DIR, COORDINATORS);
    assert_pushed(&all, 5, 5);
    stop_begin(&all);
    run_ms(&all, 10);
    assert_int_equal(all.stops, 1);
    uint32_t pulls = all.coordinators[0].pulls;
    proposer_start(&all, &proposal, 5000);
    waiter_start(&all, &wait, KITH_META_NEWEST, 5000);
    kith_meta_client_map_seen(all.client, addresses[0], 9);
    push refused = push_wait(&all, 1, 6);
    assert_int_equal(refused.status, KITH_CLOSED);
    assert_int_equal(proposal.status, KITH_CLOSED);
    assert_int_equal(wait.status, KITH_CLOSED);
    assert_int_equal(all.coordinators[0].pulls, pulls);
    assert_int_equal(all.coordinators[0].proposals, 0);
    assert_int_equal(version_kept(&all), 5);
    assert_int_equal(all.stops, 1);
    stop_wait(&all);
    fixture_teardown(&all);
}

/* Everything at once, at moments that the seed chooses, over a network that loses and delays. */
static void history_run(uint64_t seed) {
    fixture all;
    kith_rng rng;
    waiter waits[8];
    proposer proposals[4];
    push pushes[8];
    fixture_setup(&all, DIR, COORDINATORS);
    kith_rng_init(&rng, seed);
    kith_transport_sim_link bad = {
        .delay_ns_max = 300 * MS_NS, .loss_ppm = 200000, .slow_ppm = 100000, .slow_ns_max = 2000 * MS_NS};
    kith_transport_sim_links_set(all.network, &bad);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t chosen = (uint32_t)kith_rng_below(&rng, COORDINATORS);
        all.coordinators[chosen].version += kith_rng_below(&rng, 3);
        all.coordinators[chosen].leader = kith_rng_below(&rng, 3) ? NULL : addresses[(chosen + 1) % 3];
        waiter_start(&all, &waits[i], i % 2 ? KITH_META_NEWEST : 1 + kith_rng_below(&rng, 12), 3000);
        if (i % 2) proposer_start(&all, &proposals[i / 2], 100 + kith_rng_below(&rng, 5000));
        push_start(&all, &pushes[i], 1, 1 + kith_rng_below(&rng, 12));
        kith_meta_client_map_seen(all.client, addresses[chosen], all.coordinators[chosen].version);
        run_ms(&all, kith_rng_below(&rng, 400));
    }
    run_ms(&all, kith_rng_below(&rng, 6000));
    node_stop(&all);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(waits[i].ended, 1);
        if (i < 4) assert_int_equal(proposals[i].ended, 1);
        assert_int_equal(pushes[i].ended, 1);
        kith_buf_fini(&pushes[i].bytes);
    }
    for (uint32_t i = 0; i < COORDINATORS; i++)
        assert_true(all.coordinators[i].applied <= 4);
    fixture_teardown(&all);
}

static void test_meta_client__everything_ends_once(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    for (uint64_t i = 0; i < test_scaled(100); i++)
        history_run(seed + i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meta_client__a_pushed_map_is_kept_then_shown),
        cmocka_unit_test(test_meta_client__a_map_never_goes_back),
        cmocka_unit_test(test_meta_client__another_clusters_map_is_refused),
        cmocka_unit_test(test_meta_client__what_is_no_map_is_refused),
        cmocka_unit_test(test_meta_client__a_crash_leaves_a_map_as_new_as_was_shown),
        cmocka_unit_test(test_meta_client__a_full_disk_keeps_the_map_of_before),
        cmocka_unit_test(test_meta_client__a_damaged_file_is_named),
        cmocka_unit_test(test_meta_client__a_newer_map_that_is_seen_is_pulled),
        cmocka_unit_test(test_meta_client__one_pull_at_a_time_but_another_address_is_asked_next),
        cmocka_unit_test(test_meta_client__a_push_and_a_pull_may_cross),
        cmocka_unit_test(test_meta_client__a_wait_ends_when_the_map_comes),
        cmocka_unit_test(test_meta_client__a_wait_has_a_deadline),
        cmocka_unit_test(test_meta_client__a_wait_asks_the_next_coordinator_where_one_is_dead),
        cmocka_unit_test(test_meta_client__a_wait_asks_again_where_a_coordinator_lags),
        cmocka_unit_test(test_meta_client__the_newest_is_what_a_pull_begun_since_says),
        cmocka_unit_test(test_meta_client__the_newest_is_asked_of_all_before_it_is_given_up),
        cmocka_unit_test(test_meta_client__coordinators_of_the_kept_map_are_asked_too),
        cmocka_unit_test(test_meta_client__a_proposal_follows_to_the_leader),
        cmocka_unit_test(test_meta_client__a_proposal_outlasts_an_election),
        cmocka_unit_test(test_meta_client__a_proposal_passes_over_those_who_cannot_take_it),
        cmocka_unit_test(test_meta_client__a_proposal_that_is_wrong_is_not_repeated),
        cmocka_unit_test(test_meta_client__a_refusal_after_silence_is_no_certainty),
        cmocka_unit_test(test_meta_client__a_change_of_shards_that_is_late_may_have_been_made),
        cmocka_unit_test(test_meta_client__a_silent_coordinator_costs_a_proposal_a_second),
        cmocka_unit_test(test_meta_client__a_lost_answer_is_asked_for_again),
        cmocka_unit_test(test_meta_client__a_proposal_is_done_when_the_map_shows_it),
        cmocka_unit_test(test_meta_client__a_proposal_has_a_deadline),
        cmocka_unit_test(test_meta_client__stop_ends_what_waits),
        cmocka_unit_test(test_meta_client__stop_ends_proposals_in_every_state),
        cmocka_unit_test(test_meta_client__stop_waits_for_what_was_queued_before_it),
        cmocka_unit_test(test_meta_client__nothing_begins_after_the_stop),
        cmocka_unit_test(test_meta_client__everything_ends_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
