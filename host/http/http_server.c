/* Start, stop and routes. libmicrohttpd runs one thread of its own with epoll: its requests are rare and
 * quick. What needs other nodes (http_cluster.h) is answered from another thread, its connection suspended meanwhile.
 *
 * At its limit of connections libmicrohttpd takes no more in, and its timeout starts anew with every byte: clients that
 * trickle would keep probes out. So the limit is ours: beyond it the connection that has gone longest without a finished
 * request is closed, and a new one always gets in. */
#include "host/http/http_server.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "host/base/alloc.h"
#include "host/base/buf.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "host/http/http_cluster.h"

#define CONNECTIONS_MAX      256u
#define CONNECTIONS_SPARE    32u         /* shut down by us, not yet closed by libmicrohttpd */
#define CONNECTION_BYTES_MAX (32u << 10) /* request line, headers and read buffer of one connection */
#define BODY_BYTES_MAX       (64u << 10) /* what is longer is not even read */
#define CALLS_MAX            32u         /* of other nodes: their connections cannot be closed for new ones */
#define IDLE_TIMEOUT_S       60u
#define ADDRESS_BYTES_MAX    320u

typedef struct http_route http_route;

/* An open connection; seen by the daemon's thread alone. */
typedef struct http_peer http_peer;
struct http_peer {
    http_peer *next, *previous; /* longest without a finished request first */
    int fd;
    bool is_shut;
};

/* A request while it is read. */
typedef struct http_request {
    kith_http_server *server;
    const http_route *route; /* NULL: there is none */
    kith_buf body;
    kith_http_cluster_call *call; /* answered, where the route has one */
} http_request;

/* Either `answer`, which fills `body` and returns the HTTP code, or `cluster`. */
struct http_route {
    const char *path;
    const char *content_type;
    unsigned (*answer)(kith_http_server *server, kith_buf *body);
    kith_http_cluster_kind cluster;
};

struct kith_http_server {
    kith_http_server_options options;
    struct MHD_Daemon *daemon;
    uint32_t port;
    /* The daemon's thread's. */
    http_peer *oldest, *newest;
    uint32_t peer_count; /* not shut */
    /* Calls under way: guarded, because they end on other threads and stop waits for them. */
    kith_mutex calls_mutex;
    kith_cond calls_ended;
    kith_http_cluster_call *calls;
    uint32_t call_count;
};

/* --- routes --- */

#define TEXT       "text/plain; charset=utf-8"
#define PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"
#define JSON       "application/json"

static unsigned answer_metrics(kith_http_server *server, kith_buf *body) {
    const kith_http_server_options *options = &server->options;
    if (options->metrics_fn)
        options->metrics_fn(options->ctx, body);
    else if (options->metrics)
        kith_metrics_print(options->metrics, body);
    return MHD_HTTP_OK;
}

static unsigned answer_alive(kith_http_server *server, kith_buf *body) {
    (void)server;
    kith_buf_append_text(body, "ok\n");
    return MHD_HTTP_OK;
}

static unsigned answer_ready(kith_http_server *server, kith_buf *body) {
    kith_err err = {.text = ""};
    const kith_http_server_options *options = &server->options;
    kith_status status =
        options->api ? kith_api_ready(options->api, &err) : options->ready(options->ctx, &err);
    if (status == KITH_OK) (void)answer_alive(server, body);
    if (err.text[0]) { /* why not, or a remark */
        kith_buf_append_text(body, err.text);
        kith_buf_append_text(body, "\n");
    }
    return status == KITH_OK ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static const http_route routes[] = {
    {"/metrics", PROMETHEUS, answer_metrics, KITH_HTTP_CLUSTER_NONE},
    {"/healthz", TEXT, answer_alive, KITH_HTTP_CLUSTER_NONE},
    {"/livez", TEXT, answer_alive, KITH_HTTP_CLUSTER_NONE},
    {"/readyz", TEXT, answer_ready, KITH_HTTP_CLUSTER_NONE},
    {"/v1/cluster/status", JSON, NULL, KITH_HTTP_CLUSTER_STATUS},
    {"/v1/cluster/nodes", JSON, NULL, KITH_HTTP_CLUSTER_NODES},
    {"/v1/cluster/shards", JSON, NULL, KITH_HTTP_CLUSTER_SHARDS},
    {"/v1/cluster/join", JSON, NULL, KITH_HTTP_CLUSTER_JOIN},
    {"/v1/cluster/leave", JSON, NULL, KITH_HTTP_CLUSTER_LEAVE},
    {"/v1/cluster/drain", JSON, NULL, KITH_HTTP_CLUSTER_DRAIN},
    {"/v1/cluster/accept-loss", JSON, NULL, KITH_HTTP_CLUSTER_ACCEPT_LOSS},
};
#define ROUTE_COUNT (sizeof routes / sizeof routes[0])

/* Nodes without clients have nothing but their health. */
static bool route_is_here(const kith_http_server *server, const http_route *route) {
    return server->options.api || !route->cluster;
}

static const http_route *route_find(const kith_http_server *server, const char *path) {
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (strcmp(routes[i].path, path) == 0) return route_is_here(server, &routes[i]) ? &routes[i] : NULL;
    }
    return NULL;
}

static bool method_is_allowed(const http_route *route, const char *method) {
    if (kith_http_cluster_is_change(route->cluster)) return strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    return strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
}

static const char *methods_of(const http_route *route) {
    return kith_http_cluster_is_change(route->cluster) ? "POST" : "GET, HEAD";
}

static unsigned answer_not_found(const kith_http_server *server, kith_buf *body) {
    kith_buf_append_text(body, "nothing is here; there are:\n");
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (!route_is_here(server, &routes[i])) continue;
        kith_buf_append_format(body, "  %s %s\n",
            kith_http_cluster_is_change(routes[i].cluster) ? "POST" : "GET", routes[i].path);
    }
    return MHD_HTTP_NOT_FOUND;
}

/* --- connections --- */

static void peer_append(kith_http_server *server, http_peer *peer) {
    peer->next = NULL;
    peer->previous = server->newest;
    if (peer->previous)
        peer->previous->next = peer;
    else
        server->oldest = peer;
    server->newest = peer;
    server->peer_count++;
}

static void peer_remove(kith_http_server *server, http_peer *peer) {
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        server->oldest = peer->next;
    if (peer->next)
        peer->next->previous = peer->previous;
    else
        server->newest = peer->previous;
    server->peer_count--;
}

/* The daemon sees the end of the connection and closes it. */
static void peer_shut(kith_http_server *server, http_peer *peer) {
    peer_remove(server, peer);
    peer->is_shut = true;
    (void)shutdown(peer->fd, SHUT_RDWR);
}

static void peer_opened(kith_http_server *server, struct MHD_Connection *connection, void **peer_ptr) {
    http_peer *peer = kith_alloc_zero(sizeof *peer);
    peer->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (server->peer_count >= server->options.connections_max) peer_shut(server, server->oldest);
    peer_append(server, peer);
    *peer_ptr = peer;
}

static void peer_closed(kith_http_server *server, void **peer_ptr) {
    http_peer *peer = *peer_ptr;
    if (!peer->is_shut) peer_remove(server, peer);
    kith_free(peer);
    *peer_ptr = NULL;
}

static void peer_changed(
    void *ctx, struct MHD_Connection *connection, void **peer_ptr, enum MHD_ConnectionNotificationCode what) {
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        peer_opened(ctx, connection, peer_ptr);
    else
        peer_closed(ctx, peer_ptr);
}

static void peer_finished_request(kith_http_server *server, http_peer *peer) {
    if (peer->is_shut) return;
    peer_remove(server, peer);
    peer_append(server, peer);
}

/* --- requests --- */

static void request_count(kith_http_server *server, const http_route *route) {
    if (!server->options.metrics) return;
    const char *label = route ? route->path : "unknown";
    kith_series_add(kith_metrics_series(server->options.metrics, KITH_METRIC_ID_HTTP_REQUESTS, label), 1);
}

/* Takes the bytes of `body`. `route` may be NULL. */
static enum MHD_Result reply_queue(struct MHD_Connection *connection, unsigned code, const http_route *route,
    const char *content_type, kith_buf *body) {
    size_t bytes = 0;
    uint8_t *data = kith_buf_take(body, &bytes);
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(bytes, data, kith_free);
    if (!response) {
        kith_free(data);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, methods_of(route));
    enum MHD_Result queued = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return queued;
}

/* --- calls that other threads answer --- */

/* False: there are too many. */
static bool call_add(kith_http_server *server, kith_http_cluster_call *call) {
    kith_mutex_lock(&server->calls_mutex);
    if (server->call_count >= CALLS_MAX) {
        kith_mutex_unlock(&server->calls_mutex);
        return false;
    }
    call->next = server->calls;
    if (call->next) call->next->previous = call;
    server->calls = call;
    server->call_count++;
    kith_mutex_unlock(&server->calls_mutex);
    return true;
}

static void call_remove(kith_http_server *server, kith_http_cluster_call *call) {
    kith_mutex_lock(&server->calls_mutex);
    if (call->previous)
        call->previous->next = call->next;
    else
        server->calls = call->next;
    if (call->next) call->next->previous = call->previous;
    kith_mutex_unlock(&server->calls_mutex);
}

/* Any thread. Resumed, the connection's thread may destroy the call at once; the server waits until it is counted out. */
static void call_done(kith_http_cluster_call *call) {
    kith_http_server *server = call->ctx;
    call_remove(server, call);
    MHD_resume_connection(call->connection);
    kith_mutex_lock(&server->calls_mutex);
    if (--server->call_count == 0) kith_cond_broadcast(&server->calls_ended);
    kith_mutex_unlock(&server->calls_mutex);
}

/* Everyone who asked gets an answer: the api refuses what comes now, and gives up what it is about. */
static void calls_end(kith_http_server *server) {
    kith_mutex_lock(&server->calls_mutex);
    for (kith_http_cluster_call *call = server->calls; call; call = call->next)
        atomic_store_explicit(&call->base.call.cancelled, true, memory_order_relaxed);
    while (server->call_count > 0)
        kith_cond_wait(&server->calls_ended, &server->calls_mutex);
    kith_mutex_unlock(&server->calls_mutex);
}

/* A page of another site can make a browser send a POST, but not with this type. */
static bool body_is_json(struct MHD_Connection *connection) {
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    return type && strncasecmp(type, JSON, strlen(JSON)) == 0;
}

static enum MHD_Result call_refuse(http_request *request, struct MHD_Connection *connection, unsigned code,
    kith_status status, const char *message) {
    kith_buf body;
    kith_buf_init(&body);
    kith_http_error_append(status, message, &body);
    return reply_queue(connection, code, request->route, JSON, &body);
}

static enum MHD_Result call_begin(http_request *request, struct MHD_Connection *connection) {
    kith_http_server *server = request->server;
    kith_http_cluster_kind kind = request->route->cluster;
    if (kith_http_cluster_is_change(kind) && !body_is_json(connection)) {
        return call_refuse(
            request, connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, KITH_INVALID, "Content-Type is not " JSON);
    }
    kith_http_cluster_call *call = kith_http_cluster_create(server->options.api, kind);
    call->done = call_done;
    call->ctx = server;
    call->connection = connection;
    if (!call_add(server, call)) {
        kith_http_cluster_destroy(call);
        return call_refuse(request, connection, (unsigned)kith_status_http(KITH_BUSY), KITH_BUSY,
            "too many questions about the cluster wait for their answers: retry in a second");
    }
    request->call = call;
    MHD_suspend_connection(connection); /* first: the answer may come at once */
    kith_http_cluster_start(call,
        MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "collection"), request->body.data,
        request->body.bytes);
    return MHD_YES;
}

static enum MHD_Result call_answer(http_request *request, struct MHD_Connection *connection) {
    kith_http_cluster_call *call = request->call;
    request->call = NULL;
    enum MHD_Result queued = reply_queue(connection, call->code, request->route, JSON, &call->answer);
    kith_http_cluster_destroy(call);
    return queued;
}

/* --- requests, again --- */

static enum MHD_Result request_answer(
    http_request *request, struct MHD_Connection *connection, const char *method) {
    const http_route *route = request->route;
    if (request->call) return call_answer(request, connection);
    if (route && route->cluster && method_is_allowed(route, method)) {
        request_count(request->server, route);
        return call_begin(request, connection);
    }
    kith_buf body;
    kith_buf_init(&body);
    unsigned code;
    if (!route) {
        code = answer_not_found(request->server, &body);
    } else if (!method_is_allowed(route, method)) {
        const char *and = strchr(methods_of(route), ',') ? "GET and HEAD are" : "POST is";
        kith_buf_append_format(&body, "%.32s is not allowed here; %s\n", method, and);
        code = MHD_HTTP_METHOD_NOT_ALLOWED;
    } else {
        code = route->answer(request->server, &body);
    }
    request_count(request->server, route);
    bool is_page = code != MHD_HTTP_NOT_FOUND && code != MHD_HTTP_METHOD_NOT_ALLOWED;
    return reply_queue(connection, code, route, is_page ? route->content_type : TEXT, &body);
}

static enum MHD_Result body_too_long(struct MHD_Connection *connection) {
    kith_buf body;
    kith_buf_init(&body);
    kith_buf_append_format(&body, "the body has more than %u bytes\n", BODY_BYTES_MAX);
    return reply_queue(connection, MHD_HTTP_CONTENT_TOO_LARGE, NULL, TEXT, &body);
}

static bool body_is_declared_too_long(struct MHD_Connection *connection) {
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length && strlen(length) > 0 &&
           (strlen(length) > 9 || (unsigned long)atol(length) > BODY_BYTES_MAX);
}

/* Called when the headers are there (`*request_ptr` is NULL), with each piece of the body, and at its end. */
static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *path,
    const char *method, const char *version, const char *data, size_t *data_bytes, void **request_ptr) {
    (void)version;
    http_request *request = *request_ptr;
    if (!request) {
        request = kith_alloc_zero(sizeof *request);
        request->server = ctx;
        request->route = route_find(ctx, path);
        kith_buf_init(&request->body);
        *request_ptr = request;
        return body_is_declared_too_long(connection) ? body_too_long(connection) : MHD_YES;
    }
    if (*data_bytes > 0) {
        bool too_long = request->body.bytes + *data_bytes > BODY_BYTES_MAX;
        if (!too_long) kith_buf_append(&request->body, data, *data_bytes);
        *data_bytes = 0;
        return too_long ? MHD_NO : MHD_YES; /* NO: the connection is closed */
    }
    return request_answer(request, connection, method);
}

static void completed(
    void *ctx, struct MHD_Connection *connection, void **request_ptr, enum MHD_RequestTerminationCode why) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK && info) peer_finished_request(ctx, info->socket_context);
    http_request *request = *request_ptr;
    if (request) {
        kith_http_cluster_destroy(request->call);
        kith_buf_fini(&request->body);
    }
    kith_free(request);
    *request_ptr = NULL;
}

/* --- start and stop --- */

/* A socket of our own, so that the reason of a failure is known. */
static kith_status listen_at(
    const struct addrinfo *address, const char *name, int *socket_out, kith_err *err) {
    int on = 1;
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
    if (fd < 0) return kith_err_set_errno(err, errno, "HTTP cannot listen on %s", name);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        int error_number = errno;
        close(fd);
        return kith_err_set_errno(err, error_number, "HTTP cannot listen on %s", name);
    }
    *socket_out = fd;
    return KITH_OK;
}

static kith_status socket_open(const kith_http_server_options *options, int *socket_out, kith_err *err) {
    char name[ADDRESS_BYTES_MAX], port[8];
    bool is_ipv6 = strchr(options->bind_address, ':') != NULL;
    snprintf(name, sizeof name, is_ipv6 ? "[%s]:%u" : "%s:%u", options->bind_address, options->port);
    snprintf(port, sizeof port, "%u", options->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *addresses = NULL;
    int error = getaddrinfo(options->bind_address, port, &hints, &addresses);
    if (error != 0) {
        return kith_err_set(err, KITH_INVALID, "HTTP cannot listen on %s: %s", name, gai_strerror(error));
    }
    kith_status status = listen_at(addresses, name, socket_out, err);
    freeaddrinfo(addresses);
    return status;
}

static uint32_t socket_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;
    char port[8] = "0";
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) return 0;
    (void)getnameinfo((struct sockaddr *)&address, bytes, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return (uint32_t)atol(port);
}

KITH_PRINTF(2, 0) static void daemon_log(void *ctx, const char *format, va_list args) {
    (void)ctx;
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    kith_log_debug("http_daemon", kith_kv_text("message", text));
}

static struct MHD_Daemon *daemon_start(kith_http_server *server, int fd) {
    const kith_http_server_options *options = &server->options;
    return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, daemon_log,
        NULL, /* first: options are read in order */
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
        options->connections_max + CONNECTIONS_SPARE, MHD_OPTION_NOTIFY_CONNECTION, peer_changed, server,
        MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES_MAX, MHD_OPTION_NOTIFY_COMPLETED, completed, server, MHD_OPTION_END);
}

kith_status kith_http_server_start(
    const kith_http_server_options *options, kith_http_server **server_out, kith_err *err) {
    int fd = -1;
    kith_status status = socket_open(options, &fd, err);
    if (status != KITH_OK) return status;
    kith_http_server *server = kith_alloc_zero(sizeof *server);
    server->options = *options;
    if (server->options.connections_max == 0) server->options.connections_max = CONNECTIONS_MAX;
    if (server->options.idle_timeout_s == 0) server->options.idle_timeout_s = IDLE_TIMEOUT_S;
    server->port = socket_port(fd);
    kith_mutex_init(&server->calls_mutex, KITH_RANK_API);
    kith_cond_init(&server->calls_ended);
    server->daemon = daemon_start(server, fd);
    if (!server->daemon) {
        close(fd);
        kith_cond_fini(&server->calls_ended);
        kith_mutex_fini(&server->calls_mutex);
        kith_free(server);
        return kith_err_set(err, KITH_IO, "HTTP cannot start on %s:%u: libmicrohttpd refused",
            options->bind_address, options->port);
    }
    kith_log_info(
        "http_listening", kith_kv_text("address", options->bind_address), kith_kv_u64("port", server->port));
    *server_out = server;
    return KITH_OK;
}

uint32_t kith_http_server_port(const kith_http_server *server) {
    return server->port;
}

void kith_http_server_stop(kith_http_server *server) {
    if (!server) return;
    calls_end(server);
    MHD_stop_daemon(server->daemon); /* closes the socket too */
    kith_cond_fini(&server->calls_ended);
    kith_mutex_fini(&server->calls_mutex);
    kith_free(server);
}
