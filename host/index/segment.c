/* Segments of both kinds: counting, and each call to the kind it is for. */
#include "host/index/segment_internal.h"

#include "host/base/assert.h"

void segment_init(kith_segment *segment, const segment_ops *ops, bool sealed, uint64_t id,
    const kith_schema *schema, uint32_t rows_max) {
    segment->ops = ops;
    atomic_init(&segment->references, 1);
    segment->sealed = sealed;
    segment->id = id;
    segment->rows_max = rows_max;
    segment->schema = *schema;
}

kith_segment *kith_segment_acquire(kith_segment *segment) {
    /* relaxed: whoever acquires holds a reference already, so the count cannot reach zero beside it. */
    unsigned before = atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    kith_assert(before > 0);
    return segment;
}

void kith_segment_release(kith_segment *segment) {
    if (!segment) return;
    /* release on each drop, acquire on the last: what others did with the segment comes before its end. */
    unsigned before = atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel);
    kith_assert(before > 0);
    if (before == 1) segment->ops->destroy(segment);
}

void kith_segment_remove_file_on_release(kith_segment *segment) {
    kith_assert(segment->sealed);
    segment_sealed_mark_removed(segment);
}

uint64_t kith_segment_id(const kith_segment *segment) {
    return segment->id;
}

void kith_segment_attach(kith_segment *segment, const kith_compute_ops *compute) {
    kith_assert(segment->sealed);
    if (compute->attach) segment_sealed_attach(segment, compute);
}

bool kith_segment_is_sealed(const kith_segment *segment) {
    return segment->sealed;
}

uint32_t kith_segment_row_count(const kith_segment *segment) {
    return segment->ops->row_count(segment);
}

uint32_t kith_segment_rows_max(const kith_segment *segment) {
    return segment->rows_max;
}

uint64_t kith_segment_vector_bytes(const kith_segment *segment) {
    return segment->ops->vector_bytes(segment);
}

uint32_t kith_segment_find(const kith_segment *segment, const kith_id *id) {
    return segment->ops->find(segment, id, segment->rows_max);
}

uint32_t kith_segment_find_below(const kith_segment *segment, const kith_id *id, uint32_t row_count) {
    return segment->ops->find(segment, id, row_count);
}

kith_id kith_segment_row_id(const kith_segment *segment, uint32_t row) {
    return segment->ops->row_id(segment, row);
}

uint64_t kith_segment_row_sequence(const kith_segment *segment, uint32_t row) {
    return segment->ops->row_sequence(segment, row);
}

const void *kith_segment_row_vector(const kith_segment *segment, uint32_t field_index, uint32_t row) {
    kith_assert(field_index < segment->schema.field_count);
    return segment->ops->row_vector(segment, field_index, row);
}
