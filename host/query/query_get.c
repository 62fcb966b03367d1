/* Points by id: one message a shard that has any of them, answers put back in the order asked.
 *
 * Each shard may first fill its share of the bytes, by how many ids it is asked for, so that all answers together have no
 * more than one reply may have (and a point a shard, since each sends at least one). Those that had more are asked for
 * their rest one after the other, each for as much as is left. */
#include "host/cluster/route.h"
#include "host/codec/codec_internal.h"
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

static kith_status group_gather(
    get_run *run, uint32_t index, const kith_query_target *target, kith_err *err) {
    if (!target->is_answered) return kith_err_set(err, target->status, "%s", target->message);
    run->bytes += target->part->reply_bytes;
    return group_place(run, index, target->part->answer, err);
}

static kith_status bytes_check(const get_run *run, kith_err *err) {
    size_t bytes_max = run->get->bytes_max;
    if (run->bytes <= bytes_max) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "the points asked for have more than %zu bytes: ask for fewer", bytes_max);
}

/* Asks for what is left of group `index`. */
static void group_encode(
    get_run *run, const kith_query_part *part, uint32_t index, size_t bytes_max, kith_buf *buf) {
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
        .shard_id = kith_query_part_shard_id(part, 0),
        .kind = KITH_CODEC_READ_GET,
        .ids = ids,
        .id_count = group->count - first,
        .with_payload = get->with_payload,
        .with_vectors = get->with_vectors,
        .bytes_max = bytes_max,
        .read = base->read,
        .token = kith_query_part_token(part),
    };
    kith_codec_shard_read_request_encode(&request, buf);
}

static void rest_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    get_run *run = fanout->ctx;
    group_encode(run, part, run->rest, run->get->bytes_max - run->bytes, buf);
}

static void rest_gathered(kith_query_fanout *fanout);

/* Asks for the rest of the first group that has one, or ends. */
static void rest_ask(get_run *run) {
    static const kith_query_fanout_ops ops = {.kind = KITH_AM_READ,
        .is_apart = true,
        .encode = rest_encode,
        .decode = kith_query_points_decode,
        .gathered = rest_gathered};
    kith_query_get *get = run->get;
    kith_err err;
    while (run->rest < run->group_count && run->answered[run->rest] == run->groups[run->rest].count)
        run->rest++;
    kith_status status = bytes_check(run, &err);
    if (status != KITH_OK || run->rest == run->group_count) {
        get->done(get, status, &err);
        return;
    }
    kith_query_fanout_start(&get->base, &ops, run, &run->groups[run->rest].shard_index, 1);
}

static void gathered(get_run *run, const kith_query_fanout *fanout, uint32_t first_group) {
    kith_query_get *get = run->get;
    kith_err err;
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < fanout->target_count && status == KITH_OK; i++)
        status = group_gather(run, first_group + i, &fanout->targets[i], &err);
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

static void get_encode(kith_query_fanout *fanout, const kith_query_part *part, kith_buf *buf) {
    get_run *run = fanout->ctx;
    uint32_t index = part->targets[0];
    group_encode(run, part, index, run->get->bytes_max * run->groups[index].count / run->get->id_count, buf);
}

void kith_query_get_start(kith_query_get *get) {
    static const kith_query_fanout_ops ops = {.kind = KITH_AM_READ,
        .is_apart = true,
        .encode = get_encode,
        .decode = kith_query_points_decode,
        .gathered = get_gathered};
    const kith_query_base *base = &get->base;
    get_run *run = kith_arena_alloc_zero(base->arena, sizeof *run);
    run->get = get;
    get->points = kith_arena_alloc_zero(base->arena, get->id_count * sizeof *get->points);
    run->group_count = kith_route_split(base->entry, get->ids, get->id_count, base->arena, &run->groups);
    run->answered = kith_arena_alloc_zero(base->arena, run->group_count * sizeof *run->answered);
    uint32_t *shards = kith_arena_array(base->arena, run->group_count, sizeof *shards);
    for (uint32_t i = 0; i < run->group_count; i++)
        shards[i] = run->groups[i].shard_index;
    kith_query_fanout_start(base, &ops, run, shards, run->group_count);
}
