#include "tests/lib/test_lib.h"

#include <string.h>

#include "host/base/buf.h"
#include "host/base/log.h"

typedef struct capture {
    kith_buf lines;
    uint64_t now_ms;
} capture;

static void capture_line(void *ctx, kith_log_level level, const char *line, uint32_t bytes) {
    (void)level;
    kith_buf_append(&((capture *)ctx)->lines, line, bytes);
}

static uint64_t capture_clock(void *ctx) {
    return ((capture *)ctx)->now_ms;
}

static const char *captured(capture *log) {
    kith_buf_reserve(&log->lines, 1);
    log->lines.data[log->lines.bytes] = 0;
    return (const char *)log->lines.data;
}

static size_t lines_captured(const capture *log) {
    size_t count = 0;
    for (size_t i = 0; i < log->lines.bytes; i++)
        count += log->lines.data[i] == '\n';
    return count;
}

static int set_up(void **state) {
    static capture log;
    kith_buf_init(&log.lines);
    log.now_ms = 1700000000123ULL;
    kith_log_clock_set(capture_clock, &log);
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, capture_line, &log);
    *state = &log;
    return 0;
}

static int tear_down(void **state) {
    kith_buf_fini(&((capture *)*state)->lines);
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, NULL, NULL);
    kith_log_clock_set(NULL, NULL);
    return 0;
}

static void test_base__log_line_is_logfmt(void **state) {
    kith_log_info("shard_sealed", kith_kv_u64("rows", 7), kith_kv_text("why", "full \"up\""),
        kith_kv_i64("delta", -2), kith_kv_f64("ratio", 0.5), kith_kv_text("id", "c3/07"),
        kith_kv_text("none", ""));
    assert_string_equal(captured(*state), "ts=2023-11-14T22:13:20.123Z level=info event=shard_sealed rows=7 "
                                          "why=\"full \\\"up\\\"\" delta=-2 ratio=0.5 "
                                          "id=c3/07 none=\"\"\n");
}

static void test_base__log_line_is_json(void **state) {
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_JSON, capture_line, *state);
    kith_log_warn("disk_slow", kith_kv_text("path", "/a b"), kith_kv_u64("took_ms", 12));
    assert_string_equal(captured(*state),
        "{\"ts\":\"2023-11-14T22:13:20.123Z\",\"level\":\"warn\",\"event\":\"disk_slow\","
        "\"path\":\"/a b\",\"took_ms\":12}\n");
}

static void test_base__log_level_leaves_lower_ones_out(void **state) {
    kith_log_debug("request_done");
    assert_int_equal(lines_captured(*state), 0);
    kith_log_level_set(KITH_LOG_DEBUG);
    assert_true(kith_log_wants(KITH_LOG_DEBUG));
    kith_log_debug("request_done");
    assert_int_equal(lines_captured(*state), 1);
    kith_log_level_set(KITH_LOG_ERROR);
    kith_log_warn("disk_slow");
    assert_int_equal(lines_captured(*state), 1);
}

static void test_base__log_repeats_are_counted_not_written(void **state) {
    capture *log = *state;
    log->now_ms += 60000;
    for (int i = 0; i < 25; i++)
        kith_log_warn("peer_slow", kith_kv_u64("node", 3));
    kith_log_warn("other_event");
    assert_int_equal(lines_captured(log), 11);
    assert_null(strstr(captured(log), "left_out"));
    log->now_ms += 1000;
    kith_log_warn("peer_slow");
    assert_int_equal(lines_captured(log), 12);
    assert_non_null(strstr(captured(log), "event=peer_slow left_out=15\n"));
}

static void test_base__log_text_cannot_break_the_line(void **state) {
    kith_log_configure(KITH_LOG_INFO, KITH_LOG_LOGFMT, capture_line, *state);
    ((capture *)*state)->now_ms += 120000;
    kith_log_error("request_bad", kith_kv_text("text", "a\nlevel=error\xFF"), kith_kv_text("null", NULL));
    assert_int_equal(lines_captured(*state), 1);
    assert_non_null(strstr(captured(*state), "text=\"a\\nlevel=error\xEF\xBF\xBD\" null=\"\"\n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_base__log_line_is_logfmt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_base__log_line_is_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_base__log_level_leaves_lower_ones_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_base__log_repeats_are_counted_not_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_base__log_text_cannot_break_the_line, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
