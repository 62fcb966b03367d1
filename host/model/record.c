/* Records: see record.h for the format. Offsets of padding count from the record's first byte, not from where
 * the buffer or the log happens to put it, so that equal writes have equal bytes everywhere. */
#include "host/model/record.h"

#include <string.h>

#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/text.h"

#define HEADER_BYTES     40u
#define RECORD_VERSION   1u
#define RECORD_ALIGNMENT 64u

_Static_assert(KITH_FIELDS_MAX <= 32, "field_mask has 32 bits");

/* --- encode --- */

static void pad_append(kith_buf *buf, size_t start) {
    size_t over = (buf->bytes - start) & (RECORD_ALIGNMENT - 1);
    if (over) memset(kith_buf_grow(buf, RECORD_ALIGNMENT - over), 0, RECORD_ALIGNMENT - over);
}

static void header_append(kith_buf *buf, const kith_op *op) {
    kith_buf_u8(buf, RECORD_VERSION);
    kith_buf_u8(buf, (uint8_t)op->kind);
    kith_buf_u16(buf, 0);
    kith_buf_u32(buf, op->point_count);
    kith_buf_append(buf, op->request_id.client, sizeof op->request_id.client);
    kith_buf_u64(buf, op->request_id.number);
    kith_buf_u64(buf, op->wall_ms);
}

static void fields_append(kith_buf *buf, const kith_schema *schema) {
    kith_buf_u16(buf, (uint16_t)schema->field_count);
    kith_buf_u16(buf, 0);
    kith_buf_u32(buf, 0);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        kith_buf_u32(buf, (uint32_t)kith_field_vector_bytes(&schema->fields[f]));
        kith_buf_u32(buf, 0);
    }
}

static void point_append(kith_buf *buf, const kith_op *op, const kith_op_point *point) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    size_t id_bytes = kith_id_encode(&point->id, canonical);
    kith_buf_u16(buf, (uint16_t)id_bytes);
    kith_buf_append(buf, canonical, id_bytes);
    if (op->kind != KITH_OP_UPSERT) return;
    kith_buf_u32(buf, point->field_mask);
    kith_buf_u32(buf, point->payload_bytes);
    if (point->payload_bytes) kith_buf_append(buf, point->payload, point->payload_bytes);
}

static void field_vectors_append(
    kith_buf *buf, const kith_op *op, const kith_schema *schema, uint32_t f, size_t start) {
    size_t vector_bytes = kith_field_vector_bytes(&schema->fields[f]);
    for (uint32_t i = 0; i < op->point_count; i++) {
        if (op->points[i].field_mask >> f & 1) kith_buf_append(buf, op->points[i].vectors[f], vector_bytes);
    }
    pad_append(buf, start);
}

void kith_op_encode(const kith_op *op, const kith_schema *schema, kith_buf *buf) {
    size_t start = buf->bytes;
    header_append(buf, op);
    if (op->kind == KITH_OP_UPSERT) fields_append(buf, schema);
    for (uint32_t i = 0; i < op->point_count; i++)
        point_append(buf, op, &op->points[i]);
    if (op->kind != KITH_OP_UPSERT) return;
    pad_append(buf, start);
    for (uint32_t f = 0; f < schema->field_count; f++)
        field_vectors_append(buf, op, schema, f, start);
}

/* --- decode --- */

static kith_status bad(const kith_reader *reader, kith_err *err, const char *what) {
    return kith_err_set(
        err, KITH_CORRUPT, "record of %zu bytes: %s at offset %zu", reader->bytes, what, reader->offset);
}

void kith_op_request_id(const void *data, size_t bytes, kith_request_id *request_id_out) {
    *request_id_out = (kith_request_id){0};
    if (bytes < HEADER_BYTES) return;
    memcpy(request_id_out->client, (const uint8_t *)data + 8, sizeof request_id_out->client);
    request_id_out->number = kith_load_u64((const uint8_t *)data + 24);
}

void kith_op_outline(const void *data, size_t bytes, kith_op_kind *kind_out, uint32_t *point_count_out) {
    *kind_out = 0;
    *point_count_out = 0;
    if (bytes < HEADER_BYTES) return;
    *kind_out = (kith_op_kind)((const uint8_t *)data)[1];
    *point_count_out = kith_load_u32((const uint8_t *)data + 4);
}

static kith_status header_read(kith_reader *reader, kith_op *op, kith_err *err) {
    if (reader->bytes < HEADER_BYTES) return bad(reader, err, "header is cut short");
    if (kith_reader_u8(reader) != RECORD_VERSION) return bad(reader, err, "unknown version");
    op->kind = (kith_op_kind)kith_reader_u8(reader);
    if (op->kind != KITH_OP_UPSERT && op->kind != KITH_OP_DELETE) return bad(reader, err, "unknown kind");
    if (kith_reader_u16(reader) != 0) return bad(reader, err, "reserved bytes are not zero");
    op->point_count = kith_reader_u32(reader);
    if (op->point_count < 1 || op->point_count > KITH_BATCH_POINTS_MAX)
        return bad(reader, err, "point count out of range");
    memcpy(op->request_id.client, kith_reader_bytes(reader, 16), 16);
    op->request_id.number = kith_reader_u64(reader);
    op->wall_ms = kith_reader_u64(reader);
    return KITH_OK;
}

static kith_status fields_read(kith_reader *reader, const kith_schema *schema, kith_err *err) {
    uint32_t field_count = kith_reader_u16(reader);
    uint32_t reserved = kith_reader_u16(reader);
    reserved |= kith_reader_u32(reader);
    if (reader->failed || reserved != 0) return bad(reader, err, "field header is cut short or not zero");
    if (field_count != schema->field_count) return bad(reader, err, "field count differs from the schema");
    for (uint32_t f = 0; f < field_count; f++) {
        uint32_t vector_bytes = kith_reader_u32(reader);
        if (kith_reader_u32(reader) != 0) return bad(reader, err, "reserved bytes are not zero");
        if (reader->failed) return bad(reader, err, "field list is cut short");
        if (vector_bytes != kith_field_vector_bytes(&schema->fields[f]))
            return bad(reader, err, "vector bytes differ from the schema");
    }
    return KITH_OK;
}

static kith_status id_read(kith_reader *reader, kith_id *id_out, kith_err *err) {
    size_t bad_offset;
    size_t id_bytes = kith_reader_u16(reader);
    const uint8_t *canonical = kith_reader_bytes(reader, id_bytes);
    if (!canonical) return bad(reader, err, "point id is cut short");
    if (!kith_id_decode(canonical, id_bytes, id_out)) return bad(reader, err, "point id is malformed");
    if (id_out->type != KITH_ID_STRING) return KITH_OK;
    if (!kith_text_utf8_check((const char *)id_out->bytes, id_out->text_bytes, &bad_offset)) {
        return bad(reader, err, "point id is not UTF-8");
    }
    return KITH_OK;
}

static kith_status point_read(
    kith_reader *reader, const kith_schema *schema, kith_op_kind kind, kith_op_point *point, kith_err *err) {
    *point = (kith_op_point){0};
    kith_status status = id_read(reader, &point->id, err);
    if (status != KITH_OK || kind != KITH_OP_UPSERT) return status;
    point->field_mask = kith_reader_u32(reader);
    point->payload_bytes = kith_reader_u32(reader);
    if ((uint64_t)point->field_mask >> schema->field_count != 0)
        return bad(reader, err, "field mask names an unknown field");
    if (point->payload_bytes > KITH_PAYLOAD_BYTES_MAX) return bad(reader, err, "payload is too long");
    const uint8_t *payload = kith_reader_bytes(reader, point->payload_bytes);
    if (!payload) return bad(reader, err, "payload is cut short");
    point->payload = point->payload_bytes ? (const char *)payload : NULL;
    return KITH_OK;
}

static kith_status pad_read(kith_reader *reader, kith_err *err) {
    size_t pad_bytes = -reader->offset & (RECORD_ALIGNMENT - 1);
    const uint8_t *pad = kith_reader_bytes(reader, pad_bytes);
    if (!pad) return bad(reader, err, "padding is cut short");
    for (size_t i = 0; i < pad_bytes; i++) {
        if (pad[i]) return bad(reader, err, "padding is not zero");
    }
    return KITH_OK;
}

static kith_status field_vectors_read(
    kith_reader *reader, const kith_schema *schema, uint32_t f, kith_op *op, kith_err *err) {
    size_t vector_bytes = kith_field_vector_bytes(&schema->fields[f]);
    for (uint32_t i = 0; i < op->point_count; i++) {
        kith_op_point *point = &op->points[i];
        if (!(point->field_mask >> f & 1)) continue;
        point->vectors[f] = kith_reader_bytes(reader, vector_bytes);
        if (!point->vectors[f]) return bad(reader, err, "vectors are cut short");
    }
    return pad_read(reader, err);
}

static kith_status vectors_read(kith_reader *reader, const kith_schema *schema, kith_op *op, kith_err *err) {
    kith_status status = pad_read(reader, err);
    for (uint32_t f = 0; status == KITH_OK && f < schema->field_count; f++) {
        status = field_vectors_read(reader, schema, f, op, err);
    }
    return status;
}

kith_status kith_op_decode(const void *data, size_t bytes, const kith_schema *schema, kith_arena *arena,
    kith_op *op_out, kith_err *err) {
    kith_reader reader = kith_reader_of(data, bytes);
    kith_op op;
    kith_status status = header_read(&reader, &op, err);
    if (status == KITH_OK && op.kind == KITH_OP_UPSERT) status = fields_read(&reader, schema, err);
    if (status != KITH_OK) return status;
    /* The least a point takes is 4 bytes (a length and a 2-byte id): a short record cannot ask for much
     * memory. */
    if (kith_reader_left(&reader) / 4 < op.point_count) return bad(&reader, err, "points are cut short");
    op.points = kith_arena_array(arena, op.point_count, sizeof *op.points);
    for (uint32_t i = 0; i < op.point_count; i++) {
        status = point_read(&reader, schema, op.kind, &op.points[i], err);
        if (status != KITH_OK) return status;
    }
    if (op.kind == KITH_OP_UPSERT) status = vectors_read(&reader, schema, &op, err);
    if (status != KITH_OK) return status;
    if (kith_reader_left(&reader) != 0) return bad(&reader, err, "bytes follow the end");
    *op_out = op;
    return KITH_OK;
}
