/* AVX-512 F, BW, DQ, VL: 16 f32 lanes, 32 registers. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_avx512_vector.h"

#define LANES       16
#define QUERY_BLOCK 6 /* 6 queries x 4 rows = 24 sums; with 6 queries' vectors and a row's, 31 registers */

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

/* Codes: 16 rows a vector, in two parts of 16-bit pairs as in cpu_avx2.c. 12 queries x 2 vectors = 24 sums, 2 parts of
 * rows, one of a query and a product: 28 of 32 registers (GCC 12 still keeps two sums of 12 queries in memory: 4 of the
 * loop's 143 instructions). */
#define CODE_LANES       16
#define CODE_QUERIES     12
#define CODE_ROWS        2
#define CODE_ROWS_SINGLE 2
#define CODE_FEW         2
#define CODE_PARTS       2

typedef __m512i code_part;
typedef __m512i code_sum;

static inline code_part code_part_load(const uint8_t *at) {
    return _mm512_loadu_si512(at);
}
static inline void code_part_store(code_part part, uint8_t *at) {
    _mm512_storeu_si512(at, part);
}
static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    __m512i four = code_part_load(at);
    return part == 0 ? _mm512_and_si512(four, _mm512_set1_epi16(255)) : _mm512_srli_epi16(four, 8);
}
static inline code_sum code_sum_start(int32_t start) {
    return _mm512_set1_epi32(start);
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(rows, _mm512_set1_epi32(words[part])));
#ifndef KITH_CPU_SIMDE
    __asm__("" : "+v"(sum)); /* as in cpu_avx2.c */
#endif
    return sum;
}
static inline vector code_sum_finish(code_sum sum) {
    return _mm512_cvtepi32_ps(sum);
}
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    for (uint32_t part = 0; part < CODE_PARTS; part++) {
        __m512i by = _mm512_loadu_si512(words + (size_t)part * CODE_LANES);
        sum = _mm512_add_epi32(sum, _mm512_madd_epi16(code_part_of(codes, part), by));
    }
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    return lanes_sum(_mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1)));
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    memcpy(words_out, (int16_t[4]){levels[0], levels[2], levels[1], levels[3]}, 8);
}

#ifdef KITH_CPU_SIMDE
#define BACKEND        kith_cpu_avx512_simde
#define BACKEND_LEAVES kith_cpu_avx512_simde_leaves
#define BACKEND_NAME   "avx512-simde"
#else
#define BACKEND        kith_cpu_avx512
#define BACKEND_LEAVES kith_cpu_avx512_leaves
#define BACKEND_NAME   "avx512"
#endif
#include "kernels/cpu/cpu_leaves.inc"
