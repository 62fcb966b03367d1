/* The one instruction of cuda_scan_mma.cu that CUDA C has no words for: C += A B of one warp, 16 x k times k x 8 signed
 * bytes, k 16 or 32. PTX ISA, "Matrix fragments for mma.m16n8k16 / k32 with integer type": with group = lane / 4 and
 * member = lane % 4, each register four neighbouring bytes along k,
 *   a[0] row group, a[1] row group + 8, both at k = 4 member; a[2], a[3] the same rows at k = 16 + 4 member
 *   b[0] column group at k = 4 member; b[1] at k = 16 + 4 member
 *   c[0], c[1] row group, columns 2 member and 2 member + 1; c[2], c[3] row group + 8. */
#ifndef KITH_KERNELS_CUDA_CUDA_MMA_CUH
#define KITH_KERNELS_CUDA_CUDA_MMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef KITH_CUDA_EMU
static inline void mma_k32(int c[4], const uint32_t a[4], const uint32_t b[2]) {
    cuda_emu_mma(c, a, b, 32, __FILE__, __LINE__);
}
static inline void mma_k16(int c[4], const uint32_t a[2], uint32_t b) {
    cuda_emu_mma(c, a, &b, 16, __FILE__, __LINE__);
}
#else
static __device__ __forceinline__ void mma_k32(int c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void mma_k16(int c[4], const uint32_t a[2], uint32_t b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
#endif

#endif
