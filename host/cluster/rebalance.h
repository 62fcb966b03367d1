/* What the leader of the coordinators changes so that shards come to be where they should: a pure decision.
 *
 * Where they should be is placement.h's; how they get there without danger is decided here. A replica moves in steps, each
 * one committed change of its shard: the new replica is added, not in sync; the primary brings it up and takes it into
 * those in sync; if the replica that goes is primary, one of those that stay becomes it; then the old one is dropped. So a
 * leader that comes anew goes on from what the metadata say.
 *
 * Promised:
 *   1. A replica in sync is dropped only where replication_factor others are in sync and up. The only exception: a shard
 *      that has KITH_REPLICAS_MAX replicas must lose one before it can gain one; never below min_in_sync. The primary is
 *      never dropped; only one that is in sync and up becomes it.
 *   2. At most moves_max shards catch up on a node at once, replicas that return included; at most so many new replicas are
 *      brought up from a node. Where a node is behind without end, its places are taken: nothing more is put on it.
 *   3. What is wanted changes only when nodes come, go, drain, or are down for replace_after_ns, and when collections do: it is decided
 *      once and carried out, so nothing moves for ever. A replica on a node that is down is waited for until then. A leader that
 *      comes anew goes on from when the node went down, which the metadata say by the clock of who decided it; but it waits for
 *      settle_ns at least, for the clocks may differ, and after a common outage nodes come back one after the other.
 *   4. Order: shards that lack replicas, the fewest in sync first; then nodes that are to be emptied; then, when nothing has
 *      changed for settle_ns, balance. Neither of the last two touches a shard that is not wholly in sync.
 *   5. Primaries go back to where placement wants them one at a time, handover_interval_ns apart: each costs its shard's
 *      writers a short pause. What a new primary waits for, its replicas, is not changed for as long.
 *   6. A replica that is not in sync, and of which its node says that it comes no nearer to it (kith_rebalance_stalled), is dropped where
 *      another node can have it instead: that one is wanted until the plan changes.
 *   7. A shard that wants more replicas than there are nodes for them keeps all it has.
 *
 * Threads: one at a time. Ownership: create/destroy. A step over 8,192 shards of 3 replicas on 100 nodes takes 12 ms when it
 * plans and 4 ms when it does not (tests/unit/cluster/test_rebalance.c, debug build, one shared core, 2026-11-21). */
#ifndef KITH_CLUSTER_REBALANCE_H
#define KITH_CLUSTER_REBALANCE_H

#include "host/meta/meta_state.h"

typedef struct kith_rebalance kith_rebalance;

typedef struct kith_rebalance_options {
    uint64_t replace_after_ns;
    uint64_t settle_ns;
    uint64_t handover_interval_ns; /* and so long a new primary is left alone */
    uint32_t moves_max;            /* 0: nothing is ever changed */
} kith_rebalance_options;

#define KITH_REBALANCE_CHANGES_MAX 256u /* of one step */
_Static_assert(KITH_REBALANCE_CHANGES_MAX <= KITH_META_SHARD_CHANGES_MAX, "one command carries a step");

typedef struct kith_rebalance_changes {
    uint32_t count;
    uint32_t add_count, drop_count, handover_count; /* of replicas, replicas, shards */
    uint32_t given_up_count;                        /* of those that are dropped */
    kith_codec_meta_shard_change changes[KITH_REBALANCE_CHANGES_MAX];
} kith_rebalance_changes;

/* What is left to do, as the last step saw it. */
typedef struct kith_rebalance_report {
    uint32_t behind_count;  /* replicas that are not in sync */
    uint32_t moving_count;  /* replicas above the factor: one goes when those that are wanted are in sync */
    uint32_t waiting_count; /* replicas that are wanted and not there yet */
    uint32_t short_count;   /* shards for whose replicas there are not nodes enough */
} kith_rebalance_report;

kith_rebalance *kith_rebalance_create(const kith_rebalance_options *options);
void kith_rebalance_destroy(kith_rebalance *rebalance); /* accepts NULL */
/* Forgets what it saw: another led since. */
void kith_rebalance_reset(kith_rebalance *rebalance);
/* The replica of the shard on that node has come no nearer to being in sync for too long; for the next steps, until it is forgotten. */
void kith_rebalance_stalled(kith_rebalance *rebalance, uint64_t shard_id, uint32_t number);
void kith_rebalance_stalled_forget(kith_rebalance *rebalance);

typedef struct kith_rebalance_clock {
    uint64_t now_ns;
    uint64_t wall_ms; /* only compared with kith_node.down_wall_ms */
} kith_rebalance_clock;
/* What to propose next, as one command; not again before its outcome is in `state`. Each change stands for itself: one that
 * is refused because the shard has changed is decided anew. */
void kith_rebalance_step(kith_rebalance *rebalance, const kith_meta_state *state, kith_rebalance_clock clock,
    kith_rebalance_changes *changes_out);
void kith_rebalance_tell(const kith_rebalance *rebalance, kith_rebalance_report *report_out);

#endif
