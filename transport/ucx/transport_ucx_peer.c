/* Addresses that were called: whether there is a connection, one is being made, or the address rests after a failure.
 *
 * A failed address rests 10 ms, then 20, 40 .. 1,000, each shortened by up to half at random so that the nodes of a
 * cluster do not come back all at once. While it rests, calls fail at once: their callers have replicas to try, and
 * deadlines to keep. The first call after the rest dials. */
#include "transport/ucx/transport_ucx_internal.h"

#define REST_MS_MIN 10u
#define REST_MS_MAX 1000u
/* An address that nobody called for so long, with no call in flight, loses its connection and is forgotten. */
#define IDLE_NS (300 * NS_PER_S)

ucx_peer *ucx_peer_find(const ucx_transport *transport, const char *address) {
    uint64_t found;
    bool is_known = kith_map_get(transport->peers, address, strlen(address), &found);
    return is_known ? (ucx_peer *)(uintptr_t)found : NULL;
}

ucx_peer *ucx_peer_of(ucx_transport *transport, const char *address) {
    ucx_peer *peer = ucx_peer_find(transport, address);
    if (peer) return peer;
    peer = kith_alloc_zero(sizeof *peer);
    peer->transport = transport;
    peer->address = kith_strdup(address);
    peer->used_ns = transport->now_ns;
    peer->next = transport->peer_first;
    if (peer->next) peer->next->previous = peer;
    transport->peer_first = peer;
    kith_map_put(transport->peers, address, strlen(address), (uint64_t)(uintptr_t)peer);
    return peer;
}

static void peer_free(ucx_peer *peer) {
    ucx_transport *transport = peer->transport;
    kith_map_remove(transport->peers, peer->address, strlen(peer->address));
    if (peer->previous) peer->previous->next = peer->next;
    if (peer->next) peer->next->previous = peer->previous;
    if (transport->peer_first == peer) transport->peer_first = peer->next;
    kith_free(peer->address);
    kith_free(peer);
}

static uint64_t rest_ns(ucx_peer *peer) {
    uint32_t doublings = peer->failures > 8 ? 8 : peer->failures - 1;
    uint64_t most_ms = (uint64_t)REST_MS_MIN << doublings;
    if (most_ms > REST_MS_MAX) most_ms = REST_MS_MAX;
    uint64_t most_ns = most_ms * NS_PER_MS;
    return most_ns / 2 + kith_rng_below(&peer->transport->rng, most_ns / 2 + 1);
}

void ucx_peer_lost(ucx_peer *peer, const kith_err *err, bool is_failure) {
    ucx_transport *transport = peer->transport;
    kith_err reason = *err;
    (void)kith_err_wrap(&reason, reason.status, "node at %s", peer->address);
    peer->state = UCX_PEER_IDLE;
    peer->link = NULL;
    peer->reason = reason;
    if (is_failure) {
        peer->failures++;
        peer->rest_until_ns = transport->now_ns + rest_ns(peer);
        kith_log_warn("transport_peer_lost", kith_kv_text("address", peer->address),
            kith_kv_text("reason", err->text), kith_kv_u64("failures", peer->failures));
    }
    ucx_calls_fail(transport, peer, NULL, &reason);
}

void ucx_peer_ready(ucx_peer *peer) {
    ucx_count(&peer->transport->counters.connects, 1);
    peer->state = UCX_PEER_READY;
    peer->failures = 0;
    ucx_calls_send_waiting(peer->transport, peer);
}

static void resolved_run(ucx_transport *transport, ucx_item *item) {
    ucx_peer *peer = (ucx_peer *)(void *)((char *)item - offsetof(ucx_peer, resolve_item));
    kith_err err = peer->resolve_err;
    kith_status status = peer->resolve_status;
    if (transport->was_stopping) status = kith_err_set(&err, KITH_CLOSED, "this node is shutting down");
    peer->state = UCX_PEER_DIALLING;
    if (status == KITH_OK) status = ucx_link_dial(peer, &peer->link, &err);
    if (status != KITH_OK) ucx_peer_lost(peer, &err, true);
}

kith_status ucx_peer_wake(ucx_peer *peer, kith_err *err) {
    if (peer->state != UCX_PEER_IDLE) return KITH_OK;
    uint64_t now_ns = peer->transport->now_ns;
    if (now_ns < peer->rest_until_ns)
        return kith_err_set(err, peer->reason.status, "%s (next try in %llu ms)", peer->reason.text,
            (unsigned long long)((peer->rest_until_ns - now_ns) / NS_PER_MS + 1));
    peer->state = UCX_PEER_RESOLVING;
    peer->resolve_item.run = resolved_run;
    ucx_peer_resolve(peer);
    return KITH_OK;
}

void ucx_peers_tick(ucx_transport *transport) {
    for (ucx_peer *peer = transport->peer_first, *next; peer; peer = next) {
        next = peer->next;
        if (peer->in_flight > 0 || transport->now_ns - peer->used_ns < IDLE_NS) continue;
        if (peer->state == UCX_PEER_READY) {
            ucx_link_send_frame(peer->link, &(kith_am_frame){.type = KITH_AM_TYPE_GOODBYE});
            ucx_link_doom(peer->link, KITH_CLOSED, "unused for %u s", (unsigned)(IDLE_NS / NS_PER_S));
        } else if (peer->state == UCX_PEER_IDLE) {
            peer_free(peer);
        }
    }
}

void ucx_peers_free(ucx_transport *transport) {
    while (transport->peer_first)
        peer_free(transport->peer_first);
}
