/* What replication needs of a shard. A shard with a gate is one replica of several: writes ask the gate before they begin, and
 * entries are applied when they are committed, not when they are durable. The bytes and the order are the shard's, the decisions are
 * the gate's (host/replica).
 *
 * Entries of the log behind the committed one may be cut off again. So recovery applies only what is known to be committed: what
 * is sealed or stored, and what a commit note in the log reaches (shard_note.h); the rest waits, in memory, for the gate to say
 * so. An entry of zero bytes begins an epoch and changes nothing.
 *
 * Epoch 1 is that of entries written without a gate: they were acknowledged when they were durable, so they are committed. A gate's
 * epochs are greater.
 *
 * In the log of a node, a later entry of a stream supersedes every earlier one with the same or a greater sequence.
 *
 * Threads: the owner executor's, except where it says so. */
#ifndef KITH_SHARD_SHARD_REPLICA_H
#define KITH_SHARD_SHARD_REPLICA_H

#include "host/shard/shard.h"

typedef struct kith_shard_gate {
    void *ctx;
    /* A write of `bytes` wants to be the next entry. OK: it is appended as *epoch_out, *sequence_out (the log's end + 1). Otherwise
     * it is answered with what is returned, and nothing was done. */
    kith_status (*admit)(void *ctx, size_t bytes, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err);
    /* An admitted write is in the pending tail, its bytes there for kith_shard_entry: it may be sent. */
    void (*appended)(void *ctx, uint64_t sequence);
    /* Every entry up to `sequence` is durable here. */
    void (*durable)(void *ctx, uint64_t sequence);
    /* Every entry up to `sequence` is applied and visible to searches that begin now. */
    void (*applied)(void *ctx, uint64_t sequence);
    /* The shard has stopped (kith_shard_health). */
    void (*failed)(void *ctx);
    /* A segment was sealed: kith_shard_is_full, which `applied` may end too. May be NULL. */
    void (*relieved)(void *ctx);
} kith_shard_gate;

/* Between open and start: the shard is a replica. `gate` borrowed until the shard is closed. */
void kith_shard_gate_set(kith_shard *shard, const kith_shard_gate *gate);

/* The log of the shard, as kith_replica_log wants it. */
typedef struct kith_shard_log_state {
    uint64_t
        first; /* oldest entry whose bytes kith_shard_entry or kith_store_log_read can still give; end + 1: none */
    uint64_t end_epoch, end_sequence;
    uint64_t applied;
    uint32_t epoch_count;
    const uint64_t *epochs;    /* [epoch_count] rising, of entries from `first` on */
    const uint64_t *sequences; /* [epoch_count] first entry of each */
} kith_shard_log_state;
void kith_shard_log_state_read(
    const kith_shard *shard, kith_shard_log_state *state_out); /* borrowed until the next change */

/* More entries would only fill this node's memory: what is applied waits to be sealed, or what is committed to be applied. Neither needs another
 * message to go on. */
bool kith_shard_is_full(const kith_shard *shard);
/* A follower's entries, which follow the log's end; `data` is copied. Their `durable` comes through the gate. */
void kith_shard_append(kith_shard *shard, const kith_log_entry *entries, uint32_t count);
/* Drops the pending entries from `sequence` on (all behind the committed one). Their writers, if there are any, are answered
 * UNKNOWN_OUTCOME. */
void kith_shard_truncate(kith_shard *shard, uint64_t sequence);
/* Appends the entry that begins `epoch`, behind the log's end. */
void kith_shard_epoch_start(kith_shard *shard, uint64_t epoch);
/* Every entry up to `sequence` is committed: applied, in order, as soon as it is also durable here. */
void kith_shard_commit(kith_shard *shard, uint64_t sequence);
/* Answers the writers of upserts that are committed, though they are not applied yet. A delete's answer says how many points were there: it
 * waits. */
void kith_shard_answer_committed(kith_shard *shard);
/* The log takes what it is given: everything up to the end of the shard's is in its hands, or was given to it before. False: entries wait, in
 * memory, until there is room on the disk, or for ever. */
bool kith_shard_log_takes(const kith_shard *shard);
/* Bytes of an entry that waits to be applied, or of one of the last applied that are still in memory; borrowed until this task ends.
 * False: read it from the log files (kith_store_log_read). */
bool kith_shard_entry(const kith_shard *shard, uint64_t sequence, kith_log_entry *entry_out);

#endif
