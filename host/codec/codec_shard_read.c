/* Gets and scrolls between nodes: points with their vectors in stored type. */
#include "host/codec/codec_shard_common.h"

#define VECTOR_ALIGNMENT 16u

/* --- request --- */

static void ids_encode(const kith_id *ids, uint32_t count, uint32_t field, kith_buf *buf) {
    size_t ids_mark = kith_wire_open(buf, field);
    size_t mark = kith_wire_open(buf, 2);
    for (uint32_t i = 0; i < count; i++)
        kith_codec_canonical_append(&ids[i], buf);
    kith_wire_close(buf, mark);
    kith_wire_close(buf, ids_mark);
}

void kith_codec_shard_read_request_encode(const kith_codec_shard_read_request *request, kith_buf *buf) {
    kith_wire_u64(buf, 1, request->collection_id);
    kith_wire_u64(buf, 10, request->map_version);
    kith_wire_u64(buf, 2, request->shard_id);
    kith_wire_u64(buf, 3, (uint64_t)request->kind);
    if (request->id_count > 0) ids_encode(request->ids, request->id_count, 4, buf);
    if (request->has_from) {
        uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
        kith_wire_bytes(buf, 5, canonical, kith_id_encode(&request->from, canonical));
    }
    kith_wire_u64(buf, 6, request->limit);
    kith_wire_u64(buf, 7, request->with_payload);
    kith_wire_u64(buf, 8, request->with_vectors);
    kith_wire_u64(buf, 9, request->bytes_max);
    kith_wire_u64(buf, 11, request->read);
    kith_wire_u64(buf, 12, request->token);
}

/* Counted first: a message says nothing about how many there are. */
static kith_status ids_decode(const Kith__Internal__V1__ShardIds *message, kith_arena *arena,
    kith_codec_shard_read_request *request, kith_err *err) {
    kith_codec_ids_reader reader;
    kith_id id;
    if (!kith_codec_ids_reader_init(&reader, message)) {
        return kith_err_set(err, KITH_INTERNAL, "ids: numbers and canonical are both set");
    }
    kith_codec_ids_reader counter = reader;
    uint32_t count = 0;
    while (count <= KITH_BATCH_POINTS_MAX && kith_codec_ids_reader_next(&counter, &id))
        count++;
    if (count > KITH_BATCH_POINTS_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "ids: more than %u", KITH_BATCH_POINTS_MAX);
    }
    if (!kith_codec_ids_reader_ended(&counter)) {
        return kith_err_set(err, KITH_INTERNAL, "ids: the bytes after id %u are no id", count);
    }
    kith_id *ids = kith_arena_array(arena, count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++)
        (void)kith_codec_ids_reader_next(&reader, &ids[i]);
    request->ids = ids;
    request->id_count = count;
    return KITH_OK;
}

static kith_status scroll_decode(const Kith__Internal__V1__ShardReadRequest *message,
    kith_codec_shard_read_request *request, kith_err *err) {
    if (message->limit < 1 || message->limit > KITH_SCROLL_POINTS_MAX) {
        return kith_err_set(
            err, KITH_INTERNAL, "limit: %u is not in 1..%u", message->limit, KITH_SCROLL_POINTS_MAX);
    }
    request->has_from = message->from.len > 0;
    if (request->has_from && !kith_id_decode(message->from.data, message->from.len, &request->from)) {
        return kith_err_set(err, KITH_INTERNAL, "from: %zu bytes are no id", message->from.len);
    }
    return KITH_OK;
}

kith_status kith_codec_shard_read_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_shard_read_request *request_out, kith_err *err) {
    const Kith__Internal__V1__ShardReadRequest *message = kith_codec_unpack(
        &kith__internal__v1__shard_read_request__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    kith_codec_shard_read_request request = {.collection_id = message->collection_id,
        .map_version = message->map_version,
        .shard_id = message->shard_id,
        .kind = (kith_codec_read_kind)message->kind,
        .limit = message->limit,
        .with_payload = message->with_payload,
        .with_vectors = message->with_vectors,
        .bytes_max = message->bytes_max,
        .read = message->read,
        .token = message->token};
    kith_status status = kith_codec_shard_read_check(message->read, err);
    if (status != KITH_OK) return status;
    switch (message->kind) {
    case KITH_CODEC_READ_GET:
        status = ids_decode(message->ids, arena, &request, err);
        break;
    case KITH_CODEC_READ_SCROLL:
        status = scroll_decode(message, &request, err);
        break;
    default:
        status = kith_err_set(err, KITH_INTERNAL, "kind: %u is not 1 (get) or 2 (scroll)", message->kind);
    }
    if (status == KITH_OK) *request_out = request;
    return status;
}

/* --- response --- */

static size_t vector_bytes_padded(const kith_field *field) {
    return (kith_field_vector_bytes(field) + VECTOR_ALIGNMENT - 1) & ~(size_t)(VECTOR_ALIGNMENT - 1);
}

static void vectors_encode(const kith_codec_shard_point *point, const kith_schema *schema, kith_buf *buf) {
    uint32_t mask = 0;
    size_t bytes = 0;
    for (uint32_t f = 0; f < schema->field_count; f++) {
        if (!point->vectors[f]) continue;
        mask |= 1u << f;
        bytes += vector_bytes_padded(&schema->fields[f]);
    }
    if (mask == 0) return;
    kith_wire_u64(buf, 5, mask);
    kith_wire_head(buf, 6, bytes);
    for (uint32_t f = 0; f < schema->field_count; f++) {
        if (!point->vectors[f]) continue;
        size_t vector_bytes = kith_field_vector_bytes(&schema->fields[f]);
        size_t padded_bytes = vector_bytes_padded(&schema->fields[f]);
        uint8_t *at = kith_buf_grow(buf, padded_bytes);
        memcpy(at, point->vectors[f], vector_bytes);
        memset(at + vector_bytes, 0, padded_bytes - vector_bytes);
    }
}

static void point_encode(const kith_codec_shard_point *point, const kith_schema *schema, kith_buf *buf) {
    uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
    size_t mark = kith_wire_open(buf, 1);
    kith_wire_bytes(buf, 1, canonical, kith_id_encode(&point->id, canonical));
    kith_wire_u64(buf, 2, point->sequence);
    kith_wire_bytes(buf, 3, point->payload, point->payload_bytes);
    kith_wire_u64(buf, 4, point->field_mask);
    vectors_encode(point, schema, buf);
    kith_wire_close(buf, mark);
}

void kith_codec_shard_read_response_encode(
    const kith_codec_shard_read_response *response, const kith_schema *schema, kith_buf *buf) {
    for (uint32_t i = 0; i < response->count; i++)
        point_encode(&response->points[i], schema, buf);
    if (response->has_next) {
        uint8_t canonical[KITH_ID_CANONICAL_BYTES_MAX];
        kith_wire_bytes(buf, 3, canonical, kith_id_encode(&response->next, canonical));
    }
}

static kith_status vectors_decode(const Kith__Internal__V1__ShardPoint *message, const kith_schema *schema,
    kith_codec_shard_point *point, kith_err *err) {
    uint32_t allowed = (uint32_t)((1ull << schema->field_count) - 1);
    if ((message->field_mask & ~allowed) != 0 || (message->vector_mask & ~message->field_mask) != 0) {
        return kith_err_set(err, KITH_INTERNAL, "field_mask 0x%x and vector_mask 0x%x do not fit %u fields",
            message->field_mask, message->vector_mask, schema->field_count);
    }
    size_t offset = 0;
    for (uint32_t f = 0; f < schema->field_count; f++) {
        if (!(message->vector_mask >> f & 1)) continue;
        size_t padded_bytes = vector_bytes_padded(&schema->fields[f]);
        if (message->vectors.len - offset < padded_bytes) {
            return kith_err_set(
                err, KITH_INTERNAL, "vectors: %zu bytes end within field %u", message->vectors.len, f);
        }
        point->vectors[f] = message->vectors.data + offset;
        offset += padded_bytes;
    }
    if (offset == message->vectors.len) return KITH_OK;
    return kith_err_set(
        err, KITH_INTERNAL, "vectors: %zu bytes; %zu are needed", message->vectors.len, offset);
}

static kith_status point_decode(const Kith__Internal__V1__ShardPoint *message, const kith_schema *schema,
    kith_codec_shard_point *point_out, kith_err *err) {
    *point_out = (kith_codec_shard_point){.sequence = message->sequence,
        .payload = message->payload.len > 0 ? (const char *)message->payload.data : NULL,
        .payload_bytes = (uint32_t)message->payload.len,
        .field_mask = message->field_mask};
    if (!kith_id_decode(message->id.data, message->id.len, &point_out->id)) {
        return kith_err_set(err, KITH_INTERNAL, "id: %zu bytes are no id", message->id.len);
    }
    return vectors_decode(message, schema, point_out, err);
}

/* Whoever is told to go on must have come further. */
static kith_status next_decode(const Kith__Internal__V1__ShardReadResponse *message,
    kith_codec_shard_read_response *response, kith_err *err) {
    response->has_next = message->next.len > 0;
    if (!response->has_next) return KITH_OK;
    if (!kith_id_decode(message->next.data, message->next.len, &response->next))
        return kith_err_set(err, KITH_INTERNAL, "next: %zu bytes are no id", message->next.len);
    if (message->n_points > 0) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "next: is set, but there is no point before it");
}

kith_status kith_codec_shard_read_response_decode(const void *data, size_t bytes, const kith_schema *schema,
    kith_arena *arena, kith_codec_shard_read_response *response_out, kith_err *err) {
    const Kith__Internal__V1__ShardReadResponse *message = kith_codec_unpack(
        &kith__internal__v1__shard_read_response__descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) return KITH_INTERNAL;
    if (message->n_points > KITH_BATCH_POINTS_MAX) {
        return kith_err_set(err, KITH_INTERNAL, "points: %zu; at most %u are allowed", message->n_points,
            KITH_BATCH_POINTS_MAX);
    }
    kith_codec_shard_point *points = kith_arena_array(arena, message->n_points, sizeof *points);
    for (size_t i = 0; i < message->n_points; i++) {
        kith_status status = point_decode(message->points[i], schema, &points[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "points[%zu]", i);
    }
    kith_codec_shard_read_response response = {.points = points, .count = (uint32_t)message->n_points};
    kith_status status = next_decode(message, &response, err);
    if (status == KITH_OK) *response_out = response;
    return status;
}
