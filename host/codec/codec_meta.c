/* Stored metadata: commands and snapshots, versions 1 (collections of one node), 2 (nodes and who has which shard), 3 (several
 * replicas of a shard, and which are in sync), 4 (writes acknowledged before they are on disk) and 5 (loss that
 * was accepted). */
#include "host/codec/codec_meta.h"

#include "host/codec/codec_wire.h"

#include "kith/meta/v1/meta.pb-c.h"

#define META_VERSION_FIRST      1u
#define META_VERSION_NODES      2u
#define META_VERSION_REPLICAS   3u
#define META_VERSION_DURABILITY 4u
#define META_VERSION_LOSS       5u
#define META_VERSION_NEWEST     META_VERSION_LOSS

static kith_status version_check(const char *what, uint32_t version, kith_err *err) {
    if (version >= META_VERSION_FIRST && version <= META_VERSION_NEWEST) return KITH_OK;
    kith_status status = version > META_VERSION_NEWEST ? KITH_UNIMPLEMENTED : KITH_CORRUPT;
    return kith_err_set(err, status, "metadata: %s of version %u; this program reads versions %u..%u", what,
        version, META_VERSION_FIRST, META_VERSION_NEWEST);
}

/* --- shards --- */

static uint32_t width_usual(const kith_collection *collection) {
    return collection->replication_factor ? collection->replication_factor : 1;
}

/* While a shard moves it has more replicas than its collection asks for. */
static uint32_t width_of(const kith_collection *collection, const kith_meta_shard *shards) {
    uint32_t width = width_usual(collection);
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        if (shards[i].replica_count > width) width = shards[i].replica_count;
    }
    return width;
}

static bool some_are_behind(const kith_collection *collection, const kith_meta_shard *shards) {
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        if (shards[i].in_sync != kith_replicas_all(shards[i].replica_count)) return true;
    }
    return false;
}

static bool shards_assigned(const kith_collection *collection, const kith_meta_shard *shards) {
    return shards && collection->shard_count > 0 && shards[0].replica_count > 0;
}

/* Which programs that know only one copy of everything must not read. */
static bool needs_replicas(
    const kith_collection *collection, const kith_meta_shard *shards, bool in_sync_counts) {
    if (collection->replication_factor > 1 || collection->min_in_sync > 1) return true;
    if (!shards_assigned(collection, shards)) return false;
    return width_of(collection, shards) > 1 || (in_sync_counts && some_are_behind(collection, shards));
}

/* Which programs must not read that know only writes acknowledged once they are on disk. `sync` they may skip: it is what they do. */
static bool needs_durability(const kith_collection *collection) {
    return collection->durability == KITH_DURABILITY_ASYNC;
}

/* Who does not know that loss was accepted would hold on to what is no more. */
static bool needs_loss(const kith_collection *collection, const kith_meta_shard *shards) {
    for (uint32_t i = 0; shards && i < collection->shard_count; i++) {
        if (shards[i].loss_epoch > 0) return true;
    }
    return false;
}

static void loss_epochs_encode(
    const kith_collection *collection, const kith_meta_shard *shards, kith_buf *buf) {
    if (!needs_loss(collection, shards)) return;
    kith_wire_head(buf, 14, collection->shard_count * sizeof(uint64_t));
    for (uint32_t i = 0; i < collection->shard_count; i++)
        kith_buf_u64(buf, shards[i].loss_epoch);
}

/* `stored`: in a snapshot. In a command epochs and who is in sync do not count. */
static void shards_encode(
    const kith_collection *collection, const kith_meta_shard *shards, bool stored, kith_buf *buf) {
    uint32_t width = width_of(collection, shards);
    if (stored) {
        kith_wire_head(buf, 8, collection->shard_count * sizeof(uint64_t));
        for (uint32_t i = 0; i < collection->shard_count; i++)
            kith_buf_u64(buf, shards[i].epoch);
    }
    kith_wire_head(buf, 9, (size_t)collection->shard_count * width * sizeof(uint32_t));
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        for (uint32_t r = 0; r < width; r++)
            kith_buf_u32(buf, r < shards[i].replica_count ? shards[i].replicas[r] : 0);
    }
    if (width != width_usual(collection)) kith_wire_u64(buf, 11, width);
    if (stored) loss_epochs_encode(collection, shards, buf);
    if (!stored || !some_are_behind(collection, shards)) return;
    kith_wire_head(buf, 12, collection->shard_count);
    for (uint32_t i = 0; i < collection->shard_count; i++)
        kith_buf_append(buf, &shards[i].in_sync, 1);
}

/* Zeros end the list; whatever follows one must be zero too. */
static bool replicas_decode(const uint8_t *numbers, uint32_t width, kith_meta_shard *shard) {
    for (uint32_t r = 0; r < width; r++) {
        uint32_t number = kith_load_u32(numbers + r * sizeof number);
        if (number == 0) continue;
        if (shard->replica_count != r) return false;
        shard->replicas[shard->replica_count++] = number;
    }
    return true;
}

static kith_status shards_sized(const Kith__Meta__V1__MetaCollection *message,
    const kith_collection *collection, uint32_t width, kith_err *err) {
    size_t count = collection->shard_count, epochs = message->shard_epochs.len;
    size_t replicas = message->shard_replicas.len, in_sync = message->shard_in_sync.len;
    size_t losses = message->shard_loss_epochs.len;
    if (width > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_CORRUPT,
            "metadata: collection \"%s\": shard_replica_width %u is not in 0..%u", collection->name, width,
            KITH_REPLICAS_MAX);
    }
    bool sized = (epochs == 0 || epochs == count * sizeof(uint64_t)) && (in_sync == 0 || in_sync == count) &&
                 (losses == 0 || losses == count * sizeof(uint64_t)) &&
                 replicas == count * width * sizeof(uint32_t);
    if (sized) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT,
        "metadata: collection \"%s\": %zu bytes of epochs, %zu of replicas, %zu of in_sync and %zu of loss "
        "epochs are not %zu shards of %u",
        collection->name, epochs, replicas, in_sync, losses, count, width);
}

/* NULL when the message says nothing of shards. */
static kith_status shards_decode(const Kith__Meta__V1__MetaCollection *message,
    const kith_collection *collection, kith_arena *arena, kith_meta_shard **shards_out, kith_err *err) {
    ProtobufCBinaryData epochs = message->shard_epochs, replicas = message->shard_replicas;
    ProtobufCBinaryData losses = message->shard_loss_epochs;
    uint32_t count = collection->shard_count;
    uint32_t width = message->shard_replica_width ? message->shard_replica_width : width_usual(collection);
    *shards_out = NULL;
    if (epochs.len == 0 && replicas.len == 0 && message->shard_in_sync.len == 0) return KITH_OK;
    kith_status status = shards_sized(message, collection, width, err);
    if (status != KITH_OK) return status;
    kith_meta_shard *shards = kith_arena_alloc_zero(arena, count * sizeof *shards);
    for (uint32_t i = 0; i < count; i++) {
        kith_meta_shard *shard = &shards[i];
        shard->epoch = epochs.len > 0 ? kith_load_u64(epochs.data + i * sizeof(uint64_t)) : 1;
        shard->loss_epoch = losses.len > 0 ? kith_load_u64(losses.data + i * sizeof(uint64_t)) : 0;
        if (!replicas_decode(replicas.data + (size_t)i * width * sizeof(uint32_t), width, shard)) {
            return kith_err_set(
                err, KITH_CORRUPT, "metadata: collection \"%s\": shard %u has a gap", collection->name, i);
        }
        shard->in_sync = message->shard_in_sync.len > 0 ? message->shard_in_sync.data[i]
                                                        : kith_replicas_all(shard->replica_count);
    }
    *shards_out = shards;
    return KITH_OK;
}

/* --- collections --- */

static void field_encode(const kith_field *field, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 3);
    kith_wire_text(buf, 1, field->name);
    kith_wire_u64(buf, 2, field->dim);
    kith_wire_u64(buf, 3, (uint64_t)field->metric);
    kith_wire_u64(buf, 4, (uint64_t)field->type);
    kith_wire_close(buf, mark);
}

void kith_codec_meta_collection_encode(const kith_collection *collection, kith_buf *buf) {
    kith_wire_u64(buf, 1, collection->id);
    kith_wire_text(buf, 2, collection->name);
    for (uint32_t i = 0; i < collection->schema.field_count; i++)
        field_encode(&collection->schema.fields[i], buf);
    kith_wire_u64(buf, 4, collection->shard_count);
    kith_wire_u64(buf, 5, collection->shard_id_first);
    kith_wire_u64(buf, 6, collection->created_wall_ms);
    kith_wire_u64(buf, 7, collection->replication_factor);
    /* One copy leaves no choice: nothing is written, as before there was one. */
    if (collection->replication_factor != 1 || collection->min_in_sync > 1)
        kith_wire_u64(buf, 10, collection->min_in_sync);
    kith_wire_u64(buf, 13, (uint64_t)collection->durability);
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

/* All but its schema and shards. */
static kith_status collection_head_decode(
    const Kith__Meta__V1__MetaCollection *message, kith_collection *collection_out, kith_err *err) {
    *collection_out = (kith_collection){.id = message->id,
        .shard_count = message->shard_count,
        .shard_id_first = message->shard_id_first,
        .created_wall_ms = message->created_wall_ms,
        .replication_factor = message->replication_factor,
        .min_in_sync = message->min_in_sync,
        .durability = (kith_durability)message->durability};
    if (message->replication_factor == 1 && message->min_in_sync == 0) collection_out->min_in_sync = 1;
    kith_status status = name_decode(message->name, "collection name", false, collection_out->name, err);
    if (status != KITH_OK) return status;
    if (message->replication_factor > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_CORRUPT,
            "metadata: collection \"%s\": replication_factor %u is not in 0..%u", collection_out->name,
            message->replication_factor, KITH_REPLICAS_MAX);
    }
    if (message->min_in_sync > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: collection \"%s\": min_in_sync %u is not in 0..%u",
            collection_out->name, message->min_in_sync, KITH_REPLICAS_MAX);
    }
    if (message->durability > KITH_DURABILITY_ASYNC) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: collection \"%s\": durability %u is not in 0..%d",
            collection_out->name, message->durability, KITH_DURABILITY_ASYNC);
    }
    return KITH_OK;
}

static kith_status collection_decode(
    const Kith__Meta__V1__MetaCollection *message, kith_collection *collection_out, kith_err *err) {
    kith_status status = collection_head_decode(message, collection_out, err);
    if (status == KITH_OK)
        status = schema_decode(message->fields, message->n_fields, &collection_out->schema, err);
    if (status != KITH_OK) return status;
    if (message->shard_count < 1 || message->shard_count > KITH_SHARDS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: collection \"%s\": shard_count %u is not in 1..%u",
            collection_out->name, message->shard_count, KITH_SHARDS_MAX);
    }
    return KITH_OK;
}

kith_status kith_codec_meta_collection_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_collection *collection_out, kith_err *err) {
    const Kith__Meta__V1__MetaCollection *message = kith_codec_unpack(
        &kith__meta__v1__meta_collection__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    return message ? collection_decode(message, collection_out, err) : KITH_CORRUPT;
}

/* --- nodes --- */

static void node_encode(const kith_node *node, uint32_t field, bool stored, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, field);
    if (stored) kith_wire_u64(buf, 1, node->number);
    kith_wire_bytes(buf, 2, node->id.bytes, sizeof node->id.bytes);
    kith_wire_text(buf, 3, node->name);
    kith_wire_u64(buf, 4, (uint64_t)node->role);
    kith_wire_text(buf, 5, node->address);
    kith_wire_text(buf, 6, node->grpc_address);
    kith_wire_text(buf, 7, node->http_address);
    kith_wire_text(buf, 8, node->zone);
    kith_wire_u64(buf, 9, node->weight);
    if (stored) {
        kith_wire_u64(buf, 10, node->draining);
        kith_wire_u64(buf, 11, node->down);
        kith_wire_u64(buf, 12, node->up_map_version);
        kith_wire_u64(buf, 13, node->down_wall_ms);
    }
    kith_wire_close(buf, mark);
}

static kith_status text_decode(
    ProtobufCBinaryData text, const char *what, size_t bytes_max, char *text_out, kith_err *err) {
    if (text.len > bytes_max) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: node: %s has %zu bytes; at most %zu are allowed",
            what, text.len, bytes_max);
    }
    if (text.len > 0) memcpy(text_out, text.data, text.len);
    text_out[text.len] = 0;
    if (strlen(text_out) == text.len) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT, "metadata: node: %s has a zero byte", what);
}

static kith_status node_id_decode(ProtobufCBinaryData id, kith_node_id *id_out, kith_err *err) {
    if (id.len != sizeof id_out->bytes) {
        return kith_err_set(
            err, KITH_CORRUPT, "metadata: node id: %zu bytes; %zu are allowed", id.len, sizeof id_out->bytes);
    }
    memcpy(id_out->bytes, id.data, id.len);
    return KITH_OK;
}

/* Only that it fits: meta_state refuses a command that says nonsense, with an answer instead of a node that stops. */
static kith_status node_decode(
    const Kith__Meta__V1__MetaNode *message, bool stored, kith_node *node_out, kith_err *err) {
    *node_out = (kith_node){.role = (kith_node_role)message->role, .weight = message->weight};
    if (stored) {
        node_out->number = message->number;
        node_out->draining = message->draining;
        node_out->down = message->down;
        node_out->up_map_version = message->up_map_version;
        node_out->down_wall_ms = message->down_wall_ms;
    }
    const struct {
        ProtobufCBinaryData from;
        const char *what;
        size_t bytes_max;
        char *to;
    } texts[] = {
        {message->name, "name", KITH_NODE_NAME_BYTES_MAX, node_out->name},
        {message->address, "address", KITH_NODE_ADDRESS_BYTES_MAX, node_out->address},
        {message->grpc_address, "grpc_address", KITH_NODE_ADDRESS_BYTES_MAX, node_out->grpc_address},
        {message->http_address, "http_address", KITH_NODE_ADDRESS_BYTES_MAX, node_out->http_address},
        {message->zone, "zone", KITH_NODE_ZONE_BYTES_MAX, node_out->zone},
    };
    kith_status status = node_id_decode(message->id, &node_out->id, err);
    for (size_t i = 0; i < sizeof texts / sizeof *texts && status == KITH_OK; i++)
        status = text_decode(texts[i].from, texts[i].what, texts[i].bytes_max, texts[i].to, err);
    return status;
}

/* --- commands --- */

static void create_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 4);
    kith_codec_meta_collection_encode(&command->collection, buf);
    if (shards_assigned(&command->collection, command->shards))
        shards_encode(&command->collection, command->shards, false, buf);
    kith_wire_close(buf, mark);
}

/* Tag 5 and the ones after 6: a message of the node's or the collection's id and one thing more. */
static void small_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    static const uint32_t fields[] = {
        [KITH_CODEC_META_NODE_DOWN] = 7, [KITH_CODEC_META_DRAIN_NODE] = 8, [KITH_CODEC_META_REMOVE_NODE] = 9};
    const kith_node *node = &command->node;
    size_t mark = kith_wire_open(buf, fields[command->kind]);
    kith_wire_bytes(buf, 1, node->id.bytes, sizeof node->id.bytes);
    if (command->kind == KITH_CODEC_META_NODE_DOWN) {
        kith_wire_u64(buf, 2, command->judged_map_version);
        kith_wire_u64(buf, 3, command->down_wall_ms);
    }
    if (command->kind == KITH_CODEC_META_DRAIN_NODE) kith_wire_u64(buf, 2, node->draining);
    kith_wire_close(buf, mark);
}

static void drop_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 5);
    kith_wire_u64(buf, 1, command->collection.id);
    kith_wire_text(buf, 2, command->collection.name);
    kith_wire_close(buf, mark);
}

static void update_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    const kith_collection *collection = &command->collection;
    size_t mark = kith_wire_open(buf, 11);
    kith_wire_u64(buf, 1, collection->id);
    kith_wire_text(buf, 2, collection->name);
    kith_wire_u64(buf, 7, collection->replication_factor);
    kith_wire_u64(buf, 10, collection->min_in_sync);
    kith_wire_u64(buf, 13, (uint64_t)collection->durability);
    kith_wire_close(buf, mark);
}

static void accept_loss_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 12);
    kith_wire_u64(buf, 1, command->collection.id);
    kith_wire_text(buf, 2, command->collection.name);
    kith_wire_u64(buf, 3, command->shard_index);
    kith_wire_bytes(buf, 4, command->node.id.bytes, sizeof command->node.id.bytes);
    kith_wire_close(buf, mark);
}

static void change_encode(const kith_codec_meta_shard_change *change, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 1);
    kith_wire_u64(buf, 1, change->shard_id);
    kith_wire_u64(buf, 2, change->shard.epoch);
    for (uint32_t r = 0; r < change->shard.replica_count; r++)
        kith_wire_u64_always(buf, 3, change->shard.replicas[r]);
    kith_wire_u64(buf, 4, change->shard.in_sync);
    kith_wire_close(buf, mark);
}

static void changes_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 10);
    for (uint32_t i = 0; i < command->change_count; i++)
        change_encode(&command->changes[i], buf);
    kith_wire_close(buf, mark);
}

static uint32_t create_version(const kith_codec_meta_command *command) {
    const kith_collection *collection = &command->collection;
    if (needs_durability(collection)) return META_VERSION_DURABILITY;
    if (needs_replicas(collection, command->shards, false)) return META_VERSION_REPLICAS;
    return shards_assigned(collection, command->shards) ? META_VERSION_NODES : META_VERSION_FIRST;
}

static uint32_t command_version(const kith_codec_meta_command *command) {
    switch (command->kind) {
    case KITH_CODEC_META_CREATE_COLLECTION:
        return create_version(command);
    case KITH_CODEC_META_DROP_COLLECTION:
        return META_VERSION_FIRST;
    case KITH_CODEC_META_UPDATE_COLLECTION:
        return needs_durability(&command->collection) ? META_VERSION_DURABILITY : META_VERSION_REPLICAS;
    case KITH_CODEC_META_CHANGE_SHARDS:
        return META_VERSION_REPLICAS;
    case KITH_CODEC_META_ACCEPT_LOSS:
        return META_VERSION_LOSS;
    default:
        return META_VERSION_NODES;
    }
}

void kith_codec_meta_command_encode(const kith_codec_meta_command *command, kith_buf *buf) {
    kith_wire_u64(buf, 1, command_version(command));
    kith_wire_bytes(buf, 2, command->request_id.client, sizeof command->request_id.client);
    kith_wire_u64(buf, 3, command->request_id.number);
    switch (command->kind) {
    case KITH_CODEC_META_CREATE_COLLECTION:
        create_encode(command, buf);
        break;
    case KITH_CODEC_META_DROP_COLLECTION:
        drop_encode(command, buf);
        break;
    case KITH_CODEC_META_REGISTER_NODE:
        node_encode(&command->node, 6, false, buf);
        break;
    case KITH_CODEC_META_NODE_DOWN:
    case KITH_CODEC_META_DRAIN_NODE:
    case KITH_CODEC_META_REMOVE_NODE:
        small_encode(command, buf);
        break;
    case KITH_CODEC_META_CHANGE_SHARDS:
        changes_encode(command, buf);
        break;
    case KITH_CODEC_META_UPDATE_COLLECTION:
        update_encode(command, buf);
        break;
    case KITH_CODEC_META_ACCEPT_LOSS:
        accept_loss_encode(command, buf);
        break;
    }
}

static kith_status create_decode(const Kith__Meta__V1__MetaCollection *message, kith_arena *arena,
    kith_codec_meta_command *command, kith_err *err) {
    kith_meta_shard *shards = NULL;
    kith_status status = collection_decode(message, &command->collection, err);
    if (status == KITH_OK) status = shards_decode(message, &command->collection, arena, &shards, err);
    if (status == KITH_OK && shards_assigned(&command->collection, shards)) command->shards = shards;
    return status;
}

/* Zero is "as it is" here, also of one copy. */
static kith_status update_decode(
    const Kith__Meta__V1__MetaCollection *message, kith_codec_meta_command *command, kith_err *err) {
    kith_status status = collection_head_decode(message, &command->collection, err);
    command->collection.min_in_sync = message->min_in_sync;
    return status;
}

/* Only that it fits: meta_state refuses a change that may not be. */
static kith_status change_decode(
    const Kith__Meta__V1__MetaShardChange *message, kith_codec_meta_shard_change *change_out, kith_err *err) {
    if (message->n_replicas > KITH_REPLICAS_MAX || message->in_sync > UINT8_MAX) {
        return kith_err_set(err, KITH_CORRUPT,
            "metadata: change of shard %llu: %zu replicas of at most %u, in_sync %u of at most %u",
            (unsigned long long)message->shard_id, message->n_replicas, KITH_REPLICAS_MAX, message->in_sync,
            UINT8_MAX);
    }
    *change_out = (kith_codec_meta_shard_change){.shard_id = message->shard_id,
        .shard = {.epoch = message->epoch,
            .replica_count = (uint8_t)message->n_replicas,
            .in_sync = (uint8_t)message->in_sync}};
    for (size_t r = 0; r < message->n_replicas; r++)
        change_out->shard.replicas[r] = message->replicas[r];
    return KITH_OK;
}

static kith_status changes_decode(const Kith__Meta__V1__MetaChangeShards *message, kith_arena *arena,
    kith_codec_meta_command *command, kith_err *err) {
    if (message->n_changes < 1 || message->n_changes > KITH_META_SHARD_CHANGES_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "metadata: %zu changes of shards; 1..%u are allowed",
            message->n_changes, KITH_META_SHARD_CHANGES_MAX);
    }
    kith_codec_meta_shard_change *changes = kith_arena_array(arena, message->n_changes, sizeof *changes);
    command->changes = changes;
    command->change_count = (uint32_t)message->n_changes;
    kith_status status = KITH_OK;
    for (size_t i = 0; i < message->n_changes && status == KITH_OK; i++)
        status = change_decode(message->changes[i], &changes[i], err);
    return status;
}

static kith_status accept_loss_decode(
    const Kith__Meta__V1__MetaAcceptLoss *message, kith_codec_meta_command *command, kith_err *err) {
    command->collection.id = message->id;
    command->shard_index = message->shard_index;
    kith_status status = name_decode(message->name, "collection name", false, command->collection.name, err);
    return status == KITH_OK ? node_id_decode(message->node, &command->node.id, err) : status;
}

static kith_status command_body_decode(const Kith__Meta__V1__MetaCommand *message, kith_arena *arena,
    kith_codec_meta_command *command, kith_err *err) {
    switch (message->command_case) {
    case KITH__META__V1__META_COMMAND__COMMAND_CREATE_COLLECTION:
        command->kind = KITH_CODEC_META_CREATE_COLLECTION;
        return create_decode(message->create_collection, arena, command, err);
    case KITH__META__V1__META_COMMAND__COMMAND_DROP_COLLECTION:
        command->kind = KITH_CODEC_META_DROP_COLLECTION;
        command->collection.id = message->drop_collection->id;
        return name_decode(
            message->drop_collection->name, "collection name", false, command->collection.name, err);
    case KITH__META__V1__META_COMMAND__COMMAND_REGISTER_NODE:
        command->kind = KITH_CODEC_META_REGISTER_NODE;
        return node_decode(message->register_node, false, &command->node, err);
    case KITH__META__V1__META_COMMAND__COMMAND_NODE_DOWN:
        command->kind = KITH_CODEC_META_NODE_DOWN;
        command->judged_map_version = message->node_down->judged_map_version;
        command->down_wall_ms = message->node_down->wall_ms;
        return node_id_decode(message->node_down->id, &command->node.id, err);
    case KITH__META__V1__META_COMMAND__COMMAND_DRAIN_NODE:
        command->kind = KITH_CODEC_META_DRAIN_NODE;
        command->node.draining = message->drain_node->draining;
        return node_id_decode(message->drain_node->id, &command->node.id, err);
    case KITH__META__V1__META_COMMAND__COMMAND_REMOVE_NODE:
        command->kind = KITH_CODEC_META_REMOVE_NODE;
        return node_id_decode(message->remove_node->id, &command->node.id, err);
    case KITH__META__V1__META_COMMAND__COMMAND_CHANGE_SHARDS:
        command->kind = KITH_CODEC_META_CHANGE_SHARDS;
        return changes_decode(message->change_shards, arena, command, err);
    case KITH__META__V1__META_COMMAND__COMMAND_UPDATE_COLLECTION:
        command->kind = KITH_CODEC_META_UPDATE_COLLECTION;
        return update_decode(message->update_collection, command, err);
    case KITH__META__V1__META_COMMAND__COMMAND_ACCEPT_LOSS:
        command->kind = KITH_CODEC_META_ACCEPT_LOSS;
        return accept_loss_decode(message->accept_loss, command, err);
    default:
        return kith_err_set(err, KITH_CORRUPT, "metadata: a command of no kind that this program knows");
    }
}

static kith_status request_id_decode(
    ProtobufCBinaryData client, uint64_t number, kith_request_id *request_id_out, kith_err *err) {
    if (client.len != 0 && client.len != sizeof request_id_out->client) {
        return kith_err_set(
            err, KITH_CORRUPT, "metadata: client: %zu bytes; 0 or 16 are allowed", client.len);
    }
    *request_id_out = (kith_request_id){.number = number};
    if (client.len > 0) memcpy(request_id_out->client, client.data, client.len);
    return KITH_OK;
}

kith_status kith_codec_meta_command_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_command *command_out, kith_err *err) {
    const Kith__Meta__V1__MetaCommand *message =
        kith_codec_unpack(&kith__meta__v1__meta_command__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    kith_codec_meta_command command = {0};
    kith_status status = version_check("a command", message->version, err);
    if (status == KITH_OK)
        status = request_id_decode(message->client, message->number, &command.request_id, err);
    if (status == KITH_OK) status = command_body_decode(message, arena, &command, err);
    if (status == KITH_OK) *command_out = command;
    return status;
}

/* --- snapshots --- */

static void collection_stored_encode(const kith_meta_collection *stored, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 6);
    kith_codec_meta_collection_encode(&stored->collection, buf);
    if (shards_assigned(&stored->collection, stored->shards))
        shards_encode(&stored->collection, stored->shards, true, buf);
    kith_wire_close(buf, mark);
}

static void answer_encode(const kith_codec_meta_answer *answer, kith_buf *buf) {
    size_t mark = kith_wire_open(buf, 9);
    kith_wire_bytes(buf, 1, answer->request_id.client, sizeof answer->request_id.client);
    kith_wire_u64(buf, 2, answer->request_id.number);
    kith_wire_u64(buf, 3, (uint64_t)answer->status);
    kith_wire_text(buf, 4, answer->message);
    kith_wire_u64(buf, 5, answer->changed);
    if (answer->collection) {
        size_t inner = kith_wire_open(buf, 6);
        kith_codec_meta_collection_encode(answer->collection, buf);
        kith_wire_close(buf, inner);
    }
    kith_wire_close(buf, mark);
}

/* A number once given to a node may not be given again, so a state that ever had nodes stays at version 2 or above. */
static uint32_t snapshot_version(const kith_codec_meta_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->collection_count; i++) {
        const kith_meta_collection *stored = snapshot->collections[i];
        if (needs_loss(&stored->collection, stored->shards)) return META_VERSION_LOSS;
    }
    for (uint32_t i = 0; i < snapshot->collection_count; i++) {
        if (needs_durability(&snapshot->collections[i]->collection)) return META_VERSION_DURABILITY;
    }
    for (uint32_t i = 0; i < snapshot->collection_count; i++) {
        const kith_meta_collection *stored = snapshot->collections[i];
        if (needs_replicas(&stored->collection, stored->shards, true)) return META_VERSION_REPLICAS;
    }
    bool of_cluster = !kith_node_id_is_none(&snapshot->cluster_id);
    return of_cluster || snapshot->node_count > 0 || snapshot->node_number_next > 1 ? META_VERSION_NODES
                                                                                    : META_VERSION_FIRST;
}

void kith_codec_meta_snapshot_encode(const kith_codec_meta_snapshot *snapshot, kith_buf *buf) {
    uint32_t version = snapshot_version(snapshot);
    kith_wire_u64(buf, 1, version);
    kith_wire_u64(buf, 2, snapshot->map_version);
    kith_wire_u64(buf, 3, snapshot->applied_index);
    kith_wire_u64(buf, 4, snapshot->collection_id_next);
    kith_wire_u64(buf, 5, snapshot->shard_id_next);
    for (uint32_t i = 0; i < snapshot->collection_count; i++)
        collection_stored_encode(snapshot->collections[i], buf);
    for (uint32_t i = 0; i < snapshot->node_count; i++)
        node_encode(&snapshot->nodes[i], 7, true, buf);
    if (version >= META_VERSION_NODES) kith_wire_u64(buf, 8, snapshot->node_number_next);
    for (uint32_t i = 0; i < snapshot->answer_count; i++)
        answer_encode(&snapshot->answers[i], buf);
    if (!kith_node_id_is_none(&snapshot->cluster_id))
        kith_wire_bytes(buf, 10, snapshot->cluster_id.bytes, sizeof snapshot->cluster_id.bytes);
}

static kith_status count_check(const char *what, size_t count, uint32_t count_max, kith_err *err) {
    if (count <= count_max) return KITH_OK;
    return kith_err_set(
        err, KITH_CORRUPT, "metadata: %zu %s; at most %u are allowed", count, what, count_max);
}

static kith_status collection_stored_decode(const Kith__Meta__V1__MetaCollection *message, kith_arena *arena,
    const kith_meta_collection **stored_out, kith_err *err) {
    kith_meta_collection *stored = kith_arena_alloc(arena, sizeof *stored);
    kith_status status = collection_decode(message, &stored->collection, err);
    if (status != KITH_OK) return status;
    kith_collection_replicas_default(&stored->collection);
    uint32_t count = stored->collection.shard_count;
    status = shards_decode(message, &stored->collection, arena, &stored->shards, err);
    if (status != KITH_OK) return status;
    if (!stored->shards) {
        stored->shards = kith_arena_alloc_zero(arena, count * sizeof *stored->shards);
        for (uint32_t i = 0; i < count; i++)
            stored->shards[i].epoch = 1;
    }
    *stored_out = stored;
    return KITH_OK;
}

static kith_status collections_decode(const Kith__Meta__V1__MetaSnapshot *message, kith_arena *arena,
    kith_codec_meta_snapshot *snapshot, kith_err *err) {
    kith_status status = count_check("collections", message->n_collections, KITH_COLLECTIONS_MAX, err);
    if (status != KITH_OK) return status;
    const kith_meta_collection **collections =
        kith_arena_array(arena, message->n_collections, sizeof *collections);
    for (size_t i = 0; i < message->n_collections && status == KITH_OK; i++)
        status = collection_stored_decode(message->collections[i], arena, &collections[i], err);
    snapshot->collections = collections;
    snapshot->collection_count = (uint32_t)message->n_collections;
    return status;
}

static kith_status nodes_decode(const Kith__Meta__V1__MetaSnapshot *message, kith_arena *arena,
    kith_codec_meta_snapshot *snapshot, kith_err *err) {
    kith_status status = count_check("nodes", message->n_nodes, KITH_NODES_MAX, err);
    if (status != KITH_OK) return status;
    kith_node *nodes = kith_arena_array(arena, message->n_nodes, sizeof *nodes);
    for (size_t i = 0; i < message->n_nodes && status == KITH_OK; i++)
        status = node_decode(message->nodes[i], true, &nodes[i], err);
    snapshot->nodes = nodes;
    snapshot->node_count = (uint32_t)message->n_nodes;
    snapshot->node_number_next = message->node_number_next ? message->node_number_next : 1;
    if (status == KITH_OK && message->cluster_id.len)
        status = node_id_decode(message->cluster_id, &snapshot->cluster_id, err);
    return status;
}

static kith_status answer_decode(const Kith__Meta__V1__MetaAnswer *message, kith_arena *arena,
    kith_codec_meta_answer *answer, kith_err *err) {
    *answer = (kith_codec_meta_answer){
        .status = kith_status_from_number(message->status), .changed = message->changed};
    kith_status status = request_id_decode(message->client, message->number, &answer->request_id, err);
    if (status != KITH_OK) return status;
    if (kith_codec_text(message->message, "answer", arena, &answer->message, err) != KITH_OK)
        return kith_err_wrap(err, KITH_CORRUPT, "metadata");
    if (!message->collection) return KITH_OK;
    kith_collection *collection = kith_arena_alloc(arena, sizeof *collection);
    answer->collection = collection;
    return collection_decode(message->collection, collection, err);
}

static kith_status answers_decode(const Kith__Meta__V1__MetaSnapshot *message, kith_arena *arena,
    kith_codec_meta_snapshot *snapshot, kith_err *err) {
    kith_status status = count_check("answers", message->n_answers, KITH_META_ANSWERS_MAX, err);
    if (status != KITH_OK) return status;
    kith_codec_meta_answer *answers = kith_arena_array(arena, message->n_answers, sizeof *answers);
    for (size_t i = 0; i < message->n_answers && status == KITH_OK; i++)
        status = answer_decode(message->answers[i], arena, &answers[i], err);
    snapshot->answers = answers;
    snapshot->answer_count = (uint32_t)message->n_answers;
    return status;
}

kith_status kith_codec_meta_snapshot_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_meta_snapshot *snapshot_out, kith_err *err) {
    const Kith__Meta__V1__MetaSnapshot *message =
        kith_codec_unpack(&kith__meta__v1__meta_snapshot__descriptor, data, bytes, arena, KITH_CORRUPT, err);
    if (!message) return KITH_CORRUPT;
    kith_codec_meta_snapshot snapshot = {.map_version = message->map_version,
        .applied_index = message->applied_index,
        .collection_id_next = message->collection_id_next,
        .shard_id_next = message->shard_id_next};
    kith_status status = version_check("a snapshot", message->version, err);
    if (status == KITH_OK) status = collections_decode(message, arena, &snapshot, err);
    if (status == KITH_OK) status = nodes_decode(message, arena, &snapshot, err);
    if (status == KITH_OK) status = answers_decode(message, arena, &snapshot, err);
    if (status == KITH_OK) *snapshot_out = snapshot;
    return status;
}
