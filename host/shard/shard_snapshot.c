/* Taking a snapshot, and reading it. */
#include "host/shard/shard_snapshot.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"
#include "host/shard/shard_snapshot_head.h"

#define SPOOL_WRITE_BYTES (1u << 20)
#define ROW_BYTES_MORE    64u /* of a row in a segment file, beside its vectors and codes: a guess */

struct kith_shard_snapshot {
    uint64_t epoch, sequence, bytes;
    kith_buf head;
    uint32_t part_count;
    struct snapshot_part {
        kith_file *file;
        uint64_t bytes;
    } * parts; /* the segment files, then the store part */
};

/* --- reading --- */

void kith_shard_snapshot_describe(
    const kith_shard_snapshot *snapshot, uint64_t *epoch_out, uint64_t *sequence_out, uint64_t *bytes_out) {
    *epoch_out = snapshot->epoch;
    *sequence_out = snapshot->sequence;
    *bytes_out = snapshot->bytes;
}

static kith_status part_read(
    const struct snapshot_part *part, uint64_t offset, void *data_out, size_t bytes, kith_err *err) {
    size_t read;
    kith_status status = kith_file_read_at(part->file, offset, data_out, bytes, &read, err);
    if (status == KITH_OK && read != bytes)
        return kith_err_set(err, KITH_CORRUPT, "a file of a snapshot ends at %llu; it had %llu bytes",
            (unsigned long long)(offset + read), (unsigned long long)part->bytes);
    return status;
}

static size_t size_least(size_t a, uint64_t b) {
    return a < b ? a : (size_t)b;
}

kith_status kith_shard_snapshot_read(kith_shard_snapshot *snapshot, uint64_t offset, void *data_out,
    size_t bytes, size_t *read_out, kith_err *err) {
    uint8_t *out = data_out;
    size_t done = 0;
    uint64_t part_begin = snapshot->head.bytes;
    if (offset < part_begin) {
        done = size_least(bytes, part_begin - offset);
        memcpy(out, snapshot->head.data + offset, done);
    }
    for (uint32_t i = 0; i < snapshot->part_count && done < bytes; i++) {
        const struct snapshot_part *part = &snapshot->parts[i];
        uint64_t at = offset + done;
        if (at < part_begin + part->bytes) {
            size_t wanted = size_least(bytes - done, part_begin + part->bytes - at);
            kith_status status = part_read(part, at - part_begin, out + done, wanted, err);
            if (status != KITH_OK) return status;
            done += wanted;
        }
        part_begin += part->bytes;
    }
    *read_out = done;
    return KITH_OK;
}

void kith_shard_snapshot_end(kith_shard_snapshot *snapshot) {
    if (!snapshot) return;
    for (uint32_t i = 0; i < snapshot->part_count; i++)
        kith_file_close(snapshot->parts[i].file);
    kith_free(snapshot->parts);
    kith_buf_fini(&snapshot->head);
    kith_free(snapshot);
}

/* --- taking --- */

typedef struct snapshot_taking {
    kith_task task;
    kith_shard_snapshot_begin *begin;
    kith_shard *shard;
    /* The moment. */
    shard_view *view;
    kith_store_snapshot *store;
    uint64_t own_segment_id; /* the first of those set aside for files of the copy's own */
    kith_arena arena;
    shard_snapshot_head head;
    kith_shard_snapshot *snapshot;
    kith_status status;
    kith_err err;
} snapshot_taking;

static void part_add(snapshot_taking *taking, kith_file *file, uint64_t bytes) {
    kith_shard_snapshot *snapshot = taking->snapshot;
    snapshot->parts[snapshot->part_count++] = (struct snapshot_part){.file = file, .bytes = bytes};
}

/* A file that is left is swept up at the next start. */
static void own_file_remove(snapshot_taking *taking, const char *path) {
    kith_err err;
    kith_status status = kith_path_remove(taking->shard->node->env, path, &err);
    if (status != KITH_OK && status != KITH_NOT_FOUND)
        kith_log_warn("snapshot_file_left", kith_kv_text("path", path), kith_kv_text("error", err.text));
}

/* --- segments --- */

static kith_status segment_file_add(
    snapshot_taking *taking, const char *path, uint64_t segment_id, kith_err *err) {
    kith_file *file;
    uint64_t bytes;
    kith_status status = kith_file_open(taking->shard->node->env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    status = kith_file_bytes(file, &bytes, err);
    if (status != KITH_OK) {
        kith_file_close(file);
        return status;
    }
    part_add(taking, file, bytes);
    taking->head.files[taking->head.file_count++] =
        (shard_snapshot_file){.segment_id = segment_id, .bytes = bytes};
    return KITH_OK;
}

/* About what the file will take; codes are less than the vectors once more. */
static uint64_t segment_bytes_guess(const kith_shard *shard, const shard_view_part *part) {
    return (uint64_t)part->live_count * (2 * shard->row_bytes + ROW_BYTES_MORE);
}

/* What the view shows of a segment in memory. */
static kith_status segment_write(snapshot_taking *taking, const shard_view_part *part, kith_err *err) {
    kith_shard *shard = taking->shard;
    char path[SHARD_PATH_BYTES_MAX];
    uint64_t segment_id = taking->own_segment_id++;
    uint32_t row_count = 0;
    kith_segment_source source = {.segment = part->segment,
        .row_count = part->row_count,
        .dead = part->dead ? part->dead->words : NULL};
    kith_status status =
        shard_space_check_give(shard->node, shard->id, segment_bytes_guess(shard, part), err);
    if (status != KITH_OK) return status;
    shard_segment_path(shard->node, shard->id, segment_id, path);
    status = kith_segment_build(shard->node->env, path, &shard->schema, shard->node->compute, &source, 1,
        &shard->closing, &row_count, err);
    if (status == KITH_OK && row_count == 0) return KITH_OK;
    if (status == KITH_OK) status = segment_file_add(taking, path, segment_id, err);
    own_file_remove(taking, path);
    return status;
}

/* Sealed ones are in the manifest also when all their rows are dead, as the store has their tombstones. */
static kith_status segments_take(snapshot_taking *taking, kith_err *err) {
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < taking->view->part_count && status == KITH_OK; i++) {
        const shard_view_part *part = &taking->view->parts[i];
        char path[SHARD_PATH_BYTES_MAX];
        uint64_t segment_id = kith_segment_id(part->segment);
        shard_segment_path(taking->shard->node, taking->shard->id, segment_id, path);
        status = kith_segment_is_sealed(part->segment) ? segment_file_add(taking, path, segment_id, err)
                                                       : segment_write(taking, part, err);
    }
    return status;
}

/* --- store --- */

typedef struct spool {
    kith_shard *shard;
    kith_file *file;
    kith_buf buf;
    uint64_t written;
    uint32_t crc;
} spool;

/* How long the whole will be is not known: there must be room for each piece. */
static kith_status spool_write(spool *out, kith_err *err) {
    kith_shard *shard = out->shard;
    kith_status status = shard_space_check_give(shard->node, shard->id, out->buf.bytes, err);
    if (status == KITH_OK)
        status = kith_file_write_at(out->file, out->written, out->buf.data, out->buf.bytes, err);
    if (status != KITH_OK) return status;
    out->written += out->buf.bytes;
    kith_buf_clear(&out->buf);
    if (atomic_load_explicit(&shard->closing, memory_order_relaxed))
        return kith_err_set(err, KITH_CANCELLED, "the shard is closing");
    return KITH_OK;
}

static kith_status spool_record(spool *out, kith_store_family family, const uint8_t *key, size_t key_bytes,
    const void *value, size_t value_bytes, kith_err *err) {
    size_t start = out->buf.bytes;
    kith_buf_u8(&out->buf, (uint8_t)family);
    kith_buf_u32(&out->buf, (uint32_t)key_bytes);
    kith_buf_u64(&out->buf, value_bytes);
    kith_buf_append(&out->buf, key, key_bytes);
    kith_buf_append(&out->buf, value, value_bytes);
    out->crc = kith_crc32c(out->crc, out->buf.data + start, out->buf.bytes - start);
    return out->buf.bytes < SPOOL_WRITE_BYTES ? KITH_OK : spool_write(out, err);
}

/* The manifest follows from the head; the others are about this node's log and folder. */
static bool is_left_out(kith_store_family family, const uint8_t *key, size_t key_bytes) {
    return family == KITH_STORE_META && key_bytes == 9 && (key[8] == 'M' || key[8] == 'L' || key[8] == 'I');
}

static kith_status spool_family(
    const snapshot_taking *taking, spool *out, kith_store_family family, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    kith_store_iterator *iterator;
    const void *key, *value;
    size_t key_bytes, value_bytes;
    size_t from_bytes = shard_key_prefix(taking->shard->id, from);
    size_t to_bytes = shard_key_prefix(taking->shard->id + 1, to);
    kith_status status = kith_store_snapshot_iterator_open(
        taking->store, family, from, from_bytes, to, to_bytes, &iterator, err);
    if (status != KITH_OK) return status;
    while (status == KITH_OK && kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes)) {
        if (is_left_out(family, key, key_bytes)) continue;
        status = spool_record(out, family, (const uint8_t *)key + 8, key_bytes - 8, value, value_bytes, err);
    }
    if (status == KITH_OK) status = kith_store_iterator_status(iterator, err);
    kith_store_iterator_close(iterator);
    return status;
}

static kith_status spool_fill(snapshot_taking *taking, spool *out, kith_err *err) {
    kith_status status = kith_file_truncate(out->file, 0, err);
    if (status == KITH_OK) status = spool_family(taking, out, KITH_STORE_META, err);
    if (status == KITH_OK) status = spool_family(taking, out, KITH_STORE_POINTS, err);
    if (status != KITH_OK) return status;
    kith_buf_u32(&out->buf, out->crc);
    return spool_write(out, err);
}

static kith_status store_take(snapshot_taking *taking, kith_err *err) {
    kith_shard *shard = taking->shard;
    char path[SHARD_PATH_BYTES_MAX];
    spool out = {.shard = shard};
    shard_segment_path(shard->node, shard->id, taking->own_segment_id, path);
    kith_status status = kith_file_open(shard->node->env, path, KITH_FILE_WRITE, &out.file, err);
    if (status != KITH_OK) return status;
    own_file_remove(taking, path);
    kith_buf_init(&out.buf);
    status = spool_fill(taking, &out, err);
    kith_buf_fini(&out.buf);
    if (status != KITH_OK) {
        kith_file_close(out.file);
        return status;
    }
    part_add(taking, out.file, out.written);
    taking->head.store_bytes = out.written;
    return KITH_OK;
}

/* The entry that the store is at, which is the view's. */
static kith_status entry_take(snapshot_taking *taking, kith_err *err) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    shard_snapshot_head *head = &taking->head;
    kith_buf value;
    kith_buf_init(&value);
    size_t key_bytes = shard_key_applied(taking->shard->id, key);
    kith_status status = kith_store_snapshot_get(taking->store, KITH_STORE_META, key, key_bytes, &value, err);
    bool whole =
        status == KITH_NOT_FOUND ||
        (status == KITH_OK && shard_applied_decode(value.data, value.bytes, &head->sequence, &head->epoch));
    kith_buf_fini(&value);
    if (status == KITH_NOT_FOUND) status = KITH_OK;
    if (status == KITH_OK && (!whole || head->sequence != taking->view->applied_sequence))
        return kith_err_set(err, KITH_CORRUPT, "shard %llu: the store is at entry %llu, the view at %llu",
            (unsigned long long)taking->shard->id, (unsigned long long)head->sequence,
            (unsigned long long)taking->view->applied_sequence);
    return status;
}

/* --- the whole --- */

static kith_status everything_take(snapshot_taking *taking, kith_err *err) {
    kith_shard_snapshot *snapshot = taking->snapshot;
    uint32_t part_count = taking->view->part_count;
    if (part_count > SHARD_SNAPSHOT_FILES_MAX)
        return kith_err_set(err, KITH_INTERNAL, "shard %llu has %u segments; a snapshot at most %u",
            (unsigned long long)taking->shard->id, part_count, SHARD_SNAPSHOT_FILES_MAX);
    snapshot->parts = kith_alloc_array(part_count + 1, sizeof *snapshot->parts);
    taking->head.files = kith_arena_array(&taking->arena, part_count, sizeof *taking->head.files);
    kith_status status = entry_take(taking, err);
    if (status == KITH_OK) status = segments_take(taking, err);
    if (status == KITH_OK) status = store_take(taking, err);
    if (status != KITH_OK) return status;
    shard_snapshot_head_encode(&taking->head, &snapshot->head);
    snapshot->epoch = taking->head.epoch;
    snapshot->sequence = taking->head.sequence;
    snapshot->bytes = snapshot->head.bytes;
    for (uint32_t i = 0; i < snapshot->part_count; i++)
        snapshot->bytes += snapshot->parts[i].bytes;
    return KITH_OK;
}

/* The shard may go before the caller hears of it. */
static void taking_finish(snapshot_taking *taking) {
    kith_shard_snapshot_begin *begin = taking->begin;
    kith_shard_snapshot *snapshot = taking->snapshot;
    kith_status status = taking->status;
    kith_err err = taking->err;
    kith_store_snapshot_destroy(taking->store);
    if (taking->view) shard_view_release(taking->view);
    kith_arena_fini(&taking->arena);
    shard_use_release(taking->shard);
    kith_free(taking);
    if (status != KITH_OK) {
        kith_shard_snapshot_end(snapshot);
        snapshot = NULL;
    }
    begin->done(begin, status, snapshot, status == KITH_OK ? NULL : &err);
}

static void take_run(kith_task *task) {
    snapshot_taking *taking = (snapshot_taking *)(void *)task;
    if (taking->status == KITH_OK) taking->status = everything_take(taking, &taking->err);
    if (taking->status == KITH_CANCELLED) taking->status = KITH_CLOSED;
    if (taking->status != KITH_OK)
        kith_err_wrap(
            &taking->err, taking->status, "snapshot of shard %llu", (unsigned long long)taking->shard->id);
    taking_finish(taking);
}

static uint32_t unsealed_count(const shard_view *view) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->part_count; i++)
        count += !kith_segment_is_sealed(view->parts[i].segment);
    return count;
}

/* On the owner, where view and store agree. */
static void moment_take(kith_task *task) {
    snapshot_taking *taking = (snapshot_taking *)(void *)task;
    kith_shard *shard = taking->shard;
    taking->status = shard_readable_check(shard, &taking->err);
    if (taking->status == KITH_OK) {
        taking->view = shard_view_acquire(shard->view_cell);
        taking->store = kith_store_snapshot_create(shard->node->store);
        taking->own_segment_id = shard->next_segment_id;
        shard->next_segment_id += unsealed_count(taking->view) + 1; /* one for the store part */
    }
    task->run = take_run;
    kith_executor_post(shard->node->background, task);
}

static void begin_closed(kith_task *task) {
    kith_shard_snapshot_begin *begin =
        (kith_shard_snapshot_begin *)((char *)task - offsetof(kith_shard_snapshot_begin, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    begin->done(begin, status, NULL, &err);
}

void kith_shard_snapshot_begin_start(kith_shard *shard, kith_shard_snapshot_begin *begin) {
    if (!shard_use_try_acquire(shard)) {
        kith_task *task = (kith_task *)begin->impl;
        *task = (kith_task){.run = begin_closed};
        kith_executor_post(shard->node->background, task);
        return;
    }
    snapshot_taking *taking = kith_alloc_zero(sizeof *taking);
    taking->task.run = moment_take;
    taking->begin = begin;
    taking->shard = shard;
    taking->head.shard_id = shard->id;
    taking->snapshot = kith_alloc_zero(sizeof *taking->snapshot);
    kith_buf_init(&taking->snapshot->head);
    kith_arena_init(&taking->arena);
    kith_executor_post(shard->node->owner, &taking->task);
}
