/* The gRPC server: kith.v1 over host/api, health, reflection.
 *
 * Threads: start and stop on the thread that owns the process; they wait. Calls are taken in and answered on
 * `thread_count` threads, each with a completion queue of its own; requests are decoded there, answers are
 * encoded on whatever thread the api answers. Ownership: borrows env, api and metrics until stop has
 * returned. */
#ifndef KITH_GRPC_GRPC_SERVER_H
#define KITH_GRPC_GRPC_SERVER_H

#include "host/api/api.h"
#include "host/env/env.h"
#include "host/metrics/metrics.h"

typedef struct kith_grpc_server kith_grpc_server;

typedef struct kith_grpc_server_options {
    kith_env *env;
    kith_api *api;
    kith_metrics *metrics;    /* may be NULL */
    const char *bind_address; /* address or name: "0.0.0.0", "127.0.0.1", "::1" */
    uint32_t port;            /* 0: a free one; see kith_grpc_server_port */
    uint32_t thread_count;    /* 0: 1 */
    /* 0: the default in grpc_internal.h. Beyond them a call is answered RESOURCE_EXHAUSTED at once. */
    uint32_t calls_max; /* calls and batches of streams in flight */
    size_t
        request_bytes_max; /* bytes of their requests together, and of answers that clients have not read */
    size_t message_bytes_max; /* one request, one answer */
    uint32_t streams_max;     /* calls in flight of one connection */
    /* A call whose answer the client has not read by then is cancelled. 0: the default there. */
    uint64_t answer_timeout_ns;
} kith_grpc_server_options;

/* Serves when it returns OK. A port in use is IO with the address in the message. */
KITH_CHECK kith_status kith_grpc_server_start(
    const kith_grpc_server_options *options, kith_grpc_server **server_out, kith_err *err);
uint32_t kith_grpc_server_port(const kith_grpc_server *server);
/* Takes no more calls; streams and watches end after what they have in flight; then waits for unary calls.
 * After `drain_ns` cancels what is left and waits for the api to let go of it. Frees the server; accepts
 * NULL. */
void kith_grpc_server_stop(kith_grpc_server *server, uint64_t drain_ns);

#endif
