/* AVX-512 F, BW, DQ, VL: 16 f32 lanes, 32 registers. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_x86_load.h"

#define LANES       16
#define QUERY_BLOCK 6 /* 6 queries x 4 rows = 24 sums; with 6 queries' vectors and a row's, 31 registers */

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

/* Eight f64 lanes, as compute.h numbers them. */
typedef __m512d wide;

static inline wide wide_zero(void) {
    return _mm512_setzero_pd();
}
static inline wide wide_of(__m256 a) {
    return _mm512_cvtps_pd(a);
}
static inline wide wide_add(wide a, wide b) {
    return _mm512_add_pd(a, b);
}
static inline wide wide_sub(wide a, wide b) {
    return _mm512_sub_pd(a, b);
}
static inline wide wide_mul(wide a, wide b) {
    return _mm512_mul_pd(a, b);
}
static inline wide wide_abs(wide a) {
    return _mm512_abs_pd(a);
}
static inline double wide_sum(wide a) {
    __m256d quads = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d pairs = _mm_add_pd(_mm256_castpd256_pd128(quads), _mm256_extractf128_pd(quads, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pairs, _mm_unpackhi_pd(pairs, pairs)));
}

#ifdef KITH_CPU_SIMDE
#define BACKEND      kith_cpu_avx512_simde
#define BACKEND_NAME "avx512-simde"
#else
#define BACKEND      kith_cpu_avx512
#define BACKEND_NAME "avx512"
#endif
#include "kernels/cpu/cpu_leaves.inc"
