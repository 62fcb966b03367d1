/* NEON with the dot products of bytes (FEAT_DotProd): codes by sdot, all else as NEON. */
#include "kernels/cpu/cpu_code_planes.h"
#include "kernels/cpu/cpu_codes.h"
#include "kernels/cpu/cpu_neon_vector.h"

/* 4 rows a vector. Both operands are signed, so stored bytes lose their bias as they are read. 6 queries x 2 vectors x 2 planes = 24 sums, 2 vectors of rows and both planes of a query. */
#define CODE_SIGNED      1
#define CODE_LANES       4
#define CODE_QUERIES     6
#define CODE_ROWS        2
#define CODE_ROWS_SINGLE 4
#define CODE_FEW         2
#define CODE_PARTS       1
#define CODE_RATE        32 /* a guess */

typedef int8x16_t code_part;
typedef struct code_sum {
    int32x4_t low, high;
} code_sum;

static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    (void)part;
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), vdupq_n_u8(KITH_CODE_BIAS)));
}
static inline code_part code_part_load(const uint8_t *at) {
    return code_part_of(at, 0);
}
static inline void code_part_store(code_part part, uint8_t *at) {
    vst1q_u8(at, veorq_u8(vreinterpretq_u8_s8(part), vdupq_n_u8(KITH_CODE_BIAS)));
}
static inline code_sum code_sum_start(int32_t start) {
    return (code_sum){vdupq_n_s32(start), vdupq_n_s32(0)};
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    (void)part;
    int8x8_t planes = vreinterpret_s8_s32(vld1_s32(words));
    sum.low = vdotq_lane_s32(sum.low, rows, planes, 0);
    sum.high = vdotq_lane_s32(sum.high, rows, planes, 1);
    return sum;
}
static inline vector code_sum_finish(code_sum sum) {
    return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(sum.high, 7), sum.low));
}
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    const code_part row = code_part_load(codes);
    sum.low = vdotq_s32(sum.low, row, vreinterpretq_s8_s32(vld1q_s32(words)));
    sum.high = vdotq_s32(sum.high, row, vreinterpretq_s8_s32(vld1q_s32(words + CODE_LANES)));
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    return vaddvq_s32(vaddq_s32(vshlq_n_s32(sum.high, 7), sum.low));
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    code_planes_pack(levels, words_out);
}

#define BASE         kith_cpu_neon
#define BASE_LEAVES  kith_cpu_neon_leaves
#define BACKEND      kith_cpu_neondot
#define BACKEND_NAME "neondot"
#include "kernels/cpu/cpu_codes_only.inc"
