/* Client messages of kith.v1.Collections as plain structs; see codec_points.h for what is checked here and
 * what is not.
 *
 * Threads: pure functions. Ownership: decoded requests live in `arena`. */
#ifndef KITH_CODEC_CODEC_COLLECTIONS_H
#define KITH_CODEC_CODEC_COLLECTIONS_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/schema.h"

typedef struct kith_codec_create_request {
    const char *name;
    kith_schema schema; /* metrics and types are in their enums; the rest is for kith_schema_check */
    uint32_t shard_count;
    uint32_t replication_factor, min_in_sync;
    kith_durability durability; /* in its enum */
} kith_codec_create_request;

typedef struct kith_codec_update_request {
    const char *name;
    uint32_t replication_factor, min_in_sync;
    kith_durability durability; /* in its enum */
} kith_codec_update_request;

typedef struct kith_codec_name_request {
    const char *name;
    bool missing_ok; /* delete */
} kith_codec_name_request;

KITH_CHECK kith_status kith_codec_create_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_create_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_get_collection_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_name_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_delete_collection_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_name_request *request_out, kith_err *err);
KITH_CHECK kith_status kith_codec_update_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_update_request *request_out, kith_err *err);
/* An empty message; whatever fields a newer client sends are skipped. */
KITH_CHECK kith_status kith_codec_list_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_err *err);

typedef struct kith_codec_collection_info {
    const kith_collection *collection;
    uint64_t points, segments, segments_sealed, vector_bytes;
    const char *health;
} kith_codec_collection_info;

/* Create's, get's, list's and update's answers hold infos in the same field: one call an info. */
void kith_codec_collection_append(const kith_codec_collection_info *info, kith_buf *buf);
/* After create's info, and after update's. */
void kith_codec_created_append(bool existed, kith_buf *buf);
void kith_codec_updated_append(bool changed, kith_buf *buf);
void kith_codec_delete_collection_response_encode(bool deleted, kith_buf *buf);

#endif
