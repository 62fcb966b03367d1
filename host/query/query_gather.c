#include "host/query/query_gather.h"

#include <string.h>

#include "host/base/alloc.h"

/* A hit on the query's side, from the reply of a node to the encoded answer: 16 in the reply, 32 decoded, 4 of its score,
 * and 12 encoded, which the network library may hold a second time. */
#define ANSWER_HIT_BYTES 80u

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint32_t kith_query_lane_count(uint64_t hit_count, uint32_t shard_count) {
    if (hit_count == 0) return shard_count;
    uint64_t lanes = KITH_QUERY_LANE_HITS_MAX / hit_count;
    return lanes < 1 ? 1 : (uint32_t)least(lanes, shard_count);
}

uint64_t kith_query_result_bytes(uint64_t hit_count, uint32_t shard_count) {
    uint64_t made = hit_count * kith_query_lane_count(hit_count, shard_count);
    uint64_t kept = least(hit_count * shard_count, KITH_QUERY_KEPT_HITS_MAX);
    uint64_t gathering = (made + kept + hit_count) * sizeof(kith_hit);
    uint64_t answering = hit_count * ANSWER_HIT_BYTES;
    return gathering > answering ? gathering : answering;
}

void kith_query_gather_init(kith_query_gather *gather, uint32_t query_count, uint32_t k) {
    *gather = (kith_query_gather){.query_count = query_count, .k = k};
    kith_arena_init(&gather->arena);
}

void kith_query_gather_fini(kith_query_gather *gather) {
    kith_arena_fini(&gather->arena);
    kith_free(gather->kept);
    kith_free(gather->running);
    kith_free(gather->running_lists);
}

/* How many of `list` can still be among the k best: none after the last of k that are known. */
static uint32_t useful_count(const kith_query_gather *gather, uint32_t query, const kith_hits *list) {
    if (!gather->running_lists) return list->count;
    const kith_hits *running = &gather->running_lists[query];
    if (running->count < gather->k) return list->count;
    const kith_hit *last = &running->hits[gather->k - 1];
    uint32_t begin = 0, end = list->count;
    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        if (kith_hit_compare(&list->hits[middle], last) < 0)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

static uint64_t useful_hits(const kith_query_gather *gather, const kith_hits *lists) {
    uint64_t count = 0;
    for (uint32_t query = 0; query < gather->query_count; query++)
        count += useful_count(gather, query, &lists[query]);
    return count;
}

static void lists_keep(kith_query_gather *gather, const kith_hits *lists, uint64_t hit_count) {
    kith_hits *kept = kith_arena_array(&gather->arena, gather->query_count, sizeof *kept);
    kith_hit *hits = kith_arena_array(&gather->arena, hit_count, sizeof *hits);
    for (uint32_t query = 0; query < gather->query_count; query++) {
        uint32_t count = useful_count(gather, query, &lists[query]);
        if (count > 0) memcpy(hits, lists[query].hits, count * sizeof *hits);
        kept[query] = (kith_hits){.hits = hits, .count = count};
        hits += count;
    }
    if (gather->kept_count == gather->kept_capacity) {
        gather->kept_capacity = gather->kept_capacity ? 2 * gather->kept_capacity : 16;
        gather->kept = kith_realloc(gather->kept, gather->kept_capacity * sizeof *gather->kept);
    }
    gather->kept[gather->kept_count++] = kept;
    gather->kept_hit_count += hit_count;
}

/* --- merging --- */

/* The lists of one query that have any hits -> `sources`; how many. `more` may be NULL. */
static uint32_t sources_of(
    const kith_query_gather *gather, const kith_hits *more, uint32_t query, kith_hits *sources) {
    uint32_t count = 0;
    if (gather->running_lists && gather->running_lists[query].count > 0)
        sources[count++] = gather->running_lists[query];
    for (uint32_t i = 0; i < gather->kept_count; i++) {
        if (gather->kept[i][query].count > 0) sources[count++] = gather->kept[i][query];
    }
    if (!more) return count;
    kith_hits last = {.hits = more[query].hits, .count = useful_count(gather, query, &more[query])};
    if (last.count > 0) sources[count++] = last;
    return count;
}

/* The longest list that a merge can make of any query. */
static uint32_t capacity_needed(const kith_query_gather *gather, const kith_hits *more, kith_hits *sources) {
    uint64_t most = 0;
    for (uint32_t query = 0; query < gather->query_count && most < gather->k; query++) {
        uint64_t sum = 0;
        uint32_t count = sources_of(gather, more, query, sources);
        for (uint32_t i = 0; i < count; i++)
            sum += sources[i].count;
        if (sum > most) most = sum;
    }
    return (uint32_t)least(most, gather->k);
}

/* Doubles, so that many short lists are not moved each time. */
static kith_status running_reserve(kith_query_gather *gather, uint32_t needed, kith_err *err) {
    if (gather->running_lists && needed <= gather->running_capacity) return KITH_OK;
    uint32_t capacity = (uint32_t)least(gather->k, 2 * (uint64_t)gather->running_capacity);
    if (capacity < needed) capacity = needed;
    kith_hit *running = kith_try_alloc((size_t)gather->query_count * capacity * sizeof *running);
    kith_hits *lists = kith_try_alloc(gather->query_count * sizeof *lists);
    if (!running || !lists) {
        kith_free(running);
        kith_free(lists);
        return kith_err_set(
            err, KITH_NO_MEMORY, "hits of %u queries with k %u", gather->query_count, gather->k);
    }
    for (uint32_t query = 0; query < gather->query_count; query++) {
        uint32_t count = gather->running_lists ? gather->running_lists[query].count : 0;
        kith_hit *hits = running + (size_t)query * capacity;
        if (count > 0) memcpy(hits, gather->running_lists[query].hits, count * sizeof *hits);
        lists[query] = (kith_hits){.hits = hits, .count = count};
    }
    kith_free(gather->running);
    kith_free(gather->running_lists);
    gather->running = running;
    gather->running_lists = lists;
    gather->running_capacity = capacity;
    return KITH_OK;
}

/* A running list is also a source, so the merged one is made apart and copied over it. */
static void query_merge(
    kith_query_gather *gather, const kith_hits *more, uint32_t query, kith_hits *sources, kith_hit *merged) {
    kith_hits *list = &gather->running_lists[query];
    uint32_t source_count = sources_of(gather, more, query, sources);
    if (source_count == 0 || (source_count == 1 && list->count > 0)) return;
    kith_hit *hits = gather->running + (size_t)query * gather->running_capacity;
    if (list->count == 0) {
        list->count = kith_hits_merge(sources, source_count, gather->running_capacity, hits);
        return;
    }
    uint32_t count = kith_hits_merge(sources, source_count, gather->running_capacity, merged);
    memcpy(hits, merged, count * sizeof *hits);
    list->count = count;
}

/* What is kept, and `more` unless it is NULL, into the running lists. */
static kith_status lists_merge(kith_query_gather *gather, const kith_hits *more, kith_err *err) {
    kith_hits *sources = kith_alloc_array(gather->kept_count + 2, sizeof *sources);
    uint32_t needed = capacity_needed(gather, more, sources);
    kith_status status = running_reserve(gather, needed, err);
    if (status == KITH_OK) {
        kith_hit *merged = kith_alloc_array(gather->running_capacity, sizeof *merged);
        for (uint32_t query = 0; query < gather->query_count; query++)
            query_merge(gather, more, query, sources, merged);
        kith_free(merged);
        gather->kept_count = 0;
        gather->kept_hit_count = 0;
        kith_arena_reset(&gather->arena);
    }
    kith_free(sources);
    return status;
}

kith_status kith_query_gather_add(kith_query_gather *gather, const kith_hits *lists, kith_err *err) {
    uint64_t hit_count = useful_hits(gather, lists);
    if (hit_count == 0) return KITH_OK;
    /* A list is counted as one hit more: it takes half of one, also when it is empty. */
    uint64_t kept_before = gather->kept_hit_count + (uint64_t)gather->kept_count * gather->query_count;
    if (kept_before + hit_count + gather->query_count > KITH_QUERY_KEPT_HITS_MAX)
        return lists_merge(gather, lists, err);
    lists_keep(gather, lists, hit_count);
    return KITH_OK;
}

kith_status kith_query_gather_finish(kith_query_gather *gather, const kith_hits **lists_out, kith_err *err) {
    kith_status status = KITH_OK;
    if (gather->kept_count > 0 || !gather->running_lists) status = lists_merge(gather, NULL, err);
    if (status == KITH_OK) *lists_out = gather->running_lists;
    return status;
}
