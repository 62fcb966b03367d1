/* Who operates a simulated cluster: data nodes are drained and used again, and replication factors changed, while clients write and read.
 * Wishes are repeated until they are acknowledged; a newer one takes the place of an older of the same thing.
 *
 * Threads: one, the simulator's. */
#ifndef KITH_TESTS_SIM_SIM_DATA_OPERATOR_H
#define KITH_TESTS_SIM_SIM_DATA_OPERATOR_H

#include "host/api/api_cluster.h"
#include "tests/sim/sim_data_client.h"
#include "tests/sim/sim_world.h"

typedef struct sim_data_operator sim_data_operator;

/* api and executor: of the client's machine. */
typedef struct sim_data_operator_options {
    kith_env *env;
    kith_api *api;
    kith_executor *executor;
    void (*tell)(void *ctx, const char *text); /* may be NULL */
    void *ctx;
} sim_data_operator_options;

sim_data_operator *sim_data_operator_create(const sim_data_operator_options *options);
/* Only when idle. Accepts NULL. */
void sim_data_operator_destroy(sim_data_operator *operator);
/* The data node of the machine with this number. */
void sim_data_operator_drain(sim_data_operator *operator, uint32_t number, bool draining);
void sim_data_operator_factor(
    sim_data_operator *operator, uint32_t collection, uint32_t replication_factor, uint32_t min_in_sync);
/* As it is wished now. */
bool sim_data_operator_drains(const sim_data_operator *operator, uint32_t number);
/* Wishes that are not carried out yet are given up. */
void sim_data_operator_stop(sim_data_operator *operator);
bool sim_data_operator_is_idle(const sim_data_operator *operator);

#endif
