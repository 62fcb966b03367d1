/* A shard behind a gate: entries of writers, of other replicas and of recovery stand in one tail, in the order of their sequences.
 * Each is given to the log, is durable, is committed, is applied; the tail keeps its bytes until then and, within a bound,
 * for a while after, because replicas that lag a little ask for them.
 *
 * What the log may refuse (a full disk, a full queue) others may have taken already, so the entry stays: it and all behind
 * it are given to the log again until it takes them. In the files they may then stand twice, or behind a gap; and a replica
 * whose tail was cut writes other entries under the same numbers. So that a reader of the files (shard_replica_recover.c) can
 * tell which ones count by their order alone, an entry whose number the log may have already goes alone: nothing follows until
 * it is durable. Then an entry never stands behind a superseded one as though it followed it, and one behind a gap does not
 * count. */
#include "host/shard/shard_replica.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/shard/shard_internal.h"

#define ITEM_BYTES 64u /* about what an entry without bytes costs */

static kith_shard *shard_of(shard_replica *replica) {
    return (kith_shard *)((char *)replica - offsetof(kith_shard, replica));
}

static shard_entry *entry_of(const kith_shard *shard, uint64_t sequence) {
    const shard_tail_item *item = shard_tail_find(&shard->replica.tail, sequence);
    return item ? item->entry : NULL;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t shard_replica_ready(const kith_shard *shard) {
    return least(shard->replica.committed, shard->replica.durable);
}

/* --- timer --- */

static void timer_arm(kith_shard *shard, uint64_t due_ns);

static bool someone_waits(const shard_entry *entry) {
    return entry->write || entry->waiters;
}

static uint64_t deadline_of(const shard_entry *entry) {
    uint64_t deadline_ns = entry->write ? entry->deadline_ns : UINT64_MAX;
    for (const shard_entry *waiter = entry->waiters; waiter; waiter = waiter->next)
        deadline_ns = least(deadline_ns, waiter->deadline_ns);
    return deadline_ns;
}

static uint64_t deadline_next(const kith_shard *shard) {
    uint64_t next_ns = UINT64_MAX;
    for (const shard_entry *entry = shard->pending.first; entry; entry = entry->next)
        if (someone_waits(entry)) next_ns = least(next_ns, deadline_of(entry));
    return next_ns;
}

static uint64_t retry_due(const kith_shard *shard) {
    const shard_replica *replica = &shard->replica;
    if (!replica->waits || replica->stopped || replica->in_flight > 0) return UINT64_MAX;
    return kith_env_now_ns(shard->node->env) + SHARD_STALL_RETRY_NS;
}

static void send(kith_shard *shard);

/* What the log took behind the entry that it refused is given to it again too. */
static void send_again(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    for (uint64_t at = replica->durable + 1; at <= replica->sent; at++)
        entry_of(shard, at)->logged = false;
    replica->sent = replica->durable;
    replica->log_alone = 0;
    replica->waits = false;
    send(shard);
}

static void timer_run(kith_task *task) {
    shard_replica *replica = (shard_replica *)((char *)task - offsetof(shard_replica, timer.task));
    kith_shard *shard = shard_of(replica);
    replica->timer_armed = false;
    shard_queue_expire(shard, &shard->pending);
    if (replica->waits && !replica->stopped && replica->in_flight == 0) send_again(shard);
    timer_arm(shard, least(deadline_next(shard), retry_due(shard)));
    shard_use_release(shard);
}

/* Fires then at the latest. */
static void timer_arm(kith_shard *shard, uint64_t due_ns) {
    shard_replica *replica = &shard->replica;
    if (due_ns == UINT64_MAX || atomic_load(&shard->closing)) return;
    if (replica->timer_armed) {
        if (replica->timer.due_ns <= due_ns || !kith_timer_cancel(&replica->timer)) return;
    } else {
        shard_use_acquire(shard);
    }
    replica->timer_armed = true;
    replica->timer.task.run = timer_run;
    replica->timer.executor = shard->node->owner;
    replica->timer.due_ns = due_ns;
    kith_timer_start(&replica->timer);
}

void shard_replica_deadline(kith_shard *shard, uint64_t deadline_ns) {
    timer_arm(shard, deadline_ns);
}

/* --- to the log --- */

/* Gives the log what it has not been given. */
static void send(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    bool any = false;
    while (!replica->stopped && replica->log_alone == 0 && replica->sent < shard->last_sequence) {
        uint64_t sequence = ++replica->sent;
        shard_entry *entry = entry_of(shard, sequence);
        kith_assert(entry && !entry->in_log);
        if (sequence <= replica->log_greatest) replica->log_alone = sequence;
        replica->log_greatest = sequence;
        replica->in_flight++;
        entry->in_log = true;
        kith_store_log_append(shard->node->log, &entry->append);
        any = true;
    }
    if (any && shard->node->notes) shard_notes_write(shard->node->notes, shard->node->log);
}

static void send_unless_waiting(kith_shard *shard) {
    if (!shard->replica.waits) send(shard);
}

/* Once nothing of the tail is in doubt, new writes may come again. */
static void refusal_check(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    if (!replica->refused) return;
    if (replica->durable == shard->last_sequence)
        replica->refused = replica->waits = false;
    else
        timer_arm(shard, retry_due(shard));
}

static void note(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    uint64_t ready = shard_replica_ready(shard);
    if (ready <= replica->noted || !shard->node->notes) return;
    replica->noted = ready;
    shard_notes_mark(shard->node->notes, shard->id, ready);
}

/* True: it advanced. */
static bool durable_advance(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    uint64_t before = replica->durable;
    for (const shard_entry *entry = entry_of(shard, before + 1); entry && entry->logged;
         entry = entry_of(shard, replica->durable + 1))
        replica->durable++;
    if (replica->durable == before) return false;
    note(shard);
    if (shard_head_is_ready(shard)) shard_apply_post(shard);
    return true;
}

/* Whether it was kept is unknown until the log is read again: this replica has no more to say about what is not durable. */
static void log_stopped(kith_shard *shard, kith_err *cause) {
    kith_err err = *cause;
    kith_status status = kith_err_wrap(&err, KITH_UNKNOWN_OUTCOME, "the log has stopped");
    for (uint64_t at = shard->replica.durable + 1; at <= shard->last_sequence; at++)
        shard_entry_answer_all(entry_of(shard, at), status, &err);
    shard_replica_failed(shard);
}

void shard_replica_failed(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    if (replica->stopped) return;
    replica->stopped = true;
    if (replica->gate && replica->gate->failed) replica->gate->failed(replica->gate->ctx);
}

static void refuse(kith_shard *shard, const shard_entry *entry) {
    if (!shard->replica.refused)
        kith_log_warn("shard_append_refused", kith_kv_u64("shard", shard->id),
            kith_kv_text("status", kith_status_name(entry->status)), kith_kv_text("error", entry->err.text));
    shard->replica.refused = shard->replica.waits = true;
}

/* An entry of a shard that closes did not get into the log: it may have been acknowledged all the same. */
static void closed_short_look(kith_shard *shard) {
    if (atomic_load(&shard->closing)) atomic_store(&shard->node->closed_short, true);
}

void shard_replica_logged(kith_shard *shard, shard_entry *entry) {
    shard_replica *replica = &shard->replica;
    const kith_shard_gate *gate = replica->gate;
    entry->in_log = false;
    if (entry->truncated) {
        if (entry->status != KITH_OK) closed_short_look(shard);
        shard_entry_free(entry);
        return;
    }
    replica->in_flight--;
    entry->logged = entry->status == KITH_OK;
    bool advanced = false;
    if (entry->logged) {
        if (replica->log_alone == entry->result.sequence) replica->log_alone = 0;
        advanced = durable_advance(shard);
        send_unless_waiting(shard);
    } else if (entry->status == KITH_NO_SPACE || entry->status == KITH_BUSY) {
        refuse(shard, entry);
    } else {
        log_stopped(shard, &entry->err);
    }
    refusal_check(shard);
    if (advanced && gate) gate->durable(gate->ctx, replica->durable);
}

/* --- the tail --- */

static uint64_t end_epoch(const kith_shard *shard) {
    const shard_tail_item *last = shard_tail_find(&shard->replica.tail, shard->last_sequence);
    return last ? last->epoch : shard->applied_epoch;
}

/* The entry is the next one. Takes `data`. */
static void tail_push_take(kith_shard *shard, shard_entry *entry, uint64_t epoch, void *data) {
    uint64_t sequence = ++shard->last_sequence;
    shard_tail_item item = {.epoch = epoch, .data = data, .bytes = entry->op_bytes, .entry = entry};
    entry->op = data;
    entry->in_tail = true;
    entry->result = (kith_write_result){.epoch = epoch, .sequence = sequence};
    shard_entry_append_init(entry);
    entry->append.entry.epoch = epoch;
    entry->append.entry.sequence = sequence;
    shard_tail_push_take(&shard->replica.tail, sequence, &item);
    shard_epochs_note(&shard->replica.epochs, sequence, epoch);
    shard_queue_push(&shard->pending, entry);
}

static void *copy_of(const void *data, size_t bytes) {
    if (bytes == 0) return NULL;
    void *copy = kith_alloc(bytes);
    memcpy(copy, data, bytes);
    return copy;
}

void shard_replica_forget(kith_shard *shard, const shard_entry *entry) {
    shard_tail_item *item = shard_tail_find(&shard->replica.tail, entry->result.sequence);
    kith_assert(item && item->entry == entry);
    item->entry = NULL;
}

static void kept_count(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    for (; replica->kept < shard->stored_sequence; replica->kept++) {
        const shard_tail_item *item = shard_tail_find(&replica->tail, replica->kept + 1);
        if (item) replica->kept_bytes += item->bytes + ITEM_BYTES;
    }
}

void shard_replica_applied(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    kept_count(shard);
    while (replica->kept_bytes > SHARD_TAIL_BYTES_MAX) {
        const shard_tail_item *first = shard_tail_find(&replica->tail, replica->tail.first);
        if (first->entry || replica->tail.first > shard->stored_sequence) break;
        shard_tail_item item = shard_tail_pop_front(&replica->tail);
        replica->kept_bytes -= item.bytes + ITEM_BYTES;
        kith_free(item.data);
    }
    if (replica->gate) replica->gate->applied(replica->gate->ctx, shard->stored_sequence);
}

static void pending_cut(kith_shard *shard, uint64_t sequence) {
    shard_queue *pending = &shard->pending;
    if (!pending->first) return;
    if (pending->first->result.sequence >= sequence) {
        *pending = (shard_queue){0};
        return;
    }
    shard_entry *last = entry_of(shard, sequence - 1);
    kith_assert(last);
    last->next = NULL;
    pending->last = last;
}

/* The log may still write the bytes: then they go with the entry, when it has. */
static void entry_drop_take(shard_entry *entry, void *data, kith_status status, const kith_err *err) {
    entry->in_tail = false;
    if (!entry->in_log) {
        if (!entry->logged) closed_short_look(entry->shard);
        shard_entry_finish(entry, status, err);
        kith_free(data);
        return;
    }
    entry->shard->replica.in_flight--;
    entry->op_copy = data;
    entry->truncated = true;
    shard_entry_conclude(entry, status, err);
}

static void tail_cut(kith_shard *shard, uint64_t sequence, const char *why) {
    shard_replica *replica = &shard->replica;
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_UNKNOWN_OUTCOME, "the write is in the log, but %s", why);
    pending_cut(shard, sequence);
    shard_epochs_cut(&replica->epochs, sequence);
    while (shard->last_sequence >= sequence) {
        shard_tail_item item = shard_tail_pop_back(&replica->tail);
        shard->last_sequence--;
        if (item.entry)
            entry_drop_take(item.entry, item.data, status, &err);
        else
            kith_free(item.data);
    }
    replica->sent = least(replica->sent, shard->last_sequence);
    replica->answered = least(replica->answered, shard->last_sequence);
    replica->durable = least(replica->durable, shard->last_sequence);
    if (replica->log_alone > shard->last_sequence) replica->log_alone = 0;
    refusal_check(shard);
    if (!atomic_load(&shard->closing))
        send_unless_waiting(shard); /* it may close without ever having started */
}

void shard_replica_drain_closing(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    if (replica->timer_armed && kith_timer_cancel(&replica->timer)) {
        replica->timer_armed = false;
        shard_use_release(shard);
    }
    uint64_t ready = shard_replica_ready(shard);
    uint64_t kept = ready > shard->applied_sequence ? ready : shard->applied_sequence;
    if (kept < shard->last_sequence) tail_cut(shard, kept + 1, "the shard closed before it was committed");
}

void shard_replica_fini(kith_shard *shard) {
    shard_tail_fini(&shard->replica.tail);
    shard_epochs_fini(&shard->replica.epochs);
}

/* --- the gate's side --- */

kith_status shard_replica_admit(kith_shard *shard, shard_entry *entry, kith_err *err) {
    shard_replica *replica = &shard->replica;
    const kith_shard_gate *gate = replica->gate;
    uint64_t epoch, sequence;
    if (!gate || replica->stopped)
        return kith_err_set(err, KITH_UNAVAILABLE, "this replica of shard %llu takes no writes",
            (unsigned long long)shard->id);
    if (replica->refused)
        return kith_err_set(
            err, KITH_NO_SPACE, "shard %llu has writes that wait for the log", (unsigned long long)shard->id);
    kith_status status = gate->admit(gate->ctx, entry->op_bytes, &epoch, &sequence, err);
    if (status != KITH_OK) return status;
    kith_assert(sequence == shard->last_sequence + 1);
    kith_assert(epoch > SHARD_EPOCH);
    tail_push_take(shard, entry, epoch, copy_of(entry->op, entry->op_bytes));
    send_unless_waiting(shard);
    shard_replica_deadline(shard, entry->deadline_ns);
    gate->appended(gate->ctx, sequence);
    return KITH_OK;
}

void kith_shard_gate_set(kith_shard *shard, const kith_shard_gate *gate) {
    kith_assert(shard->replicated);
    shard->replica.gate = gate;
}

/* An entry without a writer. */
static void entry_add(kith_shard *shard, uint64_t epoch, const void *data, size_t bytes) {
    shard_entry *entry = kith_alloc_zero(sizeof *entry);
    shard_use_acquire(shard);
    entry->shard = shard;
    entry->op_bytes = bytes;
    entry->deadline_ns = UINT64_MAX;
    atomic_fetch_add_explicit(&shard->queued_bytes, bytes, memory_order_relaxed);
    kith_op_request_id(data, bytes, &entry->request_id);
    shard_in_flight_put(shard, entry);
    tail_push_take(shard, entry, epoch, copy_of(data, bytes));
}

static bool takes_entries(const kith_shard *shard) {
    return !atomic_load(&shard->closing) && !shard->replica.stopped;
}

bool kith_shard_is_full(const kith_shard *shard) {
    const shard_entry *head = shard->pending.first;
    if (!takes_entries(shard)) return false; /* they are dropped */
    if (shard_frozen_count(shard) >= SHARD_FROZEN_MAX) return true;
    bool goes_on = shard->round.active || (head && head->result.sequence <= shard->replica.committed);
    uint64_t queued = atomic_load_explicit(&shard->queued_bytes, memory_order_relaxed);
    return goes_on && queued > shard->node->write_queue_bytes_max;
}

void shard_replica_relieved(kith_shard *shard) {
    const kith_shard_gate *gate = shard->replica.gate;
    if (gate && gate->relieved) gate->relieved(gate->ctx);
}

void kith_shard_append(kith_shard *shard, const kith_log_entry *entries, uint32_t count) {
    if (!takes_entries(shard)) return;
    for (uint32_t i = 0; i < count; i++) {
        kith_assert(entries[i].sequence == shard->last_sequence + 1);
        kith_assert(entries[i].epoch >= end_epoch(shard));
        entry_add(shard, entries[i].epoch, entries[i].data, entries[i].bytes);
    }
    send_unless_waiting(shard);
}

void kith_shard_truncate(kith_shard *shard, uint64_t sequence) {
    if (sequence > shard->last_sequence || !takes_entries(shard)) return;
    kith_assert(sequence > shard->replica.committed);
    kith_assert(sequence > shard->applied_sequence);
    tail_cut(shard, sequence, "another primary's entries took its place");
}

void kith_shard_epoch_start(kith_shard *shard, uint64_t epoch) {
    if (!takes_entries(shard)) return;
    kith_assert(epoch > SHARD_EPOCH && epoch > end_epoch(shard));
    entry_add(shard, epoch, NULL, 0);
    send_unless_waiting(shard);
}

void kith_shard_commit(kith_shard *shard, uint64_t sequence) {
    shard_replica *replica = &shard->replica;
    if (sequence <= replica->committed) return;
    replica->committed = sequence;
    note(shard);
    if (shard_head_is_ready(shard)) shard_apply_post(shard);
}

void kith_shard_answer_committed(kith_shard *shard) {
    shard_replica *replica = &shard->replica;
    uint64_t last = least(replica->committed, shard->last_sequence);
    if (replica->answered < shard->applied_sequence) replica->answered = shard->applied_sequence;
    while (replica->answered < last) {
        shard_entry *entry = entry_of(shard, ++replica->answered);
        if (entry && entry->op_bytes > 0) shard_entry_answer_upsert(entry);
    }
}

bool kith_shard_log_takes(const kith_shard *shard) {
    return takes_entries(shard) && !shard->replica.refused;
}

bool kith_shard_entry(const kith_shard *shard, uint64_t sequence, kith_log_entry *entry_out) {
    const shard_tail_item *item = shard_tail_find(&shard->replica.tail, sequence);
    if (!item) return false;
    *entry_out = (kith_log_entry){.stream = shard->id,
        .epoch = item->epoch,
        .sequence = sequence,
        .data = item->data,
        .bytes = item->bytes};
    return true;
}

/* Oldest entry that memory or the log files have, with nothing missing from it on. */
static uint64_t log_first(const kith_shard *shard) {
    const shard_replica *replica = &shard->replica;
    uint64_t end = shard->last_sequence + 1;
    uint64_t in_files = kith_store_log_first(shard->node->log, shard->id);
    uint64_t in_memory = replica->tail.count > 0 ? replica->tail.first : end;
    uint64_t first = least(in_files, in_memory);
    if (replica->epochs.count == 0) return end;
    return first > replica->epochs.first ? first : replica->epochs.first;
}

void kith_shard_log_state_read(const kith_shard *shard, kith_shard_log_state *state_out) {
    const shard_epochs *epochs = &shard->replica.epochs;
    kith_shard_log_state state = {.first = log_first(shard),
        .end_epoch = end_epoch(shard),
        .end_sequence = shard->last_sequence,
        .applied = shard->stored_sequence};
    if (state.first <= state.end_sequence) {
        uint32_t index = shard_epochs_index(epochs, state.first);
        if (epochs->sequences[index] < state.first) epochs->sequences[index] = state.first;
        state.epochs = epochs->epochs + index;
        state.sequences = epochs->sequences + index;
        state.epoch_count = epochs->count - index;
    }
    *state_out = state;
}
