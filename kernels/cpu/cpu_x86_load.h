/* Eight stored components as f32, for the x86 ISAs. Included by their files only. */
#ifndef KITH_KERNELS_CPU_CPU_X86_LOAD_H
#define KITH_KERNELS_CPU_CPU_X86_LOAD_H

#include "host/base/vector_types.h"
#include "kernels/cpu/cpu_simd_include.h"

typedef __m256 eight;

static inline eight eight_zero(void) {
    return _mm256_setzero_ps();
}
static inline eight eight_load(const float *at) {
    return _mm256_loadu_ps(at);
}
static inline void eight_store(float *at, eight a) {
    _mm256_storeu_ps(at, a);
}
/* The first four. */
static inline void eight_store_low(float *at, eight a) {
    _mm_storeu_ps(at, _mm256_castps256_ps128(a));
}

static inline __m128i load_16_bytes(const void *stored) {
    return _mm_loadu_si128((const __m128i *)stored);
}

static inline __attribute__((always_inline)) eight load_8(const void *stored, kith_vector_type type) {
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

/* Of 32-bit lanes, modulo 2^32. */
static inline int32_t lanes_sum(__m256i a) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

#endif
