/* A whole service in this process (loop transport, real shards, a temporary folder), and the api's calls made to wait. */
#ifndef KITH_TESTS_UNIT_API_API_FIXTURE_H
#define KITH_TESTS_UNIT_API_API_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/base/thread.h"
#include "host/role/standalone.h"
#include "tests/lib/test_lib.h"

#define FIXTURE_REPLY_MAX 20000u

typedef struct api_fixture {
    kith_env *env;
    char *dir;
    kith_config config;
    const kith_role_gpu *gpu; /* of the next open; NULL: whatever there is */
    kith_standalone *standalone;
    kith_api *api;
    kith_arena arena;
    /* The last answer. The lock: the service's threads answer, the test's thread waits. */
    kith_mutex mutex;
    kith_cond answered;
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
    uint32_t count;  /* infos, points changed, points read, hits */
    uint64_t number; /* of a count */
    uint32_t token_count;
    kith_api_collection_info info;
    bool existed;
    uint64_t ids[FIXTURE_REPLY_MAX]; /* numbers of what was read or found */
    float scores[FIXTURE_REPLY_MAX];
    char payload[256]; /* of the first */
    bool has_next;
    uint64_t next;
    uint32_t shards_answered, shards_total;
} api_fixture;

static void fixture_open(api_fixture *fixture) {
    kith_err err;
    kith_standalone_options options = {
        .env = fixture->env, .config = &fixture->config, .embedded = true, .gpu = fixture->gpu};
    assert_ok(kith_standalone_start(&options, &fixture->standalone, &err), &err);
    fixture->api = kith_standalone_api(fixture->standalone);
}

static int fixture_setup(void **state) {
    kith_err err;
    api_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    kith_arena_init(&fixture->arena);
    kith_mutex_init(&fixture->mutex, KITH_RANK_LOG);
    kith_cond_init(&fixture->answered);
    fixture->dir = test_dir_make();
    kith_config_defaults(&fixture->config);
    snprintf(fixture->config.data_dir, sizeof fixture->config.data_dir, "%s/data", fixture->dir);
    fixture->config.disk_reserve_bytes = 0;
    assert_ok(kith_env_posix_create(&fixture->env, &err), &err);
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

static int fixture_teardown(void **state) {
    api_fixture *fixture = *state;
    kith_standalone_stop(fixture->standalone, 1000000000);
    kith_env_posix_destroy(fixture->env);
    test_dir_remove(fixture->dir);
    kith_arena_fini(&fixture->arena);
    kith_cond_fini(&fixture->answered);
    kith_mutex_fini(&fixture->mutex);
    kith_free(fixture);
    return 0;
}

/* --- answers --- */

/* Every call of a test begins with the fixture's address, so that `done` finds it. */
typedef struct fixture_link {
    api_fixture *fixture;
} fixture_link;

static void answer(api_fixture *fixture, kith_status status, const kith_err *err) {
    fixture->status = status;
    snprintf(fixture->text, sizeof fixture->text, "%s", status == KITH_OK ? "" : err->text);
    fixture->done = true;
    kith_cond_signal(&fixture->answered);
    kith_mutex_unlock(&fixture->mutex);
}

/* `status` is what the start function returned. */
static kith_status answer_wait(api_fixture *fixture, kith_status status, const kith_err *err) {
    kith_mutex_lock(&fixture->mutex);
    if (status != KITH_OK) {
        answer(fixture, status, err);
        kith_mutex_lock(&fixture->mutex);
    }
    while (!fixture->done)
        kith_cond_wait(&fixture->answered, &fixture->mutex);
    fixture->done = false;
    kith_mutex_unlock(&fixture->mutex);
    kith_arena_reset(&fixture->arena);
    return fixture->status;
}

typedef struct fixture_collection_call {
    kith_api_collection_call call;
    fixture_link link;
} fixture_collection_call;

static void collection_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    api_fixture *fixture = ((fixture_collection_call *)call)->link.fixture;
    kith_mutex_lock(&fixture->mutex);
    fixture->count = count;
    if (count && infos) fixture->info = infos[0];
    fixture->existed = call->existed;
    answer(fixture, status, err);
}

static fixture_collection_call collection_call(api_fixture *fixture, const char *name) {
    fixture_collection_call own = {.link = {fixture}};
    own.call.call.arena = &fixture->arena;
    own.call.name = name;
    own.call.name_bytes = strlen(name);
    own.call.done = collection_done;
    return own;
}

typedef kith_status (*collection_fn)(kith_api *api, kith_api_collection_call *call, kith_err *err);

static kith_status collection_ask(
    api_fixture *fixture, collection_fn ask, const char *name, bool missing_ok) {
    kith_err err;
    fixture_collection_call own = collection_call(fixture, name);
    own.call.missing_ok = missing_ok;
    return answer_wait(fixture, ask(fixture->api, &own.call, &err), &err);
}

static kith_status create_schema(
    api_fixture *fixture, const char *name, const kith_schema *schema, uint32_t shard_count) {
    kith_err err;
    fixture_collection_call own = collection_call(fixture, name);
    own.call.schema = *schema;
    own.call.shard_count = shard_count;
    return answer_wait(fixture, kith_api_collection_create(fixture->api, &own.call, &err), &err);
}

static kith_status create(api_fixture *fixture, const char *name, uint32_t dim, kith_metric metric,
    kith_vector_type type, uint32_t shard_count) {
    kith_schema schema = {.field_count = 1, .fields = {{.dim = dim, .metric = metric, .type = type}}};
    return create_schema(fixture, name, &schema, shard_count);
}

typedef struct fixture_write_call {
    kith_api_write_call call;
    fixture_link link;
} fixture_write_call;

static void write_done(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    (void)tokens;
    api_fixture *fixture = ((fixture_write_call *)call)->link.fixture;
    kith_mutex_lock(&fixture->mutex);
    fixture->count = changed;
    fixture->token_count = token_count;
    answer(fixture, status, err);
}

/* Any part of `given` may be wrong; collection, arena and done are filled in. */
static kith_status write_ask(
    api_fixture *fixture, const char *collection, const kith_api_write_call *given, bool upsert) {
    kith_err err;
    fixture_write_call own = {.call = *given, .link = {fixture}};
    own.call.call.arena = &fixture->arena;
    own.call.collection = collection;
    own.call.collection_bytes = strlen(collection);
    own.call.done = write_done;
    kith_status status = upsert ? kith_api_upsert(fixture->api, &own.call, &err)
                                : kith_api_delete(fixture->api, &own.call, &err);
    return answer_wait(fixture, status, &err);
}

/* Points `first`.. with one vector each in the default field. */
static kith_status upsert(api_fixture *fixture, const char *collection, uint64_t first, uint32_t count,
    uint32_t dim, const float *vectors) {
    kith_id *ids = kith_alloc_array(count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = kith_id_of_number(first + i);
    kith_api_column column = {
        .field = "", .values = (const uint8_t *)vectors, .values_bytes = (size_t)count * dim * 4};
    kith_api_write_call call = {.ids = ids, .point_count = count, .columns = &column, .column_count = 1};
    kith_status status = write_ask(fixture, collection, &call, true);
    kith_free(ids);
    return status;
}

typedef struct fixture_search_call {
    kith_api_search_call call;
    fixture_link link;
} fixture_search_call;

static void search_done(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
    const kith_err *err) {
    api_fixture *fixture = ((fixture_search_call *)call)->link.fixture;
    kith_mutex_lock(&fixture->mutex);
    fixture->count = status == KITH_OK ? result->hit_count : 0;
    for (uint32_t i = 0; i < fixture->count && i < FIXTURE_REPLY_MAX; i++) {
        fixture->ids[i] = result->ids[i].number;
        fixture->scores[i] = result->scores[i];
    }
    fixture->payload[0] = 0;
    if (fixture->count && result->payloads && result->payloads[0]) {
        snprintf(fixture->payload, sizeof fixture->payload, "%.*s", (int)result->payload_bytes[0],
            result->payloads[0]);
    }
    fixture->shards_total = status == KITH_OK ? result->coverage.shards_total : 0;
    fixture->shards_answered = status == KITH_OK ? result->coverage.shards_answered : 0;
    answer(fixture, status, err);
}

static kith_status search_ask(
    api_fixture *fixture, const char *collection, const kith_api_search_call *given) {
    kith_err err;
    fixture_search_call own = {.call = *given, .link = {fixture}};
    own.call.call.arena = &fixture->arena;
    own.call.collection = collection;
    own.call.collection_bytes = strlen(collection);
    if (!own.call.field) own.call.field = "";
    own.call.done = search_done;
    return answer_wait(fixture, kith_api_search(fixture->api, &own.call, &err), &err);
}

typedef struct fixture_points_call {
    kith_api_points_call call;
    fixture_link link;
} fixture_points_call;

static void points_done(kith_api_points_call *call, kith_status status, const kith_schema *schema,
    const kith_api_point *points, uint32_t count, const kith_id *next, const kith_err *err) {
    (void)schema;
    api_fixture *fixture = ((fixture_points_call *)call)->link.fixture;
    kith_mutex_lock(&fixture->mutex);
    fixture->count = count;
    for (uint32_t i = 0; i < count && i < FIXTURE_REPLY_MAX; i++)
        fixture->ids[i] = points[i].id.number;
    fixture->payload[0] = 0;
    if (count && points[0].payload) {
        snprintf(fixture->payload, sizeof fixture->payload, "%.*s", (int)points[0].payload_bytes,
            points[0].payload);
    }
    if (count && points[0].vectors[0]) fixture->scores[0] = points[0].vectors[0][0];
    fixture->has_next = next != NULL;
    fixture->next = next ? next->number : 0;
    answer(fixture, status, err);
}

static kith_status points_ask(
    api_fixture *fixture, const char *collection, const kith_api_points_call *given, bool scroll) {
    kith_err err;
    fixture_points_call own = {.call = *given, .link = {fixture}};
    own.call.call.arena = &fixture->arena;
    own.call.collection = collection;
    own.call.collection_bytes = strlen(collection);
    own.call.done = points_done;
    kith_status status =
        scroll ? kith_api_scroll(fixture->api, &own.call, &err) : kith_api_get(fixture->api, &own.call, &err);
    return answer_wait(fixture, status, &err);
}

typedef struct fixture_count_call {
    kith_api_count_call call;
    fixture_link link;
} fixture_count_call;

static void count_done(kith_api_count_call *call, kith_status status, uint64_t count,
    const kith_api_coverage *coverage, const kith_err *err) {
    api_fixture *fixture = ((fixture_count_call *)call)->link.fixture;
    kith_mutex_lock(&fixture->mutex);
    fixture->number = count;
    fixture->shards_total = coverage->shards_total;
    fixture->shards_answered = coverage->shards_answered;
    answer(fixture, status, err);
}

static kith_status count_ask(api_fixture *fixture, const char *collection) {
    kith_err err;
    fixture_count_call own = {.link = {fixture}};
    own.call.call.arena = &fixture->arena;
    own.call.collection = collection;
    own.call.collection_bytes = strlen(collection);
    own.call.done = count_done;
    return answer_wait(fixture, kith_api_count(fixture->api, &own.call, &err), &err);
}

/* A test program uses some of them. */
#define FIXTURE_UNUSED                                                                                       \
    ((void)fixture_setup, (void)fixture_teardown, (void)collection_ask, (void)create, (void)upsert,          \
        (void)search_ask, (void)points_ask, (void)count_ask)

#endif
