/* Views, and the records a shard keeps in the store. */
#include <stdio.h>
#include <string.h>

#include "host/base/bitset.h"
#include "host/shard/shard_internal.h" /* the private header: what is tested here has no other door */
#include "tests/lib/test_lib.h"

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

static kith_segment *segment_make(uint32_t rows) {
    kith_err err;
    kith_segment *segment;
    assert_ok(kith_segment_growing_create(1, &schema, 100, kith_compute_ref(), &segment, &err), &err);
    for (uint32_t i = 0; i < rows; i++) {
        float vector[2] = {(float)i, 0};
        uint32_t row;
        kith_op_point point = {
            .id = kith_id_of_number(i), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
        assert_ok(kith_segment_growing_append(segment, &point, i + 1, &row, &err), &err);
    }
    return segment;
}

static void test_view__a_kill_after_publication_copies_the_dead_bits(void **state) {
    (void)state;
    shard_part part = {.kind = SHARD_PART_GROWING, .segment = segment_make(10), .row_count = 10};
    shard_part_kill(&part, 3);
    shard_dead *published = shard_dead_acquire(part.dead);
    shard_part_kill(&part, 4);
    assert_ptr_equal(part.dead, published); /* the same round */
    part.dead_fresh = false;                /* what a publication does */
    shard_part_kill(&part, 5);
    assert_ptr_not_equal(part.dead, published);
    assert_false(kith_bitset_get(published->words, 5));
    assert_true(shard_part_is_dead(&part, 3));
    assert_true(shard_part_is_dead(&part, 5));
    assert_int_equal(part.dead_count, 3);
    shard_dead_release(published);
    shard_dead_release(part.dead);
    kith_segment_release(part.segment);
}

static void test_view__held_view_outlives_its_replacement(void **state) {
    (void)state;
    kith_hazard_cell *cell = kith_hazard_create(shard_view_create(0), shard_view_destroy_cell);
    shard_view *first = shard_view_create(1), *held;
    kith_segment *segment = segment_make(10);
    shard_view_add(first, segment, NULL, 10, 0);
    kith_segment_release(segment);
    kith_hazard_publish(cell, first);
    held = shard_view_acquire(cell);
    kith_hazard_publish(cell, shard_view_create(0));
    assert_int_equal(held->live_count, 10);
    assert_int_equal(kith_segment_row_id(held->parts[0].segment, 9).number, 9);
    shard_view_release(held);
    kith_hazard_destroy(cell);
}

static void test_manifest__golden_file_still_reads_and_is_still_written(void **state) {
    (void)state;
    uint64_t ids[3] = {1, 7, 0x1122334455667788ULL};
    shard_manifest manifest = {.sealed_sequence = 99,
                       .next_segment_id = 0x1122334455667789ULL,
                       .segment_count = 3,
                       .segment_ids = ids},
                   back;
    uint8_t golden[256];
    kith_buf buf;
    kith_arena arena;
    kith_err err;
    kith_buf_init(&buf);
    kith_arena_init(&arena);
    shard_manifest_encode(&manifest, 5, &buf);
    FILE *file = fopen(KITH_SOURCE_DIR "/tests/golden/manifest-v1.bin", "rb");
    assert_non_null(file);
    size_t bytes = fread(golden, 1, sizeof golden, file);
    fclose(file);
    assert_int_equal(bytes, buf.bytes);
    assert_memory_equal(golden, buf.data, bytes);
    assert_ok(shard_manifest_decode(golden, bytes, 5, &arena, &back, &err), &err);
    assert_int_equal(back.sealed_sequence, 99);
    assert_int_equal(back.segment_count, 3);
    assert_true(back.segment_ids[2] == ids[2]);
    assert_int_equal(shard_manifest_decode(golden, bytes, 6, &arena, &back, &err), KITH_CORRUPT);
    kith_arena_fini(&arena);
    kith_buf_fini(&buf);
}

static void test_manifest__any_changed_byte_or_cut_is_corrupt(void **state) {
    (void)state;
    uint64_t ids[2] = {1, 2};
    shard_manifest manifest = {.sealed_sequence = 9,
                       .next_segment_id = 3,
                       .segment_count = 2,
                       .segment_ids = ids},
                   back;
    kith_buf buf;
    kith_arena arena;
    kith_err err;
    kith_buf_init(&buf);
    kith_arena_init(&arena);
    shard_manifest_encode(&manifest, 5, &buf);
    for (size_t i = 0; i < buf.bytes; i++) {
        buf.data[i] ^= 0x10;
        assert_int_equal(shard_manifest_decode(buf.data, buf.bytes, 5, &arena, &back, &err), KITH_CORRUPT);
        buf.data[i] ^= 0x10;
        assert_int_equal(shard_manifest_decode(buf.data, i, 5, &arena, &back, &err), KITH_CORRUPT);
    }
    kith_arena_fini(&arena);
    kith_buf_fini(&buf);
}

static void test_files__names_read_back(void **state) {
    (void)state;
    uint64_t shard_id, segment_id;
    assert_true(shard_segment_name_parse("12-345.seg", &shard_id, &segment_id));
    assert_int_equal(shard_id, 12);
    assert_int_equal(segment_id, 345);
    assert_true(shard_segment_name_parse("12-345.seg.tmp", &shard_id, &segment_id));
    assert_false(shard_segment_name_parse("12-345.segment", &shard_id, &segment_id));
    assert_false(shard_segment_name_parse("LOCK", &shard_id, &segment_id));
    assert_false(shard_segment_name_parse("12-.seg", &shard_id, &segment_id));
    assert_false(shard_segment_name_parse("-3.seg", &shard_id, &segment_id));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_view__a_kill_after_publication_copies_the_dead_bits),
        cmocka_unit_test(test_view__held_view_outlives_its_replacement),
        cmocka_unit_test(test_manifest__golden_file_still_reads_and_is_still_written),
        cmocka_unit_test(test_manifest__any_changed_byte_or_cut_is_corrupt),
        cmocka_unit_test(test_files__names_read_back),
    };
    return cmocka_run_group_tests_name("shard_view", tests, NULL, NULL);
}
