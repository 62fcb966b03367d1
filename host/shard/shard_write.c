/* Writes. An entry goes: start (any thread) -> admit (owner): checked, given its sequence, appended to the
 * log -> logged (log executor) -> pending queue (owner) -> round -> answer.
 *
 * A round applies all entries that are durable and next in sequence, with one store batch and one new view.
 * It is a state that can stop and go on: out of memory inside an op, or no space in the store at its end,
 * leaves it standing (the shard is `stalled`) until a timer tries again; nothing else touches the working
 * state meanwhile. The entries are committed (durable in the log), so they must come in the end, here or
 * after a restart; only their answer may turn into UNKNOWN_OUTCOME when the deadline passes first. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"

#define KEY_BYTES 24u

/* --- queues --- */

void shard_queue_push(shard_queue *queue, shard_entry *entry) {
    entry->next = NULL;
    if (queue->last)
        queue->last->next = entry;
    else
        queue->first = entry;
    queue->last = entry;
}

static shard_entry *queue_pop(shard_queue *queue) {
    shard_entry *entry = queue->first;
    queue->first = entry->next;
    if (!queue->first) queue->last = NULL;
    return entry;
}

/* --- answers --- */

static void request_key(const kith_request_id *request_id, uint8_t key_out[KEY_BYTES]) {
    memcpy(key_out, request_id->client, 16);
    memcpy(key_out + 16, &request_id->number, 8);
}

void shard_in_flight_put(kith_shard *shard, shard_entry *entry) {
    uint8_t key[KEY_BYTES];
    uint64_t found;
    if (!shard_request_is_named(&entry->request_id)) return;
    request_key(&entry->request_id, key);
    if (!kith_map_get(shard->in_flight, key, KEY_BYTES, &found))
        kith_map_put(shard->in_flight, key, KEY_BYTES, (uintptr_t)entry);
}

static void in_flight_remove(kith_shard *shard, const shard_entry *entry) {
    uint8_t key[KEY_BYTES];
    uint64_t found;
    request_key(&entry->request_id, key);
    if (!kith_map_get(shard->in_flight, key, KEY_BYTES, &found) || found != (uintptr_t)entry) return;
    kith_map_remove(shard->in_flight, key, KEY_BYTES);
}

void shard_entry_free(shard_entry *entry) {
    kith_shard *shard = entry->shard;
    if (entry->in_tail) shard_replica_forget(shard, entry);
    if (!entry->over_queue_limit)
        atomic_fetch_sub_explicit(&shard->queued_bytes, entry->op_bytes, memory_order_relaxed);
    kith_free(entry->op_copy);
    kith_free(entry);
    shard_use_release(shard);
}

void shard_entry_answer(
    shard_entry *entry, kith_status status, const kith_write_result *result, const kith_err *err) {
    kith_shard_write *write = entry->write;
    if (!write) return;
    entry->write = NULL;
    write->done(write, status, status == KITH_OK ? result : NULL, status == KITH_OK ? NULL : err);
}

void shard_entry_answer_all(shard_entry *entry, kith_status status, const kith_err *err) {
    kith_write_result again = entry->result;
    again.repeated = true;
    shard_entry *waiter = entry->waiters;
    entry->waiters = NULL;
    shard_entry_answer(entry, status, &entry->result, err);
    while (waiter) {
        shard_entry *next = waiter->next;
        shard_entry_answer(waiter, status, &again, err);
        shard_entry_free(waiter);
        waiter = next;
    }
}

void shard_entry_conclude(shard_entry *entry, kith_status status, const kith_err *err) {
    in_flight_remove(entry->shard, entry);
    shard_entry_answer_all(entry, status, err);
}

/* It stays in flight: a repeat that comes before it is applied is answered then. */
void shard_entry_answer_upsert(shard_entry *entry) {
    kith_op_kind kind;
    uint32_t point_count;
    if (!entry->write && !entry->waiters) return;
    kith_op_outline(entry->op, entry->op_bytes, &kind, &point_count);
    if (kind != KITH_OP_UPSERT) return;
    entry->result.points_changed = point_count;
    shard_entry_answer_all(entry, KITH_OK, NULL);
}

void shard_entry_finish(shard_entry *entry, kith_status status, const kith_err *err) {
    shard_entry_conclude(entry, status, err);
    shard_entry_free(entry);
}

/* --- admission --- */

/* Deletes may take half of the reserve, for they are what makes room; merges, which make it, need the rest. */
static bool makes_room(const shard_entry *entry) {
    kith_op_kind kind;
    uint32_t point_count;
    kith_op_outline(entry->op, entry->op_bytes, &kind, &point_count);
    return kind == KITH_OP_DELETE;
}

static kith_status disk_reserve_check(kith_shard *shard, const shard_entry *entry, kith_err *err) {
    kith_shard_node *node = shard->node;
    uint64_t now_ns = kith_env_now_ns(node->env), reserve_bytes = node->disk_reserve_bytes;
    if (reserve_bytes == 0) return KITH_OK;
    if (shard->free_read_ns == 0 || now_ns - shard->free_read_ns >= SHARD_DISK_READ_NS) {
        kith_status status = kith_env_free_bytes(node->env, node->segment_dir, &shard->free_bytes, err);
        if (status != KITH_OK) return status;
        shard->free_read_ns = now_ns;
    }
    if (shard->free_bytes < reserve_bytes && makes_room(entry)) reserve_bytes /= 2;
    if (shard->free_bytes >= reserve_bytes) return KITH_OK;
    return kith_err_set(err, KITH_NO_SPACE, "%llu bytes are free in %s; such writes stop below %llu",
        (unsigned long long)shard->free_bytes, node->segment_dir, (unsigned long long)reserve_bytes);
}

uint32_t shard_frozen_count(const kith_shard *shard) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->part_count; i++)
        count += shard->parts[i].kind == SHARD_PART_FROZEN;
    return count;
}

static kith_status admission_check(kith_shard *shard, const shard_entry *entry, kith_err *err) {
    kith_status status = shard_health_check(shard, err);
    if (status != KITH_OK) return status;
    if (entry->over_queue_limit) {
        return kith_err_set(err, KITH_BUSY, "more than %llu bytes of writes wait for shard %llu",
            (unsigned long long)shard->node->write_queue_bytes_max, (unsigned long long)shard->id);
    }
    if (kith_env_now_ns(shard->node->env) >= entry->deadline_ns)
        return kith_err_set(err, KITH_DEADLINE, "the deadline passed before the write began");
    if (atomic_load_explicit(&shard->stalled, memory_order_relaxed)) {
        return kith_err_set(err, KITH_NO_SPACE, "shard %llu has committed writes that wait for space",
            (unsigned long long)shard->id);
    }
    status = kith_store_log_health(shard->node->log, err);
    if (status != KITH_OK) return status;
    if (shard_frozen_count(shard) >= SHARD_FROZEN_MAX) {
        return kith_err_set(err, KITH_BUSY,
            "%u segments of shard %llu wait to be sealed: retry in a moment, as `kith load` does by itself",
            SHARD_FROZEN_MAX, (unsigned long long)shard->id);
    }
    return disk_reserve_check(shard, entry, err);
}

static uint32_t waiter_count(const shard_entry *entry) {
    uint32_t count = 0;
    for (const shard_entry *waiter = entry->waiters; waiter; waiter = waiter->next)
        count++;
    return count;
}

/* The repeat is answered with the first one, which stands in the queue already: so it is not refused for a full one, and has a
 * limit of its own. */
static void waiter_add(kith_shard *shard, shard_entry *first, shard_entry *repeat) {
    kith_err err;
    if (waiter_count(first) >= SHARD_WAITERS_MAX) {
        kith_status status = kith_err_set(&err, KITH_BUSY, "%u repeats of one write wait for shard %llu",
            SHARD_WAITERS_MAX, (unsigned long long)shard->id);
        shard_entry_finish(repeat, status, &err);
        return;
    }
    repeat->next = first->waiters;
    first->waiters = repeat;
    if (shard->replicated) shard_replica_deadline(shard, repeat->deadline_ns);
}

/* True when the entry is a repeat and has been taken care of. */
static bool entry_is_repeat(kith_shard *shard, shard_entry *entry) {
    uint8_t key[KEY_BYTES];
    uint64_t found;
    if (!shard_request_is_named(&entry->request_id)) return false;
    if (shard_window_find(shard->window, &entry->request_id, &entry->result)) {
        entry->result.repeated = true;
        shard_entry_answer(entry, KITH_OK, &entry->result, NULL);
        shard_entry_free(entry);
        return true;
    }
    request_key(&entry->request_id, key);
    if (!kith_map_get(shard->in_flight, key, KEY_BYTES, &found)) {
        kith_map_put(shard->in_flight, key, KEY_BYTES, (uintptr_t)entry);
        return false;
    }
    waiter_add(shard, (shard_entry *)(uintptr_t)found, entry);
    return true;
}

static void entry_logged(kith_task *task);

static void log_done(kith_log_append *append, kith_status status, const kith_err *err) {
    shard_entry *entry = (shard_entry *)((char *)append - offsetof(shard_entry, append));
    entry->status = status;
    if (status != KITH_OK) entry->err = *err;
    entry->task.run = entry_logged;
    kith_executor_post(entry->shard->node->owner, &entry->task);
}

void shard_entry_append_init(shard_entry *entry) {
    entry->append = (kith_log_append){
        .entry = {.stream = entry->shard->id, .data = entry->op, .bytes = entry->op_bytes}, .done = log_done};
}

/* Without a gate: the shard itself says what is next. */
static void entry_append(kith_shard *shard, shard_entry *entry) {
    uint64_t sequence = ++shard->last_sequence;
    entry->result = (kith_write_result){.epoch = SHARD_EPOCH, .sequence = sequence};
    entry->append.entry.epoch = SHARD_EPOCH;
    entry->append.entry.sequence = sequence;
    shard_queue_push(&shard->pending, entry);
    kith_store_log_append(shard->node->log, &entry->append);
}

static void entry_admit(kith_task *task) {
    shard_entry *entry = (shard_entry *)((char *)task - offsetof(shard_entry, task));
    kith_shard *shard = entry->shard;
    kith_err err = {0};
    if (entry_is_repeat(shard, entry)) return;
    kith_status status =
        atomic_load(&shard->closing)
            ? kith_err_set(&err, KITH_CLOSED, "shard %llu is closing", (unsigned long long)shard->id)
            : admission_check(shard, entry, &err);
    if (status != KITH_OK) {
        shard_entry_finish(entry, status, &err);
        return;
    }
    if (!shard->replicated) {
        entry_append(shard, entry);
        return;
    }
    status = shard_replica_admit(shard, entry, &err);
    if (status != KITH_OK) shard_entry_finish(entry, status, &err);
}

static void write_closed(kith_task *task) {
    kith_shard_write *write = (kith_shard_write *)((char *)task - offsetof(kith_shard_write, impl));
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CLOSED, "the shard is closing");
    write->done(write, status, NULL, &err);
}

_Static_assert(sizeof(kith_task) <= sizeof(((kith_shard_write *)0)->impl), "the closed answer's task fits");

void kith_shard_write_start(kith_shard *shard, kith_shard_write *write) {
    if (!shard_use_try_acquire(shard)) {
        kith_task *task = (kith_task *)write->impl;
        *task = (kith_task){.run = write_closed};
        kith_executor_post(shard->node->owner, task);
        return;
    }
    shard_entry *entry = kith_alloc_zero(sizeof *entry);
    entry->task.run = entry_admit;
    entry->shard = shard;
    entry->write = write;
    entry->op = write->op;
    entry->op_bytes = write->op_bytes;
    shard_entry_append_init(entry);
    entry->request_id = write->request_id;
    entry->deadline_ns = write->deadline_ns;
    uint64_t queued = atomic_fetch_add_explicit(&shard->queued_bytes, write->op_bytes, memory_order_relaxed);
    /* One write larger than the limit still passes an empty queue. */
    entry->over_queue_limit = queued > 0 && queued + write->op_bytes > shard->node->write_queue_bytes_max;
    if (entry->over_queue_limit)
        atomic_fetch_sub_explicit(&shard->queued_bytes, write->op_bytes, memory_order_relaxed);
    kith_executor_post(shard->node->owner, &entry->task);
}

/* --- rounds --- */

/* The log keeps nothing of what it answers with NO_SPACE or BUSY. With any other status it has stopped, and
 * the append may or may not be in it. */
static kith_status unlogged_status(shard_entry *entry) {
    if (entry->status == KITH_NO_SPACE || entry->status == KITH_BUSY) return entry->status;
    return kith_err_wrap(&entry->err, KITH_UNKNOWN_OUTCOME, "the log has stopped");
}

static void entry_logged(kith_task *task) {
    shard_entry *entry = (shard_entry *)((char *)task - offsetof(shard_entry, task));
    if (entry->shard->replicated) {
        shard_replica_logged(entry->shard, entry);
        return;
    }
    entry->logged = true;
    shard_apply_post(entry->shard);
}

bool shard_head_is_ready(const kith_shard *shard) {
    const shard_entry *head = shard->pending.first;
    if (!head || !head->logged) return false;
    return !shard->replicated || head->result.sequence <= shard_replica_ready(shard);
}

/* Takes what is durable from the head of the queue; what the log refused is answered. False: nothing to
 * apply. */
static bool round_begin(kith_shard *shard) {
    shard_round *round = &shard->round;
    size_t bytes = 0;
    uint32_t count = 0;
    while (shard_head_is_ready(shard) && bytes < SHARD_ROUND_BYTES_MAX && count < SHARD_ROUND_COUNT_MAX) {
        shard_entry *entry = queue_pop(&shard->pending);
        if (entry->status != KITH_OK) {
            shard_entry_finish(entry, unlogged_status(entry), &entry->err);
            continue;
        }
        shard_queue_push(&round->entries, entry);
        bytes += entry->op_bytes;
        count++;
        if (shard_digests_want(shard, entry->result.sequence)) break;
    }
    round->active = count > 0;
    round->current = round->entries.first;
    return round->active;
}

static void round_entry_applied(kith_shard *shard, shard_entry *entry) {
    shard_round *round = &shard->round;
    entry->result.points_changed = round->points_changed;
    entry->applied = true;
    shard->applied_sequence = entry->result.sequence;
    shard->applied_epoch = entry->result.epoch;
    shard->growing_op_bytes += entry->op_bytes;
    shard_window_entry_put(shard, round->batch, &entry->request_id, &entry->result);
    if (entry->op_bytes > 0 && round->op.kind == KITH_OP_UPSERT)
        SHARD_COUNT(shard, points_upserted, round->points_changed);
    else
        SHARD_COUNT(shard, points_deleted, round->points_changed);
    round->current = entry->next;
    round->op_decoded = false;
    round->next_point = 0;
    round->points_changed = 0;
}

static kith_status round_entry_apply(kith_shard *shard, const shard_entry *entry, kith_err *err) {
    shard_round *round = &shard->round;
    kith_status status = KITH_OK;
    if (entry->op_bytes == 0) return KITH_OK; /* it begins an epoch */
    if (!round->op_decoded)
        status = kith_op_decode(entry->op, entry->op_bytes, &shard->schema, &round->arena, &round->op, err);
    if (status != KITH_OK) return status;
    round->op_decoded = true;
    return shard_apply_op(shard, &round->op, entry->result.sequence, round->batch, &round->next_point,
        &round->points_changed, err);
}

static kith_status round_apply(kith_shard *shard, kith_err *err) {
    shard_round *round = &shard->round;
    while (round->current) {
        shard_entry *entry = round->current;
        kith_status status = round_entry_apply(shard, entry, err);
        if (status != KITH_OK) return status;
        round_entry_applied(shard, entry);
    }
    return KITH_OK;
}

static kith_status round_run(kith_shard *shard, kith_err *err) {
    kith_status status = round_apply(shard, err);
    if (status != KITH_OK) return status;
    shard_applied_put(shard, shard->round.batch);
    return kith_store_write(shard->node->store, shard->round.batch, err);
}

static void round_reset(shard_round *round) {
    round->active = false;
    kith_store_batch_clear(round->batch);
    kith_arena_reset(&round->arena);
}

static void round_finish(kith_shard *shard) {
    shard_round *round = &shard->round;
    round_reset(round);
    shard->stored_sequence = shard->applied_sequence;
    shard_queue answered = round->entries;
    round->entries = (shard_queue){0};
    for (shard_entry *entry = answered.first; entry; entry = entry->next) {
        shard_window_put(shard->window, &entry->request_id, &entry->result);
    }
    shard_publish(shard);
    while (answered.first)
        shard_entry_finish(queue_pop(&answered), KITH_OK, NULL);
    if (shard->replicated) shard_replica_applied(shard);
    shard_digests_applied(shard);
}

/* --- stalls --- */

static bool has_expired(const kith_shard *shard, const shard_entry *entry) {
    return entry->write && kith_env_now_ns(shard->node->env) >= entry->deadline_ns;
}

static void expired_answer(const kith_shard *shard, shard_entry *entry) {
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_UNKNOWN_OUTCOME, "%s",
        shard->replicated
            ? "the write is in the log, but the deadline passed before it was committed and applied"
            : "the write is durable in the log, but the deadline passed while it waited for space to be "
              "applied");
    shard_entry_answer(entry, status, NULL, &err);
}

/* Answered before it is applied: the op's bytes are the caller's, so what is still to come needs a copy. */
static void entry_expire(kith_shard *shard, shard_entry *entry) {
    if (!has_expired(shard, entry)) return;
    if (!entry->applied && !entry->op_copy && !entry->in_tail) {
        entry->op_copy = kith_alloc(entry->op_bytes);
        memcpy(entry->op_copy, entry->op, entry->op_bytes);
        entry->op = entry->op_copy;
        if (entry == shard->round.current) shard->round.op_decoded = false;
    }
    expired_answer(shard, entry);
}

/* Nobody applies a repeat, so it goes as it is answered: while commits stand still, writers repeat without end. */
static void waiters_expire(kith_shard *shard, shard_entry *entry) {
    shard_entry **link = &entry->waiters;
    while (*link) {
        shard_entry *waiter = *link;
        if (!has_expired(shard, waiter)) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        expired_answer(shard, waiter);
        shard_entry_free(waiter);
    }
}

void shard_queue_expire(kith_shard *shard, const shard_queue *queue) {
    for (shard_entry *entry = queue->first; entry; entry = entry->next) {
        if (shard->replicated || (entry->logged && entry->status == KITH_OK)) entry_expire(shard, entry);
        waiters_expire(shard, entry);
    }
}

static void stall_timer_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, stall_timer.task));
    shard->stall_armed = false;
    shard_queue_expire(shard, &shard->round.entries);
    shard_queue_expire(shard, &shard->pending);
    shard_apply_post(shard);
    shard_use_release(shard);
}

static void stall(kith_shard *shard, kith_status status, const kith_err *err) {
    if (!atomic_load_explicit(&shard->stalled, memory_order_relaxed)) {
        kith_log_warn("shard_stalled", kith_kv_u64("shard", shard->id),
            kith_kv_text("status", kith_status_name(status)), kith_kv_text("error", err->text));
    }
    atomic_store_explicit(&shard->stalled, true, memory_order_relaxed);
    if (shard->stall_armed) return;
    shard->stall_armed = true;
    shard_use_acquire(shard);
    shard->stall_timer.task.run = stall_timer_run;
    shard->stall_timer.executor = shard->node->owner;
    shard->stall_timer.due_ns = kith_env_now_ns(shard->node->env) + SHARD_STALL_RETRY_NS;
    kith_timer_start(&shard->stall_timer);
}

static void queue_abandon(shard_queue *queue, const char *why) {
    kith_err err;
    kith_status status =
        kith_err_set(&err, KITH_UNKNOWN_OUTCOME, "the write is durable in the log, but %s", why);
    while (queue->first && queue->first->logged) {
        shard_entry *entry = queue_pop(queue);
        bool kept = entry->status == KITH_OK;
        shard_entry_finish(entry, kept ? status : unlogged_status(entry), kept ? &err : &entry->err);
    }
}

/* The working state is ahead of the store and stays so: the view, which never showed it, goes on being read.
 */
static void abandon(kith_shard *shard, const char *why) {
    round_reset(&shard->round);
    shard->round.current = NULL;
    queue_abandon(&shard->round.entries, why);
    queue_abandon(&shard->pending, why);
}

void shard_fail(kith_shard *shard, kith_status status, kith_err *err) {
    kith_log_error("shard_stopped", kith_kv_u64("shard", shard->id),
        kith_kv_text("status", kith_status_name(status)), kith_kv_text("error", err->text));
    shard_health_set(shard, status, err->text);
    abandon(shard, err->text);
    if (shard->replicated) shard_replica_failed(shard);
}

static bool is_worth_waiting(kith_status status) {
    return status == KITH_NO_SPACE || status == KITH_NO_MEMORY || status == KITH_BUSY;
}

/* What the log answers from here on is abandoned too: applied, it would hide from the next start that entries before it
 * are not. */
static void close_stalled(kith_shard *shard) {
    static const char why[] = "the shard closed while it waited for space";
    shard_health_set(shard, KITH_CLOSED, why);
    abandon(shard, why);
}

static void apply_failed(kith_shard *shard, kith_status status, kith_err *err) {
    if (!is_worth_waiting(status))
        shard_fail(shard, status, err);
    else if (atomic_load(&shard->closing))
        close_stalled(shard);
    else
        stall(shard, status, err);
}

static void apply_run(kith_task *task) {
    kith_shard *shard = (kith_shard *)((char *)task - offsetof(kith_shard, apply_task));
    kith_err err = {0};
    shard->apply_posted = false;
    if (shard_health_check(shard, &err) != KITH_OK) abandon(shard, err.text);
    if (shard->round.active || round_begin(shard)) {
        kith_status status = round_run(shard, &err);
        if (status == KITH_OK) {
            atomic_store_explicit(&shard->stalled, false, memory_order_relaxed);
            round_finish(shard);
            shard_idle_arm(shard);
            shard_maintain(shard);
        } else {
            apply_failed(shard, status, &err);
        }
    }
    if (!shard->round.active && shard_head_is_ready(shard)) shard_apply_post(shard);
    shard_use_release(shard);
}

void shard_apply_post(kith_shard *shard) {
    if (shard->apply_posted) return;
    if (shard->round.active && shard->stall_armed) return;
    shard->apply_posted = true;
    shard_use_acquire(shard);
    shard->apply_task.run = apply_run;
    kith_executor_post(shard->node->owner, &shard->apply_task);
}

/* Called as the shard begins to close: a stalled round has one more try, then its writes are left to the log.
 */
void shard_write_drain_closing(kith_shard *shard) {
    if (shard->stall_armed && kith_timer_cancel(&shard->stall_timer)) {
        shard->stall_armed = false;
        shard_use_release(shard);
    }
    if (shard->round.active) shard_apply_post(shard);
    if (shard->replicated) shard_replica_drain_closing(shard);
}
