/* Searching by codes (kernels/codes/codes.h) on a CPU: what cpu_codes.c shares with the leaf of each ISA.
 *
 * A group of queries sees every block of 32 rows once. The leaf makes the integer dot products of the block with
 * each query, turns them into upper bounds and appends the rows that reach the query's threshold to its
 * pending ones. When a tile of rows has passed, or many are pending, they are checked by their codes by row, if there are any, and
 * in f32 (cpu_codes_check.c); the few that stay are scored, which raises the threshold. Or those that pass by row are put off
 * (kernels/deferred.h).
 *
 * Order of rows. First every 512th word of 64 rows, then every 64th, every 8th (for many queries) and the others: each is a
 * sample of the whole range, from whose best rows a threshold is guessed (kernels/guess.h); ids, and so rows, often follow
 * time or topic, and the first rows alone would be a bad sample. A job that is itself such a part (word_step) has its
 * thresholds from the parts before; of one that is for a guess only (sample) codes alone choose the rows. Where a guess
 * fails, the query is left to a scan of the vectors.
 * Text of dim 384, k = 100: 2,400 instead of 3,900 survivors a query; SIFT 4,900 instead of 7,000 (before checks).
 *
 * Private to kernels/cpu. Threads: a scan belongs to one call. Ownership: all memory is the job's scratch, or what its caller
 * keeps queries in. */
#ifndef KITH_KERNELS_CPU_CPU_CODES_H
#define KITH_KERNELS_CPU_CPU_CODES_H

#include <math.h>

#include "kernels/codes/codes.h"
#include "kernels/cpu/cpu.h"
#include "kernels/deferred.h"

#define INLINE static inline __attribute__((always_inline)) /* leaves, in the files of ISAs */

enum {
    CPU_CODE_GROUP_MAX = 1024, /* queries: a tile of the shards' */
    CPU_CODE_QUERY_BLOCK_MAX = 12,
    CPU_CODE_PREFETCH_MOST = 2048, /* bytes of a row */
    CPU_CODE_WORDS = 2,            /* 32-bit words that four components of a query are packed into */
};

/* What checks share: rows of one query, in memory of their own. */
typedef struct cpu_code_checker {
    uint32_t dim_padded;
    uint32_t rows_most; /* that are checked at once */
    float *query;       /* [dim_padded], or NULL: the caller's is as long */
    float *widened;     /* [rows_most][dim_padded], or NULL: rows are read in place */
    cpu_tile tile;
    cpu_query passed; /* rows of the tile, in the arrays that follow */
    float sums[1][CPU_TILE_ROWS_MAX], lower[CPU_TILE_ROWS_MAX], upper[CPU_TILE_ROWS_MAX];
    uint32_t rows[CPU_TILE_ROWS_MAX];
} cpu_code_checker;

/* What the codes of some rows make of a query, whatever the scan. */
typedef struct cpu_code_made {
    kith_code_query code; /* but for the levels, which are packed */
    kith_code_coarse coarse;
    kith_code_query by_row; /* for codes by row, but for the levels; nothing where there are none */
    cpu_bound bound;        /* of f32 sums */
} cpu_code_made;

/* Coded queries. */
typedef struct cpu_code_coded {
    cpu_code_made *made; /* [queries] */
    int32_t *packed;     /* blocks of n queries (cpu_code_block_of): [code_dim / 4][n][2] */
    /* Coarse levels, four components a word: [code_dim / 8][n][2]. The two words are of both halves of the lead, or
     * of the rest (kith_code_coarse). */
    int32_t *coarse_packed;
    int32_t *row_words; /* [queries][cpu_code_row_words(dim)]: for codes by row */
} cpu_code_coded;

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
    float row_threshold;         /* of uppers by codes by row; -INFINITY: they are not looked at */
    const int32_t *row_words;
    uint32_t pending_count;  /* rows that reached the threshold and are still to be checked: */
    uint32_t *pending;       /* [CPU_TILE_ROWS_MAX] */
    uint32_t asked_count;    /* the first so many passed by their codes by row, too */
    kith_deferred *deferred; /* where those are put off instead; or NULL */
    const float *query;      /* [dim], the caller's */
    double floor;            /* exact closeness below which rows are left out */
    double guess;            /* that k rows should reach; -INFINITY: none yet */
    const cpu_code_made *made;
    kith_row_hit *hits; /* [k], the caller's output; a heap */
    uint32_t hit_count;
    float closeness_least; /* rows whose upper bound by f32 sums is below it are out */
    uint64_t checked, rescored;
    bool wide; /* the bounds failed: no more rows are taken */
} cpu_code_query;

typedef struct cpu_code_scan cpu_code_scan;

/* What an ISA file provides. */
typedef struct cpu_code_leaf cpu_code_leaf;
struct cpu_code_leaf {
    bool signed_codes;    /* codes lose their bias as they are read */
    uint32_t query_block; /* at most CPU_CODE_QUERY_BLOCK_MAX */
    /* Queries of a block of coarse looks, and the fewest that are worth them; 0: it has none. */
    uint32_t coarse_block, coarse_least;
    bool coarse_16; /* which it adds up in 16 bits */
    /* Four levels as the leaf wants to broadcast them. */
    void (*pack)(const int16_t *levels, int32_t *words_out);
    /* The levels [count] for codes by row, `count` a multiple of 64, as row_products wants them: words_out [count / 2]. */
    void (*row_pack)(const int16_t *levels, uint32_t count, int32_t *words_out);
    /* sums_out [row_count]: `start` and the products of each row's codes [count] with the levels, modulo 2^32. */
    void (*row_products)(const uint8_t *const *rows, uint32_t row_count, const int32_t *words, uint32_t count,
        int32_t start, int32_t *sums_out);
    /* All queries of the scan against the rows of a block; bit i of `live`: row row_base + i may be returned. Asks for
     * scan->next meanwhile. */
    void (*scan)(cpu_code_scan *scan, const kith_code_block *block, uint32_t row_base, uint32_t live);
};

struct cpu_code_scan {
    const cpu_leaves *leaves;
    const kith_top_k_job *job;
    kith_top_k_stats *stats;
    uint32_t code_dim;
    bool by_row; /* codes by row are looked at */
    bool defers; /* and rows that pass are put off */
    kith_code_layout layout;
    uint32_t group_max; /* queries of a group */
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
    const kith_code_block *next; /* block that is scanned after this one, as far as is known */
    cpu_code_coded coded;        /* of the group */
    cpu_code_coded own;          /* [group_max], where the caller keeps none */
    void *operand;               /* 64 bytes a component: a block's codes as the leaf wants them */
    cpu_code_checker checker;
    void *make_scratch;
    float error_weights[CPU_CODE_GROUP_MAX];
    float length_weights[CPU_CODE_GROUP_MAX]; /* 0 unless the look is coarse */
    int32_t look_starts[CPU_CODE_GROUP_MAX];  /* of the first look's sums: minus the bias */
    int32_t starts[CPU_CODE_GROUP_MAX];       /* and with the noise of the block that is being scanned */
    cpu_code_query *queries;                  /* [group_max] */
};

/* The block's rows of `mask` in a sample, with what codes say of them: [32], in the look's units. */
void cpu_code_estimated(
    cpu_code_scan *scan, cpu_code_query *query, uint32_t row_base, uint32_t mask, const float *estimates);

/* Whether the job is one for codes. */
bool cpu_codes_apply(const kith_top_k_job *job);
size_t cpu_codes_scratch_bytes(uint32_t dim, uint32_t query_count);

size_t cpu_codes_kept_bytes(uint32_t dim, uint32_t query_count);

/* A query that codes could not answer, for a wider scan: it needs to find only what reaches the floor. */
typedef struct cpu_code_wide {
    double floor;
    uint32_t query_index;
} cpu_code_wide;

/* Answers the job but for the queries it lists in `wide_out` [query_count]; returns their number. */
uint32_t cpu_codes_top_k(const cpu_leaves *leaves, const kith_top_k_job *job, void *scratch,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, cpu_code_wide *wide_out);

/* --- cpu_codes_query.c --- */

/* Where parts of scratch begin. */
static inline size_t cpu_code_align(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

/* Bytes of `count` coded queries, and where they lie in `memory`. Monotone. */
size_t cpu_code_coded_bytes(uint32_t dim, uint32_t code_dim, uint32_t count);
cpu_code_coded cpu_code_coded_place(uint32_t dim, uint32_t code_dim, uint32_t count, void *memory);
/* One of them takes so many 32-bit words. */
static inline size_t cpu_code_packed_words(uint32_t code_dim) {
    return (size_t)code_dim / KITH_CODE_GROUP * CPU_CODE_WORDS;
}
/* Levels that are multiplied with a code by row: zeros past the last. */
static inline uint32_t cpu_code_row_levels(uint32_t dim) {
    return (dim + KITH_CODE_ROW_STEP - 1) / KITH_CODE_ROW_STEP * KITH_CODE_ROW_STEP;
}
static inline uint32_t cpu_code_row_words(uint32_t dim) {
    return cpu_code_row_levels(dim) / KITH_CODE_GROUP * CPU_CODE_WORDS;
}
/* Scratch for cpu_code_group_make, whatever the basis of vectors of `dim`. */
size_t cpu_code_make_bytes(uint32_t dim, uint32_t count);
/* Points scan->queries [scan->query_count], those of the job from `first` on, at their codes, which it makes unless
 * they were kept. */
void cpu_code_group_make(cpu_code_scan *scan, uint32_t first);

/* --- cpu_codes_check.c --- */

size_t cpu_code_check_bytes(uint32_t dim);
/* Points the checker into `memory`, cpu_code_check_bytes of it. */
void cpu_code_check_place(cpu_code_scan *scan, void *memory);
cpu_bound cpu_code_query_bound(const cpu_code_scan *scan, const float *query);
/* Checks the pending rows of the query and scores those that pass; the threshold rises. Rows that were not yet looked at by
 * their codes by row are, and those that pass stay pending: their vectors are on the way. */
void cpu_code_check(cpu_code_scan *scan, cpu_code_query *query, uint32_t least);
/* Rows below `closeness` are out. */
void cpu_code_threshold_raise(const cpu_code_scan *scan, cpu_code_query *query, double closeness);
/* The query takes no more rows. */
void cpu_code_widen(cpu_code_query *query);

/* The query's threshold in the units of the first look. */
static inline void cpu_code_look_threshold_set(const cpu_code_scan *scan, cpu_code_query *query) {
    float threshold = query->threshold;
    query->look_threshold =
        scan->coarse ? kith_code_coarse_threshold(&query->made->coarse, threshold) : threshold;
}

/* A block of queries: [begin, begin + width) of the group. */
typedef struct cpu_code_query_block {
    uint32_t begin, width;
} cpu_code_query_block;

/* The block that query `index` is of. Queries are cut into as few blocks as the leaf allows, of widths as equal as can be:
 * the first may be one wider than the others. */
static inline cpu_code_query_block cpu_code_block_of(
    uint32_t query_count, uint32_t query_block, uint32_t index) {
    uint32_t blocks = (query_count + query_block - 1) / query_block;
    uint32_t width = query_count / blocks, in_wide = query_count % blocks * (width + 1);
    if (index < in_wide) return (cpu_code_query_block){index / (width + 1) * (width + 1), width + 1};
    return (cpu_code_query_block){in_wide + (index - in_wide) / width * width, width};
}

/* Rows to check lie anywhere in memory: they are asked for while others are still being looked for. */
static inline void cpu_code_row_prefetch(const cpu_code_scan *scan, uint32_t row) {
    const uint8_t *codes = kith_code_row_at(scan->job->rows->codes, row);
    for (uint32_t line = 0; line < kith_code_row_bytes(scan->job->rows->dim); line += 64)
        __builtin_prefetch(codes + line, 0, 2);
}
static inline void cpu_code_prefetch(const kith_rows *rows, uint32_t row) {
    size_t bytes = (size_t)rows->dim * kith_vector_type_bytes(rows->type);
    const char *at = (const char *)rows->vectors + row * bytes;
    for (size_t line = 0; line < bytes && line < CPU_CODE_PREFETCH_MOST; line += 64)
        __builtin_prefetch(at + line, 0, 2);
    __builtin_prefetch(rows->norms + row);
}

/* The block's rows of `mask` are to be checked. */
static inline void cpu_code_append(
    cpu_code_scan *scan, cpu_code_query *query, uint32_t row_base, uint32_t mask) {
    if (query->wide) return;
    uint32_t count = query->pending_count;
    for (; mask; mask &= mask - 1) {
        uint32_t row = row_base + (uint32_t)__builtin_ctz(mask);
        if (query->row_threshold > -INFINITY)
            cpu_code_row_prefetch(scan, row);
        else
            cpu_code_prefetch(scan->job->rows, row);
        query->pending[count++] = row;
    }
    scan->stats->code_survivors += count - query->pending_count;
    query->pending_count = count;
    while (query->pending_count > CPU_TILE_ROWS_MAX - KITH_CODE_BLOCK_ROWS)
        cpu_code_check(scan, query, 1);
}

#endif
