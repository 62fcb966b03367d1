/* Writes: everything a client sends is checked here, once; vectors are brought into their stored type; the batch is split
 * by shard, each part encoded as one operation (host/model/record.h) and sent to its shard.
 *
 * Cost: one pass over the vectors (check and convert) and one to encode; f32 vectors are not copied in between. */
#include <string.h>

#include "host/api/api_internal.h"
#include "host/api/api_write_columns.h"
#include "host/base/text.h"
#include "host/cluster/route.h"

typedef struct write_run {
    kith_api_run run;
    kith_api_write_call *call;
    kith_op_kind kind;
    kith_query_write write; /* of the parts that are not done */
    uint32_t part_count;
    kith_query_write_part *parts; /* [part_count], those that are done first */
    kith_buf *ops;                /* [part_count], in the order made */
    kith_api_again again;
    uint32_t again_count;
} write_run;

/* --- checks --- */

/* Open addressing over positions; the table is at most half full. */
static kith_status duplicates_check(const kith_id *ids, uint32_t count, kith_arena *arena, kith_err *err) {
    uint32_t capacity = 16;
    while (capacity < 2 * count)
        capacity *= 2;
    uint32_t *table = kith_arena_alloc_zero(arena, capacity * sizeof *table); /* position + 1 */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = kith_id_hash_for_table(&ids[i]) & (capacity - 1);
        while (table[at]) {
            uint32_t other = table[at] - 1;
            if (kith_id_compare(&ids[i], &ids[other]) == 0) {
                return kith_err_set(err, KITH_INVALID,
                    "points[%u] and points[%u] have the same id %s; an id may come once a call", other, i,
                    kith_api_id_text(&ids[i], arena));
            }
            at = (at + 1) & (capacity - 1);
        }
        table[at] = i + 1;
    }
    return KITH_OK;
}

static kith_status payload_check(const kith_api_write_call *call, uint32_t i, kith_err *err) {
    uint32_t bytes = call->payload_bytes[i];
    kith_status status;
    if (bytes > KITH_PAYLOAD_BYTES_MAX) {
        status = kith_err_set(err, KITH_INVALID, "%u bytes are more than %u", bytes, KITH_PAYLOAD_BYTES_MAX);
    } else {
        status = kith_text_json_check(call->payloads[i], bytes, KITH_PAYLOAD_DEPTH_MAX, true, err);
    }
    if (status == KITH_OK) return KITH_OK;
    return kith_err_wrap(
        err, status, "payload of points[%u] (id %s)", i, kith_api_id_text(&call->ids[i], call->call.arena));
}

static kith_status payloads_set(const kith_api_write_call *call, kith_op_point *points, kith_err *err) {
    if (!call->payloads) return KITH_OK;
    for (uint32_t i = 0; i < call->point_count; i++) {
        if (!call->payloads[i] || call->payload_bytes[i] == 0) continue;
        kith_status status = payload_check(call, i, err);
        if (status != KITH_OK) return status;
        points[i].payload = call->payloads[i];
        points[i].payload_bytes = call->payload_bytes[i];
    }
    return KITH_OK;
}

/* The batch as operation points, in the order sent. */
static kith_status points_make(write_run *run, kith_op_point **points_out, kith_err *err) {
    const kith_api_write_call *call = run->call;
    kith_arena *arena = call->call.arena;
    kith_status status =
        kith_api_count_check("number of points", call->point_count, KITH_BATCH_POINTS_MAX, err);
    if (status == KITH_OK) status = duplicates_check(call->ids, call->point_count, arena, err);
    if (status != KITH_OK) return status;
    kith_op_point *points = kith_arena_alloc_zero(arena, call->point_count * sizeof *points);
    for (uint32_t i = 0; i < call->point_count; i++)
        points[i].id = call->ids[i];
    if (run->kind == KITH_OP_UPSERT) {
        status = kith_api_columns_set(call, &run->run.entry->collection, points, err);
        if (status == KITH_OK) status = payloads_set(call, points, err);
    }
    if (status == KITH_OK) *points_out = points;
    return status;
}

/* --- parts --- */

/* Bytes of a group's operation, a little too many: one allocation instead of growing. */
static size_t op_bytes_estimate(const kith_op *op, const kith_schema *schema) {
    size_t bytes = 4096 + (size_t)op->point_count * (kith_schema_row_bytes(schema) + 32);
    for (uint32_t i = 0; i < op->point_count; i++) {
        bytes += op->points[i].payload_bytes + op->points[i].id.text_bytes;
    }
    return bytes;
}

static void part_make(
    write_run *run, const kith_route_group *group, kith_op_point *points, uint64_t wall_ms, uint32_t index) {
    kith_arena *arena = run->call->call.arena;
    const kith_schema *schema = &run->run.entry->collection.schema;
    kith_op_point *own = points;
    if (group->count < run->call->point_count) {
        own = kith_arena_array(arena, group->count, sizeof *own);
        for (uint32_t i = 0; i < group->count; i++)
            own[i] = points[group->rows[i]];
    }
    kith_op op = {
        .kind = run->kind,
        .request_id = run->call->request_id,
        .wall_ms = wall_ms,
        .point_count = group->count,
        .points = own,
    };
    kith_buf *buf = &run->ops[index];
    kith_buf_init(buf);
    (void)kith_buf_reserve(buf, run->kind == KITH_OP_UPSERT ? op_bytes_estimate(&op, schema) : 4096);
    kith_op_encode(&op, schema, buf);
    run->parts[index] = (kith_query_write_part){
        .shard_index = group->shard_index,
        .point_count = group->count,
        .op = buf->data,
        .op_bytes = buf->bytes,
    };
}

static void parts_make(write_run *run, kith_op_point *points) {
    kith_arena *arena = run->call->call.arena;
    const kith_route_group *groups;
    uint32_t count = kith_route_split(run->run.entry, run->call->ids, run->call->point_count, arena, &groups);
    uint64_t wall_ms = kith_env_wall_ms(run->run.api->options.env);
    run->part_count = count;
    run->parts = kith_arena_array(arena, count, sizeof *run->parts);
    run->ops = kith_arena_array(arena, count, sizeof *run->ops);
    for (uint32_t i = 0; i < count; i++)
        part_make(run, &groups[i], points, wall_ms, i);
}

/* --- the answer --- */

static bool is_open(kith_status status) {
    return status == KITH_UNAVAILABLE || status == KITH_UNKNOWN_OUTCOME || status == KITH_CLOSED ||
           status == KITH_DEADLINE;
}

/* A refusal says nothing of an attempt before it. */
static kith_status part_status(const kith_query_write_part *part) {
    if (part->status == KITH_OK || !part->may_be_done || is_open(part->status)) return part->status;
    return KITH_UNKNOWN_OUTCOME;
}

/* UNKNOWN_OUTCOME outranks all else: the client must not take the write for undone. */
static const kith_query_write_part *worst_part(const write_run *run) {
    const kith_query_write_part *worst = NULL;
    for (uint32_t i = 0; i < run->part_count; i++) {
        const kith_query_write_part *part = &run->parts[i];
        if (part->status == KITH_OK) continue;
        bool is_unknown = part_status(part) == KITH_UNKNOWN_OUTCOME;
        if (!worst || (is_unknown && part_status(worst) != KITH_UNKNOWN_OUTCOME)) worst = part;
    }
    return worst;
}

static kith_status failure_describe(
    const write_run *run, const kith_query_write_part *worst, uint32_t failed_count, kith_err *err) {
    kith_status status = part_status(worst);
    const char *before = worst->may_be_done ? "; an attempt before this may have been carried out" : "";
    if (run->part_count == 1) return kith_err_set(err, status, "%s%s", worst->reason, before);
    uint64_t written = 0;
    for (uint32_t i = 0; i < run->part_count; i++) {
        if (run->parts[i].status == KITH_OK) written += run->parts[i].point_count;
    }
    uint64_t shard_id_first = run->run.entry->collection.shard_id_first;
    return kith_err_set(err, status,
        "%u of %u shards failed, %llu of %u points were written; shard %llu: %s%s", failed_count,
        run->part_count, (unsigned long long)written, run->call->point_count,
        (unsigned long long)(shard_id_first + worst->shard_index), worst->reason, before);
}

static uint32_t tokens_gather(const write_run *run, kith_api_token *tokens, uint32_t *changed_out) {
    uint32_t token_count = 0;
    *changed_out = 0;
    for (uint32_t i = 0; i < run->part_count; i++) {
        const kith_query_write_part *part = &run->parts[i];
        if (part->status != KITH_OK) continue;
        *changed_out += part->points_changed;
        tokens[token_count++] = (kith_api_token){
            .shard_id = run->run.entry->collection.shard_id_first + part->shard_index,
            .epoch = part->epoch,
            .sequence = part->sequence,
        };
    }
    return token_count;
}

static kith_status write_start(kith_api *api, kith_api_write_call *call, kith_op_kind kind, kith_err *err);

static void write_again(kith_api *api, kith_api_write_call *call, kith_op_kind kind) {
    kith_err err;
    kith_status status = write_start(api, call, kind, &err);
    if (status != KITH_OK) call->done(call, status, 0, NULL, 0, &err);
}

static void ops_fini(write_run *run) {
    for (uint32_t i = 0; i < run->part_count; i++)
        kith_buf_fini(&run->ops[i]);
}

static void write_answer(write_run *run) {
    kith_api_write_call *call = run->call;
    const kith_api_options *options = &run->run.api->options;
    ops_fini(run);
    kith_api_token *tokens = kith_arena_array(call->call.arena, run->part_count, sizeof *tokens);
    uint32_t changed;
    uint32_t token_count = tokens_gather(run, tokens, &changed);
    kith_err err;
    const kith_query_write_part *worst = worst_part(run);
    kith_status status = worst ? failure_describe(run, worst, run->part_count - token_count, &err) : KITH_OK;
    if (options->wrote) {
        options->wrote(options->ctx, status, kith_env_now_ns(options->env) - run->run.entered_ns, changed);
    }
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, changed, tokens, token_count, worst ? &err : NULL);
    kith_api_leave(&entered);
}

/* --- again --- */

/* A primary that is frozen answers nobody; another one is made meanwhile, which the newest map names. A guess: about how long
 * that takes. */
#define ATTEMPT_NS UINT64_C(2000000000)

/* With a request id a write that may have been done is safe to repeat. */
static bool may_repeat(const write_run *run) {
    return !kith_request_id_is_none(&run->call->request_id) && run->run.entry->replica_width > 1;
}

static bool part_may_fare_better(const write_run *run, kith_status status) {
    if (status == KITH_STALE_MAP) return true; /* for certain nothing was done */
    return is_open(status) && may_repeat(run);
}

/* Done parts first; false when one of the rest has failed for good. */
static bool parts_sort(write_run *run, uint32_t *done_count_out) {
    uint32_t done_count = 0;
    bool all_may = true;
    for (uint32_t i = 0; i < run->part_count; i++) {
        kith_query_write_part part = run->parts[i];
        if (part.status != KITH_OK) {
            all_may &= part_may_fare_better(run, part.status);
            continue;
        }
        run->parts[i] = run->parts[done_count];
        run->parts[done_count++] = part;
    }
    *done_count_out = done_count;
    return all_may;
}

static void write_send(write_run *run, uint32_t done_count) {
    run->write.base = kith_api_query_base(&run->run, &run->call->call);
    /* A client that went away may have sent its write all the same: it is not cancelled half done. */
    run->write.base.cancelled = NULL;
    uint64_t attempt_ns = kith_env_now_ns(run->run.api->options.env) + ATTEMPT_NS;
    if (may_repeat(run) && attempt_ns < run->write.base.deadline_ns) run->write.base.deadline_ns = attempt_ns;
    run->write.parts = run->parts + done_count;
    run->write.part_count = run->part_count - done_count;
    for (uint32_t i = done_count; i < run->part_count; i++)
        run->parts[i].may_be_done |= is_open(run->parts[i].status);
    kith_query_write_start(&run->write);
}

/* The name may be another collection's by now: then what was not done at all begins anew, by its schema. */
static void write_restart(write_run *run) {
    kith_api_run left = kith_api_answer(&run->run);
    kith_api_write_call *call = run->call;
    kith_op_kind kind = run->kind;
    ops_fini(run);
    write_again(left.api, call, kind);
    kith_api_leave(&left);
}

static void write_go_on(kith_api_again *again) {
    write_run *run = (write_run *)(void *)((char *)again - offsetof(write_run, again));
    uint32_t done_count;
    (void)parts_sort(run, &done_count);
    kith_meta_map *map = kith_meta_map_get(run->run.api->options.meta);
    const kith_meta_entry *entry =
        kith_meta_map_find(map, run->call->collection, run->call->collection_bytes);
    if (entry && entry->collection.id == run->run.entry->collection.id) {
        kith_meta_map_release(run->run.map);
        run->run.map = map;
        run->run.entry = entry;
        write_send(run, done_count);
        return;
    }
    kith_meta_map_release(map);
    if (done_count == 0 && worst_part(run)->status == KITH_STALE_MAP && run->call->call.again_count++ == 0)
        write_restart(run);
    else
        write_answer(run);
}

static void write_done(kith_query_write *write) {
    write_run *run = (write_run *)(void *)((char *)write - offsetof(write_run, write));
    uint32_t done_count;
    bool may_go_on = parts_sort(run, &done_count) && done_count < run->part_count;
    run->again.run = write_go_on;
    bool is_alone = run->run.entry->replica_width == 1;
    if (is_alone && run->again_count > 0) may_go_on = false; /* nobody takes over */
    if (may_go_on &&
        kith_api_again_start(run->run.api, &run->again, run->call->call.deadline_ns, run->again_count++))
        return;
    write_answer(run);
}

static size_t call_bytes(const kith_api_write_call *call) {
    size_t bytes = (size_t)call->point_count * sizeof(kith_op_point);
    for (uint32_t i = 0; i < call->column_count; i++)
        bytes += call->columns[i].values_bytes;
    for (uint32_t i = 0; call->payloads && i < call->point_count; i++)
        bytes += call->payload_bytes[i];
    return bytes;
}

static kith_status write_enter(write_run *run, kith_api *api, kith_op_point **points_out, kith_err *err) {
    kith_api_write_call *call = run->call;
    kith_status status = kith_api_enter(api, &call->call, KITH_API_WRITE, call_bytes(call), call->collection,
        call->collection_bytes, &run->run, err);
    if (status != KITH_OK) return status;
    status = points_make(run, points_out, err);
    if (status != KITH_OK) kith_api_leave(&run->run);
    return status;
}

static kith_status write_start(kith_api *api, kith_api_write_call *call, kith_op_kind kind, kith_err *err) {
    write_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    run->kind = kind;
    kith_op_point *points;
    kith_status status = write_enter(run, api, &points, err);
    if (status != KITH_OK) {
        if (api->options.wrote) api->options.wrote(api->options.ctx, status, 0, 0);
        return status;
    }
    parts_make(run, points);
    run->write.request_id = call->request_id;
    run->write.done = write_done;
    write_send(run, 0);
    return KITH_OK;
}

kith_status kith_api_upsert(kith_api *api, kith_api_write_call *call, kith_err *err) {
    return write_start(api, call, KITH_OP_UPSERT, err);
}

kith_status kith_api_delete(kith_api *api, kith_api_write_call *call, kith_err *err) {
    return write_start(api, call, KITH_OP_DELETE, err);
}
