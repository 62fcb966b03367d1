/* A peer that dies, stops or comes back, as a process of its own (ucx_peer), with the transport's default times. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/transport/ucx/ucx_fixture.h"

/* What DESIGN allows for noticing a stopped peer or a cut link. */
#define NOTICE_NS (3000 * MS)

typedef struct peer_fixture {
    conformance_fixture base;
    pid_t pid; /* 0: none */
    int input; /* its standard input: closing it ends it */
    unsigned port;
    char address[32];
} peer_fixture;

/* ucx_peer, beside this very program. */
static void peer_path(char *path_out, size_t bytes) {
    ssize_t length = readlink("/proc/self/exe", path_out, bytes - 16);
    assert_true(length > 0);
    path_out[length] = 0;
    snprintf(strrchr(path_out, '/') + 1, 16, "ucx_peer");
}

static unsigned read_port(int descriptor) {
    char text[16] = {0};
    size_t count = 0;
    while (count < sizeof text - 1 && !strchr(text, '\n') && read(descriptor, text + count, 1) == 1)
        count++;
    assert_non_null(strchr(text, '\n'));
    return (unsigned)strtoul(text, NULL, 10);
}

static void peer_start(peer_fixture *fixture, unsigned port) {
    char path[4096], port_text[16];
    int input[2], output[2];
    peer_path(path, sizeof path);
    snprintf(port_text, sizeof port_text, "%u", port);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    fixture->pid = fork();
    assert_true(fixture->pid >= 0);
    if (fixture->pid == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        execl(path, "ucx_peer", port_text, "2", (char *)NULL);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    fixture->input = input[1];
    fixture->port = read_port(output[0]);
    close(output[0]);
    snprintf(fixture->address, sizeof fixture->address, "127.0.0.1:%u", fixture->port);
    fixture->base.address = fixture->address;
    fixture->base.node = server_node;
}

static void peer_end(peer_fixture *fixture) {
    if (fixture->pid == 0) return;
    kill(fixture->pid, SIGKILL);
    waitpid(fixture->pid, NULL, 0);
    close(fixture->input);
    fixture->pid = 0;
}

/* Returns when it is stopped: until then its threads may run on. */
static void peer_stop(peer_fixture *fixture) {
    int status;
    kill(fixture->pid, SIGSTOP);
    assert_int_equal(waitpid(fixture->pid, &status, WUNTRACED), fixture->pid);
    assert_true(WIFSTOPPED(status));
}

static int setup(void **state) {
    peer_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(&fixture->base);
    peer_start(fixture, 0);
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, caller_node);
    options.ping_interval_ms = options.ping_timeout_ms = 0; /* the defaults */
    ucx_fixture_call(&fixture->base, &options);
    conformance_register(&fixture->base);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    peer_fixture *fixture = *state;
    peer_end(fixture);
    ucx_fixture_free(&fixture->base);
    return 0;
}

static kith_status echo(peer_fixture *fixture) {
    conformance_call own;
    ucx_test_call(&fixture->base, &own,
        &(kith_transport_call){.node = server_node,
            .address = fixture->address,
            .kind = KITH_AM_SEARCH,
            .bytes = "x",
            .byte_count = 1});
    return own.status;
}

/* Calls until one succeeds, at most 5 s. */
static void assert_comes_back(peer_fixture *fixture) {
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    kith_status status;
    do {
        status = echo(fixture);
    } while (status != KITH_OK && kith_env_now_ns(fixture->base.env) - began_ns < 5000 * MS);
    assert_int_equal(status, KITH_OK);
}

/* `own` ends UNAVAILABLE within `most_ns` of `began_ns`. */
static void assert_cut(conformance_call *own, uint64_t began_ns, uint64_t most_ns) {
    conformance_wait(own);
    uint64_t took_ns = kith_env_now_ns(own->fixture->env) - began_ns;
    assert_int_equal(own->status, KITH_UNAVAILABLE);
    assert_true(took_ns < most_ns);
    kith_buf_fini(&own->reply);
}

static void test_transport_ucx_peer__killed_peer_fails_its_calls_at_once(void **state) {
    peer_fixture *fixture = *state;
    conformance_call own;
    assert_int_equal(echo(fixture), KITH_OK);
    conformance_start(&fixture->base, &own, KITH_AM_READ, "r", 1); /* never answered */
    assert_int_equal(echo(fixture), KITH_OK);                      /* behind it: it is there */
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    peer_end(fixture);
    assert_cut(&own, began_ns, 1000 * MS);
    peer_start(fixture, fixture->port);
    assert_comes_back(fixture);
}

static void test_transport_ucx_peer__stopped_peer_is_noticed(void **state) {
    peer_fixture *fixture = *state;
    conformance_call own;
    assert_int_equal(echo(fixture), KITH_OK);
    peer_stop(fixture);
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    conformance_start(&fixture->base, &own, KITH_AM_SEARCH, "r", 1);
    assert_cut(&own, began_ns, NOTICE_NS);
    assert_non_null(strstr(own.text, "silent for 1500 ms"));
    kill(fixture->pid, SIGCONT);
    assert_comes_back(fixture);
}

/* It stops where UCX still reads the caller's bytes: they are the caller's again when the call is done. */
static void test_transport_ucx_peer__stopped_peer_lets_go_of_a_long_request(void **state) {
    peer_fixture *fixture = *state;
    const size_t bytes = 32u << 20;
    uint8_t *body = kith_alloc_zero(bytes);
    conformance_call own;
    assert_int_equal(echo(fixture), KITH_OK);
    peer_stop(fixture);
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    conformance_start(&fixture->base, &own, KITH_AM_SEARCH, body, bytes);
    assert_cut(&own, began_ns, NOTICE_NS);
    kith_free(body);
    kill(fixture->pid, SIGCONT);
    assert_comes_back(fixture);
}

/* Killed at some moment of a long exchange, each round at another. */
static void test_transport_ucx_peer__killed_peer_in_the_middle_of_long_bodies(void **state) {
    peer_fixture *fixture = *state;
    const size_t bytes = 8u << 20;
    uint8_t *body = kith_alloc_zero(bytes);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t round = 0; round < test_scaled(5); round++) {
        enum { CALLS = 4 };
        conformance_call calls[CALLS];
        assert_comes_back(fixture);
        for (int i = 0; i < CALLS; i++)
            conformance_start(&fixture->base, &calls[i], KITH_AM_SEARCH, body, bytes);
        uint64_t until_ns = kith_env_now_ns(fixture->base.env) + kith_rng_below(&rng, 30 * MS);
        while (kith_env_now_ns(fixture->base.env) < until_ns) {
        }
        peer_end(fixture);
        for (int i = 0; i < CALLS; i++) {
            conformance_wait(&calls[i]);
            assert_true(calls[i].status == KITH_OK || calls[i].status == KITH_UNAVAILABLE);
            kith_buf_fini(&calls[i].reply);
        }
        peer_start(fixture, fixture->port);
    }
    kith_free(body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__killed_peer_fails_its_calls_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transport_ucx_peer__stopped_peer_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__stopped_peer_lets_go_of_a_long_request, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__killed_peer_in_the_middle_of_long_bodies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
