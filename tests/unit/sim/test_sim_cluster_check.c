/* The judge of cluster histories sees each kind of wrong, and nothing wrong in what is right. */
#include <string.h>

#include "host/base/buf.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_cluster_check.h"

/* --- maps by hand, as the judge reads them: protobuf's wire format --- */

static void wire_number(kith_buf *buf, uint32_t field, uint64_t value) {
    kith_buf_u8(buf, (uint8_t)(field << 3));
    for (; value >= 0x80; value >>= 7)
        kith_buf_u8(buf, (uint8_t)(value | 0x80));
    kith_buf_u8(buf, (uint8_t)value);
}

static void wire_bytes(kith_buf *buf, uint32_t field, const void *bytes, size_t count) {
    kith_buf_u8(buf, (uint8_t)(field << 3 | 2));
    kith_buf_u8(buf, (uint8_t)count);
    kith_buf_append(buf, bytes, count);
}

typedef struct made {
    uint64_t id;
    const char *name;
} made;

/* Collection `id` has shard `id`. Ends at the first without an id. */
static void map_show(sim_check *check, uint32_t node, uint64_t version, const made *collections) {
    kith_buf buf, inner;
    kith_buf_init(&buf);
    kith_buf_init(&inner);
    wire_number(&buf, 2, version);
    wire_number(&buf, 3, 1000 + node); /* the applied index may differ */
    for (; collections->id; collections++) {
        kith_buf_clear(&inner);
        wire_number(&inner, 1, collections->id);
        wire_bytes(&inner, 2, collections->name, strlen(collections->name));
        wire_number(&inner, 4, 1);
        wire_number(&inner, 5, collections->id);
        wire_bytes(&buf, 6, inner.data, inner.bytes);
    }
    sim_check_map(check, node, buf.data, buf.bytes);
    kith_buf_fini(&buf);
    kith_buf_fini(&inner);
}
#define MAP(check, node, version, ...) map_show(check, node, version, (const made[]){__VA_ARGS__{0}})
#define A1                             {1, "a"},
#define B2                             {2, "b"},
#define A3                             {3, "a"},

static uint32_t created(sim_check *check, const char *name, uint64_t id, uint64_t version) {
    uint32_t command = sim_check_begin(check, SIM_CHECK_CREATE, name);
    sim_check_end(check, command, SIM_CHECK_OK, id, true, version);
    return command;
}

static uint32_t dropped(sim_check *check, const char *name, uint64_t id, uint64_t version) {
    uint32_t command = sim_check_begin(check, SIM_CHECK_DROP, name);
    sim_check_end(check, command, SIM_CHECK_OK, id, true, version);
    return command;
}

static void assert_blamed(sim_check *check, const char *part) {
    sim_check_finish(check);
    const char *text = sim_check_violation(check);
    if (!text) fail_msg("nothing was found; wanted: %s", part);
    if (!strstr(text, part)) fail_msg("found \"%s\"; wanted: %s", text, part);
    sim_check_destroy(check);
}

static void test_sim_cluster_check__finds_nothing_in_what_is_right(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    sim_check_leader(check, 1, 0);
    created(check, "a", 1, 1);
    MAP(check, 0, 1, A1);
    created(check, "b", 2, 2);
    MAP(check, 1, 2, A1 B2);
    uint32_t lost = sim_check_begin(check, SIM_CHECK_DROP, "b"); /* never answered */
    dropped(check, "a", 1, 3);
    MAP(check, 0, 3, B2);
    sim_check_leader(check, 2, 1);
    sim_check_leader(check, 2, 1);
    uint32_t again = created(check, "a", 3, 5);
    sim_check_end(check, again, SIM_CHECK_OK, 3, true, 6); /* its repeat */
    MAP(check, 1, 4, {0, ""}, );
    MAP(check, 0, 5, A3);
    MAP(check, 1, 5, A3);
    uint32_t none = sim_check_begin(check, SIM_CHECK_DROP, "b");
    sim_check_end(check, none, SIM_CHECK_NOT_FOUND, 0, false, 6);
    (void)lost;
    sim_check_finish(check);
    assert_null(sim_check_violation(check));
    assert_int_equal(sim_check_map_count(check), 5);
    assert_int_equal(sim_check_acknowledged_count(check), 4);
    sim_check_destroy(check);
}

static void test_sim_cluster_check__finds_two_leaders_of_a_term(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    sim_check_leader(check, 7, 0);
    sim_check_leader(check, 7, 1);
    assert_blamed(check, "two leaders");
}

static void test_sim_cluster_check__finds_two_maps_of_one_version(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    (void)sim_check_begin(check, SIM_CHECK_CREATE, "a");
    MAP(check, 0, 1, A1);
    MAP(check, 1, 1, {0, ""}, );
    assert_blamed(check, "differs");
}

static void test_sim_cluster_check__finds_a_map_that_goes_back(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    created(check, "a", 1, 2);
    MAP(check, 3, 2, A1);
    MAP(check, 3, 1, {0, ""}, );
    assert_blamed(check, "went back");
}

static void test_sim_cluster_check__finds_lost_acknowledgements(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    created(check, "a", 1, 1);
    MAP(check, 0, 2, {0, ""}, );
    assert_blamed(check, "is not in version 2");

    check = sim_check_create();
    created(check, "a", 1, 1);
    dropped(check, "a", 1, 2);
    MAP(check, 0, 3, A1);
    assert_blamed(check, "dropped at version 2");
}

/* A drop that was not answered explains an absence after it was asked for, and none before. */
static void test_sim_cluster_check__knows_when_a_drop_may_have_been(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    created(check, "a", 1, 1);
    created(check, "b", 2, 2);
    (void)sim_check_begin(check, SIM_CHECK_DROP, "a");
    MAP(check, 0, 3, B2);
    sim_check_finish(check);
    assert_null(sim_check_violation(check));
    MAP(check, 1, 2, B2);
    assert_blamed(check, "is not in version 2");
}

static void test_sim_cluster_check__finds_what_comes_back(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    (void)sim_check_begin(check, SIM_CHECK_CREATE, "a");
    (void)sim_check_begin(check, SIM_CHECK_DROP, "a");
    MAP(check, 0, 1, A1);
    MAP(check, 0, 2, {0, ""}, );
    MAP(check, 0, 3, A1);
    assert_blamed(check, "came back");
}

static void test_sim_cluster_check__finds_reused_ids(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    (void)sim_check_begin(check, SIM_CHECK_CREATE, "a");
    (void)sim_check_begin(check, SIM_CHECK_CREATE, "b");
    MAP(check, 0, 1, {1, "a"}, );
    MAP(check, 0, 2, {1, "b"}, );
    assert_blamed(check, "collection 1 was \"a\"");

    check = sim_check_create();
    created(check, "a", 1, 1);
    dropped(check, "a", 1, 2);
    created(check, "a", 1, 3);
    assert_blamed(check, "both say that they changed collection 1");
}

static void test_sim_cluster_check__finds_what_nobody_asked_for(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    uint32_t refused = sim_check_begin(check, SIM_CHECK_CREATE, "a");
    sim_check_end(check, refused, SIM_CHECK_NOTHING, 0, false, 0);
    MAP(check, 0, 1, A1);
    assert_blamed(check, "nobody can have made it");
}

static void test_sim_cluster_check__finds_answers_out_of_real_time(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    created(check, "a", 1, 5);
    created(check, "b", 2, 4);
    assert_blamed(check, "after one from 5");

    check = sim_check_create();
    created(check, "a", 1, 1);
    uint32_t none = sim_check_begin(check, SIM_CHECK_DROP, "a");
    sim_check_end(check, none, SIM_CHECK_NOT_FOUND, 0, false, 1);
    assert_blamed(check, "was never dropped");
}

static void test_sim_cluster_check__finds_repeats_with_another_answer(void **state) {
    (void)state;
    sim_check *check = sim_check_create();
    uint32_t command = created(check, "a", 1, 1);
    sim_check_end(check, command, SIM_CHECK_OK, 1, false, 2);
    assert_blamed(check, "when it was repeated");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sim_cluster_check__finds_nothing_in_what_is_right),
        cmocka_unit_test(test_sim_cluster_check__finds_two_leaders_of_a_term),
        cmocka_unit_test(test_sim_cluster_check__finds_two_maps_of_one_version),
        cmocka_unit_test(test_sim_cluster_check__finds_a_map_that_goes_back),
        cmocka_unit_test(test_sim_cluster_check__finds_lost_acknowledgements),
        cmocka_unit_test(test_sim_cluster_check__knows_when_a_drop_may_have_been),
        cmocka_unit_test(test_sim_cluster_check__finds_what_comes_back),
        cmocka_unit_test(test_sim_cluster_check__finds_reused_ids),
        cmocka_unit_test(test_sim_cluster_check__finds_what_nobody_asked_for),
        cmocka_unit_test(test_sim_cluster_check__finds_answers_out_of_real_time),
        cmocka_unit_test(test_sim_cluster_check__finds_repeats_with_another_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
