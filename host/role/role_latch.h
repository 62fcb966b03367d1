/* Counts things under way so that the main thread can wait for them to end, at start and stop.
 *
 * Threads: any. The lock: the waiter sleeps in no loop that could take a message. */
#ifndef KITH_ROLE_ROLE_LATCH_H
#define KITH_ROLE_ROLE_LATCH_H

#include "host/base/thread.h"

typedef struct kith_role_latch {
    kith_mutex mutex;
    kith_cond zero;
    uint32_t count;
} kith_role_latch;

void kith_role_latch_init(kith_role_latch *latch);
void kith_role_latch_fini(kith_role_latch *latch);
void kith_role_latch_add(kith_role_latch *latch, uint32_t count);
void kith_role_latch_done(kith_role_latch *latch);
void kith_role_latch_wait(kith_role_latch *latch);

#endif
