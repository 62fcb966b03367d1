/* One thread sleeps on a timerfd set to the earliest timer of a heap. A timerfd because it counts
 * CLOCK_BOOTTIME, which condition variables cannot: a timer that comes due while the machine is suspended
 * runs at once on resume. */
#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/env/env_posix_internal.h"

#define NS_PER_S     1000000000ULL
#define DUE_NS_WAKE  1ULL /* in the past, and not 0, which disarms a timerfd */
#define DUE_NS_NEVER UINT64_MAX

struct posix_timers {
    posix_env *env;
    int descriptor;
    pthread_t thread;
    kith_mutex lock;   /* the heap belongs to whoever starts or cancels, at once: a message could not answer a
                          cancel */
    kith_timer **heap; /* least (due, order) first */
    size_t count;
    size_t capacity;
    uint64_t started_count; /* gives timers of one instant the order they were started in */
    bool stopping;
};

/* What env.h leaves to the env: impl[0] is the place in the heap, impl[1] the order of starting. */
static size_t place_of(const kith_timer *timer) {
    return (size_t)(uintptr_t)timer->impl[0];
}

static bool is_before(const kith_timer *a, const kith_timer *b) {
    if (a->due_ns != b->due_ns) return a->due_ns < b->due_ns;
    return (uintptr_t)a->impl[1] < (uintptr_t)b->impl[1];
}

static void put(posix_timers *timers, size_t place, kith_timer *timer) {
    timers->heap[place] = timer;
    timer->impl[0] = (void *)(uintptr_t)place;
}

static void sift_up(posix_timers *timers, size_t place, kith_timer *timer) {
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (!is_before(timer, timers->heap[parent])) break;
        put(timers, place, timers->heap[parent]);
        place = parent;
    }
    put(timers, place, timer);
}

static void sift_down(posix_timers *timers, size_t place, kith_timer *timer) {
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= timers->count) break;
        if (child + 1 < timers->count && is_before(timers->heap[child + 1], timers->heap[child])) child++;
        if (!is_before(timers->heap[child], timer)) break;
        put(timers, place, timers->heap[child]);
        place = child;
    }
    put(timers, place, timer);
}

static void heap_add_locked(posix_timers *timers, kith_timer *timer) {
    if (timers->count == timers->capacity) {
        timers->capacity = timers->capacity ? 2 * timers->capacity : 64;
        timers->heap = kith_realloc(timers->heap, timers->capacity * sizeof *timers->heap);
    }
    timer->impl[1] = (void *)(uintptr_t)timers->started_count++;
    timer->armed = true;
    sift_up(timers, timers->count++, timer);
}

static void heap_remove_locked(posix_timers *timers, kith_timer *timer) {
    size_t place = place_of(timer);
    kith_assert(timers->heap[place] == timer);
    timer->armed = false;
    kith_timer *last = timers->heap[--timers->count];
    if (last == timer) return;
    if (place > 0 && is_before(last, timers->heap[(place - 1) / 2]))
        sift_up(timers, place, last);
    else
        sift_down(timers, place, last);
}

/* Wakes the thread at `due_ns`, at once if that is past. */
static void set_wake(const posix_timers *timers, uint64_t due_ns) {
    struct itimerspec at = {0};
    if (due_ns == 0) due_ns = DUE_NS_WAKE;
    /* Centuries away is never; more than fits a time_t would be refused. */
    if (due_ns <= INT64_MAX) {
        at.it_value.tv_sec = (time_t)(due_ns / NS_PER_S);
        at.it_value.tv_nsec = (long)(due_ns % NS_PER_S);
    }
    int result = timerfd_settime(timers->descriptor, TFD_TIMER_ABSTIME, &at, NULL);
    kith_assert(result == 0);
}

/* Posts what is due and sets the next wake. Posting under the lock lets a cancel that comes too late be sure
 * that the task is in its executor's queue. */
static void run_due_locked(posix_timers *timers) {
    uint64_t now_ns = posix_now_ns(&timers->env->base);
    while (timers->count > 0 && timers->heap[0]->due_ns <= now_ns) {
        kith_timer *timer = timers->heap[0];
        heap_remove_locked(timers, timer);
        posix_executor_post(timer->executor, &timer->task);
    }
    set_wake(timers, timers->count > 0 ? timers->heap[0]->due_ns : DUE_NS_NEVER);
}

static bool step(posix_timers *timers) {
    kith_mutex_lock(&timers->lock);
    bool stopping = timers->stopping;
    if (!stopping) run_due_locked(timers);
    kith_mutex_unlock(&timers->lock);
    return !stopping;
}

static void *timers_main(void *argument) {
    posix_timers *timers = argument;
    while (step(timers)) {
        uint64_t expired_count;
        ssize_t got = read(timers->descriptor, &expired_count, sizeof expired_count);
        kith_assert(got == sizeof expired_count || errno == EINTR || errno == ECANCELED);
    }
    return NULL;
}

kith_status posix_timers_create(posix_env *env, posix_timers **timers_out, kith_err *err) {
    posix_timers *timers = kith_alloc_zero(sizeof *timers);
    timers->env = env;
    timers->descriptor = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    kith_status status;
    if (timers->descriptor < 0) {
        status = kith_err_set_errno(err, errno, "make a timer");
        goto err_free;
    }
    kith_mutex_init(&timers->lock, KITH_RANK_TIMER);
    status = posix_pthread_start(&timers->thread, "kith-timer", timers_main, timers, err);
    if (status != KITH_OK) goto err_close;
    *timers_out = timers;
    return KITH_OK;
err_close:
    kith_mutex_fini(&timers->lock);
    close(timers->descriptor);
err_free:
    kith_free(timers);
    return status;
}

void posix_timers_destroy(posix_timers *timers) {
    kith_mutex_lock(&timers->lock);
    timers->stopping = true;
    set_wake(timers, DUE_NS_WAKE);
    kith_mutex_unlock(&timers->lock);
    pthread_join(timers->thread, NULL);
    kith_mutex_fini(&timers->lock);
    close(timers->descriptor);
    kith_free(timers->heap);
    kith_free(timers);
}

static posix_timers *timers_of(const kith_timer *timer) {
    return ((posix_executor *)timer->executor)->env->timers;
}

void posix_timer_start(kith_timer *timer) {
    posix_timers *timers = timers_of(timer);
    kith_mutex_lock(&timers->lock);
    kith_assert(!timer->armed);
    heap_add_locked(timers, timer);
    if (timers->heap[0] == timer) set_wake(timers, timer->due_ns);
    kith_mutex_unlock(&timers->lock);
}

bool posix_timer_cancel(kith_timer *timer) {
    posix_timers *timers = timers_of(timer);
    kith_mutex_lock(&timers->lock);
    bool was_armed = timer->armed;
    if (was_armed) heap_remove_locked(timers, timer);
    kith_mutex_unlock(&timers->lock);
    return was_armed;
}
