/* fvecs, bvecs, ivecs: each row is its dim as i32, then the components as f32, u8 or i32, little-endian. The
 * first row's dim is every row's: where a row says another, the reader of rows names it. */
#include "host/base/bytes.h"
#include "host/cli/format_internal.h"

kith_status kith_format_vecs_header(
    kith_format_source *source, kith_format_kind kind, kith_format_matrix *matrix_out, kith_err *err) {
    kith_format_matrix matrix = {
        .element = kind == KITH_FORMAT_FVECS   ? KITH_FORMAT_F32
                   : kind == KITH_FORMAT_BVECS ? KITH_FORMAT_U8
                                               : KITH_FORMAT_I32,
        .prefix_bytes = 4,
    };
    uint8_t first[4];
    if (source->bytes == 0) return kith_err_set(err, KITH_INVALID, "%s: the file is empty", source->name);
    kith_status status = kith_format_source_read(source, 0, first, sizeof first, err);
    if (status != KITH_OK) return status;
    matrix.dim = kith_load_u32(first);
    if (matrix.dim < 1 || matrix.dim > KITH_DIM_MAX) {
        return kith_err_set(err, KITH_INVALID, "%s: byte 0: a row of %u components is not in 1..%u",
            source->name, matrix.dim, KITH_DIM_MAX);
    }
    uint64_t row_bytes = 4 + (uint64_t)matrix.dim * kith_format_element_bytes(matrix.element);
    if (source->bytes % row_bytes) {
        return kith_err_set(err, KITH_INVALID,
            "%s: %llu bytes are not a whole number of rows of %llu bytes (dim %u)", source->name,
            (unsigned long long)source->bytes, (unsigned long long)row_bytes, matrix.dim);
    }
    matrix.rows = source->bytes / row_bytes;
    *matrix_out = matrix;
    return KITH_OK;
}
