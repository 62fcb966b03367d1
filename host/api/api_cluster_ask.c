/* Asking the coordinators. Who leads is known from heartbeats and may have changed: a coordinator that does not lead says
 * who does, and one that does not answer is followed by the next. A question about the state of things is put once to each;
 * for a change it is asked again until somebody leads, which after a failure takes less than a second. Every change may be
 * repeated: a member that joins again, or leaves again, is answered OK. */
#include <stdio.h>
#include <string.h>

#include "host/api/api_cluster_internal.h"

#define MS_NS           UINT64_C(1000000)
#define STATUS_NS       (1000 * MS_NS) /* one answer; above a busy coordinator's, below what a person waits */
#define PROBE_NS        (3000 * MS_NS) /* of a coordinator that may never have been called before */
#define LEADER_NS_MAX   (5000 * MS_NS) /* several elections */
#define RETRY_NS        (100 * MS_NS)
#define HINTS_PER_ROUND 4u /* two coordinators that name each other must not be followed for ever */

static void attempt(cluster_ask *ask);
static void round_begin(cluster_ask *ask);

static uint64_t now_of(const cluster_ask *ask) {
    return kith_env_now_ns(ask->run->api->options.env);
}

static bool is_change(const cluster_ask *ask) {
    return ask->request.kind != KITH_CODEC_COORDINATOR_STATUS;
}

/* --- whom to ask --- */

static void candidate_add(cluster_ask *ask, const char *address) {
    if (!address[0] || ask->candidate_count == CLUSTER_CANDIDATES_MAX) return;
    for (uint32_t i = 0; i < ask->candidate_count; i++) {
        if (strcmp(ask->candidates[i], address) == 0) return;
    }
    snprintf(ask->candidates[ask->candidate_count++], sizeof ask->candidates[0], "%s", address);
}

/* Coordinators may have come since this node was configured. */
static void candidates_collect(cluster_ask *ask) {
    const kith_meta_map *map = ask->run->map;
    ask->candidate_count = ask->candidate_next = 0;
    ask->hints = 0;
    candidate_add(ask, ask->coordinators.leader);
    for (uint32_t i = 0; i < ask->coordinators.count; i++)
        candidate_add(ask, ask->coordinators.addresses[i]);
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].role == KITH_NODE_COORDINATOR) candidate_add(ask, map->nodes[i].address);
    }
}

/* --- the end of an attempt --- */

static void fail(cluster_ask *ask) {
    char last[KITH_ERR_BYTES_MAX];
    kith_err err;
    snprintf(last, sizeof last, "%.300s", ask->err.text);
    kith_status status = kith_err_set(&err, KITH_UNAVAILABLE,
        ask->other ? "the coordinators have no leader: a majority of them is needed (last: %s)"
                   : "no coordinator answers (last: %s)",
        last);
    ask->done(ask, status, ask->other, &err);
}

static void round_again(kith_task *task) {
    round_begin((cluster_ask *)(void *)((char *)task - offsetof(cluster_ask, timer.task)));
}

/* The next candidate, another round, or the end. */
static void go_on(cluster_ask *ask) {
    uint64_t now_ns = now_of(ask);
    bool in_time = now_ns < ask->until_ns && !atomic_load(&ask->api_call->cancelled);
    if (in_time && ask->candidate_next < ask->candidate_count) {
        attempt(ask);
    } else if (in_time && ask->waits && now_ns + RETRY_NS < ask->until_ns) {
        ask->timer = (kith_timer){.task = {.run = round_again},
            .executor = ask->run->api->options.executor,
            .due_ns = now_ns + RETRY_NS};
        kith_timer_start(&ask->timer);
    } else {
        fail(ask);
    }
}

/* Who leads, as the one just asked says. */
static void hint_follow(cluster_ask *ask, const char *address) {
    bool follow = address[0] && ask->hints < HINTS_PER_ROUND && strcmp(address, ask->asked) != 0 &&
                  strlen(address) <= KITH_NODE_ADDRESS_BYTES_MAX;
    if (follow) {
        ask->hints++;
        /* Those before `next` have been asked: one of their places is free. */
        snprintf(ask->candidates[--ask->candidate_next], sizeof ask->candidates[0], "%s", address);
    }
    go_on(ask);
}

static void reply_take(cluster_ask *ask) {
    kith_codec_coordinator_reply *reply = kith_arena_alloc(ask->api_call->arena, sizeof *reply);
    kith_status status = kith_codec_coordinator_reply_decode(
        ask->reply, ask->reply_bytes, ask->api_call->arena, reply, &ask->err);
    bool is_leader = status == KITH_OK && kith_node_id_equal(&reply->leader_id, &reply->self_id);
    if (status != KITH_OK) {
        ask->done(ask, status, NULL, &ask->err);
    } else if (ask->address || is_change(ask) || is_leader) {
        ask->done(ask, KITH_OK, reply, NULL);
    } else {
        ask->other = reply;
        (void)kith_err_set(&ask->err, KITH_UNAVAILABLE, "the coordinator at %s follows %s", ask->asked,
            reply->leader_address[0] ? reply->leader_address : "nobody");
        hint_follow(ask, reply->leader_address);
    }
}

static void replied(kith_task *task) {
    cluster_ask *ask = (cluster_ask *)(void *)((char *)task - offsetof(cluster_ask, task));
    if (ask->status == KITH_OK) {
        reply_take(ask);
        return;
    }
    if (ask->address) {
        ask->done(ask, ask->status, NULL, &ask->err);
        return;
    }
    switch (ask->status) {
    case KITH_NOT_LEADER: { /* the message says who leads */
        char leader[KITH_NODE_ADDRESS_BYTES_MAX + 1];
        snprintf(leader, sizeof leader, "%.*s", (int)sizeof leader - 1, ask->err.text);
        (void)kith_err_set(&ask->err, KITH_NOT_LEADER, "the coordinator at %s does not lead", ask->asked);
        hint_follow(ask, leader);
        return;
    }
    case KITH_BUSY:
    case KITH_DEADLINE:
    case KITH_UNAVAILABLE:
    case KITH_UNKNOWN_OUTCOME:
    case KITH_CLOSED:
    case KITH_UNAUTHENTICATED:
    case KITH_UNIMPLEMENTED:
        go_on(ask);
        return;
    default:
        ask->done(ask, ask->status, NULL, &ask->err);
    }
}

/* Any thread; nothing else of the request runs meanwhile. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    cluster_ask *ask = (cluster_ask *)call;
    ask->status = status;
    if (status == KITH_OK) {
        ask->reply = kith_arena_copy(ask->api_call->arena, reply, reply_bytes);
        ask->reply_bytes = reply_bytes;
    } else {
        ask->err = *err;
    }
    ask->task = (kith_task){.run = replied};
    kith_executor_post(ask->run->api->options.executor, &ask->task);
}

/* --- one attempt --- */

static void attempt(cluster_ask *ask) {
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_coordinator_request_encode(&ask->request, &bytes);
    const void *request = kith_arena_copy(ask->api_call->arena, bytes.data, bytes.bytes);
    uint64_t latest_ns = is_change(ask) ? UINT64_MAX : now_of(ask) + (ask->address ? PROBE_NS : STATUS_NS);
    uint64_t deadline_ns = ask->api_call->deadline_ns;
    const char *to = ask->address ? ask->address : ask->candidates[ask->candidate_next++];
    snprintf(ask->asked, sizeof ask->asked, "%s", to);
    ask->call = (kith_transport_call){
        .address = ask->asked,
        .kind = KITH_AM_COORDINATOR,
        .bytes = request,
        .byte_count = bytes.bytes,
        .deadline_ns = deadline_ns < latest_ns ? deadline_ns : latest_ns,
        .cancel_watch = &ask->api_call->cancelled,
        .done = call_done,
    };
    kith_buf_fini(&bytes);
    kith_transport_start(ask->run->api->options.transport, &ask->call);
}

/* On meta's executor. */
static void coordinators_known(kith_meta_coordinators *coordinators) {
    cluster_ask *ask = (cluster_ask *)(void *)((char *)coordinators - offsetof(cluster_ask, coordinators));
    candidates_collect(ask);
    (void)kith_err_set(&ask->err, KITH_UNAVAILABLE, "none is known");
    go_on(ask);
}

static void round_begin(cluster_ask *ask) {
    ask->coordinators.done = coordinators_known;
    kith_meta_coordinators_get(ask->run->api->options.meta, &ask->coordinators);
}

void cluster_ask_start(cluster_ask *ask) {
    ask->until_ns = now_of(ask) + LEADER_NS_MAX;
    if (ask->until_ns > ask->api_call->deadline_ns) ask->until_ns = ask->api_call->deadline_ns;
    if (ask->address)
        attempt(ask);
    else
        round_begin(ask);
}
