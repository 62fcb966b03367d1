/* Which replica of each shard is the primary: the current one where it stays, then evened out along chains of changes as
 * in placement_balance.c. A primary that is down stays: who follows it is for replication to say, which knows who is in
 * sync. */
#include "host/cluster/placement_internal.h"

#define PRIMARY_NONE KITH_REPLICAS_MAX

static const placement_node *slot_node(const placement_plan *plan, uint32_t shard, uint32_t slot) {
    uint32_t node = plan->replicas[(size_t)shard * KITH_REPLICAS_MAX + slot].node;
    return node == PLACEMENT_NONE ? NULL : &plan->nodes[node];
}

static placement_node *primary_node(placement_plan *plan, uint32_t shard) {
    return &plan->nodes[placement_replicas_of(plan, shard)[plan->primary_slots[shard]].node];
}

/* The current primary is slot 0 as long as its replica stays there. A moved replica keeps its slot, not its data. */
static bool primary_stays(const placement_plan *plan, uint32_t shard) {
    const kith_placement_shard *given = &plan->shards[shard];
    const placement_node *node = slot_node(plan, shard, 0);
    return given->current_count > 0 && node && node->given.number == given->current[0];
}

static void primaries_keep(placement_plan *plan, uint32_t *movable_out) {
    *movable_out = 0;
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        plan->primary_slots[shard] = primary_stays(plan, shard) ? 0 : PRIMARY_NONE;
        if (plan->primary_slots[shard] == 0) primary_node(plan, shard)->primaries++;
        bool down = plan->primary_slots[shard] == 0 && !primary_node(plan, shard)->given.usable;
        *movable_out += !down;
    }
}

/* One that has the data before one that does not, a usable one before one that is down, then the one with the fewest
 * primaries for its target. */
static bool is_better_primary(const placement_plan *plan, uint32_t shard, uint32_t slot, uint32_t other) {
    const placement_node *a = slot_node(plan, shard, slot), *b = slot_node(plan, shard, other);
    if (a->given.usable != b->given.usable) return a->given.usable;
    const placement_replica *replicas = &plan->replicas[(size_t)shard * KITH_REPLICAS_MAX];
    if (replicas[slot].has_data != replicas[other].has_data) return replicas[slot].has_data;
    uint64_t filled_a = (uint64_t)(a->primaries + 1) * b->primary_target;
    uint64_t filled_b = (uint64_t)(b->primaries + 1) * a->primary_target;
    if (filled_a != filled_b) return filled_a < filled_b;
    uint64_t shard_hash = placement_hash(plan->shards[shard].id);
    return placement_tie(a, shard_hash) > placement_tie(b, shard_hash);
}

static void primaries_fill(placement_plan *plan) {
    for (uint32_t shard = 0; shard < plan->shard_count; shard++) {
        if (plan->primary_slots[shard] != PRIMARY_NONE) continue;
        uint32_t best = PRIMARY_NONE;
        for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
            if (!slot_node(plan, shard, slot)) continue;
            if (best == PRIMARY_NONE || is_better_primary(plan, shard, slot, best)) best = slot;
        }
        plan->primary_slots[shard] = (uint8_t)best;
        primary_node(plan, shard)->primaries++;
    }
}

/* --- evening out --- */

typedef struct primary_search {
    placement_plan *plan;
    uint32_t *queue;
    uint32_t queue_count;
    uint32_t *via;     /* [node] the replica that becomes primary there */
    uint32_t *visited; /* [node] the turn it was visited in */
    uint32_t turn;
} primary_search;

static bool is_primary(const placement_plan *plan, uint32_t replica) {
    return plan->primary_slots[replica / KITH_REPLICAS_MAX] == replica % KITH_REPLICAS_MAX;
}

static uint32_t visit_shard(primary_search *search, uint32_t shard) {
    placement_plan *plan = search->plan;
    for (uint32_t slot = 0; slot < KITH_REPLICAS_MAX; slot++) {
        const placement_node *node = slot_node(plan, shard, slot);
        if (!node || !node->given.usable) continue;
        uint32_t index = (uint32_t)(node - plan->nodes);
        if (search->visited[index] == search->turn) continue;
        search->visited[index] = search->turn;
        search->via[index] = shard * KITH_REPLICAS_MAX + slot;
        search->queue[search->queue_count++] = index;
        if (node->primaries < node->primary_target) return index;
    }
    return PLACEMENT_NONE;
}

static uint32_t visit_primaries_of(primary_search *search, uint32_t node) {
    const placement_plan *plan = search->plan;
    uint32_t replica = plan->nodes[node].replica_first;
    for (; replica != PLACEMENT_NONE; replica = plan->replicas[replica].next) {
        if (!is_primary(plan, replica)) continue;
        uint32_t found = visit_shard(search, replica / KITH_REPLICAS_MAX);
        if (found != PLACEMENT_NONE) return found;
    }
    return PLACEMENT_NONE;
}

static uint32_t primary_search_run(primary_search *search) {
    placement_plan *plan = search->plan;
    search->queue_count = 0;
    search->turn++;
    for (uint32_t i = 0; i < plan->node_count; i++) {
        const placement_node *node = &plan->nodes[i];
        if (!node->given.usable || node->primaries <= node->primary_target) continue;
        search->visited[i] = search->turn;
        search->via[i] = PLACEMENT_NONE;
        search->queue[search->queue_count++] = i;
    }
    for (uint32_t done = 0; done < search->queue_count; done++) {
        uint32_t found = visit_primaries_of(search, search->queue[done]);
        if (found != PLACEMENT_NONE) return found;
    }
    return PLACEMENT_NONE;
}

static void primary_chain_apply(primary_search *search, uint32_t node) {
    placement_plan *plan = search->plan;
    while (search->via[node] != PLACEMENT_NONE) {
        uint32_t replica = search->via[node], shard = replica / KITH_REPLICAS_MAX;
        placement_node *before = primary_node(plan, shard);
        plan->primary_slots[shard] = (uint8_t)(replica % KITH_REPLICAS_MAX);
        before->primaries--;
        plan->nodes[node].primaries++;
        node = (uint32_t)(before - plan->nodes);
    }
}

static void primaries_balance(placement_plan *plan) {
    primary_search search = {.plan = plan};
    search.queue = kith_arena_array(&plan->arena, plan->node_count, sizeof *search.queue);
    search.via = kith_arena_array(&plan->arena, plan->node_count, sizeof *search.via);
    search.visited = kith_arena_alloc_zero(&plan->arena, plan->node_count * sizeof *search.visited);
    for (;;) {
        uint32_t node = primary_search_run(&search);
        if (node == PLACEMENT_NONE) break;
        primary_chain_apply(&search, node);
    }
}

void placement_primaries(placement_plan *plan) {
    uint32_t movable;
    primaries_keep(plan, &movable);
    placement_target_primaries(plan, movable);
    primaries_fill(plan);
    primaries_balance(plan);
}
