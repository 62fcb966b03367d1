/* Records: round trips, the golden file, and damage of every kind. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/model/record.h"
#include "tests/lib/test_lib.h"

static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "title", .dim = 5, .metric = KITH_METRIC_IP, .type = KITH_TYPE_I8}}};

static const float vector_a[3] = {1.5f, -2.0f, 0.25f};
static const float vector_b[3] = {0.0f, 8.0f, -1.0f};
static const int8_t title_b[5] = {-128, -1, 0, 1, 127};
static const uint8_t uuid[16] = {
    0x93, 0x6d, 0xa0, 0x1f, 0x9a, 0xbd, 0x4d, 0x9d, 0x80, 0xc7, 0x02, 0xaf, 0x85, 0xc8, 0x22, 0xa8};

/* The upsert of tests/golden/record-v1.bin: never change it. */
static void golden_points(kith_op_point points[3]) {
    memset(points, 0, 3 * sizeof *points);
    points[0] = (kith_op_point){.id = kith_id_of_number(42),
        .field_mask = 1,
        .vectors = {(const uint8_t *)vector_a},
        .payload = "{\"a\":1}",
        .payload_bytes = 7};
    points[1] = (kith_op_point){.id = {.type = KITH_ID_UUID, .bytes = uuid},
        .field_mask = 3,
        .vectors = {(const uint8_t *)vector_b, (const uint8_t *)title_b}};
    points[2] = (kith_op_point){
        .id = {.type = KITH_ID_STRING, .text_bytes = 4, .bytes = (const uint8_t *)"na\xc3\xaf"},
        .field_mask = 0};
}

static kith_op golden_op(kith_op_point points[3]) {
    golden_points(points);
    return (kith_op){.kind = KITH_OP_UPSERT,
        .request_id = {.client = "golden client 16", .number = 7},
        .wall_ms = 1700000000000,
        .point_count = 3,
        .points = points};
}

static void point_equal(const kith_op_point *a, const kith_op_point *b) {
    assert_int_equal(kith_id_compare(&a->id, &b->id), 0);
    assert_int_equal(a->field_mask, b->field_mask);
    assert_int_equal(a->payload_bytes, b->payload_bytes);
    if (a->payload_bytes) assert_memory_equal(a->payload, b->payload, a->payload_bytes);
    for (uint32_t f = 0; f < schema.field_count; f++) {
        assert_int_equal(a->vectors[f] != NULL, b->vectors[f] != NULL);
        if (a->vectors[f])
            assert_memory_equal(a->vectors[f], b->vectors[f], kith_field_vector_bytes(&schema.fields[f]));
    }
}

static void op_decodes_to(const void *data, size_t bytes, const kith_op *expected) {
    kith_err err;
    kith_arena arena;
    kith_op op;
    kith_arena_init(&arena);
    assert_ok(kith_op_decode(data, bytes, &schema, &arena, &op, &err), &err);
    assert_int_equal(op.kind, expected->kind);
    assert_memory_equal(op.request_id.client, expected->request_id.client, 16);
    assert_int_equal(op.request_id.number, expected->request_id.number);
    assert_int_equal(op.wall_ms, expected->wall_ms);
    assert_int_equal(op.point_count, expected->point_count);
    for (uint32_t i = 0; i < op.point_count; i++)
        point_equal(&op.points[i], &expected->points[i]);
    kith_arena_fini(&arena);
}

static void test_record__round_trips_at_any_offset_of_the_buffer(void **state) {
    (void)state;
    kith_op_point points[3];
    kith_op op = golden_op(points);
    kith_buf plain, shifted;
    kith_buf_init(&plain);
    kith_buf_init(&shifted);
    kith_op_encode(&op, &schema, &plain);
    kith_buf_append_text(&shifted, "xyz");
    kith_op_encode(&op, &schema, &shifted);
    assert_int_equal(shifted.bytes, plain.bytes + 3);
    assert_memory_equal(shifted.data + 3, plain.data, plain.bytes);
    op_decodes_to(plain.data, plain.bytes, &op);
    op_decodes_to(shifted.data + 3, plain.bytes, &op);
    kith_buf_fini(&plain);
    kith_buf_fini(&shifted);
}

static void test_record__deletes_hold_ids_only(void **state) {
    (void)state;
    kith_op_point points[2] = {{.id = kith_id_of_number(1)}, {.id = kith_id_of_number(UINT64_MAX)}};
    kith_op op = {.kind = KITH_OP_DELETE, .wall_ms = 5, .point_count = 2, .points = points};
    kith_buf buf;
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    assert_int_equal(buf.bytes, 40 + 2 * (2 + 9));
    op_decodes_to(buf.data, buf.bytes, &op);
    kith_buf_fini(&buf);
}

static void test_record__golden_file_still_reads_and_is_still_written(void **state) {
    (void)state;
    kith_op_point points[3];
    kith_op op = golden_op(points);
    kith_buf buf;
    uint8_t golden[4096];
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    FILE *file = fopen(KITH_SOURCE_DIR "/tests/golden/record-v1.bin", "rb");
    assert_non_null(file);
    size_t bytes = fread(golden, 1, sizeof golden, file);
    fclose(file);
    op_decodes_to(golden, bytes, &op);
    assert_int_equal(bytes, buf.bytes);
    assert_memory_equal(golden, buf.data, bytes);
    kith_buf_fini(&buf);
}

static kith_status decode_copy(const uint8_t *data, size_t bytes, kith_err *err) {
    /* An exact heap copy, so that the sanitizer sees a read past the end. */
    uint8_t *copy = kith_alloc(bytes ? bytes : 1);
    kith_arena arena;
    kith_op op;
    memcpy(copy, data, bytes);
    kith_arena_init(&arena);
    kith_status status = kith_op_decode(copy, bytes, &schema, &arena, &op, err);
    kith_arena_fini(&arena);
    kith_free(copy);
    return status;
}

static void test_record__every_cut_is_corrupt(void **state) {
    (void)state;
    kith_op_point points[3];
    kith_op op = golden_op(points);
    kith_err err;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    for (size_t bytes = 0; bytes < buf.bytes; bytes++) {
        assert_int_equal(decode_copy(buf.data, bytes, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, "offset"));
    }
    kith_buf_u8(&buf, 0);
    assert_int_equal(decode_copy(buf.data, buf.bytes, &err), KITH_CORRUPT);
    kith_buf_fini(&buf);
}

static void test_record__any_changed_byte_decodes_or_is_corrupt(void **state) {
    (void)state;
    kith_op_point points[3];
    kith_op op = golden_op(points);
    kith_err err;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    for (size_t at = 0; at < buf.bytes; at++) {
        uint8_t kept = buf.data[at];
        for (int value = 0; value < 256; value++) {
            buf.data[at] = (uint8_t)value;
            kith_status status = decode_copy(buf.data, buf.bytes, &err);
            assert_true(status == KITH_OK || status == KITH_CORRUPT);
        }
        buf.data[at] = kept;
    }
    kith_buf_fini(&buf);
}

static void test_record__counts_and_schemas_that_do_not_fit_are_corrupt(void **state) {
    (void)state;
    kith_op_point points[3];
    kith_op op = golden_op(points);
    kith_err err;
    kith_buf buf;
    kith_buf_init(&buf);
    kith_op_encode(&op, &schema, &buf);
    memset(buf.data + 4, 0xff, 4);
    assert_int_equal(decode_copy(buf.data, buf.bytes, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "point count"));
    memset(buf.data + 4, 0, 4);
    assert_int_equal(decode_copy(buf.data, buf.bytes, &err), KITH_CORRUPT);
    kith_schema other = schema;
    other.fields[1].dim = 6;
    kith_buf_clear(&buf);
    op.points[1].vectors[1] = (const uint8_t *)"123456";
    kith_op_encode(&op, &other, &buf);
    assert_int_equal(decode_copy(buf.data, buf.bytes, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "schema"));
    kith_buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record__round_trips_at_any_offset_of_the_buffer),
        cmocka_unit_test(test_record__deletes_hold_ids_only),
        cmocka_unit_test(test_record__golden_file_still_reads_and_is_still_written),
        cmocka_unit_test(test_record__every_cut_is_corrupt),
        cmocka_unit_test(test_record__any_changed_byte_decodes_or_is_corrupt),
        cmocka_unit_test(test_record__counts_and_schemas_that_do_not_fit_are_corrupt),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
