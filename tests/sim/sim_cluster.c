/* The history of the metadata: what happens when, and what must be true in the end. */
#include "tests/sim/sim_cluster.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/sim_cluster_client.h"
#include "tests/sim/sim_world.h"

#define LIVE_MS 10000ULL /* from healing to an acknowledged command, at most */
/* From the last command to one map everywhere, at most: a small snapshot that was lost is sent again after 2 s. */
#define SETTLE_MS 10000ULL
#define IDLE_MS   10000ULL /* for the client's last commands */

typedef struct sim_cluster {
    const sim_cluster_options *options;
    sim_world world;
    sim_check *check;
    sim_client *client;
} sim_cluster;

/* --- the phases of a history --- */

static void look(void *ctx) {
    sim_cluster *cluster = ctx;
    const char *violation = sim_check_violation(cluster->check);
    if (violation) sim_world_blame(&cluster->world, "%s", violation);
}

/* Everything works again: within bounded time a command is acknowledged. */
static void recovery(sim_cluster *cluster) {
    sim_world *world = &cluster->world;
    if (!world->over) sim_world_heal(world);
    uint64_t healed_ns = kith_env_now_ns(world->env);
    uint64_t end_ms = sim_world_now_ms(world) + LIVE_MS;
    while (!world->over && sim_client_acknowledged_count(cluster->client, healed_ns) == 0) {
        if (sim_world_now_ms(world) > end_ms)
            sim_world_blame(world, "no command was acknowledged within %llu ms of healing", LIVE_MS);
        sim_world_run_for(world, 20 * SIM_MS);
    }
}

/* The client's last commands end; all nodes come to the same map. */
static void settling(sim_cluster *cluster) {
    sim_world *world = &cluster->world;
    sim_client_stop(cluster->client);
    uint64_t end_ms = sim_world_now_ms(world) + IDLE_MS;
    while (!world->over && !sim_client_is_idle(cluster->client)) {
        if (sim_world_now_ms(world) > end_ms) sim_world_blame(world, "a command of the client never ended");
        sim_world_run_for(world, 20 * SIM_MS);
    }
    sim_world_one_map_await(world, SETTLE_MS);
    if (world->over) return;
    sim_check_finish(cluster->check);
    look(cluster);
}

/* --- set-up --- */

static void node_create(
    sim_cluster *cluster, uint32_t number, uint32_t snapshot_threshold, bool one_executor) {
    sim_node_options options = sim_world_node_options(&cluster->world, cluster->options->seed, number);
    options.check = cluster->check;
    options.snapshot_threshold = snapshot_threshold;
    options.one_executor = one_executor;
    options.mutant = cluster->options->mutant;
    cluster->world.nodes[number] = sim_node_create(&options);
}

static void client_create(sim_cluster *cluster) {
    static const char *addresses[SIM_COORDINATORS_MAX];
    sim_world *world = &cluster->world;
    for (uint32_t i = 0; i <= world->coordinator_count; i++)
        addresses[i] = sim_node_address(i);
    sim_client_options options = {.env = world->env,
        .network = world->network,
        .address = "client:7442",
        .coordinators = addresses,
        .coordinator_count = world->coordinator_count + 1,
        .check = cluster->check,
        .seed = cluster->options->seed,
        .tell = world->trace ? sim_world_tell_text : NULL,
        .ctx = world};
    cluster->client = sim_client_create(&options);
}

static uint32_t coordinators_draw(sim_world *world) {
    static const uint32_t counts[] = {1, 3, 3, 5, 3, 3};
    return counts[sim_world_below(world, 6)];
}

static void setup(sim_cluster *cluster) {
    sim_world *world = &cluster->world;
    sim_world_init(world, cluster->options->seed, 0x636c7573746572 /* "cluster" */, cluster->options->trace,
        cluster->options->trace_network);
    world->look = look;
    world->ctx = cluster;
    cluster->check = sim_check_create();
    world->has_spare = true;
    world->coordinator_count = coordinators_draw(world);
    world->node_count = world->coordinator_count + 1 + 2 + (uint32_t)sim_world_below(world, 5);
    uint32_t snapshot_threshold = sim_world_below(world, 2) ? 8 : 64;
    bool one_executor = sim_world_below(world, 2);
    sim_world_weights_draw(world);
    sim_world_hosts_make(world);
    client_create(cluster);
    for (uint32_t i = 0; i < world->node_count; i++)
        node_create(cluster, i, snapshot_threshold, one_executor);
    for (uint32_t i = 0; i < world->node_count; i++)
        sim_world_node_start(world, i);
    sim_client_start(cluster->client);
}

static void outcome_fill(const sim_cluster *cluster, sim_cluster_outcome *outcome) {
    outcome->maps = sim_check_map_count(cluster->check);
    outcome->acknowledged = sim_check_acknowledged_count(cluster->check);
    outcome->commands = sim_check_command_count(cluster->check);
    outcome->terms = sim_check_term_count(cluster->check);
    outcome->virtual_ms = sim_world_now_ms(&cluster->world);
}

static bool client_is_idle(void *ctx) {
    return sim_client_is_idle(((const sim_cluster *)ctx)->client);
}

static void teardown(sim_cluster *cluster, sim_cluster_outcome *outcome) {
    sim_client_stop(cluster->client);
    bool closed = sim_world_close(&cluster->world, client_is_idle, cluster);
    outcome->counts = cluster->world.counts;
    outcome->violated = cluster->world.text[0];
    snprintf(outcome->text, sizeof outcome->text, "%s", cluster->world.text);
    if (!closed) return; /* it is left as it is: the violation says so */
    sim_client_destroy(cluster->client);
    sim_world_fini(&cluster->world);
    sim_check_destroy(cluster->check);
}

void sim_cluster_run(const sim_cluster_options *options, sim_cluster_outcome *outcome_out) {
    *outcome_out = (sim_cluster_outcome){0};
    sim_cluster history = {.options = options};
    setup(&history);
    sim_world_run_for(&history.world, (300 + sim_world_below(&history.world, 1200)) * SIM_MS);
    sim_world_trouble(&history.world, 1500 + sim_world_below(&history.world, 4000));
    recovery(&history);
    settling(&history);
    outcome_fill(&history, outcome_out);
    teardown(&history, outcome_out);
}
