/* Clients that do not read their answers: what they keep from others is bounded in number, bytes and time. */
#include "tests/unit/grpc/grpc_fixture.h"
#include "tests/unit/grpc/grpc_raw.h"

#include <string.h>

#define COUNT   "/kith.v1.Points/Count"
#define SCROLL  "/kith.v1.Points/Scroll"
#define STREAM  "/kith.v1.Points/UpsertStream"
#define CALL_MS 20000u
#define TRY_NS  UINT64_C(20000000000)
#define MIB     (1u << 20)

static void count_request(grpc_fixture *fixture) {
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
}

/* Answered with `api->payload_bytes` and a little. */
static void scroll_request(grpc_fixture *fixture) {
    kith_codec_client_scroll_encode("c", NULL, 1, true, false, KITH_READ_IN_SYNC, &fixture->request);
}

/* Calls until the answer has `code`: what another client's calls hold changes while the server works on them. */
static void call_until(grpc_fixture *fixture, void (*request)(grpc_fixture *), const char *method, int code) {
    uint64_t until_ns = kith_env_now_ns(fixture->env) + TRY_NS;
    int got;
    do {
        request(fixture);
        got = grpc_fixture_call(fixture, method, CALL_MS);
        if (kith_env_now_ns(fixture->env) > until_ns)
            fail_msg("code %d, %s", got, (const char *)fixture->reply.data);
    } while (got != code);
}

static void raw_calls(grpc_fixture *fixture, grpc_raw *raw, void (*request)(grpc_fixture *),
    const char *method, uint32_t count) {
    request(fixture);
    for (uint32_t i = 0; i < count; i++)
        grpc_raw_call(raw, method, fixture->request.data, fixture->request.bytes, true);
    kith_buf_clear(&fixture->request);
}

static void test_grpc_unread__answered_calls_leave_their_places(void **state) {
    FIXTURE_SETUP(.calls_max = 2);
    grpc_raw raw;
    grpc_raw_open(&raw, kith_grpc_server_port(fixture->server));
    raw_calls(fixture, &raw, count_request, COUNT, 2);
    grpc_fixture_wait_value(fixture, &fixture->api->calls, 2);
    call_until(fixture, count_request, COUNT, 0);
    grpc_raw_close(&raw);
    grpc_fixture_remove(fixture);
}

static void stream_request(grpc_fixture *fixture) {
    kith_id id = kith_id_of_number(1);
    kith_codec_client_upsert_encode(
        &(kith_codec_client_upsert){
            .collection = "c", .request_id = {.client = {1}}, .ids = &id, .point_count = 1},
        &fixture->request);
}

static void test_grpc_unread__answered_batches_leave_their_places(void **state) {
    FIXTURE_SETUP(.calls_max = 2);
    grpc_raw raw;
    grpc_raw_open(&raw, kith_grpc_server_port(fixture->server));
    raw_calls(fixture, &raw, stream_request, STREAM, 2);
    grpc_fixture_wait_value(fixture, &fixture->api->calls, 2);
    call_until(fixture, count_request, COUNT, 0);
    grpc_raw_close(&raw);
    grpc_fixture_remove(fixture);
}

/* 7 of 8 MiB are for long answers: six unread ones leave room for none, but for short ones and for requests. */
static void test_grpc_unread__their_bytes_are_admitted(void **state) {
    FIXTURE_SETUP(.request_bytes_max = 8 * MIB);
    grpc_raw raw;
    uint64_t until_ns = kith_env_now_ns(fixture->env) + TRY_NS;
    atomic_store(&fixture->api->payload_bytes, MIB);
    grpc_raw_open(&raw, kith_grpc_server_port(fixture->server));
    raw_calls(fixture, &raw, scroll_request, SCROLL, 6);
    /* One of the six is itself refused if it comes while this client's answer is out: another takes its place. */
    do {
        assert_true(kith_env_now_ns(fixture->env) < until_ns);
        raw_calls(fixture, &raw, scroll_request, SCROLL, 1);
        scroll_request(fixture);
    } while (grpc_fixture_call(fixture, SCROLL, CALL_MS) != KITH_GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr((const char *)fixture->reply.data, "of answers that clients have not read"));
    count_request(fixture);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, CALL_MS), 0);
    grpc_raw_close(&raw);
    call_until(fixture, scroll_request, SCROLL, 0);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unread__late_answers_are_cancelled(void **state) {
    FIXTURE_SETUP(.answer_timeout_ns = 100000000, .request_bytes_max = 8 * MIB);
    grpc_raw raw;
    atomic_store(&fixture->api->payload_bytes, MIB);
    grpc_raw_open(&raw, kith_grpc_server_port(fixture->server));
    raw_calls(fixture, &raw, scroll_request, SCROLL, 6);
    grpc_raw_wait_resets(&raw, 6);
    call_until(fixture, scroll_request, SCROLL, 0);
    grpc_raw_close(&raw);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unread__streams_with_late_answers_are_cancelled(void **state) {
    FIXTURE_SETUP(.answer_timeout_ns = 100000000);
    grpc_raw raw;
    grpc_raw_open(&raw, kith_grpc_server_port(fixture->server));
    stream_request(fixture);
    grpc_raw_call(&raw, STREAM, fixture->request.data, fixture->request.bytes, false);
    kith_buf_clear(&fixture->request);
    kith_codec_client_health_encode("", &fixture->request);
    grpc_raw_call(&raw, "/grpc.health.v1.Health/Watch", fixture->request.data, fixture->request.bytes, true);
    kith_buf_clear(&fixture->request);
    grpc_raw_wait_resets(&raw, 2);
    grpc_raw_close(&raw);
    grpc_fixture_remove(fixture);
}

/* A call that the api works on for longer is not one whose answer waits. */
static void test_grpc_unread__slow_calls_are_not_cancelled(void **state) {
    FIXTURE_SETUP(.answer_timeout_ns = 1);
    atomic_store(&fixture->api->mode, FAKE_HOLD);
    count_request(fixture);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, 1000), KITH_GRPC_DEADLINE_EXCEEDED);
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_unread__answered_calls_leave_their_places),
        cmocka_unit_test(test_grpc_unread__answered_batches_leave_their_places),
        cmocka_unit_test(test_grpc_unread__their_bytes_are_admitted),
        cmocka_unit_test(test_grpc_unread__late_answers_are_cancelled),
        cmocka_unit_test(test_grpc_unread__streams_with_late_answers_are_cancelled),
        cmocka_unit_test(test_grpc_unread__slow_calls_are_not_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
