/* What the api answers, over shards and restarts: the same points in collections of 1, 3 and 16 shards give the same
 * answers, and those are the naive ones. */
#include <math.h>

#include "tests/unit/api/api_fixture.h"

enum { POINTS = 600, DIM = 6, K = 10 };

static const char *const names[] = {"one", "three", "sixteen"};
static const uint32_t shard_counts[] = {1, 3, 16};

/* What must be there. Small integers, so that every sum is exact. */
typedef struct naive {
    bool there[POINTS];
    float vectors[POINTS][DIM];
} naive;

static void vector_draw(kith_rng *rng, float *vector) {
    for (uint32_t i = 0; i < DIM; i++)
        vector[i] = (float)kith_rng_below(rng, 17) - 8;
}

static void naive_search(
    const naive *model, const float *query, uint64_t *ids_out, float *scores_out, uint32_t *count_out) {
    bool taken[POINTS] = {false};
    *count_out = 0;
    while (*count_out < K) {
        int best = -1;
        double best_distance = 0;
        for (int i = 0; i < POINTS; i++) {
            if (!model->there[i] || taken[i]) continue;
            double distance = 0;
            for (int d = 0; d < DIM; d++) {
                double difference = (double)query[d] - model->vectors[i][d];
                distance += difference * difference;
            }
            if (best < 0 || distance < best_distance) {
                best = i;
                best_distance = distance;
            }
        }
        if (best < 0) return;
        taken[best] = true;
        ids_out[*count_out] = (uint64_t)best;
        scores_out[(*count_out)++] = (float)sqrt(best_distance);
    }
}

/* The same random change to the model and to every collection. */
static void change_once(api_fixture *f, naive *model, kith_rng *rng) {
    uint32_t first = (uint32_t)kith_rng_below(rng, POINTS - 50),
             count = 1 + (uint32_t)kith_rng_below(rng, 50);
    if (kith_rng_below(rng, 3) > 0) {
        float vectors[50][DIM];
        for (uint32_t i = 0; i < count; i++) {
            vector_draw(rng, vectors[i]);
            model->there[first + i] = true;
            memcpy(model->vectors[first + i], vectors[i], sizeof vectors[i]);
        }
        for (int c = 0; c < 3; c++) {
            assert_int_equal(upsert(f, names[c], first, count, DIM, &vectors[0][0]), KITH_OK);
            assert_int_equal(f->count, count);
            assert_true(f->token_count >= 1);
            assert_true(f->token_count <= shard_counts[c]);
        }
        return;
    }
    kith_id ids[50];
    uint32_t there = 0;
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = kith_id_of_number(first + i);
        there += model->there[first + i];
        model->there[first + i] = false;
    }
    kith_api_write_call call = {.ids = ids, .point_count = count};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(write_ask(f, names[c], &call, false), KITH_OK);
        assert_int_equal(f->count, there);
    }
}

static void searches_compare(api_fixture *f, const naive *model, kith_rng *rng) {
    float queries[3][DIM];
    for (int q = 0; q < 3; q++)
        vector_draw(rng, queries[q]);
    kith_api_search_call search = {
        .queries = (const uint8_t *)queries, .queries_bytes = sizeof queries, .k = K, .strict = true};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(search_ask(f, names[c], &search), KITH_OK);
        assert_int_equal(f->shards_answered, shard_counts[c]);
        uint32_t at = 0;
        for (int q = 0; q < 3; q++) {
            uint64_t ids[K];
            float scores[K];
            uint32_t count;
            naive_search(model, queries[q], ids, scores, &count);
            for (uint32_t i = 0; i < count; i++, at++) {
                assert_int_equal(f->ids[at], ids[i]);
                assert_true(f->scores[at] == scores[i]);
            }
        }
        assert_int_equal(f->count, at);
    }
}

static uint32_t naive_count(const naive *model) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < POINTS; i++)
        count += model->there[i];
    return count;
}

/* Page by page: every point once, in id order. */
static void scrolls_compare(api_fixture *f, const naive *model, uint32_t limit) {
    for (int c = 0; c < 3; c++) {
        kith_api_points_call call = {.limit = limit};
        uint64_t expected = 0;
        uint32_t seen = 0;
        do {
            assert_int_equal(points_ask(f, names[c], &call, true), KITH_OK);
            assert_true(f->count <= limit);
            for (uint32_t i = 0; i < f->count; i++, expected++) {
                while (expected < POINTS && !model->there[expected])
                    expected++;
                assert_int_equal(f->ids[i], expected);
            }
            seen += f->count;
            call.has_from = true;
            call.from = kith_id_of_number(f->next);
        } while (f->has_next);
        assert_int_equal(seen, naive_count(model));
        assert_int_equal(count_ask(f, names[c]), KITH_OK);
        assert_int_equal(f->number, seen);
    }
}

static void collections_make(api_fixture *f) {
    for (int c = 0; c < 3; c++) {
        assert_int_equal(create(f, names[c], DIM, KITH_METRIC_L2, KITH_TYPE_F32, shard_counts[c]), KITH_OK);
    }
}

static void test_api__answers_do_not_depend_on_shards_or_restarts(void **state) {
    api_fixture *f = *state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(11));
    naive *model = kith_alloc_zero(sizeof *model);
    collections_make(f);
    for (uint64_t round = 0; round < test_scaled(6); round++) {
        for (int i = 0; i < 12; i++)
            change_once(f, model, &rng);
        searches_compare(f, model, &rng);
        scrolls_compare(f, model, 1 + (uint32_t)kith_rng_below(&rng, 100));
        if (round % 2 == 0) continue;
        kith_standalone_stop(f->standalone, 1000000000);
        fixture_open(f);
        searches_compare(f, model, &rng);
        scrolls_compare(f, model, 1);
    }
    kith_free(model);
}

static void test_api_search__payloads_belong_to_their_hits(void **state) {
    api_fixture *f = *state;
    collections_make(f);
    float vectors[3][DIM] = {{1}, {2}, {3}};
    kith_id ids[3] = {kith_id_of_number(1), kith_id_of_number(2), kith_id_of_number(3)};
    const char *payloads[3] = {"{\"n\":1}", NULL, "{\"n\":3}"};
    uint32_t payload_bytes[3] = {7, 0, 7};
    kith_api_column column = {
        .field = "", .values = (const uint8_t *)vectors, .values_bytes = sizeof vectors};
    kith_api_write_call write = {.ids = ids,
        .point_count = 3,
        .columns = &column,
        .column_count = 1,
        .payloads = payloads,
        .payload_bytes = payload_bytes};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(write_ask(f, names[c], &write, true), KITH_OK);
        for (int q = 0; q < 3; q++) {
            kith_api_search_call search = {.queries = (const uint8_t *)vectors[q],
                .queries_bytes = sizeof vectors[q],
                .k = 3,
                .with_payload = true};
            assert_int_equal(search_ask(f, names[c], &search), KITH_OK);
            assert_int_equal(f->ids[0], q + 1);
            assert_string_equal(f->payload, payloads[q] ? payloads[q] : "");
        }
        kith_id wanted[4] = {ids[2], kith_id_of_number(99), ids[0], ids[2]};
        kith_api_points_call get = {.ids = wanted, .id_count = 4, .with_payload = true, .with_vectors = true};
        assert_int_equal(points_ask(f, names[c], &get, false), KITH_OK);
        assert_int_equal(f->count, 3); /* in the order asked, without the one that is not there */
        assert_int_equal(f->ids[0], 3);
        assert_int_equal(f->ids[1], 1);
        assert_int_equal(f->ids[2], 3);
        assert_string_equal(f->payload, "{\"n\":3}");
        assert_true(f->scores[0] == 3);
    }
}

/* A point may lack any field, or all of them. */
static void test_api_upsert__a_point_may_be_payload_alone(void **state) {
    api_fixture *f = *state;
    collections_make(f);
    kith_id id = kith_id_of_number(7);
    const char *payload = "{}";
    uint32_t bytes = 2;
    kith_api_write_call write = {.ids = &id, .point_count = 1, .payloads = &payload, .payload_bytes = &bytes};
    assert_int_equal(write_ask(f, "three", &write, true), KITH_OK);
    assert_int_equal(count_ask(f, "three"), KITH_OK);
    assert_int_equal(f->number, 1);
    float query[DIM] = {1};
    kith_api_search_call search = {.queries = (const uint8_t *)query, .queries_bytes = sizeof query, .k = 3};
    assert_int_equal(search_ask(f, "three", &search), KITH_OK);
    assert_int_equal(f->count, 0);
}

static void test_api_write__a_repeat_gets_the_first_answer(void **state) {
    api_fixture *f = *state;
    collections_make(f);
    float vectors[2][DIM] = {{1}, {2}};
    assert_int_equal(upsert(f, "one", 1, 2, DIM, &vectors[0][0]), KITH_OK);
    kith_id id = kith_id_of_number(1);
    kith_api_write_call call = {
        .request_id = {.client = {1, 2, 3}, .number = 9}, .ids = &id, .point_count = 1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(write_ask(f, "one", &call, false), KITH_OK);
        assert_int_equal(f->count, 1); /* though it is there only the first time */
    }
    call.request_id.number = 10;
    assert_int_equal(write_ask(f, "one", &call, false), KITH_OK);
    assert_int_equal(f->count, 0);
}

static void test_api_collections__list_is_by_name_and_a_name_can_be_used_again(void **state) {
    api_fixture *f = *state;
    assert_int_equal(collection_ask(f, kith_api_collection_list, "", false), KITH_OK);
    assert_int_equal(f->count, 0);
    collections_make(f);
    float vector[DIM] = {1};
    assert_int_equal(upsert(f, "one", 1, 1, DIM, vector), KITH_OK);
    assert_int_equal(collection_ask(f, kith_api_collection_list, "", false), KITH_OK);
    assert_int_equal(f->count, 3);
    assert_string_equal(f->info.collection.name, "one");
    assert_int_equal(f->info.points, 1);
    assert_int_equal(collection_ask(f, kith_api_collection_delete, "one", false), KITH_OK);
    assert_int_equal(f->count, 1);
    assert_int_equal(create(f, "one", DIM, KITH_METRIC_IP, KITH_TYPE_F16, 2), KITH_OK);
    assert_false(f->existed);
    assert_int_equal(create(f, "one", DIM, KITH_METRIC_IP, KITH_TYPE_F16, 2), KITH_OK);
    assert_true(f->existed);
    assert_int_equal(f->info.points, 0);
    assert_true(f->info.collection.id > 3);
    kith_standalone_stop(f->standalone, 1000000000);
    fixture_open(f);
    assert_int_equal(count_ask(f, "one"), KITH_OK);
    assert_int_equal(f->number, 0);
}

static void test_api__stopped_service_refuses_and_says_so(void **state) {
    api_fixture *f = *state;
    kith_err err;
    collections_make(f);
    assert_int_equal(kith_api_ready(f->api, &err), KITH_OK);
    kith_api_stop(f->api);
    assert_int_equal(kith_api_ready(f->api, &err), KITH_CLOSED);
    assert_int_equal(count_ask(f, "one"), KITH_CLOSED);
    assert_non_null(strstr(f->text, "shutting down"));
    assert_true(kith_api_wait_idle(f->api, 1000000000));
}

int main(void) {
    FIXTURE_UNUSED;
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_api__answers_do_not_depend_on_shards_or_restarts),
        CASE(test_api_search__payloads_belong_to_their_hits),
        CASE(test_api_upsert__a_point_may_be_payload_alone),
        CASE(test_api_write__a_repeat_gets_the_first_answer),
        CASE(test_api_collections__list_is_by_name_and_a_name_can_be_used_again),
        CASE(test_api__stopped_service_refuses_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
