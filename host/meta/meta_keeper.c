#include "host/meta/meta_keeper.h"

#include <stdatomic.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"

struct kith_meta_keeper {
    kith_meta base;
    kith_meta_keeper_options options;
    kith_meta_fsm fsm;
    kith_meta_log *log;
    bool started;
    uint64_t *unserved; /* ids of collections whose shards could not all be opened */
    uint32_t unserved_capacity;
    _Atomic uint32_t
        unserved_count; /* written by the executor, read by any thread; says nothing of other memory */
    kith_status applied_status; /* what the hook said about the last command */
    kith_err applied_err;
};

static void map_destroy(void *map) {
    kith_meta_map_release(map);
}

static kith_meta_map *map_make(kith_meta_keeper *keeper, const kith_meta_map *previous) {
    return kith_meta_map_of(&keeper->fsm.state, &keeper->options.node, previous);
}

static void map_publish(kith_meta_keeper *keeper) {
    if (!keeper->started) return; /* in replay: start publishes the first one */
    kith_hazard_publish(keeper->base.maps, map_make(keeper, kith_hazard_current(keeper->base.maps)));
}

/* --- collections that are not wholly served --- */

/* Its place, or the count. */
static uint32_t unserved_find(const kith_meta_keeper *keeper, uint64_t collection_id) {
    uint32_t at = 0;
    while (at < keeper->unserved_count && keeper->unserved[at] != collection_id)
        at++;
    return at;
}

static void unserved_add(kith_meta_keeper *keeper, uint64_t collection_id) {
    if (unserved_find(keeper, collection_id) < keeper->unserved_count) return;
    if (keeper->unserved_count == keeper->unserved_capacity) {
        keeper->unserved_capacity = keeper->unserved_capacity ? 2 * keeper->unserved_capacity : 4;
        keeper->unserved =
            kith_realloc(keeper->unserved, keeper->unserved_capacity * sizeof *keeper->unserved);
    }
    keeper->unserved[keeper->unserved_count++] = collection_id;
}

static void unserved_remove(kith_meta_keeper *keeper, uint64_t collection_id) {
    uint32_t at = unserved_find(keeper, collection_id);
    if (at == keeper->unserved_count) return;
    keeper->unserved[at] = keeper->unserved[keeper->unserved_count - 1];
    keeper->unserved_count--;
}

/* --- commands --- */

static void shards_open(kith_meta_keeper *keeper, const kith_collection *collection) {
    keeper->applied_status = keeper->options.created(keeper->options.ctx, collection, &keeper->applied_err);
    if (keeper->applied_status == KITH_OK)
        unserved_remove(keeper, collection->id);
    else
        unserved_add(keeper, collection->id);
}

/* A repeat: what failed the last time is tried again. */
static void command_repeated(kith_meta_keeper *keeper, const kith_collection *collection) {
    if (unserved_find(keeper, collection->id) < keeper->unserved_count) shards_open(keeper, collection);
}

/* A created collection is shown only when its shards are open, a dropped one is hidden before they go. */
static void command_applied(void *ctx, kith_meta_result *result) {
    kith_meta_keeper *keeper = ctx;
    keeper->applied_status = KITH_OK;
    const kith_collection *collection = &result->collection;
    if (!result->changed) {
        if (result->status == KITH_OK) command_repeated(keeper, collection);
        return;
    }
    if (!kith_meta_result_of_collection(result)) {
        map_publish(keeper);
        return;
    }
    bool exists = kith_meta_state_find(&keeper->fsm.state, collection->name) != NULL;
    if (exists) {
        shards_open(keeper, collection);
        map_publish(keeper);
    } else {
        unserved_remove(keeper, collection->id);
        map_publish(keeper);
        keeper->options.dropped(keeper->options.ctx, collection);
    }
    if (!keeper->started) return;
    kith_log_info(exists ? "collection_created" : "collection_dropped",
        kith_kv_text("name", collection->name), kith_kv_u64("id", collection->id),
        kith_kv_u64("map_version", keeper->fsm.state.map_version));
}

static void proposal_committed(kith_meta_log_proposal *log_proposal, kith_status status,
    const kith_meta_result *result, const kith_err *err) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)log_proposal - offsetof(kith_meta_proposal, log_proposal));
    kith_meta_keeper *keeper = (kith_meta_keeper *)proposal->meta;
    kith_buf_fini(&proposal->bytes);
    if (status != KITH_OK) {
        proposal->done(proposal, status, NULL, false, err);
        return;
    }
    if (result->status != KITH_OK) {
        proposal->done(proposal, result->status, NULL, false, &result->err);
        return;
    }
    if (keeper->applied_status != KITH_OK) {
        kith_err_wrap(&keeper->applied_err, keeper->applied_status,
            "collection \"%s\" was created but not all of its shards could be opened (create it again to try "
            "again)",
            result->collection.name);
        proposal->done(proposal, keeper->applied_status, NULL, false, &keeper->applied_err);
        return;
    }
    proposal->done(proposal, KITH_OK, &result->collection, result->answer_changed, NULL);
}

static void proposal_run(kith_task *task) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)task - offsetof(kith_meta_proposal, task));
    kith_buf_init(&proposal->bytes);
    kith_codec_meta_command_encode(&proposal->command, &proposal->bytes);
    proposal->log_proposal.bytes = proposal->bytes.data;
    proposal->log_proposal.byte_count = proposal->bytes.bytes;
    proposal->log_proposal.done = proposal_committed;
    kith_meta_log_propose(((kith_meta_keeper *)proposal->meta)->log, &proposal->log_proposal);
}

static void keeper_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    proposal->meta = meta;
    proposal->task = (kith_task){.run = proposal_run};
    kith_executor_post(((kith_meta_keeper *)meta)->options.executor, &proposal->task);
}

/* What is kept here is the newest there is. */
static void wait_run(kith_task *task) {
    kith_meta_wait *wait = (kith_meta_wait *)(void *)((char *)task - offsetof(kith_meta_wait, task));
    kith_meta_keeper *keeper = (kith_meta_keeper *)wait->meta;
    if (wait->map_version == KITH_META_NEWEST || keeper->fsm.state.map_version >= wait->map_version) {
        wait->done(wait, KITH_OK, NULL);
        return;
    }
    kith_err err;
    kith_status status = kith_err_set(
        &err, KITH_UNAVAILABLE, "map version %llu is not known here", (unsigned long long)wait->map_version);
    wait->done(wait, status, &err);
}

static void keeper_wait(kith_meta *meta, kith_meta_wait *wait) {
    wait->meta = meta;
    wait->task = (kith_task){.run = wait_run};
    kith_executor_post(((kith_meta_keeper *)meta)->options.executor, &wait->task);
}

static bool keeper_serves_all(const kith_meta *meta) {
    return ((const kith_meta_keeper *)meta)->unserved_count == 0;
}

static const kith_meta_ops keeper_ops = {
    .propose = keeper_propose, .wait = keeper_wait, .serves_all = keeper_serves_all};

kith_status kith_meta_keeper_open(
    const kith_meta_keeper_options *options, kith_meta_keeper **keeper_out, kith_err *err) {
    kith_meta_keeper *keeper = kith_alloc_zero(sizeof *keeper);
    keeper->base.ops = &keeper_ops;
    keeper->options = *options;
    kith_meta_fsm_init(&keeper->fsm);
    kith_meta_log_local_options log_options = {
        .env = options->env,
        .dir = options->dir,
        .executor = options->executor,
        .fsm = &keeper->fsm,
        .applied = command_applied,
        .ctx = keeper,
    };
    kith_status status = kith_meta_log_local_open(&log_options, &keeper->log, err);
    if (status != KITH_OK) {
        kith_meta_fsm_fini(&keeper->fsm);
        kith_free(keeper);
        return status;
    }
    *keeper_out = keeper;
    return KITH_OK;
}

kith_meta *kith_meta_keeper_meta(kith_meta_keeper *keeper) {
    return &keeper->base;
}

bool kith_meta_keeper_is_new(const kith_meta_keeper *keeper) {
    return kith_meta_log_local_is_new(keeper->log);
}

const kith_collection *kith_meta_keeper_collection_at(const kith_meta_keeper *keeper, uint32_t index) {
    const kith_meta_state *state = &keeper->fsm.state;
    return index < state->collection_count ? &state->collections[index]->collection : NULL;
}

kith_status kith_meta_keeper_replay(kith_meta_keeper *keeper, const kith_log_entry *entry, kith_err *err) {
    kith_status status = kith_meta_log_local_replay(keeper->log, entry, err);
    if (status != KITH_OK || keeper->applied_status == KITH_OK) return status;
    *err = keeper->applied_err;
    return keeper->applied_status;
}

kith_status kith_meta_keeper_start(kith_meta_keeper *keeper, kith_store_log *log, kith_err *err) {
    kith_status status = kith_meta_log_local_start(keeper->log, log, err);
    if (status != KITH_OK) return status;
    keeper->base.maps = kith_hazard_create(map_make(keeper, NULL), map_destroy);
    keeper->started = true;
    return KITH_OK;
}

void kith_meta_keeper_close(kith_meta_keeper *keeper) {
    if (!keeper) return;
    kith_meta_log_close(keeper->log);
    if (keeper->base.maps) kith_hazard_destroy(keeper->base.maps);
    kith_meta_fsm_fini(&keeper->fsm);
    kith_free(keeper->unserved);
    kith_free(keeper);
}
