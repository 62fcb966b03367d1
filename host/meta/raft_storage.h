/* The disk of a Raft member: term and vote, the newest snapshot, and the log of entries behind and after it.
 *
 * <dir>/term.kith (raft_term.h), <dir>/raft-snapshot.kith (raft_snapshot.h), <dir>/raft-log/: a store_log of one stream,
 * for its torn tails, checksums and files that go from the front are tested already. One append of it is a record: u32
 * version 1, u32 item count, then items: u32 kind, u32 bytes, u64 index, u64 term, data; little-endian. An entry at an
 * index replaces whatever was there and after it; so do the items that hold no entry: CUT (nothing from this index on) and
 * RESET (nothing at all before this index either). An entry past the end of the log leaves only itself: such a hole is
 * behind a snapshot, which is checked when all is read.
 *
 * Order: one record is on its way to the disk at a time, and what came meanwhile makes the next one. So entries are on
 * disk in the order they were given, also when a full disk refuses one: it is tried again until there is room.
 *
 * What a failure does: NO_SPACE for entries stalls (see health), for a snapshot fails that one; anything else stops the
 * storage for good, and every operation after it fails.
 *
 * Threads: open on one thread before anything else; then all functions and all `done` on options.executor.
 * Ownership: operations belong to the storage until `done`, which is never called before the function has returned. */
#ifndef KITH_META_RAFT_STORAGE_H
#define KITH_META_RAFT_STORAGE_H

#include "host/meta/raft_snapshot.h"
#include "host/meta/raft_term.h"
#include "host/store/store_log.h"

typedef struct kith_raft_storage kith_raft_storage;

typedef struct kith_raft_storage_options {
    kith_env *env;
    const char *dir;
    kith_executor *executor;
    kith_executor *disk_executor;
    kith_executor *snapshot_executor;
    bool must_exist;
} kith_raft_storage_options;

typedef struct kith_raft_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type; /* libraft's: 1..3 */
    const void *data;
    size_t bytes;
} kith_raft_entry;

/* What open found. */
typedef struct kith_raft_found {
    bool has_snapshot;
    kith_raft_snapshot snapshot;
    uint64_t start_index;     /* of the first entry; snapshot.index + 1 when there is none */
    kith_raft_entry *entries; /* [entry_count], indexes without a hole */
    size_t entry_count;
    kith_buf data; /* of the entries */
} kith_raft_found;

/* CORRUPT names the file. */
KITH_CHECK kith_status kith_raft_storage_open(
    const kith_raft_storage_options *options, kith_raft_storage **storage_out, kith_err *err);
/* Until kith_raft_storage_found_free. */
const kith_raft_found *kith_raft_storage_found(const kith_raft_storage *storage);
void kith_raft_storage_found_free(kith_raft_storage *storage);

uint64_t kith_raft_storage_term(const kith_raft_storage *storage);
uint64_t kith_raft_storage_vote(const kith_raft_storage *storage);
/* On disk when it returns OK. */
KITH_CHECK kith_status kith_raft_storage_term_set(
    kith_raft_storage *storage, uint64_t term, uint64_t vote, kith_err *err);
/* The first snapshot of a new cluster, which open found nothing of. Durable when it returns OK. */
KITH_CHECK kith_status kith_raft_storage_bootstrap(
    kith_raft_storage *storage, const kith_raft_snapshot *snapshot, kith_err *err);

typedef struct kith_raft_write kith_raft_write;
struct kith_raft_write {
    /* OK: durable. Else the storage has stopped, or was told to. */
    void (*done)(kith_raft_write *write, kith_status status, const kith_err *err);
    /* The storage's. */
    kith_raft_write *next;
    enum { KITH_RAFT_WRITE_ITEMS = 1, KITH_RAFT_WRITE_INSTALL } kind;
    kith_buf items;
    uint32_t item_count;
    uint64_t last_index;
    const kith_raft_snapshot *snapshot;
    kith_task task;
    kith_raft_storage *storage;
    kith_err err;
};

/* Set write->done. Copies the entries, which follow each other. */
void kith_raft_storage_append(
    kith_raft_storage *storage, kith_raft_write *write, const kith_raft_entry *entries, size_t entry_count);
/* Entries from `index` on are gone, in the order of the appends; when it fails, so do those after it. */
void kith_raft_storage_truncate(kith_raft_storage *storage, uint64_t index);
/* Set write->done. After all that was given before: the snapshot is all there is, the log goes on behind it. `snapshot`
 * is borrowed until done. */
void kith_raft_storage_install(
    kith_raft_storage *storage, kith_raft_write *write, const kith_raft_snapshot *snapshot);
/* An append or install is under way. */
bool kith_raft_storage_busy(const kith_raft_storage *storage);
/* Any operation is: close must wait. */
bool kith_raft_storage_idle(const kith_raft_storage *storage);
/* NO_SPACE while writes wait for room; what stopped it for good; else OK. */
kith_status kith_raft_storage_health(const kith_raft_storage *storage, kith_err *err);

typedef struct kith_raft_file kith_raft_file;
struct kith_raft_file {
    void (*done)(kith_raft_file *file, kith_status status, const kith_err *err);
    kith_raft_snapshot
        snapshot; /* write: set before, its bytes borrowed until done; read: set by done(OK), for the caller */
    uint32_t trailing; /* write: entries up to snapshot.index that stay */
    /* The storage's. */
    kith_task task;
    kith_raft_storage *storage;
    bool reads;
    kith_status status;
    kith_err err;
};
/* Beside the appends. */
void kith_raft_storage_snapshot_write(kith_raft_storage *storage, kith_raft_file *file);
void kith_raft_storage_snapshot_read(kith_raft_storage *storage, kith_raft_file *file);

/* What waits ends CLOSED; what is under way is finished. `idle` is called when nothing is, perhaps before this returns. */
void kith_raft_storage_stop(kith_raft_storage *storage, void (*idle)(void *ctx), void *ctx);
/* Must be idle. Accepts NULL. */
void kith_raft_storage_close(kith_raft_storage *storage);

#endif
