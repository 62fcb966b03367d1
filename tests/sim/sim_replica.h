/* Histories of one replicated shard: the real step machines (host/replica/replica_step.h) on abstract logs, disks, network, clocks
 * and metadata, from a seed. README.md says what happens and what must hold.
 *
 * Threads: one. */
#ifndef KITH_TESTS_SIM_SIM_REPLICA_H
#define KITH_TESTS_SIM_SIM_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

/* Of the metadata, beyond those of kith_replica_mutant. */
#define SIM_REPLICA_MUTANT_PROMOTE_LAGGARD 22u
#define SIM_REPLICA_MUTANTS                23u

typedef struct sim_replica_options {
    uint64_t seed;
    uint32_t mutant; /* a kith_replica_mutant, or of the metadata */
    bool trace;
} sim_replica_options;

typedef struct sim_replica_outcome {
    bool violated;
    char text[256];
    uint64_t events, writes, acknowledged, reads, answered, epochs, crashes, installs, truncations,
        virtual_ms;
} sim_replica_outcome;

void sim_replica_run(const sim_replica_options *options, sim_replica_outcome *outcome_out);

#endif
