/* What a client may ask, whatever the protocol: checked, admitted, answered. gRPC and REST decode into these requests
 * (host/codec) and encode the results.
 *
 * Threads: every start function may be called from any thread; it checks the request at once and calls `done` exactly
 * once: later, on another thread, or (a small search) before it returns, so a caller touches nothing of the request after
 * an OK. A request which fails its checks is answered by the return value and gets no `done`.
 * Ownership: a request, its arena and everything it points to stay with the caller until `done` has returned. Results
 * are borrowed until `done` returns. */
#ifndef KITH_API_API_H
#define KITH_API_API_H

#include <stdatomic.h>

#include "host/base/arena.h"
#include "host/env/env.h"
#include "host/model/hits.h"
#include "host/model/read.h"
#include "host/model/record.h"
#include "host/model/schema.h"

typedef struct kith_api kith_api;

/* Shared by all requests; embedded as their first member. */
typedef struct kith_api_call {
    kith_arena *arena;     /* the request's memory; results are made in it too */
    uint64_t deadline_ns;  /* 0: the configured timeout from now */
    atomic_bool cancelled; /* set by the protocol when the client went away */
    uint32_t again_count;  /* the api's: how often it was started again, by a newer map */
    void *impl[16];        /* the api's */
} kith_api_call;

/* --- collections --- */

typedef struct kith_api_collection_info {
    kith_collection collection;
    uint64_t points, segments, segments_sealed, vector_bytes;
    const char *health;
} kith_api_collection_info;

typedef struct kith_api_collection_call kith_api_collection_call;
struct kith_api_collection_call {
    kith_api_call call;
    const char *name; /* create, get, update, delete; NUL-terminated, unchecked */
    size_t name_bytes;
    kith_schema schema;          /* create; unchecked */
    uint32_t shard_count;        /* create; 0: default */
    uint32_t replication_factor; /* create, update; 0: default, as it is */
    uint32_t min_in_sync;        /* as replication_factor */
    kith_durability durability;  /* create, update; unchecked */
    bool missing_ok;             /* delete */
    bool existed;                /* create: answered with OK, and it was there before */
    bool changed;                /* update: answered with OK, and it was not so before */
    /* create, get, update: one info. list: `count` infos by name. delete: count 1 if it was there, else 0, no infos. */
    void (*done)(kith_api_collection_call *call, kith_status status, const kith_api_collection_info *infos,
        uint32_t count, const kith_err *err);
};
KITH_CHECK kith_status kith_api_collection_create(
    kith_api *api, kith_api_collection_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_collection_get(kith_api *api, kith_api_collection_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_collection_list(kith_api *api, kith_api_collection_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_collection_update(
    kith_api *api, kith_api_collection_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_collection_delete(
    kith_api *api, kith_api_collection_call *call, kith_err *err);

/* --- writes --- */

/* Vectors of one field as the client sent them. */
typedef struct kith_api_column {
    const char *field;     /* NUL-terminated, unchecked */
    const uint8_t *values; /* packed f32 little-endian [rows][dim], any alignment */
    size_t values_bytes;
    const uint8_t *present; /* [point_count] of 0 or 1, or NULL: every point has a row */
    size_t present_bytes;
} kith_api_column;

typedef struct kith_api_token {
    uint64_t shard_id, epoch, sequence;
} kith_api_token;

typedef struct kith_api_write_call kith_api_write_call;
struct kith_api_write_call {
    kith_api_call call;
    const char *collection;
    size_t collection_bytes;
    kith_request_id request_id;
    const kith_id *ids; /* [point_count]; each already a valid id; duplicates are checked here */
    uint32_t point_count;
    const kith_api_column *columns; /* upsert */
    uint32_t column_count;
    /* upsert: NULL, or [point_count] JSON texts (NULL or 0 bytes: none); unchecked */
    const char *const *payloads;
    const uint32_t *payload_bytes;
    /* `changed`: points upserted, or deleted points that were there. On a partial failure (several shards) the message
     * says how many points of which shards were written. */
    void (*done)(kith_api_write_call *call, kith_status status, uint32_t changed,
        const kith_api_token *tokens, uint32_t token_count, const kith_err *err);
};
KITH_CHECK kith_status kith_api_upsert(kith_api *api, kith_api_write_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_delete(kith_api *api, kith_api_write_call *call, kith_err *err);

/* --- reads --- */

typedef struct kith_api_missing {
    uint64_t shard_id;
    const char *node, *reason;
} kith_api_missing;

typedef struct kith_api_coverage {
    uint32_t shards_total, shards_answered;
    const kith_api_missing *missing; /* [shards_total - shards_answered] */
} kith_api_coverage;

typedef struct kith_api_point {
    kith_id id;
    const char *payload;
    uint32_t payload_bytes;
    const float *vectors[KITH_FIELDS_MAX]; /* [dim] f32 or NULL */
} kith_api_point;

typedef struct kith_api_points_call kith_api_points_call;
struct kith_api_points_call {
    kith_api_call call;
    const char *collection;
    size_t collection_bytes;
    const kith_id *ids; /* get */
    uint32_t id_count;
    bool has_from; /* scroll */
    kith_id from;
    uint32_t limit; /* scroll; 0: 1000 */
    bool with_payload, with_vectors;
    kith_read_promise promise; /* its shards are checked here */
    /* `schema` names the fields. scroll: `next` is the first id of the next page, or NULL at the end. */
    void (*done)(kith_api_points_call *call, kith_status status, const kith_schema *schema,
        const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err);
};
KITH_CHECK kith_status kith_api_get(kith_api *api, kith_api_points_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_scroll(kith_api *api, kith_api_points_call *call, kith_err *err);

typedef struct kith_api_count_call kith_api_count_call;
struct kith_api_count_call {
    kith_api_call call;
    const char *collection;
    size_t collection_bytes;
    kith_read_promise promise; /* its shards are checked here */
    void (*done)(kith_api_count_call *call, kith_status status, uint64_t count,
        const kith_api_coverage *coverage, const kith_err *err);
};
KITH_CHECK kith_status kith_api_count(kith_api *api, kith_api_count_call *call, kith_err *err);

typedef struct kith_api_search_result {
    uint32_t query_count;
    const uint32_t *hit_counts; /* [query_count]; sum is hit_count */
    uint32_t hit_count;
    const kith_id *ids;            /* [hit_count] */
    const float *scores;           /* [hit_count] */
    const char *const *payloads;   /* NULL unless asked; [hit_count] */
    const uint32_t *payload_bytes; /* NULL unless asked; [hit_count] */
    kith_api_coverage coverage;
} kith_api_search_result;

typedef struct kith_api_search_call kith_api_search_call;
struct kith_api_search_call {
    kith_api_call call;
    const char *collection;
    size_t collection_bytes;
    const char *field;      /* NUL-terminated, unchecked */
    const uint8_t *queries; /* packed f32 little-endian [n][dim], any alignment */
    size_t queries_bytes;
    uint32_t k;
    bool exact, with_payload, strict;
    kith_read_promise promise; /* its shards are checked here */
    void (*done)(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
        const kith_err *err);
};
KITH_CHECK kith_status kith_api_search(kith_api *api, kith_api_search_call *call, kith_err *err);

/* --- life --- */

struct kith_meta;
struct kith_transport;
struct kith_codec_heartbeat;

/* Limits that a reload may change. */
typedef struct kith_api_limits {
    uint64_t search_timeout_ns; /* of everything that reads */
    uint64_t write_timeout_ns;  /* of writes and of collections */
    uint64_t slow_search_ns;    /* a search that takes this long is logged */
    uint32_t reads_max;         /* in flight; further ones are BUSY */
    uint64_t write_bytes_max;   /* of requests in flight; further ones are BUSY */
} kith_api_limits;

/* One search that was answered, for metrics. */
typedef struct kith_api_search_sample {
    kith_status status;
    uint64_t took_ns;     /* 0: refused at once */
    uint32_t query_count; /* 0 then */
    bool partial;
} kith_api_search_sample;

typedef struct kith_api_options {
    kith_env *env;
    struct kith_meta *meta;
    struct kith_transport *transport;
    kith_executor *executor; /* answers that need no shard are given here */
    kith_api_limits limits;
    uint64_t message_bytes_max; /* of one answer */
    /* OK while this node can serve and store; else why. May be NULL. */
    kith_status (*health)(void *ctx, kith_err *err);
    /* Points of the collection as far as this node knows, for the memory that a search may take. May be NULL. */
    uint64_t (*points)(void *ctx, const kith_collection *collection);
    /* What a server of its own says of itself: addresses, shards, load. May be NULL. Any thread; quick. */
    void (*describe)(void *ctx, struct kith_codec_heartbeat *heartbeat);
    /* Called once a search and once a write, answered or refused (then took_ns is 0); may be NULL. */
    void (*searched)(void *ctx, const kith_api_search_sample *sample);
    void (*wrote)(void *ctx, kith_status status, uint64_t took_ns, uint32_t points);
    void *ctx;
} kith_api_options;

/* Borrows everything in `options`. */
kith_api *kith_api_create(const kith_api_options *options);
/* Any thread. */
void kith_api_limits_set(kith_api *api, const kith_api_limits *limits);
/* Requests in flight, for metrics and for draining. */
uint32_t kith_api_in_flight(const kith_api *api);
/* From here on requests are refused as CLOSED and ready says so; those in flight go on. */
void kith_api_stop(kith_api *api);
/* After stop: true when nothing is in flight any more, false when `timeout_ns` passed first. */
bool kith_api_wait_idle(kith_api *api, uint64_t timeout_ns);
/* Nothing may be in flight, and the threads that answered requests must be joined. Accepts NULL. */
void kith_api_destroy(kith_api *api);

/* --- a map that may be old --- */

/* A call for a collection that this node does not know may be early: another node has created it a moment ago. */
typedef struct kith_api_refresh kith_api_refresh;
struct kith_api_refresh {
    uint64_t deadline_ns;
    void (*done)(kith_api_refresh *refresh); /* start the call again; once */
    void *impl[24];
};
/* True: `done` comes when the newest map is here, or none could be had in time. False: what this node knows is all there
 * is. */
bool kith_api_refresh_start(kith_api *api, kith_api_refresh *refresh);

/* --- health --- */

/* OK when this process can serve (recovered, not shutting down, writes not stopped); else why. Any thread, no I/O. */
kith_status kith_api_ready(kith_api *api, kith_err *err);

#endif
