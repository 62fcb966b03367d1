/* What a client may ask about the cluster, and of it: proto/kith/v1/cluster.proto, whatever the protocol. A node whose
 * metadata is kept here is a cluster of one, which nothing joins.
 *
 * Threads and ownership: as api.h says. */
#ifndef KITH_API_API_CLUSTER_H
#define KITH_API_API_CLUSTER_H

#include "host/api/api.h"
#include "host/codec/codec_cluster_api.h"

typedef struct kith_api_cluster_answer {
    const kith_codec_cluster_status *status; /* of status */
    const kith_codec_cluster_shards *shards; /* of shards */
    const kith_codec_cluster_join *join;     /* of join */
    const kith_codec_coordinator_node *node; /* of leave: who is gone; of drain: as it is now */
    const kith_codec_cluster_shard *shard;   /* of accept-loss: as it is now */
} kith_api_cluster_answer;

typedef struct kith_api_cluster_call kith_api_cluster_call;
struct kith_api_cluster_call {
    kith_api_call call;
    /* shards: a collection, "" for all; accept-loss: a collection; join: host:port; leave, drain: a node by id, beginning of an id, or name. Unchecked. */
    const char *text;
    bool draining;    /* drain */
    uint32_t shard;   /* accept-loss: index in the collection. Unchecked. */
    const char *node; /* accept-loss: as for leave */
    void (*done)(kith_api_cluster_call *call, kith_status status, const kith_api_cluster_answer *answer,
        const kith_err *err);
};
/* OK also where no coordinator leads: what this node knows, and the problem. */
KITH_CHECK kith_status kith_api_cluster_status(kith_api *api, kith_api_cluster_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_cluster_shards(kith_api *api, kith_api_cluster_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_cluster_join(kith_api *api, kith_api_cluster_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_cluster_leave(kith_api *api, kith_api_cluster_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_cluster_drain(kith_api *api, kith_api_cluster_call *call, kith_err *err);
KITH_CHECK kith_status kith_api_cluster_accept_loss(
    kith_api *api, kith_api_cluster_call *call, kith_err *err);

#endif
