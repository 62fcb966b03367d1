/* What libkith_cuda.so gives: one exported function, kith_cuda_plugin_table, that returns a versioned table.
 * The plugin is loaded with dlopen (kernels/cuda_loader.h), so one package runs on machines with and without
 * a GPU. It links nothing of kith: only this header and the plain types it names are shared.
 *
 * Memory of the device has categories, and is asked for before it is used: what would go over the device's limit, or
 * what CUDA refuses, is NO_MEMORY and changes nothing. A search takes none: its worker got all it may use when the
 * device was opened, and its shape decides how that is cut up.
 *
 * Threads: a worker serves one search at a time, one thread uploads at a time; the caller sees to both. All else may
 * be called by any thread at any time. Work of a worker is ordered by its stream; nothing waits for the device but the
 * calls that say so, and none of them for more than its own work.
 * Ownership: open makes a device, upload a segment; close and release end them. What a call is given is borrowed for
 * the call. */
#ifndef KITH_KERNELS_CUDA_CUDA_PLUGIN_H
#define KITH_KERNELS_CUDA_CUDA_PLUGIN_H

#include "kernels/compute.h"

/* Raised with every change of the table; a loader takes exactly its own. */
#define KITH_CUDA_PLUGIN_VERSION 3u
#define KITH_CUDA_PLUGIN_SYMBOL  "kith_cuda_plugin_table"

typedef struct kith_cuda_device kith_cuda_device;
typedef struct kith_cuda_segment kith_cuda_segment;

/* What device memory is for. */
typedef enum kith_cuda_memory {
    KITH_CUDA_MEMORY_CODES,
    KITH_CUDA_MEMORY_VECTORS,
    KITH_CUDA_MEMORY_QUERIES, /* of workers: what a search is given */
    KITH_CUDA_MEMORY_RESULTS, /* of workers: what it answers */
    KITH_CUDA_MEMORY_SCRATCH, /* of workers: rows that survive the scan, and their scores */
    KITH_CUDA_MEMORY_COUNT,
} kith_cuda_memory;

/* How codes are scanned. The answers are the same. */
typedef enum kith_cuda_scan {
    KITH_CUDA_SCAN_AUTO,
    KITH_CUDA_SCAN_DP4A, /* plain CUDA */
    KITH_CUDA_SCAN_MMA, /* tensor cores through mma.sync, sm_80 and later; shapes that do not suit it use dp4a */
    KITH_CUDA_SCAN_WGMMA, /* tensor cores through wgmma, sm_90 alone, for batches of any size; else as auto */
} kith_cuda_scan;

typedef struct kith_cuda_device_options {
    uint32_t device_index;
    uint32_t worker_count;   /* searches at a time */
    size_t memory_bytes_max; /* of all categories together; 0: nine tenths of what is free now */
    size_t
        worker_queries_bytes; /* each worker's share, by category; the first two again in pinned host memory */
    size_t worker_results_bytes;
    size_t worker_scratch_bytes;
    size_t upload_bytes; /* each of the two pinned buffers that uploads go through */
    kith_cuda_scan scan;
} kith_cuda_device_options;

/* Exact scores of chosen rows for a batch of queries, in the f64 arithmetic of compute.h: the bits of ref.
 * Pointers d_* are device memory. */
typedef struct kith_cuda_rescore_job {
    const void *d_vectors;         /* [row_count][dim] of type, row-major */
    const float *d_queries;        /* [query_count][dim] f32, row-major */
    const uint32_t *d_row_numbers; /* [query_count][rows_per_query_max]; each below row_count */
    const uint32_t
        *d_row_counts;       /* [query_count], how many of them are used; above the most counts as the most */
    double *d_closeness_out; /* [query_count][rows_per_query_max] */
    uint32_t dim;
    uint32_t query_count;
    uint32_t rows_per_query_max;
    uint32_t blocks_per_query; /* of threads, each 32 rows at a time; 0: enough for all rows at once */
    kith_vector_type type;
    kith_metric metric;
    void *stream; /* cudaStream_t */
} kith_cuda_rescore_job;

/* A coded query as a scan reads it (kith_code_query without its levels), and the closeness below which rows may be
 * left out. */
typedef struct kith_cuda_query {
    double constant, inverse, slack;
    double floor;
    float error_weight, tail_weight, offset_weight, lead_tail_weight;
} kith_cuda_query;

/* Top k of some queries over a part of a resident segment, by its codes. The arrays of queries are indexed by
 * query_numbers[i], i < query_count. All memory is the host's. */
typedef struct kith_cuda_search_job {
    const kith_cuda_segment *segment;
    uint32_t worker;
    uint32_t row_begin, row_end;
    const uint64_t *dead;           /* bits up to row_end, or NULL, as kith_rows */
    const uint64_t *allow;          /* likewise */
    const float *queries;           /* [][dim] */
    const int16_t *levels;          /* [][code_dim] */
    const kith_cuda_query *weights; /* [] */
    const uint32_t *query_numbers;  /* [query_count] */
    uint32_t query_count;           /* at most search_queries_max */
    uint32_t k;
    kith_row_hit *hits_out; /* [][k], best first, ties by row number */
    uint32_t
        *counts_out;    /* []; UINT32_MAX: more rows survived than there is room for, hits_out has nothing */
    double *floors_out; /* []; then a closeness that k rows reach; else the query's floor or better */
    uint64_t survivors; /* added to: rows that the last scan kept */
    uint64_t rescored;  /* added to: rows that were scored */
} kith_cuda_search_job;

typedef struct kith_cuda_plugin {
    uint32_t version;
    uint32_t table_bytes;
    /* Devices that can be used; UNAVAILABLE with CUDA's own reason when there is no driver or no device. */
    kith_status (*device_count)(uint32_t *count_out, kith_err *err);
    /* Queues one kernel on job->stream. INVALID for shapes outside the limits, INTERNAL when CUDA refuses the
     * launch. */
    kith_status (*rescore)(const kith_cuda_rescore_job *job, kith_err *err);

    /* UNAVAILABLE: CUDA says no; NO_MEMORY: the workers' memory is not to be had. */
    kith_status (*device_open)(
        const kith_cuda_device_options *options, kith_cuda_device **device_out, kith_err *err);
    /* Waits for the device's work. Segments must be released before. Accepts NULL. */
    void (*device_close)(kith_cuda_device *device);
    /* Bytes in use now, by category; the return value is the most of all together. */
    size_t (*device_memory)(const kith_cuda_device *device, size_t used_out[KITH_CUDA_MEMORY_COUNT]);

    /* Copies vectors and codes of all rows to the device and waits for that. NO_MEMORY: they do not fit; INTERNAL:
     * CUDA failed. */
    kith_status (*segment_upload)(
        kith_cuda_device *device, const kith_rows *rows, kith_cuda_segment **segment_out, kith_err *err);
    /* Accepts NULL. No search may use it any more. */
    void (*segment_release)(kith_cuda_device *device, kith_cuda_segment *segment);

    /* Queries that one search may have over this segment; 0: none, k or the vectors are too large for the workers. */
    uint32_t (*search_queries_max)(
        const kith_cuda_device *device, const kith_cuda_segment *segment, uint32_t k);
    /* Waits for the answer. UNIMPLEMENTED: the shape is not for this device; INTERNAL: CUDA failed, and the device
     * is not to be used again. */
    kith_status (*search)(kith_cuda_device *device, kith_cuda_search_job *job, kith_err *err);
} kith_cuda_plugin;

typedef const kith_cuda_plugin *(*kith_cuda_plugin_table_fn)(void);

#endif
