/* Ids: canonical bytes, order, hash. One encoding each way, so that two equal ids always have equal bytes. */
#include "host/model/id.h"

#include <string.h>

#include "host/base/bytes.h"
#include "host/base/hash.h"

static size_t id_payload_bytes(const kith_id *id) {
    return id->type == KITH_ID_NUMBER ? 8 : id->type == KITH_ID_UUID ? 16 : id->text_bytes;
}

static int bytes_compare(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes) {
    size_t shared = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = memcmp(a, b, shared);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

int kith_id_compare(const kith_id *a, const kith_id *b) {
    if (a->type != b->type) return a->type < b->type ? -1 : 1;
    if (a->type == KITH_ID_NUMBER) return (a->number > b->number) - (a->number < b->number);
    return bytes_compare(a->bytes, id_payload_bytes(a), b->bytes, id_payload_bytes(b));
}

static size_t id_write(const kith_id *id, bool big_endian, uint8_t *out) {
    size_t bytes = id_payload_bytes(id);
    out[0] = id->type;
    if (id->type != KITH_ID_NUMBER)
        memcpy(out + 1, id->bytes, bytes);
    else if (big_endian)
        kith_store_u64_be(out + 1, id->number);
    else
        kith_store_u64(out + 1, id->number);
    return 1 + bytes;
}

/* Lengths alone are checked here, because this runs for every row a search compares; that a string is UTF-8
 * was checked when the text came in, and is again when a record is decoded. */
static bool id_read(const uint8_t *data, size_t bytes, bool big_endian, kith_id *id_out) {
    if (bytes < 2) return false;
    if (bytes > KITH_ID_CANONICAL_BYTES_MAX) return false;
    size_t left = bytes - 1;
    switch (data[0]) {
    case KITH_ID_NUMBER:
        if (left != 8) return false;
        *id_out = kith_id_of_number(big_endian ? kith_load_u64_be(data + 1) : kith_load_u64(data + 1));
        return true;
    case KITH_ID_UUID:
        if (left != 16) return false;
        *id_out = (kith_id){.type = KITH_ID_UUID, .bytes = data + 1};
        return true;
    case KITH_ID_STRING:
        *id_out = (kith_id){.type = KITH_ID_STRING, .text_bytes = (uint8_t)left, .bytes = data + 1};
        return true;
    default:
        return false;
    }
}

size_t kith_id_encode(const kith_id *id, uint8_t canonical_out[KITH_ID_CANONICAL_BYTES_MAX]) {
    return id_write(id, false, canonical_out);
}

bool kith_id_decode(const uint8_t *canonical, size_t bytes, kith_id *id_out) {
    return id_read(canonical, bytes, false, id_out);
}

size_t kith_id_order_key(const kith_id *id, uint8_t key_out[KITH_ID_CANONICAL_BYTES_MAX]) {
    return id_write(id, true, key_out);
}

bool kith_id_from_order_key(const uint8_t *key, size_t bytes, kith_id *id_out) {
    return id_read(key, bytes, true, id_out);
}

uint64_t kith_id_hash(const kith_id *id) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    return kith_hash64(canonical, kith_id_encode(id, canonical));
}

uint32_t kith_id_hash_for_table(const kith_id *id) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    return kith_hash_for_table(canonical, kith_id_encode(id, canonical));
}
