#include "host/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/bytes.h"

/* Most messages between nodes fit; with 64 one in ten instructions of a simulated cluster was growing them. */
#define BUF_BYTES_MIN 256u

void kith_buf_init(kith_buf *buf) {
    *buf = (kith_buf){0};
}

void kith_buf_fini(kith_buf *buf) {
    kith_free(buf->data);
    kith_buf_init(buf);
}

void kith_buf_clear(kith_buf *buf) {
    buf->bytes = 0;
}

static void enlarge(kith_buf *buf, size_t bytes) {
    size_t capacity = buf->capacity_bytes ? 2 * buf->capacity_bytes : BUF_BYTES_MIN;
    if (capacity < buf->bytes + bytes) capacity = buf->bytes + bytes;
    buf->data = kith_realloc(buf->data, capacity);
    buf->capacity_bytes = capacity;
}

uint8_t *kith_buf_reserve(kith_buf *buf, size_t bytes) {
    kith_assert(bytes <= SIZE_MAX / 4);
    /* Also when nothing is asked for: the answer is never NULL, so it may be passed to memcpy. */
    if (!buf->data || buf->capacity_bytes - buf->bytes < bytes) enlarge(buf, bytes);
    return buf->data + buf->bytes;
}

uint8_t *kith_buf_grow(kith_buf *buf, size_t bytes) {
    uint8_t *at = kith_buf_reserve(buf, bytes);
    buf->bytes += bytes;
    return at;
}

void kith_buf_append(kith_buf *buf, const void *data, size_t bytes) {
    if (bytes) memcpy(kith_buf_grow(buf, bytes), data, bytes);
}

void kith_buf_append_text(kith_buf *buf, const char *text) {
    kith_buf_append(buf, text, strlen(text));
}

void kith_buf_append_format(kith_buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    size_t room = buf->capacity_bytes - buf->bytes;
    int length = vsnprintf(room ? (char *)buf->data + buf->bytes : NULL, room, format, args);
    va_end(args);
    kith_assert(length >= 0);
    if ((size_t)length >= room) {
        char *at = (char *)kith_buf_reserve(buf, (size_t)length + 1);
        vsnprintf(at, (size_t)length + 1, format, again);
    }
    va_end(again);
    buf->bytes += (size_t)length;
}

void kith_buf_u8(kith_buf *buf, uint8_t value) {
    *kith_buf_grow(buf, 1) = value;
}

void kith_buf_u16(kith_buf *buf, uint16_t value) {
    kith_store_u16(kith_buf_grow(buf, 2), value);
}

void kith_buf_u32(kith_buf *buf, uint32_t value) {
    kith_store_u32(kith_buf_grow(buf, 4), value);
}

void kith_buf_u64(kith_buf *buf, uint64_t value) {
    kith_store_u64(kith_buf_grow(buf, 8), value);
}

void kith_buf_f64(kith_buf *buf, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    kith_buf_u64(buf, bits);
}

void kith_buf_align(kith_buf *buf, size_t alignment) {
    size_t padding = (alignment - (buf->bytes & (alignment - 1))) & (alignment - 1);
    if (padding) memset(kith_buf_grow(buf, padding), 0, padding);
}

uint8_t *kith_buf_take(kith_buf *buf, size_t *bytes_out) {
    uint8_t *data = kith_buf_reserve(buf, 0) - buf->bytes;
    *bytes_out = buf->bytes;
    kith_buf_init(buf);
    return data;
}
