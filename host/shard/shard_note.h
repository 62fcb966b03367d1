/* Commit notes: which entries of a node's replicated shards are known to be committed, written to the node's log so that a restart
 * need not wait for the other replicas to apply them. A hint: without a note the same entries wait for the gate
 * (shard_replica.h). At most one note is on its way to the log, and it goes with appends that go anyway.
 *
 * Format of an entry of KITH_LOG_STREAM_NOTES, version 1, little-endian: u32 version, u32 count, [count] {u64 shard id, u64 committed};
 * every entry named is before the note in the log. Its sequence rises by one a note.
 *
 * Threads: the owner executor's, and whoever recovers the node before that; a note's end is the log's.
 * Ownership: create/release; a note on its way holds them. */
#ifndef KITH_SHARD_SHARD_NOTE_H
#define KITH_SHARD_SHARD_NOTE_H

#include "host/store/store_log.h"

typedef struct shard_notes shard_notes;

shard_notes *shard_notes_create(void);
void shard_notes_release(shard_notes *notes); /* accepts NULL */
/* The next note says so. */
void shard_notes_mark(shard_notes *notes, uint64_t shard_id, uint64_t committed);
/* Appends a note where there is something to say and none is on its way. */
void shard_notes_write(shard_notes *notes, kith_store_log *log);
/* Calls `each` for what the note says. CORRUPT when it is not one. */
KITH_CHECK kith_status shard_notes_replay(shard_notes *notes, const kith_log_entry *entry,
    kith_status (*each)(void *ctx, uint64_t shard_id, uint64_t committed, kith_err *err), void *ctx,
    kith_err *err);
/* Recovery is over: what was replayed is not needed any more. */
void shard_notes_replayed(shard_notes *notes, kith_store_log *log);

#endif
