/* Unary calls: admit, decode, start, answer. */
#include "host/base/log.h"
#include "host/grpc/grpc_internal.h"

static kith_grpc_unary *unary_of(kith_grpc_call *call) {
    return (kith_grpc_unary *)call;
}

kith_grpc_unary *kith_grpc_unary_of(void *api_call) {
    return (kith_grpc_unary *)((char *)api_call - offsetof(kith_grpc_unary, api));
}

kith_api_call kith_grpc_unary_api_call(kith_grpc_unary *unary) {
    return (kith_api_call){.arena = &unary->arena, .deadline_ns = kith_grpc_call_deadline_ns(&unary->base)};
}

static void unary_refresh_ended(kith_grpc_tag *tag, bool ok);

static void unary_create(kith_grpc_call *call) {
    kith_arena_init(&unary_of(call)->arena);
    kith_buf_init(&unary_of(call)->reply);
    unary_of(call)->refresh_ended.run = unary_refresh_ended;
}

static void unary_destroy(kith_grpc_call *call) {
    kith_arena_fini(&unary_of(call)->arena);
    kith_buf_fini(&unary_of(call)->reply);
}

static void unary_refreshed(kith_api_refresh *refresh);

/* A collection that is not known here may have been created elsewhere a moment ago: the call waits for a new map, once. */
static bool unary_refreshes(kith_grpc_unary *unary, kith_status status) {
    if (status != KITH_NOT_FOUND || unary->refreshed) return false;
    unary->refreshed = true;
    unary->refresh =
        (kith_api_refresh){.deadline_ns = kith_grpc_call_deadline_ns(&unary->base), .done = unary_refreshed};
    unary->base.pending_count++; /* of refresh_ended */
    if (kith_api_refresh_start(unary->base.thread->server->options.api, &unary->refresh)) return true;
    unary->base.pending_count--;
    return false;
}

/* Decodes the payload and starts the call, or answers it. */
static void unary_start(kith_grpc_unary *unary) {
    kith_grpc_call *call = &unary->base;
    kith_err err;
    grpc_byte_buffer *payload = call->payload;
    call->payload = NULL; /* once started, the call may end at any moment */
    kith_grpc_bytes request = kith_grpc_bytes_open(payload);
    kith_status status = call->method->start(unary, kith_grpc_bytes_data(&request), request.bytes, &err);
    kith_grpc_bytes_close(&request);
    if (status != KITH_OK) {
        call->payload = payload;
        if (unary_refreshes(unary, status)) return;
        call->payload = NULL;
    }
    grpc_byte_buffer_destroy(payload); /* decoded: not kept while the api works */
    if (status != KITH_OK) kith_grpc_unary_answer(unary, status, &err);
}

static void unary_cancelled(kith_grpc_call *call) {
    /* relaxed: it only asks for less work. */
    atomic_store_explicit(&unary_of(call)->api.call.cancelled, true, memory_order_relaxed);
}

/* On a thread that others wait for: a batch of nothing comes back through the call's queue. */
static void unary_refreshed(kith_api_refresh *refresh) {
    kith_grpc_unary *unary =
        (kith_grpc_unary *)(void *)((char *)refresh - offsetof(kith_grpc_unary, refresh));
    kith_grpc_call_start_batch(&unary->base, NULL, 0, &unary->refresh_ended);
}

static void unary_refresh_ended(kith_grpc_tag *tag, bool ok) {
    kith_grpc_unary *unary =
        (kith_grpc_unary *)(void *)((char *)tag - offsetof(kith_grpc_unary, refresh_ended));
    (void)ok; /* a call whose client went away meanwhile is answered all the same */
    unary->base.pending_count--;
    unary_start(unary);
    if (unary->base.is_closed) unary_cancelled(&unary->base);
    kith_grpc_call_settle(&unary->base);
}

static void unary_begin(kith_grpc_call *call) {
    kith_grpc_unary *unary = unary_of(call);
    kith_err err;
    kith_status status = KITH_OK;
    unary->refreshed = false;
    if (!call->payload)
        status = kith_err_set(&err, KITH_INVALID, "the call has no request message");
    else
        status = kith_grpc_room_enter(
            call->thread->server, &unary->room, grpc_byte_buffer_length(call->payload), &err);
    if (status == KITH_OK)
        unary_start(unary);
    else
        kith_grpc_unary_answer(unary, status, &err);
}

/* The boundary logs what this node did wrong; a client's mistakes are the client's to log. */
static void failure_log(const kith_grpc_unary *unary, kith_status status, const char *message) {
    const char *method = unary->base.method->path;
    if (status >= KITH_IO) {
        kith_log_error("grpc_call_failed", kith_kv_text("method", method),
            kith_kv_text("status", kith_status_name(status)), kith_kv_text("message", message));
    } else if (kith_log_wants(KITH_LOG_DEBUG)) {
        kith_log_debug("grpc_call_refused", kith_kv_text("method", method),
            kith_kv_text("status", kith_status_name(status)), kith_kv_text("message", message));
    }
}

static void reply_trim(kith_buf *reply) {
    kith_buf_clear(reply);
    if (reply->capacity_bytes > KITH_GRPC_REPLY_KEPT_BYTES_MAX) kith_buf_fini(reply);
}

static void unary_fail(kith_grpc_unary *unary, kith_status status, const char *message) {
    kith_err own; /* the api's may lie in the arena */
    (void)kith_err_set(&own, status, "%s", message);
    failure_log(unary, status, own.text);
    kith_arena_trim(&unary->arena, KITH_GRPC_ARENA_KEPT_BYTES_MAX);
    reply_trim(&unary->reply);
    kith_grpc_call_finish(&unary->base, status, own.text, NULL);
}

void kith_grpc_unary_answer(kith_grpc_unary *unary, kith_status status, const kith_err *err) {
    kith_err no_room;
    bool is_answer = status == KITH_OK;
    kith_status room = kith_grpc_room_answer(
        unary->base.thread->server, &unary->room, is_answer ? unary->reply.bytes : 0, &no_room);
    if (!is_answer) {
        unary_fail(unary, status, err ? err->text : kith_status_text(status));
    } else if (room != KITH_OK) {
        unary_fail(unary, room, no_room.text);
    } else {
        kith_arena_trim(&unary->arena, KITH_GRPC_ARENA_KEPT_BYTES_MAX);
        kith_grpc_call_finish(&unary->base, KITH_OK, NULL, &unary->reply);
    }
}

static void unary_went_out(kith_grpc_call *call) {
    kith_grpc_room_leave(call->thread->server, &unary_of(call)->room);
}

static void unary_recycle(kith_grpc_call *call) {
    unary_went_out(call);
    reply_trim(&unary_of(call)->reply);
}

const kith_grpc_kind kith_grpc_kind_unary = {
    .call_bytes = sizeof(kith_grpc_unary),
    .has_payload = true,
    .is_brief = true,
    .create = unary_create,
    .destroy = unary_destroy,
    .begin = unary_begin,
    .cancelled = unary_cancelled,
    .recycle = unary_recycle,
    .went_out = unary_went_out,
};
