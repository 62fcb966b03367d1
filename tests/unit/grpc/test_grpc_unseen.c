/* Answers from other threads: a call's own thread is not woken when they went out, and nobody misses anything by it. */
#include "tests/unit/grpc/grpc_fixture.h"

#include <pthread.h>

#include "host/grpc/grpc_internal.h"

#define COUNT     "/kith.v1.Points/Count"
#define OK_MS     20000u
#define SECOND_NS UINT64_C(1000000000)

static void count_request(grpc_fixture *fixture) {
    kith_codec_client_count_encode("c", KITH_READ_IN_SYNC, &fixture->request);
}

/* Holds the server's one thread at the begin of a call, while it is closed. */
typedef struct gate {
    atomic_uint held;
    atomic_bool is_closed;
} gate;

static void gate_pass(void *ctx) {
    gate *own = ctx;
    if (!atomic_load(&own->is_closed)) return;
    atomic_store(&own->held, 1);
    while (atomic_load(&own->is_closed)) {
    }
    atomic_store(&own->held, 0);
}

static void count_reply(void *ctx, const kith_grpc_reply *reply) {
    *(uint32_t *)ctx += reply->code == 0;
}

/* One call is answered, the next one keeps the thread from learning of it: the room of the first is free all the same. */
static void answer_then_hold(grpc_fixture *fixture, gate *own) {
    uint32_t answered = 0;
    count_request(fixture);
    assert_int_equal(grpc_fixture_call(fixture, COUNT, OK_MS), 0);
    atomic_store(&own->is_closed, true);
    count_request(fixture);
    kith_grpc_client_start(fixture->client,
        &(kith_grpc_request){.method = COUNT,
            .data = fixture->request.data,
            .bytes = fixture->request.bytes,
            .timeout_ms = OK_MS},
        count_reply, &answered);
    grpc_fixture_wait_value(fixture, &own->held, 1);
    uint64_t until_ns = kith_env_now_ns(fixture->env) + 10 * SECOND_NS;
    const _Atomic size_t *bytes = &fixture->server->admitted_bytes;
    while (atomic_load(bytes) > fixture->request.bytes)
        assert_true(kith_env_now_ns(fixture->env) < until_ns);
    atomic_store(&own->is_closed, false);
    while (answered == 0)
        kith_grpc_client_poll(fixture->client, 1000000);
    kith_buf_clear(&fixture->request);
}

static void test_grpc_unseen__room_is_free_once_an_answer_went_out(void **state) {
    FIXTURE_SETUP();
    gate own = {0};
    fixture->api->hook_ctx = &own;
    fixture->api->hook = gate_pass;
    for (int i = 0; i < 20; i++)
        answer_then_hold(fixture, &own);
    grpc_fixture_remove(fixture);
}

/* Several threads answer over one connection: one of them sends for all, and is told of the others' answers too. */
static void test_grpc_unseen__many_answers_at_once_leave_nothing(void **state) {
    FIXTURE_SETUP(.thread_count = 2);
    uint32_t answered = 0, started = 0;
    kith_executor_destroy(fixture->api->executor);
    assert_ok(kith_executor_create(fixture->env, "answers", 4, &fixture->api->executor, &fixture->err),
        &fixture->err);
    count_request(fixture);
    kith_grpc_request request = {
        .method = COUNT, .data = fixture->request.data, .bytes = fixture->request.bytes, .timeout_ms = OK_MS};
    for (uint64_t round = 0; round < test_scaled(50); round++) {
        for (int i = 0; i < 64; i++, started++)
            kith_grpc_client_start(fixture->client, &request, count_reply, &answered);
        while (answered < started)
            kith_grpc_client_poll(fixture->client, 1000000);
    }
    kith_grpc_client_destroy(fixture->client);
    fixture->client = NULL;
    /* A call that never came back to its thread would hold the stop for ever. */
    kith_grpc_server_stop(fixture->server, 10 * SECOND_NS);
    fixture->server = NULL;
    grpc_fixture_remove(fixture);
}

/* --- an event that came to another thread --- */

typedef struct stray {
    kith_grpc_tag tag;
    grpc_fixture *fixture;
    pthread_t begun_on, run_on;
    grpc_call *core;
    atomic_uint has_begun, has_run;
    bool ok;
} stray;

static void stray_run(kith_grpc_tag *tag, bool ok) {
    stray *own = (stray *)tag;
    own->run_on = pthread_self();
    own->ok = ok;
    atomic_store(&own->has_run, 1);
}

static void stray_begin(void *ctx) {
    stray *own = ctx;
    own->begun_on = pthread_self();
    own->core = own->fixture->server->threads[0].calls->core;
    grpc_call_ref(own->core);
    atomic_store(&own->has_begun, 1);
}

static void test_grpc_unseen__event_of_another_call_is_brought_to_its_thread(void **state) {
    FIXTURE_SETUP();
    stray own = {.tag.run = stray_run, .fixture = fixture};
    uint32_t answered = 0;
    fixture->api->mode = FAKE_HOLD;
    fixture->api->hook_ctx = &own;
    fixture->api->hook = stray_begin;
    count_request(fixture);
    kith_grpc_client_start(fixture->client,
        &(kith_grpc_request){.method = COUNT,
            .data = fixture->request.data,
            .bytes = fixture->request.bytes,
            .timeout_ms = OK_MS},
        count_reply, &answered);
    grpc_fixture_wait_value(fixture, &own.has_begun, 1);
    kith_grpc_call_carry(own.core, &own.tag, true);
    grpc_fixture_wait_value(fixture, &own.has_run, 1);
    assert_true(own.ok && pthread_equal(own.begun_on, own.run_on));
    grpc_call_unref(own.core);
    atomic_store(&fixture->api->released, true);
    while (answered == 0)
        kith_grpc_client_poll(fixture->client, 1000000);
    grpc_fixture_remove(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_unseen__room_is_free_once_an_answer_went_out),
        cmocka_unit_test(test_grpc_unseen__many_answers_at_once_leave_nothing),
        cmocka_unit_test(test_grpc_unseen__event_of_another_call_is_brought_to_its_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
