/* Schemas: names, checks, scores. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "host/model/schema.h"
#include "tests/lib/test_lib.h"

static kith_schema schema_of_two(void) {
    return (kith_schema){.field_count = 2,
        .fields = {{.name = "", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
            {.name = "title", .dim = 5, .metric = KITH_METRIC_IP, .type = KITH_TYPE_I8}}};
}

static void test_schema__a_good_schema_passes(void **state) {
    (void)state;
    kith_err err;
    kith_schema schema = schema_of_two();
    assert_ok(kith_schema_check(&schema, &err), &err);
    assert_int_equal(kith_schema_find(&schema, "title"), 1);
    assert_int_equal(kith_schema_find(&schema, ""), 0);
    assert_int_equal(kith_schema_find(&schema, "no"), -1);
    assert_int_equal(kith_schema_row_bytes(&schema), 12 + 5);
}

static void schema_refused(kith_schema schema, const char *expected) {
    kith_err err;
    assert_int_equal(kith_schema_check(&schema, &err), KITH_INVALID);
    if (!strstr(err.text, expected)) fail_msg("\"%s\" lacks \"%s\"", err.text, expected);
}

static void test_schema__bad_schemas_are_refused_with_the_value(void **state) {
    (void)state;
    kith_schema schema = schema_of_two();
    schema.fields[1].dim = 0;
    schema_refused(schema, "dim 0 is not in 1..16384");
    schema.fields[1].dim = KITH_DIM_MAX + 1;
    schema_refused(schema, "dim 16385");
    schema = schema_of_two();
    strcpy(schema.fields[1].name, "");
    schema_refused(schema, "declared twice");
    schema = schema_of_two();
    schema.fields[0].metric = (kith_metric)9;
    schema_refused(schema, "metric 9");
    schema = schema_of_two();
    schema.fields[0].type = (kith_vector_type)0;
    schema_refused(schema, "type 0");
    schema.field_count = 0;
    schema_refused(schema, "0 vector fields");
    schema.field_count = KITH_FIELDS_MAX + 1;
    schema_refused(schema, "17 vector fields");
}

static kith_status name_check(const char *name) {
    kith_err err;
    return kith_name_check("collection name", name, strlen(name), false, &err);
}

static void test_schema__names_are_plain(void **state) {
    (void)state;
    char longest[KITH_NAME_BYTES_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[KITH_NAME_BYTES_MAX + 1] = 0;
    assert_int_equal(name_check("a-b_c.9"), KITH_OK);
    assert_int_equal(name_check(""), KITH_INVALID);
    assert_int_equal(name_check("-a"), KITH_INVALID);
    assert_int_equal(name_check(".."), KITH_INVALID);
    assert_int_equal(name_check("a/b"), KITH_INVALID);
    assert_int_equal(name_check("a b"), KITH_INVALID);
    assert_int_equal(name_check(longest), KITH_INVALID);
    assert_int_equal(name_check(longest + 1), KITH_OK);
}

static void test_schema__copies_that_were_not_said_are_usual(void **state) {
    (void)state;
    static const uint32_t usual[] = {1, 1, 1, 2, 2, 3, 3, 4};
    for (uint32_t factor = 0; factor < sizeof usual / sizeof usual[0]; factor++) {
        kith_collection collection = {.replication_factor = factor};
        kith_collection_replicas_default(&collection);
        assert_int_equal(collection.replication_factor, factor ? factor : 1);
        assert_int_equal(collection.min_in_sync, usual[factor]);
        assert_int_equal(collection.durability, KITH_DURABILITY_SYNC);
    }
    kith_collection said = {.replication_factor = 3, .min_in_sync = 1, .durability = KITH_DURABILITY_ASYNC};
    kith_collection_replicas_default(&said);
    assert_int_equal(said.min_in_sync, 1);
    assert_int_equal(said.durability, KITH_DURABILITY_ASYNC);
}

static void test_schema__enum_names_read_back(void **state) {
    (void)state;
    for (int i = 1; i <= 4; i++) {
        kith_metric metric;
        kith_vector_type type;
        assert_true(kith_metric_parse(kith_metric_name((kith_metric)i), &metric));
        assert_int_equal(metric, i);
        assert_true(kith_vector_type_parse(kith_vector_type_name((kith_vector_type)i), &type));
        assert_int_equal(type, i);
    }
    kith_durability durability;
    for (int i = 1; i <= 2; i++) {
        assert_true(kith_durability_parse(kith_durability_name((kith_durability)i), &durability));
        assert_int_equal(durability, i);
    }
    assert_false(kith_durability_parse("later", &durability));
    assert_null(kith_durability_name(KITH_DURABILITY_UNSAID));
    assert_null(kith_durability_name((kith_durability)3));
    kith_metric metric;
    assert_false(kith_metric_parse("dot", &metric));
    assert_null(kith_metric_name((kith_metric)5));
    assert_null(kith_vector_type_name((kith_vector_type)0));
}

static void test_schema__scores_are_what_people_expect(void **state) {
    (void)state;
    assert_true(kith_score_of_closeness(KITH_METRIC_L2, -25.0) == 5.0f);
    assert_true(kith_score_of_closeness(KITH_METRIC_L1, -7.5) == 7.5f);
    assert_true(kith_score_of_closeness(KITH_METRIC_IP, -2.0) == -2.0f);
    assert_true(kith_score_of_closeness(KITH_METRIC_COSINE, 0.5) == 0.5f);
    assert_false(signbit(kith_score_of_closeness(KITH_METRIC_L2, 0.0)));
    assert_false(signbit(kith_score_of_closeness(KITH_METRIC_L1, 0.0)));
}

static void test_schema__scores_are_finite(void **state) {
    (void)state;
    double huge = 4096.0 * FLT_MAX; /* an inner product of finite f32 vectors may be that and more */
    assert_true(kith_score_of_closeness(KITH_METRIC_IP, huge) == FLT_MAX);
    assert_true(kith_score_of_closeness(KITH_METRIC_IP, -huge * FLT_MAX) == -FLT_MAX);
    assert_true(kith_score_of_closeness(KITH_METRIC_L1, -huge) == FLT_MAX);
    assert_true(kith_score_of_closeness(KITH_METRIC_L2, -huge * huge) == FLT_MAX);
    assert_true(kith_score_of_closeness(KITH_METRIC_L2, -huge) < FLT_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema__a_good_schema_passes),
        cmocka_unit_test(test_schema__bad_schemas_are_refused_with_the_value),
        cmocka_unit_test(test_schema__names_are_plain),
        cmocka_unit_test(test_schema__copies_that_were_not_said_are_usual),
        cmocka_unit_test(test_schema__enum_names_read_back),
        cmocka_unit_test(test_schema__scores_are_what_people_expect),
        cmocka_unit_test(test_schema__scores_are_finite),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
