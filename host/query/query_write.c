/* A write over the shards that own its points: one message a shard, each atomic, nothing across them. */
#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"

static void write_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    const kith_query_write *write = fanout->ctx;
    const kith_query_write_part *own = &write->parts[part->targets[0]];
    kith_codec_shard_write_request request = {
        .collection_id = write->base.entry->collection.id,
        .map_version = write->base.map->version,
        .shard_id = kith_query_part_shard_id(part, 0),
        .request_id = write->request_id,
        .op = own->op,
        .op_bytes = own->op_bytes,
    };
    kith_codec_shard_write_request_encode(&request, buf);
}

static kith_status write_decode(
    kith_query_fanout *fanout, kith_query_part *part, const void *reply, size_t bytes, kith_err *err) {
    kith_arena *arena = fanout->base->arena;
    kith_codec_shard_write_response *response = kith_arena_alloc(arena, sizeof *response);
    kith_status status = kith_codec_shard_write_response_decode(reply, bytes, arena, response, err);
    /* The shard has answered, so it may well have written: a reply that we cannot read leaves that open. */
    if (status != KITH_OK) return kith_err_wrap(err, KITH_UNKNOWN_OUTCOME, "its answer");
    part->answer = response;
    return KITH_OK;
}

static void part_gather(kith_query_write_part *result, const kith_query_target *target) {
    result->status = target->status;
    result->reason = target->message;
    if (!target->is_answered) return;
    const kith_codec_shard_write_response *response = target->part->answer;
    result->epoch = response->epoch;
    result->sequence = response->sequence;
    result->points_changed = response->points_changed;
}

static void write_gathered(kith_query_fanout *fanout) {
    kith_query_write *write = fanout->ctx;
    for (uint32_t i = 0; i < write->part_count; i++)
        part_gather(&write->parts[i], &fanout->targets[i]);
    write->done(write);
}

void kith_query_write_start(kith_query_write *write) {
    static const kith_query_fanout_ops ops = {.kind = KITH_AM_WRITE,
        .is_apart = true,
        .encode = write_encode,
        .decode = write_decode,
        .gathered = write_gathered};
    uint32_t *shards = kith_arena_array(write->base.arena, write->part_count, sizeof *shards);
    for (uint32_t i = 0; i < write->part_count; i++)
        shards[i] = write->parts[i].shard_index;
    kith_query_fanout_start(&write->base, &ops, write, shards, write->part_count);
}
