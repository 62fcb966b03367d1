/* Latencies in constant memory: log-linear buckets, 512 to each doubling, so a percentile is off by less than
 * 0.2 %. (G. Tene's HdrHistogram has the idea; this is the part of it that is needed.)
 *
 * Threads: one. */
#ifndef KITH_CLI_CLI_HISTOGRAM_H
#define KITH_CLI_CLI_HISTOGRAM_H

#include <stdint.h>

typedef struct kith_cli_histogram {
    uint64_t *counts;
    uint64_t total;
    uint64_t max;
    double sum;
} kith_cli_histogram;

void kith_cli_histogram_init(kith_cli_histogram *histogram);
void kith_cli_histogram_fini(kith_cli_histogram *histogram);
void kith_cli_histogram_add(kith_cli_histogram *histogram, uint64_t value);
/* The least value that `fraction` (0..1) of all do not exceed; 0 when there are none. */
uint64_t kith_cli_histogram_quantile(const kith_cli_histogram *histogram, double fraction);

#endif
