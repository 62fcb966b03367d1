/* One history of a simulated cluster: coordinators with the real consensus core, members that send heartbeats and take
 * maps, a client that changes collections; a network and disks that fail as the seed decides; then everything is healed,
 * must become one again within bounded time, and sim_cluster_check.h judges what was seen.
 *
 * Threads: one. A history is a function of its options. */
#ifndef KITH_TESTS_SIM_SIM_CLUSTER_H
#define KITH_TESTS_SIM_SIM_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim_world.h"

typedef struct sim_cluster_options {
    uint64_t seed;
    bool trace;
    bool trace_network; /* every message too */
    sim_mutant mutant;  /* a fault built into the nodes, which must be found */
} sim_cluster_options;

typedef struct sim_cluster_outcome {
    bool violated;
    char text[500]; /* of the violation */
    uint64_t commands, acknowledged, maps, terms;
    sim_world_counts counts;
    uint64_t virtual_ms;
} sim_cluster_outcome;

void sim_cluster_run(const sim_cluster_options *options, sim_cluster_outcome *outcome_out);

#endif
