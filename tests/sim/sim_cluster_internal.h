/* What the files of one machine of a simulated cluster share: sim_cluster_node.c (its life), sim_cluster_coordinator.c and
 * sim_cluster_member.c (what runs on it). */
#ifndef KITH_TESTS_SIM_SIM_CLUSTER_INTERNAL_H
#define KITH_TESTS_SIM_SIM_CLUSTER_INTERNAL_H

#include "host/cluster/coordinator.h"
#include "host/cluster/heartbeat.h"
#include "host/meta/meta_client.h"
#include "host/meta/meta_log_raft.h"
#include "tests/sim/sim_cluster_node.h"

#define SIM_NODE_DIR        "/data/meta"
#define SIM_TIMEOUT_MS      800u /* silent for so long is down */
#define SIM_NODE_TEXT_BYTES 600u

struct sim_node {
    sim_node_options options;
    sim_env *machine;
    kith_env *env;
    kith_node_id id;
    uint32_t host;
    sim_node_state state;
    bool paused;
    bool removed;  /* it was told so: once it is off, it is gone */
    bool has_been; /* a coordinator that was bootstrapped or joined: its folder may never be empty again */
    bool crashed;  /* since it was last started */
    uint32_t stops_left; /* parts that have not stopped yet */
    uint32_t idle_polls;
    char violation[SIM_NODE_TEXT_BYTES];
    bool corrupt_allowed;
    char corruption[SIM_NODE_TEXT_BYTES];
    /* What runs, all NULL while it is off. */
    kith_transport *transport;
    kith_executor *executor, *disk_executor;
    uint64_t started_wall_ms;
    uint64_t shown_version; /* the judge has seen the map up to it */
    /* Of a coordinator. */
    kith_meta_fsm fsm;
    kith_meta_log *log;
    kith_coordinator *coordinator;
    bool leads;
    /* Of a member. */
    kith_meta_client *client;
    kith_heartbeat *heartbeat;
    struct sim_data_part *data; /* of a data node, for as long as the machine is there */
};

void sim_node_tell(const sim_node *node, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_node_blame(sim_node *node, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* It cannot go on for a reason that is no crash: a violation, unless a bit of its disk was flipped. */
void sim_node_failed(sim_node *node, const kith_err *err, const char *what);
/* `ctx` is a node: one of the parts that it waits for has stopped. */
void sim_node_part_stopped(void *ctx);
/* Shows the judge a map that the node goes by, unless it has seen this version of it. */
void sim_node_map_show(sim_node *node, const kith_meta_state *state);

/* create: opens what it finds on the disk, and starts. stop: counts in stops_left what is still to stop. destroy: also what
 * create has left half done. */
kith_status sim_coordinator_create(sim_node *node, kith_err *err);
void sim_coordinator_stop(sim_node *node);
void sim_coordinator_destroy(sim_node *node);
kith_status sim_member_create(sim_node *node, kith_err *err);
void sim_member_stop(sim_node *node);
void sim_member_destroy(sim_node *node);

#endif
