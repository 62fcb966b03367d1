/* Libraft tells nobody when it becomes leader, is removed or gives up: this looks after every time its core has run.
 *
 * A new leader begins with a barrier, an entry of its own term. What earlier leaders left is committed with it and not
 * before (raft_io_net.c sees to that), and when it is applied this node knows all that was ever committed: only then is it
 * called leader. */
#include "host/meta/meta_log_raft_internal.h"

#include <string.h>

#include "host/base/log.h"

#define ROOM_TRANSFER_PAUSE_NS 5000000000ULL /* a guess: the others may be full too */

/* --- what ends it --- */

static void end(raft_meta_log *log, const kith_err *err) {
    if (log->ended.status != KITH_OK || log->closing) return;
    log->ended = *err;
    if (err->status == KITH_NOT_FOUND) {
        kith_log_info("raft_left", kith_kv_text("cause", err->text));
    } else {
        kith_log_error("raft_ended", kith_kv_text("cause", err->text));
    }
    log->end_task.run = raft_meta_end_run;
    log->open_count++;
    kith_executor_post(log->options.executor, &log->end_task);
}

/* Not inside the core, which may have called watch. */
void raft_meta_end_run(kith_task *task) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)task - offsetof(raft_meta_log, end_task));
    raft_meta_close(log);
    if (log->options.failed) log->options.failed(log->options.ctx, log->ended.status, &log->ended);
    raft_meta_answered(log);
}

static void check_faults(raft_meta_log *log) {
    kith_err err = log->fsm_err;
    if (err.status == KITH_OK && kith_raft_storage_health(log->storage, &err) == KITH_NO_SPACE)
        err.status = KITH_OK; /* it waits for room */
    if (err.status == KITH_OK && log->raft.state == RAFT_UNAVAILABLE)
        kith_err_set(&err, KITH_INTERNAL, "the consensus core stopped: %s", log->raft.errmsg);
    if (err.status != KITH_OK) end(log, &err);
}

uint32_t raft_meta_voters_count(const raft_meta_log *log) {
    const struct raft_configuration *configuration = &log->raft.configuration;
    uint32_t count = 0;
    for (unsigned i = 0; i < configuration->n; i++)
        count += configuration->servers[i].role == RAFT_VOTER;
    return count;
}

/* A leader whose disk is full takes no command, but goes on leading: no node could be taken for down until somebody made room. The
 * others may have some, and can elect one of them without its vote if there are two. */
static void check_room(raft_meta_log *log) {
    uint64_t now_ns = kith_env_now_ns(log->options.env);
    if (!raft_meta_leads(log) || now_ns < log->room_transfer_due_ns) return;
    if (kith_raft_storage_health(log->storage, NULL) != KITH_NO_SPACE) return;
    log->room_transfer_due_ns = now_ns + ROOM_TRANSFER_PAUSE_NS;
    if (raft_meta_voters_count(log) < 3) return;
    if (raft_transfer(&log->raft, &log->room_transfer, 0, NULL) == 0)
        kith_log_warn("raft_leader_full", kith_kv_text("effect", "leadership is handed over"));
}

static void end_removed(raft_meta_log *log) {
    kith_err err;
    kith_err_set(&err, KITH_NOT_FOUND, "this node was removed from the coordinators of its cluster");
    end(log, &err);
}

/* A peer says so in answer to a request for votes. Only a voter asks, so this node was a member: also when it has not found
 * out yet, after a start, how much of its log is committed. */
void raft_meta_removed(void *ctx) {
    raft_meta_log *log = ctx;
    if (log->started) end_removed(log);
}

/* A node that joins is behind for a while, and sees configurations from before it was added. */
static void check_membership(raft_meta_log *log) {
    if (log->raft.state == RAFT_UNAVAILABLE || !kith_raft_guard_configuration_committed(&log->raft)) return;
    if (kith_raft_guard_is_member(&log->raft, log->id)) {
        log->member_index = log->raft.configuration_index;
    } else if (log->member_index > 0 && log->raft.configuration_index > log->member_index) {
        end_removed(log);
    }
}

/* --- who leads --- */

/* `req` is the log's own, and there is one barrier at a time: that of a term ends with it. */
static void barrier_done(struct raft_barrier *req, int result) {
    raft_meta_log *log = req->data;
    log->ready = result == 0;
}

static void begin_term(raft_meta_log *log) {
    if (log->raft.state != RAFT_LEADER) {
        log->ready = false;
        return;
    }
    if (log->barrier_term == log->raft.current_term) return;
    log->ready = false;
    log->barrier.data = log;
    if (raft_barrier(&log->raft, &log->barrier, barrier_done) == 0)
        log->barrier_term = log->raft.current_term;
}

/* Into log->leader. The core names the same one after each of its runs, until there is another. */
static bool leader_read(raft_meta_log *log, const char *text) {
    size_t bytes = strlen(text);
    if (bytes > 0 && strcmp(text, log->leader_text) == 0) return true;
    if (bytes >= sizeof log->leader_text || !kith_raft_address_parse(text, &log->leader)) return false;
    memcpy(log->leader_text, text, bytes + 1);
    return true;
}

static void leader_find(raft_meta_log *log, kith_meta_member *member_out) {
    raft_id id;
    const char *address;
    *member_out = (kith_meta_member){.address = {0}};
    if (log->raft.state == RAFT_LEADER && !raft_meta_leads(log)) return;
    raft_leader(&log->raft, &id, &address);
    if (id && address && leader_read(log, address)) *member_out = log->leader;
}

static void leadership_tell(
    raft_meta_log *log, bool is_leader, uint64_t term, const kith_meta_member *member) {
    bool same = log->told_leader == is_leader && log->told_term == term &&
                kith_node_id_equal(&log->told_member.id, &member->id) &&
                strcmp(log->told_member.address, member->address) == 0;
    if (same) return;
    log->told_leader = is_leader;
    log->told_term = term;
    log->told_member = *member;
    if (!log->options.leadership) return;
    bool known = !kith_node_id_is_none(&log->told_member.id);
    log->options.leadership(log->options.ctx, is_leader, term, known ? &log->told_member : NULL);
}

static void check_leadership(raft_meta_log *log) {
    begin_term(log);
    kith_meta_member leader;
    leader_find(log, &leader);
    leadership_tell(log, raft_meta_leads(log), log->raft.current_term, &leader);
}

void raft_meta_leadership_over(raft_meta_log *log) {
    log->ready = false;
    leadership_tell(log, false, log->told_term, &(kith_meta_member){.address = {0}});
}

void raft_meta_watch(void *ctx) {
    raft_meta_log *log = ctx;
    if (!log->started || log->closing || log->ended.status != KITH_OK) return;
    check_faults(log);
    if (log->ended.status != KITH_OK) return;
    check_room(log);
    check_leadership(log);
    check_membership(log);
}
