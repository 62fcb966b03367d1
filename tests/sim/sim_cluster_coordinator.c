/* A coordinator: the metadata, its log by Raft, and what answers the other nodes. */
#include <stdio.h>
#include <string.h>

#include "host/meta/raft_wire.h"
#include "tests/sim/sim_cluster_internal.h"

static kith_meta_member member_of(uint32_t number) {
    kith_meta_member member = {.id = sim_node_id(number)};
    snprintf(member.address, sizeof member.address, "%s", sim_node_address(number));
    return member;
}

/* --- what it shows --- */

static void applied(void *ctx, kith_meta_result *result) {
    sim_node *node = ctx;
    sim_node_map_show(node, &node->fsm.state);
    if (node->coordinator) kith_coordinator_applied(node->coordinator, result);
}

static void restored(void *ctx) {
    sim_node *node = ctx;
    sim_node_tell(
        node, "installed a snapshot of map version %llu", (unsigned long long)node->fsm.state.map_version);
    sim_node_map_show(node, &node->fsm.state);
    if (node->coordinator) kith_coordinator_restored(node->coordinator);
}

static void leadership(void *ctx, bool is_leader, uint64_t term, const kith_meta_member *leader) {
    sim_node *node = ctx;
    node->leads = is_leader;
    sim_node_tell(node, "term %llu: %s%s", (unsigned long long)term, is_leader ? "leads" : "follows ",
        is_leader ? ""
        : leader  ? leader->address
                  : "nobody");
    if (is_leader && node->options.check) sim_check_leader(node->options.check, term, node->options.number);
    if (node->coordinator) kith_coordinator_leadership(node->coordinator, is_leader, term, leader);
}

static void failed(void *ctx, kith_status status, const kith_err *err) {
    sim_node *node = ctx;
    sim_node_tell(node, "stopped by itself: %s", err->text);
    if (status == KITH_NOT_FOUND) {
        node->removed = true;
    } else if (!sim_env_crashed(node->machine)) {
        sim_node_blame(node, "failed: %s", err->text);
    }
}

/* --- its life --- */

static kith_status log_bootstrap(sim_node *node, kith_err *err) {
    kith_meta_member members[SIM_COORDINATORS_MAX];
    if (node->options.is_spare || !kith_meta_log_raft_is_new(node->log)) return KITH_OK;
    sim_node_tell(node, "bootstraps");
    for (uint32_t i = 0; i < node->options.coordinator_count; i++)
        members[i] = member_of(i);
    kith_status status =
        kith_meta_log_raft_bootstrap(node->log, members, node->options.coordinator_count, err);
    if (status == KITH_OK) node->has_been = true;
    return status;
}

static kith_status log_open(sim_node *node, kith_err *err) {
    kith_executor *disk = node->disk_executor ? node->disk_executor : node->executor;
    const kith_meta_log_raft_options options = {.env = node->env,
        .dir = SIM_NODE_DIR,
        .executor = node->executor,
        .disk_executor = disk,
        .snapshot_executor = disk,
        .fsm = &node->fsm,
        .transport = node->transport,
        .self = member_of(node->options.number),
        .must_exist = node->has_been,
        .snapshot_threshold = node->options.snapshot_threshold,
        .snapshot_trailing = node->options.snapshot_threshold / 2,
        .applied = applied,
        .restored = restored,
        .leadership = leadership,
        .failed = failed,
        .ctx = node};
    return kith_meta_log_raft_open(&options, &node->log, err);
}

static void coordinator_make(sim_node *node) {
    const kith_coordinator_options options = {.env = node->env,
        .executor = node->executor,
        .transport = node->transport,
        .self = member_of(node->options.number),
        .heartbeat_timeout_ms = SIM_TIMEOUT_MS,
        .replica_replace_after_ms = node->options.replace_after_ms,
        .rebalance_moves_max = node->options.moves_max,
        .fsm = &node->fsm,
        .log = node->log,
        .raft = {.status = kith_meta_log_raft_status,
            .join = kith_meta_log_raft_join,
            .leave = kith_meta_log_raft_leave,
            .transfer = kith_meta_log_raft_transfer}};
    node->coordinator = kith_coordinator_create(&options);
}

kith_status sim_coordinator_create(sim_node *node, kith_err *err) {
    kith_meta_fsm_init(&node->fsm);
    kith_status status = log_open(node, err);
    if (status == KITH_OK) status = log_bootstrap(node, err);
    if (status != KITH_OK) return status;
    coordinator_make(node);
    sim_node_map_show(node, &node->fsm.state);
    status = kith_meta_log_raft_start(node->log, err);
    if (status == KITH_OK) kith_coordinator_start(node->coordinator);
    return status;
}

void sim_coordinator_stop(sim_node *node) {
    if (node->coordinator) {
        node->stops_left++;
        kith_coordinator_stop(node->coordinator, sim_node_part_stopped, node);
    }
    if (node->log) {
        node->stops_left++;
        kith_meta_log_raft_stop(node->log, sim_node_part_stopped, node);
    }
}

void sim_coordinator_destroy(sim_node *node) {
    kith_coordinator_destroy(node->coordinator);
    kith_meta_log_close(node->log);
    node->coordinator = NULL;
    node->log = NULL;
    kith_meta_fsm_fini(&node->fsm);
}

/* --- what the history asks of it --- */

bool sim_node_leads(const sim_node *node) {
    return node->state == SIM_NODE_RUNNING && node->leads;
}

static void change_told(void *ctx, kith_status status, const kith_err *err) {
    sim_node_tell(ctx, "the change of leader or members: %s", status == KITH_OK ? "done" : err->text);
}

void sim_node_transfer(sim_node *node) {
    kith_meta_log_raft_transfer(node->log, NULL, change_told, node);
}

void sim_node_join(sim_node *node, uint32_t number) {
    kith_meta_member member = member_of(number);
    kith_meta_log_raft_join(node->log, &member, change_told, node);
}

void sim_node_leave(sim_node *node, uint32_t number) {
    kith_node_id id = sim_node_id(number);
    kith_meta_log_raft_leave(node->log, &id, change_told, node);
}

bool sim_node_has_voter(const sim_node *node, uint32_t number) {
    kith_meta_log_raft_status_report report;
    kith_node_id id = sim_node_id(number);
    bool found = false;
    kith_meta_log_raft_status(node->log, &report);
    for (uint32_t i = 0; i < report.member_count; i++)
        found |= report.members[i].voter && kith_node_id_equal(&report.members[i].member.id, &id);
    return found;
}

uint32_t sim_node_voter_count(const sim_node *node) {
    kith_meta_log_raft_status_report report;
    uint32_t count = 0;
    if (node->state != SIM_NODE_RUNNING || !node->log) return 0;
    kith_meta_log_raft_status(node->log, &report);
    for (uint32_t i = 0; i < report.member_count; i++)
        count += report.members[i].voter;
    return count;
}

/* --- for the story --- */

static void append_describe(const struct raft_append_entries *append, char *text, size_t bytes) {
    size_t at = (size_t)snprintf(text, bytes,
        "append: term %llu, after %llu of term %llu, commit %llu:", (unsigned long long)append->term,
        (unsigned long long)append->prev_log_index, (unsigned long long)append->prev_log_term,
        (unsigned long long)append->leader_commit);
    for (unsigned i = 0; i < append->n_entries && at < bytes; i++)
        at += (size_t)snprintf(text + at, bytes - at, " %llu", (unsigned long long)append->entries[i].term);
}

void sim_raft_message_describe(const void *message, size_t message_bytes, char *text, size_t bytes) {
    struct raft_message raft;
    kith_meta_member from;
    kith_err err;
    kith_status status = kith_raft_message_decode(message, message_bytes, &from, &raft, &err);
    snprintf(text, bytes, "%s", status == KITH_OK ? "" : err.text);
    if (status != KITH_OK) return;
    if (raft.type == RAFT_IO_APPEND_ENTRIES) append_describe(&raft.append_entries, text, bytes);
    if (raft.type == RAFT_IO_APPEND_ENTRIES_RESULT)
        snprintf(text, bytes, "append result: term %llu, rejected %llu, last %llu",
            (unsigned long long)raft.append_entries_result.term,
            (unsigned long long)raft.append_entries_result.rejected,
            (unsigned long long)raft.append_entries_result.last_log_index);
    if (raft.type == RAFT_IO_REQUEST_VOTE)
        snprintf(text, bytes, "%s: term %llu, last %llu of term %llu",
            raft.request_vote.pre_vote ? "pre-vote" : "vote", (unsigned long long)raft.request_vote.term,
            (unsigned long long)raft.request_vote.last_log_index,
            (unsigned long long)raft.request_vote.last_log_term);
    if (raft.type == RAFT_IO_REQUEST_VOTE_RESULT)
        snprintf(text, bytes, "vote result: term %llu, %s", (unsigned long long)raft.request_vote_result.term,
            raft.request_vote_result.vote_granted ? "granted" : "refused");
    if (raft.type == RAFT_IO_INSTALL_SNAPSHOT)
        snprintf(text, bytes, "snapshot: term %llu, last %llu of term %llu",
            (unsigned long long)raft.install_snapshot.term,
            (unsigned long long)raft.install_snapshot.last_index,
            (unsigned long long)raft.install_snapshot.last_term);
    if (raft.type == RAFT_IO_TIMEOUT_NOW) snprintf(text, bytes, "timeout now");
    kith_raft_message_fini(&raft);
}
