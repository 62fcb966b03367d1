/* The writing half. A chain of small steps on one executor: pump takes what waits and sends it off, its end completes it and
 * pumps again. */
#include "host/meta/raft_storage_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/log.h"

static void pump(kith_raft_storage *storage);
static void append_done(kith_log_append *append, kith_status status, const kith_err *err);
static void install_file_run(kith_task *task);

/* --- records --- */

static void record_begin(kith_buf *record) {
    kith_buf_clear(record);
    kith_buf_u32(record, RAFT_RECORD_VERSION);
    kith_buf_u32(record, 0); /* item count, known later */
}

static void record_count_add(kith_buf *record, uint32_t count) {
    kith_store_u32(record->data + 4, kith_load_u32(record->data + 4) + count);
}

static void item_add(kith_buf *items, const kith_raft_entry *entry, uint8_t kind) {
    kith_buf_u32(items, kind);
    kith_buf_u32(items, (uint32_t)entry->bytes);
    kith_buf_u64(items, entry->index);
    kith_buf_u64(items, entry->term);
    kith_buf_append(items, entry->data, entry->bytes);
}

void raft_record_note(kith_raft_storage *storage, uint64_t sequence, uint64_t last_index) {
    if (storage->record_count == storage->record_capacity) {
        storage->record_capacity = storage->record_capacity ? 2 * storage->record_capacity : 64;
        storage->records =
            kith_realloc(storage->records, storage->record_capacity * sizeof *storage->records);
    }
    storage->records[storage->record_count++] = (raft_record){.sequence = sequence, .last_index = last_index};
}

/* The first `count` records are not needed any more. */
static void records_drop(kith_raft_storage *storage, size_t count) {
    if (count == 0) return;
    kith_store_log_trim(storage->log, RAFT_LOG_STREAM, storage->records[count - 1].sequence);
    storage->record_count -= count;
    memmove(storage->records, storage->records + count, storage->record_count * sizeof *storage->records);
}

static void records_drop_through(kith_raft_storage *storage, uint64_t index) {
    size_t count = 0;
    while (count < storage->record_count && storage->records[count].last_index <= index)
        count++;
    records_drop(storage, count);
}

/* --- ends --- */

static void idle_check(kith_raft_storage *storage) {
    if (!storage->stopping || !storage->idle || !kith_raft_storage_idle(storage)) return;
    void (*idle)(void *ctx) = storage->idle;
    storage->idle = NULL;
    idle(storage->idle_ctx);
}

static void complete_all(kith_raft_write *first, kith_status status, const kith_err *err) {
    while (first) {
        kith_raft_write *next = first->next; /* `done` may free it */
        kith_buf_fini(&first->items);
        first->done(first, status, err);
        first = next;
    }
}

static kith_raft_write *waiting_take_all(kith_raft_storage *storage) {
    kith_raft_write *first = storage->waiting;
    storage->waiting = NULL;
    storage->waiting_last = &storage->waiting;
    return first;
}

/* Everything under way and waiting ends. */
static void give_up(kith_raft_storage *storage, kith_status status, const kith_err *err) {
    kith_raft_write *flying = storage->flying;
    kith_raft_write *waiting = waiting_take_all(storage);
    storage->flying = NULL;
    kith_buf_clear(&storage->record);
    complete_all(flying, status, err);
    complete_all(waiting, status, err);
    idle_check(storage);
}

static void fail(kith_raft_storage *storage, const kith_err *err) {
    if (storage->failed.status == KITH_OK) {
        storage->failed = *err;
        kith_log_error("raft_storage_failed", kith_kv_text("cause", err->text));
    }
    give_up(storage, storage->failed.status, &storage->failed);
}

static void stop_waiting(kith_raft_storage *storage) {
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the metadata log is closing");
    give_up(storage, status, &err);
}

static void flying_done(kith_raft_storage *storage) {
    kith_raft_write *flying = storage->flying;
    storage->flying = NULL;
    kith_buf_clear(&storage->record);
    complete_all(flying, KITH_OK, NULL);
    pump(storage);
    idle_check(storage);
}

/* --- a full disk --- */

static void stall(kith_raft_storage *storage, const kith_err *err) {
    if (storage->stopping) {
        stop_waiting(storage);
        return;
    }
    if (!storage->stalled) kith_log_warn("raft_storage_full", kith_kv_text("cause", err->text));
    storage->stalled = true;
    storage->append_err = *err;
    storage->retry_waits = true;
    storage->retry.due_ns = kith_env_now_ns(storage->options.env) + RAFT_RETRY_NS;
    kith_timer_start(&storage->retry);
}

/* Sends the record off, again. */
static void record_send(kith_raft_storage *storage) {
    storage->append = (kith_log_append){
        .entry =
            {
                .stream = RAFT_LOG_STREAM,
                .epoch = 1,
                .sequence = storage->sequence_next,
                .data = storage->record.data,
                .bytes = storage->record.bytes,
            },
        .done = append_done,
    };
    kith_store_log_append(storage->log, &storage->append);
}

static void install_send(kith_raft_storage *storage) {
    kith_raft_write *write = storage->flying;
    write->task.run = install_file_run;
    kith_executor_post(storage->options.snapshot_executor, &write->task);
}

static void retry_run(kith_task *task) {
    kith_raft_storage *storage =
        (kith_raft_storage *)(void *)((char *)task - offsetof(kith_raft_storage, retry.task));
    storage->retry_waits = false;
    if (storage->stopping) {
        stop_waiting(storage);
    } else if (storage->record.bytes > 0) {
        record_send(storage);
    } else {
        install_send(storage);
    }
}

/* --- records on their way --- */

/* On the disk executor. */
static void append_done(kith_log_append *append, kith_status status, const kith_err *err) {
    kith_raft_storage *storage =
        (kith_raft_storage *)(void *)((char *)append - offsetof(kith_raft_storage, append));
    if (status == KITH_OK) {
        storage->append_err.status = KITH_OK;
    } else {
        storage->append_err = *err;
        storage->append_err.status = status;
    }
    kith_executor_post(storage->options.executor, &storage->append_task);
}

static void record_stored(kith_raft_storage *storage) {
    storage->stalled = false;
    storage->reset_index = 0;
    if (storage->flying->kind == KITH_RAFT_WRITE_INSTALL) records_drop(storage, storage->record_count);
    raft_record_note(storage, storage->sequence_next++, storage->record_last_index);
    flying_done(storage);
}

static void append_run(kith_task *task) {
    kith_raft_storage *storage =
        (kith_raft_storage *)(void *)((char *)task - offsetof(kith_raft_storage, append_task));
    kith_err err = storage->append_err;
    if (err.status == KITH_OK) {
        record_stored(storage);
    } else if (err.status == KITH_NO_SPACE) {
        stall(storage, &err);
    } else {
        fail(storage, &err);
    }
}

/* --- an install: the file, then the RESET that makes the log begin behind it --- */

static void install_run(kith_task *task) {
    kith_raft_write *write = (kith_raft_write *)(void *)((char *)task - offsetof(kith_raft_write, task));
    kith_raft_storage *storage = write->storage;
    kith_err err = write->err;
    if (err.status == KITH_OK && !(storage->term.flags & KITH_RAFT_TERM_CONFIGURED)) {
        err.status = kith_raft_term_write(&storage->term, storage->term.term, storage->term.vote,
            storage->term.flags | KITH_RAFT_TERM_CONFIGURED, &err);
        if (err.status == KITH_NO_SPACE) err.status = KITH_IO; /* it cannot be tried again */
    }
    if (err.status == KITH_NO_SPACE) {
        stall(storage, &err);
        return;
    }
    if (err.status != KITH_OK) {
        fail(storage, &err);
        return;
    }
    record_begin(&storage->record);
    item_add(&storage->record, &(kith_raft_entry){.index = write->snapshot->index + 1}, RAFT_ITEM_RESET);
    record_count_add(&storage->record, 1);
    storage->record_last_index = 0;
    record_send(storage);
}

/* On the snapshot executor. */
static void install_file_run(kith_task *task) {
    kith_raft_write *write = (kith_raft_write *)(void *)((char *)task - offsetof(kith_raft_write, task));
    kith_raft_storage *storage = write->storage;
    write->err.status =
        kith_raft_snapshot_write(storage->options.env, storage->dir, write->snapshot, &write->err);
    write->task.run = install_run;
    kith_executor_post(storage->options.executor, &write->task);
}

/* --- writes --- */

static void waiting_pop(kith_raft_storage *storage, kith_raft_write ***flying_last) {
    kith_raft_write *write = storage->waiting;
    storage->waiting = write->next;
    if (!storage->waiting) storage->waiting_last = &storage->waiting;
    write->next = NULL;
    **flying_last = write;
    *flying_last = &write->next;
}

static void record_gather(kith_raft_storage *storage) {
    kith_raft_write **flying_last = &storage->flying;
    kith_buf *record = &storage->record;
    record_begin(record);
    storage->record_last_index = 0;
    if (storage->reset_index) {
        item_add(record, &(kith_raft_entry){.index = storage->reset_index}, RAFT_ITEM_RESET);
        record_count_add(record, 1);
    }
    while (storage->waiting && storage->waiting->kind == KITH_RAFT_WRITE_ITEMS &&
           record->bytes < RAFT_RECORD_BYTES_MAX) {
        const kith_raft_write *write = storage->waiting;
        kith_buf_append(record, write->items.data, write->items.bytes);
        record_count_add(record, write->item_count);
        if (write->last_index > storage->record_last_index) storage->record_last_index = write->last_index;
        waiting_pop(storage, &flying_last);
    }
}

static void pump(kith_raft_storage *storage) {
    if (storage->flying || !storage->waiting || storage->stopping) return;
    if (storage->waiting->kind == KITH_RAFT_WRITE_INSTALL) {
        kith_raft_write **flying_last = &storage->flying;
        waiting_pop(storage, &flying_last);
        install_send(storage);
        return;
    }
    record_gather(storage);
    record_send(storage);
}

static void refused_run(kith_task *task) {
    kith_raft_write *write = (kith_raft_write *)(void *)((char *)task - offsetof(kith_raft_write, task));
    kith_raft_storage *storage = write->storage;
    storage->files_flying--;
    kith_buf_fini(&write->items);
    kith_err err = write->err;
    write->done(write, err.status, &err);
    idle_check(storage);
}

static void write_submit(kith_raft_storage *storage, kith_raft_write *write) {
    write->storage = storage;
    write->next = NULL;
    if (storage->failed.status != KITH_OK || storage->stopping) {
        write->err = storage->failed;
        if (storage->stopping) kith_err_set(&write->err, KITH_CLOSED, "the metadata log is closing");
        write->task.run = refused_run;
        storage->files_flying++; /* until then it is not idle */
        kith_executor_post(storage->options.executor, &write->task);
        return;
    }
    *storage->waiting_last = write;
    storage->waiting_last = &write->next;
    pump(storage);
}

void kith_raft_storage_append(
    kith_raft_storage *storage, kith_raft_write *write, const kith_raft_entry *entries, size_t entry_count) {
    kith_assert(entry_count > 0);
    write->kind = KITH_RAFT_WRITE_ITEMS;
    kith_buf_init(&write->items);
    for (size_t i = 0; i < entry_count; i++)
        item_add(&write->items, &entries[i], entries[i].type);
    write->item_count = (uint32_t)entry_count;
    write->last_index = entries[entry_count - 1].index;
    write_submit(storage, write);
}

/* Whoever cares learns of a failure from what was given before or after it. */
static void truncate_done(kith_raft_write *write, kith_status status, const kith_err *err) {
    (void)status;
    (void)err;
    kith_free(write);
}

void kith_raft_storage_truncate(kith_raft_storage *storage, uint64_t index) {
    kith_raft_write *write = kith_alloc_zero(sizeof *write);
    write->done = truncate_done;
    write->kind = KITH_RAFT_WRITE_ITEMS;
    kith_buf_init(&write->items);
    item_add(&write->items, &(kith_raft_entry){.index = index}, RAFT_ITEM_CUT);
    write->item_count = 1;
    write_submit(storage, write);
}

void kith_raft_storage_install(
    kith_raft_storage *storage, kith_raft_write *write, const kith_raft_snapshot *snapshot) {
    write->kind = KITH_RAFT_WRITE_INSTALL;
    kith_buf_init(&write->items);
    write->snapshot = snapshot;
    write_submit(storage, write);
}

bool kith_raft_storage_busy(const kith_raft_storage *storage) {
    return storage->flying || storage->waiting;
}

bool kith_raft_storage_idle(const kith_raft_storage *storage) {
    return !kith_raft_storage_busy(storage) && storage->files_flying == 0 && !storage->retry_waits;
}

kith_status kith_raft_storage_health(const kith_raft_storage *storage, kith_err *err) {
    const kith_err *cause = &storage->failed;
    if (cause->status == KITH_OK && storage->stalled) cause = &storage->append_err;
    if (cause->status != KITH_OK && err) *err = *cause;
    return cause->status;
}

/* --- snapshots beside the log --- */

static void file_run(kith_task *task) {
    kith_raft_file *file = (kith_raft_file *)(void *)((char *)task - offsetof(kith_raft_file, task));
    kith_raft_storage *storage = file->storage;
    storage->files_flying--;
    if (file->status == KITH_OK && !file->reads && file->snapshot.index > file->trailing)
        records_drop_through(storage, file->snapshot.index - file->trailing);
    kith_err err = file->err;
    file->done(file, file->status, &err);
    idle_check(storage);
}

/* On the snapshot executor. */
static void file_work_run(kith_task *task) {
    kith_raft_file *file = (kith_raft_file *)(void *)((char *)task - offsetof(kith_raft_file, task));
    kith_raft_storage *storage = file->storage;
    kith_env *env = storage->options.env;
    file->status = file->reads ? kith_raft_snapshot_read(env, storage->dir, &file->snapshot, &file->err)
                               : kith_raft_snapshot_write(env, storage->dir, &file->snapshot, &file->err);
    file->task.run = file_run;
    kith_executor_post(storage->options.executor, &file->task);
}

static void file_submit(kith_raft_storage *storage, kith_raft_file *file, bool reads) {
    file->storage = storage;
    file->reads = reads;
    file->task.run = file_work_run;
    storage->files_flying++;
    kith_executor_post(storage->options.snapshot_executor, &file->task);
}

void kith_raft_storage_snapshot_write(kith_raft_storage *storage, kith_raft_file *file) {
    file_submit(storage, file, false);
}

void kith_raft_storage_snapshot_read(kith_raft_storage *storage, kith_raft_file *file) {
    file_submit(storage, file, true);
}

/* --- term and vote --- */

uint64_t kith_raft_storage_term(const kith_raft_storage *storage) {
    return storage->term.term;
}

uint64_t kith_raft_storage_vote(const kith_raft_storage *storage) {
    return storage->term.vote;
}

kith_status kith_raft_storage_term_set(
    kith_raft_storage *storage, uint64_t term, uint64_t vote, kith_err *err) {
    kith_status status = kith_raft_term_write(&storage->term, term, vote, storage->term.flags, err);
    if (status != KITH_OK && storage->failed.status == KITH_OK) {
        storage->failed = *err;
        storage->failed.status = KITH_IO; /* it cannot be tried again */
        kith_log_error("raft_storage_failed", kith_kv_text("cause", err->text));
    }
    return status;
}

kith_status kith_raft_storage_bootstrap(
    kith_raft_storage *storage, const kith_raft_snapshot *snapshot, kith_err *err) {
    kith_raft_term *term = &storage->term;
    kith_status status = kith_raft_term_write(term, snapshot->term, 0, term->flags, err);
    if (status == KITH_OK)
        status = kith_raft_snapshot_write(storage->options.env, storage->dir, snapshot, err);
    if (status == KITH_OK)
        status = kith_raft_term_write(term, term->term, 0, term->flags | KITH_RAFT_TERM_CONFIGURED, err);
    if (status != KITH_OK) return status;
    kith_raft_storage_found_free(storage);
    storage->found.start_index = snapshot->index + 1;
    status = kith_raft_snapshot_read(storage->options.env, storage->dir, &storage->found.snapshot, err);
    storage->found.has_snapshot = status == KITH_OK;
    return status;
}

/* --- life --- */

void raft_storage_prepare(kith_raft_storage *storage) {
    storage->waiting_last = &storage->waiting;
    storage->append_task.run = append_run;
    storage->retry.task.run = retry_run;
    storage->retry.executor = storage->options.executor;
}

void kith_raft_storage_stop(kith_raft_storage *storage, void (*idle)(void *ctx), void *ctx) {
    kith_assert(!storage->stopping);
    storage->stopping = true;
    storage->idle = idle;
    storage->idle_ctx = ctx;
    if (storage->retry_waits && kith_timer_cancel(&storage->retry)) {
        storage->retry_waits = false;
        stop_waiting(storage);
        return;
    }
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the metadata log is closing");
    complete_all(waiting_take_all(storage), status, &err);
    idle_check(storage);
}

void kith_raft_storage_close(kith_raft_storage *storage) {
    if (!storage) return;
    kith_assert(kith_raft_storage_idle(storage));
    kith_store_log_close(storage->log);
    kith_raft_term_close(&storage->term);
    kith_raft_storage_found_free(storage);
    kith_buf_fini(&storage->record);
    kith_free(storage->records);
    kith_free(storage->log_dir);
    kith_free(storage->dir);
    kith_free(storage);
}
