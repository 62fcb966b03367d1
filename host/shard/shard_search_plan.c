#include "host/shard/shard_search_plan.h"

#include "kernels/guess.h"

/* Of stored vectors. A unit begins by coding its queries and finding a threshold, which takes fewer rows to be worth it
 * than a unit of 16 MiB has: batches of 256, dim 384, k = 10 and 100, are 19 and 18 % faster by whole segments of 200 MB
 * (Zen 3, 2026-11-21). But a deadline is looked at between units only: the most is about 0.1 s of UNIT_QUERIES. */
#define UNIT_BYTES      (16u << 20)
#define UNIT_BYTES_MOST (128u << 20)
#define UNIT_QUERIES    512u
#define UNITS_A_THREAD  8u /* so that none waits long for the last one */
#define UNIT_ROWS_LEAST 4096u
#define TILE_QUERIES    1024u /* that share one reading of the rows */
#define TILE_RESULTS                                                                                         \
    SHARD_BATCH_RESULTS_MAX /* a tile's queries x k: of a worker 4 MiB of running results, and 10 of rows put off */
#define RESULTS_MAX        (4u << 20) /* workers x queries x k by rows: 128 MiB */
#define WORKER_RESULTS_MAX (1u << 20) /* queries x k by rows: 32 MiB of one worker */
/* Queries a thread, from which each thread takes a tile of them instead of ranges for all: there are passes then, but each reads
 * all rows. Two threads (Xeon with VNNI, 2026-11-23), 32 queries: 114 (k = 10) and 74 % (100) of the time on SIFT, 90 and 49 % on
 * text; from 8 on, 16 queries would take 148 and 93, 84 and 53 %. */
#define BY_QUERIES_FROM        16u
#define BY_QUERIES_FROM_DEVICE 32u /* guess */
#define WORKERS_MAX            256u
#define PASSES_ROWS_LEAST      65536u
#define PASS_ROWS_A_K          16u /* a pass over fewer is no sample */
#define PASS_QUERIES_LEAST     8u  /* from which gaps cost nothing */

/* One word in so many; each divides the one before, and the first, in rows, a unit. */
static const uint32_t pass_steps[SEARCH_PASSES_MAX] = {64, 8, 1};

/* As large as leaves each of `threads` several. Whole words in each step of a pass, so that parts of units are parts of the
 * view. */
static uint32_t unit_rows(
    const shard_view *view, const kith_field *field, uint32_t query_count, uint32_t threads) {
    size_t rows = threads > 1 ? view->live_count / (threads * UNITS_A_THREAD) : SIZE_MAX;
    size_t few = UNIT_BYTES / kith_field_vector_bytes(field);
    size_t many = UNIT_BYTES_MOST / kith_field_vector_bytes(field);
    if (query_count > UNIT_QUERIES) many = many * UNIT_QUERIES / query_count;
    rows = rows > many ? many : rows < few ? few : rows;
    rows = rows / UNIT_ROWS_LEAST * UNIT_ROWS_LEAST;
    return rows < UNIT_ROWS_LEAST         ? UNIT_ROWS_LEAST
           : rows > SEARCH_UNIT_ROWS_MOST ? SEARCH_UNIT_ROWS_MOST
                                          : (uint32_t)rows;
}

static uint32_t units_count(const shard_view *view, uint32_t rows) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < view->part_count; i++)
        count += (view->parts[i].row_count + rows - 1) / rows;
    return (uint32_t)count;
}

void search_units_fill(const shard_view *view, const search_plan *plan, search_unit *units_out) {
    uint32_t rows = plan->unit_rows;
    for (uint32_t i = 0; i < view->part_count; i++) {
        for (uint32_t begin = 0; begin < view->parts[i].row_count; begin += rows) {
            uint32_t left = view->parts[i].row_count - begin;
            *units_out++ =
                (search_unit){.part = i, .row_begin = begin, .row_end = begin + search_least(left, rows)};
        }
    }
}

/* The first word of every unit is one of each step's. */
static double words_share(const shard_view *view, uint32_t step) {
    uint64_t all = 0, looked_at = 0;
    for (uint32_t i = 0; i < view->part_count; i++) {
        uint64_t words = (view->parts[i].row_count + 63) / 64;
        all += words;
        looked_at += (words + step - 1) / step;
    }
    return (double)looked_at / (double)all;
}

static void passes_plan(
    search_plan *plan, const shard_view *view, const kith_field *field, uint32_t query_count, bool in_place) {
    plan->pass_count = 0;
    uint32_t done = 0;
    for (uint32_t i = 0; i < SEARCH_PASSES_MAX; i++) {
        uint32_t step = pass_steps[i];
        bool worth = in_place && view->row_count >= PASSES_ROWS_LEAST &&
                     view->row_count / step >= (uint64_t)plan->k * PASS_ROWS_A_K &&
                     (i == 0 || query_count >= PASS_QUERIES_LEAST);
        if (step > 1 && !worth) continue;
        bool whole = step == 1 && plan->pass_count == 0;
        bool sample = i == 0 && field->metric != KITH_METRIC_L1; /* which has no codes */
        double share = words_share(view, step);
        uint32_t enough = (sample ? 2 : KITH_GUESS_HITS_MOST) * kith_guess_needed(plan->k * share);
        plan->passes[plan->pass_count++] = (search_pass){.word_step = whole ? 0 : step,
            .word_done = done,
            .sample = sample,
            .defers = !whole && !sample,
            .share = share,
            .k = step > 1 ? search_least(enough, plan->k) : plan->k};
        done = sample ? 0 : step;
    }
}

search_plan search_plan_make(const shard_batch *batch, const shard_view *view, const kith_field *field,
    uint32_t threads, bool in_place) {
    search_plan plan = {.k = view->live_count < batch->k ? (uint32_t)view->live_count : batch->k};
    threads = search_least(threads, WORKERS_MAX);
    plan.unit_rows = unit_rows(view, field, batch->query_count, threads);
    plan.unit_count = units_count(view, plan.unit_rows);
    plan.job_count = plan.unit_count;
    plan.worker_count = search_least(threads, plan.job_count);
    const uint32_t from = in_place ? BY_QUERIES_FROM : BY_QUERIES_FROM_DEVICE;
    bool too_much = (uint64_t)plan.worker_count * batch->query_count * plan.k > RESULTS_MAX;
    too_much = too_much || (uint64_t)batch->query_count * plan.k > WORKER_RESULTS_MAX;
    plan.by_queries =
        too_much || batch->query_count > TILE_QUERIES || threads == 1 || batch->query_count >= from * threads;
    plan.tile = batch->query_count;
    if (!plan.by_queries) return plan;
    /* As few tiles as can be, as many for each thread, of equal width. */
    uint32_t most = search_least(TILE_QUERIES, TILE_RESULTS / plan.k); /* at least 16 */
    uint32_t tiles = (batch->query_count + threads * most - 1) / (threads * most) * threads;
    plan.tile = (batch->query_count + tiles - 1) / tiles;
    plan.unit_rows = unit_rows(view, field, plan.tile, 1);
    plan.unit_count = units_count(view, plan.unit_rows);
    plan.job_count = (batch->query_count + plan.tile - 1) / plan.tile;
    plan.worker_count = search_least(threads, plan.job_count);
    passes_plan(&plan, view, field, plan.tile, in_place);
    return plan;
}
