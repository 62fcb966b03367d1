#include "tests/sim/sim_world.h"

#include <stdarg.h>
#include <stdio.h>

#include "host/base/log.h"

#define SLICE_NS (5 * SIM_MS) /* between two looks at the nodes */
#define STOP_MS  20000ULL     /* for a node to stop, at most */

/* --- words --- */

uint64_t sim_world_now_ms(const sim_world *world) {
    return kith_env_now_ns(world->env) / SIM_MS;
}

void sim_world_tell_text(void *ctx, const char *text) {
    const sim_world *world = ctx;
    if (!world->trace) return;
    uint64_t us = kith_env_now_ns(world->env) / 1000;
    printf("%6llu.%06llu %s\n", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000), text);
}

void sim_world_tell(sim_world *world, const char *format, ...) {
    char text[400];
    if (!world->trace) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sim_world_tell_text(world, text);
}

void sim_world_blame(sim_world *world, const char *format, ...) {
    if (world->text[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->text, sizeof world->text, format, arguments);
    va_end(arguments);
    world->over = true;
    sim_world_tell(world, "VIOLATION: %s", world->text);
}

uint64_t sim_world_below(sim_world *world, uint64_t bound) {
    return kith_rng_below(&world->rng, bound);
}

uint32_t sim_world_member_first(const sim_world *world) {
    return world->coordinator_count + world->has_spare;
}

uint32_t sim_world_leader(const sim_world *world) {
    for (uint32_t i = 0; i < sim_world_member_first(world); i++) {
        if (sim_node_leads(world->nodes[i])) return i;
    }
    return UINT32_MAX;
}

/* --- time --- */

void sim_world_node_start(sim_world *world, uint32_t number) {
    sim_node_start(world->nodes[number]);
    const char *violation = sim_node_violation(world->nodes[number]);
    if (violation) sim_world_blame(world, "%s", violation);
}

static void flip_do(sim_world *world) {
    static const char *const parts[] = {"/data/segments", "/data/log", "/data/meta"};
    world->counts.flips += sim_node_flip(world->nodes[world->flip_number], parts[sim_world_below(world, 3)]);
}

static void node_wake(sim_world *world, uint32_t number) {
    sim_node *node = world->nodes[number];
    if (sim_node_is_paused(node)) {
        sim_world_tell(world, "%s goes on", sim_node_address(number));
        sim_node_pause(node, false);
    }
    if (sim_node_state_of(node) != SIM_NODE_OFF) return;
    if (number && number == world->flip_number && world->counts.flips == 0) flip_do(world);
    sim_world_node_start(world, number);
}

static void wakes_do(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        uint64_t due_ns = world->wake_ns[i];
        if (due_ns == 0 || due_ns > kith_env_now_ns(world->env)) continue;
        if (sim_node_state_of(world->nodes[i]) == SIM_NODE_STOPPING) continue;
        world->wake_ns[i] = 0;
        node_wake(world, i);
    }
}

/* A node that died by itself, of a crash that was set before, comes back too. */
static void dead_notice(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (sim_node_state_of(world->nodes[i]) != SIM_NODE_OFF || world->wake_ns[i]) continue;
        if (i && i == world->burnt) continue;
        world->wake_ns[i] = kith_env_now_ns(world->env) + (50 + sim_world_below(world, 1500)) * SIM_MS;
    }
}

static void nodes_poll(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        sim_node_poll(world->nodes[i]);
        const char *violation = sim_node_violation(world->nodes[i]);
        if (violation) sim_world_blame(world, "%s", violation);
    }
}

void sim_world_run_for(sim_world *world, uint64_t ns) {
    uint64_t end_ns = kith_env_now_ns(world->env) + ns;
    while (kith_env_now_ns(world->env) < end_ns && !world->over) {
        sim_env_run_for(world->client_machine, SLICE_NS);
        nodes_poll(world);
        wakes_do(world);
        dead_notice(world);
        if (!world->over) world->look(world->ctx);
    }
}

/* --- the end of all faults --- */

static void all_wake(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (i && i == world->burnt) continue;
        if (sim_node_state_of(world->nodes[i]) != SIM_NODE_STOPPING) {
            world->wake_ns[i] = 0;
            node_wake(world, i);
        } else {
            world->wake_ns[i] = kith_env_now_ns(world->env);
        }
    }
}

void sim_world_heal(sim_world *world) {
    const kith_transport_sim_link fair = {.delay_ns_min = 100000, .delay_ns_max = 2 * SIM_MS};
    sim_world_tell(world, "all faults end");
    kith_transport_sim_heal(world->network);
    kith_transport_sim_links_set(world->network, &fair);
    all_wake(world);
}

/* Who does not vote is not told of anything: a spare, a coordinator that left. */
static bool is_outside(const sim_world *world, uint32_t leader, uint32_t number) {
    if (sim_node_state_of(world->nodes[number]) == SIM_NODE_GONE) return true;
    if (number && number == world->burnt) return true;
    return number < sim_world_member_first(world) && !sim_node_has_voter(world->nodes[leader], number);
}

static bool one_map(const sim_world *world) {
    uint32_t leader = sim_world_leader(world);
    if (leader == UINT32_MAX) return false;
    uint64_t version = sim_node_map_version(world->nodes[leader]);
    for (uint32_t i = 0; i < world->node_count; i++) {
        if (sim_node_map_version(world->nodes[i]) == version) continue;
        if (!is_outside(world, leader, i)) return false;
    }
    return true;
}

static void maps_tell(sim_world *world) {
    static const char *const states[] = {"off", "running", "stopping", "gone"};
    for (uint32_t i = 0; i < world->node_count; i++)
        sim_world_tell(world, "%s is %s with map version %llu, %u voters", sim_node_address(i),
            states[sim_node_state_of(world->nodes[i])],
            (unsigned long long)sim_node_map_version(world->nodes[i]), sim_node_voter_count(world->nodes[i]));
}

void sim_world_one_map_await(sim_world *world, uint64_t ms) {
    uint64_t end_ms = sim_world_now_ms(world) + ms;
    while (!world->over && !one_map(world)) {
        if (sim_world_now_ms(world) > end_ms)
            sim_world_blame(world, "the nodes do not go by one map within %llu ms", (unsigned long long)ms);
        sim_world_run_for(world, 20 * SIM_MS);
    }
    if (world->over) maps_tell(world);
}

/* --- life --- */

/* The product's log lines carry the virtual time of the story. */
static uint64_t log_now_ms(void *ctx) {
    return kith_env_wall_ms(((const sim_world *)ctx)->env);
}

static void message_told(void *ctx, const kith_transport_sim_event *event) {
    static const char *const fates[] = {"sent", "arrived", "lost"};
    sim_world *world = ctx;
    world->counts.messages += event->fate == KITH_TRANSPORT_SIM_SENT;
    world->counts.lost += event->fate == KITH_TRANSPORT_SIM_LOST;
    if (!world->trace_network) return;
    char text[300] = "";
    if (event->kind == KITH_AM_RAFT && !event->is_reply)
        sim_raft_message_describe(event->bytes, event->byte_count, text, sizeof text);
    sim_world_tell(world, "    %u -> %u kind %d%s, %zu bytes: %s %s", event->from, event->to,
        (int)event->kind, event->is_reply ? " reply" : "", event->byte_count, fates[event->fate], text);
}

void sim_world_init(sim_world *world, uint64_t seed, uint64_t stream, bool trace, bool trace_network) {
    *world = (sim_world){.trace = trace, .trace_network = trace_network};
    kith_rng_init(&world->rng, seed ^ stream);
    world->client_machine = sim_env_create(seed);
    world->env = sim_env_kith(world->client_machine);
    world->network = kith_transport_sim_network_create(seed);
    kith_transport_sim_trace(world->network, message_told, world);
    kith_log_clock_set(log_now_ms, world);
}

void sim_world_hosts_make(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++)
        (void)kith_transport_sim_host(world->network, sim_node_address(i));
}

sim_node_options sim_world_node_options(sim_world *world, uint64_t seed, uint32_t number) {
    return (sim_node_options){
        .machine = sim_env_create_beside(world->client_machine, seed * 64 + number + 1),
        .network = world->network,
        .number = number,
        .is_coordinator = number < sim_world_member_first(world),
        .is_spare = world->has_spare && number == world->coordinator_count,
        .coordinator_count = world->coordinator_count,
        /* Who lists one alone is lost when that one leaves. */
        .listed_count =
            world->coordinator_count == 1 ? sim_world_member_first(world) : world->coordinator_count,
        .tell = world->trace ? sim_world_tell_text : NULL,
        .ctx = world,
    };
}

static bool all_off(const sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        sim_node_state state = sim_node_state_of(world->nodes[i]);
        if (state == SIM_NODE_RUNNING || state == SIM_NODE_STOPPING) return false;
    }
    return true;
}

static void all_stop(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++) {
        sim_node_pause(world->nodes[i], false);
        if (sim_node_state_of(world->nodes[i]) == SIM_NODE_RUNNING) sim_node_stop(world->nodes[i]);
    }
}

/* Also after a violation: what was begun must end, or there is no destroying it. */
bool sim_world_close(sim_world *world, bool (*is_idle)(void *ctx), void *ctx) {
    all_stop(world);
    uint64_t end_ms = sim_world_now_ms(world) + STOP_MS;
    while (!all_off(world) || !is_idle(ctx)) {
        sim_env_run_for(world->client_machine, SLICE_NS);
        nodes_poll(world);
        if (sim_world_now_ms(world) <= end_ms) continue;
        sim_world_blame(world, "a node did not stop within %llu ms", STOP_MS);
        kith_log_clock_set(NULL, NULL);
        return false;
    }
    sim_env_run_for(world->client_machine, 1000 * SIM_MS); /* timers of the clients */
    kith_log_clock_set(NULL, NULL);
    return true;
}

void sim_world_fini(sim_world *world) {
    for (uint32_t i = 0; i < world->node_count; i++)
        sim_node_destroy(world->nodes[i]);
    kith_transport_sim_network_destroy(world->network);
    sim_env_destroy(world->client_machine);
}
