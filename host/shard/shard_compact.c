/* Merges. The policy is size-tiered, as in Cassandra and Lucene: a segment's tier is how many times larger,
 * in steps of 4, it is than half a freshly sealed one; a tier with at least 4 segments is merged, smallest
 * tier first, at most 16 segments and merge_bytes_max at a time. So a row is rewritten about log4(shard /
 * seal size) times in its life, and a shard of n full segments settles at a few per tier instead of n. Size
 * is the greater of live bytes and live rows (each against its own sealing limit): small vectors reach the
 * row limit first.
 *
 * Segments of which half the rows are dead go first, alone if need be: their memory and their scan time are
 * wasted, and a merge's output is never half dead, so this ends. */
#include "host/shard/shard_compact.h"

#include <string.h>

#include "host/base/assert.h"
#include "host/shard/shard_internal.h"

#define TIERS 16u

static uint64_t live_bytes(const shard_merge_candidate *candidate) {
    if (candidate->row_count == 0) return 0;
    return (uint64_t)((double)candidate->bytes * candidate->live_count / candidate->row_count);
}

/* 0: less than half of what a seal makes; each tier above is 4 times as large. */
static uint32_t tier_of(const shard_merge_candidate *candidate, const shard_merge_limits *limits) {
    double of_bytes = (double)live_bytes(candidate) / (double)(limits->seal_bytes ? limits->seal_bytes : 1);
    double of_rows = (double)candidate->live_count / (double)(limits->seal_rows ? limits->seal_rows : 1);
    double size = of_bytes > of_rows ? of_bytes : of_rows;
    uint32_t tier = 0;
    for (double bound = 0.5; size >= bound && tier + 1 < TIERS; bound *= 4)
        tier++;
    return tier;
}

static bool is_half_dead(const shard_merge_candidate *candidate) {
    return candidate->live_count <= candidate->row_count / 2;
}

typedef struct selection {
    uint32_t *chosen;
    uint32_t count;
    uint64_t bytes;
    uint64_t rows;
} selection;

/* The first one always fits: a segment larger than the limit may still be rewritten without its dead rows. */
static bool selection_add(selection *chosen, const shard_merge_candidate *candidate, uint32_t index,
    const shard_merge_limits *limits) {
    if (chosen->count == SHARD_MERGE_SOURCES_MAX) return false;
    if (chosen->count > 0 && chosen->bytes + live_bytes(candidate) > limits->merge_bytes_max) return false;
    if (chosen->count > 0 && chosen->rows + candidate->live_count > SHARD_SEGMENT_ROWS_MAX) return false;
    chosen->chosen[chosen->count++] = index;
    chosen->bytes += live_bytes(candidate);
    chosen->rows += candidate->live_count;
    return true;
}

static uint32_t choose_half_dead(const shard_merge_candidate *candidates, uint32_t count,
    const shard_merge_limits *limits, uint32_t *chosen_out) {
    selection chosen = {.chosen = chosen_out};
    for (uint32_t i = 0; i < count; i++) {
        if (is_half_dead(&candidates[i])) (void)selection_add(&chosen, &candidates[i], i, limits);
    }
    return chosen.count;
}

static uint32_t choose_of_tier(const shard_merge_candidate *candidates, uint32_t count,
    const shard_merge_limits *limits, uint32_t tier, uint32_t *chosen_out) {
    selection chosen = {.chosen = chosen_out};
    for (uint32_t i = 0; i < count; i++) {
        if (tier_of(&candidates[i], limits) == tier) (void)selection_add(&chosen, &candidates[i], i, limits);
    }
    return chosen.count >= SHARD_MERGE_SOURCES_LEAST ? chosen.count : 0;
}

uint32_t shard_merge_choose(const shard_merge_candidate *candidates, uint32_t candidate_count,
    const shard_merge_limits *limits, uint32_t chosen_out[SHARD_MERGE_SOURCES_MAX]) {
    uint32_t count = choose_half_dead(candidates, candidate_count, limits, chosen_out);
    for (uint32_t tier = 0; count == 0 && tier < TIERS; tier++) {
        count = choose_of_tier(candidates, candidate_count, limits, tier, chosen_out);
    }
    return count;
}

static uint32_t sealed_count(const kith_shard *shard) {
    uint32_t count = 0;
    while (count < shard->part_count && shard->parts[count].kind == SHARD_PART_SEALED)
        count++;
    return count;
}

static uint32_t choose_parts(kith_shard *shard, uint32_t chosen_out[SHARD_MERGE_SOURCES_MAX]) {
    uint32_t count = sealed_count(shard);
    if (count == 0) return 0;
    kith_arena arena;
    kith_arena_init(&arena);
    shard_merge_candidate *candidates = kith_arena_array(&arena, count, sizeof *candidates);
    for (uint32_t i = 0; i < count; i++) {
        const shard_part *part = &shard->parts[i];
        candidates[i] = (shard_merge_candidate){.bytes = kith_segment_vector_bytes(part->segment),
            .row_count = part->row_count,
            .live_count = part->row_count - part->dead_count};
    }
    shard_merge_limits limits = {.seal_bytes = shard->node->seal_bytes,
        .seal_rows = shard->node->seal_rows,
        .merge_bytes_max = shard->node->merge_bytes_max};
    uint32_t chosen_count = shard_merge_choose(candidates, count, &limits, chosen_out);
    kith_arena_fini(&arena);
    return chosen_count;
}

bool shard_merge_plan(kith_shard *shard) {
    uint32_t chosen[SHARD_MERGE_SOURCES_MAX];
    uint32_t count = choose_parts(shard, chosen);
    for (uint32_t i = 0; i < count; i++)
        shard_build_source_add(&shard->merge, &shard->parts[chosen[i]], shard->parts[chosen[i]].dead);
    return count > 0;
}
