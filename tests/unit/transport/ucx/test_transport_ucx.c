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

int main(void) {
    const struct CMUnitTest tests[] = {
        CONFORMANCE_TESTS(setup, teardown),
        CONFORMANCE_TESTS(setup_alone, teardown),
        cmocka_unit_test_setup_teardown(test_transport_ucx__echoes_bodies_of_every_size, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
