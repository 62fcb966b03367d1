/* What some cores of this machine can do at most, to hold kernels against: reading memory, f32 FMA, integer
 * multiply-add. Each figure is the best of many short passes, for the machine's other work only ever slows one down. All
 * threads work at once, since cores share memory channels and clock.
 *
 * Threads: one call at a time; it starts and ends its own. */
#ifndef KITH_BENCH_MICRO_BENCH_CEILINGS_H
#define KITH_BENCH_MICRO_BENCH_CEILINGS_H

#include "host/env/env.h"

typedef struct bench_ceilings {
    double read_bytes_per_s; /* memory far larger than the caches, in order, each thread its part */
    double f32_ops_per_s;    /* fused multiply-adds that wait for nothing; one is two operations */
    /* Multiply-adds of small integers into 32-bit sums, as the widest instruction set here makes them; one is two
     * operations. 0 on machines that bench_ceilings.c does not know. */
    double integer_ops_per_s;
    const char *integer_instruction;
    uint32_t integer_bits; /* of the smaller factor: 8 or 16 */
} bench_ceilings;

KITH_CHECK kith_status bench_ceilings_measure(
    kith_env *env, uint32_t thread_count, bench_ceilings *ceilings_out, kith_err *err);

#endif
