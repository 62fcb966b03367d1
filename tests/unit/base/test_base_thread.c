#include "tests/lib/test_lib.h"

#include <stdatomic.h>

#include "host/base/alloc.h"
#include "host/base/hazard.h"
#include "host/base/thread.h"

#define READERS 4

typedef struct two_locks {
    kith_mutex low;
    kith_mutex high;
} two_locks;

static void locks_init(two_locks *locks) {
    kith_mutex_init(&locks->low, KITH_RANK_API);
    kith_mutex_init(&locks->high, KITH_RANK_LOG);
}

static void take_high_then_low(void *ctx) {
    two_locks *locks = ctx;
    kith_mutex_lock(&locks->high);
    kith_mutex_lock(&locks->low);
}

static void test_base__locks_out_of_rank_end_a_debug_build(void **state) {
    (void)state;
#ifdef KITH_DEBUG
    two_locks locks;
    locks_init(&locks);
    assert_true(test_dies(take_high_then_low, &locks));
    kith_mutex_lock(&locks.low);
    kith_mutex_lock(&locks.high);
    kith_mutex_unlock(&locks.low); /* any order of unlocking is fine */
    kith_mutex_unlock(&locks.high);
    kith_mutex_lock(&locks.low);
    kith_mutex_unlock(&locks.low);
    kith_mutex_fini(&locks.low);
    kith_mutex_fini(&locks.high);
#else
    (void)take_high_then_low;
    (void)locks_init;
    skip();
#endif
}

static void test_base__cond_wait_ends_at_its_timeout(void **state) {
    (void)state;
    kith_mutex lock;
    kith_cond cond;
    kith_mutex_init(&lock, KITH_RANK_API);
    kith_cond_init(&cond);
    kith_mutex_lock(&lock);
    while (kith_cond_wait_for(&cond, &lock, 1000000)) {
    }
    kith_mutex_unlock(&lock);
    kith_cond_fini(&cond);
    kith_mutex_fini(&lock);
}

/* --- hazard pointers --- */

typedef struct object {
    uint64_t a;
    uint64_t b; /* a + 1 while alive */
} object;

static _Atomic(uint32_t) alive_count;

static object *object_make(uint64_t a) {
    object *made = kith_alloc(sizeof *made);
    *made = (object){.a = a, .b = a + 1};
    atomic_fetch_add(&alive_count, 1);
    return made;
}

static void object_destroy(void *pointer) {
    object *dead = pointer;
    dead->b = 0;
    kith_free(dead);
    atomic_fetch_sub(&alive_count, 1);
}

static void test_base__hazard_keeps_what_a_reader_holds(void **state) {
    (void)state;
    kith_hazard_cell *cell = kith_hazard_create(object_make(1), object_destroy);
    uint32_t slot;
    object *held = kith_hazard_acquire(cell, &slot);
    for (uint64_t i = 2; i < 20; i++)
        kith_hazard_publish(cell, object_make(i));
    assert_int_equal(held->b, 2);
    assert_int_equal(atomic_load(&alive_count), 2);
    assert_int_equal(kith_hazard_reclaim(cell), 1);
    kith_hazard_release(cell, slot);
    assert_int_equal(kith_hazard_reclaim(cell), 0);
    assert_int_equal(atomic_load(&alive_count), 1);
    assert_int_equal(((object *)kith_hazard_current(cell))->a, 19);
    kith_hazard_destroy(cell);
    assert_int_equal(atomic_load(&alive_count), 0);
}

static void test_base__hazard_cell_may_be_empty(void **state) {
    (void)state;
    kith_hazard_cell *cell = kith_hazard_create(NULL, object_destroy);
    uint32_t slot;
    assert_null(kith_hazard_acquire(cell, &slot));
    kith_hazard_publish(cell, object_make(5));
    kith_hazard_release(cell, slot);
    kith_hazard_destroy(cell);
    assert_int_equal(atomic_load(&alive_count), 0);
}

typedef struct readers {
    kith_hazard_cell *cell;
    atomic_bool stop;
    _Atomic(uint64_t) wrong_count;
} readers;

static void *reader_main(void *ctx) {
    readers *shared = ctx;
    uint64_t last = 0;
    while (!atomic_load(&shared->stop)) {
        uint32_t slot;
        const object *seen = kith_hazard_acquire(shared->cell, &slot);
        if (seen->b != seen->a + 1 || seen->a < last) atomic_fetch_add(&shared->wrong_count, 1);
        last = seen->a;
        kith_hazard_release(shared->cell, slot);
    }
    return NULL;
}

static void test_base__hazard_readers_never_see_a_freed_object(void **state) {
    (void)state;
    readers shared = {.cell = kith_hazard_create(object_make(1), object_destroy)};
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader_main, &shared), 0);
    for (uint64_t i = 2; i < test_scaled(20000); i++)
        kith_hazard_publish(shared.cell, object_make(i));
    atomic_store(&shared.stop, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&shared.wrong_count), 0);
    kith_hazard_destroy(shared.cell);
    assert_int_equal(atomic_load(&alive_count), 0);
}

static void test_base__hazard_slots_run_out_only_for_a_while(void **state) {
    (void)state;
    kith_hazard_cell *cell = kith_hazard_create(object_make(1), object_destroy);
    uint32_t slots[KITH_HAZARD_SLOTS];
    for (uint32_t i = 0; i < KITH_HAZARD_SLOTS; i++)
        kith_hazard_acquire(cell, &slots[i]);
    for (uint32_t i = 0; i < KITH_HAZARD_SLOTS; i++) {
        kith_hazard_release(cell, slots[i]);
        kith_hazard_acquire(cell, &slots[i]);
    }
    for (uint32_t i = 0; i < KITH_HAZARD_SLOTS; i++)
        kith_hazard_release(cell, slots[i]);
    kith_hazard_destroy(cell);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base__locks_out_of_rank_end_a_debug_build),
        cmocka_unit_test(test_base__cond_wait_ends_at_its_timeout),
        cmocka_unit_test(test_base__hazard_keeps_what_a_reader_holds),
        cmocka_unit_test(test_base__hazard_cell_may_be_empty),
        cmocka_unit_test(test_base__hazard_readers_never_see_a_freed_object),
        cmocka_unit_test(test_base__hazard_slots_run_out_only_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
