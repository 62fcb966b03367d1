/* Kernels with the faults that the emulator is for, and their right twins. */
#include "kernels/cuda/cuda_wgmma.cuh"

#include "tests/cuda_emu/emu_faults.h"

enum { THREADS = 64 };

struct numbers {
    uint32_t at[THREADS];
};

/* Each thread takes its neighbour's number. */
static __global__ void reverse_kernel(uint32_t *data, bool barrier) {
    KITH_SHARED(numbers, shared);
    shared.at[threadIdx.x] = data[threadIdx.x];
    if (barrier) __syncthreads();
    data[threadIdx.x] = shared.at[THREADS - 1 - threadIdx.x];
}

static __global__ void warp_reverse_kernel(uint32_t *data, bool barrier) {
    KITH_SHARED(numbers, shared);
    uint32_t warp = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
    shared.at[threadIdx.x] = data[threadIdx.x];
    if (barrier) __syncwarp();
    data[threadIdx.x] = shared.at[warp + 31 - lane];
}

static __global__ void count_kernel(uint32_t *count, bool atomic) {
    if (atomic)
        atomicAdd(count, 1u);
    else
        *count += 1;
}

static __global__ void out_of_bounds_kernel(uint32_t *data, uint32_t index) {
    data[index] = 1;
}

static __global__ void host_memory_kernel(uint32_t *host, uint32_t *data) {
    data[0] = *host;
}

static __global__ void unwritten_kernel(uint32_t *data, uint32_t count) {
    KITH_SHARED_DYNAMIC(bytes);
    uint32_t *shared = (uint32_t *)bytes;
    if (threadIdx.x < count) shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    data[threadIdx.x] = shared[threadIdx.x];
}

static __global__ void divergent_kernel(uint32_t *data, uint32_t how) {
    if (how == 1 && threadIdx.x == 5) return;
    if (how == 2 && threadIdx.x >= 32)
        __syncthreads();
    else
        __syncthreads();
    data[threadIdx.x] = 1;
}

static __global__ void divergent_warp_kernel(uint32_t *data, bool all) {
    uint32_t ballot = 0;
    if (all || threadIdx.x % 32 != 7) ballot = __ballot_sync(0xffffffffu, threadIdx.x % 2);
    data[threadIdx.x] = ballot;
}

/* Lanes' sum by shuffles, in every lane. */
static __global__ void shuffle_kernel(uint32_t *data) {
    uint32_t sum = threadIdx.x;
    for (uint32_t bits = 16; bits; bits /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, bits);
    uint32_t first = __shfl_sync(0xffffffffu, threadIdx.x, 0);
    uint32_t down = __shfl_down_sync(0xffffffffu, threadIdx.x, 4, 8);
    data[threadIdx.x] = sum + 10000 * first + 1000000 * (down - threadIdx.x);
}

static __global__ void mma_kernel(const uint32_t *a, const uint32_t *b, int32_t *c, uint32_t k) {
    uint32_t group = threadIdx.x / 4, member = threadIdx.x % 4, words = k / 4;
    uint32_t a_part[4], b_part[2];
    for (uint32_t r = 0; r < k / 8; r++)
        a_part[r] = a[(group + 8 * (r & 1)) * words + 4 * (r >> 1) + member];
    for (uint32_t r = 0; r < k / 16; r++)
        b_part[r] = b[group * words + 4 * r + member];
    int32_t sums[4] = {0, 0, 0, 0};
    cuda_emu_mma(sums, a_part, b_part, k, __FILE__, __LINE__);
    for (uint32_t r = 0; r < 4; r++)
        c[(group + 8 * (r >> 1)) * 8 + 2 * member + (r & 1)] = sums[r];
}

/* B in core matrices of 8 columns by 16 bytes, those of the same k together. */
static __device__ uint32_t wgmma_place(uint32_t column, uint32_t word) {
    return word / 4 * 512 + column / 8 * 32 + column % 8 * 4 + word % 4;
}

static __global__ void wgmma_kernel(const uint32_t *a, const uint32_t *b, int32_t *c, uint32_t how) {
    KITH_SHARED_DYNAMIC(bytes);
    uint32_t *shared = (uint32_t *)bytes, group = threadIdx.x / 4 % 8, member = threadIdx.x % 4;
    uint32_t row = threadIdx.x / 32 * 16 + group;
    for (uint32_t word = 0; word < 8; word++)
        shared[wgmma_place(threadIdx.x, word)] = b[threadIdx.x * 8 + word];
    if (how != EMU_WGMMA_NO_SHARED_FENCE) wgmma_shared_fence();
    if (how != EMU_WGMMA_NO_BARRIER) __syncthreads();
    uint32_t a_part[4];
    for (uint32_t r = 0; r < 4; r++)
        a_part[r] = a[(row + 8 * (r & 1)) * 8 + 4 * (r >> 1) + member];
    int32_t sums[WGMMA_SUMS] = {};
    uint64_t descriptor = wgmma_descriptor(wgmma_shared_address(shared), 2048, 128);
    for (uint32_t i = 0; i < 2; i++) {
        if (how != EMU_WGMMA_NO_FENCE) wgmma_fence();
        if (how != EMU_WGMMA_ONE_WARP_LESS || threadIdx.x >= 32) wgmma(sums, a_part, descriptor);
        wgmma_commit();
        if (how == EMU_WGMMA_SUMS_READ_EARLY && i == 1) break;
        if (how == EMU_WGMMA_A_CHANGED_EARLY) a_part[0]++;
        if (how != EMU_WGMMA_NO_WAIT) wgmma_wait();
        if (how == EMU_WGMMA_A_CHANGED_EARLY) a_part[0]--;
    }
    for (uint32_t r = 0; r < WGMMA_SUMS; r++)
        c[(row + 8 * (r >> 1 & 1)) * 128 + r / 4 * 8 + 2 * member + (r & 1)] = sums[r];
    if (how == EMU_WGMMA_SUMS_READ_EARLY) wgmma_wait();
}

void emu_faults_run(
    emu_faults_kernel which, uint32_t argument, uint32_t *device, uint32_t *host, void *stream) {
    switch (which) {
    case EMU_REVERSE:
        KITH_LAUNCH(reverse_kernel, 1, THREADS, 0, stream, device, argument);
        break;
    case EMU_WARP_REVERSE:
        KITH_LAUNCH(warp_reverse_kernel, 1, THREADS, 0, stream, device, argument);
        break;
    case EMU_COUNT_BLOCKS:
        KITH_LAUNCH(count_kernel, 8, 1, 0, stream, device, argument);
        break;
    case EMU_OUT_OF_BOUNDS:
        KITH_LAUNCH(out_of_bounds_kernel, 1, 1, 0, stream, device, argument);
        break;
    case EMU_HOST_MEMORY:
        KITH_LAUNCH(host_memory_kernel, 1, 1, 0, stream, host, device);
        break;
    case EMU_UNWRITTEN:
        KITH_LAUNCH(unwritten_kernel, 1, THREADS, THREADS * 4, stream, device, argument);
        break;
    case EMU_SHARED:
        KITH_LAUNCH(reverse_kernel, 1, THREADS, argument, stream, device, 1u);
        break;
    case EMU_DIVERGENT:
        KITH_LAUNCH(divergent_kernel, 1, THREADS, 0, stream, device, argument);
        break;
    case EMU_DIVERGENT_WARP:
        KITH_LAUNCH(divergent_warp_kernel, 1, THREADS, 0, stream, device, argument);
        break;
    case EMU_SHUFFLE:
        KITH_LAUNCH(shuffle_kernel, 1, THREADS, 0, stream, device);
        break;
    case EMU_MMA:
        KITH_LAUNCH(mma_kernel, 1, 32, 0, stream, device, device + 16 * argument / 4,
            (int32_t *)(device + 24 * argument / 4), argument);
        break;
    case EMU_WGMMA:
        KITH_LAUNCH(wgmma_kernel, 1, 128, 128 * 32, stream, device, device + 64 * 8,
            (int32_t *)(device + (64 + 128) * 8), argument);
        break;
    }
}

int emu_malloc(void **device_out, size_t bytes) {
    return cudaMalloc(device_out, bytes);
}

int emu_free(void *device) {
    return cudaFree(device);
}

int emu_stream_create(void **stream_out) {
    return cudaStreamCreateWithFlags((cudaStream_t *)stream_out, cudaStreamNonBlocking);
}

int emu_stream_destroy(void *stream) {
    return cudaStreamDestroy((cudaStream_t)stream);
}

int emu_stream_wait(void *stream) {
    return cudaStreamSynchronize((cudaStream_t)stream);
}

int emu_host_alloc(void **pinned_out, size_t bytes) {
    return cudaHostAlloc(pinned_out, bytes, cudaHostAllocDefault);
}

int emu_host_free(void *pinned) {
    return cudaFreeHost(pinned);
}

int emu_upload(void *device, const void *host, size_t bytes, void *stream) {
    return cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, (cudaStream_t)stream);
}

int emu_download(void *host, const void *device, size_t bytes, void *stream) {
    return cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, (cudaStream_t)stream);
}
