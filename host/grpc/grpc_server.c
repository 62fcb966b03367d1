/* Start and stop of the gRPC server. */
#include "host/grpc/grpc_server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/grpc/grpc_internal.h"

#define KEEPALIVE_MS         60000 /* a client that vanished is noticed */
#define KEEPALIVE_TIMEOUT_MS 20000
#define PING_LEAST_MS        5000 /* clients may ping this often */
#define ADDRESS_BYTES_MAX    320u

/* --- address --- */

/* gRPC answers a port in use with "no"; trying the address first tells why. */
static kith_status address_try(const struct addrinfo *address, const char *name, kith_err *err) {
    int on = 1, error_number = 0;
    int fd = socket(address->ai_family, address->ai_socktype, address->ai_protocol);
    if (fd < 0) return kith_err_set_errno(err, errno, "gRPC cannot listen on %s", name);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0) error_number = errno;
    /* A listener with SO_REUSEADDR lets another bind, but not listen. */
    if (error_number == 0 && listen(fd, 1) != 0) error_number = errno;
    close(fd);
    if (error_number == 0) return KITH_OK;
    return kith_err_set_errno(err, error_number, "gRPC cannot listen on %s", name);
}

static kith_status address_check(const kith_grpc_server_options *options, const char *name, kith_err *err) {
    char port[8];
    snprintf(port, sizeof port, "%u", options->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int error = getaddrinfo(options->bind_address, port, &hints, &addresses);
    if (error != 0) {
        return kith_err_set(err, KITH_INVALID, "gRPC cannot listen on %s: %s", name, gai_strerror(error));
    }
    kith_status status = KITH_OK;
    for (struct addrinfo *at = addresses; at && status == KITH_OK; at = at->ai_next) {
        status = address_try(at, name, err);
    }
    freeaddrinfo(addresses);
    return status;
}

/* --- start --- */

static void core_log(gpr_log_func_args *args) {
    /* What gRPC calls an error may be a client's fault, or the last words before it aborts. */
    if (args->severity == GPR_LOG_SEVERITY_ERROR)
        kith_log_warn("grpc_core", kith_kv_text("message", args->message));
    else
        kith_log_debug("grpc_core", kith_kv_text("message", args->message));
}

static grpc_arg arg_int(const char *key, int value) {
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

/* gRPC reads a request's message before the call begins and can be admitted. Its quota bounds those of all connections
 * together: near it windows shrink, and beyond it calls whose message is not whole are cancelled. */
static grpc_resource_quota *quota_create(const kith_grpc_server_options *options) {
    size_t least_bytes = 2 * options->message_bytes_max;
    size_t bytes = options->request_bytes_max > least_bytes ? options->request_bytes_max : least_bytes;
    grpc_resource_quota *quota = grpc_resource_quota_create("requests");
    grpc_resource_quota_resize(quota, bytes);
    return quota;
}

static grpc_server *core_create(const kith_grpc_server_options *options) {
    grpc_resource_quota *quota = quota_create(options);
    grpc_arg args[] = {
        arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0), /* or two servers would share the port in silence */
        arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)options->message_bytes_max),
        arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1), /* checked when encoded, with a better message */
        arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, (int)options->streams_max),
        arg_int(GRPC_ARG_MAX_METADATA_SIZE, (int)KITH_GRPC_METADATA_BYTES_MAX),
        arg_int(GRPC_ARG_ENABLE_CHANNELZ, 0), /* counts every call for a debug page that is not served */
        arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_LEAST_MS),
        {.type = GRPC_ARG_POINTER,
            .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
            .value.pointer = {.p = quota, .vtable = grpc_resource_quota_arg_vtable()}},
    };
    grpc_channel_args channel_args = {.num_args = sizeof args / sizeof args[0], .args = args};
    grpc_server *core = grpc_server_create(&channel_args, NULL);
    grpc_resource_quota_unref(quota); /* the server holds it */
    return core;
}

static kith_status core_listen(kith_grpc_server *server, kith_err *err) {
    const kith_grpc_server_options *options = &server->options;
    char name[ADDRESS_BYTES_MAX];
    bool is_ipv6 = strchr(options->bind_address, ':') != NULL;
    snprintf(name, sizeof name, is_ipv6 ? "[%s]:%u" : "%s:%u", options->bind_address, options->port);
    kith_status status = address_check(options, name, err);
    if (status != KITH_OK) return status;
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(server->core, name, credentials);
    grpc_server_credentials_release(credentials);
    if (port <= 0) return kith_err_set(err, KITH_IO, "gRPC cannot listen on %s", name);
    server->port = (uint32_t)port;
    return KITH_OK;
}

static void methods_register(kith_grpc_server *server) {
    kith_metrics *metrics = server->options.metrics;
    for (uint32_t m = 0; m < kith_grpc_method_count; m++) {
        const kith_grpc_method *method = &kith_grpc_methods[m];
        const char *label = method->path ? method->path + 1 : "unknown";
        if (metrics) server->calls_series[m] = kith_metrics_series(metrics, KITH_METRIC_ID_GRPC_CALLS, label);
        if (!method->path) continue;
        server->registered[m] = grpc_server_register_method(server->core, method->path, NULL,
            method->kind->has_payload ? GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER : GRPC_SRM_PAYLOAD_NONE, 0);
    }
}

static grpc_completion_queue *stop_queue_create(void) {
    /* Only ever waited on for the end: it must not take part in polling. */
    grpc_completion_queue_attributes attributes = {.version = GRPC_CQ_CURRENT_VERSION,
        .cq_completion_type = GRPC_CQ_NEXT,
        .cq_polling_type = GRPC_CQ_NON_POLLING};
    const grpc_completion_queue_factory *factory = grpc_completion_queue_factory_lookup(&attributes);
    return grpc_completion_queue_create(factory, &attributes, NULL);
}

static void queues_create(kith_grpc_server *server) {
    server->stop_queue = stop_queue_create();
    grpc_server_register_completion_queue(server->core, server->stop_queue, NULL);
    server->threads = kith_alloc_zero(server->options.thread_count * sizeof *server->threads);
    for (uint32_t i = 0; i < server->options.thread_count; i++) {
        server->threads[i].server = server;
        server->threads[i].queue = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(server->core, server->threads[i].queue, NULL);
    }
}

static kith_grpc_server_options options_filled(const kith_grpc_server_options *options) {
    kith_grpc_server_options filled = *options;
    if (filled.thread_count == 0) filled.thread_count = 1;
    if (filled.calls_max == 0) filled.calls_max = KITH_GRPC_CALLS_MAX;
    if (filled.request_bytes_max == 0) filled.request_bytes_max = KITH_GRPC_REQUEST_BYTES_MAX;
    if (filled.message_bytes_max == 0) filled.message_bytes_max = KITH_MESSAGE_BYTES_MAX;
    if (filled.answer_timeout_ns == 0) filled.answer_timeout_ns = KITH_GRPC_ANSWER_TIMEOUT_NS;
    if (filled.streams_max == 0) filled.streams_max = KITH_GRPC_CONNECTION_CALLS_MAX;
    return filled;
}

kith_status kith_grpc_server_start(
    const kith_grpc_server_options *options, kith_grpc_server **server_out, kith_err *err) {
    if (!getenv("GRPC_VERBOSITY")) gpr_set_log_function(core_log);
    kith_grpc_core_init();
    kith_grpc_server *server = kith_alloc_zero(sizeof *server);
    server->options = options_filled(options);
    kith_mutex_init(&server->idle_mutex, KITH_RANK_API);
    kith_cond_init(&server->idle_changed);
    server->core = core_create(&server->options);
    queues_create(server);
    methods_register(server);
    kith_status status = core_listen(server, err);
    grpc_server_start(server->core); /* also after a failure: only a started server can be shut down */
    for (uint32_t i = 0; i < server->options.thread_count && status == KITH_OK; i++) {
        status = kith_grpc_thread_start(&server->threads[i], i, err);
    }
    if (status != KITH_OK) {
        kith_grpc_server_stop(server, UINT64_C(1000000000));
        return status;
    }
    kith_log_info("grpc_listening", kith_kv_text("address", server->options.bind_address),
        kith_kv_u64("port", server->port));
    *server_out = server;
    return KITH_OK;
}

uint32_t kith_grpc_server_port(const kith_grpc_server *server) {
    return server->port;
}

/* --- stop --- */

#define DRAIN_STEP_NS UINT64_C(50000000)
#define QUIET_NS      UINT64_C(1000000000)

/* False when `wait` passed first. */
static bool stopped_within(kith_grpc_server *server, gpr_timespec wait) {
    return grpc_completion_queue_next(server->stop_queue, wait, NULL).type == GRPC_OP_COMPLETE;
}

/* No call is in flight and no answer is on its way. */
static bool is_quiet(kith_grpc_server *server) {
    return atomic_load_explicit(&server->call_count, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&server->admitted_bytes, memory_order_relaxed) == 0;
}

/* True once the server has stopped by itself. False when `drain_ns` passed, or when it has been quiet for a second: idle clients see that they should go only at their own next poll, and nobody is served meanwhile. */
static bool drained_within(kith_grpc_server *server, uint64_t drain_ns) {
    uint64_t quiet_ns = 0;
    for (uint64_t waited_ns = 0; waited_ns < drain_ns && quiet_ns < QUIET_NS; waited_ns += DRAIN_STEP_NS) {
        gpr_timespec step = gpr_time_from_nanos((int64_t)DRAIN_STEP_NS, GPR_TIMESPAN);
        if (stopped_within(server, gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), step))) return true;
        quiet_ns = is_quiet(server) ? quiet_ns + DRAIN_STEP_NS : 0;
    }
    return false;
}

/* Every call that began was answered by the api and recycled. */
static void idle_wait(kith_grpc_server *server) {
    uint32_t started_count = 0;
    for (uint32_t i = 0; i < server->options.thread_count; i++)
        started_count += server->threads[i].thread != NULL;
    kith_mutex_lock(&server->idle_mutex);
    while (server->idle_count < started_count)
        kith_cond_wait(&server->idle_changed, &server->idle_mutex);
    kith_mutex_unlock(&server->idle_mutex);
}

static void thread_stop(kith_grpc_thread *thread) {
    grpc_completion_queue_shutdown(thread->queue);
    if (thread->thread)
        kith_thread_join(thread->thread);
    else
        kith_grpc_thread_run(thread); /* it never started: its armed calls come back here */
    grpc_completion_queue_destroy(thread->queue);
    for (uint32_t m = 0; m < kith_grpc_method_count; m++) {
        for (kith_grpc_call *call = thread->pools[m].free, *next; call; call = next) {
            next = call->next;
            kith_grpc_call_destroy(call);
        }
    }
}

void kith_grpc_server_stop(kith_grpc_server *server, uint64_t drain_ns) {
    if (!server) return;
    atomic_store_explicit(&server->is_stopping, true, memory_order_relaxed);
    grpc_server_shutdown_and_notify(server->core, server->stop_queue, server);
    if (!drained_within(server, drain_ns)) {
        uint32_t calls = atomic_load_explicit(&server->call_count, memory_order_relaxed);
        if (calls > 0) kith_log_warn("grpc_calls_cancelled", kith_kv_u64("calls", calls));
        grpc_server_cancel_all_calls(server->core);
        (void)stopped_within(server, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    }
    idle_wait(server);
    for (uint32_t i = 0; i < server->options.thread_count; i++)
        thread_stop(&server->threads[i]);
    grpc_completion_queue_shutdown(server->stop_queue);
    while (grpc_completion_queue_next(server->stop_queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(server->stop_queue);
    grpc_server_destroy(server->core);
    kith_cond_fini(&server->idle_changed);
    kith_mutex_fini(&server->idle_mutex);
    kith_free(server->threads);
    kith_free(server);
    grpc_shutdown();
}
