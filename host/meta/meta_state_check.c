/* What must be true of a state, whatever made it. */
#include <stdio.h>
#include <string.h>

#include "host/meta/meta_state_internal.h"

static kith_status in_sync_check(const kith_meta_collection *stored, kith_err *err) {
    char what[32];
    for (uint32_t i = 0; i < stored->collection.shard_count; i++) {
        snprintf(what, sizeof what, "shards[%u]", i);
        kith_status status = kith_meta_state_in_sync_check(&stored->shards[i], what, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static kith_status shards_check(
    const kith_meta_state *state, const kith_meta_collection *stored, kith_err *err) {
    const kith_collection *collection = &stored->collection;
    bool assigned = false;
    if (collection->replication_factor < 1 || collection->replication_factor > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "collection \"%s\" has replication_factor %u",
            collection->name, collection->replication_factor);
    }
    if (collection->min_in_sync < 1 || collection->min_in_sync > collection->replication_factor) {
        return kith_err_set(err, KITH_CORRUPT, "collection \"%s\" has min_in_sync %u of %u", collection->name,
            collection->min_in_sync, collection->replication_factor);
    }
    if (!kith_durability_name(collection->durability)) {
        return kith_err_set(err, KITH_CORRUPT, "collection \"%s\" has durability %d", collection->name,
            (int)collection->durability);
    }
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        assigned = assigned || stored->shards[i].replica_count > 0;
        const kith_meta_shard *shard = &stored->shards[i];
        if (shard->epoch >= 1 && shard->loss_epoch <= shard->epoch) continue;
        if (shard->epoch >= 1) {
            return kith_err_set(err, KITH_CORRUPT,
                "collection \"%s\": shards[%u] has loss_epoch %llu of %llu", collection->name, i,
                (unsigned long long)shard->loss_epoch, (unsigned long long)shard->epoch);
        }
        return kith_err_set(
            err, KITH_CORRUPT, "collection \"%s\": shards[%u] has epoch 0", collection->name, i);
    }
    if (!assigned) return KITH_OK;
    kith_status status =
        kith_meta_state_assignment_check(state, collection, stored->shards, KITH_REPLICAS_MAX, err);
    if (status == KITH_OK) status = in_sync_check(stored, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "collection \"%s\"", collection->name);
}

static kith_status collection_check(const kith_meta_state *state, uint32_t i, kith_err *err) {
    const kith_collection *collection = &state->collections[i]->collection;
    kith_status status =
        kith_name_check("collection name", collection->name, strlen(collection->name), false, err);
    if (status == KITH_OK) status = kith_schema_check(&collection->schema, err);
    if (status != KITH_OK) return status;
    if (i > 0 && strcmp(state->collections[i - 1]->collection.name, collection->name) >= 0) {
        return kith_err_set(err, KITH_CORRUPT, "collections \"%s\" and \"%s\" are out of order",
            state->collections[i - 1]->collection.name, collection->name);
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
    return shards_check(state, state->collections[i], err);
}

static kith_status collections_check(const kith_meta_state *state, kith_err *err) {
    if (state->collection_count > KITH_COLLECTIONS_MAX) {
        return kith_err_set(err, KITH_CORRUPT, "%u collections are more than %u", state->collection_count,
            KITH_COLLECTIONS_MAX);
    }
    for (uint32_t i = 0; i < state->collection_count; i++) {
        kith_status status = collection_check(state, i, err);
        if (status != KITH_OK) return status;
    }
    /* Quadratic, and run at restore and in tests only. Shards are given with the collection's id: both rise together. */
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_collection *a = &state->collections[i]->collection;
        for (uint32_t j = 0; j < state->collection_count; j++) {
            const kith_collection *b = &state->collections[j]->collection;
            bool apart = i == j || (a->id < b->id ? a->shard_id_first + a->shard_count <= b->shard_id_first
                                                  : a->id > b->id);
            if (apart) continue;
            return kith_err_set(
                err, KITH_CORRUPT, "collections \"%s\" and \"%s\" share an id or a shard", a->name, b->name);
        }
    }
    return KITH_OK;
}

static kith_status nodes_check(const kith_meta_state *state, kith_err *err) {
    if (state->node_count > KITH_NODES_MAX) {
        return kith_err_set(
            err, KITH_CORRUPT, "%u nodes are more than %u", state->node_count, KITH_NODES_MAX);
    }
    for (uint32_t i = 0; i < state->node_count; i++) {
        const kith_node *node = &state->nodes[i];
        if (kith_node_check(node, err) != KITH_OK) return KITH_CORRUPT;
        uint32_t below = i ? state->nodes[i - 1].number : 0;
        if (node->number <= below || node->number >= state->node_number_next) {
            return kith_err_set(err, KITH_CORRUPT, "node \"%s\" has number %u, after %u and before %u",
                node->name, node->number, below, state->node_number_next);
        }
        if (node->up_map_version > state->map_version) {
            return kith_err_set(err, KITH_CORRUPT, "node \"%s\" came up at map version %llu, after %llu",
                node->name, (unsigned long long)node->up_map_version, (unsigned long long)state->map_version);
        }
        if (kith_meta_state_node_of_id(state, &node->id) == node) continue;
        return kith_err_set(err, KITH_CORRUPT, "node \"%s\" has the id of another one", node->name);
    }
    return KITH_OK;
}

static kith_status answers_check(const kith_meta_state *state, kith_err *err) {
    static const kith_request_id none;
    if (state->answer_count > KITH_META_ANSWERS_MAX) {
        return kith_err_set(
            err, KITH_CORRUPT, "%u answers are more than %u", state->answer_count, KITH_META_ANSWERS_MAX);
    }
    for (uint32_t i = 0; i < state->answer_count; i++) {
        const kith_request_id *id = &state->answers[i].request_id;
        if (memcmp(id->client, none.client, sizeof id->client) != 0) continue;
        return kith_err_set(err, KITH_CORRUPT, "answers[%u] has no client", i);
    }
    return KITH_OK;
}

kith_status kith_meta_state_validate(const kith_meta_state *state, kith_err *err) {
    kith_status status = nodes_check(state, err);
    if (status == KITH_OK) status = collections_check(state, err);
    if (status == KITH_OK) status = answers_check(state, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, KITH_CORRUPT, "metadata");
}
