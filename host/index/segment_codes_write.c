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
    kith_status status =
        kith_codes_train(compute, field->metric, field->type, field->dim, sample, count, training_out, err);
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

/* Encodes rows [begin, begin + 32) into `block` and appends it. */
static kith_status block_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, const kith_code_basis *basis, uint32_t begin, void *scratch,
    kith_code_block *block, kith_err *err) {
    const void *vectors[KITH_CODE_BLOCK_ROWS];
    uint32_t left = rows->row_count - begin;
    uint32_t count = left < KITH_CODE_BLOCK_ROWS ? left : KITH_CODE_BLOCK_ROWS;
    for (uint32_t i = 0; i < count; i++)
        vectors[i] = vector_of(rows, begin + i);
    kith_codes_encode(compute, basis, rows->field->type, vectors, count, scratch, block);
    return kith_segment_writer_append(writer, block, kith_code_block_bytes(basis), err);
}

static kith_status blocks_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, const kith_code_basis *basis, kith_err *err) {
    size_t scratch_bytes = (kith_codes_encode_scratch_bytes(basis) + 63) / 64 * 64;
    size_t bytes = scratch_bytes + kith_code_block_bytes(basis);
    uint8_t *memory = kith_try_alloc_aligned(bytes);
    if (!memory) return kith_err_set(err, KITH_NO_MEMORY, "no memory for %zu bytes to encode rows", bytes);
    kith_code_block *block = (kith_code_block *)(memory + scratch_bytes);
    kith_status status = kith_segment_writer_begin(writer, KITH_SEGMENT_CODES, rows->field_index, err);
    for (uint32_t row = 0; status == KITH_OK && row < rows->row_count; row += KITH_CODE_BLOCK_ROWS) {
        if (row % CODES_CANCEL_ROWS == 0) status = cancel_check(rows, err);
        if (status == KITH_OK) status = block_write(writer, compute, rows, basis, row, memory, block, err);
    }
    if (status == KITH_OK) kith_segment_writer_end(writer);
    kith_free(memory);
    return status;
}

kith_status segment_codes_write(kith_segment_writer *writer, const kith_compute_ops *compute,
    const segment_codes_rows *rows, kith_err *err) {
    if (!enough_rows(rows)) return KITH_OK;
    if (!compute->products) compute = kith_compute_cpu(); /* a device's table leaves out what the CPU does */
    kith_code_training training;
    kith_status status = train(rows, compute, &training, err);
    if (status != KITH_OK || !training.useful) return status;
    status = basis_write(writer, rows->field_index, &training.basis, err);
    if (status == KITH_OK) status = blocks_write(writer, compute, rows, &training.basis, err);
    kith_codes_training_free(&training);
    return status;
}
