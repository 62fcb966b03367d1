/* Checks of what clients send. Every message names the field, the value and what is allowed. */
#include <math.h>
#include <string.h>

#include "host/api/api_internal.h"

#define ID_TEXT_BYTES_MAX 48u

kith_status kith_api_count_check(const char *what, uint64_t count, uint64_t most, kith_err *err) {
    if (count >= 1 && count <= most) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "%s %llu is not in 1..%llu", what, (unsigned long long)count,
        (unsigned long long)most);
}

kith_status kith_api_field_find(
    const kith_collection *collection, const char *field, uint32_t *index_out, kith_err *err) {
    int index = kith_schema_find(&collection->schema, field);
    if (index >= 0) {
        *index_out = (uint32_t)index;
        return KITH_OK;
    }
    kith_buf names;
    kith_buf_init(&names);
    for (uint32_t i = 0; i < collection->schema.field_count; i++) {
        kith_buf_append_format(&names, "%s\"%s\"", i ? ", " : "", collection->schema.fields[i].name);
    }
    kith_buf_u8(&names, 0);
    kith_status status =
        kith_err_set(err, KITH_INVALID, "field \"%.*s\" is not in collection \"%.64s\", which has %s",
            (int)strnlen(field, KITH_NAME_BYTES_MAX), field, collection->name, (const char *)names.data);
    kith_buf_fini(&names);
    return status;
}

kith_status kith_api_rows_count(
    const char *what, size_t bytes, uint32_t dim, uint64_t *rows_out, kith_err *err) {
    if (bytes % ((size_t)dim * 4) != 0) {
        return kith_err_set(
            err, KITH_INVALID, "%s: %zu bytes are not a multiple of dim %u x 4 bytes", what, bytes, dim);
    }
    *rows_out = bytes / ((size_t)dim * 4);
    return KITH_OK;
}

kith_status kith_api_query_check(const float *values, const kith_field *field, kith_err *err) {
    bool zero = true;
    for (uint32_t i = 0; i < field->dim; i++) {
        if (!isfinite(values[i])) {
            return kith_err_set(err, KITH_INVALID, "component %u is %g; only finite numbers are allowed", i,
                (double)values[i]);
        }
        zero &= values[i] == 0;
    }
    if (!zero || field->metric != KITH_METRIC_COSINE) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "all %u components are zero, which has no cosine", field->dim);
}

kith_status kith_api_tokens_place(const kith_read_promise *promise, const kith_collection *collection,
    kith_arena *arena, const uint64_t **sequences_out, kith_err *err) {
    *sequences_out = NULL;
    if (promise->read != KITH_READ_TOKEN) return KITH_OK;
    uint64_t *sequences = kith_arena_alloc_zero(arena, collection->shard_count * sizeof *sequences);
    for (uint32_t i = 0; i < promise->token_count; i++) {
        const kith_read_token *token = &promise->tokens[i];
        uint64_t index = token->shard_id - collection->shard_id_first; /* below the first: huge */
        if (index >= collection->shard_count) {
            return kith_err_set(err, KITH_INVALID,
                "tokens[%u]: shard %llu is not one of collection \"%s\", which has %llu..%llu", i,
                (unsigned long long)token->shard_id, collection->name,
                (unsigned long long)collection->shard_id_first,
                (unsigned long long)collection->shard_id_first + collection->shard_count - 1);
        }
        if (token->sequence > sequences[index]) sequences[index] = token->sequence;
    }
    *sequences_out = sequences;
    return KITH_OK;
}

const char *kith_api_id_text(const kith_id *id, kith_arena *arena) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_id_append_text(&buf, id);
    bool cut = buf.bytes > ID_TEXT_BYTES_MAX;
    if (cut) {
        buf.bytes = ID_TEXT_BYTES_MAX;
        while (buf.bytes && (buf.data[buf.bytes] & 0xc0) == 0x80)
            buf.bytes--; /* not inside a character */
        kith_buf_append_text(&buf, "...");
    }
    const char *text = kith_arena_text(arena, (const char *)buf.data, buf.bytes);
    kith_buf_fini(&buf);
    return text;
}

const float *kith_api_floats(const uint8_t *values, size_t bytes, kith_arena *arena) {
    if ((uintptr_t)values % _Alignof(float) == 0) return (const float *)(const void *)values;
    return kith_arena_copy(arena, values, bytes);
}
