/* cluster status, nodes, shards, join, leave, drain. What --json prints is what REST answers (codec_cluster_json.c). */
#include <string.h>

#include "host/cli/cli_internal.h"

#define ID_SHOWN 8 /* characters of an id in tables: enough to name a node by */

/* Calls `method` with `text`. An exit status. */
static int call(kith_cli *cli, const char *method, const char *text, bool draining) {
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_cluster_request_encode(
        &(kith_codec_cluster_request){.text = text, .draining = draining}, &cli->request);
    return kith_cli_call(cli, method);
}

static int status_fetch(kith_cli *cli, kith_codec_cluster_status *cluster_out) {
    int status = call(cli, "/kith.v1.Cluster/Status", "", false);
    if (status != KITH_CLI_OK) return status;
    kith_status decoded = kith_codec_cluster_status_decode(
        cli->reply.data, cli->reply.bytes, &cli->arena, cluster_out, &cli->err);
    return decoded == KITH_OK ? KITH_CLI_OK : kith_cli_broken(cli);
}

/* --- status --- */

static uint32_t role_count(const kith_codec_cluster_status *cluster, kith_node_role role) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++)
        count += cluster->nodes[i].heartbeat.node.role == role;
    return count;
}

static void append_count(kith_buf *out, uint32_t count, const char *what) {
    kith_buf_append_format(out, "%u %s%s", count, what, count == 1 ? "" : "s");
}

static const char *name_of(const kith_codec_cluster_status *cluster, const kith_node_id *id) {
    const kith_codec_coordinator_node *node =
        kith_codec_cluster_node_find(cluster->nodes, cluster->node_count, id);
    return node ? node->heartbeat.node.name : "?";
}

static void append_summary(kith_buf *out, const kith_codec_cluster_status *cluster) {
    if (cluster->standalone) {
        kith_buf_append_text(out, "a standalone server: a cluster of one");
    } else {
        append_count(out, cluster->member_count, "coordinator");
        kith_buf_append_text(out, ", ");
        append_count(out, role_count(cluster, KITH_NODE_DATA), "data node");
        kith_buf_append_text(out, ", ");
        append_count(out, role_count(cluster, KITH_NODE_QUERY), "query node");
        if (!cluster->problem[0]) {
            kith_buf_append_format(out, "; %s leads, term %llu", name_of(cluster, &cluster->leader_id),
                (unsigned long long)cluster->term);
        }
    }
    kith_buf_append_format(out, "; map version %llu\n", (unsigned long long)cluster->map_version);
    if (cluster->problem[0]) kith_buf_append_format(out, "PROBLEM: %s\n", cluster->problem);
}

/* What is under way until every shard has its copies where they should be; nothing where they are. */
static void append_copying(kith_buf *out, const kith_codec_copying *copying) {
    if (copying->behind + copying->moving + copying->waiting > 0) {
        kith_buf_append_format(out, "copies of shards: %u not in sync, %u moving, %u still to be made\n",
            copying->behind, copying->moving, copying->waiting);
    }
    if (copying->short_count == 0) return;
    append_count(out, copying->short_count, "shard");
    kith_buf_append_format(out, " %s more copies than there are data nodes for them\n",
        copying->short_count == 1 ? "wants" : "want");
}

static void append_coordinators(kith_buf *out, const kith_codec_cluster_status *cluster) {
    if (cluster->member_count == 0) return;
    kith_cli_table table;
    kith_cli_table_init(&table, "<<<");
    kith_cli_table_cell(&table, "COORDINATOR");
    kith_cli_table_cell(&table, "ADDRESS");
    kith_cli_table_cell(&table, "ROLE");
    for (uint32_t i = 0; i < cluster->member_count; i++) {
        const kith_codec_coordinator_member *member = &cluster->members[i];
        kith_cli_table_cell(&table, "%s", name_of(cluster, &member->id));
        kith_cli_table_cell(&table, "%s", member->address);
        kith_cli_table_cell(&table, "%s",
            member->leader  ? "leader"
            : member->voter ? "follower"
                            : "catching up");
    }
    kith_cli_table_fini(&table, out);
}

static bool is_well(const kith_codec_coordinator_node *node) {
    const char *health = node->heartbeat.health;
    return !node->heartbeat.node.down && (strcmp(health, "ok") == 0 || !health[0]);
}

/* A line for each node that is not well; how many are down. */
static uint32_t append_ill(kith_buf *out, const kith_codec_cluster_status *cluster) {
    uint32_t down_count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        const kith_codec_coordinator_node *node = &cluster->nodes[i];
        const kith_codec_heartbeat *said = &node->heartbeat;
        if (is_well(node)) continue;
        if (!said->node.down) {
            kith_buf_append_format(out, "%s: %s\n", said->node.name, said->health);
            continue;
        }
        down_count++;
        kith_buf_append_format(out, "%s is DOWN", said->node.name);
        if (node->silent_ms)
            kith_buf_append_format(out, ", silent for %.1f s", (double)node->silent_ms / 1000);
        if (said->shards) {
            kith_buf_append_text(out, "; on it ");
            append_count(out, (uint32_t)said->shards, "shard");
        }
        kith_buf_append_text(out, "\n");
    }
    return down_count;
}

int kith_cli_cluster_status(kith_cli *cli) {
    kith_codec_cluster_status cluster;
    kith_buf text;
    int status = status_fetch(cli, &cluster);
    if (status != KITH_CLI_OK) return status;
    kith_buf_init(&text);
    append_summary(&text, &cluster);
    append_copying(&text, &cluster.copying);
    append_coordinators(&text, &cluster);
    uint32_t down_count = append_ill(&text, &cluster);
    if (cli->json) {
        kith_codec_cluster_status_json(&cluster, &cli->out);
        kith_buf_append_text(&cli->out, "\n");
    } else {
        kith_buf_append(&cli->out, text.data, text.bytes);
    }
    kith_buf_fini(&text);
    if (cluster.problem[0]) return KITH_CLI_REFUSED;
    return down_count ? KITH_CLI_PARTIAL : KITH_CLI_OK;
}

/* --- nodes --- */

static void cell_of_buf(kith_cli_table *table, kith_buf *text) {
    kith_cli_table_cell(table, "%.*s", (int)text->bytes, (const char *)text->data);
    kith_buf_clear(text);
}

static void cell_or_dash(kith_cli_table *table, const char *text) {
    kith_cli_table_cell(table, "%s", *text ? text : "-");
}

static void node_row(kith_cli_table *table, const kith_codec_coordinator_node *of) {
    const kith_codec_heartbeat *said = &of->heartbeat;
    const kith_node *node = &said->node;
    const char *role = kith_node_role_name(node->role);
    char id[KITH_NODE_ID_TEXT_BYTES];
    kith_buf text;
    kith_buf_init(&text);
    kith_cli_table_cell(table, "%s", node->name);
    kith_cli_table_cell(table, "%.*s", ID_SHOWN, kith_node_id_text(&node->id, id));
    kith_cli_table_cell(table, "%s", role ? role : "?");
    kith_cli_table_cell(table, "%s", node->down ? "DOWN" : node->draining ? "draining" : "up");
    cell_or_dash(table, node->address);
    cell_or_dash(table, node->grpc_address);
    cell_or_dash(table, node->http_address);
    cell_or_dash(table, node->zone);
    kith_cli_table_cell(table, "%llu", (unsigned long long)said->shards);
    kith_cli_append_grouped(&text, said->points);
    cell_of_buf(table, &text);
    kith_cli_append_size(&text, said->vector_bytes);
    cell_of_buf(table, &text);
    cell_or_dash(table, said->health);
    kith_buf_fini(&text);
}

static void append_nodes(kith_buf *out, const kith_codec_cluster_status *cluster) {
    static const char *const heads[] = {"NAME", "ID", "ROLE", "STATE", "ADDRESS", "GRPC", "HTTP", "ZONE",
        "SHARDS", "POINTS", "VECTORS", "HEALTH"};
    kith_cli_table table;
    kith_cli_table_init(&table, "<<<<<<<<>>><");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        kith_cli_table_cell(&table, "%s", heads[i]);
    for (uint32_t i = 0; i < cluster->node_count; i++)
        node_row(&table, &cluster->nodes[i]);
    kith_cli_table_fini(&table, out);
}

int kith_cli_cluster_nodes(kith_cli *cli) {
    kith_codec_cluster_status cluster;
    int status = status_fetch(cli, &cluster);
    if (status != KITH_CLI_OK) return status;
    if (cli->json) {
        kith_codec_cluster_nodes_json(&cluster, &cli->out);
        kith_buf_append_text(&cli->out, "\n");
    } else {
        append_nodes(&cli->out, &cluster);
        if (cluster.problem[0]) kith_buf_append_format(&cli->out, "PROBLEM: %s\n", cluster.problem);
    }
    return KITH_CLI_OK;
}

/* --- shards --- */

bool kith_cli_shard_is_lost(const kith_codec_cluster_shard *shard) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (shard->replicas[i].in_sync && shard->replicas[i].up) return false;
    }
    return true;
}

void kith_cli_append_replicas(kith_buf *out, const kith_codec_cluster_shard *shard) {
    /* Without a primary nobody catches up. */
    const char *behind = kith_cli_shard_is_lost(shard) ? " (not in sync)" : " (catching up)";
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const kith_codec_cluster_replica *replica = &shard->replicas[i];
        const char *state = !replica->up ? " (DOWN)" : !replica->in_sync ? behind : "";
        kith_buf_append_format(out, "%s%s%s", i ? ", " : "", replica->name, state);
    }
}

static void shard_row(kith_cli_table *table, const char *collection, const kith_codec_cluster_shard *shard) {
    kith_buf text;
    kith_buf_init(&text);
    kith_cli_table_cell(table, "%s", collection);
    kith_cli_table_cell(table, "%u", shard->index);
    kith_cli_table_cell(table, "%llu", (unsigned long long)shard->id);
    kith_cli_table_cell(table, "%llu", (unsigned long long)shard->epoch);
    kith_cli_append_replicas(&text, shard);
    if (kith_cli_shard_is_lost(shard)) kith_buf_append_text(&text, ": NO COPY IN SYNC IS UP");
    cell_of_buf(table, &text);
    kith_buf_fini(&text);
}

static void append_lost(kith_buf *out, uint32_t count) {
    if (count == 0) return;
    append_count(out, count, "shard");
    kith_buf_append_format(out, " cannot be written until a node with a copy in sync is back; where none "
                                "ever comes back, see kith cluster "
                                "accept-loss --help\n");
}

static void append_shards(kith_buf *out, const kith_codec_cluster_shards *shards) {
    static const char *const heads[] = {"COLLECTION", "SHARD", "ID", "EPOCH", "NODES, PRIMARY FIRST"};
    uint32_t lost_count = 0;
    kith_cli_table table;
    kith_cli_table_init(&table, "<>>><");
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        kith_cli_table_cell(&table, "%s", heads[i]);
    for (uint32_t i = 0; i < shards->collection_count; i++) {
        const kith_codec_cluster_collection *collection = &shards->collections[i];
        for (uint32_t s = 0; s < collection->shard_count; s++) {
            shard_row(&table, collection->name, &collection->shards[s]);
            lost_count += kith_cli_shard_is_lost(&collection->shards[s]);
        }
    }
    kith_cli_table_fini(&table, out);
    append_lost(out, lost_count);
}

int kith_cli_cluster_shards(kith_cli *cli) {
    kith_codec_cluster_shards shards;
    const char *collection = cli->args.argument_count ? cli->args.arguments[0] : "";
    int status = call(cli, "/kith.v1.Cluster/Shards", collection, false);
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_cluster_shards_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &shards, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json) {
        kith_codec_cluster_shards_json(&shards, &cli->out);
        kith_buf_append_text(&cli->out, "\n");
    } else if (shards.collection_count == 0) {
        kith_buf_append_text(&cli->out, "no collections; kith create NAME --dim D --metric M makes one\n");
    } else {
        append_shards(&cli->out, &shards);
    }
    return KITH_CLI_OK;
}

/* --- changes --- */

int kith_cli_cluster_join(kith_cli *cli) {
    kith_codec_cluster_join join;
    const char *address = cli->args.arguments[0];
    int status = call(cli, "/kith.v1.Cluster/Join", address, false);
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_cluster_join_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &join, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json) {
        kith_codec_cluster_join_json(&join, &cli->out);
        kith_buf_append_text(&cli->out, "\n");
        return KITH_CLI_OK;
    }
    kith_buf_append_format(&cli->out, "%s %s; ", address, join.joined ? "has joined" : "was in it already");
    append_count(&cli->out, join.member_count, "coordinator");
    kith_buf_append_text(&cli->out, "\n");
    if (join.member_count % 2 == 0) {
        kith_buf_append_text(&cli->out,
            "an even number of coordinators survives no more losses than one fewer: add another\n");
    }
    return KITH_CLI_OK;
}

/* Calls a method that answers with a node, and prints it as JSON where that is asked for. */
static int node_call(
    kith_cli *cli, const char *method, bool draining, kith_codec_coordinator_node *node_out) {
    int status = call(cli, method, cli->args.arguments[0], draining);
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_cluster_node_decode(cli->reply.data, cli->reply.bytes, &cli->arena, node_out, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (!cli->json) return KITH_CLI_OK;
    kith_codec_cluster_node_json(node_out, &cli->out);
    kith_buf_append_text(&cli->out, "\n");
    return KITH_CLI_OK;
}

int kith_cli_cluster_leave(kith_cli *cli) {
    kith_codec_coordinator_node node;
    int status = node_call(cli, "/kith.v1.Cluster/Leave", false, &node);
    if (status != KITH_CLI_OK || cli->json) return status;
    const kith_node *left = &node.heartbeat.node;
    const char *role = kith_node_role_name(left->role);
    kith_buf_append_format(&cli->out, "%s (%s) has left\n", left->name, role ? role : "?");
    if (!left->down) kith_buf_append_text(&cli->out, "it was up: stop it now, or it reports again\n");
    return KITH_CLI_OK;
}

int kith_cli_cluster_drain(kith_cli *cli) {
    kith_codec_coordinator_node node;
    bool off = kith_cli_args_has(&cli->args, "--off");
    int status = node_call(cli, "/kith.v1.Cluster/Drain", !off, &node);
    if (status != KITH_CLI_OK || cli->json) return status;
    const kith_codec_heartbeat *now = &node.heartbeat;
    kith_buf_append_format(
        &cli->out, "%s %s; ", now->node.name, off ? "may get new shards again" : "gets no new shards");
    append_count(&cli->out, (uint32_t)now->shards, "shard");
    bool one = now->shards == 1;
    kith_buf_append_format(&cli->out, " %s %son it", one ? "is" : "are", off ? "" : "left ");
    if (!off && now->shards > 0)
        kith_buf_append_format(&cli->out, " and %s to other nodes", one ? "moves" : "move");
    kith_buf_append_text(&cli->out, "\n");
    return KITH_CLI_OK;
}
