/* Requests over the shards of one collection, wherever they are: planned, sent as one message a node (search, count) or a
 * shard (write, read), gathered and merged. What a client may ask is checked above (host/api); what a shard does is
 * host/shard.
 *
 * Threads: start functions from any thread; `done` exactly once, never before start has returned, on the thread that
 * brought the last reply: for searches a search thread.
 * Ownership: the request, its arena, map, entry and everything they point to stay with the caller until `done` has
 * returned; the arena is not touched by others meanwhile. Results live in the arena. */
#ifndef KITH_QUERY_QUERY_H
#define KITH_QUERY_QUERY_H

#include <stdatomic.h>

#include "host/base/arena.h"
#include "host/meta/meta_map.h"
#include "host/model/hits.h"
#include "host/model/read.h"
#include "host/model/record.h"
#include "host/query/query_load.h"
#include "transport/transport.h"

/* What every request needs. */
typedef struct kith_query_base {
    kith_env *env;
    kith_transport *transport;
    const kith_meta_map *map;
    const kith_meta_entry *entry; /* of `map` */
    kith_arena *arena;
    uint64_t deadline_ns;
    const atomic_bool *cancelled; /* may be NULL */
    /* For answers that let others wait, of shards with several replicas; each may be NULL. */
    kith_executor *executor;
    kith_query_load *load;
    kith_read_consistency read; /* of everything but writes */
    const uint64_t *tokens; /* with KITH_READ_TOKEN: [shard_count] sequences by shard, 0: any; else NULL */
} kith_query_base;

/* A shard that did not answer. */
typedef struct kith_query_missing {
    uint64_t shard_id;
    kith_status status;
    const char *node;   /* its name */
    const char *reason; /* why, for people */
} kith_query_missing;

typedef struct kith_query_coverage {
    uint32_t shards_total, shards_answered;
    const kith_query_missing *missing; /* [shards_total - shards_answered] */
} kith_query_coverage;

/* --- search --- */

typedef struct kith_query_search kith_query_search;
struct kith_query_search {
    kith_query_base base;
    uint32_t field_index;
    const float *queries; /* [query_count][dim] f32 */
    uint32_t query_count, k;
    bool exact;
    bool strict;       /* an answer that does not cover every shard is an error */
    bool with_payload; /* of the final hits: needs query_count * k <= KITH_BATCH_POINTS_MAX */
    size_t payload_bytes_max;
    /* An answer of no shard at all is an error, strict or not. */
    void (*done)(kith_query_search *search, kith_status status, const kith_err *err);
    /* Results. */
    const kith_hits *lists;        /* [query_count] */
    uint32_t hit_count;            /* of all lists */
    const char *const *payloads;   /* with_payload: [hit_count], query by query; NULL where there is none */
    const uint32_t *payload_bytes; /* with_payload: [hit_count] */
    kith_query_coverage coverage;
};
void kith_query_search_start(kith_query_search *search);
/* Pure: bytes that results of a search over `shard_count` shards take at most while it runs, with up to `hit_count` hits in
 * its answer (queries x k) and ids that are numbers. */
uint64_t kith_query_result_bytes(uint64_t hit_count, uint32_t shard_count);

/* --- points --- */

typedef struct kith_query_point {
    kith_id id;
    const char *payload; /* JSON text, or NULL */
    uint32_t payload_bytes;
    const void *vectors[KITH_FIELDS_MAX]; /* stored bytes, or NULL */
} kith_query_point;

/* Points by id. Any shard that fails fails it: there is no partial answer. */
typedef struct kith_query_get kith_query_get;
struct kith_query_get {
    kith_query_base base;
    const kith_id *ids;
    uint32_t id_count;
    bool with_payload, with_vectors;
    size_t bytes_max; /* of the points; above it INVALID */
    void (*done)(kith_query_get *get, kith_status status, const kith_err *err);
    /* Results: [id_count], in the order asked; NULL where there is no such point. */
    const kith_query_point **points;
};
void kith_query_get_start(kith_query_get *get);

/* One page of all points in id order. */
typedef struct kith_query_scroll kith_query_scroll;
struct kith_query_scroll {
    kith_query_base base;
    bool has_from;
    kith_id from;
    uint32_t limit; /* 1..KITH_SCROLL_POINTS_MAX */
    bool with_payload, with_vectors;
    size_t bytes_max; /* the page ends before it passes this; at least one point */
    void (*done)(kith_query_scroll *scroll, kith_status status, const kith_err *err);
    /* Results. A page may be shorter than `limit` though there is a next one. */
    const kith_query_point **points; /* [count] */
    uint32_t count;
    bool has_next;
    kith_id next; /* the first id of the next page */
};
void kith_query_scroll_start(kith_query_scroll *scroll);

/* --- counts and statistics --- */

typedef struct kith_query_count kith_query_count;
struct kith_query_count {
    kith_query_base base;
    void (*done)(kith_query_count *count, kith_status status, const kith_err *err);
    /* Results: sums over the shards that answered. */
    uint64_t points, segments, segments_sealed, vector_bytes;
    const char *health; /* "ok", or what is wrong with the first shard that is not well */
    kith_query_coverage coverage;
};
void kith_query_count_start(kith_query_count *count);

/* --- write --- */

/* What one shard is to do, and did. */
typedef struct kith_query_write_part {
    uint32_t shard_index;
    uint32_t point_count;
    const void *op; /* encoded by kith_op_encode */
    size_t op_bytes;
    bool may_be_done; /* the caller's: it was asked for before, and that was left open */
    /* Results. */
    kith_status status;
    const char *reason; /* when it failed */
    uint64_t epoch, sequence;
    uint32_t points_changed;
} kith_query_write_part;

typedef struct kith_query_write kith_query_write;
struct kith_query_write {
    kith_query_base base;
    kith_request_id request_id;
    kith_query_write_part *parts;
    uint32_t part_count;                   /* 1.. */
    void (*done)(kith_query_write *write); /* every part has its result */
};
void kith_query_write_start(kith_query_write *write);

#endif
