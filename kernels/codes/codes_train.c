/* Training: the mean, the leading directions (codes_directions.c) and how many of them (codes_cost.c).
 *
 * For ip and cosine the query is not centred, so what the basis must see of it includes the mean: if q' = mean + r
 * with r spread like z, the mean square of what the basis misses is 2 |tail of z|^2 + |tail of the mean|^2 over both
 * sides. The directions are those of the rows' second moment plus half the mean's square, which spends a direction on
 * the mean where it is long and none where it is short.
 *
 * Which directions of their space are taken does not matter to what they see; those of the first look, and the others, are
 * mixed each among themselves (code_directions_mix).
 *
 * Directions fit the rows they were found on better than others, the more so the fewer rows there are: a few hundred
 * rows lie in a few hundred directions whatever they are. Where the sample is not many times dim, every second row is
 * kept from the directions and used to choose code_dim.
 *
 * Limits. Above TRAIN_DIM_MAX only the axes are tried: the matrix of second moments would be larger than the sample,
 * and time grows with the square of dim. At most TRAIN_DIRECTIONS_MAX directions, and three quarters of dim: a longer
 * code is nearly as long as that of the axes. Below TRAIN_DIM_MIN a code is hardly shorter than the vector. */
#include <math.h>
#include <string.h>

#include "host/base/alloc.h"
#include "kernels/codes/codes.h"
#include "kernels/codes/codes_bound.h"
#include "kernels/codes/codes_cost.h"
#include "kernels/codes/codes_directions.h"

#define TRAIN_DIM_MIN        32u
#define TRAIN_DIM_MAX        2048u
#define TRAIN_DIRECTIONS_MAX 512u
#define TRAIN_SAMPLE_MIN     64u  /* fewer rows say too little */
#define TRAIN_ROWS_OF_DIM    16u  /* a sample of fewer rows per dimension is halved */
#define TRAIN_DEFECT_MOST    1e-5 /* above it the iteration went wrong: the axes are used */

/* --- the sample --- */

static void row_load(const code_sample *sample, const void *stored, float *row) {
    memset(row, 0, sample->stride * sizeof *row);
    kith_vector_load(stored, sample->dim, sample->type, row);
    if (sample->metric != KITH_METRIC_COSINE) return;
    double length = code_length(row, sample->dim);
    for (uint32_t i = 0; i < sample->dim; i++)
        row[i] = length > 0 ? (float)(row[i] / length) : 0;
}

/* means [stride]. */
static void mean_make(const code_sample *sample, double *means) {
    memset(means, 0, sample->stride * sizeof *means);
    for (uint32_t row = 0; row < sample->row_count; row++) {
        const float *values = sample->rows + (size_t)row * sample->stride;
        for (uint32_t i = 0; i < sample->stride; i++)
            means[i] += values[i];
    }
    for (uint32_t i = 0; i < sample->stride; i++)
        sample->mean[i] = (float)(means[i] / sample->row_count);
}

/* The power of two that brings the largest component of row - mean into [0.5, 1), so that no square overflows or
 * vanishes. 0: all rows are the same. */
static double scale_of(const code_sample *sample) {
    double most = 0;
    for (uint32_t row = 0; row < sample->row_count; row++) {
        const float *values = sample->rows + (size_t)row * sample->stride;
        for (uint32_t i = 0; i < sample->stride; i++)
            most = fmax(most, fabs((double)values[i] - sample->mean[i]));
    }
    if (most == 0) return 0;
    int exponent;
    (void)frexp(most, &exponent);
    return ldexp(1, -exponent);
}

static void rows_centre(const code_sample *sample) {
    for (uint32_t row = 0; row < sample->row_count; row++) {
        float *values = sample->rows + (size_t)row * sample->stride;
        for (uint32_t i = 0; i < sample->stride; i++)
            values[i] = (float)(((double)values[i] - sample->mean[i]) * sample->scale);
    }
}

/* Fills rows, every second stored one first, then the others; and mean_out [stride] with the mean as it is stored. */
static void sample_load(code_sample *sample, const void *stored, double *means, float *mean_out) {
    size_t bytes = sample->dim * kith_vector_type_bytes(sample->type);
    uint32_t half = (sample->row_count + 1) / 2;
    for (uint32_t row = 0; row < sample->row_count; row++) {
        size_t at = row / 2 + (row % 2 == 0 ? 0 : half);
        row_load(sample, (const char *)stored + row * bytes, sample->rows + at * sample->stride);
    }
    mean_make(sample, means);
    memcpy(mean_out, sample->mean, sample->stride * sizeof *mean_out);
    sample->scale = scale_of(sample);
    rows_centre(sample);
    for (uint32_t i = 0; i < sample->stride; i++)
        sample->mean[i] = (float)(sample->mean[i] * sample->scale);
}

/* --- the result --- */

static uint32_t direction_count_of(uint32_t dim) {
    if (dim > TRAIN_DIM_MAX) return 0;
    uint32_t count = dim * 3 / 4 / KITH_CODE_DIM_STEP * KITH_CODE_DIM_STEP;
    return count < TRAIN_DIRECTIONS_MAX ? count : TRAIN_DIRECTIONS_MAX;
}

/* mean [stride] and, unless the choice is the axes, directions, moved to memory of the training's own. */
static kith_status training_fill(const code_sample *sample, const code_choice *choice, const float *mean,
    const float *directions, kith_code_training *training_out, kith_err *err) {
    size_t stride = sample->stride;
    size_t count = choice->axes ? 0 : choice->code_dim;
    float *memory = kith_try_alloc_aligned((1 + count) * stride * sizeof *memory);
    if (!memory) return kith_err_set(err, KITH_NO_MEMORY, "no memory for %zu directions", count);
    memcpy(memory, mean, stride * sizeof *memory);
    memcpy(memory + stride, directions, count * stride * sizeof *memory);
    *training_out = (kith_code_training){.useful = true, .memory = memory};
    training_out->basis = (kith_code_basis){.dim = sample->dim,
        .code_dim = choice->code_dim,
        .lead_dim = choice->lead_dim,
        .metric = sample->metric,
        .mean = memory,
        .vectors = choice->axes ? NULL : memory + stride};
    if (!choice->axes)
        training_out->basis.defect =
            code_directions_defect(memory + stride, choice->code_dim, sample->stride);
    return KITH_OK;
}

/* directions [*direction_count][stride] is room; the count becomes 0 where the iteration went wrong. */
static kith_status directions_find(const kith_compute_ops *ops, const code_sample *sample, uint32_t row_count,
    float *directions, uint32_t *direction_count, kith_err *err) {
    if (*direction_count == 0) return KITH_OK;
    const float *shift = sample->metric == KITH_METRIC_L2 ? NULL : sample->mean;
    kith_status status = code_directions_find(
        ops, sample->rows, row_count, sample->dim, shift, *direction_count, directions, err);
    if (status != KITH_OK) return status;
    double defect = code_directions_defect(directions, *direction_count, sample->stride);
    if (!(defect <= TRAIN_DEFECT_MOST)) *direction_count = 0;
    return KITH_OK;
}

static kith_status train(const kith_compute_ops *ops, const code_sample *sample, const float *mean,
    float *directions, uint32_t direction_count, kith_code_training *training_out, kith_err *err) {
    bool halved = sample->row_count / TRAIN_ROWS_OF_DIM < sample->dim;
    uint32_t half = (sample->row_count + 1) / 2;
    kith_status status =
        directions_find(ops, sample, halved ? half : sample->row_count, directions, &direction_count, err);
    if (status != KITH_OK) return status;
    code_sample judged = *sample;
    if (halved && direction_count > 0) {
        judged.rows += (size_t)half * sample->stride;
        judged.row_count -= half;
    }
    code_choice choice;
    status = code_choice_make(ops, &judged, directions, direction_count, &choice, err);
    if (status != KITH_OK) return status;
    if (choice.useful && !choice.axes) {
        status = code_directions_mix(directions, choice.lead_dim, sample->dim, err);
        if (status == KITH_OK && choice.lead_dim < choice.code_dim)
            status = code_directions_mix(directions + (size_t)choice.lead_dim * sample->stride,
                choice.code_dim - choice.lead_dim, sample->dim, err);
        if (status != KITH_OK) return status;
    }
    if (choice.useful) return training_fill(sample, &choice, mean, directions, training_out, err);
    *training_out = (kith_code_training){0};
    return KITH_OK;
}

kith_status kith_codes_train(const kith_compute_ops *ops, kith_metric metric, kith_vector_type type,
    uint32_t dim, const void *sample_stored, uint32_t sample_count, uint32_t row_count,
    kith_code_training *training_out, kith_err *err) {
    if (metric == KITH_METRIC_L1 || dim < TRAIN_DIM_MIN || sample_count < TRAIN_SAMPLE_MIN) {
        *training_out = (kith_code_training){0};
        return KITH_OK;
    }
    code_sample sample = {.metric = metric,
        .type = type,
        .dim = dim,
        .stride = kith_code_stride(dim),
        .row_count = sample_count,
        .of_rows = row_count};
    size_t stride = sample.stride;
    uint32_t direction_count = direction_count_of(dim);
    size_t floats = (2 + (size_t)direction_count + sample_count) * stride;
    double *means = kith_try_alloc_aligned(stride * sizeof *means + floats * sizeof(float));
    if (!means)
        return kith_err_set(
            err, KITH_NO_MEMORY, "no memory to train codes on %u rows of dim %u", sample_count, dim);
    float *mean = (float *)(void *)(means + stride);
    sample.mean = mean + stride;
    sample.rows = sample.mean + stride;
    float *directions = sample.rows + (size_t)sample_count * stride;
    sample_load(&sample, sample_stored, means, mean);
    kith_status status = KITH_OK;
    if (sample.scale > 0)
        status = train(ops, &sample, mean, directions, direction_count, training_out, err);
    else
        *training_out = (kith_code_training){0};
    kith_free(means);
    return status;
}

void kith_codes_training_free(kith_code_training *training) {
    kith_free(training->memory);
    *training = (kith_code_training){0};
}
