/* Calls to this very process: as the loop transport does them, with the node's own id in `from`. */
#include "transport/ucx/transport_ucx_internal.h"

bool ucx_local_is_for(const ucx_transport *transport, const kith_transport_call *call) {
    return !call->address || strcmp(call->address, transport->address) == 0;
}

static kith_transport_call *call_of(ucx_local_call *local) {
    return (kith_transport_call *)(void *)((char *)local - offsetof(kith_transport_call, impl));
}

static ucx_local_call *local_of(kith_transport_request *request) {
    return (ucx_local_call *)(void *)((char *)request - offsetof(ucx_local_call, request));
}

static void finish(
    ucx_local_call *local, kith_status status, const void *bytes, size_t byte_count, const kith_err *err) {
    ucx_transport *transport = local->transport;
    kith_transport_call *call = call_of(local);
    if (status == KITH_BUSY) ucx_count(&transport->counters.busy_replies, 1);
    atomic_fetch_sub_explicit(&transport->counters.calls, 1, memory_order_relaxed); /* only a number */
    /* Before `done`, which may start the next call in the room that this one leaves. */
    atomic_fetch_sub_explicit(&transport->local_in_flight, 1, memory_order_relaxed);
    call->done(call, status, bytes, byte_count, err);
    /* Last: destroy waits for it. release: pairs with the acquire in the loop's stop. */
    atomic_fetch_sub_explicit(&transport->local_undone, 1, memory_order_release);
}

/* Why `local` does not reach its handler, or OK. */
static kith_status check(const ucx_local_call *local, uint32_t in_flight, kith_err *err) {
    const ucx_transport *transport = local->transport;
    const kith_transport_request *request = &local->request;
    const kith_transport_call *call =
        (const kith_transport_call *)(const void *)((const char *)local -
                                                    offsetof(kith_transport_call, impl));
    char wanted[UCX_UUID_TEXT_BYTES], found[UCX_UUID_TEXT_BYTES];
    if (atomic_load_explicit(&transport->is_stopping, memory_order_acquire))
        return kith_err_set(err, KITH_CLOSED, "this node is shutting down");
    if (!kith_node_id_is_none(&call->node) && !kith_node_id_equal(&call->node, &transport->node_id)) {
        ucx_uuid_text(&call->node, wanted);
        ucx_uuid_text(&transport->node_id, found);
        return kith_err_set(err, KITH_UNAVAILABLE, "this is node %s, not node %s", found, wanted);
    }
    if ((unsigned)request->kind >= KITH_AM_KIND_COUNT || !transport->handlers[request->kind].run)
        return kith_err_set(
            err, KITH_UNIMPLEMENTED, "no handler for message kind %u on this node", (unsigned)request->kind);
    if (in_flight >= transport->in_flight_max)
        return kith_err_set(err, KITH_BUSY,
            "%u requests to this node itself are in flight, the most allowed: retry in 50 ms", in_flight);
    return KITH_OK;
}

static void request_run(kith_task *task) {
    ucx_local_call *local = (ucx_local_call *)task;
    const ucx_handler *handler = &local->transport->handlers[local->request.kind];
    kith_err err;
    if (atomic_load_explicit(local->request.cancelled, memory_order_relaxed)) {
        kith_status status = kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller before it began");
        finish(local, status, NULL, 0, &err);
    } else if (local->request.deadline_ns &&
               kith_env_now_ns(local->transport->env) > local->request.deadline_ns) {
        kith_status status = kith_err_set(&err, KITH_DEADLINE, "deadline exceeded before the request began");
        finish(local, status, NULL, 0, &err);
    } else {
        handler->run(handler->ctx, &local->request);
    }
}

/* On the I/O thread: `done` never runs inside the call that starts it. */
typedef struct refused_call {
    ucx_item item;
    ucx_transport *transport;
    kith_status status;
    kith_err err;
    ucx_local_call *local;
} refused_call;

static void refused_run(ucx_transport *transport, ucx_item *item) {
    refused_call *refused = (refused_call *)item;
    (void)transport;
    finish(refused->local, refused->status, NULL, 0, &refused->err);
    kith_free(refused);
}

static void refuse(ucx_local_call *local, const kith_err *err) {
    refused_call *refused = kith_alloc(sizeof *refused);
    *refused = (refused_call){.item.run = refused_run, .status = err->status, .err = *err, .local = local};
    ucx_post(local->transport, &refused->item);
}

void ucx_local_start(ucx_transport *transport, kith_transport_call *call) {
    ucx_local_call *local = (ucx_local_call *)(void *)call->impl;
    kith_err err;
    atomic_store_explicit(&call->cancelled, false, memory_order_relaxed);
    ucx_count(&transport->counters.calls, 1);
    *local = (ucx_local_call){
        .task.run = request_run,
        .transport = transport,
        .request = {.kind = call->kind,
            .bytes = call->bytes,
            .byte_count = call->byte_count,
            .deadline_ns = call->deadline_ns,
            .cancelled = call->cancel_watch ? call->cancel_watch : &call->cancelled,
            .from = transport->node_id},
    };
    atomic_fetch_add_explicit(&transport->local_undone, 1, memory_order_relaxed);
    uint32_t before = atomic_fetch_add_explicit(&transport->local_in_flight, 1, memory_order_relaxed);
    if (check(local, before, &err) != KITH_OK) {
        refuse(local, &err);
        return;
    }
    kith_executor *executor = transport->handlers[call->kind].executor;
    if (executor) {
        kith_executor_post(executor, &local->task);
    } else {
        request_run(&local->task);
    }
}

void ucx_local_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err) {
    finish(local_of(request), status, bytes, byte_count, err);
}
