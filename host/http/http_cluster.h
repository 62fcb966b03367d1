/* Private to host/http: what is under /v1/cluster, which is kith.v1.Cluster as JSON.
 *
 * Threads: create, start and destroy on the server's thread; `done` on any.
 * Ownership: borrows the api. */
#ifndef KITH_HTTP_HTTP_CLUSTER_H
#define KITH_HTTP_HTTP_CLUSTER_H

#include "host/api/api_cluster.h"
#include "host/base/buf.h"

typedef enum kith_http_cluster_kind {
    KITH_HTTP_CLUSTER_NONE,
    KITH_HTTP_CLUSTER_STATUS,
    KITH_HTTP_CLUSTER_NODES,
    KITH_HTTP_CLUSTER_SHARDS,
    KITH_HTTP_CLUSTER_JOIN,
    KITH_HTTP_CLUSTER_LEAVE,
    KITH_HTTP_CLUSTER_DRAIN,
    KITH_HTTP_CLUSTER_ACCEPT_LOSS,
} kith_http_cluster_kind;

/* Those that change something are asked for with POST and a JSON object. */
static inline bool kith_http_cluster_is_change(kith_http_cluster_kind kind) {
    return kind >= KITH_HTTP_CLUSTER_JOIN;
}

typedef struct kith_http_cluster_call kith_http_cluster_call;
struct kith_http_cluster_call {
    kith_api_cluster_call base;
    kith_api *api;
    kith_http_cluster_kind kind;
    kith_arena arena;
    kith_api_refresh refresh;
    bool has_shard; /* the body names one */
    bool refreshed; /* once is enough */
    unsigned code;  /* the answer, when it is there */
    kith_buf answer;
    void (*done)(kith_http_cluster_call *call); /* once; perhaps before start has returned */
    /* The server's: */
    void *ctx;
    void *connection;
    kith_http_cluster_call *next, *previous;
};

kith_http_cluster_call *kith_http_cluster_create(kith_api *api, kith_http_cluster_kind kind);
/* `collection` of shards, NULL for all; the body of a change. `done` comes in any case. */
void kith_http_cluster_start(
    kith_http_cluster_call *call, const char *collection, const void *body, size_t body_bytes);
/* After `done`, or before start. Accepts NULL. */
void kith_http_cluster_destroy(kith_http_cluster_call *call);
/* {"status": .., "error": ..} */
void kith_http_error_append(kith_status status, const char *message, kith_buf *buf);

#endif
