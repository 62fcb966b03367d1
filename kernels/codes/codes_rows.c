/* Codes by row: the plain code of a block, each row's in one piece. codes.h says what they are for. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/codes/codes_bound.h"

static size_t block_bytes_of(const kith_code_basis *axes) {
    return (kith_code_block_bytes(axes) + 63) / 64 * 64;
}

size_t kith_code_rows_encode_scratch_bytes(const kith_code_basis *basis) {
    kith_code_basis axes = kith_code_row_basis(basis);
    return block_bytes_of(&axes) + kith_codes_encode_scratch_bytes(&axes);
}

static void row_write(
    const kith_code_block *block, const kith_code_basis *axes, uint32_t row, uint8_t *row_out) {
    const kith_code_layout layout = kith_code_layout_of(axes);
    const uint32_t bytes = kith_code_row_bytes(axes->dim);
    const uint8_t *from = (const uint8_t *)kith_code_part(block, layout.codes_at) + row * KITH_CODE_GROUP;
    const float *offsets = layout.offset_at ? kith_code_part(block, layout.offset_at) : NULL;
    const kith_code_row constants = {.scale = block->scale[row],
        .noise = isinf(block->tail[row]) ? INFINITY : block->noise,
        .offset = offsets ? offsets[row] : 0};
    memset(row_out, KITH_CODE_BIAS, bytes);
    for (uint32_t i = 0; i < axes->code_dim; i += KITH_CODE_GROUP)
        memcpy(row_out + i, from + (size_t)i * KITH_CODE_BLOCK_ROWS, KITH_CODE_GROUP);
    memcpy(row_out + bytes - sizeof constants, &constants, sizeof constants);
}

void kith_code_rows_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *scratch, uint8_t *rows_out) {
    const kith_code_basis axes = kith_code_row_basis(basis);
    kith_code_block *block = scratch;
    kith_codes_encode(ops, &axes, type, vectors, row_count, (char *)scratch + block_bytes_of(&axes), block);
    for (uint32_t row = 0; row < row_count; row++)
        row_write(block, &axes, row, rows_out + (size_t)row * kith_code_row_bytes(basis->dim));
}

/* The error that the bound takes away from a sum is there twice: codes_bound.h has no term that is of one side only but the
 * offset's, which is short of |z|^2 by up to 2^-18 of it. Slack is that of kith_code_threshold, twice, and what f32 rounds off. */
kith_code_interval kith_code_row_interval(
    const kith_code_query *query, const kith_code_row *row, int32_t sum) {
    const double step = 1 / query->inverse, scale = (double)row->scale * step;
    const double error = (double)row->noise * (double)query->error_weight * scale, middle = scale * sum;
    const double offset = (double)row->offset, weighed = offset * (double)query->offset_weight * step;
    const double least = query->constant + middle - error + offset * (1 + 0x1p-17);
    const double most = query->constant + middle + error + weighed;
    const double slack = 2 * query->slack + 8 * CODE_F64 * (fabs(query->constant) + fabs(middle)) + 0x1p-120;
    kith_code_interval interval = {.least = (float)(least - slack - fabs(least) * 0x1p-22),
        .most = (float)(most + slack + fabs(most) * 0x1p-22)};
    if (!(fabsf(interval.least) <= FLT_MAX)) interval.least = -INFINITY; /* nor where it is not a number */
    if (!(interval.most <= FLT_MAX)) interval.most = INFINITY;
    return interval;
}
