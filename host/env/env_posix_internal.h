/* What the files of env_posix share. */
#ifndef KITH_ENV_ENV_POSIX_INTERNAL_H
#define KITH_ENV_ENV_POSIX_INTERNAL_H

#include <pthread.h>

#include "host/base/thread.h"
#include "host/env/env.h"

typedef struct posix_timers posix_timers;

typedef struct posix_env {
    kith_env base;
    posix_timers *timers;
} posix_env;

typedef struct posix_executor {
    kith_executor base;
    posix_env *env;
    pthread_t *threads;
    uint32_t thread_count;
    bool patient;
    kith_mutex lock; /* the queue between threads is what messages are made of */
    kith_cond wake;
    kith_task *first;
    kith_task *last;
    uint32_t sleeping_count;
    bool stopping;
    _Atomic(uint32_t) queued_count; /* changed under the lock; read by anyone */
} posix_executor;

extern const kith_env_ops posix_ops;

uint64_t posix_now_ns(kith_env *env);

kith_status posix_file_open(
    kith_env *env, const char *path, kith_file_mode mode, kith_file **file_out, kith_err *err);
void posix_file_close(kith_file *file);
kith_status posix_file_read_at(
    kith_file *file, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err);
kith_status posix_file_write_at(
    kith_file *file, uint64_t offset, const void *data, size_t bytes, kith_err *err);
kith_status posix_file_sync(kith_file *file, kith_err *err);
void posix_file_sync_soon(kith_file *file, uint64_t offset, uint64_t bytes);
kith_status posix_file_truncate(kith_file *file, uint64_t bytes, kith_err *err);
kith_status posix_file_bytes(kith_file *file, uint64_t *bytes_out, kith_err *err);
kith_status posix_file_map(kith_file *file, size_t bytes, const void **address_out, kith_err *err);
void posix_file_unmap(kith_env *env, const void *address, size_t bytes);
void posix_file_map_forget(kith_env *env, const void *address, size_t bytes);

kith_status posix_path_rename(kith_env *env, const char *from, const char *to, kith_err *err);
kith_status posix_path_remove(kith_env *env, const char *path, kith_err *err);
kith_status posix_dir_make(kith_env *env, const char *path, kith_err *err);
kith_status posix_dir_list(kith_env *env, const char *path,
    void (*entry_fn)(void *ctx, const kith_dir_entry *entry), void *ctx, kith_err *err);
kith_status posix_dir_sync(kith_env *env, const char *path, kith_err *err);
kith_status posix_dir_lock(kith_env *env, const char *path, kith_file **lock_out, kith_err *err);
kith_status posix_free_bytes(kith_env *env, const char *path, uint64_t *bytes_out, kith_err *err);

kith_status posix_executor_create(kith_env *env, const char *name, uint32_t thread_count, bool patient,
    kith_executor **executor_out, kith_err *err);
void posix_executor_destroy(kith_executor *executor);
void posix_executor_post(kith_executor *executor, kith_task *task);
uint32_t posix_executor_thread_count(const kith_executor *executor);
uint32_t posix_executor_queued(const kith_executor *executor);

kith_status posix_timers_create(posix_env *env, posix_timers **timers_out, kith_err *err);
void posix_timers_destroy(posix_timers *timers);
void posix_timer_start(kith_timer *timer);
bool posix_timer_cancel(kith_timer *timer);

/* A thread named `name` (cut to 15 bytes) that gets no signals: those are the main thread's. */
kith_status posix_pthread_start(
    pthread_t *thread_out, const char *name, void *(*run)(void *), void *ctx, kith_err *err);
kith_status posix_thread_start(kith_env *env, const char *name, void (*run)(void *ctx), void *ctx,
    kith_thread **thread_out, kith_err *err);
void posix_thread_join(kith_thread *thread);

#endif
