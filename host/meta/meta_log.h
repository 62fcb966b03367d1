/* How metadata commands become committed: propose -> committed -> applied, in one order. One implementation here: one
 * node's durable log (meta_log_local.c). In a cluster the same table is filled by Raft.
 *
 * Threads: every function runs on meta's executor, except where it says so; `apply` and `done` are called there too.
 * Ownership: a proposal and its bytes belong to the proposer again once `done` is called. */
#ifndef KITH_META_META_LOG_H
#define KITH_META_META_LOG_H

#include "host/meta/meta_fsm.h"
#include "host/store/store_log.h"

typedef struct kith_meta_log kith_meta_log;

typedef struct kith_meta_log_proposal kith_meta_log_proposal;
struct kith_meta_log_proposal {
    const void *bytes; /* an encoded command */
    size_t byte_count;
    /* Exactly once, never before propose has returned. OK: committed and applied, `result` borrowed until it returns.
     * NO_SPACE, BUSY, NOT_LEADER: nothing was done. UNKNOWN_OUTCOME: it may or may not survive. */
    void (*done)(kith_meta_log_proposal *proposal, kith_status status, const kith_meta_result *result,
        const kith_err *err);
    void *impl[20];
};

typedef struct kith_meta_log_ops {
    void (*propose)(kith_meta_log *log, kith_meta_log_proposal *proposal);
    void (*close)(kith_meta_log *log);
} kith_meta_log_ops;

struct kith_meta_log {
    const kith_meta_log_ops *ops;
};

static inline void kith_meta_log_propose(kith_meta_log *log, kith_meta_log_proposal *proposal) {
    log->ops->propose(log, proposal);
}
/* No proposal may be open. Writes what makes the next start quick. Accepts NULL. */
static inline void kith_meta_log_close(kith_meta_log *log) {
    if (log) log->ops->close(log);
}

/* --- one node's durable log --- */

typedef struct kith_meta_log_local_options {
    kith_env *env;
    const char *dir;         /* <data>/meta: snapshot.kith; made when missing */
    kith_executor *executor; /* meta's, one thread */
    kith_meta_fsm *fsm;      /* borrowed */
    /* A command was applied: called before its proposal's done, and in replay. */
    void (*applied)(void *ctx, kith_meta_result *result);
    void *ctx;
} kith_meta_log_local_options;

/* Restores the last snapshot. CORRUPT names the file. */
KITH_CHECK kith_status kith_meta_log_local_open(
    const kith_meta_log_local_options *options, kith_meta_log **log_out, kith_err *err);
/* For each entry of KITH_LOG_STREAM_META while the node's log is opened: applies those that the snapshot lacks. */
KITH_CHECK kith_status kith_meta_log_local_replay(
    kith_meta_log *log, const kith_log_entry *entry, kith_err *err);
/* True between open and start when there was no snapshot: a new node. Replay refuses commands then, and shards that are
 * there all the same are not leftovers but a sign that the file was lost. */
bool kith_meta_log_local_is_new(const kith_meta_log *log);
/* Once, when the node's log is open. A new node gets its first snapshot here, before its first command. */
KITH_CHECK kith_status kith_meta_log_local_start(
    kith_meta_log *log, kith_store_log *store_log, kith_err *err);

/* The snapshot file: magic "KITHMETA", u32 version 1, u32 CRC-32C of what follows, u64 length, then the snapshot
 * (host/codec/codec_meta.h). Little-endian. Written beside and renamed, so a crash leaves the old or the new one. */
KITH_CHECK kith_status kith_meta_snapshot_write(
    kith_env *env, const char *dir, const void *bytes, size_t byte_count, kith_err *err);
/* NOT_FOUND when there is none. */
KITH_CHECK kith_status kith_meta_snapshot_read(
    kith_env *env, const char *dir, kith_buf *bytes_out, kith_err *err);

#endif
