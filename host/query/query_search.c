/* A search over all shards of a collection: one message a node, hits merged, payloads fetched for the final ones only. */
#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"

/* The search's own, in its arena. */
typedef struct search_run {
    kith_query_search *search;
    kith_query_get get; /* payloads */
} search_run;

/* --- a message --- */

static void search_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    const search_run *run = fanout->ctx;
    const kith_query_search *search = run->search;
    const kith_query_base *base = &search->base;
    const kith_collection *collection = &base->entry->collection;
    kith_codec_shard_search_request request = {
        .collection_id = collection->id,
        .map_version = base->map->version,
        .shard_ids = kith_query_part_shard_ids(part),
        .shard_count = part->target_count,
        .field_index = search->field_index,
        .k = search->k,
        .query_count = search->query_count,
        .dim = collection->schema.fields[search->field_index].dim,
        .queries = search->queries,
        .exact = search->exact,
        .read = base->read,
        .tokens = kith_query_part_tokens(part),
    };
    kith_codec_shard_search_request_encode(&request, buf);
}

/* A peer's reply is not trusted: the shards it speaks of must be those asked, in the order asked. */
static bool reply_fits(const kith_query_fanout *fanout, const kith_query_part *part,
    const kith_codec_shard_search_response *response) {
    const search_run *run = fanout->ctx;
    if (response->query_count != run->search->query_count || response->shard_count != part->target_count)
        return false;
    for (uint32_t i = 0; i < part->target_count; i++) {
        if (response->shards[i].shard_id != kith_query_part_shard_id(part, i)) return false;
    }
    return true;
}

static kith_status search_decode(
    kith_query_fanout *fanout, kith_query_part *part, const void *reply, size_t bytes, kith_err *err) {
    kith_arena *arena = fanout->base->arena;
    kith_codec_shard_search_response response;
    kith_status status = kith_codec_shard_search_response_decode(reply, bytes, arena, &response, err);
    if (status != KITH_OK) return status;
    if (!reply_fits(fanout, part, &response))
        return kith_err_set(err, KITH_INTERNAL, "the reply does not fit the request");
    kith_query_outcome *outcomes = kith_arena_array(arena, part->target_count, sizeof *outcomes);
    for (uint32_t i = 0; i < part->target_count; i++) {
        outcomes[i] =
            (kith_query_outcome){.status = response.shards[i].status, .message = response.shards[i].message};
    }
    part->outcomes = outcomes;
    part->answer = (kith_hits *)response.lists;
    return KITH_OK;
}

/* --- all of them --- */

/* For all shards that it brought, then (`is_merged`). */
static bool part_counts(const kith_query_fanout *fanout, const kith_query_part *part) {
    for (uint32_t i = 0; part->answer && i < part->target_count; i++) {
        const kith_query_target *target = &fanout->targets[part->targets[i]];
        if (target->is_answered && target->part == part) return true;
    }
    return false;
}

/* Lists [query_count] of each part that counts -> `lists`; how many parts. */
static uint32_t lists_gather(const kith_query_fanout *fanout, const kith_hits **lists) {
    uint32_t count = 0;
    for (const kith_query_part *part = fanout->parts; part; part = part->next) {
        if (part_counts(fanout, part)) lists[count++] = part->answer;
    }
    return count;
}

/* lists of one query over the parts -> its final list */
static kith_hits query_merge(
    search_run *run, uint32_t query, const kith_hits *const *lists, uint32_t part_count, kith_hits *scratch) {
    uint32_t hit_count = 0;
    for (uint32_t part = 0; part < part_count; part++) {
        scratch[part] = lists[part][query];
        hit_count += scratch[part].count;
    }
    if (part_count == 1) return scratch[0]; /* merged on the node already, at most k */
    uint32_t k = run->search->k;
    kith_hit *hits = kith_arena_array(run->search->base.arena, k < hit_count ? k : hit_count, sizeof *hits);
    uint32_t count = kith_hits_merge(scratch, part_count, k < hit_count ? k : hit_count, hits);
    return (kith_hits){.hits = hits, .count = count};
}

static void hits_merge(search_run *run, const kith_query_fanout *fanout) {
    kith_query_search *search = run->search;
    kith_arena *arena = search->base.arena;
    uint32_t part_count = 0;
    for (const kith_query_part *part = fanout->parts; part; part = part->next)
        part_count++;
    const kith_hits **part_lists = kith_arena_array(arena, part_count, sizeof *part_lists);
    part_count = lists_gather(fanout, part_lists);
    kith_hits *lists = kith_arena_array(arena, search->query_count, sizeof *lists);
    kith_hits *scratch = kith_arena_array(arena, part_count, sizeof *scratch);
    search->hit_count = 0;
    for (uint32_t query = 0; query < search->query_count; query++) {
        lists[query] = query_merge(run, query, part_lists, part_count, scratch);
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
    search->coverage = kith_query_fanout_coverage(fanout);
    kith_err err;
    kith_status status = coverage_judge(search, &err);
    if (status != KITH_OK) {
        search->done(search, status, &err);
        return;
    }
    hits_merge(run, fanout);
    if (search->with_payload && search->hit_count)
        payloads_start(run);
    else
        search->done(search, KITH_OK, NULL);
}

void kith_query_search_start(kith_query_search *search) {
    static const kith_query_fanout_ops ops = {.kind = KITH_AM_SEARCH,
        .is_merged = true,
        .encode = search_encode,
        .decode = search_decode,
        .gathered = search_gathered};
    search_run *run = kith_arena_alloc_zero(search->base.arena, sizeof *run);
    run->search = search;
    kith_query_fanout_start(&search->base, &ops, run, NULL, search->base.entry->collection.shard_count);
}
