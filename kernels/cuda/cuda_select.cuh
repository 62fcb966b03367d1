/* From rows and their scores to the k nearest, and to the threshold that they prove. */
#ifndef KITH_KERNELS_CUDA_CUDA_SELECT_CUH
#define KITH_KERNELS_CUDA_CUDA_SELECT_CUH

#include "kernels/cuda/cuda_launch.h"

typedef struct cuda_select_job {
    const double *d_closeness; /* [query_count][capacity] */
    const uint32_t *d_rows;    /* likewise; the rows of a query differ */
    const uint32_t *d_counts;  /* [query_count]; above capacity: only so many are there */
    const kith_cuda_query *d_weights;
    uint32_t query_count, capacity, k;
    double *d_floors;    /* [query_count], in and out: raised to the k-th best closeness where there are k */
    float *d_thresholds; /* [query_count], out: the floor as the scan compares it */
    kith_row_hit
        *d_hits; /* [query_count][k], out, best first, ties by row number; NULL: floors and thresholds only */
    uint32_t *d_hit_counts;
    cudaStream_t stream;
} cuda_select_job;

/* Floors of the queries' weights, and their thresholds: what a search starts with. */
kith_status cuda_select_start(const cuda_select_job *job, kith_err *err);
kith_status cuda_select(const cuda_select_job *job, kith_err *err);

#endif
