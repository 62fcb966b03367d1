/* Heartbeats on simulated machines: whom they reach, what is learned from replies, how they end. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/cluster/heartbeat.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define MS_NS        1000000ULL
#define COORDINATORS 3u

/* A coordinator that answers what the test says. */
typedef struct coordinator {
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    const char *address;
    kith_codec_heartbeat_reply reply;
    uint32_t heard;
    uint64_t map_version_heard;
} coordinator;

typedef struct fixture {
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    kith_transport_sim_network *network;
    coordinator coordinators[COORDINATORS];
    kith_heartbeat *heartbeat;
    uint64_t map_version;
    uint32_t leaders_seen;
    char leader[64];
    uint32_t maps_seen;
    uint64_t map_version_seen;
    char map_address[64];
    bool stopped;
} fixture;

static const char *const addresses[COORDINATORS] = {"c0:1", "c1:1", "c2:1"};

static void coordinator_heard(void *ctx, kith_transport_request *request) {
    coordinator *own = ctx;
    kith_arena arena;
    kith_err err;
    kith_codec_heartbeat said;
    kith_arena_init(&arena);
    assert_ok(kith_codec_heartbeat_decode(request->bytes, request->byte_count, &arena, &said, &err), &err);
    assert_string_equal(said.node.name, "one");
    own->heard++;
    own->map_version_heard = said.map_version;
    kith_arena_fini(&arena);
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_codec_heartbeat_reply_encode(&own->reply, &bytes);
    kith_transport_reply(request, own->transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

static kith_transport *transport_make(
    fixture *all, sim_env *sim, const char *address, uint8_t id, kith_transport **out) {
    kith_err err;
    assert_ok(kith_transport_sim_create(&(kith_transport_sim_options){.env = sim_env_kith(sim),
                                            .network = all->network,
                                            .node = {{id}},
                                            .address = address,
                                            .in_flight_max = 64},
                  out, &err),
        &err);
    return *out;
}

static kith_executor *executor_make(sim_env *sim) {
    kith_executor *executor;
    kith_err err;
    assert_ok(kith_executor_create(sim_env_kith(sim), "test", 1, &executor, &err), &err);
    return executor;
}

static void fill(void *ctx, kith_codec_heartbeat *heartbeat_out) {
    fixture *all = ctx;
    kith_node *node = &heartbeat_out->node;
    node->role = KITH_NODE_DATA;
    node->id = (kith_node_id){{9}};
    snprintf(node->name, sizeof node->name, "one");
    snprintf(node->address, sizeof node->address, "n0:1");
    heartbeat_out->map_version = all->map_version;
}

static void leader_seen(void *ctx, const kith_node_id *id, const char *address) {
    fixture *all = ctx;
    kith_node_id known;
    const char *known_address;
    assert_true(kith_heartbeat_leader(all->heartbeat, &known, &known_address));
    assert_true(kith_node_id_equal(&known, id));
    assert_string_equal(known_address, address);
    all->leaders_seen++;
    snprintf(all->leader, sizeof all->leader, "%s", address);
}

static void map_seen(void *ctx, const char *address, uint64_t map_version) {
    fixture *all = ctx;
    all->maps_seen++;
    all->map_version_seen = map_version;
    snprintf(all->map_address, sizeof all->map_address, "%s", address);
}

static void coordinator_setup(fixture *all, uint32_t index) {
    coordinator *own = &all->coordinators[index];
    own->address = addresses[index];
    own->sim = sim_env_create_beside(all->sim, 10 + index);
    own->executor = executor_make(own->sim);
    transport_make(all, own->sim, own->address, (uint8_t)(1 + index), &own->transport);
    kith_transport_handle(own->transport, KITH_AM_HEARTBEAT, own->executor, coordinator_heard, own);
    own->reply.leader_address = "";
}

/* Knows `configured` coordinators to begin with. */
/* Not started. */
static void fixture_begin(fixture *all, uint32_t configured) {
    *all = (fixture){.sim = sim_env_create(test_seed(1))};
    all->network = kith_transport_sim_network_create(test_seed(1));
    for (uint32_t i = 0; i < COORDINATORS; i++)
        coordinator_setup(all, i);
    all->executor = executor_make(all->sim);
    transport_make(all, all->sim, "n0:1", 9, &all->transport);
    all->heartbeat = kith_heartbeat_create(&(kith_heartbeat_options){.env = sim_env_kith(all->sim),
        .executor = all->executor,
        .transport = all->transport,
        .coordinators = addresses,
        .coordinator_count = configured,
        .interval_ms = 500,
        .timeout_ms = 2000,
        .fill = fill,
        .leader_seen = leader_seen,
        .map_seen = map_seen,
        .ctx = all});
}

static void fixture_setup(fixture *all, uint32_t configured) {
    fixture_begin(all, configured);
    kith_heartbeat_start(all->heartbeat);
}

static void run_ms(fixture *all, uint64_t ms) {
    sim_env_run_for(all->sim, ms * MS_NS);
}

static void stopped(void *ctx) {
    ((fixture *)ctx)->stopped = true;
}

static void fixture_teardown(fixture *all) {
    kith_heartbeat_stop(all->heartbeat, stopped, all);
    run_ms(all, 3000);
    assert_true(all->stopped);
    kith_heartbeat_destroy(all->heartbeat);
    kith_transport_destroy(all->transport);
    kith_executor_destroy(all->executor);
    for (uint32_t i = 0; i < COORDINATORS; i++) {
        kith_transport_destroy(all->coordinators[i].transport);
        kith_executor_destroy(all->coordinators[i].executor);
        sim_env_destroy(all->coordinators[i].sim);
    }
    kith_transport_sim_network_destroy(all->network);
    sim_env_destroy(all->sim);
}

static void reply_set(fixture *all, uint32_t index, uint64_t term, uint32_t leader, uint32_t list_count) {
    coordinator *own = &all->coordinators[index];
    own->reply = (kith_codec_heartbeat_reply){.term = term, .leader_address = ""};
    own->reply.leader = leader == index;
    if (leader < COORDINATORS) {
        own->reply.leader_id = (kith_node_id){{(uint8_t)(1 + leader)}};
        own->reply.leader_address = addresses[leader];
    }
    own->reply.coordinator_addresses = addresses;
    own->reply.coordinator_count = list_count;
}
#define NOBODY COORDINATORS

static void test_heartbeat__every_coordinator_hears_it_at_the_interval(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, COORDINATORS);
    run_ms(&all, 10100);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        assert_int_equal(all.coordinators[i].heard, 21);
    assert_true(kith_heartbeat_silent_ns(all.heartbeat) < 200 * MS_NS);
    fixture_teardown(&all);
}

static void test_heartbeat__coordinators_are_learned_and_forgotten(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 1);
    reply_set(&all, 0, 1, 0, 3);
    run_ms(&all, 1100);
    assert_int_equal(all.coordinators[2].heard, 2);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        reply_set(&all, i, 1, 0, 2); /* the third leaves */
    run_ms(&all, 1000);
    uint32_t heard = all.coordinators[2].heard;
    run_ms(&all, 5000);
    assert_int_equal(all.coordinators[2].heard, heard);
    assert_true(all.coordinators[1].heard > 10);
    fixture_teardown(&all);
}

/* The one that was removed does not know it: it still tells of itself. */
/* The only one of the configuration has left. */
static void test_heartbeat__coordinators_of_a_kept_map_are_told_until_a_leader_is_known(void **unused) {
    (void)unused;
    fixture all;
    fixture_begin(&all, 1);
    kith_transport_sim_power_set(
        all.network, kith_transport_sim_host(all.network, addresses[0]), KITH_TRANSPORT_SIM_REFUSING);
    kith_heartbeat_keep(all.heartbeat, addresses[1]);
    kith_heartbeat_keep(all.heartbeat, addresses[2]);
    kith_heartbeat_start(all.heartbeat);
    reply_set(&all, 2, 7, NOBODY, 0);
    all.coordinators[2].reply.coordinator_addresses = addresses + 2; /* it is alone, and leads nobody */
    all.coordinators[2].reply.coordinator_count = 1;
    reply_set(&all, 1, 3, NOBODY, 0);
    run_ms(&all, 2100);
    assert_true(all.coordinators[1].heard >= 4);
    reply_set(&all, 1, 8, 1, 2);
    run_ms(&all, 600);
    assert_int_equal(all.leaders_seen, 1);
    uint32_t heard = all.coordinators[2].heard;
    run_ms(&all, 5000);
    assert_int_equal(all.coordinators[2].heard, heard);
    assert_true(all.coordinators[1].heard >= 14);
    kith_transport_sim_power_set(
        all.network, kith_transport_sim_host(all.network, addresses[0]), KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

static void test_heartbeat__list_of_an_older_term_does_not_count(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 3);
    reply_set(&all, 0, 5, 0, 1);
    reply_set(&all, 1, 5, 0, 1);
    reply_set(&all, 2, 9, NOBODY, 3); /* cut off, standing for election again and again */
    run_ms(&all, 3000);
    assert_string_equal(all.leader, "c0:1");
    assert_int_equal(all.leaders_seen, 1);
    fixture_teardown(&all);
}

static void test_heartbeat__leader_of_the_latest_term_is_seen_once(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 3);
    for (uint32_t i = 0; i < COORDINATORS; i++)
        reply_set(&all, i, 4, 1, 3);
    run_ms(&all, 2000);
    assert_string_equal(all.leader, "c1:1");
    assert_int_equal(all.leaders_seen, 1);
    reply_set(&all, 0, 5, 0, 3); /* the others have not noticed */
    run_ms(&all, 2000);
    assert_string_equal(all.leader, "c0:1");
    assert_int_equal(all.leaders_seen, 2);
    fixture_teardown(&all);
}

static void test_heartbeat__newer_map_is_told_until_the_node_has_it(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 3);
    all.map_version = 6;
    for (uint32_t i = 0; i < COORDINATORS; i++)
        reply_set(&all, i, 4, 1, 3);
    all.coordinators[2].reply.map_version = 7;
    run_ms(&all, 400);
    assert_int_equal(all.maps_seen, 1);
    assert_int_equal(all.map_version_seen, 7);
    assert_string_equal(all.map_address, "c2:1");
    all.map_version = 7;
    run_ms(&all, 2000);
    assert_int_equal(all.maps_seen, 1);
    assert_int_equal(all.coordinators[0].map_version_heard, 7);
    fixture_teardown(&all);
}

static void test_heartbeat__lost_messages_delay_the_next_one_little(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 1);
    run_ms(&all, 700);
    kith_transport_sim_link link = {.delay_ns_min = MS_NS, .delay_ns_max = MS_NS, .loss_ppm = 1000000};
    kith_transport_sim_link good = link;
    good.loss_ppm = 0;
    kith_transport_sim_links_set(all.network, &link);
    run_ms(&all, 400); /* one is lost */
    kith_transport_sim_links_set(all.network, &good);
    uint32_t heard = all.coordinators[0].heard;
    run_ms(&all, 1000);
    assert_true(all.coordinators[0].heard > heard); /* 1.5 s after the last, below the timeout */
    fixture_teardown(&all);
}

static void test_heartbeat__silence_of_all_coordinators_is_measured(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 3);
    run_ms(&all, 2100);
    for (uint32_t i = 0; i < COORDINATORS; i++) {
        uint32_t host = kith_transport_sim_host(all.network, addresses[i]);
        kith_transport_sim_power_set(all.network, host, KITH_TRANSPORT_SIM_SILENT);
    }
    run_ms(&all, 10000);
    uint64_t silent_ms = kith_heartbeat_silent_ns(all.heartbeat) / MS_NS;
    assert_in_range(silent_ms, 9500, 10200);
    for (uint32_t i = 0; i < COORDINATORS; i++) {
        uint32_t host = kith_transport_sim_host(all.network, addresses[i]);
        kith_transport_sim_power_set(all.network, host, KITH_TRANSPORT_SIM_UP);
    }
    run_ms(&all, 1500);
    assert_true(kith_heartbeat_silent_ns(all.heartbeat) < 1000 * MS_NS);
    fixture_teardown(&all);
}

static void test_heartbeat__stop_waits_for_what_is_under_way(void **unused) {
    (void)unused;
    fixture all;
    fixture_setup(&all, 3);
    sim_env_pause(all.coordinators[1].sim, true); /* holds a request */
    run_ms(&all, 100);
    kith_heartbeat_stop(all.heartbeat, stopped, &all);
    run_ms(&all, 1000);
    assert_true(all.stopped);
    uint32_t heard = all.coordinators[0].heard;
    run_ms(&all, 2000);
    assert_int_equal(all.coordinators[0].heard, heard);
    sim_env_pause(all.coordinators[1].sim, false);
    all.stopped = false;
    fixture_teardown(&all); /* a second stop is done at once */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heartbeat__every_coordinator_hears_it_at_the_interval),
        cmocka_unit_test(test_heartbeat__coordinators_are_learned_and_forgotten),
        cmocka_unit_test(test_heartbeat__coordinators_of_a_kept_map_are_told_until_a_leader_is_known),
        cmocka_unit_test(test_heartbeat__list_of_an_older_term_does_not_count),
        cmocka_unit_test(test_heartbeat__leader_of_the_latest_term_is_seen_once),
        cmocka_unit_test(test_heartbeat__newer_map_is_told_until_the_node_has_it),
        cmocka_unit_test(test_heartbeat__lost_messages_delay_the_next_one_little),
        cmocka_unit_test(test_heartbeat__silence_of_all_coordinators_is_measured),
        cmocka_unit_test(test_heartbeat__stop_waits_for_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
