/* The newest snapshot of a Raft member: metadata and membership as of an index, one file.
 *
 * File raft-snapshot.kith: "KITHRAFT", u32 version 1, u32 CRC-32C of the rest, u64 index, u64 term, u64 index of the
 * configuration, u64 bytes of the configuration, u64 bytes of the data, configuration (as libraft encodes it), data.
 * Little-endian. Written beside, synced and renamed, so a crash leaves the old or the new one.
 *
 * Threads: any, one at a time for writes. */
#ifndef KITH_META_RAFT_SNAPSHOT_H
#define KITH_META_RAFT_SNAPSHOT_H

#include "host/base/buf.h"
#include "host/env/env.h"

typedef struct kith_raft_snapshot {
    uint64_t index; /* of the last entry that is in it */
    uint64_t term;  /* of that entry */
    uint64_t configuration_index;
    const void *configuration;
    size_t configuration_bytes;
    const void *data;
    size_t data_bytes;
    kith_buf buf; /* what a read one points into; empty in one to be written */
} kith_raft_snapshot;

KITH_CHECK kith_status kith_raft_snapshot_write(
    kith_env *env, const char *dir, const kith_raft_snapshot *snapshot, kith_err *err);
/* NOT_FOUND when there is none. On success kith_raft_snapshot_fini. */
KITH_CHECK kith_status kith_raft_snapshot_read(
    kith_env *env, const char *dir, kith_raft_snapshot *snapshot_out, kith_err *err);
void kith_raft_snapshot_fini(kith_raft_snapshot *snapshot);

#endif
