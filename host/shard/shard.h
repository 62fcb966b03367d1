/* A shard (here: this node's replica of it): one slice of one collection. Writes go to the node's log, then
 * to the store and the growing segment; searches read an immutable view without locks.
 *
 * Flow of a write: kith_shard_write (any thread) -> owner executor: admission, sequence, log append -> log
 * executor: synced -> owner executor: apply (store batch, growing segment, dead bits), publish the view,
 * answer. Committed entries are applied in sequence order, many at a time; the next search sees them.
 *
 * A read by id takes its moment on the owner and goes on, in slices, on the search executor.
 *
 * Threads: "owner" below is the shard's single-threaded executor (several shards may share one). Functions
 * marked any may be called from any thread. Nothing here waits; completion functions run on the executor
 * named. Ownership: borrows everything in its options; owns its segments, views and folder. */
#ifndef KITH_SHARD_SHARD_H
#define KITH_SHARD_SHARD_H

#include "host/base/arena.h"
#include "host/env/env.h"
#include "host/index/index.h"
#include "host/model/hits.h"
#include "host/model/record.h"
#include "host/store/store.h"
#include "host/store/store_log.h"

typedef struct kith_shard kith_shard;

#define KITH_SHARD_SCRATCH_MAX 64u /* as many search threads as find one waiting; more allocate their own */

/* What all shards of a node share. Limits are the config's (host/config/config_table.h). */
typedef struct kith_shard_node {
    kith_env *env;
    const char *segment_dir; /* one folder a node; files are named <shard id>-<segment id>.seg */
    kith_store *store;
    kith_store_log *log;       /* set once the log is open: recovery runs before it is */
    kith_executor *owner;      /* 1 thread: applies writes, publishes views */
    kith_executor *search;     /* n threads: searches, reads of points */
    kith_executor *background; /* seals, merges, store flushes: may wait for the disk */
    const kith_compute_ops *compute;
    uint64_t search_batch_window_ns; /* searches wait this long for others, on a GPU only */
    uint64_t seal_bytes;             /* of vectors */
    uint32_t seal_rows;
    uint64_t seal_idle_ns;
    uint64_t merge_bytes_max;
    uint32_t request_window;        /* remembered request ids a shard */
    uint64_t write_queue_bytes_max; /* ops admitted and not yet applied, of one shard; above it BUSY */
    /* Below it upserts, and copies that come, are NO_SPACE; below half of it deletes, and copies for others. Changed by any thread. */
    _Atomic uint64_t disk_reserve_bytes;
    uint32_t read_slice_points; /* points that a read looks at before others have their turn; 0: default */
    /* Counters for metrics, all atomic, shared by the shards; may be NULL. */
    struct kith_shard_counters *counters;
    /* A growing segment was sealed, from its plan to its publication; on the owner. May be NULL. */
    void (*sealed)(void *ctx, uint64_t took_ns);
    void *sealed_ctx;
    /* Scratch of searches, kept for the next one. Zero at start; freed by kith_shard_node_fini. */
    _Atomic(void *) scratch[KITH_SHARD_SCRATCH_MAX];
    /* Places that reads of points have taken, and the reads that wait for some; the list is the owner's. */
    _Atomic uint32_t read_places, reads_waiting;
    struct shard_reading *reads_first, *reads_last;
    struct shard_notes *notes; /* the set's */
    _Atomic bool closed_short; /* a shard closed without having everything in the log */
} kith_shard_node;

typedef struct kith_shard_counters {
    _Atomic uint64_t points_upserted, points_deleted, seals, merges, rows_scanned, rows_coded, code_survivors,
        rows_rescored, wide_scans, search_batches, search_batched, segments_corrupt, read_slices;
} kith_shard_counters;

typedef struct kith_shard_options {
    kith_shard_node *node;
    uint64_t shard_id;
    const kith_schema *schema; /* copied */
    bool replicated;           /* it will have a gate (shard_replica.h) */
} kith_shard_options;

/* After the last shard is destroyed. */
void kith_shard_node_fini(kith_shard_node *node);

/* --- life --- */

/* Reads the manifest and tombstones from the store and maps the segments. A segment that is corrupt is
 * quarantined: the shard opens, its searches and writes answer CORRUPT naming the file, and health says so.
 */
KITH_CHECK kith_status kith_shard_open(
    const kith_shard_options *options, kith_shard **shard_out, kith_err *err);
/* During recovery, before any other use: applies one log entry of this shard (those already sealed are
 * skipped); of a replicated one it is kept until it is known to be committed. */
KITH_CHECK kith_status kith_shard_replay(kith_shard *shard, const kith_log_entry *entry, kith_err *err);
/* Ends recovery: publishes the first view, begins background work. */
KITH_CHECK kith_status kith_shard_start(kith_shard *shard, kith_err *err);
/* Completes writes that were admitted and background work (cancelling builds), then calls `closed` on the
 * owner executor; after that kith_shard_destroy. New requests are CLOSED from the call on. */
void kith_shard_close(kith_shard *shard, void (*closed)(void *ctx), void *ctx);
/* Frees memory; accepts NULL. Only after close, or in place of start after a failed recovery. */
void kith_shard_destroy(kith_shard *shard);

/* --- write --- */

typedef struct kith_write_result {
    uint64_t epoch, sequence; /* with the shard id: the token */
    uint32_t points_changed;  /* upserted; or deleted points that were there */
    bool repeated;            /* the first answer to this request id, given again */
} kith_write_result;

typedef struct kith_shard_write kith_shard_write;
struct kith_shard_write {
    const void
        *op; /* encoded by kith_op_encode and already checked against the schema; borrowed until done */
    size_t op_bytes;
    kith_request_id request_id; /* as inside the op */
    uint64_t deadline_ns;       /* not begun by then: DEADLINE, nothing done */
    /* On the owner executor. BUSY, NO_SPACE, NO_MEMORY, DEADLINE, CLOSED, CORRUPT, IO: nothing was done, which says
     * nothing of an earlier one with its request id. UNKNOWN_OUTCOME: it may or may not survive; repeat it with the same
     * request id. */
    void (*done)(
        kith_shard_write *write, kith_status status, const kith_write_result *result, const kith_err *err);
    void *impl[4]; /* the shard's */
};
/* Any thread. Exactly one done, never before this has returned. */
void kith_shard_write_start(kith_shard *shard, kith_shard_write *write);

/* --- read --- */

typedef struct kith_shard_search kith_shard_search;
struct kith_shard_search {
    uint32_t field_index;
    const float *
        queries; /* [query_count][dim] f32, checked finite (and non-zero under cosine); borrowed until done */
    uint32_t query_count; /* 1..KITH_QUERIES_MAX */
    uint32_t k;           /* 1..KITH_K_MAX */
    uint64_t deadline_ns;
    const atomic_bool *cancelled; /* may be NULL */
    bool may_run_inline; /* lets a search that costs less than a hand-over end before start returns */
    /* Ids of the hits stay good until kith_shard_search_release, which is then due once after an OK `done`. */
    bool hold_ids;
    /* On a search thread, or inside start. `hits` [query_count]: each list best first; lists borrowed until done returns,
     * and ids too unless `hold_ids`. */
    void (*done)(kith_shard_search *search, kith_status status, const kith_hits *hits, const kith_err *err);
    void *impl[8]; /* the shard's */
};
/* Any thread. Splits the view into parts over the search executor; searches that wait for the same field and k run as one
 * (shard_batch.c). Those that wait when the shard closes are CLOSED. With `may_run_inline`, a search that is
 * small (rows x queries x dim) is done at once without another hop, `done` before this returns. */
void kith_shard_search_start(kith_shard *shard, kith_shard_search *search);
/* Any thread, also inside `done`. Until then the shard does not close, and files of the segments stay. */
void kith_shard_search_release(kith_shard_search *search);

typedef struct kith_shard_point {
    kith_id id;
    uint64_t sequence;
    const char *payload; /* JSON text, or NULL */
    uint32_t payload_bytes;
    uint32_t field_mask;
    const void *vectors[KITH_FIELDS_MAX]; /* stored bytes; only where asked for */
} kith_shard_point;

typedef struct kith_shard_read kith_shard_read;
struct kith_shard_read {
    enum { KITH_READ_GET, KITH_READ_SCROLL } kind;
    const kith_id *ids; /* get: [id_count], borrowed until done */
    uint32_t id_count;
    bool has_from; /* scroll: from this id on (inclusive), or from the start; at most `limit` points, in id
                      order */
    kith_id from;
    uint32_t limit;
    bool with_payload;
    bool with_vectors;
    size_t bytes_max; /* the answer ends before the points' bytes pass this; at least one point */
    uint64_t deadline_ns;
    const atomic_bool *cancelled; /* may be NULL */
    /* On a search thread. get: points [count] in the order asked, those not found are left out. scroll: points in id
     * order. `next`: the first point left out for `limit` or `bytes_max`; NULL when there is none. Points and vectors are
     * all of one moment. All borrowed until done returns. */
    void (*done)(kith_shard_read *read, kith_status status, const kith_shard_point *points, uint32_t count,
        const kith_id *next, const kith_err *err);
    void *impl[8];
};
/* Any thread. Sees every write answered before the call. */
void kith_shard_read_start(kith_shard *shard, kith_shard_read *read);

/* Any thread: what it was opened with; borrowed while the shard is held. */
const kith_schema *kith_shard_schema(const kith_shard *shard);

/* Any thread, from the current view: live points. */
uint64_t kith_shard_count(kith_shard *shard);

typedef struct kith_shard_stats {
    uint64_t points, dead_rows, segments, segments_sealed, vector_bytes, applied_sequence, sealed_sequence;
    bool stalled; /* committed writes wait for space in the store */
} kith_shard_stats;
void kith_shard_stats_read(kith_shard *shard, kith_shard_stats *stats_out); /* any thread */
/* OK, or CORRUPT with the file's name, or why writes are stopped. Any thread. */
kith_status kith_shard_health(kith_shard *shard, kith_err *err);

/* --- maintenance --- */

typedef struct kith_shard_job kith_shard_job;
struct kith_shard_job {
    void (*done)(kith_shard_job *job, kith_status status, const kith_err *err); /* on the owner executor */
    void *impl[8];
};
/* Seals the growing segment now, merges what the policy wants, and flushes the store. Any thread. */
void kith_shard_seal_start(kith_shard *shard, kith_shard_job *job);

/* Digest of (id, sequence, vectors, payload) of all live points, independent of segmentation: the sum mod
 * 2^64 of each point's kith_hash64. Owner thread; reads everything. Equal replicas have equal digests. */
KITH_CHECK kith_status kith_shard_digest(kith_shard *shard, uint64_t *digest_out, kith_err *err);
/* Walks every structure and compares: each live id in exactly one segment, store and view agree. For tests
 * and the simulator; owner thread. */
KITH_CHECK kith_status kith_shard_validate(kith_shard *shard, kith_err *err);

#endif
