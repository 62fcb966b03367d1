/* Bits in 64-bit words: bit i is bit (i & 63) of word (i >> 6). Bits past the count are zero. */
#ifndef KITH_BASE_BITSET_H
#define KITH_BASE_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t kith_bitset_words(size_t bits) {
    return (bits + 63) >> 6;
}
static inline bool kith_bitset_get(const uint64_t *words, size_t bit) {
    return words[bit >> 6] >> (bit & 63) & 1;
}
static inline void kith_bitset_set(uint64_t *words, size_t bit) {
    words[bit >> 6] |= 1ULL << (bit & 63);
}
static inline void kith_bitset_clear(uint64_t *words, size_t bit) {
    words[bit >> 6] &= ~(1ULL << (bit & 63));
}
static inline size_t kith_bitset_count(const uint64_t *words, size_t bits) {
    size_t count = 0;
    for (size_t i = 0; i < kith_bitset_words(bits); i++)
        count += (size_t)__builtin_popcountll(words[i]);
    return count;
}

#endif
