/* Growable byte buffer.
 *
 * Threads: one at a time. Ownership: init/fini in place; kith_buf_take hands the bytes over (free with
 * kith_free). */
#ifndef KITH_BASE_BUF_H
#define KITH_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "host/base/status.h"

typedef struct kith_buf {
    uint8_t *data;
    size_t bytes;
    size_t capacity_bytes;
} kith_buf;

void kith_buf_init(kith_buf *buf);
void kith_buf_fini(kith_buf *buf);
void kith_buf_clear(kith_buf *buf);
/* Room for `bytes` more; returns where they go. kith_buf_grow also counts them as written. */
uint8_t *kith_buf_reserve(kith_buf *buf, size_t bytes);
uint8_t *kith_buf_grow(kith_buf *buf, size_t bytes);
void kith_buf_append(kith_buf *buf, const void *data, size_t bytes);
void kith_buf_append_text(kith_buf *buf, const char *text);
void kith_buf_append_format(kith_buf *buf, const char *format, ...) KITH_PRINTF(2, 3);
void kith_buf_u8(kith_buf *buf, uint8_t value);
void kith_buf_u16(kith_buf *buf, uint16_t value); /* little-endian, as all below */
void kith_buf_u32(kith_buf *buf, uint32_t value);
void kith_buf_u64(kith_buf *buf, uint64_t value);
void kith_buf_f64(kith_buf *buf, double value);
/* Zero bytes until `bytes` is a multiple of `alignment` (a power of two). */
void kith_buf_align(kith_buf *buf, size_t alignment);
uint8_t *kith_buf_take(kith_buf *buf, size_t *bytes_out);

#endif
