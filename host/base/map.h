/* Hash map from byte strings (or u64 keys) to u64 values; open addressing, linear probing, deletion by
 * backward shift. Keys are copied into the map.
 *
 * Threads: one at a time. */
#ifndef KITH_BASE_MAP_H
#define KITH_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kith_map kith_map;

kith_map *kith_map_create(size_t capacity_hint);
void kith_map_destroy(kith_map *map);
size_t kith_map_count(const kith_map *map);
/* True and `*value_out` set if the key is there. */
bool kith_map_get(const kith_map *map, const void *key, size_t key_bytes, uint64_t *value_out);
/* Inserts or overwrites. */
void kith_map_put(kith_map *map, const void *key, size_t key_bytes, uint64_t value);
/* True if the key was there. */
bool kith_map_remove(kith_map *map, const void *key, size_t key_bytes);
void kith_map_clear(kith_map *map);
/* Walks all entries in unspecified order: start with `*cursor = 0`, false at the end. The map must not
 * change. */
bool kith_map_next(
    const kith_map *map, size_t *cursor, const void **key_out, size_t *key_bytes_out, uint64_t *value_out);
/* Slots that the longest look-up of a key that is there reads: a check of how keys spread. Reads the whole map.
 */
size_t kith_map_probe_max(const kith_map *map);
/* Bytes of memory held. */
size_t kith_map_memory_bytes(const kith_map *map);

#endif
