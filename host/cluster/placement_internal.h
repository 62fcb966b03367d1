/* State of one placement decision, shared by placement*.c. */
#ifndef KITH_CLUSTER_PLACEMENT_INTERNAL_H
#define KITH_CLUSTER_PLACEMENT_INTERNAL_H

#include "host/base/arena.h"
#include "host/cluster/placement.h"

#define PLACEMENT_NONE       UINT32_MAX
#define PLACEMENT_ROUNDS_MAX 8u

typedef struct placement_node {
    kith_placement_node given;
    kith_placement_load load_other; /* of collections that are not decided here */
    uint32_t given_index;
    uint32_t zone;
    uint32_t load; /* replicas of the shards decided here */
    uint32_t target;
    uint32_t primaries;
    uint32_t primary_target;
    uint32_t fresh_count; /* replicas without data */
    uint64_t tie;
    uint32_t replica_first; /* its replicas are a list; PLACEMENT_NONE ends it */
    double share;
    double primary_share;
} placement_node;

typedef struct placement_zone {
    uint32_t usable_count;
    uint32_t node_first; /* in plan.zone_nodes */
    uint32_t load;       /* on usable nodes */
    double low, high;    /* what the rules about zones allow its usable nodes together */
    double share;
    uint32_t target;
} placement_zone;

/* Replica `slot` of shard `shard` is replicas[shard * KITH_REPLICAS_MAX + slot]. */
typedef struct placement_replica {
    uint32_t node; /* index; PLACEMENT_NONE: not placed */
    uint32_t next, previous;
    bool has_data; /* the node holds the shard already */
} placement_replica;

typedef struct placement_plan {
    kith_arena arena;
    placement_node *nodes; /* [node_count] by number */
    uint32_t node_count;
    uint32_t usable_count;
    placement_zone *zones; /* [zone_count] */
    uint32_t zone_count;
    uint32_t *zone_nodes; /* [node_count] indices, grouped by zone */
    const kith_placement_shard *shards;
    uint32_t shard_count;
    placement_replica *replicas;
    uint8_t *primary_slots;                      /* [shard_count] */
    uint32_t zone_bounds[KITH_REPLICAS_MAX + 1]; /* u of placement.h by replica count */
    bool is_new;                                 /* a new collection: remainders go by load_other */
} placement_plan;

static inline placement_replica *placement_replicas_of(placement_plan *plan, uint32_t shard) {
    return &plan->replicas[(size_t)shard * KITH_REPLICAS_MAX];
}

/* --- placement_state.c: replicas come and go, what a zone may hold --- */

void placement_replica_put(placement_plan *plan, uint32_t replica, uint32_t node);
void placement_replica_remove(placement_plan *plan, uint32_t replica);
uint32_t placement_shard_count(const placement_plan *plan, uint32_t shard);
bool placement_shard_is_on(const placement_plan *plan, uint32_t shard, uint32_t node);
uint32_t placement_shard_zone_count(const placement_plan *plan, uint32_t shard, uint32_t zone);
/* Of a shard with that many replicas, a zone holds at least so many, and zone_bounds at most. */
uint32_t placement_zone_low(const placement_plan *plan, uint32_t replica_count, uint32_t zone);
/* Replicas that the shard lacks in zones that have fewer than their least. */
uint32_t placement_shard_shortfall(const placement_plan *plan, uint32_t shard);
/* Ties: hashes of a node and of a shard, and the two together (rendezvous: the highest wins). */
uint64_t placement_hash(uint64_t number);
static inline uint64_t placement_tie(const placement_node *node, uint64_t shard_hash) {
    uint64_t mixed =
        (node->tie ^ shard_hash) * 0x9E3779B97F4A7C15ULL; /* the golden ratio: Knuth, TAOCP 6.4 */
    return mixed ^ (mixed >> 32);
}

/* --- placement_share.c --- */

/* Shares of zones and nodes, once the replicas that stay on nodes that are not usable are placed. */
void placement_share_replicas(placement_plan *plan);
/* Rounds them; nodes that hold more already are rounded up first. */
void placement_target_replicas(placement_plan *plan);
/* Shares and targets of primaries, once all replicas are placed. `movable` primaries are dealt. */
void placement_target_primaries(placement_plan *plan, uint32_t movable);

/* --- the steps --- */

void placement_keep(placement_plan *plan);        /* what may stay where it is on nodes that merely keep */
void placement_keep_usable(placement_plan *plan); /* and on usable ones */
KITH_CHECK kith_status placement_fill(placement_plan *plan, kith_err *err); /* places what is missing */
bool placement_balance(placement_plan *plan);   /* moves replicas until loads are targets */
void placement_primaries(placement_plan *plan); /* chooses primaries */

#endif
