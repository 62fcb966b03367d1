/* Questions about the cluster, and changes of who coordinates it. */
#include <stdio.h>

#include "host/base/alloc.h"
#include "host/cluster/coordinator_internal.h"

/* --- status --- */

static const kith_codec_coordinator_member *members_of(
    const kith_meta_log_raft_status_report *report, kith_arena *arena, uint32_t *count_out) {
    kith_codec_coordinator_member *members =
        kith_arena_alloc_zero(arena, report->member_count * sizeof *members);
    uint32_t count = 0;
    for (uint32_t i = 0; i < report->member_count && count < KITH_COORDINATORS_MAX; i++) {
        const kith_meta_member *member = &report->members[i].member;
        bool leads = report->leader_known && kith_node_id_equal(&report->leader.id, &member->id);
        members[count++] = (kith_codec_coordinator_member){
            .id = member->id, .address = member->address, .voter = report->members[i].voter, .leader = leads};
    }
    *count_out = count;
    return members;
}

static void node_describe(
    const kith_coordinator *coordinator, const coordinator_node *of, kith_codec_coordinator_node *out) {
    uint64_t silent_ns = kith_members_silent_ns(coordinator->members, &of->id, coordinator_now(coordinator));
    *out = (kith_codec_coordinator_node){.heartbeat = of->heartbeat};
    if (!of->heard) out->heartbeat.health = "";
    out->heartbeat.node = of->node; /* as registered: what it says now may not be yet */
    out->heartbeat.map_version = of->map_version;
    out->silent_ms = silent_ns == UINT64_MAX ? 0 : silent_ns / COORDINATOR_MS_NS;
}

static const kith_codec_coordinator_node *nodes_of(
    const kith_coordinator *coordinator, kith_arena *arena, uint32_t *count_out) {
    const kith_meta_state *state = &coordinator->options.fsm->state;
    uint32_t count = 0;
    kith_codec_coordinator_node *nodes = kith_arena_array(arena, state->node_count, sizeof *nodes);
    for (uint32_t i = 0; coordinator->leading && i < state->node_count; i++) { /* in their order there */
        const coordinator_node *of = coordinator_node_find(coordinator, &state->nodes[i].id);
        if (of) node_describe(coordinator, of, &nodes[count++]);
    }
    *count_out = count;
    return nodes;
}

static void status_answer(kith_coordinator *coordinator, kith_transport_request *request) {
    kith_meta_log_raft_status_report report;
    kith_arena arena;
    kith_buf bytes;
    kith_arena_init(&arena);
    kith_buf_init(&bytes);
    coordinator->options.raft.status(coordinator->options.log, &report);
    kith_codec_coordinator_reply reply = {
        .self_id = coordinator->options.self.id,
        .fresh = coordinator->options.raft.is_new(coordinator->options.log),
        .term = report.term,
        .map_version = coordinator->options.fsm->state.map_version,
        .applied_index = report.applied_index,
        .leader_id = coordinator->leader.id,
        .leader_address = coordinator->leader.address,
    };
    if (coordinator->leading) reply.copying = coordinator_copying(coordinator);
    reply.members = members_of(&report, &arena, &reply.member_count);
    reply.nodes = nodes_of(coordinator, &arena, &reply.node_count);
    kith_codec_coordinator_reply_encode(&reply, &bytes);
    kith_transport_reply(request, coordinator->options.transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
    kith_arena_fini(&arena);
}

/* --- changes --- */

typedef struct change {
    kith_coordinator *coordinator;
    kith_transport_request *request;
} change;

static void change_done(void *ctx, kith_status status, const kith_err *err) {
    change *own = ctx;
    kith_coordinator *coordinator = own->coordinator;
    if (status == KITH_OK) {
        status_answer(coordinator, own->request);
    } else {
        coordinator_fail(coordinator, own->request, status, err);
    }
    kith_free(own);
    coordinator_ended(coordinator);
}

static void change_start(kith_coordinator *coordinator, kith_transport_request *request,
    const kith_codec_coordinator_request *asked) {
    const kith_coordinator_raft *raft = &coordinator->options.raft;
    kith_meta_log *log = coordinator->options.log;
    change *own = kith_alloc_zero(sizeof *own);
    own->coordinator = coordinator;
    own->request = request;
    coordinator->open_count++;
    if (asked->kind == KITH_CODEC_COORDINATOR_JOIN) {
        kith_meta_member member = {.id = asked->node_id};
        snprintf(member.address, sizeof member.address, "%s", asked->address);
        raft->join(log, &member, change_done, own);
    } else if (asked->kind == KITH_CODEC_COORDINATOR_LEAVE) {
        raft->leave(log, &asked->node_id, change_done, own);
    } else {
        bool anyone = kith_node_id_is_none(&asked->node_id);
        raft->transfer(log, anyone ? NULL : &asked->node_id, change_done, own);
    }
}

void coordinator_asked(void *ctx, kith_transport_request *request) {
    kith_coordinator *coordinator = ctx;
    kith_arena arena;
    kith_err err;
    kith_codec_coordinator_request asked;
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_coordinator_request_decode(request->bytes, request->byte_count, &arena, &asked, &err);
    if (status != KITH_OK) {
        coordinator_fail(coordinator, request, status, &err);
    } else if (asked.kind == KITH_CODEC_COORDINATOR_STATUS) {
        if (!coordinator_refuses(coordinator, request, COORDINATOR_OPEN)) status_answer(coordinator, request);
    } else if (!coordinator_refuses(coordinator, request, COORDINATOR_LEADING)) {
        change_start(coordinator, request, &asked);
    }
    kith_arena_fini(&arena);
}
