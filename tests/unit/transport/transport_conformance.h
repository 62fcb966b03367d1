/* What every transport promises, as test bodies that run on any implementation: the including test program makes a
 * `conformance_fixture` with its own transport and lists CONFORMANCE_TESTS among its cmocka tests. A fixture's transport
 * must route `fixture->node` at `fixture->address` to itself or to `fixture->server`, and allow CONFORMANCE_IN_FLIGHT
 * calls at once. */
#ifndef KITH_TESTS_UNIT_TRANSPORT_TRANSPORT_CONFORMANCE_H
#define KITH_TESTS_UNIT_TRANSPORT_TRANSPORT_CONFORMANCE_H

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/thread.h"
#include "tests/lib/test_lib.h"
#include "transport/transport.h"

#define CONFORMANCE_IN_FLIGHT 64u

typedef struct conformance_fixture conformance_fixture;
struct conformance_fixture {
    kith_env *env;
    kith_executor *executor;
    kith_transport *transport; /* of the caller */
    kith_transport *server;    /* where the handlers are; NULL: `transport` */
    kith_node_id node;
    const char *address;                        /* of `server`; NULL: this process */
    void (*step)(conformance_fixture *fixture); /* moves a simulated world on; NULL: threads do so */
    /* Handlers below. Locked: the test thread and the handlers' threads meet here. */
    kith_mutex mutex;
    kith_cond changed;
    uint32_t handled;
    bool hold; /* KITH_AM_READ requests are kept instead of answered */
    kith_transport_request *held[CONFORMANCE_IN_FLIGHT];
    uint32_t held_count;
};

typedef struct conformance_call {
    kith_transport_call call;
    conformance_fixture *fixture;
    uint32_t done_count;
    kith_status status;
    kith_buf reply;
    char text[KITH_ERR_BYTES_MAX];
} conformance_call;

static inline kith_transport *conformance_server(conformance_fixture *fixture) {
    return fixture->server ? fixture->server : fixture->transport;
}

/* Waits for a change of the fixture, whose mutex is held. */
static inline void conformance_wait_locked(conformance_fixture *fixture) {
    if (!fixture->step) {
        kith_cond_wait(&fixture->changed, &fixture->mutex);
        return;
    }
    kith_mutex_unlock(&fixture->mutex);
    fixture->step(fixture);
    kith_mutex_lock(&fixture->mutex);
}

/* KITH_AM_SEARCH echoes; KITH_AM_WRITE fails with CORRUPT and a message; KITH_AM_READ echoes, or waits while `hold`. */
static inline void conformance_echo(void *ctx, kith_transport_request *request) {
    conformance_fixture *fixture = ctx;
    kith_mutex_lock(&fixture->mutex);
    fixture->handled++;
    kith_cond_broadcast(&fixture->changed);
    kith_mutex_unlock(&fixture->mutex);
    kith_transport_reply(
        request, conformance_server(fixture), KITH_OK, request->bytes, request->byte_count, NULL);
}

static inline void conformance_fail(void *ctx, kith_transport_request *request) {
    conformance_fixture *fixture = ctx;
    kith_err err;
    kith_status status = kith_err_set(&err, KITH_CORRUPT, "shard 7 is corrupt");
    kith_transport_reply(request, conformance_server(fixture), status, NULL, 0, &err);
}

static inline void conformance_read(void *ctx, kith_transport_request *request) {
    conformance_fixture *fixture = ctx;
    kith_mutex_lock(&fixture->mutex);
    bool hold = fixture->hold;
    if (hold) fixture->held[fixture->held_count++] = request;
    kith_cond_broadcast(&fixture->changed);
    kith_mutex_unlock(&fixture->mutex);
    if (!hold)
        kith_transport_reply(
            request, conformance_server(fixture), KITH_OK, request->bytes, request->byte_count, NULL);
}

static inline void conformance_register(conformance_fixture *fixture) {
    kith_mutex_init(&fixture->mutex, KITH_RANK_LOG);
    kith_cond_init(&fixture->changed);
    kith_transport *server = conformance_server(fixture);
    kith_transport_handle(server, KITH_AM_SEARCH, fixture->executor, conformance_echo, fixture);
    kith_transport_handle(server, KITH_AM_WRITE, fixture->executor, conformance_fail, fixture);
    kith_transport_handle(server, KITH_AM_READ, fixture->executor, conformance_read, fixture);
}

static inline void conformance_done(kith_transport_call *call, kith_status status, const void *reply,
    size_t reply_bytes, const kith_err *err) {
    conformance_call *own = (conformance_call *)call;
    kith_mutex_lock(&own->fixture->mutex);
    own->done_count++;
    own->status = status;
    if (reply_bytes) kith_buf_append(&own->reply, reply, reply_bytes);
    if (status != KITH_OK) snprintf(own->text, sizeof own->text, "%s", err->text);
    kith_cond_broadcast(&own->fixture->changed);
    kith_mutex_unlock(&own->fixture->mutex);
}

static inline void conformance_start(conformance_fixture *fixture, conformance_call *own, kith_am_kind kind,
    const void *bytes, size_t byte_count) {
    *own = (conformance_call){.fixture = fixture};
    own->call.node = fixture->node;
    own->call.address = fixture->address;
    own->call.kind = kind;
    own->call.bytes = bytes;
    own->call.byte_count = byte_count;
    own->call.done = conformance_done;
    kith_buf_init(&own->reply);
    kith_transport_start(fixture->transport, &own->call);
}

static inline void conformance_wait(conformance_call *own) {
    kith_mutex_lock(&own->fixture->mutex);
    while (own->done_count == 0)
        conformance_wait_locked(own->fixture);
    kith_mutex_unlock(&own->fixture->mutex);
}

static inline void conformance_wait_held(conformance_fixture *fixture, uint32_t count) {
    kith_mutex_lock(&fixture->mutex);
    while (fixture->held_count < count)
        conformance_wait_locked(fixture);
    kith_mutex_unlock(&fixture->mutex);
}

static inline void conformance_hold(conformance_fixture *fixture, bool hold) {
    kith_mutex_lock(&fixture->mutex);
    fixture->hold = hold;
    kith_mutex_unlock(&fixture->mutex);
}

/* Answers everything that is held. */
static inline void conformance_release(conformance_fixture *fixture) {
    kith_transport_request *held[CONFORMANCE_IN_FLIGHT];
    kith_mutex_lock(&fixture->mutex);
    uint32_t count = fixture->held_count;
    memcpy(held, fixture->held, sizeof held);
    fixture->held_count = 0;
    kith_mutex_unlock(&fixture->mutex);
    for (uint32_t i = 0; i < count; i++) {
        kith_transport_reply(held[i], conformance_server(fixture), KITH_OK, "late", 4, NULL);
    }
}

static inline void test_transport__reply_brings_the_bytes_back(void **state) {
    conformance_fixture *fixture = *state;
    uint8_t bytes[1000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t count = 0; count <= sizeof bytes; count += 250) {
        conformance_call own;
        conformance_start(fixture, &own, KITH_AM_SEARCH, bytes, count);
        conformance_wait(&own);
        assert_int_equal(own.status, KITH_OK);
        assert_int_equal(own.reply.bytes, count);
        if (count) assert_memory_equal(own.reply.data, bytes, count);
        kith_buf_fini(&own.reply);
    }
}

static inline void test_transport__failure_keeps_status_and_message(void **state) {
    conformance_call own;
    conformance_start(*state, &own, KITH_AM_WRITE, "x", 1);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_CORRUPT);
    assert_string_equal(own.text, "shard 7 is corrupt");
    kith_buf_fini(&own.reply);
}

static inline void test_transport__every_call_is_done_once(void **state) {
    conformance_fixture *fixture = *state;
    enum { CALLS = 32 };
    for (uint64_t round = 0; round < test_scaled(50); round++) {
        conformance_call calls[CALLS];
        uint32_t numbers[CALLS]; /* lent until done: not the loop's variable */
        for (uint32_t i = 0; i < CALLS; i++) {
            numbers[i] = i;
            conformance_start(fixture, &calls[i], KITH_AM_SEARCH, &numbers[i], sizeof numbers[i]);
        }
        for (uint32_t i = 0; i < CALLS; i++)
            conformance_wait(&calls[i]);
        for (uint32_t i = 0; i < CALLS; i++) {
            assert_int_equal(calls[i].done_count, 1);
            assert_int_equal(calls[i].reply.bytes, sizeof i);
            assert_memory_equal(calls[i].reply.data, &i, sizeof i);
            kith_buf_fini(&calls[i].reply);
        }
    }
}

static inline void test_transport__too_many_in_flight_is_busy(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call calls[CONFORMANCE_IN_FLIGHT], extra;
    conformance_hold(fixture, true);
    for (uint32_t i = 0; i < CONFORMANCE_IN_FLIGHT; i++)
        conformance_start(fixture, &calls[i], KITH_AM_READ, "r", 1);
    conformance_wait_held(fixture, CONFORMANCE_IN_FLIGHT);
    conformance_start(fixture, &extra, KITH_AM_READ, "r", 1);
    conformance_wait(&extra);
    assert_int_equal(extra.status, KITH_BUSY);
    conformance_hold(fixture, false);
    conformance_release(fixture);
    for (uint32_t i = 0; i < CONFORMANCE_IN_FLIGHT; i++) {
        conformance_wait(&calls[i]);
        assert_int_equal(calls[i].status, KITH_OK);
        kith_buf_fini(&calls[i].reply);
    }
    conformance_start(fixture, &extra, KITH_AM_READ, "r", 1); /* there is room again */
    conformance_wait(&extra);
    assert_int_equal(extra.status, KITH_OK);
    kith_buf_fini(&extra.reply);
}

static inline void test_transport__cancel_reaches_the_handler_and_still_ends_in_done(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own;
    conformance_hold(fixture, true);
    conformance_start(fixture, &own, KITH_AM_READ, "r", 1);
    conformance_wait_held(fixture, 1);
    assert_false(atomic_load(fixture->held[0]->cancelled));
    kith_transport_cancel(fixture->transport, &own.call);
    conformance_hold(fixture, false);
    while (!atomic_load(fixture->held[0]->cancelled)) {
        if (fixture->step) fixture->step(fixture);
    }
    conformance_release(fixture);
    conformance_wait(&own);
    assert_int_equal(own.done_count, 1);
    kith_buf_fini(&own.reply);
}

static inline void test_transport__deadline_in_the_past_is_not_handled(void **state) {
    conformance_fixture *fixture = *state;
    conformance_call own = {.fixture = fixture};
    uint32_t handled_before = fixture->handled;
    own.call =
        (kith_transport_call){.node = fixture->node, .kind = KITH_AM_SEARCH, .bytes = "x", .byte_count = 1};
    own.call.address = fixture->address;
    own.call.deadline_ns = 1;
    own.call.done = conformance_done;
    kith_transport_start(fixture->transport, &own.call);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_DEADLINE);
    assert_int_equal(fixture->handled, handled_before);
}

static inline void test_transport__kind_without_handler_is_refused(void **state) {
    conformance_call own;
    conformance_start(*state, &own, KITH_AM_COUNT, "x", 1);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_UNIMPLEMENTED);
    kith_buf_fini(&own.reply);
}

#define CONFORMANCE_TESTS(setup, teardown)                                                                   \
    cmocka_unit_test_setup_teardown(test_transport__reply_brings_the_bytes_back, setup, teardown),           \
        cmocka_unit_test_setup_teardown(test_transport__failure_keeps_status_and_message, setup, teardown),  \
        cmocka_unit_test_setup_teardown(test_transport__every_call_is_done_once, setup, teardown),           \
        cmocka_unit_test_setup_teardown(test_transport__too_many_in_flight_is_busy, setup, teardown),        \
        cmocka_unit_test_setup_teardown(                                                                     \
            test_transport__cancel_reaches_the_handler_and_still_ends_in_done, setup, teardown),             \
        cmocka_unit_test_setup_teardown(                                                                     \
            test_transport__deadline_in_the_past_is_not_handled, setup, teardown),                           \
        cmocka_unit_test_setup_teardown(test_transport__kind_without_handler_is_refused, setup, teardown)

#endif
