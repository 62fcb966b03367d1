/* Opening a segment file: trailer, table, then every section, so that whoever holds a kith_segment_file may
 * believe its bytes (what they mean is checked by host/index). */
#include "host/store/segment_file_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/crc32c.h"

struct kith_segment_file {
    kith_env *env;
    char *path;
    const uint8_t *data;
    uint64_t bytes;
    uint32_t section_count;
    kith_segment_section sections[SEGMENT_SECTIONS_MAX];
};

static kith_status corrupt(
    const kith_segment_file *file, const char *part, uint64_t offset, const char *what, kith_err *err) {
    return kith_err_set(
        err, KITH_CORRUPT, "%s: %s at offset %llu: %s", file->path, part, (unsigned long long)offset, what);
}

static kith_status header_check(const kith_segment_file *file, kith_err *err) {
    const uint8_t *header = file->data;
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

static kith_status trailer_check(
    const kith_segment_file *file, uint64_t *table_offset_out, uint32_t *count_out, kith_err *err) {
    uint64_t at = file->bytes - SEGMENT_TRAILER_BYTES;
    const uint8_t *trailer = file->data + at;
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
    if (kith_load_u32(trailer + 12) != kith_crc32c(0, file->data + table_offset, at - table_offset)) {
        return corrupt(file, "section table", table_offset, "the checksum does not match", err);
    }
    *table_offset_out = table_offset;
    *count_out = count;
    return KITH_OK;
}

/* Checks that [from, to) is padding: zeros, less than the alignment. */
static kith_status padding_check(const kith_segment_file *file, uint64_t from, uint64_t to, kith_err *err) {
    if (to < from || to - from >= SEGMENT_ALIGNMENT || to % SEGMENT_ALIGNMENT != 0) {
        return corrupt(file, "section table", from, "a section is not where the one before it ends", err);
    }
    for (uint64_t at = from; at < to; at++) {
        if (file->data[at] != 0) return corrupt(file, "padding", at, "not zero", err);
    }
    return KITH_OK;
}

/* Reads entry `index` of the table and checks its section, which begins where the one before it ended
 * (`*end`). */
static kith_status section_check(
    kith_segment_file *file, uint64_t table_offset, uint32_t index, uint64_t *end, kith_err *err) {
    const uint8_t *entry = file->data + table_offset + (uint64_t)index * SEGMENT_ENTRY_BYTES;
    kith_segment_section section = {.kind = kith_load_u32(entry),
        .field = kith_load_u32(entry + 4),
        .offset = kith_load_u64(entry + 8),
        .bytes = kith_load_u64(entry + 16)};
    const char *name = kith_segment_section_name(section.kind);
    if (section.offset > table_offset || section.bytes > table_offset - section.offset) {
        return corrupt(file, name, section.offset, "it does not fit into the file", err);
    }
    kith_status status = padding_check(file, *end, section.offset, err);
    if (status != KITH_OK) return status;
    section.data = file->data + section.offset;
    if (kith_load_u32(entry + 24) != kith_crc32c(0, section.data, section.bytes)) {
        return corrupt(file, name, section.offset, "the checksum does not match", err);
    }
    file->sections[file->section_count++] = section;
    *end = section.offset + section.bytes;
    return KITH_OK;
}

static kith_status all_check(kith_segment_file *file, kith_err *err) {
    kith_status status = header_check(file, err);
    if (status != KITH_OK) return status;
    uint64_t table_offset = 0;
    uint32_t count = 0;
    status = trailer_check(file, &table_offset, &count, err);
    if (status != KITH_OK) return status;
    uint64_t end = SEGMENT_HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        status = section_check(file, table_offset, i, &end, err);
        if (status != KITH_OK) return status;
    }
    return padding_check(file, end, table_offset, err);
}

static kith_status file_map(kith_segment_file *file, kith_err *err) {
    kith_file *handle;
    kith_status status = kith_file_open(file->env, file->path, KITH_FILE_READ, &handle, err);
    if (status != KITH_OK) return status;
    status = kith_file_bytes(handle, &file->bytes, err);
    if (status == KITH_OK && file->bytes < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES) {
        status = corrupt(file, "trailer", file->bytes, "the file is too short to be a segment", err);
    }
    const void *data = NULL;
    if (status == KITH_OK) status = kith_file_map(handle, file->bytes, &data, err);
    if (status == KITH_OK) file->data = data;
    kith_file_close(handle);
    return status;
}

kith_status kith_segment_file_open(
    kith_env *env, const char *path, kith_segment_file **file_out, kith_err *err) {
    kith_segment_file *file = kith_alloc_zero(sizeof *file);
    file->env = env;
    file->path = kith_strdup(path);
    kith_status status = file_map(file, err);
    if (status == KITH_OK) status = all_check(file, err);
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
