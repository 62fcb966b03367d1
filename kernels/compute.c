/* Which backends this machine can run, and the check that every top_k starts with. */
#include "kernels/compute.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "host/base/alloc.h"
#include "host/base/limits.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"
#include "kernels/score.h"

/* Best first. */
static const kith_compute_ops *const backends[] = {
#if defined(KITH_CPU_X86)
    &kith_cpu_avx512vnni,
    &kith_cpu_avx512,
    &kith_cpu_avxvnni,
    &kith_cpu_avx2,
#elif defined(KITH_CPU_ARM64)
    &kith_cpu_neondot,
    &kith_cpu_neon,
#endif
    &kith_ref,
};
enum { BACKEND_COUNT = sizeof backends / sizeof backends[0] };

typedef struct backend_list {
    uint32_t count;
    const kith_compute_ops *ops[BACKEND_COUNT];
} backend_list;

static void list_detect(backend_list *list_out) {
    const char *cap = getenv("KITH_CPU_ISA");
    uint32_t best = 0;
    for (uint32_t i = 0; cap && i < BACKEND_COUNT; i++) {
        if (strcmp(cap, backends[i]->name) == 0) best = i;
    }
    list_out->count = 0;
    for (uint32_t i = best; i < BACKEND_COUNT; i++) {
        if (kith_cpu_can_run(backends[i]->name)) list_out->ops[list_out->count++] = backends[i];
    }
}

/* A fact about the process, found once because CPUID is slow in virtual machines. Threads that race find the same;
 * the first to publish its list wins, and it stays. */
static const backend_list *list_get(void) {
    static _Atomic(backend_list *) published;
    /* acquire: pairs with the release below; what the list holds is seen with it. */
    backend_list *list = atomic_load_explicit(&published, memory_order_acquire);
    if (list) return list;
    backend_list *found = kith_alloc(sizeof *found);
    list_detect(found);
    if (atomic_compare_exchange_strong_explicit(
            &published, &list, found, memory_order_acq_rel, memory_order_acquire))
        return found;
    kith_free(found);
    return list;
}

const kith_compute_ops *const *kith_compute_cpu_list(uint32_t *count_out) {
    const backend_list *list = list_get();
    *count_out = list->count;
    return list->ops;
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
