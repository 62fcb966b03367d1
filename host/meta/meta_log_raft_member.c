/* Join, leave and transfer. The core's callbacks come from inside it; what follows from them is posted. */
#include "host/meta/meta_log_raft_internal.h"

#include <string.h>

#include "host/base/alloc.h"

/* --- answers that are known at once --- */

typedef struct prompt_answer {
    kith_task task;
    raft_meta_log *log;
    kith_meta_log_raft_done done;
    void *ctx;
    kith_err err;
} prompt_answer;

static void prompt_run(kith_task *task) {
    prompt_answer *answer = (prompt_answer *)task;
    raft_meta_log *log = answer->log;
    answer->done(answer->ctx, answer->err.status, &answer->err);
    kith_free(answer);
    raft_meta_answered(log);
}

/* `err` NULL: OK. */
static void answer_later(raft_meta_log *log, const kith_err *err, kith_meta_log_raft_done done, void *ctx) {
    prompt_answer *answer = kith_alloc_zero(sizeof *answer);
    answer->task.run = prompt_run;
    answer->log = log;
    answer->done = done;
    answer->ctx = ctx;
    if (err) answer->err = *err;
    log->open_count++;
    kith_executor_post(log->options.executor, &answer->task);
}

/* --- changes of membership --- */

static void change_end(raft_meta_log *log, kith_status status, const kith_err *err) {
    raft_meta_change *change = &log->change;
    change->open = false;
    change->done(change->ctx, status, err);
    raft_meta_answered(log);
}

static void change_done(struct raft_change *req, int result) {
    raft_meta_log *log = req->data;
    log->change.result = result;
    kith_executor_post(log->options.executor, &log->change.task);
}

/* What is under way now, for messages. */
static const char *step_text(const raft_meta_change *change) {
    switch (change->step) {
    case RAFT_META_ADD:
        return "add a coordinator";
    case RAFT_META_ASSIGN:
        return "make a coordinator a voter";
    default:
        return "remove a coordinator";
    }
}

static int step_begin(raft_meta_log *log) {
    raft_meta_change *change = &log->change;
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    switch (change->step) {
    case RAFT_META_ADD:
        kith_raft_address_format(&change->member, address);
        return raft_add(&log->raft, &change->req, change->id, address, change_done);
    case RAFT_META_ASSIGN:
        return raft_assign(&log->raft, &change->req, change->id, RAFT_VOTER, change_done);
    default:
        return raft_remove(&log->raft, &change->req, change->id, change_done);
    }
}

static void change_run(kith_task *task) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)task - offsetof(raft_meta_log, change.task));
    raft_meta_change *change = &log->change;
    int result = change->result;
    if (result == 0 && change->step == RAFT_META_ADD) {
        change->step = RAFT_META_ASSIGN;
        result = step_begin(log);
        if (result == 0) {
            raft_meta_watch(log);
            return;
        }
    }
    kith_err err = {.status = KITH_OK};
    kith_status status = raft_meta_status(log, result, step_text(change), &err);
    change_end(log, status, &err);
}

/* Takes up a change that was checked. */
static void change_begin(raft_meta_log *log, kith_meta_log_raft_done done, void *ctx) {
    raft_meta_change *change = &log->change;
    change->done = done;
    change->ctx = ctx;
    change->task.run = change_run;
    change->req.data = log;
    int result = step_begin(log);
    if (result != 0) {
        kith_err err;
        raft_meta_status(log, result, step_text(change), &err);
        answer_later(log, &err, done, ctx);
        return;
    }
    change->open = true;
    log->open_count++;
    raft_meta_watch(log);
}

static kith_status change_check(const raft_meta_log *log, kith_err *err) {
    if (log->closing || log->stop_asked) return kith_err_set(err, KITH_CLOSED, "the metadata log is closing");
    if (!raft_meta_leads(log)) return raft_meta_not_leader(log, err);
    if (log->change.open)
        return kith_err_set(err, KITH_BUSY, "another change of the coordinators is under way");
    return kith_raft_storage_health(log->storage, err);
}

static const struct raft_server *server_find(const raft_meta_log *log, uint64_t id) {
    const struct raft_configuration *configuration = &log->raft.configuration;
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == id) return &configuration->servers[i];
    }
    return NULL;
}

/* Nobody else has its address or (a chance of 2^-60) its id inside Raft. */
static kith_status join_check(const raft_meta_log *log, const kith_meta_member *member, kith_err *err) {
    kith_status status = kith_node_address_check("node address", member->address, false, err);
    if (status != KITH_OK) return status;
    if (kith_node_id_is_none(&member->id))
        return kith_err_set(err, KITH_INVALID, "a coordinator needs a node id");
    const struct raft_configuration *configuration = &log->raft.configuration;
    kith_meta_member other;
    bool known = server_find(log, kith_raft_id(&member->id)) != NULL;
    for (unsigned i = 0; i < configuration->n; i++) {
        if (!kith_raft_address_parse(configuration->servers[i].address, &other)) continue;
        bool same_node = kith_node_id_equal(&other.id, &member->id);
        bool same_address = strcmp(other.address, member->address) == 0;
        bool same_id = configuration->servers[i].id == kith_raft_id(&member->id);
        if (same_node && same_address) return KITH_OK;
        if (same_node || same_address || same_id) {
            return kith_err_set(err, KITH_EXISTS, "%s is a coordinator already: have it leave first",
                configuration->servers[i].address);
        }
    }
    if (!known && configuration->n >= KITH_META_MEMBERS_MAX)
        return kith_err_set(
            err, KITH_PRECONDITION, "there are %u coordinators, the most allowed", configuration->n);
    return KITH_OK;
}

void kith_meta_log_raft_join(
    kith_meta_log *base, const kith_meta_member *member, kith_meta_log_raft_done done, void *ctx) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_err err;
    kith_status status = change_check(log, &err);
    if (status == KITH_OK) status = join_check(log, member, &err);
    if (status != KITH_OK) {
        answer_later(log, &err, done, ctx);
        return;
    }
    uint64_t id = kith_raft_id(&member->id);
    const struct raft_server *server = server_find(log, id);
    if (server && server->role == RAFT_VOTER) {
        answer_later(log, NULL, done, ctx);
        return;
    }
    log->change.member = *member;
    log->change.id = id;
    log->change.step = server ? RAFT_META_ASSIGN : RAFT_META_ADD;
    change_begin(log, done, ctx);
}

/* --- transfer --- */

static void transfer_run(kith_task *task) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)task - offsetof(raft_meta_log, transfer.task));
    raft_meta_transfer *transfer = &log->transfer;
    kith_err err = {.status = KITH_OK};
    kith_status status = KITH_OK;
    if (log->raft.state == RAFT_LEADER) {
        status = kith_err_set(&err, KITH_DEADLINE, "leadership did not pass on within an election timeout");
    }
    transfer->open = false;
    transfer->done(transfer->ctx, status, &err);
    raft_meta_answered(log);
}

static void transfer_done(struct raft_transfer *req) {
    raft_meta_log *log = req->data;
    kith_executor_post(log->options.executor, &log->transfer.task);
}

static kith_status transfer_begin(raft_meta_log *log, const kith_node_id *id, kith_err *err) {
    if (log->closing || log->stop_asked) return kith_err_set(err, KITH_CLOSED, "the metadata log is closing");
    if (log->transfer.open) return kith_err_set(err, KITH_BUSY, "a transfer of leadership is under way");
    if (!raft_meta_leads(log)) return raft_meta_not_leader(log, err);
    log->transfer.req.data = log;
    log->transfer.task.run = transfer_run;
    int result = raft_transfer(&log->raft, &log->transfer.req, id ? kith_raft_id(id) : 0, transfer_done);
    if (result == RAFT_BADID || result == RAFT_NOTFOUND)
        return kith_err_set(err, KITH_NOT_FOUND, "no other voting coordinator to hand leadership to");
    return raft_meta_status(log, result, "hand leadership over", err);
}

void kith_meta_log_raft_transfer(
    kith_meta_log *base, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_err err;
    log->transfer.done = log->transfer.open ? log->transfer.done : done;
    log->transfer.ctx = log->transfer.open ? log->transfer.ctx : ctx;
    if (transfer_begin(log, id, &err) != KITH_OK) {
        answer_later(log, &err, done, ctx);
        return;
    }
    log->transfer.open = true;
    log->open_count++;
    raft_meta_watch(log);
}

/* --- leave --- */

static kith_status leave_check(const raft_meta_log *log, const struct raft_server *server, kith_err *err) {
    if (server->role != RAFT_VOTER || raft_meta_voters_count(log) > 1) return KITH_OK;
    return kith_err_set(err, KITH_PRECONDITION, "the last coordinator cannot leave");
}

/* The leader is removed by whoever leads after it. With its own removal in its log and no majority that has it, it would stand for
 * election no more and, its log being the longest, vote for nobody: two such leaders one after the other, each cut off at that moment,
 * are the end of a cluster of four whose machines are all well (simulated history 12267). */
typedef struct leave_again {
    raft_meta_log *log;
    kith_meta_log_raft_done done;
    void *ctx;
} leave_again;

static void leave_handed_over(void *ctx, kith_status status, const kith_err *err) {
    leave_again *again = ctx;
    kith_err elsewhere;
    if (status == KITH_OK) {
        status = raft_meta_not_leader(again->log, &elsewhere);
        err = &elsewhere;
    }
    again->done(again->ctx, status, err);
    kith_free(again);
}

static void leave_by_another(raft_meta_log *log, kith_meta_log_raft_done done, void *ctx) {
    leave_again *again = kith_alloc(sizeof *again);
    *again = (leave_again){.log = log, .done = done, .ctx = ctx};
    kith_meta_log_raft_transfer(&log->base, NULL, leave_handed_over, again);
}

void kith_meta_log_raft_leave(
    kith_meta_log *base, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_err err = {.status = KITH_OK};
    kith_status status = change_check(log, &err);
    const struct raft_server *server = server_find(log, kith_raft_id(id));
    if (status == KITH_OK && server) status = leave_check(log, server, &err);
    if (status != KITH_OK || !server) {
        answer_later(log, status == KITH_OK ? NULL : &err, done, ctx);
        return;
    }
    if (server->id == log->raft.id && server->role == RAFT_VOTER) {
        leave_by_another(log, done, ctx);
        return;
    }
    log->change.id = server->id;
    log->change.step = RAFT_META_REMOVE;
    change_begin(log, done, ctx);
}
