/* What host/meta stores: commands and snapshots of the metadata, as protobuf messages of
 * proto/kith/meta/v1/meta.proto with a version number inside: the lowest that can say what is to be said. A golden file per version (tests/golden) must
 * be readable for ever.
 *
 * Encoders append to `buf` and cannot fail. Decoders trust no length or count, check limits, names and
 * schemas, and return CORRUPT with the field's name, or UNIMPLEMENTED for a newer version. Decoded structs
 * live in `arena` and borrow nothing of `data`.
 *
 * Threads: pure functions. */
#ifndef KITH_CODEC_CODEC_META_H
#define KITH_CODEC_CODEC_META_H

#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/model/node.h"
#include "host/model/record.h"
#include "host/model/schema.h"

/* Commands whose first answers are remembered. A client that repeats gives up long before as many others came. */
#define KITH_META_ANSWERS_MAX 1024u
/* One that holds all that the limits allow: fields of 4096 collections 20 MiB, answers 6 MiB, nodes 2 MiB. */
#define KITH_META_SNAPSHOT_BYTES_MAX (64u << 20)

/* Numbers are stored: never reuse one. */
typedef enum kith_codec_meta_kind {
    KITH_CODEC_META_CREATE_COLLECTION = 1,
    KITH_CODEC_META_DROP_COLLECTION = 2,
    KITH_CODEC_META_REGISTER_NODE = 3,
    KITH_CODEC_META_NODE_DOWN = 4,
    KITH_CODEC_META_DRAIN_NODE = 5,
    KITH_CODEC_META_REMOVE_NODE = 6,
    KITH_CODEC_META_CHANGE_SHARDS = 7,
    KITH_CODEC_META_UPDATE_COLLECTION = 8,
    KITH_CODEC_META_ACCEPT_LOSS = 9,
} kith_codec_meta_kind;

/* Who has a shard from now on: a compare-and-set on its epoch. Each of a command stands for itself. */
typedef struct kith_codec_meta_shard_change {
    uint64_t shard_id;
    /* `shard.epoch` is the one that is replaced; the new one is one more. Refused unless the primary was in sync before; and unless those that
     * are in sync were, or the primary stays (only it knows who has caught up). */
    kith_meta_shard shard;
} kith_codec_meta_shard_change;
#define KITH_META_SHARD_CHANGES_MAX 1024u /* of one command */

typedef struct kith_codec_meta_command {
    kith_codec_meta_kind kind;
    kith_request_id request_id; /* all zero client: not remembered */
    /* create: id and shard_id_first may be 0, given when it is applied; created_wall_ms is the proposer's
     * clock. drop: `id` (0: whichever has the name) and `name` count, the rest is zero. update: these, and replication_factor,
     * min_in_sync and durability (0: as it is). */
    kith_collection collection;
    /* create: where its shards go, as the leader's placement chose; NULL: on the one node there is. Epochs do
     * not count. [collection.shard_count], at most replication_factor replicas each. */
    const kith_meta_shard *shards;
    /* register: what the node says of itself; draining, down, number and up_map_version do not count.
     * The others: `id` counts; drain: and `draining`. */
    kith_node node;
    const kith_codec_meta_shard_change
        *changes;          /* change_shards: [change_count]; `changed` when any took place */
    uint32_t change_count; /* 1..KITH_META_SHARD_CHANGES_MAX */
    uint64_t
        judged_map_version; /* node_down: of the map that its judge went by; 0: whatever happened since */
    uint64_t down_wall_ms;  /* node_down: when it was judged */
    /* accept_loss: which shard of `collection` (of which id and name count, as in drop) goes by the copy of `node`. */
    uint32_t shard_index;
} kith_codec_meta_command;

/* What a command with a request id was answered. */
typedef struct kith_codec_meta_answer {
    kith_request_id request_id;
    kith_status status;
    bool changed;
    const char *message;               /* "" when OK */
    const kith_collection *collection; /* NULL: none */
} kith_codec_meta_answer;

typedef struct kith_codec_meta_snapshot {
    uint64_t map_version;        /* raised by every command that changed something */
    uint64_t applied_index;      /* the last command in it */
    uint64_t collection_id_next; /* ids below it are used up */
    uint64_t shard_id_next;
    uint32_t node_number_next;
    kith_node_id cluster_id;                        /* none: of no cluster */
    uint32_t node_count;                            /* 0..KITH_NODES_MAX */
    const kith_node *nodes;                         /* [node_count] by rising number */
    const kith_meta_collection *const *collections; /* [collection_count] by name */
    uint32_t collection_count;                      /* 0..KITH_COLLECTIONS_MAX */
    uint32_t answer_count;                          /* 0..KITH_META_ANSWERS_MAX */
    const kith_codec_meta_answer *answers;          /* [answer_count] oldest first */
} kith_codec_meta_snapshot;

void kith_codec_meta_command_encode(const kith_codec_meta_command *command, kith_buf *buf);
KITH_CHECK kith_status kith_codec_meta_command_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_command *command_out, kith_err *err);
void kith_codec_meta_snapshot_encode(const kith_codec_meta_snapshot *snapshot, kith_buf *buf);
KITH_CHECK kith_status kith_codec_meta_snapshot_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_snapshot *snapshot_out, kith_err *err);

/* One collection without its shards' places, as other messages carry it. */
void kith_codec_meta_collection_encode(const kith_collection *collection, kith_buf *buf);
KITH_CHECK kith_status kith_codec_meta_collection_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_collection *collection_out, kith_err *err);

#endif
