/* Segments of both kinds against a table of the points put in and a brute-force search of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/base/hash.h"
#include "host/index/index.h"
#include "host/index/segment_bloom.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "tests/unit/index/segment_golden.h"

#define ROWS_MAX    2000
#define DIM_MAX     40
#define FIELDS      2
#define K           10
#define GOLDEN_NAME "segment-v1.kith"
#define SEALED_PATH "/data/segment-1.kith"
#define GOLDEN_ROWS 9
#define MIXED_KINDS 4 /* numbers, large numbers, UUIDs, strings */

typedef struct test_point {
    uint8_t id_bytes[64];
    kith_id id;
    uint64_t sequence;
    uint32_t field_mask;
    float vectors[FIELDS][DIM_MAX]; /* as given; small integers, so that every type holds them exactly */
} test_point;

typedef struct fixture {
    sim_env *sim;
    kith_env *env;
    kith_schema schema;
    test_point *points; /* [ROWS_MAX], in row order of the growing segment */
    uint32_t point_count;
    kith_segment *growing;
} fixture;

static const kith_schema golden_schema = {.field_count = 2,
    .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
        {.name = "b", .dim = 5, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8}}};

static fixture *fixture_create(const kith_schema *schema) {
    fixture *f = kith_alloc_zero(sizeof *f);
    f->sim = sim_env_create(1);
    f->env = sim_env_kith(f->sim);
    f->schema = *schema;
    f->points = kith_alloc_zero(ROWS_MAX * sizeof *f->points);
    kith_err err;
    assert_ok(kith_dir_make(f->env, "/data", &err), &err);
    assert_ok(kith_segment_growing_create(7, schema, ROWS_MAX, kith_compute_ref(), &f->growing, &err), &err);
    return f;
}

static void fixture_destroy(fixture *f) {
    kith_segment_release(f->growing);
    kith_free(f->points);
    sim_env_destroy(f->sim);
    kith_free(f);
}

/* Id number `n` of a mixture of kinds; strings of many lengths that share beginnings. */
static void id_make(uint64_t n, test_point *point) {
    uint64_t mixed = kith_hash64(&n, sizeof n);
    switch (n % MIXED_KINDS) {
    case 0:
        point->id = kith_id_of_number(n);
        break;
    case 1:
        point->id = kith_id_of_number(mixed);
        break;
    case 2:
        kith_store_u64(point->id_bytes, mixed % 3); /* ties in the first 8 bytes */
        kith_store_u64_be(point->id_bytes + 8, n);
        point->id = (kith_id){.type = KITH_ID_UUID, .bytes = point->id_bytes};
        break;
    default: {
        int bytes = snprintf((char *)point->id_bytes, sizeof point->id_bytes, "%.*s%llu", (int)(mixed % 12),
            "point-number-", (unsigned long long)n);
        point->id = (kith_id){.type = KITH_ID_STRING, .text_bytes = (uint8_t)bytes, .bytes = point->id_bytes};
    }
    }
}

static void point_append(fixture *f, test_point *point) {
    uint8_t stored[FIELDS][DIM_MAX * 4];
    kith_op_point op = {.id = point->id, .field_mask = point->field_mask};
    kith_err err;
    for (uint32_t i = 0; i < f->schema.field_count; i++) {
        const kith_field *field = &f->schema.fields[i];
        if (!(point->field_mask >> i & 1)) continue;
        assert_ok(kith_vector_store(point->vectors[i], field->dim, field->type, stored[i], &err), &err);
        op.vectors[i] = stored[i];
    }
    uint32_t row;
    assert_ok(kith_segment_growing_append(f->growing, &op, point->sequence, &row, &err), &err);
    assert_int_equal(row, f->point_count);
    f->point_count++;
}

static void points_append(fixture *f, uint32_t count, kith_rng *rng, bool all_fields) {
    for (uint32_t i = 0; i < count; i++) {
        test_point *point = &f->points[f->point_count];
        id_make(f->point_count * 7919ULL % ROWS_MAX, point); /* not in id order */
        point->sequence = 100 + f->point_count;
        point->field_mask =
            all_fields || kith_rng_below(rng, 5) > 0 ? 3 : 1 + (uint32_t)kith_rng_below(rng, 2);
        for (uint32_t field = 0; field < f->schema.field_count; field++) {
            for (uint32_t j = 0; j < f->schema.fields[field].dim; j++) {
                point->vectors[field][j] = (float)((int)kith_rng_below(rng, 21) - 10);
            }
            if (point->vectors[field][0] == 0)
                point->vectors[field][0] = 1; /* no zero vectors under cosine */
        }
        point_append(f, point);
    }
}

/* What row `row` of `segment` must be: `point`. */
static void row_check(const fixture *f, const kith_segment *segment, uint32_t row, const test_point *point) {
    kith_id id = kith_segment_row_id(segment, row);
    assert_int_equal(kith_id_compare(&id, &point->id), 0);
    assert_int_equal(kith_segment_row_sequence(segment, row), point->sequence);
    for (uint32_t i = 0; i < f->schema.field_count; i++) {
        const void *vector = kith_segment_row_vector(segment, i, row);
        assert_int_equal(vector != NULL, point->field_mask >> i & 1);
        if (!vector) continue;
        float loaded[DIM_MAX];
        kith_vector_load(vector, f->schema.fields[i].dim, f->schema.fields[i].type, loaded);
        assert_memory_equal(loaded, point->vectors[i], f->schema.fields[i].dim * sizeof(float));
    }
}

static double closeness(const kith_field *field, const float *q, const float *x) {
    double dot = 0, qq = 0, xx = 0, l2 = 0, l1 = 0; /* exact: small integers */
    for (uint32_t i = 0; i < field->dim; i++) {
        dot += (double)q[i] * x[i];
        qq += (double)q[i] * q[i];
        xx += (double)x[i] * x[i];
        l2 += ((double)q[i] - x[i]) * ((double)q[i] - x[i]);
        l1 += fabs((double)q[i] - x[i]);
    }
    switch (field->metric) {
    case KITH_METRIC_L2:
        return -l2;
    case KITH_METRIC_IP:
        return dot;
    case KITH_METRIC_COSINE:
        return dot / (sqrt(qq) * sqrt(xx));
    default:
        return -l1;
    }
}

typedef struct oracle_hit {
    double closeness;
    const test_point *point;
} oracle_hit;

static int oracle_compare(const void *a_pointer, const void *b_pointer) {
    const oracle_hit *a = a_pointer;
    const oracle_hit *b = b_pointer;
    if (a->closeness != b->closeness) return a->closeness > b->closeness ? -1 : 1;
    return kith_id_compare(&a->point->id, &b->point->id);
}

/* Searches rows [begin, end) of `segment`; `point_of[row]` are its points. */
static void search_check(const fixture *f, const kith_segment *segment, const test_point *const *point_of,
    uint32_t begin, uint32_t end, const uint64_t *dead, uint32_t field_index, kith_rng *rng,
    const kith_compute_ops *compute) {
    const kith_field *field = &f->schema.fields[field_index];
    float query[DIM_MAX];
    for (uint32_t i = 0; i < field->dim; i++)
        query[i] = (float)((int)kith_rng_below(rng, 21) - 10);
    if (query[0] == 0) query[0] = 1;
    oracle_hit *expected = kith_alloc_array(ROWS_MAX, sizeof *expected);
    uint32_t expected_count = 0;
    for (uint32_t row = begin; row < end; row++) {
        if (!(point_of[row]->field_mask >> field_index & 1) || (dead && kith_bitset_get(dead, row))) continue;
        expected[expected_count++] =
            (oracle_hit){closeness(field, query, point_of[row]->vectors[field_index]), point_of[row]};
    }
    qsort(expected, expected_count, sizeof *expected, oracle_compare);
    if (expected_count > K) expected_count = K;
    kith_segment_search search = {.compute = compute,
        .field_index = field_index,
        .row_begin = begin,
        .row_end = end,
        .dead = dead,
        .queries = query,
        .query_count = 1,
        .k = K};
    kith_row_hit hits[K];
    uint32_t count;
    kith_top_k_stats stats = {0};
    kith_err err;
    assert_ok(kith_segment_search_run(segment, &search, hits, &count, &stats, &err), &err);
    assert_int_equal(count, expected_count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(point_of[hits[i].row] == expected[i].point);
        if (field->metric != KITH_METRIC_COSINE) assert_true(hits[i].closeness == expected[i].closeness);
    }
    kith_free(expected);
}

static uint64_t *random_dead(uint32_t rows, kith_rng *rng) {
    uint64_t *dead = kith_alloc_zero(kith_bitset_words(rows) * sizeof *dead);
    for (uint32_t row = 0; row < rows; row++) {
        if (kith_rng_below(rng, 3) == 0) kith_bitset_set(dead, row);
    }
    return dead;
}

static kith_schema schema_of(kith_metric metric, kith_vector_type type, uint32_t dim) {
    return (kith_schema){.field_count = FIELDS,
        .fields = {{.dim = dim, .metric = metric, .type = type},
            {.name = "second", .dim = 3, .metric = KITH_METRIC_IP, .type = KITH_TYPE_F32}}};
}

static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE, KITH_METRIC_L1};
static const kith_vector_type types[] = {KITH_TYPE_F32, KITH_TYPE_F16, KITH_TYPE_BF16, KITH_TYPE_I8};

static void test_segment__growing_gives_back_what_was_put_in(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t i = 0; i < 16; i++) {
        kith_schema schema =
            schema_of(metrics[i % 4], types[i / 4], 1 + (uint32_t)kith_rng_below(&rng, DIM_MAX));
        fixture *f = fixture_create(&schema);
        points_append(f, 500, &rng, i % 2 == 0);
        assert_int_equal(kith_segment_row_count(f->growing), 500);
        assert_int_equal(kith_segment_vector_bytes(f->growing), 500 * kith_schema_row_bytes(&schema));
        const test_point *point_of[ROWS_MAX];
        for (uint32_t row = 0; row < 500; row++) {
            point_of[row] = &f->points[row];
            row_check(f, f->growing, row, point_of[row]);
            assert_int_equal(kith_segment_find(f->growing, &f->points[row].id), row);
        }
        uint64_t *dead = random_dead(500, &rng);
        for (uint32_t part = 0; part < 20; part++) {
            uint32_t begin = (uint32_t)kith_rng_below(&rng, 500);
            uint32_t end = begin + (uint32_t)kith_rng_below(&rng, 501 - begin);
            search_check(f, f->growing, point_of, begin, end, part % 2 ? dead : NULL, part % 4 / 2, &rng,
                part % 3 ? kith_compute_cpu() : kith_compute_ref());
        }
        kith_free(dead);
        fixture_destroy(f);
    }
}

static void test_segment__find_gives_the_newest_row(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    fixture *f = fixture_create(&golden_schema);
    points_append(f, 10, &rng, true);
    f->points[10] = f->points[3];
    f->points[10].sequence = 999;
    point_append(f, &f->points[10]);
    assert_int_equal(kith_segment_find(f->growing, &f->points[3].id), 10);
    assert_int_equal(kith_segment_find(f->growing, &f->points[4].id), 4);
    kith_id absent = kith_id_of_number(123456789);
    assert_int_equal(kith_segment_find(f->growing, &absent), KITH_ROW_NONE);
    assert_int_equal(kith_segment_row_sequence(f->growing, 3), 103);
    assert_int_equal(kith_segment_row_sequence(f->growing, 10), 999);
    fixture_destroy(f);
}

/* A reader that sees fewer rows than there are finds what was the newest then, also where the id came again and
 * again since. */
static void test_segment__find_below_gives_the_newest_visible_row(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    fixture *f = fixture_create(&golden_schema);
    points_append(f, 10, &rng, true);
    for (uint32_t row = 10; row < 500; row++) {
        f->points[row] = f->points[row % 2 ? 3 : 4];
        point_append(f, &f->points[row]);
    }
    const kith_id *id = &f->points[3].id;
    assert_int_equal(kith_segment_find_below(f->growing, id, 500), 499);
    assert_int_equal(kith_segment_find_below(f->growing, id, 499), 497);
    assert_int_equal(kith_segment_find_below(f->growing, id, 12), 11);
    assert_int_equal(kith_segment_find_below(f->growing, id, 11), 3);
    assert_int_equal(kith_segment_find_below(f->growing, id, 3), KITH_ROW_NONE);
    assert_int_equal(kith_segment_find_below(f->growing, &f->points[4].id, 10), 4);
    kith_id absent = kith_id_of_number(123456789);
    assert_int_equal(kith_segment_find_below(f->growing, &absent, 500), KITH_ROW_NONE);
    fixture_destroy(f);
}

static void test_segment__growing_refuses_a_row_too_many(void **state) {
    (void)state;
    kith_err err;
    kith_segment *segment;
    assert_ok(kith_segment_growing_create(1, &golden_schema, 1, kith_compute_ref(), &segment, &err), &err);
    float vector[3] = {1, 2, 3};
    kith_op_point point = {.id = kith_id_of_number(1), .field_mask = 1, .vectors = {(const uint8_t *)vector}};
    uint32_t row;
    assert_ok(kith_segment_growing_append(segment, &point, 1, &row, &err), &err);
    assert_int_equal(kith_segment_growing_append(segment, &point, 2, &row, &err), KITH_INTERNAL);
    kith_segment_release(segment);
}

static kith_status build(fixture *f, const kith_segment_source *sources, uint32_t source_count,
    const char *path, uint32_t *row_count_out, kith_err *err) {
    return kith_segment_build(
        f->env, path, &f->schema, kith_compute_ref(), sources, source_count, NULL, row_count_out, err);
}

static int point_compare(const void *a, const void *b) {
    return kith_id_compare(&(*(const test_point *const *)a)->id, &(*(const test_point *const *)b)->id);
}

/* Live points in id order. */
static uint32_t live_sorted(const fixture *f, const uint64_t *dead, const test_point **point_of) {
    uint32_t count = 0;
    for (uint32_t row = 0; row < f->point_count; row++) {
        if (!dead || !kith_bitset_get(dead, row)) point_of[count++] = &f->points[row];
    }
    qsort(point_of, count, sizeof *point_of, point_compare);
    return count;
}

static void sealed_check(const fixture *f, const kith_segment *sealed, const uint64_t *dead, kith_rng *rng) {
    const test_point *point_of[ROWS_MAX];
    uint32_t count = live_sorted(f, dead, point_of);
    assert_true(kith_segment_is_sealed(sealed));
    assert_int_equal(kith_segment_row_count(sealed), count);
    for (uint32_t row = 0; row < count; row++) {
        row_check(f, sealed, row, point_of[row]);
        assert_int_equal(kith_segment_find(sealed, &point_of[row]->id), row);
    }
    for (uint64_t n = 0; n < ROWS_MAX; n++) {
        test_point absent;
        id_make(ROWS_MAX + n, &absent);
        assert_int_equal(kith_segment_find(sealed, &absent.id), KITH_ROW_NONE);
    }
    uint64_t *later_dead = random_dead(count, rng);
    for (uint32_t part = 0; part < 20; part++) {
        uint32_t begin = (uint32_t)kith_rng_below(rng, count);
        uint32_t end = begin + (uint32_t)kith_rng_below(rng, count + 1 - begin);
        search_check(f, sealed, point_of, begin, end, part % 2 ? later_dead : NULL, part % 4 / 2, rng,
            part % 3 ? kith_compute_cpu() : kith_compute_ref());
    }
    kith_free(later_dead);
}

static void test_segment__sealed_is_the_live_rows_in_id_order(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t i = 0; i < 16; i++) {
        kith_schema schema =
            schema_of(metrics[i % 4], types[i / 4], 1 + (uint32_t)kith_rng_below(&rng, DIM_MAX));
        fixture *f = fixture_create(&schema);
        points_append(f, 1 + (uint32_t)kith_rng_below(&rng, 900), &rng, i % 3 == 0);
        uint64_t *dead = random_dead(f->point_count, &rng);
        kith_bitset_clear(dead, 0);
        kith_segment_source source = {f->growing, f->point_count, i % 4 ? dead : NULL};
        uint32_t rows;
        kith_err err;
        assert_ok(build(f, &source, 1, SEALED_PATH, &rows, &err), &err);
        kith_segment *sealed;
        assert_ok(kith_segment_sealed_open(f->env, SEALED_PATH, 8, &schema, &sealed, &err), &err);
        assert_int_equal(rows, kith_segment_row_count(sealed));
        sealed_check(f, sealed, source.dead, &rng);
        kith_segment_release(sealed);
        kith_free(dead);
        fixture_destroy(f);
    }
}

static void test_segment__sources_of_both_kinds_merge(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    kith_schema schema = schema_of(KITH_METRIC_L2, KITH_TYPE_F32, 8);
    fixture *f = fixture_create(&schema);
    points_append(f, 1000, &rng, false);
    /* Rows below 600 to a sealed one, the others stay; together they are all of it. */
    uint64_t *first_dead = kith_alloc_zero(kith_bitset_words(1000) * 8);
    for (uint32_t row = 0; row < 600; row++)
        kith_bitset_set(first_dead, row);
    kith_segment_source low = {f->growing, 600, NULL};
    uint32_t rows;
    kith_err err;
    assert_ok(build(f, &low, 1, "/data/low.kith", &rows, &err), &err);
    assert_int_equal(rows, 600);
    kith_segment *sealed_low;
    assert_ok(kith_segment_sealed_open(f->env, "/data/low.kith", 8, &schema, &sealed_low, &err), &err);
    kith_segment_source both[] = {{sealed_low, 600, NULL}, {f->growing, 1000, first_dead}};
    assert_ok(build(f, both, 2, SEALED_PATH, &rows, &err), &err);
    assert_int_equal(rows, 1000);
    kith_segment *sealed;
    assert_ok(kith_segment_sealed_open(f->env, SEALED_PATH, 9, &schema, &sealed, &err), &err);
    sealed_check(f, sealed, NULL, &rng);
    kith_segment_source twice[] = {{sealed_low, 600, NULL}, {f->growing, 1000, NULL}};
    assert_int_equal(build(f, twice, 2, "/data/twice.kith", &rows, &err), KITH_INTERNAL);
    assert_non_null(strstr(err.text, "is live twice"));
    kith_segment_release(sealed);
    kith_segment_release(sealed_low);
    kith_free(first_dead);
    fixture_destroy(f);
}

static void test_segment__no_live_rows_make_no_file(void **state) {
    (void)state;
    fixture *f = fixture_create(&golden_schema);
    kith_segment_source source = {f->growing, 0, NULL};
    uint32_t rows = 1;
    kith_err err;
    assert_ok(build(f, &source, 1, SEALED_PATH, &rows, &err), &err);
    assert_int_equal(rows, 0);
    size_t bytes;
    assert_null(sim_env_file_get(f->sim, SEALED_PATH, &bytes));
    fixture_destroy(f);
}

static void test_segment__cancel_and_failure_leave_nothing(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    fixture *f = fixture_create(&golden_schema);
    points_append(f, 100, &rng, true);
    kith_segment_source source = {f->growing, 100, NULL};
    atomic_bool cancel = true;
    uint32_t rows;
    kith_err err;
    assert_int_equal(kith_segment_build(f->env, SEALED_PATH, &f->schema, kith_compute_ref(), &source, 1,
                         &cancel, &rows, &err),
        KITH_CANCELLED);
    for (int kind = SIM_FAIL_CREATE; kind <= SIM_FAIL_RENAME; kind++) {
        sim_env_fail_next(f->sim, (sim_fail_kind)kind, KITH_NO_SPACE);
        assert_int_equal(build(f, &source, 1, SEALED_PATH, &rows, &err), KITH_NO_SPACE);
        size_t bytes;
        assert_null(sim_env_file_get(f->sim, SEALED_PATH, &bytes));
        assert_null(sim_env_file_get(f->sim, SEALED_PATH ".tmp", &bytes));
    }
    assert_ok(build(f, &source, 1, SEALED_PATH, &rows, &err), &err);
    fixture_destroy(f);
}

static void test_segment__a_built_file_survives_a_crash(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t seed = 0; seed < test_scaled(50); seed++) {
        fixture *f = fixture_create(&golden_schema);
        points_append(f, 100, &rng, true);
        kith_segment_source source = {f->growing, 100, NULL};
        uint32_t rows;
        kith_err err;
        uint64_t first_op = sim_env_op_count(f->sim);
        sim_env_crash_at(f->sim, first_op + seed % 8, SIM_CRASH_TORN_UNORDERED);
        bool built = build(f, &source, 1, SEALED_PATH, &rows, &err) == KITH_OK;
        if (!sim_env_crashed(f->sim)) sim_env_crash(f->sim, SIM_CRASH_TORN_UNORDERED);
        sim_env_restart(f->sim);
        kith_segment *sealed;
        kith_status status = kith_segment_sealed_open(f->env, SEALED_PATH, 8, &f->schema, &sealed, &err);
        /* Under its name it is whole or not there. */
        if (built) assert_ok(status, &err);
        if (status == KITH_OK) sealed_check(f, sealed, NULL, &rng);
        if (status == KITH_OK) kith_segment_release(sealed);
        if (status != KITH_OK) assert_int_equal(status, KITH_NOT_FOUND);
        fixture_destroy(f);
    }
}

static void test_segment__file_goes_with_the_last_reference(void **state) {
    (void)state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    fixture *f = fixture_create(&golden_schema);
    points_append(f, 20, &rng, true);
    kith_segment_source source = {f->growing, 20, NULL};
    uint32_t rows;
    kith_err err;
    assert_ok(build(f, &source, 1, SEALED_PATH, &rows, &err), &err);
    kith_segment *sealed;
    assert_ok(kith_segment_sealed_open(f->env, SEALED_PATH, 8, &f->schema, &sealed, &err), &err);
    kith_segment *second = kith_segment_acquire(sealed);
    kith_segment_remove_file_on_release(sealed);
    kith_segment_release(sealed);
    size_t bytes;
    assert_non_null(sim_env_file_get(f->sim, SEALED_PATH, &bytes));
    kith_segment_release(second);
    assert_null(sim_env_file_get(f->sim, SEALED_PATH, &bytes));
    fixture_destroy(f);
}

/* --- the file --- */

/* The points of tests/golden/segment-v1.kith: never change them. */
static void golden_points(fixture *f) {
    for (uint32_t i = 0; i < GOLDEN_ROWS; i++) {
        test_point *point = &f->points[i];
        kith_store_u64(point->id_bytes, 5 - i % 3);
        kith_store_u64(point->id_bytes + 8, i);
        point->id = kith_id_of_number(1000 - i);
        if (i % 3 == 1) point->id = (kith_id){.type = KITH_ID_UUID, .bytes = point->id_bytes};
        if (i % 3 == 2) {
            memcpy(point->id_bytes, "string-0", 8);
            point->id_bytes[7] = (uint8_t)('9' - i);
            point->id = (kith_id){.type = KITH_ID_STRING, .text_bytes = 8, .bytes = point->id_bytes};
        }
        point->sequence = 10 + i;
        point->field_mask = i == 4 ? 1 : 3;
        for (uint32_t j = 0; j < 3; j++)
            point->vectors[0][j] = (float)(i * 3 + j) - 7;
        for (uint32_t j = 0; j < 5; j++)
            point->vectors[1][j] = (float)(i + 1 + j * j);
        point_append(f, point);
    }
}

static void test_segment__golden_file_still_reads_and_is_still_written(void **state) {
    (void)state;
    fixture *f = fixture_create(&golden_schema);
    golden_points(f);
    kith_segment_source source = {f->growing, GOLDEN_ROWS, NULL};
    uint32_t rows;
    kith_err err;
    assert_ok(build(f, &source, 1, SEALED_PATH, &rows, &err), &err);
    segment_golden_write_if_asked(f->sim, SEALED_PATH, GOLDEN_NAME);
    size_t golden_bytes;
    uint8_t *golden = segment_golden_read(GOLDEN_NAME, &golden_bytes);
    size_t bytes;
    const uint8_t *built = sim_env_file_get(f->sim, SEALED_PATH, &bytes);
    assert_int_equal(bytes, golden_bytes);
    assert_memory_equal(built, golden, bytes);
    sim_env_file_put(f->sim, "/data/golden.kith", golden, golden_bytes);
    kith_segment *sealed;
    assert_ok(kith_segment_sealed_open(f->env, "/data/golden.kith", 1, &golden_schema, &sealed, &err), &err);
    kith_rng rng;
    kith_rng_init(&rng, 1);
    sealed_check(f, sealed, NULL, &rng);
    kith_segment_release(sealed);
    kith_free(golden);
    fixture_destroy(f);
}

static void test_segment__any_flipped_byte_is_corrupt(void **state) {
    (void)state;
    fixture *f = fixture_create(&golden_schema);
    size_t bytes;
    uint8_t *golden = segment_golden_read(GOLDEN_NAME, &bytes);
    sim_env_file_put(f->sim, SEALED_PATH, golden, bytes);
    kith_segment *sealed;
    kith_err err;
    for (size_t at = 0; at < bytes; at++) {
        assert_true(sim_env_flip(f->sim, SEALED_PATH, at, (uint8_t)(1u << at % 8)));
        assert_int_equal(
            kith_segment_sealed_open(f->env, SEALED_PATH, 1, &golden_schema, &sealed, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, SEALED_PATH));
        assert_non_null(strstr(err.text, "at offset"));
        assert_true(sim_env_flip(f->sim, SEALED_PATH, at, (uint8_t)(1u << at % 8)));
    }
    for (size_t cut = 0; cut < bytes; cut += 13) {
        sim_env_file_put(f->sim, SEALED_PATH, golden, cut);
        assert_int_equal(
            kith_segment_sealed_open(f->env, SEALED_PATH, 1, &golden_schema, &sealed, &err), KITH_CORRUPT);
    }
    kith_free(golden);
    fixture_destroy(f);
}

/* A disk that cannot read the sector at `at`. A map of it would end the process at the first touch. */
static struct {
    const kith_env_ops *ops;
    uint64_t at;
} bad_sector;

static kith_status bad_read_at(
    kith_file *file, uint64_t offset, void *data, size_t bytes, size_t *read_out, kith_err *err) {
    if (offset <= bad_sector.at && bad_sector.at - offset < bytes)
        return kith_err_set(err, KITH_IO, "read %s: Input/output error", SEALED_PATH);
    return bad_sector.ops->file_read_at(file, offset, data, bytes, read_out, err);
}

static void test_segment__what_the_disk_cannot_read_is_corrupt(void **state) {
    (void)state;
    fixture *f = fixture_create(&golden_schema);
    size_t bytes;
    uint8_t *golden = segment_golden_read(GOLDEN_NAME, &bytes);
    sim_env_file_put(f->sim, SEALED_PATH, golden, bytes);
    kith_segment *sealed;
    kith_err err;
    bad_sector.ops = f->env->ops;
    kith_env_ops bad_ops = *f->env->ops;
    bad_ops.file_read_at = bad_read_at;
    f->env->ops = &bad_ops;
    for (bad_sector.at = 0; bad_sector.at < bytes; bad_sector.at++) {
        assert_int_equal(
            kith_segment_sealed_open(f->env, SEALED_PATH, 1, &golden_schema, &sealed, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, SEALED_PATH));
        assert_non_null(strstr(err.text, "Input/output error"));
    }
    assert_ok(kith_segment_sealed_open(f->env, SEALED_PATH, 1, &golden_schema, &sealed, &err), &err);
    kith_segment_release(sealed);
    f->env->ops = bad_sector.ops;
    kith_free(golden);
    fixture_destroy(f);
}

static void test_segment__another_schema_is_refused(void **state) {
    (void)state;
    fixture *f = fixture_create(&golden_schema);
    size_t bytes;
    uint8_t *golden = segment_golden_read(GOLDEN_NAME, &bytes);
    sim_env_file_put(f->sim, SEALED_PATH, golden, bytes);
    for (uint32_t i = 0; i < 4; i++) {
        kith_schema schema = golden_schema;
        if (i == 0) schema.fields[1].dim = 4;
        if (i == 1) schema.fields[0].metric = KITH_METRIC_IP;
        if (i == 2) schema.fields[1].type = KITH_TYPE_F32;
        if (i == 3) schema.field_count = 1;
        kith_segment *sealed;
        kith_err err;
        assert_int_equal(
            kith_segment_sealed_open(f->env, SEALED_PATH, 1, &schema, &sealed, &err), KITH_CORRUPT);
        assert_non_null(strstr(err.text, "another schema"));
    }
    kith_free(golden);
    fixture_destroy(f);
}

static void test_segment__bloom_rarely_lies(void **state) {
    (void)state;
    uint64_t rows = 100000;
    uint64_t block_count = segment_bloom_block_count(rows);
    uint64_t *blocks = kith_alloc_zero(block_count * SEGMENT_BLOOM_BLOCK_BYTES);
    for (uint64_t i = 0; i < rows; i++)
        segment_bloom_add(blocks, block_count, kith_hash64(&i, sizeof i));
    uint64_t lies = 0;
    for (uint64_t i = 0; i < 2 * rows; i++) {
        bool may = segment_bloom_may_have(blocks, block_count, kith_hash64(&i, sizeof i));
        if (i < rows) assert_true(may);
        if (i >= rows) lies += may;
    }
    print_message("false positives: %.2f %%\n", 100.0 * (double)lies / (double)rows);
    assert_true(lies < rows / 50);
    kith_free(blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment__growing_gives_back_what_was_put_in),
        cmocka_unit_test(test_segment__find_gives_the_newest_row),
        cmocka_unit_test(test_segment__find_below_gives_the_newest_visible_row),
        cmocka_unit_test(test_segment__growing_refuses_a_row_too_many),
        cmocka_unit_test(test_segment__sealed_is_the_live_rows_in_id_order),
        cmocka_unit_test(test_segment__sources_of_both_kinds_merge),
        cmocka_unit_test(test_segment__no_live_rows_make_no_file),
        cmocka_unit_test(test_segment__cancel_and_failure_leave_nothing),
        cmocka_unit_test(test_segment__a_built_file_survives_a_crash),
        cmocka_unit_test(test_segment__file_goes_with_the_last_reference),
        cmocka_unit_test(test_segment__golden_file_still_reads_and_is_still_written),
        cmocka_unit_test(test_segment__any_flipped_byte_is_corrupt),
        cmocka_unit_test(test_segment__what_the_disk_cannot_read_is_corrupt),
        cmocka_unit_test(test_segment__another_schema_is_refused),
        cmocka_unit_test(test_segment__bloom_rarely_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
