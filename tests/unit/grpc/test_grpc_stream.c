/* UpsertStream: answers in order, bounded in between, one bad batch ends nothing. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <stdio.h>
#include <string.h>

#define STREAM "/kith.v1.Points/UpsertStream"

static void batch_request(grpc_fixture *fixture, uint64_t number, uint32_t payload_bytes) {
    static char payload[9 << 20];
    const char *text = payload;
    kith_id id = kith_id_of_number(number);
    kith_request_id request_id = {.client = {1}, .number = number};
    kith_codec_client_upsert_encode(&(kith_codec_client_upsert){.collection = "c",
                                        .request_id = request_id,
                                        .ids = &id,
                                        .point_count = 1,
                                        .payloads = payload_bytes > 0 ? &text : NULL,
                                        .payload_bytes = &payload_bytes},
        &fixture->request);
}

static void seen_answer(
    grpc_fixture *fixture, const grpc_seen *seen, int *code_out, const char **message_out) {
    assert_ok(kith_codec_client_upsert_answer_decode(
                  seen->last.data, seen->last.bytes, &fixture->arena, code_out, message_out, &fixture->err),
        &fixture->err);
}

static void test_grpc_stream__batches_are_answered(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    for (uint64_t i = 1; i <= 200; i++) {
        batch_request(fixture, i, 0);
        grpc_fixture_send(fixture, stream);
    }
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait_end(fixture, &seen);
    assert_int_equal(seen.code, 0);
    assert_int_equal(seen.messages, 200);
    assert_string_equal(fixture->api->asked, "upsert c points=1 number=200 first=200");
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

/* The fake api answers on one thread in the order asked; here a refusal, which is known at once, follows a
 * held batch and must wait for it. */
static void test_grpc_stream__answers_keep_the_order(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    int code;
    const char *message;
    fixture->api->mode = FAKE_HOLD;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    batch_request(fixture, 1, 0);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 1);
    kith_buf_append_text(&fixture->request, "\xff\xff");
    grpc_fixture_send(fixture, stream);
    for (int i = 0; i < 50; i++)
        kith_grpc_client_poll(fixture->client, 1000000);
    assert_int_equal(seen.messages, 0);
    atomic_store(&fixture->api->released, true);
    grpc_fixture_wait(fixture, &seen, 2);
    seen_answer(fixture, &seen, &code, &message);
    assert_int_equal(code, 3);
    assert_string_equal(message, "UpsertRequest: its 2 bytes are not a valid message");
    batch_request(fixture, 3, 0);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait_end(fixture, &seen);
    seen_answer(fixture, &seen, &code, &message);
    assert_int_equal(code, 0);
    assert_int_equal(seen.messages, 3);
    assert_int_equal(seen.code, 0);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

/* A collection that was created elsewhere a moment ago. */
static void test_grpc_stream__an_unknown_collection_is_looked_for(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    int code;
    const char *message;
    fixture->api->mode = FAKE_REFUSE;
    fixture->api->status = KITH_NOT_FOUND;
    fixture->api->message = "there is no such collection";
    fixture->api->refreshes = true;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    batch_request(fixture, 1, 100);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait(fixture, &seen, 1);
    seen_answer(fixture, &seen, &code, &message);
    assert_int_equal(code, 0);
    assert_int_equal(fixture->api->calls, 2);
    fixture->api->mode = FAKE_REFUSE; /* nor is it there in a new map: said once, not for ever */
    fixture->api->refreshes = false;
    batch_request(fixture, 2, 0);
    grpc_fixture_send(fixture, stream);
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait_end(fixture, &seen);
    seen_answer(fixture, &seen, &code, &message);
    assert_int_equal(code, 5);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

static void test_grpc_stream__only_so_many_batches_are_in_flight(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    fixture->api->mode = FAKE_HOLD;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    for (uint64_t i = 1; i <= 40; i++) {
        batch_request(fixture, i, 0);
        grpc_fixture_send(fixture, stream);
    }
    grpc_fixture_finish(fixture, stream);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 16);
    for (int i = 0; i < 50; i++)
        kith_grpc_client_poll(fixture->client, 1000000);
    assert_int_equal(atomic_load(&fixture->api->calls), 16);
    atomic_store(&fixture->api->released, true);
    grpc_fixture_wait_end(fixture, &seen);
    assert_int_equal(seen.messages, 40);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

static void test_grpc_stream__only_so_many_bytes_are_in_flight(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    fixture->api->mode = FAKE_HOLD;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    for (uint64_t i = 1; i <= 7; i++) {
        batch_request(fixture, i, 9 << 20);
        grpc_fixture_send(fixture, stream);
    }
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 7);
    batch_request(fixture, 8, 9 << 20); /* 63 MiB wait: one more is read, and then none */
    grpc_fixture_send(fixture, stream);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 8);
    batch_request(fixture, 9, 0);
    kith_grpc_stream_send(stream, fixture->request.data, 0);
    for (int i = 0; i < 50; i++)
        kith_grpc_client_poll(fixture->client, 1000000);
    assert_int_equal(atomic_load(&fixture->api->calls), 8);
    atomic_store(&fixture->api->released, true);
    grpc_fixture_wait(fixture, &seen, 9);
    kith_grpc_stream_close(stream);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

static void test_grpc_stream__a_cancelled_stream_cancels_its_batches(void **state) {
    FIXTURE_SETUP();
    grpc_seen seen;
    fixture->api->mode = FAKE_HOLD;
    kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
    for (uint64_t i = 1; i <= 3; i++) {
        batch_request(fixture, i, 0);
        grpc_fixture_send(fixture, stream);
    }
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 3);
    kith_grpc_stream_close(stream);
    grpc_fixture_wait_value(fixture, &fixture->api->cancelled, 3);
    kith_buf_fini(&seen.last);
    grpc_fixture_remove(fixture);
}

/* Pooled streams start clean. */
static void test_grpc_stream__many_streams_after_each_other(void **state) {
    FIXTURE_SETUP(.thread_count = 2);
    for (int round = 0; round < 30; round++) {
        grpc_seen seen;
        kith_grpc_stream *stream = grpc_fixture_stream(fixture, STREAM, &seen);
        for (uint64_t i = 1; i <= 20; i++) {
            batch_request(fixture, i, 0);
            grpc_fixture_send(fixture, stream);
        }
        if (round % 3 != 0) grpc_fixture_finish(fixture, stream);
        if (round % 3 != 0) grpc_fixture_wait_end(fixture, &seen);
        if (round % 3 != 0) assert_int_equal(seen.messages, 20);
        kith_grpc_stream_close(stream);
        kith_buf_fini(&seen.last);
    }
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_stream__batches_are_answered),
        cmocka_unit_test(test_grpc_stream__answers_keep_the_order),
        cmocka_unit_test(test_grpc_stream__an_unknown_collection_is_looked_for),
        cmocka_unit_test(test_grpc_stream__only_so_many_batches_are_in_flight),
        cmocka_unit_test(test_grpc_stream__only_so_many_bytes_are_in_flight),
        cmocka_unit_test(test_grpc_stream__a_cancelled_stream_cancels_its_batches),
        cmocka_unit_test(test_grpc_stream__many_streams_after_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
