/* Upsert requests: points by columns as they are, points by rows gathered into columns, so that host/api sees
 * one form. A row's vectors are copied once more; columns are the fast way to load. */
#include "host/base/text.h"
#include "host/codec/codec_ids.h"
#include "host/codec/codec_points.h"

#include "kith/v1/points.pb-c.h"

/* --- columns --- */

static kith_status floats_check(ProtobufCBinaryData values, const char *what, kith_err *err) {
    if (values.len % 4 == 0) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "%s: %zu bytes are not a multiple of 4", what, values.len);
}

static kith_status present_check(ProtobufCBinaryData present, uint32_t point_count, kith_err *err) {
    if (present.len == 0) return KITH_OK;
    if (present.len != point_count) {
        return kith_err_set(err, KITH_INVALID,
            "present: %zu bytes for %u points; none or one each are allowed", present.len, point_count);
    }
    for (size_t i = 0; i < present.len; i++) {
        if (present.data[i] <= 1) continue;
        return kith_err_set(err, KITH_INVALID, "present[%zu]: %u is not 0 or 1", i, present.data[i]);
    }
    return KITH_OK;
}

static kith_status column_decode(const Kith__V1__VectorColumn *message, uint32_t point_count,
    kith_arena *arena, kith_codec_column *column_out, kith_err *err) {
    kith_status status = kith_codec_text(message->field, "field", arena, &column_out->field, err);
    if (status == KITH_OK) status = floats_check(message->values, "values", err);
    if (status == KITH_OK) status = present_check(message->present, point_count, err);
    if (status != KITH_OK) return status;
    column_out->values = message->values.data;
    column_out->values_bytes = message->values.len;
    column_out->present = message->present.len > 0 ? message->present.data : NULL;
    column_out->present_bytes = message->present.len;
    return KITH_OK;
}

static kith_status columns_too_many(const char *what, size_t count, kith_err *err) {
    return kith_err_set(
        err, KITH_INVALID, "%s: %zu fields; at most %u are allowed", what, count, KITH_FIELDS_MAX);
}

static kith_status columns_distinct_check(const kith_codec_column *columns, uint32_t last, kith_err *err) {
    for (uint32_t i = 0; i < last; i++) {
        if (strcmp(columns[i].field, columns[last].field) != 0) continue;
        return kith_err_set(err, KITH_INVALID,
            "columns.vectors[%u].field: \"%s\" is also that of vectors[%u]", last, columns[last].field, i);
    }
    return KITH_OK;
}

static kith_status column_list_decode(const Kith__V1__PointColumns *message, kith_arena *arena,
    kith_codec_upsert_request *request, kith_err *err) {
    if (message->n_vectors > KITH_FIELDS_MAX)
        return columns_too_many("columns.vectors", message->n_vectors, err);
    kith_codec_column *columns = kith_arena_array(arena, message->n_vectors, sizeof *columns);
    for (uint32_t i = 0; i < message->n_vectors; i++) {
        kith_status status =
            column_decode(message->vectors[i], request->point_count, arena, &columns[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "columns.vectors[%u]", i);
        status = columns_distinct_check(columns, i, err);
        if (status != KITH_OK) return status;
    }
    request->columns = columns;
    request->column_count = (uint32_t)message->n_vectors;
    return KITH_OK;
}

typedef struct payload_arrays {
    const char **texts;
    uint32_t *bytes;
} payload_arrays;

static payload_arrays payloads_allocate(kith_arena *arena, kith_codec_upsert_request *request) {
    payload_arrays arrays = {.texts = kith_arena_array(arena, request->point_count, sizeof(char *)),
        .bytes = kith_arena_array(arena, request->point_count, sizeof(uint32_t))};
    request->payloads = arrays.texts;
    request->payload_bytes = arrays.bytes;
    return arrays;
}

/* A message is far below 4 GiB, so that a payload's length fits. */
static void payload_set(payload_arrays *arrays, uint32_t index, ProtobufCBinaryData payload) {
    arrays->texts[index] = payload.len > 0 ? (const char *)payload.data : NULL;
    arrays->bytes[index] = (uint32_t)payload.len;
}

static kith_status column_payloads_decode(const Kith__V1__PointColumns *message, kith_arena *arena,
    kith_codec_upsert_request *request, kith_err *err) {
    if (message->n_payloads == 0) return KITH_OK;
    if (message->n_payloads != request->point_count) {
        return kith_err_set(err, KITH_INVALID,
            "columns.payloads: %zu for %u points; none or one each are allowed", message->n_payloads,
            request->point_count);
    }
    payload_arrays arrays = payloads_allocate(arena, request);
    for (uint32_t i = 0; i < request->point_count; i++)
        payload_set(&arrays, i, message->payloads[i]);
    return KITH_OK;
}

static kith_status columns_decode(const Kith__V1__PointColumns *message, kith_arena *arena,
    kith_codec_upsert_request *request, kith_err *err) {
    kith_status status =
        kith_codec_ids_decode(message->ids, "columns.ids", arena, &request->ids, &request->point_count, err);
    if (status == KITH_OK) status = column_list_decode(message, arena, request, err);
    if (status == KITH_OK) status = column_payloads_decode(message, arena, request, err);
    return status;
}

/* --- rows --- */

/* A column while it is gathered. All its vectors must have the same length: lengths that differ could add up
 * to the right total. */
typedef struct row_column {
    ProtobufCBinaryData name; /* borrowed */
    const char *field;
    size_t vector_bytes;
    uint32_t rows;
    uint8_t *present; /* [point_count] */
    uint8_t *values;  /* [rows][vector_bytes] */
} row_column;

typedef struct row_columns {
    kith_arena *arena;
    uint32_t point_count, count;
    row_column columns[KITH_FIELDS_MAX];
} row_columns;

/* Points mostly list their fields in the same order: `hint` is where to look first. NULL if there is none. */
static row_column *row_column_find(row_columns *all, ProtobufCBinaryData name, size_t hint) {
    for (uint32_t i = 0; i < all->count; i++) {
        row_column *column = &all->columns[(hint + i) % all->count];
        if (column->name.len == name.len &&
            (name.len == 0 || memcmp(column->name.data, name.data, name.len) == 0)) {
            return column;
        }
    }
    return NULL;
}

static kith_status row_column_add(
    row_columns *all, const Kith__V1__NamedVector *vector, row_column **column_out, kith_err *err) {
    if (all->count == KITH_FIELDS_MAX) return columns_too_many("vectors", all->count + 1, err);
    row_column *column = &all->columns[all->count];
    *column = (row_column){.name = vector->field, .vector_bytes = vector->values.len};
    kith_status status = kith_codec_text(vector->field, "field", all->arena, &column->field, err);
    if (status == KITH_OK) status = floats_check(vector->values, "values", err);
    if (status != KITH_OK) return status;
    column->present = kith_arena_alloc_zero(all->arena, all->point_count);
    all->count++;
    *column_out = column;
    return KITH_OK;
}

/* First pass: which point has which field. */
static kith_status row_vector_count(
    row_columns *all, uint32_t point, size_t hint, const Kith__V1__NamedVector *vector, kith_err *err) {
    row_column *column = row_column_find(all, vector->field, hint);
    if (!column) {
        kith_status status = row_column_add(all, vector, &column, err);
        if (status != KITH_OK) return status;
    }
    if (vector->values.len != column->vector_bytes) {
        return kith_err_set(err, KITH_INVALID,
            "values: %zu bytes, but earlier points have %zu in field \"%s\"", vector->values.len,
            column->vector_bytes, column->field);
    }
    if (column->present[point]) {
        return kith_err_set(err, KITH_INVALID, "field: \"%s\" is there twice in one point", column->field);
    }
    column->present[point] = 1;
    column->rows++;
    return KITH_OK;
}

static kith_status rows_count(const Kith__V1__PointRows *message, row_columns *all, kith_err *err) {
    for (uint32_t i = 0; i < all->point_count; i++) {
        const Kith__V1__Point *point = message->points[i];
        for (size_t v = 0; v < point->n_vectors; v++) {
            kith_status status = row_vector_count(all, i, v, point->vectors[v], err);
            if (status != KITH_OK) return kith_err_wrap(err, status, "rows.points[%u].vectors[%zu]", i, v);
        }
    }
    return KITH_OK;
}

/* Second pass: the values in point order. */
static void rows_gather(const Kith__V1__PointRows *message, row_columns *all) {
    uint8_t *ends[KITH_FIELDS_MAX];
    for (uint32_t c = 0; c < all->count; c++) {
        row_column *column = &all->columns[c];
        ends[c] = column->values = kith_arena_array(all->arena, column->rows, column->vector_bytes);
    }
    for (uint32_t i = 0; i < all->point_count; i++) {
        const Kith__V1__Point *point = message->points[i];
        for (size_t v = 0; v < point->n_vectors; v++) {
            ProtobufCBinaryData values = point->vectors[v]->values;
            size_t c = (size_t)(row_column_find(all, point->vectors[v]->field, v) - all->columns);
            if (values.len > 0) memcpy(ends[c], values.data, values.len);
            ends[c] += values.len;
        }
    }
}

static void rows_columns_publish(const row_columns *all, kith_codec_upsert_request *request) {
    kith_codec_column *columns = kith_arena_array(all->arena, all->count, sizeof *columns);
    for (uint32_t c = 0; c < all->count; c++) {
        const row_column *column = &all->columns[c];
        bool everywhere = column->rows == all->point_count;
        columns[c] = (kith_codec_column){.field = column->field,
            .values = column->values,
            .values_bytes = column->rows * column->vector_bytes,
            .present = everywhere ? NULL : column->present,
            .present_bytes = everywhere ? 0 : all->point_count};
    }
    request->columns = columns;
    request->column_count = all->count;
}

static kith_status row_ids_decode(const Kith__V1__PointRows *message, kith_arena *arena,
    kith_codec_upsert_request *request, kith_err *err) {
    kith_id *ids = kith_arena_array(arena, request->point_count, sizeof *ids);
    for (uint32_t i = 0; i < request->point_count; i++) {
        kith_status status = kith_codec_id_decode(message->points[i]->id, arena, &ids[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "rows.points[%u].id", i);
    }
    request->ids = ids;
    return KITH_OK;
}

static kith_status rows_decode(const Kith__V1__PointRows *message, kith_arena *arena,
    kith_codec_upsert_request *request, kith_err *err) {
    kith_status status = kith_codec_count_check("rows.points", message->n_points, err);
    if (status != KITH_OK) return status;
    request->point_count = (uint32_t)message->n_points;
    row_columns all = {.arena = arena, .point_count = request->point_count};
    status = row_ids_decode(message, arena, request, err);
    if (status == KITH_OK) status = rows_count(message, &all, err);
    if (status != KITH_OK) return status;
    rows_gather(message, &all);
    rows_columns_publish(&all, request);
    payload_arrays arrays = payloads_allocate(arena, request);
    for (uint32_t i = 0; i < request->point_count; i++)
        payload_set(&arrays, i, message->points[i]->payload);
    return KITH_OK;
}

/* --- request --- */

kith_status kith_codec_upsert_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_upsert_request *request_out, kith_err *err) {
    const Kith__V1__UpsertRequest *message =
        kith_codec_unpack(&kith__v1__upsert_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_upsert_request request = {0};
    kith_status status = kith_codec_text(message->collection, "collection", arena, &request.collection, err);
    if (status == KITH_OK)
        status = kith_codec_request_id_decode(message->request_id, &request.request_id, err);
    if (status != KITH_OK) return status;
    switch (message->data_case) {
    case KITH__V1__UPSERT_REQUEST__DATA_ROWS:
        status = rows_decode(message->rows, arena, &request, err);
        break;
    case KITH__V1__UPSERT_REQUEST__DATA_COLUMNS:
        status = columns_decode(message->columns, arena, &request, err);
        break;
    default:
        status =
            kith_err_set(err, KITH_INVALID, "data: neither rows nor columns is set; exactly one is needed");
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}
