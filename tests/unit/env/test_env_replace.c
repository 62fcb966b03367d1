#include "tests/lib/test_lib.h"

#include <string.h>

#include "tests/sim/sim_env.h"

#define FOLDER "/data"
#define NAME   "list"
#define PATH   FOLDER "/" NAME

static const char before[] = "what was there, and is longer than what comes", after[] = "what comes";

static kith_status replace(kith_env *env, const char *text, kith_err *err) {
    size_t bytes = strlen(text), half = bytes / 2;
    kith_file_part parts[] = {{text, half}, {text + half, 0}, {text + half, bytes - half}};
    return kith_file_replace(env, FOLDER, NAME, parts, 3, err);
}

static bool is_there(kith_env *env, const char *text) {
    kith_err err;
    kith_file *file;
    char bytes[64];
    size_t read_bytes = 0;
    kith_status status = kith_file_open(env, PATH, KITH_FILE_READ, &file, &err);
    if (status == KITH_NOT_FOUND) return false;
    assert_ok(status, &err);
    assert_ok(kith_file_read_at(file, 0, bytes, sizeof bytes, &read_bytes, &err), &err);
    kith_file_close(file);
    return read_bytes == strlen(text) && memcmp(bytes, text, read_bytes) == 0;
}

static sim_env *machine(kith_env **env_out, bool with_before) {
    kith_err err;
    sim_env *sim = sim_env_create(test_seed(1));
    *env_out = sim_env_kith(sim);
    assert_ok(kith_dir_make(*env_out, FOLDER, &err), &err);
    if (with_before) assert_ok(replace(*env_out, before, &err), &err);
    return sim;
}

static void test_env_replace__parts_follow_each_other_and_nothing_of_before_is_left(void **state) {
    (void)state;
    kith_err err;
    kith_env *env;
    sim_env *sim = machine(&env, true);
    assert_true(is_there(env, before));
    sim_env_file_put(sim, PATH ".new", "left by a crash, and longer than all that is written", 52);
    assert_ok(replace(env, after, &err), &err);
    assert_true(is_there(env, after));
    sim_env_crash(sim, SIM_CRASH_LOSE_ALL);
    sim_env_restart(sim);
    assert_true(is_there(env, after));
    sim_env_destroy(sim);
}

/* What was answered OK is there, and else the whole of the one or of the other. */
static void crash_everywhere(sim_crash_mode mode, bool with_before) {
    bool is_over = false;
    for (uint64_t op = 0; !is_over; op++) {
        kith_err err;
        kith_env *env;
        sim_env *sim = machine(&env, with_before);
        sim_env_crash_at(sim, sim_env_op_count(sim) + op, mode);
        is_over = replace(env, after, &err) == KITH_OK;
        assert_int_equal(
            is_over, op == 8); /* make, truncate, three writes, sync, rename, and the folder's sync */
        if (is_over) sim_env_crash(sim, mode);
        sim_env_restart(sim);
        bool is_before = with_before ? is_there(env, before) : !is_there(env, after);
        assert_true(is_there(env, after) || (is_before && !is_over));
        assert_ok(replace(env, after, &err), &err); /* whatever was left */
        assert_true(is_there(env, after));
        sim_env_destroy(sim);
    }
}

static void test_env_replace__a_crash_leaves_the_whole_of_one_or_the_other(void **state) {
    (void)state;
    for (sim_crash_mode mode = SIM_CRASH_KEEP_ALL; mode <= SIM_CRASH_TORN_UNORDERED; mode++) {
        crash_everywhere(mode, true);
        crash_everywhere(mode, false);
    }
}

static void test_env_replace__a_path_that_is_too_long_is_refused(void **state) {
    (void)state;
    kith_err err;
    kith_env *env;
    sim_env *sim = machine(&env, false);
    char dir[4096];
    memset(dir, 'a', sizeof dir - 6);
    dir[0] = '/';
    dir[sizeof dir - 6] = 0; /* "/list" fits, "/list.new" does not */
    assert_int_equal(kith_file_replace(env, dir, NAME, NULL, 0, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, NAME));
    sim_env_destroy(sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_env_replace__parts_follow_each_other_and_nothing_of_before_is_left),
        cmocka_unit_test(test_env_replace__a_crash_leaves_the_whole_of_one_or_the_other),
        cmocka_unit_test(test_env_replace__a_path_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
