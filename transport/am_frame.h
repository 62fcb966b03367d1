/* The bytes of one message between nodes: a header, the text of an error, and a body that travels beside them. And the
 * body of the hello that opens every connection. Pure: no I/O, no clock.
 *
 * Header, little-endian, AM_FRAME_HEADER_BYTES:
 *    0 u16 magic "kf"    2 u8 version    3 u8 type      4 u16 kind (am_kinds.h) of a request, else 0
 *    6 u16 status number of a reply or a hello reply, else 0
 *    8 u64 call          the number of a call on its connection; of a request, a reply and a cancel, else 0
 *   16 u64 remaining_ns  of a request: what is left of its deadline (clocks differ), 0: no deadline; else 0
 *   24 u64 sequence      of this direction of this connection: 1 for the first frame, never repeated
 *   32 u32 body_bytes   36 u16 text_bytes   38 u16 zero
 *   40 16 bytes mac      over header [0, 40), text and body; zero where no MAC is agreed
 * then the text. A frame is refused when a field that its type does not use is not zero. */
#ifndef KITH_TRANSPORT_AM_FRAME_H
#define KITH_TRANSPORT_AM_FRAME_H

#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/base/limits.h"
#include "host/base/node_id.h"

#define KITH_AM_FRAME_VERSION      1u
#define KITH_AM_FRAME_HEADER_BYTES 56u
#define KITH_AM_FRAME_SIGNED_BYTES 40u
#define KITH_AM_FRAME_MAC_BYTES    16u
#define KITH_AM_FRAME_TEXT_MAX     (KITH_ERR_BYTES_MAX - 1u)
/* Header and text: what UCX carries beside a body (about 8 KB at most). */
#define KITH_AM_FRAME_HEAD_MAX (KITH_AM_FRAME_HEADER_BYTES + KITH_AM_FRAME_TEXT_MAX)
/* A guess: four times the largest message of a client, for snapshots of metadata. */
#define KITH_AM_BODY_BYTES_MAX (256u << 20)
/* Of a hello and of TLS records: two chains of certificates fit many times. */
#define KITH_AM_HANDSHAKE_BYTES_MAX (64u << 10)
#define KITH_AM_ROLE_BYTES_MAX      31u

_Static_assert(KITH_AM_BODY_BYTES_MAX >= KITH_MESSAGE_BYTES_MAX, "what a client sends can be passed on");

/* Numbers travel: never reuse one. */
typedef enum kith_am_type {
    KITH_AM_TYPE_HELLO = 1,       /* body: kith_am_hello of who dials */
    KITH_AM_TYPE_HELLO_REPLY = 2, /* status and text; body, when OK: kith_am_hello of who answers */
    KITH_AM_TYPE_TLS = 3,         /* body: TLS records, between hello and its reply */
    KITH_AM_TYPE_REQUEST = 4,
    KITH_AM_TYPE_REPLY = 5,
    KITH_AM_TYPE_CANCEL = 6, /* the caller of `call` gave up */
    KITH_AM_TYPE_PING = 7,
    KITH_AM_TYPE_PONG = 8,
    KITH_AM_TYPE_GOODBYE = 9, /* the sender closes this connection on purpose */
} kith_am_type;

typedef struct kith_am_frame {
    kith_am_type type;
    uint16_t kind;
    kith_status status;
    uint64_t call;
    uint64_t remaining_ns;
    uint64_t sequence;
    uint32_t body_bytes;
    uint16_t text_bytes;
    const char *text; /* not NUL-terminated; of a decoded frame: inside its bytes */
    uint8_t mac[KITH_AM_FRAME_MAC_BYTES];
} kith_am_frame;

/* Writes header and text: KITH_AM_FRAME_HEADER_BYTES + text_bytes bytes, at most KITH_AM_FRAME_HEAD_MAX; returns how
 * many. Longer texts are cut. */
size_t kith_am_frame_encode(const kith_am_frame *frame, uint8_t *head_out);
/* `body_bytes` is what came beside the head: it must be what the head says. INVALID, with the reason, for anything that
 * kith_am_frame_encode cannot have written. */
KITH_CHECK kith_status kith_am_frame_decode(
    const void *head, size_t head_bytes, size_t body_bytes, kith_am_frame *frame_out, kith_err *err);

/* Who speaks. Bytes: magic "kithnode", u16 protocol version, u8 flags, 16 bytes node id, u8 length and bytes of the role,
 * u8 length and bytes of the cluster's name, 16 bytes nonce. Unknown trailing bytes are refused. */
typedef struct kith_am_hello {
    uint16_t version; /* of the protocol: KITH_AM_PROTOCOL_VERSION */
    bool tls;         /* a TLS handshake follows */
    bool mac;         /* later frames carry a MAC */
    kith_node_id node;
    char role[KITH_AM_ROLE_BYTES_MAX + 1];
    char cluster[KITH_NAME_BYTES_MAX + 1];
    uint8_t nonce[16]; /* so that no two hellos are equal */
} kith_am_hello;

#define KITH_AM_PROTOCOL_VERSION 1u

void kith_am_hello_encode(const kith_am_hello *hello, kith_buf *out);
/* Of another version only `version` is set, and the status is OK: its other fields may be anything. */
KITH_CHECK kith_status kith_am_hello_decode(
    const void *bytes, size_t byte_count, kith_am_hello *hello_out, kith_err *err);

/* Sequence numbers that came: refuses one that came before, or is older than the last 1,024. Frames of one connection may
 * overtake each other while UCX puts a long one together, by less than that. */
#define KITH_AM_WINDOW_BITS 1024u

typedef struct kith_am_window {
    uint64_t newest;
    uint64_t seen[KITH_AM_WINDOW_BITS / 64];
} kith_am_window;

/* Whether `sequence` is new; notes it. */
bool kith_am_window_take(kith_am_window *window, uint64_t sequence);

#endif
