/* The proof that filtering is safe: how far an f32 score can be from the exact one (cpu_bound.c). */
#ifndef KITH_KERNELS_CPU_CPU_BOUND_H
#define KITH_KERNELS_CPU_CPU_BOUND_H

#include "kernels/cpu/cpu.h"

/* The bound of one query for sums of `dim_padded` terms over `lanes` lanes. */
cpu_bound cpu_bound_of(
    kith_metric metric, const float *query, uint32_t dim, uint32_t dim_padded, uint32_t lanes);
/* Fills reach and scale from norms, for as many entries as the tile's rows fill vectors of any ISA. */
void cpu_bound_tile(kith_metric metric, cpu_tile *tile);

#endif
