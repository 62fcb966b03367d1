/* What goes wrong on the machines of a world. */
#include "tests/sim/sim_world.h"

static void cut_both(sim_world *world, uint32_t a, uint32_t b) {
    kith_transport_sim_cut(world->network, a, b, true);
    kith_transport_sim_cut(world->network, b, a, true);
}

static void split_do(sim_world *world) {
    uint64_t side = kith_rng_next(&world->rng); /* one bit a host */
    kith_transport_sim_heal(world->network);
    for (uint32_t a = 0; a <= world->node_count; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if ((side >> a & 1) != (side >> b & 1)) cut_both(world, a, b);
        }
    }
    world->counts.cuts++;
    sim_world_tell(
        world, "the network splits: %llx", (unsigned long long)(side & ((2u << world->node_count) - 1)));
}

static void cut_do(sim_world *world) {
    uint32_t from = (uint32_t)sim_world_below(world, world->coordinator_count);
    uint32_t to = (uint32_t)sim_world_below(world, world->node_count);
    bool all = sim_world_below(world, 3) == 0, reverse = sim_world_below(world, 2);
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (!all && i != to) continue;
        kith_transport_sim_cut(world->network, reverse ? i : from, reverse ? from : i, true);
    }
    world->counts.cuts++;
    sim_world_tell(world, "%s %s %s", sim_node_address(from), reverse ? "does not hear" : "is not heard by",
        all ? "anybody" : sim_node_address(to));
}

static void isolate_do(sim_world *world) {
    uint32_t leader = sim_world_leader(world);
    if (leader == UINT32_MAX) return;
    bool with_client = sim_world_below(world, 2);
    for (uint32_t i = 0; i < world->node_count + with_client; i++) {
        if (i != leader) cut_both(world, leader, i);
    }
    world->counts.cuts++;
    sim_world_tell(world, "the leader %s is cut off", sim_node_address(leader));
}

static void heal_do(sim_world *world) {
    kith_transport_sim_heal(world->network);
    sim_world_tell(world, "the network heals");
}

static void weather_do(sim_world *world) {
    static const uint64_t delays_ms[] = {1, 5, 20, 60};
    static const uint32_t losses_ppm[] = {0, 0, 10000, 50000, 200000};
    kith_transport_sim_link link = {.delay_ns_min = 50000,
        .delay_ns_max = delays_ms[sim_world_below(world, 4)] * SIM_MS,
        .slow_ppm = (uint32_t)sim_world_below(world, 2) * 20000,
        .slow_ns_max = 600 * SIM_MS,
        .loss_ppm = losses_ppm[sim_world_below(world, 5)]};
    kith_transport_sim_links_set(world->network, &link);
    sim_world_tell(world, "messages take up to %llu ms, %u of a million are lost",
        (unsigned long long)(link.delay_ns_max / SIM_MS), link.loss_ppm);
}

static sim_crash_mode mode_draw(sim_world *world) {
    return (sim_crash_mode)(SIM_CRASH_KEEP_ALL + sim_world_below(world, 4));
}

static void wake_later(sim_world *world, uint32_t number, uint64_t ms_most) {
    world->wake_ns[number] = kith_env_now_ns(world->env) + (20 + sim_world_below(world, ms_most)) * SIM_MS;
}

static void crash_do(sim_world *world, uint32_t number) {
    sim_node *node = world->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING) return;
    sim_crash_mode mode = mode_draw(world);
    bool silent = sim_world_below(world, 2);
    sim_world_tell(world, "%s dies (mode %d, %s)", sim_node_address(number), (int)mode,
        silent ? "silently" : "its peers hear");
    sim_node_crash(node, mode, silent ? KITH_TRANSPORT_SIM_SILENT : KITH_TRANSPORT_SIM_REFUSING);
    world->counts.crashes++;
    wake_later(world, number, 1500);
}

static void crash_soon_do(sim_world *world, uint32_t number) {
    sim_node *node = world->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING) return;
    uint64_t operations = sim_world_below(world, 12);
    sim_world_tell(world, "%s will die at its file operation %llu from here", sim_node_address(number),
        (unsigned long long)operations);
    sim_node_crash_soon(node, operations, mode_draw(world));
    world->counts.crashes++;
}

static void stop_do(sim_world *world, uint32_t number) {
    sim_node *node = world->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING || sim_node_is_paused(node)) return;
    sim_world_tell(world, "%s stops", sim_node_address(number));
    sim_node_stop(node);
    world->counts.stops++;
    wake_later(world, number, 800);
}

static void pause_do(sim_world *world) {
    uint32_t number = (uint32_t)sim_world_below(world, world->node_count);
    sim_node *node = world->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING || world->wake_ns[number]) return;
    sim_world_tell(world, "%s stands still", sim_node_address(number));
    sim_node_pause(node, true);
    wake_later(world, number, 1500);
}

static void transfer_do(sim_world *world) {
    uint32_t leader = sim_world_leader(world);
    if (leader == UINT32_MAX) return;
    sim_world_tell(world, "%s is asked to hand over", sim_node_address(leader));
    sim_node_transfer(world->nodes[leader]);
    world->counts.transfers++;
}

/* The spare joins; once it is in, it or another may leave again. Never below the first number of coordinators. */
static void membership_do(sim_world *world) {
    uint32_t leader = sim_world_leader(world), spare = world->coordinator_count;
    if (leader == UINT32_MAX || !world->has_spare || sim_node_state_of(world->nodes[spare]) == SIM_NODE_GONE)
        return;
    world->counts.memberships++;
    if (sim_node_voter_count(world->nodes[leader]) <= world->coordinator_count && sim_world_below(world, 3)) {
        sim_world_tell(world, "%s shall join", sim_node_address(spare));
        sim_node_join(world->nodes[leader], spare);
        return;
    }
    if (sim_node_voter_count(world->nodes[leader]) <= world->coordinator_count) return;
    uint32_t who = (uint32_t)sim_world_below(world, world->coordinator_count + 1);
    sim_world_tell(world, "%s shall leave", sim_node_address(who));
    sim_node_leave(world->nodes[leader], who);
}

static void member_do(sim_world *world) {
    uint32_t first = sim_world_member_first(world);
    uint32_t number = first + (uint32_t)sim_world_below(world, world->node_count - first);
    if (world->has_data && sim_world_below(world, 3) == 0) {
        crash_soon_do(world, number);
    } else if (sim_world_below(world, 2)) {
        crash_do(world, number);
    } else {
        stop_do(world, number);
    }
}

/* --- of data --- */

static void link_do(sim_world *world) {
    uint32_t from =
        (uint32_t)sim_world_below(world, world->node_count + 1); /* the clients' machine is the last */
    uint32_t to = (uint32_t)sim_world_below(world, world->node_count + 1);
    bool both = sim_world_below(world, 2);
    if (from == to) return;
    kith_transport_sim_cut(world->network, from, to, true);
    if (both) kith_transport_sim_cut(world->network, to, from, true);
    world->counts.cuts++;
    sim_world_tell(world, "host %u is not heard by host %u%s", from, to, both ? ", nor the other way" : "");
}

static void clock_do(sim_world *world) {
    sim_node *node = world->nodes[sim_world_below(world, world->node_count)];
    int64_t ms = (int64_t)sim_world_below(world, 7200000) - 3600000;
    sim_node_wall_jump(node, ms);
    world->counts.jumps++;
}

/* One in a history: two copies may not both be bad. The machine dies for it. */
static void flip_do(sim_world *world) {
    uint32_t first = sim_world_member_first(world);
    uint32_t number = first + (uint32_t)sim_world_below(world, world->node_count - first);
    if (world->flip_number || sim_node_state_of(world->nodes[number]) != SIM_NODE_RUNNING) return;
    world->flip_number = number;
    crash_do(world, number);
}

void sim_world_burn(sim_world *world, uint32_t number) {
    sim_world_tell(world, "%s dies, and its disk with it", sim_node_address(number));
    sim_node_crash(world->nodes[number], SIM_CRASH_LOSE_ALL, KITH_TRANSPORT_SIM_SILENT);
    world->wake_ns[number] = 0;
    world->burnt = number;
    world->counts.burnt++;
}

static sim_world_fault fault_draw(sim_world *world) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < SIM_WORLD_FAULTS; i++)
        sum += world->fault_weights[i];
    uint64_t at = sim_world_below(world, sum);
    for (uint32_t i = 0; i < SIM_WORLD_FAULTS; i++) {
        if (at < world->fault_weights[i]) return (sim_world_fault)i;
        at -= world->fault_weights[i];
    }
    return SIM_WORLD_HEAL;
}

void sim_world_fault_do(sim_world *world) {
    uint32_t coordinator = (uint32_t)sim_world_below(world, sim_world_member_first(world));
    switch (fault_draw(world)) {
    case SIM_WORLD_SPLIT:
        split_do(world);
        break;
    case SIM_WORLD_CUT:
        cut_do(world);
        break;
    case SIM_WORLD_ISOLATE:
        isolate_do(world);
        break;
    case SIM_WORLD_WEATHER:
        weather_do(world);
        break;
    case SIM_WORLD_DIE:
        crash_do(world, coordinator);
        break;
    case SIM_WORLD_DIE_SOON:
        crash_soon_do(world, coordinator);
        break;
    case SIM_WORLD_STOP:
        stop_do(world, coordinator);
        break;
    case SIM_WORLD_MEMBER:
        member_do(world);
        break;
    case SIM_WORLD_PAUSE:
        pause_do(world);
        break;
    case SIM_WORLD_TRANSFER:
        transfer_do(world);
        break;
    case SIM_WORLD_MEMBERSHIP:
        membership_do(world);
        break;
    case SIM_WORLD_LINK:
        link_do(world);
        break;
    case SIM_WORLD_CLOCK:
        clock_do(world);
        break;
    case SIM_WORLD_FLIP:
        flip_do(world);
        break;
    default:
        heal_do(world);
    }
}

void sim_world_weights_draw(sim_world *world) {
    static const uint32_t weights[] = {0, 0, 1, 2, 6};
    uint32_t count = world->has_data ? SIM_WORLD_FAULTS : SIM_WORLD_LINK;
    for (uint32_t i = 0; i < count; i++)
        world->fault_weights[i] = weights[sim_world_below(world, 5)];
    if (world->fault_weights[SIM_WORLD_HEAL] == 0) world->fault_weights[SIM_WORLD_HEAL] = 1;
}

void sim_world_trouble(sim_world *world, uint64_t ms) {
    uint64_t end_ms = sim_world_now_ms(world) + ms;
    while (sim_world_now_ms(world) < end_ms && !world->over) {
        sim_world_run_for(world, (20 + sim_world_below(world, 500)) * SIM_MS);
        if (world->over) return;
        sim_world_fault_do(world);
        if (!world->has_moves || sim_world_below(world, 2)) continue;
        world->counts.changes++;
        world->change(world->ctx);
    }
}
