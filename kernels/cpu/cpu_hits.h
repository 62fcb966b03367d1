/* The k best exact hits of one query: a binary heap, the last-ranked hit first. Private to kernels/cpu. */
#ifndef KITH_KERNELS_CPU_CPU_HITS_H
#define KITH_KERNELS_CPU_CPU_HITS_H

#include "kernels/compute.h"

/* hits [job->k], `*count` of them used. Drops `hit` when k better ones are there. */
void cpu_hits_push(const kith_top_k_job *job, kith_row_hit *hits, uint32_t *count, kith_row_hit hit);
/* The same, but of rows in the same word of 64 only the best stays. */
void cpu_hits_push_word(const kith_top_k_job *job, kith_row_hit *hits, uint32_t *count, kith_row_hit hit);
/* Best first; no longer a heap. */
void cpu_hits_sort(const kith_top_k_job *job, kith_row_hit *hits, uint32_t count);

/* The k-th largest of `values`, 1 <= k <= count; NaN counts as the smallest. */
float cpu_kth_largest(const float *values, uint32_t count, uint32_t k);

#endif
