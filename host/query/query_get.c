/* Points by id: one message a shard that has any of them, answers put back in the order asked. */
#include "host/cluster/route.h"
#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"
#include "host/query/query_point.h"

typedef struct get_run {
    kith_query_get *get;
    const kith_route_group *groups;
    uint32_t group_count;
} get_run;

/* A shard answers the ids it has, in the order asked: walk both. */
static kith_status group_place(get_run *run, const kith_route_group *group,
    const kith_codec_shard_read_response *response, kith_err *err) {
    kith_query_get *get = run->get;
    uint32_t taken = 0;
    for (uint32_t i = 0; i < group->count && taken < response->count; i++) {
        uint32_t row = group->rows[i];
        if (kith_id_compare(&get->ids[row], &response->points[taken].id) != 0) continue;
        get->points[row] = kith_query_point_of(&response->points[taken], get->base.arena);
        taken++;
    }
    if (taken == response->count) return KITH_OK;
    return kith_err_set(err, KITH_INTERNAL, "shard %llu answered points that were not asked for",
        (unsigned long long)(get->base.entry->collection.shard_id_first + group->shard_index));
}

static kith_status group_gather(get_run *run, uint32_t index, const kith_query_part *part, kith_err *err) {
    kith_query_get *get = run->get;
    if (part->status != KITH_OK) return kith_err_set(err, part->status, "%s", part->message);
    kith_codec_shard_read_response response;
    kith_status status = kith_codec_shard_read_response_decode(
        part->reply, part->reply_bytes, &get->base.entry->collection.schema, get->base.arena, &response, err);
    if (status != KITH_OK) return status;
    return group_place(run, &run->groups[index], &response, err);
}

static void get_gathered(kith_query_fanout *fanout) {
    get_run *run = fanout->ctx;
    kith_query_get *get = run->get;
    kith_err err;
    kith_status status = KITH_OK;
    size_t bytes = 0;
    for (uint32_t i = 0; i < fanout->part_count && status == KITH_OK; i++) {
        bytes += fanout->parts[i].reply_bytes;
        status = group_gather(run, i, &fanout->parts[i], &err);
    }
    kith_query_fanout_finish(fanout);
    if (status == KITH_OK && bytes > get->bytes_max) {
        status = kith_err_set(&err, KITH_INVALID,
            "the points asked for have more than %zu bytes: ask for fewer", get->bytes_max);
    }
    get->done(get, status, &err);
}

void kith_query_get_start(kith_query_get *get) {
    const kith_query_base *base = &get->base;
    const kith_collection *collection = &base->entry->collection;
    get_run *run = kith_arena_alloc_zero(base->arena, sizeof *run);
    run->get = get;
    get->points = kith_arena_alloc_zero(base->arena, get->id_count * sizeof *get->points);
    run->group_count = kith_route_split(base->entry, get->ids, get->id_count, base->arena, &run->groups);
    kith_query_fanout *fanout =
        kith_query_fanout_create(base, KITH_AM_READ, run->group_count, get_gathered, run);
    kith_id *ids = kith_arena_array(base->arena, get->id_count, sizeof *ids);
    for (uint32_t i = 0; i < run->group_count; i++) {
        const kith_route_group *group = &run->groups[i];
        for (uint32_t j = 0; j < group->count; j++)
            ids[j] = get->ids[group->rows[j]];
        kith_codec_shard_read_request request = {
            .collection_id = collection->id,
            .shard_id = collection->shard_id_first + group->shard_index,
            .kind = KITH_CODEC_READ_GET,
            .ids = ids,
            .id_count = group->count,
            .with_payload = get->with_payload,
            .with_vectors = get->with_vectors,
            .bytes_max = get->bytes_max,
        };
        kith_query_fanout_node_set(fanout, i, base->entry->shard_nodes[group->shard_index]);
        kith_codec_shard_read_request_encode(&request, &fanout->parts[i].request);
    }
    kith_query_fanout_start(fanout);
}
