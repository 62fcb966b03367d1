/* How the work of a search is cut: into ranges of rows, tiles of queries, passes. Pure.
 *
 * A range is a unit for all queries (by rows), or a tile of queries goes over all ranges (by queries). Which is better depends
 * on how many queries there are for the threads.
 *
 * Passes, by queries: a sample of every 64th word of 64 rows of the whole view, of which only what codes say is asked; then
 * every 8th word; then the rest. What one found makes a threshold for the next. Without, each segment begins with a threshold
 * of its own, and the first is searched for the k best of itself: text of 384 dimensions in three segments, k 100, 6,160 rows
 * a query passed the codes, and 3,910 with samples. More passes let fewer rows pass, but take longer: memory likes no gaps. So
 * few queries, which wait for it, have no pass of every 8th word. A device chooses its own
 * order, and so does a view of few rows. */
#ifndef KITH_HOST_SHARD_SHARD_SEARCH_PLAN_H
#define KITH_HOST_SHARD_SHARD_SEARCH_PLAN_H

#include "host/shard/shard_internal.h"

#define SEARCH_UNIT_ROWS_MOST 262144u
#define SEARCH_PASSES_MAX     3u

typedef struct search_unit {
    uint32_t part; /* of the view */
    uint32_t row_begin, row_end;
} search_unit;

typedef struct search_pass {
    uint32_t word_step, word_done; /* kith_top_k_job */
    bool sample;                   /* likewise: the next pass does not count its words as done */
    bool defers;                   /* rows may be put off until after the last pass */
    double share;                  /* of all words that have been looked at after it */
    uint32_t k; /* best rows that a query keeps of it and those before: enough for a guess */
} search_pass;

typedef struct search_plan {
    uint32_t k;    /* at most the live rows */
    uint32_t tile; /* queries of one unit */
    bool by_queries;
    uint32_t worker_count;
    uint32_t unit_rows, unit_count;
    uint32_t job_count; /* what workers pull: ranges, or tiles */
    uint32_t pass_count;
    search_pass passes[SEARCH_PASSES_MAX];
} search_plan;

static inline uint32_t search_least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* `threads` may work on it. `in_place`: rows are read where they lie, so that their order is for the caller to choose. */
search_plan search_plan_make(const shard_batch *batch, const shard_view *view, const kith_field *field,
    uint32_t threads, bool in_place);
/* units_out [plan->unit_count] */
void search_units_fill(const shard_view *view, const search_plan *plan, search_unit *units_out);

#endif
