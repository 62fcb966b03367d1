/* Nodes that prove themselves by certificate: who is let in, who is not and why, and that no signed frame can be changed or
 * repeated. */
#include <arpa/inet.h>
#include <sys/stat.h>

#include "tests/unit/transport/ucx/ucx_fixture.h"
#include "transport/ucx/transport_ucx_internal.h"

#define DAY_S        86400
#define PATHS_MAX    8u
#define PATH_BYTES   512u
#define CLUSTER_NAME "test"

typedef struct tls_fixture {
    conformance_fixture base;
    char *dir, *other_dir; /* of the cluster's CA, and of one with the same name that is not */
    char paths[PATHS_MAX][PATH_BYTES];
    uint32_t path_count;
} tls_fixture;

static const char *path_of(tls_fixture *fixture, const char *dir, const char *name) {
    assert_true(fixture->path_count < PATHS_MAX);
    char *path = fixture->paths[fixture->path_count++];
    snprintf(path, PATH_BYTES, "%s/%s", dir, name);
    return path;
}

/* Makes NAME's certificate in `ca_dir`; what it is checked against is the cluster's CA. */
static kith_transport_credentials credentials_make(
    tls_fixture *fixture, const kith_transport_certs_node *node) {
    kith_err err;
    char certificate[64], key[64];
    assert_ok(kith_transport_certs_create_node(node, &err), &err);
    snprintf(certificate, sizeof certificate, "%s.crt", node->name);
    snprintf(key, sizeof key, "%s.key", node->name);
    return (kith_transport_credentials){
        .ca_path = path_of(fixture, fixture->dir, "ca.crt"),
        .certificate_path = path_of(fixture, node->dir, certificate),
        .key_path = path_of(fixture, node->dir, key),
    };
}

static kith_transport_certs_node certificate_of(const tls_fixture *fixture, const char *name) {
    return (kith_transport_certs_node){
        .ca_dir = fixture->dir,
        .dir = fixture->dir,
        .name = name,
        .cluster = CLUSTER_NAME,
        .valid_from_s = -DAY_S,
        .valid_until_s = DAY_S,
    };
}

/* A server with a certificate for itself alone; no caller yet. */
static int setup_server(void **state) {
    kith_err err;
    tls_fixture *fixture = kith_alloc_zero(sizeof *fixture);
    ucx_fixture_init(&fixture->base);
    fixture->dir = test_dir_make();
    fixture->other_dir = test_dir_make();
    assert_ok(kith_transport_certs_create_ca(fixture->dir, CLUSTER_NAME, 10, &err), &err);
    assert_ok(kith_transport_certs_create_ca(fixture->other_dir, CLUSTER_NAME, 10, &err), &err);
    kith_transport_certs_node node = certificate_of(fixture, "server");
    node.node_id = &server_node;
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, server_node);
    options.credentials = &credentials;
    ucx_fixture_serve(&fixture->base, &options);
    conformance_register(&fixture->base);
    *state = fixture;
    return 0;
}

static void caller_start(tls_fixture *fixture, const kith_transport_credentials *credentials, bool mac_off) {
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, caller_node);
    options.credentials = credentials;
    options.mac_off = mac_off;
    ucx_fixture_call(&fixture->base, &options);
}

static int setup(void **state) {
    assert_int_equal(setup_server(state), 0);
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "caller");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, false);
    return 0;
}

static int teardown(void **state) {
    tls_fixture *fixture = *state;
    test_dir_remove(fixture->dir);
    test_dir_remove(fixture->other_dir);
    ucx_fixture_free(&fixture->base);
    return 0;
}

static void test_transport_ucx_tls__echoes_signed_bodies_of_every_size(void **state) {
    static const size_t sizes[] = {0, 1, 4096, 65536, 65537, 1 << 20, 8 << 20};
    tls_fixture *fixture = *state;
    uint8_t *bytes = kith_alloc_zero(8 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        conformance_call own;
        conformance_start(&fixture->base, &own, KITH_AM_SEARCH, bytes, sizes[i]);
        conformance_wait(&own);
        assert_int_equal(own.status, KITH_OK);
        assert_int_equal(own.reply.bytes, sizes[i]);
        kith_buf_fini(&own.reply);
    }
    kith_free(bytes);
}

/* --- who is not let in --- */

static void assert_not_let_in(tls_fixture *fixture, kith_status status, const char *text) {
    conformance_call own;
    ucx_test_call(&fixture->base, &own,
        &(kith_transport_call){.address = fixture->base.address, .kind = KITH_AM_SEARCH});
    assert_int_equal(own.status, status);
    if (!strstr(own.text, text)) fail_msg("'%s' is not in: %s", text, own.text);
    assert_int_equal(fixture->base.handled, 0);
}

static void test_transport_ucx_tls__caller_without_credentials(void **state) {
    tls_fixture *fixture = *state;
    caller_start(fixture, NULL, false);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "brought no credentials");
}

static void test_transport_ucx_tls__certificate_of_another_ca(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "stranger");
    node.ca_dir = node.dir = fixture->other_dir;
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, false);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "certificate is refused");
}

static void test_transport_ucx_tls__expired_certificate(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "expired");
    node.valid_until_s = -60;
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, false);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "certificate has expired");
}

static void test_transport_ucx_tls__certificate_of_another_node(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "third");
    node.node_id = &(kith_node_id){{3}};
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, false);
    assert_not_let_in(
        fixture, KITH_UNAUTHENTICATED, "has neither kith://test/node/01000000-0000-0000-0000-000000000000");
}

static void test_transport_ucx_tls__certificate_of_another_cluster(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "theirs");
    node.cluster = "theirs";
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, false);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "has neither kith://test/node/");
}

/* The other way round: the caller does not believe the server. */
static void test_transport_ucx_tls__caller_refuses_a_server_of_another_ca(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "caller");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    credentials.ca_path = path_of(fixture, fixture->other_dir, "ca.crt");
    caller_start(fixture, &credentials, false);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "certificate is refused");
}

static void test_transport_ucx_tls__both_sides_agree_on_signing(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_certs_node node = certificate_of(fixture, "caller");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, true);
    assert_not_let_in(fixture, KITH_UNAVAILABLE, "transport_mac must agree");
}

static void test_transport_ucx_tls__server_without_credentials(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_destroy(fixture->base.server);
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, server_node);
    ucx_fixture_serve(&fixture->base, &options);
    assert_not_let_in(fixture, KITH_UNAUTHENTICATED, "no credentials to prove itself");
}

static void test_transport_ucx_tls__unsigned_frames_when_both_want_it(void **state) {
    tls_fixture *fixture = *state;
    conformance_call own;
    kith_transport_certs_node node = certificate_of(fixture, "any");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    kith_transport_destroy(fixture->base.server);
    kith_transport_ucx_options options = ucx_test_options(fixture->base.env, server_node);
    options.credentials = &credentials;
    options.mac_off = true;
    ucx_fixture_serve(&fixture->base, &options);
    kith_transport_handle(
        fixture->base.server, KITH_AM_SEARCH, fixture->base.executor, conformance_echo, &fixture->base);
    caller_start(fixture, &credentials, true);
    ucx_test_call(&fixture->base, &own,
        &(kith_transport_call){.address = fixture->base.address, .kind = KITH_AM_SEARCH});
    assert_int_equal(own.status, KITH_OK);
}

/* --- a server that answers the hello and skips the handshake --- */

typedef struct false_server {
    ucp_context_h context;
    ucp_worker_h worker;
    ucp_listener_h listener;
    ucp_conn_request_h request; /* who dialled, to be accepted */
    ucp_ep_h ep;
    uint32_t requests; /* that came after its answer */
    bool mac;          /* what it says of itself */
} false_server;

static void false_dialled(ucp_conn_request_h request, void *arg) {
    ((false_server *)arg)->request = request;
}

static void false_sent(void *request, ucs_status_t status, void *arg) {
    (void)status;
    kith_free(arg);
    ucp_request_free(request);
}

static void false_welcome(false_server *own, ucp_ep_h ep) {
    struct {
        uint8_t head[KITH_AM_FRAME_HEAD_MAX], body[512];
    } *message = kith_alloc(sizeof *message);
    kith_buf body;
    kith_buf_init(&body);
    const kith_am_hello hello = {.version = KITH_AM_PROTOCOL_VERSION,
        .tls = true,
        .mac = own->mac,
        .node = server_node,
        .cluster = CLUSTER_NAME};
    kith_am_hello_encode(&hello, &body);
    memcpy(message->body, body.data, body.bytes);
    const kith_am_frame frame = {
        .type = KITH_AM_TYPE_HELLO_REPLY, .sequence = 1, .body_bytes = (uint32_t)body.bytes};
    size_t head_bytes = kith_am_frame_encode(&frame, message->head);
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
        .flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER,
        .cb.send = false_sent,
        .user_data = message,
    };
    void *request =
        ucp_am_send_nbx(ep, UCX_AM_ID, message->head, head_bytes, message->body, body.bytes, &param);
    if (!UCS_PTR_IS_PTR(request)) kith_free(message);
    kith_buf_fini(&body);
}

static ucs_status_t false_received(void *arg, const void *head, size_t head_bytes, void *data,
    size_t data_bytes, const ucp_am_recv_param_t *param) {
    false_server *own = arg;
    kith_am_frame frame;
    kith_err err;
    (void)data;
    assert_ok(kith_am_frame_decode(head, head_bytes, data_bytes, &frame, &err), &err);
    if (frame.type == KITH_AM_TYPE_HELLO) false_welcome(own, param->reply_ep);
    if (frame.type == KITH_AM_TYPE_REQUEST) own->requests++;
    return UCS_OK;
}

static void false_failed(void *arg, ucp_ep_h ep, ucs_status_t status) {
    (void)arg;
    (void)ep;
    (void)status;
}

static void false_open(false_server *own, char *address_out, size_t address_bytes) {
    struct sockaddr_in bound = {.sin_family = AF_INET};
    bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_AM};
    ucp_worker_params_t worker_params = {0};
    ucp_config_t *config;
    assert_int_equal(ucp_config_read(NULL, NULL, &config), UCS_OK);
    assert_int_equal(ucp_init(&params, config, &own->context), UCS_OK);
    ucp_config_release(config);
    assert_int_equal(ucp_worker_create(own->context, &worker_params, &own->worker), UCS_OK);
    ucp_am_handler_param_t handler = {
        .field_mask =
            UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG,
        .id = UCX_AM_ID,
        .cb = false_received,
        .arg = own,
    };
    assert_int_equal(ucp_worker_set_am_recv_handler(own->worker, &handler), UCS_OK);
    ucp_listener_params_t listener_params = {
        .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
        .sockaddr = {.addr = (const struct sockaddr *)&bound, .addrlen = sizeof bound},
        .conn_handler = {.cb = false_dialled, .arg = own},
    };
    assert_int_equal(ucp_listener_create(own->worker, &listener_params, &own->listener), UCS_OK);
    ucp_listener_attr_t attributes = {.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR};
    assert_int_equal(ucp_listener_query(own->listener, &attributes), UCS_OK);
    snprintf(address_out, address_bytes, "127.0.0.1:%u",
        ntohs(((const struct sockaddr_in *)&attributes.sockaddr)->sin_port));
}

static void false_progress(false_server *own) {
    ucp_worker_progress(own->worker);
    if (!own->request) return;
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
        .conn_request = own->request,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler.cb = false_failed,
    };
    own->request = NULL;
    assert_int_equal(ucp_ep_create(own->worker, &params, &own->ep), UCS_OK);
}

static void false_close(false_server *own) {
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
    void *request = ucp_ep_close_nbx(own->ep, &param);
    while (UCS_PTR_IS_PTR(request) && ucp_request_check_status(request) == UCS_INPROGRESS)
        ucp_worker_progress(own->worker);
    if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
    ucp_listener_destroy(own->listener);
    ucp_worker_destroy(own->worker);
    ucp_cleanup(own->context);
}

/* It gets no request, whether or not frames are to be signed. */
static void assert_false_server_gets_nothing(tls_fixture *fixture, bool mac) {
    false_server own = {.mac = mac};
    conformance_call call = {.fixture = &fixture->base};
    char address[32];
    kith_transport_certs_node node = certificate_of(fixture, "caller");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    caller_start(fixture, &credentials, !mac);
    false_open(&own, address, sizeof address);
    call.call = (kith_transport_call){.address = address, .kind = KITH_AM_SEARCH, .done = conformance_done};
    kith_transport_start(fixture->base.transport, &call.call);
    kith_mutex_lock(&fixture->base.mutex);
    while (call.done_count == 0) {
        kith_mutex_unlock(&fixture->base.mutex);
        false_progress(&own);
        kith_mutex_lock(&fixture->base.mutex);
    }
    kith_mutex_unlock(&fixture->base.mutex);
    false_close(&own);
    assert_int_equal(call.status, KITH_UNAVAILABLE);
    assert_non_null(strstr(call.text, "does not fit our hello"));
    assert_int_equal(own.requests, 0);
}

static void test_transport_ucx_tls__server_that_skips_the_handshake_is_not_believed(void **state) {
    assert_false_server_gets_nothing(*state, true);
}

static void test_transport_ucx_tls__nor_is_it_where_frames_are_not_signed(void **state) {
    assert_false_server_gets_nothing(*state, false);
}

/* --- the files --- */

static void test_transport_ucx_tls__keys_are_their_owners_alone(void **state) {
    tls_fixture *fixture = *state;
    kith_err err;
    struct stat info;
    assert_int_equal(stat(path_of(fixture, fixture->dir, "ca.key"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(path_of(fixture, fixture->dir, "server.key"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(kith_transport_certs_create_ca(fixture->dir, CLUSTER_NAME, 10, &err), KITH_EXISTS);
}

/* --- the handshake and the MAC, without a network --- */

typedef struct tls_pair {
    ucx_tls_context *context;
    ucx_tls *dialler, *accepter;
} tls_pair;

static void pair_shake_hands(tls_pair *pair) {
    bool dialler_done = false, accepter_done = false;
    kith_buf there, back;
    kith_err err;
    kith_buf_init(&there);
    kith_buf_init(&back);
    for (int i = 0; i < 4 && !(dialler_done && accepter_done); i++) {
        kith_buf_clear(&there);
        assert_ok(ucx_tls_step(pair->dialler, back.data, back.bytes, &there, &dialler_done, &err), &err);
        kith_buf_clear(&back);
        assert_ok(ucx_tls_step(pair->accepter, there.data, there.bytes, &back, &accepter_done, &err), &err);
    }
    assert_true(dialler_done);
    assert_true(accepter_done);
    kith_buf_fini(&there);
    kith_buf_fini(&back);
}

static void pair_init(tls_fixture *fixture, tls_pair *pair) {
    kith_err err;
    kith_transport_certs_node node = certificate_of(fixture, "any");
    kith_transport_credentials credentials = credentials_make(fixture, &node);
    assert_ok(ucx_tls_context_create(&credentials, CLUSTER_NAME, &pair->context, &err), &err);
    pair->dialler = ucx_tls_create(pair->context, false);
    pair->accepter = ucx_tls_create(pair->context, true);
    pair_shake_hands(pair);
}

static void pair_fini(tls_pair *pair) {
    ucx_tls_destroy(pair->dialler);
    ucx_tls_destroy(pair->accepter);
    ucx_tls_context_destroy(pair->context);
}

static void test_transport_ucx_tls__mac_covers_every_bit_and_the_place_in_the_order(void **state) {
    tls_fixture *fixture = *state;
    tls_pair pair;
    kith_err err;
    uint8_t head[KITH_AM_FRAME_HEADER_BYTES + 10] = {1, 2, 3}, body[100] = {4, 5, 6}, mac[16], second[16];
    pair_init(fixture, &pair);
    assert_ok(ucx_tls_make_keys(pair.dialler, "hello", 5, &err), &err);
    assert_ok(ucx_tls_make_keys(pair.accepter, "hello", 5, &err), &err);
    ucx_tls_sign(pair.dialler, 7, head, sizeof head, body, sizeof body, mac);
    assert_true(ucx_tls_verify(pair.accepter, 7, head, sizeof head, body, sizeof body, mac));
    assert_false(ucx_tls_verify(pair.accepter, 8, head, sizeof head, body, sizeof body, mac));
    assert_false(ucx_tls_verify(pair.accepter, 7, head, sizeof head, body, sizeof body - 1, mac));
    ucx_tls_sign(pair.accepter, 7, head, sizeof head, body, sizeof body, second);
    assert_memory_not_equal(mac, second, sizeof mac); /* each direction has its own key */
    for (size_t bit = 0; bit < 8 * sizeof head; bit++) {
        bool is_mac = bit / 8 >= KITH_AM_FRAME_SIGNED_BYTES && bit / 8 < KITH_AM_FRAME_HEADER_BYTES;
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(ucx_tls_verify(pair.accepter, 7, head, sizeof head, body, sizeof body, mac), is_mac);
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof body; bit++) {
        body[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(ucx_tls_verify(pair.accepter, 7, head, sizeof head, body, sizeof body, mac));
        body[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    pair_fini(&pair);
}

static void test_transport_ucx_tls__changed_hello_makes_other_keys(void **state) {
    tls_fixture *fixture = *state;
    tls_pair pair;
    kith_err err;
    uint8_t head[KITH_AM_FRAME_HEADER_BYTES] = {0}, mac[16];
    pair_init(fixture, &pair);
    assert_ok(ucx_tls_make_keys(pair.dialler, "hello", 5, &err), &err);
    assert_ok(ucx_tls_make_keys(pair.accepter, "hellO", 5, &err), &err);
    ucx_tls_sign(pair.accepter, 1, head, sizeof head, NULL, 0, mac);
    assert_false(ucx_tls_verify(pair.dialler, 1, head, sizeof head, NULL, 0, mac));
    pair_fini(&pair);
}

static void test_transport_ucx_tls__says_why_a_file_cannot_be_read(void **state) {
    tls_fixture *fixture = *state;
    kith_transport_credentials wrong = {.ca_path = "/nowhere/ca.crt"};
    ucx_tls_context *context;
    kith_err err;
    assert_int_equal(ucx_tls_context_create(&wrong, CLUSTER_NAME, &context, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "/nowhere/ca.crt: No such file or directory"));
    wrong.ca_path = path_of(fixture, fixture->dir, "ca.crt");
    wrong.certificate_path = "/nowhere/a.crt";
    assert_int_equal(ucx_tls_context_create(&wrong, CLUSTER_NAME, &context, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "/nowhere/a.crt: No such file or directory"));
    wrong.certificate_path = path_of(fixture, fixture->dir, "server.crt");
    wrong.key_path = wrong.certificate_path;
    assert_int_equal(ucx_tls_context_create(&wrong, CLUSTER_NAME, &context, &err), KITH_INVALID);
    assert_null(strstr(err.text, "unknown reason"));
    wrong.key_path = "/nowhere/a.key";
    assert_int_equal(ucx_tls_context_create(&wrong, CLUSTER_NAME, &context, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "/nowhere/a.key: No such file or directory"));
}

#define SERVER(test) cmocka_unit_test_setup_teardown(test, setup_server, teardown)
#define PAIR(test)   cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        PAIR(test_transport__every_call_is_done_once),
        PAIR(test_transport__cancel_reaches_the_handler_and_still_ends_in_done),
        PAIR(test_transport__failure_keeps_status_and_message),
        PAIR(test_transport_ucx_tls__echoes_signed_bodies_of_every_size),
        SERVER(test_transport_ucx_tls__caller_without_credentials),
        SERVER(test_transport_ucx_tls__certificate_of_another_ca),
        SERVER(test_transport_ucx_tls__expired_certificate),
        SERVER(test_transport_ucx_tls__certificate_of_another_node),
        SERVER(test_transport_ucx_tls__certificate_of_another_cluster),
        SERVER(test_transport_ucx_tls__caller_refuses_a_server_of_another_ca),
        SERVER(test_transport_ucx_tls__both_sides_agree_on_signing),
        PAIR(test_transport_ucx_tls__server_without_credentials),
        SERVER(test_transport_ucx_tls__unsigned_frames_when_both_want_it),
        SERVER(test_transport_ucx_tls__server_that_skips_the_handshake_is_not_believed),
        SERVER(test_transport_ucx_tls__nor_is_it_where_frames_are_not_signed),
        SERVER(test_transport_ucx_tls__keys_are_their_owners_alone),
        SERVER(test_transport_ucx_tls__mac_covers_every_bit_and_the_place_in_the_order),
        SERVER(test_transport_ucx_tls__changed_hello_makes_other_keys),
        SERVER(test_transport_ucx_tls__says_why_a_file_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
