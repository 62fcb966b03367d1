/* Codes: 8 bits a component of the directions that matter, and what is proven about the rest. A scan reads
 * codes instead of vectors and drops every row whose score, by the bound below, cannot reach the threshold;
 * `rescore` makes the scores of the few that stay. So codes decide how much work a search is, never its answer.
 *
 * What is coded. A row x becomes z = x - mean (l2, ip) or z = x/|x| - mean (cosine); a basis of code_dim
 * directions b_j (rows of `basis`, nearly orthonormal: the leading principal components of the segment's rows)
 * gives y_j = b_j.z, coded as y ~ scale * c with c in -127..127; z2 = z - sum y_j b_j is what the basis does not
 * see. With basis NULL the directions are the axes, code_dim is dim rounded up, and z2 = 0: that is the plain
 * 8-bit code of each component.
 *
 * Closeness as a linear form. With q' = q - mean (l2), q (ip), q/|q| (cosine), in real numbers
 *     closeness = constant(q) + weight * (q'.z) + offset(x)
 *   l2      constant -|q'|^2   weight 2   offset -|z|^2
 *   ip      constant q.mean    weight 1   offset 0
 *   cosine  constant q'.mean   weight 1   offset 0
 * so one integer dot product and two or three row constants serve three metrics. l1 has no codes.
 *
 * The bound. Let w = B q' and q2 = q' - B^T w; w is coded as w ~ unit * l with integer levels l. As B B^T = I + D
 * with |D| <= defect, q'.z = w.y - w.Dy + q2.z2 (expand q' = B^T w + q2, z = B^T y + z2, and use B z2 = -Dy,
 * B q2 = -Dw), hence by Cauchy-Schwarz, with y^ = scale c, w^ = unit l,
 *     q'.z <= w^.y^ + |w^| |y - y^| + (|w - w^| + defect |w|) |y| + |q2| |z2|
 * The row keeps tail >= |z2|, its block noise with scale noise >= |y - y^| + KITH_CODE_SLOPE |y| for each of its rows;
 * the query keeps
 *     error_weight >= max(|w^|, (|w - w^| + defect |w| + rounding) / KITH_CODE_SLOPE),  tail_weight >= |q2|
 * and a row may be dropped when
 *     weight (scale unit (l.c) + scale noise error_weight + tail_weight tail) + offset < threshold - constant
 * All of it is divided by weight * unit, so that the scan computes, in f32 and in any order,
 *     upper = scale * (l.c + noise * error_weight) + tail * tail_weight + offset * offset_weight
 * and keeps a row unless upper < kith_code_threshold(). codes_bound.h has the slack for every rounding on the way;
 * a row whose upper is not a number is kept.
 *
 * One noise a block instead of an error a row: errors are nearly the same number of steps for every row (0.29 sqrt(
 * code_dim) of rounding, and the slope), and a query adds noise * error_weight to all sums of a block at once. It is
 * an integer there if rounded up, and costs nothing. SIFT: 62 instead of 68 bytes a row.
 *
 * Two looks. The same bound holds for the first lead_dim directions alone, with the tail of what they do not see. Where
 * they see most, a scan looks at these first and at the others only for the few rows that pass: less arithmetic, and
 * less memory read. lead_tail is the row's tail for them; noise serves both.
 *
 * Coarse levels. A processor may multiply bytes faster than 16-bit numbers, or than two planes of bytes: l ~ ratio * m
 * with m of a byte, and
 *     l.c = ratio (m.c) + (l - ratio m).c <= ratio (m.c) + |l - ratio m| |c|
 * so with length >= |c| for each row of a block, and length_weight >= |l - ratio m| / ratio, a coarse look computes
 *     upper = scale * (m.c + noise * error_weight + length * length_weight) + tail * tail_weight + offset * offset_weight
 * with the weights above, and the threshold, by the ratio; rows that pass are looked at as vectors. Where four products
 * must fit 16 bits (KITH_CODE_COARSE_SUM), the largest |m| is 60 to 126, else 127. Then |l - ratio m| is 0.6 (SIFT, 48
 * directions) and 0.8 % (text, 208) of |l|, and 13 to 26 % more rows pass than with l. In 16 bits, and before directions were mixed
 * (codes_directions.h), it was 1.1 to 1.6 %, and 1.45 instead of 0.98 of a hundred vectors of 8 rows passed (SIFT, k = 10).
 * One constant a block again: each row's own length would let 1.23 pass. noise / slope in its place is far too much: 3.3.
 *
 * Codes by row. A row that passes lies anywhere, and to read its vector costs as much as looking at tens of rows that do
 * not pass; yet most of them pass only because |q2| |z2| is far above q2.z2. So rows of long vectors have a second code,
 * the plain one, with constants of their own and in one piece, of a quarter of the vector's bytes: the bound above, with no
 * z2. A row that passed may be dropped when its upper by that code is below the threshold. By Cauchy-Schwarz q'.z is not
 * below w^.y^ - scale noise error_weight unit, either, so that code also says what the row scores at least: k such rows are a
 * threshold, before a vector has been read (kernels/deferred.h).
 *
 * After: Cauchy-Schwarz on the quantisation residual is the usual error bound of scalar quantisation; the split
 * in a principal subspace and its complement bounded by norms is that of partial-distance search in a rotated
 * space (e.g. Weber and Blott, "An approximation-based data structure for similarity search", 1997, for bounds
 * from coarse codes with exact refinement).
 *
 * Threads: training and encoding on any thread, on data of their own; codes are immutable. */
#ifndef KITH_KERNELS_CODES_CODES_H
#define KITH_KERNELS_CODES_CODES_H

#include <math.h>

#include "kernels/compute.h"
#include "kernels/rounding.h"

enum {
    KITH_CODE_BLOCK_ROWS = 32,   /* rows of a block: what a scan takes at a time */
    KITH_CODE_DIM_STEP = 16,     /* code_dim is a multiple */
    KITH_CODE_GROUP = 4,         /* components that lie together */
    KITH_CODE_BIAS = 128,        /* stored byte = code + 128, in 1..255 */
    KITH_CODE_LEVEL_MAX = 16383, /* of a query component: two signed 8-bit planes, 128 * high + low */
    KITH_CODE_LEVEL_SPAN = 160, /* level * 160 * code_dim is an int32: codes take 127 of it, noise the rest */
    KITH_CODE_COARSE_SUM = 128, /* most of the levels of one sign that 16 bits add up: 128 * 255 < 2^15 */
    KITH_CODE_ROW_STEP = 64,    /* bytes of a code by row are a multiple */
    KITH_CODE_ROW_PAYS = 3,     /* times as long is the vector, at least, where rows have such codes */
    KITH_CODE_STRIDE_STEP = 16, /* rows of mean and basis are padded with zeros to a multiple of this */
};

/* What a block's noise holds of |y|, so that a query's own rounding needs no row constant of its own. */
#define KITH_CODE_SLOPE 0x1p-9

/* The directions. Borrowed memory: of a mapped segment, or of who trained it. */
typedef struct kith_code_basis {
    uint32_t dim;
    uint32_t code_dim;
    uint32_t lead_dim; /* of the first look; a multiple of 16; code_dim: there is one look only */
    kith_metric metric;
    const float *mean;    /* [stride] */
    const float *vectors; /* [code_dim][stride], rows b_j; NULL: the axes */
    double defect;        /* at least the 2-norm of B B^T - I; 0 for the axes */
} kith_code_basis;

/* Codes of the rows of one field of one segment.
 * A block of 32 rows is: what kith_code_block has; float offset[32] under l2; float lead_tail[32] if there are two
 * looks; uint8 codes[code_dim/4][32][4]: four neighbouring components of row 0, of row 1, ...; what SIMD lanes, dp4a
 * and the fragments of mma read as it lies. Rows past the last have constants of 0 and codes of 128. */
typedef struct kith_codes {
    kith_code_basis basis;
    const uint8_t *blocks; /* [kith_code_block_count(rows)][kith_code_block_bytes(basis)], 64-byte aligned */
    /* Codes by row: [rows][kith_code_row_bytes(dim)], 64-byte aligned; or NULL. Of each row uint8 codes[stride] along the
     * axes, codes of 128 up to its last 16 bytes, and there a kith_code_row. */
    const uint8_t *by_row;
} kith_codes;

/* The constants of a code by row. A row that is always kept has infinite noise. */
typedef struct kith_code_row {
    float scale, noise, offset; /* offset is 0 unless l2 */
    float unused;               /* 0 */
} kith_code_row;

typedef struct kith_code_block {
    float noise;
    float length;     /* at least |c| of each row */
    float unused[14]; /* zeros: what follows is aligned */
    float scale[KITH_CODE_BLOCK_ROWS];
    float tail[KITH_CODE_BLOCK_ROWS];
} kith_code_block;

/* Where a block's other parts lie, in bytes from its start; 0: it has none. */
typedef struct kith_code_layout {
    uint32_t offset_at, lead_tail_at, codes_at;
    uint32_t block_bytes;
} kith_code_layout;

static inline uint32_t kith_code_stride(uint32_t dim) {
    return (dim + KITH_CODE_STRIDE_STEP - 1) / KITH_CODE_STRIDE_STEP * KITH_CODE_STRIDE_STEP;
}
static inline kith_code_layout kith_code_layout_of(const kith_code_basis *basis) {
    const uint32_t floats = KITH_CODE_BLOCK_ROWS * sizeof(float);
    kith_code_layout layout = {
        .offset_at = 0, .lead_tail_at = 0, .codes_at = sizeof(kith_code_block), .block_bytes = 0};
    if (basis->metric == KITH_METRIC_L2) {
        layout.offset_at = layout.codes_at;
        layout.codes_at += floats;
    }
    if (basis->lead_dim < basis->code_dim) {
        layout.lead_tail_at = layout.codes_at;
        layout.codes_at += floats;
    }
    layout.block_bytes = layout.codes_at + KITH_CODE_BLOCK_ROWS * basis->code_dim;
    return layout;
}
static inline size_t kith_code_block_bytes(const kith_code_basis *basis) {
    return kith_code_layout_of(basis).block_bytes;
}
/* Floats or bytes of a block. */
static inline const void *kith_code_part(const kith_code_block *block, uint32_t at) {
    return (const char *)block + at;
}
static inline uint32_t kith_code_block_count(uint32_t row_count) {
    return (row_count + KITH_CODE_BLOCK_ROWS - 1) / KITH_CODE_BLOCK_ROWS;
}
static inline const kith_code_block *kith_code_block_at(const kith_codes *codes, uint32_t index) {
    return (const kith_code_block *)(codes->blocks + index * kith_code_block_bytes(&codes->basis));
}
static inline uint32_t kith_code_row_bytes(uint32_t dim) {
    uint32_t bytes = kith_code_stride(dim) + (uint32_t)sizeof(kith_code_row);
    return (bytes + KITH_CODE_ROW_STEP - 1) / KITH_CODE_ROW_STEP * KITH_CODE_ROW_STEP;
}
static inline const uint8_t *kith_code_row_at(const kith_codes *codes, uint32_t row) {
    return codes->by_row + (size_t)row * kith_code_row_bytes(codes->basis.dim);
}
static inline const kith_code_row *kith_code_row_constants(const uint8_t *row, uint32_t dim) {
    return (const kith_code_row *)(const void *)(row + kith_code_row_bytes(dim)) - 1;
}
/* Whether rows should have them: not where vectors are short, nor where the axes are the directions. */
static inline bool kith_code_rows_fit(uint32_t dim, kith_vector_type type) {
    size_t vector_bytes = (size_t)dim * kith_vector_type_bytes(type);
    return vector_bytes >= KITH_CODE_ROW_PAYS * (size_t)kith_code_row_bytes(dim);
}
static inline bool kith_code_rows_pay(const kith_code_basis *basis, kith_vector_type type) {
    return basis->vectors && kith_code_rows_fit(basis->dim, type);
}
/* What codes by row, and queries for them, are made with. */
static inline kith_code_basis kith_code_row_basis(const kith_code_basis *basis) {
    kith_code_basis axes = *basis;
    axes.code_dim = axes.lead_dim = kith_code_stride(basis->dim);
    axes.vectors = NULL;
    axes.defect = 0;
    return axes;
}

/* --- rows --- */

/* Bytes of scratch that kith_codes_encode needs; 64-byte aligned. */
size_t kith_codes_encode_scratch_bytes(const kith_code_basis *basis);
/* One block from `row_count` (1..32) stored vectors, each by its address; NULL (the row lacks the field) is coded
 * as zeros. */
void kith_codes_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *scratch, kith_code_block *block_out);

/* The codes by row of as many rows: rows_out [row_count][kith_code_row_bytes(dim)]. Scratch as above, of so many bytes. */
size_t kith_code_rows_encode_scratch_bytes(const kith_code_basis *basis);
void kith_code_rows_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *scratch, uint8_t *rows_out);

/* Chooses mean, directions and code_dim from a sample of rows: those that make a scan cheapest, by what the sample
 * itself shows. The result owns its memory (kith_codes_basis_free). False: codes do not pay for such rows (l1; a
 * dim so small that a code is no shorter). sample [sample_count][dim] of type, taken from row_count rows. NO_MEMORY. */
typedef struct kith_code_training {
    bool useful;
    kith_code_basis basis;
    void *memory;
} kith_code_training;
KITH_CHECK kith_status kith_codes_train(const kith_compute_ops *ops, kith_metric metric,
    kith_vector_type type, uint32_t dim, const void *sample, uint32_t sample_count, uint32_t row_count,
    kith_code_training *training_out, kith_err *err);
void kith_codes_training_free(kith_code_training *training);

/* No encoder writes a larger noise. With it, l.c + noise * error_weight is an int32 for every query. */
static inline float kith_code_noise_most(uint32_t code_dim) {
    return sqrtf((float)code_dim) + 2;
}

/* Nor a larger length. */
static inline float kith_code_length_most(uint32_t code_dim) {
    return kith_round_up(127 * sqrt(code_dim));
}

/* --- queries --- */

typedef struct kith_code_query {
    /* [code_dim], |level| <= min(KITH_CODE_LEVEL_MAX, (2^31 - 1) / (KITH_CODE_LEVEL_SPAN code_dim)) */
    int16_t *levels;
    int32_t bias;      /* 128 * sum of levels: what biased codes add to the dot product */
    int32_t lead_bias; /* the same for the first lead_dim levels */
    float error_weight, tail_weight, offset_weight, lead_tail_weight;
    /* How a threshold becomes the scan's: (threshold - constant - slack) * inverse. */
    double constant, inverse, slack;
} kith_code_query;

size_t kith_code_query_scratch_bytes(const kith_code_basis *basis, uint32_t query_count);
/* queries [query_count][dim]; fills out[i] but for out[i].levels, which the caller points at [code_dim] to fill. A
 * query that cannot be coded (norm 0, infinite or subnormal) keeps every row. by_row_out: the same for codes by row
 * (kith_code_row_basis), or NULL. */
void kith_code_queries_make(const kith_compute_ops *ops, const kith_code_basis *basis, const float *queries,
    uint32_t query_count, void *scratch, kith_code_query *out, kith_code_query *by_row_out);
/* Coarse levels. A processor that adds in 16 bits adds, of the first lead_dim components and of the others each, the
 * products of components i and i + 1 of the first half and of those at the same place of the second. */
typedef struct kith_code_coarse {
    int8_t *levels;                                                   /* [code_dim], the caller's */
    int32_t bias, lead_bias;                                          /* as of kith_code_query */
    float ratio;                                                      /* level ~ ratio * coarse level */
    float lead_length_weight;                                         /* for the first lead_dim components */
    float rest_length_weight;                                         /* what is added to it for all */
    float error_weight, tail_weight, offset_weight, lead_tail_weight; /* kith_code_query's, by the ratio */
} kith_code_coarse;
/* Fills `out` but for out->levels, which points at [code_dim] to fill. in_16: they are added up in 16 bits. */
void kith_code_query_coarsen(
    const kith_code_basis *basis, const kith_code_query *query, bool in_16, kith_code_coarse *out);

/* kith_code_threshold's, for uppers of coarse levels. */
static inline float kith_code_coarse_threshold(const kith_code_coarse *coarse, float threshold) {
    return kith_round_down(threshold / (double)coarse->ratio);
}

/* The scan's threshold: upper below it proves closeness < threshold. -infinity when nothing can be said. */
float kith_code_threshold(const kith_code_query *query, double threshold);

/* What a code by row says of rescore's closeness: it is not less than `least`, nor more than `most`. `sum` is l.c with the
 * levels of the query, made for kith_code_row_basis. */
typedef struct kith_code_interval {
    float least, most;
} kith_code_interval;
kith_code_interval kith_code_row_interval(
    const kith_code_query *query, const kith_code_row *row, int32_t sum);

#endif
