/* The parts of the replicated log: meta_log_raft.c (life, proposals, the fsm), meta_log_raft_watch.c (who leads, who
 * belongs, what failed), meta_log_raft_member.c (join, leave, transfer). */
#ifndef KITH_META_META_LOG_RAFT_INTERNAL_H
#define KITH_META_META_LOG_RAFT_INTERNAL_H

#include "host/meta/raft_guard.h"
#include "host/meta/raft_io.h"
#include "host/meta/raft_wire.h"

typedef struct raft_meta_log raft_meta_log;

/* A join or leave, one at a time. */
typedef struct raft_meta_change {
    struct raft_change req;
    enum { RAFT_META_ADD = 1, RAFT_META_ASSIGN, RAFT_META_REMOVE } step;
    bool open;
    kith_meta_member member;
    uint64_t id;
    int result; /* libraft's */
    kith_task task;
    kith_meta_log_raft_done done;
    void *ctx;
} raft_meta_change;

typedef struct raft_meta_transfer {
    struct raft_transfer req;
    bool open;
    kith_task task;
    kith_meta_log_raft_done done;
    void *ctx;
} raft_meta_transfer;

struct raft_meta_log {
    kith_meta_log base;
    kith_meta_log_raft_options options;
    kith_raft_storage *storage;
    kith_raft_io *io;
    struct raft raft;
    struct raft_fsm fsm;
    uint64_t id;
    bool is_new; /* of no cluster */
    bool started;

    /* meta_log_raft.c */
    bool restored;       /* by open: the core's first restore is of the same snapshot */
    kith_err fsm_err;    /* why the fsm refused; status OK: it did not */
    uint32_t open_count; /* proposals, changes, transfers and refusals that still owe their done */

    /* meta_log_raft_watch.c */
    struct raft_barrier barrier;
    uint64_t barrier_term; /* the barrier of this term was begun */
    bool ready;            /* and is applied: this leader knows all that was committed */
    bool told_leader;
    uint64_t told_term;
    kith_meta_member told_member;                  /* id none: unknown */
    char leader_text[KITH_RAFT_ADDRESS_BYTES_MAX]; /* as the core last named one; "": it has not */
    kith_meta_member leader;                       /* what that says */
    uint64_t member_index; /* of the last committed configuration that has this node */
    kith_err ended;        /* why it stopped by itself; status OK: it did not */
    kith_task end_task;
    struct raft_transfer room_transfer; /* because the disk is full */
    uint64_t room_transfer_due_ns;      /* not again before */

    /* The end. */
    bool closing; /* raft_close was called */
    bool closed;
    bool stop_asked;
    raft_meta_transfer stop_transfer;
    kith_task close_task;
    kith_task stopped_task;
    bool stopped_posted;
    bool stopped;
    void (*stop_done)(void *ctx);
    void *stop_ctx;

    raft_meta_change change;
    raft_meta_transfer transfer;
};

static inline raft_meta_log *raft_meta_log_of(const kith_meta_log *base) {
    return (raft_meta_log *)base; /* its first member */
}

/* meta_log_raft.c */
void raft_meta_close(raft_meta_log *log);
/* One of open_count has been answered. */
void raft_meta_answered(raft_meta_log *log);
bool raft_meta_leads(const raft_meta_log *log);
/* NOT_LEADER, with where the leader is. */
kith_status raft_meta_not_leader(const raft_meta_log *log, kith_err *err);
/* Of what libraft returns. */
kith_status raft_meta_status(const raft_meta_log *log, int result, const char *what, kith_err *err);

/* meta_log_raft_watch.c: for kith_raft_io */
void raft_meta_watch(void *ctx);
void raft_meta_removed(void *ctx);
void raft_meta_end_run(kith_task *task);
uint32_t raft_meta_voters_count(const raft_meta_log *log);
/* The last word, when it stops. */
void raft_meta_leadership_over(raft_meta_log *log);

#endif
