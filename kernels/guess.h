/* Guessing a threshold from a sample of rows, that drops rows before k better ones are known.
 *
 * Of a part p of all words of 64 rows, let g be the closeness of the m-th best row. Fewer than k rows of the whole reach g
 * only if m of the k best lie in that part, where about kp of them should: with m = kp + 3.5 sqrt(kp) + 2 that happens to
 * one query in 4,000 or fewer (Poisson), and costs less than what a more careful guess would. The answer must never rest on it: where fewer than k rows reach g in the end, the
 * query is searched again without. Neighbours are often alike, and m such rows would be one piece of luck: at most one row
 * of a word counts. */
#ifndef KITH_KERNELS_GUESS_H
#define KITH_KERNELS_GUESS_H

#include <math.h>
#include <stdint.h>

enum { KITH_GUESS_HITS_MOST = 4 }; /* times m: the best hits that are looked through for m different words */

/* m, where `expected` of the k best should be in the sample. */
static inline uint32_t kith_guess_needed(double expected) {
    return (uint32_t)ceil(expected + 3.5 * sqrt(expected) + 2);
}

/* The index of the best hit of the word that is `needed`-th best; `count` when too few hits, or too many of one word, come
 * before. hits: `count` of them, best first; word_of: the word that hit `index` lies in, as a number. */
static inline uint32_t kith_guess_find(const void *hits, uint32_t count, uint32_t needed,
    uint64_t (*word_of)(const void *hits, uint32_t index)) {
    uint32_t words = 0;
    for (uint32_t i = 0; i < count && i < KITH_GUESS_HITS_MOST * needed; i++) {
        uint32_t before = 0;
        while (before < i && word_of(hits, before) != word_of(hits, i))
            before++;
        words += before == i;
        if (words == needed) return i;
    }
    return count;
}

#endif
