/* The f32 vectors of AVX-512: what the leaves of its backends are written over. Included by their files only. */
#ifndef KITH_KERNELS_CPU_CPU_AVX512_VECTOR_H
#define KITH_KERNELS_CPU_CPU_AVX512_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/cpu_x86_load.h"

typedef __m512 vector;

static inline vector vector_zero(void) {
    return _mm512_setzero_ps();
}
static inline vector vector_set(float value) {
    return _mm512_set1_ps(value);
}
static inline vector vector_load(const float *at) {
    return _mm512_loadu_ps(at);
}
static inline void vector_store(float *at, vector a) {
    _mm512_storeu_ps(at, a);
}
static inline vector vector_add(vector a, vector b) {
    return _mm512_add_ps(a, b);
}
static inline vector vector_sub(vector a, vector b) {
    return _mm512_sub_ps(a, b);
}
static inline vector vector_mul(vector a, vector b) {
    return _mm512_mul_ps(a, b);
}
/* a * b + c */
static inline vector vector_fma(vector a, vector b, vector c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vector vector_abs(vector a) {
    return _mm512_abs_ps(a);
}
/* A bit a lane: not (a < b), so set where either is NaN. */
static inline uint32_t vector_not_less(vector a, vector b) {
    return (uint32_t)_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ);
}
/* Whether any lane of the two is not less. */
static inline bool vectors_reach(vector a, vector b, vector least) {
    return (vector_not_less(a, least) | vector_not_less(b, least)) != 0;
}
static inline __m256 halves_add(vector a) {
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
    return _mm256_add_ps(_mm512_castps512_ps256(a), high);
}
/* The four sums of lanes. */
static inline void vector_sum_4(vector a, vector b, vector c, vector d, float *sums_out) {
    __m256 ab = _mm256_hadd_ps(halves_add(a), halves_add(b));
    __m256 halves = _mm256_hadd_ps(ab, _mm256_hadd_ps(halves_add(c), halves_add(d)));
    _mm_storeu_ps(sums_out, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

#endif
