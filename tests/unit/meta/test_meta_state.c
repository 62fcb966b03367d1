/* The rules of the metadata: each rule by itself, then all of them against a naive model under random commands. */
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/meta/meta_fsm.h"
#include "host/meta/meta_map.h"
#include "tests/lib/test_lib.h"

static kith_codec_meta_command create_command(const char *name, uint32_t dim, uint32_t shard_count) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_CREATE_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.shard_count = shard_count;
    command.collection.schema.field_count = 1;
    command.collection.schema.fields[0] =
        (kith_field){.dim = dim, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32};
    command.collection.created_wall_ms = 1234;
    return command;
}

static kith_codec_meta_command drop_command(const char *name, uint64_t id) {
    kith_codec_meta_command command = {.kind = KITH_CODEC_META_DROP_COLLECTION};
    snprintf(command.collection.name, sizeof command.collection.name, "%s", name);
    command.collection.id = id;
    return command;
}

static kith_status apply(kith_meta_state *state, kith_codec_meta_command command, kith_meta_result *result) {
    kith_err err;
    kith_meta_state_apply(state, state->applied_index + 1, &command, result);
    assert_ok(kith_meta_state_validate(state, &err), &err);
    return result->status;
}

static void test_meta_state__ids_begin_at_one_and_are_never_reused(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_result result;
    kith_meta_state_init(&state);
    assert_int_equal(apply(&state, create_command("a", 4, 3), &result), KITH_OK);
    assert_int_equal(result.collection.id, 1);
    assert_int_equal(result.collection.shard_id_first, 1);
    assert_int_equal(apply(&state, drop_command("a", 0), &result), KITH_OK);
    assert_int_equal(result.collection.id, 1);
    assert_int_equal(apply(&state, create_command("a", 4, 1), &result), KITH_OK);
    assert_int_equal(result.collection.id, 2);
    assert_int_equal(result.collection.shard_id_first, 4);
    kith_meta_state_fini(&state);
}

static void test_meta_state__create_again_is_ok_only_with_the_same_schema(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_result result;
    kith_meta_state_init(&state);
    assert_int_equal(apply(&state, create_command("a", 4, 2), &result), KITH_OK);
    uint64_t version = state.map_version;
    assert_int_equal(apply(&state, create_command("a", 4, 2), &result), KITH_OK);
    assert_false(result.changed);
    assert_int_equal(result.collection.id, 1);
    assert_int_equal(apply(&state, create_command("a", 5, 2), &result), KITH_EXISTS);
    assert_non_null(strstr(result.err.text, "dim 4"));
    assert_non_null(strstr(result.err.text, "dim 5"));
    assert_int_equal(apply(&state, create_command("a", 4, 3), &result), KITH_EXISTS);
    assert_non_null(strstr(result.err.text, "shard_count 2"));
    assert_int_equal(state.map_version, version);
    kith_meta_state_fini(&state);
}

static void test_meta_state__refuses_bad_names_schemas_and_counts(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_result result;
    kith_meta_state_init(&state);
    assert_int_equal(apply(&state, create_command("", 4, 1), &result), KITH_INVALID);
    assert_int_equal(apply(&state, create_command("a b", 4, 1), &result), KITH_INVALID);
    assert_int_equal(apply(&state, create_command("a", 0, 1), &result), KITH_INVALID);
    assert_int_equal(apply(&state, create_command("a", 4, 0), &result), KITH_INVALID);
    assert_int_equal(apply(&state, create_command("a", 4, KITH_SHARDS_MAX + 1), &result), KITH_INVALID);
    assert_int_equal(state.collection_count, 0);
    assert_int_equal(state.collection_id_next, 1);
    kith_meta_state_fini(&state);
}

static void test_meta_state__drop_by_id_spares_a_newer_collection_of_that_name(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_result result;
    kith_meta_state_init(&state);
    assert_int_equal(apply(&state, create_command("a", 4, 1), &result), KITH_OK);
    assert_int_equal(apply(&state, drop_command("a", 1), &result), KITH_OK);
    assert_int_equal(apply(&state, create_command("a", 4, 1), &result), KITH_OK);
    assert_int_equal(apply(&state, drop_command("a", 1), &result), KITH_NOT_FOUND);
    assert_non_null(kith_meta_state_find(&state, "a"));
    kith_meta_state_fini(&state);
}

/* Collections are counted, and the limit does not move the ids. */
static void test_meta_state__collections_have_a_limit(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_result result;
    kith_meta_state_init(&state);
    for (uint32_t i = 0; i < KITH_COLLECTIONS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "c%u", i);
        kith_codec_meta_command command = create_command(name, 4, 1);
        kith_meta_state_apply(&state, state.applied_index + 1, &command, &result);
        assert_int_equal(result.status, KITH_OK);
    }
    assert_int_equal(apply(&state, create_command("one-more", 4, 1), &result), KITH_PRECONDITION);
    assert_int_equal(apply(&state, drop_command("c77", 0), &result), KITH_OK);
    assert_int_equal(apply(&state, create_command("one-more", 4, 1), &result), KITH_OK);
    assert_int_equal(result.collection.id, KITH_COLLECTIONS_MAX + 1);
    kith_meta_state_fini(&state);
}

/* --- against a model --- */

enum { NAMES = 12 };

typedef struct oracle {
    struct {
        bool there;
        uint32_t dim, shard_count;
        uint64_t id;
    } collections[NAMES];
    uint64_t ids_given;
} oracle;

static kith_status model_create(oracle *model, uint32_t name, uint32_t dim, uint32_t shard_count) {
    if (model->collections[name].there) {
        bool same =
            model->collections[name].dim == dim && model->collections[name].shard_count == shard_count;
        return same ? KITH_OK : KITH_EXISTS;
    }
    model->collections[name].there = true;
    model->collections[name].dim = dim;
    model->collections[name].shard_count = shard_count;
    model->collections[name].id = ++model->ids_given;
    return KITH_OK;
}

static kith_status model_drop(oracle *model, uint32_t name) {
    if (!model->collections[name].there) return KITH_NOT_FOUND;
    model->collections[name].there = false;
    return KITH_OK;
}

static void states_compare(const kith_meta_state *state, const oracle *model) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < NAMES; i++) {
        char name[16];
        snprintf(name, sizeof name, "name%u", i);
        const kith_meta_collection *stored = kith_meta_state_find(state, name);
        assert_int_equal(stored != NULL, model->collections[i].there);
        count += stored != NULL;
        if (!stored) continue;
        const kith_collection *collection = &stored->collection;
        assert_int_equal(collection->id, model->collections[i].id);
        assert_int_equal(collection->shard_count, model->collections[i].shard_count);
    }
    assert_int_equal(count, state->collection_count);
}

/* Through bytes: what was encoded, applied by two machines, one of which is restored from snapshots on the way. */
static void test_meta_fsm__random_commands_agree_with_the_model_and_with_a_restored_twin(void **unused) {
    (void)unused;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(7));
    kith_meta_fsm fsm, twin;
    kith_meta_fsm_init(&fsm);
    kith_meta_fsm_init(&twin);
    oracle model = {0};
    kith_err err;
    uint64_t steps = test_scaled(3000);
    for (uint64_t index = 1; index <= steps; index++) {
        uint32_t name = (uint32_t)kith_rng_below(&rng, NAMES);
        char text[16];
        snprintf(text, sizeof text, "name%u", name);
        bool create = kith_rng_below(&rng, 3) > 0;
        uint32_t dim = 1 + (uint32_t)kith_rng_below(&rng, 2), shards = 1 + (uint32_t)kith_rng_below(&rng, 3);
        kith_codec_meta_command command = create ? create_command(text, dim, shards) : drop_command(text, 0);
        kith_status wanted = create ? model_create(&model, name, dim, shards) : model_drop(&model, name);
        kith_buf bytes;
        kith_buf_init(&bytes);
        kith_codec_meta_command_encode(&command, &bytes);
        assert_ok(kith_meta_fsm_apply(&fsm, index, bytes.data, bytes.bytes, &err), &err);
        assert_ok(kith_meta_fsm_apply(&twin, index, bytes.data, bytes.bytes, &err), &err);
        kith_buf_fini(&bytes);
        assert_int_equal(fsm.result.status, wanted);
        assert_ok(kith_meta_state_validate(&fsm.state, &err), &err);
        states_compare(&fsm.state, &model);
        if (kith_rng_below(&rng, 20) > 0) continue;
        kith_buf snapshot, again;
        kith_buf_init(&snapshot);
        kith_buf_init(&again);
        kith_meta_fsm_snapshot(&twin, &snapshot);
        kith_meta_fsm_fini(&twin);
        kith_meta_fsm_init(&twin);
        assert_ok(kith_meta_fsm_restore(&twin, snapshot.data, snapshot.bytes, &err), &err);
        kith_meta_fsm_snapshot(&fsm, &again);
        assert_int_equal(again.bytes, snapshot.bytes);
        assert_memory_equal(again.data, snapshot.data, again.bytes);
        kith_buf_fini(&snapshot);
        kith_buf_fini(&again);
    }
    kith_meta_fsm_fini(&fsm);
    kith_meta_fsm_fini(&twin);
}

static void test_meta_state__restore_refuses_a_shard_given_twice(void **unused) {
    (void)unused;
    kith_meta_state state;
    kith_meta_state_init(&state);
    kith_meta_shard shards[2] = {{.epoch = 1}, {.epoch = 1}};
    kith_meta_collection a = {.collection = create_command("a", 4, 2).collection, .shards = shards};
    kith_meta_collection b = {.collection = create_command("b", 4, 2).collection, .shards = shards};
    const kith_meta_collection *collections[] = {&a, &b};
    a.collection.id = 1;
    a.collection.shard_id_first = 1;
    b.collection.id = 2;
    b.collection.shard_id_first = 2; /* overlaps */
    a.collection.replication_factor = b.collection.replication_factor = 1;
    a.collection.min_in_sync = b.collection.min_in_sync = 1;
    a.collection.durability = b.collection.durability = KITH_DURABILITY_SYNC;
    kith_codec_meta_snapshot snapshot = {.map_version = 3,
        .applied_index = 2,
        .collection_id_next = 3,
        .shard_id_next = 5,
        .node_number_next = 1,
        .collections = collections,
        .collection_count = 2};
    kith_err err;
    assert_int_equal(kith_meta_state_restore(&state, &snapshot, &err), KITH_CORRUPT);
    assert_int_equal(state.collection_count, 0);
    b.collection.shard_id_first = 3;
    assert_ok(kith_meta_state_restore(&state, &snapshot, &err), &err);
    kith_meta_state_fini(&state);
}

/* --- the map --- */

static void test_meta_map__slots_are_contiguous_even_and_complete(void **unused) {
    (void)unused;
    const uint32_t counts[] = {1, 2, 3, 7, 100, 1000, 4095, 4096};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        uint32_t sizes[KITH_SHARDS_MAX] = {0}, previous = 0;
        for (uint32_t slot = 0; slot < KITH_SLOTS; slot++) {
            uint32_t shard = kith_meta_slot_shard_even(slot, counts[c]);
            assert_true(shard < counts[c]);
            assert_true(shard == previous || shard == previous + 1);
            previous = shard;
            sizes[shard]++;
        }
        for (uint32_t i = 0; i < counts[c]; i++) {
            assert_true(sizes[i] == KITH_SLOTS / counts[c] || sizes[i] == KITH_SLOTS / counts[c] + 1);
        }
    }
}

static void test_meta_map__slot_tables_say_whose_slot_is_whose(void **unused) {
    (void)unused;
    const uint32_t counts[] = {2, 3, 7, 100, 1000, 4095, 4096};
    const kith_node node = {.number = 1};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const kith_meta_collection stored = {.collection = {.name = "a", .shard_count = counts[c]}};
        const kith_meta_collection *collections[] = {&stored};
        kith_meta_map *map = kith_meta_map_create(1, &node, 1, collections, 1, NULL);
        for (uint32_t slot = 0; slot < KITH_SLOTS; slot++) {
            uint32_t shard = kith_meta_slot_shard_even(slot, counts[c]);
            assert_int_equal(map->entries[0]->slot_shards[slot], shard);
        }
        kith_meta_map_release(map);
    }
}

static void test_meta_map__unchanged_entries_are_shared_and_old_maps_stay(void **unused) {
    (void)unused;
    kith_node node = {.name = "one"};
    kith_meta_collection a = {.collection = create_command("a", 4, 2).collection};
    kith_meta_collection b = {.collection = create_command("b", 4, 1).collection};
    a.collection.id = 1;
    b.collection.id = 2;
    const kith_meta_collection *both[] = {&a, &b};
    kith_meta_map *first = kith_meta_map_create(1, &node, 1, both, 2, NULL);
    kith_meta_map *second = kith_meta_map_create(2, &node, 1, both + 1, 1, first);
    assert_ptr_equal(kith_meta_map_find(first, "b", 1), kith_meta_map_find(second, "b", 1));
    assert_null(kith_meta_map_find(second, "a", 1));
    assert_non_null(kith_meta_map_find(first, "a", 1));
    assert_null(kith_meta_map_find(first, "ab", 2));
    kith_meta_map_release(first);
    assert_int_equal(kith_meta_map_find(second, "b", 1)->collection.id, 2);
    kith_meta_map_release(second);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meta_state__ids_begin_at_one_and_are_never_reused),
        cmocka_unit_test(test_meta_state__create_again_is_ok_only_with_the_same_schema),
        cmocka_unit_test(test_meta_state__refuses_bad_names_schemas_and_counts),
        cmocka_unit_test(test_meta_state__drop_by_id_spares_a_newer_collection_of_that_name),
        cmocka_unit_test(test_meta_state__collections_have_a_limit),
        cmocka_unit_test(test_meta_fsm__random_commands_agree_with_the_model_and_with_a_restored_twin),
        cmocka_unit_test(test_meta_state__restore_refuses_a_shard_given_twice),
        cmocka_unit_test(test_meta_map__slots_are_contiguous_even_and_complete),
        cmocka_unit_test(test_meta_map__slot_tables_say_whose_slot_is_whose),
        cmocka_unit_test(test_meta_map__unchanged_entries_are_shared_and_old_maps_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
