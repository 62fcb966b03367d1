/* Starting where it cannot, and stopping while there is work. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/grpc/grpc_internal.h"

#define COUNT     "/kith.v1.Points/Count"
#define STREAM    "/kith.v1.Points/UpsertStream"
#define SECOND_NS UINT64_C(1000000000)

typedef struct stopper {
    grpc_fixture *fixture;
    kith_thread *thread;
    uint64_t drain_ns;
    atomic_uint done;
} stopper;

static void stop_run(void *ctx) {
    stopper *stop = ctx;
    kith_grpc_server_stop(stop->fixture->server, stop->drain_ns);
    atomic_store(&stop->done, 1);
}

/* Stops the server on another thread: the client is polled by this one. */
static void stop_begin(stopper *stop, grpc_fixture *fixture, uint64_t drain_ns) {
    *stop = (stopper){.fixture = fixture, .drain_ns = drain_ns};
    assert_ok(kith_thread_start(fixture->env, "stopper", stop_run, stop, &stop->thread, &fixture->err),
        &fixture->err);
}

static void stop_wait(stopper *stop) {
    grpc_fixture_wait_value(stop->fixture, &stop->done, 1);
    kith_thread_join(stop->thread);
    stop->fixture->server = NULL;
}

typedef struct tally {
    uint32_t codes[17];
    uint32_t all;
} tally;

static void count_reply(void *ctx, const kith_grpc_reply *reply) {
    tally *replies = ctx;
    replies->codes[reply->code]++;
    replies->all++;
}

static void start_counts(grpc_fixture *fixture, uint32_t count, tally *replies) {
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    for (uint32_t i = 0; i < count; i++) {
        kith_grpc_client_start(fixture->client,
            &(kith_grpc_request){.method = COUNT,
                .data = fixture->request.data,
                .bytes = fixture->request.bytes,
                .timeout_ms = 20000},
            count_reply, replies);
    }
    kith_buf_clear(&fixture->request);
}

static void wait_replies(grpc_fixture *fixture, const tally *replies, uint32_t count) {
    uint64_t until_ns = kith_env_now_ns(fixture->env) + 20 * SECOND_NS;
    while (replies->all < count) {
        kith_grpc_client_poll(fixture->client, 1000000);
        if (kith_env_now_ns(fixture->env) > until_ns) fail_msg("%u of %u replies", replies->all, count);
    }
}

static void test_grpc_stop__a_port_in_use_is_said(void **state) {
    FIXTURE_SETUP();
    kith_grpc_server *other;
    char expected[128];
    kith_grpc_server_options options = {.env = fixture->env,
        .api = fixture->api,
        .bind_address = "127.0.0.1",
        .port = kith_grpc_server_port(fixture->server)};
    assert_int_equal(kith_grpc_server_start(&options, &other, &fixture->err), KITH_IO);
    snprintf(expected, sizeof expected, "gRPC cannot listen on 127.0.0.1:%u: Address already in use",
        options.port);
    assert_string_equal(fixture->err.text, expected);
    options.bind_address = "not an address";
    assert_int_equal(kith_grpc_server_start(&options, &other, &fixture->err), KITH_INVALID);
    grpc_fixture_remove(fixture);
}

static void test_grpc_stop__calls_in_flight_are_answered(void **state) {
    FIXTURE_SETUP(.thread_count = 2);
    stopper stop;
    tally replies = {0};
    fixture->api->mode = FAKE_HOLD;
    start_counts(fixture, 5, &replies);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 5);
    stop_begin(&stop, fixture, 10 * SECOND_NS);
    for (int i = 0; i < 50; i++)
        kith_grpc_client_poll(fixture->client, 1000000);
    assert_int_equal(atomic_load(&stop.done), 0);
    atomic_store(&fixture->api->released, true);
    wait_replies(fixture, &replies, 5);
    assert_int_equal(replies.codes[0], 5);
    stop_wait(&stop);
    grpc_fixture_remove(fixture);
}

static void test_grpc_stop__the_drain_ends_by_cancelling(void **state) {
    FIXTURE_SETUP();
    stopper stop;
    tally replies = {0};
    fixture->api->mode = FAKE_HOLD;
    start_counts(fixture, 5, &replies);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 5);
    stop_begin(&stop, fixture, SECOND_NS / 10);
    wait_replies(fixture, &replies, 5);
    assert_int_equal(replies.codes[0], 0);
    stop_wait(&stop);
    assert_int_equal(atomic_load(&fixture->api->cancelled), 5);
    grpc_fixture_remove(fixture);
}

/* Idle streams must not hold a stop up, and what a stream sent before is still answered. */
static void test_grpc_stop__streams_end(void **state) {
    FIXTURE_SETUP();
    stopper stop;
    grpc_seen upserts, watch, reflection;
    fixture->api->mode = FAKE_HOLD;
    kith_grpc_stream *streams[3];
    streams[0] = grpc_fixture_stream(fixture, STREAM, &upserts);
    streams[1] = grpc_fixture_stream(fixture, "/grpc.health.v1.Health/Watch", &watch);
    streams[2] = grpc_fixture_stream(
        fixture, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &reflection);
    kith_codec_client_health_encode("", &fixture->request);
    grpc_fixture_send(fixture, streams[1]);
    grpc_fixture_wait(fixture, &watch, 1);
    kith_buf_append(&fixture->request, "\x3a\0", 2); /* list_services: "" */
    grpc_fixture_send(fixture, streams[2]);
    grpc_fixture_wait(fixture, &reflection, 1);
    kith_id id = kith_id_of_number(1);
    kith_codec_client_upsert_encode(
        &(kith_codec_client_upsert){
            .collection = "c", .request_id = {.client = {1}}, .ids = &id, .point_count = 1},
        &fixture->request);
    grpc_fixture_send(fixture, streams[0]);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 1);
    stop_begin(&stop, fixture, 10 * SECOND_NS);
    grpc_fixture_wait_end(fixture, &watch);
    assert_memory_equal(watch.last.data, "\x08\x02", 2);
    grpc_fixture_wait_end(fixture, &reflection);
    assert_false(upserts.has_ended);
    atomic_store(&fixture->api->released, true);
    grpc_fixture_wait_end(fixture, &upserts);
    assert_int_equal(upserts.messages, 1);
    assert_int_equal(upserts.code, 14);
    stop_wait(&stop);
    for (int i = 0; i < 3; i++)
        kith_grpc_stream_close(streams[i]);
    kith_buf_fini(&upserts.last);
    kith_buf_fini(&watch.last);
    kith_buf_fini(&reflection.last);
    grpc_fixture_remove(fixture);
}

/* Calls keep coming while the server stops: each gets an answer or a clear no. */
static void test_grpc_stop__under_load(void **state) {
    FIXTURE_SETUP(.thread_count = 2);
    stopper stop;
    tally replies = {0};
    uint32_t started = 0;
    for (; started < 2000; started += 20) {
        if (started == 1000) stop_begin(&stop, fixture, SECOND_NS);
        start_counts(fixture, 20, &replies);
        kith_grpc_client_poll(fixture->client, 0);
    }
    wait_replies(fixture, &replies, started);
    assert_true(replies.codes[0] > 0);
    assert_int_equal(replies.codes[0] + replies.codes[14] + replies.codes[1] + replies.codes[8], started);
    stop_wait(&stop);
    grpc_fixture_remove(fixture);
}

static void end_thread(void *ctx) {
    kith_grpc_server *server = ctx;
    server->threads[0].ending = true;
}

/* A stream that was matched before the stop may come out of the queue after its thread was told of the stop: it must end
 * all the same, or the stop waits for it. Here the thread is told while it starts a call. */
static void test_grpc_stop__late_streams_end(void **state) {
    FIXTURE_SETUP();
    grpc_seen upserts, watch;
    fixture->api->hook_ctx = fixture->server;
    fixture->api->hook = end_thread;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, 20000), 0);
    kith_grpc_stream *streams[2] = {grpc_fixture_stream(fixture, STREAM, &upserts),
        grpc_fixture_stream(fixture, "/grpc.health.v1.Health/Watch", &watch)};
    kith_codec_client_health_encode("", &fixture->request);
    grpc_fixture_send(fixture, streams[1]);
    grpc_fixture_wait_end(fixture, &upserts);
    grpc_fixture_wait_end(fixture, &watch);
    assert_int_equal(upserts.code, KITH_GRPC_UNAVAILABLE);
    assert_int_equal(watch.code, KITH_GRPC_UNAVAILABLE);
    for (int i = 0; i < 2; i++)
        kith_grpc_stream_close(streams[i]);
    kith_buf_fini(&upserts.last);
    kith_buf_fini(&watch.last);
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_stop__a_port_in_use_is_said),
        cmocka_unit_test(test_grpc_stop__calls_in_flight_are_answered),
        cmocka_unit_test(test_grpc_stop__the_drain_ends_by_cancelling),
        cmocka_unit_test(test_grpc_stop__streams_end),
        cmocka_unit_test(test_grpc_stop__under_load),
        cmocka_unit_test(test_grpc_stop__late_streams_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
