#include "host/meta/meta_client.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/codec/codec_cluster.h"
#include "host/meta/meta_client_internal.h"

#define PULL_TIMEOUT_NS UINT64_C(2000000000)
/* Between two pulls for those who wait for a version that no coordinator asked so far had: a round trip or two; a guess. */
#define PULL_PAUSE_NS UINT64_C(50000000)
/* Waits without a deadline of their own. */
#define WAIT_NS UINT64_C(30000000000)

void client_address_set(char to[KITH_NODE_ADDRESS_BYTES_MAX + 1], const char *address) {
    size_t bytes = address ? strlen(address) : 0;
    if (bytes > KITH_NODE_ADDRESS_BYTES_MAX) bytes = 0;
    if (bytes) memcpy(to, address, bytes);
    to[bytes] = 0;
}

const char *client_coordinator(const kith_meta_client *client) {
    return client->leader[0] ? client->leader : client->coordinators[client->coordinator_next];
}

void client_coordinator_failed(kith_meta_client *client, const char *address) {
    if (strcmp(client->leader, address) == 0) client->leader[0] = 0;
    if (strcmp(client->coordinators[client->coordinator_next], address) == 0)
        client->coordinator_next = (client->coordinator_next + 1) % client->coordinator_count;
}

/* --- the end --- */

static void stopped_run(kith_task *task) {
    kith_meta_client *client =
        (kith_meta_client *)(void *)((char *)task - offsetof(kith_meta_client, stop_task));
    client->stop_done(client->stop_ctx);
}

/* Once stopped, nothing begins that outlasts its task: what is idle stays idle. */
void client_idle_look(kith_meta_client *client) {
    bool idle = !client->pull.is_open && !client->pull_timer_waits && !client->waits && !client->proposals;
    if (!idle || !client->stopping) return;
    client->stopping = false;
    client->stop_task = (kith_task){.run = stopped_run};
    kith_executor_post(client->options.executor, &client->stop_task);
}

/* --- waiting for a map --- */

static bool wait_is_over(const kith_meta_client *client, const kith_meta_wait *wait) {
    if (wait->map_version == KITH_META_NEWEST) return client->pull_answered >= wait->pull;
    return client->state.map_version >= wait->map_version;
}

/* For the newest: all coordinators have been asked in vain. */
static bool wait_is_vain(const kith_meta_client *client, const kith_meta_wait *wait) {
    return wait->map_version == KITH_META_NEWEST &&
           client->pulls_ended >= wait->pull + client->coordinator_count - 1;
}

static kith_status wait_failure(const kith_meta_client *client, const kith_meta_wait *wait, kith_err *err) {
    unsigned long long version = client->state.map_version;
    if (client->stopped) return kith_err_set(err, KITH_CLOSED, "this node is shutting down");
    if (wait_is_vain(client, wait))
        return kith_err_set(
            err, KITH_UNAVAILABLE, "no coordinator answered: this node has map version %llu", version);
    return kith_err_set(
        err, KITH_DEADLINE, "this node has map version %llu and did not get a newer one in time", version);
}

static void wait_end(kith_meta_wait *wait) {
    kith_meta_client *client = (kith_meta_client *)wait->meta;
    kith_meta_wait **link = &client->waits;
    while (*link != wait)
        link = &(*link)->next;
    *link = wait->next;
    client_idle_look(client);
    if (wait_is_over(client, wait)) {
        wait->done(wait, KITH_OK, NULL);
        return;
    }
    kith_err err;
    kith_status status = wait_failure(client, wait, &err);
    wait->done(wait, status, &err);
}

/* What ends is taken off its timer first; a timer that fires meanwhile finds
 * its wait ended, and so does not end it. */
static void waits_look(kith_meta_client *client) {
    for (kith_meta_wait *wait = client->waits, *next; wait; wait = next) {
        next = wait->next;
        bool ends = client->stopped || wait_is_over(client, wait) || wait_is_vain(client, wait);
        if (ends && kith_timer_cancel(&wait->timer)) wait_end(wait);
    }
}

static void wait_expired(kith_task *task) {
    wait_end((kith_meta_wait *)(void *)((char *)task - offsetof(kith_meta_wait, timer.task)));
}

static void wait_run(kith_task *task) {
    kith_meta_wait *wait = (kith_meta_wait *)(void *)((char *)task - offsetof(kith_meta_wait, task));
    kith_meta_client *client = (kith_meta_client *)wait->meta;
    wait->next = client->waits;
    client->waits = wait;
    wait->pull = client->pulls_started + 1; /* one under way may have asked too early */
    if (client->stopped || wait_is_over(client, wait)) {
        wait_end(wait);
        return;
    }
    if (!wait->deadline_ns) wait->deadline_ns = kith_env_now_ns(client->options.env) + WAIT_NS;
    wait->timer = (kith_timer){
        .task = {.run = wait_expired}, .executor = client->options.executor, .due_ns = wait->deadline_ns};
    kith_timer_start(&wait->timer);
    client_pull_want(client, client_coordinator(client), wait->map_version);
}

static void client_wait(kith_meta *meta, kith_meta_wait *wait) {
    wait->meta = meta;
    wait->task = (kith_task){.run = wait_run};
    kith_executor_post(((kith_meta_client *)meta)->options.executor, &wait->task);
}

/* --- the map --- */

static void map_destroy(void *map) {
    kith_meta_map_release(map);
}

static void map_show(kith_meta_client *client) {
    kith_meta_map *previous = client->base.maps ? kith_hazard_current(client->base.maps) : NULL;
    kith_meta_map *map = kith_meta_map_of(&client->state, NULL, previous);
    if (client->base.maps)
        kith_hazard_publish(client->base.maps, map);
    else
        client->base.maps = kith_hazard_create(map, map_destroy);
    atomic_store_explicit(&client->map_version, client->state.map_version, memory_order_release);
}

static kith_status snapshot_read(
    const void *bytes, size_t byte_count, kith_meta_state *state, kith_err *err) {
    kith_arena arena;
    kith_arena_init(&arena);
    kith_codec_meta_snapshot snapshot;
    kith_status status = kith_codec_meta_snapshot_decode(bytes, byte_count, &arena, &snapshot, err);
    if (status == KITH_OK) status = kith_meta_state_restore(state, &snapshot, err);
    kith_arena_fini(&arena);
    return status;
}

/* Before it is gone by: a shard that was opened by a map which is then lost would be a stranger at the next start. */
static kith_status map_keep(kith_meta_client *client, const void *bytes, size_t byte_count, kith_err *err) {
    if (!client->dir) return KITH_OK;
    kith_status status = kith_meta_snapshot_write(client->options.env, client->dir, bytes, byte_count, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "map %s/snapshot.kith", client->dir);
}

/* Ids of shards begin again in another cluster: its map must not be read as one of this. */
static bool client_is_of(const kith_meta_client *client, const kith_meta_state *state) {
    const kith_node_id *own = &client->state.cluster_id;
    return kith_node_id_is_none(own) || kith_node_id_equal(own, &state->cluster_id);
}

/* `err` NULL: the last one was taken. A lock, because whoever asks for the reason waits for its text, on a thread without
 * messages. */
static void refusal_set(kith_meta_client *client, const char *from, const kith_err *err) {
    kith_mutex_lock(&client->refusal_mutex);
    bool is_new = err && strcmp(client->refusal, err->text) != 0;
    snprintf(client->refusal, sizeof client->refusal, "%s", err ? err->text : "");
    kith_mutex_unlock(&client->refusal_mutex);
    if (is_new) kith_log_error("map_refused", kith_kv_text("from", from), kith_kv_text("reason", err->text));
}

kith_status kith_meta_client_health(kith_meta_client *client, kith_err *err) {
    char refusal[KITH_ERR_BYTES_MAX];
    kith_mutex_lock(&client->refusal_mutex);
    memcpy(refusal, client->refusal, sizeof refusal);
    kith_mutex_unlock(&client->refusal_mutex);
    if (refusal[0]) return kith_err_set(err, KITH_UNAVAILABLE, "the newest map is refused: %s", refusal);
    if (kith_meta_client_map_version(client) > 0) return KITH_OK;
    return kith_err_set(err, KITH_UNAVAILABLE, "no coordinator has sent a cluster map yet");
}

static kith_status map_take(
    kith_meta_client *client, const void *bytes, size_t byte_count, bool from_file, kith_err *err) {
    kith_meta_state state;
    kith_meta_state_init(&state);
    kith_status status = snapshot_read(bytes, byte_count, &state, err);
    if (status == KITH_OK && !client_is_of(client, &state)) {
        status = kith_err_set(err, KITH_PRECONDITION,
            "the map is another cluster's: this node belongs to the cluster it was in before; use an empty "
            "data_dir to move to another");
    }
    bool newer = status == KITH_OK && state.map_version > atomic_load(&client->map_version);
    if (!newer) {
        kith_meta_state_fini(&state);
        return status;
    }
    if (!from_file) status = map_keep(client, bytes, byte_count, err);
    if (status != KITH_OK) {
        kith_meta_state_fini(&state);
        return status;
    }
    kith_meta_state_fini(&client->state);
    client->state = state;
    client_coordinators_learn(client);
    if (client->options.changed) client->options.changed(client->options.ctx, &client->state, from_file);
    map_show(client);
    waits_look(client);
    client_proposals_look(client);
    return KITH_OK;
}

/* One that came from `from`. */
static kith_status map_receive(
    kith_meta_client *client, const char *from, const void *bytes, size_t byte_count, kith_err *err) {
    kith_status status = map_take(client, bytes, byte_count, false, err);
    refusal_set(client, from, status == KITH_OK ? NULL : err);
    return status;
}

/* --- pulls --- */

static void pull_start(kith_meta_client *client);

static bool newest_is_awaited(const kith_meta_client *client) {
    for (const kith_meta_wait *wait = client->waits; wait; wait = wait->next)
        if (wait->map_version == KITH_META_NEWEST) return true;
    return false;
}

static void pull_due(kith_task *task) {
    kith_meta_client *client =
        (kith_meta_client *)(void *)((char *)task - offsetof(kith_meta_client, pull_timer.task));
    client->pull_timer_waits = false;
    client_address_set(client->pull_address, client_coordinator(client));
    if (client->waits || client_proposals_wait(client)) pull_start(client);
    client_idle_look(client);
}

static void pull_pause(kith_meta_client *client) {
    if (client->pull_timer_waits || client->stopped) return;
    client->pull_timer_waits = true;
    client->pull_timer = (kith_timer){.task = {.run = pull_due},
        .executor = client->options.executor,
        .due_ns = kith_env_now_ns(client->options.env) + PULL_PAUSE_NS};
    kith_timer_start(&client->pull_timer);
}

/* Whoever spoke of a newer map without waiting for it speaks again. */
static void pull_again(kith_meta_client *client, const char *asked) {
    bool spoken_of =
        client->pull_wanted > client->state.map_version && strcmp(client->pull_address, asked) != 0;
    if (newest_is_awaited(client)) {
        client_address_set(client->pull_address, client_coordinator(client));
        pull_start(client);
    } else if (spoken_of) {
        pull_start(client);
    } else if (client->waits || client_proposals_wait(client)) {
        pull_pause(client);
    }
}

static void pull_ended(kith_task *task) {
    client_pull *pull = (client_pull *)(void *)((char *)task - offsetof(client_pull, task));
    kith_meta_client *client = (kith_meta_client *)(void *)((char *)pull - offsetof(kith_meta_client, pull));
    kith_err err;
    pull->is_open = false;
    if (pull->status != KITH_OK) {
        client_coordinator_failed(client, pull->address);
    } else if (!client->stopped) {
        bool taken = pull->reply.bytes == 0 ||
                     map_receive(client, pull->address, pull->reply.data, pull->reply.bytes, &err) == KITH_OK;
        if (taken) client->pull_answered = client->pulls_started;
    }
    client->pulls_ended = client->pulls_started; /* not before: the map's taking looks at those who wait */
    kith_buf_fini(&pull->reply);
    kith_buf_fini(&pull->request);
    waits_look(client);
    pull_again(client, pull->address);
    client_idle_look(client);
}

static void pull_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    client_pull *pull = (client_pull *)call;
    kith_meta_client *client = (kith_meta_client *)(void *)((char *)pull - offsetof(kith_meta_client, pull));
    (void)err;
    pull->status = status;
    if (status == KITH_OK) kith_buf_append(&pull->reply, reply, reply_bytes);
    kith_executor_post(client->options.executor, &pull->task);
}

static void pull_start(kith_meta_client *client) {
    client_pull *pull = &client->pull;
    if (pull->is_open || client->stopped) return;
    kith_buf_init(&pull->request);
    kith_buf_init(&pull->reply);
    kith_codec_map_version_encode(client->state.map_version, &pull->request);
    memcpy(pull->address, client->pull_address, sizeof pull->address);
    pull->is_open = true;
    client->pulls_started++;
    pull->task = (kith_task){.run = pull_ended};
    pull->call = (kith_transport_call){
        .address = pull->address,
        .kind = KITH_AM_MAP_PULL,
        .bytes = pull->request.data,
        .byte_count = pull->request.bytes,
        .deadline_ns = kith_env_now_ns(client->options.env) + PULL_TIMEOUT_NS,
        .done = pull_done,
    };
    kith_transport_start(client->options.transport, &pull->call);
}

void client_pull_want(kith_meta_client *client, const char *address, uint64_t map_version) {
    if (map_version <= client->state.map_version) return;
    if (map_version > client->pull_wanted && map_version != KITH_META_NEWEST)
        client->pull_wanted = map_version;
    client_address_set(client->pull_address, address);
    pull_start(client);
}

/* --- pushes --- */

typedef struct client_push {
    kith_task task;
    kith_meta_client *client;
    kith_transport_request *request;
} client_push;

static void push_run(kith_task *task) {
    client_push *push = (client_push *)task;
    kith_meta_client *client = push->client;
    kith_transport_request *request = push->request;
    kith_err err;
    kith_free(push);
    kith_status status = client->stopped
                             ? kith_err_set(&err, KITH_CLOSED, "this node is shutting down")
                             : map_receive(client, "a push", request->bytes, request->byte_count, &err);
    kith_buf receipt;
    kith_buf_init(&receipt);
    kith_codec_map_version_encode(client->state.map_version, &receipt);
    kith_transport_reply(request, client->options.transport, status, receipt.data, receipt.bytes,
        status == KITH_OK ? NULL : &err);
    kith_buf_fini(&receipt);
}

/* On the executor, or for a request from this process on the caller's thread:
 * handed over either way. */
static void push_handle(void *ctx, kith_transport_request *request) {
    kith_meta_client *client = ctx;
    client_push *push = kith_alloc(sizeof *push);
    *push = (client_push){.task = {.run = push_run}, .client = client, .request = request};
    kith_executor_post(client->options.executor, &push->task);
}

/* --- what others tell --- */

typedef struct client_news {
    kith_task task;
    kith_meta_client *client;
    bool is_leader;
    uint64_t map_version;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
} client_news;

static void news_run(kith_task *task) {
    client_news *news = (client_news *)task;
    kith_meta_client *client = news->client;
    if (news->is_leader)
        client_address_set(client->leader, news->address);
    else
        client_pull_want(client, news->address, news->map_version);
    kith_free(news);
}

static void news_post(kith_meta_client *client, const char *address, bool is_leader, uint64_t map_version) {
    client_news *news = kith_alloc(sizeof *news);
    *news = (client_news){
        .task = {.run = news_run}, .client = client, .is_leader = is_leader, .map_version = map_version};
    client_address_set(news->address, address);
    kith_executor_post(client->options.executor, &news->task);
}

void kith_meta_client_leader_seen(kith_meta_client *client, const char *address) {
    news_post(client, address, true, 0);
}

void kith_meta_client_map_seen(kith_meta_client *client, const char *address, uint64_t map_version) {
    if (map_version <= kith_meta_client_map_version(client)) return;
    news_post(client, address, false, map_version);
}

/* --- life --- */

/* Which shards serve is each data node's to say. */
static bool client_serves_all(const kith_meta *meta) {
    (void)meta;
    return true;
}

static const kith_meta_ops client_ops = {.propose = client_propose,
    .wait = client_wait,
    .serves_all = client_serves_all,
    .coordinators = client_coordinators};

kith_meta_client *kith_meta_client_create(const kith_meta_client_options *options) {
    kith_assert(options->coordinator_count >= 1);
    kith_meta_client *client = kith_alloc_zero(sizeof *client);
    client->base.ops = &client_ops;
    client->base.is_remote = true;
    client->options = *options;
    kith_mutex_init(&client->refusal_mutex, KITH_RANK_META);
    client->dir = options->dir ? kith_strdup(options->dir) : NULL;
    uint32_t count = options->coordinator_count;
    client->coordinators = kith_alloc_array(count + KITH_META_COORDINATORS_MAX, sizeof *client->coordinators);
    client->coordinator_count = count;
    for (uint32_t i = 0; i < count; i++)
        client_address_set(client->coordinators[i], options->coordinators[i]);
    kith_meta_state_init(&client->state);
    client->state.map_version = 0; /* any real one is newer */
    map_show(client);
    kith_transport_handle(options->transport, KITH_AM_MAP_PUSH, options->executor, push_handle, client);
    return client;
}

kith_status kith_meta_client_load(kith_meta_client *client, kith_err *err) {
    if (!client->dir) return KITH_OK;
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_status status = kith_dir_make(client->options.env, client->dir, err);
    if (status == KITH_OK) {
        status = kith_meta_snapshot_read(client->options.env, client->dir, &bytes, err);
        if (status == KITH_OK) {
            status = map_take(client, bytes.data, bytes.bytes, true, err);
            if (status != KITH_OK) kith_err_wrap(err, status, "map %s/snapshot.kith", client->dir);
        } else if (status == KITH_NOT_FOUND) {
            status = KITH_OK;
        }
    }
    kith_buf_fini(&bytes);
    return status;
}

kith_meta *kith_meta_client_meta(kith_meta_client *client) {
    return &client->base;
}

const kith_meta_state *kith_meta_client_state(const kith_meta_client *client) {
    return &client->state;
}

uint64_t kith_meta_client_map_version(const kith_meta_client *client) {
    return atomic_load_explicit(&client->map_version, memory_order_acquire);
}

static void stop_run(kith_task *task) {
    kith_meta_client *client =
        (kith_meta_client *)(void *)((char *)task - offsetof(kith_meta_client, stop_task));
    client->stopped = client->stopping = true;
    if (client->pull.is_open) kith_transport_cancel(client->options.transport, &client->pull.call);
    if (client->pull_timer_waits && kith_timer_cancel(&client->pull_timer)) client->pull_timer_waits = false;
    waits_look(client);
    client_proposals_stop(client);
    client_idle_look(client);
}

void kith_meta_client_stop(kith_meta_client *client, void (*done)(void *ctx), void *ctx) {
    client->stop_done = done;
    client->stop_ctx = ctx;
    client->stop_task = (kith_task){.run = stop_run};
    kith_executor_post(client->options.executor, &client->stop_task);
}

void kith_meta_client_destroy(kith_meta_client *client) {
    if (!client) return;
    kith_assert(!client->pull.is_open);
    kith_assert(!client->waits);
    kith_assert(!client->proposals);
    kith_mutex_fini(&client->refusal_mutex);
    kith_hazard_destroy(client->base.maps);
    kith_meta_state_fini(&client->state);
    kith_free(client->coordinators);
    kith_free(client->dir);
    kith_free(client);
}
