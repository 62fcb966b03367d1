/* One conformance case: rows and queries made from a seed, run on every backend of this machine and compared
 * with ref, bit for bit. */
#ifndef KITH_TESTS_KERNELS_KERNELS_CASE_H
#define KITH_TESTS_KERNELS_KERNELS_CASE_H

#include "kernels/codes/codes.h"
#include "kernels/compute.h"
#include "tests/lib/test_lib.h"

typedef enum case_data {
    DATA_NORMAL,    /* standard normal */
    DATA_INTEGERS,  /* -2..2: many exact ties */
    DATA_EQUAL,     /* every row the same */
    DATA_FEW,       /* rows drawn from five vectors */
    DATA_OFFSET,    /* far from the origin, tiny differences: f32 dot products cancel */
    DATA_SUBNORMAL, /* around 1e-40 */
    DATA_HUGE,      /* up to the largest f32: f32 sums overflow */
    DATA_TINY,      /* around 2e-22: f32 products underflow into subnormals */
    DATA_FAR_QUERY, /* queries 65,536 times as long as rows: |q|^2 swallows the differences */
    DATA_SCALES,    /* each row at a scale of its own, 2^-60 to 2^60 */
    DATA_COUNT,
} case_data;

typedef enum case_codes {
    CODES_NONE,
    CODES_AXES,  /* a code for each component */
    CODES_BASIS, /* random orthonormal directions, about half as many as components */
    CODES_COUNT,
} case_codes;

/* Parts of a scan (kith_top_k_job.word_step). */
typedef enum case_words {
    WORDS_ALL,
    WORDS_FIRST,  /* every fourth */
    WORDS_SECOND, /* every second but those */
    WORDS_REST,   /* all but every fourth */
    WORDS_COUNT,
} case_words;

typedef struct case_shape {
    kith_metric metric;
    kith_vector_type type;
    case_data data;
    uint32_t dim;
    uint32_t row_count;
    uint32_t query_count;
    uint32_t k;
    case_codes codes;
    bool dead;   /* a third of the rows, and a run of 200 */
    bool allow;  /* a half of them */
    bool floors; /* about the middle of each query's hits */
    bool reversed_ties;
    bool part; /* row_begin and row_end inside the rows */
    case_words words;
    uint64_t seed;
} case_shape;

typedef struct kernels_case {
    case_shape shape;
    kith_rows rows;
    kith_top_k_job job; /* without scratch */
    void *vectors;      /* exactly as large as they are, so that a read past the end is found */
    float *norms;
    uint64_t *dead;
    uint64_t *allow;
    float *queries;
    double *floors;
    kith_codes codes;
    void *code_memory[4]; /* blocks, mean, directions, codes by row */
} kernels_case;

/* The backends to test: this machine's CPU list without ref, and the emulated ones. */
const kith_compute_ops *const *case_backends(uint32_t *count_out);

void case_create(const case_shape *shape, kernels_case *out);
void case_destroy(kernels_case *c);
/* Whether the job may return the row. */
bool case_row_is_candidate(const kernels_case *c, uint32_t row);
/* Codes of the case's rows, as shape.codes says, half of the time with codes by row; rows.codes is set. */
void case_codes_make(kernels_case *c, kith_rng *rng);
/* The case is without codes again. */
void case_codes_free(kernels_case *c);
/* Runs `ops` with scratch of exactly scratch_bytes. */
void case_top_k(const kernels_case *c, const kith_compute_ops *ops, kith_row_hit *hits_out,
    uint32_t *counts_out, kith_top_k_stats *stats_out);
/* False: of this case the backend would do what another one does. */
bool case_applies(const kernels_case *c, const kith_compute_ops *ops);
/* Rows and scores, to the bit. */
bool case_hits_equal(const kernels_case *c, const kith_row_hit *a, const uint32_t *a_counts,
    const kith_row_hit *b, const uint32_t *b_counts);
/* Fails the test with the shape. */
void case_fail(const case_shape *shape, const char *backend, const char *what);
/* Every backend's top_k, rescore and norms give ref's bits; fails the test with the shape if not. */
void case_check(const case_shape *shape);

#endif
