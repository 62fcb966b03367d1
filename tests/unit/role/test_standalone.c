/* Start and stop of a whole service: what is refused, what is repaired, what is left behind. */
#include "tests/unit/api/api_fixture.h"

static kith_status try_start(api_fixture *f, kith_err *err) {
    kith_standalone *second = NULL;
    kith_standalone_options options = {.env = f->env, .config = &f->config, .embedded = true};
    kith_status status = kith_standalone_start(&options, &second, err);
    if (status == KITH_OK) kith_standalone_stop(second, 0);
    return status;
}

static void points_make(api_fixture *f, const char *name, uint32_t shard_count) {
    float vectors[64][4];
    for (int i = 0; i < 64; i++)
        vectors[i][0] = vectors[i][1] = vectors[i][2] = vectors[i][3] = (float)i;
    assert_int_equal(create(f, name, 4, KITH_METRIC_L2, KITH_TYPE_F32, shard_count), KITH_OK);
    assert_int_equal(upsert(f, name, 0, 64, 4, &vectors[0][0]), KITH_OK);
}

static void stop(api_fixture *f) {
    kith_standalone_stop(f->standalone, 1000000000);
    f->standalone = NULL;
}

static char *path_of(api_fixture *f, const char *name) {
    static char path[1200];
    snprintf(path, sizeof path, "%s/%s", f->config.data_dir, name);
    return path;
}

static void test_standalone__a_folder_has_one_process(void **state) {
    kith_err err;
    assert_int_not_equal(try_start(*state, &err), KITH_OK);
    assert_non_null(strstr(err.text, "data_dir"));
    assert_int_equal(count_ask(*state, "nosuch"), KITH_NOT_FOUND); /* the first one goes on */
}

static void test_standalone__lost_metadata_beside_data_is_refused_not_erased(void **state) {
    api_fixture *f = *state;
    kith_err err;
    points_make(f, "c", 3);
    stop(f);
    char *path = path_of(f, "meta/snapshot.kith"), aside[1300];
    snprintf(aside, sizeof aside, "%s.aside", path);
    assert_ok(kith_path_rename(f->env, path, aside, &err), &err);
    assert_int_equal(try_start(f, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "snapshot.kith is missing"));
    assert_ok(kith_path_rename(f->env, aside, path, &err), &err);
    fixture_open(f);
    assert_int_equal(count_ask(f, "c"), KITH_OK);
    assert_int_equal(f->number, 64);
}

static void file_list_one(void *ctx, const kith_dir_entry *entry) {
    (void)entry;
    (*(uint32_t *)ctx)++;
}

/* A crash between the drop's commit and the erasure: the files of an unknown shard go at the next start. */
static void test_standalone__leftovers_of_dropped_collections_are_erased(void **state) {
    api_fixture *f = *state;
    kith_err err;
    kith_file *file;
    points_make(f, "kept", 1);
    stop(f);
    assert_ok(kith_file_open(f->env, path_of(f, "segments/999-1.seg"), KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_write_at(file, 0, "left", 4, &err), &err);
    kith_file_close(file);
    fixture_open(f);
    stop(f); /* which waits for the erasure */
    uint32_t count = 0;
    assert_ok(kith_dir_list(f->env, path_of(f, "segments"), file_list_one, &count, &err), &err);
    assert_int_equal(count, 0);
    fixture_open(f);
    assert_int_equal(count_ask(f, "kept"), KITH_OK);
    assert_int_equal(f->number, 64);
}

static void test_standalone__a_node_keeps_its_name(void **state) {
    api_fixture *f = *state;
    kith_err err;
    kith_file *file;
    char before[64] = {0}, after[64] = {0};
    size_t read;
    for (int i = 0; i < 2; i++) {
        assert_ok(kith_file_open(f->env, path_of(f, "node_id"), KITH_FILE_READ, &file, &err), &err);
        assert_ok(kith_file_read_at(file, 0, i ? after : before, 63, &read, &err), &err);
        kith_file_close(file);
        if (i == 0) stop(f), fixture_open(f);
    }
    assert_int_equal(strlen(before), 37);
    assert_string_equal(before, after);
    stop(f);
    assert_ok(kith_file_open(f->env, path_of(f, "node_id"), KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_write_at(file, 0, "?", 1, &err), &err);
    kith_file_close(file);
    assert_int_equal(try_start(f, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "node_id"));
}

static void test_standalone__reload_changes_limits_at_once(void **state) {
    api_fixture *f = *state;
    points_make(f, "c", 1);
    kith_config config = f->config;
    config.disk_reserve_bytes = UINT64_MAX / 2; /* more than any disk has */
    kith_standalone_reload(f->standalone, &config);
    float vector[4] = {1, 2, 3, 4};
    kith_status status = KITH_OK;
    /* A reading of the free space is good for a moment: refused soon, and nothing is lost meanwhile. */
    for (int i = 0; i < 100000 && status == KITH_OK; i++)
        status = upsert(f, "c", 500, 1, 4, vector);
    assert_int_equal(status, KITH_NO_SPACE);
    kith_api_search_call search = {.queries = (const uint8_t *)vector, .queries_bytes = 16, .k = 1};
    assert_int_equal(search_ask(f, "c", &search), KITH_OK);
}

int main(void) {
    FIXTURE_UNUSED;
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_standalone__a_folder_has_one_process),
        CASE(test_standalone__lost_metadata_beside_data_is_refused_not_erased),
        CASE(test_standalone__leftovers_of_dropped_collections_are_erased),
        CASE(test_standalone__a_node_keeps_its_name),
        CASE(test_standalone__reload_changes_limits_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
