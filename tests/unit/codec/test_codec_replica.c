/* Messages between replicas: round trips, and what is refused. */
#include <string.h>

#include "host/base/limits.h"
#include "host/codec/codec_replica.h"
#include "host/codec/codec_wire.h"
#include "tests/unit/codec/codec_fixture.h" /* last: its names are short */

/* --- append --- */

static const kith_codec_append_entry entries_some[] = {
    {.epoch = 4, .sequence = 10, .data = "abc", .bytes = 3},
    {.epoch = 5, .sequence = 11, .data = "", .bytes = 0}, /* begins an epoch */
    {.epoch = 5, .sequence = 12, .data = "de", .bytes = 2},
};

static kith_codec_append_request append_some(void) {
    return (kith_codec_append_request){
        .shard_id = 77,
        .epoch = 5,
        .previous_epoch = 4,
        .previous_sequence = 9,
        .committed = 8,
        .echo_ns = 1ULL << 60,
        .snapshot_needed = true,
        .asks_room = true,
        .loss_epoch = 9,
        .entry_count = 3,
        .entries = entries_some,
    };
}

static void append_decode(kith_codec_append_request *request_out) {
    assert_ok(kith_codec_append_request_decode(buf.data, buf.bytes, &arena, request_out, &err), &err);
}

static void test_codec_replica__appends(void **state) {
    (void)state;
    kith_codec_append_request request = append_some(), decoded;
    kith_codec_append_request_encode(&request, &buf);
    append_decode(&decoded);
    assert_int_equal(decoded.shard_id, 77);
    assert_int_equal(decoded.epoch, 5);
    assert_int_equal(decoded.previous_epoch, 4);
    assert_int_equal(decoded.previous_sequence, 9);
    assert_int_equal(decoded.committed, 8);
    assert_int_equal(decoded.echo_ns, 1ULL << 60);
    assert_true(decoded.snapshot_needed);
    assert_true(decoded.asks_room);
    assert_int_equal(decoded.loss_epoch, 9);
    assert_int_equal(decoded.entry_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(decoded.entries[i].epoch, entries_some[i].epoch);
        assert_int_equal(decoded.entries[i].sequence, entries_some[i].sequence);
        assert_int_equal(decoded.entries[i].bytes, entries_some[i].bytes);
        assert_memory_equal(decoded.entries[i].data, entries_some[i].data, entries_some[i].bytes);
    }
}

static void test_codec_replica__an_append_without_entries_is_small(void **state) {
    (void)state;
    kith_codec_append_request request = {.shard_id = 1, .epoch = 2, .previous_epoch = 2}, decoded;
    kith_codec_append_request_encode(&request, &buf);
    assert_in_range(buf.bytes, 1, 8);
    append_decode(&decoded);
    assert_int_equal(decoded.entry_count, 0);
    assert_false(decoded.snapshot_needed);
}

static void append_refused(kith_codec_append_request request, const char *message) {
    kith_codec_append_request decoded;
    kith_buf_clear(&buf);
    kith_codec_append_request_encode(&request, &buf);
    assert_int_equal(
        kith_codec_append_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, message));
}

static void test_codec_replica__entries_that_are_no_log_are_refused(void **state) {
    (void)state;
    kith_codec_append_entry entries[3];
    kith_codec_append_request request = append_some();
    request.entries = entries;
    memcpy(entries, entries_some, sizeof entries);
    entries[1].sequence = 12;
    append_refused(request, "sequence 12 of entry 1 does not follow 9");
    memcpy(entries, entries_some, sizeof entries);
    entries[2].epoch = 4;
    append_refused(request, "epoch 4 of entry 2 is not in 5..5");
    entries[2].epoch = 6;
    append_refused(request, "epoch 6 of entry 2 is not in 5..5");
    entries[0].epoch = 3;
    append_refused(request, "epoch 3 of entry 0 is not in 4..5");
    memcpy(entries, entries_some, sizeof entries);
    request.previous_epoch = 0;
    entries[0].epoch = 0;
    append_refused(request, "epoch 0 of entry 0");
}

static void test_codec_replica__a_sequence_does_not_wrap(void **state) {
    (void)state;
    kith_codec_append_entry entry = {.epoch = 1, .sequence = 0, .data = "x", .bytes = 1};
    append_refused((kith_codec_append_request){.epoch = 1,
                       .previous_epoch = 1,
                       .previous_sequence = UINT64_MAX,
                       .entry_count = 1,
                       .entries = &entry},
        "sequence 0 of entry 0");
}

/* Heads that say `bytes` bytes, and an entry of 4. */
static void entry_bytes_refused(uint64_t bytes) {
    kith_codec_append_request decoded;
    uint64_t head[3] = {1, 1, bytes};
    kith_buf_clear(&buf);
    kith_wire_u64(&buf, 2, 1);
    kith_wire_bytes(&buf, 7, head, sizeof head);
    kith_wire_bytes(&buf, 8, "1234", 4);
    assert_int_equal(
        kith_codec_append_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "entries: 4 bytes are not as many as heads say"));
}

static void test_codec_replica__no_length_of_an_entry_is_trusted(void **state) {
    (void)state;
    entry_bytes_refused(3);
    entry_bytes_refused(5);
    entry_bytes_refused(UINT64_MAX);
}

static void test_codec_replica__a_table_of_heads_is_bounded(void **state) {
    (void)state;
    kith_codec_append_request decoded;
    size_t bytes = (KITH_CODEC_APPEND_ENTRIES_MAX + 1) * 24;
    kith_wire_head(&buf, 7, bytes);
    memset(kith_buf_grow(&buf, bytes), 1, bytes);
    assert_int_equal(
        kith_codec_append_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "heads: 98328 bytes are not at most 4096 heads of 24"));
    kith_buf_clear(&buf);
    kith_wire_bytes(&buf, 7, "0123456789", 10);
    assert_int_equal(
        kith_codec_append_request_decode(buf.data, buf.bytes, &arena, &decoded, &err), KITH_CORRUPT);
}

static void test_codec_replica__replies(void **state) {
    (void)state;
    kith_codec_append_reply reply = {.outcome = 2, .epoch = 5, .matched = 9, .hint = 8, .applied = 7},
                            decoded;
    reply.full = true;
    reply.stamp_ns = 1ULL << 61;
    kith_codec_append_reply_encode(&reply, &buf);
    assert_ok(kith_codec_append_reply_decode(buf.data, buf.bytes, &decoded, &err), &err);
    assert_int_equal(decoded.outcome, 2);
    assert_int_equal(decoded.epoch, 5);
    assert_int_equal(decoded.matched, 9);
    assert_int_equal(decoded.hint, 8);
    assert_int_equal(decoded.applied, 7);
    assert_int_equal(decoded.stamp_ns, 1ULL << 61);
    assert_true(decoded.full);
    assert_int_equal(kith_codec_append_reply_decode("\xff", 1, &decoded, &err), KITH_CORRUPT);
}

/* --- fetch --- */

static void test_codec_replica__fetches(void **state) {
    (void)state;
    kith_codec_fetch_request request = {
        .shard_id = 7, .epoch = 5, .snapshot_id = 3, .offset = 1ULL << 40, .bytes_max = 4096};
    kith_codec_fetch_request decoded;
    kith_codec_fetch_request_encode(&request, &buf);
    assert_ok(kith_codec_fetch_request_decode(buf.data, buf.bytes, &decoded, &err), &err);
    assert_int_equal(decoded.shard_id, 7);
    assert_int_equal(decoded.epoch, 5);
    assert_int_equal(decoded.snapshot_id, 3);
    assert_int_equal(decoded.offset, 1ULL << 40);
    assert_int_equal(decoded.bytes_max, 4096);
}

static void fetch_bytes_max_refused(uint32_t bytes_max) {
    kith_codec_fetch_request request = {.bytes_max = bytes_max}, decoded;
    kith_buf_clear(&buf);
    kith_codec_fetch_request_encode(&request, &buf);
    assert_int_equal(kith_codec_fetch_request_decode(buf.data, buf.bytes, &decoded, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "bytes_max"));
}

static void test_codec_replica__a_piece_has_a_size(void **state) {
    (void)state;
    fetch_bytes_max_refused(0);
    fetch_bytes_max_refused(KITH_CODEC_FETCH_BYTES_MAX + 1);
}

static kith_codec_fetch_reply piece_some(void) {
    return (kith_codec_fetch_reply){.snapshot_id = 3,
        .total_bytes = 100,
        .epoch = 5,
        .sequence = 9,
        .offset = 91,
        .data = "123456789",
        .bytes = 9};
}

static kith_status piece_decode(kith_codec_fetch_reply *reply_out) {
    return kith_codec_fetch_reply_decode(buf.data, buf.bytes, reply_out, &err);
}

static void test_codec_replica__pieces(void **state) {
    (void)state;
    kith_codec_fetch_reply reply = piece_some(), decoded;
    kith_codec_fetch_reply_encode(&reply, &buf);
    assert_ok(piece_decode(&decoded), &err);
    assert_int_equal(decoded.snapshot_id, 3);
    assert_int_equal(decoded.total_bytes, 100);
    assert_int_equal(decoded.epoch, 5);
    assert_int_equal(decoded.sequence, 9);
    assert_int_equal(decoded.offset, 91);
    assert_int_equal(decoded.bytes, 9);
    assert_memory_equal(decoded.data, "123456789", 9);
}

static void test_codec_replica__a_piece_read_into_its_place_is_the_same(void **state) {
    (void)state;
    kith_codec_fetch_reply reply = piece_some(), decoded;
    memcpy(kith_codec_fetch_reply_begin(&reply, &buf), "123456789", 9);
    kith_codec_fetch_reply_end(&reply, &buf);
    assert_ok(piece_decode(&decoded), &err);
    assert_memory_equal(decoded.data, "123456789", 9);
    size_t once_bytes = buf.bytes;
    kith_codec_fetch_reply_encode(&reply, &buf);
    assert_int_equal(buf.bytes, 2 * once_bytes);
    assert_memory_equal(buf.data, buf.data + once_bytes, once_bytes);
}

/* Fields of a later version are passed over, whatever their type; what is cut off is no message. */
static void test_codec_replica__a_piece_with_fields_of_later_versions(void **state) {
    (void)state;
    static const uint8_t later[] = {
        0x7d, 1, 2, 3, 4, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x82, 1, 2, 9, 9, 0x88, 1, 0xff, 0x7f};
    kith_codec_fetch_reply reply = piece_some(), decoded;
    kith_buf_append(&buf, later, sizeof later);
    kith_codec_fetch_reply_encode(&reply, &buf);
    size_t whole = buf.bytes;
    kith_buf_append(&buf, later, sizeof later);
    assert_ok(piece_decode(&decoded), &err);
    assert_int_equal(decoded.total_bytes, 100);
    assert_memory_equal(decoded.data, "123456789", 9);
    for (size_t bytes = 0; bytes < whole; bytes++) {
        buf.bytes = bytes;
        kith_status status = piece_decode(&decoded);
        if (status == KITH_OK) assert_int_equal(decoded.bytes, 0);
    }
}

static void test_codec_replica__a_flipped_bit_of_a_piece_is_found(void **state) {
    (void)state;
    kith_codec_fetch_reply reply = piece_some(), decoded;
    kith_codec_fetch_reply_encode(&reply, &buf);
    uint8_t *at = memmem(buf.data, buf.bytes, "123456789", 9);
    assert_non_null(at);
    at[4] ^= 1;
    assert_int_equal(piece_decode(&decoded), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "data_crc: the 9 bytes at 91"));
}

static void test_codec_replica__a_piece_ends_before_the_end(void **state) {
    (void)state;
    kith_codec_fetch_reply reply = piece_some(), decoded;
    reply.offset = 92;
    kith_codec_fetch_reply_encode(&reply, &buf);
    assert_int_equal(piece_decode(&decoded), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "9 bytes at 92 are past the end at 100"));
}

/* --- digest --- */

static void test_codec_replica__digests(void **state) {
    (void)state;
    uint64_t digests[3] = {1, UINT64_MAX, 3};
    kith_codec_digest_request request = {
        .shard_id = 7, .epoch = 5, .sequence = 9, .slot_first = KITH_SLOTS - 3, .slot_count = 3};
    kith_codec_digest_request decoded;
    kith_codec_digest_reply reply = {.sequence = 9, .slot_count = 3, .digests = digests}, reply_decoded;
    kith_codec_digest_request_encode(&request, &buf);
    assert_ok(kith_codec_digest_request_decode(buf.data, buf.bytes, &decoded, &err), &err);
    assert_int_equal(decoded.slot_first, KITH_SLOTS - 3);
    assert_int_equal(decoded.slot_count, 3);
    assert_int_equal(decoded.sequence, 9);
    assert_false(decoded.differs);
    kith_buf_clear(&buf);
    kith_codec_digest_reply_encode(&reply, &buf);
    assert_ok(kith_codec_digest_reply_decode(buf.data, buf.bytes, &arena, &reply_decoded, &err), &err);
    assert_int_equal(reply_decoded.sequence, 9);
    assert_int_equal(reply_decoded.slot_count, 3);
    assert_memory_equal(reply_decoded.digests, digests, sizeof digests);
}

static void slots_refused(uint32_t first, uint32_t count) {
    kith_codec_digest_request request = {.slot_first = first, .slot_count = count}, decoded;
    kith_buf_clear(&buf);
    kith_codec_digest_request_encode(&request, &buf);
    assert_int_equal(kith_codec_digest_request_decode(buf.data, buf.bytes, &decoded, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "slot_first, slot_count"));
}

static void test_codec_replica__slots_are_slots(void **state) {
    (void)state;
    slots_refused(0, 0);
    slots_refused(0, KITH_SLOTS + 1);
    slots_refused(KITH_SLOTS, 1);
    slots_refused(UINT32_MAX, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_codec_replica__appends, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__an_append_without_entries_is_small, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__entries_that_are_no_log_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__a_sequence_does_not_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__no_length_of_an_entry_is_trusted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__a_table_of_heads_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__replies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__fetches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__a_piece_has_a_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__a_piece_read_into_its_place_is_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__a_piece_with_fields_of_later_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_codec_replica__a_flipped_bit_of_a_piece_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__a_piece_ends_before_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__digests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_codec_replica__slots_are_slots, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
