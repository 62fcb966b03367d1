/* Every operation's tag is a struct whose first member is the function to run when the queue returns it, so
 * that polling needs no table. A stream posts each operation as a batch of its own: the server may answer
 * before all was sent.
 *
 * gRPC's own retries are off: the callers repeat writes under the same request id and count every attempt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/limits.h"
#include "host/grpc/grpc_client.h"
#include "host/grpc/grpc_internal.h"

#define CONNECT_MOST_MS    10000
#define RECONNECT_FIRST_MS 100
#define RECONNECT_MOST_MS  1000

typedef struct client_tag client_tag;
struct client_tag {
    void (*run)(client_tag *tag, bool ok);
};

struct kith_grpc_client {
    char *target;
    grpc_completion_queue *queue;
    grpc_channel **channels; /* [channel_count] */
    uint32_t channel_count;
    uint32_t pending_count; /* operations whose end has not been handled */
    kith_grpc_events events;
    uint32_t events_handled; /* of those taken */
};

typedef struct unary_call {
    client_tag tag;
    kith_grpc_client *client;
    grpc_call *call;
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_byte_buffer *request;
    grpc_byte_buffer *reply;
    grpc_status_code code;
    grpc_slice details;
    kith_grpc_reply_fn done;
    void *ctx;
} unary_call;

struct kith_grpc_stream {
    client_tag start_tag, send_tag, receive_tag, status_tag;
    kith_grpc_client *client;
    kith_grpc_stream_options options;
    grpc_call *call;
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_byte_buffer *received;
    grpc_status_code code;
    grpc_slice details;
    uint32_t pending_count;
    bool sending;
    bool ended; /* on_end has run */
};

/* gRPC logs connection trouble to stderr, where the command line says it better. */
static void drop_log_line(gpr_log_func_args *args) {
    (void)args;
}

static gpr_timespec deadline_in_ms(uint64_t timeout_ms) {
    if (timeout_ms == 0) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(
        gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
}

/* --- connections ------------------------------------------------------------------------------------------
 */

static grpc_arg arg_int(const char *key, int value) {
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

/* A subchannel pool of its own makes each channel a connection of its own. */
static grpc_channel *open_channel(const char *target) {
    grpc_arg args[] = {
        arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)KITH_MESSAGE_BYTES_MAX * 2),
        arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
        arg_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        arg_int(GRPC_ARG_ENABLE_RETRIES, 0),
        arg_int(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0), /* counts every call for a debug page that is not served */
        arg_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_FIRST_MS),
        /* Named for reconnecting, but what gRPC gives every attempt: a busy or distant server needs time. */
        arg_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MOST_MS),
        arg_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MOST_MS),
    };
    grpc_channel_args channel_args = {.num_args = sizeof args / sizeof args[0], .args = args};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, credentials, &channel_args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

kith_status kith_grpc_client_create(
    const char *target, uint32_t connection_count, kith_grpc_client **client_out, kith_err *err) {
    if (connection_count == 0 || connection_count > KITH_GRPC_CLIENT_CONNECTIONS_MAX) {
        return kith_err_set(err, KITH_INVALID, "connections %u is not in 1..%u", connection_count,
            KITH_GRPC_CLIENT_CONNECTIONS_MAX);
    }
    if (!getenv("GRPC_VERBOSITY")) gpr_set_log_function(drop_log_line);
    kith_grpc_core_init();
    kith_grpc_client *client = kith_alloc_zero(sizeof *client);
    client->target = kith_strdup(target);
    client->queue = grpc_completion_queue_create_for_next(NULL);
    client->channels = kith_alloc_array(connection_count, sizeof(grpc_channel *));
    client->channel_count = connection_count;
    for (uint32_t i = 0; i < connection_count; i++)
        client->channels[i] = open_channel(target);
    *client_out = client;
    return KITH_OK;
}

void kith_grpc_client_destroy(kith_grpc_client *client) {
    if (!client) return;
    while (client->pending_count > 0)
        kith_grpc_client_poll(client, UINT32_MAX);
    for (uint32_t i = 0; i < client->channel_count; i++)
        grpc_channel_destroy(client->channels[i]);
    grpc_completion_queue_shutdown(client->queue);
    gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    while (grpc_completion_queue_next(client->queue, forever, NULL).type != GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(client->queue);
    kith_free(client->channels);
    kith_free(client->target);
    kith_free(client);
    grpc_shutdown();
}

static void ignore_event(client_tag *tag, bool ok) {
    (void)tag;
    (void)ok;
}

/* Waits for one connection; the queue carries nothing else yet. */
static kith_status wait_connected(
    kith_grpc_client *client, uint32_t index, gpr_timespec deadline, kith_err *err) {
    client_tag tag = {.run = ignore_event};
    for (;;) {
        grpc_connectivity_state state = grpc_channel_check_connectivity_state(client->channels[index], 1);
        if (state == GRPC_CHANNEL_READY) return KITH_OK;
        bool late = gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), deadline) >= 0;
        if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN || late) break;
        grpc_channel_watch_connectivity_state(client->channels[index], state, deadline, client->queue, &tag);
        grpc_completion_queue_next(client->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    }
    return kith_err_set(err, KITH_UNAVAILABLE, "no server answers at %s", client->target);
}

kith_status kith_grpc_client_connect(kith_grpc_client *client, uint64_t timeout_ms, kith_err *err) {
    kith_assert(client->pending_count == 0);
    gpr_timespec deadline = deadline_in_ms(timeout_ms);
    for (uint32_t i = 0; i < client->channel_count; i++)
        grpc_channel_check_connectivity_state(client->channels[i], 1);
    for (uint32_t i = 0; i < client->channel_count; i++) {
        kith_status status = wait_connected(client, i, deadline, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static void take_events(kith_grpc_client *client, uint64_t wait_ns) {
    gpr_timespec wait = gpr_time_from_nanos((int64_t)wait_ns, GPR_TIMESPAN);
    kith_grpc_events_take(client->queue, gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), wait), &client->events);
    client->events_handled = 0;
}

/* One at a time, so that a callback may poll in its turn. */
bool kith_grpc_client_poll(kith_grpc_client *client, uint64_t wait_ns) {
    if (client->events_handled == client->events.count) take_events(client, wait_ns);
    if (client->events.count == 0) return false;
    const grpc_event *event = &client->events.taken[client->events_handled++];
    client->pending_count--;
    client_tag *tag = event->tag;
    tag->run(tag, event->success);
    return true;
}

/* --- unary calls ------------------------------------------------------------------------------------------
 */

static grpc_byte_buffer *byte_buffer_of(const void *data, size_t bytes) {
    grpc_slice slice = grpc_slice_from_copied_buffer(data, bytes);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

/* All of `buffer` in one slice; false when it does not decompress. */
static bool byte_buffer_read(grpc_byte_buffer *buffer, grpc_slice *slice_out) {
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, buffer)) return false;
    *slice_out = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    return true;
}

static grpc_call *open_call(
    kith_grpc_client *client, uint32_t connection, const char *method, uint64_t timeout_ms) {
    grpc_slice name = grpc_slice_from_copied_string(method);
    grpc_call *call = grpc_channel_create_call(client->channels[connection], NULL, GRPC_PROPAGATE_DEFAULTS,
        client->queue, name, NULL, deadline_in_ms(timeout_ms), NULL);
    grpc_slice_unref(name);
    return call;
}

static void start_batch(
    kith_grpc_client *client, grpc_call *call, const grpc_op *ops, size_t count, client_tag *tag) {
    grpc_call_error error = grpc_call_start_batch(call, ops, count, tag, NULL);
    kith_assert(error == GRPC_CALL_OK);
    client->pending_count++;
}

static void unary_answer(unary_call *call) {
    char *message = grpc_slice_to_c_string(call->details);
    grpc_slice slice = grpc_empty_slice();
    kith_grpc_reply reply = {.code = (int)call->code, .message = message};
    if (call->code == GRPC_STATUS_OK && (!call->reply || !byte_buffer_read(call->reply, &slice))) {
        reply.code = (int)GRPC_STATUS_INTERNAL;
        reply.message = "the answer holds no message";
    }
    reply.data = GRPC_SLICE_START_PTR(slice);
    reply.bytes = GRPC_SLICE_LENGTH(slice);
    call->done(call->ctx, &reply);
    grpc_slice_unref(slice);
    gpr_free(message);
}

static void unary_done(client_tag *tag, bool ok) {
    unary_call *call = (unary_call *)tag;
    (void)ok; /* the status says all */
    unary_answer(call);
    grpc_byte_buffer_destroy(call->request);
    grpc_byte_buffer_destroy(call->reply);
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_slice_unref(call->details);
    grpc_call_unref(call->call);
    kith_free(call);
}

void kith_grpc_client_start(
    kith_grpc_client *client, const kith_grpc_request *request, kith_grpc_reply_fn done, void *ctx) {
    kith_assert(request->connection < client->channel_count);
    unary_call *call = kith_alloc_zero(sizeof *call);
    call->tag.run = unary_done;
    call->client = client;
    call->done = done;
    call->ctx = ctx;
    call->details = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
    call->request = byte_buffer_of(request->data, request->bytes);
    call->call = open_call(client, request->connection, request->method, request->timeout_ms);
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = call->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
            .data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->reply},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
            .data.recv_status_on_client = {.trailing_metadata = &call->trailing_metadata,
                .status = &call->code,
                .status_details = &call->details}},
    };
    start_batch(client, call->call, ops, sizeof ops / sizeof ops[0], &call->tag);
}

typedef struct awaited_reply {
    kith_buf *reply;
    int code;
    bool done;
} awaited_reply;

static void awaited_done(void *ctx, const kith_grpc_reply *reply) {
    awaited_reply *awaited = ctx;
    awaited->code = reply->code;
    kith_buf_clear(awaited->reply);
    if (reply->code == KITH_GRPC_OK)
        kith_buf_append(awaited->reply, reply->data, reply->bytes);
    else
        kith_buf_append_text(awaited->reply, reply->message);
    awaited->done = true;
}

int kith_grpc_client_call(kith_grpc_client *client, const kith_grpc_request *request, kith_buf *reply_out) {
    awaited_reply awaited = {.reply = reply_out};
    kith_grpc_client_start(client, request, awaited_done, &awaited);
    while (!awaited.done)
        kith_grpc_client_poll(client, UINT32_MAX);
    return awaited.code;
}

/* --- streams ----------------------------------------------------------------------------------------------
 */

static void stream_batch(kith_grpc_stream *stream, const grpc_op *op, size_t count, client_tag *tag) {
    stream->pending_count++;
    start_batch(stream->client, stream->call, op, count, tag);
}

/* on_end waits for every operation: afterwards nothing of this stream is in the queue. */
static void stream_op_done(kith_grpc_stream *stream) {
    stream->pending_count--;
    if (stream->pending_count > 0 || stream->ended) return;
    stream->ended = true;
    if (!stream->options.on_end) return;
    char *message = grpc_slice_to_c_string(stream->details);
    stream->options.on_end(stream->options.ctx, (int)stream->code, message);
    gpr_free(message);
}

#define STREAM_OF(tag, member) ((kith_grpc_stream *)((char *)(tag)-offsetof(kith_grpc_stream, member)))

static void stream_receive(kith_grpc_stream *stream) {
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->received};
    stream_batch(stream, &op, 1, &stream->receive_tag);
}

static void stream_received(client_tag *tag, bool ok) {
    kith_grpc_stream *stream = STREAM_OF(tag, receive_tag);
    grpc_byte_buffer *buffer = stream->received;
    grpc_slice slice;
    stream->received = NULL;
    if (ok && buffer) {
        if (byte_buffer_read(buffer, &slice)) {
            if (stream->options.on_message) {
                stream->options.on_message(
                    stream->options.ctx, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
            }
            grpc_slice_unref(slice);
        }
        stream_receive(stream);
    }
    grpc_byte_buffer_destroy(buffer);
    stream_op_done(stream);
}

static void stream_sent(client_tag *tag, bool ok) {
    kith_grpc_stream *stream = STREAM_OF(tag, send_tag);
    (void)ok; /* a failed send ends the stream, and the status says why */
    stream->sending = false;
    stream_op_done(stream);
}

static void stream_started(client_tag *tag, bool ok) {
    (void)ok;
    stream_op_done(STREAM_OF(tag, start_tag));
}

static void stream_status(client_tag *tag, bool ok) {
    (void)ok;
    stream_op_done(STREAM_OF(tag, status_tag));
}

kith_grpc_stream *kith_grpc_stream_open(kith_grpc_client *client, const kith_grpc_stream_options *options) {
    kith_grpc_stream *stream = kith_alloc_zero(sizeof *stream);
    stream->start_tag.run = stream_started;
    stream->send_tag.run = stream_sent;
    stream->receive_tag.run = stream_received;
    stream->status_tag.run = stream_status;
    stream->client = client;
    stream->options = *options;
    stream->details = grpc_empty_slice();
    grpc_metadata_array_init(&stream->initial_metadata);
    grpc_metadata_array_init(&stream->trailing_metadata);
    stream->call = open_call(client, 0, options->method, options->timeout_ms);
    grpc_op start[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
            .data.recv_initial_metadata.recv_initial_metadata = &stream->initial_metadata},
    };
    stream_batch(stream, start, 2, &stream->start_tag);
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {.trailing_metadata = &stream->trailing_metadata,
            .status = &stream->code,
            .status_details = &stream->details}};
    stream_batch(stream, &status, 1, &stream->status_tag);
    stream_receive(stream);
    return stream;
}

bool kith_grpc_stream_can_send(const kith_grpc_stream *stream) {
    return !stream->sending && !stream->ended;
}

void kith_grpc_stream_send(kith_grpc_stream *stream, const void *data, size_t bytes) {
    kith_assert(kith_grpc_stream_can_send(stream));
    grpc_byte_buffer *buffer = byte_buffer_of(data, bytes);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = buffer};
    stream->sending = true;
    stream_batch(stream, &op, 1, &stream->send_tag);
    grpc_byte_buffer_destroy(buffer);
}

void kith_grpc_stream_finish(kith_grpc_stream *stream) {
    kith_assert(kith_grpc_stream_can_send(stream));
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    stream->sending = true;
    stream_batch(stream, &op, 1, &stream->send_tag);
}

void kith_grpc_stream_close(kith_grpc_stream *stream) {
    if (!stream) return;
    stream->options.on_message = NULL;
    stream->options.on_end = NULL;
    if (!stream->ended) grpc_call_cancel(stream->call, NULL);
    while (!stream->ended)
        kith_grpc_client_poll(stream->client, UINT32_MAX);
    grpc_metadata_array_destroy(&stream->initial_metadata);
    grpc_metadata_array_destroy(&stream->trailing_metadata);
    grpc_slice_unref(stream->details);
    grpc_call_unref(stream->call);
    kith_free(stream);
}
