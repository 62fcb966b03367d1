/* Life, proposals, and the fsm as libraft's core sees it. */
#include "host/meta/meta_log_raft_internal.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/log.h"

#define ELECTION_TIMEOUT_MS_DEFAULT 400u
#define HEARTBEATS_PER_ELECTION     10u
#define SNAPSHOT_THRESHOLD_DEFAULT  1024u
#define SNAPSHOT_TRAILING_DEFAULT   1024u
#define SNAPSHOT_TIMEOUT_MS         30000u /* the largest snapshot, and a joining member's catching up */

_Static_assert(offsetof(raft_meta_log, base) == 0, "raft_meta_log_of casts the base back");

/* What a proposal's `impl` holds. */
typedef struct raft_proposal {
    struct raft_apply apply;
    kith_task task;
    raft_meta_log *log;
    kith_status status;
    char *message; /* of a failure; freed with the proposal */
} raft_proposal;

_Static_assert(
    sizeof(raft_proposal) <= sizeof(((kith_meta_log_proposal *)0)->impl), "a proposal embeds its request");

static raft_proposal *inner_of(kith_meta_log_proposal *proposal) {
    return (raft_proposal *)(void *)proposal->impl;
}

static kith_meta_log_proposal *proposal_of(raft_proposal *inner) {
    return (kith_meta_log_proposal *)(void *)((char *)inner - offsetof(kith_meta_log_proposal, impl));
}

/* --- the fsm --- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result) {
    raft_meta_log *log = fsm->data;
    kith_meta_fsm *own = log->options.fsm;
    /* The core counts up afterwards. */
    uint64_t index = log->raft.last_applied + 1;
    kith_status status = kith_meta_fsm_apply(own, index, buf->base, buf->len, &log->fsm_err);
    log->fsm_err.status = status;
    if (status != KITH_OK) return RAFT_MALFORMED;
    if (log->options.applied) log->options.applied(log->options.ctx, &own->result);
    *result = &own->result;
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs_out[], unsigned *count_out) {
    raft_meta_log *log = fsm->data;
    if (!kith_raft_guard_snapshot_allowed(&log->raft)) return RAFT_BUSY; /* it tries again */
    kith_buf buf;
    kith_buf_init(&buf);
    kith_meta_fsm_snapshot(log->options.fsm, &buf);
    struct raft_buffer *bufs = raft_malloc(sizeof *bufs);
    void *data = buf.bytes <= KITH_META_SNAPSHOT_BYTES_MAX ? raft_malloc(buf.bytes + 1) : NULL;
    if (!bufs || !data) {
        kith_log_error("raft_snapshot_too_big", kith_kv_u64("bytes", buf.bytes),
            kith_kv_u64("bytes_max", KITH_META_SNAPSHOT_BYTES_MAX));
        raft_free(bufs);
        kith_buf_fini(&buf);
        return RAFT_BUSY;
    }
    if (buf.bytes) memcpy(data, buf.data, buf.bytes);
    bufs[0] = (struct raft_buffer){.base = data, .len = buf.bytes};
    kith_buf_fini(&buf);
    *bufs_out = bufs;
    *count_out = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf) {
    raft_meta_log *log = fsm->data;
    if (log->restored) {
        log->restored = false;
        raft_free(buf->base);
        return 0;
    }
    kith_status status = kith_meta_fsm_restore(log->options.fsm, buf->base, buf->len, &log->fsm_err);
    log->fsm_err.status = status;
    if (status != KITH_OK) return RAFT_MALFORMED;
    raft_free(buf->base);
    if (log->options.restored) log->options.restored(log->options.ctx);
    return 0;
}

/* --- statuses --- */

bool raft_meta_leads(const raft_meta_log *log) {
    return log->raft.state == RAFT_LEADER && log->ready && !log->raft.transfer && !log->closing;
}

kith_status raft_meta_not_leader(const raft_meta_log *log, kith_err *err) {
    const kith_meta_member *leader = &log->told_member;
    if (log->told_leader || kith_node_id_is_none(&leader->id))
        return kith_err_set(err, KITH_NOT_LEADER, "not the leader of the coordinators; none is known");
    return kith_err_set(
        err, KITH_NOT_LEADER, "not the leader of the coordinators; it is at %s", leader->address);
}

kith_status raft_meta_status(const raft_meta_log *log, int result, const char *what, kith_err *err) {
    switch (result) {
    case 0:
        return KITH_OK;
    case RAFT_NOTLEADER:
        return raft_meta_not_leader(log, err);
    case RAFT_LEADERSHIPLOST:
    case RAFT_CANCELED:
    case RAFT_SHUTDOWN:
        return kith_err_set(
            err, KITH_UNKNOWN_OUTCOME, "%s: leadership was lost before a majority had it", what);
    case RAFT_CANTCHANGE:
        return kith_err_set(err, KITH_BUSY, "%s: another change of the coordinators is under way", what);
    case RAFT_NOCONNECTION:
        return kith_err_set(err, KITH_UNAVAILABLE, "%s: the member did not catch up", what);
    case RAFT_NOSPACE:
        return kith_err_set(err, KITH_NO_SPACE, "%s: no space left on device", what);
    case RAFT_NOMEM:
        return kith_err_set(err, KITH_NO_MEMORY, "%s: out of memory", what);
    default:
        return kith_err_set(err, KITH_UNAVAILABLE, "%s: %s", what, raft_strerror(result));
    }
}

/* --- proposals --- */

static void proposal_failed_run(kith_task *task) {
    raft_proposal *inner = (raft_proposal *)(void *)((char *)task - offsetof(raft_proposal, task));
    raft_meta_log *log = inner->log;
    kith_meta_log_proposal *proposal = proposal_of(inner);
    kith_err err;
    kith_err_set(&err, inner->status, "%s", inner->message);
    kith_free(inner->message);
    proposal->done(proposal, err.status, NULL, &err);
    raft_meta_answered(log);
}

/* Not from here: the caller may be propose itself, or the core in the middle of stepping down. */
static void proposal_fail(raft_proposal *inner, const kith_err *err) {
    inner->status = err->status;
    inner->message = kith_strdup(err->text);
    inner->task.run = proposal_failed_run;
    kith_executor_post(inner->log->options.executor, &inner->task);
}

static void proposal_done(struct raft_apply *req, int result, void *answer) {
    raft_proposal *inner = req->data;
    raft_meta_log *log = inner->log;
    if (result == 0) {
        kith_meta_log_proposal *proposal = proposal_of(inner);
        proposal->done(proposal, KITH_OK, answer, NULL);
        raft_meta_answered(log);
        return;
    }
    kith_err err;
    raft_meta_status(log, result, "metadata command", &err);
    proposal_fail(inner, &err);
}

static kith_status propose_check(raft_meta_log *log, const kith_meta_log_proposal *proposal, kith_err *err) {
    if (log->closing || log->stop_asked) return kith_err_set(err, KITH_CLOSED, "the metadata log is closing");
    if (proposal->byte_count > KITH_META_COMMAND_BYTES_MAX) {
        return kith_err_set(err, KITH_INVALID, "metadata command of %zu bytes, more than %u",
            proposal->byte_count, KITH_META_COMMAND_BYTES_MAX);
    }
    if (!raft_meta_leads(log)) return raft_meta_not_leader(log, err);
    if (log->open_count > KITH_META_PROPOSALS_MAX) {
        return kith_err_set(
            err, KITH_BUSY, "%u metadata commands are under way, the most allowed", KITH_META_PROPOSALS_MAX);
    }
    return kith_raft_storage_health(log->storage, err);
}

static kith_status propose(raft_meta_log *log, raft_proposal *inner, kith_err *err) {
    const kith_meta_log_proposal *proposal = proposal_of(inner);
    kith_status status = propose_check(log, proposal, err);
    if (status != KITH_OK) return status;
    struct raft_buffer buf = {.base = raft_malloc(proposal->byte_count + 1), .len = proposal->byte_count};
    if (!buf.base) return kith_err_set(err, KITH_NO_MEMORY, "no memory for a metadata command");
    memcpy(buf.base, proposal->bytes, buf.len);
    inner->apply.data = inner;
    int result = raft_apply(&log->raft, &inner->apply, &buf, 1, proposal_done);
    if (result == 0) return KITH_OK;
    raft_free(buf.base);
    return raft_meta_status(log, result, "metadata command", err);
}

static void raft_propose(kith_meta_log *base, kith_meta_log_proposal *proposal) {
    raft_meta_log *log = raft_meta_log_of(base);
    raft_proposal *inner = inner_of(proposal);
    *inner = (raft_proposal){.log = log};
    kith_err err;
    log->open_count++;
    if (propose(log, inner, &err) != KITH_OK) proposal_fail(inner, &err);
}

/* --- open --- */

static uint32_t or_default(uint32_t value, uint32_t otherwise) {
    return value ? value : otherwise;
}

static kith_status fsm_restore_found(raft_meta_log *log, kith_err *err) {
    const kith_raft_found *found = kith_raft_storage_found(log->storage);
    log->is_new = !found->has_snapshot;
    if (log->is_new) return KITH_OK;
    kith_status status =
        kith_meta_fsm_restore(log->options.fsm, found->snapshot.data, found->snapshot.data_bytes, err);
    if (status != KITH_OK)
        return kith_err_wrap(err, status, "Raft snapshot %s/raft-snapshot.kith", log->options.dir);
    log->restored = true;
    return KITH_OK;
}

static kith_status raft_prepare(raft_meta_log *log, kith_err *err) {
    const kith_meta_log_raft_options *options = &log->options;
    uint32_t election_ms = or_default(options->election_timeout_ms, ELECTION_TIMEOUT_MS_DEFAULT);
    log->io = kith_raft_io_create(&(kith_raft_io_options){
        .env = options->env,
        .executor = options->executor,
        .transport = options->transport,
        .storage = log->storage,
        .self = options->self,
        .message_timeout_ms = election_ms,
        .snapshot_timeout_ms = SNAPSHOT_TIMEOUT_MS,
        .watch = raft_meta_watch,
        .removed = raft_meta_removed,
        .ctx = log,
    });
    log->fsm = (struct raft_fsm){
        .version = 1, .data = log, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore};
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    kith_raft_address_format(&options->self, address);
    int result = raft_init(&log->raft, kith_raft_io_table(log->io), &log->fsm, log->id, address);
    if (result != 0) return raft_meta_status(log, result, "prepare the consensus core", err);
    raft_set_election_timeout(&log->raft, election_ms);
    raft_set_heartbeat_timeout(&log->raft, election_ms / HEARTBEATS_PER_ELECTION);
    raft_set_install_snapshot_timeout(&log->raft, SNAPSHOT_TIMEOUT_MS);
    raft_set_max_catch_up_round_duration(&log->raft, SNAPSHOT_TIMEOUT_MS);
    raft_set_snapshot_threshold(
        &log->raft, or_default(options->snapshot_threshold, SNAPSHOT_THRESHOLD_DEFAULT));
    raft_set_snapshot_trailing(&log->raft, or_default(options->snapshot_trailing, SNAPSHOT_TRAILING_DEFAULT));
    raft_set_pre_vote(&log->raft, true);
    return KITH_OK;
}

static void raft_close_log(kith_meta_log *base) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_assert(log->stopped);
    kith_raft_io_destroy(log->io);
    kith_raft_storage_close(log->storage);
    kith_free(log);
}

static const kith_meta_log_ops raft_ops = {.propose = raft_propose, .close = raft_close_log};

static kith_status options_check(const kith_meta_log_raft_options *options, kith_err *err) {
    if (kith_node_id_is_none(&options->self.id))
        return kith_err_set(err, KITH_INVALID, "a coordinator needs a node id");
    return kith_node_address_check("node address", options->self.address, false, err);
}

static kith_status storage_open(raft_meta_log *log, kith_err *err) {
    const kith_meta_log_raft_options *options = &log->options;
    return kith_raft_storage_open(
        &(kith_raft_storage_options){
            .env = options->env,
            .dir = options->dir,
            .executor = options->executor,
            .disk_executor = options->disk_executor,
            .snapshot_executor = options->snapshot_executor,
            .must_exist = options->must_exist,
        },
        &log->storage, err);
}

kith_status kith_meta_log_raft_open(
    const kith_meta_log_raft_options *options, kith_meta_log **log_out, kith_err *err) {
    kith_status status = options_check(options, err);
    if (status != KITH_OK) return status;
    raft_meta_log *log = kith_alloc_zero(sizeof *log);
    log->base.ops = &raft_ops;
    log->options = *options;
    log->id = kith_raft_id(&options->self.id);
    status = storage_open(log, err);
    if (status != KITH_OK) goto err_free;
    status = fsm_restore_found(log, err);
    if (status == KITH_OK) status = raft_prepare(log, err);
    if (status != KITH_OK) goto err_close;
    *log_out = &log->base;
    return KITH_OK;
err_close:
    kith_raft_io_destroy(log->io);
    kith_raft_storage_close(log->storage);
err_free:
    kith_free(log);
    return status;
}

bool kith_meta_log_raft_is_new(const kith_meta_log *base) {
    return raft_meta_log_of(base)->is_new;
}

/* --- bootstrap --- */

static int server_compare(const void *a, const void *b) {
    const struct raft_server *left = a, *right = b;
    return left->id < right->id ? -1 : left->id > right->id;
}

static kith_status configuration_make(const kith_meta_member *members, uint32_t member_count,
    struct raft_configuration *configuration, kith_err *err) {
    char address[KITH_RAFT_ADDRESS_BYTES_MAX];
    for (uint32_t i = 0; i < member_count; i++) {
        kith_status status = kith_node_address_check("node address", members[i].address, false, err);
        if (status != KITH_OK) return status;
        kith_raft_address_format(&members[i], address);
        if (raft_configuration_add(configuration, kith_raft_id(&members[i].id), address, RAFT_VOTER) != 0) {
            return kith_err_set(err, KITH_INVALID, "coordinator %s is named twice", address);
        }
    }
    qsort(configuration->servers, configuration->n, sizeof *configuration->servers, server_compare);
    return KITH_OK;
}

static kith_status bootstrap_check(
    const raft_meta_log *log, const kith_meta_member *members, uint32_t member_count, kith_err *err) {
    uint64_t term = kith_raft_storage_term(log->storage);
    if (!log->is_new || term > 1 || kith_raft_storage_vote(log->storage)) {
        return kith_err_set(err, KITH_PRECONDITION,
            "%s holds the metadata of a cluster already: a new one needs an empty folder", log->options.dir);
    }
    if (member_count < 1 || member_count > KITH_META_MEMBERS_MAX) {
        return kith_err_set(
            err, KITH_INVALID, "%u coordinators, not 1..%u", member_count, KITH_META_MEMBERS_MAX);
    }
    if (member_count > 1 && log->options.fsm->state.applied_index > 0) {
        return kith_err_set(err, KITH_INVALID,
            "metadata that is there already begins with one coordinator, not %u: have the others join it",
            member_count);
    }
    for (uint32_t i = 0; i < member_count; i++) {
        if (kith_node_id_equal(&members[i].id, &log->options.self.id)) return KITH_OK;
    }
    return kith_err_set(err, KITH_INVALID, "this node is not among the first coordinators");
}

static kith_status bootstrap_write(
    raft_meta_log *log, const struct raft_configuration *configuration, kith_err *err) {
    kith_buf conf, data;
    kith_buf_init(&conf);
    kith_buf_init(&data);
    kith_raft_configuration_append(configuration, &conf);
    kith_meta_fsm_snapshot(log->options.fsm, &data);
    uint64_t applied = log->options.fsm->state.applied_index;
    kith_raft_snapshot snapshot = {
        .index = applied ? applied : 1,
        .term = 1,
        .configuration_index = applied ? applied : 1,
        .configuration = conf.data + 4, /* behind its length */
        .configuration_bytes = conf.bytes - 4,
        .data = data.data,
        .data_bytes = data.bytes,
    };
    kith_status status = kith_raft_storage_bootstrap(log->storage, &snapshot, err);
    kith_buf_fini(&data);
    kith_buf_fini(&conf);
    return status;
}

kith_status kith_meta_log_raft_bootstrap(
    kith_meta_log *base, const kith_meta_member *members, uint32_t member_count, kith_err *err) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_status status = bootstrap_check(log, members, member_count, err);
    if (status != KITH_OK) return status;
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    status = configuration_make(members, member_count, &configuration, err);
    if (status == KITH_OK) status = bootstrap_write(log, &configuration, err);
    raft_configuration_close(&configuration);
    if (status != KITH_OK) return status;
    log->restored = true;
    log->is_new = false;
    return KITH_OK;
}

kith_status kith_meta_log_raft_start(kith_meta_log *base, kith_err *err) {
    raft_meta_log *log = raft_meta_log_of(base);
    int result = raft_start(&log->raft);
    if (result != 0) {
        const char *text = log->fsm_err.status == KITH_OK ? log->raft.errmsg : log->fsm_err.text;
        return kith_err_set(err, KITH_CORRUPT, "start the metadata log in %s: %s", log->options.dir, text);
    }
    kith_raft_io_started(log->io);
    log->started = true;
    raft_meta_watch(log);
    return KITH_OK;
}

void kith_meta_log_raft_status(const kith_meta_log *base, kith_meta_log_raft_status_report *report_out) {
    raft_meta_log *log = raft_meta_log_of(base);
    *report_out = (kith_meta_log_raft_status_report){
        .term = kith_raft_storage_term(log->storage),
        .is_leader = log->told_leader,
        .leader_known = !kith_node_id_is_none(&log->told_member.id),
        .leader = log->told_member,
    };
    if (log->closing || !log->started) return;
    report_out->last_index = raft_last_index(&log->raft);
    report_out->applied_index = raft_last_applied(&log->raft);
    const struct raft_configuration *configuration = &log->raft.configuration;
    for (unsigned i = 0; i < configuration->n && i < KITH_META_MEMBERS_MAX; i++) {
        kith_meta_log_raft_member *member = &report_out->members[report_out->member_count];
        if (!kith_raft_address_parse(configuration->servers[i].address, &member->member)) continue;
        member->voter = configuration->servers[i].role == RAFT_VOTER;
        report_out->member_count++;
    }
}

/* --- the end --- */

static void stopped_run(kith_task *task) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)task - offsetof(raft_meta_log, stopped_task));
    log->stopped = true;
    log->stop_done(log->stop_ctx);
}

static void stopped_check(raft_meta_log *log) {
    if (!log->stop_asked || !log->closed || log->open_count > 0 || log->stopped_posted) return;
    log->stopped_posted = true;
    log->stopped_task.run = stopped_run;
    kith_executor_post(log->options.executor, &log->stopped_task);
}

void raft_meta_answered(raft_meta_log *log) {
    log->open_count--;
    stopped_check(log);
}

static void raft_closed(struct raft *raft) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)raft - offsetof(raft_meta_log, raft));
    log->closed = true;
    stopped_check(log);
}

void raft_meta_close(raft_meta_log *log) {
    if (log->closing) return;
    log->closing = true;
    raft_meta_leadership_over(log);
    raft_close(&log->raft, raft_closed);
}

static void close_run(kith_task *task) {
    raft_meta_log *log = (raft_meta_log *)(void *)((char *)task - offsetof(raft_meta_log, close_task));
    raft_meta_close(log);
    raft_meta_answered(log);
}

/* Not here, inside the core. */
static void stop_transferred(struct raft_transfer *req) {
    raft_meta_log *log = req->data;
    kith_executor_post(log->options.executor, &log->close_task);
}

void kith_meta_log_raft_stop(kith_meta_log *base, void (*done)(void *ctx), void *ctx) {
    raft_meta_log *log = raft_meta_log_of(base);
    kith_assert(!log->stop_asked);
    log->stop_asked = true;
    log->stop_done = done;
    log->stop_ctx = ctx;
    log->close_task.run = close_run;
    log->stop_transfer.req.data = log;
    log->open_count++;
    bool transfers = log->started && !log->closing &&
                     raft_transfer(&log->raft, &log->stop_transfer.req, 0, stop_transferred) == 0;
    if (!transfers) kith_executor_post(log->options.executor, &log->close_task);
}
