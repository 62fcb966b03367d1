/* Compute: one table of operations that every backend fills. `ref` (scalar, obvious) is the meaning; `cpu`
 * (one ISA a file, chosen at run time) and `cuda` (a plugin) must give the same bits. A backend may decline a
 * shape (KITH_UNIMPLEMENTED): the caller then uses the next one.
 *
 * Closeness is what ranking uses everywhere: an f64, larger is nearer.
 *   ip      sum q*x
 *   cosine  sum q*x / (sqrt(sum q*q) * sqrt(sum x*x))
 *   l2      -(sum (q-x)^2)      the API shows sqrt(-closeness)
 *   l1      -(sum |q-x|)        the API shows -closeness
 * q is the f32 query, x the stored value widened to f32. Each sum is made in f64 in a fixed order: term i is
 * added to lane i mod 8 in rising i; then ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)). q-x is rounded to f64 before
 * it is squared or its sign dropped; nothing is fused (a product of two f32 is exact in f64, so FMA could not
 * change ip). This one arithmetic is why answers are bit-identical on every backend, batch size and
 * segmentation.
 *
 * Threads: every operation may run on any thread; scratch belongs to one call at a time.
 * Ownership: backends live as long as the process; nothing here allocates on the search path. */
#ifndef KITH_KERNELS_COMPUTE_H
#define KITH_KERNELS_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/err.h"
#include "host/base/vector_types.h"

struct kith_codes;
struct kith_deferred;

typedef struct kith_row_hit {
    double closeness;
    uint32_t row;
} kith_row_hit;

/* Rows of one vector field, all of one segment: what a scan reads. */
typedef struct kith_rows {
    const void *vectors;  /* [row_count][dim] of `type`, row-major, host, 64-byte aligned start */
    const float *norms;   /* [row_count] sum x*x rounded to f32 (kith_compute_ops.norms), host */
    const uint64_t *dead; /* bits [row_count], 1 = never returned; NULL: none */
    const uint64_t
        *allow; /* bits [row_count], 0 = never returned; NULL: all allowed (filters, missing fields) */
    const struct kith_codes *codes; /* of the same rows (kernels/codes/codes.h), or NULL: none were made */
    uint32_t row_count;
    uint32_t dim;
    kith_vector_type type;
    kith_metric metric;
} kith_rows;

/* What a backend made of some queries for the codes of some rows, in memory of the caller: the first job that has it fills it,
 * later ones use it. They have the same queries, the same number of them, and the same rows->codes. */
typedef struct kith_kept_queries {
    void *memory; /* kept_bytes(...) bytes, 64-byte aligned */
    size_t bytes;
    const void *maker; /* who filled it; NULL: nobody yet. The caller's to set to NULL */
} kith_kept_queries;

typedef struct kith_top_k_job {
    const kith_rows *rows;
    uint32_t row_begin, row_end; /* the part to look at */
    /* 0: all of it, in an order that the backend chooses. Otherwise one of several parts of a scan that sample it: of its words
     * of 64 rows, from row_begin's on, only every word_step-th, but for every word_done-th (0: none), which have been looked
     * at. A device may decline parts. */
    uint32_t word_step, word_done;
    /* Hits are wanted for a guess only: rows of the part that the backend takes for the best, with what they score at least.
     * Better ones may be missing, so the rows must be looked at again. */
    bool sample;
    const float *queries; /* [query_count][dim] f32, row-major, host */
    uint32_t query_count;
    uint32_t k;
    /* [query_count], NULL: -inf. Rows whose closeness is below it may be left out: k better ones are known
     * elsewhere in the same view. */
    const double *floors;
    /* [query_count], NULL: none. Rows that a backend puts off (kernels/deferred.h) are no hits: each of the deferred->k best rows of
     * several jobs was put off by one, or is a hit of it, unless it has k better hits. A backend may put off none. Only where
     * word_step is given, and not of samples. */
    struct kith_deferred *deferred;
    uint32_t origin; /* which rows these are, for those that are put off */
    /* Orders rows of equal closeness (<0: a first); NULL: by row number, which in sealed segments is id
     * order. */
    int (*tie_compare)(const void *ctx, uint32_t row_a, uint32_t row_b);
    const void *tie_ctx;
    kith_kept_queries *kept; /* or NULL: they are made anew */
    void *scratch;           /* scratch_bytes(...) bytes, 64-byte aligned */
    size_t scratch_bytes;
} kith_top_k_job;

/* What a job did, added to the caller's totals. */
typedef struct kith_top_k_stats {
    uint64_t rows_scanned;   /* rows x queries */
    uint64_t rows_coded;     /* of these, those whose codes were scanned */
    uint64_t code_survivors; /* of these, those that the codes' bound kept */
    uint64_t rows_rescored;  /* rows x queries that `rescore` scored */
    uint64_t wide_scans;     /* queries whose bounds failed and that went over to a wider scan */
} kith_top_k_stats;

typedef struct kith_compute_ops {
    const char
        *name; /* "ref", "cuda", or the ISA: "avx2", "avxvnni", "avx512", "avx512vnni", "neon", "neondot" */

    /* Exact top k: hits_out [query_count][k], best first; counts_out [query_count] of them are filled. */
    kith_status (*top_k)(const kith_top_k_job *job, kith_row_hit *hits_out, uint32_t *counts_out,
        kith_top_k_stats *stats, kith_err *err);
    /* Scratch that top_k needs for these shapes; monotone in each argument. */
    size_t (*scratch_bytes)(uint32_t dim, uint32_t query_count, uint32_t k);
    /* What kith_kept_queries takes, monotone likewise. NULL: the backend keeps nothing. */
    size_t (*kept_bytes)(uint32_t dim, uint32_t query_count);
    /* closeness_out [row_count] of `query` [dim] and rows->vectors[row_numbers[i]]; ignores dead and allow.
     */
    void (*rescore)(const kith_rows *rows, const float *query, const uint32_t *row_numbers,
        uint32_t row_count, double *closeness_out);
    /* norms_out [row_count]: the f64 sum x*x in the fixed order, rounded to f32. vectors [row_count][dim] of
     * type. */
    void (*norms)(
        const void *vectors, kith_vector_type type, uint32_t dim, uint32_t row_count, float *norms_out);
    /* sums_out [query_count][row_count]: sum q*x in f32, in no fixed order: for work whose error is accounted for
     * (codes), never for scores. queries [query_count][stride] and rows [row_count][stride] with zeros from their
     * dim on; stride a multiple of 16. |sum - exact| <= kith_products_error(stride) |q| |x| + stride 2^-148. */
    void (*products)(const float *queries, uint32_t query_count, const float *rows, uint32_t row_count,
        uint32_t stride, float *sums_out);

    /* Components of codes that a batch's first look multiplies with a query's in a cycle: what the lengths of codes go by
     * (kernels/codes/codes_cost.c). 0: 32, as of AVX2. */
    uint32_t code_rate;

    /* Both or neither; NULL where rows are read where they lie (ref, CPU). attach: these rows, with codes and without
     * dead bits, do not change until they are detached, so they may be copied to where they are searched. Waits for the
     * copy. Rows that could not be copied are declined by top_k, as before the attach. */
    void (*attach)(const kith_rows *rows);
    /* The memory of the rows at this address goes away; no search of them is under way. */
    void (*detach)(const void *vectors);
} kith_compute_ops;

/* gamma_m (N. Higham, "Accuracy and Stability of Numerical Algorithms", lemma 3.1) for the longest chain of f32
 * roundings of any backend: at least four lanes, their tree, the product. */
static inline double kith_products_error(uint32_t stride) {
    double roundings = stride / 4 + 8;
    return roundings * 0x1p-24 / (1 - roundings * 0x1p-24);
}

/* The scalar meaning. */
const kith_compute_ops *kith_compute_ref(void);
/* Every CPU backend that this machine can run, best first, ref last; `*count_out` of them.
 * KITH_CPU_ISA=NAME in the environment (the name of one, as above) caps the list: it begins there. */
const kith_compute_ops *const *kith_compute_cpu_list(uint32_t *count_out);
/* The best CPU backend. */
const kith_compute_ops *kith_compute_cpu(void);

/* f32 -> stored type, round to nearest even. INVALID (component index and value in the message) when a
 * component is not finite, becomes infinite in f16 or bf16, or rounds outside -128..127 for i8. `stored_out`
 * [dim] of type. */
KITH_CHECK kith_status kith_vector_store(
    const float *values, uint32_t dim, kith_vector_type type, void *stored_out, kith_err *err);
/* Stored type -> f32, exact. */
void kith_vector_load(const void *stored, uint32_t dim, kith_vector_type type, float *values_out);

#endif
