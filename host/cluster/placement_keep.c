/* Which replicas stay: all that no rule forbids. Of those that must go from a shard, the ones on the nodes that hold most
 * for their share. */
#include "host/cluster/placement_internal.h"

/* Index of the node called `number`, PLACEMENT_NONE if there is none. */
static uint32_t node_find(const placement_plan *plan, uint32_t number) {
    uint32_t low = 0, high = plan->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (plan->nodes[middle].given.number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < plan->node_count && plan->nodes[low].given.number == number;
    return found ? low : PLACEMENT_NONE;
}

/* Puts the shard's current replicas that are on usable nodes, or on those that are not, into their slots. */
static void shard_keep(placement_plan *plan, uint32_t shard, bool usable, uint32_t count_max) {
    const kith_placement_shard *given = &plan->shards[shard];
    uint32_t count = placement_shard_count(plan, shard);
    for (uint32_t slot = 0; slot < given->current_count && count < count_max; slot++) {
        uint32_t node = node_find(plan, given->current[slot]);
        if (node == PLACEMENT_NONE || placement_shard_is_on(plan, shard, node)) continue;
        const kith_placement_node *of = &plan->nodes[node].given;
        if (of->usable != usable || !(of->usable || of->keeps)) continue;
        placement_replica_put(plan, shard * KITH_REPLICAS_MAX + slot, node);
        count++;
    }
}

static uint32_t usable_current_count(const placement_plan *plan, uint32_t shard) {
    const kith_placement_shard *given = &plan->shards[shard];
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < given->current_count; slot++) {
        uint32_t node = node_find(plan, given->current[slot]);
        count += node != PLACEMENT_NONE && plan->nodes[node].given.usable;
    }
    return count;
}

/* When a shard has more replicas than it should, those on nodes that are down go first. */
void placement_keep(placement_plan *plan) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        uint32_t wanted = plan->shards[shard].replica_count, usable = usable_current_count(plan, shard);
        if (usable < wanted) shard_keep(plan, shard, false, wanted - usable);
    }
}

static double fullness(const placement_node *node) {
    return node->load / (node->share > 0 ? node->share : 1e-9);
}

/* Whether a replica in a zone that holds `count` of the shard may go: because the shard has too many, the zone has too
 * many, or another zone has too few. */
static bool may_drop(const placement_plan *plan, uint32_t shard, uint32_t zone, bool too_many) {
    uint32_t replica_count = plan->shards[shard].replica_count;
    uint32_t count = placement_shard_zone_count(plan, shard, zone);
    if (count > plan->zone_bounds[replica_count]) return true;
    return too_many && count > placement_zone_low(plan, replica_count, zone);
}

/* The replica on the fullest usable node that may go; PLACEMENT_NONE if none may. */
static uint32_t drop_choose(placement_plan *plan, uint32_t shard, bool too_many) {
    const placement_replica *replicas = placement_replicas_of(plan, shard);
    uint32_t best = PLACEMENT_NONE;
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
        if (replicas[slot].node == PLACEMENT_NONE) continue;
        const placement_node *node = &plan->nodes[replicas[slot].node];
        if (!node->given.usable || !may_drop(plan, shard, node->zone, too_many)) continue;
        if (best == PLACEMENT_NONE || fullness(node) > fullness(&plan->nodes[replicas[best].node]))
            best = slot;
    }
    return best;
}

static void shard_drop(placement_plan *plan, uint32_t shard) {
    uint32_t wanted = plan->shards[shard].replica_count;
    for (;;) {
        uint32_t count = placement_shard_count(plan, shard);
        /* First from zones with too many: each of those must go whatever else does. */
        uint32_t slot = drop_choose(plan, shard, false);
        if (slot == PLACEMENT_NONE && count + placement_shard_shortfall(plan, shard) > wanted)
            slot = drop_choose(plan, shard, true);
        if (slot == PLACEMENT_NONE) break;
        placement_replica_remove(plan, shard * KITH_REPLICAS_MAX + slot);
    }
}

void placement_keep_usable(placement_plan *plan) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++)
        shard_keep(plan, shard, true, KITH_REPLICAS_MAX);
    for (uint32_t shard = 0; shard < plan->shard_count; shard++)
        shard_drop(plan, shard);
}
