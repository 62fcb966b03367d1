/* Counters, gauges and latency histograms, printed for Prometheus. The metrics are those of metrics_table.h;
 * a metric with a label has a series for each value, made when its user starts (a collection is opened, a
 * method registered).
 *
 *   kith_series *queries = kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_QUERIES, "");
 *   kith_series_add(queries, 16);
 *
 * Threads: kith_series_add, _set and _observe from any thread, without locks: each thread adds to one of
 * KITH_METRICS_STRIPES cells, so that threads on different cores do not fight over a cache line. An add is
 * one atomic addition, 5 ns or so on an idle cell (guess); an observation is a binary search of 40 bounds and
 * two additions. Making and removing series and printing take a lock: not on a hot path. Ownership: the
 * registry owns the series. A series stays valid until it is removed or the registry is destroyed. */
#ifndef KITH_METRICS_METRICS_H
#define KITH_METRICS_METRICS_H

#include <stdint.h>

#include "host/base/buf.h"
#include "host/base/limits.h"
#include "host/base/status.h"
#include "host/metrics/metrics_table.h"

/* Label values of one metric. Above it the value "other" stands for all new ones: a client that can make
 * names must not be able to fill the memory. */
#define KITH_METRICS_SERIES_MAX 4200u
#define KITH_METRICS_STRIPES    8u

_Static_assert(KITH_METRICS_SERIES_MAX > KITH_COLLECTIONS_MAX, "every collection has its own series");

typedef enum kith_metric_id {
#define KITH_METRIC_ID(id, name, kind, label, help) KITH_METRIC_ID_##id,
    KITH_METRICS_TABLE(KITH_METRIC_ID)
#undef KITH_METRIC_ID
        KITH_METRIC_ID_COUNT
} kith_metric_id;

typedef struct kith_metrics kith_metrics;
typedef struct kith_series kith_series;

kith_metrics *kith_metrics_create(void);
/* No series may be used any more. */
void kith_metrics_destroy(kith_metrics *metrics);

/* The series of `metric` with this label value ("" for a metric without label), made when missing. Never
 * NULL. Metrics without a label have their series from the start, so that they are printed as 0 before their
 * first use. */
kith_series *kith_metrics_series(kith_metrics *metrics, kith_metric_id metric, const char *label_value);
/* Forgets a series, when what it measured is gone (a dropped collection). Nobody may use it any more. Does
 * nothing if there is none, and keeps "other", which is shared. */
void kith_metrics_series_remove(kith_metrics *metrics, kith_metric_id metric, const char *label_value);

/* Counter: adds. */
void kith_series_add(kith_series *series, uint64_t count);
/* Gauge. */
void kith_series_set(kith_series *series, double value);
/* Gauge: `read` is called at every print, under the registry's lock so that it is over when a removal
 * returns: it reads a number and takes no lock itself. NULL ends that; it is not called any more once this
 * returns. */
void kith_series_callback(kith_metrics *metrics, kith_series *series, double (*read)(void *ctx), void *ctx);
/* Histogram: one duration. */
void kith_series_observe_ns(kith_series *series, uint64_t duration_ns);

/* Counter: its value now. Histogram: how many observations. For tests and status pages. */
uint64_t kith_series_count(const kith_series *series);
/* A duration that `fraction` (0..1) of a histogram's observations did not exceed, in seconds: the upper bound
 * of the bucket it falls into. 0 without observations. */
double kith_series_quantile(const kith_series *series, double fraction);

/* Prometheus text format 0.0.4, in the order of the table, series by label value. */
void kith_metrics_print(kith_metrics *metrics, kith_buf *buf);

#endif
