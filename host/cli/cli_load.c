/* load: batches of a file through UpsertStream, several under way. A batch keeps its bytes and its request id
 * until it is acknowledged, so that it can be sent again after a refusal that passes (UNAVAILABLE,
 * RESOURCE_EXHAUSTED) or a broken stream, and the server answers a repeat with the first answer. Memory is
 * in_flight batches, whatever the file.
 *
 * A batch is FREE, READY to be sent (at a time), or SENT; answers come in the order sent, which `order`
 * keeps. Later batches may overtake one that is repeated: that is why ids in a file must be distinct. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/limits.h"
#include "host/cli/cli_internal.h"
#include "host/cli/format.h"

#define IN_FLIGHT_MAX      256u
#define BATCH_POINTS       4096u
#define BATCH_BYTES        (4u << 20)
#define MESSAGE_BYTES_WANT (48u << 20) /* of the 64 MiB a message may have */
#define BACK_OFF_FIRST_NS  50000000ull
#define BACK_OFF_MOST_NS   2000000000ull
#define POLL_NS            100000000ull
#define SECOND_NS          1000000000ull

typedef enum batch_state { BATCH_FREE, BATCH_READY, BATCH_SENT } batch_state;

typedef struct load_batch {
    batch_state state;
    kith_buf request;
    uint64_t number; /* of the request id: counts batches from 1 */
    uint64_t first_row;
    uint32_t point_count;
    uint32_t tries;
    uint64_t not_before_ns;
} load_batch;

typedef struct load_run {
    kith_cli *cli;
    kith_format *format;
    kith_arena arena;
    kith_request_id request_id;
    load_batch batches[IN_FLIGHT_MAX];
    uint32_t in_flight_max;
    uint32_t batch_points;
    size_t batch_bytes;
    load_batch *order[IN_FLIGHT_MAX]; /* sent and not answered, oldest first */
    uint32_t order_count;
    kith_grpc_stream *stream;
    uint64_t stream_not_before_ns;
    uint32_t stream_tries;
    bool stream_ended;
    bool file_ended;
    uint64_t retry_ns;
    uint64_t progress_ns; /* when the last batch was acknowledged */
    uint64_t points, batches_done, retries;
    int status; /* not OK: stop */
    kith_buf why;
    kith_cli_progress progress;
} load_run;

static uint64_t now_ns(load_run *run) {
    return kith_env_now_ns(run->cli->env);
}

/* The first reason stays. */
static void stop(load_run *run, int status, const char *text) {
    if (run->status != KITH_CLI_OK) return;
    run->status = status;
    kith_buf_append_text(&run->why, text);
    kith_buf_u8(&run->why, 0);
}

static uint64_t back_off_ns(uint32_t tries) {
    uint64_t wait_ns = BACK_OFF_FIRST_NS << (tries < 8 ? tries : 8);
    return wait_ns < BACK_OFF_MOST_NS ? wait_ns : BACK_OFF_MOST_NS;
}

/* CANCELLED is never ours: gRPC's server says it to calls that meet its stop. */
static bool may_pass(int code) {
    return code == KITH_GRPC_UNAVAILABLE || code == KITH_GRPC_RESOURCE_EXHAUSTED ||
           code == KITH_GRPC_CANCELLED;
}

/* --- reading the file --- */

static load_batch *find_batch(load_run *run, batch_state state) {
    load_batch *found = NULL;
    for (uint32_t i = 0; i < run->in_flight_max; i++) {
        load_batch *batch = &run->batches[i];
        if (batch->state == state && (!found || batch->number < found->number)) found = batch;
    }
    return found;
}

static void encode_batch(load_run *run, load_batch *batch, const kith_format_batch *rows) {
    batch->number = run->request_id.number++;
    batch->first_row = rows->first_row;
    batch->point_count = rows->count;
    batch->tries = 0;
    batch->not_before_ns = 0;
    batch->state = BATCH_READY;
    kith_codec_client_upsert upsert = {
        .collection = run->cli->args.arguments[0],
        .request_id = run->request_id,
        .ids = rows->ids,
        .point_count = rows->count,
        .columns = rows->columns,
        .column_count = rows->column_count,
        .payloads = rows->payloads,
        .payload_bytes = rows->payload_bytes,
    };
    upsert.request_id.number = batch->number;
    kith_buf_clear(&batch->request);
    kith_codec_client_upsert_encode(&upsert, &batch->request);
}

static void read_batch(load_run *run) {
    load_batch *batch = run->file_ended || run->status != KITH_CLI_OK ? NULL : find_batch(run, BATCH_FREE);
    if (!batch) return;
    kith_format_batch rows;
    kith_arena_reset(&run->arena);
    kith_status status = kith_format_read(
        run->format, run->batch_points, run->batch_bytes, &run->arena, &rows, &run->cli->err);
    if (status != KITH_OK) {
        run->file_ended = true;
        stop(run, KITH_CLI_USAGE, run->cli->err.text);
    } else if (rows.count == 0) {
        run->file_ended = true;
    } else {
        encode_batch(run, batch, &rows);
    }
}

/* --- answers --- */

static void batch_repeat(load_run *run, load_batch *batch) {
    batch->state = BATCH_READY;
    batch->not_before_ns = now_ns(run) + back_off_ns(batch->tries++);
    run->retries++;
}

static void batch_refused(load_run *run, const load_batch *batch, int code, const char *message) {
    kith_buf text;
    kith_buf_init(&text);
    kith_buf_append_format(&text, "rows %llu..%llu: ", (unsigned long long)batch->first_row,
        (unsigned long long)batch->first_row + batch->point_count - 1);
    kith_cli_explain(&text, code, message);
    stop(run, KITH_CLI_REFUSED, (const char *)text.data);
    kith_buf_fini(&text);
}

static void batch_answered(load_run *run, load_batch *batch, int code, const char *message) {
    if (code == KITH_GRPC_OK) {
        batch->state = BATCH_FREE;
        run->points += batch->point_count;
        run->batches_done++;
        run->progress_ns = now_ns(run);
        run->stream_tries = 0;
        kith_cli_progress_show(&run->progress, kith_format_progress(run->format), run->points);
    } else if (may_pass(code) && now_ns(run) - run->progress_ns < run->retry_ns) {
        batch_repeat(run, batch);
    } else {
        batch->state = BATCH_FREE;
        batch_refused(run, batch, code, message);
    }
}

static void on_answer(void *ctx, const uint8_t *data, size_t bytes) {
    load_run *run = ctx;
    int code;
    const char *message;
    kith_arena arena;
    if (run->order_count == 0) {
        stop(run, KITH_CLI_REFUSED, "the server answered a batch that was not sent");
        return;
    }
    load_batch *batch = run->order[0];
    memmove(run->order, run->order + 1, --run->order_count * sizeof run->order[0]);
    kith_arena_init(&arena);
    kith_status status =
        kith_codec_client_upsert_answer_decode(data, bytes, &arena, &code, &message, &run->cli->err);
    if (status == KITH_OK)
        batch_answered(run, batch, code, message);
    else
        stop(run, KITH_CLI_REFUSED, run->cli->err.text);
    kith_arena_fini(&arena);
}

/* Whatever had no answer goes again, on a new stream. */
static void on_end(void *ctx, int code, const char *message) {
    load_run *run = ctx;
    run->stream_ended = true;
    bool unanswered = run->order_count > 0;
    for (uint32_t i = 0; i < run->order_count; i++)
        batch_repeat(run, run->order[i]);
    run->order_count = 0;
    run->stream_not_before_ns = now_ns(run) + back_off_ns(run->stream_tries++);
    if (code == KITH_GRPC_OK && !unanswered) return;
    if ((may_pass(code) || code == KITH_GRPC_OK) && now_ns(run) - run->progress_ns < run->retry_ns) return;
    kith_buf text;
    kith_buf_init(&text);
    kith_cli_explain(&text, code, message);
    stop(run, may_pass(code) ? KITH_CLI_UNREACHABLE : KITH_CLI_REFUSED, (const char *)text.data);
    kith_buf_fini(&text);
}

/* --- sending --- */

static void renew_stream(load_run *run) {
    if (run->stream_ended) {
        kith_grpc_stream_close(run->stream);
        run->stream = NULL;
        run->stream_ended = false;
    }
    if (run->stream || now_ns(run) < run->stream_not_before_ns) return;
    run->stream = kith_grpc_stream_open(run->cli->client, &(kith_grpc_stream_options){
                                                              .method = "/kith.v1.Points/UpsertStream",
                                                              .on_message = on_answer,
                                                              .on_end = on_end,
                                                              .ctx = run,
                                                          });
}

static void send_batch(load_run *run) {
    if (!run->stream || run->stream_ended || !kith_grpc_stream_can_send(run->stream)) return;
    load_batch *batch = find_batch(run, BATCH_READY);
    if (!batch || batch->not_before_ns > now_ns(run)) return;
    kith_grpc_stream_send(run->stream, batch->request.data, batch->request.bytes);
    batch->state = BATCH_SENT;
    run->order[run->order_count++] = batch;
}

/* A server that keeps the connection but answers nothing. */
static bool has_stalled(load_run *run) {
    uint64_t limit_ns = run->cli->timeout_ms * 1000000;
    if (limit_ns < run->retry_ns) limit_ns = run->retry_ns;
    return run->order_count > 0 && now_ns(run) - run->progress_ns > limit_ns;
}

/* True while there is something to read, to send or to hear. */
static bool step(load_run *run) {
    read_batch(run);
    bool sendable = run->status == KITH_CLI_OK && find_batch(run, BATCH_READY);
    if (!sendable && run->order_count == 0 && (run->file_ended || run->status != KITH_CLI_OK)) return false;
    if (sendable) {
        renew_stream(run);
        send_batch(run);
    }
    bool room = run->status == KITH_CLI_OK && !run->file_ended && find_batch(run, BATCH_FREE);
    kith_grpc_client_poll(run->cli->client, room ? 0 : POLL_NS);
    if (!has_stalled(run)) return true;
    stop(run, KITH_CLI_REFUSED, "the server acknowledges nothing any more (kith status shows its state)");
    return false;
}

static void finish_stream(load_run *run) {
    if (run->stream && !run->stream_ended && kith_grpc_stream_can_send(run->stream)) {
        kith_grpc_stream_finish(run->stream);
        uint64_t until_ns = now_ns(run) + SECOND_NS;
        while (!run->stream_ended && now_ns(run) < until_ns)
            kith_grpc_client_poll(run->cli->client, POLL_NS);
    }
    kith_grpc_stream_close(run->stream);
    run->stream = NULL;
}

/* --- the command --- */

static void report(load_run *run, uint64_t took_ns) {
    kith_buf *out = &run->cli->out;
    double seconds = (double)took_ns / SECOND_NS;
    uint64_t rate = (uint64_t)((double)run->points / (seconds > 0 ? seconds : 1));
    if (run->cli->json) {
        kith_buf_append_text(out, "{");
        kith_cli_json_u64(out, "points", run->points);
        kith_cli_json_f64(out, "seconds", (double)(took_ns / 1000) / 1e6);
        kith_cli_json_u64(out, "points_per_second", rate);
        kith_cli_json_u64(out, "batches", run->batches_done);
        kith_cli_json_u64(out, "retries", run->retries);
        kith_cli_json_bool(out, "complete", run->status == KITH_CLI_OK);
        kith_buf_append_text(out, "}\n");
        return;
    }
    kith_buf_append_text(out, "loaded ");
    kith_cli_append_grouped(out, run->points);
    kith_buf_append_format(out, " points in %.1f s (", seconds);
    kith_cli_append_grouped(out, rate);
    kith_buf_append_text(out, " points/s)\n");
}

static int say_outcome(load_run *run) {
    if (run->status == KITH_CLI_OK) return KITH_CLI_OK;
    int status = run->points > 0 ? KITH_CLI_PARTIAL : run->status;
    kith_cli_fail(status, "%s", (const char *)run->why.data);
    if (run->points > 0) {
        fprintf(stderr, "kith: %llu points were written before that; loading the file again is safe\n",
            (unsigned long long)run->points);
    }
    return status;
}

static int run_load(load_run *run) {
    uint64_t began_ns = now_ns(run);
    run->progress_ns = began_ns;
    kith_cli_progress_init(&run->progress, run->cli->env, "points");
    while (step(run)) {
    }
    uint64_t took_ns = now_ns(run) - began_ns;
    finish_stream(run);
    kith_cli_progress_fini(&run->progress);
    report(run, took_ns);
    int status = say_outcome(run);
    int flushed = kith_cli_flush(run->cli);
    return status != KITH_CLI_OK ? status : flushed;
}

static int set_options(load_run *run, kith_format_options *options) {
    const kith_cli_args *args = &run->cli->args;
    uint64_t in_flight, batch;
    double retry_s;
    options->field = kith_cli_args_text(args, "--field", "");
    options->payload_path = kith_cli_args_text(args, "--payload", NULL);
    if (!kith_cli_args_u64(args, "--id-start", 0, 0, UINT64_MAX, &options->id_start) ||
        !kith_cli_args_u64(args, "--in-flight", 8, 1, IN_FLIGHT_MAX, &in_flight) ||
        !kith_cli_args_u64(args, "--batch", BATCH_POINTS, 1, KITH_BATCH_POINTS_MAX, &batch) ||
        !kith_cli_args_f64(args, "--retry", 30, 0, 86400, &retry_s))
        return KITH_CLI_USAGE;
    run->in_flight_max = (uint32_t)in_flight;
    run->batch_points = (uint32_t)batch;
    run->batch_bytes = kith_cli_args_has(args, "--batch") ? MESSAGE_BYTES_WANT : BATCH_BYTES;
    run->retry_ns = (uint64_t)(retry_s * (double)SECOND_NS);
    return KITH_CLI_OK;
}

static int open_and_load(load_run *run) {
    kith_format_options options;
    int status = set_options(run, &options);
    if (status != KITH_CLI_OK) return status;
    const char *path = run->cli->args.arguments[1];
    if (kith_format_open(run->cli->env, path, &options, &run->format, &run->cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", run->cli->err.text);
    kith_codec_client_collection info;
    status = kith_cli_connect(run->cli, 1);
    /* A name that is not there is said once, before the first batch. */
    if (status == KITH_CLI_OK) status = kith_cli_describe(run->cli, &info);
    if (status == KITH_CLI_OK) status = run_load(run);
    kith_format_close(run->format);
    return status;
}

int kith_cli_load(kith_cli *cli) {
    load_run *run = kith_alloc_zero(sizeof *run);
    run->cli = cli;
    run->request_id = kith_cli_request_id(cli);
    kith_arena_init(&run->arena);
    kith_buf_init(&run->why);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        kith_buf_init(&run->batches[i].request);
    int status = open_and_load(run);
    for (uint32_t i = 0; i < IN_FLIGHT_MAX; i++)
        kith_buf_fini(&run->batches[i].request);
    kith_buf_fini(&run->why);
    kith_arena_fini(&run->arena);
    kith_free(run);
    return status;
}
