/* The metadata as a replicated log sees it: bytes in, bytes out. Decodes commands for meta_state and makes snapshots of
 * it.
 *
 * Threads: one at a time (meta's executor). */
#ifndef KITH_META_META_FSM_H
#define KITH_META_META_FSM_H

#include "host/meta/meta_state.h"

typedef struct kith_meta_fsm {
    kith_meta_state state;
    kith_arena arena;        /* scratch of one apply */
    kith_meta_result result; /* of the last apply */
} kith_meta_fsm;

void kith_meta_fsm_init(kith_meta_fsm *fsm);
void kith_meta_fsm_fini(kith_meta_fsm *fsm);
/* Applies the committed command at `index`; its result is in fsm->result. Fails (CORRUPT, UNIMPLEMENTED) only on bytes
 * that are no command of this version: this node must not go on. */
KITH_CHECK kith_status kith_meta_fsm_apply(
    kith_meta_fsm *fsm, uint64_t index, const void *bytes, size_t byte_count, kith_err *err);
void kith_meta_fsm_snapshot(const kith_meta_fsm *fsm, kith_buf *buf);
/* What nodes are told as the map: a snapshot without the answers that only coordinators need. Restored as one. */
void kith_meta_fsm_map(const kith_meta_fsm *fsm, kith_buf *buf);
KITH_CHECK kith_status kith_meta_fsm_restore(
    kith_meta_fsm *fsm, const void *bytes, size_t byte_count, kith_err *err);

#endif
