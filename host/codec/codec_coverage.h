/* Private to host/codec: Coverage of kith.v1. */
#ifndef KITH_CODEC_CODEC_COVERAGE_H
#define KITH_CODEC_CODEC_COVERAGE_H

#include "host/codec/codec_points.h"

/* As field `field`. */
void kith_codec_coverage_encode(const kith_codec_coverage *coverage, uint32_t field, kith_buf *buf);

#endif
