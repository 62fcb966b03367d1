/* The replicas of a data node inside; private to host/replica/replica_*.c (the step machine has its own).
 *
 * Threads: the shards' owner executor, except where it says so. */
#ifndef KITH_REPLICA_REPLICA_INTERNAL_H
#define KITH_REPLICA_REPLICA_INTERNAL_H

#include "host/base/arena.h"
#include "host/base/map.h"
#include "host/base/thread.h"
#include "host/codec/codec_replica.h"
#include "host/replica/replica.h"
#include "host/shard/shard_digest.h"
#include "host/shard/shard_replica.h"
#include "host/shard/shard_snapshot.h"

#define MS_NS UINT64_C(1000000)
/* Appends on their way to one replica at once, each of a share of what may be under way: enough to keep the disk there busy
 * while answers travel (a guess). */
#define REPLICA_APPEND_WINDOW 8u

typedef struct replica replica;
typedef struct replica_sending replica_sending;
typedef struct replica_receipt replica_receipt;
typedef struct replica_change replica_change;
typedef struct replica_install replica_install;
typedef struct replica_source replica_source;
typedef struct replica_compare replica_compare;

/* What any thread may see of a replica; under the set's mutex. Shown before anything that follows from it is told to others: a
 * reader that looks after a write was acknowledged finds it in `needed`. */
typedef struct replica_shown {
    bool is_open; /* and whole */
    bool is_installing;
    bool
        is_gone; /* a map did not give it to this node: it is let go soon, or was, and what is installed is given up */
    kith_replica_status status;
    uint64_t needed; /* a read that sees all up to it sees all that was acknowledged before */
    uint64_t applied;
    uint64_t heard_ns;          /* last append */
    uint64_t nearer_ns;         /* not in sync: when it last came nearer to it; 0: it is */
    uint64_t lag_ns, lag_bytes; /* of the others, where it leads: the longest; all together, about */
} replica_shown;

/* By when another replica is to have what: it lags for as long as it has not. */
typedef struct replica_mark {
    uint32_t number;
    uint64_t sequence, at_ns;
} replica_mark;

/* Where the log was when entries for another replica were last read back. */
typedef struct replica_reading {
    uint32_t peer; /* number of the node; 0: none */
    uint64_t after;
    kith_log_place place; /* of the entry `after` */
} replica_reading;

struct replica {
    kith_replica_set *set;
    uint64_t shard_id;
    replica *previous, *next; /* in the set */
    kith_task link_task;
    kith_shard_gate gate;
    kith_shard *shard;       /* held; NULL before its start, while it is replaced, and once it was let go */
    kith_replica_step *step; /* NULL until the shard has started and a map names it */
    kith_replica_config config; /* the newest; epoch 0: none */
    bool let_go, is_acting;
    uint32_t uses; /* of what is under way and comes back to it */
    uint64_t applied, due_ns;
    uint64_t heard_ns, nearer_ns; /* as shown */
    uint64_t nearer_look_ns;      /* when that was looked at last */
    uint64_t nearer_applied,
        nearer_copy_bytes;     /* how near that was: applied; of a copy, the most that any attempt had */
    replica_sending *sendings; /* under way, to be cancelled */
    replica_reading readings[KITH_REPLICAS_MAX]; /* by number of the node that it is for, modulo */
    replica_receipt *receipts;                   /* not answered yet */
    replica_receipt *held_first; /* that wait for room in the shard, in the order of the log */
    replica_receipt *lapsed;     /* those whose turn did not come; refused at lapsed_until_ns */
    replica_receipt *asking;     /* whether there is room: its answer waits for it; NULL: none */
    uint64_t lapsed_until_ns;
    uint32_t held_count;
    uint64_t held_due_ns; /* when to look at them; UINT64_MAX: there are none */
    uint64_t roomy_ns;    /* when it last took entries */
    bool full_told;
    kith_replica_wait *waits;
    uint64_t waits_due_ns;
    bool is_queued;             /* for a proposal, of `wanted` */
    bool is_broken;             /* it may lack what it acknowledged, until it was installed anew */
    bool is_in_doubt;           /* of the end of its log only: until its step machine has found what to do */
    bool is_async;              /* its collection's writes need not wait for disks */
    bool is_listed;             /* as one that may acknowledge what its disk has not (replica_unsynced.c) */
    uint64_t listed_loss_epoch; /* the config's then */
    bool is_leaving;            /* the change that takes it out of those in sync is under way */
    uint64_t leave_due_ns;      /* when to ask for that; UINT64_MAX: not at all */
    uint64_t alone_epoch;       /* that a change which goes alone makes; 0: none is under way */
    uint64_t handed_over_epoch; /* the last that was to be handed over */
    replica *queue_next;
    kith_replica_config wanted;
    replica_install *install;
    uint64_t install_turn; /* among those that wait to be copied, or for their next attempt; 0: it does not */
    uint64_t compare_due_ns;
    replica_compare *compare;
    uint32_t compare_attempt;
    uint64_t compare_end; /* of the log, at the last look; 0: not looked at yet */
    replica_shown shown;
    replica_mark marks[KITH_REPLICAS_MAX];
    uint64_t admitted_bytes, admitted_count; /* to tell how much a lag of entries is */
};

/* A shard of which this node may have acknowledged what its disk did not get. */
typedef struct replica_unsynced {
    uint64_t shard_id;
    uint64_t loss_epoch; /* that it led in last in spite of such a loss; 0: none */
} replica_unsynced;

/* A node as a message finds it. */
typedef struct replica_node {
    uint32_t number;
    kith_node_id id;
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
} replica_node;

struct kith_replica_set {
    kith_replica_set_options options;
    kith_env *env;
    kith_executor *owner;
    /* A lock, not a message: every read looks a replica up from its own thread and must not wait for the owner. Held for a look-up and
     * a copy. Guards: */
    kith_mutex mutex;
    kith_map *by_id; /* shard id -> replica */
    /* The rest is the owner's. */
    replica *replicas;
    uint32_t self; /* number of this node; 0: not known yet */
    uint32_t node_count;
    replica_node *nodes; /* by rising number */
    kith_timer timer;
    uint64_t timer_due_ns; /* UINT64_MAX: not armed */
    kith_codec_append_entry
        *entries;       /* [KITH_CODEC_APPEND_ENTRIES_MAX] of the append that is being written */
    uint32_t under_way; /* calls, reads and proposals that come back */
    bool stopped;
    void (*stop_done)(void *ctx);
    void *stop_ctx;
    kith_task stop_task;
    /* proposals (replica_propose.c) */
    replica *queue_first, *queue_last;
    uint32_t changes_in_flight;
    uint64_t propose_not_before_ns, propose_backoff_ns;
    kith_task pump_task;
    bool pump_posted;
    kith_meta_wait pull;
    kith_task pull_task;
    bool pulling;
    uint64_t pull_not_before_ns;
    bool pull_again;
    /* copies (replica_install.c) */
    uint32_t install_count; /* that have a place: few */
    uint64_t install_turn;  /* the last that was given */
    bool installs_are_chosen;
    /* snapshots that others read (replica_fetch.c); the background executor's, under sources_mutex */
    kith_mutex sources_mutex;
    replica_source *sources;
    uint64_t source_id;
    uint32_t source_count;
    bool sources_stopped, sources_timed;
    kith_timer sources_timer;
    kith_task sources_task, sources_ended_task;
    /* hand-over (replica_hand_over.c) */
    uint64_t hand_over_due_ns, hand_over_deadline_ns; /* UINT64_MAX: none */
    void (*hand_over_done)(void *ctx, uint32_t left);
    void *hand_over_ctx;
    kith_task hand_over_task;
    uint32_t comparing; /* shards whose digests are being compared */
    /* acknowledging before the disk (replica_unsynced.c) */
    char *dir;
    replica_unsynced *unsynced; /* [unsynced_count] found at the start, and still in doubt */
    uint32_t unsynced_count;
    bool unsynced_unknown; /* what was there could not be read: any replica may be in doubt */
};

/* --- replica.c --- */

static inline uint64_t replica_now_ns(const kith_replica_set *set) {
    return kith_env_now_ns(set->env);
}
/* NULL when there is none. */
replica *replica_find(kith_replica_set *set, uint64_t shard_id);
const replica_node *replica_node_of(const kith_replica_set *set, uint32_t number);
/* 0: not known. */
uint32_t replica_number_of(const kith_replica_set *set, const kith_node_id *id);
/* Something was told to its step machine: shows it, and carries out what follows. */
void replica_after_event(replica *own);
/* It stays in memory until it is dropped, on the owner. */
void replica_hold(replica *own);
void replica_drop(replica *own);
/* Counts what comes back to the set, whose stop waits for it, and to the replica (may be NULL), on the owner. */
void replica_use(kith_replica_set *set, replica *own);
void replica_unuse(kith_replica_set *set, replica *own);
/* The set's timer fires at `due_ns` at the latest. */
void replica_timer_want(kith_replica_set *set, uint64_t due_ns);
/* It may lack what it acknowledged. */
void replica_fail(replica *own);
/* One that was let go is found no more. */
void replica_forget(replica *own);
/* Shows what any thread may see. */
void replica_show(replica *own);
/* Tells the step machine the newest configuration. */
void replica_configure(replica *own);

/* --- replica_unsynced.c --- */

/* What the process before this one left. */
void replica_unsynced_read(kith_replica_set *set);
/* Whether a replica that begins may lack the end of its log; and since which accepted loss. */
bool replica_unsynced_find(replica *own, uint64_t *loss_epoch_out);
/* A map came. What it has no more is forgotten... */
void replica_unsynced_gone(kith_replica_set *set, bool (*is_here)(void *ctx, uint64_t shard_id), void *ctx);
/* ...and whoever is to acknowledge early from now on is put on the list first. */
void replica_unsynced_look(kith_replica_set *set);
/* May it acknowledge what its disk has not? */
bool replica_acknowledges_early(const replica *own);
/* Something was told to its step machine: it may have got over its doubt. */
void replica_doubt_look(replica *own);
/* It lacks nothing any more that it acknowledged and that counts. */
void replica_mended(replica *own);
/* After the log was closed: if that has all that was acknowledged, the next process need not doubt it. */
void replica_unsynced_end(kith_replica_set *set);

/* --- replica_stall.c --- */

/* An append came. */
void replica_heard(replica *own, uint64_t now_ns);
/* A copy has so many bytes. */
void replica_copied(replica *own, uint64_t bytes);
/* Its source has no time for it yet. */
void replica_awaits_turn(replica *own);
/* Before it is shown. */
void replica_nearer_look(replica *own, const kith_replica_status *status, uint64_t now_ns);

/* --- replica_send.c --- */

void replica_send(replica *own, const kith_replica_action *action);
void replica_sendings_cancel(replica *own);

/* --- replica_receive.c --- */

void replica_append_handle(void *ctx, kith_transport_request *request);
void replica_receipt_append(replica *own, const kith_replica_action *action);
void replica_receipt_answer(replica *own, const kith_replica_action *action);
/* Those that wait are told to come again. */
void replica_receipts_refuse(replica *own);
/* The shard may have room again. */
void replica_held_look(replica *own);
void replica_held_tick(replica *own, uint64_t now_ns);

/* --- replica_propose.c --- */

void replica_propose(replica *own, const kith_replica_config *wanted);
void replica_propose_tick(kith_replica_set *set, uint64_t now_ns);
uint64_t replica_propose_due_ns(const kith_replica_set *set);
void replica_propose_forget(replica *own);
/* One that is broken and in sync says so, unless it leads, which is the step machine's business. */
void replica_leave_look(replica *own);
/* Asks for all that are due. */
void replica_leave_tick(kith_replica_set *set, uint64_t now_ns);
void replica_pull_map(kith_replica_set *set);

/* --- replica_wait.c --- */

void replica_waits_applied(replica *own);
/* Those that wait for it to take over, when it has, or will not. */
void replica_waits_look(replica *own);
void replica_waits_tick(replica *own, uint64_t now_ns);
void replica_waits_end(replica *own, kith_status status, const char *why);

/* --- replica_fetch.c --- */

/* On the background executor. */
void replica_fetch_handle(void *ctx, kith_transport_request *request);
/* Those that are held end, on the background executor, and so does what is read at this moment. */
void replica_sources_stop(kith_replica_set *set);
/* When nothing runs any more. */
void replica_sources_end(kith_replica_set *set);

/* --- replica_install.c --- */

/* The step machine wants a copy of what the primary has. */
void replica_install_want(replica *own);
/* It was told a configuration, by which it may want none any more. */
void replica_install_look(replica *own);
/* The shard is this node's no more: what it waits for from others, up to the deadline of a piece, it waits for no longer, for another
 * shard may want its place. */
void replica_install_let_go(replica *own);
void replica_install_stop(kith_replica_set *set);

/* --- replica_hand_over.c --- */

/* At UINT64_MAX it ends. */
void replica_hand_over_tick(kith_replica_set *set, uint64_t now_ns);

/* --- replica_compare.c --- */

void replica_digest_handle(void *ctx, kith_transport_request *request);
void replica_compare_tick(replica *own, uint64_t now_ns);
void replica_compare_stop(replica *own);

#endif
