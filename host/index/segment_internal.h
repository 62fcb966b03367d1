/* What the two kinds of segment share inside this folder. Each begins with kith_segment. */
#ifndef KITH_INDEX_SEGMENT_INTERNAL_H
#define KITH_INDEX_SEGMENT_INTERNAL_H

#include "host/index/index.h"

#define SEGMENT_ROWS_MAX (1u << 24)

_Static_assert(SEGMENT_ROWS_MAX < KITH_ROW_NONE, "no row has the number that says there is none");
/* Growing segments keep where an id begins as u32. */
_Static_assert(
    (uint64_t)SEGMENT_ROWS_MAX *KITH_ID_CANONICAL_BYTES_MAX <= 1ULL << 32, "ids of a segment fit in 4 GiB");

typedef struct segment_ops {
    void (*destroy)(kith_segment *segment);
    uint32_t (*row_count)(const kith_segment *segment);
    uint64_t (*vector_bytes)(const kith_segment *segment);
    uint32_t (*find)(const kith_segment *segment, const kith_id *id, uint32_t row_end);
    kith_id (*row_id)(const kith_segment *segment, uint32_t row);
    uint64_t (*row_sequence)(const kith_segment *segment, uint32_t row);
    const void *(*row_vector)(const kith_segment *segment, uint32_t field_index, uint32_t row);
    /* Fills vectors and norms of `rows`. */
    void (*rows_of)(const kith_segment *segment, uint32_t field_index, kith_rows *rows);
    bool (*any_missing)(const kith_segment *segment, uint32_t field_index);
    /* Words [word_begin, word_end) of the bits "row has the field", to presence_out[0...]. */
    void (*presence_read)(const kith_segment *segment, uint32_t field_index, size_t word_begin,
        size_t word_end, uint64_t *presence_out);
} segment_ops;

struct kith_segment {
    const segment_ops *ops;
    atomic_uint references;
    bool sealed;
    uint64_t id;
    uint32_t rows_max;
    kith_schema schema;
};

void segment_init(kith_segment *segment, const segment_ops *ops, bool sealed, uint64_t id,
    const kith_schema *schema, uint32_t rows_max);
void segment_sealed_mark_removed(kith_segment *segment);
void segment_sealed_attach(kith_segment *segment, const kith_compute_ops *compute);

#endif
