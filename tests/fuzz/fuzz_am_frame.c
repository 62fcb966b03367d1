/* Bytes as the head of a frame between nodes, and as a hello: decoding never crashes, and what decodes encodes to the same
 * bytes. The first byte says how many of the others are the head; what follows is the body. */
#include <string.h>

#include "host/base/assert.h"
#include "transport/am_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void fuzz_head(const uint8_t *head, size_t head_bytes, size_t body_bytes) {
    uint8_t again[KITH_AM_FRAME_HEAD_MAX];
    kith_am_frame frame;
    kith_err err;
    if (kith_am_frame_decode(head, head_bytes, body_bytes, &frame, &err) != KITH_OK) return;
    kith_assert(frame.body_bytes == body_bytes);
    size_t again_bytes = kith_am_frame_encode(&frame, again);
    kith_assert(again_bytes == head_bytes);
    /* A status that this version does not know became INTERNAL. */
    if (frame.status == KITH_INTERNAL) memcpy(again + 6, head + 6, 2);
    kith_assert(memcmp(again, head, head_bytes) == 0);
}

static void fuzz_hello(const uint8_t *body, size_t bytes) {
    kith_am_hello hello;
    kith_err err;
    kith_buf again;
    if (kith_am_hello_decode(body, bytes, &hello, &err) != KITH_OK) return;
    if (hello.version != KITH_AM_PROTOCOL_VERSION) return;
    kith_buf_init(&again);
    kith_am_hello_encode(&hello, &again);
    kith_assert(again.bytes == bytes);
    kith_assert(memcmp(again.data, body, bytes) == 0);
    kith_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    size_t head_bytes = data[0] < bytes - 1 ? data[0] : bytes - 1;
    fuzz_head(data + 1, head_bytes, bytes - 1 - head_bytes);
    fuzz_hello(data + 1 + head_bytes, bytes - 1 - head_bytes);
    return 0;
}
