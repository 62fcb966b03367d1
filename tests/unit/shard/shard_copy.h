/* Copies of shards between nodes of tests: taken, carried over in pieces, installed.
 *
 * Threads: one. */
#ifndef KITH_TESTS_UNIT_SHARD_SHARD_COPY_H
#define KITH_TESTS_UNIT_SHARD_SHARD_COPY_H

#include "host/base/rng.h"
#include "host/shard/shard_snapshot.h"
#include "tests/unit/shard/shard_node.h"

kith_status shard_copy_take(
    shard_node *node, kith_shard *shard, kith_shard_snapshot **snapshot_out, kith_err *err);
/* The virtual file, read in pieces of random length. */
void shard_copy_read(kith_shard_snapshot *snapshot, kith_rng *rng, kith_buf *bytes_out);
/* Begin, write in pieces of random length, finish, destroy. The shard is not open. */
kith_status shard_copy_install(
    shard_node *node, const shard_node_shard *shard, const kith_buf *bytes, kith_rng *rng, kith_err *err);
/* Opens and starts the shard on a node that runs. */
kith_shard *shard_copy_open(shard_node *node, const shard_node_shard *shard);

#endif
