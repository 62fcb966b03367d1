/* Virtual time: executors are queues, the seed picks whose task runs next, timers are a list that the clock
 * jumps along. A task of an executor with several threads may overtake as many others as it has threads. */
#include "tests/sim/sim_env_internal.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"

#define SIM_START_NS      1000000000ULL
#define SIM_WALL_START_MS 1700000000000ULL
#define SIM_TASKS_MAX     10000000ULL

typedef struct sim_executor {
    kith_executor executor;
    sim_env *sim;
    struct sim_executor *next; /* in the world */
    uint32_t thread_count;
    uint32_t queued;
    uint64_t slow_ns_max; /* 0: it is not slow */
    uint64_t ready_ns;    /* of a slow one: when the first task may run */
    kith_task *first;
    kith_task **last;
} sim_executor;

struct sim_world {
    uint64_t now_ns;
    kith_rng rng;
    sim_env *machines;
    sim_executor *executors;
    kith_timer *timers; /* armed, newest first; impl[0] is next, impl[1] previous */
};

static kith_env_ops sim_ops;

/* --- executors --- */

static kith_status executor_create(
    kith_env *env, const char *name, uint32_t thread_count, kith_executor **executor_out, kith_err *err) {
    (void)err;
    sim_env *sim = (sim_env *)env;
    sim_executor *executor = kith_alloc_zero(sizeof *executor);
    executor->executor.ops = env->ops;
    executor->sim = sim;
    executor->thread_count = thread_count;
    executor->last = &executor->first;
    if (sim->slow_name && strcmp(sim->slow_name, name) == 0) executor->slow_ns_max = sim->slow_ns_max;
    executor->next = sim->world->executors;
    sim->world->executors = executor;
    *executor_out = &executor->executor;
    return KITH_OK;
}

/* Whose first task is another now. */
static void executor_slow(sim_executor *executor) {
    if (executor->slow_ns_max == 0) return;
    sim_world *world = executor->sim->world;
    executor->ready_ns = world->now_ns + kith_rng_below(&world->rng, executor->slow_ns_max);
}

static bool executor_is_ready(const sim_executor *executor) {
    return executor->first && !executor->sim->paused && executor->ready_ns <= executor->sim->world->now_ns;
}

static void executor_post(kith_executor *executor, kith_task *task) {
    sim_executor *sim = (sim_executor *)executor;
    if (!sim->first) executor_slow(sim);
    task->next = NULL;
    *sim->last = task;
    sim->last = &task->next;
    sim->queued++;
}

static void executor_run_one(sim_executor *executor) {
    uint32_t window = executor->queued < executor->thread_count ? executor->queued : executor->thread_count;
    uint64_t skip = window > 1 ? kith_rng_below(&executor->sim->world->rng, window) : 0;
    kith_task **at = &executor->first;
    while (skip-- > 0)
        at = &(*at)->next;
    kith_task *task = *at;
    *at = task->next;
    if (executor->last == &task->next) executor->last = at;
    executor->queued--;
    if (executor->first) executor_slow(executor);
    task->run(task);
}

static void executor_destroy(kith_executor *executor) {
    sim_executor *sim = (sim_executor *)executor;
    while (sim->first)
        executor_run_one(sim);
    for (kith_timer *timer = sim->sim->world->timers; timer; timer = timer->impl[0]) {
        kith_assert(timer->executor != executor);
    }
    sim_executor **at = &sim->sim->world->executors;
    while (*at != sim)
        at = &(*at)->next;
    *at = sim->next;
    kith_free(sim);
}

static uint32_t executor_thread_count(const kith_executor *executor) {
    return ((const sim_executor *)executor)->thread_count;
}

static uint32_t executor_queued(const kith_executor *executor) {
    return ((const sim_executor *)executor)->queued;
}

/* --- timers --- */

static sim_env *timer_machine(const kith_timer *timer) {
    return ((sim_executor *)timer->executor)->sim;
}

static void timer_start(kith_timer *timer) {
    kith_assert(!timer->armed);
    sim_world *world = timer_machine(timer)->world;
    timer->armed = true;
    timer->impl[0] = world->timers;
    timer->impl[1] = NULL;
    if (world->timers) world->timers->impl[1] = timer;
    world->timers = timer;
}

static void timer_unlink(kith_timer *timer) {
    kith_timer *next = timer->impl[0];
    kith_timer *previous = timer->impl[1];
    if (next) next->impl[1] = previous;
    if (previous) {
        previous->impl[0] = next;
    } else {
        timer_machine(timer)->world->timers = next;
    }
    timer->armed = false;
}

static bool timer_cancel(kith_timer *timer) {
    if (!timer->armed) return false;
    timer_unlink(timer);
    return true;
}

/* The timer due next on a machine that is not paused; of those due at once the one started first. */
static kith_timer *timer_next(const sim_world *world) {
    kith_timer *best = NULL;
    for (kith_timer *timer = world->timers; timer; timer = timer->impl[0]) {
        if (timer_machine(timer)->paused) continue;
        if (!best || timer->due_ns <= best->due_ns) best = timer;
    }
    return best;
}

/* --- the world --- */

bool sim_env_step(sim_env *sim) {
    sim_world *world = sim->world;
    uint64_t ready = 0;
    for (sim_executor *executor = world->executors; executor; executor = executor->next) {
        ready += executor_is_ready(executor);
    }
    if (ready == 0) return false;
    uint64_t skip = kith_rng_below(&world->rng, ready);
    for (sim_executor *executor = world->executors; executor; executor = executor->next) {
        if (!executor_is_ready(executor)) continue;
        if (skip-- > 0) continue;
        executor_run_one(executor);
        return true;
    }
    return false;
}

uint64_t sim_env_run(sim_env *sim) {
    uint64_t count = 0;
    while (sim_env_step(sim)) {
        count++;
        kith_assert(count < SIM_TASKS_MAX);
    }
    return count;
}

/* When a slow executor may run its first task; UINT64_MAX: none waits. */
static uint64_t slow_next_ns(const sim_world *world) {
    uint64_t next_ns = UINT64_MAX;
    for (const sim_executor *executor = world->executors; executor; executor = executor->next) {
        if (executor->slow_ns_max == 0 || !executor->first || executor->sim->paused) continue;
        if (executor->ready_ns < next_ns) next_ns = executor->ready_ns;
    }
    return next_ns;
}

void sim_env_run_for(sim_env *sim, uint64_t ns) {
    sim_world *world = sim->world;
    uint64_t end_ns = world->now_ns + ns;
    for (;;) {
        (void)sim_env_run(sim);
        kith_timer *timer = timer_next(world);
        uint64_t timer_ns = timer ? timer->due_ns : UINT64_MAX, slow_ns = slow_next_ns(world);
        uint64_t next_ns = slow_ns < timer_ns ? slow_ns : timer_ns;
        if (next_ns == UINT64_MAX || next_ns > end_ns) break;
        if (next_ns > world->now_ns) world->now_ns = next_ns;
        if (timer_ns > slow_ns) continue;
        timer_unlink(timer);
        executor_post(timer->executor, &timer->task);
    }
    world->now_ns = end_ns;
}

uint64_t sim_env_timer_next_ns(sim_env *sim) {
    kith_timer *timer = timer_next(sim->world);
    return timer ? timer->due_ns : UINT64_MAX;
}

void sim_env_slow(sim_env *sim, const char *name, uint64_t ns_max) {
    sim->slow_name = name;
    sim->slow_ns_max = ns_max;
}

void sim_env_pause(sim_env *sim, bool paused) {
    sim->paused = paused;
}

/* --- machines --- */

static uint64_t now_ns(kith_env *env) {
    return ((sim_env *)env)->world->now_ns;
}

static uint64_t wall_ms(kith_env *env) {
    return SIM_WALL_START_MS + now_ns(env) / 1000000 + (uint64_t)((sim_env *)env)->wall_ahead_ms;
}

void sim_env_wall_jump(sim_env *sim, int64_t ms) {
    sim->wall_ahead_ms += ms;
}

static void random_bytes(kith_env *env, void *data, size_t bytes) {
    uint8_t *at = data;
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)kith_rng_next(&((sim_env *)env)->rng);
}

static kith_status thread_start(kith_env *env, const char *name, void (*run)(void *ctx), void *ctx,
    kith_thread **thread_out, kith_err *err) {
    (void)env;
    (void)run;
    (void)ctx;
    (void)thread_out;
    return kith_err_set(err, KITH_UNIMPLEMENTED, "thread %s: there are no threads in the simulator", name);
}

static void thread_join(kith_thread *thread) {
    (void)thread;
}

static const kith_env_ops *ops_get(void) {
    if (!sim_ops.now_ns) {
        sim_ops = (kith_env_ops){.now_ns = now_ns,
            .wall_ms = wall_ms,
            .random_bytes = random_bytes,
            .executor_create = executor_create,
            .executor_destroy = executor_destroy,
            .executor_post = executor_post,
            .executor_thread_count = executor_thread_count,
            .executor_queued = executor_queued,
            .timer_start = timer_start,
            .timer_cancel = timer_cancel,
            .thread_start = thread_start,
            .thread_join = thread_join};
        sim_disk_ops_fill(&sim_ops);
    }
    return &sim_ops;
}

static sim_env *machine_create(sim_world *world, uint64_t seed) {
    sim_env *sim = kith_alloc_zero(sizeof *sim);
    sim->env.ops = ops_get();
    sim->world = world;
    sim->next = world->machines;
    world->machines = sim;
    kith_rng_init(&sim->rng, seed);
    sim->disk = sim_disk_create(seed ^ 0x6469736b); /* "disk": another stream than random_bytes' */
    return sim;
}

sim_env *sim_env_create(uint64_t seed) {
    sim_world *world = kith_alloc_zero(sizeof *world);
    world->now_ns = SIM_START_NS;
    kith_rng_init(&world->rng, seed ^ 0x776f726c64); /* "world" */
    return machine_create(world, seed);
}

sim_env *sim_env_create_beside(sim_env *other, uint64_t seed) {
    return machine_create(other->world, seed);
}

void sim_env_destroy(sim_env *sim) {
    if (!sim) return;
    sim_world *world = sim->world;
    for (sim_executor *executor = world->executors; executor; executor = executor->next) {
        kith_assert(executor->sim != sim);
    }
    sim_env **at = &world->machines;
    while (*at != sim)
        at = &(*at)->next;
    *at = sim->next;
    sim_disk_destroy(sim->disk);
    kith_free(sim);
    if (!world->machines) kith_free(world);
}

kith_env *sim_env_kith(sim_env *sim) {
    return &sim->env;
}
