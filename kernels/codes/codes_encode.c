/* Rows to codes. codes.h says what is stored, codes_bound.h why it is enough. */
#include <string.h>

#include "kernels/codes/codes_bound.h"

typedef struct encode_scratch {
    float *row;         /* [stride] */
    float *centred;     /* [32][stride] */
    float *projections; /* [code_dim][32] */
} encode_scratch;

/* What the constants of a block's rows are made from, a lane a row, so that loops over rows are vectors. */
typedef struct block_parts {
    double length[KITH_CODE_BLOCK_ROWS];           /* |z~| */
    double deviation[KITH_CODE_BLOCK_ROWS];        /* |z~ - z| */
    double projection_error[KITH_CODE_BLOCK_ROWS]; /* |y~ - y| */
    float scale[KITH_CODE_BLOCK_ROWS];
    float inverse[KITH_CODE_BLOCK_ROWS];    /* 1 / scale */
    double projected[KITH_CODE_BLOCK_ROWS]; /* |y~|^2 */
    double lead[KITH_CODE_BLOCK_ROWS];      /* the same of the first lead_dim components */
    double residual[KITH_CODE_BLOCK_ROWS];  /* |y~ - y^|^2 */
    int32_t coded[KITH_CODE_BLOCK_ROWS];    /* |c|^2 */
} block_parts;

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

/* A block that is being written; offset and lead_tail are NULL where it has none. */
typedef struct block_writer {
    kith_code_block *block;
    float *offset, *lead_tail;
    uint8_t *codes;
} block_writer;

static float *floats_at(kith_code_block *block, uint32_t at) {
    return at == 0 ? NULL : (float *)(void *)((char *)block + at);
}

static block_writer writer_of(const kith_code_basis *basis, kith_code_block *block) {
    kith_code_layout layout = kith_code_layout_of(basis);
    memset(block, 0, layout.codes_at);
    return (block_writer){.block = block,
        .offset = floats_at(block, layout.offset_at),
        .lead_tail = floats_at(block, layout.lead_tail_at),
        .codes = (uint8_t *)block + layout.codes_at};
}

static uint8_t *code_at(const block_writer *writer, uint32_t component, uint32_t row) {
    size_t group = component / KITH_CODE_GROUP;
    return &writer
                ->codes[(group * KITH_CODE_BLOCK_ROWS + row) * KITH_CODE_GROUP + component % KITH_CODE_GROUP];
}

static void lengths_find(const kith_code_basis *basis, const float *centred, block_parts *parts) {
    for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
        double length = code_length(centred + (size_t)row * kith_code_stride(basis->dim), basis->dim);
        double deviation = code_deviation(basis, length);
        parts->length[row] = length;
        parts->deviation[row] = deviation;
        parts->projection_error[row] = code_projection_error(basis, length, deviation);
    }
}

/* The largest component becomes 127, unless all are as small as what is not known of them (codes_bound.h). */
static void scales_find(const kith_code_basis *basis, const float *projections, block_parts *parts) {
    float most[KITH_CODE_BLOCK_ROWS] = {0};
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        const float *values = projections + (size_t)i * KITH_CODE_BLOCK_ROWS;
        for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
            float size = fabsf(values[row]);
            most[row] = size > most[row] ? size : most[row];
        }
    }
    for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
        float least = kith_round_up(fmax(parts->projection_error[row], CODE_SCALE_LEAST));
        parts->scale[row] = fmaxf(most[row] / 127, least);
        parts->inverse[row] = 1 / parts->scale[row];
    }
}

/* To the nearest integer, by the rounding of an addition; |value| < 2^22, or NaN. */
static inline float round_nearest(float value) {
    const float shift = 0x1.8p23f;
    return (value + shift) - shift;
}

static void rows_quantise(
    const kith_code_basis *basis, const float *projections, block_parts *parts, const block_writer *writer) {
    scales_find(basis, projections, parts);
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        if (i == basis->lead_dim) memcpy(parts->lead, parts->projected, sizeof parts->lead);
        const float *values = projections + (size_t)i * KITH_CODE_BLOCK_ROWS;
        int32_t codes[KITH_CODE_BLOCK_ROWS];
        for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
            float code = round_nearest(values[row] * parts->inverse[row]);
            code = code > 127 ? 127 : code > -127 ? code : -127; /* NaN too: such rows are overwritten */
            double rest = values[row] - (double)parts->scale[row] * code;
            parts->projected[row] += (double)values[row] * values[row];
            parts->residual[row] += rest * rest;
            parts->coded[row] += (int32_t)code * (int32_t)code;
            codes[row] = (int32_t)code + KITH_CODE_BIAS;
        }
        for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++)
            *code_at(writer, i, row) = (uint8_t)codes[row];
    }
}

/* Codes of 0 beside constants of 0, which a block begins with. */
static void row_clear(const kith_code_basis *basis, const block_writer *writer, uint32_t row) {
    for (uint32_t i = 0; i < basis->code_dim; i++)
        *code_at(writer, i, row) = KITH_CODE_BIAS;
}

/* Nothing is known: upper is infinite or NaN. */
static void row_keep_always(const kith_code_basis *basis, const block_writer *writer, uint32_t row) {
    row_clear(basis, writer, row);
    writer->block->tail[row] = INFINITY;
    if (writer->lead_tail) writer->lead_tail[row] = INFINITY;
}

static void row_finish(
    const kith_code_basis *basis, const block_parts *parts, const block_writer *writer, uint32_t row) {
    double length = parts->length[row], projection_error = parts->projection_error[row];
    if (!(length <= CODE_ROW_LENGTH_MOST)) {
        row_keep_always(basis, writer, row);
        return;
    }
    double longest = length * (1 + CODE_F64) + parts->deviation[row], projected = sqrt(parts->projected[row]);
    double error = sqrt(parts->residual[row]) * (1 + CODE_F64) + projection_error;
    double projected_most = projected * (1 + CODE_F64) + projection_error;
    double noise = (error + KITH_CODE_SLOPE * projected_most) / parts->scale[row] * (1 + CODE_F64);
    kith_code_block *block = writer->block;
    block->noise = fmaxf(block->noise, kith_round_up(noise));
    block->length = fmaxf(block->length, kith_round_up(sqrt(parts->coded[row])));
    block->scale[row] = parts->scale[row];
    block->tail[row] = kith_round_up(code_tail(basis, basis->code_dim, longest, projected, projection_error));
    if (writer->lead_tail) {
        double lead = sqrt(parts->lead[row]);
        writer->lead_tail[row] =
            kith_round_up(code_tail(basis, basis->lead_dim, longest, lead, projection_error));
    }
    if (writer->offset) {
        double shortest = fmax(0, length * (1 - CODE_F64) - parts->deviation[row]);
        writer->offset[row] = kith_round_up(-shortest * shortest * (1 - 32 * CODE_F32));
    }
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
    block_writer writer = writer_of(basis, block_out);
    block_parts parts = {0};
    lengths_find(basis, scratch.centred, &parts);
    rows_quantise(basis, scratch.projections, &parts, &writer);
    for (uint32_t row = 0; row < KITH_CODE_BLOCK_ROWS; row++) {
        if (row < row_count && vectors[row])
            row_finish(basis, &parts, &writer, row);
        else
            row_clear(basis, &writer, row); /* past the last, or without the field */
    }
}
