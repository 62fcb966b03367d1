/* What a search reads: an immutable list of segments, how many of their rows are visible, and which of those
 * are dead.
 *
 * Threads: immutable once published; references are counted from any thread. A reader takes its reference
 * under the hazard cell, for a few instructions: a search may hold a view as long as it likes, with no limit
 * on how many do. */
#ifndef KITH_SHARD_SHARD_VIEW_H
#define KITH_SHARD_SHARD_VIEW_H

#include <stdatomic.h>

#include "host/base/hazard.h"
#include "host/index/index.h"

/* Dead bits of one segment, shared by the views that have the same. */
typedef struct shard_dead {
    _Atomic uint32_t references;
    uint32_t word_count;
    uint64_t words[];
} shard_dead;

/* All zero when `from` is NULL, else a copy of it. `bit_count` of `from` must be the same. */
shard_dead *shard_dead_create(const shard_dead *from, uint32_t bit_count);
shard_dead *shard_dead_acquire(shard_dead *dead); /* accepts NULL */
void shard_dead_release(shard_dead *dead);        /* accepts NULL */

typedef struct shard_view_part {
    kith_segment *segment;
    shard_dead *dead; /* or NULL */
    uint32_t row_count;
    uint32_t live_count;
} shard_view_part;

typedef struct shard_view {
    _Atomic uint32_t references;
    uint32_t part_count;
    uint64_t applied_sequence;
    uint64_t live_count;
    uint64_t row_count;
    uint64_t vector_bytes;
    shard_view_part parts[];
} shard_view;

shard_view *shard_view_create(uint32_t part_capacity);
/* Takes a reference to segment and dead bits. */
void shard_view_add(
    shard_view *view, kith_segment *segment, shard_dead *dead, uint32_t row_count, uint32_t dead_count);
shard_view *shard_view_acquire(kith_hazard_cell *cell);
/* One more reference, for who has one. */
shard_view *shard_view_hold(shard_view *view);
void shard_view_release(shard_view *view);
/* For kith_hazard_create: drops the cell's reference. */
void shard_view_destroy_cell(void *view);

#endif
