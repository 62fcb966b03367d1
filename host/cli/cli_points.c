/* get, delete, count, scroll. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/text.h"
#include "host/cli/cli_internal.h"
#include "host/cli/format_internal.h"

#define SHOWN_COMPONENTS_MAX 6u    /* of a vector, to a person */
#define SCROLL_PAGE          1000u /* fits a message with vectors up to dim 16384 */
#define DELETE_IDS           10000u

/* --- points out --- */

static void append_values(kith_buf *out, const kith_codec_client_vector *vector, uint32_t most) {
    kith_buf_append_text(out, "[");
    for (uint32_t i = 0; i < vector->dim && i < most; i++) {
        if (i > 0) kith_buf_append_text(out, ", ");
        kith_text_append_f32(out, vector->values[i]);
    }
    if (most < vector->dim) kith_buf_append_format(out, ", .. %u", vector->dim);
    kith_buf_append_text(out, "]");
}

/* One object, in the shape that kith load reads. */
static void append_json_point(
    kith_buf *out, const kith_codec_client_point *point, bool payload, bool vectors) {
    kith_buf_append_text(out, "{\"id\": ");
    kith_id_append_json(out, &point->id);
    if (payload) kith_cli_json_raw(out, "payload", point->payload, point->payload_bytes);
    if (vectors) {
        kith_cli_json_key(out, "vectors");
        kith_buf_append_text(out, "{");
        for (uint32_t i = 0; i < point->vector_count; i++) {
            kith_cli_json_key(out, point->vectors[i].field);
            append_values(out, &point->vectors[i], point->vectors[i].dim);
        }
        kith_buf_append_text(out, "}");
    }
    kith_buf_append_text(out, "}\n");
}

static void append_plain_point(
    kith_buf *out, const kith_codec_client_point *point, bool payload, bool vectors) {
    kith_id_append_text(out, &point->id);
    if (payload) {
        kith_buf_append_text(out, "  ");
        kith_cli_json_raw(
            out, NULL, point->payload ? point->payload : "-", point->payload ? point->payload_bytes : 1);
    }
    for (uint32_t i = 0; i < point->vector_count && vectors; i++) {
        kith_buf_append_format(out, "  %s%s", point->vectors[i].field, *point->vectors[i].field ? " " : "");
        append_values(out, &point->vectors[i], SHOWN_COMPONENTS_MAX);
    }
    kith_buf_append_text(out, "\n");
}

static void append_points(kith_cli *cli, const kith_codec_client_points *points, uint32_t most) {
    bool payload = !kith_cli_args_has(&cli->args, "--no-payload");
    bool vectors = kith_cli_args_has(&cli->args, "--vectors");
    for (uint32_t i = 0; i < points->count && i < most; i++) {
        if (cli->json)
            append_json_point(&cli->out, &points->points[i], payload, vectors);
        else
            append_plain_point(&cli->out, &points->points[i], payload, vectors);
    }
}

/* --- get --- */

static int ids_of_arguments(kith_cli *cli, kith_id **ids_out, uint32_t *count_out) {
    uint32_t count = cli->args.argument_count - 1;
    kith_id *ids = kith_arena_array(&cli->arena, count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++) {
        kith_status status = kith_cli_id(cli, cli->args.arguments[i + 1], &ids[i], &cli->err);
        if (status != KITH_OK) return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    }
    *ids_out = ids;
    *count_out = count;
    return KITH_CLI_OK;
}

/* The points come in the order asked, without those that are not there. */
static int say_missing(const kith_id *ids, uint32_t count, const kith_codec_client_points *points) {
    kith_buf text;
    kith_buf_init(&text);
    uint32_t at = 0, missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (at < points->count && kith_id_compare(&ids[i], &points->points[at].id) == 0) {
            at++;
            continue;
        }
        if (missing++ > 0) kith_buf_append_text(&text, ", ");
        kith_id_append_text(&text, &ids[i]);
    }
    int status = KITH_CLI_OK;
    if (missing > 0)
        status = kith_cli_fail(KITH_CLI_PARTIAL, "not there: %.*s", (int)text.bytes, (const char *)text.data);
    kith_buf_fini(&text);
    return status;
}

int kith_cli_get(kith_cli *cli) {
    kith_id *ids;
    uint32_t count;
    kith_codec_client_points points;
    kith_read_consistency read;
    if (!kith_cli_args_read(&cli->args, &read)) return KITH_CLI_USAGE;
    int status = ids_of_arguments(cli, &ids, &count);
    if (status == KITH_CLI_OK) status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_client_get_encode(cli->args.arguments[0], ids, count,
        !kith_cli_args_has(&cli->args, "--no-payload"), kith_cli_args_has(&cli->args, "--vectors"), read,
        &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Points/Get");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_client_get_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &points, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    append_points(cli, &points, points.count);
    status = kith_cli_flush(cli);
    return status != KITH_CLI_OK ? status : say_missing(ids, count, &points);
}

/* --- delete --- */

static int delete_ids(
    kith_cli *cli, kith_request_id *request_id, const kith_id *ids, uint32_t count, uint64_t *deleted) {
    uint32_t gone;
    kith_arena scratch;
    kith_arena_init(&scratch);
    kith_codec_client_delete_encode(cli->args.arguments[0], request_id, ids, count, &cli->request);
    request_id->number++;
    int status = kith_cli_call(cli, "/kith.v1.Points/Delete");
    if (status == KITH_CLI_OK) {
        kith_status decoded =
            kith_codec_client_delete_decode(cli->reply.data, cli->reply.bytes, &scratch, &gone, &cli->err);
        if (decoded != KITH_OK)
            status = kith_cli_broken(cli);
        else
            *deleted += gone;
    }
    kith_arena_fini(&scratch);
    return status;
}

/* Up to DELETE_IDS ids of the next lines. */
static int take_ids(kith_cli *cli, kith_format_lines *lines, kith_id *ids, uint32_t *count_out) {
    uint32_t count = 0;
    while (count < DELETE_IDS) {
        const char *line;
        size_t bytes;
        kith_status status = kith_format_lines_next(lines, &line, &bytes, &cli->err);
        if (status == KITH_OK && !line) break;
        if (status == KITH_OK) {
            const char *text = kith_arena_text(&cli->arena, line, bytes);
            status = kith_cli_id(cli, text, &ids[count], &cli->err);
            if (status != KITH_OK)
                (void)kith_err_wrap(
                    &cli->err, status, "%s:%llu", lines->source->name, (unsigned long long)lines->number);
        }
        if (status != KITH_OK) return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
        count++;
    }
    *count_out = count;
    return KITH_CLI_OK;
}

static int delete_file(kith_cli *cli, const char *path, kith_request_id *request_id, uint64_t *deleted) {
    kith_format_source source;
    kith_format_lines lines;
    if (kith_format_source_open(cli->env, path, &source, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    kith_format_lines_init(&lines, &source);
    kith_id *ids = kith_alloc_array(DELETE_IDS, sizeof *ids);
    int status;
    uint32_t count;
    bool some = false;
    do {
        kith_arena_reset(&cli->arena);
        status = take_ids(cli, &lines, ids, &count);
        if (status == KITH_CLI_OK && count > 0) status = delete_ids(cli, request_id, ids, count, deleted);
        if (status != KITH_CLI_OK && some) status = KITH_CLI_PARTIAL;
        some = true;
    } while (status == KITH_CLI_OK && count == DELETE_IDS);
    kith_free(ids);
    kith_format_lines_fini(&lines);
    kith_format_source_close(&source);
    return status;
}

int kith_cli_delete(kith_cli *cli) {
    const char *path = kith_cli_args_text(&cli->args, "--file", NULL);
    kith_id *ids;
    uint32_t count;
    uint64_t deleted = 0;
    kith_request_id request_id = kith_cli_request_id(cli);
    int status = ids_of_arguments(cli, &ids, &count);
    if (status != KITH_CLI_OK) return status;
    if ((count == 0) == (path == NULL))
        return kith_cli_fail(KITH_CLI_USAGE, "kith delete needs ids, or --file FILE with ids, and not both");
    status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    if (path)
        status = delete_file(cli, path, &request_id, &deleted);
    else
        status = delete_ids(cli, &request_id, ids, count, &deleted);
    if (status != KITH_CLI_OK && status != KITH_CLI_PARTIAL) return status;
    if (cli->json)
        kith_buf_append_format(&cli->out, "{\"deleted\": %llu}\n", (unsigned long long)deleted);
    else
        kith_buf_append_format(&cli->out, "deleted %llu\n", (unsigned long long)deleted);
    return status;
}

/* --- count and scroll --- */

static void append_json_count(kith_buf *out, uint64_t count, const kith_codec_client_coverage *coverage) {
    kith_buf_append_text(out, "{");
    kith_cli_json_u64(out, "count", count);
    kith_cli_json_coverage(out, coverage);
    kith_buf_append_text(out, "}\n");
}

int kith_cli_count(kith_cli *cli) {
    uint64_t count;
    kith_codec_client_coverage coverage;
    kith_read_consistency read;
    if (!kith_cli_args_read(&cli->args, &read)) return KITH_CLI_USAGE;
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_client_count_encode(cli->args.arguments[0], read, &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Points/Count");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_count_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, &count, &coverage, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json)
        append_json_count(&cli->out, count, &coverage);
    else
        kith_buf_append_format(&cli->out, "%llu\n", (unsigned long long)count);
    return kith_cli_say_coverage(&coverage);
}

/* One page of at most `*left` points, which it lowers. */
static int scroll_page(
    kith_cli *cli, kith_read_consistency read, kith_id *next, bool *has_next, uint64_t *left) {
    kith_codec_client_points points;
    uint32_t limit = *left < SCROLL_PAGE ? (uint32_t)*left : SCROLL_PAGE;
    kith_codec_client_scroll_encode(cli->args.arguments[0], *has_next ? next : NULL, limit,
        !kith_cli_args_has(&cli->args, "--no-payload"), kith_cli_args_has(&cli->args, "--vectors"), read,
        &cli->request);
    kith_arena_reset(&cli->arena); /* the request has its own copy of the id */
    int status = kith_cli_call(cli, "/kith.v1.Points/Scroll");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_client_scroll_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &points, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    append_points(cli, &points, limit);
    *left -= points.count < *left ? points.count : *left;
    *has_next = points.has_next && *left > 0;
    *next = points.next;
    return kith_cli_flush(cli);
}

int kith_cli_scroll(kith_cli *cli) {
    const char *from = kith_cli_args_text(&cli->args, "--from", NULL);
    uint64_t limit, left;
    kith_id next;
    kith_read_consistency read;
    bool has_next = from != NULL;
    if (!kith_cli_args_read(&cli->args, &read)) return KITH_CLI_USAGE;
    if (!kith_cli_args_u64(&cli->args, "--limit", 100, 0, UINT64_MAX, &limit)) return KITH_CLI_USAGE;
    if (from && kith_cli_id(cli, from, &next, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    int status = kith_cli_connect(cli, 1);
    left = limit ? limit : UINT64_MAX;
    if (status == KITH_CLI_OK) status = scroll_page(cli, read, &next, &has_next, &left);
    while (status == KITH_CLI_OK && has_next)
        status = scroll_page(cli, read, &next, &has_next, &left);
    return status;
}
