/* Looking up a host's name may take seconds, so it has a thread of its own. */
#include <netdb.h>
#include <stdio.h>

#include "transport/ucx/transport_ucx_internal.h"

static kith_status resolve(const char *address, int flags, struct sockaddr_storage *resolved_out,
    socklen_t *bytes_out, kith_err *err) {
    char host[NI_MAXHOST], port_text[8];
    uint16_t port;
    kith_status status = ucx_address_split(address, host, sizeof host, &port, err);
    if (status != KITH_OK) return status;
    if (port == 0) return kith_err_set(err, KITH_INVALID, "address '%s' has no port", address);
    snprintf(port_text, sizeof port_text, "%u", port);
    struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int result = getaddrinfo(host, port_text, &hints, &found);
    if (result != 0) return kith_err_set(err, KITH_UNAVAILABLE, "look up %s: %s", host, gai_strerror(result));
    memcpy(resolved_out, found->ai_addr, found->ai_addrlen);
    *bytes_out = found->ai_addrlen;
    freeaddrinfo(found);
    return KITH_OK;
}

static void resolve_run(kith_task *task) {
    ucx_peer *peer = (ucx_peer *)(void *)((char *)task - offsetof(ucx_peer, resolve_task));
    peer->resolve_status =
        resolve(peer->address, 0, &peer->resolved, &peer->resolved_bytes, &peer->resolve_err);
    ucx_post(peer->transport, &peer->resolve_item);
}

void ucx_peer_resolve(ucx_peer *peer) {
    peer->resolve_status =
        resolve(peer->address, AI_NUMERICHOST, &peer->resolved, &peer->resolved_bytes, &peer->resolve_err);
    if (peer->resolve_status == KITH_UNAVAILABLE) {
        peer->resolve_task.run = resolve_run;
        kith_executor_post(peer->transport->resolver, &peer->resolve_task);
    } else {
        ucx_post(peer->transport, &peer->resolve_item);
    }
}
