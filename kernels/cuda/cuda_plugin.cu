/* The plugin's table, and what is said when there is no device. */
#include <stdarg.h>
#include <stdio.h>

#include "kernels/cuda/cuda_launch.h"

kith_status cuda_fail(kith_err *err, kith_status status, const char *format, ...) {
    if (!err) return status;
    va_list arguments;
    va_start(arguments, format);
    err->status = status;
    vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    return status;
}

kith_status cuda_check(kith_err *err, cudaError_t error, const char *what) {
    if (error == cudaSuccess) return KITH_OK;
    (void)cudaGetLastError(); /* or the next launch check would report it again */
    return cuda_fail(
        err, KITH_INTERNAL, "%s: %s (cuda error %d)", what, cudaGetErrorString(error), (int)error);
}

kith_status cuda_launch_check(kith_err *err, const char *kernel_name) {
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess) return KITH_OK;
    return cuda_fail(err, KITH_INTERNAL, "launch of %s: %s (cuda error %d)", kernel_name,
        cudaGetErrorString(error), (int)error);
}

static kith_status device_count(uint32_t *count_out, kith_err *err) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        return cuda_fail(err, KITH_UNAVAILABLE, "no cuda device: %s (cuda error %d)",
            cudaGetErrorString(error), (int)error);
    }
    if (count == 0) return cuda_fail(err, KITH_UNAVAILABLE, "no cuda device: the driver lists none");
    *count_out = (uint32_t)count;
    return KITH_OK;
}

extern "C" __attribute__((visibility("default"))) const kith_cuda_plugin *kith_cuda_plugin_table(void) {
    static const kith_cuda_plugin table = {
        KITH_CUDA_PLUGIN_VERSION,
        sizeof(kith_cuda_plugin),
        device_count,
        cuda_rescore,
        cuda_device_open,
        cuda_device_close,
        cuda_device_memory,
        cuda_segment_upload,
        cuda_segment_release,
        cuda_search_queries_max,
        cuda_search,
    };
    return &table;
}
