/* Point ids. An id is a u64, a UUID or a string; "42" and 42 differ; a UUID's texts are the same id.
 *
 * Canonical bytes (hashing, log, files): type byte, then u64 little-endian | 16 UUID bytes | the string's bytes.
 * Order: numbers by value, then UUIDs by bytes, then strings by bytes. Order key (RocksDB): type byte, then u64
 * big-endian | 16 bytes | bytes, so that memcmp of keys is the order.
 *
 * Threads: pure functions. Ownership: a kith_id borrows its bytes. */
#ifndef KITH_MODEL_ID_H
#define KITH_MODEL_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/base/limits.h"

typedef enum kith_id_type { KITH_ID_NUMBER = 1, KITH_ID_UUID = 2, KITH_ID_STRING = 3 } kith_id_type;

typedef struct kith_id {
    uint8_t type;
    uint8_t text_bytes;   /* of a string: 1..255 */
    uint64_t number;      /* of a number */
    const uint8_t *bytes; /* of a UUID (16) or a string; borrowed */
} kith_id;

static inline kith_id kith_id_of_number(uint64_t number) {
    return (kith_id){.type = KITH_ID_NUMBER, .number = number};
}
/* <0, 0, >0 in id order. */
int kith_id_compare(const kith_id *a, const kith_id *b);
/* Writes the canonical bytes; returns how many (2..256). */
size_t kith_id_encode(const kith_id *id, uint8_t canonical_out[KITH_ID_CANONICAL_BYTES_MAX]);
/* Borrows `canonical`. False if the bytes are no canonical id. */
bool kith_id_decode(const uint8_t *canonical, size_t bytes, kith_id *id_out);
size_t kith_id_order_key(const kith_id *id, uint8_t key_out[KITH_ID_CANONICAL_BYTES_MAX]);
bool kith_id_from_order_key(const uint8_t *key, size_t bytes, kith_id *id_out);
/* kith_hash64 of the canonical bytes; slot = hash mod KITH_SLOTS. */
uint64_t kith_id_hash(const kith_id *id);
/* kith_hash_for_table of them. */
uint32_t kith_id_hash_for_table(const kith_id *id);
static inline uint32_t kith_id_slot(const kith_id *id) {
    return (uint32_t)(kith_id_hash(id) % KITH_SLOTS);
}
/* An id from client text that is a string: 36-character (8-4-4-4-12), 32-hex, "urn:uuid:" and braced forms of a UUID
 * become the UUID (its 16 bytes go to `uuid_out`, which the id borrows); all else is a string. INVALID for an empty or
 * too long text or one that is not UTF-8. */
KITH_CHECK kith_status kith_id_from_text(
    const char *text, size_t bytes, uint8_t uuid_out[16], kith_id *id_out, kith_err *err);
/* Decimal number, lower-case 8-4-4-4-12, or the string as it is. */
void kith_id_append_text(kith_buf *buf, const kith_id *id);
/* As JSON: a number bare, the others as strings. */
void kith_id_append_json(kith_buf *buf, const kith_id *id);

#endif
