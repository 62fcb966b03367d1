#include "host/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Longest first part of `text` of at most KITH_ERR_BYTES_MAX - 1 bytes that does not end inside a character.
 */
static size_t whole_bytes(const char *text, size_t bytes) {
    if (bytes < KITH_ERR_BYTES_MAX) return bytes;
    size_t end = KITH_ERR_BYTES_MAX - 1;
    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static void store(kith_err *err, kith_status status, const char *text) {
    size_t bytes = whole_bytes(text, strlen(text));
    memcpy(err->text, text, bytes);
    err->text[bytes] = 0;
    err->status = status;
}

/* Formats before it stores, because an argument may be the old text. One byte more than fits, so that `store`
 * sees where the character at the limit begins. */
#define FORMAT_BYTES (KITH_ERR_BYTES_MAX + 1)

kith_status kith_err_set(kith_err *err, kith_status status, const char *format, ...) {
    if (!err) return status;
    char text[FORMAT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    store(err, status, text);
    return status;
}

kith_status kith_err_wrap(kith_err *err, kith_status status, const char *format, ...) {
    if (!err) return status;
    char prefix[FORMAT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    char text[2 * FORMAT_BYTES];
    snprintf(text, sizeof text, "%s: %s", prefix, err->text);
    store(err, status, text);
    return status;
}

static kith_status status_of_errno(int error_number) {
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return KITH_NO_SPACE;
    case ENOENT:
        return KITH_NOT_FOUND;
    case ENOMEM:
        return KITH_NO_MEMORY;
    case EEXIST:
        return KITH_EXISTS;
    default:
        return KITH_IO;
    }
}

kith_status kith_err_set_errno(kith_err *err, int error_number, const char *format, ...) {
    kith_status status = status_of_errno(error_number);
    if (!err) return status;
    char what[FORMAT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    char reason[128];
    char text[FORMAT_BYTES + sizeof reason + 2];
    snprintf(text, sizeof text, "%s: %s", what, strerror_r(error_number, reason, sizeof reason));
    store(err, status, text);
    return status;
}
