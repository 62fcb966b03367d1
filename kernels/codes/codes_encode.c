/* Rows to codes. codes.h says what is stored, codes_bound.h why it is enough. */
#include <string.h>

#include "kernels/codes/codes_bound.h"

typedef struct encode_scratch {
    float *row;         /* [stride] */
    float *centred;     /* [32][stride] */
    float *projections; /* [code_dim][32] */
} encode_scratch;

/* What a row's constants are made from. */
typedef struct row_parts {
    float scale;
    double length;    /* |z| from above */
    double projected; /* |y~| */
    double residual;  /* |y~ - y^| */
} row_parts;

size_t kith_codes_encode_scratch_bytes(const kith_code_basis *basis) {
    size_t stride = kith_code_stride(basis->dim);
    size_t floats = stride + KITH_CODE_BLOCK_ROWS * stride + (size_t)basis->code_dim * KITH_CODE_BLOCK_ROWS;
    return floats * sizeof(float);
}

static encode_scratch scratch_lay_out(const kith_code_basis *basis, void *memory) {
    uint32_t stride = kith_code_stride(basis->dim);
    encode_scratch scratch = {.centred = memory};
    scratch.projections = scratch.centred + (size_t)KITH_CODE_BLOCK_ROWS * stride;
    scratch.row = scratch.projections + (size_t)basis->code_dim * KITH_CODE_BLOCK_ROWS;
    return scratch;
}

static void row_centre(const kith_code_basis *basis, kith_vector_type type, const void *vector,
    encode_scratch *scratch, uint32_t at) {
    uint32_t stride = kith_code_stride(basis->dim);
    memset(scratch->row, 0, stride * sizeof(float));
    kith_vector_load(vector, basis->dim, type, scratch->row);
    double inverse = basis->metric == KITH_METRIC_COSINE ? 1 / code_length(scratch->row, basis->dim) : 1;
    code_centre(scratch->row, inverse, basis->mean, stride, scratch->centred + (size_t)at * stride);
}

/* The axes: y = z. */
static void axes_project(const kith_code_basis *basis, encode_scratch *scratch) {
    uint32_t stride = kith_code_stride(basis->dim);
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
            scratch->projections[i * KITH_CODE_BLOCK_ROWS + row] = scratch->centred[(size_t)row * stride + i];
        }
    }
}

static uint8_t *code_at(kith_code_block *block, uint32_t component, uint32_t row) {
    return &block
                ->codes[((size_t)component / KITH_CODE_GROUP * KITH_CODE_BLOCK_ROWS + row) * KITH_CODE_GROUP +
                        component % KITH_CODE_GROUP];
}

/* Writes the row's codes. A scale that is 0 (all components 0 or too small for f32) codes zeros. */
static row_parts row_quantise(
    const kith_code_basis *basis, const encode_scratch *scratch, uint32_t row, kith_code_block *block) {
    const float *y = scratch->projections + row;
    float most = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++)
        most = fmaxf(most, fabsf(y[(size_t)i * KITH_CODE_BLOCK_ROWS]));
    row_parts parts = {.scale = most / 127};
    float inverse = parts.scale > 0 ? 1 / parts.scale : 0;
    if (!isfinite(inverse)) parts.scale = inverse = 0;
    double square = 0, residual = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        float value = y[(size_t)i * KITH_CODE_BLOCK_ROWS];
        float code = fminf(fmaxf(rintf(value * inverse), -127), 127);
        double rest = value - (double)parts.scale * code;
        square += (double)value * value;
        residual += rest * rest;
        *code_at(block, i, row) = (uint8_t)((int)code + KITH_CODE_BIAS);
    }
    parts.projected = sqrt(square);
    parts.residual = sqrt(residual) * (1 + CODE_F64);
    return parts;
}

/* A row that nothing is known of: upper is infinite or NaN, so it is kept. */
static void row_keep(const kith_code_basis *basis, kith_code_block *block, uint32_t row) {
    block->scale[row] = block->tail[row] = block->offset[row] = 0;
    block->error[row] = INFINITY;
    for (uint32_t i = 0; i < basis->code_dim; i++)
        *code_at(block, i, row) = KITH_CODE_BIAS;
}

static void row_encode(
    const kith_code_basis *basis, const encode_scratch *scratch, uint32_t row, kith_code_block *block) {
    uint32_t stride = kith_code_stride(basis->dim);
    double length = code_length(scratch->centred + (size_t)row * stride, basis->dim);
    if (!(length <= CODE_ROW_LENGTH_MOST)) {
        row_keep(basis, block, row);
        return;
    }
    row_parts parts = row_quantise(basis, scratch, row, block);
    double deviation = code_deviation(basis, length);
    double projection_error = code_projection_error(basis, length, deviation);
    double longest = length * (1 + CODE_F64) + deviation;
    double projected_most = parts.projected * (1 + CODE_F64) + projection_error;
    block->scale[row] = parts.scale;
    block->error[row] = kith_round_up(parts.residual + projection_error + KITH_CODE_SLOPE * projected_most);
    block->tail[row] = kith_round_up(code_tail(basis, longest, parts.projected, projection_error));
    block->offset[row] = 0;
    if (basis->metric == KITH_METRIC_L2) {
        double shortest = fmax(0, length * (1 - CODE_F64) - deviation);
        block->offset[row] = kith_round_up(-shortest * shortest * (1 - 32 * CODE_F32));
    }
}

/* Rows past the last and rows without the field: all zeros. */
static void row_clear(const kith_code_basis *basis, kith_code_block *block, uint32_t row) {
    row_keep(basis, block, row);
    block->error[row] = 0;
}

void kith_codes_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *memory, kith_code_block *block_out) {
    encode_scratch scratch = scratch_lay_out(basis, memory);
    uint32_t stride = kith_code_stride(basis->dim);
    memset(scratch.centred, 0, KITH_CODE_BLOCK_ROWS * (size_t)stride * sizeof(float));
    for (uint32_t row = 0; row < row_count; row++) {
        if (vectors[row]) row_centre(basis, type, vectors[row], &scratch, row);
    }
    if (basis->vectors) {
        ops->products(basis->vectors, basis->code_dim, scratch.centred, KITH_CODE_BLOCK_ROWS, stride,
            scratch.projections);
    } else {
        axes_project(basis, &scratch);
    }
    for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
        if (row < row_count && vectors[row])
            row_encode(basis, &scratch, row, block_out);
        else
            row_clear(basis, block_out, row);
    }
}
