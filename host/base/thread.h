/* Mutexes with a rank, and condition variables. Locks are taken in rising rank only; debug builds check it
 * per thread. A lock needs a comment saying why a message would not do. Threads themselves come from env.h
 * alone.
 *
 * A lock is never held across a callback, a disk or network call, or a kernel wait. */
#ifndef KITH_BASE_THREAD_H
#define KITH_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Lower is taken first. Add a rank where a new lock needs one; never share one between two locks held
 * together. */
typedef enum kith_lock_rank {
    KITH_RANK_API = 10,
    KITH_RANK_META = 20,
    KITH_RANK_QUERY = 30,
    KITH_RANK_TRANSPORT = 40,
    KITH_RANK_REPLICA = 45,
    KITH_RANK_SHARD_SET = 50,
    KITH_RANK_SHARD = 60,
    KITH_RANK_STORE = 70,
    KITH_RANK_LOG_FILES = 80,
    KITH_RANK_TIMER = 85,
    KITH_RANK_EXECUTOR = 90,
    KITH_RANK_CUDA = 95,
    KITH_RANK_METRICS = 100,
    KITH_RANK_LOG = 110,
} kith_lock_rank;

typedef struct kith_mutex {
    pthread_mutex_t native;
    kith_lock_rank rank;
} kith_mutex;

typedef struct kith_cond {
    pthread_cond_t native; /* on CLOCK_MONOTONIC */
} kith_cond;

void kith_mutex_init(kith_mutex *mutex, kith_lock_rank rank);
void kith_mutex_fini(kith_mutex *mutex);
void kith_mutex_lock(kith_mutex *mutex);
void kith_mutex_unlock(kith_mutex *mutex);

void kith_cond_init(kith_cond *cond);
void kith_cond_fini(kith_cond *cond);
void kith_cond_wait(kith_cond *cond, kith_mutex *mutex);
/* False when `timeout_ns` passed first. */
bool kith_cond_wait_for(kith_cond *cond, kith_mutex *mutex, uint64_t timeout_ns);
void kith_cond_signal(kith_cond *cond);
void kith_cond_broadcast(kith_cond *cond);

#endif
