/* The in-process transport: a call becomes a task on the handler's executor, a reply calls the caller's `done` on the
 * replying thread. Nothing is copied and nothing allocated: the request lives inside the call.
 *
 * Deadlines need no timer here. A handler is promised to answer, it looks at the deadline itself, and no message can be
 * lost on the way; a timer per call would cost more than the call. A request whose deadline has passed before its handler
 * begins is answered DEADLINE without troubling the handler.
 *
 * Bounded: calls in flight. One too many is answered BUSY, through the executor, because `done` never runs inside the
 * call. */
#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "transport/transport.h"

typedef struct loop_handler {
    kith_executor *executor;
    void (*run)(void *ctx, kith_transport_request *request);
    void *ctx;
} loop_handler;

typedef struct loop_transport {
    kith_transport base;
    kith_env *env;
    uint32_t in_flight_max;
    _Atomic uint32_t in_flight;
    loop_handler handlers[KITH_AM_KIND_COUNT];
} loop_transport;

/* What a call's `impl` holds. The task is first: the executor hands it back. */
typedef struct loop_call {
    kith_task task;
    loop_transport *loop;
    kith_transport_request request;
} loop_call;

_Static_assert(sizeof(loop_call) <= sizeof(((kith_transport_call *)0)->impl), "a call embeds its request");
_Static_assert(_Alignof(loop_call) <= _Alignof(void *), "impl is an array of pointers");

static kith_transport_call *call_of(loop_call *inner) {
    return (kith_transport_call *)((char *)inner - offsetof(kith_transport_call, impl));
}

static loop_call *inner_of(kith_transport_call *call) {
    return (loop_call *)(void *)call->impl;
}

static void call_finish(
    loop_call *inner, kith_status status, const void *bytes, size_t byte_count, const kith_err *err) {
    /* Before `done`: it may free the call, and may start the next one in the room that this one leaves. */
    atomic_fetch_sub_explicit(&inner->loop->in_flight, 1, memory_order_relaxed);
    kith_transport_call *call = call_of(inner);
    call->done(call, status, bytes, byte_count, err);
}

static void request_run(kith_task *task) {
    loop_call *inner = (loop_call *)task;
    loop_transport *loop = inner->loop;
    kith_transport_request *request = &inner->request;
    kith_err err;
    if (atomic_load_explicit(request->cancelled, memory_order_relaxed)) {
        kith_status status = kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller before it began");
        call_finish(inner, status, NULL, 0, &err);
        return;
    }
    if (request->deadline_ns && kith_env_now_ns(loop->env) > request->deadline_ns) {
        kith_status status = kith_err_set(&err, KITH_DEADLINE, "deadline exceeded before the request began");
        call_finish(inner, status, NULL, 0, &err);
        return;
    }
    const loop_handler *handler = &loop->handlers[request->kind];
    handler->run(handler->ctx, request);
}

static void refuse_busy_run(kith_task *task) {
    loop_call *inner = (loop_call *)task;
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_BUSY,
        "%u requests between nodes are in flight, the most allowed: retry in 50 ms",
        inner->loop->in_flight_max);
    call_finish(inner, status, NULL, 0, &err);
}

static void refuse_unknown_run(kith_task *task) {
    loop_call *inner = (loop_call *)task;
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_UNIMPLEMENTED, "no handler for message kind %u on this node",
        (unsigned)inner->request.kind);
    call_finish(inner, status, NULL, 0, &err);
}

/* Any executor that has a handler: where a call for a kind without one is refused. */
static kith_executor *any_executor(const loop_transport *loop) {
    for (unsigned kind = 0; kind < KITH_AM_KIND_COUNT; kind++) {
        if (loop->handlers[kind].executor) return loop->handlers[kind].executor;
    }
    return NULL;
}

static void loop_call_start(kith_transport *transport, kith_transport_call *call) {
    loop_transport *loop = (loop_transport *)transport;
    loop_call *inner = inner_of(call);
    atomic_store_explicit(&call->cancelled, false, memory_order_relaxed);
    inner->loop = loop;
    inner->request = (kith_transport_request){
        .kind = call->kind,
        .bytes = call->bytes,
        .byte_count = call->byte_count,
        .deadline_ns = call->deadline_ns,
        .cancelled = call->cancel_watch ? call->cancel_watch : &call->cancelled,
    };
    uint32_t before = atomic_fetch_add_explicit(&loop->in_flight, 1, memory_order_relaxed);
    bool known = (unsigned)call->kind < KITH_AM_KIND_COUNT && loop->handlers[call->kind].run;
    inner->task.run = !known                          ? refuse_unknown_run
                      : before >= loop->in_flight_max ? refuse_busy_run
                                                      : request_run;
    kith_executor *executor = known ? loop->handlers[call->kind].executor : NULL;
    if (!executor && inner->task.run == request_run) {
        request_run(&inner->task);
        return;
    }
    if (!executor) executor = any_executor(loop);
    kith_assert(executor != NULL); /* handlers are registered before the first call */
    kith_executor_post(executor, &inner->task);
}

static void loop_cancel(kith_transport *transport, kith_transport_call *call) {
    (void)transport;
    atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
}

static void loop_handle(kith_transport *transport, kith_am_kind kind, kith_executor *executor,
    void (*handler)(void *ctx, kith_transport_request *request), void *ctx) {
    loop_transport *loop = (loop_transport *)transport;
    kith_assert((unsigned)kind < KITH_AM_KIND_COUNT);
    loop->handlers[kind] = (loop_handler){.executor = executor, .run = handler, .ctx = ctx};
}

static void loop_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err) {
    loop_call *inner = (loop_call *)(void *)((char *)request - offsetof(loop_call, request));
    call_finish(inner, status, bytes, byte_count, err);
}

static void loop_destroy(kith_transport *transport) {
    loop_transport *loop = (loop_transport *)transport;
    kith_assert(atomic_load_explicit(&loop->in_flight, memory_order_relaxed) == 0);
    kith_free(loop);
}

static const kith_transport_ops loop_ops = {
    .call = loop_call_start,
    .cancel = loop_cancel,
    .handle = loop_handle,
    .reply = loop_reply,
    .destroy = loop_destroy,
};

kith_status kith_transport_loop_create(
    kith_env *env, uint32_t in_flight_max, kith_transport **transport_out, kith_err *err) {
    if (in_flight_max == 0)
        return kith_err_set(err, KITH_INVALID, "a transport needs room for at least one call");
    loop_transport *loop = kith_alloc_zero(sizeof *loop);
    loop->base.ops = &loop_ops;
    loop->env = env;
    loop->in_flight_max = in_flight_max;
    *transport_out = &loop->base;
    return KITH_OK;
}
