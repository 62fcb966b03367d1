/* UCX itself: its environment, one context, one worker, one listener.
 *
 * Endpoints ask for error handling (UCP_ERR_HANDLING_MODE_PEER): a peer's death must be an event. UCX 1.13 then never
 * chooses shared memory between processes of one host; TCP over loopback is what they get. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <ucs/debug/debug.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

#include "host/base/text.h"
#include "transport/ucx/transport_ucx_internal.h"

/* What the user has set stays. */
static void environment_default(const char *name, const char *value) {
    setenv(name, value, 0);
}

static bool address_is_loopback(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

static void environment_prepare(const struct sockaddr_storage *bound) {
    /* A node that starts again listens where it did. */
    environment_default("UCX_TCP_CM_REUSEADDR", "y");
    /* Else a connection over loopback is striped onto another interface too. */
    if (address_is_loopback(bound)) environment_default("UCX_NET_DEVICES", "lo");
}

/* Listeners that are closed from below (dials_end): UCX tells of each look at them, thousands of times. */
static _Atomic(uint32_t) closed_count;

/* Warnings go to our log; what somebody asked for with UCX_LOG_LEVEL goes where UCX writes. */
static ucs_log_func_rc_t library_logged(const char *file, unsigned line, const char *function,
    ucs_log_level_t level, const ucs_log_component_config_t *component, const char *format,
    va_list arguments) {
    char text[KITH_ERR_BYTES_MAX];
    (void)file;
    (void)line;
    (void)function;
    (void)component;
    if (level > UCS_LOG_LEVEL_WARN) return UCS_LOG_FUNC_RC_CONTINUE;
    vsnprintf(text, sizeof text, format, arguments);
    if (atomic_load(&closed_count) && strncmp(text, "accept() failed", strlen("accept() failed")) == 0)
        return UCS_LOG_FUNC_RC_STOP;
    kith_log_warn("ucx", kith_kv_text("text", text));
    return UCS_LOG_FUNC_RC_STOP;
}

/* What UCX did to the process when it was loaded, before its environment could be set here: handlers of crashes, which make
 * a hang of them. Once a process, as there is one UCX in it. */
static void library_tame(void) {
    static const int caught[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE};
    static atomic_flag is_tame = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set(&is_tame)) return;
    ucs_log_push_handler(library_logged);
    for (size_t i = 0; i < sizeof caught / sizeof *caught && !getenv("UCX_HANDLE_ERRORS"); i++)
        ucs_debug_disable_signal(caught[i]);
}

kith_status ucx_address_split(
    const char *address, char *host_out, size_t host_bytes, uint16_t *port_out, kith_err *err) {
    const char *host = address, *colon = strrchr(address, ':'), *end;
    bool bracketed = address[0] == '[';
    if (bracketed) {
        const char *bracket = strchr(address, ']');
        if (!bracket) return kith_err_set(err, KITH_INVALID, "address '%s' has no ']'", address);
        host++;
        end = bracket;
        colon = bracket[1] == ':' ? bracket + 1 : NULL;
        if (!colon && bracket[1])
            return kith_err_set(err, KITH_INVALID, "address '%s' is not host:port", address);
    } else {
        if (colon && strchr(address, ':') != colon) colon = NULL; /* a bare IPv6 address */
        end = colon ? colon : address + strlen(address);
    }
    uint64_t port = 0;
    if (colon && (!kith_text_parse_u64(colon + 1, strlen(colon + 1), &port) || port > UINT16_MAX))
        return kith_err_set(err, KITH_INVALID, "the port of address '%s' is not in 0..65535", address);
    size_t bytes = (size_t)(end - host);
    if (bytes == 0 || bytes >= host_bytes)
        return kith_err_set(err, KITH_INVALID, "the host of address '%s' has %zu bytes, not 1..%zu", address,
            bytes, host_bytes - 1);
    memcpy(host_out, host, bytes);
    host_out[bytes] = 0;
    *port_out = (uint16_t)port;
    return KITH_OK;
}

static kith_status bind_address_parse(const char *text, uint16_t port, struct sockaddr_storage *address_out,
    socklen_t *bytes_out, kith_err *err) {
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port_text[8];
    snprintf(port_text, sizeof port_text, "%u", port);
    int result = getaddrinfo(text, port_text, &hints, &found);
    if (result != 0)
        return kith_err_set(
            err, KITH_INVALID, "bind address '%s' is no IP address: %s", text, gai_strerror(result));
    memset(address_out, 0, sizeof *address_out);
    memcpy(address_out, found->ai_addr, found->ai_addrlen);
    *bytes_out = found->ai_addrlen;
    freeaddrinfo(found);
    return KITH_OK;
}

static kith_status context_open(ucx_transport *transport, kith_err *err) {
    ucp_config_t *config;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    if (status != UCS_OK)
        return kith_err_set(err, KITH_INVALID, "UCX's environment: %s", ucs_status_string(status));
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME,
        .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
        .name = "kith",
    };
    status = ucp_init(&params, config, &transport->context);
    ucp_config_release(config);
    if (status != UCS_OK) return kith_err_set(err, KITH_IO, "start UCX: %s", ucs_status_string(status));
    return KITH_OK;
}

static kith_status worker_open(ucx_transport *transport, kith_err *err) {
    /* Made here, then used by the I/O thread alone: one thread at a time. */
    ucp_worker_params_t params = {
        .field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE, .thread_mode = UCS_THREAD_MODE_SERIALIZED};
    ucs_status_t status = ucp_worker_create(transport->context, &params, &transport->worker);
    if (status != UCS_OK)
        return kith_err_set(err, KITH_IO, "make UCX's worker: %s", ucs_status_string(status));
    ucp_am_handler_param_t handler = {
        .field_mask =
            UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = UCX_AM_ID,
        .cb = ucx_link_receive,
        .arg = transport,
    };
    status = ucp_worker_set_am_recv_handler(transport->worker, &handler);
    if (status == UCS_OK) status = ucp_worker_get_efd(transport->worker, &transport->worker_fd);
    if (status == UCS_OK) return KITH_OK;
    ucp_worker_destroy(transport->worker);
    return kith_err_set(err, KITH_IO, "prepare UCX's worker: %s", ucs_status_string(status));
}

static kith_status listener_open(
    ucx_transport *transport, const struct sockaddr_storage *bound, socklen_t bound_bytes, kith_err *err) {
    ucp_listener_params_t params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)bound, .addrlen = bound_bytes},
        .conn_handler = {.cb = ucx_links_note, .arg = transport},
    };
    ucs_status_t status = ucp_listener_create(transport->worker, &params, &transport->listener);
    if (status != UCS_OK)
        return kith_err_set(err, status == UCS_ERR_BUSY ? KITH_EXISTS : KITH_IO,
            "listen for nodes on %s port %u: %s", transport->bind_address,
            ntohs(((const struct sockaddr_in *)bound)->sin_port), /* both families have it in one place */
            status == UCS_ERR_BUSY ? "the port is in use" : ucs_status_string(status));
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    status = ucp_listener_query(transport->listener, &attributes);
    kith_assert(status == UCS_OK);
    transport->port = ntohs(((const struct sockaddr_in *)&attributes.sockaddr)->sin_port);
    return KITH_OK;
}

kith_status ucx_setup(ucx_transport *transport, uint16_t port, kith_err *err) {
    struct sockaddr_storage bound;
    socklen_t bound_bytes = 0;
    kith_status status = bind_address_parse(transport->bind_address, port, &bound, &bound_bytes, err);
    if (status != KITH_OK) return status;
    environment_prepare(&bound);
    library_tame();
    transport->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (transport->wake_fd < 0) return kith_err_set_errno(err, errno, "make an eventfd");
    status = context_open(transport, err);
    if (status != KITH_OK) goto err_close_fd;
    status = worker_open(transport, err);
    if (status != KITH_OK) goto err_cleanup;
    status = listener_open(transport, &bound, bound_bytes, err);
    if (status != KITH_OK) goto err_destroy_worker;
    return KITH_OK;
err_destroy_worker:
    ucp_worker_destroy(transport->worker);
err_cleanup:
    ucp_cleanup(transport->context);
err_close_fd:
    close(transport->wake_fd);
    return status;
}

/* UCX 1.13 accepts a dial on a thread of its own and looks at its listener again when the dial's first bytes come, also if
 * that has been destroyed meanwhile (seen to crash in ucp_cm_server_conn_request_cb). It has no call for "take no more", so
 * the listening socket is closed to dials from below, and those that are through get the time to say their first bytes. */
#define DIALS_END_MS 50
#define DESCRIPTORS  4096

static void dials_end(uint16_t port) {
    for (int descriptor = 0; descriptor < DESCRIPTORS; descriptor++) {
        struct sockaddr_storage address;
        socklen_t address_bytes = sizeof address, listens_bytes = sizeof(int);
        int listens = 0;
        if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_bytes) != 0 || !listens)
            continue;
        if (getsockname(descriptor, (struct sockaddr *)&address, &address_bytes) != 0) continue;
        /* The port is at the same place in both families. */
        if (ntohs(((const struct sockaddr_in *)&address)->sin_port) == port)
            (void)shutdown(descriptor, SHUT_RDWR);
    }
    (void)poll(NULL, 0, DIALS_END_MS);
}

void ucx_setup_undo(ucx_transport *transport) {
    if (transport->listener) {
        atomic_fetch_add(&closed_count, 1);
        dials_end(transport->port);
        ucp_listener_destroy(transport->listener);
        atomic_fetch_sub(&closed_count, 1);
    }
    ucp_worker_destroy(transport->worker);
    ucp_cleanup(transport->context);
    close(transport->wake_fd);
}
