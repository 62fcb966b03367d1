/* Which nodes should hold which shards: a pure decision.
 *
 * Promised, in this order:
 *   1. Replicas of a shard are on different nodes, and only on nodes that may hold them.
 *   2. No zone holds more replicas of a shard than it must: with r replicas over zones of n_z usable nodes the bound is the
 *      smallest u with sum min(n_z, u) >= r, and every zone holds at least min(n_z, u - 1). So with as many zones as
 *      replicas all are in different zones. Nodes without a zone count as one zone.
 *   3. A node holds its share of the replicas rounded down or up, then its share of the primaries. Shares are in
 *      proportion to weights, bounded by what rule 1, rule 2 and the node's capacity allow (weighted max-min fairness,
 *      found by water-filling: Bertsekas and Gallager, "Data Networks", 1992, §6.5.2).
 *   4. As few replicas as possible are moved.
 *
 * How. Rounding a share up goes first to nodes that hold more already. Every replica stays where it is unless a rule
 * forbids it; what is missing goes to the node that is emptiest for its target, ties by rendezvous hashing (Thaler and
 * Ravishankar, 1998), so that replicas of one node's shards are spread over all others. Then, while some node is above its
 * target and one below, the cheapest chain of moves from the one to the other is made: augmenting paths as in minimum cost
 * flow (Ahuja, Magnanti and Orlin, "Network Flows", 1993, §9.7), in which moving a replica that has no data yet is free.
 * What differs from a true minimum cost flow: moves back along an edge are not refunded. That costs 0.6 % more
 * moves than the exact minimum over small random cases (tests/unit/cluster/test_placement.c).
 *
 * Not decided here: the order and pace of moves, and who follows a primary that is down (whoever is in sync: replication
 * knows). Balance counts shards, not bytes.
 *
 * Threads: pure functions; deterministic, whatever the order of the nodes. 1,000 nodes x 10,000 shards x 3 replicas take
 * 0.1 s from nothing and 0.01 s when a node joins or leaves (tests/unit/cluster/test_placement.c, release, one core,
 * 2026-11-21). */
#ifndef KITH_CLUSTER_PLACEMENT_H
#define KITH_CLUSTER_PLACEMENT_H

#include "host/base/err.h"
#include "host/model/node.h"

typedef struct kith_placement_node {
    uint32_t number;  /* kith_node.number; distinct */
    const char *zone; /* borrowed; "": none */
    uint32_t weight;
    uint32_t capacity; /* replicas at most, whatever the rules about zones and balance say; 0: no bound */
    bool usable;       /* gets a share */
    /* Not usable, but what it has stays: it is down and may come back. Neither: it gives all away. */
    bool keeps;
} kith_placement_node;

/* Data nodes that are up, do not drain and have a weight are usable; those that are only down keep what they have. */
kith_placement_node kith_placement_node_of(const kith_node *node);

typedef struct kith_placement_shard {
    uint64_t id;                         /* for ties */
    uint32_t replica_count;              /* wanted: 1..KITH_REPLICAS_MAX */
    uint32_t current_count;              /* 0..KITH_REPLICAS_MAX */
    uint32_t current[KITH_REPLICAS_MAX]; /* node numbers, primary first; numbers of no node are gone */
} kith_placement_shard;

typedef struct kith_placement_replicas {
    uint32_t count;
    uint32_t nodes[KITH_REPLICAS_MAX]; /* node numbers, primary first */
} kith_placement_replicas;

/* What a node should hold, before rounding. Replicas that a node merely keeps are its share. */
typedef struct kith_placement_share {
    double replicas;
    double primaries;
} kith_placement_share;

/* Where the shards [shard_count] should be. PRECONDITION: a shard wants more replicas than there are nodes for it; NO_SPACE:
 * capacities are too small. shares_out [node_count], in the order of `nodes`, may be NULL. */
KITH_CHECK kith_status kith_placement_plan(const kith_placement_node *nodes, uint32_t node_count,
    const kith_placement_shard *shards, uint32_t shard_count, kith_placement_replicas *wanted_out,
    kith_placement_share *shares_out, kith_err *err);

/* What a node holds already, of all collections. */
typedef struct kith_placement_load {
    uint32_t replicas;
    uint32_t primaries;
} kith_placement_load;

typedef struct kith_placement_collection {
    uint64_t shard_id_first; /* for ties; any number that differs between collections will do */
    uint32_t shard_count;
    uint32_t replica_count;
} kith_placement_collection;

/* Where the shards of a new collection should be: spread evenly over all nodes in itself (a search asks all its shards, so
 * an empty node must not get them all); what is left over goes to the nodes with the least load for their weight.
 * loads [node_count] in the order of `nodes`. wanted_out [shard_count]. Statuses as above. */
KITH_CHECK kith_status kith_placement_new_collection(const kith_placement_node *nodes,
    const kith_placement_load *loads, uint32_t node_count, const kith_placement_collection *collection,
    kith_placement_replicas *wanted_out, kith_err *err);

#endif
