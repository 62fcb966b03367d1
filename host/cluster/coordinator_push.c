/* The map: encoded once a version, pushed to nodes that go by an older one, and given to those who ask. */
#include <stdio.h>

#include "host/base/alloc.h"
#include "host/cluster/coordinator_internal.h"

#define PUSH_PAUSE_MS_MIN 100u
#define PUSH_PAUSE_MS_MAX 5000u

/* --- the encoded map --- */

static void map_release(coordinator_map *map) {
    if (--map->references > 0) return;
    kith_buf_fini(&map->bytes);
    kith_free(map);
}

void coordinator_map_forget(kith_coordinator *coordinator) {
    if (coordinator->map) map_release(coordinator->map);
    coordinator->map = NULL;
}

/* The newest, borrowed. */
static coordinator_map *map_newest(kith_coordinator *coordinator) {
    const kith_meta_fsm *fsm = coordinator->options.fsm;
    if (coordinator->map && coordinator->map->version == fsm->state.map_version) return coordinator->map;
    coordinator_map_forget(coordinator);
    coordinator_map *map = kith_alloc_zero(sizeof *map);
    map->references = 1;
    map->version = fsm->state.map_version;
    kith_buf_init(&map->bytes);
    kith_meta_fsm_map(fsm, &map->bytes);
    coordinator->map = map;
    return map;
}

/* --- pushes --- */

static void pause_lengthen(coordinator_node *to, uint64_t now_ns) {
    uint64_t pause_ns = to->push_pause_ns ? 2 * to->push_pause_ns : PUSH_PAUSE_MS_MIN * COORDINATOR_MS_NS;
    uint64_t pause_ns_max = PUSH_PAUSE_MS_MAX * COORDINATOR_MS_NS;
    to->push_pause_ns = pause_ns < pause_ns_max ? pause_ns : pause_ns_max;
    to->push_due_ns = now_ns + to->push_pause_ns;
}

/* A process that has come since knows nothing of what was given to the one before. */
static void receipt_take(const coordinator_push *push, coordinator_node *to) {
    to->push_pause_ns = 0;
    bool same_life = push->started_wall_ms == to->heartbeat.started_wall_ms;
    if (same_life && push->receipt_version > to->map_version) to->map_version = push->receipt_version;
}

static void push_ended(kith_task *task) {
    coordinator_push *push = (coordinator_push *)(void *)((char *)task - offsetof(coordinator_push, task));
    kith_coordinator *coordinator = push->coordinator;
    coordinator_node *to = coordinator_node_find(coordinator, &push->id);
    if (to) {
        to->pushing = false;
        if (push->taken) {
            receipt_take(push, to);
        } else {
            pause_lengthen(to, coordinator_now(coordinator));
        }
    }
    map_release(push->map);
    push->map = NULL;
    coordinator_push_all(coordinator);
    coordinator_ended(coordinator);
}

/* Any thread. */
static void push_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    (void)err; /* the node's next heartbeat shows what it goes by */
    coordinator_push *push = (coordinator_push *)(void *)((char *)call - offsetof(coordinator_push, call));
    kith_err decode_err;
    if (status == KITH_OK)
        status = kith_codec_map_version_decode(reply, reply_bytes, &push->receipt_version, &decode_err);
    push->taken = status == KITH_OK && push->receipt_version >= push->map->version;
    push->task = (kith_task){.run = push_ended};
    kith_executor_post(push->coordinator->options.executor, &push->task);
}

static void push_start(kith_coordinator *coordinator, coordinator_push *push, coordinator_node *to) {
    push->coordinator = coordinator;
    push->id = to->id;
    push->map = map_newest(coordinator);
    push->map->references++;
    push->taken = false;
    push->started_wall_ms = to->heartbeat.started_wall_ms;
    snprintf(push->address, sizeof push->address, "%s", to->node.address);
    to->pushing = true;
    coordinator->open_count++;
    push->call = (kith_transport_call){
        .node = to->id,
        .address = push->address,
        .kind = KITH_AM_MAP_PUSH,
        .bytes = push->map->bytes.data,
        .byte_count = push->map->bytes.bytes,
        .deadline_ns =
            coordinator_now(coordinator) + coordinator->options.heartbeat_timeout_ms * COORDINATOR_MS_NS,
        .done = push_done,
    };
    kith_transport_start(coordinator->options.transport, &push->call);
}

/* Coordinators have the metadata themselves; a node that is down asks when it is back; what one goes by that was not heard
 * yet, its next heartbeat says. */
static bool wants_push(const kith_coordinator *coordinator, const coordinator_node *to, uint64_t now_ns) {
    bool takes = to->known && to->heard && !to->node.down && to->node.role != KITH_NODE_COORDINATOR;
    bool old = to->map_version < coordinator->options.fsm->state.map_version;
    return takes && old && !to->pushing && now_ns >= to->push_due_ns;
}

static coordinator_push *push_free(kith_coordinator *coordinator) {
    for (uint32_t i = 0; i < COORDINATOR_PUSHES_MAX; i++) {
        if (!coordinator->pushes[i].map) return &coordinator->pushes[i];
    }
    return NULL;
}

void coordinator_push_all(kith_coordinator *coordinator) {
    if (!coordinator->started || !coordinator->leading || coordinator->closed) return;
    uint64_t now_ns = coordinator_now(coordinator);
    coordinator_push *push = push_free(coordinator);
    for (uint32_t i = 0; i < coordinator->node_count && push; i++) {
        uint32_t index = (coordinator->push_next + i) % coordinator->node_count;
        if (!wants_push(coordinator, coordinator->nodes[index], now_ns)) continue;
        push_start(coordinator, push, coordinator->nodes[index]);
        push = push_free(coordinator);
        if (!push) coordinator->push_next = index + 1; /* the others come first next time */
    }
}

void coordinator_push_cancel(kith_coordinator *coordinator) {
    for (uint32_t i = 0; i < COORDINATOR_PUSHES_MAX; i++) {
        coordinator_push *push = &coordinator->pushes[i];
        if (push->map) kith_transport_cancel(coordinator->options.transport, &push->call);
    }
}

/* --- pulls --- */

/* One that waits to join, has left, or whose log has ended, knows no map that counts as the newest. */
static kith_status member_check(const kith_coordinator *coordinator, kith_err *err) {
    kith_meta_log_raft_status_report report;
    coordinator->options.raft.status(coordinator->options.log, &report);
    if (report.member_count > 0) return KITH_OK;
    return kith_err_set(err, KITH_UNAVAILABLE, "this coordinator is not a member of its cluster");
}

void coordinator_pulled(void *ctx, kith_transport_request *request) {
    kith_coordinator *coordinator = ctx;
    if (coordinator_refuses(coordinator, request, COORDINATOR_STARTED)) return;
    kith_transport *transport = coordinator->options.transport;
    uint64_t version;
    kith_err err;
    kith_status status = kith_codec_map_version_decode(request->bytes, request->byte_count, &version, &err);
    bool is_newest = status == KITH_OK && version >= coordinator->options.fsm->state.map_version;
    if (is_newest) status = member_check(coordinator, &err);
    if (status != KITH_OK) {
        coordinator_fail(coordinator, request, status, &err);
    } else if (is_newest) {
        kith_transport_reply(request, transport, KITH_OK, NULL, 0, NULL);
    } else {
        const coordinator_map *map = map_newest(coordinator);
        kith_transport_reply(request, transport, KITH_OK, map->bytes.data, map->bytes.bytes, NULL);
    }
}
