/* Little-endian loads and stores, and a reader that trusts no length: it stops at the first read past the
 * end, returns zeros from then on, and `failed` says so once at the end.
 *
 * Threads: a reader belongs to one thread. */
#ifndef KITH_BASE_BYTES_H
#define KITH_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t kith_load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t kith_load_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static inline uint64_t kith_load_u64(const uint8_t *p) {
    return (uint64_t)kith_load_u32(p) | (uint64_t)kith_load_u32(p + 4) << 32;
}
static inline uint64_t kith_load_u64_be(const uint8_t *p) {
    return __builtin_bswap64(kith_load_u64(p));
}
static inline void kith_store_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void kith_store_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}
static inline void kith_store_u64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}
static inline void kith_store_u64_be(uint8_t *p, uint64_t v) {
    kith_store_u64(p, __builtin_bswap64(v));
}

typedef struct kith_reader {
    const uint8_t *data;
    size_t bytes;
    size_t offset;
    bool failed;
} kith_reader;

static inline kith_reader kith_reader_of(const void *data, size_t bytes) {
    return (kith_reader){.data = (const uint8_t *)data, .bytes = bytes};
}
static inline size_t kith_reader_left(const kith_reader *reader) {
    return reader->failed ? 0 : reader->bytes - reader->offset;
}
/* `bytes` bytes in place, or NULL (and failed) if there are fewer. */
static inline const uint8_t *kith_reader_bytes(kith_reader *reader, size_t bytes) {
    if (reader->failed || reader->bytes - reader->offset < bytes) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *at = reader->data + reader->offset;
    reader->offset += bytes;
    return at;
}
static inline uint8_t kith_reader_u8(kith_reader *reader) {
    const uint8_t *p = kith_reader_bytes(reader, 1);
    return p ? *p : 0;
}
static inline uint16_t kith_reader_u16(kith_reader *reader) {
    const uint8_t *p = kith_reader_bytes(reader, 2);
    return p ? kith_load_u16(p) : 0;
}
static inline uint32_t kith_reader_u32(kith_reader *reader) {
    const uint8_t *p = kith_reader_bytes(reader, 4);
    return p ? kith_load_u32(p) : 0;
}
static inline uint64_t kith_reader_u64(kith_reader *reader) {
    const uint8_t *p = kith_reader_bytes(reader, 8);
    return p ? kith_load_u64(p) : 0;
}
static inline double kith_reader_f64(kith_reader *reader) {
    uint64_t bits = kith_reader_u64(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Skips padding to the next multiple of `alignment` (a power of two). */
static inline void kith_reader_align(kith_reader *reader, size_t alignment) {
    (void)kith_reader_bytes(reader, (alignment - (reader->offset & (alignment - 1))) & (alignment - 1));
}

#endif
