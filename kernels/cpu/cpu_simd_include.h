/* The one way to the intrinsics. KITH_CPU_SIMDE builds a file with SIMDe's portable versions of them instead,
 * so that the conformance test can run an ISA that its machine lacks. */
#ifndef KITH_KERNELS_CPU_CPU_SIMD_INCLUDE_H
#define KITH_KERNELS_CPU_CPU_SIMD_INCLUDE_H

#ifdef KITH_CPU_SIMDE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#else
#include <immintrin.h>
#endif

#endif
