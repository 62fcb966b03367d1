#include "host/query/query_plan.h"

#include "host/base/assert.h"

void kith_query_plan_make(
    const kith_meta_map *map, const kith_meta_entry *entry, kith_arena *arena, kith_query_plan *plan_out) {
    uint32_t shard_count = entry->collection.shard_count;
    uint64_t *shard_ids = kith_arena_array(arena, shard_count, sizeof *shard_ids);
    uint32_t *ends = kith_arena_alloc_zero(arena, map->node_count * sizeof *ends);
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        kith_assert(entry->shard_nodes[shard] < map->node_count);
        ends[entry->shard_nodes[shard]]++;
    }
    uint32_t used = 0, begin = 0;
    for (uint32_t node = 0; node < map->node_count; node++)
        used += ends[node] > 0;
    kith_query_plan_node *nodes = kith_arena_array(arena, used, sizeof *nodes);
    for (uint32_t node = 0, at = 0; node < map->node_count; node++) {
        uint32_t node_shards = ends[node];
        if (node_shards) {
            nodes[at++] = (kith_query_plan_node){
                .node_index = node, .shard_count = node_shards, .shard_ids = shard_ids + begin};
        }
        ends[node] = begin; /* from here on: where its next shard goes */
        begin += node_shards;
    }
    for (uint32_t shard = 0; shard < shard_count; shard++) {
        shard_ids[ends[entry->shard_nodes[shard]]++] = entry->collection.shard_id_first + shard;
    }
    *plan_out = (kith_query_plan){.node_count = used, .nodes = nodes};
}
