/* Reads of a client: points by id, and searches that find all points of a collection, so that each is a read of every point. */
#include <string.h>

#include "tests/sim/sim_data_client_internal.h"

static void seen_tell(sim_data_slot *slot, uint32_t point, uint64_t value) {
    sim_data_client *client = slot->client;
    const sim_data_seen seen = {.collection = slot->collection,
        .point = point,
        .read = slot->read,
        .write = slot->batch.number,
        .value = value,
        .begin_ns = slot->begin_ns,
        .end_ns = sim_data_now_ns(client)};
    sim_data_check_seen(client->options.check, &seen);
}

/* What the read shall promise: usually nothing is said of it. */
static void read_draw(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    uint64_t choice = sim_data_below(client, 10);
    slot->read = choice < 6   ? SIM_DATA_IN_SYNC
                 : choice < 8 ? SIM_DATA_PRIMARY
                 : choice < 9 ? SIM_DATA_ANY
                              : SIM_DATA_TOKEN;
    if (slot->read != SIM_DATA_TOKEN) return;
    slot->read = SIM_DATA_IN_SYNC;
    if (client->known_count == 0) return;
    slot->batch = client->known[sim_data_below(client, client->known_count)];
    if (slot->batch.collection == slot->collection) slot->read = SIM_DATA_TOKEN;
}

static kith_read_promise promise(sim_data_slot *slot) {
    static const kith_read_consistency reads[] = {[SIM_DATA_IN_SYNC] = KITH_READ_IN_SYNC,
        [SIM_DATA_PRIMARY] = KITH_READ_PRIMARY,
        [SIM_DATA_ANY] = KITH_READ_ANY,
        [SIM_DATA_TOKEN] = KITH_READ_TOKEN};
    const sim_data_batch *batch = &slot->batch;
    if (slot->read != SIM_DATA_TOKEN) return (kith_read_promise){.read = reads[slot->read]};
    for (uint32_t i = 0; i < batch->token_count; i++)
        slot->tokens[i] = (kith_read_token){.shard_id = batch->tokens[i].shard_id,
            .epoch = batch->tokens[i].epoch,
            .sequence = batch->tokens[i].sequence};
    return (kith_read_promise){
        .read = KITH_READ_TOKEN, .tokens = slot->tokens, .token_count = batch->token_count};
}

static void failed(sim_data_slot *slot, kith_status status, const kith_err *err) {
    sim_data_tell(slot->client, "client: a read (%d) of %s: %s: %s", (int)slot->read,
        sim_data_collection_name(slot->collection), kith_status_name(status), err->text);
    if (sim_data_may_retry(slot, status, err)) {
        sim_data_sleep(slot, 2, 40);
    } else {
        sim_data_end(slot);
    }
}

/* --- by id --- */

static uint64_t point_value(sim_data_client *client, const kith_api_point *point) {
    if (!point->vectors[0]) {
        sim_data_blame(client, "point %llu comes without its vector", (unsigned long long)point->id.number);
        return 0;
    }
    uint64_t value =
        sim_data_value_of(point->vectors[0], client->options.dim, point->payload, point->payload_bytes);
    if (value == 0)
        sim_data_blame(client, "point %llu: vector of value %llu, payload \"%.*s\"",
            (unsigned long long)point->id.number, (unsigned long long)point->vectors[0][0],
            (int)point->payload_bytes, point->payload ? point->payload : "");
    return value;
}

/* Points come in the order asked, those that are not there left out. */
static void points_take(sim_data_slot *slot, const kith_api_point *points, uint32_t count) {
    sim_data_client *client = slot->client;
    uint32_t at = 0;
    for (uint32_t i = 0; i < slot->count; i++) {
        bool there = at < count && kith_id_compare(&points[at].id, &slot->ids[i]) == 0;
        uint64_t value = there ? point_value(client, &points[at++]) : 0;
        sim_data_tell(client, "client: point %u of %s has value %llu (read %d)", slot->points[i],
            sim_data_collection_name(slot->collection), (unsigned long long)value, (int)slot->read);
        seen_tell(slot, slot->points[i], value);
    }
    if (at < count) sim_data_blame(client, "a read by id brings a point that was not asked for");
}

static void got(kith_api_points_call *call, kith_status status, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    (void)schema, (void)next;
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    points_take(slot, points, count);
    sim_data_end(slot);
}

void sim_data_get_begin(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    slot->kind = SIM_DATA_GET;
    slot->collection = (uint32_t)sim_data_below(client, client->options.collection_count);
    slot->count = 1 + (uint32_t)sim_data_below(client, 8);
    read_draw(slot);
    uint32_t first = (uint32_t)sim_data_below(client, client->options.point_count);
    if (slot->read == SIM_DATA_TOKEN) first = slot->batch.points[0];
    for (uint32_t i = 0; i < slot->count; i++) {
        slot->points[i] = (first + i) % client->options.point_count;
        slot->ids[i] = sim_data_id(slot->points[i]);
    }
    sim_data_get_attempt(slot);
}

void sim_data_get_attempt(sim_data_slot *slot) {
    kith_err err;
    uint64_t deadline_ns = sim_data_attempt(slot);
    const char *name = sim_data_collection_name(slot->collection);
    slot->call.points = (kith_api_points_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name,
        .collection_bytes = strlen(name),
        .ids = slot->ids,
        .id_count = slot->count,
        .with_payload = true,
        .with_vectors = true,
        .promise = promise(slot),
        .done = got};
    kith_status status = kith_api_get(slot->client->api, &slot->call.points, &err);
    if (status != KITH_OK) failed(slot, status, &err);
}

/* --- by search --- */

static void hits_take(sim_data_slot *slot, const kith_api_search_result *result) {
    sim_data_client *client = slot->client;
    uint64_t values[SIM_DATA_POINTS_MAX] = {0};
    for (uint32_t i = 0; i < result->hit_count; i++) {
        uint32_t point = sim_data_point(client, &result->ids[i]);
        uint64_t value = sim_data_value_of_score(result->scores[i], client->options.dim);
        if (point == SIM_DATA_POINTS_MAX || value == 0 || values[point]) {
            sim_data_blame(client, "a search finds point %llu %s", (unsigned long long)result->ids[i].number,
                point == SIM_DATA_POINTS_MAX ? "that was never written"
                : value                      ? "twice"
                                             : "with a score of no value");
            return;
        }
        values[point] = value;
    }
    bool whole = result->coverage.shards_answered == result->coverage.shards_total;
    for (uint32_t i = 0; i < client->options.point_count; i++) {
        if (values[i] || whole) seen_tell(slot, i, values[i]);
    }
    if (whole) client->search_ns[slot->collection] = slot->begin_ns;
    sim_data_tell(client, "client: a search of %s finds %u points in %u of %u shards",
        sim_data_collection_name(slot->collection), result->hit_count, result->coverage.shards_answered,
        result->coverage.shards_total);
}

static void found(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
    const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    uint32_t total = slot->client->options.shard_counts[slot->collection];
    if (result->coverage.shards_total != total)
        sim_data_blame(
            slot->client, "a search covers %u shards, not %u", result->coverage.shards_total, total);
    hits_take(slot, result);
    sim_data_end(slot);
}

void sim_data_search_begin(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    slot->kind = SIM_DATA_SEARCH;
    slot->collection = (uint32_t)sim_data_below(client, client->options.collection_count);
    read_draw(slot);
    sim_data_search_attempt(slot);
}

/* The query of nothing but zeros: a score tells which value it is of. */
void sim_data_search_attempt(sim_data_slot *slot) {
    kith_err err;
    uint64_t deadline_ns = sim_data_attempt(slot);
    const char *name = sim_data_collection_name(slot->collection);
    memset(slot->vectors, 0, sizeof slot->vectors);
    slot->call.search = (kith_api_search_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name,
        .collection_bytes = strlen(name),
        .field = "",
        .queries = (const uint8_t *)slot->vectors,
        .queries_bytes = slot->client->options.dim * sizeof(float),
        .k = SIM_DATA_POINTS_MAX + 1,
        .promise = promise(slot),
        .done = found};
    kith_status status = kith_api_search(slot->client->api, &slot->call.search, &err);
    if (status != KITH_OK) failed(slot, status, &err);
}
