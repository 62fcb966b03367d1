#include "host/role/standalone.h"

#include <stdio.h>
#include <stdlib.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/codec/codec_cluster.h"
#include "host/meta/meta_keeper.h"
#include "host/query/query_serve.h"
#include "host/role/data.h"
#include "host/role/role_api.h"
#include "host/role/role_compute.h"
#include "host/role/role_metrics.h"
#include "host/role/role_node_id.h"
#include "host/role/service.h"

#define MS_NS 1000000ULL

/* Messages between the parts of this process. The api bounds requests; this only has to be above what they fan out to. */
#define LOOP_IN_FLIGHT_MAX 65536u

struct kith_standalone {
    kith_service base;
    kith_env *env;
    kith_config config;
    kith_metrics *metrics;
    kith_role_metrics *measure;
    kith_role_compute compute;
    kith_role_data data;
    bool data_open;
    kith_meta_keeper *keeper; /* of the metadata */
    kith_transport *transport;
    kith_query_serve *serve;
    kith_api *api;
    kith_role_servers servers;
    _Atomic bool servers_known; /* `servers` does not change any more */
    uint64_t started_wall_ms;
};

/* --- what the parts are told --- */

static kith_status collection_created(void *ctx, const kith_collection *collection, kith_err *err) {
    kith_standalone *own = ctx;
    return kith_role_data_shards_open(&own->data, collection, err);
}

static void collection_dropped(void *ctx, const kith_collection *collection) {
    kith_standalone *own = ctx;
    kith_role_metrics_dropped(own->measure, collection);
    kith_role_data_shards_drop(&own->data, collection);
}

static kith_status meta_replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    return kith_meta_keeper_replay(((kith_standalone *)ctx)->keeper, entry, err);
}

static void log_synced(void *ctx, uint64_t took_ns, uint64_t bytes) {
    kith_role_metrics_synced(((kith_standalone *)ctx)->measure, took_ns, bytes);
}

static void shard_sealed(void *ctx, uint64_t took_ns) {
    kith_role_metrics_sealed(((kith_standalone *)ctx)->measure, took_ns);
}

static void api_searched(void *ctx, const kith_api_search_sample *sample) {
    kith_role_metrics_searched(((kith_standalone *)ctx)->measure, sample);
}

static void api_wrote(void *ctx, kith_status status, uint64_t took_ns, uint32_t points) {
    kith_role_metrics_wrote(((kith_standalone *)ctx)->measure, status, took_ns, points);
}

static kith_status health(void *ctx, kith_err *err) {
    kith_standalone *own = ctx;
    kith_status status = kith_role_compute_health(&own->compute, err);
    return status == KITH_OK ? kith_role_data_health(&own->data, err) : status;
}

/* --- start --- */

static kith_status metadata_open(kith_standalone *own, kith_err *err) {
    kith_meta_keeper_options options = {
        .env = own->env,
        .dir = own->data.meta_dir,
        .executor = own->data.meta_executor,
        .created = collection_created,
        .dropped = collection_dropped,
        .ctx = own,
    };
    kith_status status = kith_role_node_id_load(own->env, own->data.dir, &options.node, err);
    if (status == KITH_OK) status = kith_meta_keeper_open(&options, &own->keeper, err);
    const kith_collection *collection;
    for (uint32_t i = 0; status == KITH_OK && (collection = kith_meta_keeper_collection_at(own->keeper, i));
         i++) {
        status = kith_role_data_shards_open(&own->data, collection, err);
    }
    return status;
}

static bool shard_is_known(void *ctx, uint64_t shard_id) {
    const kith_collection *collection;
    for (uint32_t i = 0; (collection = kith_meta_keeper_collection_at(ctx, i)); i++) {
        if (shard_id - collection->shard_id_first < collection->shard_count) return true;
    }
    return false;
}

/* Shards of no collection are what a crash left of dropped ones; but if the metadata is gone, they are all there is. */
static kith_status leftovers_judge(
    kith_standalone *own, uint64_t **shard_ids_out, uint32_t *count_out, kith_err *err) {
    kith_status status =
        kith_role_data_leftovers(&own->data, shard_is_known, own->keeper, shard_ids_out, count_out, err);
    if (status != KITH_OK || *count_out == 0 || !kith_meta_keeper_is_new(own->keeper)) return status;
    status = kith_err_set(err, KITH_CORRUPT,
        "%s/snapshot.kith is missing although there is data of %u shards: restore the file, or use another "
        "data_dir",
        own->data.meta_dir, *count_out);
    kith_free(*shard_ids_out);
    return status;
}

static kith_status storage_start(kith_standalone *own, kith_err *err) {
    kith_role_data_options options = {
        .env = own->env,
        .config = &own->config,
        .compute = own->compute.ops,
        .replay_meta = meta_replay,
        .synced = log_synced,
        .sealed = shard_sealed,
        .ctx = own,
    };
    uint64_t *leftovers = NULL;
    uint32_t leftover_count = 0;
    kith_status status = kith_role_data_open(&options, &own->data, err);
    if (status != KITH_OK) return status;
    own->data_open = true;
    status = metadata_open(own, err);
    if (status == KITH_OK) status = kith_role_data_recover(&own->data, &options, err);
    if (status == KITH_OK) status = leftovers_judge(own, &leftovers, &leftover_count, err);
    if (status != KITH_OK) return status;
    status = kith_meta_keeper_start(own->keeper, own->data.log, err);
    if (status == KITH_OK) {
        for (uint32_t i = 0; i < leftover_count; i++)
            kith_role_data_leftover_erase(&own->data, leftovers[i]);
    }
    kith_free(leftovers);
    return status;
}

/* Points here. A shard that is not open has none to search. */
static uint64_t api_points(void *ctx, const kith_collection *collection) {
    kith_standalone *own = ctx;
    uint64_t points = 0;
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        kith_shard *shard = kith_shard_set_find(own->data.shards, collection->shard_id_first + i);
        if (!shard) continue;
        points += kith_shard_count(shard);
        kith_shard_set_release(own->data.shards, shard);
    }
    return points;
}

static void collection_describe(
    kith_standalone *own, const kith_collection *collection, kith_codec_heartbeat *heartbeat) {
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        kith_shard *shard = kith_shard_set_find(own->data.shards, collection->shard_id_first + i);
        if (!shard) continue;
        kith_shard_stats stats;
        kith_shard_stats_read(shard, &stats);
        heartbeat->points += stats.points;
        heartbeat->vector_bytes += stats.vector_bytes;
        kith_shard_set_release(own->data.shards, shard);
    }
}

/* What a node of a cluster says in its heartbeats. */
static void api_describe(void *ctx, kith_codec_heartbeat *heartbeat) {
    kith_standalone *own = ctx;
    kith_service_ports ports = {0};
    if (atomic_load(&own->servers_known)) ports = kith_role_servers_ports(&own->servers);
    kith_node *node = &heartbeat->node;
    const char *host = own->config.bind_address;
    if (own->config.node_name[0]) snprintf(node->name, sizeof node->name, "%.63s", own->config.node_name);
    if (ports.grpc) snprintf(node->grpc_address, sizeof node->grpc_address, "%.250s:%u", host, ports.grpc);
    if (ports.http) snprintf(node->http_address, sizeof node->http_address, "%.250s:%u", host, ports.http);
    heartbeat->started_wall_ms = own->started_wall_ms;
    kith_err ignored;
    if (kith_env_free_bytes(own->env, own->data.dir, &heartbeat->disk_free_bytes, &ignored) != KITH_OK)
        heartbeat->disk_free_bytes = 0;
    kith_meta_map *map = kith_meta_map_get(kith_meta_keeper_meta(own->keeper));
    for (uint32_t i = 0; i < map->entry_count; i++)
        collection_describe(own, &map->entries[i]->collection, heartbeat);
    kith_meta_map_release(map);
}

static kith_status queries_start(kith_standalone *own, kith_err *err) {
    kith_status status = kith_transport_loop_create(own->env, LOOP_IN_FLIGHT_MAX, &own->transport, err);
    if (status != KITH_OK) return status;
    own->serve = kith_query_serve_create(&(kith_query_serve_options){
        .env = own->env,
        .transport = own->transport,
        .shards = own->data.shards,
        .search = own->data.search,
        .write = own->data.owner,
    });
    own->api = kith_api_create(&(kith_api_options){
        .env = own->env,
        .meta = kith_meta_keeper_meta(own->keeper),
        .transport = own->transport,
        .executor = own->data.search,
        .limits = kith_role_api_limits(&own->config, kith_executor_thread_count(own->data.search)),
        .message_bytes_max = own->config.message_bytes_max,
        .health = health,
        .points = api_points,
        .describe = api_describe,
        .searched = api_searched,
        .wrote = api_wrote,
        .ctx = own,
    });
    kith_role_metrics_start(own->measure, &(kith_role_metrics_sources){
                                              .executor = own->data.meta_executor,
                                              .dir = own->data.dir,
                                              .data = &own->data,
                                              .compute = &own->compute,
                                              .meta = kith_meta_keeper_meta(own->keeper),
                                          });
    return KITH_OK;
}

kith_status kith_standalone_start(
    const kith_standalone_options *options, kith_standalone **standalone_out, kith_err *err) {
    kith_standalone *own = kith_alloc_zero(sizeof *own);
    own->env = options->env;
    own->config = *options->config;
    own->started_wall_ms = kith_env_wall_ms(own->env);
    own->metrics = kith_metrics_create();
    own->measure = kith_role_metrics_create(own->env, own->metrics);
    kith_role_compute_open(&own->compute, own->config.compute_backend, options->gpu);
    kith_status status = storage_start(own, err);
    if (status == KITH_OK) status = queries_start(own, err);
    if (status == KITH_OK && !options->embedded)
        status = kith_role_servers_start(own->env, &own->config, own->api, own->metrics, &own->servers, err);
    if (status != KITH_OK) {
        kith_standalone_stop(own, 0);
        return status;
    }
    atomic_store(&own->servers_known, true);
    *standalone_out = own;
    return KITH_OK;
}

/* --- life --- */

kith_api *kith_standalone_api(kith_standalone *own) {
    return own->api;
}

kith_metrics *kith_standalone_metrics(kith_standalone *own) {
    return own->metrics;
}

uint32_t kith_standalone_grpc_port(const kith_standalone *own) {
    return kith_role_servers_ports(&own->servers).grpc;
}

uint32_t kith_standalone_http_port(const kith_standalone *own) {
    return kith_role_servers_ports(&own->servers).http;
}

void kith_standalone_reload(kith_standalone *own, const kith_config *config) {
    own->config = *config;
    kith_log_level_set((kith_log_level)config->log_level);
    kith_api_limits limits = kith_role_api_limits(config, kith_executor_thread_count(own->data.search));
    kith_api_limits_set(own->api, &limits);
    kith_role_data_reserve_set(&own->data, config->disk_reserve_bytes);
}

static void metadata_close(void *ctx) {
    kith_standalone *own = ctx;
    kith_meta_keeper_close(own->keeper);
    own->keeper = NULL;
}

/* From the outside in: nothing new comes, what is in flight ends, then the parts go in reverse order of their start. */
void kith_standalone_stop(kith_standalone *own, uint64_t drain_ns) {
    if (!own) return;
    atomic_store(&own->servers_known, false);
    kith_role_servers_stop(&own->servers, own->api, drain_ns);
    kith_role_metrics_stop(own->measure);
    if (own->data_open) kith_role_data_close(&own->data, metadata_close, own);
    kith_query_serve_destroy(own->serve);
    kith_transport_destroy(own->transport);
    kith_api_destroy(own->api);
    kith_role_compute_close(&own->compute);
    kith_role_metrics_destroy(own->measure);
    kith_metrics_destroy(own->metrics);
    kith_free(own);
}

/* --- as kithd runs it --- */

static kith_service_ports service_ports(const kith_service *service) {
    return kith_role_servers_ports(&((const kith_standalone *)service)->servers);
}

static void service_reload(kith_service *service, const kith_config *config) {
    kith_standalone_reload((kith_standalone *)service, config);
}

static void service_stop(kith_service *service, uint64_t drain_ns) {
    kith_standalone_stop((kith_standalone *)service, drain_ns);
}

static const kith_service_ops service_ops = {
    .ports = service_ports, .reload = service_reload, .stop = service_stop};

kith_status kith_service_standalone_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    kith_standalone_options options = {.env = env, .config = config};
    kith_standalone *own;
    kith_status status = kith_standalone_start(&options, &own, err);
    if (status != KITH_OK) return status;
    own->base.ops = &service_ops;
    *service_out = &own->base;
    return KITH_OK;
}
