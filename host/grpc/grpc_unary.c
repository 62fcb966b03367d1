/* Unary calls: admit, decode, start, answer. */
#include "host/base/log.h"
#include "host/grpc/grpc_internal.h"

/* An answer's buffer is kept for the next call up to this. */
#define REPLY_KEPT_BYTES_MAX (256u << 10)

static kith_grpc_unary *unary_of(kith_grpc_call *call) {
    return (kith_grpc_unary *)call;
}

kith_grpc_unary *kith_grpc_unary_of(void *api_call) {
    return (kith_grpc_unary *)((char *)api_call - offsetof(kith_grpc_unary, api));
}

kith_api_call kith_grpc_unary_api_call(kith_grpc_unary *unary) {
    return (kith_api_call){.arena = &unary->arena, .deadline_ns = kith_grpc_call_deadline_ns(&unary->base)};
}

static void unary_create(kith_grpc_call *call) {
    kith_arena_init(&unary_of(call)->arena);
    kith_buf_init(&unary_of(call)->reply);
}

static void unary_destroy(kith_grpc_call *call) {
    kith_arena_fini(&unary_of(call)->arena);
    kith_buf_fini(&unary_of(call)->reply);
}

static kith_status unary_start(kith_grpc_unary *unary, kith_err *err) {
    kith_grpc_call *call = &unary->base;
    if (!call->payload) return kith_err_set(err, KITH_INVALID, "the call has no request message");
    unary->admitted_bytes = grpc_byte_buffer_length(call->payload);
    kith_status status = kith_grpc_admit(call->thread->server, unary->admitted_bytes, err);
    if (status != KITH_OK) return status;
    unary->is_admitted = true;
    kith_grpc_bytes request = kith_grpc_bytes_open(call->payload);
    status = call->method->start(unary, kith_grpc_bytes_data(&request), request.bytes, err);
    kith_grpc_bytes_close(&request);
    grpc_byte_buffer_destroy(call->payload); /* decoded: not kept while the api works */
    call->payload = NULL;
    return status;
}

static void unary_begin(kith_grpc_call *call) {
    kith_err err;
    kith_status status = unary_start(unary_of(call), &err);
    if (status != KITH_OK) kith_grpc_unary_answer(unary_of(call), status, &err);
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

void kith_grpc_unary_answer(kith_grpc_unary *unary, kith_status status, const kith_err *err) {
    if (status == KITH_OK) {
        kith_grpc_call_finish(&unary->base, KITH_OK, NULL, &unary->reply);
        return;
    }
    const char *message = err ? err->text : kith_status_text(status);
    failure_log(unary, status, message);
    kith_grpc_call_finish(&unary->base, status, message, NULL);
}

static void unary_cancelled(kith_grpc_call *call) {
    /* relaxed: it only asks for less work. */
    atomic_store_explicit(&unary_of(call)->api.call.cancelled, true, memory_order_relaxed);
}

static void unary_recycle(kith_grpc_call *call) {
    kith_grpc_unary *unary = unary_of(call);
    if (unary->is_admitted) kith_grpc_discharge(call->thread->server, unary->admitted_bytes);
    unary->is_admitted = false;
    kith_arena_reset(&unary->arena);
    kith_buf_clear(&unary->reply);
    if (unary->reply.capacity_bytes > REPLY_KEPT_BYTES_MAX) kith_buf_fini(&unary->reply);
}

const kith_grpc_kind kith_grpc_kind_unary = {
    .call_bytes = sizeof(kith_grpc_unary),
    .has_payload = true,
    .create = unary_create,
    .destroy = unary_destroy,
    .begin = unary_begin,
    .cancelled = unary_cancelled,
    .recycle = unary_recycle,
};
