/* A write of a client: begun, repeated under its request id until it is answered or given up, and what the judge hears of it. */
#include <string.h>

#include "tests/sim/sim_data_client_internal.h"

#define MS 1000000ULL

/* --- what is written --- */

static void points_draw(sim_data_client *client, sim_data_batch *batch) {
    uint32_t count = 1 + (uint32_t)sim_data_below(client, SIM_DATA_BATCH_MAX);
    for (uint32_t tries = 0; batch->count < count && tries < 3 * SIM_DATA_BATCH_MAX; tries++) {
        uint32_t point = (uint32_t)sim_data_below(client, client->options.point_count);
        bool twice = false;
        for (uint32_t i = 0; i < batch->count; i++)
            twice |= batch->points[i] == point;
        if (!twice) batch->points[batch->count++] = point;
    }
}

static void batch_draw(sim_data_client *client, sim_data_batch *batch) {
    *batch = (sim_data_batch){
        .collection = (uint32_t)sim_data_below(client, client->options.collection_count),
        .value = sim_data_below(client, 5) ? ++client->value_next : 0,
        .request_id = {.client = "sim data client", .number = ++client->request_next},
    };
    points_draw(client, batch);
}

void sim_data_write_begin(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    sim_data_batch *batch = &slot->batch;
    slot->kind = SIM_DATA_WRITE;
    slot->tainted = false;
    batch_draw(client, batch);
    batch->number = sim_data_check_write_begin(client->options.check, batch->collection, batch->points,
        batch->count, batch->value, sim_data_now_ns(client));
    for (uint32_t i = 0; i < batch->count; i++)
        sim_data_tell(client, "client: write %u: %s %u of %s, value %llu", batch->number,
            batch->value ? "upsert" : "delete", batch->points[i], sim_data_collection_name(batch->collection),
            (unsigned long long)batch->value);
    sim_data_write_attempt(slot);
}

void sim_data_repeat_begin(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    slot->kind = SIM_DATA_REPEAT;
    slot->batch = client->known[sim_data_below(client, client->known_count)];
    sim_data_tell(client, "client: write %u is asked for again", slot->batch.number);
    sim_data_write_attempt(slot);
}

/* --- how it ends --- */

static void known_add(sim_data_client *client, const sim_data_batch *batch) {
    client->known[client->known_at] = *batch;
    client->known_at = (client->known_at + 1) % SIM_DATA_KNOWN_MAX;
    if (client->known_count < SIM_DATA_KNOWN_MAX) client->known_count++;
}

static void served_note(sim_data_client *client, uint64_t shard_id, uint64_t begin_ns) {
    for (uint32_t i = 0; i < client->served_count; i++) {
        if (client->served[i].shard_id != shard_id) continue;
        client->served[i].write_ns = begin_ns;
        return;
    }
    client->served[client->served_count++] = (sim_data_served){.shard_id = shard_id, .write_ns = begin_ns};
}

static void acknowledged(sim_data_slot *slot, const kith_api_token *tokens, uint32_t token_count) {
    sim_data_client *client = slot->client;
    sim_data_batch *batch = &slot->batch;
    uint64_t now_ns = sim_data_now_ns(client);
    for (uint32_t i = 0; i < token_count && i < SIM_DATA_TOKENS; i++) {
        sim_data_tell(client, "client: write %u is done: sequence %llu of shard %llu, epoch %llu",
            batch->number, (unsigned long long)tokens[i].sequence, (unsigned long long)tokens[i].shard_id,
            (unsigned long long)tokens[i].epoch);
        sim_data_check_token(client->options.check, batch->number, tokens[i].shard_id, tokens[i].epoch,
            tokens[i].sequence, now_ns);
        batch->tokens[batch->token_count++] = tokens[i];
        if (slot->kind == SIM_DATA_WRITE) served_note(client, tokens[i].shard_id, slot->first_ns);
    }
    if (slot->kind == SIM_DATA_WRITE) {
        sim_data_check_write_end(client->options.check, batch->number, SIM_DATA_DONE, now_ns);
        known_add(client, batch);
    }
    sim_data_end(slot);
}

/* Whether nothing was done can be said of one shard only: of several the worst answer is told. */
static bool is_refusal(const sim_data_slot *slot, kith_status status) {
    if (slot->client->options.shard_counts[slot->batch.collection] > 1) return false;
    return status == KITH_BUSY || status == KITH_NO_SPACE || status == KITH_NOT_FOUND ||
           status == KITH_INVALID || status == KITH_STALE_MAP || status == KITH_PRECONDITION;
}

static void given_up(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    if (slot->kind == SIM_DATA_WRITE) {
        sim_data_tell(client, "client: write %u: %s", slot->batch.number,
            slot->tainted ? "it is not known whether it is done" : "not done");
        sim_data_check_write_end(client->options.check, slot->batch.number,
            slot->tainted ? SIM_DATA_UNKNOWN : SIM_DATA_REFUSED, sim_data_now_ns(client));
    }
    sim_data_end(slot);
}

static void failed(sim_data_slot *slot, kith_status status, const kith_err *err) {
    sim_data_tell(
        slot->client, "client: write %u: %s: %s", slot->batch.number, kith_status_name(status), err->text);
    slot->tainted |= !is_refusal(slot, status);
    if (sim_data_may_retry(slot, status, err)) {
        sim_data_sleep(slot, 2, 60);
    } else {
        given_up(slot);
    }
}

static void done(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    (void)changed;
    slot->tainted |= token_count > 0;
    slot->batch.token_count = 0;
    if (status == KITH_OK) {
        acknowledged(slot, tokens, token_count);
    } else {
        failed(slot, status, err);
    }
}

/* --- an attempt --- */

static void points_fill(sim_data_slot *slot) {
    const sim_data_batch *batch = &slot->batch;
    uint32_t dim = slot->client->options.dim;
    uint32_t bytes = batch->value ? sim_data_payload(batch->value, slot->payload) : 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        slot->ids[i] = sim_data_id(batch->points[i]);
        sim_data_vector(batch->value, dim, slot->vectors + (size_t)i * dim);
        slot->payloads[i] = slot->payload;
        slot->payload_bytes[i] = bytes;
    }
    slot->column = (kith_api_column){.field = "",
        .values = (const uint8_t *)slot->vectors,
        .values_bytes = (size_t)batch->count * dim * sizeof(float)};
}

void sim_data_write_attempt(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    const sim_data_batch *batch = &slot->batch;
    kith_err err;
    uint64_t deadline_ns = sim_data_attempt(slot);
    points_fill(slot);
    const char *name = sim_data_collection_name(batch->collection);
    slot->call.write = (kith_api_write_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name,
        .collection_bytes = strlen(name),
        .request_id = batch->request_id,
        .ids = slot->ids,
        .point_count = batch->count,
        .columns = batch->value ? &slot->column : NULL,
        .column_count = batch->value ? 1 : 0,
        .payloads = batch->value ? slot->payloads : NULL,
        .payload_bytes = batch->value ? slot->payload_bytes : NULL,
        .done = done};
    kith_status status = batch->value ? kith_api_upsert(client->api, &slot->call.write, &err)
                                      : kith_api_delete(client->api, &slot->call.write, &err);
    if (status != KITH_OK) failed(slot, status, &err);
}
