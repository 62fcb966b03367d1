/* Searching a view: for one search, or for several at once (shard_batch.c), whose queries are then one list.
 *
 * The work is cut into units (shard_search_plan.h) that worker tasks of the search executor pull from a counter, so that a
 * slow unit delays nobody else.
 *   by rows    (few queries)  a unit is a range of rows for all queries. Each worker keeps the best k of each query over the
 *              units it did; who does the last unit merges them. The k-th best of any worker is a floor for all: rows
 *              strictly below it cannot be among the k best of the view.
 *   by queries (many queries, or one thread)  a unit is a tile of queries over the whole view: nothing to merge, and the
 *              memory for running results is a tile's, however many queries there are. The view is gone through in passes:
 *              a thin sample of all its rows, for a guess only (kith_top_k_job.sample); an eighth; the rest. From what each
 *              found a threshold is guessed (kernels/guess.h), so that the first segment is not searched for the k best of its
 *              own. The first two keep what the guess needs, times two and four. A query whose guess was wrong, or not
 *              found, is searched again without. Rows whose codes tell enough are put off to the end of all passes
 *              (kernels/deferred.h), where the vectors of those that may still be among the k best are read.
 * All give the same answer, because closeness is one fixed arithmetic and ties go by id: a floor leaves out only rows that
 * are strictly worse than k others.
 *
 * What a backend makes of queries for a segment is kept by the worker for the other ranges and passes over it.
 *
 * Memory: one block for the run, one scratch block a worker, taken from the node's pool; nothing is allocated
 * per unit. Running results are bounded by RESULTS_MAX pairs over all workers, and by WORKER_RESULTS_MAX in each
 * that searches by rows. What a search found is freed when `done` has returned, though tasks of it may still wait. */
#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/shard/shard_internal.h"
#include "host/shard/shard_search_plan.h"
#include "kernels/codes/codes.h"
#include "kernels/guess.h"

#define INLINE_WORK_MAX                                                                                      \
    (256ull << 10)          /* multiplications; 20..50 us on one core, about what a hand-over costs */
#define CHECK_QUERIES   16u /* of a tile, that are ended between one look at the deadline and the next */
#define KEPT_BYTES_MOST (8u << 20) /* of a worker, unless one segment's take more; guess */
/* Larger blocks are freed when their search ends: the pool would hold 64 of the largest for ever. */
#define SCRATCH_KEPT_BYTES_MAX (16u << 20)

/* A hit of a worker: where its row is. */
typedef struct found {
    double closeness;
    uint32_t part;
    uint32_t row;
} found;

typedef struct search_run search_run;

typedef struct search_worker {
    kith_task task;
    search_run *run;
    void *block; /* what the pointers after it point into; NULL until its first job */
    found *best; /* [tile][k] running results, sorted */
    uint32_t *best_counts;
    found *merged;           /* [k] */
    kith_row_hit *unit_hits; /* [tile][k] */
    uint32_t *unit_counts;
    double *floors;                   /* [tile] */
    double *guesses;                  /* [tile], by queries */
    bool *again;                      /* [tile], by queries: rows that matter may have been left out */
    kith_deferred *deferred;          /* [tile], where the view is gone through in passes: */
    kith_deferred_row *deferred_rows; /* [tile][run->deferred_rows] and */
    float *deferred_known;            /* [tile][k] are theirs, */
    found *gathered, *sort_space;     /* [k + run->deferred_rows] */
    kith_kept_queries *kept;          /* [parts of the view]; memory NULL: none is taken yet */
    uint8_t *kept_memory;             /* [run->kept_most][run->kept_bytes], */
    uint32_t kept_taken;              /* of which so many are taken, */
    uint32_t kept_last;               /* the last one by this part */
    void *scratch;
    kith_top_k_stats stats;
} search_worker;

struct search_run {
    kith_shard *shard;
    shard_batch batch;
    shard_view *view;
    search_plan plan;
    search_unit *units; /* [plan.unit_count] */
    _Atomic uint32_t job_next;
    _Atomic uint32_t jobs_left;    /* at 0 the search is answered */
    _Atomic uint32_t workers_left; /* at 0 the run is freed */
    _Atomic uint64_t *floor_bits;  /* [query_count], by rows: the best floor known, as f64 bits */
    atomic_bool failed;
    _Atomic uint32_t failure_taken;
    kith_status status; /* of the worker that took the failure */
    kith_err err;
    kith_hit *hits; /* [query_count][k], allocated apart: it can be large */
    kith_hits *lists;
    size_t scratch_bytes, kept_bytes;
    uint32_t kept_most;     /* segments that a worker keeps its queries' codes for */
    uint32_t deferred_rows; /* that a query may put off; 0: it has one pass */
    search_worker workers[];
};

/* --- scratch pool: the node's slots; a block knows its size --- */

typedef struct scratch_block {
    size_t bytes;
    char pad[56]; /* what follows is 64-byte aligned */
} scratch_block;

static void *scratch_acquire(kith_shard_node *node, size_t bytes) {
    for (uint32_t i = 0; i < KITH_SHARD_SCRATCH_MAX; i++) {
        if (!atomic_load_explicit(&node->scratch[i], memory_order_relaxed)) continue;
        scratch_block *block = atomic_exchange_explicit(&node->scratch[i], NULL, memory_order_acquire);
        if (!block) continue;
        if (block->bytes >= bytes) return block + 1;
        kith_free(block); /* outgrown: the pool converges on what searches need */
    }
    scratch_block *block = kith_try_alloc_aligned(sizeof *block + bytes);
    if (!block) return NULL;
    block->bytes = bytes;
    return block + 1;
}

static void scratch_release(kith_shard_node *node, void *data) {
    if (!data) return;
    scratch_block *block = (scratch_block *)data - 1;
    uint32_t slot_count = block->bytes <= SCRATCH_KEPT_BYTES_MAX ? KITH_SHARD_SCRATCH_MAX : 0;
    for (uint32_t i = 0; i < slot_count; i++) {
        void *none = NULL;
        if (atomic_load_explicit(&node->scratch[i], memory_order_relaxed)) continue;
        if (atomic_compare_exchange_strong_explicit(
                &node->scratch[i], &none, block, memory_order_release, memory_order_relaxed))
            return;
    }
    kith_free(block);
}

/* The segment search falls back from the backend to any CPU one. */
static size_t compute_scratch_bytes(
    const kith_compute_ops *compute, uint32_t dim, uint32_t tile, uint32_t k) {
    uint32_t count;
    const kith_compute_ops *const *list = kith_compute_cpu_list(&count);
    size_t most = compute->scratch_bytes(dim, tile, k);
    for (uint32_t i = 0; i < count; i++) {
        size_t bytes = list[i]->scratch_bytes(dim, tile, k);
        if (bytes > most) most = bytes;
    }
    return most;
}

/* --- ending --- */

static void run_fail(search_run *run, kith_status status, const kith_err *err) {
    if (atomic_exchange(&run->failure_taken, 1) == 0) {
        run->status = status;
        run->err = *err;
    }
    atomic_store(&run->failed, true);
}

/* What only jobs and the answer need: freed with the answer, because tasks that find no job may wait for long. */
static void run_free_arrays(search_run *run) {
    kith_free(run->hits);
    kith_free(run->lists);
    kith_free(run->units);
    kith_free((void *)run->floor_bits);
    run->hits = NULL;
    run->lists = NULL;
    run->units = NULL;
    run->floor_bits = NULL;
}

static void run_free(search_run *run) {
    run_free_arrays(run);
    kith_free(run);
}

static void blocks_release(search_run *run) {
    for (uint32_t i = 0; i < run->plan.worker_count; i++) {
        scratch_release(run->shard->node, run->workers[i].block);
        run->workers[i].block = NULL;
    }
}

static void run_count(search_run *run) {
    kith_top_k_stats total = {0};
    for (uint32_t i = 0; i < run->plan.worker_count; i++) {
        total.rows_scanned += run->workers[i].stats.rows_scanned;
        total.rows_coded += run->workers[i].stats.rows_coded;
        total.code_survivors += run->workers[i].stats.code_survivors;
        total.rows_rescored += run->workers[i].stats.rows_rescored;
        total.wide_scans += run->workers[i].stats.wide_scans;
    }
    SHARD_COUNT(run->shard, rows_scanned, total.rows_scanned);
    SHARD_COUNT(run->shard, rows_coded, total.rows_coded);
    SHARD_COUNT(run->shard, code_survivors, total.code_survivors);
    SHARD_COUNT(run->shard, rows_rescored, total.rows_rescored);
    SHARD_COUNT(run->shard, wide_scans, total.wide_scans);
}

/* --- running results --- */

static kith_id found_id(const search_run *run, const found *hit) {
    return kith_segment_row_id(run->view->parts[hit->part].segment, hit->row);
}

static bool found_is_before(const search_run *run, const found *a, const found *b) {
    if (a->closeness != b->closeness) return a->closeness > b->closeness;
    kith_id a_id = found_id(run, a), b_id = found_id(run, b);
    return kith_id_compare(&a_id, &b_id) < 0;
}

/* Writes the best `most` of two sorted lists to `out`, which overlaps neither; returns their number. Which list is next is a toss,
 * so it is no branch. */
static uint32_t found_merge(const search_run *run, const found *a, uint32_t a_count, const found *b,
    uint32_t b_count, uint32_t most, found *out) {
    const found *const a_end = a + a_count, *const b_end = b + b_count;
    uint32_t count = 0;
    for (; count < most && a < a_end && b < b_end; count++) {
        const bool from_b = found_is_before(run, b, a);
        out[count] = *(from_b ? b : a);
        b += from_b;
        a += !from_b;
    }
    for (; count < most && a < a_end; count++)
        out[count] = *a++;
    for (; count < most && b < b_end; count++)
        out[count] = *b++;
    return count;
}

/* The sorted `more` joins the sorted `best` [k]; returns the new count. `merged` [k] is space. */
static uint32_t found_join(const search_run *run, found *best, uint32_t best_count, const found *more,
    uint32_t more_count, found *merged) {
    if (more_count == 0) return best_count;
    const uint32_t count = found_merge(run, best, best_count, more, more_count, run->plan.k, merged);
    memcpy(best, merged, count * sizeof *best);
    return count;
}

/* Row hits of one unit, of one segment, joined to the running results of query `q` of the tile: the best k. */
static void unit_hits_join(search_worker *worker, uint32_t q, uint32_t part, uint32_t k) {
    const search_run *run = worker->run;
    found *best = worker->best + (size_t)q * run->plan.k;
    const kith_row_hit *hits = worker->unit_hits + (size_t)q * k;
    uint32_t a = 0, b = 0, count = 0, hit_count = worker->unit_counts[q], best_count = worker->best_counts[q];
    if (hit_count == 0) return;
    while (count < k && (a < best_count || b < hit_count)) {
        found next = {0};
        if (b < hit_count) next = (found){.closeness = hits[b].closeness, .part = part, .row = hits[b].row};
        bool from_best = b == hit_count || (a < best_count && !found_is_before(run, &next, &best[a]));
        if (from_best)
            worker->merged[count++] = best[a++];
        else
            worker->merged[count++] = next, b++;
    }
    memcpy(best, worker->merged, count * sizeof *best);
    worker->best_counts[q] = count;
}

/* --- floors --- */

static double floor_of(const search_worker *worker, uint32_t q, uint32_t k) {
    if (worker->best_counts[q] < k) return -INFINITY;
    return worker->best[(size_t)q * worker->run->plan.k + k - 1].closeness;
}

static double floor_load(const search_run *run, uint32_t q) {
    uint64_t bits = atomic_load_explicit(&run->floor_bits[q], memory_order_relaxed);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* relaxed: a floor that is seen late only prunes less. */
static void floor_raise(search_run *run, uint32_t q, double value) {
    uint64_t bits, seen = atomic_load_explicit(&run->floor_bits[q], memory_order_relaxed);
    double now;
    memcpy(&bits, &value, sizeof bits);
    do {
        memcpy(&now, &seen, sizeof now);
        if (now >= value) return;
    } while (!atomic_compare_exchange_weak_explicit(
        &run->floor_bits[q], &seen, bits, memory_order_relaxed, memory_order_relaxed));
}

/* --- rows put off --- */

/* Best first. Returns where they then lie: in `list`, or in `space` [count]. */
static found *found_sort(const search_run *run, found *list, uint32_t count, found *space) {
    for (uint32_t width = 1; width < count; width *= 2) {
        for (uint32_t begin = 0; begin < count; begin += 2 * width) {
            const uint32_t left = count - begin, first = search_least(width, left);
            const uint32_t second = search_least(width, left - first);
            (void)found_merge(
                run, list + begin, first, list + begin + first, second, first + second, space + begin);
        }
        found *sorted = space;
        space = list;
        list = sorted;
    }
    return list;
}

static bool defers(const search_run *run, const search_pass *pass) {
    return pass->defers && run->deferred_rows > 0;
}

static void deferred_begin(search_worker *worker, uint32_t q) {
    const search_run *run = worker->run;
    worker->deferred[q] = (kith_deferred){.k = run->plan.k,
        .row_most = run->deferred_rows,
        .rows = worker->deferred_rows + (size_t)q * run->deferred_rows,
        .known = worker->deferred_known + (size_t)q * run->plan.k};
}

/* What was found of the query so far, and the best of what was put off, by what it scores at least. Best first. */
static const found *gather_least(search_worker *worker, uint32_t q, uint32_t *count_out) {
    const search_run *run = worker->run;
    const kith_deferred *deferred = &worker->deferred[q];
    const float known = kith_deferred_floor(deferred);
    uint32_t count = worker->best_counts[q];
    memcpy(worker->gathered, worker->best + (size_t)q * run->plan.k, count * sizeof *worker->gathered);
    for (uint32_t i = 0; i < deferred->row_count; i++) {
        const kith_deferred_row *row = &deferred->rows[i];
        if (row->least < known) continue;
        worker->gathered[count++] =
            (found){.closeness = (double)row->least, .part = row->origin, .row = row->row};
    }
    *count_out = count;
    return found_sort(run, worker->gathered, count, worker->sort_space);
}

/* The scores of the rows of one part that score at least `least` for certain; returns their number. They are cut next. */
static uint32_t part_rescore(
    search_worker *worker, uint32_t q, uint32_t part, double least, const float *query, found *out) {
    enum { TOGETHER = 64 };
    const search_run *run = worker->run;
    const kith_deferred *deferred = &worker->deferred[q];
    uint32_t count = 0;
    for (uint32_t i = 0; i < deferred->row_count;) {
        uint32_t rows[TOGETHER], together = 0;
        double closeness[TOGETHER];
        for (; i < deferred->row_count && together < TOGETHER; i++) {
            kith_deferred_row *row = &deferred->rows[i];
            if (row->origin != part || (double)row->least < least) continue;
            rows[together++] = row->row;
            row->most = -INFINITY;
        }
        kith_segment_rescore(run->view->parts[part].segment, run->shard->node->compute,
            run->batch.field_index, query, rows, together, closeness);
        for (uint32_t j = 0; j < together; j++)
            out[count++] = (found){.closeness = closeness[j], .part = part, .row = rows[j]};
    }
    return count;
}

/* Rows put off that score at least `least` for certain join what was found. */
static void deferred_score(search_worker *worker, uint32_t q, double least, const float *query) {
    const search_run *run = worker->run;
    const uint32_t row_count = worker->deferred[q].row_count;
    found *best = worker->best + (size_t)q * run->plan.k;
    uint32_t count = 0;
    for (uint32_t part = 0; part < run->view->part_count && count < row_count; part++)
        count += part_rescore(worker, q, part, least, query, worker->gathered + count);
    const found *sorted = found_sort(run, worker->gathered, count, worker->sort_space);
    worker->best_counts[q] = found_join(run, best, worker->best_counts[q], sorted, count, worker->merged);
    worker->stats.rows_rescored += count;
}

/* After the last pass: what was put off and can still be among the k best joins what was found. First those that score the most
 * for certain, about k of them; few of the others can reach what the k-th best then scores. */
static void deferred_join(search_worker *worker, uint32_t q, const float *query) {
    const uint32_t k = worker->run->plan.k;
    kith_deferred *deferred = &worker->deferred[q];
    const double known = (double)kith_deferred_floor(deferred);
    const double floor = fmax(fmax(floor_of(worker, q, k), known), worker->guesses[q]);
    kith_deferred_cut(deferred, floor);
    deferred_score(worker, q, known, query);
    if (known == -INFINITY) return; /* fewer than k: that were all */
    kith_deferred_cut(deferred, fmax(floor, floor_of(worker, q, k)));
    deferred_score(worker, q, -INFINITY, query);
}

/* --- guesses: by queries --- */

static uint64_t found_word(const void *hits, uint32_t index) {
    const found *hit = (const found *)hits + index;
    return (uint64_t)hit->part << 32 | hit->row / 64;
}

/* After `pass`. What it did not keep is worse than what it did. Where that is not below the guess too, the query is left to a
 * search from the start, and the passes to come need not find it anything. */
static void guess_make(search_worker *worker, uint32_t q, const search_pass *pass) {
    const uint32_t k = worker->run->plan.k, count = worker->best_counts[q];
    const found *best = worker->best + (size_t)q * k, *list = best;
    uint32_t list_count = count;
    if (defers(worker->run, pass)) list = gather_least(worker, q, &list_count);
    uint32_t index = kith_guess_find(list, list_count, kith_guess_needed(k * pass->share), found_word);
    bool is_cut = !pass->sample && pass->k < k && count == pass->k;
    if (index == count && pass->sample && count == k) index = k - 1; /* k rows score it at least */
    if (is_cut && !(index < list_count && best[count - 1].closeness < list[index].closeness)) {
        worker->again[q] = true;
        index = 0;
    }
    if (index < list_count) worker->guesses[q] = fmax(worker->guesses[q], list[index].closeness);
    if (pass->sample) worker->best_counts[q] = 0;
}

static bool guess_failed(const search_worker *worker, uint32_t q) {
    return worker->again[q] || floor_of(worker, q, worker->run->plan.k) < worker->guesses[q];
}

/* --- kept queries --- */

static void kept_forget(search_worker *worker) {
    memset(worker->kept, 0, worker->run->view->part_count * sizeof *worker->kept);
    worker->kept_taken = 0;
}

/* Where there is no room, the last place goes from part to part: ranges of a part come one after the other. Or NULL. */
static kith_kept_queries *kept_of(search_worker *worker, uint32_t part) {
    const search_run *run = worker->run;
    kith_kept_queries *kept = &worker->kept[part];
    if (kept->memory) return kept;
    if (run->kept_most == 0 || !kith_segment_is_sealed(run->view->parts[part].segment)) return NULL;
    if (worker->kept_taken == run->kept_most)
        worker->kept[worker->kept_last].memory = NULL;
    else
        worker->kept_taken++;
    worker->kept_last = part;
    *kept = (kith_kept_queries){
        .memory = worker->kept_memory + (worker->kept_taken - 1) * run->kept_bytes, .bytes = run->kept_bytes};
    return kept;
}

/* --- units --- */

/* Queries of a tile that begins with query `origin` of the batch: the worker's places [from, from + count). */
typedef struct query_range {
    uint32_t origin, from, count;
    bool kept; /* they are all of the tile */
} query_range;

/* The queries over one range of rows, or its part that a pass looks at, into the running results. worker->floors are theirs. */
static kith_status range_search(search_worker *worker, const search_unit *range, const search_pass *pass,
    query_range queries, kith_err *err) {
    search_run *run = worker->run;
    const shard_view_part *part = &run->view->parts[range->part];
    uint32_t dim = run->shard->schema.fields[run->batch.field_index].dim, from = queries.from;
    kith_status status = shard_batch_check(&run->batch, run->view, err);
    if (status != KITH_OK) return status;
    kith_segment_search job = {.compute = run->shard->node->compute,
        .field_index = run->batch.field_index,
        .row_begin = range->row_begin,
        .row_end = range->row_end,
        .word_step = pass->word_step,
        .word_done = pass->word_done,
        .sample = pass->sample,
        .dead = part->dead ? part->dead->words : NULL,
        .queries = run->batch.queries + (size_t)(queries.origin + from) * dim,
        .query_count = queries.count,
        .k = pass->k,
        .floors = worker->floors + from,
        .deferred = defers(run, pass) ? worker->deferred + from : NULL,
        .origin = range->part,
        .kept = queries.kept ? kept_of(worker, range->part) : NULL,
        .scratch = worker->scratch,
        .scratch_bytes = run->scratch_bytes};
    status = kith_segment_search_run(part->segment, &job, worker->unit_hits + (size_t)from * pass->k,
        worker->unit_counts + from, &worker->stats, err);
    for (uint32_t q = from; status == KITH_OK && q < from + queries.count; q++)
        unit_hits_join(worker, q, range->part, pass->k);
    return status;
}

static search_pass whole_pass(const search_run *run) {
    return (search_pass){.k = run->plan.k};
}

/* By rows. */
static kith_status rows_search(search_worker *worker, const search_unit *range, kith_err *err) {
    search_run *run = worker->run;
    const query_range all = {.count = run->batch.query_count, .kept = true};
    const search_pass whole = whole_pass(run);
    for (uint32_t q = 0; q < all.count; q++)
        worker->floors[q] = floor_load(run, q);
    kith_status status = range_search(worker, range, &whole, all, err);
    for (uint32_t q = 0; status == KITH_OK && q < all.count; q++)
        floor_raise(run, q, floor_of(worker, q, run->plan.k));
    return status;
}

static void hits_write(search_run *run, uint32_t query, const found *best, uint32_t count) {
    kith_hit *hits = run->hits + (size_t)query * run->plan.k;
    for (uint32_t i = 0; i < count; i++)
        hits[i] = (kith_hit){.closeness = best[i].closeness, .id = found_id(run, &best[i])};
    run->lists[query] = (kith_hits){.hits = hits, .count = count};
}

static double floor_known(const search_worker *worker, uint32_t q, const search_pass *pass) {
    double floor = floor_of(worker, q, pass->k);
    return defers(worker->run, pass) ? fmax(floor, (double)kith_deferred_floor(&worker->deferred[q])) : floor;
}

/* One pass over all ranges. */
static kith_status pass_search(
    search_worker *worker, const search_pass *pass, query_range queries, kith_err *err) {
    search_run *run = worker->run;
    kith_status status = KITH_OK;
    for (uint32_t i = 0; status == KITH_OK && i < run->plan.unit_count; i++) {
        if (atomic_load_explicit(&run->failed, memory_order_relaxed)) break;
        for (uint32_t q = queries.from; q < queries.from + queries.count; q++)
            worker->floors[q] = fmax(floor_known(worker, q, pass), worker->guesses[q]);
        status = range_search(worker, &run->units[i], pass, queries, err);
    }
    return status;
}

/* Fewer than k rows reach the guess: the query is searched again, for what reaches the k-th that was found, or put off. */
static kith_status query_search_again(search_worker *worker, uint32_t origin, uint32_t q, kith_err *err) {
    const search_pass whole = whole_pass(worker->run);
    worker->guesses[q] = floor_of(worker, q, whole.k);
    if (worker->run->deferred_rows > 0)
        worker->guesses[q] = fmax(worker->guesses[q], (double)kith_deferred_floor(&worker->deferred[q]));
    worker->best_counts[q] = 0;
    worker->stats.wide_scans++;
    return pass_search(worker, &whole, (query_range){.origin = origin, .from = q, .count = 1}, err);
}

/* One tile of queries over all ranges. */
static kith_status tile_search(search_worker *worker, uint32_t tile_index, kith_err *err) {
    search_run *run = worker->run;
    const search_plan *plan = &run->plan;
    const uint32_t dim = run->shard->schema.fields[run->batch.field_index].dim;
    query_range tile = {.origin = tile_index * plan->tile, .kept = true};
    tile.count = search_least(run->batch.query_count - tile.origin, plan->tile);
    kith_status status = KITH_OK;
    memset(worker->best_counts, 0, tile.count * sizeof *worker->best_counts);
    kept_forget(worker);
    for (uint32_t q = 0; q < tile.count; q++) {
        worker->guesses[q] = -INFINITY;
        worker->again[q] = false;
        if (run->deferred_rows > 0) deferred_begin(worker, q);
    }
    for (uint32_t i = 0; status == KITH_OK && i < plan->pass_count; i++) {
        for (uint32_t q = 0; i > 0 && q < tile.count; q++)
            guess_make(worker, q, &plan->passes[i - 1]);
        status = pass_search(worker, &plan->passes[i], tile, err);
    }
    for (uint32_t q = 0; status == KITH_OK && q < tile.count; q++) {
        if (q % CHECK_QUERIES == 0) status = shard_batch_check(&run->batch, run->view, err);
        if (status != KITH_OK || atomic_load_explicit(&run->failed, memory_order_relaxed)) break;
        if (run->deferred_rows > 0)
            deferred_join(worker, q, run->batch.queries + (size_t)(tile.origin + q) * dim);
        if (guess_failed(worker, q)) status = query_search_again(worker, tile.origin, q, err);
        hits_write(run, tile.origin + q, worker->best + (size_t)q * plan->k, worker->best_counts[q]);
    }
    return status;
}

/* --- workers --- */

static size_t round_up(size_t bytes) {
    return (bytes + 63) & ~(size_t)63;
}

/* Lays the worker's arrays out in one block; with NULL only counts. */
static size_t worker_lay_out(search_worker *worker, const search_run *run, uint8_t *block) {
    size_t at = 0, pairs = (size_t)run->plan.tile * run->plan.k;
#define PLACE(member, count)                                                                                 \
    do {                                                                                                     \
        if (block) worker->member = (void *)(block + at);                                                    \
        at += round_up((count) * sizeof *worker->member);                                                    \
    } while (0)
    PLACE(best, pairs);
    PLACE(best_counts, run->plan.tile);
    PLACE(merged, run->plan.k);
    PLACE(unit_hits, pairs);
    PLACE(unit_counts, run->plan.tile);
    PLACE(floors, run->plan.tile);
    PLACE(guesses, run->plan.tile);
    PLACE(again, run->plan.tile);
    PLACE(deferred, run->deferred_rows > 0 ? run->plan.tile : 0);
    PLACE(deferred_rows, (size_t)run->plan.tile * run->deferred_rows);
    PLACE(deferred_known, run->deferred_rows > 0 ? pairs : 0);
    PLACE(gathered, run->deferred_rows > 0 ? run->plan.k + run->deferred_rows : 0);
    PLACE(sort_space, run->deferred_rows > 0 ? run->plan.k + run->deferred_rows : 0);
    PLACE(kept, run->view->part_count);
    PLACE(kept_memory, run->kept_most * run->kept_bytes);
#undef PLACE
    if (block) worker->scratch = block + at;
    return at + run->scratch_bytes;
}

static kith_status worker_begin(search_worker *worker, kith_err *err) {
    search_run *run = worker->run;
    size_t bytes = worker_lay_out(worker, run, NULL);
    worker->block = scratch_acquire(run->shard->node, bytes);
    if (!worker->block) return kith_err_set(err, KITH_NO_MEMORY, "%zu bytes of search scratch", bytes);
    worker_lay_out(worker, run, worker->block);
    memset(worker->best_counts, 0, run->plan.tile * sizeof *worker->best_counts);
    kept_forget(worker);
    return KITH_OK;
}

/* By rows: the workers' results joined in the first one's, then written out. */
static void results_merge(search_run *run) {
    search_worker *first = NULL;
    for (uint32_t w = 0; w < run->plan.worker_count; w++) {
        search_worker *worker = &run->workers[w];
        if (!worker->block) continue;
        if (!first) {
            first = worker;
            continue;
        }
        for (uint32_t q = 0; q < run->batch.query_count; q++) {
            size_t at = (size_t)q * run->plan.k;
            first->best_counts[q] = found_join(run, first->best + at, first->best_counts[q],
                worker->best + at, worker->best_counts[q], first->merged);
        }
    }
    for (uint32_t q = 0; first && q < run->batch.query_count; q++) {
        hits_write(run, q, first->best + (size_t)q * run->plan.k, first->best_counts[q]);
    }
}

/* Every job is done, so no worker touches its block, the view or the shard any more. Worker tasks that are
 * still queued behind other searches find nothing left to pull; nobody waits for them. */
static void run_answer(search_run *run) {
    run_count(run);
    if (run->status == KITH_OK && !run->plan.by_queries) results_merge(run);
    blocks_release(run);
    if (run->status != KITH_OK) run_free_arrays(run);
    shard_batch_end(&run->batch, run->view, run->status, run->lists, &run->err);
    run_free_arrays(run);
}

static kith_status job_do(search_worker *worker, uint32_t at, kith_err *err) {
    search_run *run = worker->run;
    kith_status status = worker->block ? KITH_OK : worker_begin(worker, err);
    if (status != KITH_OK) return status;
    return run->plan.by_queries ? tile_search(worker, at, err) : rows_search(worker, &run->units[at], err);
}

/* After a failure the jobs left are pulled and dropped, so that the count reaches 0 whoever fails. */
static void worker_do(search_worker *worker) {
    search_run *run = worker->run;
    for (;;) {
        kith_err err = {0};
        uint32_t at = atomic_fetch_add_explicit(&run->job_next, 1, memory_order_relaxed);
        if (at >= run->plan.job_count) break;
        bool failed = atomic_load_explicit(&run->failed, memory_order_relaxed);
        kith_status status = failed ? KITH_OK : job_do(worker, at, &err);
        if (status != KITH_OK) run_fail(run, status, &err);
        /* acq_rel: who does the last job sees the results of all. */
        if (atomic_fetch_sub_explicit(&run->jobs_left, 1, memory_order_acq_rel) == 1) run_answer(run);
    }
    if (atomic_fetch_sub_explicit(&run->workers_left, 1, memory_order_acq_rel) == 1) run_free(run);
}

static void worker_run(kith_task *task) {
    worker_do((search_worker *)((char *)task - offsetof(search_worker, task)));
}

/* --- runs --- */

static void floors_init(search_run *run) {
    double none = -INFINITY;
    uint64_t bits;
    memcpy(&bits, &none, sizeof bits);
    for (uint32_t q = 0; q < run->batch.query_count; q++)
        atomic_init(&run->floor_bits[q], bits);
}

static search_run *run_allocate(const search_plan *plan, uint32_t query_count) {
    search_run *run = kith_try_alloc(sizeof *run + plan->worker_count * sizeof run->workers[0]);
    if (!run) return NULL;
    memset(run, 0, sizeof *run + plan->worker_count * sizeof run->workers[0]);
    run->units = kith_try_alloc(plan->unit_count * sizeof *run->units);
    run->lists = kith_try_alloc(query_count * sizeof *run->lists);
    run->hits = kith_try_alloc((size_t)query_count * plan->k * sizeof *run->hits);
    run->floor_bits = kith_try_alloc(query_count * sizeof *run->floor_bits);
    if (run->units && run->lists && run->hits && run->floor_bits) return run;
    run_free(run);
    return NULL;
}

/* Takes `view`. */
static search_run *run_create(const shard_batch *batch, shard_view *view, const search_plan *plan) {
    kith_shard *shard = batch->shard;
    const kith_field *field = &shard->schema.fields[batch->field_index];
    search_run *run = run_allocate(plan, batch->query_count);
    if (!run) return NULL;
    run->shard = shard;
    run->batch = *batch;
    run->view = view;
    run->plan = *plan;
    run->scratch_bytes = compute_scratch_bytes(shard->node->compute, field->dim, plan->tile, plan->k);
    if (plan->pass_count > 1 && kith_code_rows_fit(field->dim, field->type))
        run->deferred_rows = kith_deferred_rows(plan->k);
    const kith_compute_ops *compute = shard->node->compute;
    run->kept_bytes = compute->kept_bytes ? round_up(compute->kept_bytes(field->dim, plan->tile)) : 0;
    if (run->kept_bytes > 0)
        run->kept_most = search_least(view->part_count, 1 + (uint32_t)(KEPT_BYTES_MOST / run->kept_bytes));
    atomic_init(&run->jobs_left, plan->job_count);
    atomic_init(&run->workers_left, plan->worker_count);
    memset(run->lists, 0, batch->query_count * sizeof *run->lists);
    search_units_fill(view, plan, run->units);
    floors_init(run);
    for (uint32_t i = 0; i < plan->worker_count; i++) {
        run->workers[i].run = run;
        run->workers[i].task.run = worker_run;
    }
    return run;
}

/* --- start --- */

static bool is_small(
    const kith_shard *shard, uint32_t field_index, uint32_t query_count, const shard_view *view) {
    uint64_t dim = shard->schema.fields[field_index].dim;
    return view->row_count < SEARCH_UNIT_ROWS_MOST && view->row_count * query_count * dim <= INLINE_WORK_MAX;
}

/* Nothing is live. Takes `view`. */
static void search_end_empty(const shard_batch *batch, shard_view *view) {
    kith_hits *lists = kith_alloc_zero(batch->query_count * sizeof *lists);
    shard_batch_end(batch, view, KITH_OK, lists, NULL);
    kith_free(lists);
}

/* Takes `view`. */
static void view_search(const shard_batch *batch, shard_view *view) {
    kith_shard *shard = batch->shard;
    kith_executor *executor = shard->node->search;
    bool small = is_small(shard, batch->field_index, batch->query_count, view);
    uint32_t threads = small ? 1 : kith_executor_thread_count(executor);
    bool in_place = !shard->node->compute->attach;
    search_plan plan =
        search_plan_make(batch, view, &shard->schema.fields[batch->field_index], threads, in_place);
    search_run *run = run_create(batch, view, &plan);
    if (!run) {
        kith_err err;
        kith_status status =
            kith_err_set(&err, KITH_NO_MEMORY, "results of %u queries with k %u", batch->query_count, plan.k);
        shard_batch_end(batch, view, status, NULL, &err);
        return;
    }
    /* This thread is the first worker: the run is not freed before it has ended. The shard may be: the first task that is
     * posted can do all jobs and answer before the next is posted. */
    for (uint32_t i = 1; i < plan.worker_count; i++)
        kith_executor_post(executor, &run->workers[i].task);
    worker_do(&run->workers[0]);
}

/* A writer can be stopped by a health fault while its view stays good, so health is asked here. */
void shard_search_begin(const shard_batch *batch) {
    kith_err err = {0};
    kith_status status = shard_readable_check(batch->shard, &err);
    if (status != KITH_OK) {
        shard_batch_end(batch, NULL, status, NULL, &err);
        return;
    }
    shard_view *view = shard_view_acquire(batch->shard->view_cell);
    if (view->live_count == 0)
        search_end_empty(batch, view);
    else
        view_search(batch, view);
}

static void search_inline(kith_shard *shard, kith_shard_search *search) {
    shard_batch batch = shard_batch_of_one(shard, search);
    kith_err err;
    kith_status status = shard_batch_check(&batch, NULL, &err);
    if (status == KITH_OK)
        shard_search_begin(&batch);
    else
        shard_batch_end(&batch, NULL, status, NULL, &err);
}

static void search_closed_task(kith_task *task) {
    kith_shard_search *search = (kith_shard_search *)((char *)task - offsetof(kith_shard_search, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    search->done(search, status, NULL, &err);
}

static bool may_end_inline(kith_shard *shard, const kith_shard_search *search) {
    if (!search->may_run_inline) return false;
    shard_view *view = shard_view_acquire(shard->view_cell);
    bool small = is_small(shard, search->field_index, search->query_count, view);
    shard_view_release(view);
    return small;
}

void kith_shard_search_start(kith_shard *shard, kith_shard_search *search) {
    shard_search_state *state = shard_search_state_of(search);
    *state = (shard_search_state){.task = {.run = search_closed_task}, .shard = shard};
    if (!shard_use_try_acquire(shard))
        kith_executor_post(shard->node->search, &state->task);
    else if (may_end_inline(shard, search))
        search_inline(shard, search);
    else
        shard_batch_join(shard, search);
}

void kith_shard_search_release(kith_shard_search *search) {
    shard_search_state *state = shard_search_state_of(search);
    kith_shard *shard = state->shard;
    shard_view_release(state->view);
    shard_use_release(shard);
}
