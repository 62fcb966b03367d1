/* Unpacking with protobuf-c into an arena. */
#include "host/codec/codec_wire.h"

#include "host/base/text.h"

typedef struct unpack_budget {
    kith_arena *arena;
    size_t left_bytes;
    bool exceeded;
} unpack_budget;

static void *unpack_alloc(void *ctx, size_t bytes) {
    unpack_budget *budget = ctx;
    if (bytes > budget->left_bytes) {
        budget->exceeded = true;
        return NULL;
    }
    budget->left_bytes -= bytes;
    return kith_arena_alloc(budget->arena, bytes);
}

static void unpack_free(void *ctx, void *pointer) {
    (void)ctx;
    (void)pointer;
}

void *kith_codec_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t bytes,
    kith_arena *arena, kith_status status, kith_err *err) {
    unpack_budget budget = {.arena = arena, .left_bytes = 2 * bytes + KITH_CODEC_UNPACK_BYTES_EXTRA};
    ProtobufCAllocator allocator = {.alloc = unpack_alloc, .free = unpack_free, .allocator_data = &budget};
    void *message = protobuf_c_message_unpack(descriptor, &allocator, bytes, data);
    if (message) return message;
    if (budget.exceeded) {
        (void)kith_err_set(err, status,
            "%s: unpacking its %zu bytes takes more than %zu; send fewer points at once",
            descriptor->short_name, bytes, 2 * bytes + KITH_CODEC_UNPACK_BYTES_EXTRA);
    } else {
        (void)kith_err_set(
            err, status, "%s: its %zu bytes are not a valid message", descriptor->short_name, bytes);
    }
    return NULL;
}

kith_status kith_codec_text(
    ProtobufCBinaryData text, const char *what, kith_arena *arena, const char **text_out, kith_err *err) {
    size_t bad_offset = 0;
    if (text.len > 0 && !kith_text_utf8_check((const char *)text.data, text.len, &bad_offset)) {
        return kith_err_set(err, KITH_INVALID, "%s: not UTF-8 at byte %zu", what, bad_offset);
    }
    const void *zero = text.len > 0 ? memchr(text.data, 0, text.len) : NULL;
    if (zero) {
        return kith_err_set(err, KITH_INVALID, "%s: a zero byte at byte %zu; text without one is allowed",
            what, (size_t)((const uint8_t *)zero - text.data));
    }
    *text_out = kith_arena_text(arena, (const char *)text.data, text.len);
    return KITH_OK;
}
