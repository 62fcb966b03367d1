/* Virtual time: executors are queues, the seed picks whose task runs next, timers are a heap a machine that the clock
 * jumps along. A task of an executor with several threads may overtake as many others as it has threads.
 *
 * Which executors may run is kept as a set, and not found out by looking at each: a history has some 40 of them and 50,000
 * tasks. */
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
    struct sim_executor *next_slow; /* in the world */
    uint32_t index;                 /* in the world's array */
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
    sim_executor **executors; /* oldest first */
    uint32_t executor_count, executor_capacity;
    uint64_t *ready; /* a bit an executor: its first task may run now */
    uint32_t ready_count;
    sim_executor *slow; /* those that are */
    uint64_t timers_started;
};

static kith_env_ops sim_ops;

/* --- the executors that may run --- */

static uint32_t word_count(uint32_t executors) {
    return (executors + 63) / 64;
}

static bool executor_is_ready(const sim_executor *executor) {
    return executor->first && !executor->sim->paused && executor->ready_ns <= executor->sim->world->now_ns;
}

/* Whether it may run may have changed. */
static void executor_look(const sim_executor *executor) {
    sim_world *world = executor->sim->world;
    uint64_t *word = &world->ready[executor->index / 64], bit = 1ULL << executor->index % 64;
    bool was = *word & bit, is = executor_is_ready(executor);
    if (was == is) return;
    *word ^= bit;
    world->ready_count += is ? 1u : UINT32_MAX;
}

/* The ready one with `skip` newer ready ones. */
static sim_executor *executor_ready(const sim_world *world, uint64_t skip) {
    uint32_t at = word_count(world->executor_count) - 1;
    for (uint64_t count; at > 0 && (count = (uint64_t)__builtin_popcountll(world->ready[at])) <= skip; at--)
        skip -= count;
    uint64_t word = world->ready[at];
    for (; skip > 0; skip--)
        word &= ~(1ULL << (63 - __builtin_clzll(word)));
    return world->executors[at * 64 + 63 - (uint32_t)__builtin_clzll(word)];
}

static void executors_look(sim_world *world) {
    memset(world->ready, 0, word_count(world->executor_count) * sizeof *world->ready);
    world->ready_count = 0;
    for (uint32_t i = 0; i < world->executor_count; i++) {
        world->executors[i]->index = i;
        executor_look(world->executors[i]);
    }
}

static void time_set(sim_world *world, uint64_t now_ns) {
    world->now_ns = now_ns;
    for (const sim_executor *executor = world->slow; executor; executor = executor->next_slow)
        executor_look(executor);
}

/* --- executors --- */

static void executor_add(sim_world *world, sim_executor *executor) {
    if (world->executor_count == world->executor_capacity) {
        world->executor_capacity += 64;
        world->executors =
            kith_realloc(world->executors, world->executor_capacity * sizeof *world->executors);
        world->ready =
            kith_realloc(world->ready, word_count(world->executor_capacity) * sizeof *world->ready);
        world->ready[word_count(world->executor_capacity) - 1] = 0;
    }
    executor->index = world->executor_count;
    world->executors[world->executor_count++] = executor;
    if (executor->slow_ns_max == 0) return;
    executor->next_slow = world->slow;
    world->slow = executor;
}

static void executor_remove(sim_world *world, const sim_executor *executor) {
    world->executor_count--;
    for (uint32_t i = executor->index; i < world->executor_count; i++)
        world->executors[i] = world->executors[i + 1];
    if (world->executor_count % 64 == 0) world->ready[world->executor_count / 64] = 0;
    executors_look(world);
    if (executor->slow_ns_max == 0) return;
    sim_executor **at = &world->slow;
    while (*at != executor)
        at = &(*at)->next_slow;
    *at = executor->next_slow;
}

/* Virtual time has no processors to give way on. */
static kith_status executor_create(kith_env *env, const char *name, uint32_t thread_count, bool patient,
    kith_executor **executor_out, kith_err *err) {
    (void)patient;
    (void)err;
    sim_env *sim = (sim_env *)env;
    sim_executor *executor = kith_alloc_zero(sizeof *executor);
    executor->executor.ops = env->ops;
    executor->sim = sim;
    executor->thread_count = thread_count;
    executor->last = &executor->first;
    for (uint32_t i = 0; i < SIM_SLOW_MAX && sim->slow[i].name; i++) {
        if (strcmp(sim->slow[i].name, name) == 0) executor->slow_ns_max = sim->slow[i].ns_max;
    }
    executor_add(sim->world, executor);
    *executor_out = &executor->executor;
    return KITH_OK;
}

/* Whose first task is another now. */
static void executor_slow(sim_executor *executor) {
    if (executor->slow_ns_max == 0) return;
    sim_world *world = executor->sim->world;
    executor->ready_ns = world->now_ns + kith_rng_below(&world->rng, executor->slow_ns_max);
}

static void executor_post(kith_executor *executor, kith_task *task) {
    sim_executor *sim = (sim_executor *)executor;
    bool was_empty = !sim->first;
    task->next = NULL;
    *sim->last = task;
    sim->last = &task->next;
    sim->queued++;
    if (!was_empty) return;
    executor_slow(sim);
    executor_look(sim);
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
    executor_look(executor);
    task->run(task);
}

static void executor_destroy(kith_executor *executor) {
    sim_executor *sim = (sim_executor *)executor;
    while (sim->first)
        executor_run_one(sim);
    for (uint32_t i = 0; i < sim->sim->timer_count; i++) {
        kith_assert(sim->sim->timers[i].timer->executor != executor);
    }
    executor_remove(sim->sim->world, sim);
    kith_free(sim);
}

static uint32_t executor_thread_count(const kith_executor *executor) {
    return ((const sim_executor *)executor)->thread_count;
}

static uint32_t executor_queued(const kith_executor *executor) {
    return ((const sim_executor *)executor)->queued;
}

/* --- timers: a heap; impl[0] is the place in it --- */

static sim_env *timer_machine(const kith_timer *timer) {
    return ((sim_executor *)timer->executor)->sim;
}

/* Of those due at once the one started first. */
static bool timer_is_before(const sim_timer *a, const sim_timer *b) {
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number);
}

static void timer_place(sim_env *sim, uint32_t place, const sim_timer *one) {
    sim->timers[place] = *one;
    one->timer->impl[0] = (void *)(uintptr_t)place;
}

static void timer_rise(sim_env *sim, uint32_t place, const sim_timer *one) {
    for (; place > 0; place = (place - 1) / 2) {
        const sim_timer *above = &sim->timers[(place - 1) / 2];
        if (!timer_is_before(one, above)) break;
        timer_place(sim, place, above);
    }
    timer_place(sim, place, one);
}

static void timer_sink(sim_env *sim, uint32_t place, const sim_timer *one) {
    for (;;) {
        uint32_t below = 2 * place + 1;
        if (below >= sim->timer_count) break;
        if (below + 1 < sim->timer_count && timer_is_before(&sim->timers[below + 1], &sim->timers[below]))
            below++;
        if (!timer_is_before(&sim->timers[below], one)) break;
        timer_place(sim, place, &sim->timers[below]);
        place = below;
    }
    timer_place(sim, place, one);
}

static void timer_start(kith_timer *timer) {
    kith_assert(!timer->armed);
    sim_env *sim = timer_machine(timer);
    if (sim->timer_count == sim->timer_capacity) {
        sim->timer_capacity = sim->timer_capacity ? 2 * sim->timer_capacity : 64;
        sim->timers = kith_realloc(sim->timers, sim->timer_capacity * sizeof *sim->timers);
    }
    timer->armed = true;
    const sim_timer one = {timer->due_ns, sim->world->timers_started++, timer};
    timer_rise(sim, sim->timer_count++, &one);
}

static void timer_unlink(kith_timer *timer) {
    sim_env *sim = timer_machine(timer);
    uint32_t place = (uint32_t)(uintptr_t)timer->impl[0];
    timer->armed = false;
    const sim_timer last = sim->timers[--sim->timer_count];
    if (last.timer == timer) return;
    if (place > 0 && timer_is_before(&last, &sim->timers[(place - 1) / 2]))
        timer_rise(sim, place, &last);
    else
        timer_sink(sim, place, &last);
}

static bool timer_cancel(kith_timer *timer) {
    if (!timer->armed) return false;
    timer_unlink(timer);
    return true;
}

/* The timer due next on a machine that is not paused. */
static kith_timer *timer_next(const sim_world *world) {
    const sim_timer *best = NULL;
    for (const sim_env *sim = world->machines; sim; sim = sim->next) {
        if (sim->paused || sim->timer_count == 0) continue;
        if (!best || timer_is_before(&sim->timers[0], best)) best = &sim->timers[0];
    }
    return best ? best->timer : NULL;
}

/* --- the world --- */

bool sim_env_step(sim_env *sim) {
    sim_world *world = sim->world;
    if (world->ready_count == 0) return false;
    executor_run_one(executor_ready(world, kith_rng_below(&world->rng, world->ready_count)));
    return true;
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
    for (const sim_executor *executor = world->slow; executor; executor = executor->next_slow) {
        if (!executor->first || executor->sim->paused) continue;
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
        if (next_ns > world->now_ns) time_set(world, next_ns);
        if (timer_ns > slow_ns) continue;
        timer_unlink(timer);
        executor_post(timer->executor, &timer->task);
    }
    time_set(world, end_ns);
}

uint64_t sim_env_timer_next_ns(sim_env *sim) {
    kith_timer *timer = timer_next(sim->world);
    return timer ? timer->due_ns : UINT64_MAX;
}

void sim_env_slow(sim_env *sim, const char *name, uint64_t ns_max) {
    uint32_t i = 0;
    while (i < SIM_SLOW_MAX && sim->slow[i].name && strcmp(sim->slow[i].name, name) != 0)
        i++;
    kith_assert(i < SIM_SLOW_MAX);
    sim->slow[i] = (struct sim_slow){.name = name, .ns_max = ns_max};
}

void sim_env_pause(sim_env *sim, bool paused) {
    sim->paused = paused;
    executors_look(sim->world);
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
    for (uint32_t i = 0; i < world->executor_count; i++) {
        kith_assert(world->executors[i]->sim != sim);
    }
    sim_env **at = &world->machines;
    while (*at != sim)
        at = &(*at)->next;
    *at = sim->next;
    sim_disk_destroy(sim->disk);
    kith_free(sim->timers);
    kith_free(sim);
    if (world->machines) return;
    kith_free(world->executors);
    kith_free(world->ready);
    kith_free(world);
}

kith_env *sim_env_kith(sim_env *sim) {
    return &sim->env;
}
