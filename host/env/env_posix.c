#include <errno.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/env/env_posix_internal.h"

#define NS_PER_S           1000000000ULL
#define DESCRIPTORS_WANTED 65536u

const kith_env_ops posix_ops;

uint64_t posix_now_ns(kith_env *env) {
    (void)env;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t posix_wall_ms(kith_env *env) {
    (void)env;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void posix_random_bytes(kith_env *env, void *data, size_t bytes) {
    (void)env;
    uint8_t *at = data;
    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        kith_assert(got > 0);
        at += got;
        bytes -= (size_t)got;
    }
}

/* Shells and init systems give 1,024, and mean more for who asks: as many connections would leave none for the log's next file, which
 * then stops. */
static void allow_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= DESCRIPTORS_WANTED) return;
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

kith_status kith_env_posix_create(kith_env **env_out, kith_err *err) {
    posix_env *env = kith_alloc_zero(sizeof *env);
    env->base.ops = &posix_ops;
    kith_status status = posix_timers_create(env, &env->timers, err);
    if (status != KITH_OK) goto err_free;
    /* A peer that closes its socket is an error code, not the end of the process. */
    signal(SIGPIPE, SIG_IGN);
    allow_descriptors();
    *env_out = &env->base;
    return KITH_OK;
err_free:
    kith_free(env);
    return status;
}

void kith_env_posix_destroy(kith_env *base) {
    posix_env *env = (posix_env *)base;
    if (!env) return;
    posix_timers_destroy(env->timers);
    kith_free(env);
}

const kith_env_ops posix_ops = {
    .now_ns = posix_now_ns,
    .wall_ms = posix_wall_ms,
    .random_bytes = posix_random_bytes,
    .file_open = posix_file_open,
    .file_close = posix_file_close,
    .file_read_at = posix_file_read_at,
    .file_write_at = posix_file_write_at,
    .file_sync = posix_file_sync,
    .file_sync_soon = posix_file_sync_soon,
    .file_truncate = posix_file_truncate,
    .file_bytes = posix_file_bytes,
    .file_map = posix_file_map,
    .file_unmap = posix_file_unmap,
    .file_map_forget = posix_file_map_forget,
    .path_rename = posix_path_rename,
    .path_remove = posix_path_remove,
    .dir_make = posix_dir_make,
    .dir_list = posix_dir_list,
    .dir_sync = posix_dir_sync,
    .dir_lock = posix_dir_lock,
    .free_bytes = posix_free_bytes,
    .executor_create = posix_executor_create,
    .executor_destroy = posix_executor_destroy,
    .executor_post = posix_executor_post,
    .executor_thread_count = posix_executor_thread_count,
    .executor_queued = posix_executor_queued,
    .timer_start = posix_timer_start,
    .timer_cancel = posix_timer_cancel,
    .thread_start = posix_thread_start,
    .thread_join = posix_thread_join,
};
