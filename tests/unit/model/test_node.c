/* Nodes: what they may say of themselves. */
#include <stdio.h>
#include <string.h>

#include "host/model/node.h"
#include "tests/lib/test_lib.h"

static kith_node good_node(void) {
    return (kith_node){.role = KITH_NODE_DATA,
        .id = {{1, 2}},
        .name = "data-1",
        .address = "10.0.0.1:7442",
        .grpc_address = "[::1]:7441",
        .zone = "a",
        .weight = 100};
}

static void node_refused(kith_node node, const char *message) {
    kith_err err;
    assert_int_equal(kith_node_check(&node, &err), KITH_INVALID);
    assert_string_equal(err.text, message);
}

static void test_node__refusals_name_the_field_and_the_value(void **unused) {
    (void)unused;
    kith_err err;
    kith_node node = good_node();
    assert_ok(kith_node_check(&node, &err), &err);
    node.name[0] = 0;
    node_refused(node, "node: name is empty; 1..63 bytes are allowed");
    node = good_node();
    node.name[1] = '\n';
    node_refused(node, "node: name has control byte 0x0a at offset 1");
    node = good_node();
    node.name[0] = (char)0xff;
    node_refused(node, "node: name: not UTF-8 at byte 0");
    node = good_node();
    node.id = (kith_node_id){{0}};
    node_refused(node, "node \"data-1\": id is all zero");
    node = good_node();
    node.role = (kith_node_role)5;
    node_refused(node, "node \"data-1\": role 5 is unknown; 1 (coordinator), 2 (data), 3 (query) and 4 "
                       "(standalone) are allowed");
    node = good_node();
    node.weight = KITH_NODE_WEIGHT_MAX + 1;
    node_refused(node, "node \"data-1\": weight 10001 is not in 0..10000");
    node = good_node();
    memset(node.zone, 'z', sizeof node.zone); /* no end */
    node_refused(node, "node \"data-1\": zone has more than 63 bytes, the most allowed");
}

static void test_node__addresses_are_host_and_port(void **unused) {
    (void)unused;
    kith_err err;
    assert_ok(kith_node_address_check("a", "localhost:1", false, &err), &err);
    assert_ok(kith_node_address_check("a", "[fe80::1]:65535", false, &err), &err);
    assert_ok(kith_node_address_check("a", "", true, &err), &err);
    static const char *const bad[] = {"", "host", "host:", ":7442", "host:0", "host:65536", "host:7442x",
        "host:-1", "host:99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(kith_node_address_check("a", bad[i], false, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "a \"host:99999999999999999999\""));
}

static void test_node__id_text_is_a_uuid(void **unused) {
    (void)unused;
    kith_node_id id = {
        {0x93, 0x6d, 0xa0, 0x1f, 0x9a, 0xbd, 0x4d, 0x9d, 0x80, 0xc7, 0x02, 0xaf, 0x85, 0xc8, 0x22, 0xa8}};
    char text[KITH_NODE_ID_TEXT_BYTES];
    assert_string_equal(kith_node_id_text(&id, text), "936da01f-9abd-4d9d-80c7-02af85c822a8");
    assert_string_equal(kith_node_role_name(KITH_NODE_QUERY), "query");
    assert_null(kith_node_role_name((kith_node_role)0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node__refusals_name_the_field_and_the_value),
        cmocka_unit_test(test_node__addresses_are_host_and_port),
        cmocka_unit_test(test_node__id_text_is_a_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
