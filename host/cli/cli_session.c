#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host/base/text.h"
#include "host/cli/cli_internal.h"

int kith_cli_fail(kith_cli_exit status, const char *format, ...) {
    va_list list;
    va_start(list, format);
    fputs("kith: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    return status;
}

int kith_cli_connect(kith_cli *cli, uint32_t connections) {
    kith_status status = kith_grpc_client_create(cli->server, connections, &cli->client, &cli->err);
    if (status != KITH_OK) return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    status = kith_grpc_client_connect(cli->client, cli->timeout_ms, &cli->err);
    if (status == KITH_OK) return KITH_CLI_OK;
    return kith_cli_fail(KITH_CLI_UNREACHABLE,
        "%s; start one with kithd --role standalone, or name it with --server HOST:PORT or KITH_SERVER",
        cli->err.text);
}

static const char *advice_for(int grpc_code, const char *message) {
    switch (grpc_code) {
    case KITH_GRPC_NOT_FOUND:
        return strncmp(message, "node", 4) == 0 ? "kith cluster nodes shows them"
                                                : "kith list shows the collections";
    case KITH_GRPC_DEADLINE_EXCEEDED:
        return "ask for less at once, or raise --timeout";
    case KITH_GRPC_RESOURCE_EXHAUSTED:
        return "try again in a moment; kith status shows the server's state";
    case KITH_GRPC_UNAVAILABLE:
        return "try again; kith status shows the server's state";
    case KITH_GRPC_UNIMPLEMENTED:
        return "the server and this client are of different versions";
    default:
        return NULL;
    }
}

void kith_cli_explain(kith_buf *text, int grpc_code, const char *message) {
    const char *advice = advice_for(grpc_code, message);
    if (*message)
        kith_buf_append_text(text, message);
    else
        kith_buf_append_format(text, "the server answers with status %d and no message", grpc_code);
    if (advice) kith_buf_append_format(text, " (%s)", advice);
    kith_buf_u8(text, 0);
}

int kith_cli_call(kith_cli *cli, const char *method) {
    kith_grpc_request request = {
        .method = method,
        .data = cli->request.data,
        .bytes = cli->request.bytes,
        .timeout_ms = cli->timeout_ms,
    };
    int code = kith_grpc_client_call(cli->client, &request, &cli->reply);
    kith_buf_clear(&cli->request);
    if (code == KITH_GRPC_OK) return KITH_CLI_OK;
    kith_buf text;
    kith_buf_init(&text);
    kith_buf_u8(&cli->reply, 0);
    kith_cli_explain(&text, code, (const char *)cli->reply.data);
    int status = kith_cli_fail(KITH_CLI_REFUSED, "%s", (const char *)text.data);
    kith_buf_fini(&text);
    return status;
}

int kith_cli_broken(kith_cli *cli) {
    return kith_cli_fail(KITH_CLI_REFUSED, "%s; are server and client of the same version?", cli->err.text);
}

kith_status kith_cli_id(kith_cli *cli, const char *text, kith_id *id_out, kith_err *err) {
    size_t bytes = strlen(text);
    uint64_t number;
    if (kith_text_parse_u64(text, bytes, &number)) {
        *id_out = kith_id_of_number(number);
        return KITH_OK;
    }
    if (bytes >= 2 && text[0] == '"' && text[bytes - 1] == '"') {
        text++;
        bytes -= 2;
    }
    uint8_t *uuid = kith_arena_alloc(&cli->arena, 16);
    return kith_id_from_text(text, bytes, uuid, id_out, err);
}

kith_request_id kith_cli_request_id(kith_cli *cli) {
    kith_request_id request_id = {.number = 1};
    kith_env_random(cli->env, request_id.client, sizeof request_id.client);
    request_id.client[0] |= 1; /* never all zero */
    return request_id;
}

int kith_cli_describe(kith_cli *cli, kith_codec_client_collection *collection_out) {
    kith_codec_client_describe_encode(cli->args.arguments[0], &cli->request);
    int status = kith_cli_call(cli, "/kith.v1.Collections/Get");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_client_collection_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, collection_out, &cli->err);
    return decoded == KITH_OK ? KITH_CLI_OK : kith_cli_broken(cli);
}

int kith_cli_check_dim(kith_cli *cli, const char *field, uint32_t dim) {
    kith_codec_client_collection info;
    int status = kith_cli_describe(cli, &info);
    if (status != KITH_CLI_OK) return status;
    const kith_schema *schema = &info.collection.schema;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const kith_field *of = &schema->fields[i];
        if (strcmp(of->name, field) != 0 || of->dim == dim) continue;
        return kith_cli_fail(KITH_CLI_REFUSED,
            "the queries have %u components; field \"%s\" of collection %s has dim %u", dim, field,
            info.collection.name, of->dim);
    }
    return KITH_CLI_OK; /* the server says which fields there are */
}
