/* The directions along which rows differ most. Private to kernels/codes.
 *
 * Threads: any, on data of their own. */
#ifndef KITH_KERNELS_CODES_CODES_DIRECTIONS_H
#define KITH_KERNELS_CODES_CODES_DIRECTIONS_H

#include "kernels/compute.h"

/* rows [row_count][stride], components about 1 at most and zeros from dim on; `shift` [stride] or NULL joins them as
 * if half of all rows were there: see codes_train.c. directions_out [direction_count][stride], orthonormal but for
 * rounding to f32, by falling variance; direction_count <= dim. The same bits for the same backend and rows. */
KITH_CHECK kith_status code_directions_find(const kith_compute_ops *ops, const float *rows,
    uint32_t row_count, uint32_t dim, const float *shift, uint32_t direction_count, float *directions_out,
    kith_err *err);
/* directions [count][stride] <- orthonormal ones of the same space, none of which is more of it than others. Components along
 * those with the largest variance are the largest, and the step of a row's code, or of a query's level, is a part of its
 * largest component: mixed, steps are a quarter smaller, and so are the errors in the bound. */
KITH_CHECK kith_status code_directions_mix(float *directions, uint32_t count, uint32_t dim, kith_err *err);
/* At least the Frobenius norm, and so the 2-norm, of B B^T - I for B = directions [count][stride]. */
double code_directions_defect(const float *directions, uint32_t count, uint32_t stride);

#endif
