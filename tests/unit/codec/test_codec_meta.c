/* Stored metadata: round trips, the golden files, and what is refused. */
#include "tests/lib/test_lib.h"

#include <stdio.h>
#include <string.h>

#include "host/codec/codec_meta.h"
#include "host/codec/codec_wire.h"

static kith_arena arena;
static kith_buf buf;
static kith_err err;

static int setup(void **state) {
    (void)state;
    kith_arena_init(&arena);
    kith_buf_init(&buf);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kith_arena_fini(&arena);
    kith_buf_fini(&buf);
    return 0;
}

/* Those of tests/golden: never change them. */
static kith_collection golden_collection(void) {
    kith_collection collection = {
        .id = 12, .name = "books", .shard_count = 3, .shard_id_first = 77, .created_wall_ms = 1700000000000};
    collection.schema.field_count = 2;
    collection.schema.fields[0] =
        (kith_field){.dim = 768, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_F16};
    collection.schema.fields[1] =
        (kith_field){.name = "title", .dim = 32, .metric = KITH_METRIC_L1, .type = KITH_TYPE_I8};
    return collection;
}

static kith_codec_meta_command golden_command(void) {
    return (kith_codec_meta_command){.kind = KITH_CODEC_META_CREATE_COLLECTION,
        .request_id = {.client = "golden client 16", .number = 7},
        .collection = golden_collection()};
}

/* Field by field: padding is nobody's. */
static void collections_equal(const kith_collection *a, const kith_collection *b) {
    assert_int_equal(a->id, b->id);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->shard_count, b->shard_count);
    assert_int_equal(a->shard_id_first, b->shard_id_first);
    assert_int_equal(a->created_wall_ms, b->created_wall_ms);
    assert_int_equal(a->schema.field_count, b->schema.field_count);
    for (uint32_t i = 0; i < a->schema.field_count; i++) {
        assert_string_equal(a->schema.fields[i].name, b->schema.fields[i].name);
        assert_int_equal(a->schema.fields[i].dim, b->schema.fields[i].dim);
        assert_int_equal(a->schema.fields[i].metric, b->schema.fields[i].metric);
        assert_int_equal(a->schema.fields[i].type, b->schema.fields[i].type);
    }
}

static void commands_equal(const kith_codec_meta_command *a, const kith_codec_meta_command *b) {
    assert_int_equal(a->kind, b->kind);
    assert_memory_equal(a->request_id.client, b->request_id.client, 16);
    assert_int_equal(a->request_id.number, b->request_id.number);
    collections_equal(&a->collection, &b->collection);
}

static void golden_equals(const char *name) {
    char path[512];
    uint8_t bytes[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", KITH_SOURCE_DIR, name);
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s is missing", path);
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_int_equal(count, buf.bytes);
    assert_memory_equal(bytes, buf.data, count);
}

static void test_codec_meta__commands(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command(), decoded;
    kith_codec_meta_command_encode(&command, &buf);
    golden_equals("meta-command-v1.bin");
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);

    command = (kith_codec_meta_command){
        .kind = KITH_CODEC_META_DROP_COLLECTION, .collection = {.id = 5, .name = "old"}};
    kith_buf_clear(&buf);
    kith_codec_meta_command_encode(&command, &buf);
    assert_ok(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    commands_equal(&decoded, &command);
}

static void test_codec_meta__snapshots(void **state) {
    (void)state;
    kith_meta_collection books = {.collection = golden_collection()};
    kith_meta_collection films = {.collection = golden_collection()};
    const kith_meta_collection *collections[] = {&books, &films};
    snprintf(films.collection.name, sizeof films.collection.name, "films");
    kith_codec_meta_snapshot snapshot = {.map_version = 9,
        .applied_index = 11,
        .collection_id_next = 13,
        .shard_id_next = 80,
        .collections = collections,
        .collection_count = 2};
    kith_codec_meta_snapshot decoded;
    kith_codec_meta_snapshot_encode(&snapshot, &buf);
    golden_equals("meta-snapshot-v1.bin");
    assert_ok(kith_codec_meta_snapshot_decode(buf.data, buf.bytes, &arena, &decoded, &err), &err);
    assert_int_equal(decoded.map_version, 9);
    assert_int_equal(decoded.applied_index, 11);
    assert_int_equal(decoded.collection_id_next, 13);
    assert_int_equal(decoded.shard_id_next, 80);
    assert_int_equal(decoded.collection_count, 2);
    for (int i = 0; i < 2; i++)
        collections_equal(&decoded.collections[i]->collection, &collections[i]->collection);
}

static void command_refused(kith_status status, const char *message) {
    kith_codec_meta_command decoded;
    assert_int_equal(kith_codec_meta_command_decode(buf.data, buf.bytes, &arena, &decoded, &err), status);
    assert_string_equal(err.text, message);
    kith_buf_clear(&buf);
}

static void test_codec_meta__damage_is_corrupt(void **state) {
    (void)state;
    kith_codec_meta_command command = golden_command();
    kith_codec_meta_command_encode(&command, &buf);
    for (size_t bytes = 0; bytes < buf.bytes; bytes++) {
        kith_codec_meta_command decoded;
        assert_int_not_equal(
            kith_codec_meta_command_decode(buf.data, bytes, &arena, &decoded, &err), KITH_OK);
    }
    kith_buf_clear(&buf);
    command_refused(KITH_CORRUPT, "metadata: a command of version 0; this program reads versions 1..2");
    kith_wire_u64(&buf, 1, 3);
    command_refused(KITH_UNIMPLEMENTED, "metadata: a command of version 3; this program reads versions 1..2");
    kith_wire_u64(&buf, 1, 1);
    command_refused(KITH_CORRUPT, "metadata: a command of no kind that this program knows");
    command.collection.schema.fields[1].dim = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: field \"title\": dim 0 is not in 1..16384");
    command = golden_command();
    command.collection.shard_count = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection \"books\": shard_count 0 is not in 1..4096");
    command.collection.name[0] = 0;
    kith_codec_meta_command_encode(&command, &buf);
    command_refused(KITH_CORRUPT, "metadata: collection name is empty; 1..255 bytes are allowed");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_codec_meta__##name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(commands), TEST(snapshots), TEST(damage_is_corrupt)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
