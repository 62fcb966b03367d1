/* The HTTP server: what operators and their tools read. /metrics, /healthz, /livez, /readyz; where there is an api,
 * /v1/cluster/status, nodes and shards, and POST join, leave, drain and accept-loss.
 *
 * Threads: start and stop on the thread that owns the process; they wait. Requests are answered on
 * libmicrohttpd's own thread; each is quick and allocates one answer. Ownership: borrows api and metrics
 * until stop has returned. */
#ifndef KITH_HTTP_HTTP_SERVER_H
#define KITH_HTTP_HTTP_SERVER_H

#include "host/api/api.h"
#include "host/metrics/metrics.h"

typedef struct kith_http_server kith_http_server;

typedef struct kith_http_server_options {
    kith_api *api; /* whose readiness /readyz tells; NULL: `ready` says */
    /* Any thread, no I/O. OK with a text left in `err`: a remark for whoever asks. */
    kith_status (*ready)(void *ctx, kith_err *err);
    const char *bind_address; /* address or name: "0.0.0.0", "127.0.0.1", "::1" */
    uint32_t port;            /* 0: a free one; see kith_http_server_port */
    kith_metrics *metrics;    /* requests are counted here, if not NULL */
    /* Fills `buf` with Prometheus text; called for each GET of /metrics, on the server's thread. NULL:
     * `metrics` is printed. */
    void (*metrics_fn)(void *ctx, kith_buf *buf);
    void *ctx;
    /* 0: the default in http_server.c. Beyond it the connection that has gone longest without a finished request is closed. */
    uint32_t connections_max;
    uint32_t idle_timeout_s; /* 0: the default */
} kith_http_server_options;

/* Serves when it returns OK. A port in use is IO with the address in the message. */
KITH_CHECK kith_status kith_http_server_start(
    const kith_http_server_options *options, kith_http_server **server_out, kith_err *err);
uint32_t kith_http_server_port(const kith_http_server *server);
/* Closes every connection and frees the server; accepts NULL. Waits for cluster calls under way: the api must be stopped. */
void kith_http_server_stop(kith_http_server *server);

#endif
