/* A peer that dies, stops or comes back, as a process of its own (ucx_peer), with the transport's default times. */
#include <time.h>

#include "tests/unit/transport/ucx/ucx_peer_process.h"

/* What DESIGN allows for noticing a stopped peer or a cut link. */
#define NOTICE_NS (3000 * MS)

static int setup(void **state) {
    peer_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(&fixture->base);
    peer_start(fixture, 0);
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, caller_node);
    options.ping_interval_ms = options.ping_timeout_ms = 0; /* the defaults */
    ucx_fixture_call(&fixture->base, &options);
    conformance_register(&fixture->base); /* of no use here, but for what the fixture's end expects */
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

/* Calls until one succeeds, at most 20 s. */
static void assert_comes_back(peer_fixture *fixture) {
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    kith_status status;
    do {
        status = echo(fixture);
    } while (status != KITH_OK && kith_env_now_ns(fixture->base.env) - began_ns < 20000 * MS);
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

/* One that says goodbye and starts again on its port is found again, by itself. */
static void test_transport_ucx_peer__reconnects_to_a_peer_that_comes_back(void **state) {
    peer_fixture *fixture = *state;
    kith_transport_ucx_stats stats;
    assert_int_equal(echo(fixture), KITH_OK);
    peer_leave(fixture);
    peer_start(fixture, fixture->port);
    assert_comes_back(fixture);
    kith_transport_ucx_stats_get(fixture->base.transport, &stats);
    assert_int_equal(stats.connection_losses, 0);
    assert_int_equal(stats.connects, 2);
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

/* A child stops this very process and the peer for longer than the ping time-out, as a suspended machine would be. The peer
 * goes on first, and has some looks at the silence before there is anything to hear. */
static void stop_both(pid_t peer) {
    pid_t self = getpid();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct timespec suspended = {.tv_sec = 2}, looks = {.tv_nsec = 300 * MS};
        kill(peer, SIGSTOP);
        kill(self, SIGSTOP);
        nanosleep(&suspended, NULL);
        kill(peer, SIGCONT);
        nanosleep(&looks, NULL);
        kill(self, SIGCONT);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

/* Who did not run itself does not take the others' silence for death. */
static void test_transport_ucx_peer__suspended_machine_keeps_its_connections(void **state) {
    peer_fixture *fixture = *state;
    kith_transport_ucx_stats stats;
    assert_int_equal(echo(fixture), KITH_OK);
    uint64_t began_ns = kith_env_now_ns(fixture->base.env);
    stop_both(fixture->pid);
    assert_true(kith_env_now_ns(fixture->base.env) - began_ns >= 2000 * MS);
    do { /* until both have had several looks at the silence */
        assert_int_equal(echo(fixture), KITH_OK);
    } while (kith_env_now_ns(fixture->base.env) - began_ns < 2800 * MS);
    kith_transport_ucx_stats_get(fixture->base.transport, &stats);
    assert_int_equal(stats.connection_losses, 0);
    assert_int_equal(stats.connects, 1);
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
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__reconnects_to_a_peer_that_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transport_ucx_peer__stopped_peer_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__suspended_machine_keeps_its_connections, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__stopped_peer_lets_go_of_a_long_request, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_peer__killed_peer_in_the_middle_of_long_bodies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
