/* Messages between nodes as structs: bodies of transport/am_kinds.h. The bytes are protobuf messages of
 * proto/kith/internal/v1/shard.proto, so that a node may be newer than its peer; long arrays travel in one
 * `bytes` field each (ids of numbers as u64, closeness as f64, queries as f32, all little-endian), so nothing
 * is allocated per hit. The deadline and whether the caller gave up travel with the transport, as do the
 * status and message of a whole request that failed.
 *
 * Encoders append to `buf` and cannot fail. Decoders trust no length or count, check every limit, and return
 * INTERNAL with the field's name: a peer that sends such bytes is broken or of another version. Decoded
 * structs live in `arena` and borrow nothing of `data`; arrays of numbers are 16-byte aligned.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_INTERNAL_H
#define KITH_CODEC_CODEC_INTERNAL_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/hits.h"
#include "host/model/id.h"
#include "host/model/record.h"
#include "host/model/schema.h"

/* What a read promises, as kith_replica_read (host/replica/replica_step.h) has it; 0, in sync, is the default. */
#define KITH_CODEC_READ_OF_TOKEN 3u
#define KITH_CODEC_READ_LAST     KITH_CODEC_READ_OF_TOKEN

/* --- search: KITH_AM_SEARCH: some shards of one collection on one node, their hits merged there --- */

typedef struct kith_codec_shard_search_request {
    uint64_t collection_id;
    uint64_t map_version;      /* that the asker went by */
    const uint64_t *shard_ids; /* [shard_count] */
    uint32_t shard_count;      /* 1..KITH_SHARDS_MAX */
    uint32_t field_index; /* 0..KITH_FIELDS_MAX - 1; whether the collection has it is the server's to check */
    uint32_t k;           /* 1..KITH_K_MAX */
    uint32_t query_count; /* 1..KITH_QUERIES_MAX; query_count * k <= KITH_REPLY_HITS_MAX */
    uint32_t dim;         /* 1..KITH_DIM_MAX */
    const float *queries; /* [query_count][dim] f32, row-major */
    bool exact;
    uint32_t read;          /* 0..KITH_CODEC_READ_LAST */
    const uint64_t *tokens; /* KITH_CODEC_READ_OF_TOKEN: [shard_count] sequences; else NULL */
} kith_codec_shard_search_request;

/* How one shard fared. */
typedef struct kith_codec_shard_status {
    uint64_t shard_id;
    kith_status status;
    const char *message; /* NUL-terminated; "" when status is OK */
} kith_codec_shard_status;

typedef struct kith_codec_shard_search_response {
    uint32_t query_count;
    const kith_hits *lists; /* [query_count], each best first; of the shards whose status is OK */
    uint32_t shard_count;
    const kith_codec_shard_status *shards; /* [shard_count] */
} kith_codec_shard_search_response;

void kith_codec_shard_search_request_encode(const kith_codec_shard_search_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_search_request_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_search_request *request_out, kith_err *err);
void kith_codec_shard_search_response_encode(const kith_codec_shard_search_response *response, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_search_response_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_search_response *response_out, kith_err *err);

/* --- write: KITH_AM_WRITE: one sub-batch to one shard --- */

typedef struct kith_codec_shard_write_request {
    uint64_t collection_id;
    uint64_t map_version; /* that the asker went by */
    uint64_t shard_id;
    kith_request_id request_id; /* as inside the op */
    const uint8_t *op;          /* encoded by kith_op_encode; not looked into */
    size_t op_bytes;            /* 1.. */
} kith_codec_shard_write_request;

typedef struct kith_codec_shard_write_response {
    uint64_t shard_id, epoch, sequence; /* the token */
    uint32_t points_changed;
    bool repeated; /* the first answer to this request id, given again */
} kith_codec_shard_write_response;

void kith_codec_shard_write_request_encode(const kith_codec_shard_write_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_write_request_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_write_request *request_out, kith_err *err);
void kith_codec_shard_write_response_encode(const kith_codec_shard_write_response *response, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_write_response_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_write_response *response_out, kith_err *err);

/* --- read: KITH_AM_READ: get and scroll of one shard --- */

typedef enum kith_codec_read_kind {
    KITH_CODEC_READ_GET = 1,
    KITH_CODEC_READ_SCROLL = 2
} kith_codec_read_kind;

typedef struct kith_codec_shard_read_request {
    uint64_t collection_id;
    uint64_t map_version; /* that the asker went by */
    uint64_t shard_id;
    kith_codec_read_kind kind;
    const kith_id *ids; /* get: [id_count] */
    uint32_t id_count;  /* 0..KITH_BATCH_POINTS_MAX */
    bool has_from;      /* scroll */
    kith_id from;
    uint32_t limit; /* scroll: 1..KITH_SCROLL_POINTS_MAX */
    bool with_payload;
    bool with_vectors;
    uint64_t bytes_max; /* see kith_shard_read */
    uint32_t read;      /* 0..KITH_CODEC_READ_LAST */
    uint64_t token;     /* KITH_CODEC_READ_OF_TOKEN: sequence */
} kith_codec_shard_read_request;

typedef struct kith_codec_shard_point {
    kith_id id;
    uint64_t sequence;
    const char *payload; /* JSON text, or NULL */
    uint32_t payload_bytes;
    uint32_t field_mask; /* bit f: the point has field f, whether or not its vector was asked for */
    const void *vectors[KITH_FIELDS_MAX]; /* stored bytes, or NULL */
} kith_codec_shard_point;

typedef struct kith_codec_shard_read_response {
    const kith_codec_shard_point *points;
    uint32_t count;
    /* The answer ends before `next`, for `limit` or `bytes_max`; then it has at least one point. */
    bool has_next;
    kith_id next;
} kith_codec_shard_read_response;

void kith_codec_shard_read_request_encode(const kith_codec_shard_read_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_read_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_read_request *request_out, kith_err *err);
/* `schema` says how long the stored vectors are. */
void kith_codec_shard_read_response_encode(
    const kith_codec_shard_read_response *response, const kith_schema *schema, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_read_response_decode(const void *data, size_t bytes,
    const kith_schema *schema, kith_arena *arena, kith_codec_shard_read_response *response_out,
    kith_err *err);

/* --- count: KITH_AM_COUNT: live points and statistics of some shards --- */

typedef struct kith_codec_shard_count_request {
    uint64_t collection_id;
    uint64_t map_version;      /* that the asker went by */
    const uint64_t *shard_ids; /* [shard_count] */
    uint32_t shard_count;      /* 1..KITH_SHARDS_MAX */
    uint32_t read;             /* 0..KITH_CODEC_READ_LAST */
    const uint64_t *tokens;    /* KITH_CODEC_READ_OF_TOKEN: [shard_count] sequences; else NULL */
} kith_codec_shard_count_request;

typedef struct kith_codec_shard_stats {
    kith_codec_shard_status health; /* of the shard; the numbers are zero where there is no such shard */
    uint64_t points, dead_rows, segments, segments_sealed, vector_bytes, applied_sequence, sealed_sequence;
} kith_codec_shard_stats;

typedef struct kith_codec_shard_count_response {
    const kith_codec_shard_stats *shards; /* [shard_count] */
    uint32_t shard_count;
} kith_codec_shard_count_response;

void kith_codec_shard_count_request_encode(const kith_codec_shard_count_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_count_request_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_count_request *request_out, kith_err *err);
void kith_codec_shard_count_response_encode(const kith_codec_shard_count_response *response, kith_buf *buf);
KITH_CHECK kith_status kith_codec_shard_count_response_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_shard_count_response *response_out, kith_err *err);

#endif
