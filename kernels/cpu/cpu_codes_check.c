/* Searching by codes: the rows that a query's codes could not rule out are checked in f32 before they are scored; where rows have
 * codes of their own, by these first, and what passes then may be put off to the end of the search.
 *
 * Bounds of codes let 10 to 50 rows pass for each that is among the k best: most are out by a wide margin as soon as
 * their vectors are looked at, in f32 and with the bound of a scan of vectors (cpu_bound.c), which is six digits wide.
 * What is left is scored at once, while the row is in the cache, and raises the threshold.
 *
 * The scan asks for a row when its codes pass, and checks when a tile of rows ends or enough have gathered: so a
 * group of queries, going through the rows together, fetches each row once. */
#include <math.h>

#include "kernels/cpu/cpu_bound.h"
#include "kernels/cpu/cpu_codes.h"
#include "kernels/cpu/cpu_hits.h"
#include "kernels/rounding.h"

enum {
    WIDENED_BYTES = 16 << 10, /* half of L1 */
    WIDE_ROWS = 2,            /* checking a row costs about as much as scanning so many as f32 */
    WIDE_CHECKED_LEAST = 8192,
};

static size_t row_bytes(uint32_t dim) {
    return (size_t)(dim + CPU_LANES_MAX - 1) / CPU_LANES_MAX * CPU_LANES_MAX * sizeof(float);
}

/* A query, and rows. */
size_t cpu_code_check_bytes(uint32_t dim) {
    return row_bytes(dim) + WIDENED_BYTES + row_bytes(dim);
}

void cpu_code_check_place(cpu_code_scan *scan, void *memory) {
    const kith_rows *rows = scan->job->rows;
    cpu_code_checker *checker = &scan->checker;
    uint32_t lanes = scan->leaves->lanes;
    checker->dim_padded = (rows->dim + lanes - 1) / lanes * lanes;
    bool whole = checker->dim_padded == rows->dim, in_place = whole && rows->type == KITH_TYPE_F32;
    float *widened = (float *)(void *)((char *)memory + row_bytes(rows->dim));
    checker->query = whole ? NULL : memory;
    checker->widened = in_place ? NULL : widened;
    size_t most = in_place ? CPU_TILE_ROWS_MAX : WIDENED_BYTES / row_bytes(rows->dim) + 1;
    checker->rows_most = most < CPU_TILE_ROWS_MAX ? (uint32_t)most : CPU_TILE_ROWS_MAX;
    checker->passed.candidate_lower = checker->lower;
    checker->passed.candidate_upper = checker->upper;
    checker->passed.candidate_rows = checker->rows;
    for (uint32_t i = 0; i < CPU_TILE_ROWS_MAX; i++) /* stale lanes are computed with: they must be floats */
        checker->sums[0][i] = checker->tile.norms[i] = 0;
}

cpu_bound cpu_code_query_bound(const cpu_code_scan *scan, const float *query) {
    const kith_rows *rows = scan->job->rows;
    /* products_apart adds over twice the lanes, at least. */
    return cpu_bound_of(rows->metric, query, rows->dim, scan->checker.dim_padded, 2 * scan->leaves->lanes);
}

void cpu_code_threshold_raise(const cpu_code_scan *scan, cpu_code_query *query, double closeness) {
    query->closeness_least = fmaxf(query->closeness_least, kith_round_down(closeness));
    query->threshold = fmaxf(query->threshold, kith_code_threshold(&query->made->code, closeness));
    if (scan->by_row)
        query->row_threshold =
            fmaxf(query->row_threshold, kith_code_threshold(&query->made->by_row, closeness));
    cpu_code_look_threshold_set(scan, query);
}

void cpu_code_widen(cpu_code_query *query) {
    query->wide = true;
    query->pending_count = query->asked_count = 0;
    query->threshold = query->look_threshold = INFINITY;
}

/* --- checks --- */

static void tile_fill(cpu_code_scan *scan, const uint32_t *numbers, uint32_t count) {
    const kith_rows *rows = scan->job->rows;
    cpu_code_checker *checker = &scan->checker;
    cpu_tile *tile = &checker->tile;
    const size_t bytes = (size_t)rows->dim * kith_vector_type_bytes(rows->type);
    tile->row_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const void *stored = (const char *)rows->vectors + numbers[i] * bytes;
        tile->row_numbers[i] = numbers[i];
        tile->norms[i] = rows->norms[numbers[i]];
        tile->rows[i] = stored;
        if (!checker->widened) continue;
        float *widened = checker->widened + (size_t)i * checker->dim_padded;
        scan->leaves->widen(stored, rows->type, rows->dim, checker->dim_padded, widened);
        tile->rows[i] = widened;
    }
    cpu_bound_tile(rows->metric, tile);
}

/* Those of the tile whose bound reaches the threshold. */
static void tile_filter(cpu_code_scan *scan, const cpu_code_query *query, const float *padded) {
    cpu_code_checker *checker = &scan->checker;
    const cpu_tile *tile = &checker->tile;
    cpu_query *passed = &checker->passed;
    passed->bound = query->made->bound;
    passed->threshold = query->closeness_least;
    passed->candidate_count = 0;
    scan->leaves->products_apart(padded, tile->rows, tile->row_count, checker->dim_padded, checker->sums[0]);
    scan->leaves->filter(scan->job->rows->metric, checker->sums[0], tile, passed);
}

/* A sample's: f32 tells enough. */
static void passed_sample(cpu_code_scan *scan, cpu_code_query *query) {
    const cpu_query *passed = &scan->checker.passed;
    for (uint32_t i = 0; i < passed->candidate_count; i++) {
        kith_row_hit hit = {
            .closeness = (double)passed->candidate_lower[i], .row = passed->candidate_rows[i]};
        if (hit.closeness >= query->floor) /* not where it is not a number */
            cpu_hits_push(scan->job, query->hits, &query->hit_count, hit);
    }
}

static void rows_score(cpu_code_scan *scan, cpu_code_query *query, const uint32_t *rows, uint32_t count) {
    double closeness[CPU_TILE_ROWS_MAX];
    if (count == 0) return;
    scan->leaves->rescore(scan->job->rows, query->query, rows, count, closeness);
    for (uint32_t i = 0; i < count; i++) {
        if (closeness[i] < query->floor) continue;
        kith_row_hit hit = {.closeness = closeness[i], .row = rows[i]};
        cpu_hits_push(scan->job, query->hits, &query->hit_count, hit);
    }
    query->rescored += count;
    if (query->hit_count == scan->job->k) cpu_code_threshold_raise(scan, query, query->hits[0].closeness);
}

/* A query that checks more is left to a scan of the vectors. */
static uint64_t checked_most(const cpu_code_scan *scan) {
    return WIDE_CHECKED_LEAST + 4 * (uint64_t)scan->job->k + scan->rows_seen / WIDE_ROWS;
}

static void vectors_check(cpu_code_scan *scan, cpu_code_query *query, uint32_t count) {
    const cpu_code_checker *checker = &scan->checker;
    const float *padded = query->query;
    if (checker->query && count > 0) {
        padded = checker->query;
        scan->leaves->widen(
            query->query, KITH_TYPE_F32, scan->job->rows->dim, checker->dim_padded, checker->query);
    }
    for (uint32_t begin = 0; begin < count; begin += checker->rows_most) {
        uint32_t left = count - begin;
        tile_fill(scan, query->pending + begin, left < checker->rows_most ? left : checker->rows_most);
        tile_filter(scan, query, padded);
        if (scan->job->sample)
            passed_sample(scan, query);
        else
            rows_score(scan, query, checker->passed.candidate_rows, checker->passed.candidate_count);
    }
}

static bool row_defer(const cpu_code_scan *scan, cpu_code_query *query, const kith_code_row *constants,
    int32_t sum, uint32_t row) {
    const kith_code_interval interval = kith_code_row_interval(&query->made->by_row, constants, sum);
    return kith_deferred_add(query->deferred,
        (kith_deferred_row){
            .least = interval.least, .most = interval.most, .origin = scan->job->origin, .row = row});
}

static void deferred_threshold(const cpu_code_scan *scan, cpu_code_query *query) {
    const float floor = kith_deferred_floor(query->deferred);
    if (floor > query->closeness_least) cpu_code_threshold_raise(scan, query, (double)floor);
}

/* Of the pending rows from `begin` on, those whose codes by row reach the threshold come to lie at `to`. In f64, where
 * roundings are far below those that the bound has room for. */
static void codes_check(const cpu_code_scan *scan, cpu_code_query *query, uint32_t begin, uint32_t to) {
    const kith_rows *rows = scan->job->rows;
    const kith_code_query *code = &query->made->by_row;
    const double error_weight = (double)code->error_weight, offset_weight = (double)code->offset_weight;
    const double threshold = (double)query->row_threshold;
    const uint8_t *codes[CPU_TILE_ROWS_MAX];
    int32_t sums[CPU_TILE_ROWS_MAX];
    const uint32_t count = query->pending_count - begin, *numbers = query->pending + begin;
    query->pending_count = query->asked_count = to;
    if (count == 0) return;
    for (uint32_t i = 0; i < count; i++)
        codes[i] = kith_code_row_at(rows->codes, numbers[i]);
    const int32_t start = scan->leaves->codes->signed_codes ? 0 : -code->bias;
    scan->leaves->codes->row_products(
        codes, count, query->row_words, cpu_code_row_levels(rows->dim), start, sums);
    for (uint32_t i = 0; i < count; i++) {
        const kith_code_row *row = kith_code_row_constants(codes[i], rows->dim);
        double upper = row->scale * (sums[i] + row->noise * error_weight) + row->offset * offset_weight;
        if (upper < threshold) continue;
        if (query->deferred && row_defer(scan, query, row, sums[i], numbers[i])) continue;
        cpu_code_prefetch(rows, numbers[i]);
        query->pending[to++] = numbers[i];
    }
    query->pending_count = query->asked_count = to;
    if (query->deferred) deferred_threshold(scan, query);
}

void cpu_code_check(cpu_code_scan *scan, cpu_code_query *query, uint32_t least) {
    query->checked += query->pending_count - query->asked_count;
    if (query->row_threshold > -INFINITY) {
        uint32_t asked = query->asked_count, kept = asked < least ? asked : 0;
        vectors_check(scan, query, asked - kept);
        codes_check(scan, query, asked, kept);
    } else {
        vectors_check(scan, query, query->pending_count);
        query->pending_count = query->asked_count = 0;
    }
    if (query->checked > checked_most(scan)) cpu_code_widen(query);
}
