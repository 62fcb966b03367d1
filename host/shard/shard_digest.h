/* Digests of a shard's slots, by which replicas compare themselves: as of one applied entry they are equal on equal replicas, however each
 * has cut its rows into segments. The digest of a slot is the sum mod 2^64 of those of its points (kith_shard_digest is the sum over all
 * slots); of a point kith_hash64 of canonical id, sequence, for each field a byte and the vector, payload. It is made of what the store
 * and the segments have now, so that a row or a payload that one of them has lost is seen as a difference, not as a failure.
 *
 * A difference is not mended point by point: which side is right is not to be known from here, and a replica that lost one point may have
 * lost others since. The replica is taken to have failed and gets a copy of the shard (shard_snapshot.h).
 *
 * Threads: start from any; the owner takes the moment only, the rest happens in slices on the background executor, also `point` and `done`. */
#ifndef KITH_SHARD_SHARD_DIGEST_H
#define KITH_SHARD_SHARD_DIGEST_H

#include "host/shard/shard.h"

typedef struct kith_shard_digests kith_shard_digests;
struct kith_shard_digests {
    uint32_t slot_first, slot_count; /* 1 and more, within KITH_SLOTS */
    /* As of this entry exactly: waits until it is applied, which writes that go on do not skip. 0: as of now. */
    uint64_t at_sequence;
    uint64_t deadline_ns;
    uint64_t *digests_out; /* [slot_count], written until `done`; good when it is OK */
    /* Each point of these slots, in id order; borrowed. May be NULL. */
    void (*point)(kith_shard_digests *digests, const kith_id *id, uint64_t sequence, uint64_t digest);
    /* OK: as of `sequence`. NOT_FOUND: `at_sequence` was passed before, `sequence` is applied. DEADLINE, CLOSED, CORRUPT, IO. Never
     * before start has returned. */
    void (*done)(kith_shard_digests *digests, kith_status status, uint64_t sequence, const kith_err *err);
    void *impl[8];
};
void kith_shard_digests_start(kith_shard *shard, kith_shard_digests *digests);
/* On the owner: those that wait for their entry end, CLOSED. */
void kith_shard_digests_cancel(kith_shard *shard);

#endif
