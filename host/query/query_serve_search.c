/* One search over some shards of this node: run on each, merged here, answered once.
 *
 * With one shard its hits are encoded where they lie. With several each keeps a copy, because hits are only lent. */
#include <string.h>

#include "host/query/query_serve_internal.h"

/* 8 shards of 125 rows: 42 us instead of 106 us handed over (2 cores, f32, dim 128, 2026-11-21). What one shard may take
 * inline is the shard's own limit. */
#define INLINE_NS_MAX 50000u

typedef struct search_run search_run;

typedef struct search_shard {
    kith_shard_search search;
    search_run *run;
    kith_shard *shard;
    kith_status status;
    const char *message;
    const kith_hits *kept; /* [query_count], when there are several shards */
} search_shard;

/* In the request's arena. */
struct search_run {
    serve_request *own;
    kith_codec_shard_search_request request;
    search_shard *shards;
    uint64_t began_ns;
    _Atomic uint32_t remaining; /* shards, and one for the starter */
    kith_mutex mutex; /* over the arena: shards end on several search threads, and copy hits into it */
};

static void response_encode(search_run *run, const kith_hits *lists) {
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
}

/* Lists of several shards -> one a query. No shard that answered: empty ones. */
static const kith_hits *lists_merge(search_run *run) {
    kith_arena *arena = &run->own->arena;
    uint32_t shard_count = run->request.shard_count, k = run->request.k;
    kith_hits *lists = kith_arena_array(arena, run->request.query_count, sizeof *lists);
    kith_hits *scratch = kith_arena_array(arena, shard_count, sizeof *scratch);
    for (uint32_t query = 0; query < run->request.query_count; query++) {
        uint32_t list_count = 0;
        uint64_t hit_count = 0;
        for (uint32_t i = 0; i < shard_count; i++) {
            if (run->shards[i].status != KITH_OK) continue;
            scratch[list_count] = run->shards[i].kept[query];
            hit_count += scratch[list_count++].count;
        }
        uint32_t most = hit_count < k ? (uint32_t)hit_count : k;
        kith_hit *hits = kith_arena_array(arena, most, sizeof *hits);
        lists[query].hits = hits;
        lists[query].count = most ? kith_hits_merge(scratch, list_count, most, hits) : 0;
    }
    return lists;
}

static void shards_release(search_run *run) {
    for (uint32_t i = 0; i < run->request.shard_count; i++) {
        if (run->shards[i].shard)
            kith_shard_set_release(run->own->serve->options.shards, run->shards[i].shard);
    }
}

static void run_part_done(search_run *run) {
    /* acq_rel: the last one sees what the others kept. */
    if (atomic_fetch_sub_explicit(&run->remaining, 1, memory_order_acq_rel) != 1) return;
    bool single_done = run->request.shard_count == 1 && run->shards[0].status == KITH_OK;
    if (!single_done)
        response_encode(run, lists_merge(run)); /* else it was encoded while its hits were lent */
    shards_release(run);
    kith_mutex_fini(&run->mutex);
    serve_request_answer(run->own, KITH_OK, NULL);
}

static const kith_hits *hits_keep(search_run *run, const kith_hits *hits) {
    kith_arena *arena = &run->own->arena;
    uint32_t query_count = run->request.query_count;
    kith_hits *kept = kith_arena_array(arena, query_count, sizeof *kept);
    for (uint32_t query = 0; query < query_count; query++) {
        uint32_t count = hits[query].count;
        kith_hit *copies = kith_arena_array(arena, count, sizeof *copies);
        if (count > 0) memcpy(copies, hits[query].hits, count * sizeof *copies);
        for (uint32_t i = 0; i < count; i++) {
            kith_id *id = &copies[i].id;
            if (id->type == KITH_ID_NUMBER) continue;
            id->bytes = kith_arena_copy(arena, id->bytes, id->type == KITH_ID_UUID ? 16 : id->text_bytes);
        }
        kept[query] = (kith_hits){.hits = copies, .count = count};
    }
    return kept;
}

static void shard_fail(search_shard *shard, kith_status status, const char *message) {
    search_run *run = shard->run;
    kith_mutex_lock(&run->mutex);
    shard->status = status;
    shard->message = kith_arena_text(&run->own->arena, message, strlen(message));
    kith_mutex_unlock(&run->mutex);
}

static void shard_done(
    kith_shard_search *search, kith_status status, const kith_hits *hits, const kith_err *err) {
    search_shard *shard = (search_shard *)search;
    search_run *run = shard->run;
    if (status != KITH_OK) {
        shard_fail(shard, status, err->text);
    } else if (run->request.shard_count == 1) {
        shard->status = KITH_OK;
        response_encode(run, hits);
    } else {
        kith_mutex_lock(&run->mutex);
        shard->status = KITH_OK;
        shard->kept = hits_keep(run, hits);
        kith_mutex_unlock(&run->mutex);
    }
    run_part_done(run);
}

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

/* Small shards are searched here one after the other while that is quicker than waking other threads; the last one always,
 * for then there is nothing left to hand out. */
static bool inline_is_cheaper(const search_run *run, uint32_t index) {
    if (index + 1 == run->request.shard_count) return true;
    return kith_env_now_ns(run->own->serve->options.env) - run->began_ns < INLINE_NS_MAX;
}

static void shard_start(search_run *run, uint32_t index) {
    search_shard *shard = &run->shards[index];
    kith_err err;
    shard->run = run;
    kith_status status =
        serve_shard_find(run->own->serve, run->request.shard_ids[index], &shard->shard, &err);
    if (status == KITH_OK) status = request_fits(run, shard->shard, &err);
    if (status != KITH_OK) {
        shard_fail(shard, status, err.text);
        run_part_done(run);
        return;
    }
    shard->search = (kith_shard_search){
        .field_index = run->request.field_index,
        .queries = run->request.queries,
        .query_count = run->request.query_count,
        .k = run->request.k,
        .deadline_ns = run->own->request->deadline_ns,
        .cancelled = run->own->request->cancelled,
        .may_run_inline = inline_is_cheaper(run, index),
        .done = shard_done,
    };
    kith_shard_search_start(shard->shard, &shard->search);
}

void serve_search(void *ctx, kith_transport_request *request) {
    serve_request *own = serve_request_begin(ctx, request);
    search_run *run = kith_arena_alloc_zero(&own->arena, sizeof *run);
    run->own = own;
    run->began_ns = kith_env_now_ns(own->serve->options.env);
    kith_err err;
    kith_status status = kith_codec_shard_search_request_decode(
        request->bytes, request->byte_count, &own->arena, &run->request, &err);
    if (status != KITH_OK) {
        serve_request_answer(own, status, &err);
        return;
    }
    uint32_t shard_count = run->request.shard_count;
    run->shards = kith_arena_alloc_zero(&own->arena, shard_count * sizeof *run->shards);
    kith_mutex_init(&run->mutex, KITH_RANK_QUERY);
    atomic_init(&run->remaining, shard_count + 1);
    for (uint32_t i = 0; i < shard_count; i++)
        shard_start(run, i);
    run_part_done(run);
}
