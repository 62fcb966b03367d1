/* Appends of others. Each is kept until the step machine answers it, which is when what it brought is durable. */
#include "host/base/alloc.h"
#include "host/replica/replica_internal.h"

struct replica_receipt {
    kith_transport_request *request;
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

static void not_ready(kith_replica_set *set, replica_receipt *receipt) {
    kith_codec_append_reply reply = {
        .outcome = KITH_REPLICA_NOT_READY, .epoch = receipt->append.epoch, .stamp_ns = replica_now_ns(set)};
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

void replica_receipts_refuse(replica *own) {
    while (own->receipts) {
        replica_receipt *receipt = own->receipts;
        receipt_unlink(own, receipt);
        not_ready(own->set, receipt);
    }
}

static void receipt_take(replica *own, uint32_t from, replica_receipt *receipt) {
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
        .entry_count = append->entry_count,
        .entry_epochs = epochs,
    };
    receipt_link(own, receipt);
    kith_replica_step_received(
        own->step, from, &received, (uint64_t)(uintptr_t)receipt, replica_now_ns(own->set));
    replica_after_event(own);
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
        not_ready(set, receipt);
        return;
    }
    receipt_take(own, from, receipt);
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
    reply_send(own->set, receipt->request, &reply);
    receipt_free(receipt);
}
