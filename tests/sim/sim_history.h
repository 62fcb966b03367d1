/* One history of a simulated node: random writes, seals, time and restarts on one to three shards, one fault,
 * recovery, and the judgement of all that was answered by a model that shares no code with the product.
 *
 * Threads: one. A history is a function of its options: the same options give the same history. */
#ifndef KITH_TESTS_SIM_SIM_HISTORY_H
#define KITH_TESTS_SIM_SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/sim_env.h"

typedef enum sim_fault_kind {
    SIM_FAULT_NONE,
    SIM_FAULT_CRASH_AT_FILE_OP, /* `at`: number of the file operation */
    SIM_FAULT_CRASH_AT_FLUSH,   /* `at`: number of the store's flush */
    SIM_FAULT_FLIP,             /* a bit on the disk, while the node is down after step `at` */
    SIM_FAULT_NO_SPACE,         /* the disk is full from step `at` on for some steps */
    SIM_FAULT_FAIL,             /* a file operation of kind `fail` fails at step `at` */
} sim_fault_kind;

typedef struct sim_history_options {
    uint64_t seed;
    uint32_t step_count;
    bool trace;
    sim_fault_kind fault;
    uint64_t at;
    sim_crash_mode crash_mode;
    bool crash_again; /* and once more, some operations into the recovery */
    sim_fail_kind fail;
} sim_history_options;

typedef struct sim_outcome {
    bool violated;
    bool reported;              /* a flipped bit was reported as CORRUPT */
    char text[600];             /* of the violation */
    uint64_t file_ops, flushes; /* of the whole history */
    uint64_t writes, seals, merges, restarts;
} sim_outcome;

void sim_history_run(const sim_history_options *options, sim_outcome *outcome_out);
const char *sim_fault_name(sim_fault_kind kind);

#endif
