/* Exact scores on the GPU: the same eight lanes and tree as compute.h, so the same bits.
 *
 * Eight neighbouring threads take one (query, row) pair; thread j is lane j and sums terms j, j + 8, ... in
 * rising order. The tree is three shuffles: +4 makes l0+l4, l1+l5, l2+l6, l3+l7 in the first four threads, +2
 * and +1 the rest. Every operation is an explicitly rounded one (__dmul_rn and so on), which the compiler may
 * not fuse. A warp reads 4 rows, 32 consecutive bytes of each (f32) at a step. Grid: x over a query's rows, in
 * turns if there are more than threads, y over queries. */
#include <cuda_fp16.h>

#include "kernels/cuda/cuda_launch.h"

enum { LANES = 8, BLOCK_THREADS = 256, BLOCK_ROWS = BLOCK_THREADS / LANES, GRID_Y_MAX = 65535 };

static_assert(KITH_QUERIES_MAX <= GRID_Y_MAX, "a grid's y holds every batch");

template <kith_vector_type type> static __device__ double component(const void *row, uint32_t index) {
    if (type == KITH_TYPE_F16) return (double)__half2float(((const __half *)row)[index]);
    if (type == KITH_TYPE_BF16)
        return (double)__uint_as_float((uint32_t)((const uint16_t *)row)[index] << 16);
    if (type == KITH_TYPE_I8) return (double)((const int8_t *)row)[index];
    return (double)((const float *)row)[index];
}

/* The sum over the eight lanes, in the thread of lane 0. */
static __device__ double lanes_sum(double lane) {
    const unsigned all = 0xffffffffu;
    lane = __dadd_rn(lane, __shfl_down_sync(all, lane, 4, LANES));
    lane = __dadd_rn(lane, __shfl_down_sync(all, lane, 2, LANES));
    return __dadd_rn(lane, __shfl_down_sync(all, lane, 1, LANES));
}

static __device__ double cosine(double product, double query_square, double row_square) {
    if (query_square == 0.0 || row_square == 0.0) return 0.0;
    return __ddiv_rn(product, __dmul_rn(__dsqrt_rn(query_square), __dsqrt_rn(row_square)));
}

template <kith_metric metric> static __device__ double term(double q, double x) {
    if (metric == KITH_METRIC_IP || metric == KITH_METRIC_COSINE) return __dmul_rn(q, x);
    double difference = __dsub_rn(q, x);
    return metric == KITH_METRIC_L1 ? fabs(difference) : __dmul_rn(difference, difference);
}

/* The closeness of the row at place `out`, in the thread of lane 0. */
template <kith_metric metric, kith_vector_type type>
static __device__ double row_closeness(
    const kith_cuda_rescore_job &job, uint32_t query_index, size_t out, bool used, uint32_t lane) {
    const float *query = job.d_queries + (size_t)query_index * job.dim;
    const size_t row_bytes = (size_t)job.dim * (type == KITH_TYPE_F32 ? 4 : type == KITH_TYPE_I8 ? 1 : 2);
    double sum = 0, query_square = 0, row_square = 0;
    if (used) {
        const char *row = (const char *)job.d_vectors + job.d_row_numbers[out] * row_bytes;
        for (uint32_t i = lane; i < job.dim; i += LANES) {
            double q = query[i], x = component<type>(row, i);
            sum = __dadd_rn(sum, term<metric>(q, x));
            if (metric == KITH_METRIC_COSINE) {
                query_square = __dadd_rn(query_square, __dmul_rn(q, q));
                row_square = __dadd_rn(row_square, __dmul_rn(x, x));
            }
        }
    }
    double closeness = lanes_sum(sum);
    if (metric == KITH_METRIC_L2 || metric == KITH_METRIC_L1) closeness = -closeness;
    if (metric == KITH_METRIC_COSINE)
        closeness = cosine(closeness, lanes_sum(query_square), lanes_sum(row_square));
    return closeness;
}

template <kith_metric metric, kith_vector_type type>
static __global__ void rescore_kernel(kith_cuda_rescore_job job) {
    const uint32_t query_index = blockIdx.y, lane = threadIdx.x % LANES;
    const uint32_t count = min(job.d_row_counts[query_index], job.rows_per_query_max);
    /* The same number of turns in all threads of a block: they meet in the shuffles, used or not. */
    for (uint32_t begin = blockIdx.x * BLOCK_ROWS; begin < count; begin += gridDim.x * BLOCK_ROWS) {
        const uint32_t at = begin + threadIdx.x / LANES;
        const size_t out = (size_t)query_index * job.rows_per_query_max + at;
        double closeness = row_closeness<metric, type>(job, query_index, out, at < count, lane);
        if (at < count && lane == 0) job.d_closeness_out[out] = closeness;
    }
}

template <kith_metric metric> static void launch_metric(const kith_cuda_rescore_job &job) {
    uint32_t blocks = (job.rows_per_query_max + BLOCK_ROWS - 1) / BLOCK_ROWS;
    if (job.blocks_per_query && job.blocks_per_query < blocks) blocks = job.blocks_per_query;
    dim3 grid(blocks, job.query_count);
    switch (job.type) {
    case KITH_TYPE_F32:
        KITH_LAUNCH((rescore_kernel<metric, KITH_TYPE_F32>), grid, BLOCK_THREADS, 0, job.stream, job);
        break;
    case KITH_TYPE_F16:
        KITH_LAUNCH((rescore_kernel<metric, KITH_TYPE_F16>), grid, BLOCK_THREADS, 0, job.stream, job);
        break;
    case KITH_TYPE_BF16:
        KITH_LAUNCH((rescore_kernel<metric, KITH_TYPE_BF16>), grid, BLOCK_THREADS, 0, job.stream, job);
        break;
    case KITH_TYPE_I8:
        KITH_LAUNCH((rescore_kernel<metric, KITH_TYPE_I8>), grid, BLOCK_THREADS, 0, job.stream, job);
        break;
    }
}

static kith_status job_check(const kith_cuda_rescore_job *job, kith_err *err) {
    if (job->dim == 0 || job->dim > KITH_DIM_MAX) {
        return cuda_fail(err, KITH_INVALID, "dim %u is not in 1..%u", job->dim, KITH_DIM_MAX);
    }
    if (job->query_count > KITH_QUERIES_MAX) {
        return cuda_fail(
            err, KITH_INVALID, "%u queries are more than %u", job->query_count, KITH_QUERIES_MAX);
    }
    if (job->type < KITH_TYPE_F32 || job->type > KITH_TYPE_I8) {
        return cuda_fail(
            err, KITH_INVALID, "vector type %d is not one of f32, f16, bf16, i8", (int)job->type);
    }
    return KITH_OK;
}

kith_status cuda_rescore(const kith_cuda_rescore_job *job, kith_err *err) {
    kith_status status = job_check(job, err);
    if (status != KITH_OK) return status;
    if (job->query_count == 0 || job->rows_per_query_max == 0) return KITH_OK;
    switch (job->metric) {
    case KITH_METRIC_L2:
        launch_metric<KITH_METRIC_L2>(*job);
        break;
    case KITH_METRIC_IP:
        launch_metric<KITH_METRIC_IP>(*job);
        break;
    case KITH_METRIC_COSINE:
        launch_metric<KITH_METRIC_COSINE>(*job);
        break;
    case KITH_METRIC_L1:
        launch_metric<KITH_METRIC_L1>(*job);
        break;
    default:
        return cuda_fail(err, KITH_INVALID, "metric %d is not one of l2, ip, cosine, l1", (int)job->metric);
    }
    return cuda_launch_check(err, "rescore_kernel");
}
