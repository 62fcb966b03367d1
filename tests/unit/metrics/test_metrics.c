#include "tests/lib/test_lib.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"
#include "host/metrics/metrics.h"

#define THREADS 4

/* --- a strict reader of Prometheus' text format 0.0.4, which shares nothing with the writer --- */

typedef struct sample {
    char name[128];
    char labels[512]; /* between the braces, as it is */
    char bound[32];   /* of le */
    double value;
} sample;

typedef struct exposition {
    char family[128];
    char type[16];
    sample samples[8192];
    size_t count;
} exposition;

static bool is_name(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return bytes > 0;
}

/* {name="value",...}: where it ends; fails the test if it is not well formed. */
static const char *read_labels(const char *at, sample *into) {
    const char *start = ++at;
    for (;;) {
        size_t name_bytes = strcspn(at, "=");
        assert_true(is_name(at, name_bytes));
        bool is_bound = name_bytes == 2 && memcmp(at, "le", 2) == 0;
        at += name_bytes;
        assert_memory_equal(at, "=\"", 2);
        const char *value = at += 2;
        for (; *at != '"'; at++) {
            assert_true(*at != 0 && *at != '\n');
            if (*at != '\\') continue;
            at++;
            assert_non_null(strchr("\\\"n", *at));
        }
        if (is_bound) snprintf(into->bound, sizeof into->bound, "%.*s", (int)(at - value), value);
        at++;
        if (*at == '}') break;
        assert_int_equal(*at, ',');
        at++;
    }
    snprintf(into->labels, sizeof into->labels, "%.*s", (int)(at - start), start);
    return at + 1;
}

static double read_value(const char *text) {
    if (strcmp(text, "+Inf") == 0) return INFINITY;
    if (strcmp(text, "NaN") == 0) return NAN;
    double value;
    assert_true(kith_text_parse_f64(text, strlen(text), &value));
    return value;
}

static bool belongs(const exposition *page, const char *name) {
    size_t bytes = strlen(page->family);
    if (strncmp(name, page->family, bytes) != 0) return false;
    const char *suffix = name + bytes;
    if (strcmp(page->type, "histogram") != 0) return *suffix == 0;
    return strcmp(suffix, "_bucket") == 0 || strcmp(suffix, "_sum") == 0 || strcmp(suffix, "_count") == 0;
}

static void read_sample(exposition *page, const char *line) {
    sample *into = &page->samples[page->count++];
    assert_in_range(page->count, 1, 8192);
    size_t name_bytes = strcspn(line, "{ ");
    assert_true(is_name(line, name_bytes));
    snprintf(into->name, sizeof into->name, "%.*s", (int)name_bytes, line);
    assert_true(belongs(page, into->name));
    line += name_bytes;
    if (*line == '{') line = read_labels(line, into);
    assert_int_equal(*line, ' ');
    into->value = read_value(line + 1);
    for (const sample *other = page->samples; other < into; other++)
        assert_false(strcmp(other->name, into->name) == 0 && strcmp(other->labels, into->labels) == 0);
}

static void read_help(exposition *page, const char *line) {
    size_t bytes = strcspn(line, " ");
    assert_true(is_name(line, bytes));
    snprintf(page->family, sizeof page->family, "%.*s", (int)bytes, line);
    page->type[0] = 0;
    assert_true(line[bytes] == ' ' && line[bytes + 1] != 0);
}

static void read_type(exposition *page, const char *line) {
    size_t bytes = strlen(page->family);
    assert_memory_equal(line, page->family, bytes);
    assert_int_equal(line[bytes], ' ');
    snprintf(page->type, sizeof page->type, "%s", line + bytes + 1);
    bool is_counter = strcmp(page->type, "counter") == 0;
    assert_true(is_counter || strcmp(page->type, "gauge") == 0 || strcmp(page->type, "histogram") == 0);
    assert_int_equal(is_counter, bytes > 6 && strcmp(page->family + bytes - 6, "_total") == 0);
}

static exposition *read_page(kith_metrics *metrics) {
    kith_buf buf;
    kith_buf_init(&buf);
    kith_metrics_print(metrics, &buf);
    assert_int_equal(buf.data[buf.bytes - 1], '\n');
    buf.data[buf.bytes - 1] = 0;
    exposition *page = kith_alloc_zero(sizeof *page);
    char *rest = NULL;
    for (char *line = strtok_r((char *)buf.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# HELP ", 7) == 0)
            read_help(page, line + 7);
        else if (strncmp(line, "# TYPE ", 7) == 0)
            read_type(page, line + 7);
        else
            read_sample(page, line);
    }
    kith_buf_fini(&buf);
    return page;
}

static double value_of(const exposition *page, const char *name, const char *labels) {
    for (size_t i = 0; i < page->count; i++)
        if (strcmp(page->samples[i].name, name) == 0 && strcmp(page->samples[i].labels, labels) == 0)
            return page->samples[i].value;
    fail_msg("no %s{%s}", name, labels);
    return 0;
}

/* --- tests --- */

static int set_up(void **state) {
    *state = kith_metrics_create();
    return 0;
}

static int tear_down(void **state) {
    kith_metrics_destroy(*state);
    return 0;
}

static void test_metrics__page_is_well_formed_before_any_use(void **state) {
    exposition *page = read_page(*state);
    assert_true(value_of(page, "kith_search_queries_total", "") == 0);
    assert_true(value_of(page, "kith_search_duration_seconds_count", "") == 0);
    assert_true(value_of(page, "kith_up_seconds", "") == 0);
    kith_free(page);
}

static void test_metrics__values_come_out_as_they_went_in(void **state) {
    kith_metrics *metrics = *state;
    kith_series_add(kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_QUERIES, ""), 16);
    kith_series_add(kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_QUERIES, ""), UINT32_MAX);
    kith_series_add(kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_REQUESTS, "OK"), 2);
    kith_series_add(kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_REQUESTS, "BUSY"), 1);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_POINTS, "a\"b\\c\nd"), 1e15);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_UP_SECONDS, ""), -0.25);
    exposition *page = read_page(metrics);
    assert_true(value_of(page, "kith_search_queries_total", "") == 16.0 + UINT32_MAX);
    assert_true(value_of(page, "kith_search_requests_total", "code=\"OK\"") == 2);
    assert_true(value_of(page, "kith_search_requests_total", "code=\"BUSY\"") == 1);
    assert_true(value_of(page, "kith_points", "collection=\"a\\\"b\\\\c\\nd\"") == 1e15);
    assert_true(value_of(page, "kith_up_seconds", "") == -0.25);
    kith_free(page);
}

static void test_metrics__histogram_buckets_add_up(void **state) {
    kith_metrics *metrics = *state;
    kith_series *series = kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_DURATION, "");
    static const uint64_t durations_ns[] = {
        0, 1000, 1001, 1600000, 1600001, 100000000000ULL, 100000000001ULL, 1000000000000ULL};
    for (size_t i = 0; i < 8; i++)
        kith_series_observe_ns(series, durations_ns[i]);
    exposition *page = read_page(metrics);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"0.000001\"") == 2);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"0.0000016\"") == 3);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"0.0016\"") == 4);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"0.0025\"") == 5);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"100\"") == 6);
    assert_true(value_of(page, "kith_search_duration_seconds_bucket", "le=\"+Inf\"") == 8);
    assert_true(value_of(page, "kith_search_duration_seconds_count", "") == 8);
    assert_true(fabs(value_of(page, "kith_search_duration_seconds_sum", "") - 1200.003202003) < 1e-9);
    double last_bound = 0;
    double last_count = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (strcmp(page->samples[i].name, "kith_search_duration_seconds_bucket") != 0) continue;
        double bound = read_value(page->samples[i].bound);
        assert_true(bound > last_bound);
        assert_true(page->samples[i].value >= last_count);
        last_bound = bound;
        last_count = page->samples[i].value;
    }
    kith_free(page);
}

static void test_metrics__quantile_is_the_bound_above(void **state) {
    kith_series *series = kith_metrics_series(*state, KITH_METRIC_ID_SEARCH_DURATION, "");
    assert_true(kith_series_quantile(series, 0.5) == 0);
    for (int i = 0; i < 99; i++)
        kith_series_observe_ns(series, 1500000);
    kith_series_observe_ns(series, 2000000000);
    assert_true(kith_series_quantile(series, 0.5) == 0.0016);
    assert_true(kith_series_quantile(series, 0.99) == 0.0016);
    assert_true(kith_series_quantile(series, 1) == 2.5);
    assert_int_equal(kith_series_count(series), 100);
}

static double read_number(void *ctx) {
    return *(double *)ctx;
}

static void test_metrics__gauge_may_be_read_at_the_print(void **state) {
    kith_metrics *metrics = *state;
    kith_series *series = kith_metrics_series(metrics, KITH_METRIC_ID_EXECUTOR_QUEUED, "search");
    double number = 3;
    kith_series_callback(metrics, series, read_number, &number);
    exposition *page = read_page(metrics);
    assert_true(value_of(page, "kith_executor_queued", "executor=\"search\"") == 3);
    kith_free(page);
    number = INFINITY;
    page = read_page(metrics);
    assert_true(isinf(value_of(page, "kith_executor_queued", "executor=\"search\"")));
    kith_free(page);
    kith_series_callback(metrics, series, NULL, NULL);
    page = read_page(metrics);
    assert_true(value_of(page, "kith_executor_queued", "executor=\"search\"") == 0);
    kith_free(page);
}

static void test_metrics__removed_series_is_not_printed(void **state) {
    kith_metrics *metrics = *state;
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_POINTS, "a"), 1);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_POINTS, "b"), 2);
    kith_metrics_series_remove(metrics, KITH_METRIC_ID_POINTS, "a");
    kith_metrics_series_remove(metrics, KITH_METRIC_ID_POINTS, "never there");
    exposition *page = read_page(metrics);
    assert_true(value_of(page, "kith_points", "collection=\"b\"") == 2);
    for (size_t i = 0; i < page->count; i++)
        assert_string_not_equal(page->samples[i].labels, "collection=\"a\"");
    kith_free(page);
}

static void test_metrics__label_values_are_bounded(void **state) {
    kith_metrics *metrics = *state;
    kith_series *last = NULL;
    for (uint32_t i = 0; i < KITH_METRICS_SERIES_MAX + 100; i++) {
        char path[32];
        snprintf(path, sizeof path, "/%u", i);
        last = kith_metrics_series(metrics, KITH_METRIC_ID_HTTP_REQUESTS, path);
        kith_series_add(last, 1);
    }
    assert_ptr_equal(last, kith_metrics_series(metrics, KITH_METRIC_ID_HTTP_REQUESTS, "other"));
    assert_int_equal(kith_series_count(last), 100);
    assert_int_equal(kith_series_count(kith_metrics_series(metrics, KITH_METRIC_ID_HTTP_REQUESTS, "/5")), 1);
}

typedef struct adders {
    kith_metrics *metrics;
    kith_series *counter;
    kith_series *histogram;
    uint64_t rounds;
} adders;

static void *adder_main(void *ctx) {
    adders *shared = ctx;
    for (uint64_t i = 0; i < shared->rounds; i++) {
        kith_series_add(shared->counter, 2);
        kith_series_observe_ns(shared->histogram, i * 1000);
        if (i % 1000 == 0) {
            kith_series_add(kith_metrics_series(shared->metrics, KITH_METRIC_ID_GRPC_CALLS, "search"), 1);
            kith_buf buf;
            kith_buf_init(&buf);
            kith_metrics_print(shared->metrics, &buf);
            kith_buf_fini(&buf);
        }
    }
    return NULL;
}

static void test_metrics__nothing_is_lost_between_threads(void **state) {
    kith_metrics *metrics = *state;
    adders shared = {.metrics = metrics,
        .counter = kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_QUERIES, ""),
        .histogram = kith_metrics_series(metrics, KITH_METRIC_ID_SEARCH_DURATION, ""),
        .rounds = test_scaled(20000)};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, adder_main, &shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(kith_series_count(shared.counter) == THREADS * 2 * shared.rounds);
    assert_true(kith_series_count(shared.histogram) == THREADS * shared.rounds);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_metrics__page_is_well_formed_before_any_use),
        CASE(test_metrics__values_come_out_as_they_went_in),
        CASE(test_metrics__histogram_buckets_add_up),
        CASE(test_metrics__quantile_is_the_bound_above),
        CASE(test_metrics__gauge_may_be_read_at_the_print),
        CASE(test_metrics__removed_series_is_not_printed),
        CASE(test_metrics__label_values_are_bounded),
        CASE(test_metrics__nothing_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
