#include "host/meta/meta_state.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

void kith_meta_state_init(kith_meta_state *state) {
    *state = (kith_meta_state){.map_version = 1, .collection_id_next = 1, .shard_id_next = 1};
}

void kith_meta_state_fini(kith_meta_state *state) {
    for (uint32_t i = 0; i < state->collection_count; i++)
        kith_free(state->collections[i]);
    kith_free(state->collections);
    *state = (kith_meta_state){0};
}

/* Where `name` is, or where it would go. */
static uint32_t position_of(const kith_meta_state *state, const char *name, bool *found_out) {
    uint32_t low = 0, high = state->collection_count;
    *found_out = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(state->collections[middle]->name, name);
        if (order == 0) *found_out = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const kith_collection *kith_meta_state_find(const kith_meta_state *state, const char *name) {
    bool found;
    uint32_t position = position_of(state, name, &found);
    return found ? state->collections[position] : NULL;
}

bool kith_meta_schema_equal(const kith_schema *a, const kith_schema *b) {
    if (a->field_count != b->field_count) return false;
    for (uint32_t i = 0; i < a->field_count; i++) {
        const kith_field *left = &a->fields[i], *right = &b->fields[i];
        bool equal = strcmp(left->name, right->name) == 0 && left->dim == right->dim &&
                     left->metric == right->metric && left->type == right->type;
        if (!equal) return false;
    }
    return true;
}

static void insert_at(kith_meta_state *state, uint32_t position, kith_collection *collection) {
    if (state->collection_count == state->collection_capacity) {
        state->collection_capacity = state->collection_capacity ? state->collection_capacity * 2 : 16;
        state->collections =
            kith_realloc(state->collections, state->collection_capacity * sizeof *state->collections);
    }
    memmove(&state->collections[position + 1], &state->collections[position],
        (state->collection_count - position) * sizeof *state->collections);
    state->collections[position] = collection;
    state->collection_count++;
}

/* One message for the first difference, with both values. */
static kith_status exists_differently(
    const kith_collection *have, const kith_collection *want, kith_err *err) {
    if (have->shard_count != want->shard_count) {
        return kith_err_set(err, KITH_EXISTS, "collection \"%s\" already exists with shard_count %u, not %u",
            have->name, have->shard_count, want->shard_count);
    }
    if (have->schema.field_count != want->schema.field_count) {
        return kith_err_set(err, KITH_EXISTS,
            "collection \"%s\" already exists with %u vector fields, not %u", have->name,
            have->schema.field_count, want->schema.field_count);
    }
    for (uint32_t i = 0; i < have->schema.field_count; i++) {
        const kith_field *a = &have->schema.fields[i], *b = &want->schema.fields[i];
        if (strcmp(a->name, b->name) != 0) {
            return kith_err_set(err, KITH_EXISTS,
                "collection \"%s\" already exists and its fields[%u] is called \"%s\", not \"%s\"",
                have->name, i, a->name, b->name);
        }
        if (a->dim != b->dim || a->metric != b->metric || a->type != b->type) {
            return kith_err_set(err, KITH_EXISTS,
                "collection \"%s\" already exists and its field \"%s\" is dim %u %s %s, not dim %u %s %s",
                have->name, a->name, a->dim, kith_metric_name(a->metric), kith_vector_type_name(a->type),
                b->dim, kith_metric_name(b->metric), kith_vector_type_name(b->type));
        }
    }
    return KITH_OK;
}

static uint32_t shards_total(const kith_meta_state *state) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->collection_count; i++)
        count += state->collections[i]->shard_count;
    return count;
}

static kith_status create_check(const kith_meta_state *state, const kith_collection *wanted, kith_err *err) {
    kith_status status = kith_name_check("collection name", wanted->name, strlen(wanted->name), false, err);
    if (status == KITH_OK) status = kith_schema_check(&wanted->schema, err);
    if (status != KITH_OK) return status;
    if (wanted->shard_count < 1 || wanted->shard_count > KITH_SHARDS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "shard_count %u is not in 1..%u", wanted->shard_count, KITH_SHARDS_MAX);
    }
    if (state->collection_count >= KITH_COLLECTIONS_MAX) {
        return kith_err_set(
            err, KITH_PRECONDITION, "there are %u collections, the most allowed", state->collection_count);
    }
    uint32_t shard_count = shards_total(state);
    if (wanted->shard_count > KITH_CLUSTER_SHARDS_MAX - shard_count) {
        return kith_err_set(err, KITH_PRECONDITION,
            "shard_count %u and the %u shards there are pass %u, the most allowed", wanted->shard_count,
            shard_count, KITH_CLUSTER_SHARDS_MAX);
    }
    return KITH_OK;
}

static void apply_create(kith_meta_state *state, const kith_collection *wanted, kith_meta_result *result) {
    bool found;
    uint32_t position = position_of(state, wanted->name, &found);
    if (found) {
        result->status = exists_differently(state->collections[position], wanted, &result->err);
        if (result->status == KITH_OK) result->collection = *state->collections[position];
        return;
    }
    result->status = create_check(state, wanted, &result->err);
    if (result->status != KITH_OK) return;
    kith_collection *created = kith_alloc(sizeof *created);
    *created = *wanted;
    created->id = state->collection_id_next++;
    created->shard_id_first = state->shard_id_next;
    state->shard_id_next += wanted->shard_count;
    insert_at(state, position, created);
    result->changed = true;
    result->collection = *created;
}

static void apply_drop(kith_meta_state *state, const kith_collection *unwanted, kith_meta_result *result) {
    bool found;
    uint32_t position = position_of(state, unwanted->name, &found);
    /* The name may have been given to another collection since the client looked. */
    if (!found || (unwanted->id && state->collections[position]->id != unwanted->id)) {
        result->status =
            kith_err_set(&result->err, KITH_NOT_FOUND, "collection \"%s\" does not exist", unwanted->name);
        return;
    }
    kith_collection *dropped = state->collections[position];
    result->changed = true;
    result->collection = *dropped;
    kith_free(dropped);
    state->collection_count--;
    memmove(&state->collections[position], &state->collections[position + 1],
        (state->collection_count - position) * sizeof *state->collections);
}

void kith_meta_state_apply(kith_meta_state *state, uint64_t index, const kith_codec_meta_command *command,
    kith_meta_result *result_out) {
    kith_assert(index > state->applied_index);
    *result_out = (kith_meta_result){.status = KITH_OK};
    switch (command->kind) {
    case KITH_CODEC_META_CREATE_COLLECTION:
        apply_create(state, &command->collection, result_out);
        break;
    case KITH_CODEC_META_DROP_COLLECTION:
        apply_drop(state, &command->collection, result_out);
        break;
    default:
        result_out->status = kith_err_set(
            &result_out->err, KITH_UNIMPLEMENTED, "metadata command %u is unknown", (unsigned)command->kind);
    }
    state->applied_index = index;
    if (result_out->changed) state->map_version++;
}

static kith_status collection_check(const kith_meta_state *state, uint32_t i, kith_err *err) {
    const kith_collection *collection = state->collections[i];
    kith_status status =
        kith_name_check("collection name", collection->name, strlen(collection->name), false, err);
    if (status == KITH_OK) status = kith_schema_check(&collection->schema, err);
    if (status != KITH_OK) return status;
    if (i > 0 && strcmp(state->collections[i - 1]->name, collection->name) >= 0) {
        return kith_err_set(err, KITH_CORRUPT, "collections \"%s\" and \"%s\" are out of order",
            state->collections[i - 1]->name, collection->name);
    }
    if (collection->id == 0 || collection->id >= state->collection_id_next) {
        return kith_err_set(err, KITH_CORRUPT, "collection \"%s\" has id %llu, the next one is %llu",
            collection->name, (unsigned long long)collection->id,
            (unsigned long long)state->collection_id_next);
    }
    bool counts = collection->shard_count >= 1 && collection->shard_count <= KITH_SHARDS_MAX;
    bool below = counts && collection->shard_id_first >= 1 &&
                 collection->shard_id_first < state->shard_id_next &&
                 state->shard_id_next - collection->shard_id_first >= collection->shard_count;
    if (!below) {
        return kith_err_set(err, KITH_CORRUPT, "collection \"%s\" has shards %llu + %u, the next one is %llu",
            collection->name, (unsigned long long)collection->shard_id_first, collection->shard_count,
            (unsigned long long)state->shard_id_next);
    }
    return KITH_OK;
}

kith_status kith_meta_state_validate(const kith_meta_state *state, kith_err *err) {
    if (state->collection_count > KITH_COLLECTIONS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "%u collections are more than %u", state->collection_count,
            KITH_COLLECTIONS_MAX);
    }
    for (uint32_t i = 0; i < state->collection_count; i++) {
        kith_status status = collection_check(state, i, err);
        if (status != KITH_OK) return kith_err_wrap(err, KITH_CORRUPT, "metadata");
    }
    /* Quadratic, and run at restore and in tests only. Shards are given with the collection's id: both rise together. */
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_collection *a = state->collections[i];
        for (uint32_t j = 0; j < state->collection_count; j++) {
            const kith_collection *b = state->collections[j];
            bool apart = i == j || (a->id < b->id ? a->shard_id_first + a->shard_count <= b->shard_id_first
                                                  : a->id > b->id);
            if (apart) continue;
            return kith_err_set(err, KITH_CORRUPT,
                "metadata: collections \"%s\" and \"%s\" share an id or a shard", a->name, b->name);
        }
    }
    return KITH_OK;
}

kith_status kith_meta_state_restore(
    kith_meta_state *state, const kith_codec_meta_snapshot *snapshot, kith_err *err) {
    kith_meta_state_fini(state);
    *state = (kith_meta_state){
        .map_version = snapshot->map_version,
        .applied_index = snapshot->applied_index,
        .collection_id_next = snapshot->collection_id_next,
        .shard_id_next = snapshot->shard_id_next,
    };
    for (uint32_t i = 0; i < snapshot->collection_count; i++) {
        kith_collection *collection = kith_alloc(sizeof *collection);
        *collection = snapshot->collections[i];
        insert_at(state, i, collection);
    }
    kith_status status = kith_meta_state_validate(state, err);
    if (status == KITH_OK) return KITH_OK;
    kith_meta_state_fini(state);
    kith_meta_state_init(state);
    return status;
}
