/* The history: what fails when, and what must be true in the end. */
#include "tests/sim/sim_cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/base/rng.h"
#include "tests/sim/sim_cluster_client.h"

#define MS       1000000ULL
#define SLICE_NS (5 * MS) /* between two looks at the nodes */
#define LIVE_MS  10000ULL /* from healing to an acknowledged command, at most */
/* From the last command to one map everywhere, at most: the core gives a snapshot that it sent 30 s to be answered. */
#define SETTLE_MS 40000ULL
#define STOP_MS   20000ULL /* for a node to stop, at most */
#define IDLE_MS   10000ULL /* for the client's last commands */
#define NODES_MAX 16u

typedef enum fault {
    FAULT_SPLIT,      /* the machines fall into two halves */
    FAULT_CUT,        /* one machine is not heard by another, or by all */
    FAULT_ISOLATE,    /* the leader alone */
    FAULT_HEAL,       /* of the network */
    FAULT_WEATHER,    /* other delays and losses */
    FAULT_CRASH,      /* a coordinator dies */
    FAULT_CRASH_SOON, /* in the middle of a file operation */
    FAULT_STOP,       /* a coordinator is restarted in good order */
    FAULT_MEMBER,     /* a member dies or is restarted */
    FAULT_PAUSE,      /* a machine stands still for a while */
    FAULT_TRANSFER,   /* of leadership */
    FAULT_MEMBERSHIP, /* a coordinator joins or leaves */
    FAULTS,
} fault;

typedef struct sim_cluster {
    const sim_cluster_options *options;
    sim_cluster_outcome *outcome;
    kith_rng rng;
    sim_env *client_machine;
    kith_env *env; /* for the clock */
    kith_transport_sim_network *network;
    sim_check *check;
    sim_client *client;
    uint32_t coordinator_count; /* first ones; one spare follows them */
    uint32_t node_count;
    sim_node *nodes[NODES_MAX];
    uint64_t wake_ns[NODES_MAX]; /* when a node that is off or paused comes back; 0: it is not */
    uint32_t fault_weights[FAULTS];
    bool over; /* a violation was found */
} sim_cluster;

static uint64_t now_ms(const sim_cluster *cluster) {
    return kith_env_now_ns(cluster->env) / MS;
}

static void tell_text(void *ctx, const char *text) {
    const sim_cluster *own = ctx;
    if (!own->options->trace) return;
    uint64_t us = kith_env_now_ns(own->env) / 1000;
    printf("%6llu.%06llu %s\n", (unsigned long long)(us / 1000000), (unsigned long long)(us % 1000000), text);
}

static void __attribute__((format(printf, 2, 3))) tell(sim_cluster *cluster, const char *format, ...) {
    char text[400];
    if (!cluster->options->trace) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    tell_text(cluster, text);
}

static void __attribute__((format(printf, 2, 3))) blame(sim_cluster *cluster, const char *format, ...) {
    if (cluster->outcome->violated) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(cluster->outcome->text, sizeof cluster->outcome->text, format, arguments);
    va_end(arguments);
    cluster->outcome->violated = true;
    cluster->over = true;
    tell(cluster, "VIOLATION: %s", cluster->outcome->text);
}

static uint64_t below(sim_cluster *cluster, uint64_t bound) {
    return kith_rng_below(&cluster->rng, bound);
}

/* --- time --- */

static void node_start(sim_cluster *cluster, uint32_t number) {
    sim_node_start(cluster->nodes[number]);
    const char *violation = sim_node_violation(cluster->nodes[number]);
    if (violation) blame(cluster, "%s", violation);
}

static void node_wake(sim_cluster *cluster, uint32_t number) {
    sim_node *node = cluster->nodes[number];
    if (sim_node_is_paused(node)) {
        tell(cluster, "%s goes on", sim_node_address(number));
        sim_node_pause(node, false);
    }
    if (sim_node_state_of(node) == SIM_NODE_OFF) node_start(cluster, number);
}

static void wakes_do(sim_cluster *cluster) {
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        uint64_t due_ns = cluster->wake_ns[i];
        if (due_ns == 0 || due_ns > kith_env_now_ns(cluster->env)) continue;
        if (sim_node_state_of(cluster->nodes[i]) == SIM_NODE_STOPPING) continue;
        cluster->wake_ns[i] = 0;
        node_wake(cluster, i);
    }
}

/* A node that died by itself, of a crash that was set before, comes back too. */
static void dead_notice(sim_cluster *cluster) {
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (sim_node_state_of(cluster->nodes[i]) != SIM_NODE_OFF || cluster->wake_ns[i]) continue;
        cluster->wake_ns[i] = kith_env_now_ns(cluster->env) + (50 + below(cluster, 1500)) * MS;
    }
}

static void nodes_poll(sim_cluster *cluster) {
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        sim_node_poll(cluster->nodes[i]);
        const char *violation = sim_node_violation(cluster->nodes[i]);
        if (violation) blame(cluster, "%s", violation);
    }
}

static void run_for(sim_cluster *cluster, uint64_t ns) {
    uint64_t end_ns = kith_env_now_ns(cluster->env) + ns;
    while (kith_env_now_ns(cluster->env) < end_ns && !cluster->over) {
        sim_env_run_for(cluster->client_machine, SLICE_NS);
        nodes_poll(cluster);
        wakes_do(cluster);
        dead_notice(cluster);
        const char *violation = sim_check_violation(cluster->check);
        if (violation) blame(cluster, "%s", violation);
    }
}

/* --- faults --- */

static uint32_t leader_find(const sim_cluster *cluster) {
    for (uint32_t i = 0; i <= cluster->coordinator_count; i++) {
        if (sim_node_leads(cluster->nodes[i])) return i;
    }
    return UINT32_MAX;
}

static void cut_both(sim_cluster *cluster, uint32_t a, uint32_t b) {
    kith_transport_sim_cut(cluster->network, a, b, true);
    kith_transport_sim_cut(cluster->network, b, a, true);
}

static void split_do(sim_cluster *cluster) {
    uint64_t side = kith_rng_next(&cluster->rng); /* one bit a host */
    kith_transport_sim_heal(cluster->network);
    for (uint32_t a = 0; a <= cluster->node_count; a++) {
        for (uint32_t b = 0; b < a; b++) {
            if ((side >> a & 1) != (side >> b & 1)) cut_both(cluster, a, b);
        }
    }
    cluster->outcome->cuts++;
    tell(cluster, "the network splits: %llx", (unsigned long long)(side & ((2u << cluster->node_count) - 1)));
}

static void cut_do(sim_cluster *cluster) {
    uint32_t from = (uint32_t)below(cluster, cluster->coordinator_count);
    uint32_t to = (uint32_t)below(cluster, cluster->node_count);
    bool all = below(cluster, 3) == 0, reverse = below(cluster, 2);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (!all && i != to) continue;
        kith_transport_sim_cut(cluster->network, reverse ? i : from, reverse ? from : i, true);
    }
    cluster->outcome->cuts++;
    tell(cluster, "%s %s %s", sim_node_address(from), reverse ? "does not hear" : "is not heard by",
        all ? "anybody" : sim_node_address(to));
}

static void isolate_do(sim_cluster *cluster) {
    uint32_t leader = leader_find(cluster);
    if (leader == UINT32_MAX) return;
    bool with_client = below(cluster, 2);
    for (uint32_t i = 0; i < cluster->node_count + with_client; i++) {
        if (i != leader) cut_both(cluster, leader, i);
    }
    cluster->outcome->cuts++;
    tell(cluster, "the leader %s is cut off", sim_node_address(leader));
}

static void heal_do(sim_cluster *cluster) {
    kith_transport_sim_heal(cluster->network);
    tell(cluster, "the network heals");
}

static void weather_do(sim_cluster *cluster) {
    static const uint64_t delays_ms[] = {1, 5, 20, 60};
    static const uint32_t losses_ppm[] = {0, 0, 10000, 50000, 200000};
    kith_transport_sim_link link = {.delay_ns_min = 50000,
        .delay_ns_max = delays_ms[below(cluster, 4)] * MS,
        .slow_ppm = (uint32_t)below(cluster, 2) * 20000,
        .slow_ns_max = 600 * MS,
        .loss_ppm = losses_ppm[below(cluster, 5)]};
    kith_transport_sim_links_set(cluster->network, &link);
    tell(cluster, "messages take up to %llu ms, %u of a million are lost",
        (unsigned long long)(link.delay_ns_max / MS), link.loss_ppm);
}

static sim_crash_mode mode_draw(sim_cluster *cluster) {
    return (sim_crash_mode)(SIM_CRASH_KEEP_ALL + below(cluster, 4));
}

static void wake_later(sim_cluster *cluster, uint32_t number, uint64_t ms_most) {
    cluster->wake_ns[number] = kith_env_now_ns(cluster->env) + (20 + below(cluster, ms_most)) * MS;
}

static void crash_do(sim_cluster *cluster, uint32_t number) {
    sim_node *node = cluster->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING) return;
    sim_crash_mode mode = mode_draw(cluster);
    bool silent = below(cluster, 2);
    tell(cluster, "%s dies (mode %d, %s)", sim_node_address(number), (int)mode,
        silent ? "silently" : "its peers hear");
    sim_node_crash(node, mode, silent ? KITH_TRANSPORT_SIM_SILENT : KITH_TRANSPORT_SIM_REFUSING);
    cluster->outcome->crashes++;
    wake_later(cluster, number, 1500);
}

static void crash_soon_do(sim_cluster *cluster, uint32_t number) {
    sim_node *node = cluster->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING) return;
    uint64_t operations = below(cluster, 12);
    tell(cluster, "%s will die at its file operation %llu from here", sim_node_address(number),
        (unsigned long long)operations);
    sim_node_crash_soon(node, operations, mode_draw(cluster));
    cluster->outcome->crashes++;
}

static void stop_do(sim_cluster *cluster, uint32_t number) {
    sim_node *node = cluster->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING || sim_node_is_paused(node)) return;
    tell(cluster, "%s stops", sim_node_address(number));
    sim_node_stop(node);
    cluster->outcome->stops++;
    wake_later(cluster, number, 800);
}

static void pause_do(sim_cluster *cluster) {
    uint32_t number = (uint32_t)below(cluster, cluster->node_count);
    sim_node *node = cluster->nodes[number];
    if (sim_node_state_of(node) != SIM_NODE_RUNNING || cluster->wake_ns[number]) return;
    tell(cluster, "%s stands still", sim_node_address(number));
    sim_node_pause(node, true);
    wake_later(cluster, number, 1500);
}

static void transfer_do(sim_cluster *cluster) {
    uint32_t leader = leader_find(cluster);
    if (leader == UINT32_MAX) return;
    tell(cluster, "%s is asked to hand over", sim_node_address(leader));
    sim_node_transfer(cluster->nodes[leader]);
    cluster->outcome->transfers++;
}

/* The spare joins; once it is in, it or another may leave again. Never below the first number of coordinators. */
static void membership_do(sim_cluster *cluster) {
    uint32_t leader = leader_find(cluster), spare = cluster->coordinator_count;
    if (leader == UINT32_MAX || sim_node_state_of(cluster->nodes[spare]) == SIM_NODE_GONE) return;
    cluster->outcome->memberships++;
    if (sim_node_voter_count(cluster->nodes[leader]) <= cluster->coordinator_count && below(cluster, 3)) {
        tell(cluster, "%s shall join", sim_node_address(spare));
        sim_node_join(cluster->nodes[leader], spare);
        return;
    }
    if (sim_node_voter_count(cluster->nodes[leader]) <= cluster->coordinator_count) return;
    uint32_t who = (uint32_t)below(cluster, cluster->coordinator_count + 1);
    tell(cluster, "%s shall leave", sim_node_address(who));
    sim_node_leave(cluster->nodes[leader], who);
}

static void member_do(sim_cluster *cluster) {
    uint32_t first = cluster->coordinator_count + 1;
    uint32_t number = first + (uint32_t)below(cluster, cluster->node_count - first);
    if (below(cluster, 2)) {
        crash_do(cluster, number);
    } else {
        stop_do(cluster, number);
    }
}

static fault fault_draw(sim_cluster *cluster) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < FAULTS; i++)
        sum += cluster->fault_weights[i];
    uint64_t at = below(cluster, sum);
    for (uint32_t i = 0; i < FAULTS; i++) {
        if (at < cluster->fault_weights[i]) return (fault)i;
        at -= cluster->fault_weights[i];
    }
    return FAULT_HEAL;
}

static void fault_do(sim_cluster *cluster) {
    uint32_t coordinator = (uint32_t)below(cluster, cluster->coordinator_count + 1);
    switch (fault_draw(cluster)) {
    case FAULT_SPLIT:
        split_do(cluster);
        break;
    case FAULT_CUT:
        cut_do(cluster);
        break;
    case FAULT_ISOLATE:
        isolate_do(cluster);
        break;
    case FAULT_WEATHER:
        weather_do(cluster);
        break;
    case FAULT_CRASH:
        crash_do(cluster, coordinator);
        break;
    case FAULT_CRASH_SOON:
        crash_soon_do(cluster, coordinator);
        break;
    case FAULT_STOP:
        stop_do(cluster, coordinator);
        break;
    case FAULT_MEMBER:
        member_do(cluster);
        break;
    case FAULT_PAUSE:
        pause_do(cluster);
        break;
    case FAULT_TRANSFER:
        transfer_do(cluster);
        break;
    case FAULT_MEMBERSHIP:
        membership_do(cluster);
        break;
    default:
        heal_do(cluster);
    }
}

/* --- the phases of a history --- */

static void trouble(sim_cluster *cluster) {
    uint64_t end_ms = now_ms(cluster) + 1500 + below(cluster, 4000);
    while (now_ms(cluster) < end_ms && !cluster->over) {
        run_for(cluster, (20 + below(cluster, 500)) * MS);
        if (!cluster->over) fault_do(cluster);
    }
}

static void all_wake(sim_cluster *cluster) {
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (sim_node_state_of(cluster->nodes[i]) != SIM_NODE_STOPPING) {
            cluster->wake_ns[i] = 0;
            node_wake(cluster, i);
        } else {
            cluster->wake_ns[i] = kith_env_now_ns(cluster->env);
        }
    }
}

/* Everything works again: within bounded time a command is acknowledged. */
static void recovery(sim_cluster *cluster) {
    const kith_transport_sim_link fair = {.delay_ns_min = 100000, .delay_ns_max = 2 * MS};
    tell(cluster, "all faults end");
    kith_transport_sim_heal(cluster->network);
    kith_transport_sim_links_set(cluster->network, &fair);
    all_wake(cluster);
    uint64_t healed_ns = kith_env_now_ns(cluster->env);
    uint64_t end_ms = now_ms(cluster) + LIVE_MS;
    while (!cluster->over && sim_client_acknowledged_count(cluster->client, healed_ns) == 0) {
        if (now_ms(cluster) > end_ms)
            blame(cluster, "no command was acknowledged within %llu ms of healing", LIVE_MS);
        run_for(cluster, 20 * MS);
    }
}

/* Who does not vote is not told of anything: a spare, a coordinator that left. */
static bool is_outside(const sim_cluster *cluster, uint32_t leader, uint32_t number) {
    if (sim_node_state_of(cluster->nodes[number]) == SIM_NODE_GONE) return true;
    return number <= cluster->coordinator_count && !sim_node_has_voter(cluster->nodes[leader], number);
}

static bool one_map(const sim_cluster *cluster) {
    uint32_t leader = leader_find(cluster);
    if (leader == UINT32_MAX) return false;
    uint64_t version = sim_node_map_version(cluster->nodes[leader]);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        if (is_outside(cluster, leader, i)) continue;
        if (sim_node_map_version(cluster->nodes[i]) != version) return false;
    }
    return true;
}

static void maps_tell(sim_cluster *cluster) {
    static const char *const states[] = {"off", "running", "stopping", "gone"};
    for (uint32_t i = 0; i < cluster->node_count; i++)
        tell(cluster, "%s is %s with map version %llu, %u voters", sim_node_address(i),
            states[sim_node_state_of(cluster->nodes[i])],
            (unsigned long long)sim_node_map_version(cluster->nodes[i]),
            sim_node_voter_count(cluster->nodes[i]));
}

/* The client's last commands end; all nodes come to the same map. */
static void settling(sim_cluster *cluster) {
    sim_client_stop(cluster->client);
    uint64_t end_ms = now_ms(cluster) + IDLE_MS;
    while (!cluster->over && !sim_client_is_idle(cluster->client)) {
        if (now_ms(cluster) > end_ms) blame(cluster, "a command of the client never ended");
        run_for(cluster, 20 * MS);
    }
    end_ms = now_ms(cluster) + SETTLE_MS;
    while (!cluster->over && !one_map(cluster)) {
        if (now_ms(cluster) > end_ms)
            blame(cluster, "the nodes do not go by one map within %llu ms", SETTLE_MS);
        run_for(cluster, 20 * MS);
    }
    if (cluster->over) maps_tell(cluster);
    if (cluster->over) return;
    sim_check_finish(cluster->check);
    if (sim_check_violation(cluster->check)) blame(cluster, "%s", sim_check_violation(cluster->check));
}

static bool all_off(const sim_cluster *cluster) {
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        sim_node_state state = sim_node_state_of(cluster->nodes[i]);
        if (state == SIM_NODE_RUNNING || state == SIM_NODE_STOPPING) return false;
    }
    return true;
}

/* Also after a violation: what was begun must end, or there is no destroying it. */
static void closing(sim_cluster *cluster) {
    sim_client_stop(cluster->client);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        sim_node_pause(cluster->nodes[i], false);
        if (sim_node_state_of(cluster->nodes[i]) == SIM_NODE_RUNNING) sim_node_stop(cluster->nodes[i]);
    }
    uint64_t end_ms = now_ms(cluster) + STOP_MS;
    while (!all_off(cluster) || !sim_client_is_idle(cluster->client)) {
        sim_env_run_for(cluster->client_machine, SLICE_NS);
        nodes_poll(cluster);
        if (now_ms(cluster) > end_ms) {
            blame(cluster, "a node did not stop within %llu ms", STOP_MS);
            return;
        }
    }
    sim_env_run_for(cluster->client_machine, 1000 * MS); /* timers of the client */
}

/* --- set-up --- */

static void message_told(void *ctx, const kith_transport_sim_event *event) {
    static const char *const fates[] = {"sent", "arrived", "lost"};
    sim_cluster *own = ctx;
    own->outcome->messages += event->fate == KITH_TRANSPORT_SIM_SENT;
    own->outcome->lost += event->fate == KITH_TRANSPORT_SIM_LOST;
    if (!own->options->trace_network) return;
    char text[300] = "";
    if (event->kind == KITH_AM_RAFT && !event->is_reply)
        sim_raft_message_describe(event->bytes, event->byte_count, text, sizeof text);
    tell(own, "    %u -> %u kind %d%s, %zu bytes: %s %s", event->from, event->to, (int)event->kind,
        event->is_reply ? " reply" : "", event->byte_count, fates[event->fate], text);
}

static void weights_draw(sim_cluster *cluster) {
    static const uint32_t weights[] = {0, 0, 1, 2, 6};
    for (uint32_t i = 0; i < FAULTS; i++)
        cluster->fault_weights[i] = weights[below(cluster, 5)];
    if (cluster->fault_weights[FAULT_HEAL] == 0) cluster->fault_weights[FAULT_HEAL] = 1;
}

static void node_create(
    sim_cluster *cluster, uint32_t number, uint32_t snapshot_threshold, bool one_executor) {
    sim_node_options options = {
        .machine = sim_env_create_beside(cluster->client_machine, cluster->options->seed * 64 + number + 1),
        .network = cluster->network,
        .check = cluster->check,
        .number = number,
        .is_coordinator = number <= cluster->coordinator_count,
        .is_spare = number == cluster->coordinator_count,
        .coordinator_count = cluster->coordinator_count,
        .snapshot_threshold = snapshot_threshold,
        .one_executor = one_executor,
        .mutant = cluster->options->mutant,
        .tell = cluster->options->trace ? tell_text : NULL,
        .ctx = cluster};
    cluster->nodes[number] = sim_node_create(&options);
}

static void client_create(sim_cluster *cluster) {
    static const char *addresses[SIM_COORDINATORS_MAX];
    for (uint32_t i = 0; i <= cluster->coordinator_count; i++)
        addresses[i] = sim_node_address(i);
    sim_client_options options = {.env = cluster->env,
        .network = cluster->network,
        .address = "client:7442",
        .coordinators = addresses,
        .coordinator_count = cluster->coordinator_count + 1,
        .check = cluster->check,
        .seed = cluster->options->seed,
        .tell = cluster->options->trace ? tell_text : NULL,
        .ctx = cluster};
    cluster->client = sim_client_create(&options);
}

static void setup(sim_cluster *cluster) {
    uint64_t seed = cluster->options->seed;
    kith_rng_init(&cluster->rng, seed ^ 0x636c7573746572); /* "cluster" */
    cluster->client_machine = sim_env_create(seed);
    cluster->env = sim_env_kith(cluster->client_machine);
    cluster->network = kith_transport_sim_network_create(seed);
    cluster->check = sim_check_create();
    kith_transport_sim_trace(cluster->network, message_told, cluster);
    cluster->coordinator_count = below(cluster, 3) ? 3 : 5;
    cluster->node_count = cluster->coordinator_count + 1 + 2 + (uint32_t)below(cluster, 5);
    uint32_t snapshot_threshold = below(cluster, 2) ? 8 : 64;
    bool one_executor = below(cluster, 2);
    weights_draw(cluster);
    for (uint32_t i = 0; i < cluster->node_count;
         i++) /* host numbers are machine numbers; the client's is the last */
        (void)kith_transport_sim_host(cluster->network, sim_node_address(i));
    client_create(cluster);
    for (uint32_t i = 0; i < cluster->node_count; i++)
        node_create(cluster, i, snapshot_threshold, one_executor);
    for (uint32_t i = 0; i < cluster->node_count; i++)
        node_start(cluster, i);
    sim_client_start(cluster->client);
}

static void outcome_fill(const sim_cluster *cluster) {
    cluster->outcome->maps = sim_check_map_count(cluster->check);
    cluster->outcome->acknowledged = sim_check_acknowledged_count(cluster->check);
    cluster->outcome->commands = sim_check_command_count(cluster->check);
    cluster->outcome->terms = sim_check_term_count(cluster->check);
    cluster->outcome->virtual_ms = now_ms(cluster);
}

static void teardown(sim_cluster *cluster) {
    sim_client_destroy(cluster->client);
    for (uint32_t i = 0; i < cluster->node_count; i++)
        sim_node_destroy(cluster->nodes[i]);
    kith_transport_sim_network_destroy(cluster->network);
    sim_env_destroy(cluster->client_machine);
    sim_check_destroy(cluster->check);
}

/* The product's log lines carry the virtual time of the story. */
static uint64_t log_now_ms(void *ctx) {
    return kith_env_wall_ms(((const sim_cluster *)ctx)->env);
}

void sim_cluster_run(const sim_cluster_options *options, sim_cluster_outcome *outcome_out) {
    *outcome_out = (sim_cluster_outcome){0};
    sim_cluster history = {.options = options, .outcome = outcome_out};
    setup(&history);
    kith_log_clock_set(log_now_ms, &history);
    run_for(&history, (300 + below(&history, 1200)) * MS);
    trouble(&history);
    recovery(&history);
    settling(&history);
    outcome_fill(&history);
    closing(&history);
    kith_log_clock_set(NULL, NULL);
    if (all_off(&history)) teardown(&history); /* else it is left as it is: the violation says so */
}
