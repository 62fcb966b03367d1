/* From an id to its newest row in a growing segment, found while rows are added.
 *
 * The rows of one id are a list, newest first; the oldest of them stands for all in a bucket of a hash table. So a reader
 * that sees fewer rows than there are passes over those too new for it, and an id written a thousand times costs the
 * others of its bucket nothing. A table that is full is replaced by one of twice the size and kept to the end for the
 * readers that are in it: those before take together no more memory than the last.
 *
 * Threads: one adds; any finds, for rows below a count that was published with release order after they were added.
 * Ownership: borrows the segment's id arrays. */
#ifndef KITH_INDEX_SEGMENT_IDS_H
#define KITH_INDEX_SEGMENT_IDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct segment_ids_table segment_ids_table;

/* Rows are kept as row + 1: fresh pages say that there is none. */
typedef struct segment_ids_row {
    uint32_t hash;
    uint32_t older;          /* the id's row before this one */
    _Atomic uint32_t newest; /* of the id; only in its oldest row */
} segment_ids_row;

typedef struct segment_ids {
    const uint8_t *id_bytes; /* canonical ids, one after another */
    const uint32_t *id_ends; /* [rows_max] */
    uint32_t rows_max;
    segment_ids_row *rows; /* [rows_max] of address space */
    _Atomic(segment_ids_table *) table;
} segment_ids;

/* False when the address space is out; fini is due all the same. */
bool segment_ids_init(segment_ids *ids, const uint8_t *id_bytes, const uint32_t *id_ends, uint32_t rows_max);
void segment_ids_fini(segment_ids *ids); /* accepts zeros */
/* Rows in turn: `row` is the number of those added before. Its id's bytes are in the arrays. */
void segment_ids_add(segment_ids *ids, uint32_t row);
/* Newest row below `row_end` with this canonical id; KITH_ROW_NONE. */
uint32_t segment_ids_find(const segment_ids *ids, const uint8_t *id, size_t id_bytes, uint32_t row_end);

#endif
