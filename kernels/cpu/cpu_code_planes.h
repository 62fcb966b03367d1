/* Codes for instructions that multiply bytes (vpdpbusd, sdot): a query's level is 128 * high + low, with low in 0..127
 * and high in -128..127, so two signed bytes; a row is multiplied with each plane and the sums meet at the end, as
 * (high << 7) + low.
 *
 * Overflow. The instructions add four products, of at most 255 * 128, to a 32-bit sum that wraps, as does the shift:
 * all of it is arithmetic modulo 2^32. The total, sum of code * level and the noise that is added, is below 2^31
 * (codes_bound.h); so what is left at the end is the total itself, whatever wrapped before. */
#ifndef KITH_KERNELS_CPU_CPU_CODE_PLANES_H
#define KITH_KERNELS_CPU_CPU_CODE_PLANES_H

#include <stdint.h>
#include <string.h>

/* The low plane of four levels in words_out[0], the high one in words_out[1]. */
static inline void code_planes_pack(const int16_t *levels, int32_t *words_out) {
    int8_t planes[8];
    for (int i = 0; i < 4; i++) {
        planes[i] = (int8_t)(levels[i] & 127);
        planes[4 + i] = (int8_t)((levels[i] - (levels[i] & 127)) / 128);
    }
    memcpy(words_out, planes, sizeof planes);
}

#endif
