/* Server reflection: one question, one answer, until the client closes its side. */
#include "host/codec/codec_reflection.h"
#include "host/grpc/grpc_internal.h"

typedef struct reflection {
    kith_grpc_call base;
    kith_grpc_tag started, received, sent;
    grpc_byte_buffer *incoming;
    grpc_byte_buffer *message; /* on its way */
    kith_arena arena;
    kith_buf reply;
    bool has_ended, is_finishing;
} reflection;

static reflection *reflection_of(kith_grpc_call *call) {
    return (reflection *)call;
}

static void reflection_read(reflection *r) {
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &r->incoming};
    r->base.pending_count++;
    kith_grpc_call_start_batch(&r->base, &receive, 1, &r->received);
}

static void reflection_finish(reflection *r, kith_status status, const char *message) {
    if (r->is_finishing) return;
    r->is_finishing = true;
    kith_grpc_call_finish(&r->base, status, message, NULL);
}

static void reflection_answer(reflection *r) {
    kith_err err;
    kith_grpc_bytes request = kith_grpc_bytes_open(r->incoming);
    kith_status status = kith_codec_reflection_answer(
        kith_grpc_bytes_data(&request), request.bytes, &r->arena, &r->reply, &err);
    kith_grpc_bytes_close(&request);
    kith_arena_reset(&r->arena);
    if (status != KITH_OK) {
        reflection_finish(r, status, err.text);
        return;
    }
    r->message = kith_grpc_message_of(&r->reply);
    grpc_op send = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = r->message};
    r->base.pending_count++;
    kith_grpc_call_sending(&r->base);
    kith_grpc_call_start_batch(&r->base, &send, 1, &r->sent);
}

static void reflection_received(kith_grpc_tag *tag, bool ok) {
    reflection *r = (reflection *)((char *)tag - offsetof(reflection, received));
    r->base.pending_count--;
    if (!ok || !r->incoming) {
        reflection_finish(r, KITH_OK, "");
    } else {
        if (!r->has_ended) reflection_answer(r);
        grpc_byte_buffer_destroy(r->incoming);
        r->incoming = NULL;
    }
    kith_grpc_call_settle(&r->base);
}

static void reflection_sent(kith_grpc_tag *tag, bool ok) {
    (void)ok; /* the client is gone: the next read says so */
    reflection *r = (reflection *)((char *)tag - offsetof(reflection, sent));
    r->base.pending_count--;
    kith_grpc_call_sent(&r->base);
    grpc_byte_buffer_destroy(r->message);
    r->message = NULL;
    if (r->has_ended)
        reflection_finish(r, KITH_CLOSED, "shutting down");
    else
        reflection_read(r);
    kith_grpc_call_settle(&r->base);
}

static void reflection_started(kith_grpc_tag *tag, bool ok) {
    (void)ok;
    reflection *r = (reflection *)((char *)tag - offsetof(reflection, started));
    r->base.pending_count--;
    kith_grpc_call_settle(&r->base);
}

static void reflection_create(kith_grpc_call *call) {
    reflection *r = reflection_of(call);
    r->started.run = reflection_started;
    r->received.run = reflection_received;
    r->sent.run = reflection_sent;
    kith_arena_init(&r->arena);
    kith_buf_init(&r->reply);
}

static void reflection_destroy(kith_grpc_call *call) {
    kith_arena_fini(&reflection_of(call)->arena);
    kith_buf_fini(&reflection_of(call)->reply);
}

static void reflection_begin(kith_grpc_call *call) {
    grpc_op start = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    call->has_sent_metadata = true;
    call->pending_count++;
    kith_grpc_call_start_batch(call, &start, 1, &reflection_of(call)->started);
    reflection_read(reflection_of(call));
}

/* A message on its way is let go first: the status comes after it. */
static void reflection_end(kith_grpc_call *call) {
    reflection *r = reflection_of(call);
    r->has_ended = true;
    if (!r->message) reflection_finish(r, KITH_CLOSED, "shutting down");
}

static void reflection_recycle(kith_grpc_call *call) {
    reflection_of(call)->has_ended = reflection_of(call)->is_finishing = false;
}

const kith_grpc_kind kith_grpc_kind_reflection = {
    .call_bytes = sizeof(reflection),
    .is_long = true,
    .create = reflection_create,
    .destroy = reflection_destroy,
    .begin = reflection_begin,
    .end = reflection_end,
    .recycle = reflection_recycle,
};
