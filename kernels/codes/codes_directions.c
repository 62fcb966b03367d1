/* Orthogonal iteration (G. Golub and C. Van Loan, "Matrix Computations", section 7.3.2) on the rows' second moments:
 * multiply a block of directions with the matrix, orthonormalise it in order, again. It gives the leading ones
 * without a full eigendecomposition, and nearly all of the work is ops->products.
 *
 * What differs from the book: a fixed number of rounds instead of a test of convergence. Directions whose variances
 * are close stay mixed among themselves, which costs nothing here: any orthonormal basis of the same space has the
 * same tail, and the bound holds for every basis. */
#include "kernels/codes/codes_directions.h"

#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "kernels/codes/codes.h"
#include "kernels/lanes.h"

#define MOMENT_CHUNK_ROWS 1024u /* rows transposed at a time: bounds memory, and f32 sums stay short */
#define MOMENT_BLOCK      128u  /* directions a block: only blocks on and right of the diagonal are made */
#define DIRECTION_SEED    0x6b697468u
/* Rounds, and products between two orthonormalisations, which cost more than products do. What is left outside of the
 * first 64 directions of SIFT (dim 128) or the first 192 of text embeddings (dim 384), or of any shorter prefix, is
 * within 0.5 % of the least possible. */
#define DIRECTION_ROUNDS   6u
#define DIRECTION_PRODUCTS 2u
/* Of its length, what a vector must keep when others are taken out of it; else it was made of rounding errors. */
#define DIRECTION_KEPT_LEAST 1e-9

typedef struct moments {
    const kith_compute_ops *ops;
    uint32_t dim, stride;
    float *matrix;     /* [stride][stride] */
    float *transposed; /* [stride][chunk] */
    float *sums;       /* [MOMENT_BLOCK][stride] */
} moments;

typedef struct block {
    uint32_t count, dim, stride;
    double *vectors;   /* [count][stride] */
    float *directions; /* [count][stride], the same in f32 */
    float *products;   /* [count][stride] */
    kith_rng rng;
} block;

/* --- second moments --- */

static void chunk_transpose(const moments *of, const float *rows, uint32_t row_count, uint32_t chunk) {
    memset(of->transposed, 0, (size_t)of->stride * chunk * sizeof(float));
    for (uint32_t row = 0; row < row_count; row++) {
        const float *from = rows + (size_t)row * of->stride;
        for (uint32_t i = 0; i < of->dim; i++)
            of->transposed[(size_t)i * chunk + row] = from[i];
    }
}

/* Adds the chunk's part to rows [first, first + count) of the matrix, right of the diagonal. */
static void block_add(const moments *of, uint32_t first, uint32_t count, uint32_t chunk) {
    const float *left = of->transposed + (size_t)first * chunk;
    uint32_t width = of->stride - first;
    of->ops->products(left, count, left, width, chunk, of->sums);
    for (uint32_t i = 0; i < count; i++) {
        float *to = of->matrix + (size_t)(first + i) * of->stride + first;
        for (uint32_t j = 0; j < width; j++)
            to[j] += of->sums[(size_t)i * width + j];
    }
}

static void matrix_mirror(const moments *of) {
    for (uint32_t i = 0; i < of->stride; i++) {
        for (uint32_t j = 0; j < i; j++)
            of->matrix[(size_t)i * of->stride + j] = of->matrix[(size_t)j * of->stride + i];
    }
}

static void shift_add(const moments *of, const float *shift, double weight) {
    for (uint32_t i = 0; i < of->dim; i++) {
        float *to = of->matrix + (size_t)i * of->stride;
        for (uint32_t j = 0; j < of->dim; j++)
            to[j] += (float)(weight * shift[i] * shift[j]);
    }
}

static void moments_make(
    const moments *of, const float *rows, uint32_t row_count, uint32_t chunk, const float *shift) {
    memset(of->matrix, 0, (size_t)of->stride * of->stride * sizeof(float));
    for (uint32_t row = 0; row < row_count; row += chunk) {
        uint32_t count = row_count - row < chunk ? row_count - row : chunk;
        chunk_transpose(of, rows + (size_t)row * of->stride, count, chunk);
        for (uint32_t first = 0; first < of->stride; first += MOMENT_BLOCK) {
            uint32_t left = of->stride - first;
            block_add(of, first, left < MOMENT_BLOCK ? left : MOMENT_BLOCK, chunk);
        }
    }
    matrix_mirror(of);
    if (shift) shift_add(of, shift, row_count / 2.0);
}

/* --- a block of directions --- */

/* stride is a multiple of 16. */
static double dot(const double *a, const double *b, uint32_t stride) {
    double lanes[KITH_LANES] = {0};
    for (uint32_t i = 0; i < stride; i += KITH_LANES) {
        for (uint32_t lane = 0; lane < KITH_LANES; lane++)
            lanes[lane] += a[i + lane] * b[i + lane];
    }
    return kith_lanes_sum(lanes);
}

static void subtract(double *from, const double *what, double times, uint32_t stride) {
    for (uint32_t i = 0; i < stride; i++)
        from[i] -= times * what[i];
}

static void random_fill(block *b, uint32_t index) {
    double *vector = b->vectors + (size_t)index * b->stride;
    memset(vector, 0, b->stride * sizeof *vector);
    for (uint32_t i = 0; i < b->dim; i++)
        vector[i] = kith_rng_normal(&b->rng);
}

/* Takes the vectors before `index` out of it; returns which part of its length was left. */
static double others_remove(const block *b, uint32_t index) {
    double *vector = b->vectors + (size_t)index * b->stride;
    double before = sqrt(dot(vector, vector, b->stride));
    for (uint32_t j = 0; j < index; j++) {
        const double *other = b->vectors + (size_t)j * b->stride;
        subtract(vector, other, dot(vector, other, b->stride), b->stride);
    }
    double length = sqrt(dot(vector, vector, b->stride));
    if (!(length > before * DIRECTION_KEPT_LEAST)) return 0;
    for (uint32_t i = 0; i < b->stride; i++)
        vector[i] /= length;
    return length / before;
}

/* Gram-Schmidt; a vector that lost much of its length is done twice (B. Parlett, "The Symmetric Eigenvalue Problem",
 * section 6.9: "twice is enough"), one that lost all is replaced. */
static void orthonormalise(block *b) {
    for (uint32_t i = 0; i < b->count; i++) {
        double kept = others_remove(b, i);
        while (kept ==
               0) { /* rows lie in fewer dimensions; a random vector has a part outside, as count <= dim */
            random_fill(b, i);
            kept = others_remove(b, i);
        }
        if (kept < 0.7) (void)others_remove(b, i);
    }
    for (size_t i = 0; i < (size_t)b->count * b->stride; i++)
        b->directions[i] = (float)b->vectors[i];
}

/* products <- directions times the matrix, which is symmetric. */
static void multiply(const moments *of, block *b) {
    of->ops->products(b->directions, b->count, of->matrix, of->stride, of->stride, b->products);
}

static void products_take(block *b) {
    for (size_t i = 0; i < (size_t)b->count * b->stride; i++)
        b->vectors[i] = b->products[i];
}

static void round_run(const moments *of, block *b) {
    for (uint32_t i = 0; i < DIRECTION_PRODUCTS; i++) {
        multiply(of, b);
        memcpy(b->directions, b->products, (size_t)b->count * b->stride * sizeof(float));
    }
    products_take(b);
    orthonormalise(b);
}

static double variance_of(const block *b, uint32_t index) {
    size_t at = (size_t)index * b->stride;
    double sum = 0;
    for (uint32_t i = 0; i < b->dim; i++)
        sum += (double)b->directions[at + i] * b->products[at + i];
    return sum;
}

static void vectors_swap(block *b, uint32_t i, uint32_t j) {
    for (uint32_t at = 0; at < b->stride; at++) {
        double value = b->vectors[(size_t)i * b->stride + at];
        b->vectors[(size_t)i * b->stride + at] = b->vectors[(size_t)j * b->stride + at];
        b->vectors[(size_t)j * b->stride + at] = value;
    }
}

/* By falling variance. Iteration leaves them nearly so: few moves, of which each is a swap. */
static void sort(const moments *of, block *b, double *variances) {
    multiply(of, b);
    for (uint32_t i = 0; i < b->count; i++)
        variances[i] = variance_of(b, i);
    for (uint32_t i = 0; i < b->count; i++) {
        uint32_t most = i;
        for (uint32_t j = i + 1; j < b->count; j++) {
            if (variances[j] > variances[most]) most = j;
        }
        if (most == i) continue;
        vectors_swap(b, i, most);
        variances[most] = variances[i];
    }
}

static void iterate(const moments *of, block *b, double *variances) {
    for (uint32_t i = 0; i < b->count; i++)
        random_fill(b, i);
    orthonormalise(b);
    for (uint32_t i = 0; i < DIRECTION_ROUNDS; i++)
        round_run(of, b);
    sort(of, b, variances);
    orthonormalise(b);
}

kith_status code_directions_find(const kith_compute_ops *ops, const float *rows, uint32_t row_count,
    uint32_t dim, const float *shift, uint32_t direction_count, float *directions_out, kith_err *err) {
    uint32_t stride = kith_code_stride(dim);
    uint32_t chunk = row_count < MOMENT_CHUNK_ROWS ? kith_code_stride(row_count) : MOMENT_CHUNK_ROWS;
    size_t block_floats = (size_t)direction_count * stride;
    size_t floats =
        (size_t)stride * stride + (size_t)stride * chunk + (size_t)MOMENT_BLOCK * stride + block_floats;
    size_t doubles = block_floats + direction_count;
    char *memory = kith_try_alloc_aligned(doubles * sizeof(double) + floats * sizeof(float));
    if (!memory) return kith_err_set(err, KITH_NO_MEMORY, "no memory to find directions of dim %u", dim);
    double *vectors = (double *)(void *)memory;
    float *matrix = (float *)(void *)(vectors + doubles);
    moments of = {.ops = ops, .dim = dim, .stride = stride, .matrix = matrix};
    of.transposed = of.matrix + (size_t)stride * stride;
    of.sums = of.transposed + (size_t)stride * chunk;
    moments_make(&of, rows, row_count, chunk, shift);
    block b = {.count = direction_count, .dim = dim, .stride = stride, .vectors = vectors};
    b.directions = directions_out;
    b.products = of.sums + (size_t)MOMENT_BLOCK * stride;
    kith_rng_init(&b.rng, DIRECTION_SEED);
    iterate(&of, &b, vectors + block_floats);
    kith_free(memory);
    return KITH_OK;
}

/* Random combinations of them, orthonormalised: any basis of the space is as likely as any other. */
kith_status code_directions_mix(float *directions, uint32_t count, uint32_t dim, kith_err *err) {
    const uint32_t stride = kith_code_stride(dim);
    block b = {.count = count, .dim = dim, .stride = stride, .directions = directions};
    b.vectors = kith_try_alloc_aligned((size_t)count * stride * sizeof *b.vectors);
    if (!b.vectors) return kith_err_set(err, KITH_NO_MEMORY, "no memory to mix directions of dim %u", dim);
    kith_rng_init(&b.rng, DIRECTION_SEED);
    for (uint32_t i = 0; i < count; i++) {
        double *vector = b.vectors + (size_t)i * stride;
        memset(vector, 0, stride * sizeof *vector);
        for (uint32_t j = 0; j < count; j++) {
            const double weight = kith_rng_normal(&b.rng);
            for (uint32_t at = 0; at < stride; at++)
                vector[at] += weight * directions[(size_t)j * stride + at];
        }
    }
    orthonormalise(&b);
    kith_free(b.vectors);
    return KITH_OK;
}

double code_directions_defect(const float *directions, uint32_t count, uint32_t stride) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j <= i; j++) {
            const float *a = directions + (size_t)i * stride;
            const float *b = directions + (size_t)j * stride;
            double product = 0;
            for (uint32_t at = 0; at < stride; at++)
                product += (double)a[at] * b[at];
            double rest = i == j ? product - 1 : product;
            sum += (i == j ? 1 : 2) * rest * rest;
        }
    }
    /* An f64 sum of `stride` exact terms errs by less than stride 2^-52 for vectors of length about 1, count^2 of them
     * by count times that in this norm. */
    return sqrt(sum) * (1 + 0x1p-20) + (double)count * stride * 0x1p-52;
}
