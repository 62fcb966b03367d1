/* How far an f32 score can be from the exact one.
 *
 * Notation: u = 2^-24, the rounding error of f32; t = 2^-149, its smallest step; gamma_m = m u / (1 - m u)
 * (N. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, lemma 3.1 and section 3.1). s
 * is the closeness that rescore computes in f64; its own distance from the real number is below 2^-41 of the
 * magnitudes used here, since dim <= 2^14, and is covered by the slack below. Nothing flushes subnormals to
 * zero.
 *
 * Sums. A sum of dim_padded terms over L lanes is made by dim_padded / L steps per lane and a tree of log2 L
 * additions, so each term passes at most m = dim_padded / L + log2 L + 1 roundings (+1: the product, where
 * FMA is emulated by two operations). One query alone spreads over 4 L lanes, which is never more roundings; over 2 or
 * 4 L where codes have chosen the rows, and L is then given as 2 L.
 * By Higham (3.3), |sum~ - sum| <= gamma_m * sum |q_i x_i| <= gamma_m |q| |x|. A product or sum that
 * underflows adds at most t/2 a step, in all below 2 dim_padded t: that is error_floor, with room. If any
 * partial sum overflows, sum~ is infinite or NaN and the filter keeps the row whatever the bound says.
 *
 * ip: s~ = sum~, error <= gamma_m |q| |x|; slope = (gamma_m + slack) |q|, reach >= |x|.
 *
 * l2: s~ = (2 sum~ - n) - c, where n = |x|^2 and c = |q|^2 are each rounded to f32. As 2 |q| |x| <= |q|^2 +
 * |x|^2, the sum's error is <= gamma_m (|q|^2 + |x|^2). Rounding n, c, the inner and the outer subtraction
 * adds, by the same inequality, at most 5u |x|^2 + 4u |q|^2. So slope = gamma_m + slack, reach = n, and slope
 * |q|^2 is part of error_floor.
 *
 * cosine: s~ = (sum~ f(1/|x|)) f(1/|q|). |s| <= 1, and the two reciprocals and products have relative errors
 * of at most 8u together; slope = gamma_m + slack, reach = 1. It holds while nothing under- or overflows in
 * between, which norms in [2^-100, 2^120] make sure (underflow then weighs below 2^17 t / 2^-100 < u);
 * outside, reach (or slope) is infinite, and the row is kept.
 *
 * l1: s~ = -sum~, each difference rounded once: |s~ - s| <= gamma_(m+1) sum |q_i - x_i|, and that sum is at
 * most |s~| / (1 - gamma); slope = gamma_(m+1) + slack with reach = |s~|, which the filter makes.
 *
 * Slack. The filter's own evaluation of slope * reach + floor and of s~ +- error rounds at most four times
 * quantities below 2 (|q|^2 + |x|^2) (l2), |q| |x| (ip) or 1: below 6u of them. 16u is added, and the whole
 * is multiplied by 1.001 for the second-order terms (m u < 2^-12). norms are f64 sums rounded to f32: |x|^2
 * <= n (1 + 2u) + t. */
#include "kernels/cpu/cpu_bound.h"

#include <math.h>

#include "kernels/lanes.h"
#include "kernels/rounding.h"

static const double unit_roundoff = 0x1p-24;
static const double smallest_step = 0x1p-149;
static const double cosine_norm_least = 0x1p-100;
static const double cosine_norm_most = 0x1p120;

static double relative_error(uint32_t dim_padded, uint32_t lanes) {
    double roundings = dim_padded / lanes + log2(lanes) + 2; /* the one more that l1 needs */
    double gamma = roundings * unit_roundoff / (1 - roundings * unit_roundoff);
    return (gamma + 16 * unit_roundoff) * 1.001;
}

cpu_bound cpu_bound_of(
    kith_metric metric, const float *query, uint32_t dim, uint32_t dim_padded, uint32_t lanes) {
    double square = kith_square_sum(query, dim);
    double error = relative_error(dim_padded, lanes);
    double floor = (4.0 * dim_padded + 64) * smallest_step;
    cpu_bound bound = {.query_norm = (float)square, .query_scale = 1};
    if (metric == KITH_METRIC_IP) error *= sqrt(square);
    if (metric == KITH_METRIC_L2) floor += error * square;
    if (metric == KITH_METRIC_COSINE) {
        bound.query_scale = (float)(1 / sqrt(square));
        if (!(square >= cosine_norm_least && square <= cosine_norm_most)) error = INFINITY;
    }
    bound.error_slope = kith_round_up(error);
    bound.error_floor = kith_round_up(floor);
    return bound;
}

/* Filters read whole vectors. */
static uint32_t lanes_used(const cpu_tile *tile) {
    return (tile->row_count + CPU_LANES_MAX - 1) / CPU_LANES_MAX * CPU_LANES_MAX;
}

static void tile_reach_ip(cpu_tile *tile) {
    /* The largest |x| that rounds to this norm: t for norms that underflowed, 2^-20 for every rounding here.
     */
    for (uint32_t i = 0; i < lanes_used(tile); i++) {
        tile->reach[i] = sqrtf(tile->norms[i] + (float)smallest_step) * (1 + 0x1p-20f);
    }
}

static void tile_reach_cosine(cpu_tile *tile) {
    for (uint32_t i = 0; i < lanes_used(tile); i++) {
        float norm = tile->norms[i];
        bool safe = norm >= (float)cosine_norm_least && norm <= (float)cosine_norm_most;
        tile->scale[i] = 1 / sqrtf(norm);
        tile->reach[i] = safe ? 1 : INFINITY;
    }
}

void cpu_bound_tile(kith_metric metric, cpu_tile *tile) {
    if (metric == KITH_METRIC_IP) tile_reach_ip(tile);
    if (metric == KITH_METRIC_COSINE) tile_reach_cosine(tile);
}
