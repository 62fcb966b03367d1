#include <string.h>

#include "host/base/alloc.h"
#include "host/cli/format_internal.h"

#define WINDOW_READ_BYTES (1u << 20)

/* A pipe says that it has no bytes: it must not pass for an empty file. */
static kith_status check_regular(kith_file *file, const char *path, uint64_t bytes, kith_err *err) {
    uint8_t byte;
    size_t got = 0;
    if (bytes > 0 || (kith_file_read_at(file, 0, &byte, 1, &got, err) == KITH_OK && got == 0)) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "%s is not a regular file; save what comes out of it to one first", path);
}

kith_status kith_format_source_open(
    kith_env *env, const char *path, kith_format_source *source_out, kith_err *err) {
    kith_file *file;
    uint64_t bytes;
    kith_status status = kith_file_open(env, path, KITH_FILE_READ, &file, err);
    if (status != KITH_OK) return status;
    status = kith_file_bytes(file, &bytes, err);
    if (status == KITH_OK) status = check_regular(file, path, bytes, err);
    if (status != KITH_OK) {
        kith_file_close(file);
        return status;
    }
    *source_out = (kith_format_source){.name = kith_strdup(path), .file = file, .bytes = bytes};
    return KITH_OK;
}

kith_format_source kith_format_source_memory(const char *name, const void *data, size_t bytes) {
    return (kith_format_source){.name = kith_strdup(name), .memory = data, .bytes = bytes};
}

void kith_format_source_close(kith_format_source *source) {
    kith_file_close(source->file);
    kith_free(source->name);
    *source = (kith_format_source){.name = NULL};
}

kith_status kith_format_source_read(
    kith_format_source *source, uint64_t offset, void *data, size_t bytes, kith_err *err) {
    size_t got = 0;
    if (source->file) {
        kith_status status = kith_file_read_at(source->file, offset, data, bytes, &got, err);
        if (status != KITH_OK) return status;
    } else if (offset <= source->bytes && bytes <= source->bytes - offset) {
        if (bytes > 0) memcpy(data, source->memory + offset, bytes);
        got = bytes;
    }
    if (got == bytes) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "%s: the file ends at byte %llu, before byte %llu", source->name,
        (unsigned long long)(source->file ? offset + got : source->bytes),
        (unsigned long long)(offset + bytes));
}

void kith_format_lines_init(kith_format_lines *lines, kith_format_source *source) {
    *lines = (kith_format_lines){.source = source};
    kith_buf_init(&lines->window);
    kith_buf_reserve(&lines->window, 1); /* so that the window is never NULL */
}

void kith_format_lines_fini(kith_format_lines *lines) {
    kith_buf_fini(&lines->window);
}

uint64_t kith_format_lines_offset(const kith_format_lines *lines) {
    return lines->window_offset + lines->at;
}

/* Drops what has been given and reads more behind the rest. */
static kith_status refill(kith_format_lines *lines, kith_err *err) {
    size_t rest = lines->window.bytes - lines->at;
    if (rest > 0 && lines->at > 0) memmove(lines->window.data, lines->window.data + lines->at, rest);
    lines->window_offset += lines->at;
    lines->window.bytes = rest;
    lines->at = 0;
    uint64_t end = lines->window_offset + rest;
    uint64_t left = end < lines->source->bytes ? lines->source->bytes - end : 0;
    size_t bytes = left < WINDOW_READ_BYTES ? (size_t)left : WINDOW_READ_BYTES;
    uint8_t *into = kith_buf_reserve(&lines->window, bytes);
    kith_status status = kith_format_source_read(lines->source, end, into, bytes, err);
    if (status == KITH_OK) lines->window.bytes += bytes;
    return status;
}

/* The end of the line at `at`: its '\n', or the end of the source. Reads as far as it needs. */
static kith_status find_line(
    kith_format_lines *lines, size_t *line_bytes_out, bool *newline_out, kith_err *err) {
    size_t searched = 0;
    for (;;) {
        const uint8_t *start = lines->window.data + lines->at;
        size_t have = lines->window.bytes - lines->at;
        const uint8_t *newline = have > searched ? memchr(start + searched, '\n', have - searched) : NULL;
        bool at_end = lines->window_offset + lines->window.bytes >= lines->source->bytes;
        if (newline || at_end) {
            *line_bytes_out = newline ? (size_t)(newline - start) : have;
            *newline_out = newline != NULL;
            return KITH_OK;
        }
        if (have > KITH_FORMAT_LINE_BYTES_MAX) {
            return kith_err_set(err, KITH_INVALID, "%s:%llu: the line is longer than %u bytes",
                lines->source->name, (unsigned long long)lines->number + 1, KITH_FORMAT_LINE_BYTES_MAX);
        }
        searched = have;
        kith_status status = refill(lines, err);
        if (status != KITH_OK) return status;
    }
}

static bool is_blank(const char *line, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != ' ' && line[i] != '\t') return false;
    return true;
}

kith_status kith_format_lines_next(
    kith_format_lines *lines, const char **line_out, size_t *bytes_out, kith_err *err) {
    for (;;) {
        size_t bytes = 0;
        bool newline = false;
        kith_status status = find_line(lines, &bytes, &newline, err);
        if (status != KITH_OK) return status;
        if (bytes == 0 && !newline) {
            *line_out = NULL;
            *bytes_out = 0;
            return KITH_OK;
        }
        const char *line = (const char *)lines->window.data + lines->at;
        lines->at += bytes + newline;
        lines->number++;
        if (bytes > 0 && line[bytes - 1] == '\r') bytes--;
        if (is_blank(line, bytes)) continue;
        *line_out = line;
        *bytes_out = bytes;
        return KITH_OK;
    }
}
