/* What the shard's files share. Everything in kith_shard belongs to the owner executor unless it says
 * otherwise. */
#ifndef KITH_SHARD_SHARD_INTERNAL_H
#define KITH_SHARD_SHARD_INTERNAL_H

#include "host/base/arena.h"
#include "host/base/hazard.h"
#include "host/base/limits.h"
#include "host/base/map.h"
#include "host/base/thread.h"
#include "host/shard/shard.h"
#include "host/shard/shard_compact.h"
#include "host/shard/shard_note.h"
#include "host/shard/shard_replica.h"
#include "host/shard/shard_request_window.h"
#include "host/shard/shard_tail.h"
#include "host/shard/shard_view.h"

#define SHARD_EPOCH            1u /* of entries that are written without a gate */
#define SHARD_FROZEN_MAX       4u /* frozen segments that wait to be sealed; above it writes are BUSY */
#define SHARD_ROUND_BYTES_MAX  (16u << 20) /* ops applied in one round */
#define SHARD_ROUND_COUNT_MAX  1024u
#define SHARD_WAITERS_MAX      64u /* repeats that wait for one write; above it they are BUSY (a guess) */
#define SHARD_STALL_RETRY_NS   (100ULL * 1000 * 1000)
#define SHARD_DISK_READ_NS     (100ULL * 1000 * 1000) /* a reading of the free bytes is this long good */
#define SHARD_BACKOFF_NS_LEAST (100ULL * 1000 * 1000)
#define SHARD_BACKOFF_NS_MAX   (10ULL * 1000 * 1000 * 1000)
#define SHARD_PATH_BYTES_MAX   4096u
#define SHARD_TAIL_BYTES_MAX   (4u << 20) /* applied entries of a replica that stay in memory for others */
#define SHARD_RUNS_MAX         16u        /* runs of searches of one shard at once */
/* Queries and queries x k of a batch of several searches: one reading of the rows serves so many, and four times as many. */
#define SHARD_BATCH_QUERIES_MAX 256u
#define SHARD_BATCH_RESULTS_MAX (256u << 10)

typedef enum shard_part_kind { SHARD_PART_SEALED, SHARD_PART_FROZEN, SHARD_PART_GROWING } shard_part_kind;

/* A segment as the owner works on it; the view has the published picture. */
typedef struct shard_part {
    shard_part_kind kind;
    kith_segment *segment;
    shard_dead *dead; /* or NULL: none dead */
    bool dead_fresh;  /* made since the last publication, so it may still be changed in place */
    uint32_t row_count;
    uint32_t dead_count;
    uint64_t frozen_sequence; /* frozen: every entry up to it is in this segment or an earlier one */
} shard_part;

/* A write between admission and its answer. */
typedef struct shard_entry shard_entry;
struct shard_entry {
    kith_task task;
    kith_log_append append;
    kith_shard *shard;
    kith_shard_write *write; /* NULL once answered */
    shard_entry *next;       /* in the pending queue, the round, or a list of waiters */
    shard_entry *waiters;    /* repeats of this request id that came meanwhile; none is answered yet */
    const void *op;
    void *op_copy; /* where the caller was answered before the op was applied */
    size_t op_bytes;
    kith_request_id request_id;
    uint64_t deadline_ns;
    bool logged;  /* the log has answered; of a replica: and has it */
    bool applied; /* wholly in the round's working state */
    bool over_queue_limit;
    bool in_log;    /* a replica's: the log holds `append` */
    bool in_tail;   /* a replica's: the tail has its bytes */
    bool truncated; /* a replica's: gone, and freed once the log has answered */
    kith_status status;
    kith_write_result result;
    kith_err err;
};

typedef struct shard_queue {
    shard_entry *first, *last;
} shard_queue;

/* Entries applied together: one store batch, one view. Survives a stall and goes on where it stopped. */
typedef struct shard_round {
    bool active;
    kith_store_batch *batch;
    kith_arena arena;
    shard_queue entries;
    shard_entry *current; /* being applied; NULL: all are */
    kith_op op;           /* of `current`, in `arena` */
    bool op_decoded;
    uint32_t next_point;
    uint32_t points_changed;
    size_t replay_bytes; /* recovery: log bytes in `batch` */
} shard_round;

/* What a shard with a gate has besides (shard_replica.c). */
typedef struct shard_replica {
    const kith_shard_gate *gate;
    shard_tail tail; /* every entry that is not applied, and some that are */
    shard_epochs epochs;
    uint64_t committed;    /* as the gate says; may be ahead of what is here */
    uint64_t durable;      /* every entry up to it is */
    uint64_t sent;         /* every entry up to it was given to the log */
    uint64_t log_greatest; /* sequence that the log may have an entry of which no later one supersedes */
    uint64_t log_alone;    /* this one supersedes: later ones wait until the log has it; 0: none */
    uint64_t noted;
    uint64_t answered;     /* of entries up to it, upserts were answered, or will be when they are applied */
    uint64_t stored_epoch; /* as found at the start */
    uint64_t floor;        /* what the log has up to it is not this shard's */
    uint64_t kept;         /* last applied entry that `kept_bytes` counts */
    size_t kept_bytes;
    uint32_t in_flight; /* entries of the tail that the log has not answered */
    bool refused;       /* the log refused one: no new writes until it has all */
    bool waits;         /* until what was refused, and all behind it, is given to the log again */
    bool stopped;       /* `failed` was told */
    kith_timer timer;   /* deadlines, and giving again */
    bool timer_armed;
} shard_replica;

typedef enum shard_build_state { SHARD_BUILD_NONE, SHARD_BUILD_RUNNING, SHARD_BUILD_DONE } shard_build_state;

/* A seal or a merge: written on the background executor, published by the owner. One of each at a time: a
 * long merge must not keep frozen segments in memory. */
typedef struct shard_build {
    kith_shard *shard;
    bool is_merge;
    shard_build_state state;
    kith_task task;
    uint64_t segment_id;
    uint64_t frozen_sequence; /* of a seal */
    uint64_t began_ns;
    atomic_bool cancel;
    uint32_t source_count;
    kith_segment_source sources[SHARD_MERGE_SOURCES_MAX]; /* segments and dead bits held */
    shard_dead *deads[SHARD_MERGE_SOURCES_MAX];
    char path[SHARD_PATH_BYTES_MAX];
    kith_status status;
    kith_err err;
    uint32_t row_count;
    kith_segment *output; /* NULL: no row was live */
    bool publish_tried;   /* the manifest in the store may name the file */
} shard_build;

/* Makes the manifest durable, then trims the log and removes replaced files. */
typedef struct shard_flush {
    bool running;
    bool wanted; /* the manifest has changed since the last flush began */
    kith_task task;
    uint64_t sealed_sequence;
    uint32_t retired_count;
    kith_status status;
    kith_err err;
} shard_flush;

/* What the shard keeps in kith_shard_search.impl. */
typedef struct shard_search_state {
    kith_task task;          /* of one that is not batched */
    kith_shard_search *next; /* waiting, or in a batch */
    kith_shard *shard;
    shard_view *view; /* held for the ids */
    bool alone;       /* there was no memory for its batch */
} shard_search_state;

static inline shard_search_state *shard_search_state_of(const kith_shard_search *search) {
    return (shard_search_state *)search->impl;
}

typedef struct shard_search_list {
    kith_shard_search *first, *last;
} shard_search_list;

/* A run of searches, from when it is posted until it has ended. */
typedef struct shard_batch_slot {
    kith_timer timer; /* its task begins the run; started only where searches are gathered for a while */
    kith_shard *shard;
    bool taken;
} shard_batch_slot;

/* Searches that wait. Any thread: a lock, because a message to an owner would cost every search another hop, and it is held
 * for some pointers only. */
typedef struct shard_batcher {
    kith_mutex mutex; /* rank SHARD */
    shard_search_list waiting;
    uint32_t runs;             /* taken slots */
    shard_batch_slot *pending; /* posted and not yet begun: what waits is taken by it */
    bool gathers;              /* `pending` waits for its timer */
    uint32_t gathered_queries;
    shard_batch_slot slots[SHARD_RUNS_MAX];
} shard_batcher;

/* Searches of one field with one k that run as one; small, copied. */
typedef struct shard_batch {
    kith_shard *shard;
    shard_batch_slot *slot;    /* NULL: run inside start */
    shard_search_list members; /* in the order of their queries */
    uint32_t member_count;
    uint32_t query_count;
    uint32_t field_index;
    uint32_t k;
    const float *queries; /* [query_count][dim] f32: those of the only member, or `block` */
    float *block;
} shard_batch;

typedef struct shard_digesting shard_digesting;

struct kith_shard {
    kith_shard_node *node;
    uint64_t id;
    kith_schema schema;
    size_t row_bytes;

    /* Any thread. `uses`: one for the open shard and one for everything under way; at 0 `closed` is called.
     */
    _Atomic uint32_t uses;
    atomic_bool closing;
    _Atomic uint64_t queued_bytes;
    _Atomic uint64_t sealed_sequence; /* in the manifest */
    atomic_bool stalled;
    _Atomic int health; /* release, after the text; kith_status. The first fault stays. */
    char health_text[KITH_ERR_BYTES_MAX];
    kith_hazard_cell *view_cell;
    shard_batcher batcher;

    kith_task start_task, close_task, closed_task;
    void (*closed)(void *ctx);
    void *closed_ctx;

    shard_part *parts; /* sealed, then frozen in order, then the growing one if there is one */
    uint32_t part_count, part_capacity;
    uint64_t next_segment_id;
    uint64_t last_sequence;    /* given to an entry */
    uint64_t applied_sequence; /* of the working state */
    uint64_t applied_epoch;    /* of that entry; 0 where there is none */
    uint64_t frozen_sequence;  /* nothing after it is in a frozen or sealed segment */
    uint64_t stored_sequence;  /* the store has everything up to it */
    uint64_t growing_op_bytes; /* log bytes since the last freeze */
    bool started;

    shard_queue pending; /* admitted, in sequence order */
    bool apply_posted;
    kith_task apply_task;
    shard_round round;
    kith_timer stall_timer;
    bool stall_armed; /* from the start of the timer until its task has run */

    shard_window *window;
    kith_map *in_flight; /* request id -> shard_entry */
    bool replicated;
    shard_replica replica;

    uint64_t free_bytes, free_read_ns;

    shard_build seal, merge;
    shard_flush flush;
    kith_segment **retired; /* replaced by a merge; removed after the next flush */
    uint32_t retired_count, retired_capacity;
    uint64_t flushed_sequence; /* sealed_sequence that a flush made durable */
    kith_timer maintain_timer; /* back-off */
    bool maintain_armed;
    uint64_t backoff_ns, backoff_until_ns;
    kith_timer idle_timer;
    bool idle_armed;
    uint64_t idle_due_ns;
    bool freeze_wanted;
    kith_shard_job *jobs;
    shard_digesting *digests_waiting; /* for their entry */
};

/* --- shard.c --- */

void shard_use_acquire(kith_shard *shard);
/* False when the shard is closing: the request must be answered CLOSED. */
bool shard_use_try_acquire(kith_shard *shard);
void shard_use_release(kith_shard *shard);
/* Keeps the first fault; the shard answers it from now on. */
void shard_health_set(kith_shard *shard, kith_status status, const char *text);
/* OK, or the fault with its text in `err`. Any thread. */
kith_status shard_health_check(kith_shard *shard, kith_err *err);
/* As health, but OK where only writes are stopped: the view is whole and goes on being read. */
kith_status shard_readable_check(kith_shard *shard, kith_err *err);
void shard_count_add(kith_shard *shard, size_t counter_offset, uint64_t value);
#define SHARD_COUNT(shard, counter, value)                                                                   \
    shard_count_add(shard, offsetof(kith_shard_counters, counter), value)

/* --- shard_write.c --- */

/* Posts a round if entries wait and none is posted. */
void shard_apply_post(kith_shard *shard);
void shard_write_drain_closing(kith_shard *shard);
uint32_t shard_frozen_count(const kith_shard *shard); /* segments that wait to be sealed */
void shard_queue_push(shard_queue *queue, shard_entry *entry);
void shard_entry_append_init(shard_entry *entry); /* all but epoch and sequence */
bool shard_head_is_ready(const kith_shard *shard);
void shard_entry_free(shard_entry *entry);
/* Answers the writer, where there is one still. */
void shard_entry_answer(
    shard_entry *entry, kith_status status, const kith_write_result *result, const kith_err *err);
/* Answers the entry and the repeats that wait for it, and frees those. */
void shard_entry_answer_all(shard_entry *entry, kith_status status, const kith_err *err);
/* And a repeat that comes from now on does not find it. */
void shard_entry_conclude(shard_entry *entry, kith_status status, const kith_err *err);
/* And frees the entry. */
void shard_entry_finish(shard_entry *entry, kith_status status, const kith_err *err);
/* Answers the entry and the repeats that wait for it, before it is applied, if it is an upsert. */
void shard_entry_answer_upsert(shard_entry *entry);
/* UNKNOWN_OUTCOME to those of the queue, and their repeats, whose deadline has passed. */
void shard_queue_expire(kith_shard *shard, const shard_queue *queue);
/* The first in flight with this request id is the entry, where there is none yet. */
void shard_in_flight_put(kith_shard *shard, shard_entry *entry);
/* Writes have stopped for good: health and the gate say so. */
void shard_fail(kith_shard *shard, kith_status status, kith_err *err);

/* --- shard_replica.c: nothing here is called for a shard that is not replicated --- */

/* Makes the write the next entry. Any status but OK: nothing was done. */
kith_status shard_replica_admit(kith_shard *shard, shard_entry *entry, kith_err *err);
/* The log has answered. */
void shard_replica_logged(kith_shard *shard, shard_entry *entry);
/* Committed and durable. */
uint64_t shard_replica_ready(const kith_shard *shard);
/* The entry is freed: the tail forgets it. */
void shard_replica_forget(kith_shard *shard, const shard_entry *entry);
/* A round ended: everything up to stored_sequence is visible. */
void shard_replica_applied(kith_shard *shard);
/* Someone waits until `deadline_ns`. */
void shard_replica_deadline(kith_shard *shard, uint64_t deadline_ns);
void shard_replica_failed(kith_shard *shard);
/* A segment was sealed. */
void shard_replica_relieved(kith_shard *shard);
void shard_replica_drain_closing(kith_shard *shard);
void shard_replica_fini(kith_shard *shard);

/* --- shard_replica_recover.c: nor here --- */

kith_status shard_replica_replay(kith_shard *shard, const kith_log_entry *entry, kith_err *err);
/* Everything up to `sequence` that was replayed is committed. */
kith_status shard_replica_replay_committed(kith_shard *shard, uint64_t sequence, kith_err *err);
/* Recovery is over: what the store has is committed, the rest waits for the gate. */
kith_status shard_replica_start(kith_shard *shard, kith_err *err);

/* --- shard_recover.c --- */

/* Applies the entry; one that is CORRUPT quarantines the shard. */
kith_status shard_replay_entry(kith_shard *shard, const kith_log_entry *entry, kith_err *err);

/* Files that no manifest names, of the shards that `starting` gives (NULL for others), which are open and not yet
 * started. One look at the folder for all of them: it has the files of thousands. */
void shard_unnamed_files_remove(
    kith_shard_node *node, kith_shard *(*starting)(void *ctx, uint64_t shard_id), void *ctx);

/* --- shard_apply.c --- */

/* Applies points [*next_point, ...) of `op` to the working state, and to `batch` unless the store has it
 * already (NULL: then a sealed row that is still live means that store and log disagree, CORRUPT). NO_MEMORY
 * leaves
 * `*next_point` at the point to go on with. */
kith_status shard_apply_op(kith_shard *shard, const kith_op *op, uint64_t sequence, kith_store_batch *batch,
    uint32_t *next_point, uint32_t *points_changed, kith_err *err);
/* Marks the row dead in the working state. */
void shard_part_kill(shard_part *part, uint32_t row);
bool shard_part_is_dead(const shard_part *part, uint32_t row);
shard_part *shard_part_insert(kith_shard *shard, uint32_t at);
void shard_part_remove(kith_shard *shard, uint32_t at);

/* --- shard_view.c, the owner's half --- */

/* Makes the working state the view that searches see. */
void shard_publish(kith_shard *shard);
/* The view as it is, with `output` (none without a segment) in the place of `source`. */
void shard_publish_replaced(kith_shard *shard, const kith_segment *source, const shard_part *output);

/* --- shard_seal.c --- */

/* Between rounds or inside one: the growing segment takes no more rows. */
void shard_freeze(kith_shard *shard);
/* Begins whatever background work is due, ends jobs that have what they wait for. Called after anything
 * changed. */
void shard_maintain(kith_shard *shard);
/* The shard closes: cancels builds and timers, ends jobs with CLOSED. */
void shard_maintain_cancel(kith_shard *shard);
void shard_idle_arm(kith_shard *shard);
/* Begins background work, on the owner. */
void shard_maintain_post(kith_shard *shard);
bool shard_has_unsealed(const kith_shard *shard);
/* Holds the part's segment and the dead bits. */
void shard_build_source_add(shard_build *build, const shard_part *part, shard_dead *dead);
/* Lets go of sources and output. */
void shard_build_reset(shard_build *build);

/* --- shard_attach.c --- */

/* On the owner, or before the shard is started. The sealed segment was published: the backend may have it. */
void shard_attach_post(kith_shard *shard, kith_segment *segment);

/* --- shard_compact.c --- */

/* Fills shard->merge with what the policy wants merged; false when it wants nothing. */
bool shard_merge_plan(kith_shard *shard);

/* --- shard_manifest.c --- */

typedef struct shard_manifest {
    uint64_t sealed_sequence;
    uint64_t next_segment_id;
    uint32_t segment_count;
    uint64_t *segment_ids; /* from the arena */
} shard_manifest;

#define SHARD_KEY_BYTES_MAX (8u + 1u + KITH_ID_CANONICAL_BYTES_MAX)

/* Keys; each returns its length. */
size_t shard_key_point(uint64_t shard_id, const kith_id *id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_prefix(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_manifest(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_applied(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_floor(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
bool shard_applied_decode(const uint8_t *value, size_t bytes, uint64_t *sequence_out, uint64_t *epoch_out);
/* There while a copy of the shard is being installed. */
size_t shard_key_install(uint64_t shard_id, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_tombstone(
    uint64_t shard_id, uint64_t segment_id, uint32_t row, uint8_t key_out[SHARD_KEY_BYTES_MAX]);
size_t shard_key_window(uint64_t shard_id, uint32_t slot, uint8_t key_out[SHARD_KEY_BYTES_MAX]);

void shard_manifest_encode(const shard_manifest *manifest, uint64_t shard_id, kith_buf *buf);
kith_status shard_manifest_decode(const void *data, size_t bytes, uint64_t shard_id, kith_arena *arena,
    shard_manifest *manifest_out, kith_err *err);
/* Zero segments where there is none yet. */
kith_status shard_manifest_read(
    kith_store *store, uint64_t shard_id, kith_arena *arena, shard_manifest *manifest_out, kith_err *err);
/* CORRUPT when the mark of an install is there. */
kith_status shard_install_mark_check(kith_shard_node *node, uint64_t shard_id, kith_err *err);
void shard_manifest_put(kith_shard *shard, kith_store_batch *batch, const shard_manifest *manifest);
void shard_applied_put(kith_shard *shard, kith_store_batch *batch);
void shard_tombstone_put(kith_shard *shard, kith_store_batch *batch, uint64_t segment_id, uint32_t row);
void shard_tombstones_remove(kith_shard *shard, kith_store_batch *batch, uint64_t segment_id);
void shard_point_put(
    kith_shard *shard, kith_store_batch *batch, const kith_op_point *point, uint64_t sequence);
void shard_point_remove(kith_shard *shard, kith_store_batch *batch, const kith_id *id);
void shard_window_entry_put(kith_shard *shard, kith_store_batch *batch, const kith_request_id *request_id,
    const kith_write_result *result);
/* Calls `entry` for each key below `prefix`; a status but OK ends the walk with it. */
typedef kith_status (*shard_walk_fn)(
    void *ctx, const uint8_t *key, size_t key_bytes, const uint8_t *value, size_t value_bytes, kith_err *err);
kith_status shard_walk_tombstones(
    kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err);
kith_status shard_walk_window(
    kith_store *store, uint64_t shard_id, shard_walk_fn entry, void *ctx, kith_err *err);
kith_status shard_walk_points(
    kith_store *store, uint64_t shard_id, const kith_id *from, shard_walk_fn entry, void *ctx, kith_err *err);
void shard_segment_path(
    const kith_shard_node *node, uint64_t shard_id, uint64_t segment_id, char path_out[SHARD_PATH_BYTES_MAX]);
/* Shard and segment of a file name like "<shard>-<segment>.seg", also with ".tmp" behind it. */
bool shard_segment_name_parse(const char *name, uint64_t *shard_id_out, uint64_t *segment_id_out);

/* --- shard_space.c --- */

/* NO_SPACE when so many bytes more of a copy of the shard, to be installed or to be given to another node, would not leave the disk's
 * reserve: below it writes are refused, of all shards. Where they are already, a copy that is given may take half of it, for shards
 * that are moved away are what makes room. Any thread. */
kith_status shard_space_check_install(
    kith_shard_node *node, uint64_t shard_id, uint64_t bytes, kith_err *err);
kith_status shard_space_check_give(kith_shard_node *node, uint64_t shard_id, uint64_t bytes, kith_err *err);

/* --- shard_search.c --- */

/* On a search thread, or inside start: searches and, in the end, calls shard_batch_end. */
void shard_search_begin(const shard_batch *batch);

/* --- shard_batch.c --- */

void shard_batcher_init(kith_shard *shard);
void shard_batcher_fini(kith_shard *shard);
/* Any thread. `search` holds a use of the shard, which ends with it. */
void shard_batch_join(kith_shard *shard, kith_shard_search *search);
/* Without a slot. */
shard_batch shard_batch_of_one(kith_shard *shard, kith_shard_search *search);
/* CANCELLED or DEADLINE once every member is over. `view`: what is searched; NULL before that. */
kith_status shard_batch_check(const shard_batch *batch, const shard_view *view, kith_err *err);
/* Answers every member; with NO_MEMORY several are run again, one by one. Takes `view`, which may be NULL unless OK.
 * `lists` [query_count], borrowed. The shard may be gone afterwards. */
void shard_batch_end(const shard_batch *batch, shard_view *view, kith_status status, const kith_hits *lists,
    const kith_err *err);

/* --- shard_digest.c --- */

/* A round is to end at this entry. */
bool shard_digests_want(const kith_shard *shard, uint64_t sequence);
/* A round ended. */
void shard_digests_applied(kith_shard *shard);

/* --- shard_read.c --- */

/* Row of the live point in the view; false if there is none. */
bool shard_view_find(const shard_view *view, const kith_id *id, uint32_t *part_out, uint32_t *row_out);

#endif
