#include "host/query/query_plan.h"

#include "host/base/assert.h"

/* What one message costs beside the work it asks for: both ends' share of 30 us a small search over the network. A guess
 * of its order. */
#define MESSAGE_NS 50000u

/* Who may answer, best first. */
enum { RANK_BEST, RANK_GOOD, RANK_LAST, RANK_NONE };

typedef struct plan_run {
    const kith_query_plan_options *options;
    uint32_t *shard_counts; /* [node_count] shards that this plan asks the node for */
} plan_run;

static uint32_t replica_node(const kith_meta_entry *entry, uint32_t shard, uint32_t replica) {
    if (replica == 0) return entry->shard_nodes[shard];
    return entry->shard_replicas[(size_t)shard * entry->replica_width + replica];
}

/* A node that is taken for down is asked where nobody else is left: the judgement may be late. */
static uint32_t rank_of(const kith_query_plan_options *options, uint32_t shard, uint32_t replica) {
    uint32_t node = replica_node(options->entry, shard, replica);
    if (node == KITH_META_NODE_NONE) return RANK_NONE;
    if (replica == 0 && (options->entry->replica_width == 1 || options->read == KITH_READ_PRIMARY))
        return RANK_BEST;
    bool is_up = !options->map->nodes[node].down;
    bool is_in_sync = options->entry->shard_in_sync[shard] >> replica & 1;
    switch (options->read) {
    case KITH_READ_PRIMARY:
        return RANK_NONE;
    case KITH_READ_IN_SYNC:
        return !is_in_sync ? RANK_NONE : is_up ? RANK_BEST : RANK_LAST;
    case KITH_READ_ANY: /* who is not in sync may have next to nothing yet: a new copy, or one that was away for days */
    case KITH_READ_TOKEN: /* who is in sync has the write already, or soon */
        return !is_up ? RANK_LAST : is_in_sync ? RANK_BEST : RANK_GOOD;
    }
    return RANK_NONE;
}

/* The lowest two of a request are the nodes it draws. */
static uint64_t draw(uint64_t seed, uint32_t node) {
    uint64_t x = seed + (node + 1) * UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* When the node would have answered, were it asked for one shard more. */
static uint64_t finish_ns(const plan_run *run, uint32_t node) {
    kith_query_node_load load = {0};
    if (run->options->loads) load = run->options->loads[node];
    uint64_t shards = (uint64_t)run->shard_counts[node] + 1;
    return ((uint64_t)load.in_flight + 1) * load.shard_ns * shards + (shards == 1 ? MESSAGE_NS : 0);
}

typedef struct candidates {
    uint8_t replicas[2];
    uint64_t draws[2];
    uint32_t count;
} candidates;

static void candidate_add(candidates *all, uint32_t replica, uint64_t drawn) {
    if (all->count == 2 && drawn >= all->draws[1]) return;
    uint32_t at = all->count < 2 ? all->count++ : 1;
    if (at == 1 && drawn < all->draws[0]) {
        all->draws[1] = all->draws[0];
        all->replicas[1] = all->replicas[0];
        at = 0;
    }
    all->draws[at] = drawn;
    all->replicas[at] = (uint8_t)replica;
}

/* The replicas that may be asked, of the best rank there is: two of them, drawn. */
static candidates candidates_of(const kith_query_plan_options *options, const kith_query_plan_want *want) {
    candidates all = {0};
    uint32_t best = RANK_NONE;
    for (uint32_t i = 0; i < options->entry->replica_width; i++) {
        uint32_t rank = rank_of(options, want->shard_index, i);
        if (want->tried >> i & 1 || rank == RANK_NONE || rank > best) continue;
        if (rank < best) all.count = 0;
        best = rank;
        candidate_add(&all, i, draw(options->seed, replica_node(options->entry, want->shard_index, i)));
    }
    return all;
}

bool kith_query_plan_has_other(const kith_query_plan_options *options, const kith_query_plan_want *want) {
    if (options->entry->replica_width == 1 && want->tried & 1) return false;
    return candidates_of(options, want).count > 0;
}

static uint8_t replica_choose(const plan_run *run, const kith_query_plan_want *want) {
    const kith_meta_entry *entry = run->options->entry;
    if (entry->replica_width == 1) return want->tried & 1 ? KITH_QUERY_REPLICA_NONE : 0;
    candidates all = candidates_of(run->options, want);
    if (all.count == 0) return KITH_QUERY_REPLICA_NONE;
    if (all.count == 1) return all.replicas[0];
    uint64_t first = finish_ns(run, replica_node(entry, want->shard_index, all.replicas[0]));
    uint64_t second = finish_ns(run, replica_node(entry, want->shard_index, all.replicas[1]));
    return all.replicas[second < first];
}

static void replicas_choose(plan_run *run, uint8_t *replicas) {
    const kith_query_plan_options *options = run->options;
    for (uint32_t i = 0; i < options->want_count; i++) {
        replicas[i] = replica_choose(run, &options->wants[i]);
        if (replicas[i] == KITH_QUERY_REPLICA_NONE) continue;
        uint32_t node = replica_node(options->entry, options->wants[i].shard_index, replicas[i]);
        kith_assert(node < options->map->node_count);
        run->shard_counts[node]++;
    }
}

static uint32_t node_of(const kith_query_plan_options *options, const uint8_t *replicas, uint32_t want) {
    return replica_node(options->entry, options->wants[want].shard_index, replicas[want]);
}

static void messages_apart(const kith_query_plan_options *options, const uint8_t *replicas, kith_arena *arena,
    kith_query_plan *plan) {
    uint32_t *wants = kith_arena_array(arena, options->want_count, sizeof *wants);
    kith_query_plan_message *messages = kith_arena_array(arena, options->want_count, sizeof *messages);
    for (uint32_t i = 0; i < options->want_count; i++) {
        if (replicas[i] == KITH_QUERY_REPLICA_NONE) continue;
        wants[i] = i;
        messages[plan->message_count++] = (kith_query_plan_message){
            .node_index = node_of(options, replicas, i), .want_count = 1, .wants = &wants[i]};
    }
    plan->messages = messages;
}

/* Counting sort by node: stable, so wants rise within a message. */
static void messages_by_node(
    plan_run *run, const uint8_t *replicas, kith_arena *arena, kith_query_plan *plan) {
    const kith_query_plan_options *options = run->options;
    uint32_t *ends = run->shard_counts, begin = 0;
    uint32_t *wants = kith_arena_array(arena, options->want_count, sizeof *wants);
    for (uint32_t node = 0; node < options->map->node_count; node++)
        plan->message_count += ends[node] > 0;
    kith_query_plan_message *messages = kith_arena_array(arena, plan->message_count, sizeof *messages);
    for (uint32_t node = 0, at = 0; node < options->map->node_count; node++) {
        uint32_t count = ends[node];
        if (count) {
            messages[at++] =
                (kith_query_plan_message){.node_index = node, .want_count = count, .wants = wants + begin};
        }
        ends[node] = begin; /* from here on: where its next one goes */
        begin += count;
    }
    for (uint32_t i = 0; i < options->want_count; i++) {
        if (replicas[i] != KITH_QUERY_REPLICA_NONE) wants[ends[node_of(options, replicas, i)]++] = i;
    }
    plan->messages = messages;
}

void kith_query_plan_make(
    const kith_query_plan_options *options, kith_arena *arena, kith_query_plan *plan_out) {
    uint32_t node_count = options->map->node_count;
    plan_run run = {.options = options};
    run.shard_counts = kith_arena_alloc_zero(arena, node_count * sizeof *run.shard_counts);
    uint8_t *replicas = kith_arena_array(arena, options->want_count, sizeof *replicas);
    replicas_choose(&run, replicas);
    kith_query_plan plan = {.replicas = replicas};
    if (options->is_apart)
        messages_apart(options, replicas, arena, &plan);
    else
        messages_by_node(&run, replicas, arena, &plan);
    *plan_out = plan;
}
