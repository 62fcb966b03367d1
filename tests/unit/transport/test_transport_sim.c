/* The simulated transport keeps the transport's promises, and its faults are the ones that were asked for. */
#include "tests/sim/sim_env.h"
#include "tests/unit/transport/transport_conformance.h"
#include "transport/sim/transport_sim.h"

#define MS 1000000ULL

typedef struct sim_fixture {
    conformance_fixture base;
    sim_env *client, *server;
    kith_transport_sim_network *network;
    uint32_t client_host, server_host;
} sim_fixture;

static const char client_address[] = "client:7442";
static const char server_address[] = "server:7442";
static const kith_node_id client_node = {{1}};
static const kith_node_id server_node = {{2}};

static void world_step(conformance_fixture *base) {
    sim_env_run_for(((sim_fixture *)base)->client, 1 * MS);
}

static void server_start(sim_fixture *fixture) {
    kith_err err;
    assert_ok(kith_executor_create(fixture->base.env, "handlers", 2, &fixture->base.executor, &err), &err);
    const kith_transport_sim_options options = {.env = sim_env_kith(fixture->server),
        .network = fixture->network,
        .node = server_node,
        .address = server_address,
        .in_flight_max = CONFORMANCE_IN_FLIGHT};
    assert_ok(kith_transport_sim_create(&options, &fixture->base.server, &err), &err);
    conformance_register(&fixture->base);
}

static int setup(void **state) {
    kith_err err;
    uint64_t seed = test_seed(1);
    sim_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    fixture->client = sim_env_create(seed);
    fixture->server = sim_env_create_beside(fixture->client, seed + 1);
    fixture->network = kith_transport_sim_network_create(seed);
    fixture->client_host = kith_transport_sim_host(fixture->network, client_address);
    fixture->server_host = kith_transport_sim_host(fixture->network, server_address);
    fixture->base.env = sim_env_kith(fixture->server);
    fixture->base.node = server_node;
    fixture->base.address = server_address;
    fixture->base.step = world_step;
    server_start(fixture);
    const kith_transport_sim_options options = {.env = sim_env_kith(fixture->client),
        .network = fixture->network,
        .node = client_node,
        .address = client_address,
        .in_flight_max = CONFORMANCE_IN_FLIGHT};
    assert_ok(kith_transport_sim_create(&options, &fixture->base.transport, &err), &err);
    *state = fixture;
    return 0;
}

/* The same with one machine, which calls itself. */
static int setup_alone(void **state) {
    assert_int_equal(setup(state), 0);
    sim_fixture *fixture = *state;
    kith_transport_destroy(fixture->base.server);
    fixture->base.server = NULL;
    fixture->base.address = NULL;
    fixture->base.node = client_node;
    conformance_register(&fixture->base);
    return 0;
}

static int teardown(void **state) {
    sim_fixture *fixture = *state;
    sim_env_run_for(fixture->client, 5000 * MS); /* what is late comes now */
    kith_executor_destroy(fixture->base.executor);
    kith_transport_destroy(fixture->base.transport);
    kith_transport_destroy(fixture->base.server);
    kith_transport_sim_network_destroy(fixture->network);
    sim_env_destroy(fixture->server);
    sim_env_destroy(fixture->client);
    kith_cond_fini(&fixture->base.changed);
    kith_mutex_fini(&fixture->base.mutex);
    kith_free(fixture);
    return 0;
}

/* One echo with a deadline `ms` away, to its end; returns how long it took. */
static uint64_t echo_ms(sim_fixture *fixture, uint64_t ms, conformance_call *own) {
    uint64_t begin_ns = kith_env_now_ns(fixture->base.env);
    *own = (conformance_call){.fixture = &fixture->base};
    own->call = (kith_transport_call){.node = fixture->base.node,
        .address = fixture->base.address,
        .kind = KITH_AM_SEARCH,
        .bytes = "echo",
        .byte_count = 4,
        .deadline_ns = ms ? begin_ns + ms * MS : 0,
        .done = conformance_done};
    kith_transport_start(fixture->base.transport, &own->call);
    conformance_wait(own);
    kith_buf_fini(&own->reply);
    return (kith_env_now_ns(fixture->base.env) - begin_ns) / MS;
}

static void test_transport_sim__lost_message_is_silence_until_the_deadline(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    kith_transport_sim_links_set(
        fixture->network, &(kith_transport_sim_link){.delay_ns_max = MS, .loss_ppm = 1000000});
    assert_in_range(echo_ms(fixture, 300, &own), 300, 301);
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_in_range(echo_ms(fixture, 0, &own), 2000, 2001); /* no deadline: the silence is noticed */
    assert_int_equal(own.status, KITH_UNAVAILABLE);
}

static void test_transport_sim__lost_reply_was_carried_out(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    kith_transport_sim_cut(fixture->network, fixture->server_host, fixture->client_host, true);
    echo_ms(fixture, 50, &own);
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_int_equal(fixture->base.handled, 1);
    kith_transport_sim_cut(fixture->network, fixture->server_host, fixture->client_host, false);
    kith_transport_sim_cut(fixture->network, fixture->client_host, fixture->server_host, true);
    echo_ms(fixture, 50, &own);
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_int_equal(fixture->base.handled, 1); /* this way round it was not */
    kith_transport_sim_heal(fixture->network);
    echo_ms(fixture, 50, &own);
    assert_int_equal(own.status, KITH_OK);
}

static void test_transport_sim__cut_link_drops_what_is_under_way(void **state) {
    sim_fixture *fixture = *state;
    kith_transport_sim_links_set(
        fixture->network, &(kith_transport_sim_link){.delay_ns_min = 20 * MS, .delay_ns_max = 30 * MS});
    conformance_call own = {.fixture = &fixture->base};
    own.call = (kith_transport_call){.address = server_address,
        .kind = KITH_AM_SEARCH,
        .deadline_ns = kith_env_now_ns(fixture->base.env) + 100 * MS,
        .done = conformance_done};
    kith_transport_start(fixture->base.transport, &own.call);
    sim_env_run_for(fixture->client, 10 * MS);
    kith_transport_sim_cut(fixture->network, fixture->client_host, fixture->server_host, true);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_int_equal(fixture->base.handled, 0);
}

static void test_transport_sim__nobody_there_is_unavailable_soon(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    fixture->base.address = "nobody:7442";
    assert_in_range(echo_ms(fixture, 1000, &own), 0, 3);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    fixture->base.address = server_address;
    kith_transport_sim_power_set(fixture->network, fixture->server_host, KITH_TRANSPORT_SIM_REFUSING);
    assert_in_range(echo_ms(fixture, 1000, &own), 0, 3);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    kith_transport_sim_power_set(fixture->network, fixture->server_host, KITH_TRANSPORT_SIM_SILENT);
    assert_in_range(echo_ms(fixture, 100, &own), 100, 101);
    assert_int_equal(own.status, KITH_DEADLINE);
    kith_transport_sim_power_set(fixture->network, fixture->server_host, KITH_TRANSPORT_SIM_UP);
    echo_ms(fixture, 1000, &own);
    assert_int_equal(own.status, KITH_OK);
}

/* A peer that dies resets what waits for it; its own calls end too. */
static void test_transport_sim__dead_process_ends_calls_of_both_sides(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    conformance_hold(&fixture->base, true);
    conformance_start(&fixture->base, &own, KITH_AM_READ, "r", 1);
    conformance_wait_held(&fixture->base, 1);
    kith_transport_sim_power_set(fixture->network, fixture->server_host, KITH_TRANSPORT_SIM_REFUSING);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    conformance_release(&fixture->base); /* an answer to nobody */
    kith_transport_sim_power_set(fixture->network, fixture->server_host, KITH_TRANSPORT_SIM_UP);
    conformance_start(&fixture->base, &own, KITH_AM_READ, "r", 1);
    conformance_wait_held(&fixture->base, 1);
    kith_transport_sim_power_set(fixture->network, fixture->client_host, KITH_TRANSPORT_SIM_SILENT);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    conformance_release(&fixture->base);
}

static void test_transport_sim__another_node_at_the_address_is_refused(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    fixture->base.node = (kith_node_id){{3}};
    echo_ms(fixture, 1000, &own);
    assert_int_equal(own.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(own.text, "at server:7442"));
    assert_int_equal(fixture->base.handled, 0);
    fixture->base.node = (kith_node_id){{0}}; /* whoever is there */
    echo_ms(fixture, 1000, &own);
    assert_int_equal(own.status, KITH_OK);
}

static void test_transport_sim__watched_flag_cancels(void **state) {
    sim_fixture *fixture = *state;
    atomic_bool watch = false;
    conformance_call own = {.fixture = &fixture->base};
    own.call = (kith_transport_call){
        .address = server_address, .kind = KITH_AM_READ, .cancel_watch = &watch, .done = conformance_done};
    conformance_hold(&fixture->base, true);
    kith_transport_start(fixture->base.transport, &own.call);
    conformance_wait_held(&fixture->base, 1);
    atomic_store(&watch, true);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_CANCELLED);
    conformance_release(&fixture->base); /* late, and dropped */
    sim_env_run_for(fixture->client, 100 * MS);
    assert_int_equal(own.done_count, 1);
}

/* The caller may cancel before it has heard of the end. */
static void test_transport_sim__cancel_after_the_end_does_nothing(void **state) {
    sim_fixture *fixture = *state;
    conformance_call own;
    echo_ms(fixture, 1000, &own);
    kith_transport_cancel(fixture->base.transport, &own.call);
    sim_env_run_for(fixture->client, 100 * MS);
    assert_int_equal(own.done_count, 1);
    assert_int_equal(own.status, KITH_OK);
}

static void test_transport_sim__same_seed_same_times(void **state) {
    (void)state;
    kith_transport_sim_link link = {
        .delay_ns_max = 50 * MS, .slow_ppm = 200000, .slow_ns_max = 500 * MS, .loss_ppm = 100000};
    uint64_t sums[2] = {0};
    for (int run = 0; run < 2; run++) {
        void *again = NULL;
        assert_int_equal(setup(&again), 0);
        sim_fixture *other = again;
        kith_transport_sim_links_set(other->network, &link);
        for (int i = 0; i < 50; i++) {
            conformance_call own;
            sums[run] = sums[run] * 31 + echo_ms(other, 400, &own);
        }
        teardown(&again);
    }
    assert_int_equal(sums[0], sums[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CONFORMANCE_TESTS(setup, teardown),
        CONFORMANCE_TESTS(setup_alone, teardown),
#define OWN(name) cmocka_unit_test_setup_teardown(test_transport_sim__##name, setup, teardown)
        OWN(lost_message_is_silence_until_the_deadline),
        OWN(lost_reply_was_carried_out),
        OWN(cut_link_drops_what_is_under_way),
        OWN(nobody_there_is_unavailable_soon),
        OWN(dead_process_ends_calls_of_both_sides),
        OWN(another_node_at_the_address_is_refused),
        OWN(watched_flag_cancels),
        OWN(cancel_after_the_end_does_nothing),
        OWN(same_seed_same_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
