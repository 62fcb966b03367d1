/* The replication protocol of one replica of a shard: a pure step machine. It knows positions in logs, never their bytes; it
 * reads no clock and sends nothing: events go in, actions are taken out, and `now_ns` is the only time it knows.
 *
 * Primary-backup with a configuration manager after W. Lin, M. Yang, L. Zhang, L. Zhou, "PacificA: Replication in Log-Based
 * Distributed Storage Systems", 2008 (MSR-TR-2008-25), the manager being the cluster's metadata, and Kafka's leader epochs
 * (KIP-101, KIP-279) for telling logs apart. What differs from them, and why it is safe, is at the head of replica_step.c.
 *
 * The rules:
 *   1. An entry is committed when every member of the in-sync set (ISR) has it durably. While a change of the ISR is proposed, or its
 *      outcome unknown, of the old and the proposed one together.
 *   2. Every change of primary, replicas or ISR is a compare-and-set on the shard's epoch in the metadata, and raises it. A message of an
 *      older epoch is refused by everyone.
 *   3. Only the primary changes who is in sync (a follower that is silent leaves, a replica that caught up enters);
 *      only the coordinators change who is primary, to a member of the ISR, add replicas (not in sync), and drop others than the primary,
 *      also such as are in sync (host/cluster/rebalance.h). A process that starts does not lead in an
 *      epoch that it finds: it asks for a new one, because followers may have entries of the old one that it has not.
 *   4. A new primary appends an epoch-start entry, brings the ISR to its log, commits all of it at once, and waits until no lease of the
 *      primary before it can be valid; only then does it serve.
 *   5. A follower takes an entry only behind one that is the same on both sides (epoch and sequence); what differs behind that
 *      is cut off, which never reaches a committed entry. It acknowledges only what it knows to be the primary's.
 *   6. Leases. L = lease_ns. The primary may answer reads while every member of the ISR has acknowledged, in this epoch,
 *      something sent less than L ago. A follower may answer `in_sync` reads until L after the newest own stamp that came back
 *      (`echo_ns`) from a primary whose own lease was valid as it sent it. So a follower leaves the ISR no earlier than
 *      2 L (1 + drift) after its last acknowledgement, and a new primary commits nothing before that much after its own last
 *      acknowledgement to the one before (after its start, where it does not know). The same holds for a member of the ISR that
 *      a coordinator dropped: the primary commits nothing without it before that much after its last acknowledgement.
 *
 * Threads: one at a time. Ownership: create/destroy. */
#ifndef KITH_REPLICA_REPLICA_STEP_H
#define KITH_REPLICA_REPLICA_STEP_H

#include "host/base/err.h"
#include "host/model/node.h"

typedef struct kith_replica_step kith_replica_step;

/* Of an entry in a log. {0, 0}: before the first. Epoch 0 otherwise: it is committed, and its epoch is forgotten. */
typedef struct kith_replica_position {
    uint64_t epoch, sequence;
} kith_replica_position;

typedef struct kith_replica_step_options {
    uint64_t shard_id;
    uint32_t self;          /* number of this node */
    uint64_t lease_ns;      /* L; clocks drift apart by less than an eighth of it in that time */
    uint64_t epoch_led_min; /* nobody leads in an epoch below it: who made this one has nobody to wait for */
    uint32_t window;        /* appends on their way to one replica at once */
    size_t batch_bytes_max; /* of entries in one append */
} kith_replica_step_options;

/* What the map says of the shard. */
typedef struct kith_replica_config {
    uint64_t epoch;
    uint8_t replica_count;
    uint8_t in_sync;                      /* bit i: replicas[i]; as in kith_meta_shard */
    uint32_t replicas[KITH_REPLICAS_MAX]; /* primary first */
    uint32_t min_in_sync;
    uint64_t
        loss_epoch; /* that an operator began by accepting loss: its primary leads with what it has; 0: none */
} kith_replica_config;

/* The log as it was found at start: where entries of each epoch begin, rising in both; of what is still in the log files. */
typedef struct kith_replica_log {
    uint64_t first; /* the oldest sequence whose entry can still be read; end.sequence + 1: none */
    kith_replica_position end;
    uint64_t committed; /* known to be; at least what was applied */
    bool
        created; /* this process has just made the shard, for good (not installed or found): it may lead in epoch 1 */
    const kith_replica_position *epochs; /* [epoch_count] first position of each epoch; copied */
    uint32_t epoch_count;
    /* What this replica acknowledged before its disk had it may have been lost with the process before this one. What it has is sound: it
     * leaves the ISR and follows again, without being installed anew. A shard's only replica leads with what it has; one of several that
     * finds no other in sync leads only where an operator accepts that, in an epoch later than `loss_epoch`. */
    bool may_lack_tail;
    uint64_t loss_epoch; /* that it led in before, in spite of what it lacked then */
} kith_replica_log;

kith_replica_step *kith_replica_step_create(
    const kith_replica_step_options *options, const kith_replica_log *log, uint64_t now_ns);
void kith_replica_step_destroy(kith_replica_step *step); /* accepts NULL */

/* --- messages --- */

typedef struct kith_replica_append {
    uint64_t epoch;
    kith_replica_position previous;
    uint64_t committed;
    uint64_t echo_ns;
    uint64_t loss_epoch; /* the primary's config's */
    bool snapshot_needed;
    uint32_t entry_count;         /* sequences previous.sequence + 1 .. */
    const uint64_t *entry_epochs; /* [entry_count]; borrowed for the call */
} kith_replica_append;

/* Numbers travel. */
typedef enum kith_replica_outcome {
    KITH_REPLICA_OK = 1,
    KITH_REPLICA_MISMATCH = 2,  /* `previous` is not in the replica's log; `hint` says where to try */
    KITH_REPLICA_OLD_EPOCH = 3, /* it knows a newer epoch */
    KITH_REPLICA_NOT_READY = 4, /* no replica of this shard is open, or it is being installed; later */
    /* It failed and may have lost what it acknowledged in this epoch: it can be installed in a later one only, in which it is not in
     * sync, for in this one its acknowledgements may still bring it into the ISR. */
    KITH_REPLICA_NEEDS_EPOCH = 5,
} kith_replica_outcome;

typedef struct kith_replica_reply {
    kith_replica_outcome outcome;
    uint64_t epoch;
    uint64_t matched; /* OK: durable here, and the primary's */
    uint64_t hint;
    uint64_t stamp_ns;
    uint64_t applied; /* for metrics: whoever sends the reply fills it in, */
    bool full;        /* and this: no room for entries, the next append is to ask for it */
} kith_replica_reply;

/* --- events --- */

/* The map says so now; older epochs are ignored. */
void kith_replica_step_configure(kith_replica_step *step, const kith_replica_config *config, uint64_t now_ns);
/* Primary: may a write begin? OK: it is the next entry, at *position_out, and part of the log from now on. STALE_MAP: this is not the
 * primary. UNAVAILABLE: fewer in sync than min_in_sync, or it has not taken over yet: nothing was done. */
KITH_CHECK kith_status kith_replica_step_admit(kith_replica_step *step, uint64_t bytes, uint64_t now_ns,
    kith_replica_position *position_out, kith_err *err);
/* Every entry of this log up to `sequence` is durable. */
void kith_replica_step_durable(kith_replica_step *step, uint64_t sequence, uint64_t now_ns);
/* Every entry of this log up to `sequence` is in the log's hands: where writes need not wait for disks, that counts as durable, in the epoch of
 * the newest configuration. After a stop that may have lost some, this replica is one that may_lack_tail. */
void kith_replica_step_handed(kith_replica_step *step, uint64_t sequence, uint64_t now_ns);
/* Entries before `sequence` are no more in the log files. */
void kith_replica_step_trimmed(kith_replica_step *step, uint64_t sequence);
/* Follower: an append came, with `token` to answer it by. Actions follow: perhaps TRUNCATE, APPEND, then, once what it brings is durable,
 * ANSWER with its token. */
void kith_replica_step_received(kith_replica_step *step, uint32_t from, const kith_replica_append *append,
    uint64_t token, uint64_t now_ns);
/* Primary: the append of `send_id` was answered; or (reply NULL) it was not, and may or may not have arrived. */
void kith_replica_step_answered(kith_replica_step *step, uint32_t peer, uint64_t send_id,
    const kith_replica_reply *reply, uint64_t now_ns);
/* Primary: of the append of `send_id` only the entries up to `last`, `bytes` of them, are sent: the rest was too much, or is not there. */
void kith_replica_step_shortened(
    kith_replica_step *step, uint32_t peer, uint64_t send_id, uint64_t last, uint64_t bytes);
/* What a PROPOSE came to. Each gets one of these. */
typedef enum kith_replica_proposal {
    KITH_REPLICA_PROPOSAL_DONE =
        1, /* certain: this very command made the change (so its epoch is newer than this process) */
    KITH_REPLICA_PROPOSAL_REFUSED = 2, /* certain: it did not, and never will */
    KITH_REPLICA_PROPOSAL_UNKNOWN = 3, /* the map will tell */
} kith_replica_proposal;
void kith_replica_step_proposed(kith_replica_step *step, kith_replica_proposal outcome, uint64_t now_ns);
/* Whether a copy is wanted still: not where an operator has chosen what this replica has. To be asked before that is given up. */
bool kith_replica_step_installs(const kith_replica_step *step);
/* Follower: a snapshot with everything up to `end` replaced the log and the state. */
void kith_replica_step_installed(kith_replica_step *step, kith_replica_position end, uint64_t now_ns);
/* This replica may lack what it once acknowledged (its files are CORRUPT, its log stopped, or an install that had erased it was cut off by
 * a crash): it leaves the ISR where another member is left, is not primary any more, and answers NOT_READY until it is installed
 * anew. */
void kith_replica_step_failed(kith_replica_step *step, uint64_t now_ns);
/* Primary: hand over to the member of the ISR that is furthest; `done` when this is no more the primary, or there is nobody. */
void kith_replica_step_hand_over(kith_replica_step *step, uint64_t now_ns);
void kith_replica_step_tick(kith_replica_step *step, uint64_t now_ns);
/* When the next tick is due at the latest; UINT64_MAX: none is. */
uint64_t kith_replica_step_due_ns(const kith_replica_step *step);

/* --- actions --- */

typedef enum kith_replica_action_kind {
    KITH_REPLICA_NOTHING = 0,
    /* Primary: an append to `peer`, entries first..last (none: last < first), answered through kith_replica_step_answered with send_id. The
     * bytes of entries up to `committed` may have to be read from the log files. */
    KITH_REPLICA_SEND,
    KITH_REPLICA_START_EPOCH, /* append the epoch-start entry `position` to the own log */
    KITH_REPLICA_TRUNCATE,    /* follower: entries from `first` on are dropped */
    KITH_REPLICA_APPEND,      /* follower: entries first..last of the append of `token` go to the log */
    KITH_REPLICA_ANSWER,      /* follower: `reply` to the append of `token` */
    KITH_REPLICA_COMMIT,      /* every entry up to `last` is committed: apply */
    KITH_REPLICA_PROPOSE, /* `config` in place of the one with its epoch; answered through kith_replica_step_proposed */
    KITH_REPLICA_PULL_MAP, /* someone knows a newer epoch than the map here */
    KITH_REPLICA_INSTALL, /* follower: fetch a snapshot from the primary, now `peer`, then kith_replica_step_installed */
} kith_replica_action_kind;

typedef struct kith_replica_action {
    kith_replica_action_kind kind;
    uint32_t peer;
    uint64_t send_id;
    uint64_t token;
    uint64_t first, last;
    kith_replica_position position;                 /* START_EPOCH; SEND: of the entry before the first */
    uint64_t epoch, committed, echo_ns, loss_epoch; /* SEND */
    bool snapshot_needed;                           /* SEND */
    bool asks_room;             /* SEND: no entries, until it is answered that there is room */
    kith_replica_reply reply;   /* ANSWER */
    kith_replica_config config; /* PROPOSE: the wanted one; its epoch is the one to be replaced */
} kith_replica_action;

/* Takes the next action; false: there is none. Call until then after every event, and carry each out before the next
 * event. SEND and ANSWER are only messages; the others change what this replica is. */
bool kith_replica_step_next(kith_replica_step *step, uint64_t now_ns, kith_replica_action *action_out);

/* --- reads --- */

typedef enum kith_replica_read {
    KITH_REPLICA_READ_IN_SYNC = 0, /* the default: sees every write that was acknowledged before it began */
    KITH_REPLICA_READ_PRIMARY = 1, /* linearizable: as in_sync, at the primary */
    KITH_REPLICA_READ_ANY = 2,     /* whatever this replica has applied */
    KITH_REPLICA_READ_TOKEN = 3,   /* at least up to the write of a token */
} kith_replica_read;

/* OK: it may read once everything up to *sequence_out is applied here. STALE_MAP (not the primary), UNAVAILABLE (no lease, not
 * in sync): ask another replica. `token_sequence` for READ_TOKEN only. */
KITH_CHECK kith_status kith_replica_step_read(const kith_replica_step *step, kith_replica_read read,
    uint64_t token_sequence, uint64_t now_ns, uint64_t *sequence_out, kith_err *err);

/* --- status --- */

typedef enum kith_replica_role {
    KITH_REPLICA_IDLE = 0,     /* no config yet, or not one of its replicas */
    KITH_REPLICA_FOLLOWER = 1, /* in sync or not */
    KITH_REPLICA_TAKING_OVER = 2,
    KITH_REPLICA_PRIMARY = 3,
} kith_replica_role;

typedef struct kith_replica_peer_status {
    uint32_t number;
    bool in_sync;
    uint64_t matched;
    uint64_t applied;
    uint64_t silent_ns;
} kith_replica_peer_status;

typedef struct kith_replica_status {
    kith_replica_role role;
    uint64_t epoch; /* the highest known */
    kith_replica_config config;
    kith_replica_position end;
    uint64_t committed, durable;
    bool in_sync;             /* this one, by its config */
    bool may_lack_tail;       /* as found at start, until it has left the ISR, or loss was accepted */
    bool awaits_copy;         /* of another's, in place of what it has */
    bool leased;              /* may read as READ_IN_SYNC */
    uint64_t leased_until_ns; /* until when, should nothing more happen; 0: it is not */
    uint32_t peer_count;
    kith_replica_peer_status peers[KITH_REPLICAS_MAX]; /* the primary's */
} kith_replica_status;

void kith_replica_step_status(
    const kith_replica_step *step, uint64_t now_ns, kith_replica_status *status_out);
/* Epoch of the entry `sequence`, 0 when it is not known (trimmed, or not there). */
uint64_t kith_replica_step_epoch_of(const kith_replica_step *step, uint64_t sequence);

#endif
