/* Nodes: register, down, drain, remove. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/meta_state_internal.h"

const kith_node *kith_meta_state_node(const kith_meta_state *state, uint32_t number) {
    uint32_t low = 0, high = state->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (state->nodes[middle].number == number) return &state->nodes[middle];
        if (state->nodes[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const kith_node *kith_meta_state_node_of_id(const kith_meta_state *state, const kith_node_id *id) {
    for (uint32_t i = 0; i < state->node_count; i++) {
        if (kith_node_id_equal(&state->nodes[i].id, id)) return &state->nodes[i];
    }
    return NULL;
}

void kith_meta_state_node_append(kith_meta_state *state, const kith_node *node) {
    if (state->node_count == state->node_capacity) {
        state->node_capacity = state->node_capacity ? state->node_capacity * 2 : 16;
        state->nodes = kith_realloc(state->nodes, state->node_capacity * sizeof *state->nodes);
    }
    state->nodes[state->node_count++] = *node;
}

/* The node that the command is about, or NULL with the answer in `result`. */
static kith_node *node_wanted(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    char text[KITH_NODE_ID_TEXT_BYTES];
    const kith_node *node = kith_meta_state_node_of_id(state, &command->node.id);
    if (!node) {
        result->status = kith_err_set(
            &result->err, KITH_NOT_FOUND, "there is no node %s", kith_node_id_text(&command->node.id, text));
    }
    return (kith_node *)node;
}

/* --- register --- */

static void node_add(kith_meta_state *state, const kith_node *said, kith_meta_result *result) {
    if (state->node_count >= KITH_NODES_MAX) {
        result->status = kith_err_set(
            &result->err, KITH_PRECONDITION, "there are %u nodes, the most allowed", state->node_count);
        return;
    }
    kith_node node = *said;
    node.number = state->node_number_next++;
    node.draining = node.down = false;
    node.down_wall_ms = 0;
    node.up_map_version = state->map_version + 1;
    kith_meta_state_node_append(state, &node);
    result->changed = true;
}

static bool says_the_same(const kith_node *a, const kith_node *b) {
    return strcmp(a->name, b->name) == 0 && strcmp(a->address, b->address) == 0 &&
           strcmp(a->grpc_address, b->grpc_address) == 0 && strcmp(a->http_address, b->http_address) == 0 &&
           strcmp(a->zone, b->zone) == 0 && a->weight == b->weight;
}

/* Its number, role and draining stay. */
static void node_update(
    kith_meta_state *state, kith_node *node, const kith_node *said, kith_meta_result *result) {
    if (node->role != said->role) {
        result->status = kith_err_set(&result->err, KITH_PRECONDITION,
            "node \"%s\" is registered with role %s, not %s; an empty data directory is a new node",
            node->name, kith_node_role_name(node->role), kith_node_role_name(said->role));
        return;
    }
    if (!node->down && says_the_same(node, said)) return;
    kith_node updated = *said;
    updated.number = node->number;
    updated.draining = node->draining;
    updated.down = false;
    updated.down_wall_ms = 0;
    updated.up_map_version = state->map_version + 1;
    *node = updated;
    result->changed = true;
}

void kith_meta_state_register(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    const kith_node *said = &command->node;
    result->status = kith_node_check(said, &result->err);
    if (result->status != KITH_OK) return;
    kith_node *node = (kith_node *)kith_meta_state_node_of_id(state, &said->id);
    if (node)
        node_update(state, node, said, result);
    else
        node_add(state, said, result);
}

/* --- down, drain --- */

void kith_meta_state_node_down(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    kith_node *node = node_wanted(state, command, result);
    if (!node || node->down) return;
    /* It came back after the judge looked. */
    if (command->judged_map_version && command->judged_map_version < node->up_map_version) {
        result->status = kith_err_set(&result->err, KITH_PRECONDITION,
            "node \"%s\" registered at map version %llu, after it was judged at %llu", node->name,
            (unsigned long long)node->up_map_version, (unsigned long long)command->judged_map_version);
        return;
    }
    node->down = true;
    node->down_wall_ms = command->down_wall_ms;
    result->changed = true;
}

void kith_meta_state_drain(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    kith_node *node = node_wanted(state, command, result);
    if (!node) return;
    if (!kith_node_holds_shards(node->role)) {
        result->status = kith_err_set(&result->err, KITH_INVALID,
            "node \"%s\" is a %s node and holds no shards; data nodes can be drained", node->name,
            kith_node_role_name(node->role));
        return;
    }
    if (node->draining == command->node.draining) return;
    node->draining = command->node.draining;
    result->changed = true;
}

/* --- remove --- */

/* Its shards; the first one in `collection_out` and `shard_index_out`. */
static uint32_t shards_on(const kith_meta_state *state, uint32_t number,
    const kith_meta_collection **collection_out, uint32_t *shard_index_out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *stored = state->collections[i];
        for (uint32_t s = 0; s < stored->collection.shard_count; s++) {
            if (!kith_meta_shard_is_on(&stored->shards[s], number)) continue;
            if (count++ > 0) continue;
            *collection_out = stored;
            *shard_index_out = s;
        }
    }
    return count;
}

void kith_meta_state_remove(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    kith_node *node = node_wanted(state, command, result);
    if (!node) return;
    const kith_meta_collection *stored = NULL;
    uint32_t shard_index = 0;
    uint32_t count = shards_on(state, node->number, &stored, &shard_index);
    if (count > 0) {
        result->status = kith_err_set(&result->err, KITH_PRECONDITION,
            "node \"%s\" still holds %u shards, shard %u of collection \"%s\" among them: move them off "
            "first",
            node->name, count, shard_index, stored->collection.name);
        return;
    }
    uint32_t position = (uint32_t)(node - state->nodes);
    state->node_count--;
    memmove(node, node + 1, (state->node_count - position) * sizeof *node);
    result->changed = true;
}
