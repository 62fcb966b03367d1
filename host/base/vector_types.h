/* The two words that every layer from kernels to API shares: how near is measured, and how components are
 * stored. The numbers are written in files and messages: never reuse one. */
#ifndef KITH_BASE_VECTOR_TYPES_H
#define KITH_BASE_VECTOR_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef enum kith_metric {
    KITH_METRIC_L2 = 1,     /* Euclidean distance; smaller is nearer */
    KITH_METRIC_IP = 2,     /* inner product; larger is nearer */
    KITH_METRIC_COSINE = 3, /* cosine of the angle; larger is nearer; zero vectors are refused */
    KITH_METRIC_L1 = 4,     /* Manhattan distance; smaller is nearer */
} kith_metric;

typedef enum kith_vector_type {
    KITH_TYPE_F32 = 1,
    KITH_TYPE_F16 = 2,  /* IEEE 754 binary16 */
    KITH_TYPE_BF16 = 3, /* the upper half of an f32 */
    KITH_TYPE_I8 = 4,   /* integers -128..127 */
} kith_vector_type;

static inline size_t kith_vector_type_bytes(kith_vector_type type) {
    return type == KITH_TYPE_F32 ? 4 : type == KITH_TYPE_I8 ? 1 : 2;
}

#endif
