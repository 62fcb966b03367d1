/* Life of the state, and which rule a command goes by. */
#include "host/meta/meta_state.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/meta/meta_state_internal.h"

void kith_meta_state_init(kith_meta_state *state) {
    *state = (kith_meta_state){
        .map_version = 1, .collection_id_next = 1, .shard_id_next = 1, .node_number_next = 1};
}

void kith_meta_state_fini(kith_meta_state *state) {
    for (uint32_t i = 0; i < state->collection_count; i++)
        kith_meta_collection_free(state->collections[i]);
    kith_free(state->collections);
    kith_free(state->nodes);
    kith_meta_state_answers_free(state);
    *state = (kith_meta_state){0};
}

static void rule_apply(
    kith_meta_state *state, const kith_codec_meta_command *command, kith_meta_result *result) {
    switch (command->kind) {
    case KITH_CODEC_META_CREATE_COLLECTION:
        kith_meta_state_create(state, command, result);
        return;
    case KITH_CODEC_META_DROP_COLLECTION:
        kith_meta_state_drop(state, command, result);
        return;
    case KITH_CODEC_META_REGISTER_NODE:
        kith_meta_state_register(state, command, result);
        return;
    case KITH_CODEC_META_NODE_DOWN:
        kith_meta_state_node_down(state, command, result);
        return;
    case KITH_CODEC_META_DRAIN_NODE:
        kith_meta_state_drain(state, command, result);
        return;
    case KITH_CODEC_META_REMOVE_NODE:
        kith_meta_state_remove(state, command, result);
        return;
    case KITH_CODEC_META_CHANGE_SHARDS:
        kith_meta_state_change_shards(state, command, result);
        return;
    case KITH_CODEC_META_UPDATE_COLLECTION:
        kith_meta_state_update(state, command, result);
        return;
    case KITH_CODEC_META_ACCEPT_LOSS:
        kith_meta_state_accept_loss(state, command, result);
        return;
    }
    result->status = kith_err_set(
        &result->err, KITH_UNIMPLEMENTED, "metadata command %u is unknown", (unsigned)command->kind);
}

/* After it a primary may be down, or a replica in sync up again. A new collection was placed before it came to be
 * applied: what was up then may be down. */
static bool may_need_failover(kith_codec_meta_kind kind) {
    return kind == KITH_CODEC_META_REGISTER_NODE || kind == KITH_CODEC_META_NODE_DOWN ||
           kind == KITH_CODEC_META_REMOVE_NODE || kind == KITH_CODEC_META_CREATE_COLLECTION;
}

static void answer_remember(
    kith_meta_state *state, const kith_request_id *request_id, const kith_meta_result *result) {
    bool named = result->status == KITH_OK && result->collection.name[0] != 0;
    kith_meta_state_answer_add(state, &(kith_codec_meta_answer){
                                          .request_id = *request_id,
                                          .status = result->status,
                                          .changed = result->changed,
                                          .message = result->status == KITH_OK ? "" : result->err.text,
                                          .collection = named ? &result->collection : NULL,
                                      });
}

void kith_meta_state_apply(kith_meta_state *state, uint64_t index, const kith_codec_meta_command *command,
    kith_meta_result *result_out) {
    static const uint8_t nobody[sizeof command->request_id.client];
    kith_assert(index > state->applied_index);
    *result_out = (kith_meta_result){.kind = command->kind, .status = KITH_OK};
    state->applied_index = index;
    bool remembered = memcmp(command->request_id.client, nobody, sizeof nobody) != 0;
    if (remembered && kith_meta_state_answered(state, &command->request_id, result_out)) return;
    rule_apply(state, command, result_out);
    if (result_out->changed && may_need_failover(command->kind))
        result_out->promoted_count = kith_meta_state_failover(state);
    result_out->answer_changed = result_out->changed;
    if (result_out->changed) state->map_version++;
    if (remembered) answer_remember(state, &command->request_id, result_out);
}

kith_status kith_meta_state_restore(
    kith_meta_state *state, const kith_codec_meta_snapshot *snapshot, kith_err *err) {
    kith_meta_state_fini(state);
    *state = (kith_meta_state){
        .map_version = snapshot->map_version,
        .applied_index = snapshot->applied_index,
        .collection_id_next = snapshot->collection_id_next,
        .shard_id_next = snapshot->shard_id_next,
        .node_number_next = snapshot->node_number_next,
        .cluster_id = snapshot->cluster_id,
    };
    for (uint32_t i = 0; i < snapshot->collection_count; i++) {
        const kith_meta_collection *stored = snapshot->collections[i];
        kith_meta_state_collection_insert(
            state, i, kith_meta_collection_copy(&stored->collection, stored->shards));
    }
    for (uint32_t i = 0; i < snapshot->node_count; i++)
        kith_meta_state_node_append(state, &snapshot->nodes[i]);
    for (uint32_t i = 0; i < snapshot->answer_count; i++)
        kith_meta_state_answer_add(state, &snapshot->answers[i]);
    kith_status status = kith_meta_state_validate(state, err);
    if (status == KITH_OK) return KITH_OK;
    kith_meta_state_fini(state);
    kith_meta_state_init(state);
    return status;
}
