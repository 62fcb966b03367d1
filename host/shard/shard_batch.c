/* Searches that wait for the same shard run together.
 *
 * A search that finds a run free starts at once; nobody waits for others to come. While the runs of a shard are busy its
 * searches wait in a list, and the run that begins next takes the oldest, with all that ask the same field for the same k:
 * many queries share one reading of the rows. What a run takes is decided when a thread begins it, not when it is posted,
 * so that it also takes what came while it waited for the thread. Its view is of that moment: each member sees every write
 * that was acknowledged before it was started. A score does not depend on what else is scored, so neither do answers.
 *
 * How many runs: RUNS_LEAST, so that the next is at hand when one ends, and more while threads are idle, which a run over
 * few rows or of few queries does not use. The oldest is always served first, and a batch of several is no larger than
 * one reading of the rows serves (SHARD_BATCH_QUERIES_MAX, SHARD_BATCH_RESULTS_MAX): so a large search makes only
 * those wait that would have waited for its threads anyway, and never grows by those that wait.
 *
 * On a GPU, where a run of one costs what a run of many does, searches may be gathered for a while even when nothing runs
 * (kith_shard_node.search_batch_window_ns).
 *
 * Each member keeps what is its own: deadline, cancellation, held ids. Where there is no memory for a batch, its members
 * run one by one. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/shard/shard_internal.h"

#define RUNS_LEAST 2u

_Static_assert(RUNS_LEAST <= SHARD_RUNS_MAX, "the first runs have slots");
_Static_assert(sizeof(shard_search_state) <= sizeof(((kith_shard_search *)0)->impl), "it is kept there");

/* --- lists --- */

static void list_append(shard_search_list *list, kith_shard_search *search) {
    shard_search_state_of(search)->next = NULL;
    if (list->last)
        shard_search_state_of(list->last)->next = search;
    else
        list->first = search;
    list->last = search;
}

/* Puts what `tail` begins with behind `list`. */
static void list_concat(shard_search_list *list, shard_search_list tail) {
    if (!tail.first) return;
    if (list->last)
        shard_search_state_of(list->last)->next = tail.first;
    else
        list->first = tail.first;
    list->last = tail.last;
}

/* --- slots: runs that are posted or under way; each holds a use of the shard --- */

/* Not under the lock: the thread that takes it would wait for it, and the slot's use of the shard goes with it. */
static void slot_post(kith_shard *shard, shard_batch_slot *slot) {
    kith_executor_post(shard->node->search, &slot->timer.task);
}

static bool may_start_locked(const kith_shard *shard) {
    const shard_batcher *batcher = &shard->batcher;
    if (batcher->runs < RUNS_LEAST) return true;
    /* Nobody waits for a thread, so one may be idle. */
    return batcher->runs < SHARD_RUNS_MAX && kith_executor_queued(shard->node->search) == 0;
}

static shard_batch_slot *slot_take_locked(kith_shard *shard) {
    shard_batcher *batcher = &shard->batcher;
    shard_batch_slot *slot = batcher->slots;
    while (slot->taken)
        slot++;
    slot->taken = true;
    batcher->runs++;
    shard_use_acquire(shard);
    return slot;
}

/* Sees to it that searches wait for something: a run that begins, or one that ends. What it returns, unless NULL, is to be
 * posted. */
static shard_batch_slot *run_start_locked(kith_shard *shard, uint64_t window_ns) {
    shard_batcher *batcher = &shard->batcher;
    if (batcher->pending || !may_start_locked(shard)) return NULL;
    batcher->pending = slot_take_locked(shard);
    if (window_ns == 0) return batcher->pending;
    batcher->gathers = true;
    batcher->gathered_queries = 0;
    batcher->pending->timer.executor = shard->node->search;
    batcher->pending->timer.due_ns = kith_env_now_ns(shard->node->env) + window_ns;
    kith_timer_start(&batcher->pending->timer);
    return NULL;
}

/* The slot's run is over, or had nothing to do. */
static void slot_end(shard_batch_slot *slot) {
    kith_shard *shard = slot->shard;
    shard_batcher *batcher = &shard->batcher;
    kith_mutex_lock(&batcher->mutex);
    bool goes_on = batcher->waiting.first && !batcher->pending;
    if (goes_on) {
        batcher->pending = slot;
    } else {
        slot->taken = false;
        batcher->runs--;
    }
    kith_mutex_unlock(&batcher->mutex);
    if (goes_on)
        slot_post(shard, slot);
    else
        shard_use_release(shard);
}

/* --- a batch --- */

shard_batch shard_batch_of_one(kith_shard *shard, kith_shard_search *search) {
    shard_search_state_of(search)->next = NULL;
    return (shard_batch){.shard = shard,
        .members = {.first = search, .last = search},
        .member_count = 1,
        .query_count = search->query_count,
        .field_index = search->field_index,
        .k = search->k,
        .queries = search->queries};
}

static bool batch_fits(const shard_batch *batch, kith_shard_search *search) {
    uint64_t query_count = (uint64_t)batch->query_count + search->query_count;
    if (shard_search_state_of(search)->alone || shard_search_state_of(batch->members.first)->alone)
        return false;
    if (search->field_index != batch->field_index || search->k != batch->k) return false;
    return query_count <= SHARD_BATCH_QUERIES_MAX && query_count * batch->k <= SHARD_BATCH_RESULTS_MAX;
}

static void batch_add(shard_batch *batch, kith_shard_search *search) {
    list_append(&batch->members, search);
    batch->member_count++;
    batch->query_count += search->query_count;
}

/* The oldest, and those of its kind that fit. `waiting` keeps the others in their order. */
static shard_batch batch_take(kith_shard *shard, shard_search_list *waiting) {
    kith_shard_search *search = waiting->first;
    shard_search_list others = {0};
    kith_shard_search *next = shard_search_state_of(search)->next;
    shard_batch batch = shard_batch_of_one(shard, search);
    for (search = next; search && batch.query_count < SHARD_BATCH_QUERIES_MAX; search = next) {
        next = shard_search_state_of(search)->next;
        if (batch_fits(&batch, search))
            batch_add(&batch, search);
        else
            list_append(&others, search);
    }
    if (search) list_concat(&others, (shard_search_list){.first = search, .last = waiting->last});
    *waiting = others;
    return batch;
}

/* Queries of several members, one behind the other. */
static bool queries_gather(shard_batch *batch) {
    size_t dim = batch->shard->schema.fields[batch->field_index].dim;
    batch->queries = batch->members.first->queries;
    if (batch->member_count == 1) return true;
    batch->block = kith_try_alloc(batch->query_count * dim * sizeof *batch->block);
    if (!batch->block) return false;
    float *at = batch->block;
    for (kith_shard_search *search = batch->members.first; search;
         search = shard_search_state_of(search)->next) {
        memcpy(at, search->queries, search->query_count * dim * sizeof *at);
        at += search->query_count * dim;
    }
    batch->queries = batch->block;
    return true;
}

static void batch_run_singly(const shard_batch *batch) {
    shard_batch_slot *slot = batch->slot;
    shard_batcher *batcher = &batch->shard->batcher;
    shard_search_list again = batch->members;
    for (kith_shard_search *search = again.first; search; search = shard_search_state_of(search)->next)
        shard_search_state_of(search)->alone = true;
    kith_free(batch->block);
    kith_mutex_lock(&batcher->mutex);
    list_concat(&again, batcher->waiting);
    batcher->waiting = again;
    kith_mutex_unlock(&batcher->mutex);
    slot_end(slot);
}

/* --- members --- */

static kith_status member_state(const kith_shard_search *search, uint64_t now_ns) {
    if (search->cancelled && atomic_load_explicit(search->cancelled, memory_order_relaxed))
        return KITH_CANCELLED;
    return now_ns < search->deadline_ns ? KITH_OK : KITH_DEADLINE;
}

/* `view`: what is searched; NULL before that. */
static kith_status over_set(kith_status status, const shard_view *view, kith_err *err) {
    if (status == KITH_CANCELLED) return kith_err_set(err, status, "the search was cancelled");
    if (!view) return kith_err_set(err, status, "the deadline passed before the search began");
    return kith_err_set(err, status, "the deadline passed while %llu rows were searched",
        (unsigned long long)view->row_count);
}

kith_status shard_batch_check(const shard_batch *batch, const shard_view *view, kith_err *err) {
    uint64_t now_ns = kith_env_now_ns(batch->shard->node->env);
    kith_status status = KITH_OK;
    for (kith_shard_search *search = batch->members.first; search;
         search = shard_search_state_of(search)->next) {
        status = member_state(search, now_ns);
        if (status == KITH_OK) return KITH_OK;
    }
    return over_set(status, view, err);
}

/* Its use of the shard ends with it, unless its ids are held. */
static void member_answer(kith_shard *shard, kith_shard_search *search, shard_view *view, kith_status status,
    const kith_hits *lists, const kith_err *err) {
    bool hold = search->hold_ids && status == KITH_OK;
    /* Before `done`, which may release and free the search. */
    if (hold) shard_search_state_of(search)->view = shard_view_hold(view);
    if (status == KITH_OK)
        search->done(search, KITH_OK, lists, NULL);
    else
        search->done(search, status, NULL, err);
    if (!hold) shard_use_release(shard);
}

/* Whose deadline passed while the others' search went on is told so; one alone has its answer, and gets it. */
static void members_answer(const shard_batch *batch, shard_view *view, kith_status status,
    const kith_hits *lists, const kith_err *err) {
    uint64_t now_ns = batch->member_count > 1 ? kith_env_now_ns(batch->shard->node->env) : 0;
    kith_shard_search *next;
    for (kith_shard_search *search = batch->members.first; search; search = next) {
        kith_err own_err;
        kith_status own = batch->member_count > 1 ? member_state(search, now_ns) : KITH_OK;
        uint32_t query_count = search->query_count;
        next = shard_search_state_of(search)->next;
        if (own != KITH_OK)
            member_answer(batch->shard, search, view, over_set(own, view, &own_err), NULL, &own_err);
        else
            member_answer(batch->shard, search, view, status, lists, err);
        if (lists) lists += query_count;
    }
}

void shard_batch_end(const shard_batch *batch, shard_view *view, kith_status status, const kith_hits *lists,
    const kith_err *err) {
    kith_shard *shard = batch->shard;
    if (status == KITH_NO_MEMORY && batch->member_count > 1) {
        if (view) shard_view_release(view);
        batch_run_singly(batch);
        return;
    }
    /* The members' own uses may end with their answers. */
    shard_use_acquire(shard);
    /* Before the answers, so that the next run does not wait for their encoding. */
    if (batch->slot) slot_end(batch->slot);
    kith_free(batch->block);
    members_answer(batch, view, status, lists, err);
    if (view) shard_view_release(view);
    shard_use_release(shard);
}

/* Answers the members that are over before the run began, and leaves them out. */
static void members_drop_over(shard_batch *batch) {
    uint64_t now_ns = kith_env_now_ns(batch->shard->node->env);
    kith_shard_search *next;
    shard_search_list members = batch->members;
    batch->members = (shard_search_list){0};
    batch->member_count = batch->query_count = 0;
    for (kith_shard_search *search = members.first; search; search = next) {
        kith_err err;
        kith_status status = member_state(search, now_ns);
        next = shard_search_state_of(search)->next;
        if (status == KITH_OK)
            batch_add(batch, search);
        else
            member_answer(batch->shard, search, NULL, over_set(status, NULL, &err), NULL, &err);
    }
}

/* --- a run begins --- */

static void batch_begin(shard_batch *batch) {
    members_drop_over(batch);
    if (batch->member_count == 0) {
        slot_end(batch->slot);
        return;
    }
    if (!queries_gather(batch)) {
        batch_run_singly(batch);
        return;
    }
    SHARD_COUNT(batch->shard, search_batches, 1);
    SHARD_COUNT(batch->shard, search_batched, batch->member_count);
    shard_search_begin(batch);
}

/* Everything that waits is told. */
static void waiting_close(shard_batch_slot *slot) {
    kith_shard *shard = slot->shard;
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    kith_mutex_lock(&shard->batcher.mutex);
    kith_shard_search *next, *search = shard->batcher.waiting.first;
    shard->batcher.waiting = (shard_search_list){0};
    shard->batcher.pending = NULL;
    shard->batcher.gathers = false;
    kith_mutex_unlock(&shard->batcher.mutex);
    for (; search; search = next) {
        next = shard_search_state_of(search)->next;
        member_answer(shard, search, NULL, status, NULL, &err);
    }
    slot_end(slot);
}

static void slot_run(kith_task *task) {
    shard_batch_slot *slot = (shard_batch_slot *)((char *)task - offsetof(shard_batch_slot, timer.task));
    kith_shard *shard = slot->shard;
    shard_batcher *batcher = &shard->batcher;
    if (atomic_load(&shard->closing)) {
        waiting_close(slot);
        return;
    }
    kith_mutex_lock(&batcher->mutex);
    kith_assert(batcher->pending == slot);
    batcher->pending = NULL;
    batcher->gathers = false;
    shard_batch batch = batch_take(shard, &batcher->waiting);
    shard_batch_slot *more = batcher->waiting.first ? run_start_locked(shard, 0) : NULL;
    kith_mutex_unlock(&batcher->mutex);
    if (more) slot_post(shard, more);
    batch.slot = slot;
    batch_begin(&batch);
}

/* --- a search comes --- */

/* Of a GPU only: a CPU loses nothing by beginning at once, because what comes meanwhile is gathered while it computes. */
static uint64_t window_of(const kith_shard_node *node) {
    if (node->search_batch_window_ns == 0) return 0;
    return strcmp(node->compute->name, "cuda") == 0 ? node->search_batch_window_ns : 0;
}

/* The run to be posted when there is enough for a batch, if all are of one kind: it does not wait on. */
static shard_batch_slot *gathered_count_locked(kith_shard *shard, uint32_t query_count) {
    shard_batcher *batcher = &shard->batcher;
    batcher->gathered_queries += query_count;
    if (batcher->gathered_queries < SHARD_BATCH_QUERIES_MAX) return NULL;
    batcher->gathers = false;
    return kith_timer_cancel(&batcher->pending->timer) ? batcher->pending : NULL;
}

void shard_batch_join(kith_shard *shard, kith_shard_search *search) {
    shard_batcher *batcher = &shard->batcher;
    kith_mutex_lock(&batcher->mutex);
    list_append(&batcher->waiting, search);
    shard_batch_slot *begun = run_start_locked(shard, window_of(shard->node));
    if (batcher->gathers) begun = gathered_count_locked(shard, search->query_count);
    kith_mutex_unlock(&batcher->mutex);
    if (begun) slot_post(shard, begun);
}

void shard_batcher_init(kith_shard *shard) {
    kith_mutex_init(&shard->batcher.mutex, KITH_RANK_SHARD);
    for (uint32_t i = 0; i < SHARD_RUNS_MAX; i++) {
        shard->batcher.slots[i].shard = shard;
        shard->batcher.slots[i].timer.task.run = slot_run;
    }
}

void shard_batcher_fini(kith_shard *shard) {
    kith_mutex_fini(&shard->batcher.mutex);
}
