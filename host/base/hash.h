/* 64-bit hash for tables, bloom filters and slots: XXH3_64 with seed 0. The value is part of the file and
 * placement formats (slot = hash mod 16384) and never changes. */
#ifndef KITH_BASE_HASH_H
#define KITH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t kith_hash64(const void *data, size_t bytes);

/* What a table places a key by. Not the low bits: they are the slot, and all ids of a shard are of few slots. */
static inline uint32_t kith_hash_for_table(uint64_t hash) {
    return (uint32_t)(hash >> 32);
}

#endif
