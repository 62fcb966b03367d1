/* A search over several nodes, played by handlers of this test: what is merged, what is missing, and who gets an error.
 * Shard s answers one hit per query: id s, closeness -s; shards in `broken` answer CORRUPT, messages for `dead_node`
 * fail whole. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/codec/codec_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/query/query_fixture.h"

enum { NODES = 3, SHARDS = 7, QUERIES = 2 };

typedef struct search_fixture {
    query_fixture base;
    uint64_t broken;          /* a shard id, or 0 */
    uint64_t dead_node_shard; /* the message that asks for it fails; 0: none */
    kith_status dead_status;  /* like that */
    uint32_t messages;
    kith_query_search search;
} search_fixture;

static bool asks_for(const kith_codec_shard_search_request *request, uint64_t shard_id) {
    for (uint32_t i = 0; i < request->shard_count; i++) {
        if (request->shard_ids[i] == shard_id) return true;
    }
    return false;
}

static void node_answer(search_fixture *f, const kith_codec_shard_search_request *request, kith_buf *buf) {
    kith_hit hits[SHARDS];
    kith_codec_shard_status shards[SHARDS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->shard_count; i++) {
        bool broken = request->shard_ids[i] == f->broken;
        shards[i] = (kith_codec_shard_status){.shard_id = request->shard_ids[i],
            .status = broken ? KITH_CORRUPT : KITH_OK,
            .message = broken ? "segment x.seg is corrupt" : ""};
        if (broken) continue;
        hits[count].closeness = -(double)request->shard_ids[i];
        hits[count++].id = kith_id_of_number(request->shard_ids[i]);
    }
    kith_hits lists[QUERIES] = {{hits, count}, {hits, count}};
    kith_codec_shard_search_response response = {
        .query_count = QUERIES, .lists = lists, .shard_count = request->shard_count, .shards = shards};
    kith_codec_shard_search_response_encode(&response, buf);
}

static void handle_search(void *ctx, kith_transport_request *message) {
    search_fixture *f = ctx;
    kith_err err;
    kith_arena arena;
    kith_buf buf;
    kith_codec_shard_search_request request;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    assert_ok(
        kith_codec_shard_search_request_decode(message->bytes, message->byte_count, &arena, &request, &err),
        &err);
    kith_mutex_lock(&f->base.mutex);
    f->messages++;
    kith_mutex_unlock(&f->base.mutex);
    if (f->dead_node_shard && asks_for(&request, f->dead_node_shard)) {
        kith_status status = kith_err_set(&err, f->dead_status, "connection refused");
        kith_transport_reply(message, f->base.transport, status, NULL, 0, &err);
    } else {
        node_answer(f, &request, &buf);
        kith_transport_reply(message, f->base.transport, KITH_OK, buf.data, buf.bytes, NULL);
    }
    kith_buf_fini(&buf);
    kith_arena_fini(&arena);
}

static void search_done(kith_query_search *search, kith_status status, const kith_err *err) {
    search_fixture *f = (search_fixture *)(void *)((char *)search - offsetof(search_fixture, search));
    query_fixture_answer(&f->base, status, err);
}

static kith_status run_search(search_fixture *f, uint32_t k, bool strict) {
    static const float queries[QUERIES * 2] = {1, 2, 3, 4};
    f->messages = 0;
    f->search = (kith_query_search){
        .base = query_fixture_begin(&f->base),
        .queries = queries,
        .query_count = QUERIES,
        .k = k,
        .strict = strict,
        .done = search_done,
    };
    kith_query_search_start(&f->search);
    return query_fixture_wait(&f->base);
}

static int setup(void **state) {
    static const kith_node nodes[NODES] = {{.name = "north"}, {.name = "south"}, {.name = "west"}};
    search_fixture *f = kith_alloc_zero(sizeof *f);
    f->dead_status = KITH_UNAVAILABLE;
    query_fixture_init(&f->base, nodes, NODES, SHARDS, KITH_AM_SEARCH, handle_search, f);
    for (uint32_t i = 0; i < SHARDS; i++)
        f->base.map->entries[0]->shard_nodes[i] = (uint16_t)(i % NODES);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    search_fixture *f = *state;
    query_fixture_fini(&f->base);
    kith_free(f);
    return 0;
}

static void assert_hits(const search_fixture *f, const uint64_t *ids, uint32_t count) {
    assert_int_equal(f->search.hit_count, QUERIES * count);
    for (uint32_t query = 0; query < QUERIES; query++) {
        assert_int_equal(f->search.lists[query].count, count);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(f->search.lists[query].hits[i].id.number, ids[i]);
    }
}

static void test_query_search__merges_one_message_a_node(void **state) {
    search_fixture *f = *state;
    for (uint64_t round = 0; round < test_scaled(200); round++) {
        assert_int_equal(run_search(f, 5, true), KITH_OK);
        assert_int_equal(f->messages, NODES);
        assert_hits(f, (const uint64_t[]){20, 21, 22, 23, 24}, 5);
        assert_int_equal(f->search.coverage.shards_answered, SHARDS);
    }
}

static void test_query_search__a_broken_shard_is_named_and_strict_is_an_error(void **state) {
    search_fixture *f = *state;
    f->broken = 21;
    assert_int_equal(run_search(f, 3, false), KITH_OK);
    assert_hits(f, (const uint64_t[]){20, 22, 23}, 3);
    assert_int_equal(f->search.coverage.shards_answered, SHARDS - 1);
    assert_int_equal(f->search.coverage.missing[0].shard_id, 21);
    assert_string_equal(f->search.coverage.missing[0].node, "south");
    assert_string_equal(f->search.coverage.missing[0].reason, "segment x.seg is corrupt");
    assert_int_equal(run_search(f, 3, true), KITH_CORRUPT);
    assert_non_null(strstr(f->base.text, "1 of 7 shards"));
    assert_non_null(strstr(f->base.text, "shard 21 on node south"));
}

static void test_query_search__a_dead_node_misses_all_its_shards(void **state) {
    search_fixture *f = *state;
    f->dead_node_shard = 20; /* north: 20, 23, 26 */
    assert_int_equal(run_search(f, 10, false), KITH_OK);
    assert_hits(f, (const uint64_t[]){21, 22, 24, 25}, 4);
    assert_int_equal(f->search.coverage.shards_answered, SHARDS - 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(f->search.coverage.missing[i].shard_id, 20 + 3 * i);
        assert_int_equal(f->search.coverage.missing[i].status, KITH_UNAVAILABLE);
    }
    assert_int_equal(run_search(f, 10, true), KITH_UNAVAILABLE);
    assert_non_null(strstr(f->base.text, "connection refused"));
}

/* The caller has time left: it may try again, and is told so. */
static void test_query_search__a_node_taken_for_down_is_not_waited_for(void **state) {
    search_fixture *f = *state;
    f->dead_node_shard = 20;
    f->dead_status = KITH_DEADLINE;
    assert_int_equal(run_search(f, 10, true), KITH_DEADLINE);
    f->base.map->nodes[0].down = true;
    assert_int_equal(run_search(f, 10, true), KITH_UNAVAILABLE);
    assert_non_null(strstr(f->base.text, "taken for down"));
    assert_int_equal(run_search(f, 10, false), KITH_OK);
    assert_int_equal(f->search.coverage.shards_answered, SHARDS - 3);
}

/* No answer at all would look like an empty collection. */
static void test_query_search__no_answer_of_any_shard_is_an_error(void **state) {
    search_fixture *f = *state;
    for (uint32_t i = 0; i < SHARDS; i++)
        f->base.map->entries[0]->shard_nodes[i] = 2;
    f->dead_node_shard = 20;
    assert_int_equal(run_search(f, 10, false), KITH_UNAVAILABLE);
    assert_int_equal(f->messages, 1);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_query_search__merges_one_message_a_node),
        CASE(test_query_search__a_broken_shard_is_named_and_strict_is_an_error),
        CASE(test_query_search__a_dead_node_misses_all_its_shards),
        CASE(test_query_search__a_node_taken_for_down_is_not_waited_for),
        CASE(test_query_search__no_answer_of_any_shard_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
