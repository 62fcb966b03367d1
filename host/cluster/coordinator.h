/* A coordinator, as other nodes see it: answers heartbeats, pulls of the map, proposals and questions about the cluster.
 * While it leads it also judges nodes (member.h), chooses where the shards of new collections go (placement.h), moves
 * replicas to where they should be (rebalance.h), and pushes each new map to every node that goes by an older one, some at
 * once, one at a time to each, the newest always, with a back-off where a node does not take it.
 *
 * Life: the log is opened -> create -> the log is started -> start -> hooks and requests -> stop, and the log's stop (open
 * proposals end with the log) -> done -> the transport is destroyed -> destroy.
 *
 * Threads: create and destroy on one thread while nothing runs; the rest, and the handlers, on the executor (one thread),
 * except start and stop, which any thread may call.
 * Ownership: borrows everything in its options until destroy. */
#ifndef KITH_CLUSTER_COORDINATOR_H
#define KITH_CLUSTER_COORDINATOR_H

#include "host/meta/meta_log_raft.h"
#include "transport/transport.h"

typedef struct kith_coordinator kith_coordinator;

/* What the log can do beyond kith_meta_log: the functions of meta_log_raft.h, or a test's. */
typedef struct kith_coordinator_raft {
    bool (*is_new)(const kith_meta_log *log);
    void (*status)(const kith_meta_log *log, kith_meta_log_raft_status_report *report_out);
    void (*join)(kith_meta_log *log, const kith_meta_member *member, kith_meta_log_raft_done done, void *ctx);
    void (*leave)(kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx);
    void (*transfer)(kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx);
} kith_coordinator_raft;

typedef struct kith_coordinator_options {
    kith_env *env;
    kith_executor *executor; /* the log's */
    kith_transport *transport;
    kith_meta_member self;
    uint32_t heartbeat_timeout_ms;
    uint64_t replica_replace_after_ms; /* rebalance.h */
    uint32_t rebalance_moves_max;      /* 0: nothing is moved */
    kith_meta_fsm *fsm;                /* what the log applies to; only read */
    kith_meta_log *log;
    kith_coordinator_raft raft;
} kith_coordinator_options;

/* Registers its handlers; until start they answer UNAVAILABLE, except to those who ask for its status. */
kith_coordinator *kith_coordinator_create(const kith_coordinator_options *options);
void kith_coordinator_start(kith_coordinator *coordinator);

/* To be called from the log's hooks of these names. */
void kith_coordinator_applied(kith_coordinator *coordinator, const kith_meta_result *result);
void kith_coordinator_restored(kith_coordinator *coordinator);
void kith_coordinator_leadership(
    kith_coordinator *coordinator, bool is_leader, uint64_t term, const kith_meta_member *leader);

/* Requests are answered CLOSED from now on. `done` once, on the executor, when nothing of it is under way. */
void kith_coordinator_stop(kith_coordinator *coordinator, void (*done)(void *ctx), void *ctx);
/* Accepts NULL. */
void kith_coordinator_destroy(kith_coordinator *coordinator);

#endif
