/* What the HTTP server says, over plain sockets. */
#include "tests/lib/test_lib.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/api/api_cluster.h"
#include "host/base/thread.h"
#include "host/http/http_server.h"

/* Stands in for host/api. */
struct kith_api {
    kith_status ready;
    kith_status refuse; /* cluster calls at once, with this */
    bool hold;          /* cluster calls wait in `held` */
    char asked[256];
    /* Guarded: the server's thread asks, a test answers. */
    kith_mutex mutex;
    kith_cond asked_one;
    kith_api_cluster_call *held[64];
    uint32_t held_count;
};

kith_status kith_api_ready(kith_api *api, kith_err *err) {
    return api->ready == KITH_OK ? KITH_OK : kith_err_set(err, api->ready, "recovering: 3 of 8 shards");
}

static kith_api api;
static char answer[64 << 10];

static void cluster_answer(kith_api_cluster_call *call) {
    static const kith_codec_coordinator_node node = {.heartbeat = {.node = {.name = "n1"}, .health = "ok"}};
    static const kith_codec_cluster_status cluster = {
        .map_version = 8, .leader_address = "", .problem = "", .nodes = &node, .node_count = 1};
    static const kith_codec_cluster_shards shards = {.map_version = 9};
    static const kith_codec_cluster_join join = {.joined = true};
    static const kith_codec_cluster_replica replica = {.name = "n1", .up = true, .in_sync = true};
    static const kith_codec_cluster_shard shard = {
        .id = 7, .index = 2, .epoch = 5, .replica_count = 1, .replicas = &replica};
    kith_api_cluster_answer result = {0};
    switch (api.asked[0]) {
    case 's':
        result.status = &cluster;
        break;
    case 'p':
        result.shards = &shards;
        break;
    case 'j':
        result.join = &join;
        break;
    case 'a':
        result.shard = &shard;
        break;
    default:
        result.node = &node;
    }
    call->done(call, KITH_OK, &result, NULL);
}

static kith_status cluster_start(const char *what, kith_api_cluster_call *call, kith_err *err) {
    snprintf(api.asked, sizeof api.asked, "%s %.100s draining=%d", what, call->text, call->draining);
    if (api.refuse != KITH_OK) return kith_err_set(err, api.refuse, "refused \"%.100s\"", call->text);
    if (!api.hold) {
        cluster_answer(call);
        return KITH_OK;
    }
    kith_mutex_lock(&api.mutex);
    api.held[api.held_count++] = call;
    kith_cond_signal(&api.asked_one);
    kith_mutex_unlock(&api.mutex);
    return KITH_OK;
}

kith_status kith_api_cluster_status(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    (void)own;
    return cluster_start("status", call, err);
}

kith_status kith_api_cluster_shards(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    (void)own;
    return cluster_start("places", call, err);
}

kith_status kith_api_cluster_join(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    (void)own;
    return cluster_start("join", call, err);
}

kith_status kith_api_cluster_leave(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    (void)own;
    return cluster_start("leave", call, err);
}

kith_status kith_api_cluster_drain(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    (void)own;
    return cluster_start("drain", call, err);
}

kith_status kith_api_cluster_accept_loss(kith_api *own, kith_api_cluster_call *call, kith_err *err) {
    char what[160];
    (void)own;
    snprintf(what, sizeof what, "accept %u %.100s", call->shard, call->node);
    return cluster_start(what, call, err);
}

bool kith_api_refresh_start(kith_api *own, kith_api_refresh *refresh) {
    (void)own;
    (void)refresh;
    return false;
}

static void held_await(uint32_t count) {
    kith_mutex_lock(&api.mutex);
    while (api.held_count < count)
        kith_cond_wait(&api.asked_one, &api.mutex);
    kith_mutex_unlock(&api.mutex);
}

static void print_metrics(void *ctx, kith_buf *buf) {
    kith_buf_append_format(buf, "kith_test %d\n", *(int *)ctx);
}

static kith_http_server *start(kith_http_server_options options) {
    kith_http_server *server;
    kith_err err;
    options.api = &api;
    options.bind_address = "127.0.0.1";
    api.ready = api.refuse = KITH_OK;
    api.hold = false;
    api.held_count = 0;
    assert_ok(kith_http_server_start(&options, &server, &err), &err);
    return server;
}

static int dial(const kith_http_server *server) {
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)kith_http_server_port(server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval wait = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Reads until the server closes. */
static void read_all(int fd) {
    size_t used = 0;
    ssize_t bytes;
    while ((bytes = read(fd, answer + used, sizeof answer - 1 - used)) > 0)
        used += (size_t)bytes;
    answer[used] = 0;
}

/* One request on a connection of its own; returns the code. */
static int ask(const kith_http_server *server, const char *request) {
    int fd = dial(server), code = 0;
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    read_all(fd);
    close(fd);
    (void)sscanf(answer, "HTTP/1.1 %d", &code);
    return code;
}

static int get(const kith_http_server *server, const char *path) {
    char request[256];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    return ask(server, request);
}

static const char *body(void) {
    const char *end = strstr(answer, "\r\n\r\n");
    return end ? end + 4 : "";
}

static void test_http_server__health_pages(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    assert_int_equal(get(server, "/healthz"), 200);
    assert_string_equal(body(), "ok\n");
    assert_int_equal(get(server, "/livez"), 200);
    assert_int_equal(get(server, "/readyz"), 200);
    api.ready = KITH_UNAVAILABLE;
    assert_int_equal(get(server, "/livez"), 200);
    assert_int_equal(get(server, "/readyz"), 503);
    assert_string_equal(body(), "recovering: 3 of 8 shards\n");
    kith_http_server_stop(server);
}

static void test_http_server__metrics(void **state) {
    (void)state;
    kith_metrics *metrics = kith_metrics_create();
    kith_http_server *server = start((kith_http_server_options){.metrics = metrics});
    assert_int_equal(get(server, "/metrics?x=1"), 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
    assert_non_null(strstr(body(), "# TYPE kith_http_requests_total counter"));
    get(server, "/nothing");
    assert_int_equal(get(server, "/metrics"), 200);
    assert_non_null(strstr(body(), "kith_http_requests_total{path=\"/metrics\"} 1"));
    assert_non_null(strstr(body(), "kith_http_requests_total{path=\"unknown\"} 1"));
    kith_http_server_stop(server);
    kith_metrics_destroy(metrics);
}

static void test_http_server__metrics_from_a_function(void **state) {
    (void)state;
    int value = 5;
    kith_http_server *server = start((kith_http_server_options){.metrics_fn = print_metrics, .ctx = &value});
    assert_int_equal(get(server, "/metrics"), 200);
    assert_string_equal(body(), "kith_test 5\n");
    kith_http_server_stop(server);
}

static void test_http_server__unknown_paths_are_told_what_there_is(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    assert_int_equal(get(server, "/collections"), 404);
    assert_string_equal(body(),
        "nothing is here; there are:\n  GET /metrics\n  GET /healthz\n  GET /livez\n  GET /readyz\n"
        "  GET /v1/cluster/status\n  GET /v1/cluster/nodes\n  GET /v1/cluster/shards\n"
        "  POST /v1/cluster/join\n  POST /v1/cluster/leave\n  POST /v1/cluster/drain\n"
        "  POST /v1/cluster/accept-loss\n");
    kith_http_server_stop(server);
}

static void test_http_server__other_methods_are_refused(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    assert_int_equal(
        ask(server, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"),
        405);
    assert_non_null(strstr(answer, "Allow: GET, HEAD"));
    assert_string_equal(body(), "POST is not allowed here; GET and HEAD are\n");
    assert_int_equal(ask(server, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200);
    assert_string_equal(body(), "");
    kith_http_server_stop(server);
}

static void test_http_server__long_requests_are_refused(void **state) {
    (void)state;
    static char request[128 << 10];
    kith_http_server *server = start((kith_http_server_options){0});
    assert_int_equal(
        ask(server,
            "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"),
        413);
    memset(request, 'a', sizeof request);
    memcpy(request, "GET /", 5);
    int fd = dial(server);
    (void)!send(fd, request, sizeof request, MSG_NOSIGNAL);
    read_all(fd);
    close(fd);
    assert_true(answer[0] == 0 || strncmp(answer, "HTTP/1.1 4", 10) == 0);
    assert_int_equal(get(server, "/healthz"), 200);
    kith_http_server_stop(server);
}

/* A request on a connection that stays open; true when it was answered. */
static bool ask_again(int fd) {
    const char *request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
    size_t used = 0;
    do {
        ssize_t bytes = read(fd, answer + used, sizeof answer - 1 - used);
        if (bytes <= 0) return false;
        used += (size_t)bytes;
        answer[used] = 0;
    } while (strcmp(body(), "ok\n") != 0);
    return true;
}

static void test_http_server__connections_are_limited(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){.connections_max = 2});
    int first = dial(server);
    assert_true(ask_again(first));
    int second = dial(server);
    assert_true(ask_again(second));
    assert_true(ask_again(first)); /* now the second has been quiet for longer */
    int third = dial(server);
    assert_true(ask_again(third));
    assert_false(ask_again(second));
    assert_true(ask_again(first));
    assert_true(ask_again(third));
    close(first);
    close(second);
    close(third);
    kith_http_server_stop(server);
}

#define TRICKLERS 300

static void test_http_server__trickling_clients_do_not_keep_probes_out(void **state) {
    (void)state;
    static int fds[TRICKLERS];
    struct timespec before, after;
    kith_http_server *server = start((kith_http_server_options){0});
    for (int i = 0; i < TRICKLERS; i++) {
        fds[i] = dial(server);
        assert_int_equal(send(fds[i], "GET /", 5, MSG_NOSIGNAL), 5);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < TRICKLERS; i++)
            (void)!send(fds[i], "x", 1, MSG_NOSIGNAL);
        clock_gettime(CLOCK_MONOTONIC, &before);
        assert_int_equal(get(server, "/livez"), 200);
        clock_gettime(CLOCK_MONOTONIC, &after);
        assert_true(after.tv_sec - before.tv_sec <= 1);
    }
    for (int i = 0; i < TRICKLERS; i++)
        close(fds[i]);
    kith_http_server_stop(server);
}

static void test_http_server__a_port_in_use_is_said(void **state) {
    (void)state;
    kith_err err;
    char expected[128];
    kith_http_server *server = start((kith_http_server_options){0}), *other;
    kith_http_server_options options = {
        .api = &api, .bind_address = "127.0.0.1", .port = kith_http_server_port(server)};
    assert_int_equal(kith_http_server_start(&options, &other, &err), KITH_IO);
    snprintf(expected, sizeof expected, "HTTP cannot listen on 127.0.0.1:%u: Address already in use",
        options.port);
    assert_string_equal(err.text, expected);
    options.bind_address = "not an address";
    assert_int_equal(kith_http_server_start(&options, &other, &err), KITH_INVALID);
    kith_http_server_stop(server);
}

/* --- the cluster --- */

static int post(const kith_http_server *server, const char *path, const char *text) {
    char request[1024];
    snprintf(request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        path, strlen(text), text);
    return ask(server, request);
}

static void test_http_server__the_cluster_is_json(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    assert_int_equal(get(server, "/v1/cluster/status"), 200);
    assert_non_null(strstr(answer, "Content-Type: application/json"));
    assert_non_null(strstr(body(), "{\"standalone\": false, \"map_version\": 8,"));
    assert_int_equal(get(server, "/v1/cluster/nodes"), 200);
    assert_non_null(strstr(body(), "{\"map_version\": 8, \"problem\": \"\", \"nodes\": [{"));
    assert_int_equal(get(server, "/v1/cluster/shards?collection=a%20b"), 200);
    assert_string_equal(body(), "{\"map_version\": 9, \"collections\": []}\n");
    assert_string_equal(api.asked, "places a b draining=0");
    assert_int_equal(post(server, "/v1/cluster/join", "{\"address\": \"a:1\"}"), 200);
    assert_string_equal(api.asked, "join a:1 draining=1");
    assert_string_equal(body(), "{\"id\": \"\", \"joined\": true, \"coordinators\": []}\n");
    assert_int_equal(post(server, "/v1/cluster/leave", "{\"node\": \"n1\"}"), 200);
    assert_string_equal(api.asked, "leave n1 draining=1");
    assert_int_equal(post(server, "/v1/cluster/drain", "{\"node\": \"n1\"}"), 200);
    assert_string_equal(api.asked, "drain n1 draining=1");
    assert_int_equal(post(server, "/v1/cluster/drain", "{\"draining\": false, \"node\": \"n1\"}"), 200);
    assert_string_equal(api.asked, "drain n1 draining=0");
    assert_int_equal(
        post(server, "/v1/cluster/accept-loss", "{\"collection\": \"c\", \"shard\": 2, \"node\": \"n1\"}"),
        200);
    assert_string_equal(api.asked, "accept 2 n1 c draining=1");
    assert_string_equal(body(), "{\"id\": 7, \"index\": 2, \"epoch\": 5, \"primary\": \"n1\", \"up\": true, "
                                "\"replicas\": [{\"node_id\": \"\", \"node\": \"n1\", \"up\": true, "
                                "\"in_sync\": true}]}\n");
    kith_http_server_stop(server);
}

static void test_http_server__wrong_changes_say_what_is_wrong(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    static const char *const bodies[][2] = {
        {"", "the body is not JSON"},
        {"[]", "the body is not a JSON object"},
        {"{\"node\": \"a\"", "the body is not JSON"},
        {"{}", "node is missing"},
        {"{\"node\": 7}", "node: not a string"},
        {"{\"node\": \"a\", \"node\": \"b\"}", "the body is not JSON"},
        {"{\"node\": \"a\", \"draining\": 1}", "draining: not true or false"},
        {"{\"nod\": \"a\"}", "\\\"nod\\\" is not known"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_int_equal(post(server, "/v1/cluster/drain", bodies[i][0]), 400);
        assert_non_null(strstr(body(), "{\"status\": \"INVALID\", \"error\": \""));
        if (!strstr(body(), bodies[i][1])) fail_msg("%s: %s", bodies[i][0], body());
    }
    assert_int_equal(post(server, "/v1/cluster/status", "{}"), 405);
    assert_int_equal(get(server, "/v1/cluster/drain"), 405);
    assert_non_null(strstr(answer, "Allow: POST"));
    assert_int_equal(ask(server, "POST /v1/cluster/leave HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                 "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n{\"node\": \"a\"}"),
        415);
    api.refuse = KITH_PRECONDITION;
    assert_int_equal(post(server, "/v1/cluster/leave", "{\"node\": \"a\"}"), 412);
    assert_string_equal(body(), "{\"status\": \"PRECONDITION\", \"error\": \"refused \\\"a\\\"\"}\n");
    kith_http_server_stop(server);
}

/* What cannot be undone names all it is about. */
static void test_http_server__an_accepted_loss_is_spelled_out(void **state) {
    (void)state;
    kith_http_server *server = start((kith_http_server_options){0});
    static const char *const bodies[][2] = {
        {"{\"shard\": 0, \"node\": \"a\"}", "collection is missing"},
        {"{\"collection\": \"c\", \"node\": \"a\"}", "shard is missing"},
        {"{\"collection\": \"c\", \"shard\": 0}", "node is missing"},
        {"{\"collection\": \"c\", \"shard\": -1, \"node\": \"a\"}", "shard: not a number from 0"},
        {"{\"collection\": \"c\", \"shard\": 4294967296, \"node\": \"a\"}", "shard: not a number from 0"},
        {"{\"collection\": \"c\", \"shard\": \"0\", \"node\": \"a\"}", "shard: not a number from 0"},
        {"{\"collection\": \"c\", \"shard\": 0, \"node\": 1}", "node: not a string"},
        {"{\"collection\": \"c\", \"draining\": true}", "\\\"draining\\\" is not known"},
    };
    api.asked[0] = 0;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_int_equal(post(server, "/v1/cluster/accept-loss", bodies[i][0]), 400);
        if (!strstr(body(), bodies[i][1])) fail_msg("%s: %s", bodies[i][0], body());
    }
    assert_string_equal(api.asked, "");
    assert_int_equal(get(server, "/v1/cluster/accept-loss"), 405);
    kith_http_server_stop(server);
}

/* While other nodes are asked, probes are answered. */
static void test_http_server__an_answer_that_takes_time_stops_nobody(void **state) {
    (void)state;
    static const char request[] = "GET /v1/cluster/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    kith_http_server *server = start((kith_http_server_options){0});
    api.hold = true;
    int waiting[32];
    for (uint32_t i = 0; i < 32; i++) {
        waiting[i] = dial(server);
        assert_int_equal(send(waiting[i], request, strlen(request), MSG_NOSIGNAL), strlen(request));
    }
    held_await(32);
    assert_int_equal(get(server, "/livez"), 200);
    assert_int_equal(get(server, "/v1/cluster/status"), 429); /* nor may they be without bound */
    close(waiting[0]);                                        /* one has gone away */
    for (uint32_t i = 0; i < 32; i++)
        cluster_answer(api.held[i]);
    for (uint32_t i = 1; i < 32; i++) {
        read_all(waiting[i]);
        assert_non_null(strstr(body(), "\"map_version\": 8"));
        close(waiting[i]);
    }
    api.hold = false;
    assert_int_equal(get(server, "/v1/cluster/status"), 200);
    kith_http_server_stop(server);
}

static void answer_when_cancelled(void *ctx) {
    kith_api_cluster_call *call = ctx;
    while (!atomic_load(&call->call.cancelled)) {
    }
    cluster_answer(call);
}

static void test_http_server__stop_gives_up_what_is_under_way(void **state) {
    (void)state;
    kith_err err;
    static const char request[] = "GET /v1/cluster/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    kith_http_server *server = start((kith_http_server_options){0});
    api.hold = true;
    int fd = dial(server);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    held_await(1);
    kith_thread *thread;
    kith_env *env;
    assert_ok(kith_env_posix_create(&env, &err), &err);
    assert_ok(kith_thread_start(env, "answers", answer_when_cancelled, api.held[0], &thread, &err), &err);
    kith_http_server_stop(server);
    kith_thread_join(thread);
    kith_env_posix_destroy(env);
    close(fd);
}

int main(void) {
    kith_mutex_init(&api.mutex, KITH_RANK_LOG);
    kith_cond_init(&api.asked_one);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_server__health_pages),
        cmocka_unit_test(test_http_server__metrics),
        cmocka_unit_test(test_http_server__metrics_from_a_function),
        cmocka_unit_test(test_http_server__unknown_paths_are_told_what_there_is),
        cmocka_unit_test(test_http_server__other_methods_are_refused),
        cmocka_unit_test(test_http_server__long_requests_are_refused),
        cmocka_unit_test(test_http_server__connections_are_limited),
        cmocka_unit_test(test_http_server__trickling_clients_do_not_keep_probes_out),
        cmocka_unit_test(test_http_server__a_port_in_use_is_said),
        cmocka_unit_test(test_http_server__the_cluster_is_json),
        cmocka_unit_test(test_http_server__wrong_changes_say_what_is_wrong),
        cmocka_unit_test(test_http_server__an_accepted_loss_is_spelled_out),
        cmocka_unit_test(test_http_server__an_answer_that_takes_time_stops_nobody),
        cmocka_unit_test(test_http_server__stop_gives_up_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
