/* Which ISA this processor runs, and the operating system saves the registers of (the compiler's own check
 * does both). */
#include <string.h>

#include "kernels/cpu/cpu.h"

#ifdef KITH_CPU_X86
/* F16C is not asked for: clang 14 has no name for it, and every processor with AVX2 has it. */
static bool can_run_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool can_run_avx512(void) {
    return can_run_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool kith_cpu_can_run(const char *name) {
    if (strcmp(name, "avx2") == 0) return can_run_avx2();
    if (strcmp(name, "avx512") == 0) return can_run_avx512();
    return strcmp(name, "ref") == 0;
}
#else
bool kith_cpu_can_run(const char *name) {
    return strcmp(name, "ref") == 0;
}
#endif
