/* The replicas on a data node: for each shard that the map gives it, the step machine (replica_step.h) with its hands: log and state
 * through host/shard, messages through the transport, changes of the in-sync set through the metadata.
 *
 * Flow of a write on the primary: kith_shard_write_start -> gate: admit -> own log and, at the same time, KITH_AM_APPEND to the
 * others (replica_send.c) -> theirs durable, answered -> committed -> kith_shard_commit -> applied -> answered.
 * On a follower: replica_receive.c -> kith_shard_append -> durable -> answered; the next append, or an empty one at once, says what is
 * committed. A follower that lacks what the log files have is brought up by appends (replica_send.c reads them back), one that lacks
 * more by a snapshot (replica_fetch.c).
 *
 * Threads: everything on the shards' owner executor, except where it says so. Reading entries and snapshots from files happens on the
 * background executor.
 * Ownership: borrows everything in its options until destroy. */
#ifndef KITH_REPLICA_REPLICA_H
#define KITH_REPLICA_REPLICA_H

#include "host/meta/meta.h"
#include "host/metrics/metrics.h"
#include "host/replica/replica_step.h"
#include "host/shard/shard_set.h"
#include "transport/transport.h"

typedef struct kith_replica_set kith_replica_set;

typedef struct kith_replica_set_options {
    kith_env *env;
    kith_transport *transport; /* the handlers of APPEND, FETCH and DIGEST are registered on it */
    kith_shard_node *node;
    kith_shard_set *shards;
    kith_executor *life; /* where shards are opened and dropped: one thread, which may wait for the disk */
    kith_meta *meta;     /* proposals; and the map is pulled when someone knows a newer one */
    kith_node_id self;
    const char *dir;                    /* the node's: has the list of replica_unsynced.c; copied */
    uint64_t lease_ns;                  /* a quarter of the heartbeat timeout */
    uint64_t append_inflight_bytes_max; /* of one shard to one replica */
    uint32_t piece_bytes;               /* of a copy that is fetched; 0: 1 MiB */
    uint64_t digest_interval_ns;        /* between two comparisons of one shard with its replicas; 0: none */
    kith_metrics *metrics;              /* may be NULL */
} kith_replica_set_options;

kith_replica_set *kith_replica_set_create(const kith_replica_set_options *options);

/* The gate of a shard that is being opened as replicated: between its open and its start (kith_shard_set_on_open). Any thread that opens shards. Nobody
 * leads in epoch 1, in which shards are made: it is that of entries without a gate. */
void kith_replica_set_attach(kith_replica_set *set, uint64_t shard_id, kith_shard *shard);
/* The shard is being replaced by a copy: it is not open, and nobody else is to open it. Not of one that a map has taken away since: where it
 * is given again, it is opened once it was given up, until when that is refused (kith_shard_set_open). On `life`. */
bool kith_replica_set_installs(kith_replica_set *set, uint64_t shard_id);
/* What the newest map says of all shards of this node; shards that it has no more are let go (before they are dropped). Any thread, one at a
 * time; copies what it needs. */
void kith_replica_set_map(kith_replica_set *set, const kith_meta_state *state);

/* May this replica answer a read, or take a write, and when? One that is about to take over is waited for. Embedded by the asker. */
typedef struct kith_replica_wait kith_replica_wait;
struct kith_replica_wait {
    uint64_t shard_id;
    bool is_write; /* OK: it leads; the shard's gate has the last word */
    kith_replica_read read;
    uint64_t token_sequence;
    uint64_t deadline_ns;
    /* Exactly once, perhaps before the start returns. OK: a view taken from now on has what `read` promises. STALE_MAP, UNAVAILABLE: another replica
     * may. DEADLINE: it was not applied in time. On the owner, or inside start. */
    void (*done)(kith_replica_wait *wait, kith_status status, const kith_err *err);
    void *impl[12];
};
/* Any thread. Where the answer is known without the owner (nothing waits to be applied and the lease is good) `done` comes inside. */
void kith_replica_wait_start(kith_replica_set *set, kith_replica_wait *wait);

/* Status of one replica, from the last time it changed. Any thread; false: not here. */
bool kith_replica_set_status(kith_replica_set *set, uint64_t shard_id, kith_replica_status *status_out);

/* Of all shards that this node leads. Any thread. */
typedef struct kith_replica_lag {
    uint32_t led, out_of_sync; /* shards; copies of them */
    uint64_t longest_ns;       /* for which one of the copies has lacked a write */
    uint64_t bytes;            /* that all lack together, about */
} kith_replica_lag;
void kith_replica_set_lag(kith_replica_set *set, kith_replica_lag *lag_out);

/* Replicas here that are not in sync though their primary is heard, and have come no nearer to it for `least_ns`; at most
 * `most` of them. Any thread. */
typedef struct kith_replica_stalled {
    uint64_t shard_id, for_ns;
} kith_replica_stalled;
uint32_t kith_replica_set_stalled(
    kith_replica_set *set, uint64_t least_ns, uint32_t most, kith_replica_stalled *stalled_out);

/* Planned: every shard that this node leads goes to another member of its ISR; `done` on the owner when none is left that could, or the deadline
 * has passed. Any thread. */
void kith_replica_set_hand_over(
    kith_replica_set *set, uint64_t deadline_ns, void (*done)(void *ctx, uint32_t left), void *ctx);

/* No new work; `done` on the owner when no call is under way. Before the shards are closed. */
void kith_replica_set_stop(kith_replica_set *set, void (*done)(void *ctx), void *ctx);
/* After stop, and after the transport stopped calling handlers. Accepts NULL. */
void kith_replica_set_destroy(kith_replica_set *set);

#endif
