/* Questions about shards with several replicas, on virtual time, over a transport whose nodes this test plays: they answer
 * soon, late, never, in part, or refuse. Whatever they do, each shard is in an answer once or missing once, and it is
 * missing only where no replica that may answer does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "host/cluster/route.h"
#include "host/codec/codec_internal.h"
#include "host/query/query.h"
#include "host/query/query_plan.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"

#define MS_NS UINT64_C(1000000)

enum { NODES_MAX = 6, SHARDS_MAX = 12, SHARD_FIRST = 20, SHARD_POINTS = 3, CALLS_MAX = 4096 };

typedef enum behaviour { ANSWERS, IS_LATE, IS_FROZEN, REFUSES, REFUSES_SHARDS, BEHAVIOURS } behaviour;

typedef struct play_call {
    kith_timer timer;
    struct fixture *f;
    kith_transport_call *call;
    uint32_t node;
    bool ended;
} play_call;

typedef struct fixture {
    kith_transport transport; /* first: the calls come with it */
    kith_rng rng;
    sim_env *sim;
    kith_env *env;
    kith_executor *executor;
    kith_query_load *load;
    kith_arena arena;
    kith_meta_map *map;
    kith_meta_entry *entry;
    uint32_t node_count, shard_count;
    kith_node nodes[NODES_MAX];
    behaviour plays[NODES_MAX];
    uint64_t delay_ns[NODES_MAX];
    kith_status refusal;
    uint32_t stale_number; /* of the node that has older points in shard 0; 0: none */
    double stale_closer;   /* than they are now */
    kith_id points[SHARDS_MAX][SHARD_POINTS];
    play_call *calls[CALLS_MAX];
    uint32_t call_count, cancelled_count, in_flight;
    uint32_t done_count;
    kith_status status;
    kith_query_search search;
    kith_query_count count;
    kith_query_get get;
    kith_query_scroll scroll;
} fixture;

/* --- the nodes --- */

static uint32_t index_of(uint64_t shard_id) {
    assert_in_range(shard_id, SHARD_FIRST, SHARD_FIRST + SHARDS_MAX - 1);
    return (uint32_t)(shard_id - SHARD_FIRST);
}

static double closeness_of(const kith_id *id) {
    return -(double)(id->number * 2654435761u % 1000);
}

static double closer_by(const fixture *f, uint32_t shard, bool is_stale) {
    return shard == 0 && is_stale ? f->stale_closer : 0;
}

static int hit_order(const void *a, const void *b) {
    return kith_hit_compare(a, b);
}

/* Of a node that refuses some shards: the odd ones. */
static bool refuses(const fixture *f, uint32_t node, uint32_t shard) {
    return f->plays[node] == REFUSES_SHARDS && shard % 2 == 1;
}

static void answer_search(fixture *f, uint32_t node, const kith_transport_call *call, kith_buf *buf) {
    kith_err err;
    kith_codec_shard_search_request request;
    kith_arena arena;
    kith_arena_init(&arena);
    assert_ok(
        kith_codec_shard_search_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    kith_hit hits[SHARDS_MAX * SHARD_POINTS];
    kith_codec_shard_status shards[SHARDS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < request.shard_count; i++) {
        uint32_t shard = index_of(request.shard_ids[i]);
        shards[i] = (kith_codec_shard_status){.shard_id = request.shard_ids[i], .message = ""};
        if (refuses(f, node, shard)) {
            shards[i].status = f->refusal;
            shards[i].message = "not this one";
            continue;
        }
        double closer = closer_by(f, shard, node + 1 == f->stale_number);
        for (uint32_t p = 0; p < SHARD_POINTS; p++) {
            hits[count++] = (kith_hit){
                .id = f->points[shard][p], .closeness = closeness_of(&f->points[shard][p]) + closer};
        }
    }
    qsort(hits, count, sizeof *hits, hit_order);
    if (count > request.k) count = request.k;
    kith_hits list = {hits, count};
    kith_codec_shard_search_response_encode(
        &(kith_codec_shard_search_response){
            .query_count = 1, .lists = &list, .shard_count = request.shard_count, .shards = shards},
        buf);
    kith_arena_fini(&arena);
}

static void answer_count(fixture *f, uint32_t node, const kith_transport_call *call, kith_buf *buf) {
    kith_err err;
    kith_codec_shard_count_request request;
    kith_arena arena;
    kith_arena_init(&arena);
    assert_ok(
        kith_codec_shard_count_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    kith_codec_shard_stats stats[SHARDS_MAX] = {0};
    for (uint32_t i = 0; i < request.shard_count; i++) {
        bool refused = refuses(f, node, index_of(request.shard_ids[i]));
        stats[i].health = (kith_codec_shard_status){.shard_id = request.shard_ids[i],
            .status = refused ? f->refusal : KITH_OK,
            .message = refused ? "not this one" : ""};
        stats[i].points = refused ? 0 : SHARD_POINTS;
    }
    kith_codec_shard_count_response_encode(
        &(kith_codec_shard_count_response){.shards = stats, .shard_count = request.shard_count}, buf);
    kith_arena_fini(&arena);
}

/* Get and scroll; false: refused. */
static bool answer_read(fixture *f, uint32_t node, const kith_transport_call *call, kith_buf *buf) {
    kith_err err;
    kith_codec_shard_read_request request;
    kith_arena arena;
    kith_arena_init(&arena);
    assert_ok(
        kith_codec_shard_read_request_decode(call->bytes, call->byte_count, &arena, &request, &err), &err);
    uint32_t shard = index_of(request.shard_id);
    kith_codec_shard_point points[SHARD_POINTS];
    uint32_t count = 0;
    for (uint32_t p = 0; p < SHARD_POINTS; p++) {
        bool asked = request.kind == KITH_CODEC_READ_SCROLL;
        for (uint32_t i = 0; i < request.id_count; i++)
            asked |= kith_id_compare(&request.ids[i], &f->points[shard][p]) == 0;
        if (asked) points[count++] = (kith_codec_shard_point){.id = f->points[shard][p], .sequence = 1};
    }
    bool refused = refuses(f, node, shard);
    kith_codec_shard_read_response response = {.points = points, .count = count};
    if (!refused) kith_codec_shard_read_response_encode(&response, &f->entry->collection.schema, buf);
    kith_arena_fini(&arena);
    return !refused;
}

static void call_end(play_call *own, kith_status status, const kith_buf *reply, const char *text) {
    kith_err err;
    if (own->ended) return;
    own->ended = true;
    own->f->in_flight--;
    if (status != KITH_OK) kith_err_set(&err, status, "%s", text);
    own->call->done(own->call, status, reply ? reply->data : NULL, reply ? reply->bytes : 0, &err);
}

static void call_answer(play_call *own) {
    fixture *f = own->f;
    kith_buf buf;
    kith_buf_init(&buf);
    bool is_whole = true;
    if (own->call->kind == KITH_AM_SEARCH)
        answer_search(f, own->node, own->call, &buf);
    else if (own->call->kind == KITH_AM_COUNT)
        answer_count(f, own->node, own->call, &buf);
    else
        is_whole = answer_read(f, own->node, own->call, &buf);
    if (is_whole)
        call_end(own, KITH_OK, &buf, NULL);
    else
        call_end(own, f->refusal, NULL, "not this one");
    kith_buf_fini(&buf);
}

static void call_due(kith_task *task) {
    play_call *own = (play_call *)(void *)((char *)task - offsetof(play_call, timer.task));
    if (own->ended) return;
    uint64_t now_ns = kith_env_now_ns(own->f->env);
    if (now_ns >= own->call->deadline_ns)
        call_end(own, KITH_DEADLINE, NULL, "deadline exceeded");
    else if (own->f->plays[own->node] == REFUSES)
        call_end(own, own->f->refusal, NULL, "connection refused");
    else
        call_answer(own);
}

static void play_start(kith_transport *transport, kith_transport_call *call) {
    fixture *f = (fixture *)transport;
    play_call *own = kith_alloc_zero(sizeof *own);
    assert_true(f->call_count < CALLS_MAX);
    f->calls[f->call_count++] = own;
    f->in_flight++;
    own->f = f;
    own->call = call;
    own->node = call->node.bytes[0] - 1u;
    call->impl[0] = own;
    uint64_t due_ns = kith_env_now_ns(f->env) + f->delay_ns[own->node];
    bool is_frozen = f->plays[own->node] == IS_FROZEN;
    own->timer.task.run = call_due;
    own->timer.executor = f->executor;
    own->timer.due_ns = is_frozen || due_ns > call->deadline_ns ? call->deadline_ns : due_ns;
    kith_timer_start(&own->timer);
}

static void play_cancelled(kith_task *task) {
    play_call *own = (play_call *)(void *)((char *)task - offsetof(play_call, timer.task));
    call_end(own, KITH_CANCELLED, NULL, "cancelled by the caller");
}

static void play_cancel(kith_transport *transport, kith_transport_call *call) {
    fixture *f = (fixture *)transport;
    play_call *own = call->impl[0];
    if (own->ended || !kith_timer_cancel(&own->timer)) return;
    f->cancelled_count++;
    own->timer.task.run = play_cancelled;
    kith_executor_post(f->executor, &own->timer.task);
}

/* --- fixture --- */

static int setup(void **state) {
    static const kith_transport_ops ops = {.call = play_start, .cancel = play_cancel};
    kith_err err;
    fixture *f = kith_alloc_zero(sizeof *f);
    f->transport.ops = &ops;
    uint64_t seed = test_seed(17);
    kith_rng_init(&f->rng, seed);
    f->sim = sim_env_create(seed);
    f->env = sim_env_kith(f->sim);
    assert_ok(kith_executor_create(f->env, "queries", 1, &f->executor, &err), &err);
    f->load = kith_query_load_create(f->env);
    kith_arena_init(&f->arena);
    *state = f;
    return 0;
}

static void calls_forget(fixture *f) {
    assert_int_equal(f->in_flight, 0);
    for (uint32_t i = 0; i < f->call_count; i++)
        kith_free(f->calls[i]);
    f->call_count = f->cancelled_count = 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    calls_forget(f);
    kith_meta_map_release(f->map);
    kith_arena_fini(&f->arena);
    kith_query_load_destroy(f->load);
    kith_executor_destroy(f->executor);
    sim_env_destroy(f->sim);
    kith_free(f);
    return 0;
}

/* Points whose ids belong to each shard. */
static void points_make(fixture *f) {
    uint32_t counts[SHARDS_MAX] = {0}, full = 0;
    for (uint64_t number = 1; full < f->shard_count; number++) {
        kith_id id = kith_id_of_number(number);
        uint32_t shard = kith_route_shard(f->entry, &id);
        if (counts[shard] == SHARD_POINTS) continue;
        f->points[shard][counts[shard]++] = id;
        full += counts[shard] == SHARD_POINTS;
    }
}

static void map_make(fixture *f, const kith_meta_shard *shards) {
    kith_collection collection = {
        .id = 5, .name = "c", .shard_count = f->shard_count, .shard_id_first = SHARD_FIRST};
    collection.replication_factor = 2;
    collection.schema.field_count = 1;
    collection.schema.fields[0] = (kith_field){.dim = 2, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    const kith_meta_collection stored = {.collection = collection, .shards = (kith_meta_shard *)shards};
    const kith_meta_collection *collections[] = {&stored};
    kith_meta_map_release(f->map);
    f->map = kith_meta_map_create(1, f->nodes, f->node_count, collections, 1, NULL);
    f->entry = f->map->entries[0];
    points_make(f);
}

static void nodes_make(fixture *f, uint32_t node_count) {
    f->node_count = node_count;
    for (uint32_t i = 0; i < node_count; i++) {
        f->nodes[i] = (kith_node){.number = i + 1, .id = {{(uint8_t)(i + 1)}}};
        snprintf(f->nodes[i].name, sizeof f->nodes[i].name, "node-%u", i + 1);
        f->plays[i] = ANSWERS;
        f->delay_ns[i] = MS_NS / 10;
    }
    f->refusal = KITH_UNAVAILABLE;
}

/* Shards on nodes by turns: shard s on nodes s, s + 1 .. (mod node_count), all in sync. */
static void map_even(fixture *f, uint32_t shard_count, uint32_t width) {
    kith_meta_shard shards[SHARDS_MAX] = {0};
    f->shard_count = shard_count;
    for (uint32_t s = 0; s < shard_count; s++) {
        shards[s] = (kith_meta_shard){.epoch = 1, .replica_count = (uint8_t)width};
        shards[s].in_sync = (uint8_t)((1u << width) - 1);
        for (uint32_t r = 0; r < width; r++)
            shards[s].replicas[r] = 1 + (s + r) % f->node_count;
    }
    map_make(f, shards);
}

/* --- asking --- */

static void answered(fixture *f, kith_status status) {
    f->done_count++;
    f->status = status;
}

static void search_done(kith_query_search *search, kith_status status, const kith_err *err) {
    (void)err;
    answered((fixture *)(void *)((char *)search - offsetof(fixture, search)), status);
}

static void count_done(kith_query_count *count, kith_status status, const kith_err *err) {
    (void)err;
    answered((fixture *)(void *)((char *)count - offsetof(fixture, count)), status);
}

static void get_done(kith_query_get *get, kith_status status, const kith_err *err) {
    (void)err;
    answered((fixture *)(void *)((char *)get - offsetof(fixture, get)), status);
}

static void scroll_done(kith_query_scroll *scroll, kith_status status, const kith_err *err) {
    (void)err;
    answered((fixture *)(void *)((char *)scroll - offsetof(fixture, scroll)), status);
}

static kith_query_base base_of(fixture *f, kith_read_consistency read) {
    calls_forget(f);
    kith_arena_reset(&f->arena);
    f->done_count = 0;
    return (kith_query_base){
        .env = f->env,
        .transport = &f->transport,
        .map = f->map,
        .entry = f->entry,
        .arena = &f->arena,
        .deadline_ns = kith_env_now_ns(f->env) + 2000 * MS_NS,
        .executor = f->executor,
        .load = f->load,
        .read = read,
    };
}

/* Until it is answered; how long that took. */
static uint64_t answer_await(fixture *f) {
    uint64_t began_ns = kith_env_now_ns(f->env);
    while (f->done_count == 0) {
        assert_true(kith_env_now_ns(f->env) - began_ns < 10000 * MS_NS);
        sim_env_run_for(f->sim, MS_NS / 20);
    }
    uint64_t took_ns = kith_env_now_ns(f->env) - began_ns;
    assert_int_equal(f->in_flight, 0); /* it ends with its request, whose memory it has */
    sim_env_run_for(f->sim, MS_NS);
    assert_int_equal(f->done_count, 1);
    return took_ns;
}

static uint64_t run_search(fixture *f, kith_read_consistency read, uint32_t k) {
    static const float query[2] = {1, 2};
    f->search = (kith_query_search){
        .base = base_of(f, read), .queries = query, .query_count = 1, .k = k, .done = search_done};
    kith_query_search_start(&f->search);
    return answer_await(f);
}

static uint64_t run_count(fixture *f, kith_read_consistency read) {
    f->count = (kith_query_count){.base = base_of(f, read), .done = count_done};
    kith_query_count_start(&f->count);
    return answer_await(f);
}

static uint64_t run_get(fixture *f, kith_read_consistency read) {
    kith_query_base base = base_of(f, read);
    kith_id *ids = kith_arena_array(&f->arena, f->shard_count * SHARD_POINTS, sizeof *ids);
    memcpy(ids, f->points, f->shard_count * SHARD_POINTS * sizeof *ids);
    f->get = (kith_query_get){.base = base,
        .ids = ids,
        .id_count = f->shard_count * SHARD_POINTS,
        .bytes_max = 1 << 20,
        .done = get_done};
    kith_query_get_start(&f->get);
    return answer_await(f);
}

static uint64_t run_scroll(fixture *f, kith_read_consistency read) {
    f->scroll = (kith_query_scroll){
        .base = base_of(f, read), .limit = 1000, .bytes_max = 1 << 20, .done = scroll_done};
    kith_query_scroll_start(&f->scroll);
    return answer_await(f);
}

/* --- what must come --- */

static bool is_missing(const kith_query_coverage *coverage, uint32_t shard) {
    uint32_t times = 0;
    for (uint32_t i = 0; i < coverage->shards_total - coverage->shards_answered; i++)
        times += coverage->missing[i].shard_id == SHARD_FIRST + shard;
    assert_true(times <= 1);
    return times == 1;
}

/* The k best of the shards that are not missing, each once; of shard 0 as the node with older points has it, or the others. */
static void assert_hits_of(const fixture *f, uint32_t k, bool is_stale) {
    kith_hit hits[SHARDS_MAX * SHARD_POINTS];
    uint32_t count = 0;
    for (uint32_t shard = 0; shard < f->shard_count; shard++) {
        if (is_missing(&f->search.coverage, shard)) continue;
        double closer = closer_by(f, shard, is_stale);
        for (uint32_t p = 0; p < SHARD_POINTS; p++) {
            hits[count++] = (kith_hit){
                .id = f->points[shard][p], .closeness = closeness_of(&f->points[shard][p]) + closer};
        }
    }
    qsort(hits, count, sizeof *hits, hit_order);
    if (count > k) count = k;
    assert_int_equal(f->search.hit_count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(kith_hit_compare(&f->search.lists[0].hits[i], &hits[i]), 0);
}

static void assert_hits(const fixture *f, uint32_t k) {
    assert_hits_of(f, k, false);
}

/* Some hit of shard 0 is as the node with older points has it. */
static bool hits_are_stale(const fixture *f) {
    for (uint32_t i = 0; i < f->search.hit_count; i++) {
        const kith_hit *hit = &f->search.lists[0].hits[i];
        if (hit->closeness != closeness_of(&hit->id)) return true;
    }
    return false;
}

static bool may_answer(const fixture *f, kith_read_consistency read, uint32_t shard, uint32_t replica) {
    if (f->entry->shard_replicas[shard * f->entry->replica_width + replica] == KITH_META_NODE_NONE)
        return false;
    if (read == KITH_READ_PRIMARY) return replica == 0;
    return read != KITH_READ_IN_SYNC || f->entry->shard_in_sync[shard] >> replica & 1;
}

/* Some replica that may answer does, soon enough for a share of the deadline. */
static bool is_answerable(const fixture *f, kith_read_consistency read, uint32_t shard) {
    for (uint32_t r = 0; r < f->entry->replica_width; r++) {
        if (!may_answer(f, read, shard, r)) continue;
        uint32_t node = f->entry->shard_replicas[shard * f->entry->replica_width + r];
        bool answers =
            f->plays[node] == ANSWERS || (f->plays[node] == REFUSES_SHARDS && !refuses(f, node, shard));
        if (answers) return true;
    }
    return false;
}

static bool are_answerable(const fixture *f, kith_read_consistency read) {
    for (uint32_t shard = 0; shard < f->shard_count; shard++) {
        if (!is_answerable(f, read, shard)) return false;
    }
    return true;
}

/* No message asks a replica that may not answer, and none is asked for a shard twice. */
static void assert_covered(
    const fixture *f, kith_read_consistency read, const kith_query_coverage *coverage) {
    assert_int_equal(coverage->shards_total, f->shard_count);
    for (uint32_t shard = 0; shard < f->shard_count; shard++) {
        if (is_answerable(f, read, shard)) assert_false(is_missing(coverage, shard));
    }
}

/* --- properties --- */

static void world_draw(fixture *f) {
    static const kith_status refusals[] = {KITH_UNAVAILABLE, KITH_STALE_MAP, KITH_CLOSED, KITH_CORRUPT};
    kith_meta_shard shards[SHARDS_MAX] = {0};
    nodes_make(f, 1 + (uint32_t)kith_rng_below(&f->rng, NODES_MAX));
    f->shard_count = 1 + (uint32_t)kith_rng_below(&f->rng, SHARDS_MAX);
    f->refusal = refusals[kith_rng_below(&f->rng, 4)];
    f->stale_number = (uint32_t)kith_rng_below(&f->rng, f->node_count + 1);
    f->stale_closer = 500;
    for (uint32_t n = 0; n < f->node_count; n++) {
        f->plays[n] = (behaviour)kith_rng_below(&f->rng, BEHAVIOURS);
        f->nodes[n].down = kith_rng_below(&f->rng, 6) == 0;
        f->delay_ns[n] = MS_NS / 10 + kith_rng_below(&f->rng, MS_NS);
        if (f->plays[n] == IS_LATE) f->delay_ns[n] = kith_rng_below(&f->rng, 3000 * MS_NS);
    }
    for (uint32_t s = 0; s < f->shard_count; s++) {
        uint32_t width = 1 + (uint32_t)kith_rng_below(&f->rng, f->node_count < 4 ? f->node_count : 4);
        uint32_t first = (uint32_t)kith_rng_below(&f->rng, f->node_count);
        shards[s] = (kith_meta_shard){.epoch = 1, .replica_count = (uint8_t)width};
        shards[s].in_sync = (uint8_t)((kith_rng_next(&f->rng) & ((1u << width) - 1)) | 1);
        for (uint32_t r = 0; r < width; r++)
            shards[s].replicas[r] = 1 + (first + r) % f->node_count;
    }
    map_make(f, shards);
}

static void round_check(fixture *f) {
    kith_read_consistency read = (kith_read_consistency)kith_rng_below(&f->rng, KITH_READ_TOKEN);
    uint32_t k = 1 + (uint32_t)kith_rng_below(&f->rng, SHARDS_MAX * SHARD_POINTS);
    bool whole = are_answerable(f, read);
    run_search(f, read, k);
    assert_covered(f, read, &f->search.coverage);
    if (f->status == KITH_OK) assert_hits_of(f, k, hits_are_stale(f));
    run_count(f, read);
    assert_covered(f, read, &f->count.coverage);
    assert_int_equal(f->count.points, f->count.coverage.shards_answered * SHARD_POINTS);
    run_get(f, read);
    if (whole) assert_int_equal(f->status, KITH_OK);
    for (uint32_t i = 0; f->status == KITH_OK && i < f->get.id_count; i++)
        assert_non_null(f->get.points[i]);
    run_scroll(f, read);
    if (whole) assert_int_equal(f->status, KITH_OK);
    if (f->status == KITH_OK) assert_int_equal(f->scroll.count, f->shard_count * SHARD_POINTS);
}

static void test_query_replicas__each_shard_once_whatever_fails(void **state) {
    fixture *f = *state;
    for (uint64_t round = 0; round < test_scaled(400); round++) {
        world_draw(f);
        round_check(f);
    }
}

/* --- cases --- */

static void test_query_replicas__another_replica_answers_for_one_that_refuses(void **state) {
    fixture *f = *state;
    nodes_make(f, 3);
    map_even(f, 12, 3);
    f->plays[1] = REFUSES;
    for (uint32_t round = 0; round < 50; round++) {
        run_search(f, KITH_READ_IN_SYNC, 36);
        assert_int_equal(f->status, KITH_OK);
        assert_int_equal(f->search.coverage.shards_answered, 12);
        assert_hits(f, 36);
    }
}

static void test_query_replicas__the_primary_alone_answers_primary_reads(void **state) {
    fixture *f = *state;
    nodes_make(f, 3);
    map_even(f, 3, 3);
    f->plays[1] = REFUSES;
    run_search(f, KITH_READ_PRIMARY, 9);
    assert_int_equal(f->call_count, 3);
    assert_int_equal(f->search.coverage.shards_answered, 2);
    assert_true(is_missing(&f->search.coverage, 1));
}

static void test_query_replicas__a_frozen_node_costs_a_share_of_the_time(void **state) {
    fixture *f = *state;
    nodes_make(f, 2);
    map_even(f, 4, 2);
    f->plays[0] = IS_FROZEN;
    for (uint32_t round = 0; round < 100; round++) {
        uint64_t took_ns = run_search(f, KITH_READ_IN_SYNC, 12);
        assert_int_equal(f->search.coverage.shards_answered, 4);
        assert_true(took_ns < 1010 * MS_NS);
    }
    assert_true(f->call_count <= 4);
}

/* Nobody left: it is missing, and why is said. */
static void test_query_replicas__no_replica_left_is_missing(void **state) {
    fixture *f = *state;
    nodes_make(f, 3);
    map_even(f, 3, 2);
    f->plays[0] = f->plays[1] = REFUSES; /* shard 0 is on both */
    run_search(f, KITH_READ_IN_SYNC, 9);
    assert_int_equal(f->status, KITH_OK);
    assert_int_equal(f->search.coverage.shards_answered, 2);
    assert_true(is_missing(&f->search.coverage, 0));
    assert_string_equal(f->search.coverage.missing[0].reason, "connection refused");
    f->plays[2] = REFUSES;
    run_search(f, KITH_READ_IN_SYNC, 9);
    assert_int_equal(f->status, KITH_UNAVAILABLE);
}

/* The node answers in time that a shard would have taken longer than it was waited for: that is not the caller's deadline. */
static void test_query_replicas__a_shard_late_on_a_node_taken_for_down_is_to_be_asked_again(void **state) {
    fixture *f = *state;
    nodes_make(f, 2);
    f->nodes[1].down = true;
    f->plays[1] = REFUSES_SHARDS;
    f->refusal = KITH_DEADLINE;
    f->shard_count = 2;
    map_make(f, (const kith_meta_shard[]){
                    {.epoch = 1, .replica_count = 1, .in_sync = 1, .replicas = {1}},
                    {.epoch = 1, .replica_count = 1, .in_sync = 1, .replicas = {2}},
                });
    run_search(f, KITH_READ_IN_SYNC, 6);
    assert_int_equal(f->search.coverage.shards_answered, 1);
    assert_int_equal(f->search.coverage.missing[0].status, KITH_UNAVAILABLE);
    assert_non_null(strstr(f->search.coverage.missing[0].reason, "taken for down"));
    f->nodes[1].down = false; /* waited for as long as the caller allows */
    map_make(f, (const kith_meta_shard[]){
                    {.epoch = 1, .replica_count = 1, .in_sync = 1, .replicas = {1}},
                    {.epoch = 1, .replica_count = 1, .in_sync = 1, .replicas = {2}},
                });
    run_search(f, KITH_READ_IN_SYNC, 6);
    assert_int_equal(f->search.coverage.missing[0].status, KITH_DEADLINE);
}

/* A late answer about two shards, one of which another replica has answered meanwhile. It was cut off at the k best of both,
 * so it counts for both: beside another answer for one of them, what was cut off of the other would be missing. */
static void test_query_replicas__a_late_answer_counts_where_nobody_else_has_answered(void **state) {
    fixture *f = *state;
    nodes_make(f, 3);
    f->shard_count = 2;
    f->nodes[1].down = f->nodes[2].down = true; /* asked last */
    f->plays[0] = IS_LATE;
    f->delay_ns[0] = 1500 * MS_NS;
    f->plays[2] = REFUSES;
    f->stale_number = 1;
    f->stale_closer = 10000; /* its k best of both are of shard 0 */
    map_make(f, (const kith_meta_shard[]){
                    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}},
                    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 3}},
                });
    for (uint32_t k = SHARD_POINTS; k <= 2 * SHARD_POINTS; k++) {
        run_search(f, KITH_READ_IN_SYNC, k);
        assert_int_equal(f->call_count, 3);
        assert_int_equal(f->cancelled_count, 0);
        assert_int_equal(f->search.coverage.shards_answered, 2);
        assert_hits_of(f, k, true);
    }
    run_count(f, KITH_READ_IN_SYNC);
    assert_int_equal(f->count.points, 2 * SHARD_POINTS);
}

/* The late answer is about shards 0 and 1, and shard 1 has come with shard 2: the two cannot be told apart, so shard 0 is
 * still missing. */
static void test_query_replicas__answers_that_overlap_are_not_torn_apart(void **state) {
    fixture *f = *state;
    nodes_make(f, 4);
    f->shard_count = 3;
    f->nodes[1].down = f->nodes[3].down = true; /* asked last */
    f->plays[0] = f->plays[2] = IS_LATE;
    f->delay_ns[0] = 1500 * MS_NS;
    f->delay_ns[2] = 1600 * MS_NS;
    f->plays[3] = REFUSES;
    f->stale_number = 1;
    f->stale_closer = 10000;
    map_make(f, (const kith_meta_shard[]){
                    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 4}},
                    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}},
                    {.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {3, 2}},
                });
    run_search(f, KITH_READ_IN_SYNC, SHARD_POINTS);
    assert_int_equal(f->call_count, 4);
    assert_int_equal(f->search.coverage.shards_answered, 2);
    assert_true(is_missing(&f->search.coverage, 0));
    assert_int_equal(f->search.coverage.missing[0].status, KITH_UNAVAILABLE);
    assert_hits(f, SHARD_POINTS);
}

/* A twentieth of the answers are late: a second replica is asked then, the first is cancelled, and no more than a twentieth
 * of all messages are extra. */
static void test_query_replicas__a_second_replica_is_asked_for_late_answers(void **state) {
    fixture *f = *state;
    enum { ROUNDS = 2000 };
    nodes_make(f, 3);
    map_even(f, 3, 3);
    uint32_t messages = 0, cancelled = 0, quick = 0, late = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t n = 0; n < 3; n++)
            f->delay_ns[n] = kith_rng_below(&f->rng, 100) < 3 ? 600 * MS_NS : MS_NS;
        uint64_t took_ns = run_search(f, KITH_READ_IN_SYNC, 9);
        assert_int_equal(f->search.coverage.shards_answered, 3);
        quick += took_ns < 100 * MS_NS;
        late += took_ns >= 600 * MS_NS;
        messages += f->call_count;
        cancelled += f->cancelled_count;
    }
    assert_true(cancelled > 0);
    assert_true(cancelled <= 16 + messages / 20);
    assert_true(quick >= ROUNDS - ROUNDS / 50);
    assert_true(late < ROUNDS / 100);
}

/* Copies that are idle share the work; a busy one gets less. */
static void test_query_replicas__load_goes_where_there_is_none(void **state) {
    fixture *f = *state;
    uint32_t asked[3] = {0};
    nodes_make(f, 3);
    map_even(f, 1, 3);
    f->delay_ns[0] = 8 * MS_NS;
    for (uint32_t round = 0; round < 300; round++) {
        run_count(f, KITH_READ_ANY);
        for (uint32_t i = 0; i < f->call_count; i++)
            asked[f->calls[i]->node]++;
    }
    assert_true(asked[0] < 30);
    assert_true(asked[1] > 60 && asked[2] > 60);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(test_query_replicas__##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(each_shard_once_whatever_fails),
        CASE(another_replica_answers_for_one_that_refuses),
        CASE(the_primary_alone_answers_primary_reads),
        CASE(a_frozen_node_costs_a_share_of_the_time),
        CASE(no_replica_left_is_missing),
        CASE(a_shard_late_on_a_node_taken_for_down_is_to_be_asked_again),
        CASE(a_late_answer_counts_where_nobody_else_has_answered),
        CASE(answers_that_overlap_are_not_torn_apart),
        CASE(a_second_replica_is_asked_for_late_answers),
        CASE(load_goes_where_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
