/* The bytes of the log's files; the format is in store_log_internal.h. */
#include "host/store/store_log_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"

#define LOG_FRAME_MAGIC 0x4d52464bu /* "KFRM" */
#define LOG_MASK        0xA5A5A5A5A5A5A5A5ULL
/* Odd, so that adding it again and again meets every mask once. */
#define LOG_MASK_STEP 0x9E3779B97F4A7C15ULL

static const char log_magic[8] = {'K', 'I', 'T', 'H', 'L', 'O', 'G', '1'};

_Static_assert(LOG_SECTOR_BYTES % 8 == 0 && LOG_HEADER_BYTES % 8 == 0 && LOG_FRAME_HEADER_BYTES % 8 == 0,
    "frames and the parts of them in a sector are whole words, so that one mask word decides whether a part "
    "is zero");

/* `bytes` is a multiple of 8. */
static void mask_apply(uint8_t *data, uint64_t bytes, uint64_t mask) {
    uint8_t key[8];
    kith_store_u64(key, mask);
    uint64_t key_word;
    memcpy(&key_word, key, sizeof key_word);
    for (uint64_t at = 0; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        word ^= key_word;
        memcpy(data + at, &word, sizeof word);
    }
}

void log_header_encode(uint64_t file_number, uint64_t frame_first, uint8_t disk_out[LOG_HEADER_BYTES]) {
    memset(disk_out, 0, LOG_HEADER_BYTES);
    memcpy(disk_out, log_magic, sizeof log_magic);
    kith_store_u32(disk_out + 8, LOG_VERSION);
    kith_store_u64(disk_out + 16, file_number);
    kith_store_u64(disk_out + 24, frame_first);
    kith_store_u32(disk_out + LOG_HEADER_BYTES - 4, kith_crc32c(0, disk_out, LOG_HEADER_BYTES - 4));
    mask_apply(disk_out, LOG_HEADER_BYTES, LOG_MASK);
}

bool log_header_decode(const uint8_t disk[LOG_HEADER_BYTES], uint64_t *file_number_out,
    uint64_t *frame_first_out, const char **fault_out) {
    uint8_t plain[LOG_HEADER_BYTES];
    memcpy(plain, disk, sizeof plain);
    mask_apply(plain, sizeof plain, LOG_MASK);
    *fault_out = NULL;
    if (memcmp(plain, log_magic, sizeof log_magic) != 0) {
        *fault_out = "the magic of a log file is not there";
    } else if (kith_load_u32(plain + LOG_HEADER_BYTES - 4) != kith_crc32c(0, plain, LOG_HEADER_BYTES - 4)) {
        *fault_out = "the header's checksum does not match";
    } else if (kith_load_u32(plain + 8) != LOG_VERSION) {
        *fault_out = "the version is not 1, the only one this program knows";
    }
    if (*fault_out) return false;
    *file_number_out = kith_load_u64(plain + 16);
    *frame_first_out = kith_load_u64(plain + 24);
    return true;
}

uint64_t log_entry_disk_bytes(uint64_t data_bytes) {
    return LOG_ENTRY_HEADER_BYTES + ((data_bytes + 7) & ~7ULL);
}

void log_frame_begin(kith_buf *frame) {
    kith_buf_clear(frame);
    memset(kith_buf_grow(frame, LOG_FRAME_HEADER_BYTES), 0, LOG_FRAME_HEADER_BYTES);
}

void log_frame_add(kith_buf *frame, const kith_log_entry *entry) {
    kith_buf_u64(frame, entry->stream);
    kith_buf_u64(frame, entry->epoch);
    kith_buf_u64(frame, entry->sequence);
    kith_buf_u64(frame, entry->bytes);
    if (entry->bytes > 0) kith_buf_append(frame, entry->data, entry->bytes);
    kith_buf_align(frame, 8);
}

static void frame_header_encode(uint8_t *disk, uint64_t frame_bytes, uint64_t frame_number, uint64_t mask,
    uint32_t entry_count, uint32_t body_crc) {
    kith_store_u32(disk, LOG_FRAME_MAGIC);
    kith_store_u64(disk + 8, frame_bytes);
    kith_store_u64(disk + 16, frame_number);
    kith_store_u64(disk + 24, mask);
    kith_store_u32(disk + 32, entry_count);
    kith_store_u32(disk + 36, body_crc);
    kith_store_u32(disk + 4, kith_crc32c(0, disk + 8, LOG_FRAME_HEADER_BYTES - 8));
    mask_apply(disk, LOG_FRAME_HEADER_BYTES, LOG_MASK);
}

/* Bytes of the part of a sector that begins at `offset`, of `left` bytes. */
static uint64_t sector_part(uint64_t offset, uint64_t left) {
    uint64_t part = LOG_SECTOR_BYTES - offset % LOG_SECTOR_BYTES;
    return part < left ? part : left;
}

static bool enough_nonzero(const uint8_t *data, uint64_t bytes) {
    uint32_t count = 0;
    for (uint64_t i = 0; i < bytes && count < LOG_SECTOR_NONZERO_MIN; i++)
        count += data[i] != 0;
    return count == LOG_SECTOR_NONZERO_MIN;
}

/* Whether each sector's part has so many bytes that are not 0 that damage to one does not make it look lost. */
static bool sectors_are_sturdy(const uint8_t *disk, uint64_t bytes, uint64_t offset) {
    uint64_t part;
    for (uint64_t at = 0; at < bytes; at += part) {
        part = sector_part(offset + at, bytes - at);
        if (!enough_nonzero(disk + at, part)) return false;
    }
    return true;
}

_Static_assert(LOG_SECTOR_NONZERO_MIN < 8, "the smallest part of a sector, a word, has that many bytes");

void log_frame_finish(kith_buf *frame, const log_frame_place *place, uint32_t entry_count) {
    kith_assert(place->offset % 8 == 0);
    kith_assert(entry_count > 0);
    uint8_t *body = frame->data + LOG_FRAME_HEADER_BYTES;
    uint64_t body_bytes = frame->bytes - LOG_FRAME_HEADER_BYTES;
    uint32_t body_crc = kith_crc32c(0, body, body_bytes);
    /* A sector rules out fewer than 2^21 masks (those that differ from one of its words in at most 2 bytes) and
     * there are fewer than 2^22 sectors, so this ends; more than one turn needs a mask drawn very unluckily. */
    for (uint64_t mask = place->mask;; mask += LOG_MASK_STEP) {
        if (mask == LOG_MASK) continue;
        mask_apply(body, body_bytes, mask);
        frame_header_encode(frame->data, frame->bytes, place->number, mask, entry_count, body_crc);
        if (sectors_are_sturdy(frame->data, frame->bytes, place->offset)) return;
        mask_apply(body, body_bytes, mask);
    }
}

bool log_frame_header_decode(const uint8_t disk[LOG_FRAME_HEADER_BYTES], log_frame_header *header_out) {
    uint8_t plain[LOG_FRAME_HEADER_BYTES];
    memcpy(plain, disk, sizeof plain);
    mask_apply(plain, sizeof plain, LOG_MASK);
    if (kith_load_u32(plain) != LOG_FRAME_MAGIC) return false;
    if (kith_load_u32(plain + 4) != kith_crc32c(0, plain + 8, sizeof plain - 8)) return false;
    log_frame_header header = {.frame_bytes = kith_load_u64(plain + 8),
        .frame_number = kith_load_u64(plain + 16),
        .mask = kith_load_u64(plain + 24),
        .entry_count = kith_load_u32(plain + 32),
        .body_crc = kith_load_u32(plain + 36)};
    if (header.frame_bytes < LOG_FRAME_HEADER_BYTES + LOG_ENTRY_HEADER_BYTES || header.frame_bytes % 8 != 0) {
        return false;
    }
    *header_out = header;
    return true;
}

bool log_frame_body_unmask(const log_frame_header *header, uint8_t *body) {
    uint64_t body_bytes = header->frame_bytes - LOG_FRAME_HEADER_BYTES;
    mask_apply(body, body_bytes, header->mask);
    return kith_crc32c(0, body, body_bytes) == header->body_crc;
}

void log_frame_body_mask(const log_frame_header *header, uint8_t *body) {
    mask_apply(body, header->frame_bytes - LOG_FRAME_HEADER_BYTES, header->mask);
}

bool log_entry_decode(const uint8_t *body, uint64_t body_bytes, uint64_t *offset, kith_log_entry *entry_out) {
    uint64_t left = body_bytes - *offset;
    if (left < LOG_ENTRY_HEADER_BYTES) return false;
    const uint8_t *at = body + *offset;
    uint64_t data_bytes = kith_load_u64(at + 24);
    if (data_bytes > left - LOG_ENTRY_HEADER_BYTES) return false;
    uint64_t disk_bytes = log_entry_disk_bytes(data_bytes);
    if (disk_bytes > left) return false;
    *entry_out = (kith_log_entry){.stream = kith_load_u64(at),
        .epoch = kith_load_u64(at + 8),
        .sequence = kith_load_u64(at + 16),
        .data = at + LOG_ENTRY_HEADER_BYTES,
        .bytes = data_bytes};
    *offset += disk_bytes;
    return true;
}

static bool all_zero(const uint8_t *data, uint64_t bytes) {
    for (uint64_t i = 0; i < bytes; i++) {
        if (data[i] != 0) return false;
    }
    return true;
}

bool log_sector_lost(const uint8_t *disk, uint64_t bytes, uint64_t offset) {
    uint64_t part;
    for (uint64_t at = 0; at < bytes; at += part) {
        part = sector_part(offset + at, bytes - at);
        if (all_zero(disk + at, part)) return true;
    }
    return false;
}

void log_file_path(const char *dir, uint64_t number, char path_out[LOG_PATH_BYTES_MAX]) {
    int length =
        snprintf(path_out, LOG_PATH_BYTES_MAX, "%s/log-%020llu.kith", dir, (unsigned long long)number);
    kith_assert(length > 0 && length < (int)LOG_PATH_BYTES_MAX);
}
