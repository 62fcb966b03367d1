/* The node's shards. A lock, not a message, guards the table: every request looks a shard up from its own
 * thread and must not wait for another one's queue; it is held for a probe and a count.
 *
 * A shard has one hold for being in the table and one for each finder. Who takes the last one begins its
 * close. */
#include "host/shard/shard_set.h"

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/map.h"
#include "host/base/thread.h"
#include "host/shard/shard_eraser.h"
#include "host/shard/shard_internal.h"

typedef struct set_entry {
    kith_shard_set *set;
    uint64_t shard_id;
    kith_shard *shard;
    uint32_t holds; /* under the lock */
    bool started;
    bool erase;
    void (*dropped)(void *ctx, kith_status status, const kith_err *err);
    void *dropped_ctx;
    shard_erasure erasure;
} set_entry;

struct kith_shard_set {
    kith_shard_node *node;
    shard_eraser *eraser;
    void (*opened)(void *ctx, uint64_t shard_id, kith_shard *shard); /* may be NULL */
    void *opened_ctx;
    kith_mutex mutex;
    bool recovered;         /* a start was complete */
    kith_map *by_id;        /* shard id -> set_entry; those in the table */
    kith_map *by_shard;     /* address -> set_entry; also those held past their drop */
    kith_map *busy;         /* shard id -> drops that have not ended, and reservations */
    uint32_t closing_count; /* shards whose close has not ended, and one while close() runs */
    void (*closed)(void *ctx);
    void *closed_ctx;
    kith_task closed_task;
};

kith_shard_set *kith_shard_set_create(kith_shard_node *node) {
    kith_shard_set *set = kith_alloc_zero(sizeof *set);
    set->node = node;
    set->eraser = shard_eraser_create(node);
    node->notes = shard_notes_create();
    kith_mutex_init(&set->mutex, KITH_RANK_SHARD_SET);
    set->by_id = kith_map_create(64);
    set->by_shard = kith_map_create(64);
    set->busy = kith_map_create(16);
    return set;
}

void kith_shard_set_on_open(
    kith_shard_set *set, void (*opened)(void *ctx, uint64_t shard_id, kith_shard *shard), void *ctx) {
    set->opened = opened;
    set->opened_ctx = ctx;
}

/* --- table --- */

static set_entry *find_locked(kith_shard_set *set, uint64_t shard_id) {
    uint64_t found;
    return kith_map_get(set->by_id, &shard_id, sizeof shard_id, &found) ? (set_entry *)(uintptr_t)found
                                                                        : NULL;
}

static set_entry *of_shard_locked(kith_shard_set *set, const kith_shard *shard) {
    uint64_t found;
    bool there = kith_map_get(set->by_shard, &shard, sizeof shard, &found);
    kith_assert(there);
    return (set_entry *)(uintptr_t)found;
}

static uint64_t busy_locked(const kith_shard_set *set, uint64_t shard_id) {
    uint64_t count;
    return kith_map_get(set->busy, &shard_id, sizeof shard_id, &count) ? count : 0;
}

static void busy_add_locked(kith_shard_set *set, uint64_t shard_id) {
    kith_map_put(set->busy, &shard_id, sizeof shard_id, busy_locked(set, shard_id) + 1);
}

static void busy_end(kith_shard_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    uint64_t count = busy_locked(set, shard_id);
    kith_assert(count > 0);
    if (count > 1)
        kith_map_put(set->busy, &shard_id, sizeof shard_id, count - 1);
    else
        kith_map_remove(set->busy, &shard_id, sizeof shard_id);
    kith_mutex_unlock(&set->mutex);
}

static void insert(kith_shard_set *set, uint64_t shard_id, kith_shard *shard) {
    set_entry *entry = kith_alloc_zero(sizeof *entry);
    *entry = (set_entry){.set = set, .shard_id = shard_id, .shard = shard, .holds = 1};
    kith_mutex_lock(&set->mutex);
    kith_map_put(set->by_id, &shard_id, sizeof shard_id, (uintptr_t)entry);
    kith_map_put(set->by_shard, &shard, sizeof shard, (uintptr_t)entry);
    kith_mutex_unlock(&set->mutex);
}

static kith_status set_open(kith_shard_set *set, uint64_t shard_id, const kith_schema *schema,
    bool replicated, uint64_t reservations, kith_err *err) {
    kith_shard *shard;
    kith_mutex_lock(&set->mutex);
    bool is_open = find_locked(set, shard_id) != NULL;
    bool is_busy = busy_locked(set, shard_id) > reservations;
    kith_mutex_unlock(&set->mutex);
    if (is_busy) {
        return kith_err_set(err, KITH_UNAVAILABLE, "what was shard %llu here before is still being erased",
            (unsigned long long)shard_id);
    }
    if (is_open) return kith_err_set(err, KITH_EXISTS, "shard %llu is open", (unsigned long long)shard_id);
    kith_status status = kith_shard_open(
        &(kith_shard_options){
            .node = set->node, .shard_id = shard_id, .schema = schema, .replicated = replicated},
        &shard, err);
    if (status != KITH_OK) return status;
    insert(set, shard_id, shard);
    if (set->opened) set->opened(set->opened_ctx, shard_id, shard);
    return KITH_OK;
}

kith_status kith_shard_set_open(
    kith_shard_set *set, uint64_t shard_id, const kith_schema *schema, bool replicated, kith_err *err) {
    return set_open(set, shard_id, schema, replicated, 0, err);
}

bool kith_shard_set_is_busy(kith_shard_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    bool is_busy = busy_locked(set, shard_id) > 0;
    kith_mutex_unlock(&set->mutex);
    return is_busy;
}

void kith_shard_set_reserve(kith_shard_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    busy_add_locked(set, shard_id);
    kith_mutex_unlock(&set->mutex);
}

kith_status kith_shard_set_open_reserved(
    kith_shard_set *set, uint64_t shard_id, const kith_schema *schema, bool replicated, kith_err *err) {
    return set_open(set, shard_id, schema, replicated, 1, err);
}

void kith_shard_set_unreserve(kith_shard_set *set, uint64_t shard_id) {
    busy_end(set, shard_id);
}

static kith_shard *replaying_find(kith_shard_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    set_entry *found = find_locked(set, shard_id);
    kith_shard *shard = found ? found->shard : NULL;
    kith_mutex_unlock(&set->mutex);
    return shard;
}

static kith_status noted(void *ctx, uint64_t shard_id, uint64_t committed, kith_err *err) {
    kith_shard *shard = replaying_find(ctx, shard_id);
    return shard && shard->replicated ? shard_replica_replay_committed(shard, committed, err) : KITH_OK;
}

kith_status kith_shard_set_replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    kith_shard_set *set = ctx;
    if (entry->stream == KITH_LOG_STREAM_NOTES)
        return shard_notes_replay(set->node->notes, entry, noted, set, err);
    kith_shard *shard = replaying_find(set, entry->stream);
    return shard ? kith_shard_replay(shard, entry, err) : KITH_OK;
}

static set_entry **unstarted_all(kith_shard_set *set, uint32_t *count_out) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t value;
    uint32_t count = 0;
    kith_mutex_lock(&set->mutex);
    set_entry **entries = kith_alloc_array(kith_map_count(set->by_id) + 1, sizeof(set_entry *));
    while (kith_map_next(set->by_id, &cursor, &key, &key_bytes, &value)) {
        set_entry *entry = (set_entry *)(uintptr_t)value;
        if (!entry->started) entries[count++] = entry;
    }
    kith_mutex_unlock(&set->mutex);
    *count_out = count;
    return entries;
}

static kith_shard *unstarted_find(void *ctx, uint64_t shard_id) {
    kith_shard_set *set = ctx;
    kith_mutex_lock(&set->mutex);
    set_entry *entry = find_locked(set, shard_id);
    kith_shard *shard = entry && !entry->started ? entry->shard : NULL;
    kith_mutex_unlock(&set->mutex);
    return shard;
}

static kith_status entry_start(kith_shard_set *set, set_entry *entry, kith_err *err) {
    kith_status status = kith_shard_start(entry->shard, err);
    if (status != KITH_OK) return status;
    kith_mutex_lock(&set->mutex);
    entry->started = true;
    kith_mutex_unlock(&set->mutex);
    return KITH_OK;
}

/* Once: later starts find notes of this life in the log. */
static void notes_replayed(kith_shard_set *set) {
    if (set->recovered) return;
    set->recovered = true;
    shard_notes_replayed(set->node->notes, set->node->log);
}

kith_status kith_shard_set_start(kith_shard_set *set, kith_err *err) {
    uint32_t count;
    kith_status status = KITH_OK;
    set_entry **entries = unstarted_all(set, &count);
    if (count > 0) shard_unnamed_files_remove(set->node, unstarted_find, set);
    for (uint32_t i = 0; status == KITH_OK && i < count; i++)
        status = entry_start(set, entries[i], err);
    kith_free(entries);
    if (status == KITH_OK) notes_replayed(set);
    return status;
}

uint32_t kith_shard_set_count(kith_shard_set *set) {
    kith_mutex_lock(&set->mutex);
    uint32_t count = (uint32_t)kith_map_count(set->by_id);
    kith_mutex_unlock(&set->mutex);
    return count;
}

/* --- closing one --- */

static void closed_run(kith_task *task) {
    kith_shard_set *set = (kith_shard_set *)((char *)task - offsetof(kith_shard_set, closed_task));
    set->closed(set->closed_ctx);
}

static void closing_end(kith_shard_set *set) {
    kith_mutex_lock(&set->mutex);
    bool last = --set->closing_count == 0 && set->closed;
    kith_mutex_unlock(&set->mutex);
    if (!last) return;
    set->closed_task.run = closed_run;
    kith_executor_post(set->node->owner, &set->closed_task);
}

static void erased(shard_erasure *erasure, kith_status status, const kith_err *err) {
    set_entry *entry = (set_entry *)((char *)erasure - offsetof(set_entry, erasure));
    kith_shard_set *set = entry->set;
    busy_end(set, entry->shard_id);
    entry->dropped(entry->dropped_ctx, status, err);
    kith_free(entry);
    closing_end(set);
}

static void entry_erase(set_entry *entry) {
    entry->erasure = (shard_erasure){.shard_id = entry->shard_id, .done = erased};
    shard_eraser_add(entry->set->eraser, &entry->erasure);
}

static void entry_closed(void *ctx) {
    set_entry *entry = ctx;
    kith_shard_set *set = entry->set;
    kith_shard_destroy(entry->shard);
    if (entry->erase) {
        entry_erase(entry);
        return;
    }
    kith_free(entry);
    closing_end(set);
}

static void hold_release(kith_shard_set *set, set_entry *entry) {
    kith_mutex_lock(&set->mutex);
    bool last = --entry->holds == 0;
    if (last) kith_map_remove(set->by_shard, &entry->shard, sizeof entry->shard);
    kith_mutex_unlock(&set->mutex);
    if (last) kith_shard_close(entry->shard, entry_closed, entry);
}

/* --- finding --- */

kith_shard *kith_shard_set_find(kith_shard_set *set, uint64_t shard_id) {
    kith_mutex_lock(&set->mutex);
    set_entry *entry = find_locked(set, shard_id);
    kith_shard *shard = entry && entry->started ? entry->shard : NULL;
    if (shard) entry->holds++;
    kith_mutex_unlock(&set->mutex);
    return shard;
}

void kith_shard_set_release(kith_shard_set *set, kith_shard *shard) {
    kith_mutex_lock(&set->mutex);
    set_entry *entry = of_shard_locked(set, shard);
    kith_mutex_unlock(&set->mutex);
    hold_release(set, entry);
}

static set_entry **hold_all(kith_shard_set *set, uint32_t *count_out) {
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t value;
    uint32_t count = 0;
    kith_mutex_lock(&set->mutex);
    set_entry **entries = kith_alloc_array(kith_map_count(set->by_id) + 1, sizeof(set_entry *));
    while (kith_map_next(set->by_id, &cursor, &key, &key_bytes, &value)) {
        set_entry *entry = (set_entry *)(uintptr_t)value;
        if (!entry->started) continue;
        entry->holds++;
        entries[count++] = entry;
    }
    kith_mutex_unlock(&set->mutex);
    *count_out = count;
    return entries;
}

void kith_shard_set_each(
    kith_shard_set *set, void (*each)(void *ctx, uint64_t shard_id, kith_shard *shard), void *ctx) {
    uint32_t count;
    set_entry **entries = hold_all(set, &count);
    for (uint32_t i = 0; i < count; i++) {
        each(ctx, entries[i]->shard_id, entries[i]->shard);
        hold_release(set, entries[i]);
    }
    kith_free(entries);
}

/* --- drop and close --- */

void kith_shard_set_drop(kith_shard_set *set, uint64_t shard_id,
    void (*done)(void *ctx, kith_status status, const kith_err *err), void *ctx) {
    kith_mutex_lock(&set->mutex);
    set_entry *entry = find_locked(set, shard_id);
    if (entry) kith_map_remove(set->by_id, &shard_id, sizeof shard_id);
    busy_add_locked(set, shard_id);
    set->closing_count++;
    kith_mutex_unlock(&set->mutex);
    bool was_open = entry != NULL;
    if (!was_open) {
        entry = kith_alloc_zero(sizeof *entry);
        *entry = (set_entry){.set = set, .shard_id = shard_id};
    }
    entry->erase = true;
    entry->dropped = done;
    entry->dropped_ctx = ctx;
    if (was_open)
        hold_release(set, entry);
    else
        entry_erase(entry);
}

void kith_shard_set_close(kith_shard_set *set, void (*closed)(void *ctx), void *ctx) {
    set_entry *entry;
    kith_mutex_lock(&set->mutex);
    set->closing_count++;
    set->closed = closed;
    set->closed_ctx = ctx;
    kith_mutex_unlock(&set->mutex);
    do {
        size_t cursor = 0, key_bytes;
        const void *key;
        uint64_t value;
        kith_mutex_lock(&set->mutex);
        entry = kith_map_next(set->by_id, &cursor, &key, &key_bytes, &value) ? (set_entry *)(uintptr_t)value
                                                                             : NULL;
        if (entry) {
            kith_map_remove(set->by_id, &entry->shard_id, sizeof entry->shard_id);
            set->closing_count++;
        }
        kith_mutex_unlock(&set->mutex);
        if (entry) hold_release(set, entry);
    } while (entry);
    shard_eraser_end(set->eraser);
    closing_end(set);
}

void kith_shard_set_destroy(kith_shard_set *set) {
    if (!set) return;
    size_t cursor = 0, key_bytes;
    const void *key;
    uint64_t value;
    while (kith_map_next(set->by_id, &cursor, &key, &key_bytes, &value)) {
        set_entry *entry = (set_entry *)(uintptr_t)value;
        kith_shard_destroy(entry->shard);
        kith_free(entry);
    }
    kith_map_destroy(set->by_id);
    kith_map_destroy(set->by_shard);
    kith_map_destroy(set->busy);
    shard_eraser_destroy(set->eraser);
    shard_notes_release(set->node->notes);
    set->node->notes = NULL;
    kith_mutex_fini(&set->mutex);
    kith_free(set);
}
