/* Starting, calling and ending for the tests of this folder. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"

#define WAIT_NS UINT64_C(20000000000)
#define POLL_NS UINT64_C(2000000)
#define CALL_MS 20000u

grpc_fixture *grpc_fixture_make(const kith_grpc_server_options *limits) {
    grpc_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    char target[32];
    assert_ok(kith_env_posix_create(&fixture->env, &fixture->err), &fixture->err);
    fixture->api = fake_api_create(fixture->env);
    fixture->metrics = kith_metrics_create();
    kith_arena_init(&fixture->arena);
    kith_buf_init(&fixture->request);
    kith_buf_init(&fixture->reply);
    kith_grpc_server_options options = *limits;
    options.env = fixture->env;
    options.api = fixture->api;
    options.metrics = fixture->metrics;
    options.bind_address = "127.0.0.1";
    assert_ok(kith_grpc_server_start(&options, &fixture->server, &fixture->err), &fixture->err);
    snprintf(target, sizeof target, "127.0.0.1:%u", kith_grpc_server_port(fixture->server));
    assert_ok(kith_grpc_client_create(target, 1, &fixture->client, &fixture->err), &fixture->err);
    return fixture;
}

void grpc_fixture_remove(grpc_fixture *fixture) {
    kith_grpc_client_destroy(fixture->client);
    kith_grpc_server_stop(fixture->server, UINT64_C(10000000000));
    kith_buf_fini(&fixture->request);
    kith_buf_fini(&fixture->reply);
    kith_arena_fini(&fixture->arena);
    kith_metrics_destroy(fixture->metrics);
    fake_api_destroy(fixture->api);
    kith_env_posix_destroy(fixture->env);
    kith_free(fixture);
}

int grpc_fixture_call(grpc_fixture *fixture, const char *method, uint64_t timeout_ms) {
    kith_grpc_request request = {.method = method,
        .data = fixture->request.data,
        .bytes = fixture->request.bytes,
        .timeout_ms = timeout_ms};
    kith_buf_clear(&fixture->reply);
    int code = kith_grpc_client_call(fixture->client, &request, &fixture->reply);
    *kith_buf_reserve(&fixture->reply, 1) = 0;
    kith_buf_clear(&fixture->request);
    return code;
}

void grpc_fixture_expect(grpc_fixture *fixture, const char *method, int code, const char *message) {
    assert_int_equal(grpc_fixture_call(fixture, method, CALL_MS), code);
    assert_string_equal((const char *)fixture->reply.data, message);
}

static void on_message(void *ctx, const uint8_t *data, size_t bytes) {
    grpc_seen *seen = ctx;
    seen->messages++;
    kith_buf_clear(&seen->last);
    kith_buf_append(&seen->last, data, bytes);
}

static void on_end(void *ctx, int code, const char *message) {
    grpc_seen *seen = ctx;
    seen->has_ended = true;
    seen->code = code;
    snprintf(seen->message, sizeof seen->message, "%s", message);
}

kith_grpc_stream *grpc_fixture_stream(grpc_fixture *fixture, const char *method, grpc_seen *seen) {
    *seen = (grpc_seen){0};
    kith_buf_init(&seen->last);
    return kith_grpc_stream_open(
        fixture->client, &(kith_grpc_stream_options){
                             .method = method, .on_message = on_message, .on_end = on_end, .ctx = seen});
}

static uint64_t wait_until(const grpc_fixture *fixture) {
    return kith_env_now_ns(fixture->env) + WAIT_NS;
}

static void poll_once(grpc_fixture *fixture, uint64_t until_ns) {
    kith_grpc_client_poll(fixture->client, POLL_NS);
    if (kith_env_now_ns(fixture->env) > until_ns) fail_msg("nothing came in 20 s");
}

static void wait_can_send(grpc_fixture *fixture, kith_grpc_stream *stream) {
    uint64_t until_ns = wait_until(fixture);
    while (!kith_grpc_stream_can_send(stream))
        poll_once(fixture, until_ns);
}

void grpc_fixture_send(grpc_fixture *fixture, kith_grpc_stream *stream) {
    wait_can_send(fixture, stream);
    kith_grpc_stream_send(stream, fixture->request.data, fixture->request.bytes);
    kith_buf_clear(&fixture->request);
}

void grpc_fixture_finish(grpc_fixture *fixture, kith_grpc_stream *stream) {
    wait_can_send(fixture, stream);
    kith_grpc_stream_finish(stream);
}

void grpc_fixture_wait(grpc_fixture *fixture, const grpc_seen *seen, uint32_t least) {
    uint64_t until_ns = wait_until(fixture);
    while (seen->messages < least && !seen->has_ended)
        poll_once(fixture, until_ns);
    assert_true(seen->messages >= least);
}

void grpc_fixture_wait_end(grpc_fixture *fixture, const grpc_seen *seen) {
    uint64_t until_ns = wait_until(fixture);
    while (!seen->has_ended)
        poll_once(fixture, until_ns);
}

void grpc_fixture_wait_value(grpc_fixture *fixture, const atomic_uint *value, uint32_t wanted) {
    uint64_t until_ns = wait_until(fixture);
    while (atomic_load(value) != wanted)
        poll_once(fixture, until_ns);
}
