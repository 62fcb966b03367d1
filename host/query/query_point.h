/* From a shard's answer to points of a query's result; private to host/query. */
#ifndef KITH_QUERY_QUERY_POINT_H
#define KITH_QUERY_QUERY_POINT_H

#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"

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

/* `decode` of a fan-out of KITH_AM_READ: a part's answer is its kith_codec_shard_read_response. */
static inline kith_status kith_query_points_decode(
    kith_query_fanout *fanout, kith_query_part *part, const void *reply, size_t bytes, kith_err *err) {
    kith_arena *arena = fanout->base->arena;
    kith_codec_shard_read_response *response = kith_arena_alloc(arena, sizeof *response);
    part->answer = response;
    return kith_codec_shard_read_response_decode(
        reply, bytes, &fanout->base->entry->collection.schema, arena, response, err);
}

/* Of the one shard that the part asks. */
static inline uint64_t kith_query_part_token(const kith_query_part *part) {
    const kith_query_fanout *fanout = part->fanout;
    return fanout->base->tokens ? fanout->base->tokens[fanout->targets[part->targets[0]].shard_index] : 0;
}

#endif
