#include "host/meta/meta_client.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/codec/codec_cluster.h"
#include "host/meta/meta_client_internal.h"

#define PULL_TIMEOUT_NS UINT64_C(2000000000)

void client_address_set(char to[KITH_NODE_ADDRESS_BYTES_MAX + 1], const char *address) {
    size_t bytes = address ? strlen(address) : 0;
    if (bytes > KITH_NODE_ADDRESS_BYTES_MAX) bytes = 0;
    if (bytes) memcpy(to, address, bytes);
    to[bytes] = 0;
}

const char *client_coordinator(const kith_meta_client *client) {
    return client->leader[0] ? client->leader : client->coordinators[client->coordinator_next];
}

/* --- waiting for a map --- */

static bool wait_is_over(const kith_meta_client *client, const kith_meta_wait *wait) {
    if (wait->map_version == KITH_META_NEWEST) return client->pulls_ended >= wait->pull;
    return client->state.map_version >= wait->map_version;
}

static void wait_end(kith_meta_wait *wait) {
    kith_meta_client *client = (kith_meta_client *)wait->meta;
    kith_meta_wait **link = &client->waits;
    while (*link != wait)
        link = &(*link)->next;
    *link = wait->next;
    if (wait_is_over(client, wait)) {
        wait->done(wait, KITH_OK, NULL);
        return;
    }
    kith_err err;
    kith_status status = client->stopped ? kith_err_set(&err, KITH_CLOSED, "this node is shutting down")
                                         : kith_err_set(&err, KITH_DEADLINE,
                                               "this node has map version %llu and did not get a "
                                               "newer one in time",
                                               (unsigned long long)client->state.map_version);
    wait->done(wait, status, &err);
}

/* What ends is taken off its timer first; a timer that fires meanwhile finds
 * its wait ended, and so does not end it. */
static void waits_look(kith_meta_client *client) {
    for (kith_meta_wait *wait = client->waits, *next; wait; wait = next) {
        next = wait->next;
        bool ends = client->stopped || wait_is_over(client, wait);
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

kith_status client_map_take(
    kith_meta_client *client, const void *bytes, size_t byte_count, bool from_file, kith_err *err) {
    kith_meta_state state;
    kith_meta_state_init(&state);
    kith_status status = snapshot_read(bytes, byte_count, &state, err);
    if (status == KITH_OK && !client_is_of(client, &state)) {
        status = kith_err_set(err, KITH_PRECONDITION,
            "the map is another cluster's: this node's data directory belongs to the cluster it was in "
            "before; "
            "use an empty one to move to another");
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
    if (client->options.changed) client->options.changed(client->options.ctx, &client->state, from_file);
    map_show(client);
    waits_look(client);
    client_proposals_look(client);
    return KITH_OK;
}

/* --- pulls --- */

static void pull_start(kith_meta_client *client);

static void pull_ended(kith_task *task) {
    client_pull *pull = (client_pull *)(void *)((char *)task - offsetof(client_pull, task));
    kith_meta_client *client = (kith_meta_client *)(void *)((char *)pull - offsetof(kith_meta_client, pull));
    kith_err err;
    kith_status status = pull->status;
    pull->is_open = false;
    client->pulls_ended = client->pulls_started;
    if (status == KITH_OK && pull->reply.bytes && !client->stopped) {
        status = client_map_take(client, pull->reply.data, pull->reply.bytes, false, &err);
        if (status != KITH_OK)
            kith_log_warn(
                "map_refused", kith_kv_text("from", pull->address), kith_kv_text("reason", err.text));
    }
    kith_buf_fini(&pull->reply);
    kith_buf_fini(&pull->request);
    waits_look(client);
    /* Whoever spoke of a newer map speaks again: no pull is repeated here but for
   * another address, or for those who began to wait after it had started. */
    bool again =
        client->pull_wanted > client->state.map_version && strcmp(client->pull_address, pull->address) != 0;
    for (const kith_meta_wait *wait = client->waits; wait; wait = wait->next)
        again |= wait->map_version == KITH_META_NEWEST;
    if (again) pull_start(client);
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
                             : client_map_take(client, request->bytes, request->byte_count, false, &err);
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
    client->dir = options->dir ? kith_strdup(options->dir) : NULL;
    client->coordinators = kith_alloc_array(options->coordinator_count, sizeof *client->coordinators);
    for (uint32_t i = 0; i < options->coordinator_count; i++)
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
            status = client_map_take(client, bytes.data, bytes.bytes, true, err);
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

typedef struct client_stop {
    kith_task task;
    kith_meta_client *client;
} client_stop;

static void stop_run(kith_task *task) {
    client_stop *stop = (client_stop *)task;
    kith_meta_client *client = stop->client;
    kith_free(stop);
    client->stopped = true;
    if (client->pull.is_open) kith_transport_cancel(client->options.transport, &client->pull.call);
    waits_look(client);
    client_proposals_stop(client);
}

void kith_meta_client_stop(kith_meta_client *client) {
    client_stop *stop = kith_alloc(sizeof *stop);
    *stop = (client_stop){.task = {.run = stop_run}, .client = client};
    kith_executor_post(client->options.executor, &stop->task);
}

void kith_meta_client_destroy(kith_meta_client *client) {
    if (!client) return;
    kith_assert(!client->pull.is_open);
    kith_assert(!client->waits);
    kith_hazard_destroy(client->base.maps);
    kith_meta_state_fini(&client->state);
    kith_free(client->coordinators);
    kith_free(client->dir);
    kith_free(client);
}
