/* What a node has of shards that it does not have: a crash left it while they were dropped.
 *
 * Threads: any, one at a time; they read the disk. */
#ifndef KITH_SHARD_SHARD_LEFTOVER_H
#define KITH_SHARD_SHARD_LEFTOVER_H

#include "host/base/map.h"
#include "host/shard/shard.h"

/* Shards of which the store or the folder of segments has something, by rising id, but for those that are `known`. To be freed
 * with kith_free. */
KITH_CHECK kith_status kith_shard_leftovers(kith_shard_node *node,
    bool (*known)(void *ctx, uint64_t shard_id), void *ctx, uint64_t **shard_ids_out, uint32_t *count_out,
    kith_err *err);
/* The log may keep entries of dropped shards for as long as its files retain anything: nobody waits for them. streams: ids of
 * the shards that it had entries of when it was opened; `forget`: those that are not known leave it. */
void kith_shard_streams_drop(kith_shard_node *node, kith_map *streams, bool forget,
    bool (*known)(void *ctx, uint64_t shard_id), void *ctx);

#endif
