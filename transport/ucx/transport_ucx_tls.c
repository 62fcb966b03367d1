/* Who the other side is, and a MAC over every later frame.
 *
 * TLS 1.3 over memory: its records travel in frames. Both sides must show a certificate of the cluster's CA. From the
 * finished handshake both sides export (RFC 8446 §7.5) a key and a salt for each direction, with the dialler's hello as
 * context. The MAC is GMAC, AES-128-GCM with no plaintext (NIST SP 800-38D): its nonce is the direction's salt and the
 * frame's sequence number, which never repeats. CPU for 1 KiB and 1 MiB (OpenSSL 3.0, Xeon with AES-NI, 2026-11-21): GMAC
 * 0.36 and 138 us, HMAC-SHA256 0.91 and 665 us, Poly1305 0.25 and 158 us and a key for each frame besides. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "host/base/bytes.h"
#include "transport/ucx/transport_ucx_internal.h"

#define KEY_BYTES   16u
#define SALT_BYTES  4u
#define NONCE_BYTES 12u
#define KEYS_BYTES  (2 * (KEY_BYTES + SALT_BYTES))

static const char key_label[] = "EXPORTER-kith-node-transport-mac-v1";

struct ucx_tls_context {
    SSL_CTX *ssl;
    char *cluster;
};

typedef struct direction {
    EVP_CIPHER_CTX *cipher; /* keyed once */
    uint8_t salt[SALT_BYTES];
} direction;

struct ucx_tls {
    const ucx_tls_context *context;
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    bool is_accepted;
    direction sends, receives;
};

/* --- context --- */

/* The newest reason that OpenSSL gives, or the system's, where that is what it began with; empties its queue. */
static const char *openssl_reason(void) {
    unsigned long first = ERR_peek_error(), code = ERR_peek_last_error();
    const char *reason = ERR_SYSTEM_ERROR(first) ? strerror(ERR_GET_REASON(first))
                         : code                  ? ERR_reason_error_string(code)
                                                 : NULL;
    ERR_clear_error();
    return reason ? reason : "unknown reason";
}

static kith_status load_files(SSL_CTX *ssl, const kith_transport_credentials *credentials, kith_err *err) {
    if (SSL_CTX_load_verify_locations(ssl, credentials->ca_path, NULL) != 1)
        return kith_err_set(
            err, KITH_INVALID, "CA certificate %s: %s", credentials->ca_path, openssl_reason());
    if (SSL_CTX_use_certificate_chain_file(ssl, credentials->certificate_path) != 1)
        return kith_err_set(
            err, KITH_INVALID, "certificate %s: %s", credentials->certificate_path, openssl_reason());
    if (SSL_CTX_use_PrivateKey_file(ssl, credentials->key_path, SSL_FILETYPE_PEM) != 1)
        return kith_err_set(err, KITH_INVALID, "key %s: %s", credentials->key_path, openssl_reason());
    if (SSL_CTX_check_private_key(ssl) != 1)
        return kith_err_set(err, KITH_INVALID, "key %s is not that of certificate %s", credentials->key_path,
            credentials->certificate_path);
    return KITH_OK;
}

kith_status ucx_tls_context_create(const kith_transport_credentials *credentials, const char *cluster,
    ucx_tls_context **context_out, kith_err *err) {
    SSL_CTX *ssl = SSL_CTX_new(TLS_method());
    if (!ssl) return kith_err_set(err, KITH_INTERNAL, "start TLS: %s", openssl_reason());
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 0); /* each connection proves itself anew */
    kith_status status = load_files(ssl, credentials, err);
    if (status != KITH_OK) {
        SSL_CTX_free(ssl);
        return status;
    }
    ucx_tls_context *context = kith_alloc(sizeof *context);
    *context = (ucx_tls_context){.ssl = ssl, .cluster = kith_strdup(cluster)};
    *context_out = context;
    return KITH_OK;
}

void ucx_tls_context_destroy(ucx_tls_context *context) {
    if (!context) return;
    SSL_CTX_free(context->ssl);
    kith_free(context->cluster);
    kith_free(context);
}

/* --- handshake --- */

ucx_tls *ucx_tls_create(ucx_tls_context *context, bool is_accepted) {
    ucx_tls *tls = kith_alloc_zero(sizeof *tls);
    tls->context = context;
    tls->is_accepted = is_accepted;
    tls->ssl = SSL_new(context->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    kith_assert(tls->ssl != NULL);
    kith_assert(tls->in != NULL);
    kith_assert(tls->out != NULL);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (is_accepted) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
    }
    return tls;
}

void ucx_tls_destroy(ucx_tls *tls) {
    if (!tls) return;
    EVP_CIPHER_CTX_free(tls->sends.cipher);
    EVP_CIPHER_CTX_free(tls->receives.cipher);
    SSL_free(tls->ssl);
    kith_free(tls);
}

static kith_status handshake_failed(ucx_tls *tls, kith_err *err) {
    long verified = SSL_get_verify_result(tls->ssl);
    const char *reason = openssl_reason();
    if (verified != X509_V_OK)
        return kith_err_set(err, KITH_UNAUTHENTICATED, "the other node's certificate is refused: %s",
            X509_verify_cert_error_string(verified));
    return kith_err_set(err, KITH_UNAUTHENTICATED, "TLS handshake: %s", reason);
}

kith_status ucx_tls_step(
    ucx_tls *tls, const void *bytes, size_t byte_count, kith_buf *out, bool *done_out, kith_err *err) {
    if (byte_count) (void)BIO_write(tls->in, bytes, (int)byte_count); /* of memory: takes all */
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    bool waits = result != 1 && SSL_get_error(tls->ssl, result) == SSL_ERROR_WANT_READ;
    if (result != 1 && !waits) return handshake_failed(tls, err);
    size_t pending = BIO_ctrl_pending(tls->out);
    if (pending) (void)BIO_read(tls->out, kith_buf_grow(out, pending), (int)pending);
    *done_out = result == 1;
    return KITH_OK;
}

/* --- who --- */

static bool name_is(const GENERAL_NAME *name, const char *text) {
    const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
    return name->type == GEN_URI && (size_t)ASN1_STRING_length(uri) == strlen(text) &&
           memcmp(ASN1_STRING_get0_data(uri), text, strlen(text)) == 0;
}

static bool names_have(const GENERAL_NAMES *names, const char *text) {
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        if (name_is(sk_GENERAL_NAME_value(names, i), text)) return true;
    return false;
}

kith_status ucx_tls_check_peer(ucx_tls *tls, const kith_node_id *node, kith_err *err) {
    char own[KITH_NAME_BYTES_MAX + 64], any[KITH_NAME_BYTES_MAX + 64], uuid[UCX_UUID_TEXT_BYTES];
    const char *cluster = tls->context->cluster;
    ucx_uuid_text(node, uuid);
    snprintf(own, sizeof own, "kith://%s/node/%s", cluster, uuid);
    snprintf(any, sizeof any, "kith://%s/node/any", cluster);
    X509 *certificate = SSL_get1_peer_certificate(tls->ssl);
    if (!certificate) return kith_err_set(err, KITH_UNAUTHENTICATED, "the other node showed no certificate");
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool speaks = names && (names_have(names, own) || names_have(names, any));
    GENERAL_NAMES_free(names);
    X509_free(certificate);
    if (speaks) return KITH_OK;
    return kith_err_set(
        err, KITH_UNAUTHENTICATED, "the certificate of node %s has neither %s nor %s", uuid, own, any);
}

/* --- MAC --- */

static direction direction_of(const uint8_t *key, const uint8_t *salt) {
    direction made = {.cipher = EVP_CIPHER_CTX_new()};
    kith_assert(made.cipher != NULL);
    int result = EVP_EncryptInit_ex(made.cipher, EVP_aes_128_gcm(), NULL, key, NULL);
    kith_assert(result == 1);
    memcpy(made.salt, salt, SALT_BYTES);
    return made;
}

kith_status ucx_tls_make_keys(ucx_tls *tls, const void *greeting, size_t greeting_bytes, kith_err *err) {
    uint8_t keys[KEYS_BYTES];
    if (SSL_export_keying_material(
            tls->ssl, keys, sizeof keys, key_label, sizeof key_label - 1, greeting, greeting_bytes, 1) != 1)
        return kith_err_set(err, KITH_INTERNAL, "export keys of TLS: %s", openssl_reason());
    const uint8_t *salts = keys + 2 * KEY_BYTES;
    direction dialler = direction_of(keys, salts);
    direction accepter = direction_of(keys + KEY_BYTES, salts + SALT_BYTES);
    tls->sends = tls->is_accepted ? accepter : dialler;
    tls->receives = tls->is_accepted ? dialler : accepter;
    OPENSSL_cleanse(keys, sizeof keys);
    return KITH_OK;
}

static void mac_of(const direction *way, uint64_t sequence, const uint8_t *head, size_t head_bytes,
    const void *body, size_t body_bytes, uint8_t *mac_out) {
    uint8_t nonce[NONCE_BYTES], nothing[16];
    int made = 0;
    memcpy(nonce, way->salt, SALT_BYTES);
    kith_store_u64(nonce + SALT_BYTES, sequence);
    bool right = EVP_EncryptInit_ex(way->cipher, NULL, NULL, NULL, nonce) == 1 &&
                 EVP_EncryptUpdate(way->cipher, NULL, &made, head, (int)KITH_AM_FRAME_SIGNED_BYTES) == 1;
    if (head_bytes > KITH_AM_FRAME_HEADER_BYTES)
        right = right && EVP_EncryptUpdate(way->cipher, NULL, &made, head + KITH_AM_FRAME_HEADER_BYTES,
                             (int)(head_bytes - KITH_AM_FRAME_HEADER_BYTES)) == 1;
    if (body_bytes) right = right && EVP_EncryptUpdate(way->cipher, NULL, &made, body, (int)body_bytes) == 1;
    right = right && EVP_EncryptFinal_ex(way->cipher, nothing, &made) == 1 &&
            EVP_CIPHER_CTX_ctrl(way->cipher, EVP_CTRL_AEAD_GET_TAG, KITH_AM_FRAME_MAC_BYTES, mac_out) == 1;
    kith_assert(right); /* of memory alone: nothing that the world does */
}

void ucx_tls_sign(ucx_tls *tls, uint64_t sequence, const uint8_t *head, size_t head_bytes, const void *body,
    size_t body_bytes, uint8_t mac_out[KITH_AM_FRAME_MAC_BYTES]) {
    mac_of(&tls->sends, sequence, head, head_bytes, body, body_bytes, mac_out);
}

bool ucx_tls_verify(ucx_tls *tls, uint64_t sequence, const uint8_t *head, size_t head_bytes, const void *body,
    size_t body_bytes, const uint8_t mac[KITH_AM_FRAME_MAC_BYTES]) {
    uint8_t wanted[KITH_AM_FRAME_MAC_BYTES];
    mac_of(&tls->receives, sequence, head, head_bytes, body, body_bytes, wanted);
    return CRYPTO_memcmp(wanted, mac, sizeof wanted) == 0;
}
