#include "host/meta/meta_fsm.h"

void kith_meta_fsm_init(kith_meta_fsm *fsm) {
    *fsm = (kith_meta_fsm){0};
    kith_meta_state_init(&fsm->state);
    kith_arena_init(&fsm->arena);
}

void kith_meta_fsm_fini(kith_meta_fsm *fsm) {
    kith_meta_state_fini(&fsm->state);
    kith_arena_fini(&fsm->arena);
}

kith_status kith_meta_fsm_apply(
    kith_meta_fsm *fsm, uint64_t index, const void *bytes, size_t byte_count, kith_err *err) {
    kith_codec_meta_command *command = kith_arena_alloc(&fsm->arena, sizeof *command);
    kith_status status = kith_codec_meta_command_decode(bytes, byte_count, &fsm->arena, command, err);
    if (status == KITH_OK) kith_meta_state_apply(&fsm->state, index, command, &fsm->result);
    kith_arena_reset(&fsm->arena);
    if (status == KITH_OK) return KITH_OK;
    return kith_err_wrap(err, status, "metadata command %llu", (unsigned long long)index);
}

static void state_encode(const kith_meta_state *state, bool with_answers, kith_buf *buf) {
    kith_codec_meta_snapshot snapshot = {
        .map_version = state->map_version,
        .applied_index = state->applied_index,
        .collection_id_next = state->collection_id_next,
        .shard_id_next = state->shard_id_next,
        .node_number_next = state->node_number_next,
        .cluster_id = state->cluster_id,
        .collections = (const kith_meta_collection *const *)state->collections,
        .collection_count = state->collection_count,
        .nodes = state->nodes,
        .node_count = state->node_count,
        .answers = state->answers,
        .answer_count = with_answers ? state->answer_count : 0,
    };
    kith_codec_meta_snapshot_encode(&snapshot, buf);
}

void kith_meta_fsm_snapshot(const kith_meta_fsm *fsm, kith_buf *buf) {
    state_encode(&fsm->state, true, buf);
}

void kith_meta_fsm_map(const kith_meta_fsm *fsm, kith_buf *buf) {
    state_encode(&fsm->state, false, buf);
}

kith_status kith_meta_fsm_restore(kith_meta_fsm *fsm, const void *bytes, size_t byte_count, kith_err *err) {
    kith_codec_meta_snapshot snapshot;
    kith_status status = kith_codec_meta_snapshot_decode(bytes, byte_count, &fsm->arena, &snapshot, err);
    if (status == KITH_OK) status = kith_meta_state_restore(&fsm->state, &snapshot, err);
    kith_arena_reset(&fsm->arena);
    return status;
}
