/* How much each node should hold: weighted max-min fair shares by water-filling (every node is filled to the same level
 * for its weight, bounded by its cap; every zone by what the rules allow), then rounded so that the total stays. */
#include <math.h>
#include <stdlib.h>

#include "host/base/assert.h"
#include "host/cluster/placement_internal.h"

#define LEVEL_HALVINGS 100u /* of [0, shards]: beyond the precision of a double */
#define SHARE_EPSILON                                                                                        \
    1e-6 /* far above what the halvings leave, far below a share's least fraction that matters */

typedef struct share_item {
    double weight, cap, share;
    double preference; /* higher is rounded up first; then by fraction, then by tie */
    uint64_t tie;
    uint32_t target;
} share_item;

/* --- filling --- */

static double level_sum(const share_item *items, uint32_t count, double level) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += fmin(items[i].weight * level, items[i].cap);
    return sum;
}

static void level_apply(share_item *items, uint32_t count, double level) {
    for (uint32_t i = 0; i < count; i++)
        items[i].share = fmin(items[i].weight * level, items[i].cap);
}

/* The least level at which the items hold `total`. */
static double level_of(const share_item *items, uint32_t count, double high, double total) {
    double low = 0;
    for (uint32_t i = 0; i < LEVEL_HALVINGS; i++) {
        double middle = low + (high - low) / 2;
        if (level_sum(items, count, middle) < total) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

static double zone_sum(const placement_plan *plan, const share_item *items, uint32_t zone, double level) {
    const placement_zone *of = &plan->zones[zone];
    uint32_t end = zone + 1 < plan->zone_count ? plan->zones[zone + 1].node_first : plan->node_count;
    double sum = level_sum(items + of->node_first, end - of->node_first, level);
    return fmax(of->low, fmin(of->high, sum));
}

static double zone_level_of(const placement_plan *plan, const share_item *items, double high, double total) {
    double low = 0;
    for (uint32_t i = 0; i < LEVEL_HALVINGS; i++) {
        double middle = low + (high - low) / 2, sum = 0;
        for (uint32_t zone = 0; zone < plan->zone_count; zone++)
            sum += zone_sum(plan, items, zone, middle);
        if (sum < total) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return high;
}

/* --- rounding --- */

static int item_compare(const void *left, const void *right) {
    const share_item *a = *(share_item *const *)left, *b = *(share_item *const *)right;
    if (a->preference != b->preference) return a->preference > b->preference ? -1 : 1;
    double fraction_a = a->share - a->target, fraction_b = b->share - b->target;
    if (fabs(fraction_a - fraction_b) > SHARE_EPSILON) return fraction_a > fraction_b ? -1 : 1;
    if (a->tie != b->tie) return a->tie < b->tie ? -1 : 1;
    return a < b ? -1 : a > b;
}

/* Targets are shares rounded down or up with the sum `total`, or as near to it as that allows. */
static void items_round(placement_plan *plan, share_item *items, uint32_t count, uint32_t total) {
    share_item **order = kith_arena_array(&plan->arena, count, sizeof *order);
    uint32_t order_count = 0, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        items[i].target = (uint32_t)(items[i].share + SHARE_EPSILON);
        sum += items[i].target;
        if (items[i].share - items[i].target > SHARE_EPSILON) order[order_count++] = &items[i];
    }
    qsort(order, order_count, sizeof(share_item *), item_compare);
    for (uint32_t i = 0; i < order_count && sum < total; i++, sum++)
        order[i]->target++;
}

/* In a plan: whoever holds more than the share rounded down already saves a move by keeping it. In a new collection: the
 * least loaded for its weight. */
static double preference_of(
    const placement_plan *plan, uint32_t load, uint32_t load_other, double share, double weight) {
    if (plan->is_new) return -(load_other + share) / weight;
    return load > (uint32_t)(share + SHARE_EPSILON) ? 1 : 0;
}

/* --- replicas --- */

/* What zones may hold: of each shard between low and bound, less what stays on nodes that are not usable. */
static void zones_bound(placement_plan *plan) {
    uint32_t shards_by_count[KITH_REPLICAS_MAX + 1] = {0};
    for (uint32_t shard = 0; shard < plan->shard_count; shard++)
        shards_by_count[plan->shards[shard].replica_count]++;
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        placement_zone *of = &plan->zones[zone];
        for (uint32_t count = 1; count <= KITH_REPLICAS_MAX; count++) {
            uint32_t bound = plan->zone_bounds[count];
            of->low += (double)shards_by_count[count] * placement_zone_low(plan, count, zone);
            of->high +=
                (double)shards_by_count[count] * (of->usable_count < bound ? of->usable_count : bound);
        }
    }
}

static double above(uint32_t value, uint32_t subtracted) {
    return value > subtracted ? value - subtracted : 0;
}

/* A shard that keeps replicas in `zone` on nodes that are not usable leaves less for the usable ones. */
static void zone_bound_lessen(placement_plan *plan, uint32_t shard, uint32_t zone) {
    placement_zone *of = &plan->zones[zone];
    uint32_t replica_count = plan->shards[shard].replica_count;
    uint32_t kept = placement_shard_zone_count(plan, shard, zone);
    uint32_t low = placement_zone_low(plan, replica_count, zone), bound = plan->zone_bounds[replica_count];
    of->low -= low - above(low, kept);
    of->high -= fmin(of->usable_count, bound) - fmin(of->usable_count, above(bound, kept));
}

static void zones_bound_lessen(placement_plan *plan) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        const placement_replica *replicas = placement_replicas_of(plan, shard);
        for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
            if (replicas[slot].node == PLACEMENT_NONE) continue;
            uint32_t zone = plan->nodes[replicas[slot].node].zone;
            bool seen = false;
            for (uint32_t before = 0; before < slot; before++) {
                uint32_t node = replicas[before].node;
                seen = seen || (node != PLACEMENT_NONE && plan->nodes[node].zone == zone);
            }
            if (!seen) zone_bound_lessen(plan, shard, zone);
        }
    }
}

static share_item item_of(const placement_plan *plan, const placement_node *node) {
    double cap = plan->shard_count;
    if (node->given.capacity) cap = fmin(cap, node->given.capacity);
    return (share_item){.weight = node->given.weight, .cap = cap, .tie = node->tie};
}

/* Items in the order of zone_nodes; nodes that are not usable have no weight. */
static share_item *items_of(placement_plan *plan) {
    share_item *items = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *items);
    for (uint32_t i = 0; i < plan->node_count; i++) {
        const placement_node *node = &plan->nodes[plan->zone_nodes[i]];
        if (node->given.usable) items[i] = item_of(plan, node);
    }
    return items;
}

static uint32_t missing_count(const placement_plan *plan) {
    uint32_t missing = 0;
    for (uint32_t shard = 0; shard < plan->shard_count; shard++)
        missing += plan->shards[shard].replica_count - placement_shard_count(plan, shard);
    return missing;
}

static uint32_t zone_end(const placement_plan *plan, uint32_t zone) {
    return zone + 1 < plan->zone_count ? plan->zones[zone + 1].node_first : plan->node_count;
}

void placement_share_replicas(placement_plan *plan) {
    zones_bound(plan);
    zones_bound_lessen(plan);
    share_item *items = items_of(plan);
    double level_high = plan->shard_count; /* at it a node of weight 1 holds every shard */
    double level = zone_level_of(plan, items, level_high, missing_count(plan));
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        placement_zone *of = &plan->zones[zone];
        share_item *own = items + of->node_first;
        uint32_t count = zone_end(plan, zone) - of->node_first;
        of->share = zone_sum(plan, items, zone, level);
        level_apply(own, count, level_of(own, count, level_high, of->share));
    }
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[plan->zone_nodes[i]];
        node->share = node->given.usable ? items[i].share : node->load;
    }
}

static share_item zone_item_of(const placement_plan *plan, uint32_t zone) {
    const placement_zone *of = &plan->zones[zone];
    share_item item = {.share = of->share, .tie = zone};
    uint32_t load_other = 0;
    for (uint32_t i = of->node_first; i < zone_end(plan, zone); i++) {
        const placement_node *node = &plan->nodes[plan->zone_nodes[i]];
        if (!node->given.usable) continue;
        item.weight += node->given.weight;
        load_other += node->load_other.replicas;
    }
    if (item.weight > 0) item.preference = preference_of(plan, of->load, load_other, of->share, item.weight);
    return item;
}

static void zone_target_nodes(placement_plan *plan, uint32_t zone, share_item *items) {
    uint32_t first = plan->zones[zone].node_first, count = zone_end(plan, zone) - first;
    for (uint32_t i = 0; i < count; i++) {
        const placement_node *node = &plan->nodes[plan->zone_nodes[first + i]];
        if (!node->given.usable) continue;
        items[i] = item_of(plan, node);
        items[i].share = node->share;
        items[i].preference =
            preference_of(plan, node->load, node->load_other.replicas, node->share, items[i].weight);
    }
    items_round(plan, items, count, plan->zones[zone].target);
    for (uint32_t i = 0; i < count; i++) {
        placement_node *node = &plan->nodes[plan->zone_nodes[first + i]];
        node->target = node->given.usable ? items[i].target : node->load;
    }
}

void placement_target_replicas(placement_plan *plan) {
    uint32_t total = missing_count(plan);
    share_item *zones = kith_arena_alloc_zero(&plan->arena, plan->zone_count * sizeof *zones);
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        zones[zone] = zone_item_of(plan, zone);
        total += plan->zones[zone].load;
    }
    items_round(plan, zones, plan->zone_count, total);
    share_item *items = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *items);
    for (uint32_t zone = 0; zone < plan->zone_count; zone++) {
        plan->zones[zone].target = zones[zone].target;
        zone_target_nodes(plan, zone, items + plan->zones[zone].node_first);
    }
}

/* --- primaries --- */

void placement_target_primaries(placement_plan *plan, uint32_t movable) {
    share_item *items = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *items);
    for (uint32_t i = 0; i < plan->node_count; i++) {
        const placement_node *node = &plan->nodes[i];
        if (!node->given.usable) continue;
        items[i] = item_of(plan, node);
        items[i].cap = node->load;
    }
    level_apply(items, plan->node_count, level_of(items, plan->node_count, plan->shard_count, movable));
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[i];
        node->primary_share = node->given.usable ? items[i].share : node->primaries;
        if (node->given.usable) {
            items[i].preference = preference_of(
                plan, node->primaries, node->load_other.primaries, node->primary_share, items[i].weight);
        }
    }
    items_round(plan, items, plan->node_count, movable);
    for (uint32_t i = 0; i < plan->node_count; i++) {
        placement_node *node = &plan->nodes[i];
        node->primary_target = node->given.usable ? items[i].target : node->primaries;
    }
}
