#include "host/cli/cli_cluster_local.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATA_NODES_DEFAULT 3u
#define PORT_DEFAULT       7440u /* where clients look for a server that is not named */
#define PORT_STEP          100u
#define PORT_TRIES         64u
#define PORT_MAX           65535u
#define QUERY_PORTS        0u
#define COORDINATOR_PORTS  10u
#define DATA_PORTS         20u
#define PORTS_OF_ALL       (DATA_PORTS + 2 * CLI_LOCAL_DATA_NODES_MAX)

_Static_assert(DATA_PORTS >= COORDINATOR_PORTS + 2 * CLI_LOCAL_COORDINATORS, "ranges of ports do not meet");
_Static_assert(PORTS_OF_ALL <= PORT_STEP, "two clusters of neighbouring first ports do not meet");

void cli_local_path(const cli_local *local, const cli_local_node *node, const char *file,
    char path_out[CLI_LOCAL_PATH_BYTES]) {
    snprintf(path_out, CLI_LOCAL_PATH_BYTES, "%s/%s/%s", local->dir, node->name, file);
}

/* --- which nodes, at which ports --- */

static void node_add(cli_local *local, kith_node_role role, uint32_t number, uint32_t ports) {
    cli_local_node *node = &local->nodes[local->node_count++];
    *node = (cli_local_node){.role = role, .http_port = ports, .node_port = ports + 1};
    snprintf(node->name, sizeof node->name, "%s-%u", kith_node_role_name(role), number);
}

static void nodes_plan(cli_local *local) {
    local->node_count = 0;
    for (uint32_t i = 0; i < CLI_LOCAL_COORDINATORS; i++)
        node_add(local, KITH_NODE_COORDINATOR, i + 1, local->port + COORDINATOR_PORTS + 2 * i);
    for (uint32_t i = 0; i < local->data_node_count; i++)
        node_add(local, KITH_NODE_DATA, i + 1, local->port + DATA_PORTS + 2 * i);
    node_add(local, KITH_NODE_QUERY, 1, local->port + QUERY_PORTS);
    cli_local_node *query = cli_local_query(local);
    query->grpc_port = query->http_port + 1;
    query->node_port = query->http_port + 2;
}

static bool port_is_free(uint32_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    bool free = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return free;
}

/* 0, or the first of the nodes' ports that is in use. */
static uint32_t port_in_use(const cli_local *local) {
    for (uint32_t i = 0; i < local->node_count; i++) {
        const cli_local_node *node = &local->nodes[i];
        const uint32_t ports[] = {node->http_port, node->node_port, node->grpc_port};
        for (uint32_t p = 0; p < 3; p++) {
            if (ports[p] && !port_is_free(ports[p])) return ports[p];
        }
    }
    return 0;
}

static int ports_check(const cli_local *local) {
    uint32_t used = port_in_use(local);
    if (!used) return KITH_CLI_OK;
    if (local->is_new)
        return kith_cli_fail(
            KITH_CLI_USAGE, "port %u is in use; choose another --port, or leave it out", used);
    return kith_cli_fail(KITH_CLI_REFUSED,
        "port %u is in use, and the cluster in %s has ports from %u on since its first start: stop what uses "
        "it, or start a new cluster in another --dir",
        used, local->dir, local->port);
}

static int ports_choose(cli_local *local) {
    for (uint32_t i = 0; i < PORT_TRIES; i++) {
        local->port = PORT_DEFAULT + i * PORT_STEP;
        nodes_plan(local);
        if (!port_in_use(local)) return KITH_CLI_OK;
    }
    return kith_cli_fail(
        KITH_CLI_REFUSED, "no free ports were found from %u on; name the first with --port", PORT_DEFAULT);
}

/* --- the folder --- */

/* Before anything else says that it failed: a file's name and why. */
static int file_fail(const char *deed, const char *path) {
    return kith_cli_fail(KITH_CLI_REFUSED, "cannot %s %s: %s", deed, path, strerror(errno));
}

static int state_read(cli_local *local) {
    char path[CLI_LOCAL_PATH_BYTES];
    snprintf(path, sizeof path, "%s/cluster.conf", local->dir);
    FILE *file = fopen(path, "re");
    local->is_new = !file;
    if (!file) return errno == ENOENT ? KITH_CLI_OK : file_fail("read", path);
    int read = fscanf(file, "nodes = %u; port = %u;", &local->data_node_count, &local->port);
    fclose(file);
    bool whole = read == 2 && local->data_node_count >= 1 &&
                 local->data_node_count <= CLI_LOCAL_DATA_NODES_MAX && local->port >= 1 &&
                 local->port + PORTS_OF_ALL <= PORT_MAX + 1;
    if (whole) return KITH_CLI_OK;
    return kith_cli_fail(KITH_CLI_REFUSED, "%s is not what an earlier start wrote", path);
}

static int state_write(const cli_local *local) {
    char path[CLI_LOCAL_PATH_BYTES], path_new[CLI_LOCAL_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/cluster.conf", local->dir);
    snprintf(path_new, sizeof path_new, "%s.new", path);
    FILE *file = fopen(path_new, "we");
    if (!file) return file_fail("write", path_new);
    fprintf(file, "nodes = %u;\nport = %u;\n", local->data_node_count, local->port);
    if (fclose(file) != 0 || rename(path_new, path) != 0) return file_fail("write", path);
    return KITH_CLI_OK;
}

static int folder_open(kith_cli *cli, const char *dir, cli_local *local) {
    kith_status status = kith_dir_make(cli->env, dir, &cli->err);
    if (status == KITH_OK) status = kith_dir_lock(cli->env, dir, &local->lock, &cli->err);
    if (status != KITH_OK) return kith_cli_fail(KITH_CLI_REFUSED, "--dir %s: %s", dir, cli->err.text);
    return realpath(dir, local->dir) ? KITH_CLI_OK : file_fail("find", dir);
}

/* --- configurations --- */

static void text_write(FILE *file, const char *key, const char *text) {
    fprintf(file, "%s = \"", key);
    for (; *text; text++)
        fprintf(file, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    fputs("\";\n", file);
}

static void config_write(const cli_local *local, const cli_local_node *node, FILE *file) {
    char data_dir[CLI_LOCAL_PATH_BYTES];
    cli_local_path(local, node, "data", data_dir);
    fputs(
        "# Written by kith cluster up at each start; kithd --config with this file starts this node alone.\n",
        file);
    text_write(file, "role", kith_node_role_name(node->role));
    text_write(file, "node_name", node->name);
    text_write(file, "data_dir", data_dir);
    text_write(file, "bind_address", "127.0.0.1");
    text_write(file, "cluster_name", "local");
    fputs("coordinators = \"", file);
    for (uint32_t i = 0; i < CLI_LOCAL_COORDINATORS; i++)
        fprintf(file, "%s127.0.0.1:%u", i ? ", " : "", local->nodes[i].node_port);
    fprintf(file, "\";\nhttp_port = %u;\nnode_port = %u;\n", node->http_port, node->node_port);
    if (node->grpc_port) fprintf(file, "grpc_port = %u;\n", node->grpc_port);
}

static int node_prepare(kith_cli *cli, const cli_local *local, const cli_local_node *node) {
    char path[CLI_LOCAL_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", local->dir, node->name);
    if (kith_dir_make(cli->env, path, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_REFUSED, "%s", cli->err.text);
    cli_local_path(local, node, "kith.conf", path);
    FILE *file = fopen(path, "we");
    if (!file) return file_fail("write", path);
    config_write(local, node, file);
    return fclose(file) == 0 ? KITH_CLI_OK : file_fail("write", path);
}

/* --- open --- */

/* What is asked for and what the last start chose. */
static int settle(cli_local *local, uint32_t data_node_count, uint32_t port) {
    bool fixed = port != 0 || !local->is_new;
    if (!local->is_new && port && port != local->port) {
        return kith_cli_fail(KITH_CLI_USAGE,
            "the cluster in %s has ports from %u on since its first start; --port %u cannot change that",
            local->dir, local->port, port);
    }
    if (!local->is_new && data_node_count && data_node_count < local->data_node_count) {
        return kith_cli_fail(KITH_CLI_USAGE,
            "the cluster in %s has %u data nodes; with --nodes %u some of its shards would be missing",
            local->dir, local->data_node_count, data_node_count);
    }
    if (port) local->port = port;
    if (data_node_count) local->data_node_count = data_node_count;
    if (!local->data_node_count) local->data_node_count = DATA_NODES_DEFAULT;
    if (local->port + PORTS_OF_ALL > PORT_MAX + 1)
        return kith_cli_fail(KITH_CLI_USAGE,
            "--port %u is above %u, the highest that leaves room for all nodes", local->port,
            PORT_MAX + 1 - PORTS_OF_ALL);
    if (!fixed) return ports_choose(local);
    nodes_plan(local);
    return ports_check(local);
}

int cli_local_open(
    kith_cli *cli, const char *dir, uint32_t data_node_count, uint32_t port, cli_local *local_out) {
    *local_out = (cli_local){.env = cli->env};
    int status = folder_open(cli, dir, local_out);
    if (status == KITH_CLI_OK) status = state_read(local_out);
    if (status == KITH_CLI_OK) status = settle(local_out, data_node_count, port);
    if (status == KITH_CLI_OK) status = state_write(local_out);
    for (uint32_t i = 0; i < local_out->node_count && status == KITH_CLI_OK; i++)
        status = node_prepare(cli, local_out, &local_out->nodes[i]);
    if (status != KITH_CLI_OK) cli_local_close(local_out);
    return status;
}

void cli_local_close(cli_local *local) {
    kith_file_close(local->lock);
    local->lock = NULL;
}
