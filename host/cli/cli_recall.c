/* Recall@k: the share of the first k true neighbours among the k hits, by id. Two files can hold different
 * ones of equally distant neighbours; --tie-tolerance asks the server for the k-th true point of each query
 * that missed one, reckons its score in double precision, and counts every hit at least as near (within the
 * tolerance). */
#include "host/cli/cli_recall.h"

#include <math.h>
#include <string.h>

#include "host/base/alloc.h"

#define KEPT_MAX (1ull << 27) /* hits in memory: 1.5 GiB */

int kith_cli_recall_init(
    kith_cli *cli, const kith_cli_queries *queries, uint32_t k, kith_cli_recall *recall_out) {
    const char *path = kith_cli_args_text(&cli->args, "--groundtruth", NULL);
    kith_cli_recall recall = {.k = k};
    *recall_out = recall;
    if (!kith_cli_args_u64(&cli->args, "--id-start", 0, 0, UINT64_MAX, &recall.id_start))
        return KITH_CLI_USAGE;
    if (!path) return KITH_CLI_OK;
    if (kith_format_table_read(cli->env, path, &recall.truth, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    int status = KITH_CLI_OK;
    if (recall.truth.columns < k || recall.truth.rows < queries->count) {
        status = kith_cli_fail(KITH_CLI_USAGE,
            "%s has %llu rows of %u neighbours; %llu queries with --k %u need more", path,
            (unsigned long long)recall.truth.rows, recall.truth.columns, (unsigned long long)queries->count,
            k);
    } else if (queries->count > KEPT_MAX / k) {
        status = kith_cli_fail(KITH_CLI_USAGE, "%llu queries of %u hits are too many to keep for recall",
            (unsigned long long)queries->count, k);
    }
    if (status != KITH_CLI_OK) {
        kith_free(recall.truth.values);
        return status;
    }
    size_t kept = (size_t)queries->count * k;
    recall.ids = kith_alloc_array(kept, sizeof *recall.ids);
    memset(recall.ids, 0xFF, kept * sizeof *recall.ids);
    recall.scores = kith_alloc_array(kept, sizeof *recall.scores);
    recall.answered = kith_alloc_zero(queries->count);
    *recall_out = recall;
    return KITH_CLI_OK;
}

void kith_cli_recall_fini(kith_cli_recall *recall) {
    kith_free(recall->truth.values);
    kith_free(recall->ids);
    kith_free(recall->scores);
    kith_free(recall->answered);
}

void kith_cli_recall_take(kith_cli_recall *recall, uint64_t first, const kith_codec_client_hits *hits) {
    uint32_t at = 0;
    for (uint32_t i = 0; i < hits->query_count; at += hits->hit_counts[i++]) {
        size_t row = (size_t)(first + i) * recall->k;
        recall->answered[first + i] = 1;
        for (uint32_t j = 0; j < hits->hit_counts[i] && j < recall->k; j++) {
            const kith_id *id = &hits->ids[at + j];
            recall->ids[row + j] = id->type == KITH_ID_NUMBER ? id->number : UINT64_MAX;
            recall->scores[row + j] = hits->scores[at + j];
        }
    }
}

static bool is_true(const kith_cli_recall *recall, uint64_t query, uint64_t id) {
    const uint64_t *truth = recall->truth.values + query * recall->truth.columns;
    for (uint32_t i = 0; i < recall->k; i++)
        if (truth[i] + recall->id_start == id) return true;
    return false;
}

static uint32_t count_true(const kith_cli_recall *recall, uint64_t query) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < recall->k; i++) {
        uint64_t id = recall->ids[query * recall->k + i];
        count += id != UINT64_MAX && is_true(recall, query, id);
    }
    return count;
}

/* --- ties --- */

/* As the server shows it, but in double precision throughout. */
static double score_of(kith_metric metric, const float *a, const float *b, uint32_t dim) {
    double dot = 0, l1 = 0, l2 = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double x = (double)a[i], y = (double)b[i];
        dot += x * y;
        l1 += fabs(x - y);
        l2 += (x - y) * (x - y);
        aa += x * x;
        bb += y * y;
    }
    switch (metric) {
    case KITH_METRIC_IP:
        return dot;
    case KITH_METRIC_COSINE:
        return dot / sqrt(aa * bb);
    case KITH_METRIC_L1:
        return l1;
    case KITH_METRIC_L2:
        return sqrt(l2);
    }
    return 0;
}

static bool as_near(kith_metric metric, double score, double limit, double tolerance) {
    double slack = tolerance * fabs(limit);
    bool smaller_is_nearer = metric == KITH_METRIC_L2 || metric == KITH_METRIC_L1;
    return smaller_is_nearer ? score <= limit + slack : score >= limit - slack;
}

/* The k-th true neighbour's score. An exit status. */
static int fetch_limit(kith_cli *cli, const kith_cli_recall *recall, const kith_cli_queries *queries,
    uint64_t query, const kith_field *field, kith_arena *arena, double *limit_out) {
    uint64_t row = recall->truth.values[query * recall->truth.columns + recall->k - 1];
    kith_id id = kith_id_of_number(row + recall->id_start);
    kith_codec_client_points points;
    kith_arena_reset(arena);
    kith_codec_client_get_encode(
        cli->args.arguments[0], &id, 1, false, true, KITH_READ_IN_SYNC, &cli->request);
    int status = kith_cli_call(cli, "/kith.v1.Points/Get");
    if (status != KITH_CLI_OK) return status;
    if (kith_codec_client_get_decode(cli->reply.data, cli->reply.bytes, arena, &points, &cli->err) != KITH_OK)
        return kith_cli_broken(cli);
    for (uint32_t i = 0; points.count == 1 && i < points.points[0].vector_count; i++) {
        const kith_codec_client_vector *vector = &points.points[0].vectors[i];
        if (strcmp(vector->field, field->name) != 0 || vector->dim != queries->dim) continue;
        *limit_out =
            score_of(field->metric, queries->values + query * queries->dim, vector->values, queries->dim);
        return KITH_CLI_OK;
    }
    return kith_cli_fail(KITH_CLI_REFUSED,
        "point %llu of the ground truth is not in the collection; is --id-start right?",
        (unsigned long long)id.number);
}

static uint32_t count_ties(
    const kith_cli_recall *recall, uint64_t query, const kith_field *field, double limit, double tolerance) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < recall->k; i++) {
        size_t at = (size_t)query * recall->k + i;
        if (recall->ids[at] == UINT64_MAX || is_true(recall, query, recall->ids[at])) continue;
        count += as_near(field->metric, (double)recall->scores[at], limit, tolerance);
    }
    return count;
}

static int find_field(kith_cli *cli, kith_codec_client_collection *info, const kith_field **field_out) {
    const char *name = kith_cli_args_text(&cli->args, "--field", "");
    int status = kith_cli_describe(cli, info);
    if (status != KITH_CLI_OK) return status;
    int index = kith_schema_find(&info->collection.schema, name);
    if (index < 0) return kith_cli_fail(KITH_CLI_REFUSED, "the collection has no field '%s'", name);
    *field_out = &info->collection.schema.fields[index];
    return KITH_CLI_OK;
}

int kith_cli_recall_mean(kith_cli *cli, const kith_cli_recall *recall, const kith_cli_queries *queries,
    double tolerance, double *mean_out, uint64_t *query_count_out) {
    kith_codec_client_collection info;
    const kith_field *field = NULL;
    uint64_t found = 0, answered = 0;
    int status = tolerance >= 0 ? find_field(cli, &info, &field) : KITH_CLI_OK;
    kith_arena arena;
    kith_arena_init(&arena);
    for (uint64_t i = 0; i < queries->count && status == KITH_CLI_OK; i++) {
        if (!recall->answered[i]) continue;
        uint32_t count = count_true(recall, i);
        if (field && count < recall->k) {
            double limit = 0;
            status = fetch_limit(cli, recall, queries, i, field, &arena, &limit);
            if (status == KITH_CLI_OK) count += count_ties(recall, i, field, limit, tolerance);
        }
        found += count;
        answered++;
    }
    kith_arena_fini(&arena);
    if (status != KITH_CLI_OK) return status;
    *query_count_out = answered;
    *mean_out = answered ? (double)found / ((double)answered * recall->k) : 0;
    return KITH_CLI_OK;
}
