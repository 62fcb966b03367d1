/* One shard on one node, its workload and its oracle. Failures fail the running test.
 *
 * Threads: one. */
#ifndef KITH_TESTS_UNIT_SHARD_SHARD_FIXTURE_H
#define KITH_TESTS_UNIT_SHARD_SHARD_FIXTURE_H

#include "tests/unit/shard/shard_workload.h"

typedef struct fixture {
    shard_node node;
    shard_node_shard shard;
    shard_workload workload;
    oracle *oracle;
    kith_shard *held; /* NULL while closed */
} fixture;

/* Small segments, so that seals and merges are frequent. */
shard_node_options fixture_options(shard_node_world world);
void fixture_begin(fixture *run, shard_node_options options, const kith_schema *schema);
/* As one replica, behind `gate`. */
void fixture_begin_gated(
    fixture *run, shard_node_options options, const kith_schema *schema, const kith_shard_gate *gate);
void fixture_open(fixture *run);
void fixture_close(fixture *run);
void fixture_end(fixture *run);
/* One random op, which must succeed, into shard and oracle. */
void fixture_write(fixture *run);
void fixture_compare(fixture *run, uint32_t search_count);

#endif
