/* Numbers to text and back, without the locale: the C library is only ever given integer mantissas, so that
 * its decimal point does not matter.
 *
 * f32: R. Giulietti, "The Schubfach way to render doubles", 2020, section 9, with the tables cut to binary32.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/assert.h"
#include "host/base/text.h"

#define F64_DIGITS_MAX 17

/* value = digits * 10^exponent */
typedef struct decimal {
    uint64_t digits;
    int exponent;
} decimal;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool kith_text_parse_u64(const char *text, size_t bytes, uint64_t *value_out) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (!is_digit(text[i])) return false;
        if (__builtin_mul_overflow(value, 10u, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value)) return false;
    }
    if (bytes == 0) return false;
    *value_out = value;
    return true;
}

bool kith_text_parse_i64(const char *text, size_t bytes, int64_t *value_out) {
    bool negative = bytes > 0 && text[0] == '-';
    uint64_t magnitude;
    if (!kith_text_parse_u64(text + negative, bytes - negative, &magnitude)) return false;
    if (magnitude > (uint64_t)INT64_MAX + negative) return false;
    *value_out = (int64_t)(negative ? -magnitude : magnitude);
    return true;
}

/* --- f64 from text --- */

/* A decimal number taken apart: [-]whole[.fraction][e[-]exponent]. */
typedef struct number_parts {
    bool negative;
    const char *whole;
    size_t whole_bytes;
    const char *fraction;
    size_t fraction_bytes;
    int64_t exponent;
} number_parts;

static size_t digits_at(const char *text, size_t bytes) {
    size_t count = 0;
    while (count < bytes && is_digit(text[count]))
        count++;
    return count;
}

#define EXPONENT_MAX 1000000000 /* beyond any text's digits; larger ones mean the same */

static bool parse_exponent(const char *text, size_t bytes, int64_t *exponent_out) {
    bool negative = bytes > 0 && text[0] == '-';
    size_t at = bytes > 0 && (text[0] == '-' || text[0] == '+');
    if (at == bytes) return false;
    int64_t exponent = 0;
    for (; at < bytes; at++) {
        if (!is_digit(text[at])) return false;
        exponent = exponent * 10 + (text[at] - '0');
        if (exponent > EXPONENT_MAX) exponent = EXPONENT_MAX;
    }
    *exponent_out = negative ? -exponent : exponent;
    return true;
}

static bool split_number(const char *text, size_t bytes, number_parts *parts) {
    const char *end = text + bytes;
    *parts = (number_parts){.negative = bytes > 0 && *text == '-'};
    text += parts->negative;
    parts->whole = text;
    parts->whole_bytes = digits_at(text, (size_t)(end - text));
    text += parts->whole_bytes;
    if (text < end && *text == '.') {
        parts->fraction = ++text;
        parts->fraction_bytes = digits_at(text, (size_t)(end - text));
        if (parts->fraction_bytes == 0) return false;
        text += parts->fraction_bytes;
    }
    if (parts->whole_bytes == 0) return false;
    if (text == end) return true;
    if (*text != 'e' && *text != 'E') return false;
    return parse_exponent(text + 1, (size_t)(end - text) - 1, &parts->exponent);
}

/* W. Clinger, "How to Read Floating Point Numbers Accurately", 1990, section 3: a mantissa below 2^53 times
 * or over an exact power of ten is one correctly rounded operation. */
static bool fast_value(const number_parts *parts, double *value_out) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13,
        1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (parts->whole_bytes + parts->fraction_bytes > 18) return false;
    int64_t exponent = parts->exponent - (int64_t)parts->fraction_bytes;
    if (exponent < -22 || exponent > 22) return false;
    uint64_t mantissa = 0;
    for (size_t i = 0; i < parts->whole_bytes; i++)
        mantissa = mantissa * 10 + (uint64_t)(parts->whole[i] - '0');
    for (size_t i = 0; i < parts->fraction_bytes; i++)
        mantissa = mantissa * 10 + (uint64_t)(parts->fraction[i] - '0');
    if (mantissa > 1ULL << 53) return false;
    *value_out = exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
    return true;
}

/* By strtod, as "<digits>e<exponent>": no decimal point. */
static double slow_value(const number_parts *parts) {
    char few[128];
    size_t digits = parts->whole_bytes + parts->fraction_bytes;
    char *text = digits + 32 <= sizeof few ? few : kith_alloc(digits + 32);
    memcpy(text, parts->whole, parts->whole_bytes);
    if (parts->fraction_bytes) memcpy(text + parts->whole_bytes, parts->fraction, parts->fraction_bytes);
    snprintf(text + digits, 32, "e%lld", (long long)(parts->exponent - (int64_t)parts->fraction_bytes));
    double value = strtod(text, NULL);
    if (text != few) kith_free(text);
    return value;
}

bool kith_text_parse_f64(const char *text, size_t bytes, double *value_out) {
    number_parts parts;
    if (!split_number(text, bytes, &parts)) return false;
    double value;
    if (!fast_value(&parts, &value)) value = slow_value(&parts);
    if (isinf(value)) return false;
    *value_out = parts.negative ? -value : value;
    return true;
}

/* --- shortest text of a float --- */

#define POW10_EXPONENT_MIN (-31)

/* ceil(10^k * 2^(63 - floor(log2(10^k)))) for k from -31 to 45. */
static const uint64_t pow10_table[77] = {
    0x81ceb32c4b43fcf5u,
    0xa2425ff75e14fc32u,
    0xcad2f7f5359a3b3fu,
    0xfd87b5f28300ca0eu,
    0x9e74d1b791e07e49u,
    0xc612062576589ddbu,
    0xf79687aed3eec552u,
    0x9abe14cd44753b53u,
    0xc16d9a0095928a28u,
    0xf1c90080baf72cb2u,
    0x971da05074da7befu,
    0xbce5086492111aebu,
    0xec1e4a7db69561a6u,
    0x9392ee8e921d5d08u,
    0xb877aa3236a4b44au,
    0xe69594bec44de15cu,
    0x901d7cf73ab0acdau,
    0xb424dc35095cd810u,
    0xe12e13424bb40e14u,
    0x8cbccc096f5088ccu,
    0xafebff0bcb24aaffu,
    0xdbe6fecebdedd5bfu,
    0x89705f4136b4a598u,
    0xabcc77118461cefdu,
    0xd6bf94d5e57a42bdu,
    0x8637bd05af6c69b6u,
    0xa7c5ac471b478424u,
    0xd1b71758e219652cu,
    0x83126e978d4fdf3cu,
    0xa3d70a3d70a3d70bu,
    0xcccccccccccccccdu,
    0x8000000000000000u,
    0xa000000000000000u,
    0xc800000000000000u,
    0xfa00000000000000u,
    0x9c40000000000000u,
    0xc350000000000000u,
    0xf424000000000000u,
    0x9896800000000000u,
    0xbebc200000000000u,
    0xee6b280000000000u,
    0x9502f90000000000u,
    0xba43b74000000000u,
    0xe8d4a51000000000u,
    0x9184e72a00000000u,
    0xb5e620f480000000u,
    0xe35fa931a0000000u,
    0x8e1bc9bf04000000u,
    0xb1a2bc2ec5000000u,
    0xde0b6b3a76400000u,
    0x8ac7230489e80000u,
    0xad78ebc5ac620000u,
    0xd8d726b7177a8000u,
    0x878678326eac9000u,
    0xa968163f0a57b400u,
    0xd3c21bcecceda100u,
    0x84595161401484a0u,
    0xa56fa5b99019a5c8u,
    0xcecb8f27f4200f3au,
    0x813f3978f8940985u,
    0xa18f07d736b90be6u,
    0xc9f2c9cd04674edfu,
    0xfc6f7c4045812297u,
    0x9dc5ada82b70b59eu,
    0xc5371912364ce306u,
    0xf684df56c3e01bc7u,
    0x9a130b963a6c115du,
    0xc097ce7bc90715b4u,
    0xf0bdc21abb48db21u,
    0x96769950b50d88f5u,
    0xbc143fa4e250eb32u,
    0xeb194f8e1ae525feu,
    0x92efd1b8d0cf37bfu,
    0xb7abc627050305aeu,
    0xe596b7b0c643c71au,
    0x8f7e32ce7bea5c70u,
    0xb35dbf821ae4f38cu,
};

static int32_t floor_log2_pow10(int32_t exponent) {
    return (exponent * 1741647) >> 19;
}

/* floor(log10(2^exponent)), or of 3/4 of it. */
static int32_t floor_log10_pow2(int32_t exponent, bool three_quarters) {
    return (exponent * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* The product's upper part with a sticky last bit: exact enough to compare with. */
static uint32_t round_to_odd(uint64_t power, uint32_t factor) {
    __uint128_t product = (__uint128_t)power * factor;
    return (uint32_t)(product >> 64) | ((uint32_t)(product >> 32) > 1);
}

/* `bits` of a positive, finite f32 -> the shortest decimal inside its rounding interval, the nearest of
 * those. */
static decimal shortest_f32(uint32_t bits) {
    uint32_t fraction = bits & 0x7FFFFF;
    int32_t biased = (int32_t)(bits >> 23);
    uint32_t c = biased ? fraction | 1u << 23 : fraction;
    int32_t q = (biased ? biased : 1) - 150;

    bool odd = c & 1;
    bool lower_is_closer = fraction == 0 && biased > 1;
    int32_t k = floor_log10_pow2(q, lower_is_closer);
    int32_t h = q + floor_log2_pow10(-k) + 1;
    uint64_t power = pow10_table[-k - POW10_EXPONENT_MIN];
    uint32_t lower = round_to_odd(power, (4 * c - 2 + lower_is_closer) << h) + odd;
    uint32_t value = round_to_odd(power, 4 * c << h);
    uint32_t upper = round_to_odd(power, (4 * c + 2) << h) - odd;

    uint32_t s = value / 4;
    if (s >= 10) {
        uint32_t tens = s / 10;
        bool below_inside = lower <= 40 * tens;
        bool above_inside = 40 * tens + 40 <= upper;
        if (below_inside != above_inside) return (decimal){tens + above_inside, k + 1};
    }
    bool below_inside = lower <= 4 * s;
    bool above_inside = 4 * s + 4 <= upper;
    if (below_inside != above_inside) return (decimal){s + above_inside, k};
    uint32_t middle = 4 * s + 2;
    bool up = value > middle || (value == middle && (s & 1));
    return (decimal){s + up, k};
}

/* Decimal digits of `value`, most significant first; how many. */
static int digits_of(uint64_t value, char *digits) {
    char reversed[20];
    int count = 0;
    do {
        reversed[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (int i = 0; i < count; i++)
        digits[i] = reversed[count - 1 - i];
    return count;
}

static void append_zeros(kith_buf *buf, int count) {
    memset(kith_buf_grow(buf, (size_t)count), '0', (size_t)count);
}

/* Not of zero. Plain notation for 1e-6 <= value < 1e21, as JavaScript prints numbers; else d.ddde-n. */
static void append_decimal(kith_buf *buf, decimal value) {
    kith_assert(value.digits > 0);
    while (value.digits % 10 == 0) {
        value.digits /= 10;
        value.exponent++;
    }
    char digits[20];
    int count = digits_of(value.digits, digits);
    int point = count + value.exponent; /* digits before the point */
    if (point > 21 || point < -5) {
        kith_buf_append(buf, digits, 1);
        if (count > 1) kith_buf_append_text(buf, ".");
        kith_buf_append(buf, digits + 1, (size_t)count - 1);
        kith_buf_append_format(buf, "e%d", point - 1);
    } else if (point <= 0) {
        kith_buf_append_text(buf, "0.");
        append_zeros(buf, -point);
        kith_buf_append(buf, digits, (size_t)count);
    } else if (point >= count) {
        kith_buf_append(buf, digits, (size_t)count);
        append_zeros(buf, point - count);
    } else {
        kith_buf_append(buf, digits, (size_t)point);
        kith_buf_append_text(buf, ".");
        kith_buf_append(buf, digits + point, (size_t)(count - point));
    }
}

void kith_text_append_f32(kith_buf *buf, float value) {
    if (!isfinite(value)) {
        kith_buf_append_text(buf, "null");
        return;
    }
    if (signbit(value)) kith_buf_append_text(buf, "-");
    if (value == 0) {
        kith_buf_append_text(buf, "0");
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    append_decimal(buf, shortest_f32(bits & 0x7FFFFFFF));
}

/* `value` to `digit_count` digits, as an integer and an exponent. */
static decimal rounded_f64(double value, int digit_count) {
    char text[40];
    snprintf(text, sizeof text, "%.*e", digit_count - 1, value);
    decimal result = {0};
    const char *at = text;
    for (; *at != 'e'; at++)
        if (is_digit(*at)) result.digits = result.digits * 10 + (uint64_t)(*at - '0');
    result.exponent = atoi(at + 1) - (digit_count - 1);
    return result;
}

static double decimal_value(decimal value) {
    char text[40];
    snprintf(text, sizeof text, "%llue%d", (unsigned long long)value.digits, value.exponent);
    return strtod(text, NULL);
}

void kith_text_append_f64(kith_buf *buf, double value) {
    if (!isfinite(value)) {
        kith_buf_append_text(buf, "null");
        return;
    }
    if (signbit(value)) kith_buf_append_text(buf, "-");
    if (value == 0) {
        kith_buf_append_text(buf, "0");
        return;
    }
    double magnitude = fabs(value);
    decimal best = rounded_f64(magnitude, F64_DIGITS_MAX);
    for (int digit_count = 1; digit_count < F64_DIGITS_MAX; digit_count++) {
        decimal shorter = rounded_f64(magnitude, digit_count);
        if (decimal_value(shorter) != magnitude) continue;
        best = shorter;
        break;
    }
    append_decimal(buf, best);
}
