/* Requests and answers of kith.v1.Collections. */
#include <string.h>

#include "host/codec/codec_client.h"
#include "host/codec/codec_collections.h"
#include "host/codec/codec_wire.h"
#include "tests/unit/codec/codec_fixture.h" /* last: its names are short */

static void put_field(const char *name, size_t name_bytes, uint64_t metric, uint64_t type) {
    size_t mark = kith_wire_open(&buf, 2);
    kith_wire_bytes(&buf, 1, name, name_bytes);
    kith_wire_u64(&buf, 2, 4);
    kith_wire_u64(&buf, 3, metric);
    kith_wire_u64(&buf, 4, type);
    kith_wire_close(&buf, mark);
}

static void refused(const char *message) {
    kith_codec_create_request request;
    assert_int_equal(
        kith_codec_create_request_decode(buf.data, buf.bytes, &arena, &request, &err), KITH_INVALID);
    assert_string_equal(err.text, message);
    kith_buf_clear(&buf);
}

static void test_codec_collections__create(void **state) {
    (void)state;
    kith_codec_create_request request;
    kith_wire_text(&buf, 1, "c");
    put_field("", 0, KITH_METRIC_L2, 0); /* a type that is not said is f32 */
    put_field("title", 5, KITH_METRIC_L1, KITH_TYPE_I8);
    kith_wire_u64(&buf, 3, 8);
    assert_ok(kith_codec_create_request_decode(buf.data, buf.bytes, &arena, &request, &err), &err);
    assert_string_equal(request.name, "c");
    assert_int_equal(request.shard_count, 8);
    assert_int_equal(request.schema.field_count, 2);
    assert_int_equal(request.schema.fields[0].type, KITH_TYPE_F32);
    assert_int_equal(request.schema.fields[1].metric, KITH_METRIC_L1);
    assert_int_equal(request.schema.fields[1].type, KITH_TYPE_I8);
    assert_string_equal(request.schema.fields[1].name, "title");
    assert_int_equal(request.durability, KITH_DURABILITY_UNSAID);
}

static void test_codec_collections__durability(void **state) {
    (void)state;
    kith_codec_create_request create;
    kith_codec_update_request update;
    for (kith_durability durability = 0; durability <= KITH_DURABILITY_ASYNC; durability++) {
        kith_collection wish = {.replication_factor = 3, .min_in_sync = 2, .durability = durability};
        kith_buf_clear(&buf);
        kith_codec_client_create_encode("c", &wish, &buf);
        assert_ok(kith_codec_create_request_decode(buf.data, buf.bytes, &arena, &create, &err), &err);
        assert_int_equal(create.durability, durability);
        kith_buf_clear(&buf);
        kith_codec_client_update_encode("c", &wish, &buf);
        assert_ok(kith_codec_update_request_decode(buf.data, buf.bytes, &arena, &update, &err), &err);
        assert_string_equal(update.name, "c");
        assert_int_equal(update.replication_factor, 3);
        assert_int_equal(update.min_in_sync, 2);
        assert_int_equal(update.durability, durability);
    }
    const char *message =
        "durability: 3 is not DURABILITY_UNSPECIFIED (0), DURABILITY_SYNC (1) or DURABILITY_ASYNC (2)";
    kith_buf_clear(&buf);
    kith_wire_u64(&buf, 4, 3);
    assert_int_equal(
        kith_codec_update_request_decode(buf.data, buf.bytes, &arena, &update, &err), KITH_INVALID);
    assert_string_equal(err.text, message);
    kith_buf_clear(&buf);
    kith_wire_u64(&buf, 6, 3);
    refused(message);
    kith_wire_u64(&buf, 6, UINT64_MAX);
    refused("durability: -1 is not DURABILITY_UNSPECIFIED (0), DURABILITY_SYNC (1) or DURABILITY_ASYNC (2)");
}

static void test_codec_collections__malformed_create(void **state) {
    (void)state;
    char longest[256];
    memset(longest, 'x', sizeof longest);
    put_field("f", 1, 0, 1);
    refused("fields[0]: metric: 0 is not METRIC_L2 (1), METRIC_IP (2), METRIC_COSINE (3) or METRIC_L1 (4)");
    put_field("", 0, 1, 1);
    put_field("f", 1, 5, 1);
    refused("fields[1]: metric: 5 is not METRIC_L2 (1), METRIC_IP (2), METRIC_COSINE (3) or METRIC_L1 (4)");
    put_field("f", 1, 1, 9);
    refused(
        "fields[0]: type: 9 is not VECTOR_TYPE_F32 (0 or 1), VECTOR_TYPE_F16 (2), VECTOR_TYPE_BF16 (3) or "
        "VECTOR_TYPE_I8 (4)");
    put_field(longest, 256, 1, 1);
    refused("fields[0]: name: 256 bytes; at most 255 are allowed");
    put_field("a\0b", 3, 1, 1);
    refused("fields[0]: name: a zero byte at byte 1; text without one is allowed");
    for (int i = 0; i < 17; i++)
        put_field("f", 1, 1, 1);
    refused("fields: 17; 1..16 are allowed");
    kith_wire_bytes(&buf, 1, "\xff", 1);
    refused("name: not UTF-8 at byte 0");
    kith_buf_append_text(&buf, "\xff");
    refused("CreateCollectionRequest: its 1 bytes are not a valid message");
}

static void test_codec_collections__named_requests(void **state) {
    (void)state;
    kith_codec_name_request request;
    kith_codec_client_drop_encode("c", true, &buf);
    assert_ok(kith_codec_delete_collection_request_decode(buf.data, buf.bytes, &arena, &request, &err), &err);
    assert_string_equal(request.name, "c");
    assert_true(request.missing_ok);
    kith_buf_clear(&buf);
    kith_codec_client_describe_encode("d", &buf);
    assert_ok(kith_codec_get_collection_request_decode(buf.data, buf.bytes, &arena, &request, &err), &err);
    assert_string_equal(request.name, "d");
    assert_false(request.missing_ok);
    assert_ok(kith_codec_list_request_decode(NULL, 0, &arena, &err), &err);
}

static void test_codec_collections__infos(void **state) {
    (void)state;
    kith_collection collection = {.id = 3, .name = "c", .shard_count = 2, .created_wall_ms = 5};
    collection.schema.field_count = KITH_FIELDS_MAX;
    for (uint32_t i = 0; i < KITH_FIELDS_MAX; i++) {
        kith_field *field = &collection.schema.fields[i];
        *field = (kith_field){.dim = i + 1, .metric = KITH_METRIC_IP, .type = KITH_TYPE_BF16};
        memset(field->name, 'a' + (int)i, KITH_NAME_BYTES_MAX);
    }
    kith_codec_collection_info info = {
        .collection = &collection, .points = 1ULL << 40, .segments = 2, .segments_sealed = 1, .health = "ok"};
    kith_codec_collection_append(&info, &buf);
    kith_codec_collection_append(&info, &buf);
    kith_codec_client_collection *collections;
    uint32_t count;
    assert_ok(kith_codec_client_list_decode(buf.data, buf.bytes, &arena, &collections, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_int_equal(collections[1].points, 1ULL << 40);
    assert_int_equal(collections[1].collection.schema.fields[15].dim, 16);
    assert_string_equal(collections[1].collection.schema.fields[15].name, collection.schema.fields[15].name);
    assert_string_equal(collections[1].health, "ok");
    assert_int_equal(collections[1].collection.durability, KITH_DURABILITY_SYNC); /* of an older server */
    for (int existed = 0; existed < 2; existed++) {
        bool decoded = !existed;
        kith_buf_clear(&buf);
        kith_codec_collection_append(&info, &buf);
        kith_codec_created_append(existed, &buf);
        assert_ok(
            kith_codec_client_create_decode(buf.data, buf.bytes, &arena, &collections[0], &decoded, &err),
            &err);
        assert_int_equal(decoded, existed);
    }
    for (kith_durability durability = KITH_DURABILITY_SYNC; durability <= 3; durability++) {
        collection.durability = durability;
        kith_buf_clear(&buf);
        kith_codec_collection_append(&info, &buf);
        kith_status status =
            kith_codec_client_list_decode(buf.data, buf.bytes, &arena, &collections, &count, &err);
        assert_int_equal(status, durability == 3 ? KITH_INTERNAL : KITH_OK);
        if (durability < 3) assert_int_equal(collections[0].collection.durability, durability);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_collections__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(create), TEST(durability), TEST(malformed_create), TEST(named_requests), TEST(infos)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
