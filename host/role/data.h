/* The data side of a node: its folder, store, log, shards and the threads they run on.
 *
 * Threads: open, recover, start and close on one thread, which they keep waiting; shard_open and shard_drop also on meta's
 * executor once started.
 * Ownership: borrows env and metrics. */
#ifndef KITH_ROLE_DATA_H
#define KITH_ROLE_DATA_H

#include "host/base/map.h"
#include "host/config/config.h"
#include "host/env/env.h"
#include "host/shard/shard_set.h"

typedef struct kith_role_data {
    kith_env *env;
    char *dir, *store_dir, *log_dir, *segment_dir, *meta_dir;
    kith_file *lock;
    kith_executor *owner, *search, *background, *log_executor, *meta_executor;
    kith_store *store;
    kith_store_log *log;
    kith_shard_counters counters;
    kith_shard_node node;
    kith_shard_set *shards;
    kith_map *log_streams; /* those that the log has entries of, seen while recovering */
    bool replicated;       /* shards have gates */
    bool started;          /* recovery is over: drops happen at once, not as leftovers */
} kith_role_data;

typedef struct kith_role_data_options {
    kith_env *env;
    const kith_config *config;
    kith_config_role role;           /* whose folder it is */
    bool replicated;                 /* shards are replicas, whose gates come with their opening */
    const kith_compute_ops *compute; /* NULL: the best of the CPU */
    /* Entries of KITH_LOG_STREAM_META. */
    kith_status (*replay_meta)(void *ctx, const kith_log_entry *entry, kith_err *err);
    void (*synced)(void *ctx, uint64_t took_ns, uint64_t bytes);
    void (*sealed)(void *ctx, uint64_t took_ns); /* on the owner; may be NULL */
    void *ctx;
} kith_role_data_options;

/* Makes and locks the folder, starts the threads, opens the store. On failure nothing is left. */
KITH_CHECK kith_status kith_role_data_open(
    const kith_role_data_options *options, kith_role_data *data_out, kith_err *err);
/* Opens the log: its entries go to the shards that are open, or to `replay_meta`. Then starts the shards. */
KITH_CHECK kith_status kith_role_data_recover(
    kith_role_data *data, const kith_role_data_options *options, kith_err *err);
/* Opens the collection's shards that are not open; while recovering they are started later. On a failure some are. */
KITH_CHECK kith_status kith_role_data_shards_open(
    kith_role_data *data, const kith_collection *collection, kith_err *err);
/* One shard of it. While recovering it is started later. OK also when it is open. PRECONDITION: it was not open in recovery,
 * and the log has writes of it. */
KITH_CHECK kith_status kith_role_data_shard_open(
    kith_role_data *data, uint64_t shard_id, const kith_schema *schema, kith_err *err);
/* Frees the shard in the background and erases it. */
void kith_role_data_shard_drop(kith_role_data *data, uint64_t shard_id);
/* Takes over a reloadable key. */
void kith_role_data_reserve_set(kith_role_data *data, uint64_t disk_reserve_bytes);
/* Frees the collection's shards in the background and erases them. While recovering it leaves that to the erasure of
 * leftovers; so does a crash. */
void kith_role_data_shards_drop(kith_role_data *data, const kith_collection *collection);
/* Shards of which the folder or the store has something, by rising id, without those for which `known` is true: what a
 * crash left of dropped collections. Freed with kith_free. Log entries of unknown shards are given up on the way. */
KITH_CHECK kith_status kith_role_data_leftovers(kith_role_data *data,
    bool (*known)(void *ctx, uint64_t shard_id), void *ctx, uint64_t **shard_ids_out, uint32_t *count_out,
    kith_err *err);
/* After recover: the log's entries of shards that are not known are given up. Such a shard was dropped before; where it is given to
 * this node again, it begins anew. */
void kith_role_data_streams_forget(
    kith_role_data *data, bool (*known)(void *ctx, uint64_t shard_id), void *ctx);
void kith_role_data_leftover_erase(kith_role_data *data, uint64_t shard_id);
/* OK while this node can store; else why. Any thread. */
kith_status kith_role_data_health(kith_role_data *data, kith_err *err);
/* Completes what was admitted and frees all. `before_log_closes` (may be NULL) runs when nothing writes any more and the
 * log is still open; then meta's executor has ended too. Also after a failed open or recover. */
void kith_role_data_close(kith_role_data *data, void (*before_log_closes)(void *ctx), void *ctx);

#endif
