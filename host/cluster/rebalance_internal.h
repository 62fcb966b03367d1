/* Private to host/cluster/rebalance*.c. */
#ifndef KITH_CLUSTER_REBALANCE_INTERNAL_H
#define KITH_CLUSTER_REBALANCE_INTERNAL_H

#include "host/cluster/placement.h"
#include "host/cluster/rebalance.h"

typedef struct rebalance_node {
    uint32_t number;
    bool up;
    bool leaves; /* what it has goes elsewhere: it drains, has no weight, or was down for too long */
    uint64_t down_since_ns;   /* as this leader saw it; not when it is up */
    uint64_t down_before_ns;  /* had been down for so long when this leader came, as clocks can tell */
    uint32_t receiving_count; /* shards that catch up on it */
    uint32_t sending_count;   /* new replicas that its primaries bring up */
} rebalance_node;

#define REBALANCE_STALLED_MAX 256u /* that are known at once; others come later */
typedef struct rebalance_stalled {
    uint64_t shard_id;
    uint32_t number; /* of the node */
} rebalance_stalled;

typedef struct rebalance_led {
    uint32_t primary;
    uint64_t since_ns; /* as this leader saw it, or began to look */
} rebalance_led;

struct kith_rebalance {
    kith_rebalance_options options;
    uint32_t node_count;
    rebalance_node *nodes; /* [KITH_NODES_MAX] those that hold shards, by number */
    bool planned;
    uint64_t planned_ns;
    uint64_t fingerprint; /* of what the plan was made from */
    uint32_t shard_count;
    kith_placement_replicas *wanted; /* [shard_count] in the order of the state; of no replicas: left alone */
    rebalance_led *led;              /* [shard_count] likewise */
    uint32_t stalled_count;
    rebalance_stalled stalled[REBALANCE_STALLED_MAX];
    uint64_t handover_due_ns;
    kith_rebalance_report report;
};

/* NULL: it is gone. */
rebalance_node *rebalance_node_find(const kith_rebalance *rebalance, uint32_t number);

/* --- rebalance_plan.c: what is wanted --- */

void rebalance_nodes_see(kith_rebalance *rebalance, const kith_meta_state *state, kith_rebalance_clock clock);
/* Plans anew where what the plan depends on has changed. */
void rebalance_plan(kith_rebalance *rebalance, const kith_meta_state *state, uint64_t now_ns);

/* --- rebalance_stall.c: replicas that are given up --- */

/* Drops one that comes no nearer to being in sync, where there is another node for it, which is wanted from now on. `wanted` is the shard's. */
bool rebalance_give_up(kith_rebalance *rebalance, const kith_meta_state *state, uint64_t shard_id,
    const kith_meta_shard *shard, kith_placement_replicas *wanted, kith_meta_shard *next_out);

/* --- rebalance_shard.c: the next change of one shard --- */

/* Bit i of a mask is replicas[i]. */
typedef struct rebalance_shard {
    const kith_meta_shard *is;
    const kith_placement_replicas *wanted;
    uint32_t factor, min_in_sync;
    uint8_t all, up, leaving, stays;
    uint8_t missing; /* bit i: wanted->nodes[i] is none of its replicas */
    bool ready;      /* all that are wanted are there, in sync, and up */
} rebalance_shard;

typedef enum rebalance_why {
    REBALANCE_DANGER = 0, /* it lacks a replica */
    REBALANCE_LEAVING = 1,
    REBALANCE_BALANCE = 2,
} rebalance_why;

rebalance_shard rebalance_shard_of(const kith_rebalance *rebalance, const kith_collection *collection,
    const kith_meta_shard *shard, const kith_placement_replicas *wanted);
/* Replicas too many are dropped. */
bool rebalance_drop(const rebalance_shard *shard, kith_meta_shard *next_out);
/* The primary is to go, or (`back`) another is wanted as primary. */
bool rebalance_hand_over(const rebalance_shard *shard, bool back, kith_meta_shard *next_out);
/* A shard that has the most replicas there can be, and lacks one, loses one, or first its primary's rank. */
bool rebalance_make_room(const rebalance_shard *shard, kith_meta_shard *next_out);
/* Whether, and why, a replica is to be added. */
bool rebalance_needs(const rebalance_shard *shard, rebalance_why *why_out);
kith_meta_shard rebalance_add(const rebalance_shard *shard, uint32_t number);

#endif
