#include "host/query/query_fanout.h"

#include <string.h>

#include "host/base/assert.h"

/* A node that is taken for down is asked all the same, for the judgement may be late, but not waited for: above a round
 * trip within a data centre, with a small search in it. */
#define DOWN_NODE_NS UINT64_C(100000000)

kith_query_fanout *kith_query_fanout_create(const kith_query_base *base, kith_am_kind kind,
    uint32_t part_count, void (*gathered)(kith_query_fanout *fanout), void *ctx) {
    kith_assert(part_count >= 1);
    kith_query_fanout *fanout = kith_arena_alloc_zero(base->arena, sizeof *fanout);
    fanout->base = base;
    fanout->part_count = part_count;
    fanout->parts = kith_arena_alloc_zero(base->arena, part_count * sizeof *fanout->parts);
    fanout->gathered = gathered;
    fanout->ctx = ctx;
    atomic_init(&fanout->remaining, part_count);
    for (uint32_t i = 0; i < part_count; i++) {
        kith_query_part *part = &fanout->parts[i];
        part->fanout = fanout;
        part->call.kind = kind;
        part->call.deadline_ns = base->deadline_ns;
        part->call.cancel_watch = base->cancelled;
        kith_buf_init(&part->request);
        kith_buf_init(&part->kept);
    }
    return fanout;
}

void kith_query_fanout_node_set(kith_query_fanout *fanout, uint32_t part_index, uint32_t node_index) {
    const kith_node *node = &fanout->base->map->nodes[node_index];
    kith_transport_call *call = &fanout->parts[part_index].call;
    call->node = node->id;
    call->address = node->address[0] ? node->address : NULL;
    bool may_be_missing = call->kind == KITH_AM_SEARCH || call->kind == KITH_AM_COUNT;
    if (!node->down || !may_be_missing) return;
    uint64_t until = kith_env_now_ns(fanout->base->env) + DOWN_NODE_NS;
    if (until >= call->deadline_ns) return;
    call->deadline_ns = until;
    fanout->parts[part_index].not_waited_for = true;
}

/* Replies and messages are the transport's until we return: whoever is not last keeps a copy. */
static void reply_keep(
    kith_query_part *part, kith_status status, const void *reply, size_t reply_bytes, const kith_err *err) {
    part->status = status;
    if (status != KITH_OK) {
        kith_buf_append(&part->kept, err->text, strlen(err->text) + 1);
        part->message = (const char *)part->kept.data;
    } else if (part->fanout->part_count == 1) {
        part->reply = reply;
        part->reply_bytes = reply_bytes;
    } else {
        kith_buf_append(&part->kept, reply, reply_bytes);
        part->reply = part->kept.data;
        part->reply_bytes = part->kept.bytes;
    }
}

static void part_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    kith_query_part *part = (kith_query_part *)call;
    kith_query_fanout *fanout = part->fanout;
    kith_err down;
    if (status == KITH_DEADLINE && part->not_waited_for) {
        /* The caller has time left and may try again. */
        status = kith_err_set(&down, KITH_UNAVAILABLE, "the node is taken for down: %s", err->text);
        err = &down;
    }
    kith_buf_fini(&part->request);
    kith_buf_init(&part->request);
    reply_keep(part, status, reply, reply_bytes, err);
    /* acq_rel: the last one sees what the others kept. */
    if (atomic_fetch_sub_explicit(&fanout->remaining, 1, memory_order_acq_rel) == 1) fanout->gathered(fanout);
}

void kith_query_fanout_start(kith_query_fanout *fanout) {
    kith_transport *transport = fanout->base->transport;
    uint32_t part_count = fanout->part_count;
    kith_query_part *parts = fanout->parts;
    for (uint32_t i = 0; i < part_count; i++) {
        /* The last part's call may end the request before it returns: nothing of it is read afterwards. */
        parts[i].call.bytes = parts[i].request.data;
        parts[i].call.byte_count = parts[i].request.bytes;
        parts[i].call.done = part_done;
        kith_transport_start(transport, &parts[i].call);
    }
}

void kith_query_fanout_finish(kith_query_fanout *fanout) {
    for (uint32_t i = 0; i < fanout->part_count; i++)
        kith_buf_fini(&fanout->parts[i].kept);
}
