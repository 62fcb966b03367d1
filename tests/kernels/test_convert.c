/* Conversions against their definition: every 16-bit pattern decoded with ldexp, and rounding checked at and
 * beside every midpoint between neighbours. */
#include <math.h>
#include <string.h>

#include "kernels/compute.h"
#include "tests/lib/test_lib.h"

/* fraction_bits 10 and bias 15 (f16) or 7 and 127 (bf16). */
static float decode(uint32_t pattern, int fraction_bits, int bias) {
    int fraction = (int)(pattern & ((1u << fraction_bits) - 1));
    int exponent = (int)(pattern >> fraction_bits) & (2 * bias + 1);
    double magnitude;
    if (exponent == 2 * bias + 1) {
        magnitude = fraction ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexp(fraction, 1 - bias - fraction_bits);
    } else {
        magnitude = ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
    }
    return (float)(pattern & 0x8000 ? -magnitude : magnitude);
}

static void all_patterns_check(kith_vector_type type, int fraction_bits, int bias) {
    for (uint32_t pattern = 0; pattern < 65536; pattern++) {
        uint16_t stored = (uint16_t)pattern;
        float got, want = decode(pattern, fraction_bits, bias);
        kith_vector_load(&stored, 1, type, &got);
        if (isnan(want)) {
            assert_true(isnan(got));
        } else {
            assert_memory_equal(&got, &want, sizeof got); /* -0 too */
        }
    }
}

static void test_convert__every_f16_pattern_loads_exactly(void **state) {
    (void)state;
    all_patterns_check(KITH_TYPE_F16, 10, 15);
}

static void test_convert__every_bf16_pattern_loads_exactly(void **state) {
    (void)state;
    all_patterns_check(KITH_TYPE_BF16, 7, 127);
}

static void store_check(kith_vector_type type, float value, uint16_t want) {
    uint16_t got = 0;
    kith_err err;
    assert_ok(kith_vector_store(&value, 1, type, &got, &err), &err);
    if (got != want) fail_msg("type %d: %a is stored as %04x, not %04x", (int)type, (double)value, got, want);
}

static void rounding_check(kith_vector_type type, int fraction_bits, int bias) {
    uint32_t largest = ((2u * (uint32_t)bias + 1) << fraction_bits) - 1;
    for (uint32_t sign = 0; sign <= 0x8000; sign += 0x8000) {
        for (uint32_t low = 0; low < largest; low++) {
            uint16_t below = (uint16_t)(sign | low), above = (uint16_t)(sign | (low + 1));
            float a = decode(below, fraction_bits, bias), b = decode(above, fraction_bits, bias);
            float middle = (float)(((double)a + b) / 2); /* exact: one bit more than stored */
            store_check(type, a, below);
            store_check(type, middle, low % 2 == 0 ? below : above);
            store_check(type, nextafterf(middle, a), below);
            store_check(type, nextafterf(middle, b), above);
        }
    }
}

static void test_convert__f16_rounds_to_nearest_even(void **state) {
    (void)state;
    rounding_check(KITH_TYPE_F16, 10, 15);
}

static void test_convert__bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    rounding_check(KITH_TYPE_BF16, 7, 127);
}

static void refused(kith_vector_type type, float value, const char *message) {
    float values[2] = {0, value};
    float stored[2];
    kith_err err;
    assert_int_equal(kith_vector_store(values, 2, type, stored, &err), KITH_INVALID);
    assert_string_equal(err.text, message);
}

static void test_convert__values_that_do_not_fit_are_refused(void **state) {
    (void)state;
    store_check(KITH_TYPE_F16, 65519.996f, 0x7bff);
    refused(KITH_TYPE_F16, 65520, "component 1 is 65520, which does not fit in f16 (largest 65504)");
    refused(KITH_TYPE_F16, -65536, "component 1 is -65536, which does not fit in f16 (largest 65504)");
    refused(KITH_TYPE_BF16, 3.4e38f,
        "component 1 is 3.39999995e+38, which does not fit in bf16 (largest 3.38953139e+38)");
    refused(KITH_TYPE_I8, 127.5f, "component 1 is 127.5, which does not fit in i8 (-128..127)");
    refused(KITH_TYPE_I8, -129, "component 1 is -129, which does not fit in i8 (-128..127)");
    for (int type = KITH_TYPE_F32; type <= KITH_TYPE_I8; type++) {
        refused((kith_vector_type)type, INFINITY, "component 1 is inf, which is not a finite number");
        refused((kith_vector_type)type, NAN, "component 1 is nan, which is not a finite number");
    }
    refused((kith_vector_type)9, 0, "vector type 9 is not one of f32, f16, bf16, i8");
}

static void test_convert__i8_rounds_to_nearest_even_and_loads_back(void **state) {
    (void)state;
    const float values[8] = {0.5f, 1.5f, -0.5f, -2.5f, 127.49f, -128.5f, 3.51f, -128};
    const int8_t want[8] = {0, 2, 0, -2, 127, -128, 4, -128};
    int8_t got[8];
    kith_err err;
    assert_ok(kith_vector_store(values, 8, KITH_TYPE_I8, got, &err), &err);
    assert_memory_equal(got, want, sizeof got);
    for (int i = -128; i <= 127; i++) {
        float loaded;
        kith_vector_load(&(int8_t){(int8_t)i}, 1, KITH_TYPE_I8, &loaded);
        assert_true(loaded == (float)i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert__every_f16_pattern_loads_exactly),
        cmocka_unit_test(test_convert__every_bf16_pattern_loads_exactly),
        cmocka_unit_test(test_convert__f16_rounds_to_nearest_even),
        cmocka_unit_test(test_convert__bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_convert__values_that_do_not_fit_are_refused),
        cmocka_unit_test(test_convert__i8_rounds_to_nearest_even_and_loads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
