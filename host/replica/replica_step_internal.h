/* What the files of the step machine share. Only host/replica/replica_step*.c and the protocol's own tests include it.
 *
 * Threads: as replica_step.h. */
#ifndef KITH_REPLICA_REPLICA_STEP_INTERNAL_H
#define KITH_REPLICA_REPLICA_STEP_INTERNAL_H

#include <string.h>

#include "host/replica/replica_step.h"

/* Known wrong variants of the protocol, which tests/sim must find. They exist only where these sources are compiled for it. */
typedef enum kith_replica_mutant {
    KITH_REPLICA_MUTANT_NONE = 0,
    KITH_REPLICA_MUTANT_COMMIT_BY_ONE = 1,         /* one follower's answer commits, not the whole ISR */
    KITH_REPLICA_MUTANT_COMMIT_ALONE = 2,          /* the own durable log commits */
    KITH_REPLICA_MUTANT_FOLLOWER_ANY_EPOCH = 3,    /* followers take appends of older epochs */
    KITH_REPLICA_MUTANT_PRIMARY_ANY_EPOCH = 4,     /* the primary takes OLD_EPOCH for an acknowledgement */
    KITH_REPLICA_MUTANT_MATCHED_END = 5,           /* a follower acknowledges all it has */
    KITH_REPLICA_MUTANT_ANSWER_BEFORE_DURABLE = 6, /* a follower answers before its log is synced */
    KITH_REPLICA_MUTANT_MATCH_BY_SEQUENCE = 7,     /* `previous` is looked up by sequence alone */
    KITH_REPLICA_MUTANT_NO_TRUNCATION = 8,         /* what differs stays */
    KITH_REPLICA_MUTANT_NO_EPOCH_START = 9,        /* a new primary begins without an entry of its own */
    KITH_REPLICA_MUTANT_LEAD_FOUND = 10,           /* a process leads in an epoch that it finds */
    KITH_REPLICA_MUTANT_NO_HOLD = 11,              /* a new primary does not wait for older leases */
    KITH_REPLICA_MUTANT_LEASE_FROM_RECEIPT = 12,   /* a follower's lease runs from when the append came */
    KITH_REPLICA_MUTANT_LEASE_FROM_ANSWER = 13,    /* the primary's lease runs from when the answer came */
    KITH_REPLICA_MUTANT_ECHO_UNLEASED = 14,        /* a primary without a lease vouches for followers */
    KITH_REPLICA_MUTANT_SHRINK_EARLY = 15,         /* a follower leaves the ISR after L / 4 of silence */
    KITH_REPLICA_MUTANT_NEW_ISR_ALONE = 16,        /* only the proposed ISR counts while it is proposed */
    KITH_REPLICA_MUTANT_GROW_LAGGARD = 17,         /* whoever answers enters the ISR */
    KITH_REPLICA_MUTANT_READ_COMMITTED =
        18, /* a follower's read waits only for what it knows to be committed */
    KITH_REPLICA_MUTANT_NO_MIN_IN_SYNC = 19,  /* writes begin however few are in sync */
    KITH_REPLICA_MUTANT_INSTALL_IN_SYNC = 20, /* a broken member of the ISR is replaced in place */
    KITH_REPLICA_MUTANT_REMOVED_NO_HOLD = 21, /* a member that is taken away loses its lease at once */
    KITH_REPLICA_MUTANT_STEP_COUNT = 22,
} kith_replica_mutant;

#ifdef KITH_REPLICA_MUTANTS
extern kith_replica_mutant kith_replica_mutant_active;
#define MUTANT(name) (kith_replica_mutant_active == KITH_REPLICA_MUTANT_##name)
#else
#define MUTANT(name) false
#endif

#define KITH_REPLICA_EPOCHS_MAX        4096u /* whose beginnings are remembered; older entries are as if trimmed */
#define KITH_REPLICA_BATCH_ENTRIES_MAX 1024u
#define KITH_REPLICA_SIZES             256u /* last entries whose bytes are known */
#define KITH_REPLICA_PENDING_MAX       64u /* appends that wait for the disk, with their bytes: a few windows */
#define KITH_REPLICA_STAMPS            64u /* last answers whose stamp may come back */

/* --- the log, as positions (replica_step_log.c) --- */

typedef struct replica_log {
    uint64_t first;
    kith_replica_position end;
    uint64_t durable, committed;
    uint64_t handed; /* to the log, where that is enough */
    kith_replica_position
        *epochs; /* [epoch_count] where runs of one epoch begin; the first may be cut by the trim */
    uint32_t epoch_count, epoch_capacity;
} replica_log;

void kith_replica_positions_init(replica_log *log, const kith_replica_log *found);
void kith_replica_positions_fini(replica_log *log);
/* False: not there, or trimmed. Sequence 0 has epoch 0. */
bool kith_replica_positions_epoch(const replica_log *log, uint64_t sequence, uint64_t *epoch_out);
/* First entry of the run of one epoch that `sequence` (known) is in, as far as the log reaches back. */
uint64_t kith_replica_positions_run(const replica_log *log, uint64_t sequence);
void kith_replica_positions_append(replica_log *log, uint64_t epoch);
/* Entries from `first` on go; the one before them, which may be trimmed, is of `epoch`. */
void kith_replica_positions_truncate(replica_log *log, uint64_t first, uint64_t epoch);
void kith_replica_positions_trim(replica_log *log, uint64_t first);
/* Nothing is left but that it ends at `end`, all committed. */
void kith_replica_positions_reset(replica_log *log, kith_replica_position end);

/* --- the machine --- */

typedef struct replica_send {
    uint64_t id, sent_ns;
    uint64_t previous, last;
} replica_send;

/* Another replica, as the primary sees it. */
typedef struct replica_peer {
    uint32_t number;
    bool sent;        /* something, in this epoch */
    bool probing;     /* where its log begins to match is not known */
    bool acked;       /* something, since this node leads */
    bool snapshot;    /* what it lacks is no more in the log */
    bool needs_epoch; /* it can be installed in a later epoch only */
    bool full;        /* it said last that it has no room for entries */
    bool silent;      /* it did not answer what it was sent last */
    uint64_t matched, applied;
    uint64_t base; /* a new attempt begins behind it: what is known to match, else what may */
    uint64_t next;
    uint64_t lease_ns; /* when the newest append that it acknowledged was sent */
    uint64_t
        heard_ns; /* last acknowledgement, or since when one is expected; time in which this process stood still is added */
    uint64_t sent_ns, retry_ns;
    uint64_t committed_sent;
    uint64_t stamp_ns, stamp_send_id; /* of the newest append acknowledged */
    uint32_t flight_count;
    replica_send *flight; /* [window] under way; answers to others are ignored */
} replica_peer;

typedef struct replica_pending {
    uint64_t token, epoch, last;
    uint32_t from;
} replica_pending;

typedef struct replica_queue {
    uint32_t first, count, capacity;
    kith_replica_action *actions;
} replica_queue;

struct kith_replica_step {
    kith_replica_step_options options;
    replica_log log;
    uint64_t now_ns;            /* of the last event */
    uint64_t known_epoch;       /* the highest heard of */
    kith_replica_config config; /* epoch 0: none yet */
    int self_index;             /* in config.replicas; -1: not there */
    uint64_t fresh_epoch;       /* no process before this one can have led in this epoch or a later one */
    bool created, failed;
    bool lacks_tail;          /* perhaps: it failed no worse than that */
    uint64_t loss_epoch;      /* as kith_replica_log has it */
    uint64_t failed_epoch;    /* what it lost may be acknowledged in epochs up to it... */
    bool failed_at_start;     /* ...or up to that of the first append, if that is later */
    uint32_t installing_from; /* 0: not installing */

    /* leading */
    uint64_t
        leads_epoch; /* config.epoch while it leads, or did when it heard of a newer one; 0: it does not */
    bool served;     /* it has taken over */
    bool led;        /* ever; the last time at led_ns */
    uint64_t led_ns;
    uint64_t start;                  /* what must be committed before */
    uint64_t hold_ns, hold_floor_ns; /* nothing is committed before (replica_step_lease.c) */
    uint32_t hold_by;                /* unless this node has acknowledged the own epoch; 0: nobody helps */
    replica_peer peers[KITH_REPLICAS_MAX]; /* as config.replicas; the own place is not used */
    replica_send *flights;                 /* [KITH_REPLICAS_MAX][window] */
    uint64_t send_id;
    uint32_t turn; /* whose appends are looked at first */
    struct {
        uint64_t sequence, bytes;
    } sizes[KITH_REPLICA_SIZES];
    uint64_t size_usual; /* bytes of an entry, about; 0: none is known yet */

    /* changes */
    bool proposing;           /* a PROPOSE is not answered */
    uint64_t proposing_epoch; /* it is to replace */
    uint8_t proposed;         /* its ISR, in places of config.replicas */
    uint8_t doubted;          /* ISRs of those whose outcome is not known */
    bool awaiting_map;
    uint64_t propose_due_ns;
    bool handing_over;
    uint64_t handing_until_ns;
    uint64_t disk_ns;      /* when the own disk last had all of the log, or got on; as heard_ns */
    uint32_t refusals;     /* of proposals in this epoch */
    uint8_t refused_heirs; /* places of config.replicas that were refused as primary in this epoch */

    /* following */
    uint64_t verified; /* equal to the primary's log up to here */
    uint64_t leased_until_ns;
    uint64_t stamps[KITH_REPLICA_STAMPS];
    uint32_t stamp_count;
    uint64_t acked_ns, acked_before_ns; /* last acknowledgement, to acked_to; to anybody else */
    uint32_t acked_to;
    uint64_t
        acked_left_ns; /* last acknowledgement before the last config by which somebody may have left the ISR */
    uint32_t rival;    /* the last primary that is another node */
    bool rival_sure;   /* all configs since are known, each led by this node, nobody has left the ISR */
    replica_pending *pending; /* [pending_count] in the order they came */
    uint32_t pending_count, pending_capacity;

    /* actions */
    replica_queue queue;
    bool start_due, pull_due, install_due, propose_due;
    uint64_t pulled_ns;
    uint64_t committed_told;
    kith_replica_config wanted;
};

static inline uint64_t kith_replica_later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}
static inline uint64_t kith_replica_earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* replica_step.c */
kith_replica_role kith_replica_step_role(const kith_replica_step *step);
bool kith_replica_step_leads(
    const kith_replica_step *step); /* taking over or primary: it sends and commits */
bool kith_replica_step_is_in_sync(const kith_replica_step *step);
int kith_replica_config_find(const kith_replica_config *config, uint32_t number);
void kith_replica_step_clock(kith_replica_step *step, uint64_t now_ns); /* every event begins with it */
/* Commits and asks what can be now. */
void kith_replica_step_settle(kith_replica_step *step, uint64_t now_ns);
void kith_replica_step_learn(kith_replica_step *step, uint64_t epoch);
/* Up to where this replica may say in `epoch` that it has its log. */
uint64_t kith_replica_step_kept(const kith_replica_step *step, uint64_t epoch);
/* It has failed no more. */
void kith_replica_step_sound(kith_replica_step *step);
kith_replica_action *kith_replica_step_enqueue(kith_replica_step *step, kith_replica_action_kind kind);

/* replica_step_primary.c */
void kith_replica_step_lead(kith_replica_step *step, uint64_t now_ns);
/* The next epoch is its own again: nobody can have led between. */
void kith_replica_step_lead_on(kith_replica_step *step, const kith_replica_config *before, uint64_t now_ns);
uint8_t kith_replica_step_counted(const kith_replica_step *step); /* ISR, with what is proposed */
void kith_replica_step_commit(kith_replica_step *step, uint64_t now_ns);
bool kith_replica_step_send(kith_replica_step *step, uint64_t now_ns, kith_replica_action *action_out);
uint64_t kith_replica_step_send_due_ns(const kith_replica_step *step);
void kith_replica_step_answer_take(kith_replica_step *step, uint32_t number, uint64_t send_id,
    const kith_replica_reply *reply, uint64_t now_ns);
void kith_replica_step_forgive(kith_replica_step *step, uint64_t gap_ns, uint64_t now_ns);

/* replica_step_change.c */
void kith_replica_step_change(kith_replica_step *step, uint64_t now_ns);
void kith_replica_step_change_forget(kith_replica_step *step); /* a newer config has come */
uint64_t kith_replica_step_change_due_ns(const kith_replica_step *step);
bool kith_replica_step_change_open(const kith_replica_step *step);

/* replica_step_follower.c */
void kith_replica_step_append_take(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns);
void kith_replica_step_pending_refuse(kith_replica_step *step, kith_replica_outcome outcome);
void kith_replica_step_pending_answer(kith_replica_step *step, uint64_t now_ns);

/* replica_step_lease.c */
uint64_t kith_replica_step_hold_length_ns(const kith_replica_step *step); /* 2 L and the drift */
void kith_replica_step_hold_begin(kith_replica_step *step);
void kith_replica_step_hold_removed(kith_replica_step *step, const replica_peer *removed);
bool kith_replica_step_held(const kith_replica_step *step, uint64_t now_ns);
bool kith_replica_step_leased(const kith_replica_step *step, uint64_t now_ns); /* as the primary */
/* Until when one that may read as READ_IN_SYNC now may go on, if nothing is heard any more. */
uint64_t kith_replica_step_leased_until_ns(const kith_replica_step *step);
void kith_replica_step_acknowledge(kith_replica_step *step, uint32_t to, uint64_t now_ns);
void kith_replica_step_echo(kith_replica_step *step, uint64_t echo_ns, uint64_t now_ns);
void kith_replica_step_rival(kith_replica_step *step, const kith_replica_config *config);

#endif
