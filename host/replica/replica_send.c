/* Appends to others. Entries that are still in memory are written into the message at once; otherwise they are read back from the log
 * files on the background executor, where several versions of one sequence may be: the one that counts has the epoch that the step
 * machine knows of it.
 *
 * To one replica they leave in the order in which they were asked for, though some are ready before others: one that overtook would find
 * nothing to follow, be refused, and all would be sent again, for ever where reading takes longer than a refusal. One is read back at a
 * time, from where the one before it ended. Those that the step machine has forgotten since are dropped. */
#include <stdatomic.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

/* An append that is not answered in so many leases may as well be lost. */
#define DEADLINE_LEASES 4u
#define DEADLINE_NS_MIN (500 * MS_NS)

typedef enum sending_state {
    SENDING_WAITS = 0, /* for its turn to be read back */
    SENDING_IS_READ,
    SENDING_IS_READY, /* and waits for its turn to be called */
    SENDING_HAS_LEFT, /* called, or about to end */
} sending_state;

struct replica_sending {
    kith_transport_call call;
    kith_task task; /* to the background executor, and back to the owner */
    replica *own;
    replica_sending *previous, *next; /* newest first */
    uint32_t peer;
    uint64_t send_id;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    sending_state state;
    kith_codec_append_request request;
    kith_buf bytes;
    bool is_called, is_answered;
    kith_replica_reply reply;
    atomic_bool is_forgotten; /* by the step machine: nobody waits for it */
    /* Read back from the log: */
    uint64_t first, last;
    uint64_t *epochs;                 /* [last - first + 1] that the entries have */
    kith_codec_append_entry *entries; /* [last - first + 1] */
    size_t *offsets;                  /* of their bytes in `read`, while it grows */
    kith_buf read;
    uint32_t found;             /* entries from `first` on without a gap */
    size_t found_bytes;         /* theirs; at most what one append may have */
    kith_log_place at, last_at; /* where the reading is; where the last one found is */
    bool is_trimmed;            /* the log's files do not reach back so far */
    bool is_unreadable;         /* they are damaged where the first one is, or soon behind it */
};

static void sending_free(replica_sending *sending) {
    kith_buf_fini(&sending->bytes);
    kith_buf_fini(&sending->read);
    kith_free(sending->epochs);
    kith_free(sending->entries);
    kith_free(sending->offsets);
    kith_free(sending);
}

static void sending_link(replica_sending *sending) {
    replica *own = sending->own;
    sending->next = own->sendings;
    if (own->sendings) own->sendings->previous = sending;
    own->sendings = sending;
    replica_use(own->set, own);
}

static void sending_unlink(replica_sending *sending) {
    replica *own = sending->own;
    if (sending->previous)
        sending->previous->next = sending->next;
    else
        own->sendings = sending->next;
    if (sending->next) sending->next->previous = sending->previous;
}

/* --- the end --- */

static void trimmed_tell(replica *own) {
    uint64_t first = kith_store_log_first(own->set->options.node->log, own->shard_id);
    kith_replica_step_trimmed(own->step, first);
}

static void sendings_go(replica *own, uint32_t peer);

/* On the owner. */
static void sending_ended(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    replica *own = sending->own;
    kith_replica_set *set = own->set;
    sending_unlink(sending);
    if (own->step && !own->let_go && !set->stopped) {
        if (sending->is_trimmed) trimmed_tell(own);
        /* What cannot be read is as good as gone, or whoever lacks it would wait for it for ever. */
        if (sending->is_unreadable) kith_replica_step_trimmed(own->step, sending->first + 1);
        kith_replica_step_answered(own->step, sending->peer, sending->send_id,
            sending->is_answered ? &sending->reply : NULL, replica_now_ns(set));
        replica_after_event(own);
    }
    sending_free(sending);
    replica_unuse(set, own);
}

static void sending_end(replica_sending *sending) {
    sending->task.run = sending_ended;
    kith_executor_post(sending->own->set->owner, &sending->task);
}

/* Any thread. */
static void call_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    replica_sending *sending = (replica_sending *)call;
    kith_codec_append_reply decoded;
    kith_err ignored;
    (void)err; /* silence says it all: the step machine tries again */
    if (status == KITH_OK &&
        kith_codec_append_reply_decode(reply, reply_bytes, &decoded, &ignored) == KITH_OK) {
        sending->is_answered =
            decoded.outcome >= KITH_REPLICA_OK && decoded.outcome <= KITH_REPLICA_NEEDS_EPOCH;
        sending->reply = (kith_replica_reply){
            .outcome = (kith_replica_outcome)decoded.outcome,
            .epoch = decoded.epoch,
            .matched = decoded.matched,
            .hint = decoded.hint,
            .stamp_ns = decoded.stamp_ns,
            .applied = decoded.applied,
            .full = decoded.full,
        };
    }
    sending_end(sending);
}

static uint64_t deadline_ns(const kith_replica_set *set) {
    uint64_t for_ns = DEADLINE_LEASES * set->options.lease_ns;
    return replica_now_ns(set) + (for_ns > DEADLINE_NS_MIN ? for_ns : DEADLINE_NS_MIN);
}

static void sending_make(replica_sending *sending) {
    kith_codec_append_request_encode(&sending->request, &sending->bytes);
    sending->state = SENDING_IS_READY;
}

static void sending_call(replica_sending *sending) {
    kith_replica_set *set = sending->own->set;
    sending->state = SENDING_HAS_LEFT;
    sending->is_called = true;
    sending->call.deadline_ns = deadline_ns(set);
    sending->call.bytes = sending->bytes.data;
    sending->call.byte_count = sending->bytes.bytes;
    kith_transport_start(set->options.transport, &sending->call);
}

/* --- entries from memory --- */

/* False: some are not there. Borrowed until this task ends. */
static bool entries_gather(replica *own, uint64_t first, uint32_t count) {
    kith_codec_append_entry *entries = own->set->entries;
    for (uint32_t i = 0; i < count; i++) {
        kith_log_entry entry;
        if (!kith_shard_entry(own->shard, first + i, &entry)) return false;
        entries[i] = (kith_codec_append_entry){
            .epoch = entry.epoch, .sequence = entry.sequence, .data = entry.data, .bytes = entry.bytes};
    }
    return true;
}

/* --- entries from the log files --- */

/* Whoever goes on behind `after` can begin at `place`. */
static replica_reading *reading_of(const replica_sending *sending) {
    return &sending->own->readings[sending->peer % KITH_REPLICAS_MAX];
}

static kith_log_place reading_begin(const replica_sending *sending) {
    const replica_reading *reading = reading_of(sending);
    bool goes_on = reading->peer == sending->peer && reading->after < sending->first;
    return goes_on ? reading->place : (kith_log_place){0};
}

static size_t append_bytes_max(const replica_sending *sending) {
    return sending->own->set->options.append_inflight_bytes_max / REPLICA_APPEND_WINDOW;
}

/* In the order of the log, so that those that count come one behind the other. */
static kith_status entry_read(void *ctx, const kith_log_entry *entry, kith_err *err) {
    replica_sending *sending = ctx;
    if (atomic_load_explicit(&sending->is_forgotten, memory_order_relaxed))
        return kith_err_set(err, KITH_CANCELLED, "not needed any more");
    if (entry->sequence != sending->first + sending->found) return KITH_OK;
    if (entry->epoch != sending->epochs[sending->found]) return KITH_OK; /* another one's, cut off */
    bool fits = sending->found == 0 || sending->found_bytes + entry->bytes <= append_bytes_max(sending);
    if (!fits) return kith_err_set(err, KITH_CANCELLED, "enough");
    sending->entries[sending->found] =
        (kith_codec_append_entry){.epoch = entry->epoch, .sequence = entry->sequence, .bytes = entry->bytes};
    sending->offsets[sending->found++] = sending->read.bytes;
    sending->found_bytes += entry->bytes;
    sending->last_at = sending->at;
    kith_buf_append(&sending->read, entry->data, entry->bytes);
    if (sending->first + sending->found > sending->last) return kith_err_set(err, KITH_CANCELLED, "all");
    return KITH_OK;
}

/* What was not found, or was too much, is asked for again. */
static void sending_take_found(replica_sending *sending) {
    replica *own = sending->own;
    for (uint32_t i = 0; i < sending->found; i++)
        sending->entries[i].data = sending->read.data + sending->offsets[i];
    sending->request.entries = sending->entries;
    sending->request.entry_count = sending->found;
    uint64_t last = sending->first + sending->found - 1;
    *reading_of(sending) = (replica_reading){.peer = sending->peer, .after = last, .place = sending->last_at};
    if (last < sending->last)
        kith_replica_step_shortened(own->step, sending->peer, sending->send_id, last, sending->found_bytes);
    sending_make(sending);
    kith_buf_fini(&sending->read);
}

/* Those to `peer` that have entries from `first` on, asked for before `newest`. */
static void sendings_forget(replica_sending *newest, uint32_t peer, uint64_t first) {
    for (replica_sending *at = newest; at; at = at->next) {
        if (at->peer == peer && at->last >= first)
            atomic_store_explicit(&at->is_forgotten, true, memory_order_relaxed);
    }
}

/* On the owner. */
static void sending_was_read(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    replica *own = sending->own;
    uint32_t peer = sending->peer;
    bool is_forgotten = atomic_load_explicit(&sending->is_forgotten, memory_order_relaxed);
    replica_use(own->set, own); /* until it has gone on */
    if (is_forgotten || sending->found == 0 || own->let_go || own->set->stopped) {
        /* Where nothing is, what was to follow it is forgotten with it. */
        if (!is_forgotten) sendings_forget(own->sendings, peer, sending->first);
        sending_ended(task);
    } else {
        sending_take_found(sending);
        replica_after_event(own);
    }
    sendings_go(own, peer);
    replica_unuse(own->set, own);
}

/* On the background executor. */
static void sending_read(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    kith_replica_set *set = sending->own->set;
    kith_err err;
    kith_status status = kith_store_log_read(set->options.node->log, sending->own->shard_id, sending->first,
        sending->last, &sending->at, entry_read, sending, &err);
    sending->is_trimmed = status == KITH_NOT_FOUND;
    sending->is_unreadable = status == KITH_CORRUPT || status == KITH_IO;
    if (sending->is_unreadable)
        kith_log_error("replica_log_unreadable", kith_kv_u64("shard", sending->own->shard_id),
            kith_kv_u64("from", sending->first), kith_kv_text("reason", err.text));
    if (status != KITH_OK && status != KITH_CANCELLED) sending->found = 0;
    sending->task.run = sending_was_read;
    kith_executor_post(set->owner, &sending->task);
}

static void sending_read_prepare(replica_sending *sending) {
    replica *own = sending->own;
    uint64_t count = sending->last - sending->first + 1;
    sending->epochs = kith_alloc_array(count, sizeof *sending->epochs);
    sending->entries = kith_alloc_zero(count * sizeof *sending->entries);
    sending->offsets = kith_alloc_array(count, sizeof *sending->offsets);
    for (uint64_t i = 0; i < count; i++)
        sending->epochs[i] = kith_replica_step_epoch_of(own->step, sending->first + i);
}

static void sending_read_begin(replica_sending *sending) {
    sending->state = SENDING_IS_READ;
    sending->at = reading_begin(sending);
    sending->task.run = sending_read;
    kith_executor_post(sending->own->set->options.node->background, &sending->task);
}

/* --- taking turns --- */

/* The one to `peer` that was asked for first and has not left; NULL: none. */
static replica_sending *sending_next(const replica *own, uint32_t peer) {
    replica_sending *found = NULL;
    for (replica_sending *at = own->sendings; at; at = at->next) {
        if (at->peer == peer && at->state != SENDING_HAS_LEFT) found = at;
    }
    return found;
}

static void sending_leave(replica_sending *sending) {
    sending->state = SENDING_HAS_LEFT;
    sending_end(sending);
}

static void sendings_go(replica *own, uint32_t peer) {
    for (;;) {
        replica_sending *sending = sending_next(own, peer);
        if (!sending || sending->state == SENDING_IS_READ) return;
        if (own->let_go || own->set->stopped ||
            atomic_load_explicit(&sending->is_forgotten, memory_order_relaxed))
            sending_leave(sending);
        else if (sending->state == SENDING_IS_READY)
            sending_call(sending);
        else
            sending_read_begin(sending);
    }
}

/* --- start --- */

static replica_sending *sending_create(replica *own, const kith_replica_action *action) {
    replica_sending *sending = kith_alloc_zero(sizeof *sending);
    sending->own = own;
    sending->peer = action->peer;
    sending->send_id = action->send_id;
    sending->request = (kith_codec_append_request){
        .shard_id = own->shard_id,
        .epoch = action->epoch,
        .previous_epoch = action->position.epoch,
        .previous_sequence = action->position.sequence,
        .committed = action->committed,
        .echo_ns = action->echo_ns,
        .snapshot_needed = action->snapshot_needed,
        .loss_epoch = action->loss_epoch,
        .asks_room = action->asks_room,
    };
    sending->first = action->first;
    sending->last = action->last;
    sending->call =
        (kith_transport_call){.kind = KITH_AM_APPEND, .address = sending->address, .done = call_done};
    kith_buf_init(&sending->bytes);
    kith_buf_init(&sending->read);
    sending_link(sending);
    return sending;
}

void replica_send(replica *own, const kith_replica_action *action) {
    kith_replica_set *set = own->set;
    replica_sending *sending = sending_create(own, action);
    const replica_node *node = replica_node_of(set, action->peer);
    /* The step machine asks for entries anew: it has forgotten what had them. */
    sendings_forget(sending->next, action->peer, action->first);
    if (!node || set->stopped || !own->shard) {
        sending_leave(sending);
        return;
    }
    sending->call.node = node->id;
    memcpy(sending->address, node->address, sizeof sending->address);
    uint64_t count = action->last >= action->first ? action->last - action->first + 1 : 0;
    kith_assert(count <= KITH_CODEC_APPEND_ENTRIES_MAX);
    if (entries_gather(own, action->first, (uint32_t)count)) {
        sending->request.entries = set->entries;
        sending->request.entry_count = (uint32_t)count;
        sending_make(sending);
    } else {
        sending_read_prepare(sending);
    }
    sendings_go(own, action->peer);
}

/* One that is being read ends when it was. */
void replica_sendings_cancel(replica *own) {
    for (replica_sending *sending = own->sendings; sending; sending = sending->next) {
        if (sending->is_called)
            kith_transport_cancel(own->set->options.transport, &sending->call);
        else if (sending->state == SENDING_WAITS || sending->state == SENDING_IS_READY)
            sending_leave(sending);
        else
            atomic_store_explicit(&sending->is_forgotten, true, memory_order_relaxed);
    }
}
