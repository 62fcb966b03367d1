/* The f32 vectors of AVX2 with FMA: what the leaves of its backends are written over. Included by their files only. */
#ifndef KITH_KERNELS_CPU_CPU_AVX2_VECTOR_H
#define KITH_KERNELS_CPU_CPU_AVX2_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/cpu_x86_load.h"

typedef __m256 vector;

static inline vector vector_zero(void) {
    return _mm256_setzero_ps();
}
static inline vector vector_set(float value) {
    return _mm256_set1_ps(value);
}
static inline vector vector_load(const float *at) {
    return _mm256_loadu_ps(at);
}
static inline void vector_store(float *at, vector a) {
    _mm256_storeu_ps(at, a);
}
static inline vector vector_add(vector a, vector b) {
    return _mm256_add_ps(a, b);
}
static inline vector vector_sub(vector a, vector b) {
    return _mm256_sub_ps(a, b);
}
static inline vector vector_mul(vector a, vector b) {
    return _mm256_mul_ps(a, b);
}
/* a * b + c */
static inline vector vector_fma(vector a, vector b, vector c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vector vector_abs(vector a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
/* A bit a lane: not (a < b), so set where either is NaN. */
static inline uint32_t vector_not_less(vector a, vector b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ));
}
/* Whether any lane of the two is not less. */
static inline bool vectors_reach(vector a, vector b, vector least) {
    return _mm256_movemask_ps(
               _mm256_or_ps(_mm256_cmp_ps(a, least, _CMP_NLT_UQ), _mm256_cmp_ps(b, least, _CMP_NLT_UQ))) != 0;
}
/* The four sums of lanes. */
static inline void vector_sum_4(vector a, vector b, vector c, vector d, float *sums_out) {
    __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(sums_out, _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

#endif
