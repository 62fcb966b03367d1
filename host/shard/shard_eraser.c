#include "host/shard/shard_eraser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "host/shard/shard_internal.h"

struct shard_eraser {
    kith_shard_node *node;
    kith_mutex mutex;
    shard_erasure *first; /* wait for the next run */
    bool busy;            /* a run is posted, is running, or waits for the timer */
    bool waiting;         /* for the timer, as the last run failed */
    bool ending;
    uint64_t backoff_ns; /* the run's */
    kith_task task;
    kith_timer timer;
};

/* --- what is erased together --- */

typedef struct erase_round {
    kith_shard_node *node;
    shard_erasure **erasures; /* [count], by rising shard id */
    uint32_t count;
    bool marks; /* only one: the mark of an install is left in its place */
    kith_arena arena;
    struct erase_path {
        struct erase_path *next;
        char *path;
    } * paths;
} erase_round;

static int erasure_compare(const void *a, const void *b) {
    uint64_t left = (*(shard_erasure *const *)a)->shard_id, right = (*(shard_erasure *const *)b)->shard_id;
    return left < right ? -1 : left > right;
}

static void round_fill(erase_round *round, kith_shard_node *node, shard_erasure *first) {
    *round = (erase_round){.node = node};
    for (shard_erasure *erasure = first; erasure; erasure = erasure->next)
        round->count++;
    round->erasures = kith_alloc_array(round->count, sizeof(shard_erasure *));
    round->count = 0;
    for (shard_erasure *erasure = first; erasure; erasure = erasure->next)
        round->erasures[round->count++] = erasure;
    qsort(round->erasures, round->count, sizeof(shard_erasure *), erasure_compare);
    kith_arena_init(&round->arena);
}

static void round_fini(erase_round *round) {
    kith_arena_fini(&round->arena);
    kith_free(round->erasures);
}

/* --- keys --- */

/* A range with nothing in it is left alone: a removal would slow later reads, and keep what is loaded over it from its place at the
 * bottom of the store. What was removed before and not flushed yet is flushed with the rest. */
static kith_status range_remove(kith_store *store, kith_store_batch *batch, kith_store_family family,
    uint64_t shard_id_first, uint64_t shard_id_end, kith_err *err) {
    uint8_t from[SHARD_KEY_BYTES_MAX], to[SHARD_KEY_BYTES_MAX];
    size_t from_bytes = shard_key_prefix(shard_id_first, from), key_bytes, value_bytes;
    size_t to_bytes = shard_key_prefix(shard_id_end, to);
    kith_store_iterator *iterator;
    const void *key, *value;
    kith_status status =
        kith_store_iterator_open(store, family, from, from_bytes, to, to_bytes, &iterator, err);
    if (status != KITH_OK) return status;
    bool is_empty = !kith_store_iterator_next(iterator, &key, &key_bytes, &value, &value_bytes);
    status = kith_store_iterator_status(iterator, err);
    kith_store_iterator_close(iterator);
    if (!is_empty) kith_store_batch_remove_range(batch, family, from, from_bytes, to, to_bytes);
    return status;
}

/* The shards of a collection are neighbours: one range for all of them, as each range slows later reads a little. */
static kith_status keys_remove(const erase_round *round, kith_store_batch *batch, kith_err *err) {
    kith_store *store = round->node->store;
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < round->count && status == KITH_OK;) {
        uint64_t first = round->erasures[i]->shard_id, end = first;
        while (i < round->count && round->erasures[i]->shard_id <= end)
            end = round->erasures[i++]->shard_id + 1;
        status = range_remove(store, batch, KITH_STORE_POINTS, first, end, err);
        if (status == KITH_OK) status = range_remove(store, batch, KITH_STORE_META, first, end, err);
    }
    return status;
}

static bool keys_are_gone(const erase_round *round) {
    for (uint32_t i = 0; i < round->count; i++) {
        if (!round->erasures[i]->keys_gone) return false;
    }
    return true;
}

static void mark_put(kith_store_batch *batch, uint64_t shard_id) {
    uint8_t key[SHARD_KEY_BYTES_MAX];
    size_t key_bytes = shard_key_install(shard_id, key);
    kith_store_batch_put(batch, KITH_STORE_META, key, key_bytes, "", 0);
}

static kith_status keys_erase(erase_round *round, kith_err *err) {
    if (keys_are_gone(round)) return KITH_OK;
    kith_store_batch *batch = kith_store_batch_create(round->node->store);
    kith_status status = keys_remove(round, batch, err);
    if (round->marks) mark_put(batch, round->erasures[0]->shard_id);
    if (status == KITH_OK) status = kith_store_write(round->node->store, batch, err);
    kith_store_batch_destroy(batch);
    if (status == KITH_OK) status = kith_store_flush(round->node->store, err);
    for (uint32_t i = 0; status == KITH_OK && i < round->count; i++)
        round->erasures[i]->keys_gone = true;
    return status;
}

/* --- files --- */

static void file_take(void *ctx, const kith_dir_entry *entry) {
    erase_round *round = ctx;
    shard_erasure wanted, *key = &wanted;
    uint64_t segment_id;
    if (entry->is_dir || !shard_segment_name_parse(entry->name, &wanted.shard_id, &segment_id)) return;
    if (!bsearch(&key, round->erasures, round->count, sizeof(shard_erasure *), erasure_compare)) return;
    size_t bytes = strlen(round->node->segment_dir) + 1 + strlen(entry->name) + 1;
    struct erase_path *path = kith_arena_alloc(&round->arena, sizeof *path);
    path->path = kith_arena_alloc(&round->arena, bytes);
    snprintf(path->path, bytes, "%s/%s", round->node->segment_dir, entry->name);
    path->next = round->paths;
    round->paths = path;
}

/* A missing folder has no files. */
static kith_status files_erase(erase_round *round, kith_err *err) {
    kith_status status = kith_dir_list(round->node->env, round->node->segment_dir, file_take, round, err);
    if (status == KITH_NOT_FOUND) status = KITH_OK;
    for (struct erase_path *path = round->paths; status == KITH_OK && path; path = path->next) {
        status = kith_path_remove(round->node->env, path->path, err);
        if (status == KITH_NOT_FOUND) status = KITH_OK;
    }
    return status;
}

/* The store first: a shard whose manifest named files that are gone would be corrupt. */
static kith_status erase(kith_shard_node *node, shard_erasure *first, bool marks, kith_err *err) {
    erase_round round;
    round_fill(&round, node, first);
    round.marks = marks;
    kith_status status = keys_erase(&round, err);
    if (status == KITH_OK) status = files_erase(&round, err);
    if (status != KITH_OK) {
        kith_err_wrap(err, status, "erase %u shards from %llu on", round.count,
            (unsigned long long)round.erasures[0]->shard_id);
    }
    round_fini(&round);
    return status;
}

kith_status shard_erase_marked(kith_shard_node *node, uint64_t shard_id, kith_err *err) {
    shard_erasure only = {.shard_id = shard_id};
    if (node->log) kith_store_log_drop(node->log, shard_id);
    return erase(node, &only, true, err);
}

/* --- runs --- */

/* The last call of the last one may be the end of the eraser. */
static void finish(shard_erasure *first, kith_status status, const kith_err *err) {
    while (first) {
        shard_erasure *next = first->next;
        first->done(first, status, status == KITH_OK ? NULL : err);
        first = next;
    }
}

static shard_erasure *take_all_locked(shard_eraser *eraser) {
    shard_erasure *first = eraser->first;
    eraser->first = NULL;
    return first;
}

static void push_locked(shard_eraser *eraser, shard_erasure *first) {
    shard_erasure *last = first;
    while (last->next)
        last = last->next;
    last->next = eraser->first;
    eraser->first = first;
}

static void erased(shard_eraser *eraser, shard_erasure *first) {
    eraser->backoff_ns = 0;
    kith_mutex_lock(&eraser->mutex);
    eraser->busy = eraser->first != NULL;
    if (eraser->busy) kith_executor_post(eraser->node->background, &eraser->task);
    kith_mutex_unlock(&eraser->mutex);
    finish(first, KITH_OK, NULL);
}

static uint64_t backoff_next(uint64_t backoff_ns) {
    if (backoff_ns == 0) return SHARD_BACKOFF_NS_LEAST;
    return 2 * backoff_ns > SHARD_BACKOFF_NS_MAX ? SHARD_BACKOFF_NS_MAX : 2 * backoff_ns;
}

static void timer_arm_locked(shard_eraser *eraser) {
    eraser->waiting = true;
    eraser->timer.executor = eraser->node->background;
    eraser->timer.due_ns = kith_env_now_ns(eraser->node->env) + eraser->backoff_ns;
    kith_timer_start(&eraser->timer);
}

static void failed(shard_eraser *eraser, shard_erasure *first, kith_status status, const kith_err *err) {
    shard_erasure *given_up = NULL;
    eraser->backoff_ns = backoff_next(eraser->backoff_ns);
    kith_log_warn("shard_erase_failed", kith_kv_text("status", kith_status_name(status)),
        kith_kv_text("error", err->text), kith_kv_u64("retry_ms", eraser->backoff_ns / 1000000));
    kith_mutex_lock(&eraser->mutex);
    push_locked(eraser, first);
    if (eraser->ending) {
        given_up = take_all_locked(eraser);
        eraser->busy = false;
    } else {
        timer_arm_locked(eraser);
    }
    kith_mutex_unlock(&eraser->mutex);
    finish(given_up, status, err);
}

static void run(shard_eraser *eraser) {
    kith_err err;
    kith_mutex_lock(&eraser->mutex);
    shard_erasure *first = take_all_locked(eraser);
    kith_mutex_unlock(&eraser->mutex);
    kith_status status = erase(eraser->node, first, false, &err);
    if (status == KITH_OK)
        erased(eraser, first);
    else
        failed(eraser, first, status, &err);
}

static void task_run(kith_task *task) {
    run((shard_eraser *)((char *)task - offsetof(shard_eraser, task)));
}

static void timer_run(kith_task *task) {
    shard_eraser *eraser = (shard_eraser *)((char *)task - offsetof(shard_eraser, timer.task));
    kith_mutex_lock(&eraser->mutex);
    eraser->waiting = false;
    kith_mutex_unlock(&eraser->mutex);
    run(eraser);
}

/* --- life --- */

shard_eraser *shard_eraser_create(kith_shard_node *node) {
    shard_eraser *eraser = kith_alloc_zero(sizeof *eraser);
    eraser->node = node;
    kith_mutex_init(&eraser->mutex, KITH_RANK_SHARD);
    eraser->task.run = task_run;
    eraser->timer.task.run = timer_run;
    return eraser;
}

void shard_eraser_add(shard_eraser *eraser, shard_erasure *erasure) {
    if (eraser->node->log) kith_store_log_drop(eraser->node->log, erasure->shard_id);
    erasure->keys_gone = false;
    erasure->next = NULL;
    kith_mutex_lock(&eraser->mutex);
    push_locked(eraser, erasure);
    if (!eraser->busy) kith_executor_post(eraser->node->background, &eraser->task);
    eraser->busy = true;
    kith_mutex_unlock(&eraser->mutex);
}

void shard_eraser_end(shard_eraser *eraser) {
    kith_mutex_lock(&eraser->mutex);
    eraser->ending = true;
    if (eraser->waiting && kith_timer_cancel(&eraser->timer)) {
        eraser->waiting = false;
        kith_executor_post(eraser->node->background, &eraser->task);
    }
    kith_mutex_unlock(&eraser->mutex);
}

void shard_eraser_destroy(shard_eraser *eraser) {
    if (!eraser) return;
    kith_assert(!eraser->first);
    kith_mutex_fini(&eraser->mutex);
    kith_free(eraser);
}
