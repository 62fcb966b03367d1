/* The state of a placement decision: replicas on nodes, and what the rules about zones say of one shard. */
#include "host/base/assert.h"
#include "host/base/bytes.h"
#include "host/base/hash.h"
#include "host/cluster/placement_internal.h"

static bool has_data(const placement_plan *plan, uint32_t shard, uint32_t node) {
    const kith_placement_shard *given = &plan->shards[shard];
    for (uint32_t i = 0; i < given->current_count; i++) {
        if (given->current[i] == plan->nodes[node].given.number) return true;
    }
    return false;
}

void placement_replica_put(placement_plan *plan, uint32_t replica, uint32_t node) {
    placement_replica *placed = &plan->replicas[replica];
    placement_node *to = &plan->nodes[node];
    kith_assert(placed->node == PLACEMENT_NONE);
    *placed = (placement_replica){.node = node, .next = to->replica_first, .previous = PLACEMENT_NONE};
    placed->has_data = has_data(plan, replica / KITH_REPLICAS_MAX, node);
    if (placed->next != PLACEMENT_NONE) plan->replicas[placed->next].previous = replica;
    to->replica_first = replica;
    to->load++;
    to->fresh_count += !placed->has_data;
    if (to->given.usable) plan->zones[to->zone].load++;
}

void placement_replica_remove(placement_plan *plan, uint32_t replica) {
    placement_replica *placed = &plan->replicas[replica];
    placement_node *from = &plan->nodes[placed->node];
    if (placed->next != PLACEMENT_NONE) plan->replicas[placed->next].previous = placed->previous;
    if (placed->previous != PLACEMENT_NONE) {
        plan->replicas[placed->previous].next = placed->next;
    } else {
        from->replica_first = placed->next;
    }
    placed->node = PLACEMENT_NONE;
    from->fresh_count -= !placed->has_data;
    from->load--;
    if (from->given.usable) plan->zones[from->zone].load--;
}

uint32_t placement_shard_count(const placement_plan *plan, uint32_t shard) {
    const placement_replica *replicas = &plan->replicas[(size_t)shard * KITH_REPLICAS_MAX];
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++)
        count += replicas[slot].node != PLACEMENT_NONE;
    return count;
}

bool placement_shard_is_on(const placement_plan *plan, uint32_t shard, uint32_t node) {
    const placement_replica *replicas = &plan->replicas[(size_t)shard * KITH_REPLICAS_MAX];
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
        if (replicas[slot].node == node) return true;
    }
    return false;
}

uint32_t placement_shard_zone_count(const placement_plan *plan, uint32_t shard, uint32_t zone) {
    const placement_replica *replicas = &plan->replicas[(size_t)shard * KITH_REPLICAS_MAX];
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
        uint32_t node = replicas[slot].node;
        count += node != PLACEMENT_NONE && plan->nodes[node].zone == zone;
    }
    return count;
}

uint32_t placement_zone_low(const placement_plan *plan, uint32_t replica_count, uint32_t zone) {
    uint32_t below = plan->zone_bounds[replica_count] - 1;
    uint32_t usable = plan->zones[zone].usable_count;
    return usable < below ? usable : below;
}

uint32_t placement_shard_shortfall(const placement_plan *plan, uint32_t shard) {
    uint32_t replica_count = plan->shards[shard].replica_count, shortfall = 0;
    if (plan->zone_bounds[replica_count] == 1) return 0; /* no zone must hold any */
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        uint32_t low = placement_zone_low(plan, replica_count, zone);
        uint32_t count = placement_shard_zone_count(plan, shard, zone);
        shortfall += count < low ? low - count : 0;
    }
    return shortfall;
}

uint64_t placement_hash(uint64_t number) {
    uint8_t key[8];
    kith_store_u64(key, number);
    return kith_hash64(key, sizeof key);
}
