/* create, list, describe, update, drop, status. */
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli_internal.h"
#include "host/model/node.h"

/* --- create --- */

static int set_dim(kith_field *field, const char *value) {
    char *end;
    unsigned long dim = strtoul(value, &end, 10);
    if (*end != '\0' || *value < '0' || *value > '9' || dim < 1 || dim > KITH_DIM_MAX)
        return kith_cli_fail(KITH_CLI_USAGE, "--dim %s is not a whole number in 1..%u", value, KITH_DIM_MAX);
    field->dim = (uint32_t)dim;
    return KITH_CLI_OK;
}

static int set_property(kith_field *field, const char *option, const char *value) {
    if (strcmp(option, "--dim") == 0) return set_dim(field, value);
    if (strcmp(option, "--metric") == 0) {
        if (kith_metric_parse(value, &field->metric)) return KITH_CLI_OK;
        return kith_cli_fail(KITH_CLI_USAGE, "--metric %s is none of l2, ip, cosine, l1", value);
    }
    if (kith_vector_type_parse(value, &field->type)) return KITH_CLI_OK;
    return kith_cli_fail(KITH_CLI_USAGE, "--type %s is none of f32, f16, bf16, i8", value);
}

static int add_field(kith_schema *schema, const kith_field *common, const char *name) {
    if (schema->field_count == KITH_FIELDS_MAX)
        return kith_cli_fail(KITH_CLI_USAGE, "more than %u --field", KITH_FIELDS_MAX);
    if (strlen(name) > KITH_NAME_BYTES_MAX)
        return kith_cli_fail(KITH_CLI_USAGE, "--field %s is longer than %u bytes", name, KITH_NAME_BYTES_MAX);
    kith_field *field = &schema->fields[schema->field_count++];
    *field = *common;
    strcpy(field->name, name);
    return KITH_CLI_OK;
}

/* Options in the order written: what stands before the first --field is for all. */
static int schema_of_options(const kith_cli_args *args, kith_schema *schema) {
    kith_field common = {.type = KITH_TYPE_F32};
    memset(schema, 0, sizeof *schema);
    for (uint32_t i = 0; i < args->given_count; i++) {
        const char *name = args->given[i].option->name;
        const char *value = args->given[i].value;
        int status = KITH_CLI_OK;
        kith_field *last = schema->field_count ? &schema->fields[schema->field_count - 1] : &common;
        if (strcmp(name, "--field") == 0)
            status = add_field(schema, &common, value);
        else if (strcmp(name, "--dim") == 0 || strcmp(name, "--metric") == 0 || strcmp(name, "--type") == 0)
            status = set_property(last, name, value);
        if (status != KITH_CLI_OK) return status;
    }
    if (schema->field_count == 0) schema->fields[schema->field_count++] = common;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const kith_field *field = &schema->fields[i];
        const char *missing = field->dim == 0  ? "--dim D"
                              : !field->metric ? "--metric l2|ip|cosine|l1"
                                               : NULL;
        if (missing) {
            return kith_cli_fail(KITH_CLI_USAGE, "kith create needs %s%s%s", missing,
                *field->name ? " for field " : "", field->name);
        }
    }
    return KITH_CLI_OK;
}

static void print_collection(kith_cli *cli, const char *deed, const kith_codec_client_collection *info) {
    const kith_collection *collection = &info->collection;
    kith_buf_append_format(&cli->out, "%s %s:", deed, collection->name);
    for (uint32_t i = 0; i < collection->schema.field_count; i++) {
        const kith_field *field = &collection->schema.fields[i];
        kith_buf_append_format(&cli->out, "%s %s%sdim %u, %s, %s", i > 0 ? ";" : "", field->name,
            *field->name ? " " : "", field->dim, kith_metric_name(field->metric),
            kith_vector_type_name(field->type));
    }
    kith_buf_append_format(
        &cli->out, "; %u shard%s", collection->shard_count, collection->shard_count == 1 ? "" : "s");
    if (collection->replication_factor > 1) {
        kith_buf_append_format(&cli->out, ", %u copies of each, %u in sync to write",
            collection->replication_factor, collection->min_in_sync);
    }
    if (collection->durability == KITH_DURABILITY_ASYNC)
        kith_buf_append_text(&cli->out, ", durability async");
    kith_buf_append_text(&cli->out, "\n");
}

static void append_json_deed(
    kith_buf *out, const kith_codec_client_collection *info, const char *key, bool value) {
    kith_buf_append_text(out, "{");
    kith_cli_json_collection_members(out, info);
    kith_cli_json_bool(out, key, value);
    kith_buf_append_text(out, "}\n");
}

static bool durability_of_options(const kith_cli_args *args, kith_collection *wish) {
    const char *value = kith_cli_args_text(args, "--durability", NULL);
    if (!value || kith_durability_parse(value, &wish->durability)) return true;
    kith_cli_fail(KITH_CLI_USAGE, "--durability %s is neither sync nor async", value);
    return false;
}

/* Zero where one is not given. */
static bool replicas_of_options(const kith_cli_args *args, kith_collection *wish) {
    uint64_t replicas, least;
    if (!kith_cli_args_u64(args, "--replicas", 0, 1, KITH_REPLICAS_MAX, &replicas)) return false;
    uint64_t most = replicas ? replicas : KITH_REPLICAS_MAX;
    if (!kith_cli_args_u64(args, "--min-in-sync", 0, 1, most, &least)) return false;
    wish->replication_factor = (uint32_t)replicas;
    wish->min_in_sync = (uint32_t)least;
    return durability_of_options(args, wish);
}

int kith_cli_create(kith_cli *cli) {
    kith_collection wish = {0};
    uint64_t shards;
    kith_codec_client_collection info;
    bool existed;
    int status = schema_of_options(&cli->args, &wish.schema);
    if (status != KITH_CLI_OK) return status;
    if (!kith_cli_args_u64(&cli->args, "--shards", 0, 1, KITH_SHARDS_MAX, &shards)) return KITH_CLI_USAGE;
    if (!replicas_of_options(&cli->args, &wish)) return KITH_CLI_USAGE;
    wish.shard_count = (uint32_t)shards;
    status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_client_create_encode(cli->args.arguments[0], &wish, &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Collections/Create");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_create_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, &info, &existed, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json)
        append_json_deed(&cli->out, &info, "existed", existed);
    else
        print_collection(cli, existed ? "already exists, unchanged:" : "created", &info);
    return KITH_CLI_OK;
}

/* --- list and describe --- */

static int fetch_collections(
    kith_cli *cli, kith_codec_client_collection **collections_out, uint32_t *count_out) {
    kith_codec_client_list_encode(&cli->request);
    int status = kith_cli_call(cli, "/kith.v1.Collections/List");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_list_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, collections_out, count_out, &cli->err);
    return decoded == KITH_OK ? KITH_CLI_OK : kith_cli_broken(cli);
}

static void table_row(
    kith_cli_table *table, const kith_codec_client_collection *info, const kith_field *field) {
    kith_buf points, size;
    kith_buf_init(&points);
    kith_buf_init(&size);
    kith_cli_append_grouped(&points, info->points);
    kith_cli_append_size(&size, info->vector_bytes);
    kith_cli_table_cell(table, "%s", info->collection.name);
    kith_cli_table_cell(table, "%s", *field->name ? field->name : "-");
    kith_cli_table_cell(table, "%u", field->dim);
    kith_cli_table_cell(table, "%s", kith_metric_name(field->metric));
    kith_cli_table_cell(table, "%s", kith_vector_type_name(field->type));
    kith_cli_table_cell(table, "%u", info->collection.shard_count);
    kith_cli_table_cell(table, "%u", info->collection.replication_factor);
    kith_cli_table_cell(table, "%.*s", (int)points.bytes, (const char *)points.data);
    kith_cli_table_cell(table, "%.*s", (int)size.bytes, (const char *)size.data);
    kith_cli_table_cell(
        table, "%llu/%llu", (unsigned long long)info->segments_sealed, (unsigned long long)info->segments);
    kith_cli_table_cell(table, "%s", info->health);
    kith_buf_fini(&points);
    kith_buf_fini(&size);
}

/* One row a field. */
static void append_table(kith_buf *out, const kith_codec_client_collection *collections, uint32_t count) {
    static const char *const heads[] = {"NAME", "FIELD", "DIM", "METRIC", "TYPE", "SHARDS", "COPIES",
        "POINTS", "VECTORS", "SEALED", "HEALTH"};
    kith_cli_table table;
    kith_cli_table_init(&table, "<<><<>>>>><");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        kith_cli_table_cell(&table, "%s", heads[i]);
    for (uint32_t i = 0; i < count; i++) {
        const kith_schema *schema = &collections[i].collection.schema;
        for (uint32_t j = 0; j < schema->field_count; j++)
            table_row(&table, &collections[i], &schema->fields[j]);
    }
    kith_cli_table_fini(&table, out);
}

static void append_json_list(kith_buf *out, const kith_codec_client_collection *collections, uint32_t count) {
    kith_cli_json_key(out, "collections");
    kith_buf_append_text(out, "[");
    for (uint32_t i = 0; i < count; i++)
        kith_cli_json_collection(out, &collections[i]);
    kith_buf_append_text(out, "]");
}

int kith_cli_list(kith_cli *cli) {
    kith_codec_client_collection *collections;
    uint32_t count;
    int status = kith_cli_connect(cli, 1);
    if (status == KITH_CLI_OK) status = fetch_collections(cli, &collections, &count);
    if (status != KITH_CLI_OK) return status;
    if (cli->json) {
        kith_buf_append_text(&cli->out, "{");
        append_json_list(&cli->out, collections, count);
        kith_buf_append_text(&cli->out, "}\n");
    } else if (count == 0) {
        kith_buf_append_text(&cli->out, "no collections; kith create NAME --dim D --metric M makes one\n");
    } else {
        append_table(&cli->out, collections, count);
    }
    return KITH_CLI_OK;
}

int kith_cli_describe_run(kith_cli *cli) {
    kith_codec_client_collection info;
    int status = kith_cli_connect(cli, 1);
    if (status == KITH_CLI_OK) status = kith_cli_describe(cli, &info);
    if (status != KITH_CLI_OK) return status;
    if (!cli->json)
        append_table(&cli->out, &info, 1);
    else
        kith_cli_json_collection(&cli->out, &info), kith_buf_append_text(&cli->out, "\n");
    return KITH_CLI_OK;
}

int kith_cli_update(kith_cli *cli) {
    kith_collection wish = {0};
    kith_codec_client_collection info;
    bool changed;
    if (!replicas_of_options(&cli->args, &wish)) return KITH_CLI_USAGE;
    if (wish.replication_factor == 0 && wish.min_in_sync == 0 && wish.durability == KITH_DURABILITY_UNSAID) {
        return kith_cli_fail(KITH_CLI_USAGE, "kith update needs --replicas N, --min-in-sync M or "
                                             "--durability sync|async, one or more of them");
    }
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_client_update_encode(cli->args.arguments[0], &wish, &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Collections/Update");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_update_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, &info, &changed, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json)
        append_json_deed(&cli->out, &info, "changed", changed);
    else
        print_collection(cli, changed ? "updated" : "as wanted already:", &info);
    return KITH_CLI_OK;
}

int kith_cli_drop(kith_cli *cli) {
    bool deleted;
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_client_drop_encode(
        cli->args.arguments[0], kith_cli_args_has(&cli->args, "--missing-ok"), &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Collections/Delete");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_client_drop_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &deleted, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json)
        kith_buf_append_format(&cli->out, "{\"dropped\": %s}\n", deleted ? "true" : "false");
    else
        kith_buf_append_format(
            &cli->out, deleted ? "dropped %s\n" : "no collection %s\n", cli->args.arguments[0]);
    return KITH_CLI_OK;
}

/* --- status --- */

static int check_health(kith_cli *cli, bool *serving_out) {
    kith_codec_client_health_encode("", &cli->request);
    int status = kith_cli_call(cli, "/grpc.health.v1.Health/Check");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_health_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, serving_out, &cli->err);
    return decoded == KITH_OK ? KITH_CLI_OK : kith_cli_broken(cli);
}

int kith_cli_status(kith_cli *cli) {
    kith_codec_client_collection *collections = NULL;
    uint32_t count = 0;
    bool serving;
    int status = kith_cli_connect(cli, 1);
    if (status == KITH_CLI_OK) status = check_health(cli, &serving);
    if (status != KITH_CLI_OK) return status;
    status = fetch_collections(cli, &collections, &count);
    if (cli->json) {
        kith_buf_append_text(&cli->out, "{");
        kith_cli_json_text(&cli->out, "server", cli->server);
        kith_cli_json_bool(&cli->out, "ready", serving);
        append_json_list(&cli->out, collections, count);
        kith_buf_append_text(&cli->out, "}\n");
    } else {
        kith_buf_append_format(&cli->out, "%s is %s, %u collection%s\n", cli->server,
            serving ? "ready" : "up, but not ready (its /readyz says why)", count, count == 1 ? "" : "s");
        if (count > 0) append_table(&cli->out, collections, count);
    }
    if (status == KITH_CLI_OK && !serving) status = KITH_CLI_REFUSED;
    return status;
}
