/* protobuf-c builds each message in the caller's arena and unpacks into it, so nothing is freed one by one.
 * Numbers in `bytes` fields are copied as they are: kith runs on little-endian machines only, and says so
 * here. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/codec/codec_client.h"
#include "kith/v1/collections.pb-c.h"
#include "kith/v1/points.pb-c.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed numbers are copied in the machine's order");

static void *arena_take(void *ctx, size_t bytes) {
    return kith_arena_alloc(ctx, bytes);
}

static void arena_keep(void *ctx, void *pointer) {
    (void)ctx;
    (void)pointer;
}

static void *unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_err *err) {
    ProtobufCAllocator allocator = {.alloc = arena_take, .free = arena_keep, .allocator_data = arena};
    void *message = protobuf_c_message_unpack(descriptor, &allocator, bytes, data);
    if (!message) (void)kith_err_set(err, KITH_INTERNAL, "the server's answer is not a %s", descriptor->name);
    return message;
}

static kith_status answer_fault(kith_err *err, const char *what) {
    return kith_err_set(err, KITH_INTERNAL, "the server's answer is broken: %s", what);
}

static void pack(const void *message, kith_buf *buf) {
    const ProtobufCMessage *base = message;
    protobuf_c_message_pack(base, kith_buf_grow(buf, protobuf_c_message_get_packed_size(base)));
}

static ProtobufCBinaryData bytes_of(const void *data, size_t bytes) {
    /* protobuf-c's structs are not const; packing only reads. */
    return (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)data};
}

/* Strings are bytes fields in the generated code (proto/CMakeLists.txt says why). */
static ProtobufCBinaryData text_of(const char *text) {
    return bytes_of(text, strlen(text));
}

static const char *text_from(ProtobufCBinaryData text, kith_arena *arena) {
    return kith_arena_text(arena, (const char *)text.data, text.len);
}

/* --- ids --------------------------------------------------------------------------------------------------
 */

static void id_to_message(const kith_id *id, kith_arena *arena, Kith__V1__PointId *message) {
    kith__v1__point_id__init(message);
    if (id->type == KITH_ID_NUMBER) {
        message->id_case = KITH__V1__POINT_ID__ID_NUMBER;
        message->number = id->number;
        return;
    }
    kith_buf text;
    kith_buf_init(&text);
    kith_id_append_text(&text, id);
    message->id_case = KITH__V1__POINT_ID__ID_TEXT;
    message->text = bytes_of(kith_arena_copy(arena, text.data, text.bytes), text.bytes);
    kith_buf_fini(&text);
}

static kith_status id_from_message(
    const Kith__V1__PointId *message, kith_arena *arena, kith_id *id_out, kith_err *err) {
    if (message->id_case == KITH__V1__POINT_ID__ID_NUMBER) {
        *id_out = kith_id_of_number(message->number);
        return KITH_OK;
    }
    if (message->id_case != KITH__V1__POINT_ID__ID_TEXT) return answer_fault(err, "a point id is empty");
    uint8_t *uuid = kith_arena_alloc(arena, 16);
    return kith_id_from_text((const char *)message->text.data, message->text.len, uuid, id_out, err);
}

static void ids_to_list(const kith_id *ids, uint32_t count, kith_arena *arena, Kith__V1__IdList *list) {
    kith__v1__id_list__init(list);
    bool all_numbers = true;
    for (uint32_t i = 0; i < count && all_numbers; i++)
        all_numbers = ids[i].type == KITH_ID_NUMBER;
    if (all_numbers) {
        uint64_t *numbers = kith_arena_array(arena, count, sizeof *numbers);
        for (uint32_t i = 0; i < count; i++)
            numbers[i] = ids[i].number;
        list->numbers = bytes_of(numbers, (size_t)count * 8);
        return;
    }
    Kith__V1__PointId *messages = kith_arena_array(arena, count, sizeof *messages);
    list->ids = kith_arena_array(arena, count, sizeof(Kith__V1__PointId *));
    list->n_ids = count;
    for (uint32_t i = 0; i < count; i++) {
        id_to_message(&ids[i], arena, &messages[i]);
        list->ids[i] = &messages[i];
    }
}

static kith_status ids_from_list(
    const Kith__V1__IdList *list, kith_arena *arena, kith_id **ids_out, size_t *count_out, kith_err *err) {
    if (!list) {
        *ids_out = NULL;
        *count_out = 0;
        return KITH_OK;
    }
    size_t count = list->n_ids ? list->n_ids : list->numbers.len / 8;
    if (list->numbers.len % 8 || (list->n_ids && list->numbers.len))
        return answer_fault(err, "a list of ids");
    kith_id *ids = kith_arena_array(arena, count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        kith_status status = KITH_OK;
        if (list->n_ids)
            status = id_from_message(list->ids[i], arena, &ids[i], err);
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

void kith_codec_client_create_encode(
    const char *name, const kith_schema *schema, uint32_t shard_count, kith_buf *buf) {
    Kith__V1__VectorField fields[KITH_FIELDS_MAX], *pointers[KITH_FIELDS_MAX];
    for (uint32_t i = 0; i < schema->field_count; i++) {
        kith__v1__vector_field__init(&fields[i]);
        fields[i].name = text_of(schema->fields[i].name);
        fields[i].dim = schema->fields[i].dim;
        fields[i].metric = (Kith__V1__Metric)schema->fields[i].metric;
        fields[i].type = (Kith__V1__VectorType)schema->fields[i].type;
        pointers[i] = &fields[i];
    }
    Kith__V1__CreateCollectionRequest request = KITH__V1__CREATE_COLLECTION_REQUEST__INIT;
    request.name = text_of(name);
    request.shard_count = shard_count;
    request.n_fields = schema->field_count;
    request.fields = pointers;
    pack(&request, buf);
}

void kith_codec_client_describe_encode(const char *name, kith_buf *buf) {
    Kith__V1__GetCollectionRequest request = KITH__V1__GET_COLLECTION_REQUEST__INIT;
    request.name = text_of(name);
    pack(&request, buf);
}

void kith_codec_client_list_encode(kith_buf *buf) {
    Kith__V1__ListCollectionsRequest request = KITH__V1__LIST_COLLECTIONS_REQUEST__INIT;
    pack(&request, buf);
}

void kith_codec_client_drop_encode(const char *name, bool missing_ok, kith_buf *buf) {
    Kith__V1__DeleteCollectionRequest request = KITH__V1__DELETE_COLLECTION_REQUEST__INIT;
    request.name = text_of(name);
    request.missing_ok = missing_ok;
    pack(&request, buf);
}

/* `name` is at most KITH_NAME_BYTES_MAX bytes. */
static void name_copy(ProtobufCBinaryData name, char name_out[KITH_NAME_BYTES_MAX + 1]) {
    if (name.len > 0) memcpy(name_out, name.data, name.len);
    name_out[name.len] = 0;
}

static kith_status field_from_message(
    const Kith__V1__VectorField *message, kith_field *field_out, kith_err *err) {
    if (message->name.len > KITH_NAME_BYTES_MAX) return answer_fault(err, "a field's name is too long");
    name_copy(message->name, field_out->name);
    field_out->dim = message->dim;
    field_out->metric = (kith_metric)message->metric;
    field_out->type = message->type ? (kith_vector_type)message->type : KITH_TYPE_F32;
    bool known = kith_metric_name(field_out->metric) && kith_vector_type_name(field_out->type);
    return known ? KITH_OK : answer_fault(err, "a metric or type that this client does not know");
}

static kith_status collection_from_message(const Kith__V1__CollectionInfo *info, kith_arena *arena,
    kith_codec_client_collection *collection_out, kith_err *err) {
    if (!info) return answer_fault(err, "no collection in it");
    if (info->name.len > KITH_NAME_BYTES_MAX) return answer_fault(err, "a collection's name is too long");
    if (info->n_fields > KITH_FIELDS_MAX) return answer_fault(err, "too many vector fields");
    memset(collection_out, 0, sizeof *collection_out);
    kith_collection *collection = &collection_out->collection;
    name_copy(info->name, collection->name);
    collection->id = info->id;
    collection->shard_count = info->shard_count;
    collection->created_wall_ms = info->created_unix_ms;
    collection->schema.field_count = (uint32_t)info->n_fields;
    for (size_t i = 0; i < info->n_fields; i++) {
        kith_status status = field_from_message(info->fields[i], &collection->schema.fields[i], err);
        if (status != KITH_OK) return status;
    }
    collection_out->points = info->points;
    collection_out->segments = info->segments;
    collection_out->segments_sealed = info->segments_sealed;
    collection_out->vector_bytes = info->vector_bytes;
    collection_out->health = text_from(info->health, arena);
    return KITH_OK;
}

/* CreateCollectionResponse and GetCollectionResponse are the same bytes: field 1, the collection. */
kith_status kith_codec_client_collection_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection *collection_out, kith_err *err) {
    Kith__V1__GetCollectionResponse *response =
        unpack(&kith__v1__get_collection_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    return collection_from_message(response->collection, arena, collection_out, err);
}

kith_status kith_codec_client_list_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_client_collection **collections_out, uint32_t *count_out, kith_err *err) {
    Kith__V1__ListCollectionsResponse *response =
        unpack(&kith__v1__list_collections_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_codec_client_collection *collections =
        kith_arena_array(arena, response->n_collections, sizeof *collections);
    for (size_t i = 0; i < response->n_collections; i++) {
        kith_status status = collection_from_message(response->collections[i], arena, &collections[i], err);
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

static void request_id_to_message(const kith_request_id *request_id, Kith__V1__RequestId *message) {
    kith__v1__request_id__init(message);
    message->client = bytes_of(request_id->client, sizeof request_id->client);
    message->number = request_id->number;
}

static void columns_to_message(
    const kith_codec_client_upsert *upsert, kith_arena *arena, Kith__V1__PointColumns *message) {
    Kith__V1__VectorColumn *columns = kith_arena_array(arena, upsert->column_count, sizeof *columns);
    message->vectors = kith_arena_array(arena, upsert->column_count, sizeof *message->vectors);
    message->n_vectors = upsert->column_count;
    for (uint32_t i = 0; i < upsert->column_count; i++) {
        const kith_codec_client_column *from = &upsert->columns[i];
        kith__v1__vector_column__init(&columns[i]);
        columns[i].field = text_of(from->field);
        columns[i].values = bytes_of(from->values, (size_t)from->row_count * from->dim * sizeof(float));
        if (from->present) columns[i].present = bytes_of(from->present, upsert->point_count);
        message->vectors[i] = &columns[i];
    }
    if (!upsert->payloads) return;
    message->n_payloads = upsert->point_count;
    message->payloads = kith_arena_array(arena, upsert->point_count, sizeof *message->payloads);
    for (uint32_t i = 0; i < upsert->point_count; i++)
        message->payloads[i] =
            bytes_of(upsert->payloads[i], upsert->payloads[i] ? upsert->payload_bytes[i] : 0);
}

void kith_codec_client_upsert_encode(
    const kith_codec_client_upsert *upsert, kith_arena *arena, kith_buf *buf) {
    Kith__V1__IdList ids;
    Kith__V1__RequestId request_id;
    Kith__V1__PointColumns columns = KITH__V1__POINT_COLUMNS__INIT;
    Kith__V1__UpsertRequest request = KITH__V1__UPSERT_REQUEST__INIT;
    ids_to_list(upsert->ids, upsert->point_count, arena, &ids);
    request_id_to_message(&upsert->request_id, &request_id);
    columns.ids = &ids;
    columns_to_message(upsert, arena, &columns);
    request.collection = text_of(upsert->collection);
    request.request_id = &request_id;
    request.data_case = KITH__V1__UPSERT_REQUEST__DATA_COLUMNS;
    request.columns = &columns;
    pack(&request, buf);
}

kith_status kith_codec_client_upsert_answer_decode(const void *data, size_t bytes, kith_arena *arena,
    int *code_out, const char **message_out, kith_err *err) {
    Kith__V1__UpsertStreamResponse *response =
        unpack(&kith__v1__upsert_stream_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    *code_out = (int)response->code;
    *message_out = text_from(response->message, arena);
    return KITH_OK;
}

void kith_codec_client_delete_encode(const char *collection, const kith_request_id *request_id,
    const kith_id *ids, uint32_t id_count, kith_arena *arena, kith_buf *buf) {
    Kith__V1__IdList list;
    Kith__V1__RequestId request_id_message;
    Kith__V1__DeletePointsRequest request = KITH__V1__DELETE_POINTS_REQUEST__INIT;
    ids_to_list(ids, id_count, arena, &list);
    request_id_to_message(request_id, &request_id_message);
    request.collection = text_of(collection);
    request.request_id = &request_id_message;
    request.ids = &list;
    pack(&request, buf);
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
    bool with_payload, bool with_vectors, kith_arena *arena, kith_buf *buf) {
    Kith__V1__IdList list;
    Kith__V1__GetPointsRequest request = KITH__V1__GET_POINTS_REQUEST__INIT;
    ids_to_list(ids, id_count, arena, &list);
    request.collection = text_of(collection);
    request.ids = &list;
    request.with_payload = with_payload;
    request.with_vectors = with_vectors;
    pack(&request, buf);
}

void kith_codec_client_scroll_encode(const char *collection, const kith_id *from, uint32_t limit,
    bool with_payload, bool with_vectors, kith_arena *arena, kith_buf *buf) {
    Kith__V1__PointId from_message;
    Kith__V1__ScrollRequest request = KITH__V1__SCROLL_REQUEST__INIT;
    if (from) {
        id_to_message(from, arena, &from_message);
        request.from = &from_message;
    }
    request.collection = text_of(collection);
    request.limit = limit;
    request.with_payload = with_payload;
    request.with_vectors = with_vectors;
    pack(&request, buf);
}

static kith_status vector_from_message(const Kith__V1__NamedVector *message, kith_arena *arena,
    kith_codec_client_vector *vector_out, kith_err *err) {
    if (message->values.len % sizeof(float)) return answer_fault(err, "a vector is cut");
    vector_out->field = text_from(message->field, arena);
    vector_out->values = (const float *)(const void *)message->values.data; /* the arena aligns to 16 */
    vector_out->dim = (uint32_t)(message->values.len / sizeof(float));
    return KITH_OK;
}

static kith_status point_from_message(
    const Kith__V1__Point *message, kith_arena *arena, kith_codec_client_point *point_out, kith_err *err) {
    if (!message->id) return answer_fault(err, "a point without an id");
    kith_status status = id_from_message(message->id, arena, &point_out->id, err);
    if (status != KITH_OK) return status;
    kith_codec_client_vector *vectors = kith_arena_array(arena, message->n_vectors, sizeof *vectors);
    for (size_t i = 0; i < message->n_vectors; i++) {
        status = vector_from_message(message->vectors[i], arena, &vectors[i], err);
        if (status != KITH_OK) return status;
    }
    point_out->vectors = vectors;
    point_out->vector_count = (uint32_t)message->n_vectors;
    point_out->payload = message->payload.len ? (const char *)message->payload.data : NULL;
    point_out->payload_bytes = (uint32_t)message->payload.len;
    return KITH_OK;
}

static kith_status points_from_messages(Kith__V1__Point *const *messages, size_t count, kith_arena *arena,
    kith_codec_client_points *points_out, kith_err *err) {
    kith_codec_client_point *points = kith_arena_array(arena, count, sizeof *points);
    for (size_t i = 0; i < count; i++) {
        kith_status status = point_from_message(messages[i], arena, &points[i], err);
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
    return points_from_messages(response->points, response->n_points, arena, points_out, err);
}

kith_status kith_codec_client_scroll_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_client_points *points_out, kith_err *err) {
    Kith__V1__ScrollResponse *response =
        unpack(&kith__v1__scroll_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    kith_codec_client_points points;
    kith_status status = points_from_messages(response->points, response->n_points, arena, &points, err);
    if (status == KITH_OK && response->next) {
        points.has_next = true;
        status = id_from_message(response->next, arena, &points.next, err);
    }
    if (status == KITH_OK) *points_out = points;
    return status;
}

/* --- search and count -------------------------------------------------------------------------------------
 */

void kith_codec_client_search_encode(const kith_codec_client_search *search, kith_buf *buf) {
    Kith__V1__SearchParams params = KITH__V1__SEARCH_PARAMS__INIT;
    Kith__V1__SearchRequest request = KITH__V1__SEARCH_REQUEST__INIT;
    request.collection = text_of(search->collection);
    request.field = text_of(search->field);
    request.queries =
        bytes_of(search->queries, (size_t)search->query_count * search->dim * sizeof *search->queries);
    request.k = search->k;
    request.with_payload = search->with_payload;
    if (search->exact) {
        params.exact = true;
        request.params = &params;
    }
    pack(&request, buf);
}

static void coverage_from_message(
    const Kith__V1__Coverage *message, kith_arena *arena, kith_codec_client_coverage *coverage_out) {
    *coverage_out = (kith_codec_client_coverage){.reason = NULL};
    if (!message) return;
    coverage_out->shards_total = message->shards_total;
    coverage_out->shards_answered = message->shards_answered;
    if (message->n_missing == 0) return;
    coverage_out->reason = text_from(message->missing[0]->reason, arena);
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
    kith_status status = ids_from_list(response->ids, arena, &ids, &id_count, err);
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
    coverage_from_message(response->coverage, arena, &hits.coverage);
    *hits_out = hits;
    return KITH_OK;
}

void kith_codec_client_count_encode(const char *collection, kith_buf *buf) {
    Kith__V1__CountRequest request = KITH__V1__COUNT_REQUEST__INIT;
    request.collection = text_of(collection);
    pack(&request, buf);
}

kith_status kith_codec_client_count_decode(const void *data, size_t bytes, kith_arena *arena,
    uint64_t *count_out, kith_codec_client_coverage *coverage_out, kith_err *err) {
    Kith__V1__CountResponse *response =
        unpack(&kith__v1__count_response__descriptor, data, bytes, arena, err);
    if (!response) return KITH_INTERNAL;
    coverage_from_message(response->coverage, arena, coverage_out);
    *count_out = response->count;
    return KITH_OK;
}

/* --- health -----------------------------------------------------------------------------------------------
 */

/* HealthCheckRequest: field 1, a string; HealthCheckResponse: field 1, an enum whose 1 is SERVING. Two fields
 * of one byte of tag each: written by hand, so that the client needs no generated code of another package. */
void kith_codec_client_health_encode(const char *service, kith_buf *buf) {
    size_t bytes = strlen(service);
    if (bytes == 0 || bytes > 127) return; /* one byte of length; "" is the default and is not sent */
    kith_buf_u8(buf, 1 << 3 | 2);
    kith_buf_u8(buf, (uint8_t)bytes);
    kith_buf_append(buf, service, bytes);
}

kith_status kith_codec_client_health_decode(
    const void *data, size_t bytes, bool *serving_out, kith_err *err) {
    kith_reader reader = kith_reader_of(data, bytes);
    uint8_t serving = 0;
    if (bytes > 0) {
        if (kith_reader_u8(&reader) != 1 << 3) return answer_fault(err, "it is no health status");
        serving = kith_reader_u8(&reader);
    }
    if (reader.failed) return answer_fault(err, "the health status is cut");
    *serving_out = serving == 1;
    return KITH_OK;
}
