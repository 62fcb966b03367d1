#include "host/cli/cli_histogram.h"

#include <math.h>

#include "host/base/alloc.h"

#define SUB_BITS     9u /* 2^9 buckets a doubling */
#define SUB_COUNT    (1u << SUB_BITS)
#define BUCKET_COUNT ((64u - SUB_BITS + 1) * SUB_COUNT)

void kith_cli_histogram_init(kith_cli_histogram *histogram) {
    *histogram = (kith_cli_histogram){.counts = kith_alloc_zero(BUCKET_COUNT * sizeof(uint64_t))};
}

void kith_cli_histogram_fini(kith_cli_histogram *histogram) {
    kith_free(histogram->counts);
    histogram->counts = NULL;
}

/* Values below 2^9 have a bucket each; above, the bits behind the leading one choose. */
static uint32_t bucket_of(uint64_t value) {
    if (value < SUB_COUNT) return (uint32_t)value;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB_COUNT + (uint32_t)((value >> shift) - SUB_COUNT);
}

/* The largest value of a bucket. */
static uint64_t bucket_top(uint32_t bucket) {
    if (bucket < SUB_COUNT) return bucket;
    uint32_t shift = bucket / SUB_COUNT - 1;
    uint64_t low = ((uint64_t)(bucket % SUB_COUNT) + SUB_COUNT) << shift;
    return low + ((1ull << shift) - 1);
}

void kith_cli_histogram_add(kith_cli_histogram *histogram, uint64_t value) {
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    histogram->sum += (double)value;
    if (value > histogram->max) histogram->max = value;
}

uint64_t kith_cli_histogram_quantile(const kith_cli_histogram *histogram, double fraction) {
    uint64_t wanted = (uint64_t)ceil(fraction * (double)histogram->total);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < BUCKET_COUNT && histogram->total > 0; i++) {
        seen += histogram->counts[i];
        if (seen < wanted || seen == 0) continue;
        return bucket_top(i) < histogram->max ? bucket_top(i) : histogram->max;
    }
    return histogram->max;
}
