/* Places the replicas that shards lack: each on the node that is emptiest for its target, of those the rules allow. */
#include "host/cluster/placement_internal.h"

typedef struct fill_rule {
    bool only_short; /* only in zones that must have one more of this shard */
    bool zones;      /* false: no zone is left, its rules give way */
} fill_rule;

static bool may_hold(const placement_plan *plan, uint32_t shard, uint32_t index, fill_rule rule) {
    const placement_node *node = &plan->nodes[index];
    if (node->given.capacity && node->load >= node->given.capacity) return false;
    if (placement_shard_is_on(plan, shard, index)) return false;
    if (!rule.zones) return true;
    uint32_t replica_count = plan->shards[shard].replica_count;
    uint32_t count = placement_shard_zone_count(plan, shard, node->zone);
    if (rule.only_short) return count < placement_zone_low(plan, replica_count, node->zone);
    return count < plan->zone_bounds[replica_count];
}

/* Whether `a` is emptier for its target than `b`, one more replica counted; ties by hash. */
static bool is_emptier(const placement_node *a, const placement_node *b, uint64_t shard_hash) {
    uint64_t filled_a = (uint64_t)(a->load + 1) * b->target, filled_b = (uint64_t)(b->load + 1) * a->target;
    if (filled_a != filled_b) return filled_a < filled_b;
    if ((a->target == 0) != (b->target == 0)) return b->target == 0;
    return placement_tie(a, shard_hash) > placement_tie(b, shard_hash);
}

static uint32_t node_choose(const placement_plan *plan, uint32_t shard, fill_rule rule) {
    uint64_t shard_hash = placement_hash(plan->shards[shard].id);
    uint32_t best = PLACEMENT_NONE;
    for (uint32_t i = 0; i < plan->node_count; i++) {
        if (!plan->nodes[i].given.usable) continue;
        if (best != PLACEMENT_NONE && !is_emptier(&plan->nodes[i], &plan->nodes[best], shard_hash)) continue;
        if (may_hold(plan, shard, i, rule)) best = i;
    }
    return best;
}

static uint32_t slot_free(placement_plan *plan, uint32_t shard) {
    const placement_replica *replicas = placement_replicas_of(plan, shard);
    uint32_t slot = 0;
    while (replicas[slot].node != PLACEMENT_NONE)
        slot++;
    return slot;
}

static bool shard_fill_one(placement_plan *plan, uint32_t shard, uint32_t missing) {
    fill_rule rule = {.zones = true};
    rule.only_short = placement_shard_shortfall(plan, shard) >= missing;
    if (plan->zone_bounds[plan->shards[shard].replica_count] == 1) rule.only_short = false;
    uint32_t node = node_choose(plan, shard, rule);
    if (node == PLACEMENT_NONE) node = node_choose(plan, shard, (fill_rule){.zones = false});
    if (node == PLACEMENT_NONE) return false;
    placement_replica_put(plan, shard * KITH_REPLICAS_MAX + slot_free(plan, shard), node);
    return true;
}

kith_status placement_fill(placement_plan *plan, kith_err *err) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        const kith_placement_shard *given = &plan->shards[shard];
        uint32_t missing = given->replica_count - placement_shard_count(plan, shard);
        for (; missing > 0; missing--) {
            if (shard_fill_one(plan, shard, missing)) continue;
            return kith_err_set(err, KITH_NO_SPACE,
                "no node has room for another replica of shard %llu: the capacities of %u nodes are used up",
                (unsigned long long)given->id, plan->usable_count);
        }
    }
    return KITH_OK;
}
