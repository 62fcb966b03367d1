/* The metadata as one register with compare-and-set, and coordinators that suspect whom they like. */
#include <stdio.h>

#include "tests/sim/sim_replica_internal.h"

static kith_replica_config *newest(sim_world *world) {
    return &world->configs[world->epoch];
}

static void config_print(const kith_replica_config *config, char *text, size_t bytes) {
    size_t used = (size_t)snprintf(text, bytes, "epoch %llu:", (unsigned long long)config->epoch);
    for (uint32_t i = 0; i < config->replica_count && used < bytes; i++)
        used += (size_t)snprintf(
            text + used, bytes - used, " %u%s", config->replicas[i], config->in_sync & 1u << i ? "*" : "");
}

static void push(sim_world *world, uint32_t number, uint64_t in_ns) {
    if (sim_is_lost(world, 0, number)) return;
    sim_at(world, in_ns, (sim_event){.kind = SIM_EVENT_MAP, .node = number, .a = (uint32_t)world->epoch});
}

/* A node in four has to wait for the next time. */
static void push_all(sim_world *world) {
    for (uint32_t i = 1; i <= world->node_count; i++) {
        if (world->healed || !sim_percent(world, 25)) push(world, i, sim_delay_ns(world));
    }
}

static void config_set(sim_world *world, kith_replica_config config, const char *why) {
    config.epoch = ++world->epoch;
    config.min_in_sync = (uint32_t)world->min_in_sync;
    world->configs[world->epoch] = config;
    world->outcome->epochs++;
    char text[128];
    config_print(&config, text, sizeof text);
    TRACE(world, "%s: %s", why, text);
    push_all(world);
}

void sim_meta_start(sim_world *world) {
    kith_replica_config config = {.replica_count = (uint8_t)(1 + sim_below(world, world->node_count))};
    if (config.replica_count == 1) config.replica_count = 2;
    for (uint32_t i = 0; i < config.replica_count; i++)
        config.replicas[i] = i + 1;
    config.in_sync = (uint8_t)((1u << config.replica_count) - 1);
    world->epoch = 0;
    config_set(world, config, "made");
    sim_at(world, LEASE_NS, (sim_event){.kind = SIM_EVENT_COORDINATOR});
    sim_at(world, LEASE_NS, (sim_event){.kind = SIM_EVENT_PUSH});
}

/* --- proposals --- */

void sim_meta_propose(sim_world *world, sim_node *node, const kith_replica_config *config) {
    uint32_t id = ++world->proposal_last;
    world->proposals[id % CALLS] =
        (sim_proposal){.node = node->number, .process = node->process, .config = *config};
    char text[128];
    config_print(config, text, sizeof text);
    TRACE(world, "node %u proposes in place of %s", node->number, text);
    uint64_t delay_ns = sim_delay_ns(world);
    if (!world->healed && sim_percent(world, 10)) delay_ns += sim_below(world, 5 * LEASE_NS);
    if (!sim_is_lost(world, node->number, 0))
        sim_at(world, delay_ns, (sim_event){.kind = SIM_EVENT_PROPOSAL, .a = id});
    sim_at(world, LEASE_NS + sim_below(world, 3 * LEASE_NS),
        (sim_event){
            .kind = SIM_EVENT_PROPOSED, .node = node->number, .process = node->process, .a = 2 * id + 1});
}

static void proposal_take(sim_world *world, uint32_t id) {
    sim_proposal *proposal = &world->proposals[id % CALLS];
    bool fits = proposal->config.epoch == world->epoch && world->epoch < EPOCHS_MAX;
    proposal->outcome = fits ? KITH_REPLICA_PROPOSAL_DONE : KITH_REPLICA_PROPOSAL_REFUSED;
    if (fits) config_set(world, proposal->config, "proposed");
    if (sim_is_lost(world, 0, proposal->node)) return;
    sim_at(world, sim_delay_ns(world),
        (sim_event){
            .kind = SIM_EVENT_PROPOSED, .node = proposal->node, .process = proposal->process, .a = 2 * id});
}

void sim_meta_pull(sim_world *world, sim_node *node) {
    if (sim_is_lost(world, node->number, 0)) return;
    push(world, node->number, sim_delay_ns(world) + sim_delay_ns(world));
}

/* --- coordinators --- */

static void swap(kith_replica_config *config, uint32_t index) {
    uint32_t first = config->replicas[0];
    config->replicas[0] = config->replicas[index];
    config->replicas[index] = first;
}

/* The primary is held to be down, rightly or not: another member of the ISR, any, takes its place. */
void sim_meta_suspect(sim_world *world, uint32_t number) {
    kith_replica_config config = *newest(world);
    bool laggards = world->options.mutant == SIM_REPLICA_MUTANT_PROMOTE_LAGGARD;
    if (config.replicas[0] != number || world->epoch >= EPOCHS_MAX) return;
    uint32_t turn = (uint32_t)sim_below(world, config.replica_count);
    for (uint32_t i = 0; i < config.replica_count; i++) {
        uint32_t index = (turn + i) % config.replica_count;
        bool fits = config.in_sync & 1u << index || laggards;
        if (index == 0 || !fits || world->unheard_ns[config.replicas[index]]) continue;
        config.in_sync |= (uint8_t)(1u << index);
        swap(&config, index);
        config_set(world, config, "promoted");
        return;
    }
}

static void replica_remove(sim_world *world, kith_replica_config config, uint32_t index) {
    uint32_t low = config.in_sync & ((1u << index) - 1), high = config.in_sync >> (index + 1);
    config.in_sync = (uint8_t)(low | high << index);
    config.replica_count--;
    memmove(config.replicas + index, config.replicas + index + 1,
        (config.replica_count - index) * sizeof *config.replicas);
    config_set(world, config, "one taken away");
}

/* The primary is not only replaced, it is taken away with it. */
void sim_meta_replace(sim_world *world) {
    kith_replica_config config = *newest(world);
    uint32_t index = 1 + (uint32_t)sim_below(world, config.replica_count);
    bool fits = index < config.replica_count && config.in_sync & 1u << index;
    if (!fits || world->epoch >= EPOCHS_MAX) return;
    swap(&config, index);
    replica_remove(world, config, index);
}

static void replica_add(sim_world *world, kith_replica_config config) {
    uint32_t number = 1 + (uint32_t)sim_below(world, world->node_count);
    if (kith_replica_config_find(&config, number) >= 0) return;
    config.replicas[config.replica_count++] = number;
    config_set(world, config, "one added");
}

/* Rebalancing, of a kind: it asks nobody. */
void sim_meta_move(sim_world *world) {
    if (world->epoch >= EPOCHS_MAX) return;
    kith_replica_config config = *newest(world);
    if (config.replica_count > 2 && sim_percent(world, 50))
        replica_remove(world, config, 1 + (uint32_t)sim_below(world, config.replica_count - 1u));
    else if (config.replica_count < world->node_count)
        replica_add(world, config);
}

/* A node that is dead or cut off for four leases is down. */
static void coordinator_look(sim_world *world) {
    for (uint32_t i = 1; i <= world->node_count; i++) {
        sim_node *node = &world->nodes[i];
        bool heard = node->up && node->paused_until_ns <= world->now_ns && !world->cut[i][0];
        if (heard) world->unheard_ns[i] = 0;
        if (!heard && !world->unheard_ns[i]) world->unheard_ns[i] = world->now_ns;
    }
    uint32_t primary = newest(world)->replicas[0];
    uint64_t since_ns = world->unheard_ns[primary];
    if (since_ns && world->now_ns - since_ns > 4 * LEASE_NS) sim_meta_suspect(world, primary);
    sim_at(world, LEASE_NS, (sim_event){.kind = SIM_EVENT_COORDINATOR});
}

void sim_meta_event(sim_world *world, const sim_event *event) {
    if (event->kind == SIM_EVENT_PROPOSAL) {
        proposal_take(world, event->a);
    } else if (event->kind == SIM_EVENT_COORDINATOR) {
        coordinator_look(world);
    } else {
        push_all(world);
        sim_at(world, 5 * LEASE_NS, (sim_event){.kind = SIM_EVENT_PUSH});
    }
}
