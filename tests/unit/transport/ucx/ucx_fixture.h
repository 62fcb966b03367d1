/* What the tests of the UCX transport share: a pair of nodes in one process, a caller and a server. */
#ifndef KITH_TESTS_UNIT_TRANSPORT_UCX_UCX_FIXTURE_H
#define KITH_TESTS_UNIT_TRANSPORT_UCX_UCX_FIXTURE_H

#include "tests/unit/transport/transport_conformance.h"
#include "transport/ucx/transport_ucx.h"

#define MS 1000000ULL

static const kith_node_id caller_node = {{1}};
static const kith_node_id server_node = {{2}};

static inline kith_transport_ucx_options ucx_test_options(kith_env *env, kith_node_id node) {
    return (kith_transport_ucx_options){
        .env = env,
        .node_id = node,
        .cluster_name = "test",
        .role = "data",
        .bind_address = "127.0.0.1",
        .in_flight_max = CONFORMANCE_IN_FLIGHT,
        .ping_interval_ms = 100,
        .ping_timeout_ms = 10000, /* a thread may wait long for a processor of a busy machine */
    };
}

static inline void ucx_fixture_init(conformance_fixture *fixture) {
    kith_err err;
    assert_ok(kith_env_posix_create(&fixture->env, &err), &err);
    assert_ok(kith_executor_create(fixture->env, "handlers", 2, &fixture->executor, &err), &err);
}

static inline void ucx_fixture_serve(
    conformance_fixture *fixture, const kith_transport_ucx_options *options) {
    kith_err err;
    assert_ok(kith_transport_ucx_create(options, &fixture->server, &err), &err);
    fixture->node = options->node_id;
    fixture->address = kith_transport_ucx_address(fixture->server);
}

static inline void ucx_fixture_call(conformance_fixture *fixture, const kith_transport_ucx_options *options) {
    kith_err err;
    assert_ok(kith_transport_ucx_create(options, &fixture->transport, &err), &err);
}

static inline void ucx_fixture_free(conformance_fixture *fixture) {
    /* What a failed test left held: a transport waits for its handlers. */
    conformance_hold(fixture, false);
    conformance_release(fixture);
    kith_transport_destroy(fixture->transport);
    kith_transport_destroy(fixture->server);
    kith_executor_destroy(fixture->executor);
    kith_env_posix_destroy(fixture->env);
    kith_cond_fini(&fixture->changed);
    kith_mutex_fini(&fixture->mutex);
    kith_free(fixture);
}

/* A call that is started and waited for. */
static inline void ucx_test_call(
    conformance_fixture *fixture, conformance_call *own, const kith_transport_call *call) {
    *own = (conformance_call){.fixture = fixture, .call = *call};
    own->call.done = conformance_done;
    kith_buf_init(&own->reply);
    kith_transport_start(fixture->transport, &own->call);
    conformance_wait(own);
    kith_buf_fini(&own->reply);
}

#endif
