/* Requests of kith.v1.Points: what well-formed ones become, and what malformed ones are told. */
#include "tests/lib/test_lib.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/codec/codec_client.h"
#include "host/codec/codec_points.h"
#include "host/codec/codec_wire.h"

typedef struct bench {
    kith_buf buf;
    kith_arena arena;
    kith_err err;
} bench;

static int setup(void **state) {
    bench *b = kith_alloc_zero(sizeof *b);
    kith_buf_init(&b->buf);
    kith_arena_init(&b->arena);
    *state = b;
    return 0;
}

static int teardown(void **state) {
    bench *b = *state;
    kith_buf_fini(&b->buf);
    kith_arena_fini(&b->arena);
    kith_free(b);
    return 0;
}

static kith_codec_upsert_request upsert_ok(bench *b) {
    kith_codec_upsert_request request;
    assert_ok(
        kith_codec_upsert_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err), &b->err);
    return request;
}

static void upsert_refused(bench *b, const char *message) {
    kith_codec_upsert_request request;
    assert_int_equal(
        kith_codec_upsert_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err),
        KITH_INVALID);
    assert_string_equal(b->err.text, message);
    kith_buf_clear(&b->buf);
}

/* --- pieces of messages --- */

static void put_numbers(bench *b, uint32_t field, size_t bytes) {
    static const uint8_t numbers[64] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3};
    size_t mark = kith_wire_open(&b->buf, field);
    kith_wire_bytes(&b->buf, 1, numbers, bytes);
    kith_wire_close(&b->buf, mark);
}

static void put_text_id(bench *b, uint32_t field, const char *text, size_t bytes) {
    size_t mark = kith_wire_open(&b->buf, field);
    kith_wire_bytes_always(&b->buf, 2, text, bytes);
    kith_wire_close(&b->buf, mark);
}

static void put_column(
    bench *b, const char *field, size_t values_bytes, const char *present, size_t present_bytes) {
    static const float values[16] = {1, 2, 3, 4, 5, 6, 7, 8};
    size_t mark = kith_wire_open(&b->buf, 2);
    kith_wire_text(&b->buf, 1, field);
    kith_wire_bytes(&b->buf, 2, values, values_bytes);
    kith_wire_bytes(&b->buf, 3, present, present_bytes);
    kith_wire_close(&b->buf, mark);
}

/* One point of `rows`: id, then one vector for each (field, bytes) pair. */
static void put_row(
    bench *b, uint64_t id, const char *field_a, size_t bytes_a, const char *field_b, size_t bytes_b) {
    const float values[8] = {(float)id, 1, 2, 3};
    const char *fields[2] = {field_a, field_b};
    size_t bytes[2] = {bytes_a, bytes_b};
    size_t mark = kith_wire_open(&b->buf, 1);
    size_t id_mark = kith_wire_open(&b->buf, 1);
    kith_wire_u64_always(&b->buf, 1, id);
    kith_wire_close(&b->buf, id_mark);
    for (int i = 0; i < 2; i++) {
        if (!fields[i]) continue;
        size_t vector_mark = kith_wire_open(&b->buf, 2);
        kith_wire_text(&b->buf, 1, fields[i]);
        kith_wire_bytes(&b->buf, 2, values, bytes[i]);
        kith_wire_close(&b->buf, vector_mark);
    }
    if (id % 2 == 0) kith_wire_text(&b->buf, 3, "{}");
    kith_wire_close(&b->buf, mark);
}

/* --- upsert --- */

static void test_codec_points__columns(void **state) {
    bench *b = *state;
    kith_wire_text(&b->buf, 1, "c");
    size_t mark = kith_wire_open(&b->buf, 4);
    put_numbers(b, 1, 24);
    put_column(b, "", 48, NULL, 0);
    put_column(b, "title", 16, "\1\0\1", 3);
    for (int i = 0; i < 3; i++)
        kith_wire_bytes_always(&b->buf, 3, "{}", i == 1 ? 0 : 2);
    kith_wire_close(&b->buf, mark);
    kith_codec_upsert_request request = upsert_ok(b);
    assert_string_equal(request.collection, "c");
    assert_int_equal(request.point_count, 3);
    assert_int_equal(request.ids[2].number, 3);
    assert_int_equal(request.column_count, 2);
    assert_string_equal(request.columns[0].field, "");
    assert_int_equal(request.columns[0].values_bytes, 48);
    assert_null(request.columns[0].present);
    assert_int_equal((uintptr_t)request.columns[0].values % 16, 0);
    assert_memory_equal(request.columns[1].present, "\1\0\1", 3);
    assert_null(request.payloads[1]);
    assert_int_equal(request.payload_bytes[2], 2);
    assert_int_equal(request.request_id.number, 0);
}

static void test_codec_points__rows_become_columns(void **state) {
    bench *b = *state;
    size_t mark = kith_wire_open(&b->buf, 3);
    put_row(b, 1, "a", 8, "b", 4);
    put_row(b, 2, "b", 4, "a", 8);
    put_row(b, 3, "b", 4, NULL, 0);
    kith_wire_close(&b->buf, mark);
    kith_codec_upsert_request request = upsert_ok(b);
    static const float wanted_a[4] = {1, 1, 2, 1}, wanted_b[3] = {1, 2, 3};
    assert_int_equal(request.point_count, 3);
    assert_int_equal(request.column_count, 2);
    assert_string_equal(request.columns[0].field, "a");
    assert_memory_equal(request.columns[0].present, "\1\1\0", 3);
    assert_int_equal(request.columns[0].values_bytes, 16);
    assert_memory_equal(request.columns[0].values, wanted_a, 16);
    assert_null(request.columns[1].present);
    assert_memory_equal(request.columns[1].values, wanted_b, 12);
    assert_null(request.payloads[0]);
    assert_int_equal(request.payload_bytes[1], 2);
}

static void test_codec_points__request_id(void **state) {
    bench *b = *state;
    static const char *const messages[] = {"request_id.client: 0 bytes; 16 are needed",
        "request_id.client: 3 bytes; 16 are needed", "request_id.client: 16 zero bytes; draw it at random"};
    static const size_t lengths[] = {0, 3, 16};
    static const uint8_t zeros[16];
    for (int i = 0; i < 3; i++) {
        size_t mark = kith_wire_open(&b->buf, 2);
        kith_wire_bytes(&b->buf, 1, zeros, lengths[i]);
        kith_wire_close(&b->buf, mark);
        upsert_refused(b, messages[i]);
    }
}

static void test_codec_points__malformed_upserts(void **state) {
    bench *b = *state;
    upsert_refused(b, "data: neither rows nor columns is set; exactly one is needed");
    kith_buf_append(&b->buf, "\x0a\x05zz", 4);
    upsert_refused(b, "UpsertRequest: its 4 bytes are not a valid message");
    kith_wire_bytes(&b->buf, 1, "ab\xff", 3);
    upsert_refused(b, "collection: not UTF-8 at byte 2");
    kith_wire_bytes(&b->buf, 1, "ab\0c", 4);
    upsert_refused(b, "collection: a zero byte at byte 2; text without one is allowed");
    kith_wire_close(&b->buf, kith_wire_open(&b->buf, 3));
    upsert_refused(b, "rows.points: 0 points; 1..65536 are allowed");
    kith_wire_close(&b->buf, kith_wire_open(&b->buf, 4));
    upsert_refused(b, "columns.ids: 0 points; 1..65536 are allowed");
}

static void columns_refused(bench *b, const char *field, size_t values_bytes, const char *present,
    size_t present_bytes, const char *message) {
    size_t mark = kith_wire_open(&b->buf, 4);
    put_numbers(b, 1, 24);
    put_column(b, "x", 4, NULL, 0);
    put_column(b, field, values_bytes, present, present_bytes);
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, message);
}

static void test_codec_points__malformed_columns(void **state) {
    bench *b = *state;
    columns_refused(b, "f", 13, NULL, 0, "columns.vectors[1]: values: 13 bytes are not a multiple of 4");
    columns_refused(b, "f", 4, "\1\1", 2,
        "columns.vectors[1]: present: 2 bytes for 3 points; none or one each are allowed");
    columns_refused(b, "f", 4, "\1\1\7", 3, "columns.vectors[1]: present[2]: 7 is not 0 or 1");
    columns_refused(b, "\xc3", 4, NULL, 0, "columns.vectors[1]: field: not UTF-8 at byte 0");
    columns_refused(b, "x", 4, NULL, 0, "columns.vectors[1].field: \"x\" is also that of vectors[0]");
    size_t mark = kith_wire_open(&b->buf, 4);
    put_numbers(b, 1, 24);
    kith_wire_bytes_always(&b->buf, 3, "{}", 2);
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "columns.payloads: 1 for 3 points; none or one each are allowed");
    mark = kith_wire_open(&b->buf, 4);
    put_numbers(b, 1, 8);
    for (int i = 0; i < 17; i++)
        put_column(b, "f", 4, NULL, 0);
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "columns.vectors: 17 fields; at most 16 are allowed");
}

static void test_codec_points__malformed_rows(void **state) {
    bench *b = *state;
    size_t mark = kith_wire_open(&b->buf, 3);
    put_row(b, 1, "a", 8, NULL, 0);
    put_row(b, 2, "a", 12, NULL, 0);
    kith_wire_close(&b->buf, mark);
    upsert_refused(
        b, "rows.points[1].vectors[0]: values: 12 bytes, but earlier points have 8 in field \"a\"");
    mark = kith_wire_open(&b->buf, 3);
    put_row(b, 1, "a", 8, "a", 8);
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "rows.points[0].vectors[1]: field: \"a\" is there twice in one point");
    mark = kith_wire_open(&b->buf, 3);
    put_row(b, 1, "a", 6, NULL, 0);
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "rows.points[0].vectors[0]: values: 6 bytes are not a multiple of 4");
    mark = kith_wire_open(&b->buf, 3);
    kith_wire_close(&b->buf, kith_wire_open(&b->buf, 1));
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "rows.points[0].id: a point id has neither number nor text; exactly one is needed");
    mark = kith_wire_open(&b->buf, 3);
    for (uint64_t i = 0; i < 17; i++) {
        char name[2] = {(char)('a' + i), 0};
        put_row(b, i, name, 4, NULL, 0);
    }
    kith_wire_close(&b->buf, mark);
    upsert_refused(b, "rows.points[16].vectors[0]: vectors: 17 fields; at most 16 are allowed");
}

/* Two bytes of message would become a hundred of memory each. */
static void test_codec_points__unpacking_is_bounded(void **state) {
    bench *b = *state;
    size_t points = 4000000;
    kith_wire_head(&b->buf, 3, points * 2);
    uint8_t *at = kith_buf_grow(&b->buf, points * 2);
    for (size_t i = 0; i < points; i++)
        memcpy(at + 2 * i, "\x0a\0", 2);
    kith_codec_upsert_request request;
    assert_int_equal(
        kith_codec_upsert_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err),
        KITH_INVALID);
    assert_non_null(strstr(b->err.text, "send fewer points at once"));
}

static void test_codec_points__the_largest_batch_of_rows_unpacks(void **state) {
    bench *b = *state;
    kith_buf rows;
    kith_buf_init(&rows);
    for (uint64_t i = 0; i < KITH_BATCH_POINTS_MAX; i++)
        put_row(b, i, "a", 4, "b", 4);
    kith_buf_append(&rows, b->buf.data, b->buf.bytes);
    kith_buf_clear(&b->buf);
    kith_wire_bytes(&b->buf, 3, rows.data, rows.bytes);
    kith_codec_upsert_request request = upsert_ok(b);
    assert_int_equal(request.point_count, KITH_BATCH_POINTS_MAX);
    assert_int_equal(request.columns[1].values_bytes, 4 * KITH_BATCH_POINTS_MAX);
    kith_buf_fini(&rows);
}

/* --- ids --- */

static void get_refused(bench *b, const char *message) {
    kith_codec_get_request request;
    assert_int_equal(
        kith_codec_get_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err), KITH_INVALID);
    assert_string_equal(b->err.text, message);
    kith_buf_clear(&b->buf);
}

static void test_codec_points__ids(void **state) {
    bench *b = *state;
    static const char uuid[] = "936DA01F-9abd-4d9d-80c7-02af85c822a8";
    size_t mark = kith_wire_open(&b->buf, 2);
    put_text_id(b, 2, "a\0b", 3); /* a zero byte is UTF-8, and part of the id */
    put_text_id(b, 2, uuid, 36);
    size_t id_mark = kith_wire_open(&b->buf, 2);
    kith_wire_u64_always(&b->buf, 1, 0);
    kith_wire_close(&b->buf, id_mark);
    kith_wire_close(&b->buf, mark);
    kith_wire_u64(&b->buf, 4, 1);
    kith_codec_get_request request;
    assert_ok(
        kith_codec_get_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err), &b->err);
    assert_int_equal(request.id_count, 3);
    assert_int_equal(request.ids[0].text_bytes, 3);
    assert_memory_equal(request.ids[0].bytes, "a\0b", 3);
    assert_int_equal(request.ids[1].type, KITH_ID_UUID);
    assert_int_equal(request.ids[1].bytes[0], 0x93);
    assert_int_equal(request.ids[2].type, KITH_ID_NUMBER);
    assert_true(request.with_vectors);
    assert_false(request.with_payload);
}

static void test_codec_points__malformed_ids(void **state) {
    bench *b = *state;
    char longest[300];
    memset(longest, 'x', sizeof longest);
    get_refused(b, "ids: 0 points; 1..65536 are allowed");
    put_numbers(b, 2, 13);
    get_refused(b, "ids.numbers: 13 bytes are not a multiple of 8");
    size_t mark = kith_wire_open(&b->buf, 2);
    kith_wire_bytes(&b->buf, 1, longest, 8);
    put_text_id(b, 2, "x", 1);
    kith_wire_close(&b->buf, mark);
    get_refused(b, "ids: exactly one of numbers and ids may be set");
    mark = kith_wire_open(&b->buf, 2);
    put_text_id(b, 2, "x", 1);
    put_text_id(b, 2, "", 0);
    kith_wire_close(&b->buf, mark);
    get_refused(b, "ids.ids[1]: a point id is empty; 1..255 bytes are allowed");
    mark = kith_wire_open(&b->buf, 2);
    put_text_id(b, 2, longest, 256);
    kith_wire_close(&b->buf, mark);
    get_refused(b, "ids.ids[0]: a point id has 256 bytes; 1..255 are allowed");
    mark = kith_wire_open(&b->buf, 2);
    put_text_id(b, 2, "ab\xed\xa0\x80", 5);
    kith_wire_close(&b->buf, mark);
    get_refused(b, "ids.ids[0]: a point id is not UTF-8 at byte 2");
    mark = kith_wire_open(&b->buf, 2);
    kith_wire_head(&b->buf, 1, 8 * (KITH_BATCH_POINTS_MAX + 1));
    memset(kith_buf_grow(&b->buf, 8 * (KITH_BATCH_POINTS_MAX + 1)), 0, 8 * (KITH_BATCH_POINTS_MAX + 1));
    kith_wire_close(&b->buf, mark);
    get_refused(b, "ids: 65537 points; 1..65536 are allowed");
}

/* --- the other requests --- */

static void test_codec_points__search(void **state) {
    bench *b = *state;
    static const float queries[6] = {1, 2, 3, 4, 5, 6};
    kith_codec_search_request request;
    kith_codec_client_search_encode(&(kith_codec_client_search){.collection = "c",
                                        .field = "f",
                                        .queries = queries,
                                        .query_count = 2,
                                        .dim = 3,
                                        .k = 9,
                                        .exact = true,
                                        .with_payload = true},
        &b->buf);
    assert_ok(
        kith_codec_search_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err), &b->err);
    assert_string_equal(request.field, "f");
    assert_memory_equal(request.queries, queries, sizeof queries);
    assert_int_equal(request.k, 9);
    assert_true(request.exact);
    assert_true(request.with_payload);
    assert_false(request.strict);
    kith_buf_clear(&b->buf);
    kith_wire_bytes(&b->buf, 3, queries, 13);
    assert_int_equal(
        kith_codec_search_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err),
        KITH_INVALID);
    assert_string_equal(b->err.text, "queries: 13 bytes are not a multiple of 4");
}

static void test_codec_points__scroll(void **state) {
    bench *b = *state;
    kith_codec_scroll_request request;
    kith_id from = {.type = KITH_ID_STRING, .text_bytes = 2, .bytes = (const uint8_t *)"id"};
    kith_codec_client_scroll_encode("c", &from, 7, true, false, KITH_READ_IN_SYNC, &b->buf);
    assert_ok(
        kith_codec_scroll_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err), &b->err);
    assert_true(request.has_from);
    assert_int_equal(kith_id_compare(&request.from, &from), 0);
    assert_int_equal(request.limit, 7);
    assert_true(request.with_payload);
    kith_buf_clear(&b->buf);
    kith_wire_close(&b->buf, kith_wire_open(&b->buf, 2));
    assert_int_equal(
        kith_codec_scroll_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err),
        KITH_INVALID);
    assert_string_equal(b->err.text, "from: a point id has neither number nor text; exactly one is needed");
}

/* A count request has nothing but what it promises. */
static void count_promises(bench *b, uint32_t read, uint32_t token_count, const char *message) {
    kith_codec_count_request request;
    kith_buf_clear(&b->buf);
    kith_codec_client_count_encode("c", (kith_read_consistency)read, &b->buf);
    for (uint32_t i = 0; i < token_count; i++) {
        size_t mark = kith_wire_open(&b->buf, 3);
        kith_wire_u64(&b->buf, 1, 40 + i);
        kith_wire_u64(&b->buf, 2, 2);
        kith_wire_u64(&b->buf, 3, 100 + i);
        kith_wire_close(&b->buf, mark);
    }
    kith_status status =
        kith_codec_count_request_decode(b->buf.data, b->buf.bytes, &b->arena, &request, &b->err);
    if (message) {
        assert_int_equal(status, KITH_INVALID);
        assert_string_equal(b->err.text, message);
        return;
    }
    assert_ok(status, &b->err);
    assert_int_equal(request.promise.read, read);
    assert_int_equal(request.promise.token_count, token_count);
    for (uint32_t i = 0; i < token_count; i++) {
        assert_int_equal(request.promise.tokens[i].shard_id, 40 + i);
        assert_int_equal(request.promise.tokens[i].epoch, 2);
        assert_int_equal(request.promise.tokens[i].sequence, 100 + i);
    }
}

static void test_codec_points__what_a_read_promises(void **state) {
    bench *b = *state;
    for (uint32_t read = KITH_READ_IN_SYNC; read <= KITH_READ_TOKEN; read++)
        count_promises(b, read, 0, NULL);
    count_promises(b, KITH_READ_TOKEN, 3, NULL);
    count_promises(
        b, 4, 0, "read: 4 is not READ_CONSISTENCY_IN_SYNC (0), _PRIMARY (1), _ANY (2) or _TOKEN (3)");
    count_promises(
        b, KITH_READ_PRIMARY, 1, "tokens: 1 with read 1; only READ_CONSISTENCY_TOKEN (3) takes any");
    count_promises(b, KITH_READ_TOKEN, KITH_READ_TOKENS_MAX + 1, "tokens: 4097; at most 4096 are allowed");
}

/* --- responses --- */

/* Lengths that need one, two and three bytes, which the writer makes room for afterwards. */
static void test_codec_points__points_of_every_length(void **state) {
    bench *b = *state;
    kith_schema schema = {.field_count = 1};
    schema.fields[0] = (kith_field){.name = "f", .dim = 2};
    static const float vector[2] = {1, 2};
    const float *vectors[1] = {vector};
    static char payload[70000];
    memset(payload, ' ', sizeof payload);
    static const uint32_t lengths[] = {0, 1, 90, 100, 127, 128, 16300, 16383, 16384, 70000};
    uint32_t count = sizeof lengths / sizeof lengths[0];
    for (uint32_t i = 0; i < count; i++) {
        kith_codec_point_append(&schema,
            &(kith_codec_point){.id = kith_id_of_number(i),
                .payload = payload,
                .payload_bytes = lengths[i],
                .vectors = i % 2 ? vectors : NULL},
            &b->buf);
    }
    kith_id next = kith_id_of_number(0);
    kith_codec_scroll_next_append(&next, &b->buf);
    kith_codec_client_points points;
    assert_ok(
        kith_codec_client_scroll_decode(b->buf.data, b->buf.bytes, &b->arena, &points, &b->err), &b->err);
    assert_int_equal(points.count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(points.points[i].id.number, i);
        assert_int_equal(points.points[i].payload_bytes, lengths[i]);
        assert_int_equal(points.points[i].vector_count, i % 2);
    }
    assert_true(points.points[1].vectors[0].values[1] == 2.0f);
    assert_true(points.has_next);
    assert_int_equal(points.next.type, KITH_ID_NUMBER);
}

static void test_codec_points__search_response_keeps_to_its_limit(void **state) {
    bench *b = *state;
    enum { HITS = 300 };
    kith_id ids[HITS];
    float scores[HITS];
    uint32_t counts[2] = {200, 100};
    for (int i = 0; i < HITS; i++) {
        ids[i] = kith_id_of_number((uint64_t)i);
        scores[i] = (float)i;
    }
    ids[7] = (kith_id){.type = KITH_ID_UUID, .bytes = (const uint8_t *)"0123456789abcdef"};
    kith_codec_search_response response = {.query_count = 2,
        .hit_counts = counts,
        .hit_count = HITS,
        .ids = ids,
        .scores = scores,
        .coverage = {.shards_total = 1, .shards_answered = 1}};
    kith_buf_append_text(&b->buf, "before");
    assert_ok(kith_codec_search_response_encode(&response, 100000, &b->buf, &b->err), &b->err);
    size_t bytes = b->buf.bytes - 6;
    kith_codec_client_hits hits;
    assert_ok(kith_codec_client_search_decode(b->buf.data + 6, bytes, &b->arena, &hits, &b->err), &b->err);
    assert_int_equal(hits.hit_count, HITS);
    assert_int_equal(hits.ids[7].type, KITH_ID_UUID);
    assert_int_equal(hits.ids[299].number, 299);
    b->buf.bytes = 6;
    assert_ok(kith_codec_search_response_encode(&response, bytes, &b->buf, &b->err), &b->err);
    b->buf.bytes = 6;
    assert_int_equal(kith_codec_search_response_encode(&response, bytes - 1, &b->buf, &b->err), KITH_INVALID);
    assert_int_equal(b->buf.bytes, 6);
    assert_int_equal(kith_codec_search_response_encode(&response, 100, &b->buf, &b->err), KITH_INVALID);
}

static void test_codec_points__stream_response_of_a_failure_has_no_result(void **state) {
    bench *b = *state;
    int code;
    const char *message;
    kith_codec_upsert_stream_response_encode(8, "too much", NULL, &b->buf);
    assert_ok(kith_codec_client_upsert_answer_decode(
                  b->buf.data, b->buf.bytes, &b->arena, &code, &message, &b->err),
        &b->err);
    assert_int_equal(code, 8);
    assert_string_equal(message, "too much");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_points__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(columns),
        TEST(rows_become_columns),
        TEST(request_id),
        TEST(malformed_upserts),
        TEST(malformed_columns),
        TEST(malformed_rows),
        TEST(unpacking_is_bounded),
        TEST(the_largest_batch_of_rows_unpacks),
        TEST(ids),
        TEST(malformed_ids),
        TEST(search),
        TEST(scroll),
        TEST(what_a_read_promises),
        TEST(points_of_every_length),
        TEST(search_response_keeps_to_its_limit),
        TEST(stream_response_of_a_failure_has_no_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
