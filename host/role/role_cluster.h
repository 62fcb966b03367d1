/* What every node of a cluster has, whatever its role: an identity, the node transport, what it knows of the metadata, and
 * heartbeats.
 *
 * Threads: open, start, stop and close on one thread, which they may keep waiting.
 * Ownership: borrows env, configuration and executor. */
#ifndef KITH_ROLE_ROLE_CLUSTER_H
#define KITH_ROLE_ROLE_CLUSTER_H

#include "host/cluster/heartbeat.h"
#include "host/config/config.h"
#include "host/meta/meta_client.h"
#include "transport/transport.h"

typedef struct kith_role_cluster {
    kith_env *env;
    const kith_config *config;
    kith_executor *executor; /* meta's: one thread, which may wait for the disk */
    kith_node self;
    uint64_t started_wall_ms;
    kith_transport *transport;
    kith_meta_client *client;
    kith_heartbeat *heartbeat;
    char *coordinator_text; /* what `coordinators` points into */
    const char **coordinators;
    uint32_t coordinator_count;
    bool told_silent; /* on `executor`: the log knows that no coordinator is heard */
    void (*fill)(void *ctx, kith_codec_heartbeat *heartbeat);
    void *ctx;
} kith_role_cluster;

typedef struct kith_role_cluster_options {
    kith_env *env;
    const kith_config *config;
    kith_executor *executor;
    const char *data_dir; /* of the node's id; must be locked */
    const char *map_dir;  /* where the last map is kept; NULL: it is not */
    kith_node_role role;
    /* See kith_meta_client_options. */
    void (*changed)(void *ctx, const kith_meta_state *state, bool from_file);
    /* What this node says of its load; may be NULL. On `executor`. */
    void (*fill)(void *ctx, kith_codec_heartbeat *heartbeat);
    void *ctx;
} kith_role_cluster_options;

/* Reads the id, listens on the node port, loads the last map. INVALID names the key that is missing or wrong. */
KITH_CHECK kith_status kith_role_cluster_open(
    const kith_role_cluster_options *options, kith_role_cluster *cluster_out, kith_err *err);
/* Begins the heartbeats: the node is ready for what a map may give it. Ports of 0: it does not listen there. */
void kith_role_cluster_start(kith_role_cluster *cluster, uint32_t grpc_port, uint32_t http_port);
uint32_t kith_role_cluster_port(const kith_role_cluster *cluster);
/* OK once there is a map that has this node; else why. OK with a text in `err`: it serves, but nobody has been heard for so
 * long. Any thread. */
kith_status kith_role_cluster_health(const kith_role_cluster *cluster, kith_err *err);
/* Heartbeats end and what waits for metadata is answered; waits for both. Also after a failed open. */
void kith_role_cluster_stop(kith_role_cluster *cluster);
/* Ends the transport: after it nothing here runs for others. */
void kith_role_cluster_disconnect(kith_role_cluster *cluster);
/* When the executor has ended. Also after a failed open. */
void kith_role_cluster_close(kith_role_cluster *cluster);

#endif
