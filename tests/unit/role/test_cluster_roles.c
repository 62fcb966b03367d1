/* Coordinators, data and query nodes as kithd starts them, in one process: what they refuse, how they stop and come back,
 * and what is left when parts are missing. */
#include "tests/unit/role/cluster_fixture.h"

/* --- work --- */

static void points_expect(cluster *all, const char *name, uint64_t first, uint32_t count) {
    for (uint64_t id = first; id < first + count; id += 7) {
        int64_t found = nearest(all, name, id);
        if (found != (int64_t)id) fail_msg("point %llu: %s", (unsigned long long)id, all->text);
    }
}

static void assert_code(cluster *all, int code, int wanted) {
    if (code != wanted) fail_msg("code %d, not %d: %s", code, wanted, all->text);
}

static void test_cluster_roles__a_cluster_serves(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 4), 0);
    assert_code(&all, upsert(&all, "c", 1, 100), 0);
    points_expect(&all, "c", 1, 100);
    assert_int_equal(nearest(&all, "nosuch", 1), -1);
    assert_non_null(strstr(all.text, "does not exist"));
    assert_code(&all, drop(&all, "c"), 0);
    assert_int_equal(nearest(&all, "c", 1), -1);
    cluster_teardown(&all);
}

static void test_cluster_roles__each_node_comes_back(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 2), 0);
    for (uint32_t i = 0; i < all.count; i++) {
        assert_code(&all, upsert(&all, "c", 100 * i, 100), 0);
        node_stop(&all, i);
        node_start(&all, i);
        all_ready_wait(&all);
        points_expect(&all, "c", 0, 100 * (i + 1));
    }
    cluster_teardown(&all);
}

/* Three at once, twice: they find each other, and later their log. */
static void test_cluster_roles__coordinators_are_restarted_all_at_once(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 3);
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 2), 0);
    assert_code(&all, upsert(&all, "c", 0, 50), 0);
    for (uint32_t i = 0; i < 3; i++)
        node_stop(&all, i);
    points_expect(&all, "c", 0, 50);
    assert_code(&all, upsert(&all, "c", 50, 50), 0);
    for (uint32_t i = 0; i < 3; i++)
        node_start(&all, i);
    all_ready_wait(&all);
    assert_code(&all, create(&all, "d", 2), 0);
    points_expect(&all, "c", 0, 100);
    cluster_teardown(&all);
}

static void test_cluster_roles__stop_in_every_order(void **state) {
    (void)state;
    const uint32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    cluster all;
    cluster_setup(&all, 1);
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t j = 0; j < all.count; j++)
            node_start(&all, j);
        if (i % 2) all_ready_wait(&all); /* else in the middle of finding each other */
        for (uint32_t j = 0; j < 3; j++)
            node_stop(&all, orders[i][j]);
    }
    cluster_teardown(&all);
}

/* Each alone: nobody answers it. */
static void test_cluster_roles__stop_of_a_node_that_never_found_anyone(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 3);
    for (uint32_t i = 0; i < all.count; i++) {
        node_start(&all, i);
        assert_int_equal(ready_ask(&all, i), 503);
        node_stop(&all, i);
    }
    node_start(&all, 0);
    assert_int_equal(ready_ask(&all, 0), 503);
    assert_non_null(strstr(all.text, "waiting for the other coordinators"));
    cluster_teardown(&all);
}

/* --- a stop while something waits --- */

typedef struct creator {
    cluster all; /* a copy: the answer's text is its own */
    int code;
} creator;

static void create_run(void *ctx) {
    creator *own = ctx;
    own->code = create(&own->all, "late", 1);
}

/* A proposal that nobody takes, and a search for a collection that may have come: neither holds the stop up for long. */
static void test_cluster_roles__stop_while_a_proposal_waits(void **state) {
    (void)state;
    static creator own;
    kith_err err;
    kith_thread *thread;
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    node_stop(&all, 0);
    own.all = all;
    assert_ok(kith_thread_start(all.env, "creator", create_run, &own, &thread, &err), &err);
    for (int i = 0; i < 20; i++)
        pause_short(); /* likely on its way; if not, the stop refuses it */
    uint64_t begun_ns = kith_env_now_ns(all.env);
    node_stop(&all, query_of(&all));
    assert_true(kith_env_now_ns(all.env) - begun_ns < CLUSTER_CALL_MS * UINT64_C(1000000) / 2);
    kith_thread_join(thread);
    assert_int_not_equal(own.code, 0);
    cluster_teardown(&all);
}

/* --- starts that fail --- */

typedef struct refusal {
    const char *key; /* that the message names */
    const char *coordinators, *node_ca_file, *bind_address, *node_address;
    bool insecure;
} refusal;

static void test_cluster_roles__a_wrong_key_is_named(void **state) {
    (void)state;
    const refusal refusals[] = {
        {.key = "coordinators is empty", .coordinators = ""},
        {.key = "coordinators is empty", .coordinators = " , ,"},
        {.key = "coordinators: \"host\"", .coordinators = "host"},
        {.key = "coordinators: \":7442\"", .coordinators = ":7442"},
        {.key = "coordinators: \"a:0\"", .coordinators = "a:0"},
        {.key = "coordinators: \"a:65536\"", .coordinators = "a:65536"},
        {.key = "coordinators: \"a:1x\"", .coordinators = "a:1x"},
        {.key = "coordinators: \"a:1\" is listed twice", .coordinators = "a:1, b:1, a:1"},
        {.key = "coordinators: more than 9", .coordinators = "a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,b:1"},
        {.key = "node_ca_file", .node_ca_file = "/nonexistent/ca.pem"},
        {.key = "node_insecure", .bind_address = "0.0.0.0"},
        {.key = "192.0.2.1", .bind_address = "192.0.2.1", .insecure = true},
        {.key = "set node_address", .bind_address = "0.0.0.0", .insecure = true},
        {.key = "set node_address", .bind_address = "::", .insecure = true},
        {.key = "node_address 0.0.0.0:7442", .node_address = "0.0.0.0:7442"},
        {.key = "node_address [::]:7442", .node_address = "[::]:7442"},
    };
    cluster all;
    cluster_setup(&all, 1);
    for (uint32_t node = 0; node < all.count; node++) {
        for (uint32_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
            const refusal *wrong = &refusals[i];
            kith_config config = all.configs[node];
            kith_service *service;
            kith_err err = {.text = ""};
            if (wrong->coordinators)
                snprintf(config.coordinators, sizeof config.coordinators, "%s", wrong->coordinators);
            if (wrong->node_ca_file)
                snprintf(config.node_ca_file, sizeof config.node_ca_file, "%s", wrong->node_ca_file);
            if (wrong->bind_address)
                snprintf(config.bind_address, sizeof config.bind_address, "%s", wrong->bind_address);
            if (wrong->node_address)
                snprintf(config.node_address, sizeof config.node_address, "%s", wrong->node_address);
            config.node_insecure = wrong->insecure;
            kith_status status = kith_service_start(all.env, &config, &service, &err);
            if (status == KITH_OK) fail_msg("node %u starts where \"%s\" is wrong", node, wrong->key);
            if (!strstr(err.text, wrong->key)) fail_msg("%s: no \"%s\" in it", err.text, wrong->key);
        }
    }
    cluster_start(&all); /* nothing is left in the way */
    cluster_teardown(&all);
}

static int port_hold(uint32_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int handle = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(handle, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(handle, 1), 0);
    return handle;
}

/* The ports come last: everything that was started goes again. */
static void test_cluster_roles__a_port_in_use_undoes_the_start(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    for (uint32_t node = 0; node < all.count; node++) {
        for (uint32_t which = 0; which < 3; which++) {
            kith_config config = all.configs[node];
            kith_service *service;
            kith_err err;
            uint32_t port = port_take();
            char text[16];
            if (which == 2 && config.role != KITH_CONFIG_ROLE_QUERY) continue;
            int handle = port_hold(port);
            *(which == 0 ? &config.node_port : which == 1 ? &config.http_port : &config.grpc_port) = port;
            assert_int_not_equal(kith_service_start(all.env, &config, &service, &err), KITH_OK);
            snprintf(text, sizeof text, "%u", port);
            if (!strstr(err.text, text)) fail_msg("%s: no port %s in it", err.text, text);
            close(handle);
        }
    }
    cluster_start(&all);
    cluster_teardown(&all);
}

static void test_cluster_roles__a_folder_has_one_process(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    for (uint32_t node = 0; node < all.count; node++) {
        kith_service *service;
        kith_err err;
        kith_config config = all.configs[node];
        config.node_port = 0;
        assert_int_not_equal(kith_service_start(all.env, &config, &service, &err), KITH_OK);
        assert_non_null(strstr(err.text, "data_dir"));
    }
    all_ready_wait(&all);
    cluster_teardown(&all);
}

/* --- folders of others --- */

static void refused_as(cluster *all, uint32_t index, kith_config_role role, const char *text) {
    kith_service *service;
    kith_err err = {.text = ""};
    kith_config config = all->configs[index];
    config.role = role;
    config.node_port = 0;
    kith_status status = kith_service_start(all->env, &config, &service, &err);
    if (status != KITH_PRECONDITION || !strstr(err.text, text))
        fail_msg("%s: %s", kith_status_name(status), err.text);
}

static void test_cluster_roles__a_folder_keeps_its_role(void **state) {
    (void)state;
    static const char *const names[] = {"standalone", "coordinator", "data", "query"};
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 2), 0);
    assert_code(&all, upsert(&all, "c", 0, 50), 0);
    for (uint32_t i = 0; i < all.count; i++)
        node_stop(&all, i);
    for (uint32_t node = 0; node < all.count; node++) {
        char text[64];
        snprintf(text, sizeof text, "a server with role %s", names[all.configs[node].role]);
        for (uint32_t role = 0; role < 4; role++)
            if (role != all.configs[node].role) refused_as(&all, node, (kith_config_role)role, text);
    }
    cluster_start(&all);
    points_expect(&all, "c", 0, 50);
    cluster_teardown(&all);
}

/* Also one that was made before folders had marks. */
static void test_cluster_roles__a_standalone_folder_is_not_taken_by_a_cluster(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    uint32_t index = query_of(&all); /* the clients' calls go there */
    all.configs[index].role = KITH_CONFIG_ROLE_STANDALONE;
    node_start(&all, index);
    assert_code(&all, create(&all, "c", 2), 0);
    assert_code(&all, upsert(&all, "c", 0, 50), 0);
    for (int marked = 1; marked >= 0; marked--) {
        node_stop(&all, index);
        if (!marked) file_move(&all, index, "role", "role.aside");
        refused_as(&all, index, KITH_CONFIG_ROLE_DATA, "role standalone");
        refused_as(&all, index, KITH_CONFIG_ROLE_COORDINATOR, "role standalone");
        refused_as(&all, index, KITH_CONFIG_ROLE_QUERY, "role standalone");
        node_start(&all, index);
        points_expect(&all, "c", 0, 50);
    }
    cluster_teardown(&all);
}

/* --- parts that are missing --- */

static void test_cluster_roles__without_coordinators_searches_go_on(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    uint32_t data = data_of(&all), query = query_of(&all);
    node_start(&all, data);
    ready_wait(&all, data, 503, "no coordinator has sent a cluster map yet");
    node_stop(&all, data);
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 2), 0);
    assert_code(&all, upsert(&all, "c", 0, 50), 0);
    node_stop(&all, 0);
    ready_wait(&all, data, 200, "ok\nno coordinator has been heard for ");
    ready_wait(&all, query, 200, "serving by map version ");
    points_expect(&all, "c", 0, 50);
    assert_code(&all, upsert(&all, "c", 50, 50), 0);
    /* A data node that starts has the map that it kept; but its shards may be led by others since, so it promises nothing of them
     * before a coordinator has answered. */
    node_stop(&all, data);
    node_start(&all, data);
    ready_wait(&all, data, 200, "no coordinator has been heard for ");
    node_start(&all, 0);
    all_ready_wait(&all);
    points_expect(&all, "c", 0, 100);
    ready_wait(&all, data, 200, "ok\n");
    while (ready_ask(&all, data) != 200 || strcmp(all.text, "ok\n") != 0)
        pause_short();
    cluster_teardown(&all);
}

/* A node that listens elsewhere than before is ready when the map says so, not when it finds its old address there. */
static void test_cluster_roles__a_node_that_moved_is_ready_when_the_map_has_its_address(void **state) {
    (void)state;
    cluster all;
    cluster_setup(&all, 1);
    cluster_start(&all);
    uint32_t data = data_of(&all);
    node_stop(&all, data);
    node_stop(&all, 0);
    all.configs[data].node_port = port_take();
    node_start(&all, data);
    assert_int_equal(ready_ask(&all, data), 503);
    assert_non_null(strstr(all.text, "the cluster map does not have this node at 127.0.0.1:"));
    node_start(&all, 0);
    all_ready_wait(&all);
    cluster_teardown(&all);
}

static void test_cluster_roles__a_lost_map_beside_data_is_refused(void **state) {
    (void)state;
    cluster all;
    kith_service *service;
    kith_err err;
    cluster_setup(&all, 1);
    cluster_start(&all);
    uint32_t data = data_of(&all);
    assert_code(&all, create(&all, "c", 2), 0);
    assert_code(&all, upsert(&all, "c", 0, 50), 0);
    node_stop(&all, data);
    file_move(&all, data, "meta/snapshot.kith", "meta/aside");
    assert_int_equal(kith_service_start(all.env, &all.configs[data], &service, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "snapshot.kith is missing although there is data"));
    file_move(&all, data, "meta/aside", "meta/snapshot.kith");
    node_start(&all, data);
    all_ready_wait(&all);
    points_expect(&all, "c", 0, 50);
    cluster_teardown(&all);
}

typedef struct segment_find {
    char name[64];
} segment_find;

static void segment_seen(void *ctx, const kith_dir_entry *entry) {
    segment_find *found = ctx;
    size_t bytes = strlen(entry->name);
    if (bytes > 4 && strcmp(entry->name + bytes - 4, ".seg") == 0)
        snprintf(found->name, sizeof found->name, "segments/%.50s", entry->name);
}

/* A shard whose file is gone does not open, the node says so, and what it does not have is not made up: the entries of the
 * log that went by without it come back with the next start. */
static void test_cluster_roles__a_shard_that_did_not_open_loses_nothing(void **state) {
    (void)state;
    cluster all;
    kith_err err;
    segment_find found = {.name = ""};
    cluster_setup(&all, 1);
    uint32_t data = data_of(&all);
    all.configs[data].segment_seal_rows = 32;
    all.configs[data].segment_seal_idle_ms = 100;
    cluster_start(&all);
    assert_code(&all, create(&all, "c", 1), 0);
    assert_code(&all, upsert(&all, "c", 0, 64), 0);
    while (!found.name[0]) {
        pause_short();
        assert_ok(kith_dir_list(all.env, path_of(&all, data, "segments"), segment_seen, &found, &err), &err);
    }
    all.configs[data].segment_seal_rows = 1000; /* of what comes now only the log has all */
    all.configs[data].segment_seal_idle_ms = 3600000;
    node_stop(&all, data);
    node_start(&all, data);
    all_ready_wait(&all);
    assert_code(&all, upsert(&all, "c", 64, 64), 0);
    points_expect(&all, "c", 0, 128);
    node_stop(&all, data);
    found.name[0] = 0;
    assert_ok(kith_dir_list(all.env, path_of(&all, data, "segments"), segment_seen, &found, &err), &err);
    file_move(&all, data, found.name, "aside");
    const char *loop = path_of(&all, data, found.name);
    assert_int_equal(symlink(loop, loop), 0); /* is there, and does not open */
    node_start(&all, data);
    ready_wait(&all, data, 503, "a shard of collection \"c\" is not open");
    assert_ok(kith_path_remove(all.env, path_of(&all, data, found.name), &err), &err);
    file_move(&all, data, "aside", found.name);
    ready_wait(&all, data, 503, "restart this node"); /* it has tried again */
    assert_int_equal(nearest(&all, "c", 100), -1);
    node_stop(&all, data);
    node_start(&all, data);
    all_ready_wait(&all);
    points_expect(&all, "c", 0, 128);
    cluster_teardown(&all);
}

int main(void) {
    CLUSTER_UNUSED;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_roles__a_cluster_serves),
        cmocka_unit_test(test_cluster_roles__each_node_comes_back),
        cmocka_unit_test(test_cluster_roles__coordinators_are_restarted_all_at_once),
        cmocka_unit_test(test_cluster_roles__stop_in_every_order),
        cmocka_unit_test(test_cluster_roles__stop_of_a_node_that_never_found_anyone),
        cmocka_unit_test(test_cluster_roles__stop_while_a_proposal_waits),
        cmocka_unit_test(test_cluster_roles__a_wrong_key_is_named),
        cmocka_unit_test(test_cluster_roles__a_port_in_use_undoes_the_start),
        cmocka_unit_test(test_cluster_roles__a_folder_has_one_process),
        cmocka_unit_test(test_cluster_roles__a_folder_keeps_its_role),
        cmocka_unit_test(test_cluster_roles__a_standalone_folder_is_not_taken_by_a_cluster),
        cmocka_unit_test(test_cluster_roles__without_coordinators_searches_go_on),
        cmocka_unit_test(test_cluster_roles__a_node_that_moved_is_ready_when_the_map_has_its_address),
        cmocka_unit_test(test_cluster_roles__a_lost_map_beside_data_is_refused),
        cmocka_unit_test(test_cluster_roles__a_shard_that_did_not_open_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
