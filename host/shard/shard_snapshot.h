/* A copy of a shard, for a replica that lacks too much to be brought up by the log. It is a virtual file that stays the same while it is
 * held: a head (version, schema, the entry it reaches), the sealed segment files that the manifest names, and the shard's range of the
 * store; everything as of one moment, at which the growing segment had been sealed, so that all up to the head's entry is in it.
 *
 * Format, version 1, little-endian: "KITHSNAP", u32 version, u32 CRC-32C of the head, then the head: shard id, epoch, sequence, number of
 * files, per file {u64 segment id, u64 bytes}, u64 bytes of the store part; then the files, then the store part: records {u8 family, u32 key bytes,
 * u64 value bytes, key without the shard id, value}, CRC-32C of the whole part at its end. Files check themselves (segment_file.h).
 *
 * Taking: begin seals what grows, holds segments and a store snapshot, and writes the store part to a temporary file; read gives pieces; end lets go.
 * Installing replaces: the shard is erased first, then written under a mark in the store that makes a start after a crash erase what is there.
 *
 * Threads: begin from any thread, its `done` on the background executor; read and end there. An install belongs to the background executor. */
#ifndef KITH_SHARD_SHARD_SNAPSHOT_H
#define KITH_SHARD_SHARD_SNAPSHOT_H

#include "host/shard/shard.h"

typedef struct kith_shard_snapshot kith_shard_snapshot;

typedef struct kith_shard_snapshot_begin kith_shard_snapshot_begin;
struct kith_shard_snapshot_begin {
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
void kith_shard_snapshot_end(kith_shard_snapshot *snapshot); /* accepts NULL */

typedef struct kith_shard_install kith_shard_install;

/* The shard is closed, and erased first. Pieces come in order of offset; what was written of an install that was cut off by a crash is erased
 * at the next start (kith_shard_install_leftover). */
KITH_CHECK kith_status kith_shard_install_begin(kith_shard_node *node, uint64_t shard_id,
    const kith_schema *schema, kith_shard_install **install_out, kith_err *err);
/* CORRUPT when a piece does not fit the format or the schema. */
KITH_CHECK kith_status kith_shard_install_write(
    kith_shard_install *install, const void *data, size_t bytes, kith_err *err);
/* Everything is there, checked and durable: kith_shard_open finds the shard as the snapshot had it. */
KITH_CHECK kith_status kith_shard_install_finish(
    kith_shard_install *install, uint64_t *epoch_out, uint64_t *sequence_out, kith_err *err);
/* Frees it; before finish what was written is erased. Accepts NULL. */
void kith_shard_install_destroy(kith_shard_install *install);
/* True: an install of the shard was cut off: it is to be erased before it is opened. */
bool kith_shard_install_leftover(kith_shard_node *node, uint64_t shard_id);

#endif
