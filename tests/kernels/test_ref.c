/* ref itself, against an oracle written another way: closeness in long double, ranking by sorting everything.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "tests/kernels/kernels_case.h"

typedef struct ranked {
    long double closeness;
    uint32_t row;
} ranked;

static long double oracle_closeness(kith_metric metric, const float *q, const float *x, uint32_t dim) {
    long double product = 0, q_square = 0, x_square = 0, l2 = 0, l1 = 0;
    for (uint32_t i = dim; i-- > 0;) {
        long double a = q[i], b = x[i];
        product += a * b;
        q_square += a * a;
        x_square += b * b;
        l2 += (a - b) * (a - b);
        l1 += fabsl(a - b);
    }
    switch (metric) {
    case KITH_METRIC_L2:
        return -l2;
    case KITH_METRIC_L1:
        return -l1;
    case KITH_METRIC_COSINE:
        return product / sqrtl(q_square * x_square);
    case KITH_METRIC_IP:
        break;
    }
    return product;
}

/* What f64 sums may be off by: everything here is below 1e4 a term. */
static const long double tolerance = 1e-7L;

static int ranked_compare(const void *a, const void *b) {
    const ranked *left = a, *right = b;
    if (left->closeness != right->closeness) return left->closeness > right->closeness ? -1 : 1;
    return left->row < right->row ? -1 : left->row > right->row;
}

static uint32_t oracle_rank(const kernels_case *c, const float *query, ranked *out) {
    float *row = kith_alloc_array(c->shape.dim, sizeof *row);
    uint32_t count = 0;
    for (uint32_t i = c->job.row_begin; i < c->job.row_end; i++) {
        if (!case_row_is_candidate(c, i)) continue;
        size_t offset = (size_t)i * c->shape.dim * kith_vector_type_bytes(c->shape.type);
        kith_vector_load((char *)c->vectors + offset, c->shape.dim, c->shape.type, row);
        out[count].closeness = oracle_closeness(c->shape.metric, query, row, c->shape.dim);
        out[count++].row = i;
    }
    kith_free(row);
    qsort(out, count, sizeof *out, ranked_compare);
    return count;
}

static void case_against_oracle(const case_shape *shape) {
    kernels_case c;
    case_create(shape, &c);
    kith_row_hit *hits = kith_alloc_array((size_t)shape->query_count * shape->k, sizeof *hits);
    uint32_t *counts = kith_alloc_array(shape->query_count, sizeof *counts);
    ranked *want = kith_alloc_array(shape->row_count, sizeof *want);
    kith_top_k_stats stats = {0};
    case_top_k(&c, kith_compute_ref(), hits, counts, &stats);
    for (uint32_t q = 0; q < shape->query_count; q++) {
        uint32_t live = oracle_rank(&c, c.queries + (size_t)q * shape->dim, want);
        assert_int_equal(counts[q], live < shape->k ? live : shape->k);
        for (uint32_t i = 0; i < counts[q]; i++) {
            kith_row_hit hit = hits[(size_t)q * shape->k + i];
            assert_true(fabsl(hit.closeness - want[i].closeness) <= tolerance);
            /* Integer data has exact sums: there the row must be the oracle's too. */
            if (shape->data == DATA_INTEGERS && shape->metric != KITH_METRIC_COSINE) {
                assert_int_equal(hit.row, want[i].row);
            }
        }
    }
    kith_free(hits);
    kith_free(counts);
    kith_free(want);
    case_destroy(&c);
}

static void test_ref__agrees_with_long_double_and_a_full_sort(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(7));
    for (uint64_t i = 0; i < test_scaled(600); i++) {
        case_against_oracle(&(case_shape){
            .metric = (kith_metric)(1 + kith_rng_below(&rng, 4)),
            .type = (kith_vector_type)(1 + kith_rng_below(&rng, 4)),
            .data = kith_rng_below(&rng, 2) ? DATA_INTEGERS : DATA_NORMAL,
            .dim = 1 + (uint32_t)kith_rng_below(&rng, 60),
            .row_count = 1 + (uint32_t)kith_rng_below(&rng, 200),
            .query_count = 1 + (uint32_t)kith_rng_below(&rng, 4),
            .k = 1 + (uint32_t)kith_rng_below(&rng, 220),
            .dead = kith_rng_below(&rng, 2),
            .allow = kith_rng_below(&rng, 2),
            .part = kith_rng_below(&rng, 2),
            .words = (case_words)kith_rng_below(&rng, WORDS_COUNT),
            .seed = kith_rng_next(&rng),
        });
    }
}

/* The order of a sum is part of the meaning: written out here once more, on terms that round differently
 * elsewhere. */
static void test_ref__sums_in_eight_lanes_and_one_tree(void **state) {
    (void)state;
    float x[19], one[19];
    double l[8];
    kith_rng rng;
    kith_rng_init(&rng, 3);
    uint32_t in_order_differs = 0;
    for (int turn = 0; turn < 200; turn++) {
        double in_order = 0;
        for (int i = 0; i < 19; i++) {
            one[i] = 1;
            x[i] = (float)ldexp(kith_rng_normal(&rng), (int)kith_rng_below(&rng, 80));
            in_order += x[i];
        }
        for (int i = 0; i < 8; i++)
            l[i] = (double)x[i] + x[i + 8];
        for (int i = 16; i < 19; i++)
            l[i - 16] += x[i];
        double want = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
        kith_rows rows = {
            .vectors = x, .row_count = 1, .dim = 19, .type = KITH_TYPE_F32, .metric = KITH_METRIC_IP};
        double got;
        kith_compute_ref()->rescore(&rows, one, (uint32_t[]){0}, 1, &got);
        assert_memory_equal(&got, &want, sizeof got);
        in_order_differs += in_order != want;
    }
    assert_true(in_order_differs > 20);
}

static void test_ref__leaves_out_rows_below_the_floor_and_keeps_equals(void **state) {
    (void)state;
    float x[4] = {1, 2, 3, 4}, q[1] = {1};
    double floor = 3;
    kith_rows rows = {
        .vectors = x, .row_count = 4, .dim = 1, .type = KITH_TYPE_F32, .metric = KITH_METRIC_IP};
    kith_top_k_job job = {
        .rows = &rows, .row_end = 4, .queries = q, .query_count = 1, .k = 4, .floors = &floor};
    kith_row_hit hits[4];
    uint32_t count;
    kith_top_k_stats stats = {0};
    kith_err err;
    assert_ok(kith_compute_ref()->top_k(&job, hits, &count, &stats, &err), &err);
    assert_int_equal(count, 2);
    assert_int_equal(hits[0].row, 3);
    assert_int_equal(hits[1].row, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref__agrees_with_long_double_and_a_full_sort),
        cmocka_unit_test(test_ref__sums_in_eight_lanes_and_one_tree),
        cmocka_unit_test(test_ref__leaves_out_rows_below_the_floor_and_keeps_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
