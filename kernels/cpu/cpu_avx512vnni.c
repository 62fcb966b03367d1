/* AVX-512 with VNNI: codes by vpdpbusd, all else as AVX-512. */
#include "kernels/cpu/cpu_avx512_vector.h"
#include "kernels/cpu/cpu_code_planes.h"
#include "kernels/cpu/cpu_codes.h"

/* 16 rows a vector; the stored bytes are the unsigned operand. 6 queries x 2 vectors x 2 planes = 24 sums, 2 vectors
 * of rows and a plane of a query: 27 of 32 registers. */
#define CODE_LANES       16
#define CODE_QUERIES     6
#define CODE_ROWS        2
#define CODE_ROWS_SINGLE 2
#define CODE_FEW         2
#define CODE_PARTS       1
#define CODE_RATE        100 /* of 128 */

typedef __m512i code_part;
typedef struct code_sum {
    __m512i low, high;
} code_sum;

static inline code_part code_part_load(const uint8_t *at) {
    return _mm512_loadu_si512(at);
}
static inline void code_part_store(code_part part, uint8_t *at) {
    _mm512_storeu_si512(at, part);
}
static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    (void)part;
    return code_part_load(at);
}
static inline code_sum code_sum_start(int32_t start) {
    return (code_sum){_mm512_set1_epi32(start), _mm512_setzero_si512()};
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    (void)part;
    sum.low = _mm512_dpbusd_epi32(sum.low, rows, _mm512_set1_epi32(words[0]));
    sum.high = _mm512_dpbusd_epi32(sum.high, rows, _mm512_set1_epi32(words[1]));
#ifndef KITH_CPU_SIMDE
    /* Without it GCC 12 sums into copies, and spills them. */
    __asm__("" : "+v"(sum.low), "+v"(sum.high));
#endif
    return sum;
}
static inline vector code_sum_finish(code_sum sum) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sum.high, 7), sum.low));
}
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    const code_part row = code_part_load(codes);
    sum.low = _mm512_dpbusd_epi32(sum.low, row, _mm512_loadu_si512(words));
    sum.high = _mm512_dpbusd_epi32(sum.high, row, _mm512_loadu_si512(words + CODE_LANES));
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    __m512i both = _mm512_add_epi32(_mm512_slli_epi32(sum.high, 7), sum.low);
    return lanes_sum(_mm256_add_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1)));
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    code_planes_pack(levels, words_out);
}

/* Coarse looks: one plane. 8 queries x 2 vectors = 16 sums, 4 vectors of rows and one of a query: 21 of 32 registers. */
#define CODE_COARSE    8
#define CODE_COARSE_16 0

typedef __m512i coarse_sum;

static inline coarse_sum coarse_sum_start(int32_t start) {
    return _mm512_set1_epi32(start);
}
static inline coarse_sum code_coarse_step(
    coarse_sum sum, code_part low, code_part high, const int32_t *words) {
    sum = _mm512_dpbusd_epi32(sum, low, _mm512_set1_epi32(words[0]));
    sum = _mm512_dpbusd_epi32(sum, high, _mm512_set1_epi32(words[1]));
#ifndef KITH_CPU_SIMDE
    __asm__("" : "+v"(sum));
#endif
    return sum;
}
static inline coarse_sum coarse_sum_add(coarse_sum a, coarse_sum b) {
    return _mm512_add_epi32(a, b);
}
static inline vector coarse_sum_finish(coarse_sum sum) {
    return _mm512_cvtepi32_ps(sum);
}

#ifdef KITH_CPU_SIMDE
#define BASE         kith_cpu_avx512_simde
#define BASE_LEAVES  kith_cpu_avx512_simde_leaves
#define BACKEND      kith_cpu_avx512vnni_simde
#define BACKEND_NAME "avx512vnni-simde"
#else
#define BASE         kith_cpu_avx512
#define BASE_LEAVES  kith_cpu_avx512_leaves
#define BACKEND      kith_cpu_avx512vnni
#define BACKEND_NAME "avx512vnni"
#endif
#include "kernels/cpu/cpu_codes_only.inc"
