/* The data side of a node by itself. */
#include <stdio.h>
#include <string.h>

#include "host/base/log.h"
#include "host/role/data.h"
#include "tests/lib/test_lib.h"

typedef struct fixture {
    kith_env *env;
    char *dir;
    kith_config config;
    kith_role_data data;
    kith_collection collection; /* of shards 5.. */
} fixture;

static kith_status no_metadata(void *ctx, const kith_log_entry *entry, kith_err *err) {
    (void)ctx, (void)entry;
    return kith_err_set(err, KITH_INTERNAL, "no metadata was written");
}

static void fixture_begin(fixture *f) {
    kith_err err;
    *f = (fixture){.dir = test_dir_make()};
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    kith_config_defaults(&f->config);
    snprintf(f->config.data_dir, sizeof f->config.data_dir, "%s/data", f->dir);
    f->collection = (kith_collection){.name = "c",
        .id = 1,
        .shard_id_first = 5,
        .schema = {
            .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}}};
    assert_ok(kith_env_posix_create(&f->env, &err), &err);
    kith_role_data_options options = {.env = f->env, .config = &f->config, .replay_meta = no_metadata};
    assert_ok(kith_role_data_open(&options, &f->data, &err), &err);
    assert_ok(kith_role_data_recover(&f->data, &options, &err), &err);
}

static void fixture_end(fixture *f) {
    kith_role_data_close(&f->data, NULL, NULL);
    kith_env_posix_destroy(f->env);
    test_dir_remove(f->dir);
}

static bool is_served(fixture *f, uint64_t shard_id) {
    kith_shard *shard = kith_shard_set_find(f->data.shards, shard_id);
    if (shard) kith_shard_set_release(f->data.shards, shard);
    return shard != NULL;
}

static void test_data__opening_shards_again_opens_those_that_are_missing(void **state) {
    (void)state;
    fixture f;
    kith_err err;
    fixture_begin(&f);
    f.collection.shard_count = 2; /* as far as the first attempt came */
    assert_ok(kith_role_data_shards_open(&f.data, &f.collection, &err), &err);
    assert_false(is_served(&f, 7));
    f.collection.shard_count = 4;
    assert_ok(kith_role_data_shards_open(&f.data, &f.collection, &err), &err);
    for (uint64_t shard_id = 5; shard_id < 9; shard_id++)
        assert_true(is_served(&f, shard_id));
    assert_int_equal(kith_shard_set_count(f.data.shards), 4);
    fixture_end(&f);
}

static void logged(kith_log_append *append, kith_status status, const kith_err *err) {
    (void)append, (void)err;
    assert_int_equal(status, KITH_OK);
}

static bool is_known(void *ctx, uint64_t shard_id) {
    (void)ctx;
    return shard_id == 6;
}

static kith_status first_open(fixture *f, uint64_t shard_id) {
    kith_err err;
    return kith_role_data_shard_open(&f->data, shard_id, &f->collection.schema, &err);
}

/* The log may keep what a shard wrote here before it moved to another node. Where it comes back, the node need not be
 * restarted for it; one that should have been open must. */
static void test_data__shard_that_moved_away_may_come_back(void **state) {
    (void)state;
    fixture f;
    kith_err err;
    kith_log_append appends[2];
    fixture_begin(&f);
    for (uint64_t i = 0; i < 2; i++) {
        appends[i] = (kith_log_append){
            .entry = {.stream = 5 + i, .epoch = 2, .sequence = 1, .data = ""}, .done = logged};
        kith_store_log_append(f.data.log, &appends[i]);
    }
    kith_role_data_close(&f.data, NULL, NULL); /* completes them */
    kith_role_data_options options = {.env = f.env, .config = &f.config, .replay_meta = no_metadata};
    assert_ok(kith_role_data_open(&options, &f.data, &err), &err);
    assert_ok(kith_role_data_recover(&f.data, &options, &err), &err);
    assert_int_equal(first_open(&f, 5), KITH_PRECONDITION);
    kith_role_data_streams_forget(&f.data, is_known, NULL);
    assert_int_equal(first_open(&f, 5), KITH_OK);
    assert_int_equal(first_open(&f, 6), KITH_PRECONDITION);
    fixture_end(&f);
}

static kith_status start_again(fixture *f, kith_err *err) {
    kith_role_data_options options = {.env = f->env, .config = &f->config, .replay_meta = no_metadata};
    assert_ok(kith_role_data_open(&options, &f->data, err), err);
    assert_ok(kith_role_data_shards_open(&f->data, &f->collection, err), err);
    return kith_role_data_recover(&f->data, &options, err);
}

/* A part of a backup that was put back, for one. */
static void test_data__log_that_is_gone_is_missed(void **state) {
    (void)state;
    fixture f;
    kith_err err;
    char log_dir[1100], away_dir[1100];
    fixture_begin(&f);
    snprintf(log_dir, sizeof log_dir, "%s/log", f.config.data_dir);
    snprintf(away_dir, sizeof away_dir, "%s/away", f.dir);
    f.collection.shard_count = 1;
    assert_ok(kith_role_data_shards_open(&f.data, &f.collection, &err), &err);
    kith_role_data_close(&f.data, NULL, NULL);
    assert_ok(kith_path_rename(f.env, log_dir, away_dir, &err), &err);
    for (uint32_t i = 0; i < 2; i++) { /* without the folder, then with an empty one */
        assert_int_equal(start_again(&f, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, log_dir));
        kith_role_data_close(&f.data, NULL, NULL);
        assert_ok(kith_dir_make(f.env, log_dir, &err), &err);
    }
    assert_ok(kith_path_remove(f.env, log_dir, &err), &err);
    assert_ok(kith_path_rename(f.env, away_dir, log_dir, &err), &err);
    assert_ok(start_again(&f, &err), &err);
    assert_true(is_served(&f, 5));
    fixture_end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data__opening_shards_again_opens_those_that_are_missing),
        cmocka_unit_test(test_data__shard_that_moved_away_may_come_back),
        cmocka_unit_test(test_data__log_that_is_gone_is_missed),
    };
    return cmocka_run_group_tests_name("data", tests, NULL, NULL);
}
