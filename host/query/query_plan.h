/* Which node is asked for which shards: one message a node, not a shard.
 *
 * Threads: pure functions. Ownership: a plan lives in the arena. */
#ifndef KITH_QUERY_QUERY_PLAN_H
#define KITH_QUERY_QUERY_PLAN_H

#include "host/base/arena.h"
#include "host/meta/meta_map.h"

typedef struct kith_query_plan_node {
    uint32_t node_index; /* into the map's nodes */
    uint32_t shard_count;
    const uint64_t *shard_ids; /* [shard_count], rising */
} kith_query_plan_node;

typedef struct kith_query_plan {
    uint32_t node_count;
    const kith_query_plan_node *nodes; /* by rising node index; each has at least one shard */
} kith_query_plan;

/* Every shard of the collection, each exactly once. */
void kith_query_plan_make(
    const kith_meta_map *map, const kith_meta_entry *entry, kith_arena *arena, kith_query_plan *plan_out);

#endif
