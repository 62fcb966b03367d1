/* Messages between nodes: round trips with every kind of id, and what a broken peer is told. */
#include <string.h>

#include "host/codec/codec_internal.h"
#include "host/codec/codec_wire.h"
#include "tests/unit/codec/codec_fixture.h" /* last: its names are short */

static const uint64_t shard_ids[2] = {7, 1ULL << 50};
static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static kith_id id_of(uint32_t kind, uint64_t number) {
    if (kind == 1) return (kith_id){.type = KITH_ID_UUID, .bytes = uuid};
    if (kind == 2)
        return (kith_id){.type = KITH_ID_STRING, .text_bytes = 3, .bytes = (const uint8_t *)"a\0b"};
    return kith_id_of_number(number);
}

static void refused(kith_status status, const char *message) {
    assert_int_equal(status, KITH_INTERNAL);
    assert_string_equal(err.text, message);
    kith_buf_clear(&buf);
}

/* --- search --- */

static kith_codec_shard_search_request search_request(void) {
    static const float queries[6] = {1, 2, 3, 4, 5, 6};
    return (kith_codec_shard_search_request){.collection_id = 3,
        .shard_ids = shard_ids,
        .shard_count = 2,
        .field_index = 1,
        .k = 10,
        .query_count = 2,
        .dim = 3,
        .queries = queries,
        .exact = true};
}

static void test_codec_internal__search_request(void **state) {
    (void)state;
    kith_codec_shard_search_request request = search_request(), decoded;
    kith_codec_shard_search_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_search_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.collection_id, 3);
    assert_int_equal(decoded.shard_count, 2);
    assert_memory_equal(decoded.shard_ids, shard_ids, sizeof shard_ids);
    assert_int_equal(decoded.field_index, 1);
    assert_int_equal(decoded.k, 10);
    assert_int_equal(decoded.query_count, 2);
    assert_int_equal(decoded.dim, 3);
    assert_memory_equal(decoded.queries, request.queries, 24);
    assert_true(decoded.exact);
}

static void search_request_refused(kith_codec_shard_search_request request, const char *message) {
    kith_codec_shard_search_request decoded;
    kith_codec_shard_search_request_encode(&request, &buf);
    refused(kith_codec_shard_search_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), message);
}

static void test_codec_internal__broken_search_requests(void **state) {
    (void)state;
    kith_codec_shard_search_request request = search_request();
    request.field_index = KITH_FIELDS_MAX;
    search_request_refused(request, "field_index: 16 is not below 16");
    request = search_request();
    request.k = 0;
    search_request_refused(request, "k: 0 is not in 1..16384");
    request = search_request();
    request.query_count = 0;
    search_request_refused(request, "queries: 0 bytes are not 1..16384 vectors of dim 3");
    request = search_request();
    request.shard_count = 0;
    search_request_refused(request, "shard_ids: 0 bytes are not 1..4096 numbers of 8");
    kith_codec_shard_search_request decoded;
    request = search_request();
    kith_codec_shard_search_request_encode(&request, &buf);
    refused(kith_codec_shard_search_request_decode(buf.data, buf.bytes - 3, &arena, &decoded, &err),
        "ShardSearchRequest: its 51 bytes are not a valid message");
}

/* Two lists of hits; `kind` is that of some ids: 0 numbers alone. */
static void search_response_round_trip(uint32_t kind) {
    kith_hit first[3], second[1];
    for (uint32_t i = 0; i < 3; i++) {
        first[i] = (kith_hit){.closeness = -0.5 * i, .id = id_of(i == 1 ? kind : 0, i + 1ULL)};
    }
    second[0] = (kith_hit){.closeness = 1e300, .id = id_of(kind, UINT64_MAX)};
    kith_hits lists[3] = {{first, 3}, {NULL, 0}, {second, 1}};
    kith_codec_shard_status shards[2] = {{.shard_id = 7, .message = ""},
        {.shard_id = 8, .status = KITH_CORRUPT, .message = "segment 3 is corrupt"}};
    kith_codec_shard_search_response response = {
        .query_count = 3, .lists = lists, .shard_count = 2, .shards = shards};
    kith_codec_shard_search_response decoded;
    kith_buf_clear(&buf);
    kith_codec_shard_search_response_encode(&response, &buf);
    assert_ok(kith_codec_shard_search_response_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.query_count, 3);
    for (uint32_t q = 0; q < 3; q++) {
        assert_int_equal(decoded.lists[q].count, lists[q].count);
        for (uint32_t i = 0; i < lists[q].count; i++) {
            assert_int_equal(kith_hit_compare(&decoded.lists[q].hits[i], &lists[q].hits[i]), 0);
        }
    }
    assert_int_equal(decoded.shard_count, 2);
    assert_int_equal(decoded.shards[1].status, KITH_CORRUPT);
    assert_string_equal(decoded.shards[1].message, "segment 3 is corrupt");
}

static void test_codec_internal__search_response(void **state) {
    (void)state;
    for (uint32_t kind = 0; kind < 3; kind++)
        search_response_round_trip(kind);
}

static void search_response_refused(const char *message) {
    kith_codec_shard_search_response decoded;
    refused(kith_codec_shard_search_response_decode(buf.data, buf.bytes, &arena, &decoded, &err), message);
}

static void put_hits(const char *counts, size_t counts_bytes, size_t closeness_bytes, uint32_t ids_field,
    const char *ids, size_t ids_bytes) {
    static const uint8_t zeros[64];
    kith_wire_bytes(&buf, 1, counts, counts_bytes);
    kith_wire_bytes(&buf, 2, zeros, closeness_bytes);
    size_t mark = kith_wire_open(&buf, 3);
    kith_wire_bytes(&buf, ids_field, ids, ids_bytes);
    kith_wire_close(&buf, mark);
}

static void test_codec_internal__broken_search_responses(void **state) {
    (void)state;
    put_hits("\1\0\0", 3, 8, 1, "12345678", 8);
    search_response_refused("hit_counts: 3 bytes are not at most 16384 numbers of 4");
    put_hits("\1\0\0\0", 4, 9, 1, "12345678", 8);
    search_response_refused("closeness: 9 bytes are not at most 4194304 numbers of 8");
    put_hits("\2\0\0\0", 4, 8, 1, "12345678", 8);
    search_response_refused("hit_counts: more than the 1 hits of closeness");
    put_hits("\1\0\0\0", 4, 16, 1, "12345678", 8);
    search_response_refused("hit_counts: 1 in all, but closeness has 2");
    put_hits("\1\0\0\0", 4, 8, 1, "1234567", 7);
    search_response_refused("ids: no valid id for hit 0 of 1");
    put_hits("\1\0\0\0", 4, 8, 1, "1234567812345678", 16);
    search_response_refused("ids: more than the 1 hits of closeness");
    put_hits("\1\0\0\0", 4, 8, 2, "\x20\1ab", 4);
    search_response_refused("ids: no valid id for hit 0 of 1");
    put_hits("\1\0\0\0", 4, 8, 2, "\x01\x09z", 3);
    search_response_refused("ids: no valid id for hit 0 of 1");
    size_t mark = kith_wire_open(&buf, 3);
    kith_wire_text(&buf, 1, "12345678");
    kith_wire_text(&buf, 2, "x");
    kith_wire_close(&buf, mark);
    search_response_refused("ids: numbers and canonical are both set");
}

/* --- write --- */

static void test_codec_internal__write(void **state) {
    (void)state;
    kith_codec_shard_write_request request = {.collection_id = 1,
        .shard_id = 2,
        .request_id = {.client = "0123456789abcde", .number = 9},
        .op = (const uint8_t *)"operation",
        .op_bytes = 9};
    kith_codec_shard_write_request decoded;
    kith_codec_shard_write_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_write_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.shard_id, 2);
    assert_memory_equal(&decoded.request_id, &request.request_id, sizeof decoded.request_id);
    assert_int_equal(decoded.op_bytes, 9);
    assert_memory_equal(decoded.op, "operation", 9);
    kith_buf_clear(&buf);
    request.op_bytes = 0;
    kith_codec_shard_write_request_encode(&request, &buf);
    refused(kith_codec_shard_write_request_decode(buf.data, buf.bytes, &arena, &decoded, &err),
        "op: 0 bytes; at least 1 is needed");

    kith_codec_shard_write_response response = {
        .shard_id = 2, .epoch = 3, .sequence = 4, .points_changed = 5, .repeated = true};
    kith_codec_shard_write_response response_decoded;
    memset(&response_decoded, 0, sizeof response_decoded);
    kith_codec_shard_write_response_encode(&response, &buf);
    assert_ok(
        kith_codec_shard_write_response_decode(buf.data, buf.bytes, &arena, &response_decoded, &err), &err);
    assert_int_equal(response_decoded.shard_id, 2);
    assert_int_equal(response_decoded.epoch, 3);
    assert_int_equal(response_decoded.sequence, 4);
    assert_int_equal(response_decoded.points_changed, 5);
    assert_true(response_decoded.repeated);
}

/* --- read --- */

static void test_codec_internal__read_request(void **state) {
    (void)state;
    kith_id ids[3] = {id_of(0, 0), id_of(1, 0), id_of(2, 0)};
    kith_codec_shard_read_request request = {.collection_id = 1,
        .shard_id = 2,
        .kind = KITH_CODEC_READ_GET,
        .ids = ids,
        .id_count = 3,
        .with_vectors = true,
        .bytes_max = 1 << 20};
    kith_codec_shard_read_request decoded;
    kith_codec_shard_read_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.kind, KITH_CODEC_READ_GET);
    assert_int_equal(decoded.id_count, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(kith_id_compare(&decoded.ids[i], &ids[i]), 0);
    assert_true(decoded.with_vectors);
    assert_int_equal(decoded.bytes_max, 1 << 20);

    kith_buf_clear(&buf);
    request = (kith_codec_shard_read_request){
        .kind = KITH_CODEC_READ_SCROLL, .has_from = true, .from = ids[2], .limit = 10, .with_payload = true};
    kith_codec_shard_read_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_true(decoded.has_from);
    assert_int_equal(kith_id_compare(&decoded.from, &ids[2]), 0);
    assert_int_equal(decoded.limit, 10);

    kith_buf_clear(&buf);
    request.limit = KITH_SCROLL_POINTS_MAX + 1;
    kith_codec_shard_read_request_encode(&request, &buf);
    refused(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err),
        "limit: 16385 is not in 1..16384");
    request.kind = 9;
    kith_codec_shard_read_request_encode(&request, &buf);
    refused(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err),
        "kind: 9 is not 1 (get) or 2 (scroll)");
}

static kith_schema read_schema(void) {
    kith_schema schema = {.field_count = 3};
    schema.fields[0] = (kith_field){.dim = 3, .type = KITH_TYPE_F32};
    schema.fields[1] = (kith_field){.dim = 5, .type = KITH_TYPE_I8};
    schema.fields[2] = (kith_field){.dim = 4, .type = KITH_TYPE_F16};
    return schema;
}

static void test_codec_internal__read_response(void **state) {
    (void)state;
    static const float vector[3] = {1, 2, 3};
    kith_schema schema = read_schema();
    kith_codec_shard_point points[2] = {
        {.id = id_of(2, 0), .sequence = 5, .payload = "{}", .payload_bytes = 2, .field_mask = 1},
        {.id = id_of(0, 1), .sequence = 6, .field_mask = 7, .vectors = {vector, NULL, "12345678"}}};
    kith_codec_shard_read_response response = {.points = points,
                                       .count = 2,
                                       .has_next = true,
                                       .next = id_of(1, 2)},
                                   decoded;
    kith_codec_shard_read_response_encode(&response, &schema, &buf);
    assert_ok(
        kith_codec_shard_read_response_decode(buf.data, buf.bytes, &schema, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.count, 2);
    assert_true(decoded.has_next);
    assert_int_equal(kith_id_compare(&decoded.next, &response.next), 0);
    assert_int_equal(kith_id_compare(&decoded.points[0].id, &points[0].id), 0);
    assert_memory_equal(decoded.points[0].payload, "{}", 2);
    assert_null(decoded.points[0].vectors[0]);
    assert_int_equal(decoded.points[1].sequence, 6);
    assert_int_equal(decoded.points[1].field_mask, 7);
    assert_memory_equal(decoded.points[1].vectors[0], vector, sizeof vector);
    assert_null(decoded.points[1].vectors[1]);
    assert_memory_equal(decoded.points[1].vectors[2], "12345678", 8);
    assert_int_equal((uintptr_t)decoded.points[1].vectors[2] % 16, 0);
}

static void put_point(uint64_t field_mask, uint64_t vector_mask, size_t vectors_bytes) {
    static const uint8_t zeros[64];
    size_t mark = kith_wire_open(&buf, 1);
    kith_wire_bytes(&buf, 1, "\1\1\0\0\0\0\0\0\0", 9);
    kith_wire_u64(&buf, 4, field_mask);
    kith_wire_u64(&buf, 5, vector_mask);
    kith_wire_bytes(&buf, 6, zeros, vectors_bytes);
    kith_wire_close(&buf, mark);
}

static void read_response_refused(const char *message) {
    kith_schema schema = read_schema();
    kith_codec_shard_read_response decoded;
    refused(
        kith_codec_shard_read_response_decode(buf.data, buf.bytes, &schema, &arena, &decoded, &err), message);
}

static void test_codec_internal__broken_read_responses(void **state) {
    (void)state;
    put_point(8, 0, 0);
    read_response_refused("points[0]: field_mask 0x8 and vector_mask 0x0 do not fit 3 fields");
    put_point(1, 2, 16);
    read_response_refused("points[0]: field_mask 0x1 and vector_mask 0x2 do not fit 3 fields");
    put_point(3, 3, 31);
    read_response_refused("points[0]: vectors: 31 bytes end within field 1");
    put_point(3, 3, 33);
    read_response_refused("points[0]: vectors: 33 bytes; 32 are needed");
    kith_wire_close(&buf, kith_wire_open(&buf, 1));
    read_response_refused("points[0]: id: 0 bytes are no id");
}

/* --- count --- */

static void test_codec_internal__count(void **state) {
    (void)state;
    kith_codec_shard_count_request request = {.collection_id = 1, .shard_ids = shard_ids, .shard_count = 2},
                                   decoded;
    kith_codec_shard_count_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_count_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.shard_ids[1], 1ULL << 50);
    kith_buf_clear(&buf);
    kith_codec_shard_stats stats[2] = {
        {.health = {.shard_id = 7, .message = ""}, .points = 5, .dead_rows = 1},
        {.health = {.shard_id = 8, .status = KITH_NOT_FOUND, .message = "no shard 8"}, .sealed_sequence = 9}};
    kith_codec_shard_count_response response = {.shards = stats, .shard_count = 2}, response_decoded;
    kith_codec_shard_count_response_encode(&response, &buf);
    assert_ok(
        kith_codec_shard_count_response_decode(buf.data, buf.bytes, &arena, &response_decoded, &err), &err);
    assert_int_equal(response_decoded.shard_count, 2);
    assert_int_equal(response_decoded.shards[0].points, 5);
    assert_int_equal(response_decoded.shards[1].health.status, KITH_NOT_FOUND);
    assert_int_equal(response_decoded.shards[1].sealed_sequence, 9);
    kith_buf_clear(&buf);
    kith_wire_close(&buf, kith_wire_open(&buf, 1));
    refused(kith_codec_shard_count_response_decode(buf.data, buf.bytes, &arena, &response_decoded, &err),
        "shards[0]: health: missing");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_internal__##name, setup, teardown)

/* --- what a read promises --- */

static void test_codec_internal__searches_and_counts_by_token(void **state) {
    (void)state;
    static const uint64_t tokens[2] = {5, 1ULL << 60};
    kith_codec_shard_search_request search = search_request(), search_decoded;
    search.read = KITH_CODEC_READ_OF_TOKEN;
    search.tokens = tokens;
    kith_codec_shard_search_request_encode(&search, &buf);
    assert_ok(
        kith_codec_shard_search_request_decode(buf.data, buf.bytes, &arena, &search_decoded, &err), &err);
    assert_int_equal(search_decoded.read, KITH_CODEC_READ_OF_TOKEN);
    assert_memory_equal(search_decoded.tokens, tokens, sizeof tokens);
    kith_buf_clear(&buf);
    kith_codec_shard_count_request count = {
        .shard_ids = shard_ids, .shard_count = 2, .read = KITH_CODEC_READ_OF_TOKEN, .tokens = tokens};
    kith_codec_shard_count_request count_decoded;
    kith_codec_shard_count_request_encode(&count, &buf);
    assert_ok(kith_codec_shard_count_request_decode(buf.data, buf.bytes, &arena, &count_decoded, &err), &err);
    assert_int_equal(count_decoded.read, KITH_CODEC_READ_OF_TOKEN);
    assert_memory_equal(count_decoded.tokens, tokens, sizeof tokens);
}

static void test_codec_internal__reads_by_token(void **state) {
    (void)state;
    kith_codec_shard_read_request request = {
        .kind = KITH_CODEC_READ_SCROLL, .limit = 1, .read = KITH_CODEC_READ_OF_TOKEN, .token = 9};
    kith_codec_shard_read_request decoded;
    kith_codec_shard_read_request_encode(&request, &buf);
    assert_ok(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.read, KITH_CODEC_READ_OF_TOKEN);
    assert_int_equal(decoded.token, 9);
    request.read = 4;
    kith_buf_clear(&buf);
    kith_codec_shard_read_request_encode(&request, &buf);
    refused(kith_codec_shard_read_request_decode(buf.data, buf.bytes, &arena, &decoded, &err),
        "read: 4 is not in 0..3");
}

static void test_codec_internal__tokens_are_as_many_as_shards(void **state) {
    (void)state;
    static const uint64_t tokens[2] = {5, 6};
    kith_codec_shard_search_request request = search_request();
    request.read = KITH_CODEC_READ_OF_TOKEN;
    search_request_refused(request, "tokens: 0 bytes; a read of kind 3 of 2 shards has 16");
    request.read = 1;
    request.tokens = tokens;
    search_request_refused(request, "tokens: 16 bytes; a read of kind 1 of 2 shards has 0");
    request.read = 4;
    search_request_refused(request, "read: 4 is not in 0..3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(search_request),
        TEST(broken_search_requests),
        TEST(search_response),
        TEST(broken_search_responses),
        TEST(write),
        TEST(read_request),
        TEST(read_response),
        TEST(broken_read_responses),
        TEST(count),
        cmocka_unit_test_setup_teardown(test_codec_internal__searches_and_counts_by_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_internal__reads_by_token, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_internal__tokens_are_as_many_as_shards, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
