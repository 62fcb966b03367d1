/* What a client may get wrong: each case has its code, and a message that names the field, the value and what is allowed.
 * After all of them nothing was written and the service still serves. */
#include <math.h>

#include "host/api/api_internal.h"
#include "tests/unit/api/api_fixture.h"

#define assert_refused(fixture, wanted, got, ...)                                                            \
    do {                                                                                                     \
        const char *words_[] = {__VA_ARGS__};                                                                \
        kith_status got_ = (got);                                                                            \
        if (got_ != (wanted)) fail_msg("%s: %s", kith_status_name(got_), (fixture)->text);                   \
        for (size_t w_ = 0; w_ < sizeof words_ / sizeof *words_; w_++) {                                     \
            if (!strstr((fixture)->text, words_[w_]))                                                        \
                fail_msg("\"%s\" is not in: %s", words_[w_], (fixture)->text);                               \
        }                                                                                                    \
    } while (0)

static const float one[4] = {1, 2, 3, 4};
static const float zeros[4] = {0, 0, -0.0f, 0};

static int setup(void **state) {
    fixture_setup(state);
    api_fixture *fixture = *state;
    assert_int_equal(create(fixture, "plain", 4, KITH_METRIC_L2, KITH_TYPE_F32, 0), KITH_OK);
    assert_int_equal(create(fixture, "angle", 4, KITH_METRIC_COSINE, KITH_TYPE_F32, 0), KITH_OK);
    assert_int_equal(create(fixture, "half", 4, KITH_METRIC_COSINE, KITH_TYPE_F16, 0), KITH_OK);
    assert_int_equal(create(fixture, "byte", 4, KITH_METRIC_IP, KITH_TYPE_I8, 0), KITH_OK);
    kith_schema two = {.field_count = 2,
        .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32},
            {.name = "title", .dim = 2, .metric = KITH_METRIC_IP, .type = KITH_TYPE_F32}}};
    assert_int_equal(create_schema(fixture, "two", &two, 2), KITH_OK);
    assert_int_equal(upsert(fixture, "plain", 1, 1, 4, one), KITH_OK);
    return 0;
}

static int teardown(void **state) {
    api_fixture *fixture = *state;
    kith_api_search_call search = {.queries = (const uint8_t *)one, .queries_bytes = sizeof one, .k = 1};
    assert_int_equal(search_ask(fixture, "plain", &search), KITH_OK);
    assert_int_equal(fixture->ids[0], 1);
    assert_int_equal(count_ask(fixture, "plain"), KITH_OK);
    assert_int_equal(fixture->number, 1);
    assert_int_equal(count_ask(fixture, "two"), KITH_OK);
    assert_int_equal(fixture->number, 0);
    return fixture_teardown(state);
}

static void test_api_create__refusals(void **state) {
    api_fixture *f = *state;
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[256] = 0;
    kith_metric l2 = KITH_METRIC_L2;
    kith_vector_type f32 = KITH_TYPE_F32;
    assert_refused(f, KITH_INVALID, create(f, "", 4, l2, f32, 0), "collection name", "empty", "255");
    assert_refused(f, KITH_INVALID, create(f, longest, 4, l2, f32, 0), "collection name", "256", "255");
    assert_refused(f, KITH_INVALID, create(f, "a b", 4, l2, f32, 0), "collection name", "0x20", "letters");
    assert_refused(f, KITH_INVALID, create(f, "-a", 4, l2, f32, 0), "collection name", "'-'");
    assert_refused(f, KITH_INVALID, create(f, "x", 0, l2, f32, 0), "dim 0", "1..16384");
    assert_refused(f, KITH_INVALID, create(f, "x", 16385, l2, f32, 0), "dim 16385", "1..16384");
    assert_refused(f, KITH_INVALID, create(f, "x", 4, (kith_metric)9, f32, 0), "metric 9", "cosine");
    assert_refused(f, KITH_INVALID, create(f, "x", 4, l2, (kith_vector_type)9, 0), "vector type 9", "bf16");
    assert_refused(f, KITH_INVALID, create(f, "x", 4, l2, f32, 4097), "shard_count 4097", "1..4096");
    assert_refused(f, KITH_EXISTS, create(f, "plain", 5, l2, f32, 0), "plain", "dim 4", "dim 5");
    assert_refused(f, KITH_EXISTS, create(f, "plain", 4, KITH_METRIC_IP, f32, 0), "l2", "ip");
    assert_refused(f, KITH_EXISTS, create(f, "plain", 4, l2, f32, 2), "shard_count 1", "2");
    kith_schema none = {0}, twice = {.field_count = 2,
                                .fields = {{.name = "a", .dim = 4, .metric = l2, .type = f32},
                                    {.name = "a", .dim = 4, .metric = l2, .type = f32}}};
    assert_refused(f, KITH_INVALID, create_schema(f, "x", &none, 0), "0 vector fields", "1..16");
    assert_refused(f, KITH_INVALID, create_schema(f, "x", &twice, 0), "\"a\"", "twice");
}

typedef struct wish {
    uint32_t replication_factor, min_in_sync;
    kith_durability durability;
} wish;

static kith_status create_wish(api_fixture *f, const char *name, wish wanted) {
    kith_err err;
    fixture_collection_call own = collection_call(f, name);
    own.call.schema = (kith_schema){
        .field_count = 1, .fields = {{.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
    own.call.replication_factor = wanted.replication_factor;
    own.call.min_in_sync = wanted.min_in_sync;
    own.call.durability = wanted.durability;
    return answer_wait(f, kith_api_collection_create(f->api, &own.call, &err), &err);
}

static kith_status update_wish(api_fixture *f, const char *name, wish wanted) {
    kith_err err;
    fixture_collection_call own = collection_call(f, name);
    own.call.replication_factor = wanted.replication_factor;
    own.call.min_in_sync = wanted.min_in_sync;
    own.call.durability = wanted.durability;
    return answer_wait(f, kith_api_collection_update(f->api, &own.call, &err), &err);
}

static void test_api_create__a_standalone_server_has_one_copy(void **state) {
    api_fixture *f = *state;
    assert_refused(
        f, KITH_INVALID, create_wish(f, "x", (wish){2, 0, 0}), "replication_factor 2", "standalone");
    assert_refused(f, KITH_INVALID, create_wish(f, "x", (wish){0, 2, 0}), "min_in_sync 2", "1..1");
    assert_int_equal(create_wish(f, "plain", (wish){1, 1, 0}), KITH_OK);
    assert_true(f->existed);
    assert_int_equal(f->info.collection.replication_factor, 1);
    assert_int_equal(f->info.collection.min_in_sync, 1);
    assert_int_equal(update_wish(f, "plain", (wish){1, 1, 0}), KITH_OK);
    assert_int_equal(f->count, 1);
    assert_refused(
        f, KITH_INVALID, update_wish(f, "plain", (wish){3, 0, 0}), "replication_factor 3", "standalone");
    assert_refused(f, KITH_INVALID, update_wish(f, "plain", (wish){0, 7, 0}), "min_in_sync 7", "1..1");
    assert_refused(f, KITH_NOT_FOUND, update_wish(f, "nosuch", (wish){1, 1, 0}), "\"nosuch\"");
}

static void test_api_create__a_standalone_server_acknowledges_what_is_on_disk(void **state) {
    api_fixture *f = *state;
    static const char *const words[] = {"durability async", "sync", "standalone", "cluster"};
    static const wish async = {.durability = KITH_DURABILITY_ASYNC}, unknown = {.durability = 7};
    static const wish sync = {.durability = KITH_DURABILITY_SYNC}, unsaid = {0};
    assert_refused(f, KITH_INVALID, create_wish(f, "x", async), words[0], words[1], words[2], words[3]);
    assert_refused(f, KITH_INVALID, create_wish(f, "plain", async), words[0], words[2]);
    assert_refused(f, KITH_INVALID, update_wish(f, "plain", async), words[0], words[1], words[2], words[3]);
    assert_refused(f, KITH_INVALID, create_wish(f, "x", unknown), "durability 7", "sync (1)", "async (2)");
    assert_refused(f, KITH_INVALID, update_wish(f, "plain", unknown), "durability 7", "sync", "async");
    assert_int_equal(create_wish(f, "plain", unsaid), KITH_OK);
    assert_true(f->existed);
    assert_int_equal(f->info.collection.durability, KITH_DURABILITY_SYNC);
    assert_int_equal(create_wish(f, "plain", sync), KITH_OK);
    assert_true(f->existed);
    assert_int_equal(update_wish(f, "plain", sync), KITH_OK);
    assert_int_equal(f->info.collection.durability, KITH_DURABILITY_SYNC);
    assert_int_equal(update_wish(f, "plain", unsaid), KITH_OK);
}

/* Every kind of read is the same where there is one copy; tokens must be the collection's all the same. */
static void test_api_search__what_a_read_promises(void **state) {
    api_fixture *f = *state;
    kith_api_search_call search = {.queries = (const uint8_t *)one, .queries_bytes = sizeof one, .k = 1};
    for (uint32_t read = KITH_READ_IN_SYNC; read <= KITH_READ_TOKEN; read++) {
        search.promise = (kith_read_promise){.read = (kith_read_consistency)read};
        assert_int_equal(search_ask(f, "plain", &search), KITH_OK);
        assert_int_equal(f->ids[0], 1);
    }
    const kith_read_token token = {.shard_id = 4711, .epoch = 1, .sequence = 1};
    search.promise = (kith_read_promise){.read = KITH_READ_TOKEN, .tokens = &token, .token_count = 1};
    assert_refused(f, KITH_INVALID, search_ask(f, "plain", &search), "tokens[0]", "4711", "\"plain\"");
}

static void test_api_create__the_same_again_is_ok(void **state) {
    api_fixture *f = *state;
    assert_int_equal(create(f, "plain", 4, KITH_METRIC_L2, KITH_TYPE_F32, 0), KITH_OK);
    assert_int_equal(create(f, "plain", 4, KITH_METRIC_L2, KITH_TYPE_F32, 1), KITH_OK);
    assert_int_equal(f->info.points, 1);
}

static void test_api_collections__unknown_names_are_not_found(void **state) {
    api_fixture *f = *state;
    assert_refused(
        f, KITH_NOT_FOUND, collection_ask(f, kith_api_collection_get, "nosuch", false), "\"nosuch\"");
    assert_refused(
        f, KITH_NOT_FOUND, collection_ask(f, kith_api_collection_delete, "nosuch", false), "\"nosuch\"");
    assert_refused(f, KITH_INVALID, collection_ask(f, kith_api_collection_delete, "no/such", false), "0x2f");
    assert_int_equal(collection_ask(f, kith_api_collection_delete, "nosuch", true), KITH_OK);
    assert_int_equal(f->count, 0);
    assert_refused(f, KITH_NOT_FOUND, count_ask(f, "nosuch"), "\"nosuch\"");
    assert_refused(f, KITH_NOT_FOUND, upsert(f, "nosuch", 1, 1, 4, one), "\"nosuch\"");
}

/* Two points of collection `name` with one column, parts of which a case replaces. */
static kith_status column_ask(
    api_fixture *f, const char *name, const kith_api_column *columns, uint32_t count) {
    kith_id ids[2] = {kith_id_of_number(70), kith_id_of_number(71)};
    kith_api_write_call call = {.ids = ids, .point_count = 2, .columns = columns, .column_count = count};
    return write_ask(f, name, &call, true);
}

static void test_api_upsert__refuses_columns_that_do_not_fit(void **state) {
    api_fixture *f = *state;
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const uint8_t *bytes = (const uint8_t *)values, present[2] = {1, 0}, wild[2] = {1, 2};
    kith_api_column column = {.field = "nosuch", .values = bytes, .values_bytes = 32};
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "\"nosuch\"", "two", "\"title\"");
    column.field = "title";
    column.values_bytes = 10;
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "vectors[field \"title\"]", "10 bytes",
        "dim 2 x 4 bytes");
    column.values_bytes = 8;
    assert_refused(
        f, KITH_INVALID, column_ask(f, "two", &column, 1), "vectors[field \"title\"]", "1 vectors", "not 2");
    column.values_bytes = 0;
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "0 vectors", "not 2");
    column = (kith_api_column){
        .field = "", .values = bytes, .values_bytes = 32, .present = present, .present_bytes = 2};
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "2 vectors", "not 1");
    column.present_bytes = 1;
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "present has 1 bytes", "2 points");
    column.present_bytes = 2;
    column.present = wild;
    assert_refused(f, KITH_INVALID, column_ask(f, "two", &column, 1), "present[1] is 2", "0 and 1");
    column.present = NULL;
    kith_api_column twice[2] = {column, column};
    assert_refused(f, KITH_INVALID, column_ask(f, "two", twice, 2), "vectors[field \"\"]", "twice");
}

static kith_status vector_ask(api_fixture *f, const char *name, const float *vector) {
    return upsert(f, name, 42, 1, 4, vector);
}

static void test_api_upsert__refuses_values_that_cannot_be_stored(void **state) {
    api_fixture *f = *state;
    float vector[4] = {1, 2, NAN, 4};
    assert_refused(
        f, KITH_INVALID, vector_ask(f, "plain", vector), "points[0] (id 42)", "component 2", "nan");
    vector[2] = INFINITY;
    assert_refused(f, KITH_INVALID, vector_ask(f, "plain", vector), "component 2", "inf");
    vector[2] = 70000;
    assert_refused(f, KITH_INVALID, vector_ask(f, "half", vector), "component 2", "70000", "f16");
    assert_refused(f, KITH_INVALID, vector_ask(f, "byte", vector), "component 2", "70000", "i8");
    vector[2] = 128;
    assert_refused(f, KITH_INVALID, vector_ask(f, "byte", vector), "component 2", "128", "-128..127");
    assert_refused(f, KITH_INVALID, vector_ask(f, "angle", zeros), "zero", "cosine", "id 42");
    float tiny[4] = {1e-9f, -1e-9f, 0, 0};
    assert_refused(f, KITH_INVALID, vector_ask(f, "half", tiny), "zero in the stored type", "cosine");
    assert_int_equal(vector_ask(f, "byte", zeros), KITH_OK); /* only cosine minds */
}

/* Misaligned bytes are what protobuf hands over. */
static void test_api_upsert__takes_values_at_any_alignment(void **state) {
    api_fixture *f = *state;
    uint8_t bytes[17];
    kith_id id = kith_id_of_number(5);
    memcpy(bytes + 1, one, 16);
    kith_api_column column = {.field = "", .values = bytes + 1, .values_bytes = 16};
    kith_api_write_call call = {.ids = &id, .point_count = 1, .columns = &column, .column_count = 1};
    assert_int_equal(write_ask(f, "angle", &call, true), KITH_OK);
    assert_int_equal(write_ask(f, "half", &call, true), KITH_OK);
    kith_api_search_call search = {.queries = bytes + 1, .queries_bytes = 16, .k = 1};
    assert_int_equal(search_ask(f, "angle", &search), KITH_OK);
    assert_int_equal(f->ids[0], 5);
}

static void test_api_write__refuses_duplicates_and_counts(void **state) {
    api_fixture *f = *state;
    kith_id *many = kith_alloc_array(KITH_BATCH_POINTS_MAX + 1, sizeof *many);
    for (uint32_t i = 0; i <= KITH_BATCH_POINTS_MAX; i++)
        many[i] = kith_id_of_number(1000 + i);
    kith_api_write_call call = {.ids = many, .point_count = 0};
    assert_refused(f, KITH_INVALID, write_ask(f, "plain", &call, true), "points 0", "1..65536");
    assert_refused(f, KITH_INVALID, write_ask(f, "plain", &call, false), "points 0", "1..65536");
    call.point_count = KITH_BATCH_POINTS_MAX + 1;
    assert_refused(f, KITH_INVALID, write_ask(f, "plain", &call, false), "65537", "1..65536");
    call.point_count = 100;
    many[77] = many[33];
    assert_refused(f, KITH_INVALID, write_ask(f, "plain", &call, true), "points[33]", "points[77]", "1033");
    kith_free(many);
}

static kith_status payload_ask(api_fixture *f, const char *payload, uint32_t bytes) {
    kith_id id = kith_id_of_number(9);
    kith_api_write_call call = {.ids = &id, .point_count = 1, .payloads = &payload, .payload_bytes = &bytes};
    return write_ask(f, "plain", &call, true);
}

static void test_api_upsert__refuses_payloads_that_are_no_objects(void **state) {
    api_fixture *f = *state;
    char *large = kith_alloc(KITH_PAYLOAD_BYTES_MAX + 1);
    memset(large, ' ', KITH_PAYLOAD_BYTES_MAX + 1);
    assert_refused(f, KITH_INVALID, payload_ask(f, large, KITH_PAYLOAD_BYTES_MAX + 1),
        "payload of points[0] (id 9)", "1048577", "1048576");
    kith_free(large);
    assert_refused(f, KITH_INVALID, payload_ask(f, "[1]", 3), "payload of points[0]", "object");
    assert_refused(f, KITH_INVALID, payload_ask(f, "{\"a\":}", 6), "payload of points[0]", "byte 5");
    assert_refused(f, KITH_INVALID, payload_ask(f, "{\"a\":1} x", 9), "payload of points[0]");
    assert_refused(f, KITH_INVALID, payload_ask(f, "{\"\xff\":1}", 7), "payload of points[0]", "UTF-8");
    char deep[5 * (KITH_PAYLOAD_DEPTH_MAX + 1) + 1];
    for (uint32_t i = 0; i <= KITH_PAYLOAD_DEPTH_MAX; i++)
        memcpy(deep + 5 * i, "{\"a\":", 6);
    assert_refused(f, KITH_INVALID, payload_ask(f, deep, (uint32_t)strlen(deep)), "payload of points[0]");
}

static kith_status query_ask(
    api_fixture *f, const char *name, const void *queries, size_t bytes, uint32_t k) {
    kith_api_search_call search = {.queries = queries, .queries_bytes = bytes, .k = k};
    return search_ask(f, name, &search);
}

static void test_api_search__refusals(void **state) {
    api_fixture *f = *state;
    float wild[8] = {1, 2, 3, 4, 5, NAN, 7, 8};
    assert_refused(f, KITH_NOT_FOUND, query_ask(f, "nosuch", one, 16, 1), "\"nosuch\"");
    assert_refused(f, KITH_INVALID, query_ask(f, "plain", one, 0, 1), "queries 0", "1..16384");
    assert_refused(
        f, KITH_INVALID, query_ask(f, "plain", one, 12, 1), "queries", "12 bytes", "dim 4 x 4 bytes");
    assert_refused(f, KITH_INVALID, query_ask(f, "plain", one, 16, 0), "k 0", "1..16384");
    assert_refused(f, KITH_INVALID, query_ask(f, "plain", one, 16, 16385), "k 16385", "1..16384");
    assert_refused(
        f, KITH_INVALID, query_ask(f, "plain", wild, 32, 1), "queries[1]", "component 1", "nan", "finite");
    assert_refused(f, KITH_INVALID, query_ask(f, "angle", zeros, 16, 1), "queries[0]", "zero", "cosine");
    float *many = kith_alloc_zero((KITH_QUERIES_MAX + 1) * 16);
    assert_refused(
        f, KITH_INVALID, query_ask(f, "plain", many, (KITH_QUERIES_MAX + 1) * 16, 1), "16385", "1..16384");
    assert_refused(
        f, KITH_INVALID, query_ask(f, "plain", many, 257 * 16, 16384), "257", "4210688", "4194304");
    kith_api_search_call search = {
        .queries = (const uint8_t *)many, .queries_bytes = 5 * 16, .k = 16384, .with_payload = true};
    assert_refused(f, KITH_INVALID, search_ask(f, "plain", &search), "with_payload", "81920", "65536");
    search = (kith_api_search_call){
        .queries = (const uint8_t *)one, .queries_bytes = 16, .k = 1, .field = "nosuch"};
    assert_refused(f, KITH_INVALID, search_ask(f, "two", &search), "\"nosuch\"", "\"title\"");
    kith_free(many);
}

static void test_api_points__refusals(void **state) {
    api_fixture *f = *state;
    kith_id id = kith_id_of_number(1);
    kith_api_points_call call = {.ids = &id, .id_count = 0};
    assert_refused(f, KITH_INVALID, points_ask(f, "plain", &call, false), "ids 0", "1..65536");
    call.id_count = KITH_BATCH_POINTS_MAX + 1;
    assert_refused(f, KITH_INVALID, points_ask(f, "plain", &call, false), "ids 65537", "1..65536");
    call = (kith_api_points_call){.limit = KITH_SCROLL_POINTS_MAX + 1};
    assert_refused(f, KITH_INVALID, points_ask(f, "plain", &call, true), "limit 16385", "1..16384");
    assert_refused(f, KITH_NOT_FOUND, points_ask(f, "nosuch", &call, true), "\"nosuch\"");
}

static void test_api__a_deadline_in_the_past_does_nothing(void **state) {
    api_fixture *f = *state;
    kith_id id = kith_id_of_number(88);
    kith_api_write_call write = {.call = {.deadline_ns = 1}, .ids = &id, .point_count = 1};
    assert_refused(f, KITH_DEADLINE, write_ask(f, "plain", &write, true), "deadline");
    kith_api_search_call search = {
        .call = {.deadline_ns = 1}, .queries = (const uint8_t *)one, .queries_bytes = 16, .k = 1};
    assert_refused(f, KITH_DEADLINE, search_ask(f, "plain", &search), "deadline");
}

static void test_api__too_many_bytes_of_writes_are_busy_with_a_hint(void **state) {
    api_fixture *f = *state;
    kith_api_limits limits = {
        .search_timeout_ns = 1000000000, .write_timeout_ns = 1000000000, .reads_max = 0};
    kith_api_limits_set(f->api, &limits);
    assert_refused(f, KITH_BUSY, query_ask(f, "plain", one, 16, 1), "0 searches", "retry in");
    /* A write that is alone is let in whatever its size, or it could never run. */
    assert_int_equal(vector_ask(f, "byte", one), KITH_OK);
    limits.reads_max = 100;
    kith_api_limits_set(f->api, &limits);
}

/* Room is given back after the answer. */
static uint64_t read_bytes_when_idle(api_fixture *f) {
    while (kith_api_in_flight(f->api) > 0) {
    }
    return atomic_load(&f->api->admitted[KITH_API_READ].bytes);
}

/* Others are made up: all but a MiB of what is allowed is in use. */
static void test_api_search__results_that_do_not_fit_are_busy(void **state) {
    api_fixture *f = *state;
    _Atomic uint64_t *bytes = &f->api->admitted[KITH_API_READ].bytes;
    float *queries = kith_alloc_zero(256 * 16);
    atomic_store(bytes, KITH_API_READ_BYTES_MAX - (1u << 20));
    assert_int_equal(query_ask(f, "plain", queries, 16, 10), KITH_OK);
    /* One point is there, so that no list is longer. */
    assert_int_equal(query_ask(f, "plain", queries, 256 * 16, 16384), KITH_OK);
    assert_int_equal(read_bytes_when_idle(f), KITH_API_READ_BYTES_MAX - (1u << 20));
    f->api->options.points = NULL;
    assert_refused(f, KITH_BUSY, query_ask(f, "plain", queries, 256 * 16, 16384), "256 queries", "k 16384",
        "1073741824 allowed", "retry in");
    assert_int_equal(read_bytes_when_idle(f), KITH_API_READ_BYTES_MAX - (1u << 20));
    atomic_store(bytes, 0);
    assert_int_equal(query_ask(f, "plain", queries, 256 * 16, 16384), KITH_OK);
    assert_int_equal(read_bytes_when_idle(f), 0);
    kith_free(queries);
}

int main(void) {
    FIXTURE_UNUSED;
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_api_create__refusals),
        CASE(test_api_create__a_standalone_server_has_one_copy),
        CASE(test_api_create__a_standalone_server_acknowledges_what_is_on_disk),
        CASE(test_api_search__what_a_read_promises),
        CASE(test_api_create__the_same_again_is_ok),
        CASE(test_api_collections__unknown_names_are_not_found),
        CASE(test_api_upsert__refuses_columns_that_do_not_fit),
        CASE(test_api_upsert__refuses_values_that_cannot_be_stored),
        CASE(test_api_upsert__takes_values_at_any_alignment),
        CASE(test_api_write__refuses_duplicates_and_counts),
        CASE(test_api_upsert__refuses_payloads_that_are_no_objects),
        CASE(test_api_search__refusals),
        CASE(test_api_search__results_that_do_not_fit_are_busy),
        CASE(test_api_points__refusals),
        CASE(test_api__a_deadline_in_the_past_does_nothing),
        CASE(test_api__too_many_bytes_of_writes_are_busy_with_a_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
