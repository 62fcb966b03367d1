/* Live points and statistics over all shards of a collection. */
#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"
#include "host/query/query_plan.h"

typedef struct count_run {
    kith_query_count *count;
    kith_query_plan plan;
    kith_query_missing *missing;
    uint32_t missing_count;
} count_run;

static void missing_add(
    count_run *run, uint32_t plan_index, uint64_t shard_id, kith_status status, const char *reason) {
    kith_query_count *count = run->count;
    run->missing[run->missing_count++] = (kith_query_missing){
        .shard_id = shard_id,
        .status = status,
        .node = count->base.map->nodes[run->plan.nodes[plan_index].node_index].name,
        .reason = kith_arena_text(count->base.arena, reason, strlen(reason)),
    };
}

/* A shard that is there but not well (writes stopped, a corrupt segment) still counts what it has. */
static void shard_add(count_run *run, uint32_t plan_index, const kith_codec_shard_stats *stats) {
    kith_query_count *count = run->count;
    kith_status health = stats->health.status;
    bool absent = health == KITH_NOT_FOUND || health == KITH_UNAVAILABLE || health == KITH_CLOSED;
    bool broken = absent || health == KITH_CORRUPT;
    if (broken) missing_add(run, plan_index, stats->health.shard_id, health, stats->health.message);
    if (health != KITH_OK && strcmp(count->health, "ok") == 0) {
        count->health =
            kith_arena_text(count->base.arena, stats->health.message, strlen(stats->health.message));
    }
    count->points += stats->points;
    count->segments += stats->segments;
    count->segments_sealed += stats->segments_sealed;
    count->vector_bytes += stats->vector_bytes;
}

static void node_gather(count_run *run, uint32_t plan_index, const kith_query_part *part) {
    const kith_query_plan_node *node = &run->plan.nodes[plan_index];
    kith_err err;
    kith_codec_shard_count_response response;
    kith_status status = part->status;
    if (status != KITH_OK) {
        kith_err_set(&err, status, "%s", part->message);
    } else {
        status = kith_codec_shard_count_response_decode(
            part->reply, part->reply_bytes, run->count->base.arena, &response, &err);
        if (status == KITH_OK && response.shard_count != node->shard_count) {
            status = kith_err_set(&err, KITH_INTERNAL, "the reply does not fit the request");
        }
    }
    for (uint32_t i = 0; i < node->shard_count; i++) {
        if (status == KITH_OK)
            shard_add(run, plan_index, &response.shards[i]);
        else
            missing_add(run, plan_index, node->shard_ids[i], status, err.text);
    }
}

static void count_gathered(kith_query_fanout *fanout) {
    count_run *run = fanout->ctx;
    kith_query_count *count = run->count;
    uint32_t total = count->base.entry->collection.shard_count;
    run->missing = kith_arena_array(count->base.arena, total, sizeof *run->missing);
    for (uint32_t i = 0; i < fanout->part_count; i++)
        node_gather(run, i, &fanout->parts[i]);
    kith_query_fanout_finish(fanout);
    if (run->missing_count && strcmp(count->health, "ok") == 0) count->health = run->missing[0].reason;
    count->coverage = (kith_query_coverage){
        .shards_total = total, .shards_answered = total - run->missing_count, .missing = run->missing};
    if (run->missing_count < total) {
        count->done(count, KITH_OK, NULL);
        return;
    }
    kith_err err;
    kith_status status = kith_err_set(&err, run->missing[0].status, "%s", run->missing[0].reason);
    count->done(count, status, &err);
}

void kith_query_count_start(kith_query_count *count) {
    count_run *run = kith_arena_alloc_zero(count->base.arena, sizeof *run);
    run->count = count;
    count->points = count->segments = count->segments_sealed = count->vector_bytes = 0;
    count->health = "ok";
    kith_query_plan_make(count->base.map, count->base.entry, count->base.arena, &run->plan);
    kith_query_fanout *fanout =
        kith_query_fanout_create(&count->base, KITH_AM_COUNT, run->plan.node_count, count_gathered, run);
    for (uint32_t i = 0; i < run->plan.node_count; i++) {
        const kith_query_plan_node *node = &run->plan.nodes[i];
        kith_codec_shard_count_request request = {
            .collection_id = count->base.entry->collection.id,
            .map_version = count->base.map->version,
            .shard_ids = node->shard_ids,
            .shard_count = node->shard_count,
        };
        kith_query_fanout_node_set(fanout, i, node->node_index);
        kith_codec_shard_count_request_encode(&request, &fanout->parts[i].request);
    }
    kith_query_fanout_start(fanout);
}
