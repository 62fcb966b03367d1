#include "host/meta/meta_map.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

uint32_t kith_meta_slot_shard_even(uint32_t slot, uint32_t shard_count) {
    /* The largest i with i * SLOTS / n <= slot. */
    return (uint32_t)((((uint64_t)slot + 1) * shard_count - 1) / KITH_SLOTS);
}

/* --- entries --- */

/* Its index, or KITH_META_NODE_NONE. */
static uint16_t node_index(const kith_meta_map *map, uint32_t number) {
    uint32_t low = 0, high = map->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (map->nodes[middle].number == number) return (uint16_t)middle;
        if (map->nodes[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return KITH_META_NODE_NONE;
}

static uint32_t replica_width_of(const kith_meta_collection *stored) {
    uint32_t width = 1;
    for (uint32_t i = 0; stored->shards && i < stored->collection.shard_count; i++) {
        if (stored->shards[i].replica_count > width) width = stored->shards[i].replica_count;
    }
    return width;
}

static uint64_t shard_epoch(const kith_meta_shard *shard) {
    return shard ? shard->epoch : 1;
}

/* The index of its replica `r` among the nodes. Who is not assigned yet is at the last node. */
static uint16_t replica_place(const kith_meta_map *map, const kith_meta_shard *shard, uint32_t r) {
    uint32_t replica_count = shard ? shard->replica_count : 0;
    if (replica_count == 0 && r == 0) return (uint16_t)(map->node_count - 1);
    return r < replica_count ? node_index(map, shard->replicas[r]) : KITH_META_NODE_NONE;
}

static void shard_place(
    const kith_meta_map *map, const kith_meta_shard *shard, uint32_t shard_index, kith_meta_entry *entry) {
    uint32_t width = entry->replica_width;
    uint16_t *replicas = entry->shard_replicas + (size_t)shard_index * width;
    for (uint32_t r = 0; r < width; r++)
        replicas[r] = replica_place(map, shard, r);
    entry->shard_in_sync[shard_index] = shard && shard->replica_count ? shard->in_sync : 1;
    kith_assert(replicas[0] < map->node_count);
    entry->shard_nodes[shard_index] = replicas[0];
    entry->shard_epochs[shard_index] = shard_epoch(shard);
}

static uint32_t replication_factor_of(const kith_collection *collection) {
    return collection->replication_factor ? collection->replication_factor : 1;
}

/* Without the slots. */
static kith_meta_entry *entry_create(const kith_meta_map *map, const kith_meta_collection *stored) {
    kith_meta_entry *entry = kith_alloc_zero(sizeof *entry);
    uint32_t shard_count = stored->collection.shard_count;
    atomic_init(&entry->references, 1);
    entry->collection = stored->collection;
    entry->collection.replication_factor = replication_factor_of(&stored->collection);
    entry->replica_width = replica_width_of(stored);
    entry->shard_nodes = kith_alloc_array(shard_count, sizeof *entry->shard_nodes);
    entry->shard_epochs = kith_alloc_array(shard_count, sizeof *entry->shard_epochs);
    entry->shard_replicas =
        kith_alloc_array((size_t)shard_count * entry->replica_width, sizeof *entry->shard_replicas);
    entry->shard_in_sync = kith_alloc_array(shard_count, sizeof *entry->shard_in_sync);
    for (uint32_t i = 0; i < shard_count; i++)
        shard_place(map, stored->shards ? &stored->shards[i] : NULL, i, entry);
    return entry;
}

/* Those of which kith_meta_slot_shard_even says `shard`: without a division a slot, for there are many. */
static void shard_slots_fill(uint16_t *slot_shards, uint32_t shard, uint32_t shard_count) {
    uint32_t slot = (uint32_t)((uint64_t)shard * KITH_SLOTS / shard_count);
    uint32_t end = (uint32_t)(((uint64_t)shard + 1) * KITH_SLOTS / shard_count);
    slot_shards[slot] = (uint16_t)shard;
    for (uint32_t filled = 1, count = end - slot; filled < count; filled *= 2) {
        uint32_t more = count - filled < filled ? count - filled : filled;
        memcpy(slot_shards + slot + filled, slot_shards + slot, more * sizeof *slot_shards);
    }
}

static void slots_deal(kith_meta_entry *entry) {
    uint32_t shard_count = entry->collection.shard_count;
    if (shard_count == 1) return;
    entry->slot_shards = kith_alloc_array(KITH_SLOTS, sizeof *entry->slot_shards);
    for (uint32_t shard = 0; shard < shard_count; shard++)
        shard_slots_fill(entry->slot_shards, shard, shard_count);
}

static void entry_release(kith_meta_entry *entry) {
    /* acq_rel: the last one out sees what every other holder did before it left. */
    if (atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) != 1) return;
    kith_free(entry->slot_shards);
    kith_free(entry->shard_nodes);
    kith_free(entry->shard_replicas);
    kith_free(entry->shard_in_sync);
    kith_free(entry->shard_epochs);
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

static bool shard_is_as_known(const kith_meta_map *map, const kith_meta_shard *shard, uint32_t shard_index,
    const kith_meta_entry *known) {
    const uint16_t *replicas = known->shard_replicas + (size_t)shard_index * known->replica_width;
    if (known->shard_epochs[shard_index] != shard_epoch(shard)) return false;
    for (uint32_t r = 0; r < known->replica_width; r++) {
        if (replicas[r] != replica_place(map, shard, r)) return false;
    }
    return true; /* who is in sync changes with the epoch only */
}

/* The same collection with its shards in the same places. Schemas do not change under an id. */
static bool entry_is_as_known(
    const kith_meta_map *map, const kith_meta_collection *stored, const kith_meta_entry *known) {
    const kith_collection *wanted = &stored->collection, *had = &known->collection;
    if (wanted->id != had->id || wanted->shard_count != had->shard_count ||
        replica_width_of(stored) != known->replica_width) {
        return false;
    }
    if (replication_factor_of(wanted) != had->replication_factor || wanted->min_in_sync != had->min_in_sync ||
        wanted->durability != had->durability) {
        return false;
    }
    for (uint32_t i = 0; i < wanted->shard_count; i++) {
        if (!shard_is_as_known(map, stored->shards ? &stored->shards[i] : NULL, i, known)) return false;
    }
    return true;
}

static kith_meta_entry *entry_share_or_create(
    const kith_meta_map *map, const kith_meta_collection *stored, const kith_meta_map *previous) {
    const char *name = stored->collection.name;
    const kith_meta_entry *known = previous ? kith_meta_map_find(previous, name, strlen(name)) : NULL;
    if (known && entry_is_as_known(map, stored, known)) {
        kith_meta_entry *shared = (kith_meta_entry *)known;
        atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
        return shared;
    }
    kith_meta_entry *entry = entry_create(map, stored);
    slots_deal(entry);
    return entry;
}

/* --- maps --- */

/* Takes `nodes`. */
static kith_meta_map *map_create(uint64_t version, kith_node *nodes, uint32_t node_count,
    const kith_meta_collection *const *collections, uint32_t count, const kith_meta_map *previous) {
    kith_meta_map *map = kith_alloc_zero(sizeof *map);
    atomic_init(&map->references, 1);
    map->version = version;
    map->node_count = node_count;
    map->nodes = nodes;
    map->entry_count = count;
    map->entries = kith_alloc_array(count ? count : 1, sizeof *map->entries);
    for (uint32_t i = 0; i < count; i++)
        map->entries[i] = entry_share_or_create(map, collections[i], previous);
    return map;
}

kith_meta_map *kith_meta_map_create(uint64_t version, const kith_node *nodes, uint32_t node_count,
    const kith_meta_collection *const *collections, uint32_t count, const kith_meta_map *previous) {
    kith_assert(node_count >= 1);
    kith_assert(node_count <= KITH_NODES_MAX);
    kith_node *copy = kith_alloc_array(node_count, sizeof *copy);
    memcpy(copy, nodes, node_count * sizeof *nodes);
    return map_create(version, copy, node_count, collections, count, previous);
}

static bool some_shard_is_unassigned(const kith_meta_state *state) {
    for (uint32_t i = 0; i < state->collection_count; i++) {
        if (state->collections[i]->shards[0].replica_count == 0) return true;
    }
    return false;
}

kith_meta_map *kith_meta_map_of(
    const kith_meta_state *state, const kith_node *self, const kith_meta_map *previous) {
    static const kith_node nobody = {.number = KITH_META_NUMBER_NOBODY, .name = "nobody", .down = true};
    uint32_t node_count = state->node_count;
    kith_node *nodes = kith_alloc_array((size_t)node_count + 1, sizeof *nodes);
    if (node_count > 0) memcpy(nodes, state->nodes, node_count * sizeof *nodes);
    if (node_count == 0 && self)
        nodes[node_count++] = *self;
    else if (node_count == 0 || some_shard_is_unassigned(state))
        nodes[node_count++] = nobody;
    return map_create(state->map_version, nodes, node_count,
        (const kith_meta_collection *const *)state->collections, state->collection_count, previous);
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
