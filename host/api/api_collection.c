/* Collections: create, get, list, update, delete. Infos carry statistics that the shards are asked for one collection after the
 * other, so that a list of thousands puts one message at a time on the network. */
#include <string.h>

#include "host/api/api_internal.h"

typedef struct collection_run {
    kith_api_run run;
    kith_api_collection_call *call;
    kith_meta_proposal proposal;
    kith_query_count count;
    kith_api_refresh refresh;
    kith_task task;
    kith_api_collection_info *infos;
    uint32_t info_count, info_at;
    const kith_meta_entry **entries; /* [info_count], of the run's map */
} collection_run;

static void collection_answer(collection_run *run, kith_status status, uint32_t count, const kith_err *err) {
    kith_api_collection_call *call = run->call;
    const kith_api_collection_info *infos = status == KITH_OK ? run->infos : NULL;
    kith_api_run entered = kith_api_answer(&run->run);
    call->done(call, status, infos, status == KITH_OK ? count : 0, err);
    kith_api_leave(&entered);
}

/* --- statistics --- */

static void info_next(collection_run *run);

static void info_counted(kith_query_count *count, kith_status status, const kith_err *err) {
    collection_run *run = (collection_run *)(void *)((char *)count - offsetof(collection_run, count));
    kith_api_collection_info *info = &run->infos[run->info_at];
    info->points = count->points;
    info->segments = count->segments;
    info->segments_sealed = count->segments_sealed;
    info->vector_bytes = count->vector_bytes;
    /* A collection none of whose shards answers is still there: its info says what is wrong. */
    info->health = status == KITH_OK ? count->health
                                     : kith_arena_text(run->call->call.arena, err->text, strlen(err->text));
    run->info_at++;
    info_next(run);
}

/* Not a recursion: each reply comes on a stack of its own. */
static void info_next(collection_run *run) {
    if (run->info_at == run->info_count) {
        collection_answer(run, KITH_OK, run->info_count, NULL);
        return;
    }
    const kith_meta_entry *entry = run->entries[run->info_at];
    run->infos[run->info_at] = (kith_api_collection_info){.collection = entry->collection};
    run->run.entry = entry;
    run->count =
        (kith_query_count){.base = kith_api_query_base(&run->run, &run->call->call), .done = info_counted};
    kith_query_count_start(&run->count);
}

static void infos_prepare(collection_run *run, uint32_t count) {
    kith_arena *arena = run->call->call.arena;
    run->info_count = count;
    run->infos = kith_arena_array(arena, count, sizeof *run->infos);
    run->entries = kith_arena_array(arena, count, sizeof *run->entries);
}

static void empty_run(kith_task *task) {
    collection_run *run = (collection_run *)(void *)((char *)task - offsetof(collection_run, task));
    collection_answer(run, KITH_OK, 0, NULL);
}

/* Nothing to ask anyone; `done` still never runs inside the call. */
static void empty_answer(collection_run *run) {
    run->task.run = empty_run;
    kith_executor_post(run->run.api->options.executor, &run->task);
}

/* --- create, update and delete --- */

/* The collection as the newest map has it, with its statistics; `collection` where it was dropped meanwhile. */
static void proposed_answer(collection_run *run, const kith_collection *collection) {
    /* The map that shows it was published before this. */
    kith_meta_map_release(run->run.map);
    run->run.map = kith_meta_map_get(run->run.api->options.meta);
    infos_prepare(run, 1);
    run->entries[0] = kith_meta_map_find(run->run.map, collection->name, strlen(collection->name));
    if (run->entries[0]) {
        info_next(run);
        return;
    }
    run->infos[0] = (kith_api_collection_info){.collection = *collection, .health = "ok"};
    collection_answer(run, KITH_OK, 1, NULL);
}

static void created(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    collection_run *run = (collection_run *)(void *)((char *)proposal - offsetof(collection_run, proposal));
    if (status != KITH_OK) {
        collection_answer(run, status, 0, err);
        return;
    }
    run->call->existed = !changed;
    proposed_answer(run, collection);
}

static uint32_t min_in_sync_usual(uint32_t replication_factor) {
    return (replication_factor + 1) / 2;
}

/* Numbers as they would be; those that were not said are the usual ones already. */
static kith_status replicas_check(
    const kith_api *api, uint32_t replication_factor, uint32_t min_in_sync, kith_err *err) {
    if (replication_factor > 1 && !api->options.meta->is_remote) {
        return kith_err_set(err, KITH_INVALID,
            "replication_factor %u is not 1: a standalone server has one copy of each shard",
            replication_factor);
    }
    if (replication_factor > KITH_REPLICAS_MAX) {
        return kith_err_set(err, KITH_INVALID, "replication_factor %u is not in 1..%u", replication_factor,
            KITH_REPLICAS_MAX);
    }
    if (min_in_sync <= replication_factor) return KITH_OK;
    return kith_err_set(err, KITH_INVALID, "min_in_sync %u is not in 1..%u, the replication_factor",
        min_in_sync, replication_factor);
}

static kith_status durability_check(const kith_api *api, kith_durability durability, kith_err *err) {
    if (durability == KITH_DURABILITY_UNSAID) return KITH_OK;
    if (!kith_durability_name(durability)) {
        return kith_err_set(err, KITH_INVALID,
            "durability %d is unknown; sync (%d) and async (%d) are allowed", (int)durability,
            KITH_DURABILITY_SYNC, KITH_DURABILITY_ASYNC);
    }
    if (durability != KITH_DURABILITY_ASYNC || api->options.meta->is_remote) return KITH_OK;
    return kith_err_set(err, KITH_INVALID,
        "durability async is not sync: on a standalone server there is no other copy to have a write before "
        "the disk has it; say sync, or use a cluster");
}

/* Wanted and known agree where something is wanted. */
static bool replicas_are(const kith_collection *known, const kith_api_collection_call *call) {
    uint32_t least = known->min_in_sync ? known->min_in_sync : min_in_sync_usual(known->replication_factor);
    return (call->replication_factor == 0 || call->replication_factor == known->replication_factor) &&
           (call->min_in_sync == 0 || call->min_in_sync == least) &&
           (call->durability == KITH_DURABILITY_UNSAID ||
               (call->durability == KITH_DURABILITY_ASYNC) == (known->durability == KITH_DURABILITY_ASYNC));
}

static kith_status create_check(const kith_api *api, const kith_api_collection_call *call, kith_err *err) {
    kith_status status = kith_name_check("collection name", call->name, call->name_bytes, false, err);
    if (status == KITH_OK) status = kith_schema_check(&call->schema, err);
    uint32_t replication_factor = call->replication_factor ? call->replication_factor : 1;
    if (status == KITH_OK) status = replicas_check(api, replication_factor, call->min_in_sync, err);
    if (status == KITH_OK) status = durability_check(api, call->durability, err);
    if (status != KITH_OK) return status;
    if (call->shard_count <= KITH_SHARDS_MAX) return KITH_OK;
    return kith_err_set(
        err, KITH_INVALID, "shard_count %u is not in 1..%u (0: 1)", call->shard_count, KITH_SHARDS_MAX);
}

static void command_name_set(kith_codec_meta_command *command, const char *name, size_t name_bytes) {
    memcpy(command->collection.name, name, name_bytes); /* at most KITH_NAME_BYTES_MAX, and zeroed before */
    command->collection.name[name_bytes] = 0;
}

static kith_status enter(kith_api *api, kith_api_collection_call *call, kith_api_class class, bool find,
    collection_run **run_out, kith_err *err) {
    collection_run *run = kith_arena_alloc_zero(call->call.arena, sizeof *run);
    run->call = call;
    kith_status status = kith_api_enter(
        api, &call->call, class, 0, find ? call->name : NULL, find ? call->name_bytes : 0, &run->run, err);
    if (status == KITH_OK) *run_out = run;
    return status;
}

kith_status kith_api_collection_create(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    collection_run *run;
    kith_status status = create_check(api, call, err);
    if (status == KITH_OK) status = enter(api, call, KITH_API_WRITE, false, &run, err);
    if (status != KITH_OK) return status;
    const kith_meta_entry *known = kith_meta_map_find(run->run.map, call->name, call->name_bytes);
    /* No shard_count is whatever there is, so that the same call can be repeated after the default has changed. */
    uint32_t shard_count = call->shard_count ? call->shard_count : known ? known->collection.shard_count : 1;
    /* In a cluster the leader says so: this node's map may be older than a change that another one has answered. */
    bool is_certain = !api->options.meta->is_remote && kith_meta_serves_all(api->options.meta);
    bool same = known && is_certain && known->collection.shard_count == shard_count &&
                replicas_are(&known->collection, call) &&
                kith_meta_schema_equal(&known->collection.schema, &call->schema);
    if (same) { /* and its shards are open: no command needed, so it works on a full disk too */
        call->existed = true;
        infos_prepare(run, 1);
        run->entries[0] = known;
        info_next(run);
        return KITH_OK;
    }
    run->proposal.command.kind = KITH_CODEC_META_CREATE_COLLECTION;
    command_name_set(&run->proposal.command, call->name, call->name_bytes);
    run->proposal.command.collection.schema = call->schema;
    run->proposal.command.collection.shard_count = shard_count;
    run->proposal.command.collection.replication_factor = call->replication_factor;
    run->proposal.command.collection.min_in_sync = call->min_in_sync;
    run->proposal.command.collection.durability = call->durability;
    run->proposal.command.collection.created_wall_ms = kith_env_wall_ms(api->options.env);
    run->proposal.deadline_ns = call->call.deadline_ns;
    run->proposal.done = created;
    kith_meta_propose(api->options.meta, &run->proposal);
    return KITH_OK;
}

static void updated(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    collection_run *run = (collection_run *)(void *)((char *)proposal - offsetof(collection_run, proposal));
    if (status != KITH_OK) {
        collection_answer(run, status, 0, err);
        return;
    }
    run->call->changed = changed;
    proposed_answer(run, collection);
}

/* What is not said is for the leader to fit: fewer copies lower min_in_sync. */
static kith_status update_check(const collection_run *run, kith_err *err) {
    const kith_api_collection_call *call = run->call;
    uint32_t factor_most = run->run.api->options.meta->is_remote ? KITH_REPLICAS_MAX : 1;
    uint32_t factor = call->replication_factor ? call->replication_factor : factor_most;
    kith_status status = replicas_check(run->run.api, factor, call->min_in_sync, err);
    return status == KITH_OK ? durability_check(run->run.api, call->durability, err) : status;
}

kith_status kith_api_collection_update(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    collection_run *run;
    kith_status status = enter(api, call, KITH_API_WRITE, true, &run, err);
    if (status != KITH_OK) return status;
    status = update_check(run, err);
    if (status != KITH_OK) {
        kith_api_leave(&run->run);
        return status;
    }
    call->changed = false;
    const kith_collection *known = &run->run.entry->collection;
    if (replicas_are(known, call) && !api->options.meta->is_remote) {
        infos_prepare(run, 1);
        run->entries[0] = run->run.entry;
        info_next(run);
        return KITH_OK;
    }
    run->proposal.command.kind = KITH_CODEC_META_UPDATE_COLLECTION;
    run->proposal.command.collection.id = known->id;
    command_name_set(&run->proposal.command, call->name, call->name_bytes);
    run->proposal.command.collection.replication_factor = call->replication_factor;
    run->proposal.command.collection.min_in_sync = call->min_in_sync;
    run->proposal.command.collection.durability = call->durability;
    run->proposal.deadline_ns = call->call.deadline_ns;
    run->proposal.done = updated;
    kith_meta_propose(api->options.meta, &run->proposal);
    return KITH_OK;
}

kith_status kith_api_collection_get(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    collection_run *run;
    kith_status status = enter(api, call, KITH_API_READ, true, &run, err);
    if (status != KITH_OK) return status;
    infos_prepare(run, 1);
    run->entries[0] = run->run.entry;
    info_next(run);
    return KITH_OK;
}

kith_status kith_api_collection_list(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    collection_run *run;
    kith_status status = enter(api, call, KITH_API_READ, false, &run, err);
    if (status != KITH_OK) return status;
    infos_prepare(run, run->run.map->entry_count);
    for (uint32_t i = 0; i < run->info_count; i++)
        run->entries[i] = run->run.map->entries[i];
    if (run->info_count)
        info_next(run);
    else
        empty_answer(run);
    return KITH_OK;
}

static void drop_refreshed(kith_api_refresh *refresh);

/* True: the newest map is looked at, once. This node's may lack a collection that another one has created a moment ago, or have an
 * older one of that name. */
static bool drop_refreshes(collection_run *run) {
    if (run->refresh.done) return false;
    run->refresh = (kith_api_refresh){.deadline_ns = run->call->call.deadline_ns, .done = drop_refreshed};
    return kith_api_refresh_start(run->run.api, &run->refresh);
}

static void drop_not_found(collection_run *run) {
    kith_err err;
    if (run->call->missing_ok) {
        collection_answer(run, KITH_OK, 0, NULL);
        return;
    }
    kith_status status =
        kith_err_set(&err, KITH_NOT_FOUND, "collection \"%s\" does not exist", run->call->name);
    collection_answer(run, status, 0, &err);
}

static void dropped(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    (void)collection;
    (void)changed;
    collection_run *run = (collection_run *)(void *)((char *)proposal - offsetof(collection_run, proposal));
    if (status != KITH_NOT_FOUND)
        collection_answer(run, status, 1, err);
    else if (!drop_refreshes(run))
        drop_not_found(run);
}

static void drop_start(collection_run *run, const kith_meta_entry *known) {
    run->proposal = (kith_meta_proposal){.command.kind = KITH_CODEC_META_DROP_COLLECTION,
        .command.collection.id = known->collection.id,
        .deadline_ns = run->call->call.deadline_ns,
        .done = dropped};
    command_name_set(&run->proposal.command, run->call->name, run->call->name_bytes);
    kith_meta_propose(run->run.api->options.meta, &run->proposal);
}

static void drop_refreshed(kith_api_refresh *refresh) {
    collection_run *run = (collection_run *)(void *)((char *)refresh - offsetof(collection_run, refresh));
    kith_meta_map_release(run->run.map);
    run->run.map = kith_meta_map_get(run->run.api->options.meta);
    const kith_meta_entry *known = kith_meta_map_find(run->run.map, run->call->name, run->call->name_bytes);
    if (known)
        drop_start(run, known);
    else
        drop_not_found(run);
}

kith_status kith_api_collection_delete(kith_api *api, kith_api_collection_call *call, kith_err *err) {
    collection_run *run;
    kith_status status = kith_name_check("collection name", call->name, call->name_bytes, false, err);
    if (status == KITH_OK) status = enter(api, call, KITH_API_WRITE, !call->missing_ok, &run, err);
    if (status != KITH_OK) return status;
    const kith_meta_entry *known = kith_meta_map_find(run->run.map, call->name, call->name_bytes);
    if (known)
        drop_start(run, known);
    else if (!drop_refreshes(run))
        empty_answer(run);
    return KITH_OK;
}
