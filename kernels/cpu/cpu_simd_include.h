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

/* Missing in SIMDe 0.7.4. */
static inline simde__m512d kith_simde_cvtps_pd(simde__m256 a) {
    simde__m512d low = simde_mm512_castpd256_pd512(simde_mm256_cvtps_pd(simde_mm256_castps256_ps128(a)));
    return simde_mm512_insertf64x4(low, simde_mm256_cvtps_pd(simde_mm256_extractf128_ps(a, 1)), 1);
}
#undef _mm512_cvtps_pd
#define _mm512_cvtps_pd(a) kith_simde_cvtps_pd(a)

static inline simde__m512 kith_simde_cvtepi32_ps(simde__m512i a) {
    simde__m256 low = simde_mm256_cvtepi32_ps(simde_mm512_castsi512_si256(a));
    simde__m256 high = simde_mm256_cvtepi32_ps(simde_mm512_extracti64x4_epi64(a, 1));
    simde__m512d both = simde_mm512_castpd256_pd512(simde_mm256_castps_pd(low));
    return simde_mm512_castpd_ps(simde_mm512_insertf64x4(both, simde_mm256_castps_pd(high), 1));
}
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(a) kith_simde_cvtepi32_ps(a)

/* SIMDe 0.7.4 gives it the arguments of the masked one. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

/* The instruction is the same in AVX-512 and, without it, in AVX-VNNI, which SIMDe does not know. */
#define _mm256_dpbusd_avx_epi32(sum, a, b) simde_mm256_dpbusd_epi32(sum, a, b)
#else
#include <immintrin.h>
#endif

#endif
