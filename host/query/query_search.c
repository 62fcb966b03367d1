/* A search over all shards of a collection: one message a node, hits merged, payloads fetched for the final ones only. */
#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"
#include "host/query/query_plan.h"

/* The search's own, in its arena. */
typedef struct search_run {
    kith_query_search *search;
    kith_query_plan plan;
    kith_hits **node_lists; /* [node] of [query_count]; NULL where the node did not answer */
    kith_query_missing *missing;
    uint32_t missing_count;
    kith_query_get get; /* payloads */
} search_run;

static const char *node_name(const search_run *run, uint32_t plan_index) {
    return run->search->base.map->nodes[run->plan.nodes[plan_index].node_index].name;
}

static void missing_add(
    search_run *run, uint32_t plan_index, uint64_t shard_id, kith_status status, const char *reason) {
    kith_arena *arena = run->search->base.arena;
    run->missing[run->missing_count++] = (kith_query_missing){
        .shard_id = shard_id,
        .status = status,
        .node = node_name(run, plan_index),
        .reason = kith_arena_text(arena, reason, strlen(reason)),
    };
}

static void node_missing_add(search_run *run, uint32_t plan_index, kith_status status, const char *reason) {
    const kith_query_plan_node *node = &run->plan.nodes[plan_index];
    for (uint32_t i = 0; i < node->shard_count; i++) {
        missing_add(run, plan_index, node->shard_ids[i], status, reason);
    }
}

/* A peer's reply is not trusted: the shards it speaks of must be those asked, in the order asked. */
static bool reply_fits(
    const search_run *run, uint32_t plan_index, const kith_codec_shard_search_response *response) {
    const kith_query_plan_node *node = &run->plan.nodes[plan_index];
    if (response->query_count != run->search->query_count || response->shard_count != node->shard_count)
        return false;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        if (response->shards[i].shard_id != node->shard_ids[i]) return false;
    }
    return true;
}

static void node_gather(search_run *run, uint32_t plan_index, const kith_query_part *part) {
    if (part->status != KITH_OK) {
        node_missing_add(run, plan_index, part->status, part->message);
        return;
    }
    kith_err err;
    kith_codec_shard_search_response response;
    kith_status status = kith_codec_shard_search_response_decode(
        part->reply, part->reply_bytes, run->search->base.arena, &response, &err);
    if (status == KITH_OK && !reply_fits(run, plan_index, &response)) {
        status = kith_err_set(&err, KITH_INTERNAL, "the reply does not fit the request");
    }
    if (status != KITH_OK) {
        node_missing_add(run, plan_index, status, err.text);
        return;
    }
    run->node_lists[plan_index] = (kith_hits *)response.lists;
    for (uint32_t i = 0; i < response.shard_count; i++) {
        const kith_codec_shard_status *shard = &response.shards[i];
        if (shard->status != KITH_OK)
            missing_add(run, plan_index, shard->shard_id, shard->status, shard->message);
    }
}

/* lists of one query over the nodes -> its final list */
static kith_hits query_merge(search_run *run, uint32_t query, kith_hits *scratch) {
    uint32_t list_count = 0, hit_count = 0;
    for (uint32_t node = 0; node < run->plan.node_count; node++) {
        if (!run->node_lists[node]) continue;
        scratch[list_count] = run->node_lists[node][query];
        hit_count += scratch[list_count++].count;
    }
    if (list_count == 1) return scratch[0]; /* merged on the node already, at most k */
    uint32_t k = run->search->k;
    kith_hit *hits = kith_arena_array(run->search->base.arena, k < hit_count ? k : hit_count, sizeof *hits);
    uint32_t count = kith_hits_merge(scratch, list_count, k < hit_count ? k : hit_count, hits);
    return (kith_hits){.hits = hits, .count = count};
}

static void hits_merge(search_run *run) {
    kith_query_search *search = run->search;
    kith_hits *lists = kith_arena_array(search->base.arena, search->query_count, sizeof *lists);
    kith_hits *scratch = kith_arena_array(search->base.arena, run->plan.node_count, sizeof *scratch);
    search->hit_count = 0;
    for (uint32_t query = 0; query < search->query_count; query++) {
        lists[query] = query_merge(run, query, scratch);
        search->hit_count += lists[query].count;
    }
    search->lists = lists;
}

/* OK, or why this is no answer: cancelled, nothing answered, or strict and not all answered. */
static kith_status coverage_judge(const kith_query_search *search, kith_err *err) {
    const kith_query_coverage *coverage = &search->coverage;
    uint32_t missing_count = coverage->shards_total - coverage->shards_answered;
    if (missing_count == 0) return KITH_OK;
    const kith_query_missing *first = &coverage->missing[0];
    for (uint32_t i = 0; i < missing_count; i++) {
        if (coverage->missing[i].status == KITH_CANCELLED) {
            return kith_err_set(err, KITH_CANCELLED, "cancelled by the caller");
        }
    }
    if (coverage->shards_answered > 0 && !search->strict) return KITH_OK;
    if (coverage->shards_total == 1) return kith_err_set(err, first->status, "%s", first->reason);
    return kith_err_set(err, first->status, "%u of %u shards did not answer; shard %llu on node %s: %s",
        missing_count, coverage->shards_total, (unsigned long long)first->shard_id, first->node,
        first->reason);
}

static void payloads_done(kith_query_get *get, kith_status status, const kith_err *err) {
    search_run *run = (search_run *)(void *)((char *)get - offsetof(search_run, get));
    kith_query_search *search = run->search;
    if (status != KITH_OK) {
        search->done(search, status, err);
        return;
    }
    const char **payloads = kith_arena_array(search->base.arena, search->hit_count, sizeof *payloads);
    uint32_t *bytes = kith_arena_array(search->base.arena, search->hit_count, sizeof *bytes);
    for (uint32_t i = 0; i < search->hit_count; i++) {
        const kith_query_point *point = get->points[i]; /* NULL: deleted since it was found */
        payloads[i] = point ? point->payload : NULL;
        bytes[i] = point ? point->payload_bytes : 0;
    }
    search->payloads = payloads;
    search->payload_bytes = bytes;
    search->done(search, KITH_OK, NULL);
}

static void payloads_start(search_run *run) {
    kith_query_search *search = run->search;
    kith_id *ids = kith_arena_array(search->base.arena, search->hit_count, sizeof *ids);
    uint32_t count = 0;
    for (uint32_t query = 0; query < search->query_count; query++) {
        for (uint32_t i = 0; i < search->lists[query].count; i++)
            ids[count++] = search->lists[query].hits[i].id;
    }
    run->get = (kith_query_get){
        .base = search->base,
        .ids = ids,
        .id_count = count,
        .with_payload = true,
        .bytes_max = search->payload_bytes_max,
        .done = payloads_done,
    };
    kith_query_get_start(&run->get);
}

static void search_gathered(kith_query_fanout *fanout) {
    search_run *run = fanout->ctx;
    kith_query_search *search = run->search;
    kith_arena *arena = search->base.arena;
    uint32_t total = search->base.entry->collection.shard_count;
    run->node_lists = kith_arena_alloc_zero(arena, run->plan.node_count * sizeof *run->node_lists);
    run->missing = kith_arena_array(arena, total, sizeof *run->missing);
    for (uint32_t i = 0; i < fanout->part_count; i++)
        node_gather(run, i, &fanout->parts[i]);
    kith_query_fanout_finish(fanout);
    search->coverage = (kith_query_coverage){
        .shards_total = total, .shards_answered = total - run->missing_count, .missing = run->missing};
    kith_err err;
    kith_status status = coverage_judge(search, &err);
    if (status != KITH_OK) {
        search->done(search, status, &err);
        return;
    }
    hits_merge(run);
    if (search->with_payload && search->hit_count)
        payloads_start(run);
    else
        search->done(search, KITH_OK, NULL);
}

void kith_query_search_start(kith_query_search *search) {
    search_run *run = kith_arena_alloc_zero(search->base.arena, sizeof *run);
    run->search = search;
    kith_query_plan_make(search->base.map, search->base.entry, search->base.arena, &run->plan);
    kith_query_fanout *fanout =
        kith_query_fanout_create(&search->base, KITH_AM_SEARCH, run->plan.node_count, search_gathered, run);
    const kith_collection *collection = &search->base.entry->collection;
    for (uint32_t i = 0; i < run->plan.node_count; i++) {
        const kith_query_plan_node *node = &run->plan.nodes[i];
        kith_codec_shard_search_request request = {
            .collection_id = collection->id,
            .map_version = search->base.map->version,
            .shard_ids = node->shard_ids,
            .shard_count = node->shard_count,
            .field_index = search->field_index,
            .k = search->k,
            .query_count = search->query_count,
            .dim = collection->schema.fields[search->field_index].dim,
            .queries = search->queries,
            .exact = search->exact,
        };
        kith_query_fanout_node_set(fanout, i, node->node_index);
        kith_codec_shard_search_request_encode(&request, &fanout->parts[i].request);
    }
    kith_query_fanout_start(fanout);
}
