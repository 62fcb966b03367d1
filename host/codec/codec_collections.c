/* Requests and responses of kith.v1.Collections. */
#include "host/codec/codec_collections.h"

#include "host/codec/codec_wire.h"

#include "kith/v1/collections.pb-c.h"

_Static_assert(
    (int)KITH_METRIC_L2 == KITH__V1__METRIC__METRIC_L2, "metrics have the same numbers everywhere");
_Static_assert(
    (int)KITH_METRIC_L1 == KITH__V1__METRIC__METRIC_L1, "metrics have the same numbers everywhere");
_Static_assert(
    (int)KITH_TYPE_F32 == KITH__V1__VECTOR_TYPE__VECTOR_TYPE_F32, "types have the same numbers everywhere");
_Static_assert(
    (int)KITH_TYPE_I8 == KITH__V1__VECTOR_TYPE__VECTOR_TYPE_I8, "types have the same numbers everywhere");
_Static_assert((int)KITH_DURABILITY_UNSAID == KITH__V1__DURABILITY__DURABILITY_UNSPECIFIED,
    "durabilities have the same numbers everywhere");
_Static_assert((int)KITH_DURABILITY_SYNC == KITH__V1__DURABILITY__DURABILITY_SYNC,
    "durabilities have the same numbers everywhere");
_Static_assert((int)KITH_DURABILITY_ASYNC == KITH__V1__DURABILITY__DURABILITY_ASYNC,
    "durabilities have the same numbers everywhere");

/* protobuf-c keeps enum numbers that it does not know. */
static kith_status durability_decode(
    Kith__V1__Durability message, kith_durability *durability_out, kith_err *err) {
    int durability = (int)message;
    if (durability < 0 || durability > KITH_DURABILITY_ASYNC) {
        return kith_err_set(err, KITH_INVALID,
            "durability: %d is not DURABILITY_UNSPECIFIED (0), DURABILITY_SYNC (1) or DURABILITY_ASYNC (2)",
            durability);
    }
    *durability_out = (kith_durability)durability;
    return KITH_OK;
}

static kith_status enums_check(const Kith__V1__VectorField *message, kith_err *err) {
    int metric = (int)message->metric, type = (int)message->type;
    if (metric < KITH_METRIC_L2 || metric > KITH_METRIC_L1) {
        return kith_err_set(err, KITH_INVALID,
            "metric: %d is not METRIC_L2 (1), METRIC_IP (2), METRIC_COSINE (3) or METRIC_L1 (4)", metric);
    }
    if (type < 0 || type > KITH_TYPE_I8) {
        return kith_err_set(err, KITH_INVALID,
            "type: %d is not VECTOR_TYPE_F32 (0 or 1), VECTOR_TYPE_F16 (2), VECTOR_TYPE_BF16 (3) or "
            "VECTOR_TYPE_I8 (4)",
            type);
    }
    return KITH_OK;
}

static kith_status field_decode(
    const Kith__V1__VectorField *message, kith_arena *arena, kith_field *field_out, kith_err *err) {
    const char *name;
    kith_status status = kith_codec_text(message->name, "name", arena, &name, err);
    if (status == KITH_OK && message->name.len > KITH_NAME_BYTES_MAX) {
        status = kith_err_set(err, KITH_INVALID, "name: %zu bytes; at most %u are allowed", message->name.len,
            KITH_NAME_BYTES_MAX);
    }
    if (status == KITH_OK) status = enums_check(message, err);
    if (status != KITH_OK) return status;
    *field_out = (kith_field){.dim = message->dim, .metric = (kith_metric)message->metric};
    field_out->type = message->type == 0 ? KITH_TYPE_F32 : (kith_vector_type)message->type;
    memcpy(field_out->name, name, message->name.len + 1);
    return KITH_OK;
}

kith_status kith_codec_create_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_create_request *request_out, kith_err *err) {
    const Kith__V1__CreateCollectionRequest *message = kith_codec_unpack(
        &kith__v1__create_collection_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_create_request request = {.shard_count = message->shard_count,
        .replication_factor = message->replication_factor,
        .min_in_sync = message->min_in_sync};
    kith_status status = kith_codec_text(message->name, "name", arena, &request.name, err);
    if (status == KITH_OK) status = durability_decode(message->durability, &request.durability, err);
    if (status != KITH_OK) return status;
    if (message->n_fields > KITH_FIELDS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "fields: %zu; 1..%u are allowed", message->n_fields, KITH_FIELDS_MAX);
    }
    for (size_t i = 0; i < message->n_fields; i++) {
        status = field_decode(message->fields[i], arena, &request.schema.fields[i], err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "fields[%zu]", i);
    }
    request.schema.field_count = (uint32_t)message->n_fields;
    *request_out = request;
    return KITH_OK;
}

kith_status kith_codec_update_request_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_update_request *request_out, kith_err *err) {
    const Kith__V1__UpdateCollectionRequest *message = kith_codec_unpack(
        &kith__v1__update_collection_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    kith_codec_update_request request = {
        .replication_factor = message->replication_factor, .min_in_sync = message->min_in_sync};
    kith_status status = kith_codec_text(message->name, "name", arena, &request.name, err);
    if (status == KITH_OK) status = durability_decode(message->durability, &request.durability, err);
    if (status == KITH_OK) *request_out = request;
    return status;
}

kith_status kith_codec_get_collection_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_name_request *request_out, kith_err *err) {
    const Kith__V1__GetCollectionRequest *message = kith_codec_unpack(
        &kith__v1__get_collection_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    request_out->missing_ok = false;
    return kith_codec_text(message->name, "name", arena, &request_out->name, err);
}

kith_status kith_codec_delete_collection_request_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_name_request *request_out, kith_err *err) {
    const Kith__V1__DeleteCollectionRequest *message = kith_codec_unpack(
        &kith__v1__delete_collection_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    request_out->missing_ok = message->missing_ok;
    return kith_codec_text(message->name, "name", arena, &request_out->name, err);
}

kith_status kith_codec_list_request_decode(const void *data, size_t bytes, kith_arena *arena, kith_err *err) {
    const void *message = kith_codec_unpack(
        &kith__v1__list_collections_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    return message ? KITH_OK : KITH_INVALID;
}

static void field_encode(const kith_field *field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 3);
    kith_wire_text(buf, 1, field->name);
    kith_wire_u64(buf, 2, field->dim);
    kith_wire_u64(buf, 3, (uint64_t)field->metric);
    kith_wire_u64(buf, 4, (uint64_t)field->type);
    kith_wire_close(buf, mark);
}

void kith_codec_collection_append(const kith_codec_collection_info *info, kith_buf *buf) {
    const kith_collection *collection = info->collection;
    size_t mark = kith_wire_open(buf, 1);
    kith_wire_text(buf, 1, collection->name);
    kith_wire_u64(buf, 2, collection->id);
    for (uint32_t i = 0; i < collection->schema.field_count; i++)
        field_encode(&collection->schema.fields[i], buf);
    kith_wire_u64(buf, 4, collection->shard_count);
    kith_wire_u64(buf, 5, collection->created_wall_ms);
    kith_wire_u64(buf, 6, info->points);
    kith_wire_u64(buf, 7, info->segments);
    kith_wire_u64(buf, 8, info->segments_sealed);
    kith_wire_u64(buf, 9, info->vector_bytes);
    kith_wire_text(buf, 10, info->health);
    kith_wire_u64(buf, 11, collection->replication_factor);
    kith_wire_u64(buf, 12, collection->min_in_sync);
    kith_wire_u64(buf, 13, (uint64_t)collection->durability);
    kith_wire_close(buf, mark);
}

void kith_codec_created_append(bool existed, kith_buf *buf) {
    kith_wire_u64(buf, 2, existed);
}

void kith_codec_updated_append(bool changed, kith_buf *buf) {
    kith_wire_u64(buf, 2, changed);
}

void kith_codec_delete_collection_response_encode(bool deleted, kith_buf *buf) {
    kith_wire_u64(buf, 1, deleted);
}
