/* Hits: one order everywhere (closeness descending, then id order), and the merge of several sorted lists. The same id
 * twice is one hit (the nearer).
 *
 * Threads: pure. Ownership: ids borrow. */
#ifndef KITH_MODEL_HITS_H
#define KITH_MODEL_HITS_H

#include "host/base/arena.h"
#include "host/model/id.h"

typedef struct kith_hit {
    double closeness; /* larger is nearer; see kernels/compute.h */
    kith_id id;
} kith_hit;

typedef struct kith_hits {
    const kith_hit *hits; /* best first */
    uint32_t count;
} kith_hits;

int kith_hit_compare(const kith_hit *a, const kith_hit *b);
/* Merges `list_count` sorted lists into at most k hits in `hits_out` [k]; returns how many. */
uint32_t kith_hits_merge(const kith_hits *lists, uint32_t list_count, uint32_t k, kith_hit *hits_out);

#endif
