#include "host/query/query_serve.h"

#include "host/base/alloc.h"
#include "host/query/query_serve_internal.h"

/* A reply that needed more is not kept for the next request. */
#define SERVE_REPLY_KEEP_BYTES (1u << 20)

serve_request *serve_request_begin(kith_query_serve *serve, kith_transport_request *request) {
    kith_mutex_lock(&serve->pool_mutex);
    serve_request *own = serve->pool;
    if (own) {
        serve->pool = own->next;
        serve->pool_count--;
    }
    kith_mutex_unlock(&serve->pool_mutex);
    if (!own) {
        own = kith_alloc_zero(sizeof *own);
        kith_arena_init(&own->arena);
        kith_buf_init(&own->reply);
    }
    own->serve = serve;
    own->request = request;
    own->shard = NULL;
    return own;
}

static void request_destroy(serve_request *own) {
    kith_arena_fini(&own->arena);
    kith_buf_fini(&own->reply);
    kith_free(own);
}

static void request_end(serve_request *own) {
    kith_query_serve *serve = own->serve;
    kith_arena_reset(&own->arena);
    if (own->reply.capacity_bytes > SERVE_REPLY_KEEP_BYTES) {
        kith_buf_fini(&own->reply);
        kith_buf_init(&own->reply);
    }
    kith_buf_clear(&own->reply);
    kith_mutex_lock(&serve->pool_mutex);
    bool keep = serve->pool_count < SERVE_POOL_MAX;
    if (keep) {
        own->next = serve->pool;
        serve->pool = own;
        serve->pool_count++;
    }
    kith_mutex_unlock(&serve->pool_mutex);
    if (!keep) request_destroy(own);
}

void serve_request_answer(serve_request *own, kith_status status, const kith_err *err) {
    kith_transport *transport = own->serve->options.transport;
    if (own->shard) kith_shard_set_release(own->serve->options.shards, own->shard);
    own->shard = NULL;
    if (status == KITH_OK) {
        kith_transport_reply(own->request, transport, KITH_OK, own->reply.data, own->reply.bytes, NULL);
    } else {
        kith_transport_reply(own->request, transport, status, NULL, 0, err);
    }
    request_end(own);
}

/* --- shards that are not here --- */

static uint64_t map_version_here(const kith_query_serve *serve) {
    kith_meta_map *map = kith_meta_map_get(serve->options.meta);
    uint64_t version = map->version;
    kith_meta_map_release(map);
    return version;
}

kith_status serve_shard_find(
    kith_query_serve *serve, uint64_t shard_id, kith_shard **shard_out, kith_err *err) {
    kith_shard *shard = kith_shard_set_find(serve->options.shards, shard_id);
    if (!shard) {
        return kith_err_set(
            err, KITH_STALE_MAP, "shard %llu is not on this node", (unsigned long long)shard_id);
    }
    *shard_out = shard;
    return KITH_OK;
}

static bool shards_are_here(kith_query_serve *serve, const uint64_t *shard_ids, uint32_t shard_count) {
    for (uint32_t i = 0; i < shard_count; i++) {
        kith_shard *shard = kith_shard_set_find(serve->options.shards, shard_ids[i]);
        if (!shard) return false;
        kith_shard_set_release(serve->options.shards, shard);
    }
    return true;
}

/* On the search executor, where requests may wait for shards. */
static void map_came(kith_task *task) {
    serve_request *own = (serve_request *)(void *)((char *)task - offsetof(serve_request, task));
    kith_query_serve *serve = own->serve;
    kith_transport_request *request = own->request;
    void (*again)(void *ctx, kith_transport_request *request) = own->again;
    request_end(own);
    again(serve, request);
}

static void map_waited(kith_meta_wait *wait, kith_status status, const kith_err *err) {
    serve_request *own = (serve_request *)(void *)((char *)wait - offsetof(serve_request, wait));
    if (status != KITH_OK) {
        serve_request_answer(own, status, err);
        return;
    }
    own->task.run = map_came;
    kith_executor_post(own->serve->options.search, &own->task);
}

bool serve_map_await(serve_request *own, uint64_t map_version, const uint64_t *shard_ids,
    uint32_t shard_count, void (*again)(void *ctx, kith_transport_request *request)) {
    kith_query_serve *serve = own->serve;
    if (!serve->options.meta || map_version <= map_version_here(serve)) return false;
    if (shards_are_here(serve, shard_ids, shard_count)) return false;
    own->again = again;
    own->wait = (kith_meta_wait){
        .map_version = map_version, .deadline_ns = own->request->deadline_ns, .done = map_waited};
    kith_meta_wait_start(serve->options.meta, &own->wait);
    return true;
}

kith_query_serve *kith_query_serve_create(const kith_query_serve_options *options) {
    kith_query_serve *serve = kith_alloc_zero(sizeof *serve);
    serve->options = *options;
    kith_mutex_init(&serve->pool_mutex, KITH_RANK_QUERY);
    /* On the caller's thread: a search that is cheaper than a hand-over ends there, any other goes to the search
     * executor in parts. */
    kith_transport_handle(options->transport, KITH_AM_SEARCH, NULL, serve_search, serve);
    kith_transport_handle(options->transport, KITH_AM_COUNT, options->search, serve_count, serve);
    kith_transport_handle(options->transport, KITH_AM_READ, options->search, serve_read, serve);
    kith_transport_handle(options->transport, KITH_AM_WRITE, options->write, serve_write, serve);
    return serve;
}

void kith_query_serve_destroy(kith_query_serve *serve) {
    if (!serve) return;
    while (serve->pool) {
        serve_request *own = serve->pool;
        serve->pool = own->next;
        request_destroy(own);
    }
    kith_mutex_fini(&serve->pool_mutex);
    kith_free(serve);
}
