/* Erases dropped shards, many at a time: the store is flushed once for all that wait. What fails is tried again
 * until it succeeds, for the shard will never be opened again, or until the node closes; then the next start finds
 * the leftovers.
 *
 * Threads: add from any; the work and `done` run on the node's background executor. A lock, not a message: those who
 * add are on several executors, and it is held for a push.
 * Ownership: borrows the node; an erasure belongs to the caller again once `done` is called. */
#ifndef KITH_SHARD_SHARD_ERASER_H
#define KITH_SHARD_SHARD_ERASER_H

#include "host/shard/shard.h"

typedef struct shard_eraser shard_eraser;

typedef struct shard_erasure shard_erasure;
struct shard_erasure {
    uint64_t shard_id; /* of a shard that is destroyed or was never opened */
    /* OK, or why nothing more is tried: only after shard_eraser_end. */
    void (*done)(shard_erasure *erasure, kith_status status, const kith_err *err);
    bool keys_gone; /* the eraser's */
    shard_erasure *next;
};

/* At once, for a copy that is going to be installed in its place: the mark of an install comes into the store with the erasure. Waits
 * for the disk. */
KITH_CHECK kith_status shard_erase_marked(kith_shard_node *node, uint64_t shard_id, kith_err *err);

shard_eraser *shard_eraser_create(kith_shard_node *node);
/* The log's entries of the shard are given up at once, so that a store that cannot be written does not keep the
 * log's files too. Exactly one `done`, never before this has returned. */
void shard_eraser_add(shard_eraser *eraser, shard_erasure *erasure);
/* What waits is tried at once, and from here on nothing a second time. */
void shard_eraser_end(shard_eraser *eraser);
/* Nothing may wait any more. Accepts NULL. */
void shard_eraser_destroy(shard_eraser *eraser);

#endif
