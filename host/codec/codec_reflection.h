/* grpc.reflection (v1 and v1alpha are the same bytes): what a client without .proto files asks. Answers come
 * from the descriptors that proto/ embeds; every question is answered by walking them (9 KB, a few
 * microseconds).
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_REFLECTION_H
#define KITH_CODEC_CODEC_REFLECTION_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"

/* Appends the ServerReflectionResponse to a ServerReflectionRequest. What is not there is an answer too;
 * INVALID only for bytes that are no request. */
KITH_CHECK kith_status kith_codec_reflection_answer(
    const void *request, size_t bytes, kith_arena *arena, kith_buf *buf, kith_err *err);

#endif
