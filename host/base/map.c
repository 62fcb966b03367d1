/* A slot is half a cache line and holds keys of up to 19 bytes itself (a numeric id is 9 bytes, a UUID 17),
 * so that a lookup of those touches one or two lines; longer keys are blocks of their own. A slot keeps 32
 * bits of its key's hash: home position, growth and the first comparison need no look at the key. At most 3/4
 * of the slots are used. */
#include "host/base/map.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/hash.h"

#define MAP_INLINE_BYTES_MAX 19u
#define MAP_SLOTS_MIN        16u
#define MAP_SLOTS_MAX        (1ULL << 32) /* home positions are 32-bit hashes */
#define MAP_TAG_FREE         0u
#define MAP_TAG_LONG         255u

typedef struct map_slot {
    uint64_t value;
    uint32_t hash;
    uint8_t tag; /* MAP_TAG_FREE, MAP_TAG_LONG, else 1 + bytes of the key here */
    uint8_t key[MAP_INLINE_BYTES_MAX];
} map_slot;

_Static_assert(sizeof(map_slot) == 32, "two slots a cache line");

/* What `key` holds for MAP_TAG_LONG. */
typedef struct long_key {
    uint8_t *data;
    size_t bytes;
} long_key;

_Static_assert(sizeof(long_key) <= MAP_INLINE_BYTES_MAX, "a long key's reference fits in the slot");

struct kith_map {
    map_slot *slots;
    size_t slot_mask;
    size_t count;
    size_t long_bytes; /* in blocks of long keys */
};

typedef struct probe {
    const void *key;
    size_t key_bytes;
    uint32_t hash;
} probe;

static probe probe_of(const void *key, size_t key_bytes) {
    uint32_t hash = kith_hash_for_table(key, key_bytes);
    return (probe){.key = key, .key_bytes = key_bytes, .hash = hash};
}

static long_key slot_long_key(const map_slot *slot) {
    long_key ref;
    memcpy(&ref, slot->key, sizeof ref);
    return ref;
}

static const void *slot_key(const map_slot *slot, size_t *bytes_out) {
    if (slot->tag != MAP_TAG_LONG) {
        *bytes_out = slot->tag - 1u;
        return slot->key;
    }
    long_key ref = slot_long_key(slot);
    *bytes_out = ref.bytes;
    return ref.data;
}

static bool slot_matches(const map_slot *slot, const probe *wanted) {
    if (slot->hash != wanted->hash) return false;
    size_t bytes;
    const void *key = slot_key(slot, &bytes);
    return bytes == wanted->key_bytes && (bytes == 0 || memcmp(key, wanted->key, bytes) == 0);
}

/* The slot of `wanted`, or the free one where it would go. There always is a free one. */
static map_slot *find(const kith_map *map, const probe *wanted) {
    size_t at = wanted->hash & map->slot_mask;
    while (map->slots[at].tag != MAP_TAG_FREE && !slot_matches(&map->slots[at], wanted))
        at = (at + 1) & map->slot_mask;
    return &map->slots[at];
}

static size_t slots_for(size_t count) {
    size_t slots = MAP_SLOTS_MIN;
    while (slots / 4 * 3 < count)
        slots *= 2;
    kith_assert(slots <= MAP_SLOTS_MAX);
    return slots;
}

kith_map *kith_map_create(size_t capacity_hint) {
    kith_map *map = kith_alloc_zero(sizeof *map);
    size_t slot_count = slots_for(capacity_hint);
    map->slots = kith_alloc_zero(slot_count * sizeof *map->slots);
    map->slot_mask = slot_count - 1;
    return map;
}

static void slot_release_key(kith_map *map, map_slot *slot) {
    if (slot->tag != MAP_TAG_LONG) return;
    long_key ref = slot_long_key(slot);
    map->long_bytes -= ref.bytes;
    kith_free(ref.data);
}

static void release_long_keys(kith_map *map) {
    if (map->long_bytes == 0) return;
    for (size_t i = 0; i <= map->slot_mask; i++)
        slot_release_key(map, &map->slots[i]);
}

void kith_map_destroy(kith_map *map) {
    if (!map) return;
    release_long_keys(map);
    kith_free(map->slots);
    kith_free(map);
}

size_t kith_map_count(const kith_map *map) {
    return map->count;
}

bool kith_map_get(const kith_map *map, const void *key, size_t key_bytes, uint64_t *value_out) {
    probe wanted = probe_of(key, key_bytes);
    const map_slot *slot = find(map, &wanted);
    if (slot->tag == MAP_TAG_FREE) return false;
    *value_out = slot->value;
    return true;
}

static void move_slot(kith_map *map, const map_slot *slot) {
    size_t at = slot->hash & map->slot_mask;
    while (map->slots[at].tag != MAP_TAG_FREE)
        at = (at + 1) & map->slot_mask;
    map->slots[at] = *slot;
}

static void grow(kith_map *map) {
    map_slot *before = map->slots;
    size_t before_count = map->slot_mask + 1;
    kith_assert(before_count <= MAP_SLOTS_MAX / 2);
    map->slots = kith_alloc_zero(2 * before_count * sizeof *map->slots);
    map->slot_mask = 2 * before_count - 1;
    for (size_t i = 0; i < before_count; i++)
        if (before[i].tag != MAP_TAG_FREE) move_slot(map, &before[i]);
    kith_free(before);
}

static void slot_store_key(kith_map *map, map_slot *slot, const probe *key) {
    slot->hash = key->hash;
    if (key->key_bytes <= MAP_INLINE_BYTES_MAX) {
        slot->tag = (uint8_t)(1 + key->key_bytes);
        if (key->key_bytes) memcpy(slot->key, key->key, key->key_bytes);
        return;
    }
    long_key ref = {.data = kith_alloc(key->key_bytes), .bytes = key->key_bytes};
    memcpy(ref.data, key->key, key->key_bytes);
    memcpy(slot->key, &ref, sizeof ref);
    slot->tag = MAP_TAG_LONG;
    map->long_bytes += ref.bytes;
}

void kith_map_put(kith_map *map, const void *key, size_t key_bytes, uint64_t value) {
    probe wanted = probe_of(key, key_bytes);
    map_slot *slot = find(map, &wanted);
    if (slot->tag != MAP_TAG_FREE) {
        slot->value = value;
        return;
    }
    if (map->count >= (map->slot_mask + 1) / 4 * 3) {
        grow(map);
        slot = find(map, &wanted);
    }
    slot_store_key(map, slot, &wanted);
    slot->value = value;
    map->count++;
}

/* Knuth, "Sorting and Searching", 6.4, algorithm R: what follows a freed slot moves back into it unless that
 * would put it before its home. */
static void close_gap(kith_map *map, size_t gap) {
    size_t mask = map->slot_mask;
    for (size_t at = (gap + 1) & mask; map->slots[at].tag != MAP_TAG_FREE; at = (at + 1) & mask) {
        size_t home = map->slots[at].hash & mask;
        if (((at - home) & mask) < ((at - gap) & mask)) continue;
        map->slots[gap] = map->slots[at];
        gap = at;
    }
    map->slots[gap].tag = MAP_TAG_FREE;
}

bool kith_map_remove(kith_map *map, const void *key, size_t key_bytes) {
    probe wanted = probe_of(key, key_bytes);
    map_slot *slot = find(map, &wanted);
    if (slot->tag == MAP_TAG_FREE) return false;
    slot_release_key(map, slot);
    close_gap(map, (size_t)(slot - map->slots));
    map->count--;
    return true;
}

void kith_map_clear(kith_map *map) {
    release_long_keys(map);
    memset(map->slots, 0, (map->slot_mask + 1) * sizeof *map->slots);
    map->count = 0;
    map->long_bytes = 0;
}

bool kith_map_next(
    const kith_map *map, size_t *cursor, const void **key_out, size_t *key_bytes_out, uint64_t *value_out) {
    size_t at = *cursor;
    while (at <= map->slot_mask && map->slots[at].tag == MAP_TAG_FREE)
        at++;
    *cursor = at + 1;
    if (at > map->slot_mask) return false;
    const map_slot *slot = &map->slots[at];
    *key_out = slot_key(slot, key_bytes_out);
    *value_out = slot->value;
    return true;
}

size_t kith_map_probe_max(const kith_map *map) {
    size_t max = 0;
    for (size_t at = 0; at <= map->slot_mask; at++) {
        if (map->slots[at].tag == MAP_TAG_FREE) continue;
        size_t read = ((at - map->slots[at].hash) & map->slot_mask) + 1;
        if (read > max) max = read;
    }
    return max;
}

size_t kith_map_memory_bytes(const kith_map *map) {
    return sizeof *map + (map->slot_mask + 1) * sizeof *map->slots + map->long_bytes;
}
