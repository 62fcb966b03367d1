/* The transport between nodes: transport/ucx, with and without credentials. The handler runs on the I/O thread. */
#include <stdio.h>

#include "bench/transport/bench_transport.h"
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "transport/ucx/transport_ucx.h"

#define CLUSTER_NAME "bench"
#define DAY_S        86400

typedef struct node {
    kith_env *env;
    kith_transport *transport;
} node;

static node node_start(const bench_options *options, uint8_t id) {
    kith_err err;
    node started;
    char paths[3][512];
    kith_transport_credentials credentials = {
        .ca_path = paths[0], .certificate_path = paths[1], .key_path = paths[2]};
    snprintf(paths[0], sizeof paths[0], "%s/ca.crt", options->credentials ? options->credentials : "");
    snprintf(paths[1], sizeof paths[1], "%s/node.crt", options->credentials ? options->credentials : "");
    snprintf(paths[2], sizeof paths[2], "%s/node.key", options->credentials ? options->credentials : "");
    kith_log_level_set(KITH_LOG_WARN);
    if (kith_env_posix_create(&started.env, &err) != KITH_OK) bench_fail("env", err.text);
    const kith_transport_ucx_options wanted = {
        .env = started.env,
        .node_id = {{id}},
        .cluster_name = CLUSTER_NAME,
        .bind_address = "127.0.0.1",
        .in_flight_bytes_max = 1ULL << 30,
        .busy_poll = options->busy_poll,
        .credentials = options->credentials ? &credentials : NULL,
    };
    if (kith_transport_ucx_create(&wanted, &started.transport, &err) != KITH_OK) bench_fail("ucx", err.text);
    return started;
}

static void node_end(node *ended) {
    kith_transport_destroy(ended->transport);
    kith_env_posix_destroy(ended->env);
}

void bench_certificates_make(const bench_options *options) {
    kith_err err;
    const kith_transport_certs_node wanted = {
        .ca_dir = options->credentials,
        .dir = options->credentials,
        .name = "node",
        .cluster = CLUSTER_NAME,
        .valid_from_s = -DAY_S,
        .valid_until_s = DAY_S,
    };
    if (!options->credentials) bench_fail("certificates", "--credentials DIR says where");
    if (kith_transport_certs_create_ca(options->credentials, CLUSTER_NAME, 1, &err) != KITH_OK ||
        kith_transport_certs_create_node(&wanted, &err) != KITH_OK)
        bench_fail("certificates", err.text);
}

static void echo(void *ctx, kith_transport_request *request) {
    kith_transport_reply(request, ctx, KITH_OK, request->bytes, request->byte_count, NULL);
}

static void ucx_serve(const bench_options *options) {
    node own = node_start(options, 2);
    kith_transport_handle(own.transport, KITH_AM_SEARCH, NULL, echo, own.transport);
    bench_say_port(kith_transport_ucx_port(own.transport));
    bench_wait_for_end();
    node_end(&own);
}

/* `samples` is of the I/O thread, where every reply arrives. */
typedef struct caller {
    kith_transport *transport;
    bench_samples *samples;
    char address[32];
    kith_mutex mutex; /* the main thread waits for the last reply, and has no queue to be told by */
    kith_cond changed;
    uint32_t running;
} caller;

typedef struct caller_call {
    kith_transport_call call;
    caller *owner;
    uint64_t began_ns;
} caller_call;

static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    caller_call *own = (caller_call *)call;
    caller *owner = own->owner;
    (void)reply;
    (void)reply_bytes;
    if (status != KITH_OK) bench_fail("call", err->text);
    if (bench_note(owner->samples, own->began_ns)) {
        own->began_ns = bench_now_ns();
        kith_transport_start(owner->transport, call);
        return;
    }
    kith_mutex_lock(&owner->mutex);
    owner->running--;
    kith_cond_signal(&owner->changed);
    kith_mutex_unlock(&owner->mutex);
}

static void ucx_measure(const bench_options *options, bench_samples *samples) {
    node own = node_start(options, 1);
    caller owner = {.transport = own.transport, .samples = samples, .running = options->in_flight};
    caller_call *calls = kith_alloc_array(options->in_flight, sizeof *calls);
    void *request = kith_alloc_zero(options->bytes);
    snprintf(owner.address, sizeof owner.address, "127.0.0.1:%u", options->port);
    kith_mutex_init(&owner.mutex, KITH_RANK_LOG);
    kith_cond_init(&owner.changed);
    for (uint32_t i = 0; i < options->in_flight; i++) {
        calls[i] = (caller_call){.owner = &owner, .began_ns = bench_now_ns()};
        calls[i].call = (kith_transport_call){.address = owner.address,
            .kind = KITH_AM_SEARCH,
            .bytes = request,
            .byte_count = options->bytes,
            .done = call_done};
        kith_transport_start(own.transport, &calls[i].call);
    }
    kith_mutex_lock(&owner.mutex);
    while (owner.running > 0)
        kith_cond_wait(&owner.changed, &owner.mutex);
    kith_mutex_unlock(&owner.mutex);
    node_end(&own);
    kith_free(request);
    kith_free(calls);
}

const bench_carrier bench_ucx = {.name = "ucx", .serve = ucx_serve, .measure = ucx_measure};
