/* One coordinator on real threads and files: proposals, snapshots and a stop, for ThreadSanitizer too. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/thread.h"
#include "host/meta/meta_log_raft.h"
#include "tests/lib/test_lib.h"

#define COMMANDS 200u

typedef struct lone {
    kith_env *env;
    kith_executor *executor, *disk, *files;
    kith_transport *transport;
    kith_meta_fsm fsm;
    kith_meta_log *log;
    kith_mutex mutex;
    kith_cond changed;
    bool leads, stopped;
    uint32_t answered, refused;
    kith_task task;
} lone;

typedef struct command {
    kith_meta_log_proposal proposal;
    kith_task task;
    lone *node;
    kith_buf bytes;
} command;

static void leadership(void *ctx, bool is_leader, uint64_t term, const kith_meta_member *leader) {
    (void)term;
    (void)leader;
    lone *node = ctx;
    kith_mutex_lock(&node->mutex);
    node->leads = is_leader;
    kith_cond_signal(&node->changed);
    kith_mutex_unlock(&node->mutex);
}

static void stopped(void *ctx) {
    lone *node = ctx;
    kith_mutex_lock(&node->mutex);
    node->stopped = true;
    kith_cond_signal(&node->changed);
    kith_mutex_unlock(&node->mutex);
}

static void answered(kith_meta_log_proposal *proposal, kith_status status, const kith_meta_result *result,
    const kith_err *err) {
    (void)result;
    (void)err;
    command *own = (command *)(void *)proposal;
    lone *node = own->node;
    kith_mutex_lock(&node->mutex);
    node->answered++;
    node->refused += status != KITH_OK;
    kith_cond_signal(&node->changed);
    kith_mutex_unlock(&node->mutex);
    kith_buf_fini(&own->bytes);
    kith_free(own);
}

static void propose_run(kith_task *task) {
    command *own = (command *)(void *)((char *)task - offsetof(command, task));
    kith_meta_log_propose(own->node->log, &own->proposal);
}

static void stop_run(kith_task *task) {
    lone *node = (lone *)(void *)((char *)task - offsetof(lone, task));
    kith_meta_log_raft_stop(node->log, stopped, node);
}

static void start_run(kith_task *task) {
    lone *node = (lone *)(void *)((char *)task - offsetof(lone, task));
    kith_err err;
    assert_ok(kith_meta_log_raft_start(node->log, &err), &err);
}

static void life_begin(lone *node, const char *dir) {
    kith_err err;
    node->leads = node->stopped = false;
    node->answered = node->refused = 0;
    assert_ok(kith_executor_create(node->env, "meta", 1, &node->executor, &err), &err);
    assert_ok(kith_executor_create(node->env, "disk", 1, &node->disk, &err), &err);
    assert_ok(kith_executor_create(node->env, "files", 1, &node->files, &err), &err);
    assert_ok(kith_transport_loop_create(node->env, 16, &node->transport, &err), &err);
    kith_meta_fsm_init(&node->fsm);
    kith_meta_log_raft_options options = {.env = node->env,
        .dir = dir,
        .executor = node->executor,
        .disk_executor = node->disk,
        .snapshot_executor = node->files,
        .fsm = &node->fsm,
        .transport = node->transport,
        .self = {.id = {{1, 2, 3}}, .address = "localhost:7442"},
        .snapshot_threshold = 16,
        .snapshot_trailing = 4,
        .leadership = leadership,
        .ctx = node};
    assert_ok(kith_meta_log_raft_open(&options, &node->log, &err), &err);
    if (kith_meta_log_raft_is_new(node->log))
        assert_ok(kith_meta_log_raft_bootstrap(node->log, &options.self, 1, &err), &err);
    node->task.run = start_run;
    kith_executor_post(node->executor, &node->task);
    kith_mutex_lock(&node->mutex);
    while (!node->leads)
        kith_cond_wait(&node->changed, &node->mutex);
    kith_mutex_unlock(&node->mutex);
}

static void life_end(lone *node) {
    node->task.run = stop_run;
    kith_executor_post(node->executor, &node->task);
    kith_mutex_lock(&node->mutex);
    while (!node->stopped)
        kith_cond_wait(&node->changed, &node->mutex);
    kith_mutex_unlock(&node->mutex);
    kith_executor_destroy(node->executor);
    kith_transport_destroy(node->transport);
    kith_meta_log_close(node->log);
    kith_executor_destroy(node->disk);
    kith_executor_destroy(node->files);
}

static void propose(lone *node, uint32_t number) {
    command *own = kith_alloc_zero(sizeof *own);
    own->node = node;
    own->task.run = propose_run;
    own->proposal.done = answered;
    kith_codec_meta_command create = {.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .collection = {.shard_count = 1,
            .schema = {
                .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}}}};
    snprintf(create.collection.name, sizeof create.collection.name, "c%u", number);
    kith_buf_init(&own->bytes);
    kith_codec_meta_command_encode(&create, &own->bytes);
    own->proposal.bytes = own->bytes.data;
    own->proposal.byte_count = own->bytes.bytes;
    kith_executor_post(node->executor, &own->task);
}

static void test_raft_threads__commands_survive_a_stop(void **unused) {
    (void)unused;
    lone node = {.env = NULL};
    kith_err err;
    char *dir = test_dir_make(), path[512];
    snprintf(path, sizeof path, "%s/meta", dir);
    assert_ok(kith_env_posix_create(&node.env, &err), &err);
    kith_mutex_init(&node.mutex, KITH_RANK_LOG);
    kith_cond_init(&node.changed);
    for (uint32_t life = 0; life < 3; life++) {
        life_begin(&node, path);
        for (uint32_t i = 0; i < COMMANDS; i++)
            propose(&node, life * COMMANDS + i);
        kith_mutex_lock(&node.mutex);
        while (node.answered < COMMANDS)
            kith_cond_wait(&node.changed, &node.mutex);
        assert_int_equal(node.refused, 0);
        kith_mutex_unlock(&node.mutex);
        life_end(&node);
        assert_int_equal(node.fsm.state.collection_count, (life + 1) * COMMANDS);
        kith_meta_fsm_fini(&node.fsm);
    }
    kith_cond_fini(&node.changed);
    kith_mutex_fini(&node.mutex);
    kith_env_posix_destroy(node.env);
    test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raft_threads__commands_survive_a_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
