#include "tests/lib/test_lib.h"

#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "host/base/alloc.h"

#define MS 1000000ULL

static int set_up(void **state) {
    kith_err err;
    kith_env *env = NULL;
    if (kith_env_posix_create(&env, &err) != KITH_OK) return -1;
    *state = env;
    return 0;
}

static int tear_down(void **state) {
    kith_env_posix_destroy(*state);
    return 0;
}

static kith_executor *executor_make(kith_env *env, uint32_t thread_count) {
    kith_err err;
    kith_executor *executor = NULL;
    assert_ok(kith_executor_create(env, "test", thread_count, &executor, &err), &err);
    return executor;
}

/* A task that writes down when it ran. */
typedef struct noted_task {
    kith_task task;
    uint32_t *next_place; /* of the one thread that runs them */
    uint32_t place;
} noted_task;

static void note(kith_task *task) {
    noted_task *noted = (noted_task *)task;
    noted->place = (*noted->next_place)++;
}

static void test_env__executor_of_one_thread_keeps_the_order(void **state) {
    kith_executor *executor = executor_make(*state, 1);
    uint32_t next_place = 0;
    static noted_task tasks[5000];
    for (uint32_t i = 0; i < 5000; i++) {
        tasks[i] = (noted_task){.task.run = note, .next_place = &next_place};
        kith_executor_post(executor, &tasks[i].task);
    }
    kith_executor_destroy(executor); /* runs what is queued first */
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(tasks[i].place, i);
}

/* A task that frees itself, after a number of rounds through its executor. */
typedef struct round_task {
    kith_task task;
    kith_executor *executor;
    uint32_t rounds_left;
    _Atomic(uint32_t) *runs_count;
    sem_t *done;
} round_task;

static void run_round(kith_task *task) {
    round_task *round = (round_task *)task;
    atomic_fetch_add(round->runs_count, 1);
    if (round->rounds_left-- > 0) {
        kith_executor_post(round->executor, task);
        return;
    }
    sem_t *done = round->done;
    kith_free(round);
    sem_post(done);
}

static void test_env__executor_of_many_threads_runs_each_task_once(void **state) {
    kith_executor *executor = executor_make(*state, 4);
    assert_int_equal(kith_executor_thread_count(executor), 4);
    _Atomic(uint32_t) runs_count = 0;
    sem_t done;
    sem_init(&done, 0, 0);
    for (uint32_t i = 0; i < 100; i++) {
        round_task *round = kith_alloc(sizeof *round);
        *round = (round_task){.task.run = run_round,
            .executor = executor,
            .rounds_left = i,
            .runs_count = &runs_count,
            .done = &done};
        kith_executor_post(executor, &round->task);
    }
    for (uint32_t i = 0; i < 100; i++)
        sem_wait(&done);
    kith_executor_destroy(executor);
    assert_int_equal(atomic_load(&runs_count), 5050);
    sem_destroy(&done);
}

typedef struct gate_task {
    kith_task task;
    sem_t entered;
    sem_t leave;
} gate_task;

static void wait_at_gate(kith_task *task) {
    gate_task *gate = (gate_task *)task;
    sem_post(&gate->entered);
    sem_wait(&gate->leave);
}

static void gate_init(gate_task *gate) {
    gate->task.run = wait_at_gate;
    sem_init(&gate->entered, 0, 0);
    sem_init(&gate->leave, 0, 0);
}

/* Asks its thread how nice it is. */
typedef struct nice_task {
    kith_task task;
    int nice_value;
} nice_task;

static void nice_ask(kith_task *task) {
    ((nice_task *)task)->nice_value = getpriority(PRIO_PROCESS, 0);
}

static void test_env__patient_executor_gives_way_and_others_do_not(void **state) {
    kith_err err;
    kith_executor *patient = NULL, *other = executor_make(*state, 2);
    assert_ok(kith_executor_create_patient(*state, "patient", 2, &patient, &err), &err);
    nice_task asks[2] = {{.task.run = nice_ask}, {.task.run = nice_ask}};
    kith_executor_post(patient, &asks[0].task);
    kith_executor_post(other, &asks[1].task);
    kith_executor_destroy(patient);
    kith_executor_destroy(other);
    int own = getpriority(PRIO_PROCESS, 0), nicer = own + 10 < 19 ? own + 10 : 19;
    assert_int_equal(asks[0].nice_value, nicer);
    assert_int_equal(asks[1].nice_value, own);
}

static void test_env__executor_queued_counts_what_waits(void **state) {
    kith_executor *executor = executor_make(*state, 1);
    gate_task gate;
    gate_init(&gate);
    kith_executor_post(executor, &gate.task);
    sem_wait(&gate.entered);
    uint32_t next_place = 0;
    noted_task tasks[3];
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(kith_executor_queued(executor), i);
        tasks[i] = (noted_task){.task.run = note, .next_place = &next_place};
        kith_executor_post(executor, &tasks[i].task);
    }
    assert_int_equal(kith_executor_queued(executor), 3);
    sem_post(&gate.leave);
    kith_executor_destroy(executor);
    assert_int_equal(next_place, 3);
}

static void test_env__executor_thread_count_is_bounded(void **state) {
    kith_err err;
    kith_executor *executor = NULL;
    assert_int_equal(kith_executor_create(*state, "x", 0, &executor, &err), KITH_INVALID);
    assert_int_equal(kith_executor_create(*state, "x", 257, &executor, &err), KITH_INVALID);
    assert_string_equal(err.text, "executor x: 257 threads is not in 1..256");
    kith_executor_destroy(NULL);
}

/* --- timers --- */

typedef struct noted_timer {
    kith_timer timer;
    kith_env *env;
    uint64_t ran_ns;
    uint32_t *next_place;
    uint32_t place;
    sem_t *done;
} noted_timer;

static void note_timer(kith_task *task) {
    noted_timer *noted = (noted_timer *)task;
    noted->ran_ns = kith_env_now_ns(noted->env);
    noted->place = (*noted->next_place)++;
    sem_post(noted->done);
}

typedef struct timer_fixture {
    kith_executor *executor;
    uint32_t next_place;
    sem_t done;
    noted_timer timers[200];
} timer_fixture;

static timer_fixture *timers_make(kith_env *env) {
    timer_fixture *fix = kith_alloc_zero(sizeof *fix);
    fix->executor = executor_make(env, 1);
    sem_init(&fix->done, 0, 0);
    for (size_t i = 0; i < 200; i++) {
        noted_timer *noted = &fix->timers[i];
        noted->timer.task.run = note_timer;
        noted->timer.executor = fix->executor;
        noted->env = env;
        noted->next_place = &fix->next_place;
        noted->done = &fix->done;
    }
    return fix;
}

static void timers_destroy(timer_fixture *fix) {
    kith_executor_destroy(fix->executor);
    sem_destroy(&fix->done);
    kith_free(fix);
}

static void test_env__timers_run_when_due_in_order(void **state) {
    kith_env *env = *state;
    timer_fixture *fix = timers_make(env);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(8));
    uint64_t base_ns = kith_env_now_ns(env) + 20 * MS;
    for (size_t i = 0; i < 200; i++) {
        fix->timers[i].timer.due_ns = base_ns + kith_rng_below(&rng, 10) * MS;
        kith_timer_start(&fix->timers[i].timer);
    }
    for (size_t i = 0; i < 200; i++)
        sem_wait(&fix->done);
    for (size_t i = 0; i < 200; i++) {
        const noted_timer *a = &fix->timers[i];
        assert_true(a->ran_ns >= a->timer.due_ns);
        for (size_t j = 0; j < i; j++) {
            const noted_timer *b = &fix->timers[j];
            bool a_first = a->timer.due_ns < b->timer.due_ns; /* those of one instant in the order started */
            assert_int_equal(a->place < b->place, a_first);
        }
    }
    timers_destroy(fix);
}

static void test_env__timer_cancelled_does_not_run(void **state) {
    kith_env *env = *state;
    timer_fixture *fix = timers_make(env);
    for (size_t i = 0; i < 200; i++) {
        fix->timers[i].timer.due_ns = kith_env_now_ns(env) + (i % 7 == 0 ? 3 : 3600000) * MS;
        kith_timer_start(&fix->timers[i].timer);
    }
    for (size_t i = 0; i < 200; i++)
        if (i % 7 != 0) assert_true(kith_timer_cancel(&fix->timers[i].timer));
    for (size_t i = 0; i < 200; i += 7)
        sem_wait(&fix->done);
    for (size_t i = 0; i < 200; i++)
        assert_false(kith_timer_cancel(&fix->timers[i].timer));
    assert_int_equal(fix->next_place, 29);
    timers_destroy(fix);
}

static void test_env__timer_in_the_past_runs_at_once_and_again(void **state) {
    timer_fixture *fix = timers_make(*state);
    for (uint64_t i = 0; i < 100; i++) {
        fix->timers[0].timer.due_ns = i % 2;
        kith_timer_start(&fix->timers[0].timer);
        sem_wait(&fix->done);
    }
    fix->timers[0].timer.due_ns = UINT64_MAX; /* never */
    kith_timer_start(&fix->timers[0].timer);
    assert_true(kith_timer_cancel(&fix->timers[0].timer));
    timers_destroy(fix);
}

static void test_env__timer_start_and_cancel_race_with_expiry(void **state) {
    kith_env *env = *state;
    timer_fixture *fix = timers_make(env);
    uint32_t cancelled_count = 0;
    uint64_t rounds = test_scaled(2000);
    for (uint64_t i = 0; i < rounds; i++) {
        fix->timers[i % 200].timer.due_ns = kith_env_now_ns(env) + i % 50 * 1000;
        kith_timer_start(&fix->timers[i % 200].timer);
        if (kith_timer_cancel(&fix->timers[i % 200].timer))
            cancelled_count++;
        else
            sem_wait(&fix->done);
    }
    kith_executor *executor = fix->executor;
    kith_executor_destroy(executor);
    assert_int_equal(fix->next_place + cancelled_count, rounds);
    sem_destroy(&fix->done);
    kith_free(fix);
}

/* --- clock and threads --- */

static void test_env__clock_does_not_go_back(void **state) {
    uint64_t last_ns = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t now_ns = kith_env_now_ns(*state);
        assert_true(now_ns >= last_ns);
        last_ns = now_ns;
    }
    assert_true(kith_env_wall_ms(*state) > 1700000000000ULL);
}

static void read_mask(void *ctx) {
    pthread_sigmask(SIG_SETMASK, NULL, ctx);
}

static void test_env__thread_gets_no_signals(void **state) {
    kith_err err;
    kith_thread *thread = NULL;
    sigset_t mask;
    assert_ok(
        kith_thread_start(*state, "a name longer than fifteen bytes", read_mask, &mask, &thread, &err), &err);
    kith_thread_join(thread);
    assert_true(sigismember(&mask, SIGTERM));
    assert_true(sigismember(&mask, SIGHUP));
    assert_false(sigismember(&mask, SIGSEGV));
    kith_thread_join(NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_env__executor_of_one_thread_keeps_the_order),
        CASE(test_env__executor_of_many_threads_runs_each_task_once),
        CASE(test_env__patient_executor_gives_way_and_others_do_not),
        CASE(test_env__executor_queued_counts_what_waits),
        CASE(test_env__executor_thread_count_is_bounded),
        CASE(test_env__timers_run_when_due_in_order),
        CASE(test_env__timer_cancelled_does_not_run),
        CASE(test_env__timer_in_the_past_runs_at_once_and_again),
        CASE(test_env__timer_start_and_cancel_race_with_expiry),
        CASE(test_env__clock_does_not_go_back),
        CASE(test_env__thread_gets_no_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
