/* Calls, requests and replies over the packets of transport_sim_network.c.
 *
 * A call has one timer, which wakes it at its deadline, at the next look at its cancel_watch, or at once when its end is
 * decided. What is left of a call after `done` (the packet on its way, the request at the other side) holds copies and
 * numbers only, so both sides may go in any order. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "transport/sim/transport_sim_internal.h"

#define WATCH_NS 10000000ULL /* between two looks at a call's cancel_watch */

typedef struct sim_call {
    kith_timer timer;
    bool timed, posted; /* the timer was started; its task was posted by hand */
    sim_transport *transport;
    struct sim_call *next;
    kith_transport_call *call; /* NULL: done, and only the task is left to come */
    uint64_t number;
    uint32_t to;
    uint64_t give_up_ns; /* the deadline, or the silence that ends a call without one */
    uint64_t verdict_ns; /* when `verdict` ends it; UINT64_MAX: nothing decided */
    kith_status verdict;
    char *verdict_text; /* owned */
} sim_call;

typedef struct sim_arrival {
    kith_task task;
    sim_transport *transport;
    struct sim_arrival *next;
    uint32_t from;
    uint64_t from_number;
    uint64_t call_number;
    atomic_bool cancelled;
    kith_transport_request request;
    uint8_t bytes[];
} sim_arrival;

/* --- how a call ends --- */

static void call_free(sim_call *own) {
    kith_free(own->verdict_text);
    kith_free(own);
}

static void call_unlink(sim_call *own) {
    sim_call **at = &own->transport->calls;
    while (*at != own)
        at = &(*at)->next;
    *at = own->next;
}

static void call_finish(
    sim_call *own, kith_status status, const void *bytes, size_t byte_count, const kith_err *err) {
    kith_transport_call *call = own->call;
    call_unlink(own);
    own->call = NULL;
    bool task_waits = own->posted || (own->timed && !kith_timer_cancel(&own->timer));
    if (!task_waits) call_free(own); /* else call_run frees it */
    call->done(call, status, bytes, byte_count, err);
}

static void call_cancel_send(const sim_call *own) {
    sim_transport *transport = own->transport;
    sim_transport *to = transport->network->hosts[own->to].transport;
    if (!to) return;
    sim_packet *packet = sim_packet_create(SIM_PACKET_CANCEL, NULL, 0);
    packet->from = transport->host;
    packet->from_number = transport->number;
    packet->call_number = own->number;
    sim_packet_send_take(transport->network, to, packet, kith_env_now_ns(transport->env));
}

static bool call_is_cancelled(const sim_call *own) {
    const atomic_bool *watch = own->call->cancel_watch;
    return atomic_load(&own->call->cancelled) || (watch && atomic_load(watch));
}

static void call_sleep(sim_call *own, uint64_t now_ns) {
    uint64_t due_ns = own->give_up_ns < own->verdict_ns ? own->give_up_ns : own->verdict_ns;
    if (own->call->cancel_watch && due_ns > now_ns + WATCH_NS) due_ns = now_ns + WATCH_NS;
    if (due_ns == UINT64_MAX) return; /* within this process, without a deadline: the reply ends it */
    own->timer.due_ns = due_ns;
    own->timed = true;
    kith_timer_start(&own->timer);
}

/* The verdict of a lost or late call. */
static kith_status call_given_up(const sim_call *own, kith_err *err) {
    if (own->call->deadline_ns)
        return kith_err_set(err, KITH_DEADLINE, "deadline exceeded without an answer");
    return kith_err_set(
        err, KITH_UNAVAILABLE, "the node at %s is silent", own->transport->network->hosts[own->to].address);
}

static void call_run(kith_task *task) {
    sim_call *own = (sim_call *)(void *)((char *)task - offsetof(sim_call, timer.task));
    own->timed = own->posted = false;
    if (!own->call) {
        call_free(own);
        return;
    }
    kith_err err;
    uint64_t now_ns = kith_env_now_ns(own->transport->env);
    if (now_ns >= own->verdict_ns) {
        kith_status status = kith_err_set(&err, own->verdict, "%s", own->verdict_text);
        call_finish(own, status, NULL, 0, &err);
    } else if (call_is_cancelled(own)) {
        call_cancel_send(own);
        kith_status status = kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller");
        call_finish(own, status, NULL, 0, &err);
    } else if (now_ns >= own->give_up_ns) {
        kith_status status = call_given_up(own, &err);
        call_finish(own, status, NULL, 0, &err);
    } else {
        call_sleep(own, now_ns);
    }
}

/* Its task runs now, instead of when its timer is due. */
static void call_wake(sim_call *own) {
    if (own->posted || (own->timed && !kith_timer_cancel(&own->timer))) return;
    own->timed = false;
    own->posted = true;
    kith_executor_post(own->transport->executor, &own->timer.task);
}

/* Decides how the call ends, `delay_ns` from now at the latest. */
static void call_decide(sim_call *own, uint64_t delay_ns, kith_status status, const char *text) {
    uint64_t end_ns = kith_env_now_ns(own->transport->env) + delay_ns;
    if (own->verdict_ns <= end_ns) return;
    kith_free(own->verdict_text);
    own->verdict_ns = end_ns;
    own->verdict = status;
    own->verdict_text = kith_strdup(text);
    call_wake(own); /* to end, or to sleep until then */
}

void sim_transport_calls_fail(
    sim_transport *transport, uint32_t host, uint64_t delay_ns, const char *reason) {
    for (sim_call *own = transport->calls; own; own = own->next) {
        bool meant = own->to == host || (host == UINT32_MAX && own->to != transport->host);
        if (meant) call_decide(own, delay_ns, KITH_UNAVAILABLE, reason);
    }
}

/* --- how a call begins --- */

static void request_send(sim_call *own, const kith_transport_call *call) {
    sim_transport *transport = own->transport;
    kith_transport_sim_network *network = transport->network;
    char text[KITH_ERR_BYTES_MAX];
    sim_transport *to = network->hosts[own->to].transport;
    kith_transport_sim_power power = network->hosts[own->to].power;
    bool refused = power == KITH_TRANSPORT_SIM_REFUSING || (power == KITH_TRANSPORT_SIM_UP && !to);
    if (refused && !network->hosts[transport->host].cut[own->to]) {
        snprintf(text, sizeof text, "nobody listens on %s", network->hosts[own->to].address);
        call_decide(own, sim_link_delay_ns(network, transport->host, own->to), KITH_UNAVAILABLE, text);
        return;
    }
    if (!to) return; /* silence */
    sim_packet *packet = sim_packet_create(SIM_PACKET_REQUEST, call->bytes, call->byte_count);
    packet->from = transport->host;
    packet->from_number = transport->number;
    packet->from_node = transport->node;
    packet->call_number = own->number;
    packet->node = call->node;
    packet->kind = call->kind;
    packet->deadline_ns = call->deadline_ns;
    sim_packet_send_take(network, to, packet, kith_env_now_ns(transport->env));
}

static uint32_t in_flight_count(const sim_transport *transport, uint32_t to) {
    uint32_t count = 0;
    for (const sim_call *own = transport->calls; own; own = own->next)
        count += own->to == to;
    return count;
}

static sim_call *call_create(sim_transport *transport, kith_transport_call *call, uint64_t now_ns) {
    sim_call *own = kith_alloc_zero(sizeof *own);
    own->timer.task.run = call_run;
    own->timer.executor = transport->executor;
    own->transport = transport;
    own->call = call;
    own->number = ++transport->network->number_next;
    own->to = call->address ? kith_transport_sim_host(transport->network, call->address) : transport->host;
    own->give_up_ns = call->deadline_ns ? call->deadline_ns : now_ns + KITH_TRANSPORT_SIM_SILENCE_NS;
    if (!call->deadline_ns && own->to == transport->host) own->give_up_ns = UINT64_MAX;
    own->verdict_ns = UINT64_MAX;
    own->next = transport->calls;
    transport->calls = own;
    return own;
}

static void sim_call_start(kith_transport *base, kith_transport_call *call) {
    sim_transport *transport = (sim_transport *)base;
    kith_transport_sim_network *network = transport->network;
    uint64_t now_ns = kith_env_now_ns(transport->env);
    kith_assert(!transport->closing);
    atomic_store(&call->cancelled, false);
    sim_call *own = call_create(transport, call, now_ns);
    bool away = own->to != transport->host;
    if (now_ns >= own->give_up_ns) {
        call_decide(own, 0, KITH_DEADLINE, "deadline exceeded before the request was sent");
    } else if (in_flight_count(transport, own->to) > transport->in_flight_max) {
        call_decide(own, 0, KITH_BUSY, "too many requests to this node are in flight: retry in 50 ms");
    } else if (away && network->hosts[transport->host].power != KITH_TRANSPORT_SIM_UP) {
        call_decide(own, 0, KITH_UNAVAILABLE, "this host is down");
    } else {
        request_send(own, call);
    }
    if (!own->posted) call_sleep(own, now_ns);
}

/* Its end may have come already, and the caller not have heard of it yet. */
static void sim_call_cancel(kith_transport *base, kith_transport_call *call) {
    sim_transport *transport = (sim_transport *)base;
    atomic_store(&call->cancelled, true);
    for (sim_call *own = transport->calls; own; own = own->next) {
        if (own->call != call) continue;
        call_wake(own);
        return;
    }
}

/* --- requests and replies --- */

static void reply_send(sim_transport *transport, uint32_t host, uint64_t number, sim_packet *packet) {
    kith_transport_sim_network *network = transport->network;
    sim_transport *to = network->hosts[host].transport;
    packet->from = transport->host;
    packet->from_number = transport->number;
    if (!to || to->number != number) {
        sim_packet_destroy(packet); /* who asked is gone */
        return;
    }
    sim_packet_send_take(network, to, packet, kith_env_now_ns(transport->env));
}

static void refusal_send(
    sim_transport *transport, const sim_packet *request, kith_status status, const char *text) {
    sim_packet *packet = sim_packet_create(SIM_PACKET_REPLY, NULL, 0);
    packet->call_number = request->call_number;
    packet->kind = request->kind;
    packet->status = status;
    packet->text = kith_strdup(text);
    reply_send(transport, request->from, request->from_number, packet);
}

static void arrival_unlink(sim_arrival *arrival) {
    sim_arrival **at = &arrival->transport->arrivals;
    while (*at != arrival)
        at = &(*at)->next;
    *at = arrival->next;
}

static void sim_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err) {
    sim_arrival *arrival = (sim_arrival *)(void *)((char *)request - offsetof(sim_arrival, request));
    sim_packet *packet = sim_packet_create(SIM_PACKET_REPLY, bytes, byte_count);
    packet->call_number = arrival->call_number;
    packet->kind = request->kind;
    packet->status = status;
    if (status != KITH_OK) packet->text = kith_strdup(err ? err->text : kith_status_text(status));
    reply_send(arrival->transport, arrival->from, arrival->from_number, packet);
    arrival_unlink(arrival);
    kith_free(arrival);
}

static void arrival_run(kith_task *task) {
    sim_arrival *arrival = (sim_arrival *)task;
    sim_transport *transport = arrival->transport;
    kith_transport_request *request = &arrival->request;
    kith_err err;
    if (atomic_load(&arrival->cancelled)) {
        kith_status status = kith_err_set(&err, KITH_CANCELLED, "cancelled by the caller before it began");
        sim_reply(request, status, NULL, 0, &err);
    } else if (request->deadline_ns && kith_env_now_ns(transport->env) > request->deadline_ns) {
        kith_status status = kith_err_set(&err, KITH_DEADLINE, "deadline exceeded before the request began");
        sim_reply(request, status, NULL, 0, &err);
    } else {
        transport->handlers[request->kind].run(transport->handlers[request->kind].ctx, request);
    }
}

static void request_deliver(sim_transport *transport, const sim_packet *packet) {
    sim_arrival *arrival = kith_alloc(sizeof *arrival + packet->byte_count);
    memset(arrival, 0, sizeof *arrival);
    if (packet->byte_count) memcpy(arrival->bytes, packet->bytes, packet->byte_count);
    arrival->task.run = arrival_run;
    arrival->transport = transport;
    arrival->from = packet->from;
    arrival->from_number = packet->from_number;
    arrival->call_number = packet->call_number;
    arrival->request = (kith_transport_request){.kind = packet->kind,
        .bytes = arrival->bytes,
        .byte_count = packet->byte_count,
        .deadline_ns = packet->deadline_ns,
        .cancelled = &arrival->cancelled,
        .from = packet->from_node};
    arrival->next = transport->arrivals;
    transport->arrivals = arrival;
    kith_executor *executor = transport->handlers[packet->kind].executor;
    if (executor) {
        kith_executor_post(executor, &arrival->task);
    } else {
        arrival_run(&arrival->task);
    }
}

static void node_text(const kith_node_id *node, char text[33]) {
    for (size_t i = 0; i < sizeof node->bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", node->bytes[i]);
}

static void request_arrived(sim_transport *transport, const sim_packet *packet) {
    char text[KITH_ERR_BYTES_MAX], here[33], wanted[33];
    if (!kith_node_id_is_none(&packet->node) && !kith_node_id_equal(&packet->node, &transport->node)) {
        node_text(&transport->node, here);
        node_text(&packet->node, wanted);
        snprintf(text, sizeof text, "node %s is at %s, not %s", here,
            transport->network->hosts[transport->host].address, wanted);
        refusal_send(transport, packet, KITH_UNAVAILABLE, text);
    } else if ((unsigned)packet->kind >= KITH_AM_KIND_COUNT || !transport->handlers[packet->kind].run) {
        snprintf(text, sizeof text, "no handler for message kind %u on this node", (unsigned)packet->kind);
        refusal_send(transport, packet, KITH_UNIMPLEMENTED, text);
    } else {
        request_deliver(transport, packet);
    }
}

static void cancel_arrived(sim_transport *transport, const sim_packet *packet) {
    for (sim_arrival *arrival = transport->arrivals; arrival; arrival = arrival->next) {
        if (arrival->call_number == packet->call_number) atomic_store(&arrival->cancelled, true);
    }
}

/* Late replies find no call. */
static void reply_arrived(sim_transport *transport, const sim_packet *packet) {
    for (sim_call *own = transport->calls; own; own = own->next) {
        if (own->number != packet->call_number) continue;
        kith_err err = {.status = packet->status};
        if (packet->text) snprintf(err.text, sizeof err.text, "%s", packet->text);
        call_finish(own, packet->status, packet->bytes, packet->byte_count, &err);
        return;
    }
}

void sim_transport_packet_arrived(sim_transport *transport, sim_packet *packet) {
    switch (packet->type) {
    case SIM_PACKET_REQUEST:
        request_arrived(transport, packet);
        break;
    case SIM_PACKET_CANCEL:
        cancel_arrived(transport, packet);
        break;
    case SIM_PACKET_REPLY:
        reply_arrived(transport, packet);
        break;
    }
}

/* --- life --- */

static void sim_handle(kith_transport *base, kith_am_kind kind, kith_executor *executor,
    void (*handler)(void *ctx, kith_transport_request *request), void *ctx) {
    sim_transport *transport = (sim_transport *)base;
    kith_assert((unsigned)kind < KITH_AM_KIND_COUNT);
    transport->handlers[kind].executor = executor;
    transport->handlers[kind].run = handler;
    transport->handlers[kind].ctx = ctx;
}

static void packets_drop(sim_transport *transport) {
    sim_packet *next;
    for (sim_packet *packet = transport->packets; packet; packet = next) {
        next = packet->next;
        if (!kith_timer_cancel(&packet->timer)) continue; /* queued: goes when the executor has run it */
        if (packet->next) packet->next->previous = packet->previous;
        if (packet->previous) packet->previous->next = packet->next;
        if (!packet->previous) transport->packets = packet->next;
        sim_packet_destroy(packet);
    }
}

static void sim_destroy(kith_transport *base) {
    sim_transport *transport = (sim_transport *)base;
    kith_assert(transport->calls == NULL);
    kith_assert(transport->arrivals == NULL);
    transport->closing = true;
    packets_drop(transport);
    sim_host *host = &transport->network->hosts[transport->host];
    host->transport = NULL;
    if (host->power == KITH_TRANSPORT_SIM_UP) {
        kith_transport_sim_power_set(
            transport->network, transport->host, KITH_TRANSPORT_SIM_REFUSING); /* tells the peers */
        host->power = KITH_TRANSPORT_SIM_UP;
    }
    kith_executor_destroy(transport->executor);
    kith_free(transport);
}

static const kith_transport_ops sim_ops = {
    .call = sim_call_start,
    .cancel = sim_call_cancel,
    .handle = sim_handle,
    .reply = sim_reply,
    .destroy = sim_destroy,
};

kith_status kith_transport_sim_create(
    const kith_transport_sim_options *options, kith_transport **transport_out, kith_err *err) {
    uint32_t host = kith_transport_sim_host(options->network, options->address);
    if (options->network->hosts[host].transport)
        return kith_err_set(err, KITH_EXISTS, "somebody listens on %s already", options->address);
    if (options->in_flight_max == 0)
        return kith_err_set(err, KITH_INVALID, "a transport needs room for at least one call");
    sim_transport *transport = kith_alloc_zero(sizeof *transport);
    kith_status status = kith_executor_create(options->env, "transport", 1, &transport->executor, err);
    if (status != KITH_OK) {
        kith_free(transport);
        return status;
    }
    transport->base.ops = &sim_ops;
    transport->env = options->env;
    transport->network = options->network;
    transport->number = ++options->network->number_next;
    transport->host = host;
    transport->node = options->node;
    transport->in_flight_max = options->in_flight_max;
    options->network->hosts[host].transport = transport;
    *transport_out = &transport->base;
    return KITH_OK;
}
