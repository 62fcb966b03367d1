/* All query vectors of a file in memory, for search and bench: at most 1 GiB of them. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/cli/cli_queries.h"
#include "host/cli/format.h"

#define QUERIES_BYTES_MAX (1ull << 30)
#define READ_ROWS         4096u
#define READ_BYTES        (8u << 20)

static const kith_codec_client_column *column_named(const kith_format_batch *batch, const char *field) {
    for (uint32_t i = 0; i < batch->column_count; i++)
        if (strcmp(batch->columns[i].field, field) == 0) return &batch->columns[i];
    return NULL;
}

/* Appends the batch's vectors of `field`, which every row must have. */
static kith_status take_batch(kith_cli_queries *queries, kith_buf *values, const kith_format_batch *batch,
    const char *field, kith_err *err) {
    const kith_codec_client_column *column = column_named(batch, field);
    if (!column || column->present) {
        return kith_err_set(err, KITH_INVALID, "a row behind row %llu has no vector for %s%s",
            (unsigned long long)batch->first_row, *field ? "field " : "the default field", field);
    }
    size_t bytes = (size_t)column->row_count * column->dim * sizeof(float);
    if (values->bytes + bytes > QUERIES_BYTES_MAX)
        return kith_err_set(err, KITH_INVALID, "more than %llu bytes of queries", QUERIES_BYTES_MAX);
    kith_buf_append(values, column->values, bytes);
    queries->dim = column->dim;
    queries->count += column->row_count;
    return KITH_OK;
}

static kith_status read_all(
    kith_format *format, const char *field, kith_cli_queries *queries, kith_buf *values, kith_err *err) {
    kith_status status;
    kith_format_batch batch;
    kith_arena arena;
    kith_arena_init(&arena);
    do {
        kith_arena_reset(&arena);
        status = kith_format_read(format, READ_ROWS, READ_BYTES, &arena, &batch, err);
        if (status == KITH_OK && batch.count > 0) status = take_batch(queries, values, &batch, field, err);
    } while (status == KITH_OK && batch.count > 0);
    kith_arena_fini(&arena);
    if (status == KITH_OK && queries->count == 0)
        status = kith_err_set(err, KITH_INVALID, "there are no queries");
    return status;
}

kith_status kith_cli_queries_read(
    kith_env *env, const char *path, const char *field, kith_cli_queries *queries_out, kith_err *err) {
    kith_format *format;
    kith_format_options options = {.field = field};
    kith_status status = kith_format_open(env, path, &options, &format, err);
    if (status != KITH_OK) return status;
    kith_buf values;
    kith_cli_queries queries = {.dim = 0};
    kith_buf_init(&values);
    status = read_all(format, field, &queries, &values, err);
    kith_format_close(format);
    if (status != KITH_OK) {
        kith_buf_fini(&values);
        return strstr(err->text, path) ? status : kith_err_wrap(err, status, "%s", path);
    }
    size_t bytes;
    queries.values = (float *)(void *)kith_buf_take(&values, &bytes);
    *queries_out = queries;
    return KITH_OK;
}

void kith_cli_queries_free(kith_cli_queries *queries) {
    kith_free(queries->values);
    queries->values = NULL;
}
