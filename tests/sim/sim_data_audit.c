/* The comparison in the end, while nothing is written: all points by pages, by id, their count, and searches against brute force
 * over what the pages showed. What the pages show goes to the judge as reads at the primary: it knows what must be there. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_data_client_internal.h"

#define MS       1000000ULL
#define SEARCHES 4u /* of a collection */

enum { STEP_PAGES, STEP_IDS, STEP_COUNT, STEP_SEARCHES };

static const char *name_of(const sim_data_auditor *audit) {
    return sim_data_collection_name(audit->collection);
}

static void collection_next(sim_data_auditor *audit) {
    *audit = (sim_data_auditor){.collection = audit->collection + 1};
}

static void go_on(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    bool over = client->auditor.collection == client->options.collection_count || client->violation[0];
    slot->busy = !over;
    if (slot->busy) sim_data_sleep(slot, 0, 2);
}

static void failed(sim_data_slot *slot, kith_status status, const kith_err *err) {
    sim_data_client *client = slot->client;
    sim_data_tell(client, "client: the audit of %s: %s: %s", name_of(&client->auditor),
        kith_status_name(status), err->text);
    if (!sim_data_may_retry(slot, status, err) && !client->corruption[0])
        sim_data_blame(client, "collection %s cannot be read though nothing is wrong: %.200s",
            name_of(&client->auditor), err->text);
    if (client->corruption[0])
        slot->busy = false;
    else
        go_on(slot);
}

/* --- pages --- */

static uint64_t value_take(sim_data_client *client, const kith_api_point *point) {
    uint64_t value = point->vectors[0] ? sim_data_value_of(point->vectors[0], client->options.dim,
                                             point->payload, point->payload_bytes)
                                       : 0;
    if (value == 0)
        sim_data_blame(
            client, "the audit finds no value in point %llu", (unsigned long long)point->id.number);
    return value;
}

static void pages_judge(sim_data_slot *slot) {
    sim_data_client *client = slot->client;
    for (uint32_t i = 0; i < client->options.point_count; i++) {
        const sim_data_seen seen = {.collection = client->auditor.collection,
            .point = i,
            .read = SIM_DATA_PRIMARY,
            .value = client->auditor.values[i],
            .begin_ns = slot->first_ns,
            .end_ns = sim_data_now_ns(client)};
        sim_data_check_seen(client->options.check, &seen);
    }
}

static void page_taken(kith_api_points_call *call, kith_status status, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    sim_data_client *client = slot->client;
    sim_data_auditor *audit = &client->auditor;
    (void)schema;
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t point = sim_data_point(client, &points[i].id);
        if (point == SIM_DATA_POINTS_MAX || audit->values[point])
            sim_data_blame(client, "pages of %s show point %llu %s", name_of(audit),
                (unsigned long long)points[i].id.number,
                point == SIM_DATA_POINTS_MAX ? "that was never written" : "twice");
        else
            audit->values[point] = value_take(client, &points[i]);
    }
    audit->has_next = next != NULL;
    if (next) audit->next = *next; /* ids are numbers: nothing is borrowed */
    if (!next) {
        pages_judge(slot);
        audit->step = STEP_IDS;
    }
    go_on(slot);
}

static kith_status page_ask(sim_data_slot *slot, uint64_t deadline_ns, kith_err *err) {
    const sim_data_auditor *audit = &slot->client->auditor;
    slot->call.points = (kith_api_points_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name_of(audit),
        .collection_bytes = strlen(name_of(audit)),
        .has_from = audit->has_next,
        .from = audit->next,
        .limit = 7,
        .with_payload = true,
        .with_vectors = true,
        .done = page_taken};
    return kith_api_scroll(slot->client->api, &slot->call.points, err);
}

/* --- ids and count --- */

static void ids_taken(kith_api_points_call *call, kith_status status, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    sim_data_client *client = slot->client;
    sim_data_auditor *audit = &client->auditor;
    uint32_t at = 0;
    (void)schema, (void)next;
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    for (uint32_t i = 0; i < client->options.point_count; i++) {
        bool there = at < count && points[at].id.number == i + 1;
        uint64_t value = there ? value_take(client, &points[at++]) : 0;
        if (value != audit->values[i])
            sim_data_blame(client, "point %u of %s: value %llu by its id, %llu in a page", i, name_of(audit),
                (unsigned long long)value, (unsigned long long)audit->values[i]);
    }
    audit->step = STEP_COUNT;
    go_on(slot);
}

static kith_status ids_ask(sim_data_slot *slot, uint64_t deadline_ns, kith_err *err) {
    const sim_data_client *client = slot->client;
    for (uint32_t i = 0; i < client->options.point_count; i++)
        slot->ids[i] = sim_data_id(i);
    slot->call.points = (kith_api_points_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name_of(&client->auditor),
        .collection_bytes = strlen(name_of(&client->auditor)),
        .ids = slot->ids,
        .id_count = client->options.point_count,
        .with_payload = true,
        .with_vectors = true,
        .done = ids_taken};
    return kith_api_get(client->api, &slot->call.points, err);
}

static uint32_t points_there(const sim_data_client *client) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < client->options.point_count; i++)
        count += client->auditor.values[i] != 0;
    return count;
}

static void counted(kith_api_count_call *call, kith_status status, uint64_t count,
    const kith_api_coverage *coverage, const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    sim_data_client *client = slot->client;
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    uint32_t expected = points_there(client);
    if (coverage->shards_answered < coverage->shards_total) {
        go_on(slot);
        return;
    }
    if (count != expected)
        sim_data_blame(client, "%s has %u points, counted as %llu", name_of(&client->auditor), expected,
            (unsigned long long)count);
    client->auditor.step = STEP_SEARCHES;
    go_on(slot);
}

static kith_status count_ask(sim_data_slot *slot, uint64_t deadline_ns, kith_err *err) {
    const sim_data_client *client = slot->client;
    slot->call.count = (kith_api_count_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name_of(&client->auditor),
        .collection_bytes = strlen(name_of(&client->auditor)),
        .done = counted};
    return kith_api_count(client->api, &slot->call.count, err);
}

/* --- searches --- */

typedef struct expected_hit {
    float score;
    uint32_t point;
} expected_hit;

static int hit_compare(const void *a, const void *b) {
    const expected_hit *left = a, *right = b;
    if (left->score < right->score) return -1;
    if (left->score > right->score) return 1;
    return left->point < right->point ? -1 : 1;
}

/* Scores are rounded, so two that look alike may come either way: only score by score is compared, and each point's own. */
static bool hits_agree(const sim_data_client *client, const kith_api_search_result *result) {
    const sim_data_auditor *audit = &client->auditor;
    expected_hit hits[SIM_DATA_POINTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < client->options.point_count; i++) {
        if (audit->values[i])
            hits[count++] =
                (expected_hit){sim_data_score(audit->values[i], audit->query, client->options.dim), i};
    }
    qsort(hits, count, sizeof *hits, hit_compare);
    if (result->hit_count != (count < audit->k ? count : audit->k)) return false;
    for (uint32_t i = 0; i < result->hit_count; i++) {
        uint32_t point = sim_data_point(client, &result->ids[i]);
        if (point == SIM_DATA_POINTS_MAX || audit->values[point] == 0) return false;
        float own = sim_data_score(audit->values[point], audit->query, client->options.dim);
        if (memcmp(&own, &result->scores[i], sizeof own) != 0) return false;
        if (memcmp(&own, &hits[i].score, sizeof own) != 0) return false;
    }
    return true;
}

static void searched(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
    const kith_err *err) {
    sim_data_slot *slot = (sim_data_slot *)(void *)((char *)call - offsetof(sim_data_slot, call));
    sim_data_client *client = slot->client;
    sim_data_auditor *audit = &client->auditor;
    if (status != KITH_OK) {
        failed(slot, status, err);
        return;
    }
    if (!hits_agree(client, result))
        sim_data_blame(client, "a search of %s for %u finds other points than there are: %u of %u hits",
            name_of(audit), audit->k, result->hit_count, points_there(client));
    if (++audit->step == STEP_SEARCHES + SEARCHES) collection_next(audit);
    go_on(slot);
}

static kith_status search_ask(sim_data_slot *slot, uint64_t deadline_ns, kith_err *err) {
    sim_data_client *client = slot->client;
    sim_data_auditor *audit = &client->auditor;
    uint64_t span = client->value_next - SIM_DATA_VALUE_FIRST + 1;
    audit->k = 1 + (uint32_t)sim_data_below(client, 12);
    audit->query[0] = (float)(SIM_DATA_VALUE_FIRST + sim_data_below(client, span));
    for (uint32_t i = 1; i < client->options.dim; i++)
        audit->query[i] = (float)sim_data_below(client, 8);
    slot->call.search = (kith_api_search_call){.call = {.arena = &slot->arena, .deadline_ns = deadline_ns},
        .collection = name_of(audit),
        .collection_bytes = strlen(name_of(audit)),
        .field = "",
        .queries = (const uint8_t *)audit->query,
        .queries_bytes = client->options.dim * sizeof(float),
        .k = audit->k,
        .strict = true,
        .done = searched};
    return kith_api_search(client->api, &slot->call.search, err);
}

/* --- steps --- */

void sim_data_audit_attempt(sim_data_slot *slot) {
    kith_err err;
    kith_status status;
    uint64_t deadline_ns = sim_data_attempt(slot) + 1000 * MS;
    switch (slot->client->auditor.step) {
    case STEP_PAGES:
        status = page_ask(slot, deadline_ns, &err);
        break;
    case STEP_IDS:
        status = ids_ask(slot, deadline_ns, &err);
        break;
    case STEP_COUNT:
        status = count_ask(slot, deadline_ns, &err);
        break;
    default:
        status = search_ask(slot, deadline_ns, &err);
    }
    if (status != KITH_OK) failed(slot, status, &err);
}

void sim_data_client_audit(sim_data_client *client) {
    sim_data_slot *slot = &client->slots[0];
    client->auditor = (sim_data_auditor){0};
    slot->kind = SIM_DATA_AUDIT;
    slot->busy = true;
    slot->first_ns = 0;
    slot->give_up_ns = sim_data_now_ns(client) + 5000 * MS;
    sim_data_sleep(slot, 0, 5);
}
