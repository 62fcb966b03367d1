/* The shards of a node, by id.
 *
 * Start of a node: kith_shard_set_open for each shard of the metadata, then the log is opened with
 * kith_shard_set_replay, then kith_shard_set_start. Later shards are opened and started one by one.
 *
 * Threads: find and release from any thread; open, start, drop and close from one at a time.
 * Ownership: owns its shards; a shard found is held until released, also past its drop. Borrows the node. */
#ifndef KITH_SHARD_SHARD_SET_H
#define KITH_SHARD_SHARD_SET_H

#include "host/shard/shard.h"

typedef struct kith_shard_set kith_shard_set;

kith_shard_set *kith_shard_set_create(kith_shard_node *node);
/* Calls `opened` for each shard that is opened from now on, inside its open. Before the first. */
void kith_shard_set_on_open(
    kith_shard_set *set, void (*opened)(void *ctx, uint64_t shard_id, kith_shard *shard), void *ctx);
/* EXISTS if the id is open; UNAVAILABLE while a drop of it has not ended, or it is reserved: what opened then would be erased
 * underneath. It cannot be found until it is started. `replicated`: as in kith_shard_options. */
KITH_CHECK kith_status kith_shard_set_open(
    kith_shard_set *set, uint64_t shard_id, const kith_schema *schema, bool replicated, kith_err *err);
/* A drop of the id has not ended, or it is reserved. Any thread. */
bool kith_shard_set_is_busy(kith_shard_set *set, uint64_t shard_id);
/* Nobody else opens the id until it is unreserved, once for each time: something writes what it will be. */
void kith_shard_set_reserve(kith_shard_set *set, uint64_t shard_id);
/* For who reserved it: as kith_shard_set_open. */
KITH_CHECK kith_status kith_shard_set_open_reserved(
    kith_shard_set *set, uint64_t shard_id, const kith_schema *schema, bool replicated, kith_err *err);
void kith_shard_set_unreserve(kith_shard_set *set, uint64_t shard_id);
/* For kith_store_log_options.replay of a node whose log has only shards (and KITH_LOG_STREAM_NOTES), or called by one that dispatches.
 * Entries of shards that are not open are skipped: they are dropped ones. */
KITH_CHECK kith_status kith_shard_set_replay(void *set, const kith_log_entry *entry, kith_err *err);
/* Starts every shard that was opened since, and removes files that their manifests do not name. node->log must be
 * set. */
KITH_CHECK kith_status kith_shard_set_start(kith_shard_set *set, kith_err *err);

/* The started shard, or NULL. */
kith_shard *kith_shard_set_find(kith_shard_set *set, uint64_t shard_id);
void kith_shard_set_release(kith_shard_set *set, kith_shard *shard);
uint32_t kith_shard_set_count(kith_shard_set *set);
/* Calls `each` for every started shard, holding it. */
void kith_shard_set_each(
    kith_shard_set *set, void (*each)(void *ctx, uint64_t shard_id, kith_shard *shard), void *ctx);

/* Closes the shard once nobody holds it, erases it (on the background executor, shards that wait together), then
 * calls `done` there. What fails is tried again; only where the set closes first is it told. A shard that is not
 * open is erased all the same: a drop can be repeated after a crash. */
void kith_shard_set_drop(kith_shard_set *set, uint64_t shard_id,
    void (*done)(void *ctx, kith_status status, const kith_err *err), void *ctx);
/* Closes every shard once nobody holds it, destroys them, calls `closed` on the owner executor. No find finds
 * anything from the call on. */
void kith_shard_set_close(kith_shard_set *set, void (*closed)(void *ctx), void *ctx);
/* After close, or after a failed start of the node. Accepts NULL. */
void kith_shard_set_destroy(kith_shard_set *set);

#endif
