/* Eight stored components as f32, for the x86 ISAs. Included by their files only. */
#ifndef KITH_KERNELS_CPU_CPU_X86_LOAD_H
#define KITH_KERNELS_CPU_CPU_X86_LOAD_H

#include "kernels/cpu/cpu_simd_include.h"

static inline __m128i load_16_bytes(const void *stored) {
    return _mm_loadu_si128((const __m128i *)stored);
}

static inline __attribute__((always_inline)) __m256 load_8(const void *stored, kith_vector_type type) {
    switch (type) {
    case KITH_TYPE_F16:
        return _mm256_cvtph_ps(load_16_bytes(stored));
    case KITH_TYPE_BF16:
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(stored)), 16));
    case KITH_TYPE_I8:
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)stored)));
    case KITH_TYPE_F32:
        break;
    }
    return _mm256_loadu_ps(stored);
}

#endif
