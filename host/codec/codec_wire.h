/* Private to host/codec: protobuf's wire format. Messages are read with protobuf-c and written by the
 * functions here.
 *
 * Why not protobuf_c_message_pack: it wants every message as a tree of structs and pointer arrays, and walks
 * it twice. Written directly, an answer of a million hits is three copies. Fields with a default value are
 * left out, as proto3 does, except by the functions named _always (members of a oneof, elements of a repeated
 * field).
 *
 * Threads: one at a time per buffer or arena. */
#ifndef KITH_CODEC_CODEC_WIRE_H
#define KITH_CODEC_CODEC_WIRE_H

#include <string.h>

#include <protobuf-c/protobuf-c.h>

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/bytes.h"
#include "host/model/id.h"

/* --- reading --- */

/* What unpacking a message may take: its own bytes twice, and this much for the structs around them. 65536
 * points in rows take about 30 MiB; without a bound, 64 MiB of empty points would take 5 GiB. */
#define KITH_CODEC_UNPACK_BYTES_EXTRA (64u << 20)

/* Unpacks into `arena` (never freed one by one); NULL with a message of `status` when the bytes are no such
 * message or would take too much memory. */
void *kith_codec_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_status status, kith_err *err);

/* Text of a field: UTF-8 without zero bytes, since it goes on as a C string. `*text_out` is in the arena and
 * NUL-terminated. `what` is the field's path. */
KITH_CHECK kith_status kith_codec_text(
    ProtobufCBinaryData text, const char *what, kith_arena *arena, const char **text_out, kith_err *err);

/* --- writing --- */

typedef enum kith_wire_type {
    KITH_WIRE_VARINT = 0,
    KITH_WIRE_FIXED64 = 1,
    KITH_WIRE_BYTES = 2,
    KITH_WIRE_FIXED32 = 5
} kith_wire_type;

#define KITH_WIRE_VARINT_BYTES_MAX 10

static inline size_t kith_wire_varint_bytes(uint64_t value) {
    return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
}
static inline uint8_t *kith_wire_varint_put(uint8_t *at, uint64_t value) {
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}
static inline uint32_t kith_wire_tag(uint32_t field, kith_wire_type type) {
    return field << 3 | (uint32_t)type;
}
static inline void kith_wire_u64_always(kith_buf *buf, uint32_t field, uint64_t value) {
    uint8_t *begin = kith_buf_reserve(buf, 2 * KITH_WIRE_VARINT_BYTES_MAX);
    uint8_t *end = kith_wire_varint_put(begin, kith_wire_tag(field, KITH_WIRE_VARINT));
    end = kith_wire_varint_put(end, value);
    buf->bytes += (size_t)(end - begin);
}
static inline void kith_wire_u64(kith_buf *buf, uint32_t field, uint64_t value) {
    if (value != 0) kith_wire_u64_always(buf, field, value);
}
/* Tag and length of a field whose `bytes` bytes the caller writes next. */
static inline void kith_wire_head(kith_buf *buf, uint32_t field, size_t bytes) {
    uint8_t *begin = kith_buf_reserve(buf, 2 * KITH_WIRE_VARINT_BYTES_MAX);
    uint8_t *end = kith_wire_varint_put(begin, kith_wire_tag(field, KITH_WIRE_BYTES));
    end = kith_wire_varint_put(end, bytes);
    buf->bytes += (size_t)(end - begin);
}
static inline void kith_wire_bytes_always(kith_buf *buf, uint32_t field, const void *data, size_t bytes) {
    kith_wire_head(buf, field, bytes);
    if (bytes > 0) memcpy(kith_buf_grow(buf, bytes), data, bytes);
}
static inline void kith_wire_bytes(kith_buf *buf, uint32_t field, const void *data, size_t bytes) {
    if (bytes > 0) kith_wire_bytes_always(buf, field, data, bytes);
}
static inline void kith_wire_text(kith_buf *buf, uint32_t field, const char *text) {
    kith_wire_bytes(buf, field, text, strlen(text));
}
/* Packed numbers are little-endian and are copied, or read in place, as they are: kith is built for
 * little-endian machines only. Bytes fields are 16-byte aligned in the arena, so arrays of numbers may be
 * read where they were unpacked. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed numbers are used in the machine's order");

/* `count` numbers of 4 (u32, f32) or 8 bytes (u64, f64) in one bytes field. */
static inline void kith_wire_u32_array(kith_buf *buf, uint32_t field, const void *values, size_t count) {
    kith_wire_bytes(buf, field, values, count * 4);
}
static inline void kith_wire_u64_array(kith_buf *buf, uint32_t field, const void *values, size_t count) {
    kith_wire_bytes(buf, field, values, count * 8);
}

/* A message inside a message: open, write its fields, close with what open returned. Always written, also
 * when empty. */
static inline size_t kith_wire_open(kith_buf *buf, uint32_t field) {
    kith_wire_head(buf, field, 0);
    return buf->bytes;
}
/* Open leaves one byte for the length; a longer message moves up to make room, each byte at most once a
 * level. */
static inline void kith_wire_close(kith_buf *buf, size_t mark) {
    size_t bytes = buf->bytes - mark;
    size_t more = kith_wire_varint_bytes(bytes) - 1;
    if (more > 0) {
        kith_buf_grow(buf, more);
        memmove(buf->data + mark + more, buf->data + mark, bytes);
    }
    kith_wire_varint_put(buf->data + mark - 1, bytes);
}

#endif
