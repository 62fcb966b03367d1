/* What host/meta stores: commands and snapshots of the metadata, as protobuf messages of
 * proto/kith/meta/v1/meta.proto with a version number inside. A golden file per version (tests/golden) must
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
#include "host/model/record.h"
#include "host/model/schema.h"

/* Numbers are stored: never reuse one. */
typedef enum kith_codec_meta_kind {
    KITH_CODEC_META_CREATE_COLLECTION = 1,
    KITH_CODEC_META_DROP_COLLECTION = 2,
} kith_codec_meta_kind;

typedef struct kith_codec_meta_command {
    kith_codec_meta_kind kind;
    kith_request_id request_id; /* all zero: not remembered */
    /* create: id and shard_id_first may be 0, given when it is applied; created_wall_ms is the proposer's
     * clock. drop: `id` (0: whichever has the name) and `name` count, the rest is zero. */
    kith_collection collection;
} kith_codec_meta_command;

typedef struct kith_codec_meta_snapshot {
    uint64_t map_version;        /* raised by every command that changed something */
    uint64_t applied_index;      /* the last command in it */
    uint64_t collection_id_next; /* ids below it are used up */
    uint64_t shard_id_next;
    const kith_collection *collections; /* [collection_count] */
    uint32_t collection_count;          /* 0..KITH_COLLECTIONS_MAX */
} kith_codec_meta_snapshot;

void kith_codec_meta_command_encode(const kith_codec_meta_command *command, kith_buf *buf);
KITH_CHECK kith_status kith_codec_meta_command_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_command *command_out, kith_err *err);
void kith_codec_meta_snapshot_encode(const kith_codec_meta_snapshot *snapshot, kith_buf *buf);
KITH_CHECK kith_status kith_codec_meta_snapshot_decode(
    const void *data, size_t bytes, kith_arena *arena, kith_codec_meta_snapshot *snapshot_out, kith_err *err);

#endif
