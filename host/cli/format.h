/* Vector files behind one reader: npy, fvecs, bvecs and JSONL give batches of points; npy and ivecs give
 * tables of row numbers. A file is read in pieces, so memory does not grow with it, and nothing in it is
 * trusted: what is wrong is named with the file, the place and the reason.
 *
 * Threads: a format belongs to one thread. Ownership: a batch borrows the format and the arena until the next
 * read. */
#ifndef KITH_CLI_FORMAT_H
#define KITH_CLI_FORMAT_H

#include "host/base/arena.h"
#include "host/base/err.h"
#include "host/codec/codec_client.h"
#include "host/env/env.h"
#include "host/model/id.h"

typedef struct kith_format kith_format;

typedef enum kith_format_kind {
    KITH_FORMAT_NPY,
    KITH_FORMAT_FVECS,
    KITH_FORMAT_BVECS,
    KITH_FORMAT_IVECS,
    KITH_FORMAT_JSONL,
} kith_format_kind;

typedef struct kith_format_options {
    const char *field; /* that a file of bare vectors, or a line's "vector", is for; NULL: the default one */
    uint64_t id_start; /* id of row 0 where the file has no ids */
    const char *payload_path; /* JSONL of one object a row, beside npy and vecs; or NULL */
} kith_format_options;

typedef struct kith_format_batch {
    uint64_t first_row; /* in the file, from 0 */
    uint32_t count;     /* 0: the end */
    const kith_id *ids; /* [count] */
    const kith_codec_client_column *columns;
    uint32_t column_count;
    const char *const *payloads; /* NULL: none at all; else [count], NULL: none */
    const uint32_t *payload_bytes;
} kith_format_batch;

/* By the end of the name: .npy .fvecs .bvecs .ivecs .jsonl (.ndjson); INVALID for others. */
KITH_CHECK kith_status kith_format_kind_of(const char *path, kith_format_kind *kind_out, kith_err *err);
KITH_CHECK kith_status kith_format_open(kith_env *env, const char *path, const kith_format_options *options,
    kith_format **format_out, kith_err *err);
/* The same over bytes in memory, which are borrowed; `name` appears in messages. */
KITH_CHECK kith_status kith_format_open_memory(const char *name, kith_format_kind kind, const void *data,
    size_t bytes, const kith_format_options *options, kith_format **format_out, kith_err *err);
/* Accepts NULL. */
void kith_format_close(kith_format *format);
/* At most `count_max` points and about `bytes_max` bytes of them, at least one point. */
KITH_CHECK kith_status kith_format_read(kith_format *format, uint32_t count_max, size_t bytes_max,
    kith_arena *arena, kith_format_batch *batch_out, kith_err *err);
/* Points in the whole file; 0 when only reading tells. */
uint64_t kith_format_rows(const kith_format *format);
/* Components of a row of npy or vecs; 0 for JSONL. */
uint32_t kith_format_dim(const kith_format *format);
/* How much of the file has been read, 0..1. */
double kith_format_progress(const kith_format *format);

/* A table of row numbers (ground truth): an npy of integers, or ivecs. */
typedef struct kith_format_table {
    uint64_t rows;
    uint32_t columns;
    uint64_t *values; /* [rows][columns]; freed with kith_free */
} kith_format_table;

KITH_CHECK kith_status kith_format_table_read(
    kith_env *env, const char *path, kith_format_table *table_out, kith_err *err);

/* One JSON number from `*at` (not past `end`), rounded to the nearest float, ties to even, as strtof would.
 * On success `*at` is behind it. False: no JSON number, or one too large for a float. */
bool kith_format_float(const char **at, const char *end, float *value_out);

#endif
