/* search: all queries of a file, a bounded number a call, printed as they are answered. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/limits.h"
#include "host/base/text.h"
#include "host/cli/cli_internal.h"
#include "host/cli/cli_queries.h"

#define CALL_QUERIES_MAX 1024u
#define CALL_HITS_MAX    (1u << 20) /* an answer of ids and scores of 12 MiB */
#define CALL_BYTES_MAX   (16u << 20)
/* With payloads an answer may hold 1 MiB a hit; the server bounds its message, so ask for few at once. */
#define CALL_PAYLOADS_MAX 4096u

static uint32_t queries_a_call(const kith_cli_queries *queries, uint64_t k, bool payload) {
    uint64_t count = (payload ? CALL_PAYLOADS_MAX : CALL_HITS_MAX) / k;
    uint64_t by_bytes = CALL_BYTES_MAX / (queries->dim * sizeof(float));
    if (count > by_bytes) count = by_bytes;
    if (count > CALL_QUERIES_MAX) count = CALL_QUERIES_MAX;
    return count ? (uint32_t)count : 1;
}

static void append_json_hits(
    kith_buf *out, uint64_t query, const kith_codec_client_hits *hits, uint32_t first, uint32_t count) {
    kith_buf_append_format(out, "{\"query\": %llu, \"hits\": [", (unsigned long long)query);
    for (uint32_t i = first; i < first + count; i++) {
        kith_buf_append_text(out, i > first ? ", {\"id\": " : "{\"id\": ");
        kith_id_append_json(out, &hits->ids[i]);
        kith_buf_append_text(out, ", \"score\": ");
        kith_text_append_f32(out, hits->scores[i]);
        if (hits->payloads) kith_cli_json_raw(out, "payload", hits->payloads[i], hits->payload_bytes[i]);
        kith_buf_append_text(out, "}");
    }
    kith_buf_append_text(out, "]");
    kith_cli_json_coverage(out, &hits->coverage);
    kith_buf_append_text(out, "}\n");
}

static void append_rows(kith_cli_table *table, uint64_t query, const kith_codec_client_hits *hits,
    uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        kith_buf text;
        kith_buf_init(&text);
        kith_id_append_text(&text, &hits->ids[first + i]);
        kith_cli_table_cell(table, "%llu", (unsigned long long)query);
        kith_cli_table_cell(table, "%u", i + 1);
        kith_cli_table_cell(table, "%.*s", (int)text.bytes, (const char *)text.data);
        kith_cli_table_cell(table, "%.7g", (double)hits->scores[first + i]);
        const char *payload = hits->payloads ? hits->payloads[first + i] : NULL;
        if (payload)
            kith_cli_table_cell(table, "%.*s", (int)hits->payload_bytes[first + i], payload);
        else
            kith_cli_table_cell(table, "%s", "");
        kith_buf_fini(&text);
    }
}

static void append_hits(kith_cli *cli, uint64_t first_query, const kith_codec_client_hits *hits) {
    kith_cli_table table;
    kith_cli_table_init(&table, ">><><");
    if (!cli->json && first_query == 0) {
        static const char *const heads[] = {"QUERY", "RANK", "ID", "SCORE", "PAYLOAD"};
        uint32_t shown = hits->payloads ? 5 : 4;
        for (uint32_t i = 0; i < 5; i++)
            kith_cli_table_cell(&table, "%s", i < shown ? heads[i] : "");
    }
    uint32_t first = 0;
    for (uint32_t i = 0; i < hits->query_count; first += hits->hit_counts[i++]) {
        if (cli->json)
            append_json_hits(&cli->out, first_query + i, hits, first, hits->hit_counts[i]);
        else
            append_rows(&table, first_query + i, hits, first, hits->hit_counts[i]);
    }
    kith_cli_table_fini(&table, &cli->out);
}

/* Queries [first, first + count) in one call. PARTIAL when shards are missing from the answer. */
static int search_some(kith_cli *cli, kith_codec_client_search *search, uint64_t first) {
    kith_arena arena;
    kith_arena_init(&arena);
    kith_codec_client_hits hits;
    kith_codec_client_search_encode(search, &cli->request);
    int status = kith_cli_call(cli, "/kith.v1.Points/Search");
    if (status == KITH_CLI_OK && kith_codec_client_search_decode(
                                     cli->reply.data, cli->reply.bytes, &arena, &hits, &cli->err) != KITH_OK)
        status = kith_cli_broken(cli);
    if (status == KITH_CLI_OK && hits.query_count != search->query_count)
        status = kith_cli_fail(KITH_CLI_REFUSED, "%u queries were answered by %u lists of hits",
            search->query_count, hits.query_count);
    if (status == KITH_CLI_OK) {
        append_hits(cli, first, &hits);
        status = kith_cli_flush(cli);
    }
    if (status == KITH_CLI_OK) status = kith_cli_say_coverage(&hits.coverage);
    kith_arena_fini(&arena);
    return status;
}

/* The stored vector of the point --id as the one query. */
static int query_of_id(kith_cli *cli, const char *text, const char *field, kith_read_consistency read,
    kith_cli_queries *queries) {
    kith_id id;
    kith_codec_client_points points;
    if (kith_cli_id(cli, text, &id, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    kith_codec_client_get_encode(cli->args.arguments[0], &id, 1, false, true, read, &cli->request);
    int status = kith_cli_call(cli, "/kith.v1.Points/Get");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_client_get_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &points, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (points.count == 0) return kith_cli_fail(KITH_CLI_REFUSED, "there is no point %s", text);
    for (uint32_t i = 0; i < points.points[0].vector_count; i++) {
        const kith_codec_client_vector *vector = &points.points[0].vectors[i];
        if (strcmp(vector->field, field) != 0) continue;
        *queries = (kith_cli_queries){.count = 1, .dim = vector->dim};
        queries->values = kith_alloc_array(vector->dim, sizeof(float));
        memcpy(queries->values, vector->values, vector->dim * sizeof(float));
        return KITH_CLI_OK;
    }
    return kith_cli_fail(KITH_CLI_REFUSED, "point %s has no vector for %s%s", text,
        *field ? "field " : "the default field", field);
}

static int search_all(kith_cli *cli, const kith_cli_queries *queries, kith_codec_client_search *search) {
    uint32_t a_call = queries_a_call(queries, search->k, search->with_payload);
    int worst = KITH_CLI_OK;
    for (uint64_t first = 0; first < queries->count; first += a_call) {
        uint64_t left = queries->count - first;
        search->queries = queries->values + first * queries->dim;
        search->query_count = left < a_call ? (uint32_t)left : a_call;
        search->dim = queries->dim;
        int status = search_some(cli, search, first);
        if (status == KITH_CLI_PARTIAL)
            worst = status;
        else if (status != KITH_CLI_OK)
            return status;
    }
    return worst;
}

int kith_cli_search(kith_cli *cli) {
    const char *path = kith_cli_args_text(&cli->args, "--file", NULL);
    const char *id = kith_cli_args_text(&cli->args, "--id", NULL);
    uint64_t k;
    kith_cli_queries queries = {.values = NULL};
    kith_codec_client_search search = {
        .collection = cli->args.arguments[0],
        .field = kith_cli_args_text(&cli->args, "--field", ""),
        .exact = kith_cli_args_has(&cli->args, "--exact"),
        .with_payload = kith_cli_args_has(&cli->args, "--payload"),
        .strict = kith_cli_args_has(&cli->args, "--strict"),
    };
    if ((path == NULL) == (id == NULL))
        return kith_cli_fail(KITH_CLI_USAGE, "kith search needs --file FILE or --id ID, one of them");
    if (!kith_cli_args_u64(&cli->args, "--k", 10, 1, KITH_K_MAX, &k)) return KITH_CLI_USAGE;
    if (!kith_cli_args_read(&cli->args, &search.read)) return KITH_CLI_USAGE;
    search.k = (uint32_t)k;
    if (path && kith_cli_queries_read(cli->env, path, search.field, &queries, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    int status = kith_cli_connect(cli, 1);
    if (status == KITH_CLI_OK && path) status = kith_cli_check_dim(cli, search.field, queries.dim);
    if (status == KITH_CLI_OK && id) status = query_of_id(cli, id, search.field, search.read, &queries);
    if (status == KITH_CLI_OK) status = search_all(cli, &queries, &search);
    kith_cli_queries_free(&queries);
    return status;
}
