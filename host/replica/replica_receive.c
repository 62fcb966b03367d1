/* Appends of others. Each is kept until the step machine answers it, which is when what it brought is durable.
 *
 * A shard that is full (it seals, or applies, slower than entries come) takes none: appends with entries wait, in order, before the step
 * machine has seen them, as if they were on their way for longer; the primary sends no more than its window. It hears of it
 * in time for its lease: an append that has waited for long is answered as if it had brought nothing, and that there is no room.
 * Then the primary sends no entries, but asks for room (KITH_AM_APPEND without entries), one question at a time: it is answered
 * when there is, or again in time for the lease. A shard that had no room for long says nothing that counts instead, so that
 * the primary goes on without it. */
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/replica/replica_internal.h"

#define HELD_MAX 64u /* more than what a primary, and one before it, have under way */
/* Of a lease, in percent: what is sent when one was answered is answered before the lease ends. */
#define HOLD_PERCENT    40u
#define PATIENCE_LEASES 8u /* without room: then silent; a guess, longer than most seals */

struct replica_receipt {
    kith_transport_request *request;
    uint32_t from;
    uint64_t held_until_ns;
    bool has_lapsed;               /* what it brought was not taken */
    kith_codec_append_reply reply; /* of one that asks, while it waits for room */
    kith_arena arena;
    kith_codec_append_request append; /* its entries borrow the arena and the request */
    replica_receipt *previous, *next;
};

static void reply_send(
    kith_replica_set *set, kith_transport_request *request, const kith_codec_append_reply *reply) {
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_append_reply_encode(reply, &bytes);
    kith_transport_reply(request, set->options.transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

static void receipt_free(replica_receipt *receipt) {
    kith_arena_fini(&receipt->arena);
    kith_free(receipt);
}

static void not_ready(kith_replica_set *set, replica_receipt *receipt, bool full) {
    kith_codec_append_reply reply = {.outcome = KITH_REPLICA_NOT_READY,
        .epoch = receipt->append.epoch,
        .stamp_ns = replica_now_ns(set),
        .full = full};
    reply_send(set, receipt->request, &reply);
    receipt_free(receipt);
}

static void receipt_link(replica *own, replica_receipt *receipt) {
    receipt->previous = NULL;
    receipt->next = own->receipts;
    if (own->receipts) own->receipts->previous = receipt;
    own->receipts = receipt;
}

static void receipt_unlink(replica *own, replica_receipt *receipt) {
    if (receipt->previous)
        receipt->previous->next = receipt->next;
    else
        own->receipts = receipt->next;
    if (receipt->next) receipt->next->previous = receipt->previous;
}

static replica_receipt *held_pop(replica *own) {
    replica_receipt *receipt = own->held_first;
    own->held_first = receipt->next;
    own->held_count--;
    return receipt;
}

static void lapsed_refuse(replica *own) {
    while (own->lapsed) {
        replica_receipt *receipt = own->lapsed;
        own->lapsed = receipt->next;
        not_ready(own->set, receipt, true);
    }
}

static void held_refuse(replica *own, bool full) {
    lapsed_refuse(own);
    while (own->held_first)
        not_ready(own->set, held_pop(own), full);
}

static replica_receipt *asking_take(replica *own) {
    replica_receipt *receipt = own->asking;
    own->asking = NULL;
    return receipt;
}

void replica_receipts_refuse(replica *own) {
    while (own->receipts) {
        replica_receipt *receipt = own->receipts;
        receipt_unlink(own, receipt);
        not_ready(own->set, receipt, false);
    }
    held_refuse(own, false);
    if (own->asking) not_ready(own->set, asking_take(own), false);
}

static void receipt_tell(replica *own, replica_receipt *receipt) {
    const kith_codec_append_request *append = &receipt->append;
    uint64_t *epochs = kith_arena_array(&receipt->arena, append->entry_count, sizeof *epochs);
    for (uint32_t i = 0; i < append->entry_count; i++)
        epochs[i] = append->entries[i].epoch;
    kith_replica_append received = {
        .epoch = append->epoch,
        .previous = {.epoch = append->previous_epoch, .sequence = append->previous_sequence},
        .committed = append->committed,
        .echo_ns = append->echo_ns,
        .snapshot_needed = append->snapshot_needed,
        .loss_epoch = append->loss_epoch,
        .entry_count = append->entry_count,
        .entry_epochs = epochs,
    };
    receipt_link(own, receipt);
    kith_replica_step_received(
        own->step, receipt->from, &received, (uint64_t)(uintptr_t)receipt, replica_now_ns(own->set));
    replica_after_event(own);
}

/* --- those that wait for room --- */

static bool is_full(const replica *own) {
    return own->shard && kith_shard_is_full(own->shard);
}

/* Entries that are not here, and cost memory. */
static bool brings_bytes(const replica *own, const replica_receipt *receipt) {
    for (uint32_t i = 0; i < receipt->append.entry_count; i++) {
        const kith_codec_append_entry *entry = &receipt->append.entries[i];
        if (entry->bytes > 0 && entry->sequence > own->shown.status.end.sequence) return true;
    }
    return false;
}

/* What follows one that waits has to wait too. */
static bool has_to_wait(const replica *own, const replica_receipt *receipt) {
    const kith_codec_append_request *append = &receipt->append;
    if (append->previous_sequence + append->entry_count <= own->shown.status.end.sequence) return false;
    return own->held_first || (brings_bytes(own, receipt) && is_full(own));
}

static void full_tell(replica *own, bool is_full_now) {
    if (own->full_told == is_full_now) return;
    own->full_told = is_full_now;
    if (is_full_now)
        kith_log_warn("replica_full", kith_kv_u64("shard", own->shard_id));
    else
        kith_log_info("replica_roomy", kith_kv_u64("shard", own->shard_id));
}

static void receipt_take(replica *own, replica_receipt *receipt) {
    if (brings_bytes(own, receipt)) {
        own->roomy_ns = replica_now_ns(own->set);
        full_tell(own, false);
    }
    receipt_tell(own, receipt);
}

static uint64_t hold_ns(const replica *own) {
    return own->set->options.lease_ns / 100 * HOLD_PERCENT;
}

static uint64_t held_due_ns(const replica *own) {
    uint64_t due_ns = own->held_first ? own->held_first->held_until_ns : UINT64_MAX;
    if (own->asking && own->asking->held_until_ns < due_ns) due_ns = own->asking->held_until_ns;
    return own->lapsed && own->lapsed_until_ns < due_ns ? own->lapsed_until_ns : due_ns;
}

static void held_time(replica *own) {
    own->held_due_ns = held_due_ns(own);
    replica_timer_want(own->set, own->held_due_ns);
}

static bool is_before(const kith_codec_append_request *a, const kith_codec_append_request *b) {
    return a->epoch != b->epoch ? a->epoch < b->epoch : a->previous_sequence < b->previous_sequence;
}

/* In the order of the log: one may have overtaken another. */
static void held_insert(replica *own, replica_receipt *receipt) {
    replica_receipt **link = &own->held_first;
    while (*link && !is_before(&receipt->append, &(*link)->append))
        link = &(*link)->next;
    receipt->next = *link;
    *link = receipt;
    own->held_count++;
}

static void hold(replica *own, replica_receipt *receipt) {
    kith_replica_set *set = own->set;
    if (own->held_count == HELD_MAX) {
        not_ready(set, receipt, true);
        return;
    }
    receipt->held_until_ns = replica_now_ns(set) + hold_ns(own);
    held_insert(own, receipt);
    held_time(own);
}

/* The first has waited for long. What follows it has nothing to follow, and is refused, but later: a refusal that overtook the answer would make the
 * primary forget what was answered. */
static void held_lapse(replica *own) {
    replica_receipt *first = held_pop(own);
    lapsed_refuse(own);
    own->lapsed = own->held_first;
    own->held_first = NULL;
    own->held_count = 0;
    own->lapsed_until_ns = replica_now_ns(own->set) + hold_ns(own);
    first->append.entry_count = 0;
    first->has_lapsed = true;
    receipt_tell(own, first);
}

static bool is_patient(const replica *own, uint64_t now_ns) {
    return now_ns - own->roomy_ns < PATIENCE_LEASES * own->set->options.lease_ns;
}

static void held_answer(replica *own, uint64_t now_ns) {
    if (is_patient(own, now_ns)) {
        held_lapse(own);
    } else {
        full_tell(own, true);
        held_refuse(own, true);
    }
}

/* --- one that asks for room: the step machine has seen it, and its answer waits --- */

static void asking_answer(replica *own, uint64_t now_ns) {
    replica_receipt *receipt = asking_take(own);
    receipt->reply.full = is_full(own);
    if (receipt->reply.full && !is_patient(own, now_ns)) {
        full_tell(own, true);
        not_ready(own->set, receipt, true);
        return;
    }
    reply_send(own->set, receipt->request, &receipt->reply);
    receipt_free(receipt);
}

static void asking_hold(replica *own, replica_receipt *receipt, const kith_codec_append_reply *reply) {
    uint64_t now_ns = replica_now_ns(own->set);
    if (own->asking) asking_answer(own, now_ns); /* of another primary, or one that was given up */
    receipt->reply = *reply;
    receipt->held_until_ns = now_ns + hold_ns(own);
    own->asking = receipt;
    held_time(own);
}

static void asking_look(replica *own, uint64_t now_ns) {
    if (own->asking && (own->asking->held_until_ns <= now_ns || !is_full(own))) asking_answer(own, now_ns);
}

void replica_held_look(replica *own) {
    if ((!own->held_first && !own->asking) || is_full(own)) return;
    own->held_due_ns = replica_now_ns(own->set);
    replica_timer_want(own->set, own->held_due_ns);
}

void replica_held_tick(replica *own, uint64_t now_ns) {
    while (own->held_first && !is_full(own))
        receipt_take(own, held_pop(own));
    if (own->held_first && own->held_first->held_until_ns <= now_ns) held_answer(own, now_ns);
    if (own->lapsed && own->lapsed_until_ns <= now_ns) lapsed_refuse(own);
    asking_look(own, now_ns);
    own->held_due_ns = held_due_ns(own);
}

void replica_append_handle(void *ctx, kith_transport_request *request) {
    kith_replica_set *set = ctx;
    replica_receipt *receipt = kith_alloc_zero(sizeof *receipt);
    kith_err err;
    receipt->request = request;
    kith_arena_init(&receipt->arena);
    kith_status status = kith_codec_append_request_decode(
        request->bytes, request->byte_count, &receipt->arena, &receipt->append, &err);
    if (status != KITH_OK) {
        kith_transport_reply(request, set->options.transport, status, NULL, 0, &err);
        receipt_free(receipt);
        return;
    }
    replica *own = replica_find(set, receipt->append.shard_id);
    uint32_t from = replica_number_of(set, &request->from);
    if (set->stopped || !own || !own->step || own->let_go || from == 0) {
        if (!set->stopped) replica_pull_map(set); /* the sender goes by a map that this node has not */
        not_ready(set, receipt, false);
        return;
    }
    receipt->from = from;
    replica_heard(own, replica_now_ns(set));
    if (has_to_wait(own, receipt))
        hold(own, receipt);
    else
        receipt_take(own, receipt);
}

/* --- what the step machine says --- */

static replica_receipt *receipt_of(const kith_replica_action *action) {
    return (replica_receipt *)(uintptr_t)action->token;
}

void replica_receipt_append(replica *own, const kith_replica_action *action) {
    const kith_codec_append_request *append = &receipt_of(action)->append;
    uint64_t skipped = action->first - append->previous_sequence - 1;
    uint32_t count = (uint32_t)(action->last - action->first + 1);
    kith_log_entry *entries = kith_arena_array(&receipt_of(action)->arena, count, sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        const kith_codec_append_entry *entry = &append->entries[skipped + i];
        entries[i] = (kith_log_entry){.stream = own->shard_id,
            .epoch = entry->epoch,
            .sequence = entry->sequence,
            .data = entry->data,
            .bytes = entry->bytes};
    }
    kith_shard_append(own->shard, entries, count);
}

void replica_receipt_answer(replica *own, const kith_replica_action *action) {
    replica_receipt *receipt = receipt_of(action);
    kith_codec_append_reply reply = {
        .outcome = action->reply.outcome,
        .epoch = action->reply.epoch,
        .matched = action->reply.matched,
        .hint = action->reply.hint,
        .stamp_ns = action->reply.stamp_ns,
        .applied = own->applied,
    };
    receipt_unlink(own, receipt);
    reply.full = action->reply.full || (receipt->has_lapsed && is_full(own));
    if (receipt->append.asks_room && reply.outcome == KITH_REPLICA_OK && is_full(own)) {
        asking_hold(own, receipt, &reply);
        return;
    }
    reply_send(own->set, receipt->request, &reply);
    receipt_free(receipt);
}
