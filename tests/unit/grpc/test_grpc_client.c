#include "tests/unit/grpc/grpc_fixture.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define COUNT           "/kith.v1.Points/Count"
#define CALL_MS         20000u
#define SILENT_MS       600u
#define CALLS_AT_ONCE   300u /* several rounds of what is taken from the queue at once */
#define NESTED_CALLS_AT 5u

/* Connections to it are made by the kernel, and nobody ever answers on them. */
static int silent_server_open(char target[32]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    snprintf(target, 32, "127.0.0.1:%u", ntohs(address.sin_port));
    return fd;
}

static void test_grpc_client__a_slow_server_is_waited_for(void **state) {
    (void)state;
    kith_err err;
    kith_env *env;
    kith_grpc_client *client;
    char target[32];
    int fd = silent_server_open(target);
    assert_ok(kith_env_posix_create(&env, &err), &err);
    assert_ok(kith_grpc_client_create(target, 1, &client, &err), &err);
    uint64_t began_ns = kith_env_now_ns(env);
    assert_int_equal(kith_grpc_client_connect(client, SILENT_MS, &err), KITH_UNAVAILABLE);
    uint64_t waited_ms = (kith_env_now_ns(env) - began_ns) / 1000000;
    assert_in_range(waited_ms, SILENT_MS - 50, CALL_MS);
    kith_grpc_client_destroy(client);
    kith_env_posix_destroy(env);
    close(fd);
}

typedef struct many_calls {
    grpc_fixture *fixture;
    uint32_t answered;
    bool nests;
} many_calls;

static void on_one_of_many(void *ctx, const kith_grpc_reply *reply) {
    many_calls *many = ctx;
    assert_int_equal(reply->code, KITH_GRPC_OK);
    if (++many->answered != NESTED_CALLS_AT || !many->nests) return;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &many->fixture->request);
    assert_int_equal(grpc_fixture_call(many->fixture, COUNT, CALL_MS), KITH_GRPC_OK);
}

static void start_many(many_calls *many) {
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &many->fixture->request);
    kith_grpc_request request = {.method = COUNT,
        .data = many->fixture->request.data,
        .bytes = many->fixture->request.bytes,
        .timeout_ms = CALL_MS};
    for (uint32_t i = 0; i < CALLS_AT_ONCE; i++)
        kith_grpc_client_start(many->fixture->client, &request, on_one_of_many, many);
    kith_buf_clear(&many->fixture->request);
}

static void wait_many(many_calls *many) {
    while (many->answered < CALLS_AT_ONCE)
        kith_grpc_client_poll(many->fixture->client, 1000000);
    assert_int_equal(many->answered, CALLS_AT_ONCE);
}

static void test_grpc_client__many_calls_at_once_are_all_answered(void **state) {
    FIXTURE_SETUP();
    many_calls many = {.fixture = fixture};
    start_many(&many);
    wait_many(&many);
    grpc_fixture_remove(fixture);
}

static void test_grpc_client__a_callback_may_wait_for_another_call(void **state) {
    FIXTURE_SETUP();
    many_calls many = {.fixture = fixture, .nests = true};
    start_many(&many);
    wait_many(&many);
    grpc_fixture_remove(fixture);
}

static void test_grpc_client__destroy_waits_for_what_was_taken(void **state) {
    FIXTURE_SETUP();
    many_calls many = {.fixture = fixture};
    start_many(&many);
    while (many.answered == 0)
        kith_grpc_client_poll(fixture->client, 1000000);
    grpc_fixture_remove(fixture);
    assert_int_equal(many.answered, CALLS_AT_ONCE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_client__a_slow_server_is_waited_for),
        cmocka_unit_test(test_grpc_client__many_calls_at_once_are_all_answered),
        cmocka_unit_test(test_grpc_client__a_callback_may_wait_for_another_call),
        cmocka_unit_test(test_grpc_client__destroy_waits_for_what_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
