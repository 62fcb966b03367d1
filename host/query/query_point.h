/* From a shard's answer to a point of a query's result; private to host/query. */
#ifndef KITH_QUERY_QUERY_POINT_H
#define KITH_QUERY_QUERY_POINT_H

#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query.h"

/* Shares what the decoded point has in the same arena. */
static inline const kith_query_point *kith_query_point_of(
    const kith_codec_shard_point *point, kith_arena *arena) {
    kith_query_point *copy = kith_arena_alloc(arena, sizeof *copy);
    copy->id = point->id;
    copy->payload = point->payload;
    copy->payload_bytes = point->payload_bytes;
    memcpy(copy->vectors, point->vectors, sizeof copy->vectors);
    return copy;
}

#endif
