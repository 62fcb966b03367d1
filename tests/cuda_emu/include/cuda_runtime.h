/* The part of CUDA that kernels/cuda uses, for g++: qualifiers, built-in variables and functions, the runtime's calls.
 * Found in the place of NVIDIA's header when the kernels are compiled for the emulator (cuda_emu.h). */
#ifndef KITH_TESTS_CUDA_EMU_CUDA_RUNTIME_H
#define KITH_TESTS_CUDA_EMU_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>

#define KITH_CUDA_EMU 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

/* --- vectors --- */

struct uint2 {
    uint32_t x, y;
} __align__(8);
struct uint4 {
    uint32_t x, y, z, w;
} __align__(16);
struct dim3 {
    uint32_t x, y, z;
    dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

/* --- the running thread --- */

struct cuda_emu_place {
    dim3 thread, block, block_size, grid_size;
};
extern cuda_emu_place *cuda_emu_here;
#define threadIdx (cuda_emu_here->thread)
#define blockIdx  (cuda_emu_here->block)
#define blockDim  (cuda_emu_here->block_size)
#define gridDim   (cuda_emu_here->grid_size)

/* Memory of the block: what the launch asked for, and objects of fixed size (the n-th that a kernel names is the same
 * one in all threads). */
void *cuda_emu_shared_dynamic(void);
void *cuda_emu_shared_object(size_t bytes);
#define KITH_SHARED(type, name)   type &name = *(type *)cuda_emu_shared_object(sizeof(type))
#define KITH_SHARED_DYNAMIC(name) unsigned char *name = (unsigned char *)cuda_emu_shared_dynamic()

void cuda_emu_barrier(const char *file, int line);
#define __syncthreads() cuda_emu_barrier(__FILE__, __LINE__)

/* Every lane of `mask` brings a payload; when all are there, `combine` sees them all. */
typedef void (*cuda_emu_combine)(void *const payloads[32], uint32_t mask);
void cuda_emu_warp(uint32_t mask, void *payload, cuda_emu_combine combine, const char *file, int line);

struct cuda_emu_vote {
    int predicate;
    uint32_t ballot;
};
void cuda_emu_vote_combine(void *const payloads[32], uint32_t mask);
static inline uint32_t cuda_emu_ballot(uint32_t mask, int predicate, const char *file, int line) {
    cuda_emu_vote vote = {predicate, 0};
    cuda_emu_warp(mask, &vote, cuda_emu_vote_combine, file, line);
    return vote.ballot;
}
#define __ballot_sync(mask, predicate) cuda_emu_ballot(mask, predicate, __FILE__, __LINE__)
#define __any_sync(mask, predicate)    (cuda_emu_ballot(mask, predicate, __FILE__, __LINE__) != 0)
#define __all_sync(mask, predicate)    (cuda_emu_ballot(mask, !(predicate), __FILE__, __LINE__) == 0)
#define __syncwarp(...)                cuda_emu_warp_sync(__FILE__, __LINE__, ##__VA_ARGS__)
static inline void cuda_emu_warp_sync(const char *file, int line, uint32_t mask = 0xffffffffu) {
    (void)cuda_emu_ballot(mask, 1, file, line);
}

struct cuda_emu_exchange {
    uint64_t value, result;
    uint32_t source; /* lane it reads */
};
void cuda_emu_exchange_combine(void *const payloads[32], uint32_t mask);
uint32_t cuda_emu_lane(void);
template <typename T>
static inline T cuda_emu_shuffle(uint32_t mask, T value, uint32_t source, const char *file, int line) {
    cuda_emu_exchange exchange = {0, 0, source};
    memcpy(&exchange.value, &value, sizeof value);
    cuda_emu_warp(mask, &exchange, cuda_emu_exchange_combine, file, line);
    memcpy(&value, &exchange.result, sizeof value);
    return value;
}
/* Lane that a shuffle reads, kept in its segment of `width` lanes as the PTX manual says. */
static inline uint32_t cuda_emu_lane_down(uint32_t delta, uint32_t width) {
    uint32_t lane = cuda_emu_lane(), to = lane + delta;
    return to / width == lane / width ? to : lane;
}
static inline uint32_t cuda_emu_lane_up(uint32_t delta, uint32_t width) {
    uint32_t lane = cuda_emu_lane();
    return lane % width >= delta ? lane - delta : lane;
}
static inline uint32_t cuda_emu_lane_xor(uint32_t bits, uint32_t width) {
    uint32_t lane = cuda_emu_lane(), to = lane ^ bits;
    return to / width == lane / width ? to : lane;
}
static inline uint32_t cuda_emu_lane_at(uint32_t source, uint32_t width) {
    return cuda_emu_lane() / width * width + source % width;
}
#define CUDA_EMU_WIDTH_(first, width, ...) width
#define CUDA_EMU_WIDTH(...)                CUDA_EMU_WIDTH_(0, ##__VA_ARGS__, 32)
#define __shfl_down_sync(mask, value, delta, ...)                                                            \
    cuda_emu_shuffle(mask, value, cuda_emu_lane_down(delta, CUDA_EMU_WIDTH(__VA_ARGS__)), __FILE__, __LINE__)
#define __shfl_up_sync(mask, value, delta, ...)                                                              \
    cuda_emu_shuffle(mask, value, cuda_emu_lane_up(delta, CUDA_EMU_WIDTH(__VA_ARGS__)), __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, bits, ...)                                                              \
    cuda_emu_shuffle(mask, value, cuda_emu_lane_xor(bits, CUDA_EMU_WIDTH(__VA_ARGS__)), __FILE__, __LINE__)
#define __shfl_sync(mask, value, source, ...)                                                                \
    cuda_emu_shuffle(mask, value, cuda_emu_lane_at(source, CUDA_EMU_WIDTH(__VA_ARGS__)), __FILE__, __LINE__)

/* D = A B + C of mma.sync.aligned.m16n8k{16,32}.row.col.s32.s8.s8.s32, fragments as in the PTX manual. */
void cuda_emu_mma(int32_t c[4], const uint32_t *a, const uint32_t *b, uint32_t k, const char *file, int line);

/* Products of a warpgroup that run on their own (wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8, A in registers, B in
 * shared memory as its descriptor says). Nothing of A, B or D is looked at before the wait, so that whoever touches them
 * earlier gets wrong sums; stores to shared memory that no fence made visible to products are found. */
uint32_t cuda_emu_shared_address(const void *at);
void cuda_emu_async_fence(void);
void cuda_emu_wgmma_fence(void);
void cuda_emu_wgmma(int32_t d[64], const uint32_t a[4], uint64_t descriptor);
void cuda_emu_wgmma_commit(void);
void cuda_emu_wgmma_wait(const char *file, int line);

/* --- atomics: the value before --- */

uint32_t atomicAdd(uint32_t *at, uint32_t value);
unsigned long long atomicAdd(unsigned long long *at, unsigned long long value);
uint32_t atomicOr(uint32_t *at, uint32_t value);
uint32_t atomicMax(uint32_t *at, uint32_t value);
uint32_t atomicExch(uint32_t *at, uint32_t value);
uint32_t atomicCAS(uint32_t *at, uint32_t expected, uint32_t value);
static inline void __threadfence() {
}

/* --- arithmetic --- */

static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline double __dsub_rn(double a, double b) {
    return a - b;
}
static inline double __dmul_rn(double a, double b) {
    return a * b;
}
static inline double __ddiv_rn(double a, double b) {
    return a / b;
}
static inline double __dsqrt_rn(double a) {
    return sqrt(a);
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
static inline float __int2float_rn(int value) {
    return (float)value;
}
static inline float __double2float_rd(double value) {
    float rounded = (float)value;
    return (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
}
static inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline long long __double_as_longlong(double value) {
    long long bits;
    memcpy(&bits, &value, 8);
    return bits;
}
static inline double __longlong_as_double(long long bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}
static inline int __popc(uint32_t bits) {
    return __builtin_popcount(bits);
}
static inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
static inline int __clz(int bits) {
    return bits ? __builtin_clz((uint32_t)bits) : 32;
}
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++)
        c += (int8_t)((uint32_t)a >> 8 * i) * (int8_t)((uint32_t)b >> 8 * i);
    return c;
}
template <typename T> static inline T __ldg(const T *at) {
    return *at;
}
template <typename T> static inline T __ldcs(const T *at) {
    return *at;
}
template <typename T> static inline T min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> static inline T max(T a, T b) {
    return a < b ? b : a;
}

/* --- the runtime --- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorUnknown = 999,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum {
    cudaStreamNonBlocking = 1,
    cudaEventDisableTiming = 2,
    cudaHostAllocDefault = 0,
};
typedef struct cuda_emu_stream *cudaStream_t;
typedef struct cuda_emu_event *cudaEvent_t;

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **pointer, size_t bytes);
cudaError_t cudaFree(void *pointer);
cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void *pointer);
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cuda_emu_shared_allow(const void *kernel, int bytes);
template <typename F>
static inline cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute, int bytes) {
    return cuda_emu_shared_allow((const void *)kernel, bytes);
}

/* --- launches --- */

struct cuda_emu_kernel {
    const char *name;
    const void *code;
    dim3 grid, block;
    size_t shared_bytes;
    size_t shared_most;  /* with its objects; the launch fills it in */
    const void *closure; /* what the threads may read of the host: the kernel's arguments */
    size_t closure_bytes;
    void (*run)(const void *closure);
    void (*destroy)(const void *closure);
};
void cuda_emu_launch(const cuda_emu_kernel &kernel, cudaStream_t stream);

/* A kernel and its arguments as they are now. */
template <typename... Parameters> struct cuda_emu_closure {
    void (*code)(Parameters...);
    std::tuple<Parameters...> arguments;
};

template <typename... Parameters, typename... Arguments>
static inline void cuda_emu_launch_of(const char *name, void (*code)(Parameters...), dim3 grid, dim3 block,
    size_t shared_bytes, cudaStream_t stream, Arguments... arguments) {
    typedef cuda_emu_closure<Parameters...> closure;
    cuda_emu_kernel kernel = {name, (const void *)code, grid, block, shared_bytes, 0,
        new closure{code, std::tuple<Parameters...>(arguments...)}, sizeof(closure),
        [](const void *at) { std::apply(((const closure *)at)->code, ((const closure *)at)->arguments); },
        [](const void *at) { delete (const closure *)at; }};
    cuda_emu_launch(kernel, stream);
}
#define KITH_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                          \
    cuda_emu_launch_of(#kernel, (kernel), grid, block, shared_bytes, (cudaStream_t)(stream), __VA_ARGS__)

#endif
