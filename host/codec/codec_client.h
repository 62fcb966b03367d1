/* The client's side of kith.v1: requests out, responses in. (codec_points.h and its neighbours are the
 * server's side.)
 *
 * Encoders append to `buf` and cannot fail: the server judges the values. Decoders return INTERNAL for bytes
 * that are not the message, or whose arrays disagree. Decoded structs live in `arena` and borrow nothing of
 * `data`.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_CLIENT_H
#define KITH_CODEC_CODEC_CLIENT_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/id.h"
#include "host/model/read.h"
#include "host/model/record.h"
#include "host/model/schema.h"

/* --- collections ------------------------------------------------------------------------------------------
 */

typedef struct kith_codec_client_collection {
    kith_collection collection;
    uint64_t points, segments, segments_sealed, vector_bytes;
    const char *health;
} kith_codec_client_collection;

/* Of `wish` count the schema, shard_count, replication_factor, min_in_sync and durability; in an update the last three. */
void kith_codec_client_create_encode(const char *name, const kith_collection *wish, kith_buf *buf);
void kith_codec_client_update_encode(const char *name, const kith_collection *wish, kith_buf *buf);
/* CollectionInfo of `name`. */
void kith_codec_client_describe_encode(const char *name, kith_buf *buf);
void kith_codec_client_list_encode(kith_buf *buf);
void kith_codec_client_drop_encode(const char *name, bool missing_ok, kith_buf *buf);
KITH_CHECK kith_status kith_codec_client_create_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, bool *existed_out, kith_err *err);
KITH_CHECK kith_status kith_codec_client_update_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, bool *changed_out, kith_err *err);
/* The answer to describe. */
KITH_CHECK kith_status kith_codec_client_collection_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, kith_err *err);
KITH_CHECK kith_status kith_codec_client_list_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection **collections_out, uint32_t *count_out, kith_err *err);
KITH_CHECK kith_status kith_codec_client_drop_decode(
    const void *data, size_t bytes, kith_arena *arena, bool *deleted_out, kith_err *err);

/* --- writes -----------------------------------------------------------------------------------------------
 */

typedef struct kith_codec_client_column {
    const char *field;
    uint32_t dim;
    uint32_t row_count;
    const float *values;    /* [row_count][dim] */
    const uint8_t *present; /* [point_count] of 0 or 1, or NULL: row_count is point_count */
} kith_codec_client_column;

typedef struct kith_codec_client_upsert {
    const char *collection;
    kith_request_id request_id;
    const kith_id *ids; /* [point_count] */
    uint32_t point_count;
    const kith_codec_client_column *columns;
    uint32_t column_count;
    const char *const *payloads;   /* NULL, or [point_count] (NULL: none) */
    const uint32_t *payload_bytes; /* [point_count] */
} kith_codec_client_upsert;

void kith_codec_client_upsert_encode(const kith_codec_client_upsert *upsert, kith_buf *buf);
/* One answer of UpsertStream. `*code_out` 0: written; else `*message_out` says why not. */
KITH_CHECK kith_status kith_codec_client_upsert_answer_decode(const void *data, size_t bytes,
    kith_arena *arena, int *code_out, const char **message_out, kith_err *err);
void kith_codec_client_delete_encode(const char *collection, const kith_request_id *request_id,
    const kith_id *ids, uint32_t id_count, kith_buf *buf);
KITH_CHECK kith_status kith_codec_client_delete_decode(
    const void *data, size_t bytes, kith_arena *arena, uint32_t *deleted_out, kith_err *err);

/* --- reads ------------------------------------------------------------------------------------------------
 */

typedef struct kith_codec_client_vector {
    const char *field;
    const float *values; /* [dim] */
    uint32_t dim;
} kith_codec_client_vector;

typedef struct kith_codec_client_point {
    kith_id id;
    const char *payload; /* JSON text; NULL: none */
    uint32_t payload_bytes;
    const kith_codec_client_vector *vectors;
    uint32_t vector_count;
} kith_codec_client_point;

typedef struct kith_codec_client_points {
    const kith_codec_client_point *points;
    uint32_t count;
    bool has_next; /* of a scroll */
    kith_id next;
} kith_codec_client_points;

typedef struct kith_codec_client_missing {
    uint64_t shard_id;
    const char *node, *reason;
} kith_codec_client_missing;

typedef struct kith_codec_client_coverage {
    uint32_t shards_total, shards_answered;
    const char *reason;                       /* why the first missing shard is missing; NULL when none is */
    const kith_codec_client_missing *missing; /* [missing_count] */
    uint32_t missing_count;
} kith_codec_client_coverage;

typedef struct kith_codec_client_search {
    const char *collection;
    const char *field;
    const float *queries; /* [query_count][dim] */
    uint32_t query_count;
    uint32_t dim;
    uint32_t k;
    bool exact, with_payload, strict;
    kith_read_consistency read;
} kith_codec_client_search;

typedef struct kith_codec_client_hits {
    uint32_t query_count;
    const uint32_t *hit_counts; /* [query_count]; their sum is hit_count */
    uint32_t hit_count;
    const kith_id *ids;            /* [hit_count] */
    const float *scores;           /* [hit_count] */
    const char *const *payloads;   /* NULL unless asked; [hit_count], NULL where there is none */
    const uint32_t *payload_bytes; /* [hit_count] */
    kith_codec_client_coverage coverage;
} kith_codec_client_hits;

void kith_codec_client_get_encode(const char *collection, const kith_id *ids, uint32_t id_count,
    bool with_payload, bool with_vectors, kith_read_consistency read, kith_buf *buf);
/* `from` may be NULL. */
void kith_codec_client_scroll_encode(const char *collection, const kith_id *from, uint32_t limit,
    bool with_payload, bool with_vectors, kith_read_consistency read, kith_buf *buf);
/* The answer to get (no `next`) and the one to scroll. */
KITH_CHECK kith_status kith_codec_client_get_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_points *points_out, kith_err *err);
KITH_CHECK kith_status kith_codec_client_scroll_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_points *points_out, kith_err *err);
void kith_codec_client_search_encode(const kith_codec_client_search *search, kith_buf *buf);
KITH_CHECK kith_status kith_codec_client_search_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_hits *hits_out, kith_err *err);
void kith_codec_client_count_encode(const char *collection, kith_read_consistency read, kith_buf *buf);
KITH_CHECK kith_status kith_codec_client_count_decode(const void *data, size_t bytes, kith_arena *arena,
    uint64_t *count_out, kith_codec_client_coverage *coverage_out, kith_err *err);

/* --- health (grpc.health.v1) --- */

void kith_codec_client_health_encode(const char *service, kith_buf *buf);
KITH_CHECK kith_status kith_codec_client_health_decode(
    const void *data, size_t bytes, kith_arena *arena, bool *serving_out, kith_err *err);

#endif
