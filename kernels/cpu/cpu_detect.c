/* Which ISA this processor runs, from CPUID and XGETBV (Intel SDM vol. 1, 13.2 and 14.5; AMD APM vol. 3,
 * appendix E): the operating system must save the wide registers too. */
#include <string.h>

#include "kernels/cpu/cpu.h"

#ifdef KITH_CPU_X86
#include <cpuid.h>

static const unsigned xcr0_ymm = 0x06, xcr0_zmm = 0xe6;
static const unsigned leaf1_ecx_needed = bit_FMA | bit_AVX | bit_F16C | bit_OSXSAVE | bit_POPCNT;
static const unsigned leaf7_ebx_avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;

static unsigned xcr0_read(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool can_run(unsigned needed_leaf7_ebx, unsigned needed_xcr0) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1_ecx_needed) != leaf1_ecx_needed) return false;
    if ((xcr0_read() & needed_xcr0) != needed_xcr0) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & needed_leaf7_ebx) == needed_leaf7_ebx;
}

bool kith_cpu_can_run(const char *name) {
    if (strcmp(name, "avx2") == 0) return can_run(bit_AVX2, xcr0_ymm);
    if (strcmp(name, "avx512") == 0) return can_run(bit_AVX2 | leaf7_ebx_avx512, xcr0_zmm);
    return strcmp(name, "ref") == 0;
}
#else
bool kith_cpu_can_run(const char *name) {
    return strcmp(name, "ref") == 0;
}
#endif
