/* AVX2 with FMA and F16C: 8 f32 lanes, 16 registers. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_avx2_vector.h"

#define LANES 8
#define QUERY_BLOCK                                                                                          \
    3 /* 3 queries x 4 rows = 12 sums; with 3 queries' vectors and a row's, all 16 registers */

/* Eight f64 lanes, as compute.h numbers them. */
typedef struct wide {
    __m256d low, high;
} wide;

static inline wide wide_zero(void) {
    return (wide){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
static inline wide wide_of(__m256 a) {
    return (wide){_mm256_cvtps_pd(_mm256_castps256_ps128(a)), _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1))};
}
static inline wide wide_add(wide a, wide b) {
    return (wide){_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}
static inline wide wide_sub(wide a, wide b) {
    return (wide){_mm256_sub_pd(a.low, b.low), _mm256_sub_pd(a.high, b.high)};
}
static inline wide wide_mul(wide a, wide b) {
    return (wide){_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high)};
}
static inline wide wide_abs(wide a) {
    __m256d sign = _mm256_set1_pd(-0.0);
    return (wide){_mm256_andnot_pd(sign, a.low), _mm256_andnot_pd(sign, a.high)};
}
static inline double wide_sum(wide a) {
    __m256d quads = _mm256_add_pd(a.low, a.high); /* l0+l4, l1+l5, l2+l6, l3+l7 */
    __m128d pairs = _mm_add_pd(_mm256_castpd256_pd128(quads), _mm256_extractf128_pd(quads, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pairs, _mm_unpackhi_pd(pairs, pairs)));
}

/* Codes: 8 rows a vector. Bytes 0 and 2 of a row's four components make one pair of 16-bit numbers, 1 and 3 the other;
 * vpmaddwd multiplies a pair with the query's and adds. 6 queries x 2 vectors = 12 sums, 2 parts of rows and one of
 * a query. */
#define CODE_LANES       8
#define CODE_QUERIES     6
#define CODE_ROWS        2
#define CODE_ROWS_SINGLE 4
#define CODE_FEW         2
#define CODE_PARTS       2

typedef __m256i code_part;
typedef __m256i code_sum;

static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    __m256i four = _mm256_loadu_si256((const void *)at);
    return part == 0 ? _mm256_and_si256(four, _mm256_set1_epi16(255)) : _mm256_srli_epi16(four, 8);
}
static inline code_part code_part_load(const uint8_t *at) {
    return _mm256_loadu_si256((const void *)at);
}
static inline void code_part_store(code_part part, uint8_t *at) {
    _mm256_storeu_si256((void *)at, part);
}
static inline code_sum code_sum_start(int32_t start) {
    return _mm256_set1_epi32(start);
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(rows, _mm256_set1_epi32(words[part])));
    /* Keeps the compiler from adding the products of both parts first, for which registers do not suffice. */
    __asm__("" : "+x"(sum));
    return sum;
}
static inline vector code_sum_finish(code_sum sum) {
    return _mm256_cvtepi32_ps(sum);
}
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    for (uint32_t part = 0; part < CODE_PARTS; part++) {
        __m256i by = _mm256_loadu_si256((const void *)(words + (size_t)part * CODE_LANES));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(code_part_of(codes, part), by));
    }
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    return lanes_sum(sum);
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    memcpy(words_out, (int16_t[4]){levels[0], levels[2], levels[1], levels[3]}, 8);
}

/* Coarse looks: vpmaddubsw multiplies 32 bytes of codes, as they are stored, with levels of a byte; two sums of pairs fit
 * 16 bits. 5 operations for eight components, where the 16-bit products take 8. 4 queries x 2 vectors = 8 sums, 4 of rows,
 * and what is on the way. */
#define CODE_COARSE       4
#define CODE_COARSE_16    1
#define coarse_sum_start  code_sum_start
#define coarse_sum_finish code_sum_finish

typedef code_sum coarse_sum;

static const __m256i code_ones = {
    0x0001000100010001, 0x0001000100010001, 0x0001000100010001, 0x0001000100010001};

static inline coarse_sum coarse_sum_add(coarse_sum a, coarse_sum b) {
    return _mm256_add_epi32(a, b);
}
static inline coarse_sum code_coarse_step(
    coarse_sum sum, code_part low, code_part high, const int32_t *words) {
    __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, _mm256_set1_epi32(words[0])),
        _mm256_maddubs_epi16(high, _mm256_set1_epi32(words[1])));
    /* With the ones in memory all else is in registers. */
    __asm__("vpmaddwd %1, %0, %0" : "+x"(pairs) : "m"(code_ones));
    sum = _mm256_add_epi32(sum, pairs);
    __asm__("" : "+x"(sum));
    return sum;
}

#define BACKEND        kith_cpu_avx2
#define BACKEND_LEAVES kith_cpu_avx2_leaves
#define BACKEND_NAME   "avx2"
#include "kernels/cpu/cpu_leaves.inc"
