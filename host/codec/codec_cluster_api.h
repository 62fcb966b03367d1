/* kith.v1.Cluster as structs, for the server, for its clients, and as JSON for both: proto/kith/v1/cluster.proto, whose
 * comments say what each field means.
 *
 * Encoders append to `buf` and cannot fail. Requests that do not decode are INVALID, answers INTERNAL. Decoded structs live
 * in `arena` and borrow nothing of `data`.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_CLUSTER_API_H
#define KITH_CODEC_CODEC_CLUSTER_API_H

#include "host/codec/codec_cluster.h"

/* In heartbeat.shards, of a node: those that the map puts on it. */
typedef struct kith_codec_cluster_status {
    bool standalone;
    uint64_t map_version, term;
    kith_node_id leader_id;
    const char *leader_address;                   /* "": nobody is known to lead */
    const char *problem;                          /* "": the leader has answered */
    const kith_codec_coordinator_member *members; /* [member_count] */
    uint32_t member_count;
    const kith_codec_coordinator_node *nodes; /* [node_count] */
    uint32_t node_count;
    kith_codec_copying copying;
} kith_codec_cluster_status;

typedef struct kith_codec_cluster_replica {
    kith_node_id id; /* none: no node that is known */
    const char *name;
    bool up, in_sync;
} kith_codec_cluster_replica;

typedef struct kith_codec_cluster_shard {
    uint64_t id, epoch;
    uint32_t index;
    uint32_t replica_count;
    const kith_codec_cluster_replica *replicas; /* [replica_count], the primary first */
} kith_codec_cluster_shard;

typedef struct kith_codec_cluster_collection {
    const char *name;
    uint32_t shard_count;
    const kith_codec_cluster_shard *shards; /* [shard_count] */
} kith_codec_cluster_collection;

typedef struct kith_codec_cluster_shards {
    uint64_t map_version;
    uint32_t collection_count;
    const kith_codec_cluster_collection *collections; /* [collection_count] by name */
} kith_codec_cluster_shards;

typedef struct kith_codec_cluster_join {
    kith_node_id id;
    bool joined; /* false: it was one already */
    const kith_codec_coordinator_member *members;
    uint32_t member_count;
} kith_codec_cluster_join;

/* The node of this id among `nodes`; NULL: none. */
const kith_codec_coordinator_node *kith_codec_cluster_node_find(
    const kith_codec_coordinator_node *nodes, uint32_t node_count, const kith_node_id *id);

/* --- requests --- */

/* Every request of the service: `text` is the collection, address or node, "" where it has none. */
typedef struct kith_codec_cluster_request {
    const char *text;
    bool draining;
    uint32_t shard;   /* accept-loss: of the collection */
    const char *node; /* accept-loss */
} kith_codec_cluster_request;
#define KITH_CODEC_CLUSTER_TEXT_BYTES_MAX 512u /* above every name and address */

void kith_codec_cluster_request_encode(const kith_codec_cluster_request *request, kith_buf *buf);
/* `what` the text is, for messages. */
KITH_CHECK kith_status kith_codec_cluster_request_decode(const void *data, size_t bytes, const char *what,
    kith_arena *arena, kith_codec_cluster_request *request_out, kith_err *err);

void kith_codec_cluster_loss_request_encode(const kith_codec_cluster_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_loss_request_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_cluster_request *request_out, kith_err *err);

/* --- answers --- */

void kith_codec_cluster_status_encode(const kith_codec_cluster_status *status, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_status_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_status *status_out, kith_err *err);
void kith_codec_cluster_shards_encode(const kith_codec_cluster_shards *shards, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_shards_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_shards *shards_out, kith_err *err);
void kith_codec_cluster_join_encode(const kith_codec_cluster_join *join, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_join_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_join *join_out, kith_err *err);
/* The answers to leave and drain: a node. */
void kith_codec_cluster_node_encode(const kith_codec_coordinator_node *node, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_node_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_coordinator_node *node_out, kith_err *err);
/* The answer to accept-loss: a shard. */
void kith_codec_cluster_shard_encode(const kith_codec_cluster_shard *shard, kith_buf *buf);
KITH_CHECK kith_status kith_codec_cluster_shard_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_cluster_shard *shard_out, kith_err *err);

/* --- as JSON, with the names of the .proto file; each one object, without a line end (codec_cluster_json.c) --- */

void kith_codec_cluster_status_json(const kith_codec_cluster_status *status, kith_buf *buf);
/* Of a status the map version, the problem and the nodes. */
void kith_codec_cluster_nodes_json(const kith_codec_cluster_status *status, kith_buf *buf);
void kith_codec_cluster_shards_json(const kith_codec_cluster_shards *shards, kith_buf *buf);
void kith_codec_cluster_shard_json(const kith_codec_cluster_shard *shard, kith_buf *buf);
void kith_codec_cluster_join_json(const kith_codec_cluster_join *join, kith_buf *buf);
void kith_codec_cluster_node_json(const kith_codec_coordinator_node *node, kith_buf *buf);

#endif
