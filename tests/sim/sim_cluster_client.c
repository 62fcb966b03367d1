#include "tests/sim/sim_cluster_client.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/rng.h"
#include "host/codec/codec_cluster.h"
#include "host/codec/codec_meta.h"

#define MS        1000000ULL
#define SLOTS     3u /* commands at a time */
#define NAMES     4u
#define ADDRESSES 16u

typedef struct sim_slot {
    kith_transport_call call; /* first: `done` gets it */
    kith_timer timer;         /* the next command or the next attempt */
    sim_client *client;
    bool busy;    /* a command is under way */
    bool tainted; /* an attempt of it may have been carried out */
    uint32_t command;
    sim_check_kind kind;
    uint64_t begin_ns, give_up_ns;
    kith_buf bytes;
    char address[64];
} sim_slot;

struct sim_client {
    sim_client_options options;
    kith_transport *transport;
    kith_executor *executor;
    kith_rng rng;
    bool running;
    uint64_t number_next; /* of request ids */
    char leader[64];      /* "": whoever */
    uint64_t *acknowledged_begin_ns;
    uint32_t acknowledged_count;
    sim_slot slots[SLOTS];
};

static void __attribute__((format(printf, 2, 3))) tell(const sim_client *client, const char *format, ...) {
    char text[400];
    if (!client->options.tell) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    client->options.tell(client->options.ctx, text);
}

static uint64_t now_ns(const sim_client *client) {
    return kith_env_now_ns(client->options.env);
}

static void slot_sleep(sim_slot *slot, uint64_t ms_min, uint64_t ms_more) {
    slot->timer.due_ns =
        now_ns(slot->client) + (ms_min + kith_rng_below(&slot->client->rng, ms_more + 1)) * MS;
    kith_timer_start(&slot->timer);
}

/* --- how a command ends --- */

static void acknowledged_add(sim_client *client, uint64_t begin_ns) {
    client->acknowledged_begin_ns =
        kith_realloc(client->acknowledged_begin_ns, (client->acknowledged_count + 1) * sizeof(uint64_t));
    client->acknowledged_begin_ns[client->acknowledged_count++] = begin_ns;
}

static void command_end(
    sim_slot *slot, sim_check_outcome outcome, const kith_codec_propose_reply *reply, const char *text) {
    sim_client *client = slot->client;
    if (outcome == SIM_CHECK_NOTHING && slot->tainted) outcome = SIM_CHECK_UNKNOWN;
    uint64_t id = reply && reply->collection ? reply->collection->id : 0;
    static const char *const names[] = {"unknown", "ok", "not found", "nothing done"};
    tell(client, "client: command %u: %s, collection %llu%s, version %llu: %s", slot->command, names[outcome],
        (unsigned long long)id, reply && reply->changed ? " changed" : "",
        (unsigned long long)(reply ? reply->map_version : 0), text);
    sim_check_end(client->options.check, slot->command, outcome, id, reply && reply->changed,
        reply ? reply->map_version : 0);
    if (outcome == SIM_CHECK_OK) acknowledged_add(client, slot->begin_ns);
    slot->busy = false;
    slot_sleep(slot, 5, 150);
}

static void command_retry(sim_slot *slot, const char *why) {
    if (now_ns(slot->client) >= slot->give_up_ns) {
        command_end(slot, SIM_CHECK_NOTHING, NULL, why);
    } else {
        slot_sleep(slot, 5, 60);
    }
}

static void leader_learn(sim_client *client, const char *text) {
    client->leader[0] = '\0';
    for (uint32_t i = 0; i < client->options.coordinator_count; i++) {
        const char *address = client->options.coordinators[i];
        if (strstr(text, address)) snprintf(client->leader, sizeof client->leader, "%s", address);
    }
}

/* The leader's own answer. */
static void answer_take(sim_slot *slot, const kith_codec_propose_reply *reply) {
    switch (reply->status) {
    case KITH_OK:
        command_end(slot, SIM_CHECK_OK, reply, "");
        break;
    case KITH_NOT_FOUND:
        command_end(slot, SIM_CHECK_NOT_FOUND, reply, reply->message);
        break;
    case KITH_NOT_LEADER:
        leader_learn(slot->client, reply->message);
        command_retry(slot, reply->message);
        break;
    case KITH_BUSY:
        command_retry(slot, reply->message);
        break;
    case KITH_UNKNOWN_OUTCOME:
    case KITH_UNAVAILABLE:
    case KITH_CLOSED:
    case KITH_DEADLINE:
        slot->tainted = true;
        command_retry(slot, reply->message);
        break;
    default: /* refused by the rules */
        command_end(slot, SIM_CHECK_NOTHING, reply, reply->message);
    }
}

static void answer_decode(sim_slot *slot, const void *bytes, size_t byte_count) {
    kith_codec_propose_reply reply;
    kith_arena arena;
    kith_err err;
    kith_arena_init(&arena);
    kith_status status = kith_codec_propose_reply_decode(bytes, byte_count, &arena, &reply, &err);
    kith_assert(status == KITH_OK);
    answer_take(slot, &reply);
    kith_arena_fini(&arena);
}

static void attempt_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    sim_slot *slot = (sim_slot *)call;
    if (status == KITH_OK) {
        answer_decode(slot, reply, reply_bytes);
        return;
    }
    tell(slot->client, "client: command %u at %s: %s", slot->command, slot->address, err->text);
    if (status == KITH_NOT_LEADER) {
        leader_learn(slot->client, err->text);
    } else {
        slot->client->leader[0] = '\0';
        slot->tainted |= status != KITH_BUSY;
    }
    command_retry(slot, err->text);
}

/* --- how it begins --- */

static void attempt_start(sim_slot *slot) {
    sim_client *client = slot->client;
    const sim_client_options *options = &client->options;
    const char *address = client->leader;
    if (!address[0])
        address = options->coordinators[kith_rng_below(&client->rng, options->coordinator_count)];
    snprintf(slot->address, sizeof slot->address, "%s", address);
    slot->call = (kith_transport_call){.address = slot->address,
        .kind = KITH_AM_META_PROPOSE,
        .bytes = slot->bytes.data,
        .byte_count = slot->bytes.bytes,
        .deadline_ns = now_ns(client) + (200 + kith_rng_below(&client->rng, 1000)) * MS,
        .done = attempt_done};
    kith_transport_start(client->transport, &slot->call);
}

static void command_make(sim_client *client, sim_check_kind kind, const char *name, kith_buf *buf) {
    kith_codec_meta_command command = {.kind = kind == SIM_CHECK_CREATE ? KITH_CODEC_META_CREATE_COLLECTION
                                                                        : KITH_CODEC_META_DROP_COLLECTION};
    memcpy(command.request_id.client, "sim cluster test", sizeof command.request_id.client);
    command.request_id.number = ++client->number_next;
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    if (kind == SIM_CHECK_CREATE) {
        command.collection.schema.field_count = 1;
        command.collection.schema.fields[0].dim = 4;
        command.collection.schema.fields[0].metric = KITH_METRIC_L2;
        command.collection.schema.fields[0].type = KITH_TYPE_F32;
        command.collection.shard_count = 1 + (uint32_t)kith_rng_below(&client->rng, 2);
        command.collection.replication_factor = 1;
        command.collection.created_wall_ms = kith_env_wall_ms(client->options.env);
    }
    kith_buf_clear(buf);
    kith_codec_meta_command_encode(&command, buf);
}

static void command_begin(sim_slot *slot) {
    sim_client *client = slot->client;
    char name[2] = {(char)('a' + kith_rng_below(&client->rng, NAMES)), '\0'};
    slot->kind = kith_rng_below(&client->rng, 5) < 3 ? SIM_CHECK_CREATE : SIM_CHECK_DROP;
    command_make(client, slot->kind, name, &slot->bytes);
    slot->command = sim_check_begin(client->options.check, slot->kind, name);
    slot->busy = true;
    slot->tainted = false;
    slot->begin_ns = now_ns(client);
    slot->give_up_ns = slot->begin_ns + (500 + kith_rng_below(&client->rng, 3000)) * MS;
    tell(client, "client: command %u: %s \"%s\"", slot->command,
        slot->kind == SIM_CHECK_CREATE ? "create" : "drop", name);
    attempt_start(slot);
}

static void slot_run(kith_task *task) {
    sim_slot *slot = (sim_slot *)(void *)((char *)task - offsetof(sim_slot, timer.task));
    if (slot->busy) {
        attempt_start(slot);
    } else if (slot->client->running) {
        command_begin(slot);
    }
}

/* --- life --- */

sim_client *sim_client_create(const sim_client_options *options) {
    sim_client *client = kith_alloc_zero(sizeof *client);
    kith_err err;
    client->options = *options;
    kith_rng_init(&client->rng, options->seed ^ 0x636c69656e74); /* "client" */
    const kith_transport_sim_options transport = {.env = options->env,
        .network = options->network,
        .node = {{0xc1}},
        .address = options->address,
        .in_flight_max = SLOTS};
    kith_status status = kith_transport_sim_create(&transport, &client->transport, &err);
    kith_assert(status == KITH_OK);
    status = kith_executor_create(options->env, "client", 1, &client->executor, &err);
    kith_assert(status == KITH_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        sim_slot *slot = &client->slots[i];
        slot->client = client;
        slot->timer.task.run = slot_run;
        slot->timer.executor = client->executor;
        kith_buf_init(&slot->bytes);
    }
    return client;
}

void sim_client_start(sim_client *client) {
    client->running = true;
    for (uint32_t i = 0; i < SLOTS; i++)
        slot_sleep(&client->slots[i], 0, 200);
}

void sim_client_stop(sim_client *client) {
    client->running = false;
}

bool sim_client_is_idle(const sim_client *client) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (client->slots[i].busy) return false;
    }
    return true;
}

uint64_t sim_client_acknowledged_count(const sim_client *client, uint64_t since_ns) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < client->acknowledged_count; i++)
        count += client->acknowledged_begin_ns[i] >= since_ns;
    return count;
}

void sim_client_destroy(sim_client *client) {
    if (!client) return;
    kith_transport_destroy(client->transport);
    kith_executor_destroy(client->executor);
    for (uint32_t i = 0; i < SLOTS; i++)
        kith_buf_fini(&client->slots[i].bytes);
    kith_free(client->acknowledged_begin_ns);
    kith_free(client);
}
