#include "host/cluster/placement.h"

#include <stdlib.h>
#include <string.h>

#include "host/base/assert.h"
#include "host/cluster/placement_internal.h"

kith_placement_node kith_placement_node_of(const kith_node *node) {
    bool holds = kith_node_holds_shards(node->role) && !node->draining && node->weight > 0;
    return (kith_placement_node){
        .number = node->number,
        .zone = node->zone,
        .weight = node->weight,
        .usable = holds && !node->down,
        .keeps = holds && node->down,
    };
}

/* --- setting up --- */

static int node_compare(const void *left, const void *right) {
    uint32_t a = ((const placement_node *)left)->given.number;
    uint32_t b = ((const placement_node *)right)->given.number;
    return a < b ? -1 : a > b;
}

static void plan_nodes(
    placement_plan *plan, const kith_placement_node *nodes, const kith_placement_load *loads) {
    plan->nodes = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *plan->nodes);
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[i];
        node->given = nodes[i];
        node->given.usable = nodes[i].usable && nodes[i].weight > 0;
        node->given_index = i;
        node->tie = placement_hash(nodes[i].number);
        node->replica_first = PLACEMENT_NONE;
        if (loads) node->load_other = loads[i];
        plan->usable_count += node->given.usable;
    }
    qsort(plan->nodes, plan->node_count, sizeof *plan->nodes, node_compare);
}

static int zone_compare(const void *left, const void *right, void *ctx) {
    const placement_node *nodes = ctx;
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    int order = strcmp(nodes[a].given.zone, nodes[b].given.zone);
    return order != 0 ? order : a < b ? -1 : a > b;
}

static void plan_zones(placement_plan *plan) {
    plan->zones = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *plan->zones);
    plan->zone_nodes = kith_arena_array(&plan->arena, plan->node_count, sizeof *plan->zone_nodes);
    for (uint32_t i = 0; i < plan->node_count; i++)
        plan->zone_nodes[i] = i;
    qsort_r(plan->zone_nodes, plan->node_count, sizeof *plan->zone_nodes, zone_compare, plan->nodes);
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[plan->zone_nodes[i]];
        const char *zone_before = i ? plan->nodes[plan->zone_nodes[i - 1]].given.zone : NULL;
        if (i == 0 || strcmp(zone_before, node->given.zone) != 0)
            plan->zones[plan->zone_count++].node_first = i;
        node->zone = plan->zone_count - 1;
        plan->zones[node->zone].usable_count += node->given.usable;
    }
}

/* The most replicas of a shard in one zone that suffice for `replica_count`; that many if the nodes do not. */
static uint32_t zone_bound_of(const placement_plan *plan, uint32_t replica_count) {
    for (uint32_t bound = 1; bound < replica_count; bound++) {
        uint32_t sum = 0;
        for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
            uint32_t usable = plan->zones[zone].usable_count;
            sum += usable < bound ? usable : bound;
        }
        if (sum >= replica_count) return bound;
    }
    return replica_count;
}

static void plan_init(placement_plan *plan, const kith_placement_node *nodes,
    const kith_placement_load *loads, uint32_t node_count) {
    *plan = (placement_plan){.node_count = node_count, .is_new = loads != NULL};
    kith_arena_init(&plan->arena);
    plan_nodes(plan, nodes, loads);
    plan_zones(plan);
    for (uint32_t count = 1; count <= KITH_REPLICAS_MAX; count++)
        plan->zone_bounds[count] = zone_bound_of(plan, count);
}

static void plan_shards(placement_plan *plan, const kith_placement_shard *shards, uint32_t shard_count) {
    size_t replica_count = (size_t)shard_count * KITH_REPLICAS_MAX;
    plan->shards = shards;
    plan->shard_count = shard_count;
    plan->replicas = kith_arena_array(&plan->arena, replica_count, sizeof *plan->replicas);
    for (size_t i = 0; i < replica_count; i++)
        plan->replicas[i] = (placement_replica){.node = PLACEMENT_NONE};
    plan->primary_slots = kith_arena_alloc_zero(&plan->arena, shard_count);
}

/* --- checks --- */

static kith_status nodes_check(const placement_plan *plan, kith_err *err) {
    for (uint32_t i = 1; i < plan->node_count; i++) {
        if (plan->nodes[i - 1].given.number == plan->nodes[i].given.number)
            return kith_err_set(
                err, KITH_INVALID, "node number %u is there twice", plan->nodes[i].given.number);
    }
    return KITH_OK;
}

static kith_status shards_check(const kith_placement_shard *shards, uint32_t shard_count, kith_err *err) {
    for (uint32_t i = 0; i < shard_count; i++) {
        if (shards[i].replica_count == 0 || shards[i].replica_count > KITH_REPLICAS_MAX)
            return kith_err_set(err, KITH_INVALID, "shard %llu wants %u replicas, which is not in 1..%u",
                (unsigned long long)shards[i].id, shards[i].replica_count, KITH_REPLICAS_MAX);
        if (shards[i].current_count > KITH_REPLICAS_MAX)
            return kith_err_set(err, KITH_INVALID, "shard %llu has %u replicas, which is not in 0..%u",
                (unsigned long long)shards[i].id, shards[i].current_count, KITH_REPLICAS_MAX);
    }
    return KITH_OK;
}

/* After placement_keep: every shard finds nodes for what it lacks. */
static kith_status nodes_suffice(const placement_plan *plan, kith_err *err) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        uint32_t wanted = plan->shards[shard].replica_count, kept = placement_shard_count(plan, shard);
        if (wanted - kept <= plan->usable_count) continue;
        return kith_err_set(err, KITH_PRECONDITION,
            "shard %llu wants %u replicas on different nodes, and %u of %u data nodes can hold one: the "
            "others "
            "are down, drain, are full or have no weight",
            (unsigned long long)plan->shards[shard].id, wanted, plan->usable_count + kept, plan->node_count);
    }
    return KITH_OK;
}

/* --- deciding --- */

static kith_status plan_decide(placement_plan *plan, kith_err *err) {
    placement_keep(plan);
    kith_status status = nodes_suffice(plan, err);
    if (status != KITH_OK) return status;
    placement_share_replicas(plan);
    placement_keep_usable(plan);
    placement_target_replicas(plan);
    status = placement_fill(plan, err);
    if (status != KITH_OK) return status;
    (void)placement_balance(plan);
    /* Where zones keep targets from being met, others may now be rounded up: until nothing changes. */
    for (uint32_t round = 0; round < PLACEMENT_ROUNDS_MAX; round++) {
        placement_target_replicas(plan);
        if (!placement_balance(plan)) break;
    }
    placement_primaries(plan);
    return KITH_OK;
}

static void shard_report(placement_plan *plan, uint32_t shard, kith_placement_replicas *wanted_out) {
    const placement_replica *replicas = placement_replicas_of(plan, shard);
    uint32_t primary = plan->primary_slots[shard];
    *wanted_out = (kith_placement_replicas){.count = 1};
    wanted_out->nodes[0] = plan->nodes[replicas[primary].node].given.number;
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
        if (slot == primary || replicas[slot].node == PLACEMENT_NONE) continue;
        wanted_out->nodes[wanted_out->count++] = plan->nodes[replicas[slot].node].given.number;
    }
}

static void plan_report(
    placement_plan *plan, kith_placement_replicas *wanted_out, kith_placement_share *shares_out) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++)
        shard_report(plan, shard, &wanted_out[shard]);
    for (uint32_t i = 0; shares_out && i < plan->node_count; i++) {
        const placement_node *node = &plan->nodes[i];
        shares_out[node->given_index] =
            (kith_placement_share){.replicas = node->share, .primaries = node->primary_share};
    }
}

kith_status kith_placement_plan(const kith_placement_node *nodes, uint32_t node_count,
    const kith_placement_shard *shards, uint32_t shard_count, kith_placement_replicas *wanted_out,
    kith_placement_share *shares_out, kith_err *err) {
    kith_status status = shards_check(shards, shard_count, err);
    if (status != KITH_OK) return status;
    placement_plan plan;
    plan_init(&plan, nodes, NULL, node_count);
    plan_shards(&plan, shards, shard_count);
    status = nodes_check(&plan, err);
    if (status == KITH_OK) status = plan_decide(&plan, err);
    if (status == KITH_OK) plan_report(&plan, wanted_out, shares_out);
    kith_arena_fini(&plan.arena);
    return status;
}

/* Capacity is what other collections leave. A full node is not usable. */
static void capacities_lessen(placement_plan *plan) {
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[i];
        if (node->given.capacity == 0) continue;
        if (node->load_other.replicas >= node->given.capacity) {
            plan->usable_count -= node->given.usable;
            plan->zones[node->zone].usable_count -= node->given.usable;
            node->given.usable = false;
        } else {
            node->given.capacity -= node->load_other.replicas;
        }
    }
    for (uint32_t count = 1; count <= KITH_REPLICAS_MAX; count++)
        plan->zone_bounds[count] = zone_bound_of(plan, count);
}

kith_status kith_placement_new_collection(const kith_placement_node *nodes, const kith_placement_load *loads,
    uint32_t node_count, const kith_placement_collection *collection, kith_placement_replicas *wanted_out,
    kith_err *err) {
    placement_plan plan;
    plan_init(&plan, nodes, loads, node_count);
    capacities_lessen(&plan);
    kith_placement_shard *shards =
        kith_arena_alloc_zero(&plan.arena, collection->shard_count * sizeof *shards);
    for (uint32_t i = 0; i < collection->shard_count; i++) {
        shards[i].id = collection->shard_id_first + i;
        shards[i].replica_count = collection->replica_count;
    }
    plan_shards(&plan, shards, collection->shard_count);
    kith_status status = shards_check(shards, collection->shard_count, err);
    if (status == KITH_OK) status = nodes_check(&plan, err);
    if (status == KITH_OK) status = plan_decide(&plan, err);
    if (status == KITH_OK) plan_report(&plan, wanted_out, NULL);
    kith_arena_fini(&plan.arena);
    return status;
}
