/* Private to host/cli/format_*.c: where bytes come from, lines, and the matrix that npy and vecs share. */
#ifndef KITH_CLI_FORMAT_INTERNAL_H
#define KITH_CLI_FORMAT_INTERNAL_H

#include "host/base/buf.h"
#include "host/base/limits.h"
#include "host/cli/format.h"

/* Longest line of a JSONL file: sixteen fields of the widest vectors at 20 characters a number, and a
 * payload. */
#define KITH_FORMAT_LINE_BYTES_MAX (16u << 20)
_Static_assert(KITH_FORMAT_LINE_BYTES_MAX > KITH_FIELDS_MAX * KITH_DIM_MAX * 20u + KITH_PAYLOAD_BYTES_MAX,
    "a line holds the largest point");

/* A file, or bytes in memory. */
typedef struct kith_format_source {
    char *name;
    kith_file *file;
    const uint8_t *memory;
    uint64_t bytes;
} kith_format_source;

KITH_CHECK kith_status kith_format_source_open(
    kith_env *env, const char *path, kith_format_source *source_out, kith_err *err);
kith_format_source kith_format_source_memory(const char *name, const void *data, size_t bytes);
void kith_format_source_close(kith_format_source *source);
/* All `bytes` bytes at `offset`; INVALID when the file ends before. */
KITH_CHECK kith_status kith_format_source_read(
    kith_format_source *source, uint64_t offset, void *data, size_t bytes, kith_err *err);

/* Lines of a source, without their ends ("\n" or "\r\n"). */
typedef struct kith_format_lines {
    kith_format_source *source;
    kith_buf window;
    uint64_t window_offset; /* of its first byte in the source */
    size_t at;              /* in the window */
    uint64_t number;        /* of the line last given, from 1 */
} kith_format_lines;

void kith_format_lines_init(kith_format_lines *lines, kith_format_source *source);
void kith_format_lines_fini(kith_format_lines *lines);
/* The next line that is not blank, borrowed until the next call; `*line_out` NULL at the end. */
KITH_CHECK kith_status kith_format_lines_next(
    kith_format_lines *lines, const char **line_out, size_t *bytes_out, kith_err *err);
/* Offset in the source just behind the last line. */
uint64_t kith_format_lines_offset(const kith_format_lines *lines);

typedef enum kith_format_element {
    KITH_FORMAT_F16,
    KITH_FORMAT_F32,
    KITH_FORMAT_F64,
    KITH_FORMAT_I8,
    KITH_FORMAT_U8,
    KITH_FORMAT_I32,
    KITH_FORMAT_U32,
    KITH_FORMAT_I64,
    KITH_FORMAT_U64,
} kith_format_element;

/* rows x dim elements from `data_offset` on, each row behind `prefix_bytes` bytes. */
typedef struct kith_format_matrix {
    kith_format_element element;
    uint64_t data_offset;
    uint64_t rows;
    uint32_t dim;
    uint32_t prefix_bytes; /* 4 in vecs: the row's dim again */
} kith_format_matrix;

size_t kith_format_element_bytes(kith_format_element element);
KITH_CHECK kith_status kith_format_npy_header(
    kith_format_source *source, kith_format_matrix *matrix_out, kith_err *err);
KITH_CHECK kith_status kith_format_vecs_header(
    kith_format_source *source, kith_format_kind kind, kith_format_matrix *matrix_out, kith_err *err);
/* `count` rows from `row` on as floats; refuses what is not finite. `values_out` [count][dim]. */
KITH_CHECK kith_status kith_format_matrix_floats(kith_format_source *source, const kith_format_matrix *matrix,
    uint64_t row, uint32_t count, kith_arena *arena, float *values_out, kith_err *err);

typedef struct kith_format_jsonl kith_format_jsonl;
/* Borrows both. */
kith_format_jsonl *kith_format_jsonl_create(kith_format_source *source, const char *field, uint64_t id_start);
void kith_format_jsonl_destroy(kith_format_jsonl *jsonl);
KITH_CHECK kith_status kith_format_jsonl_read(kith_format_jsonl *jsonl, uint32_t count_max, size_t bytes_max,
    kith_arena *arena, kith_format_batch *batch_out, kith_err *err);
uint64_t kith_format_jsonl_offset(const kith_format_jsonl *jsonl);

#endif
