/* Placement keeps its promises, in their order: distinct nodes, zones, shares, few moves. Random small cases are compared
 * with an exact minimum cost flow that shares no code with it; large ones with a lower bound of the moves. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host/base/alloc.h"
#include "host/cluster/placement.h"
#include "tests/lib/test_lib.h"

#define ZONES_MAX 1000

typedef struct world {
    uint32_t node_count, shard_count, zone_count;
    kith_placement_node *nodes;
    kith_placement_shard *shards;
    kith_placement_replicas *wanted;
    kith_placement_share *shares;
} world;

static const char *zone_name(uint32_t zone) {
    static char names[ZONES_MAX][16];
    snprintf(names[zone], sizeof names[zone], "z%03u", zone);
    return names[zone];
}

static world world_make(
    uint32_t node_count, uint32_t zone_count, uint32_t shard_count, uint32_t replica_count) {
    world made = {.node_count = node_count, .shard_count = shard_count, .zone_count = zone_count};
    made.nodes = kith_alloc_zero((node_count + 1) * sizeof *made.nodes); /* room for one that joins */
    made.shards = kith_alloc_zero(shard_count * sizeof *made.shards);
    made.wanted = kith_alloc_zero(shard_count * sizeof *made.wanted);
    made.shares = kith_alloc_zero((node_count + 1) * sizeof *made.shares);
    for (uint32_t i = 0; i <= node_count; i++)
        made.nodes[i] = (kith_placement_node){
            .number = i + 1, .zone = zone_name(i % zone_count), .weight = 100, .usable = true};
    for (uint32_t i = 0; i < shard_count; i++)
        made.shards[i] = (kith_placement_shard){.id = i + 1, .replica_count = replica_count};
    return made;
}

static void world_free(world *made) {
    kith_free(made->nodes);
    kith_free(made->shards);
    kith_free(made->wanted);
    kith_free(made->shares);
}

static void world_plan(world *made) {
    kith_err err;
    assert_ok(kith_placement_plan(made->nodes, made->node_count, made->shards, made->shard_count,
                  made->wanted, made->shares, &err),
        &err);
}

/* What was wanted is what is. */
static void world_carry_out(world *made) {
    for (uint32_t i = 0; i < made->shard_count; i++) {
        made->shards[i].current_count = made->wanted[i].count;
        memcpy(made->shards[i].current, made->wanted[i].nodes, sizeof made->wanted[i].nodes);
    }
}

static int node_index(const world *made, uint32_t number) {
    for (uint32_t i = 0; i < made->node_count; i++) {
        if (made->nodes[i].number == number) return (int)i;
    }
    return -1;
}

static bool has(const uint32_t *numbers, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++) {
        if (numbers[i] == number) return true;
    }
    return false;
}

static uint32_t world_moves(const world *made) {
    uint32_t moves = 0;
    for (uint32_t i = 0; i < made->shard_count; i++) {
        for (uint32_t j = 0; j < made->wanted[i].count; j++)
            moves += !has(made->shards[i].current, made->shards[i].current_count, made->wanted[i].nodes[j]);
    }
    return moves;
}

/* --- what is promised --- */

typedef struct loads {
    uint32_t *replicas, *primaries, *current;
} loads;

static loads loads_of(const world *made) {
    loads counted;
    uint32_t *index = kith_alloc_zero(100000 * sizeof *index); /* number -> index + 1 */
    counted.replicas = kith_alloc_zero((made->node_count + 1) * sizeof(uint32_t));
    counted.primaries = kith_alloc_zero((made->node_count + 1) * sizeof(uint32_t));
    counted.current = kith_alloc_zero((made->node_count + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < made->node_count; i++)
        index[made->nodes[i].number] = i + 1;
    for (uint32_t i = 0; i < made->shard_count; i++) {
        for (uint32_t j = 0; j < made->wanted[i].count; j++)
            counted.replicas[index[made->wanted[i].nodes[j]] - 1]++;
        counted.primaries[index[made->wanted[i].nodes[0]] - 1]++;
        for (uint32_t j = 0; j < made->shards[i].current_count; j++) {
            if (index[made->shards[i].current[j]]) counted.current[index[made->shards[i].current[j]] - 1]++;
        }
    }
    kith_free(index);
    return counted;
}

static void loads_free(loads *counted) {
    kith_free(counted->replicas);
    kith_free(counted->primaries);
    kith_free(counted->current);
}

static uint32_t zone_usable(const world *made, const char *zone) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < made->node_count; i++)
        count += made->nodes[i].usable && strcmp(made->nodes[i].zone, zone) == 0;
    return count;
}

static uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* u of placement.h. */
static uint32_t zone_bound(const world *made, uint32_t replica_count) {
    for (uint32_t bound = 1; bound < replica_count; bound++) {
        uint32_t sum = 0;
        for (uint32_t zone = 0; zone < made->zone_count; zone++)
            sum += min_u32(bound, zone_usable(made, zone_name(zone)));
        if (sum >= replica_count) return bound;
    }
    return replica_count;
}

static void check_nodes(const world *made) {
    for (uint32_t i = 0; i < made->shard_count; i++) {
        const kith_placement_replicas *wanted = &made->wanted[i];
        assert_int_equal(wanted->count, made->shards[i].replica_count);
        for (uint32_t j = 0; j < wanted->count; j++) {
            int node = node_index(made, wanted->nodes[j]);
            assert_true(node >= 0);
            assert_false(has(wanted->nodes, j, wanted->nodes[j]));
            if (made->nodes[node].usable) continue;
            assert_true(made->nodes[node].keeps); /* only what it has */
            assert_true(has(made->shards[i].current, made->shards[i].current_count, wanted->nodes[j]));
        }
    }
}

static void check_zones(const world *made) {
    uint32_t *usable = kith_alloc_zero(made->zone_count * sizeof *usable);
    uint32_t bounds[KITH_REPLICAS_MAX + 1];
    for (uint32_t zone = 0; zone < made->zone_count; zone++)
        usable[zone] = zone_usable(made, zone_name(zone));
    for (uint32_t count = 1; count <= KITH_REPLICAS_MAX; count++)
        bounds[count] = zone_bound(made, count);
    for (uint32_t i = 0; i < made->shard_count; i++) {
        uint32_t bound = bounds[made->wanted[i].count], counts[ZONES_MAX] = {0};
        for (uint32_t j = 0; j < made->wanted[i].count; j++) {
            int node = node_index(made, made->wanted[i].nodes[j]);
            counts[atoi(made->nodes[node].zone + 1)]++;
        }
        for (uint32_t zone = 0; zone < made->zone_count; zone++) {
            assert_true(counts[zone] <= bound);
            assert_true(counts[zone] >= min_u32(usable[zone], bound - 1));
        }
    }
    kith_free(usable);
}

/* Within one of the share, or within 5 % of it. */
static void check_near(uint32_t count, double share) {
    double allowed = fmax(1.0 + 1e-6, 0.05 * share);
    if (fabs(count - share) > allowed) fail_msg("%u is too far from a share of %g", count, share);
}

static void check_balance(const world *made) {
    loads counted = loads_of(made);
    for (uint32_t i = 0; i < made->node_count; i++) {
        check_near(counted.replicas[i], made->shares[i].replicas);
        check_near(counted.primaries[i], made->shares[i].primaries);
    }
    loads_free(&counted);
}

/* The least moves of any placement in which each node holds its share rounded down or up: what nodes lack of it, and
 * what they hold above it or may not hold at all, must move. */
static uint32_t moves_least(const world *made) {
    loads counted = loads_of(made);
    double lack = 0, surplus = 0;
    for (uint32_t i = 0; i < made->node_count; i++) {
        double share = made->shares[i].replicas;
        lack += fmax(0, floor(share + 1e-6) - counted.current[i]);
        surplus += fmax(0, counted.current[i] - ceil(share - 1e-6));
    }
    for (uint32_t i = 0; i < made->shard_count; i++) { /* nodes that left altogether */
        for (uint32_t j = 0; j < made->shards[i].current_count; j++)
            surplus += made->shards[i].current[j] >= 90000;
    }
    loads_free(&counted);
    return (uint32_t)fmax(lack, surplus);
}

static void check_moves(const world *made, const char *what) {
    uint32_t moves = world_moves(made), least = moves_least(made);
    printf("%s: %u moves, at least %u\n", what, moves, least);
    assert_true(moves <= least * 1.05);
}

static void check_all(const world *made) {
    check_nodes(made);
    check_zones(made);
    check_balance(made);
}

/* --- at the size of a large cluster --- */

static double cpu_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Sanitizers and -O1 take several times as long: the promise is of what users run. */
static void check_time(const char *what, double begun) {
    double took = cpu_seconds() - begun;
    printf("%s: %.3f s\n", what, took);
#if !defined(KITH_DEBUG)
    assert_true(took < 1.0);
#endif
}

static void large_plan(world *made, const char *what) {
    double begun = cpu_seconds();
    world_plan(made);
    check_time(what, begun);
}

static void large_life(uint32_t zone_count, bool weighted) {
    world made = world_make(1000, zone_count, 10000, 3);
    for (uint32_t i = 0; weighted && i < made.node_count; i++)
        made.nodes[i].weight = 50 + i / zone_count % 4 * 50;
    large_plan(&made, "from nothing");
    check_all(&made);
    world_carry_out(&made);
    large_plan(&made, "again");
    assert_int_equal(world_moves(&made), 0);

    made.nodes[made.node_count].weight = 200;
    made.node_count++; /* a node joins */
    large_plan(&made, "join");
    check_all(&made);
    check_moves(&made, "join");
    world_carry_out(&made);

    made.nodes[500].usable = false; /* one drains */
    large_plan(&made, "drain");
    check_all(&made);
    check_moves(&made, "drain");
    world_carry_out(&made);

    made.nodes[7].usable = false; /* one goes down: nothing moves */
    made.nodes[7].keeps = true;
    large_plan(&made, "down");
    check_all(&made);
    check_moves(&made, "down");

    made.nodes[7].keeps = false; /* and is given up */
    large_plan(&made, "leave");
    check_all(&made);
    check_moves(&made, "leave");
    world_free(&made);
}

static void test_placement__large_cluster_with_three_zones(void **unused) {
    (void)unused;
    large_life(3, false);
}

static void test_placement__large_cluster_without_zones_with_weights(void **unused) {
    (void)unused;
    large_life(1, true);
}

static void test_placement__large_cluster_with_seven_zones_and_weights(void **unused) {
    (void)unused;
    large_life(7, true);
}

static void test_placement__large_cluster_in_which_every_node_is_a_zone(void **unused) {
    (void)unused;
    large_life(1000, false);
}

static void test_placement__large_cluster_doubles(void **unused) {
    (void)unused;
    world made = world_make(1000, 5, 10000, 3);
    made.node_count = 500;
    world_plan(&made);
    world_carry_out(&made);
    made.node_count = 1000;
    large_plan(&made, "500 nodes join");
    check_all(&made);
    check_moves(&made, "500 nodes join");
    world_free(&made);
}

/* --- against the exact minimum --- */

/* Minimum cost flow by successive shortest paths (Bellman-Ford), small and slow. */
#define FLOW_EDGES_MAX 20000
#define FLOW_NODES_MAX 1000

typedef struct flow {
    int edge_count, node_count;
    int to[FLOW_EDGES_MAX], room[FLOW_EDGES_MAX], next[FLOW_EDGES_MAX], first[FLOW_NODES_MAX];
    int64_t cost[FLOW_EDGES_MAX];
} flow;

static void flow_half(flow *graph, int from, int to, int room, int64_t cost) {
    int edge = graph->edge_count++;
    assert_true(edge < FLOW_EDGES_MAX);
    graph->to[edge] = to;
    graph->room[edge] = room;
    graph->cost[edge] = cost;
    graph->next[edge] = graph->first[from];
    graph->first[from] = edge;
}

static void flow_edge(flow *graph, int from, int to, int room, int64_t cost) {
    flow_half(graph, from, to, room, cost);
    flow_half(graph, to, from, 0, -cost);
}

/* Cost of the cheapest path from node 0 to node 1, INT64_MAX if there is none; `via` is its edges. */
static int64_t flow_path(const flow *graph, int *via) {
    int64_t distance[FLOW_NODES_MAX];
    bool queued[FLOW_NODES_MAX] = {false};
    static int queue[FLOW_NODES_MAX];
    for (int i = 0; i < graph->node_count; i++)
        distance[i] = INT64_MAX;
    int head = 0, count = 1;
    queue[0] = 0;
    distance[0] = 0;
    while (count > 0) {
        int node = queue[head];
        head = (head + 1) % FLOW_NODES_MAX;
        count--;
        queued[node] = false;
        for (int edge = graph->first[node]; edge >= 0; edge = graph->next[edge]) {
            int to = graph->to[edge];
            if (graph->room[edge] == 0 || distance[node] + graph->cost[edge] >= distance[to]) continue;
            distance[to] = distance[node] + graph->cost[edge];
            via[to] = edge;
            if (queued[to]) continue;
            queued[to] = true;
            queue[(head + count++) % FLOW_NODES_MAX] = to;
        }
    }
    return distance[1];
}

static int64_t flow_run(flow *graph, uint32_t units) {
    int64_t sum = 0;
    static int via[FLOW_NODES_MAX];
    for (uint32_t i = 0; i < units; i++) {
        int64_t cost = flow_path(graph, via);
        assert_true(cost != INT64_MAX);
        sum += cost;
        for (int node = 1; node != 0; node = graph->to[via[node] ^ 1]) {
            graph->room[via[node]]--;
            graph->room[via[node] ^ 1]++;
        }
    }
    return sum;
}

/* One cost above the other: keeping what down nodes have, zones, shares, moves. */
#define COST_SHARE 1000
#define COST_ZONE  (1000 * 1000)
#define COST_KEEP  (1000 * 1000 * 1000LL)

typedef struct exact {
    int64_t off_share; /* replicas below shares rounded down */
    int64_t moves;
} exact;

static void exact_shard(const world *made, flow *graph, uint32_t shard, int shard_node, int *zone_node) {
    const kith_placement_shard *given = &made->shards[shard];
    uint32_t bound = zone_bound(made, given->replica_count);
    flow_edge(graph, 0, shard_node, (int)given->replica_count, 0);
    for (uint32_t zone = 0; zone < made->zone_count; zone++) {
        int low = (int)min_u32(zone_usable(made, zone_name(zone)), bound - 1);
        zone_node[zone] = graph->node_count++;
        flow_edge(graph, shard_node, zone_node[zone], low, -COST_ZONE);
        flow_edge(graph, shard_node, zone_node[zone], (int)bound - low, 0);
        flow_edge(graph, shard_node, zone_node[zone], KITH_REPLICAS_MAX, COST_ZONE);
    }
    for (uint32_t i = 0; i < made->node_count; i++) {
        const kith_placement_node *node = &made->nodes[i];
        bool is_there = has(given->current, given->current_count, node->number);
        int from = zone_node[atoi(node->zone + 1)];
        if (node->usable) flow_edge(graph, from, (int)i + 2, 1, is_there ? 0 : 1);
        if (node->keeps && is_there) flow_edge(graph, from, (int)i + 2, 1, -COST_KEEP);
    }
}

static exact exact_find(const world *made) {
    static flow graph;
    uint32_t units = 0;
    int zone_node[ZONES_MAX];
    graph.edge_count = 0;
    graph.node_count = 2 + (int)made->node_count;
    for (int i = 0; i < FLOW_NODES_MAX; i++)
        graph.first[i] = -1;
    int64_t floors = 0;
    for (uint32_t i = 0; i < made->node_count; i++) {
        double share = made->shares[i].replicas;
        int low = (int)floor(share + 1e-6), high = (int)ceil(share - 1e-6);
        flow_edge(&graph, (int)i + 2, 1, low, -COST_SHARE);
        flow_edge(&graph, (int)i + 2, 1, high - low, 0);
        flow_edge(&graph, (int)i + 2, 1, 1000, COST_SHARE);
        floors += low;
    }
    for (uint32_t i = 0; i < made->shard_count; i++) {
        exact_shard(made, &graph, i, graph.node_count++, zone_node);
        units += made->shards[i].replica_count;
    }
    (void)flow_run(&graph, units);
    exact found = {.off_share = floors};
    for (int edge = 0; edge < graph.edge_count; edge += 2) {
        int used = graph.room[edge ^ 1];
        if (graph.to[edge] == 1 && graph.cost[edge] == -COST_SHARE) found.off_share -= used;
        if (graph.cost[edge] == 1) found.moves += used;
    }
    return found;
}

static int64_t off_share(const world *made) {
    loads counted = loads_of(made);
    double sum = 0;
    for (uint32_t i = 0; i < made->node_count; i++)
        sum += fmax(0, floor(made->shares[i].replicas + 1e-6) - counted.replicas[i]);
    loads_free(&counted);
    return (int64_t)sum;
}

/* A cluster in any state: some shards placed by nobody's rules, replicas on nodes that are gone. */
static world world_random(kith_rng *rng) {
    uint32_t node_count = 1 + (uint32_t)kith_rng_below(rng, 10), zone_count = 1 + kith_rng_below(rng, 4) % 4;
    world made = world_make(node_count, zone_count, 1 + (uint32_t)kith_rng_below(rng, 20), 1);
    bool weighted = kith_rng_below(rng, 2), odd_zones = kith_rng_below(rng, 2);
    for (uint32_t i = 0; i < node_count; i++) {
        if (weighted) made.nodes[i].weight = 1 + (uint32_t)kith_rng_below(rng, 300);
        if (odd_zones) made.nodes[i].zone = zone_name((uint32_t)kith_rng_below(rng, zone_count));
    }
    uint32_t replica_count = 1 + (uint32_t)kith_rng_below(rng, min_u32(node_count, 4));
    bool mixed = kith_rng_below(rng, 4) == 0;
    for (uint32_t i = 0; i < made.shard_count; i++) {
        made.shards[i].replica_count =
            mixed ? 1 + (uint32_t)kith_rng_below(rng, replica_count) : replica_count;
    }
    return made;
}

static void world_disturb(world *made, kith_rng *rng) {
    uint32_t usable = made->node_count;
    for (uint32_t i = 0; i < made->node_count; i++) {
        made->nodes[i].usable = true;
        made->nodes[i].keeps = false;
        if (usable <= KITH_REPLICAS_MAX - 3 || kith_rng_below(rng, 5) > 0) continue;
        usable--;
        made->nodes[i].usable = false;
        made->nodes[i].keeps = kith_rng_below(rng, 2);
    }
    for (uint32_t i = 0; i < made->shard_count; i++) {
        if (kith_rng_below(rng, 8) > 0) continue;
        made->shards[i].current_count = (uint32_t)kith_rng_below(rng, 4);
        for (uint32_t j = 0; j < made->shards[i].current_count; j++) {
            uint32_t number = 1 + (uint32_t)kith_rng_below(rng, made->node_count);
            bool taken = has(made->shards[i].current, j, number);
            made->shards[i].current[j] = taken ? 90000 + j : number;
        }
    }
}

static bool any_unusable(const world *made) {
    for (uint32_t i = 0; i < made->node_count; i++) {
        if (!made->nodes[i].usable) return true;
    }
    return false;
}

typedef struct tally {
    uint64_t cases, moves, moves_exact, off, off_exact;
} tally;

static void compare_exact(const world *made, tally *sum) {
    exact best = exact_find(made);
    int64_t moves = world_moves(made), off = off_share(made);
    sum->cases++;
    sum->moves += (uint64_t)moves;
    sum->moves_exact += (uint64_t)best.moves;
    sum->off += (uint64_t)off;
    sum->off_exact += (uint64_t)best.off_share;
}

static void random_life(kith_rng *rng, tally *sum) {
    world made = world_random(rng);
    for (uint32_t step = 0; step < 5; step++) {
        kith_err err;
        kith_status status = kith_placement_plan(
            made.nodes, made.node_count, made.shards, made.shard_count, made.wanted, made.shares, &err);
        if (status == KITH_PRECONDITION) break; /* too few nodes are left */
        assert_ok(status, &err);
        check_nodes(&made);
        if (!any_unusable(&made)) check_zones(&made);
        compare_exact(&made, sum);
        world_carry_out(&made);
        world_plan(&made);
        assert_int_equal(world_moves(&made), 0);
        world_disturb(&made, rng);
    }
    world_free(&made);
}

static void test_placement__random_cases_are_near_the_exact_minimum(void **unused) {
    (void)unused;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    tally sum = {0};
    for (uint64_t i = 0; i < test_scaled(2000); i++)
        random_life(&rng, &sum);
    printf("%llu cases: %llu moves (exact %llu), %llu below shares (exact %llu)\n",
        (unsigned long long)sum.cases, (unsigned long long)sum.moves, (unsigned long long)sum.moves_exact,
        (unsigned long long)sum.off, (unsigned long long)sum.off_exact);
    assert_true(sum.moves <= sum.moves_exact * 1.05);
    assert_true(sum.off <= sum.off_exact + sum.cases / 100);
}

/* --- what it does in particular --- */

static void test_placement__order_of_nodes_does_not_matter(void **unused) {
    (void)unused;
    world made = world_make(9, 3, 40, 3);
    world_plan(&made);
    kith_placement_replicas before[40];
    memcpy(before, made.wanted, sizeof before);
    for (uint32_t i = 0; i < 4; i++) {
        kith_placement_node swapped = made.nodes[i];
        made.nodes[i] = made.nodes[8 - i];
        made.nodes[8 - i] = swapped;
    }
    world_plan(&made);
    assert_memory_equal(before, made.wanted, sizeof before);
    world_free(&made);
}

static void test_placement__replicas_of_one_nodes_shards_are_spread_over_all_others(void **unused) {
    (void)unused;
    world made = world_make(20, 1, 1000, 2);
    world_plan(&made);
    uint32_t beside[21] = {0};
    for (uint32_t i = 0; i < made.shard_count; i++) {
        const uint32_t *nodes = made.wanted[i].nodes;
        if (nodes[0] == 1) beside[nodes[1]]++;
        if (nodes[1] == 1) beside[nodes[0]]++;
    }
    for (uint32_t number = 2; number <= 20; number++)
        assert_in_range(beside[number], 1, 15); /* 100 shards, 5.3 a node */
    world_free(&made);
}

static void test_placement__more_replicas_than_zones_are_even_over_zones(void **unused) {
    (void)unused;
    world made = world_make(9, 3, 30, 5);
    world_plan(&made);
    check_all(&made); /* 2, 2, 1 */
    world_free(&made);
}

static void test_placement__zone_of_one_node_gets_a_replica_of_everything(void **unused) {
    (void)unused;
    world made = world_make(9, 1, 30, 3);
    for (uint32_t i = 0; i < 9; i++)
        made.nodes[i].zone = zone_name(i == 0 ? 0 : 1 + i % 2);
    made.zone_count = 3;
    world_plan(&made);
    check_all(&made);
    assert_true(fabs(made.shares[0].replicas - 30) < 1e-6);
    world_free(&made);
}

static void test_placement__zone_that_comes_back_gets_its_replicas(void **unused) {
    (void)unused;
    world made = world_make(6, 3, 60, 3);
    made.nodes[2].usable = made.nodes[5].usable = false;
    world_plan(&made);
    check_nodes(&made);
    world_carry_out(&made);
    made.nodes[2].usable = made.nodes[5].usable = true;
    world_plan(&made);
    check_all(&made);
    assert_int_equal(world_moves(&made), 60);
    world_free(&made);
}

static void test_placement__down_node_keeps_its_replicas_and_primaries_and_gets_none(void **unused) {
    (void)unused;
    world made = world_make(4, 1, 20, 2);
    world_plan(&made);
    world_carry_out(&made);
    made.nodes[1].usable = false;
    made.nodes[1].keeps = true;
    world_plan(&made);
    assert_int_equal(world_moves(&made), 0);
    for (uint32_t i = 0; i < made.shard_count; i++) {
        if (made.shards[i].current[0] == 2) assert_int_equal(made.wanted[i].nodes[0], 2);
    }
    for (uint32_t i = 0; i < made.shard_count; i++)
        made.shards[i].current_count = 0; /* shards that are new while it is down */
    world_plan(&made);
    check_nodes(&made);
    world_free(&made);
}

static void test_placement__fewer_replicas_wanted_go_from_the_down_node_first(void **unused) {
    (void)unused;
    world made = world_make(4, 1, 1, 2);
    made.shards[0] =
        (kith_placement_shard){.id = 1, .replica_count = 2, .current_count = 3, .current = {1, 2, 3}};
    made.nodes[1].usable = false;
    made.nodes[1].keeps = true;
    world_plan(&made);
    assert_int_equal(made.wanted[0].nodes[0], 1);
    assert_int_equal(made.wanted[0].nodes[1], 3);
    world_free(&made);
}

static void test_placement__primary_goes_to_a_replica_that_has_the_data(void **unused) {
    (void)unused;
    world made = world_make(5, 1, 40, 2);
    world_plan(&made);
    world_carry_out(&made);
    made.nodes[0].usable = false; /* drains */
    world_plan(&made);
    for (uint32_t i = 0; i < made.shard_count; i++) {
        if (made.shards[i].current[0] != 1) continue;
        assert_int_equal(made.wanted[i].nodes[0], made.shards[i].current[1]);
    }
    world_free(&made);
}

static void test_placement__capacity_is_never_exceeded(void **unused) {
    (void)unused;
    world made = world_make(4, 2, 10, 2);
    made.nodes[0].capacity = 1;
    world_plan(&made);
    check_nodes(&made);
    loads counted = loads_of(&made);
    assert_int_equal(counted.replicas[0], 1);
    assert_int_equal(counted.replicas[2], 9); /* the other node of its zone */
    loads_free(&counted);
    for (uint32_t i = 0; i < 4; i++)
        made.nodes[i].capacity = 4;
    kith_err err;
    kith_status status = kith_placement_plan(made.nodes, 4, made.shards, 10, made.wanted, NULL, &err);
    assert_int_equal(status, KITH_NO_SPACE);
    assert_non_null(strstr(err.text, "shard 9: the capacities of 4 nodes are used up"));
    world_free(&made);
}

static void test_placement__too_few_nodes_say_so(void **unused) {
    (void)unused;
    kith_err err;
    world made = world_make(4, 1, 2, 3);
    made.nodes[0].usable = false;
    made.nodes[1].weight = 0;
    kith_status status = kith_placement_plan(made.nodes, 4, made.shards, 2, made.wanted, NULL, &err);
    assert_int_equal(status, KITH_PRECONDITION);
    assert_string_equal(err.text,
        "shard 1 wants 3 replicas on different nodes, and 2 of 4 data nodes can hold "
        "one: the others are down, drain, are full or have no weight");
    status = kith_placement_plan(NULL, 0, made.shards, 2, made.wanted, NULL, &err);
    assert_int_equal(status, KITH_PRECONDITION);
    made.shards[1].replica_count = KITH_REPLICAS_MAX + 1;
    status = kith_placement_plan(made.nodes, 4, made.shards, 2, made.wanted, NULL, &err);
    assert_int_equal(status, KITH_INVALID);
    assert_ok(kith_placement_plan(made.nodes, 4, NULL, 0, NULL, made.shares, &err), &err);
    world_free(&made);
}

static void test_placement__node_of_the_metadata(void **unused) {
    (void)unused;
    kith_node node = {.number = 3, .role = KITH_NODE_DATA, .zone = "a", .weight = 50};
    kith_placement_node given = kith_placement_node_of(&node);
    assert_true(given.usable && !given.keeps && given.number == 3 && given.weight == 50);
    assert_ptr_equal(given.zone, node.zone);
    node.down = true;
    given = kith_placement_node_of(&node);
    assert_true(!given.usable && given.keeps);
    node.draining = true; /* told to give all away, also when it is down */
    given = kith_placement_node_of(&node);
    assert_true(!given.usable && !given.keeps);
    node = (kith_node){.number = 4, .role = KITH_NODE_QUERY, .weight = 100};
    given = kith_placement_node_of(&node);
    assert_true(!given.usable && !given.keeps);
}

/* --- new collections --- */

static void place_new(world *made, const kith_placement_load *load, uint32_t replica_count) {
    kith_err err;
    kith_placement_collection collection = {
        .shard_id_first = 77, .shard_count = made->shard_count, .replica_count = replica_count};
    assert_ok(
        kith_placement_new_collection(made->nodes, load, made->node_count, &collection, made->wanted, &err),
        &err);
    check_nodes(made);
}

static void test_placement__new_collection_is_even_in_itself_whatever_others_hold(void **unused) {
    (void)unused;
    world made = world_make(4, 2, 8, 2);
    const kith_placement_load load[4] = {{90, 40}, {10, 5}, {0, 0}, {30, 20}};
    place_new(&made, load, 2);
    check_zones(&made);
    loads counted = loads_of(&made);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(counted.replicas[i], 4);
        assert_int_equal(counted.primaries[i], 2);
    }
    loads_free(&counted);
    world_free(&made);
}

static void test_placement__small_new_collections_go_to_the_least_loaded(void **unused) {
    (void)unused;
    world made = world_make(4, 1, 2, 1);
    const kith_placement_load load[4] = {{9, 9}, {1, 1}, {20, 20}, {3, 3}};
    place_new(&made, load, 1);
    loads counted = loads_of(&made);
    assert_int_equal(counted.replicas[1], 1);
    assert_int_equal(counted.replicas[3], 1);
    loads_free(&counted);
    world_free(&made);
}

/* Many collections of one shard each come to the same balance as one of many shards. */
static void test_placement__collections_one_by_one_stay_balanced(void **unused) {
    (void)unused;
    world made = world_make(7, 3, 1, 2);
    kith_placement_load load[7] = {{0, 0}};
    made.nodes[2].weight = 200;
    for (uint32_t round = 0; round < 400; round++) {
        place_new(&made, load, 2);
        check_zones(&made);
        for (uint32_t j = 0; j < 2; j++)
            load[made.wanted[0].nodes[j] - 1].replicas++;
        load[made.wanted[0].nodes[0] - 1].primaries++;
    }
    for (uint32_t i = 0; i < 7; i++) {
        assert_in_range(load[i].replicas, i == 2 ? 190 : 95, i == 2 ? 210 : 105);
        assert_in_range(load[i].primaries, i == 2 ? 90 : 45, i == 2 ? 110 : 55);
    }
    world_free(&made);
}

static void test_placement__new_collection_leaves_full_nodes_alone(void **unused) {
    (void)unused;
    world made = world_make(3, 1, 2, 2);
    const kith_placement_load load[3] = {{5, 2}, {4, 2}, {0, 0}};
    made.nodes[0].capacity = 5;
    made.nodes[1].capacity = 6;
    place_new(&made, load, 2);
    loads counted = loads_of(&made);
    assert_int_equal(counted.replicas[0], 0);
    loads_free(&counted);
    world_free(&made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement__large_cluster_with_three_zones),
        cmocka_unit_test(test_placement__large_cluster_without_zones_with_weights),
        cmocka_unit_test(test_placement__large_cluster_with_seven_zones_and_weights),
        cmocka_unit_test(test_placement__large_cluster_in_which_every_node_is_a_zone),
        cmocka_unit_test(test_placement__large_cluster_doubles),
        cmocka_unit_test(test_placement__random_cases_are_near_the_exact_minimum),
        cmocka_unit_test(test_placement__order_of_nodes_does_not_matter),
        cmocka_unit_test(test_placement__replicas_of_one_nodes_shards_are_spread_over_all_others),
        cmocka_unit_test(test_placement__more_replicas_than_zones_are_even_over_zones),
        cmocka_unit_test(test_placement__zone_of_one_node_gets_a_replica_of_everything),
        cmocka_unit_test(test_placement__zone_that_comes_back_gets_its_replicas),
        cmocka_unit_test(test_placement__down_node_keeps_its_replicas_and_primaries_and_gets_none),
        cmocka_unit_test(test_placement__fewer_replicas_wanted_go_from_the_down_node_first),
        cmocka_unit_test(test_placement__primary_goes_to_a_replica_that_has_the_data),
        cmocka_unit_test(test_placement__capacity_is_never_exceeded),
        cmocka_unit_test(test_placement__too_few_nodes_say_so),
        cmocka_unit_test(test_placement__node_of_the_metadata),
        cmocka_unit_test(test_placement__new_collection_is_even_in_itself_whatever_others_hold),
        cmocka_unit_test(test_placement__small_new_collections_go_to_the_least_loaded),
        cmocka_unit_test(test_placement__collections_one_by_one_stay_balanced),
        cmocka_unit_test(test_placement__new_collection_leaves_full_nodes_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
