/* What the plugin's files share: the one way to launch a kernel, messages in a kith_err without linking kith, the
 * device and its parts. Private to kernels/cuda. */
#ifndef KITH_KERNELS_CUDA_CUDA_LAUNCH_H
#define KITH_KERNELS_CUDA_CUDA_LAUNCH_H

#include <cuda_runtime.h>

/* C17's spelling in the headers of base, for a C++ compiler. */
#ifndef _Static_assert
#define _Static_assert static_assert
#endif
#include "host/base/limits.h"
#include "kernels/codes/codes.h"
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
/* INTERNAL with CUDA's reason, unless `error` is success. */
kith_status cuda_check(kith_err *err, cudaError_t error, const char *what);
/* The fault of the launch just made, if any. */
kith_status cuda_launch_check(kith_err *err, const char *kernel_name);

/* --- device (cuda_device.cu) --- */

/* Memory that is cut up anew for each search. */
typedef struct cuda_arena {
    char *d_at;
    char *p_at; /* pinned, as large; NULL: none */
    size_t bytes;
} cuda_arena;

typedef struct cuda_worker {
    cudaStream_t stream;
    cudaEvent_t done;
    cuda_arena queries, results, scratch;
} cuda_worker;

enum {
    CUDA_WORKERS_MAX = 64,
    CUDA_ARCH_WGMMA = 90, /* and no other */
};

struct kith_cuda_device {
    kith_cuda_device_options options;
    int arch; /* 10 * major + minor */
    uint32_t processor_count;
    size_t memory_bytes_max;
    size_t used_bytes[KITH_CUDA_MEMORY_COUNT]; /* changed with __atomic_*: uploads and statistics meet */
    cuda_worker workers[CUDA_WORKERS_MAX];
    cudaStream_t upload_stream;
    cudaEvent_t upload_done[2];
    char *p_upload[2];
};

struct kith_cuda_segment {
    char *d_vectors;
    uint8_t *d_blocks;
    size_t vectors_bytes, blocks_bytes;
    uint32_t row_count, dim, code_dim, lead_dim;
    kith_code_layout layout;
    kith_vector_type type;
    kith_metric metric;
};

kith_status cuda_device_open(
    const kith_cuda_device_options *options, kith_cuda_device **device_out, kith_err *err);
void cuda_device_close(kith_cuda_device *device);
size_t cuda_device_memory(const kith_cuda_device *device, size_t used_out[KITH_CUDA_MEMORY_COUNT]);
kith_status cuda_segment_upload(
    kith_cuda_device *device, const kith_rows *rows, kith_cuda_segment **segment_out, kith_err *err);
void cuda_segment_release(kith_cuda_device *device, kith_cuda_segment *segment);

/* --- operations --- */

/* What a device of compute capability 9.0 needs before cuda_scan_wgmma; INTERNAL. */
kith_status cuda_scan_wgmma_prepare(kith_err *err);
kith_status cuda_rescore(const kith_cuda_rescore_job *job, kith_err *err);

uint32_t cuda_search_queries_max(
    const kith_cuda_device *device, const kith_cuda_segment *segment, uint32_t k);
kith_status cuda_search(kith_cuda_device *device, kith_cuda_search_job *job, kith_err *err);

#endif
