/* Opening a segment file: trailer, table, then every section, so that whoever holds a kith_segment_file may
 * believe its bytes (what they mean is checked by host/index). */
#include "host/store/segment_file_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"

#define READ_BUFFER_BYTES (256u << 10) /* a guess: stays in L2 between the read and its checksum */

struct kith_segment_file {
    kith_env *env;
    char *path;
    const uint8_t *data;
    uint64_t bytes;
    uint32_t section_count;
    kith_segment_section sections[SEGMENT_SECTIONS_MAX];
};

/* Checks read the file, not the map: what a disk cannot give is an error there, and here the end of the process. */
typedef struct opening {
    kith_segment_file *file;
    kith_file *handle;
    uint64_t table_offset;
    uint32_t section_count;
    uint8_t table[SEGMENT_SECTIONS_MAX * SEGMENT_ENTRY_BYTES];
    uint8_t buffer[READ_BUFFER_BYTES];
} opening;

static kith_status corrupt(
    const kith_segment_file *file, const char *part, uint64_t offset, const char *what, kith_err *err) {
    return kith_err_set(
        err, KITH_CORRUPT, "%s: %s at offset %llu: %s", file->path, part, (unsigned long long)offset, what);
}

/* Bytes that the disk has lost are as lost as wrong ones. */
static kith_status part_read(
    const opening *at, const char *part, uint64_t offset, uint8_t *data_out, size_t bytes, kith_err *err) {
    size_t got;
    kith_err cause;
    kith_status status = kith_file_read_at(at->handle, offset, data_out, bytes, &got, &cause);
    if (status == KITH_IO) return corrupt(at->file, part, offset, cause.text, err);
    if (status != KITH_OK) return kith_err_set(err, status, "%s", cause.text);
    return got == bytes ? KITH_OK : corrupt(at->file, part, offset, "the file became shorter", err);
}

static kith_status header_check(const opening *at, kith_err *err) {
    const kith_segment_file *file = at->file;
    uint8_t header[SEGMENT_HEADER_BYTES];
    kith_status status = part_read(at, "header", 0, header, sizeof header, err);
    if (status != KITH_OK) return status;
    if (memcmp(header, segment_file_magic, sizeof segment_file_magic) != 0) {
        return corrupt(file, "header", 0, "the magic of a segment file is not there", err);
    }
    if (kith_load_u32(header + SEGMENT_HEADER_BYTES - 4) !=
        kith_crc32c(0, header, SEGMENT_HEADER_BYTES - 4)) {
        return corrupt(file, "header", 0, "the checksum does not match", err);
    }
    if (kith_load_u32(header + 8) != KITH_SEGMENT_FILE_VERSION) {
        return corrupt(file, "header", 8, "the version is not 1, the only one this program knows", err);
    }
    return KITH_OK;
}

/* And the table. */
static kith_status trailer_check(opening *opened, kith_err *err) {
    const kith_segment_file *file = opened->file;
    uint64_t at = file->bytes - SEGMENT_TRAILER_BYTES;
    uint8_t trailer[SEGMENT_TRAILER_BYTES];
    kith_status status = part_read(opened, "trailer", at, trailer, sizeof trailer, err);
    if (status != KITH_OK) return status;
    if (kith_load_u32(trailer + SEGMENT_TRAILER_BYTES - 4) !=
        kith_crc32c(0, trailer, SEGMENT_TRAILER_BYTES - 4)) {
        return corrupt(file, "trailer", at, "the checksum does not match", err);
    }
    uint64_t table_offset = kith_load_u64(trailer);
    uint32_t count = kith_load_u32(trailer + 8);
    bool fits = kith_load_u64(trailer + 16) == file->bytes && count <= SEGMENT_SECTIONS_MAX &&
                table_offset >= SEGMENT_HEADER_BYTES && table_offset <= at &&
                at - table_offset == (uint64_t)count * SEGMENT_ENTRY_BYTES;
    if (!fits) return corrupt(file, "trailer", at, "its lengths do not fit the file", err);
    status =
        part_read(opened, "section table", table_offset, opened->table, (size_t)(at - table_offset), err);
    if (status != KITH_OK) return status;
    if (kith_load_u32(trailer + 12) != kith_crc32c(0, opened->table, (size_t)(at - table_offset))) {
        return corrupt(file, "section table", table_offset, "the checksum does not match", err);
    }
    opened->table_offset = table_offset;
    opened->section_count = count;
    return KITH_OK;
}

/* Checks that [from, to) is padding: zeros, less than the alignment. */
static kith_status padding_check(const opening *opened, uint64_t from, uint64_t to, kith_err *err) {
    uint8_t padding[SEGMENT_ALIGNMENT];
    if (to < from || to - from >= SEGMENT_ALIGNMENT || to % SEGMENT_ALIGNMENT != 0) {
        return corrupt(
            opened->file, "section table", from, "a section is not where the one before it ends", err);
    }
    kith_status status = part_read(opened, "padding", from, padding, (size_t)(to - from), err);
    if (status != KITH_OK) return status;
    for (uint64_t at = from; at < to; at++) {
        if (padding[at - from] != 0) return corrupt(opened->file, "padding", at, "not zero", err);
    }
    return KITH_OK;
}

static kith_status crc_read(
    opening *opened, const kith_segment_section *section, uint32_t *crc_out, kith_err *err) {
    const char *name = kith_segment_section_name(section->kind);
    *crc_out = 0;
    for (uint64_t at = 0; at < section->bytes; at += READ_BUFFER_BYTES) {
        uint64_t left = section->bytes - at;
        size_t bytes = left < READ_BUFFER_BYTES ? (size_t)left : READ_BUFFER_BYTES;
        kith_status status = part_read(opened, name, section->offset + at, opened->buffer, bytes, err);
        if (status != KITH_OK) return status;
        *crc_out = kith_crc32c(*crc_out, opened->buffer, bytes);
    }
    return KITH_OK;
}

/* Reads entry `index` of the table and checks its section, which begins where the one before it ended
 * (`*end`). */
static kith_status section_check(opening *opened, uint32_t index, uint64_t *end, kith_err *err) {
    kith_segment_file *file = opened->file;
    const uint8_t *entry = opened->table + (size_t)index * SEGMENT_ENTRY_BYTES;
    kith_segment_section section = {.kind = kith_load_u32(entry),
        .field = kith_load_u32(entry + 4),
        .offset = kith_load_u64(entry + 8),
        .bytes = kith_load_u64(entry + 16)};
    const char *name = kith_segment_section_name(section.kind);
    if (section.offset > opened->table_offset || section.bytes > opened->table_offset - section.offset) {
        return corrupt(file, name, section.offset, "it does not fit into the file", err);
    }
    kith_status status = padding_check(opened, *end, section.offset, err);
    uint32_t crc = 0;
    if (status == KITH_OK) status = crc_read(opened, &section, &crc, err);
    if (status != KITH_OK) return status;
    if (kith_load_u32(entry + 24) != crc) {
        return corrupt(file, name, section.offset, "the checksum does not match", err);
    }
    file->sections[file->section_count++] = section;
    *end = section.offset + section.bytes;
    return KITH_OK;
}

static kith_status all_check(opening *opened, kith_err *err) {
    kith_status status = header_check(opened, err);
    if (status == KITH_OK) status = trailer_check(opened, err);
    if (status != KITH_OK) return status;
    uint64_t end = SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < opened->section_count; i++) {
        status = section_check(opened, i, &end, err);
        if (status != KITH_OK) return status;
    }
    return padding_check(opened, end, opened->table_offset, err);
}

static kith_status handle_check(kith_segment_file *file, kith_file *handle, kith_err *err) {
    kith_status status = kith_file_bytes(handle, &file->bytes, err);
    if (status != KITH_OK) return status;
    if (file->bytes < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES)
        return corrupt(file, "trailer", file->bytes, "the file is too short to be a segment", err);
    opening *opened = kith_alloc(sizeof *opened);
    opened->file = file;
    opened->handle = handle;
    status = all_check(opened, err);
    kith_free(opened);
    return status;
}

static kith_status handle_map(kith_segment_file *file, kith_file *handle, kith_err *err) {
    const void *data;
    kith_status status = kith_file_map(handle, file->bytes, &data, err);
    if (status != KITH_OK) return status;
    file->data = data;
    for (uint32_t i = 0; i < file->section_count; i++)
        file->sections[i].data = file->data + file->sections[i].offset;
    return KITH_OK;
}

kith_status kith_segment_file_open(
    kith_env *env, const char *path, kith_segment_file **file_out, kith_err *err) {
    kith_file *handle;
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &handle, err);
    if (status != KITH_OK) return status;
    kith_segment_file *file = kith_alloc_zero(sizeof *file);
    file->env = env;
    file->path = kith_strdup(path);
    status = handle_check(file, handle, err);
    if (status == KITH_OK) status = handle_map(file, handle, err);
    kith_file_close(handle);
    if (status != KITH_OK) {
        kith_segment_file_close(file);
        return status;
    }
    *file_out = file;
    return KITH_OK;
}

void kith_segment_file_close(kith_segment_file *file) {
    if (!file) return;
    if (file->data) kith_file_unmap(file->env, file->data, file->bytes);
    kith_free(file->path);
    kith_free(file);
}

const kith_segment_section *kith_segment_file_find(
    const kith_segment_file *file, kith_segment_section_kind kind, uint32_t field) {
    for (uint32_t i = 0; i < file->section_count; i++) {
        const kith_segment_section *section = &file->sections[i];
        if (section->kind == (uint32_t)kind && section->field == field) return section;
    }
    return NULL;
}

uint64_t kith_segment_file_bytes(const kith_segment_file *file) {
    return file->bytes;
}

const char *kith_segment_file_path(const kith_segment_file *file) {
    return file->path;
}
