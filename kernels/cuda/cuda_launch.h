/* What every launcher shares: the one way to launch a kernel, and messages in a kith_err without linking
 * kith. Private to kernels/cuda. */
#ifndef KITH_KERNELS_CUDA_CUDA_LAUNCH_H
#define KITH_KERNELS_CUDA_CUDA_LAUNCH_H

#include <cuda_runtime.h>

/* C17's spelling in the headers of base, for a C++ compiler. */
#define _Static_assert static_assert
#include "host/base/limits.h"
#include "kernels/cuda/cuda_plugin.h"

/* Every launch, and every use of a block's shared memory, goes through here: the emulator (tests/cuda_emu) has its own
 * in its cuda_runtime.h. */
#ifndef KITH_CUDA_EMU
#define KITH_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                          \
    kernel<<<(grid), (block), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__)
#define KITH_SHARED(type, name)   __shared__ type name
#define KITH_SHARED_DYNAMIC(name) extern __shared__ __align__(16) unsigned char name[]
#endif

/* As kith_err_set. */
kith_status cuda_fail(kith_err *err, kith_status status, const char *format, ...);
/* The fault of the launch just made, if any. */
kith_status cuda_launch_check(kith_err *err, const char *kernel_name);

kith_status cuda_rescore(const kith_cuda_rescore_job *job, kith_err *err);

#endif
