/* Reading entries back while the log is written to. What is read is what was synced as the reading began; a file is opened
 * before the first one is read, so that one which is trimmed meanwhile is still read to its end. The log's lock is held
 * only to see which files those are. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/store/store_log_internal.h"

typedef struct log_reading {
    kith_store_log *log;
    uint64_t stream, from, to;
    kith_status (*each)(void *ctx, const kith_log_entry *entry, kith_err *err);
    void *ctx;
    kith_log_place *place; /* of the frame that is read */
    kith_buf body;         /* reused */
} log_reading;

static kith_status corrupt(
    const log_reading *reading, const log_read_file *file, uint64_t offset, const char *what, kith_err *err) {
    char path[LOG_PATH_BYTES_MAX];
    log_file_path(log_options(reading->log)->dir, file->number, path);
    return kith_err_set(err, KITH_CORRUPT, "%s: %s at offset %llu of %llu", path, what,
        (unsigned long long)offset, (unsigned long long)file->bytes);
}

/* --- files --- */

static void files_close(log_read_file *files, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        kith_file_close(files[i].file);
    kith_free(files);
}

static kith_status files_open(kith_store_log *log, log_read_file *files, uint32_t count, kith_err *err) {
    const kith_store_log_options *options = log_options(log);
    char path[LOG_PATH_BYTES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        log_file_path(options->dir, files[i].number, path);
        kith_status status = kith_file_open(options->env, path, KITH_FILE_READ, &files[i].file, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* --- frames --- */

static kith_status body_read(
    log_reading *reading, const log_read_file *file, uint64_t offset, uint64_t bytes, kith_err *err) {
    kith_buf *body = &reading->body;
    size_t got;
    kith_buf_clear(body);
    if (bytes > body->capacity_bytes) {
        uint8_t *larger = kith_try_alloc(bytes);
        if (!larger)
            return kith_err_set(
                err, KITH_NO_MEMORY, "no memory for a frame of %llu bytes", (unsigned long long)bytes);
        kith_buf_fini(body);
        *body = (kith_buf){.data = larger, .capacity_bytes = bytes};
    }
    kith_status status = kith_file_read_at(file->file, offset, kith_buf_grow(body, bytes), bytes, &got, err);
    if (status != KITH_OK) return status;
    return got == bytes ? KITH_OK : corrupt(reading, file, offset, "the file became shorter", err);
}

static kith_status entries_give(log_reading *reading, const log_read_file *file,
    const log_frame_header *header, uint64_t offset, kith_err *err) {
    uint64_t body_bytes = header->frame_bytes - LOG_FRAME_HEADER_BYTES;
    uint64_t at = 0;
    for (uint32_t i = 0; i < header->entry_count; i++) {
        kith_log_entry entry;
        if (!log_entry_decode(reading->body.data, body_bytes, &at, &entry))
            return corrupt(reading, file, offset, "an entry is longer than its frame", err);
        if (entry.stream != reading->stream) continue;
        if (entry.sequence < reading->from || entry.sequence > reading->to) continue;
        kith_status status = reading->each(reading->ctx, &entry, err);
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

/* The frame at `*offset`, which is stepped past it. */
static kith_status frame_read(
    log_reading *reading, const log_read_file *file, uint64_t *offset, kith_err *err) {
    uint8_t disk[LOG_FRAME_HEADER_BYTES];
    log_frame_header header;
    size_t got;
    kith_status status = kith_file_read_at(file->file, *offset, disk, sizeof disk, &got, err);
    if (status != KITH_OK) return status;
    if (got < sizeof disk || !log_frame_header_decode(disk, &header) ||
        header.frame_bytes > file->bytes - *offset)
        return corrupt(reading, file, *offset, "a frame header is damaged", err);
    status = body_read(
        reading, file, *offset + LOG_FRAME_HEADER_BYTES, header.frame_bytes - LOG_FRAME_HEADER_BYTES, err);
    if (status != KITH_OK) return status;
    if (!log_frame_body_unmask(&header, reading->body.data))
        return corrupt(reading, file, *offset, "a frame's checksum does not match", err);
    *reading->place = (kith_log_place){.file = file->number, .offset = *offset};
    status = entries_give(reading, file, &header, *offset, err);
    *offset += header.frame_bytes;
    return status;
}

static kith_status file_read(
    log_reading *reading, const kith_log_place *begin, const log_read_file *file, kith_err *err) {
    if (file->number < begin->file) return KITH_OK;
    uint64_t offset = file->number == begin->file ? begin->offset : LOG_HEADER_BYTES;
    kith_status status = KITH_OK;
    while (status == KITH_OK && offset < file->bytes)
        status = frame_read(reading, file, &offset, err);
    return status;
}

kith_status kith_store_log_read(kith_store_log *log, uint64_t stream, uint64_t from, uint64_t to,
    kith_log_place *place, kith_status (*each)(void *ctx, const kith_log_entry *entry, kith_err *err),
    void *ctx, kith_err *err) {
    kith_log_place own = {0}, begin = place ? *place : own;
    log_reading reading = {.log = log,
        .stream = stream,
        .from = from,
        .to = to,
        .each = each,
        .ctx = ctx,
        .place = place ? place : &own};
    log_read_file *files;
    uint32_t count;
    kith_status status = log_files_with(log, stream, from, to, &files, &count, err);
    if (status != KITH_OK) return status;
    kith_buf_init(&reading.body);
    status = files_open(log, files, count, err); /* NOT_FOUND: trimmed since */
    for (uint32_t i = 0; status == KITH_OK && i < count; i++)
        status = file_read(&reading, &begin, &files[i], err);
    kith_buf_fini(&reading.body);
    files_close(files, count);
    return status;
}
