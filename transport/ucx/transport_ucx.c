/* Options, create, destroy, and the table of operations. */
#include "transport/ucx/transport_ucx.h"

#include <stdio.h>

#include "host/base/text.h"
#include "transport/ucx/transport_ucx_internal.h"

#define IN_FLIGHT_DEFAULT        1024u
#define IN_FLIGHT_BYTES_DEFAULT  (64ULL << 20)
#define PING_INTERVAL_MS_DEFAULT 500u
#define PING_TIMEOUT_MS_DEFAULT  1500u

static void transport_call(kith_transport *base, kith_transport_call *call) {
    ucx_transport *transport = (ucx_transport *)base;
    if (ucx_local_is_for(transport, call)) {
        ucx_local_start(transport, call);
    } else {
        ucx_call_start(transport, call);
    }
}

static void transport_cancel(kith_transport *base, kith_transport_call *call) {
    ucx_transport *transport = (ucx_transport *)base;
    atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
    /* Sequentially consistent, as ucx_wake: one of the two threads sees the other's store. */
    atomic_store(&transport->cancel_is_wanted, true);
    ucx_wake(transport);
}

static void transport_handle(kith_transport *base, kith_am_kind kind, kith_executor *executor,
    void (*handler)(void *ctx, kith_transport_request *request), void *ctx) {
    ucx_transport *transport = (ucx_transport *)base;
    kith_assert((unsigned)kind < KITH_AM_KIND_COUNT);
    transport->handlers[kind] = (ucx_handler){.executor = executor, .run = handler, .ctx = ctx};
}

void kith_transport_ucx_open(kith_transport *base) {
    atomic_store_explicit(&((ucx_transport *)base)->is_open, true, memory_order_release);
}

static void transport_reply(kith_transport_request *request, kith_status status, const void *bytes,
    size_t byte_count, const kith_err *err) {
    if (request->impl[0]) {
        ucx_serve_reply(request, status, bytes, byte_count, err);
    } else {
        ucx_local_reply(request, status, bytes, byte_count, err);
    }
}

static void free_all(ucx_transport *transport) {
    while (transport->spare_sends) {
        ucx_send *send = transport->spare_sends;
        transport->spare_sends = send->next;
        ucx_pool_give(&transport->pool, send);
    }
    ucx_pool_fini(&transport->pool);
    ucx_links_free(transport);
    ucx_peers_free(transport);
    kith_map_destroy(transport->peers);
    kith_map_destroy(transport->links_by_ep);
    ucx_tls_context_destroy(transport->tls);
    kith_free(transport->slots);
    kith_free(transport->heap);
    kith_free(transport->cluster_name);
    kith_free(transport->role);
    kith_free(transport->bind_address);
    kith_free(transport->address);
    kith_free(transport);
}

static void transport_destroy(kith_transport *base) {
    ucx_transport *transport = (ucx_transport *)base;
    atomic_store(&transport->is_stopping, true);
    ucx_wake(transport);
    kith_thread_join(transport->thread);
    kith_executor_destroy(transport->resolver);
    ucx_setup_undo(transport);
    free_all(transport);
}

static const kith_transport_ops ucx_ops = {
    .call = transport_call,
    .cancel = transport_cancel,
    .handle = transport_handle,
    .reply = transport_reply,
    .destroy = transport_destroy,
};

/* --- create --- */

static kith_status check_options(const kith_transport_ucx_options *options, kith_err *err) {
    if (kith_node_id_is_none(&options->node_id)) return kith_err_set(err, KITH_INVALID, "a node needs an id");
    if (!options->cluster_name || !options->cluster_name[0] ||
        strlen(options->cluster_name) > KITH_NAME_BYTES_MAX)
        return kith_err_set(err, KITH_INVALID, "a cluster's name has 1..%u bytes", KITH_NAME_BYTES_MAX);
    for (const char *at = options->cluster_name; *at; at++)
        if (*at <= 0x20 || *at > 0x7e || *at == '/')
            return kith_err_set(err, KITH_INVALID,
                "cluster name '%s' may have letters, digits and marks of ASCII, no '/' and no space",
                options->cluster_name);
    if (options->role && strlen(options->role) > KITH_AM_ROLE_BYTES_MAX)
        return kith_err_set(
            err, KITH_INVALID, "role '%s' has more than %u bytes", options->role, KITH_AM_ROLE_BYTES_MAX);
    return KITH_OK;
}

static ucx_transport *transport_alloc(const kith_transport_ucx_options *options) {
    ucx_transport *transport = kith_alloc_zero(sizeof *transport);
    uint32_t interval_ms = options->ping_interval_ms ? options->ping_interval_ms : PING_INTERVAL_MS_DEFAULT;
    uint32_t timeout_ms = options->ping_timeout_ms ? options->ping_timeout_ms : PING_TIMEOUT_MS_DEFAULT;
    uint64_t seed;
    transport->base.ops = &ucx_ops;
    transport->env = options->env;
    transport->node_id = options->node_id;
    transport->cluster_name = kith_strdup(options->cluster_name);
    transport->role = kith_strdup(options->role ? options->role : "");
    transport->bind_address = kith_strdup(options->bind_address ? options->bind_address : "0.0.0.0");
    atomic_init(&transport->is_open, !options->starts_closed);
    transport->in_flight_max = options->in_flight_max ? options->in_flight_max : IN_FLIGHT_DEFAULT;
    transport->in_flight_bytes_max =
        options->in_flight_bytes_max ? options->in_flight_bytes_max : IN_FLIGHT_BYTES_DEFAULT;
    transport->ping_interval_ns = interval_ms * NS_PER_MS;
    transport->ping_timeout_ns = timeout_ms * NS_PER_MS;
    transport->busy_poll = options->busy_poll;
    transport->watch_ns = UINT64_MAX;
    atomic_init(&transport->turn, UCX_TURN_LOOP);
    transport->peers = kith_map_create(16);
    transport->links_by_ep = kith_map_create(16);
    kith_env_random(options->env, &seed, sizeof seed);
    kith_rng_init(&transport->rng, seed);
    ucx_pool_init(&transport->pool);
    return transport;
}

static kith_status read_credentials(
    ucx_transport *transport, const kith_transport_ucx_options *options, kith_err *err) {
    if (!options->credentials) return KITH_OK;
    transport->mac = !options->mac_off;
    return ucx_tls_context_create(options->credentials, options->cluster_name, &transport->tls, err);
}

/* The address that others call, once the port is known. */
static kith_status name_self(ucx_transport *transport, const char *advertised, kith_err *err) {
    char host[KITH_NAME_BYTES_MAX], text[KITH_NAME_BYTES_MAX + 16];
    uint16_t port;
    if (!advertised) advertised = transport->bind_address;
    kith_status status = ucx_address_split(advertised, host, sizeof host, &port, err);
    if (status != KITH_OK) return status;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port ? port : transport->port);
    transport->address = kith_strdup(text);
    return KITH_OK;
}

static kith_status start_threads(ucx_transport *transport, kith_err *err) {
    kith_status status = kith_executor_create(transport->env, "resolve", 1, &transport->resolver, err);
    if (status != KITH_OK) return status;
    status = kith_thread_start(transport->env, "transport", ucx_loop_run, transport, &transport->thread, err);
    if (status != KITH_OK) kith_executor_destroy(transport->resolver);
    return status;
}

kith_status kith_transport_ucx_create(
    const kith_transport_ucx_options *options, kith_transport **transport_out, kith_err *err) {
    kith_status status = check_options(options, err);
    if (status != KITH_OK) return status;
    ucx_transport *transport = transport_alloc(options);
    status = read_credentials(transport, options, err);
    if (status != KITH_OK) goto err_free;
    status = ucx_setup(transport, options->port, err);
    if (status != KITH_OK) goto err_free;
    status = name_self(transport, options->advertise_address, err);
    if (status == KITH_OK) status = start_threads(transport, err);
    if (status != KITH_OK) goto err_undo_setup;
    *transport_out = &transport->base;
    return KITH_OK;
err_undo_setup:
    ucx_setup_undo(transport);
err_free:
    free_all(transport);
    return kith_err_wrap(err, status, "node transport");
}

/* --- looking --- */

uint16_t kith_transport_ucx_port(const kith_transport *transport) {
    return ((const ucx_transport *)transport)->port;
}

const char *kith_transport_ucx_address(const kith_transport *transport) {
    return ((const ucx_transport *)transport)->address;
}

static uint64_t read_counter(const _Atomic(uint64_t) *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void kith_transport_ucx_stats_get(const kith_transport *base, kith_transport_ucx_stats *stats_out) {
    const ucx_counters *counters = &((const ucx_transport *)base)->counters;
    *stats_out = (kith_transport_ucx_stats){
        .sent_messages = read_counter(&counters->sent_messages),
        .sent_bytes = read_counter(&counters->sent_bytes),
        .received_messages = read_counter(&counters->received_messages),
        .received_bytes = read_counter(&counters->received_bytes),
        .connects = read_counter(&counters->connects),
        .connection_losses = read_counter(&counters->connection_losses),
        .failed_hellos = read_counter(&counters->failed_hellos),
        .busy_replies = read_counter(&counters->busy_replies),
        .connections = read_counter(&counters->connections),
        .calls = read_counter(&counters->calls),
    };
}
