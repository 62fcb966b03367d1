/* UpsertStream: batches in, answers out in the same order, a bounded number in between.
 *
 * Batches wait in a ring of slots, [head, tail). Reading, admitting and moving head happen on the call's
 * thread alone. A batch is answered by whatever thread the api answers on: its slot is sent when it is both
 * done and at the head, and whoever brings the second of the two sends it. So no lock is needed, and at most
 * one message is on its way out, as gRPC demands.
 *
 * Flow control: no message is read while the ring or the stream's bytes are full; gRPC's window then fills
 * and the client's writes wait. */
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/codec/codec_points.h"
#include "host/grpc/grpc_internal.h"

#define SLOTS 16u
/* Above it nothing more is read; one message may pass it. */
#define BYTES_MAX ((size_t)64 << 20)

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "positions wrap around");

typedef enum slot_bit {
    SLOT_DONE = 1, /* its answer is in `reply` */
    SLOT_TURN = 2, /* it is at the head and nothing is being sent */
} slot_bit;

typedef struct upsert_stream upsert_stream;

typedef struct stream_slot {
    upsert_stream *stream;
    _Atomic uint32_t bits; /* of slot_bit */
    kith_arena arena;
    kith_buf reply;
    grpc_byte_buffer *message; /* the answer on its way */
    size_t request_bytes;
    kith_grpc_room room;
    kith_api_write_call write;
    kith_api_refresh refresh;
} stream_slot;

struct upsert_stream {
    kith_grpc_call base;
    kith_grpc_tag started, received, sent;
    grpc_byte_buffer *incoming;
    uint32_t head, tail; /* slots[n % SLOTS] */
    size_t bytes;        /* of the requests in [head, tail) */
    bool is_reading, has_ended /* no more will be read */, is_finishing;
    kith_status end_status;
    stream_slot slots[SLOTS];
};

static upsert_stream *stream_of(kith_grpc_call *call) {
    return (upsert_stream *)call;
}

/* --- answers --- */

/* Any thread; the slot is done and has its turn. */
static void slot_send(stream_slot *slot) {
    slot->message = kith_grpc_message_of(&slot->reply);
    grpc_op send = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = slot->message};
    kith_grpc_call_sending(&slot->stream->base);
    kith_grpc_call_start_batch(&slot->stream->base, &send, 1, &slot->stream->sent);
}

static void slot_mark(stream_slot *slot, slot_bit bit) {
    /* acq_rel: whoever comes second sees what the first wrote to the slot. */
    uint32_t before = atomic_fetch_or_explicit(&slot->bits, bit, memory_order_acq_rel);
    if ((before | bit) == (SLOT_DONE | SLOT_TURN)) slot_send(slot);
}

/* Any thread. */
static void slot_answer(
    stream_slot *slot, kith_status status, const kith_codec_write_response *response, const kith_err *err) {
    const char *message = status == KITH_OK ? "" : err ? err->text : kith_status_text(status);
    if (status >= KITH_IO) {
        kith_log_error("grpc_call_failed", kith_kv_text("method", slot->stream->base.method->path),
            kith_kv_text("status", kith_status_name(status)), kith_kv_text("message", message));
    }
    kith_codec_upsert_stream_response_encode(
        (uint32_t)kith_status_grpc(status), message, response, &slot->reply);
    kith_grpc_server *server = slot->stream->base.thread->server;
    kith_status room = kith_grpc_room_answer(server, &slot->room, slot->reply.bytes, NULL);
    kith_assert(room == KITH_OK); /* a write's answer is short */
    kith_arena_trim(&slot->arena, KITH_GRPC_ARENA_KEPT_BYTES_MAX);
    slot_mark(slot, SLOT_DONE);
}

static void slot_done(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    stream_slot *slot = (stream_slot *)((char *)call - offsetof(stream_slot, write));
    kith_codec_write_response response = {0};
    if (status == KITH_OK) kith_grpc_tokens_copy(tokens, token_count, changed, &slot->arena, &response);
    slot_answer(slot, status, &response, err);
}

/* --- batches --- */

static void stream_advance(upsert_stream *stream);

static void stream_read(upsert_stream *stream) {
    grpc_op receive = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &stream->incoming};
    stream->is_reading = true;
    stream->base.pending_count++;
    kith_grpc_call_start_batch(&stream->base, &receive, 1, &stream->received);
}

/* Any thread. */
static void slot_refreshed(kith_api_refresh *refresh) {
    stream_slot *slot = (stream_slot *)((char *)refresh - offsetof(stream_slot, refresh));
    kith_err err;
    kith_status status = kith_api_upsert(slot->stream->base.thread->server->options.api, &slot->write, &err);
    if (status != KITH_OK) slot_answer(slot, status, NULL, &err);
}

/* A collection that is not known here may have been created elsewhere a moment ago, as for unary calls. */
static bool slot_refreshes(stream_slot *slot, kith_status status) {
    if (status != KITH_NOT_FOUND) return false;
    slot->refresh = (kith_api_refresh){.deadline_ns = slot->write.call.deadline_ns, .done = slot_refreshed};
    return kith_api_refresh_start(slot->stream->base.thread->server->options.api, &slot->refresh);
}

static kith_status slot_start(stream_slot *slot, grpc_byte_buffer *incoming, kith_err *err) {
    upsert_stream *stream = slot->stream;
    kith_grpc_server *server = stream->base.thread->server;
    kith_status status = kith_grpc_room_enter(server, &slot->room, slot->request_bytes, err);
    if (status != KITH_OK) return status;
    kith_grpc_bytes request = kith_grpc_bytes_open(incoming);
    slot->write = (kith_api_write_call){
        .call = {.arena = &slot->arena, .deadline_ns = kith_grpc_call_deadline_ns(&stream->base)},
        .done = slot_done};
    status = kith_grpc_upsert_decode(
        kith_grpc_bytes_data(&request), request.bytes, &slot->arena, &slot->write, err);
    kith_grpc_bytes_close(&request);
    if (status != KITH_OK) return status;
    status = kith_api_upsert(server->options.api, &slot->write, err);
    return slot_refreshes(slot, status) ? KITH_OK : status;
}

static void stream_accept(upsert_stream *stream) {
    stream_slot *slot = &stream->slots[stream->tail % SLOTS];
    grpc_byte_buffer *incoming = stream->incoming;
    stream->incoming = NULL;
    slot->request_bytes = grpc_byte_buffer_length(incoming);
    stream->bytes += slot->request_bytes;
    if (stream->head == stream->tail++) slot_mark(slot, SLOT_TURN);
    kith_err err;
    kith_status status = slot_start(slot, incoming, &err);
    grpc_byte_buffer_destroy(incoming);
    if (status != KITH_OK) slot_answer(slot, status, NULL, &err);
}

static void stream_received(kith_grpc_tag *tag, bool ok) {
    upsert_stream *stream = (upsert_stream *)((char *)tag - offsetof(upsert_stream, received));
    stream->is_reading = false;
    stream->base.pending_count--;
    if (!ok || !stream->incoming) {
        stream->has_ended = true;
    } else if (stream->has_ended) {
        grpc_byte_buffer_destroy(stream->incoming);
        stream->incoming = NULL;
    } else {
        stream_accept(stream);
    }
    stream_advance(stream);
}

static void slot_reset(stream_slot *slot) {
    kith_grpc_room_leave(slot->stream->base.thread->server, &slot->room);
    grpc_byte_buffer_destroy(slot->message);
    slot->message = NULL;
    kith_buf_clear(&slot->reply);
    if (slot->reply.capacity_bytes > KITH_GRPC_REPLY_KEPT_BYTES_MAX) kith_buf_fini(&slot->reply);
    /* relaxed: until it is started again only this thread sees it. */
    atomic_store_explicit(&slot->bits, 0, memory_order_relaxed);
}

static void stream_sent(kith_grpc_tag *tag, bool ok) {
    (void)ok; /* the client is gone: the read fails too and ends the stream */
    upsert_stream *stream = (upsert_stream *)((char *)tag - offsetof(upsert_stream, sent));
    stream_slot *slot = &stream->slots[stream->head % SLOTS];
    kith_grpc_call_sent(&stream->base);
    stream->bytes -= slot->request_bytes;
    slot_reset(slot);
    stream->head++;
    if (stream->head != stream->tail) slot_mark(&stream->slots[stream->head % SLOTS], SLOT_TURN);
    stream_advance(stream);
}

/* --- life --- */

/* Reads on if there is room, or finishes when there is nothing left to do. The call may be gone afterwards.
 */
static void stream_advance(upsert_stream *stream) {
    bool is_empty = stream->head == stream->tail;
    bool has_room = stream->tail - stream->head < SLOTS && stream->bytes < BYTES_MAX;
    if (!stream->has_ended && !stream->is_reading && has_room) {
        stream_read(stream);
    } else if (stream->has_ended && is_empty && !stream->is_finishing) {
        stream->is_finishing = true;
        kith_grpc_call_finish(&stream->base, stream->end_status,
            "shutting down: answers so far are final; send the rest elsewhere or later", NULL);
    }
    kith_grpc_call_settle(&stream->base);
}

static void stream_started(kith_grpc_tag *tag, bool ok) {
    (void)ok;
    upsert_stream *stream = (upsert_stream *)((char *)tag - offsetof(upsert_stream, started));
    stream->base.pending_count--;
    kith_grpc_call_settle(&stream->base);
}

static void stream_create(kith_grpc_call *call) {
    upsert_stream *stream = stream_of(call);
    stream->started.run = stream_started;
    stream->received.run = stream_received;
    stream->sent.run = stream_sent;
    for (uint32_t i = 0; i < SLOTS; i++) {
        stream->slots[i].stream = stream;
        kith_arena_init(&stream->slots[i].arena);
        kith_buf_init(&stream->slots[i].reply);
    }
}

static void stream_destroy(kith_grpc_call *call) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        kith_arena_fini(&stream_of(call)->slots[i].arena);
        kith_buf_fini(&stream_of(call)->slots[i].reply);
    }
}

static void stream_begin(kith_grpc_call *call) {
    grpc_op start = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    call->has_sent_metadata = true;
    call->pending_count++;
    kith_grpc_call_start_batch(call, &start, 1, &stream_of(call)->started);
    stream_advance(stream_of(call));
}

static void stream_cancelled(kith_grpc_call *call) {
    upsert_stream *stream = stream_of(call);
    for (uint32_t i = stream->head; i != stream->tail; i++) {
        /* relaxed: it only asks for less work. */
        atomic_store_explicit(&stream->slots[i % SLOTS].write.call.cancelled, true, memory_order_relaxed);
    }
}

/* The server stops: what was read is still answered. */
static void stream_end(kith_grpc_call *call) {
    upsert_stream *stream = stream_of(call);
    if (!stream->has_ended) stream->end_status = KITH_CLOSED;
    stream->has_ended = true;
    stream_advance(stream);
}

static void stream_recycle(kith_grpc_call *call) {
    upsert_stream *stream = stream_of(call);
    stream->has_ended = stream->is_finishing = false;
    stream->end_status = KITH_OK;
}

const kith_grpc_kind kith_grpc_kind_upsert_stream = {
    .call_bytes = sizeof(upsert_stream),
    .is_long = true,
    .create = stream_create,
    .destroy = stream_destroy,
    .begin = stream_begin,
    .cancelled = stream_cancelled,
    .end = stream_end,
    .recycle = stream_recycle,
};
