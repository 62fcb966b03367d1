#include "transport/am_frame.h"

#include "host/base/bytes.h"
#include "transport/am_kinds.h"

#define MAGIC 0x666bu /* "kf" */

static const char hello_magic[8] = {'k', 'i', 't', 'h', 'n', 'o', 'd', 'e'};

enum { HELLO_TLS = 1, HELLO_MAC = 2, HELLO_FLAGS_KNOWN = HELLO_TLS | HELLO_MAC };

/* Which fields a type uses; one that it does not use is zero. */
typedef struct type_rule {
    bool kind, status, call, body;
} type_rule;

static const type_rule rules[] = {
    [KITH_AM_TYPE_HELLO] = {.body = true},
    [KITH_AM_TYPE_HELLO_REPLY] = {.status = true, .body = true},
    [KITH_AM_TYPE_TLS] = {.body = true},
    [KITH_AM_TYPE_REQUEST] = {.kind = true, .call = true, .body = true},
    [KITH_AM_TYPE_REPLY] = {.status = true, .call = true, .body = true},
    [KITH_AM_TYPE_CANCEL] = {.call = true},
    [KITH_AM_TYPE_PING] = {0},
    [KITH_AM_TYPE_PONG] = {0},
    [KITH_AM_TYPE_GOODBYE] = {0},
};
#define TYPE_COUNT (sizeof rules / sizeof *rules)

size_t kith_am_frame_encode(const kith_am_frame *frame, uint8_t *head_out) {
    size_t text_bytes =
        frame->text_bytes < KITH_AM_FRAME_TEXT_MAX ? frame->text_bytes : KITH_AM_FRAME_TEXT_MAX;
    kith_store_u16(head_out, MAGIC);
    head_out[2] = KITH_AM_FRAME_VERSION;
    head_out[3] = (uint8_t)frame->type;
    kith_store_u16(head_out + 4, frame->kind);
    kith_store_u16(head_out + 6, (uint16_t)frame->status);
    kith_store_u64(head_out + 8, frame->call);
    kith_store_u64(head_out + 16, frame->remaining_ns);
    kith_store_u64(head_out + 24, frame->sequence);
    kith_store_u32(head_out + 32, frame->body_bytes);
    kith_store_u16(head_out + 36, (uint16_t)text_bytes);
    kith_store_u16(head_out + 38, 0);
    memcpy(head_out + KITH_AM_FRAME_SIGNED_BYTES, frame->mac, sizeof frame->mac);
    if (text_bytes) memcpy(head_out + KITH_AM_FRAME_HEADER_BYTES, frame->text, text_bytes);
    return KITH_AM_FRAME_HEADER_BYTES + text_bytes;
}

static kith_status check_body(const kith_am_frame *frame, size_t body_bytes, kith_err *err) {
    bool handshake = frame->type == KITH_AM_TYPE_HELLO || frame->type == KITH_AM_TYPE_HELLO_REPLY ||
                     frame->type == KITH_AM_TYPE_TLS;
    size_t most = !rules[frame->type].body ? 0
                  : handshake              ? KITH_AM_HANDSHAKE_BYTES_MAX
                                           : KITH_AM_BODY_BYTES_MAX;
    if (frame->body_bytes != body_bytes)
        return kith_err_set(
            err, KITH_INVALID, "a frame says %u bytes of body and has %zu", frame->body_bytes, body_bytes);
    if (body_bytes > most)
        return kith_err_set(err, KITH_INVALID, "a frame of type %u has %zu bytes of body, at most %zu",
            (unsigned)frame->type, body_bytes, most);
    return KITH_OK;
}

static kith_status check_fields(const kith_am_frame *frame, uint16_t status_number, kith_err *err) {
    const type_rule *rule = &rules[frame->type];
    bool text_allowed = rule->status && status_number != KITH_OK;
    bool fits = (rule->kind || frame->kind == 0) && (rule->kind || frame->remaining_ns == 0) &&
                (rule->status || status_number == 0) && (rule->call ? frame->call != 0 : frame->call == 0) &&
                (text_allowed || frame->text_bytes == 0);
    if (!fits)
        return kith_err_set(err, KITH_INVALID, "a frame of type %u has a field that its type does not use",
            (unsigned)frame->type);
    return KITH_OK;
}

kith_status kith_am_frame_decode(
    const void *head, size_t head_bytes, size_t body_bytes, kith_am_frame *frame_out, kith_err *err) {
    const uint8_t *at = head;
    if (head_bytes < KITH_AM_FRAME_HEADER_BYTES || head_bytes > KITH_AM_FRAME_HEAD_MAX)
        return kith_err_set(err, KITH_INVALID, "a frame's head has %zu bytes, not %u..%u", head_bytes,
            KITH_AM_FRAME_HEADER_BYTES, KITH_AM_FRAME_HEAD_MAX);
    if (kith_load_u16(at) != MAGIC) return kith_err_set(err, KITH_INVALID, "a frame without its magic");
    if (at[2] != KITH_AM_FRAME_VERSION)
        return kith_err_set(err, KITH_INVALID, "a frame of version %u, not %u", at[2], KITH_AM_FRAME_VERSION);
    if (at[3] == 0 || at[3] >= TYPE_COUNT)
        return kith_err_set(err, KITH_INVALID, "a frame of unknown type %u", at[3]);
    uint16_t status_number = kith_load_u16(at + 6);
    kith_am_frame frame = {
        .type = (kith_am_type)at[3],
        .kind = kith_load_u16(at + 4),
        .status = kith_status_from_number(status_number),
        .call = kith_load_u64(at + 8),
        .remaining_ns = kith_load_u64(at + 16),
        .sequence = kith_load_u64(at + 24),
        .body_bytes = kith_load_u32(at + 32),
        .text_bytes = kith_load_u16(at + 36),
        .text = (const char *)at + KITH_AM_FRAME_HEADER_BYTES,
    };
    memcpy(frame.mac, at + KITH_AM_FRAME_SIGNED_BYTES, sizeof frame.mac);
    if (kith_load_u16(at + 38) != 0 || frame.text_bytes != head_bytes - KITH_AM_FRAME_HEADER_BYTES)
        return kith_err_set(err, KITH_INVALID, "a frame says %u bytes of text and has %zu", frame.text_bytes,
            head_bytes - KITH_AM_FRAME_HEADER_BYTES);
    kith_status status = check_fields(&frame, status_number, err);
    if (status == KITH_OK) status = check_body(&frame, body_bytes, err);
    if (status == KITH_OK) *frame_out = frame;
    return status;
}

/* --- hello --- */

static void encode_text(const char *text, kith_buf *out) {
    size_t bytes = strlen(text);
    kith_buf_u8(out, (uint8_t)bytes);
    kith_buf_append(out, text, bytes);
}

void kith_am_hello_encode(const kith_am_hello *hello, kith_buf *out) {
    kith_buf_append(out, hello_magic, sizeof hello_magic);
    kith_buf_u16(out, hello->version);
    kith_buf_u8(out, (uint8_t)((hello->tls ? HELLO_TLS : 0) | (hello->mac ? HELLO_MAC : 0)));
    kith_buf_append(out, hello->node.bytes, sizeof hello->node.bytes);
    encode_text(hello->role, out);
    encode_text(hello->cluster, out);
    kith_buf_append(out, hello->nonce, sizeof hello->nonce);
}

/* Printable ASCII alone: names appear in log lines before anyone is known. */
static void decode_text(kith_reader *reader, size_t bytes_max, char *text_out) {
    size_t bytes = kith_reader_u8(reader);
    const uint8_t *at = bytes <= bytes_max ? kith_reader_bytes(reader, bytes) : NULL;
    if (!at) {
        reader->failed = true;
        return;
    }
    for (size_t i = 0; i < bytes; i++)
        if (at[i] < 0x20 || at[i] > 0x7e) reader->failed = true;
    memcpy(text_out, at, bytes);
    text_out[bytes] = 0;
}

kith_status kith_am_hello_decode(
    const void *bytes, size_t byte_count, kith_am_hello *hello_out, kith_err *err) {
    kith_reader reader = kith_reader_of(bytes, byte_count);
    const uint8_t *magic = kith_reader_bytes(&reader, sizeof hello_magic);
    if (!magic || memcmp(magic, hello_magic, sizeof hello_magic) != 0)
        return kith_err_set(err, KITH_INVALID, "a hello without its magic");
    kith_am_hello hello = {.version = kith_reader_u16(&reader)};
    if (!reader.failed && hello.version != KITH_AM_PROTOCOL_VERSION) {
        *hello_out = hello;
        return KITH_OK;
    }
    uint8_t flags = kith_reader_u8(&reader);
    hello.tls = flags & HELLO_TLS;
    hello.mac = flags & HELLO_MAC;
    const uint8_t *node = kith_reader_bytes(&reader, sizeof hello.node.bytes);
    if (node) memcpy(hello.node.bytes, node, sizeof hello.node.bytes);
    decode_text(&reader, KITH_AM_ROLE_BYTES_MAX, hello.role);
    decode_text(&reader, KITH_NAME_BYTES_MAX, hello.cluster);
    const uint8_t *nonce = kith_reader_bytes(&reader, sizeof hello.nonce);
    if (nonce) memcpy(hello.nonce, nonce, sizeof hello.nonce);
    if (reader.failed || kith_reader_left(&reader) != 0 || (flags & ~HELLO_FLAGS_KNOWN) != 0)
        return kith_err_set(err, KITH_INVALID, "a hello of %zu bytes that does not read", byte_count);
    *hello_out = hello;
    return KITH_OK;
}

/* --- window --- */

static void window_advance(kith_am_window *window, uint64_t sequence) {
    uint64_t steps = sequence - window->newest;
    if (steps >= KITH_AM_WINDOW_BITS) {
        memset(window->seen, 0, sizeof window->seen);
    } else {
        for (uint64_t at = window->newest + 1; at <= sequence; at++)
            window->seen[at / 64 % (KITH_AM_WINDOW_BITS / 64)] &= ~(1ULL << at % 64);
    }
    window->newest = sequence;
}

bool kith_am_window_take(kith_am_window *window, uint64_t sequence) {
    if (sequence == 0) return false;
    if (sequence > window->newest) window_advance(window, sequence);
    if (window->newest - sequence >= KITH_AM_WINDOW_BITS) return false;
    uint64_t *word = &window->seen[sequence / 64 % (KITH_AM_WINDOW_BITS / 64)];
    uint64_t bit = 1ULL << sequence % 64;
    if (*word & bit) return false;
    *word |= bit;
    return true;
}
