/* The two halves of the simulated machine: sim_env.c (world, executors, timers, the table of functions) and
 * sim_env_disk.c (its files). */
#ifndef KITH_TESTS_SIM_SIM_ENV_INTERNAL_H
#define KITH_TESTS_SIM_SIM_ENV_INTERNAL_H

#include "host/base/rng.h"
#include "tests/sim/sim_env.h"

typedef struct sim_world sim_world;
typedef struct sim_disk sim_disk;

/* An armed one. */
typedef struct sim_timer {
    uint64_t due_ns;
    uint64_t number; /* in the order in which they were started */
    kith_timer *timer;
} sim_timer;

struct sim_env {
    kith_env env;
    sim_world *world;
    sim_env *next; /* in the world */
    kith_rng rng;  /* random_bytes; the disk has its own, so that what one draws does not move the other */
    sim_disk *disk;
    sim_timer *timers; /* a heap: the one due next is first */
    uint32_t timer_count, timer_capacity;
    bool paused;
    struct sim_slow {
        const char *name; /* of executors; NULL: none */
        uint64_t ns_max;
    } slow[SIM_SLOW_MAX];
    int64_t wall_ahead_ms;
};

sim_disk *sim_disk_create(uint64_t seed);
void sim_disk_destroy(sim_disk *disk);
/* Fills the file functions of `ops`. */
void sim_disk_ops_fill(kith_env_ops *ops);

#endif
