/* Codes in sealed segments: what a build writes keeps its promises row by row, answers do not change by it, and a file
 * whose numbers a bound cannot rely on is refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bitset.h"
#include "host/base/bytes.h"
#include "host/index/segment_codes.h"
#include "host/index/segment_internal.h"
#include "tests/lib/test_lib.h"
#include "tests/sim/sim_env.h"
#include "tests/unit/index/segment_golden.h"

#define GOLDEN_NAME "segment-codes-v1.kith"
#define PLAIN_PATH  "/data/plain.kith"
#define CODED_PATH  "/data/coded.kith"
#define ROWS        5000u
#define K           20

typedef struct fixture {
    sim_env *sim;
    kith_env *env;
    kith_schema schema;
    kith_segment *growing;
    kith_rng rng;
} fixture;

static fixture *fixture_create(const kith_schema *schema) {
    fixture *f = kith_alloc_zero(sizeof *f);
    f->sim = sim_env_create(1);
    f->env = sim_env_kith(f->sim);
    f->schema = *schema;
    kith_rng_init(&f->rng, test_seed(1));
    kith_err err;
    assert_ok(kith_dir_make(f->env, "/data", &err), &err);
    assert_ok(kith_segment_growing_create(7, schema, 2 * ROWS, kith_compute_cpu(), &f->growing, &err), &err);
    return f;
}

static void fixture_destroy(fixture *f) {
    kith_segment_release(f->growing);
    sim_env_destroy(f->sim);
    kith_free(f);
}

static kith_schema schema_of(kith_metric metric, kith_vector_type type, uint32_t dim) {
    return (kith_schema){.field_count = 2,
        .fields = {{.dim = dim, .metric = metric, .type = type},
            {.name = "plain", .dim = 3, .metric = KITH_METRIC_IP, .type = KITH_TYPE_F32}}};
}

/* Component i falls like i^-falling. */
static void values_make(kith_rng *rng, uint32_t dim, double falling, float *values_out) {
    for (uint32_t i = 0; i < dim; i++)
        values_out[i] = (float)fmax(-100, fmin(100, 25 * kith_rng_normal(rng) * pow(i + 1, -falling) + 1));
}

/* Rows from id `first` on; every `lacking`-th lacks field 0, 0: none. */
static void rows_append(fixture *f, uint64_t first, uint32_t count, uint32_t lacking, double falling) {
    float values[2][256];
    uint8_t stored[2][256 * 4];
    kith_err err;
    for (uint32_t i = 0; i < count; i++) {
        kith_op_point point = {.id = kith_id_of_number(first + i), .field_mask = 3};
        if (lacking > 0 && i % lacking == 0) point.field_mask = 2;
        for (uint32_t field = 0; field < 2; field++) {
            const kith_field *to = &f->schema.fields[field];
            values_make(&f->rng, to->dim, falling, values[field]);
            assert_ok(kith_vector_store(values[field], to->dim, to->type, stored[field], &err), &err);
            if (point.field_mask >> field & 1) point.vectors[field] = stored[field];
        }
        uint32_t row;
        assert_ok(kith_segment_growing_append(f->growing, &point, first + i, &row, &err), &err);
    }
}

static kith_segment *build(fixture *f, const kith_segment_source *sources, uint32_t count, const char *path) {
    uint32_t rows;
    kith_err err;
    kith_segment *segment;
    assert_ok(
        kith_segment_build(f->env, path, &f->schema, kith_compute_cpu(), sources, count, NULL, &rows, &err),
        &err);
    assert_ok(kith_segment_sealed_open(f->env, path, 8, &f->schema, &segment, &err), &err);
    assert_int_equal(kith_segment_row_count(segment), rows);
    return segment;
}

static kith_segment *growing_build(fixture *f, const char *path) {
    kith_segment_source source = {f->growing, kith_segment_row_count(f->growing), NULL};
    return build(f, &source, 1, path);
}

static const kith_codes *codes_of(const kith_segment *segment, uint32_t field) {
    kith_rows rows = {0};
    segment->ops->rows_of(segment, field, &rows);
    return rows.codes;
}

/* --- what codes promise --- */

/* z of codes.h. */
static void z_make(const kith_field *field, const kith_code_basis *basis, const void *stored, double *z_out) {
    float values[256];
    kith_vector_load(stored, field->dim, field->type, values);
    double square = 0;
    for (uint32_t i = 0; i < field->dim; i++)
        square += (double)values[i] * values[i];
    double length = field->metric == KITH_METRIC_COSINE ? sqrt(square) : 1;
    for (uint32_t i = 0; i < field->dim; i++)
        z_out[i] = values[i] / length - basis->mean[i];
}

static double component(const kith_code_basis *basis, uint32_t index, const double *z) {
    if (!basis->vectors) return index < basis->dim ? z[index] : 0;
    const float *vector = basis->vectors + (size_t)index * kith_code_stride(basis->dim);
    double sum = 0;
    for (uint32_t i = 0; i < basis->dim; i++)
        sum += vector[i] * z[i];
    return sum;
}

static void row_check(const kith_segment *segment, const kith_codes *codes, uint32_t row) {
    const kith_field *field = &segment->schema.fields[0];
    const kith_code_block *block = kith_code_block_at(codes, row / KITH_CODE_BLOCK_ROWS);
    uint32_t lane = row % KITH_CODE_BLOCK_ROWS;
    const void *stored = kith_segment_row_vector(segment, 0, row);
    if (!stored) {
        assert_true(block->scale[lane] == 0 && block->tail[lane] == 0);
        return;
    }
    const uint8_t *block_codes = kith_code_part(block, kith_code_layout_of(&codes->basis).codes_at);
    double z[256] = {0}, tail[256];
    z_make(field, &codes->basis, stored, z);
    memcpy(tail, z, sizeof tail);
    double error = 0, seen = 0, square = 0, length = 0;
    for (uint32_t i = 0; i < codes->basis.code_dim; i++) {
        double y = component(&codes->basis, i, z);
        uint8_t code = block_codes[(i / 4 * KITH_CODE_BLOCK_ROWS + lane) * 4 + i % 4];
        assert_true(code > 0);
        double coded = (double)block->scale[lane] * (code - KITH_CODE_BIAS);
        error += (y - coded) * (y - coded);
        length += (code - KITH_CODE_BIAS) * (code - KITH_CODE_BIAS);
        seen += y * y;
        for (uint32_t j = 0; j < field->dim && codes->basis.vectors; j++)
            tail[j] -= y * codes->basis.vectors[(size_t)i * kith_code_stride(field->dim) + j];
    }
    for (uint32_t j = 0; j < field->dim; j++)
        square += tail[j] * tail[j];
    assert_true(sqrt(length) <= block->length);
    double error_most = (double)block->noise * block->scale[lane];
    assert_true(sqrt(error) + KITH_CODE_SLOPE * sqrt(seen) <= error_most);
    if (codes->basis.vectors) assert_true(sqrt(square) <= block->tail[lane]);
    /* Not so large that it says nothing. */
    assert_true(error_most < 0.05 * sqrt(seen) + 1e-3);
}

/* The same of a code by row, whose directions are the axes. */
static void by_row_check(const kith_segment *segment, const kith_codes *codes, uint32_t row) {
    const kith_field *field = &segment->schema.fields[0];
    const uint8_t *row_codes = kith_code_row_at(codes, row);
    const kith_code_row *constants = kith_code_row_constants(row_codes, field->dim);
    const void *stored = kith_segment_row_vector(segment, 0, row);
    if (!stored) {
        assert_true(constants->scale == 0);
        return;
    }
    double z[256] = {0}, error = 0, seen = 0, square = 0;
    z_make(field, &codes->basis, stored, z);
    for (uint32_t i = 0; i < field->dim; i++) {
        double coded = (double)constants->scale * (row_codes[i] - KITH_CODE_BIAS);
        error += (z[i] - coded) * (z[i] - coded);
        seen += z[i] * z[i];
        square += coded * coded;
    }
    double error_most = (double)constants->noise * (double)constants->scale;
    assert_true(sqrt(error) + KITH_CODE_SLOPE * sqrt(seen) <= error_most);
    assert_true(error_most < 0.05 * sqrt(seen) + 1e-3 && square > 0);
    for (uint32_t i = field->dim; i < kith_code_row_bytes(field->dim) - sizeof *constants; i++)
        assert_int_equal(row_codes[i], KITH_CODE_BIAS);
}

static void search_check(fixture *f, const kith_segment *sealed) {
    uint32_t dim = f->schema.fields[0].dim, rows = kith_segment_row_count(sealed);
    float query[256];
    uint64_t *dead = kith_alloc_zero(kith_bitset_words(rows) * sizeof *dead);
    for (uint32_t row = 0; row < rows; row += 7)
        kith_bitset_set(dead, row);
    for (uint32_t i = 0; i < 10; i++) {
        values_make(&f->rng, dim, 0.7, query);
        kith_segment_search search = {.row_begin = i % 3 * (rows / 50),
            .row_end = rows - i % 4,
            .dead = i % 2 ? dead : NULL,
            .queries = query,
            .query_count = 1,
            .k = K};
        kith_row_hit hits[2][K];
        uint32_t counts[2];
        kith_top_k_stats stats[2] = {{0}};
        kith_err err;
        for (uint32_t b = 0; b < 2; b++) {
            search.compute = b == 0 ? kith_compute_ref() : kith_compute_cpu();
            assert_ok(kith_segment_search_run(sealed, &search, hits[b], &counts[b], &stats[b], &err), &err);
        }
        bool by_codes = codes_of(sealed, 0) && strcmp(kith_compute_cpu()->name, "avx2") == 0 && rows >= ROWS;
        if (by_codes) assert_true(stats[1].rows_coded == stats[1].rows_scanned && stats[1].rows_coded > 0);
        assert_int_equal(counts[0], counts[1]);
        for (uint32_t j = 0; j < counts[0]; j++) {
            assert_int_equal(hits[0][j].row, hits[1][j].row);
            assert_true(hits[0][j].closeness == hits[1][j].closeness);
        }
    }
    kith_free(dead);
}

static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE};
static const kith_vector_type types[] = {KITH_TYPE_F32, KITH_TYPE_F16, KITH_TYPE_BF16, KITH_TYPE_I8};

static void test_segment_codes__promises_hold_for_every_row(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        double falling = i % 2 == 0 ? 1 : 0; /* directions, or the axes */
        kith_vector_type type = falling > 0 ? types[i / 3] : types[i / 6];
        kith_schema schema = schema_of(metrics[i % 3], type, falling > 0 ? 100 : 64);
        fixture *f = fixture_create(&schema);
        rows_append(f, 1, ROWS, i % 4 < 2 ? 0 : 9, falling);
        kith_segment *sealed = growing_build(f, PLAIN_PATH);
        const kith_codes *codes = codes_of(sealed, 0);
        assert_non_null(codes);
        assert_null(codes_of(sealed, 1)); /* three components are no work */
        assert_int_equal(codes->basis.vectors != NULL, falling > 0);
        assert_int_equal((uintptr_t)codes->blocks % 64, 0);
        bool long_vectors = falling > 0 && type == KITH_TYPE_F32; /* 400 bytes, and codes of 128 */
        assert_int_equal(codes->by_row != NULL, long_vectors);
        assert_int_equal((uintptr_t)codes->by_row % 64, 0);
        for (uint32_t row = 0; row < ROWS; row++) {
            row_check(sealed, codes, row);
            if (codes->by_row) by_row_check(sealed, codes, row);
        }
        search_check(f, sealed);
        kith_segment_release(sealed);
        fixture_destroy(f);
    }
}

static void test_segment_codes__merges_are_coded_anew(void **state) {
    (void)state;
    kith_schema schema = schema_of(KITH_METRIC_L2, KITH_TYPE_F32, 64);
    fixture *f = fixture_create(&schema);
    rows_append(f, 1000000, ROWS, 0, 1);
    kith_segment *first = growing_build(f, PLAIN_PATH);
    rows_append(f, 1, ROWS, 3, 0.5);
    uint64_t *dead = kith_alloc_zero(kith_bitset_words(2 * ROWS) * sizeof *dead);
    for (uint32_t row = 0; row < ROWS; row++)
        kith_bitset_set(dead, row);
    uint64_t *first_dead = kith_alloc_zero(kith_bitset_words(ROWS) * sizeof *first_dead);
    for (uint32_t row = 0; row < ROWS; row += 2)
        kith_bitset_set(first_dead, row);
    kith_segment_source sources[] = {{first, ROWS, first_dead}, {f->growing, 2 * ROWS, dead}};
    kith_segment *merged = build(f, sources, 2, CODED_PATH);
    assert_int_equal(kith_segment_row_count(merged), ROWS + ROWS / 2);
    assert_non_null(codes_of(merged, 0));
    for (uint32_t row = 0; row < kith_segment_row_count(merged); row++)
        row_check(merged, codes_of(merged, 0), row);
    search_check(f, merged);
    kith_segment_release(merged);
    kith_segment_release(first);
    kith_free(first_dead);
    kith_free(dead);
    fixture_destroy(f);
}

static void none_check(kith_metric metric, uint32_t dim, uint32_t rows, uint32_t lacking) {
    kith_schema schema = schema_of(metric, KITH_TYPE_F32, dim);
    fixture *f = fixture_create(&schema);
    rows_append(f, 1, rows, lacking, 1);
    kith_segment *sealed = growing_build(f, PLAIN_PATH);
    assert_null(codes_of(sealed, 0));
    search_check(f, sealed);
    kith_segment_release(sealed);
    fixture_destroy(f);
}

static void test_segment_codes__are_left_out_where_they_do_not_pay(void **state) {
    (void)state;
    none_check(KITH_METRIC_L2, 64, SEGMENT_CODES_ROWS_MIN - 1, 0);
    none_check(KITH_METRIC_L2, 64, SEGMENT_CODES_ROWS_MIN, 1000); /* a few rows lack the field */
    none_check(KITH_METRIC_L1, 64, SEGMENT_CODES_ROWS_MIN, 0);
    none_check(KITH_METRIC_L2, 16, SEGMENT_CODES_ROWS_MIN, 0);
}

/* --- the file --- */

/* dim 34: directions, with padding, looked at twice; dim 3: the axes. */
#define GOLDEN_DIM    34u
#define GOLDEN_STRIDE 48u
static const kith_schema golden_schema = {.field_count = 2,
    .fields = {{.name = "", .dim = GOLDEN_DIM, .metric = KITH_METRIC_COSINE, .type = KITH_TYPE_I8},
        {.name = "b", .dim = 3, .metric = KITH_METRIC_L2, .type = KITH_TYPE_F32}}};
#define GOLDEN_ROWS 40u

/* Components swapped in pairs, every other one negated. */
static void golden_basis(uint32_t field, float *mean, float *vectors, kith_code_basis *basis_out) {
    uint32_t dim = golden_schema.fields[field].dim;
    for (uint32_t i = 0; i < dim; i++)
        mean[i] = (float)i / 64;
    *basis_out = (kith_code_basis){.dim = dim,
        .code_dim = field == 0 ? 32 : 16,
        .lead_dim = 16,
        .metric = golden_schema.fields[field].metric,
        .mean = mean};
    if (field == 1) return;
    for (uint32_t i = 0; i < 32; i++)
        vectors[i * GOLDEN_STRIDE + (i ^ 1)] = i % 2 ? -1 : 1;
    basis_out->vectors = vectors;
    basis_out->defect = 0x1p-30;
}

/* Where a test spoils a section: 4 or 8 bytes at `offset`. */
typedef struct patch {
    uint32_t kind, field;
    uint64_t offset;
    uint32_t bytes;
    uint64_t value;
} patch;

static void section_put(kith_segment_writer *writer, uint32_t kind, uint32_t field, const void *data,
    size_t bytes, const patch *spoil) {
    kith_err err;
    uint8_t *copy = kith_alloc(bytes);
    memcpy(copy, data, bytes);
    if (spoil && spoil->kind == kind && spoil->field == field)
        memcpy(copy + spoil->offset, &spoil->value, spoil->bytes);
    assert_ok(kith_segment_writer_begin(writer, (kith_segment_section_kind)kind, field, &err), &err);
    assert_ok(kith_segment_writer_append(writer, copy, bytes, &err), &err);
    kith_segment_writer_end(writer);
    kith_free(copy);
}

/* Sections as they are, with checksums that are right; `left_out` is a kind, or 0. */
static void sections_copy(
    fixture *f, const char *path, kith_segment_writer *writer, const patch *spoil, uint32_t left_out) {
    kith_segment_file *file;
    kith_err err;
    assert_ok(kith_segment_file_open(f->env, path, &file, &err), &err);
    for (uint32_t kind = 1; kind <= KITH_SEGMENT_CODES_BY_ROW; kind++) {
        for (uint32_t field = 0; field < f->schema.field_count; field++) {
            const kith_segment_section *section =
                kith_segment_file_find(file, (kith_segment_section_kind)kind, field);
            if (section && kind != left_out)
                section_put(writer, kind, field, section->data, section->bytes, spoil);
        }
    }
    kith_segment_file_close(file);
}

static void by_row_put(
    kith_segment_writer *writer, const kith_segment *segment, uint32_t field, const kith_code_basis *basis) {
    size_t row_bytes = kith_code_row_bytes(basis->dim);
    uint8_t *by_row = kith_try_alloc_aligned(GOLDEN_ROWS * row_bytes);
    void *scratch = kith_try_alloc_aligned(kith_code_rows_encode_scratch_bytes(basis));
    for (uint32_t row = 0; row < GOLDEN_ROWS; row++) {
        const void *vector = kith_segment_row_vector(segment, field, row);
        kith_code_rows_encode(kith_compute_ref(), basis, segment->schema.fields[field].type, &vector, 1,
            scratch, by_row + row * row_bytes);
    }
    section_put(writer, KITH_SEGMENT_CODES_BY_ROW, field, by_row, GOLDEN_ROWS * row_bytes, NULL);
    kith_free(scratch);
    kith_free(by_row);
}

static void codes_put(kith_segment_writer *writer, const kith_segment *segment, uint32_t field) {
    float mean[GOLDEN_STRIDE] = {0}, vectors[32 * GOLDEN_STRIDE] = {0};
    kith_code_basis basis;
    golden_basis(field, mean, vectors, &basis);
    uint8_t bytes[64 + sizeof mean + sizeof vectors] = {0};
    size_t stride_bytes = kith_code_stride(basis.dim) * sizeof(float);
    kith_store_u32(bytes, basis.dim);
    kith_store_u32(bytes + 4, basis.code_dim);
    kith_store_u32(bytes + 8, basis.vectors ? 1 : 0);
    kith_store_u32(bytes + 12, basis.lead_dim);
    memcpy(bytes + 16, &basis.defect, 8);
    kith_store_u32(bytes + 24, SEGMENT_CODE_VERSION);
    memcpy(bytes + 64, mean, stride_bytes);
    memcpy(bytes + 64 + stride_bytes, vectors, sizeof vectors);
    size_t size = 64 + stride_bytes + (basis.vectors ? 32 * stride_bytes : 0);
    section_put(writer, KITH_SEGMENT_CODE_BASIS, field, bytes, size, NULL);
    size_t block_bytes = kith_code_block_bytes(&basis);
    uint8_t *blocks = kith_try_alloc_aligned(2 * block_bytes);
    void *scratch = kith_try_alloc_aligned(kith_codes_encode_scratch_bytes(&basis));
    for (uint32_t b = 0; b < 2; b++) {
        const void *rows[32];
        uint32_t count = b == 0 ? 32 : GOLDEN_ROWS - 32;
        for (uint32_t i = 0; i < count; i++)
            rows[i] = kith_segment_row_vector(segment, field, b * 32 + i);
        kith_codes_encode(kith_compute_ref(), &basis, segment->schema.fields[field].type, rows, count,
            scratch, (kith_code_block *)(blocks + b * block_bytes));
    }
    section_put(writer, KITH_SEGMENT_CODES, field, blocks, 2 * block_bytes, NULL);
    kith_free(scratch);
    kith_free(blocks);
    if (basis.vectors) by_row_put(writer, segment, field, &basis);
}

/* The points of tests/golden/segment-codes-v1.kith: never change them. Its error bounds are those of the encoder that
 * wrote it; a later one may write others. */
static void golden_rows(fixture *f) {
    for (uint32_t row = 0; row < GOLDEN_ROWS; row++) {
        int8_t bytes[GOLDEN_DIM];
        float floats[3];
        for (uint32_t i = 0; i < GOLDEN_DIM; i++)
            bytes[i] = (int8_t)((row * 37 + i * i * 11) % 201 - 100);
        for (uint32_t i = 0; i < 3; i++)
            floats[i] = (float)(row * (i + 1) % 17) / 4;
        kith_op_point point = {.id = kith_id_of_number(row * 3 + 1),
            .field_mask = row == 5 ? 2 : 3,
            .vectors = {(const uint8_t *)bytes, (const uint8_t *)floats}};
        uint32_t at;
        kith_err err;
        assert_ok(kith_segment_growing_append(f->growing, &point, row + 1, &at, &err), &err);
    }
}

/* The golden rows with codes, at CODED_PATH. */
static fixture *golden_fixture(void) {
    fixture *f = fixture_create(&golden_schema);
    golden_rows(f);
    kith_segment *plain = growing_build(f, PLAIN_PATH);
    assert_null(codes_of(plain, 0));
    kith_segment_writer *writer;
    kith_err err;
    assert_ok(kith_segment_writer_open(f->env, CODED_PATH, &writer, &err), &err);
    sections_copy(f, PLAIN_PATH, writer, NULL, 0);
    for (uint32_t field = 0; field < 2; field++)
        codes_put(writer, plain, field);
    assert_ok(kith_segment_writer_finish(writer, &err), &err);
    kith_segment_writer_close(writer);
    kith_segment_release(plain);
    return f;
}

/* CODED_PATH once more with one change, opened. */
static kith_status spoiled_open(fixture *f, const patch *spoil, uint32_t left_out, kith_err *err) {
    kith_segment_writer *writer;
    kith_segment *segment;
    assert_ok(kith_segment_writer_open(f->env, "/data/spoiled.kith", &writer, err), err);
    sections_copy(f, CODED_PATH, writer, spoil, left_out);
    assert_ok(kith_segment_writer_finish(writer, err), err);
    kith_segment_writer_close(writer);
    kith_status status = kith_segment_sealed_open(f->env, "/data/spoiled.kith", 1, &f->schema, &segment, err);
    if (status == KITH_OK) kith_segment_release(segment);
    return status;
}

static void test_segment_codes__numbers_out_of_range_are_corrupt(void **state) {
    (void)state;
    fixture *f = golden_fixture();
    enum { BASIS = KITH_SEGMENT_CODE_BASIS, CODES = KITH_SEGMENT_CODES, BY_ROW = KITH_SEGMENT_CODES_BY_ROW };
    const uint64_t nan = 0x7fc00000, infinite = 0x7f800000, minus = 0xbf800000, two = 0x40000000;
    const patch bad[] = {
        {BASIS, 0, 0, 4, 19},                                  /* dim */
        {BASIS, 0, 4, 4, 0},                                   /* code_dim */
        {BASIS, 0, 4, 4, 15},                                  /* no multiple of 16 */
        {BASIS, 0, 4, 4, 48},                                  /* more directions than dimensions */
        {BASIS, 0, 4, 4, 0xfffffff0},                          /* a length that overflows */
        {BASIS, 1, 4, 4, 32},                                  /* not dim rounded up */
        {BASIS, 0, 8, 4, 2},                                   /* kind */
        {BASIS, 0, 8, 4, 0},                                   /* the axes, but directions follow */
        {BASIS, 1, 8, 4, 1},                                   /* directions that are not there */
        {BASIS, 0, 12, 4, 0},                                  /* lead_dim */
        {BASIS, 0, 12, 4, 8},                                  /* no multiple of 16 */
        {BASIS, 0, 12, 4, 48},                                 /* more than code_dim */
        {BASIS, 0, 16, 8, 0x3f60624dd2f1a9fd},                 /* defect just over 0.002 */
        {BASIS, 0, 16, 8, 0x7ff8000000000000},                 /* NaN */
        {BASIS, 0, 16, 8, 0xbfb999999999999a},                 /* negative */
        {BASIS, 1, 16, 8, 0x3e10000000000000},                 /* the axes have none */
        {BASIS, 0, 64, 4, nan},                                /* mean */
        {BASIS, 0, 64, 4, infinite},                           /* mean */
        {BASIS, 0, 64 + GOLDEN_DIM * 4, 4, minus},             /* mean past dim */
        {BASIS, 0, 64 + GOLDEN_STRIDE * 4, 4, nan},            /* a direction */
        {BASIS, 0, 64 + GOLDEN_STRIDE * 4, 4, two},            /* longer than 1 */
        {BASIS, 0, 64 + GOLDEN_STRIDE * 4 * 33 - 4, 4, minus}, /* the last direction past dim */
        {CODES, 0, 0, 4, nan}, {CODES, 0, 0, 4, infinite}, {CODES, 0, 0, 4, minus},    /* noise */
        {CODES, 0, 0, 4, 0x41000000},                                                  /* 8, of 7.7 at most */
        {CODES, 0, 4, 4, nan}, {CODES, 0, 4, 4, 0x44800000}, {CODES, 0, 4, 4, minus},  /* length */
        {CODES, 0, 64, 4, minus}, {CODES, 0, 68, 4, nan}, {CODES, 0, 64, 4, infinite}, /* scale */
        {CODES, 0, 192, 4, minus}, {CODES, 1, 192, 4, nan},                            /* tail */
        {CODES, 0, 320, 4, minus}, {CODES, 0, 324, 4, nan},                            /* lead_tail */
        {CODES, 1, 320, 4, nan}, {CODES, 1, 320, 4, two},                              /* offset */
        {CODES, 0, 448, 1, 0}, {CODES, 0, 2 * 1472 - 1, 1, 0}, /* the first code, and the last */
        {CODES, 1, 960 + 64 + 4 * 31, 4, minus},               /* the second block */
        {BY_ROW, 0, 0, 1, 0}, {BY_ROW, 0, 39 * 64 + 47, 1, 0}, /* the first code, and the last */
        {BY_ROW, 0, 48, 4, minus}, {BY_ROW, 0, 48, 4, nan}, {BY_ROW, 0, 64 + 48, 4, infinite}, /* scale */
        {BY_ROW, 0, 52, 4, minus}, {BY_ROW, 0, 52, 4, nan}, {BY_ROW, 0, 52, 4, 0x41200000},    /* noise: 10 */
        {BY_ROW, 0, 52, 4, 0xff800000}, {BY_ROW, 0, 56, 4, nan}, {BY_ROW, 0, 56, 4, minus},    /* offset */
    };
    kith_err err;
    assert_ok(spoiled_open(f, NULL, 0, &err), &err);
    for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (spoiled_open(f, &bad[i], 0, &err) != KITH_CORRUPT) fail_msg("patch %u was not found", i);
        char field[16];
        snprintf(field, sizeof field, "field %u", bad[i].field);
        assert_non_null(strstr(err.text, "/data/spoiled.kith"));
        assert_non_null(strstr(err.text, kith_segment_section_name(bad[i].kind)));
        assert_non_null(strstr(err.text, field));
        assert_non_null(strstr(err.text, "at offset"));
    }
    const patch always_kept[] = {{CODES, 0, 192, 4, infinite}, {BY_ROW, 0, 52, 4, infinite}};
    for (uint32_t i = 0; i < 2; i++)
        assert_ok(spoiled_open(f, &always_kept[i], 0, &err), &err);
    assert_ok(spoiled_open(f, NULL, BY_ROW, &err), &err); /* as in files of before */
    const patch one_look = {BASIS, 0, 12, 4, 32};         /* but tails of the first of two follow */
    assert_int_equal(spoiled_open(f, &one_look, 0, &err), KITH_CORRUPT);
    const patch of_before = {BASIS, 0, 24, 4, 1};
    assert_int_equal(spoiled_open(f, &of_before, 0, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "codes of another version"));
    assert_int_equal(spoiled_open(f, NULL, KITH_SEGMENT_CODES, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "its codes are not there"));
    assert_int_equal(spoiled_open(f, NULL, KITH_SEGMENT_CODE_BASIS, &err), KITH_CORRUPT);
    assert_non_null(strstr(err.text, "its basis is not there"));
    fixture_destroy(f);
}

static void test_segment_codes__golden_file_still_reads(void **state) {
    (void)state;
    fixture *f = golden_fixture();
    segment_golden_write_if_asked(f->sim, CODED_PATH, GOLDEN_NAME);
    size_t bytes;
    uint8_t *golden = segment_golden_read(GOLDEN_NAME, &bytes);
    sim_env_file_put(f->sim, "/data/golden.kith", golden, bytes);
    kith_segment *sealed;
    kith_err err;
    assert_ok(kith_segment_sealed_open(f->env, "/data/golden.kith", 1, &golden_schema, &sealed, &err), &err);
    assert_non_null(codes_of(sealed, 0));
    assert_non_null(codes_of(sealed, 1));
    for (uint32_t row = 0; row < GOLDEN_ROWS; row++)
        row_check(sealed, codes_of(sealed, 0), row);
    search_check(f, sealed);
    kith_segment_release(sealed);
    kith_free(golden);
    fixture_destroy(f);
}

static void test_segment_codes__any_flipped_byte_is_corrupt(void **state) {
    (void)state;
    fixture *f = golden_fixture();
    size_t bytes;
    (void)sim_env_file_get(f->sim, CODED_PATH, &bytes);
    for (size_t at = 0; at < bytes; at++) {
        kith_segment *sealed;
        kith_err err;
        assert_true(sim_env_flip(f->sim, CODED_PATH, at, (uint8_t)(1u << at % 8)));
        assert_int_equal(
            kith_segment_sealed_open(f->env, CODED_PATH, 1, &golden_schema, &sealed, &err), KITH_CORRUPT);
        assert_true(sim_env_flip(f->sim, CODED_PATH, at, (uint8_t)(1u << at % 8)));
    }
    fixture_destroy(f);
}

/* --- ends before the end --- */

static atomic_bool cancel_now;
static uint32_t calls_until_cancel;

/* Gives vectors until it cancels the build that asks. */
static const void *cancelling_vector(const void *ctx, uint32_t field_index, uint32_t row) {
    if (calls_until_cancel > 0 && --calls_until_cancel == 0) atomic_store(&cancel_now, true);
    return kith_segment_row_vector(ctx, field_index, row);
}

static void test_segment_codes__cancel_ends_encoding(void **state) {
    (void)state;
    kith_schema schema = schema_of(KITH_METRIC_L2, KITH_TYPE_F32, 64);
    fixture *f = fixture_create(&schema);
    rows_append(f, 1, 2 * ROWS, 0, 1);
    kith_segment_writer *writer;
    kith_err err;
    assert_ok(kith_segment_writer_open(f->env, PLAIN_PATH, &writer, &err), &err);
    segment_codes_rows rows = {.field = &schema.fields[0],
        .row_count = 2 * ROWS,
        .vector_at = cancelling_vector,
        .ctx = f->growing,
        .cancel = &cancel_now};
    atomic_store(&cancel_now, false);
    calls_until_cancel = SEGMENT_CODES_ROWS_MIN + 8192 + 100; /* counting, the sample, some of the rows */
    assert_int_equal(segment_codes_write(writer, kith_compute_cpu(), &rows, &err), KITH_CANCELLED);
    kith_segment_writer_close(writer);
    fixture_destroy(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_codes__promises_hold_for_every_row),
        cmocka_unit_test(test_segment_codes__merges_are_coded_anew),
        cmocka_unit_test(test_segment_codes__are_left_out_where_they_do_not_pay),
        cmocka_unit_test(test_segment_codes__numbers_out_of_range_are_corrupt),
        cmocka_unit_test(test_segment_codes__golden_file_still_reads),
        cmocka_unit_test(test_segment_codes__any_flipped_byte_is_corrupt),
        cmocka_unit_test(test_segment_codes__cancel_ends_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
