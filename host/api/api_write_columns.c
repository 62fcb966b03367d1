#include "host/api/api_write_columns.h"

#include <stdio.h>
#include <string.h>

#include "host/api/api_internal.h"
#include "kernels/compute.h"

/* One column while it is read. */
typedef struct column_run {
    const kith_api_write_call *call;
    const kith_api_column *column;
    const kith_field *field;
    uint32_t field_index;
    uint8_t *
        stored; /* [rows] vectors of the stored type; one for f32, which is used where the client's bytes lie */
    float *aligned; /* [dim] */
} column_run;

static kith_status present_check(
    const kith_api_column *column, uint32_t point_count, uint32_t *rows_out, kith_err *err) {
    if (!column->present) {
        *rows_out = point_count;
        return KITH_OK;
    }
    if (column->present_bytes != point_count) {
        return kith_err_set(err, KITH_INVALID, "present has %zu bytes for %u points; one a point is needed",
            column->present_bytes, point_count);
    }
    uint32_t rows = 0;
    for (uint32_t i = 0; i < point_count; i++) {
        if (column->present[i] > 1) {
            return kith_err_set(
                err, KITH_INVALID, "present[%u] is %u; only 0 and 1 are allowed", i, column->present[i]);
        }
        rows += column->present[i];
    }
    *rows_out = rows;
    return KITH_OK;
}

/* `what` is like `vectors[field "title"]`. */
static kith_status shape_check(const char *what, const column_run *run, kith_err *err) {
    uint32_t wanted = 0;
    uint64_t rows;
    kith_status status = present_check(run->column, run->call->point_count, &wanted, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "%s", what);
    status = kith_api_rows_count(what, run->column->values_bytes, run->field->dim, &rows, err);
    if (status != KITH_OK || rows == wanted) return status;
    return kith_err_set(err, KITH_INVALID, "%s: %zu bytes are %llu vectors of dim %u, not %u", what,
        run->column->values_bytes, (unsigned long long)rows, run->field->dim, wanted);
}

/* Every component of a stored vector is zero; -0 counts as zero. */
static bool stored_is_zero(const uint8_t *stored, const kith_field *field) {
    size_t component_bytes = kith_vector_type_bytes(field->type);
    size_t bytes = field->dim * component_bytes;
    for (size_t i = 0; i < bytes; i++) {
        bool sign_byte = field->type != KITH_TYPE_I8 && i % component_bytes == component_bytes - 1;
        if (stored[i] & (sign_byte ? 0x7f : 0xff)) return false;
    }
    return true;
}

static kith_status row_store(column_run *run, const uint8_t *values, uint8_t *stored, kith_err *err) {
    uint32_t dim = run->field->dim;
    const float *floats = (const float *)(const void *)values;
    if ((uintptr_t)values % _Alignof(float) != 0) {
        memcpy(run->aligned, values, (size_t)dim * sizeof(float));
        floats = run->aligned;
    }
    kith_status status = kith_vector_store(floats, dim, run->field->type, stored, err);
    if (status != KITH_OK || run->field->metric != KITH_METRIC_COSINE) return status;
    if (!stored_is_zero(stored, run->field)) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "all %u components are zero%s, which has no cosine", dim,
        run->field->type == KITH_TYPE_F32 ? "" : " in the stored type");
}

static kith_status rows_store(column_run *run, const char *what, kith_op_point *points, kith_err *err) {
    const kith_field *field = run->field;
    size_t vector_bytes = kith_field_vector_bytes(field), value_bytes = (size_t)field->dim * 4;
    bool in_place = field->type == KITH_TYPE_F32;
    uint32_t row = 0;
    for (uint32_t i = 0; i < run->call->point_count; i++) {
        if (run->column->present && !run->column->present[i]) continue;
        const uint8_t *values = run->column->values + row * value_bytes;
        uint8_t *stored = in_place ? run->stored : run->stored + row * vector_bytes;
        kith_status status = row_store(run, values, stored, err);
        if (status != KITH_OK) {
            return kith_err_wrap(err, status, "%s of points[%u] (id %s)", what, i,
                kith_api_id_text(&run->call->ids[i], run->call->call.arena));
        }
        points[i].vectors[run->field_index] = in_place ? values : stored;
        points[i].field_mask |= 1u << run->field_index;
        row++;
    }
    return KITH_OK;
}

static kith_status column_set(const kith_api_write_call *call, const kith_api_column *column,
    const kith_collection *collection, uint32_t *seen, kith_op_point *points, kith_err *err) {
    column_run run = {.call = call, .column = column};
    kith_status status = kith_api_field_find(collection, column->field, &run.field_index, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "vectors");
    run.field = &collection->schema.fields[run.field_index];
    char what[KITH_NAME_BYTES_MAX + 32];
    snprintf(what, sizeof what, "vectors[field \"%s\"]", run.field->name);
    if (*seen & 1u << run.field_index) return kith_err_set(err, KITH_INVALID, "%s comes twice", what);
    *seen |= 1u << run.field_index;
    status = shape_check(what, &run, err);
    if (status != KITH_OK) return status;
    size_t rows = run.field->type == KITH_TYPE_F32 ? 1 : column->values_bytes / ((size_t)run.field->dim * 4);
    run.stored = kith_arena_array(call->call.arena, rows, kith_field_vector_bytes(run.field));
    run.aligned = kith_arena_array(call->call.arena, run.field->dim, sizeof *run.aligned);
    return rows_store(&run, what, points, err);
}

kith_status kith_api_columns_set(const kith_api_write_call *call, const kith_collection *collection,
    kith_op_point *points, kith_err *err) {
    _Static_assert(KITH_FIELDS_MAX <= 32, "a u32 has a bit for every field");
    uint32_t seen = 0;
    for (uint32_t i = 0; i < call->column_count; i++) {
        kith_status status = column_set(call, &call->columns[i], collection, &seen, points, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}
