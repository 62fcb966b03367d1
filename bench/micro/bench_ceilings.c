#include "bench/micro/bench_ceilings.h"

#include <string.h>

/* GCC's vector extension instead of intrinsics: 32 bytes are an AVX2 register where the flags allow it, and
 * this file also builds for other machines. */
typedef float vector_f32 __attribute__((vector_size(32)));
typedef uint64_t vector_u64 __attribute__((vector_size(32)));

static const int passes = 7;

static void read_pass(const char *at, size_t bytes, vector_u64 *sink) {
    vector_u64 seen[4] = {*sink, *sink, *sink, *sink};
    for (size_t i = 0; i + 128 <= bytes; i += 128) {
        for (int j = 0; j < 4; j++) {
            vector_u64 read;
            memcpy(&read, at + i + 32 * j, sizeof read);
            seen[j] |= read;
        }
    }
    *sink = seen[0] | seen[1] | seen[2] | seen[3];
}

double bench_ceiling_read(kith_env *env, const void *memory, size_t bytes) {
    double best = 0;
    vector_u64 sink = {0};
    for (int i = 0; i < passes; i++) {
        uint64_t start = kith_env_now_ns(env);
        read_pass(memory, bytes, &sink);
        __asm__ volatile("" : : "m"(sink)); /* the reads happened */
        double rate = (double)bytes * 1e9 / (double)(kith_env_now_ns(env) - start);
        if (rate > best) best = rate;
    }
    return best;
}

enum { FMA_CHAINS = 12, FMA_STEPS = 4000000 }; /* latency 4 x 2 units = 8 in flight at least */

static void fma_pass(vector_f32 sums[FMA_CHAINS], vector_f32 factor) {
    vector_f32 s[FMA_CHAINS];
    for (int j = 0; j < FMA_CHAINS; j++)
        s[j] = sums[j];
    for (int i = 0; i < FMA_STEPS; i++) {
#pragma GCC unroll 16
        for (int j = 0; j < FMA_CHAINS; j++) {
            s[j] = s[j] * factor + factor;
            __asm__("" : "+x"(s[j])); /* one operation a step: nothing is folded */
        }
    }
    for (int j = 0; j < FMA_CHAINS; j++)
        sums[j] = s[j];
}

double bench_ceiling_fma(kith_env *env) {
    double best = 0;
    vector_f32 sums[FMA_CHAINS] = {{0}}, factor = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
    for (int i = 0; i < passes; i++) {
        uint64_t start = kith_env_now_ns(env);
        fma_pass(sums, factor);
        __asm__ volatile("" : : "m"(sums));
        double operations = 2.0 * 8 * FMA_CHAINS * FMA_STEPS;
        double rate = operations * 1e9 / (double)(kith_env_now_ns(env) - start);
        if (rate > best) best = rate;
    }
    return best;
}
