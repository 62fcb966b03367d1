#include "bench/gpu/bench_gpu_lt.h"

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

enum { THREADS = 256, PLANES = 2, ERROR_BYTES = 512 };

/* The calls of cuBLASLt, from a library that is loaded on demand: it costs 219 MB of memory. */
typedef struct lt_calls {
    void *library;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatmul) matmul;
    decltype(&cublasLtMatmulDescCreate) desc_create;
    decltype(&cublasLtMatmulDescDestroy) desc_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) desc_set;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
} lt_calls;

struct bench_gpu_lt {
    lt_calls calls;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t multiply;
    cublasLtMatrixLayout_t code_layout, query_layout, sum_layout;
    int8_t *d_codes, *d_queries; /* [tile_rows][dim], [planes][queries][dim] */
    int32_t *d_sums;             /* [planes * queries][tile_rows] */
    uint32_t *d_counts, *d_rows; /* [queries], [queries][tile_rows] */
    cudaEvent_t begin, end;
    uint32_t tile_rows, tile_count, query_count;
};

static int fail(char *error, const char *what, const char *why) {
    (void)snprintf(error, ERROR_BYTES, "cublasLt: %s: %s", what, why);
    return 1;
}

static bool good(cudaError_t status, const char *what, char *error) {
    if (status != cudaSuccess) fail(error, what, cudaGetErrorString(status));
    return status == cudaSuccess;
}

static bool good(cublasStatus_t status, const char *what, char *error) {
    char why[32];
    (void)snprintf(why, sizeof why, "status %d", (int)status);
    if (status != CUBLAS_STATUS_SUCCESS) fail(error, what, why);
    return status == CUBLAS_STATUS_SUCCESS;
}

template <typename call> static bool call_find(void *library, const char *name, call *call_out, char *error) {
    *call_out = (call)dlsym(library, name);
    if (!*call_out) fail(error, name, "the library does not have it");
    return *call_out != NULL;
}

static bool calls_find(lt_calls *calls, char *error) {
    char name[32];
    (void)snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    calls->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!calls->library) return !fail(error, "not loaded", dlerror());
    return call_find(calls->library, "cublasLtCreate", &calls->create, error) &&
           call_find(calls->library, "cublasLtDestroy", &calls->destroy, error) &&
           call_find(calls->library, "cublasLtMatmul", &calls->matmul, error) &&
           call_find(calls->library, "cublasLtMatmulDescCreate", &calls->desc_create, error) &&
           call_find(calls->library, "cublasLtMatmulDescDestroy", &calls->desc_destroy, error) &&
           call_find(calls->library, "cublasLtMatmulDescSetAttribute", &calls->desc_set, error) &&
           call_find(calls->library, "cublasLtMatrixLayoutCreate", &calls->layout_create, error) &&
           call_find(calls->library, "cublasLtMatrixLayoutDestroy", &calls->layout_destroy, error);
}

/* Sums are column-major [tile_rows][planes * queries]: codes^T times queries, each column-major with dim leading ("TN"). */
static bool shapes_make(bench_gpu_lt *lt, uint32_t dim, char *error) {
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint32_t columns = PLANES * lt->query_count;
    return good(lt->calls.create(&lt->handle), "a handle", error) &&
           good(lt->calls.desc_create(&lt->multiply, CUBLAS_COMPUTE_32I, CUDA_R_32I), "a product", error) &&
           good(lt->calls.desc_set(lt->multiply, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
               "a product", error) &&
           good(lt->calls.layout_create(&lt->code_layout, CUDA_R_8I, dim, lt->tile_rows, dim), "a layout",
               error) &&
           good(
               lt->calls.layout_create(&lt->query_layout, CUDA_R_8I, dim, columns, dim), "a layout", error) &&
           good(lt->calls.layout_create(&lt->sum_layout, CUDA_R_32I, lt->tile_rows, columns, lt->tile_rows),
               "a layout", error);
}

static bool memory_make(bench_gpu_lt *lt, uint32_t dim, char *error) {
    const size_t rows = lt->tile_rows, columns = (size_t)PLANES * lt->query_count;
    return good(cudaMalloc(&lt->d_codes, rows * dim), "memory for codes", error) &&
           good(cudaMalloc(&lt->d_queries, columns * dim), "memory for queries", error) &&
           good(cudaMalloc(&lt->d_sums, rows * columns * sizeof(int32_t)), "memory for sums", error) &&
           good(cudaMalloc(&lt->d_counts, lt->query_count * sizeof(uint32_t)), "memory for counts", error) &&
           good(cudaMalloc(&lt->d_rows, rows * lt->query_count * sizeof(uint32_t)), "memory for rows",
               error) &&
           good(cudaMemset(lt->d_codes, 1, rows * dim), "codes", error) &&
           good(cudaMemset(lt->d_queries, 1, columns * dim), "queries", error) &&
           good(cudaEventCreate(&lt->begin), "an event", error) &&
           good(cudaEventCreate(&lt->end), "an event", error);
}

int bench_gpu_lt_open(
    uint64_t row_count, uint32_t dim, uint32_t query_count, bench_gpu_lt **lt_out, char *error) {
    const uint32_t tile_rows_most = 1u << 16, step = 16;
    bench_gpu_lt *lt = new bench_gpu_lt();
    lt->tile_count = (uint32_t)((row_count + tile_rows_most - 1) / tile_rows_most);
    /* As many rows in each, so that hardly more are multiplied than there are. */
    lt->tile_rows = (uint32_t)((row_count + lt->tile_count - 1) / lt->tile_count + step - 1) / step * step;
    lt->query_count = (query_count + step - 1) / step * step;
    if (calls_find(&lt->calls, error) && shapes_make(lt, dim, error) && memory_make(lt, dim, error)) {
        *lt_out = lt;
        return 0;
    }
    bench_gpu_lt_close(lt);
    return 1;
}

void bench_gpu_lt_close(bench_gpu_lt *lt) {
    if (!lt) return;
    (void)cudaFree(lt->d_codes);
    (void)cudaFree(lt->d_queries);
    (void)cudaFree(lt->d_sums);
    (void)cudaFree(lt->d_counts);
    (void)cudaFree(lt->d_rows);
    if (lt->begin) (void)cudaEventDestroy(lt->begin);
    if (lt->end) (void)cudaEventDestroy(lt->end);
    if (lt->code_layout) (void)lt->calls.layout_destroy(lt->code_layout);
    if (lt->query_layout) (void)lt->calls.layout_destroy(lt->query_layout);
    if (lt->sum_layout) (void)lt->calls.layout_destroy(lt->sum_layout);
    if (lt->multiply) (void)lt->calls.desc_destroy(lt->multiply);
    if (lt->handle) (void)lt->calls.destroy(lt->handle);
    if (lt->calls.library) (void)dlclose(lt->calls.library);
    delete lt;
}

/* What a filter must do at least with the sums: combine a query's planes, compare, append. A thread a row, y over
 * queries. Nothing is kept, as hardly anything is. */
static __global__ void filter_kernel(
    const int32_t *sums, uint32_t rows, uint32_t queries, float threshold, uint32_t *counts, uint32_t *kept) {
    const uint32_t row = blockIdx.x * THREADS + threadIdx.x, query = blockIdx.y;
    if (row >= rows) return;
    int sum = 128 * sums[(size_t)query * rows + row] + sums[(size_t)(queries + query) * rows + row];
    if ((float)sum < threshold) return;
    uint32_t place = atomicAdd(&counts[query], 1u);
    if (place < rows) kept[(size_t)query * rows + place] = row;
}

static bool tile_run(bench_gpu_lt *lt, char *error) {
    const int32_t one = 1, zero = 0;
    if (!good(lt->calls.matmul(lt->handle, lt->multiply, &one, lt->d_codes, lt->code_layout, lt->d_queries,
                  lt->query_layout, &zero, lt->d_sums, lt->sum_layout, lt->d_sums, lt->sum_layout, NULL, NULL,
                  0, 0),
            "a product", error))
        return false;
    dim3 grid((lt->tile_rows + THREADS - 1) / THREADS, lt->query_count);
    filter_kernel<<<grid, THREADS>>>(
        lt->d_sums, lt->tile_rows, lt->query_count, INFINITY, lt->d_counts, lt->d_rows);
    return good(cudaGetLastError(), "the filter", error);
}

int bench_gpu_lt_run(bench_gpu_lt *lt, double *seconds_out, char *error) {
    if (!good(cudaEventRecord(lt->begin), "a run", error)) return 1;
    if (!good(cudaMemsetAsync(lt->d_counts, 0, lt->query_count * sizeof(uint32_t)), "counts", error))
        return 1;
    for (uint32_t tile = 0; tile < lt->tile_count; tile++) {
        if (!tile_run(lt, error)) return 1;
    }
    float milliseconds;
    if (!good(cudaEventRecord(lt->end), "a run", error) ||
        !good(cudaEventSynchronize(lt->end), "a run", error) ||
        !good(cudaEventElapsedTime(&milliseconds, lt->begin, lt->end), "a run", error))
        return 1;
    *seconds_out = milliseconds / 1e3;
    return 0;
}
