/* Search: checks, then host/query. */
#include <string.h>

#include "host/api/api_internal.h"
#include "host/base/log.h"

/* Results that may take more are worth counting the points of the collection: k is often more than there are. */
#define POINTS_COUNT_FROM_BYTES (1u << 20)

typedef struct search_run {
    kith_api_run run;
    const uint64_t *tokens;
    uint64_t result_bytes; /* admitted beside those of the request */
    kith_api_search_call *call;
    kith_query_search search;
} search_run;

static const kith_field *field_of(const search_run *run) {
    return &run->run.entry->collection.schema.fields[run->search.field_index];
}

static kith_status sizes_check(
    const kith_api_search_call *call, const kith_field *field, uint64_t *rows_out, kith_err *err) {
    kith_status status = kith_api_rows_count("queries", call->queries_bytes, field->dim, rows_out, err);
    if (status == KITH_OK)
        status = kith_api_count_check("number of queries", *rows_out, KITH_QUERIES_MAX, err);
    if (status == KITH_OK) status = kith_api_count_check("k", call->k, KITH_K_MAX, err);
    if (status != KITH_OK) return status;
    uint64_t hits = *rows_out * call->k;
    if (hits > KITH_REPLY_HITS_MAX) {
        return kith_err_set(err, KITH_INVALID,
            "%llu queries x k %u is %llu; at most %u hits are allowed a call", (unsigned long long)*rows_out,
            call->k, (unsigned long long)hits, KITH_REPLY_HITS_MAX);
    }
    if (call->with_payload && hits > KITH_BATCH_POINTS_MAX) {
        return kith_err_set(err, KITH_INVALID,
            "%llu queries x k %u is %llu; with_payload allows at most %u hits a call",
            (unsigned long long)*rows_out, call->k, (unsigned long long)hits, KITH_BATCH_POINTS_MAX);
    }
    return KITH_OK;
}

static kith_status search_check(search_run *run, kith_err *err) {
    kith_api_search_call *call = run->call;
    uint32_t field_index;
    uint64_t rows;
    kith_status status = kith_api_field_find(&run->run.entry->collection, call->field, &field_index, err);
    if (status != KITH_OK) return status;
    const kith_field *field = &run->run.entry->collection.schema.fields[field_index];
    status = sizes_check(call, field, &rows, err);
    if (status != KITH_OK) return status;
    kith_arena *arena = kith_api_run_arena(&run->run, &call->call);
    const float *queries = kith_api_floats(call->queries, call->queries_bytes, arena);
    for (uint64_t i = 0; i < rows; i++) {
        status = kith_api_query_check(queries + i * field->dim, field, err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "queries[%llu]", (unsigned long long)i);
    }
    run->search.field_index = field_index;
    run->search.queries = queries;
    run->search.query_count = (uint32_t)rows;
    return KITH_OK;
}

static uint64_t result_bytes_most(const search_run *run) {
    const kith_api *api = run->run.api;
    const kith_collection *collection = &run->run.entry->collection;
    uint64_t queries = run->search.query_count, k = run->call->k;
    uint64_t bytes = kith_query_result_bytes(queries * k, collection->shard_count);
    if (bytes < POINTS_COUNT_FROM_BYTES || !api->options.points) return bytes;
    uint64_t points = api->options.points(api->options.ctx, collection);
    return points < k ? kith_query_result_bytes(queries * points, collection->shard_count) : bytes;
}

static kith_status results_admit(search_run *run, kith_err *err) {
    uint64_t bytes = result_bytes_most(run);
    uint64_t others = kith_api_admit_more(run->run.api, KITH_API_READ, bytes, KITH_API_READ_BYTES_MAX);
    if (others == 0) {
        run->result_bytes = bytes;
        return KITH_OK;
    }
    return kith_err_set(err, KITH_BUSY,
        "results of %u queries with k %u may take %llu bytes; %llu of the %llu allowed are in use by "
        "searches "
        "and reads in flight: retry in %u ms",
        run->search.query_count, run->call->k, (unsigned long long)bytes, (unsigned long long)others,
        (unsigned long long)KITH_API_READ_BYTES_MAX, KITH_API_RETRY_HINT_MS);
}

/* Room for the ids: over the hits themselves where these lie in one row, as those of one node do. An id is the smaller one,
 * so it never covers a hit that is still to be read. */
static kith_id *ids_place(const kith_query_search *search) {
    const kith_hit *begin = search->query_count > 0 ? search->lists[0].hits : NULL;
    const kith_hit *at = begin;
    _Static_assert(sizeof(kith_id) <= sizeof(kith_hit), "ids fit over hits");
    for (uint32_t query = 0; query < search->query_count; query++) {
        if (search->lists[query].hits != at)
            return kith_arena_array(search->base.arena, search->hit_count, sizeof(kith_id));
        at += search->lists[query].count;
    }
    return (kith_id *)(void *)begin;
}

/* Hits by query -> one row of ids and one of scores. The lists are used up. */
static void hits_flatten(search_run *run, kith_api_search_result *result) {
    kith_query_search *search = &run->search;
    kith_arena *arena = search->base.arena;
    kith_metric metric = field_of(run)->metric;
    uint32_t *counts = kith_arena_array(arena, search->query_count, sizeof *counts);
    kith_id *ids = ids_place(search);
    float *scores = kith_arena_array(arena, search->hit_count, sizeof *scores);
    uint32_t at = 0;
    for (uint32_t query = 0; query < search->query_count; query++) {
        const kith_hits *list = &search->lists[query];
        counts[query] = list->count;
        for (uint32_t i = 0; i < list->count; i++, at++) {
            kith_hit hit = list->hits[i];
            ids[at] = hit.id;
            scores[at] = kith_score_of_closeness(metric, hit.closeness);
        }
    }
    *result = (kith_api_search_result){
        .query_count = search->query_count,
        .hit_counts = counts,
        .hit_count = search->hit_count,
        .ids = ids,
        .scores = scores,
        .payloads = search->payloads,
        .payload_bytes = search->payload_bytes,
        .coverage = kith_api_coverage_of(&search->coverage, arena),
    };
}

/* The plan with it: what was asked, over how much, and which part of it was answered. */
static void slow_log(const search_run *run, kith_status status, uint64_t took_ns) {
    const kith_api *api = run->run.api;
    if (took_ns < atomic_load_explicit(&api->slow_search_ns, memory_order_relaxed)) return;
    const kith_query_search *search = &run->search;
    kith_log_warn("search_slow", kith_kv_text("collection", run->run.entry->collection.name),
        kith_kv_text("field", field_of(run)->name), kith_kv_u64("took_us", took_ns / 1000),
        kith_kv_u64("queries", search->query_count), kith_kv_u64("k", search->k),
        kith_kv_u64("shards", run->run.entry->collection.shard_count),
        kith_kv_u64("shards_answered", search->coverage.shards_answered),
        kith_kv_u64("hits", search->hit_count), kith_kv_text("status", kith_status_name(status)),
        kith_kv_u64("map_version", run->run.map->version));
}

static void observe(const search_run *run, kith_status status) {
    const kith_api *api = run->run.api;
    uint64_t took_ns = kith_env_now_ns(api->options.env) - run->run.entered_ns;
    slow_log(run, status, took_ns);
    if (!api->options.searched) return;
    const kith_query_coverage *coverage = &run->search.coverage;
    kith_api_search_sample sample = {
        .status = status,
        .took_ns = took_ns,
        .query_count = run->search.query_count,
        .partial = status == KITH_OK && coverage->shards_answered < coverage->shards_total,
    };
    api->options.searched(api->options.ctx, &sample);
}

static void search_again(kith_api *api, kith_api_call *call) {
    kith_api_search_call *search = (kith_api_search_call *)call;
    kith_err err;
    kith_status status = kith_api_search(api, search, &err);
    if (status != KITH_OK) search->done(search, status, NULL, &err);
}

static void search_done(kith_query_search *search, kith_status status, const kith_err *err) {
    search_run *run = (search_run *)(void *)((char *)search - offsetof(search_run, search));
    kith_api_search_call *call = run->call;
    kith_api *api = run->run.api;
    uint64_t admitted = run->result_bytes;
    kith_status wanting =
        status == KITH_OK ? kith_api_coverage_status(&run->run, &call->call, &search->coverage) : status;
    if (kith_api_starts_again(&run->run, &call->call, wanting, search_again)) {
        kith_api_admit_less(api, KITH_API_READ, admitted);
        return;
    }
    kith_api_search_result result = {0};
    if (status == KITH_OK) hits_flatten(run, &result);
    observe(run, status);
    uint64_t result_bytes = run->result_bytes;
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, status == KITH_OK ? &result : NULL, err);
    kith_api_admit_less(entered.api, KITH_API_READ, result_bytes); /* now they are encoded */
    kith_api_leave(&entered);
}

static kith_status search_enter(search_run *run, kith_api *api, kith_err *err) {
    kith_api_search_call *call = run->call;
    kith_status status = kith_api_enter(api, &call->call, KITH_API_READ, call->queries_bytes,
        call->collection, call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    status = search_check(run, err);
    if (status == KITH_OK) {
        status = kith_api_tokens_place(
            &call->promise, &run->run.entry->collection, call->call.arena, &run->tokens, err);
    }
    if (status == KITH_OK) status = results_admit(run, err);
    if (status != KITH_OK) kith_api_leave(&run->run);
    return status;
}

kith_status kith_api_search(kith_api *api, kith_api_search_call *call, kith_err *err) {
    search_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status = search_enter(run, api, err);
    if (status != KITH_OK) {
        kith_api_search_sample sample = {.status = status};
        if (api->options.searched) api->options.searched(api->options.ctx, &sample);
        return status;
    }
    run->search.base = kith_api_query_base(&run->run, &call->call);
    run->search.base.read = call->promise.read;
    run->search.base.tokens = run->tokens;
    run->search.k = call->k;
    run->search.exact = call->exact;
    run->search.strict = call->strict;
    run->search.with_payload = call->with_payload;
    run->search.payload_bytes_max = api->options.message_bytes_max;
    run->search.done = search_done;
    kith_query_search_start(&run->search);
    return KITH_OK;
}
