/* The world as a table of functions: clock, random bytes, files, executors, timers, threads. kith_env_posix
 * is the real one; tests/sim has its own, single-threaded on virtual time. Nothing outside an env starts a
 * thread, reads a clock or touches a file, so that the simulator runs the product's own code.
 *
 * Code that runs in the simulator never blocks on another thread: it posts tasks and returns. File calls are
 * synchronous; they are made from executors that may wait (the log's, the background one), never from a
 * network thread.
 *
 * Threads: every function may be called from any thread, except where an object says otherwise. */
#ifndef KITH_ENV_ENV_H
#define KITH_ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/base/err.h"

typedef struct kith_env kith_env;
typedef struct kith_file kith_file;
typedef struct kith_executor kith_executor;
typedef struct kith_thread kith_thread;
typedef struct kith_task kith_task;
typedef struct kith_timer kith_timer;

/* Work for an executor. Embedded in what it works on: posting allocates nothing and cannot fail; how much may
 * wait is bounded where the work is admitted. `run` may free the task. A task is in one queue at most. */
struct kith_task {
    kith_task *next; /* the executor's while queued */
    void (*run)(kith_task *task);
};

/* Posts `task` to `executor` when the clock reaches `due_ns`. Embedded, like a task. */
struct kith_timer {
    kith_task task;
    kith_executor *executor;
    uint64_t due_ns;
    void *impl[3]; /* the env's */
    bool armed;    /* the env's */
};

typedef enum kith_file_mode {
    KITH_FILE_READ = 0,       /* must exist */
    KITH_FILE_WRITE = 1,      /* read and write; made when missing */
    KITH_FILE_CREATE_NEW = 2, /* read and write; EXISTS when there */
} kith_file_mode;

typedef struct kith_dir_entry {
    const char *name; /* of the entry, without the folder */
    bool is_dir;
    uint64_t bytes;
} kith_dir_entry;

typedef struct kith_env_ops {
    uint64_t (*now_ns)(kith_env *env);
    uint64_t (*wall_ms)(kith_env *env);
    void (*random_bytes)(kith_env *env, void *data, size_t bytes);

    kith_status (*file_open)(
        kith_env *env, const char *path, kith_file_mode mode, kith_file **file_out, kith_err *err);
    void (*file_close)(kith_file *file);
    kith_status (*file_read_at)(
        kith_file *file, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err);
    kith_status (*file_write_at)(
        kith_file *file, uint64_t offset, const void *data, size_t bytes, kith_err *err);
    kith_status (*file_sync)(kith_file *file, kith_err *err);
    void (*file_sync_soon)(kith_file *file, uint64_t offset, uint64_t bytes);
    kith_status (*file_truncate)(kith_file *file, uint64_t bytes, kith_err *err);
    kith_status (*file_bytes)(kith_file *file, uint64_t *bytes_out, kith_err *err);
    kith_status (*file_map)(kith_file *file, size_t bytes, const void **address_out, kith_err *err);
    void (*file_unmap)(kith_env *env, const void *address, size_t bytes);
    void (*file_map_forget)(kith_env *env, const void *address, size_t bytes);
    kith_status (*path_rename)(kith_env *env, const char *from, const char *to, kith_err *err);
    kith_status (*path_remove)(kith_env *env, const char *path, kith_err *err);
    kith_status (*dir_make)(kith_env *env, const char *path, kith_err *err);
    kith_status (*dir_list)(kith_env *env, const char *path,
        void (*entry_fn)(void *ctx, const kith_dir_entry *entry), void *ctx, kith_err *err);
    kith_status (*dir_sync)(kith_env *env, const char *path, kith_err *err);
    kith_status (*dir_lock)(kith_env *env, const char *path, kith_file **lock_out, kith_err *err);
    kith_status (*free_bytes)(kith_env *env, const char *path, uint64_t *bytes_out, kith_err *err);

    kith_status (*executor_create)(kith_env *env, const char *name, uint32_t thread_count, bool patient,
        kith_executor **executor_out, kith_err *err);
    void (*executor_destroy)(kith_executor *executor);
    void (*executor_post)(kith_executor *executor, kith_task *task);
    uint32_t (*executor_thread_count)(const kith_executor *executor);
    uint32_t (*executor_queued)(const kith_executor *executor);
    void (*timer_start)(kith_timer *timer);
    bool (*timer_cancel)(kith_timer *timer);

    kith_status (*thread_start)(kith_env *env, const char *name, void (*run)(void *ctx), void *ctx,
        kith_thread **thread_out, kith_err *err);
    void (*thread_join)(kith_thread *thread);
} kith_env_ops;

/* Every implementation's env, file, executor and thread begins with its `ops`. */
struct kith_env {
    const kith_env_ops *ops;
};
struct kith_file {
    const kith_env_ops *ops;
};
struct kith_executor {
    const kith_env_ops *ops;
};
struct kith_thread {
    const kith_env_ops *ops;
};

/* The real world. One per process. Ignores SIGPIPE, and allows itself more open files. Destroy after every executor, file and thread. */
KITH_CHECK kith_status kith_env_posix_create(kith_env **env_out, kith_err *err);
void kith_env_posix_destroy(kith_env *env);

/* --- clock --- */

/* Time since boot, suspended time included; never goes back. Deadlines are absolute values of it. */
static inline uint64_t kith_env_now_ns(kith_env *env) {
    return env->ops->now_ns(env);
}
/* Milliseconds since 1970 by the wall clock; may jump. For people and TTLs, never for waiting. */
static inline uint64_t kith_env_wall_ms(kith_env *env) {
    return env->ops->wall_ms(env);
}
/* Unpredictable bytes (getrandom), or seeded ones in the simulator. */
static inline void kith_env_random(kith_env *env, void *data, size_t bytes) {
    env->ops->random_bytes(env, data, bytes);
}

/* --- files: paths are used as given; no call retries a failed sync --- */

static inline KITH_CHECK kith_status kith_file_open(
    kith_env *env, const char *path, kith_file_mode mode, kith_file **file_out, kith_err *err) {
    return env->ops->file_open(env, path, mode, file_out, err);
}
/* Accepts NULL. */
static inline void kith_file_close(kith_file *file) {
    if (file) file->ops->file_close(file);
}
/* Reads up to `bytes` bytes; `*read_out` is smaller only at the end of the file. */
static inline KITH_CHECK kith_status kith_file_read_at(
    kith_file *file, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err) {
    return file->ops->file_read_at(file, offset, data, bytes, read_out, err);
}
/* Writes all or fails; after a failure any part may have been written. */
static inline KITH_CHECK kith_status kith_file_write_at(
    kith_file *file, uint64_t offset, const void *data, size_t bytes, kith_err *err) {
    return file->ops->file_write_at(file, offset, data, bytes, err);
}
/* Data and length are on the disk when it returns OK. After a failure the file's content is unknown: stop
 * writing. */
static inline KITH_CHECK kith_status kith_file_sync(kith_file *file, kith_err *err) {
    return file->ops->file_sync(file, err);
}
/* A hint: these bytes were written and will be synced; the disk may begin with them. Promises nothing, and takes no error away from the
 * sync. */
static inline void kith_file_sync_soon(kith_file *file, uint64_t offset, uint64_t bytes) {
    file->ops->file_sync_soon(file, offset, bytes);
}
static inline KITH_CHECK kith_status kith_file_truncate(kith_file *file, uint64_t bytes, kith_err *err) {
    return file->ops->file_truncate(file, bytes, err);
}
static inline KITH_CHECK kith_status kith_file_bytes(kith_file *file, uint64_t *bytes_out, kith_err *err) {
    return file->ops->file_bytes(file, bytes_out, err);
}
/* A file that will be mapped is written so much at a time, at multiples of it: Linux then caches it in huge pages, and maps
 * these (ext4 since 6.16, XFS). Of a large file that is read in order from the disk it caches most so by itself. */
enum { KITH_FILE_HUGE_BYTES = 2 << 20 };
/* Maps the first `bytes` bytes for reading; the map outlives the file's close and removal. `bytes` > 0;
 * CORRUPT when the file is shorter. */
static inline KITH_CHECK kith_status kith_file_map(
    kith_file *file, size_t bytes, const void **address_out, kith_err *err) {
    return file->ops->file_map(file, bytes, address_out, err);
}
static inline void kith_file_unmap(kith_env *env, const void *address, size_t bytes) {
    env->ops->file_unmap(env, address, bytes);
}
/* A hint: what was read of these bytes of a map need not stay in this process's memory; reading them again is as
 * before. */
static inline void kith_file_map_forget(kith_env *env, const void *address, size_t bytes) {
    env->ops->file_map_forget(env, address, bytes);
}
/* Atomic; replaces `to`. Durable after kith_dir_sync of the folder. */
static inline KITH_CHECK kith_status kith_path_rename(
    kith_env *env, const char *from, const char *to, kith_err *err) {
    return env->ops->path_rename(env, from, to, err);
}
typedef struct kith_file_part {
    const void *data;
    size_t bytes;
} kith_file_part;
/* Makes `name` in the folder a file of these parts, one after the other, durably: whatever crashes or fails, the whole
 * of it is there or what was before. Writes `name`.new beside it first, over what a crash left there. */
KITH_CHECK kith_status kith_file_replace(kith_env *env, const char *dir, const char *name,
    const kith_file_part *parts, uint32_t part_count, kith_err *err);
/* A file or an empty folder. NOT_FOUND if there is none. */
static inline KITH_CHECK kith_status kith_path_remove(kith_env *env, const char *path, kith_err *err) {
    return env->ops->path_remove(env, path, err);
}
/* With its parents, each synced into the folder above it when made, the last one always; OK when it is there. */
static inline KITH_CHECK kith_status kith_dir_make(kith_env *env, const char *path, kith_err *err) {
    return env->ops->dir_make(env, path, err);
}
/* Calls `entry_fn` for each entry but "." and "..", in name order, before it returns. */
static inline KITH_CHECK kith_status kith_dir_list(kith_env *env, const char *path,
    void (*entry_fn)(void *ctx, const kith_dir_entry *entry), void *ctx, kith_err *err) {
    return env->ops->dir_list(env, path, entry_fn, ctx, err);
}
static inline KITH_CHECK kith_status kith_dir_sync(kith_env *env, const char *path, kith_err *err) {
    return env->ops->dir_sync(env, path, err);
}
/* One process a folder (file LOCK in it); EXISTS with the holder's pid in the message. Closed with
 * kith_file_close. */
static inline KITH_CHECK kith_status kith_dir_lock(
    kith_env *env, const char *path, kith_file **lock_out, kith_err *err) {
    return env->ops->dir_lock(env, path, lock_out, err);
}
/* Bytes that an ordinary process may still write to the file system of `path`. */
static inline KITH_CHECK kith_status kith_env_free_bytes(
    kith_env *env, const char *path, uint64_t *bytes_out, kith_err *err) {
    return env->ops->free_bytes(env, path, bytes_out, err);
}

/* --- executors and timers --- */

/* `thread_count` threads (1..256) taking tasks in the order posted; with one thread tasks never overlap,
 * which is how an object gets its owning thread. */
static inline KITH_CHECK kith_status kith_executor_create(
    kith_env *env, const char *name, uint32_t thread_count, kith_executor **executor_out, kith_err *err) {
    return env->ops->executor_create(env, name, thread_count, false, executor_out, err);
}
/* The same, for work that nobody waits for at once: where processors are short its threads get a third of what others get. */
static inline KITH_CHECK kith_status kith_executor_create_patient(
    kith_env *env, const char *name, uint32_t thread_count, kith_executor **executor_out, kith_err *err) {
    return env->ops->executor_create(env, name, thread_count, true, executor_out, err);
}
/* Runs what is queued, then joins. Not from one of its own tasks; nothing may be posted by others any more.
 * Accepts NULL. */
static inline void kith_executor_destroy(kith_executor *executor) {
    if (executor) executor->ops->executor_destroy(executor);
}
static inline void kith_executor_post(kith_executor *executor, kith_task *task) {
    executor->ops->executor_post(executor, task);
}
static inline uint32_t kith_executor_thread_count(const kith_executor *executor) {
    return executor->ops->executor_thread_count(executor);
}
/* Tasks that wait now: for admission and metrics. */
static inline uint32_t kith_executor_queued(const kith_executor *executor) {
    return executor->ops->executor_queued(executor);
}
/* Set task.run, executor and due_ns first. The timer must not be armed. */
static inline void kith_timer_start(kith_timer *timer) {
    timer->executor->ops->timer_start(timer);
}
/* True: it will not run. False: it was not armed, or its task is already in its executor's queue, running or
 * done. */
static inline bool kith_timer_cancel(kith_timer *timer) {
    return timer->executor->ops->timer_cancel(timer);
}

/* --- threads: only for loops that an outside library owns (completion queues); not available in the
 * simulator ----------- */

static inline KITH_CHECK kith_status kith_thread_start(kith_env *env, const char *name,
    void (*run)(void *ctx), void *ctx, kith_thread **thread_out, kith_err *err) {
    return env->ops->thread_start(env, name, run, ctx, thread_out, err);
}
static inline void kith_thread_join(kith_thread *thread) {
    if (thread) thread->ops->thread_join(thread);
}

#endif
