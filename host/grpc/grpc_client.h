/* The client's end of gRPC: connections to one server, unary calls and one kind of stream, all on one
 * completion queue that the caller's thread drives. What the command line and its load generator stand on.
 *
 * Threads: one. Callbacks run inside kith_grpc_client_poll, on its thread, and may start further calls.
 * Ownership: requests are copied; a reply is borrowed until its callback returns. */
#ifndef KITH_GRPC_GRPC_CLIENT_H
#define KITH_GRPC_GRPC_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/env/env.h"

#define KITH_GRPC_CLIENT_CONNECTIONS_MAX 4096u

typedef struct kith_grpc_client kith_grpc_client;
typedef struct kith_grpc_stream kith_grpc_stream;

/* Codes of the protocol that a client acts on; the others are only shown. */
typedef enum kith_grpc_code {
    KITH_GRPC_OK = 0,
    KITH_GRPC_CANCELLED = 1,
    KITH_GRPC_DEADLINE_EXCEEDED = 4,
    KITH_GRPC_NOT_FOUND = 5,
    KITH_GRPC_RESOURCE_EXHAUSTED = 8,
    KITH_GRPC_UNIMPLEMENTED = 12,
    KITH_GRPC_UNAVAILABLE = 14,
} kith_grpc_code;

typedef struct kith_grpc_reply {
    int code;            /* 0: `data` is the answer; else `message` says why not */
    const char *message; /* NUL-terminated, never NULL */
    const uint8_t *data;
    size_t bytes;
} kith_grpc_reply;

typedef struct kith_grpc_request {
    const char *method; /* "/kith.v1.Points/Search" */
    const void *data;
    size_t bytes;
    uint64_t timeout_ms;
    uint32_t connection; /* < the client's */
} kith_grpc_request;

typedef void (*kith_grpc_reply_fn)(void *ctx, const kith_grpc_reply *reply);

/* `target` is HOST:PORT. Nothing is connected yet. */
KITH_CHECK kith_status kith_grpc_client_create(
    const char *target, uint32_t connection_count, kith_grpc_client **client_out, kith_err *err);
/* Waits for the calls under way (their timeouts bound it); streams must be closed. Accepts NULL. */
void kith_grpc_client_destroy(kith_grpc_client *client);
/* Waits until every connection stands; UNAVAILABLE as soon as one is refused, or after `timeout_ms`. */
KITH_CHECK kith_status kith_grpc_client_connect(kith_grpc_client *client, uint64_t timeout_ms, kith_err *err);
/* Handles one event, waiting at most `wait_ns` for it; false when none came. */
bool kith_grpc_client_poll(kith_grpc_client *client, uint64_t wait_ns);

/* Calls `done` exactly once, from a later poll. */
void kith_grpc_client_start(
    kith_grpc_client *client, const kith_grpc_request *request, kith_grpc_reply_fn done, void *ctx);
/* Starts, polls until it is answered, and returns the code; `reply_out` gets the answer, or the message when
 * the code is not 0. */
int kith_grpc_client_call(kith_grpc_client *client, const kith_grpc_request *request, kith_buf *reply_out);

/* A call with a stream of messages each way. `on_message` once a message in, then `on_end` exactly once. */
typedef struct kith_grpc_stream_options {
    const char *method;
    uint64_t timeout_ms; /* 0: none */
    void (*on_message)(void *ctx, const uint8_t *data, size_t bytes);
    void (*on_end)(void *ctx, int code, const char *message);
    void *ctx;
} kith_grpc_stream_options;

kith_grpc_stream *kith_grpc_stream_open(kith_grpc_client *client, const kith_grpc_stream_options *options);
/* Whether kith_grpc_stream_send may be called now: the last message has gone to the transport, which is how
 * the server's flow control reaches the sender. */
bool kith_grpc_stream_can_send(const kith_grpc_stream *stream);
void kith_grpc_stream_send(kith_grpc_stream *stream, const void *data, size_t bytes);
/* No more will be sent. Needs can_send. */
void kith_grpc_stream_finish(kith_grpc_stream *stream);
/* Cancels if it has not ended; polls until it has, without callbacks. Accepts NULL. */
void kith_grpc_stream_close(kith_grpc_stream *stream);

#endif
