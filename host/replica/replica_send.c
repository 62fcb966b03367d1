/* Appends to others. Entries that are still in memory are written into the message at once; otherwise they are read back from the log
 * files on the background executor, where several versions of one sequence may be: the one that counts has the epoch that the step
 * machine knows of it. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/replica/replica_internal.h"

/* An append that is not answered in so many leases may as well be lost. */
#define DEADLINE_LEASES 4u
#define DEADLINE_NS_MIN (500 * MS_NS)

struct replica_sending {
    kith_transport_call call;
    kith_task task; /* to the background executor, and back to the owner */
    replica *own;
    replica_sending *previous, *next;
    uint32_t peer;
    uint64_t send_id;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    kith_codec_append_request request;
    kith_buf bytes;
    bool is_called, is_answered;
    kith_replica_reply reply;
    /* Read back from the log: */
    uint64_t first, last;
    uint64_t *epochs;                 /* [last - first + 1] that the entries have */
    kith_codec_append_entry *entries; /* [last - first + 1] */
    size_t *offsets;                  /* of their bytes in `read`, while it grows */
    kith_buf read;
    bool is_trimmed; /* the log's files do not reach back so far */
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

/* On the owner. */
static void sending_ended(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    replica *own = sending->own;
    kith_replica_set *set = own->set;
    sending_unlink(sending);
    if (own->step && !own->let_go) {
        if (sending->is_trimmed) trimmed_tell(own);
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
        };
    }
    sending_end(sending);
}

static void sending_call(replica_sending *sending) {
    kith_replica_set *set = sending->own->set;
    sending->is_called = true;
    kith_codec_append_request_encode(&sending->request, &sending->bytes);
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

static kith_status entry_read(void *ctx, const kith_log_entry *entry, kith_err *err) {
    replica_sending *sending = ctx;
    (void)err;
    if (entry->sequence < sending->first || entry->sequence > sending->last) return KITH_OK;
    size_t index = (size_t)(entry->sequence - sending->first);
    if (entry->epoch != sending->epochs[index]) return KITH_OK; /* another one's, cut off */
    sending->entries[index] =
        (kith_codec_append_entry){.epoch = entry->epoch, .sequence = entry->sequence, .bytes = entry->bytes};
    sending->offsets[index] = sending->read.bytes;
    kith_buf_append(&sending->read, entry->data, entry->bytes);
    return KITH_OK;
}

/* As many as follow each other without a gap; what is missing of an append is asked for again. */
static uint32_t entries_found(replica_sending *sending) {
    uint32_t count = 0, wanted = (uint32_t)(sending->last - sending->first + 1);
    size_t bytes = 0, bytes_max = sending->own->set->options.append_inflight_bytes_max;
    for (; count < wanted && sending->entries[count].sequence != 0; count++) {
        bytes += sending->entries[count].bytes;
        if (count > 0 && bytes > bytes_max) break;
        sending->entries[count].data = sending->read.data + sending->offsets[count];
    }
    return count;
}

/* On the owner. */
static void sending_was_read(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    replica *own = sending->own;
    if (sending->request.entry_count == 0 || own->let_go || own->set->stopped)
        sending_ended(task);
    else
        sending_call(sending);
}

/* On the background executor. */
static void sending_read(kith_task *task) {
    replica_sending *sending = (replica_sending *)(void *)((char *)task - offsetof(replica_sending, task));
    kith_replica_set *set = sending->own->set;
    kith_err err;
    kith_status status = kith_store_log_read(set->options.node->log, sending->own->shard_id, sending->first,
        sending->last, entry_read, sending, &err);
    uint32_t count = entries_found(sending);
    sending->is_trimmed = status == KITH_NOT_FOUND;
    sending->request.entries = sending->entries;
    sending->request.entry_count = status == KITH_OK ? count : 0;
    sending->task.run = sending_was_read;
    kith_executor_post(set->owner, &sending->task);
}

static void sending_read_begin(replica_sending *sending, uint64_t first, uint32_t count) {
    replica *own = sending->own;
    sending->first = first;
    sending->last = first + count - 1;
    sending->epochs = kith_alloc_array(count, sizeof *sending->epochs);
    sending->entries = kith_alloc_zero(count * sizeof *sending->entries);
    sending->offsets = kith_alloc_array(count, sizeof *sending->offsets);
    for (uint32_t i = 0; i < count; i++)
        sending->epochs[i] = kith_replica_step_epoch_of(own->step, first + i);
    sending->task.run = sending_read;
    kith_executor_post(own->set->options.node->background, &sending->task);
}

/* --- start --- */

static uint64_t deadline_ns(const kith_replica_set *set) {
    uint64_t for_ns = DEADLINE_LEASES * set->options.lease_ns;
    return replica_now_ns(set) + (for_ns > DEADLINE_NS_MIN ? for_ns : DEADLINE_NS_MIN);
}

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
    };
    sending->call = (kith_transport_call){.kind = KITH_AM_APPEND,
        .address = sending->address,
        .deadline_ns = deadline_ns(own->set),
        .done = call_done};
    kith_buf_init(&sending->bytes);
    kith_buf_init(&sending->read);
    sending_link(sending);
    return sending;
}

void replica_send(replica *own, const kith_replica_action *action) {
    kith_replica_set *set = own->set;
    replica_sending *sending = sending_create(own, action);
    const replica_node *node = replica_node_of(set, action->peer);
    if (!node || set->stopped || !own->shard) {
        sending_end(sending);
        return;
    }
    sending->call.node = node->id;
    memcpy(sending->address, node->address, sizeof sending->address);
    uint64_t count = action->last >= action->first ? action->last - action->first + 1 : 0;
    if (count > KITH_CODEC_APPEND_ENTRIES_MAX) count = KITH_CODEC_APPEND_ENTRIES_MAX;
    if (entries_gather(own, action->first, (uint32_t)count)) {
        sending->request.entries = set->entries;
        sending->request.entry_count = (uint32_t)count;
        sending_call(sending);
    } else {
        sending_read_begin(sending, action->first, (uint32_t)count);
    }
}

void replica_sendings_cancel(replica *own) {
    for (replica_sending *sending = own->sendings; sending; sending = sending->next) {
        if (sending->is_called) kith_transport_cancel(own->set->options.transport, &sending->call);
    }
}
