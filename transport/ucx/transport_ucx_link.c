/* Connections: opening, sending a frame, receiving one, silence, closing.
 *
 * Closing is forced (what is queued is given up): a peer that is cut may be stopped, and a flush would wait for it. UCX lets
 * go of the bytes of sends and receives some time later, through their callbacks; the link stays until it has. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

#include "transport/ucx/transport_ucx_internal.h"

/* --- open --- */

static void sockaddr_text(const struct sockaddr_storage *address, char *text_out, size_t text_bytes) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(text_out, text_bytes, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(text_out, text_bytes, "%s:%u", host, ntohs(v4->sin_port));
    }
}

static ucx_link *link_create(ucx_transport *transport) {
    ucx_link *link = kith_alloc_zero(sizeof *link);
    link->transport = transport;
    link->opened_ns = link->heard_ns = link->pinged_ns = link->used_ns = transport->now_ns;
    kith_buf_init(&link->greeting);
    return link;
}

static void link_free(ucx_link *link) {
    ucx_tls_destroy(link->tls);
    kith_buf_fini(&link->greeting);
    kith_free(link);
}

static void list_add(ucx_link *link) {
    ucx_transport *transport = link->transport;
    link->next = transport->link_first;
    if (link->next) link->next->previous = link;
    transport->link_first = link;
}

static void list_remove(ucx_link *link) {
    if (link->previous) link->previous->next = link->next;
    if (link->next) link->next->previous = link->previous;
    if (link->transport->link_first == link) link->transport->link_first = link->next;
}

static void free_when_idle(ucx_link *link) {
    if (!link->close_is_done || link->pending > 0) return;
    list_remove(link);
    link_free(link);
}

static void failed(void *arg, ucp_ep_h ep, ucs_status_t status) {
    ucx_link *link = arg;
    (void)ep;
    ucx_link_doom(link, KITH_UNAVAILABLE, "connection lost: %s", ucs_status_string(status));
}

/* `params` says to whom. */
static kith_status link_open(ucx_link *link, ucp_ep_params_t *params, kith_err *err) {
    params->field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    params->err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params->err_handler.cb = failed;
    params->err_handler.arg = link;
    link->transport->has_asked_ucx = true;
    ucs_status_t status = ucp_ep_create(link->transport->worker, params, &link->ep);
    if (status != UCS_OK)
        return kith_err_set(err, KITH_UNAVAILABLE, "connect: %s", ucs_status_string(status));
    kith_map_put(link->transport->links_by_ep, &link->ep, sizeof link->ep, (uint64_t)(uintptr_t)link);
    list_add(link);
    return KITH_OK;
}

kith_status ucx_link_dial(ucx_peer *peer, ucx_link **link_out, kith_err *err) {
    ucx_link *link = link_create(peer->transport);
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&peer->resolved, .addrlen = peer->resolved_bytes},
    };
    snprintf(link->name, sizeof link->name, "%s", peer->address);
    link->peer = peer;
    kith_status status = link_open(link, &params, err);
    if (status != KITH_OK) {
        link_free(link);
        return status;
    }
    *link_out = link;
    ucx_hello_start(link);
    return KITH_OK;
}

/* --- accept --- */

typedef struct ucx_accept {
    struct ucx_accept *next;
    ucp_conn_request_h request;
} ucx_accept;

void ucx_links_note(ucp_conn_request_h conn_request, void *arg) {
    ucx_transport *transport = arg;
    ucx_accept *accept = kith_alloc(sizeof *accept);
    *accept = (ucx_accept){.next = transport->accept_first, .request = conn_request};
    transport->accept_first = accept;
}

static void accept_one(ucx_transport *transport, ucp_conn_request_h request) {
    if (transport->accepted >= UCX_LINKS_ACCEPTED_MAX || transport->strangers >= UCX_LINKS_STRANGERS_MAX ||
        transport->was_stopping) {
        transport->has_asked_ucx = true;
        (void)ucp_listener_reject(transport->listener, request);
        kith_log_warn("transport_connection_refused", kith_kv_u64("connections", transport->accepted),
            kith_kv_u64("without_hello", transport->strangers));
        return;
    }
    ucx_link *link = link_create(transport);
    ucp_conn_request_attr_t attributes = {.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR};
    if (ucp_conn_request_query(request, &attributes) == UCS_OK)
        sockaddr_text(&attributes.client_address, link->name, sizeof link->name);
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST, .conn_request = request};
    kith_err err;
    link->is_accepted = true;
    if (link_open(link, &params, &err) != KITH_OK) {
        kith_log_warn("transport_connection_failed", kith_kv_text("from", link->name),
            kith_kv_text("reason", err.text));
        link_free(link);
        return;
    }
    transport->accepted++;
    transport->strangers++;
}

void ucx_links_accept(ucx_transport *transport) {
    while (transport->accept_first) {
        ucx_accept *accept = transport->accept_first;
        transport->accept_first = accept->next;
        accept_one(transport, accept->request);
        kith_free(accept);
    }
}

/* --- send --- */

ucx_send *ucx_send_create(ucx_transport *transport, size_t room_bytes) {
    ucx_send *send = ucx_pool_take(&transport->pool, sizeof *send + room_bytes);
    if (!send) return NULL;
    send->room_bytes = room_bytes;
    send->call = NULL;
    send->body = send->room;
    return send;
}

ucx_send *ucx_send_take(ucx_transport *transport, size_t room_bytes) {
    kith_assert(room_bytes <= KITH_TRANSPORT_UCX_COPY_BYTES);
    ucx_send *send = transport->spare_sends;
    if (!send) {
        send = ucx_send_create(transport, KITH_TRANSPORT_UCX_COPY_BYTES);
        kith_assert(send != NULL); /* small and bounded, as what kith_alloc is for */
    } else {
        transport->spare_sends = send->next;
        transport->spare_count--;
    }
    send->call = NULL;
    send->body = send->room;
    return send;
}

void ucx_send_release(ucx_transport *transport, ucx_send *send) {
    if (send->room_bytes != KITH_TRANSPORT_UCX_COPY_BYTES || transport->spare_count >= UCX_SPARE_SENDS_MAX) {
        ucx_pool_give(&transport->pool, send);
        return;
    }
    send->next = transport->spare_sends;
    transport->spare_sends = send;
    transport->spare_count++;
}

static void send_done(ucx_send *send) {
    ucx_transport *transport = send->link->transport;
    ucx_call *call = send->call;
    ucx_send_release(transport, send);
    if (call) ucx_call_sent(transport, call);
}

/* What fails first when nobody is there is the hello. */
static void doom_send(ucx_link *link, ucs_status_t status) {
    bool connects = link->state == UCX_LINK_HELLO && !link->is_accepted;
    ucx_link_doom(link, KITH_UNAVAILABLE, "%s: %s", connects ? "connect" : "send", ucs_status_string(status));
}

static void sent(void *request, ucs_status_t status, void *arg) {
    ucx_send *send = arg;
    ucx_link *link = send->link;
    ucp_request_free(request);
    if (status != UCS_OK) doom_send(link, status);
    send_done(send);
    link->pending--;
    free_when_idle(link);
}

static size_t encode_head(ucx_link *link, ucx_send *send) {
    kith_am_frame *frame = &send->frame;
    frame->sequence = ++link->send_sequence;
    memset(frame->mac, 0, sizeof frame->mac);
    size_t bytes = kith_am_frame_encode(frame, send->head);
    if (link->has_keys)
        ucx_tls_sign(link->tls, frame->sequence, send->head, bytes, send->body, frame->body_bytes,
            send->head + KITH_AM_FRAME_SIGNED_BYTES);
    return bytes;
}

void ucx_link_send_take(ucx_link *link, ucx_send *send) {
    ucx_transport *transport = link->transport;
    send->link = link;
    if (link->state == UCX_LINK_CLOSING || link->is_doomed) {
        send_done(send);
        return;
    }
    size_t head_bytes = encode_head(link, send);
    size_t body_bytes = send->frame.body_bytes;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_AM_SEND_FLAG_REPLY |
                 (body_bytes <= UCX_EAGER_BYTES_MAX ? UCP_AM_SEND_FLAG_EAGER : UCP_AM_SEND_FLAG_RNDV),
        .cb.send = sent,
        .user_data = send,
    };
    ucx_count(&transport->counters.sent_messages, 1);
    ucx_count(&transport->counters.sent_bytes, body_bytes);
    void *request = ucp_am_send_nbx(
        link->ep, UCX_AM_ID, send->head, head_bytes, body_bytes ? send->body : NULL, body_bytes, &param);
    transport->has_asked_ucx = true;
    if (UCS_PTR_IS_PTR(request)) {
        transport->has_unfinished_sends = true;
        link->pending++;
        return;
    }
    if (UCS_PTR_IS_ERR(request)) doom_send(link, UCS_PTR_STATUS(request));
    send_done(send);
}

void ucx_link_send_frame(ucx_link *link, const kith_am_frame *frame) {
    ucx_send *send = ucx_send_take(link->transport, 0);
    send->frame = *frame;
    ucx_link_send_take(link, send);
}

void ucx_link_send_body(ucx_link *link, kith_am_type type, const void *bytes, size_t byte_count) {
    ucx_send *send = ucx_send_take(link->transport, byte_count);
    send->frame = (kith_am_frame){.type = type, .body_bytes = (uint32_t)byte_count};
    memcpy(send->room, bytes, byte_count);
    ucx_link_send_take(link, send);
}

/* --- receive --- */

/* Whether a frame of `type` may come now. */
static bool is_expected(const ucx_link *link, kith_am_type type) {
    switch (type) {
    case KITH_AM_TYPE_HELLO:
    case KITH_AM_TYPE_HELLO_REPLY:
    case KITH_AM_TYPE_TLS:
        return link->state == UCX_LINK_HELLO;
    case KITH_AM_TYPE_REQUEST:
    case KITH_AM_TYPE_CANCEL:
    case KITH_AM_TYPE_PING:
        return link->state == UCX_LINK_READY && link->is_accepted;
    case KITH_AM_TYPE_REPLY:
    case KITH_AM_TYPE_PONG:
        return link->state == UCX_LINK_READY && !link->is_accepted;
    case KITH_AM_TYPE_GOODBYE:
        return link->state == UCX_LINK_READY;
    }
    return false;
}

/* A refusal comes before there are keys, or when the two sides could not agree on them. */
static bool needs_mac(const ucx_link *link, const kith_am_frame *frame) {
    return link->has_keys && !(frame->type == KITH_AM_TYPE_HELLO_REPLY && frame->status != KITH_OK);
}

static bool mac_is_right(
    ucx_link *link, const kith_am_frame *frame, const uint8_t *head, size_t head_bytes, const void *body) {
    if (!needs_mac(link, frame)) return true;
    if (ucx_tls_verify(link->tls, frame->sequence, head, head_bytes, body, frame->body_bytes, frame->mac))
        return true;
    ucx_link_doom(link, KITH_UNAVAILABLE, "a frame with a wrong MAC");
    return false;
}

static void reply_received(ucx_link *link, const kith_am_frame *frame, const void *body) {
    ucx_call *call = ucx_call_find(link->transport, link, frame->call);
    if (!call) return; /* it ended before */
    kith_err err;
    if (frame->status != KITH_OK)
        (void)kith_err_set(&err, frame->status, "%.*s", (int)frame->text_bytes, frame->text);
    ucx_call_end(link->transport, call, frame->status, body, frame->body_bytes,
        frame->status == KITH_OK ? NULL : &err);
}

static void goodbye_received(ucx_link *link) {
    ucx_link_doom(
        link, KITH_UNAVAILABLE, "the node said goodbye: it shuts down or has no more use for the connection");
    link->is_leaving = true;
}

/* Whether `data` was kept. */
static bool frame_received(ucx_link *link, const kith_am_frame *frame, void *data, bool is_lasting) {
    switch (frame->type) {
    case KITH_AM_TYPE_REQUEST:
        return ucx_serve_admit(link, frame) && ucx_serve_request(link, frame, data, is_lasting);
    case KITH_AM_TYPE_REPLY:
        reply_received(link, frame, data);
        return false;
    case KITH_AM_TYPE_CANCEL:
        ucx_serve_cancel(link, frame->call);
        return false;
    case KITH_AM_TYPE_PING:
        ucx_link_send_frame(link, &(kith_am_frame){.type = KITH_AM_TYPE_PONG});
        return false;
    case KITH_AM_TYPE_PONG:
        return false;
    case KITH_AM_TYPE_GOODBYE:
        goodbye_received(link);
        return false;
    case KITH_AM_TYPE_HELLO:
    case KITH_AM_TYPE_HELLO_REPLY:
    case KITH_AM_TYPE_TLS:
        ucx_hello_receive(link, frame, data);
        return false;
    }
    return false;
}

static void receive_done(ucx_receive *receive, ucs_status_t status) {
    ucx_link *link = receive->link;
    kith_am_frame *frame = &receive->frame;
    size_t head_bytes = KITH_AM_FRAME_HEADER_BYTES + frame->text_bytes;
    uint8_t *body = receive->body;
    bool is_request = frame->type == KITH_AM_TYPE_REQUEST;
    if (is_request) ucx_serve_unreserve(link, frame);
    if (status != UCS_OK) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "receive: %s", ucs_status_string(status));
    } else if (link->state == UCX_LINK_READY && !link->is_doomed &&
               mac_is_right(link, frame, receive->head, head_bytes, body)) {
        link->heard_ns = link->transport->now_ns;
        if (is_request) {
            ucx_serve_request_take(link, frame, body);
            body = NULL;
        } else {
            reply_received(link, frame, body);
        }
    }
    ucx_pool_give(&link->transport->pool, body);
    kith_free(receive);
}

static void received(void *request, ucs_status_t status, size_t length, void *arg) {
    ucx_receive *receive = arg;
    ucx_link *link = receive->link;
    (void)length;
    ucp_request_free(request);
    receive_done(receive, status);
    link->pending--;
    free_when_idle(link);
}

/* A long body: it is with the sender until we say where to. One that nobody waits for is left there. */
static ucs_status_t receive_long(
    ucx_link *link, const kith_am_frame *frame, const void *head, size_t head_bytes, void *data) {
    bool is_reply = frame->type == KITH_AM_TYPE_REPLY;
    if (is_reply ? !ucx_call_find(link->transport, link, frame->call) : !ucx_serve_admit(link, frame))
        return UCS_OK;
    uint8_t *body = ucx_pool_take(&link->transport->pool, frame->body_bytes);
    if (!body) {
        ucx_link_doom(link, KITH_NO_MEMORY, "no memory for a message of %u bytes", frame->body_bytes);
        return UCS_OK;
    }
    if (!is_reply) ucx_serve_reserve(link, frame);
    ucx_receive *receive = kith_alloc(sizeof *receive);
    receive->link = link;
    receive->body = body;
    receive->frame = *frame;
    memcpy(receive->head, head, head_bytes);
    receive->frame.text = (const char *)receive->head + KITH_AM_FRAME_HEADER_BYTES;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .cb.recv_am = received,
        .user_data = receive,
    };
    void *request = ucp_am_recv_data_nbx(link->transport->worker, data, body, frame->body_bytes, &param);
    if (UCS_PTR_IS_PTR(request)) {
        link->pending++;
    } else {
        receive_done(receive, UCS_PTR_STATUS(request));
    }
    return UCS_INPROGRESS;
}

/* The link that a message came over: known to us, and not on its way out. */
static ucx_link *link_of(ucx_transport *transport, const ucp_am_recv_param_t *param) {
    uint64_t found;
    if (!(param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) ||
        !kith_map_get(transport->links_by_ep, &param->reply_ep, sizeof param->reply_ep, &found))
        return NULL;
    ucx_link *link = (ucx_link *)(uintptr_t)found;
    return link->state == UCX_LINK_CLOSING || link->is_doomed || link->is_refused ? NULL : link;
}

ucs_status_t ucx_link_receive(void *arg, const void *head, size_t head_bytes, void *data, size_t data_bytes,
    const ucp_am_recv_param_t *param) {
    ucx_transport *transport = arg;
    ucx_link *link = link_of(transport, param);
    kith_am_frame frame;
    kith_err err;
    if (!link) return UCS_OK;
    if (kith_am_frame_decode(head, head_bytes, data_bytes, &frame, &err) != KITH_OK) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "%s", err.text);
        return UCS_OK;
    }
    bool is_long = param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV;
    bool may_be_long = frame.type == KITH_AM_TYPE_REQUEST || frame.type == KITH_AM_TYPE_REPLY;
    if (!is_expected(link, frame.type) || (is_long && !may_be_long)) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "a frame of type %u out of place", (unsigned)frame.type);
        return UCS_OK;
    }
    if (!kith_am_window_take(&link->window, frame.sequence)) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "a frame that came before");
        return UCS_OK;
    }
    link->heard_ns = transport->now_ns;
    ucx_count(&transport->counters.received_messages, 1);
    ucx_count(&transport->counters.received_bytes, data_bytes);
    if (is_long) return receive_long(link, &frame, head, head_bytes, data);
    if (!mac_is_right(link, &frame, head, head_bytes, data)) return UCS_OK;
    bool is_lasting = param->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA;
    return frame_received(link, &frame, data, is_lasting) ? UCS_INPROGRESS : UCS_OK;
}

/* --- close --- */

void ucx_link_doom(ucx_link *link, kith_status status, const char *format, ...) {
    va_list arguments;
    char text[KITH_ERR_BYTES_MAX];
    if (link->is_doomed || link->state == UCX_LINK_CLOSING) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void)kith_err_set(&link->doom, status, "%s", text);
    link->is_doomed = true;
    link->doomed_next = link->transport->doomed_first;
    link->transport->doomed_first = link;
}

static void closed(void *request, ucs_status_t status, void *arg) {
    ucx_link *link = arg;
    (void)status;
    ucp_request_free(request);
    link->close_is_done = true;
    free_when_idle(link);
}

/* After a goodbye what is queued is sent first, the goodbye itself with it. */
static void close_endpoint(ucx_link *link) {
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
        .cb.send = closed,
        .user_data = link,
    };
    link->transport->has_asked_ucx = true;
    void *request = ucp_ep_close_nbx(link->ep, &param);
    if (UCS_PTR_IS_PTR(request)) return;
    link->close_is_done = true;
    free_when_idle(link);
}

static void count_gone(ucx_link *link, ucx_link_state before) {
    ucx_transport *transport = link->transport;
    if (link->is_accepted) transport->accepted--;
    if (link->is_accepted && before == UCX_LINK_HELLO) transport->strangers--;
    if (before != UCX_LINK_READY) return;
    atomic_fetch_sub_explicit(&transport->counters.connections, 1, memory_order_relaxed); /* only a number */
    if (!link->is_leaving) ucx_count(&transport->counters.connection_losses, 1);
}

static void link_cut(ucx_link *link) {
    ucx_link_state before = link->state;
    bool is_failure = !link->is_leaving && link->doom.status != KITH_CLOSED;
    link->state = UCX_LINK_CLOSING;
    count_gone(link, before);
    if (link->is_accepted && before == UCX_LINK_HELLO && !link->is_refused) {
        kith_log_warn("transport_hello_failed", kith_kv_text("from", link->name),
            kith_kv_text("reason", link->doom.text));
        ucx_count(&link->transport->counters.failed_hellos, 1);
    }
    kith_map_remove(link->transport->links_by_ep, &link->ep, sizeof link->ep);
    ucx_serve_link_gone(link);
    if (link->peer) ucx_peer_lost(link->peer, &link->doom, is_failure);
    link->peer = NULL;
    close_endpoint(link);
}

void ucx_links_cut_doomed(ucx_transport *transport) {
    while (transport->doomed_first) {
        ucx_link *link = transport->doomed_first;
        transport->doomed_first = link->doomed_next;
        link_cut(link);
    }
}

/* --- time --- */

static void link_tick(ucx_link *link) {
    ucx_transport *transport = link->transport;
    uint64_t now_ns = transport->now_ns;
    unsigned timeout_ms = (unsigned)(transport->ping_timeout_ns / NS_PER_MS);
    if (link->state == UCX_LINK_HELLO && now_ns - link->opened_ns >= transport->ping_timeout_ns) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "no hello within %u ms", timeout_ms);
    } else if (link->state == UCX_LINK_READY && now_ns - link->heard_ns >= transport->ping_timeout_ns) {
        ucx_link_doom(link, KITH_UNAVAILABLE, "silent for %u ms", timeout_ms);
    } else if (link->state == UCX_LINK_READY && !link->is_accepted &&
               now_ns - link->pinged_ns >= transport->ping_interval_ns) {
        link->pinged_ns = now_ns;
        ucx_link_send_frame(link, &(kith_am_frame){.type = KITH_AM_TYPE_PING});
    }
}

void ucx_links_tick(ucx_transport *transport) {
    for (ucx_link *link = transport->link_first; link; link = link->next)
        link_tick(link);
}

/* --- the end --- */

/* Goodbye to all who are there. */
void ucx_links_leave(ucx_transport *transport) {
    for (ucx_link *link = transport->link_first; link; link = link->next) {
        if (link->state == UCX_LINK_READY && !link->is_doomed)
            ucx_link_send_frame(link, &(kith_am_frame){.type = KITH_AM_TYPE_GOODBYE});
        link->is_leaving = true;
    }
}

/* Those that UCX never let go of; the worker is gone. */
void ucx_links_free(ucx_transport *transport) {
    while (transport->link_first) {
        ucx_link *link = transport->link_first;
        list_remove(link);
        link_free(link);
    }
}
