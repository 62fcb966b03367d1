/* Written with codec_wire.h, read with protobuf-c into the caller's arena, like the server's side. A server
 * is trusted no more than a client: every length is checked before it is used. */
#include "host/codec/codec_client.h"

#include <string.h>

#include "grpc/health/v1/health.pb-c.h"
#include "host/codec/codec_ids.h"
#include "host/codec/codec_wire.h"
#include "kith/v1/collections.pb-c.h"
#include "kith/v1/points.pb-c.h"

static void *unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_err *err) {
    void *message = kith_codec_unpack(descriptor, data, bytes, arena, KITH_INTERNAL, err);
    if (!message) (void)kith_err_wrap(err, KITH_INTERNAL, "the server's answer is broken");
    return message;
}

static kith_status answer_fault(kith_err *err, const char *what) {
    return kith_err_set(err, KITH_INTERNAL, "the server's answer is broken: %s", what);
}

static kith_status text_from(
    ProtobufCBinaryData from, const char *what, kith_arena *arena, const char **text_out, kith_err *err) {
    if (kith_codec_text(from, what, arena, text_out, err) == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, KITH_INTERNAL, "the server's answer is broken");
}

/* A name into its array of KITH_NAME_BYTES_MAX + 1. */
static kith_status name_from(
    ProtobufCBinaryData from, const char *what, kith_arena *arena, char *name_out, kith_err *err) {
    const char *text;
    if (from.len > KITH_NAME_BYTES_MAX) return answer_fault(err, "a name is longer than 255 bytes");
    kith_status status = text_from(from, what, arena, &text, err);
    if (status == KITH_OK) memcpy(name_out, text, strlen(text) + 1);
    return status;
}

static kith_status id_from(
    const Kith__V1__PointId *message, kith_arena *arena, kith_id *id_out, kith_err *err) {
    if (kith_codec_id_decode(message, arena, id_out, err) == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, KITH_INTERNAL, "the server's answer is broken");
}

/* Any number of ids. */
static kith_status ids_from(
    const Kith__V1__IdList *list, kith_arena *arena, kith_id **ids_out, size_t *count_out, kith_err *err) {
    *ids_out = NULL;
    *count_out = 0;
    if (!list) return KITH_OK;
    if (list->numbers.len % 8 || (list->n_ids && list->numbers.len))
        return answer_fault(err, "a list of ids");
    size_t count = list->n_ids ? list->n_ids : list->numbers.len / 8;
    kith_id *ids = kith_arena_array(arena, count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        kith_status status = KITH_OK;
        if (list->n_ids)
            status = id_from(list->ids[i], arena, &ids[i], err);
        else
            ids[i] = kith_id_of_number(kith_load_u64(list->numbers.data + i * 8));
        if (status != KITH_OK) return status;
    }
    *ids_out = ids;
    *count_out = count;
    return KITH_OK;
}

/* --- collections ------------------------------------------------------------------------------------------
 */

/* Field numbers are those of proto/kith/v1. */
void kith_codec_client_create_encode(const char *name, const kith_collection *wish, kith_buf *buf) {
    kith_wire_text(buf, 1, name);
    for (uint32_t i = 0; i < wish->schema.field_count; i++) {
        const kith_field *field = &wish->schema.fields[i];
        size_t mark = kith_wire_open(buf, 2);
        kith_wire_text(buf, 1, field->name);
        kith_wire_u64(buf, 2, field->dim);
        kith_wire_u64(buf, 3, (uint64_t)field->metric);
        kith_wire_u64(buf, 4, (uint64_t)field->type);
        kith_wire_close(buf, mark);
    }
    kith_wire_u64(buf, 3, wish->shard_count);
    kith_wire_u64(buf, 4, wish->replication_factor);
    kith_wire_u64(buf, 5, wish->min_in_sync);
    kith_wire_u64(buf, 6, (uint64_t)wish->durability);
}

void kith_codec_client_update_encode(const char *name, const kith_collection *wish, kith_buf *buf) {
    kith_wire_text(buf, 1, name);
    kith_wire_u64(buf, 2, wish->replication_factor);
    kith_wire_u64(buf, 3, wish->min_in_sync);
    kith_wire_u64(buf, 4, (uint64_t)wish->durability);
}

void kith_codec_client_describe_encode(const char *name, kith_buf *buf) {
    kith_wire_text(buf, 1, name);
}

void kith_codec_client_list_encode(kith_buf *buf) {
    (void)buf; /* an empty message */
}

void kith_codec_client_drop_encode(const char *name, bool missing_ok, kith_buf *buf) {
    kith_wire_text(buf, 1, name);
    kith_wire_u64(buf, 2, missing_ok);
}

static kith_status field_from(
    const Kith__V1__VectorField *message, kith_arena *arena, kith_field *field_out, kith_err *err) {
    kith_status status = name_from(message->name, "fields.name", arena, field_out->name, err);
    if (status != KITH_OK) return status;
    field_out->dim = message->dim;
    field_out->metric = (kith_metric)message->metric;
    field_out->type = message->type ? (kith_vector_type)message->type : KITH_TYPE_F32;
    bool known = kith_metric_name(field_out->metric) && kith_vector_type_name(field_out->type);
    return known ? KITH_OK : answer_fault(err, "a metric or type that this client does not know");
}

/* A server from before there was a choice says nothing. */
static kith_status durability_from(
    Kith__V1__Durability message, kith_durability *durability_out, kith_err *err) {
    *durability_out = message ? (kith_durability)message : KITH_DURABILITY_SYNC;
    return kith_durability_name(*durability_out)
               ? KITH_OK
               : answer_fault(err, "a durability that this client does not know");
}

static kith_status collection_from(const Kith__V1__CollectionInfo *info, kith_arena *arena,
    kith_codec_client_collection *collection_out, kith_err *err) {
    if (!info) return answer_fault(err, "no collection in it");
    if (info->n_fields > KITH_FIELDS_MAX) return answer_fault(err, "too many vector fields");
    memset(collection_out, 0, sizeof *collection_out);
    kith_collection *collection = &collection_out->collection;
    kith_status status = name_from(info->name, "name", arena, collection->name, err);
    for (size_t i = 0; i < info->n_fields && status == KITH_OK; i++)
        status = field_from(info->fields[i], arena, &collection->schema.fields[i], err);
    if (status == KITH_OK) status = text_from(info->health, "health", arena, &collection_out->health, err);
    if (status == KITH_OK) status = durability_from(info->durability, &collection->durability, err);
    if (status != KITH_OK) return status;
    collection->schema.field_count = (uint32_t)info->n_fields;
    collection->id = info->id;
    collection->shard_count = info->shard_count;
    collection->created_wall_ms = info->created_unix_ms;
    collection->replication_factor = info->replication_factor;
    collection->min_in_sync = info->min_in_sync;
    collection_out->points = info->points;
    collection_out->segments = info->segments;
    collection_out->segments_sealed = info->segments_sealed;
    collection_out->vector_bytes = info->vector_bytes;
    return KITH_OK;
}

/* CreateCollectionResponse and GetCollectionResponse are the same bytes: field 1, the collection. */
kith_status kith_codec_client_create_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, bool *existed_out, kith_err *err) {
    Kith__V1__CreateCollectionResponse *response =
        unpack(&kith__v1__create_collection_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_status status = collection_from(response->collection, arena, collection_out, err);
    if (status == KITH_OK) *existed_out = response->existed;
    return status;
}

kith_status kith_codec_client_update_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, bool *changed_out, kith_err *err) {
    Kith__V1__UpdateCollectionResponse *response =
        unpack(&kith__v1__update_collection_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_status status = collection_from(response->collection, arena, collection_out, err);
    if (status == KITH_OK) *changed_out = response->changed;
    return status;
}

kith_status kith_codec_client_collection_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, kith_err *err) {
    Kith__V1__GetCollectionResponse *response =
        unpack(&kith__v1__get_collection_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    return collection_from(response->collection, arena, collection_out, err);
}

kith_status kith_codec_client_list_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection **collections_out, uint32_t *count_out, kith_err *err) {
    Kith__V1__ListCollectionsResponse *response =
        unpack(&kith__v1__list_collections_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_codec_client_collection *collections =
        kith_arena_array(arena, response->n_collections, sizeof *collections);
    for (size_t i = 0; i < response->n_collections; i++) {
        kith_status status = collection_from(response->collections[i], arena, &collections[i], err);
        if (status != KITH_OK) return status;
    }
    *collections_out = collections;
    *count_out = (uint32_t)response->n_collections;
    return KITH_OK;
}

kith_status kith_codec_client_drop_decode(
    const void *data, size_t bytes, kith_arena *arena, bool *deleted_out, kith_err *err) {
    Kith__V1__DeleteCollectionResponse *response =
        unpack(&kith__v1__delete_collection_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    *deleted_out = response->deleted;
    return KITH_OK;
}

/* --- writes -----------------------------------------------------------------------------------------------
 */

static void request_id_encode(const kith_request_id *request_id, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 2);
    kith_wire_bytes(buf, 1, request_id->client, sizeof request_id->client);
    kith_wire_u64(buf, 2, request_id->number);
    kith_wire_close(buf, mark);
}

/* Tag, length and `bytes` bytes of a field whose number is below 16; nothing when there are none. */
static size_t field_bytes(size_t bytes) {
    return bytes ? 1 + kith_wire_varint_bytes(bytes) + bytes : 0;
}

/* A VectorColumn, its length reckoned first: megabytes of values are copied once and not moved. */
static void column_encode(const kith_codec_client_column *column, uint32_t point_count, kith_buf *buf) {
    size_t values_bytes = (size_t)column->row_count * column->dim * sizeof *column->values;
    size_t present_bytes = column->present ? point_count : 0;
    kith_wire_head(
        buf, 2, field_bytes(strlen(column->field)) + field_bytes(values_bytes) + field_bytes(present_bytes));
    kith_wire_text(buf, 1, column->field);
    kith_wire_bytes(buf, 2, column->values, values_bytes);
    kith_wire_bytes(buf, 3, column->present, present_bytes);
}

void kith_codec_client_upsert_encode(const kith_codec_client_upsert *upsert, kith_buf *buf) {
    kith_wire_text(buf, 1, upsert->collection);
    request_id_encode(&upsert->request_id, buf);
    size_t mark = kith_wire_open(buf, 4);
    kith_codec_ids_encode(upsert->ids, upsert->point_count, 1, buf);
    for (uint32_t i = 0; i < upsert->column_count; i++)
        column_encode(&upsert->columns[i], upsert->point_count, buf);
    for (uint32_t i = 0; upsert->payloads && i < upsert->point_count; i++)
        kith_wire_bytes_always(
            buf, 3, upsert->payloads[i], upsert->payloads[i] ? upsert->payload_bytes[i] : 0);
    kith_wire_close(buf, mark);
}

kith_status kith_codec_client_upsert_answer_decode(const void *data, size_t bytes, kith_arena *arena,
    int *code_out, const char **message_out, kith_err *err) {
    Kith__V1__UpsertStreamResponse *response =
        unpack(&kith__v1__upsert_stream_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_status status = text_from(response->message, "message", arena, message_out, err);
    if (status == KITH_OK) *code_out = (int)response->code;
    return status;
}

void kith_codec_client_delete_encode(const char *collection, const kith_request_id *request_id,
    const kith_id *ids, uint32_t id_count, kith_buf *buf) {
    kith_wire_text(buf, 1, collection);
    request_id_encode(request_id, buf);
    kith_codec_ids_encode(ids, id_count, 3, buf);
}

kith_status kith_codec_client_delete_decode(
    const void *data, size_t bytes, kith_arena *arena, uint32_t *deleted_out, kith_err *err) {
    Kith__V1__DeletePointsResponse *response =
        unpack(&kith__v1__delete_points_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    *deleted_out = response->deleted;
    return KITH_OK;
}

/* --- points -----------------------------------------------------------------------------------------------
 */

void kith_codec_client_get_encode(const char *collection, const kith_id *ids, uint32_t id_count,
    bool with_payload, bool with_vectors, kith_read_consistency read, kith_buf *buf) {
    kith_wire_text(buf, 1, collection);
    kith_codec_ids_encode(ids, id_count, 2, buf);
    kith_wire_u64(buf, 3, with_payload);
    kith_wire_u64(buf, 4, with_vectors);
    kith_wire_u64(buf, 5, (uint64_t)read);
}

void kith_codec_client_scroll_encode(const char *collection, const kith_id *from, uint32_t limit,
    bool with_payload, bool with_vectors, kith_read_consistency read, kith_buf *buf) {
    kith_wire_text(buf, 1, collection);
    if (from) kith_codec_id_encode(from, 2, buf);
    kith_wire_u64(buf, 3, limit);
    kith_wire_u64(buf, 4, with_payload);
    kith_wire_u64(buf, 5, with_vectors);
    kith_wire_u64(buf, 6, (uint64_t)read);
}

static kith_status vector_from(const Kith__V1__NamedVector *message, kith_arena *arena,
    kith_codec_client_vector *vector_out, kith_err *err) {
    if (message->values.len % sizeof(float)) return answer_fault(err, "a vector is cut");
    kith_status status = text_from(message->field, "vectors.field", arena, &vector_out->field, err);
    if (status != KITH_OK) return status;
    vector_out->values = (const float *)(const void *)message->values.data; /* the arena aligns to 16 */
    vector_out->dim = (uint32_t)(message->values.len / sizeof(float));
    return KITH_OK;
}

static kith_status point_from(
    const Kith__V1__Point *message, kith_arena *arena, kith_codec_client_point *point_out, kith_err *err) {
    if (!message->id) return answer_fault(err, "a point without an id");
    kith_status status = id_from(message->id, arena, &point_out->id, err);
    if (status != KITH_OK) return status;
    kith_codec_client_vector *vectors = kith_arena_array(arena, message->n_vectors, sizeof *vectors);
    for (size_t i = 0; i < message->n_vectors; i++) {
        status = vector_from(message->vectors[i], arena, &vectors[i], err);
        if (status != KITH_OK) return status;
    }
    point_out->vectors = vectors;
    point_out->vector_count = (uint32_t)message->n_vectors;
    point_out->payload = message->payload.len ? (const char *)message->payload.data : NULL;
    point_out->payload_bytes = (uint32_t)message->payload.len;
    return KITH_OK;
}

static kith_status points_from(Kith__V1__Point *const *messages, size_t count, kith_arena *arena,
    kith_codec_client_points *points_out, kith_err *err) {
    kith_codec_client_point *points = kith_arena_array(arena, count, sizeof *points);
    for (size_t i = 0; i < count; i++) {
        kith_status status = point_from(messages[i], arena, &points[i], err);
        if (status != KITH_OK) return status;
    }
    *points_out = (kith_codec_client_points){.points = points, .count = (uint32_t)count};
    return KITH_OK;
}

kith_status kith_codec_client_get_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_points *points_out, kith_err *err) {
    Kith__V1__GetPointsResponse *response =
        unpack(&kith__v1__get_points_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    return points_from(response->points, response->n_points, arena, points_out, err);
}

kith_status kith_codec_client_scroll_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_points *points_out, kith_err *err) {
    Kith__V1__ScrollResponse *response =
        unpack(&kith__v1__scroll_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_codec_client_points points;
    kith_status status = points_from(response->points, response->n_points, arena, &points, err);
    if (status == KITH_OK && response->next) {
        points.has_next = true;
        status = id_from(response->next, arena, &points.next, err);
    }
    if (status == KITH_OK) *points_out = points;
    return status;
}

/* --- search and count -------------------------------------------------------------------------------------
 */

void kith_codec_client_search_encode(const kith_codec_client_search *search, kith_buf *buf) {
    kith_wire_text(buf, 1, search->collection);
    kith_wire_text(buf, 2, search->field);
    kith_wire_u32_array(buf, 3, search->queries, (size_t)search->query_count * search->dim);
    kith_wire_u64(buf, 4, search->k);
    if (search->exact) {
        size_t mark = kith_wire_open(buf, 5);
        kith_wire_u64(buf, 1, 1);
        kith_wire_close(buf, mark);
    }
    kith_wire_u64(buf, 6, search->with_payload);
    kith_wire_u64(buf, 7, search->strict);
    kith_wire_u64(buf, 8, (uint64_t)search->read);
}

static kith_status coverage_from(const Kith__V1__Coverage *message, kith_arena *arena,
    kith_codec_client_coverage *coverage_out, kith_err *err) {
    *coverage_out = (kith_codec_client_coverage){.reason = NULL};
    if (!message) return KITH_OK;
    coverage_out->shards_total = message->shards_total;
    coverage_out->shards_answered = message->shards_answered;
    if (message->n_missing == 0) return KITH_OK;
    kith_codec_client_missing *missing = kith_arena_array(arena, message->n_missing, sizeof *missing);
    for (size_t i = 0; i < message->n_missing; i++) {
        const Kith__V1__MissingShard *from = message->missing[i];
        missing[i].shard_id = from->shard_id;
        kith_status status = text_from(from->node, "coverage.missing.node", arena, &missing[i].node, err);
        if (status == KITH_OK)
            status = text_from(from->reason, "coverage.missing.reason", arena, &missing[i].reason, err);
        if (status != KITH_OK) return status;
    }
    coverage_out->missing = missing;
    coverage_out->missing_count = (uint32_t)message->n_missing;
    coverage_out->reason = missing[0].reason;
    return KITH_OK;
}

static kith_status check_search(const Kith__V1__SearchResponse *response, size_t id_count, kith_err *err) {
    uint64_t sum = 0;
    for (size_t i = 0; i < response->n_hit_counts; i++)
        sum += response->hit_counts[i];
    if (sum != id_count) return answer_fault(err, "hit_counts and ids disagree");
    if (response->scores.len != id_count * sizeof(float)) return answer_fault(err, "scores and ids disagree");
    if (response->n_payloads != 0 && response->n_payloads != id_count)
        return answer_fault(err, "payloads and ids disagree");
    return KITH_OK;
}

static void hit_payloads(
    const Kith__V1__SearchResponse *response, kith_arena *arena, kith_codec_client_hits *hits) {
    const char **payloads = kith_arena_array(arena, response->n_payloads, sizeof *payloads);
    uint32_t *payload_bytes = kith_arena_array(arena, response->n_payloads, sizeof *payload_bytes);
    for (size_t i = 0; i < response->n_payloads; i++) {
        payload_bytes[i] = (uint32_t)response->payloads[i].len;
        payloads[i] = payload_bytes[i] ? (const char *)response->payloads[i].data : NULL;
    }
    hits->payloads = payloads;
    hits->payload_bytes = payload_bytes;
}

kith_status kith_codec_client_search_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_hits *hits_out, kith_err *err) {
    Kith__V1__SearchResponse *response =
        unpack(&kith__v1__search_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_id *ids = NULL;
    size_t id_count = 0;
    kith_status status = ids_from(response->ids, arena, &ids, &id_count, err);
    if (status == KITH_OK) status = check_search(response, id_count, err);
    if (status != KITH_OK) return status;
    kith_codec_client_hits hits = {
        .query_count = (uint32_t)response->n_hit_counts,
        .hit_counts = response->hit_counts,
        .hit_count = (uint32_t)id_count,
        .ids = ids,
        .scores = (const float *)(const void *)response->scores.data,
    };
    if (response->n_payloads) hit_payloads(response, arena, &hits);
    status = coverage_from(response->coverage, arena, &hits.coverage, err);
    if (status == KITH_OK) *hits_out = hits;
    return status;
}

void kith_codec_client_count_encode(const char *collection, kith_read_consistency read, kith_buf *buf) {
    kith_wire_text(buf, 1, collection);
    kith_wire_u64(buf, 2, (uint64_t)read);
}

kith_status kith_codec_client_count_decode(const void *data, size_t bytes, kith_arena *arena,
    uint64_t *count_out, kith_codec_client_coverage *coverage_out, kith_err *err) {
    Kith__V1__CountResponse *response =
        unpack(&kith__v1__count_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_status status = coverage_from(response->coverage, arena, coverage_out, err);
    if (status == KITH_OK) *count_out = response->count;
    return status;
}

/* --- health -----------------------------------------------------------------------------------------------
 */

void kith_codec_client_health_encode(const char *service, kith_buf *buf) {
    kith_wire_text(buf, 1, service);
}

kith_status kith_codec_client_health_decode(
    const void *data, size_t bytes, kith_arena *arena, bool *serving_out, kith_err *err) {
    Grpc__Health__V1__HealthCheckResponse *response =
        unpack(&grpc__health__v1__health_check_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    *serving_out = response->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    return KITH_OK;
}
