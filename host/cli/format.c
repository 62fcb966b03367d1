/* Which reader a file gets, and what they share: ids by row number, and payloads from a second file. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"
#include "host/cli/format_internal.h"

struct kith_format {
    kith_format_source source;
    kith_format_kind kind;
    char *field;
    uint64_t id_start;
    kith_format_matrix matrix; /* npy, vecs */
    uint64_t row;              /* the next one */
    kith_format_jsonl *jsonl;
    kith_format_source payload_source;
    kith_format_lines payload_lines;
    bool has_payloads;
    kith_codec_client_column column; /* of the last batch of a matrix */
};

kith_status kith_format_kind_of(const char *path, kith_format_kind *kind_out, kith_err *err) {
    static const struct {
        const char *end;
        kith_format_kind kind;
    } known[] = {
        {".npy", KITH_FORMAT_NPY},
        {".fvecs", KITH_FORMAT_FVECS},
        {".bvecs", KITH_FORMAT_BVECS},
        {".ivecs", KITH_FORMAT_IVECS},
        {".jsonl", KITH_FORMAT_JSONL},
        {".ndjson", KITH_FORMAT_JSONL},
    };
    size_t path_bytes = strlen(path);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t end_bytes = strlen(known[i].end);
        if (path_bytes < end_bytes || strcmp(path + path_bytes - end_bytes, known[i].end) != 0) continue;
        *kind_out = known[i].kind;
        return KITH_OK;
    }
    return kith_err_set(err, KITH_INVALID,
        "%s: the name ends in none of .npy .fvecs .bvecs .jsonl, so its format is unknown", path);
}

/* Takes `source`, also on failure. */
static kith_status open_source(kith_env *env, kith_format_source *source, kith_format_kind kind,
    const kith_format_options *options, kith_format **format_out, kith_err *err) {
    kith_format *format = kith_alloc_zero(sizeof *format);
    format->source = *source;
    format->kind = kind;
    format->field = kith_strdup(options->field ? options->field : "");
    format->id_start = options->id_start;
    kith_status status = KITH_OK;
    if (kind == KITH_FORMAT_NPY)
        status = kith_format_npy_header(&format->source, &format->matrix, err);
    else if (kind != KITH_FORMAT_JSONL)
        status = kith_format_vecs_header(&format->source, kind, &format->matrix, err);
    else
        format->jsonl = kith_format_jsonl_create(&format->source, format->field, options->id_start);
    if (status == KITH_OK && options->payload_path && kind == KITH_FORMAT_JSONL) {
        status = kith_err_set(err, KITH_INVALID,
            "%s: a JSONL file has its payloads inside; leave --payload out", format->source.name);
    } else if (status == KITH_OK && options->payload_path) {
        status = kith_format_source_open(env, options->payload_path, &format->payload_source, err);
        format->has_payloads = status == KITH_OK;
        kith_format_lines_init(&format->payload_lines, &format->payload_source);
    }
    if (status != KITH_OK)
        kith_format_close(format);
    else
        *format_out = format;
    return status;
}

kith_status kith_format_open(kith_env *env, const char *path, const kith_format_options *options,
    kith_format **format_out, kith_err *err) {
    kith_format_kind kind;
    kith_format_source source;
    kith_status status = kith_format_kind_of(path, &kind, err);
    if (status != KITH_OK) return status;
    status = kith_format_source_open(env, path, &source, err);
    if (status != KITH_OK) return status;
    return open_source(env, &source, kind, options, format_out, err);
}

kith_status kith_format_open_memory(const char *name, kith_format_kind kind, const void *data, size_t bytes,
    const kith_format_options *options, kith_format **format_out, kith_err *err) {
    kith_format_source source = kith_format_source_memory(name, data, bytes);
    return open_source(NULL, &source, kind, options, format_out, err);
}

void kith_format_close(kith_format *format) {
    if (!format) return;
    kith_format_jsonl_destroy(format->jsonl);
    if (format->has_payloads) {
        kith_format_lines_fini(&format->payload_lines);
        kith_format_source_close(&format->payload_source);
    }
    kith_format_source_close(&format->source);
    kith_free(format->field);
    kith_free(format);
}

/* --- payloads beside a matrix -----------------------------------------------------------------------------
 */

static kith_status next_payload(
    kith_format *format, kith_arena *arena, const char **payload_out, uint32_t *bytes_out, kith_err *err) {
    const char *line;
    size_t bytes;
    kith_status status = kith_format_lines_next(&format->payload_lines, &line, &bytes, err);
    if (status != KITH_OK) return status;
    const char *name = format->payload_source.name;
    unsigned long long number = format->payload_lines.number;
    if (!line) {
        return kith_err_set(err, KITH_INVALID, "%s: %llu lines for %llu vectors", name, number,
            (unsigned long long)format->matrix.rows);
    }
    if (bytes > KITH_PAYLOAD_BYTES_MAX) {
        return kith_err_set(err, KITH_INVALID, "%s:%llu: a payload of %zu bytes is longer than %u", name,
            number, bytes, KITH_PAYLOAD_BYTES_MAX);
    }
    if (bytes == 4 && memcmp(line, "null", 4) == 0) {
        *payload_out = NULL;
        *bytes_out = 0;
        return KITH_OK;
    }
    status = kith_text_json_check(line, bytes, KITH_PAYLOAD_DEPTH_MAX, true, err);
    if (status != KITH_OK) return kith_err_wrap(err, KITH_INVALID, "%s:%llu", name, number);
    *payload_out = kith_arena_text(arena, line, bytes);
    *bytes_out = (uint32_t)bytes;
    return KITH_OK;
}

/* Payloads of up to `count` rows; fewer when they reach `bytes_max`. */
static kith_status read_payloads(kith_format *format, uint32_t count, size_t bytes_max, kith_arena *arena,
    kith_format_batch *batch, kith_err *err) {
    const char **payloads = kith_arena_array(arena, count, sizeof *payloads);
    uint32_t *payload_bytes = kith_arena_array(arena, count, sizeof *payload_bytes);
    size_t bytes = 0;
    uint32_t done = 0;
    while (done < count && (done == 0 || bytes < bytes_max)) {
        kith_status status = next_payload(format, arena, &payloads[done], &payload_bytes[done], err);
        if (status != KITH_OK) return status;
        bytes += payload_bytes[done++];
    }
    batch->payloads = payloads;
    batch->payload_bytes = payload_bytes;
    batch->count = done;
    return KITH_OK;
}

/* --- a batch of a matrix ----------------------------------------------------------------------------------
 */

static uint32_t batch_rows(const kith_format *format, uint32_t count_max, size_t bytes_max) {
    uint64_t count = format->matrix.rows - format->row;
    size_t row_bytes = format->matrix.dim * sizeof(float);
    if (count > bytes_max / row_bytes) count = bytes_max / row_bytes;
    if (count == 0) count = format->row < format->matrix.rows;
    return count < count_max ? (uint32_t)count : count_max;
}

static const kith_id *row_ids(const kith_format *format, uint32_t count, kith_arena *arena) {
    kith_id *ids = kith_arena_array(arena, count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = kith_id_of_number(format->id_start + format->row + i);
    return ids;
}

static kith_status read_matrix(kith_format *format, uint32_t count_max, size_t bytes_max, kith_arena *arena,
    kith_format_batch *batch, kith_err *err) {
    batch->count = batch_rows(format, count_max, bytes_max);
    if (batch->count == 0) return KITH_OK;
    if (format->id_start > UINT64_MAX - format->matrix.rows) {
        return kith_err_set(err, KITH_INVALID, "id-start %llu leaves no room for %llu ids",
            (unsigned long long)format->id_start, (unsigned long long)format->matrix.rows);
    }
    kith_status status = KITH_OK;
    if (format->has_payloads) status = read_payloads(format, batch->count, bytes_max, arena, batch, err);
    if (status != KITH_OK) return status;
    float *values = kith_arena_array(arena, (size_t)batch->count * format->matrix.dim, sizeof *values);
    status = kith_format_matrix_floats(
        &format->source, &format->matrix, format->row, batch->count, arena, values, err);
    if (status != KITH_OK) return status;
    format->column = (kith_codec_client_column){
        .field = format->field,
        .dim = format->matrix.dim,
        .row_count = batch->count,
        .values = values,
    };
    batch->columns = &format->column;
    batch->column_count = 1;
    batch->ids = row_ids(format, batch->count, arena);
    return KITH_OK;
}

/* After the last row the payload file must be at its end too. */
static kith_status check_payloads_end(kith_format *format, kith_err *err) {
    const char *line;
    size_t bytes;
    kith_status status = kith_format_lines_next(&format->payload_lines, &line, &bytes, err);
    if (status != KITH_OK || !line) return status;
    return kith_err_set(err, KITH_INVALID, "%s:%llu: more lines than the %llu vectors of %s",
        format->payload_source.name, (unsigned long long)format->payload_lines.number,
        (unsigned long long)format->matrix.rows, format->source.name);
}

kith_status kith_format_read(kith_format *format, uint32_t count_max, size_t bytes_max, kith_arena *arena,
    kith_format_batch *batch_out, kith_err *err) {
    kith_format_batch batch = {.first_row = format->row};
    kith_status status;
    if (format->jsonl)
        status = kith_format_jsonl_read(format->jsonl, count_max, bytes_max, arena, &batch, err);
    else
        status = read_matrix(format, count_max, bytes_max, arena, &batch, err);
    if (status == KITH_OK && batch.count == 0 && format->has_payloads)
        status = check_payloads_end(format, err);
    if (status != KITH_OK) return status;
    format->row += batch.count;
    *batch_out = batch;
    return KITH_OK;
}

uint64_t kith_format_rows(const kith_format *format) {
    return format->jsonl ? 0 : format->matrix.rows;
}

uint32_t kith_format_dim(const kith_format *format) {
    return format->jsonl ? 0 : format->matrix.dim;
}

double kith_format_progress(const kith_format *format) {
    if (!format->jsonl) return format->matrix.rows ? (double)format->row / (double)format->matrix.rows : 1;
    if (format->source.bytes == 0) return 1;
    return (double)kith_format_jsonl_offset(format->jsonl) / (double)format->source.bytes;
}
