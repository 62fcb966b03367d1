/* A node of the cluster, as its metadata knows it, and which nodes have which shard.
 *
 * Threads: pure functions. */
#ifndef KITH_MODEL_NODE_H
#define KITH_MODEL_NODE_H

#include "host/base/err.h"
#include "host/base/node_id.h"
#include "host/model/schema.h"

#define KITH_NODE_NAME_BYTES_MAX    63u
#define KITH_NODE_ZONE_BYTES_MAX    63u
#define KITH_NODE_ADDRESS_BYTES_MAX 261u /* a host name of 255, a colon, a port */
#define KITH_NODE_WEIGHT_MAX        10000u
#define KITH_NODES_MAX              1024u
#define KITH_REPLICAS_MAX           7u /* of one shard */
_Static_assert(KITH_REPLICAS_MAX <= 8, "a bit for each fits kith_meta_shard.in_sync");

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
    bool down;               /* silent for the heartbeat timeout, as the leader decided */
    uint64_t up_map_version; /* the map version that its last registration made: it was alive then */
    uint64_t down_wall_ms;   /* since when it is down, by the clock of who decided it; 0: not known */
} kith_node;

/* One shard of a collection. */
typedef struct kith_meta_shard {
    uint64_t epoch;      /* from 1; raised by every change of its primary, its replicas or its in-sync set */
    uint64_t loss_epoch; /* that an operator began by accepting loss: its primary's copy counts; 0: never */
    uint8_t replica_count; /* 0: it is on the one node there is */
    /* Bit i: replicas[i] is in sync, that is, it has every write that was ever acknowledged. Bit 0 is set where there are
     * replicas: the primary is in sync. */
    uint8_t in_sync;
    uint32_t replicas[KITH_REPLICAS_MAX]; /* [replica_count] numbers of nodes, primary first */
} kith_meta_shard;

static inline bool kith_meta_shard_is_on(const kith_meta_shard *shard, uint32_t number) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i] == number) return true;
    }
    return false;
}

typedef struct kith_meta_collection {
    kith_collection collection;
    kith_meta_shard *shards; /* [collection.shard_count] */
} kith_meta_collection;

/* As kith_meta_shard.in_sync says it: all of `replica_count` replicas are. */
static inline uint8_t kith_replicas_all(uint8_t replica_count) {
    return (uint8_t)((1u << replica_count) - 1);
}

/* "coordinator", ...; NULL for no role. */
const char *kith_node_role_name(kith_node_role role);
/* Shards may be put on it. */
static inline bool kith_node_holds_shards(kith_node_role role) {
    return role == KITH_NODE_DATA || role == KITH_NODE_STANDALONE;
}
/* As a UUID in text, e.g. for messages about a node that has no name here. */
#define KITH_NODE_ID_TEXT_BYTES 37u /* with its end */
const char *kith_node_id_text(const kith_node_id *id, char text_out[KITH_NODE_ID_TEXT_BYTES]);
/* "host:port" or "[v6]:port"; `what` is e.g. "grpc_address". */
KITH_CHECK kith_status kith_node_address_check(
    const char *what, const char *address, bool empty_allowed, kith_err *err);
/* What a node says of itself: id, role, name, addresses, zone, weight. */
KITH_CHECK kith_status kith_node_check(const kith_node *node, kith_err *err);

#endif
