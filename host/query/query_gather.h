/* Hits of several shards gathered into one list a query, in bounded memory: short lists are kept and merged at the end,
 * all at once; when they become many they are merged into the running lists, of which there is one a query.
 *
 * Threads: one at a time. Ownership: lists are borrowed for the call, the bytes of their ids until fini. */
#ifndef KITH_QUERY_QUERY_GATHER_H
#define KITH_QUERY_QUERY_GATHER_H

#include "host/query/query.h"

/* Hits of shard lists that a search keeps unmerged, and of those that shards may make at once: 4 MiB each. Fewer merges
 * and more shards at once against memory of all searches under way (a guess). One shard may always make its list. */
#define KITH_QUERY_KEPT_HITS_MAX (128u << 10)
#define KITH_QUERY_LANE_HITS_MAX (128u << 10)

typedef struct kith_query_gather {
    uint32_t query_count, k;
    kith_arena arena;       /* of what is kept; forgotten at each merge */
    const kith_hits **kept; /* [kept_count] of [query_count] */
    uint32_t kept_count, kept_capacity;
    uint64_t kept_hit_count;
    kith_hit *running;         /* [query_count][capacity], or NULL before the first merge */
    kith_hits *running_lists;  /* [query_count] over it */
    uint32_t running_capacity; /* at most k */
} kith_query_gather;

void kith_query_gather_init(kith_query_gather *gather, uint32_t query_count, uint32_t k);
/* Adds `lists` [query_count], each best first. NO_MEMORY: nothing of them was taken. */
KITH_CHECK kith_status kith_query_gather_add(
    kith_query_gather *gather, const kith_hits *lists, kith_err *err);
/* `*lists_out` [query_count], each at most k, until fini. */
KITH_CHECK kith_status kith_query_gather_finish(
    kith_query_gather *gather, const kith_hits **lists_out, kith_err *err);
void kith_query_gather_fini(kith_query_gather *gather);

/* Pure: how many of `shard_count` shards may search at once when each list of hits has up to `hit_count`: at least 1. */
uint32_t kith_query_lane_count(uint64_t hit_count, uint32_t shard_count);

#endif
