/* The metadata log of a cluster: kith_meta_log over libraft's core, whose network is kith_transport and whose disk is
 * raft_storage.h. A command is committed when a majority of the members has it on disk.
 *
 * Life: open (loads, restores the fsm) -> bootstrap, on the first members of a new cluster alone -> start -> proposals ->
 * stop (asynchronous) -> kith_meta_log_close.
 *
 * A follower holds back what arrives while its disk is busy: libraft's core (0.15) has faults where messages meet entries
 * that are in memory and not yet on disk (raft_guard.h).
 *
 * Threads: open, bootstrap and start on one thread before anything else; then every function runs on the executor given,
 * and so does every callback. close: when stopped, and when no request can arrive any more (its handler stays registered).
 * Ownership: borrows what its options hold, until close. */
#ifndef KITH_META_META_LOG_RAFT_H
#define KITH_META_META_LOG_RAFT_H

#include "host/meta/meta_log.h"
#include "host/model/node.h"
#include "transport/transport.h"

#define KITH_META_MEMBERS_MAX 16u
/* A snapshot (KITH_META_SNAPSHOT_BYTES_MAX) travels as one message, too. */
#define KITH_META_COMMAND_BYTES_MAX (1u << 20)
#define KITH_META_PROPOSALS_MAX     1024u /* open at once; above it BUSY */

/* A coordinator among coordinators. */
typedef struct kith_meta_member {
    kith_node_id id;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "host:port" of its transport */
} kith_meta_member;

typedef struct kith_meta_log_raft_options {
    kith_env *env;
    const char *dir;         /* <data>/meta: term.kith, raft-snapshot.kith, raft-log/; made when missing */
    kith_executor *executor; /* one thread; waits for the disk when term or vote change */
    kith_executor *disk_executor;     /* one thread: the log's writes and syncs; may be `executor` */
    kith_executor *snapshot_executor; /* one thread: snapshots written and read; may be one of those */
    kith_meta_fsm *fsm;        /* as kith_meta_fsm_init left it, or with a standalone node's metadata */
    kith_transport *transport; /* of this node; KITH_AM_RAFT is handled from open on */
    kith_meta_member self;
    bool must_exist; /* this node has been a coordinator before: an empty `dir` is CORRUPT, not new */
    uint32_t election_timeout_ms; /* 0: 400. Heartbeats come every tenth of it */
    uint32_t snapshot_threshold;  /* entries between two snapshots; 0: 1024 */
    uint32_t snapshot_trailing;   /* entries kept behind a snapshot; 0: 1024 */
    /* A command was applied, before its proposal's done (if it is from here). */
    void (*applied)(void *ctx, kith_meta_result *result);
    /* The fsm was replaced by a snapshot of the leader's. */
    void (*restored)(void *ctx);
    /* Who leads changed, or the term. This node leads only once all that was committed before is applied here. `leader`
     * NULL: unknown. */
    void (*leadership)(void *ctx, bool is_leader, uint64_t term, const kith_meta_member *leader);
    /* It stopped by itself, and answers nothing any more: NOT_FOUND when this node was removed from the cluster, else what
     * the disk said. kith_meta_log_raft_stop is still due. */
    void (*failed)(void *ctx, kith_status status, const kith_err *err);
    void *ctx;
} kith_meta_log_raft_options;

/* CORRUPT names the file that is damaged or missing. */
KITH_CHECK kith_status kith_meta_log_raft_open(
    const kith_meta_log_raft_options *options, kith_meta_log **log_out, kith_err *err);
/* It is of no cluster yet: bootstrap it, or start it and have a leader join it. */
bool kith_meta_log_raft_is_new(const kith_meta_log *log);
/* Once, on each of the first members, with the same list. Metadata that the fsm has already (of a standalone node) becomes
 * the cluster's; then this must be its only member. PRECONDITION when it is not new. */
KITH_CHECK kith_status kith_meta_log_raft_bootstrap(
    kith_meta_log *log, const kith_meta_member *members, uint32_t member_count, kith_err *err);
/* `applied` and `leadership` may be called before this returns. */
KITH_CHECK kith_status kith_meta_log_raft_start(kith_meta_log *log, kith_err *err);

typedef struct kith_meta_log_raft_member {
    kith_meta_member member;
    bool voter; /* else it is catching up, or its join was given up */
} kith_meta_log_raft_member;

typedef struct kith_meta_log_raft_status_report {
    uint64_t term, last_index, applied_index;
    bool is_leader;
    bool leader_known;
    kith_meta_member leader;
    uint32_t member_count;
    kith_meta_log_raft_member members[KITH_META_MEMBERS_MAX];
} kith_meta_log_raft_status_report;

void kith_meta_log_raft_status(const kith_meta_log *log, kith_meta_log_raft_status_report *report_out);

/* Changes of membership and leadership: on the leader only (else NOT_LEADER), one at a time (else BUSY). `done` exactly
 * once, never before the call has returned. UNKNOWN_OUTCOME: ask status. All may be repeated. */
typedef void (*kith_meta_log_raft_done)(void *ctx, kith_status status, const kith_err *err);

/* OK: a voter, with all that was committed. UNAVAILABLE: it did not catch up; it is listed and does not vote. */
void kith_meta_log_raft_join(
    kith_meta_log *log, const kith_meta_member *member, kith_meta_log_raft_done done, void *ctx);
/* OK also when it is no member. NOT_LEADER for the leader itself: leadership has passed on, and whoever leads now removes it. */
void kith_meta_log_raft_leave(
    kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx);
/* To `id`; NULL: to whoever is most up to date. DEADLINE: it did not come to it within an election timeout. */
void kith_meta_log_raft_transfer(
    kith_meta_log *log, const kith_node_id *id, kith_meta_log_raft_done done, void *ctx);

/* Hands leadership over first when it leads others (for an election timeout at most). Open proposals end
 * UNKNOWN_OUTCOME. `done` when nothing is under way any more; also for a log that was never started. */
void kith_meta_log_raft_stop(kith_meta_log *log, void (*done)(void *ctx), void *ctx);

#endif
