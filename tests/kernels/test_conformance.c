/* Every backend gives ref's bits: over a grid of shapes, over random shapes, and on data made to break the
 * bounds. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "kernels/deferred.h"
#include "tests/kernels/kernels_case.h"

static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE, KITH_METRIC_L1};
static const kith_vector_type types[] = {KITH_TYPE_F32, KITH_TYPE_F16, KITH_TYPE_BF16, KITH_TYPE_I8};
#define COUNT_OF(array) ((uint32_t)(sizeof(array) / sizeof(array)[0]))

static uint64_t seed;

/* Terms that ref may spend on a case: it is the slow one. */
static uint32_t queries_within(uint32_t query_count, uint32_t dim, uint32_t row_count, uint64_t terms) {
    uint64_t most = terms / ((uint64_t)dim * (row_count + 1)) + 1;
    return query_count < most ? query_count : (uint32_t)most;
}

static void grid_check(kith_metric metric, kith_vector_type type, uint32_t dim) {
    static const uint32_t row_counts[] = {0, 1, 63, 64, 65, 200, 1000};
    static const uint32_t query_counts[] = {1, 2, 7, 64};
    static const uint32_t ks[] = {1, 10, 100, 3, 1500};
    static uint32_t turn;
    for (uint32_t i = 0; i < COUNT_OF(row_counts); i++, turn++) {
        case_shape shape = {
            .metric = metric,
            .type = type,
            .data = turn % 3 == 0 ? DATA_INTEGERS : DATA_NORMAL,
            .dim = dim,
            .row_count = row_counts[i],
            .query_count = query_counts[turn % COUNT_OF(query_counts)],
            .k = ks[turn % COUNT_OF(ks)],
            .codes = (case_codes)(turn % CODES_COUNT),
            .dead = turn % 2,
            .allow = turn / 2 % 2,
            .part = turn / 4 % 2,
            .words = (case_words)(turn / 8 % WORDS_COUNT),
            .seed = seed + turn,
        };
        shape.query_count = queries_within(shape.query_count, dim, shape.row_count, 500000);
        case_check(&shape);
    }
}

static void test_conformance__grid_of_shapes(void **state) {
    (void)state;
    static const uint32_t dims[] = {1, 3, 8, 17, 31, 64, 100, 128, 768, 1536};
    for (uint32_t m = 0; m < COUNT_OF(metrics); m++) {
        for (uint32_t t = 0; t < COUNT_OF(types); t++) {
            for (uint32_t d = 0; d < COUNT_OF(dims); d++)
                grid_check(metrics[m], types[t], dims[d]);
        }
    }
}

static void test_conformance__widest_vectors(void **state) {
    (void)state;
    for (uint32_t i = 0; i < COUNT_OF(metrics) * COUNT_OF(types); i++) {
        case_check(&(case_shape){.metric = metrics[i / 4],
            .type = types[i % 4],
            .dim = 16384 - i % 2,
            .row_count = 71,
            .query_count = 2,
            .k = 5,
            .codes = CODES_AXES,
            .seed = seed + i});
    }
}

/* Each number of queries has code of its own, up to a block of them and what is left over; 1100 rows are enough for
 * codes to be scanned. */
static void test_conformance__codes_of_every_number_of_queries(void **state) {
    (void)state;
    static const uint32_t dims[] = {40, 70, 300};
    for (uint32_t count = 1; count <= 26; count++) {
        case_shape shape = {.metric = metrics[count % 3],
            .type = types[count % 2],
            .dim = dims[count % 5 % 3],
            .row_count = 1100 + count,
            .query_count = count,
            .k = 1 + count % 4,
            .codes = (case_codes)(CODES_AXES + count % 2),
            .dead = count % 7 == 3,
            .seed = seed + count};
        case_check(&shape);
    }
}

/* More queries than a group holds, and candidates of many queries at once. */
static void test_conformance__large_batches(void **state) {
    (void)state;
    for (uint32_t m = 0; m < COUNT_OF(metrics); m++) {
        case_check(&(case_shape){.metric = metrics[m],
            .type = types[m],
            .dim = 19,
            .row_count = 700,
            .query_count = 499,
            .k = 7,
            .codes = CODES_AXES,
            .seed = seed});
    }
}

/* And by codes, which takes 1024 rows: groups of as many queries as half a mebibyte holds, some with codes by row. */
static void test_conformance__groups_of_coded_queries(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        case_check(&(case_shape){.metric = metrics[i],
            .type = KITH_TYPE_F32,
            .dim = 1500,
            .row_count = 1030,
            .query_count = 190,
            .k = 3,
            .codes = CODES_AXES,
            .seed = (seed + i) * 4}); /* kept, too */
    }
}

static void test_conformance__large_k(void **state) {
    (void)state;
    for (uint32_t m = 0; m < COUNT_OF(metrics); m++) {
        case_shape shape = {.metric = metrics[m],
            .type = KITH_TYPE_F32,
            .dim = 5,
            .row_count = 9000,
            .query_count = 2,
            .k = 2000,
            .seed = seed};
        case_check(&shape);
        shape.k = 16384;
        shape.data = DATA_INTEGERS;
        case_check(&shape);
    }
}

static case_shape shape_random(kith_rng *rng) {
    case_shape shape = {
        .metric = metrics[kith_rng_below(rng, 4)],
        .type = types[kith_rng_below(rng, 4)],
        .data = (case_data)kith_rng_below(rng, DATA_COUNT),
        .dim = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 4) ? 80 : 900),
        .row_count = (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 4) ? 400 : 3000),
        .query_count = 1 + (uint32_t)kith_rng_below(rng, 20),
        .k = 1 + (uint32_t)kith_rng_below(rng, kith_rng_below(rng, 4) ? 20 : 600),
        .codes = (case_codes)kith_rng_below(rng, CODES_COUNT),
        .dead = kith_rng_below(rng, 2),
        .allow = kith_rng_below(rng, 2),
        .floors = kith_rng_below(rng, 2),
        .reversed_ties = kith_rng_below(rng, 2),
        .part = kith_rng_below(rng, 2),
        .words = (case_words)kith_rng_below(rng, WORDS_COUNT),
        .seed = kith_rng_next(rng),
    };
    shape.query_count = queries_within(shape.query_count, shape.dim, shape.row_count, 200000);
    return shape;
}

static void test_conformance__random_shapes(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (uint64_t i = 0; i < test_scaled(4000); i++) {
        case_shape shape = shape_random(&rng);
        case_check(&shape);
    }
}

/* Each kind of hard data at shapes where thousands of rows compete: a bound that is too tight loses a
 * neighbour here. */
static void test_conformance__hard_data(void **state) {
    (void)state;
    static const uint32_t dims[] = {4, 33, 256};
    for (uint32_t data = 0; data < DATA_COUNT; data++) {
        for (uint32_t m = 0; m < COUNT_OF(metrics); m++) {
            for (uint32_t d = 0; d < COUNT_OF(dims); d++) {
                case_check(&(case_shape){.metric = metrics[m],
                    .type = d == 1 ? KITH_TYPE_BF16 : KITH_TYPE_F32,
                    .data = (case_data)data,
                    .dim = dims[d],
                    .row_count = 2500,
                    .query_count = 3,
                    .k = 10,
                    .codes = (case_codes)((data + d) % CODES_COUNT),
                    .reversed_ties = d == 0,
                    .seed = seed + data});
            }
        }
    }
}

/* --- single behaviours --- */

static void each_backend(void (*check)(const kith_compute_ops *ops)) {
    uint32_t count;
    const kith_compute_ops *const *backends = case_backends(&count);
    for (uint32_t i = 0; i < count; i++)
        check(backends[i]);
    check(kith_compute_ref());
}

static void equal_rows_check(const kith_compute_ops *ops) {
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_F32,
                    .data = DATA_EQUAL,
                    .dim = 24,
                    .row_count = 5000,
                    .query_count = 1,
                    .k = 10,
                    .seed = seed},
        &c);
    kith_row_hit hits[10];
    uint32_t found;
    kith_top_k_stats stats = {0};
    case_top_k(&c, ops, hits, &found, &stats);
    assert_int_equal(found, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(hits[i].row, i);
    if (ops != kith_compute_ref()) assert_int_equal(stats.wide_scans, 1);
    case_destroy(&c);
}

static void test_conformance__equal_rows_are_ranked_by_row_and_counted(void **state) {
    (void)state;
    each_backend(equal_rows_check);
}

static void dead_rows_check(const kith_compute_ops *ops) {
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_IP,
                    .type = KITH_TYPE_F32,
                    .dim = 8,
                    .row_count = 3000,
                    .query_count = 1,
                    .k = 4,
                    .seed = seed},
        &c);
    float *row = c.vectors;
    for (uint32_t i = 0; i < 3000 * 8; i++)
        row[i] = i / 8 < 2900 ? 1e6f : 1e-3f;
    for (uint32_t i = 0; i < 8; i++)
        c.queries[i] = 1;
    for (uint32_t i = 0; i < 2900; i++)
        c.dead[i / 64] |= 1ULL << (i % 64);
    for (uint32_t i = 2900; i < 3000; i++)
        c.dead[i / 64] &= ~(1ULL << (i % 64));
    c.rows.dead = c.dead;
    ops->norms(c.vectors, KITH_TYPE_F32, 8, 3000, c.norms);
    kith_row_hit hits[4];
    uint32_t found;
    kith_top_k_stats stats = {0};
    case_top_k(&c, ops, hits, &found, &stats);
    assert_int_equal(found, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(hits[i].row, 2900 + i);
    assert_int_equal(stats.rows_scanned, 100);
    case_destroy(&c);
}

static void test_conformance__dead_rows_neither_return_nor_raise_the_threshold(void **state) {
    (void)state;
    each_backend(dead_rows_check);
}

/* The best row's f32 sum goes to -inf on its way; 2000 rows before it have raised the threshold. */
static void overflow_check(const kith_compute_ops *ops) {
    enum { DIM = 64, ROWS = 2000 };
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_IP,
                    .type = KITH_TYPE_F32,
                    .dim = DIM,
                    .row_count = ROWS,
                    .query_count = 1,
                    .k = 3,
                    .seed = seed},
        &c);
    float *row = c.vectors;
    for (uint32_t i = 0; i < ROWS * DIM; i++)
        row[i] = 1e-6f * (float)(i / DIM) / ROWS;
    float *last = row + (size_t)(ROWS - 1) * DIM;
    for (uint32_t i = 0; i < DIM; i++)
        last[i] = i < DIM / 2 ? -2 : 3;
    for (uint32_t i = 0; i < DIM; i++)
        c.queries[i] = 3e38f;
    ops->norms(c.vectors, KITH_TYPE_F32, DIM, ROWS, c.norms);
    kith_row_hit hits[3];
    uint32_t found;
    kith_top_k_stats stats = {0};
    case_top_k(&c, ops, hits, &found, &stats);
    assert_int_equal(found, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(hits[i].row, ROWS - 1 - i);
    case_destroy(&c);
}

static void test_conformance__a_sum_that_overflows_is_kept(void **state) {
    (void)state;
    each_backend(overflow_check);
}

/* The filter is worth having: on ordinary data almost nothing is rescored. */
static void filter_check(const kith_compute_ops *ops) {
    if (ops == kith_compute_ref()) return;
    for (uint32_t m = 0; m < COUNT_OF(metrics); m++) {
        kernels_case c;
        case_create(&(case_shape){.metric = metrics[m],
                        .type = KITH_TYPE_F32,
                        .dim = 96,
                        .row_count = 20000,
                        .query_count = 4,
                        .k = 10,
                        .seed = seed},
            &c);
        kith_row_hit hits[40];
        uint32_t found[4];
        kith_top_k_stats stats = {0};
        case_top_k(&c, ops, hits, found, &stats);
        assert_int_equal(stats.rows_scanned, 80000);
        assert_int_equal(stats.wide_scans, 0);
        assert_true(stats.rows_rescored <= 4 * 20);
        case_destroy(&c);
    }
}

static void test_conformance__ordinary_data_is_hardly_rescored(void **state) {
    (void)state;
    each_backend(filter_check);
}

/* So are codes: sums that are too large would keep every row, and the answer would still be right. */
static void codes_filter_check(const kith_compute_ops *ops) {
    enum { ROWS = 5000, QUERIES = 13, K = 10 };
    if (ops == kith_compute_ref()) return;
    for (uint32_t m = 0; m < 3; m++) {
        kernels_case c;
        case_create(&(case_shape){.metric = metrics[m],
                        .type = KITH_TYPE_F32,
                        .dim = 96,
                        .row_count = ROWS,
                        .query_count = QUERIES,
                        .k = K,
                        .codes = CODES_AXES,
                        .seed = seed},
            &c);
        kith_row_hit hits[QUERIES * K];
        uint32_t found[QUERIES];
        kith_top_k_stats stats = {0};
        case_top_k(&c, ops, hits, found, &stats);
        assert_int_equal(stats.rows_coded, ROWS * QUERIES);
        assert_int_equal(stats.wide_scans, 0);
        assert_true(stats.rows_rescored <= QUERIES * 150); /* about 95 a query */
        case_destroy(&c);
    }
}

static void test_conformance__codes_leave_little_to_rescore(void **state) {
    (void)state;
    each_backend(codes_filter_check);
}

/* Rows near the queries in words that are scanned early, nine in all: the guess that ten reach the ninth is wrong. */
static void misleading_sample_make(kernels_case *c) {
    enum { NEAR = 9, APART = 8 * 64 };
    float *rows = c->vectors;
    size_t bytes = c->shape.dim * sizeof(float);
    for (uint32_t q = 1; q < c->shape.query_count; q++)
        memcpy(c->queries + (size_t)q * c->shape.dim, c->queries, bytes);
    for (uint32_t i = 0; i < NEAR; i++) {
        float *row = rows + (size_t)(i * APART + i) * c->shape.dim;
        memcpy(row, c->queries, bytes);
        row[i] += 0.01f;
    }
    kith_compute_ref()->norms(rows, c->shape.type, c->shape.dim, c->shape.row_count, c->norms);
    kith_rng rng;
    kith_rng_init(&rng, seed);
    c->shape.codes = CODES_AXES;
    case_codes_make(c, &rng);
}

static void wrong_guess_check(const kith_compute_ops *ops) {
    enum { ROWS = 8192, QUERIES = 13, K = 10 };
    kernels_case c;
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_F32,
                    .dim = 32,
                    .row_count = ROWS,
                    .query_count = QUERIES,
                    .k = K,
                    .seed = seed},
        &c);
    misleading_sample_make(&c);
    kith_row_hit hits[QUERIES * K], want[QUERIES * K];
    uint32_t found[QUERIES], wanted[QUERIES];
    kith_top_k_stats stats = {0}, want_stats = {0};
    case_top_k(&c, ops, hits, found, &stats);
    case_top_k(&c, kith_compute_ref(), want, wanted, &want_stats);
    assert_true(case_hits_equal(&c, want, wanted, hits, found));
    if (ops != kith_compute_ref()) assert_int_equal(stats.wide_scans, QUERIES);
    case_destroy(&c);
}

static void test_conformance__a_guess_that_fails_changes_no_answer(void **state) {
    (void)state;
    each_backend(wrong_guess_check);
}

/* The f32 sum of rows that codes let pass at its worst: over `lanes` lanes, each a 1 and then terms of half its last
 * digit, which are all lost, so that the sum errs by 98 % of its bound, downwards. Four rows in the last word are such; in
 * the first word is one whose closeness f32 knows exactly, and is less by the least that f32 can tell. */
static void worst_sums_make(kernels_case *c, uint32_t lanes) {
    enum { WORST = 4 };
    const uint32_t dim = c->shape.dim, row_count = c->shape.row_count;
    float *rows = c->vectors;
    memset(rows, 0, (size_t)row_count * dim * sizeof *rows);
    for (uint32_t i = 0; i < dim; i++)
        c->queries[i] = i < lanes ? 1 : 0x1p-12f;
    for (uint32_t i = 1; i <= WORST; i++)
        memcpy(rows + (size_t)(row_count - i) * dim, c->queries, dim * sizeof *rows);
    double worst = lanes + (double)(dim - lanes) * 0x1p-24;
    rows[0] = nextafterf((float)(worst - 0x1p-20), 0);
    assert_true(rows[0] < worst);
    kith_compute_ref()->norms(rows, c->shape.type, dim, row_count, c->norms);
    kith_rng rng;
    kith_rng_init(&rng, seed);
    c->shape.codes = CODES_AXES;
    case_codes_make(c, &rng);
}

static void worst_sums_check(const kith_compute_ops *ops) {
    enum { ROWS = 1088, QUERIES = 1, K = 1, LANES_LEAST = 4, LANES_MOST = 16 };
    for (uint32_t lanes = 2 * LANES_LEAST; lanes <= 2 * LANES_MOST; lanes *= 2) {
        kernels_case c;
        case_create(&(case_shape){.metric = KITH_METRIC_IP,
                        .type = KITH_TYPE_F32,
                        .dim = 16384,
                        .row_count = ROWS,
                        .query_count = QUERIES,
                        .k = K,
                        .seed = seed},
            &c);
        worst_sums_make(&c, lanes);
        kith_row_hit hits[QUERIES * K];
        uint32_t found[QUERIES];
        kith_top_k_stats stats = {0};
        case_top_k(&c, ops, hits, found, &stats);
        assert_int_equal(hits[0].row, ROWS - 4);
        if (ops != kith_compute_ref()) assert_int_equal(stats.rows_coded, ROWS);
        case_destroy(&c);
    }
}

static void test_conformance__a_sum_with_the_largest_error_is_kept(void **state) {
    (void)state;
    each_backend(worst_sums_check);
}

/* So far that it has no code, and is always kept. */
static void far_row_make(kernels_case *c, uint32_t row) {
    kith_rng rng;
    float *vector = (float *)c->vectors + (size_t)row * c->shape.dim;
    kith_rng_init(&rng, seed);
    for (uint32_t i = 0; i < c->shape.dim; i++)
        vector[i] = 1e12f;
    kith_compute_ref()->norms(c->vectors, c->shape.type, c->shape.dim, c->shape.row_count, c->norms);
    case_codes_free(c);
    case_codes_make(c, &rng);
}

/* --- rows that are put off --- */

static int hit_compare(const void *a, const void *b) {
    const kith_row_hit *x = a, *y = b;
    if (x->closeness != y->closeness) return x->closeness > y->closeness ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* What one query had put off, with its scores, behind `count` hits; returns the number of all. */
static uint32_t deferred_take(
    const kernels_case *c, const kith_deferred *deferred, uint32_t q, kith_row_hit *hits, uint32_t count) {
    for (uint32_t i = 0; i < deferred->row_count; i++) {
        const kith_deferred_row *row = &deferred->rows[i];
        kith_row_hit *hit = &hits[count++];
        hit->row = row->row;
        kith_compute_ref()->rescore(
            &c->rows, c->queries + (size_t)q * c->shape.dim, &row->row, 1, &hit->closeness);
        assert_int_equal(row->origin, 5);
        assert_true((double)row->least <= hit->closeness && hit->closeness <= (double)row->most);
    }
    qsort(hits, count, sizeof *hits, hit_compare);
    for (uint32_t i = 1; i < count; i++)
        assert_true(hits[i].row != hits[i - 1].row);
    return count;
}

/* The parts of a scan, one after the other; `room` for so many rows a query. Returns how many were put off. */
static uint32_t deferred_run(const kernels_case *whole, const kith_compute_ops *ops, uint32_t room) {
    static const struct { uint32_t step, done; } parts[] = {{8, 0}, {2, 8}, {1, 2}};
    enum { PARTS = 3 };
    const uint32_t k = whole->shape.k, queries = whole->shape.query_count;
    kernels_case c = *whole;
    kith_deferred *deferred = kith_alloc_zero(queries * sizeof *deferred);
    kith_deferred_row *rows = kith_alloc_array((size_t)queries * room, sizeof *rows);
    float *known = kith_alloc_array((size_t)queries * k, sizeof *known);
    kith_row_hit *hits = kith_alloc_array((size_t)queries * k * PARTS, sizeof *hits);
    kith_row_hit *all = kith_alloc_array(PARTS * k + room, sizeof *all);
    uint32_t *counts = kith_alloc_array(queries * PARTS, sizeof *counts), put_off = 0;
    for (uint32_t q = 0; q < queries; q++) {
        deferred[q] = (kith_deferred){
            .k = k, .row_most = room, .rows = rows + (size_t)q * room, .known = known + (size_t)q * k};
    }
    c.job.deferred = deferred;
    c.job.origin = 5;
    for (uint32_t part = 0; part < PARTS; part++) {
        kith_top_k_stats stats = {0};
        c.job.word_step = parts[part].step;
        c.job.word_done = parts[part].done;
        case_top_k(&c, ops, hits + (size_t)part * queries * k, counts + (size_t)part * queries, &stats);
    }
    kith_row_hit *want = kith_alloc_array((size_t)queries * k, sizeof *want);
    uint32_t *want_counts = kith_alloc_array(queries, sizeof *want_counts);
    kith_top_k_stats stats = {0};
    case_top_k(whole, kith_compute_ref(), want, want_counts, &stats);
    for (uint32_t q = 0; q < queries; q++) {
        uint32_t count = 0;
        for (uint32_t part = 0; part < PARTS; part++) {
            const uint32_t at = part * queries + q;
            for (uint32_t i = 0; i < counts[at]; i++)
                all[count++] = hits[(size_t)at * k + i];
        }
        put_off += deferred[q].row_count;
        count = deferred_take(&c, &deferred[q], q, all, count);
        assert_true(count >= want_counts[q]);
        for (uint32_t i = 0; i < want_counts[q]; i++) {
            const kith_row_hit *right = &want[(size_t)q * k + i];
            if (all[i].row != right->row || all[i].closeness != right->closeness)
                case_fail(&whole->shape, ops->name, "hits and rows put off are not the best");
        }
    }
    kith_free(deferred);
    kith_free(rows);
    kith_free(known);
    kith_free(hits);
    kith_free(all);
    kith_free(counts);
    kith_free(want);
    kith_free(want_counts);
    return put_off;
}

static void test_conformance__what_is_put_off_are_the_best(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    uint32_t backend_count, put_off = 0;
    const kith_compute_ops *const *backends = case_backends(&backend_count);
    for (uint32_t i = 0; i < test_scaled(40) || (put_off == 0 && i < 100); i++) {
        const uint32_t k = 1 + (uint32_t)kith_rng_below(&rng, 30);
        const case_data data[] = {DATA_NORMAL, DATA_NORMAL, DATA_INTEGERS, DATA_FEW, DATA_OFFSET, DATA_SCALES,
            DATA_HUGE, DATA_EQUAL};
        kernels_case c;
        case_create(&(case_shape){.metric = metrics[i % 3],
                        .type = types[kith_rng_below(&rng, 4)],
                        .data = data[kith_rng_below(&rng, COUNT_OF(data))],
                        .dim = 17 + (uint32_t)kith_rng_below(&rng, 200),
                        .row_count = 1100 + (uint32_t)kith_rng_below(&rng, 3000),
                        .query_count = 1 + (uint32_t)kith_rng_below(&rng, 20),
                        .k = k,
                        .codes = (case_codes)(CODES_AXES + kith_rng_below(&rng, 2)),
                        .dead = kith_rng_below(&rng, 2),
                        .floors = kith_rng_below(&rng, 2),
                        .seed = kith_rng_next(&rng)},
            &c);
        for (uint32_t b = 0; b < backend_count; b++) {
            put_off += deferred_run(&c, backends[b], kith_deferred_rows(k));
            (void)deferred_run(&c, backends[b], 1 + i % 7); /* too few */
        }
        case_destroy(&c);
    }
    assert_true(put_off > 0);
}

/* A query whose rows nearly all pass goes over to vectors, and finds what it had put off. */
static void test_conformance__what_is_put_off_is_not_found_twice(void **state) {
    (void)state;
    enum { ROWS = 40000, K = 10 };
    uint32_t backend_count;
    const kith_compute_ops *const *backends = case_backends(&backend_count);
    kernels_case c;
    double floors[2] = {-1e30, -1e30}; /* all pass, but by codes */
    case_create(&(case_shape){.metric = KITH_METRIC_L2,
                    .type = KITH_TYPE_I8,
                    .data = DATA_EQUAL,
                    .dim = 32,
                    .row_count = ROWS,
                    .query_count = 2,
                    .k = K,
                    .codes = CODES_AXES,
                    .seed = seed},
        &c);
    while (!c.codes.by_row) {
        kith_rng rng;
        kith_rng_init(&rng, ++c.shape.seed);
        case_codes_free(&c);
        case_codes_make(&c, &rng);
    }
    c.job.floors = floors;
    for (uint32_t b = 0; b < backend_count; b++)
        (void)deferred_run(&c, backends[b], kith_deferred_rows(K));
    c.job.floors = NULL;
    case_destroy(&c);
}

/* A sample that found other rows than the best would be of no use, and nothing else would show it. */
static void sample_check(const kith_compute_ops *ops) {
    enum { ROWS = 6400, QUERIES = 9, K = 12, ALL = 1000 };
    for (uint32_t m = 0; m < 3; m++) {
        kernels_case c;
        case_create(&(case_shape){.metric = metrics[m],
                        .type = KITH_TYPE_F32,
                        .dim = 96,
                        .row_count = ROWS,
                        .query_count = QUERIES,
                        .k = ALL,
                        .codes = CODES_AXES,
                        .words = WORDS_FIRST,
                        .seed = seed},
            &c);
        if (metrics[m] == KITH_METRIC_L2)
            far_row_make(&c, 4 * 64); /* the first of a word that is looked at */
        kith_row_hit *all = kith_alloc_array(QUERIES * ALL, sizeof *all), hits[QUERIES * K];
        uint32_t all_counts[QUERIES], counts[QUERIES], missed = 0;
        kith_top_k_stats stats = {0};
        case_top_k(&c, kith_compute_ref(), all, all_counts, &stats);
        c.job.sample = true;
        c.job.k = c.shape.k = K;
        case_top_k(&c, ops, hits, counts, &stats);
        for (uint32_t q = 0; q < QUERIES; q++) {
            uint32_t places[K], words = 0; /* of the best rows of different words */
            for (uint32_t i = 0; i < all_counts[q] && words < K; i++) {
                uint32_t j = 0;
                while (j < words && all[q * ALL + places[j]].row / 64 != all[q * ALL + i].row / 64)
                    j++;
                if (j == words) places[words++] = i;
            }
            assert_int_equal(counts[q], K);
            for (uint32_t i = 0; ops->kept_bytes && i < K; i++) {
                uint32_t j = 0;
                while (j < K && hits[q * K + j].row != all[q * ALL + places[i]].row)
                    j++;
                missed += j == K;
            }
        }
        assert_true(missed <= QUERIES * K / 20);
        kith_free(all);
        case_destroy(&c);
    }
}

static void test_conformance__a_sample_finds_the_best_of_most_words(void **state) {
    (void)state;
    each_backend(sample_check);
}

static void refused_check(const kith_compute_ops *ops, kith_top_k_job job, const char *message) {
    kith_row_hit hit;
    uint32_t found;
    kith_top_k_stats stats = {0};
    kith_err err;
    assert_int_equal(ops->top_k(&job, &hit, &found, &stats, &err), KITH_INVALID);
    assert_string_equal(err.text, message);
}

static void bad_jobs_check(const kith_compute_ops *ops) {
    float vector[1] = {1}, norm = 1;
    _Alignas(64) static char scratch[64];
    kith_rows rows = {.vectors = vector,
        .norms = &norm,
        .row_count = 1,
        .dim = 1,
        .type = KITH_TYPE_F32,
        .metric = KITH_METRIC_IP};
    kith_rows no_dim = rows;
    no_dim.dim = 0;
    kith_top_k_job good = {.rows = &rows,
        .row_end = 1,
        .queries = vector,
        .query_count = 1,
        .k = 1,
        .scratch = scratch,
        .scratch_bytes = 64};
    kith_top_k_job bad = good;
    bad.rows = &no_dim;
    refused_check(ops, bad, "dim 0 is not in 1..16384");
    bad = good;
    bad.k = 16385;
    refused_check(ops, bad, "k 16385 is not in 1..16384");
    bad = good;
    bad.row_end = 2;
    refused_check(ops, bad, "rows 0 to 2 are not within 0 to 1");
    if (ops->kept_bytes) {
        kith_kept_queries kept = {.memory = vector, .bytes = sizeof vector};
        bad = good;
        bad.kept = &kept;
        bad.scratch_bytes = ops->scratch_bytes(1, 1, 1);
        bad.scratch = kith_try_alloc_aligned(bad.scratch_bytes);
        char message[80];
        snprintf(
            message, sizeof message, "4 bytes for kept queries, this job needs %zu", ops->kept_bytes(1, 1));
        refused_check(ops, bad, message);
        kith_free(bad.scratch);
    }
    if (ops->scratch_bytes(1, 1, 1) <= 64) return;
    kith_row_hit hit;
    uint32_t found;
    kith_err err;
    assert_int_equal(ops->top_k(&good, &hit, &found, &(kith_top_k_stats){0}, &err), KITH_INVALID);
}

static void test_conformance__contradictory_jobs_are_refused(void **state) {
    (void)state;
    each_backend(bad_jobs_check);
}

static void scratch_check(const kith_compute_ops *ops) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    for (int i = 0; i < 20000; i++) {
        uint32_t dim = 1 + (uint32_t)kith_rng_below(&rng, 16384),
                 more_dim = dim + (uint32_t)kith_rng_below(&rng, 64);
        uint32_t queries = (uint32_t)kith_rng_below(&rng, 400),
                 more_queries = queries + (uint32_t)kith_rng_below(&rng, 9);
        uint32_t k = 1 + (uint32_t)kith_rng_below(&rng, 16384),
                 more_k = k + (uint32_t)kith_rng_below(&rng, 64);
        size_t bytes = ops->scratch_bytes(dim, queries, k);
        assert_true(ops->scratch_bytes(more_dim, queries, k) >= bytes);
        assert_true(ops->scratch_bytes(dim, more_queries, k) >= bytes);
        assert_true(ops->scratch_bytes(dim, queries, more_k) >= bytes);
        if (!ops->kept_bytes) continue;
        bytes = ops->kept_bytes(dim, queries);
        assert_true(ops->kept_bytes(more_dim, queries) >= bytes);
        assert_true(ops->kept_bytes(dim, more_queries) >= bytes);
    }
}

static void test_conformance__scratch_grows_with_each_argument(void **state) {
    (void)state;
    each_backend(scratch_check);
}

int main(void) {
    seed = test_seed(20240601);
    uint32_t count;
    const kith_compute_ops *const *backends = case_backends(&count);
    for (uint32_t i = 0; i < count; i++)
        print_message("backend %s\n", backends[i]->name);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conformance__codes_of_every_number_of_queries),
        cmocka_unit_test(test_conformance__codes_leave_little_to_rescore),
        cmocka_unit_test(test_conformance__a_guess_that_fails_changes_no_answer),
        cmocka_unit_test(test_conformance__a_sum_with_the_largest_error_is_kept),
        cmocka_unit_test(test_conformance__a_sample_finds_the_best_of_most_words),
        cmocka_unit_test(test_conformance__grid_of_shapes),
        cmocka_unit_test(test_conformance__widest_vectors),
        cmocka_unit_test(test_conformance__large_batches),
        cmocka_unit_test(test_conformance__groups_of_coded_queries),
        cmocka_unit_test(test_conformance__what_is_put_off_are_the_best),
        cmocka_unit_test(test_conformance__what_is_put_off_is_not_found_twice),
        cmocka_unit_test(test_conformance__large_k),
        cmocka_unit_test(test_conformance__random_shapes),
        cmocka_unit_test(test_conformance__hard_data),
        cmocka_unit_test(test_conformance__equal_rows_are_ranked_by_row_and_counted),
        cmocka_unit_test(test_conformance__dead_rows_neither_return_nor_raise_the_threshold),
        cmocka_unit_test(test_conformance__a_sum_that_overflows_is_kept),
        cmocka_unit_test(test_conformance__ordinary_data_is_hardly_rescored),
        cmocka_unit_test(test_conformance__contradictory_jobs_are_refused),
        cmocka_unit_test(test_conformance__scratch_grows_with_each_argument),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
