/* The candidates and hits of one query in a scan (cpu_candidates.c). */
#ifndef KITH_KERNELS_CPU_CPU_CANDIDATES_H
#define KITH_KERNELS_CPU_CPU_CANDIDATES_H

#include "kernels/cpu/cpu.h"

/* How many candidates a query of this k can hold. */
uint32_t cpu_candidates_capacity(uint32_t k);
/* Makes room for at least 64 more candidates, and raises the threshold. */
void cpu_candidates_compact(
    const cpu_leaves *leaves, const kith_top_k_job *job, cpu_query *query, kith_top_k_stats *stats);
/* Rescores what is left; hits [0, hit_count) are then the answer, best first. */
void cpu_candidates_finish(
    const cpu_leaves *leaves, const kith_top_k_job *job, cpu_query *query, kith_top_k_stats *stats);

#endif
