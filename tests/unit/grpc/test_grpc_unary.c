/* Unary calls reach the api with what the client sent and come back with what it answered. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <pthread.h>
#include <string.h>

#define SEARCH "/kith.v1.Points/Search"
#define COUNT  "/kith.v1.Points/Count"
#define OK_MS  20000u

static void call_ok(grpc_fixture *fixture, const char *method) {
    int code = grpc_fixture_call(fixture, method, OK_MS);
    if (code != 0) fail_msg("%s: %d %s", method, code, (const char *)fixture->reply.data);
}

static void search_request(grpc_fixture *fixture, uint32_t query_count) {
    static float queries[64 * 128];
    kith_codec_client_search_encode(&(kith_codec_client_search){.collection = "c",
                                        .field = "title",
                                        .queries = queries,
                                        .query_count = query_count,
                                        .dim = 128,
                                        .k = 3,
                                        .exact = true,
                                        .with_payload = fixture->api->payload_bytes > 0},
        &fixture->request);
}

static void test_grpc_unary__search_brings_hits(void **state) {
    FIXTURE_SETUP();
    fixture->api->payload_bytes = 10;
    fixture->api->with_missing = true;
    search_request(fixture, 2);
    call_ok(fixture, SEARCH);
    assert_string_equal(fixture->api->asked, "search c/title bytes=1024 k=3 exact=1 payload=1");
    kith_codec_client_hits hits;
    assert_ok(kith_codec_client_search_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &hits, &fixture->err),
        &fixture->err);
    assert_int_equal(hits.query_count, 2);
    assert_int_equal(hits.hit_count, 6);
    assert_int_equal(hits.hit_counts[1], 3);
    assert_int_equal(hits.ids[5].number, 5);
    assert_true(hits.scores[5] == 2.5f);
    assert_int_equal(hits.payload_bytes[5], 10);
    assert_int_equal(hits.coverage.shards_answered, 1);
    assert_string_equal(hits.coverage.reason, "corrupt");
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__search_brings_string_ids(void **state) {
    FIXTURE_SETUP();
    fixture->api->with_strings = true;
    search_request(fixture, 1);
    call_ok(fixture, SEARCH);
    kith_codec_client_hits hits;
    assert_ok(kith_codec_client_search_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &hits, &fixture->err),
        &fixture->err);
    assert_int_equal(hits.ids[2].type, KITH_ID_STRING);
    assert_memory_equal(hits.ids[2].bytes, "abc", 3);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__count_get_and_scroll(void **state) {
    FIXTURE_SETUP();
    uint64_t count;
    kith_codec_client_coverage coverage;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    call_ok(fixture, COUNT);
    assert_string_equal(fixture->api->asked, "count c deadline=1");
    assert_ok(kith_codec_client_count_decode(fixture->reply.data, fixture->reply.bytes, &fixture->arena,
                  &count, &coverage, &fixture->err),
        &fixture->err);
    assert_int_equal(count, 12345);
    assert_null(coverage.reason);

    kith_id ids[2] = {
        kith_id_of_number(8), {.type = KITH_ID_STRING, .text_bytes = 1, .bytes = (const uint8_t *)"x"}};
    kith_codec_client_points points;
    kith_codec_client_get_encode("c", ids, 2, true, true, KITH_READ_IN_SYNC, &fixture->request);
    fixture->api->payload_bytes = 2;
    call_ok(fixture, "/kith.v1.Points/Get");
    assert_string_equal(fixture->api->asked, "get c ids=2 from=-1 limit=0 payload=1 vectors=1");
    assert_ok(kith_codec_client_get_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &points, &fixture->err),
        &fixture->err);
    assert_int_equal(points.count, 2);
    assert_int_equal(points.points[0].id.number, 8);
    assert_int_equal(points.points[1].id.type, KITH_ID_STRING);
    assert_true(points.points[1].vectors[0].values[3] == 4.0f);
    assert_int_equal(points.points[1].payload_bytes, 2);

    kith_codec_client_scroll_encode("c", &ids[0], 5, false, false, KITH_READ_IN_SYNC, &fixture->request);
    call_ok(fixture, "/kith.v1.Points/Scroll");
    assert_string_equal(fixture->api->asked, "scroll c ids=0 from=8 limit=5 payload=0 vectors=0");
    assert_ok(kith_codec_client_scroll_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &points, &fixture->err),
        &fixture->err);
    assert_int_equal(points.count, 5);
    assert_int_equal(points.next.number, 5);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__writes(void **state) {
    FIXTURE_SETUP();
    kith_id ids[2] = {kith_id_of_number(1), kith_id_of_number(2)};
    kith_request_id request_id = {.client = {1}, .number = 77};
    kith_codec_client_delete_encode("c", &request_id, ids, 2, &fixture->request);
    call_ok(fixture, "/kith.v1.Points/Delete");
    assert_string_equal(fixture->api->asked, "delete c points=2 number=77 first=1");
    uint32_t deleted;
    assert_ok(kith_codec_client_delete_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &deleted, &fixture->err),
        &fixture->err);
    assert_int_equal(deleted, 2);

    float values[8] = {0};
    kith_codec_client_column column = {.field = "f", .dim = 4, .row_count = 2, .values = values};
    kith_codec_client_upsert_encode(&(kith_codec_client_upsert){.collection = "c",
                                        .request_id = request_id,
                                        .ids = ids,
                                        .point_count = 2,
                                        .columns = &column,
                                        .column_count = 1},
        &fixture->request);
    call_ok(fixture, "/kith.v1.Points/Upsert");
    assert_string_equal(fixture->api->asked, "upsert c points=2 number=77 first=1 f:32/0");
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__collections(void **state) {
    FIXTURE_SETUP();
    kith_collection wish = {.shard_count = 2,
        .replication_factor = 3,
        .min_in_sync = 2,
        .durability = KITH_DURABILITY_ASYNC,
        .schema.field_count = 1};
    wish.schema.fields[0] = (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F16};
    kith_codec_client_create_encode("c", &wish, &fixture->request);
    call_ok(fixture, "/kith.v1.Collections/Create");
    assert_string_equal(
        fixture->api->asked, "create c fields=1 shards=2 replicas=2/3 durability=2 missing_ok=0");
    kith_codec_client_collection collection;
    bool existed;
    assert_ok(kith_codec_client_create_decode(fixture->reply.data, fixture->reply.bytes, &fixture->arena,
                  &collection, &existed, &fixture->err),
        &fixture->err);
    assert_false(existed);
    assert_int_equal(collection.collection.id, 7);
    assert_int_equal(collection.collection.schema.fields[0].type, KITH_TYPE_F16);
    assert_string_equal(collection.health, "ok");
    assert_int_equal(collection.collection.replication_factor, 3);
    assert_int_equal(collection.collection.min_in_sync, 2);
    assert_int_equal(collection.collection.durability, KITH_DURABILITY_ASYNC);

    bool changed;
    kith_codec_client_update_encode("c",
        &(kith_collection){.replication_factor = 5, .durability = KITH_DURABILITY_SYNC}, &fixture->request);
    call_ok(fixture, "/kith.v1.Collections/Update");
    assert_string_equal(
        fixture->api->asked, "update c fields=0 shards=0 replicas=0/5 durability=1 missing_ok=0");
    assert_ok(kith_codec_client_update_decode(fixture->reply.data, fixture->reply.bytes, &fixture->arena,
                  &collection, &changed, &fixture->err),
        &fixture->err);
    assert_true(changed);
    assert_int_equal(collection.collection.replication_factor, 3);

    kith_codec_client_describe_encode("c", &fixture->request);
    call_ok(fixture, "/kith.v1.Collections/Get");
    assert_string_equal(
        fixture->api->asked, "get c fields=0 shards=0 replicas=0/0 durability=0 missing_ok=0");
    kith_codec_client_list_encode(&fixture->request);
    call_ok(fixture, "/kith.v1.Collections/List");
    assert_string_equal(
        fixture->api->asked, "list - fields=0 shards=0 replicas=0/0 durability=0 missing_ok=0");
    kith_codec_client_drop_encode("c", true, &fixture->request);
    call_ok(fixture, "/kith.v1.Collections/Delete");
    assert_string_equal(
        fixture->api->asked, "delete c fields=0 shards=0 replicas=0/0 durability=0 missing_ok=1");
    bool deleted;
    assert_ok(kith_codec_client_drop_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &deleted, &fixture->err),
        &fixture->err);
    assert_true(deleted);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__statuses_become_codes(void **state) {
    static const struct {
        kith_status status;
        int code;
    } cases[] = {{KITH_INVALID, 3}, {KITH_NOT_FOUND, 5}, {KITH_EXISTS, 6}, {KITH_BUSY, 8}, {KITH_NO_SPACE, 8},
        {KITH_DEADLINE, 4}, {KITH_CLOSED, 14}, {KITH_CORRUPT, 15}, {KITH_INTERNAL, 13}};
    FIXTURE_SETUP();
    fixture->api->message = "collection \"ä\" does not exist";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture->api->status = cases[i].status;
        fixture->api->mode = i % 2 ? FAKE_FAIL : FAKE_REFUSE;
        kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
        grpc_fixture_expect(fixture, COUNT, cases[i].code, fixture->api->message);
    }
    grpc_fixture_remove(fixture);
}

/* kith_err cuts messages at its size, which may be inside a character. */
static void test_grpc_unary__a_cut_message_stays_utf8(void **state) {
    FIXTURE_SETUP();
    char message[KITH_ERR_BYTES_MAX];
    memset(message, 'x', sizeof message);
    memcpy(message + sizeof message - 3, "\xc3\0", 2);
    fixture->api->message = message;
    fixture->api->status = KITH_INVALID;
    fixture->api->mode = FAKE_FAIL;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, OK_MS), 3);
    assert_int_equal(fixture->reply.bytes, sizeof message - 3);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__malformed_requests_are_refused(void **state) {
    FIXTURE_SETUP();
    kith_buf_append_text(&fixture->request, "\xff\xff");
    grpc_fixture_expect(fixture, COUNT, 3, "CountRequest: its 2 bytes are not a valid message");
    kith_buf_append(&fixture->request, "\x0a\x01\xff", 3);
    grpc_fixture_expect(fixture, COUNT, 3, "collection: not UTF-8 at byte 0");
    assert_int_equal(atomic_load(&fixture->api->calls), 0);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__unknown_method(void **state) {
    FIXTURE_SETUP();
    grpc_fixture_expect(fixture, "/kith.v1.Points/Explode", 12, "there is no method /kith.v1.Points/Explode");
    assert_int_equal(
        kith_series_count(kith_metrics_series(fixture->metrics, KITH_METRIC_ID_GRPC_CALLS, "unknown")), 1);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__an_oversized_request_is_refused(void **state) {
    FIXTURE_SETUP(.message_bytes_max = 100000);
    kith_buf_grow(&fixture->request, 100001);
    memset(fixture->request.data, 0, 100001);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, OK_MS), 8);
    assert_non_null(strstr((const char *)fixture->reply.data, "larger than max"));
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__an_oversized_answer_is_an_error(void **state) {
    FIXTURE_SETUP(.message_bytes_max = 100000);
    fixture->api->payload_bytes = 50000;
    search_request(fixture, 1);
    grpc_fixture_expect(fixture, SEARCH, 3,
        "the answer would have 150043 bytes; at most 100000 are allowed: ask for fewer queries, a smaller k "
        "or no "
        "payloads");
    kith_codec_client_scroll_encode("c", NULL, 5, true, false, KITH_READ_IN_SYNC, &fixture->request);
    grpc_fixture_expect(fixture, "/kith.v1.Points/Scroll", 3,
        "the answer would have more than 100000 bytes: ask for fewer points, or without vectors or payloads");
    grpc_fixture_remove(fixture);
}

static void ignore_reply(void *ctx, const kith_grpc_reply *reply) {
    (*(uint32_t *)ctx) += reply->code == 0;
}

static void test_grpc_unary__too_many_calls_are_refused(void **state) {
    FIXTURE_SETUP(.calls_max = 2);
    fixture->api->mode = FAKE_HOLD;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    kith_grpc_request request = {
        .method = COUNT, .data = fixture->request.data, .bytes = fixture->request.bytes, .timeout_ms = OK_MS};
    uint32_t answered = 0;
    for (int i = 0; i < 2; i++)
        kith_grpc_client_start(fixture->client, &request, ignore_reply, &answered);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 2);
    grpc_fixture_expect(fixture, COUNT, 8, "2 calls are in flight, as many as are allowed; retry later");
    atomic_store(&fixture->api->released, true);
    grpc_fixture_wait_value(fixture, &fixture->api->held_count, 0);
    while (answered < 2)
        kith_grpc_client_poll(fixture->client, 1000000);
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    call_ok(fixture, COUNT);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__too_many_bytes_are_refused(void **state) {
    FIXTURE_SETUP(.request_bytes_max = 100);
    search_request(fixture, 1);
    assert_int_equal(grpc_fixture_call(fixture, SEARCH, OK_MS), 8);
    assert_non_null(strstr((const char *)fixture->reply.data, "more than the 100 allowed; retry later"));
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    call_ok(fixture, COUNT);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__a_passed_deadline_cancels_the_api(void **state) {
    FIXTURE_SETUP();
    fixture->api->mode = FAKE_HOLD;
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, 100), 4);
    grpc_fixture_wait_value(fixture, &fixture->api->cancelled, 1);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__long_answers_arrive_whole(void **state) {
    FIXTURE_SETUP();
    fixture->api->payload_bytes = 1 << 20;
    fixture->api->hits = 40;
    search_request(fixture, 1);
    call_ok(fixture, SEARCH);
    kith_codec_client_hits hits;
    assert_ok(kith_codec_client_search_decode(
                  fixture->reply.data, fixture->reply.bytes, &fixture->arena, &hits, &fixture->err),
        &fixture->err);
    assert_int_equal(hits.hit_count, 40);
    assert_int_equal(hits.payload_bytes[39], 1 << 20);
    grpc_fixture_remove(fixture);
}

static void test_grpc_unary__threads_share_the_load(void **state) {
    FIXTURE_SETUP(.thread_count = 3);
    for (int i = 0; i < 200; i++) {
        kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
        call_ok(fixture, COUNT);
    }
    assert_int_equal(kith_series_count(kith_metrics_series(
                         fixture->metrics, KITH_METRIC_ID_GRPC_CALLS, "kith.v1.Points/Count")),
        200);
    grpc_fixture_remove(fixture);
}

static void thread_note(void *ctx) {
    pthread_t *threads = ctx;
    threads[threads[0] ? 1 : 0] = pthread_self();
}

/* What a newer map brings back is decoded where calls are, not on the thread that brings maps. */
static void test_grpc_unary__a_refreshed_call_begins_again_on_its_own_thread(void **state) {
    FIXTURE_SETUP();
    pthread_t threads[2] = {0};
    fixture->api->mode = FAKE_REFUSE;
    fixture->api->status = KITH_NOT_FOUND;
    fixture->api->message = "there is no such collection";
    fixture->api->refreshes = true;
    fixture->api->hook_ctx = threads;
    fixture->api->hook = thread_note;
    search_request(fixture, 1);
    call_ok(fixture, SEARCH);
    assert_int_equal(fixture->api->calls, 2);
    assert_true(pthread_equal(threads[0], threads[1]));
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_unary__search_brings_hits),
        cmocka_unit_test(test_grpc_unary__search_brings_string_ids),
        cmocka_unit_test(test_grpc_unary__count_get_and_scroll),
        cmocka_unit_test(test_grpc_unary__writes),
        cmocka_unit_test(test_grpc_unary__collections),
        cmocka_unit_test(test_grpc_unary__statuses_become_codes),
        cmocka_unit_test(test_grpc_unary__a_cut_message_stays_utf8),
        cmocka_unit_test(test_grpc_unary__malformed_requests_are_refused),
        cmocka_unit_test(test_grpc_unary__unknown_method),
        cmocka_unit_test(test_grpc_unary__an_oversized_request_is_refused),
        cmocka_unit_test(test_grpc_unary__an_oversized_answer_is_an_error),
        cmocka_unit_test(test_grpc_unary__too_many_calls_are_refused),
        cmocka_unit_test(test_grpc_unary__too_many_bytes_are_refused),
        cmocka_unit_test(test_grpc_unary__a_passed_deadline_cancels_the_api),
        cmocka_unit_test(test_grpc_unary__long_answers_arrive_whole),
        cmocka_unit_test(test_grpc_unary__threads_share_the_load),
        cmocka_unit_test(test_grpc_unary__a_refreshed_call_begins_again_on_its_own_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
