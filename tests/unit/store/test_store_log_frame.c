/* The bytes of a frame: what the masks promise of the sectors on the disk. */
#include <string.h>

#include "host/base/bytes.h"
#include "host/store/store_log_internal.h"
#include "tests/lib/test_lib.h"

#define MASK_OF_HEADERS 0xA5A5A5A5A5A5A5A5ULL

/* A frame of one entry of `bytes` bytes, in an initialized `frame`; its header. */
static log_frame_header frame_make(
    kith_buf *frame, const log_frame_place *place, const uint8_t *data, uint64_t bytes) {
    kith_log_entry entry = {.stream = 1, .epoch = 1, .sequence = 1, .data = data, .bytes = bytes};
    log_frame_begin(frame);
    log_frame_add(frame, &entry);
    log_frame_finish(frame, place, 1);
    log_frame_header header;
    assert_true(log_frame_header_decode(frame->data, &header));
    assert_int_equal(header.frame_bytes, frame->bytes);
    assert_int_equal(header.frame_number, place->number);
    return header;
}

/* Fewest bytes that are not 0 in a sector's part of the frame. */
static uint32_t nonzero_min(const kith_buf *frame, uint64_t offset) {
    uint32_t min = UINT32_MAX, count = 0;
    for (size_t i = 0; i < frame->bytes; i++) {
        count += frame->data[i] != 0;
        if (i + 1 < frame->bytes && (offset + i + 1) % LOG_SECTOR_BYTES != 0) continue;
        if (count < min) min = count;
        count = 0;
    }
    return min;
}

static void test_store_log_frame__takes_the_mask_it_is_given(void **state) {
    (void)state;
    kith_buf frame;
    kith_buf_init(&frame);
    uint8_t data[100] = "data";
    log_frame_place place = {.offset = 64, .number = 7, .mask = 0x0123456789abcdefULL};
    log_frame_header header = frame_make(&frame, &place, data, sizeof data);
    assert_true(header.mask == place.mask);
    place.mask = MASK_OF_HEADERS;
    header = frame_make(&frame, &place, data, sizeof data);
    assert_true(header.mask != MASK_OF_HEADERS);
    kith_buf_fini(&frame);
}

/* Data that is the mask but for `difference_bytes` bytes, so that its sectors are all zeros but for them. */
static void no_flip_looks_lost(uint32_t difference_bytes, uint64_t offset, uint64_t bytes, kith_rng *rng) {
    log_frame_place place = {.offset = offset, .number = 1, .mask = kith_rng_next(rng)};
    uint8_t data[4096];
    for (uint64_t at = 0; at < bytes; at += 8)
        kith_store_u64(data + at, place.mask);
    for (uint32_t i = 0; i < difference_bytes; i++)
        data[bytes - 1 - i] ^= (uint8_t)(1u << kith_rng_below(rng, 8));
    kith_buf frame;
    kith_buf_init(&frame);
    log_frame_header header = frame_make(&frame, &place, data, bytes);
    assert_true(nonzero_min(&frame, offset) >= LOG_SECTOR_NONZERO_MIN);
    assert_false(log_sector_lost(frame.data, frame.bytes, offset));
    for (uint64_t bit = 0; bit < 8 * frame.bytes; bit++) {
        frame.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(log_sector_lost(frame.data, frame.bytes, offset));
        frame.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(log_frame_body_unmask(&header, frame.data + LOG_FRAME_HEADER_BYTES));
    assert_memory_equal(frame.data + LOG_FRAME_HEADER_BYTES + LOG_ENTRY_HEADER_BYTES, data, bytes);
    kith_buf_fini(&frame);
}

static void test_store_log_frame__no_flipped_bit_makes_a_written_sector_look_lost(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t difference_bytes = 0; difference_bytes < 4; difference_bytes++) {
        /* 448: the frame ends with the sector; 8 more: its last sector has one word. */
        for (uint64_t bytes = 448 - 72; bytes <= 448 - 72 + 16; bytes += 8)
            no_flip_looks_lost(difference_bytes, 64, bytes, &rng);
        for (uint64_t offset = 64; offset < 64 + 512; offset += 8)
            no_flip_looks_lost(difference_bytes, offset, 1200, &rng);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_log_frame__takes_the_mask_it_is_given),
        cmocka_unit_test(test_store_log_frame__no_flipped_bit_makes_a_written_sector_look_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
