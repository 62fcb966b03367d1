/* The machines of a simulated cluster and what happens to them: a network and disks that fail as the seed decides, machines
 * that die, stop, stand still and come back. What they are for, and what must be true of them, is the history's
 * (sim_cluster.c: metadata; sim_data.c: data).
 *
 * Threads: one. Ownership: in place; the nodes, the network and the machines are the world's. */
#ifndef KITH_TESTS_SIM_SIM_WORLD_H
#define KITH_TESTS_SIM_SIM_WORLD_H

#include "host/base/rng.h"
#include "tests/sim/sim_cluster_node.h"

#define SIM_MS               1000000ULL
#define SIM_WORLD_NODES_MAX  16u
#define SIM_WORLD_TEXT_BYTES 500u

typedef enum sim_world_fault {
    SIM_WORLD_SPLIT,      /* the machines fall into two halves */
    SIM_WORLD_CUT,        /* one machine is not heard by another, or by all */
    SIM_WORLD_ISOLATE,    /* the leader alone */
    SIM_WORLD_HEAL,       /* of the network */
    SIM_WORLD_WEATHER,    /* other delays and losses */
    SIM_WORLD_DIE,        /* a coordinator dies */
    SIM_WORLD_DIE_SOON,   /* in the middle of a file operation */
    SIM_WORLD_STOP,       /* a coordinator is restarted in good order */
    SIM_WORLD_MEMBER,     /* a member dies or is restarted */
    SIM_WORLD_PAUSE,      /* a machine stands still for a while */
    SIM_WORLD_TRANSFER,   /* of leadership */
    SIM_WORLD_MEMBERSHIP, /* a coordinator joins or leaves */
    /* Of histories of data only. */
    SIM_WORLD_LINK,  /* one machine is not heard by another, whichever they are */
    SIM_WORLD_CLOCK, /* a machine's wall clock jumps */
    SIM_WORLD_FLIP,  /* a data node dies, and before it comes back one bit of its disk is flipped; once */
    SIM_WORLD_FAULTS,
} sim_world_fault;

typedef struct sim_world_counts {
    uint64_t crashes, stops, cuts, transfers, memberships, jumps, flips, changes, burnt;
    uint64_t messages, lost;
} sim_world_counts;

typedef struct sim_world {
    kith_rng rng;
    sim_env *client_machine; /* the clients' */
    kith_env *env;           /* for the clock */
    kith_transport_sim_network *network;
    uint32_t coordinator_count; /* the first nodes; a spare one may follow them */
    bool has_spare;
    bool has_data;  /* members are data nodes */
    bool has_moves; /* and shards move between them */
    uint32_t burnt; /* the machine that is gone for good; 0: none */
    uint32_t node_count;
    sim_node *nodes[SIM_WORLD_NODES_MAX];
    uint64_t wake_ns
        [SIM_WORLD_NODES_MAX]; /* when a node that is off or paused comes back; 0: it is not, or is on */
    uint32_t flip_number; /* of the node of whose disk a bit is flipped before it comes back; 0: of none */
    uint32_t fault_weights[SIM_WORLD_FAULTS];
    sim_world_counts counts;
    bool trace, trace_network;
    bool over;                       /* a violation was found */
    char text[SIM_WORLD_TEXT_BYTES]; /* of the first one */
    /* Looks for violations, between two slices of time. */
    void (*look)(void *ctx);
    void (*change)(void *ctx); /* has_moves: an operator wants something else, beside every other fault */
    void *ctx;
} sim_world;

/* With the clients' machine and the network; nodes are the caller's to make. */
void sim_world_init(sim_world *world, uint64_t seed, uint64_t stream, bool trace, bool trace_network);
void sim_world_fini(sim_world *world);

uint64_t sim_world_now_ms(const sim_world *world);
uint64_t sim_world_below(sim_world *world, uint64_t bound);
/* Numbers of hosts are numbers of nodes from then on; those of clients follow. */
void sim_world_hosts_make(sim_world *world);
/* Options of the node `number` that are the world's to say; the machine is made. */
sim_node_options sim_world_node_options(sim_world *world, uint64_t seed, uint32_t number);
void sim_world_node_start(sim_world *world, uint32_t number);
void sim_world_run_for(sim_world *world, uint64_t ns);
/* The coordinator that leads; UINT32_MAX: none. */
uint32_t sim_world_leader(const sim_world *world);

/* The first of the members: who is no coordinator. */
uint32_t sim_world_member_first(const sim_world *world);
/* One more fault, of a kind that the weights choose. */
void sim_world_fault_do(sim_world *world);
/* Faults for `ms`. */
void sim_world_trouble(sim_world *world, uint64_t ms);
void sim_world_weights_draw(sim_world *world);
/* The machine dies, with its disk, and never comes back. */
void sim_world_burn(sim_world *world, uint32_t number);
/* All faults end; machines that were off come back. */
void sim_world_heal(sim_world *world);
/* Waits until all nodes go by the leader's map; that they do not within `ms` is a violation. */
void sim_world_one_map_await(sim_world *world, uint64_t ms);
/* Every node stops; false where one did not within its time, which is a violation, and they cannot be destroyed. `is_idle`: of
 * the clients. */
bool sim_world_close(sim_world *world, bool (*is_idle)(void *ctx), void *ctx);

/* A line of the story, for --trace. */
void sim_world_tell(sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_world_tell_text(void *world, const char *text);
void sim_world_blame(sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
