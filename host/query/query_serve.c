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

kith_status serve_shard_find(
    kith_query_serve *serve, uint64_t shard_id, kith_shard **shard_out, kith_err *err) {
    kith_shard *shard = kith_shard_set_find(serve->options.shards, shard_id);
    if (!shard) {
        return kith_err_set(
            err, KITH_NOT_FOUND, "shard %llu is not on this node", (unsigned long long)shard_id);
    }
    *shard_out = shard;
    return KITH_OK;
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
