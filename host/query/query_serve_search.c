/* One search over some shards of this node: run on each, merged here, answered once.
 *
 * With one shard its hits are encoded where they lie. With several they are gathered (query_gather.c), because hits are
 * only lent; their ids stay where they are, in views that are held until the answer.
 *
 * Memory: only so many shards search at once as may make lists of hits at once. Each of these is a lane, which begins its
 * next shard when one has ended. */
#include <string.h>

#include "host/query/query_gather.h"
#include "host/query/query_serve_internal.h"

/* 8 shards of 125 rows: 42 us instead of 106 us handed over (2 cores, f32, dim 128, 2026-11-21). What one shard may take
 * inline is the shard's own limit. */
#define INLINE_NS_MAX 50000u

/* An answer with more hits goes on in a task of its own, so that the shard's lists are freed before it is read again. */
#define ANSWER_HERE_HITS_MAX (64u << 10)

typedef struct search_run search_run;

typedef struct search_lane {
    search_run *run;
    /* Who started the lane's shard and who ended it each set this; the second goes on with the next shard. */
    atomic_bool passed;
} search_lane;

typedef struct search_shard {
    kith_shard_search search;
    search_run *run;
    search_lane *lane;
    kith_shard *shard;
    kith_status status;
    const char *message;
    bool is_held; /* its search is to be released */
} search_shard;

/* In the request's arena. */
struct search_run {
    kith_task task; /* the answer of many hits */
    serve_request *own;
    kith_codec_shard_search_request request;
    search_shard *shards;
    search_lane *lanes;
    uint64_t began_ns;
    _Atomic uint32_t shard_next; /* what lanes pull */
    _Atomic uint32_t remaining;  /* lanes, and one for the starter */
    kith_mutex mutex;            /* over gather and arena: shards end on several search threads */
    kith_query_gather gather;    /* with several shards */
};

/* Ids of many hits may be longer than any answer to a client: found before they are written. */
static kith_status ids_fit(const search_run *run, const kith_hits *lists, kith_err *err) {
    uint64_t bytes = 0;
    if ((uint64_t)run->request.query_count * run->request.k <= KITH_MESSAGE_BYTES_MAX / KITH_ID_BYTES_MAX)
        return KITH_OK;
    for (uint32_t query = 0; query < run->request.query_count; query++) {
        for (uint32_t i = 0; i < lists[query].count; i++)
            bytes += lists[query].hits[i].id.text_bytes;
    }
    if (bytes <= KITH_MESSAGE_BYTES_MAX) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "ids of the hits have %llu bytes; an answer has at most %u: ask for fewer queries or a smaller k",
        (unsigned long long)bytes, KITH_MESSAGE_BYTES_MAX);
}

static kith_status response_encode(search_run *run, const kith_hits *lists, kith_err *err) {
    kith_status status = ids_fit(run, lists, err);
    if (status != KITH_OK) return status;
    uint32_t shard_count = run->request.shard_count;
    kith_codec_shard_status *statuses = kith_arena_array(&run->own->arena, shard_count, sizeof *statuses);
    for (uint32_t i = 0; i < shard_count; i++) {
        const search_shard *shard = &run->shards[i];
        statuses[i] = (kith_codec_shard_status){
            .shard_id = run->request.shard_ids[i],
            .status = shard->status,
            .message = shard->status == KITH_OK ? "" : shard->message,
        };
    }
    kith_codec_shard_search_response response = {
        .query_count = run->request.query_count,
        .lists = lists,
        .shard_count = shard_count,
        .shards = statuses,
    };
    kith_codec_shard_search_response_encode(&response, &run->own->reply);
    return KITH_OK;
}

static void shards_release(search_run *run) {
    for (uint32_t i = 0; i < run->request.shard_count; i++) {
        search_shard *shard = &run->shards[i];
        if (shard->is_held) kith_shard_search_release(&shard->search);
        if (shard->shard) kith_shard_set_release(run->own->serve->options.shards, shard->shard);
    }
}

/* OK, or why the hits of several shards are no answer. */
static kith_status gathered_encode(search_run *run, kith_err *err) {
    const kith_hits *lists;
    kith_status status = kith_query_gather_finish(&run->gather, &lists, err);
    if (status == KITH_OK) status = response_encode(run, lists, err);
    return status;
}

static void run_answer(search_run *run) {
    kith_err err;
    kith_status status = KITH_OK;
    bool is_encoded = run->request.shard_count == 1 && run->shards[0].status == KITH_OK;
    if (!is_encoded) status = gathered_encode(run, &err);
    kith_query_gather_fini(&run->gather); /* before the answer is given: who asked makes lists of it again */
    shards_release(run);
    kith_mutex_fini(&run->mutex);
    serve_request_answer(run->own, status, status == KITH_OK ? NULL : &err);
}

static void run_answer_task(kith_task *task) {
    run_answer((search_run *)task);
}

static void run_part_done(search_run *run) {
    /* acq_rel: the last one sees what the others gathered. */
    if (atomic_fetch_sub_explicit(&run->remaining, 1, memory_order_acq_rel) != 1) return;
    if ((uint64_t)run->request.query_count * run->request.k <= ANSWER_HERE_HITS_MAX) {
        run_answer(run);
        return;
    }
    run->task.run = run_answer_task;
    kith_executor_post(run->own->serve->options.search, &run->task);
}

/* --- a shard --- */

static void shard_fail(search_shard *shard, kith_status status, const char *message) {
    search_run *run = shard->run;
    kith_mutex_lock(&run->mutex);
    shard->status = status;
    shard->message = kith_arena_text(&run->own->arena, message, strlen(message));
    kith_mutex_unlock(&run->mutex);
}

static kith_status hits_take(search_shard *shard, const kith_hits *hits, kith_err *err) {
    search_run *run = shard->run;
    if (run->request.shard_count == 1) return response_encode(run, hits, err);
    shard->is_held = true;
    kith_mutex_lock(&run->mutex);
    kith_status status = kith_query_gather_add(&run->gather, hits, err);
    kith_mutex_unlock(&run->mutex);
    return status;
}

static void lane_run(search_lane *lane);

static void shard_done(
    kith_shard_search *search, kith_status status, const kith_hits *hits, const kith_err *err) {
    search_shard *shard = (search_shard *)search;
    kith_err own_err;
    if (status == KITH_OK) {
        err = &own_err;
        status = hits_take(shard, hits, &own_err);
    }
    if (status != KITH_OK) shard_fail(shard, status, err->text);
    /* acq_rel: pairs with the exchange in lane_run. */
    if (atomic_exchange_explicit(&shard->lane->passed, true, memory_order_acq_rel)) lane_run(shard->lane);
}

/* Small shards are searched here one after the other while that is quicker than waking other threads; the last one always,
 * for then there is nothing left to hand out. */
static bool inline_is_cheaper(const search_run *run, uint32_t index) {
    if (index + 1 == run->request.shard_count) return true;
    return kith_env_now_ns(run->own->serve->options.env) - run->began_ns < INLINE_NS_MAX;
}

static void shard_start(search_run *run, uint32_t index, search_lane *lane) {
    search_shard *shard = &run->shards[index];
    shard->lane = lane;
    shard->search = (kith_shard_search){
        .field_index = run->request.field_index,
        .queries = run->request.queries,
        .query_count = run->request.query_count,
        .k = run->request.k,
        .deadline_ns = run->own->request->deadline_ns,
        .cancelled = run->own->request->cancelled,
        .may_run_inline = inline_is_cheaper(run, index),
        .hold_ids = run->request.shard_count > 1,
        .done = shard_done,
    };
    kith_shard_search_start(shard->shard, &shard->search);
}

/* Starts shards until one is under way, or none is left. */
static void lane_run(search_lane *lane) {
    search_run *run = lane->run;
    for (;;) {
        uint32_t index = atomic_fetch_add_explicit(&run->shard_next, 1, memory_order_relaxed);
        if (index >= run->request.shard_count) break;
        if (run->shards[index].status != KITH_OK) continue;
        atomic_store_explicit(&lane->passed, false, memory_order_relaxed);
        shard_start(run, index, lane);
        if (!atomic_exchange_explicit(&lane->passed, true, memory_order_acq_rel)) return;
    }
    run_part_done(run);
}

/* --- start --- */

/* A peer may be of another opinion about the collection: what it sends must fit the shard. */
static kith_status request_fits(const search_run *run, const kith_shard *shard, kith_err *err) {
    const kith_schema *schema = kith_shard_schema(shard);
    const kith_codec_shard_search_request *request = &run->request;
    if (request->field_index >= schema->field_count) {
        return kith_err_set(err, KITH_INVALID, "field %u is not one of the shard's %u", request->field_index,
            schema->field_count);
    }
    uint32_t dim = schema->fields[request->field_index].dim;
    if (request->dim == dim) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "queries have dim %u, the shard's field has %u", request->dim, dim);
}

static void shard_find(search_run *run, const serve_waits *waits, uint32_t index) {
    search_shard *shard = &run->shards[index];
    kith_err err;
    shard->run = run;
    kith_status status = serve_wait_status(waits, index, &err);
    if (status == KITH_OK)
        status = serve_shard_find(run->own->serve, run->request.shard_ids[index], &shard->shard, &err);
    if (status == KITH_OK) status = request_fits(run, shard->shard, &err);
    if (status != KITH_OK) shard_fail(shard, status, err.text);
}

/* Small shards make short lists, whatever k is; looked at only when it matters. */
static uint32_t lane_count_of(const search_run *run) {
    const kith_codec_shard_search_request *request = &run->request;
    uint64_t hit_count = (uint64_t)request->query_count * request->k, rows_most = 0;
    if (hit_count * request->shard_count <= KITH_QUERY_LANE_HITS_MAX) return request->shard_count;
    for (uint32_t i = 0; i < request->shard_count && rows_most < request->k; i++) {
        uint64_t rows = run->shards[i].shard ? kith_shard_count(run->shards[i].shard) : 0;
        if (rows > rows_most) rows_most = rows;
    }
    if (rows_most < request->k) hit_count = request->query_count * rows_most;
    return kith_query_lane_count(hit_count, request->shard_count);
}

static void run_start(serve_waits *waits) {
    search_run *run = waits->ctx;
    kith_arena *arena = &run->own->arena;
    uint32_t shard_count = run->request.shard_count;
    run->began_ns = kith_env_now_ns(run->own->serve->options.env);
    run->shards = kith_arena_alloc_zero(arena, shard_count * sizeof *run->shards);
    kith_mutex_init(&run->mutex, KITH_RANK_QUERY);
    kith_query_gather_init(&run->gather, run->request.query_count, run->request.k);
    for (uint32_t i = 0; i < shard_count; i++)
        shard_find(run, waits, i);
    serve_waits_free(waits);
    uint32_t lane_count = lane_count_of(run);
    run->lanes = kith_arena_alloc_zero(arena, lane_count * sizeof *run->lanes);
    atomic_init(&run->remaining, lane_count + 1);
    for (uint32_t i = 0; i < lane_count; i++) {
        run->lanes[i].run = run;
        lane_run(&run->lanes[i]);
    }
    run_part_done(run);
}

void serve_search(void *ctx, kith_transport_request *request) {
    serve_request *own = serve_request_begin(ctx, request);
    search_run *run = kith_arena_alloc_zero(&own->arena, sizeof *run);
    run->own = own;
    kith_err err;
    kith_status status = kith_codec_shard_search_request_decode(
        request->bytes, request->byte_count, &own->arena, &run->request, &err);
    if (status != KITH_OK) {
        serve_request_answer(own, status, &err);
        return;
    }
    const kith_codec_shard_search_request *decoded = &run->request;
    if (serve_map_await(own, decoded->map_version, decoded->shard_ids, decoded->shard_count, serve_search))
        return;
    serve_waits_start(own,
        &(serve_wait_request){.shard_ids = decoded->shard_ids,
            .shard_count = decoded->shard_count,
            .read = decoded->read,
            .tokens = decoded->tokens,
            .ctx = run},
        run_start);
}
