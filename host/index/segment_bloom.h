/* Blocked Bloom filter (F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters",
 * 2007, section 3): all bits of a key lie in one 64-byte block, so that a miss costs one cache line. The bits
 * of a key are part of the segment file format.
 *
 * Threads: pure functions. */
#ifndef KITH_INDEX_SEGMENT_BLOOM_H
#define KITH_INDEX_SEGMENT_BLOOM_H

#include <stdbool.h>
#include <stdint.h>

#define SEGMENT_BLOOM_BLOCK_BYTES 64u
#define SEGMENT_BLOOM_BLOCK_WORDS 8u
#define SEGMENT_BLOOM_ROW_BITS    10u /* 0.98 % false positives, measured by test_segment__bloom_rarely_lies */
#define SEGMENT_BLOOM_KEY_BITS    6u

static inline uint64_t segment_bloom_block_count(uint64_t rows) {
    uint64_t block_bits = SEGMENT_BLOOM_BLOCK_BYTES * 8;
    return (rows * SEGMENT_BLOOM_ROW_BITS + block_bits - 1) / block_bits;
}

/* The block is chosen by the upper half of the hash, the bits in it by 9 bits each of its product with an odd
 * number, whose lower bits come from the lower half. */
static inline uint64_t segment_bloom_block(uint64_t block_count, uint64_t hash) {
    return (hash >> 32) * block_count >> 32;
}

static inline void segment_bloom_add(uint64_t *blocks, uint64_t block_count, uint64_t hash) {
    uint64_t *block = blocks + segment_bloom_block(block_count, hash) * SEGMENT_BLOOM_BLOCK_WORDS;
    uint64_t bits = hash * 0x9E3779B97F4A7C15ULL;
    for (uint32_t i = 0; i < SEGMENT_BLOOM_KEY_BITS; i++, bits >>= 9)
        block[bits >> 6 & 7] |= 1ULL << (bits & 63);
}

static inline bool segment_bloom_may_have(const uint64_t *blocks, uint64_t block_count, uint64_t hash) {
    const uint64_t *block = blocks + segment_bloom_block(block_count, hash) * SEGMENT_BLOOM_BLOCK_WORDS;
    uint64_t bits = hash * 0x9E3779B97F4A7C15ULL;
    bool may = true;
    for (uint32_t i = 0; i < SEGMENT_BLOOM_KEY_BITS; i++, bits >>= 9)
        may &= block[bits >> 6 & 7] >> (bits & 63) & 1;
    return may;
}

#endif
