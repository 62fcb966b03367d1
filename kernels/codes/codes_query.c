/* Queries to integer levels and the three weights of the bound. codes.h has the bound, codes_bound.h the slack. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/codes/codes_bound.h"

/* The vector q' of one query, and what its constants are made from. */
typedef struct query_parts {
    double length;   /* |q'| */
    double constant; /* of the linear form */
} query_parts;

size_t kith_code_query_scratch_bytes(const kith_code_basis *basis, uint32_t query_count) {
    size_t centred = (size_t)query_count * kith_code_stride(basis->dim);
    return (centred + (size_t)query_count * basis->code_dim) * sizeof(float) +
           query_count * sizeof(query_parts);
}

/* As rint, but inline for every processor; |value| < 2^51. */
static inline double round_nearest(double value) {
    const double shift = 0x1.8p52;
    return (value + shift) - shift;
}

static double dot(const float *a, const float *b, double a_factor, uint32_t count) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += a[i] * a_factor * b[i];
    return sum;
}

/* q' as f32 [stride], its length from the f64 numbers. */
static query_parts query_centre(const kith_code_basis *basis, const float *query, float *centred_out) {
    uint32_t stride = kith_code_stride(basis->dim);
    query_parts parts;
    double factor = basis->metric == KITH_METRIC_COSINE ? 1 / code_length(query, basis->dim) : 1;
    double square = 0;
    memset(centred_out, 0, stride * sizeof(float));
    for (uint32_t i = 0; i < basis->dim; i++) {
        double value = query[i] * factor - (basis->metric == KITH_METRIC_L2 ? (double)basis->mean[i] : 0);
        square += value * value;
        centred_out[i] = (float)value;
    }
    parts.length = sqrt(square);
    parts.constant = basis->metric == KITH_METRIC_L2 ? -square : dot(query, basis->mean, factor, basis->dim);
    return parts;
}

static double level_most(uint32_t code_dim) {
    double most = (double)INT32_MAX / (KITH_CODE_LEVEL_SPAN * (double)code_dim); /* the bias fits too */
    return most < KITH_CODE_LEVEL_MAX ? floor(most) : KITH_CODE_LEVEL_MAX;
}

/* Every row is kept. */
static void query_keep_all(const kith_code_basis *basis, kith_code_query *out) {
    memset(out->levels, 0, basis->code_dim * sizeof *out->levels);
    out->bias = out->lead_bias = 0;
    out->error_weight = out->tail_weight = out->offset_weight = out->lead_tail_weight = 0;
    out->constant = out->inverse = out->slack = 0;
}

/* `mean_length`: |mean|. */
static void query_finish(const kith_code_basis *basis, double mean_length, const query_parts *parts,
    const float *projection, kith_code_query *out) {
    double most = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++)
        most = fmax(most, fabs((double)projection[i]));
    double length = parts->length * (1 + CODE_F64);
    double deviation = code_deviation(basis, length);
    double projection_error = code_projection_error(basis, length, deviation);
    /* A query at the mean, or outside the basis, has levels near 0. */
    double least = fmax(parts->length * 0x1p-20, 8 * projection_error);
    double unit = fmax(most, least) / level_most(basis->code_dim);
    double projected = 0, coded = 0, residual = 0, lead = 0;
    int32_t level_sum = 0, lead_sum = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        if (i == basis->lead_dim) lead = projected, lead_sum = level_sum;
        double level = round_nearest(projection[i] / unit), rest = projection[i] - unit * level;
        projected += (double)projection[i] * projection[i];
        coded += level * level;
        residual += rest * rest;
        out->levels[i] = (int16_t)level;
        level_sum += (int32_t)level;
    }
    projected = sqrt(projected);
    coded = sqrt(coded) * unit;
    double difference = sqrt(residual) * (1 + CODE_F64) + projection_error;
    double projected_most = projected * (1 + CODE_F64) + projection_error;
    double rounding = 16 * CODE_F32 * coded + 4 * CODE_F64 * length;
    double error = fmax(coded, (difference + basis->defect * projected_most + rounding) / KITH_CODE_SLOPE);
    double tail = code_tail(basis, basis->code_dim, length + deviation, projected, projection_error);
    double lead_tail = tail;
    if (basis->lead_dim < basis->code_dim)
        lead_tail = code_tail(basis, basis->lead_dim, length + deviation, sqrt(lead), projection_error);
    double beyond = 4 * CODE_F64 * length, raised = (1 + 32 * CODE_F32) / unit;
    double weight = basis->metric == KITH_METRIC_L2 ? 2 : 1;
    out->bias = KITH_CODE_BIAS * level_sum;
    out->lead_bias = basis->lead_dim < basis->code_dim ? KITH_CODE_BIAS * lead_sum : out->bias;
    out->error_weight = kith_round_up(error * raised);
    out->tail_weight = kith_round_up((tail + beyond) * raised);
    out->lead_tail_weight = kith_round_up((lead_tail + beyond) * raised);
    out->offset_weight = kith_round_down((1 - CODE_F64) / (weight * unit));
    out->constant = parts->constant;
    out->inverse = 1 / (weight * unit);
    out->slack = 4 * CODE_F64 * (length * (mean_length + length) + (basis->metric == KITH_METRIC_COSINE));
}

void kith_code_queries_make(const kith_compute_ops *ops, const kith_code_basis *basis, const float *queries,
    uint32_t query_count, void *scratch, kith_code_query *out) {
    uint32_t stride = kith_code_stride(basis->dim);
    query_parts *parts = scratch;
    float *centred = (float *)(void *)(parts + query_count);
    float *projections = centred + (size_t)query_count * stride;
    double mean_length = code_length(basis->mean, basis->dim);
    for (uint32_t i = 0; i < query_count; i++)
        parts[i] = query_centre(basis, queries + (size_t)i * basis->dim, centred + (size_t)i * stride);
    if (basis->vectors)
        ops->products(centred, query_count, basis->vectors, basis->code_dim, stride, projections);
    for (uint32_t i = 0; i < query_count; i++) {
        const float *projection =
            basis->vectors ? projections + (size_t)i * basis->code_dim : centred + (size_t)i * stride;
        bool codable = parts[i].length >= CODE_QUERY_LEAST && parts[i].length <= CODE_QUERY_MOST;
        if (codable)
            query_finish(basis, mean_length, &parts[i], projection, &out[i]);
        else
            query_keep_all(basis, &out[i]);
    }
}

/* The most levels of one sign that any 16 bits would add up, had they not been made coarse. */
static int32_t coarse_sum_most(const int16_t *levels, uint32_t count) {
    int32_t most = 0;
    for (uint32_t i = 0; i < count / 2; i += 2) {
        const int32_t four[] = {levels[i], levels[i + 1], levels[i + count / 2], levels[i + count / 2 + 1]};
        int32_t above = 0, below = 0;
        for (uint32_t j = 0; j < 4; j++) {
            above += four[j] > 0 ? four[j] : 0;
            below -= four[j] < 0 ? four[j] : 0;
        }
        most = above > most ? above : most;
        most = below > most ? below : most;
    }
    return most;
}

static int32_t level_largest(const int16_t *levels, uint32_t count) {
    int32_t most = 0;
    for (uint32_t i = 0; i < count; i++)
        most = abs(levels[i]) > most ? abs(levels[i]) : most;
    return most;
}

/* The least with which levels / ratio, rounded, are coarse ones. */
static float coarse_ratio(const kith_code_basis *basis, const int16_t *levels, bool in_16) {
    if (!in_16) return kith_round_up(fmax(level_largest(levels, basis->code_dim) / 127.0, 1));
    double most = fmax(coarse_sum_most(levels, basis->lead_dim),
        coarse_sum_most(levels + basis->lead_dim, basis->code_dim - basis->lead_dim));
    /* Rounding adds at most half to each of four. */
    return kith_round_up(fmax(most / (KITH_CODE_COARSE_SUM - 2), 1));
}

/* So much of |l - ratio m|, and of the roundings, in steps of `ratio`. */
static double coarse_length(double residual, double coarse, float ratio) {
    return sqrt(residual) * (1 + CODE_F64) / (double)ratio + 16 * CODE_F32 * sqrt(coarse);
}

void kith_code_query_coarsen(
    const kith_code_basis *basis, const kith_code_query *query, bool in_16, kith_code_coarse *out) {
    const uint32_t lead_dim = basis->lead_dim, rest_dim = basis->code_dim - lead_dim;
    const float ratio = coarse_ratio(basis, query->levels, in_16);
    double residual = 0, coarse = 0, lead = 0;
    int32_t sum = 0, lead_sum = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        if (i == lead_dim) lead = coarse_length(residual, coarse, ratio), lead_sum = sum;
        double level = round_nearest(query->levels[i] / (double)ratio);
        double rest = query->levels[i] - (double)ratio * level;
        residual += rest * rest;
        coarse += level * level;
        out->levels[i] = (int8_t)level;
        sum += (int32_t)level;
    }
    double whole = coarse_length(residual, coarse, ratio), raised = 1 + 32 * CODE_F32;
    if (rest_dim == 0) lead = whole, lead_sum = sum;
    out->bias = KITH_CODE_BIAS * sum;
    out->lead_bias = KITH_CODE_BIAS * lead_sum;
    out->ratio = ratio;
    out->error_weight = kith_round_up(query->error_weight / (double)ratio);
    out->tail_weight = kith_round_up(query->tail_weight / (double)ratio);
    out->offset_weight = kith_round_down(query->offset_weight / (double)ratio);
    out->lead_tail_weight = kith_round_up(query->lead_tail_weight / (double)ratio);
    out->lead_length_weight = kith_round_up(lead * raised);
    out->rest_length_weight = kith_round_up((whole - lead) * raised);
}

float kith_code_threshold(const kith_code_query *query, double threshold) {
    if (query->inverse == 0 || !(threshold >= -DBL_MAX)) return -INFINITY;
    double slack = query->slack + 4 * CODE_F64 * (fabs(threshold) + fabs(query->constant));
    double scaled = (threshold - query->constant - slack) * query->inverse;
    return kith_round_down(scaled - fabs(scaled) * CODE_F64 - 0x1p-140);
}
