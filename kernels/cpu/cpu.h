/* The CPU backends, one per ISA. Private to kernels/; others ask kith_compute_cpu_list.
 *
 * How top_k works, on every ISA (the same plain C in cpu_scan.c; an ISA file gives only the leaves below):
 *
 *   scan      tiles of up to 64 live rows, read once for a group of queries; per (row, query) one f32 sum.
 *   filter    that sum gives an interval [lower, upper] which is proven (cpu_bound.c) to hold the closeness
 * that rescore would compute. Rows with upper < threshold are dropped; the others become candidates.
 *   threshold the k-th best `lower` seen so far for the query, or better; it only rises.
 *   rescore   makes the scores of the surviving candidates, in f64, in the fixed order of compute.h; k are
 * selected.
 *
 * So the f32 arithmetic decides how much work there is, never what the answer is. A row whose f32 sum
 * overflows has no interval (NaN) and is kept. Where intervals are too wide to tell rows apart
 * (cpu_candidates.c), the query's candidates are rescored as they come, and its threshold becomes the k-th
 * best exact closeness.
 *
 * Threads: a scan belongs to one call; nothing here is shared. Ownership: all memory is the job's: its scratch, and its kept
 * queries. */
#ifndef KITH_KERNELS_CPU_CPU_H
#define KITH_KERNELS_CPU_CPU_H

#include "kernels/compute.h"

enum {
    CPU_TILE_ROWS_MAX = 64,
    CPU_ROW_BLOCK = 4,       /* rows that the sums leaf takes at a time */
    CPU_QUERY_BLOCK_MAX = 6, /* queries, likewise; the most of any ISA */
    CPU_LANES_MAX = 16,
};

/* Live rows that are scanned together, as f32. Entries from row_count on repeat or are stale: computed, not
 * used. */
typedef struct cpu_tile {
    _Alignas(64) float norms[CPU_TILE_ROWS_MAX]; /* sum x*x; l2 */
    float reach[CPU_TILE_ROWS_MAX];              /* what a row's error grows with (cpu_bound.h) */
    float scale[CPU_TILE_ROWS_MAX];              /* 1 / |x|; cosine */
    const float *rows[CPU_TILE_ROWS_MAX];        /* [dim_padded] each */
    uint32_t row_numbers[CPU_TILE_ROWS_MAX];
    uint32_t row_count;
} cpu_tile;

/* |approximate - exact| <= error_slope * reach(row) + error_floor; the rest turns sums into closeness. */
typedef struct cpu_bound {
    float error_slope;
    float error_floor;
    float query_norm;  /* sum q*q; l2 */
    float query_scale; /* 1 / |q|; cosine */
} cpu_bound;

/* One query in a scan. */
typedef struct cpu_query {
    const float *query; /* [dim], the caller's */
    double floor;       /* exact closeness below which rows are left out */
    cpu_bound bound;
    float threshold; /* rows with upper < threshold are out */
    bool exact;      /* candidates are rescored as they come; hits is a heap, worst first */
    uint32_t candidate_count;
    float *candidate_lower; /* [capacity] */
    float *candidate_upper; /* [capacity] */
    uint32_t *candidate_rows;
    kith_row_hit *hits; /* [k], the caller's output */
    uint32_t hit_count;
} cpu_query;

/* sums_out [query_count][64]: sum of q*x, or of |q-x|, for `query_count` (1..query_block) padded queries, one
 * after the other, and the first `row_count` (a multiple of 4) rows. */
typedef void (*cpu_sums_fn)(const float *queries, uint32_t query_count, const float *const *rows,
    uint32_t row_count, uint32_t dim_padded, float (*sums_out)[CPU_TILE_ROWS_MAX]);

/* What an ISA file provides: arithmetic only. */
typedef struct cpu_leaves {
    const kith_compute_ops *ops;       /* the backend's own table */
    const struct cpu_code_leaf *codes; /* cpu_codes.h; NULL: rows are scanned as f32 */
    uint32_t lanes;                    /* f32 lanes of a vector; dim_padded is a multiple */
    uint32_t query_block;
    cpu_sums_fn products;
    cpu_sums_fn differences;
    /* sums_out [row_count]: of q*x, for one query and rows that lie anywhere but are on their way to the cache; each
     * sum over 2 or 4 times the lanes. */
    void (*products_apart)(const float *query, const float *const *rows, uint32_t row_count,
        uint32_t dim_padded, float *sums_out);
    /* Appends the tile's rows whose upper is not below the query's threshold to its candidates; room for 64
     * is there. */
    void (*filter)(kith_metric metric, const float *sums, const cpu_tile *tile, cpu_query *query);
    /* One stored row as f32, zeros from dim to dim_padded. */
    void (*widen)(
        const void *stored, kith_vector_type type, uint32_t dim, uint32_t dim_padded, float *row_out);
    void (*rescore)(const kith_rows *rows, const float *query, const uint32_t *row_numbers,
        uint32_t row_count, double *closeness_out);
} cpu_leaves;

kith_status cpu_top_k(const cpu_leaves *leaves, const kith_top_k_job *job, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err);
size_t cpu_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k);

/* May be looked at on any machine; only kith_cpu_can_run says whether the operations may be called. */
extern const kith_compute_ops kith_cpu_avx2;
extern const kith_compute_ops kith_cpu_avxvnni;
extern const kith_compute_ops kith_cpu_avx512;
extern const kith_compute_ops kith_cpu_avx512vnni;
extern const kith_compute_ops kith_cpu_neon;
extern const kith_compute_ops kith_cpu_neondot;

/* True when processor and operating system support everything that backend `name` was compiled for. */
bool kith_cpu_can_run(const char *name);

#endif
