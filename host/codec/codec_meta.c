/* Stored metadata: commands and snapshots, version 1. */
#include "host/codec/codec_meta.h"

#include "host/codec/codec_wire.h"

#include "kith/meta/v1/meta.pb-c.h"

#define META_VERSION 1u

/* --- collections --- */

static void field_encode(const kith_field *field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 3);
    kith_wire_text(buf, 1, field->name);
    kith_wire_u64(buf, 2, field->dim);
    kith_wire_u64(buf, 3, (uint64_t)field->metric);
    kith_wire_u64(buf, 4, (uint64_t)field->type);
    kith_wire_close(buf, mark);
}

static void collection_encode(const kith_collection *collection, uint32_t field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    kith_wire_u64(buf, 1, collection->id);
    kith_wire_text(buf, 2, collection->name);
    for (uint32_t i = 0; i < collection->schema.field_count; i++)
        field_encode(&collection->schema.fields[i], buf);
    kith_wire_u64(buf, 4, collection->shard_count);
    kith_wire_u64(buf, 5, collection->shard_id_first);
    kith_wire_u64(buf, 6, collection->created_wall_ms);
    kith_wire_close(buf, mark);
}

/* Checked as a name before it is copied, so that it fits and has no zero byte. */
static kith_status name_decode(ProtobufCBinaryData name, const char *what, bool empty_allowed,
    char name_out[KITH_NAME_BYTES_MAX + 1], kith_err *err) {
    kith_status status = kith_name_check(what, (const char *)name.data, name.len, empty_allowed, err);
    if (status != KITH_OK) return kith_err_wrap(err, KITH_CORRUPT, "metadata");
    if (name.len > 0) memcpy(name_out, name.data, name.len);
    name_out[name.len] = 0;
    return KITH_OK;
}

static kith_status schema_decode(
    Kith__Meta__V1__MetaField *const *messages, size_t count, kith_schema *schema_out, kith_err *err) {
    if (count > KITH_FIELDS_MAX) {
        return kith_err_set(
            err, KITH_CORRUPT, "metadata: %zu fields; at most %u are allowed", count, KITH_FIELDS_MAX);
    }
    schema_out->field_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        kith_field *field = &schema_out->fields[i];
        field->dim = messages[i]->dim;
        field->metric = (kith_metric)messages[i]->metric;
        field->type = (kith_vector_type)messages[i]->type;
        kith_status status = name_decode(messages[i]->name, "field name", true, field->name, err);
        if (status != KITH_OK) return status;
    }
    if (kith_schema_check(schema_out, err) != KITH_OK) return kith_err_wrap(err, KITH_CORRUPT, "metadata");
    return KITH_OK;
}

static kith_status collection_decode(
    const Kith__Meta__V1__MetaCollection *message, kith_collection *collection_out, kith_err *err) {
    *collection_out = (kith_collection){.id = message->id,
        .shard_count = message->shard_count,
        .shard_id_first = message->shard_id_first,
        .created_wall_ms = message->created_wall_ms};
    kith_status status = name_decode(message->name, "collection name", false, collection_out->name, err);
    if (status == KITH_OK) {
        status = schema_decode(message->fields, message->n_fields, &collection_out->schema, err);
    }
    if (status != KITH_OK) return status;
    if (message->shard_count < 1 || message->shard_count > KITH_SHARDS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: collection \"%s\": shard_count %u is not in 1..%u",
            collection_out->name, message->shard_count, KITH_SHARDS_MAX);
    }
    return KITH_OK;
}

static kith_status version_check(const char *what, uint32_t version, kith_err *err) {
    if (version == META_VERSION) return KITH_OK;
    kith_status status = version > META_VERSION ? KITH_UNIMPLEMENTED : KITH_CORRUPT;
    return kith_err_set(err, status, "metadata: %s of version %u; this program reads version %u", what,
        version, META_VERSION);
}

/* --- commands --- */

void kith_codec_meta_command_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    kith_wire_u64(buf, 1, META_VERSION);
    kith_wire_bytes(buf, 2, command->request_id.client, sizeof command->request_id.client);
    kith_wire_u64(buf, 3, command->request_id.number);
    if (command->kind == KITH_CODEC_META_CREATE_COLLECTION) {
        collection_encode(&command->collection, 4, buf);
        return;
    }
    size_t mark = kith_wire_open(buf, 5);
    kith_wire_u64(buf, 1, command->collection.id);
    kith_wire_text(buf, 2, command->collection.name);
    kith_wire_close(buf, mark);
}

static kith_status command_body_decode(
    const Kith__Meta__V1__MetaCommand *message, kith_codec_meta_command *command, kith_err *err) {
    switch (message->command_case) {
    case KITH__META__V1__META_COMMAND__COMMAND_CREATE_COLLECTION:
        command->kind = KITH_CODEC_META_CREATE_COLLECTION;
        return collection_decode(message->create_collection, &command->collection, err);
    case KITH__META__V1__META_COMMAND__COMMAND_DROP_COLLECTION:
        command->kind = KITH_CODEC_META_DROP_COLLECTION;
        command->collection.id = message->drop_collection->id;
        return name_decode(
            message->drop_collection->name, "collection name", false, command->collection.name, err);
    default:
        return kith_err_set(err, KITH_CORRUPT, "metadata: a command that is neither create nor drop");
    }
}

kith_status kith_codec_meta_command_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_command *command_out, kith_err *err) {
    const Kith__Meta__V1__MetaCommand *message =
        kith_codec_unpack(&kith__meta__v1__meta_command__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    kith_status status = version_check("a command", message->version, err);
    if (status != KITH_OK) return status;
    kith_codec_meta_command command = {.request_id = {.number = message->number}};
    if (message->client.len != 0 && message->client.len != sizeof command.request_id.client) {
        return kith_err_set(
            err, KITH_CORRUPT, "metadata: client: %zu bytes; 0 or 16 are allowed", message->client.len);
    }
    if (message->client.len > 0) memcpy(command.request_id.client, message->client.data, message->client.len);
    status = command_body_decode(message, &command, err);
    if (status == KITH_OK) *command_out = command;
    return status;
}

/* --- snapshots --- */

void kith_codec_meta_snapshot_encode(const kith_codec_meta_snapshot *snapshot, kith_buf *buf) {
    kith_wire_u64(buf, 1, META_VERSION);
    kith_wire_u64(buf, 2, snapshot->map_version);
    kith_wire_u64(buf, 3, snapshot->applied_index);
    kith_wire_u64(buf, 4, snapshot->collection_id_next);
    kith_wire_u64(buf, 5, snapshot->shard_id_next);
    for (uint32_t i = 0; i < snapshot->collection_count; i++)
        collection_encode(&snapshot->collections[i], 6, buf);
}

kith_status kith_codec_meta_snapshot_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_meta_snapshot *snapshot_out, kith_err *err) {
    const Kith__Meta__V1__MetaSnapshot *message =
        kith_codec_unpack(&kith__meta__v1__meta_snapshot__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    kith_status status = version_check("a snapshot", message->version, err);
    if (status != KITH_OK) return status;
    if (message->n_collections > KITH_COLLECTIONS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: %zu collections; at most %u are allowed",
            message->n_collections, KITH_COLLECTIONS_MAX);
    }
    kith_collection *collections = kith_arena_array(arena, message->n_collections, sizeof *collections);
    for (size_t i = 0; i < message->n_collections; i++) {
        status = collection_decode(message->collections[i], &collections[i], err);
        if (status != KITH_OK) return status;
    }
    *snapshot_out = (kith_codec_meta_snapshot){.map_version = message->map_version,
        .applied_index = message->applied_index,
        .collection_id_next = message->collection_id_next,
        .shard_id_next = message->shard_id_next,
        .collections = collections,
        .collection_count = (uint32_t)message->n_collections};
    return KITH_OK;
}
