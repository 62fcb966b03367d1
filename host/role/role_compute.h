/* Who computes distances on this node: the GPU, where compute_backend allows it and one works, or the CPU.
 *
 * Threads: open and close at start and stop, before the first shard is opened and after the last one is gone; the rest from
 * any thread in between.
 * Ownership: its own device. A table of operations knows one device a process, so of several services in one process only
 * one may use it. */
#ifndef KITH_ROLE_ROLE_COMPUTE_H
#define KITH_ROLE_ROLE_COMPUTE_H

#include "host/config/config.h"
#include "host/metrics/metrics.h"
#include "kernels/cuda/cuda_backend.h"

typedef struct kith_role_compute {
    const kith_compute_ops *ops;
    bool gpu_required; /* compute_backend = cuda */
    kith_cuda *cuda;
    kith_cuda_backend *gpu;           /* NULL: the CPU computes */
    char fault[KITH_ERR_BYTES_MAX];   /* why a required GPU cannot be had; "" */
    kith_cuda_backend_counts carried; /* what the metrics have already */
} kith_role_compute;

/* A GPU for tests, in the place of the one behind libkith_cuda.so. */
typedef struct kith_role_gpu {
    const kith_cuda_plugin *plugin;
    kith_cuda_backend_options options; /* how much of it to take; the rest is filled in */
} kith_role_gpu;

/* Logs what was chosen, and why. Whatever is wrong with a GPU, there is a CPU. `gpu`: NULL but in tests. */
void kith_role_compute_open(
    kith_role_compute *compute_out, kith_config_compute_backend wanted, const kith_role_gpu *gpu);
/* Also of a zeroed one. */
void kith_role_compute_close(kith_role_compute *compute);
/* UNAVAILABLE, with the reason, where a GPU is required and there is none, or it has failed. */
kith_status kith_role_compute_health(const kith_role_compute *compute, kith_err *err);
/* Carries the device's counts over; one thread at a time. */
void kith_role_compute_measure(kith_role_compute *compute, kith_metrics *metrics);

#endif
