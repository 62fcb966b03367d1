/* Client messages of kith.v1.Points as plain structs. host/grpc passes decoded requests on to host/api and
 * results back.
 *
 * Decoders check what the message alone can tell: that it is one, UTF-8, ids, counts, lengths that must be
 * multiples or equal; each fault is INVALID with the field's path, the value and what is allowed. Names,
 * dims, payload JSON and numbers are the api's to check. Decoded requests live in `arena` and borrow nothing
 * of `data`. Encoders append one message to `buf`.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_POINTS_H
#define KITH_CODEC_CODEC_POINTS_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/id.h"
#include "host/model/read.h"
#include "host/model/record.h"
#include "host/model/schema.h"

/* --- requests --- */

/* Texts are NUL-terminated, without a zero byte inside, and UTF-8. */
typedef struct kith_codec_column {
    const char *field;
    const uint8_t *values; /* packed f32 little-endian [rows][dim], 16-byte aligned; a multiple of 4 bytes */
    size_t values_bytes;
    const uint8_t *present; /* [point_count] of 0 or 1, or NULL: every point has a row */
    size_t present_bytes;
} kith_codec_column;

typedef struct kith_codec_upsert_request {
    const char *collection;
    kith_request_id request_id;
    const kith_id *ids;   /* [point_count] */
    uint32_t point_count; /* 1..KITH_BATCH_POINTS_MAX */
    const kith_codec_column *columns;
    uint32_t column_count;         /* 0..KITH_FIELDS_MAX; distinct fields */
    const char *const *payloads;   /* NULL, or [point_count], NULL where there is none */
    const uint32_t *payload_bytes; /* as payloads */
} kith_codec_upsert_request;

typedef struct kith_codec_delete_request {
    const char *collection;
    kith_request_id request_id;
    const kith_id *ids;
    uint32_t id_count; /* 1..KITH_BATCH_POINTS_MAX */
} kith_codec_delete_request;

typedef struct kith_codec_get_request {
    const char *collection;
    const kith_id *ids;
    uint32_t id_count; /* 1..KITH_BATCH_POINTS_MAX */
    bool with_payload, with_vectors;
    kith_read_promise promise;
} kith_codec_get_request;

typedef struct kith_codec_scroll_request {
    const char *collection;
    bool has_from;
    kith_id from;
    uint32_t limit;
    bool with_payload, with_vectors;
    kith_read_promise promise;
} kith_codec_scroll_request;

typedef struct kith_codec_search_request {
    const char *collection;
    const char *field;
    const uint8_t *queries; /* packed f32 little-endian, 16-byte aligned; a multiple of 4 bytes */
    size_t queries_bytes;
    uint32_t k;
    bool exact, with_payload, strict;
    kith_read_promise promise;
} kith_codec_search_request;

typedef struct kith_codec_count_request {
    const char *collection;
    kith_read_promise promise;
} kith_codec_count_request;

KITH_CHECK kith_status kith_codec_upsert_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_upsert_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_delete_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_delete_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_get_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_get_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_scroll_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_scroll_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_search_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_search_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_count_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_count_request *request_out, kith_err *err);

/* --- responses --- */

typedef struct kith_codec_token {
    uint64_t shard_id, epoch, sequence;
} kith_codec_token;

typedef struct kith_codec_write_response {
    uint32_t points; /* upserted, or deleted */
    const kith_codec_token *tokens;
    uint32_t token_count;
} kith_codec_write_response;

typedef struct kith_codec_missing {
    uint64_t shard_id;
    const char *node, *reason;
} kith_codec_missing;

typedef struct kith_codec_coverage {
    uint32_t shards_total, shards_answered;
    const kith_codec_missing *missing; /* [missing_count] */
    uint32_t missing_count;
} kith_codec_coverage;

typedef struct kith_codec_search_response {
    uint32_t query_count;
    const uint32_t *hit_counts; /* [query_count]; sum is hit_count */
    uint32_t hit_count;
    const kith_id *ids;            /* [hit_count] */
    const float *scores;           /* [hit_count] */
    const char *const *payloads;   /* NULL, or [hit_count] */
    const uint32_t *payload_bytes; /* as payloads */
    kith_codec_coverage coverage;
} kith_codec_search_response;

typedef struct kith_codec_point {
    kith_id id;
    const char *payload;
    uint32_t payload_bytes;
    const float *const *vectors; /* [field_count], [dim] f32 each, or NULL */
} kith_codec_point;

void kith_codec_upsert_response_encode(const kith_codec_write_response *response, kith_buf *buf);
/* `code` is a gRPC status code; of an error only `message` is used. */
void kith_codec_upsert_stream_response_encode(
    uint32_t code, const char *message, const kith_codec_write_response *response, kith_buf *buf);
void kith_codec_delete_response_encode(const kith_codec_write_response *response, kith_buf *buf);
void kith_codec_count_response_encode(uint64_t count, const kith_codec_coverage *coverage, kith_buf *buf);
/* INVALID, with nothing written, when the message would pass `bytes_max`. */
KITH_CHECK kith_status kith_codec_search_response_encode(
    const kith_codec_search_response *response, size_t bytes_max, kith_buf *buf, kith_err *err);
/* Get and scroll answers: one call a point, then for scroll the first id of the next page if there is one. */
void kith_codec_point_append(const kith_schema *schema, const kith_codec_point *point, kith_buf *buf);
void kith_codec_scroll_next_append(const kith_id *next, kith_buf *buf);

#endif
