/* The next change of one shard: pure, of its replicas and the few nodes that they are on. */
#include "host/cluster/rebalance_internal.h"

static uint32_t bits(uint32_t mask) {
    return (uint32_t)__builtin_popcount(mask);
}

static bool has(const uint32_t *numbers, uint32_t count, uint32_t number) {
    for (uint32_t i = 0; i < count; i++) {
        if (numbers[i] == number) return true;
    }
    return false;
}

rebalance_shard rebalance_shard_of(const kith_rebalance *rebalance, const kith_collection *collection,
    const kith_meta_shard *shard, const kith_placement_replicas *wanted) {
    rebalance_shard of = {
        .is = shard,
        .wanted = wanted,
        .factor = collection->replication_factor ? collection->replication_factor : 1,
        .min_in_sync = collection->min_in_sync ? collection->min_in_sync : 1,
        .all = (uint8_t)((1u << shard->replica_count) - 1),
    };
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const rebalance_node *node = rebalance_node_find(rebalance, shard->replicas[i]);
        of.up |= (uint8_t)((node && node->up) << i);
        of.leaving |= (uint8_t)((!node || node->leaves) << i);
        of.stays |= (uint8_t)(has(wanted->nodes, wanted->count, shard->replicas[i]) << i);
    }
    for (uint32_t i = 0; i < wanted->count; i++)
        of.missing |= (uint8_t)(!has(shard->replicas, shard->replica_count, wanted->nodes[i]) << i);
    of.ready = of.missing == 0 && (of.stays & ~(shard->in_sync & of.up)) == 0;
    return of;
}

/* Those of `mask`, in their order. */
static kith_meta_shard keep(const kith_meta_shard *shard, uint8_t mask) {
    kith_meta_shard next = {.epoch = shard->epoch};
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (!(mask >> i & 1)) continue;
        next.in_sync |= (uint8_t)((shard->in_sync >> i & 1) << next.replica_count);
        next.replicas[next.replica_count++] = shard->replicas[i];
    }
    return next;
}

bool rebalance_drop(const rebalance_shard *shard, kith_meta_shard *next_out) {
    uint8_t kept = shard->stays | 1;
    if (!shard->ready || kept == shard->all) return false;
    if (bits(kept & shard->is->in_sync & shard->up) < shard->factor) return false;
    *next_out = keep(shard->is, kept);
    return true;
}

static kith_meta_shard led_by(const kith_meta_shard *shard, uint32_t primary) {
    kith_meta_shard next = {.epoch = shard->epoch, .replica_count = shard->replica_count, .in_sync = 1};
    uint32_t count = 0;
    next.replicas[count++] = shard->replicas[primary];
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (i == primary) continue;
        next.in_sync |= (uint8_t)((shard->in_sync >> i & 1) << count);
        next.replicas[count++] = shard->replicas[i];
    }
    return next;
}

bool rebalance_hand_over(const rebalance_shard *shard, bool back, kith_meta_shard *next_out) {
    bool goes = !(shard->stays & 1);
    bool elsewhere = shard->stays == shard->all && shard->wanted->nodes[0] != shard->is->replicas[0];
    if (!shard->ready || !(back ? elsewhere : goes)) return false;
    for (uint32_t i = 1; i < shard->is->replica_count; i++) {
        if (shard->is->replicas[i] != shard->wanted->nodes[0]) continue;
        *next_out = led_by(shard->is, i);
        return true;
    }
    return false;
}

/* Worst first: behind and down, behind, in sync. */
static uint32_t room_choose(const rebalance_shard *shard) {
    uint8_t in_sync = shard->is->in_sync, goes = shard->all & ~shard->stays & ~1u;
    bool can_spare = (in_sync & shard->up) == shard->all && bits(in_sync) > shard->min_in_sync;
    uint8_t behind = goes & ~in_sync, down = behind & ~shard->up;
    uint8_t spared = can_spare ? goes : 0;
    return down ? down : behind ? behind : spared;
}

bool rebalance_make_room(const rebalance_shard *shard, kith_meta_shard *next_out) {
    if (shard->is->replica_count < KITH_REPLICAS_MAX || !shard->missing) return false;
    uint32_t candidates = room_choose(shard);
    uint32_t heirs = shard->stays & shard->is->in_sync & shard->up;
    if (candidates) {
        *next_out = keep(shard->is, (uint8_t)(shard->all & ~(candidates & -candidates)));
    } else if (!(shard->stays & 1) && heirs) { /* only the primary is to go */
        *next_out = led_by(shard->is, (uint32_t)__builtin_ctz(heirs));
    } else {
        return false;
    }
    return true;
}

bool rebalance_needs(const rebalance_shard *shard, rebalance_why *why_out) {
    if (!shard->missing || shard->is->replica_count == KITH_REPLICAS_MAX || !(shard->up & 1)) return false;
    bool dead = shard->leaving & ~shard->up & ~shard->is->in_sync;
    bool whole = (shard->is->in_sync & shard->up) == shard->all;
    if (shard->is->replica_count < shard->factor || dead) {
        *why_out = REBALANCE_DANGER;
        return true;
    }
    *why_out = shard->leaving ? REBALANCE_LEAVING : REBALANCE_BALANCE;
    return whole;
}

kith_meta_shard rebalance_add(const rebalance_shard *shard, uint32_t number) {
    kith_meta_shard next = *shard->is;
    next.replicas[next.replica_count++] = number;
    return next;
}
