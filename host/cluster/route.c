#include "host/cluster/route.h"

uint32_t kith_route_shard(const kith_meta_entry *entry, const kith_id *id) {
    return entry->slot_shards ? entry->slot_shards[kith_id_slot(id)] : 0;
}

/* Everything goes to the only shard: no hashing. */
static uint32_t split_single(uint32_t count, kith_arena *arena, const kith_route_group **groups_out) {
    uint32_t *rows = kith_arena_array(arena, count, sizeof *rows);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = i;
    kith_route_group *group = kith_arena_alloc(arena, sizeof *group);
    *group = (kith_route_group){.shard_index = 0, .count = count, .rows = rows};
    *groups_out = group;
    return 1;
}

uint32_t kith_route_split(const kith_meta_entry *entry, const kith_id *ids, uint32_t count, kith_arena *arena,
    const kith_route_group **groups_out) {
    *groups_out = NULL;
    if (count == 0) return 0;
    if (!entry->slot_shards) return split_single(count, arena, groups_out);
    /* Counting sort by shard: stable, so rows rise within a group. */
    uint32_t shard_count = entry->collection.shard_count;
    uint16_t *shards = kith_arena_array(arena, count, sizeof *shards);
    uint32_t *ends = kith_arena_alloc_zero(arena, shard_count * sizeof *ends);
    for (uint32_t i = 0; i < count; i++) {
        shards[i] = (uint16_t)kith_route_shard(entry, &ids[i]);
        ends[shards[i]]++;
    }
    uint32_t group_count = 0, begin = 0;
    uint32_t *rows = kith_arena_array(arena, count, sizeof *rows);
    for (uint32_t shard = 0; shard < shard_count; shard++)
        group_count += ends[shard] > 0;
    kith_route_group *groups = kith_arena_array(arena, group_count, sizeof *groups);
    for (uint32_t shard = 0, group = 0; shard < shard_count; shard++) {
        uint32_t shard_rows = ends[shard];
        if (shard_rows) {
            groups[group++] =
                (kith_route_group){.shard_index = shard, .count = shard_rows, .rows = rows + begin};
        }
        ends[shard] = begin; /* from here on: where its next row goes */
        begin += shard_rows;
    }
    for (uint32_t i = 0; i < count; i++)
        rows[ends[shards[i]]++] = i;
    *groups_out = groups;
    return group_count;
}
