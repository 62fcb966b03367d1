#include "host/base/thread.h"

#include <errno.h>
#include <time.h>

#include "host/base/assert.h"

#define NS_PER_S 1000000000ULL

#ifdef KITH_DEBUG
#define HELD_MAX 16

/* Locks the calling thread holds, in the order taken. */
static _Thread_local struct {
    const kith_mutex *mutexes[HELD_MAX];
    int count;
} held;

static void held_push(const kith_mutex *mutex) {
    kith_assert(held.count < HELD_MAX);
    for (int i = 0; i < held.count; i++)
        kith_assert(held.mutexes[i]->rank < mutex->rank);
    held.mutexes[held.count++] = mutex;
}

static void held_remove(const kith_mutex *mutex) {
    int at = held.count - 1;
    while (at >= 0 && held.mutexes[at] != mutex)
        at--;
    kith_assert(at >= 0);
    held.count--;
    for (int i = at; i < held.count; i++)
        held.mutexes[i] = held.mutexes[i + 1];
}
#else
static void held_push(const kith_mutex *mutex) {
    (void)mutex;
}

static void held_remove(const kith_mutex *mutex) {
    (void)mutex;
}
#endif

/* Every call below fails only when it is misused. */
static void check(int error_number) {
    kith_assert(error_number == 0);
}

void kith_mutex_init(kith_mutex *mutex, kith_lock_rank rank) {
    check(pthread_mutex_init(&mutex->native, NULL));
    mutex->rank = rank;
}

void kith_mutex_fini(kith_mutex *mutex) {
    check(pthread_mutex_destroy(&mutex->native));
}

void kith_mutex_lock(kith_mutex *mutex) {
    held_push(mutex);
    check(pthread_mutex_lock(&mutex->native));
}

void kith_mutex_unlock(kith_mutex *mutex) {
    held_remove(mutex);
    check(pthread_mutex_unlock(&mutex->native));
}

void kith_cond_init(kith_cond *cond) {
    pthread_condattr_t attributes;
    check(pthread_condattr_init(&attributes));
    check(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    check(pthread_cond_init(&cond->native, &attributes));
    check(pthread_condattr_destroy(&attributes));
}

void kith_cond_fini(kith_cond *cond) {
    check(pthread_cond_destroy(&cond->native));
}

void kith_cond_wait(kith_cond *cond, kith_mutex *mutex) {
    check(pthread_cond_wait(&cond->native, &mutex->native));
}

bool kith_cond_wait_for(kith_cond *cond, kith_mutex *mutex, uint64_t timeout_ns) {
    struct timespec at;
    check(clock_gettime(CLOCK_MONOTONIC, &at));
    uint64_t nanoseconds = (uint64_t)at.tv_nsec + timeout_ns % NS_PER_S;
    at.tv_sec += (time_t)(timeout_ns / NS_PER_S + nanoseconds / NS_PER_S);
    at.tv_nsec = (long)(nanoseconds % NS_PER_S);
    int error_number = pthread_cond_timedwait(&cond->native, &mutex->native, &at);
    if (error_number == ETIMEDOUT) return false;
    check(error_number);
    return true;
}

void kith_cond_signal(kith_cond *cond) {
    check(pthread_cond_signal(&cond->native));
}

void kith_cond_broadcast(kith_cond *cond) {
    check(pthread_cond_broadcast(&cond->native));
}
