/* Searches of every shape, their limits, and searches beside writes on real threads. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
/* Of so many dimensions that segments get codes. */
static const kith_schema schema_wide = {
    .field_count = 1, .fields = {{.name = "", .dim = 64, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

/* And these codes by row. */
static const kith_schema schema_long = {
    .field_count = 1, .fields = {{.name = "", .dim = 112, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

static uint32_t dim_of(const fixture *run) {
    return run->workload.schema->fields[0].dim;
}

static shard_node_options options_large(shard_node_world world, uint32_t threads) {
    shard_node_options options = fixture_options(world);
    options.seal_rows = 4000;
    options.search_threads = threads;
    return options;
}

/* Of a long vector, seven of eight components behind the first say nothing: else no direction would lead. */
static uint32_t values_of(const fixture *run, uint32_t component) {
    if (component < 16) return 7;
    return dim_of(run) > 64 && component % 8 > 0 ? 1 : 2;
}

/* `count` points with one write; ids from `first`; vectors of small integers that repeat, so that ties are common, and
 * of which the first components tell the most. */
static void fill(fixture *run, uint64_t first, uint32_t count) {
    kith_arena arena;
    kith_write_result result;
    kith_err err;
    kith_arena_init(&arena);
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = count};
    op.points = kith_arena_alloc_zero(&arena, count * sizeof *op.points);
    for (uint32_t i = 0; i < count; i++) {
        float *vector = kith_arena_array(&arena, dim_of(run), sizeof *vector);
        for (uint32_t d = 0; d < dim_of(run); d++)
            vector[d] = (float)kith_rng_below(&run->workload.rng, values_of(run, d));
        op.points[i] = (kith_op_point){
            .id = kith_id_of_number(first + i), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    }
    assert_ok(shard_node_write_op(&run->node, run->held, run->workload.schema, &op, &result, &err), &err);
    oracle_apply(run->oracle, &op, result.sequence);
    kith_arena_fini(&arena);
}

/* queries [query_count][dim]; every apart-th of them is looked at. Returns how many were searched again. */
static uint64_t queries_compare(
    fixture *run, const float *queries, uint32_t query_count, uint32_t k, uint32_t apart) {
    kith_hit *expected = kith_alloc_array(k, sizeof *expected);
    shard_node_hits hits;
    const uint64_t before = run->node.counters.wide_scans;
    const uint32_t live = oracle_count(run->oracle);
    assert_int_equal(shard_node_search(&run->node, run->held, 0, queries, query_count, k, &hits), KITH_OK);
    for (uint32_t q = 0; q < query_count; q += apart) {
        uint32_t count = oracle_search(run->oracle, 0, queries + (size_t)q * dim_of(run), k, expected);
        assert_int_equal(count, k < live ? k : live);
        assert_int_equal(hits.counts[q], count);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(hits.hits[(size_t)q * k + i].closeness == expected[i].closeness);
            assert_int_equal(kith_id_compare(&hits.hits[(size_t)q * k + i].id, &expected[i].id), 0);
        }
    }
    shard_node_hits_fini(&hits);
    kith_free(expected);
    return run->node.counters.wide_scans - before;
}

static void search_compare(fixture *run, uint32_t query_count, uint32_t k) {
    float *queries = kith_alloc_array((size_t)query_count * dim_of(run), sizeof *queries);
    for (uint32_t i = 0; i < query_count * dim_of(run); i++) {
        uint32_t values = dim_of(run) > 64 ? values_of(run, i % dim_of(run)) : 7;
        queries[i] = (float)kith_rng_below(&run->workload.rng, values);
    }
    (void)queries_compare(run, queries, query_count, k, 1 + query_count / 8);
    kith_free(queries);
}

static void shapes_run(shard_node_world world, uint32_t threads) {
    static const struct {
        uint32_t query_count, k;
    } shapes[] = {{1, 1}, {1, 10}, {1, 16384}, {2, 16384}, {40, 16384}, {7, 100}, {200, 10}, {300, 3},
        {1024, 16}, {1024, 2000}};
    fixture run;
    fixture_begin(&run, options_large(world, threads), &schema);
    search_compare(&run, 3, 5); /* of nothing */
    for (uint32_t i = 0; i < 6; i++)
        fill(&run, i * 800, 1000);
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        search_compare(&run, shapes[i].query_count, shapes[i].k);
    fixture_end(&run);
}

static void test_search__every_shape_equals_the_oracle(void **state) {
    (void)state;
    shapes_run(SHARD_NODE_SIM, 1);
    shapes_run(SHARD_NODE_SIM, 16);
    shapes_run(SHARD_NODE_SIM_STORE, 4);
}

/* --- codes: made of the queries once a segment, by each worker --- */

static void codes_begin(
    fixture *run, const kith_schema *of, uint32_t threads, uint32_t segment_rows, uint32_t segment_count) {
    shard_node_options options = options_large(SHARD_NODE_SIM, threads);
    kith_err err;
    options.compute = kith_compute_cpu();
    options.seal_rows = 4 * segment_rows;
    options.seal_bytes = 1 << 30;
    options.seal_idle_ns = 1000000000000000ULL;
    options.merge_bytes_max = 1; /* none */
    fixture_begin(run, options, of);
    const uint32_t part = segment_rows / 10;
    for (uint32_t at = 0; at < segment_count * segment_rows; at += part) {
        fill(run, at, part);
        if ((at + part) % segment_rows == 0) assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
    }
    fill(run, segment_count * segment_rows, 1000); /* these are searched as they are */
}

static void codes_run(uint32_t threads) {
    fixture run;
    codes_begin(&run, &schema_wide, threads, 6000, 2);
    search_compare(&run, 1, 5);
    search_compare(&run, 40, 5);
    search_compare(&run, 2100, 3); /* several tiles */
    search_compare(&run, 300, 2000);
    assert_true(run.node.counters.rows_coded > 0);
    fixture_end(&run);
}

static void test_search__by_codes_equals_the_oracle(void **state) {
    (void)state;
    codes_run(1);
    codes_run(3);
}

/* --- passes: views of so many rows that samples of all segments come first --- */

enum { PASSES_POINTS = 66000 };

static void passes_begin(fixture *run, const kith_schema *of, uint32_t first_segment) {
    shard_node_options options = options_large(SHARD_NODE_SIM, 1);
    options.compute = of == &schema ? NULL : kith_compute_cpu();
    options.seal_bytes = 1 << 30;
    options.seal_rows = 4 * PASSES_POINTS;
    options.merge_bytes_max = 0;
    kith_err err;
    fixture_begin(run, options, of);
    fill(run, 0, first_segment);
    assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
    for (uint32_t at = first_segment; at < PASSES_POINTS; at += 3000)
        fill(run, at, PASSES_POINTS - at < 3000 ? PASSES_POINTS - at : 3000);
}

static void test_search__in_passes_equals_the_oracle(void **state) {
    (void)state;
    fixture run;
    passes_begin(&run, &schema, 2900);
    search_compare(&run, 1, 10);
    search_compare(&run, 9, 10);
    search_compare(&run, 33, 64);
    search_compare(&run, 8, 500);
    search_compare(&run, 2, 5000);
    fixture_end(&run);
}

/* 1,024 queries of 64 dimensions take 0.3 MiB a segment. */
static void test_search__of_more_segments_than_queries_are_kept_for(void **state) {
    (void)state;
    fixture run;
    codes_begin(&run, &schema_wide, 1, 4200, 32);
    search_compare(&run, 1024, 3);
    fixture_end(&run);
}

static void test_search__by_codes_in_passes_equals_the_oracle(void **state) {
    (void)state;
    fixture run;
    codes_begin(&run, &schema_wide, 1, 34000, 2);
    search_compare(&run, 1, 10);
    search_compare(&run, 9, 10);
    search_compare(&run, 1100, 20);
    search_compare(&run, 12, 500);
    fixture_end(&run);
}

/* What codes by row let pass is put off to the end, over both segments. */
static void test_search__rows_put_off_in_passes_equal_the_oracle(void **state) {
    (void)state;
    fixture run;
    codes_begin(&run, &schema_long, 1, 34000, 2);
    search_compare(&run, 1, 10);
    search_compare(&run, 9, 10);
    search_compare(&run, 40, 1);
    search_compare(&run, 33, 100);
    search_compare(&run, 12, 500);
    fixture_end(&run);
}

static void point_put(fixture *run, uint64_t id, const float *vector) {
    kith_op_point point = {
        .id = kith_id_of_number(id), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = 1, .points = &point};
    kith_write_result result;
    kith_err err;
    assert_ok(shard_node_write_op(&run->node, run->held, run->workload.schema, &op, &result, &err), &err);
    oracle_apply(run->oracle, &op, result.sequence);
}

/* What is near the query lies where the first pass looks, and is less than k: a guess from it is wrong. */
static void guess_fails(const kith_schema *of, uint32_t query_count) {
    enum { NEAR = 8, K = 10, QUERIES_MOST = 12, ROWS_APART = 64 * 64, DIM_MOST = 112 };
    const uint32_t dim = of->fields[0].dim;
    fixture run;
    kith_err err;
    passes_begin(&run, of, 2900);
    float far[DIM_MOST] = {1000, 1000, 1000, 1000}, queries[QUERIES_MOST * DIM_MOST] = {0};
    for (uint32_t i = 0; i < NEAR; i++) {
        far[0]++;
        point_put(&run, 2900 + (uint64_t)i * ROWS_APART, far);
    }
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err); /* rows in the order of ids */
    for (uint32_t q = 0; q < query_count; q++)                   /* the second has nothing near */
        memcpy(queries + (size_t)q * dim, q == 1 ? (const float[4]){3, 3, 3, 3} : far, 4 * sizeof *queries);
    assert_true(queries_compare(&run, queries, query_count, K, 1) >= query_count - 1);
    fixture_end(&run);
}

static void test_search__a_guess_that_fails_is_searched_again(void **state) {
    (void)state;
    guess_fails(&schema, 3);
}

/* By codes, with rows put off. */
static void test_search__a_guess_that_fails_by_codes_is_searched_again(void **state) {
    (void)state;
    guess_fails(&schema_long, 3);
    guess_fails(&schema_long, 12);
}

/* The pass of every eighth word keeps 180 of the 200 best, and sees them all: in four words, equal or each a bit farther; or
 * four in each of fifty words, with others as near, of later ids, where it does not look. */
static void test_search__what_a_pass_did_not_keep_is_searched_again(void **state) {
    (void)state;
    enum { K = 200, QUERIES = 8, FIRST = 2900, WORDS = 50, OF_A_WORD = 4, OF_A_LARGE = 50 };
    float queries[QUERIES][4] = {{1000, 0, 0, 0}, {0, 0, 0, -1000}, {0, 1000, 0, 0}};
    for (uint32_t q = 3; q < QUERIES; q++)
        memcpy(queries[q], (const float[4]){3, 3, 3, (float)q}, sizeof queries[q]);
    /* The second segment begins with ids 0..63, then FIRST; the pass looks at each 8th word of it. */
    const uint64_t apart = 8 * 64, words = FIRST - 64;
    fixture run;
    kith_err err;
    passes_begin(&run, &schema, FIRST);
    for (uint32_t i = 0; i < 64; i++)
        point_put(&run, i, queries[3]);
    for (uint32_t i = 0; i < K; i++) {
        uint64_t id = words + (1 + i / OF_A_LARGE) * apart + i % OF_A_LARGE;
        point_put(&run, id, queries[0]);
        point_put(&run, id + 8 * apart, (const float[]){0, 0, (float)i, -1000});
        point_put(&run, words + 70 * apart + 64 + i, queries[2]);
    }
    for (uint32_t i = 0; i < WORDS * OF_A_WORD; i++)
        point_put(&run, words + (20 + i / OF_A_WORD) * apart + i % OF_A_WORD, queries[2]);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err); /* rows in the order of ids */
    assert_true(queries_compare(&run, queries[0], QUERIES, K, 1) >= 3);
    fixture_end(&run);
}

/* --- limits --- */

typedef struct ended {
    kith_shard_search search;
    shard_node *node;
    kith_status status;
    atomic_bool done;
} ended;

static void search_ended(
    kith_shard_search *search, kith_status status, const kith_hits *hits, const kith_err *err) {
    ended *end = (ended *)search;
    (void)hits, (void)err;
    end->status = status;
    shard_node_signal(end->node, &end->done);
}

static kith_status search_with(fixture *run, uint64_t deadline_ns, const atomic_bool *cancelled) {
    static const float query[4] = {1, 2, 3, 4};
    ended end = {.search = {.queries = query,
                     .query_count = 1,
                     .k = 5,
                     .deadline_ns = deadline_ns,
                     .cancelled = cancelled,
                     .done = search_ended},
        .node = &run->node};
    kith_shard_search_start(run->held, &end.search);
    assert_false(atomic_load(&end.done));
    assert_true(shard_node_wait(&run->node, &end.done));
    return end.status;
}

static void test_search__past_deadline_or_cancelled_ends(void **state) {
    (void)state;
    fixture run;
    atomic_bool cancelled = true;
    fixture_begin(&run, options_large(SHARD_NODE_SIM, 3), &schema);
    fill(&run, 0, 100);
    assert_int_equal(search_with(&run, 1, NULL), KITH_DEADLINE);
    assert_int_equal(search_with(&run, UINT64_MAX, &cancelled), KITH_CANCELLED);
    cancelled = false;
    assert_int_equal(search_with(&run, UINT64_MAX, &cancelled), KITH_OK);
    fixture_end(&run);
}

static void test_search__small_one_may_end_before_start_returns(void **state) {
    (void)state;
    static const float query[4] = {1, 2, 3, 4};
    fixture run;
    fixture_begin(&run, options_large(SHARD_NODE_SIM, 3), &schema);
    fill(&run, 0, 100);
    ended end = {.search = {.queries = query,
                     .query_count = 1,
                     .k = 5,
                     .deadline_ns = UINT64_MAX,
                     .may_run_inline = true,
                     .done = search_ended},
        .node = &run.node};
    kith_shard_search_start(run.held, &end.search);
    assert_true(atomic_load(&end.done));
    assert_int_equal(end.status, KITH_OK);
    fixture_end(&run);
}

/* --- a run outlives its shard --- */

/* An executor in front of another: what one of its own threads posts first does not return before `go`. */
typedef struct slow_executor {
    kith_executor base;
    kith_env_ops ops;
    kith_executor *real;
    shard_node *node;
    atomic_bool held; /* a post, once */
    atomic_bool go;
    _Atomic uint32_t post_count;
} slow_executor;

static _Thread_local bool is_test_thread;

static void slow_post(kith_executor *base, kith_task *task) {
    slow_executor *slow = (slow_executor *)base;
    atomic_fetch_add(&slow->post_count, 1);
    kith_executor_post(slow->real, task);
    if (is_test_thread || atomic_exchange(&slow->held, true)) return;
    (void)shard_node_wait(slow->node, &slow->go);
}

static uint32_t slow_thread_count(const kith_executor *base) {
    return kith_executor_thread_count(((const slow_executor *)base)->real);
}

static uint32_t slow_queued(const kith_executor *base) {
    return kith_executor_queued(((const slow_executor *)base)->real);
}

static void slow_init(slow_executor *slow, shard_node *node) {
    memset(slow, 0, sizeof *slow);
    slow->ops = *node->search->ops;
    slow->ops.executor_post = slow_post;
    slow->ops.executor_thread_count = slow_thread_count;
    slow->ops.executor_queued = slow_queued;
    slow->base.ops = &slow->ops;
    slow->real = node->search;
    slow->node = node;
}

/* Who posts the workers is late: the first of them has answered, and the shard is gone, before the next is posted. */
static void test_search__shard_may_go_while_workers_are_posted(void **state) {
    (void)state;
    fixture run;
    slow_executor slow, after;
    shard_node_hits hits;
    static float queries[300][4];
    kith_err err;
    fixture_begin(&run, options_large(SHARD_NODE_SIM_STORE, 3), &schema);
    fill(&run, 0, 1000);
    slow_init(&slow, &run.node);
    slow_init(&after, &run.node);
    atomic_store(&after.held, true);
    is_test_thread = true;
    run.node.node.search = &slow.base;
    assert_int_equal(shard_node_search(&run.node, run.held, 0, &queries[0][0], 300, 5, &hits), KITH_OK);
    shard_node_hits_fini(&hits);
    assert_true(atomic_load(&slow.held));
    kith_shard_set_release(run.node.set, run.held);
    run.held = NULL;
    assert_ok(shard_node_drop(&run.node, run.shard.id, &err), &err);
    run.node.node.search = &after.base; /* for whoever still asks the shard */
    shard_node_signal(&run.node, &slow.go);
    shard_node_close(&run.node);
    assert_int_equal(atomic_load(&slow.post_count), 3); /* the run, and two workers beside the first */
    assert_int_equal(atomic_load(&after.post_count), 0);
    fixture_end(&run);
}

/* --- memory --- */

/* The pool has a slot a thread: blocks of the largest searches in it would be memory that never comes back. */
static void test_search__blocks_of_huge_searches_do_not_stay(void **state) {
    (void)state;
    enum { KEPT_BYTES_MOST = 17 << 20 };
    fixture run;
    fixture_begin(&run, options_large(SHARD_NODE_SIM, 1), &schema);
    for (uint32_t i = 0; i < 6; i++)
        fill(&run, i * 800, 1000);
    search_compare(&run, 200, 4800);
    search_compare(&run, 1, 10);
    for (uint32_t i = 0; i < KITH_SHARD_SCRATCH_MAX; i++) {
        void *block = atomic_load(&run.node.node.scratch[i]);
        assert_true(!block || malloc_usable_size(block) <= KEPT_BYTES_MOST);
    }
    fixture_end(&run);
}

enum { NAMED_POINTS = 40 };

typedef struct held_search {
    ended end; /* first: it is the search */
    kith_hit hits[NAMED_POINTS];
    uint32_t count;
} held_search;

static void held_search_ended(
    kith_shard_search *search, kith_status status, const kith_hits *hits, const kith_err *err) {
    held_search *held = (held_search *)search;
    if (status == KITH_OK) {
        held->count = hits[0].count;
        memcpy(held->hits, hits[0].hits, held->count * sizeof held->hits[0]);
    }
    search_ended(search, status, hits, err);
}

/* Point i, named "point-<i>", has the vector (i, 0, 0, 0). */
static void named_points_write(fixture *run) {
    char names[NAMED_POINTS][32];
    float vectors[NAMED_POINTS][4] = {0};
    kith_op_point points[NAMED_POINTS];
    kith_write_result result;
    kith_err err;
    for (uint32_t i = 0; i < NAMED_POINTS; i++) {
        int bytes = snprintf(names[i], sizeof names[i], "point-%u", i);
        vectors[i][0] = (float)i;
        points[i] = (kith_op_point){
            .id = {.type = KITH_ID_STRING, .text_bytes = (uint8_t)bytes, .bytes = (const uint8_t *)names[i]},
            .field_mask = 1,
            .vectors = {(const uint8_t *)vectors[i]}};
    }
    kith_op op = {.kind = KITH_OP_UPSERT, .point_count = NAMED_POINTS, .points = points};
    assert_ok(shard_node_write_op(&run->node, run->held, &schema, &op, &result, &err), &err);
    oracle_apply(run->oracle, &op, result.sequence);
}

/* The segment that the ids lie in is replaced and would be gone. */
static void test_search__held_ids_outlive_the_segment_they_are_in(void **state) {
    (void)state;
    static const float query[4] = {0};
    fixture run;
    kith_err err;
    fixture_begin(&run, options_large(SHARD_NODE_SIM, 3), &schema);
    named_points_write(&run);
    held_search held = {.end = {.search = {.queries = query,
                                    .query_count = 1,
                                    .k = NAMED_POINTS,
                                    .deadline_ns = UINT64_MAX,
                                    .hold_ids = true,
                                    .done = held_search_ended},
                            .node = &run.node}};
    kith_shard_search_start(run.held, &held.end.search);
    assert_true(shard_node_wait(&run.node, &held.end.done));
    assert_int_equal(held.end.status, KITH_OK);
    named_points_write(&run);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    named_points_write(&run);
    assert_ok(shard_node_seal(&run.node, run.held, &err), &err);
    assert_int_equal(held.count, NAMED_POINTS);
    for (uint32_t i = 0; i < NAMED_POINTS; i++) {
        char name[32];
        int bytes = snprintf(name, sizeof name, "point-%u", i);
        assert_int_equal(held.hits[i].id.text_bytes, bytes);
        assert_memory_equal(held.hits[i].id.bytes, name, bytes);
    }
    kith_shard_search_release(&held.end.search);
    fixture_end(&run);
}

/* More searches at once than the hazard cell has slots, on one thread: a search must not hold a slot. */
static void test_search__many_at_once_do_not_wait_for_each_other(void **state) {
    (void)state;
    static const float query[4] = {1, 2, 3, 4};
    enum { SEARCHES = 600 };
    fixture run;
    fixture_begin(&run, options_large(SHARD_NODE_SIM, 4), &schema);
    for (uint32_t i = 0; i < 4; i++)
        fill(&run, i * 3000, 3000);
    ended *ends = kith_alloc_zero(SEARCHES * sizeof *ends);
    for (uint32_t i = 0; i < SEARCHES; i++) {
        ends[i] = (ended){.search = {.queries = query,
                              .query_count = 1,
                              .k = 5,
                              .deadline_ns = UINT64_MAX,
                              .done = search_ended},
            .node = &run.node};
        kith_shard_search_start(run.held, &ends[i].search);
    }
    for (uint32_t i = 0; i < SEARCHES; i++) {
        assert_true(shard_node_wait(&run.node, &ends[i].done));
        assert_int_equal(ends[i].status, KITH_OK);
    }
    kith_free(ends);
    fixture_end(&run);
}

/* --- beside writes --- */

#define WRITER_POINTS 10u

typedef struct writer {
    fixture *run;
    uint32_t number;
    uint32_t rounds;
    bool failed;
} writer;

/* Batches of 10 points with one vector each time: a search must see all of a batch or nothing. */
static void writer_run(void *ctx) {
    writer *self = ctx;
    for (uint32_t round = 1; round <= self->rounds; round++) {
        float vector[4] = {(float)self->number, (float)round, 0, 0};
        kith_op_point points[WRITER_POINTS];
        kith_op op = {.kind = KITH_OP_UPSERT, .point_count = WRITER_POINTS, .points = points};
        kith_write_result result;
        kith_err err;
        for (uint32_t i = 0; i < WRITER_POINTS; i++) {
            points[i] = (kith_op_point){.id = kith_id_of_number(self->number * 1000 + i),
                .field_mask = 1,
                .vectors = {(const uint8_t *)vector}};
        }
        kith_status status =
            shard_node_write_op(&self->run->node, self->run->held, &schema, &op, &result, &err);
        if (status != KITH_OK && status != KITH_BUSY) self->failed = true;
    }
}

/* Every hit of a writer has the closeness of one round: batches are atomic and ids live once. */
static bool batches_whole(const shard_node_hits *hits) {
    for (uint32_t number = 1; number <= 2; number++) {
        double seen = 0;
        uint32_t count = 0;
        for (uint32_t i = 0; i < hits->counts[0]; i++) {
            const kith_hit *hit = &hits->hits[i];
            if (hit->id.number / 1000 != number) continue;
            if (count > 0 && hit->closeness != seen) return false;
            seen = hit->closeness;
            count++;
        }
        if (count != 0 && count != WRITER_POINTS) return false;
    }
    return true;
}

static void searcher_run(void *ctx) {
    writer *self = ctx;
    static const float query[4] = {0, 0, 0, 0};
    for (uint32_t i = 0; i < self->rounds; i++) {
        shard_node_hits hits;
        if (shard_node_search(&self->run->node, self->run->held, 0, query, 1, 100, &hits) != KITH_OK)
            self->failed = true;
        else if (!batches_whole(&hits))
            self->failed = true;
        shard_node_hits_fini(&hits);
    }
}

static void sealer_run(void *ctx) {
    writer *self = ctx;
    for (uint32_t i = 0; i < self->rounds; i++) {
        kith_err err;
        if (shard_node_seal(&self->run->node, self->run->held, &err) != KITH_OK) self->failed = true;
    }
}

static void threads_run(shard_node_world world) {
    fixture run;
    kith_err err;
    kith_thread *threads[5];
    shard_node_options options = options_large(world, 3);
    options.seal_rows = 150;
    fixture_begin(&run, options, &schema);
    uint32_t rounds = (uint32_t)test_scaled(150);
    writer selves[5] = {{&run, 1, rounds, false}, {&run, 2, rounds, false}, {&run, 0, rounds, false},
        {&run, 0, rounds, false}, {&run, 0, rounds / 15, false}};
    void (*const runs[5])(void *ctx) = {writer_run, writer_run, searcher_run, searcher_run, sealer_run};
    for (int i = 0; i < 5; i++)
        assert_ok(kith_thread_start(run.node.env, "test", runs[i], &selves[i], &threads[i], &err), &err);
    for (int i = 0; i < 5; i++)
        kith_thread_join(threads[i]);
    for (int i = 0; i < 5; i++)
        assert_false(selves[i].failed);
    assert_int_equal(kith_shard_count(run.held), 20);
    assert_ok(shard_node_validate(&run.node, run.held, &err), &err);
    fixture_close(&run);
    fixture_open(&run);
    assert_int_equal(kith_shard_count(run.held), 20);
    fixture_end(&run);
}

static void test_search__beside_writers_and_sealers_sees_whole_batches(void **state) {
    (void)state;
    threads_run(SHARD_NODE_SIM_STORE);
    threads_run(SHARD_NODE_REAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search__every_shape_equals_the_oracle),
        cmocka_unit_test(test_search__by_codes_equals_the_oracle),
        cmocka_unit_test(test_search__of_more_segments_than_queries_are_kept_for),
        cmocka_unit_test(test_search__by_codes_in_passes_equals_the_oracle),
        cmocka_unit_test(test_search__rows_put_off_in_passes_equal_the_oracle),
        cmocka_unit_test(test_search__in_passes_equals_the_oracle),
        cmocka_unit_test(test_search__what_a_pass_did_not_keep_is_searched_again),
        cmocka_unit_test(test_search__a_guess_that_fails_is_searched_again),
        cmocka_unit_test(test_search__a_guess_that_fails_by_codes_is_searched_again),
        cmocka_unit_test(test_search__past_deadline_or_cancelled_ends),
        cmocka_unit_test(test_search__small_one_may_end_before_start_returns),
        cmocka_unit_test(test_search__shard_may_go_while_workers_are_posted),
        cmocka_unit_test(test_search__blocks_of_huge_searches_do_not_stay),
        cmocka_unit_test(test_search__held_ids_outlive_the_segment_they_are_in),
        cmocka_unit_test(test_search__many_at_once_do_not_wait_for_each_other),
        cmocka_unit_test(test_search__beside_writers_and_sealers_sees_whole_batches),
    };
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    return cmocka_run_group_tests_name("shard_search", tests, NULL, NULL);
}
