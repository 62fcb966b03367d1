/* grpc.health.v1's two messages. */
#include "host/codec/codec_health.h"

#include "host/codec/codec_wire.h"

#include "grpc/health/v1/health.pb-c.h"

_Static_assert((int)KITH_CODEC_HEALTH_SERVICE_UNKNOWN ==
                   GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN,
    "numbers are those of the protocol");

kith_status kith_codec_health_request_decode(
    const void *data, size_t bytes, kith_arena *arena, const char **service_out, kith_err *err) {
    const Grpc__Health__V1__HealthCheckRequest *message = kith_codec_unpack(
        &grpc__health__v1__health_check_request__descriptor, data, bytes, arena, KITH_INVALID, err);
    if (!message) return KITH_INVALID;
    return kith_codec_text(message->service, "service", arena, service_out, err);
}

void kith_codec_health_response_encode(kith_codec_health health, kith_buf *buf) {
    kith_wire_u64(buf, 1, (uint64_t)health);
}
