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

/* q' as f32 [stride], its length from the f64 numbers. */
static query_parts query_centre(const kith_code_basis *basis, const float *query, float *centred_out) {
    const uint32_t stride = kith_code_stride(basis->dim);
    const bool is_l2 = basis->metric == KITH_METRIC_L2;
    const double factor = basis->metric == KITH_METRIC_COSINE ? 1 / code_length(query, basis->dim) : 1;
    const double mean_factor = is_l2 ? 1 : 0;
    double squares[KITH_LANES] = {0}, products[KITH_LANES] = {0};
    memcpy(centred_out, query, basis->dim * sizeof(float));
    memset(centred_out + basis->dim, 0, (stride - basis->dim) * sizeof(float));
    for (uint32_t i = 0; i < stride; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++) {
            const double mean = (double)basis->mean[i + lane];
            const double value = centred_out[i + lane] * factor - mean_factor * mean;
            squares[lane] += value * value;
            products[lane] += value * mean;
            centred_out[i + lane] = (float)value;
        }
    }
    const double square = kith_lanes_sum(squares);
    return (query_parts){.length = sqrt(square), .constant = is_l2 ? -square : kith_lanes_sum(products)};
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

_Static_assert(KITH_CODE_DIM_STEP % KITH_LANES == 0 && KITH_CODE_STRIDE_STEP % KITH_LANES == 0, "no rest");

static float magnitude_most(const float *values, uint32_t count) {
    float lanes[KITH_LANES] = {0}, most = 0;
    for (uint32_t i = 0; i < count; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++) {
            const float value = fabsf(values[i + lane]);
            lanes[lane] = value > lanes[lane] ? value : lanes[lane];
        }
    }
    for (uint32_t lane = 0; lane < KITH_LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

/* Squares of the lengths of numbers that were coded, of their levels, and of what is left. */
typedef struct level_sums {
    double numbers, levels, rests;
    int32_t sum; /* of levels */
} level_sums;

static level_sums sums_add(level_sums a, level_sums b) {
    return (level_sums){.numbers = a.numbers + b.numbers,
        .levels = a.levels + b.levels,
        .rests = a.rests + b.rests,
        .sum = a.sum + b.sum};
}

/* numbers ~ unit * levels; `count` is a multiple of KITH_CODE_DIM_STEP. */
static level_sums levels_make(const float *numbers, uint32_t count, double unit, int16_t *levels_out) {
    double squares[KITH_LANES] = {0}, levels[KITH_LANES] = {0}, rests[KITH_LANES] = {0};
    const double inverse = 1 / unit;
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++) {
            const double number = (double)numbers[i + lane], level = round_nearest(number * inverse);
            const double rest = number - unit * level;
            squares[lane] += number * number;
            levels[lane] += level * level;
            rests[lane] += rest * rest;
            levels_out[i + lane] = (int16_t)(int32_t)level;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        sum += levels_out[i];
    return (level_sums){.numbers = kith_lanes_sum(squares),
        .levels = kith_lanes_sum(levels),
        .rests = kith_lanes_sum(rests),
        .sum = sum};
}

/* `mean_length`: |mean|. */
static void query_finish(const kith_code_basis *basis, double mean_length, const query_parts *parts,
    const float *projection, kith_code_query *out) {
    const uint32_t lead_dim = basis->lead_dim, rest_dim = basis->code_dim - lead_dim;
    const double most = (double)magnitude_most(projection, basis->code_dim);
    double length = parts->length * (1 + CODE_F64);
    double deviation = code_deviation(basis, length);
    double projection_error = code_projection_error(basis, length, deviation);
    /* A query at the mean, or outside the basis, has levels near 0. */
    double least = fmax(parts->length * 0x1p-20, 8 * projection_error);
    double unit = fmax(most, least) / level_most(basis->code_dim);
    const level_sums lead = levels_make(projection, lead_dim, unit, out->levels);
    const level_sums all =
        sums_add(lead, levels_make(projection + lead_dim, rest_dim, unit, out->levels + lead_dim));
    const double projected = sqrt(all.numbers), coded = sqrt(all.levels) * unit;
    double difference = sqrt(all.rests) * (1 + CODE_F64) + projection_error;
    double projected_most = projected * (1 + CODE_F64) + projection_error;
    double rounding = 16 * CODE_F32 * coded + 4 * CODE_F64 * length;
    double error = fmax(coded, (difference + basis->defect * projected_most + rounding) / KITH_CODE_SLOPE);
    double tail = code_tail(basis, basis->code_dim, length + deviation, projected, projection_error);
    double lead_tail = code_tail(basis, lead_dim, length + deviation, sqrt(lead.numbers), projection_error);
    double beyond = 4 * CODE_F64 * length, raised = (1 + 32 * CODE_F32) / unit;
    double weight = basis->metric == KITH_METRIC_L2 ? 2 : 1;
    out->bias = KITH_CODE_BIAS * all.sum;
    out->lead_bias = KITH_CODE_BIAS * lead.sum;
    out->error_weight = kith_round_up(error * raised);
    out->tail_weight = kith_round_up((tail + beyond) * raised);
    out->lead_tail_weight = kith_round_up((lead_tail + beyond) * raised);
    out->offset_weight = kith_round_down((1 - CODE_F64) / (weight * unit));
    out->constant = parts->constant;
    out->inverse = 1 / (weight * unit);
    out->slack = 4 * CODE_F64 * (length * (mean_length + length) + (basis->metric == KITH_METRIC_COSINE));
}

static void query_make(const kith_code_basis *basis, double mean_length, const query_parts *parts,
    const float *projection, kith_code_query *out) {
    bool codable = parts->length >= CODE_QUERY_LEAST && parts->length <= CODE_QUERY_MOST;
    if (codable)
        query_finish(basis, mean_length, parts, projection, out);
    else
        query_keep_all(basis, out);
}

void kith_code_queries_make(const kith_compute_ops *ops, const kith_code_basis *basis, const float *queries,
    uint32_t query_count, void *scratch, kith_code_query *out, kith_code_query *by_row_out) {
    const uint32_t stride = kith_code_stride(basis->dim);
    const kith_code_basis axes = kith_code_row_basis(basis);
    query_parts *parts = scratch;
    float *centred = (float *)(void *)(parts + query_count);
    float *projections = centred + (size_t)query_count * stride;
    const double mean_length = code_length(basis->mean, basis->dim);
    for (uint32_t i = 0; i < query_count; i++)
        parts[i] = query_centre(basis, queries + (size_t)i * basis->dim, centred + (size_t)i * stride);
    if (basis->vectors)
        ops->products(centred, query_count, basis->vectors, basis->code_dim, stride, projections);
    else
        projections = centred;
    for (uint32_t i = 0; i < query_count; i++) {
        const float *projection = projections + (size_t)i * (basis->vectors ? basis->code_dim : stride);
        query_make(basis, mean_length, &parts[i], projection, &out[i]);
        if (by_row_out)
            query_make(&axes, mean_length, &parts[i], centred + (size_t)i * stride, &by_row_out[i]);
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

/* levels ~ ratio * coarse levels; of the result, `numbers` is left out. */
static level_sums coarse_make(const int16_t *levels, uint32_t count, double ratio, int8_t *coarse_out) {
    double squares[KITH_LANES] = {0}, rests[KITH_LANES] = {0};
    const double inverse = 1 / ratio;
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++) {
            const double number = levels[i + lane], level = round_nearest(number * inverse);
            const double rest = number - ratio * level;
            squares[lane] += level * level;
            rests[lane] += rest * rest;
            coarse_out[i + lane] = (int8_t)(int32_t)level;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        sum += coarse_out[i];
    return (level_sums){.levels = kith_lanes_sum(squares), .rests = kith_lanes_sum(rests), .sum = sum};
}

/* So much of |l - ratio m|, and of the roundings, in steps of `ratio`. */
static double coarse_length(const level_sums *sums, float ratio) {
    return sqrt(sums->rests) * (1 + CODE_F64) / (double)ratio + 16 * CODE_F32 * sqrt(sums->levels);
}

void kith_code_query_coarsen(
    const kith_code_basis *basis, const kith_code_query *query, bool in_16, kith_code_coarse *out) {
    const uint32_t lead_dim = basis->lead_dim, rest_dim = basis->code_dim - lead_dim;
    const float ratio = coarse_ratio(basis, query->levels, in_16);
    const level_sums lead = coarse_make(query->levels, lead_dim, (double)ratio, out->levels);
    const level_sums all = sums_add(
        lead, coarse_make(query->levels + lead_dim, rest_dim, (double)ratio, out->levels + lead_dim));
    const double lead_length = coarse_length(&lead, ratio), whole_length = coarse_length(&all, ratio);
    const double raised = 1 + 32 * CODE_F32;
    out->bias = KITH_CODE_BIAS * all.sum;
    out->lead_bias = KITH_CODE_BIAS * lead.sum;
    out->ratio = ratio;
    out->error_weight = kith_round_up(query->error_weight / (double)ratio);
    out->tail_weight = kith_round_up(query->tail_weight / (double)ratio);
    out->offset_weight = kith_round_down(query->offset_weight / (double)ratio);
    out->lead_tail_weight = kith_round_up(query->lead_tail_weight / (double)ratio);
    out->lead_length_weight = kith_round_up(lead_length * raised);
    out->rest_length_weight = kith_round_up((whole_length - lead_length) * raised);
}

float kith_code_threshold(const kith_code_query *query, double threshold) {
    if (query->inverse == 0 || !(threshold >= -DBL_MAX)) return -INFINITY;
    double slack = query->slack + 4 * CODE_F64 * (fabs(threshold) + fabs(query->constant));
    double scaled = (threshold - query->constant - slack) * query->inverse;
    return kith_round_down(scaled - fabs(scaled) * CODE_F64 - 0x1p-140);
}
