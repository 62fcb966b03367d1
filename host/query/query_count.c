/* Live points and statistics over all shards of a collection. */
#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"

static void count_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    const kith_query_base *base = fanout->base;
    kith_codec_shard_count_request request = {
        .collection_id = base->entry->collection.id,
        .map_version = base->map->version,
        .shard_ids = kith_query_part_shard_ids(part),
        .shard_count = part->target_count,
        .read = base->read,
        .tokens = kith_query_part_tokens(part),
    };
    kith_codec_shard_count_request_encode(&request, buf);
}

/* A shard that is there but not well (writes stopped) still counts what it has. */
static bool is_missing(kith_status health) {
    return health == KITH_NOT_FOUND || health == KITH_UNAVAILABLE || health == KITH_CLOSED ||
           health == KITH_STALE_MAP || health == KITH_DEADLINE || health == KITH_CORRUPT;
}

static kith_status count_decode(
    kith_query_fanout *fanout, kith_query_part *part, const void *reply, size_t bytes, kith_err *err) {
    kith_arena *arena = fanout->base->arena;
    kith_codec_shard_count_response response;
    kith_status status = kith_codec_shard_count_response_decode(reply, bytes, arena, &response, err);
    if (status != KITH_OK) return status;
    if (response.shard_count != part->target_count)
        return kith_err_set(err, KITH_INTERNAL, "the reply does not fit the request");
    kith_query_outcome *outcomes = kith_arena_array(arena, part->target_count, sizeof *outcomes);
    for (uint32_t i = 0; i < part->target_count; i++) {
        const kith_codec_shard_status *health = &response.shards[i].health;
        outcomes[i] = (kith_query_outcome){
            .status = is_missing(health->status) ? health->status : KITH_OK, .message = health->message};
    }
    part->outcomes = outcomes;
    part->answer = (kith_codec_shard_stats *)response.shards;
    return KITH_OK;
}

static void shard_add(kith_query_count *count, const kith_codec_shard_stats *stats) {
    if (stats->health.status != KITH_OK && strcmp(count->health, "ok") == 0)
        count->health = stats->health.message;
    count->points += stats->points;
    count->segments += stats->segments;
    count->segments_sealed += stats->segments_sealed;
    count->vector_bytes += stats->vector_bytes;
}

/* One with a corrupt segment is missing, and yet counts what it has. */
static void part_add(kith_query_count *count, const kith_query_fanout *fanout, const kith_query_part *part) {
    const kith_codec_shard_stats *stats = part->answer;
    for (uint32_t i = 0; stats && i < part->target_count; i++) {
        if (fanout->targets[part->targets[i]].part == part) shard_add(count, &stats[i]);
    }
}

static void count_gathered(kith_query_fanout *fanout) {
    kith_query_count *count = fanout->ctx;
    for (const kith_query_part *part = fanout->parts; part; part = part->next)
        part_add(count, fanout, part);
    count->coverage = kith_query_fanout_coverage(fanout);
    const kith_query_missing *missing = count->coverage.missing;
    if (count->coverage.shards_answered < count->coverage.shards_total && strcmp(count->health, "ok") == 0)
        count->health = missing[0].reason;
    if (count->coverage.shards_answered > 0) {
        count->done(count, KITH_OK, NULL);
        return;
    }
    kith_err err;
    kith_status status = kith_err_set(&err, missing[0].status, "%s", missing[0].reason);
    count->done(count, status, &err);
}

void kith_query_count_start(kith_query_count *count) {
    static const kith_query_fanout_ops ops = {
        .kind = KITH_AM_COUNT, .encode = count_encode, .decode = count_decode, .gathered = count_gathered};
    count->points = count->segments = count->segments_sealed = count->vector_bytes = 0;
    count->health = "ok";
    kith_query_fanout_start(&count->base, &ops, count, NULL, count->base.entry->collection.shard_count);
}
