/* grpc.health.v1: what load balancers and probes ask.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_HEALTH_H
#define KITH_CODEC_CODEC_HEALTH_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"

typedef enum kith_codec_health {
    KITH_CODEC_HEALTH_SERVING = 1,
    KITH_CODEC_HEALTH_NOT_SERVING = 2,
    KITH_CODEC_HEALTH_SERVICE_UNKNOWN = 3,
} kith_codec_health;

/* `*service_out`: "" is the server as a whole. */
KITH_CHECK kith_status kith_codec_health_request_decode(
    const void *data, size_t bytes, kith_arena *arena, const char **service_out, kith_err *err);
void kith_codec_health_response_encode(kith_codec_health health, kith_buf *buf);

#endif
