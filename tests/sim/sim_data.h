/* One history of the data of a simulated cluster: coordinators, data nodes with log, store and shards, clients that write and read
 * points through a query node's own stack; a network and disks that fail as the seed decides; then everything is healed, must
 * serve again within bounded time, and sim_data_check.h judges what was answered.
 *
 * Threads: one. A history is a function of its options. */
#ifndef KITH_TESTS_SIM_SIM_DATA_H
#define KITH_TESTS_SIM_SIM_DATA_H

#include "tests/sim/sim_world.h"

typedef struct sim_data_history_options {
    uint64_t seed;
    bool trace;
    bool trace_network; /* every message too */
    uint32_t replicas;  /* of each shard; 0: as the seed has it */
    bool moves; /* an operator drains nodes and changes replication factors; machines come late, and burn */
    bool async; /* collections with `durability` async */
    sim_mutant mutant; /* a fault built into the nodes, which must be found */
} sim_data_history_options;

typedef struct sim_data_history_outcome {
    bool violated;
    bool reported; /* a flipped bit was reported as CORRUPT */
    bool
        in_doubt; /* all that were in sync of a shard died before their disks had what they had acknowledged: it waits for an operator */
    char text[500]; /* of the violation */
    uint64_t writes, acknowledged, seen, requests, failures, undecided;
    sim_world_counts counts;
    uint64_t virtual_ms;
} sim_data_history_outcome;

void sim_data_history_run(const sim_data_history_options *options, sim_data_history_outcome *outcome_out);

/* All data nodes follow a wrong variant of the replication protocol from now on (kith_replica_mutant); false: there is none of that
 * number. Only in kith_sim_mutants; NULL elsewhere. */
bool sim_data_mutant_set(uint32_t mutant) __attribute__((weak));

#endif
