/* What ref and the cpu backends share, so that a score is written once: the quotient of cosine and the order of
 * hits. Private to kernels/. */
#ifndef KITH_KERNELS_SCORE_H
#define KITH_KERNELS_SCORE_H

#include <math.h>

#include "kernels/compute.h"

/* Cosine from its three sums. Zero vectors are refused where vectors come in; should one appear, its cosine
 * is 0, so that closeness is never NaN and hits stay totally ordered. */
static inline double kith_score_cosine(double product, double query_square, double row_square) {
    if (query_square == 0.0 || row_square == 0.0) return 0.0;
    return product / (sqrt(query_square) * sqrt(row_square));
}

/* True when `a` ranks before `b`: nearer, then by the job's tie order, then by row number. */
static inline bool kith_score_hit_before(const kith_top_k_job *job, kith_row_hit a, kith_row_hit b) {
    if (a.closeness != b.closeness) return a.closeness > b.closeness;
    int order = job->tie_compare ? job->tie_compare(job->tie_ctx, a.row, b.row) : 0;
    return order != 0 ? order < 0 : a.row < b.row;
}

/* Rejects jobs whose numbers contradict each other; every backend starts with it. */
KITH_CHECK kith_status kith_score_job_check(
    const kith_top_k_job *job, size_t scratch_bytes_least, kith_err *err);

/* Whether the job looks at rows [64 * word, 64 * word + 64). */
static inline bool kith_score_word_wanted(const kith_top_k_job *job, uint32_t word) {
    uint32_t at = word - job->row_begin / 64;
    if (job->word_step > 1 && at % job->word_step != 0) return false;
    return job->word_done == 0 || at % job->word_done != 0;
}

/* The stored words that decide whether rows [64 * word, 64 * word + 64) may be returned, cut to what the job looks at. */
static inline uint64_t kith_score_live_word(const kith_top_k_job *job, uint32_t word) {
    if (!kith_score_word_wanted(job, word)) return 0;
    uint64_t live = ~0ULL;
    uint64_t first = (uint64_t)word * 64;
    if (job->rows->dead) live &= ~job->rows->dead[word];
    if (job->rows->allow) live &= job->rows->allow[word];
    if (job->row_begin > first) live &= ~0ULL << (job->row_begin - first);
    if (job->row_end < first + 64) live &= (1ULL << (job->row_end - first)) - 1;
    return live;
}

#endif
