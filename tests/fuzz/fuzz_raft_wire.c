/* Bytes as a Raft message: decoding never crashes, and what decodes encodes to the same bytes. The checksum is put right
 * first, or chance would never get past it; the bytes as they come are tried too. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/crc32c.h"
#include "host/meta/raft_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A message that gives more than one way to say something (a configuration's padding, a byte for a bool) may come back
 * different, but not longer, and then the same for ever. */
static void again(const kith_meta_member *from, const struct raft_message *message) {
    kith_buf first, second;
    kith_meta_member from_again;
    struct raft_message decoded;
    kith_buf_init(&first);
    kith_buf_init(&second);
    kith_raft_message_encode(from, message, &first);
    kith_status status = kith_raft_message_decode(first.data, first.bytes, &from_again, &decoded, NULL);
    kith_assert(status == KITH_OK);
    kith_raft_message_encode(&from_again, &decoded, &second);
    kith_assert(first.bytes == second.bytes);
    kith_assert(memcmp(first.data, second.data, first.bytes) == 0);
    kith_raft_message_fini(&decoded);
    kith_buf_fini(&first);
    kith_buf_fini(&second);
}

static void try_decode(const uint8_t *data, size_t bytes) {
    kith_meta_member from;
    struct raft_message message;
    kith_err err;
    if (kith_raft_message_decode(data, bytes, &from, &message, &err) != KITH_OK) return;
    again(&from, &message);
    kith_raft_message_fini(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    uint64_t index;
    try_decode(data, bytes);
    (void)kith_raft_answer_decode(data, bytes, &index);
    if (bytes < 4) return 0;
    uint8_t *mended = kith_alloc(bytes);
    memcpy(mended, data, bytes);
    kith_store_u32(mended + bytes - 4, kith_crc32c(0, mended, bytes - 4));
    try_decode(mended, bytes);
    kith_free(mended);
    return 0;
}
