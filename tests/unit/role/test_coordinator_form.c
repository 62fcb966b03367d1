/* How the first coordinators find each other, on simulated machines: whoever forms a cluster forms the same one. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/role/coordinator_form.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/sim/transport_sim.h"

#define MS_NS        1000000ULL
#define MACHINES_MAX 6u

static const char *const addresses[MACHINES_MAX] = {"c0:1", "c1:1", "c2:1", "c3:1", "c4:1", "c5:1"};

typedef struct fixture fixture;

/* A machine, with what the coordinator on it answers when it is asked. */
typedef struct machine {
    fixture *all;
    sim_env *sim;
    kith_executor *executor;
    kith_transport *transport;
    uint32_t index;
    kith_coordinator_form *form;
    kith_node_id id;
    bool fresh;
    uint32_t member_count; /* that it answers */
    kith_meta_member members[MACHINES_MAX];
    uint32_t asked;
    /* What came of the form. */
    uint32_t ended;
    kith_status status;
    uint32_t formed_count;
    kith_meta_member formed[MACHINES_MAX];
    kith_timer stop_timer;
} machine;

struct fixture {
    sim_env *sim; /* of the first machine */
    kith_transport_sim_network *network;
    uint32_t count; /* of the addresses that everyone is configured with */
    machine machines[MACHINES_MAX];
};

/* --- machines --- */

static void asked(void *ctx, kith_transport_request *request) {
    machine *own = ctx;
    kith_codec_coordinator_member members[MACHINES_MAX];
    kith_buf bytes;
    own->asked++;
    for (uint32_t i = 0; i < own->member_count; i++)
        members[i] = (kith_codec_coordinator_member){
            .id = own->members[i].id, .address = own->members[i].address, .voter = true};
    kith_codec_coordinator_reply reply = {.self_id = own->id,
        .fresh = own->fresh,
        .leader_address = "",
        .members = members,
        .member_count = own->member_count};
    kith_buf_init(&bytes);
    kith_codec_coordinator_reply_encode(&reply, &bytes);
    kith_transport_reply(request, own->transport, KITH_OK, bytes.data, bytes.bytes, NULL);
    kith_buf_fini(&bytes);
}

/* As the coordinator does: it is of the cluster from then on, and whoever asks hears its members. */
static void formed(void *ctx, kith_status status, const kith_meta_member *members, uint32_t member_count) {
    machine *own = ctx;
    own->ended++;
    own->status = status;
    if (status != KITH_OK) return;
    own->formed_count = own->member_count = member_count;
    if (!member_count) return;
    own->fresh = false;
    memcpy(own->formed, members, member_count * sizeof *members);
    memcpy(own->members, members, member_count * sizeof *members);
}

/* The machine listens; its form has not begun. */
static void machine_on(fixture *all, uint32_t index) {
    machine *own = &all->machines[index];
    kith_err err;
    own->all = all;
    own->index = index;
    own->fresh = true;
    own->id = (kith_node_id){{(uint8_t)(0x70 - 0x10 * index), (uint8_t)index}};
    if (index > 0) own->sim = sim_env_create_beside(all->sim, 10 + index);
    assert_ok(kith_executor_create(sim_env_kith(own->sim), "test", 1, &own->executor, &err), &err);
    assert_ok(kith_transport_sim_create(&(kith_transport_sim_options){.env = sim_env_kith(own->sim),
                                            .network = all->network,
                                            .node = own->id,
                                            .address = addresses[index],
                                            .in_flight_max = 64},
                  &own->transport, &err),
        &err);
    kith_transport_handle(own->transport, KITH_AM_COORDINATOR, own->executor, asked, own);
}

static void form_begin(fixture *all, uint32_t index) {
    machine *own = &all->machines[index];
    own->form = kith_coordinator_form_create(&(kith_coordinator_form_options){.env = sim_env_kith(own->sim),
        .executor = own->executor,
        .transport = own->transport,
        .self = own->id,
        .addresses = addresses,
        .address_count = all->count,
        .done = formed,
        .ctx = own});
}

static void fixture_setup(fixture *all, uint64_t seed, uint32_t count) {
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    *all = (fixture){.sim = sim_env_create(seed), .count = count};
    all->network = kith_transport_sim_network_create(seed);
    all->machines[0].sim = all->sim;
}

static void run_ms(fixture *all, uint64_t ms) {
    sim_env_run_for(all->sim, ms * MS_NS);
}

static void form_stop(machine *own) {
    if (own->form && !own->ended) kith_coordinator_form_stop(own->form);
}

static void fixture_teardown(fixture *all) {
    for (uint32_t i = 0; i < MACHINES_MAX; i++)
        form_stop(&all->machines[i]);
    run_ms(all, 5000);
    for (uint32_t i = 0; i < MACHINES_MAX; i++) {
        machine *own = &all->machines[i];
        if (own->form) assert_int_equal(own->ended, 1);
        kith_coordinator_form_destroy(own->form);
        kith_transport_destroy(own->transport);
        kith_executor_destroy(own->executor);
        if (i > 0) sim_env_destroy(own->sim);
    }
    kith_transport_sim_network_destroy(all->network);
    sim_env_destroy(all->sim);
}

/* --- judging --- */

static void assert_formed(const fixture *all, uint32_t index) {
    const machine *own = &all->machines[index];
    assert_int_equal(own->ended, 1);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->formed_count, all->count);
    for (uint32_t i = 0; i < all->count; i++) {
        /* By id, which is the order of the addresses turned round. */
        assert_true(kith_node_id_equal(&own->formed[i].id, &all->machines[all->count - 1 - i].id));
        assert_string_equal(own->formed[i].address, addresses[all->count - 1 - i]);
    }
}

static void assert_waits_to_join(const fixture *all, uint32_t index) {
    assert_int_equal(all->machines[index].ended, 1);
    assert_int_equal(all->machines[index].status, KITH_OK);
    assert_int_equal(all->machines[index].formed_count, 0);
}

static void assert_undecided(const fixture *all, uint32_t index) {
    assert_int_equal(all->machines[index].ended, 0);
}

/* --- tests --- */

static void test_coordinator_form__all_that_are_new_form_one_cluster(void **state) {
    (void)state;
    const uint32_t counts[] = {1, 3, 5};
    for (uint32_t c = 0; c < 3; c++) {
        fixture all;
        fixture_setup(&all, test_seed(1), counts[c]);
        for (uint32_t i = 0; i < all.count; i++) {
            machine_on(&all, i);
            form_begin(&all, i);
        }
        run_ms(&all, 1000);
        for (uint32_t i = 0; i < all.count; i++)
            assert_formed(&all, i);
        fixture_teardown(&all);
    }
}

static void test_coordinator_form__they_wait_for_the_last(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    for (uint32_t i = 0; i < 2; i++) {
        machine_on(&all, i);
        form_begin(&all, i);
    }
    run_ms(&all, 20000);
    assert_undecided(&all, 0);
    assert_undecided(&all, 1);
    assert_in_range(all.machines[0].asked, 100, 400); /* several times a second, from two */
    machine_on(&all, 2);
    run_ms(&all, 2000); /* it answers, so the others can begin: it is new as they are */
    form_begin(&all, 2);
    run_ms(&all, 2000);
    for (uint32_t i = 0; i < 3; i++)
        assert_formed(&all, i);
    fixture_teardown(&all);
}

/* A cluster that has this node was formed by the others: it needs no more than one of them to learn of it. */
static void cluster_is_at(fixture *all, uint32_t index, const uint32_t *member_indexes, uint32_t count) {
    machine *own = &all->machines[index];
    own->fresh = false;
    own->member_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t at = member_indexes[i];
        own->members[i].id = (kith_node_id){{(uint8_t)(0x70 - 0x10 * at), (uint8_t)at}};
        snprintf(own->members[i].address, sizeof own->members[i].address, "%s", addresses[at]);
    }
}

static void test_coordinator_form__a_cluster_that_has_it_is_joined_by_the_same_list(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    machine_on(&all, 0);
    machine_on(&all, 1);
    cluster_is_at(&all, 1, (const uint32_t[]){0, 1, 2}, 3);
    all.machines[2].id = (kith_node_id){{0x50, 2}};
    form_begin(&all, 0); /* the third is not there */
    run_ms(&all, 2000);
    assert_formed(&all, 0);
    fixture_teardown(&all);
}

static void test_coordinator_form__a_node_that_lost_its_folder_waits_to_join(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    for (uint32_t i = 0; i < 3; i++)
        machine_on(&all, i);
    cluster_is_at(&all, 1, (const uint32_t[]){0, 1, 2}, 3);
    cluster_is_at(&all, 2, (const uint32_t[]){0, 1, 2}, 3);
    all.machines[0].id = (kith_node_id){{0x99}}; /* not the one that was there */
    form_begin(&all, 0);
    run_ms(&all, 2000);
    assert_waits_to_join(&all, 0);
    fixture_teardown(&all);
}

static void test_coordinator_form__a_cluster_of_others_is_not_begun_again(void **state) {
    (void)state;
    const uint32_t members[] = {1, 2, 3, 4, 0};
    for (uint32_t count = 1; count <= 5; count++) {
        if (count == 3) continue;
        fixture all;
        fixture_setup(&all, test_seed(1), 3);
        machine_on(&all, 0);
        machine_on(&all, 1);
        cluster_is_at(&all, 1, members, count);
        form_begin(&all, 0);
        run_ms(&all, 2000);
        assert_waits_to_join(&all, 0);
        fixture_teardown(&all);
    }
}

static void test_coordinator_form__an_outsider_waits_to_join(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    for (uint32_t i = 0; i < 4; i++)
        machine_on(&all, i);
    form_begin(&all, 3); /* while the others are still new */
    run_ms(&all, 2000);
    assert_waits_to_join(&all, 3);
    for (uint32_t i = 0; i < 3; i++)
        form_begin(&all, i);
    run_ms(&all, 2000);
    for (uint32_t i = 0; i < 3; i++)
        assert_formed(&all, i);
    fixture_teardown(&all);
}

/* One that is of a cluster and cannot say of which: it has just begun, or waits to be joined. */
static void test_coordinator_form__a_peer_that_knows_no_members_is_asked_again(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    for (uint32_t i = 0; i < 3; i++)
        machine_on(&all, i);
    all.machines[1].fresh = false;
    form_begin(&all, 0);
    run_ms(&all, 5000);
    assert_undecided(&all, 0);
    cluster_is_at(&all, 1, (const uint32_t[]){0, 1, 2}, 3);
    run_ms(&all, 1000);
    assert_formed(&all, 0);
    fixture_teardown(&all);
}

/* What a peer said in an earlier round does not count: it is there no more. */
static void test_coordinator_form__all_must_answer_in_one_round(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    machine_on(&all, 0);
    machine_on(&all, 1);
    form_begin(&all, 0);
    run_ms(&all, 1000);
    kith_transport_sim_power_set(
        all.network, kith_transport_sim_host(all.network, addresses[1]), KITH_TRANSPORT_SIM_REFUSING);
    machine_on(&all, 2);
    run_ms(&all, 3000);
    assert_undecided(&all, 0);
    kith_transport_sim_power_set(
        all.network, kith_transport_sim_host(all.network, addresses[1]), KITH_TRANSPORT_SIM_UP);
    run_ms(&all, 3000);
    assert_formed(&all, 0);
    fixture_teardown(&all);
}

/* Two addresses of one coordinator would give it two votes. */
static void test_coordinator_form__one_that_answers_at_two_addresses_forms_nothing(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    for (uint32_t i = 0; i < 3; i++)
        machine_on(&all, i);
    all.machines[2].id = all.machines[1].id;
    form_begin(&all, 0);
    run_ms(&all, 7000); /* long enough for the log to say so */
    assert_undecided(&all, 0);
    fixture_teardown(&all);
}

static void test_coordinator_form__nonsense_is_no_answer(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 2);
    machine_on(&all, 0);
    machine_on(&all, 1);
    all.machines[1].id = (kith_node_id){{0}};
    form_begin(&all, 0);
    run_ms(&all, 3000);
    assert_undecided(&all, 0);
    fixture_teardown(&all);
}

/* --- stop --- */

/* After `done` nothing is asked any more, and the transport can go at once. */
static void stop_at(uint64_t ms, kith_transport_sim_power others) {
    fixture all;
    fixture_setup(&all, test_seed(1), 3);
    machine *own = &all.machines[0];
    machine_on(&all, 0);
    machine_on(&all, 1);
    kith_transport_sim_power_set(all.network, kith_transport_sim_host(all.network, addresses[1]), others);
    form_begin(&all, 0);
    run_ms(&all, ms);
    form_stop(own);
    for (uint32_t i = 0; !own->ended && i < 100000; i++)
        if (!sim_env_step(all.sim)) sim_env_run_for(all.sim, MS_NS / 10);
    assert_int_equal(own->ended, 1);
    assert_int_equal(own->status, KITH_CLOSED);
    kith_transport_destroy(own->transport);
    own->transport = NULL;
    run_ms(&all, 5); /* what was on its way still arrives */
    uint32_t asked_before = all.machines[1].asked;
    run_ms(&all, 3000);
    assert_int_equal(all.machines[1].asked, asked_before);
    kith_transport_sim_power_set(
        all.network, kith_transport_sim_host(all.network, addresses[1]), KITH_TRANSPORT_SIM_UP);
    fixture_teardown(&all);
}

static void test_coordinator_form__stop_at_any_moment(void **state) {
    (void)state;
    for (uint64_t ms = 0; ms < 500; ms += 9) {
        stop_at(ms, KITH_TRANSPORT_SIM_UP);
        stop_at(ms, KITH_TRANSPORT_SIM_REFUSING);
        stop_at(3 * ms, KITH_TRANSPORT_SIM_SILENT);
    }
}

static void stop_run(kith_task *task) {
    machine *own = (machine *)(void *)((char *)task - offsetof(machine, stop_timer.task));
    kith_coordinator_form_stop(own->form);
}

static void test_coordinator_form__a_stop_at_the_moment_of_a_round_comes_first(void **state) {
    (void)state;
    fixture all;
    fixture_setup(&all, test_seed(1), 2);
    machine *own = &all.machines[0];
    machine_on(&all, 0);
    machine_on(&all, 1);
    own->stop_timer = (kith_timer){.task = {.run = stop_run},
        .executor = own->executor,
        .due_ns = kith_env_now_ns(sim_env_kith(own->sim))};
    kith_timer_start(&own->stop_timer);
    form_begin(&all, 0);
    run_ms(&all, 1000);
    assert_int_equal(own->ended, 1);
    assert_int_equal(own->status, KITH_CLOSED);
    assert_int_equal(own->asked + all.machines[1].asked, 0);
    fixture_teardown(&all);
}

/* --- random histories --- */

/* Machines that begin at any time, over a network that loses and delays: all that form a cluster form the same, and in the
 * end all do. */
static void history_run(uint64_t seed) {
    fixture all;
    kith_rng rng;
    kith_rng_init(&rng, seed);
    fixture_setup(&all, seed, 1 + 2 * (uint32_t)kith_rng_below(&rng, 3));
    kith_transport_sim_link bad = {
        .delay_ns_max = 400 * MS_NS, .loss_ppm = 200000, .slow_ppm = 50000, .slow_ns_max = 3000 * MS_NS};
    kith_transport_sim_links_set(all.network, &bad);
    for (uint32_t i = 0; i < all.count; i++) {
        machine_on(&all, i);
        run_ms(&all, kith_rng_below(&rng, 3000));
        form_begin(&all, i);
        run_ms(&all, kith_rng_below(&rng, 3000));
    }
    kith_transport_sim_link good = {.delay_ns_max = 5 * MS_NS};
    kith_transport_sim_links_set(all.network, &good);
    run_ms(&all, 6000);
    for (uint32_t i = 0; i < all.count; i++)
        assert_formed(&all, i);
    fixture_teardown(&all);
}

static void test_coordinator_form__whoever_forms_a_cluster_forms_the_same(void **state) {
    (void)state;
    uint64_t seed = test_seed(1);
    for (uint64_t i = 0; i < test_scaled(60); i++)
        history_run(seed + i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinator_form__all_that_are_new_form_one_cluster),
        cmocka_unit_test(test_coordinator_form__they_wait_for_the_last),
        cmocka_unit_test(test_coordinator_form__a_cluster_that_has_it_is_joined_by_the_same_list),
        cmocka_unit_test(test_coordinator_form__a_node_that_lost_its_folder_waits_to_join),
        cmocka_unit_test(test_coordinator_form__a_cluster_of_others_is_not_begun_again),
        cmocka_unit_test(test_coordinator_form__an_outsider_waits_to_join),
        cmocka_unit_test(test_coordinator_form__a_peer_that_knows_no_members_is_asked_again),
        cmocka_unit_test(test_coordinator_form__all_must_answer_in_one_round),
        cmocka_unit_test(test_coordinator_form__one_that_answers_at_two_addresses_forms_nothing),
        cmocka_unit_test(test_coordinator_form__nonsense_is_no_answer),
        cmocka_unit_test(test_coordinator_form__stop_at_any_moment),
        cmocka_unit_test(test_coordinator_form__a_stop_at_the_moment_of_a_round_comes_first),
        cmocka_unit_test(test_coordinator_form__whoever_forms_a_cluster_forms_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
