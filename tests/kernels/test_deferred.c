/* Rows that a scan puts off, against lists that are sorted anew each time. */
#include <math.h>
#include <stdlib.h>

#include "host/base/alloc.h"
#include "kernels/deferred.h"
#include "tests/lib/test_lib.h"

static int falling(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

static kith_deferred deferred_of(uint32_t k, uint32_t row_most) {
    return (kith_deferred){.k = k,
        .row_most = row_most,
        .rows = kith_alloc_array(row_most + 1, sizeof(kith_deferred_row)),
        .known = kith_alloc_array(k, sizeof(float))};
}

static void deferred_free(kith_deferred *deferred) {
    kith_free(deferred->rows);
    kith_free(deferred->known);
}

static void test_deferred__the_floor_is_the_kth_best_and_no_row_above_it_is_lost(void **state) {
    (void)state;
    enum { ROWS = 600 };
    kith_rng rng;
    kith_rng_init(&rng, test_seed(20261122));
    for (uint64_t turn = 0; turn < test_scaled(200); turn++) {
        const uint32_t k = 1 + (uint32_t)kith_rng_below(&rng, 60),
                       most = (uint32_t)kith_rng_below(&rng, 3 * k);
        kith_deferred deferred = deferred_of(k, most);
        float least[ROWS], sorted[ROWS];
        bool kept[ROWS], seen[ROWS] = {0};
        for (uint32_t i = 0; i < ROWS; i++) {
            least[i] = sorted[i] = kith_rng_below(&rng, 9) ? (float)kith_rng_below(&rng, 200) : -INFINITY;
            kept[i] = kith_deferred_add(
                &deferred, (kith_deferred_row){.least = least[i], .most = least[i] + 10, .row = i});
            qsort(sorted, i + 1, sizeof *sorted, falling);
            assert_true(kith_deferred_floor(&deferred) == (i + 1 < k ? -INFINITY : sorted[k - 1]));
            assert_true(deferred.row_count <= most);
        }
        kith_deferred_cut(&deferred, (double)sorted[k - 1]);
        for (uint32_t i = 0; i < deferred.row_count; i++) {
            const kith_deferred_row *row = &deferred.rows[i];
            assert_true(!seen[row->row] && row->least == least[row->row]);
            assert_true(row->most >= sorted[k - 1]);
            seen[row->row] = true;
        }
        for (uint32_t i = 0; i < ROWS; i++)
            assert_true(seen[i] == (kept[i] && least[i] + 10 >= sorted[k - 1]));
        deferred_free(&deferred);
    }
}

static void add(kith_deferred *deferred, float least, uint32_t row) {
    assert_true(kith_deferred_add(deferred, (kith_deferred_row){.least = least, .most = least, .row = row}));
}

static void test_deferred__a_job_forgets_its_own_rows_only(void **state) {
    (void)state;
    kith_deferred deferred = deferred_of(2, 5);
    kith_deferred_job_begin(&deferred);
    add(&deferred, 1, 1);
    add(&deferred, 7, 2);
    add(&deferred, 8, 3);
    kith_deferred_job_begin(&deferred);
    add(&deferred, 9, 4);
    add(&deferred, 10, 5);
    add(&deferred, 6, 6); /* no room: 1, 7 and 8 are below the floor of 9 */
    assert_int_equal(deferred.row_count, 3);
    kith_deferred_job_forget(&deferred);
    assert_int_equal(deferred.row_count, 0);
    assert_true(kith_deferred_floor(&deferred) == 9);
    add(&deferred, 12, 7);
    kith_deferred_job_begin(&deferred);
    add(&deferred, 13, 8);
    kith_deferred_job_forget(&deferred);
    assert_int_equal(deferred.row_count, 1);
    assert_int_equal(deferred.rows[0].row, 7);
    deferred_free(&deferred);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deferred__the_floor_is_the_kth_best_and_no_row_above_it_is_lost),
        cmocka_unit_test(test_deferred__a_job_forgets_its_own_rows_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
