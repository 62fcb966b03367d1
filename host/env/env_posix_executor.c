#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#include "host/base/alloc.h"
#include "host/env/env_posix_internal.h"

#define EXECUTOR_THREADS_MAX    256u
#define THREAD_NAME_BYTES_MAX   16u /* Linux, NUL included */
#define EXECUTOR_NAME_BYTES_MAX 11  /* leaves room for "-255" */
#define EXECUTOR_PATIENT_NICE   10  /* a ninth of the weight of nice 0 */

/* --- threads --- */

/* Signals that a thread raises itself stay open: blocked, they would end the process without a handler's
 * word. */
static void block_signals(sigset_t *before) {
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++)
        sigdelset(&blocked, synchronous[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

kith_status posix_pthread_start(
    pthread_t *thread_out, const char *name, void *(*run)(void *), void *ctx, kith_err *err) {
    sigset_t before;
    block_signals(&before); /* the new thread inherits the mask */
    int error_number = pthread_create(thread_out, NULL, run, ctx);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error_number != 0) return kith_err_set_errno(err, error_number, "start thread %s", name);
    char cut[THREAD_NAME_BYTES_MAX];
    snprintf(cut, sizeof cut, "%s", name);
    pthread_setname_np(*thread_out, cut);
    return KITH_OK;
}

typedef struct posix_thread {
    kith_thread base;
    pthread_t native;
    void (*run)(void *ctx);
    void *ctx;
} posix_thread;

static void *thread_main(void *argument) {
    posix_thread *thread = argument;
    thread->run(thread->ctx);
    return NULL;
}

kith_status posix_thread_start(kith_env *env, const char *name, void (*run)(void *ctx), void *ctx,
    kith_thread **thread_out, kith_err *err) {
    (void)env;
    posix_thread *thread = kith_alloc(sizeof *thread);
    *thread = (posix_thread){.base.ops = &posix_ops, .run = run, .ctx = ctx};
    kith_status status = posix_pthread_start(&thread->native, name, thread_main, thread, err);
    if (status != KITH_OK) {
        kith_free(thread);
        return status;
    }
    *thread_out = &thread->base;
    return KITH_OK;
}

void posix_thread_join(kith_thread *base) {
    posix_thread *thread = (posix_thread *)base;
    pthread_join(thread->native, NULL);
    kith_free(thread);
}

/* --- executors --- */

static kith_task *take_first_locked(posix_executor *executor) {
    kith_task *task = executor->first;
    if (!task) return NULL;
    executor->first = task->next;
    if (!executor->first) executor->last = NULL;
    /* relaxed: the lock orders the queue; readers only want a number. */
    atomic_fetch_sub_explicit(&executor->queued_count, 1, memory_order_relaxed);
    return task;
}

/* The next task; NULL when the executor stops and nothing is left. */
static kith_task *wait_for_task(posix_executor *executor) {
    kith_mutex_lock(&executor->lock);
    kith_task *task = take_first_locked(executor);
    while (!task && !executor->stopping) {
        executor->sleeping_count++;
        kith_cond_wait(&executor->wake, &executor->lock);
        executor->sleeping_count--;
        task = take_first_locked(executor);
    }
    kith_mutex_unlock(&executor->lock);
    return task;
}

/* Linux keeps a nice value for each thread, and `who` 0 is the caller. That of the process is where it starts from. */
static void thread_be_patient(void) {
    int nice_now = getpriority(PRIO_PROCESS, 0);
    (void)setpriority(
        PRIO_PROCESS, 0, nice_now + EXECUTOR_PATIENT_NICE); /* at most 19; being nicer is always allowed */
}

static void *executor_main(void *argument) {
    posix_executor *executor = argument;
    if (executor->patient) thread_be_patient();
    for (kith_task *task = wait_for_task(executor); task; task = wait_for_task(executor))
        task->run(task);
    return NULL;
}

static void stop_threads(posix_executor *executor, uint32_t started_count) {
    kith_mutex_lock(&executor->lock);
    executor->stopping = true;
    kith_cond_broadcast(&executor->wake);
    kith_mutex_unlock(&executor->lock);
    for (uint32_t i = 0; i < started_count; i++)
        pthread_join(executor->threads[i], NULL);
}

static void executor_free(posix_executor *executor) {
    kith_cond_fini(&executor->wake);
    kith_mutex_fini(&executor->lock);
    kith_free(executor->threads);
    kith_free(executor);
}

static kith_status start_threads(posix_executor *executor, const char *name, kith_err *err) {
    for (uint32_t i = 0; i < executor->thread_count; i++) {
        char thread_name[32];
        snprintf(thread_name, sizeof thread_name, "%.*s-%u", EXECUTOR_NAME_BYTES_MAX, name, i);
        const char *chosen = executor->thread_count == 1 ? name : thread_name;
        kith_status status = posix_pthread_start(&executor->threads[i], chosen, executor_main, executor, err);
        if (status == KITH_OK) continue;
        stop_threads(executor, i);
        return status;
    }
    return KITH_OK;
}

kith_status posix_executor_create(kith_env *env, const char *name, uint32_t thread_count, bool patient,
    kith_executor **executor_out, kith_err *err) {
    if (thread_count < 1 || thread_count > EXECUTOR_THREADS_MAX)
        return kith_err_set(err, KITH_INVALID, "executor %s: %u threads is not in 1..%u", name, thread_count,
            EXECUTOR_THREADS_MAX);
    posix_executor *executor = kith_alloc_zero(sizeof *executor);
    executor->base.ops = &posix_ops;
    executor->env = (posix_env *)env;
    executor->thread_count = thread_count;
    executor->patient = patient;
    executor->threads = kith_alloc_array(thread_count, sizeof *executor->threads);
    kith_mutex_init(&executor->lock, KITH_RANK_EXECUTOR);
    kith_cond_init(&executor->wake);
    kith_status status = start_threads(executor, name, err);
    if (status != KITH_OK) {
        executor_free(executor);
        return status;
    }
    *executor_out = &executor->base;
    return KITH_OK;
}

void posix_executor_destroy(kith_executor *base) {
    posix_executor *executor = (posix_executor *)base;
    stop_threads(executor, executor->thread_count);
    executor_free(executor);
}

void posix_executor_post(kith_executor *base, kith_task *task) {
    posix_executor *executor = (posix_executor *)base;
    task->next = NULL;
    kith_mutex_lock(&executor->lock);
    if (executor->last)
        executor->last->next = task;
    else
        executor->first = task;
    executor->last = task;
    atomic_fetch_add_explicit(&executor->queued_count, 1, memory_order_relaxed);
    /* Under the lock: once it is free the task may run, and what it tells its owner may end the executor. */
    if (executor->sleeping_count > 0) kith_cond_signal(&executor->wake);
    kith_mutex_unlock(&executor->lock);
}

uint32_t posix_executor_thread_count(const kith_executor *base) {
    return ((const posix_executor *)base)->thread_count;
}

uint32_t posix_executor_queued(const kith_executor *base) {
    return atomic_load_explicit(&((const posix_executor *)base)->queued_count, memory_order_relaxed);
}
