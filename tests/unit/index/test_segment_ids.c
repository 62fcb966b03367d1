/* Ids of a growing segment, found by several threads while rows come. */
#include "host/base/rng.h"
#include "host/index/index.h"
#include "tests/lib/test_lib.h"

#define ROWS    60000u
#define IDS     3000u
#define READERS 3u

static const kith_schema schema = {
    .field_count = 1, .fields = {{.name = "", .dim = 1, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};

typedef struct race {
    kith_segment *segment;
    atomic_uint row_count;
    _Atomic uint64_t wrong;
    uint64_t seed;
} race;

/* Row r has id r % IDS. */
static uint32_t expected_row(uint32_t id, uint32_t row_count) {
    return row_count <= id ? KITH_ROW_NONE : id + (row_count - 1 - id) / IDS * IDS;
}

static void find_while_rows_come(void *ctx) {
    race *own = ctx;
    kith_rng rng;
    kith_rng_init(&rng, own->seed);
    for (uint32_t rows = 0; rows < ROWS;) {
        rows = atomic_load_explicit(&own->row_count, memory_order_acquire);
        uint32_t number = (uint32_t)kith_rng_below(&rng, IDS + 10);
        uint32_t seen = rows - (rows ? (uint32_t)kith_rng_below(&rng, rows < 9000 ? rows : 9000) : 0);
        kith_id id = kith_id_of_number(number);
        uint32_t row = kith_segment_find_below(own->segment, &id, seen);
        own->wrong += row != (number < IDS ? expected_row(number, seen) : KITH_ROW_NONE);
    }
}

static void add_rows(race *own) {
    float component = 1;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t row;
        kith_err err;
        kith_op_point point = {.id = kith_id_of_number(i % IDS),
            .field_mask = 1,
            .vectors = {(const uint8_t *)(const void *)&component}};
        assert_ok(kith_segment_growing_append(own->segment, &point, i + 1, &row, &err), &err);
        atomic_store_explicit(&own->row_count, row + 1, memory_order_release);
    }
}

static void test_segment_ids__readers_find_what_they_see_while_rows_come(void **state) {
    (void)state;
    kith_env *env;
    kith_err err;
    kith_thread *threads[READERS];
    race run = {.seed = test_seed(1)};
    assert_ok(kith_env_posix_create(&env, &err), &err);
    assert_ok(kith_segment_growing_create(1, &schema, ROWS, kith_compute_ref(), &run.segment, &err), &err);
    for (uint32_t i = 0; i < READERS; i++)
        assert_ok(kith_thread_start(env, "reader", find_while_rows_come, &run, &threads[i], &err), &err);
    add_rows(&run);
    for (uint32_t i = 0; i < READERS; i++)
        kith_thread_join(threads[i]);
    assert_int_equal(run.wrong, 0);
    kith_segment_release(run.segment);
    kith_env_posix_destroy(env);
}

/* One id over and over must not make others of its bucket slow: with a chain of rows this takes minutes. */
static void test_segment_ids__an_id_written_often_costs_the_others_nothing(void **state) {
    (void)state;
    kith_segment *segment;
    kith_err err;
    uint32_t row;
    float component = 1;
    enum { TIMES = 400000 };
    assert_ok(kith_segment_growing_create(1, &schema, 2 * TIMES, kith_compute_ref(), &segment, &err), &err);
    for (uint32_t i = 0; i < TIMES; i++) {
        kith_op_point point = {.id = kith_id_of_number(i % 100 ? 5 : 1000 + i),
            .field_mask = 1,
            .vectors = {(const uint8_t *)(const void *)&component}};
        assert_ok(kith_segment_growing_append(segment, &point, i + 1, &row, &err), &err);
    }
    kith_id often = kith_id_of_number(5);
    assert_int_equal(kith_segment_find(segment, &often), TIMES - 1);
    for (uint32_t i = 0; i < TIMES; i += 100) {
        kith_id once = kith_id_of_number(1000 + i);
        assert_int_equal(kith_segment_find(segment, &once), i);
    }
    kith_segment_release(segment);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_ids__readers_find_what_they_see_while_rows_come),
        cmocka_unit_test(test_segment_ids__an_id_written_often_costs_the_others_nothing),
    };
    return cmocka_run_group_tests_name("segment_ids", tests, NULL, NULL);
}
