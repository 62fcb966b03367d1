/* Somebody who speaks UCX and is no node: nothing that it sends before a hello reaches a handler, it is closed, and others
 * are served on. The server is a process of its own: UCX 1.13 asserts when, of two workers of one process that open and
 * close many connections, one gets a late event of a descriptor that is now the other's (async.c). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <ucp/api/ucp.h>

#include "host/base/bytes.h"
#include "tests/unit/transport/ucx/ucx_peer_process.h"
#include "transport/am_frame.h"

#define AM_ID 1u /* of the transport's messages */

typedef struct stranger {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_ep_h ep;
    bool is_closed;
    uint32_t welcomes, refusals; /* hello replies that say yes, or no */
    uint32_t replies, busy;      /* to requests; of them, those that say BUSY */
} stranger;

typedef struct stranger_fixture {
    peer_fixture peer;
    stranger stranger;
} stranger_fixture;

static void stranger_failed(void *arg, ucp_ep_h ep, ucs_status_t status) {
    (void)ep;
    (void)status;
    ((stranger *)arg)->is_closed = true;
}

static ucs_status_t stranger_received(void *arg, const void *head, size_t head_bytes, void *data,
    size_t data_bytes, const ucp_am_recv_param_t *param) {
    stranger *own = arg;
    kith_am_frame frame;
    kith_err err;
    (void)data;
    (void)param;
    if (kith_am_frame_decode(head, head_bytes, data_bytes, &frame, &err) != KITH_OK) return UCS_OK;
    bool is_hello = frame.type == KITH_AM_TYPE_HELLO_REPLY, is_reply = frame.type == KITH_AM_TYPE_REPLY;
    own->welcomes += is_hello && frame.status == KITH_OK;
    own->refusals += is_hello && frame.status != KITH_OK;
    own->replies += is_reply;
    own->busy += is_reply && frame.status == KITH_BUSY;
    return UCS_OK;
}

static void stranger_open(stranger *own) {
    ucp_config_t *config;
    assert_int_equal(ucp_config_read(NULL, NULL, &config), UCS_OK);
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM};
    assert_int_equal(ucp_init(&params, config, &own->context), UCS_OK);
    ucp_config_release(config);
    ucp_worker_params_t worker_params = {0};
    assert_int_equal(ucp_worker_create(own->context, &worker_params, &own->worker), UCS_OK);
    ucp_am_handler_param_t handler = {
        .field_mask =
            UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = AM_ID,
        .cb = stranger_received,
        .arg = own,
    };
    assert_int_equal(ucp_worker_set_am_recv_handler(own->worker, &handler), UCS_OK);
}

static void stranger_dial(stranger *own, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
        .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
        .sockaddr = {.addr = (const struct sockaddr *)&address, .addrlen = sizeof address},
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = stranger_failed, .arg = own},
    };
    own->is_closed = false;
    own->welcomes = own->refusals = own->replies = own->busy = 0;
    assert_int_equal(ucp_ep_create(own->worker, &params, &own->ep), UCS_OK);
}

static void stranger_wait(stranger *own, void *request) {
    if (!UCS_PTR_IS_PTR(request)) return;
    while (ucp_request_check_status(request) == UCS_INPROGRESS)
        ucp_worker_progress(own->worker);
    ucp_request_free(request);
}

static void stranger_send(
    stranger *own, const void *head, size_t head_bytes, const void *body, size_t body_bytes) {
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER};
    stranger_wait(own, ucp_am_send_nbx(own->ep, AM_ID, head, head_bytes, body, body_bytes, &param));
}

static void stranger_send_frame(
    stranger *own, kith_am_frame frame, const void *body, size_t body_bytes, uint64_t sequence) {
    uint8_t head[KITH_AM_FRAME_HEAD_MAX];
    frame.body_bytes = (uint32_t)body_bytes;
    frame.sequence = sequence;
    stranger_send(own, head, kith_am_frame_encode(&frame, head), body, body_bytes);
}

static void stranger_hang_up(stranger *own) {
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    stranger_wait(own, ucp_ep_close_nbx(own->ep, &param));
}

static int setup(void **state) {
    stranger_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    conformance_fixture *base = &fixture->peer.base;
    ucx_fixture_init(base);
    peer_start(&fixture->peer, 0);
    kith_transport_ucx_options options = ucx_test_options(base->env, caller_node);
    ucx_fixture_call(base, &options);
    conformance_register(base);
    stranger_open(&fixture->stranger);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    stranger_fixture *fixture = *state;
    ucp_worker_destroy(fixture->stranger.worker);
    ucp_cleanup(fixture->stranger.context);
    peer_end(&fixture->peer);
    ucx_fixture_free(&fixture->peer.base);
    return 0;
}

static void dial(stranger_fixture *fixture) {
    stranger_dial(&fixture->stranger, (uint16_t)fixture->peer.port);
}

/* How many requests the peer's echo has handled. */
static uint32_t handled_count(stranger_fixture *fixture) {
    conformance_call own;
    conformance_start(&fixture->peer.base, &own, KITH_AM_COUNT, NULL, 0);
    conformance_wait(&own);
    assert_int_equal(own.status, KITH_OK);
    assert_int_equal(own.reply.bytes, 4);
    uint32_t count = kith_load_u32(own.reply.data);
    kith_buf_fini(&own.reply);
    return count;
}

static void assert_echoes(stranger_fixture *fixture) {
    conformance_call call;
    ucx_test_call(&fixture->peer.base, &call,
        &(kith_transport_call){.address = fixture->peer.address, .kind = KITH_AM_SEARCH});
    assert_int_equal(call.status, KITH_OK);
}

/* The stranger is hung up on within the hello's time-out and a bit, and a node is served as before. */
static void assert_closed(stranger_fixture *fixture) {
    stranger *own = &fixture->stranger;
    kith_env *env = fixture->peer.base.env;
    uint64_t began_ns = kith_env_now_ns(env);
    while (!own->is_closed && kith_env_now_ns(env) - began_ns < 20000 * MS)
        ucp_worker_progress(own->worker);
    assert_true(own->is_closed);
    stranger_hang_up(own);
    uint32_t handled_before = handled_count(fixture);
    assert_echoes(fixture);
    assert_int_equal(handled_count(fixture), handled_before + 1);
}

static void hello_body(kith_buf *body, const char *cluster, uint16_t version) {
    kith_am_hello hello = {.version = version, .node = {{7}}, .role = "data"};
    snprintf(hello.cluster, sizeof hello.cluster, "%s", cluster);
    kith_buf_init(body);
    kith_am_hello_encode(&hello, body);
}

static const kith_am_frame hello_frame = {.type = KITH_AM_TYPE_HELLO};
static const kith_am_frame search = {.type = KITH_AM_TYPE_REQUEST, .kind = KITH_AM_SEARCH, .call = 1};

static void test_transport_ucx_stranger__request_before_a_hello_reaches_nobody(void **state) {
    stranger_fixture *fixture = *state;
    dial(fixture);
    stranger_send_frame(&fixture->stranger, search, "x", 1, 1);
    assert_closed(fixture);
    assert_int_equal(handled_count(fixture), 1); /* the node's own */
}

static void test_transport_ucx_stranger__every_other_type_before_a_hello_is_closed(void **state) {
    stranger_fixture *fixture = *state;
    for (kith_am_type type = KITH_AM_TYPE_REPLY; type <= KITH_AM_TYPE_GOODBYE; type++) {
        kith_am_frame frame = {.type = type};
        frame.call = type == KITH_AM_TYPE_REPLY || type == KITH_AM_TYPE_CANCEL;
        dial(fixture);
        stranger_send_frame(&fixture->stranger, frame, NULL, 0, 1);
        assert_closed(fixture);
    }
}

static void test_transport_ucx_stranger__silence_is_closed_in_time(void **state) {
    stranger_fixture *fixture = *state;
    uint64_t began_ns = kith_env_now_ns(fixture->peer.base.env);
    dial(fixture);
    assert_closed(fixture);
    assert_true(kith_env_now_ns(fixture->peer.base.env) - began_ns < 5000 * MS);
}

static void test_transport_ucx_stranger__another_version_is_told_so(void **state) {
    stranger_fixture *fixture = *state;
    kith_buf body;
    dial(fixture);
    hello_body(&body, "test", 2);
    stranger_send_frame(&fixture->stranger, hello_frame, body.data, body.bytes, 1);
    kith_buf_fini(&body);
    assert_closed(fixture);
    assert_int_equal(fixture->stranger.refusals, 1);
}

static void test_transport_ucx_stranger__requests_after_a_refusal_reach_nobody(void **state) {
    stranger_fixture *fixture = *state;
    kith_buf body;
    dial(fixture);
    hello_body(&body, "theirs", KITH_AM_PROTOCOL_VERSION);
    stranger_send_frame(&fixture->stranger, hello_frame, body.data, body.bytes, 1);
    kith_buf_fini(&body);
    stranger_send_frame(&fixture->stranger, search, "x", 1, 2);
    hello_body(&body, "test", KITH_AM_PROTOCOL_VERSION);
    stranger_send_frame(&fixture->stranger, hello_frame, body.data, body.bytes, 3);
    kith_buf_fini(&body);
    assert_closed(fixture);
    assert_int_equal(handled_count(fixture), 1);
}

static void test_transport_ucx_stranger__repeated_frame_is_closed(void **state) {
    stranger_fixture *fixture = *state;
    kith_buf body;
    dial(fixture);
    hello_body(&body, "test", KITH_AM_PROTOCOL_VERSION);
    stranger_send_frame(&fixture->stranger, hello_frame, body.data, body.bytes, 1);
    stranger_send_frame(&fixture->stranger, search, "x", 1, 2);
    stranger_send_frame(&fixture->stranger, search, "x", 1, 2);
    kith_buf_fini(&body);
    assert_closed(fixture);
}

/* Begins as a node of the cluster does. */
static void introduce(stranger_fixture *fixture) {
    kith_buf body;
    dial(fixture);
    hello_body(&body, "test", KITH_AM_PROTOCOL_VERSION);
    stranger_send_frame(&fixture->stranger, hello_frame, body.data, body.bytes, 1);
    kith_buf_fini(&body);
    while (fixture->stranger.welcomes == 0)
        ucp_worker_progress(fixture->stranger.worker);
}

#define LONG_COUNT 8u
#define LONG_BYTES (20u << 20)

/* What a node may have at once, 64 MiB, counts from when it begins to come: here all are announced before any has come. */
static void test_transport_ucx_stranger__long_requests_that_come_at_once_are_bounded(void **state) {
    stranger_fixture *fixture = *state;
    stranger *own = &fixture->stranger;
    uint8_t heads[LONG_COUNT][KITH_AM_FRAME_HEAD_MAX], *body = kith_alloc_zero(LONG_BYTES);
    void *requests[LONG_COUNT];
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_RNDV};
    introduce(fixture);
    for (uint32_t i = 0; i < LONG_COUNT; i++) {
        kith_am_frame frame = {.type = KITH_AM_TYPE_REQUEST, .kind = KITH_AM_COUNT, .call = i + 1};
        frame.sequence = i + 2;
        frame.body_bytes = LONG_BYTES;
        size_t head_bytes = kith_am_frame_encode(&frame, heads[i]);
        requests[i] = ucp_am_send_nbx(own->ep, AM_ID, heads[i], head_bytes, body, LONG_BYTES, &param);
        assert_false(UCS_PTR_IS_ERR(requests[i]));
    }
    while (own->replies < LONG_COUNT)
        ucp_worker_progress(own->worker);
    assert_int_equal(own->busy, LONG_COUNT - 3);
    for (uint32_t i = 0; i < LONG_COUNT; i++)
        stranger_wait(own, requests[i]);
    stranger_hang_up(own);
    kith_free(body);
}

static void test_transport_ucx_stranger__random_frames_do_no_harm(void **state) {
    stranger_fixture *fixture = *state;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    for (uint64_t round = 0; round < test_scaled(15); round++) {
        uint8_t head[KITH_AM_FRAME_HEAD_MAX], body[200];
        kith_am_frame frame = {.type = (kith_am_type)(1 + kith_rng_below(&rng, 9))};
        size_t body_bytes = kith_rng_below(&rng, sizeof body);
        frame.body_bytes = (uint32_t)body_bytes;
        frame.sequence = 1;
        size_t head_bytes = kith_am_frame_encode(&frame, head);
        for (size_t i = 0; i < body_bytes; i++)
            body[i] = (uint8_t)kith_rng_next(&rng);
        for (uint64_t flips = kith_rng_below(&rng, 3); flips > 0; flips--)
            head[kith_rng_below(&rng, head_bytes)] ^= (uint8_t)kith_rng_next(&rng);
        if (kith_rng_below(&rng, 3) == 0) head_bytes = kith_rng_below(&rng, head_bytes);
        dial(fixture);
        stranger_send(&fixture->stranger, head, head_bytes, body, body_bytes);
        stranger_send_frame(&fixture->stranger, search, "x", 1, 2); /* nothing after it counts either */
        assert_closed(fixture);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__request_before_a_hello_reaches_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__every_other_type_before_a_hello_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__silence_is_closed_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__another_version_is_told_so, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__requests_after_a_refusal_reach_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__repeated_frame_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__long_requests_that_come_at_once_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_transport_ucx_stranger__random_frames_do_no_harm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
