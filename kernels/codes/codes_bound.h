/* The roundings on the way from the real numbers of codes.h to the f32 that a scan compares. Private to
 * kernels/codes.
 *
 * Notation: u = 2^-24; t = 2^-149, the smallest f32; P = code_dim; gamma = kith_products_error(stride); d = defect;
 * a name with ~ is what was computed. f64 work (norms, residuals, constants; at most 2^14 terms) has a relative
 * error below 2^-38, written F; it is applied to lengths as a factor 1 + F.
 *
 * Vectors. z (or q') is made in f64 and rounded to f32 once: |z~ - z| <= deviation(z) = 2u |z| + sqrt(dim) t, and
 * under cosine, where it is a quotient minus the mean, F more (|x/|x|| = 1).
 *
 * Projections. y~ = B z~ by f32 products: each component errs by at most gamma |b_j| |z~| + stride 2t, and
 * |b_j|^2 <= 1 + d, so |y~ - y| <= sqrt(P) (gamma sqrt(1 + d) |z~| + stride 2t) + sqrt(1 + d) deviation(z). Along the
 * axes y~ = z~ and only the deviation is left. The same holds for w~ of a query.
 *
 * Lengths outside the basis. |z2|^2 = |z|^2 - |y|^2 + y.Dy <= |z|^2 - (1 - d) |y|^2, with |z| from above and |y| from
 * below; F |z|^2 is added for the cancellation.
 *
 * Noise. A row's scale is at least its projection's error e (as above) and 2^-126, so 1 / scale is finite. Then each
 * component is coded to 0.51 steps or better (half a step, and 127 roundings), |y - y^| <= 0.51 sqrt(P) scale + e, and
 * with |y~| <= 127.1 sqrt(P) scale and the slope's 1/512 of it a row's noise is below 0.77 sqrt(P) + 2. That is
 * kith_code_noise_most, and a row that f32 knows nothing of has scale = e and codes near 0, not an error of its own.
 *
 * The integer sum. Let L be the largest level allowed. unit is at least most |w~_i| / L and 8 e / L (e of the query),
 * so |l| <= sqrt(P) L and
 *   error_weight <= max(sqrt(P) L, (0.51 sqrt(P) + e / unit + defect |w| / unit + small) / slope)
 *                <= L (1.1 sqrt(P) + 66),   as defect <= 1e-3 and L >= 818 with P <= 2^14
 * hence noise * error_weight <= (0.77 sqrt(P) + 2) (1.1 sqrt(P) + 66) L <= 33 P L for P >= 16; l.c is at most
 * 127 P L; together they are below 160 P L (KITH_CODE_LEVEL_SPAN), which is an int32.
 *   The scan adds n = (integer part of the f32 product noise * error_weight) + 1. Below 2^24 that is above the f32
 * product, else the product is an integer itself; so n >= noise * error_weight (1 - u).
 *
 * The scan. upper sums three terms; each passes at most 7 roundings (the conversion of the integer sum, or of two, a
 * product, additions in any order; FMA or not), so the computed upper is below the exact one by at most 8u times the
 * sum of the terms' magnitudes, and 16 t where something underflows.
 *   tail and noise: their weights are raised by the factor 1 + 32u, which holds n's own rounding too;
 *   offset (never positive): the row's is lowered in magnitude by the factor 1 - 32u, its weight is rounded down;
 *   scale l.c = y^.w^ / unit: 8u |w^| |y^| <= 8u |w^| (|y| + |y - y^|): the first is in the query's `rounding`, which
 *   is divided by the slope, the second in the noise's raised weight.
 * Coarse levels. ratio is an f32 as it is, so |l - ratio m| is the real one. What a sum starts from is the integer part
 * of noise * error_weight + length * length_weight, and one; where the lead is looked at first, length *
 * rest_length_weight follows, likewise. Those are at most 4 roundings more than above, which the factor 1 + 32u of the
 * weights holds. The sum passes the same 7 roundings: 8u scale |m.c| <= 8u scale |m| length, twice, is in length_weight.
 * Levels are at most 127 and ratio at least 1: the start is at most 33 P L + 64 P (above), and with 255 * 127 P of biased
 * codes all is below 2^31.
 * Magnitudes are kept where no term can overflow: rows with |z| above 2^25 are coded as "always kept" (tail infinite
 * and scale 0, so upper is infinite or NaN), queries with |q'| outside 2^-40..2^40 are not coded at all.
 *
 * The threshold. rescore's closeness is within F of the real one, relative to |closeness| (l2), |q| |x| <= |q| (|y| +
 * |z2| + |mean|) (ip) or 1 (cosine); q' made in f64 adds F |q'| |z|. So F |q'| joins the coefficients of |y| and
 * |z2|, and F (|threshold| + |constant| + |q'| (1 + |mean|)...) is taken off the threshold. */
#ifndef KITH_KERNELS_CODES_CODES_BOUND_H
#define KITH_KERNELS_CODES_CODES_BOUND_H

#include "kernels/codes/codes.h"
#include "kernels/lanes.h"
#include "kernels/rounding.h"

#define CODE_F32             0x1p-24  /* u */
#define CODE_STEP            0x1p-149 /* t */
#define CODE_F64             0x1p-38  /* F */
#define CODE_ROW_LENGTH_MOST 0x1p25
#define CODE_SCALE_LEAST     0x1p-126
#define CODE_QUERY_LEAST     0x1p-40
#define CODE_QUERY_MOST      0x1p40

/* How far the f32 vector is from the real one of length `length`. */
static inline double code_deviation(const kith_code_basis *basis, double length) {
    double rounding = 2 * CODE_F32 * length + sqrt(basis->dim) * CODE_STEP;
    return basis->metric == KITH_METRIC_COSINE ? rounding + CODE_F64 : rounding;
}

/* How far the computed projection is from the real one of the real vector. */
static inline double code_projection_error(const kith_code_basis *basis, double length, double deviation) {
    if (!basis->vectors) return deviation;
    uint32_t stride = kith_code_stride(basis->dim);
    double stretch = sqrt(1 + basis->defect);
    double each = kith_products_error(stride) * stretch * length + stride * 2 * CODE_STEP;
    return sqrt(basis->code_dim) * each + stretch * deviation;
}

/* At least the length of what the first `code_dim` directions do not see; `projected` is what they do. */
static inline double code_tail(
    const kith_code_basis *basis, uint32_t code_dim, double length, double projected, double error) {
    if (!basis->vectors && code_dim == basis->code_dim) return 0;
    double seen = fmax(0, projected * (1 - CODE_F64) - error);
    double square = length * length * (1 + CODE_F64) - (1 - basis->defect) * seen * seen;
    return sqrt(fmax(0, square)) * (1 + CODE_F64);
}

static inline double code_length(const float *values, uint32_t count) {
    return sqrt(kith_square_sum(values, count));
}

/* `values` [stride] <- x - mean, or x / |x| - mean; what both rows and, for l2, queries are turned into. */
static inline void code_centre(
    const float *x, double inverse_length, const float *mean, uint32_t stride, float *values_out) {
    for (uint32_t i = 0; i < stride; i++)
        values_out[i] = (float)(x[i] * inverse_length - mean[i]);
}

#endif
