/* A device: its memory by category, its workers, and the segments that lie on it.
 *
 * Admission. Every byte of the device is taken through memory_take, which asks three times: the limit of this process,
 * what the driver says is free, and cudaMalloc itself. What is refused is NO_MEMORY and leaves everything as it was;
 * the caller evicts a segment or goes without.
 *
 * Uploads go through two pinned buffers in turn, so that the copy of one part to the device runs while the next is
 * copied into pinned memory. */
#include <stdlib.h>
#include <string.h>

#include "kernels/codes/codes.h"
#include "kernels/cuda/cuda_launch.h"

enum { ARCH_LEAST = 80 };

static const char *const memory_names[] = {"codes", "vectors", "queries", "results", "scratch"};
static_assert(sizeof memory_names / sizeof memory_names[0] == KITH_CUDA_MEMORY_COUNT, "a name for each");

/* --- memory --- */

static size_t used_total(const kith_cuda_device *device) {
    size_t total = 0;
    for (int i = 0; i < KITH_CUDA_MEMORY_COUNT; i++)
        total += __atomic_load_n(&device->used_bytes[i], __ATOMIC_RELAXED);
    return total;
}

static kith_status memory_take(
    kith_cuda_device *device, kith_cuda_memory category, size_t bytes, char **d_out, kith_err *err) {
    size_t used = used_total(device), free_bytes, total_bytes;
    if (used > device->memory_bytes_max || bytes > device->memory_bytes_max - used) {
        return cuda_fail(err, KITH_NO_MEMORY,
            "device memory for %s: %zu bytes beside %zu are above the limit of %zu", memory_names[category],
            bytes, used, device->memory_bytes_max);
    }
    kith_status status = cuda_check(err, cudaMemGetInfo(&free_bytes, &total_bytes), "free device memory");
    if (status != KITH_OK) return status;
    if (bytes > free_bytes) {
        return cuda_fail(err, KITH_NO_MEMORY, "device memory for %s: %zu bytes are not free, %zu are",
            memory_names[category], bytes, free_bytes);
    }
    void *d_got;
    cudaError_t error = cudaMalloc(&d_got, bytes);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return cuda_fail(err, error == cudaErrorMemoryAllocation ? KITH_NO_MEMORY : KITH_INTERNAL,
            "device memory for %s: %zu bytes: %s (cuda error %d)", memory_names[category], bytes,
            cudaGetErrorString(error), (int)error);
    }
    __atomic_fetch_add(&device->used_bytes[category], bytes, __ATOMIC_RELAXED);
    *d_out = (char *)d_got;
    return KITH_OK;
}

/* Accepts NULL. A free that fails is of a device that is lost; there is nothing left to do with it. */
static void memory_give(kith_cuda_device *device, kith_cuda_memory category, size_t bytes, void *d_pointer) {
    if (!d_pointer) return;
    if (cudaFree(d_pointer) != cudaSuccess) (void)cudaGetLastError();
    __atomic_fetch_sub(&device->used_bytes[category], bytes, __ATOMIC_RELAXED);
}

size_t cuda_device_memory(const kith_cuda_device *device, size_t used_out[KITH_CUDA_MEMORY_COUNT]) {
    for (int i = 0; i < KITH_CUDA_MEMORY_COUNT; i++)
        used_out[i] = __atomic_load_n(&device->used_bytes[i], __ATOMIC_RELAXED);
    return device->memory_bytes_max;
}

/* --- pinned memory, streams, events --- */

static kith_status pinned_take(size_t bytes, char **p_out, kith_err *err) {
    void *p_got;
    cudaError_t error = cudaHostAlloc(&p_got, bytes, cudaHostAllocDefault);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return cuda_fail(err, KITH_NO_MEMORY, "pinned memory: %zu bytes: %s (cuda error %d)", bytes,
            cudaGetErrorString(error), (int)error);
    }
    *p_out = (char *)p_got;
    return KITH_OK;
}

static void pinned_give(void *p_pointer) {
    if (p_pointer && cudaFreeHost(p_pointer) != cudaSuccess) (void)cudaGetLastError();
}

static kith_status stream_make(cudaStream_t *stream_out, kith_err *err) {
    return cuda_check(err, cudaStreamCreateWithFlags(stream_out, cudaStreamNonBlocking), "a stream");
}

static kith_status event_make(cudaEvent_t *event_out, kith_err *err) {
    return cuda_check(err, cudaEventCreateWithFlags(event_out, cudaEventDisableTiming), "an event");
}

/* --- workers --- */

static kith_status arena_make(kith_cuda_device *device, kith_cuda_memory category, size_t bytes, bool pinned,
    cuda_arena *arena_out, kith_err *err) {
    kith_status status = memory_take(device, category, bytes, &arena_out->d_at, err);
    if (status == KITH_OK) arena_out->bytes = bytes;
    if (status == KITH_OK && pinned) status = pinned_take(bytes, &arena_out->p_at, err);
    return status;
}

static void arena_end(kith_cuda_device *device, kith_cuda_memory category, cuda_arena *arena) {
    pinned_give(arena->p_at);
    memory_give(device, category, arena->bytes, arena->d_at);
}

static kith_status worker_make(kith_cuda_device *device, cuda_worker *worker, kith_err *err) {
    const kith_cuda_device_options *options = &device->options;
    kith_status status = stream_make(&worker->stream, err);
    if (status == KITH_OK) status = event_make(&worker->done, err);
    if (status == KITH_OK)
        status = arena_make(
            device, KITH_CUDA_MEMORY_QUERIES, options->worker_queries_bytes, true, &worker->queries, err);
    if (status == KITH_OK)
        status = arena_make(
            device, KITH_CUDA_MEMORY_RESULTS, options->worker_results_bytes, true, &worker->results, err);
    if (status == KITH_OK)
        status = arena_make(
            device, KITH_CUDA_MEMORY_SCRATCH, options->worker_scratch_bytes, false, &worker->scratch, err);
    return status;
}

static void worker_end(kith_cuda_device *device, cuda_worker *worker) {
    if (worker->stream && cudaStreamSynchronize(worker->stream) != cudaSuccess) (void)cudaGetLastError();
    arena_end(device, KITH_CUDA_MEMORY_QUERIES, &worker->queries);
    arena_end(device, KITH_CUDA_MEMORY_RESULTS, &worker->results);
    arena_end(device, KITH_CUDA_MEMORY_SCRATCH, &worker->scratch);
    if (worker->done && cudaEventDestroy(worker->done) != cudaSuccess) (void)cudaGetLastError();
    if (worker->stream && cudaStreamDestroy(worker->stream) != cudaSuccess) (void)cudaGetLastError();
}

/* --- device --- */

static kith_status attribute_get(
    cudaDeviceAttr attribute, uint32_t device_index, int *value_out, kith_err *err) {
    return cuda_check(
        err, cudaDeviceGetAttribute(value_out, attribute, (int)device_index), "what the device can do");
}

static kith_status facts_find(kith_cuda_device *device, kith_err *err) {
    uint32_t index = device->options.device_index;
    int major = 0, minor = 0, processors = 0;
    size_t free_bytes = 0, total_bytes = 0;
    kith_status status = cuda_check(err, cudaSetDevice((int)index), "the device");
    if (status == KITH_OK) status = attribute_get(cudaDevAttrComputeCapabilityMajor, index, &major, err);
    if (status == KITH_OK) status = attribute_get(cudaDevAttrComputeCapabilityMinor, index, &minor, err);
    if (status == KITH_OK) status = attribute_get(cudaDevAttrMultiProcessorCount, index, &processors, err);
    if (status == KITH_OK)
        status = cuda_check(err, cudaMemGetInfo(&free_bytes, &total_bytes), "free device memory");
    if (status != KITH_OK) return status;
    device->arch = 10 * major + minor;
    device->processor_count = (uint32_t)processors;
    device->memory_bytes_max = device->options.memory_bytes_max;
    if (device->memory_bytes_max == 0) device->memory_bytes_max = free_bytes / 10 * 9;
    if (device->arch >= ARCH_LEAST) return KITH_OK;
    return cuda_fail(err, KITH_UNAVAILABLE, "device %u has compute capability %d.%d, kith needs %d.%d", index,
        major, minor, ARCH_LEAST / 10, ARCH_LEAST % 10);
}

static kith_status uploads_make(kith_cuda_device *device, kith_err *err) {
    kith_status status = stream_make(&device->upload_stream, err);
    for (int i = 0; i < 2 && status == KITH_OK; i++) {
        status = event_make(&device->upload_done[i], err);
        if (status == KITH_OK) status = pinned_take(device->options.upload_bytes, &device->p_upload[i], err);
    }
    return status;
}

kith_status cuda_device_open(
    const kith_cuda_device_options *options, kith_cuda_device **device_out, kith_err *err) {
    if (options->worker_count == 0 || options->worker_count > CUDA_WORKERS_MAX) {
        return cuda_fail(
            err, KITH_INVALID, "%u workers are not in 1..%d", options->worker_count, CUDA_WORKERS_MAX);
    }
    kith_cuda_device *device = (kith_cuda_device *)calloc(1, sizeof *device);
    if (!device) return cuda_fail(err, KITH_NO_MEMORY, "no memory for a device");
    device->options = *options;
    kith_status status = facts_find(device, err);
    if (status == KITH_OK && device->arch == CUDA_ARCH_WGMMA) status = cuda_scan_wgmma_prepare(err);
    if (status == KITH_OK) status = uploads_make(device, err);
    for (uint32_t i = 0; i < options->worker_count && status == KITH_OK; i++)
        status = worker_make(device, &device->workers[i], err);
    if (status != KITH_OK) {
        cuda_device_close(device);
        return status == KITH_INTERNAL ? KITH_UNAVAILABLE : status;
    }
    *device_out = device;
    return KITH_OK;
}

void cuda_device_close(kith_cuda_device *device) {
    if (!device) return;
    if (cudaSetDevice((int)device->options.device_index) != cudaSuccess) (void)cudaGetLastError();
    for (uint32_t i = 0; i < device->options.worker_count; i++)
        worker_end(device, &device->workers[i]);
    for (int i = 0; i < 2; i++) {
        pinned_give(device->p_upload[i]);
        if (device->upload_done[i] && cudaEventDestroy(device->upload_done[i]) != cudaSuccess)
            (void)cudaGetLastError();
    }
    if (device->upload_stream && cudaStreamDestroy(device->upload_stream) != cudaSuccess)
        (void)cudaGetLastError();
    free(device);
}

/* --- segments --- */

/* Queues the copy of `bytes` bytes, in parts through the two buffers; `turn` counts parts. */
static kith_status upload(
    kith_cuda_device *device, char *d_to, const void *from, size_t bytes, uint32_t *turn, kith_err *err) {
    size_t part_most = device->options.upload_bytes;
    for (size_t at = 0; at < bytes; at += part_most, ++*turn) {
        size_t part = bytes - at < part_most ? bytes - at : part_most;
        uint32_t buffer = *turn % 2;
        kith_status status = KITH_OK;
        if (*turn >= 2)
            status = cuda_check(err, cudaEventSynchronize(device->upload_done[buffer]), "an upload");
        if (status != KITH_OK) return status;
        memcpy(device->p_upload[buffer], (const char *)from + at, part);
        status = cuda_check(err,
            cudaMemcpyAsync(
                d_to + at, device->p_upload[buffer], part, cudaMemcpyHostToDevice, device->upload_stream),
            "an upload");
        if (status == KITH_OK)
            status = cuda_check(
                err, cudaEventRecord(device->upload_done[buffer], device->upload_stream), "an upload");
        if (status != KITH_OK) return status;
    }
    return KITH_OK;
}

static kith_status segment_fill(
    kith_cuda_device *device, kith_cuda_segment *segment, const kith_rows *rows, kith_err *err) {
    uint32_t turn = 0;
    kith_status status =
        upload(device, segment->d_vectors, rows->vectors, segment->vectors_bytes, &turn, err);
    if (status == KITH_OK)
        status =
            upload(device, (char *)segment->d_blocks, rows->codes->blocks, segment->blocks_bytes, &turn, err);
    if (status == KITH_OK)
        status = cuda_check(err, cudaStreamSynchronize(device->upload_stream), "an upload");
    return status;
}

kith_status cuda_segment_upload(
    kith_cuda_device *device, const kith_rows *rows, kith_cuda_segment **segment_out, kith_err *err) {
    if (!rows->codes || rows->row_count == 0)
        return cuda_fail(err, KITH_UNIMPLEMENTED, "rows without codes are not for the device");
    kith_cuda_segment *segment = (kith_cuda_segment *)calloc(1, sizeof *segment);
    if (!segment) return cuda_fail(err, KITH_NO_MEMORY, "no memory for a segment on the device");
    segment->row_count = rows->row_count;
    segment->dim = rows->dim;
    segment->code_dim = rows->codes->basis.code_dim;
    segment->lead_dim = rows->codes->basis.lead_dim;
    segment->layout = kith_code_layout_of(&rows->codes->basis);
    segment->type = rows->type;
    segment->metric = rows->metric;
    segment->vectors_bytes = (size_t)rows->row_count * rows->dim * kith_vector_type_bytes(rows->type);
    segment->blocks_bytes = (size_t)kith_code_block_count(rows->row_count) * segment->layout.block_bytes;
    char *d_blocks = NULL;
    kith_status status = cuda_check(err, cudaSetDevice((int)device->options.device_index), "the device");
    if (status == KITH_OK)
        status =
            memory_take(device, KITH_CUDA_MEMORY_VECTORS, segment->vectors_bytes, &segment->d_vectors, err);
    if (status == KITH_OK)
        status = memory_take(device, KITH_CUDA_MEMORY_CODES, segment->blocks_bytes, &d_blocks, err);
    segment->d_blocks = (uint8_t *)d_blocks;
    if (status == KITH_OK) status = segment_fill(device, segment, rows, err);
    if (status != KITH_OK) {
        cuda_segment_release(device, segment);
        return status;
    }
    *segment_out = segment;
    return KITH_OK;
}

void cuda_segment_release(kith_cuda_device *device, kith_cuda_segment *segment) {
    if (!segment) return;
    if (cudaSetDevice((int)device->options.device_index) != cudaSuccess) (void)cudaGetLastError();
    memory_give(device, KITH_CUDA_MEMORY_VECTORS, segment->vectors_bytes, segment->d_vectors);
    memory_give(device, KITH_CUDA_MEMORY_CODES, segment->blocks_bytes, segment->d_blocks);
    free(segment);
}
