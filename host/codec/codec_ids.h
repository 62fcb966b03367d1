/* Private to host/codec: PointId, IdList, RequestId and what a read promises, of kith.v1. */
#ifndef KITH_CODEC_CODEC_IDS_H
#define KITH_CODEC_CODEC_IDS_H

#include "host/codec/codec_wire.h"
#include "host/model/read.h"
#include "host/model/record.h"

#include "kith/v1/types.pb-c.h"

/* `message` may be NULL (the field was absent). The caller adds the field's path to the message. */
KITH_CHECK kith_status kith_codec_id_decode(
    const Kith__V1__PointId *message, kith_arena *arena, kith_id *id_out, kith_err *err);
/* 1..KITH_BATCH_POINTS_MAX ids. `list` may be NULL. `what` is the field's path, for messages. */
KITH_CHECK kith_status kith_codec_ids_decode(const Kith__V1__IdList *list, const char *what,
    kith_arena *arena, const kith_id **ids_out, uint32_t *count_out, kith_err *err);
KITH_CHECK kith_status kith_codec_count_check(const char *what, size_t count, kith_err *err);

/* Absent: all zero (not remembered). */
KITH_CHECK kith_status kith_codec_request_id_decode(
    const Kith__V1__RequestId *message, kith_request_id *id_out, kith_err *err);

/* `read` and `tokens`, which every read has. */
KITH_CHECK kith_status kith_codec_promise_decode(Kith__V1__ReadConsistency read,
    Kith__V1__WriteToken *const *tokens, size_t token_count, kith_arena *arena,
    kith_read_promise *promise_out, kith_err *err);

/* A PointId as field `field`. */
void kith_codec_id_encode(const kith_id *id, uint32_t field, kith_buf *buf);
/* An IdList as field `field`, left out when empty: packed when all are numbers. */
void kith_codec_ids_encode(const kith_id *ids, size_t count, uint32_t field, kith_buf *buf);
/* At least the bytes that kith_codec_ids_encode would write, less a few of its own. */
size_t kith_codec_ids_bytes_least(const kith_id *ids, size_t count);

#endif
