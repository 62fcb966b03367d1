/* What comes first on a connection.
 *
 *   dials                       accepts
 *   HELLO {who, cluster}   ->
 *   TLS ...              <->   TLS ...          with credentials: TLS 1.3, both show certificates
 *                          <-   HELLO_REPLY {who}   or a refusal: a status and its reason
 *
 * With credentials the keys are exported with the dialler's hello as their context and the reply is the first signed frame
 * of its direction: so neither hello can be changed on the way unnoticed. A refused dialler closes; if it does not, it is
 * closed at the hello's time-out. */
#include "transport/ucx/transport_ucx_internal.h"

static void hello_of(const ucx_transport *transport, kith_am_hello *hello_out) {
    kith_am_hello hello = {
        .version = KITH_AM_PROTOCOL_VERSION,
        .tls = transport->tls != NULL,
        .mac = transport->mac,
        .node = transport->node_id,
    };
    memcpy(hello.role, transport->role, strlen(transport->role) + 1);
    memcpy(hello.cluster, transport->cluster_name, strlen(transport->cluster_name) + 1);
    kith_env_random(transport->env, hello.nonce, sizeof hello.nonce);
    *hello_out = hello;
}

static void note_who(ucx_link *link, const kith_am_hello *hello) {
    link->node = hello->node;
    memcpy(link->role, hello->role, sizeof link->role);
}

static void log_ready(const ucx_link *link) {
    char node[UCX_UUID_TEXT_BYTES];
    ucx_uuid_text(&link->node, node);
    kith_log_info(link->is_accepted ? "transport_node_accepted" : "transport_peer_connected",
        kith_kv_text("address", link->name), kith_kv_text("node", node), kith_kv_text("role", link->role));
}

static void ready(ucx_link *link) {
    ucx_transport *transport = link->transport;
    link->state = UCX_LINK_READY;
    link->pinged_ns = transport->now_ns;
    ucx_count(&transport->counters.connections, 1);
    if (link->is_accepted) transport->strangers--;
    log_ready(link);
    if (link->peer) ucx_peer_ready(link->peer);
}

/* --- the TLS part, alike on both sides --- */

/* Feeds what came and sends what is to be sent. */
static kith_status tls_step(ucx_link *link, const void *bytes, size_t byte_count, kith_err *err) {
    kith_buf out;
    kith_buf_init(&out);
    kith_status status = ucx_tls_step(link->tls, bytes, byte_count, &out, &link->is_proven, err);
    if (status == KITH_OK && out.bytes > KITH_AM_HANDSHAKE_BYTES_MAX)
        status = kith_err_set(err, KITH_INVALID, "a TLS handshake of %zu bytes, at most %u", out.bytes,
            KITH_AM_HANDSHAKE_BYTES_MAX);
    if (status == KITH_OK && out.bytes) ucx_link_send_body(link, KITH_AM_TYPE_TLS, out.data, out.bytes);
    kith_buf_fini(&out);
    return status;
}

static kith_status make_keys(ucx_link *link, kith_err *err) {
    if (!link->transport->mac) return KITH_OK;
    kith_status status = ucx_tls_make_keys(link->tls, link->greeting.data, link->greeting.bytes, err);
    if (status == KITH_OK) link->has_keys = true;
    return status;
}

/* --- who dials --- */

void ucx_hello_start(ucx_link *link) {
    kith_am_hello hello;
    hello_of(link->transport, &hello);
    kith_am_hello_encode(&hello, &link->greeting);
    ucx_link_send_body(link, KITH_AM_TYPE_HELLO, link->greeting.data, link->greeting.bytes);
    if (!link->transport->tls) return;
    kith_err err;
    link->tls = ucx_tls_create(link->transport->tls, false);
    if (tls_step(link, NULL, 0, &err) != KITH_OK) ucx_link_doom(link, err.status, "%s", err.text);
}

static kith_status dialler_tls(ucx_link *link, const kith_am_frame *frame, const void *body, kith_err *err) {
    if (!link->tls || link->is_proven) return kith_err_set(err, KITH_INVALID, "TLS records out of place");
    kith_status status = tls_step(link, body, frame->body_bytes, err);
    return status == KITH_OK && link->is_proven ? make_keys(link, err) : status;
}

static kith_status dialler_reply(
    ucx_link *link, const kith_am_frame *frame, const void *body, kith_err *err) {
    const ucx_transport *transport = link->transport;
    kith_am_hello hello;
    if (frame->status != KITH_OK)
        return kith_err_set(err, frame->status, "%.*s", (int)frame->text_bytes, frame->text);
    kith_status status = kith_am_hello_decode(body, frame->body_bytes, &hello, err);
    if (status != KITH_OK) return status;
    if (hello.version != KITH_AM_PROTOCOL_VERSION || strcmp(hello.cluster, transport->cluster_name) != 0 ||
        hello.tls != (transport->tls != NULL) || hello.mac != transport->mac ||
        link->is_proven != (transport->tls != NULL))
        return kith_err_set(err, KITH_UNAVAILABLE, "its answer to our hello does not fit our hello");
    if (link->tls) status = ucx_tls_check_peer(link->tls, &hello.node, err);
    if (status != KITH_OK) return status;
    note_who(link, &hello);
    return KITH_OK;
}

/* --- who accepts --- */

static kith_status check_hello(const ucx_transport *transport, const kith_am_hello *hello, kith_err *err) {
    if (hello->version != KITH_AM_PROTOCOL_VERSION)
        return kith_err_set(err, KITH_UNAVAILABLE, "node protocol %u is spoken here, not %u",
            KITH_AM_PROTOCOL_VERSION, hello->version);
    if (transport->tls && !hello->tls)
        return kith_err_set(err, KITH_UNAUTHENTICATED,
            "nodes here prove themselves by certificate, and this one brought no credentials");
    if (!transport->tls && hello->tls)
        return kith_err_set(err, KITH_UNAUTHENTICATED, "this node has no credentials to prove itself with");
    if (strcmp(hello->cluster, transport->cluster_name) != 0)
        return kith_err_set(err, KITH_UNAVAILABLE, "this is a node of cluster '%s', not '%s'",
            transport->cluster_name, hello->cluster);
    if (transport->mac != hello->mac)
        return kith_err_set(err, KITH_UNAVAILABLE, "frames are %s here: transport_mac must agree",
            transport->mac ? "signed" : "not signed");
    if (kith_node_id_is_none(&hello->node))
        return kith_err_set(err, KITH_INVALID, "a hello without a node id");
    return KITH_OK;
}

static void refuse(ucx_link *link, const kith_err *err) {
    ucx_transport *transport = link->transport;
    kith_log_warn(
        "transport_hello_refused", kith_kv_text("from", link->name), kith_kv_text("reason", err->text));
    ucx_count(&transport->counters.failed_hellos, 1);
    ucx_send *send = ucx_send_take(transport, 0);
    memcpy(send->text, err->text, strlen(err->text) + 1);
    send->frame = (kith_am_frame){
        .type = KITH_AM_TYPE_HELLO_REPLY,
        .status = err->status,
        .text = send->text,
        .text_bytes = (uint16_t)strlen(send->text),
    };
    ucx_link_send_take(link, send);
    link->is_refused = true;
}

static void welcome(ucx_link *link) {
    kith_am_hello hello;
    kith_buf body;
    kith_buf_init(&body);
    hello_of(link->transport, &hello);
    kith_am_hello_encode(&hello, &body);
    ucx_link_send_body(link, KITH_AM_TYPE_HELLO_REPLY, body.data, body.bytes);
    kith_buf_fini(&body);
    ready(link);
}

static kith_status accepter_hello(
    ucx_link *link, const kith_am_frame *frame, const void *body, kith_err *err) {
    ucx_transport *transport = link->transport;
    kith_am_hello hello;
    if (link->greeting.bytes) return kith_err_set(err, KITH_INVALID, "a second hello");
    kith_status status = kith_am_hello_decode(body, frame->body_bytes, &hello, err);
    if (status == KITH_OK) status = check_hello(transport, &hello, err);
    if (status != KITH_OK) return status;
    kith_buf_append(&link->greeting, body, frame->body_bytes);
    note_who(link, &hello);
    if (transport->tls) {
        link->tls = ucx_tls_create(transport->tls, true);
    } else {
        welcome(link);
    }
    return KITH_OK;
}

static kith_status accepter_tls(ucx_link *link, const kith_am_frame *frame, const void *body, kith_err *err) {
    if (!link->tls) return kith_err_set(err, KITH_INVALID, "TLS records out of place");
    kith_status status = tls_step(link, body, frame->body_bytes, err);
    if (status != KITH_OK || !link->is_proven) return status;
    status = ucx_tls_check_peer(link->tls, &link->node, err);
    if (status == KITH_OK) status = make_keys(link, err);
    if (status == KITH_OK) welcome(link);
    return status;
}

/* --- both --- */

static void dialler_receive(ucx_link *link, const kith_am_frame *frame, const void *body) {
    kith_err err;
    kith_status status;
    if (frame->type == KITH_AM_TYPE_TLS) {
        status = dialler_tls(link, frame, body, &err);
    } else if (frame->type == KITH_AM_TYPE_HELLO_REPLY) {
        status = dialler_reply(link, frame, body, &err);
        if (status == KITH_OK) ready(link);
    } else {
        status = kith_err_set(&err, KITH_UNAVAILABLE, "it answered a hello with a hello");
    }
    if (status != KITH_OK) ucx_link_doom(link, status, "%s", err.text);
}

static void accepter_receive(ucx_link *link, const kith_am_frame *frame, const void *body) {
    kith_err err;
    kith_status status;
    if (frame->type == KITH_AM_TYPE_HELLO) {
        status = accepter_hello(link, frame, body, &err);
    } else if (frame->type == KITH_AM_TYPE_TLS) {
        status = accepter_tls(link, frame, body, &err);
    } else {
        status = kith_err_set(&err, KITH_INVALID, "an answer to no hello");
    }
    if (status != KITH_OK) refuse(link, &err);
}

void ucx_hello_receive(ucx_link *link, const kith_am_frame *frame, const void *body) {
    if (link->is_accepted) {
        accepter_receive(link, frame, body);
    } else {
        dialler_receive(link, frame, body);
    }
}
