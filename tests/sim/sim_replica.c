#include "tests/sim/sim_replica.h"

#include <stdarg.h>
#include <stdio.h>

#include "tests/sim/sim_replica_internal.h"

/* After healing, all is as it should be no later than this. */
#define HEAL_LEASES 60u

/* --- events: a heap by time, then by order of making --- */

static bool is_before(const sim_event *a, const sim_event *b) {
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static void event_push(sim_world *world, sim_event event) {
    if (world->event_count == EVENTS_MAX) {
        sim_replica_check_fail(&world->check, "more than %u events wait", EVENTS_MAX);
        return;
    }
    uint32_t at = world->event_count++;
    for (; at > 0 && is_before(&event, &world->events[(at - 1) / 2]); at = (at - 1) / 2)
        world->events[at] = world->events[(at - 1) / 2];
    world->events[at] = event;
}

static sim_event event_pop(sim_world *world) {
    sim_event first = world->events[0], last = world->events[--world->event_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= world->event_count) break;
        if (child + 1 < world->event_count && is_before(&world->events[child + 1], &world->events[child]))
            child++;
        if (!is_before(&world->events[child], &last)) break;
        world->events[at] = world->events[child];
        at = child;
    }
    world->events[at] = last;
    return first;
}

void sim_at(sim_world *world, uint64_t in_ns, sim_event event) {
    event.at_ns = world->now_ns + in_ns;
    event.order = ++world->order;
    event_push(world, event);
}

/* --- chance and the network --- */

uint64_t sim_below(sim_world *world, uint64_t bound) {
    return bound > 1 ? kith_rng_below(&world->rng, bound) : 0;
}

bool sim_percent(sim_world *world, uint32_t percent) {
    return sim_below(world, 100) < percent;
}

uint64_t sim_delay_ns(sim_world *world) {
    uint64_t delay_ns = MS / 20 + sim_below(world, world->delay_ms * MS);
    if (world->slow_percent && sim_percent(world, world->slow_percent))
        delay_ns += sim_below(world, 3 * LEASE_NS);
    return delay_ns;
}

bool sim_is_lost(sim_world *world, uint32_t from, uint32_t to) {
    return world->cut[from][to] || (world->loss_percent && sim_percent(world, world->loss_percent));
}

void sim_trace(sim_world *world, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("%9.3f ms  ", (double)world->now_ns / 1e6);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* --- faults --- */

static sim_node *node_any(sim_world *world) {
    return &world->nodes[1 + sim_below(world, world->node_count)];
}

/* The primary more often than others: it is what faults are about. */
static sim_node *node_chosen(sim_world *world) {
    return sim_percent(world, 40) ? &world->nodes[world->configs[world->epoch].replicas[0]] : node_any(world);
}

static void cut_off(sim_world *world, uint32_t number, bool in, bool out) {
    TRACE(
        world, "node %u is cut off%s%s", number, in ? ", hears nobody" : "", out ? ", nobody hears it" : "");
    for (uint32_t i = 0; i <= world->node_count; i++) {
        if (in) world->cut[i][number] = true;
        if (out) world->cut[number][i] = true;
    }
}

static void links_mend(sim_world *world) {
    memset(world->cut, 0, sizeof world->cut);
}

/* In two parts; the metadata are in one of them. */
static void split(sim_world *world) {
    uint64_t side = sim_below(world, 1u << (world->node_count + 1));
    TRACE(world, "the network is split, %llx on one side", (unsigned long long)side);
    for (uint32_t a = 0; a <= world->node_count; a++) {
        for (uint32_t b = 0; b <= world->node_count; b++)
            world->cut[a][b] = (side >> a & 1) != (side >> b & 1);
    }
}

static void link_fault(sim_world *world) {
    uint32_t a = node_chosen(world)->number, b = (uint32_t)sim_below(world, world->node_count + 1);
    uint64_t kind = sim_below(world, 7);
    if (kind == 0) {
        links_mend(world);
    } else if (kind == 1) {
        cut_off(world, a, true, true);
    } else if (kind == 2) {
        bool in = sim_percent(world, 50);
        cut_off(world, a, in, !in);
    } else if (kind == 3) { /* only from the metadata */
        world->cut[a][0] = world->cut[0][a] = true;
        TRACE(world, "node %u is cut off from the metadata", a);
    } else if (kind == 6) {
        split(world);
    } else if (a != b) {
        world->cut[a][b] = true;
        if (kind == 4) world->cut[b][a] = true;
        TRACE(world, "%u does not reach %u%s", a, b, kind == 4 ? ", nor back" : "");
    }
}

static void weather_fault(sim_world *world) {
    static const uint32_t losses[] = {0, 0, 0, 5, 20}, slows[] = {0, 0, 2, 10}, delays[] = {1, 1, 3, 30},
                          disks[] = {1, 5, 5, 60};
    world->loss_percent = losses[sim_below(world, 5)];
    world->slow_percent = slows[sim_below(world, 4)];
    world->delay_ms = delays[sim_below(world, 4)];
    world->disk_ms = disks[sim_below(world, 4)];
}

static void crash_fault(sim_world *world, sim_node *node) {
    sim_node_crash(world, node, sim_percent(world, 40));
    uint64_t away_ns = sim_percent(world, 60) ? sim_below(world, LEASE_NS) : sim_below(world, 12 * LEASE_NS);
    sim_at(world, away_ns, (sim_event){.kind = SIM_EVENT_START, .node = node->number});
}

/* One replica at a time may lose what it has, and only while another has everything. */
static void broken_fault(sim_world *world, sim_node *node) {
    const kith_replica_config *config = &world->configs[world->epoch];
    for (uint32_t i = 1; i <= world->node_count; i++) {
        if (world->nodes[i].disk_failed) return;
    }
    if (__builtin_popcount(config->in_sync) < 2) return;
    sim_node_fail(world, node);
}

static void fault_event(sim_world *world) {
    if (world->healed) return;
    sim_node *node = node_chosen(world);
    uint64_t kind = sim_below(world, 100);
    if (kind < 30) {
        link_fault(world);
    } else if (kind < 45) {
        crash_fault(world, node);
    } else if (kind < 57) {
        sim_meta_suspect(world, world->configs[world->epoch].replicas[0]);
    } else if (kind < 67) {
        weather_fault(world);
    } else if (kind < 77) {
        node->paused_until_ns = world->now_ns + sim_below(world, 5 * LEASE_NS);
        TRACE(world, "node %u stands still until %.3f", node->number, (double)node->paused_until_ns / 1e6);
    } else if (kind < 80) {
        sim_meta_replace(world);
    } else if (kind < 84) {
        sim_meta_move(world);
    } else if (kind < 88 && node->up) {
        TRACE(world, "node %u is to hand over", node->number);
        kith_replica_step_hand_over(node->step, sim_node_now_ns(world, node));
        sim_node_run(world, node);
    } else if (kind < 95) {
        sim_node_trim(world, node);
    } else {
        broken_fault(world, node);
    }
    sim_at(world, sim_below(world, 3 * LEASE_NS), (sim_event){.kind = SIM_EVENT_FAULT});
}

/* --- a history --- */

static void event_run(sim_world *world, const sim_event *event) {
    world->outcome->events++;
    if (event->node) {
        sim_node *node = &world->nodes[event->node];
        if (node->up && node->paused_until_ns > world->now_ns)
            sim_at(world, node->paused_until_ns - world->now_ns, *event);
        else
            sim_node_event(world, node, event);
    } else if (event->kind == SIM_EVENT_CLIENT) {
        sim_client_event(world);
    } else if (event->kind == SIM_EVENT_FAULT) {
        fault_event(world);
    } else {
        sim_meta_event(world, event);
    }
}

static void run_until(sim_world *world, uint64_t until_ns) {
    while (world->event_count > 0 && !world->check.violated && world->events[0].at_ns <= until_ns) {
        sim_event event = event_pop(world);
        world->now_ns = event.at_ns;
        event_run(world, &event);
    }
    if (world->now_ns < until_ns) world->now_ns = until_ns;
}

static void node_make(sim_world *world, uint32_t number) {
    sim_node *node = &world->nodes[number];
    node->number = number;
    node->up = node->made = node->disk_failed = false;
    node->paused_until_ns = node->disk_end = node->disk_committed = node->disk_map = 0;
    node->disk_first = 1;
    node->tick = 0;
    node->log[0] = node->disk[0] = (sim_replica_entry){0};
    node->clock_ns = sim_below(world, 1000) * LEASE_NS;
    node->rate = 1024 - 25 + sim_below(world, 51);
}

static void world_make(sim_world *world, const sim_replica_options *options, sim_replica_outcome *outcome) {
    world->options = *options;
    world->outcome = outcome;
    kith_rng_init(&world->rng, options->seed);
    sim_replica_check_init(&world->check);
    world->now_ns = world->order = world->event_count = 0;
    world->call_last = world->proposal_last = world->value = world->process = 0;
    world->healed = false;
    world->writing = true;
    memset(world->unheard_ns, 0, sizeof world->unheard_ns);
    memset(world->calls, 0, sizeof world->calls[0]);
    links_mend(world);
    weather_fault(world);
    world->node_count = 2 + (uint32_t)sim_below(world, 4);
    static const uint32_t batches[] = {1, 2, BATCH_MAX, BATCH_MAX}, clients[] = {2, 6, 20, 20},
                          writes[] = {20, 50, 60, 90};
    world->batch_max = batches[sim_below(world, 4)];
    world->client_ms = clients[sim_below(world, 4)];
    world->write_percent = writes[sim_below(world, 4)];
    world->min_in_sync = 1 + sim_below(world, 2);
    for (uint32_t i = 1; i <= world->node_count; i++)
        node_make(world, i);
    sim_meta_start(world);
    for (uint32_t i = 1; i <= world->node_count; i++)
        sim_at(world, sim_below(world, 20 * MS), (sim_event){.kind = SIM_EVENT_START, .node = i});
    sim_at(world, 0, (sim_event){.kind = SIM_EVENT_CLIENT});
    sim_at(world, sim_below(world, 10 * LEASE_NS), (sim_event){.kind = SIM_EVENT_FAULT});
}

static void heal(sim_world *world) {
    TRACE(world, "all faults end");
    world->healed = true;
    world->writing = false;
    links_mend(world);
    world->loss_percent = world->slow_percent = 0;
    world->delay_ms = 1;
    world->disk_ms = 2;
    for (uint32_t i = 1; i <= world->node_count; i++) {
        world->nodes[i].paused_until_ns = 0;
        sim_at(world, sim_below(world, LEASE_NS), (sim_event){.kind = SIM_EVENT_START, .node = i});
    }
}

/* The one replica in sync is the one that is broken: an operator's business. */
static bool is_stuck(const sim_world *world) {
    const kith_replica_config *config = &world->configs[world->epoch];
    bool alone = __builtin_popcount(config->in_sync) == 1;
    return alone && world->nodes[config->replicas[0]].disk_failed;
}

static bool is_quiet(const sim_world *world) {
    const kith_replica_config *config = &world->configs[world->epoch];
    const sim_node *primary = &world->nodes[config->replicas[0]];
    if (config->in_sync != (1u << config->replica_count) - 1) return false;
    for (uint32_t i = 0; i < config->replica_count; i++) {
        const sim_node *node = &world->nodes[config->replicas[i]];
        kith_replica_status status;
        kith_replica_step_status(node->step, sim_node_now_ns(world, node), &status);
        bool here = status.epoch == world->epoch && status.leased && status.role >= KITH_REPLICA_FOLLOWER;
        if (!here || node->applied != node->end || node->end != primary->end) return false;
        if (node->wait_count > 0) return false;
    }
    return true;
}

static bool until_quiet(sim_world *world, uint32_t leases) {
    uint64_t last_ns = world->now_ns + leases * LEASE_NS;
    while (!world->check.violated && world->now_ns < last_ns) {
        run_until(world, world->now_ns + LEASE_NS / 10);
        if (is_quiet(world)) return true;
    }
    return world->check.violated;
}

static void quiet_check(sim_world *world) {
    const kith_replica_config *config = &world->configs[world->epoch];
    for (uint32_t i = 0; i < config->replica_count; i++) {
        sim_node *node = &world->nodes[config->replicas[i]];
        sim_replica_check_log(&world->check, node->number, node->log, node->end);
    }
}

/* A hand-over that began before may still be under way. */
static bool write_healed(sim_world *world) {
    for (uint32_t i = 0; i < HEAL_LEASES && !world->check.violated; i++) {
        if (sim_client_write(world, &world->nodes[world->configs[world->epoch].replicas[0]])) return true;
        run_until(world, world->now_ns + LEASE_NS / 4);
    }
    return false;
}

static void healed_check(sim_world *world) {
    run_until(world, world->now_ns + 2 * LEASE_NS);
    if (is_stuck(world)) return;
    if (!until_quiet(world, HEAL_LEASES)) {
        if (!is_stuck(world))
            sim_replica_check_fail(&world->check, "not all replicas are equal and in sync in time");
        return;
    }
    if (world->check.violated) return;
    quiet_check(world);
    uint32_t in_sync = (uint32_t)__builtin_popcount(world->configs[world->epoch].in_sync);
    if (in_sync < world->min_in_sync || world->check.applied >= WRITES_LAST) return;
    uint64_t before = world->check.acknowledged;
    if (!write_healed(world))
        sim_replica_check_fail(&world->check, "no write begins after healing");
    else if (!until_quiet(world, 5) || world->check.acknowledged == before)
        sim_replica_check_fail(&world->check, "no write is acknowledged after healing");
    quiet_check(world);
}

void sim_replica_run(const sim_replica_options *options, sim_replica_outcome *outcome_out) {
    static sim_world world;
    *outcome_out = (sim_replica_outcome){0};
    kith_replica_mutant_active = options->mutant < KITH_REPLICA_MUTANT_STEP_COUNT
                                     ? (kith_replica_mutant)options->mutant
                                     : KITH_REPLICA_MUTANT_NONE;
    world_make(&world, options, outcome_out);
    run_until(&world, (10 + sim_below(&world, 40)) * LEASE_NS);
    heal(&world);
    if (!world.check.violated) healed_check(&world);
    outcome_out->violated = world.check.violated;
    memcpy(outcome_out->text, world.check.text, sizeof outcome_out->text);
    outcome_out->virtual_ms = world.now_ns / MS;
    for (uint32_t i = 1; i <= world.node_count; i++) {
        if (world.nodes[i].up) kith_replica_step_destroy(world.nodes[i].step);
        world.nodes[i].up = false;
    }
}
