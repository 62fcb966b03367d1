/* NEON on aarch64: 4 f32 lanes, 32 registers. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_neon_vector.h"

#define LANES       4
#define QUERY_BLOCK 6 /* 6 queries x 4 rows = 24 sums; with 6 queries' vectors and a row's, 31 registers */

/* Eight f64 lanes, as compute.h numbers them. */
typedef struct wide {
    float64x2_t lanes01, lanes23, lanes45, lanes67;
} wide;

static inline wide wide_zero(void) {
    float64x2_t zero = vdupq_n_f64(0);
    return (wide){zero, zero, zero, zero};
}
static inline wide wide_of(eight a) {
    return (wide){vcvt_f64_f32(vget_low_f32(a.low)), vcvt_high_f64_f32(a.low),
        vcvt_f64_f32(vget_low_f32(a.high)), vcvt_high_f64_f32(a.high)};
}
static inline wide wide_add(wide a, wide b) {
    return (wide){vaddq_f64(a.lanes01, b.lanes01), vaddq_f64(a.lanes23, b.lanes23),
        vaddq_f64(a.lanes45, b.lanes45), vaddq_f64(a.lanes67, b.lanes67)};
}
static inline wide wide_sub(wide a, wide b) {
    return (wide){vsubq_f64(a.lanes01, b.lanes01), vsubq_f64(a.lanes23, b.lanes23),
        vsubq_f64(a.lanes45, b.lanes45), vsubq_f64(a.lanes67, b.lanes67)};
}
static inline wide wide_mul(wide a, wide b) {
    return (wide){vmulq_f64(a.lanes01, b.lanes01), vmulq_f64(a.lanes23, b.lanes23),
        vmulq_f64(a.lanes45, b.lanes45), vmulq_f64(a.lanes67, b.lanes67)};
}
static inline wide wide_abs(wide a) {
    return (wide){vabsq_f64(a.lanes01), vabsq_f64(a.lanes23), vabsq_f64(a.lanes45), vabsq_f64(a.lanes67)};
}
static inline double wide_sum(wide a) {
    float64x2_t even = vaddq_f64(a.lanes01, a.lanes45); /* l0+l4, l1+l5 */
    float64x2_t odd = vaddq_f64(a.lanes23, a.lanes67);  /* l2+l6, l3+l7 */
    return vpaddd_f64(vaddq_f64(even, odd));
}

/* Codes: 4 rows a vector, as 16-bit numbers: part 0 is component 0 of the four rows and then component 1, part 1 the
 * components 2 and 3. A widening multiply-add takes one component with one level of the query. 6 queries x 4 vectors
 * = 24 sums, 4 parts of rows and the four levels of a query. */
#define CODE_LANES       4
#define CODE_QUERIES     6
#define CODE_ROWS        4
#define CODE_ROWS_SINGLE 4
#define CODE_FEW         2
#define CODE_PARTS       2

typedef int16x8_t code_part;
typedef int32x4_t code_sum;

static inline code_part code_part_of(const uint8_t *at, uint32_t part) {
    uint16x8_t four = vreinterpretq_u16_u8(vld1q_u8(at));
    uint16x8_t even = vandq_u16(four, vdupq_n_u16(255)), odd = vshrq_n_u16(four, 8);
    return vreinterpretq_s16_u16(part == 0 ? vuzp1q_u16(even, odd) : vuzp2q_u16(even, odd));
}
static inline code_part code_part_load(const uint8_t *at) {
    return vreinterpretq_s16_u8(vld1q_u8(at));
}
static inline void code_part_store(code_part part, uint8_t *at) {
    vst1q_u8(at, vreinterpretq_u8_s16(part));
}
static inline code_sum code_sum_start(int32_t start) {
    return vdupq_n_s32(start);
}
static inline code_sum code_sum_step(code_sum sum, code_part rows, const int32_t *words, uint32_t part) {
    int16x4_t levels = vreinterpret_s16_s32(vld1_s32(words));
    if (part == 0) {
        sum = vmlal_lane_s16(sum, vget_low_s16(rows), levels, 0);
        return vmlal_high_lane_s16(sum, rows, levels, 1);
    }
    sum = vmlal_lane_s16(sum, vget_low_s16(rows), levels, 2);
    return vmlal_high_lane_s16(sum, rows, levels, 3);
}
static inline vector code_sum_finish(code_sum sum) {
    return vcvtq_f32_s32(sum);
}
/* Pairs of components 0 and 1 of each four, and then of 2 and 3, as the levels lie. */
static inline code_sum code_row_step(code_sum sum, const uint8_t *codes, const int32_t *words) {
    uint8x16_t bytes = vld1q_u8(codes);
    uint32x4_t low = vreinterpretq_u32_u16(vmovl_u8(vget_low_u8(bytes)));
    uint32x4_t high = vreinterpretq_u32_u16(vmovl_high_u8(bytes));
    int16x8_t rows[] = {
        vreinterpretq_s16_u32(vuzp1q_u32(low, high)), vreinterpretq_s16_u32(vuzp2q_u32(low, high))};
    for (uint32_t part = 0; part < CODE_PARTS; part++) {
        int16x8_t by = vreinterpretq_s16_s32(vld1q_s32(words + (size_t)part * CODE_LANES));
        sum = vmlal_s16(sum, vget_low_s16(rows[part]), vget_low_s16(by));
        sum = vmlal_high_s16(sum, rows[part], by);
    }
    return sum;
}
static inline int32_t code_row_sum(code_sum sum) {
    return vaddvq_s32(sum);
}
static inline void code_pack(const int16_t *levels, int32_t *words_out) {
    memcpy(words_out, levels, 4 * sizeof *levels);
}

#define BACKEND        kith_cpu_neon
#define BACKEND_LEAVES kith_cpu_neon_leaves
#define BACKEND_NAME   "neon"
#include "kernels/cpu/cpu_leaves.inc"
