/* The instructions of cuda_scan_wgmma.cu that CUDA C has no words for: D += A B of a warpgroup (four warps, of which the
 * first's number is a multiple of 4), 64 x 32 times 32 x 128 signed bytes. For sm_90a only. PTX ISA, "Asynchronous
 * warpgroup level matrix multiply-accumulate instructions".
 *
 * A is in registers. Warp w of the group has rows 16 w to 16 w + 15; with group = lane / 4 and member = lane % 4, each
 * register holds four neighbouring bytes along k, as for mma.sync:
 *   a[0] row group, a[1] row group + 8, both at k = 4 member; a[2], a[3] the same rows at k = 16 + 4 member
 *   d[4 j], d[4 j + 1] row group, columns 8 j + 2 member and 8 j + 2 member + 1; d[4 j + 2], d[4 j + 3] row group + 8.
 *
 * B is in shared memory, in core matrices of 8 columns by 16 bytes along k, each 128 bytes in one piece, a column's 16
 * bytes together, without swizzle. The descriptor has the distance of two core matrices that are neighbours along k
 * (leading) and of two that are neighbours along columns (stride).
 *
 * What waits for what. Products run on their own: between wgmma and the wait for their group neither a nor d may be
 * touched. Registers that were written otherwise are seen by products after a wgmma_fence; shared memory that was written
 * by ordinary stores, after a wgmma_shared_fence of the thread that wrote and a barrier. */
#ifndef KITH_KERNELS_CUDA_CUDA_WGMMA_CUH
#define KITH_KERNELS_CUDA_CUDA_WGMMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

enum { WGMMA_COLUMNS = 128, WGMMA_K = 32, WGMMA_SUMS = 64 };

/* Addresses and distances are multiples of 16, below 256 KiB. */
static __device__ inline uint64_t wgmma_descriptor(
    uint32_t shared_address, uint32_t leading_bytes, uint32_t stride_bytes) {
    return (uint64_t)(shared_address >> 4) | (uint64_t)(leading_bytes >> 4) << 16 |
           (uint64_t)(stride_bytes >> 4) << 32;
}

/* The same matrix `bytes` further on. */
static __device__ inline uint64_t wgmma_descriptor_at(uint64_t descriptor, uint32_t bytes) {
    return descriptor + (bytes >> 4);
}

#ifdef KITH_CUDA_EMU
static inline uint32_t wgmma_shared_address(const void *shared) {
    return cuda_emu_shared_address(shared);
}
static inline void wgmma_shared_fence() {
    cuda_emu_async_fence();
}
static inline void wgmma_fence() {
    cuda_emu_wgmma_fence();
}
static inline void wgmma(int (&d)[WGMMA_SUMS], const uint32_t (&a)[4], uint64_t descriptor) {
    cuda_emu_wgmma(d, a, descriptor);
}
static inline void wgmma_commit() {
    cuda_emu_wgmma_commit();
}
static inline void wgmma_wait() {
    cuda_emu_wgmma_wait(__FILE__, __LINE__);
}
template <typename type, int count> static inline void wgmma_settle(type (&)[count]) {
}
#else
static __device__ __forceinline__ uint32_t wgmma_shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}
/* Makes the thread's stores to shared memory visible to products; a barrier must follow. */
static __device__ __forceinline__ void wgmma_shared_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void wgmma_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/* D += A B. */
static __device__ __forceinline__ void wgmma(
    int (&d)[WGMMA_SUMS], const uint32_t (&a)[4], uint64_t descriptor) {
    /* clang-format off */
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.ne.b32 add, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, add;\n"
        "}\n"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3]), "+r"(d[4]), "+r"(d[5]), "+r"(d[6]), "+r"(d[7]),
          "+r"(d[8]), "+r"(d[9]), "+r"(d[10]), "+r"(d[11]), "+r"(d[12]), "+r"(d[13]), "+r"(d[14]), "+r"(d[15]),
          "+r"(d[16]), "+r"(d[17]), "+r"(d[18]), "+r"(d[19]), "+r"(d[20]), "+r"(d[21]), "+r"(d[22]), "+r"(d[23]),
          "+r"(d[24]), "+r"(d[25]), "+r"(d[26]), "+r"(d[27]), "+r"(d[28]), "+r"(d[29]), "+r"(d[30]), "+r"(d[31]),
          "+r"(d[32]), "+r"(d[33]), "+r"(d[34]), "+r"(d[35]), "+r"(d[36]), "+r"(d[37]), "+r"(d[38]), "+r"(d[39]),
          "+r"(d[40]), "+r"(d[41]), "+r"(d[42]), "+r"(d[43]), "+r"(d[44]), "+r"(d[45]), "+r"(d[46]), "+r"(d[47]),
          "+r"(d[48]), "+r"(d[49]), "+r"(d[50]), "+r"(d[51]), "+r"(d[52]), "+r"(d[53]), "+r"(d[54]), "+r"(d[55]),
          "+r"(d[56]), "+r"(d[57]), "+r"(d[58]), "+r"(d[59]), "+r"(d[60]), "+r"(d[61]), "+r"(d[62]), "+r"(d[63])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor), "r"(1)
        : "memory");
    /* clang-format on */
}
/* Ends a group of products. */
static __device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits for all groups. */
static __device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
/* Registers are what they are by now: sums after the wait, A before the fence. The compiler would move what it takes for
 * ordinary arithmetic past both. */
template <typename type, int count>
static __device__ __forceinline__ void wgmma_settle(type (&registers)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++)
        asm volatile("" : "+r"(registers[i])::"memory");
}
#endif

#endif
