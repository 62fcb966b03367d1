/* The log: checksummed append-only files with group commit, shared by every stream (shard or metadata) of a node.
 *
 * A frame is one group commit: everything appended while the last sync ran, written and synced at once under one CRC.
 * So only the last frame of the last file can be torn: nothing after it was ever acknowledged. Bytes are stored XOR
 * a mask, so that a sector which was written is never all zeros: a bad last frame with a missing or all-zero 512-byte
 * sector is torn and dropped; a bad frame anywhere else, or one whose sectors are all there, is CORRUPT and named,
 * never truncated.
 *
 * Threads: append, trim and drop from any thread; `done` runs on the log's executor (one thread), which does the file
 * work. In the simulator that executor is virtual and all is one thread.
 * Ownership: the log borrows env and executor; an append belongs to the caller again once `done` is called. */
#ifndef KITH_STORE_STORE_LOG_H
#define KITH_STORE_STORE_LOG_H

#include "host/base/err.h"
#include "host/env/env.h"

#define KITH_LOG_STREAM_META 0ULL /* streams above it are shard ids */
#define KITH_LOG_STREAM_NOTES                                                                                \
    UINT64_MAX /* which entries of replicated shards are committed: host/shard/shard_note.h */

typedef struct kith_store_log kith_store_log;

typedef struct kith_log_entry {
    uint64_t stream;
    uint64_t epoch;
    /* Rises within a stream; gaps where an append was refused. One that does not rise supersedes what the stream had from there on
     * (host/shard/shard_replica.h). */
    uint64_t sequence;
    const void *data;
    size_t bytes;
} kith_log_entry;

typedef struct kith_log_append kith_log_append;
struct kith_log_append {
    kith_log_entry entry; /* `data` borrowed until done */
    /* OK: durable. NO_SPACE, BUSY: nothing was kept. IO, CORRUPT: the log has stopped; whether it was kept is unknown
     * until restart. */
    void (*done)(kith_log_append *append, kith_status status, const kith_err *err);
    kith_log_append *next; /* the log's */
};

typedef struct kith_log_stats { /* since open */
    uint64_t syncs, bytes, entries, files;
    uint64_t sync_ns_total;
} kith_log_stats;

typedef struct kith_store_log_options {
    kith_env *env;
    const char *dir; /* made when missing */
    kith_executor *executor;
    uint64_t file_bytes;        /* a new file is begun past this */
    uint64_t retain_bytes;      /* files no longer needed are kept up to this total, for delta catch-up */
    uint64_t pending_bytes_max; /* appends waiting for a sync; above it append answers BUSY */
    /* Called for every entry in the order written, inside open. A status but OK ends the open with it. */
    kith_status (*replay)(void *ctx, const kith_log_entry *entry, kith_err *err);
    void *replay_ctx;
    void (*synced)(void *ctx, uint64_t took_ns, uint64_t bytes); /* for metrics; may be NULL */
    void *synced_ctx;
} kith_store_log_options;

/* CORRUPT names the file, the offset and what was wrong. */
KITH_CHECK kith_status kith_store_log_open(
    const kith_store_log_options *options, kith_store_log **log_out, kith_err *err);
/* Appends in the order of the calls. Always ends in exactly one `done`, never before this has returned. */
void kith_store_log_append(kith_store_log *log, kith_log_append *append);
/* Entries of `stream` up to `sequence` are durable elsewhere: files that hold nothing else needed may go. Superseded entries are not
 * needed once what supersedes them is durable. */
void kith_store_log_trim(kith_store_log *log, uint64_t stream, uint64_t sequence);
/* Nothing of `stream` is needed any more. */
void kith_store_log_drop(kith_store_log *log, uint64_t stream);
/* Somewhere in the files; zeroed: before the oldest. */
typedef struct kith_log_place {
    uint64_t file, offset; /* of a frame */
} kith_log_place;

/* Entries of `stream` with sequences [from, to], as far as they are in the files and durable, in the order written (superseded ones
 * too): `each` borrows them; a status but OK ends the reading with it. It begins at `place`, and while `each` runs that says where its entry is:
 * who goes on behind that entry need not begin at the oldest file again. May be NULL. Waits for the disk: from an executor that may. Files that go
 * meanwhile are read to their end. NOT_FOUND: `from` is older than what the files have. */
KITH_CHECK kith_status kith_store_log_read(kith_store_log *log, uint64_t stream, uint64_t from, uint64_t to,
    kith_log_place *place, kith_status (*each)(void *ctx, const kith_log_entry *entry, kith_err *err),
    void *ctx, kith_err *err);
/* The oldest sequence of `stream` that kith_store_log_read can give; UINT64_MAX: none. */
uint64_t kith_store_log_first(kith_store_log *log, uint64_t stream);
/* OK while the log accepts appends; else why it stopped (a failed sync is not retried into a lie). */
kith_status kith_store_log_health(kith_store_log *log, kith_err *err);
void kith_store_log_stats_read(kith_store_log *log, kith_log_stats *stats_out);
/* Completes pending appends first, on the calling thread. Not from `done`. Accepts NULL. */
void kith_store_log_close(kith_store_log *log);

#endif
