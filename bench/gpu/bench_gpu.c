#include "bench/gpu/bench_gpu.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/base/alloc.h"
#include "kernels/codes/codes.h"
#include "kernels/cuda/cuda_backend.h"

enum { SAMPLE_ROWS = 8192, ROW_RUN = 64 };

struct bench_gpu {
    kith_cuda *cuda;
    kith_cuda_backend *backend;
    kith_code_training training;
    kith_codes codes;
    kith_rows rows;
    uint8_t *blocks;
    float *norms;
};

static int fail(kith_status status, const char *text, char *error) {
    (void)snprintf(error, KITH_ERR_BYTES_MAX, "%s", text);
    return (int)status;
}

int bench_gpu_open(const char *plugin, uint64_t scratch_bytes, bench_gpu **bench_out, char *error) {
    kith_err err;
    bench_gpu *bench = kith_alloc_zero(sizeof *bench);
    kith_status status = kith_cuda_open(plugin, &bench->cuda, &err);
    if (status == KITH_OK)
        status = kith_cuda_backend_create(
            &(kith_cuda_backend_options){
                .cuda = bench->cuda, .worker_count = 1, .worker_scratch_bytes = scratch_bytes},
            &bench->backend, &err);
    if (status != KITH_OK) {
        bench_gpu_close(bench);
        return fail(status, err.text, error);
    }
    kith_cuda_backend_install(bench->backend);
    *bench_out = bench;
    return 0;
}

static void unload(bench_gpu *bench) {
    if (bench->backend && bench->rows.vectors) kith_cuda_backend_drop(bench->backend, bench->rows.vectors);
    kith_codes_training_free(&bench->training);
    bench->training = (kith_code_training){0};
    kith_free(bench->blocks);
    kith_free(bench->norms);
    bench->blocks = NULL;
    bench->norms = NULL;
}

void bench_gpu_close(bench_gpu *bench) {
    if (!bench) return;
    unload(bench);
    kith_cuda_backend_destroy(bench->backend);
    kith_cuda_close(bench->cuda);
    kith_free(bench);
}

/* Runs of rows from all over the segment, so that order in it does not matter. */
static kith_status train(bench_gpu *bench, kith_err *err) {
    const kith_rows *rows = &bench->rows;
    uint32_t count = rows->row_count < SAMPLE_ROWS ? rows->row_count : SAMPLE_ROWS;
    size_t row_floats = rows->dim;
    float *sample = kith_try_alloc_aligned(count * row_floats * sizeof *sample);
    if (!sample) return kith_err_set(err, KITH_NO_MEMORY, "no memory for a sample of %u rows", count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t run = (uint64_t)(i / ROW_RUN) * ROW_RUN * rows->row_count / count;
        memcpy(sample + i * row_floats, (const float *)rows->vectors + (run + i % ROW_RUN) * row_floats,
            row_floats * sizeof *sample);
    }
    kith_status status = kith_codes_train(kith_compute_cpu(), rows->metric, KITH_TYPE_F32, rows->dim, sample,
        count, rows->row_count, &bench->training, err);
    kith_free(sample);
    if (status == KITH_OK && !bench->training.useful)
        status = kith_err_set(err, KITH_UNIMPLEMENTED, "codes do not pay for these rows");
    return status;
}

int bench_gpu_load(
    bench_gpu *bench, const float *vectors, uint32_t row_count, uint32_t dim, uint32_t metric, char *error) {
    kith_err err;
    unload(bench);
    bench->rows = (kith_rows){.vectors = vectors,
        .row_count = row_count,
        .dim = dim,
        .type = KITH_TYPE_F32,
        .metric = (kith_metric)metric};
    kith_status status = train(bench, &err);
    if (status != KITH_OK) return fail(status, err.text, error);
    bench->blocks = kith_try_alloc_aligned(bench_gpu_code_bytes(bench));
    bench->norms = kith_try_alloc_aligned(row_count * sizeof *bench->norms);
    if (!bench->blocks || !bench->norms) return fail(KITH_NO_MEMORY, "no memory for the codes", error);
    bench->rows.norms = bench->norms;
    bench->codes = (kith_codes){.basis = bench->training.basis, .blocks = bench->blocks};
    bench->rows.codes = &bench->codes;
    return 0;
}

uint32_t bench_gpu_code_dim(const bench_gpu *bench) {
    return bench->training.basis.code_dim;
}

uint64_t bench_gpu_code_bytes(const bench_gpu *bench) {
    return kith_code_block_count(bench->rows.row_count) * kith_code_block_bytes(&bench->training.basis);
}

int bench_gpu_encode(bench_gpu *bench, uint32_t begin, uint32_t end, char *error) {
    const kith_code_basis *basis = &bench->codes.basis;
    const kith_rows *rows = &bench->rows;
    void *scratch = kith_try_alloc_aligned(kith_codes_encode_scratch_bytes(basis) + 64);
    if (!scratch) return fail(KITH_NO_MEMORY, "no memory for encoding", error);
    for (uint32_t number = begin; number < end; number++) {
        const void *vectors[KITH_CODE_BLOCK_ROWS];
        uint32_t first = number * KITH_CODE_BLOCK_ROWS, left = rows->row_count - first;
        uint32_t count = left < KITH_CODE_BLOCK_ROWS ? left : KITH_CODE_BLOCK_ROWS;
        for (uint32_t i = 0; i < count; i++)
            vectors[i] = (const float *)rows->vectors + (size_t)(first + i) * rows->dim;
        kith_compute_cpu()->norms(vectors[0], KITH_TYPE_F32, rows->dim, count, bench->norms + first);
        uint8_t *block = bench->blocks + number * kith_code_block_bytes(basis);
        kith_codes_encode(kith_compute_cpu(), basis, KITH_TYPE_F32, vectors, count, scratch,
            (kith_code_block *)(void *)block);
    }
    kith_free(scratch);
    return 0;
}

int bench_gpu_upload(bench_gpu *bench, char *error) {
    kith_err err;
    kith_status status = kith_cuda_backend_upload(bench->backend, &bench->rows, &err);
    return status == KITH_OK ? 0 : fail(status, err.text, error);
}

int bench_gpu_search(bench_gpu *bench, const float *queries, uint32_t query_count, uint32_t k, int on_device,
    uint32_t *rows_out, double *closeness_out, uint64_t *totals_out, char *error) {
    kith_rows rows = bench->rows;
    if (!on_device) rows.codes = NULL; /* what the device is compared with shares no codes with it */
    const kith_compute_ops *ops = on_device ? kith_compute_cuda() : kith_compute_cpu();
    kith_top_k_job job = {
        .rows = &rows, .row_end = rows.row_count, .queries = queries, .query_count = query_count, .k = k};
    job.scratch_bytes = ops->scratch_bytes(rows.dim, query_count, k);
    job.scratch = kith_try_alloc_aligned(job.scratch_bytes);
    kith_row_hit *hits = kith_try_alloc_aligned((size_t)query_count * k * sizeof *hits);
    uint32_t *counts = kith_try_alloc_aligned(query_count * sizeof *counts);
    kith_top_k_stats stats = {0};
    kith_err err = {.text = "no memory for a search"};
    kith_status status = KITH_NO_MEMORY;
    if (job.scratch && hits && counts) status = ops->top_k(&job, hits, counts, &stats, &err);
    for (uint32_t q = 0; status == KITH_OK && q < query_count; q++) {
        for (uint32_t i = 0; i < k; i++) {
            size_t at = (size_t)q * k + i;
            rows_out[at] = i < counts[q] ? hits[at].row : UINT32_MAX;
            closeness_out[at] = i < counts[q] ? hits[at].closeness : -INFINITY;
        }
    }
    totals_out[0] = stats.code_survivors;
    totals_out[1] = stats.rows_rescored;
    totals_out[2] = stats.wide_scans;
    kith_free(counts);
    kith_free(hits);
    kith_free(job.scratch);
    return status == KITH_OK ? 0 : fail(status, err.text, error);
}
