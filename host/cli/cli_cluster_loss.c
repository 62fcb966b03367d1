/* cluster accept-loss: what would be lost, and, with --yes, its acceptance. */
#include <string.h>
#include <strings.h>

#include "host/base/text.h"
#include "host/cli/cli_internal.h"

typedef struct loss_arguments {
    const char *collection, *node;
    uint32_t shard;
} loss_arguments;

static int arguments_take(const kith_cli *cli, loss_arguments *arguments_out) {
    const char *shard = cli->args.arguments[1];
    uint64_t number;
    if (!kith_text_parse_u64(shard, strlen(shard), &number) || number >= KITH_SHARDS_MAX) {
        return kith_cli_fail(KITH_CLI_USAGE,
            "SHARD %s is not a whole number in 0..%u; kith cluster shards %s shows them", shard,
            KITH_SHARDS_MAX - 1, cli->args.arguments[0]);
    }
    const char *node = kith_cli_args_text(&cli->args, "--node", "");
    if (!*node) {
        return kith_cli_fail(KITH_CLI_USAGE,
            "kith cluster accept-loss needs --node NODE; kith cluster accept-loss --help shows how");
    }
    *arguments_out =
        (loss_arguments){.collection = cli->args.arguments[0], .node = node, .shard = (uint32_t)number};
    return KITH_CLI_OK;
}

/* --- without --yes --- */

/* As the server names nodes; NULL: none of this shard's. */
static const kith_codec_cluster_replica *replica_find(
    const kith_codec_cluster_shard *shard, const char *node) {
    const kith_codec_cluster_replica *begun = NULL;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const kith_codec_cluster_replica *replica = &shard->replicas[i];
        char id[KITH_NODE_ID_TEXT_BYTES];
        if (strcmp(replica->name, node) == 0) return replica;
        if (strncasecmp(kith_node_id_text(&replica->id, id), node, strlen(node)) == 0) begun = replica;
    }
    return begun;
}

static void append_others(
    kith_buf *out, const kith_codec_cluster_shard *shard, const kith_codec_cluster_replica *chosen) {
    bool first = true;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        if (&shard->replicas[i] == chosen) continue;
        kith_buf_append_format(out, "%s%s", first ? "" : ", ", shard->replicas[i].name);
        first = false;
    }
}

/* Who looks whole, beside the chosen one. */
static void append_warnings(
    kith_buf *out, const kith_codec_cluster_shard *shard, const kith_codec_cluster_replica *chosen) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const kith_codec_cluster_replica *replica = &shard->replicas[i];
        if (replica == chosen || !replica->in_sync || !replica->up) continue;
        kith_buf_append_format(out,
            "WARNING: %s is up and in sync; unless it can never lead again, this loses what need not be "
            "lost\n",
            replica->name);
    }
    if (!chosen->up)
        kith_buf_append_format(out, "%s is DOWN: it would be refused until it is up\n", chosen->name);
}

static void append_preview(kith_buf *out, const loss_arguments *arguments,
    const kith_codec_cluster_shard *shard, const kith_codec_cluster_replica *chosen) {
    kith_buf_append_format(out, "shard %u of \"%s\", epoch %llu, is on ", shard->index, arguments->collection,
        (unsigned long long)shard->epoch);
    kith_cli_append_replicas(out, shard);
    kith_buf_append_format(out, "\n%s would be its primary, with the only copy in sync", chosen->name);
    if (shard->replica_count > 1) {
        kith_buf_append_text(out, "; overwritten by it, now or when they come back: ");
        append_others(out, shard, chosen);
    }
    kith_buf_append_text(out, "\nacknowledged writes that only other copies have would be lost for good\n");
    append_warnings(out, shard, chosen);
}

static int shard_fetch(kith_cli *cli, const loss_arguments *arguments, kith_codec_cluster_shard *shard_out) {
    kith_codec_cluster_shards shards;
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_cluster_request_encode(
        &(kith_codec_cluster_request){.text = arguments->collection}, &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Cluster/Shards");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_cluster_shards_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &shards, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    for (uint32_t i = 0; shards.collection_count == 1 && i < shards.collections[0].shard_count; i++) {
        if (shards.collections[0].shards[i].index != arguments->shard) continue;
        *shard_out = shards.collections[0].shards[i];
        return KITH_CLI_OK;
    }
    return kith_cli_fail(KITH_CLI_REFUSED,
        "collection \"%s\" has no shard %u (kith cluster shards %s shows them)", arguments->collection,
        arguments->shard, arguments->collection);
}

static int preview(kith_cli *cli, const loss_arguments *arguments) {
    kith_codec_cluster_shard shard;
    int status = shard_fetch(cli, arguments, &shard);
    if (status != KITH_CLI_OK) return status;
    const kith_codec_cluster_replica *chosen = replica_find(&shard, arguments->node);
    if (!chosen) {
        return kith_cli_fail(KITH_CLI_REFUSED,
            "node \"%s\" has no copy of shard %u of collection \"%s\" (kith cluster shards %s shows who has)",
            arguments->node, arguments->shard, arguments->collection, arguments->collection);
    }
    append_preview(&cli->out, arguments, &shard, chosen);
    status = kith_cli_flush(cli);
    return status == KITH_CLI_OK ? kith_cli_fail(KITH_CLI_USAGE, "nothing was done; --yes does it") : status;
}

/* --- with --yes --- */

static int accept(kith_cli *cli, const loss_arguments *arguments) {
    kith_codec_cluster_shard shard;
    int status = kith_cli_connect(cli, 1);
    if (status != KITH_CLI_OK) return status;
    kith_codec_cluster_loss_request_encode(
        &(kith_codec_cluster_request){
            .text = arguments->collection, .shard = arguments->shard, .node = arguments->node},
        &cli->request);
    status = kith_cli_call(cli, "/kith.v1.Cluster/AcceptLoss");
    if (status != KITH_CLI_OK) return status;
    kith_status decoded =
        kith_codec_cluster_shard_decode(cli->reply.data, cli->reply.bytes, &cli->arena, &shard, &cli->err);
    if (decoded != KITH_OK) return kith_cli_broken(cli);
    if (cli->json) {
        kith_codec_cluster_shard_json(&shard, &cli->out);
        kith_buf_append_text(&cli->out, "\n");
        return KITH_CLI_OK;
    }
    kith_buf_append_format(&cli->out, "shard %u of \"%s\", epoch %llu, is on ", shard.index,
        arguments->collection, (unsigned long long)shard.epoch);
    kith_cli_append_replicas(&cli->out, &shard);
    kith_buf_append_text(&cli->out, "\n");
    return KITH_CLI_OK;
}

int kith_cli_cluster_accept_loss(kith_cli *cli) {
    loss_arguments arguments = {0};
    int status = arguments_take(cli, &arguments);
    if (status != KITH_CLI_OK) return status;
    return kith_cli_args_has(&cli->args, "--yes") ? accept(cli, &arguments) : preview(cli, &arguments);
}
