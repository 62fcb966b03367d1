/* cluster certs: a CA for the nodes of a cluster, and their certificates. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/text.h"
#include "host/cli/cli_internal.h"
#include "host/model/node.h"
#include "transport/ucx/transport_ucx.h"

#define DAYS_DEFAULT      365u
#define DAYS_MAX          36500u
#define CA_LIFES          10u /* of a node's certificate */
#define CLUSTER_BYTES_MAX 63u
#define CLOCKS_DIFFER_S   86400

/* "NAME" or "NAME=UUID". */
static int node_parse(
    kith_cli *cli, const char *text, const char **name_out, kith_node_id *id_out, bool *has_id_out) {
    const char *equals = strchr(text, '=');
    size_t bytes = equals ? (size_t)(equals - text) : strlen(text);
    kith_id id;
    *has_id_out = equals != NULL;
    *name_out = kith_arena_text(&cli->arena, text, bytes);
    if (kith_name_check("node name", *name_out, bytes, false, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli->err.text);
    if (strcmp(*name_out, "ca") == 0)
        return kith_cli_fail(KITH_CLI_USAGE, "a node called ca would take the place of the CA's own files");
    if (!equals) return KITH_CLI_OK;
    bool is_uuid =
        kith_id_from_text(equals + 1, strlen(equals + 1), id_out->bytes, &id, &cli->err) == KITH_OK &&
        id.type == KITH_ID_UUID;
    if (is_uuid) return KITH_CLI_OK;
    return kith_cli_fail(KITH_CLI_USAGE, "%s: what follows '=' is not a UUID", text);
}

static int node_make(kith_cli *cli, const char *dir, const char *cluster, uint64_t days, const char *text) {
    const char *name;
    kith_node_id id;
    bool has_id;
    int status = node_parse(cli, text, &name, &id, &has_id);
    if (status != KITH_CLI_OK) return status;
    kith_transport_certs_node node = {
        .ca_dir = dir,
        .dir = dir,
        .name = name,
        .cluster = cluster,
        .node_id = has_id ? &id : NULL,
        .valid_from_s = -CLOCKS_DIFFER_S,
        .valid_until_s = (int64_t)days * 86400,
    };
    if (kith_transport_certs_create_node(&node, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_REFUSED, "%s: %s", name, cli->err.text);
    kith_cli_json_key(&cli->out, NULL);
    kith_text_append_json_string(&cli->out, name, strlen(name));
    return KITH_CLI_OK;
}

/* A CA that is there is used again: its nodes trust it. */
static int ca_make(kith_cli *cli, const char *dir, const char *cluster, uint64_t days, bool *made_out) {
    kith_status status = kith_dir_make(cli->env, dir, &cli->err);
    if (status == KITH_OK)
        status = kith_transport_certs_create_ca(dir, cluster, (uint32_t)(CA_LIFES * days), &cli->err);
    *made_out = status == KITH_OK;
    if (status == KITH_OK || status == KITH_EXISTS) return KITH_CLI_OK;
    return kith_cli_fail(KITH_CLI_REFUSED, "%s: %s", dir, cli->err.text);
}

int kith_cli_cluster_certs(kith_cli *cli) {
    const char *dir = kith_cli_args_text(&cli->args, "--dir", "./kith-certs");
    const char *cluster = kith_cli_args_text(&cli->args, "--cluster", "kith");
    uint64_t days;
    bool made;
    if (!kith_cli_args_u64(&cli->args, "--days", DAYS_DEFAULT, 1, DAYS_MAX, &days)) return KITH_CLI_USAGE;
    if (strlen(cluster) > CLUSTER_BYTES_MAX ||
        kith_name_check("--cluster", cluster, strlen(cluster), false, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE,
            "--cluster %s is not 1..%u of letters, digits, '_', '-', '.', as a certificate has it", cluster,
            CLUSTER_BYTES_MAX);
    int status = ca_make(cli, dir, cluster, days, &made);
    if (status != KITH_CLI_OK) return status;
    kith_buf_append_text(&cli->out, "{");
    kith_cli_json_text(&cli->out, "dir", dir);
    kith_cli_json_text(&cli->out, "cluster", cluster);
    kith_cli_json_bool(&cli->out, "ca_made", made);
    kith_cli_json_key(&cli->out, "nodes");
    kith_buf_append_text(&cli->out, "[");
    for (uint32_t i = 0; i < cli->args.argument_count && status == KITH_CLI_OK; i++)
        status = node_make(cli, dir, cluster, days, cli->args.arguments[i]);
    kith_buf_append_text(&cli->out, "]}\n");
    if (status != KITH_CLI_OK || !cli->json) kith_buf_clear(&cli->out);
    if (status != KITH_CLI_OK || cli->json) return status;
    kith_buf_append_format(&cli->out,
        "%s a CA and made %u certificate%s in %s. Copy ca.crt and NAME.crt, NAME.key to each node, and "
        "set:\n\n"
        "  node_ca_file = \"ca.crt\"; node_cert_file = \"NAME.crt\"; node_key_file = \"NAME.key\";\n"
        "  cluster_name = \"%s\";\n\nKeep ca.key where no node is.\n",
        made ? "Made" : "Used", cli->args.argument_count, cli->args.argument_count == 1 ? "" : "s", dir,
        cluster);
    return KITH_CLI_OK;
}
