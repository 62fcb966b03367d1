/* Kinds of messages between nodes. Numbers travel: never reuse one. Bodies are messages of proto/kith/internal/v1. */
#ifndef KITH_TRANSPORT_AM_KINDS_H
#define KITH_TRANSPORT_AM_KINDS_H

typedef enum kith_am_kind {
    KITH_AM_SEARCH = 1, /* ShardSearchRequest */
    KITH_AM_WRITE = 2,  /* ShardWriteRequest */
    KITH_AM_READ = 3,   /* ShardReadRequest: get and scroll */
    KITH_AM_COUNT = 4,  /* ShardCountRequest: live points and statistics */
    /* Of the cluster. */
    KITH_AM_RAFT =
        5, /* coordinator to coordinator: one Raft message (host/meta/raft_wire.h) and its answer */
    KITH_AM_HEARTBEAT = 6, /* node to coordinator: NodeHeartbeat -> NodeHeartbeatReply */
    KITH_AM_MAP_PUSH = 7,  /* leader to node: a kith.meta.v1 MetaSnapshot -> MapReceipt */
    KITH_AM_MAP_PULL =
        8, /* node to coordinator: MapPull -> a MetaSnapshot, or nothing when there is no newer one */
    KITH_AM_META_PROPOSE = 9, /* node to leader: a kith.meta.v1 MetaCommand -> MetaProposeReply */
    KITH_AM_COORDINATOR =
        10, /* any to coordinator: CoordinatorRequest (status, join, leave, transfer) -> CoordinatorReply */
    /* Of replication. */
    KITH_AM_APPEND = 11, /* primary to replica: ShardAppendRequest -> ShardAppendReply */
    KITH_AM_FETCH =
        12, /* replica to primary: ShardFetchRequest, a piece of a shard snapshot -> ShardFetchReply */
    KITH_AM_DIGEST = 13, /* primary to replica: ShardDigestRequest, digests of slots -> ShardDigestReply */
    KITH_AM_KIND_COUNT = 14,
} kith_am_kind;

#endif
