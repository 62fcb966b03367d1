/* One node's metadata log: what was acknowledged is there after any stop, with and without snapshots. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/thread.h"
#include "host/meta/meta_keeper.h"
#include "tests/lib/test_lib.h"

typedef struct meta_node {
    kith_env *env;
    char *dir;
    char meta_dir[512], log_dir[512];
    kith_executor *meta_executor, *log_executor;
    kith_store_log *log;
    kith_meta_keeper *keeper;
    uint32_t created, dropped;
    kith_status create_answer;
} meta_node;

typedef struct meta_waiter {
    kith_meta_proposal proposal;
    kith_mutex mutex;
    kith_cond cond;
    bool done, changed;
    kith_status status;
    uint64_t id;
    char text[KITH_ERR_BYTES_MAX];
} meta_waiter;

static kith_status hook_created(void *ctx, const kith_collection *collection, kith_err *err) {
    meta_node *node = ctx;
    node->created++;
    if (node->create_answer == KITH_OK) return KITH_OK;
    return kith_err_set(
        err, node->create_answer, "shard %llu: no", (unsigned long long)collection->shard_id_first);
}

static void hook_dropped(void *ctx, const kith_collection *collection) {
    (void)collection;
    ((meta_node *)ctx)->dropped++;
}

static kith_status hook_replay(void *ctx, const kith_log_entry *entry, kith_err *err) {
    return kith_meta_keeper_replay(((meta_node *)ctx)->keeper, entry, err);
}

static kith_status node_try_open(meta_node *node, kith_err *err) {
    node->created = node->dropped = 0;
    kith_status status = kith_executor_create(node->env, "meta", 1, &node->meta_executor, err);
    assert_ok(status, err);
    assert_ok(kith_executor_create(node->env, "log", 1, &node->log_executor, err), err);
    kith_meta_keeper_options options = {
        .env = node->env,
        .dir = node->meta_dir,
        .executor = node->meta_executor,
        .node = {.name = "one"},
        .created = hook_created,
        .dropped = hook_dropped,
        .ctx = node,
    };
    status = kith_meta_keeper_open(&options, &node->keeper, err);
    if (status != KITH_OK) return status;
    kith_store_log_options log_options = {
        .env = node->env,
        .dir = node->log_dir,
        .executor = node->log_executor,
        .file_bytes = 4096,
        .retain_bytes = 0,
        .pending_bytes_max = 1 << 20,
        .replay = hook_replay,
        .replay_ctx = node,
    };
    status = kith_store_log_open(&log_options, &node->log, err);
    if (status != KITH_OK) return status;
    return kith_meta_keeper_start(node->keeper, node->log, err);
}

static void node_open(meta_node *node) {
    kith_err err;
    assert_ok(node_try_open(node, &err), &err);
}

static kith_meta_keeper *volatile abandoned[16];
static uint32_t abandoned_count;

/* `clean`: with the snapshot that a close writes. Otherwise the memory is left as a crash leaves it, but reachable, for
 * the leak checker. */
static void node_close(meta_node *node, bool clean) {
    kith_executor_destroy(node->meta_executor);
    if (clean) {
        kith_meta_keeper_close(node->keeper);
    } else {
        assert_true(abandoned_count < 16);
        abandoned[abandoned_count++] = node->keeper;
    }
    kith_store_log_close(node->log);
    kith_executor_destroy(node->log_executor);
    node->log = NULL;
    node->keeper = NULL;
}

static void proposal_done(kith_meta_proposal *proposal, kith_status status, const kith_collection *collection,
    bool changed, const kith_err *err) {
    meta_waiter *waiter = (meta_waiter *)(void *)proposal;
    kith_mutex_lock(&waiter->mutex);
    waiter->done = true;
    waiter->status = status;
    waiter->changed = changed;
    waiter->id = status == KITH_OK ? collection->id : 0;
    if (status != KITH_OK) snprintf(waiter->text, sizeof waiter->text, "%s", err->text);
    kith_cond_signal(&waiter->cond);
    kith_mutex_unlock(&waiter->mutex);
}

static kith_status propose(
    meta_node *node, kith_codec_meta_kind kind, const char *name, meta_waiter *waiter) {
    memset(waiter, 0, sizeof *waiter);
    kith_mutex_init(&waiter->mutex, KITH_RANK_LOG);
    kith_cond_init(&waiter->cond);
    waiter->proposal.command.kind = kind;
    kith_collection *collection = &waiter->proposal.command.collection;
    snprintf(collection->name, sizeof collection->name, "%s", name);
    collection->shard_count = 1;
    collection->schema.field_count = 1;
    collection->schema.fields[0] = (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    if (kind == KITH_CODEC_META_DROP_COLLECTION) collection->schema = (kith_schema){0};
    waiter->proposal.done = proposal_done;
    kith_meta_propose(kith_meta_keeper_meta(node->keeper), &waiter->proposal);
    kith_mutex_lock(&waiter->mutex);
    while (!waiter->done)
        kith_cond_wait(&waiter->cond, &waiter->mutex);
    kith_mutex_unlock(&waiter->mutex);
    kith_cond_fini(&waiter->cond);
    kith_mutex_fini(&waiter->mutex);
    return waiter->status;
}

static uint32_t map_count(meta_node *node) {
    kith_meta_map *map = kith_meta_map_get(kith_meta_keeper_meta(node->keeper));
    uint32_t count = map->entry_count;
    kith_meta_map_release(map);
    return count;
}

static int setup(void **state) {
    kith_err err;
    meta_node *node = kith_alloc_zero(sizeof *node);
    assert_ok(kith_env_posix_create(&node->env, &err), &err);
    node->dir = test_dir_make();
    snprintf(node->meta_dir, sizeof node->meta_dir, "%s/meta", node->dir);
    snprintf(node->log_dir, sizeof node->log_dir, "%s/log", node->dir);
    *state = node;
    return 0;
}

static int teardown(void **state) {
    meta_node *node = *state;
    test_dir_remove(node->dir);
    kith_env_posix_destroy(node->env);
    kith_free(node);
    return 0;
}

static void test_meta_log__acknowledged_commands_survive_any_stop(void **state) {
    meta_node *node = *state;
    meta_waiter waiter;
    char name[32];
    uint32_t made = 0;
    node_open(node);
    for (uint32_t round = 0; round < 6; round++) {
        for (uint32_t i = 0; i < 50; i++) { /* a snapshot each */
            snprintf(name, sizeof name, "c%u", made++);
            assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, name, &waiter), KITH_OK);
            assert_int_equal(waiter.id, made);
        }
        node_close(node, round % 2 == 0);
        node_open(node);
        assert_int_equal(map_count(node), made);
    }
    assert_int_equal(propose(node, KITH_CODEC_META_DROP_COLLECTION, "c3", &waiter), KITH_OK);
    node_close(node, false);
    node_open(node);
    assert_int_equal(map_count(node), made - 1);
    assert_int_equal(node->dropped, 0); /* in the snapshot: what the crash left goes as leftovers at start */
    node_close(node, true);
    node_open(node);
    assert_int_equal(node->dropped, 0);
    assert_int_equal(node->created, 0);
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "c3", &waiter), KITH_OK);
    assert_int_equal(waiter.id, made + 1);
    node_close(node, true);
}

static void test_meta_log__old_map_stays_while_held(void **state) {
    meta_node *node = *state;
    meta_waiter waiter;
    node_open(node);
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_OK);
    kith_meta_map *map = kith_meta_map_get(kith_meta_keeper_meta(node->keeper));
    assert_int_equal(propose(node, KITH_CODEC_META_DROP_COLLECTION, "a", &waiter), KITH_OK);
    assert_int_equal(map_count(node), 0);
    assert_non_null(kith_meta_map_find(map, "a", 1));
    kith_meta_map_release(map);
    node_close(node, true);
}

static void test_meta_log__shards_that_cannot_be_opened_are_told_to_the_client(void **state) {
    meta_node *node = *state;
    meta_waiter waiter;
    node_open(node);
    node->create_answer = KITH_NO_MEMORY;
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_NO_MEMORY);
    assert_non_null(strstr(waiter.text, "shard 1: no"));
    assert_false(kith_meta_serves_all(kith_meta_keeper_meta(node->keeper)));
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_NO_MEMORY);
    assert_int_equal(node->created, 2);
    node->create_answer = KITH_OK;
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "b", &waiter), KITH_OK);
    assert_false(kith_meta_serves_all(kith_meta_keeper_meta(node->keeper)));
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_OK);
    assert_true(kith_meta_serves_all(kith_meta_keeper_meta(node->keeper)));
    assert_int_equal(node->created, 4);
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_OK);
    assert_int_equal(node->created, 4); /* nothing left to open */
    node->create_answer = KITH_NO_MEMORY;
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "c", &waiter), KITH_NO_MEMORY);
    assert_int_equal(propose(node, KITH_CODEC_META_DROP_COLLECTION, "c", &waiter), KITH_OK);
    assert_true(kith_meta_serves_all(kith_meta_keeper_meta(node->keeper)));
    assert_int_equal(propose(node, KITH_CODEC_META_DROP_COLLECTION, "a", &waiter), KITH_OK);
    node_close(node, true);
}

/* A flipped byte anywhere in the snapshot is found; so is its loss. */
static void test_meta_log__damaged_or_lost_snapshot_is_corrupt(void **state) {
    meta_node *node = *state;
    meta_waiter waiter;
    kith_err err;
    char path[600];
    node_open(node);
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "a", &waiter), KITH_OK);
    node_close(node, true);
    snprintf(path, sizeof path, "%s/snapshot.kith", node->meta_dir);
    kith_file *file;
    uint64_t bytes;
    uint8_t byte;
    size_t read;
    assert_ok(kith_file_open(node->env, path, KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_bytes(file, &bytes, &err), &err);
    for (uint64_t at = 0; at < bytes; at++) {
        kith_buf content;
        kith_buf_init(&content);
        assert_ok(kith_file_read_at(file, at, &byte, 1, &read, &err), &err);
        byte ^= 0x10;
        assert_ok(kith_file_write_at(file, at, &byte, 1, &err), &err);
        assert_int_not_equal(kith_meta_snapshot_read(node->env, node->meta_dir, &content, &err), KITH_OK);
        assert_non_null(strstr(err.text, "snapshot.kith"));
        byte ^= 0x10;
        assert_ok(kith_file_write_at(file, at, &byte, 1, &err), &err);
        kith_buf_fini(&content);
    }
    kith_file_close(file);
    node_open(node);
    assert_int_equal(propose(node, KITH_CODEC_META_CREATE_COLLECTION, "b", &waiter), KITH_OK);
    node_close(node, false);
    assert_ok(kith_path_remove(node->env, path, &err), &err);
    assert_int_equal(node_try_open(node, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "is missing"));
    kith_executor_destroy(node->meta_executor);
    kith_meta_keeper_close(node->keeper);
    kith_executor_destroy(node->log_executor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_meta_log__acknowledged_commands_survive_any_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meta_log__old_map_stays_while_held, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_meta_log__shards_that_cannot_be_opened_are_told_to_the_client, setup, teardown),
        cmocka_unit_test_setup_teardown(test_meta_log__damaged_or_lost_snapshot_is_corrupt, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
