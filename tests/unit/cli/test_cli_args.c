/* Commands of one word and of two. */
#include "host/cli/cli_internal.h"
#include "tests/lib/test_lib.h"

static int run_nothing(kith_cli *cli) {
    (void)cli;
    return KITH_CLI_OK;
}

static const kith_cli_option options[] = {{"--off", NULL, "off"}, {NULL, NULL, NULL}};
static const kith_cli_command commands[] = {
    {"status", "", 0, 0, "one word", options, "", run_nothing},
    {"cluster status", "", 0, 0, "two words", options, "", run_nothing},
    {"cluster drain", "NODE", 1, 1, "two words", options, "", run_nothing},
    {NULL, NULL, 0, 0, NULL, NULL, NULL, NULL},
};

static kith_cli_args args;
static kith_err err;

static kith_status parse(const char *a, const char *b, const char *c, const char *d) {
    char *words[] = {(char *)"kith", (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    int count = 0;
    while (words[count])
        count++;
    return kith_cli_args_parse(count, words, commands, &args, &err);
}

static void test_cli_args__two_words_are_a_command(void **state) {
    (void)state;
    assert_ok(parse("cluster", "drain", "data-1", "--off"), &err);
    assert_ptr_equal(args.command, &commands[2]);
    assert_int_equal(args.argument_count, 1);
    assert_string_equal(args.arguments[0], "data-1");
    assert_true(kith_cli_args_has(&args, "--off"));
    assert_ok(parse("status", NULL, NULL, NULL), &err);
    assert_ptr_equal(args.command, &commands[0]);
    assert_ok(parse("cluster", "status", "--json", NULL), &err);
    assert_ptr_equal(args.command, &commands[1]);
}

static void test_cli_args__a_group_alone_is_no_command(void **state) {
    (void)state;
    assert_ok(parse("cluster", NULL, NULL, NULL), &err);
    assert_null(args.command);
    assert_string_equal(args.group, "cluster");
    assert_ok(parse("cluster", "--help", NULL, NULL), &err);
    assert_null(args.command);
    assert_true(args.help);
}

static void test_cli_args__the_nearest_is_named(void **state) {
    (void)state;
    assert_int_equal(parse("cluster", "drian", NULL, NULL), KITH_INVALID);
    assert_string_equal(err.text, "there is no command 'cluster drian'; did you mean 'cluster drain'?");
    assert_int_equal(parse("clust", "status", NULL, NULL), KITH_INVALID);
    assert_int_equal(parse("cluster", "drain", NULL, NULL), KITH_INVALID);
    assert_string_equal(err.text, "kith cluster drain needs NODE; kith cluster drain --help shows how");
    assert_int_equal(parse("cluster", "drain", "a", "b"), KITH_INVALID);
    assert_int_equal(parse("cluster", "status", "--of", NULL), KITH_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_args__two_words_are_a_command),
        cmocka_unit_test(test_cli_args__a_group_alone_is_no_command),
        cmocka_unit_test(test_cli_args__the_nearest_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
