/* Training of codes: what it finds is orthonormal, ordered and the same each time; what it chooses fits rows whose
 * best code is known beforehand. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "kernels/codes/codes.h"
#include "tests/lib/test_lib.h"

#define SAMPLE 2048u

/* rows [count][dim] f32; component i is normal with deviation (i + 1)^-falling, turned by nothing. */
static float *rows_make(uint32_t dim, uint32_t count, double falling, double mean, uint64_t seed) {
    kith_rng rng;
    kith_rng_init(&rng, seed);
    float *rows = kith_alloc_array((size_t)dim * count, sizeof *rows);
    for (uint32_t row = 0; row < count; row++) {
        for (uint32_t i = 0; i < dim; i++)
            rows[(size_t)row * dim + i] = (float)(kith_rng_normal(&rng) * pow(i + 1, -falling) + mean);
    }
    return rows;
}

static kith_code_training train(const kith_compute_ops *ops, kith_metric metric, kith_vector_type type,
    uint32_t dim, const void *rows, uint32_t count) {
    kith_code_training training;
    kith_err err;
    assert_ok(kith_codes_train(ops, metric, type, dim, rows, count, count, &training, &err), &err);
    return training;
}

/* Frobenius norm of B B^T - I in long double. */
static double defect_of(const kith_code_basis *basis) {
    uint32_t stride = kith_code_stride(basis->dim);
    long double sum = 0;
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        for (uint32_t j = 0; j < basis->code_dim; j++) {
            long double product = i == j ? -1 : 0;
            for (uint32_t at = 0; at < stride; at++)
                product += (long double)basis->vectors[i * stride + at] * basis->vectors[j * stride + at];
            sum += product * product;
        }
    }
    return (double)sqrtl(sum);
}

static void basis_check(const kith_code_training *training, kith_metric metric, uint32_t dim) {
    const kith_code_basis *basis = &training->basis;
    uint32_t stride = kith_code_stride(dim);
    assert_true(training->useful);
    assert_int_equal(basis->dim, dim);
    assert_int_equal(basis->metric, metric);
    assert_int_equal(basis->code_dim % KITH_CODE_DIM_STEP, 0);
    for (uint32_t i = 0; i < stride; i++) {
        assert_true(isfinite(basis->mean[i]));
        if (i >= dim) assert_true(basis->mean[i] == 0);
    }
    if (!basis->vectors) {
        assert_int_equal(basis->code_dim, stride);
        assert_true(basis->defect == 0);
        return;
    }
    assert_true(basis->code_dim > 0 && basis->code_dim <= dim);
    for (uint32_t i = 0; i < basis->code_dim; i++) {
        for (uint32_t j = dim; j < stride; j++)
            assert_true(basis->vectors[i * stride + j] == 0);
    }
    double defect = defect_of(basis);
    assert_true(basis->defect >= defect);
    assert_true(basis->defect <= defect * 1.01 + 1e-9 && basis->defect < 1e-5);
}

/* Square mean of b_direction . (x - mean) over the rows. */
static double variance_along(
    const kith_code_basis *basis, uint32_t direction, const float *rows, uint32_t count) {
    const float *vector = basis->vectors + (size_t)direction * kith_code_stride(basis->dim);
    double sum = 0;
    for (uint32_t row = 0; row < count; row++) {
        double product = 0;
        for (uint32_t i = 0; i < basis->dim; i++)
            product += ((double)rows[(size_t)row * basis->dim + i] - basis->mean[i]) * vector[i];
        sum += product * product;
    }
    return sum / count;
}

static void test_codes_train__directions_are_orthonormal_and_lead(void **state) {
    (void)state;
    uint32_t ops_count;
    const kith_compute_ops *const *list = kith_compute_cpu_list(&ops_count);
    uint64_t seed = test_seed(1);
    for (uint32_t i = 0; i < ops_count * 3; i++) {
        uint32_t dim = i % 3 == 0 ? 64 : i % 3 == 1 ? 100 : 121;
        float *rows = rows_make(dim, SAMPLE, 1, 0, seed + i);
        kith_code_training training = train(list[i / 3], KITH_METRIC_L2, KITH_TYPE_F32, dim, rows, SAMPLE);
        basis_check(&training, KITH_METRIC_L2, dim);
        assert_non_null(training.basis.vectors);
        /* The axes are the true directions, with variance (i + 1)^-2. The first look has the leading ones, mixed. */
        double seen = 0, most = 0;
        for (uint32_t direction = 0; direction < training.basis.code_dim; direction++) {
            double variance = variance_along(&training.basis, direction, rows, SAMPLE);
            seen += variance;
            most += pow(direction + 1, -2);
            assert_true(variance < 0.6);
            if (direction + 1 == training.basis.lead_dim) assert_true(seen > 0.95 * most);
        }
        assert_true(seen > 0.95 * most);
        kith_codes_training_free(&training);
        assert_null(training.memory);
        kith_free(rows);
    }
}

static void test_codes_train__finds_the_space_that_rows_lie_in(void **state) {
    (void)state;
    /* 12 dimensions of 96: the iteration's other directions have no variance at all. */
    uint32_t dim = 96;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    float *frame = rows_make(dim, 12, 0, 0, kith_rng_next(&rng));
    float *rows = kith_alloc_zero((size_t)SAMPLE * dim * sizeof *rows);
    for (uint32_t row = 0; row < SAMPLE; row++) {
        for (uint32_t j = 0; j < 12; j++) {
            double times = kith_rng_normal(&rng);
            for (uint32_t i = 0; i < dim; i++)
                rows[(size_t)row * dim + i] += (float)(times * frame[(size_t)j * dim + i]);
        }
    }
    kith_code_training training = train(kith_compute_cpu(), KITH_METRIC_L2, KITH_TYPE_F32, dim, rows, SAMPLE);
    basis_check(&training, KITH_METRIC_L2, dim);
    assert_int_equal(training.basis.code_dim, 16);
    double seen = 0, all = 0;
    for (uint32_t i = 0; i < 16; i++)
        seen += variance_along(&training.basis, i, rows, SAMPLE);
    for (uint32_t row = 0; row < SAMPLE; row++) {
        for (uint32_t i = 0; i < dim; i++)
            all += pow((double)rows[(size_t)row * dim + i] - training.basis.mean[i], 2) / SAMPLE;
    }
    assert_true(fabs(seen - all) < 1e-4 * all);
    kith_codes_training_free(&training);
    kith_free(frame);
    kith_free(rows);
}

static void test_codes_train__equal_directions_give_the_axes(void **state) {
    (void)state;
    for (uint32_t dim = 32; dim <= 4096; dim = dim * 3 + 8) {
        uint32_t count = dim > 1024 ? 256 : SAMPLE;
        float *rows = rows_make(dim, count, 0, 0.5, test_seed(1));
        kith_code_training training =
            train(kith_compute_cpu(), KITH_METRIC_L2, KITH_TYPE_F32, dim, rows, count);
        basis_check(&training, KITH_METRIC_L2, dim);
        assert_null(training.basis.vectors);
        kith_codes_training_free(&training);
        kith_free(rows);
    }
}

/* Few rows seem to lie in few directions. */
static void test_codes_train__rows_it_was_not_trained_on_judge(void **state) {
    (void)state;
    uint32_t dim = 1024;
    float *rows = rows_make(dim, 300, 0, 0, test_seed(1));
    kith_code_training training = train(kith_compute_cpu(), KITH_METRIC_L2, KITH_TYPE_F32, dim, rows, 300);
    basis_check(&training, KITH_METRIC_L2, dim);
    assert_null(training.basis.vectors);
    kith_codes_training_free(&training);
    kith_free(rows);
}

static void test_codes_train__long_mean_is_among_the_directions(void **state) {
    (void)state;
    static const kith_metric metrics[] = {KITH_METRIC_IP, KITH_METRIC_COSINE};
    for (uint32_t m = 0; m < 2; m++) {
        uint32_t dim = 64;
        float *rows = rows_make(dim, SAMPLE, 1, 1, test_seed(1));
        kith_code_training training = train(kith_compute_cpu(), metrics[m], KITH_TYPE_F32, dim, rows, SAMPLE);
        basis_check(&training, metrics[m], dim);
        assert_non_null(training.basis.vectors);
        double whole = 0, seen = 0;
        for (uint32_t i = 0; i < dim; i++)
            whole += pow(training.basis.mean[i], 2);
        for (uint32_t j = 0; j < training.basis.code_dim; j++) {
            double product = 0;
            for (uint32_t i = 0; i < dim; i++)
                product += (double)training.basis.vectors[j * dim + i] * training.basis.mean[i];
            seen += product * product;
        }
        assert_true(whole > 0.5 && seen > 0.999 * whole);
        kith_codes_training_free(&training);
        kith_free(rows);
    }
}

static void test_codes_train__cosine_does_not_see_lengths(void **state) {
    (void)state;
    uint32_t dim = 64;
    kith_rng rng;
    kith_rng_init(&rng, test_seed(1));
    float *rows = rows_make(dim, SAMPLE, 1, 0.1, kith_rng_next(&rng));
    kith_code_training one = train(kith_compute_cpu(), KITH_METRIC_COSINE, KITH_TYPE_F32, dim, rows, SAMPLE);
    for (uint32_t row = 0; row < SAMPLE; row++) {
        float length = ldexpf(1, (int)kith_rng_below(&rng, 60) - 30);
        for (uint32_t i = 0; i < dim; i++)
            rows[(size_t)row * dim + i] *= length;
    }
    kith_code_training two = train(kith_compute_cpu(), KITH_METRIC_COSINE, KITH_TYPE_F32, dim, rows, SAMPLE);
    assert_true(one.useful && two.useful);
    assert_int_equal(one.basis.code_dim, two.basis.code_dim);
    assert_memory_equal(one.basis.mean, two.basis.mean, dim * sizeof(float));
    kith_codes_training_free(&one);
    kith_codes_training_free(&two);
    kith_free(rows);
}

static void test_codes_train__same_rows_same_basis(void **state) {
    (void)state;
    uint32_t dim = 80;
    float *rows = rows_make(dim, SAMPLE, 0.7, 0, test_seed(1));
    kith_code_training one = train(kith_compute_cpu(), KITH_METRIC_IP, KITH_TYPE_F32, dim, rows, SAMPLE);
    kith_code_training two = train(kith_compute_cpu(), KITH_METRIC_IP, KITH_TYPE_F32, dim, rows, SAMPLE);
    assert_non_null(one.basis.vectors);
    assert_int_equal(one.basis.code_dim, two.basis.code_dim);
    assert_true(one.basis.defect == two.basis.defect);
    assert_memory_equal(
        one.basis.vectors, two.basis.vectors, (size_t)one.basis.code_dim * dim * sizeof(float));
    kith_codes_training_free(&one);
    kith_codes_training_free(&two);
    kith_free(rows);
}

static void useless_check(
    kith_metric metric, kith_vector_type type, uint32_t dim, const void *rows, uint32_t count) {
    kith_code_training training = train(kith_compute_cpu(), metric, type, dim, rows, count);
    assert_false(training.useful);
    assert_null(training.memory);
    kith_codes_training_free(&training);
}

static void test_codes_train__says_where_codes_do_not_pay(void **state) {
    (void)state;
    float *rows = rows_make(128, SAMPLE, 0, 0, test_seed(1));
    useless_check(KITH_METRIC_L1, KITH_TYPE_F32, 128, rows, SAMPLE);
    useless_check(KITH_METRIC_L2, KITH_TYPE_F32, 31, rows, SAMPLE);
    useless_check(KITH_METRIC_L2, KITH_TYPE_F32, 1, rows, SAMPLE);
    useless_check(KITH_METRIC_L2, KITH_TYPE_F32, 128, rows, 63);
    int8_t *bytes = kith_alloc((size_t)SAMPLE * 128);
    for (uint32_t i = 0; i < SAMPLE * 128; i++)
        bytes[i] = (int8_t)fmaxf(-127, fminf(127, rows[i] * 30));
    useless_check(
        KITH_METRIC_L2, KITH_TYPE_I8, 128, bytes, SAMPLE); /* as long as the vector, and no better */
    memset(rows, 0, (size_t)SAMPLE * 128 * sizeof *rows);
    useless_check(KITH_METRIC_L2, KITH_TYPE_F32, 128, rows, SAMPLE); /* nothing tells the rows apart */
    kith_free(bytes);
    kith_free(rows);
}

static void test_codes_train__short_components_of_any_type_are_read(void **state) {
    (void)state;
    static const kith_vector_type types[] = {KITH_TYPE_F16, KITH_TYPE_BF16, KITH_TYPE_I8};
    uint32_t dim = 128;
    float *rows = rows_make(dim, SAMPLE, 1, 0, test_seed(1));
    for (uint32_t t = 0; t < 3; t++) {
        size_t bytes = dim * kith_vector_type_bytes(types[t]);
        char *stored = kith_alloc(SAMPLE * bytes);
        float scaled[128];
        for (uint32_t row = 0; row < SAMPLE; row++) {
            for (uint32_t i = 0; i < dim; i++)
                scaled[i] = fmaxf(-120, fminf(120, rows[(size_t)row * dim + i] * 30));
            kith_err err;
            assert_ok(kith_vector_store(scaled, dim, types[t], stored + row * bytes, &err), &err);
        }
        kith_code_training training =
            train(kith_compute_cpu(), KITH_METRIC_L2, types[t], dim, stored, SAMPLE);
        basis_check(&training, KITH_METRIC_L2, dim);
        assert_non_null(training.basis.vectors);
        assert_true(training.basis.code_dim < 100);
        kith_codes_training_free(&training);
        kith_free(stored);
    }
    kith_free(rows);
}

/* Whatever finite numbers come, the basis is finite. */
static void test_codes_train__extreme_numbers_are_survived(void **state) {
    (void)state;
    static const double factors[] = {3e37, 1e30, 1e20, 1e-20, 1e-30, 1e-40};
    static const kith_metric metrics[] = {KITH_METRIC_L2, KITH_METRIC_IP, KITH_METRIC_COSINE};
    uint32_t dim = 64;
    for (uint32_t i = 0; i < 18; i++) {
        float *rows = rows_make(dim, SAMPLE, 1, 0.1, test_seed(1));
        for (uint32_t j = 0; j < SAMPLE * dim; j++)
            rows[j] = (float)(rows[j] * factors[i / 3]);
        kith_code_training training =
            train(kith_compute_cpu(), metrics[i % 3], KITH_TYPE_F32, dim, rows, SAMPLE);
        if (training.useful) basis_check(&training, metrics[i % 3], dim);
        /* Rows too long for the bound are always kept, queries too short are not coded: then codes do not pay. */
        bool lost = metrics[i % 3] != KITH_METRIC_COSINE && (factors[i / 3] > 1e10 || factors[i / 3] < 1e-15);
        if (factors[i / 3] > 1e-40) assert_int_equal(training.useful, !lost);
        kith_codes_training_free(&training);
        kith_free(rows);
    }
}

static void test_codes_train__wide_vectors_are_quick(void **state) {
    (void)state;
    uint32_t dim = 16384;
    float *rows = rows_make(dim, 128, 0, 0, test_seed(1));
    kith_code_training training = train(kith_compute_cpu(), KITH_METRIC_IP, KITH_TYPE_F32, dim, rows, 128);
    if (training.useful) basis_check(&training, KITH_METRIC_IP, dim);
    kith_codes_training_free(&training);
    kith_free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_train__directions_are_orthonormal_and_lead),
        cmocka_unit_test(test_codes_train__finds_the_space_that_rows_lie_in),
        cmocka_unit_test(test_codes_train__equal_directions_give_the_axes),
        cmocka_unit_test(test_codes_train__rows_it_was_not_trained_on_judge),
        cmocka_unit_test(test_codes_train__long_mean_is_among_the_directions),
        cmocka_unit_test(test_codes_train__cosine_does_not_see_lengths),
        cmocka_unit_test(test_codes_train__same_rows_same_basis),
        cmocka_unit_test(test_codes_train__says_where_codes_do_not_pay),
        cmocka_unit_test(test_codes_train__short_components_of_any_type_are_read),
        cmocka_unit_test(test_codes_train__extreme_numbers_are_survived),
        cmocka_unit_test(test_codes_train__wide_vectors_are_quick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
