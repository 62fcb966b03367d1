/* The table of commands, and what happens around one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cli/cli_internal.h"

#define TIMEOUT_DEFAULT_S 60.0
#define TIMEOUT_MAX_S     86400.0

static const kith_cli_option no_options[] = {{NULL, NULL, NULL}};

static const kith_cli_option create_options[] = {
    {"--dim", "D", "components of a vector, 1..16384"},
    {"--metric", "METRIC", "l2, ip, cosine or l1"},
    {"--type", "TYPE", "how components are stored: f32 (default), f16, bf16 or i8"},
    {"--field", "NAME", "a named vector field; may be repeated"},
    {"--shards", "N", "shards, 1..4096 (default 1)"},
    {"--replicas", "N", "copies of each shard, 1..7 (default 1)"},
    {"--min-in-sync", "M",
        "copies in sync without which no write begins, 1..N (default: half of N, rounded up)"},
    {"--durability", "KIND",
        "a write is acknowledged once its copies are on disk: sync (default), or received: async"},
    {NULL, NULL, NULL},
};

static const kith_cli_option update_options[] = {
    {"--replicas", "N", "copies of each shard, 1..7"},
    {"--min-in-sync", "M", "copies in sync without which no write begins, 1..N"},
    {"--durability", "KIND", "a write is acknowledged once its copies are on disk: sync, or received: async"},
    {NULL, NULL, NULL},
};

static const kith_cli_option count_options[] = {
    {"--read", "KIND", "in-sync (default), primary, or any: whatever the copy that answers has"},
    {NULL, NULL, NULL},
};

static const kith_cli_option drop_options[] = {
    {"--missing-ok", NULL, "a collection that is not there is no error"},
    {NULL, NULL, NULL},
};

static const kith_cli_option load_options[] = {
    {"--payload", "FILE", "JSONL with one object (or null) for each vector"},
    {"--id-start", "N", "id of the first row where the file has no ids (default 0)"},
    {"--field", "NAME", "the vector field that bare vectors are for (default: the default field)"},
    {"--batch", "N", "points in one write, 1..65536 (default: up to 4096, or 4 MiB)"},
    {"--in-flight", "N", "writes under way at once, 1..256 (default 8)"},
    {"--retry", "SECONDS", "how long to repeat a write that the server can't take now (default 30)"},
    {NULL, NULL, NULL},
};

static const kith_cli_option search_options[] = {
    {"--file", "FILE", "queries: npy, fvecs, bvecs or JSONL"},
    {"--id", "ID", "search with the vector of this point"},
    {"--k", "K", "hits a query, 1..16384 (default 10)"},
    {"--field", "NAME", "vector field (default: the default field)"},
    {"--exact", NULL, "exact search, whatever the index"},
    {"--payload", NULL, "show payloads"},
    {"--strict", NULL, "fail where a shard does not answer, instead of answering without it"},
    {"--read", "KIND", "in-sync (default), primary, or any: whatever the copies that answer have"},
    {NULL, NULL, NULL},
};

static const kith_cli_option get_options[] = {
    {"--vectors", NULL, "show vectors"},
    {"--no-payload", NULL, "leave payloads out"},
    {"--read", "KIND", "in-sync (default), primary, or any: whatever the copies that answer have"},
    {NULL, NULL, NULL},
};

static const kith_cli_option delete_options[] = {
    {"--file", "FILE", "ids, one a line"},
    {NULL, NULL, NULL},
};

static const kith_cli_option scroll_options[] = {
    {"--from", "ID", "first id (default: the lowest)"},
    {"--limit", "N", "points at most (default 100; 0: all)"},
    {"--vectors", NULL, "show vectors"},
    {"--no-payload", NULL, "leave payloads out"},
    {"--read", "KIND", "in-sync (default), primary, or any: whatever the copies that answer have"},
    {NULL, NULL, NULL},
};

static const kith_cli_option drain_options[] = {
    {"--off", NULL, "it may get new shards again"},
    {NULL, NULL, NULL},
};

static const kith_cli_option accept_loss_options[] = {
    {"--node", "NODE", "whose copy counts from now on: a name, an id, or the beginning of one"},
    {"--yes", NULL, "do it; without it, say what would happen and exit 2"},
    {NULL, NULL, NULL},
};

static const kith_cli_option up_options[] = {
    {"--nodes", "N", "data nodes, 1..16 (default: those of the last start, else 3)"},
    {"--dir", "DIR", "folder of the cluster (default ./kith-cluster)"},
    {"--port", "PORT", "first of its ports (default: those of the last start, else what is free)"},
    {"--kithd", "FILE", "the daemon (default: beside kith)"},
    {NULL, NULL, NULL},
};

static const kith_cli_option certs_options[] = {
    {"--dir", "DIR", "where the files go (default ./kith-certs)"},
    {"--cluster", "NAME", "cluster_name of the nodes (default kith)"},
    {"--days", "N", "how long they are valid, 1..36500 (default 365; the CA ten times that)"},
    {NULL, NULL, NULL},
};

static const kith_cli_option bench_options[] = {
    {"--queries", "FILE", "npy, fvecs, bvecs or JSONL; used over and over"},
    {"--k", "K", "hits a query (default 10)"},
    {"--field", "NAME", "vector field (default: the default field)"},
    {"--exact", NULL, "exact search, whatever the index"},
    {"--connections", "N", "connections, each its own TCP connection (default 1)"},
    {"--in-flight", "N", "requests unanswered at a time on each connection (default 1; not with --rate)"},
    {"--batch", "B", "queries in one request (default 1)"},
    {"--seconds", "S", "how long (default 10)"},
    {"--requests", "R", "stop after this many requests instead"},
    {"--rate", "QPS", "open loop: queries a second, whether or not answers come"},
    {"--groundtruth", "FILE", "ivecs or npy of row numbers: measure recall"},
    {"--id-start", "N", "id of row 0 when it was loaded (default 0)"},
    {"--tie-tolerance", "T", "a hit as near as the k-th true one, within this share of its score, is right"},
    {NULL, NULL, NULL},
};

static const kith_cli_command commands[] = {
    {"create", "NAME", 1, 1, "make a collection", create_options,
        "--dim, --metric and --type before the first --field hold for all fields; behind a --field, for it.\n"
        "Creating the same collection again is no error; another one of that name is.\n\n"
        "  kith create photos --dim 512 --metric cosine\n"
        "  kith create docs --metric ip --field title --dim 384 --field body --dim 768 --type f16\n"
        "  kith create photos --dim 512 --metric cosine --shards 12 --replicas 3\n",
        kith_cli_create},
    {"list", "", 0, 0, "show the collections", no_options, "  kith list\n  kith list --json\n",
        kith_cli_list},
    {"describe", "NAME", 1, 1, "show one collection", no_options, "  kith describe photos\n",
        kith_cli_describe_run},
    {"update", "NAME", 1, 1, "change how a collection is replicated", update_options,
        "Copies are made and dropped in the background; kith cluster shards shows them.\n\n"
        "  kith update photos --replicas 3\n  kith update photos --min-in-sync 2\n"
        "  kith update photos --durability async\n",
        kith_cli_update},
    {"drop", "NAME", 1, 1, "delete a collection with all its points", drop_options,
        "Asks nothing. The name may be used again.\n\n  kith drop photos\n", kith_cli_drop},
    {"load", "NAME FILE", 2, 2, "write the points of a file", load_options,
        "FILE is .npy (2-D, C order: float16, float32, float64, int8, uint8), .fvecs, .bvecs, or .jsonl "
        "with\n"
        "{\"id\": 7, \"vector\": [..], \"vectors\": {\"field\": [..]}, \"payload\": {..}} a line. Ids in a "
        "file must "
        "be\ndistinct; points that are there already are replaced. Exits 0 only when every point is "
        "durable.\n\n"
        "  kith load photos base.fvecs --id-start 1000\n"
        "  kith load photos vectors.npy --payload names.jsonl\n"
        "  kith load docs points.jsonl --in-flight 16\n",
        kith_cli_load},
    {"search", "NAME", 1, 1, "find the nearest points", search_options,
        "With --id the point itself is among the hits. --json prints one object a query:\n"
        "{\"query\": 0, \"hits\": [{\"id\": 7, \"score\": 0.25, \"payload\": {..}}, ..],\n"
        " \"coverage\": {\"shards_total\": 4, \"shards_answered\": 4, \"missing\": []}}\n"
        "Where shards do not answer, a line on stderr says so, and the exit status is 4.\n\n"
        "  kith search photos --file queries.npy --k 10\n"
        "  kith search photos --id 42 --k 5 --payload --json\n",
        kith_cli_search},
    {"get", "NAME ID...", 2, KITH_CLI_ARGUMENTS_MAX, "show points", get_options,
        "An id of digits is a number; '\"42\"' in double quotes is the string. Exits 4 when some are not "
        "there.\n\n"
        "  kith get photos 1 2 3 --vectors\n  kith get photos 9b2e1e5c-0a55-4c0e-a3d1-0c8f2f9a7b11 --json\n",
        kith_cli_get},
    {"delete", "NAME [ID...]", 1, KITH_CLI_ARGUMENTS_MAX, "delete points", delete_options,
        "Ids as in kith get. Ids that are not there are no error.\n\n"
        "  kith delete photos 1 2 3\n  kith delete photos --file ids.txt\n",
        kith_cli_delete},
    {"count", "NAME", 1, 1, "count the points", count_options,
        "  kith count photos\n  kith count photos --json\n", kith_cli_count},
    {"scroll", "NAME", 1, 1, "show points in id order", scroll_options,
        "  kith scroll photos --limit 20\n  kith scroll photos --limit 0 --vectors --json > points.jsonl\n",
        kith_cli_scroll},
    {"status", "", 0, 0, "show whether the server serves, and what it holds", no_options,
        "Exits 1 when the server is up but not ready.\n\n  kith status\n  kith status --json\n",
        kith_cli_status},
    {"bench", "NAME", 1, 1, "measure search: latency, queries a second, recall", bench_options,
        "Closed loop: each connection sends its next request when it has the answer to the last. Open loop "
        "(--rate):\n"
        "requests leave on schedule, and latency counts from when one was due, so a slow server can't hide "
        "the\n"
        "waiting it causes. Recall compares ids with the first k of each ground truth row; with "
        "--tie-tolerance a\n"
        "hit that is as near as the k-th true neighbour counts too.\n\n"
        "  kith bench photos --queries q.fvecs --k 10 --groundtruth gt.ivecs --connections 16 --seconds 20\n"
        "  kith bench photos --queries q.npy --k 10 --rate 2000 --connections 64 --json\n",
        kith_cli_bench},
    {"cluster status", "", 0, 0, "show who coordinates, who is there and what is wrong", no_options,
        "Exits 1 when no coordinator leads, 4 when a node is down.\n\n"
        "  kith cluster status\n  kith cluster status --json\n",
        kith_cli_cluster_status},
    {"cluster nodes", "", 0, 0, "show the nodes and what they hold", no_options,
        "  kith cluster nodes\n  kith cluster nodes --json\n", kith_cli_cluster_nodes},
    {"cluster shards", "[NAME]", 0, 1, "show which node has which shard", no_options,
        "Of the collection NAME, else of all.\n\n"
        "  kith cluster shards photos\n  kith cluster shards --json\n",
        kith_cli_cluster_shards},
    {"cluster join", "HOST:PORT", 1, 1, "add a coordinator", no_options,
        "HOST:PORT is the node port of a kithd --role coordinator with an empty data_dir, whose "
        "`coordinators`\n"
        "names this cluster's. Data and query nodes join by themselves.\n\n"
        "  kith cluster join 10.0.0.4:7442\n",
        kith_cli_cluster_join},
    {"cluster leave", "NODE", 1, 1, "remove a node", no_options,
        "NODE is a name, an id, or the beginning of one. A coordinator leaves the others; any node is "
        "forgotten.\n"
        "Stop the node first: one that runs reports again. Refused while shards are on it.\n\n"
        "  kith cluster leave data-3\n",
        kith_cli_cluster_leave},
    {"cluster drain", "NODE", 1, 1, "move the shards of a data node to others", drain_options,
        "Answers at once with how many shards are left on it; repeat it, or look at kith cluster status, "
        "until there\n"
        "are none. Then kith cluster leave takes it out. A shard stays where no other node may hold it.\n\n"
        "  kith cluster drain data-3\n  kith cluster drain data-3 --off\n",
        kith_cli_cluster_drain},
    {"cluster accept-loss", "COLLECTION SHARD", 2, 2, "go on with a copy of a shard that may lack writes",
        accept_loss_options,
        "The last resort for a shard that nobody leads any more: every copy in sync is gone (a burnt disk), "
        "or all of\n"
        "them stopped without warning and the durability is async. Writes to it answer UNAVAILABLE for good; "
        "kith\n"
        "cluster shards shows that no copy in sync is up, or the answer to a write says that one may lack "
        "writes.\n"
        "While a node with a copy in sync can still be brought back, do that instead.\n"
        "\n"
        "The copy on NODE becomes the primary and the only one in sync; the others, also those that come "
        "back later,\n"
        "are overwritten by it. Acknowledged writes that only they had are lost for good. NODE must be up. "
        "Choose the\n"
        "one that was primary last, else the one that was in sync longest: it has the most. Whether the "
        "shard has a\n"
        "primary that leads is not checked: never use this on one that can be written.\n"
        "\n"
        "  kith cluster accept-loss photos 3 --node data-2\n"
        "  kith cluster accept-loss photos 3 --node data-2 --yes\n",
        kith_cli_cluster_accept_loss},
    {"cluster up", "", 0, 0, "start a cluster on this machine, for trying it out", up_options,
        "Starts three coordinators, N data nodes and a query node, each a process with a folder of its own "
        "under\n"
        "--dir, waits until they are ready, and runs until Ctrl-C, which stops all of them. Started again on "
        "the\n"
        "same folder it goes on with the same data. Listens on 127.0.0.1 only.\n\n"
        "  kith cluster up --nodes 3\n"
        "  kith cluster up --dir /tmp/try --port 9000\n",
        kith_cli_cluster_up},
    {"cluster certs", "NAME[=UUID]...", 1, KITH_CLI_ARGUMENTS_MAX,
        "make the certificates by which nodes know each other", certs_options,
        "Makes ca.crt and ca.key, if they are not there, and NAME.crt and NAME.key for each NAME. A "
        "certificate\n"
        "with the node's UUID (its data_dir/node_id) is good for that node alone. Keep ca.key off the nodes; "
        "each\n"
        "gets ca.crt and its own two files, in node_ca_file, node_cert_file and node_key_file.\n\n"
        "  kith cluster certs coordinator-1 coordinator-2 coordinator-3 data-1 data-2 query-1\n",
        kith_cli_cluster_certs},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

static int set_global_options(kith_cli *cli) {
    const char *server = getenv("KITH_SERVER");
    double timeout_s;
    cli->server = kith_cli_args_text(&cli->args, "--server", server && *server ? server : "127.0.0.1:7441");
    cli->json = kith_cli_args_has(&cli->args, "--json");
    if (!kith_cli_args_f64(&cli->args, "--timeout", TIMEOUT_DEFAULT_S, 0.001, TIMEOUT_MAX_S, &timeout_s))
        return KITH_CLI_USAGE;
    cli->timeout_ms = (uint64_t)(timeout_s * 1000);
    return KITH_CLI_OK;
}

static int run_command(kith_cli *cli) {
    int status = set_global_options(cli);
    if (status != KITH_CLI_OK) return status;
    if (kith_env_posix_create(&cli->env, &cli->err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_REFUSED, "%s", cli->err.text);
    kith_arena_init(&cli->arena);
    kith_buf_init(&cli->request);
    kith_buf_init(&cli->reply);
    kith_buf_init(&cli->out);
    status = cli->args.command->run(cli);
    int flushed = kith_cli_flush(cli);
    kith_grpc_client_destroy(cli->client);
    kith_buf_fini(&cli->out);
    kith_buf_fini(&cli->reply);
    kith_buf_fini(&cli->request);
    kith_arena_fini(&cli->arena);
    kith_env_posix_destroy(cli->env);
    return status != KITH_CLI_OK ? status : flushed;
}

int kith_cli_main(int argc, char **argv) {
    static kith_cli cli; /* too large for a stack; one command a process */
    if (kith_cli_args_parse(argc, argv, commands, &cli.args, &cli.err) != KITH_OK)
        return kith_cli_fail(KITH_CLI_USAGE, "%s", cli.err.text);
    if (!cli.args.command) {
        kith_cli_help(commands, cli.args.group);
        return cli.args.help ? KITH_CLI_OK : KITH_CLI_USAGE;
    }
    if (cli.args.help) {
        kith_cli_command_help(cli.args.command);
        return KITH_CLI_OK;
    }
    return run_command(&cli);
}
