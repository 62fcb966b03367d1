/* Frames between nodes: what is written reads back, and nothing else is read. */
#include <string.h>

#include "tests/lib/test_lib.h"
#include "transport/am_frame.h"

static const kith_am_frame request = {.type = KITH_AM_TYPE_REQUEST,
    .kind = 3,
    .call = 0x0102030405060708,
    .remaining_ns = 5000000000,
    .sequence = 77,
    .body_bytes = 1000,
    .mac = {1, 2, 3}};

static void test_am_frame__request_reads_back(void **state) {
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    kith_am_frame read;
    kith_err err;
    (void)state;
    size_t bytes = kith_am_frame_encode(&request, head);
    assert_int_equal(bytes, KITH_AM_FRAME_HEADER_BYTES);
    assert_ok(kith_am_frame_decode(head, bytes, 1000, &read, &err), &err);
    assert_int_equal(read.type, KITH_AM_TYPE_REQUEST);
    assert_int_equal(read.kind, 3);
    assert_int_equal(read.call, request.call);
    assert_int_equal(read.remaining_ns, request.remaining_ns);
    assert_int_equal(read.sequence, 77);
    assert_memory_equal(read.mac, request.mac, sizeof read.mac);
}

static void test_am_frame__reply_carries_status_and_text(void **state) {
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    const kith_am_frame reply = {
        .type = KITH_AM_TYPE_REPLY, .status = KITH_CORRUPT, .call = 1, .text = "shard 7", .text_bytes = 7};
    kith_am_frame read;
    kith_err err;
    (void)state;
    size_t bytes = kith_am_frame_encode(&reply, head);
    assert_ok(kith_am_frame_decode(head, bytes, 0, &read, &err), &err);
    assert_int_equal(read.status, KITH_CORRUPT);
    assert_int_equal(read.text_bytes, 7);
    assert_memory_equal(read.text, "shard 7", 7);
}

/* The layout is a promise to nodes of other versions: bytes as in the header of am_frame.h. */
static void test_am_frame__bytes_are_as_written_down(void **state) {
    static const uint8_t expected[KITH_AM_FRAME_HEADER_BYTES] = {'k', 'f', 1, 4, 3, 0, 0, 0, 8, 7, 6, 5, 4, 3,
        2, 1, 0x00, 0xf2, 0x05, 0x2a, 1, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0, 1, 2,
        3};
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    (void)state;
    assert_int_equal(kith_am_frame_encode(&request, head), sizeof expected);
    assert_memory_equal(head, expected, sizeof expected);
}

/* Sets one byte of an encoded request. */
static void assert_byte_refused(size_t offset, uint8_t value, const char *text) {
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    kith_am_frame read;
    kith_err err;
    size_t bytes = kith_am_frame_encode(&request, head);
    head[offset] = value;
    assert_int_equal(kith_am_frame_decode(head, bytes, 1000, &read, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, text));
}

static void test_am_frame__refuses_what_it_cannot_have_written(void **state) {
    (void)state;
    assert_byte_refused(0, 'x', "magic");
    assert_byte_refused(2, 2, "version 2");
    assert_byte_refused(3, 0, "type 0");
    assert_byte_refused(3, 10, "type 10");
    assert_byte_refused(6, 1, "does not use"); /* a status in a request */
    assert_byte_refused(3, KITH_AM_TYPE_PING, "does not use");
    assert_byte_refused(32, 0, "body");
    assert_byte_refused(36, 1, "text");
    assert_byte_refused(38, 1, "text");
}

static void test_am_frame__refuses_bodies_over_the_limit(void **state) {
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    kith_am_frame frame = request, read;
    kith_err err;
    (void)state;
    frame.body_bytes = KITH_AM_BODY_BYTES_MAX + 1;
    size_t bytes = kith_am_frame_encode(&frame, head);
    assert_int_equal(kith_am_frame_decode(head, bytes, frame.body_bytes, &read, &err), KITH_INVALID);
    frame = (kith_am_frame){.type = KITH_AM_TYPE_TLS, .body_bytes = KITH_AM_HANDSHAKE_BYTES_MAX + 1};
    bytes = kith_am_frame_encode(&frame, head);
    assert_int_equal(kith_am_frame_decode(head, bytes, frame.body_bytes, &read, &err), KITH_INVALID);
}

/* --- hello --- */

static const kith_am_hello hello = {.version = KITH_AM_PROTOCOL_VERSION,
    .tls = true,
    .node = {{1, 2, 3}},
    .role = "data",
    .cluster = "main",
    .nonce = {9}};

static void test_am_frame__hello_reads_back(void **state) {
    kith_am_hello read;
    kith_buf buf;
    kith_err err;
    (void)state;
    kith_buf_init(&buf);
    kith_am_hello_encode(&hello, &buf);
    assert_ok(kith_am_hello_decode(buf.data, buf.bytes, &read, &err), &err);
    assert_true(read.tls);
    assert_false(read.mac);
    assert_true(kith_node_id_equal(&read.node, &hello.node));
    assert_string_equal(read.role, "data");
    assert_string_equal(read.cluster, "main");
    for (size_t bytes = 0; bytes < buf.bytes; bytes++)
        assert_int_equal(kith_am_hello_decode(buf.data, bytes, &read, &err), KITH_INVALID);
    kith_buf_u8(&buf, 0);
    assert_int_equal(kith_am_hello_decode(buf.data, buf.bytes, &read, &err), KITH_INVALID);
    kith_buf_fini(&buf);
}

static void test_am_frame__hello_of_another_version_says_which(void **state) {
    const uint8_t later[] = {'k', 'i', 't', 'h', 'n', 'o', 'd', 'e', 7, 0, 0xff, 0xff};
    kith_am_hello read;
    kith_err err;
    (void)state;
    assert_ok(kith_am_hello_decode(later, sizeof later, &read, &err), &err);
    assert_int_equal(read.version, 7);
}

static void test_am_frame__hello_text_is_printable(void **state) {
    kith_am_hello bad = hello, read;
    kith_buf buf;
    kith_err err;
    (void)state;
    bad.role[0] = '\n';
    kith_buf_init(&buf);
    kith_am_hello_encode(&bad, &buf);
    assert_int_equal(kith_am_hello_decode(buf.data, buf.bytes, &read, &err), KITH_INVALID);
    kith_buf_fini(&buf);
}

/* --- window --- */

static void test_am_frame__window_takes_each_number_once(void **state) {
    kith_am_window window = {0};
    (void)state;
    assert_false(kith_am_window_take(&window, 0));
    for (uint64_t sequence = 1; sequence < 5000; sequence++) {
        assert_true(kith_am_window_take(&window, sequence));
        assert_false(kith_am_window_take(&window, sequence));
    }
    assert_false(kith_am_window_take(&window, 4999 - KITH_AM_WINDOW_BITS));
    assert_false(kith_am_window_take(&window, 1));
    assert_true(kith_am_window_take(&window, UINT64_MAX));
    assert_false(kith_am_window_take(&window, UINT64_MAX));
}

/* Against a plain set: what is new and within the last 1,024 is taken, nothing else. */
static void test_am_frame__window_agrees_with_a_set(void **state) {
    enum { NUMBERS = 8192 };
    static bool seen[NUMBERS];
    kith_am_window window = {0};
    kith_rng rng;
    uint64_t newest = 0;
    (void)state;
    kith_rng_init(&rng, test_seed(1));
    memset(seen, 0, sizeof seen);
    for (uint64_t round = 0; round < test_scaled(20000); round++) {
        uint64_t least = newest > 1500 ? newest - 1500 : 1;
        uint64_t sequence = least + kith_rng_below(&rng, 1600);
        if (sequence >= NUMBERS) continue;
        bool wanted = !seen[sequence] && sequence + KITH_AM_WINDOW_BITS > newest;
        assert_int_equal(kith_am_window_take(&window, sequence), wanted);
        if (!wanted) continue;
        seen[sequence] = true;
        if (sequence > newest) newest = sequence;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_am_frame__request_reads_back),
        cmocka_unit_test(test_am_frame__reply_carries_status_and_text),
        cmocka_unit_test(test_am_frame__bytes_are_as_written_down),
        cmocka_unit_test(test_am_frame__refuses_what_it_cannot_have_written),
        cmocka_unit_test(test_am_frame__refuses_bodies_over_the_limit),
        cmocka_unit_test(test_am_frame__hello_reads_back),
        cmocka_unit_test(test_am_frame__hello_of_another_version_says_which),
        cmocka_unit_test(test_am_frame__hello_text_is_printable),
        cmocka_unit_test(test_am_frame__window_takes_each_number_once),
        cmocka_unit_test(test_am_frame__window_agrees_with_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
