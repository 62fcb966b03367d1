/* AVX-VNNI, for processors that have vpdpbusd but not AVX-512: codes by it, all else as AVX2. */
#include "kernels/cpu/cpu_avx2_vector.h"
#include "kernels/cpu/cpu_code_planes.h"
#include "kernels/cpu/cpu_codes.h"

/* 8 rows a vector; the stored bytes are the unsigned operand. 3 queries x 2 vectors x 2 planes = 12 sums, 2 vectors
 * of rows and a plane of a query: 15 of 16 registers. */
#define CODE_LANES       8
#define CODE_QUERIES     3
#define CODE_ROWS        2
#define CODE_ROWS_SINGLE 4
#define CODE_FEW         2
#define CODE_PARTS       1
#define CODE_RATE        50 /* half of the 512-bit one's; a guess */

typedef __m256i code_part;
typedef struct code_sum {
    __m256i low, high;
} code_sum;

static inline code_part code_part_load(const uint8_t *at) {
    return _mm256_loadu_si256((const void *)at);
}
static inline void code_part_store(code_part part, uint8_t *at) {
    _mm256_storeu_si256((void *)at, part);
}
static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    (void)part;
    return code_part_load(at);
}
static inline code_sum code_sum_start(int32_t start) {
    return (code_sum){_mm256_set1_epi32(start), _mm256_setzero_si256()};
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    (void)part;
    sum.low = _mm256_dpbusd_avx_epi32(sum.low, rows, _mm256_set1_epi32(words[0]));
    sum.high = _mm256_dpbusd_avx_epi32(sum.high, rows, _mm256_set1_epi32(words[1]));
#ifndef KITH_CPU_SIMDE
    /* Without it GCC 12 sums into copies, and spills them. */
    __asm__("" : "+x"(sum.low), "+x"(sum.high));
#endif
    return sum;
}
static inline vector code_sum_finish(code_sum sum) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(sum.high, 7), sum.low));
}
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    const code_part row = code_part_load(codes);
    sum.low = _mm256_dpbusd_avx_epi32(sum.low, row, _mm256_loadu_si256((const void *)words));
    sum.high = _mm256_dpbusd_avx_epi32(sum.high, row, _mm256_loadu_si256((const void *)(words + CODE_LANES)));
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    return lanes_sum(_mm256_add_epi32(_mm256_slli_epi32(sum.high, 7), sum.low));
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    code_planes_pack(levels, words_out);
}

/* Coarse looks: one plane. 4 queries x 2 vectors = 8 sums, 4 vectors of rows and one of a query: 13 of 16 registers. */
#define CODE_COARSE    4
#define CODE_COARSE_16 0

typedef __m256i coarse_sum;

static inline coarse_sum coarse_sum_start(int32_t start) {
    return _mm256_set1_epi32(start);
}
static inline coarse_sum code_coarse_step(
    coarse_sum sum, code_part low, code_part high, const int32_t *words) {
    sum = _mm256_dpbusd_avx_epi32(sum, low, _mm256_set1_epi32(words[0]));
    sum = _mm256_dpbusd_avx_epi32(sum, high, _mm256_set1_epi32(words[1]));
#ifndef KITH_CPU_SIMDE
    __asm__("" : "+x"(sum));
#endif
    return sum;
}
static inline coarse_sum coarse_sum_add(coarse_sum a, coarse_sum b) {
    return _mm256_add_epi32(a, b);
}
static inline vector coarse_sum_finish(coarse_sum sum) {
    return _mm256_cvtepi32_ps(sum);
}

#define BASE        kith_cpu_avx2
#define BASE_LEAVES kith_cpu_avx2_leaves
#ifdef KITH_CPU_SIMDE
#define BACKEND      kith_cpu_avxvnni_simde
#define BACKEND_NAME "avxvnni-simde"
#else
#define BACKEND      kith_cpu_avxvnni
#define BACKEND_NAME "avxvnni"
#endif
#include "kernels/cpu/cpu_codes_only.inc"
