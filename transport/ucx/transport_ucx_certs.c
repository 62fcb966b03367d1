/* Certificates of a cluster: a CA, and node certificates that it signs. P-256 keys, SHA-256.
 *
 * Files are written with stdio: this runs in the command-line tool and in tests, not in a node. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "transport/ucx/transport_ucx_internal.h"

#define SERIAL_BITS     127
#define DAY_S           86400
#define PATH_BYTES      4096u
#define SAN_BYTES       (KITH_NAME_BYTES_MAX + 64u)
#define KEY_PERMISSIONS 0600

static kith_status openssl_failed(kith_err *err, const char *what) {
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    kith_status status = kith_err_set(err, KITH_INTERNAL, "%s: %s", what, reason ? reason : "unknown reason");
    ERR_clear_error();
    return status;
}

/* --- files --- */

static kith_status path_make(
    char path_out[PATH_BYTES], const char *dir, const char *name, const char *suffix, kith_err *err) {
    int bytes = snprintf(path_out, PATH_BYTES, "%s/%s%s", dir, name, suffix);
    if (bytes < 0 || (size_t)bytes >= PATH_BYTES)
        return kith_err_set(err, KITH_INVALID, "a path of %d bytes, at most %u", bytes, PATH_BYTES - 1);
    return KITH_OK;
}

/* A key is never readable by others, not even while it is written. */
static kith_status key_write(const char *path, bool replace, EVP_PKEY *key, kith_err *err) {
    FILE *file = fopen(path, replace ? "w" : "wx");
    if (!file) return kith_err_set_errno(err, errno, "make %s", path);
    bool written = fchmod(fileno(file), KEY_PERMISSIONS) == 0 &&
                   PEM_write_PKCS8PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
    if (fclose(file) != 0 || !written) return kith_err_set(err, KITH_IO, "write %s", path);
    return KITH_OK;
}

static kith_status certificate_write(const char *path, bool replace, X509 *certificate, kith_err *err) {
    FILE *file = fopen(path, replace ? "w" : "wx");
    if (!file) return kith_err_set_errno(err, errno, "make %s", path);
    bool written = PEM_write_X509(file, certificate) == 1;
    if (fclose(file) != 0 || !written) return kith_err_set(err, KITH_IO, "write %s", path);
    return KITH_OK;
}

static kith_status pair_write(
    const char *dir, const char *name, bool replace, X509 *certificate, EVP_PKEY *key, kith_err *err) {
    char certificate_path[PATH_BYTES], key_path[PATH_BYTES];
    kith_status status = path_make(certificate_path, dir, name, ".crt", err);
    if (status == KITH_OK) status = path_make(key_path, dir, name, ".key", err);
    if (status == KITH_OK) status = key_write(key_path, replace, key, err);
    if (status == KITH_OK) status = certificate_write(certificate_path, replace, certificate, err);
    return status;
}

static kith_status pair_read(
    const char *dir, const char *name, X509 **certificate_out, EVP_PKEY **key_out, kith_err *err) {
    char certificate_path[PATH_BYTES], key_path[PATH_BYTES];
    kith_status status = path_make(certificate_path, dir, name, ".crt", err);
    if (status == KITH_OK) status = path_make(key_path, dir, name, ".key", err);
    if (status != KITH_OK) return status;
    FILE *file = fopen(certificate_path, "r");
    if (!file) return kith_err_set_errno(err, errno, "open %s", certificate_path);
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    if (!certificate) return openssl_failed(err, certificate_path);
    file = fopen(key_path, "r");
    EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
    if (!file) status = kith_err_set_errno(err, errno, "open %s", key_path);
    if (file) fclose(file);
    if (file && !key) status = openssl_failed(err, key_path);
    if (status != KITH_OK) {
        X509_free(certificate);
        return status;
    }
    *certificate_out = certificate;
    *key_out = key;
    return KITH_OK;
}

/* --- certificates --- */

static bool serial_set(X509 *certificate) {
    BIGNUM *number = BN_new();
    bool set = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
               BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return set;
}

static bool name_set(X509_NAME *name, const char *cluster, const char *common) {
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)cluster, -1, -1, 0) ==
               1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0) ==
               1;
}

static bool extension_add(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

/* What both kinds have; no extension but the key's identifier yet. */
static X509 *certificate_begin(
    EVP_PKEY *key, const char *cluster, const char *common, int64_t from_s, int64_t until_s) {
    X509 *certificate = X509_new();
    bool begun = certificate && X509_set_version(certificate, X509_VERSION_3) == 1 &&
                 serial_set(certificate) && name_set(X509_get_subject_name(certificate), cluster, common) &&
                 X509_gmtime_adj(X509_getm_notBefore(certificate), (long)from_s) &&
                 X509_gmtime_adj(X509_getm_notAfter(certificate), (long)until_s) &&
                 X509_set_pubkey(certificate, key) == 1 &&
                 extension_add(certificate, certificate, NID_subject_key_identifier, "hash");
    if (begun) return certificate;
    X509_free(certificate);
    return NULL;
}

static bool ca_complete(X509 *certificate, EVP_PKEY *key) {
    return X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
           extension_add(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
           extension_add(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
           X509_sign(certificate, key, EVP_sha256()) != 0;
}

static bool node_complete(X509 *certificate, X509 *ca, EVP_PKEY *ca_key, const char *alternative) {
    return X509_set_issuer_name(certificate, X509_get_subject_name(ca)) == 1 &&
           extension_add(certificate, ca, NID_authority_key_identifier, "keyid:always") &&
           extension_add(certificate, ca, NID_basic_constraints, "critical,CA:FALSE") &&
           extension_add(certificate, ca, NID_key_usage, "critical,digitalSignature") &&
           extension_add(certificate, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
           extension_add(certificate, ca, NID_subject_alt_name, alternative) &&
           X509_sign(certificate, ca_key, EVP_sha256()) != 0;
}

kith_status kith_transport_certs_create_ca(
    const char *dir, const char *cluster, uint32_t days, kith_err *err) {
    char common[64];
    snprintf(common, sizeof common, "%.40s node CA", cluster);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key) return openssl_failed(err, "make a key");
    X509 *certificate = certificate_begin(key, cluster, common, -DAY_S, (int64_t)days * DAY_S);
    kith_status status = KITH_OK;
    if (!certificate || !ca_complete(certificate, key)) status = openssl_failed(err, "make a CA certificate");
    if (status == KITH_OK) status = pair_write(dir, "ca", false, certificate, key, err);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return status;
}

kith_status kith_transport_certs_create_node(const kith_transport_certs_node *node, kith_err *err) {
    char alternative[SAN_BYTES], uuid[UCX_UUID_TEXT_BYTES] = "any";
    if (node->node_id) ucx_uuid_text(node->node_id, uuid);
    snprintf(alternative, sizeof alternative, "URI:kith://%s/node/%s", node->cluster, uuid);
    X509 *ca, *certificate = NULL;
    EVP_PKEY *ca_key, *key = NULL;
    kith_status status = pair_read(node->ca_dir, "ca", &ca, &ca_key, err);
    if (status != KITH_OK) return status;
    key = EVP_EC_gen("P-256");
    if (key)
        certificate =
            certificate_begin(key, node->cluster, node->name, node->valid_from_s, node->valid_until_s);
    if (!certificate || !node_complete(certificate, ca, ca_key, alternative)) {
        status = openssl_failed(err, "make a node certificate");
    } else {
        status = pair_write(node->dir, node->name, true, certificate, key, err);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return status;
}
