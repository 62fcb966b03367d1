/* The vectors of NEON on aarch64, where every processor has it: 4 f32 or 2 f64 a register, 32 registers. Included by
 * the files of its backends only. */
#ifndef KITH_KERNELS_CPU_CPU_NEON_VECTOR_H
#define KITH_KERNELS_CPU_CPU_NEON_VECTOR_H

#include <arm_neon.h>
#include <stdint.h>

#include "host/base/vector_types.h"

typedef float32x4_t vector;

static inline vector vector_zero(void) {
    return vdupq_n_f32(0);
}
static inline vector vector_set(float value) {
    return vdupq_n_f32(value);
}
static inline vector vector_load(const float *at) {
    return vld1q_f32(at);
}
static inline void vector_store(float *at, vector a) {
    vst1q_f32(at, a);
}
static inline vector vector_add(vector a, vector b) {
    return vaddq_f32(a, b);
}
static inline vector vector_sub(vector a, vector b) {
    return vsubq_f32(a, b);
}
static inline vector vector_mul(vector a, vector b) {
    return vmulq_f32(a, b);
}
/* a * b + c */
static inline vector vector_fma(vector a, vector b, vector c) {
    return vfmaq_f32(c, a, b);
}
static inline vector vector_abs(vector a) {
    return vabsq_f32(a);
}
/* A bit a lane: not (a < b), so set where either is NaN. */
static inline uint32_t vector_not_less(vector a, vector b) {
    const uint32x4_t bits = {1, 2, 4, 8};
    return vaddvq_u32(vbicq_u32(bits, vcltq_f32(a, b)));
}
/* The four sums of lanes. */
static inline void vector_sum_4(vector a, vector b, vector c, vector d, float *sums_out) {
    vst1q_f32(sums_out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}

/* Eight stored components as f32. */
typedef struct eight {
    float32x4_t low, high;
} eight;

static inline eight eight_zero(void) {
    return (eight){vdupq_n_f32(0), vdupq_n_f32(0)};
}
static inline eight eight_load(const float *at) {
    return (eight){vld1q_f32(at), vld1q_f32(at + 4)};
}
static inline void eight_store(float *at, eight a) {
    vst1q_f32(at, a.low);
    vst1q_f32(at + 4, a.high);
}
/* The first four. */
static inline void eight_store_low(float *at, eight a) {
    vst1q_f32(at, a.low);
}

/* Loads by bytes: stored vectors are aligned to nothing. */
static inline __attribute__((always_inline)) eight load_8(const void *stored, kith_vector_type type) {
    switch (type) {
    case KITH_TYPE_F16: {
        float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(stored));
        return (eight){vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
    }
    case KITH_TYPE_BF16: {
        uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(stored));
        return (eight){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(halves), 16)),
            vreinterpretq_f32_u32(vshll_high_n_u16(halves, 16))};
    }
    case KITH_TYPE_I8: {
        int16x8_t words = vmovl_s8(vld1_s8(stored));
        return (eight){vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))};
    }
    case KITH_TYPE_F32:
        break;
    }
    uint8x16_t low = vld1q_u8(stored), high = vld1q_u8((const uint8_t *)stored + 16);
    return (eight){vreinterpretq_f32_u8(low), vreinterpretq_f32_u8(high)};
}

#endif
