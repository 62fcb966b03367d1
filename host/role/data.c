#include "host/role/data.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/role/role_folder.h"
#include "host/role/role_latch.h"
#include "host/shard/shard_leftover.h"

#define US_NS 1000ULL
#define MS_NS 1000000ULL

static uint32_t core_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : count > 256 ? 256 : (uint32_t)count;
}

static char *path_join(const char *dir, const char *name) {
    size_t bytes = strlen(dir) + strlen(name) + 2;
    char *path = kith_alloc(bytes);
    snprintf(path, bytes, "%s/%s", dir, name);
    return path;
}

static kith_status folder_open(kith_role_data *data, const char *dir, kith_config_role role, kith_err *err) {
    data->dir = kith_strdup(dir);
    data->store_dir = path_join(dir, "store");
    data->log_dir = path_join(dir, "log");
    data->segment_dir = path_join(dir, "segments");
    data->meta_dir = path_join(dir, "meta");
    kith_status status = kith_dir_make(data->env, dir, err);
    if (status == KITH_OK) status = kith_dir_lock(data->env, dir, &data->lock, err);
    if (status == KITH_OK) status = kith_role_folder_claim(data->env, dir, role, err);
    if (status == KITH_OK) status = kith_dir_make(data->env, data->segment_dir, err);
    return status == KITH_OK ? KITH_OK : kith_err_wrap(err, status, "data_dir %s", dir);
}

static kith_status threads_start(kith_role_data *data, const kith_config *config, kith_err *err) {
    uint32_t search_threads = config->search_threads ? config->search_threads : core_count();
    kith_status status = kith_executor_create(data->env, "owner", 1, &data->owner, err);
    if (status == KITH_OK)
        status = kith_executor_create(data->env, "search", search_threads, &data->search, err);
    if (status == KITH_OK) {
        status = kith_executor_create_patient(
            data->env, "background", config->background_threads, &data->background, err);
    }
    if (status == KITH_OK) status = kith_executor_create(data->env, "log", 1, &data->log_executor, err);
    if (status == KITH_OK) status = kith_executor_create(data->env, "meta", 1, &data->meta_executor, err);
    return status;
}

static void node_fill(kith_role_data *data, const kith_role_data_options *options) {
    const kith_config *config = options->config;
    data->node = (kith_shard_node){
        .env = data->env,
        .segment_dir = data->segment_dir,
        .store = data->store,
        .owner = data->owner,
        .search = data->search,
        .background = data->background,
        .compute = options->compute ? options->compute : kith_compute_cpu(),
        .search_batch_window_ns = config->search_batch_window_us * US_NS,
        .seal_bytes = config->segment_seal_bytes,
        .seal_rows = config->segment_seal_rows,
        .seal_idle_ns = config->segment_seal_idle_ms * MS_NS,
        .merge_bytes_max = config->segment_merge_bytes_max,
        .request_window = config->request_window,
        .write_queue_bytes_max = config->write_queue_bytes_max,
        .disk_reserve_bytes = config->disk_reserve_bytes,
        .counters = &data->counters,
        .sealed = options->sealed,
        .sealed_ctx = options->ctx,
    };
}

kith_status kith_role_data_open(
    const kith_role_data_options *options, kith_role_data *data_out, kith_err *err) {
    kith_role_data *data = data_out;
    *data = (kith_role_data){.env = options->env, .replicated = options->replicated};
    kith_status status = folder_open(data, options->config->data_dir, options->role, err);
    if (status == KITH_OK) status = threads_start(data, options->config, err);
    if (status == KITH_OK) {
        status =
            kith_store_rocksdb_open(data->store_dir, options->config->store_memory_bytes, &data->store, err);
        if (status != KITH_OK) kith_err_wrap(err, status, "store %s", data->store_dir);
    }
    if (status != KITH_OK) {
        kith_role_data_close(data, NULL, NULL);
        return status;
    }
    node_fill(data, options);
    data->shards = kith_shard_set_create(&data->node);
    return KITH_OK;
}

/* --- recovery --- */

typedef struct replay {
    kith_role_data *data;
    const kith_role_data_options *options;
} replay;

static kith_status replay_entry(void *ctx, const kith_log_entry *entry, kith_err *err) {
    const replay *own = ctx;
    if (entry->stream == KITH_LOG_STREAM_META)
        return own->options->replay_meta(own->options->ctx, entry, err);
    if (entry->stream != KITH_LOG_STREAM_NOTES)
        kith_map_put(own->data->log_streams, &entry->stream, sizeof entry->stream, 0);
    return kith_shard_set_replay(own->data->shards, entry, err);
}

static void log_file_seen(void *ctx, const kith_dir_entry *entry) {
    *(bool *)ctx |= !entry->is_dir;
}

/* Who has shards has had a log, and of what was acknowledged it may have held the only copy. */
static kith_status log_expect(kith_role_data *data, kith_err *err) {
    bool seen = false;
    uint32_t shard_count = kith_shard_set_count(data->shards);
    if (shard_count == 0) return KITH_OK;
    kith_status status = kith_dir_list(data->env, data->log_dir, log_file_seen, &seen, err);
    if (seen || (status != KITH_OK && status != KITH_NOT_FOUND)) return status;
    return kith_err_set(err, KITH_CORRUPT,
        "there are no files in %s although there are %u shards: restore them, or use another data_dir",
        data->log_dir, shard_count);
}

kith_status kith_role_data_recover(
    kith_role_data *data, const kith_role_data_options *options, kith_err *err) {
    replay own = {.data = data, .options = options};
    const kith_config *config = options->config;
    kith_store_log_options log_options = {
        .env = data->env,
        .dir = data->log_dir,
        .executor = data->log_executor,
        .file_bytes = config->log_file_bytes,
        .retain_bytes = config->log_retain_bytes,
        .pending_bytes_max = config->write_queue_bytes_max,
        .replay = replay_entry,
        .replay_ctx = &own,
        .synced = options->synced,
        .synced_ctx = options->ctx,
    };
    data->log_streams = kith_map_create(64);
    kith_status status = log_expect(data, err);
    if (status == KITH_OK) status = kith_store_log_open(&log_options, &data->log, err);
    if (status != KITH_OK) return status;
    data->node.log = data->log;
    status = kith_shard_set_start(data->shards, err);
    data->started = status == KITH_OK;
    return status;
}

/* --- shards --- */

static void shard_dropped(void *ctx, kith_status status, const kith_err *err) {
    (void)ctx;
    /* The next start finds what is left of it. */
    if (status != KITH_OK) kith_log_warn("shard_erase_left", kith_kv_text("reason", err->text));
}

/* Those that open serve, also where others do not: a repeat, or the next start, opens the others. */
static kith_status shards_start(kith_role_data *data, kith_status open_status, kith_err *err) {
    kith_err start_err;
    if (!data->started) return open_status; /* recovery starts them all together */
    kith_status status = kith_shard_set_start(data->shards, &start_err);
    if (open_status != KITH_OK || status == KITH_OK) return open_status;
    *err = start_err;
    return status;
}

/* The log's entries of a shard that was not open when it was read went by: opened now, the shard would lack writes that
 * were acknowledged, and give their numbers to others. Not where it was known to be another's then
 * (kith_role_data_streams_forget). */
static bool shard_missed_replay(kith_role_data *data, uint64_t shard_id) {
    uint64_t unused;
    if (!data->started || !kith_map_get(data->log_streams, &shard_id, sizeof shard_id, &unused)) return false;
    kith_shard *shard = kith_shard_set_find(data->shards, shard_id);
    if (shard) kith_shard_set_release(data->shards, shard);
    return !shard;
}

static kith_status shard_open(
    kith_role_data *data, uint64_t shard_id, const kith_schema *schema, kith_err *err) {
    if (shard_missed_replay(data, shard_id)) {
        return kith_err_set(err, KITH_PRECONDITION,
            "shard %llu was not open when the log was read at the start: restart this node",
            (unsigned long long)shard_id);
    }
    kith_status status = kith_shard_set_open(data->shards, shard_id, schema, data->replicated, err);
    return status == KITH_EXISTS ? KITH_OK : status;
}

kith_status kith_role_data_shard_open(
    kith_role_data *data, uint64_t shard_id, const kith_schema *schema, kith_err *err) {
    return shards_start(data, shard_open(data, shard_id, schema, err), err);
}

static kith_status shards_open(kith_role_data *data, const kith_collection *collection, kith_err *err) {
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        uint64_t shard_id = collection->shard_id_first + i;
        kith_status status = shard_open(data, shard_id, &collection->schema, err);
        if (status == KITH_OK) continue;
        return kith_err_wrap(
            err, status, "collection \"%s\": shard %llu", collection->name, (unsigned long long)shard_id);
    }
    return KITH_OK;
}

kith_status kith_role_data_shards_open(
    kith_role_data *data, const kith_collection *collection, kith_err *err) {
    return shards_start(data, shards_open(data, collection, err), err);
}

void kith_role_data_shard_drop(kith_role_data *data, uint64_t shard_id) {
    if (data->log_streams) kith_map_remove(data->log_streams, &shard_id, sizeof shard_id);
    kith_shard_set_drop(data->shards, shard_id, shard_dropped, NULL);
}

void kith_role_data_shards_drop(kith_role_data *data, const kith_collection *collection) {
    for (uint32_t i = 0; data->started && i < collection->shard_count; i++)
        kith_role_data_shard_drop(data, collection->shard_id_first + i);
}

void kith_role_data_reserve_set(kith_role_data *data, uint64_t disk_reserve_bytes) {
    data->node.disk_reserve_bytes = disk_reserve_bytes;
}

kith_status kith_role_data_health(kith_role_data *data, kith_err *err) {
    return kith_store_log_health(data->log, err);
}

/* --- leftovers --- */

void kith_role_data_streams_forget(
    kith_role_data *data, bool (*known)(void *ctx, uint64_t shard_id), void *ctx) {
    kith_shard_streams_drop(&data->node, data->log_streams, true, known, ctx);
}

kith_status kith_role_data_leftovers(kith_role_data *data, bool (*known)(void *ctx, uint64_t shard_id),
    void *ctx, uint64_t **shard_ids_out, uint32_t *count_out, kith_err *err) {
    kith_status status = kith_shard_leftovers(&data->node, known, ctx, shard_ids_out, count_out, err);
    if (status == KITH_OK) kith_shard_streams_drop(&data->node, data->log_streams, false, known, ctx);
    return status;
}

void kith_role_data_leftover_erase(kith_role_data *data, uint64_t shard_id) {
    kith_log_info("leftover_erased", kith_kv_u64("shard", shard_id));
    kith_role_data_shard_drop(data, shard_id);
}

/* --- close --- */

static void set_closed(void *ctx) {
    kith_role_latch_done(ctx);
}

static void shards_close(kith_role_data *data) {
    kith_role_latch latch;
    kith_role_latch_init(&latch);
    kith_role_latch_add(&latch, 1);
    kith_shard_set_close(data->shards, set_closed, &latch);
    kith_role_latch_wait(&latch);
    kith_role_latch_fini(&latch);
}

/* Shards first, then their threads. The log's executor still runs what its close completes. */
void kith_role_data_close(kith_role_data *data, void (*before_log_closes)(void *ctx), void *ctx) {
    if (data->shards) shards_close(data);
    kith_executor_destroy(data->meta_executor);
    if (before_log_closes) before_log_closes(ctx);
    kith_store_log_close(data->log);
    kith_executor_destroy(data->log_executor);
    kith_executor_destroy(data->search);
    kith_executor_destroy(data->background);
    kith_executor_destroy(data->owner);
    kith_shard_set_destroy(data->shards);
    kith_shard_node_fini(&data->node);
    if (data->log_streams) kith_map_destroy(data->log_streams);
    kith_store_close(data->store);
    kith_file_close(data->lock);
    kith_free(data->dir);
    kith_free(data->store_dir);
    kith_free(data->log_dir);
    kith_free(data->segment_dir);
    kith_free(data->meta_dir);
    *data = (kith_role_data){0};
}
