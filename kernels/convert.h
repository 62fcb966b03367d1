/* One stored component <-> f32. Private to kernels/; callers outside use kith_vector_store and
 * kith_vector_load. */
#ifndef KITH_KERNELS_CONVERT_H
#define KITH_KERNELS_CONVERT_H

#include <stdint.h>
#include <string.h>

#include "host/base/vector_types.h"

static inline float kith_convert_f32_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline uint32_t kith_convert_bits_of_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* IEEE 754-2008 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static inline float kith_convert_f16_load(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact */
        return kith_convert_f32_of_bits(sign | kith_convert_bits_of_f32((float)fraction * 0x1p-24f));
    }
    if (exponent == 31) return kith_convert_f32_of_bits(sign | 0x7f800000 | fraction << 13);
    return kith_convert_f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}
static inline float kith_convert_bf16_load(uint16_t half) {
    return kith_convert_f32_of_bits((uint32_t)half << 16);
}

/* Component `index` of a stored vector. */
static inline float kith_convert_load(const void *stored, kith_vector_type type, size_t index) {
    const uint8_t *at = (const uint8_t *)stored + index * kith_vector_type_bytes(type);
    if (type == KITH_TYPE_F32) {
        float value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    if (type == KITH_TYPE_I8) return (float)(int8_t)*at;
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return type == KITH_TYPE_F16 ? kith_convert_f16_load(half) : kith_convert_bf16_load(half);
}

#endif
