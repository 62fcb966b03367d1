/* Messages that their own threads send while the I/O thread sleeps: it keeps their deadlines and watches all the same, and many
 * threads at once lose and mix up nothing. */
#include <poll.h>
#include <unistd.h>

#include "tests/unit/transport/ucx/ucx_fixture.h"
#include "transport/ucx/transport_ucx_internal.h"

/* The I/O thread looks at nothing by itself for PING_MS / 4, far longer than what is waited for. */
#define PING_MS  120000u
#define LIMIT_NS (10000 * MS)

static int setup(void **state) {
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(fixture);
    kith_transport_ucx_options options = ucx_test_options(fixture->env, server_node);
    options.ping_interval_ms = PING_MS;
    options.ping_timeout_ms = 2 * PING_MS;
    ucx_fixture_serve(fixture, &options);
    options.node_id = caller_node;
    ucx_fixture_call(fixture, &options);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    ucx_fixture_free(*state);
    return 0;
}

/* A connection that is there, over which nothing travels. */
static void link_up(conformance_fixture *fixture) {
    conformance_call own;
    ucx_test_call(fixture, &own,
        &(kith_transport_call){
            .address = fixture->address, .kind = KITH_AM_SEARCH, .bytes = "x", .byte_count = 1});
    assert_int_equal(own.status, KITH_OK);
}

static void test_transport_ucx_turn__deadline_is_kept(void **state) {
    conformance_fixture *fixture = *state;
    link_up(fixture);
    conformance_hold(fixture, true);
    for (int i = 0; i < 3; i++) {
        conformance_call own;
        uint64_t deadline_ns = kith_env_now_ns(fixture->env) + 50 * MS;
        ucx_test_call(fixture, &own,
            &(kith_transport_call){
                .address = fixture->address, .kind = KITH_AM_READ, .deadline_ns = deadline_ns});
        uint64_t now_ns = kith_env_now_ns(fixture->env);
        assert_int_equal(own.status, KITH_DEADLINE);
        assert_true(now_ns >= deadline_ns && now_ns < deadline_ns + LIMIT_NS);
    }
}

static void test_transport_ucx_turn__cancel_watch_is_looked_at(void **state) {
    conformance_fixture *fixture = *state;
    link_up(fixture);
    conformance_hold(fixture, true);
    for (uint32_t i = 0; i < 3; i++) {
        conformance_call own = {.fixture = fixture};
        atomic_bool gave_up = false;
        own.call = (kith_transport_call){.address = fixture->address,
            .kind = KITH_AM_READ,
            .cancel_watch = &gave_up,
            .done = conformance_done};
        kith_transport_start(fixture->transport, &own.call);
        conformance_wait_held(fixture, i + 1);
        uint64_t began_ns = kith_env_now_ns(fixture->env);
        atomic_store(&gave_up, true);
        conformance_wait(&own);
        assert_int_equal(own.status, KITH_CANCELLED);
        assert_true(kith_env_now_ns(fixture->env) - began_ns < LIMIT_NS);
    }
}

/* A thread may be held up between the two halves of ucx_wake, while the I/O thread wakes by itself and sleeps again: what is
 * written then would wake it for ever. */
static void test_transport_ucx_turn__late_wake_wakes_once(void **state) {
    conformance_fixture *fixture = *state;
    link_up(fixture);
    struct pollfd watched = {.fd = ((ucx_transport *)fixture->transport)->wake_fd, .events = POLLIN};
    const uint64_t one = 1, began_ns = kith_env_now_ns(fixture->env);
    assert_int_equal(write(watched.fd, &one, sizeof one), sizeof one);
    while (poll(&watched, 1, 0) > 0)
        assert_true(kith_env_now_ns(fixture->env) - began_ns < LIMIT_NS);
}

/* --- many threads --- */

#define THREADS       6u
#define BYTES_MOST    (96u << 10) /* some are long: sent from where they lie */
#define CALLS_DEFAULT 300u

typedef struct caller {
    conformance_fixture *fixture;
    kith_thread *thread;
    uint64_t seed, call_count;
    uint32_t wrong;
} caller;

static size_t body_bytes(kith_rng *rng) {
    uint64_t kind = kith_rng_below(rng, 20);
    return (size_t)kith_rng_below(rng, kind == 0 ? BYTES_MOST : kind < 4 ? 9000 : 300);
}

/* One call after the other. */
static void caller_run(void *ctx) {
    caller *own = ctx;
    uint8_t *bytes = kith_alloc(BYTES_MOST);
    kith_rng rng;
    kith_rng_init(&rng, own->seed);
    for (size_t i = 0; i < BYTES_MOST; i++)
        bytes[i] = (uint8_t)kith_rng_next(&rng);
    for (uint64_t i = 0; i < own->call_count; i++) {
        conformance_call call;
        size_t count = body_bytes(&rng);
        memcpy(bytes, &i, sizeof i);
        conformance_start(own->fixture, &call, KITH_AM_SEARCH, bytes, count);
        conformance_wait(&call);
        bool is_right = call.status == KITH_OK && call.done_count == 1 && call.reply.bytes == count &&
                        (count == 0 || memcmp(call.reply.data, bytes, count) == 0);
        own->wrong += !is_right;
        kith_buf_fini(&call.reply);
    }
    kith_free(bytes);
}

static void test_transport_ucx_turn__many_threads_get_their_own_answers(void **state) {
    conformance_fixture *fixture = *state;
    caller callers[THREADS];
    kith_err err;
    uint64_t seed = test_seed(7);
    for (uint32_t i = 0; i < THREADS; i++) {
        callers[i] = (caller){.fixture = fixture, .seed = seed + i, .call_count = test_scaled(CALLS_DEFAULT)};
        assert_ok(
            kith_thread_start(fixture->env, "caller", caller_run, &callers[i], &callers[i].thread, &err),
            &err);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        kith_thread_join(callers[i].thread);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(callers[i].wrong, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_transport_ucx_turn__deadline_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transport_ucx_turn__cancel_watch_is_looked_at, setup, teardown),
        cmocka_unit_test_setup_teardown(test_transport_ucx_turn__late_wake_wakes_once, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_turn__many_threads_get_their_own_answers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
