/* Get, scroll and count: checks, then host/query; stored vectors are shown as f32. */
#include <string.h>

#include "host/api/api_internal.h"
#include "kernels/compute.h"

#define SCROLL_LIMIT_DEFAULT 1000u

typedef struct get_run {
    kith_api_run run;
    kith_api_points_call *call;
    kith_query_get get;
} get_run;

typedef struct scroll_run {
    kith_api_run run;
    kith_api_points_call *call;
    kith_query_scroll scroll;
} scroll_run;

typedef struct count_run {
    kith_api_run run;
    kith_api_count_call *call;
    kith_query_count count;
} count_run;

/* The base of a query over the run's collection that keeps `promise`. */
static kith_status read_base(kith_api_run *run, kith_api_call *call, const kith_read_promise *promise,
    kith_query_base *base_out, kith_err *err) {
    const uint64_t *tokens;
    kith_status status = kith_api_tokens_place(promise, &run->entry->collection, call->arena, &tokens, err);
    if (status != KITH_OK) return status;
    *base_out = kith_api_query_base(run, call);
    base_out->read = promise->read;
    base_out->tokens = tokens;
    return KITH_OK;
}

static void point_show(
    const kith_query_point *stored, const kith_schema *schema, kith_arena *arena, kith_api_point *shown) {
    *shown = (kith_api_point){
        .id = stored->id, .payload = stored->payload, .payload_bytes = stored->payload_bytes};
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if (!stored->vectors[i]) continue;
        const kith_field *field = &schema->fields[i];
        float *values = kith_arena_array(arena, field->dim, sizeof *values);
        kith_vector_load(stored->vectors[i], field->dim, field->type, values);
        shown->vectors[i] = values;
    }
}

/* Points [count], NULLs left out. */
static kith_api_point *points_show(const kith_query_point *const *stored, uint32_t count,
    const kith_schema *schema, kith_arena *arena, uint32_t *count_out) {
    kith_api_point *points = kith_arena_array(arena, count, sizeof *points);
    *count_out = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (stored[i]) point_show(stored[i], schema, arena, &points[(*count_out)++]);
    }
    return points;
}

static kith_status answer_bytes_check(
    const kith_api *api, const kith_schema *schema, uint32_t count, bool with_vectors, kith_err *err) {
    uint64_t row_bytes = 0;
    for (uint32_t i = 0; i < schema->field_count; i++)
        row_bytes += 4 * (uint64_t)schema->fields[i].dim;
    uint64_t bytes = with_vectors ? row_bytes * count : 0;
    if (bytes <= api->options.message_bytes_max) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "%u points with vectors of %llu bytes are more than the %llu bytes of one answer", count,
        (unsigned long long)row_bytes, (unsigned long long)api->options.message_bytes_max);
}

static void get_again(kith_api *api, kith_api_call *call) {
    kith_api_points_call *get = (kith_api_points_call *)call;
    kith_err err;
    kith_status status = kith_api_get(api, get, &err);
    if (status != KITH_OK) get->done(get, status, NULL, NULL, 0, NULL, &err);
}

static void get_done(kith_query_get *get, kith_status status, const kith_err *err) {
    get_run *run = (get_run *)(void *)((char *)get - offsetof(get_run, get));
    kith_api_points_call *call = run->call;
    if (kith_api_starts_again(&run->run, &call->call, status, get_again)) return;
    const kith_schema *schema = &run->run.entry->collection.schema;
    kith_err own;
    uint32_t count = 0;
    kith_api_point *points = NULL;
    if (status == KITH_OK) {
        for (uint32_t i = 0; i < get->id_count; i++)
            count += get->points[i] != NULL;
        status = answer_bytes_check(run->run.api, schema, count, call->with_vectors, &own);
        if (status != KITH_OK) err = &own;
    }
    if (status == KITH_OK)
        points = points_show(get->points, get->id_count, schema, get->base.arena, &count);
    else
        count = 0;
    /* The map outlives the schema that `done` is shown. */
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, schema, points, count, NULL, err);
    kith_api_leave(&entered);
}

kith_status kith_api_get(kith_api *api, kith_api_points_call *call, kith_err *err) {
    get_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status = kith_api_enter(api, &call->call, KITH_API_READ, call->id_count * sizeof *call->ids,
        call->collection, call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    kith_query_base base;
    status = kith_api_count_check("number of ids", call->id_count, KITH_BATCH_POINTS_MAX, err);
    if (status == KITH_OK) status = read_base(&run->run, &call->call, &call->promise, &base, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    run->get = (kith_query_get){
        .base = base,
        .ids = call->ids,
        .id_count = call->id_count,
        .with_payload = call->with_payload,
        .with_vectors = call->with_vectors,
        .bytes_max = api->options.message_bytes_max,
        .done = get_done,
    };
    kith_query_get_start(&run->get);
    return KITH_OK;
}

static void scroll_again(kith_api *api, kith_api_call *call) {
    kith_api_points_call *scroll = (kith_api_points_call *)call;
    kith_err err;
    kith_status status = kith_api_scroll(api, scroll, &err);
    if (status != KITH_OK) scroll->done(scroll, status, NULL, NULL, 0, NULL, &err);
}

static void scroll_done(kith_query_scroll *scroll, kith_status status, const kith_err *err) {
    scroll_run *run = (scroll_run *)(void *)((char *)scroll - offsetof(scroll_run, scroll));
    kith_api_points_call *call = run->call;
    if (kith_api_starts_again(&run->run, &call->call, status, scroll_again)) return;
    const kith_schema *schema = &run->run.entry->collection.schema;
    uint32_t count = 0;
    kith_api_point *points = NULL;
    if (status == KITH_OK)
        points = points_show(scroll->points, scroll->count, schema, scroll->base.arena, &count);
    const kith_id *next = status == KITH_OK && scroll->has_next ? &scroll->next : NULL;
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, schema, points, count, next, err);
    kith_api_leave(&entered);
}

kith_status kith_api_scroll(kith_api *api, kith_api_points_call *call, kith_err *err) {
    scroll_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status = kith_api_enter(
        api, &call->call, KITH_API_READ, 0, call->collection, call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    uint32_t limit = call->limit ? call->limit : SCROLL_LIMIT_DEFAULT;
    kith_query_base base;
    status = kith_api_count_check("limit", limit, KITH_SCROLL_POINTS_MAX, err);
    if (status == KITH_OK) status = read_base(&run->run, &call->call, &call->promise, &base, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    run->scroll = (kith_query_scroll){
        .base = base,
        .has_from = call->has_from,
        .from = call->from,
        .limit = limit,
        .with_payload = call->with_payload,
        .with_vectors = call->with_vectors,
        /* A quarter is left for what the protocol adds around the points. */
        .bytes_max = api->options.message_bytes_max / 4 * 3,
        .done = scroll_done,
    };
    kith_query_scroll_start(&run->scroll);
    return KITH_OK;
}

static void count_again(kith_api *api, kith_api_call *call) {
    kith_api_count_call *count = (kith_api_count_call *)call;
    kith_err err;
    kith_status status = kith_api_count(api, count, &err);
    if (status != KITH_OK) count->done(count, status, 0, &(kith_api_coverage){0}, &err);
}

static void count_done(kith_query_count *count, kith_status status, const kith_err *err) {
    count_run *run = (count_run *)(void *)((char *)count - offsetof(count_run, count));
    kith_api_count_call *call = run->call;
    kith_status wanting =
        status == KITH_OK ? kith_api_coverage_status(&run->run, &call->call, &count->coverage) : status;
    if (kith_api_starts_again(&run->run, &call->call, wanting, count_again)) return;
    kith_api_coverage coverage = kith_api_coverage_of(&count->coverage, call->call.arena);
    uint64_t points = count->points;
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, status == KITH_OK ? points : 0, &coverage, err);
    kith_api_leave(&entered);
}

kith_status kith_api_count(kith_api *api, kith_api_count_call *call, kith_err *err) {
    count_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status = kith_api_enter(
        api, &call->call, KITH_API_READ, 0, call->collection, call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    status = read_base(&run->run, &call->call, &call->promise, &run->count.base, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    run->count.done = count_done;
    kith_query_count_start(&run->count);
    return KITH_OK;
}
