/* The loop transport keeps the transport's promises. */
#include "tests/unit/transport/transport_conformance.h"

static int setup(void **state) {
    kith_err err;
    conformance_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    assert_ok(kith_env_posix_create(&fixture->env, &err), &err);
    assert_ok(kith_executor_create(fixture->env, "handlers", 2, &fixture->executor, &err), &err);
    assert_ok(
        kith_transport_loop_create(fixture->env, CONFORMANCE_IN_FLIGHT, &fixture->transport, &err), &err);
    conformance_register(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    conformance_fixture *fixture = *state;
    kith_executor_destroy(fixture->executor);
    kith_transport_destroy(fixture->transport);
    kith_env_posix_destroy(fixture->env);
    kith_cond_fini(&fixture->changed);
    kith_mutex_fini(&fixture->mutex);
    kith_free(fixture);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {CONFORMANCE_TESTS(setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
