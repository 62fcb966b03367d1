/* Requests while shards change hands, on virtual time: nodes are played, and the map changes when the test says. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "host/api/api.h"
#include "host/base/alloc.h"
#include "host/base/log.h"
#include "host/codec/codec_internal.h"
#include "host/meta/meta.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "transport/transport.h"

#define MS_NS UINT64_C(1000000)

enum { NODES = 3, SHARDS = 2, SHARD_FIRST = 20, CALLS_MAX = 256 };

typedef struct play_call {
    kith_timer timer;
    struct fixture *own;
    kith_transport_call *call;
} play_call;

typedef struct fixture {
    kith_transport transport; /* first */
    kith_meta meta;
    sim_env *sim;
    kith_env *env;
    kith_executor *executor;
    kith_api *api;
    kith_arena arena;
    uint64_t version;
    kith_status says[NODES]; /* OK: it answers */
    bool is_frozen[NODES];
    uint32_t asked[NODES], written[SHARDS], refreshed, proposed, not_found;
    play_call calls[CALLS_MAX];
    uint32_t call_count;
    kith_api_write_call write;
    kith_api_search_call search;
    kith_api_collection_call collection;
    bool done;
    kith_status status;
    char text[KITH_ERR_BYTES_MAX];
    uint32_t changed, token_count, shards_answered;
    uint32_t hit_count;   /* of each search that is answered */
    size_t answered_heap; /* bytes of it when one was answered to the client */
} fixture;

static fixture *of_meta(kith_meta *meta) {
    return (fixture *)(void *)((char *)meta - offsetof(fixture, meta));
}

/* --- the nodes --- */

static void answer_write(fixture *own, const kith_transport_call *call, kith_buf *buf) {
    kith_codec_shard_write_request request;
    kith_arena arena;
    kith_err err;
    kith_arena_init(&arena);
    assert_ok(
        kith_codec_shard_write_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    own->written[request.shard_id - SHARD_FIRST]++;
    kith_codec_shard_write_response response = {
        .shard_id = request.shard_id, .epoch = 2, .sequence = 7, .points_changed = 1};
    kith_codec_shard_write_response_encode(&response, buf);
    kith_arena_fini(&arena);
}

static void answer_search(const fixture *own, const kith_transport_call *call, kith_buf *buf) {
    kith_codec_shard_search_request request;
    kith_codec_shard_status shards[SHARDS];
    kith_hit *hits = kith_alloc_zero((own->hit_count + 1) * sizeof *hits);
    kith_hits list = {.hits = hits, .count = own->hit_count};
    for (uint32_t i = 0; i < own->hit_count; i++)
        hits[i] = (kith_hit){.id = kith_id_of_number(i), .closeness = -(double)i};
    kith_arena arena;
    kith_err err;
    kith_arena_init(&arena);
    assert_ok(
        kith_codec_shard_search_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    for (uint32_t i = 0; i < request.shard_count; i++)
        shards[i] = (kith_codec_shard_status){.shard_id = request.shard_ids[i], .message = ""};
    kith_codec_shard_search_response_encode(
        &(kith_codec_shard_search_response){
            .query_count = 1, .lists = &list, .shard_count = request.shard_count, .shards = shards},
        buf);
    kith_arena_fini(&arena);
    kith_free(hits);
}

static void call_due(kith_task *task) {
    play_call *one = (play_call *)(void *)((char *)task - offsetof(play_call, timer.task));
    fixture *own = one->own;
    kith_status status = own->says[one->call->node.bytes[0] - 1];
    kith_err err;
    kith_buf buf;
    kith_buf_init(&buf);
    if (kith_env_now_ns(own->env) >= one->call->deadline_ns) status = KITH_DEADLINE;
    if (status != KITH_OK) (void)kith_err_set(&err, status, "not now");
    if (status == KITH_OK && one->call->kind == KITH_AM_WRITE)
        answer_write(own, one->call, &buf);
    else if (status == KITH_OK)
        answer_search(own, one->call, &buf);
    one->call->done(one->call, status, buf.data, buf.bytes, &err);
    kith_buf_fini(&buf);
}

static void played_call(kith_transport *transport, kith_transport_call *call) {
    fixture *own = (fixture *)transport;
    assert_true(own->call_count < CALLS_MAX);
    play_call *one = &own->calls[own->call_count++];
    uint32_t node = call->node.bytes[0] - 1u;
    own->asked[node]++;
    one->own = own;
    one->call = call;
    one->timer.task.run = call_due;
    one->timer.executor = own->executor;
    one->timer.due_ns = own->is_frozen[node] ? call->deadline_ns : kith_env_now_ns(own->env) + MS_NS / 10;
    kith_timer_start(&one->timer);
}

static void played_cancel(kith_transport *transport, kith_transport_call *call) {
    (void)transport;
    (void)call;
}

static const kith_transport_ops played_transport = {.call = played_call, .cancel = played_cancel};

/* --- the map --- */

static void wait_run(kith_task *task) {
    kith_meta_wait *wait = (kith_meta_wait *)(void *)((char *)task - offsetof(kith_meta_wait, task));
    of_meta(wait->meta)->refreshed++;
    wait->done(wait, KITH_OK, NULL);
}

static void played_wait(kith_meta *meta, kith_meta_wait *wait) {
    wait->meta = meta;
    wait->task.run = wait_run;
    kith_executor_post(of_meta(meta)->executor, &wait->task);
}

static void played_propose(kith_meta *meta, kith_meta_proposal *proposal) {
    static const kith_collection collection = {.id = 1, .name = "c"};
    bool is_drop = proposal->command.kind == KITH_CODEC_META_DROP_COLLECTION;
    if (is_drop) assert_int_equal(proposal->command.collection.id, 1);
    of_meta(meta)->proposed++;
    if (of_meta(meta)->not_found > 0) {
        kith_err err;
        of_meta(meta)->not_found--;
        proposal->done(proposal, kith_err_set(&err, KITH_NOT_FOUND, "not that one"), NULL, false, &err);
        return;
    }
    proposal->done(proposal, KITH_OK, &collection, is_drop, NULL);
}

static bool played_serves_all(const kith_meta *meta) {
    (void)meta;
    return true;
}

static const kith_meta_ops played_meta = {
    .wait = played_wait, .propose = played_propose, .serves_all = played_serves_all};

static void map_destroy(void *map) {
    kith_meta_map_release(map);
}

/* Shard 0 is on nodes `primary` and 3, shard 1 on node 3; with one copy on `primary` and on 3. */
static kith_meta_map *map_make(fixture *own, uint32_t primary, uint32_t copies) {
    kith_node nodes[NODES];
    for (uint32_t i = 0; i < NODES; i++) {
        nodes[i] = (kith_node){.number = i + 1, .role = KITH_NODE_DATA, .id = {{(uint8_t)(i + 1)}}};
        snprintf(nodes[i].name, sizeof nodes[i].name, "data-%u", i + 1);
    }
    uint32_t other = primary == 1 ? 2 : 1;
    kith_meta_shard shards[SHARDS] = {
        {.epoch = primary, .replica_count = (uint8_t)copies, .in_sync = 1, .replicas = {primary, other}},
        {.epoch = 1, .replica_count = 1, .in_sync = 1, .replicas = {3}}};
    kith_meta_collection collection = {.collection = {.id = 1,
                                           .name = "c",
                                           .shard_id_first = SHARD_FIRST,
                                           .shard_count = SHARDS,
                                           .replication_factor = copies,
                                           .min_in_sync = copies},
        .shards = shards};
    collection.collection.schema.field_count = 1;
    collection.collection.schema.fields[0] =
        (kith_field){.dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    const kith_meta_collection *collections[] = {&collection};
    return kith_meta_map_create(++own->version, nodes, NODES, collections, 1, NULL);
}

static void map_change(fixture *own, uint32_t primary, uint32_t copies) {
    kith_hazard_publish(own->meta.maps, map_make(own, primary, copies));
}

/* --- the fixture --- */

static int setup(void **state) {
    kith_err err;
    fixture *own = kith_alloc_zero(sizeof *own);
    kith_log_configure(KITH_LOG_ERROR, KITH_LOG_LOGFMT, NULL, NULL);
    own->transport.ops = &played_transport;
    own->meta = (kith_meta){.ops = &played_meta, .is_remote = true};
    own->sim = sim_env_create(test_seed(3));
    own->env = sim_env_kith(own->sim);
    kith_arena_init(&own->arena);
    assert_ok(kith_executor_create(own->env, "test", 1, &own->executor, &err), &err);
    own->meta.maps = kith_hazard_create(map_make(own, 1, 2), map_destroy);
    own->api = kith_api_create(&(kith_api_options){
        .env = own->env,
        .meta = &own->meta,
        .transport = &own->transport,
        .executor = own->executor,
        .message_bytes_max = 1 << 20,
        .limits = {.search_timeout_ns = 5000 * MS_NS,
            .write_timeout_ns = 10000 * MS_NS,
            .slow_search_ns = UINT64_MAX,
            .reads_max = 10,
            .write_bytes_max = 1 << 20},
    });
    *state = own;
    return 0;
}

static int teardown(void **state) {
    fixture *own = *state;
    kith_executor_destroy(own->executor);
    kith_api_destroy(own->api); /* asserts that nothing is in flight */
    kith_hazard_destroy(own->meta.maps);
    kith_arena_fini(&own->arena);
    sim_env_destroy(own->sim);
    kith_free(own);
    return 0;
}

static void written(kith_api_write_call *call, kith_status status, uint32_t changed,
    const kith_api_token *tokens, uint32_t token_count, const kith_err *err) {
    fixture *own = (fixture *)(void *)((char *)call - offsetof(fixture, write));
    (void)tokens;
    assert_false(own->done);
    snprintf(own->text, sizeof own->text, "%s", status == KITH_OK ? "" : err->text);
    own->done = true;
    own->status = status;
    own->changed = changed;
    own->token_count = token_count;
}

static size_t heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void searched(kith_api_search_call *call, kith_status status, const kith_api_search_result *result,
    const kith_err *err) {
    fixture *own = (fixture *)(void *)((char *)call - offsetof(fixture, search));
    (void)err;
    assert_false(own->done);
    own->done = true;
    own->status = status;
    own->shards_answered = result ? result->coverage.shards_answered : 0;
    own->answered_heap = heap_bytes();
}

/* A delete of points of both shards: ids 1 .. 8. */
static void write_begin(fixture *own, uint64_t number) {
    static kith_id ids[8];
    kith_err err;
    for (uint64_t i = 0; i < 8; i++)
        ids[i] = kith_id_of_number(i + 1);
    own->write = (kith_api_write_call){.call.arena = &own->arena,
        .collection = "c",
        .collection_bytes = 1,
        .ids = ids,
        .point_count = 8,
        .done = written};
    if (number) own->write.request_id = (kith_request_id){.client = {1}, .number = number};
    assert_ok(kith_api_delete(own->api, &own->write, &err), &err);
}

static void search_begin(fixture *own, bool strict) {
    static const float query[2] = {1, 2};
    kith_err err;
    own->search = (kith_api_search_call){.call.arena = &own->arena,
        .collection = "c",
        .collection_bytes = 1,
        .field = "",
        .queries = (const uint8_t *)query,
        .queries_bytes = sizeof query,
        .k = own->hit_count ? own->hit_count : 3,
        .strict = strict,
        .done = searched};
    assert_ok(kith_api_search(own->api, &own->search, &err), &err);
}

/* --- writes --- */

static void test_api_again__a_write_waits_for_the_new_primary(void **state) {
    fixture *own = *state;
    static const kith_status statuses[] = {
        KITH_UNAVAILABLE, KITH_STALE_MAP, KITH_CLOSED, KITH_UNKNOWN_OUTCOME};
    for (uint64_t i = 0; i < 4; i++) {
        uint32_t before = own->written[1];
        own->done = false;
        own->call_count = 0;
        memset(own->asked, 0, sizeof own->asked);
        own->says[0] = statuses[i];
        map_change(own, 1, 2);
        write_begin(own, i + 1);
        sim_env_run_for(own->sim, 3000 * MS_NS);
        assert_false(own->done);
        map_change(own, 2, 2);
        sim_env_run_for(own->sim, 500 * MS_NS);
        assert_true(own->done);
        assert_int_equal(own->status, KITH_OK);
        assert_int_equal(own->changed, 2);
        assert_int_equal(own->token_count, 2);
        assert_in_range(own->asked[0], 5, 20);
        assert_int_equal(own->written[1], before + 1); /* what is done is not asked for again */
    }
}

static void test_api_again__a_frozen_primary_is_given_up(void **state) {
    fixture *own = *state;
    own->is_frozen[0] = true;
    write_begin(own, 1);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    map_change(own, 2, 2);
    sim_env_run_for(own->sim, 1500 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
}

/* It may have been done: only the client knows whether twice is once. */
static void test_api_again__a_write_without_an_id_is_not_repeated(void **state) {
    fixture *own = *state;
    own->says[0] = KITH_UNAVAILABLE;
    write_begin(own, 0);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_UNAVAILABLE);
    assert_int_equal(own->asked[0], 1);
}

static void test_api_again__one_copy_has_no_new_primary_to_wait_for(void **state) {
    fixture *own = *state;
    map_change(own, 1, 1);
    own->says[0] = KITH_UNAVAILABLE;
    write_begin(own, 1);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_UNAVAILABLE);
    own->done = false;
    own->says[0] = KITH_STALE_MAP;
    write_begin(own, 2);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_STALE_MAP);
    assert_int_equal(own->asked[0], 3);
}

static void test_api_again__a_write_ends_by_its_deadline(void **state) {
    fixture *own = *state;
    own->says[0] = KITH_UNAVAILABLE;
    write_begin(own, 1);
    sim_env_run_for(own->sim, 10001 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_UNAVAILABLE);
    assert_true(own->asked[0] < 50);
    assert_int_equal(own->written[1], 1);
}

/* The first attempt may have reached the others; that there is no room now says nothing of it. */
static void test_api_again__a_refusal_does_not_hide_an_attempt_before_it(void **state) {
    fixture *own = *state;
    own->is_frozen[0] = true;
    write_begin(own, 1);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    own->is_frozen[0] = false;
    own->says[0] = KITH_BUSY;
    sim_env_run_for(own->sim, 1500 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_UNKNOWN_OUTCOME);
    assert_non_null(strstr(own->text, "not now; an attempt before this may have been carried out"));
    own->done = false;
    write_begin(own, 2); /* refused at once: for certain nothing was done */
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_BUSY);
}

static void test_api_again__a_stopped_server_repeats_nothing(void **state) {
    fixture *own = *state;
    own->says[0] = KITH_UNAVAILABLE;
    write_begin(own, 1);
    sim_env_run_for(own->sim, 50 * MS_NS);
    kith_api_stop(own->api);
    sim_env_run_for(own->sim, 500 * MS_NS);
    assert_true(own->done);
}

/* --- reads --- */

static void test_api_again__a_search_during_a_hand_over_is_whole(void **state) {
    fixture *own = *state;
    own->says[0] = KITH_STALE_MAP;
    search_begin(own, false);
    sim_env_run_for(own->sim, 5 * MS_NS);
    assert_false(own->done);
    map_change(own, 2, 2);
    sim_env_run_for(own->sim, 200 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->shards_answered, SHARDS);
}

/* One that lasts is answered without the shard, soon; a strict one waits longer. */
static void test_api_again__a_search_is_answered_without_a_shard_that_stays_away(void **state) {
    fixture *own = *state;
    own->says[0] = KITH_UNAVAILABLE;
    search_begin(own, false);
    sim_env_run_for(own->sim, 200 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->shards_answered, 1);
    own->done = false;
    own->call_count = 0;
    search_begin(own, true);
    sim_env_run_for(own->sim, 4500 * MS_NS); /* two failovers, one after the other */
    assert_false(own->done);
    map_change(own, 2, 2);
    sim_env_run_for(own->sim, 500 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
}

/* One of many tries takes no more memory than the second. */
static void test_api_again__results_of_a_try_go_with_it(void **state) {
    fixture *own = *state;
    enum { HITS = 16384, HIT_BYTES = 64 };
    own->hit_count = HITS;
    own->says[0] = KITH_UNAVAILABLE;
    size_t before = heap_bytes();
    search_begin(own, true);
    sim_env_run_for(own->sim, 4500 * MS_NS);
    assert_false(own->done);
    assert_true(own->asked[2] >= 10);
    map_change(own, 2, 2);
    sim_env_run_for(own->sim, 500 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_true(own->answered_heap - before < 4 * 2 * HITS * HIT_BYTES);
}

/* --- collections --- */

static void collection_done(kith_api_collection_call *call, kith_status status,
    const kith_api_collection_info *infos, uint32_t count, const kith_err *err) {
    fixture *own = (fixture *)(void *)((char *)call - offsetof(fixture, collection));
    (void)infos;
    (void)err;
    assert_false(own->done);
    own->done = true;
    own->status = status;
    own->changed = count;
}

static void collection_begin(
    fixture *own, kith_status (*start)(kith_api *api, kith_api_collection_call *call, kith_err *err)) {
    kith_err err;
    own->done = false;
    own->collection = (kith_api_collection_call){.call.arena = &own->arena,
        .name = "c",
        .name_bytes = 1,
        .missing_ok = true,
        .replication_factor = 2,
        .shard_count = SHARDS,
        .done = collection_done};
    own->collection.schema.field_count = 1;
    own->collection.schema.fields[0] =
        (kith_field){.dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    assert_ok(start(own->api, &own->collection, &err), &err);
}

/* Another query node has created it a moment ago. */
static void test_api_again__a_collection_is_missing_only_where_the_newest_map_lacks_it(void **state) {
    fixture *own = *state;
    const kith_node node = {.number = 1, .role = KITH_NODE_DATA};
    kith_hazard_publish(own->meta.maps, kith_meta_map_create(++own->version, &node, 1, NULL, 0, NULL));
    collection_begin(own, kith_api_collection_delete);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->changed, 0);
    collection_begin(own, kith_api_collection_delete);
    map_change(own, 1, 2);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->proposed, 1);
    assert_int_equal(own->changed, 1);
}

/* It was dropped and created again elsewhere. */
static void test_api_again__a_collection_of_the_same_name_is_dropped(void **state) {
    fixture *own = *state;
    own->not_found = 1;
    collection_begin(own, kith_api_collection_delete);
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_int_equal(own->changed, 1);
    assert_int_equal(own->proposed, 2);
    own->not_found = 2; /* once is enough */
    collection_begin(own, kith_api_collection_delete);
    own->collection.missing_ok = false;
    sim_env_run_for(own->sim, 100 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_NOT_FOUND);
    assert_int_equal(own->proposed, 4);
}

/* This node's map may be older than a change that another one was told is made. */
static void test_api_again__whether_a_change_is_needed_is_the_leaders_to_say(void **state) {
    fixture *own = *state;
    own->says[0] = own->says[1] = own->says[2] = KITH_UNAVAILABLE; /* statistics */
    collection_begin(own, kith_api_collection_create);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_true(own->collection.existed);
    assert_int_equal(own->proposed, 1);
    collection_begin(own, kith_api_collection_update);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->status, KITH_OK);
    assert_false(own->collection.changed);
    assert_int_equal(own->proposed, 2);
}

static void update_begin(fixture *own, uint32_t replication_factor, uint32_t min_in_sync) {
    kith_err err;
    own->done = false;
    own->collection = (kith_api_collection_call){.call.arena = &own->arena,
        .name = "c",
        .name_bytes = 1,
        .replication_factor = replication_factor,
        .min_in_sync = min_in_sync,
        .done = collection_done};
    assert_ok(kith_api_collection_update(own->api, &own->collection, &err), &err);
}

/* What is not said is as the leader knows it; it lowers min_in_sync to fewer copies. */
static void test_api_again__an_update_is_judged_by_what_it_says(void **state) {
    fixture *own = *state;
    own->says[0] = own->says[1] = own->says[2] = KITH_UNAVAILABLE; /* statistics */
    update_begin(own, 1, 0);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    assert_true(own->done);
    update_begin(own, 0, 3);
    sim_env_run_for(own->sim, 1000 * MS_NS);
    assert_true(own->done);
    assert_int_equal(own->proposed, 2);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(test_api_again__##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_write_waits_for_the_new_primary),
        CASE(a_frozen_primary_is_given_up),
        CASE(a_write_without_an_id_is_not_repeated),
        CASE(one_copy_has_no_new_primary_to_wait_for),
        CASE(a_write_ends_by_its_deadline),
        CASE(a_refusal_does_not_hide_an_attempt_before_it),
        CASE(a_stopped_server_repeats_nothing),
        CASE(a_search_during_a_hand_over_is_whole),
        CASE(a_search_is_answered_without_a_shard_that_stays_away),
        CASE(results_of_a_try_go_with_it),
        CASE(whether_a_change_is_needed_is_the_leaders_to_say),
        CASE(a_collection_of_the_same_name_is_dropped),
        CASE(an_update_is_judged_by_what_it_says),
        CASE(a_collection_is_missing_only_where_the_newest_map_lacks_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
