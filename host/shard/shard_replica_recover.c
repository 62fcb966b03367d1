/* Recovery of a replica. Entries of the log that are not sealed stand in the tail until it is known that they are committed: a commit
 * note says so, or, at the end, that the store has applied them. What is left is durable, and waits for the gate.
 *
 * An entry of the log counts when it follows the ones before it, or supersedes some. One behind a gap is of an append that
 * was given to the log again later (shard_replica.c); one with a lower epoch than the entry before it is of a log that a snapshot
 * replaced. Entries of SHARD_EPOCH were written without a gate: acknowledged as soon as they were durable, so they are
 * committed, and what the log refused then left gaps. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/shard/shard_internal.h"

/* What the entry before `sequence` says of its own epoch; 0: nothing is known. */
static uint64_t epoch_before(const kith_shard *shard, uint64_t sequence) {
    const shard_tail_item *before = shard_tail_find(&shard->replica.tail, sequence - 1);
    if (before) return before->epoch;
    if (sequence <= shard->stored_sequence) return 0;
    return shard->applied_sequence >= shard->stored_sequence ? shard->applied_epoch
                                                             : shard->replica.stored_epoch;
}

static bool counts(const kith_shard *shard, const kith_log_entry *entry) {
    if (entry->sequence <= shard->replica.floor) return false;
    if (entry->sequence > shard->last_sequence + 1) return false;
    return entry->epoch >= epoch_before(shard, entry->sequence);
}

static void tail_cut(kith_shard *shard, uint64_t sequence) {
    while (shard->last_sequence >= sequence) {
        kith_free(shard_tail_pop_back(&shard->replica.tail).data);
        shard->last_sequence--;
    }
}

static void tail_add(kith_shard *shard, const kith_log_entry *entry) {
    shard_tail_item item = {.epoch = entry->epoch, .bytes = entry->bytes};
    if (entry->bytes > 0) {
        item.data = kith_alloc(entry->bytes);
        memcpy(item.data, entry->data, entry->bytes);
    }
    tail_cut(shard, entry->sequence);
    shard_tail_push_take(&shard->replica.tail, entry->sequence, &item);
    shard->last_sequence = entry->sequence;
}

/* Written without a gate: as a shard that never had one. */
static kith_status ungated_replay(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    shard_replica *replica = &shard->replica;
    if (replica->log_greatest < entry->sequence) replica->log_greatest = entry->sequence;
    if (entry->sequence <= replica->floor) return KITH_OK;
    shard_epochs_note(&replica->epochs, entry->sequence, entry->epoch);
    if (entry->sequence <= shard->applied_sequence) return KITH_OK;
    return shard_replay_entry(shard, entry, err);
}

static bool is_ungated(const kith_shard *shard, const kith_log_entry *entry) {
    if (entry->epoch != SHARD_EPOCH || shard->replica.tail.count > 0) return false;
    return entry->sequence <= shard->stored_sequence || shard->replica.stored_epoch <= SHARD_EPOCH;
}

kith_status shard_replica_replay(kith_shard *shard, const kith_log_entry *entry, kith_err *err) {
    shard_replica *replica = &shard->replica;
    if (is_ungated(shard, entry)) return ungated_replay(shard, entry, err);
    if (!counts(shard, entry)) {
        if (replica->log_greatest < entry->sequence) replica->log_greatest = entry->sequence;
        return KITH_OK;
    }
    replica->log_greatest = entry->sequence;
    shard_epochs_note(&replica->epochs, entry->sequence, entry->epoch);
    if (entry->sequence > shard->applied_sequence) tail_add(shard, entry);
    return KITH_OK;
}

kith_status shard_replica_replay_committed(kith_shard *shard, uint64_t sequence, kith_err *err) {
    shard_tail *tail = &shard->replica.tail;
    kith_err fault;
    kith_status status = KITH_OK;
    while (status == KITH_OK && tail->count > 0 && tail->first <= sequence) {
        if (shard_health_check(shard, &fault) != KITH_OK) return KITH_OK;
        kith_log_entry entry = {.stream = shard->id, .sequence = tail->first};
        shard_tail_item item = shard_tail_pop_front(tail);
        entry.epoch = item.epoch;
        entry.data = item.data;
        entry.bytes = item.bytes;
        status = shard_replay_entry(shard, &entry, err);
        kith_free(item.data);
    }
    return status;
}

/* --- start --- */

/* An entry that the log has, for the gate to decide on. */
static void pending_add(kith_shard *shard, uint64_t sequence) {
    shard_tail_item *item = shard_tail_find(&shard->replica.tail, sequence);
    shard_entry *entry = kith_alloc_zero(sizeof *entry);
    shard_use_acquire(shard);
    atomic_fetch_add_explicit(&shard->queued_bytes, item->bytes, memory_order_relaxed);
    item->entry = entry;
    entry->shard = shard;
    entry->op = item->data;
    entry->op_bytes = item->bytes;
    entry->deadline_ns = UINT64_MAX;
    entry->in_tail = true;
    entry->logged = true;
    entry->result = (kith_write_result){.epoch = item->epoch, .sequence = sequence};
    shard_entry_append_init(entry);
    kith_op_request_id(item->data, item->bytes, &entry->request_id);
    shard_in_flight_put(shard, entry);
    shard_epochs_note(&shard->replica.epochs, sequence, item->epoch);
    shard_queue_push(&shard->pending, entry);
}

/* The log's epochs are those of this shard only if they agree about the entry that the store has. */
static void epochs_check(kith_shard *shard) {
    shard_epochs *epochs = &shard->replica.epochs;
    uint64_t stored = shard->stored_sequence;
    uint64_t known = shard_epochs_find(epochs, stored);
    bool behind = epochs->count > 0 && epochs->end <= stored;
    if (behind || (known != 0 && known != shard->replica.stored_epoch)) shard_epochs_cut(epochs, 0);
}

kith_status shard_replica_start(kith_shard *shard, kith_err *err) {
    shard_replica *replica = &shard->replica;
    kith_err fault;
    epochs_check(shard);
    kith_status status = shard_replica_replay_committed(shard, shard->stored_sequence, err);
    if (status != KITH_OK || shard_health_check(shard, &fault) != KITH_OK) return status;
    replica->committed = replica->noted = replica->kept = shard->applied_sequence;
    replica->durable = replica->sent = shard->last_sequence;
    if (replica->log_greatest < shard->last_sequence) replica->log_greatest = shard->last_sequence;
    for (uint64_t at = shard->applied_sequence + 1; at <= shard->last_sequence; at++)
        pending_add(shard, at);
    return KITH_OK;
}
