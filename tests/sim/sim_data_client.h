/* Clients of a simulated cluster's data, on one machine: a query node's own stack (host/api over host/query, the map, heartbeats)
 * and some clients of it at a time, each with one request: they write and delete points of a few collections, read
 * them by id and by search, repeat under one request id what was not answered, give up some time, and tell the judge all of it.
 *
 * Life: create -> prepare -> (is_ready) -> start -> stop -> (is_idle) -> audit -> (is_idle) -> destroy.
 * Threads: one, the simulator's. */
#ifndef KITH_TESTS_SIM_SIM_DATA_CLIENT_H
#define KITH_TESTS_SIM_SIM_DATA_CLIENT_H

#include "tests/sim/sim_data_check.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define SIM_DATA_COLLECTIONS_MAX 2u
#define SIM_DATA_POINTS_MAX      64u

typedef struct sim_data_client sim_data_client;

typedef struct sim_data_client_options {
    kith_env *env; /* of its machine */
    kith_transport_sim_network *network;
    const char *address;             /* its own */
    const char *const *coordinators; /* [coordinator_count] addresses */
    uint32_t coordinator_count;
    uint32_t collection_count, point_count; /* points of each */
    uint32_t shard_counts[SIM_DATA_COLLECTIONS_MAX];
    uint32_t dim;
    uint32_t replication_factor, min_in_sync;
    kith_durability durability;
    sim_data_check *check;
    uint64_t seed;
    void (*tell)(void *ctx, const char *text); /* the story, line by line; may be NULL */
    void *ctx;
} sim_data_client_options;

sim_data_client *sim_data_client_create(const sim_data_client_options *options);
/* Creates the collections. */
void sim_data_client_prepare(sim_data_client *client);
bool sim_data_client_is_ready(const sim_data_client *client);
/* Requests until it is stopped; those under way are carried to their end. */
void sim_data_client_start(sim_data_client *client);
void sim_data_client_stop(sim_data_client *client);
bool sim_data_client_is_idle(const sim_data_client *client);
/* A write to each shard, and a search of each collection that missed no shard, were begun at or after `since_ns` and answered. */
bool sim_data_client_is_served(const sim_data_client *client, uint64_t since_ns);
/* Reads everything in every way, while nothing is written, and compares: pages, ids, counts, searches. */
void sim_data_client_audit(sim_data_client *client);
/* What an answer itself is wrong about; NULL: nothing. */
const char *sim_data_client_violation(const sim_data_client *client);
/* Ends heartbeats and the map; then, when it is idle, time must pass before destroy. */
void sim_data_client_disconnect(sim_data_client *client);
void sim_data_client_destroy(sim_data_client *client);

/* Of its machine, for who operates the cluster. */
struct kith_api *sim_data_client_api(const sim_data_client *client);
kith_executor *sim_data_client_executor(const sim_data_client *client);

/* An answer was CORRUPT; NULL: none was. */
const char *sim_data_client_corruption(const sim_data_client *client);
uint64_t sim_data_client_request_count(const sim_data_client *client);
uint64_t sim_data_client_failure_count(const sim_data_client *client);

#endif
