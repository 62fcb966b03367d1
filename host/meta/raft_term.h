/* Term and vote of a Raft member on disk: what must never go back.
 *
 * File term.kith, 1024 bytes: two slots of 512, one sector each; a slot holds the same 48 bytes twice, at 0 and 256: u64
 * "KITHTERM", u32 version 1, u32 CRC-32C of the rest, u64 number, u64 term, u64 vote, u64 flags; little-endian, the rest
 * zeros. A change goes to the slot with the lower number, with the next number, and is synced: in place, so that a full disk
 * does not keep a member from voting.
 *
 * A write that was cut short leaves the second copy as it was, so a slot always has a good copy, and the numbers of the
 * slots are neighbours. Anything else is damage and CORRUPT: to take the older slot then would be to forget a vote. One
 * damaged copy is no loss.
 *
 * Threads: one at a time. Ownership: opened and closed in place; borrows env. */
#ifndef KITH_META_RAFT_TERM_H
#define KITH_META_RAFT_TERM_H

#include "host/env/env.h"

/* The folder has had a snapshot and a log since: without them it is damaged. */
#define KITH_RAFT_TERM_CONFIGURED 1ULL

typedef struct kith_raft_term {
    uint64_t term;
    uint64_t vote; /* 0: none in this term */
    uint64_t flags;
    /* Private. */
    uint64_t number; /* of the newest slot */
    kith_file *file;
    bool failed; /* what is on the disk is unknown: no more changes */
} kith_raft_term;

/* NOT_FOUND when there is none. */
KITH_CHECK kith_status kith_raft_term_open(
    kith_env *env, const char *dir, kith_raft_term *term_out, kith_err *err);
/* Makes the file, with term 0. */
KITH_CHECK kith_status kith_raft_term_create(kith_env *env, const char *dir, kith_err *err);
/* On disk when it returns OK. Fields change only then. */
KITH_CHECK kith_status kith_raft_term_write(
    kith_raft_term *term, uint64_t value, uint64_t vote, uint64_t flags, kith_err *err);
void kith_raft_term_close(kith_raft_term *term);

#endif
