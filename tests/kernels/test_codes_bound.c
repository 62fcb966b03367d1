/* The bound of codes.h, tried at its sharpest: for every row and query the upper bound must reach the threshold that
 * is made from this very row's closeness, whatever order f32 sums it in. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/base/alloc.h"
#include "tests/kernels/kernels_case.h"

static uint64_t seed;

typedef struct coded_queries {
    kith_code_query *made;
    kith_code_coarse *coarse;
    kith_code_query *by_row;
    int16_t *levels;
    int8_t *coarse_levels;
    int16_t *row_levels;
} coded_queries;

/* Sixteen bits hold what a processor adds up of four products, whatever the codes. */
static void coarse_levels_check(const int8_t *levels, uint32_t begin, uint32_t end) {
    uint32_t half = (end - begin) / 2;
    for (uint32_t i = begin; i < begin + half; i += 2) {
        const int32_t four[] = {levels[i], levels[i + 1], levels[i + half], levels[i + half + 1]};
        int32_t above = 0, below = 0;
        for (uint32_t j = 0; j < 4; j++) {
            assert_true(four[j] >= -127);
            above += four[j] > 0 ? four[j] : 0;
            below += four[j] < 0 ? four[j] : 0;
        }
        assert_true(above * 255 <= INT16_MAX && below * 255 >= INT16_MIN);
    }
}

/* Room for queries of a basis; levels_out [count][code_dim] is theirs. */
static kith_code_query *made_for(const kith_code_basis *basis, uint32_t count, int16_t **levels_out) {
    kith_code_query *made = kith_alloc_array(count, sizeof *made);
    int16_t *levels = *levels_out = kith_alloc_array((size_t)count * basis->code_dim, sizeof *levels);
    for (uint32_t i = 0; i < count; i++)
        made[i].levels = levels + (size_t)i * basis->code_dim;
    return made;
}

static coded_queries queries_make(const kernels_case *c, const kith_compute_ops *ops) {
    uint32_t count = c->shape.query_count, code_dim = c->codes.basis.code_dim;
    const kith_code_basis axes = kith_code_row_basis(&c->codes.basis);
    coded_queries queries = {.coarse = kith_alloc_array(count, sizeof *queries.coarse),
        .coarse_levels = kith_alloc_array((size_t)count * code_dim, sizeof *queries.coarse_levels)};
    void *scratch = kith_try_alloc_aligned(kith_code_query_scratch_bytes(&c->codes.basis, count));
    assert_non_null(scratch);
    queries.made = made_for(&c->codes.basis, count, &queries.levels);
    if (c->codes.by_row) queries.by_row = made_for(&axes, count, &queries.row_levels);
    kith_code_queries_make(ops, &c->codes.basis, c->queries, count, scratch, queries.made, queries.by_row);
    kith_free(scratch);
    for (uint32_t i = 0; i < count; i++) {
        kith_code_coarse *coarse = &queries.coarse[i];
        coarse->levels = queries.coarse_levels + (size_t)i * code_dim;
        const bool in_16 = i % 2 == 0;
        kith_code_query_coarsen(&c->codes.basis, &queries.made[i], in_16, coarse);
        if (!in_16) continue;
        coarse_levels_check(coarse->levels, 0, c->codes.basis.lead_dim);
        coarse_levels_check(coarse->levels, c->codes.basis.lead_dim, code_dim);
    }
    return queries;
}

static void queries_free(coded_queries *queries) {
    kith_free(queries->made);
    kith_free(queries->coarse);
    kith_free(queries->by_row);
    kith_free(queries->levels);
    kith_free(queries->coarse_levels);
    kith_free(queries->row_levels);
}

static uint32_t code_of(const kernels_case *c, const kith_code_block *block, uint32_t byte) {
    const uint8_t *codes = kith_code_part(block, kith_code_layout_of(&c->codes.basis).codes_at);
    return codes[byte];
}

/* With the levels, or the coarse ones. */
static int64_t integer_sum(const kernels_case *c, const kith_code_block *block, uint32_t at,
    const int16_t *levels, const int8_t *coarse, uint32_t begin, uint32_t end) {
    int64_t sum = 0;
    for (uint32_t i = begin; i < end; i++) {
        uint32_t byte =
            (i / KITH_CODE_GROUP * KITH_CODE_BLOCK_ROWS + at) * KITH_CODE_GROUP + i % KITH_CODE_GROUP;
        sum += ((int64_t)code_of(c, block, byte) - KITH_CODE_BIAS) * (levels ? levels[i] : coarse[i]);
    }
    return sum;
}

/* The smallest of several orders of the terms; `sum` has the noise. */
static float least_upper(float scale, float sum, float tail, float offset, float offset_weight) {
    volatile float terms[3] = {sum * scale, tail, offset * offset_weight};
    volatile float forward = (terms[0] + terms[1]) + terms[2];
    volatile float backward = (terms[2] + terms[1]) + terms[0];
    volatile float pairs = (terms[0] + terms[2]) + terms[1];
    float fused = fmaf(sum, scale, fmaf(offset, offset_weight, terms[1]));
    if (forward != forward || backward != backward || pairs != pairs || fused != fused) return INFINITY;
    return fminf(fminf(forward, backward), fminf(pairs, fused));
}

static void upper_check(
    const kernels_case *c, double upper, float threshold, uint32_t query, uint32_t row, double closeness) {
    if (!(upper < (double)threshold)) return;
    fail_msg(
        "row %u, query %u: upper %a is below the threshold %a of its closeness %a: metric %d type %d data %d "
        "dim %u codes %d lead %u by row %d seed %llu",
        row, query, upper, (double)threshold, closeness, c->shape.metric, c->shape.type, c->shape.data,
        c->shape.dim, c->shape.codes, c->codes.basis.lead_dim, c->codes.by_row != NULL,
        (unsigned long long)c->shape.seed);
}

/* A row's constants. */
typedef struct row_parts {
    float noise, length, scale, tail, lead_tail, offset;
} row_parts;

static row_parts row_parts_of(const kernels_case *c, const kith_code_block *block, uint32_t at) {
    kith_code_layout layout = kith_code_layout_of(&c->codes.basis);
    const float *lead_tails = layout.lead_tail_at ? kith_code_part(block, layout.lead_tail_at) : block->tail;
    const float *offsets = layout.offset_at ? kith_code_part(block, layout.offset_at) : NULL;
    return (row_parts){.noise = block->noise,
        .length = block->length,
        .scale = block->scale[at],
        .tail = block->tail[at],
        .lead_tail = lead_tails[at],
        .offset = offsets ? offsets[at] : 0};
}

/* The sums of the lead and of the rest. */
typedef struct row_sums {
    int64_t lead, rest;
} row_sums;

static float least_of(
    const kernels_case *c, const kith_code_query *query, const row_parts *row, row_sums sum) {
    /* As the CPU adds it to integers, and as a device adds it to the converted sum. */
    volatile float noise = row->noise * query->error_weight;
    int64_t steps = (int64_t)noise + 1;
    assert_true(row->noise <= kith_code_noise_most(c->codes.basis.code_dim));
    assert_true(llabs(sum.lead) + (llabs(sum.rest) + steps) <= INT32_MAX);
    assert_true(kith_code_noise_most(c->codes.basis.code_dim) * (double)query->error_weight <=
                ((double)INT32_MAX / KITH_CODE_LEVEL_SPAN) * (KITH_CODE_LEVEL_SPAN - 127));
    float tail = row->tail * query->tail_weight, lead_tail = row->lead_tail * query->lead_tail_weight;
    const float sums[] = {(float)(sum.lead + sum.rest + steps), (float)(sum.lead + steps) + (float)sum.rest,
        (float)(sum.lead + sum.rest) + noise, (float)(sum.lead + steps)};
    float least = INFINITY;
    for (uint32_t i = 0; i < 4; i++)
        least = fminf(least,
            least_upper(row->scale, sums[i], i == 3 ? lead_tail : tail, row->offset, query->offset_weight));
    return least;
}

/* By coarse levels: of all components at once, of the lead, and of the rest after it. */
static float coarse_least_of(
    const kernels_case *c, const kith_code_coarse *query, const row_parts *row, row_sums sum) {
    volatile float whole_weight = query->lead_length_weight + query->rest_length_weight;
    volatile float error = row->noise * query->error_weight;
    volatile float lead_length = row->length * query->lead_length_weight, length = row->length * whole_weight;
    volatile float rest_length = row->length * query->rest_length_weight;
    volatile float lead_start = error + lead_length, start = error + length;
    int64_t lead_steps = (int64_t)lead_start + 1, steps = (int64_t)start + 1;
    int64_t rest_steps = (int64_t)rest_length + 1;
    assert_true(255 * 127ll * c->codes.basis.code_dim + lead_steps + rest_steps <= INT32_MAX);
    float tail = row->tail * query->tail_weight, lead_tail = row->lead_tail * query->lead_tail_weight;
    const float sums[] = {(float)(sum.lead + sum.rest + steps),
        (float)(sum.lead + lead_steps) + (float)(sum.rest + rest_steps), (float)(sum.lead + lead_steps)};
    float least = INFINITY;
    for (uint32_t i = 0; i < 3; i++)
        least = fminf(least,
            least_upper(row->scale, sums[i], i == 2 ? lead_tail : tail, row->offset, query->offset_weight));
    return least;
}

/* By the row's own code, summed in f64: the interval holds the score, and the upper is returned. */
static double by_row_upper(
    const kernels_case *c, const kith_code_query *query, uint32_t row, double closeness) {
    const uint32_t dim = c->shape.dim, stride = kith_code_stride(dim);
    const uint8_t *codes = kith_code_row_at(&c->codes, row);
    const kith_code_row *constants = kith_code_row_constants(codes, dim);
    int64_t sum = 0;
    for (uint32_t i = 0; i < stride; i++) {
        assert_true(codes[i] > 0);
        sum += ((int64_t)codes[i] - KITH_CODE_BIAS) * query->levels[i];
    }
    assert_true(llabs(sum) <= INT32_MAX);
    kith_code_interval interval = kith_code_row_interval(query, constants, (int32_t)sum);
    if (!((double)interval.least <= closeness && closeness <= (double)interval.most))
        fail_msg("row %u: %a is not from %a to %a: metric %d type %d data %d dim %u seed %llu", row,
            closeness, (double)interval.least, (double)interval.most, c->shape.metric, c->shape.type,
            c->shape.data, dim, (unsigned long long)c->shape.seed);
    double error = (double)constants->noise * (double)query->error_weight;
    return (double)constants->scale * ((double)sum + error) +
           (double)constants->offset * (double)query->offset_weight;
}

static void row_check(
    const kernels_case *c, const coded_queries *queries, uint32_t query_index, uint32_t row) {
    const kith_code_block *block = kith_code_block_at(&c->codes, row / KITH_CODE_BLOCK_ROWS);
    const kith_code_basis *basis = &c->codes.basis;
    const kith_code_query *query = &queries->made[query_index];
    const kith_code_coarse *coarse = &queries->coarse[query_index];
    uint32_t at = row % KITH_CODE_BLOCK_ROWS, lead_dim = basis->lead_dim, code_dim = basis->code_dim;
    row_sums sum = {integer_sum(c, block, at, query->levels, NULL, 0, lead_dim),
        integer_sum(c, block, at, query->levels, NULL, lead_dim, code_dim)};
    row_sums coarse_sum = {integer_sum(c, block, at, NULL, coarse->levels, 0, lead_dim),
        integer_sum(c, block, at, NULL, coarse->levels, lead_dim, code_dim)};
    double closeness;
    const float *values = c->queries + (size_t)query_index * c->shape.dim;
    kith_compute_ref()->rescore(&c->rows, values, &row, 1, &closeness);
    float threshold = kith_code_threshold(query, closeness);
    row_parts parts = row_parts_of(c, block, at);
    upper_check(c, (double)least_of(c, query, &parts, sum), threshold, query_index, row, closeness);
    upper_check(c, (double)coarse_least_of(c, coarse, &parts, coarse_sum),
        kith_code_coarse_threshold(coarse, threshold), query_index, row, closeness);
    if (!c->codes.by_row) return;
    const kith_code_query *by_row = &queries->by_row[query_index];
    upper_check(c, by_row_upper(c, by_row, row, closeness), kith_code_threshold(by_row, closeness),
        query_index, row, closeness);
}

static void bound_check(const case_shape *shape, const kith_compute_ops *ops) {
    kernels_case c;
    case_create(shape, &c);
    coded_queries queries = queries_make(&c, ops);
    for (uint32_t q = 0; q < shape->query_count; q++) {
        for (uint32_t row = 0; row < shape->row_count; row++)
            row_check(&c, &queries, q, row);
    }
    queries_free(&queries);
    case_destroy(&c);
}

static void test_codes_bound__holds_for_every_kind_of_data(void **state) {
    (void)state;
    static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE};
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint64_t i = 0; i < test_scaled(3000); i++) {
        case_shape shape = {.metric = metrics[kith_rng_below(&rng, 3)],
            .type = (kith_vector_type)(KITH_TYPE_F32 + kith_rng_below(&rng, 4)),
            .data = (case_data)kith_rng_below(&rng, DATA_COUNT),
            .dim = 1 + (uint32_t)kith_rng_below(&rng, kith_rng_below(&rng, 8) ? 100 : 700),
            .row_count = 1 + (uint32_t)kith_rng_below(&rng, 100),
            .query_count = 1 + (uint32_t)kith_rng_below(&rng, 5),
            .k = 1,
            .codes = (case_codes)(1 + kith_rng_below(&rng, CODES_COUNT - 1)),
            .seed = kith_rng_next(&rng)};
        bound_check(&shape, kith_rng_below(&rng, 2) ? kith_compute_ref() : kith_compute_cpu());
    }
}

static void test_codes_bound__holds_at_the_widest(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 6; i++) {
        bound_check(&(case_shape){.metric = (kith_metric)(i % 2 ? KITH_METRIC_L2 : KITH_METRIC_IP),
                        .type = KITH_TYPE_F32,
                        .data = i < 2   ? DATA_NORMAL
                                : i < 4 ? DATA_EQUAL
                                        : DATA_OFFSET,
                        .dim = 16384,
                        .row_count = 40,
                        .query_count = 2,
                        .k = 1,
                        .codes = CODES_AXES,
                        .seed = seed + i},
            kith_compute_cpu());
    }
}

/* A query that is one of the rows, scaled and with single components flipped: where the bound is tightest. */
static void test_codes_bound__holds_for_rows_as_queries(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint64_t i = 0; i < test_scaled(300); i++) {
        case_shape shape = {.metric = i % 3 == 0   ? KITH_METRIC_L2
                                      : i % 3 == 1 ? KITH_METRIC_IP
                                                   : KITH_METRIC_COSINE,
            .type = KITH_TYPE_F32,
            .data = i % 2 ? DATA_NORMAL : DATA_INTEGERS,
            .dim = 33 + (uint32_t)kith_rng_below(&rng, 100),
            .row_count = 64,
            .query_count = 8,
            .k = 1,
            .codes = (case_codes)(1 + i % 2),
            .seed = kith_rng_next(&rng)};
        kernels_case c;
        case_create(&shape, &c);
        for (uint32_t q = 0; q < shape.query_count; q++) {
            float scale = q % 2 ? 1 : (float)kith_rng_normal(&rng) + 3;
            for (uint32_t d = 0; d < shape.dim; d++)
                c.queries[q * shape.dim + d] = scale * ((float *)c.vectors)[(size_t)q * 7 * shape.dim + d];
        }
        coded_queries queries = queries_make(&c, kith_compute_cpu());
        for (uint32_t q = 0; q < shape.query_count; q++) {
            for (uint32_t row = 0; row < shape.row_count; row++)
                row_check(&c, &queries, q, row);
        }
        queries_free(&queries);
        case_destroy(&c);
    }
}

/* Along the axes, what a row's code leaves of it. */
static void residual_of(const kernels_case *c, uint32_t row, float *residual_out) {
    const kith_code_block *block = kith_code_block_at(&c->codes, row / KITH_CODE_BLOCK_ROWS);
    const float *values = (const float *)c->vectors + (size_t)row * c->shape.dim;
    uint32_t at = row % KITH_CODE_BLOCK_ROWS;
    double square = 0;
    for (uint32_t i = 0; c->shape.metric == KITH_METRIC_COSINE && i < c->shape.dim; i++)
        square += (double)values[i] * values[i];
    double length = c->shape.metric == KITH_METRIC_COSINE ? sqrt(square) : 1;
    for (uint32_t i = 0; i < c->shape.dim; i++) {
        uint32_t byte =
            (i / KITH_CODE_GROUP * KITH_CODE_BLOCK_ROWS + at) * KITH_CODE_GROUP + i % KITH_CODE_GROUP;
        double coded = (double)block->scale[at] * ((int)code_of(c, block, byte) - KITH_CODE_BIAS);
        residual_out[i] = (float)(values[i] / length - c->codes.basis.mean[i] - coded);
    }
}

/* Cauchy-Schwarz is an equality where the query lies along the row's residual; one large component makes that
 * residual long. Nothing random comes near it. */
static void test_codes_bound__holds_for_queries_along_the_residual(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint64_t i = 0; i < test_scaled(120); i++) {
        case_shape shape = {.metric = i % 3 == 0   ? KITH_METRIC_L2
                                      : i % 3 == 1 ? KITH_METRIC_IP
                                                   : KITH_METRIC_COSINE,
            .type = KITH_TYPE_F32,
            .data = DATA_NORMAL,
            .dim = 256 << i % 5,
            .row_count = 8,
            .query_count = 8,
            .k = 1,
            .seed = kith_rng_next(&rng)};
        kernels_case c;
        case_create(&shape, &c);
        for (uint32_t row = 0; row < shape.row_count; row++)
            ((float *)c.vectors)[(size_t)row * shape.dim + kith_rng_below(&rng, shape.dim)] *= 100;
        c.shape.codes = CODES_AXES;
        case_codes_make(&c, &rng);
        for (uint32_t q = 0; q < shape.query_count; q++) {
            float *query = c.queries + (size_t)q * shape.dim;
            residual_of(&c, q, query);
            for (uint32_t d = 0; shape.metric == KITH_METRIC_L2 && d < shape.dim; d++)
                query[d] += c.codes.basis.mean[d];
        }
        coded_queries queries = queries_make(&c, kith_compute_cpu());
        for (uint32_t q = 0; q < shape.query_count; q++)
            row_check(&c, &queries, q, q);
        queries_free(&queries);
        case_destroy(&c);
    }
}

/* One component is so large that coarse levels know nothing of the others, and rows lie along these, without an error of
 * their own: Cauchy-Schwarz is an equality once more. */
static void test_codes_bound__coarse_levels_hold_for_rows_along_what_they_leave(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint64_t i = 0; i < test_scaled(60); i++) {
        case_shape shape = {.metric = KITH_METRIC_IP,
            .type = KITH_TYPE_F32,
            .data = DATA_NORMAL,
            .dim = 512u << i % 3,
            .row_count = 16,
            .query_count = 1,
            .k = 1,
            .seed = kith_rng_next(&rng)};
        kernels_case c;
        case_create(&shape, &c);
        float *rows = c.vectors;
        uint32_t large = (uint32_t)kith_rng_below(&rng, shape.dim);
        for (uint32_t d = 0; d < shape.dim; d++) {
            float sign = kith_rng_below(&rng, 2) ? 1 : -1;
            c.queries[d] = d == large ? 1 : 0.0036f * sign;
            for (uint32_t row = 0; row < shape.row_count; row++) /* of mean 0 */
                rows[(size_t)row * shape.dim + d] = d == large ? 0 : row % 2 ? -sign : sign;
        }
        c.shape.codes = CODES_AXES;
        case_codes_make(&c, &rng);
        coded_queries queries = queries_make(&c, kith_compute_cpu());
        for (uint32_t row = 0; row < shape.row_count; row++)
            row_check(&c, &queries, 0, row);
        queries_free(&queries);
        case_destroy(&c);
    }
}

/* Equal components have the largest sum of levels: 128 times it, and minus that, are an int32 too. */
static void test_codes_bound__the_bias_fits(void **state) {
    (void)state;
    enum { DIM_MOST = 16384 };
    float *mean = kith_alloc_zero(DIM_MOST * sizeof *mean),
          *query = kith_alloc_array(DIM_MOST, sizeof *query);
    int16_t *levels = kith_alloc_array(DIM_MOST, sizeof *levels);
    for (uint32_t i = 0; i < DIM_MOST; i++)
        query[i] = -1;
    for (uint32_t dim = 16; dim <= DIM_MOST; dim *= 2) {
        kith_code_basis basis = {
            .dim = dim, .code_dim = dim, .lead_dim = dim, .metric = KITH_METRIC_IP, .mean = mean};
        kith_code_query made = {.levels = levels};
        void *scratch = kith_try_alloc_aligned(kith_code_query_scratch_bytes(&basis, 1));
        kith_code_queries_make(kith_compute_cpu(), &basis, query, 1, scratch, &made, NULL);
        int64_t sum = 0;
        for (uint32_t i = 0; i < dim; i++)
            sum += levels[i];
        assert_true(sum < 0 && KITH_CODE_BIAS * sum >= -INT32_MAX);
        assert_true(KITH_CODE_BIAS * sum == made.bias);
        kith_free(scratch);
    }
    kith_free(mean);
    kith_free(query);
    kith_free(levels);
}

int main(void) {
    seed = test_seed(20261121);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_bound__holds_for_every_kind_of_data),
        cmocka_unit_test(test_codes_bound__holds_at_the_widest),
        cmocka_unit_test(test_codes_bound__holds_for_rows_as_queries),
        cmocka_unit_test(test_codes_bound__holds_for_queries_along_the_residual),
        cmocka_unit_test(test_codes_bound__coarse_levels_hold_for_rows_along_what_they_leave),
        cmocka_unit_test(test_codes_bound__the_bias_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
