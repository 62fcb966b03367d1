/* Private to host/cli/cli_cluster_local.c and cli_cluster_up.c: the processes of a cluster on this machine, and the folder
 * that they live in:
 *
 *   DIR/cluster.conf        how many data nodes, and the first port: a second start goes on with them
 *   DIR/data-1/kith.conf    a node's configuration, written at each start
 *   DIR/data-1/data         what it keeps
 *   DIR/data-1/kithd.log    what it says
 *
 * Ports from the first: 0 and 1 are the query node's HTTP and gRPC, 2 its node port; 10.. the coordinators', 20.. the data
 * nodes', HTTP and node port by turns. Coordinators know each other by address, so the ports stay.
 *
 * Threads: one. */
#ifndef KITH_CLI_CLI_CLUSTER_LOCAL_H
#define KITH_CLI_CLI_CLUSTER_LOCAL_H

#include <limits.h>
#include <sys/types.h>

#include "host/cli/cli_internal.h"
#include "host/model/node.h"

#define CLI_LOCAL_COORDINATORS   3u
#define CLI_LOCAL_DATA_NODES_MAX 16u
#define CLI_LOCAL_NODES_MAX      (CLI_LOCAL_COORDINATORS + CLI_LOCAL_DATA_NODES_MAX + 1)
#define CLI_LOCAL_NAME_BYTES     32u
#define CLI_LOCAL_PATH_BYTES     (PATH_MAX + 64)

typedef struct cli_local_node {
    char name[CLI_LOCAL_NAME_BYTES]; /* "data-1" */
    kith_node_role role;
    uint32_t http_port, node_port, grpc_port; /* 0: none */
    pid_t pid;                                /* 0: it does not run */
    int ended;                                /* as waitpid says, once it has */
} cli_local_node;

typedef struct cli_local {
    kith_env *env;
    char dir[PATH_MAX];
    kith_file *lock; /* one start a folder */
    bool is_new;
    uint32_t data_node_count;
    uint32_t port; /* the first */
    uint32_t node_count;
    cli_local_node nodes[CLI_LOCAL_NODES_MAX]; /* coordinators, data nodes, then the query node */
} cli_local;

/* Makes and locks the folder, chooses what the last start has not, and writes the nodes' configurations. 0 for
 * `data_node_count` and `port`: as last time, or the default. An exit status. */
int cli_local_open(
    kith_cli *cli, const char *dir, uint32_t data_node_count, uint32_t port, cli_local *local_out);
void cli_local_close(cli_local *local);
static inline cli_local_node *cli_local_query(cli_local *local) {
    return &local->nodes[local->node_count - 1];
}
/* DIR/NODE/FILE. */
void cli_local_path(const cli_local *local, const cli_local_node *node, const char *file,
    char path_out[CLI_LOCAL_PATH_BYTES]);

#endif
