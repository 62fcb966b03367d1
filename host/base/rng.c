#include "host/base/rng.h"

#include <math.h>

static uint64_t splitmix64(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15ULL;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

static uint64_t rotate_left(uint64_t x, int bits) {
    return x << bits | x >> (64 - bits);
}

void kith_rng_init(kith_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++)
        rng->state[i] = splitmix64(&seed);
}

uint64_t kith_rng_next(kith_rng *rng) {
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Lemire, "Fast Random Integer Generation in an Interval", 2019, section 4: one multiplication, unbiased. */
uint64_t kith_rng_below(kith_rng *rng, uint64_t bound) {
    __uint128_t product = (__uint128_t)kith_rng_next(rng) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = -bound % bound;
        while ((uint64_t)product < threshold)
            product = (__uint128_t)kith_rng_next(rng) * bound;
    }
    return (uint64_t)(product >> 64);
}

double kith_rng_unit(kith_rng *rng) {
    return (double)(kith_rng_next(rng) >> 11) * 0x1.0p-53;
}

double kith_rng_normal(kith_rng *rng) {
    double u;
    double s;
    do {
        u = 2 * kith_rng_unit(rng) - 1;
        double v = 2 * kith_rng_unit(rng) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return u * sqrt(-2 * log(s) / s);
}
