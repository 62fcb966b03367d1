#include "host/base/hash.h"

/* Compiled into this file: most keys are 9 bytes, where a call through the shared library costs more than the
 * hash. */
#define XXH_INLINE_ALL
#include <xxhash.h>

/* Written before there is a second thread. */
static uint64_t table_seed;

uint64_t kith_hash64(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

/* The high half: with seed 0 the low bits are the slot, and all ids of a shard are of few slots. */
uint32_t kith_hash_for_table(const void *data, size_t bytes) {
    return (uint32_t)(XXH3_64bits_withSeed(data, bytes, table_seed) >> 32);
}

void kith_hash_table_seed_set(uint64_t seed) {
    table_seed = seed;
}
