/* The two ceilings of one core that kernels are measured against. Each takes the best of several passes, for
 * the machine's other work only ever slows a pass down. */
#ifndef KITH_BENCH_MICRO_BENCH_CEILINGS_H
#define KITH_BENCH_MICRO_BENCH_CEILINGS_H

#include "host/env/env.h"

/* Bytes a second at which `bytes` bytes of memory (far more than the caches) are read once, in order. */
double bench_ceiling_read(kith_env *env, const void *memory, size_t bytes);
/* f32 operations a second of fused multiply-adds that wait for nothing (an FMA is two). */
double bench_ceiling_fma(kith_env *env);

#endif
