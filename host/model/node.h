/* A node of the cluster, as its metadata knows it. */
#ifndef KITH_MODEL_NODE_H
#define KITH_MODEL_NODE_H

#include "host/base/node_id.h"

#define KITH_NODE_NAME_BYTES_MAX    63u
#define KITH_NODE_ZONE_BYTES_MAX    63u
#define KITH_NODE_ADDRESS_BYTES_MAX 261u /* a host name of 255, a colon, a port */
#define KITH_NODE_WEIGHT_MAX        10000u
#define KITH_NODES_MAX              1024u
#define KITH_REPLICAS_MAX           7u /* of one shard */

/* Numbers travel and are stored: never reuse one. */
typedef enum kith_node_role {
    KITH_NODE_COORDINATOR = 1,
    KITH_NODE_DATA = 2,
    KITH_NODE_QUERY = 3,
    KITH_NODE_STANDALONE = 4,
} kith_node_role;

typedef struct kith_node {
    uint32_t number; /* short for its id in the metadata; from 1, never given twice */
    kith_node_role role;
    kith_node_id id;
    char name[KITH_NODE_NAME_BYTES_MAX + 1];       /* for people: in coverage and logs */
    char address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "host:port" of its transport */
    char grpc_address[KITH_NODE_ADDRESS_BYTES_MAX + 1];
    char http_address[KITH_NODE_ADDRESS_BYTES_MAX + 1]; /* "": it serves no clients */
    char zone[KITH_NODE_ZONE_BYTES_MAX + 1];            /* "": none */
    uint32_t weight;                                    /* share of shards, 100 is usual; 0: none */
    bool draining;                                      /* gets no shards */
    bool down; /* silent for the heartbeat timeout, as the leader decided */
} kith_node;

/* "coordinator", ...; NULL for no role. */
const char *kith_node_role_name(kith_node_role role);

#endif
