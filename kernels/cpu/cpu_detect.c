/* Which ISA this processor runs, and the operating system saves the registers of (the compiler's own check
 * does both; F16C needs the registers of AVX). */
#include <string.h>

#include "kernels/cpu/cpu.h"

#ifdef KITH_CPU_X86
#include <cpuid.h>

/* Clang 14 has no name for it. A hypervisor may hide it from a processor that has AVX2. */
static bool has_f16c(void) {
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}

static bool can_run_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

/* Clang 14 has no name for this either. The operating system's part is AVX's own, which avx2 has asked for. */
static bool can_run_avxvnni(void) {
    enum { AVXVNNI = 1 << 4 };
    unsigned int eax, ebx, ecx, edx;
    return can_run_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & AVXVNNI) != 0;
}

static bool can_run_avx512(void) {
    return can_run_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static bool can_run_avx512vnni(void) {
    return can_run_avx512() && __builtin_cpu_supports("avx512vnni");
}

bool kith_cpu_can_run(const char *name) {
    if (strcmp(name, "avx2") == 0) return can_run_avx2();
    if (strcmp(name, "avxvnni") == 0) return can_run_avxvnni();
    if (strcmp(name, "avx512") == 0) return can_run_avx512();
    if (strcmp(name, "avx512vnni") == 0) return can_run_avx512vnni();
    return strcmp(name, "ref") == 0;
}
#elif defined(KITH_CPU_ARM64)
#include <sys/auxv.h>

bool kith_cpu_can_run(const char *name) {
    if (strcmp(name, "neon") == 0) return true; /* every processor of this architecture */
    if (strcmp(name, "neondot") == 0) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    return strcmp(name, "ref") == 0;
}
#else
bool kith_cpu_can_run(const char *name) {
    return strcmp(name, "ref") == 0;
}
#endif
