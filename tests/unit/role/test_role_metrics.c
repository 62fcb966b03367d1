/* What a node measures of itself: nothing once it has been stopped. */
#include <sched.h>
#include <string.h>

#include "host/base/buf.h"
#include "host/base/thread.h"
#include "host/role/role_metrics.h"
#include "tests/lib/test_lib.h"

typedef struct fixture {
    kith_env *env;
    kith_executor *executor;
    kith_metrics *metrics;
    kith_role_metrics *own;
    kith_task block;
    atomic_bool is_blocked, may_go_on;
} fixture;

static void block_run(kith_task *task) {
    fixture *of = (fixture *)(void *)((char *)task - offsetof(fixture, block));
    atomic_store(&of->is_blocked, true);
    while (!atomic_load(&of->may_go_on))
        sched_yield();
}

static void stop_run(void *of) {
    kith_role_metrics_stop(((fixture *)of)->own);
}

static void print(const fixture *of, kith_buf *text) {
    kith_buf_clear(text);
    kith_metrics_print(of->metrics, text);
}

static bool is_equal(const kith_buf *a, const kith_buf *b) {
    return a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

static void queued_wait(const fixture *of, uint32_t count) {
    while (kith_executor_queued(of->executor) < count)
        sched_yield();
}

/* After the stop goes what was measured, the transport for one, but not yet the executor. */
static void test_role_metrics__tick_behind_the_stop_measures_nothing(void **unused) {
    (void)unused;
    fixture of = {.block = {.run = block_run}};
    kith_err err;
    kith_thread *thread;
    kith_buf before, after;
    kith_buf_init(&before);
    kith_buf_init(&after);
    assert_ok(kith_env_posix_create(&of.env, &err), &err);
    assert_ok(kith_executor_create(of.env, "meta", 1, &of.executor, &err), &err);
    of.metrics = kith_metrics_create();
    of.own = kith_role_metrics_create(of.env, of.metrics);
    print(&of, &before);
    kith_role_metrics_start(of.own, &(kith_role_metrics_sources){.executor = of.executor, .dir = "/"});
    do { /* until the first tick has measured, and armed the next */
        print(&of, &after);
    } while (is_equal(&before, &after));
    kith_executor_post(of.executor, &of.block);
    while (!atomic_load(&of.is_blocked))
        sched_yield();
    assert_ok(kith_thread_start(of.env, "stop", stop_run, &of, &thread, &err), &err);
    queued_wait(&of, 2); /* the stop, and the tick that fell due meanwhile */
    print(&of, &before);
    atomic_store(&of.may_go_on, true);
    kith_thread_join(thread);
    kith_executor_destroy(of.executor);
    print(&of, &after);
    assert_true(is_equal(&before, &after));
    kith_role_metrics_destroy(of.own);
    kith_metrics_destroy(of.metrics);
    kith_env_posix_destroy(of.env);
    kith_buf_fini(&before);
    kith_buf_fini(&after);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_role_metrics__tick_behind_the_stop_measures_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
