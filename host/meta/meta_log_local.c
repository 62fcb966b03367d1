/* A metadata log of one node: commands are entries of stream KITH_LOG_STREAM_META in the node's log, committed when they
 * are durable. A snapshot now and then lets the log's files go.
 *
 * Order: entries are appended in the order of their indexes by the one thread of meta's executor; the node's log answers
 * in that order; each answer is posted back to the same executor, and so applied in that order. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/meta/meta_log.h"

typedef struct local_log {
    kith_meta_log base;
    kith_meta_log_local_options options;
    char *dir;
    kith_store_log *store_log;
    uint64_t index_next;
    uint64_t snapshot_index; /* what the snapshot file holds */
    bool snapshot_missing;   /* at open: this is a new node, or its metadata is lost */
    uint32_t open_count;     /* proposals between propose and done */
} local_log;

/* What a proposal's `impl` holds. */
typedef struct local_proposal {
    kith_log_append append;
    kith_task task;
    local_log *log;
    kith_status status;
    char *message; /* of a failed append; freed with the proposal */
} local_proposal;

_Static_assert(
    sizeof(local_proposal) <= sizeof(((kith_meta_log_proposal *)0)->impl), "a proposal embeds its append");

static local_proposal *inner_of(kith_meta_log_proposal *proposal) {
    return (local_proposal *)(void *)proposal->impl;
}

static kith_meta_log_proposal *proposal_of(local_proposal *inner) {
    return (kith_meta_log_proposal *)(void *)((char *)inner - offsetof(kith_meta_log_proposal, impl));
}

static kith_status snapshot_write(local_log *log, kith_err *err) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_meta_fsm_snapshot(log->options.fsm, &buf);
    kith_status status = kith_meta_snapshot_write(log->options.env, log->dir, buf.data, buf.bytes, err);
    kith_buf_fini(&buf);
    return status;
}

/* A snapshot that cannot be written is no loss: the log keeps its files, and the next command or start tries again. */
static void snapshot_take(local_log *log) {
    uint64_t index = log->options.fsm->state.applied_index;
    if (index == log->snapshot_index) return;
    kith_err err;
    if (snapshot_write(log, &err) != KITH_OK) {
        kith_log_warn("meta_snapshot_failed", kith_kv_text("reason", err.text), kith_kv_u64("index", index));
        return;
    }
    log->snapshot_index = index;
    if (log->store_log) kith_store_log_trim(log->store_log, KITH_LOG_STREAM_META, index);
}

static void commit(local_log *log, kith_meta_log_proposal *proposal, uint64_t index) {
    kith_err err;
    kith_meta_fsm *fsm = log->options.fsm;
    /* We encoded these bytes ourselves: that they do not decode is a broken promise, not a fault of the world. */
    kith_status status = kith_meta_fsm_apply(fsm, index, proposal->bytes, proposal->byte_count, &err);
    kith_assert(status == KITH_OK);
    log->options.applied(log->options.ctx, &fsm->result);
    proposal->done(proposal, KITH_OK, &fsm->result, NULL);
    /* After each command, for the node's log goes away from its front only: one entry that still counts would keep
     * every later file of every shard. Commands are rare and the file small. */
    snapshot_take(log);
}

static void proposal_run(kith_task *task) {
    local_proposal *inner = (local_proposal *)(void *)((char *)task - offsetof(local_proposal, task));
    local_log *log = inner->log;
    kith_meta_log_proposal *proposal = proposal_of(inner);
    log->open_count--;
    if (inner->status == KITH_OK) {
        commit(log, proposal, inner->append.entry.sequence);
        return;
    }
    kith_err err;
    bool nothing_done =
        inner->status == KITH_NO_SPACE || inner->status == KITH_BUSY || inner->status == KITH_CLOSED;
    kith_status status = kith_err_set(
        &err, nothing_done ? inner->status : KITH_UNKNOWN_OUTCOME, "metadata log: %s", inner->message);
    kith_free(inner->message);
    proposal->done(proposal, status, NULL, &err);
}

/* On the node log's executor. */
static void append_done(kith_log_append *append, kith_status status, const kith_err *err) {
    local_proposal *inner = (local_proposal *)(void *)((char *)append - offsetof(local_proposal, append));
    inner->status = status;
    inner->message = status == KITH_OK ? NULL : kith_strdup(err->text);
    kith_executor_post(inner->log->options.executor, &inner->task);
}

static void local_propose(kith_meta_log *base, kith_meta_log_proposal *proposal) {
    local_log *log = (local_log *)base;
    kith_assert(log->store_log != NULL);
    local_proposal *inner = inner_of(proposal);
    *inner = (local_proposal){
        .append =
            {
                .entry =
                    {
                        .stream = KITH_LOG_STREAM_META,
                        .epoch = 1,
                        .sequence = log->index_next++,
                        .data = proposal->bytes,
                        .bytes = proposal->byte_count,
                    },
                .done = append_done,
            },
        .task = {.run = proposal_run},
        .log = log,
    };
    log->open_count++;
    kith_store_log_append(log->store_log, &inner->append);
}

static void local_close(kith_meta_log *base) {
    local_log *log = (local_log *)base;
    kith_assert(log->open_count == 0);
    if (log->store_log) snapshot_take(log);
    kith_free(log->dir);
    kith_free(log);
}

static const kith_meta_log_ops local_ops = {.propose = local_propose, .close = local_close};

kith_status kith_meta_log_local_replay(kith_meta_log *base, const kith_log_entry *entry, kith_err *err) {
    local_log *log = (local_log *)base;
    kith_assert(entry->stream == KITH_LOG_STREAM_META);
    if (log->snapshot_missing) {
        /* The first snapshot is written before the first command: without it we would begin from nothing and take every
         * shard for a leftover. */
        return kith_err_set(err, KITH_CORRUPT,
            "metadata snapshot %s/snapshot.kith is missing although the log holds metadata commands: restore "
            "the file",
            log->dir);
    }
    if (entry->sequence <= log->options.fsm->state.applied_index) return KITH_OK;
    kith_status status =
        kith_meta_fsm_apply(log->options.fsm, entry->sequence, entry->data, entry->bytes, err);
    if (status != KITH_OK) return status;
    log->index_next = entry->sequence + 1;
    log->options.applied(log->options.ctx, &log->options.fsm->result);
    return KITH_OK;
}

bool kith_meta_log_local_is_new(const kith_meta_log *base) {
    return ((const local_log *)base)->snapshot_missing;
}

kith_status kith_meta_log_local_start(kith_meta_log *base, kith_store_log *store_log, kith_err *err) {
    local_log *log = (local_log *)base;
    if (log->snapshot_missing) {
        kith_status status = snapshot_write(log, err);
        if (status != KITH_OK) return status;
        log->snapshot_missing = false;
    }
    log->store_log = store_log;
    if (log->options.fsm->state.applied_index > log->snapshot_index)
        snapshot_take(log);
    else
        kith_store_log_trim(store_log, KITH_LOG_STREAM_META, log->snapshot_index);
    return KITH_OK;
}

static kith_status snapshot_restore(local_log *log, kith_err *err) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_status status = kith_meta_snapshot_read(log->options.env, log->dir, &buf, err);
    if (status == KITH_OK) {
        status = kith_meta_fsm_restore(log->options.fsm, buf.data, buf.bytes, err);
        if (status != KITH_OK) kith_err_wrap(err, status, "metadata snapshot %s/snapshot.kith", log->dir);
    } else if (status == KITH_NOT_FOUND) {
        log->snapshot_missing = true;
        status = KITH_OK;
    }
    kith_buf_fini(&buf);
    return status;
}

kith_status kith_meta_log_local_open(
    const kith_meta_log_local_options *options, kith_meta_log **log_out, kith_err *err) {
    kith_status status = kith_dir_make(options->env, options->dir, err);
    if (status != KITH_OK) return status;
    local_log *log = kith_alloc_zero(sizeof *log);
    log->base.ops = &local_ops;
    log->options = *options;
    log->dir = kith_strdup(options->dir);
    status = snapshot_restore(log, err);
    if (status != KITH_OK) goto err_free;
    log->snapshot_index = options->fsm->state.applied_index;
    log->index_next = log->snapshot_index + 1;
    *log_out = &log->base;
    return KITH_OK;
err_free:
    kith_free(log->dir);
    kith_free(log);
    return status;
}
