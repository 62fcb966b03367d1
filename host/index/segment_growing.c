/* Growing segments: arrays of the full capacity in address space, of which memory is taken page by page as
 * rows come. So rows never move, and readers of published rows need no lock: everything of a row is written
 * before the view that shows it is published. The one word that a later row shares with published ones is
 * that of the missing bits; it is read and written atomically. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bitset.h"
#include "host/index/segment_ids.h"
#include "host/index/segment_internal.h"

typedef struct growing_field {
    uint8_t *vectors;          /* [rows_max][dim] of the stored type */
    float *norms;              /* [rows_max] */
    _Atomic uint64_t *missing; /* bits [rows_max]: the row lacks the field; untouched pages while none does */
    atomic_uint missing_count;
    size_t vector_bytes; /* of one */
} growing_field;

typedef struct growing_segment {
    kith_segment segment;
    const kith_compute_ops *compute;
    atomic_uint row_count; /* relaxed: for metrics; readers go by the view's count */
    uint64_t *sequences;   /* [rows_max] */
    uint32_t
        *id_ends; /* [rows_max]: where the row's id ends in id_bytes; it begins where the one before ends */
    uint8_t *id_bytes; /* canonical ids, one after another */
    segment_ids ids;
    growing_field fields[KITH_FIELDS_MAX];
} growing_segment;

static const growing_segment *growing_of(const kith_segment *segment) {
    return (const growing_segment *)segment;
}

static size_t missing_bytes(uint32_t rows_max) {
    return kith_bitset_words(rows_max) * sizeof(uint64_t);
}

static void pages_release(void *pointer, size_t bytes) {
    if (pointer) kith_pages_release(pointer, bytes);
}

static void growing_destroy(kith_segment *segment) {
    growing_segment *growing = (growing_segment *)segment;
    size_t rows_max = segment->rows_max;
    for (uint32_t i = 0; i < segment->schema.field_count; i++) {
        growing_field *field = &growing->fields[i];
        pages_release(field->vectors, rows_max * field->vector_bytes);
        pages_release(field->norms, rows_max * sizeof *field->norms);
        pages_release(field->missing, missing_bytes(segment->rows_max));
    }
    pages_release(growing->sequences, rows_max * sizeof *growing->sequences);
    pages_release(growing->id_ends, rows_max * sizeof *growing->id_ends);
    pages_release(growing->id_bytes, rows_max * KITH_ID_CANONICAL_BYTES_MAX);
    segment_ids_fini(&growing->ids);
    kith_free(growing);
}

/* False when the address space or the commit limit is out. */
static bool field_reserve(growing_field *field, size_t vector_bytes, uint32_t rows_max) {
    field->vector_bytes = vector_bytes;
    field->vectors = kith_pages_reserve(rows_max * vector_bytes);
    field->norms = kith_pages_reserve(rows_max * sizeof *field->norms);
    field->missing = kith_pages_reserve(missing_bytes(rows_max));
    return field->vectors && field->norms && field->missing;
}

static bool growing_reserve(growing_segment *growing) {
    const kith_schema *schema = &growing->segment.schema;
    size_t rows_max = growing->segment.rows_max;
    bool reserved = true;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        size_t vector_bytes = kith_field_vector_bytes(&schema->fields[i]);
        reserved = field_reserve(&growing->fields[i], vector_bytes, (uint32_t)rows_max) && reserved;
    }
    growing->sequences = kith_pages_reserve(rows_max * sizeof *growing->sequences);
    growing->id_ends = kith_pages_reserve(rows_max * sizeof *growing->id_ends);
    growing->id_bytes = kith_pages_reserve(rows_max * KITH_ID_CANONICAL_BYTES_MAX);
    reserved =
        segment_ids_init(&growing->ids, growing->id_bytes, growing->id_ends, (uint32_t)rows_max) && reserved;
    return reserved && growing->sequences && growing->id_ends && growing->id_bytes;
}

static uint32_t growing_row_count(const kith_segment *segment) {
    return atomic_load_explicit(&growing_of(segment)->row_count, memory_order_relaxed);
}

static uint64_t growing_vector_bytes(const kith_segment *segment) {
    return (uint64_t)growing_row_count(segment) * kith_schema_row_bytes(&segment->schema);
}

static uint32_t growing_find(const kith_segment *segment, const kith_id *id, uint32_t row_end) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    size_t bytes = kith_id_encode(id, canonical);
    return segment_ids_find(&growing_of(segment)->ids, canonical, bytes, row_end);
}

static kith_id growing_row_id(const kith_segment *segment, uint32_t row) {
    const growing_segment *growing = growing_of(segment);
    uint32_t begin = row > 0 ? growing->id_ends[row - 1] : 0;
    kith_id id = {0};
    bool decoded = kith_id_decode(growing->id_bytes + begin, growing->id_ends[row] - begin, &id);
    kith_assert(decoded);
    return id;
}

static uint64_t growing_row_sequence(const kith_segment *segment, uint32_t row) {
    return growing_of(segment)->sequences[row];
}

static const void *growing_row_vector(const kith_segment *segment, uint32_t field_index, uint32_t row) {
    const growing_field *field = &growing_of(segment)->fields[field_index];
    uint64_t word = atomic_load_explicit(&field->missing[row >> 6], memory_order_relaxed);
    return word >> (row & 63) & 1 ? NULL : field->vectors + (size_t)row * field->vector_bytes;
}

static void growing_rows_of(const kith_segment *segment, uint32_t field_index, kith_rows *rows) {
    const growing_field *field = &growing_of(segment)->fields[field_index];
    rows->vectors = field->vectors;
    rows->norms = field->norms;
}

static bool growing_any_missing(const kith_segment *segment, uint32_t field_index) {
    const growing_field *field = &growing_of(segment)->fields[field_index];
    return atomic_load_explicit(&field->missing_count, memory_order_relaxed) > 0;
}

static void growing_presence_read(const kith_segment *segment, uint32_t field_index, size_t word_begin,
    size_t word_end, uint64_t *presence_out) {
    const growing_field *field = &growing_of(segment)->fields[field_index];
    for (size_t i = word_begin; i < word_end; i++) {
        presence_out[i - word_begin] = ~atomic_load_explicit(&field->missing[i], memory_order_relaxed);
    }
}

static const segment_ops growing_ops = {
    .destroy = growing_destroy,
    .row_count = growing_row_count,
    .vector_bytes = growing_vector_bytes,
    .find = growing_find,
    .row_id = growing_row_id,
    .row_sequence = growing_row_sequence,
    .row_vector = growing_row_vector,
    .rows_of = growing_rows_of,
    .any_missing = growing_any_missing,
    .presence_read = growing_presence_read,
};

kith_status kith_segment_growing_create(uint64_t id, const kith_schema *schema, uint32_t rows_max,
    const kith_compute_ops *compute, kith_segment **segment_out, kith_err *err) {
    kith_assert(rows_max > 0);
    kith_assert(rows_max <= SEGMENT_ROWS_MAX);
    growing_segment *growing = kith_alloc_zero(sizeof *growing);
    segment_init(&growing->segment, &growing_ops, false, id, schema, rows_max);
    growing->compute = compute;
    if (!growing_reserve(growing)) {
        growing_destroy(&growing->segment);
        return kith_err_set(err, KITH_NO_MEMORY,
            "no address space for a growing segment of %u rows of %zu bytes", rows_max,
            kith_schema_row_bytes(schema));
    }
    *segment_out = &growing->segment;
    return KITH_OK;
}

static void field_append(growing_segment *growing, uint32_t field_index, uint32_t row, const void *vector) {
    growing_field *field = &growing->fields[field_index];
    const kith_field *declared = &growing->segment.schema.fields[field_index];
    if (!vector) {
        uint64_t word = atomic_load_explicit(&field->missing[row >> 6], memory_order_relaxed);
        atomic_store_explicit(&field->missing[row >> 6], word | 1ULL << (row & 63), memory_order_relaxed);
        atomic_fetch_add_explicit(&field->missing_count, 1, memory_order_relaxed);
        return;
    }
    uint8_t *stored = field->vectors + (size_t)row * field->vector_bytes;
    memcpy(stored, vector, field->vector_bytes);
    growing->compute->norms(stored, declared->type, declared->dim, 1, &field->norms[row]);
}

kith_status kith_segment_growing_append(
    kith_segment *segment, const kith_op_point *point, uint64_t sequence, uint32_t *row_out, kith_err *err) {
    kith_assert(!segment->sealed);
    growing_segment *growing = (growing_segment *)segment;
    uint32_t row = growing_row_count(segment);
    if (row == segment->rows_max) {
        return kith_err_set(err, KITH_INTERNAL, "segment %llu is full at %u rows",
            (unsigned long long)segment->id, segment->rows_max);
    }
    uint32_t id_begin = row > 0 ? growing->id_ends[row - 1] : 0;
    size_t id_bytes = kith_id_encode(&point->id, growing->id_bytes + id_begin);
    growing->id_ends[row] = id_begin + (uint32_t)id_bytes;
    growing->sequences[row] = sequence;
    for (uint32_t i = 0; i < segment->schema.field_count; i++)
        field_append(growing, i, row, point->vectors[i]);
    segment_ids_add(&growing->ids, row);
    atomic_store_explicit(&growing->row_count, row + 1, memory_order_relaxed);
    *row_out = row;
    return KITH_OK;
}
