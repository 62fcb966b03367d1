/* Calls to other processes: numbers, bounds, deadlines, ends.
 *
 * A call has a slot in a table from its start to its end; its number is the slot and how often the slot was used, so a
 * reply that comes late finds nobody. The table is walked where that is rare: a lost connection, a stop, and, each 10 ms
 * while some call has a cancel_watch, for cancelled ones.
 *
 * A small call over a connection that is there is sent by its caller, when the I/O thread sleeps; all others go through it. */
#include "transport/ucx/transport_ucx_internal.h"

#define SLOT_NONE UINT32_MAX

/* --- the table --- */

static void slots_grow(ucx_transport *transport) {
    uint32_t before = transport->slot_count;
    transport->slot_count = before ? 2 * before : 64;
    transport->slots = kith_realloc(transport->slots, transport->slot_count * sizeof *transport->slots);
    for (uint32_t i = transport->slot_count; i-- > before;) {
        transport->slots[i] = (ucx_slot){.generation = 1, .next_free = transport->slot_free};
        transport->slot_free = i;
    }
}

static void slot_take(ucx_transport *transport, ucx_call *call) {
    if (transport->slot_count == 0) transport->slot_free = SLOT_NONE;
    if (transport->slot_free == SLOT_NONE) slots_grow(transport);
    uint32_t index = transport->slot_free;
    ucx_slot *slot = &transport->slots[index];
    transport->slot_free = slot->next_free;
    slot->call = call;
    call->id = (uint64_t)slot->generation << 32 | index;
}

static void slot_give_back(ucx_transport *transport, ucx_call *call) {
    uint32_t index = (uint32_t)call->id;
    ucx_slot *slot = &transport->slots[index];
    slot->call = NULL;
    if (++slot->generation == 0) slot->generation = 1; /* a number is never zero */
    slot->next_free = transport->slot_free;
    transport->slot_free = index;
    call->id = 0;
}

ucx_call *ucx_call_find(ucx_transport *transport, const ucx_link *link, uint64_t id) {
    uint32_t index = (uint32_t)id;
    if (index >= transport->slot_count) return NULL;
    ucx_call *call = transport->slots[index].call;
    return call && call->id == id && call->link == link ? call : NULL;
}

/* --- end --- */

static void finish(ucx_transport *transport, ucx_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err) {
    kith_transport_call *public = ucx_public_of(call);
    if (call->peer) {
        call->peer->in_flight--;
        call->peer->in_flight_bytes -= public->byte_count;
    }
    atomic_fetch_sub_explicit(&transport->counters.calls, 1, memory_order_relaxed); /* only a number */
    public->done(public, status, reply, reply_bytes, err);
}

/* UCX still reads the request: the outcome waits. */
static void end_later(ucx_transport *transport, ucx_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err) {
    call->is_ended = true;
    call->end_status = status;
    call->end_reply = NULL;
    call->end_reply_bytes = reply_bytes;
    call->end_err = NULL;
    if (reply_bytes) {
        call->end_reply = kith_alloc(reply_bytes);
        memcpy(call->end_reply, reply, reply_bytes);
    }
    if (status != KITH_OK) {
        call->end_err = kith_alloc(sizeof *call->end_err);
        *call->end_err = *err;
    }
    transport->ending_count++;
}

void ucx_call_end(ucx_transport *transport, ucx_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err) {
    ucx_heap_remove(transport, call);
    if (ucx_public_of(call)->cancel_watch) transport->watched_count--;
    slot_give_back(transport, call);
    if (call->is_sending) {
        end_later(transport, call, status, reply, reply_bytes, err);
    } else {
        finish(transport, call, status, reply, reply_bytes, err);
    }
}

void ucx_call_sent(ucx_transport *transport, ucx_call *call) {
    call->is_sending = false;
    if (!call->is_ended) return;
    transport->ending_count--;
    void *reply = call->end_reply;
    kith_err *err = call->end_err;
    finish(transport, call, call->end_status, reply, call->end_reply_bytes, err);
    kith_free(reply);
    kith_free(err);
}

static void end_failed(ucx_transport *transport, ucx_call *call, const kith_err *err) {
    ucx_call_end(transport, call, err->status, NULL, 0, err);
}

/* Tells the peer, when it has the request, that nobody waits for the answer. */
static void tell_cancelled(ucx_call *call) {
    if (!call->link || call->link->state != UCX_LINK_READY) return;
    kith_am_frame frame = {.type = KITH_AM_TYPE_CANCEL, .call = call->id};
    ucx_link_send_frame(call->link, &frame);
}

static void end_cancelled(ucx_transport *transport, ucx_call *call) {
    kith_err err;
    (void)kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller");
    tell_cancelled(call);
    end_failed(transport, call, &err);
}

static void end_expired(ucx_transport *transport, ucx_call *call) {
    kith_err err;
    (void)kith_err_set(&err, KITH_DEADLINE, "deadline exceeded while %s node at %s",
        call->link ? "waiting for the" : "connecting to the", ucx_public_of(call)->address);
    tell_cancelled(call);
    end_failed(transport, call, &err);
}

/* --- start --- */

static bool is_cancelled(const kith_transport_call *call) {
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed) ||
           (call->cancel_watch && atomic_load_explicit(call->cancel_watch, memory_order_relaxed));
}

/* Whoever cancels has the table looked at, in which a call is not while it is queued: it is looked at when it comes there. */
static kith_status check_call(
    const ucx_transport *transport, const kith_transport_call *call, kith_err *err) {
    if (atomic_load_explicit(&transport->is_stopping, memory_order_acquire))
        return kith_err_set(err, KITH_CLOSED, "this node is shutting down");
    if (is_cancelled(call)) return kith_err_set(err, KITH_CANCELLED, "cancelled by the caller");
    if (call->byte_count > KITH_AM_BODY_BYTES_MAX)
        return kith_err_set(err, KITH_INVALID, "a request between nodes of %zu bytes, at most %u",
            call->byte_count, KITH_AM_BODY_BYTES_MAX);
    if (call->deadline_ns && transport->now_ns >= call->deadline_ns)
        return kith_err_set(err, KITH_DEADLINE, "deadline exceeded before the request was sent");
    return KITH_OK;
}

static kith_status check_bounds(
    const ucx_transport *transport, const ucx_peer *peer, const kith_transport_call *call, kith_err *err) {
    if (peer->in_flight >= transport->in_flight_max)
        return kith_err_set(err, KITH_BUSY,
            "%u requests to the node at %s are in flight, the most allowed: retry in 50 ms", peer->in_flight,
            peer->address);
    if (peer->in_flight > 0 && peer->in_flight_bytes + call->byte_count > transport->in_flight_bytes_max)
        return kith_err_set(err, KITH_BUSY,
            "%zu bytes more to the node at %s would be over the %llu allowed in flight: retry in 50 ms",
            call->byte_count, peer->address, (unsigned long long)transport->in_flight_bytes_max);
    return KITH_OK;
}

static kith_status check_node(const ucx_peer *peer, const kith_transport_call *call, kith_err *err) {
    const kith_node_id *there = &peer->link->node;
    char wanted[UCX_UUID_TEXT_BYTES], found[UCX_UUID_TEXT_BYTES];
    if (kith_node_id_is_none(&call->node) || kith_node_id_equal(&call->node, there)) return KITH_OK;
    ucx_uuid_text(&call->node, wanted);
    ucx_uuid_text(there, found);
    return kith_err_set(
        err, KITH_UNAVAILABLE, "at %s there is node %s, not node %s", call->address, found, wanted);
}

/* By the clock of this moment, not of this round: with a stale one a peer would give up too early. 0: no deadline. */
static uint64_t remaining_ns(const ucx_transport *transport, const kith_transport_call *call) {
    uint64_t now_ns = kith_env_now_ns(transport->env);
    if (call->deadline_ns == 0) return 0;
    return call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 1;
}

static void send_request(ucx_transport *transport, ucx_call *call) {
    kith_transport_call *public = ucx_public_of(call);
    kith_err err;
    if (check_node(call->peer, public, &err) != KITH_OK) {
        end_failed(transport, call, &err);
        return;
    }
    bool copied = public->byte_count <= KITH_TRANSPORT_UCX_COPY_BYTES;
    ucx_send *send = ucx_send_take(transport, copied ? public->byte_count : 0);
    send->frame = (kith_am_frame){
        .type = KITH_AM_TYPE_REQUEST,
        .kind = (uint16_t) public->kind,
        .call = call->id,
        .remaining_ns = remaining_ns(transport, public),
        .body_bytes = (uint32_t) public->byte_count,
    };
    if (copied) {
        if (public->byte_count) memcpy(send->room, public->bytes, public->byte_count);
    } else {
        send->body = public->bytes;
        send->call = call;
        call->is_sending = true;
    }
    call->link = call->peer->link;
    call->link->used_ns = transport->now_ns;
    ucx_link_send_take(call->link, send);
}

/* It counts from here on. */
static void enter(ucx_transport *transport, ucx_call *call, ucx_peer *peer) {
    kith_transport_call *public = ucx_public_of(call);
    call->peer = peer;
    peer->in_flight++;
    peer->in_flight_bytes += public->byte_count;
    peer->used_ns = transport->now_ns;
    slot_take(transport, call);
    if (public->deadline_ns) ucx_heap_push(transport, call);
    if (public->cancel_watch) ucx_watch_want(transport);
}

static void start_run(ucx_transport *transport, ucx_item *item) {
    ucx_call *call = (ucx_call *)item;
    kith_transport_call *public = ucx_public_of(call);
    kith_err err;
    kith_status status = check_call(transport, public, &err);
    ucx_peer *peer = status == KITH_OK ? ucx_peer_of(transport, public->address) : NULL;
    if (peer) status = check_bounds(transport, peer, public, &err);
    if (status == KITH_BUSY) ucx_count(&transport->counters.busy_replies, 1);
    if (status == KITH_OK) status = ucx_peer_wake(peer, &err);
    if (status != KITH_OK) {
        finish(transport, call, status, NULL, 0, &err);
        return;
    }
    enter(transport, call, peer);
    if (peer->state == UCX_PEER_READY) send_request(transport, call);
}

/* The peer, when nothing stands against sending to it now: whatever does is for the I/O thread to say, for `done` never runs
 * inside the start. */
static ucx_peer *peer_at_hand(ucx_transport *transport, const kith_transport_call *call) {
    kith_err err;
    ucx_peer *peer = ucx_peer_find(transport, call->address);
    if (!peer || peer->state != UCX_PEER_READY || peer->link->is_doomed) return NULL;
    if (check_call(transport, call, &err) != KITH_OK) return NULL;
    if (check_bounds(transport, peer, call, &err) != KITH_OK) return NULL;
    return check_node(peer, call, &err) == KITH_OK ? peer : NULL;
}

/* Whether `call` was sent on this thread; it may then have ended already. */
static bool start_here(ucx_transport *transport, ucx_call *call) {
    const kith_transport_call *public = ucx_public_of(call);
    if (public->byte_count > KITH_TRANSPORT_UCX_COPY_BYTES || !ucx_turn_take(transport)) return false;
    ucx_peer *peer = peer_at_hand(transport, public);
    if (peer) {
        enter(transport, call, peer);
        send_request(transport, call);
    }
    ucx_turn_give(transport);
    return peer != NULL;
}

void ucx_call_start(ucx_transport *transport, kith_transport_call *public) {
    ucx_call *call = ucx_call_of(public);
    atomic_store_explicit(&public->cancelled, false, memory_order_relaxed);
    *call = (ucx_call){.item.run = start_run, .heap_index = UCX_HEAP_NONE};
    ucx_count(&transport->counters.calls, 1);
    if (!start_here(transport, call)) ucx_post(transport, &call->item);
}

/* --- all calls of some kind: `done` may start others, which take new slots, maybe behind the walk's place --- */

void ucx_calls_send_waiting(ucx_transport *transport, ucx_peer *peer) {
    for (uint32_t i = 0; i < transport->slot_count; i++) {
        ucx_call *call = transport->slots[i].call;
        if (call && call->peer == peer && !call->link && peer->state == UCX_PEER_READY)
            send_request(transport, call);
    }
}

void ucx_calls_fail(
    ucx_transport *transport, const ucx_peer *peer, const ucx_link *link, const kith_err *err) {
    for (uint32_t i = 0; i < transport->slot_count; i++) {
        ucx_call *call = transport->slots[i].call;
        if (call && call->peer == peer && (!link || call->link == link)) end_failed(transport, call, err);
    }
}

void ucx_calls_expire(ucx_transport *transport) {
    while (transport->heap_count > 0 && ucx_public_of(transport->heap[0])->deadline_ns <= transport->now_ns)
        end_expired(transport, transport->heap[0]);
}

void ucx_calls_watch(ucx_transport *transport) {
    for (uint32_t i = 0; i < transport->slot_count; i++) {
        ucx_call *call = transport->slots[i].call;
        if (call && is_cancelled(ucx_public_of(call))) end_cancelled(transport, call);
    }
}

void ucx_calls_close(ucx_transport *transport) {
    kith_err err;
    (void)kith_err_set(&err, KITH_CLOSED, "this node is shutting down");
    for (uint32_t i = 0; i < transport->slot_count; i++) {
        ucx_call *call = transport->slots[i].call;
        if (call) end_failed(transport, call, &err);
    }
}
