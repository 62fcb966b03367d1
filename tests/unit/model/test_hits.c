/* Hits: merge against sorting everything. */
#include <stdlib.h>
#include <string.h>

#include "host/model/hits.h"
#include "tests/lib/test_lib.h"

#define LISTS_MAX 100u
#define LIST_HITS 40u

typedef struct merge_case {
    kith_hit storage[LISTS_MAX][LIST_HITS];
    kith_hits lists[LISTS_MAX];
    kith_hit all[LISTS_MAX * LIST_HITS];
    uint32_t list_count, all_count;
} merge_case;

static int hit_compare(const void *a, const void *b) {
    return kith_hit_compare(a, b);
}

/* Lists with many ties, and ids that come back in other lists with other closeness. */
static void case_make(merge_case *merge, kith_rng *rng, uint32_t list_count) {
    merge->list_count = list_count;
    merge->all_count = 0;
    for (uint32_t l = 0; l < list_count; l++) {
        uint32_t count = (uint32_t)kith_rng_below(rng, LIST_HITS + 1);
        for (uint32_t i = 0; i < count; i++) {
            /* distinct within a list, shared between lists */
            uint64_t number = i * 7 + kith_rng_below(rng, 7);
            merge->storage[l][i] =
                (kith_hit){.closeness = (double)kith_rng_below(rng, 10), .id = kith_id_of_number(number)};
            merge->all[merge->all_count++] = merge->storage[l][i];
        }
        qsort(merge->storage[l], count, sizeof(kith_hit), hit_compare);
        merge->lists[l] = (kith_hits){merge->storage[l], count};
    }
    qsort(merge->all, merge->all_count, sizeof(kith_hit), hit_compare);
}

static uint32_t expected_make(const merge_case *merge, uint32_t k, kith_hit *out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < merge->all_count && count < k; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < count; j++)
            seen = seen || kith_id_compare(&out[j].id, &merge->all[i].id) == 0;
        if (!seen) out[count++] = merge->all[i];
    }
    return count;
}

static void test_hits__merge_equals_sorting_and_dropping_repeats(void **state) {
    (void)state;
    static merge_case merge;
    static kith_hit expected[LISTS_MAX * LIST_HITS], actual[LISTS_MAX * LIST_HITS];
    kith_rng rng;
    kith_rng_init(&rng, test_seed(3));
    for (uint64_t round = 0; round < test_scaled(300); round++) {
        case_make(&merge, &rng, (uint32_t)kith_rng_below(&rng, round % 10 == 0 ? LISTS_MAX + 1 : 8));
        uint32_t k = 1 + (uint32_t)kith_rng_below(&rng, round % 3 == 0 ? 400 : 20);
        uint32_t expected_count = expected_make(&merge, k, expected);
        uint32_t count = kith_hits_merge(merge.lists, merge.list_count, k, actual);
        assert_int_equal(count, expected_count);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(kith_hit_compare(&actual[i], &expected[i]), 0);
    }
}

/* The linker puts __wrap_kith_id_compare in place of kith_id_compare, and that behind __real_. */
int __real_kith_id_compare(const kith_id *a, const kith_id *b);
int __wrap_kith_id_compare(const kith_id *a, const kith_id *b);
static uint64_t id_compare_count;

int __wrap_kith_id_compare(const kith_id *a, const kith_id *b) {
    id_compare_count++;
    return __real_kith_id_compare(a, b);
}

static void test_hits__merge_of_one_slots_ids_compares_few(void **state) {
    (void)state;
    enum { COUNT = 400 };
    static kith_hit hits[2][COUNT], out[2 * COUNT];
    uint64_t number = 0;
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        kith_id id;
        do {
            id = kith_id_of_number(number++);
        } while (kith_id_slot(&id) != 77);
        hits[i % 2][i / 2] = (kith_hit){.closeness = -(double)i, .id = id};
    }
    kith_hits lists[2] = {{hits[0], COUNT}, {hits[1], COUNT}};
    id_compare_count = 0;
    assert_int_equal(kith_hits_merge(lists, 2, 2 * COUNT, out), 2 * COUNT);
    assert_true(id_compare_count < 4 * COUNT); /* 319600 where all ids have one home */
}

static void test_hits__nothing_merges_to_nothing(void **state) {
    (void)state;
    kith_hit out;
    kith_hits empty[3] = {{0}};
    assert_int_equal(kith_hits_merge(NULL, 0, 5, &out), 0);
    assert_int_equal(kith_hits_merge(empty, 1, 5, &out), 0);
    assert_int_equal(kith_hits_merge(empty, 3, 5, &out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits__merge_equals_sorting_and_dropping_repeats),
        cmocka_unit_test(test_hits__merge_of_one_slots_ids_compares_few),
        cmocka_unit_test(test_hits__nothing_merges_to_nothing),
    };
    return cmocka_run_group_tests_name("hits", tests, NULL, NULL);
}
