#include "host/role/role_latch.h"

#include "host/base/assert.h"

void kith_role_latch_init(kith_role_latch *latch) {
    kith_mutex_init(&latch->mutex, KITH_RANK_SHARD_SET);
    kith_cond_init(&latch->zero);
    latch->count = 0;
}

void kith_role_latch_fini(kith_role_latch *latch) {
    kith_assert(latch->count == 0);
    kith_cond_fini(&latch->zero);
    kith_mutex_fini(&latch->mutex);
}

void kith_role_latch_add(kith_role_latch *latch, uint32_t count) {
    kith_mutex_lock(&latch->mutex);
    latch->count += count;
    kith_mutex_unlock(&latch->mutex);
}

void kith_role_latch_done(kith_role_latch *latch) {
    kith_mutex_lock(&latch->mutex);
    kith_assert(latch->count > 0);
    if (--latch->count == 0) kith_cond_broadcast(&latch->zero);
    kith_mutex_unlock(&latch->mutex);
}

void kith_role_latch_wait(kith_role_latch *latch) {
    kith_mutex_lock(&latch->mutex);
    while (latch->count > 0)
        kith_cond_wait(&latch->zero, &latch->mutex);
    kith_mutex_unlock(&latch->mutex);
}
