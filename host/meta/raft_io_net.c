/* The core's messages as calls of kind KITH_AM_RAFT: one call a message, answered as soon as it has arrived, for what the
 * other core makes of it comes as a message of its own. A message that is lost is lost: the core sends the next one. */
#include "host/meta/raft_io_internal.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"

#define SNAPSHOT_MESSAGE_TIMEOUTS 4u /* a small snapshot's time, in those of other messages; a guess */

struct io_send {
    kith_transport_call call;
    kith_task task; /* posted when the call is done */
    kith_raft_io *io;
    io_send *next;
    struct raft_io_send *req; /* not touched when cb is NULL: the core may have freed it */
    raft_io_send_cb cb;
    kith_meta_member to;
    kith_buf bytes;
    kith_status status;
    uint64_t removed_index; /* not 0: the peer's committed configuration of this index lacks us */
};

struct io_held {
    io_held *next;
    size_t bytes;
    kith_meta_member from;
    struct raft_message message;
};

/* --- sending --- */

static void send_unlink(io_send *send) {
    io_send **at = &send->io->sends;
    while (*at != send)
        at = &(*at)->next;
    *at = send->next;
}

static void send_run(kith_task *task) {
    io_send *send = (io_send *)(void *)((char *)task - offsetof(io_send, task));
    kith_raft_io *io = send->io;
    send_unlink(send);
    if (send->cb) send->cb(send->req, send->status == KITH_OK ? 0 : RAFT_NOCONNECTION);
    bool removed = send->removed_index > raft_io_raft(io)->configuration_index;
    kith_buf_fini(&send->bytes);
    kith_free(send);
    if (removed && !io->closing) io->options.removed(io->options.ctx);
    raft_io_ran(io);
    raft_io_close_check(io);
}

/* On the transport's thread. */
static void send_done(kith_transport_call *call, kith_status status, const void *reply, size_t reply_bytes,
    const kith_err *err) {
    (void)err; /* the core tries again; who is reachable is the transport's to log */
    io_send *send = (io_send *)(void *)call;
    send->status = status;
    if (status == KITH_OK && reply_bytes > 0)
        (void)kith_raft_answer_decode(reply, reply_bytes, &send->removed_index);
    kith_executor_post(send->io->options.executor, &send->task);
}

_Static_assert(offsetof(io_send, call) == 0, "send_done casts the call back");

static bool peer_has_room(const kith_raft_io *io, const io_send *send) {
    uint32_t count = 0;
    size_t bytes = send->bytes.bytes;
    for (const io_send *other = io->sends; other; other = other->next) {
        if (!kith_node_id_equal(&other->to.id, &send->to.id)) continue;
        count++;
        bytes += other->bytes.bytes;
    }
    return count < RAFT_SENDS_MAX && bytes <= RAFT_SENDS_BYTES_MAX;
}

/* The core answers a message that brings nothing new with the length of its log, though entries after those of the message
 * may be an earlier leader's; the leader would count them as its own and commit by them (Ongaro and Ousterhout, 2014,
 * section 5.3: what was just found to match counts). What is answered later, when entries have come to the disk, is right:
 * the log ends with them then, for no message gets past them. Found by tests/unit/meta/test_raft_chaos.c, seed 1071, and by
 * tests/sim, cluster seed 86. */
static void acknowledgement_cap(const kith_raft_io *io, struct raft_append_entries_result *result) {
    if (result->rejected == 0 && result->last_log_index > io->verified_index)
        result->last_log_index = io->verified_index;
}

/* The core refuses a pre-vote with the term that was asked for, its own being further: a candidate two terms behind whose log
 * is longer never gets past that, and never votes for the one with the shorter log. Of two voters none would lead again. With
 * the own term the candidate catches up, and asks for a later one (etcd's raft answers so, too). Found by tests/sim, cluster
 * seed 608896. */
static void refusal_date(kith_raft_io *io, struct raft_request_vote_result *result) {
    raft_term own = raft_io_raft(io)->current_term;
    if (result->pre_vote == raft_tribool_true && !result->vote_granted && result->term < own)
        result->term = own;
}

static void message_encode(io_send *send, const struct raft_message *message) {
    struct raft_message mended = *message;
    if (message->type == RAFT_IO_APPEND_ENTRIES_RESULT)
        acknowledgement_cap(send->io, &mended.append_entries_result);
    else if (message->type == RAFT_IO_REQUEST_VOTE_RESULT)
        refusal_date(send->io, &mended.request_vote_result);
    kith_raft_message_encode(&send->io->options.self, &mended, &send->bytes);
}

/* False: nobody can be sent this. */
static bool send_prepare(io_send *send, const struct raft_message *message) {
    /* The core answers a leader that it has forgotten since, with no address. */
    if (message->server_id == 0 || !message->server_address) return false;
    if (!kith_raft_address_parse(message->server_address, &send->to)) return false;
    message_encode(send, message);
    return peer_has_room(send->io, send);
}

static uint64_t snapshot_timeout_ms(const kith_raft_io *io, size_t bytes) {
    uint64_t bytes_ms = io->options.snapshot_timeout_ms * (uint64_t)bytes / KITH_META_SNAPSHOT_BYTES_MAX;
    return SNAPSHOT_MESSAGE_TIMEOUTS * (uint64_t)io->options.message_timeout_ms + bytes_ms;
}

void raft_io_snapshot_bytes_expect(kith_raft_io *io, size_t bytes) {
    uint64_t answer_ms = io->options.message_timeout_ms;
    raft_set_install_snapshot_timeout(
        raft_io_raft(io), (unsigned)(snapshot_timeout_ms(io, bytes) + answer_ms));
}

int raft_io_send(
    struct raft_io *table, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb) {
    kith_raft_io *io = raft_io_of(table);
    io_send *send = kith_alloc_zero(sizeof *send);
    send->io = io;
    send->req = req;
    send->cb = cb;
    send->task.run = send_run;
    send->status = KITH_UNAVAILABLE;
    kith_buf_init(&send->bytes);
    bool sendable = send_prepare(send, message) && !io->closing && !io->mute;
    send->next = io->sends;
    io->sends = send;
    if (!sendable) {
        kith_executor_post(io->options.executor, &send->task);
        return 0;
    }
    bool is_snapshot = message->type == RAFT_IO_INSTALL_SNAPSHOT;
    uint64_t timeout_ms =
        is_snapshot ? snapshot_timeout_ms(io, send->bytes.bytes) : io->options.message_timeout_ms;
    send->call = (kith_transport_call){
        .node = send->to.id,
        .address = send->to.address,
        .kind = KITH_AM_RAFT,
        .bytes = send->bytes.data,
        .byte_count = send->bytes.bytes,
        .deadline_ns = kith_env_now_ns(io->options.env) + timeout_ms * 1000000ULL,
        .cancel_watch = &io->cancel_sends,
        .done = send_done,
    };
    kith_transport_start(io->options.transport, &send->call);
    return 0;
}

/* --- receiving --- */

static void deliver(kith_raft_io *io, const kith_meta_member *from, struct raft_message *message) {
    if (kith_raft_guard_is_overtaken(&io->acknowledged, raft_io_raft(io), message)) return;
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    kith_raft_address_format(from, address);
    message->server_address = address; /* the core copies it */
    kith_raft_guard_before(
        raft_io_raft(io), message, &io->snapshot_configuration, io->snapshot_configuration_index);
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        const struct raft_append_entries *entries = &message->append_entries;
        io->verified_index = entries->prev_log_index + entries->n_entries;
    }
    kith_raft_guard_receive(raft_io_raft(io), message, io->recv);
    io->verified_index = UINT64_MAX;
    raft_io_ran(io);
}

/* While entries are on their way to the disk the core takes nothing in but what a leader commits by, and that not before an
 * entry of its own term is on disk: it would commit entries of earlier terms by counting (Ongaro and Ousterhout, "In Search
 * of an Understandable Consensus Algorithm", 2014, section 5.4.2). */
static bool must_wait(kith_raft_io *io, const struct raft_message *message) {
    if (!kith_raft_storage_busy(io->options.storage)) return false;
    const struct raft *raft = raft_io_raft(io);
    bool is_result = message->type == RAFT_IO_APPEND_ENTRIES_RESULT;
    return raft->state != RAFT_LEADER || !is_result ||
           message->append_entries_result.term > raft->current_term ||
           kith_raft_guard_term(raft, raft->last_stored) != raft->current_term;
}

static void held_pop(kith_raft_io *io, io_held *held) {
    io->held = held->next;
    if (!io->held) io->held_last = &io->held;
    io->held_count--;
    io->held_bytes -= held->bytes;
}

void raft_io_held_deliver(kith_raft_io *io) {
    while (!io->closing && !io->mute && io->held && !must_wait(io, &io->held->message)) {
        io_held *held = io->held;
        held_pop(io, held);
        deliver(io, &held->from, &held->message);
        kith_free(held);
    }
}

static void hold(
    kith_raft_io *io, const kith_meta_member *from, const struct raft_message *message, size_t bytes) {
    io_held *held = kith_alloc_zero(sizeof *held);
    held->from = *from;
    held->message = *message;
    held->bytes = bytes;
    io->held_count++;
    io->held_bytes += bytes;
    *io->held_last = held;
    io->held_last = &held->next;
}

static void refuse(
    kith_raft_io *io, kith_transport_request *request, kith_status status, const char *reason) {
    kith_err err;
    kith_err_set(&err, status, "%s", reason);
    kith_transport_reply(request, io->options.transport, status, NULL, 0, &err);
}

/* Libraft tells a removed member nothing, and so it asks for votes for ever. Whose log is not behind ours has our committed
 * configuration too: it is no removed member but one that joined later, and the vote may be needed. */
static bool answered_as_removed(
    kith_raft_io *io, kith_transport_request *request, const struct raft_message *message) {
    const struct raft *raft = raft_io_raft(io);
    if (message->type != RAFT_IO_REQUEST_VOTE || raft->state == RAFT_UNAVAILABLE) return false;
    if (!kith_raft_guard_configuration_committed(raft)) return false;
    if (kith_raft_guard_is_member(raft, message->server_id)) return false;
    if (!kith_raft_guard_is_behind(raft, &message->request_vote)) return false;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_raft_answer_encode(raft->configuration_index, &buf);
    kith_transport_reply(request, io->options.transport, KITH_OK, buf.data, buf.bytes, NULL);
    kith_buf_fini(&buf);
    return true;
}

/* Takes `message`. */
static void message_arrived_take(
    kith_raft_io *io, const kith_meta_member *from, struct raft_message *message, size_t bytes) {
    if (must_wait(io, message)) {
        hold(io, from, message, bytes);
    } else {
        deliver(io, from, message);
    }
}

static bool held_has_room(const kith_raft_io *io, size_t bytes) {
    return io->held_count < RAFT_HELD_MAX && io->held_bytes + bytes <= RAFT_HELD_BYTES_MAX;
}

static void request_run(void *ctx, kith_transport_request *request) {
    kith_raft_io *io = ctx;
    kith_meta_member from;
    struct raft_message message;
    kith_err err;
    if (io->closing || io->mute || !io->recv) {
        refuse(io, request, KITH_UNAVAILABLE, "the metadata log of this node is not open");
        return;
    }
    if (!held_has_room(io, request->byte_count)) {
        refuse(io, request, KITH_BUSY, "too many Raft messages wait for the disk");
        return;
    }
    kith_status status = kith_raft_message_decode(request->bytes, request->byte_count, &from, &message, &err);
    if (status != KITH_OK) {
        kith_log_warn("raft_message_bad", kith_kv_text("cause", err.text));
        kith_transport_reply(request, io->options.transport, KITH_INVALID, NULL, 0, &err);
        return;
    }
    if (!kith_node_id_is_none(&request->from) && !kith_node_id_equal(&request->from, &from.id)) {
        kith_raft_message_fini(&message);
        refuse(io, request, KITH_DENIED, "a Raft message in the name of another node");
        return;
    }
    size_t bytes = request->byte_count;
    if (answered_as_removed(io, request, &message)) {
        kith_raft_message_fini(&message);
        return;
    }
    kith_transport_reply(request, io->options.transport, KITH_OK, NULL, 0, NULL);
    message_arrived_take(io, &from, &message, bytes);
}

/* --- life --- */

void raft_io_net_open(kith_raft_io *io) {
    kith_transport_handle(io->options.transport, KITH_AM_RAFT, io->options.executor, request_run, io);
}

void raft_io_net_close(kith_raft_io *io) {
    while (io->held) {
        io_held *held = io->held;
        held_pop(io, held);
        kith_raft_message_fini(&held->message);
        kith_free(held);
    }
    atomic_store(&io->cancel_sends, true);
}
