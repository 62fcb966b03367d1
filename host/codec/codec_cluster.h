/* Messages of the cluster as structs: proto/kith/internal/v1/cluster.proto, whose comments say what each field means.
 *
 * Encoders append to `buf` and cannot fail. Decoders trust no length or count, check every limit, and return INTERNAL with
 * the field's name. Decoded structs live in `arena` and borrow nothing of `data`.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_CLUSTER_H
#define KITH_CODEC_CODEC_CLUSTER_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/err.h"
#include "host/model/node.h"
#include "host/model/schema.h"

/* A replica of the node that is not in sync, and has come no nearer to it for so long. */
typedef struct kith_codec_stalled {
    uint64_t shard_id, for_ms;
} kith_codec_stalled;
#define KITH_CODEC_STALLED_MAX 16u /* in one heartbeat; the others wait for their turn */

typedef struct kith_codec_heartbeat {
    kith_node node; /* number, draining and down do not travel */
    uint64_t started_wall_ms;
    uint64_t map_version;
    uint64_t points, shards, vector_bytes, disk_free_bytes;
    const char *health; /* "ok", or what is wrong; at most KITH_ERR_BYTES_MAX - 1 bytes */
    uint32_t stalled_count;
    const kith_codec_stalled *stalled; /* [stalled_count], 0..KITH_CODEC_STALLED_MAX */
} kith_codec_heartbeat;
void kith_codec_heartbeat_encode(const kith_codec_heartbeat *heartbeat, kith_buf *buf);
KITH_CHECK kith_status kith_codec_heartbeat_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_heartbeat *heartbeat_out, kith_err *err);

typedef struct kith_codec_heartbeat_reply {
    bool leader;
    uint64_t term;
    kith_node_id leader_id;     /* none: nobody is known to lead */
    const char *leader_address; /* "" then */
    uint64_t map_version;
    const char *const *coordinator_addresses; /* [coordinator_count] */
    uint32_t coordinator_count;               /* 0..KITH_COORDINATORS_MAX */
} kith_codec_heartbeat_reply;
#define KITH_COORDINATORS_MAX 9u
void kith_codec_heartbeat_reply_encode(const kith_codec_heartbeat_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_heartbeat_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_heartbeat_reply *reply_out, kith_err *err);

/* MapReceipt and MapPull: one number each. */
void kith_codec_map_version_encode(uint64_t map_version, kith_buf *buf);
KITH_CHECK kith_status kith_codec_map_version_decode(
    const void *data, size_t bytes, uint64_t *map_version_out, kith_err *err);

typedef struct kith_codec_propose_reply {
    kith_status status;
    const char *message;
    bool changed;
    uint64_t map_version;
    const kith_collection *collection; /* NULL: none */
} kith_codec_propose_reply;
void kith_codec_propose_reply_encode(const kith_codec_propose_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_propose_reply_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_propose_reply *reply_out, kith_err *err);

typedef enum kith_codec_coordinator_kind {
    KITH_CODEC_COORDINATOR_STATUS = 1,
    KITH_CODEC_COORDINATOR_JOIN = 2,
    KITH_CODEC_COORDINATOR_LEAVE = 3,
    KITH_CODEC_COORDINATOR_TRANSFER = 4,
} kith_codec_coordinator_kind;
typedef struct kith_codec_coordinator_request {
    kith_codec_coordinator_kind kind;
    kith_node_id node_id;
    const char *address; /* "" but for join */
} kith_codec_coordinator_request;
void kith_codec_coordinator_request_encode(const kith_codec_coordinator_request *request, kith_buf *buf);
KITH_CHECK kith_status kith_codec_coordinator_request_decode(const void *data, size_t bytes,
    kith_arena *arena, kith_codec_coordinator_request *request_out, kith_err *err);

typedef struct kith_codec_coordinator_member {
    kith_node_id id;
    const char *address;
    bool voter, leader;
} kith_codec_coordinator_member;
typedef struct kith_codec_coordinator_node {
    kith_codec_heartbeat heartbeat; /* node.draining and node.down are set */
    uint64_t silent_ms;
} kith_codec_coordinator_node;
/* What is left to do until every shard has its copies where they should be (cluster.proto). */
typedef struct kith_codec_copying {
    uint32_t behind, moving, waiting, short_count;
} kith_codec_copying;
typedef struct kith_codec_coordinator_reply {
    kith_node_id self_id; /* who answers */
    bool fresh;           /* it is of no cluster yet */
    uint64_t term, map_version, applied_index;
    kith_node_id leader_id;
    const char *leader_address;
    const kith_codec_coordinator_member *members; /* [member_count] */
    uint32_t member_count;                        /* 0..KITH_COORDINATORS_MAX */
    const kith_codec_coordinator_node *nodes;     /* [node_count] */
    uint32_t node_count;                          /* 0..KITH_NODES_MAX */
    kith_codec_copying copying;                   /* the leader's; zero elsewhere */
} kith_codec_coordinator_reply;
void kith_codec_coordinator_reply_encode(const kith_codec_coordinator_reply *reply, kith_buf *buf);
KITH_CHECK kith_status kith_codec_coordinator_reply_decode(const void *data, size_t bytes, kith_arena *arena,
    kith_codec_coordinator_reply *reply_out, kith_err *err);

#endif
