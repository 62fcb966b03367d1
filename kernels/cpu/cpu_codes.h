/* Searching by codes (kernels/codes/codes.h) on a CPU: what cpu_codes.c shares with the leaf of each ISA.
 *
 * A group of queries sees every block of 32 rows once. The leaf makes the integer dot products of the block with
 * each query, turns them into upper bounds and appends the rows that reach the query's threshold to its
 * candidates. When they fill up, those with the best bounds are rescored, which raises the threshold and drops most
 * of the others unscored.
 *
 * Order of rows. First every 512th word of 64 rows, then every 64th, every 8th (for many queries) and the others: each is a sample of the
 * whole range, from whose best rows a threshold is guessed; ids, and so rows, often follow time or topic, and the first
 * rows alone would be a bad sample.
 *
 * Guesses. Of a part p of the words that is scanned, let g be the closeness of the m-th best row. Fewer than k rows of the
 * whole reach g only if m of the k best lie in that part, where about kp of them should: with m = kp + 4.3 sqrt(kp) + 2.5
 * that happens to one query in 10^5 or fewer (Poisson). So rows below g are dropped before k better ones are known. The
 * answer never rests on it: where the k-th best row found is below g in the end, the query is left to a scan of the
 * vectors. Neighbours are often alike, and m such rows would be one piece of luck: at most one row of a word counts.
 * Text of dim 384, k = 100: 2,400 instead of 3,900 survivors a query; SIFT 4,900 instead of 7,000.
 *
 * Private to kernels/cpu. Threads: a scan belongs to one call. Ownership: all memory is the job's scratch. */
#ifndef KITH_KERNELS_CPU_CPU_CODES_H
#define KITH_KERNELS_CPU_CPU_CODES_H

#include <math.h>

#include "kernels/codes/codes.h"
#include "kernels/cpu/cpu.h"

#define INLINE static inline __attribute__((always_inline)) /* leaves, in the files of ISAs */

enum {
    CPU_CODE_GROUP_MAX = 256, /* queries: a tile of the shards' */
    CPU_CODE_QUERY_BLOCK_MAX = 12,
    CPU_CODE_WORDS = 2, /* 32-bit words that four components of a query are packed into */
};

/* One query in a scan. */
typedef struct cpu_code_query {
    float threshold; /* upper below it: out */
    float tail_weight, offset_weight;
    float look_threshold, look_tail_weight, look_offset_weight; /* of the first look */
    int32_t rest_start;          /* what the sums of a second look start from */
    const int32_t *words;        /* of its levels, for a second look; */
    uint32_t words_step;         /* from four components to the next */
    const int32_t *coarse_words; /* and of its coarse levels, from eight components */
    uint32_t coarse_step;        /* to the next */
    uint32_t candidate_count;
    float upper_most;         /* of the candidates, when last dropped from */
    float *candidate_upper;   /* [capacity] */
    uint32_t *candidate_rows; /* [capacity] */
    const float *query;       /* [dim], the caller's */
    double floor;             /* exact closeness below which rows are left out */
    double guess;             /* that k rows should reach; -INFINITY: none yet */
    kith_code_query code;
    kith_code_coarse coarse;
    kith_row_hit *hits; /* [k], the caller's output; a heap */
    uint32_t hit_count;
    uint64_t rescored;
    bool wide; /* the bounds failed: no more candidates are taken */
} cpu_code_query;

typedef struct cpu_code_scan cpu_code_scan;

/* What an ISA file provides. */
typedef struct cpu_code_leaf cpu_code_leaf;
struct cpu_code_leaf {
    bool signed_codes;    /* codes lose their bias as they are read */
    uint32_t query_block; /* at most CPU_CODE_QUERY_BLOCK_MAX */
    /* Queries of a block of coarse looks, and the fewest that are worth them; 0: it has none. */
    uint32_t coarse_block, coarse_least;
    /* Four levels as the leaf wants to broadcast them. */
    void (*pack)(const int16_t *levels, int32_t *words_out);
    /* All queries of the scan against the rows of a block; bit i of `live`: row row_base + i may be returned. */
    void (*scan)(cpu_code_scan *scan, const kith_code_block *block, uint32_t row_base, uint32_t live);
};

struct cpu_code_scan {
    const cpu_leaves *leaves;
    const kith_top_k_job *job;
    kith_top_k_stats *stats;
    uint32_t code_dim;
    kith_code_layout layout;
    uint32_t group_max; /* queries of a group */
    uint32_t capacity;  /* candidates of a query */
    uint32_t query_count;
    uint32_t look_dim;      /* components of the first look; code_dim: the only one, unless it is coarse */
    uint32_t look_tails_at; /* in a block: the tails for it */
    bool coarse_made;       /* coarse levels of the group are there */
    bool coarse;            /* the first look is by them */
    uint32_t look;          /* which first look: 0 is none */
    uint32_t pause;         /* until a narrower one is tried again */
    uint32_t pause_next;    /* when that is in vain too */
    uint64_t looks, passed; /* first looks at row vectors, and those that a row passed */
    uint64_t rows_seen;     /* by this group */
    int32_t *packed;        /* blocks of n queries (cpu_code_block_width): [code_dim / 4][n][2] */
    /* Coarse levels, four components a word: [code_dim / 8][n][2]. The two words are of both halves of the lead, or
     * of the rest (kith_code_coarse). */
    int32_t *coarse_packed;
    void *operand;   /* 64 bytes a component: a block's codes as the leaf wants them */
    int16_t *levels; /* [code_dim] */
    void *query_scratch;
    float error_weights[CPU_CODE_GROUP_MAX];
    float length_weights[CPU_CODE_GROUP_MAX]; /* 0 unless the look is coarse */
    int32_t look_starts[CPU_CODE_GROUP_MAX];  /* of the first look's sums: minus the bias */
    int32_t starts[CPU_CODE_GROUP_MAX];       /* and with the noise of the block that is being scanned */
    cpu_code_query queries[CPU_CODE_GROUP_MAX];
};

/* Whether the job is one for codes. */
bool cpu_codes_apply(const kith_top_k_job *job);
size_t cpu_codes_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k);

/* A query that codes could not answer, for a wider scan: it needs to find only what reaches the floor. */
typedef struct cpu_code_wide {
    double floor;
    uint32_t query_index;
} cpu_code_wide;

/* Answers the job but for the queries it lists in `wide_out` [query_count]; returns their number. */
uint32_t cpu_codes_top_k(const cpu_leaves *leaves, const kith_top_k_job *job, void *scratch,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, cpu_code_wide *wide_out);

/* Rescores the best candidates until at most `left_most` are left; the threshold rises. */
void cpu_code_settle(cpu_code_scan *scan, cpu_code_query *query, uint32_t left_most);

/* The query's threshold in the units of the first look. */
static inline void cpu_code_look_threshold_set(const cpu_code_scan *scan, cpu_code_query *query) {
    float threshold = query->threshold;
    query->look_threshold = scan->coarse ? kith_code_coarse_threshold(&query->coarse, threshold) : threshold;
}

/* Queries are cut into as few blocks as the leaf allows, of widths as equal as can be; `begin` is the first of a block. */
static inline uint32_t cpu_code_block_width(uint32_t query_count, uint32_t query_block, uint32_t begin) {
    uint32_t blocks = (query_count + query_block - 1) / query_block;
    uint32_t width = query_count / blocks, wider = query_count % blocks;
    return width + (begin < wider * (width + 1));
}

/* Appends the rows of `mask`; uppers [32], of the block's rows. */
static inline void cpu_code_append(
    cpu_code_scan *scan, cpu_code_query *query, uint32_t row_base, uint32_t mask, const float *uppers) {
    if (query->wide) return;
    uint32_t count = query->candidate_count;
    for (; mask; mask &= mask - 1) {
        uint32_t row = (uint32_t)__builtin_ctz(mask);
        float upper = uppers[row];
        query->candidate_upper[count] = upper == upper ? upper : INFINITY;
        query->candidate_rows[count] = row_base + row;
        count++;
    }
    scan->stats->code_survivors += count - query->candidate_count;
    query->candidate_count = count;
    if (count > scan->capacity - KITH_CODE_BLOCK_ROWS) cpu_code_settle(scan, query, scan->capacity / 2);
}

#endif
