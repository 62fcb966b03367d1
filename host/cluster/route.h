/* Where a point is: id -> slot -> shard.
 *
 * Threads: pure functions. */
#ifndef KITH_CLUSTER_ROUTE_H
#define KITH_CLUSTER_ROUTE_H

#include "host/base/arena.h"
#include "host/meta/meta_map.h"
#include "host/model/id.h"

/* Index of the shard that owns the id's slot; its shard id is collection.shard_id_first + index. */
uint32_t kith_route_shard(const kith_meta_entry *entry, const kith_id *id);

/* The part of a batch that goes to one shard. */
typedef struct kith_route_group {
    uint32_t shard_index;
    uint32_t count;
    const uint32_t *rows; /* [count] positions in the batch, rising */
} kith_route_group;

/* Splits ids [count] by shard, groups by rising shard index; returns how many groups (0 for no ids). */
uint32_t kith_route_split(const kith_meta_entry *entry, const kith_id *ids, uint32_t count, kith_arena *arena,
    const kith_route_group **groups_out);

#endif
