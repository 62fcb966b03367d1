/* Gets and scrolls over several shards, played by a handler of this test: what is asked of the shards, that pages and
 * answers are whole, and that what is gathered at once is bounded. */
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/rng.h"
#include "host/cluster/route.h"
#include "host/codec/codec_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/unit/query/query_fixture.h"

enum { SHARDS = 16, POINTS = 2000, PAYLOAD_MAX = 900 };

/* What a point takes in a shard's count of bytes, beside its payload. */
#define POINT_BYTES sizeof(kith_codec_shard_point)

typedef struct read_fixture {
    query_fixture base;
    char payload[PAYLOAD_MAX + 1];
    uint32_t payload_bytes[POINTS]; /* of point i; in shard order below */
    uint64_t numbers[SHARDS][POINTS];
    uint32_t counts[SHARDS];
    uint32_t messages;
    uint64_t reply_bytes, asked_bytes; /* of one request's messages */
    kith_query_get get;
    kith_query_scroll scroll;
} read_fixture;

/* --- the shards --- */

typedef struct shard_answer {
    read_fixture *f;
    const kith_codec_shard_read_request *request;
    kith_codec_shard_point points[POINTS];
    kith_codec_shard_read_response response;
    size_t bytes;
} shard_answer;

/* False: it does not fit, the answer ends before it. */
static bool answer_add(shard_answer *answer, uint64_t number) {
    kith_codec_shard_read_response *response = &answer->response;
    uint32_t payload_bytes = answer->f->payload_bytes[number];
    answer->bytes += POINT_BYTES + payload_bytes;
    bool full = answer->request->kind == KITH_CODEC_READ_SCROLL && response->count == answer->request->limit;
    if (full || (response->count > 0 && answer->bytes > answer->request->bytes_max)) {
        response->has_next = true;
        response->next = kith_id_of_number(number);
        return false;
    }
    answer->points[response->count++] = (kith_codec_shard_point){.id = kith_id_of_number(number),
        .sequence = 1,
        .payload = answer->f->payload,
        .payload_bytes = payload_bytes};
    return true;
}

static void answer_get(shard_answer *answer) {
    for (uint32_t i = 0; i < answer->request->id_count; i++) {
        uint64_t number = answer->request->ids[i].number;
        if (number < POINTS && !answer_add(answer, number)) return;
    }
}

static void answer_scroll(shard_answer *answer, uint32_t shard) {
    for (uint32_t i = 0; i < answer->f->counts[shard]; i++) {
        uint64_t number = answer->f->numbers[shard][i];
        if (answer->request->has_from && number < answer->request->from.number) continue;
        if (!answer_add(answer, number)) return;
    }
}

static void handle_read(void *ctx, kith_transport_request *message) {
    read_fixture *f = ctx;
    kith_err err;
    kith_arena arena;
    kith_buf buf;
    kith_codec_shard_read_request request;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    assert_ok(
        kith_codec_shard_read_request_decode(message->bytes, message->byte_count, &arena, &request, &err),
        &err);
    shard_answer *answer = kith_alloc_zero(sizeof *answer);
    answer->f = f;
    answer->request = &request;
    answer->response.points = answer->points;
    if (request.kind == KITH_CODEC_READ_GET)
        answer_get(answer);
    else
        answer_scroll(answer, (uint32_t)(request.shard_id - QUERY_FIXTURE_SHARD_FIRST));
    kith_codec_shard_read_response_encode(
        &answer->response, &f->base.map->entries[0]->collection.schema, &buf);
    kith_mutex_lock(&f->base.mutex);
    f->messages++;
    f->asked_bytes += request.bytes_max;
    f->reply_bytes += buf.bytes;
    kith_mutex_unlock(&f->base.mutex);
    kith_transport_reply(message, f->base.transport, KITH_OK, buf.data, buf.bytes, NULL);
    kith_free(answer);
    kith_buf_fini(&buf);
    kith_arena_fini(&arena);
}

/* --- asking --- */

static void get_done(kith_query_get *get, kith_status status, const kith_err *err) {
    read_fixture *f = (read_fixture *)(void *)((char *)get - offsetof(read_fixture, get));
    query_fixture_answer(&f->base, status, err);
}

static void scroll_done(kith_query_scroll *scroll, kith_status status, const kith_err *err) {
    read_fixture *f = (read_fixture *)(void *)((char *)scroll - offsetof(read_fixture, scroll));
    query_fixture_answer(&f->base, status, err);
}

static kith_query_base request_begin(read_fixture *f) {
    f->messages = 0;
    f->asked_bytes = f->reply_bytes = 0;
    return query_fixture_begin(&f->base);
}

static kith_status run_scroll(read_fixture *f, const kith_id *from, uint32_t limit, size_t bytes_max) {
    f->scroll = (kith_query_scroll){.base = request_begin(f),
        .has_from = from != NULL,
        .limit = limit,
        .with_payload = true,
        .bytes_max = bytes_max,
        .done = scroll_done};
    if (from) f->scroll.from = *from;
    kith_query_scroll_start(&f->scroll);
    return query_fixture_wait(&f->base);
}

static kith_status run_get(read_fixture *f, const uint64_t *numbers, uint32_t count, size_t bytes_max) {
    kith_query_base base = request_begin(f);
    kith_id *ids = kith_arena_array(base.arena, count, sizeof *ids);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = kith_id_of_number(numbers[i]);
    f->get = (kith_query_get){.base = base,
        .ids = ids,
        .id_count = count,
        .with_payload = true,
        .bytes_max = bytes_max,
        .done = get_done};
    kith_query_get_start(&f->get);
    return query_fixture_wait(&f->base);
}

/* --- fixture --- */

static int setup(void **state) {
    static const kith_node nodes[1] = {{.name = "north"}};
    read_fixture *f = kith_alloc_zero(sizeof *f);
    query_fixture_init(&f->base, nodes, 1, SHARDS, KITH_AM_READ, handle_read, f);
    memset(f->payload, 'x', PAYLOAD_MAX);
    for (uint64_t number = 0; number < POINTS; number++) {
        kith_id id = kith_id_of_number(number);
        uint32_t shard = kith_route_shard(f->base.map->entries[0], &id);
        f->numbers[shard][f->counts[shard]++] = number;
        /* Those of some shards are wide, so that shares by number of ids do not fit. */
        f->payload_bytes[number] = shard % 4 == 0 ? PAYLOAD_MAX : (uint32_t)(number % 40);
    }
    *state = f;
    return 0;
}

static int teardown(void **state) {
    read_fixture *f = *state;
    query_fixture_fini(&f->base);
    kith_free(f);
    return 0;
}

/* --- scroll --- */

static void page_check(const read_fixture *f, uint64_t at, uint32_t limit, size_t bytes_max) {
    assert_in_range(f->scroll.count, 1, limit);
    size_t bytes = 0;
    for (uint32_t i = 0; i < f->scroll.count; i++) {
        assert_int_equal(f->scroll.points[i]->id.number, at + i);
        assert_int_equal(f->scroll.points[i]->payload_bytes, f->payload_bytes[at + i]);
        bytes += f->scroll.points[i]->payload_bytes;
    }
    assert_true(f->scroll.count == 1 || bytes <= bytes_max);
    assert_true(f->asked_bytes <= bytes_max);
    /* Each shard sends at least one point. */
    assert_true(f->reply_bytes <= bytes_max + SHARDS * (POINT_BYTES + PAYLOAD_MAX));
}

static void test_query_scroll__bounded_pages_are_every_point_once(void **state) {
    read_fixture *f = *state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (size_t bytes_max = 1; bytes_max < 10000000; bytes_max *= 10) {
        uint64_t at = 0;
        uint32_t pages = 0, limit = 1 + (uint32_t)kith_rng_below(&rng, 700);
        for (bool more = true; more; pages++) {
            kith_id from = kith_id_of_number(at);
            assert_int_equal(run_scroll(f, at ? &from : NULL, limit, bytes_max), KITH_OK);
            page_check(f, at, limit, bytes_max);
            at += f->scroll.count;
            more = f->scroll.has_next;
            if (more) assert_int_equal(f->scroll.next.number, at);
        }
        assert_int_equal(at, POINTS);
        print_message("%u pages of at most %u points and %zu bytes\n", pages, limit, bytes_max);
    }
}

/* --- get --- */

static void test_query_get__answers_are_whole_and_bounded_together(void **state) {
    read_fixture *f = *state;
    uint64_t numbers[1000];
    size_t wanted_bytes = 0;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint32_t i = 0; i < 1000; i++) {
        numbers[i] = kith_rng_below(&rng, POINTS + 500); /* some twice, some not there */
        if (numbers[i] < POINTS) wanted_bytes += POINT_BYTES + f->payload_bytes[numbers[i]];
    }
    for (size_t bytes_max = wanted_bytes / 4; bytes_max < 4 * wanted_bytes; bytes_max += wanted_bytes / 4) {
        kith_status status = run_get(f, numbers, 1000, bytes_max);
        assert_true(f->reply_bytes <= bytes_max + SHARDS * (POINT_BYTES + PAYLOAD_MAX));
        if (bytes_max >= wanted_bytes) assert_int_equal(status, KITH_OK);
        if (status != KITH_OK) {
            assert_int_equal(status, KITH_INVALID);
            assert_non_null(strstr(f->base.text, "ask for fewer"));
            continue;
        }
        print_message("%u messages for %zu of %zu bytes\n", f->messages, wanted_bytes, bytes_max);
        for (uint32_t i = 0; i < 1000; i++) {
            const kith_query_point *point = f->get.points[i];
            assert_int_equal(point != NULL, numbers[i] < POINTS);
            if (!point) continue;
            assert_int_equal(point->id.number, numbers[i]);
            assert_int_equal(point->payload_bytes, f->payload_bytes[numbers[i]]);
        }
    }
}

static void test_query_get__small_ones_are_one_message_a_shard(void **state) {
    read_fixture *f = *state;
    uint64_t numbers[100];
    for (uint32_t i = 0; i < 100; i++)
        numbers[i] = i;
    assert_int_equal(run_get(f, numbers, 100, 1 << 20), KITH_OK);
    assert_in_range(f->messages, 1, SHARDS);
    assert_true(f->asked_bytes <= 1 << 20);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_query_scroll__bounded_pages_are_every_point_once),
        CASE(test_query_get__answers_are_whole_and_bounded_together),
        CASE(test_query_get__small_ones_are_one_message_a_shard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
