/* A node's heartbeats: several times a timeout it tells every coordinator that it knows that it is there, and learns from
 * the replies who the coordinators are, who of them leads, and whether there is a newer map.
 *
 * One call to each coordinator is under way at once, with a deadline of a quarter of the timeout: a message that is lost
 * does not make the node silent. Addresses from the configuration are kept for ever; others come and go with the replies, of
 * which one of a later term, or of that term's leader, counts for more.
 *
 * Life: create -> (keep) -> start -> stop -> (done) -> destroy.
 *
 * Threads: the hooks and kith_heartbeat_leader on the executor (one thread); silent_ns from any; the rest from one at a
 * time.
 * Ownership: borrows what its options point to, except the addresses, until destroy. */
#ifndef KITH_CLUSTER_HEARTBEAT_H
#define KITH_CLUSTER_HEARTBEAT_H

#include "host/codec/codec_cluster.h"
#include "transport/transport.h"

typedef struct kith_heartbeat kith_heartbeat;

typedef struct kith_heartbeat_options {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport;
    const char *const *coordinators; /* [coordinator_count] addresses to begin with, copied */
    uint32_t coordinator_count;      /* 1..KITH_COORDINATORS_MAX */
    uint32_t interval_ms;
    uint32_t timeout_ms; /* the cluster's: silent for so long is down */
    /* What this node says of itself now; texts borrowed until it returns to the executor. */
    void (*fill)(void *ctx, kith_codec_heartbeat *heartbeat_out);
    /* Somebody leads a later term. (That nobody leads is never said: whoever asks the last leader finds out.) May be NULL. */
    void (*leader_seen)(void *ctx, const kith_node_id *id, const char *address);
    /* The coordinator there goes by a newer map than this node did when it asked. May be NULL. */
    void (*map_seen)(void *ctx, const char *address, uint64_t map_version);
    void *ctx;
} kith_heartbeat_options;

kith_heartbeat *kith_heartbeat_create(const kith_heartbeat_options *options);
/* Before start: a coordinator of the cluster as this node left it. Told, too, until a reply that knows who leads lists them
 * all, for those of the configuration may have left; beyond KITH_COORDINATORS_MAX of them without effect. */
void kith_heartbeat_keep(kith_heartbeat *heartbeat, const char *address);
/* The first heartbeats go out at once. */
void kith_heartbeat_start(kith_heartbeat *heartbeat);
/* Also before start. `done` once, on the executor, when nothing is under way any more. */
void kith_heartbeat_stop(kith_heartbeat *heartbeat, void (*done)(void *ctx), void *ctx);
/* Never started, or stopped and done. Accepts NULL. */
void kith_heartbeat_destroy(kith_heartbeat *heartbeat);

/* False: nobody is known to lead. The address is borrowed until the hook or task that asks returns. */
bool kith_heartbeat_leader(const kith_heartbeat *heartbeat, kith_node_id *id_out, const char **address_out);
/* Since a coordinator was last heard; since create if none was. */
uint64_t kith_heartbeat_silent_ns(const kith_heartbeat *heartbeat);

#endif
