/* The world of a replication history: events in virtual time, nodes, calls between them, the metadata. */
#ifndef KITH_TESTS_SIM_SIM_REPLICA_INTERNAL_H
#define KITH_TESTS_SIM_SIM_REPLICA_INTERNAL_H

#include "host/base/rng.h"
#include "host/replica/replica_step_internal.h"
#include "tests/sim/sim_replica.h"
#include "tests/sim/sim_replica_check.h"

#define NODES_MAX  5u
#define MS         1000000ULL
#define LEASE_NS   (100 * MS)
#define BATCH_MAX  8u
#define FULL_EVERY 64u /* so often, in one of four histories, a reply says that there is no room */
#define CALLS                                                                                                \
    4096u /* of one history under way; later ones take the places of the earliest, which have ended */
#define EVENTS_MAX  65536u
#define WAITS_MAX   64u
#define EPOCHS_MAX  (SIM_REPLICA_EPOCHS_MAX - 8u)    /* no more faults after it */
#define WRITES_LAST (SIM_REPLICA_ENTRIES_MAX - 200u) /* no more writes from there on */

typedef enum sim_event_kind {
    SIM_EVENT_APPEND = 1, /* a: call */
    SIM_EVENT_REPLY,
    SIM_EVENT_TIMEOUT,
    SIM_EVENT_SYNC,     /* a: how many writes of its disk are done */
    SIM_EVENT_TICK,     /* a: which of its timers */
    SIM_EVENT_MAP,      /* a: epoch */
    SIM_EVENT_PROPOSAL, /* at the metadata; a: proposal */
    SIM_EVENT_PROPOSED, /* a: twice the proposal, and 1 when its answer did not come in time */
    SIM_EVENT_FETCH,
    SIM_EVENT_START,
    SIM_EVENT_CLIENT,
    SIM_EVENT_FAULT,
    SIM_EVENT_COORDINATOR,
    SIM_EVENT_PUSH,
} sim_event_kind;

typedef struct sim_event {
    uint64_t at_ns, order;
    sim_event_kind kind;
    uint32_t node; /* 0: nobody's; else it waits while that node stands still */
    uint32_t a;
    uint32_t process; /* 0: whichever is there */
} sim_event;

typedef struct sim_call {
    uint32_t id;
    uint32_t from, to, process; /* of the caller */
    bool ended;
    uint64_t send_id;
    kith_replica_append append;
    uint64_t entry_epochs[BATCH_MAX];
    sim_replica_entry entries[BATCH_MAX];
    kith_replica_reply reply;
} sim_call;

typedef struct sim_proposal {
    uint32_t node, process;
    bool ended;
    kith_replica_config config;
    kith_replica_proposal outcome;
} sim_proposal;

typedef struct sim_wait {
    uint64_t sequence;
    sim_replica_begun begun;
} sim_wait;

typedef struct sim_write {
    uint64_t sequence;
    sim_replica_entry entry;
} sim_write; /* on its way to the disk */

typedef struct sim_node {
    uint32_t number;
    bool up;
    uint32_t process; /* never used twice in a history */
    uint64_t paused_until_ns;
    uint64_t clock_ns, rate; /* its clock: clock_ns + rate * time / 1024 */
    kith_replica_step *step;
    uint64_t end, durable, applied, told; /* told: committed, as it was told */
    sim_replica_entry log[SIM_REPLICA_ENTRIES_MAX + 1];
    sim_write writes[SIM_REPLICA_ENTRIES_MAX + 1]; /* ring [write_first, write_last) */
    uint32_t write_first, write_last;
    uint64_t disk_free_ns; /* the disk is busy until then */
    uint32_t wait_count;
    sim_wait waits[WAITS_MAX];
    uint32_t tick; /* the newest timer */
    uint64_t tick_at_ns;
    uint32_t fetch_from;
    /* on disk */
    uint64_t disk_end, disk_first, disk_committed;
    sim_replica_entry disk[SIM_REPLICA_ENTRIES_MAX + 1];
    uint64_t disk_map; /* epoch of the map that it kept */
    bool disk_failed;  /* it is to be replaced */
    bool made;         /* it was there before */
} sim_node;

typedef struct sim_world {
    sim_replica_options options;
    sim_replica_outcome *outcome;
    sim_replica_check check;
    kith_rng rng;
    uint64_t now_ns, order, end_ns;
    bool healed;
    uint32_t event_count;
    sim_event events[EVENTS_MAX];
    uint32_t node_count;
    sim_node nodes[NODES_MAX + 1]; /* from 1 */
    /* the network */
    bool cut[NODES_MAX + 1][NODES_MAX + 1]; /* from, to; 0 is the metadata */
    uint32_t loss_percent, slow_percent, delay_ms, disk_ms;
    uint32_t batch_max, client_ms, write_percent; /* of this history */
    uint32_t call_last;
    sim_call calls[CALLS];
    /* the metadata */
    uint64_t epoch, min_in_sync;
    kith_replica_config configs[SIM_REPLICA_EPOCHS_MAX];
    uint32_t proposal_last;
    sim_proposal proposals[CALLS];
    uint64_t unheard_ns[NODES_MAX + 1]; /* since when the coordinator does not hear it; 0: it does */
    uint32_t value, process;
    bool writing;
} sim_world;

/* sim_replica.c */
void sim_at(sim_world *world, uint64_t in_ns, sim_event event);
uint64_t sim_below(sim_world *world, uint64_t bound);
bool sim_percent(sim_world *world, uint32_t percent);
uint64_t sim_delay_ns(sim_world *world);
bool sim_is_lost(sim_world *world, uint32_t from, uint32_t to);
#define TRACE(world, ...)                                                                                    \
    do {                                                                                                     \
        if ((world)->options.trace) sim_trace(world, __VA_ARGS__);                                           \
    } while (0)
void sim_trace(sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sim_replica_node.c */
uint64_t sim_node_now_ns(const sim_world *world, const sim_node *node);
void sim_node_start(sim_world *world, sim_node *node);
void sim_node_crash(sim_world *world, sim_node *node, bool machine);
void sim_node_fail(sim_world *world, sim_node *node);
void sim_node_trim(sim_world *world, sim_node *node);
void sim_node_append(sim_world *world, sim_node *node, const sim_replica_entry *entry);
void sim_node_run(sim_world *world, sim_node *node);
void sim_node_event(sim_world *world, sim_node *node, const sim_event *event);
void sim_node_waits(sim_world *world, sim_node *node);
void sim_reply(sim_world *world, sim_call *call);

/* sim_replica_meta.c */
void sim_meta_start(sim_world *world);
void sim_meta_propose(sim_world *world, sim_node *node, const kith_replica_config *config);
void sim_meta_event(sim_world *world, const sim_event *event);
void sim_meta_pull(sim_world *world, sim_node *node);
void sim_meta_suspect(sim_world *world, uint32_t number);
void sim_meta_move(sim_world *world);
void sim_meta_replace(sim_world *world);

/* sim_replica_client.c */
void sim_client_event(sim_world *world);
bool sim_client_write(sim_world *world, sim_node *node);
void sim_client_read(sim_world *world, sim_node *node, sim_replica_read read);

#endif
