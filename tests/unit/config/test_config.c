#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/config/config.h"

/* The places of the CHOICE values are the enums' numbers. */
_Static_assert(KITH_LOG_ERROR == 0, "error|warn|info|debug");
_Static_assert(KITH_LOG_DEBUG == 3, "error|warn|info|debug");
_Static_assert(KITH_LOG_JSON == 1, "logfmt|json");

typedef struct fixture {
    kith_config config;
    kith_config next;
    kith_buf errors;
    kith_buf other;
} fixture;

static int set_up(void **state) {
    *state = kith_alloc_zero(sizeof(fixture));
    return 0;
}

static int tear_down(void **state) {
    fixture *fix = *state;
    kith_buf_fini(&fix->errors);
    kith_buf_fini(&fix->other);
    kith_free(fix);
    return 0;
}

static const char *text_of(kith_buf *buf) {
    *kith_buf_reserve(buf, 1) = 0;
    return (const char *)buf->data;
}

static void load(fixture *fix, const kith_config_options *options) {
    kith_status status = kith_config_load(options, &fix->config, &fix->errors);
    if (status != KITH_OK) fail_msg("%s", text_of(&fix->errors));
}

static void load_text(fixture *fix, const char *text) {
    load(fix, &(kith_config_options){.text = text});
}

/* `text` is refused with exactly the lines `wanted`, and nothing is written. */
static void assert_refused(fixture *fix, const char *text, const char *wanted) {
    kith_buf_clear(&fix->errors);
    fix->config.http_port = 12345;
    assert_int_equal(
        kith_config_load(&(kith_config_options){.text = text}, &fix->config, &fix->errors), KITH_INVALID);
    assert_string_equal(text_of(&fix->errors), wanted);
    assert_int_equal(fix->config.http_port, 12345);
}

static void test_config__nothing_given_is_the_defaults(void **state) {
    fixture *fix = *state;
    load(fix, &(kith_config_options){0});
    assert_int_equal(fix->config.role, KITH_CONFIG_ROLE_STANDALONE);
    assert_string_equal(fix->config.data_dir, "./kith-data");
    assert_int_equal(fix->config.http_port, 7440);
    assert_int_equal(fix->config.log_level, KITH_LOG_INFO);
    assert_int_equal(fix->config.log_format, KITH_LOG_LOGFMT);
    assert_int_equal(fix->config.compute_backend, KITH_CONFIG_COMPUTE_BACKEND_AUTO);
    assert_int_equal(fix->config.log_retain_bytes, 256u << 20);
}

static void test_config__file_sets_every_type(void **state) {
    fixture *fix = *state;
    load_text(fix, "# comment with http_port = 1\n"
                   "http_port = 0x1F90; // hex\n"
                   "grpc_port : 9001\n"
                   "data_dir = \"/data/\\\"k\\\"\";\n"
                   "log_level = \"debug\";\n"
                   "compute_backend = \"cuda\";\n"
                   "/* log_retain_bytes = 1; */ log_retain_bytes = 512L;\n"
                   "store_memory_bytes = 67108864LL;\n");
    assert_int_equal(fix->config.http_port, 8080);
    assert_int_equal(fix->config.grpc_port, 9001);
    assert_string_equal(fix->config.data_dir, "/data/\"k\"");
    assert_int_equal(fix->config.log_level, KITH_LOG_DEBUG);
    assert_int_equal(fix->config.compute_backend, KITH_CONFIG_COMPUTE_BACKEND_CUDA);
    assert_int_equal(fix->config.log_retain_bytes, 512);
    assert_int_equal(fix->config.store_memory_bytes, 64u << 20);
}

/* libconfig alone would make 0 of the first and -1294967296 of the second. */
static void test_config__integers_past_32_bits_need_no_suffix(void **state) {
    fixture *fix = *state;
    load_text(fix, "disk_reserve_bytes = 68719476736;\nlog_retain_bytes = 3000000000;");
    assert_true(fix->config.disk_reserve_bytes == 64ULL << 30);
    assert_true(fix->config.log_retain_bytes == 3000000000ULL);
    assert_refused(
        fix, "http_port = 4294967296;", "text:1: http_port = 4294967296: expected an integer in 0..65535\n");
    assert_refused(fix, "http_port = 99999999999999999999999;",
        "text:1: http_port = 99999999999999999999999: expected an integer in 0..65535\n");
    assert_refused(fix, "http_port = -1;", "text:1: http_port = -1: expected an integer in 0..65535\n");
}

static void test_config__every_mistake_is_reported_with_its_line(void **state) {
    assert_refused(*state,
        "http_port = 99999;\n"
        "serach_threads = 3;\n"
        "\n"
        "log_level = \"loud\";\n"
        "data_dir = 5;\n"
        "search_timeout_ms = \"1 s\";\n"
        "write_timeout_ms = 1.5;\n"
        "role = \"conductor\";\n"
        "bind_address = \"\";\n"
        "nonsense_that_is_like_nothing = { a = 1; };\n"
        "grpc_port = [1, 2];\n",
        "text:1: http_port = 99999: expected an integer in 0..65535\n"
        "text:2: serach_threads: unknown key, did you mean search_threads?\n"
        "text:4: log_level = \"loud\": expected one of error, warn, info, debug\n"
        "text:5: data_dir = 5: expected a text of 1..1023 bytes\n"
        "text:6: search_timeout_ms = \"1 s\": expected an integer in 1..3600000\n"
        "text:7: write_timeout_ms = (a fraction): expected an integer in 1..3600000\n"
        "text:8: role = \"conductor\": expected one of standalone, coordinator, data, query\n"
        "text:9: bind_address = \"\": expected a text of 1..255 bytes\n"
        "text:10: nonsense_that_is_like_nothing: unknown key\n"
        "text:11: grpc_port = (a list): expected an integer in 0..65535\n");
}

static void test_config__syntax_error_has_its_line(void **state) {
    assert_refused(*state, "http_port = 1;\n\ngrpc_port = ;\n", "text:3: syntax error\n");
}

static void test_config__limits_themselves_are_allowed(void **state) {
    fixture *fix = *state;
    load_text(fix, "search_timeout_ms = 1;\nwrite_timeout_ms = 3600000;\nmessage_bytes_max = 67108864;");
    assert_int_equal(fix->config.search_timeout_ms, 1);
    assert_refused(fix, "search_timeout_ms = 0;\nwrite_timeout_ms = 3600001;\nmessage_bytes_max = 67108865;",
        "text:1: search_timeout_ms = 0: expected an integer in 1..3600000\n"
        "text:2: write_timeout_ms = 3600001: expected an integer in 1..3600000\n"
        "text:3: message_bytes_max = 67108865: expected an integer in 65536..67108864\n");
}

static void test_config__later_sources_win(void **state) {
    fixture *fix = *state;
    load(fix, &(kith_config_options){.text = "http_port = 1; grpc_port = 2; node_port = 3;",
                  .env = (const char *const[]){"PATH=/bin", "KITH_GRPC_PORT=20", "KITH_NODE_PORT=30", NULL},
                  .overrides = (const char *const[]){"node-port=300", "data_dir=/a=b", NULL}});
    assert_int_equal(fix->config.http_port, 1);
    assert_int_equal(fix->config.grpc_port, 20);
    assert_int_equal(fix->config.node_port, 300);
    assert_string_equal(fix->config.data_dir, "/a=b");
}

static void test_config__environment_and_command_line_are_checked(void **state) {
    fixture *fix = *state;
    kith_config_options options = {.text = "http_port = 70000;",
        .env = (const char *const[]){"KITH_GRPC_PORT=x", "KITH_HTTP_PROT=1", "KITH_SERVICE_HOST=10.0.0.1",
            "KITH_PORT_7440_TCP=tcp://10.0.0.1", "KITH_TEST_SEED=1", "KITH_", "KITH_=", NULL},
        .overrides = (const char *const[]){"node-port=", "log-levle=info", "quiet", "log-format=xml", NULL}};
    assert_int_equal(kith_config_load(&options, &fix->config, &fix->errors), KITH_INVALID);
    assert_string_equal(text_of(&fix->errors),
        "text:1: http_port = 70000: expected an integer in 0..65535\n"
        "environment: grpc_port = x: expected an integer in 0..65535\n"
        "environment: KITH_HTTP_PROT: unknown key http_prot, did you mean http_port?\n"
        "command line: node_port = : expected an integer in 0..65535\n"
        "command line: log_levle: unknown key, did you mean log_level?\n"
        "command line: quiet: expected key=value\n"
        "command line: log_format = xml: expected one of logfmt, json\n");
}

static void test_config__keys_that_do_not_fit_together_are_refused(void **state) {
    assert_refused(*state, "http_port = 7441; segment_merge_bytes_max = 1048576;",
        "http_port = 7441: expected another port than grpc_port\n"
        "segment_merge_bytes_max = 1048576: expected at least segment_seal_bytes, 67108864\n");
}

/* --- files --- */

static void write_file(const char *dir, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_config__included_files_lie_beside_the_including_one(void **state) {
    fixture *fix = *state;
    char *dir = test_dir_make();
    char path[512];
    snprintf(path, sizeof path, "%s/main.conf", dir);
    write_file(dir, "main.conf", "grpc_port = 1;\n@include \"more.conf\"\nnode_port = 2;\n");
    write_file(dir, "more.conf", "# one line\nhttp_port = 3;\nlog_retain_bytes = 8589934592;\n");
    load(fix, &(kith_config_options){.path = path});
    assert_int_equal(fix->config.grpc_port, 1);
    assert_int_equal(fix->config.node_port, 2);
    assert_int_equal(fix->config.http_port, 3);
    assert_true(fix->config.log_retain_bytes == 8ULL << 30);

    write_file(dir, "more.conf", "\nhttp_port = 77777;\n");
    assert_int_equal(
        kith_config_load(&(kith_config_options){.path = path}, &fix->config, &fix->errors), KITH_INVALID);
    char wanted[1200];
    snprintf(
        wanted, sizeof wanted, "%s/more.conf:2: http_port = 77777: expected an integer in 0..65535\n", dir);
    assert_string_equal(text_of(&fix->errors), wanted);

    kith_buf_clear(&fix->errors);
    write_file(dir, "more.conf", "@include \"main.conf\"\n");
    write_file(dir, "main.conf", "@include \"more.conf\"\n@include \".\"\n");
    assert_int_equal(
        kith_config_load(&(kith_config_options){.path = path}, &fix->config, &fix->errors), KITH_INVALID);
    snprintf(wanted, sizeof wanted,
        "%s/more.conf: @include inside an included file is not supported\n%s/.: Is a directory\n", dir, dir);
    assert_string_equal(text_of(&fix->errors), wanted);
    test_dir_remove(dir);
}

static void test_config__file_that_cannot_be_read_is_an_error(void **state) {
    fixture *fix = *state;
    char *dir = test_dir_make();
    assert_int_equal(
        kith_config_load(&(kith_config_options){.path = dir}, &fix->config, &fix->errors), KITH_INVALID);
    assert_non_null(strstr(text_of(&fix->errors), ": Is a directory\n"));
    kith_buf_clear(&fix->errors);
    char path[512];
    snprintf(path, sizeof path, "%s/none.conf", dir);
    assert_int_equal(
        kith_config_load(&(kith_config_options){.path = path}, &fix->config, &fix->errors), KITH_INVALID);
    assert_non_null(strstr(text_of(&fix->errors), "none.conf: No such file or directory\n"));
    test_dir_remove(dir);
}

/* --- print and reload --- */

static void test_config__printed_file_loads_as_the_same(void **state) {
    fixture *fix = *state;
    load_text(fix,
        "data_dir = \"a \\\"b\\\" \\\\ c\\x01\"; log_level = \"error\"; log_retain_bytes = 1099511627776;"
        "segment_seal_rows = 7;");
    kith_config_print(&fix->config, &fix->other);
    fix->next = fix->config;
    load_text(fix, text_of(&fix->other));
    assert_memory_equal(&fix->config, &fix->next, sizeof fix->next);
    size_t bytes = fix->other.bytes;
    kith_config_print(&fix->config, &fix->other);
    assert_int_equal(fix->other.bytes, 2 * bytes);
    assert_memory_equal(fix->other.data, fix->other.data + bytes, bytes);
}

static void test_config__shipped_file_is_the_printed_defaults(void **state) {
    fixture *fix = *state;
    kith_config_defaults(&fix->config);
    kith_config_print(&fix->config, &fix->other);
    FILE *file = fopen(KITH_CONF_PATH, "r");
    assert_non_null(file);
    char *shipped = kith_alloc_zero(fix->other.bytes + 2);
    size_t bytes = fread(shipped, 1, fix->other.bytes + 1, file);
    fclose(file);
    assert_string_equal(shipped, text_of(&fix->other));
    assert_int_equal(bytes, fix->other.bytes);
    kith_free(shipped);
}

static void test_config__reload_changes_what_may_change(void **state) {
    fixture *fix = *state;
    load_text(fix, "log_level = \"info\"; http_port = 1; search_timeout_ms = 5;");
    kith_config_options options = {.text = "log_level = \"debug\"; http_port = 2; data_dir = \"x\";"};
    assert_int_equal(
        kith_config_reload(&fix->config, &options, &fix->next, &fix->other, &fix->errors), KITH_OK);
    assert_int_equal(fix->next.log_level, KITH_LOG_DEBUG);
    assert_int_equal(fix->next.search_timeout_ms, 30000);
    assert_int_equal(fix->next.http_port, 1);
    assert_string_equal(fix->next.data_dir, "./kith-data");
    assert_string_equal(text_of(&fix->other), "data_dir\nhttp_port\n");

    fix->next.http_port = 77;
    options.text = "log_level = 3;";
    assert_int_equal(
        kith_config_reload(&fix->config, &options, &fix->next, &fix->other, &fix->errors), KITH_INVALID);
    assert_int_equal(fix->next.http_port, 77);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_config__nothing_given_is_the_defaults),
        CASE(test_config__file_sets_every_type),
        CASE(test_config__integers_past_32_bits_need_no_suffix),
        CASE(test_config__every_mistake_is_reported_with_its_line),
        CASE(test_config__syntax_error_has_its_line),
        CASE(test_config__limits_themselves_are_allowed),
        CASE(test_config__later_sources_win),
        CASE(test_config__environment_and_command_line_are_checked),
        CASE(test_config__keys_that_do_not_fit_together_are_refused),
        CASE(test_config__included_files_lie_beside_the_including_one),
        CASE(test_config__file_that_cannot_be_read_is_an_error),
        CASE(test_config__printed_file_loads_as_the_same),
        CASE(test_config__shipped_file_is_the_printed_defaults),
        CASE(test_config__reload_changes_what_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
