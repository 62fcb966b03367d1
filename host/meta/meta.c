#include "host/meta/meta.h"

#include <stdatomic.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/hazard.h"
#include "host/base/log.h"

struct kith_meta {
    kith_meta_options options;
    kith_meta_fsm fsm;
    kith_meta_log *log;
    kith_hazard_cell *maps; /* of kith_meta_map, each with one reference of the cell */
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

static kith_meta_map *map_make(kith_meta *meta, const kith_meta_map *previous) {
    const kith_meta_state *state = &meta->fsm.state;
    return kith_meta_map_create(state->map_version, &meta->options.node, 1,
        (const kith_collection *const *)state->collections, state->collection_count, previous);
}

static void map_publish(kith_meta *meta) {
    if (!meta->started) return; /* in replay: start publishes the first one */
    kith_hazard_publish(meta->maps, map_make(meta, kith_hazard_current(meta->maps)));
}

/* --- collections that are not wholly served --- */

/* Its place, or the count. */
static uint32_t unserved_find(const kith_meta *meta, uint64_t collection_id) {
    uint32_t at = 0;
    while (at < meta->unserved_count && meta->unserved[at] != collection_id)
        at++;
    return at;
}

static void unserved_add(kith_meta *meta, uint64_t collection_id) {
    if (unserved_find(meta, collection_id) < meta->unserved_count) return;
    if (meta->unserved_count == meta->unserved_capacity) {
        meta->unserved_capacity = meta->unserved_capacity ? 2 * meta->unserved_capacity : 4;
        meta->unserved = kith_realloc(meta->unserved, meta->unserved_capacity * sizeof *meta->unserved);
    }
    meta->unserved[meta->unserved_count++] = collection_id;
}

static void unserved_remove(kith_meta *meta, uint64_t collection_id) {
    uint32_t at = unserved_find(meta, collection_id);
    if (at == meta->unserved_count) return;
    meta->unserved[at] = meta->unserved[meta->unserved_count - 1];
    meta->unserved_count--;
}

bool kith_meta_serves_all(const kith_meta *meta) {
    return meta->unserved_count == 0;
}

/* --- commands --- */

static void shards_open(kith_meta *meta, const kith_collection *collection) {
    meta->applied_status = meta->options.created(meta->options.ctx, collection, &meta->applied_err);
    if (meta->applied_status == KITH_OK)
        unserved_remove(meta, collection->id);
    else
        unserved_add(meta, collection->id);
}

/* A repeat: what failed the last time is tried again. */
static void command_repeated(kith_meta *meta, const kith_collection *collection) {
    if (unserved_find(meta, collection->id) < meta->unserved_count) shards_open(meta, collection);
}

/* A created collection is shown only when its shards are open, a dropped one is hidden before they go. */
static void command_applied(void *ctx, kith_meta_result *result) {
    kith_meta *meta = ctx;
    meta->applied_status = KITH_OK;
    const kith_collection *collection = &result->collection;
    if (!result->changed) {
        if (result->status == KITH_OK) command_repeated(meta, collection);
        return;
    }
    bool exists = kith_meta_state_find(&meta->fsm.state, collection->name) != NULL;
    if (exists) {
        shards_open(meta, collection);
        map_publish(meta);
    } else {
        unserved_remove(meta, collection->id);
        map_publish(meta);
        meta->options.dropped(meta->options.ctx, collection);
    }
    if (!meta->started) return;
    kith_log_info(exists ? "collection_created" : "collection_dropped",
        kith_kv_text("name", collection->name), kith_kv_u64("id", collection->id),
        kith_kv_u64("map_version", meta->fsm.state.map_version));
}

kith_status kith_meta_open(const kith_meta_options *options, kith_meta **meta_out, kith_err *err) {
    kith_meta *meta = kith_alloc_zero(sizeof *meta);
    meta->options = *options;
    kith_meta_fsm_init(&meta->fsm);
    kith_meta_log_local_options log_options = {
        .env = options->env,
        .dir = options->dir,
        .executor = options->executor,
        .fsm = &meta->fsm,
        .applied = command_applied,
        .ctx = meta,
    };
    kith_status status = kith_meta_log_local_open(&log_options, &meta->log, err);
    if (status != KITH_OK) {
        kith_meta_fsm_fini(&meta->fsm);
        kith_free(meta);
        return status;
    }
    *meta_out = meta;
    return KITH_OK;
}

bool kith_meta_is_new(const kith_meta *meta) {
    return kith_meta_log_local_is_new(meta->log);
}

const kith_collection *kith_meta_collection_at(const kith_meta *meta, uint32_t index) {
    return index < meta->fsm.state.collection_count ? meta->fsm.state.collections[index] : NULL;
}

kith_status kith_meta_replay(kith_meta *meta, const kith_log_entry *entry, kith_err *err) {
    kith_status status = kith_meta_log_local_replay(meta->log, entry, err);
    if (status != KITH_OK || meta->applied_status == KITH_OK) return status;
    *err = meta->applied_err;
    return meta->applied_status;
}

kith_status kith_meta_start(kith_meta *meta, kith_store_log *log, kith_err *err) {
    kith_status status = kith_meta_log_local_start(meta->log, log, err);
    if (status != KITH_OK) return status;
    meta->maps = kith_hazard_create(map_make(meta, NULL), map_destroy);
    meta->started = true;
    return KITH_OK;
}

static void proposal_committed(kith_meta_log_proposal *log_proposal, kith_status status,
    const kith_meta_result *result, const kith_err *err) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)log_proposal - offsetof(kith_meta_proposal, log_proposal));
    kith_meta *meta = proposal->meta;
    kith_buf_fini(&proposal->bytes);
    if (status != KITH_OK) {
        proposal->done(proposal, status, NULL, false, err);
        return;
    }
    if (result->status != KITH_OK) {
        proposal->done(proposal, result->status, NULL, false, &result->err);
        return;
    }
    if (meta->applied_status != KITH_OK) {
        kith_err_wrap(&meta->applied_err, meta->applied_status,
            "collection \"%s\" was created but not all of its shards could be opened (create it again to try "
            "again)",
            result->collection.name);
        proposal->done(proposal, meta->applied_status, NULL, false, &meta->applied_err);
        return;
    }
    proposal->done(proposal, KITH_OK, &result->collection, result->changed, NULL);
}

static void proposal_run(kith_task *task) {
    kith_meta_proposal *proposal =
        (kith_meta_proposal *)(void *)((char *)task - offsetof(kith_meta_proposal, task));
    kith_buf_init(&proposal->bytes);
    kith_codec_meta_command_encode(&proposal->command, &proposal->bytes);
    proposal->log_proposal.bytes = proposal->bytes.data;
    proposal->log_proposal.byte_count = proposal->bytes.bytes;
    proposal->log_proposal.done = proposal_committed;
    kith_meta_log_propose(proposal->meta->log, &proposal->log_proposal);
}

void kith_meta_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    proposal->meta = meta;
    proposal->task = (kith_task){.run = proposal_run};
    kith_executor_post(meta->options.executor, &proposal->task);
}

kith_meta_map *kith_meta_map_get(kith_meta *meta) {
    uint32_t slot;
    kith_meta_map *map = kith_meta_map_acquire(kith_hazard_acquire(meta->maps, &slot));
    kith_hazard_release(meta->maps, slot);
    return map;
}

void kith_meta_close(kith_meta *meta) {
    if (!meta) return;
    kith_meta_log_close(meta->log);
    if (meta->maps) kith_hazard_destroy(meta->maps);
    kith_meta_fsm_fini(&meta->fsm);
    kith_free(meta->unserved);
    kith_free(meta);
}
