/* The cluster map: which collections there are, which shard owns which slot, which node has which shard. Immutable: a
 * change makes a new map with a higher version, readers keep the one they took for as long as their request lives.
 *
 * Threads: reading from any thread; acquire and release count with atomics.
 * Ownership: maps and entries are counted; an entry is shared by all maps in which its collection did not change. */
#ifndef KITH_META_META_MAP_H
#define KITH_META_META_MAP_H

#include <stdatomic.h>

#include "host/meta/meta_state.h"
#include "host/model/node.h"
#include "host/model/schema.h"

#define KITH_META_NODE_NONE UINT16_MAX
/* Above all that are given: nodes stay sorted by number. */
#define KITH_META_NUMBER_NOBODY UINT32_MAX

typedef struct kith_meta_entry {
    _Atomic uint32_t references;
    kith_collection collection;
    uint16_t *slot_shards; /* [KITH_SLOTS] index of the owning shard; NULL when there is only one */
    uint16_t *shard_nodes; /* [shard_count] index of the primary's node in the map's nodes */
    uint32_t
        replica_width; /* the most replicas of one shard, at least 1; while they move more than replication_factor */
    /* [shard_count][replica_width] indexes into the map's nodes, primary first; KITH_META_NODE_NONE where there are fewer
     * replicas, or the node is not known */
    uint16_t *shard_replicas;
    uint8_t *shard_in_sync; /* [shard_count] bit i: replica i is, as in kith_meta_shard */
    uint64_t *shard_epochs; /* [shard_count] */
} kith_meta_entry;

typedef struct kith_meta_map {
    _Atomic uint32_t references;
    uint64_t version;
    uint32_t node_count;
    kith_node *nodes; /* by rising number */
    uint32_t entry_count;
    kith_meta_entry **entries; /* by name */
} kith_meta_map;

_Static_assert(KITH_SHARDS_MAX <= UINT16_MAX, "a shard's index fits a slot table's element");
_Static_assert(KITH_NODES_MAX + 1 < KITH_META_NODE_NONE, "and a node's one of shard_nodes");

/* What `state` says. Entries that say the same in `previous` (may be NULL) are shared with it. A shard that is assigned to
 * no node is on `self` while there are no nodes. Otherwise (or when `self` is NULL) the map ends with one node more, called
 * "nobody", which is down: the map is whole, and who asks for such a shard is told. */
kith_meta_map *kith_meta_map_of(
    const kith_meta_state *state, const kith_node *self, const kith_meta_map *previous);
/* Nodes [node_count >= 1] by rising number, collections [count] by name; those without assignment (shards may be NULL) are
 * on the last node. */
kith_meta_map *kith_meta_map_create(uint64_t version, const kith_node *nodes, uint32_t node_count,
    const kith_meta_collection *const *collections, uint32_t count, const kith_meta_map *previous);
kith_meta_map *kith_meta_map_acquire(kith_meta_map *map);
void kith_meta_map_release(kith_meta_map *map); /* accepts NULL */

/* NULL when there is none. Borrowed while the map is held. */
const kith_meta_entry *kith_meta_map_find(const kith_meta_map *map, const char *name, size_t name_bytes);

/* The shard (index 0..shard_count - 1) that owns `slot` while slots are dealt evenly: shard i owns the contiguous run
 * [i * SLOTS / n, (i + 1) * SLOTS / n). Pure. */
uint32_t kith_meta_slot_shard_even(uint32_t slot, uint32_t shard_count);

#endif
