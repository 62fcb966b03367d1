/* gRPC unary calls of raw bytes, C core on both ends: one channel, one completion queue and one thread a side, no TLS. */
#include <stdio.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>

#include "bench/transport/bench_transport.h"
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/env/env.h"

#define METHOD          "/bench/Echo"
#define MESSAGE_MAX     (64 << 20)
#define CALLS_ARMED_MAX 64

static grpc_arg arg_int(const char *key, int value) {
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static const grpc_channel_args *channel_args(void) {
    static grpc_arg args[3];
    static grpc_channel_args all = {.num_args = sizeof args / sizeof *args, .args = args};
    args[0] = arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MESSAGE_MAX);
    args[1] = arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0);
    args[2] = arg_int(GRPC_ARG_ENABLE_RETRIES, 0);
    return &all;
}

static gpr_timespec forever(void) {
    return gpr_inf_future(GPR_CLOCK_MONOTONIC);
}

/* --- server: a call is requested, read, answered, freed --- */

typedef struct served_call {
    enum { REQUESTED, ANSWERED } state;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *message;
    int is_cancelled;
} served_call;

typedef struct bench_server {
    grpc_server *server;
    grpc_completion_queue *queue;
    void *method;
} bench_server;

static void served_arm(bench_server *server) {
    served_call *call = kith_alloc_zero(sizeof *call);
    grpc_metadata_array_init(&call->metadata);
    grpc_server_request_registered_call(server->server, server->method, &call->call, &call->deadline,
        &call->metadata, &call->message, server->queue, server->queue, call);
}

static void served_answer(served_call *call) {
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->message},
        {.op = GRPC_OP_SEND_STATUS_FROM_SERVER, .data.send_status_from_server.status = GRPC_STATUS_OK},
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &call->is_cancelled},
    };
    call->state = ANSWERED;
    grpc_call_start_batch(call->call, ops, sizeof ops / sizeof *ops, call, NULL);
}

static void served_free(served_call *call) {
    if (call->message) grpc_byte_buffer_destroy(call->message);
    grpc_metadata_array_destroy(&call->metadata);
    if (call->call) grpc_call_unref(call->call);
    kith_free(call);
}

static void serve_run(void *ctx) {
    bench_server *server = ctx;
    for (;;) {
        grpc_event event = grpc_completion_queue_next(server->queue, forever(), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) return;
        served_call *call = event.tag;
        if (!call) continue; /* the server's own shutdown */
        if (event.success && call->state == REQUESTED) {
            served_arm(server);
            served_answer(call);
        } else {
            served_free(call);
        }
    }
}

static void grpc_serve(const bench_options *options) {
    kith_err err;
    kith_env *env;
    kith_thread *thread;
    bench_server server = {0};
    (void)options;
    grpc_init();
    server.server = grpc_server_create(channel_args(), NULL);
    server.queue = grpc_completion_queue_create_for_next(NULL);
    server.method = grpc_server_register_method(
        server.server, METHOD, NULL, GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_register_completion_queue(server.server, server.queue, NULL);
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server.server, "127.0.0.1:0", credentials);
    grpc_server_start(server.server);
    for (int i = 0; i < CALLS_ARMED_MAX; i++)
        served_arm(&server);
    if (kith_env_posix_create(&env, &err) != KITH_OK ||
        kith_thread_start(env, "grpc", serve_run, &server, &thread, &err) != KITH_OK)
        bench_fail("grpc", err.text);
    bench_say_port((unsigned)port);
    bench_wait_for_end();
    grpc_server_shutdown_and_notify(server.server, server.queue, NULL);
    grpc_server_cancel_all_calls(server.server);
    grpc_completion_queue_shutdown(server.queue);
    kith_thread_join(thread);
    grpc_server_destroy(server.server);
    grpc_completion_queue_destroy(server.queue);
    grpc_server_credentials_release(credentials);
    kith_env_posix_destroy(env);
    grpc_shutdown();
}

/* --- caller --- */

typedef struct calling {
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *reply;
    grpc_status_code code;
    grpc_slice details;
    uint64_t began_ns;
} calling;

static void calling_start(
    calling *own, grpc_channel *channel, grpc_completion_queue *queue, const bench_options *options) {
    /* Made of the caller's bytes each time, as a program that has a message to send would. */
    static uint8_t *zeros;
    if (!zeros) zeros = kith_alloc_zero(options->bytes);
    own->began_ns = bench_now_ns();
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)zeros, options->bytes);
    own->request = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    own->reply = NULL;
    grpc_metadata_array_init(&own->initial);
    grpc_metadata_array_init(&own->trailing);
    own->call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
        grpc_slice_from_static_string(METHOD), NULL, forever(), NULL);
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = own->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
            .data.recv_initial_metadata.recv_initial_metadata = &own->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &own->reply},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
            .data.recv_status_on_client = {.trailing_metadata = &own->trailing,
                .status = &own->code,
                .status_details = &own->details}},
    };
    grpc_call_start_batch(own->call, ops, sizeof ops / sizeof *ops, own, NULL);
}

static void calling_end(calling *own) {
    if (own->code != GRPC_STATUS_OK || !own->reply) bench_fail("grpc", "a call failed");
    grpc_byte_buffer_destroy(own->request);
    grpc_byte_buffer_destroy(own->reply);
    grpc_metadata_array_destroy(&own->initial);
    grpc_metadata_array_destroy(&own->trailing);
    grpc_slice_unref(own->details);
    grpc_call_unref(own->call);
}

static void grpc_measure(const bench_options *options, bench_samples *samples) {
    char target[32];
    grpc_init();
    snprintf(target, sizeof target, "127.0.0.1:%u", options->port);
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, credentials, channel_args());
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    calling *calls = kith_alloc_array(options->in_flight, sizeof *calls);
    for (uint32_t i = 0; i < options->in_flight; i++)
        calling_start(&calls[i], channel, queue, options);
    for (uint32_t running = options->in_flight; running > 0;) {
        calling *own = grpc_completion_queue_next(queue, forever(), NULL).tag;
        bool goes_on = bench_note(samples, own->began_ns);
        calling_end(own);
        if (goes_on) {
            calling_start(own, channel, queue, options);
        } else {
            running--;
        }
    }
    kith_free(calls);
    grpc_channel_destroy(channel);
    grpc_channel_credentials_release(credentials);
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, forever(), NULL).type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue);
    grpc_shutdown();
}

const bench_carrier bench_grpc = {.name = "grpc", .serve = grpc_serve, .measure = grpc_measure};
