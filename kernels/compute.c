/* Which backends this machine can run, and the check that every top_k starts with. */
#include "kernels/compute.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/limits.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "kernels/score.h"

/* Best first. A machine that runs one also runs those after it, so every answer is a tail of this list. */
static const kith_compute_ops *const backends[] = {
#ifdef KITH_CPU_X86
    &kith_cpu_avx512,
    &kith_cpu_avx2,
#endif
    &kith_ref,
};
enum { BACKEND_COUNT = sizeof backends / sizeof backends[0] };

static uint32_t best_detect(void) {
    const char *cap = getenv("KITH_CPU_ISA");
    uint32_t best = 0;
    for (uint32_t i = 0; cap && i < BACKEND_COUNT; i++) {
        if (strcmp(cap, backends[i]->name) == 0) best = i;
    }
    while (best + 1 < BACKEND_COUNT && !kith_cpu_can_run(backends[best]->name))
        best++;
    return best;
}

const kith_compute_ops *const *kith_compute_cpu_list(uint32_t *count_out) {
    /* A fact about the process, found once because CPUID is slow in virtual machines. Threads that race find
     * the same number, and nothing else is published with it: relaxed suffices. */
    static atomic_uint best_plus_one;
    uint32_t best = atomic_load_explicit(&best_plus_one, memory_order_relaxed);
    if (best == 0) {
        best = best_detect() + 1;
        atomic_store_explicit(&best_plus_one, best, memory_order_relaxed);
    }
    *count_out = BACKEND_COUNT - (best - 1);
    return &backends[best - 1];
}

const kith_compute_ops *kith_compute_cpu(void) {
    uint32_t count;
    return kith_compute_cpu_list(&count)[0];
}

const kith_compute_ops *kith_compute_ref(void) {
    return &kith_ref;
}

kith_status kith_score_job_check(const kith_top_k_job *job, size_t scratch_bytes_least, kith_err *err) {
    const kith_rows *rows = job->rows;
    if (rows->dim == 0 || rows->dim > KITH_DIM_MAX) {
        return kith_err_set(err, KITH_INVALID, "dim %u is not in 1..%u", rows->dim, KITH_DIM_MAX);
    }
    if (job->k == 0 || job->k > KITH_K_MAX) {
        return kith_err_set(err, KITH_INVALID, "k %u is not in 1..%u", job->k, KITH_K_MAX);
    }
    if (job->row_begin > job->row_end || job->row_end > rows->row_count) {
        return kith_err_set(err, KITH_INVALID, "rows %u to %u are not within 0 to %u", job->row_begin,
            job->row_end, rows->row_count);
    }
    if (job->scratch_bytes < scratch_bytes_least) {
        return kith_err_set(err, KITH_INVALID, "scratch has %zu bytes, this job needs %zu",
            job->scratch_bytes, scratch_bytes_least);
    }
    return KITH_OK;
}
