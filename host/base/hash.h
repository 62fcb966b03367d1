/* Two hashes, both XXH3_64. One for bloom filters and slots, with seed 0: its value is part of the file and
 * placement formats (slot = hash mod 16384) and never changes. One for tables in memory, with a seed of this
 * process's own: XXH3 with a known seed has as many colliding keys as one likes, and clients choose theirs. */
#ifndef KITH_BASE_HASH_H
#define KITH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t kith_hash64(const void *data, size_t bytes);

/* What a table places a key by. Nothing that is kept or sent may depend on it. */
uint32_t kith_hash_for_table(const void *data, size_t bytes);
/* Once, at the start of a process that serves others, before the first table is made: a random number that nobody
 * else knows. 0 without it, so that the simulator's runs repeat exactly. */
void kith_hash_table_seed_set(uint64_t seed);

#endif
