#include "host/cluster/heartbeat.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define MS_NS 1000000ULL
/* Configured, kept, listed, and leaving with a call under way. */
#define TARGETS_MAX (4 * KITH_COORDINATORS_MAX)

typedef struct target {
    kith_transport_call call;
    kith_task task; /* the reply, on the executor */
    kith_heartbeat *heartbeat;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "": a free place */
    bool configured, listed;
    bool kept; /* from a map of before, until someone who knows a leader has listed them */
    bool open; /* a call is under way, or its reply queued */
    uint64_t map_version_sent;
    kith_buf request, reply;
    kith_status status;
} target;

struct kith_heartbeat {
    kith_heartbeat_options options;
    target targets[TARGETS_MAX];
    uint32_t open_count;
    kith_timer timer;
    bool timer_waits;
    kith_task start_task, stop_task;
    bool closed;   /* stop was asked for */
    bool stopping; /* and `stop_done` is still to be called */
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    /* What replies said. */
    uint64_t term; /* of the leader */
    kith_node_id leader_id;
    char leader_address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "": nobody */
    uint64_t list_term;
    bool list_of_leader;
    _Atomic uint64_t heard_ns; /* relaxed: a moment, nothing else */
};

/* --- whom to tell --- */

static target *target_find(kith_heartbeat *heartbeat, const char *address) {
    for (uint32_t i = 0; i < TARGETS_MAX; i++) {
        if (strcmp(heartbeat->targets[i].address, address) == 0) return &heartbeat->targets[i];
    }
    return NULL;
}

/* NULL when there is no room: a coordinator that left still has its call under way; the next reply lists it again. */
static target *target_make(kith_heartbeat *heartbeat, const char *address) {
    if (address[0] == 0 || strlen(address) > KITH_NODE_ADDRESS_BYTES_MAX) return NULL;
    target *found = target_find(heartbeat, address);
    if (found) return found;
    target *made = target_find(heartbeat, "");
    if (!made) return NULL;
    snprintf(made->address, sizeof made->address, "%s", address);
    made->heartbeat = heartbeat;
    return made;
}

static bool target_is_told(const target *of) {
    return of->address[0] != 0 && (of->configured || of->listed || of->kept);
}

static void target_free_unless_needed(target *of) {
    if (of->address[0] == 0 || target_is_told(of) || of->open) return;
    kith_buf_fini(&of->request);
    kith_buf_fini(&of->reply);
    *of = (target){.address = ""};
}

static void targets_list(
    kith_heartbeat *heartbeat, const kith_codec_heartbeat_reply *reply, bool knows_leader) {
    for (uint32_t i = 0; i < TARGETS_MAX; i++) {
        heartbeat->targets[i].listed = false;
        if (knows_leader) heartbeat->targets[i].kept = false;
    }
    for (uint32_t i = 0; i < reply->coordinator_count; i++) {
        target *listed = target_make(heartbeat, reply->coordinator_addresses[i]);
        if (listed) listed->listed = true;
    }
    for (uint32_t i = 0; i < TARGETS_MAX; i++)
        target_free_unless_needed(&heartbeat->targets[i]);
}

/* --- what replies say --- */

/* A coordinator that names no leader may be cut off from the others, with a term that rises and rises: its word counts only
 * until there is a better one. */
static bool names_leader(const kith_codec_heartbeat_reply *reply) {
    return !kith_node_id_is_none(&reply->leader_id) && reply->leader_address[0] != 0;
}

static void list_take(kith_heartbeat *heartbeat, const kith_codec_heartbeat_reply *reply) {
    bool first = heartbeat->list_term == 0;
    bool newer = reply->term > heartbeat->list_term;
    bool as_good = reply->term == heartbeat->list_term && (reply->leader || !heartbeat->list_of_leader);
    if (reply->coordinator_count == 0 || !(first || (names_leader(reply) && (newer || as_good)))) return;
    heartbeat->list_term = names_leader(reply) ? reply->term : 0;
    heartbeat->list_of_leader = reply->leader;
    targets_list(heartbeat, reply, names_leader(reply));
}

/* Who leads in a term never changes. */
static void leader_take(kith_heartbeat *heartbeat, const kith_codec_heartbeat_reply *reply) {
    if (!names_leader(reply) || reply->term <= heartbeat->term) return;
    heartbeat->term = reply->term;
    heartbeat->leader_id = reply->leader_id;
    snprintf(heartbeat->leader_address, sizeof heartbeat->leader_address, "%s", reply->leader_address);
    if (heartbeat->options.leader_seen)
        heartbeat->options.leader_seen(
            heartbeat->options.ctx, &heartbeat->leader_id, heartbeat->leader_address);
}

static void reply_take(target *from) {
    kith_heartbeat *heartbeat = from->heartbeat;
    kith_arena arena;
    kith_err err;
    kith_codec_heartbeat_reply reply;
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_heartbeat_reply_decode(from->reply.data, from->reply.bytes, &arena, &reply, &err);
    if (status == KITH_OK) {
        uint64_t now_ns = kith_env_now_ns(heartbeat->options.env);
        atomic_store_explicit(&heartbeat->heard_ns, now_ns, memory_order_relaxed);
        leader_take(heartbeat, &reply);
        if (reply.map_version > from->map_version_sent && heartbeat->options.map_seen)
            heartbeat->options.map_seen(heartbeat->options.ctx, from->address, reply.map_version);
        list_take(heartbeat, &reply); /* last: `from` may be listed no more */
    }
    kith_arena_fini(&arena);
}

static void finish_if_idle(kith_heartbeat *heartbeat) {
    if (!heartbeat->stopping || heartbeat->timer_waits || heartbeat->open_count > 0) return;
    heartbeat->stopping = false;
    heartbeat->stop_done(heartbeat->stop_ctx);
}

static void replied(kith_task *task) {
    target *from = (target *)(void *)((char *)task - offsetof(target, task));
    kith_heartbeat *heartbeat = from->heartbeat;
    if (from->status == KITH_OK && !heartbeat->stopping) reply_take(from);
    from->open = false;
    heartbeat->open_count--;
    target_free_unless_needed(from);
    finish_if_idle(heartbeat);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    (void)err; /* silence shows in silent_ns */
    target *to = (target *)(void *)((char *)call - offsetof(target, call));
    to->status = status;
    kith_buf_clear(&to->reply);
    if (status == KITH_OK) kith_buf_append(&to->reply, reply, reply_bytes);
    to->task = (kith_task){.run = replied};
    kith_executor_post(to->heartbeat->options.executor, &to->task);
}

/* --- the beat --- */

static void target_tell(target *to, const kith_buf *bytes, uint64_t map_version, uint64_t deadline_ns) {
    kith_heartbeat *heartbeat = to->heartbeat;
    kith_buf_clear(&to->request);
    kith_buf_append(&to->request, bytes->data, bytes->bytes);
    to->map_version_sent = map_version;
    to->open = true;
    heartbeat->open_count++;
    to->call = (kith_transport_call){
        .address = to->address,
        .kind = KITH_AM_HEARTBEAT,
        .bytes = to->request.data,
        .byte_count = to->request.bytes,
        .deadline_ns = deadline_ns,
        .done = call_done,
    };
    kith_transport_start(heartbeat->options.transport, &to->call);
}

static void beat(kith_heartbeat *heartbeat) {
    kith_codec_heartbeat said = {.health = "ok"};
    heartbeat->options.fill(heartbeat->options.ctx, &said);
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_heartbeat_encode(&said, &bytes);
    uint64_t deadline_ns =
        kith_env_now_ns(heartbeat->options.env) + heartbeat->options.timeout_ms * MS_NS / 4;
    for (uint32_t i = 0; i < TARGETS_MAX; i++) {
        target *to = &heartbeat->targets[i];
        if (target_is_told(to) && !to->open) target_tell(to, &bytes, said.map_version, deadline_ns);
    }
    kith_buf_fini(&bytes);
}

static void timer_set(kith_heartbeat *heartbeat);

static void timer_run(kith_task *task) {
    kith_heartbeat *heartbeat =
        (kith_heartbeat *)(void *)((char *)task - offsetof(kith_heartbeat, timer.task));
    heartbeat->timer_waits = false;
    if (heartbeat->stopping) {
        finish_if_idle(heartbeat);
        return;
    }
    beat(heartbeat);
    timer_set(heartbeat);
}

static void timer_set(kith_heartbeat *heartbeat) {
    heartbeat->timer = (kith_timer){.task = {.run = timer_run},
        .executor = heartbeat->options.executor,
        .due_ns = kith_env_now_ns(heartbeat->options.env) + heartbeat->options.interval_ms * MS_NS};
    heartbeat->timer_waits = true;
    kith_timer_start(&heartbeat->timer);
}

/* --- life --- */

kith_heartbeat *kith_heartbeat_create(const kith_heartbeat_options *options) {
    kith_assert(options->coordinator_count >= 1);
    kith_assert(options->coordinator_count <= KITH_COORDINATORS_MAX);
    kith_heartbeat *heartbeat = kith_alloc_zero(sizeof *heartbeat);
    heartbeat->options = *options;
    heartbeat->options.coordinators = NULL;
    atomic_store_explicit(&heartbeat->heard_ns, kith_env_now_ns(options->env), memory_order_relaxed);
    for (uint32_t i = 0; i < options->coordinator_count; i++) {
        target *made = target_make(heartbeat, options->coordinators[i]);
        if (made) made->configured = true;
    }
    return heartbeat;
}

void kith_heartbeat_keep(kith_heartbeat *heartbeat, const char *address) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < TARGETS_MAX; i++)
        count += heartbeat->targets[i].kept;
    target *made = count < KITH_COORDINATORS_MAX ? target_make(heartbeat, address) : NULL;
    if (made) made->kept = true;
}

static void start_run(kith_task *task) {
    kith_heartbeat *heartbeat =
        (kith_heartbeat *)(void *)((char *)task - offsetof(kith_heartbeat, start_task));
    if (heartbeat->closed) return;
    beat(heartbeat);
    timer_set(heartbeat);
}

void kith_heartbeat_start(kith_heartbeat *heartbeat) {
    heartbeat->start_task = (kith_task){.run = start_run};
    kith_executor_post(heartbeat->options.executor, &heartbeat->start_task);
}

static void stop_run(kith_task *task) {
    kith_heartbeat *heartbeat =
        (kith_heartbeat *)(void *)((char *)task - offsetof(kith_heartbeat, stop_task));
    heartbeat->closed = heartbeat->stopping = true;
    if (heartbeat->timer_waits && kith_timer_cancel(&heartbeat->timer)) heartbeat->timer_waits = false;
    for (uint32_t i = 0; i < TARGETS_MAX; i++) {
        target *to = &heartbeat->targets[i];
        if (to->open) kith_transport_cancel(heartbeat->options.transport, &to->call);
    }
    finish_if_idle(heartbeat);
}

void kith_heartbeat_stop(kith_heartbeat *heartbeat, void (*done)(void *ctx), void *ctx) {
    heartbeat->stop_done = done;
    heartbeat->stop_ctx = ctx;
    heartbeat->stop_task = (kith_task){.run = stop_run};
    kith_executor_post(heartbeat->options.executor, &heartbeat->stop_task);
}

void kith_heartbeat_destroy(kith_heartbeat *heartbeat) {
    if (!heartbeat) return;
    kith_assert(heartbeat->open_count == 0);
    for (uint32_t i = 0; i < TARGETS_MAX; i++) {
        kith_buf_fini(&heartbeat->targets[i].request);
        kith_buf_fini(&heartbeat->targets[i].reply);
    }
    kith_free(heartbeat);
}

bool kith_heartbeat_leader(const kith_heartbeat *heartbeat, kith_node_id *id_out, const char **address_out) {
    if (heartbeat->leader_address[0] == 0) return false;
    *id_out = heartbeat->leader_id;
    *address_out = heartbeat->leader_address;
    return true;
}

uint64_t kith_heartbeat_silent_ns(const kith_heartbeat *heartbeat) {
    uint64_t now_ns = kith_env_now_ns(heartbeat->options.env);
    uint64_t heard_ns = atomic_load_explicit(&heartbeat->heard_ns, memory_order_relaxed);
    return now_ns > heard_ns ? now_ns - heard_ns : 0;
}
