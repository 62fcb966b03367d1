/* Which node is asked for which shards: a replica for each, and one message a node, not a shard.
 *
 * Of the replicas that may answer, two are drawn at random, and the one that is expected to end sooner is asked
 * (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): askers who know only their own part of
 * a node's load do not all run to the same one. Within a request the draw prefers the same nodes for all shards, so that
 * it takes few messages; an idle node gets more than one shard as long as that is quicker than a message to another.
 *
 * Threads: pure functions. Ownership: a plan lives in the arena. */
#ifndef KITH_QUERY_QUERY_PLAN_H
#define KITH_QUERY_QUERY_PLAN_H

#include "host/base/arena.h"
#include "host/meta/meta_map.h"
#include "host/model/read.h"
#include "host/query/query_load.h"

#define KITH_QUERY_REPLICA_NONE UINT8_MAX

typedef struct kith_query_plan_want {
    uint32_t shard_index;
    uint8_t tried; /* bit i: the shard's replica i was asked already */
} kith_query_plan_want;

typedef struct kith_query_plan_options {
    const kith_meta_map *map;
    const kith_meta_entry *entry; /* of `map` */
    kith_read_consistency read;
    const kith_query_node_load *loads; /* [map->node_count]; NULL: all are alike */
    uint64_t seed;
    bool is_apart; /* a message a shard */
    const kith_query_plan_want *wants;
    uint32_t want_count;
} kith_query_plan_options;

typedef struct kith_query_plan_message {
    uint32_t node_index;   /* into the map's nodes */
    uint32_t want_count;   /* 1.. */
    const uint32_t *wants; /* [want_count] which of the wants, rising */
} kith_query_plan_message;

typedef struct kith_query_plan {
    uint32_t message_count;
    const kith_query_plan_message *messages; /* by rising node index, or by want when apart */
    const uint8_t
        *replicas; /* [want_count]; NONE: no replica is left that may answer, and it is in no message */
} kith_query_plan;

/* Each want in one message at most. */
void kith_query_plan_make(
    const kith_query_plan_options *options, kith_arena *arena, kith_query_plan *plan_out);

/* May the shard be asked for elsewhere than at the replicas tried? */
bool kith_query_plan_has_other(const kith_query_plan_options *options, const kith_query_plan_want *want);

#endif
