#include "host/role/role_compute.h"

#include <stdio.h>

#include "host/base/log.h"

#define PLUGIN_PATH  "libkith_cuda.so"
#define DEVICE_INDEX 0u

/* --- choice --- */

static void gpu_retired(void *ctx, const char *reason) {
    (void)ctx;
    kith_log_error("gpu_retired", kith_kv_u64("device", DEVICE_INDEX), kith_kv_text("reason", reason),
        kith_kv_text("now", "the CPU answers all searches until a restart"));
}

static kith_status plugin_open(const kith_role_gpu *gpu, kith_cuda **cuda_out, kith_err *err) {
    kith_status status = gpu ? kith_cuda_open_table("of a test", gpu->plugin, cuda_out, err)
                             : kith_cuda_open(PLUGIN_PATH, cuda_out, err);
    if (status != KITH_OK || kith_cuda_device_count(*cuda_out) > 0) return status;
    kith_cuda_close(*cuda_out);
    return kith_err_set(err, KITH_UNAVAILABLE, "cuda plugin: there is no device");
}

static kith_status gpu_open(kith_role_compute *compute, const kith_role_gpu *gpu, kith_err *err) {
    kith_cuda *cuda;
    kith_status status = plugin_open(gpu, &cuda, err);
    if (status != KITH_OK) return status;
    kith_cuda_backend_options options = gpu ? gpu->options : (kith_cuda_backend_options){0};
    options.cuda = cuda;
    options.device_index = DEVICE_INDEX;
    options.retired = gpu_retired;
    status = kith_cuda_backend_create(&options, &compute->gpu, err);
    if (status != KITH_OK) {
        kith_cuda_close(cuda);
        return status;
    }
    compute->cuda = cuda;
    compute->ops = kith_compute_cuda();
    kith_cuda_backend_install(compute->gpu);
    return KITH_OK;
}

static void choice_log(const kith_role_compute *compute, const char *reason) {
    kith_log_info(
        "compute_backend", kith_kv_text("name", compute->ops->name), kith_kv_text("reason", reason));
}

void kith_role_compute_open(
    kith_role_compute *compute_out, kith_config_compute_backend wanted, const kith_role_gpu *gpu) {
    kith_role_compute *compute = compute_out;
    *compute = (kith_role_compute){
        .ops = kith_compute_cpu(), .gpu_required = wanted == KITH_CONFIG_COMPUTE_BACKEND_CUDA};
    if (wanted == KITH_CONFIG_COMPUTE_BACKEND_CPU) {
        choice_log(compute, "compute_backend = cpu");
        return;
    }
    kith_err err;
    if (gpu_open(compute, gpu, &err) == KITH_OK) {
        choice_log(compute, "a GPU is there");
        return;
    }
    if (compute->gpu_required) {
        kith_err_wrap(&err, err.status, "compute_backend = cuda");
        snprintf(compute->fault, sizeof compute->fault, "%s", err.text);
        kith_log_error("compute_backend_unavailable", kith_kv_text("reason", err.text));
    }
    choice_log(compute, err.text);
}

void kith_role_compute_close(kith_role_compute *compute) {
    kith_cuda_backend_destroy(compute->gpu);
    kith_cuda_close(compute->cuda);
    *compute = (kith_role_compute){0};
}

kith_status kith_role_compute_health(const kith_role_compute *compute, kith_err *err) {
    if (!compute->gpu_required) return KITH_OK;
    if (!compute->gpu) return kith_err_set(err, KITH_UNAVAILABLE, "%s", compute->fault);
    if (kith_cuda_backend_usable(compute->gpu, err)) return KITH_OK;
    return kith_err_wrap(err, KITH_UNAVAILABLE, "compute_backend = cuda");
}

/* --- figures --- */

static void count_carry(
    kith_metrics *metrics, kith_metric_id id, const char *label, uint64_t now, uint64_t carried) {
    kith_series *series = kith_metrics_series(metrics, id, label);
    if (now != carried) kith_series_add(series, now - carried);
}

void kith_role_compute_measure(kith_role_compute *compute, kith_metrics *metrics) {
    if (!compute->gpu) return;
    static const char *const categories[KITH_CUDA_MEMORY_COUNT] = {
        [KITH_CUDA_MEMORY_CODES] = "codes",
        [KITH_CUDA_MEMORY_VECTORS] = "vectors",
        [KITH_CUDA_MEMORY_QUERIES] = "queries",
        [KITH_CUDA_MEMORY_RESULTS] = "results",
        [KITH_CUDA_MEMORY_SCRATCH] = "scratch",
    };
    kith_err unused;
    kith_cuda_backend_counts now, *carried = &compute->carried;
    kith_cuda_backend_count(compute->gpu, &now);
    count_carry(metrics, KITH_METRIC_ID_GPU_SEARCHES, "gpu", now.searches, carried->searches);
    count_carry(metrics, KITH_METRIC_ID_GPU_SEARCHES, "cpu", now.declined, carried->declined);
    count_carry(metrics, KITH_METRIC_ID_GPU_UPLOADS, "", now.uploads, carried->uploads);
    count_carry(metrics, KITH_METRIC_ID_GPU_UPLOADS_REFUSED, "", now.refusals, carried->refusals);
    count_carry(metrics, KITH_METRIC_ID_GPU_EVICTIONS, "", now.evictions, carried->evictions);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_GPU_SEGMENTS, ""), now.segments);
    kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_GPU_USABLE, ""),
        kith_cuda_backend_usable(compute->gpu, &unused));
    for (uint32_t i = 0; i < KITH_CUDA_MEMORY_COUNT; i++)
        kith_series_set(kith_metrics_series(metrics, KITH_METRIC_ID_GPU_MEMORY_BYTES, categories[i]),
            (double)now.used_bytes[i]);
    *carried = now;
}
