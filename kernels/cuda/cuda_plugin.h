/* What libkith_cuda.so gives: one exported function, kith_cuda_plugin_table, that returns a versioned table.
 * The plugin is loaded with dlopen (kernels/cuda_loader.h), so one package runs on machines with and without
 * a GPU. It links nothing of kith: only this header and the plain types it names are shared.
 *
 * Threads: any; work is ordered by the stream it is given. Nothing here allocates device memory or waits for
 * a device, except `device_count`, which starts the CUDA runtime. */
#ifndef KITH_KERNELS_CUDA_CUDA_PLUGIN_H
#define KITH_KERNELS_CUDA_CUDA_PLUGIN_H

#include "kernels/compute.h"

/* Raised with every change of the table; a loader takes exactly its own. */
#define KITH_CUDA_PLUGIN_VERSION 1u
#define KITH_CUDA_PLUGIN_SYMBOL  "kith_cuda_plugin_table"

/* Exact scores of chosen rows for a batch of queries, in the f64 arithmetic of compute.h: the bits of ref.
 * Pointers d_* are device memory. */
typedef struct kith_cuda_rescore_job {
    const void *d_vectors;         /* [row_count][dim] of type, row-major */
    const float *d_queries;        /* [query_count][dim] f32, row-major */
    const uint32_t *d_row_numbers; /* [query_count][rows_per_query_max]; each below row_count */
    const uint32_t *d_row_counts;  /* [query_count], how many of them are used; at most rows_per_query_max */
    double *d_closeness_out;       /* [query_count][rows_per_query_max] */
    uint32_t dim;
    uint32_t query_count;
    uint32_t rows_per_query_max;
    kith_vector_type type;
    kith_metric metric;
    void *stream; /* cudaStream_t */
} kith_cuda_rescore_job;

typedef struct kith_cuda_plugin {
    uint32_t version;
    uint32_t table_bytes;
    /* Devices that can be used; UNAVAILABLE with CUDA's own reason when there is no driver or no device. */
    kith_status (*device_count)(uint32_t *count_out, kith_err *err);
    /* Queues one kernel on job->stream. INVALID for shapes outside the limits, INTERNAL when CUDA refuses the
     * launch. */
    kith_status (*rescore)(const kith_cuda_rescore_job *job, kith_err *err);
} kith_cuda_plugin;

typedef const kith_cuda_plugin *(*kith_cuda_plugin_table_fn)(void);

#endif
