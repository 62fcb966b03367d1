/* Points by id: one message a shard that has any of them, answers put back in the order asked.
 *
 * Each shard may first fill its share of the bytes, by how many ids it is asked for, so that all answers together have no
 * more than one reply may have (and a point a shard, since each sends at least one). Those that had more are asked for
 * their rest one after the other, each for as much as is left. */
#include "host/cluster/route.h"
#include "host/codec/codec_internal.h"
#include "host/query/query_fanout.h"
#include "host/query/query_point.h"

typedef struct get_run {
    kith_query_get *get;
    const kith_route_group *groups;
    uint32_t group_count;
    uint32_t *answered; /* [group_count]: so many of the group's rows */
    uint32_t rest;      /* the group whose rest is asked for */
    size_t bytes;       /* of the replies so far */
} get_run;

static kith_status not_asked_for(const get_run *run, uint32_t index, kith_err *err) {
    const kith_collection *collection = &run->get->base.entry->collection;
    return kith_err_set(err, KITH_INTERNAL, "shard %llu answered points that were not asked for",
        (unsigned long long)(collection->shard_id_first + run->groups[index].shard_index));
}

/* The position from `at` on at which the group asks for `id`; its count where it does not. */
static uint32_t group_find(const get_run *run, uint32_t index, uint32_t at, const kith_id *id) {
    const kith_route_group *group = &run->groups[index];
    while (at < group->count && kith_id_compare(&run->get->ids[group->rows[at]], id) != 0)
        at++;
    return at;
}

/* A shard answers the ids it has, in the order asked: walk both. */
static kith_status group_place(
    get_run *run, uint32_t index, const kith_codec_shard_read_response *response, kith_err *err) {
    kith_query_get *get = run->get;
    const kith_route_group *group = &run->groups[index];
    uint32_t at = run->answered[index];
    for (uint32_t i = 0; i < response->count; i++, at++) {
        at = group_find(run, index, at, &response->points[i].id);
        if (at == group->count) return not_asked_for(run, index, err);
        get->points[group->rows[at]] = kith_query_point_of(&response->points[i], get->base.arena);
    }
    run->answered[index] = group->count;
    if (!response->has_next) return KITH_OK;
    run->answered[index] = group_find(run, index, at, &response->next);
    return run->answered[index] < group->count ? KITH_OK : not_asked_for(run, index, err);
}

static kith_status group_gather(get_run *run, uint32_t index, const kith_query_part *part, kith_err *err) {
    kith_query_get *get = run->get;
    if (part->status != KITH_OK) return kith_err_set(err, part->status, "%s", part->message);
    kith_codec_shard_read_response response;
    kith_status status = kith_codec_shard_read_response_decode(
        part->reply, part->reply_bytes, &get->base.entry->collection.schema, get->base.arena, &response, err);
    if (status != KITH_OK) return status;
    run->bytes += part->reply_bytes;
    return group_place(run, index, &response, err);
}

static kith_status bytes_check(const get_run *run, kith_err *err) {
    size_t bytes_max = run->get->bytes_max;
    if (run->bytes <= bytes_max) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "the points asked for have more than %zu bytes: ask for fewer", bytes_max);
}

/* Part `part_index` of the fan-out asks for what is left of group `index`. */
static void part_set(
    get_run *run, kith_query_fanout *fanout, uint32_t part_index, uint32_t index, size_t bytes_max) {
    const kith_query_get *get = run->get;
    const kith_query_base *base = &get->base;
    const kith_route_group *group = &run->groups[index];
    uint32_t first = run->answered[index];
    kith_id *ids = kith_arena_array(base->arena, group->count - first, sizeof *ids);
    for (uint32_t i = first; i < group->count; i++)
        ids[i - first] = get->ids[group->rows[i]];
    kith_codec_shard_read_request request = {
        .collection_id = base->entry->collection.id,
        .map_version = base->map->version,
        .shard_id = base->entry->collection.shard_id_first + group->shard_index,
        .kind = KITH_CODEC_READ_GET,
        .ids = ids,
        .id_count = group->count - first,
        .with_payload = get->with_payload,
        .with_vectors = get->with_vectors,
        .bytes_max = bytes_max,
    };
    kith_query_fanout_node_set(fanout, part_index, base->entry->shard_nodes[group->shard_index]);
    kith_codec_shard_read_request_encode(&request, &fanout->parts[part_index].request);
}

static void rest_gathered(kith_query_fanout *fanout);

/* Asks for the rest of the first group that has one, or ends. */
static void rest_ask(get_run *run) {
    kith_query_get *get = run->get;
    kith_err err;
    while (run->rest < run->group_count && run->answered[run->rest] == run->groups[run->rest].count)
        run->rest++;
    kith_status status = bytes_check(run, &err);
    if (status != KITH_OK || run->rest == run->group_count) {
        get->done(get, status, &err);
        return;
    }
    kith_query_fanout *fanout = kith_query_fanout_create(&get->base, KITH_AM_READ, 1, rest_gathered, run);
    part_set(run, fanout, 0, run->rest, get->bytes_max - run->bytes);
    kith_query_fanout_start(fanout);
}

static void gathered(get_run *run, kith_query_fanout *fanout, uint32_t first_group) {
    kith_query_get *get = run->get;
    kith_err err;
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < fanout->part_count && status == KITH_OK; i++)
        status = group_gather(run, first_group + i, &fanout->parts[i], &err);
    kith_query_fanout_finish(fanout);
    if (status == KITH_OK)
        rest_ask(run);
    else
        get->done(get, status, &err);
}

static void rest_gathered(kith_query_fanout *fanout) {
    get_run *run = fanout->ctx;
    gathered(run, fanout, run->rest);
}

static void get_gathered(kith_query_fanout *fanout) {
    gathered(fanout->ctx, fanout, 0);
}

void kith_query_get_start(kith_query_get *get) {
    const kith_query_base *base = &get->base;
    get_run *run = kith_arena_alloc_zero(base->arena, sizeof *run);
    run->get = get;
    get->points = kith_arena_alloc_zero(base->arena, get->id_count * sizeof *get->points);
    run->group_count = kith_route_split(base->entry, get->ids, get->id_count, base->arena, &run->groups);
    run->answered = kith_arena_alloc_zero(base->arena, run->group_count * sizeof *run->answered);
    kith_query_fanout *fanout =
        kith_query_fanout_create(base, KITH_AM_READ, run->group_count, get_gathered, run);
    for (uint32_t i = 0; i < run->group_count; i++)
        part_set(run, fanout, i, i, get->bytes_max * run->groups[i].count / get->id_count);
    kith_query_fanout_start(fanout);
}
