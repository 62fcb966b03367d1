/* A data node: the shards that the cluster map gives it, served to query nodes.
 *
 * Start order: folder locked -> store -> the last map known -> its shards opened -> log replayed -> shards started ->
 * serving -> heartbeats. Shards are opened by a map only after that map has been kept, so the log never has entries of a
 * shard that this node does not know at its next start. */
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/http/http_server.h"
#include "host/query/query_serve.h"
#include "host/replica/replica.h"
#include "host/role/data.h"
#include "host/role/role_cluster.h"
#include "host/role/role_compute.h"
#include "host/role/role_latch.h"
#include "host/role/role_metrics.h"
#include "host/role/service.h"

/* Shards that could not be opened are tried again with every so many heartbeats. */
#define REOPEN_HEARTBEATS 10u

/* A node that is taken for down has held no lease for a while then: a new primary waits for two at most. */
#define LEASES_IN_TIMEOUT 4u
#define MS_NS             1000000ULL
/* A copy that comes no nearer to being in sync for so long is worth a word in the heartbeat. */
#define STALLED_MS_LEAST 10000u

typedef struct data_node {
    kith_service base;
    kith_env *env;
    kith_config config;
    kith_metrics *metrics;
    kith_role_metrics *measure;
    kith_role_compute compute;
    kith_role_data data;
    bool data_open;
    kith_role_cluster cluster;
    kith_replica_set *replicas;
    kith_query_serve *serve;
    kith_http_server *http;
    /* On meta's executor: */
    uint64_t *shard_ids; /* [shard_count] rising: what the map gives this node */
    uint32_t shard_count;
    bool map_was_kept;   /* from an earlier start */
    bool map_is_fresh;   /* a coordinator's has been seen since the start */
    uint32_t heartbeats; /* since shards that could not be opened were last tried */
    bool erases;         /* one of them waits for the end of what was it here before */
    kith_mutex
        unopened_mutex; /* whoever asks for health waits for the text, on a thread without messages; guards: */
    uint32_t unopened;  /* of the shards, those that could not be opened */
    kith_err unopened_err; /* of the last one */
} data_node;

/* --- which shards --- */

static uint32_t shards_on(const kith_meta_collection *collection, uint32_t number) {
    uint32_t count = 0;
    for (uint32_t i = 0; collection->shards && i < collection->collection.shard_count; i++)
        count += kith_meta_shard_is_on(&collection->shards[i], number);
    return count;
}

static int id_compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Those that `state` gives the node of `number`, rising; to be freed. */
static uint64_t *shards_given(const kith_meta_state *state, uint32_t number, uint32_t *count_out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->collection_count; i++)
        count += shards_on(state->collections[i], number);
    uint64_t *shard_ids = kith_alloc_array(count ? count : 1, sizeof *shard_ids);
    uint32_t at = 0;
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *collection = state->collections[i];
        for (uint32_t j = 0; collection->shards && j < collection->collection.shard_count; j++) {
            if (kith_meta_shard_is_on(&collection->shards[j], number))
                shard_ids[at++] = collection->collection.shard_id_first + j;
        }
    }
    if (count) qsort(shard_ids, count, sizeof *shard_ids, id_compare);
    *count_out = count;
    return shard_ids;
}

static bool shard_is_given(void *ctx, uint64_t shard_id) {
    const data_node *own = ctx;
    return own->shard_count &&
           bsearch(&shard_id, own->shard_ids, own->shard_count, sizeof shard_id, id_compare) != NULL;
}

/* --- opening and dropping --- */

static void unopened_add(data_node *own, const char *collection, kith_status status, kith_err *err) {
    kith_err_wrap(err, status, "a shard of collection \"%s\" is not open", collection);
    kith_mutex_lock(&own->unopened_mutex);
    own->unopened++;
    own->unopened_err = *err;
    kith_mutex_unlock(&own->unopened_mutex);
}

static void unopened_clear(data_node *own) {
    kith_mutex_lock(&own->unopened_mutex);
    own->unopened = 0;
    kith_mutex_unlock(&own->unopened_mutex);
}

/* OK: all are open. Any thread. */
static kith_status unopened_health(data_node *own, kith_err *err) {
    kith_status status = KITH_OK;
    kith_mutex_lock(&own->unopened_mutex);
    if (own->unopened) {
        *err = own->unopened_err;
        status = KITH_UNAVAILABLE;
    }
    kith_mutex_unlock(&own->unopened_mutex);
    return status;
}

static void collection_open(data_node *own, const kith_meta_collection *collection, uint32_t number) {
    for (uint32_t i = 0; collection->shards && i < collection->collection.shard_count; i++) {
        uint64_t shard_id = collection->collection.shard_id_first + i;
        if (!kith_meta_shard_is_on(&collection->shards[i], number)) continue;
        if (kith_replica_set_installs(own->replicas, shard_id)) continue;
        kith_err err;
        kith_status status =
            kith_role_data_shard_open(&own->data, shard_id, &collection->collection.schema, &err);
        if (status == KITH_OK) continue;
        own->erases |= status == KITH_UNAVAILABLE;
        unopened_add(own, collection->collection.name, status, &err);
        kith_log_error("shard_not_opened", kith_kv_u64("shard", shard_id),
            kith_kv_text("collection", collection->collection.name), kith_kv_text("reason", err.text));
    }
}

static void shards_open(data_node *own, const kith_meta_state *state, uint32_t number) {
    unopened_clear(own);
    own->heartbeats = 0;
    own->erases = false;
    for (uint32_t i = 0; i < state->collection_count; i++)
        collection_open(own, state->collections[i], number);
}

static void shards_drop(data_node *own, const uint64_t *before, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!shard_is_given(own, before[i])) kith_role_data_shard_drop(&own->data, before[i]);
    }
}

/* Given, or erased already. */
static bool shard_is_seen_to(void *ctx, uint64_t shard_id) {
    const data_node *own = ctx;
    return shard_is_given(ctx, shard_id) || kith_shard_set_is_busy(own->data.shards, shard_id);
}

/* What a crash left of shards that this node has no more. All shards here were given by a map that was kept (lost_map_check),
 * and so by this cluster: what its newest map does not give this node, it has taken away. */
static void leftovers_erase(data_node *own, const uint64_t *before, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!shard_is_given(own, before[i])) kith_log_info("shard_given_up", kith_kv_u64("shard", before[i]));
    }
    shards_drop(own, before, count); /* also one that has nothing on the disk yet */
    kith_err err;
    uint64_t *left = NULL;
    uint32_t left_count = 0;
    kith_status status =
        kith_role_data_leftovers(&own->data, shard_is_seen_to, own, &left, &left_count, &err);
    if (status != KITH_OK) {
        kith_log_warn("leftovers_unknown", kith_kv_text("reason", err.text));
        return;
    }
    if (left_count && !own->map_was_kept) {
        /* Whose data these are is not known, then: of this cluster, or of one before. */
        kith_log_error("leftovers_kept", kith_kv_u64("shards", left_count),
            kith_kv_text("reason",
                "meta/snapshot.kith is missing although there is data: restore the file, or use "
                "another data_dir"));
        left_count = 0;
    }
    for (uint32_t i = 0; i < left_count; i++)
        kith_role_data_leftover_erase(&own->data, left[i]);
    kith_free(left);
}

static void series_drop(data_node *own, const kith_meta_state *state) {
    kith_meta_map *map = kith_meta_map_get(kith_meta_client_meta(own->cluster.client));
    for (uint32_t i = 0; i < map->entry_count; i++) {
        const kith_collection *collection = &map->entries[i]->collection;
        const kith_meta_collection *now = kith_meta_state_find(state, collection->name);
        if (!now || now->collection.id != collection->id) kith_role_metrics_dropped(own->measure, collection);
    }
    kith_meta_map_release(map);
}

/* --- replicas --- */

static void shard_opened(void *ctx, uint64_t shard_id, kith_shard *shard) {
    kith_replica_set_attach(((data_node *)ctx)->replicas, shard_id, shard);
}

/* Before the first shard is opened, which is when the first map comes. */
static void replicas_create(data_node *own) {
    if (own->replicas) return;
    own->replicas = kith_replica_set_create(&(kith_replica_set_options){
        .env = own->env,
        .transport = own->cluster.transport,
        .node = &own->data.node,
        .shards = own->data.shards,
        .life = own->data.meta_executor,
        .meta = kith_meta_client_meta(own->cluster.client),
        .self = own->cluster.self.id,
        .dir = own->data.dir,
        .lease_ns = own->config.heartbeat_timeout_ms * MS_NS / LEASES_IN_TIMEOUT,
        .append_inflight_bytes_max = own->config.replica_inflight_bytes_max,
        .digest_interval_ns = own->config.replica_compare_ms * MS_NS,
        .metrics = own->metrics,
    });
    kith_shard_set_on_open(own->data.shards, shard_opened, own);
}

/* What shards that were opened by a kept map are to do, once they have started. */
static void replicas_begin(data_node *own) {
    kith_replica_set_map(own->replicas, kith_meta_client_state(own->cluster.client));
}

/* On meta's executor, or at start before it has anything to do. */
static void map_changed(void *ctx, const kith_meta_state *state, bool from_file) {
    data_node *own = ctx;
    own->map_was_kept |= from_file;
    replicas_create(own);
    const kith_node *self = kith_meta_state_node_of_id(state, &own->cluster.self.id);
    if (!self) return; /* not registered yet: nothing is said of this node's shards */
    uint32_t before_count = own->shard_count;
    uint64_t *before = own->shard_ids;
    own->shard_ids = shards_given(state, self->number, &own->shard_count);
    shards_open(own, state, self->number);
    if (!from_file) {
        kith_replica_set_map(own->replicas, state); /* lets go of shards before they are dropped */
        series_drop(own, state);
        if (own->map_is_fresh)
            shards_drop(own, before, before_count);
        else
            leftovers_erase(own, before, before_count);
        own->map_is_fresh = true;
    }
    kith_free(before);
}

/* --- what this node says of itself --- */

static kith_status health(void *ctx, kith_err *err) {
    data_node *own = ctx;
    kith_status status = kith_role_compute_health(&own->compute, err);
    if (status == KITH_OK) status = kith_role_data_health(&own->data, err);
    if (status == KITH_OK) status = unopened_health(own, err);
    if (status == KITH_OK) status = kith_role_cluster_health(&own->cluster, err);
    return status;
}

static void stalled_fill(data_node *own, kith_codec_heartbeat *heartbeat) {
    static __thread kith_codec_stalled said[KITH_CODEC_STALLED_MAX]; /* as the text of `health` */
    kith_replica_stalled stalled[KITH_CODEC_STALLED_MAX];
    uint32_t count =
        kith_replica_set_stalled(own->replicas, STALLED_MS_LEAST * MS_NS, KITH_CODEC_STALLED_MAX, stalled);
    for (uint32_t i = 0; i < count; i++)
        said[i] = (kith_codec_stalled){.shard_id = stalled[i].shard_id, .for_ms = stalled[i].for_ns / MS_NS};
    heartbeat->stalled = said;
    heartbeat->stalled_count = count;
}

static void heartbeat_fill(void *ctx, kith_codec_heartbeat *heartbeat) {
    data_node *own = ctx;
    static __thread kith_err err; /* the text is borrowed until this thread's task ends */
    heartbeat->shards = own->shard_count;
    for (uint32_t i = 0; i < own->shard_count; i++) {
        kith_shard *shard = kith_shard_set_find(own->data.shards, own->shard_ids[i]);
        if (!shard) continue;
        kith_shard_stats stats;
        kith_shard_stats_read(shard, &stats);
        heartbeat->points += stats.points;
        heartbeat->vector_bytes += stats.vector_bytes;
        kith_shard_set_release(own->data.shards, shard);
    }
    kith_err ignored;
    if (kith_env_free_bytes(own->env, own->data.dir, &heartbeat->disk_free_bytes, &ignored) != KITH_OK)
        heartbeat->disk_free_bytes = 0;
    if (health(own, &err) != KITH_OK) heartbeat->health = err.text;
    if (own->replicas) stalled_fill(own, heartbeat);
    const kith_meta_state *state = kith_meta_client_state(own->cluster.client);
    const kith_node *self = kith_meta_state_node_of_id(state, &own->cluster.self.id);
    if (own->unopened && self && (++own->heartbeats >= REOPEN_HEARTBEATS || own->erases)) {
        shards_open(own, state, self->number);
        kith_replica_set_map(own->replicas, state);
    }
}

/* --- start --- */

static void log_synced(void *ctx, uint64_t took_ns, uint64_t bytes) {
    kith_role_metrics_synced(((data_node *)ctx)->measure, took_ns, bytes);
}

static void shard_sealed(void *ctx, uint64_t took_ns) {
    kith_role_metrics_sealed(((data_node *)ctx)->measure, took_ns);
}

static kith_status meta_replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    (void)ctx;
    (void)entry;
    return kith_err_set(err, KITH_PRECONDITION,
        "this folder is a standalone server's: a data node keeps no metadata; use another data_dir");
}

static bool no_shard_is_known(void *ctx, uint64_t shard_id) {
    (void)ctx;
    (void)shard_id;
    return false;
}

/* Shards are opened by maps that have been kept: shards without a map are all there is of them, not leftovers. */
static kith_status lost_map_check(data_node *own, kith_err *err) {
    if (kith_meta_client_map_version(own->cluster.client) > 0) return KITH_OK;
    uint64_t *shard_ids = NULL;
    uint32_t count = 0;
    kith_status status =
        kith_role_data_leftovers(&own->data, no_shard_is_known, NULL, &shard_ids, &count, err);
    if (status != KITH_OK) return status;
    kith_free(shard_ids);
    if (count == 0) return KITH_OK;
    return kith_err_set(err, KITH_CORRUPT,
        "%s/snapshot.kith is missing although there is data of %u shards: restore the file, or use another "
        "data_dir",
        own->data.meta_dir, count);
}

/* A map is kept before a shard is opened by it: what the log has of other shards, an earlier map has taken away. */
static void strangers_forget(data_node *own) {
    if (own->map_was_kept) kith_role_data_streams_forget(&own->data, shard_is_given, own);
}

static kith_status storage_start(data_node *own, kith_err *err) {
    kith_role_data_options options = {
        .env = own->env,
        .config = &own->config,
        .role = KITH_CONFIG_ROLE_DATA,
        .replicated = true,
        .compute = own->compute.ops,
        .replay_meta = meta_replay,
        .synced = log_synced,
        .sealed = shard_sealed,
        .ctx = own,
    };
    kith_status status = kith_role_data_open(&options, &own->data, err);
    if (status != KITH_OK) return status;
    own->data_open = true;
    kith_role_cluster_options cluster = {
        .env = own->env,
        .config = &own->config,
        .executor = own->data.meta_executor,
        .data_dir = own->data.dir,
        .map_dir = own->data.meta_dir,
        .role = KITH_NODE_DATA,
        .changed = map_changed,
        .fill = heartbeat_fill,
        .ctx = own,
    };
    status = kith_role_cluster_open(&cluster, &own->cluster, err);
    if (status == KITH_OK) replicas_create(own);
    if (status == KITH_OK) status = kith_role_data_recover(&own->data, &options, err);
    if (status == KITH_OK) status = lost_map_check(own, err);
    if (status == KITH_OK) strangers_forget(own);
    if (status == KITH_OK) replicas_begin(own);
    return status;
}

static kith_status node_start(data_node *own, kith_err *err) {
    kith_status status = storage_start(own, err);
    if (status != KITH_OK) return status;
    own->serve = kith_query_serve_create(&(kith_query_serve_options){
        .env = own->env,
        .transport = own->cluster.transport,
        .shards = own->data.shards,
        .meta = kith_meta_client_meta(own->cluster.client),
        .replicas = own->replicas,
        .search = own->data.search,
        .write = own->data.owner,
    });
    kith_role_metrics_start(own->measure, &(kith_role_metrics_sources){
                                              .executor = own->data.meta_executor,
                                              .dir = own->data.dir,
                                              .data = &own->data,
                                              .compute = &own->compute,
                                              .replicas = own->replicas,
                                              .meta = kith_meta_client_meta(own->cluster.client),
                                              .transport = own->cluster.transport,
                                          });
    kith_http_server_options http = {
        .ready = health,
        .ctx = own,
        .metrics = own->metrics,
        .bind_address = own->config.bind_address,
        .port = own->config.http_port,
    };
    status = kith_http_server_start(&http, &own->http, err);
    if (status == KITH_OK) kith_role_cluster_start(&own->cluster, 0, kith_http_server_port(own->http));
    return status;
}

/* --- life --- */

static kith_service_ports node_ports(const kith_service *service) {
    const data_node *own = (const data_node *)service;
    return (kith_service_ports){
        .http = kith_http_server_port(own->http), .node = kith_role_cluster_port(&own->cluster)};
}

static void node_reload(kith_service *service, const kith_config *config) {
    data_node *own = (data_node *)service;
    own->config = *config;
    kith_log_level_set((kith_log_level)config->log_level);
    kith_role_data_reserve_set(&own->data, config->disk_reserve_bytes);
}

static void handed_over(void *ctx, uint32_t left) {
    if (left > 0) kith_log_warn("shards_not_handed_over", kith_kv_u64("shards", left));
    kith_role_latch_done(ctx);
}

/* What this node leads goes to others while it still serves: no write waits for a failure to be noticed. */
static void shards_hand_over(data_node *own, uint64_t drain_ns) {
    kith_role_latch latch;
    if (!own->replicas || !own->serve) return;
    kith_role_latch_init(&latch);
    kith_role_latch_add(&latch, 1);
    kith_replica_set_hand_over(own->replicas, kith_env_now_ns(own->env) + drain_ns, handed_over, &latch);
    kith_role_latch_wait(&latch);
    kith_role_latch_fini(&latch);
}

static void replicas_stopped(void *ctx) {
    kith_role_latch_done(ctx);
}

/* Replicas end with the metadata, which answers what they have proposed, and before the transport. */
static void cluster_stop(data_node *own) {
    kith_role_latch latch;
    kith_role_latch_init(&latch);
    if (own->replicas) {
        kith_role_latch_add(&latch, 1);
        kith_replica_set_stop(own->replicas, replicas_stopped, &latch);
    }
    kith_role_cluster_stop(&own->cluster);
    kith_role_latch_wait(&latch);
    kith_role_latch_fini(&latch);
    kith_role_cluster_disconnect(&own->cluster);
}

/* Requests of other nodes have deadlines of their own; the transport waits for them. */
static void node_stop(kith_service *service, uint64_t drain_ns) {
    data_node *own = (data_node *)service;
    shards_hand_over(own, drain_ns);
    kith_http_server_stop(own->http);
    kith_role_metrics_stop(own->measure);
    cluster_stop(own);
    if (own->data_open) kith_role_data_close(&own->data, NULL, NULL);
    kith_query_serve_destroy(own->serve);
    kith_replica_set_destroy(own->replicas);
    kith_role_cluster_close(&own->cluster);
    kith_role_compute_close(&own->compute);
    kith_role_metrics_destroy(own->measure);
    kith_metrics_destroy(own->metrics);
    kith_free(own->shard_ids);
    kith_mutex_fini(&own->unopened_mutex);
    kith_free(own);
}

static const kith_service_ops node_ops = {.ports = node_ports, .reload = node_reload, .stop = node_stop};

kith_status kith_service_data_start(
    kith_env *env, const kith_config *config, kith_service **service_out, kith_err *err) {
    data_node *own = kith_alloc_zero(sizeof *own);
    own->base.ops = &node_ops;
    own->env = env;
    own->config = *config;
    kith_mutex_init(&own->unopened_mutex, KITH_RANK_META);
    own->metrics = kith_metrics_create();
    own->measure = kith_role_metrics_create(env, own->metrics);
    kith_role_compute_open(&own->compute, own->config.compute_backend, NULL);
    kith_status status = node_start(own, err);
    if (status != KITH_OK) {
        node_stop(&own->base, 0);
        return status;
    }
    *service_out = &own->base;
    return KITH_OK;
}
