/* A write over the shards that own its points: one message a shard, each atomic, nothing across them. */
#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"

static void part_gather(kith_query_write *write, kith_query_write_part *result, const kith_query_part *part) {
    kith_err err;
    kith_codec_shard_write_response response;
    result->status = part->status;
    const char *message = part->message;
    if (part->status == KITH_OK) {
        /* The shard has answered, so it may well have written: a reply that we cannot read leaves that open. */
        result->status = kith_codec_shard_write_response_decode(
            part->reply, part->reply_bytes, write->base.arena, &response, &err);
        if (result->status != KITH_OK) result->status = KITH_UNKNOWN_OUTCOME;
        message = err.text;
    }
    if (result->status != KITH_OK) {
        result->reason = kith_arena_text(write->base.arena, message, strlen(message));
        return;
    }
    result->epoch = response.epoch;
    result->sequence = response.sequence;
    result->points_changed = response.points_changed;
}

static void write_gathered(kith_query_fanout *fanout) {
    kith_query_write *write = fanout->ctx;
    for (uint32_t i = 0; i < fanout->part_count; i++)
        part_gather(write, &write->parts[i], &fanout->parts[i]);
    kith_query_fanout_finish(fanout);
    write->done(write);
}

void kith_query_write_start(kith_query_write *write) {
    const kith_query_base *base = &write->base;
    const kith_collection *collection = &base->entry->collection;
    kith_query_fanout *fanout =
        kith_query_fanout_create(base, KITH_AM_WRITE, write->part_count, write_gathered, write);
    for (uint32_t i = 0; i < write->part_count; i++) {
        const kith_query_write_part *part = &write->parts[i];
        kith_codec_shard_write_request request = {
            .collection_id = collection->id,
            .map_version = base->map->version,
            .shard_id = collection->shard_id_first + part->shard_index,
            .request_id = write->request_id,
            .op = part->op,
            .op_bytes = part->op_bytes,
        };
        kith_query_fanout_node_set(fanout, i, base->entry->shard_nodes[part->shard_index]);
        kith_codec_shard_write_request_encode(&request, &fanout->parts[i].request);
    }
    kith_query_fanout_start(fanout);
}
