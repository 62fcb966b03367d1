/* Rows of a matrix of any element as floats or as row numbers. Values that no float holds are refused here,
 * where the file and the place are known. */
#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/cli/format_internal.h"
#include "kernels/compute.h"

#define TABLE_VALUES_MAX (1ULL << 28)
#define TABLE_ROWS_READ  4096u

size_t kith_format_element_bytes(kith_format_element element) {
    switch (element) {
    case KITH_FORMAT_I8:
    case KITH_FORMAT_U8:
        return 1;
    case KITH_FORMAT_F16:
        return 2;
    case KITH_FORMAT_F32:
    case KITH_FORMAT_I32:
    case KITH_FORMAT_U32:
        return 4;
    case KITH_FORMAT_F64:
    case KITH_FORMAT_I64:
    case KITH_FORMAT_U64:
        return 8;
    }
    return 0;
}

static uint64_t row_bytes_of(const kith_format_matrix *matrix) {
    return matrix->prefix_bytes + (uint64_t)matrix->dim * kith_format_element_bytes(matrix->element);
}

/* `count` rows as they are in the file, prefixes checked. */
static kith_status read_rows(kith_format_source *source, const kith_format_matrix *matrix, uint64_t row,
    uint32_t count, kith_arena *arena, uint8_t **raw_out, kith_err *err) {
    uint64_t row_bytes = row_bytes_of(matrix);
    uint64_t offset = matrix->data_offset + row * row_bytes;
    uint8_t *raw = kith_arena_alloc(arena, (size_t)row_bytes * count);
    kith_status status = kith_format_source_read(source, offset, raw, (size_t)row_bytes * count, err);
    if (status != KITH_OK) return status;
    for (uint32_t i = 0; i < count && matrix->prefix_bytes; i++) {
        uint32_t dim = kith_load_u32(raw + i * row_bytes);
        if (dim == matrix->dim) continue;
        return kith_err_set(err, KITH_INVALID, "%s: byte %llu: row %llu has dim %u, the rows before have %u",
            source->name, (unsigned long long)(offset + i * row_bytes), (unsigned long long)(row + i), dim,
            matrix->dim);
    }
    *raw_out = raw;
    return KITH_OK;
}

static void doubles_to_floats(const uint8_t *from, uint32_t count, float *to) {
    for (uint32_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, from + (size_t)i * sizeof value, sizeof value);
        to[i] = (float)value;
    }
}

static bool row_to_floats(const uint8_t *from, const kith_format_matrix *matrix, float *to) {
    switch (matrix->element) {
    case KITH_FORMAT_F32:
        memcpy(to, from, (size_t)matrix->dim * sizeof *to);
        return true;
    case KITH_FORMAT_F64:
        doubles_to_floats(from, matrix->dim, to);
        return true;
    case KITH_FORMAT_F16:
        kith_vector_load(from, matrix->dim, KITH_TYPE_F16, to);
        return true;
    case KITH_FORMAT_I8:
        kith_vector_load(from, matrix->dim, KITH_TYPE_I8, to);
        return true;
    case KITH_FORMAT_U8:
        for (uint32_t i = 0; i < matrix->dim; i++)
            to[i] = from[i];
        return true;
    default:
        return false;
    }
}

static kith_status check_finite(const kith_format_source *source, const kith_format_matrix *matrix,
    uint64_t row, const float *values, kith_err *err) {
    for (uint32_t i = 0; i < matrix->dim; i++) {
        if (isfinite(values[i])) continue;
        uint64_t offset = matrix->data_offset + row * row_bytes_of(matrix) + matrix->prefix_bytes +
                          i * kith_format_element_bytes(matrix->element);
        return kith_err_set(err, KITH_INVALID,
            "%s: byte %llu: component %u of row %llu is %s, not a finite float", source->name,
            (unsigned long long)offset, i, (unsigned long long)row, isnan(values[i]) ? "nan" : "infinite");
    }
    return KITH_OK;
}

kith_status kith_format_matrix_floats(kith_format_source *source, const kith_format_matrix *matrix,
    uint64_t row, uint32_t count, kith_arena *arena, float *values_out, kith_err *err) {
    uint8_t *raw;
    kith_status status = read_rows(source, matrix, row, count, arena, &raw, err);
    if (status != KITH_OK) return status;
    for (uint32_t i = 0; i < count; i++) {
        float *values = values_out + (size_t)i * matrix->dim;
        if (!row_to_floats(raw + i * row_bytes_of(matrix) + matrix->prefix_bytes, matrix, values)) {
            return kith_err_set(
                err, KITH_INVALID, "%s: the file holds integers of 4 or 8 bytes, not vectors", source->name);
        }
        status = check_finite(source, matrix, row + i, values, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* --- tables of row numbers --------------------------------------------------------------------------------
 */

static bool number_at(const uint8_t *from, kith_format_element element, uint64_t *number_out) {
    bool is_signed = element == KITH_FORMAT_I32 || element == KITH_FORMAT_I64;
    int64_t value;
    if (element == KITH_FORMAT_I32)
        value = (int32_t)kith_load_u32(from);
    else if (element == KITH_FORMAT_U32)
        value = kith_load_u32(from);
    else
        value = (int64_t)kith_load_u64(from);
    *number_out = (uint64_t)value;
    return !is_signed || value >= 0;
}

static kith_status rows_to_numbers(kith_format_source *source, const kith_format_matrix *matrix, uint64_t row,
    uint32_t count, kith_arena *arena, uint64_t *values, kith_err *err) {
    uint8_t *raw;
    kith_status status = read_rows(source, matrix, row, count, arena, &raw, err);
    if (status != KITH_OK) return status;
    size_t element_bytes = kith_format_element_bytes(matrix->element);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *from = raw + i * row_bytes_of(matrix) + matrix->prefix_bytes;
        for (uint32_t j = 0; j < matrix->dim; j++) {
            if (number_at(from + j * element_bytes, matrix->element, values++)) continue;
            return kith_err_set(err, KITH_INVALID, "%s: entry %u of row %llu is negative, not a row number",
                source->name, j, (unsigned long long)(row + i));
        }
    }
    return KITH_OK;
}

static kith_status table_of(kith_format_source *source, const kith_format_matrix *matrix,
    kith_format_table *table_out, kith_err *err) {
    if (matrix->element < KITH_FORMAT_I32) {
        return kith_err_set(
            err, KITH_INVALID, "%s: ground truth is integers of 4 or 8 bytes (ivecs or npy)", source->name);
    }
    if (matrix->rows > TABLE_VALUES_MAX / matrix->dim) {
        return kith_err_set(
            err, KITH_INVALID, "%s: more than %llu row numbers", source->name, TABLE_VALUES_MAX);
    }
    uint64_t *values = kith_try_alloc((size_t)matrix->rows * matrix->dim * sizeof *values + 1);
    if (!values) return kith_err_set(err, KITH_NO_MEMORY, "%s: no memory for it", source->name);
    kith_status status = KITH_OK;
    kith_arena arena;
    kith_arena_init(&arena);
    for (uint64_t row = 0; row < matrix->rows && status == KITH_OK; row += TABLE_ROWS_READ) {
        uint64_t left = matrix->rows - row;
        uint32_t count = left < TABLE_ROWS_READ ? (uint32_t)left : TABLE_ROWS_READ;
        kith_arena_reset(&arena);
        status = rows_to_numbers(source, matrix, row, count, &arena, values + row * matrix->dim, err);
    }
    kith_arena_fini(&arena);
    if (status != KITH_OK)
        kith_free(values);
    else
        *table_out = (kith_format_table){.rows = matrix->rows, .columns = matrix->dim, .values = values};
    return status;
}

kith_status kith_format_table_read(
    kith_env *env, const char *path, kith_format_table *table_out, kith_err *err) {
    kith_format_kind kind;
    kith_format_source source;
    kith_format_matrix matrix;
    kith_status status = kith_format_kind_of(path, &kind, err);
    if (status == KITH_OK && kind == KITH_FORMAT_JSONL)
        status = kith_err_set(err, KITH_INVALID, "%s: ground truth is an .ivecs or .npy file", path);
    if (status != KITH_OK) return status;
    status = kith_format_source_open(env, path, &source, err);
    if (status != KITH_OK) return status;
    if (kind == KITH_FORMAT_NPY)
        status = kith_format_npy_header(&source, &matrix, err);
    else
        status = kith_format_vecs_header(&source, kind, &matrix, err);
    if (status == KITH_OK) status = table_of(&source, &matrix, table_out, err);
    kith_format_source_close(&source);
    return status;
}
