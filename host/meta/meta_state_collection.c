/* Collections: create, update and drop. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/meta_state_internal.h"

kith_meta_collection *kith_meta_collection_copy(
    const kith_collection *collection, const kith_meta_shard *shards) {
    kith_meta_collection *copy = kith_alloc(sizeof *copy);
    copy->collection = *collection;
    copy->shards = kith_alloc_array(collection->shard_count, sizeof *copy->shards);
    memcpy(copy->shards, shards, collection->shard_count * sizeof *shards);
    return copy;
}

void kith_meta_collection_free(kith_meta_collection *collection) {
    kith_free(collection->shards);
    kith_free(collection);
}

/* Where `name` is, or where it would go. */
static uint32_t position_of(const kith_meta_state *state, const char *name, bool *found_out) {
    uint32_t low = 0, high = state->collection_count;
    *found_out = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(state->collections[middle]->collection.name, name);
        if (order == 0) *found_out = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const kith_meta_collection *kith_meta_state_find(const kith_meta_state *state, const char *name) {
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

void kith_meta_state_collection_insert(
    kith_meta_state *state, uint32_t position, kith_meta_collection *collection) {
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

/* --- create --- */

/* One message for the first difference, with both values. */
static kith_status exists_differently(
    const kith_collection *have, const kith_collection *want, kith_err *err) {
    if (have->shard_count != want->shard_count) {
        return kith_err_set(err, KITH_EXISTS, "collection \"%s\" already exists with shard_count %u, not %u",
            have->name, have->shard_count, want->shard_count);
    }
    if (want->replication_factor && have->replication_factor != want->replication_factor) {
        return kith_err_set(err, KITH_EXISTS,
            "collection \"%s\" already exists with replication_factor %u, not %u", have->name,
            have->replication_factor, want->replication_factor);
    }
    if (want->min_in_sync && have->min_in_sync != want->min_in_sync) {
        return kith_err_set(err, KITH_EXISTS, "collection \"%s\" already exists with min_in_sync %u, not %u",
            have->name, have->min_in_sync, want->min_in_sync);
    }
    const char *durability = kith_durability_name(want->durability); /* NULL: not said */
    if (durability && have->durability != want->durability) {
        return kith_err_set(err, KITH_EXISTS, "collection \"%s\" already exists with durability %s, not %s",
            have->name, kith_durability_name(have->durability), durability);
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
        count += state->collections[i]->collection.shard_count;
    return count;
}

static kith_status replication_check(const kith_collection *wanted, kith_err *err) {
    if (wanted->replication_factor < 1 || wanted->replication_factor > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_INVALID, "replication_factor %u is not in 1..%u",
            wanted->replication_factor, KITH_REPLICAS_MAX);
    }
    if (wanted->min_in_sync < 1 || wanted->min_in_sync > wanted->replication_factor) {
        return kith_err_set(err, KITH_INVALID, "min_in_sync %u is not in 1..%u, the replication_factor",
            wanted->min_in_sync, wanted->replication_factor);
    }
    if (kith_durability_name(wanted->durability)) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "durability %d is unknown; sync (%d) and async (%d) are allowed",
        (int)wanted->durability, KITH_DURABILITY_SYNC, KITH_DURABILITY_ASYNC);
}

static kith_status create_check(const kith_meta_state *state, const kith_collection *wanted, kith_err *err) {
    kith_status status = kith_name_check("collection name", wanted->name, strlen(wanted->name), false, err);
    if (status == KITH_OK) status = kith_schema_check(&wanted->schema, err);
    if (status != KITH_OK) return status;
    if (wanted->shard_count < 1 || wanted->shard_count > KITH_SHARDS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "shard_count %u is not in 1..%u", wanted->shard_count, KITH_SHARDS_MAX);
    }
    status = replication_check(wanted, err);
    if (status != KITH_OK) return status;
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

kith_status kith_meta_state_assignment_check(const kith_meta_state *state, const kith_collection *collection,
    const kith_meta_shard *shards, uint32_t replicas_max, kith_err *err) {
    char what[32];
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        snprintf(what, sizeof what, "shards[%u]", i);
        kith_status status = kith_meta_state_replicas_check(state, &shards[i], replicas_max, what, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static kith_status assigned_nowhere_check(const kith_collection *wanted, kith_err *err) {
    if (wanted->durability != KITH_DURABILITY_ASYNC) return KITH_OK;
    return kith_err_set(err, KITH_PRECONDITION,
        "durability async needs data nodes; collection \"%s\" is on none", wanted->name);
}

static kith_status shards_check(const kith_meta_state *state, const kith_collection *created,
    const kith_meta_shard *shards, kith_err *err) {
    if (shards)
        return kith_meta_state_assignment_check(state, created, shards, created->replication_factor, err);
    if (state->node_count > 0) {
        return kith_err_set(err, KITH_PRECONDITION,
            "collection \"%s\": its shards are assigned to none of the %u nodes", created->name,
            state->node_count);
    }
    if (created->replication_factor > 1) {
        return kith_err_set(err, KITH_PRECONDITION, "replication_factor %u needs as many nodes; there is one",
            created->replication_factor);
    }
    return assigned_nowhere_check(created, err);
}

/* A new shard is empty everywhere: all its replicas are in sync. */
static void collection_add(
    kith_meta_state *state, uint32_t position, kith_collection *created, const kith_meta_shard *assigned) {
    kith_meta_shard *shards = kith_alloc_zero(created->shard_count * sizeof *shards);
    if (assigned) memcpy(shards, assigned, created->shard_count * sizeof *shards);
    for (uint32_t i = 0; i < created->shard_count; i++) {
        shards[i].epoch = 1;
        shards[i].loss_epoch = 0;
        shards[i].in_sync = kith_replicas_all(shards[i].replica_count);
    }
    created->id = state->collection_id_next++;
    created->shard_id_first = state->shard_id_next;
    state->shard_id_next += created->shard_count;
    kith_meta_state_collection_insert(state, position, kith_meta_collection_copy(created, shards));
    kith_free(shards);
}

void kith_meta_state_create(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    bool found;
    uint32_t position = position_of(state, command->collection.name, &found);
    if (found) {
        const kith_collection *have = &state->collections[position]->collection;
        result->status = exists_differently(have, &command->collection, &result->err);
        if (result->status == KITH_OK) result->collection = *have;
        return;
    }
    kith_collection created = command->collection;
    kith_collection_replicas_default(&created);
    result->status = create_check(state, &created, &result->err);
    if (result->status == KITH_OK)
        result->status = shards_check(state, &created, command->shards, &result->err);
    if (result->status != KITH_OK) return;
    collection_add(state, position, &created, command->shards);
    result->changed = true;
    result->collection = created;
}

/* --- update, drop --- */

/* The one that is meant, or NULL with the answer in `result`. */
static kith_meta_collection *collection_wanted(const kith_meta_state *state, const kith_collection *meant,
    uint32_t *position_out, kith_meta_result *result) {
    bool found;
    *position_out = position_of(state, meant->name, &found);
    /* The name may have been given to another collection since the client looked. */
    if (found && (meant->id == 0 || state->collections[*position_out]->collection.id == meant->id))
        return state->collections[*position_out];
    result->status =
        kith_err_set(&result->err, KITH_NOT_FOUND, "collection \"%s\" does not exist", meant->name);
    return NULL;
}

static uint32_t shard_nodes_count(const kith_meta_state *state) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->node_count; i++)
        count += kith_node_holds_shards(state->nodes[i].role);
    return count;
}

/* More copies than before need nodes to be on; that they are up and have room is for those to see who make them. */
static kith_status update_check(const kith_meta_state *state, const kith_meta_collection *have,
    const kith_collection *wanted, kith_err *err) {
    kith_status status = replication_check(wanted, err);
    bool is_assigned = have->shards[0].replica_count > 0;
    if (status == KITH_OK && !is_assigned) status = assigned_nowhere_check(wanted, err);
    if (status != KITH_OK || wanted->replication_factor <= have->collection.replication_factor) return status;
    uint32_t node_count = is_assigned ? shard_nodes_count(state) : 1;
    if (wanted->replication_factor <= node_count) return KITH_OK;
    return kith_err_set(err, KITH_PRECONDITION, "replication_factor %u needs as many data nodes; there %s %u",
        wanted->replication_factor, node_count == 1 ? "is" : "are", node_count);
}

/* Replicas are made and dropped afterwards, by changes of shards. */
void kith_meta_state_update(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    const kith_collection *said = &command->collection;
    uint32_t position;
    kith_meta_collection *have = collection_wanted(state, said, &position, result);
    if (!have) return;
    kith_collection *updated = &result->collection;
    *updated = have->collection;
    if (said->replication_factor) updated->replication_factor = said->replication_factor;
    if (said->min_in_sync)
        updated->min_in_sync = said->min_in_sync;
    else if (updated->min_in_sync > updated->replication_factor)
        updated->min_in_sync = updated->replication_factor;
    if (said->durability != KITH_DURABILITY_UNSAID) updated->durability = said->durability;
    result->status = update_check(state, have, updated, &result->err);
    if (result->status != KITH_OK) return;
    result->changed = updated->replication_factor != have->collection.replication_factor ||
                      updated->min_in_sync != have->collection.min_in_sync ||
                      updated->durability != have->collection.durability;
    have->collection = *updated;
}

void kith_meta_state_drop(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    uint32_t position;
    kith_meta_collection *unwanted = collection_wanted(state, &command->collection, &position, result);
    if (!unwanted) return;
    result->changed = true;
    result->collection = unwanted->collection;
    kith_meta_collection_free(unwanted);
    state->collection_count--;
    memmove(&state->collections[position], &state->collections[position + 1],
        (state->collection_count - position) * sizeof *state->collections);
}
