/* Choosing code_dim by what a scan would cost. A longer code takes longer to read, a shorter one lets more rows pass
 * that must be scored in full:
 *
 *   cost of a row in a batch, in cycles =
 *       look/rate + wide + again * (16 (code_dim - look)/rate + 600 wide)/16 + passing/1.2 * 5 dim
 *
 * with look = code_dim and again = 0 where all components are looked at at once; else look = lead_dim, and again is the
 * part of vectors of 16 rows that have a row which passes the first look, 1 - (1 - passing(lead_dim))^16.
 *
 * rate is the processor's (kith_compute_ops.code_rate), 32 with AVX2, a multiply-add of 32 bytes a cycle; there wide is 1,
 * what the bound's three terms add to a row, else sqrt(32/rate): wider vectors do more rows at once, and mispredict less
 * often a row. 5 dim is `rescore` in f64 and the cache misses of a lone row. Text with a rate of 100 instead of 32 has
 * code_dim 192 to 224 instead of 176 and 192, and takes a thread with AVX-512 VNNI up to 20 % less CPU; SIFT, 64 instead of 48,
 * as much, but a sixth more for a query alone.
 *
 * A second look is dear: the branch is mispredicted, and what it multiplies stands alone. With 100 cycles instead of 600, text had
 * code_dim 208 and 224 and first looks of 144 and 160. One look at 208 | 224 | 240 components takes 88 | 90 | 93 % of that
 * CPU for batches of 32 at k = 10, 91 | 88 | 88 % at k = 100, and 93 to 96 % and 89 to 93 % for 1,024; SIFT, one look at 64
 * instead of 48 of 64, 97 to 99 % and 85 % (AVX-512 VNNI, Intel Xeon, 2026-11-22). With AVX2 on the same processor text takes 96 to
 * 107 % at k = 10 and 95 % at k = 100 by one look at 176 instead of 128 of 176.
 *
 * All of them are guesses within a factor of two, which moves code_dim by a step or two,
 * where the cost is flat at k = 10. At k = 100 four to eight times as many rows pass, so a guess that is too high costs
 * less than one too low: of 210,000 rows of text, dim 384, with code_dim 160 | 176 | 192 | 208 | 224, a thread answers
 * 1,008 | 1,183 | 1,351 | 1,438 | 1,455 queries a second at k = 10 and 423 | 480 | 631 | 754 | 810 at k = 100 (batches of
 * 1,024; Zen 3, 2026-11-21).
 *
 * `passing` is the part of rows whose upper bound reaches the threshold, counted on the sample: some of its rows are
 * queries, the others the rows, and the threshold is the closeness of the one of them that would be about the 48th nearest
 * of all rows, between the k that are asked for most. The nearest of 8,000 is the 60th of 500,000, so in large segments
 * `passing` is counted too high, and five sixths of it are put into the costs. The bound is that of codes.h,
 *
 *   upper = q'.z^ + |w| error + |q2| |z2| + offset,   error = 0.29 sqrt(code_dim) max|y| / 127 + slope |y|
 *
 * where q'.z^ is modelled by w.y and the quantisation residual by its expectation: each component errs uniformly
 * within half a step, sqrt(1/12) = 0.29 steps of max|y|/127.
 *
 * A single query is bound by the bytes it reads, at about 6.6 a cycle (21 GB/s at 3.2 GHz):
 *
 *   cost of a row, alone = (code_dim + 10 to 18 of constants)/6.6 + passing/1.2 * 5 dim
 *
 * The code_dim with the least product of both costs is taken: neither is bought dearly with the other. The plain code of
 * the axes costs no projection at encoding and has no tail; it stands as the longest candidate. */
#include "kernels/codes/codes_cost.h"

#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "kernels/codes/codes_bound.h"

#define COST_QUERIES_MAX 48u
#define COST_STEPS_MAX   64u /* of code_dim */
#define COST_BYTES_CYCLE 6.6
#define COST_RESCORE     5.0 /* cycles a component */
#define COST_PASSING_TOO_HIGH                                                                                \
    1.2 /* SIFT, 1M, AVX2: code_dim 48; 64 would be its choice at 1.1, with a quarter more memory and 7 to 14 % more CPU */
#define COST_ERROR_OF_STEP 0.29
#define COST_CODE_MAX      127.0f
#define COST_VECTOR_ROWS   16.0
#define COST_AGAIN         600
#define COST_RATE          32   /* that these figures are for */
#define COST_RANK          48.0 /* between the k that are asked for most: 10 and 100 */
#define COST_RANK_MOST     8u
#define COST_ROWS_LEAST    65536.0 /* small segments lie beside others, which have nearer rows */

typedef struct cost_work {
    const code_sample *sample;
    const float *rows; /* [row_count][stride]: the sample without the queries */
    uint32_t row_count, query_count, direction_count, steps;
    uint32_t rank; /* of the row that a query's threshold is made from */
    double rate, wide;
    float *queries;     /* q' [query_count][stride] */
    float *query_parts; /* w [query_count][direction_count] */
    float *row_parts;   /* y [row_count][direction_count] */
    float *sums;        /* q'.z [query_count][row_count] */
    float *errors;      /* [row_count][steps + 1], by code_dim; the last of the axes */
    float *tails;       /* [row_count][steps] */
    float *offsets;     /* [row_count] */
    uint64_t passed[COST_STEPS_MAX + 1];
} cost_work;

static float *next(float **memory, size_t floats) {
    float *at = *memory;
    *memory += (floats + 15) / 16 * 16;
    return at;
}

/* Points the arrays into `memory`; returns the floats they take. */
static size_t lay_out(cost_work *work, float *memory) {
    size_t rows = work->row_count, queries = work->query_count;
    float *at = memory;
    work->queries = next(&at, queries * work->sample->stride);
    work->query_parts = next(&at, queries * work->direction_count);
    work->row_parts = next(&at, rows * work->direction_count);
    work->sums = next(&at, queries * rows);
    work->errors = next(&at, rows * (work->steps + 1));
    work->tails = next(&at, rows * work->steps);
    work->offsets = next(&at, rows);
    return (size_t)(at - memory);
}

/* --- queries and rows --- */

/* Moves every n-th row to the front: the queries. */
static void queries_choose(code_sample *sample, uint32_t query_count) {
    uint32_t apart = sample->row_count / query_count;
    for (uint32_t i = 0; i < query_count; i++) {
        float *to = sample->rows + (size_t)i * sample->stride;
        float *from = sample->rows + (size_t)i * apart * sample->stride;
        for (uint32_t j = 0; j < sample->stride; j++) {
            float value = to[j];
            to[j] = from[j];
            from[j] = value;
        }
    }
}

/* q' is q - mean under l2, else q. */
static void queries_fill(cost_work *work) {
    const code_sample *sample = work->sample;
    bool centred = sample->metric == KITH_METRIC_L2;
    for (uint32_t query = 0; query < work->query_count; query++) {
        const float *row = sample->rows + (size_t)query * sample->stride;
        float *to = work->queries + (size_t)query * sample->stride;
        for (uint32_t i = 0; i < sample->stride; i++)
            to[i] = row[i] + (centred ? 0 : sample->mean[i]);
    }
}

static float error_of(const cost_work *work, uint32_t code_dim, float most, double square, double length) {
    if (!(length <= CODE_ROW_LENGTH_MOST * work->sample->scale))
        return INFINITY; /* encoded as "always kept" */
    double step = most / COST_CODE_MAX;
    return (float)(COST_ERROR_OF_STEP * sqrt(code_dim) * step + KITH_CODE_SLOPE * sqrt(square));
}

static void values_add(const float *values, uint32_t count, float *most, double *square) {
    for (uint32_t i = 0; i < count; i++) {
        *most = fmaxf(*most, fabsf(values[i]));
        *square += (double)values[i] * values[i];
    }
}

static void row_fill(cost_work *work, uint32_t row) {
    const code_sample *sample = work->sample;
    float *errors = work->errors + (size_t)row * (work->steps + 1);
    float axes_most = 0, most = 0;
    double whole = 0, seen = 0;
    values_add(work->rows + (size_t)row * sample->stride, sample->dim, &axes_most, &whole);
    double length = sqrt(whole);
    errors[work->steps] = error_of(work, sample->stride, axes_most, whole, length);
    work->offsets[row] = sample->metric == KITH_METRIC_L2 ? (float)(-whole / 2) : 0;
    const float *parts = work->row_parts + (size_t)row * work->direction_count;
    for (uint32_t step = 0; step < work->steps; step++) {
        values_add(parts + (size_t)step * KITH_CODE_DIM_STEP, KITH_CODE_DIM_STEP, &most, &seen);
        errors[step] = error_of(work, (step + 1) * KITH_CODE_DIM_STEP, most, seen, length);
        work->tails[(size_t)row * work->steps + step] = (float)sqrt(fmax(0, whole - seen));
    }
}

/* --- counting who passes --- */

typedef struct cost_query {
    const float *parts, *sums;
    float threshold;
    float lengths[COST_STEPS_MAX + 1]; /* |w|, the last |q'| */
    float tails[COST_STEPS_MAX];       /* |q2| */
} cost_query;

/* The rank-th largest sum with its offset. */
static float nearest_find(const cost_work *work, const float *sums) {
    float nearest[COST_RANK_MOST]; /* the largest so far, the largest first */
    for (uint32_t i = 0; i < work->rank; i++)
        nearest[i] = -INFINITY;
    for (uint32_t row = 0; row < work->row_count; row++) {
        float sum = sums[row] + work->offsets[row];
        if (!(sum > nearest[work->rank - 1])) continue;
        uint32_t at = work->rank - 1;
        for (; at > 0 && nearest[at - 1] < sum; at--)
            nearest[at] = nearest[at - 1];
        nearest[at] = sum;
    }
    return nearest[work->rank - 1];
}

/* Of the sample's rows, so that it is about the COST_RANK-th of all. */
static uint32_t rank_of(const cost_work *work) {
    double rank = floor(COST_RANK * work->row_count / fmax(work->sample->of_rows, COST_ROWS_LEAST) + 0.5);
    return rank < 1 ? 1 : rank > COST_RANK_MOST ? COST_RANK_MOST : (uint32_t)rank;
}

/* False: it could not be coded, and every row would pass. */
static bool query_fill(const cost_work *work, uint32_t index, cost_query *query) {
    const code_sample *sample = work->sample;
    query->parts = work->query_parts + (size_t)index * work->direction_count;
    query->sums = work->sums + (size_t)index * work->row_count;
    query->threshold = nearest_find(work, query->sums);
    float most = 0;
    double whole = 0, seen = 0;
    values_add(work->queries + (size_t)index * sample->stride, sample->dim, &most, &whole);
    double length = sqrt(whole);
    query->lengths[work->steps] = (float)length;
    for (uint32_t step = 0; step < work->steps; step++) {
        const float *parts = query->parts + (size_t)step * KITH_CODE_DIM_STEP;
        values_add(parts, KITH_CODE_DIM_STEP, &most, &seen);
        query->lengths[step] = (float)sqrt(seen);
        query->tails[step] = (float)sqrt(fmax(0, whole - seen));
    }
    return length >= CODE_QUERY_LEAST * sample->scale && length <= CODE_QUERY_MOST * sample->scale;
}

static float step_dot(const float *a, const float *b) {
    float lanes[4] = {0};
    for (uint32_t i = 0; i < KITH_CODE_DIM_STEP; i += 4) {
        for (uint32_t lane = 0; lane < 4; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    }
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

static void row_count_passing(cost_work *work, const cost_query *query, uint32_t row) {
    const float *errors = work->errors + (size_t)row * (work->steps + 1);
    const float *tails = work->tails + (size_t)row * work->steps;
    const float *parts = work->row_parts + (size_t)row * work->direction_count;
    float offset = work->offsets[row];
    float sum = 0;
    for (uint32_t step = 0; step < work->steps; step++) {
        size_t at = (size_t)step * KITH_CODE_DIM_STEP;
        sum += step_dot(query->parts + at, parts + at);
        float upper = sum + query->lengths[step] * errors[step] + query->tails[step] * tails[step] + offset;
        work->passed[step] += !(upper < query->threshold);
    }
    float upper = query->sums[row] + query->lengths[work->steps] * errors[work->steps] + offset;
    work->passed[work->steps] += !(upper < query->threshold);
}

static void passing_count(cost_work *work) {
    for (uint32_t i = 0; i < work->query_count; i++) {
        cost_query query;
        if (query_fill(work, i, &query)) {
            for (uint32_t row = 0; row < work->row_count; row++)
                row_count_passing(work, &query, row);
        } else {
            for (uint32_t step = 0; step <= work->steps; step++)
                work->passed[step] += work->row_count;
        }
    }
}

/* --- the choice --- */

static uint32_t step_dim(const cost_work *work, uint32_t step) {
    return step < work->steps ? (step + 1) * KITH_CODE_DIM_STEP : work->sample->stride;
}

static double passing_of(const cost_work *work, uint32_t step) {
    return (double)work->passed[step] / ((double)work->row_count * work->query_count);
}

static double look_cost(const cost_work *work, uint32_t look, uint32_t step) {
    uint32_t look_dim = step_dim(work, look), code_dim = step_dim(work, step);
    double cost = look_dim / work->rate + work->wide;
    if (look == step) return cost;
    double again = 1 - pow(1 - passing_of(work, look), COST_VECTOR_ROWS);
    double multiplied = COST_VECTOR_ROWS * (code_dim - look_dim) / work->rate;
    return cost + again * (multiplied + COST_AGAIN * work->wide) / COST_VECTOR_ROWS;
}

/* The cheapest first look. The axes are not in order: they have one look only. */
static uint32_t look_choose(const cost_work *work, uint32_t step) {
    uint32_t best = step;
    for (uint32_t look = 0; step < work->steps && look < step; look++) {
        if (look_cost(work, look, step) < look_cost(work, best, step)) best = look;
    }
    return best;
}

static double rescore_cost(const cost_work *work, uint32_t step) {
    return passing_of(work, step) / COST_PASSING_TOO_HIGH * (COST_RESCORE * work->sample->dim);
}

/* In a batch. */
static double batch_cost(const cost_work *work, uint32_t step) {
    return look_cost(work, look_choose(work, step), step) + rescore_cost(work, step);
}

static double row_bytes(const cost_work *work, uint32_t step) {
    kith_code_basis basis = {.metric = work->sample->metric,
        .code_dim = step_dim(work, step),
        .lead_dim = step_dim(work, look_choose(work, step))};
    return (double)kith_code_block_bytes(&basis) / KITH_CODE_BLOCK_ROWS;
}

static double alone_cost(const cost_work *work, uint32_t step) {
    return row_bytes(work, step) / COST_BYTES_CYCLE + rescore_cost(work, step);
}

/* Infinite when the code is no shorter than the row. */
static double step_cost(const cost_work *work, uint32_t step) {
    const code_sample *sample = work->sample;
    if (row_bytes(work, step) >= (double)(sample->dim * kith_vector_type_bytes(sample->type)))
        return INFINITY;
    return batch_cost(work, step) * alone_cost(work, step);
}

/* What a scan of the vectors costs: 16 f32 multiply-adds a cycle, of which two thirds are reached, and as much beside
 * as codes have; doubled, because `passing` is counted high and queries whose bounds fail go over to vectors anyway. */
static double vectors_cost(const cost_work *work) {
    return work->sample->dim / 8.0 + 4;
}

static code_choice choose(const cost_work *work) {
    uint32_t best = 0;
    for (uint32_t step = 1; step <= work->steps; step++) {
        if (step_cost(work, step) < step_cost(work, best)) best = step;
    }
    bool shorter = isfinite(step_cost(work, best));
    return (code_choice){.useful = shorter && batch_cost(work, best) < vectors_cost(work),
        .axes = best == work->steps,
        .code_dim = step_dim(work, best),
        .lead_dim = step_dim(work, look_choose(work, best))};
}

kith_status code_choice_make(const kith_compute_ops *ops, code_sample *sample, const float *directions,
    uint32_t direction_count, code_choice *choice_out, kith_err *err) {
    uint32_t quarter = sample->row_count / 4;
    cost_work work = {.sample = sample,
        .query_count = quarter < COST_QUERIES_MAX ? quarter : COST_QUERIES_MAX,
        .direction_count = direction_count,
        .steps = direction_count / KITH_CODE_DIM_STEP,
        .rate = ops->code_rate > 0 ? ops->code_rate : COST_RATE};
    work.wide = sqrt(COST_RATE / work.rate);
    work.row_count = sample->row_count - work.query_count;
    work.rank = rank_of(&work);
    work.rows = sample->rows + (size_t)work.query_count * sample->stride;
    size_t floats = lay_out(&work, NULL);
    float *memory = kith_try_alloc_aligned(floats * sizeof *memory);
    if (!memory) return kith_err_set(err, KITH_NO_MEMORY, "no memory to choose codes of dim %u", sample->dim);
    (void)lay_out(&work, memory);
    queries_choose(sample, work.query_count);
    queries_fill(&work);
    uint32_t stride = sample->stride;
    ops->products(work.queries, work.query_count, work.rows, work.row_count, stride, work.sums);
    if (direction_count > 0) {
        ops->products(work.queries, work.query_count, directions, direction_count, stride, work.query_parts);
        ops->products(work.rows, work.row_count, directions, direction_count, stride, work.row_parts);
    }
    for (uint32_t row = 0; row < work.row_count; row++)
        row_fill(&work, row);
    passing_count(&work);
    *choice_out = choose(&work);
    kith_free(memory);
    return KITH_OK;
}
