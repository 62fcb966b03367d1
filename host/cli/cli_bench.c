/* bench: every connection is a channel of its own, and one thread drives them all over one completion queue,
 * so 64 of them cost what their requests cost. Requests are encoded before the clock starts.
 *
 * Closed loop: a request leaves when one of the same connection is answered, so that --in-flight of them are unanswered on each. Open loop: request i is due at
 * start + i * interval, whatever the server does, and its latency counts from then; when more than
 * IN_FLIGHT_MAX are unanswered it leaves late, and is still counted from when it was due. */
#include <math.h>
#include <string.h>
#include <sys/resource.h>

#include "host/base/alloc.h"
#include "host/base/limits.h"
#include "host/cli/cli_histogram.h"
#include "host/cli/cli_internal.h"
#include "host/cli/cli_queries.h"
#include "host/cli/cli_recall.h"

#define CONNECTIONS_MAX     1024u
#define IN_FLIGHT_MAX       65536u
#define FAILURES_IN_ROW_MAX 1000u /* without one answer: the server is gone */
#define SECOND_NS           1000000000ull
#define POLL_NS             100000000ull

typedef struct bench_request {
    size_t offset, bytes; /* in bench_run.encoded */
    uint64_t first_query;
    uint32_t query_count;
} bench_request;

typedef struct bench_run bench_run;

typedef struct bench_call {
    bench_run *run;
    struct bench_call *next_free;
    const bench_request *request;
    uint64_t due_ns;
    uint32_t connection;
} bench_call;

struct bench_run {
    kith_cli *cli;
    kith_cli_queries queries;
    kith_cli_recall recall;
    kith_cli_histogram latency_ns;
    uint32_t k, connections, in_flight; /* in_flight: on each connection, closed loop */
    uint64_t batch, requests_max;
    double seconds, rate, tie_tolerance;

    kith_buf encoded;
    bench_request *requests; /* [request_count]: all queries once */
    uint64_t request_count;
    bench_call *calls; /* [call_count] */
    uint32_t call_count;
    bench_call *free_calls;

    uint64_t began_ns, end_ns, last_ns;
    uint64_t started, done, failed, failed_in_row;
    uint64_t queries_done;
    int failed_code;
    kith_buf failed_message; /* of the first failure */
    kith_cli_progress progress;
};

static uint64_t now_ns(bench_run *run) {
    return kith_env_now_ns(run->cli->env);
}

/* --- options and requests --- */

static int set_options(bench_run *run) {
    const kith_cli_args *args = &run->cli->args;
    uint64_t k, connections, in_flight;
    double rate;
    if (!kith_cli_args_u64(args, "--k", 10, 1, KITH_K_MAX, &k) ||
        !kith_cli_args_u64(args, "--connections", 1, 1, CONNECTIONS_MAX, &connections) ||
        !kith_cli_args_u64(args, "--in-flight", 1, 1, IN_FLIGHT_MAX / connections, &in_flight) ||
        !kith_cli_args_u64(args, "--batch", 1, 1, KITH_QUERIES_MAX, &run->batch) ||
        !kith_cli_args_u64(args, "--requests", UINT64_MAX, 1, UINT64_MAX, &run->requests_max) ||
        !kith_cli_args_f64(args, "--seconds", 10, 0.001, 86400, &run->seconds) ||
        !kith_cli_args_f64(args, "--rate", 0, 0.001, 1e7, &rate) ||
        !kith_cli_args_f64(args, "--tie-tolerance", -1, 0, 1, &run->tie_tolerance))
        return KITH_CLI_USAGE;
    if (kith_cli_args_has(args, "--requests") && kith_cli_args_has(args, "--seconds"))
        return kith_cli_fail(KITH_CLI_USAGE, "--seconds and --requests: give one of them");
    if (kith_cli_args_has(args, "--in-flight") && rate > 0)
        return kith_cli_fail(KITH_CLI_USAGE, "--in-flight and --rate: give one of them");
    if (kith_cli_args_has(args, "--requests")) run->seconds = 86400;
    run->k = (uint32_t)k;
    run->connections = (uint32_t)connections;
    run->in_flight = (uint32_t)in_flight;
    run->rate = rate / (double)run->batch; /* requests a second */
    return KITH_CLI_OK;
}

static void encode_requests(bench_run *run) {
    const kith_cli_args *args = &run->cli->args;
    run->request_count = (run->queries.count + run->batch - 1) / run->batch;
    run->requests = kith_alloc_array(run->request_count, sizeof *run->requests);
    for (uint64_t i = 0; i < run->request_count; i++) {
        uint64_t first = i * run->batch;
        uint64_t left = run->queries.count - first;
        kith_codec_client_search search = {
            .collection = args->arguments[0],
            .field = kith_cli_args_text(args, "--field", ""),
            .queries = run->queries.values + first * run->queries.dim,
            .query_count = (uint32_t)(left < run->batch ? left : run->batch),
            .dim = run->queries.dim,
            .k = run->k,
            .exact = kith_cli_args_has(args, "--exact"),
        };
        bench_request *request = &run->requests[i];
        *request = (bench_request){
            .offset = run->encoded.bytes, .first_query = first, .query_count = search.query_count};
        kith_codec_client_search_encode(&search, &run->encoded);
        request->bytes = run->encoded.bytes - request->offset;
    }
}

static int prepare(bench_run *run) {
    const char *path = kith_cli_args_text(&run->cli->args, "--queries", NULL);
    const char *field = kith_cli_args_text(&run->cli->args, "--field", "");
    int status = set_options(run);
    if (status != KITH_CLI_OK) return status;
    if (!path) return kith_cli_fail(KITH_CLI_USAGE, "kith bench needs --queries FILE");
    if (kith_cli_queries_read(run->cli->env, path, field, &run->queries, &run->cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", run->cli->err.text);
    status = kith_cli_recall_init(run->cli, &run->queries, run->k, &run->recall);
    if (status != KITH_CLI_OK) return status;
    encode_requests(run);
    run->call_count = run->rate > 0 ? IN_FLIGHT_MAX : run->connections * run->in_flight;
    run->calls = kith_alloc_array(run->call_count, sizeof *run->calls);
    for (uint32_t i = 0; i < run->call_count; i++) {
        run->calls[i] =
            (bench_call){.run = run, .next_free = run->free_calls, .connection = i % run->connections};
        run->free_calls = &run->calls[i];
    }
    status = kith_cli_connect(run->cli, run->connections);
    return status == KITH_CLI_OK ? kith_cli_check_dim(run->cli, field, run->queries.dim) : status;
}

/* --- the loops --- */

static void on_reply(void *ctx, const kith_grpc_reply *reply);

static bool may_start(const bench_run *run, uint64_t due_ns) {
    return run->free_calls && due_ns < run->end_ns && run->started < run->requests_max &&
           run->failed_in_row < FAILURES_IN_ROW_MAX;
}

static void start_call(bench_run *run, uint64_t due_ns) {
    bench_call *call = run->free_calls;
    run->free_calls = call->next_free;
    call->due_ns = due_ns;
    call->request = &run->requests[run->started++ % run->request_count];
    kith_grpc_client_start(run->cli->client,
        &(kith_grpc_request){
            .method = "/kith.v1.Points/Search",
            .data = run->encoded.data + call->request->offset,
            .bytes = call->request->bytes,
            .timeout_ms = run->cli->timeout_ms,
            .connection = call->connection,
        },
        on_reply, call);
}

/* Decoded only until each query has been answered once. */
static void keep_hits(bench_run *run, const bench_request *request, const kith_grpc_reply *reply) {
    kith_arena arena;
    kith_codec_client_hits hits;
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_client_search_decode(reply->data, reply->bytes, &arena, &hits, &run->cli->err);
    if (status == KITH_OK && hits.query_count == request->query_count)
        kith_cli_recall_take(&run->recall, request->first_query, &hits);
    kith_arena_fini(&arena);
}

static void count_failure(bench_run *run, const kith_grpc_reply *reply) {
    run->failed_in_row++;
    if (run->failed++ > 0) return;
    run->failed_code = reply->code;
    kith_buf_append_text(&run->failed_message, reply->message);
    kith_buf_u8(&run->failed_message, 0);
}

static double done_share(const bench_run *run, uint64_t at_ns) {
    if (run->requests_max != UINT64_MAX) return (double)run->done / (double)run->requests_max;
    double share = (double)(at_ns - run->began_ns) / (double)(run->end_ns - run->began_ns);
    return share < 1 ? share : 1;
}

static void on_reply(void *ctx, const kith_grpc_reply *reply) {
    bench_call *call = ctx;
    bench_run *run = call->run;
    uint64_t at_ns = now_ns(run);
    run->last_ns = at_ns;
    run->done++;
    if (reply->code == KITH_GRPC_OK) {
        run->failed_in_row = 0;
        run->queries_done += call->request->query_count;
        kith_cli_histogram_add(&run->latency_ns, at_ns - call->due_ns);
        if (kith_cli_recall_wants(&run->recall, call->request->first_query))
            keep_hits(run, call->request, reply);
    } else {
        count_failure(run, reply);
    }
    call->next_free = run->free_calls;
    run->free_calls = call;
    if (run->rate > 0) return;
    at_ns = now_ns(run); /* keeping the hits took time that is not the server's */
    if (may_start(run, at_ns)) start_call(run, at_ns);
    kith_cli_progress_show(&run->progress, done_share(run, at_ns), run->queries_done);
}

static void run_closed(bench_run *run) {
    while (may_start(run, now_ns(run)))
        start_call(run, now_ns(run));
    while (run->done < run->started)
        kith_grpc_client_poll(run->cli->client, POLL_NS);
}

static void run_open(bench_run *run) {
    double interval_ns = (double)SECOND_NS / run->rate;
    for (;;) {
        uint64_t due_ns = run->began_ns + (uint64_t)((double)run->started * interval_ns);
        uint64_t at_ns = now_ns(run);
        bool more = due_ns < run->end_ns && run->started < run->requests_max &&
                    run->failed_in_row < FAILURES_IN_ROW_MAX;
        if (!more && run->done == run->started) return;
        if (more && due_ns <= at_ns && run->free_calls) start_call(run, due_ns);
        bool wait = !more || !run->free_calls;
        uint64_t wait_ns = wait ? POLL_NS : due_ns > at_ns ? due_ns - at_ns : 0;
        kith_grpc_client_poll(run->cli->client, wait_ns);
        kith_cli_progress_show(&run->progress, done_share(run, at_ns), run->queries_done);
    }
}

/* One request a connection that is not counted: the server's and the kernel's first-time costs. */
static int warm_up(bench_run *run) {
    for (uint32_t i = 0; i < run->connections; i++) {
        kith_grpc_request request = {
            .method = "/kith.v1.Points/Search",
            .data = run->encoded.data,
            .bytes = run->requests[0].bytes,
            .timeout_ms = run->cli->timeout_ms,
            .connection = i,
        };
        int code = kith_grpc_client_call(run->cli->client, &request, &run->cli->reply);
        if (code == KITH_GRPC_OK) continue;
        kith_buf text;
        kith_buf_init(&text);
        kith_buf_u8(&run->cli->reply, 0);
        kith_cli_explain(&text, code, (const char *)run->cli->reply.data);
        kith_cli_fail(KITH_CLI_REFUSED, "%s", (const char *)text.data);
        kith_buf_fini(&text);
        return KITH_CLI_REFUSED;
    }
    return KITH_CLI_OK;
}

/* --- the report --- */

typedef struct bench_report {
    double seconds, queries_per_second, requests_per_second, client_cpu_seconds;
    bool has_recall;
    double recall;
    uint64_t recall_queries;
} bench_report;

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static const struct {
    const char *name;
    double fraction;
} quantiles[] = {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"p99.9", 0.999}};

#define QUANTILE_COUNT (sizeof quantiles / sizeof quantiles[0])

static double milliseconds(double ns) {
    return round(ns / 1e3) / 1e3;
}

static void append_json_report(bench_run *run, const bench_report *report) {
    kith_buf *out = &run->cli->out;
    const kith_cli_histogram *latency = &run->latency_ns;
    kith_buf_append_text(out, "{");
    kith_cli_json_text(out, "mode", run->rate > 0 ? "open" : "closed");
    kith_cli_json_u64(out, "connections", run->connections);
    if (run->rate <= 0) kith_cli_json_u64(out, "in_flight", run->in_flight);
    kith_cli_json_u64(out, "batch", run->batch);
    kith_cli_json_u64(out, "k", run->k);
    if (run->rate > 0) kith_cli_json_f64(out, "rate", run->rate * (double)run->batch);
    kith_cli_json_u64(out, "requests", run->done);
    kith_cli_json_u64(out, "queries", run->queries_done);
    kith_cli_json_u64(out, "errors", run->failed);
    kith_cli_json_f64(out, "seconds", round(report->seconds * 1e6) / 1e6);
    kith_cli_json_f64(out, "qps", round(report->queries_per_second * 10) / 10);
    kith_cli_json_f64(out, "requests_per_second", round(report->requests_per_second * 10) / 10);
    kith_cli_json_key(out, "latency_ms");
    kith_buf_append_text(out, "{");
    for (size_t i = 0; i < QUANTILE_COUNT; i++)
        kith_cli_json_f64(out, quantiles[i].name,
            milliseconds((double)kith_cli_histogram_quantile(latency, quantiles[i].fraction)));
    kith_cli_json_f64(out, "max", milliseconds((double)latency->max));
    kith_cli_json_f64(out, "mean", milliseconds(latency->total ? latency->sum / (double)latency->total : 0));
    kith_buf_append_text(out, "}");
    kith_cli_json_f64(out, "recall", report->has_recall ? round(report->recall * 1e6) / 1e6 : NAN);
    kith_cli_json_u64(out, "recall_queries", report->recall_queries);
    kith_cli_json_f64(out, "client_cpu_seconds", round(report->client_cpu_seconds * 1e3) / 1e3);
    kith_buf_append_text(out, "}\n");
}

static void append_plain_report(bench_run *run, const bench_report *report) {
    kith_buf *out = &run->cli->out;
    kith_buf_append_format(out, "%s loop, %u connection%s, ", run->rate > 0 ? "open" : "closed",
        run->connections, run->connections == 1 ? "" : "s");
    if (run->in_flight > 1) kith_buf_append_format(out, "%u requests in flight on each, ", run->in_flight);
    kith_buf_append_format(out, "%llu quer%s a request, k %u\n", (unsigned long long)run->batch,
        run->batch == 1 ? "y" : "ies", run->k);
    kith_buf_append_format(out, "queries/s  ");
    kith_cli_append_grouped(out, (uint64_t)(report->queries_per_second + 0.5));
    kith_buf_append_text(out, "  (");
    kith_cli_append_grouped(out, run->queries_done);
    kith_buf_append_format(out, " in %.1f s, %llu errors, client CPU %.0f %%)\n", report->seconds,
        (unsigned long long)run->failed, report->client_cpu_seconds / report->seconds * 100);
    kith_buf_append_format(out, "latency ms ");
    for (size_t i = 0; i < QUANTILE_COUNT; i++)
        kith_buf_append_format(out, " %s %.3f ", quantiles[i].name,
            (double)kith_cli_histogram_quantile(&run->latency_ns, quantiles[i].fraction) / 1e6);
    kith_buf_append_format(out, " max %.3f\n", (double)run->latency_ns.max / 1e6);
    if (!report->has_recall) return;
    kith_buf_append_format(out, "recall@%u  %.4f over %llu queries\n", run->k, report->recall,
        (unsigned long long)report->recall_queries);
}

static int say_failures(bench_run *run) {
    if (run->failed == 0) return KITH_CLI_OK;
    kith_buf text;
    kith_buf_init(&text);
    kith_cli_explain(&text, run->failed_code, (const char *)run->failed_message.data);
    int status = kith_cli_fail(run->failed == run->done ? KITH_CLI_REFUSED : KITH_CLI_PARTIAL,
        "%llu of %llu requests failed; the first: %s", (unsigned long long)run->failed,
        (unsigned long long)run->done, (const char *)text.data);
    kith_buf_fini(&text);
    return status;
}

static int measure(bench_run *run) {
    int status = warm_up(run);
    if (status != KITH_CLI_OK) return status;
    bench_report report = {.client_cpu_seconds = -cpu_seconds(), .has_recall = run->recall.answered != NULL};
    kith_cli_progress_init(&run->progress, run->cli->env, "queries");
    run->began_ns = run->last_ns = now_ns(run);
    run->end_ns = run->began_ns + (uint64_t)(run->seconds * (double)SECOND_NS);
    if (run->rate > 0)
        run_open(run);
    else
        run_closed(run);
    kith_cli_progress_fini(&run->progress);
    report.client_cpu_seconds += cpu_seconds();
    report.seconds = (double)(run->last_ns - run->began_ns) / SECOND_NS;
    if (report.seconds <= 0) report.seconds = 1e-9;
    report.queries_per_second = (double)run->queries_done / report.seconds;
    report.requests_per_second = (double)(run->done - run->failed) / report.seconds;
    if (report.has_recall) {
        status = kith_cli_recall_mean(run->cli, &run->recall, &run->queries, run->tie_tolerance,
            &report.recall, &report.recall_queries);
        if (status != KITH_CLI_OK) return status;
    }
    if (run->cli->json)
        append_json_report(run, &report);
    else
        append_plain_report(run, &report);
    status = say_failures(run);
    int flushed = kith_cli_flush(run->cli);
    return status != KITH_CLI_OK ? status : flushed;
}

int kith_cli_bench(kith_cli *cli) {
    bench_run run = {.cli = cli};
    kith_buf_init(&run.encoded);
    kith_buf_init(&run.failed_message);
    kith_cli_histogram_init(&run.latency_ns);
    int status = prepare(&run);
    if (status == KITH_CLI_OK) status = measure(&run);
    kith_cli_queries_free(&run.queries);
    kith_cli_recall_fini(&run.recall);
    kith_cli_histogram_fini(&run.latency_ns);
    kith_buf_fini(&run.failed_message);
    kith_buf_fini(&run.encoded);
    kith_free(run.requests);
    kith_free(run.calls);
    return status;
}
