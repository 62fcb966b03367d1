/* Search: checks, then host/query. */
#include <string.h>

#include "host/api/api_internal.h"
#include "host/base/log.h"

typedef struct search_run {
    kith_api_run run;
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
    const float *queries = kith_api_floats(call->queries, call->queries_bytes, call->call.arena);
    for (uint64_t i = 0; i < rows; i++) {
        status = kith_api_query_check(queries + i * field->dim, field, err);
        if (status != KITH_OK) return kith_err_wrap(err, status, "queries[%llu]", (unsigned long long)i);
    }
    run->search.field_index = field_index;
    run->search.queries = queries;
    run->search.query_count = (uint32_t)rows;
    return KITH_OK;
}

/* Hits by query -> one row of ids and one of scores. */
static void hits_flatten(search_run *run, kith_api_search_result *result) {
    kith_query_search *search = &run->search;
    kith_arena *arena = run->call->call.arena;
    kith_metric metric = field_of(run)->metric;
    uint32_t *counts = kith_arena_array(arena, search->query_count, sizeof *counts);
    kith_id *ids = kith_arena_array(arena, search->hit_count, sizeof *ids);
    float *scores = kith_arena_array(arena, search->hit_count, sizeof *scores);
    uint32_t at = 0;
    for (uint32_t query = 0; query < search->query_count; query++) {
        const kith_hits *list = &search->lists[query];
        counts[query] = list->count;
        for (uint32_t i = 0; i < list->count; i++, at++) {
            ids[at] = list->hits[i].id;
            scores[at] = kith_score_of_closeness(metric, list->hits[i].closeness);
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

static void search_done(kith_query_search *search, kith_status status, const kith_err *err) {
    search_run *run = (search_run *)(void *)((char *)search - offsetof(search_run, search));
    kith_api_search_call *call = run->call;
    kith_api_search_result result = {0};
    if (status == KITH_OK) hits_flatten(run, &result);
    observe(run, status);
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, status == KITH_OK ? &result : NULL, err);
    kith_api_leave(&entered);
}

static kith_status search_enter(search_run *run, kith_api *api, kith_err *err) {
    kith_api_search_call *call = run->call;
    kith_status status = kith_api_enter(api, &call->call, KITH_API_READ, call->queries_bytes,
        call->collection, call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    status = search_check(run, err);
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
    run->search.k = call->k;
    run->search.exact = call->exact;
    run->search.strict = call->strict;
    run->search.with_payload = call->with_payload;
    run->search.payload_bytes_max = api->options.message_bytes_max;
    run->search.done = search_done;
    kith_query_search_start(&run->search);
    return KITH_OK;
}
