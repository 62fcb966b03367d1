/* Training and encoding while a segment is built. */
#include "host/index/segment_codes.h"

#include <string.h>

#include "host/base/alloc.h"
#include "host/base/bytes.h"
#include "host/base/rng.h"

#define SAMPLE_ROWS_MAX   8192u
#define SAMPLE_ROWS_MIN   512u
#define SAMPLE_BYTES_MAX  (32u << 20) /* in f32: 8,192 rows of dim 1,024 */
#define SAMPLE_SEED       0x73616d70u
#define CODES_CANCEL_ROWS 4096u /* rows between two looks at the cancel flag */

static kith_status cancel_check(const segment_codes_rows *rows, kith_err *err) {
    if (rows->cancel && atomic_load_explicit(rows->cancel, memory_order_relaxed)) {
        return kith_err_set(err, KITH_CANCELLED, "the build was cancelled");
    }
    return KITH_OK;
}

static const void *vector_of(const segment_codes_rows *rows, uint32_t row) {
    return rows->vector_at(rows->ctx, rows->field_index, row);
}

static bool enough_rows(const segment_codes_rows *rows) {
    uint32_t present = 0;
    for (uint32_t row = 0; row < rows->row_count && present < SEGMENT_CODES_ROWS_MIN; row++)
        present += vector_of(rows, row) != NULL;
    return present == SEGMENT_CODES_ROWS_MIN;
}

/* --- training --- */

static uint32_t sample_rows_max(const segment_codes_rows *rows) {
    uint32_t fitting = SAMPLE_BYTES_MAX / (rows->field->dim * (uint32_t)sizeof(float));
    uint32_t count = fitting < SAMPLE_ROWS_MAX ? fitting : SAMPLE_ROWS_MAX;
    count = count > SAMPLE_ROWS_MIN ? count : SAMPLE_ROWS_MIN;
    return count < rows->row_count ? count : rows->row_count;
}

/* One row of each of `count` equal runs, at a place that does not repeat from run to run: rows are in id order, and ids
 * may have a rhythm. A run's row without the field gives way to the next that has it. Returns the rows taken. */
static uint32_t sample_take(const segment_codes_rows *rows, uint32_t count, uint8_t *sample_out) {
    size_t bytes = kith_field_vector_bytes(rows->field);
    kith_rng rng;
    kith_rng_init(&rng, SAMPLE_SEED);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t begin = (uint32_t)((uint64_t)rows->row_count * i / count);
        uint32_t end = (uint32_t)((uint64_t)rows->row_count * (i + 1) / count);
        uint32_t row = begin + (uint32_t)kith_rng_below(&rng, end - begin);
        const void *vector = NULL;
        for (; row < end && !vector; row++)
            vector = vector_of(rows, row);
        if (vector) memcpy(sample_out + bytes * taken++, vector, bytes);
    }
    return taken;
}

static kith_status train(const segment_codes_rows *rows, const kith_compute_ops *compute,
    kith_code_training *training_out, kith_err *err) {
    const kith_field *field = rows->field;
    uint32_t count = sample_rows_max(rows);
    size_t bytes = kith_field_vector_bytes(field) * count;
    uint8_t *sample = kith_try_alloc_aligned(bytes);
    if (!sample) return kith_err_set(err, KITH_NO_MEMORY, "no memory for a sample of %zu bytes", bytes);
    count = sample_take(rows, count, sample);
    kith_status status = kith_codes_train(
        compute, field->metric, field->type, field->dim, sample, count, rows->row_count, training_out, err);
    kith_free(sample);
    return status;
}

/* --- sections --- */

static kith_status basis_write(
    kith_segment_writer *writer, uint32_t field_index, const kith_code_basis *basis, kith_err *err) {
    uint8_t header[SEGMENT_CODE_BASIS_HEADER_BYTES] = {0};
    kith_store_u32(header, basis->dim);
    kith_store_u32(header + 4, basis->code_dim);
    kith_store_u32(header + 8, basis->vectors ? SEGMENT_CODE_DIRECTIONS : SEGMENT_CODE_AXES);
    kith_store_u32(header + 12, basis->lead_dim);
    memcpy(header + 16, &basis->defect, sizeof basis->defect);
    kith_store_u32(header + 24, SEGMENT_CODE_VERSION);
    size_t stride_bytes = kith_code_stride(basis->dim) * sizeof(float);
    kith_status status = kith_segment_writer_begin(writer, KITH_SEGMENT_CODE_BASIS, field_index, err);
    if (status == KITH_OK) status = kith_segment_writer_append(writer, header, sizeof header, err);
    if (status == KITH_OK) status = kith_segment_writer_append(writer, basis->mean, stride_bytes, err);
    if (status == KITH_OK && basis->vectors) {
        status = kith_segment_writer_append(writer, basis->vectors, basis->code_dim * stride_bytes, err);
    }
    if (status == KITH_OK) kith_segment_writer_end(writer);
    return status;
}

/* A section of rows' codes, 32 rows at a time. */
typedef struct rows_section {
    kith_segment_section_kind kind;
    size_t scratch_bytes;
    size_t bytes; /* of 32 rows, at most */
    /* Returns the bytes of these. */
    size_t (*encode)(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
        const void *const *vectors, uint32_t row_count, void *scratch, void *out);
} rows_section;

static size_t block_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *scratch, void *out) {
    kith_codes_encode(ops, basis, type, vectors, row_count, scratch, out);
    return kith_code_block_bytes(basis);
}

static size_t by_row_encode(const kith_compute_ops *ops, const kith_code_basis *basis, kith_vector_type type,
    const void *const *vectors, uint32_t row_count, void *scratch, void *out) {
    kith_code_rows_encode(ops, basis, type, vectors, row_count, scratch, out);
    return (size_t)row_count * kith_code_row_bytes(basis->dim);
}

/* Encodes up to 32 rows from `begin` on and appends them. */
static kith_status rows_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, const kith_code_basis *basis, const rows_section *section, uint32_t begin,
    uint8_t *memory, kith_err *err) {
    const void *vectors[KITH_CODE_BLOCK_ROWS];
    uint32_t left = rows->row_count - begin;
    uint32_t count = left < KITH_CODE_BLOCK_ROWS ? left : KITH_CODE_BLOCK_ROWS;
    for (uint32_t i = 0; i < count; i++)
        vectors[i] = vector_of(rows, begin + i);
    uint8_t *out = memory + section->scratch_bytes;
    size_t bytes = section->encode(compute, basis, rows->field->type, vectors, count, memory, out);
    return kith_segment_writer_append(writer, out, bytes, err);
}

static kith_status section_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, const kith_code_basis *basis, const rows_section *section,
    kith_err *err) {
    size_t bytes = section->scratch_bytes + section->bytes;
    uint8_t *memory = kith_try_alloc_aligned(bytes);
    if (!memory) return kith_err_set(err, KITH_NO_MEMORY, "no memory for %zu bytes to encode rows", bytes);
    kith_status status = kith_segment_writer_begin(writer, section->kind, rows->field_index, err);
    for (uint32_t row = 0; status == KITH_OK && row < rows->row_count; row += KITH_CODE_BLOCK_ROWS) {
        if (row % CODES_CANCEL_ROWS == 0) status = cancel_check(rows, err);
        if (status == KITH_OK) status = rows_write(writer, compute, rows, basis, section, row, memory, err);
    }
    if (status == KITH_OK) kith_segment_writer_end(writer);
    kith_free(memory);
    return status;
}

static size_t align_up(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static kith_status sections_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, const kith_code_basis *basis, kith_err *err) {
    const rows_section blocks = {KITH_SEGMENT_CODES, align_up(kith_codes_encode_scratch_bytes(basis)),
        kith_code_block_bytes(basis), block_encode};
    const rows_section by_row = {KITH_SEGMENT_CODES_BY_ROW,
        align_up(kith_code_rows_encode_scratch_bytes(basis)),
        KITH_CODE_BLOCK_ROWS * (size_t)kith_code_row_bytes(basis->dim), by_row_encode};
    kith_status status = basis_write(writer, rows->field_index, basis, err);
    if (status == KITH_OK) status = section_write(writer, compute, rows, basis, &blocks, err);
    if (status == KITH_OK && kith_code_rows_pay(basis, rows->field->type))
        status = section_write(writer, compute, rows, basis, &by_row, err);
    return status;
}

kith_status segment_codes_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, kith_err *err) {
    if (!enough_rows(rows)) return KITH_OK;
    if (!compute->products) compute = kith_compute_cpu(); /* a device's table leaves out what the CPU does */
    kith_code_training training;
    kith_status status = train(rows, compute, &training, err);
    if (status != KITH_OK || !training.useful) return status;
    status = sections_write(writer, compute, rows, &training.basis, err);
    kith_codes_training_free(&training);
    return status;
}
