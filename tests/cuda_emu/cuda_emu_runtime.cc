/* The runtime's calls: streams are queues of work that runs when somebody waits for it, or earlier, by the seed. */
#include <stdio.h>
#include <stdlib.h>

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <vector>

#include "tests/cuda_emu/cuda_emu_internal.h"

struct cuda_emu_event {
    cuda_emu_stream *stream = NULL; /* where it was recorded last */
    uint64_t recorded = 0, reached = 0;
};

struct cuda_emu_stream {
    std::deque<std::function<void()>> work;
};

namespace {

std::recursive_mutex lock;
std::set<cuda_emu_stream *> streams;
std::set<cuda_emu_event *> events;
std::map<const void *, size_t> pinned;
std::map<const void *, size_t> shared_allowed; /* kernel -> dynamic shared bytes */
cudaError_t last_error, lost;                  /* lost: what every call says from now on */
uint64_t calls, fail_at, launches;
cuda_emu_fault fail_how;
const char *failed_call;
int arch_major = 8, arch_minor = 0;
bool no_device;

typedef std::lock_guard<std::recursive_mutex> guard;

cudaError_t fail(cudaError_t error) {
    last_error = error;
    return error;
}

/* What every counted call begins with: success, or what it must return. */
cudaError_t enter(const char *name, cudaError_t injected = cudaErrorUnknown) {
    calls++;
    if (no_device) return fail(cudaErrorNoDevice);
    if (lost != cudaSuccess) return fail(lost);
    if (fail_at == 0 || calls != fail_at) return cudaSuccess;
    failed_call = name;
    if (fail_how == CUDA_EMU_FAULT_STICKY) lost = injected = cudaErrorLaunchFailure;
    return fail(injected);
}

/* --- work --- */

/* Runs the oldest work of the stream. */
void step(cuda_emu_stream *stream) {
    std::function<void()> work = std::move(stream->work.front());
    stream->work.pop_front();
    if (lost == cudaSuccess) work();
}

void drain(cuda_emu_stream *stream) {
    emu_memory_open();
    while (!stream->work.empty())
        step(stream);
    emu_memory_close();
}

void drain_all() {
    for (cuda_emu_stream *stream : streams)
        drain(stream);
}

/* Work may begin as soon as it is queued. */
void queue(cuda_emu_stream *stream, std::function<void()> work) {
    stream->work.push_back(std::move(work));
    if (emu_random(8) != 0) return;
    emu_memory_open();
    for (uint32_t count = 1 + emu_random(4); count && !stream->work.empty(); count--)
        step(stream);
    emu_memory_close();
}

void event_reach(cuda_emu_event *event, uint64_t number) {
    while (event->reached < number && !event->stream->work.empty())
        step(event->stream);
}

bool is_stream(cudaStream_t stream) {
    return streams.count(stream) != 0;
}

bool is_pinned(const void *at, size_t bytes) {
    auto after = pinned.upper_bound(at);
    if (after == pinned.begin()) return false;
    --after;
    return (const char *)at + bytes <= (const char *)after->first + after->second;
}

void device_fault(const char *what, const void *at, size_t bytes) {
    emu_report("%s: %zu bytes at %p are not in one allocation of the device", what, bytes, at);
    lost = cudaErrorIllegalAddress;
}

void copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    if (kind != cudaMemcpyHostToDevice && !emu_memory_valid(from, bytes))
        return device_fault("copy from", from, bytes);
    if (kind != cudaMemcpyDeviceToHost && !emu_memory_valid(to, bytes))
        return device_fault("copy to", to, bytes);
    size_t unwritten = kind == cudaMemcpyHostToDevice ? bytes : emu_memory_unwritten(from, bytes);
    if (unwritten < bytes)
        emu_report("copy of %zu bytes from the device: +%zu was never written", bytes, unwritten);
    memcpy(to, from, bytes);
    if (kind != cudaMemcpyDeviceToHost) emu_memory_written(to, bytes);
}

} // namespace

/* --- control --- */

void cuda_emu_reset(uint64_t seed) {
    guard held(lock);
    if (emu_running()) abort();
    for (cuda_emu_stream *stream : streams)
        delete stream;
    for (cuda_emu_event *event : events)
        delete event;
    for (auto &block : pinned)
        free((void *)block.first);
    streams.clear();
    events.clear();
    pinned.clear();
    shared_allowed.clear();
    emu_memory_reset();
    emu_reports_clear();
    emu_random_seed(seed);
    last_error = lost = cudaSuccess;
    calls = fail_at = launches = 0;
    failed_call = NULL;
    arch_major = 8;
    arch_minor = 0;
    no_device = false;
}

void cuda_emu_arch(int major, int minor) {
    arch_major = major;
    arch_minor = minor;
}

void cuda_emu_no_device(void) {
    no_device = true;
}

void cuda_emu_fail(uint64_t number, cuda_emu_fault fault) {
    guard held(lock);
    calls = 0;
    fail_at = number;
    fail_how = fault;
    failed_call = NULL;
}

uint64_t cuda_emu_call_count(void) {
    return calls;
}

const char *cuda_emu_failed_call(void) {
    return failed_call;
}

size_t cuda_emu_device_bytes(void) {
    size_t used, limit;
    emu_memory_limits(&used, &limit);
    return used;
}

uint32_t cuda_emu_object_count(void) {
    return (uint32_t)(emu_memory_count() + pinned.size() + streams.size() + events.size());
}

uint64_t cuda_emu_launch_count(void) {
    return launches;
}

/* --- device --- */

cudaError_t cudaGetDeviceCount(int *count) {
    guard held(lock);
    cudaError_t error = enter("cudaGetDeviceCount");
    if (error == cudaSuccess) *count = 1;
    return error;
}

cudaError_t cudaSetDevice(int device) {
    guard held(lock);
    cudaError_t error = enter("cudaSetDevice");
    return error != cudaSuccess ? error : device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    guard held(lock);
    cudaError_t error = enter("cudaDeviceGetAttribute");
    if (error != cudaSuccess) return error;
    if (device != 0) return fail(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrMultiProcessorCount      ? 2
             : attribute == cudaDevAttrComputeCapabilityMajor ? arch_major
                                                              : arch_minor;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    guard held(lock);
    cudaError_t error = enter("cudaMemGetInfo");
    if (error != cudaSuccess) return error;
    size_t used;
    emu_memory_limits(&used, total_bytes);
    *free_bytes = *total_bytes > used ? *total_bytes - used : 0;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void) {
    guard held(lock);
    cudaError_t error = last_error;
    last_error = lost;
    return error;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    default:
        return "unknown error";
    }
}

/* --- memory --- */

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    guard held(lock);
    cudaError_t error = enter("cudaMalloc", cudaErrorMemoryAllocation);
    if (error != cudaSuccess) return error;
    void *got = emu_memory_alloc(bytes);
    if (!got) return fail(cudaErrorMemoryAllocation);
    *pointer = got;
    return cudaSuccess;
}

/* Waits for the device, as the real one does. */
cudaError_t cudaFree(void *pointer) {
    guard held(lock);
    cudaError_t error = enter("cudaFree");
    if (error != cudaSuccess) return error;
    drain_all();
    if (pointer && !emu_memory_free(pointer)) {
        emu_report("cudaFree: %p is no allocation", pointer);
        return fail(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) {
    guard held(lock);
    cudaError_t error = enter("cudaHostAlloc", cudaErrorMemoryAllocation);
    if (error != cudaSuccess) return error;
    *pointer = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*pointer) return fail(cudaErrorMemoryAllocation);
    memset(*pointer, 0xff, bytes);
    pinned[*pointer] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer) {
    guard held(lock);
    cudaError_t error = enter("cudaFreeHost");
    if (error != cudaSuccess) return error;
    drain_all();
    if (pointer && pinned.erase(pointer) == 0) {
        emu_report("cudaFreeHost: %p is no allocation", pointer);
        return fail(cudaErrorInvalidValue);
    }
    free(pointer);
    return cudaSuccess;
}

/* Pinned memory is read and written when the copy's turn comes. Other host memory is read at once; a copy to it
 * waits. */
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    guard held(lock);
    cudaError_t error = enter("cudaMemcpyAsync");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    if (bytes == 0) return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from, bytes)) {
        std::vector<char> bytes_now((const char *)from, (const char *)from + bytes);
        queue(stream, [=] { copy(to, bytes_now.data(), bytes, kind); });
        return cudaSuccess;
    }
    queue(stream, [=] { copy(to, from, bytes, kind); });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(to, bytes)) drain(stream);
    return lost != cudaSuccess ? fail(lost) : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    guard held(lock);
    cudaError_t error = enter("cudaMemsetAsync");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    queue(stream, [=] {
        if (!emu_memory_valid(to, bytes)) return device_fault("memset of", to, bytes);
        memset(to, value, bytes);
        emu_memory_written(to, bytes);
    });
    return cudaSuccess;
}

/* --- streams and events --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    guard held(lock);
    cudaError_t error = enter("cudaStreamCreateWithFlags");
    if (error == cudaSuccess) streams.insert(*stream = new cuda_emu_stream);
    return error;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    guard held(lock);
    cudaError_t error = enter("cudaStreamDestroy");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    drain(stream);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    guard held(lock);
    cudaError_t error = enter("cudaStreamSynchronize");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    drain(stream);
    return lost != cudaSuccess ? fail(lost) : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    guard held(lock);
    cudaError_t error = enter("cudaEventCreateWithFlags");
    if (error == cudaSuccess) events.insert(*event = new cuda_emu_event);
    return error;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    guard held(lock);
    cudaError_t error = enter("cudaEventDestroy");
    if (error != cudaSuccess) return error;
    if (event->stream && is_stream(event->stream)) drain(event->stream);
    events.erase(event);
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    guard held(lock);
    cudaError_t error = enter("cudaEventRecord");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    event->stream = stream;
    uint64_t number = ++event->recorded;
    queue(stream, [=] { event->reached = number; });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    guard held(lock);
    cudaError_t error = enter("cudaEventSynchronize");
    if (error != cudaSuccess) return error;
    emu_memory_open();
    event_reach(event, event->recorded);
    emu_memory_close();
    return lost != cudaSuccess ? fail(lost) : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    guard held(lock);
    cudaError_t error = enter("cudaStreamWaitEvent");
    if (error != cudaSuccess) return error;
    if (!is_stream(stream)) return fail(cudaErrorInvalidResourceHandle);
    uint64_t number = event->recorded;
    queue(stream, [=] { event_reach(event, number); });
    return cudaSuccess;
}

/* --- kernels --- */

cudaError_t cuda_emu_shared_allow(const void *kernel, int bytes) {
    guard held(lock);
    cudaError_t error = enter("cudaFuncSetAttribute");
    if (error != cudaSuccess) return error;
    if (bytes < 0 || bytes > EMU_SHARED_BYTES) return fail(cudaErrorInvalidValue);
    shared_allowed[kernel] = (size_t)bytes;
    return cudaSuccess;
}

static bool launch_valid(const cuda_emu_kernel &kernel) {
    uint64_t threads = (uint64_t)kernel.block.x * kernel.block.y * kernel.block.z;
    auto allowed = shared_allowed.find(kernel.code);
    size_t shared = allowed == shared_allowed.end() ? kernel.shared_most : allowed->second;
    return threads >= 1 && threads <= EMU_THREADS_MAX && kernel.grid.x >= 1 && kernel.grid.y >= 1 &&
           kernel.grid.y <= 65535 && kernel.grid.z >= 1 && kernel.grid.z <= 65535 &&
           kernel.shared_bytes <= shared;
}

void cuda_emu_launch(const cuda_emu_kernel &asked, cudaStream_t stream) {
    guard held(lock);
    cuda_emu_kernel kernel = asked;
    kernel.shared_most = shared_allowed.count(kernel.code) ? EMU_SHARED_BYTES : EMU_SHARED_PLAIN_BYTES;
    cudaError_t error = enter(kernel.name, cudaErrorInvalidConfiguration);
    if (error == cudaSuccess && !is_stream(stream)) error = fail(cudaErrorInvalidResourceHandle);
    if (error == cudaSuccess && !launch_valid(kernel)) error = fail(cudaErrorInvalidConfiguration);
    if (error != cudaSuccess) {
        kernel.destroy(kernel.closure);
        return;
    }
    launches++;
    queue(stream, [=] {
        if (!emu_kernel_run(kernel)) lost = cudaErrorLaunchFailure;
        kernel.destroy(kernel.closure);
    });
}
