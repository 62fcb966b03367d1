/* The readers of vector files: what is read, in pieces of any size, and what each kind of damage is called.
 */
#include "tests/lib/test_lib.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/buf.h"
#include "host/cli/format.h"

static void append_npy(kith_buf *buf, const char *descr, uint64_t rows, uint32_t dim) {
    char header[128];
    int bytes =
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %u), }\n",
            descr, (unsigned long long)rows, dim);
    kith_buf_append(buf, "\x93NUMPY\x01\x00", 8);
    kith_buf_u16(buf, (uint16_t)bytes);
    kith_buf_append(buf, header, (size_t)bytes);
}

static void append_f32(kith_buf *buf, float value) {
    kith_buf_append(buf, &value, sizeof value);
}

/* Reads everything in batches of `count_max`; component j of row i must be i + j / 8. */
static void assert_ramp(
    kith_format_kind kind, const kith_buf *file, uint32_t rows, uint32_t dim, uint32_t count_max) {
    kith_format *format;
    kith_err err;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_format_options options = {.field = "f", .id_start = 1000};
    assert_ok(kith_format_open_memory("mem", kind, file->data, file->bytes, &options, &format, &err), &err);
    assert_int_equal(kith_format_rows(format), rows);
    assert_int_equal(kith_format_dim(format), dim);
    uint32_t seen = 0;
    for (;;) {
        kith_format_batch batch;
        kith_arena_reset(&arena);
        assert_ok(kith_format_read(format, count_max, 1u << 20, &arena, &batch, &err), &err);
        if (batch.count == 0) break;
        assert_int_equal(batch.first_row, seen);
        assert_string_equal(batch.columns[0].field, "f");
        for (uint32_t i = 0; i < batch.count; i++, seen++) {
            assert_int_equal(batch.ids[i].number, 1000 + seen);
            for (uint32_t j = 0; j < dim; j++)
                assert_true(batch.columns[0].values[i * dim + j] == (float)seen + (float)(j % 8) / 8);
        }
    }
    assert_int_equal(seen, rows);
    kith_format_close(format);
    kith_arena_fini(&arena);
}

static void test_format__reads_npy_and_fvecs_in_pieces(void **state) {
    (void)state;
    kith_buf npy, fvecs;
    kith_buf_init(&npy);
    kith_buf_init(&fvecs);
    append_npy(&npy, "<f4", 100, 9);
    for (uint32_t i = 0; i < 100; i++) {
        kith_buf_u32(&fvecs, 9);
        for (uint32_t j = 0; j < 9; j++) {
            append_f32(&npy, (float)i + (float)(j % 8) / 8);
            append_f32(&fvecs, (float)i + (float)(j % 8) / 8);
        }
    }
    for (uint32_t count_max = 1; count_max <= 128; count_max = count_max * 3 + 1) {
        assert_ramp(KITH_FORMAT_NPY, &npy, 100, 9, count_max);
        assert_ramp(KITH_FORMAT_FVECS, &fvecs, 100, 9, count_max);
    }
    kith_buf_fini(&npy);
    kith_buf_fini(&fvecs);
}

/* One row of one component of each dtype. */
static float read_one(const char *descr, const void *bytes, size_t count) {
    kith_format *format;
    kith_format_batch batch;
    kith_err err;
    kith_arena arena;
    kith_buf file;
    kith_arena_init(&arena);
    kith_buf_init(&file);
    append_npy(&file, descr, 1, 1);
    kith_buf_append(&file, bytes, count);
    kith_format_options options = {.field = NULL};
    assert_ok(
        kith_format_open_memory("m", KITH_FORMAT_NPY, file.data, file.bytes, &options, &format, &err), &err);
    assert_ok(kith_format_read(format, 8, 1024, &arena, &batch, &err), &err);
    float value = batch.columns[0].values[0];
    kith_format_close(format);
    kith_buf_fini(&file);
    kith_arena_fini(&arena);
    return value;
}

static void test_format__reads_every_dtype(void **state) {
    (void)state;
    double f8 = 1.5;
    assert_true(read_one("<f8", &f8, 8) == 1.5f);
    assert_true(read_one("<f2", "\x00\x3c", 2) == 1.0f);
    assert_true(read_one("<f2", "\x01\x00", 2) == 0x1p-24f);
    assert_true(read_one("|i1", "\x80", 1) == -128.0f);
    assert_true(read_one("|u1", "\xff", 1) == 255.0f);
}

/* Opens and reads to the end; the message must contain `text`. */
static void assert_refused(kith_format_kind kind, const void *data, size_t bytes, const char *text) {
    kith_format *format;
    kith_format_batch batch = {.count = 1};
    kith_err err = {.text = ""};
    kith_arena arena;
    kith_arena_init(&arena);
    kith_format_options options = {.id_start = 0};
    kith_status status = kith_format_open_memory("bad", kind, data, bytes, &options, &format, &err);
    if (status == KITH_OK) {
        while (status == KITH_OK && batch.count > 0)
            status = kith_format_read(format, 3, 1u << 20, &arena, &batch, &err);
        kith_format_close(format);
    }
    kith_arena_fini(&arena);
    assert_int_equal(status, KITH_INVALID);
    if (!strstr(err.text, text) || strncmp(err.text, "bad", 3) != 0)
        fail_msg("'%s' does not say '%s'", err.text, text);
}

static void assert_npy_refused(
    const char *descr, uint64_t rows, uint32_t dim, const void *data, size_t bytes, const char *text) {
    kith_buf file;
    kith_buf_init(&file);
    append_npy(&file, descr, rows, dim);
    if (bytes) kith_buf_append(&file, data, bytes);
    assert_refused(KITH_FORMAT_NPY, file.data, file.bytes, text);
    kith_buf_fini(&file);
}

static void test_format__names_what_is_wrong_with_an_npy(void **state) {
    (void)state;
    float nan_row[2] = {1, NAN};
    double huge = 1e300;
    assert_refused(KITH_FORMAT_NPY, "", 0, "too short");
    assert_refused(KITH_FORMAT_NPY, "not an npy file", 15, "byte 0: this is no npy file");
    assert_refused(KITH_FORMAT_NPY, "\x93NUMPY\x09\x00\x10\x00xxxxxxxxxxxxxxxx", 26, "versions");
    assert_refused(KITH_FORMAT_NPY, "\x93NUMPY\x01\x00\x10\x00{}xx", 14, "the file ends");
    assert_refused(KITH_FORMAT_NPY, "\x93NUMPY\x01\x00\x02\x00{}", 12, "not a dict");
    assert_npy_refused(">f4", 1, 2, nan_row, 8, "dtype '>f4'");
    assert_npy_refused("<f4", 2, 2, nan_row, 8, "the file has 8 bytes there");
    assert_npy_refused("<f4", 1, 1, nan_row, 8, "the file has 8 bytes there");
    assert_npy_refused("<f4", UINT64_MAX, 2, nan_row, 8, "shape (18446744073709551615, 2)");
    assert_npy_refused("<f4", 1, 0, NULL, 0, "not in 1..16384");
    assert_npy_refused("<f4", 1, 2, nan_row, 8, "component 1 of row 0 is nan");
    assert_npy_refused("<f8", 1, 1, &huge, 8, "infinite");
    assert_npy_refused("<i8", 1, 1, &huge, 8, "not vectors");
}

static void test_format__names_what_is_wrong_with_vecs(void **state) {
    (void)state;
    assert_refused(KITH_FORMAT_FVECS, "", 0, "empty");
    assert_refused(KITH_FORMAT_FVECS, "\x01", 1, "the file ends");
    assert_refused(KITH_FORMAT_FVECS, "\xff\xff\xff\xff", 4, "not in 1..16384");
    assert_refused(KITH_FORMAT_BVECS, "\x02\0\0\0ab\x02\0\0\0a", 11, "not a whole number of rows");
    assert_refused(KITH_FORMAT_BVECS, "\x02\0\0\0ab\x03\0\0\0ab", 12, "byte 6: row 1 has dim 3");
}

static void test_format__names_the_line_of_a_bad_jsonl(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"id\": 1, \"vector\": [1]}\nnot json", "bad:2:1:"},
        {"{\"vector\": [1, x]}", "bad:1:16: a number"},
        {"{\"vector\": [1 2]}", "',' or ']'"},
        {"{\"vector\": []}", "a number"},
        {"{\"vector\": [1e39]}", "a number that a float holds"},
        {"{\"vector\": [1]}\n{\"vector\": [1, 2]}",
            "bad:2: the vector has 2 components, the one of line 1 1"},
        {"{\"vectr\": [1]}", "bad:1:2: the keys"},
        {"{\"id\": -1}", "whole number"},
        {"{\"id\": 01}", "whole number"},
        {"{\"id\": 18446744073709551616}", "whole number"},
        {"{\"id\": \"\"}", "bad:1:8:"},
        {"{\"id\": \"a\xff\"}", "bad:1:8:"},
        {"{\"id\": 1, \"id\": 2}", "each once"},
        {"{\"vector\": [1], \"vectors\": {\"\": [1]}}", "two vectors"},
        {"{\"payload\": 7}", "JSON object or null"},
        {"{\"payload\": {\"a\": }}", "bad:1:13:"},
        {"{\"payload\": {\"a\": [}", "bad:1:13:"},
        {"{\"id\": 1} x", "behind the object"},
        {"{\"id\": 1,}", "a string in double quotes"},
        {"{\"id\"", "':'"},
        {"{\"id", "no end"},
        {"[]", "one JSON object"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(KITH_FORMAT_JSONL, cases[i].text, strlen(cases[i].text), cases[i].message);
}

static void test_format__reads_jsonl_with_gaps(void **state) {
    static const char text[] =
        "{\"id\": 7, \"vector\": [1, -2.5e0], \"payload\": {\"a\": \"}\\\"\"}}\r\n"
        "\n"
        "  {\"id\": \"x\\u00e9\", \"vectors\": {\"t\": [0.5]}, \"payload\": null}  \n"
        "{\"id\":\"9B2E1E5C-0A55-4C0E-A3D1-0C8F2F9A7B11\",\"vectors\":{\"\":[3,4],\"t\":[9]}}\n"
        "{\"vectors\": {}}";
    (void)state;
    kith_format *format;
    kith_format_batch batch;
    kith_err err;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_format_options options = {.id_start = 100};
    assert_ok(kith_format_open_memory("m", KITH_FORMAT_JSONL, text, sizeof text - 1, &options, &format, &err),
        &err);
    assert_ok(kith_format_read(format, 100, 1u << 20, &arena, &batch, &err), &err);
    assert_int_equal(batch.count, 4);
    assert_int_equal(batch.ids[0].number, 7);
    assert_int_equal(batch.ids[1].type, KITH_ID_STRING);
    assert_memory_equal(batch.ids[1].bytes, "x\xc3\xa9", 3);
    assert_int_equal(batch.ids[2].type, KITH_ID_UUID);
    assert_int_equal(batch.ids[3].number, 103);
    assert_int_equal(batch.column_count, 2);
    assert_int_equal(batch.columns[0].row_count, 2);
    assert_memory_equal(batch.columns[0].present, "\1\0\1\0", 4);
    assert_memory_equal(batch.columns[1].present, "\0\1\1\0", 4);
    assert_true(batch.columns[0].values[1] == -2.5f);
    assert_true(batch.columns[1].values[1] == 9.0f);
    assert_int_equal(batch.payload_bytes[0], strlen("{\"a\": \"}\\\"\"}"));
    assert_null(batch.payloads[1]);
    assert_ok(kith_format_read(format, 100, 1u << 20, &arena, &batch, &err), &err);
    assert_int_equal(batch.count, 0);
    kith_format_close(format);
    kith_arena_fini(&arena);
}

static void test_format__ids_of_rows_do_not_begin_anew(void **state) {
    static const char text[] = "{}\n{\"id\": 5}\n{}\n";
    (void)state;
    kith_format *format;
    kith_format_batch batch;
    kith_err err;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_format_options options = {.id_start = UINT64_MAX - 1};
    assert_ok(kith_format_open_memory("m", KITH_FORMAT_JSONL, text, sizeof text - 1, &options, &format, &err),
        &err);
    assert_ok(kith_format_read(format, 2, 1u << 20, &arena, &batch, &err), &err);
    assert_true(batch.ids[0].number == UINT64_MAX - 1);
    assert_int_equal(batch.ids[1].number, 5);
    assert_int_equal(kith_format_read(format, 2, 1u << 20, &arena, &batch, &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "m:3:"));
    assert_non_null(strstr(err.text, "--id-start"));
    kith_format_close(format);
    kith_arena_fini(&arena);
}

static void write_file(kith_env *env, const char *path, const char *text) {
    kith_file *file;
    kith_err err;
    assert_ok(kith_file_open(env, path, KITH_FILE_WRITE, &file, &err), &err);
    assert_ok(kith_file_write_at(file, 0, text, strlen(text), &err), &err);
    kith_file_close(file);
}

/* Payloads must be as many as vectors. */
static kith_status read_with_payloads(kith_env *env, const char *dir, const char *payloads, kith_err *err) {
    char vectors_path[4096], payload_path[4096];
    kith_format *format;
    kith_format_batch batch = {.count = 1};
    kith_arena arena;
    snprintf(vectors_path, sizeof vectors_path, "%s/v.jsonl.bvecs", dir);
    snprintf(payload_path, sizeof payload_path, "%s/p%zu.jsonl", dir, strlen(payloads));
    kith_file *file;
    assert_ok(kith_file_open(env, vectors_path, KITH_FILE_WRITE, &file, err), err);
    assert_ok(kith_file_write_at(file, 0, "\1\0\0\0a\1\0\0\0b", 10, err), err);
    kith_file_close(file);
    write_file(env, payload_path, payloads);
    kith_format_options options = {.payload_path = payload_path};
    assert_ok(kith_format_open(env, vectors_path, &options, &format, err), err);
    kith_arena_init(&arena);
    kith_status status = KITH_OK;
    while (status == KITH_OK && batch.count > 0)
        status = kith_format_read(format, 1, 1024, &arena, &batch, err);
    kith_arena_fini(&arena);
    kith_format_close(format);
    return status;
}

static void test_format__wants_one_payload_a_vector(void **state) {
    (void)state;
    kith_env *env;
    kith_err err;
    char *dir = test_dir_make();
    assert_ok(kith_env_posix_create(&env, &err), &err);
    assert_ok(read_with_payloads(env, dir, "{\"a\": 1}\nnull\n", &err), &err);
    assert_int_equal(read_with_payloads(env, dir, "{\"a\": 1}\n", &err), KITH_INVALID);
    assert_non_null(strstr(err.text, "1 lines for 2 vectors"));
    assert_int_equal(read_with_payloads(env, dir, "{}\n{}\n{}\n", &err), KITH_INVALID);
    assert_non_null(strstr(err.text, ":3: more lines than the 2 vectors"));
    assert_int_equal(read_with_payloads(env, dir, "{}\n[]\n", &err), KITH_INVALID);
    assert_non_null(strstr(err.text, ":2"));
    kith_env_posix_destroy(env);
    test_dir_remove(dir);
}

static void test_format__a_line_may_span_many_reads(void **state) {
    (void)state;
    kith_buf text;
    kith_format *format;
    kith_format_batch batch;
    kith_err err;
    kith_arena arena;
    kith_arena_init(&arena);
    kith_buf_init(&text);
    for (uint32_t i = 0; i < 40; i++) {
        kith_buf_append_format(&text, "{\"id\": %u, \"vector\": [0", i);
        for (uint32_t j = 1; j < 16384; j++)
            kith_buf_append_format(&text, ", %u.25", i + j);
        kith_buf_append_text(&text, "]}\n");
    }
    kith_format_options options = {.id_start = 0};
    assert_ok(kith_format_open_memory("m", KITH_FORMAT_JSONL, text.data, text.bytes, &options, &format, &err),
        &err);
    for (uint32_t i = 0; i < 40; i += batch.count) {
        assert_ok(kith_format_read(format, 7, 1u << 30, &arena, &batch, &err), &err);
        assert_true(batch.count > 0);
        assert_int_equal(batch.ids[0].number, i);
        assert_true(batch.columns[0].values[16383] == (float)(i + 16383) + 0.25f);
    }
    kith_format_close(format);
    kith_buf_fini(&text);
    kith_arena_fini(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format__reads_npy_and_fvecs_in_pieces),
        cmocka_unit_test(test_format__reads_every_dtype),
        cmocka_unit_test(test_format__names_what_is_wrong_with_an_npy),
        cmocka_unit_test(test_format__names_what_is_wrong_with_vecs),
        cmocka_unit_test(test_format__names_the_line_of_a_bad_jsonl),
        cmocka_unit_test(test_format__reads_jsonl_with_gaps),
        cmocka_unit_test(test_format__ids_of_rows_do_not_begin_anew),
        cmocka_unit_test(test_format__wants_one_payload_a_vector),
        cmocka_unit_test(test_format__a_line_may_span_many_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
