/* Apart from the transport, so that a program which only makes certificates is linked without UCX. */
#include <stdio.h>

#include "transport/ucx/transport_ucx_internal.h"

void ucx_uuid_text(const kith_node_id *id, char text_out[UCX_UUID_TEXT_BYTES]) {
    const uint8_t *b = id->bytes;
    snprintf(text_out, UCX_UUID_TEXT_BYTES,
        "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
        b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}
