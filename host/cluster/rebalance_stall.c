/* Replicas that come no nearer to being in sync: their node may lack space, or its disk may be slow or broken, though it lives. They keep a place
 * of their node, and their shard lacks a copy, until another node has it. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/cluster/rebalance_internal.h"

void kith_rebalance_stalled_forget(kith_rebalance *rebalance) {
    rebalance->stalled_count = 0;
}

void kith_rebalance_stalled(kith_rebalance *rebalance, uint64_t shard_id, uint32_t number) {
    if (rebalance->stalled_count == REBALANCE_STALLED_MAX) return;
    rebalance->stalled[rebalance->stalled_count++] =
        (rebalance_stalled){.shard_id = shard_id, .number = number};
}

static bool is_stalled(const kith_rebalance *rebalance, uint64_t shard_id, uint32_t number) {
    for (uint32_t i = 0; i < rebalance->stalled_count; i++) {
        const rebalance_stalled *stalled = &rebalance->stalled[i];
        if (stalled->shard_id == shard_id && stalled->number == number) return true;
    }
    return false;
}

static int place_in(const uint32_t *numbers, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++) {
        if (numbers[i] == number) return (int)i;
    }
    return -1;
}

/* [node_count] replicas that are wanted on each. */
static uint32_t *wanted_count(const kith_rebalance *rebalance) {
    uint32_t *counts = kith_alloc_zero((rebalance->node_count + 1) * sizeof *counts);
    for (uint32_t i = 0; i < rebalance->shard_count; i++) {
        for (uint32_t r = 0; r < rebalance->wanted[i].count; r++) {
            const rebalance_node *node = rebalance_node_find(rebalance, rebalance->wanted[i].nodes[r]);
            if (node) counts[node - rebalance->nodes]++;
        }
    }
    return counts;
}

/* Another of those that are wanted is in its zone. */
static bool zone_is_taken(
    const kith_meta_state *state, const kith_placement_replicas *wanted, uint32_t goes, uint32_t number) {
    const kith_node *node = kith_meta_state_node(state, number);
    for (uint32_t i = 0; i < wanted->count; i++) {
        const kith_node *other = kith_meta_state_node(state, wanted->nodes[i]);
        if (wanted->nodes[i] == goes || !other) continue;
        if (node->zone[0] != 0 && strcmp(node->zone, other->zone) == 0) return true;
    }
    return false;
}

/* A node in a zone of its own before one that shares it, then the one with the fewest replicas. 0: there is none. */
static uint32_t other_node(const kith_rebalance *rebalance, const kith_meta_state *state,
    const kith_meta_shard *shard, const kith_placement_replicas *wanted, uint32_t goes) {
    uint32_t *counts = wanted_count(rebalance), best = 0;
    uint64_t best_cost = UINT64_MAX;
    for (uint32_t i = 0; i < rebalance->node_count; i++) {
        const rebalance_node *node = &rebalance->nodes[i];
        if (!node->up || node->leaves) continue;
        if (place_in(shard->replicas, shard->replica_count, node->number) >= 0) continue;
        if (place_in(wanted->nodes, wanted->count, node->number) >= 0) continue;
        uint64_t cost = (uint64_t)zone_is_taken(state, wanted, goes, node->number) << 32 | counts[i];
        if (cost >= best_cost) continue;
        best = node->number;
        best_cost = cost;
    }
    kith_free(counts);
    return best;
}

static kith_meta_shard without(const kith_meta_shard *shard, uint32_t replica) {
    kith_meta_shard next = {.epoch = shard->epoch};
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (i == replica) continue;
        next.in_sync |= (uint8_t)((shard->in_sync >> i & 1) << next.replica_count);
        next.replicas[next.replica_count++] = shard->replicas[i];
    }
    return next;
}

bool rebalance_give_up(kith_rebalance *rebalance, const kith_meta_state *state, uint64_t shard_id,
    const kith_meta_shard *shard, kith_placement_replicas *wanted, kith_meta_shard *next_out) {
    const rebalance_node *primary = rebalance_node_find(rebalance, shard->replicas[0]);
    if (rebalance->stalled_count == 0 || !primary || !primary->up) return false;
    for (uint32_t i = 1; i < shard->replica_count; i++) {
        uint32_t goes = shard->replicas[i];
        if (shard->in_sync >> i & 1 || !is_stalled(rebalance, shard_id, goes)) continue;
        int place = place_in(wanted->nodes, wanted->count, goes);
        uint32_t other = place < 0 ? 0 : other_node(rebalance, state, shard, wanted, goes);
        if (place >= 0 && other == 0) continue;
        if (place >= 0) wanted->nodes[place] = other;
        *next_out = without(shard, i);
        return true;
    }
    return false;
}
