/* Random writes over a small set of ids, so that ids come again often, and the comparison of a shard with the
 * oracle.
 *
 * Components are small integers: every sum is exact, so the oracle's scores and the product's must be equal
 * to the last bit, and ties are frequent.
 *
 * Threads: one. */
#ifndef KITH_TESTS_UNIT_SHARD_SHARD_WORKLOAD_H
#define KITH_TESTS_UNIT_SHARD_SHARD_WORKLOAD_H

#include "host/base/rng.h"
#include "tests/lib/oracle.h"
#include "tests/unit/shard/shard_node.h"

typedef struct shard_workload {
    kith_rng rng;
    const kith_schema *schema;
    uint32_t id_count;     /* distinct ids */
    uint32_t points_max;   /* of one op */
    uint64_t next_number;  /* of the next named request */
    double missing_chance; /* that a point lacks a field */
} shard_workload;

/* An op and the memory it borrows. */
typedef struct shard_workload_op {
    kith_op op;
    kith_arena arena;
} shard_workload_op;

kith_id shard_workload_id(shard_workload *workload, kith_arena *arena);
/* About one op in four is a delete, half of all are named. Free with kith_arena_fini of its arena. */
void shard_workload_make(shard_workload *workload, shard_workload_op *made_out);
/* f32 components for a query of the field; never all zero. */
void shard_workload_query(shard_workload *workload, uint32_t field_index, float *query_out);

/* Where shard and oracle differ, in words; true when they do not. Compares counts, every point by scroll and
 * by get, `search_count` random searches, and validates. */
bool shard_workload_compare(shard_workload *workload, shard_node *node, kith_shard *shard,
    const oracle *expected, uint32_t search_count, kith_err *difference);

#endif
