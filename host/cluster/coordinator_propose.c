/* Proposals of other nodes: what a new collection lacks, where its shards go, and whether the one who changes a shard is its
 * primary, is decided here; then the log commits. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/cluster/coordinator_internal.h"
#include "host/cluster/placement.h"

/* --- where the shards of a new collection go --- */

typedef struct data_nodes {
    uint32_t count;
    kith_placement_node *nodes;
    kith_placement_load *loads;
    uint32_t *index_of; /* [state.node_count] by position there */
} data_nodes;

static void loads_count(const kith_meta_state *state, data_nodes *data) {
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t s = 0; s < of->collection.shard_count; s++) {
            for (uint32_t r = 0; r < of->shards[s].replica_count; r++) {
                const kith_node *node = kith_meta_state_node(state, of->shards[s].replicas[r]);
                if (!node) continue; /* cannot be: an invariant of the state */
                kith_placement_load *load = &data->loads[data->index_of[node - state->nodes]];
                load->replicas++;
                load->primaries += r == 0;
            }
        }
    }
}

static data_nodes data_nodes_of(const kith_meta_state *state, kith_arena *arena) {
    data_nodes data = {.count = 0};
    data.nodes = kith_arena_array(arena, state->node_count, sizeof *data.nodes);
    data.loads = kith_arena_alloc_zero(arena, state->node_count * sizeof *data.loads);
    data.index_of = kith_arena_alloc_zero(arena, state->node_count * sizeof *data.index_of);
    for (uint32_t i = 0; i < state->node_count; i++) {
        if (!kith_node_holds_shards(state->nodes[i].role)) continue;
        data.index_of[i] = data.count;
        data.nodes[data.count++] = kith_placement_node_of(&state->nodes[i]);
    }
    loads_count(state, &data);
    return data;
}

static kith_status shards_place(
    const kith_meta_state *state, kith_codec_meta_command *command, kith_arena *arena, kith_err *err) {
    kith_collection *created = &command->collection;
    if (created->replication_factor == 0) created->replication_factor = 1;
    data_nodes data = data_nodes_of(state, arena);
    if (data.count == 0)
        return kith_err_set(
            err, KITH_PRECONDITION, "there is no data node to hold collection \"%s\"", created->name);
    kith_placement_collection wanted = {
        .shard_id_first = state->shard_id_next,
        .shard_count = created->shard_count,
        .replica_count = created->replication_factor,
    };
    kith_placement_replicas *replicas = kith_arena_array(arena, created->shard_count, sizeof *replicas);
    kith_status status =
        kith_placement_new_collection(data.nodes, data.loads, data.count, &wanted, replicas, err);
    if (status != KITH_OK) return kith_err_wrap(err, status, "place collection \"%s\"", created->name);
    kith_meta_shard *shards = kith_arena_alloc_zero(arena, created->shard_count * sizeof *shards);
    for (uint32_t i = 0; i < created->shard_count; i++) {
        shards[i].replica_count = (uint8_t)replicas[i].count;
        memcpy(shards[i].replicas, replicas[i].nodes, sizeof shards[i].replicas);
    }
    command->shards = shards;
    return KITH_OK;
}

static bool was_answered(const kith_meta_state *state, const kith_request_id *id) {
    for (uint32_t i = 0; i < state->answer_count; i++) {
        const kith_request_id *answered = &state->answers[i].request_id;
        if (memcmp(answered->client, id->client, sizeof id->client) == 0 && answered->number == id->number)
            return true;
    }
    return false;
}

/* What exists or is refused for its numbers is for the state to say. */
static bool needs_placement(const kith_meta_state *state, const kith_codec_meta_command *command) {
    const kith_collection *created = &command->collection;
    return command->kind == KITH_CODEC_META_CREATE_COLLECTION && !command->shards &&
           created->shard_count >= 1 && created->shard_count <= KITH_SHARDS_MAX &&
           created->replication_factor <= KITH_REPLICAS_MAX && !kith_meta_state_find(state, created->name);
}

/* --- who may change a shard --- */

/* A member that may lack what it has acknowledged takes itself, and nobody else, out of those in sync
 * (host/replica/replica_propose.c). */
static bool only_leaves(const kith_meta_state *state, const kith_node_id *from, const kith_meta_shard *have,
    const kith_meta_shard *wanted) {
    bool same = wanted->replica_count == have->replica_count &&
                memcmp(wanted->replicas, have->replicas, have->replica_count * sizeof *have->replicas) == 0;
    if (!same || wanted->in_sync & ~have->in_sync) return false;
    uint8_t gone = have->in_sync & (uint8_t)~wanted->in_sync;
    for (uint32_t r = 1; r < have->replica_count; r++) {
        if (gone == 1u << r)
            return kith_node_id_equal(&kith_meta_state_node(state, have->replicas[r])->id, from);
    }
    return false;
}

/* The metadata see only that the epoch is right; who asks is known here. Where nodes have no credentials everybody is
 * believed, as with heartbeats.
 *
 * A refusal tells the asker that its change will never take place, also not by an earlier attempt of the same proposal. That is
 * certain only of epochs that this coordinator has seen; one that lags behind, or was deposed and does not know it, leaves
 * the rest to the log. */
static kith_status changer_check(const kith_meta_state *state, const kith_node_id *from,
    const kith_codec_meta_shard_change *change, kith_err *err) {
    const kith_meta_shard *shard = kith_meta_state_shard(state, change->shard_id);
    if (!shard || shard->replica_count == 0 || kith_node_id_is_none(from)) return KITH_OK;
    if (change->shard.epoch > shard->epoch) return KITH_OK;
    const kith_node *primary = kith_meta_state_node(state, shard->replicas[0]);
    if (kith_node_id_equal(&primary->id, from) || only_leaves(state, from, shard, &change->shard))
        return KITH_OK;
    const kith_node *node = kith_meta_state_node_of_id(state, from);
    char text[KITH_NODE_ID_TEXT_BYTES];
    return kith_err_set(err, KITH_PRECONDITION,
        "shard %llu: node \"%s\" is its primary since epoch %llu, not \"%s\"",
        (unsigned long long)change->shard_id, primary->name, (unsigned long long)shard->epoch,
        node ? node->name : kith_node_id_text(from, text));
}

/* Leaves out those that are not for the asker to make; refused when none is left. */
static kith_status changes_sift(const kith_meta_state *state, const kith_node_id *from,
    kith_codec_meta_command *command, kith_arena *arena, kith_err *err) {
    kith_codec_meta_shard_change *kept = kith_arena_array(arena, command->change_count, sizeof *kept);
    uint32_t count = 0;
    kith_status refusal = KITH_OK;
    for (uint32_t i = 0; i < command->change_count; i++) {
        kith_err why;
        kith_status status = changer_check(state, from, &command->changes[i], &why);
        if (status == KITH_OK) {
            kept[count++] = command->changes[i];
        } else if (refusal == KITH_OK) {
            refusal = status;
            *err = why;
        }
    }
    command->changes = kept;
    command->change_count = count;
    return count > 0 ? KITH_OK : refusal;
}

/* --- one proposal --- */

typedef struct client_proposal {
    kith_meta_log_proposal proposal;
    kith_coordinator *coordinator;
    kith_transport_request *request;
    kith_buf bytes;
} client_proposal;

static void answer(
    kith_coordinator *coordinator, kith_transport_request *request, const kith_codec_propose_reply *reply) {
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_propose_reply_encode(reply, &bytes);
    kith_transport_reply(request, coordinator->options.transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

/* Refused before it came into the log: nothing was done, a repeat is judged anew. */
static void refuse(
    kith_coordinator *coordinator, kith_transport_request *request, kith_status status, const kith_err *err) {
    answer(coordinator, request,
        &(kith_codec_propose_reply){.status = status,
            .message = err->text,
            .map_version = coordinator->options.fsm->state.map_version});
}

static void answer_result(
    kith_coordinator *coordinator, kith_transport_request *request, const kith_meta_result *result) {
    bool done = result->status == KITH_OK;
    answer(coordinator, request,
        &(kith_codec_propose_reply){.status = result->status,
            .message = done ? "" : result->err.text,
            .changed = result->answer_changed,
            .map_version = coordinator->options.fsm->state.map_version,
            .collection = done && kith_meta_result_of_collection(result) ? &result->collection : NULL});
}

static void proposal_done(kith_meta_log_proposal *proposal, kith_status status,
    const kith_meta_result *result, const kith_err *err) {
    client_proposal *own = (client_proposal *)(void *)proposal;
    kith_coordinator *coordinator = own->coordinator;
    if (status == KITH_OK) {
        answer_result(coordinator, own->request, result);
    } else {
        coordinator_fail(coordinator, own->request, status, err);
    }
    kith_buf_fini(&own->bytes);
    kith_free(own);
    coordinator->proposal_count--;
    coordinator_ended(coordinator);
}

static void propose(
    kith_coordinator *coordinator, kith_transport_request *request, const kith_codec_meta_command *command) {
    client_proposal *own = kith_alloc_zero(sizeof *own);
    own->coordinator = coordinator;
    own->request = request;
    kith_buf_init(&own->bytes);
    kith_codec_meta_command_encode(command, &own->bytes);
    own->proposal = (kith_meta_log_proposal){
        .bytes = own->bytes.data, .byte_count = own->bytes.bytes, .done = proposal_done};
    coordinator->open_count++;
    coordinator->proposal_count++;
    kith_meta_log_propose(coordinator->options.log, &own->proposal);
}

/* What was answered before is for the state to say. */
static kith_status command_complete(const kith_meta_state *state, const kith_node_id *from,
    kith_codec_meta_command *command, kith_arena *arena, kith_err *err) {
    if (was_answered(state, &command->request_id)) return KITH_OK;
    if (needs_placement(state, command)) return shards_place(state, command, arena, err);
    if (command->kind == KITH_CODEC_META_CHANGE_SHARDS) return changes_sift(state, from, command, arena, err);
    return KITH_OK;
}

static kith_status command_take(kith_coordinator *coordinator, const kith_transport_request *request,
    kith_arena *arena, kith_codec_meta_command *command_out, kith_err *err) {
    if (coordinator->proposal_count >= COORDINATOR_PROPOSALS_MAX)
        return kith_err_set(err, KITH_BUSY, "%u proposals are open, the most allowed: retry in 50 ms",
            coordinator->proposal_count);
    return kith_codec_meta_command_decode(request->bytes, request->byte_count, arena, command_out, err);
}

void coordinator_proposed(void *ctx, kith_transport_request *request) {
    kith_coordinator *coordinator = ctx;
    if (coordinator_refuses(coordinator, request, COORDINATOR_LEADING)) return;
    const kith_meta_state *state = &coordinator->options.fsm->state;
    kith_arena arena;
    kith_err err;
    kith_codec_meta_command command;
    kith_arena_init(&arena);
    kith_status status = command_take(coordinator, request, &arena, &command, &err);
    if (status != KITH_OK) {
        coordinator_fail(coordinator, request, status, &err);
    } else {
        status = command_complete(state, &request->from, &command, &arena, &err);
        if (status == KITH_OK) {
            propose(coordinator, request, &command);
        } else {
            refuse(coordinator, request, status, &err);
        }
    }
    kith_arena_fini(&arena);
}
