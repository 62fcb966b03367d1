/* Loss that an operator accepts: whose copy counts then, what is refused, and that no later change forgets it. */
#include <stdio.h>
#include <string.h>

#include "host/meta/meta_fsm.h"
#include "tests/lib/test_lib.h"

#define NODES 4u

static kith_meta_fsm fsm;
static const kith_meta_state *const state = &fsm.state;

static kith_node_id id_of(uint32_t number) {
    return (kith_node_id){{(uint8_t)number, 7}};
}

/* Through bytes, as every command comes; the state stays sound. */
static kith_status apply(const kith_codec_meta_command *command) {
    kith_err err;
    kith_buf bytes;
    uint64_t version = state->map_version;
    kith_buf_init(&bytes);
    kith_codec_meta_command_encode(command, &bytes);
    assert_ok(kith_meta_fsm_apply(&fsm, state->applied_index + 1, bytes.data, bytes.bytes, &err), &err);
    kith_buf_fini(&bytes);
    assert_ok(kith_meta_state_validate(state, &err), &err);
    assert_int_equal(state->map_version, version + fsm.result.changed);
    return fsm.result.status;
}

static void node_register(uint32_t number, kith_node_role role) {
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_REGISTER_NODE, .node = {.role = role, .id = id_of(number), .weight = 100}};
    snprintf(command.node.name, sizeof command.node.name, "n%u", number);
    snprintf(command.node.address, sizeof command.node.address, "host-%u:7442", number);
    assert_int_equal(apply(&command), KITH_OK);
}

static void node_down(uint32_t number) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_NODE_DOWN, .node = {.id = id_of(number)}};
    assert_int_equal(apply(&command), KITH_OK);
}

static void collection_create(const char *name, const kith_meta_shard *shards, uint32_t shard_count) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION, .shards = shards};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.shard_count = shard_count;
    command.collection.replication_factor = 3;
    command.collection.min_in_sync = 1;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = 4, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    assert_int_equal(apply(&command), KITH_OK);
}

static kith_codec_meta_command loss_command(const char *name, uint32_t shard_index, uint32_t number) {
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_ACCEPT_LOSS, .shard_index = shard_index, .node = {.id = id_of(number)}};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    return command;
}

static kith_status accept(uint32_t shard_index, uint32_t number) {
    kith_codec_meta_command command = loss_command("c", shard_index, number);
    return apply(&command);
}

static const kith_meta_shard *shard_of(uint32_t index) {
    return &kith_meta_state_find(state, "c")->shards[index];
}

static void shard_is(uint32_t index, kith_meta_shard wanted) {
    const kith_meta_shard *have = shard_of(index);
    assert_int_equal(have->epoch, wanted.epoch);
    assert_int_equal(have->loss_epoch, wanted.loss_epoch);
    assert_int_equal(have->in_sync, wanted.in_sync);
    assert_int_equal(have->replica_count, wanted.replica_count);
    assert_memory_equal(have->replicas, wanted.replicas, sizeof have->replicas);
}

static kith_status change(uint32_t index, kith_meta_shard wanted) {
    kith_codec_meta_shard_change one = {
        .shard_id = kith_meta_state_find(state, "c")->collection.shard_id_first + index, .shard = wanted};
    kith_codec_meta_command command = {
        .kind = KITH_CODEC_META_CHANGE_SHARDS, .changes = &one, .change_count = 1};
    return apply(&command);
}

/* Nodes 1..4 and "c" of two shards, of which the second is on 3, 2 and 1, with 3 alone in sync, and 3 is down: epoch 2. */
static int setup(void **unused) {
    (void)unused;
    const kith_meta_shard shards[] = {
        {.replica_count = 2, .replicas = {1, 2}}, {.replica_count = 3, .replicas = {3, 2, 1}}};
    kith_meta_fsm_init(&fsm);
    for (uint32_t i = 1; i <= NODES; i++)
        node_register(i, i < NODES ? KITH_NODE_DATA : KITH_NODE_QUERY);
    collection_create("c", shards, 2);
    assert_int_equal(
        change(1, (kith_meta_shard){.epoch = 1, .replica_count = 3, .in_sync = 1, .replicas = {3, 2, 1}}),
        KITH_OK);
    node_down(3);
    shard_is(1, (kith_meta_shard){.epoch = 2, .replica_count = 3, .in_sync = 1, .replicas = {3, 2, 1}});
    return 0;
}

static int teardown(void **unused) {
    (void)unused;
    kith_meta_fsm_fini(&fsm);
    return 0;
}

static void test_meta_loss__the_copy_of_the_node_counts_from_a_new_epoch_on(void **unused) {
    (void)unused;
    assert_int_equal(accept(1, 1), KITH_OK);
    assert_true(fsm.result.changed);
    shard_is(1, (kith_meta_shard){
                    .epoch = 3, .loss_epoch = 3, .replica_count = 3, .in_sync = 1, .replicas = {1, 3, 2}});
    shard_is(0, (kith_meta_shard){.epoch = 1, .replica_count = 2, .in_sync = 3, .replicas = {1, 2}});
}

static void test_meta_loss__once_is_enough(void **unused) {
    (void)unused;
    assert_int_equal(accept(1, 2), KITH_OK);
    assert_int_equal(accept(1, 2), KITH_OK);
    assert_false(fsm.result.changed);
    assert_int_equal(shard_of(1)->epoch, 3);
    assert_int_equal(accept(1, 1), KITH_OK); /* on second thoughts */
    shard_is(1, (kith_meta_shard){
                    .epoch = 4, .loss_epoch = 4, .replica_count = 3, .in_sync = 1, .replicas = {1, 2, 3}});
    /* Once something has changed since, it is another loss. */
    assert_int_equal(
        change(1, (kith_meta_shard){.epoch = 4, .replica_count = 3, .in_sync = 3, .replicas = {1, 2, 3}}),
        KITH_OK);
    assert_int_equal(accept(1, 1), KITH_OK);
    shard_is(1, (kith_meta_shard){
                    .epoch = 6, .loss_epoch = 6, .replica_count = 3, .in_sync = 1, .replicas = {1, 2, 3}});
}

static void test_meta_loss__a_repeat_gets_the_first_answer(void **unused) {
    (void)unused;
    kith_codec_meta_command command = loss_command("c", 1, 2);
    command.request_id = (kith_request_id){.client = "who", .number = 5};
    assert_int_equal(apply(&command), KITH_OK);
    assert_int_equal(
        change(1, (kith_meta_shard){.epoch = 3, .replica_count = 3, .in_sync = 5, .replicas = {2, 3, 1}}),
        KITH_OK);
    assert_int_equal(apply(&command), KITH_OK);
    assert_false(fsm.result.changed);
    assert_true(fsm.result.answer_changed);
    shard_is(1, (kith_meta_shard){
                    .epoch = 4, .loss_epoch = 3, .replica_count = 3, .in_sync = 5, .replicas = {2, 3, 1}});
}

/* The primary may be up, and not able to lead: its files are corrupt, or it may have lost its tail. */
static void test_meta_loss__a_primary_that_is_up_is_no_obstacle(void **unused) {
    (void)unused;
    assert_int_equal(accept(0, 2), KITH_OK);
    shard_is(0,
        (kith_meta_shard){.epoch = 2, .loss_epoch = 2, .replica_count = 2, .in_sync = 1, .replicas = {2, 1}});
    assert_int_equal(accept(0, 2), KITH_OK);
    node_register(3, KITH_NODE_DATA);
    assert_int_equal(accept(1, 3), KITH_OK); /* the primary itself */
    shard_is(1, (kith_meta_shard){
                    .epoch = 3, .loss_epoch = 3, .replica_count = 3, .in_sync = 1, .replicas = {3, 2, 1}});
}

static void test_meta_loss__later_changes_keep_it(void **unused) {
    (void)unused;
    assert_int_equal(accept(1, 1), KITH_OK);
    /* Nobody who changes a shard says anything about it. */
    kith_meta_shard wanted = {
        .epoch = 3, .loss_epoch = 1, .replica_count = 3, .in_sync = 7, .replicas = {1, 3, 2}};
    node_register(3, KITH_NODE_DATA);
    assert_int_equal(change(1, wanted), KITH_OK);
    wanted.epoch = 4;
    wanted.loss_epoch = 3;
    shard_is(1, wanted);
    node_down(1); /* failover */
    assert_int_equal(shard_of(1)->epoch, 5);
    assert_int_equal(shard_of(1)->loss_epoch, 3);
    assert_int_equal(shard_of(1)->replicas[0], 3);
    wanted = (kith_meta_shard){.epoch = 5, .replica_count = 2, .in_sync = 3, .replicas = {3, 2}}; /* a move */
    assert_int_equal(change(1, wanted), KITH_OK);
    assert_int_equal(shard_of(1)->loss_epoch, 3);
    /* And so does a snapshot, which is also the map. */
    kith_err err;
    kith_buf bytes;
    kith_buf_init(&bytes);
    kith_meta_fsm_snapshot(&fsm, &bytes);
    assert_ok(kith_meta_fsm_restore(&fsm, bytes.data, bytes.bytes, &err), &err);
    kith_buf_fini(&bytes);
    assert_int_equal(shard_of(1)->epoch, 6);
    assert_int_equal(shard_of(1)->loss_epoch, 3);
    assert_int_equal(shard_of(0)->loss_epoch, 0);
}

static void refused(kith_codec_meta_command command, kith_status status, const char *message) {
    kith_meta_shard before[] = {*shard_of(0), *shard_of(1)};
    assert_int_equal(apply(&command), status);
    assert_string_equal(fsm.result.err.text, message);
    assert_false(fsm.result.changed);
    shard_is(0, before[0]);
    shard_is(1, before[1]);
}

static void test_meta_loss__what_cannot_be_meant_is_refused(void **unused) {
    (void)unused;
    refused(loss_command("d", 0, 1), KITH_NOT_FOUND, "collection \"d\" does not exist");
    kith_codec_meta_command other = loss_command("c", 0, 1);
    other.collection.id = 9; /* it was dropped, and made anew, since the operator looked */
    refused(other, KITH_NOT_FOUND, "collection \"c\" does not exist");
    refused(loss_command("c", 2, 1), KITH_INVALID, "collection \"c\" has no shard 2; it has 0..1");
    refused(loss_command("c", 0, 9), KITH_NOT_FOUND, "there is no node 09070000-0000-0000-0000-000000000000");
    refused(loss_command("c", 0, 3), KITH_PRECONDITION,
        "node \"n3\" has no copy of shard 0 of collection \"c\"; there is one on \"n1\", \"n2\"");
    refused(loss_command("c", 1, 4), KITH_PRECONDITION,
        "node \"n4\" has no copy of shard 1 of collection \"c\"; there is one on \"n3\", \"n2\", \"n1\"");
    refused(loss_command("c", 1, 3), KITH_PRECONDITION,
        "node \"n3\" is down: only a copy on a node that is up can be gone by");
}

static void test_meta_loss__an_epoch_that_is_not_there_yet_is_corrupt(void **unused) {
    (void)unused;
    kith_err err;
    fsm.state.collections[0]->shards[1].loss_epoch = 3;
    assert_int_equal(kith_meta_state_validate(state, &err), KITH_CORRUPT);
    assert_string_equal(err.text, "metadata: collection \"c\": shards[1] has loss_epoch 3 of 2");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_meta_loss__the_copy_of_the_node_counts_from_a_new_epoch_on),
        TEST(test_meta_loss__once_is_enough),
        TEST(test_meta_loss__a_repeat_gets_the_first_answer),
        TEST(test_meta_loss__a_primary_that_is_up_is_no_obstacle),
        TEST(test_meta_loss__later_changes_keep_it),
        TEST(test_meta_loss__what_cannot_be_meant_is_refused),
        TEST(test_meta_loss__an_epoch_that_is_not_there_yet_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
