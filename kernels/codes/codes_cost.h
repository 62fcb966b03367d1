/* How many components a code should have. Private to kernels/codes.
 *
 * Threads: any, on data of their own. */
#ifndef KITH_KERNELS_CODES_CODES_COST_H
#define KITH_KERNELS_CODES_CODES_COST_H

#include "kernels/compute.h"

/* A sample as the codes see it: rows [row_count][stride], each x - mean (x/|x| - mean under cosine) times `scale`,
 * the power of two that brings the largest component near 1; mean [stride] times `scale` too. */
typedef struct code_sample {
    kith_metric metric;
    kith_vector_type type;
    uint32_t dim, stride, row_count;
    uint32_t of_rows; /* that it was taken from */
    double scale;
    float *mean;
    float *rows;
} code_sample;

typedef struct code_choice {
    bool useful;       /* false: a scan of vectors is cheaper */
    bool axes;         /* the plain 8-bit code of each component */
    uint32_t code_dim; /* else that many leading directions */
    uint32_t lead_dim; /* of which a scan looks at these first */
} code_choice;

/* directions [direction_count][stride], orthonormal; direction_count a multiple of 16, 0 for none. Puts the rows in
 * another order. */
KITH_CHECK kith_status code_choice_make(const kith_compute_ops *ops, code_sample *sample,
    const float *directions, uint32_t direction_count, code_choice *choice_out, kith_err *err);

#endif
