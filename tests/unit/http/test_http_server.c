/* What the HTTP server says, over plain sockets. */
#include "tests/lib/test_lib.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "host/http/http_server.h"

/* Stands in for host/api: only readiness is asked for. */
struct kith_api {
    kith_status ready;
};

kith_status kith_api_ready(kith_api *api, kith_err *err) {
    return api->ready == KITH_OK ? KITH_OK : kith_err_set(err, api->ready, "recovering: 3 of 8 shards");
}

static kith_api api;
static char answer[64 << 10];

static void print_metrics(void *ctx, kith_buf *buf) {
    kith_buf_append_format(buf, "kith_test %d\n", *(int *)ctx);
}

static kith_http_server *start(kith_http_server_options options) {
    kith_http_server *server;
    kith_err err;
    options.api = &api;
    options.bind_address = "127.0.0.1";
    api.ready = KITH_OK;
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
    assert_string_equal(
        body(), "nothing is here; there are:\n  GET /metrics\n  GET /healthz\n  GET /livez\n  GET /readyz\n");
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

int main(void) {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
