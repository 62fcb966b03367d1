/* 64-bit hash for tables, bloom filters and slots: XXH3_64 with seed 0. The value is part of the file and
 * placement formats (slot = hash mod 16384) and never changes. */
#ifndef KITH_BASE_HASH_H
#define KITH_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t kith_hash64(const void *data, size_t bytes);

#endif
