/* Requests that arrive: bounded, handed to their handler, answered over the connection they came by.
 *
 * A request's bytes stay where UCX put them when it lets us keep them; else they are copied. */
#include "transport/ucx/transport_ucx_internal.h"

static void answer(ucx_link *link, uint64_t call_id, const kith_err *err) {
    ucx_send *send = ucx_send_take(link->transport, 0);
    memcpy(send->text, err->text, strlen(err->text) + 1);
    send->frame = (kith_am_frame){
        .type = KITH_AM_TYPE_REPLY,
        .status = err->status,
        .call = call_id,
        .text = send->text,
        .text_bytes = (uint16_t)strlen(send->text),
    };
    ucx_link_send_take(link, send);
}

static kith_status check_request(const ucx_link *link, const kith_am_frame *frame, kith_err *err) {
    const ucx_transport *transport = link->transport;
    if (transport->was_stopping) return kith_err_set(err, KITH_CLOSED, "the node is shutting down");
    if (!atomic_load_explicit(&transport->is_open, memory_order_acquire))
        return kith_err_set(err, KITH_UNAVAILABLE, "the node is starting: retry in 500 ms");
    if (frame->kind >= KITH_AM_KIND_COUNT || !transport->handlers[frame->kind].run)
        return kith_err_set(
            err, KITH_UNIMPLEMENTED, "no handler for message kind %u on this node", frame->kind);
    if (link->request_count >= transport->in_flight_max)
        return kith_err_set(err, KITH_BUSY,
            "%u requests of one node are being served, the most allowed: retry in 50 ms",
            link->request_count);
    if (link->request_count > 0 && link->request_bytes + frame->body_bytes > transport->in_flight_bytes_max)
        return kith_err_set(err, KITH_BUSY,
            "%u bytes more of one node would be over the %llu allowed at once: retry in 50 ms",
            frame->body_bytes, (unsigned long long)transport->in_flight_bytes_max);
    return KITH_OK;
}

bool ucx_serve_admit(ucx_link *link, const kith_am_frame *frame) {
    kith_err err;
    kith_status status = check_request(link, frame, &err);
    if (status == KITH_OK) return true;
    if (status == KITH_BUSY) ucx_count(&link->transport->counters.busy_replies, 1);
    answer(link, frame->call, &err);
    return false;
}

void ucx_serve_reserve(ucx_link *link, const kith_am_frame *frame) {
    link->request_count++;
    link->request_bytes += frame->body_bytes;
}

void ucx_serve_unreserve(ucx_link *link, const kith_am_frame *frame) {
    link->request_count--;
    link->request_bytes -= frame->body_bytes;
}

/* --- in --- */

/* By the clock of this moment: never before the caller's own deadline. */
static uint64_t deadline_of(const ucx_transport *transport, uint64_t remaining_ns) {
    uint64_t now_ns = kith_env_now_ns(transport->env);
    return remaining_ns < UINT64_MAX - now_ns ? now_ns + remaining_ns : UINT64_MAX;
}

static ucx_request *request_create(ucx_link *link, const kith_am_frame *frame, size_t room_bytes) {
    ucx_transport *transport = link->transport;
    ucx_request *request = kith_alloc(sizeof *request + room_bytes);
    *request = (ucx_request){
        .request = {.kind = (kith_am_kind)frame->kind, .byte_count = frame->body_bytes, .from = link->node},
        .transport = transport,
        .link = link,
        .call_id = frame->call,
        .next = link->requests,
    };
    request->request.cancelled = &request->cancelled;
    request->request.impl[0] = request;
    if (frame->remaining_ns) request->request.deadline_ns = deadline_of(transport, frame->remaining_ns);
    if (request->next) request->next->previous = request;
    link->requests = request;
    ucx_serve_reserve(link, frame);
    link->used_ns = transport->now_ns;
    transport->request_count++;
    return request;
}

static void handler_run(kith_task *task) {
    ucx_request *request = (ucx_request *)(void *)((char *)task - offsetof(ucx_request, task));
    ucx_transport *transport = request->transport;
    const ucx_handler *handler = &transport->handlers[request->request.kind];
    uint64_t deadline_ns = request->request.deadline_ns;
    kith_err err;
    if (atomic_load_explicit(&request->cancelled, memory_order_relaxed)) {
        kith_status status = kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller before it began");
        ucx_serve_reply(&request->request, status, NULL, 0, &err);
    } else if (deadline_ns && kith_env_now_ns(transport->env) > deadline_ns) {
        kith_status status = kith_err_set(&err, KITH_DEADLINE, "deadline exceeded before the request began");
        ucx_serve_reply(&request->request, status, NULL, 0, &err);
    } else {
        handler->run(handler->ctx, &request->request);
    }
}

static void hand_over(ucx_request *request) {
    kith_executor *executor = request->transport->handlers[request->request.kind].executor;
    request->task.run = handler_run;
    if (executor) {
        kith_executor_post(executor, &request->task);
    } else {
        handler_run(&request->task);
    }
}

bool ucx_serve_request(ucx_link *link, const kith_am_frame *frame, void *data, bool is_lasting) {
    bool kept = is_lasting && frame->body_bytes > 0;
    ucx_request *request = request_create(link, frame, kept ? 0 : frame->body_bytes);
    if (kept) {
        request->ucx_data = data;
        request->request.bytes = data;
    } else {
        if (frame->body_bytes) memcpy(request->room, data, frame->body_bytes);
        request->request.bytes = request->room;
    }
    hand_over(request);
    return kept;
}

void ucx_serve_request_take(ucx_link *link, const kith_am_frame *frame, uint8_t *body) {
    ucx_request *request = request_create(link, frame, 0);
    request->body = body;
    request->request.bytes = body;
    hand_over(request);
}

void ucx_serve_cancel(ucx_link *link, uint64_t call_id) {
    for (ucx_request *request = link->requests; request; request = request->next) {
        /* relaxed: the handler only asks whether to go on. */
        if (request->call_id == call_id)
            atomic_store_explicit(&request->cancelled, true, memory_order_relaxed);
    }
}

/* --- out --- */

static void request_leave(ucx_request *request) {
    ucx_link *link = request->link;
    if (request->previous) request->previous->next = request->next;
    if (request->next) request->next->previous = request->previous;
    if (link->requests == request) link->requests = request->next;
    link->request_count--;
    link->request_bytes -= request->request.byte_count;
    request->previous = request->next = NULL;
    request->link = NULL;
}

void ucx_serve_link_gone(ucx_link *link) {
    while (link->requests) {
        atomic_store_explicit(&link->requests->cancelled, true, memory_order_relaxed);
        request_leave(link->requests);
    }
}

static void reply_run(ucx_transport *transport, ucx_item *item) {
    ucx_request *request = (ucx_request *)(void *)((char *)item - offsetof(ucx_request, item));
    ucx_link *link = request->link;
    if (link) {
        request_leave(request);
        ucx_link_send_take(link, request->reply);
    } else {
        ucx_send_release(transport, request->reply);
    }
    if (request->ucx_data) ucp_am_data_release(transport->worker, request->ucx_data);
    ucx_pool_give(&transport->pool, request->body);
    transport->request_count--;
    kith_free(request);
}

/* A small one by the replying thread, when the I/O thread sleeps. */
static void reply_send(ucx_transport *transport, ucx_request *request) {
    bool is_small = request->reply->frame.body_bytes <= KITH_TRANSPORT_UCX_COPY_BYTES;
    if (is_small && ucx_turn_take(transport)) {
        reply_run(transport, &request->item);
        ucx_turn_give(transport);
    } else {
        ucx_post(transport, &request->item);
    }
}

/* The reply as it will travel; one that cannot be made becomes the error that says so. */
static ucx_send *reply_make(
    ucx_transport *transport, kith_status status, const void *bytes, size_t byte_count, const kith_err *err) {
    kith_err own;
    ucx_send *send = NULL;
    if (byte_count > KITH_AM_BODY_BYTES_MAX) {
        status = kith_err_set(&own, KITH_INVALID, "a reply between nodes of %zu bytes, at most %u",
            byte_count, KITH_AM_BODY_BYTES_MAX);
    } else {
        send = ucx_send_create(transport, byte_count);
        if (!send)
            status = kith_err_set(&own, KITH_NO_MEMORY, "no memory for a reply of %zu bytes", byte_count);
    }
    if (!send) {
        byte_count = 0;
        err = &own;
        send = ucx_send_create(transport, 0);
        kith_assert(send != NULL);
    }
    size_t text_bytes = status != KITH_OK && err ? strlen(err->text) : 0;
    if (text_bytes) memcpy(send->text, err->text, text_bytes);
    if (byte_count) memcpy(send->room, bytes, byte_count);
    send->frame = (kith_am_frame){
        .type = KITH_AM_TYPE_REPLY,
        .status = status,
        .body_bytes = (uint32_t)byte_count,
        .text = send->text,
        .text_bytes = (uint16_t)text_bytes,
    };
    return send;
}

void ucx_serve_reply(kith_transport_request *public, kith_status status, const void *bytes, size_t byte_count,
    const kith_err *err) {
    ucx_request *request = public->impl[0];
    request->reply = reply_make(request->transport, status, bytes, byte_count, err);
    request->reply->frame.call = request->call_id;
    request->item.run = reply_run;
    reply_send(request->transport, request);
}
