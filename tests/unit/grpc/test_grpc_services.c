/* Health and reflection, which tools of others speak. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <string.h>

#define CHECK "/grpc.health.v1.Health/Check"
#define WATCH "/grpc.health.v1.Health/Watch"

/* Bytes of ServerReflectionRequest: list_services = 7, file_containing_symbol = 4, file_by_filename = 3. */
#define ASK(field, text) (char)((field) << 3 | 2), (char)(sizeof(text) - 1)

static bool reply_has(const kith_buf *buf, const char *text) {
    return memmem(buf->data, buf->bytes, text, strlen(text)) != NULL;
}

static bool is_serving(grpc_fixture *fixture, const char *service) {
    bool serving;
    kith_codec_client_health_encode(service, &fixture->request);
    assert_int_equal(grpc_fixture_call(fixture, CHECK, 20000), 0);
    assert_ok(kith_codec_client_health_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &serving, &fixture->err),
        &fixture->err);
    return serving;
}

static void test_grpc_services__health_follows_readiness(void **state) {
    FIXTURE_SETUP();
    fixture->api->message = "recovering";
    assert_true(is_serving(fixture, ""));
    assert_true(is_serving(fixture, "kith.v1.Points"));
    fixture->api->ready = KITH_UNAVAILABLE;
    assert_false(is_serving(fixture, ""));
    kith_codec_client_health_encode("nobody", &fixture->request);
    grpc_fixture_expect(fixture, CHECK, 5, "service: \"nobody\" is not one of this server's");
    grpc_fixture_remove(fixture);
}

static void test_grpc_services__watch_tells_changes(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    fixture->api->message = "recovering";
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, WATCH, &seen);
    kith_codec_client_health_encode("", &fixture->request);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 1);
    assert_memory_equal(seen.last.data, "\x08\x01", 2);
    fixture->api->ready = KITH_UNAVAILABLE;
    grpc_fixture_wait(fixture, &seen, 2);
    assert_memory_equal(seen.last.data, "\x08\x02", 2);
    fixture->api->ready = KITH_OK;
    grpc_fixture_wait(fixture, &seen, 3);
    assert_memory_equal(seen.last.data, "\x08\x01", 2);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

static void test_grpc_services__watch_of_an_unknown_service(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, WATCH, &seen);
    kith_codec_client_health_encode("nobody", &fixture->request);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 1);
    assert_memory_equal(seen.last.data, "\x08\x03", 2);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

static void reflection_asks(grpc_fixture *fixture, const char *method) {
    static const char list[] = {ASK(7, "")};
    static const char symbol[] = {ASK(4, "kith.v1.Points.Search"), 0};
    static const char file[] = {ASK(3, "kith/v1/collections.proto"), 0};
    static const char missing[] = {ASK(4, "kith.v1.Nothing"), 0};
    grpc_seen seen;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, method, &seen);
    kith_buf_append(&fixture->request, list, 2);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 1);
    assert_true(reply_has(&seen.last, "kith.v1.Points"));
    assert_true(reply_has(&seen.last, "kith.v1.Collections"));
    assert_true(reply_has(&seen.last, "grpc.health.v1.Health"));

    kith_buf_append(&fixture->request, symbol, 2);
    kith_buf_append_text(&fixture->request, "kith.v1.Points.Search");
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 2);
    assert_true(reply_has(&seen.last, "kith/v1/points.proto"));
    assert_true(reply_has(&seen.last, "UpsertStreamResponse"));
    assert_true(reply_has(&seen.last, "VectorField")); /* the imported file comes along */

    kith_buf_append(&fixture->request, file, 2);
    kith_buf_append_text(&fixture->request, "kith/v1/collections.proto");
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 3);
    assert_true(reply_has(&seen.last, "CreateCollectionRequest"));

    kith_buf_append(&fixture->request, missing, 2);
    kith_buf_append_text(&fixture->request, "kith.v1.Nothing");
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 4);
    assert_true(reply_has(&seen.last, "no symbol kith.v1.Nothing"));
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait_end(fixture, &seen);
    assert_int_equal(seen.code, 0);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
}

static void test_grpc_services__reflection(void **state) {
    FIXTURE_SETUP();
    reflection_asks(fixture, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
    reflection_asks(fixture, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    grpc_fixture_remove(fixture);
}

static void test_grpc_services__malformed_reflection_ends_the_stream(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    kith_grpc_stream *stream =
        grpc_fixture_stream(fixture, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &seen);
    kith_buf_append_text(&fixture->request, "\xff");
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait_end(fixture, &seen);
    assert_int_equal(seen.code, 3);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_services__health_follows_readiness),
        cmocka_unit_test(test_grpc_services__watch_tells_changes),
        cmocka_unit_test(test_grpc_services__watch_of_an_unknown_service),
        cmocka_unit_test(test_grpc_services__reflection),
        cmocka_unit_test(test_grpc_services__malformed_reflection_ends_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
