/* One search of the backend, apart from who may search what. Private to kernels/cuda. */
#ifndef KITH_KERNELS_CUDA_CUDA_BACKEND_INTERNAL_H
#define KITH_KERNELS_CUDA_CUDA_BACKEND_INTERNAL_H

#include "kernels/cuda/cuda_backend.h"

/* What a search holds while it runs. */
typedef struct cuda_backend_turn {
    const kith_cuda_plugin *plugin;
    kith_cuda_device *device;
    const kith_cuda_segment *segment;
    uint32_t worker;
    void *resident;        /* the backend's */
    uint64_t queries_wide; /* given to the CPU */
} cuda_backend_turn;

void kith_cuda_backend_uninstall(kith_cuda_backend *backend);

size_t cuda_backend_scratch_bytes(uint32_t dim, uint32_t query_count, uint32_t k);
KITH_CHECK kith_status cuda_backend_job_check(const kith_top_k_job *job, kith_err *err);
/* Why no device could take the job; NULL: one could. */
const char *cuda_backend_unfit(const kith_top_k_job *job);
/* OK; UNIMPLEMENTED: k or the vectors are too large for this device; INTERNAL: it failed. */
KITH_CHECK kith_status cuda_backend_search(cuda_backend_turn *turn, const kith_top_k_job *job,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err);

#endif
