/* Write operations as bytes: what a log entry of a shard holds. Deterministic to apply: vectors are already in stored
 * type, time is inside.
 *
 * Format, version 1, little-endian:
 *   u8 version=1 | u8 kind (1 upsert, 2 delete) | u16 0 | u32 point_count | 16 B client | u64 number | u64 wall_ms
 *   upsert: u16 field_count, u16 0, u32 0; then per field: u32 vector_bytes (stored bytes of one vector), u32 0
 *   per point: u16 id_bytes, canonical id; upsert also: u32 field_mask (bit f: has field f), u32 payload_bytes, payload
 *   upsert: zero padding to 64; then per field: [points that have it] vectors, each field padded to 64
 * A decoder trusts no length (fuzz target tests/fuzz/fuzz_record.c); a golden file per version stays for ever.
 *
 * Threads: pure; a decoded record borrows the bytes it was decoded from and the arena. */
#ifndef KITH_MODEL_RECORD_H
#define KITH_MODEL_RECORD_H

#include <string.h>

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/id.h"
#include "host/model/schema.h"

/* Names one write for ever: a repeat of the same pair gets the first answer (within the shard's window). All zero
 * client: not remembered. */
typedef struct kith_request_id {
    uint8_t client[16];
    uint64_t number;
} kith_request_id;

static inline bool kith_request_id_is_none(const kith_request_id *id) {
    static const uint8_t none[sizeof id->client];
    return memcmp(id->client, none, sizeof none) == 0;
}

typedef enum kith_op_kind { KITH_OP_UPSERT = 1, KITH_OP_DELETE = 2 } kith_op_kind;

typedef struct kith_op_point {
    kith_id id;
    uint32_t field_mask;
    const uint8_t *vectors[KITH_FIELDS_MAX]; /* stored bytes, or NULL where the point lacks the field */
    const char *payload;                     /* JSON object text, or NULL */
    uint32_t payload_bytes;
} kith_op_point;

typedef struct kith_op {
    kith_op_kind kind;
    kith_request_id request_id;
    uint64_t wall_ms;
    uint32_t point_count;
    kith_op_point *points;
} kith_op;

/* Of an encoded op, without a look at the rest; none where it is too short to have one. */
void kith_op_request_id(const void *data, size_t bytes, kith_request_id *request_id_out);
/* Likewise: what it does, and to how many points. Kind 0: too short. */
void kith_op_outline(const void *data, size_t bytes, kith_op_kind *kind_out, uint32_t *point_count_out);
void kith_op_encode(const kith_op *op, const kith_schema *schema, kith_buf *buf);
/* Points are allocated from `arena`; ids, payloads and vectors borrow `data`. Refuses (CORRUPT, saying what and where)
 * anything that does not fit the schema or the limits. */
KITH_CHECK kith_status kith_op_decode(const void *data, size_t bytes, const kith_schema *schema,
    kith_arena *arena, kith_op *op_out, kith_err *err);

#endif
