/* Reading one log file: every frame is checked before an entry of it is given to the caller, and a bad frame
 * is either torn (the last write of a machine that lost power) or CORRUPT.
 *
 * Torn needs proof, because what is taken for torn is dropped: nothing valid after it, and a part of it that
 * never reached the disk: bytes past the end of the file, or a sector that is all zeros (which no written
 * sector is). Bad for any other reason is damage to what may have been acknowledged. */
#include "host/store/store_log_internal.h"

#include <string.h>

#include "host/base/alloc.h"

typedef struct log_cursor {
    log_replay *replay;
    log_file *files; /* the last one is read */
    uint32_t file_count;
    kith_file *handle;
    const char *path;
    uint64_t bytes;  /* length of the file */
    uint64_t offset; /* of the frame being read */
} log_cursor;

static kith_status corrupt(const log_cursor *cursor, const char *what, kith_err *err) {
    return kith_err_set(err, KITH_CORRUPT, "%s: %s at offset %llu of %llu", cursor->path, what,
        (unsigned long long)cursor->offset, (unsigned long long)cursor->bytes);
}

/* Reads [offset, offset + bytes), which is within the file, to `body`. */
static kith_status read_part(log_cursor *cursor, uint64_t offset, uint64_t bytes, kith_err *err) {
    kith_buf *body = &cursor->replay->body;
    kith_buf_clear(body);
    if (bytes > body->capacity_bytes) {
        uint8_t *larger = kith_try_alloc(bytes);
        if (!larger) {
            return kith_err_set(err, KITH_NO_MEMORY, "%s: no memory for a frame of %llu bytes", cursor->path,
                (unsigned long long)bytes);
        }
        kith_buf_fini(body);
        *body = (kith_buf){.data = larger, .capacity_bytes = bytes};
    }
    size_t got;
    kith_status status =
        kith_file_read_at(cursor->handle, offset, kith_buf_grow(body, bytes), bytes, &got, err);
    if (status != KITH_OK) return status;
    if (got != bytes) return corrupt(cursor, "the file became shorter while it was read", err);
    return KITH_OK;
}

/* Whether a valid frame header with a later number lies in `disk`, the bytes after a bad frame header. */
static bool later_frame_exists(const log_cursor *cursor, const uint8_t *disk, uint64_t bytes) {
    for (uint64_t at = 8; at + LOG_FRAME_HEADER_BYTES <= bytes; at += 8) {
        log_frame_header header;
        if (log_frame_header_decode(disk + at, &header) && header.frame_number > cursor->replay->frame_next) {
            return true;
        }
    }
    return false;
}

/* The frame header at the offset is bad: torn when a sector that holds part of it was not written and no
 * frame follows. Sets good_bytes when torn. */
static kith_status bad_frame_header(log_cursor *cursor, kith_err *err) {
    const char *what = "a frame header is damaged";
    if (!cursor->replay->last) return corrupt(cursor, what, err);
    uint64_t left = cursor->bytes - cursor->offset;
    kith_status status = read_part(cursor, cursor->offset, left, err);
    if (status != KITH_OK) return status;
    uint64_t header_end = cursor->offset + LOG_FRAME_HEADER_BYTES;
    uint64_t sectors_end = (header_end + LOG_SECTOR_BYTES - 1) / LOG_SECTOR_BYTES * LOG_SECTOR_BYTES;
    uint64_t part = sectors_end - cursor->offset < left ? sectors_end - cursor->offset : left;
    const uint8_t *disk = cursor->replay->body.data;
    if (!log_sector_lost(disk, part, cursor->offset)) return corrupt(cursor, what, err);
    if (later_frame_exists(cursor, disk, left))
        return corrupt(cursor, "a frame is missing before later ones", err);
    cursor->replay->good_bytes = cursor->offset;
    return KITH_OK;
}

/* The body is bad; `disk` is the whole frame as stored. */
static kith_status bad_frame_body(log_cursor *cursor, uint64_t frame_bytes, kith_err *err) {
    bool at_end = cursor->replay->last && cursor->offset + frame_bytes == cursor->bytes;
    if (!at_end) return corrupt(cursor, "a frame's checksum does not match", err);
    kith_status status = read_part(cursor, cursor->offset, frame_bytes, err);
    if (status != KITH_OK) return status;
    if (!log_sector_lost(cursor->replay->body.data, frame_bytes, cursor->offset)) {
        return corrupt(cursor, "the last frame's checksum does not match though all of it was written", err);
    }
    cursor->replay->good_bytes = cursor->offset;
    return KITH_OK;
}

static kith_status replay_entries(log_cursor *cursor, const log_frame_header *header, kith_err *err) {
    const uint8_t *body = cursor->replay->body.data;
    uint64_t body_bytes = header->frame_bytes - LOG_FRAME_HEADER_BYTES;
    uint64_t at = 0;
    for (uint32_t i = 0; i < header->entry_count; i++) {
        kith_log_entry entry;
        if (!log_entry_decode(body, body_bytes, &at, &entry)) {
            return corrupt(cursor, "an entry is longer than its frame", err);
        }
        kith_status status =
            cursor->replay->options->replay(cursor->replay->options->replay_ctx, &entry, err);
        if (status != KITH_OK) return status;
        log_files_note(cursor->files, cursor->file_count, &entry);
    }
    if (at != body_bytes) return corrupt(cursor, "a frame is longer than its entries", err);
    return KITH_OK;
}

/* Reads the frame at the offset; `*done_out` when it was torn. */
static kith_status replay_frame(log_cursor *cursor, bool *done_out, kith_err *err) {
    log_replay *replay = cursor->replay;
    uint64_t left = cursor->bytes - cursor->offset;
    *done_out = true;
    if (left < LOG_FRAME_HEADER_BYTES) {
        if (!replay->last) return corrupt(cursor, "the file ends inside a frame", err);
        replay->good_bytes = cursor->offset;
        return KITH_OK;
    }
    kith_status status = read_part(cursor, cursor->offset, LOG_FRAME_HEADER_BYTES, err);
    if (status != KITH_OK) return status;
    log_frame_header header;
    if (!log_frame_header_decode(replay->body.data, &header)) return bad_frame_header(cursor, err);
    if (header.frame_number != replay->frame_next) return corrupt(cursor, "a frame is out of order", err);
    if (header.frame_bytes > left) {
        if (!replay->last) return corrupt(cursor, "the file ends inside a frame", err);
        replay->good_bytes = cursor->offset;
        return KITH_OK;
    }
    uint64_t body_bytes = header.frame_bytes - LOG_FRAME_HEADER_BYTES;
    status = read_part(cursor, cursor->offset + LOG_FRAME_HEADER_BYTES, body_bytes, err);
    if (status != KITH_OK) return status;
    if (!log_frame_body_unmask(&header, replay->body.data))
        return bad_frame_body(cursor, header.frame_bytes, err);
    status = replay_entries(cursor, &header, err);
    if (status != KITH_OK) return status;
    replay->frame_next++;
    replay->frame_offset = cursor->offset;
    cursor->offset += header.frame_bytes;
    replay->good_bytes = cursor->offset;
    *done_out = false;
    return KITH_OK;
}

/* An incomplete header (good_bytes stays 0) is the sign of a file whose making was cut short: nothing can be
 * in it. */
static kith_status replay_header(log_cursor *cursor, kith_err *err) {
    log_replay *replay = cursor->replay;
    uint8_t disk[LOG_HEADER_BYTES];
    size_t got;
    kith_status status = kith_file_read_at(cursor->handle, 0, disk, sizeof disk, &got, err);
    if (status != KITH_OK) return status;
    bool nothing_after = cursor->bytes <= LOG_HEADER_BYTES;
    if (replay->last && nothing_after && (got < sizeof disk || log_sector_lost(disk, sizeof disk, 0)))
        return KITH_OK;
    if (got < sizeof disk) return corrupt(cursor, "the file is shorter than its header", err);
    uint64_t number, frame_first;
    const char *fault;
    if (!log_header_decode(disk, &number, &frame_first, &fault)) return corrupt(cursor, fault, err);
    if (number != cursor->files[cursor->file_count - 1].number)
        return corrupt(cursor, "the header has another file's number", err);
    if (replay->frame_next == 0) replay->frame_next = frame_first;
    if (replay->frame_next != frame_first) return corrupt(cursor, "frames are missing before this file", err);
    cursor->offset = LOG_HEADER_BYTES;
    replay->good_bytes = cursor->offset;
    replay->frame_offset = 0;
    return KITH_OK;
}

static kith_status replay_opened(log_cursor *cursor, kith_err *err) {
    kith_status status = kith_file_bytes(cursor->handle, &cursor->bytes, err);
    if (status != KITH_OK) return status;
    status = replay_header(cursor, err);
    if (status != KITH_OK || cursor->replay->good_bytes == 0) return status;
    bool done = false;
    while (status == KITH_OK && !done && cursor->offset < cursor->bytes)
        status = replay_frame(cursor, &done, err);
    return status;
}

kith_status log_file_replay(log_replay *replay, log_file *files, uint32_t file_count, kith_err *err) {
    char path[LOG_PATH_BYTES_MAX];
    log_file *file = &files[file_count - 1];
    log_file_path(replay->options->dir, file->number, path);
    log_cursor cursor = {.replay = replay, .files = files, .file_count = file_count, .path = path};
    replay->good_bytes = 0;
    kith_status status = kith_file_open(replay->options->env, path, KITH_FILE_READ, &cursor.handle, err);
    if (status != KITH_OK) return status;
    status = replay_opened(&cursor, err);
    kith_file_close(cursor.handle);
    file->bytes = cursor.bytes;
    return status;
}
