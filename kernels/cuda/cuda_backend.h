/* A GPU as a backend: which segments lie on it, who searches them there, and what happens when it fails.
 *
 * A segment's rows are searched on the device after kith_cuda_backend_upload, until kith_cuda_backend_drop or until an
 * upload of another needed their room. top_k answers for such rows, with codes, under l2, ip and cosine, ties by row
 * number; everything else it declines (UNIMPLEMENTED), and the caller's next backend takes it. Queries for which the
 * bound leaves more rows than the device has room for are answered by the CPU, one by one, and counted as wide scans.
 *
 * Faults. What CUDA refuses for want of memory is NO_MEMORY of the upload. Any other error retires the device until
 * the process ends: the callback is told once, every search declines from then on. So no fault of the device is ever
 * seen in an answer.
 *
 * host/role opens the plugin, creates a backend, installs it, and hands kith_compute_cuda() to whoever takes a
 * kith_compute_ops. host/index and host/shard know only that table: its attach is an upload, its detach a drop.
 *
 * Threads: any; one lock of rank KITH_RANK_CUDA, held for look-ups only. Searches wait for a free worker. Uploads wait
 * for each other.
 * Ownership: the backend borrows the plugin; it keeps no pointer into rows but their address, as a name. */
#ifndef KITH_KERNELS_CUDA_CUDA_BACKEND_H
#define KITH_KERNELS_CUDA_CUDA_BACKEND_H

#include "kernels/cuda_loader.h"

typedef struct kith_cuda_backend kith_cuda_backend;

typedef struct kith_cuda_backend_options {
    kith_cuda *cuda;
    uint32_t device_index;
    uint32_t worker_count;   /* searches at a time; 0: 4 */
    size_t memory_bytes_max; /* of the device; 0: nine tenths of what is free */
    /* Of the device, for each worker: what it is given, what it answers, rows that survive. 0: 32, 32, 192 MiB. */
    size_t worker_queries_bytes, worker_results_bytes, worker_scratch_bytes;
    size_t upload_bytes; /* pinned, twice: what uploads go through; 0: 8 MiB */
    kith_cuda_scan scan;
    /* Told once, by the thread that met the fault, why the device is used no more; may be NULL. */
    void (*retired)(void *ctx, const char *reason);
    void *ctx;
} kith_cuda_backend_options;

typedef struct kith_cuda_backend_counts {
    uint64_t searches;                     /* answered by the device */
    uint64_t queries;                      /* of these searches */
    uint64_t queries_wide;                 /* of these, given to the CPU: too many rows survived */
    uint64_t declined;                     /* searches that another backend has to take */
    uint64_t declined_away;                /* of these, because their rows are not on the device */
    uint64_t uploads, evictions, refusals; /* refusals: uploads for which there was no memory */
    uint64_t faults;
    uint32_t segments;
    size_t used_bytes[KITH_CUDA_MEMORY_COUNT];
    size_t memory_bytes_max;
} kith_cuda_backend_counts;

/* UNAVAILABLE with the reason; NO_MEMORY. */
KITH_CHECK kith_status kith_cuda_backend_create(
    const kith_cuda_backend_options *options, kith_cuda_backend **backend_out, kith_err *err);
/* Accepts NULL. No search may run; it is uninstalled. */
void kith_cuda_backend_destroy(kith_cuda_backend *backend);

/* Makes all rows of rows->vectors resident; OK if they are. Waits. NO_MEMORY: at once if they could not lie there alone,
 * else after evicting everything that is not in use; UNIMPLEMENTED: rows for which there is nothing to be had, or a
 * retired device. */
KITH_CHECK kith_status kith_cuda_backend_upload(
    kith_cuda_backend *backend, const kith_rows *rows, kith_err *err);
/* Forgets the rows at this address; waits for searches of them. */
void kith_cuda_backend_drop(kith_cuda_backend *backend, const void *vectors);

/* As kith_compute_ops.top_k: OK, INVALID, or UNIMPLEMENTED. */
kith_status kith_cuda_backend_top_k(kith_cuda_backend *backend, const kith_top_k_job *job,
    kith_row_hit *hits_out, uint32_t *counts_out, kith_top_k_stats *stats, kith_err *err);

/* False after a fault, with its message. */
bool kith_cuda_backend_usable(kith_cuda_backend *backend, kith_err *err);
void kith_cuda_backend_count(kith_cuda_backend *backend, kith_cuda_backend_counts *counts_out);

/* The backend behind kith_compute_cuda, the only one of the process; NULL: none, everything is declined. */
void kith_cuda_backend_install(kith_cuda_backend *backend);
/* Table "cuda": top_k, attach and detach on the installed backend, all else as the best CPU backend does it. An upload that
 * is refused for want of memory is logged. */
const kith_compute_ops *kith_compute_cuda(void);

#endif
