/* A copy of a shard, for a replica that lacks too much to be brought up by the log. It is a virtual file that stays the same while it is
 * held, whatever becomes of the shard: a head, segment files, and the shard's range of the store; everything as of one applied entry.
 *
 * Format, version 1, little-endian: "KITHSNAP", u32 version, u32 bytes of the body, the body, u32 CRC-32C of all before. Body: u64 shard id,
 * u64 epoch and u64 sequence of the entry, u64 bytes of the store part, u32 number of files, u32 0, per file {u64 segment id, u64 bytes}. Then
 * the files, which check themselves (segment_file.h). Then the store part: records {u8 family, u32 key bytes, u64 value bytes, key without the
 * shard id, value}, the family META before POINTS, keys rising, without the manifest, which follows from the head; CRC-32C of the records at its
 * end.
 *
 * Taking: the owner takes the moment only, the view and a snapshot of the store, as a read does. What is not sealed of the view is written to
 * segment files of the copy's own on the background executor, the store's range to a file. So it needs no seal, and writes go on. All its files
 * are nameless: open and already removed, so that nothing is left behind and neither merges nor drops reach them. It holds as many descriptors
 * as it has segments. They leave the disk its reserve: writes would be refused below it, and this may be the last good replica; where
 * it is used already, half of it.
 *
 * Installing replaces: the shard is erased first, then written under a mark in the store (the store part as one load, store.h), which goes in
 * the same batch in which the manifest comes. A shard with the mark opens as one that is CORRUPT, so that after a crash it is either the whole copy or waits for the
 * next one. Every point is compared with its row before that.
 *
 * Threads: begin from any thread, its `done` on the background executor; reads there, also several at once, then one end. An install belongs to the
 * background executor; its calls wait for the disk. */
#ifndef KITH_SHARD_SHARD_SNAPSHOT_H
#define KITH_SHARD_SHARD_SNAPSHOT_H

#include "host/shard/shard.h"

typedef struct kith_shard_snapshot kith_shard_snapshot;

typedef struct kith_shard_snapshot_begin kith_shard_snapshot_begin;
struct kith_shard_snapshot_begin {
    /* OK: `snapshot` is the caller's. CLOSED: the shard closes, or began to meanwhile. NO_SPACE: its files would not leave the disk's
     * reserve; those begun are gone. */
    void (*done)(kith_shard_snapshot_begin *begin, kith_status status, kith_shard_snapshot *snapshot,
        const kith_err *err);
    void *impl[8];
};
void kith_shard_snapshot_begin_start(kith_shard *shard, kith_shard_snapshot_begin *begin);
/* The last entry that is in it, and the length of the virtual file. */
void kith_shard_snapshot_describe(
    const kith_shard_snapshot *snapshot, uint64_t *epoch_out, uint64_t *sequence_out, uint64_t *bytes_out);
/* Reads [offset, offset + bytes) of it, fewer at its end. */
KITH_CHECK kith_status kith_shard_snapshot_read(kith_shard_snapshot *snapshot, uint64_t offset,
    void *data_out, size_t bytes, size_t *read_out, kith_err *err);
void kith_shard_snapshot_end(kith_shard_snapshot *snapshot); /* before its env; accepts NULL */

typedef struct kith_shard_install kith_shard_install;

/* The shard is not open, and erased first; the log's entries of it are given up. Later entries of the log that follow the copy's last one
 * are still replayed over it at a restart. */
KITH_CHECK kith_status kith_shard_install_begin(kith_shard_node *node, uint64_t shard_id,
    const kith_schema *schema, kith_shard_install **install_out, kith_err *err);
/* The bytes of the virtual file in their order, in pieces of any length. CORRUPT when they do not fit the format or the schema, NO_SPACE when
 * they would not leave the disk's reserve; after a failure only destroy is left. */
KITH_CHECK kith_status kith_shard_install_write(
    kith_shard_install *install, const void *data, size_t bytes, kith_err *err);
/* Bytes taken so far: where an interrupted transfer goes on. */
uint64_t kith_shard_install_offset(const kith_shard_install *install);
/* Everything is there, checked and durable: kith_shard_open finds the shard as the snapshot had it. CORRUPT: it is not. */
KITH_CHECK kith_status kith_shard_install_finish(
    kith_shard_install *install, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err);
/* Frees it; before a good finish what was written is erased and the mark stays: the shard opens as CORRUPT until an install ends well, or until it
 * is dropped (kith_shard_set_drop). Accepts NULL. */
void kith_shard_install_destroy(kith_shard_install *install);

#endif
