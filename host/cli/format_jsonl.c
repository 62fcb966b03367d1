/* A point a line: {"id": 7 or "text", "vector": [..], "vectors": {"field": [..]}, "payload": {..}}. The id
 * may be left out (the row number counts from id-start then); any other key is refused, so that a misspelt
 * one is not lost. Number arrays go straight into the columns; a payload is kept as it is written. Nothing
 * recurses. */
#include <jansson.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"
#include "host/cli/format_internal.h"

typedef struct jsonl_column {
    char name[KITH_NAME_BYTES_MAX + 1];
    uint32_t dim;        /* of every row in the file */
    uint64_t first_line; /* where dim was seen */
    kith_buf values;     /* of the batch */
    kith_buf present;    /* of the batch: one byte a point */
    uint32_t row_count;
} jsonl_column;

struct kith_format_jsonl {
    kith_format_lines lines;
    const char *field;
    uint64_t id_start;
    uint64_t row;
    jsonl_column columns[KITH_FIELDS_MAX];
    uint32_t column_count;
    kith_codec_client_column batch_columns[KITH_FIELDS_MAX];
};

/* One line being read. */
typedef struct jsonl_line {
    kith_format_jsonl *jsonl;
    const char *start, *at, *end;
    kith_arena *arena;
    uint32_t point; /* in the batch */
    kith_id id;
    bool has_id;
    const char *payload;
    uint32_t payload_bytes;
    kith_err *err;
} jsonl_line;

kith_format_jsonl *kith_format_jsonl_create(
    kith_format_source *source, const char *field, uint64_t id_start) {
    kith_format_jsonl *jsonl = kith_alloc_zero(sizeof *jsonl);
    kith_format_lines_init(&jsonl->lines, source);
    jsonl->field = field;
    jsonl->id_start = id_start;
    return jsonl;
}

void kith_format_jsonl_destroy(kith_format_jsonl *jsonl) {
    if (!jsonl) return;
    for (uint32_t i = 0; i < jsonl->column_count; i++) {
        kith_buf_fini(&jsonl->columns[i].values);
        kith_buf_fini(&jsonl->columns[i].present);
    }
    kith_format_lines_fini(&jsonl->lines);
    kith_free(jsonl);
}

uint64_t kith_format_jsonl_offset(const kith_format_jsonl *jsonl) {
    return kith_format_lines_offset(&jsonl->lines);
}

/* "points.jsonl:12:40: <what>": line and byte in it, from 1. */
static kith_status line_fault(const jsonl_line *line, const char *what) {
    return kith_err_set(line->err, KITH_INVALID, "%s:%llu:%zu: %s", line->jsonl->lines.source->name,
        (unsigned long long)line->jsonl->lines.number, (size_t)(line->at - line->start) + 1, what);
}

static void skip_spaces(jsonl_line *line) {
    while (line->at < line->end && (*line->at == ' ' || *line->at == '\t' || *line->at == '\r'))
        line->at++;
}

static bool take_char(jsonl_line *line, char wanted) {
    skip_spaces(line);
    if (line->at == line->end || *line->at != wanted) return false;
    line->at++;
    return true;
}

/* --- strings ----------------------------------------------------------------------------------------------
 */

/* The string at `at` with its quotes; escapes stay. */
static kith_status take_raw_string(jsonl_line *line, const char **raw_out, size_t *bytes_out) {
    skip_spaces(line);
    if (line->at == line->end || *line->at != '"')
        return line_fault(line, "a string in double quotes belongs here");
    const char *p = line->at + 1;
    while (p < line->end && *p != '"')
        p += *p == '\\' && p + 1 < line->end ? 2 : 1;
    if (p >= line->end) return line_fault(line, "the string has no end");
    *raw_out = line->at;
    *bytes_out = (size_t)(p + 1 - line->at);
    line->at = p + 1;
    return KITH_OK;
}

/* The string without quotes and escapes, in the arena. jansson checks UTF-8 and knows the escapes. */
static kith_status take_string(jsonl_line *line, const char **text_out, size_t *bytes_out) {
    const char *raw;
    size_t raw_bytes;
    kith_status status = take_raw_string(line, &raw, &raw_bytes);
    if (status != KITH_OK) return status;
    json_error_t fault;
    json_t *value = json_loadb(raw, raw_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &fault);
    if (!value) {
        line->at = raw;
        return line_fault(line, fault.text);
    }
    *bytes_out = json_string_length(value);
    *text_out = kith_arena_text(line->arena, json_string_value(value), *bytes_out);
    json_decref(value);
    return KITH_OK;
}

/* --- vectors ----------------------------------------------------------------------------------------------
 */

static jsonl_column *find_column(kith_format_jsonl *jsonl, const char *name, size_t bytes) {
    for (uint32_t i = 0; i < jsonl->column_count; i++) {
        jsonl_column *column = &jsonl->columns[i];
        if (strlen(column->name) == bytes && memcmp(column->name, name, bytes) == 0) return column;
    }
    return NULL;
}

static kith_status column_of(jsonl_line *line, const char *name, size_t bytes, jsonl_column **column_out) {
    kith_format_jsonl *jsonl = line->jsonl;
    jsonl_column *column = find_column(jsonl, name, bytes);
    if (!column) {
        if (bytes > KITH_NAME_BYTES_MAX) return line_fault(line, "a field's name is longer than 255 bytes");
        if (jsonl->column_count == KITH_FIELDS_MAX)
            return line_fault(line, "the file has more than 16 vector fields");
        column = &jsonl->columns[jsonl->column_count++];
        memcpy(column->name, name, bytes);
        kith_buf_init(&column->values);
        kith_buf_init(&column->present);
    }
    /* Points before this one that had no such field. */
    while (column->present.bytes < line->point)
        kith_buf_u8(&column->present, 0);
    if (column->present.bytes > line->point)
        return line_fault(line, "the point has two vectors for one field");
    *column_out = column;
    return KITH_OK;
}

static kith_status take_numbers(jsonl_line *line, kith_buf *values, uint32_t *count_out) {
    uint32_t count = 0;
    if (!take_char(line, '[')) return line_fault(line, "a vector is an array of numbers");
    do {
        float value;
        skip_spaces(line);
        if (!kith_format_float(&line->at, line->end, &value))
            return line_fault(line, "a number that a float holds belongs here");
        if (count == KITH_DIM_MAX) return line_fault(line, "the vector has more than 16384 components");
        kith_buf_append(values, &value, sizeof value);
        count++;
    } while (take_char(line, ','));
    if (!take_char(line, ']')) return line_fault(line, "',' or ']' belongs here");
    *count_out = count;
    return KITH_OK;
}

static kith_status take_vector(jsonl_line *line, const char *name, size_t name_bytes) {
    jsonl_column *column = NULL;
    uint32_t count = 0;
    kith_status status = column_of(line, name, name_bytes, &column);
    if (status == KITH_OK) status = take_numbers(line, &column->values, &count);
    if (status != KITH_OK) return status;
    if (column->dim == 0) {
        column->dim = count;
        column->first_line = line->jsonl->lines.number;
    }
    if (column->dim != count) {
        return kith_err_set(line->err, KITH_INVALID,
            "%s:%llu: the vector has %u components, the one of line %llu %u", line->jsonl->lines.source->name,
            (unsigned long long)line->jsonl->lines.number, count, (unsigned long long)column->first_line,
            column->dim);
    }
    kith_buf_u8(&column->present, 1);
    column->row_count++;
    return KITH_OK;
}

static kith_status take_vectors(jsonl_line *line) {
    if (!take_char(line, '{')) return line_fault(line, "\"vectors\" is an object of field names and arrays");
    if (take_char(line, '}')) return KITH_OK;
    do {
        const char *name;
        size_t name_bytes;
        kith_status status = take_string(line, &name, &name_bytes);
        if (status == KITH_OK && !take_char(line, ':')) status = line_fault(line, "':' belongs here");
        if (status == KITH_OK) status = take_vector(line, name, name_bytes);
        if (status != KITH_OK) return status;
    } while (take_char(line, ','));
    return take_char(line, '}') ? KITH_OK : line_fault(line, "',' or '}' belongs here");
}

/* --- id and payload ---------------------------------------------------------------------------------------
 */

static kith_status take_id(jsonl_line *line) {
    skip_spaces(line);
    const char *start = line->at;
    if (line->at < line->end && *line->at == '"') {
        const char *text;
        size_t bytes;
        kith_status status = take_string(line, &text, &bytes);
        if (status != KITH_OK) return status;
        uint8_t *uuid = kith_arena_alloc(line->arena, 16);
        kith_err id_err;
        status = kith_id_from_text(text, bytes, uuid, &line->id, &id_err);
        line->at = start;
        if (status != KITH_OK) return line_fault(line, id_err.text);
        return take_raw_string(line, &text, &bytes);
    }
    while (line->at < line->end && *line->at >= '0' && *line->at <= '9')
        line->at++;
    line->id = kith_id_of_number(0);
    size_t digits = (size_t)(line->at - start);
    bool leading_zero = digits > 1 && *start == '0';
    if (leading_zero || !kith_text_parse_u64(start, digits, &line->id.number)) {
        line->at = start;
        return line_fault(line, "an id is a whole number in 0..18446744073709551615, or a string");
    }
    return KITH_OK;
}

/* The end of the JSON value at `at`, found by its brackets and quotes alone. */
static const char *value_end(const char *at, const char *end) {
    uint32_t depth = 0;
    bool in_string = false;
    for (; at < end; at++) {
        char c = *at;
        if (in_string) {
            if (c == '\\')
                at++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        if (depth == 0 && !in_string) return at + 1;
    }
    return end;
}

static kith_status take_payload(jsonl_line *line) {
    skip_spaces(line);
    if (line->end - line->at >= 4 && memcmp(line->at, "null", 4) == 0) {
        line->at += 4;
        return KITH_OK;
    }
    if (line->at == line->end || *line->at != '{')
        return line_fault(line, "a payload is a JSON object or null");
    const char *end = value_end(line->at, line->end);
    size_t bytes = (size_t)(end - line->at);
    if (bytes > KITH_PAYLOAD_BYTES_MAX) return line_fault(line, "the payload is longer than 1048576 bytes");
    kith_err json_err;
    if (kith_text_json_check(line->at, bytes, KITH_PAYLOAD_DEPTH_MAX, true, &json_err) != KITH_OK)
        return line_fault(line, json_err.text);
    line->payload = kith_arena_text(line->arena, line->at, bytes);
    line->payload_bytes = (uint32_t)bytes;
    line->at = end;
    return KITH_OK;
}

/* --- a line, a batch --------------------------------------------------------------------------------------
 */

static bool key_is(const char *raw, size_t bytes, const char *key) {
    return bytes == strlen(key) + 2 && memcmp(raw + 1, key, bytes - 2) == 0;
}

static kith_status take_member(jsonl_line *line) {
    const char *key;
    size_t bytes;
    const char *field = line->jsonl->field;
    kith_status status = take_raw_string(line, &key, &bytes);
    if (status != KITH_OK) return status;
    if (!take_char(line, ':')) return line_fault(line, "':' belongs here");
    if (key_is(key, bytes, "vector")) return take_vector(line, field, strlen(field));
    if (key_is(key, bytes, "vectors")) return take_vectors(line);
    if (key_is(key, bytes, "payload") && !line->payload) return take_payload(line);
    if (key_is(key, bytes, "id") && !line->has_id) {
        line->has_id = true;
        return take_id(line);
    }
    line->at = key;
    return line_fault(
        line, "the keys of a point are \"id\", \"vector\", \"vectors\" and \"payload\", each once");
}

static kith_status take_line(jsonl_line *line) {
    if (!take_char(line, '{')) return line_fault(line, "a line is one JSON object");
    if (!take_char(line, '}')) {
        do {
            kith_status status = take_member(line);
            if (status != KITH_OK) return status;
        } while (take_char(line, ','));
        if (!take_char(line, '}')) return line_fault(line, "',' or '}' belongs here");
    }
    skip_spaces(line);
    if (line->at < line->end) return line_fault(line, "text behind the object");
    return KITH_OK;
}

static void start_batch(kith_format_jsonl *jsonl) {
    for (uint32_t i = 0; i < jsonl->column_count; i++) {
        kith_buf_clear(&jsonl->columns[i].values);
        kith_buf_clear(&jsonl->columns[i].present);
        jsonl->columns[i].row_count = 0;
    }
}

/* Columns that some point of the batch has. */
static uint32_t finish_columns(kith_format_jsonl *jsonl, uint32_t point_count) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < jsonl->column_count; i++) {
        jsonl_column *column = &jsonl->columns[i];
        if (column->row_count == 0) continue;
        while (column->present.bytes < point_count)
            kith_buf_u8(&column->present, 0);
        jsonl->batch_columns[count++] = (kith_codec_client_column){
            .field = column->name,
            .dim = column->dim,
            .row_count = column->row_count,
            .values = (const float *)(const void *)column->values.data,
            .present = column->row_count == point_count ? NULL : column->present.data,
        };
    }
    return count;
}

static size_t batch_bytes(const kith_format_jsonl *jsonl) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < jsonl->column_count; i++)
        bytes += jsonl->columns[i].values.bytes;
    return bytes;
}

kith_status kith_format_jsonl_read(kith_format_jsonl *jsonl, uint32_t count_max, size_t bytes_max,
    kith_arena *arena, kith_format_batch *batch_out, kith_err *err) {
    kith_id *ids = kith_arena_array(arena, count_max, sizeof *ids);
    const char **payloads = kith_arena_array(arena, count_max, sizeof *payloads);
    uint32_t *payload_bytes = kith_arena_array(arena, count_max, sizeof *payload_bytes);
    size_t payloads_bytes = 0;
    uint32_t count = 0;
    start_batch(jsonl);
    while (count < count_max && (count == 0 || payloads_bytes + batch_bytes(jsonl) < bytes_max)) {
        const char *text;
        size_t bytes;
        kith_status status = kith_format_lines_next(&jsonl->lines, &text, &bytes, err);
        if (status != KITH_OK) return status;
        if (!text) break;
        jsonl_line line = {.jsonl = jsonl,
            .start = text,
            .at = text,
            .end = text + bytes,
            .arena = arena,
            .point = count,
            .err = err};
        status = take_line(&line);
        if (status != KITH_OK) return status;
        if (!line.has_id && jsonl->id_start > UINT64_MAX - jsonl->row)
            return line_fault(
                &line, "the id of this row would be above 18446744073709551615: lower --id-start");
        ids[count] = line.has_id ? line.id : kith_id_of_number(jsonl->id_start + jsonl->row);
        payloads[count] = line.payload;
        payload_bytes[count++] = line.payload_bytes;
        payloads_bytes += line.payload_bytes;
        jsonl->row++;
    }
    batch_out->count = count;
    batch_out->ids = ids;
    batch_out->columns = jsonl->batch_columns;
    batch_out->column_count = finish_columns(jsonl, count);
    batch_out->payloads = payloads_bytes > 0 ? payloads : NULL;
    batch_out->payload_bytes = payload_bytes;
    return KITH_OK;
}
