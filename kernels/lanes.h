/* Sums in f64, made in lanes: SIMD may then be used without changing their order, and no addition waits for the one
 * before. The tree over the lanes is that of scores, too (compute.h). */
#ifndef KITH_KERNELS_LANES_H
#define KITH_KERNELS_LANES_H

#include <stdint.h>

enum { KITH_LANES = 8 };

static inline double kith_lanes_sum(const double lanes[KITH_LANES]) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/* |values|^2 */
static inline double kith_square_sum(const float *values, uint32_t count) {
    double lanes[KITH_LANES] = {0};
    const uint32_t whole = count / KITH_LANES * KITH_LANES;
    for (uint32_t i = 0; i < whole; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++)
            lanes[lane] += (double)values[i + lane] * values[i + lane];
    }
    for (uint32_t i = whole; i < count; i++)
        lanes[i - whole] += (double)values[i] * values[i];
    return kith_lanes_sum(lanes);
}

#endif
