#include "tests/sim/sim_data_client_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define MS           1000000ULL
#define IN_FLIGHT    64u
#define HEARTBEAT_MS 200u
#define TIMEOUT_MS   800u

/* --- words --- */

void sim_data_tell(const sim_data_client *client, const char *format, ...) {
    char text[400];
    if (!client->options.tell) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    client->options.tell(client->options.ctx, text);
}

void sim_data_blame(sim_data_client *client, const char *format, ...) {
    if (client->violation[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(client->violation, sizeof client->violation, format, arguments);
    va_end(arguments);
}

uint64_t sim_data_below(sim_data_client *client, uint64_t bound) {
    return kith_rng_below(&client->rng, bound);
}

uint64_t sim_data_now_ns(const sim_data_client *client) {
    return kith_env_now_ns(client->options.env);
}

const char *sim_data_collection_name(uint32_t collection) {
    static const char *const names[SIM_DATA_COLLECTIONS_MAX] = {"a", "b"};
    return names[collection];
}

uint32_t sim_data_point(const sim_data_client *client, const kith_id *id) {
    bool ours = id->type == KITH_ID_NUMBER && id->number >= 1 && id->number <= client->options.point_count;
    return ours ? (uint32_t)id->number - 1 : SIM_DATA_POINTS_MAX;
}

/* --- requests --- */

void sim_data_sleep(sim_data_slot *slot, uint64_t ms_min, uint64_t ms_more) {
    slot->timer.due_ns =
        sim_data_now_ns(slot->client) + (ms_min + sim_data_below(slot->client, ms_more + 1)) * MS;
    kith_timer_start(&slot->timer);
}

uint64_t sim_data_attempt(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    kith_arena_reset(&slot->arena);
    slot->begin_ns = sim_data_now_ns(client);
    if (slot->first_ns == 0) slot->first_ns = slot->begin_ns;
    client->request_count++;
    return slot->begin_ns + (100 + sim_data_below(client, 900)) * MS;
}

bool sim_data_may_retry(sim_data_slot *slot, kith_status status, const kith_err *err) {
    sim_data_client *client = slot->client;
    client->failure_count++;
    if (status == KITH_CORRUPT && !client->corruption[0])
        snprintf(client->corruption, sizeof client->corruption, "%.250s", err->text);
    return sim_data_now_ns(client) < slot->give_up_ns;
}

void sim_data_end(sim_data_slot *slot) {
    slot->busy = false;
    if (slot->client->running) sim_data_sleep(slot, 1, 40);
}

static void request_begin(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    slot->busy = true;
    slot->first_ns = 0;
    slot->give_up_ns = sim_data_now_ns(client) + (200 + sim_data_below(client, 2500)) * MS;
    uint64_t choice = sim_data_below(client, 20);
    if (choice < 11) {
        sim_data_write_begin(slot);
    } else if (choice == 11 && client->known_count > 0) {
        sim_data_repeat_begin(slot);
    } else if (choice < 18) {
        sim_data_get_begin(slot);
    } else {
        sim_data_search_begin(slot);
    }
}

static void attempt(sim_data_slot *slot) {
    switch (slot->kind) {
    case SIM_DATA_WRITE:
    case SIM_DATA_REPEAT:
        sim_data_write_attempt(slot);
        break;
    case SIM_DATA_GET:
        sim_data_get_attempt(slot);
        break;
    case SIM_DATA_SEARCH:
        sim_data_search_attempt(slot);
        break;
    case SIM_DATA_CREATE:
        sim_data_create_attempt(slot);
        break;
    case SIM_DATA_AUDIT:
        sim_data_audit_attempt(slot);
        break;
    }
}

static void slot_run(kith_task *task) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)task - offsetof(sim_data_slot, timer.task));
    if (slot->busy) {
        attempt(slot);
    } else if (slot->client->running) {
        request_begin(slot);
    }
}

void sim_data_client_start(sim_data_client *client) {
    client->running = true;
    for (uint32_t i = 0; i < SIM_DATA_SLOTS; i++)
        sim_data_sleep(&client->slots[i], 0, 40);
}

void sim_data_client_stop(sim_data_client *client) {
    client->running = false;
}

bool sim_data_client_is_idle(const sim_data_client *client) {
    for (uint32_t i = 0; i < SIM_DATA_SLOTS; i++) {
        if (client->slots[i].busy || client->slots[i].timer.armed) return false;
    }
    return client->stops_left == 0;
}

bool sim_data_client_is_served(const sim_data_client *client, uint64_t since_ns) {
    uint32_t written = 0, shards = 0;
    for (uint32_t i = 0; i < client->served_count; i++)
        written += client->served[i].write_ns >= since_ns;
    for (uint32_t i = 0; i < client->options.collection_count; i++) {
        shards += client->options.shard_counts[i];
        if (client->search_ns[i] < since_ns) return false;
    }
    return written == shards;
}

/* --- collections --- */

static void created(kith_api_collection_call *call, kith_status status, const kith_api_collection_info *infos,
    uint32_t count, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    sim_data_client *client = slot->client;
    (void)infos, (void)count;
    sim_data_tell(client, "client: create %s: %s %s", slot->name, kith_status_name(status),
        status == KITH_OK ? "" : err->text);
    client->created += status == KITH_OK;
    client->ready = client->created == client->options.collection_count;
    slot->busy = !client->ready;
    if (slot->busy) sim_data_sleep(slot, 10, 50);
}

void sim_data_create_attempt(sim_data_slot *slot) {
    const sim_data_client_options *options = &slot->client->options;
    kith_err err;
    uint64_t deadline_ns = sim_data_attempt(slot);
    snprintf(slot->name, sizeof slot->name, "%s", sim_data_collection_name(slot->client->created));
    slot->call.collection =
        (kith_api_collection_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
            .name = slot->name,
            .name_bytes = strlen(slot->name),
            .schema = {.field_count = 1,
                .fields = {{.dim = options->dim, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}},
            .shard_count = options->shard_counts[slot->client->created],
            .replication_factor = options->replication_factor,
            .min_in_sync = options->min_in_sync,
            .durability = options->durability,
            .done = created};
    kith_status status = kith_api_collection_create(slot->client->api, &slot->call.collection, &err);
    if (status != KITH_OK) created(&slot->call.collection, status, NULL, 0, &err);
}

void sim_data_client_prepare(sim_data_client *client) {
    sim_data_slot *slot = &client->slots[0];
    slot->kind = SIM_DATA_CREATE;
    slot->busy = true;
    sim_data_sleep(slot, 100, 100);
}

bool sim_data_client_is_ready(const sim_data_client *client) {
    return client->ready;
}

/* --- the node --- */

static void heartbeat_fill(void *ctx, kith_codec_heartbeat *heartbeat_out) {
    sim_data_client *client = ctx;
    kith_codec_heartbeat heartbeat = {.node = {.role = KITH_NODE_QUERY, .id = {{0xc1}}},
        .started_wall_ms = client->started_wall_ms,
        .map_version = kith_meta_client_map_version(client->meta),
        .health = "ok"};
    snprintf(heartbeat.node.name, sizeof heartbeat.node.name, "client");
    snprintf(heartbeat.node.address, sizeof heartbeat.node.address, "%s", client->options.address);
    *heartbeat_out = heartbeat;
}

static void leader_seen(void *ctx, const kith_node_id *id, const char *address) {
    (void)id;
    kith_meta_client_leader_seen(((sim_data_client *)ctx)->meta, address);
}

static void map_seen(void *ctx, const char *address, uint64_t map_version) {
    kith_meta_client_map_seen(((sim_data_client *)ctx)->meta, address, map_version);
}

static void cluster_open(sim_data_client *client) {
    const sim_data_client_options *options = &client->options;
    kith_err err;
    client->meta = kith_meta_client_create(&(kith_meta_client_options){.env = options->env,
        .executor = client->executor,
        .transport = client->transport,
        .coordinators = options->coordinators,
        .coordinator_count = options->coordinator_count});
    kith_status status = kith_meta_client_load(client->meta, &err);
    kith_assert(status == KITH_OK);
    client->heartbeat = kith_heartbeat_create(&(kith_heartbeat_options){.env = options->env,
        .executor = client->executor,
        .transport = client->transport,
        .coordinators = options->coordinators,
        .coordinator_count = options->coordinator_count,
        .interval_ms = HEARTBEAT_MS,
        .timeout_ms = TIMEOUT_MS,
        .fill = heartbeat_fill,
        .leader_seen = leader_seen,
        .map_seen = map_seen,
        .ctx = client});
    kith_heartbeat_start(client->heartbeat);
    client->connected = true;
}

static void machine_open(sim_data_client *client) {
    const sim_data_client_options *options = &client->options;
    kith_err err;
    const kith_transport_sim_options transport = {.env = options->env,
        .network = options->network,
        .node = {{0xc1}},
        .address = options->address,
        .in_flight_max = IN_FLIGHT};
    kith_status status = kith_transport_sim_create(&transport, &client->transport, &err);
    kith_assert(status == KITH_OK);
    status = kith_executor_create(options->env, "client", 1, &client->executor, &err);
    kith_assert(status == KITH_OK);
}

static void api_open(sim_data_client *client) {
    client->api = kith_api_create(&(kith_api_options){.env = client->options.env,
        .meta = kith_meta_client_meta(client->meta),
        .transport = client->transport,
        .executor = client->executor,
        .limits = {.search_timeout_ns = 2000 * MS,
            .write_timeout_ns = 2000 * MS,
            .slow_search_ns = 60000 * MS,
            .reads_max = 64,
            .write_bytes_max = 1 << 20},
        .message_bytes_max = 4 << 20});
}

sim_data_client *sim_data_client_create(const sim_data_client_options *options) {
    sim_data_client *client = kith_alloc_zero(sizeof *client);
    client->options = *options;
    client->value_next = SIM_DATA_VALUE_FIRST;
    client->started_wall_ms = kith_env_wall_ms(options->env);
    kith_rng_init(&client->rng, options->seed ^ 0x7265616465727300); /* "readers" */
    machine_open(client);
    cluster_open(client);
    api_open(client);
    for (uint32_t i = 0; i < SIM_DATA_SLOTS; i++) {
        sim_data_slot *slot = &client->slots[i];
        slot->client = client;
        slot->timer.task.run = slot_run;
        slot->timer.executor = client->executor;
        kith_arena_init(&slot->arena);
    }
    return client;
}

static void part_stopped(void *ctx) {
    ((sim_data_client *)ctx)->stops_left--;
}

void sim_data_client_disconnect(sim_data_client *client) {
    if (!client->connected) return;
    client->connected = false;
    client->stops_left = 2;
    kith_heartbeat_stop(client->heartbeat, part_stopped, client);
    kith_meta_client_stop(client->meta, part_stopped, client);
}

void sim_data_client_destroy(sim_data_client *client) {
    if (!client) return;
    kith_api_destroy(client->api);
    kith_heartbeat_destroy(client->heartbeat);
    kith_transport_destroy(client->transport);
    kith_executor_destroy(client->executor);
    kith_meta_client_destroy(client->meta);
    for (uint32_t i = 0; i < SIM_DATA_SLOTS; i++)
        kith_arena_fini(&client->slots[i].arena);
    kith_free(client);
}

struct kith_api *sim_data_client_api(const sim_data_client *client) {
    return client->api;
}

kith_executor *sim_data_client_executor(const sim_data_client *client) {
    return client->executor;
}

/* --- what came of it --- */

const char *sim_data_client_violation(const sim_data_client *client) {
    return client->violation[0] ? client->violation : NULL;
}

const char *sim_data_client_corruption(const sim_data_client *client) {
    return client->corruption[0] ? client->corruption : NULL;
}

uint64_t sim_data_client_request_count(const sim_data_client *client) {
    return client->request_count;
}

uint64_t sim_data_client_failure_count(const sim_data_client *client) {
    return client->failure_count;
}
