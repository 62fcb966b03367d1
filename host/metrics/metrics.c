#include "host/metrics/metrics.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/text.h"
#include "host/base/thread.h"

/* Five a decade from 1 us to 100 s, each a number people read easily; one more bucket holds what is longer.
 */
#define BOUNDS_COUNT 41u
static const uint64_t bounds_ns[BOUNDS_COUNT] = {
    1000ULL, 1600ULL, 2500ULL, 4000ULL, 6300ULL,                                    /* 1 us */
    10000ULL, 16000ULL, 25000ULL, 40000ULL, 63000ULL,                               /* 10 us */
    100000ULL, 160000ULL, 250000ULL, 400000ULL, 630000ULL,                          /* 100 us */
    1000000ULL, 1600000ULL, 2500000ULL, 4000000ULL, 6300000ULL,                     /* 1 ms */
    10000000ULL, 16000000ULL, 25000000ULL, 40000000ULL, 63000000ULL,                /* 10 ms */
    100000000ULL, 160000000ULL, 250000000ULL, 400000000ULL, 630000000ULL,           /* 100 ms */
    1000000000ULL, 1600000000ULL, 2500000000ULL, 4000000000ULL, 6300000000ULL,      /* 1 s */
    10000000000ULL, 16000000000ULL, 25000000000ULL, 40000000000ULL, 63000000000ULL, /* 10 s */
    100000000000ULL,                                                                /* 100 s */
};
#define BUCKETS_COUNT (BOUNDS_COUNT + 1)

#define OTHER_VALUE "other"

typedef enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } metric_kind;

typedef struct metric_entry {
    const char *name;
    metric_kind kind;
    const char *label;
    const char *help;
} metric_entry;

static const metric_entry entries[] = {
#define METRIC_ENTRY(id, name_text, kind_name, label_name, help_text)                                        \
    {.name = (name_text), .kind = METRIC_##kind_name, .label = (label_name), .help = (help_text)},
    KITH_METRICS_TABLE(METRIC_ENTRY)
#undef METRIC_ENTRY
};

/* One thread's share of a counter or histogram. Every access is relaxed: the numbers are added up for people,
 * and nothing else is read on their strength. */
typedef struct stripe {
    _Alignas(64) _Atomic(uint64_t) count; /* of a histogram: nanoseconds observed */
    _Atomic(uint64_t) buckets[];          /* [BUCKETS_COUNT] of a histogram, none of a counter */
} stripe;

struct kith_series {
    kith_series *next; /* of the metric, by label value */
    const metric_entry *entry;
    char *label_value;
    uint8_t *stripes; /* [KITH_METRICS_STRIPES] of stripe_bytes; NULL for a gauge */
    size_t stripe_bytes;
    _Atomic(uint64_t) gauge_bits; /* of a double */
    double (*read)(void *ctx);    /* under the registry's lock, as `ctx` */
    void *ctx;
};

typedef struct metric_state {
    kith_series *first;
    uint32_t series_count;
} metric_state;

struct kith_metrics {
    kith_mutex
        lock; /* guards the lists of series; a scrape must see a list whole, and there is no thread to ask */
    metric_state states[KITH_METRIC_ID_COUNT];
};

/* --- series --- */

static kith_series *series_create(const metric_entry *entry, const char *label_value) {
    kith_series *series = kith_alloc_zero(sizeof *series);
    series->entry = entry;
    series->label_value = kith_strdup(label_value);
    if (entry->kind == METRIC_GAUGE) return series;
    size_t buckets_bytes = entry->kind == METRIC_HISTOGRAM ? BUCKETS_COUNT * sizeof(uint64_t) : 0;
    series->stripe_bytes = (sizeof(stripe) + buckets_bytes + 63) & ~(size_t)63;
    series->stripes = kith_try_alloc_aligned(KITH_METRICS_STRIPES * series->stripe_bytes);
    kith_assert(series->stripes);
    memset(series->stripes, 0, KITH_METRICS_STRIPES * series->stripe_bytes);
    return series;
}

static void series_destroy(kith_series *series) {
    kith_free(series->stripes);
    kith_free(series->label_value);
    kith_free(series);
}

/* Where the series with `label_value` is linked, or would be. */
static kith_series **find_link_locked(metric_state *state, const char *label_value) {
    kith_series **link = &state->first;
    while (*link && strcmp((*link)->label_value, label_value) < 0)
        link = &(*link)->next;
    return link;
}

static bool link_matches(kith_series *const *link, const char *label_value) {
    return *link && strcmp((*link)->label_value, label_value) == 0;
}

static kith_series *series_get_locked(kith_metrics *metrics, kith_metric_id metric, const char *label_value) {
    metric_state *state = &metrics->states[metric];
    kith_series **link = find_link_locked(state, label_value);
    if (link_matches(link, label_value)) return *link;
    if (state->series_count >= KITH_METRICS_SERIES_MAX) {
        label_value = OTHER_VALUE;
        link = find_link_locked(state, label_value);
        if (link_matches(link, label_value)) return *link;
    }
    kith_series *series = series_create(&entries[metric], label_value);
    series->next = *link;
    *link = series;
    state->series_count++;
    return series;
}

kith_metrics *kith_metrics_create(void) {
    kith_metrics *metrics = kith_alloc_zero(sizeof *metrics);
    kith_mutex_init(&metrics->lock, KITH_RANK_METRICS);
    for (uint32_t i = 0; i < KITH_METRIC_ID_COUNT; i++)
        if (entries[i].label[0] == 0) (void)kith_metrics_series(metrics, (kith_metric_id)i, "");
    return metrics;
}

void kith_metrics_destroy(kith_metrics *metrics) {
    if (!metrics) return;
    for (uint32_t i = 0; i < KITH_METRIC_ID_COUNT; i++) {
        kith_series *series = metrics->states[i].first;
        while (series) {
            kith_series *next = series->next;
            series_destroy(series);
            series = next;
        }
    }
    kith_mutex_fini(&metrics->lock);
    kith_free(metrics);
}

kith_series *kith_metrics_series(kith_metrics *metrics, kith_metric_id metric, const char *label_value) {
    kith_assert((entries[metric].label[0] == 0) == (label_value[0] == 0));
    kith_mutex_lock(&metrics->lock);
    kith_series *series = series_get_locked(metrics, metric, label_value);
    kith_mutex_unlock(&metrics->lock);
    return series;
}

void kith_metrics_series_remove(kith_metrics *metrics, kith_metric_id metric, const char *label_value) {
    if (strcmp(label_value, OTHER_VALUE) == 0) return;
    metric_state *state = &metrics->states[metric];
    kith_mutex_lock(&metrics->lock);
    kith_series **link = find_link_locked(state, label_value);
    kith_series *found = link_matches(link, label_value) ? *link : NULL;
    if (found) {
        *link = found->next;
        state->series_count--;
    }
    kith_mutex_unlock(&metrics->lock);
    if (found) series_destroy(found);
}

/* --- measuring --- */

static stripe *stripe_at(const kith_series *series, uint32_t index) {
    return (stripe *)(series->stripes + index * series->stripe_bytes);
}

/* Threads have their own stacks and thread data, so an address of the latter tells them apart well enough. */
static stripe *own_stripe(const kith_series *series) {
    static _Thread_local char mark;
    uint64_t mixed = (uint64_t)(uintptr_t)&mark * 0x9E3779B97F4A7C15ULL;
    return stripe_at(series, (uint32_t)(mixed >> 32) % KITH_METRICS_STRIPES);
}

void kith_series_add(kith_series *series, uint64_t count) {
    kith_assert(series->entry->kind == METRIC_COUNTER);
    atomic_fetch_add_explicit(&own_stripe(series)->count, count, memory_order_relaxed);
}

/* The first bucket whose bound is at least `duration_ns`. */
static uint32_t bucket_of(uint64_t duration_ns) {
    uint32_t from = 0;
    uint32_t to = BOUNDS_COUNT;
    while (from < to) {
        uint32_t middle = (from + to) / 2;
        if (bounds_ns[middle] < duration_ns)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

void kith_series_observe_ns(kith_series *series, uint64_t duration_ns) {
    kith_assert(series->entry->kind == METRIC_HISTOGRAM);
    stripe *own = own_stripe(series);
    atomic_fetch_add_explicit(&own->buckets[bucket_of(duration_ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&own->count, duration_ns, memory_order_relaxed);
}

void kith_series_set(kith_series *series, double value) {
    kith_assert(series->entry->kind == METRIC_GAUGE);
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&series->gauge_bits, bits, memory_order_relaxed);
}

void kith_series_callback(kith_metrics *metrics, kith_series *series, double (*read)(void *ctx), void *ctx) {
    kith_assert(series->entry->kind == METRIC_GAUGE);
    kith_mutex_lock(&metrics->lock);
    series->read = read;
    series->ctx = ctx;
    kith_mutex_unlock(&metrics->lock);
}

/* --- reading --- */

static uint64_t stripes_sum(const kith_series *series) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < KITH_METRICS_STRIPES; i++)
        sum += atomic_load_explicit(&stripe_at(series, i)->count, memory_order_relaxed);
    return sum;
}

/* Observations up to each bound, and all of them last. */
static void cumulate_buckets(const kith_series *series, uint64_t counts_out[BUCKETS_COUNT]) {
    uint64_t sum = 0;
    for (uint32_t bucket = 0; bucket < BUCKETS_COUNT; bucket++) {
        for (uint32_t i = 0; i < KITH_METRICS_STRIPES; i++)
            sum += atomic_load_explicit(&stripe_at(series, i)->buckets[bucket], memory_order_relaxed);
        counts_out[bucket] = sum;
    }
}

uint64_t kith_series_count(const kith_series *series) {
    kith_assert(series->entry->kind != METRIC_GAUGE);
    if (series->entry->kind == METRIC_COUNTER) return stripes_sum(series);
    uint64_t counts[BUCKETS_COUNT];
    cumulate_buckets(series, counts);
    return counts[BUCKETS_COUNT - 1];
}

double kith_series_quantile(const kith_series *series, double fraction) {
    kith_assert(series->entry->kind == METRIC_HISTOGRAM);
    uint64_t counts[BUCKETS_COUNT];
    cumulate_buckets(series, counts);
    uint64_t total = counts[BUCKETS_COUNT - 1];
    if (total == 0) return 0;
    uint32_t bucket = 0;
    while (bucket < BOUNDS_COUNT - 1 && (double)counts[bucket] < fraction * (double)total)
        bucket++;
    return (double)bounds_ns[bucket] / 1e9;
}

/* --- printing --- */

/* Prometheus escapes these three in label values, and nothing else. */
static void append_label_value(kith_buf *buf, const char *value) {
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            kith_buf_append_format(buf, "\\%c", *value);
        else if (*value == '\n')
            kith_buf_append_text(buf, "\\n");
        else
            kith_buf_u8(buf, (uint8_t)*value);
    }
}

/* {label="value",le="bound"}, whichever of them there are. */
static void append_labels(kith_buf *buf, const kith_series *series, const char *bound) {
    bool labelled = series->entry->label[0] != 0;
    if (!labelled && !bound) return;
    kith_buf_append_text(buf, "{");
    if (labelled) {
        kith_buf_append_format(buf, "%s=\"", series->entry->label);
        append_label_value(buf, series->label_value);
        kith_buf_append_text(buf, "\"");
    }
    if (bound) kith_buf_append_format(buf, "%sle=\"%s\"", labelled ? "," : "", bound);
    kith_buf_append_text(buf, "}");
}

static void append_count(kith_buf *buf, uint64_t count) {
    kith_buf_append_format(buf, " %llu\n", (unsigned long long)count);
}

/* Nanoseconds as seconds, in whole digits: no rounding, no locale. */
static void append_seconds(kith_buf *buf, uint64_t nanoseconds) {
    kith_buf_append_format(buf, "%llu.%09llu", (unsigned long long)(nanoseconds / 1000000000),
        (unsigned long long)(nanoseconds % 1000000000));
}

static void append_bound(kith_buf *buf, uint64_t bound_ns) {
    kith_buf_clear(buf);
    kith_text_append_f64(buf, (double)bound_ns / 1e9);
    kith_buf_u8(buf, 0);
}

static void append_histogram(kith_buf *buf, const kith_series *series) {
    uint64_t counts[BUCKETS_COUNT];
    uint64_t sum_ns = stripes_sum(series);
    cumulate_buckets(series, counts);
    kith_buf bound;
    kith_buf_init(&bound);
    for (uint32_t i = 0; i < BUCKETS_COUNT; i++) {
        if (i < BOUNDS_COUNT) append_bound(&bound, bounds_ns[i]);
        kith_buf_append_format(buf, "%s_bucket", series->entry->name);
        append_labels(buf, series, i < BOUNDS_COUNT ? (const char *)bound.data : "+Inf");
        append_count(buf, counts[i]);
    }
    kith_buf_fini(&bound);
    kith_buf_append_format(buf, "%s_sum", series->entry->name);
    append_labels(buf, series, NULL);
    kith_buf_append_text(buf, " ");
    append_seconds(buf, sum_ns);
    kith_buf_append_format(buf, "\n%s_count", series->entry->name);
    append_labels(buf, series, NULL);
    append_count(buf, counts[BUCKETS_COUNT - 1]);
}

static double gauge_value_locked(const kith_series *series) {
    if (series->read) return series->read(series->ctx);
    uint64_t bits = atomic_load_explicit(&series->gauge_bits, memory_order_relaxed);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void append_gauge(kith_buf *buf, double value) {
    kith_buf_append_text(buf, " ");
    if (value != value)
        kith_buf_append_text(buf, "NaN");
    else if (value - value != 0)
        kith_buf_append_text(buf, value > 0 ? "+Inf" : "-Inf");
    else
        kith_text_append_f64(buf, value);
    kith_buf_append_text(buf, "\n");
}

static void append_series_locked(kith_buf *buf, const kith_series *series) {
    if (series->entry->kind == METRIC_HISTOGRAM) {
        append_histogram(buf, series);
        return;
    }
    kith_buf_append_text(buf, series->entry->name);
    append_labels(buf, series, NULL);
    if (series->entry->kind == METRIC_COUNTER)
        append_count(buf, stripes_sum(series));
    else
        append_gauge(buf, gauge_value_locked(series));
}

static void append_head(kith_buf *buf, const metric_entry *entry) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    kith_buf_append_format(
        buf, "# HELP %s %s\n# TYPE %s %s\n", entry->name, entry->help, entry->name, kinds[entry->kind]);
}

void kith_metrics_print(kith_metrics *metrics, kith_buf *buf) {
    kith_mutex_lock(&metrics->lock);
    for (uint32_t i = 0; i < KITH_METRIC_ID_COUNT; i++) {
        append_head(buf, &entries[i]);
        for (const kith_series *series = metrics->states[i].first; series; series = series->next)
            append_series_locked(buf, series);
    }
    kith_mutex_unlock(&metrics->lock);
}
