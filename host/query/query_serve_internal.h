/* A request while this node works on it; private to host/query/query_serve*.c. */
#ifndef KITH_QUERY_QUERY_SERVE_INTERNAL_H
#define KITH_QUERY_QUERY_SERVE_INTERNAL_H

#include "host/base/thread.h"
#include "host/codec/codec_internal.h"
#include "host/query/query_serve.h"

/* Requests kept for reuse with their memory; more than are usually under way at once (a guess). */
#define SERVE_POOL_MAX 64u

typedef struct serve_request serve_request;
struct serve_request {
    kith_query_serve *serve;
    kith_transport_request *request;
    kith_arena arena;
    kith_buf reply;
    serve_request *next; /* in the pool */
    kith_task task;      /* a hop to the search executor */
    kith_shard *shard;   /* write, read: held until it is answered */
    uint64_t shard_id;
    union {
        struct {
            kith_replica_wait write_wait;
            kith_shard_write write;
        };
        kith_shard_read read;
        struct { /* while it waits for a map */
            kith_meta_wait wait;
            void (*again)(void *ctx, kith_transport_request *request);
        };
    };
};

struct kith_query_serve {
    kith_query_serve_options options;
    /* Requests come and go on many threads, several a millisecond at most each: a lock of a few instructions. */
    kith_mutex pool_mutex;
    serve_request *pool;
    uint32_t pool_count;
};

serve_request *serve_request_begin(kith_query_serve *serve, kith_transport_request *request);
/* Answers with `reply` (OK) or with `err`, and gives the request back. */
void serve_request_answer(serve_request *own, kith_status status, const kith_err *err);

void serve_search(void *ctx, kith_transport_request *request);
void serve_count(void *ctx, kith_transport_request *request);
void serve_read(void *ctx, kith_transport_request *request);
void serve_write(void *ctx, kith_transport_request *request);

/* True: some of the shards are not here, and the asker's map is newer: `again` is called with the request when this node
 * has a map as new, or the request is answered. `own` is given back. */
bool serve_map_await(serve_request *own, uint64_t map_version, const uint64_t *shard_ids,
    uint32_t shard_count, void (*again)(void *ctx, kith_transport_request *request));
/* --- until a replica may be read --- */

typedef struct serve_waits serve_waits;
typedef struct serve_wait_one {
    kith_replica_wait wait;
    serve_waits *waits;
    kith_status status;
    char *message; /* of a failure */
} serve_wait_one;

/* In the request's arena. */
struct serve_waits {
    kith_task task;
    serve_request *own;
    void *ctx;
    uint32_t count;
    serve_wait_one *ones; /* [count]; NULL: nothing is replicated */
    _Atomic uint32_t remaining;
    void (*ready)(serve_waits *waits);
};

typedef struct serve_wait_request {
    const uint64_t *shard_ids; /* [shard_count] */
    uint32_t shard_count;
    uint32_t read;          /* kith_replica_read */
    const uint64_t *tokens; /* [shard_count], or NULL */
    void *ctx;              /* for `ready` */
} serve_wait_request;

/* Calls `ready` once it is known of all the shards whether they may be read: inside this call, or on the search executor. */
void serve_waits_start(
    serve_request *own, const serve_wait_request *request, void (*ready)(serve_waits *waits));
/* OK: a view of this shard that is taken from now on has what the read promises. */
KITH_CHECK kith_status serve_wait_status(const serve_waits *waits, uint32_t index, kith_err *err);
/* Before the request is answered. */
void serve_waits_free(serve_waits *waits);

/* The shard, held; STALE_MAP when this node has none of that number. */
KITH_CHECK kith_status serve_shard_find(
    kith_query_serve *serve, uint64_t shard_id, kith_shard **shard_out, kith_err *err);

#endif
