#include "bench/micro/bench_ceilings.h"

#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "host/base/alloc.h"

/* GCC's vector extension instead of intrinsics: 32 bytes are an AVX2 register where the flags allow it, and
 * this file also builds for other machines. */
typedef float vector_f32 __attribute__((vector_size(32)));
typedef uint64_t vector_u64 __attribute__((vector_size(32)));

enum {
    THREADS_MAX = 256,
    /* Short passes: some then fall between two turns of other work on the machine. */
    PASSES = 200,
    CHAINS = 12,    /* latency 5 x 2 units = 10 in flight at least */
    STEPS = 400000, /* of each, some 1 ms */
};

#define READ_BYTES ((size_t)24 << 20) /* of a thread in a pass, some 1 ms */
#define READ_PARTS ((size_t)32)       /* of its memory, one after the other: far more than the caches */

/* What one thread does again and again. */
typedef struct load {
    kith_env *env;
    void (*run)(void *load);
    uint64_t best_ns;
    const char *memory; /* [READ_PARTS][READ_BYTES] */
    uint32_t pass;
    kith_thread *thread;
    char apart[64]; /* results of two threads share no cache line */
    union {
        vector_u64 read;
        char bytes[64];
    } sink;
} load;

/* --- reading --- */

static void read_pass(void *ctx) {
    load *self = ctx;
    const char *memory = self->memory + self->pass % READ_PARTS * READ_BYTES;
    vector_u64 seen[4] = {{0}};
    for (size_t i = 0; i < READ_BYTES; i += 128) {
        for (int j = 0; j < 4; j++) {
            vector_u64 read;
            memcpy(&read, memory + i + 32 * j, sizeof read);
            seen[j] |= read;
        }
    }
    self->sink.read = seen[0] | seen[1] | seen[2] | seen[3];
    __asm__ volatile("" : : "m"(self->sink)); /* the reads happened */
}

/* --- arithmetic: twelve chains, each a step further in every round --- */

/* Variables of their own: an array would be kept in memory. */
/* clang-format off */
#define EACH_CHAIN(X) X(s0) X(s1) X(s2) X(s3) X(s4) X(s5) X(s6) X(s7) X(s8) X(s9) X(s10) X(s11)
/* clang-format on */
#define CHAIN_ADD(s) sum += s;

/* `STEP(s)` is one instruction, or two, from x and s to s; `product` is free for it to use. */
#define CHAINS_PASS(name, type, target, start, STEP)                                                         \
    target static void name(void *ctx) {                                                                     \
        load *self = ctx;                                                                                    \
        type x = {start}, product = {0}, sum = {0};                                                          \
        type s0 = sum, s1 = sum, s2 = sum, s3 = sum, s4 = sum, s5 = sum;                                     \
        type s6 = sum, s7 = sum, s8 = sum, s9 = sum, s10 = sum, s11 = sum;                                   \
        for (int i = 0; i < STEPS; i++) {                                                                    \
            EACH_CHAIN(STEP)                                                                                 \
        }                                                                                                    \
        EACH_CHAIN(CHAIN_ADD)                                                                                \
        sum += product;                                                                                      \
        memcpy(self->sink.bytes, &sum, sizeof sum);                                                          \
        __asm__ volatile("" : : "m"(self->sink));                                                            \
    }

#if defined(__x86_64__)

typedef float wide_f32 __attribute__((vector_size(64)));
typedef int32_t vector_i32 __attribute__((vector_size(32)));
typedef int32_t wide_i32 __attribute__((vector_size(64)));

#define NARROW
#define WIDE __attribute__((target("avx512f,avx512bw,avx512vnni")))

/* clang-format off */
#define FMA(s)      __asm__ volatile("vfmadd132ps %1, %1, %0" : "+v"(s) : "v"(x));
#define MADD(s)     __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(s), "=&v"(product) : "v"(x));
#define DOT(s)      __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(s) : "v"(x));
#define DOT_VEX(s)  __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(s) : "x"(x));
/* clang-format on */

CHAINS_PASS(fma_256, vector_f32, NARROW, 0.5f, FMA)
CHAINS_PASS(fma_512, wide_f32, WIDE, 0.5f, FMA)
CHAINS_PASS(madd_256, vector_i32, NARROW, 3, MADD)
CHAINS_PASS(madd_512, wide_i32, WIDE, 3, MADD)
CHAINS_PASS(dot_256, vector_i32, NARROW, 3, DOT_VEX)
CHAINS_PASS(dot_512, wide_i32, WIDE, 3, DOT)

static bool has_avx_vnni(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4)) && __builtin_cpu_supports("avx2");
}

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#else

/* No instruction is named: the compiler contracts the two (-ffp-contract=fast is GCC's default). */
#define FMA(s)                                                                                               \
    s = s * x + x;                                                                                           \
    __asm__("" : "+w"(s));

CHAINS_PASS(fma_256, vector_f32, , 0.5f, FMA)

#endif

typedef struct arithmetic {
    const char *instruction;
    void (*pass)(void *ctx);
    double operations; /* of one instruction */
    uint32_t bits;     /* of a factor */
} arithmetic;

static arithmetic f32_widest(void) {
#if defined(__x86_64__)
    if (has_avx512()) return (arithmetic){"vfmadd132ps zmm", fma_512, 2 * 16, 32};
#endif
    return (arithmetic){"fma", fma_256, 2 * 8, 32};
}

static arithmetic integer_widest(void) {
#if defined(__x86_64__)
    if (has_avx512() && __builtin_cpu_supports("avx512vnni"))
        return (arithmetic){"vpdpbusd zmm", dot_512, 2 * 64, 8};
    if (has_avx512()) return (arithmetic){"vpmaddwd zmm", madd_512, 2 * 32, 16};
    if (has_avx_vnni()) return (arithmetic){"vpdpbusd ymm", dot_256, 2 * 32, 8};
    if (__builtin_cpu_supports("avx2")) return (arithmetic){"vpmaddwd ymm", madd_256, 2 * 16, 16};
#endif
    return (arithmetic){"none", NULL, 0, 0};
}

/* --- passes --- */

static void passes_run(void *ctx) {
    load *self = ctx;
    self->best_ns = UINT64_MAX;
    for (self->pass = 0; self->pass < PASSES; self->pass++) {
        uint64_t start = kith_env_now_ns(self->env);
        self->run(self);
        uint64_t took = kith_env_now_ns(self->env) - start;
        if (took < self->best_ns) self->best_ns = took;
    }
}

/* The sum of each thread's best pass, all running at once; `work`: bytes or operations of a pass. */
static kith_status rate_measure(
    void (*run)(void *), double work, load *loads, uint32_t count, double *rate_out, kith_err *err) {
    kith_status status = KITH_OK;
    uint32_t started = 0;
    double rate = 0;
    for (; started < count && status == KITH_OK; started++) {
        load *one = &loads[started];
        one->run = run;
        one->thread = NULL;
        status = kith_thread_start(one->env, "ceiling", passes_run, one, &one->thread, err);
    }
    for (uint32_t i = 0; i < started; i++) {
        kith_thread_join(loads[i].thread);
        rate += work * 1e9 / (double)loads[i].best_ns;
    }
    if (status == KITH_OK) *rate_out = rate;
    return status;
}

static kith_status loads_measure(load *loads, uint32_t count, bench_ceilings *made, kith_err *err) {
    arithmetic f32 = f32_widest(), integer = integer_widest();
    double instructions = (double)CHAINS * STEPS;
    kith_status status =
        rate_measure(read_pass, (double)READ_BYTES, loads, count, &made->read_bytes_per_s, err);
    if (status == KITH_OK)
        status =
            rate_measure(f32.pass, f32.operations * instructions, loads, count, &made->f32_ops_per_s, err);
    made->integer_instruction = integer.instruction;
    made->integer_bits = integer.bits;
    if (status == KITH_OK && integer.pass)
        status = rate_measure(
            integer.pass, integer.operations * instructions, loads, count, &made->integer_ops_per_s, err);
    return status;
}

kith_status bench_ceilings_measure(
    kith_env *env, uint32_t thread_count, bench_ceilings *ceilings_out, kith_err *err) {
    if (thread_count == 0 || thread_count > THREADS_MAX)
        return kith_err_set(err, KITH_INVALID, "%u threads are not in 1..%d", thread_count, THREADS_MAX);
    bench_ceilings made = {0};
    kith_status status = KITH_NO_MEMORY;
    load *loads = kith_try_alloc_aligned(thread_count * sizeof *loads);
    size_t bytes = thread_count * READ_PARTS * READ_BYTES;
    char *memory = kith_try_alloc_aligned(bytes);
    if (!loads || !memory) {
        kith_err_set(err, KITH_NO_MEMORY, "%zu bytes to read", bytes);
        goto done;
    }
    memset(memory, 1, bytes); /* its own pages: untouched memory is one shared zero page */
    memset(loads, 0, thread_count * sizeof *loads);
    for (uint32_t i = 0; i < thread_count; i++) {
        loads[i].env = env;
        loads[i].memory = memory + i * READ_PARTS * READ_BYTES;
    }
    status = loads_measure(loads, thread_count, &made, err);
    if (status == KITH_OK) *ceilings_out = made;
done:
    kith_free(memory);
    kith_free(loads);
    return status;
}
