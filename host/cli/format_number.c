/* Decimal to float, correctly rounded. The first 19 digits and a power of ten from a table give a double that
 * is off by less than 2^-50 of itself: half an ulp each from the digits, the table and the product, and
 * 10^-18 from digits left out. When both ends of that interval round to the same float, that float is the
 * answer; else (a tie, or near one, a subnormal, an exponent outside the table) strtof decides. W. Clinger,
 * "How to Read Floating Point Numbers Accurately", 1990, is the source of trying the cheap way first. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/cli/format.h"

#define DIGITS_MAX   19 /* that a u64 always holds */
#define EXPONENT_MAX 60

static const double powers[EXPONENT_MAX + 1] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28,
    1e29, 1e30, 1e31, 1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45,
    1e46, 1e47, 1e48, 1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60};

/* digits * 10^exponent, of at most DIGITS_MAX significant digits. */
typedef struct digits {
    uint64_t value;
    int count;
    int64_t exponent;
} digits;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void take_digit(digits *number, char c, bool fraction) {
    if (number->count < DIGITS_MAX) {
        number->value = number->value * 10 + (uint64_t)(c - '0');
        number->count += number->value != 0;
        number->exponent -= fraction;
    } else {
        number->exponent += !fraction;
    }
}

static bool take_exponent(const char **at, const char *end, digits *number) {
    const char *p = *at + 1;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (p == end || !is_digit(*p)) return false;
    int64_t exponent = 0;
    for (; p < end && is_digit(*p); p++)
        if (exponent < 100000000) exponent = exponent * 10 + (*p - '0');
    number->exponent += negative ? -exponent : exponent;
    *at = p;
    return true;
}

/* The grammar of RFC 8259, section 6, behind the sign. */
static bool take_number(const char **at, const char *end, digits *number) {
    const char *p = *at;
    if (p == end || !is_digit(*p)) return false;
    if (*p == '0' && p + 1 < end && is_digit(p[1])) return false;
    for (; p < end && is_digit(*p); p++)
        take_digit(number, *p, false);
    if (p < end && *p == '.') {
        p++;
        if (p == end || !is_digit(*p)) return false;
        for (; p < end && is_digit(*p); p++)
            take_digit(number, *p, true);
    }
    if (p < end && (*p == 'e' || *p == 'E') && !take_exponent(&p, end, number)) return false;
    *at = p;
    return true;
}

static bool fast_float(const digits *number, float *value_out) {
    if (number->value == 0) {
        *value_out = 0;
        return true;
    }
    if (number->exponent < -EXPONENT_MAX || number->exponent > EXPONENT_MAX) return false;
    double value = (double)number->value;
    value = number->exponent < 0 ? value / powers[-number->exponent] : value * powers[number->exponent];
    if (value < (double)FLT_MIN * 2 || value > (double)FLT_MAX / 2) return false;
    float low = (float)(value * (1 - 0x1p-50));
    float high = (float)(value * (1 + 0x1p-50));
    *value_out = low;
    return low == high;
}

/* strtof wants a NUL; the locale is never set, so its point is a point. */
static float slow_float(const char *text, size_t bytes) {
    char few[128];
    char *copy = bytes < sizeof few ? few : kith_alloc(bytes + 1);
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    float value = strtof(copy, NULL);
    if (copy != few) kith_free(copy);
    return value;
}

bool kith_format_float(const char **at, const char *end, float *value_out) {
    const char *start = *at;
    const char *p = start;
    bool negative = p < end && *p == '-';
    p += negative;
    const char *magnitude = p;
    digits number = {.value = 0};
    if (!take_number(&p, end, &number)) return false;
    float value;
    if (!fast_float(&number, &value)) value = slow_float(magnitude, (size_t)(p - magnitude));
    if (isinf(value)) return false;
    *value_out = negative ? -value : value;
    *at = p;
    return true;
}
