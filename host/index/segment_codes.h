/* Codes of a sealed segment's field (kernels/codes/codes.h) as sections of its file. Private to host/index.
 *
 * CODE_BASIS is: u32 dim, u32 code_dim, u32 kind (0: the axes, 1: directions), u32 lead_dim, f64 defect, u32 version of
 * both sections (2), zeros up to 64 bytes; f32 mean [stride]; directions f32 [code_dim][stride] if the kind is 1. stride is dim rounded up to a multiple
 * of 16, what is past dim is zero. CODES is the blocks as a scan reads them, CODES_BY_ROW what kith_codes.by_row points at; files
 * written before there were codes by row have none.
 *
 * Threads: writing on the build's; what was opened is immutable. */
#ifndef KITH_INDEX_SEGMENT_CODES_H
#define KITH_INDEX_SEGMENT_CODES_H

#include <stdatomic.h>

#include "host/model/schema.h"
#include "host/store/segment_file.h"
#include "kernels/codes/codes.h"

#define SEGMENT_CODES_ROWS_MIN                                                                               \
    4096u /* fewer are searched as they are: training would cost more than it saves */

/* The rows of one field in the order in which they are written. */
typedef struct segment_codes_rows {
    const kith_field *field;
    uint32_t field_index;
    uint32_t row_count;
    /* The stored vector, or NULL where the row lacks the field. */
    const void *(*vector_at)(const void *ctx, uint32_t field_index, uint32_t row);
    const void *ctx;
    const atomic_bool *cancel; /* or NULL */
} segment_codes_rows;

/* Trains on a sample of the rows and writes the sections; none where codes do not pay. Memory is bounded whatever
 * the row count. NO_MEMORY, CANCELLED. */
KITH_CHECK kith_status segment_codes_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, kith_err *err);

/* Checks the field's sections and points `codes_out` at them. `*found_out` false: the file has none. CORRUPT. */
KITH_CHECK kith_status segment_codes_read(const kith_segment_file *file, const kith_field *field,
    uint32_t field_index, uint32_t row_count, kith_codes *codes_out, bool *found_out, kith_err *err);

/* --- of the format --- */

#define SEGMENT_CODE_BASIS_HEADER_BYTES 64u
#define SEGMENT_CODE_VERSION            2u
#define SEGMENT_CODE_DEFECT_MAX         1e-3

typedef enum segment_code_kind {
    SEGMENT_CODE_AXES = 0,
    SEGMENT_CODE_DIRECTIONS = 1,
} segment_code_kind;

#endif
