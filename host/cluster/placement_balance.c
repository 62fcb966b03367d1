/* Moves replicas from nodes above their target to nodes below, along the cheapest chains: breadth first over nodes, where
 * an edge a -> b is a replica on a that the rules let go to b. An edge costs a move if the replica has data on a, else
 * nothing, so nodes are reached in rounds: all that no further move costs, then all that one more costs.
 *
 * A search visits a node once; unvisited nodes are kept by zone, so that whole zones are taken or skipped at once. */
#include "host/cluster/placement_internal.h"

typedef struct balance_search {
    placement_plan *plan;
    uint32_t *queue; /* visited nodes in order */
    uint32_t queue_count;
    uint32_t *via;       /* [node] the replica that goes there; PLACEMENT_NONE: a search begins at it */
    uint32_t *unvisited; /* as zone_nodes, of each zone the first `left` */
    uint32_t *left;      /* [zone] */
    uint32_t left_count;
    uint32_t turn; /* searches so far: each begins elsewhere, so that moves spread */
} balance_search;

static bool is_above(const placement_node *node) {
    return node->given.usable && node->load > node->target;
}

static bool is_below(const placement_node *node) {
    return node->given.usable && node->load < node->target;
}

static void search_init(balance_search *search, placement_plan *plan) {
    kith_arena *arena = &plan->arena;
    *search = (balance_search){.plan = plan};
    search->queue = kith_arena_array(arena, plan->node_count, sizeof *search->queue);
    search->via = kith_arena_array(arena, plan->node_count, sizeof *search->via);
    search->unvisited = kith_arena_array(arena, plan->node_count, sizeof *search->unvisited);
    search->left = kith_arena_array(arena, plan->zone_count, sizeof *search->left);
}

/* Nodes above their target begin; usable others are unvisited. */
static void search_begin(balance_search *search) {
    placement_plan *plan = search->plan;
    search->queue_count = search->left_count = 0;
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        uint32_t first = plan->zones[zone].node_first;
        uint32_t end = zone + 1 < plan->zone_count ? plan->zones[zone + 1].node_first : plan->node_count;
        uint32_t count = end - first, left = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t node = plan->zone_nodes[first + (i + search->turn) % count];
            if (!plan->nodes[node].given.usable || is_above(&plan->nodes[node])) continue;
            search->unvisited[first + left++] = node;
        }
        search->left[zone] = left;
        search->left_count += left;
    }
    for (uint32_t i = 0; i < plan->node_count; i++) {
        uint32_t node = (i + search->turn) % plan->node_count;
        if (!is_above(&plan->nodes[node])) continue;
        search->via[node] = PLACEMENT_NONE;
        search->queue[search->queue_count++] = node;
    }
    search->turn++;
}

static bool zones_allow(const placement_plan *plan, uint32_t shard, uint32_t from, uint32_t to) {
    if (from == to) return true;
    uint32_t replica_count = plan->shards[shard].replica_count;
    return placement_shard_zone_count(plan, shard, to) < plan->zone_bounds[replica_count] &&
           placement_shard_zone_count(plan, shard, from) > placement_zone_low(plan, replica_count, from);
}

/* Whether a replica of the shard goes along the chain that leads to `node`: two moves of one shard could break together
 * what each alone does not. */
static bool chain_has(const balance_search *search, uint32_t node, uint32_t shard) {
    const placement_plan *plan = search->plan;
    while (search->via[node] != PLACEMENT_NONE) {
        if (search->via[node] / KITH_REPLICAS_MAX == shard) return true;
        node = plan->replicas[search->via[node]].node;
    }
    return false;
}

/* Visits the zone's nodes that the replica may go to; a node below its target ends the search. */
static uint32_t visit_zone(balance_search *search, uint32_t zone, uint32_t replica) {
    placement_plan *plan = search->plan;
    uint32_t *nodes = search->unvisited + plan->zones[zone].node_first;
    for (uint32_t i = search->left[zone]; i-- > 0;) {
        uint32_t node = nodes[i];
        if (placement_shard_is_on(plan, replica / KITH_REPLICAS_MAX, node)) continue;
        nodes[i] = nodes[--search->left[zone]];
        search->left_count--;
        search->via[node] = replica;
        search->queue[search->queue_count++] = node;
        if (is_below(&plan->nodes[node])) return node;
    }
    return PLACEMENT_NONE;
}

static uint32_t visit_replica(balance_search *search, uint32_t from, uint32_t replica) {
    placement_plan *plan = search->plan;
    uint32_t shard = replica / KITH_REPLICAS_MAX;
    if (chain_has(search, from, shard)) return PLACEMENT_NONE;
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        if (search->left[zone] == 0 || !zones_allow(plan, shard, plan->nodes[from].zone, zone)) continue;
        uint32_t found = visit_zone(search, zone, replica);
        if (found != PLACEMENT_NONE) return found;
    }
    return PLACEMENT_NONE;
}

/* Visits what replicas on `from` with or without data can reach. */
static uint32_t visit_from(balance_search *search, uint32_t from, bool has_data) {
    const placement_plan *plan = search->plan;
    const placement_node *node = &plan->nodes[from];
    if ((has_data ? node->load - node->fresh_count : node->fresh_count) == 0) return PLACEMENT_NONE;
    uint32_t replica = node->replica_first;
    for (; replica != PLACEMENT_NONE && search->left_count > 0; replica = plan->replicas[replica].next) {
        if (plan->replicas[replica].has_data != has_data) continue;
        uint32_t found = visit_replica(search, from, replica);
        if (found != PLACEMENT_NONE) return found;
    }
    return PLACEMENT_NONE;
}

/* A node below its target that some node above can reach, by the fewest moves of data. */
static uint32_t search_run(balance_search *search) {
    search_begin(search);
    uint32_t free_done = 0, paid_done = 0;
    while (paid_done < search->queue_count) {
        for (; free_done < search->queue_count; free_done++) {
            uint32_t found = visit_from(search, search->queue[free_done], false);
            if (found != PLACEMENT_NONE) return found;
        }
        for (uint32_t end = free_done; paid_done < end; paid_done++) {
            uint32_t found = visit_from(search, search->queue[paid_done], true);
            if (found != PLACEMENT_NONE) return found;
        }
    }
    return PLACEMENT_NONE;
}

static void chain_apply(balance_search *search, uint32_t node) {
    placement_plan *plan = search->plan;
    while (search->via[node] != PLACEMENT_NONE) {
        uint32_t replica = search->via[node], from = plan->replicas[replica].node;
        placement_replica_remove(plan, replica);
        placement_replica_put(plan, replica, node);
        node = from;
    }
}

/* Ends: each round brings the sum of what is above targets down by one. */
bool placement_balance(placement_plan *plan) {
    balance_search search;
    search_init(&search, plan);
    for (;;) {
        uint32_t node = search_run(&search);
        if (node == PLACEMENT_NONE) return search.turn > 1;
        chain_apply(&search, node);
    }
}
