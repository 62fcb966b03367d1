/* Checks of what nodes say of themselves. */
#include "host/model/node.h"

#include "host/base/text.h"

const char *kith_node_role_name(kith_node_role role) {
    switch (role) {
    case KITH_NODE_COORDINATOR:
        return "coordinator";
    case KITH_NODE_DATA:
        return "data";
    case KITH_NODE_QUERY:
        return "query";
    case KITH_NODE_STANDALONE:
        return "standalone";
    }
    return NULL;
}

const char *kith_node_id_text(const kith_node_id *id, char text_out[KITH_NODE_ID_TEXT_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    char *at = text_out;
    for (uint32_t i = 0; i < sizeof id->bytes; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
        *at++ = digits[id->bytes[i] >> 4];
        *at++ = digits[id->bytes[i] & 15];
    }
    *at = 0;
    return text_out;
}

/* Names, zones and addresses end up in logs and tables: no control bytes. */
static kith_status text_check(
    const char *what, const char *text, size_t bytes_max, bool empty_allowed, kith_err *err) {
    size_t bytes = strnlen(text, bytes_max + 1), bad_offset = 0;
    if (bytes == 0 && !empty_allowed) {
        return kith_err_set(err, KITH_INVALID, "%s is empty; 1..%zu bytes are allowed", what, bytes_max);
    }
    if (bytes > bytes_max) {
        return kith_err_set(
            err, KITH_INVALID, "%s has more than %zu bytes, the most allowed", what, bytes_max);
    }
    if (!kith_text_utf8_check(text, bytes, &bad_offset)) {
        return kith_err_set(err, KITH_INVALID, "%s: not UTF-8 at byte %zu", what, bad_offset);
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x20 && byte != 0x7f) continue;
        return kith_err_set(err, KITH_INVALID, "%s has control byte 0x%02x at offset %zu", what, byte, i);
    }
    return KITH_OK;
}

kith_status kith_node_address_check(
    const char *what, const char *address, bool empty_allowed, kith_err *err) {
    kith_status status = text_check(what, address, KITH_NODE_ADDRESS_BYTES_MAX, empty_allowed, err);
    if (status != KITH_OK || address[0] == 0) return status;
    const char *colon = strrchr(address, ':');
    uint64_t port = 0;
    bool whole =
        colon && colon > address && kith_text_parse_u64(colon + 1, strlen(colon + 1), &port) && port >= 1;
    if (whole && port <= UINT16_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "%s \"%s\" is not HOST:PORT with a port in 1..65535", what, address);
}

kith_status kith_node_check(const kith_node *node, kith_err *err) {
    kith_status status = text_check("name", node->name, KITH_NODE_NAME_BYTES_MAX, false, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "node");
    if (kith_node_id_is_none(&node->id)) {
        status = kith_err_set(err, KITH_INVALID, "id is all zero");
    } else if (!kith_node_role_name(node->role)) {
        status = kith_err_set(err, KITH_INVALID,
            "role %u is unknown; 1 (coordinator), 2 (data), 3 (query) and 4 (standalone) are allowed",
            (unsigned)node->role);
    } else if (node->weight > KITH_NODE_WEIGHT_MAX) {
        status =
            kith_err_set(err, KITH_INVALID, "weight %u is not in 0..%u", node->weight, KITH_NODE_WEIGHT_MAX);
    }
    if (status == KITH_OK) status = kith_node_address_check("address", node->address, false, err);
    if (status == KITH_OK) status = kith_node_address_check("grpc_address", node->grpc_address, true, err);
    if (status == KITH_OK) status = kith_node_address_check("http_address", node->http_address, true, err);
    if (status == KITH_OK) status = text_check("zone", node->zone, KITH_NODE_ZONE_BYTES_MAX, true, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "node \"%s\"", node->name);
}
