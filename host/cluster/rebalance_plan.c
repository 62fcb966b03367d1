/* What is wanted: placement's answer for the nodes and collections there are, kept until they change. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/arena.h"
#include "host/base/buf.h"
#include "host/base/hash.h"
#include "host/cluster/rebalance_internal.h"

#define NS_A_MS UINT64_C(1000000)

/* --- nodes --- */

rebalance_node *rebalance_node_find(const kith_rebalance *rebalance, uint32_t number) {
    uint32_t low = 0, high = rebalance->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rebalance->nodes[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < rebalance->node_count && rebalance->nodes[low].number == number;
    return found ? &rebalance->nodes[low] : NULL;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* A node that was down before this leader looked. */
static uint64_t down_before_ns(const kith_node *node, uint64_t wall_ms, uint64_t most_ns) {
    if (node->down_wall_ms == 0 || wall_ms <= node->down_wall_ms) return 0;
    uint64_t down_ms = wall_ms - node->down_wall_ms;
    return down_ms < most_ns / NS_A_MS ? down_ms * NS_A_MS : most_ns;
}

/* For long enough that its replicas are made anew elsewhere. */
static bool is_lost(const kith_rebalance_options *options, const rebalance_node *seen, uint64_t now_ns) {
    uint64_t seen_ns = now_ns - seen->down_since_ns;
    if (seen_ns < least(options->settle_ns, options->replace_after_ns)) return false;
    return seen->down_before_ns + seen_ns >= options->replace_after_ns;
}

static rebalance_node node_see(
    const kith_rebalance *rebalance, const kith_node *node, kith_rebalance_clock clock) {
    const rebalance_node *before = rebalance_node_find(rebalance, node->number);
    rebalance_node seen = {.number = node->number, .up = !node->down, .down_since_ns = clock.now_ns};
    if (node->down && before && !before->up) {
        seen.down_since_ns = before->down_since_ns;
        seen.down_before_ns = before->down_before_ns;
    } else if (node->down && !before) {
        seen.down_before_ns = down_before_ns(node, clock.wall_ms, rebalance->options.replace_after_ns);
    }
    bool lost = node->down && is_lost(&rebalance->options, &seen, clock.now_ns);
    seen.leaves = node->draining || node->weight == 0 || lost;
    return seen;
}

void rebalance_nodes_see(
    kith_rebalance *rebalance, const kith_meta_state *state, kith_rebalance_clock clock) {
    rebalance_node *seen = kith_alloc_array(KITH_NODES_MAX, sizeof *seen);
    uint32_t count = 0;
    for (uint32_t i = 0; i < state->node_count; i++) {
        if (kith_node_holds_shards(state->nodes[i].role))
            seen[count++] = node_see(rebalance, &state->nodes[i], clock);
    }
    kith_free(rebalance->nodes);
    rebalance->nodes = seen;
    rebalance->node_count = count;
}

/* --- what the plan depends on --- */

static void fingerprint_add(kith_buf *buf, uint64_t value) {
    kith_buf_append(buf, &value, sizeof value);
}

static uint64_t fingerprint_of(const kith_rebalance *rebalance, const kith_meta_state *state) {
    kith_buf buf;
    kith_buf_init(&buf);
    for (uint32_t i = 0; i < state->node_count; i++) {
        const kith_node *node = &state->nodes[i];
        const rebalance_node *seen = rebalance_node_find(rebalance, node->number);
        if (!seen) continue;
        fingerprint_add(&buf, (uint64_t)node->number << 32 | (uint64_t)seen->up << 1 | seen->leaves);
        fingerprint_add(&buf, node->weight);
        kith_buf_append(&buf, node->zone, strlen(node->zone) + 1);
    }
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        fingerprint_add(&buf, of->collection.id);
        fingerprint_add(
            &buf, (uint64_t)of->collection.replication_factor << 1 | (of->shards[0].replica_count > 0));
    }
    uint64_t hash = kith_hash64(buf.data, buf.bytes);
    kith_buf_fini(&buf);
    return hash;
}

/* --- placement --- */

typedef struct plan {
    kith_arena arena;
    uint32_t usable_count;
    kith_placement_node *nodes; /* [rebalance.node_count] */
    uint32_t shard_count;
    kith_placement_shard *shards;
    uint32_t *places; /* [shard_count] index of the shard in the state's order */
} plan;

static void plan_nodes(plan *own, const kith_rebalance *rebalance, const kith_meta_state *state) {
    own->nodes = kith_arena_array(&own->arena, rebalance->node_count, sizeof *own->nodes);
    for (uint32_t i = 0; i < rebalance->node_count; i++) {
        const rebalance_node *seen = &rebalance->nodes[i];
        own->nodes[i] = kith_placement_node_of(kith_meta_state_node(state, seen->number));
        if (seen->leaves) own->nodes[i].usable = own->nodes[i].keeps = false;
        own->usable_count += own->nodes[i].usable;
    }
}

/* Its replicas but those that were not brought up before their node went down, where there are others enough: else a shard would
 * wait for one that it never had. */
static void shard_current(const kith_rebalance *rebalance, const kith_meta_shard *shard, uint32_t factor,
    kith_placement_shard *out) {
    uint32_t surplus = shard->replica_count > factor ? shard->replica_count - factor : 0;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const rebalance_node *node = rebalance_node_find(rebalance, shard->replicas[i]);
        bool poor = !(shard->in_sync >> i & 1) && !(node && node->up);
        if (poor && surplus > 0) {
            surplus--;
        } else {
            out->current[out->current_count++] = shard->replicas[i];
        }
    }
}

/* Nodes that can hold one of its replicas. */
static uint32_t room_of(const plan *own, const kith_rebalance *rebalance, const kith_placement_shard *shard) {
    uint32_t room = own->usable_count;
    for (uint32_t i = 0; i < shard->current_count; i++) {
        const rebalance_node *node = rebalance_node_find(rebalance, shard->current[i]);
        if (!node) continue;
        const kith_placement_node *given = &own->nodes[node - rebalance->nodes];
        room += !given->usable && given->keeps;
    }
    return room;
}

static void plan_shard(plan *own, const kith_rebalance *rebalance, const kith_meta_collection *of,
    uint32_t index, uint32_t place) {
    uint32_t factor = of->collection.replication_factor ? of->collection.replication_factor : 1;
    kith_placement_shard shard = {.id = of->collection.shard_id_first + index};
    shard_current(rebalance, &of->shards[index], factor, &shard);
    uint32_t room = room_of(own, rebalance, &shard);
    shard.replica_count = factor < room ? factor : room;
    if (shard.current_count == 0 || shard.replica_count == 0) return;
    own->places[own->shard_count] = place;
    own->shards[own->shard_count++] = shard;
}

static void plan_shards(plan *own, const kith_rebalance *rebalance, const kith_meta_state *state) {
    uint32_t place = 0;
    own->shards = kith_arena_array(&own->arena, rebalance->shard_count, sizeof *own->shards);
    own->places = kith_arena_array(&own->arena, rebalance->shard_count, sizeof *own->places);
    for (uint32_t i = 0; i < state->collection_count; i++) {
        const kith_meta_collection *of = state->collections[i];
        for (uint32_t index = 0; index < of->collection.shard_count; index++)
            plan_shard(own, rebalance, of, index, place++);
    }
}

static void wanted_make(kith_rebalance *rebalance, const kith_meta_state *state) {
    rebalance->shard_count = 0;
    for (uint32_t i = 0; i < state->collection_count; i++)
        rebalance->shard_count += state->collections[i]->collection.shard_count;
    kith_free(rebalance->wanted);
    rebalance->wanted = kith_alloc_zero((rebalance->shard_count + 1) * sizeof *rebalance->wanted);
    kith_free(rebalance->led);
    rebalance->led = kith_alloc_zero((rebalance->shard_count + 1) * sizeof *rebalance->led);
}

/* What placement refuses stays as it is. */
static void plan_carry(plan *own, kith_rebalance *rebalance) {
    kith_err err;
    kith_placement_replicas *wanted = kith_arena_array(&own->arena, own->shard_count, sizeof *wanted);
    kith_status status = kith_placement_plan(
        own->nodes, rebalance->node_count, own->shards, own->shard_count, wanted, NULL, &err);
    for (uint32_t i = 0; status == KITH_OK && i < own->shard_count; i++)
        rebalance->wanted[own->places[i]] = wanted[i];
}

void rebalance_plan(kith_rebalance *rebalance, const kith_meta_state *state, uint64_t now_ns) {
    uint64_t fingerprint = fingerprint_of(rebalance, state);
    if (rebalance->planned && rebalance->fingerprint == fingerprint) return;
    rebalance->planned = true;
    rebalance->planned_ns = now_ns;
    rebalance->fingerprint = fingerprint;
    wanted_make(rebalance, state);
    plan own = {.shard_count = 0};
    kith_arena_init(&own.arena);
    plan_nodes(&own, rebalance, state);
    plan_shards(&own, rebalance, state);
    plan_carry(&own, rebalance);
    kith_arena_fini(&own.arena);
}
