/* cluster up: starts the nodes of a cluster on this machine, waits until they are ready, stops them when asked to.
 *
 * Each is in a process group of its own, so that Ctrl-C reaches this process alone, which then stops them in order: the
 * query node first, the coordinators last. Should this process be killed, the kernel stops them. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/base/thread.h"
#include "host/cli/cli_cluster_local.h"
#include "host/codec/codec_cluster_api.h"

#define MS_NS           UINT64_C(1000000)
#define LOOK_NS         (50 * MS_NS) /* between two looks at the children and at signals */
#define STATUS_MS       2000u        /* a coordinator that does not answer takes the query node 1 s */
#define START_NS        (60000 * MS_NS)
#define STOP_NS         (30000 * MS_NS) /* above the time that kithd gives calls in flight */
#define EXEC_FAILED     127
#define LOG_LINE_BYTES  512u
#define ENVIRONMENT_MAX 4096u

extern char **environ;

/* Signals that asked for the end. A handler has no other way to tell. */
static volatile sig_atomic_t stops_asked;

/* A terminal that goes away hangs up more than once. */
static void stop_asked(int number) {
    if (number != SIGHUP || !stops_asked) stops_asked++;
}

typedef struct up {
    kith_cli *cli;
    cli_local *local;
    const char *kithd;
    uint64_t began_wall_ms;
    const char *environment[ENVIRONMENT_MAX + 1];
    kith_mutex mutex; /* to wait with a limit; nobody else takes it */
    kith_cond never;
    bool told;        /* a line of progress stands on the terminal */
    uint32_t awaited; /* nodes that must become ready */
    char problem[KITH_ERR_BYTES_MAX];
} up;

static void pause_for(up *own, uint64_t wait_ns) {
    kith_mutex_lock(&own->mutex);
    (void)kith_cond_wait_for(&own->never, &own->mutex, wait_ns);
    kith_mutex_unlock(&own->mutex);
}

/* --- processes --- */

/* Keys of the configuration may be in the environment: those of a server are not these nodes'. */
static void environment_make(up *own) {
    uint32_t count = 0;
    for (char **variable = environ; *variable && count < ENVIRONMENT_MAX; variable++) {
        if (strncmp(*variable, "KITH_", 5) != 0) own->environment[count++] = *variable;
    }
    own->environment[count] = NULL;
}

/* After fork: only what is safe with the other threads gone. */
static void child_run(const up *own, const char *config, int null_fd, int log_fd, pid_t parent) {
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(EXEC_FAILED);
    (void)signal(SIGPIPE, SIG_DFL);
    bool ready = dup2(null_fd, STDIN_FILENO) >= 0 && dup2(log_fd, STDOUT_FILENO) >= 0 &&
                 dup2(log_fd, STDERR_FILENO) >= 0;
    const char *arguments[] = {own->kithd, "--config", config, NULL};
    if (ready) execve(own->kithd, (char *const *)arguments, (char *const *)own->environment);
    _exit(EXEC_FAILED);
}

static int node_start(up *own, cli_local_node *node) {
    char config[CLI_LOCAL_PATH_BYTES], log_path[CLI_LOCAL_PATH_BYTES];
    cli_local_path(own->local, node, "kith.conf", config);
    cli_local_path(own->local, node, "kithd.log", log_path);
    FILE *log = fopen(log_path, "ae"), *null = fopen("/dev/null", "re");
    pid_t parent = getpid();
    pid_t pid = log && null ? fork() : -1;
    if (pid == 0) child_run(own, config, fileno(null), fileno(log), parent);
    int error = errno;
    if (log) fclose(log);
    if (null) fclose(null);
    if (pid < 0) return kith_cli_fail(KITH_CLI_REFUSED, "cannot start %s: %s", node->name, strerror(error));
    node->pid = pid;
    return KITH_CLI_OK;
}

/* The last line of its log: why it ended, most likely. */
static void log_last(const up *own, const cli_local_node *node, char line_out[LOG_LINE_BYTES]) {
    char path[CLI_LOCAL_PATH_BYTES], line[LOG_LINE_BYTES];
    cli_local_path(own->local, node, "kithd.log", path);
    line_out[0] = 0;
    FILE *file = fopen(path, "re");
    if (!file) return;
    while (fgets(line, sizeof line, file))
        memcpy(line_out, line, sizeof line);
    line_out[strcspn(line_out, "\n")] = 0;
    fclose(file);
}

static void end_tell(const up *own, const cli_local_node *node) {
    char why[64], line[LOG_LINE_BYTES], path[CLI_LOCAL_PATH_BYTES];
    if (WIFSIGNALED(node->ended))
        snprintf(why, sizeof why, "was ended by signal %d", WTERMSIG(node->ended));
    else
        snprintf(why, sizeof why, "ended with status %d", WEXITSTATUS(node->ended));
    log_last(own, node, line);
    cli_local_path(own->local, node, "kith.conf", path);
    if (WIFEXITED(node->ended) && WEXITSTATUS(node->ended) == EXEC_FAILED)
        fprintf(stderr, "%s: %s cannot be run; name the daemon with --kithd\n", node->name, own->kithd);
    else
        fprintf(
            stderr, "%s %s: %s\n  start it again: %s --config %s\n", node->name, why, line, own->kithd, path);
}

/* Takes in who has ended; tells of it if `tells`. How many. */
static uint32_t children_look(up *own, bool tells) {
    uint32_t ended_count = 0;
    for (uint32_t i = 0; i < own->local->node_count; i++) {
        cli_local_node *node = &own->local->nodes[i];
        if (!node->pid || waitpid(node->pid, &node->ended, WNOHANG) != node->pid) continue;
        node->pid = 0;
        ended_count++;
        if (tells) end_tell(own, node);
    }
    return ended_count;
}

static uint32_t running_count(const cli_local *local, kith_node_role role) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < local->node_count; i++)
        count += local->nodes[i].pid && local->nodes[i].role == role;
    return count;
}

static void role_signal(const cli_local *local, kith_node_role role, int number) {
    for (uint32_t i = 0; i < local->node_count; i++) {
        if (local->nodes[i].pid && local->nodes[i].role == role) (void)kill(local->nodes[i].pid, number);
    }
}

/* Whoever asks again does not want to wait. */
static void role_stop(up *own, kith_node_role role) {
    uint64_t until_ns = kith_env_now_ns(own->cli->env) + STOP_NS;
    bool killed = false;
    role_signal(own->local, role, SIGTERM);
    while (running_count(own->local, role)) {
        (void)children_look(own, false);
        bool late = kith_env_now_ns(own->cli->env) > until_ns || stops_asked > 1;
        if (late && !killed) role_signal(own->local, role, SIGKILL);
        killed |= late;
        if (running_count(own->local, role)) pause_for(own, LOOK_NS);
    }
}

static void all_stop(up *own) {
    role_stop(own, KITH_NODE_QUERY);
    role_stop(own, KITH_NODE_DATA);
    role_stop(own, KITH_NODE_COORDINATOR);
}

/* --- until it is ready --- */

/* This life of the node has told the leader that all is well with it. */
static bool is_ready(const up *own, const kith_codec_coordinator_node *node) {
    const kith_codec_heartbeat *said = &node->heartbeat;
    return !said->node.down && said->started_wall_ms >= own->began_wall_ms && strcmp(said->health, "ok") == 0;
}

/* One that has left the others, or has yet to join them, does not become ready, and nobody needs it. */
static bool is_awaited(const cli_local_node *node, const kith_codec_cluster_status *cluster) {
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", node->node_port);
    bool found = node->role != KITH_NODE_COORDINATOR;
    for (uint32_t i = 0; i < cluster->member_count && !found; i++)
        found = strcmp(cluster->members[i].address, address) == 0;
    return found;
}

static uint32_t ready_count(up *own, const kith_codec_cluster_status *cluster) {
    uint32_t count = 0;
    snprintf(own->problem, sizeof own->problem, "%s", cluster->problem);
    if (cluster->problem[0]) return 0;
    own->awaited = 0;
    for (uint32_t i = 0; i < own->local->node_count; i++)
        own->awaited += is_awaited(&own->local->nodes[i], cluster);
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        const kith_codec_heartbeat *said = &cluster->nodes[i].heartbeat;
        if (is_ready(own, &cluster->nodes[i]))
            count++;
        else
            snprintf(own->problem, sizeof own->problem, "%s: %.300s", said->node.name, said->health);
    }
    return count;
}

/* How many nodes are ready, as the query node has it from the leader. */
static uint32_t cluster_look(up *own) {
    kith_cli *cli = own->cli;
    kith_codec_cluster_status cluster;
    char target[32];
    uint32_t count = 0;
    snprintf(target, sizeof target, "127.0.0.1:%u", cli_local_query(own->local)->grpc_port);
    kith_grpc_client *client;
    kith_status status = kith_grpc_client_create(target, 1, &client, &cli->err);
    if (status != KITH_OK) return 0;
    status = kith_grpc_client_connect(client, STATUS_MS, &cli->err);
    kith_arena_reset(&cli->arena);
    if (status == KITH_OK) {
        kith_grpc_request request = {.method = "/kith.v1.Cluster/Status", .timeout_ms = 2 * STATUS_MS};
        bool answered = kith_grpc_client_call(client, &request, &cli->reply) == KITH_GRPC_OK;
        if (answered && kith_codec_cluster_status_decode(
                            cli->reply.data, cli->reply.bytes, &cli->arena, &cluster, &cli->err) == KITH_OK)
            count = ready_count(own, &cluster);
    }
    kith_grpc_client_destroy(client);
    return count;
}

static void progress_show(up *own, uint32_t count) {
    if (isatty(STDERR_FILENO) != 1) return;
    fprintf(stderr, "\rstarting: %u of %u nodes are ready \x1b[K", count, own->awaited);
    own->told = true;
}

static void progress_end(up *own) {
    if (own->told) fputs("\r\x1b[K", stderr);
    own->told = false;
}

static int ready_await(up *own) {
    uint64_t until_ns = kith_env_now_ns(own->cli->env) + START_NS;
    uint32_t count = 0;
    own->awaited = own->local->node_count;
    for (;;) {
        progress_show(own, count);
        bool ended = children_look(own, false) > 0;
        if (!ended && !stops_asked) count = cluster_look(own);
        bool over =
            ended || stops_asked || count >= own->awaited || kith_env_now_ns(own->cli->env) > until_ns;
        if (over) break;
        pause_for(own, LOOK_NS);
    }
    progress_end(own);
    if (stops_asked || count >= own->awaited) return KITH_CLI_OK;
    for (uint32_t i = 0; i < own->local->node_count; i++) {
        if (!own->local->nodes[i].pid) end_tell(own, &own->local->nodes[i]);
    }
    return kith_cli_fail(KITH_CLI_REFUSED, "the cluster did not start: %u of %u nodes became ready%s%s",
        count, own->awaited, own->problem[0] ? "; " : "", own->problem);
}

/* --- what to say when it is --- */

static void append_nodes_json(kith_buf *out, const cli_local *local) {
    char path[CLI_LOCAL_PATH_BYTES];
    for (uint32_t i = 0; i < local->node_count; i++) {
        const cli_local_node *node = &local->nodes[i];
        kith_cli_json_key(out, NULL);
        kith_buf_append_text(out, "{");
        kith_cli_json_text(out, "name", node->name);
        kith_cli_json_text(out, "role", kith_node_role_name(node->role));
        kith_cli_json_u64(out, "pid", (uint64_t)node->pid);
        kith_cli_json_u64(out, "http_port", node->http_port);
        kith_cli_json_u64(out, "node_port", node->node_port);
        cli_local_path(local, node, "kith.conf", path);
        kith_cli_json_text(out, "config", path);
        cli_local_path(local, node, "kithd.log", path);
        kith_cli_json_text(out, "log", path);
        kith_buf_append_text(out, "}");
    }
}

static void ready_tell_json(kith_buf *out, cli_local *local) {
    char address[32];
    kith_buf_append_text(out, "{");
    snprintf(address, sizeof address, "127.0.0.1:%u", cli_local_query(local)->grpc_port);
    kith_cli_json_text(out, "grpc_address", address);
    snprintf(address, sizeof address, "127.0.0.1:%u", cli_local_query(local)->http_port);
    kith_cli_json_text(out, "http_address", address);
    kith_cli_json_text(out, "dir", local->dir);
    kith_cli_json_key(out, "nodes");
    kith_buf_append_text(out, "[");
    append_nodes_json(out, local);
    kith_buf_append_text(out, "]}\n");
}

static void append_nodes_table(kith_buf *out, const cli_local *local) {
    kith_cli_table table;
    kith_cli_table_init(&table, "<><<");
    static const char *const heads[] = {"NODE", "PID", "HTTP", "NODE PORT"};
    for (uint32_t i = 0; i < 4; i++)
        kith_cli_table_cell(&table, "%s", heads[i]);
    for (uint32_t i = 0; i < local->node_count; i++) {
        const cli_local_node *node = &local->nodes[i];
        kith_cli_table_cell(&table, "%s", node->name);
        kith_cli_table_cell(&table, "%d", (int)node->pid);
        kith_cli_table_cell(&table, "127.0.0.1:%u", node->http_port);
        kith_cli_table_cell(&table, "127.0.0.1:%u", node->node_port);
    }
    kith_cli_table_fini(&table, out);
}

static void ready_tell_text(kith_buf *out, cli_local *local) {
    const cli_local_node *query = cli_local_query(local);
    kith_buf_append_format(out, "The cluster %s, in %s:\n\n", local->is_new ? "runs" : "goes on", local->dir);
    append_nodes_table(out, local);
    kith_buf_append_format(out,
        "\nClients: gRPC 127.0.0.1:%u, HTTP http://127.0.0.1:%u\n\nIn another terminal:\n\n"
        "  export KITH_SERVER=127.0.0.1:%u\n"
        "  kith cluster status\n"
        "  kith create demo --dim 4 --metric l2 --shards %u\n"
        "  kith cluster shards demo\n"
        "  kill %d; kith cluster status     # a data node is lost\n\n"
        "Ctrl-C stops it; what it keeps stays in the folder.\n",
        query->grpc_port, query->http_port, query->grpc_port, 2 * local->data_node_count,
        (int)local->nodes[CLI_LOCAL_COORDINATORS].pid);
}

static int ready_tell(up *own) {
    if (own->cli->json)
        ready_tell_json(&own->cli->out, own->local);
    else
        ready_tell_text(&own->cli->out, own->local);
    return kith_cli_flush(own->cli);
}

/* --- from start to stop --- */

static void signals_take(void) {
    struct sigaction action = {.sa_handler = stop_asked};
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

static bool any_runs(const cli_local *local) {
    for (uint32_t i = 0; i < local->node_count; i++) {
        if (local->nodes[i].pid) return true;
    }
    return false;
}

static int run(up *own) {
    int status = KITH_CLI_OK;
    for (uint32_t i = 0; i < own->local->node_count && status == KITH_CLI_OK; i++)
        status = node_start(own, &own->local->nodes[i]);
    if (status == KITH_CLI_OK) status = ready_await(own);
    if (status == KITH_CLI_OK && !stops_asked) status = ready_tell(own);
    while (status == KITH_CLI_OK && !stops_asked && any_runs(own->local)) {
        (void)children_look(own, true);
        pause_for(own, LOOK_NS);
    }
    if (!own->cli->json && any_runs(own->local)) fputs("stopping\n", stderr);
    all_stop(own);
    return status;
}

/* Beside this program. False: it cannot be said where that is. */
static bool kithd_find(char path_out[PATH_MAX]) {
    static const char name[] = "kithd";
    ssize_t bytes = readlink("/proc/self/exe", path_out, PATH_MAX - sizeof name);
    if (bytes <= 0) return false;
    path_out[bytes] = 0;
    char *slash = strrchr(path_out, '/');
    if (!slash) return false;
    memcpy(slash + 1, name, sizeof name);
    return true;
}

int kith_cli_cluster_up(kith_cli *cli) {
    static cli_local local; /* too large for a stack; one command a process */
    static up own;
    char kithd[PATH_MAX];
    uint64_t nodes, port;
    if (!kith_cli_args_u64(&cli->args, "--nodes", 0, 1, CLI_LOCAL_DATA_NODES_MAX, &nodes) ||
        !kith_cli_args_u64(&cli->args, "--port", 0, 1, 65535, &port))
        return KITH_CLI_USAGE;
    own = (up){.cli = cli, .local = &local, .began_wall_ms = kith_env_wall_ms(cli->env)};
    own.kithd = kith_cli_args_text(&cli->args, "--kithd", kithd_find(kithd) ? kithd : "kithd");
    if (access(own.kithd, X_OK) != 0)
        return kith_cli_fail(
            KITH_CLI_USAGE, "%s cannot be run: %s; name the daemon with --kithd", own.kithd, strerror(errno));
    int status = cli_local_open(cli, kith_cli_args_text(&cli->args, "--dir", "./kith-cluster"),
        (uint32_t)nodes, (uint32_t)port, &local);
    if (status != KITH_CLI_OK) return status;
    kith_mutex_init(&own.mutex, KITH_RANK_LOG);
    kith_cond_init(&own.never);
    signals_take();
    environment_make(&own);
    status = run(&own);
    kith_cond_fini(&own.never);
    kith_mutex_fini(&own.mutex);
    cli_local_close(&local);
    return status;
}
