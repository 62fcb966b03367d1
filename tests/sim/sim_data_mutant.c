/* Wrong variants of the replication protocol, in a program that has its step machine with them in it. */
#include "host/replica/replica_step_internal.h"
#include "tests/sim/sim_data.h"

bool sim_data_mutant_set(uint32_t mutant) {
    if (mutant >= KITH_REPLICA_MUTANT_STEP_COUNT) return false;
    kith_replica_mutant_active = (kith_replica_mutant)mutant;
    return true;
}
