/* The UCX transport keeps every transport's promises, between two nodes of one process and with itself; and its own:
 * sizes, deadlines, cancels, bounds, who is there, reconnecting, bytes that are no frames. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/transport/ucx/ucx_fixture.h"

static int setup(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, server_node);
    ucx_fixture_serve(fixture, &options);
    options = ucx_test_options(fixture->env, caller_node);
    options.in_flight_bytes_max = 16u << 20;
    ucx_fixture_call(fixture, &options);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

/* One node, which calls itself: no network. */
static int setup_alone(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, caller_node);
    ucx_fixture_call(fixture, &options);
    fixture->node = caller_node;
    fixture->address = kith_transport_ucx_address(fixture->transport);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    ucx_fixture_free(*state);
    return 0;
}

static void test_transport_ucx__echoes_bodies_of_every_size(void **state) {
    static const size_t sizes[] = {0, 1, 100, 4096, 8192, 65535, 65536, 65537, 100000, 1 << 20, 8 << 20};
    conformance_fixture *fixture = *state;
    uint8_t *bytes = kith_alloc(8 << 20);
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (size_t i = 0; i < 8 << 20; i++)
        bytes[i] = (uint8_t)kith_rng_next(&rng);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        conformance_call own;
        conformance_start(fixture, &own, KITH_AM_SEARCH, bytes, sizes[i]);
        conformance_wait(&own);
        assert_int_equal(own.status, KITH_OK);
        assert_int_equal(own.reply.bytes, sizes[i]);
        if (sizes[i]) assert_memory_equal(own.reply.data, bytes, sizes[i]);
        kith_buf_fini(&own.reply);
    }
    kith_free(bytes);
}

/* --- deadlines and cancels: the handler keeps the request --- */

/* A call that ends by its deadline; whether it was with the handler by then, which a busy machine may not manage. */
static bool expire_once(conformance_fixture *fixture) {
    conformance_call own;
    uint64_t deadline_ns = kith_env_now_ns(fixture->env) + 100 * MS;
    ucx_test_call(fixture, &own,
        &(kith_transport_call){
            .address = fixture->address, .kind = KITH_AM_READ, .deadline_ns = deadline_ns});
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_true(kith_env_now_ns(fixture->env) >= deadline_ns);
    kith_mutex_lock(&fixture->mutex);
    bool held = fixture->held_count > 0;
    /* It travelled with the request, and did not shrink on the way. */
    bool kept = !held || fixture->held[0]->deadline_ns >= deadline_ns;
    kith_mutex_unlock(&fixture->mutex);
    assert_true(kept);
    return held;
}

static void test_transport_ucx__deadline_ends_a_call_that_nobody_answers(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    conformance_hold(fixture, true);
    for (int i = 0; i < 100 && !expire_once(fixture); i++) {
    }
    conformance_wait_held(fixture, 1);
    conformance_hold(fixture, false);
    conformance_release(fixture); /* an answer to nobody */
    ucx_test_call(fixture, &own,
        &(kith_transport_call){
            .address = fixture->address, .kind = KITH_AM_READ, .bytes = "x", .byte_count = 1});
    assert_int_equal(own.status, KITH_OK);
    assert_int_equal(own.done_count, 1);
}

static void test_transport_ucx__cancel_ends_a_call_at_once(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    conformance_hold(fixture, true);
    conformance_start(fixture, &own, KITH_AM_READ, "r", 1);
    conformance_wait_held(fixture, 1);
    kith_transport_cancel(fixture->transport, &own.call);
    conformance_wait(&own); /* while the handler still has it */
    assert_int_equal(own.status, KITH_CANCELLED);
    conformance_release(fixture);
}

static void test_transport_ucx__set_cancel_watch_ends_a_call(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own = {.fixture = fixture};
    atomic_bool gave_up = false;
    conformance_hold(fixture, true);
    own.call = (kith_transport_call){.address = fixture->address,
        .kind = KITH_AM_READ,
        .cancel_watch = &gave_up,
        .done = conformance_done};
    kith_transport_start(fixture->transport, &own.call);
    conformance_wait_held(fixture, 1);
    atomic_store(&gave_up, true);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_CANCELLED);
    while (!atomic_load(fixture->held[0]->cancelled)) {
    }
    conformance_release(fixture);
}

/* By a `done`, on the I/O thread, which takes up what is queued after it has looked for what is cancelled. */
typedef struct call_pair {
    conformance_call first, second;
} call_pair;

static void second_start_and_cancel(kith_transport_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err) {
    call_pair *pair = (call_pair *)call;
    kith_transport *transport = pair->first.fixture->transport;
    kith_transport_start(transport, &pair->second.call);
    kith_transport_cancel(transport, &pair->second.call);
    conformance_done(call, status, reply, reply_bytes, err);
}

static void test_transport_ucx__call_that_is_queued_is_cancelled_too(void **state) {
    conformance_fixture *fixture = *state;
    uint64_t now_ns = kith_env_now_ns(fixture->env);
    call_pair pair = {.first = {.fixture = fixture}, .second = {.fixture = fixture}};
    conformance_hold(fixture, true);
    pair.first.call = (kith_transport_call){.address = fixture->address,
        .kind = KITH_AM_READ,
        .deadline_ns = now_ns + 50 * MS,
        .done = second_start_and_cancel};
    pair.second.call = (kith_transport_call){.address = fixture->address,
        .kind = KITH_AM_READ,
        .deadline_ns = now_ns + 10000 * MS,
        .done = conformance_done};
    kith_transport_start(fixture->transport, &pair.first.call);
    conformance_wait(&pair.second);
    assert_int_equal(pair.first.status, KITH_DEADLINE);
    assert_int_equal(pair.second.status, KITH_CANCELLED);
    conformance_release(fixture);
}

/* --- bounds --- */

static void test_transport_ucx__bytes_in_flight_are_bounded(void **state) {
    conformance_fixture *fixture = *state;
    const size_t bytes = 10u << 20; /* of 16 MiB */
    uint8_t *body = kith_alloc_zero(bytes);
    conformance_call first, second;
    conformance_hold(fixture, true);
    conformance_start(fixture, &first, KITH_AM_READ, body, bytes);
    conformance_wait_held(fixture, 1);
    conformance_start(fixture, &second, KITH_AM_READ, body, bytes);
    conformance_wait(&second);
    assert_int_equal(second.status, KITH_BUSY);
    assert_non_null(strstr(second.text, "retry in"));
    conformance_release(fixture);
    conformance_wait(&first);
    assert_int_equal(first.status, KITH_OK);
    kith_buf_fini(&first.reply);
    kith_free(body);
}

/* The server allows 1 MiB at once: it does not even fetch what is over. */
static int setup_small_server(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, server_node);
    options.in_flight_bytes_max = 1u << 20;
    ucx_fixture_serve(fixture, &options);
    options = ucx_test_options(fixture->env, caller_node);
    ucx_fixture_call(fixture, &options);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

static void test_transport_ucx__server_bounds_the_bytes_of_one_node(void **state) {
    conformance_fixture *fixture = *state;
    const size_t bytes = 800u << 10;
    uint8_t *body = kith_alloc_zero(bytes);
    conformance_call first, second;
    conformance_hold(fixture, true);
    conformance_start(fixture, &first, KITH_AM_READ, body, bytes);
    conformance_wait_held(fixture, 1);
    conformance_start(fixture, &second, KITH_AM_READ, body, bytes);
    conformance_wait(&second);
    assert_int_equal(second.status, KITH_BUSY);
    conformance_release(fixture);
    conformance_wait(&first);
    assert_int_equal(first.status, KITH_OK);
    kith_buf_fini(&first.reply);
    kith_free(body);
}

/* --- who is there --- */

static int setup_closed(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, server_node);
    options.starts_closed = true;
    ucx_fixture_serve(fixture, &options);
    options = ucx_test_options(fixture->env, caller_node);
    ucx_fixture_call(fixture, &options);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

/* A node whose handlers are not all there yet does not say that it never will have them. */
static void test_transport_ucx__node_that_starts_says_so_until_it_is_opened(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    const kith_transport_call call = {.address = fixture->address, .kind = KITH_AM_SEARCH};
    ucx_test_call(fixture, &own, &call);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "starting"));
    kith_transport_ucx_open(fixture->server);
    ucx_test_call(fixture, &own, &call);
    assert_int_equal(own.status, KITH_OK);
}

static void test_transport_ucx__another_node_at_the_address_is_named(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    ucx_test_call(fixture, &own,
        &(kith_transport_call){.node = {{9}}, .address = fixture->address, .kind = KITH_AM_SEARCH});
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "09000000-0000-0000-0000-000000000000"));
    assert_non_null(strstr(own.text, "02000000-0000-0000-0000-000000000000"));
    assert_int_equal(fixture->handled, 0);
}

static void note_from(void *ctx, kith_transport_request *request) {
    conformance_fixture *fixture = ctx;
    kith_transport_reply(
        request, conformance_server(fixture), KITH_OK, request->from.bytes, sizeof request->from.bytes, NULL);
}

static void test_transport_ucx__request_says_who_asks(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    kith_transport_handle(conformance_server(fixture), KITH_AM_HEARTBEAT, NULL, note_from, fixture);
    conformance_start(fixture, &own, KITH_AM_HEARTBEAT, NULL, 0);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_OK);
    assert_int_equal(own.reply.bytes, sizeof caller_node.bytes);
    assert_memory_equal(own.reply.data, caller_node.bytes, sizeof caller_node.bytes);
    kith_buf_fini(&own.reply);
}

static int setup_other_cluster(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, server_node);
    options.cluster_name = "theirs";
    ucx_fixture_serve(fixture, &options);
    options = ucx_test_options(fixture->env, caller_node);
    ucx_fixture_call(fixture, &options);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

static void test_transport_ucx__another_cluster_is_refused_by_name(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    kith_transport_ucx_stats stats;
    ucx_test_call(fixture, &own, &(kith_transport_call){.address = fixture->address, .kind = KITH_AM_SEARCH});
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "cluster 'theirs', not 'test'"));
    kith_transport_ucx_stats_get(fixture->server, &stats);
    assert_int_equal(stats.failed_hellos, 1);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(fixture->handled, 0);
}

/* --- coming and going --- */

static void test_transport_ucx__address_without_a_listener_fails_at_once_and_rests(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    char address[64];
    snprintf(address, sizeof address, "%s", fixture->address);
    kith_transport_destroy(fixture->server);
    fixture->server = NULL;
    const kith_transport_call call = {.address = address, .kind = KITH_AM_SEARCH};
    uint64_t began_ns = kith_env_now_ns(fixture->env);
    bool rested = false;
    for (int i = 0; i < 100 && !rested; i++) {
        ucx_test_call(fixture, &own, &call);
        assert_int_equal(own.status, KITH_UNAVAILABLE);
        rested = strstr(own.text, "next try in");
    }
    assert_true(rested);
    assert_non_null(strstr(own.text, address));
    assert_true(kith_env_now_ns(fixture->env) - began_ns < 20000 * MS);
}

static void test_transport_ucx__goodbye_ends_the_calls_of_others(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    kith_transport_ucx_stats stats;
    ucx_test_call(fixture, &own, &(kith_transport_call){.address = fixture->address, .kind = KITH_AM_SEARCH});
    assert_int_equal(own.status, KITH_OK);
    uint64_t began_ns = kith_env_now_ns(fixture->env);
    kith_transport_destroy(fixture->server);
    fixture->server = NULL;
    do {
        kith_transport_ucx_stats_get(fixture->transport, &stats);
    } while (stats.connections > 0 && kith_env_now_ns(fixture->env) - began_ns < 5000 * MS);
    assert_int_equal(stats.connections, 0);
    assert_int_equal(stats.connection_losses, 0); /* it was said, not suffered */
}

static void test_transport_ucx__destroy_ends_its_calls_with_closed(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    conformance_hold(fixture, true);
    conformance_start(fixture, &own, KITH_AM_READ, "r", 1);
    conformance_wait_held(fixture, 1);
    kith_transport_destroy(fixture->transport);
    fixture->transport = NULL;
    assert_int_equal(own.done_count, 1);
    assert_int_equal(own.status, KITH_CLOSED);
    conformance_release(fixture);
    kith_buf_fini(&own.reply);
}

/* --- bytes that are no frames --- */

static int connect_plain(uint16_t port) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(descriptor >= 0);
    assert_int_equal(connect(descriptor, (const struct sockaddr *)&address, sizeof address), 0);
    return descriptor;
}

static void test_transport_ucx__random_bytes_on_the_port_do_no_harm(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t round = 0; round < test_scaled(50); round++) {
        uint8_t bytes[300];
        size_t count = kith_rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)kith_rng_next(&rng);
        int descriptor = connect_plain(kith_transport_ucx_port(fixture->server));
        ssize_t written = send(descriptor, bytes, count, MSG_NOSIGNAL);
        (void)written; /* it may have hung up already */
        close(descriptor);
        ucx_test_call(
            fixture, &own, &(kith_transport_call){.address = fixture->address, .kind = KITH_AM_SEARCH});
        assert_int_equal(own.status, KITH_OK);
    }
}

/* --- what is refused at the start --- */

static void assert_refused(const kith_transport_ucx_options *options, kith_status status, const char *text) {
    kith_err err;
    kith_transport *transport;
    assert_int_equal(kith_transport_ucx_create(options, &transport, &err), status);
    assert_non_null(strstr(err.text, text));
}

static void test_transport_ucx__create_refuses_what_cannot_be(void **state) {
    conformance_fixture *fixture = *state;
    kith_transport_ucx_options options = ucx_test_options(fixture->env, (kith_node_id){{0}});
    assert_refused(&options, KITH_INVALID, "needs an id");
    options = ucx_test_options(fixture->env, server_node);
    options.cluster_name = "a/b";
    assert_refused(&options, KITH_INVALID, "a/b");
    options = ucx_test_options(fixture->env, server_node);
    options.bind_address = "nowhere.invalid";
    assert_refused(&options, KITH_INVALID, "nowhere.invalid");
    options = ucx_test_options(fixture->env, server_node);
    options.port = kith_transport_ucx_port(fixture->transport);
    assert_refused(&options, KITH_EXISTS, "in use");
    options = ucx_test_options(fixture->env, server_node);
    options.credentials =
        &(kith_transport_credentials){.ca_path = "/nowhere", .certificate_path = "", .key_path = ""};
    assert_refused(&options, KITH_INVALID, "/nowhere");
}

#define PAIR(test)  cmocka_unit_test_setup_teardown(test, setup, teardown)
#define ALONE(test) cmocka_unit_test_setup_teardown(test, setup_alone, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CONFORMANCE_TESTS(setup, teardown),
        CONFORMANCE_TESTS(setup_alone, teardown),
        PAIR(test_transport_ucx__echoes_bodies_of_every_size),
        PAIR(test_transport_ucx__deadline_ends_a_call_that_nobody_answers),
        PAIR(test_transport_ucx__cancel_ends_a_call_at_once),
        PAIR(test_transport_ucx__set_cancel_watch_ends_a_call),
        PAIR(test_transport_ucx__call_that_is_queued_is_cancelled_too),
        PAIR(test_transport_ucx__bytes_in_flight_are_bounded),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx__server_bounds_the_bytes_of_one_node, setup_small_server, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx__node_that_starts_says_so_until_it_is_opened, setup_closed, teardown),
        PAIR(test_transport_ucx__another_node_at_the_address_is_named),
        ALONE(test_transport_ucx__request_says_who_asks),
        PAIR(test_transport_ucx__request_says_who_asks),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx__another_cluster_is_refused_by_name, setup_other_cluster, teardown),
        PAIR(test_transport_ucx__address_without_a_listener_fails_at_once_and_rests),
        PAIR(test_transport_ucx__goodbye_ends_the_calls_of_others),
        PAIR(test_transport_ucx__destroy_ends_its_calls_with_closed),
        PAIR(test_transport_ucx__random_bytes_on_the_port_do_no_harm),
        ALONE(test_transport_ucx__create_refuses_what_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
