/* The node of shard_node.h. */
#include "tests/unit/shard/shard_node.h"

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "tests/lib/test_lib.h"

#define WAIT_STEPS_MAX 200000u /* of a millisecond of virtual time */

static kith_status node_before_flush(void *ctx, kith_err *err) {
    shard_node *node = ctx;
    node->flush_count++;
    if (node->sim && sim_env_crashed(node->sim)) return kith_err_set(err, KITH_IO, "crashed");
    if (!node->options.before_flush) return KITH_OK;
    return node->options.before_flush(node->options.before_flush_ctx, err);
}

void shard_node_init(shard_node *node, const shard_node_options *options) {
    kith_err err;
    memset(node, 0, sizeof *node);
    node->options = *options;
    kith_mutex_init(&node->mutex, KITH_RANK_API);
    kith_cond_init(&node->cond);
    if (options->world == SHARD_NODE_SIM) {
        node->sim = sim_env_create(options->seed);
        node->env = sim_env_kith(node->sim);
        node->dir = kith_strdup("/node");
    } else {
        kith_status status = kith_env_posix_create(&node->env, &err);
        kith_assert(status == KITH_OK);
        node->dir = test_dir_make();
    }
    if (options->world != SHARD_NODE_REAL)
        node->disk =
            kith_store_sim_disk_create(options->seed, options->flush_chance, node_before_flush, node);
}

void shard_node_fini(shard_node *node) {
    kith_store_sim_disk_destroy(node->disk);
    if (node->sim) {
        sim_env_destroy(node->sim);
        kith_free(node->dir);
    } else {
        kith_env_posix_destroy(node->env);
        test_dir_remove(node->dir);
    }
    kith_cond_fini(&node->cond);
    kith_mutex_fini(&node->mutex);
}

/* --- waiting --- */

void shard_node_signal(shard_node *node, atomic_bool *done) {
    if (node->sim) {
        atomic_store(done, true);
        return;
    }
    kith_mutex_lock(&node->mutex);
    atomic_store(done, true);
    kith_cond_broadcast(&node->cond);
    kith_mutex_unlock(&node->mutex);
}

static bool wait_simulated(shard_node *node, atomic_bool *done) {
    for (uint32_t i = 0; i < WAIT_STEPS_MAX && !atomic_load(done); i++) {
        sim_env_run(node->sim);
        if (!atomic_load(done)) sim_env_run_for(node->sim, 1000000);
    }
    return atomic_load(done);
}

bool shard_node_wait(shard_node *node, atomic_bool *done) {
    if (node->sim) return wait_simulated(node, done);
    kith_mutex_lock(&node->mutex);
    while (!atomic_load(done))
        kith_cond_wait(&node->cond, &node->mutex);
    kith_mutex_unlock(&node->mutex);
    return true;
}

typedef struct owner_call {
    kith_task task;
    shard_node *node;
    void (*run)(void *ctx);
    void *ctx;
    atomic_bool done;
} owner_call;

static void owner_call_run(kith_task *task) {
    owner_call *call = (owner_call *)task;
    call->run(call->ctx);
    shard_node_signal(call->node, &call->done);
}

void shard_node_on_owner(shard_node *node, void (*run)(void *ctx), void *ctx) {
    owner_call call = {.task = {.run = owner_call_run}, .node = node, .run = run, .ctx = ctx};
    kith_executor_post(node->owner, &call.task);
    bool ran = shard_node_wait(node, &call.done);
    kith_assert(ran);
}

/* --- open and close --- */

static kith_status executors_create(shard_node *node, kith_err *err) {
    kith_status status = kith_executor_create(node->env, "log", 1, &node->log_executor, err);
    if (status == KITH_OK) status = kith_executor_create(node->env, "owner", 1, &node->owner, err);
    if (status == KITH_OK)
        status = kith_executor_create(node->env, "search", node->options.search_threads, &node->search, err);
    if (status == KITH_OK) status = kith_executor_create(node->env, "background", 2, &node->background, err);
    return status;
}

static kith_status store_open(shard_node *node, const char *path, kith_err *err) {
    if (node->disk) return kith_store_sim_open(node->disk, &node->store, err);
    return kith_store_rocksdb_open(path, 8 << 20, &node->store, err);
}

static void node_options_set(shard_node *node, const char *segment_dir) {
    const shard_node_options *options = &node->options;
    const kith_compute_ops *compute = options->compute;
    if (!compute) compute = node->sim ? kith_compute_ref() : kith_compute_cpu();
    node->node = (kith_shard_node){.env = node->env,
        .segment_dir = segment_dir,
        .store = node->store,
        .owner = node->owner,
        .search = node->search,
        .background = node->background,
        .compute = compute,
        .seal_bytes = options->seal_bytes,
        .seal_rows = options->seal_rows,
        .seal_idle_ns = options->seal_idle_ns,
        .merge_bytes_max = options->merge_bytes_max,
        .request_window = options->request_window,
        .read_slice_points = options->read_slice_points,
        .write_queue_bytes_max = options->write_queue_bytes_max,
        .disk_reserve_bytes = options->disk_reserve_bytes,
        .counters = &node->counters};
}

static kith_status log_open(shard_node *node, const char *path, kith_err *err) {
    kith_store_log_options options = {.env = node->env,
        .dir = path,
        .executor = node->log_executor,
        .file_bytes = node->options.log_file_bytes,
        .pending_bytes_max =
            node->options.log_pending_bytes_max ? node->options.log_pending_bytes_max : 64 << 20,
        .replay = kith_shard_set_replay,
        .replay_ctx = node->set};
    return kith_store_log_open(&options, &node->log, err);
}

static char *path_under(shard_node *node, const char *name) {
    char *path = kith_alloc(strlen(node->dir) + strlen(name) + 2);
    sprintf(path, "%s/%s", node->dir, name);
    return path;
}

static void shard_opened(void *ctx, uint64_t shard_id, kith_shard *shard) {
    const shard_node *node = ctx;
    (void)shard_id;
    if (node->opening && node->opening->gate) kith_shard_gate_set(shard, node->opening->gate);
}

static kith_status shards_open(
    shard_node *node, const shard_node_shard *shards, uint32_t shard_count, kith_err *err) {
    kith_status status = KITH_OK;
    for (uint32_t i = 0; i < shard_count && status == KITH_OK; i++) {
        node->opening = &shards[i];
        status = kith_shard_set_open(node->set, shards[i].id, shards[i].schema, shards[i].gate != NULL, err);
    }
    node->opening = NULL;
    return status;
}

kith_status shard_node_open(
    shard_node *node, const shard_node_shard *shards, uint32_t shard_count, kith_err *err) {
    char *segments = path_under(node, "segments"), *log = path_under(node, "log"),
         *store = path_under(node, "store");
    kith_status status = kith_dir_make(node->env, segments, err);
    if (status == KITH_OK) status = executors_create(node, err);
    if (status == KITH_OK) status = store_open(node, store, err);
    if (status == KITH_OK) {
        node_options_set(node, segments);
        node->set = kith_shard_set_create(&node->node);
        kith_shard_set_on_open(node->set, shard_opened, node);
        status = shards_open(node, shards, shard_count, err);
    }
    if (status == KITH_OK) status = log_open(node, log, err);
    if (status == KITH_OK) {
        node->node.log = node->log;
        status = kith_shard_set_start(node->set, err);
    }
    kith_free(log);
    kith_free(store);
    if (!node->set) kith_free(segments);
    if (status != KITH_OK) shard_node_close(node);
    return status;
}

typedef struct closing {
    shard_node *node;
    atomic_bool done;
} closing;

static void set_closed(void *ctx) {
    closing *call = ctx;
    shard_node_signal(call->node, &call->done);
}

void shard_node_close(shard_node *node) {
    closing call = {.node = node};
    if (node->set) {
        kith_shard_set_close(node->set, set_closed, &call);
        bool closed = shard_node_wait(node, &call.done);
        kith_assert(closed);
        kith_shard_set_destroy(node->set);
    }
    kith_store_log_close(node->log);
    kith_executor_destroy(node->log_executor);
    kith_executor_destroy(node->search);
    kith_executor_destroy(node->background);
    kith_executor_destroy(node->owner);
    kith_store_close(node->store);
    kith_shard_node_fini(&node->node);
    kith_free((void *)(uintptr_t)node->node.segment_dir);
    node->closed_short = atomic_load(&node->node.closed_short);
    node->node = (kith_shard_node){0};
    node->set = NULL;
    node->log = NULL;
    node->store = NULL;
    node->log_executor = node->search = node->background = node->owner = NULL;
}

void shard_node_restart_machine(shard_node *node) {
    sim_env_restart(node->sim);
}

/* --- write --- */

static void write_done(
    kith_shard_write *base, kith_status status, const kith_write_result *result, const kith_err *err) {
    shard_node_write *write = (shard_node_write *)base;
    write->status = status;
    if (result) write->result = *result;
    if (err) write->err = *err;
    shard_node_signal(write->node, &write->done);
}

void shard_node_write_begin(shard_node *node, kith_shard *shard, const kith_schema *schema, const kith_op *op,
    uint64_t deadline_ns, shard_node_write *write) {
    memset(write, 0, sizeof *write);
    write->node = node;
    kith_buf_init(&write->op);
    kith_op_encode(op, schema, &write->op);
    write->write = (kith_shard_write){.op = write->op.data,
        .op_bytes = write->op.bytes,
        .request_id = op->request_id,
        .deadline_ns = deadline_ns,
        .done = write_done};
    kith_shard_write_start(shard, &write->write);
}

void shard_node_write_fini(shard_node_write *write) {
    kith_buf_fini(&write->op);
}

kith_status shard_node_write_op(shard_node *node, kith_shard *shard, const kith_schema *schema,
    const kith_op *op, kith_write_result *result_out, kith_err *err) {
    shard_node_write write;
    shard_node_write_begin(node, shard, schema, op, UINT64_MAX, &write);
    bool answered = shard_node_wait(node, &write.done);
    kith_assert(answered);
    shard_node_write_fini(&write);
    if (write.status == KITH_OK)
        *result_out = write.result;
    else
        *err = write.err;
    return write.status;
}

/* --- search --- */

typedef struct searching {
    kith_shard_search search;
    shard_node *node;
    shard_node_hits *hits;
    atomic_bool done;
} searching;

static kith_id id_copy(kith_arena *arena, const kith_id *id) {
    kith_id copy = *id;
    if (id->type != KITH_ID_NUMBER)
        copy.bytes = kith_arena_copy(arena, id->bytes, id->type == KITH_ID_UUID ? 16 : id->text_bytes);
    return copy;
}

static void search_done(
    kith_shard_search *base, kith_status status, const kith_hits *lists, const kith_err *err) {
    searching *call = (searching *)base;
    shard_node_hits *hits = call->hits;
    hits->status = status;
    if (err) hits->err = *err;
    for (uint32_t q = 0; status == KITH_OK && q < base->query_count; q++) {
        hits->counts[q] = lists[q].count;
        for (uint32_t i = 0; i < lists[q].count; i++) {
            hits->hits[(size_t)q * base->k + i] = (kith_hit){
                .closeness = lists[q].hits[i].closeness, .id = id_copy(&hits->arena, &lists[q].hits[i].id)};
        }
    }
    shard_node_signal(call->node, &call->done);
}

kith_status shard_node_search(shard_node *node, kith_shard *shard, uint32_t field_index, const float *queries,
    uint32_t query_count, uint32_t k, shard_node_hits *hits_out) {
    kith_arena_init(&hits_out->arena);
    hits_out->hits = kith_arena_array(&hits_out->arena, (size_t)query_count * k, sizeof *hits_out->hits);
    hits_out->counts = kith_arena_array(&hits_out->arena, query_count, sizeof *hits_out->counts);
    searching call = {.search = {.field_index = field_index,
                          .queries = queries,
                          .query_count = query_count,
                          .k = k,
                          .deadline_ns = UINT64_MAX,
                          .done = search_done},
        .node = node,
        .hits = hits_out};
    kith_shard_search_start(shard, &call.search);
    bool answered = shard_node_wait(node, &call.done);
    kith_assert(answered);
    return hits_out->status;
}

void shard_node_hits_fini(shard_node_hits *hits) {
    kith_arena_fini(&hits->arena);
}

/* --- the rest --- */

typedef struct job_call {
    kith_shard_job job;
    shard_node *node;
    kith_status status;
    kith_err *err;
    atomic_bool done;
} job_call;

static void job_done(kith_shard_job *job, kith_status status, const kith_err *err) {
    job_call *call = (job_call *)job;
    call->status = status;
    if (err) *call->err = *err;
    shard_node_signal(call->node, &call->done);
}

kith_status shard_node_seal(shard_node *node, kith_shard *shard, kith_err *err) {
    job_call call = {.job = {.done = job_done}, .node = node, .err = err};
    kith_shard_seal_start(shard, &call.job);
    bool answered = shard_node_wait(node, &call.done);
    kith_assert(answered);
    return call.status;
}

typedef struct read_call {
    shard_node *node;
    void (*each)(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next);
    void *ctx;
    kith_status status;
    kith_err *err;
    atomic_bool done;
} read_call;

static void read_done(kith_shard_read *read, kith_status status, const kith_shard_point *points,
    uint32_t count, const kith_id *next, const kith_err *err) {
    read_call *call = read->impl[7];
    call->status = status;
    if (err) *call->err = *err;
    if (status == KITH_OK) call->each(call->ctx, points, count, next);
    shard_node_signal(call->node, &call->done);
}

kith_status shard_node_read(shard_node *node, kith_shard *shard, kith_shard_read *read,
    void (*each)(void *ctx, const kith_shard_point *points, uint32_t count, const kith_id *next), void *ctx,
    kith_err *err) {
    read_call call = {.node = node, .each = each, .ctx = ctx, .err = err};
    read->done = read_done;
    read->impl[7] = &call;
    kith_shard_read_start(shard, read);
    bool answered = shard_node_wait(node, &call.done);
    kith_assert(answered);
    return call.status;
}

typedef struct check_call {
    kith_shard *shard;
    uint64_t digest;
    kith_status status;
    kith_err *err;
} check_call;

static void validate_run(void *ctx) {
    check_call *call = ctx;
    call->status = kith_shard_validate(call->shard, call->err);
}

kith_status shard_node_validate(shard_node *node, kith_shard *shard, kith_err *err) {
    check_call call = {.shard = shard, .err = err};
    shard_node_on_owner(node, validate_run, &call);
    return call.status;
}

static void digest_run(void *ctx) {
    check_call *call = ctx;
    call->status = kith_shard_digest(call->shard, &call->digest, call->err);
}

kith_status shard_node_digest(shard_node *node, kith_shard *shard, uint64_t *digest_out, kith_err *err) {
    check_call call = {.shard = shard, .err = err};
    shard_node_on_owner(node, digest_run, &call);
    *digest_out = call.digest;
    return call.status;
}

typedef struct drop_call {
    shard_node *node;
    kith_status status;
    kith_err *err;
    atomic_bool done;
} drop_call;

static void drop_done(void *ctx, kith_status status, const kith_err *err) {
    drop_call *call = ctx;
    call->status = status;
    if (err) *call->err = *err;
    shard_node_signal(call->node, &call->done);
}

kith_status shard_node_drop(shard_node *node, uint64_t shard_id, kith_err *err) {
    drop_call call = {.node = node, .err = err};
    kith_shard_set_drop(node->set, shard_id, drop_done, &call);
    bool answered = shard_node_wait(node, &call.done);
    kith_assert(answered);
    return call.status;
}
