/* The bytes of the log, shared by its writer (store_log.c) and its reader (store_log_replay.c). Format, version 1; all
 * little-endian:
 *
 *   file    log-<20 digits>.kith: header, frames
 *   header  64 B: "KITHLOG1", u32 version, u32 0, u64 file number, u64 number of its first frame, zeros, u32 crc32c of
 *           the 60 bytes before it. Stored XOR 0xA5.
 *   frame   40 B header: u32 magic, u32 crc32c of the 32 bytes after it, u64 bytes of the frame (header and all),
 *           u64 frame number, u64 mask, u32 entry count, u32 crc32c of the body. Stored XOR 0xA5.
 *           Body: entries. Stored XOR the mask, byte i with byte i mod 8 of it.
 *   entry   u64 stream, u64 epoch, u64 sequence, u64 bytes, data, zeros up to a multiple of 8.
 *
 * The mask is drawn by chance and is not that of headers, so that a client's data cannot be, on the disk, a frame header
 * that the search behind a torn frame would take for a later frame. Another one is taken when it would leave a part of
 * the frame in a 512-byte sector with fewer than LOG_SECTOR_NONZERO_MIN bytes that are not 0. So "a sector that was
 * written is not all zeros, and no flipped bit makes it so" holds for any data, which the torn rule rests on. (Files
 * from before have masks of 0xA5 eight times, and read the same.)
 * The header has a CRC of its own so that a frame's length can be trusted when its body is bad.
 *
 * Threads: pure functions. */
#ifndef KITH_STORE_STORE_LOG_INTERNAL_H
#define KITH_STORE_STORE_LOG_INTERNAL_H

#include "host/base/buf.h"
#include "host/base/map.h"
#include "host/store/store_log.h"

#define LOG_VERSION            1u
#define LOG_HEADER_BYTES       64u
#define LOG_FRAME_HEADER_BYTES 40u
#define LOG_ENTRY_HEADER_BYTES 32u
#define LOG_SECTOR_BYTES       512u
#define LOG_SECTOR_NONZERO_MIN 3u
#define LOG_FRAME_BYTES_MAX    (16u << 20) /* a frame is closed past this; one entry alone may be longer */
#define LOG_ENTRY_BYTES_MAX    (1u << 30)
#define LOG_PATH_BYTES_MAX     4096u

typedef struct log_frame_header {
    uint64_t frame_bytes;
    uint64_t frame_number;
    uint64_t mask;
    uint32_t entry_count;
    uint32_t body_crc;
} log_frame_header;

/* Of one stream in one file. Sequences may go back, where entries supersede others. */
typedef struct log_file_stream {
    uint64_t least, greatest;
    uint64_t
        last; /* greatest that no later entry, here or in a later file, supersedes; stale where it is not needed */
    bool needed; /* not trimmed, and not superseded as a whole */
} log_file_stream;

typedef struct log_file {
    uint64_t number;
    uint64_t bytes;      /* good ones: written and synced */
    kith_map *by_stream; /* stream -> index into `streams` */
    log_file_stream *streams;
    uint32_t stream_count, stream_capacity;
    uint32_t needed_count;
} log_file;

void log_header_encode(uint64_t file_number, uint64_t frame_first, uint8_t disk_out[LOG_HEADER_BYTES]);
/* False, with what is wrong in `*fault_out`. */
bool log_header_decode(const uint8_t disk[LOG_HEADER_BYTES], uint64_t *file_number_out,
    uint64_t *frame_first_out, const char **fault_out);

/* Bytes that `data_bytes` bytes of an entry take in a frame. */
uint64_t log_entry_disk_bytes(uint64_t data_bytes);
typedef struct log_frame_place {
    uint64_t offset; /* in the file */
    uint64_t number;
    uint64_t mask; /* random; the frame has this one or, where it would not do, another */
} log_frame_place;

/* begin, add..., finish: makes the disk image of one frame in `frame`. */
void log_frame_begin(kith_buf *frame);
void log_frame_add(kith_buf *frame, const kith_log_entry *entry);
void log_frame_finish(kith_buf *frame, const log_frame_place *place, uint32_t entry_count);
/* False unless magic, CRC and length are good. */
bool log_frame_header_decode(const uint8_t disk[LOG_FRAME_HEADER_BYTES], log_frame_header *header_out);
/* Takes the mask off `body` in place and checks the CRC. */
bool log_frame_body_unmask(const log_frame_header *header, uint8_t *body);
/* Puts the mask back on. */
void log_frame_body_mask(const log_frame_header *header, uint8_t *body);
/* Reads the entry at `*offset` of an unmasked body and steps past it; false when its lengths do not fit. */
bool log_entry_decode(const uint8_t *body, uint64_t body_bytes, uint64_t *offset, kith_log_entry *entry_out);
/* Whether a sector's part of [offset, offset + bytes) is all zeros; `disk` are those bytes. */
bool log_sector_lost(const uint8_t *disk, uint64_t bytes, uint64_t offset);

void log_file_path(const char *dir, uint64_t number, char path_out[LOG_PATH_BYTES_MAX]);

/* --- store_log_file.c: which streams a file has --- */

void log_file_init(log_file *file, uint64_t number);
void log_file_fini(log_file *file);
/* The last of `files` has `entry`, which is durable, or will be before a file is removed. */
void log_files_note(log_file *files, uint32_t file_count, const kith_log_entry *entry);
/* Entries of the stream up to `sequence` are not needed any more. */
void log_file_trim(log_file *file, uint64_t stream, uint64_t sequence);
/* NULL: the file has nothing of it. */
const log_file_stream *log_file_stream_find(const log_file *file, uint64_t stream);

/* --- store_log_read.c --- */

typedef struct log_read_file {
    uint64_t number;
    uint64_t bytes; /* read up to here */
    kith_file *file;
} log_read_file;

/* store_log.c: the files that may have an entry of the stream in [from, to], oldest first, to be freed; NOT_FOUND when there were
 * older ones that had. */
kith_status log_files_with(kith_store_log *log, uint64_t stream, uint64_t from, uint64_t to,
    log_read_file **files_out, uint32_t *count_out, kith_err *err);
const kith_store_log_options *log_options(const kith_store_log *log);

/* One file to replay. */
typedef struct log_replay {
    const kith_store_log_options *options;
    bool last;           /* no file comes after it */
    uint64_t frame_next; /* 0: the file's own header says (it is the oldest one) */
    uint64_t good_bytes; /* out: the file's length without a torn tail; 0: not even its header is complete */
    uint64_t
        frame_offset; /* out: of the last good frame; 0: the file, whole header and all, has none. Untouched when
                               good_bytes is 0 */
    kith_buf body;    /* reused */
    kith_log_stats *counts; /* bytes and entries are added */
} log_replay;

/* Checks and replays the last of `files` (number set; bytes and streams are filled). */
kith_status log_file_replay(log_replay *replay, log_file *files, uint32_t file_count, kith_err *err);

#endif
