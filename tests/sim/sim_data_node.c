#include "tests/sim/sim_data_node.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/map.h"
#include "host/query/query_serve.h"
#include "host/replica/replica.h"
#include "host/shard/shard_leftover.h"
#include "tests/sim/sim_cluster_internal.h"

#define DIR_LOG      "/data/log"
#define DIR_SEGMENTS "/data/segments"
#define SEARCHES     2u /* threads */
#define SECOND_NS    1000000000ULL
#define HAND_OVER_NS (1 * SECOND_NS) /* at most */

struct sim_data_part {
    sim_node *node;
    sim_data_options options;
    kith_store_sim_disk *disk;
    uint64_t *given; /* [given_count] ids of shards, rising: what the map gives this node */
    uint32_t given_count;
    /* While it is on. */
    kith_executor *owner, *search, *background, *log_executor;
    kith_store *store;
    kith_store_log *log;
    kith_shard_node shared;
    kith_shard_set *shards;
    kith_replica_set *replicas;
    kith_query_serve *serve;
    void (*handed_over)(void *ctx);
    void *handed_over_ctx;
    kith_map *log_streams; /* those that the log had entries of when it was opened */
    bool recovered;
    bool map_was_kept; /* from an earlier start */
    bool map_is_fresh; /* a coordinator's has been seen since the start */
    bool erases;       /* a shard waits for the end of what was it here before */
};

/* Every flush fails on a machine that is dead: what it wrote last is lost. */
static kith_status before_flush(void *ctx, kith_err *err) {
    const sim_data_part *part = ctx;
    if (sim_env_crashed(part->node->machine)) return kith_err_set(err, KITH_IO, "crashed");
    return KITH_OK;
}

sim_data_part *sim_data_part_create(sim_node *node, const sim_data_options *options) {
    sim_data_part *part = kith_alloc_zero(sizeof *part);
    part->node = node;
    part->options = *options;
    part->disk = kith_store_sim_disk_create(
        options->seed + node->options.number, options->flush_chance, before_flush, part);
    return part;
}

void sim_data_part_destroy(sim_data_part *part) {
    if (!part) return;
    kith_assert(part->shards == NULL);
    kith_store_sim_disk_destroy(part->disk);
    kith_free(part->given);
    kith_free(part);
}

/* --- start --- */

static kith_status executors_create(sim_data_part *part, kith_err *err) {
    kith_env *env = part->node->env;
    sim_env_slow(part->node->machine, "log", part->options.sync_us_max * 1000);
    sim_env_slow(part->node->machine, "background", part->options.background_us_max * 1000);
    kith_status status = kith_executor_create(env, "owner", 1, &part->owner, err);
    if (status == KITH_OK) status = kith_executor_create(env, "search", SEARCHES, &part->search, err);
    if (status == KITH_OK) status = kith_executor_create(env, "background", 1, &part->background, err);
    if (status == KITH_OK) status = kith_executor_create(env, "log", 1, &part->log_executor, err);
    return status;
}

static void shared_fill(sim_data_part *part) {
    const sim_data_options *options = &part->options;
    part->shared = (kith_shard_node){.env = part->node->env,
        .segment_dir = DIR_SEGMENTS,
        .store = part->store,
        .owner = part->owner,
        .search = part->search,
        .background = part->background,
        .compute = kith_compute_ref(),
        .seal_bytes = 1 << 20,
        .seal_rows = options->seal_rows,
        .seal_idle_ns = options->seal_idle_ms * 1000000ULL,
        .merge_bytes_max = 1 << 20,
        .request_window = options->request_window,
        .read_slice_points = 8,
        .write_queue_bytes_max = 1 << 20};
}

kith_status sim_data_part_open(sim_data_part *part, kith_err *err) {
    kith_status status = kith_dir_make(part->node->env, DIR_SEGMENTS, err);
    if (status == KITH_OK) status = executors_create(part, err);
    if (status == KITH_OK) status = kith_store_sim_open(part->disk, &part->store, err);
    if (status != KITH_OK) return status;
    shared_fill(part);
    part->shards = kith_shard_set_create(&part->shared);
    part->log_streams = kith_map_create(16);
    part->given_count = 0;
    part->recovered = part->map_was_kept = part->map_is_fresh = part->erases = false;
    return KITH_OK;
}

static void shard_opened(void *ctx, uint64_t shard_id, kith_shard *shard) {
    kith_replica_set_attach(((sim_data_part *)ctx)->replicas, shard_id, shard);
}

void sim_data_part_replicate(sim_data_part *part) {
    const sim_node *node = part->node;
    kith_err ignored;
    bool forgets = node->options.mutant == SIM_MUTANT_DOUBT_FORGOTTEN;
    if (forgets && kith_path_remove(node->env, "/data/unsynced", &ignored) == KITH_OK)
        sim_node_tell(node, "forgets what is in doubt");
    part->replicas = kith_replica_set_create(&(kith_replica_set_options){.env = node->env,
        .transport = node->transport,
        .node = &part->shared,
        .shards = part->shards,
        .life = node->executor,
        .meta = kith_meta_client_meta(node->client),
        .self = node->id,
        .dir = "/data",
        .lease_ns = SIM_TIMEOUT_MS * 1000000ULL / 4,
        .append_inflight_bytes_max = 1 << 16,
        .piece_bytes = 1 << 9, /* so that copies have many */
        .digest_interval_ns = part->options.digest_interval_ms * 1000000ULL});
    kith_shard_set_on_open(part->shards, shard_opened, part);
}

static bool is_given(const uint64_t *given, uint32_t count, uint64_t shard_id) {
    for (uint32_t i = 0; i < count; i++) {
        if (given[i] == shard_id) return true;
    }
    return false;
}

static bool shard_is_given(void *ctx, uint64_t shard_id) {
    const sim_data_part *part = ctx;
    return is_given(part->given, part->given_count, shard_id);
}

static kith_status entry_replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    sim_data_part *part = ctx;
    if (entry->stream != KITH_LOG_STREAM_NOTES)
        kith_map_put(part->log_streams, &entry->stream, sizeof entry->stream, 0);
    return kith_shard_set_replay(part->shards, entry, err);
}

kith_status sim_data_part_recover(sim_data_part *part, kith_err *err) {
    const kith_store_log_options options = {.env = part->node->env,
        .dir = DIR_LOG,
        .executor = part->log_executor,
        .file_bytes = part->options.log_file_bytes,
        .retain_bytes = part->options.log_retain_bytes,
        .pending_bytes_max = 1 << 20,
        .replay = entry_replay,
        .replay_ctx = part};
    kith_status status = kith_store_log_open(&options, &part->log, err);
    if (status != KITH_OK) return status;
    part->shared.log = part->log;
    status = kith_shard_set_start(part->shards, err);
    part->recovered = status == KITH_OK;
    if (status == KITH_OK && part->map_was_kept)
        kith_shard_streams_drop(&part->shared, part->log_streams, true, shard_is_given, part);
    return status;
}

void sim_data_part_serve(sim_data_part *part) {
    kith_replica_set_map(part->replicas, kith_meta_client_state(part->node->client));
    part->serve = kith_query_serve_create(&(kith_query_serve_options){
        .env = part->node->env,
        .transport = part->node->transport,
        .shards = part->shards,
        .meta = kith_meta_client_meta(part->node->client),
        .replicas = part->replicas,
        .search = part->search,
        .write = part->owner,
    });
}

/* --- which shards --- */

static bool shard_is_on(const kith_meta_shard *shard, uint32_t number) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i] == number) return true;
    }
    return false;
}

/* Entries of a shard that was not open when the log was read went by. */
static bool replay_was_missed(const sim_data_part *part, uint64_t shard_id) {
    uint64_t unused;
    if (!part->recovered || !kith_map_get(part->log_streams, &shard_id, sizeof shard_id, &unused))
        return false;
    kith_shard *shard = kith_shard_set_find(part->shards, shard_id);
    if (shard) kith_shard_set_release(part->shards, shard);
    return !shard;
}

static void shard_open(sim_data_part *part, uint64_t shard_id, const kith_schema *schema) {
    kith_err err;
    if (kith_replica_set_installs(part->replicas, shard_id)) return;
    if (replay_was_missed(part, shard_id)) {
        sim_node_blame(
            part->node, "shard %llu was not open when the log was read", (unsigned long long)shard_id);
        return;
    }
    kith_status status = kith_shard_set_open(part->shards, shard_id, schema, true, &err);
    if (status == KITH_OK && part->recovered) status = kith_shard_set_start(part->shards, &err);
    part->erases |= status == KITH_UNAVAILABLE;
    if (status == KITH_OK || status == KITH_EXISTS || status == KITH_UNAVAILABLE) return;
    if (sim_env_crashed(part->node->machine)) return;
    sim_node_failed(part->node, &err, "a shard does not open");
}

static void collection_open(sim_data_part *part, const kith_meta_collection *collection, uint32_t number,
    uint64_t *given, uint32_t *count) {
    for (uint32_t i = 0; collection->shards && i < collection->collection.shard_count; i++) {
        uint64_t shard_id = collection->collection.shard_id_first + i;
        if (!shard_is_on(&collection->shards[i], number)) continue;
        kith_assert(*count < SIM_DATA_SHARDS_MAX);
        given[(*count)++] = shard_id;
        shard_open(part, shard_id, &collection->collection.schema);
    }
}

static void dropped(void *ctx, kith_status status, const kith_err *err) {
    (void)ctx, (void)status, (void)err;
}

static void shard_drop(sim_data_part *part, uint64_t shard_id) {
    kith_map_remove(part->log_streams, &shard_id, sizeof shard_id);
    kith_shard_set_drop(part->shards, shard_id, dropped, NULL);
}

static void shards_drop(sim_data_part *part, const uint64_t *before, uint32_t before_count) {
    for (uint32_t i = 0; i < before_count; i++) {
        if (!shard_is_given(part, before[i])) shard_drop(part, before[i]);
    }
}

static bool shard_is_seen_to(void *ctx, uint64_t shard_id) {
    const sim_data_part *part = ctx;
    return shard_is_given(ctx, shard_id) || kith_shard_set_is_busy(part->shards, shard_id);
}

/* With the first map of this start: what a crash left of shards that are this node's no more. */
static void leftovers_erase(sim_data_part *part, const uint64_t *before, uint32_t before_count) {
    kith_err err;
    uint64_t *left = NULL;
    uint32_t left_count = 0;
    shards_drop(part, before, before_count);
    kith_status status =
        kith_shard_leftovers(&part->shared, shard_is_seen_to, part, &left, &left_count, &err);
    if (status != KITH_OK) return; /* the next start */
    kith_shard_streams_drop(&part->shared, part->log_streams, false, shard_is_seen_to, part);
    for (uint32_t i = 0; i < left_count; i++)
        shard_drop(part, left[i]);
    kith_free(left);
}

static void shards_open(
    sim_data_part *part, const kith_meta_state *state, uint32_t number, uint64_t *given, uint32_t *count) {
    part->erases = false;
    for (uint32_t i = 0; i < state->collection_count; i++)
        collection_open(part, state->collections[i], number, given, count);
}

void sim_data_part_map(sim_data_part *part, const kith_meta_state *state, bool from_file) {
    const kith_node *self = kith_meta_state_node_of_id(state, &part->node->id);
    part->map_was_kept |= from_file;
    if (!self) return; /* not registered yet: nothing is said of this node's shards */
    uint64_t *before = part->given;
    uint32_t before_count = part->given_count;
    part->given = kith_alloc_array(SIM_DATA_SHARDS_MAX, sizeof *part->given);
    part->given_count = 0;
    shards_open(part, state, self->number, part->given, &part->given_count);
    if (!from_file) {
        kith_replica_set_map(part->replicas, state); /* lets go of shards before they are dropped */
        if (part->map_is_fresh)
            shards_drop(part, before, before_count);
        else
            leftovers_erase(part, before, before_count);
        part->map_is_fresh = true;
    }
    kith_free(before);
}

void sim_data_part_reopen(sim_data_part *part, const kith_meta_state *state) {
    const kith_node *self = kith_meta_state_node_of_id(state, &part->node->id);
    uint64_t given[SIM_DATA_SHARDS_MAX];
    uint32_t count = 0;
    if (!part->erases || !self) return;
    shards_open(part, state, self->number, given, &count);
    kith_replica_set_map(part->replicas, state);
}

/* --- what others see of it --- */

void sim_data_part_heartbeat(const sim_data_part *part, kith_codec_heartbeat *heartbeat) {
    heartbeat->shards = part->given_count;
    for (uint32_t i = 0; i < part->given_count; i++) {
        kith_shard *shard = kith_shard_set_find(part->shards, part->given[i]);
        if (!shard) continue;
        kith_shard_stats stats;
        kith_shard_stats_read(shard, &stats);
        heartbeat->points += stats.points;
        heartbeat->vector_bytes += stats.vector_bytes;
        kith_shard_set_release(part->shards, shard);
    }
}

bool sim_data_part_digest(sim_data_part *part, uint64_t shard_id, uint64_t *digest_out) {
    kith_err err;
    kith_shard *shard = kith_shard_set_find(part->shards, shard_id);
    if (!shard) return false;
    kith_status status = kith_shard_validate(shard, &err);
    if (status == KITH_OK) status = kith_shard_digest(shard, digest_out, &err);
    kith_shard_set_release(part->shards, shard);
    if (status != KITH_OK) sim_node_failed(part->node, &err, "a shard is not as it must be");
    return status == KITH_OK;
}

void sim_data_part_health_look(sim_data_part *part) {
    for (uint32_t i = 0; i < part->given_count; i++) {
        kith_err err;
        kith_shard *shard = kith_shard_set_find(part->shards, part->given[i]);
        if (!shard) continue;
        kith_status status = kith_shard_health(shard, &err);
        kith_shard_set_release(part->shards, shard);
        if (status == KITH_CORRUPT) sim_node_failed(part->node, &err, "a shard is not well");
    }
}

bool sim_data_part_in_doubt(sim_data_part *part, uint64_t shard_id) {
    kith_replica_status status;
    return kith_replica_set_status(part->replicas, shard_id, &status) && status.may_lack_tail;
}

void sim_data_part_tell(sim_data_part *part, uint64_t shard_id) {
    static const char *const roles[] = {"idle", "follower", "taking over", "primary"};
    kith_replica_status status;
    if (!kith_replica_set_status(part->replicas, shard_id, &status)) {
        sim_node_tell(part->node, "shard %llu has no replica here", (unsigned long long)shard_id);
        return;
    }
    sim_node_tell(part->node,
        "shard %llu: %s in epoch %llu, end %llu of %llu, durable %llu, committed %llu%s%s%s",
        (unsigned long long)shard_id, roles[status.role], (unsigned long long)status.epoch,
        (unsigned long long)status.end.sequence, (unsigned long long)status.end.epoch,
        (unsigned long long)status.durable, (unsigned long long)status.committed,
        status.in_sync ? ", in sync" : "", status.may_lack_tail ? ", in doubt" : "",
        status.leased ? ", leased" : "");
}

/* --- the end --- */

static void handed_over(void *ctx, uint32_t left) {
    sim_data_part *part = ctx;
    sim_node_tell(part->node, "hands over: %u shards are left", left);
    part->handed_over(part->handed_over_ctx);
}

void sim_data_part_hand_over(sim_data_part *part, void (*done)(void *ctx), void *ctx) {
    part->handed_over = done;
    part->handed_over_ctx = ctx;
    kith_replica_set_hand_over(
        part->replicas, kith_env_now_ns(part->node->env) + HAND_OVER_NS, handed_over, part);
}

static void replicas_stopped(void *ctx) {
    sim_data_part *part = ctx;
    kith_shard_set_close(part->shards, sim_node_part_stopped, part->node);
}

void sim_data_part_stop(sim_data_part *part) {
    if (!part->shards) return;
    part->node->stops_left++;
    if (part->replicas)
        kith_replica_set_stop(part->replicas, replicas_stopped, part);
    else
        replicas_stopped(part);
}

void sim_data_part_close(sim_data_part *part) {
    kith_store_log_close(part->log);
    kith_executor_destroy(part->log_executor);
    kith_executor_destroy(part->search);
    kith_executor_destroy(part->background);
    kith_executor_destroy(part->owner);
    kith_query_serve_destroy(part->serve);
    kith_replica_set_destroy(part->replicas);
    kith_shard_set_destroy(part->shards);
    kith_shard_node_fini(&part->shared);
    if (part->log_streams) kith_map_destroy(part->log_streams);
    kith_store_close(part->store);
    part->owner = part->search = part->background = part->log_executor = NULL;
    part->serve = NULL;
    part->replicas = NULL;
    part->shards = NULL;
    part->log = NULL;
    part->log_streams = NULL;
    part->store = NULL;
}
