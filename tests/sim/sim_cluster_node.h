/* One machine of a simulated cluster: a coordinator or a member (what every data and query node has of the cluster:
 * heartbeats and the map), with its disk. It can be started, stopped in good order, killed, and started again on what its
 * disk kept.
 *
 * Stopping takes virtual time: poll moves it on. Threads: one, the simulator's. */
#ifndef KITH_TESTS_SIM_SIM_CLUSTER_NODE_H
#define KITH_TESTS_SIM_SIM_CLUSTER_NODE_H

#include "tests/sim/sim_cluster_check.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define SIM_COORDINATORS_MAX 7u

typedef struct sim_node sim_node;

/* Faults built in, to see that they are found. */
typedef enum sim_mutant {
    SIM_MUTANT_NONE = 0,
    SIM_MUTANT_TERM_UNSYNCED = 1,   /* the disk lies about syncs of term and vote */
    SIM_MUTANT_LOG_UNSYNCED = 2,    /* of the Raft log */
    SIM_MUTANT_NAMES_UNSYNCED = 3,  /* of folders: new files vanish */
    SIM_MUTANT_DISK_FORGOTTEN = 4,  /* a coordinator comes back with an empty disk and its old id */
    SIM_MUTANT_DATA_UNSYNCED = 5,   /* the disk lies about syncs of data nodes' logs */
    SIM_MUTANT_STORE_UNFLUSHED = 6, /* the store says that it is flushed when it is not */
    SIM_MUTANT_DOUBT_FORGOTTEN = 7, /* a data node finds no list of what it may have acknowledged and lost */
    SIM_MUTANTS,
} sim_mutant;
const char *sim_mutant_name(sim_mutant mutant);

#define SIM_DATA_SHARDS_MAX 64u

/* Of data nodes. */
typedef struct sim_data_options {
    uint64_t seed;
    uint32_t seal_rows;
    uint64_t seal_idle_ms;
    uint32_t request_window;
    uint64_t log_file_bytes, log_retain_bytes;
    uint64_t sync_us_max;        /* that the log's disk takes */
    uint64_t background_us_max;  /* that a task of the background executor waits */
    uint64_t digest_interval_ms; /* between two comparisons of a shard with its replicas */
    double flush_chance;         /* that a write to the store also flushes it */
} sim_data_options;

typedef struct sim_node_options {
    sim_env *machine; /* taken: destroyed with the node */
    kith_transport_sim_network *network;
    sim_check *check; /* of metadata; NULL: another judge looks at other things */
    uint32_t number;  /* for the judge */
    bool is_coordinator;
    bool is_spare;              /* a coordinator that is no first member: it waits to be joined */
    uint32_t coordinator_count; /* the first ones */
    uint32_t listed_count;      /* so many coordinators a member has in its configuration */
    uint32_t snapshot_threshold;
    uint32_t moves_max;           /* of a coordinator: shards that move at once; 0: none */
    uint64_t replace_after_ms;    /* and how long a node is waited for */
    bool one_executor;            /* everything on one thread, or the disk apart */
    const sim_data_options *data; /* members are data nodes; NULL: they have only heartbeats and the map */
    sim_mutant mutant;
    void (*tell)(void *ctx, const char *text); /* may be NULL */
    void *ctx;
} sim_node_options;

/* Address of the machine with this number: coordinators come first. */
const char *sim_node_address(uint32_t number);

sim_node *sim_node_create(const sim_node_options *options);
/* Only when off. */
void sim_node_destroy(sim_node *node);

typedef enum sim_node_state {
    SIM_NODE_OFF,
    SIM_NODE_RUNNING,
    SIM_NODE_STOPPING,
    SIM_NODE_GONE, /* removed from the cluster: it stays off */
} sim_node_state;
sim_node_state sim_node_state_of(const sim_node *node);

/* From OFF. A failure that is no crash in the middle of it is a violation. */
void sim_node_start(sim_node *node);
void sim_node_stop(sim_node *node);
void sim_node_crash(sim_node *node, sim_crash_mode mode, kith_transport_sim_power power);
/* The machine dies in the middle of its file operation number `operations` from now. */
void sim_node_crash_soon(sim_node *node, uint64_t operations, sim_crash_mode mode);
/* SIGSTOP and SIGCONT. */
void sim_node_pause(sim_node *node, bool paused);
bool sim_node_is_paused(const sim_node *node);
/* The node's wall clock jumps. */
void sim_node_wall_jump(sim_node *node, int64_t ms);
/* A bit of its disk is flipped, in a file whose path contains `part`; false: there is none. Its CORRUPT is no violation from then on. */
bool sim_node_flip(sim_node *node, const char *part);
/* NULL: none. */
const char *sim_node_violation(const sim_node *node);
/* What it said when it said CORRUPT, and might; NULL: it did not. */
const char *sim_node_corruption(const sim_node *node);
/* Moves stopping on, notices a machine that died, shows the judge what changed. */
void sim_node_poll(sim_node *node);

/* --- coordinators --- */

bool sim_node_leads(const sim_node *node);
/* Asks, if this node leads; what comes of it is not waited for. */
void sim_node_transfer(sim_node *node);
void sim_node_join(sim_node *node, uint32_t number);
void sim_node_leave(sim_node *node, uint32_t number);

/* What a Raft message says, in words. */
void sim_raft_message_describe(const void *message, size_t message_bytes, char *text, size_t bytes);

/* --- data nodes --- */

/* Digest of the points of a shard that is started here, after all of it was checked; false: there is none. What is wrong with it is a
 * violation. */
bool sim_node_shard_digest(sim_node *node, uint64_t shard_id, uint64_t *digest_out);
/* What its shards say of themselves is noted as what it says itself: one that is CORRUPT, that is. */
void sim_node_health_look(sim_node *node);
/* It may lack the end of its log (kith_replica_log.may_lack_tail). */
bool sim_node_shard_in_doubt(sim_node *node, uint64_t shard_id);
/* A line about its replica of the shard, for the story. */
void sim_node_shard_tell(sim_node *node, uint64_t shard_id);
kith_node_id sim_node_id(uint32_t number);

/* --- all --- */

/* What this coordinator has applied; NULL: it is no coordinator, or off. */
const struct kith_meta_state *sim_node_meta(const sim_node *node);
/* Version of the map that it goes by; 0: none. */
uint64_t sim_node_map_version(const sim_node *node);
/* As this coordinator knows it. */
bool sim_node_has_voter(const sim_node *node, uint32_t number);
/* Voters as this node knows them; a member knows of none. */
uint32_t sim_node_voter_count(const sim_node *node);

#endif
