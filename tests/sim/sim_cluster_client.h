/* A client of the cluster's metadata, on a machine of its own: proposes to create and to drop collections of a few names,
 * several commands at a time, follows the leader, repeats under one request id what was not answered, gives up some time,
 * and tells the judge all of it.
 *
 * Threads: one, the simulator's. */
#ifndef KITH_TESTS_SIM_SIM_CLUSTER_CLIENT_H
#define KITH_TESTS_SIM_SIM_CLUSTER_CLIENT_H

#include "tests/sim/sim_cluster_check.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

typedef struct sim_client sim_client;

typedef struct sim_client_options {
    kith_env *env; /* of its machine */
    kith_transport_sim_network *network;
    const char *address;             /* its own */
    const char *const *coordinators; /* [coordinator_count] addresses */
    uint32_t coordinator_count;
    sim_check *check;
    uint64_t seed;
    void (*tell)(void *ctx, const char *text); /* the story, line by line; may be NULL */
    void *ctx;
} sim_client_options;

sim_client *sim_client_create(const sim_client_options *options);
/* Begins commands until it is stopped; those under way are carried to their end. */
void sim_client_start(sim_client *client);
void sim_client_stop(sim_client *client);
bool sim_client_is_idle(const sim_client *client);
/* Commands answered OK that were begun at or after `since_ns`. */
uint64_t sim_client_acknowledged_count(const sim_client *client, uint64_t since_ns);
/* Only when it is idle and the world has run on for a second. */
void sim_client_destroy(sim_client *client);

#endif
