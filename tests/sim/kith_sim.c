/* kith_sim: histories of a simulated node and of a simulated cluster, from seeds. See README.md. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/log.h"
#include "host/base/rng.h"
#include "host/base/text.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_data.h"
#include "tests/sim/sim_history.h"

#define STEPS_DEFAULT   25u
#define CRASHES_DEFAULT 100u /* of one seed */
#define OTHERS          12u  /* histories of a seed with faults that are no crash */
/* Beside a cluster's history a seed has a few of a node: the faults of a node by itself have runs of their own. */
#define CRASHES_BESIDE 1u
#define OTHERS_BESIDE  1u

typedef struct settings {
    uint64_t from, seeds, crashes, steps;
    bool trace;
    bool one; /* only the history that --fault and --at name */
    bool node, cluster, data;
    bool first; /* the first violation ends it */
    bool moves, async;
    bool trace_network;
    uint64_t fault, at, crash_mode, again, fail, mutant, replicas, protocol_mutant;
} settings;

typedef struct totals {
    uint64_t histories, violations, crashes, reported, flips, writes, seals, merges, restarts;
    uint64_t clusters;
    sim_cluster_outcome cluster; /* sums */
    uint64_t datas;
    sim_data_history_outcome data; /* sums */
    uint64_t data_reported, data_in_doubt;
} totals;

static void violation_print(const sim_history_options *options, const sim_outcome *outcome) {
    printf("seed %llu, %s %llu (--from %llu --steps %u --fault %d --at %llu --crash-mode %d --again %d "
           "--fail %d): "
           "%s\n",
        (unsigned long long)options->seed, sim_fault_name(options->fault), (unsigned long long)options->at,
        (unsigned long long)options->seed, options->step_count, (int)options->fault,
        (unsigned long long)options->at, (int)options->crash_mode, options->crash_again, (int)options->fail,
        outcome->text);
    fflush(stdout);
}

static sim_outcome history_do(const sim_history_options *options, totals *sum) {
    sim_outcome outcome;
    sim_history_run(options, &outcome);
    sum->histories++;
    sum->violations += outcome.violated;
    sum->reported += outcome.reported;
    sum->writes += outcome.writes;
    sum->seals += outcome.seals;
    sum->merges += outcome.merges;
    sum->restarts += outcome.restarts;
    sum->crashes +=
        options->fault == SIM_FAULT_CRASH_AT_FILE_OP || options->fault == SIM_FAULT_CRASH_AT_FLUSH;
    sum->flips += options->fault == SIM_FAULT_FLIP;
    if (outcome.violated) violation_print(options, &outcome);
    return outcome;
}

/* Crash point `point` of file operations and flushes together. */
static void crash_do(
    sim_history_options options, uint64_t point, const sim_outcome *plain, kith_rng *rng, totals *sum) {
    bool at_flush = point >= plain->file_ops;
    options.fault = at_flush ? SIM_FAULT_CRASH_AT_FLUSH : SIM_FAULT_CRASH_AT_FILE_OP;
    options.at = at_flush ? point - plain->file_ops : point;
    options.crash_mode = (sim_crash_mode)(SIM_CRASH_KEEP_ALL + kith_rng_below(rng, 4));
    options.crash_again = kith_rng_below(rng, 3) == 0;
    history_do(&options, sum);
}

/* Every crash point where there are few enough, else as many spread evenly. */
static void crashes_do(
    const sim_history_options *options, const sim_outcome *plain, uint64_t most, kith_rng *rng, totals *sum) {
    uint64_t points = plain->file_ops + plain->flushes;
    uint64_t count = points < most ? points : most;
    for (uint64_t i = 0; i < count; i++)
        crash_do(*options, i * points / count, plain, rng, sum);
}

static void others_do(sim_history_options options, uint32_t count, kith_rng *rng, totals *sum) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t which = count == OTHERS ? i : (uint32_t)kith_rng_below(rng, 3);
        options.fault = which % 3 == 0   ? SIM_FAULT_FLIP
                        : which % 3 == 1 ? SIM_FAULT_NO_SPACE
                                         : SIM_FAULT_FAIL;
        options.at = kith_rng_below(rng, options.step_count);
        options.fail = (sim_fail_kind)kith_rng_below(rng, SIM_FAIL_KINDS);
        history_do(&options, sum);
    }
}

static void node_seed_do(uint64_t seed, const settings *set, totals *sum) {
    kith_rng rng;
    sim_history_options options = {.seed = seed,
        .step_count = (uint32_t)set->steps,
        .trace = set->trace,
        .crash_mode = SIM_CRASH_LOSE_ALL};
    kith_rng_init(&rng, seed);
    sim_outcome plain = history_do(&options, sum);
    if (plain.violated) return;
    if (set->cluster) {
        for (uint32_t i = 0; i < CRASHES_BESIDE; i++)
            crash_do(options, kith_rng_below(&rng, plain.file_ops + plain.flushes), &plain, &rng, sum);
        others_do(options, OTHERS_BESIDE, &rng, sum);
    } else {
        crashes_do(&options, &plain, set->crashes, &rng, sum);
        others_do(options, OTHERS, &rng, sum);
    }
}

static void counts_sum(sim_world_counts *sum, const sim_world_counts *one) {
    sum->crashes += one->crashes;
    sum->stops += one->stops;
    sum->cuts += one->cuts;
    sum->transfers += one->transfers;
    sum->memberships += one->memberships;
    sum->jumps += one->jumps;
    sum->flips += one->flips;
    sum->changes += one->changes;
    sum->burnt += one->burnt;
    sum->messages += one->messages;
    sum->lost += one->lost;
}

static void cluster_sum(sim_cluster_outcome *sum, const sim_cluster_outcome *one) {
    sum->commands += one->commands;
    sum->acknowledged += one->acknowledged;
    sum->maps += one->maps;
    sum->terms += one->terms;
    counts_sum(&sum->counts, &one->counts);
    sum->virtual_ms += one->virtual_ms;
}

static void cluster_seed_do(uint64_t seed, const settings *set, totals *sum) {
    sim_cluster_options options = {.seed = seed,
        .trace = set->trace,
        .trace_network = set->trace_network,
        .mutant = (sim_mutant)set->mutant};
    sim_cluster_outcome outcome;
    sim_cluster_run(&options, &outcome);
    sum->histories++;
    sum->clusters++;
    sum->violations += outcome.violated;
    cluster_sum(&sum->cluster, &outcome);
    if (!outcome.violated) return;
    printf("seed %llu (--mode cluster --from %llu%s%s): %s\n", (unsigned long long)seed,
        (unsigned long long)seed, set->mutant ? " --mutant " : "",
        set->mutant ? sim_mutant_name(options.mutant) : "", outcome.text);
    fflush(stdout);
}

static void data_sum(sim_data_history_outcome *sum, const sim_data_history_outcome *one) {
    sum->writes += one->writes;
    sum->acknowledged += one->acknowledged;
    sum->seen += one->seen;
    sum->requests += one->requests;
    sum->failures += one->failures;
    sum->undecided += one->undecided;
    counts_sum(&sum->counts, &one->counts);
    sum->virtual_ms += one->virtual_ms;
}

static void data_seed_do(uint64_t seed, const settings *set, totals *sum) {
    sim_data_history_options options = {.seed = seed,
        .trace = set->trace,
        .trace_network = set->trace_network,
        .replicas = (uint32_t)set->replicas,
        .moves = set->moves,
        .async = set->async,
        .mutant = (sim_mutant)set->mutant};
    sim_data_history_outcome outcome;
    sim_data_history_run(&options, &outcome);
    sum->histories++;
    sum->datas++;
    sum->violations += outcome.violated;
    sum->data_reported += outcome.reported;
    sum->data_in_doubt += outcome.in_doubt;
    data_sum(&sum->data, &outcome);
    if (!outcome.violated) return;
    printf("seed %llu (--mode data --from %llu --replicas %llu%s%s%s%s): %s\n", (unsigned long long)seed,
        (unsigned long long)seed, (unsigned long long)set->replicas, set->moves ? " --moves" : "",
        set->async ? " --async" : "", set->mutant ? " --mutant " : "",
        set->mutant ? sim_mutant_name(options.mutant) : "", outcome.text);
    fflush(stdout);
}

static void seed_do(uint64_t seed, const settings *set, totals *sum) {
    if (set->data) data_seed_do(seed, set, sum);
    if (set->cluster) cluster_seed_do(seed, set, sum);
    if (set->node) node_seed_do(seed, set, sum);
}

static void one_do(const settings *set, totals *sum) {
    sim_history_options options = {.seed = set->from,
        .step_count = (uint32_t)set->steps,
        .trace = set->trace,
        .fault = (sim_fault_kind)set->fault,
        .at = set->at,
        .crash_mode = (sim_crash_mode)set->crash_mode,
        .crash_again = set->again != 0,
        .fail = (sim_fail_kind)set->fail};
    history_do(&options, sum);
}

static const char usage[] =
    "kith_sim --from SEED --seeds N [--mode node|cluster|data] [--first] [--trace] [--trace-network]\n"
    "         node: [--ops N] [--crashes N]   cluster: [--mutant N]   data: [--replicas 1..3] [--moves] "
    "[--async] "
    "[--mutant N]\n"
    "         kith_sim_mutants, data: [--protocol-mutant N]\n"
    "kith_sim --mode node --from SEED --ops N --fault N --at N [--crash-mode N] [--again N] [--fail N] "
    "[--trace]\n";

static bool mode_read(settings *set, const char *value) {
    set->node = value && strcmp(value, "node") == 0;
    set->cluster = value && strcmp(value, "cluster") == 0;
    set->data = value && strcmp(value, "data") == 0;
    return set->node || set->cluster || set->data;
}

static bool option_read(settings *set, const char *name, const char *value) {
    const struct {
        const char *name;
        uint64_t *value;
    } options[] = {{"--from", &set->from}, {"--seeds", &set->seeds}, {"--ops", &set->steps},
        {"--steps", &set->steps}, {"--crashes", &set->crashes}, {"--fault", &set->fault}, {"--at", &set->at},
        {"--crash-mode", &set->crash_mode}, {"--again", &set->again}, {"--fail", &set->fail},
        {"--mutant", &set->mutant}, {"--replicas", &set->replicas},
        {"--protocol-mutant", &set->protocol_mutant}};
    if (strcmp(name, "--mode") == 0) return mode_read(set, value);
    if (strcmp(name, "--fault") == 0) set->one = true;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(name, options[i].name) == 0)
            return value && kith_text_parse_u64(value, strlen(value), options[i].value);
    }
    return false;
}

static bool protocol_mutant_set(uint64_t mutant) {
    if (mutant == 0) return true;
    return mutant < UINT32_MAX && sim_data_mutant_set && sim_data_mutant_set((uint32_t)mutant);
}

static bool options_read(settings *set, int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--trace") == 0)
            set->trace = true;
        else if (strcmp(arguments[i], "--trace-network") == 0)
            set->trace = set->trace_network = true;
        else if (strcmp(arguments[i], "--first") == 0)
            set->first = true;
        else if (strcmp(arguments[i], "--moves") == 0)
            set->moves = true;
        else if (strcmp(arguments[i], "--async") == 0)
            set->async = true;
        else if (!option_read(set, arguments[i], i + 1 < count ? arguments[i + 1] : NULL))
            return false;
        else
            i++;
    }
    /* An only copy loses what it had not synced, and says so: nothing could be checked. There are three data nodes at first. */
    if ((set->async && set->replicas < 2) || set->replicas > 3) return false;
    return set->steps > 0 && set->crashes > 0 && set->mutant < SIM_MUTANTS &&
           protocol_mutant_set(set->protocol_mutant);
}

/* Faults are expected here: their log lines help only when one history is traced. */
static void log_nowhere(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)ctx, (void)level, (void)line, (void)bytes;
}

static void node_print(const totals *sum) {
    printf("%llu writes, %llu seals, %llu merges, %llu starts; %llu crash points, %llu of %llu flipped bits "
           "reported\n",
        (unsigned long long)sum->writes, (unsigned long long)sum->seals, (unsigned long long)sum->merges,
        (unsigned long long)sum->restarts, (unsigned long long)sum->crashes,
        (unsigned long long)sum->reported, (unsigned long long)sum->flips);
}

static void cluster_print(const totals *sum) {
    const sim_cluster_outcome *all = &sum->cluster;
    printf("%llu clusters in %llu virtual s: %llu commands, %llu acknowledged; %llu maps, %llu terms; %llu "
           "deaths, %llu stops, %llu cuts, %llu transfers, %llu joins and leaves; %llu messages, %llu lost\n",
        (unsigned long long)sum->clusters, (unsigned long long)all->virtual_ms / 1000,
        (unsigned long long)all->commands, (unsigned long long)all->acknowledged,
        (unsigned long long)all->maps, (unsigned long long)all->terms,
        (unsigned long long)all->counts.crashes, (unsigned long long)all->counts.stops,
        (unsigned long long)all->counts.cuts, (unsigned long long)all->counts.transfers,
        (unsigned long long)all->counts.memberships, (unsigned long long)all->counts.messages,
        (unsigned long long)all->counts.lost);
}

static void data_print(const totals *sum) {
    const sim_data_history_outcome *all = &sum->data;
    printf("%llu data histories in %llu virtual s: %llu writes, %llu acknowledged; %llu requests, %llu "
           "failed; %llu "
           "points seen, %llu undecided; %llu of %llu flipped bits reported; %llu deaths, %llu stops, %llu "
           "cuts, %llu "
           "transfers, %llu changes, %llu burnt, %llu left to an operator; %llu messages, %llu lost\n",
        (unsigned long long)sum->datas, (unsigned long long)all->virtual_ms / 1000,
        (unsigned long long)all->writes, (unsigned long long)all->acknowledged,
        (unsigned long long)all->requests, (unsigned long long)all->failures, (unsigned long long)all->seen,
        (unsigned long long)all->undecided, (unsigned long long)sum->data_reported,
        (unsigned long long)all->counts.flips, (unsigned long long)all->counts.crashes,
        (unsigned long long)all->counts.stops, (unsigned long long)all->counts.cuts,
        (unsigned long long)all->counts.transfers, (unsigned long long)all->counts.changes,
        (unsigned long long)all->counts.burnt, (unsigned long long)sum->data_in_doubt,
        (unsigned long long)all->counts.messages, (unsigned long long)all->counts.lost);
}

/* In place of the C library's: a shard gives memory back after each of its seals, and a simulated one seals a few rows. */
int malloc_trim(size_t pad) {
    (void)pad;
    return 0;
}

int main(int count, char **arguments) {
    settings set = {.from = 1,
        .seeds = 1,
        .crashes = CRASHES_DEFAULT,
        .steps = STEPS_DEFAULT,
        .node = true,
        .cluster = true,
        .crash_mode = SIM_CRASH_LOSE_ALL};
    totals sum = {0};
    if (!options_read(&set, count, arguments)) {
        fputs(usage, stderr);
        return 2;
    }
    /* Each history allocates much the same again: giving the memory back in between costs a third of the time. */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
    setvbuf(stdout, NULL, _IOLBF, 0); /* the story is whole also when an assertion ends it */
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, set.trace ? NULL : log_nowhere, NULL);
    if (set.one) one_do(&set, &sum);
    for (uint64_t i = 0; i < test_scaled(set.seeds) && !set.one && !(set.first && sum.violations); i++)
        seed_do(set.from + i, &set, &sum);
    if (set.node) node_print(&sum);
    if (sum.clusters) cluster_print(&sum);
    if (sum.datas) data_print(&sum);
    printf("%llu histories, %llu violations\n", (unsigned long long)sum.histories,
        (unsigned long long)sum.violations);
    return sum.violations ? 1 : 0;
}
