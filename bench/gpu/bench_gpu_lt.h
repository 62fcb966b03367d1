/* What kith's own scan is compared with: the products of 8-bit codes by cuBLASLt, and a filter over the matrix of sums that
 * it writes. Only time is measured: codes are made up, all rows of a segment are tiles of the same codes. Functions return
 * 0 when they are done, else a sentence is in error [512]. For gpu_bench.py through ctypes; one thread. */
#ifndef KITH_BENCH_GPU_BENCH_GPU_LT_H
#define KITH_BENCH_GPU_BENCH_GPU_LT_H

#include <stdint.h>

#pragma GCC visibility push(default)
extern "C" {
typedef struct bench_gpu_lt bench_gpu_lt;

/* dim a multiple of 16. Loads libcublasLt and takes the memory. */
int bench_gpu_lt_open(
    uint64_t row_count, uint32_t dim, uint32_t query_count, bench_gpu_lt **lt_out, char *error);
/* One batch: its seconds on the device. */
int bench_gpu_lt_run(bench_gpu_lt *lt, double *seconds_out, char *error);
void bench_gpu_lt_close(bench_gpu_lt *lt);
}
#pragma GCC visibility pop

#endif
