/* The log's life and its writer. Appends wait in a list; one task at a time on the executor takes what waits,
 * writes it as one frame and syncs once, so that a sync is shared by all who came while the one before it
 * ran.
 *
 * What a failure does: a full disk is cut back to the last good length (and that is synced, so that a crash
 * finds no mix of the frame that failed and the next one) and fails that batch alone. Any other failed write,
 * a failed cut or a failed sync stops the log for good: what is on the disk is then unknown until a restart
 * reads it.
 *
 * The lock: append, trim and drop come from every shard's thread, and a message to the log's thread for each
 * would be the very queue that the lock guards. It is held for list and table work only. */
#include "host/store/store_log_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/base/text.h"
#include "host/base/thread.h"

/* What the executor holds. It outlives a log that is closed while its task is queued: the task then frees it.
 */
typedef struct log_runner {
    kith_task task;
    kith_mutex mutex;
    kith_cond idle;
    kith_store_log *log; /* NULL once closed */
    bool queued;
    bool running; /* the task, or close, which takes the work over */
} log_runner;

typedef struct log_list {
    kith_log_append *first;
    kith_log_append **last;
} log_list;

struct kith_store_log {
    log_runner *runner;
    kith_store_log_options options;
    char *dir;

    /* Under runner->mutex. */
    log_list pending;
    log_list refused;       /* were over pending_bytes_max: wait to be told BUSY */
    uint64_t pending_bytes; /* of `pending` and of the batch being written */
    log_file *files;        /* oldest first; the last one is written to */
    uint32_t file_count;
    uint32_t file_capacity;
    kith_err stopped; /* status OK while healthy */
    kith_log_stats stats;

    /* The executor's alone (and open's and close's). */
    kith_file *file; /* the last of `files` */
    uint64_t offset; /* its good length */
    uint64_t frame_next;
    uint64_t replayed_frame_offset; /* of the last frame that open found in it; 0: none */
    kith_buf frame;
};

static void list_init(log_list *list) {
    list->first = NULL;
    list->last = &list->first;
}

static void list_push(log_list *list, kith_log_append *append) {
    append->next = NULL;
    *list->last = append;
    list->last = &append->next;
}

/* The whole list as a chain; the list is empty after it. */
static kith_log_append *list_take(log_list *list) {
    kith_log_append *first = list->first;
    list_init(list);
    return first;
}

static void complete_all(kith_log_append *first, kith_status status, const kith_err *err) {
    while (first) {
        kith_log_append *next = first->next; /* `done` may free it */
        first->done(first, status, err);
        first = next;
    }
}

/* --- files --- */

static log_file *files_push_locked(kith_store_log *log, uint64_t number) {
    if (log->file_count == log->file_capacity) {
        log->file_capacity = log->file_capacity ? 2 * log->file_capacity : 8;
        log->files = kith_realloc(log->files, log->file_capacity * sizeof *log->files);
    }
    log_file *file = &log->files[log->file_count++];
    log_file_init(file, number);
    log->stats.files = log->file_count;
    return file;
}

static void files_pop_front_locked(kith_store_log *log) {
    log_file_fini(&log->files[0]);
    log->file_count--;
    memmove(log->files, log->files + 1, log->file_count * sizeof *log->files);
    log->stats.files = log->file_count;
}

/* Stops the log for good; returns the status it stopped with. */
static kith_status log_stop(kith_store_log *log, kith_err *err) {
    /* A sync that failed for want of space or memory is as unknown as any other failed sync. */
    if (err->status != KITH_CORRUPT) err->status = KITH_IO;
    kith_status status = kith_err_wrap(err, err->status, "the log in %s stopped", log->dir);
    kith_mutex_lock(&log->runner->mutex);
    if (log->stopped.status == KITH_OK) log->stopped = *err;
    kith_mutex_unlock(&log->runner->mutex);
    kith_log_error("log_stopped", kith_kv_text("cause", err->text));
    return status;
}

/* Makes the file that comes after `number_last` at `path` and syncs it and the folder, so that it is there
 * before a frame is. On NO_SPACE nothing is left of it. */
static kith_status file_make(
    kith_store_log *log, uint64_t number, const char *path, kith_file **file_out, kith_err *err) {
    uint8_t header[LOG_HEADER_BYTES];
    log_header_encode(number, log->frame_next, header);
    kith_file *file;
    kith_status status = kith_file_open(log->options.env, path, KITH_FILE_CREATE_NEW, &file, err);
    if (status != KITH_OK) return status;
    status = kith_file_write_at(file, 0, header, sizeof header, err);
    if (status != KITH_OK) goto err_remove;
    status = kith_file_sync(file, err);
    if (status == KITH_OK) status = kith_dir_sync(log->options.env, log->dir, err);
    if (status != KITH_OK) {
        status = err->status = KITH_IO;
        goto err_close;
    }
    *file_out = file;
    return KITH_OK;
err_remove:
    /* The cause stays the text; that it is still there is the status. */
    if (kith_path_remove(log->options.env, path, NULL) != KITH_OK) status = err->status = KITH_IO;
err_close:
    kith_file_close(file);
    return status;
}

static kith_status file_begin(kith_store_log *log, uint64_t number, kith_err *err) {
    char path[LOG_PATH_BYTES_MAX];
    log_file_path(log->dir, number, path);
    kith_file *file = NULL;
    kith_status status = file_make(log, number, path, &file, err);
    if (status != KITH_OK) return status;
    kith_file_close(log->file);
    log->file = file;
    log->offset = LOG_HEADER_BYTES;
    kith_mutex_lock(&log->runner->mutex);
    files_push_locked(log, number)->bytes = LOG_HEADER_BYTES;
    kith_mutex_unlock(&log->runner->mutex);
    return KITH_OK;
}

/* --- writing --- */

/* Takes appends from the front until a frame is full; `*bytes_out` of data. */
static kith_log_append *batch_take_locked(kith_store_log *log, uint32_t *count_out, uint64_t *bytes_out) {
    kith_log_append *first = log->pending.first;
    kith_log_append *last = NULL;
    uint64_t frame_bytes = LOG_FRAME_HEADER_BYTES;
    *count_out = 0;
    *bytes_out = 0;
    for (kith_log_append *append = first; append; append = append->next) {
        uint64_t disk_bytes = log_entry_disk_bytes(append->entry.bytes);
        if (last && frame_bytes + disk_bytes > LOG_FRAME_BYTES_MAX) break;
        frame_bytes += disk_bytes;
        *bytes_out += append->entry.bytes;
        *count_out += 1;
        last = append;
    }
    if (!last) return NULL;
    log->pending.first = last->next;
    if (!last->next) list_init(&log->pending);
    last->next = NULL;
    return first;
}

/* After a frame met a full disk: makes the file end where it ended before. */
static kith_status cut_back(kith_store_log *log, kith_err *err) {
    kith_err cut_err;
    kith_status status = kith_file_truncate(log->file, log->offset, &cut_err);
    if (status == KITH_OK) status = kith_file_sync(log->file, &cut_err);
    if (status == KITH_OK) return KITH_NO_SPACE;
    *err = cut_err;
    return log_stop(log, err);
}

/* Writes the frame in log->frame and syncs it. */
static kith_status frame_write(kith_store_log *log, kith_err *err) {
    kith_status status = kith_file_write_at(log->file, log->offset, log->frame.data, log->frame.bytes, err);
    if (status == KITH_NO_SPACE) return cut_back(log, err);
    if (status != KITH_OK) return log_stop(log, err);
    uint64_t begin_ns = kith_env_now_ns(log->options.env);
    status = kith_file_sync(log->file, err);
    if (status != KITH_OK) return log_stop(log, err);
    uint64_t took_ns = kith_env_now_ns(log->options.env) - begin_ns;
    log->offset += log->frame.bytes;
    log->frame_next++;
    kith_mutex_lock(&log->runner->mutex);
    log->stats.syncs++;
    log->stats.sync_ns_total += took_ns;
    log->stats.bytes += log->frame.bytes;
    log->files[log->file_count - 1].bytes = log->offset;
    kith_mutex_unlock(&log->runner->mutex);
    if (log->options.synced) log->options.synced(log->options.synced_ctx, took_ns, log->frame.bytes);
    return KITH_OK;
}

static kith_status file_next_if_full(kith_store_log *log, kith_err *err) {
    if (log->offset < log->options.file_bytes) return KITH_OK;
    uint64_t number = log->files[log->file_count - 1].number + 1; /* only this thread changes the last one */
    kith_status status = file_begin(log, number, err);
    if (status == KITH_OK || status == KITH_NO_SPACE) return status;
    return log_stop(log, err);
}

static kith_status batch_write(
    kith_store_log *log, const kith_log_append *first, uint32_t count, kith_err *err) {
    kith_status status = kith_store_log_health(log, err);
    if (status != KITH_OK) return status;
    status = file_next_if_full(log, err);
    if (status != KITH_OK) return status;
    log_frame_begin(&log->frame);
    for (const kith_log_append *append = first; append; append = append->next) {
        log_frame_add(&log->frame, &append->entry);
    }
    log_frame_place place = {.offset = log->offset, .number = log->frame_next};
    kith_env_random(log->options.env, &place.mask, sizeof place.mask);
    log_frame_finish(&log->frame, &place, count);
    return frame_write(log, err);
}

/* One group commit. False when nothing waited. */
static bool flush_once(kith_store_log *log) {
    uint32_t count;
    uint64_t bytes;
    kith_mutex_lock(&log->runner->mutex);
    kith_log_append *refused = list_take(&log->refused);
    kith_log_append *batch = batch_take_locked(log, &count, &bytes);
    kith_mutex_unlock(&log->runner->mutex);
    if (refused) {
        kith_err err;
        kith_status status = kith_err_set(&err, KITH_BUSY, "more than %llu bytes wait for the log",
            (unsigned long long)log->options.pending_bytes_max);
        complete_all(refused, status, &err);
    }
    if (!batch) return refused != NULL;
    kith_err err = {.status = KITH_OK};
    kith_status status = batch_write(log, batch, count, &err);
    kith_mutex_lock(&log->runner->mutex);
    log->pending_bytes -= bytes;
    if (status == KITH_OK) {
        log->stats.entries += count;
        for (const kith_log_append *append = batch; append; append = append->next) {
            log_files_note(log->files, log->file_count, &append->entry);
        }
    }
    kith_mutex_unlock(&log->runner->mutex);
    complete_all(batch, status, &err);
    return true;
}

/* --- trimming --- */

/* Whether the oldest file may go: nobody needs it, and the files that nobody needs are more than is kept for
 * others to catch up from. */
static bool front_removable_locked(const kith_store_log *log) {
    uint64_t unneeded_bytes = 0;
    for (uint32_t i = 0; i + 1 < log->file_count; i++) {
        if (log->files[i].needed_count > 0) break;
        unneeded_bytes += log->files[i].bytes;
    }
    return unneeded_bytes > log->options.retain_bytes;
}

/* Removes the oldest file if it may go. The folder is synced before the next one is touched, or a crash could
 * leave a hole in the numbering. */
static bool trim_once(kith_store_log *log) {
    kith_mutex_lock(&log->runner->mutex);
    bool removable = log->stopped.status == KITH_OK && front_removable_locked(log);
    uint64_t number = log->files[0].number;
    kith_mutex_unlock(&log->runner->mutex);
    if (!removable) return false;
    char path[LOG_PATH_BYTES_MAX];
    log_file_path(log->dir, number, path);
    kith_err err;
    kith_status status = kith_path_remove(log->options.env, path, &err);
    if (status == KITH_OK || status == KITH_NOT_FOUND)
        status = kith_dir_sync(log->options.env, log->dir, &err);
    if (status != KITH_OK) {
        kith_log_warn("log_trim_failed", kith_kv_text("cause", err.text)); /* the next trim tries again */
        return false;
    }
    kith_mutex_lock(&log->runner->mutex);
    files_pop_front_locked(log);
    kith_mutex_unlock(&log->runner->mutex);
    return true;
}

/* --- the task --- */

static void runner_free(log_runner *runner) {
    kith_cond_fini(&runner->idle);
    kith_mutex_fini(&runner->mutex);
    kith_free(runner);
}

static void runner_post_locked(log_runner *runner) {
    if (runner->queued || runner->running) return;
    runner->queued = true;
    kith_executor_post(runner->log->options.executor, &runner->task);
}

static void runner_run(kith_task *task) {
    log_runner *runner = (log_runner *)task; /* its first member */
    kith_mutex_lock(&runner->mutex);
    runner->queued = false;
    kith_store_log *log = runner->log;
    bool closing = runner->running;
    if (log) runner->running = true;
    kith_mutex_unlock(&runner->mutex);
    if (!log) runner_free(runner);
    if (!log || closing) return;
    (void)flush_once(log);
    while (trim_once(log)) {
    }
    kith_mutex_lock(&runner->mutex);
    runner->running = false;
    if (log->pending.first || log->refused.first) runner_post_locked(runner);
    kith_cond_signal(&runner->idle);
    kith_mutex_unlock(&runner->mutex);
}

_Static_assert(offsetof(log_runner, task) == 0, "runner_run casts the task back");

void kith_store_log_append(kith_store_log *log, kith_log_append *append) {
    kith_assert(append->entry.bytes <= LOG_ENTRY_BYTES_MAX);
    kith_mutex_lock(&log->runner->mutex);
    /* An append longer than the limit goes in alone, or it could never. */
    bool refuse =
        log->pending_bytes > 0 && log->pending_bytes + append->entry.bytes > log->options.pending_bytes_max;
    if (refuse) {
        list_push(&log->refused, append);
    } else {
        log->pending_bytes += append->entry.bytes;
        list_push(&log->pending, append);
    }
    runner_post_locked(log->runner);
    kith_mutex_unlock(&log->runner->mutex);
}

void kith_store_log_trim(kith_store_log *log, uint64_t stream, uint64_t sequence) {
    kith_mutex_lock(&log->runner->mutex);
    for (uint32_t i = 0; i < log->file_count; i++)
        log_file_trim(&log->files[i], stream, sequence);
    if (front_removable_locked(log)) runner_post_locked(log->runner);
    kith_mutex_unlock(&log->runner->mutex);
}

void kith_store_log_drop(kith_store_log *log, uint64_t stream) {
    kith_store_log_trim(log, stream, UINT64_MAX);
}

/* --- what is in the files --- */

uint64_t kith_store_log_first(kith_store_log *log, uint64_t stream) {
    uint64_t first = UINT64_MAX;
    kith_mutex_lock(&log->runner->mutex);
    for (uint32_t i = 0; i < log->file_count; i++) {
        const log_file_stream *found = log_file_stream_find(&log->files[i], stream);
        if (found && found->least < first) first = found->least;
    }
    kith_mutex_unlock(&log->runner->mutex);
    return first;
}

kith_status log_files_with(kith_store_log *log, uint64_t stream, uint64_t from, uint64_t to,
    log_read_file **files_out, uint32_t *count_out, kith_err *err) {
    uint64_t first = UINT64_MAX;
    uint32_t count = 0;
    kith_mutex_lock(&log->runner->mutex);
    log_read_file *files = kith_alloc_array(log->file_count + 1, sizeof *files);
    for (uint32_t i = 0; i < log->file_count; i++) {
        const log_file *file = &log->files[i];
        const log_file_stream *found = log_file_stream_find(file, stream);
        if (!found) continue;
        if (found->least < first) first = found->least;
        if (found->least > to || found->greatest < from) continue;
        files[count++] = (log_read_file){.number = file->number, .bytes = file->bytes};
    }
    kith_mutex_unlock(&log->runner->mutex);
    if (first > from) {
        kith_free(files);
        return kith_err_set(err, KITH_NOT_FOUND, "the log in %s has entry %llu of stream %llu no more",
            log->dir, (unsigned long long)from, (unsigned long long)stream);
    }
    *files_out = files;
    *count_out = count;
    return KITH_OK;
}

const kith_store_log_options *log_options(const kith_store_log *log) {
    return &log->options;
}

kith_status kith_store_log_health(kith_store_log *log, kith_err *err) {
    kith_mutex_lock(&log->runner->mutex);
    kith_status status = log->stopped.status;
    if (status != KITH_OK && err) *err = log->stopped;
    kith_mutex_unlock(&log->runner->mutex);
    return status;
}

void kith_store_log_stats_read(kith_store_log *log, kith_log_stats *stats_out) {
    kith_mutex_lock(&log->runner->mutex);
    *stats_out = log->stats;
    kith_mutex_unlock(&log->runner->mutex);
}

/* --- open and close --- */

typedef struct file_names {
    uint64_t *numbers;
    uint32_t count;
    uint32_t capacity;
} file_names;

static void file_name_take(void *ctx, const kith_dir_entry *entry) {
    file_names *names = ctx;
    uint64_t number;
    size_t bytes = strlen(entry->name);
    if (bytes != strlen("log-.kith") + 20 || strncmp(entry->name, "log-", 4) != 0) return;
    if (strcmp(entry->name + 24, ".kith") != 0 || !kith_text_parse_u64(entry->name + 4, 20, &number)) return;
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? 2 * names->capacity : 16;
        names->numbers = kith_realloc(names->numbers, names->capacity * sizeof *names->numbers);
    }
    names->numbers[names->count++] = number; /* the list is in name order, which is number order */
}

/* Removes the last file, whose header never became whole. */
static kith_status remove_unfinished(kith_store_log *log, uint64_t number, kith_err *err) {
    char path[LOG_PATH_BYTES_MAX];
    log_file_path(log->dir, number, path);
    /* A file is begun only after the ones before it were written, and those are kept until a later one is. */
    if (log->file_count == 1 && number != 1) {
        return kith_err_set(err, KITH_CORRUPT, "%s: the only log file has no header", path);
    }
    kith_status status = kith_path_remove(log->options.env, path, err);
    if (status == KITH_OK) status = kith_dir_sync(log->options.env, log->dir, err);
    if (status != KITH_OK) return status;
    log->file_count--;
    log_file_fini(&log->files[log->file_count]);
    log->stats.files = log->file_count;
    kith_log_info("log_unfinished_file_removed", kith_kv_text("path", path));
    return KITH_OK;
}

static kith_status replay_all(kith_store_log *log, const file_names *names, kith_err *err) {
    log_replay replay = {
        .options = &log->options, .frame_next = names->count > 0 && names->numbers[0] > 1 ? 0 : 1};
    kith_status status = KITH_OK;
    for (uint32_t i = 0; status == KITH_OK && i < names->count; i++) {
        uint64_t number = names->numbers[i];
        if (i > 0 && number != names->numbers[i - 1] + 1) {
            status = kith_err_set(err, KITH_CORRUPT, "%s: log file %llu is missing", log->dir,
                (unsigned long long)names->numbers[i - 1] + 1);
            break;
        }
        replay.last = i + 1 == names->count;
        files_push_locked(log, number);
        status = log_file_replay(&replay, log->files, log->file_count, err);
        if (status == KITH_OK && replay.good_bytes == 0) status = remove_unfinished(log, number, err);
    }
    log->offset = replay.good_bytes;
    log->frame_next = replay.frame_next;
    log->replayed_frame_offset = replay.frame_offset;
    kith_buf_fini(&replay.body);
    return status;
}

/* The last frame, as stored, in `image` [bytes]. It is checked again: what the cache forgot since the replay
 * comes from the disk now, and a frame that never reached it must not be written back as the hole it left. */
static kith_status last_frame_read(
    kith_store_log *log, const char *path, uint8_t *image, uint64_t bytes, kith_err *err) {
    size_t got;
    kith_status status = kith_file_read_at(log->file, log->replayed_frame_offset, image, bytes, &got, err);
    if (status != KITH_OK) return status;
    log_frame_header header;
    bool same = got == bytes && log_frame_header_decode(image, &header) && header.frame_bytes == bytes &&
                header.frame_number + 1 == log->frame_next &&
                log_frame_body_unmask(&header, image + LOG_FRAME_HEADER_BYTES);
    if (!same) {
        return kith_err_set(err, KITH_IO, "%s: the frame at offset %llu changed while it was replayed", path,
            (unsigned long long)log->replayed_frame_offset);
    }
    log_frame_body_mask(&header, image + LOG_FRAME_HEADER_BYTES);
    return KITH_OK;
}

/* Writes the last frame (or the header, when there is none) over itself. Only that may not be on the disk: a
 * frame is written after the one before it was synced. The next sync alone would not put it there: after a
 * failed sync Linux takes the pages for clean, and a process that starts then reads from the cache what the
 * disk does not have. */
static kith_status last_frame_rewrite(
    kith_store_log *log, const char *path, uint64_t file_number, kith_err *err) {
    if (log->replayed_frame_offset == 0) {
        uint8_t header[LOG_HEADER_BYTES];
        log_header_encode(file_number, log->frame_next, header);
        return kith_file_write_at(log->file, 0, header, sizeof header, err);
    }
    uint64_t bytes = log->offset - log->replayed_frame_offset;
    uint8_t *image = kith_try_alloc(bytes);
    if (!image) {
        return kith_err_set(
            err, KITH_NO_MEMORY, "%s: no memory for a frame of %llu bytes", path, (unsigned long long)bytes);
    }
    kith_status status = last_frame_read(log, path, image, bytes, err);
    if (status == KITH_OK)
        status = kith_file_write_at(log->file, log->replayed_frame_offset, image, bytes, err);
    kith_free(image);
    return status;
}

/* Opens the last file for writing, cuts a torn tail off and makes durable what was just replayed and is about
 * to be acted on. */
static kith_status last_file_open(kith_store_log *log, kith_err *err) {
    log_file *last = &log->files[log->file_count - 1];
    char path[LOG_PATH_BYTES_MAX];
    log_file_path(log->dir, last->number, path);
    kith_status status = kith_file_open(log->options.env, path, KITH_FILE_WRITE, &log->file, err);
    if (status != KITH_OK) return status;
    if (log->offset == 0) log->offset = last->bytes; /* the file after it was unfinished and is gone */
    if (log->offset < last->bytes) {
        kith_log_info("log_torn_tail_dropped", kith_kv_text("path", path), kith_kv_u64("offset", log->offset),
            kith_kv_u64("bytes", last->bytes - log->offset));
        status = kith_file_truncate(log->file, log->offset, err);
        if (status != KITH_OK) return status;
        last->bytes = log->offset;
    }
    status = last_frame_rewrite(log, path, last->number, err);
    if (status != KITH_OK) return status;
    status = kith_file_sync(log->file, err);
    if (status != KITH_OK) return status;
    return kith_dir_sync(log->options.env, log->dir, err);
}

/* The folder's own name is in its parent. */
static kith_status parent_sync(kith_env *env, const char *dir, kith_err *err) {
    char parent[LOG_PATH_BYTES_MAX];
    const char *slash = strrchr(dir, '/');
    int length = slash ? (int)(slash - dir) : 1;
    snprintf(parent, sizeof parent, "%.*s", length > 0 ? length : 1, slash ? dir : ".");
    return kith_dir_sync(env, parent, err);
}

static kith_status log_fill(kith_store_log *log, kith_err *err) {
    kith_env *env = log->options.env;
    kith_status status = kith_dir_make(env, log->dir, err);
    if (status == KITH_OK) status = parent_sync(env, log->dir, err);
    if (status != KITH_OK) return status;
    file_names names = {0};
    status = kith_dir_list(env, log->dir, file_name_take, &names, err);
    if (status == KITH_OK) status = replay_all(log, &names, err);
    kith_free(names.numbers);
    if (status != KITH_OK) return status;
    return log->file_count > 0 ? last_file_open(log, err) : file_begin(log, 1, err);
}

static kith_store_log *log_create(const kith_store_log_options *options) {
    kith_store_log *log = kith_alloc_zero(sizeof *log);
    log->options = *options;
    log->dir = kith_strdup(options->dir);
    log->options.dir = log->dir;
    list_init(&log->pending);
    list_init(&log->refused);
    kith_buf_init(&log->frame);
    log->runner = kith_alloc_zero(sizeof *log->runner);
    log->runner->task.run = runner_run;
    log->runner->log = log;
    kith_mutex_init(&log->runner->mutex, KITH_RANK_STORE);
    kith_cond_init(&log->runner->idle);
    return log;
}

static void log_free(kith_store_log *log) {
    for (uint32_t i = 0; i < log->file_count; i++)
        log_file_fini(&log->files[i]);
    kith_free(log->files);
    kith_file_close(log->file);
    kith_buf_fini(&log->frame);
    kith_free(log->dir);
    kith_free(log);
}

kith_status kith_store_log_open(
    const kith_store_log_options *options, kith_store_log **log_out, kith_err *err) {
    kith_err here; /* stopping needs the text even when the caller does not */
    if (!err) err = &here;
    kith_assert(strlen(options->dir) < LOG_PATH_BYTES_MAX - 64);
    kith_store_log *log = log_create(options);
    kith_status status = log_fill(log, err);
    if (status != KITH_OK) {
        runner_free(log->runner);
        log_free(log);
        return kith_err_wrap(err, status, "open the log in %s", options->dir);
    }
    *log_out = log;
    return KITH_OK;
}

void kith_store_log_close(kith_store_log *log) {
    if (!log) return;
    log_runner *runner = log->runner;
    kith_mutex_lock(&runner->mutex);
    while (runner->running)
        kith_cond_wait(&runner->idle, &runner->mutex);
    runner->running = true;
    kith_mutex_unlock(&runner->mutex);
    while (flush_once(log)) {
    }
    kith_mutex_lock(&runner->mutex);
    runner->log = NULL; /* a task that is still queued finds nothing to do and frees the runner */
    bool queued = runner->queued;
    kith_mutex_unlock(&runner->mutex);
    log_free(log);
    if (!queued) runner_free(runner);
}
