/* The reference backend: the meaning of every operation, written to be read. Brute force in f64; hits are
 * kept sorted by insertion. Tests and the simulator use it; every other backend must return the same bits. */
#include "kernels/ref/ref.h"

#include "host/base/bitset.h"
#include "kernels/convert.h"
#include "kernels/lanes.h"
#include "kernels/score.h"

/* The three sums that scores are made of, over one query and one row (x) or, for norms, the row with itself.
 */
typedef enum ref_term { REF_PRODUCT, REF_DIFFERENCE_SQUARE, REF_DIFFERENCE } ref_term;

static double term_of(ref_term term, double q, double x) {
    if (term == REF_PRODUCT) return q * x;
    double difference = q - x;
    return term == REF_DIFFERENCE ? fabs(difference) : difference * difference;
}

static double sum_query_row(
    ref_term term, const float *query, const void *row, kith_vector_type type, uint32_t dim) {
    double lanes[KITH_LANES] = {0};
    for (uint32_t i = 0; i < dim; i++)
        lanes[i % KITH_LANES] += term_of(term, query[i], kith_convert_load(row, type, i));
    return kith_lanes_sum(lanes);
}

static double sum_squares(const void *row, kith_vector_type type, uint32_t dim) {
    double lanes[KITH_LANES] = {0};
    for (uint32_t i = 0; i < dim; i++) {
        double x = kith_convert_load(row, type, i);
        lanes[i % KITH_LANES] += x * x;
    }
    return kith_lanes_sum(lanes);
}

static double closeness_of(const kith_rows *rows, const float *query, uint32_t row_number) {
    size_t row_bytes = (size_t)rows->dim * kith_vector_type_bytes(rows->type);
    const void *row = (const uint8_t *)rows->vectors + row_number * row_bytes;
    switch (rows->metric) {
    case KITH_METRIC_L2:
        return -sum_query_row(REF_DIFFERENCE_SQUARE, query, row, rows->type, rows->dim);
    case KITH_METRIC_L1:
        return -sum_query_row(REF_DIFFERENCE, query, row, rows->type, rows->dim);
    case KITH_METRIC_COSINE:
        return kith_score_cosine(sum_query_row(REF_PRODUCT, query, row, rows->type, rows->dim),
            sum_squares(query, KITH_TYPE_F32, rows->dim), sum_squares(row, rows->type, rows->dim));
    case KITH_METRIC_IP:
        break;
    }
    return sum_query_row(REF_PRODUCT, query, row, rows->type, rows->dim);
}

/* Puts `hit` at its place among the `count` sorted hits, of which at most job->k stay. */
static uint32_t hit_insert(const kith_top_k_job *job, kith_row_hit *hits, uint32_t count, kith_row_hit hit) {
    uint32_t at = count;
    while (at > 0 && kith_score_hit_before(job, hit, hits[at - 1]))
        at--;
    if (at == job->k) return count;
    uint32_t kept = count < job->k ? count + 1 : count;
    memmove(&hits[at + 1], &hits[at], (size_t)(kept - 1 - at) * sizeof *hits);
    hits[at] = hit;
    return kept;
}

static uint32_t query_top_k(
    const kith_top_k_job *job, uint32_t query_index, kith_row_hit *hits, kith_top_k_stats *stats) {
    const float *query = job->queries + (size_t)query_index * job->rows->dim;
    double floor = job->floors ? job->floors[query_index] : -INFINITY;
    uint32_t count = 0;
    for (uint32_t row = job->row_begin; row < job->row_end; row++) {
        if (!kith_score_word_wanted(job, row / 64)) continue;
        if (job->rows->dead && kith_bitset_get(job->rows->dead, row)) continue;
        if (job->rows->allow && !kith_bitset_get(job->rows->allow, row)) continue;
        kith_row_hit hit = {.closeness = closeness_of(job->rows, query, row), .row = row};
        stats->rows_scanned++;
        stats->rows_rescored++;
        if (hit.closeness >= floor) count = hit_insert(job, hits, count, hit);
    }
    return count;
}

static kith_status ref_top_k(const kith_top_k_job *job, kith_row_hit *hits_out, uint32_t *counts_out,
    kith_top_k_stats *stats, kith_err *err) {
    kith_status status = kith_score_job_check(job, 0, err);
    if (status != KITH_OK) return status;
    for (uint32_t q = 0; q < job->query_count; q++) {
        counts_out[q] = query_top_k(job, q, hits_out + (size_t)q * job->k, stats);
    }
    return KITH_OK;
}

static size_t ref_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k) {
    (void)dim;
    (void)query_count;
    (void)k;
    return 0;
}

static void ref_rescore(const kith_rows *rows, const float *query, const uint32_t *row_numbers,
    uint32_t row_count, double *closeness_out) {
    for (uint32_t i = 0; i < row_count; i++)
        closeness_out[i] = closeness_of(rows, query, row_numbers[i]);
}

static void ref_norms(
    const void *vectors, kith_vector_type type, uint32_t dim, uint32_t row_count, float *norms_out) {
    size_t row_bytes = (size_t)dim * kith_vector_type_bytes(type);
    for (uint32_t i = 0; i < row_count; i++) {
        norms_out[i] = (float)sum_squares((const uint8_t *)vectors + i * row_bytes, type, dim);
    }
}

static void ref_products(const float *queries, uint32_t query_count, const float *rows, uint32_t row_count,
    uint32_t stride, float *sums_out) {
    for (uint32_t q = 0; q < query_count; q++) {
        for (uint32_t row = 0; row < row_count; row++) {
            *sums_out++ = (float)sum_query_row(REF_PRODUCT, queries + (size_t)q * stride,
                rows + (size_t)row * stride, KITH_TYPE_F32, stride);
        }
    }
}

const kith_compute_ops kith_ref = {
    .name = "ref",
    .top_k = ref_top_k,
    .scratch_bytes = ref_scratch_bytes,
    .rescore = ref_rescore,
    .norms = ref_norms,
    .products = ref_products,
};
