/* Nodes of a cluster in this process, each a whole service with its folder: real files, real transport on loopback. */
#ifndef KITH_TESTS_UNIT_ROLE_CLUSTER_FIXTURE_H
#define KITH_TESTS_UNIT_ROLE_CLUSTER_FIXTURE_H

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/codec/codec_client.h"
#include "host/grpc/grpc_client.h"
#include "host/role/service.h"
#include "tests/lib/test_lib.h"

#define CLUSTER_NODES 6u
#define CLUSTER_WAIT_NS                                                                                      \
    UINT64_C(60000000000)          /* until a test is taken to hang: of a busy machine, with sanitizers */
#define CLUSTER_PAUSE_NS 10000000L /* between two looks */
#define CLUSTER_CALL_MS  20000u
#define CLUSTER_DIM      4u

typedef struct cluster {
    kith_env *env;
    char *dir;
    char coordinators[256];
    kith_config configs[CLUSTER_NODES];
    kith_service *services[CLUSTER_NODES]; /* NULL: it does not run */
    uint32_t count;
    kith_arena arena;
    char text[4096]; /* of the last answer */
} cluster;

/* A port that was free a moment ago, below those that the kernel gives to connections; programs that begin one after the
 * other look far from each other. */
static uint32_t port_take(void) {
    static uint32_t next;
    if (!next) next = 10000 + (uint32_t)getpid() * 151 % 9000;
    for (;; next++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)next)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int handle = socket(AF_INET, SOCK_STREAM, 0);
        bool is_free = bind(handle, (struct sockaddr *)&address, sizeof address) == 0;
        close(handle);
        if (is_free) return next++;
    }
}

static kith_config *node_config(cluster *all, kith_config_role role, uint32_t node_port) {
    kith_config *config = &all->configs[all->count];
    kith_config_defaults(config);
    config->role = role;
    snprintf(config->data_dir, sizeof config->data_dir, "%s/%u", all->dir, all->count);
    snprintf(config->coordinators, sizeof config->coordinators, "%s", all->coordinators);
    snprintf(config->bind_address, sizeof config->bind_address, "127.0.0.1");
    config->grpc_port = config->http_port = 0;
    config->node_port = node_port;
    config->grpc_threads = config->search_threads = config->background_threads = 1;
    config->compute_backend = KITH_CONFIG_COMPUTE_BACKEND_CPU;
    config->disk_reserve_bytes = 0;
    config->heartbeat_ms = 100;
    config->heartbeat_timeout_ms = 2000;
    config->node_ping_timeout_ms = 10000;
    all->count++;
    return config;
}

/* `coordinator_count` of them, then one data node and one query node; none runs. */
static void cluster_setup(cluster *all, uint32_t coordinator_count) {
    kith_err err;
    uint32_t ports[CLUSTER_NODES];
    *all = (cluster){.count = 0};
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    kith_arena_init(&all->arena);
    all->dir = test_dir_make();
    assert_ok(kith_env_posix_create(&all->env, &err), &err);
    for (uint32_t i = 0; i < coordinator_count; i++) {
        ports[i] = port_take();
        size_t bytes = strlen(all->coordinators);
        snprintf(all->coordinators + bytes, sizeof all->coordinators - bytes, "%s127.0.0.1:%u", i ? ", " : "",
            ports[i]);
    }
    for (uint32_t i = 0; i < coordinator_count; i++)
        node_config(all, KITH_CONFIG_ROLE_COORDINATOR, ports[i]);
    node_config(all, KITH_CONFIG_ROLE_DATA, port_take());
    node_config(all, KITH_CONFIG_ROLE_QUERY, port_take());
}

static uint32_t data_of(const cluster *all) {
    return all->count - 2;
}

static uint32_t query_of(const cluster *all) {
    return all->count - 1;
}

static void node_start(cluster *all, uint32_t index) {
    kith_err err;
    assert_null(all->services[index]);
    assert_ok(kith_service_start(all->env, &all->configs[index], &all->services[index], &err), &err);
}

static void node_stop(cluster *all, uint32_t index) {
    kith_service *service = all->services[index];
    if (service) service->ops->stop(service, 2000000000);
    all->services[index] = NULL;
}

static void cluster_teardown(cluster *all) {
    for (uint32_t i = all->count; i-- > 0;)
        node_stop(all, i);
    kith_env_posix_destroy(all->env);
    test_dir_remove(all->dir);
    kith_arena_fini(&all->arena);
}

static kith_service_ports ports_of(const cluster *all, uint32_t index) {
    return all->services[index]->ops->ports(all->services[index]);
}

/* --- /readyz --- */

/* Its status code; the body is in `text`. */
static int ready_ask(cluster *all, uint32_t index) {
    char answer[4096] = "";
    const char *request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)ports_of(all, index).http)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int handle = socket(AF_INET, SOCK_STREAM, 0), code = 0;
    assert_int_equal(connect(handle, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(handle, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    size_t bytes = 0;
    ssize_t got;
    while ((got = recv(handle, answer + bytes, sizeof answer - 1 - bytes, 0)) > 0)
        bytes += (size_t)got;
    close(handle);
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &code), 1);
    const char *body = strstr(answer, "\r\n\r\n");
    snprintf(all->text, sizeof all->text, "%s", body ? body + 4 : "");
    return code;
}

static void pause_short(void) {
    nanosleep(&(struct timespec){.tv_nsec = CLUSTER_PAUSE_NS}, NULL);
}

/* Until /readyz answers `code` with `part` in its text. */
static void ready_wait(cluster *all, uint32_t index, int code, const char *part) {
    uint64_t end_ns = kith_env_now_ns(all->env) + CLUSTER_WAIT_NS;
    int answered = ready_ask(all, index);
    while (answered != code || !strstr(all->text, part)) {
        if (kith_env_now_ns(all->env) > end_ns)
            fail_msg("node %u answers %d %s, not %d with \"%s\"", index, answered, all->text, code, part);
        pause_short();
        answered = ready_ask(all, index);
    }
}

static void all_ready_wait(cluster *all) {
    for (uint32_t i = 0; i < all->count; i++)
        if (all->services[i]) ready_wait(all, i, 200, "ok");
}

static void cluster_start(cluster *all) {
    for (uint32_t i = 0; i < all->count; i++)
        node_start(all, i);
    all_ready_wait(all);
}

/* --- a client of the query node --- */

/* The gRPC code; the message is in `text`, the reply appended to `reply_out`. */
static int client_call(
    cluster *all, uint32_t index, const char *method, const kith_buf *request, kith_buf *reply_out) {
    char target[64];
    kith_err err;
    kith_grpc_client *client;
    snprintf(target, sizeof target, "127.0.0.1:%u", ports_of(all, index).grpc);
    assert_ok(kith_grpc_client_create(target, 1, &client, &err), &err);
    kith_grpc_request call = {
        .method = method, .data = request->data, .bytes = request->bytes, .timeout_ms = CLUSTER_CALL_MS};
    int code = kith_grpc_client_call(client, &call, reply_out);
    if (code)
        snprintf(all->text, sizeof all->text, "%.*s", (int)reply_out->bytes, (const char *)reply_out->data);
    kith_grpc_client_destroy(client);
    return code;
}

static int create(cluster *all, const char *name, uint32_t shard_count) {
    kith_buf request, reply;
    kith_collection wish = {.shard_count = shard_count};
    wish.schema = (kith_schema){
        .field_count = 1, .fields = {{.dim = CLUSTER_DIM, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
    kith_buf_init(&request);
    kith_buf_init(&reply);
    kith_codec_client_create_encode(name, &wish, &request);
    int code = client_call(all, query_of(all), "/kith.v1.Collections/Create", &request, &reply);
    kith_buf_fini(&request);
    kith_buf_fini(&reply);
    return code;
}

static int drop(cluster *all, const char *name) {
    kith_buf request, reply;
    kith_buf_init(&request);
    kith_buf_init(&reply);
    kith_codec_client_drop_encode(name, false, &request);
    int code = client_call(all, query_of(all), "/kith.v1.Collections/Delete", &request, &reply);
    kith_buf_fini(&request);
    kith_buf_fini(&reply);
    return code;
}

/* Points `first`.., each with its number in every component. */
static int upsert(cluster *all, const char *name, uint64_t first, uint32_t count) {
    kith_id ids[256];
    float values[256 * CLUSTER_DIM];
    kith_buf request, reply;
    assert_true(count <= 256);
    for (uint32_t i = 0; i < count * CLUSTER_DIM; i++)
        values[i] = (float)(first + i / CLUSTER_DIM);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = kith_id_of_number(first + i);
    kith_codec_client_column column = {.field = "", .dim = CLUSTER_DIM, .row_count = count, .values = values};
    kith_codec_client_upsert upsert = {
        .collection = name, .ids = ids, .point_count = count, .columns = &column, .column_count = 1};
    kith_env_random(all->env, upsert.request_id.client, sizeof upsert.request_id.client);
    kith_buf_init(&request);
    kith_buf_init(&reply);
    kith_codec_client_upsert_encode(&upsert, &request);
    int code = client_call(all, query_of(all), "/kith.v1.Points/Upsert", &request, &reply);
    kith_buf_fini(&request);
    kith_buf_fini(&reply);
    return code;
}

/* Ids of the nearest of `wanted` are `wanted` itself where it is there. -1: an error, told in `text`. */
static int64_t nearest(cluster *all, const char *name, uint64_t wanted) {
    float query[CLUSTER_DIM] = {(float)wanted, (float)wanted, (float)wanted, (float)wanted};
    kith_buf request, reply;
    kith_err err;
    kith_codec_client_hits hits;
    int64_t found = -1;
    kith_buf_init(&request);
    kith_buf_init(&reply);
    kith_codec_client_search_encode(&(kith_codec_client_search){.collection = name,
                                        .field = "",
                                        .queries = query,
                                        .query_count = 1,
                                        .dim = CLUSTER_DIM,
                                        .k = 1,
                                        .strict = true},
        &request);
    int code = client_call(all, query_of(all), "/kith.v1.Points/Search", &request, &reply);
    if (code == 0) {
        assert_ok(kith_codec_client_search_decode(reply.data, reply.bytes, &all->arena, &hits, &err), &err);
        snprintf(all->text, sizeof all->text, "%u hits", hits.hit_count);
        if (hits.hit_count) found = (int64_t)hits.ids[0].number;
    }
    kith_buf_fini(&request);
    kith_buf_fini(&reply);
    kith_arena_reset(&all->arena);
    return found;
}

/* --- files --- */

static char *path_of(cluster *all, uint32_t index, const char *name) {
    static char path[KITH_CONFIG_TEXT_BYTES_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", all->configs[index].data_dir, name);
    return path;
}

static void file_move(cluster *all, uint32_t index, const char *from, const char *to) {
    kith_err err;
    char source[KITH_CONFIG_TEXT_BYTES_MAX + 64];
    snprintf(source, sizeof source, "%s", path_of(all, index, from));
    assert_ok(kith_path_rename(all->env, source, path_of(all, index, to), &err), &err);
}

/* A test program uses some of them. */
#define CLUSTER_UNUSED                                                                                       \
    ((void)cluster_setup, (void)cluster_teardown, (void)cluster_start, (void)data_of, (void)create,          \
        (void)drop, (void)upsert, (void)nearest, (void)path_of, (void)file_move)

#endif
