/* Applied state: an ordered key-value store with two families of keys and atomic batches. Two implementations: RocksDB
 * (store_rocksdb.c, the only file that sees it; its WAL is off), and an ordered map with flushed and unflushed state for
 * the simulator (store_sim.c). After a crash the state is that of some moment at or
 * after the last flush, the same moment in both families; our log replays what came after.
 *
 * Keys of shard data begin with the shard id as u64 big-endian, so that a shard is a range.
 *
 * Threads: every function from any thread, except that a batch and an iterator are used by one thread at a time. Calls may wait
 * for the disk. A full disk is NO_SPACE: reads go on, and writes work again when there is space. */
#ifndef KITH_STORE_STORE_H
#define KITH_STORE_STORE_H

#include <stdbool.h>

#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/env/env.h"

typedef enum kith_store_family {
    KITH_STORE_POINTS = 0, /* shard id, order key of the point's id -> sequence u64, payload */
    KITH_STORE_META = 1,   /* manifests, tombstones, applied sequences, request windows */
    KITH_STORE_FAMILIES = 2,
} kith_store_family;

typedef struct kith_store kith_store;
typedef struct kith_store_batch kith_store_batch;
typedef struct kith_store_iterator kith_store_iterator;
typedef struct kith_store_snapshot kith_store_snapshot;
typedef struct kith_store_load kith_store_load;

KITH_CHECK kith_status kith_store_rocksdb_open(
    const char *path, uint64_t memory_bytes, kith_store **store_out, kith_err *err);

/* What survives a crash of a simulated store. Made once per simulated node. `chance` in [0,1] that a write also flushes,
 * as RocksDB does when a memtable fills. `before_flush` (may be NULL) is a crash point: a status but OK leaves the state
 * unflushed and is returned. */
typedef struct kith_store_sim_disk kith_store_sim_disk;
kith_store_sim_disk *kith_store_sim_disk_create(
    uint64_t seed, double chance, kith_status (*before_flush)(void *ctx, kith_err *err), void *ctx);
void kith_store_sim_disk_destroy(kith_store_sim_disk *disk);
/* Only flushed state is there. One open store a disk. */
KITH_CHECK kith_status kith_store_sim_open(kith_store_sim_disk *disk, kith_store **store_out, kith_err *err);

void kith_store_close(kith_store *store); /* promises no flush (RocksDB may); accepts NULL */

kith_store_batch *kith_store_batch_create(kith_store *store);
void kith_store_batch_destroy(kith_store_batch *batch);
void kith_store_batch_clear(kith_store_batch *batch);
void kith_store_batch_put(kith_store_batch *batch, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes);
void kith_store_batch_remove(
    kith_store_batch *batch, kith_store_family family, const void *key, size_t key_bytes);
/* Keys in [from, to). */
void kith_store_batch_remove_range(kith_store_batch *batch, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes);
/* All or nothing, in both families; visible to later reads; durable after the next flush. */
KITH_CHECK kith_status kith_store_write(kith_store *store, kith_store_batch *batch, kith_err *err);
/* Everything written before is durable when it returns OK. */
KITH_CHECK kith_status kith_store_flush(kith_store *store, kith_err *err);
/* Many keys, past the memory in which writes wait: RocksDB takes them as sorted files. Once finished they are in the store, over what was
 * there, and durable, also where writes before are not yet. Until then, and if it does not come to that, none or some of them are there: so
 * for a range that was removed and flushed, and is again where it fails. Used by one thread at a time. */
KITH_CHECK kith_status kith_store_load_begin(kith_store *store, kith_store_load **load_out, kith_err *err);
/* Keys rise within a family, and a family that was left is not come back to. */
KITH_CHECK kith_status kith_store_load_put(kith_store_load *load, kith_store_family family, const void *key,
    size_t key_bytes, const void *value, size_t value_bytes, kith_err *err);
/* After it, or after any failure, only destroy is left. */
KITH_CHECK kith_status kith_store_load_finish(kith_store_load *load, kith_err *err);
void kith_store_load_destroy(kith_store_load *load); /* before the store is closed; accepts NULL */
/* NOT_FOUND without a message when there is none; `value_out` is cleared first. */
KITH_CHECK kith_status kith_store_get(kith_store *store, kith_store_family family, const void *key,
    size_t key_bytes, kith_buf *value_out, kith_err *err);

/* The store as it is at this moment, in all families; cheap, and it waits for nothing. */
kith_store_snapshot *kith_store_snapshot_create(kith_store *store);
/* After its iterators and before the store is closed. Accepts NULL. */
void kith_store_snapshot_destroy(kith_store_snapshot *snapshot);
/* As kith_store_get and kith_store_iterator_open, of that moment. */
KITH_CHECK kith_status kith_store_snapshot_get(kith_store_snapshot *snapshot, kith_store_family family,
    const void *key, size_t key_bytes, kith_buf *value_out, kith_err *err);
KITH_CHECK kith_status kith_store_snapshot_iterator_open(kith_store_snapshot *snapshot,
    kith_store_family family, const void *from, size_t from_bytes, const void *to, size_t to_bytes,
    kith_store_iterator **iterator_out, kith_err *err);

/* A consistent walk over [from, to) in key order. Begins before the first entry. */
KITH_CHECK kith_status kith_store_iterator_open(kith_store *store, kith_store_family family, const void *from,
    size_t from_bytes, const void *to, size_t to_bytes, kith_store_iterator **iterator_out, kith_err *err);
/* False at the end or on an error (kith_store_iterator_status). Key and value are borrowed until the next call. */
bool kith_store_iterator_next(kith_store_iterator *iterator, const void **key_out, size_t *key_bytes_out,
    const void **value_out, size_t *value_bytes_out);
KITH_CHECK kith_status kith_store_iterator_status(kith_store_iterator *iterator, kith_err *err);
void kith_store_iterator_close(kith_store_iterator *iterator);
/* Bytes of memory held by memtables and caches, for metrics. */
uint64_t kith_store_memory_bytes(kith_store *store);

#endif
