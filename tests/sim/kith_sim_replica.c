/* kith_sim_replica: histories of the replication protocol, from seeds. See README.md. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/base/text.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_replica.h"

typedef struct settings {
    uint64_t from, seeds, mutant;
    bool trace;
    bool expected; /* a violation: it ends with the first, and without one it fails */
} settings;

static const char usage[] = "kith_sim_replica --from SEED --seeds N [--trace] [--mutant N [--expected]]\n";

static bool number_read(settings *set, const char *name, const char *value) {
    uint64_t *number = strcmp(name, "--from") == 0     ? &set->from
                       : strcmp(name, "--seeds") == 0  ? &set->seeds
                       : strcmp(name, "--mutant") == 0 ? &set->mutant
                                                       : NULL;
    return number && value && kith_text_parse_u64(value, strlen(value), number);
}

static bool settings_read(settings *set, int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--trace") == 0)
            set->trace = true;
        else if (strcmp(arguments[i], "--expected") == 0)
            set->expected = true;
        else if (!number_read(set, arguments[i], i + 1 < count ? arguments[i + 1] : NULL))
            return false;
        else
            i++;
    }
    return set->mutant < SIM_REPLICA_MUTANTS;
}

static void sum_up(sim_replica_outcome *sum, const sim_replica_outcome *one) {
    sum->events += one->events;
    sum->writes += one->writes;
    sum->acknowledged += one->acknowledged;
    sum->reads += one->reads;
    sum->answered += one->answered;
    sum->epochs += one->epochs;
    sum->crashes += one->crashes;
    sum->installs += one->installs;
    sum->truncations += one->truncations;
    sum->virtual_ms += one->virtual_ms;
}

static void sum_print(const sim_replica_outcome *sum) {
    printf("%llu virtual s, %llu events; %llu writes, %llu acknowledged; %llu reads, %llu answered; %llu "
           "epochs, %llu "
           "deaths, %llu snapshots, %llu tails cut off\n",
        (unsigned long long)sum->virtual_ms / 1000, (unsigned long long)sum->events,
        (unsigned long long)sum->writes, (unsigned long long)sum->acknowledged,
        (unsigned long long)sum->reads, (unsigned long long)sum->answered, (unsigned long long)sum->epochs,
        (unsigned long long)sum->crashes, (unsigned long long)sum->installs,
        (unsigned long long)sum->truncations);
}

/* An assertion of the product ends the history that it is in: it too is a violation. */
static uint64_t seed_now;
static bool assertion_expected;

static void aborted(int number) {
    (void)number;
    printf(
        "seed %llu: an assertion failed\n", (unsigned long long)seed_now); /* this thread is the only one */
    fflush(stdout);
    _exit(assertion_expected ? 0 : 1);
}

static uint64_t histories_run(
    const settings *set, uint64_t seeds, sim_replica_outcome *sum, uint64_t *histories_out) {
    sim_replica_outcome one;
    uint64_t violations = 0;
    for (uint64_t i = 0; i < seeds && !(set->expected && violations); i++) {
        seed_now = set->from + i;
        sim_replica_run(
            &(sim_replica_options){.seed = seed_now, .mutant = (uint32_t)set->mutant, .trace = set->trace},
            &one);
        ++*histories_out;
        sum_up(sum, &one);
        if (!one.violated) continue;
        violations++;
        printf("seed %llu: %s\n", (unsigned long long)seed_now, one.text);
    }
    return violations;
}

int main(int count, char **arguments) {
    settings set = {.from = 1, .seeds = 1};
    if (!settings_read(&set, count, arguments)) {
        fputs(usage, stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGABRT, aborted);
    assertion_expected = set.expected;
    sim_replica_outcome sum = {0};
    uint64_t histories = 0;
    uint64_t violations =
        histories_run(&set, set.expected ? set.seeds : test_scaled(set.seeds), &sum, &histories);
    sum_print(&sum);
    printf(
        "%llu histories, %llu violations\n", (unsigned long long)histories, (unsigned long long)violations);
    return set.expected ? !violations : violations != 0;
}
