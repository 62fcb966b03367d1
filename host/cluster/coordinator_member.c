/* Nodes: what the metadata and their heartbeats say of them, and what the leader proposes about them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/cluster/coordinator_internal.h"

/* --- the table --- */

coordinator_node *coordinator_node_find(const kith_coordinator *coordinator, const kith_node_id *id) {
    uint64_t index;
    if (!kith_map_get(coordinator->node_index, id->bytes, sizeof id->bytes, &index)) return NULL;
    return coordinator->nodes[index];
}

/* NULL when there is no room. */
static coordinator_node *node_make(kith_coordinator *coordinator, const kith_node_id *id) {
    coordinator_node *found = coordinator_node_find(coordinator, id);
    if (found || coordinator->node_count == COORDINATOR_NODES_MAX) return found;
    coordinator_node *made = kith_alloc_zero(sizeof *made);
    made->id = *id;
    kith_map_put(coordinator->node_index, id->bytes, sizeof id->bytes, coordinator->node_count);
    coordinator->nodes[coordinator->node_count++] = made;
    return made;
}

static void node_forget(kith_coordinator *coordinator, uint32_t index) {
    coordinator_node *gone = coordinator->nodes[index];
    coordinator_node *last = coordinator->nodes[--coordinator->node_count];
    (void)kith_map_remove(coordinator->node_index, gone->id.bytes, sizeof gone->id.bytes);
    if (last != gone) {
        coordinator->nodes[index] = last;
        kith_map_put(coordinator->node_index, last->id.bytes, sizeof last->id.bytes, index);
    }
    kith_free(gone);
}

/* --- proposals of the leader's own --- */

typedef struct decision {
    kith_meta_log_proposal proposal;
    kith_coordinator *coordinator;
    uint64_t leadership; /* under which it was made */
    kith_member_action action;
    char name[KITH_NODE_NAME_BYTES_MAX + 1];
    kith_buf bytes;
} decision;

static void decision_tell(const decision *made, kith_status status, const kith_meta_result *result) {
    bool is_down = made->action.kind == KITH_MEMBER_DOWN;
    char id[KITH_NODE_ID_TEXT_BYTES];
    kith_node_id_text(&made->action.id, id);
    if (status != KITH_OK || result->status != KITH_OK) {
        const char *reason = status != KITH_OK ? kith_status_text(status) : result->err.text;
        kith_log_warn(is_down ? "node_down_refused" : "node_register_refused",
            kith_kv_text("node", made->name), kith_kv_text("id", id), kith_kv_text("reason", reason));
    } else if (result->changed && is_down) {
        kith_log_warn("node_down", kith_kv_text("node", made->name), kith_kv_text("id", id),
            kith_kv_u64("shards_promoted", result->promoted_count));
    } else if (result->changed) {
        kith_log_info("node_registered", kith_kv_text("node", made->name), kith_kv_text("id", id),
            kith_kv_u64("shards_promoted", result->promoted_count));
    }
}

static void decision_done(kith_meta_log_proposal *proposal, kith_status status,
    const kith_meta_result *result, const kith_err *err) {
    (void)err;
    decision *made = (decision *)(void *)proposal;
    kith_coordinator *coordinator = made->coordinator;
    decision_tell(made, status, result);
    kith_member_event event = {.kind = KITH_MEMBER_PROPOSED, .id = made->action.id};
    event.failed = status != KITH_OK;
    event.refused = status == KITH_OK && result->status != KITH_OK;
    bool counts = made->leadership == coordinator->leadership;
    kith_buf_fini(&made->bytes);
    kith_free(made);
    if (counts) coordinator_step(coordinator, &event);
    coordinator_ended(coordinator);
}

static void decide(kith_coordinator *coordinator, const kith_member_action *action) {
    const coordinator_node *about = coordinator_node_find(coordinator, &action->id);
    if (!about) return; /* cannot be: a node is forgotten here no sooner than there */
    kith_codec_meta_command command = {.node = {.id = action->id}};
    if (action->kind == KITH_MEMBER_REGISTER) {
        command.kind = KITH_CODEC_META_REGISTER_NODE;
        command.node = about->heartbeat.node;
    } else {
        command.kind = KITH_CODEC_META_NODE_DOWN;
        command.judged_map_version = coordinator->options.fsm->state.map_version;
        command.down_wall_ms = kith_env_wall_ms(coordinator->options.env);
    }
    decision *made = kith_alloc_zero(sizeof *made);
    made->coordinator = coordinator;
    made->leadership = coordinator->leadership;
    made->action = *action;
    snprintf(made->name, sizeof made->name, "%s", about->known ? about->node.name : command.node.name);
    kith_buf_init(&made->bytes);
    kith_codec_meta_command_encode(&command, &made->bytes);
    made->proposal = (kith_meta_log_proposal){
        .bytes = made->bytes.data, .byte_count = made->bytes.bytes, .done = decision_done};
    coordinator->open_count++;
    kith_meta_log_propose(coordinator->options.log, &made->proposal);
}

void coordinator_step(kith_coordinator *coordinator, const kith_member_event *event) {
    kith_member_actions *actions = &coordinator->actions;
    kith_members_step(coordinator->members, event, coordinator_now(coordinator), actions);
    if (coordinator->closed) return;
    for (uint32_t i = 0; i < actions->count; i++)
        decide(coordinator, &actions->actions[i]);
}

/* --- what the metadata say --- */

static void node_sync(kith_coordinator *coordinator, const kith_node *node) {
    coordinator_node *of = node_make(coordinator, &node->id);
    if (!of) return; /* cannot be: strangers leave room for KITH_NODES_MAX */
    of->node = *node;
    of->known = of->seen = true;
    kith_member_event event = {.kind = KITH_MEMBER_KNOWN, .id = node->id, .down = node->down};
    coordinator_step(coordinator, &event);
}

static void node_removed(kith_coordinator *coordinator, coordinator_node *of) {
    of->known = false;
    of->map_version = 0;
    kith_member_event event = {.kind = KITH_MEMBER_REMOVED, .id = of->id};
    coordinator_step(coordinator, &event);
}

void coordinator_nodes_sync(kith_coordinator *coordinator) {
    const kith_meta_state *state = &coordinator->options.fsm->state;
    for (uint32_t i = 0; i < coordinator->node_count; i++)
        coordinator->nodes[i]->seen = false;
    for (uint32_t i = 0; i < state->node_count; i++)
        node_sync(coordinator, &state->nodes[i]);
    for (uint32_t i = 0; i < coordinator->node_count; i++) {
        coordinator_node *of = coordinator->nodes[i];
        if (of->known && !of->seen) node_removed(coordinator, of);
    }
    coordinator->synced_version = state->map_version;
}

void coordinator_tick(kith_coordinator *coordinator) {
    coordinator_step(coordinator, &(kith_member_event){.kind = KITH_MEMBER_TICK});
    for (uint32_t i = coordinator->node_count; i-- > 0;) {
        const coordinator_node *of = coordinator->nodes[i];
        uint64_t silent_ns =
            kith_members_silent_ns(coordinator->members, &of->id, coordinator_now(coordinator));
        if (!of->known && silent_ns == UINT64_MAX) node_forget(coordinator, i);
    }
}

/* --- what nodes say --- */

static bool says_the_same(const kith_node *said, const kith_node *known) {
    return said->role == known->role && said->weight == known->weight &&
           strcmp(said->name, known->name) == 0 && strcmp(said->address, known->address) == 0 &&
           strcmp(said->grpc_address, known->grpc_address) == 0 &&
           strcmp(said->http_address, known->http_address) == 0 && strcmp(said->zone, known->zone) == 0;
}

/* Strangers are kept only by the leader, who registers them. */
static void heartbeat_take(kith_coordinator *coordinator, const kith_codec_heartbeat *said) {
    const kith_node_id *id = &said->node.id;
    /* The log's hooks tell of every change; who missed one would judge by nodes that are no more. */
    kith_assert(coordinator->synced_version == coordinator->options.fsm->state.map_version);
    coordinator_node *from =
        coordinator->leading ? node_make(coordinator, id) : coordinator_node_find(coordinator, id);
    if (!from) return;
    /* Within one life of a process its map never goes back, but messages overtake each other. */
    bool same_life = from->heard && from->heartbeat.started_wall_ms == said->started_wall_ms;
    if (!same_life || said->map_version > from->map_version) from->map_version = said->map_version;
    from->heard = true;
    from->heartbeat = *said;
    snprintf(from->health, sizeof from->health, "%s", said->health);
    from->heartbeat.health = from->health;
    if (said->stalled_count)
        memcpy(from->stalled, said->stalled, said->stalled_count * sizeof *said->stalled);
    from->heartbeat.stalled = from->stalled;
    from->push_due_ns = 0; /* it is there: what failed before may be tried again */
    kith_member_event event = {.kind = KITH_MEMBER_HEARTBEAT, .id = *id};
    event.started_wall_ms = said->started_wall_ms;
    event.differs = from->known && !says_the_same(&said->node, &from->node);
    event.needed = from->known && from->node.down &&
                   kith_meta_state_waits_for(&coordinator->options.fsm->state, from->node.number);
    coordinator_step(coordinator, &event);
    coordinator_push_all(coordinator);
}

static int address_compare(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void heartbeat_answer(kith_coordinator *coordinator, kith_transport_request *request) {
    kith_meta_log_raft_status_report report;
    const char *addresses[KITH_COORDINATORS_MAX];
    uint32_t count = 0;
    coordinator->options.raft.status(coordinator->options.log, &report);
    for (uint32_t i = 0; i < report.member_count && count < KITH_COORDINATORS_MAX; i++) {
        if (report.members[i].voter) addresses[count++] = report.members[i].member.address;
    }
    qsort(addresses, count, sizeof *addresses, address_compare);
    kith_codec_heartbeat_reply reply = {
        .leader = coordinator->leading,
        .term = coordinator->term,
        .leader_id = coordinator->leader.id,
        .leader_address = coordinator->leader.address,
        .map_version = coordinator->options.fsm->state.map_version,
        .coordinator_addresses = addresses,
        .coordinator_count = count,
    };
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_heartbeat_reply_encode(&reply, &bytes);
    kith_transport_reply(request, coordinator->options.transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

/* A node speaks for itself alone. */
static kith_status speaker_check(
    const kith_transport_request *request, const kith_codec_heartbeat *said, kith_err *err) {
    if (kith_node_id_is_none(&said->node.id))
        return kith_err_set(err, KITH_INVALID, "a heartbeat without node_id");
    if (kith_node_id_is_none(&request->from) || kith_node_id_equal(&request->from, &said->node.id))
        return KITH_OK;
    char from[KITH_NODE_ID_TEXT_BYTES], about[KITH_NODE_ID_TEXT_BYTES];
    return kith_err_set(err, KITH_DENIED, "a heartbeat of node %s from node %s",
        kith_node_id_text(&said->node.id, about), kith_node_id_text(&request->from, from));
}

void coordinator_heard(void *ctx, kith_transport_request *request) {
    kith_coordinator *coordinator = ctx;
    if (coordinator_refuses(coordinator, request, COORDINATOR_STARTED)) return;
    kith_arena arena;
    kith_err err;
    kith_codec_heartbeat said;
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_heartbeat_decode(request->bytes, request->byte_count, &arena, &said, &err);
    if (status == KITH_OK) status = speaker_check(request, &said, &err);
    if (status == KITH_OK) {
        heartbeat_take(coordinator, &said);
        heartbeat_answer(coordinator, request);
    } else {
        coordinator_fail(coordinator, request, status, &err);
    }
    kith_arena_fini(&arena);
}
