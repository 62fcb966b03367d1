/* One segment on a GPU, for gpu_bench.py through ctypes. Every function that can fail returns 0 when it is done, else a
 * kith_status with its message in error [512].
 *
 * Threads: encode on any, over blocks of their own; all else on one. Ownership: open makes what close ends; the vectors
 * are borrowed until then. */
#ifndef KITH_BENCH_GPU_BENCH_GPU_H
#define KITH_BENCH_GPU_BENCH_GPU_H

#include <stdint.h>

typedef struct bench_gpu bench_gpu;

/* Loads the plugin and opens its first device, with so much memory for rows that survive a scan. */
int bench_gpu_open(const char *plugin, uint64_t scratch_bytes, bench_gpu **bench_out, char *error);
void bench_gpu_close(bench_gpu *bench);

/* vectors [row_count][dim] f32, metric as kith_metric; trains codes on a sample. */
int bench_gpu_load(
    bench_gpu *bench, const float *vectors, uint32_t row_count, uint32_t dim, uint32_t metric, char *error);
/* Codes and norms of blocks [begin, end) of 32 rows. */
int bench_gpu_encode(bench_gpu *bench, uint32_t begin, uint32_t end, char *error);
int bench_gpu_upload(bench_gpu *bench, char *error);

uint32_t bench_gpu_code_dim(const bench_gpu *bench);
uint64_t bench_gpu_code_bytes(const bench_gpu *bench);

/* queries [query_count][dim]; rows_out and closeness_out [query_count][k], best first. `on_device` 0: the best CPU
 * backend. totals_out [3]: rows that the codes kept, rows rescored, queries that went to a wider scan. */
int bench_gpu_search(bench_gpu *bench, const float *queries, uint32_t query_count, uint32_t k, int on_device,
    uint32_t *rows_out, double *closeness_out, uint64_t *totals_out, char *error);

#endif
