/* Codes of an opened segment file: every number that a scan's bound relies on is checked once, so that a file that was
 * written wrong (its checksums are right) is refused instead of leaving rows out. What is not checked is that the
 * codes are those of the vectors beside them: that would be encoding them again. */
#include "host/index/segment_codes.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "host/base/bytes.h"

typedef struct section_reader {
    const kith_segment_file *file;
    const kith_segment_section *section;
} section_reader;

/* `at` is the offset in the section. */
static kith_status corrupt(const section_reader *reader, uint64_t at, const char *what, kith_err *err) {
    const kith_segment_section *section = reader->section;
    return kith_err_set(err, KITH_CORRUPT, "%s: %s of field %u at offset %llu: %s",
        kith_segment_file_path(reader->file), kith_segment_section_name(section->kind), section->field,
        (unsigned long long)(section->offset + at), what);
}

static kith_status bytes_check(const section_reader *reader, uint64_t bytes, kith_err *err) {
    const kith_segment_section *section = reader->section;
    if (section->bytes == bytes) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "%s: %s of field %u at offset %llu: %llu bytes instead of %llu",
        kith_segment_file_path(reader->file), kith_segment_section_name(section->kind), section->field,
        (unsigned long long)section->offset, (unsigned long long)section->bytes, (unsigned long long)bytes);
}

/* --- the basis --- */

static kith_status header_read(const section_reader *reader, const kith_field *field, kith_code_basis *basis,
    uint32_t *kind_out, kith_err *err) {
    if (reader->section->bytes < SEGMENT_CODE_BASIS_HEADER_BYTES)
        return corrupt(reader, 0, "it is shorter than its header", err);
    const uint8_t *header = reader->section->data;
    if (kith_load_u32(header + 24) != SEGMENT_CODE_VERSION)
        return corrupt(reader, 24, "codes of another version: write the segment anew", err);
    *basis = (kith_code_basis){.dim = kith_load_u32(header),
        .code_dim = kith_load_u32(header + 4),
        .lead_dim = kith_load_u32(header + 12),
        .metric = field->metric};
    memcpy(&basis->defect, header + 16, sizeof basis->defect);
    *kind_out = kith_load_u32(header + 8);
    if (basis->dim != field->dim) return corrupt(reader, 0, "its dim is not the field's", err);
    if (*kind_out > SEGMENT_CODE_DIRECTIONS) return corrupt(reader, 8, "no such kind", err);
    bool fits = *kind_out == SEGMENT_CODE_AXES ? basis->code_dim == kith_code_stride(basis->dim)
                                               : basis->code_dim > 0 && basis->code_dim <= basis->dim &&
                                                     basis->code_dim % KITH_CODE_DIM_STEP == 0;
    if (!fits) return corrupt(reader, 4, "its code_dim does not fit its dim", err);
    if (basis->lead_dim == 0 || basis->lead_dim > basis->code_dim ||
        basis->lead_dim % KITH_CODE_DIM_STEP != 0)
        return corrupt(reader, 12, "its lead_dim does not fit its code_dim", err);
    double most = *kind_out == SEGMENT_CODE_AXES ? 0 : SEGMENT_CODE_DEFECT_MAX;
    if (!(basis->defect >= 0 && basis->defect <= most))
        return corrupt(reader, 16, "its defect is out of range", err);
    return KITH_OK;
}

/* rows [count][stride]: finite, components at most `most`, zeros from dim on. */
static bool rows_fit(const float *rows, uint32_t count, uint32_t dim, float most) {
    uint32_t stride = kith_code_stride(dim);
    bool fit = true;
    for (uint32_t row = 0; row < count; row++) {
        const float *values = rows + (size_t)row * stride;
        for (uint32_t i = 0; i < dim; i++)
            fit &= fabsf(values[i]) <= most;
        for (uint32_t i = dim; i < stride; i++)
            fit &= values[i] == 0;
    }
    return fit;
}

static kith_status basis_read(
    const section_reader *reader, const kith_field *field, kith_code_basis *basis, kith_err *err) {
    uint32_t kind = 0;
    kith_status status = header_read(reader, field, basis, &kind, err);
    if (status != KITH_OK) return status;
    uint32_t stride = kith_code_stride(basis->dim);
    uint32_t vector_count = kind == SEGMENT_CODE_DIRECTIONS ? basis->code_dim : 0;
    uint64_t floats = (1 + (uint64_t)vector_count) * stride;
    status = bytes_check(reader, SEGMENT_CODE_BASIS_HEADER_BYTES + floats * sizeof(float), err);
    if (status != KITH_OK) return status;
    basis->mean = (const float *)(const void *)(reader->section->data + SEGMENT_CODE_BASIS_HEADER_BYTES);
    const float *vectors = basis->mean + stride;
    if (!rows_fit(basis->mean, 1, basis->dim, FLT_MAX))
        return corrupt(
            reader, SEGMENT_CODE_BASIS_HEADER_BYTES, "a component of the mean is out of range", err);
    /* No component of a vector of length about 1 is larger. */
    if (!rows_fit(vectors, vector_count, basis->dim, 1 + (float)SEGMENT_CODE_DEFECT_MAX)) {
        return corrupt(reader, SEGMENT_CODE_BASIS_HEADER_BYTES + stride * sizeof(float),
            "a component of the directions is out of range", err);
    }
    if (kind == SEGMENT_CODE_DIRECTIONS) basis->vectors = vectors;
    return KITH_OK;
}

/* --- the blocks --- */

/* Infinite tails are rows that are always kept. */
static bool block_fits(
    const kith_code_block *block, const kith_code_layout *layout, const kith_code_basis *basis) {
    const float *offset = kith_code_part(block, layout->offset_at);
    const float *lead_tail = kith_code_part(block, layout->lead_tail_at);
    bool fit = block->noise >= 0 && block->noise <= kith_code_noise_most(basis->code_dim);
    fit &= block->length >= 0 && block->length <= kith_code_length_most(basis->code_dim);
    for (uint32_t i = 0; i < KITH_CODE_BLOCK_ROWS; i++) {
        fit &= block->scale[i] >= 0 && block->scale[i] <= FLT_MAX;
        fit &= block->tail[i] >= 0;
        if (layout->offset_at) fit &= offset[i] <= 0 && offset[i] >= -FLT_MAX;
        if (layout->lead_tail_at) fit &= lead_tail[i] >= 0;
    }
    const void *codes = kith_code_part(block, layout->codes_at);
    return fit && !memchr(codes, 0, (size_t)basis->code_dim * KITH_CODE_BLOCK_ROWS);
}

static kith_status blocks_read(
    const section_reader *reader, uint32_t row_count, kith_codes *codes, kith_err *err) {
    kith_code_layout layout = kith_code_layout_of(&codes->basis);
    uint64_t block_bytes = layout.block_bytes;
    uint32_t count = kith_code_block_count(row_count);
    kith_status status = bytes_check(reader, block_bytes * count, err);
    if (status != KITH_OK) return status;
    codes->blocks = reader->section->data;
    for (uint32_t i = 0; i < count; i++) {
        if (!block_fits(kith_code_block_at(codes, i), &layout, &codes->basis))
            return corrupt(reader, i * block_bytes, "a number of the block is out of range", err);
    }
    return KITH_OK;
}

/* --- the codes by row --- */

static bool row_fits(const uint8_t *row, const kith_code_basis *basis) {
    const uint32_t stride = kith_code_stride(basis->dim);
    const kith_code_row *constants = kith_code_row_constants(row, basis->dim);
    bool fit = constants->scale >= 0 && constants->scale <= FLT_MAX;
    fit &= isinf(constants->noise)
               ? constants->noise > 0
               : constants->noise >= 0 && constants->noise <= kith_code_noise_most(stride);
    fit &= constants->offset <= 0 && constants->offset >= -FLT_MAX;
    fit &= basis->metric == KITH_METRIC_L2 || constants->offset == 0;
    return fit && !memchr(row, 0, stride);
}

/* What lies between the codes and the constants is multiplied with zero. */
static kith_status rows_read(
    const section_reader *reader, uint32_t row_count, kith_codes *codes, kith_err *err) {
    if (!reader->section) return KITH_OK;
    const uint64_t row_bytes = kith_code_row_bytes(codes->basis.dim);
    kith_status status = bytes_check(reader, row_bytes * row_count, err);
    if (status != KITH_OK) return status;
    codes->by_row = reader->section->data;
    for (uint32_t i = 0; i < row_count; i++) {
        if (!row_fits(kith_code_row_at(codes, i), &codes->basis))
            return corrupt(reader, i * row_bytes, "a number of the row is out of range", err);
    }
    return KITH_OK;
}

kith_status segment_codes_read(const kith_segment_file *file, const kith_field *field, uint32_t field_index,
    uint32_t row_count, kith_codes *codes_out, bool *found_out, kith_err *err) {
    section_reader basis = {file, kith_segment_file_find(file, KITH_SEGMENT_CODE_BASIS, field_index)};
    section_reader blocks = {file, kith_segment_file_find(file, KITH_SEGMENT_CODES, field_index)};
    section_reader rows = {file, kith_segment_file_find(file, KITH_SEGMENT_CODES_BY_ROW, field_index)};
    if (!basis.section && !blocks.section && !rows.section) {
        *found_out = false;
        return KITH_OK;
    }
    if (!basis.section) return corrupt(blocks.section ? &blocks : &rows, 0, "its basis is not there", err);
    if (!blocks.section) return corrupt(&basis, 0, "its codes are not there", err);
    if (field->metric == KITH_METRIC_L1) return corrupt(&basis, 0, "the field's metric has no codes", err);
    kith_codes codes = {0};
    kith_status status = basis_read(&basis, field, &codes.basis, err);
    if (status == KITH_OK) status = blocks_read(&blocks, row_count, &codes, err);
    if (status == KITH_OK) status = rows_read(&rows, row_count, &codes, err);
    if (status != KITH_OK) return status;
    *codes_out = codes;
    *found_out = true;
    return KITH_OK;
}
