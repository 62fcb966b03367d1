/* The content and the comparisons of shard_same.h. Components are no integers: a sum in another order has other bits. */
#include "tests/unit/shard/shard_same.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/shard/shard_fixture.h"

enum {
    DIM = 32,
    FIELDS = 2,
    /* The content is written in rounds: new points, then a few older ones deleted or replaced. */
    ROUNDS = 39,
    ROUND_POINTS = 150,
    ROUND_CHANGES = 20,
    FIRST_ROUNDS = 32, /* of the first of several segments: more rows than codes need */
    QUERIES = 1024,
    K_MOST = 50,
    ORACLE_EVERY = 8, /* queries; the oracle sorts everything */
};

static const kith_schema schema = {.field_count = FIELDS,
    .fields = {{.name = "a", .dim = DIM, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = DIM, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_F16}}};

struct shard_same {
    uint64_t seed;
    kith_rng rng;
    kith_arena arena;
    kith_op ops[2 * ROUNDS];
    float queries[FIELDS][QUERIES * DIM];
    shard_node_hits want[FIELDS]; /* [QUERIES][K_MOST] */
};

/* --- content --- */

/* Numbers and strings: they differ in order and length. */
static kith_id id_make(shard_same *same, uint32_t number) {
    char text[32];
    if (number % 3) return kith_id_of_number(number);
    int bytes = snprintf(text, sizeof text, "point-%u", number);
    return (kith_id){.type = KITH_ID_STRING,
        .text_bytes = (uint8_t)bytes,
        .bytes = kith_arena_copy(&same->arena, text, (size_t)bytes)};
}

static void components_make(kith_rng *rng, float *values) {
    for (uint32_t i = 0; i < DIM; i++)
        values[i] = (float)(kith_rng_normal(rng) + (i % 5 == 0));
}

static void vectors_make(shard_same *same, kith_op_point *point) {
    for (uint32_t f = 0; f < FIELDS; f++) {
        float values[DIM];
        kith_err err;
        void *stored = kith_arena_alloc(&same->arena, kith_field_vector_bytes(&schema.fields[f]));
        components_make(&same->rng, values);
        assert_ok(kith_vector_store(values, DIM, schema.fields[f].type, stored, &err), &err);
        point->vectors[f] = stored;
    }
    point->field_mask = kith_rng_below(&same->rng, 30) ? 3 : 1;
}

/* One in twelve has the vectors of one of its round: ties, whose order is that of the ids. */
static kith_op round_points(shard_same *same, uint32_t round) {
    kith_op op = {.kind = KITH_OP_UPSERT, .wall_ms = 1, .point_count = ROUND_POINTS};
    op.points = kith_arena_alloc_zero(&same->arena, ROUND_POINTS * sizeof *op.points);
    for (uint32_t i = 0; i < ROUND_POINTS; i++) {
        if (i > 0 && kith_rng_below(&same->rng, 12) == 0)
            op.points[i] = op.points[kith_rng_below(&same->rng, i)];
        else
            vectors_make(same, &op.points[i]);
        /* Not in the order in which they come. */
        op.points[i].id = id_make(same, (round * ROUND_POINTS + i) * 7919u % 100003u);
    }
    return op;
}

static kith_op round_changes(shard_same *same, uint32_t round) {
    kith_op op = {
        .kind = round % 2 ? KITH_OP_UPSERT : KITH_OP_DELETE, .wall_ms = 1, .point_count = ROUND_CHANGES};
    op.points = kith_arena_alloc_zero(&same->arena, ROUND_CHANGES * sizeof *op.points);
    for (uint32_t i = 0; i < ROUND_CHANGES; i++) {
        const kith_op *older = &same->ops[2 * kith_rng_below(&same->rng, round + 1)];
        if (op.kind == KITH_OP_UPSERT) vectors_make(same, &op.points[i]);
        op.points[i].id = older->points[kith_rng_below(&same->rng, ROUND_POINTS)].id;
    }
    return op;
}

static void op_write(fixture *run, const kith_op *op) {
    kith_write_result result;
    kith_err err;
    assert_ok(shard_node_write_op(&run->node, run->held, &schema, op, &result, &err), &err);
    oracle_apply(run->oracle, op, result.sequence);
}

static void seal(fixture *run) {
    kith_err err;
    assert_ok(shard_node_seal(&run->node, run->held, &err), &err);
}

/* A seal after the first rounds, then after each that follows until there are enough. */
static void content_write(shard_same *same, fixture *run, uint32_t segment_count) {
    for (uint32_t round = 0; round < ROUNDS; round++) {
        op_write(run, &same->ops[2 * round]);
        op_write(run, &same->ops[2 * round + 1]);
        if (round + 1 >= FIRST_ROUNDS && round + 2 < FIRST_ROUNDS + segment_count) seal(run);
    }
}

static void run_begin(
    shard_same *same, fixture *run, shard_node_world world, const kith_compute_ops *compute) {
    shard_node_options options = fixture_options(world);
    options.seed = same->seed;
    options.seal_rows = 100000;
    options.seal_bytes = 1 << 30;
    options.seal_idle_ns = 1000000000000000ULL;
    options.merge_bytes_max = 1; /* none */
    options.compute = compute;
    fixture_begin(run, options, &schema);
}

/* --- answers --- */

static void hit_compare_oracle(
    const oracle *model, uint32_t field, const float *query, const kith_hit *hit, const kith_hit *expected) {
    assert_int_equal(kith_id_compare(&hit->id, &expected->id), 0);
    double error = oracle_closeness_error(
        schema.fields[field].metric, query, oracle_find(model, &expected->id)->vectors[field], DIM);
    assert_true(fabs(hit->closeness - expected->closeness) <= error);
}

static void want_compare_oracle(const shard_same *same, const oracle *model, uint32_t field) {
    kith_hit expected[K_MOST];
    const shard_node_hits *want = &same->want[field];
    for (uint32_t q = 0; q < QUERIES; q += ORACLE_EVERY) {
        const float *query = same->queries[field] + (size_t)q * DIM;
        assert_int_equal(want->counts[q], oracle_search(model, field, query, K_MOST, expected));
        for (uint32_t i = 0; i < want->counts[q]; i++)
            hit_compare_oracle(model, field, query, &want->hits[(size_t)q * K_MOST + i], &expected[i]);
    }
}

static void want_make(shard_same *same) {
    fixture run;
    run_begin(same, &run, SHARD_NODE_SIM, kith_compute_ref());
    content_write(same, &run, 1);
    for (uint32_t f = 0; f < FIELDS; f++) {
        assert_int_equal(
            shard_node_search(&run.node, run.held, f, same->queries[f], QUERIES, K_MOST, &same->want[f]),
            KITH_OK);
        want_compare_oracle(same, run.oracle, f);
    }
    fixture_end(&run);
}

shard_same *shard_same_create(uint64_t seed) {
    shard_same *same = kith_alloc_zero(sizeof *same);
    same->seed = seed;
    kith_rng_init(&same->rng, seed);
    kith_arena_init(&same->arena);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        same->ops[2 * round] = round_points(same, round);
        same->ops[2 * round + 1] = round_changes(same, round);
    }
    for (uint32_t i = 0; i < FIELDS * QUERIES; i++)
        components_make(&same->rng, same->queries[i % FIELDS] + (size_t)(i / FIELDS) * DIM);
    want_make(same);
    return same;
}

void shard_same_destroy(shard_same *same) {
    if (!same) return;
    for (uint32_t f = 0; f < FIELDS; f++)
        shard_node_hits_fini(&same->want[f]);
    kith_arena_fini(&same->arena);
    kith_free(same);
}

/* --- comparison --- */

typedef struct batch {
    uint32_t first, count, k;
} batch;

/* Fewer hits are the first of more. */
static bool batch_is_same(shard_same *same, fixture *run, uint32_t field, const batch *asked) {
    shard_node_hits hits;
    const float *queries = same->queries[field] + (size_t)asked->first * DIM;
    kith_status status =
        shard_node_search(&run->node, run->held, field, queries, asked->count, asked->k, &hits);
    bool equal = status == KITH_OK;
    for (uint32_t q = 0; q < asked->count && equal; q++) {
        uint32_t count = same->want[field].counts[asked->first + q];
        if (count > asked->k) count = asked->k;
        equal = hits.counts[q] == count;
        for (uint32_t i = 0; i < count && equal; i++) {
            const kith_hit *hit = &hits.hits[(size_t)q * asked->k + i];
            const kith_hit *want = &same->want[field].hits[(size_t)(asked->first + q) * K_MOST + i];
            equal = kith_id_compare(&hit->id, &want->id) == 0 &&
                    memcmp(&hit->closeness, &want->closeness, sizeof hit->closeness) == 0;
        }
    }
    shard_node_hits_fini(&hits);
    return equal;
}

static bool is_asked(const shard_same_backend *backend, const batch *asked, uint32_t field, bool largest) {
    return asked->count <= backend->query_count_most || (largest && field == 0);
}

/* `largest`: once with every batch, whatever the backend is spared. */
static void compare(
    shard_same *same, fixture *run, const shard_same_backend *backend, const char *when, bool largest) {
    static const batch batches[] = {{0, 1, 10}, {1, 1, 1}, {2, 1, K_MOST}, {3, 7, 10}, {10, 7, K_MOST},
        {17, 64, 10}, {81, 64, K_MOST}, {0, QUERIES, 10}};
    kith_shard_stats stats;
    if (run->node.sim) sim_env_run(run->node.sim); /* what a seal leaves to do: an upload */
    kith_shard_stats_read(run->held, &stats);
    for (uint32_t i = 0; i < FIELDS * sizeof batches / sizeof batches[0]; i++) {
        const batch *asked = &batches[i / FIELDS];
        uint32_t field = i % FIELDS;
        if (!is_asked(backend, asked, field, largest) || batch_is_same(same, run, field, asked)) continue;
        fail_msg("%s, %llu segments, %s: %u queries from %u, k %u, field %u differ from ref on one segment",
            backend->name, (unsigned long long)stats.segments, when, asked->count, asked->first, asked->k,
            field);
    }
}

static void assert_segments(fixture *run, uint64_t count, uint64_t sealed_count) {
    kith_shard_stats stats;
    kith_shard_stats_read(run->held, &stats);
    assert_int_equal(stats.segments, count);
    assert_int_equal(stats.segments_sealed, sealed_count);
}

static void restart(fixture *run, uint64_t merge_bytes_max) {
    fixture_close(run);
    run->node.options.merge_bytes_max = merge_bytes_max;
    fixture_open(run);
}

static void merged_check(shard_same *same, fixture *run, const shard_same_backend *backend) {
    restart(run, 1 << 30);
    seal(run);
    assert_segments(run, 1, 1);
    compare(same, run, backend, "merged", false);
    restart(run, 1);
    compare(same, run, backend, "merged and restarted", false);
}

static void segments_check(shard_same *same, const shard_same_backend *backend, uint32_t count) {
    fixture run;
    run_begin(same, &run, backend->world, backend->compute);
    content_write(same, &run, count);
    assert_segments(&run, count, count - 1);
    compare(same, &run, backend, "the last one growing", false);
    restart(&run, 1);
    compare(same, &run, backend, "the last one growing, restarted", false);
    seal(&run);
    assert_segments(&run, count, count);
    uint64_t coded = atomic_load(&run.node.counters.rows_coded);
    compare(same, &run, backend, "sealed", count == 2);
    if (backend->compute != kith_compute_ref())
        assert_true(atomic_load(&run.node.counters.rows_coded) > coded);
    restart(&run, 1);
    assert_segments(&run, count, count);
    compare(same, &run, backend, "sealed, restarted", false);
    if (count > 2) merged_check(same, &run, backend);
    fixture_end(&run);
}

void shard_same_check(shard_same *same, const shard_same_backend *backend) {
    static const uint32_t counts[] = {1, 2, 7};
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        segments_check(same, backend, counts[i]);
}
