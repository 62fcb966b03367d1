/* f64 to f32 with a known side: what proven bounds are stored with. Private to kernels/. */
#ifndef KITH_KERNELS_ROUNDING_H
#define KITH_KERNELS_ROUNDING_H

#include <math.h>

static inline float kith_round_down(double value) {
    float rounded = (float)value;
    return (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
}

static inline float kith_round_up(double value) {
    float rounded = (float)value;
    return (double)rounded < value ? nextafterf(rounded, INFINITY) : rounded;
}

#endif
