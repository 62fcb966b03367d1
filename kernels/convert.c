/* f32 <-> stored types. Narrowing rounds to nearest, ties to even, in integer arithmetic: the same on every
 * machine. */
#include "kernels/convert.h"

#include <math.h>

#include "kernels/compute.h"

static uint16_t f16_of_f32(float value) {
    uint32_t bits = kith_convert_bits_of_f32(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 65536 and above */
    if (magnitude < 0x38800000) {
        /* Below 2^-14 a half has steps of 2^-24, as a float has in [0.5, 1): adding 0.5 rounds to them. */
        float shifted = kith_convert_f32_of_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (kith_convert_bits_of_f32(shifted) - 0x3f000000));
    }
    uint32_t rounded = magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | rounded >> 13); /* 65520 and above carry into infinity */
}

static uint16_t bf16_of_f32(float value) {
    uint32_t bits = kith_convert_bits_of_f32(value);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static kith_status component_refuse(kith_err *err, uint32_t index, float value, const char *allowed) {
    return kith_err_set(err, KITH_INVALID, "component %u is %.9g, %s", index, (double)value, allowed);
}

static kith_status store_f16(const float *values, uint32_t dim, uint16_t *stored_out, kith_err *err) {
    for (uint32_t i = 0; i < dim; i++) {
        uint16_t half = f16_of_f32(values[i]);
        if ((half & 0x7c00) == 0x7c00) {
            return component_refuse(err, i, values[i], "which does not fit in f16 (largest 65504)");
        }
        memcpy(&stored_out[i], &half, sizeof half);
    }
    return KITH_OK;
}

static kith_status store_bf16(const float *values, uint32_t dim, uint16_t *stored_out, kith_err *err) {
    for (uint32_t i = 0; i < dim; i++) {
        uint16_t half = bf16_of_f32(values[i]);
        if ((half & 0x7f80) == 0x7f80) {
            return component_refuse(err, i, values[i], "which does not fit in bf16 (largest 3.38953139e+38)");
        }
        memcpy(&stored_out[i], &half, sizeof half);
    }
    return KITH_OK;
}

static kith_status store_i8(const float *values, uint32_t dim, int8_t *stored_out, kith_err *err) {
    for (uint32_t i = 0; i < dim; i++) {
        float rounded = rintf(values[i]);
        if (!(rounded >= -128.0f && rounded <= 127.0f)) {
            return component_refuse(err, i, values[i], "which does not fit in i8 (-128..127)");
        }
        stored_out[i] = (int8_t)rounded;
    }
    return KITH_OK;
}

kith_status kith_vector_store(
    const float *values, uint32_t dim, kith_vector_type type, void *stored_out, kith_err *err) {
    for (uint32_t i = 0; i < dim; i++) {
        if (!isfinite(values[i])) return component_refuse(err, i, values[i], "which is not a finite number");
    }
    switch (type) {
    case KITH_TYPE_F32:
        memcpy(stored_out, values, (size_t)dim * sizeof *values);
        return KITH_OK;
    case KITH_TYPE_F16:
        return store_f16(values, dim, stored_out, err);
    case KITH_TYPE_BF16:
        return store_bf16(values, dim, stored_out, err);
    case KITH_TYPE_I8:
        return store_i8(values, dim, stored_out, err);
    }
    return kith_err_set(err, KITH_INVALID, "vector type %d is not one of f32, f16, bf16, i8", (int)type);
}

void kith_vector_load(const void *stored, uint32_t dim, kith_vector_type type, float *values_out) {
    for (uint32_t i = 0; i < dim; i++)
        values_out[i] = kith_convert_load(stored, type, i);
}
