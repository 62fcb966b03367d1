/* Coordinators' logs on simulated machines and a simulated network, for tests to crash, cut and fill. */
#ifndef KITH_TESTS_UNIT_META_RAFT_CLUSTER_H
#define KITH_TESTS_UNIT_META_RAFT_CLUSTER_H

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/meta/meta_log_raft.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define CLUSTER_NODES_MAX 5u
#define MS                1000000ULL

typedef struct cluster cluster;

typedef struct cluster_node {
    cluster *cluster;
    uint32_t number;
    sim_env *sim;
    kith_env *env;
    kith_executor *executor, *disk, *files;
    kith_transport *transport;
    kith_meta_fsm fsm;
    kith_meta_log *log;
    kith_meta_member member;
    uint32_t host;
    bool running, stopped;
    bool is_leader;
    bool ended;
    kith_status ended_status;
    uint64_t term;
    kith_meta_member leader; /* id none: unknown */
    uint64_t applied_index;
    uint32_t restored_count;
} cluster_node;

struct cluster {
    kith_transport_sim_network *network;
    uint32_t node_count;
    cluster_node nodes[CLUSTER_NODES_MAX];
    uint32_t snapshot_threshold, snapshot_trailing;
    /* Who led in which term: no two may. */
    uint64_t term_leaders[4096];
};

/* --- hooks --- */

static inline void cluster_applied(void *ctx, kith_meta_result *result) {
    (void)result;
    cluster_node *node = ctx;
    assert_true(node->fsm.state.applied_index > node->applied_index);
    node->applied_index = node->fsm.state.applied_index;
}

static inline void cluster_restored(void *ctx) {
    cluster_node *node = ctx;
    node->restored_count++;
    assert_true(node->fsm.state.applied_index >= node->applied_index);
    node->applied_index = node->fsm.state.applied_index;
}

static inline void cluster_leadership(
    void *ctx, bool is_leader, uint64_t term, const kith_meta_member *leader) {
    cluster_node *node = ctx;
    node->is_leader = is_leader;
    node->term = term;
    node->leader = leader ? *leader : (kith_meta_member){.address = {0}};
    if (!is_leader) return;
    assert_true(term < 4096);
    uint64_t *led = &node->cluster->term_leaders[term];
    assert_true(*led == 0 || *led == node->number + 1);
    *led = node->number + 1;
}

static inline void cluster_failed(void *ctx, kith_status status, const kith_err *err) {
    (void)err;
    cluster_node *node = ctx;
    node->ended = true;
    node->ended_status = status;
}

static inline void cluster_stopped(void *ctx) {
    ((cluster_node *)ctx)->stopped = true;
}

/* --- a node's life --- */

static inline void cluster_run_ms(cluster *all, uint64_t ms) {
    sim_env_run_for(all->nodes[0].sim, ms * MS);
}

static inline kith_status cluster_node_try_open(cluster_node *node, kith_err *err) {
    kith_err here;
    assert_ok(kith_executor_create(node->env, "meta", 1, &node->executor, &here), &here);
    assert_ok(kith_executor_create(node->env, "disk", 1, &node->disk, &here), &here);
    assert_ok(kith_executor_create(node->env, "files", 1, &node->files, &here), &here);
    kith_transport_sim_options transport = {.env = node->env,
        .network = node->cluster->network,
        .node = node->member.id,
        .address = node->member.address,
        .in_flight_max = 1000};
    assert_ok(kith_transport_sim_create(&transport, &node->transport, &here), &here);
    kith_meta_fsm_init(&node->fsm);
    kith_meta_log_raft_options options = {
        .env = node->env,
        .dir = "data/meta",
        .executor = node->executor,
        .disk_executor = node->disk,
        .snapshot_executor = node->files,
        .fsm = &node->fsm,
        .transport = node->transport,
        .self = node->member,
        .snapshot_threshold = node->cluster->snapshot_threshold,
        .snapshot_trailing = node->cluster->snapshot_trailing,
        .applied = cluster_applied,
        .restored = cluster_restored,
        .leadership = cluster_leadership,
        .failed = cluster_failed,
        .ctx = node,
    };
    node->is_leader = node->ended = node->stopped = false;
    node->leader = (kith_meta_member){.address = {0}};
    kith_status status = kith_meta_log_raft_open(&options, &node->log, err);
    node->running = status == KITH_OK;
    node->applied_index = node->fsm.state.applied_index;
    return status;
}

static inline void cluster_node_free(cluster_node *node) {
    kith_transport_destroy(node->transport);
    if (node->running) kith_meta_log_close(node->log);
    kith_executor_destroy(node->executor);
    kith_executor_destroy(node->disk);
    kith_executor_destroy(node->files);
    kith_meta_fsm_fini(&node->fsm);
    node->running = node->is_leader = false;
    node->log = NULL;
}

static inline void cluster_node_open(cluster_node *node) {
    kith_err err;
    assert_ok(cluster_node_try_open(node, &err), &err);
}

static inline void cluster_node_start(cluster_node *node) {
    kith_err err;
    assert_ok(kith_meta_log_raft_start(node->log, &err), &err);
}

static inline void cluster_node_restart(cluster_node *node) {
    cluster_node_open(node);
    cluster_node_start(node);
}

static inline void cluster_node_stop_log(cluster_node *node) {
    kith_meta_log_raft_stop(node->log, cluster_stopped, node);
    for (uint32_t i = 0; i < 4000 && !node->stopped; i++)
        cluster_run_ms(node->cluster, 10);
    assert_true(node->stopped);
}

static inline void cluster_node_stop(cluster_node *node) {
    cluster_node_stop_log(node);
    cluster_node_free(node);
}

/* The machine is off; its disk keeps what `mode` says. cluster_node_restart brings it back. */
static inline void cluster_node_crash(cluster_node *node, sim_crash_mode mode) {
    kith_transport_sim_power_set(node->cluster->network, node->host, KITH_TRANSPORT_SIM_SILENT);
    sim_env_crash(node->sim, mode);
    cluster_node_stop(node);
    sim_env_restart(node->sim);
    kith_transport_sim_power_set(node->cluster->network, node->host, KITH_TRANSPORT_SIM_UP);
}

/* --- a cluster's --- */

/* `bootstrapped` nodes are members; the others are open and wait to be joined. */
static inline cluster *cluster_create(
    uint64_t seed, uint32_t node_count, uint32_t bootstrapped, uint32_t threshold, uint32_t trailing) {
    cluster *all = kith_alloc_zero(sizeof *all);
    all->network = kith_transport_sim_network_create(seed);
    all->node_count = node_count;
    all->snapshot_threshold = threshold;
    all->snapshot_trailing = trailing;
    kith_meta_member members[CLUSTER_NODES_MAX];
    for (uint32_t i = 0; i < node_count; i++) {
        cluster_node *node = &all->nodes[i];
        node->cluster = all;
        node->number = i;
        node->sim = i ? sim_env_create_beside(all->nodes[0].sim, seed + i) : sim_env_create(seed);
        node->env = sim_env_kith(node->sim);
        memset(node->member.id.bytes, (int)(0x10 + i), sizeof node->member.id.bytes);
        snprintf(node->member.address, sizeof node->member.address, "c%u:7442", i);
        node->host = kith_transport_sim_host(all->network, node->member.address);
        members[i] = node->member;
    }
    for (uint32_t i = 0; i < node_count; i++) {
        kith_err err;
        cluster_node_open(&all->nodes[i]);
        assert_true(kith_meta_log_raft_is_new(all->nodes[i].log));
        if (i < bootstrapped)
            assert_ok(kith_meta_log_raft_bootstrap(all->nodes[i].log, members, bootstrapped, &err), &err);
        cluster_node_start(&all->nodes[i]);
    }
    return all;
}

static inline void cluster_destroy(cluster *all) {
    for (uint32_t i = 0; i < all->node_count; i++) {
        if (all->nodes[i].running) cluster_node_stop(&all->nodes[i]);
    }
    kith_transport_sim_network_destroy(all->network);
    for (uint32_t i = all->node_count; i-- > 0;)
        sim_env_destroy(all->nodes[i].sim);
    kith_free(all);
}

/* The leader, waited for; at most `ms`. */
static inline cluster_node *cluster_leader(cluster *all, uint64_t ms) {
    for (uint64_t waited = 0; waited <= ms; waited += 5) {
        for (uint32_t i = 0; i < all->node_count; i++) {
            if (all->nodes[i].running && all->nodes[i].is_leader) return &all->nodes[i];
        }
        cluster_run_ms(all, 5);
    }
    return NULL;
}

/* --- proposals --- */

typedef struct cluster_proposal {
    kith_meta_log_proposal base;
    kith_buf bytes;
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
} cluster_proposal;

static inline void cluster_proposed(
    kith_meta_log_proposal *base, kith_status status, const kith_meta_result *result, const kith_err *err) {
    cluster_proposal *proposal = (cluster_proposal *)(void *)base;
    assert_false(proposal->done);
    proposal->done = true;
    proposal->status = status;
    if (status == KITH_OK) {
        assert_non_null(result);
        assert_int_equal(result->status, KITH_OK);
    } else {
        snprintf(proposal->text, sizeof proposal->text, "%s", err->text);
    }
}

static inline void cluster_propose_start(cluster_node *node, const char *name, cluster_proposal *proposal) {
    memset(proposal, 0, sizeof *proposal);
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.shard_count = 1;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    kith_buf_init(&proposal->bytes);
    kith_codec_meta_command_encode(&command, &proposal->bytes);
    proposal->base.bytes = proposal->bytes.data;
    proposal->base.byte_count = proposal->bytes.bytes;
    proposal->base.done = cluster_proposed;
    kith_meta_log_propose(node->log, &proposal->base);
    assert_false(proposal->done);
}

static inline kith_status cluster_propose_wait(cluster_node *node, cluster_proposal *proposal, uint64_t ms) {
    for (uint64_t waited = 0; waited < ms && !proposal->done; waited++)
        cluster_run_ms(node->cluster, 1);
    assert_true(proposal->done);
    kith_buf_fini(&proposal->bytes);
    return proposal->status;
}

static inline kith_status cluster_propose(cluster_node *node, const char *name) {
    cluster_proposal proposal;
    cluster_propose_start(node, name, &proposal);
    return cluster_propose_wait(node, &proposal, 3000);
}

static inline bool cluster_node_has(const cluster_node *node, const char *name) {
    return kith_meta_state_find(&node->fsm.state, name) != NULL;
}

/* --- changes --- */

typedef struct cluster_answer {
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
} cluster_answer;

static inline void cluster_answered(void *ctx, kith_status status, const kith_err *err) {
    cluster_answer *answer = ctx;
    assert_false(answer->done);
    answer->done = true;
    answer->status = status;
    snprintf(answer->text, sizeof answer->text, "%s", status == KITH_OK ? "" : err->text);
}

static inline kith_status cluster_answer_wait(cluster *all, cluster_answer *answer, uint64_t ms) {
    assert_false(answer->done);
    for (uint64_t waited = 0; waited < ms && !answer->done; waited++)
        cluster_run_ms(all, 1);
    assert_true(answer->done);
    return answer->status;
}

#endif
