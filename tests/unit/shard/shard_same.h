/* One content in segments of every kind: however it is cut, before and after seals, merges and restarts, at every batch
 * size and on every backend, a search must give the same ids and the same scores, bit for bit, and they must be those of
 * the oracle. Failures fail the running test.
 *
 * Threads: one. */
#ifndef KITH_TESTS_UNIT_SHARD_SHARD_SAME_H
#define KITH_TESTS_UNIT_SHARD_SHARD_SAME_H

#include "tests/unit/shard/shard_node.h"

typedef struct shard_same shard_same;

/* Makes the content and the answers: of ref, on one growing segment, compared with the oracle. */
shard_same *shard_same_create(uint64_t seed);
void shard_same_destroy(shard_same *same); /* accepts NULL */

typedef struct shard_same_backend {
    const char *name;
    const kith_compute_ops *compute;
    shard_node_world world;
    uint32_t
        query_count_most; /* of a batch, so that slow ones end; larger ones in one state and field only */
} shard_same_backend;

/* Compares the answers of shards of 1, 2 and 7 segments, in batches of 1, 7, 64 and 1024 queries. */
void shard_same_check(shard_same *same, const shard_same_backend *backend);

#endif
