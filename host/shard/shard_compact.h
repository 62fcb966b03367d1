/* Which sealed segments to merge: a pure decision.
 *
 * Threads: pure. */
#ifndef KITH_SHARD_SHARD_COMPACT_H
#define KITH_SHARD_SHARD_COMPACT_H

#include <stdint.h>

#define SHARD_MERGE_SOURCES_MAX   16u
#define SHARD_MERGE_SOURCES_LEAST 4u
#define SHARD_SEGMENT_ROWS_MAX    (1u << 24) /* of kith_segment_build's output, as of a growing segment */

typedef struct shard_merge_candidate {
    uint64_t bytes; /* of vectors, dead ones too */
    uint32_t row_count;
    uint32_t live_count;
} shard_merge_candidate;

typedef struct shard_merge_limits {
    uint64_t seal_bytes;
    uint32_t seal_rows;
    uint64_t merge_bytes_max; /* live bytes of the output */
} shard_merge_limits;

/* Indices of the segments to merge now, rising; returns how many, 0 for none. */
uint32_t shard_merge_choose(const shard_merge_candidate *candidates, uint32_t candidate_count,
    const shard_merge_limits *limits, uint32_t chosen_out[SHARD_MERGE_SOURCES_MAX]);

#endif
