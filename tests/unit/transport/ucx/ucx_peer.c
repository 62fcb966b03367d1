/* The other node of a test, as a process of its own: listens on 127.0.0.1, prints its port, echoes SEARCH, says to
 * COUNT how often, swallows READ until it ends, and ends when its standard input does, so that it never outlives the test.
 *
 *   ucx_peer PORT NODE      PORT 0: any; NODE: first byte of its node id */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "host/base/bytes.h"
#include "transport/ucx/transport_ucx.h"

#define HELD_MAX 64

typedef struct peer {
    kith_transport *transport;
    uint32_t echo_count;
    _Atomic(uint32_t) held_count;
    kith_transport_request *held[HELD_MAX];
} peer;

/* Both on the I/O thread. */
static void count(void *ctx, kith_transport_request *request) {
    peer *own = ctx;
    uint8_t bytes[4];
    kith_store_u32(bytes, own->echo_count);
    kith_transport_reply(request, own->transport, KITH_OK, bytes, sizeof bytes, NULL);
}

static void echo(void *ctx, kith_transport_request *request) {
    peer *own = ctx;
    own->echo_count++;
    kith_transport_reply(request, own->transport, KITH_OK, request->bytes, request->byte_count, NULL);
}

static void hold(void *ctx, kith_transport_request *request) {
    peer *own = ctx;
    uint32_t at = atomic_fetch_add(&own->held_count, 1);
    if (at < HELD_MAX) own->held[at] = request;
}

static void answer_held(peer *own) {
    for (uint32_t i = 0; i < atomic_load(&own->held_count) && i < HELD_MAX; i++)
        kith_transport_reply(own->held[i], own->transport, KITH_OK, NULL, 0, NULL);
}

int main(int argument_count, char **arguments) {
    kith_err err;
    kith_env *env;
    peer own = {0};
    if (argument_count != 3) return 2;
    if (kith_env_posix_create(&env, &err) != KITH_OK) return 1;
    const kith_transport_ucx_options options = {
        .env = env,
        .node_id = {{(uint8_t)atoi(arguments[2])}},
        .cluster_name = "test",
        .role = "data",
        .bind_address = "127.0.0.1",
        .port = (uint16_t)atoi(arguments[1]),
        .starts_closed = true,
    };
    if (kith_transport_ucx_create(&options, &own.transport, &err) != KITH_OK) {
        fprintf(stderr, "ucx_peer: %s\n", err.text);
        return 1;
    }
    kith_transport_handle(own.transport, KITH_AM_SEARCH, NULL, echo, &own);
    kith_transport_handle(own.transport, KITH_AM_COUNT, NULL, count, &own);
    kith_transport_handle(own.transport, KITH_AM_READ, NULL, hold, &own);
    kith_transport_ucx_open(own.transport);
    printf("%u\n", kith_transport_ucx_port(own.transport));
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    answer_held(&own);
    kith_transport_destroy(own.transport);
    kith_env_posix_destroy(env);
    return 0;
}
