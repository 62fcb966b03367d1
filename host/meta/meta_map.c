#include "host/meta/meta_map.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

uint32_t kith_meta_slot_shard_even(uint32_t slot, uint32_t shard_count) {
    /* The largest i with i * SLOTS / n <= slot. */
    return (uint32_t)((((uint64_t)slot + 1) * shard_count - 1) / KITH_SLOTS);
}

static kith_meta_entry *entry_create(const kith_collection *collection) {
    kith_meta_entry *entry = kith_alloc_zero(sizeof *entry);
    atomic_init(&entry->references, 1);
    entry->collection = *collection;
    entry->shard_nodes = kith_alloc_zero(collection->shard_count * sizeof *entry->shard_nodes);
    if (collection->shard_count == 1) return entry;
    entry->slot_shards = kith_alloc_array(KITH_SLOTS, sizeof *entry->slot_shards);
    for (uint32_t slot = 0; slot < KITH_SLOTS; slot++) {
        entry->slot_shards[slot] = (uint16_t)kith_meta_slot_shard_even(slot, collection->shard_count);
    }
    return entry;
}

static void entry_release(kith_meta_entry *entry) {
    /* acq_rel: the last one out sees what every other holder did before it left. */
    if (atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) != 1) return;
    kith_free(entry->slot_shards);
    kith_free(entry->shard_nodes);
    kith_free(entry);
}

static int name_compare(const char *a, const char *b, size_t b_bytes) {
    size_t a_bytes = strlen(a);
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

const kith_meta_entry *kith_meta_map_find(const kith_meta_map *map, const char *name, size_t name_bytes) {
    uint32_t low = 0, high = map->entry_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = name_compare(map->entries[middle]->collection.name, name, name_bytes);
        if (order == 0) return map->entries[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static kith_meta_entry *entry_share_or_create(
    const kith_collection *collection, const kith_meta_map *previous) {
    const kith_meta_entry *known =
        previous ? kith_meta_map_find(previous, collection->name, strlen(collection->name)) : NULL;
    if (!known || known->collection.id != collection->id) return entry_create(collection);
    kith_meta_entry *shared = (kith_meta_entry *)known;
    atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    return shared;
}

kith_meta_map *kith_meta_map_create(uint64_t version, const kith_meta_node *nodes, uint32_t node_count,
    const kith_collection *const *collections, uint32_t count, const kith_meta_map *previous) {
    kith_assert(node_count >= 1);
    kith_assert(node_count <= KITH_NODES_MAX);
    kith_meta_map *map = kith_alloc_zero(sizeof *map);
    atomic_init(&map->references, 1);
    map->version = version;
    map->node_count = node_count;
    map->nodes = kith_alloc_array(node_count, sizeof *map->nodes);
    memcpy(map->nodes, nodes, node_count * sizeof *nodes);
    map->entry_count = count;
    map->entries = kith_alloc_array(count ? count : 1, sizeof *map->entries);
    for (uint32_t i = 0; i < count; i++)
        map->entries[i] = entry_share_or_create(collections[i], previous);
    return map;
}

kith_meta_map *kith_meta_map_acquire(kith_meta_map *map) {
    atomic_fetch_add_explicit(&map->references, 1, memory_order_relaxed);
    return map;
}

void kith_meta_map_release(kith_meta_map *map) {
    if (!map) return;
    if (atomic_fetch_sub_explicit(&map->references, 1, memory_order_acq_rel) != 1) return;
    for (uint32_t i = 0; i < map->entry_count; i++)
        entry_release(map->entries[i]);
    kith_free(map->entries);
    kith_free(map->nodes);
    kith_free(map);
}
