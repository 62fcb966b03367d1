#include "host/role/role_metrics.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/role/role_latch.h"
#include "transport/ucx/transport_ucx.h"

#define TICK_NS 1000000000ULL

/* Status numbers are below it (host/base/status.h). */
#define STATUS_NUMBERS 64

struct kith_role_metrics {
    kith_env *env;
    kith_metrics *metrics;
    kith_role_metrics_sources sources;
    uint64_t started_ns;
    kith_timer timer;
    bool stopped; /* meta's executor */
    kith_task stop_task;
    kith_role_latch stop_latch;
    kith_series *search_requests[STATUS_NUMBERS], *write_requests[STATUS_NUMBERS];
    kith_series *search_queries, *search_duration, *write_points, *write_duration;
    kith_series *sync_duration, *seal_duration, *log_bytes, *log_syncs;
    struct {
        uint64_t rows_scanned, rows_coded, code_survivors, rows_rescored, wide_scans, search_batches,
            search_batched, read_slices, seals, merges;
    } carried;                            /* of the shards' counters: what the series have already */
    kith_transport_ucx_stats transported; /* the same of the transport's */
};

static kith_series *plain(kith_role_metrics *own, kith_metric_id id) {
    return kith_metrics_series(own->metrics, id, "");
}

kith_role_metrics *kith_role_metrics_create(kith_env *env, kith_metrics *metrics) {
    kith_role_metrics *own = kith_alloc_zero(sizeof *own);
    own->env = env;
    own->metrics = metrics;
    for (uint32_t number = 0; number < STATUS_NUMBERS; number++) {
        kith_status status = kith_status_from_number(number);
        if ((uint32_t)status != number) continue;
        const char *name = kith_status_name(status);
        own->search_requests[number] = kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_REQUESTS, name);
        own->write_requests[number] = kith_metrics_series(metrics, KITH_METRIC_ID_WRITE_REQUESTS, name);
    }
    own->search_queries = plain(own, KITH_METRIC_ID_SEARCH_QUERIES);
    own->search_duration = plain(own, KITH_METRIC_ID_SEARCH_DURATION);
    own->write_points = plain(own, KITH_METRIC_ID_WRITE_POINTS);
    own->write_duration = plain(own, KITH_METRIC_ID_WRITE_DURATION);
    own->sync_duration = plain(own, KITH_METRIC_ID_LOG_SYNC_DURATION);
    own->seal_duration = plain(own, KITH_METRIC_ID_SEGMENT_SEAL_DURATION);
    own->log_bytes = plain(own, KITH_METRIC_ID_LOG_BYTES);
    own->log_syncs = plain(own, KITH_METRIC_ID_LOG_SYNCS);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_BUILD_INFO, KITH_VERSION), 1);
    return own;
}

/* --- as it happens --- */

void kith_role_metrics_searched(kith_role_metrics *own, const kith_api_search_sample *sample) {
    kith_series_add(own->search_requests[sample->status], 1);
    kith_series_add(own->search_queries, sample->query_count);
    if (sample->took_ns) kith_series_observe_ns(own->search_duration, sample->took_ns);
}

void kith_role_metrics_wrote(kith_role_metrics *own, kith_status status, uint64_t took_ns, uint32_t points) {
    kith_series_add(own->write_requests[status], 1);
    kith_series_add(own->write_points, points);
    if (took_ns) kith_series_observe_ns(own->write_duration, took_ns);
}

void kith_role_metrics_synced(kith_role_metrics *own, uint64_t took_ns, uint64_t bytes) {
    kith_series_observe_ns(own->sync_duration, took_ns);
    kith_series_add(own->log_bytes, bytes);
    kith_series_add(own->log_syncs, 1);
}

void kith_role_metrics_sealed(kith_role_metrics *own, uint64_t took_ns) {
    kith_series_observe_ns(own->seal_duration, took_ns);
}

void kith_role_metrics_dropped(kith_role_metrics *own, const kith_collection *collection) {
    kith_metrics_series_remove(own->metrics, KITH_METRIC_ID_POINTS, collection->name);
    kith_metrics_series_remove(own->metrics, KITH_METRIC_ID_SEGMENTS, collection->name);
}

/* --- once a second --- */

/* Adds what a counter has gained since the last time. */
static void carry_value(kith_series *series, uint64_t now, uint64_t *carried) {
    if (now != *carried) kith_series_add(series, now - *carried);
    *carried = now;
}

static void carry(kith_series *series, _Atomic uint64_t *counter, uint64_t *carried) {
    carry_value(series, atomic_load_explicit(counter, memory_order_relaxed), carried);
}

static void counters_carry(kith_role_metrics *own) {
    kith_shard_counters *from = &own->sources.data->counters;
    carry(plain(own, KITH_METRIC_ID_SEARCH_ROWS_SCANNED), &from->rows_scanned, &own->carried.rows_scanned);
    carry(plain(own, KITH_METRIC_ID_SEARCH_ROWS_CODED), &from->rows_coded, &own->carried.rows_coded);
    carry(plain(own, KITH_METRIC_ID_SEARCH_CODE_SURVIVORS), &from->code_survivors,
        &own->carried.code_survivors);
    carry(plain(own, KITH_METRIC_ID_SEARCH_ROWS_RESCORED), &from->rows_rescored, &own->carried.rows_rescored);
    carry(plain(own, KITH_METRIC_ID_SEARCH_WIDE_SCANS), &from->wide_scans, &own->carried.wide_scans);
    carry(plain(own, KITH_METRIC_ID_SEARCH_BATCHES), &from->search_batches, &own->carried.search_batches);
    carry(plain(own, KITH_METRIC_ID_SEARCH_BATCHED), &from->search_batched, &own->carried.search_batched);
    carry(plain(own, KITH_METRIC_ID_READ_SLICES), &from->read_slices, &own->carried.read_slices);
    carry(plain(own, KITH_METRIC_ID_SEGMENT_MERGES), &from->merges, &own->carried.merges);
    carry(plain(own, KITH_METRIC_ID_SEGMENT_SEALS), &from->seals, &own->carried.seals);
}

static void collection_measure(kith_role_metrics *own, const kith_collection *collection) {
    uint64_t points = 0, segments = 0;
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        kith_shard *shard = kith_shard_set_find(own->sources.data->shards, collection->shard_id_first + i);
        if (!shard) continue;
        kith_shard_stats stats;
        kith_shard_stats_read(shard, &stats);
        kith_shard_set_release(own->sources.data->shards, shard);
        points += stats.points;
        segments += stats.segments;
    }
    kith_series_set(
        kith_metrics_series(own->metrics, KITH_METRIC_ID_POINTS, collection->name), (double)points);
    kith_series_set(
        kith_metrics_series(own->metrics, KITH_METRIC_ID_SEGMENTS, collection->name), (double)segments);
}

static double resident_bytes(kith_env *env) {
    kith_err err;
    kith_file *file;
    char text[128];
    size_t read = 0;
    unsigned long long pages_total, pages_resident = 0;
    if (kith_file_open(env, "/proc/self/statm", KITH_FILE_READ, &file, &err) != KITH_OK) return 0;
    if (kith_file_read_at(file, 0, text, sizeof text - 1, &read, &err) != KITH_OK) read = 0;
    kith_file_close(file);
    text[read] = 0;
    if (sscanf(text, "%llu %llu", &pages_total, &pages_resident) != 2) return 0;
    return (double)pages_resident * (double)sysconf(_SC_PAGESIZE);
}

static void executor_measure(kith_role_metrics *own, const char *name, const kith_executor *executor) {
    kith_series_set(kith_metrics_series(own->metrics, KITH_METRIC_ID_EXECUTOR_QUEUED, name),
        kith_executor_queued(executor));
}

static void node_measure(kith_role_metrics *own) {
    kith_err err;
    uint64_t free_bytes;
    if (kith_env_free_bytes(own->env, own->sources.dir, &free_bytes, &err) == KITH_OK) {
        kith_series_set(plain(own, KITH_METRIC_ID_DISK_FREE_BYTES), (double)free_bytes);
    }
    kith_series_set(plain(own, KITH_METRIC_ID_MEMORY_RESIDENT_BYTES), resident_bytes(own->env));
    kith_series_set(
        plain(own, KITH_METRIC_ID_UP_SECONDS), (double)(kith_env_now_ns(own->env) - own->started_ns) / 1e9);
}

static void data_measure(kith_role_metrics *own) {
    const kith_role_data *data = own->sources.data;
    counters_carry(own);
    kith_series_set(plain(own, KITH_METRIC_ID_SHARDS), kith_shard_set_count(data->shards));
    executor_measure(own, "owner", data->owner);
    executor_measure(own, "search", data->search);
    executor_measure(own, "background", data->background);
    executor_measure(own, "log", data->log_executor);
    kith_meta_map *map = kith_meta_map_get(own->sources.meta);
    for (uint32_t i = 0; i < map->entry_count; i++)
        collection_measure(own, &map->entries[i]->collection);
    kith_meta_map_release(map);
}

static void replicas_measure(kith_role_metrics *own) {
    kith_replica_lag lag;
    kith_replica_set_lag(own->sources.replicas, &lag);
    kith_series_set(plain(own, KITH_METRIC_ID_REPLICA_LAG_SECONDS), (double)lag.longest_ns / 1e9);
    kith_series_set(plain(own, KITH_METRIC_ID_REPLICA_LAG_BYTES), (double)lag.bytes);
    kith_series_set(plain(own, KITH_METRIC_ID_REPLICAS_LED), lag.led);
    kith_series_set(plain(own, KITH_METRIC_ID_REPLICAS_OUT_OF_SYNC), lag.out_of_sync);
}

static const struct {
    kith_metric_id metric;
    const char *label;
    size_t at; /* in kith_transport_ucx_stats */
} transport_counters[] = {
    {KITH_METRIC_ID_TRANSPORT_MESSAGES, "sent", offsetof(kith_transport_ucx_stats, sent_messages)},
    {KITH_METRIC_ID_TRANSPORT_MESSAGES, "received", offsetof(kith_transport_ucx_stats, received_messages)},
    {KITH_METRIC_ID_TRANSPORT_BYTES, "sent", offsetof(kith_transport_ucx_stats, sent_bytes)},
    {KITH_METRIC_ID_TRANSPORT_BYTES, "received", offsetof(kith_transport_ucx_stats, received_bytes)},
    {KITH_METRIC_ID_TRANSPORT_CONNECTS, "", offsetof(kith_transport_ucx_stats, connects)},
    {KITH_METRIC_ID_TRANSPORT_LOSSES, "", offsetof(kith_transport_ucx_stats, connection_losses)},
    {KITH_METRIC_ID_TRANSPORT_FAILED_HELLOS, "", offsetof(kith_transport_ucx_stats, failed_hellos)},
    {KITH_METRIC_ID_TRANSPORT_BUSY, "", offsetof(kith_transport_ucx_stats, busy_replies)},
};

static uint64_t *transport_counter(kith_transport_ucx_stats *stats, size_t at) {
    return (uint64_t *)(void *)((char *)stats + at);
}

static void transport_measure(kith_role_metrics *own) {
    kith_transport_ucx_stats now;
    kith_transport_ucx_stats_get(own->sources.transport, &now);
    for (size_t i = 0; i < sizeof transport_counters / sizeof transport_counters[0]; i++) {
        size_t at = transport_counters[i].at;
        kith_series *series =
            kith_metrics_series(own->metrics, transport_counters[i].metric, transport_counters[i].label);
        carry_value(series, *transport_counter(&now, at), transport_counter(&own->transported, at));
    }
    kith_series_set(plain(own, KITH_METRIC_ID_TRANSPORT_CONNECTIONS), (double)now.connections);
    kith_series_set(plain(own, KITH_METRIC_ID_TRANSPORT_CALLS), (double)now.calls);
}

static void tick(kith_task *task) {
    kith_role_metrics *own = (kith_role_metrics *)(void *)((char *)task - offsetof(kith_role_metrics, timer));
    if (own->stopped) return; /* it was queued behind the stop: what it would look at may be gone */
    node_measure(own);
    if (own->sources.compute) kith_role_compute_measure(own->sources.compute, own->metrics);
    if (own->sources.data) data_measure(own);
    if (own->sources.replicas) replicas_measure(own);
    if (own->sources.transport) transport_measure(own);
    own->timer.due_ns = kith_env_now_ns(own->env) + TICK_NS;
    kith_timer_start(&own->timer);
}

void kith_role_metrics_start(kith_role_metrics *own, const kith_role_metrics_sources *sources) {
    own->sources = *sources;
    own->started_ns = kith_env_now_ns(own->env);
    own->timer =
        (kith_timer){.task = {.run = tick}, .executor = sources->executor, .due_ns = own->started_ns};
    kith_timer_start(&own->timer);
}

/* On the ticks' own thread: what was armed is cancelled, what was queued will see the mark. */
static void stop_run(kith_task *task) {
    kith_role_metrics *own =
        (kith_role_metrics *)(void *)((char *)task - offsetof(kith_role_metrics, stop_task));
    own->stopped = true;
    (void)kith_timer_cancel(&own->timer);
    kith_role_latch_done(&own->stop_latch);
}

void kith_role_metrics_stop(kith_role_metrics *own) {
    if (!own->sources.executor) return; /* never started */
    kith_role_latch_init(&own->stop_latch);
    kith_role_latch_add(&own->stop_latch, 1);
    own->stop_task.run = stop_run;
    kith_executor_post(own->sources.executor, &own->stop_task);
    kith_role_latch_wait(&own->stop_latch);
    kith_role_latch_fini(&own->stop_latch);
}

void kith_role_metrics_destroy(kith_role_metrics *own) {
    kith_free(own);
}
