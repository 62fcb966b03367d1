/* Searches that wait together: that they share their work, and that nobody can tell from the answers. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

enum { CALLS_MAX = 320, K_MAX = 40, QUERIES_MAX = 12, DIM_MAX = 6, SHARDS = 2, WINDOW_NS = 200000 };

static const kith_schema schema = {.field_count = 2,
    .fields = {{.name = "a", .dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = DIM_MAX, .metric = KITH_METRIC_IP, .type = KITH_TYPE_F32}}};

/* --- a backend that is watched --- */

typedef struct watch {
    kith_mutex mutex;
    kith_cond cond;
    uint32_t calls, queries_most;
    uint32_t refused_from; /* queries of a call from which there is no memory; 0: none is refused */
    uint32_t held_k;       /* calls with at least this k wait until `open`; 0: none */
    uint32_t entered;      /* calls with held_k, also those let go since */
    void (*during)(void *ctx, uint32_t call); /* inside a call, in the simulated world */
    void *during_ctx;
} watch;

static watch watched;

static void watch_reset(void) {
    watched.calls = watched.queries_most = watched.refused_from = watched.held_k = watched.entered = 0;
    watched.during = NULL;
}

static kith_status watched_top_k(const kith_top_k_job *job, kith_row_hit *hits_out, uint32_t *counts_out,
    kith_top_k_stats *stats, kith_err *err) {
    kith_mutex_lock(&watched.mutex);
    uint32_t call = watched.calls++;
    if (job->query_count > watched.queries_most) watched.queries_most = job->query_count;
    bool refused = watched.refused_from && job->query_count >= watched.refused_from;
    if (watched.held_k && job->k >= watched.held_k) watched.entered++;
    kith_cond_broadcast(&watched.cond);
    while (watched.held_k && job->k >= watched.held_k)
        kith_cond_wait(&watched.cond, &watched.mutex);
    kith_mutex_unlock(&watched.mutex);
    if (watched.during) watched.during(watched.during_ctx, call);
    if (refused) return kith_err_set(err, KITH_NO_MEMORY, "none for %u queries", job->query_count);
    return kith_compute_ref()->top_k(job, hits_out, counts_out, stats, err);
}

static void held_wait(uint32_t count) {
    kith_mutex_lock(&watched.mutex);
    while (watched.entered < count)
        kith_cond_wait(&watched.cond, &watched.mutex);
    kith_mutex_unlock(&watched.mutex);
}

static void held_open(void) {
    kith_mutex_lock(&watched.mutex);
    watched.held_k = 0;
    kith_cond_broadcast(&watched.cond);
    kith_mutex_unlock(&watched.mutex);
}

static kith_compute_ops watched_ops(const char *name) {
    kith_compute_ops ops = *kith_compute_ref();
    ops.name = name;
    ops.top_k = watched_top_k;
    return ops;
}

/* --- searches that are started now and waited for later --- */

typedef struct call {
    kith_shard_search search; /* first */
    shard_node *node;
    kith_shard *shard;
    atomic_bool cancelled, done;
    kith_status status;
    float queries[QUERIES_MAX * DIM_MAX];
    uint32_t counts[QUERIES_MAX];
    kith_hit hits[QUERIES_MAX][K_MAX]; /* text of ids is good while they are held */
} call;

static void call_ended(
    kith_shard_search *search, kith_status status, const kith_hits *lists, const kith_err *err) {
    call *self = (call *)search;
    self->status = status;
    assert_int_equal(status != KITH_OK, err != NULL);
    for (uint32_t q = 0; status == KITH_OK && search->k <= K_MAX && q < search->query_count; q++) {
        self->counts[q] = lists[q].count;
        memcpy(self->hits[q], lists[q].hits, lists[q].count * sizeof lists[q].hits[0]);
    }
    shard_node_signal(self->node, &self->done);
}

/* --- a node with some shards --- */

typedef struct bed {
    shard_node node;
    kith_shard *held[SHARDS];
    shard_workload workload;
} bed;

static void bed_write(bed *run, uint32_t shard) {
    shard_workload_op made;
    kith_write_result result;
    kith_err err;
    shard_workload_make(&run->workload, &made);
    assert_ok(shard_node_write_op(&run->node, run->held[shard], &schema, &made.op, &result, &err), &err);
    kith_arena_fini(&made.arena);
}

static void bed_begin(bed *run, shard_node_options options) {
    static const shard_node_shard shards[SHARDS] = {
        {.id = 7, .schema = &schema}, {.id = 8, .schema = &schema}};
    kith_err err;
    memset(run, 0, sizeof *run);
    run->workload =
        (shard_workload){.schema = &schema, .id_count = 150, .points_max = 12, .missing_chance = 0.1};
    kith_rng_init(&run->workload.rng, options.seed);
    watch_reset();
    shard_node_init(&run->node, &options);
    assert_ok(shard_node_open(&run->node, shards, SHARDS, &err), &err);
    for (uint32_t i = 0; i < SHARDS; i++) {
        run->held[i] = kith_shard_set_find(run->node.set, shards[i].id);
        for (uint32_t writes = 0; writes < 60; writes++)
            bed_write(run, i);
    }
    watch_reset();
}

static void bed_close(bed *run) {
    for (uint32_t i = 0; i < SHARDS; i++)
        kith_shard_set_release(run->node.set, run->held[i]);
    shard_node_close(&run->node);
}

static void bed_end(bed *run) {
    bed_close(run);
    shard_node_fini(&run->node);
}

static shard_node_options watched_options(
    shard_node_world world, uint32_t threads, const kith_compute_ops *compute) {
    shard_node_options options = fixture_options(world);
    options.search_threads = threads;
    options.compute = compute;
    return options;
}

static uint32_t segment_count(bed *run) {
    kith_shard_stats stats;
    kith_shard_stats_read(run->held[0], &stats);
    return (uint32_t)stats.segments;
}

/* --- searches, started and waited for apart --- */

static void call_make(call *self, bed *run, uint32_t field_index, uint32_t query_count, uint32_t k) {
    memset(self, 0, sizeof *self);
    self->node = &run->node;
    self->shard = run->held[0];
    self->search = (kith_shard_search){.field_index = field_index,
        .queries = self->queries,
        .query_count = query_count,
        .k = k,
        .deadline_ns = UINT64_MAX,
        .cancelled = &self->cancelled,
        .hold_ids = true,
        .done = call_ended};
    for (uint32_t q = 0; q < query_count; q++) {
        shard_workload_query(
            &run->workload, field_index, self->queries + (size_t)q * schema.fields[field_index].dim);
    }
}

static void call_start(call *self) {
    kith_shard_search_start(self->shard, &self->search);
}

static kith_status call_wait(call *self) {
    assert_true(shard_node_wait(self->node, &self->done));
    return self->status;
}

/* Held ids are let go. */
static void call_end(call *self) {
    if (self->status == KITH_OK && self->search.hold_ids) kith_shard_search_release(&self->search);
}

/* The same search now, alone, has the same answer to the last bit. */
static void call_compare(call *self) {
    shard_node_hits alone;
    uint32_t k = self->search.k;
    assert_int_equal(shard_node_search(self->node, self->shard, self->search.field_index, self->queries,
                         self->search.query_count, k, &alone),
        KITH_OK);
    for (uint32_t q = 0; q < self->search.query_count; q++) {
        assert_int_equal(self->counts[q], alone.counts[q]);
        for (uint32_t i = 0; i < alone.counts[q]; i++) {
            const kith_hit *hit = &alone.hits[(size_t)q * k + i];
            assert_memory_equal(&self->hits[q][i].closeness, &hit->closeness, sizeof hit->closeness);
            assert_int_equal(kith_id_compare(&self->hits[q][i].id, &hit->id), 0);
        }
    }
    shard_node_hits_fini(&alone);
}

/* --- sharing --- */

/* Searches of one query, all before a thread begins one; returns how many batches they made. */
static void together(bed *run, call *calls, uint32_t count, uint32_t k) {
    watch_reset();
    run->node.counters.search_batches = run->node.counters.search_batched = 0;
    for (uint32_t i = 0; i < count; i++) {
        call_make(&calls[i], run, 0, 1, k);
        call_start(&calls[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(call_wait(&calls[i]), KITH_OK);
    assert_int_equal(run->node.counters.search_batched, count);
}

static void test_batch__waiting_searches_share_one_launch_a_unit(void **state) {
    (void)state;
    /* The last: queries x k is what bounds it. */
    static const struct {
        uint32_t searches, k, batches, queries_most;
    } cases[] = {{1, 10, 1, 1}, {7, 10, 1, 7}, {64, 10, 1, 64}, {300, 10, 2, 256}, {40, 16384, 3, 16}};
    kith_compute_ops compute = watched_ops("watched");
    call *calls = kith_alloc_zero(CALLS_MAX * sizeof *calls);
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 1, &compute));
    for (uint32_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        together(&run, calls, cases[c].searches, cases[c].k);
        assert_int_equal(watched.calls, cases[c].batches * segment_count(&run));
        assert_int_equal(watched.queries_most, cases[c].queries_most);
        assert_int_equal(run.node.counters.search_batches, cases[c].batches);
        for (uint32_t i = 0; i < cases[c].searches; i++) {
            if (cases[c].k <= K_MAX) call_compare(&calls[i]);
            call_end(&calls[i]);
        }
    }
    kith_free(calls);
    bed_end(&run);
}

/* Shards, fields, k and numbers of queries at random, started between steps of the world. */
static void test_batch__random_mixes_answer_as_alone(void **state) {
    (void)state;
    enum { ROUNDS = 30, SEARCHES = 60 };
    static const uint32_t ks[] = {1, 5, K_MAX};
    call *calls = kith_alloc_zero(SEARCHES * sizeof *calls);
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 3, NULL));
    kith_rng *rng = &run.workload.rng;
    for (uint64_t round = 0; round < test_scaled(ROUNDS); round++) {
        uint32_t count = 1 + (uint32_t)kith_rng_below(rng, SEARCHES);
        /* Of one kind: so many queries that a run is cut by them. */
        uint64_t kind_count = round % 3 == 0 ? 1 : 2 * 3 * SHARDS;
        for (uint32_t i = 0; i < 6; i++)
            bed_write(&run, i % SHARDS);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t kind = kith_rng_below(rng, kind_count);
            call_make(
                &calls[i], &run, kind % 2, 1 + (uint32_t)kith_rng_below(rng, QUERIES_MAX), ks[kind % 3]);
            calls[i].shard = run.held[kind / 6];
            call_start(&calls[i]);
            for (uint64_t steps = kith_rng_below(rng, 4); steps > 0; steps--)
                sim_env_step(run.node.sim);
        }
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(call_wait(&calls[i]), KITH_OK);
        for (uint32_t i = 0; i < count; i++) {
            call_compare(&calls[i]);
            call_end(&calls[i]);
        }
    }
    assert_true(run.node.counters.search_batched > run.node.counters.search_batches);
    kith_free(calls);
    bed_end(&run);
}

/* --- real threads --- */

enum { CALLERS = 6, CALLER_QUERIES = 3 };

typedef struct caller {
    bed *run;
    uint32_t number, rounds;
    uint64_t seed;
    bool failed;
} caller;

/* Point `number` of the caller's shard now lies at (number, round, 0, 0), and nowhere else. */
static bool caller_write(caller *self, uint32_t round) {
    float vector[4] = {(float)(1000 + self->number), (float)round, 0, 0};
    kith_op_point point = {.id = kith_id_of_number(1000000 + self->number),
        .field_mask = 1,
        .vectors = {(const uint8_t *)vector}};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    kith_write_result result;
    kith_err err;
    kith_shard *shard = self->run->held[self->number % SHARDS];
    return shard_node_write_op(&self->run->node, shard, &schema, &op, &result, &err) == KITH_OK;
}

/* It must be found where it was written last, by each of the queries. */
static bool caller_search(caller *self, kith_rng *rng, uint32_t round) {
    float queries[CALLER_QUERIES][4];
    uint32_t query_count = 1 + (uint32_t)kith_rng_below(rng, CALLER_QUERIES);
    uint32_t k = kith_rng_below(rng, 4) == 0 ? 7 : 3;
    shard_node_hits hits;
    bool found = true;
    for (uint32_t q = 0; q < query_count; q++)
        memcpy(queries[q], (float[4]){(float)(1000 + self->number), (float)round, 0, (float)q},
            sizeof queries[q]);
    kith_shard *shard = self->run->held[self->number % SHARDS];
    if (shard_node_search(&self->run->node, shard, 0, queries[0], query_count, k, &hits) != KITH_OK)
        found = false;
    for (uint32_t q = 0; found && q < query_count; q++) {
        const kith_hit *hit = &hits.hits[(size_t)q * k];
        found = hits.counts[q] == k && hit->closeness == -(double)q * q &&
                hit->id.number == 1000000 + self->number;
    }
    shard_node_hits_fini(&hits);
    return found;
}

static void caller_run(void *ctx) {
    caller *self = ctx;
    kith_rng rng;
    kith_rng_init(&rng, self->seed);
    for (uint32_t round = 1; round <= self->rounds; round++) {
        if (!caller_write(self, round)) self->failed = true;
        for (uint32_t i = 0; i < 3; i++)
            self->failed = !caller_search(self, &rng, round) || self->failed;
    }
}

static void test_batch__each_search_sees_what_was_written_before_it(void **state) {
    (void)state;
    bed run;
    kith_err err;
    kith_thread *threads[CALLERS];
    caller callers[CALLERS];
    bed_begin(&run, watched_options(SHARD_NODE_SIM_STORE, 2, NULL));
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] =
            (caller){.run = &run, .number = i, .rounds = (uint32_t)test_scaled(60), .seed = test_seed(1) + i};
        assert_ok(kith_thread_start(run.node.env, "test", caller_run, &callers[i], &threads[i], &err), &err);
    }
    for (uint32_t i = 0; i < CALLERS; i++)
        kith_thread_join(threads[i]);
    for (uint32_t i = 0; i < CALLERS; i++)
        assert_false(callers[i].failed);
    bed_end(&run);
}

/* --- long runs --- */

/* All rows in one unit, so that a run has one thread; long runs, of k from 20 on, are held in it. */
static void held_begin(
    bed *run, const kith_compute_ops *compute, uint32_t threads, call *longs, uint32_t count) {
    shard_node_options options = watched_options(SHARD_NODE_SIM_STORE, threads, compute);
    options.seal_rows = 100000;
    bed_begin(run, options);
    watched.held_k = 20;
    for (uint32_t i = 0; i < count; i++) {
        call_make(&longs[i], run, 0, 1, 20 + i);
        call_start(&longs[i]);
        held_wait(i + 1);
    }
}

static void held_end(bed *run, call *longs, uint32_t count) {
    held_open();
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(call_wait(&longs[i]), KITH_OK);
        call_compare(&longs[i]);
        call_end(&longs[i]);
    }
    bed_end(run);
}

static void beside_long_runs(uint32_t threads, uint32_t held) {
    kith_compute_ops compute = watched_ops("watched");
    call longs[4], other;
    bed run;
    held_begin(&run, &compute, threads, longs, held);
    call_make(&other, &run, 0, 1, 5);
    call_start(&other);
    assert_int_equal(call_wait(&other), KITH_OK);
    call_end(&other);
    held_end(&run, longs, held);
}

static void test_batch__idle_threads_serve_others_beside_long_runs(void **state) {
    (void)state;
    beside_long_runs(2, 1);
    beside_long_runs(4, 3);
}

static void test_batch__what_waits_for_busy_threads_is_one_run(void **state) {
    (void)state;
    enum { WAITING = 5 };
    kith_compute_ops compute = watched_ops("watched");
    call longs[2], waiting[WAITING];
    bed run;
    held_begin(&run, &compute, 2, longs, 2);
    for (uint32_t i = 0; i < WAITING; i++) {
        call_make(&waiting[i], &run, 0, 2, 5);
        call_start(&waiting[i]);
    }
    assert_int_equal(run.node.counters.search_batches, 2);
    held_open();
    for (uint32_t i = 0; i < WAITING; i++) {
        assert_int_equal(call_wait(&waiting[i]), KITH_OK);
        call_end(&waiting[i]);
    }
    assert_int_equal(run.node.counters.search_batches, 3);
    assert_int_equal(watched.queries_most, 2 * WAITING);
    held_end(&run, longs, 2);
}

/* --- members that end early --- */

enum { MEMBERS = 5 };

static void members_start(bed *run, call members[MEMBERS]) {
    watch_reset();
    for (uint32_t i = 0; i < MEMBERS; i++) {
        call_make(&members[i], run, 0, 1, 10);
        call_start(&members[i]);
    }
}

static void members_end(call members[MEMBERS], const kith_status expected[MEMBERS]) {
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(call_wait(&members[i]), expected[i]);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        if (expected[i] == KITH_OK) call_compare(&members[i]);
        call_end(&members[i]);
    }
}

static void test_batch__members_over_before_it_begins_are_left_out(void **state) {
    (void)state;
    static const kith_status expected[MEMBERS] = {
        KITH_CANCELLED, KITH_OK, KITH_DEADLINE, KITH_OK, KITH_CANCELLED};
    kith_compute_ops compute = watched_ops("watched");
    call members[MEMBERS];
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 1, &compute));
    members_start(&run, members);
    members[0].cancelled = members[4].cancelled = true;
    members[2].search.deadline_ns = 1;
    assert_int_equal(call_wait(&members[1]), KITH_OK);
    assert_int_equal(watched.queries_most, 2);
    members_end(members, expected);
    /* All of them: nothing is searched. */
    members_start(&run, members);
    for (uint32_t i = 0; i < MEMBERS; i++)
        members[i].cancelled = true;
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(call_wait(&members[i]), KITH_CANCELLED);
    assert_int_equal(watched.calls, 0);
    bed_end(&run);
}

typedef struct early {
    bed *run;
    call *members;
    uint32_t cancel_count; /* of the first members */
    const kith_env_ops *clock;
} early;

/* What happens inside the first launch. */
static void early_during(void *ctx, uint32_t call_number) {
    early *self = ctx;
    if (call_number > 0) return;
    for (uint32_t i = 0; i < self->cancel_count; i++)
        self->members[i].cancelled = true;
    if (self->clock) self->run->node.env->ops = self->clock;
}

static uint64_t late_now_ns(kith_env *env) {
    (void)env;
    return UINT64_MAX / 2;
}

static void test_batch__members_over_meanwhile_do_not_end_it_for_others(void **state) {
    (void)state;
    static const kith_status expected[MEMBERS] = {
        KITH_CANCELLED, KITH_CANCELLED, KITH_DEADLINE, KITH_OK, KITH_OK};
    kith_compute_ops compute = watched_ops("watched");
    call members[MEMBERS];
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 1, &compute));
    const kith_env_ops *ops = run.node.env->ops;
    kith_env_ops late = *ops;
    late.now_ns = late_now_ns;
    early self = {.run = &run, .members = members, .cancel_count = 2, .clock = &late};
    members_start(&run, members);
    members[2].search.deadline_ns = UINT64_MAX / 2;
    watched.during = early_during;
    watched.during_ctx = &self;
    assert_int_equal(call_wait(&members[3]), KITH_OK);
    assert_int_equal(watched.calls, segment_count(&run));
    run.node.env->ops = ops;
    watch_reset();
    members_end(members, expected);
    bed_end(&run);
}

static void test_batch__is_abandoned_when_all_members_are_over(void **state) {
    (void)state;
    kith_compute_ops compute = watched_ops("watched");
    call members[MEMBERS];
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 1, &compute));
    assert_true(segment_count(&run) > 1);
    early self = {.run = &run, .members = members, .cancel_count = MEMBERS};
    members_start(&run, members);
    watched.during = early_during;
    watched.during_ctx = &self;
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(call_wait(&members[i]), KITH_CANCELLED);
    assert_int_equal(watched.calls, 1);
    bed_end(&run);
}

static void test_batch__waiting_searches_end_when_the_shard_closes(void **state) {
    (void)state;
    call members[MEMBERS];
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 2, NULL));
    members_start(&run, members);
    bed_close(&run);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        assert_true(atomic_load(&members[i].done));
        assert_int_equal(members[i].status, KITH_CLOSED);
    }
    shard_node_fini(&run.node);
}

/* --- memory --- */

static void test_batch__without_memory_its_members_run_one_by_one(void **state) {
    (void)state;
    static const kith_status fine[MEMBERS] = {KITH_OK, KITH_OK, KITH_OK, KITH_OK, KITH_OK};
    static const kith_status none[MEMBERS] = {
        KITH_NO_MEMORY, KITH_NO_MEMORY, KITH_NO_MEMORY, KITH_NO_MEMORY, KITH_NO_MEMORY};
    kith_compute_ops compute = watched_ops("watched");
    call members[MEMBERS];
    bed run;
    bed_begin(&run, watched_options(SHARD_NODE_SIM, 3, &compute));
    members_start(&run, members);
    watched.refused_from = 2;
    members_end(members, fine);
    assert_int_equal(watched.queries_most, MEMBERS);
    members_start(&run, members);
    watched.refused_from = 1;
    members_end(members, none);
    bed_end(&run);
}

/* --- a window --- */

static void window_begin(bed *run, const kith_compute_ops *compute) {
    bed_begin(run, watched_options(SHARD_NODE_SIM, 2, compute));
    run->node.node.search_batch_window_ns = WINDOW_NS;
}

static void test_batch__on_a_gpu_searches_are_gathered_for_the_window(void **state) {
    (void)state;
    kith_compute_ops compute = watched_ops("cuda");
    call *calls = kith_alloc_zero(CALLS_MAX * sizeof *calls);
    bed run;
    window_begin(&run, &compute);
    for (uint32_t i = 0; i < 3; i++) {
        call_make(&calls[i], &run, 0, 1, 10);
        call_start(&calls[i]);
        sim_env_run_for(run.node.sim, WINDOW_NS / 4);
        assert_false(atomic_load(&calls[0].done));
    }
    sim_env_run_for(run.node.sim, WINDOW_NS / 4);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(atomic_load(&calls[i].done));
    assert_int_equal(watched.queries_most, 3);
    for (uint32_t i = 0; i < 3; i++)
        call_end(&calls[i]);
    /* As many as a batch takes do not wait. */
    for (uint32_t i = 0; i < 256; i++) {
        call_make(&calls[i], &run, 0, 1, 10);
        call_start(&calls[i]);
    }
    sim_env_run(run.node.sim);
    for (uint32_t i = 0; i < 256; i++) {
        assert_true(atomic_load(&calls[i].done));
        call_end(&calls[i]);
    }
    kith_free(calls);
    bed_end(&run);
}

static void test_batch__on_a_cpu_nobody_waits_for_the_window(void **state) {
    (void)state;
    kith_compute_ops compute = watched_ops("watched");
    call one;
    bed run;
    window_begin(&run, &compute);
    call_make(&one, &run, 0, 1, 10);
    call_start(&one);
    sim_env_run(run.node.sim);
    assert_true(atomic_load(&one.done));
    call_end(&one);
    bed_end(&run);
}

static void test_batch__a_shard_closes_while_searches_are_gathered(void **state) {
    (void)state;
    kith_compute_ops compute = watched_ops("cuda");
    call members[MEMBERS];
    bed run;
    window_begin(&run, &compute);
    members_start(&run, members);
    bed_close(&run);
    for (uint32_t i = 0; i < MEMBERS; i++)
        assert_int_equal(members[i].status, KITH_CLOSED);
    shard_node_fini(&run.node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch__waiting_searches_share_one_launch_a_unit),
        cmocka_unit_test(test_batch__random_mixes_answer_as_alone),
        cmocka_unit_test(test_batch__each_search_sees_what_was_written_before_it),
        cmocka_unit_test(test_batch__idle_threads_serve_others_beside_long_runs),
        cmocka_unit_test(test_batch__what_waits_for_busy_threads_is_one_run),
        cmocka_unit_test(test_batch__members_over_before_it_begins_are_left_out),
        cmocka_unit_test(test_batch__members_over_meanwhile_do_not_end_it_for_others),
        cmocka_unit_test(test_batch__is_abandoned_when_all_members_are_over),
        cmocka_unit_test(test_batch__waiting_searches_end_when_the_shard_closes),
        cmocka_unit_test(test_batch__without_memory_its_members_run_one_by_one),
        cmocka_unit_test(test_batch__on_a_gpu_searches_are_gathered_for_the_window),
        cmocka_unit_test(test_batch__on_a_cpu_nobody_waits_for_the_window),
        cmocka_unit_test(test_batch__a_shard_closes_while_searches_are_gathered),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    kith_mutex_init(&watched.mutex, KITH_RANK_METRICS);
    kith_cond_init(&watched.cond);
    int failed = cmocka_run_group_tests_name("shard_batch", tests, NULL, NULL);
    kith_cond_fini(&watched.cond);
    kith_mutex_fini(&watched.mutex);
    return failed;
}
