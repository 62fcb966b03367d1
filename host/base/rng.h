/* Seeded random numbers (xoshiro256**, Blackman and Vigna 2018, seeded by splitmix64): for tests, the
 * simulator and sampling; never for secrets. */
#ifndef KITH_BASE_RNG_H
#define KITH_BASE_RNG_H

#include <stdint.h>

typedef struct kith_rng {
    uint64_t state[4];
} kith_rng;

void kith_rng_init(kith_rng *rng, uint64_t seed);
uint64_t kith_rng_next(kith_rng *rng);
/* Uniform in [0, bound); bound > 0. */
uint64_t kith_rng_below(kith_rng *rng, uint64_t bound);
/* Uniform in [0, 1). */
double kith_rng_unit(kith_rng *rng);
/* Standard normal (Marsaglia polar method). */
double kith_rng_normal(kith_rng *rng);

#endif
